/*
 * test_node.c - numbers of the tree: node ids, inode numbers, and what the kernel still knows.
 */
#include "config.h"

#include "tests/lib/treebed.h"
#include "fs/idmap.h"
#include "fs/listing.h"
#include "fs/pins.h"

static void
parts_come_back(void **state)
{
	uint64_t node = node_make(KIND_EXPIRED_LINK, IMAGE_FILE, NODE_ROW_MAX, NODE_REV_MASK);

	(void)state;
	assert_int_equal(node_kind(node), KIND_EXPIRED_LINK);
	assert_int_equal(node_field(node), IMAGE_FILE);
	assert_int_equal(node_row(node), NODE_ROW_MAX);
	assert_int_equal(node_rev(node), NODE_REV_MASK);
	assert_int_equal(node_kind(NODE_ROOT), KIND_ROOT);
	assert_int_equal(node_serial(node_of_serial(1ULL << 40)), 1ULL << 40);
}

static void
no_number_twice(void **state)
{
	int (*const listings[])(size_t i, struct listing *out) = {
		listing_root, listing_image, listing_expired, listing_sub, listing_refused,
		listing_endorser
	};
	struct listing a, b;
	int ra, rb;

	(void)state;
	for (size_t l = 0; l < sizeof(listings) / sizeof(listings[0]); l++)
		for (size_t i = 0; (ra = listings[l](i, &a)) >= 0; i++)
			for (size_t k = i + 1; (rb = listings[l](k, &b)) >= 0; k++)
				if (ra > 0 && rb > 0) {
					assert_string_not_equal(a.name, b.name);
					assert_true(a.field != b.field || a.type != b.type);
				}
}

static void
one_inode_for_all_states(void **state)
{
	uint64_t row = 0x1234567800;

	(void)state;
	assert_int_equal(node_ino(row, IMAGE_STATE0 + IMAGE_FETCHING),
			 node_ino(row, IMAGE_STATE0 + IMAGE_VERIFIED));
	assert_int_equal(node_ino(row, IMAGE_PROGRESS_FULL), node_ino(row, IMAGE_PROGRESS));
	assert_int_not_equal(node_ino(row, IMAGE_PENDING), node_ino(row, IMAGE_ERROR));
	assert_int_equal(node_ino(row | 0xab, ENTRY_DIR), row);
}

static void
map_agrees_with_an_array(void **state)
{
	enum { KEYS = 512, STEPS = 200000 };
	static char values[KEYS + 1];
	bool there[KEYS + 1] = { false };
	struct idmap m;
	unsigned seed = 7;

	(void)state;
	idmap_init(&m);
	for (int step = 0; step < STEPS; step++) {
		uint64_t key = 1 + (uint64_t)rand_r(&seed) % KEYS;
		uint64_t spread = node_make(KIND_IMAGE_TEXT, 3, key, 0);
		void *expected = there[key] ? &values[key] : NULL;

		if (rand_r(&seed) % 2 != 0) {
			assert_ptr_equal(idmap_get(&m, spread), expected);
			idmap_set(&m, spread, &values[key]);
			there[key] = true;
		} else {
			assert_ptr_equal(idmap_remove(&m, spread), expected);
			there[key] = false;
		}
	}
	for (uint64_t key = 1; key <= KEYS; key++)
		idmap_remove(&m, node_make(KIND_IMAGE_TEXT, 3, key, 0));
	assert_int_equal(m.n_used, 0);
	assert_true(m.n_slots <= 64);
	idmap_release(&m);
}

static struct tree_image *
image_of_rev(int64_t rev)
{
	struct image_row row;

	memset(&row, 0, sizeof(row));
	row.id = 5;
	row.rev = rev;
	row.name = xstrdup("image-5");
	return record_image(&row, false);
}

static void
pins_keep_old_versions(void **state)
{
	struct pins *pins = pins_new();
	struct tree_image *old = image_of_rev(1), *new = image_of_rev(2);
	const struct record *found;
	uint64_t rev = old->base.rev;

	(void)state;
	pins_add(pins, &old->base, 1);
	pins_add(pins, &old->base, 1);
	pins_add(pins, &new->base, 2);
	record_unref(&old->base);
	record_unref(&new->base);
	pins_drop(pins, RECORD_IMAGE, 5, 1, 1);
	found = pins_find(pins, RECORD_IMAGE, 5, 1);
	assert_non_null(found);
	assert_int_equal(found->rev, rev);
	record_unref(found);
	pins_drop(pins, RECORD_IMAGE, 5, 1, 1);
	assert_null(pins_find(pins, RECORD_IMAGE, 5, 1));
	found = pins_find(pins, RECORD_IMAGE, 5, 2);
	assert_non_null(found);
	record_unref(found);
	pins_drop(pins, RECORD_IMAGE, 5, 2, 100);
	assert_null(pins_find(pins, RECORD_IMAGE, 5, 2));
	pins_drop(pins, RECORD_IMAGE, 6, 2, 1);
	pins_free(pins);
}

static void
a_million_lookups_leave_nothing(void **state)
{
	struct pins *pins = pins_new();
	struct tree_image *image = image_of_rev(1);

	(void)state;
	for (uint64_t i = 0; i < 1000000; i++)
		pins_add(pins, &image->base, i & 1023);
	assert_int_equal(atomic_load(&image->base.refs), 1 + 1024);
	for (uint64_t i = 0; i < 1024; i++)
		pins_drop(pins, RECORD_IMAGE, 5, i, 1000000 / 1024 + 1);
	assert_int_equal(atomic_load(&image->base.refs), 1);
	record_unref(&image->base);
	pins_free(pins);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ .name = "a node id gives back its kind, field, row and rev",
		  .test_func = parts_come_back },
		{ .name = "no two entries of a directory have one name or one number",
		  .test_func = no_number_twice },
		{ .name = "F32 all states of an image are one inode number",
		  .test_func = one_inode_for_all_states },
		{ .name = "the table of numbers agrees with an array over 200,000 random steps",
		  .test_func = map_agrees_with_an_array },
		{ .name = "F33 an old version is found until its last lookup is forgotten",
		  .test_func = pins_keep_old_versions },
		{ .name = "F37 a million lookups and forgets leave nothing behind",
		  .test_func = a_million_lookups_leave_nothing },
	};

	return cmocka_run_group_tests_name("node", tests, NULL, NULL);
}
