#include "config.h"
#include "verity.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "limits.h"

/* include/uapi/linux/fsverity.h: FS_VERITY_HASH_ALG_SHA512; the version of the descriptor. */
enum { DESCRIPTOR_VERSION = 1, ALGORITHM_SHA512 = 2, LOG_BLOCK = 12 };

/*
 * What the fs-verity digest is the SHA-512 of (struct fsverity_descriptor):
 *
 *	0	1	version 1
 *	1	1	hash algorithm 2
 *	2	1	log2 of the block size, 12
 *	3	1	length of the salt, 0
 *	4	4	zeros
 *	8	8	size of the file, little-endian
 *	16	64	root
 *	80	32	salt, zeros
 *	112	144	zeros
 */
enum { DESCRIPTOR_BYTES = 256, DESCRIPTOR_SIZE_AT = 8, DESCRIPTOR_ROOT_AT = 16 };

/* ---- shape ----------------------------------------------------------------------------------- */

static int64_t
divide_up(int64_t a, int64_t b)
{
	return a / b + (a % b != 0);
}

bool
verity_shape_init(struct verity_shape *s, int64_t size)
{
	int64_t n;

	memset(s, 0, sizeof(*s));
	if (size < 0 || size > LIMIT_IMAGE_BYTES)
		return false;
	s->size = size;
	s->n_leaves = divide_up(size, VERITY_BLOCK);
	s->n_granules = divide_up(size, VERITY_GRANULE);
	for (n = s->n_leaves; n > 1; s->n_levels++) {
		assert(s->n_levels < VERITY_LEVELS);
		n = divide_up(n, VERITY_ARITY);
		s->n_blocks[s->n_levels] = n;
	}
	for (int k = s->n_levels - 1; k >= 0; k--) {
		s->offset[k] = s->total;
		s->total += s->n_blocks[k] * VERITY_BLOCK;
	}
	if (s->n_levels > 0)
		s->prefix = s->offset[0];
	return true;
}

size_t
verity_granule_size(const struct verity_shape *s, int64_t g)
{
	int64_t left;

	assert(g >= 0 && g < s->n_granules);
	left = s->size - g * VERITY_GRANULE;
	return left < VERITY_GRANULE ? (size_t)left : VERITY_GRANULE;
}

/* ---- hashes ---------------------------------------------------------------------------------- */

void
verity_leaf(const void *data, size_t len, struct digest *out)
{
	unsigned char padded[VERITY_BLOCK];

	assert(len > 0 && len <= VERITY_BLOCK);
	if (len < VERITY_BLOCK) {
		memcpy(padded, data, len);
		memset(padded + len, 0, VERITY_BLOCK - len);
		data = padded;
	}
	digest_of(data, VERITY_BLOCK, out);
}

void
verity_block(const unsigned char block[VERITY_BLOCK], struct digest *out)
{
	digest_of(block, VERITY_BLOCK, out);
}

void
verity_leaves(const void *data, size_t len, struct digest *out)
{
	const unsigned char *leaf = data;

	for (size_t n; len > 0; leaf += n, len -= n) {
		n = len < VERITY_BLOCK ? len : VERITY_BLOCK;
		verity_leaf(leaf, n, out++);
	}
}

void
verity_granule(const struct verity_shape *s, const void *data, size_t len, unsigned char *block,
	       struct digest *out)
{
	struct digest leaves[VERITY_ARITY];

	assert(len > 0 && len <= VERITY_GRANULE);
	memset(leaves, 0, sizeof(leaves));
	verity_leaves(data, len, leaves);
	if (s->n_levels == 0)
		*out = leaves[0];
	else
		verity_block((const unsigned char *)leaves, out);
	if (block != NULL)
		memcpy(block, leaves, VERITY_BLOCK);
}

void
verity_digest(int64_t size, const struct digest *root, struct digest *out)
{
	unsigned char d[DESCRIPTOR_BYTES] = { DESCRIPTOR_VERSION, ALGORITHM_SHA512, LOG_BLOCK };

	for (int i = 0; i < 8; i++)
		d[DESCRIPTOR_SIZE_AT + i] = (unsigned char)((uint64_t)size >> (8 * i));
	memcpy(d + DESCRIPTOR_ROOT_AT, root->bytes, DIGEST_BYTES);
	digest_of(d, sizeof(d), out);
}

/* ---- building -------------------------------------------------------------------------------- */

/*
 * The digests of the granules are the entries of level 1, which lies last in the prefix; a file of
 * one granule has no level 1, and its granule's digest is the root.
 */
struct verity_builder {
	struct verity_shape shape;
	unsigned char *prefix;
	struct digest root;
};

int
verity_builder_new(struct verity_builder **out, int64_t size)
{
	struct verity_builder *b = xcalloc(1, sizeof(*b));

	*out = NULL;
	if (!verity_shape_init(&b->shape, size)) {
		free(b);
		return -EINVAL;
	}
	/* Zeros: the padding of every block. */
	b->prefix = calloc(1, b->shape.prefix > 0 ? (size_t)b->shape.prefix : 1);
	if (b->prefix == NULL) {
		free(b);
		return -ENOMEM;
	}
	*out = b;
	return 0;
}

void
verity_builder_free(struct verity_builder *b)
{
	if (b == NULL)
		return;
	free(b->prefix);
	free(b);
}

void
verity_builder_set(struct verity_builder *b, int64_t g, const struct digest *d)
{
	assert(g >= 0 && g < b->shape.n_granules);
	if (b->shape.n_granules == 1)
		b->root = *d;
	else
		memcpy(b->prefix + b->shape.offset[1] + g * DIGEST_BYTES, d->bytes, DIGEST_BYTES);
}

void
verity_builder_end(struct verity_builder *b, struct digest *out)
{
	const struct verity_shape *s = &b->shape;
	struct digest d;

	for (int k = 1; k < s->n_levels; k++) {
		for (int64_t i = 0; i < s->n_blocks[k]; i++) {
			verity_block(b->prefix + s->offset[k] + i * VERITY_BLOCK, &d);
			if (k + 1 < s->n_levels)
				memcpy(b->prefix + s->offset[k + 1] + i * DIGEST_BYTES, d.bytes,
				       DIGEST_BYTES);
			else
				b->root = d;
		}
	}
	verity_digest(s->size, &b->root, out);
}

const void *
verity_builder_prefix(const struct verity_builder *b, size_t *len)
{
	*len = (size_t)b->shape.prefix;
	return b->prefix;
}
