/*
 * test_vtree_checks.c - the tree that is kept beside an image: what it proves, and the blocks of
 * it that are kept in memory.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/vtree.h"
#include "tests/unit/vtreebed.h"

/* ---- checking ------------------------------------------------------------------------------ */

static int
check_leaf(struct vtree *t, const struct image *i, int64_t g, size_t leaf)
{
	return vtree_check_leaves(t, g, leaf, granule_data(i, g) + leaf * VERITY_BLOCK,
				  VERITY_BLOCK);
}

static void
granules_are_proven(void **state)
{
	struct digest d, want;
	struct vtree *t;
	struct image i;

	(void)state;
	image_new(&i, SIZE, 11);
	t = image_tree(&i);
	for (int64_t g = 0; g < GRANULES; g++) {
		assert_int_equal(check(t, &i, g), 0);
		verity_granule(&i.shape, granule_data(&i, g), verity_granule_size(&i.shape, g),
			       NULL, &d);
		assert_int_equal(vtree_granule(t, g, &want), 0);
		assert_true(digest_equal(&d, &want));
		i.data[g * VERITY_GRANULE + g * 100] ^= 1;
		assert_int_equal(check(t, &i, g), -EBADMSG);
		i.data[g * VERITY_GRANULE + g * 100] ^= 1;
	}
	/* The right bytes at a wrong place, or too few of them. */
	assert_int_equal(vtree_check_granule(t, 1, granule_data(&i, 0), VERITY_GRANULE), -EBADMSG);
	assert_int_equal(vtree_check_granule(t, 0, granule_data(&i, 0), VERITY_GRANULE - 1),
			 -EBADMSG);
	assert_int_equal(vtree_check_granule(t, -1, granule_data(&i, 0), VERITY_GRANULE), -EBADMSG);
	assert_int_equal(vtree_check_granule(t, GRANULES, granule_data(&i, 0), VERITY_GRANULE),
			 -EBADMSG);
	vtree_unref(t);
	image_release(&i);
}

static void
leaves_are_proven(void **state)
{
	int64_t last = GRANULES - 1;
	size_t size;
	struct vtree *t;
	struct image i;

	(void)state;
	image_new(&i, SIZE, 12);
	t = image_tree(&i);
	/* Nothing is known of a granule's leaves before the granule was checked. */
	assert_int_equal(check_leaf(t, &i, 3, 5), 0);
	assert_int_equal(check(t, &i, 3), 0);
	for (size_t leaf = 0; leaf < VERITY_ARITY; leaf++)
		assert_int_equal(check_leaf(t, &i, 3, leaf), 1);
	assert_int_equal(vtree_check_leaves(t, 3, 7, granule_data(&i, 3) + 7 * VERITY_BLOCK,
					    20 * VERITY_BLOCK), 1);
	i.data[3 * VERITY_GRANULE + 20 * VERITY_BLOCK] ^= 1;
	assert_int_equal(check_leaf(t, &i, 3, 20), -EBADMSG);
	assert_int_equal(check_leaf(t, &i, 3, 19), 1);
	assert_int_equal(vtree_check_leaves(t, 3, 7, granule_data(&i, 3) + 7 * VERITY_BLOCK,
					    20 * VERITY_BLOCK), -EBADMSG);
	/* The last leaf of the image is short, and no other may be. */
	size = verity_granule_size(&i.shape, last);
	assert_int_equal(check(t, &i, last), 0);
	assert_int_equal(vtree_check_leaves(t, last, 62, granule_data(&i, last) + 62 * VERITY_BLOCK,
					    size - 62 * VERITY_BLOCK), 1);
	assert_int_equal(vtree_check_leaves(t, last, 62, granule_data(&i, last) + 62 * VERITY_BLOCK,
					    100), -EBADMSG);
	assert_int_equal(vtree_check_leaves(t, last, 62, granule_data(&i, last) + 62 * VERITY_BLOCK,
					    2 * VERITY_BLOCK), -EBADMSG);
	assert_int_equal(vtree_check_leaves(t, 3, 64, granule_data(&i, 3), VERITY_BLOCK), -EBADMSG);
	vtree_unref(t);
	image_release(&i);
}

/* Without a prefix there is nothing to compare with: the digest itself is. */
static void
small_images_prove_themselves(void **state)
{
	static const int64_t sizes[] = { 1, 4095, 4096, 4097, VERITY_GRANULE };

	(void)state;
	for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
		size_t first = sizes[n] < VERITY_BLOCK ? (size_t)sizes[n] : VERITY_BLOCK;
		struct digest d;
		struct vtree *t;
		struct image i;

		image_new(&i, sizes[n], 13);
		assert_int_equal(i.len, 0);
		t = image_tree(&i);
		assert_int_equal(vtree_granule(t, 0, &d), -ENODATA);
		i.data[0] ^= 1;
		assert_int_equal(check(t, &i, 0), -EBADMSG);
		i.data[0] ^= 1;
		assert_int_equal(check(t, &i, 0), 0);
		assert_int_equal(vtree_check_leaves(t, 0, 0, i.data, first), 1);
		i.data[0] ^= 1;
		assert_int_equal(vtree_check_leaves(t, 0, 0, i.data, first), -EBADMSG);
		vtree_unref(t);
		image_release(&i);
	}
}

static void
empty_image_has_one_digest(void **state)
{
	struct vtree *t;
	struct image i;

	(void)state;
	image_new(&i, 0, 14);
	assert_int_equal(from_prefix(&i, "", 0), 0);
	t = image_tree(&i);
	assert_int_equal(vtree_check_granule(t, 0, "", 0), -EBADMSG);
	vtree_unref(t);
	i.id.verity.bytes[0] ^= 1;
	assert_int_equal(from_prefix(&i, "", 0), -EBADMSG);
	image_release(&i);
}

static void
level0_blocks_come_from_a_sidecar(void **state)
{
	unsigned char block[VERITY_BLOCK], got[VERITY_BLOCK];
	struct vtree *t;
	struct digest d;
	struct image i;

	(void)state;
	image_new(&i, SIZE, 15);
	t = image_tree(&i);
	verity_granule(&i.shape, granule_data(&i, 9), VERITY_GRANULE, block, &d);
	assert_false(vtree_level0(t, 9, got));
	block[17] ^= 1;
	assert_int_equal(vtree_put_level0(t, 9, block), -EBADMSG);
	assert_false(vtree_level0(t, 9, got));
	block[17] ^= 1;
	assert_int_equal(vtree_put_level0(t, 8, block), -EBADMSG);
	assert_int_equal(vtree_put_level0(t, 9, block), 0);
	assert_true(vtree_level0(t, 9, got));
	assert_memory_equal(got, block, VERITY_BLOCK);
	assert_int_equal(check_leaf(t, &i, 9, 0), 1);
	vtree_unref(t);
	image_release(&i);
}

static void
outside_is_nothing(void **state)
{
	unsigned char block[VERITY_BLOCK] = { 0 };
	struct vtree *t;
	struct image i, leaf;

	(void)state;
	image_new(&i, SIZE, 31);
	t = image_tree(&i);
	for (int64_t g = -1; g <= GRANULES; g += GRANULES + 1) {
		assert_int_equal(vtree_check_granule(t, g, i.data, VERITY_GRANULE), -EBADMSG);
		assert_int_equal(vtree_check_leaves(t, g, 0, i.data, VERITY_BLOCK), -EBADMSG);
		assert_int_equal(vtree_put_level0(t, g, block), -EBADMSG);
	}
	assert_int_equal(vtree_check_granule(t, 0, i.data, VERITY_GRANULE - 1), -EBADMSG);
	assert_int_equal(vtree_check_leaves(t, 0, 0, i.data, 0), -EBADMSG);
	assert_int_equal(vtree_check_leaves(t, 0, 63, i.data, 2 * VERITY_BLOCK), -EBADMSG);
	/* A piece of a leaf is none, and the last granule has no sixty-fourth leaf. */
	assert_int_equal(vtree_check_leaves(t, 0, 0, i.data, VERITY_BLOCK - 1), -EBADMSG);
	vtree_unref(t);
	image_release(&i);

	image_new(&leaf, 100, 32);
	t = image_tree(&leaf);
	assert_int_equal(vtree_put_level0(t, 0, block), -EBADMSG);
	assert_int_equal(vtree_check_leaves(t, 0, 1, leaf.data, 100), -EBADMSG);
	vtree_unref(t);
	image_release(&leaf);
}

/* ---- the cache ----------------------------------------------------------------------------- */

/* The next tree may lie where the last one lay in memory. */
static void
freed_tree_leaves_nothing(void **state)
{
	struct image a, b;
	struct vtree *t;

	(void)state;
	image_new(&a, SIZE, 16);
	image_new(&b, SIZE, 17);
	for (int n = 0; n < 50; n++) {
		const struct image *i = n % 2 == 0 ? &a : &b;

		t = image_tree(i);
		assert_int_equal(check_leaf(t, i, 0, 0), 0);
		assert_int_equal(check(t, i, 0), 0);
		assert_int_equal(check_leaf(t, i, 0, 0), 1);
		vtree_unref(t);
	}
	image_release(&a);
	image_release(&b);
}

struct hammer {
	const struct image *i;
	struct vtree *t;
	unsigned seed;
	int wrong;
};

static void *
hammer_main(void *arg)
{
	struct hammer *h = arg;

	for (int n = 0; n < 300; n++) {
		int64_t g = (int64_t)(h->seed = h->seed * 1664525 + 1013904223) % GRANULES;
		size_t leaf = h->seed / GRANULES % 60;
		int rc;

		rc = check_leaf(h->t, h->i, g, leaf);
		if (rc == 0 && n % 7 == 0)
			rc = check(h->t, h->i, g);
		h->wrong += rc < 0;
	}
	vtree_unref(h->t);
	return NULL;
}

/* Threads of two images, each with a reference of its own that is the last one somewhere. */
static void
threads_share_it(void **state)
{
	struct image images[2];
	struct vtree *trees[2];
	struct hammer h[6];
	pthread_t threads[6];

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		image_new(&images[k], SIZE, 20 + k);
		trees[k] = image_tree(&images[k]);
	}
	for (unsigned n = 0; n < 6; n++) {
		h[n] = (struct hammer){ .i = &images[n % 2], .t = vtree_ref(trees[n % 2]),
					.seed = n };
		assert_int_equal(pthread_create(&threads[n], NULL, hammer_main, &h[n]), 0);
	}
	vtree_unref(trees[0]);
	vtree_unref(trees[1]);
	for (unsigned n = 0; n < 6; n++) {
		pthread_join(threads[n], NULL);
		assert_int_equal(h[n].wrong, 0);
	}
	image_release(&images[0]);
	image_release(&images[1]);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("a granule is right only at its place and whole", granules_are_proven),
		TEST("leaves are checked alone once their granule was", leaves_are_proven),
		TEST("an image of one granule needs no prefix", small_images_prove_themselves),
		TEST("an empty image has one fs-verity digest", empty_image_has_one_digest),
		TEST("a level-0 block of a sidecar is verified before it is kept",
		     level0_blocks_come_from_a_sidecar),
		TEST("a tree that was freed leaves no blocks behind", freed_tree_leaves_nothing),
		TEST("threads check blocks of the same trees at once", threads_share_it),
		TEST("I1 what lies outside of an image, or is no whole leaf, proves nothing",
		     outside_is_nothing),
	};

	return cmocka_run_group_tests_name("vtree_checks", tests, NULL, NULL);
}
