/*
 * stored.h - block files of what lies in the store.
 */
#ifndef VMI_STORED_H
#define VMI_STORED_H

#include <stdint.h>
#include "blockfile.h"
#include "digest.h"
#include "err.h"
#include "store.h"

/*
 * A verified object with its tree; any thread.  -ENODATA with CODE_CORRUPT: the file is there but
 * its tree is missing, torn, of another image, or does not lead to the given digest: it has to be
 * made anew from the whole file (stored_rebuild()).  tree NULL: none is known, always -ENODATA
 * when the file is there.  Other errors as store_object_open().
 */
int stored_open(struct store *s, const struct digest *d, int64_t size, const struct digest *tree,
		struct blockfile **out, struct err *err);

/*
 * The same without asking the disk: -EAGAIN unless all of it is in memory and as it should be.
 */
int stored_open_cached(struct store *s, const struct digest *d, int64_t size,
		       const struct digest *tree, struct blockfile **out);

/*
 * Hashes the whole object; if size and SHA-512 are right, keeps its tree in the store and gives a
 * block file and, in *tree, the digest (root, if not NULL, is the signed one, which it must be:
 * CODE_BLOCK_DIGEST).  -EBADMSG with CODE_CORRUPT: the bytes are not the image's.  progress as
 * struct audit's.  Blocks for as long as that takes.
 */
int stored_rebuild(struct store *s, const struct digest *d, int64_t size, const struct digest *root,
		   int (*progress)(void *arg, int64_t done), void *arg, struct digest *tree,
		   struct blockfile **out, struct err *err);

/*
 * Owner.  The partial file of an image in block mode with tree and map: made if need be from a tree
 * that was verified already (tree not NULL: also kept in the store), or found with its tree from
 * an earlier run (tree NULL; -ENOENT: there is no good one).
 */
int stored_partial(struct store *s, const struct vtree_id *id, struct vtree *tree,
		   struct blockfile **out, struct err *err);

/*
 * Which granules of that file (fd) are here, one bit each: by its map, or, if there is none that
 * fits, by its extents.  Replaces what is in out.
 */
void stored_map(struct store *s, const struct digest *d, const struct verity_shape *shape, int fd,
		struct buf *out);

#endif
