/*
 * ovaread.h - reading the indexes of archives, and operations that wait for one.
 *
 * An operation that needs an index which is not known is remembered and begun anew when it is:
 * no thread sleeps.  Reading takes 512 bytes at each header, through the same path as every read
 * of the image: verified, fetched where they are missing, parked meanwhile.  All that wait for an
 * archive share one reader.  It takes as long as one read may take (block_timeout or read_timeout);
 * each operation ends exactly once: begun anew, failed as a read would be, interrupted (EINTR).
 *
 * A lookup that waits is one in `ova', never in the directory above, because the kernel holds a
 * lock of the directory meanwhile, which it needs itself to take names back (notify.h); in `ova'
 * none ever is.  Others who look the same name up wait in the kernel until the first one ends.
 */
#ifndef VMI_OVAREAD_H
#define VMI_OVAREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fs_context;
struct fuse_req;
struct ovareads;
struct place;

/* An operation: what its request was called with. */
struct operation {
	struct fuse_req *req;
	void (*run)(const struct operation *op);
	uint64_t node;
	uint64_t fh;			/* of an open member */
	const char *name;		/* may be NULL */
	size_t size;
	off_t off;
	int flags;			/* of the file; what lseek looks for */
};

struct ovareads *ovareads_new(struct fs_context *fs);
void ovareads_free(struct ovareads *o);	/* after blobs_free(); NULL is fine */

/* op->run() is called when the index that the place needs is known, or the request is answered. */
void ovareads_wait(struct ovareads *o, const struct place *p, const struct operation *op);

#endif
