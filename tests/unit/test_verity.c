/*
 * test_verity.c - the fs-verity tree: shape, hashes, digests, against the vectors of the `fsverity`
 * tool 1.5 (--hash-alg=sha512 --block-size=4096).
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "core/limits.h"
#include "core/verity.h"

#define KIB 1024LL
#define MIB (KIB << 10)
#define GIB (MIB << 10)
#define TIB (GIB << 10)

/* Whole files: their bytes are a text, or zeros. */
static const struct {
	int64_t size;
	const char *text;
	const char *hex;
} vectors[] = {
	{ 0, NULL,
	  "ccf9e5aea1c2a64efa2f2354a6024b90dffde6bbc017825045dce374474e13d1"
	  "0adb9dadcc6ca8e17a3c075fbd31336e8f266ae6fa93a6c3bed66f9e784e5abf" },
	{ 3, "abc",
	  "78be1be69d611f5b6b013eb333311beccea25ab099b68ecd4e6ed6bf5175966c"
	  "7c5bce19fca5f218848fd0ecd3cc71246b9dc3d45ce9f05a4e808b8e28439517" },
	{ 4096, NULL,
	  "928922686c4caf32175f5236a7f964e9925d10a74dc6d8344a8bd08b23c228ff"
	  "5792573987d7895f628f39c4f4ebe39a7367d7aeb16aaa0cd324ac1d53664e61" },
	{ 4097, NULL,
	  "4339f5da3788e60fa6857bd7040fadccd6f125b2c2334777eb14ed55179ad887"
	  "d9131e9ce78485afc23051392b71e015528abbb7be07ed7073c56480b15cedf1" },
	{ 262144, NULL,
	  "0fab0d1193794470646a9368d58809a8e890f285e7001ef23e275e6252fb411b"
	  "214e2791a02365f33bed497a2956af90a1f8b777efd67e65da3f8b676ef3c5a1" },
	{ 262145, NULL,
	  "66570da2a4960575d353f2bdd01693f622bc276d2c128b1316475e2affee50c3"
	  "cc302dca24723f6a3abd44a04411b0588f6dc3d425cccd2430e6b0512d5b1be8" },
	{ 16777217, NULL,
	  "3103eb04b7a154181bd3ddb6db8fbcef3deb6bf0b5b00eeea3d63b125ce4624d"
	  "37e1c19b591f82f2a80977ca93a4cad16eca612766a0439f88c436100a15ab04" },
};

enum { N_VECTORS = sizeof(vectors) / sizeof(vectors[0]) };

static void
assert_hex(const struct digest *d, const char *wanted)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	assert_string_equal(hex, wanted);
}

/* The granules from the last to the first: the order must not matter. */
static struct verity_builder *
build(const void *data, int64_t size, struct digest *out)
{
	struct verity_builder *b;
	struct verity_shape s;
	struct digest d;

	assert_true(verity_shape_init(&s, size));
	assert_int_equal(verity_builder_new(&b, size), 0);
	for (int64_t g = s.n_granules - 1; g >= 0; g--) {
		verity_granule(&s, (const char *)data + g * VERITY_GRANULE,
			       verity_granule_size(&s, g), NULL, &d);
		verity_builder_set(b, g, &d);
	}
	verity_builder_end(b, out);
	return b;
}

static void
is_what_the_tool_prints(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		char *data = calloc(1, (size_t)vectors[i].size + 1);
		struct digest d;

		assert_non_null(data);
		if (vectors[i].text != NULL)
			memcpy(data, vectors[i].text, (size_t)vectors[i].size);
		verity_builder_free(build(data, vectors[i].size, &d));
		assert_hex(&d, vectors[i].hex);
		free(data);
	}
}

/* From the table of SECURITY.md, and the edges of each level. */
static void
has_the_shape_of_its_size(void **state)
{
	static const struct {
		int64_t size, n_granules;
		int n_levels;
		int64_t blocks[VERITY_LEVELS];
	} cases[] = {
		{ 0, 0, 0, { 0 } },
		{ 1, 1, 0, { 0 } },
		{ 4096, 1, 0, { 0 } },
		{ 4097, 1, 1, { 1 } },
		{ 256 * KIB, 1, 1, { 1 } },
		{ 256 * KIB + 1, 2, 2, { 2, 1 } },
		{ 16 * MIB, 64, 2, { 64, 1 } },
		{ 16 * MIB + 1, 65, 3, { 65, 2, 1 } },
		{ GIB, 4096, 3, { 4096, 64, 1 } },
		{ 10 * GIB, 40960, 4, { 40960, 640, 10, 1 } },
		{ 100 * GIB, 409600, 5, { 409600, 6400, 100, 2, 1 } },
		{ TIB, 4194304, 5, { 4194304, 65536, 1024, 16, 1 } },
		{ 16 * TIB, 67108864, 6, { 67108864, 1048576, 16384, 256, 4, 1 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct verity_shape s;
		int64_t offset = 0;

		assert_true(verity_shape_init(&s, cases[i].size));
		assert_int_equal(s.n_granules, cases[i].n_granules);
		assert_int_equal(s.n_levels, cases[i].n_levels);
		for (int k = cases[i].n_levels - 1; k >= 0; k--) {
			assert_int_equal(s.n_blocks[k], cases[i].blocks[k]);
			assert_int_equal(s.offset[k], offset);
			offset += cases[i].blocks[k] * VERITY_BLOCK;
		}
		assert_int_equal(s.total, offset);
		assert_int_equal(s.prefix, s.n_levels == 0 ? 0 : s.offset[0]);
	}
}

static void
has_bounds(void **state)
{
	struct verity_builder *b;
	struct verity_shape s;

	(void)state;
	assert_true(verity_shape_init(&s, LIMIT_IMAGE_BYTES));
	assert_false(verity_shape_init(&s, LIMIT_IMAGE_BYTES + 1));
	assert_false(verity_shape_init(&s, -1));
	assert_int_equal(verity_builder_new(&b, -1), -EINVAL);
	assert_null(b);
}

static void
last_granule_is_short(void **state)
{
	struct verity_shape s;

	(void)state;
	assert_true(verity_shape_init(&s, 2 * VERITY_GRANULE + 5));
	assert_int_equal(verity_granule_size(&s, 0), VERITY_GRANULE);
	assert_int_equal(verity_granule_size(&s, 1), VERITY_GRANULE);
	assert_int_equal(verity_granule_size(&s, 2), 5);
	assert_true(verity_shape_init(&s, 2 * VERITY_GRANULE));
	assert_int_equal(verity_granule_size(&s, 1), VERITY_GRANULE);
}

static void
is_padded_with_zeros(void **state)
{
	unsigned char leaf[VERITY_BLOCK] = "abc";
	struct digest a, b;

	(void)state;
	verity_leaf(leaf, 3, &a);
	verity_leaf(leaf, sizeof(leaf), &b);
	assert_true(digest_equal(&a, &b));
}

/* Two leaves and a bit: block by hand, digest of the block. */
static void
granule_is_its_level0_block(void **state)
{
	enum { SIZE = 2 * VERITY_BLOCK + 100 };
	unsigned char data[SIZE], block[VERITY_BLOCK], wanted[VERITY_BLOCK] = { 0 };
	struct verity_shape s;
	struct digest d, leaf;

	(void)state;
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (unsigned char)(i * 7);
	assert_true(verity_shape_init(&s, SIZE));
	for (size_t i = 0; i < 3; i++) {
		verity_leaf(data + i * VERITY_BLOCK, i < 2 ? VERITY_BLOCK : 100, &leaf);
		memcpy(wanted + i * DIGEST_BYTES, leaf.bytes, DIGEST_BYTES);
	}
	verity_granule(&s, data, SIZE, block, &d);
	assert_memory_equal(block, wanted, VERITY_BLOCK);
	verity_block(block, &leaf);
	assert_true(digest_equal(&d, &leaf));
}

/* Every block of the prefix, followed down from the root. */
static void
prefix_leads_from_the_root_down(void **state)
{
	enum { SIZE = 65 * VERITY_GRANULE + 1 };	/* three levels */
	unsigned char *data = calloc(1, SIZE);
	struct digest digest, root, d, g;
	const unsigned char *prefix;
	struct verity_builder *b;
	struct verity_shape s;
	size_t len;

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < SIZE; i += 1000)
		data[i] = (unsigned char)(i / 1000 + 1);
	assert_true(verity_shape_init(&s, SIZE));
	b = build(data, SIZE, &digest);
	prefix = verity_builder_prefix(b, &len);
	assert_int_equal(len, s.prefix);
	assert_int_equal(len, 3 * VERITY_BLOCK);
	verity_block(prefix, &root);
	verity_digest(SIZE, &root, &d);
	assert_true(digest_equal(&d, &digest));
	for (int i = 0; i < 2; i++) {
		verity_block(prefix + s.offset[1] + i * VERITY_BLOCK, &d);
		assert_memory_equal(prefix + i * DIGEST_BYTES, d.bytes, DIGEST_BYTES);
	}
	for (int64_t i = 0; i < s.n_granules; i++) {
		verity_granule(&s, data + i * VERITY_GRANULE, verity_granule_size(&s, i), NULL, &g);
		assert_memory_equal(prefix + s.offset[1] + i * DIGEST_BYTES, g.bytes, DIGEST_BYTES);
	}
	verity_builder_free(b);
	free(data);
}

/* A transfer that begins anew sets them again. */
static void
granule_can_be_set_again(void **state)
{
	static char data[2 * VERITY_GRANULE];
	struct digest first, second, wrong = { { 1 } }, d;
	struct verity_builder *b;
	struct verity_shape s;

	(void)state;
	assert_true(verity_shape_init(&s, sizeof(data)));
	verity_builder_free(build(data, sizeof(data), &first));
	assert_int_equal(verity_builder_new(&b, sizeof(data)), 0);
	for (int64_t g = 0; g < 2; g++)
		verity_builder_set(b, g, &wrong);
	verity_granule(&s, data, VERITY_GRANULE, NULL, &d);
	for (int64_t g = 0; g < 2; g++)
		verity_builder_set(b, g, &d);
	verity_builder_end(b, &second);
	assert_true(digest_equal(&first, &second));
	verity_builder_free(b);
}

/*
 * No prefix tells leaves from tree blocks: a file that is the level-0 block of another one has the
 * other's root, and must not have its digest.
 */
static void
size_tells_leaves_from_blocks(void **state)
{
	static char large[VERITY_GRANULE];
	struct digest of_large, of_block, root_large, root_block;
	unsigned char block[VERITY_BLOCK];
	struct verity_shape s;

	(void)state;
	assert_true(verity_shape_init(&s, sizeof(large)));
	verity_granule(&s, large, sizeof(large), block, &root_large);
	verity_leaf(block, sizeof(block), &root_block);
	assert_true(digest_equal(&root_large, &root_block));
	verity_digest(sizeof(large), &root_large, &of_large);
	verity_digest(sizeof(block), &root_block, &of_block);
	assert_false(digest_equal(&of_large, &of_block));
}

#define TEST(title, fn) { .name = title, .test_func = fn }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("the fs-verity digest is what the fsverity tool prints",
		     is_what_the_tool_prints),
		TEST("the shape of a tree follows from the size of the file",
		     has_the_shape_of_its_size),
		TEST("an image has at most 16 TiB", has_bounds),
		TEST("the last granule has what is left of the file", last_granule_is_short),
		TEST("a leaf is padded with zeros", is_padded_with_zeros),
		TEST("the digest of a granule is that of its level-0 block",
		     granule_is_its_level0_block),
		TEST("the prefix of a sidecar leads from the root to every granule",
		     prefix_leads_from_the_root_down),
		TEST("a granule that is set again replaces the first one",
		     granule_can_be_set_again),
		TEST("a tree block cannot pass for a file of its own",
		     size_tells_leaves_from_blocks),
	};

	return cmocka_run_group_tests_name("verity", tests, NULL, NULL);
}
