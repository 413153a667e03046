/*
 * test_blockcache.c - the cache of verified tree blocks.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/blockcache.h"
#include "core/vtree.h"

enum { ROOM = VTREE_CACHE_BYTES / VERITY_BLOCK };

static void
make_block(unsigned char block[VERITY_BLOCK], int64_t n)
{
	memset(block, 0, VERITY_BLOCK);
	memcpy(block, &n, sizeof(n));
}

static void
least_recently_used_goes(void **state)
{
	unsigned char block[VERITY_BLOCK], got[VERITY_BLOCK];
	struct blockcache_key key = { .tree = 1 };

	(void)state;
	for (key.index = 0; key.index < ROOM; key.index++) {
		make_block(block, key.index);
		blockcache_put(&key, block);
	}
	/* The first one is used again, so that the second one is the oldest. */
	key.index = 0;
	assert_true(blockcache_get(&key, 0, got, VERITY_BLOCK));
	key.index = ROOM;
	make_block(block, ROOM);
	blockcache_put(&key, block);
	key.index = 1;
	assert_false(blockcache_get(&key, 0, got, VERITY_BLOCK));
	for (key.index = 0; key.index <= ROOM; key.index++) {
		if (key.index == 1)
			continue;
		make_block(block, key.index);
		assert_true(blockcache_get(&key, 0, got, VERITY_BLOCK));
		assert_memory_equal(got, block, VERITY_BLOCK);
	}
	blockcache_drop(1);
	for (key.index = 0; key.index <= ROOM; key.index++)
		assert_false(blockcache_get(&key, 0, got, VERITY_BLOCK));
}

/* The same number in another tree, at another level, of another block. */
static void
blocks_have_their_own_names(void **state)
{
	static const struct blockcache_key keys[] = {
		{ .tree = 7, .index = 1, .level = 0 },
		{ .tree = 7, .index = 1, .level = 1 },
		{ .tree = 7, .index = 2, .level = 0 },
		{ .tree = 8, .index = 1, .level = 0 },
		{ .tree = 1, .index = 7, .level = 0 },
	};
	enum { N = sizeof(keys) / sizeof(keys[0]) };
	unsigned char block[VERITY_BLOCK], got[VERITY_BLOCK];

	(void)state;
	for (int64_t i = 0; i < N; i++) {
		make_block(block, i);
		blockcache_put(&keys[i], block);
	}
	blockcache_drop(8);
	for (int64_t i = 0; i < N; i++) {
		make_block(block, i);
		assert_int_equal(blockcache_get(&keys[i], 0, got, VERITY_BLOCK),
				 keys[i].tree != 8);
		if (keys[i].tree != 8)
			assert_memory_equal(got, block, VERITY_BLOCK);
	}
	blockcache_drop(7);
	blockcache_drop(1);
	for (int64_t i = 0; i < N; i++)
		assert_false(blockcache_get(&keys[i], 0, got, VERITY_BLOCK));
}

static void
parts_can_be_had(void **state)
{
	struct blockcache_key key = { .tree = 9 };
	unsigned char block[VERITY_BLOCK], got[DIGEST_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (unsigned char)(i / DIGEST_BYTES);
	blockcache_put(&key, block);
	for (size_t i = 0; i < VERITY_ARITY; i++) {
		assert_true(blockcache_get(&key, i * DIGEST_BYTES, got, sizeof(got)));
		assert_int_equal(got[0], i);
		assert_int_equal(got[DIGEST_BYTES - 1], i);
	}
	blockcache_drop(9);
}

#define TEST(title, fn) { .name = title, .test_func = fn }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("of the verified blocks the least recently used goes",
		     least_recently_used_goes),
		TEST("a block is known by its tree, its level and its number",
		     blocks_have_their_own_names),
		TEST("some digests of a block can be had alone", parts_can_be_had),
	};

	return cmocka_run_group_tests_name("blockcache", tests, NULL, NULL);
}
