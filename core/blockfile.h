/*
 * blockfile.h - an image's file together with the tree that proves it.  No byte leaves it unproven.
 *
 * States of a granule (256 KiB, verity.h):
 *
 *   MISSING    not here, or found bad
 *   LANDED     in a buffer of ours, hashed, being written
 *   VERIFIED   on the disk; hashed again, and compared, each time it is read
 *
 * A complete file has every granule VERIFIED; a partial one is filled by blockfile_land(), in any
 * order.  Which granules are here is kept in a map in memory; on disk the map is only a hint
 * (<sha512>.map beside the partial file), because every read hashes: a map that lies costs a
 * fetch, never a wrong byte.  So it needs no ordering with the data.
 *
 * Counted, shared by threads; no function waits for the network.
 */
#ifndef VMI_BLOCKFILE_H
#define VMI_BLOCKFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "digest.h"
#include "err.h"
#include "vtree.h"

struct audit;
struct blockfile;

/*
 * fd: takes; read-only for a complete file, read and write for a partial one.  tree: takes the
 * reference.  map: of n_map bytes as blockfile_map() gave it (borrowed), NULL: nothing is here.
 */
struct blockfile *blockfile_complete(int fd, struct vtree *tree);
struct blockfile *blockfile_partial(int fd, struct vtree *tree, const void *map, size_t n_map);
struct blockfile *blockfile_ref(struct blockfile *f);
void blockfile_unref(struct blockfile *f);	/* NULL is fine */
/*
 * Lets go of the reference unless it is the last one (false): then the files will be closed, which
 * waits for the disk when their names are gone.
 */
bool blockfile_unref_shared(struct blockfile *f);

struct vtree *blockfile_tree(struct blockfile *f);		/* borrowed */
const struct digest *blockfile_digest(const struct blockfile *f);	/* SHA-512 of the image */
int64_t blockfile_size(const struct blockfile *f);
int blockfile_fd(const struct blockfile *f);			/* borrowed; of a file being read */

/* A thread's buffer for reads; zero-initialised, grows, released at the end. */
struct readbuf {
	void *memory;
	size_t size;
};
void readbuf_release(struct readbuf *b);

/*
 * Reads and verifies size bytes at off, all within the file.  *data points into buf, to the bytes
 * that were hashed.  Otherwise:
 *
 *   -EAGAIN    a partial file: granule *g, the first such one, is MISSING: not here, or found bad
 *   -EBADMSG   a complete file: granule *g is on the disk but wrong, also at the second try
 *   -EIO       likewise it cannot be read
 *   -ENODATA   the tree's own file (of a large image) is damaged: stored_rebuild()
 *   -ENOMEM
 *
 * Every read of a complete file asks the disk anew, whatever was said before, so that what was
 * healed through another block file is seen.
 */
int blockfile_read(struct blockfile *f, struct readbuf *buf, int64_t off, size_t size,
		   const void **data, int64_t *g);

/*
 * The same without asking the disk, which may not answer: from memory or not at all.
 * BLOCKFILE_ASK_DISK: by blockfile_read() alone.  *ahead: the reader goes through the file, so that
 * blockfile_read_ahead(), which may wait for the disk, is of use for what follows.
 */
enum { BLOCKFILE_ASK_DISK = 1 };
int blockfile_read_cached(struct blockfile *f, struct readbuf *buf, int64_t off, size_t size,
			  const void **data, int64_t *g, bool *ahead);
void blockfile_read_ahead(struct blockfile *f, int64_t off);

/*
 * A whole granule from elsewhere: hashed, written, VERIFIED.  -EBADMSG with CODE_BLOCK_DIGEST: it
 * is not what was signed; nothing changed.  -ENOSPC with CODE_FULL, -ENODATA, other I/O errors.
 * Into a complete file (healing) only after blockfile_set_writable(); then it is also made durable
 * (fdatasync); -EROFS before.  When two threads land the same granule, one waits for the other.
 */
int blockfile_land(struct blockfile *f, int64_t g, const void *data, size_t len, struct err *err);

/*
 * A second descriptor on a complete file, for healing; takes fd; the first one given is kept.
 * One on another file (an object that was replaced meanwhile) is closed: ask
 * blockfile_is_writable().
 */
void blockfile_set_writable(struct blockfile *f, int fd);
bool blockfile_is_writable(struct blockfile *f);

/*
 * What is on the disk for a granule, as it is: for keeping bad bytes.  Its length or a
 * negative value.
 */
ssize_t blockfile_raw(struct blockfile *f, int64_t g, void *data, size_t room);

/*
 * After a pass over the whole file: each granule that differs is MISSING (in a complete file:
 * counted as bad) from now on; how many do.  0: the pass led to the tree's digest.  So a partial
 * file whose map lied goes on being filled, and only one that has the signed tree and another
 * SHA-512 accuses the publisher.
 */
int64_t blockfile_judge(struct blockfile *f, const struct audit *pass);

/* VERIFIED and not known to be bad. */
bool blockfile_has(struct blockfile *f, int64_t g);
/*
 * The first MISSING granule at or after from, -1: none; *n: how many follow each other from
 * there.
 */
int64_t blockfile_missing(struct blockfile *f, int64_t from, int64_t *n);
int64_t blockfile_n_missing(struct blockfile *f);
/* Granules of a complete file that were found bad, and neither landed nor found good again. */
int64_t blockfile_n_bad(struct blockfile *f);
bool blockfile_is_complete(struct blockfile *f);
void blockfile_set_complete(struct blockfile *f);	/* committed: it is the object now */

/* Appends the map, one bit a granule; has it changed since the last call?  Caller releases out. */
bool blockfile_map(struct blockfile *f, struct buf *out);

#endif
