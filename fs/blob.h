/*
 * blob.h - reading image files: answer from the store, or park until the engine has the bytes.
 *
 * A blob exists per object that is open or waited for; its number is the object's row id, which
 * is also fi->fh, so that another worker process can take over the open files.
 *
 *   ABSENT    no verified bytes: reads are parked; the engine was asked
 *   READY     a block file: reads are answered from it, from memory at once, otherwise in a place
 *             of the disk's (disk.h); a read of a granule that is not here yet, or is bad and being
 *             healed, is parked until that granule has landed
 *   CUT       distrusted: reads fail with ESTALE
 *
 * Every parked read ends exactly once: answered, failed, interrupted (EINTR), past its deadline
 * (ETIMEDOUT), or at the end of the mount (ENOTCONN).  No thread sleeps for a parked read.  One
 * that the disk has not answered within block_timeout ends so, too: the thread that asked is not
 * waited for.
 */
#ifndef VMI_BLOB_H
#define VMI_BLOB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/digest.h"
#include "core/err.h"

struct blobs;
struct blockfile;
struct disk;
struct engine;
struct fuse_req;
struct handles;
struct object_row;
struct store;

/* How long a read waits for a whole image, and how long for blocks alone; seconds. */
struct blobs *blobs_new(struct store *store, struct disk *disk, int64_t read_timeout,
			int64_t block_timeout);
void blobs_set_engine(struct blobs *b, struct engine *engine);
/* Where open files are written down for the next worker; borrowed. */
void blobs_set_handles(struct blobs *b, struct handles *handles);
void blobs_set_timeouts(struct blobs *b, int64_t read_timeout, int64_t block_timeout);
/* The mount ends: answers everything that is parked with ENOTCONN; later reads too. */
void blobs_end(struct blobs *b);
/* After the FUSE threads have ended, and before disk_free() does what is left. */
void blobs_free(struct blobs *b);

/*
 * One more / one less open file of the object.  The row says whether the store has it, the digest
 * of its tree, and whether it can be had block by block.  0 or a negative errno value.
 * BLOB_ASK_DISK: its files are to be opened first, which only a caller at the disk may do
 * (at_disk).
 */
enum { BLOB_ASK_DISK = 1 };
int blob_open(struct blobs *b, const struct object_row *row, bool at_disk);
void blob_close(struct blobs *b, uint64_t object);
/* Files that the worker before us has left open. */
void blob_restore(struct blobs *b, uint64_t object, const struct digest *d, int64_t size,
		  unsigned opens);

/*
 * Replies to the request, now or later, exactly once.  flags: of the open file.  Without O_DIRECT
 * what is asked for again within a second after it was given up, as the kernel does with each page
 * of a read-ahead, waits no second time.
 */
void blob_read(struct blobs *b, struct fuse_req *req, uint64_t object, size_t size, off_t off,
	       int flags);

/*
 * A read of our own: done() is called once, before the return or later, by any thread, with 0 and
 * the bytes (for the call; fewer at the end of the image), or with an errno value.  It waits like
 * any other read, but its time counts from since (monotonic ms), so that several one after the
 * other wait no longer than one.
 */
typedef void blob_done(void *arg, int errnum, const void *data, size_t size);
void blob_fetch(struct blobs *b, uint64_t object, size_t size, off_t off, long long since,
		blob_done *done, void *arg);

/*
 * SEEK_DATA or SEEK_HOLE of an open object: the new offset or a negative errno value.  It has no
 * holes.
 */
off_t blob_seek(struct blobs *b, uint64_t object, off_t off, int whence);

/* A reference to what an open object is read from; NULL while there is nothing. */
struct blockfile *blob_file(struct blobs *b, uint64_t object);
/* Lets go of it, without waiting for the disk; NULL is fine. */
void blob_let_go(struct blobs *b, struct blockfile *file);

/* Its digest; false if it is not open. */
bool blob_digest(struct blobs *b, uint64_t object, struct digest *out);

/* The engine's answer: completes, or goes on with, or fails all parked reads of the digest. */
void blob_answered(struct blobs *b, const struct digest *d, int rc, struct blockfile *f);

/* Granules that parked reads may wait for have come, or cannot be had.  Any thread. */
void blob_landed(struct blobs *b, struct blockfile *f, int64_t off, const void *data, size_t size);
void blob_failed(struct blobs *b, const struct digest *d, int64_t first, int64_t n, int rc);

/* The bytes that open files had are not to be used: their reads wait for the engine again. */
void blob_lost(struct blobs *b, const struct digest *d);

/*
 * Whether the object can be had block by block may have changed.  What waits for an image that
 * now comes as a stream has read_timeout, from when it began to wait.
 */
void blob_mode(struct blobs *b, const struct object_row *row);
bool blob_row_is_lazy(const struct object_row *row);

/* Distrusted from now on / trusted again. */
void blob_cut(struct blobs *b, const struct digest *d, bool cut);

bool blob_is_open(struct blobs *b, const struct digest *d);

/* For `status`: reads that wait for bytes to come, reads that wait for the disk, open files. */
int64_t blobs_parked(struct blobs *b);
int64_t blobs_at_disk(struct blobs *b);
int64_t blobs_open(struct blobs *b);

#endif
