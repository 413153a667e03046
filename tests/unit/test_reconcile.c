/*
 * Quarantine, lost+found, and the walk through a store.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/lib/storebed.h"
#include "core/limits.h"

/* ---- quarantine and lost+found ----------------------------------------------------------- */

static void
quarantine_bound(void **state)
{
	struct bed *b = *state;
	char text[64], path[512], hex[DIGEST_HEX + 1];
	struct digest d, first;

	for (int i = 0; i < LIMIT_QUARANTINE_FILES + 5; i++) {
		snprintf(text, sizeof(text), "image %d", i);
		bed_add_object(b, text, &d);
		if (i == 0)
			first = d;
		assert_int_equal(store_quarantine_object(b->store, &d, &b->err), 0);
	}
	assert_int_equal(bed_count(b, "quarantine"), LIMIT_QUARANTINE_FILES);
	digest_hex(&first, hex);
	bed_path(b, path, "quarantine/%s.1", hex);
	assert_false(bed_exists(path));
	digest_hex(&d, hex);
	bed_path(b, path, "quarantine/%s.%d", hex, LIMIT_QUARANTINE_FILES + 5);
	assert_true(bed_exists(path));
}

static void
quarantine_one_a_digest(void **state)
{
	struct bed *b = *state;
	struct digest d;

	for (int i = 0; i < 4; i++) {
		bed_add_object(b, BED_TEXT, &d);
		assert_int_equal(store_quarantine_object(b->store, &d, &b->err), 0);
	}
	assert_int_equal(bed_count(b, "quarantine"), 1);
}

struct known {
	struct digest object;
	bool partial;
	int found, moved, stuck;
	int64_t size;
	char last_from[300], last_to[300];
};

static bool
known_object(void *arg, const struct digest *d)
{
	return digest_equal(d, &((struct known *)arg)->object);
}

static bool
known_partial(void *arg, const struct digest *d)
{
	(void)d;
	return ((struct known *)arg)->partial;
}

static void
note_found(void *arg, const struct digest *d, int64_t size)
{
	struct known *k = arg;

	assert_true(digest_equal(d, &k->object));
	k->found++;
	k->size = size;
}

static void
note_moved(void *arg, const char *from, const char *to)
{
	struct known *k = arg;

	k->moved++;
	snprintf(k->last_from, sizeof(k->last_from), "%s", from);
	snprintf(k->last_to, sizeof(k->last_to), "%s", to);
}

static void
note_stuck(void *arg, const char *from, int errnum)
{
	(void)from;
	assert_int_not_equal(errnum, 0);
	((struct known *)arg)->stuck++;
}

static struct store_walk
walk_for(struct known *k, size_t max_moves)
{
	return (struct store_walk){ .known_object = known_object, .known_partial = known_partial,
		.found = note_found, .moved = note_moved, .stuck = note_stuck, .arg = k,
		.max_moves = max_moves };
}

static void
reconcile_moves(void **state)
{
	struct bed *b = *state;
	struct known k = { .partial = false };
	struct store_walk walk = walk_for(&k, 100);
	char path[512], hex[DIGEST_HEX + 1];
	struct digest unknown;

	bed_add_object(b, BED_TEXT, &k.object);
	bed_add_object(b, "nobody's", &unknown);
	digest_hex(&unknown, hex);
	bed_path(b, path, "partial/%s", hex);
	bed_write(path, "x", 1);
	bed_path(b, path, "core.1234");
	bed_write(path, "x", 1);
	bed_path(b, path, "objects/not a shard");
	assert_int_equal(mkdir(path, 0750), 0);
	bed_path(b, path, "objects/%.2s/%s.fsx", hex, hex);
	bed_write(path, "x", 1);
	bed_path(b, path, "quarantine/notes");
	bed_write(path, "x", 1);
	/* Of the six that are moved one, the object, has a tree, which is removed. */
	assert_int_equal(store_reconcile(b->store, &walk, &b->err), 7);
	assert_int_equal(k.moved, 6);
	assert_int_equal(k.found, 1);
	assert_int_equal(k.size, BED_TEXT_LEN);
	assert_int_equal(bed_count(b, "lost+found"), 6);
	assert_string_equal(k.last_from, "core.1234");
	assert_string_equal(k.last_to, "lost+found/6-core.1234");
	assert_int_equal(store_reconcile(b->store, &walk, &b->err), 0);
}

static void
reconcile_keeps(void **state)
{
	struct bed *b = *state;
	struct known k = { .partial = true };
	struct store_walk walk = walk_for(&k, 100);
	char path[512], hex[DIGEST_HEX + 1];

	bed_add_object(b, BED_TEXT, &k.object);
	digest_hex(&k.object, hex);
	bed_path(b, path, "partial/%s", hex);
	bed_write(path, "x", 1);
	bed_path(b, path, "quarantine/%s.7", hex);
	bed_write(path, "x", 1);
	assert_int_equal(store_reconcile(b->store, &walk, &b->err), 0);
	assert_true(bed_exists(path));
	assert_int_equal(bed_count(b, "partial"), 1);
}

static void
write_side(struct bed *b, const struct digest *d, bool partial, const char *suffix)
{
	char path[512];

	bed_side_path(b, path, d, partial, suffix);
	bed_write(path, "x", 1);
}

static bool
has_side(struct bed *b, const struct digest *d, bool partial, const char *suffix)
{
	char path[512];

	bed_side_path(b, path, d, partial, suffix);
	return bed_exists(path);
}

static void
reconcile_derived(void **state)
{
	static const char *const derived[] = { ".fsv", ".map", ".fsv.new", ".map.new" };
	struct bed *b = *state;
	struct known k = { .partial = false };
	struct store_walk walk = walk_for(&k, 2);
	struct digest nobody;

	bed_add_object(b, BED_TEXT, &k.object);
	bed_add_object(b, "nobody's", &nobody);
	assert_int_equal(store_object_remove(b->store, &nobody, &b->err), 0);
	for (size_t i = 0; i < 4; i++)
		write_side(b, &nobody, true, derived[i]);
	write_side(b, &nobody, true, ".blocks");
	write_side(b, &nobody, false, ".fsv");
	write_side(b, &k.object, false, ".fsv.new");
	/* Two at a time, as asked; only the bytes of an image are moved, and told. */
	assert_int_equal(store_reconcile(b->store, &walk, &b->err), 2);
	walk.max_moves = 100;
	assert_int_equal(store_reconcile(b->store, &walk, &b->err), 5);
	assert_int_equal(k.moved, 1);
	assert_int_equal(bed_count(b, "lost+found"), 1);
	assert_int_equal(bed_count(b, "partial"), 0);
	assert_false(has_side(b, &nobody, false, ".fsv"));
	assert_true(has_side(b, &k.object, false, ".fsv"));
	assert_int_equal(store_reconcile(b->store, &walk, &b->err), 0);
}

static void
reconcile_keeps_block_mode(void **state)
{
	struct bed *b = *state;
	struct known k = { .partial = true };
	struct store_walk walk = walk_for(&k, 100);
	struct digest other;

	bed_add_object(b, BED_TEXT, &k.object);
	bed_add_object(b, "another", &other);
	assert_int_equal(store_object_remove(b->store, &other, &b->err), 0);
	write_side(b, &other, true, ".blocks");
	write_side(b, &other, true, ".fsv");
	write_side(b, &other, true, ".map");
	write_side(b, &other, false, ".fsv");	/* its commit was cut */
	write_side(b, &other, true, ".fsv.old");
	assert_int_equal(store_reconcile(b->store, &walk, &b->err), 1);
	assert_string_equal(k.last_from + strlen(k.last_from) - 8, ".fsv.old");
	assert_true(has_side(b, &other, true, ".blocks"));
	assert_true(has_side(b, &other, true, ".fsv"));
	assert_true(has_side(b, &other, true, ".map"));
	assert_true(has_side(b, &other, false, ".fsv"));
}

static void
bad_blocks_are_kept(void **state)
{
	struct bed *b = *state;
	struct digest one, other;
	char path[512], hex[DIGEST_HEX + 1];
	FILE *newest;

	digest_of("one", 3, &one);
	digest_of("other", 5, &other);
	assert_int_equal(store_quarantine_bytes(b->store, &other, "o", 1, &b->err), 0);
	for (char c = 'a'; c <= 'j'; c++)
		assert_int_equal(store_quarantine_bytes(b->store, &one, &c, 1, &b->err), 0);
	assert_int_equal(bed_count(b, "quarantine"), 1 + 4);
	digest_hex(&one, hex);
	bed_path(b, path, "quarantine/%s.11", hex);
	newest = fopen(path, "r");
	assert_non_null(newest);
	assert_int_equal(fgetc(newest), 'j');
	fclose(newest);
	for (int i = 0; i < 2 * LIMIT_QUARANTINE_FILES; i++) {
		digest_of(&i, sizeof(i), &one);
		assert_int_equal(store_quarantine_bytes(b->store, &one, "x", 1, &b->err), 0);
	}
	assert_int_equal(bed_count(b, "quarantine"), LIMIT_QUARANTINE_FILES);
}

static void
reconcile_in_steps(void **state)
{
	struct bed *b = *state;
	struct known k = { .partial = false };
	struct store_walk walk = walk_for(&k, 1000);
	char path[512];
	int n, calls = 0;

	bed_add_object(b, BED_TEXT, &k.object);
	for (int i = 0; i < 10500; i++) {
		bed_path(b, path, "objects/stray %d", i);
		assert_int_equal(mknod(path, S_IFREG | 0640, 0), 0);
	}
	do {
		k.found = 0;
		n = store_reconcile(b->store, &walk, &b->err);
		assert_int_equal(k.found, 1);		/* however many strays are left */
		calls++;
	} while (n == 1000);
	assert_int_equal(n, 500);
	assert_int_equal(calls, 11);
	assert_int_equal(k.moved, 10500);
	assert_int_equal(bed_count(b, "lost+found"), 10500);
}

static void
reconcile_odd_names(void **state)
{
	struct bed *b = *state;
	struct known k = { .partial = false };
	struct store_walk walk = walk_for(&k, 10);
	char path[512], name[256];

	memset(name, 'n', 255);
	name[255] = '\0';
	name[3] = '\n';
	name[4] = (char)0xff;
	bed_path(b, path, "%s", name);
	bed_write(path, "x", 1);
	assert_int_equal(store_reconcile(b->store, &walk, &b->err), 1);
	assert_int_equal(strncmp(k.last_to, "lost+found/1-nnn__nn", 20), 0);
}

static void
reconcile_mount_point(void **state)
{
	struct bed *b = *state;
	struct known k = { .partial = false };
	struct store_walk walk = walk_for(&k, 10);
	char path[512];

	if (!bed_may_mount())
		skip();
	bed_path(b, path, "mounted");
	assert_int_equal(mkdir(path, 0750), 0);
	assert_int_equal(mount("tmpfs", path, "tmpfs", 0, "size=64k"), 0);
	assert_int_equal(store_reconcile(b->store, &walk, &b->err), 0);
	assert_int_equal(umount(path), 0);
	assert_int_equal(k.stuck, 1);
}

static void
usage_is_summed(void **state)
{
	struct bed *b = *state;
	struct store_usage u;
	struct digest d;

	bed_add_object(b, BED_TEXT, &d);
	bed_add_object(b, "another", &d);
	assert_int_equal(store_usage(b->store, &u, &b->err), 0);
	assert_int_equal(u.n_objects, 2);
	assert_true(u.objects > 0 && u.fs_free > 0 && u.fs_total >= u.fs_free);
	assert_int_equal(u.partial, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST("B30 the oldest quarantined file goes when there are too many",
			 quarantine_bound, bed_setup),
		BED_TEST("T31 of one digest only the newest bad bytes are kept",
			 quarantine_one_a_digest, bed_setup),
		BED_TEST("what is not ours moves to lost+found", reconcile_moves, bed_setup),
		BED_TEST("what is ours stays", reconcile_keeps, bed_setup),
		BED_TEST("trees and maps that nobody needs are removed, not moved",
			 reconcile_derived, bed_setup),
		BED_TEST("what block mode needs stays", reconcile_keeps_block_mode, bed_setup),
		BED_TEST("B30 of bad blocks the newest few of an image are kept",
			 bad_blocks_are_kept, bed_setup),
		BED_TEST("B35 many stray files are moved in bounded steps",
			 reconcile_in_steps, bed_setup),
		BED_TEST("a name that is too long and odd is made safe",
			 reconcile_odd_names, bed_setup),
		BED_TEST("what cannot be moved is told and passed over",
			 reconcile_mount_point, bed_setup),
		BED_TEST("objects are counted and summed", usage_is_summed, bed_setup),
	};

	return cmocka_run_group_tests_name("reconcile", tests, NULL, NULL);
}
