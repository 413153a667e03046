/*
 * verity.h - the fs-verity Merkle tree of a file: shape, hashes, digest.  Pure: no I/O.
 *
 * fs-verity (Linux Documentation/filesystems/fsverity.rst) version 1 with SHA-512, blocks of
 * 4096 bytes and no salt; what `fsverity digest --hash-alg=sha512 --block-size=4096` prints.
 *
 *	leaf      4096 bytes of the file, the last one padded with zeros; level 0 has its digest
 *	level k   blocks of 64 digests, padded with zeros to 4096 bytes; level k+1 has their digests
 *	root      digest of the only block of the last level; of the only leaf in a file of one;
 *	          64 zero bytes for an empty file
 *	digest    SHA-512 of a 256-byte descriptor that holds the size and the root
 *
 * The tree has no prefix that tells leaves from inner blocks as in RFC 6962.  It needs none: depth
 * and shape follow from the size, and the size is in the descriptor, so that a tree block cannot
 * pass for a leaf of another shape.
 *
 * A granule is what one block of level 0 covers: 64 leaves, 256 KiB.  Its digest is that of its
 * level-0 block, which is an entry of level 1 (or the root).  In a file of one leaf it is the
 * leaf's.
 *
 * The sidecar file (x.img.fsv) holds the levels, the root's first, level 0 last.  Its prefix is all
 * but level 0: 1/4096 of the image, enough to verify any granule.
 */
#ifndef VMI_VERITY_H
#define VMI_VERITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "digest.h"

enum {
	VERITY_BLOCK = 4096,
	VERITY_ARITY = VERITY_BLOCK / DIGEST_BYTES,
	VERITY_GRANULE = VERITY_BLOCK * VERITY_ARITY,
	VERITY_LEVELS = 6,		/* 64^6 leaves are more than LIMIT_IMAGE_BYTES */
};

struct verity_shape {
	int64_t size;			/* of the file */
	int64_t n_leaves, n_granules;
	int n_levels;			/* 0 up to one leaf */
	int64_t n_blocks[VERITY_LEVELS];	/* of each level; level 0 has the leaves' digests */
	int64_t offset[VERITY_LEVELS];	/* of each level in the sidecar, in bytes */
	int64_t total;			/* bytes of the sidecar */
	int64_t prefix;			/* bytes of it before level 0 */
};

/* false: negative or over LIMIT_IMAGE_BYTES. */
bool verity_shape_init(struct verity_shape *s, int64_t size);

/* Bytes of granule g: VERITY_GRANULE, fewer in the last one. */
size_t verity_granule_size(const struct verity_shape *s, int64_t g);

/* A leaf; len 1..VERITY_BLOCK, padded. */
void verity_leaf(const void *data, size_t len, struct digest *out);

/* The leaves of len bytes, the last one padded: their digests, one after the other. */
void verity_leaves(const void *data, size_t len, struct digest *out);

/* A tree block. */
void verity_block(const unsigned char block[VERITY_BLOCK], struct digest *out);

/*
 * A whole granule: its digest, and its level-0 block if block is not NULL.  len is
 * verity_granule_size().  A file of one leaf has no level 0: its "block" is the leaf's digest
 * alone.
 */
void verity_granule(const struct verity_shape *s, const void *data, size_t len,
		    unsigned char *block, struct digest *out);

/* The file's fs-verity digest from its root. */
void verity_digest(int64_t size, const struct digest *root, struct digest *out);

/*
 * Builds the prefix from the digests of all granules.  verity_builder_set() may be called by any
 * thread, in any order, for each granule; one set again before the end is replaced.  The others by
 * one thread when all are set.
 */
struct verity_builder;
int verity_builder_new(struct verity_builder **out, int64_t size);	/* -ENOMEM, -EINVAL */
void verity_builder_free(struct verity_builder *b);			/* NULL is fine */
void verity_builder_set(struct verity_builder *b, int64_t g, const struct digest *d);
/* Computes the levels above; the fs-verity digest. */
void verity_builder_end(struct verity_builder *b, struct digest *out);
/* After the end: the prefix in sidecar order, borrowed; *len may be 0. */
const void *verity_builder_prefix(const struct verity_builder *b, size_t *len);

#endif
