/*
 * vtree.h - the verified Merkle tree of one image: what proves its granules.
 *
 * Kept beside the object as <sha512>.fsv (beside a partial one while it is being filled):
 *
 *	offset  bytes
 *	0       16	"vmimagefs tree 1"
 *	16      64	SHA-512 of the image
 *	80      8	size of the image, little-endian
 *	88      64	fs-verity digest
 *	152     64	SHA-512 of the 152 bytes before: a torn header is no header
 *	216     3880	zeros
 *	4096    ...	the sidecar's prefix (verity.h): the root's level first, without level 0
 *
 * The header ties the tree to the image it was made for, so that two files that changed places are
 * found out; the digest ties the levels to what was signed, or to what was derived in the pass in
 * which the whole file matched its SHA-512.  Nothing of the file is believed before it has led
 * up to the digest that the caller names.
 *
 * An image of one granule has no prefix: what the granule hashes to is the root, from which the
 * fs-verity digest follows.
 *
 * A tree is counted and shared by threads.  Level-0 blocks are not in the file: they are made from
 * the granule that is read, and the verified ones are kept in one cache for all trees
 * (VTREE_CACHE_BYTES, least recently used goes), so that a 4 KiB read hashes 4 KiB.
 */
#ifndef VMI_VTREE_H
#define VMI_VTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "digest.h"
#include "err.h"
#include "verity.h"

enum { VTREE_HEADER = 4096, VTREE_CACHE_BYTES = 16 << 20, VTREE_MEMORY_BYTES = 64 << 20 };

struct vtree;

struct vtree_id {
	struct digest image;		/* SHA-512 of the whole image */
	int64_t size;
	struct digest verity;		/* fs-verity digest that the tree must lead to */
};

/*
 * From a prefix in memory (fetched, or from a verity_builder); copied.  -EBADMSG with
 * CODE_BLOCK_DIGEST: it does not lead to id->verity, or has another length than the shape says.
 */
int vtree_new(struct vtree **out, const struct vtree_id *id, const void *prefix, size_t len,
	      struct err *err);

/*
 * From a .fsv file; takes fd in every case.  id->verity must be known.  -EBADMSG with CODE_CORRUPT:
 * it is torn, of another image, or does not lead to the digest.  A prefix of up to
 * VTREE_MEMORY_BYTES is read and verified at once, a larger one block by block when it is used.
 */
int vtree_open(struct vtree **out, const struct vtree_id *id, int fd, struct err *err);

/*
 * The same without asking the disk: -EAGAIN if it is not all in memory, or anything is amiss.  A
 * large one is never.
 */
int vtree_open_cached(struct vtree **out, const struct vtree_id *id, int fd);

/* The whole .fsv file for this tree, header and prefix, into an empty file. */
int vtree_write(const struct vtree *t, int fd, struct err *err);

struct vtree *vtree_ref(struct vtree *t);
void vtree_unref(struct vtree *t);	/* NULL is fine */

const struct vtree_id *vtree_id(const struct vtree *t);
/* Nothing that is asked of it leads to the disk. */
bool vtree_is_in_memory(const struct vtree *t);
const struct verity_shape *vtree_shape(const struct vtree *t);

/*
 * The digest that granule g must have.  -ENODATA: the image has no other granule, so that no prefix
 * names it (its check below still is one).  -EBADMSG, -EIO: the file behind a large tree is
 * damaged.
 */
int vtree_granule(struct vtree *t, int64_t g, struct digest *out);

/*
 * Is this a whole granule?  0, or -EBADMSG.  A right one's level-0 block goes into the cache.
 * -EUCLEAN, here and below: nobody can tell, the file behind a large tree is damaged.
 */
int vtree_check_granule(struct vtree *t, int64_t g, const void *data, size_t len);

/*
 * Are these whole leaves of granule g (the last one of the file may be short)?  first is the
 * number of the first within the granule.  1: yes; -EBADMSG: no; 0: its level-0 block is not in
 * the cache, the whole granule has to be checked.
 */
int vtree_check_leaves(struct vtree *t, int64_t g, size_t first, const void *data, size_t len);

/*
 * A level-0 block that was fetched from a sidecar: 0 and it is in the cache, or -EBADMSG.
 * vtree_level0() copies it out: false if it is not (any more) in the cache.
 */
int vtree_put_level0(struct vtree *t, int64_t g, const unsigned char block[VERITY_BLOCK]);
bool vtree_level0(struct vtree *t, int64_t g, unsigned char block[VERITY_BLOCK]);

#endif
