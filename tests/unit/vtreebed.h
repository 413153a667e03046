/*
 * vtreebed.h - images in memory with their trees, and files of trees, for unit tests.
 */
#ifndef VMI_VTREEBED_H
#define VMI_VTREEBED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/vtree.h"

/* Three levels, and a short leaf. */
enum { GRANULES = 66, SIZE = GRANULES * VERITY_GRANULE - 1000 };

/* An image in memory with its tree. */
struct image {
	unsigned char *data;
	struct verity_shape shape;
	struct vtree_id id;
	struct verity_builder *builder;
	const void *prefix;
	size_t len;
};

static inline void
image_new(struct image *i, int64_t size, unsigned seed)
{
	struct digest d;

	memset(i, 0, sizeof(*i));
	i->data = malloc((size_t)size + 1);
	assert_non_null(i->data);
	for (int64_t n = 0; n < size; n++) {
		seed = seed * 1664525 + 1013904223;
		i->data[n] = (unsigned char)(seed >> 24);
	}
	assert_true(verity_shape_init(&i->shape, size));
	assert_int_equal(verity_builder_new(&i->builder, size), 0);
	for (int64_t g = 0; g < i->shape.n_granules; g++) {
		verity_granule(&i->shape, i->data + g * VERITY_GRANULE,
			       verity_granule_size(&i->shape, g), NULL, &d);
		verity_builder_set(i->builder, g, &d);
	}
	verity_builder_end(i->builder, &i->id.verity);
	i->prefix = verity_builder_prefix(i->builder, &i->len);
	i->id.size = size;
	digest_of(i->data, (size_t)size, &i->id.image);
}

static inline void
image_release(struct image *i)
{
	verity_builder_free(i->builder);
	free(i->data);
}

static inline struct vtree *
image_tree(const struct image *i)
{
	struct err err = { 0 };
	struct vtree *t;

	assert_int_equal(vtree_new(&t, &i->id, i->prefix, i->len, &err), 0);
	return t;
}

static inline const unsigned char *
granule_data(const struct image *i, int64_t g)
{
	return i->data + g * VERITY_GRANULE;
}

static inline int
check(struct vtree *t, const struct image *i, int64_t g)
{
	return vtree_check_granule(t, g, granule_data(i, g), verity_granule_size(&i->shape, g));
}

static inline int
from_prefix(const struct image *i, const void *prefix, size_t len)
{
	struct err err = { 0 };
	struct vtree *t;
	int rc = vtree_new(&t, &i->id, prefix, len, &err);

	if (rc != 0) {
		assert_null(t);
		assert_int_equal(err.code, CODE_BLOCK_DIGEST);
	}
	vtree_unref(t);
	return rc;
}

#define TEST(title, fn) { .name = title, .test_func = fn }

#endif
