/*
 * test_storeroom.c - the room that the store takes, as it is kept in memory, against a walk over
 * all files; and who is let in.
 */
#include "config.h"

#include "tests/lib/storebed.h"

#include "core/ledger.h"

enum { KIB = 1 << 10, MIB = 1 << 20 };

static struct digest
number(int n)
{
	struct digest d;

	digest_of(&n, sizeof(n), &d);
	return d;
}

/* What is kept in memory is what a walk finds. */
static void
assert_counted(struct bed *b)
{
	struct store_usage kept, found;

	assert_int_equal(store_room(b->store, &kept, &b->err), 0);
	assert_int_equal(store_usage(b->store, &found, &b->err), 0);
	assert_int_equal(kept.objects, found.objects);
	assert_int_equal(kept.partial, found.partial);
	assert_int_equal(kept.quarantine, found.quarantine);
	assert_int_equal(kept.lost_found, found.lost_found);
	assert_int_equal(kept.n_objects, found.n_objects);
}

static int64_t
used(struct bed *b)
{
	struct store_usage u;

	assert_int_equal(store_room(b->store, &u, &b->err), 0);
	return store_used(&u);
}

static struct vtree *
any_tree(const struct digest *d, int64_t size)
{
	struct vtree_id id = { .image = *d, .size = size };
	struct vtree *tree = NULL;
	struct verity_shape shape;
	char *prefix;

	assert_true(verity_shape_init(&shape, size));
	prefix = xcalloc(1, (size_t)shape.prefix + 1);
	/* Nobody looks at what it says; where it would be looked at, there is none. */
	if (vtree_new(&tree, &id, prefix, (size_t)shape.prefix, NULL) != 0)
		tree = NULL;
	free(prefix);
	return tree;
}

/* An object of up to one granule. */
static void
put_object(struct bed *b, const struct digest *d, int64_t size)
{
	struct vtree *tree = any_tree(d, size);
	static char bytes[256 * KIB];
	int64_t have;
	int fd;

	assert_non_null(tree);
	assert_int_equal(store_partial_open(b->store, d, size, &fd, &have, &b->err), 0);
	assert_int_equal(pwrite(fd, bytes, (size_t)size, 0), size);
	assert_int_equal(store_commit(b->store, d, fd, tree, &b->err), 0);
	close(fd);
	vtree_unref(tree);
}

/* ---- counting -------------------------------------------------------------------------------- */

static uint64_t seed = 2463534242;

static int
any(int n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (int)(seed % (uint64_t)n);
}

static void
do_anything(struct bed *b)
{
	struct digest d = number(any(8));
	int64_t size = 1 + any(250 * KIB), have;
	bool is_new;
	int fd = -1;

	switch (any(12)) {
	case 0:
	case 1:
		put_object(b, &d, size);
		break;
	case 2:
		assert_int_equal(store_object_remove(b->store, &d, &b->err), 0);
		break;
	case 3:
		assert_int_equal(store_quarantine_object(b->store, &d, &b->err), 0);
		break;
	case 4:
		assert_int_equal(store_partial_open(b->store, &d, size, &fd, &have, &b->err), 0);
		break;
	case 5:
		assert_int_equal(store_blocks_open(b->store, &d, size, &fd, &is_new, &b->err), 0);
		break;
	case 6:
		store_partial_drop(b->store, &d);
		break;
	case 7:
		store_blocks_drop(b->store, &d);
		break;
	case 8:
		assert_int_equal(store_quarantine_partial(b->store, &d, &b->err), 0);
		break;
	case 9:
		assert_int_equal(store_quarantine_bytes(b->store, &d, &d, sizeof(d), &b->err), 0);
		break;
	case 10:
		assert_int_equal(store_admit(b->store, &d, size, NULL, &b->err), 0);
		break;
	case 11:
		store_dismiss(b->store, &d);
		break;
	}
	if (fd >= 0)
		close(fd);
}

static void
random_work(void **state)
{
	struct bed *b = *state;

	assert_counted(b);
	for (int i = 0; i < 1500; i++) {
		do_anything(b);
		assert_counted(b);
	}
	assert_int_equal(store_recount(b->store, &b->err), 0);
	assert_counted(b);
}

static void
found_at_the_start(void **state)
{
	struct bed *b = *state;
	struct digest d = number(1);
	struct store_bytes bytes;
	int64_t before;

	put_object(b, &d, 100 * KIB);
	before = used(b);
	assert_true(before >= 100 * KIB);
	store_close(b->store);
	assert_int_equal(store_open(&b->conf, BED_ID, &b->store, &b->err), 0);
	assert_int_equal(used(b), before);
	bytes = store_bytes(b->store, &d);
	assert_true(bytes.object >= 100 * KIB);
	assert_int_equal(bytes.partial, 0);
}

static void
behind_our_back(void **state)
{
	static const char filler[64 * KIB];
	struct bed *b = *state;
	struct digest d = number(1);
	char path[512];

	put_object(b, &d, 100 * KIB);
	assert_int_equal(store_recount(b->store, &b->err), 0);
	bed_object_path(b, path, &d);
	assert_int_equal(unlink(path), 0);
	assert_true(used(b) >= 100 * KIB);
	bed_path(b, path, "lost+found/1-x");
	bed_write(path, filler, sizeof(filler));
	bed_path(b, path, "lost+found/2-y");
	assert_int_equal(mkdir(path, 0750), 0);
	bed_path(b, path, "lost+found/2-y/z");
	bed_write(path, filler, sizeof(filler));
	assert_int_equal(store_recount(b->store, &b->err), 0);
	assert_true(used(b) < 140 * KIB);
	assert_true(used(b) >= 128 * KIB);
}

/* ---- who is let in --------------------------------------------------------------------------- */

static void
limit(struct bed *b, int64_t bytes)
{
	b->conf.cache_size = bytes;
	store_reconfigure(b->store, &b->conf);
}

static void
assert_refused(struct bed *b, const struct digest *d, int64_t size, const char *why)
{
	int64_t lacking = 0;

	assert_int_equal(store_admit(b->store, d, size, &lacking, &b->err), -ENOSPC);
	assert_int_equal(b->err.code, CODE_FULL);
	assert_true(lacking > 0);
	assert_int_equal(store_lacks(b->store, d, size), lacking);
	if (strstr(b->err.text, why) == NULL)
		fail_msg("'%s'", b->err.text);
}

static void
promises(void **state)
{
	struct bed *b = *state;
	struct digest a = number(1), c = number(2), e = number(3);
	int64_t one = store_charge(MIB), lacking = 0;

	limit(b, 2 * one + 4096);
	assert_int_equal(store_admit(b->store, &a, MIB, NULL, &b->err), 0);
	assert_int_equal(used(b), one);
	/* Twice is as good as once. */
	assert_int_equal(store_admit(b->store, &a, MIB, NULL, &b->err), 0);
	assert_int_equal(used(b), one);
	assert_int_equal(store_admit(b->store, &c, MIB, NULL, &b->err), 0);
	assert_int_equal(store_admit(b->store, &e, MIB, &lacking, &b->err), -ENOSPC);
	assert_int_equal(lacking, one - 4096);
	assert_refused(b, &e, MIB, "cache_size are in use");
	store_dismiss(b->store, &a);
	assert_int_equal(used(b), one);
	assert_int_equal(store_admit(b->store, &e, MIB, NULL, &b->err), 0);
	assert_refused(b, &a, 3 * MIB, "and cache_size is");
}

/* What is there of it counts once, and what it was promised is not asked for again. */
static void
promise_becomes_blocks(void **state)
{
	struct bed *b = *state;
	struct digest a = number(1), c = number(2);
	int64_t one = store_charge(MIB);
	bool is_new;
	int fd;

	limit(b, one + 8192);
	assert_int_equal(store_admit(b->store, &a, MIB, NULL, &b->err), 0);
	assert_int_equal(store_blocks_open(b->store, &a, MIB, &fd, &is_new, &b->err), 0);
	assert_true(used(b) <= one + 8192);
	assert_int_equal(store_blocks_open(b->store, &c, MIB, &fd, &is_new, &b->err), -ENOSPC);
	assert_int_equal(b->err.code, CODE_FULL);
	assert_counted(b);
	store_dismiss(b->store, &a);
	/* What is here in part may go on: it takes no more. */
	close(fd);
	assert_int_equal(store_blocks_open(b->store, &a, MIB, &fd, &is_new, &b->err), 0);
	assert_false(is_new);
	close(fd);
	store_blocks_drop(b->store, &a);
	assert_int_equal(used(b), 0);
	assert_int_equal(store_blocks_open(b->store, &c, MIB, &fd, &is_new, &b->err), 0);
	close(fd);
}

/* Never both, not even until the transfer has said that it is over. */
static void
promise_is_kept(void **state)
{
	struct bed *b = *state;
	struct digest a = number(1);
	int64_t charge = store_charge(200 * KIB);

	limit(b, charge + 8192);
	assert_int_equal(store_admit(b->store, &a, 200 * KIB, NULL, &b->err), 0);
	put_object(b, &a, 200 * KIB);
	assert_true(used(b) <= charge);
	store_dismiss(b->store, &a);
	assert_counted(b);
}

static void
without_anybody_asking(void **state)
{
	struct bed *b = *state;
	struct digest a = number(1);
	int64_t have;
	int fd;

	limit(b, MIB);
	assert_int_equal(store_partial_open(b->store, &a, 2 * MIB, &fd, &have, &b->err), -ENOSPC);
	assert_int_equal(b->err.code, CODE_FULL);
	assert_int_equal(bed_count(b, "partial"), 0);
	assert_int_equal(used(b), 0);
	limit(b, 0);
	assert_int_equal(store_partial_open(b->store, &a, 2 * MIB, &fd, &have, &b->err), 0);
	close(fd);
}

/* Two that were promised room cannot both have the last of the disk. */
static void
promises_of_a_disk(void **state)
{
	struct bed *b = *state;
	struct digest a = number(1), c = number(2);

	if (!bed_mount(b, "tmpfs", "size=2m", 0))
		skip();
	bed_open(b);
	assert_int_equal(store_admit(b->store, &a, 1200 * KIB, NULL, &b->err), 0);
	assert_refused(b, &c, 1200 * KIB, "cache_min_free");
	store_dismiss(b->store, &a);
	assert_int_equal(store_admit(b->store, &c, 1200 * KIB, NULL, &b->err), 0);
}

/* ---- quarantine ------------------------------------------------------------------------------ */

struct seen {
	int n;
	struct digest d;
	int64_t number, bytes;
};

static void
see(void *arg, const struct digest *d, int64_t number_, int64_t bytes)
{
	struct seen *s = arg;

	s->n++;
	s->d = *d;
	s->number = number_;
	s->bytes = bytes;
}

static void
quarantined(void **state)
{
	struct bed *b = *state;
	struct digest d = number(1);
	struct seen s = { 0 };

	put_object(b, &d, 100 * KIB);
	assert_int_equal(store_quarantine_object(b->store, &d, &b->err), 0);
	assert_int_equal(store_quarantine_each(b->store, see, &s, &b->err), 0);
	assert_int_equal(s.n, 1);
	assert_true(digest_equal(&s.d, &d));
	assert_true(s.bytes >= 100 * KIB);
	assert_counted(b);
	assert_int_equal(store_quarantine_drop(b->store, &d, s.number, &b->err), 0);
	assert_int_equal(store_quarantine_drop(b->store, &d, s.number, &b->err), 0);
	assert_int_equal(bed_count(b, "quarantine"), 0);
	assert_int_equal(used(b), 0);
}

/* ---- the ledger ------------------------------------------------------------------------------ */

static void
count_one(void *arg, const struct digest *d)
{
	(void)d;
	++*(int *)arg;
}

static void
ledger_sums(void **state)
{
	struct ledger *l = ledger_new();
	struct ledger_totals t;
	int n = 0;

	(void)state;
	for (int i = 0; i < 10000; i++) {
		struct digest d = number(i);

		ledger_set(l, &d, &(struct ledger_entry){ .stored = i % 2 == 0, .object = i,
							  .partial = 10, .promised = i % 20 });
	}
	ledger_each(l, count_one, &n);
	assert_int_equal(n, 10000);
	t = ledger_totals(l);
	assert_int_equal(t.n_objects, 5000);
	assert_int_equal(t.objects, 10000 / 2 * 9999);
	assert_int_equal(t.partial, 100000);
	assert_int_equal(t.promised, 10000 / 20 * 45);
	for (int i = 0; i < 10000; i++) {
		struct digest d = number(i);

		assert_int_equal(ledger_get(l, &d).object, i);
		ledger_set(l, &d, &(struct ledger_entry){ 0 });
	}
	t = ledger_totals(l);
	assert_int_equal(t.objects + t.partial + t.promised + t.n_objects, 0);
	n = 0;
	ledger_each(l, count_one, &n);
	assert_int_equal(n, 0);
	ledger_free(l);
	ledger_free(NULL);
}

#define ROOM(title, fn) { title, fn, bed_setup, bed_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ROOM("after any work what is kept in memory is what a walk over all files finds",
		     random_work),
		ROOM("what an earlier run left is counted at the start", found_at_the_start),
		ROOM("what others did in the store is found when it is counted anew",
		     behind_our_back),
		ROOM("B29 a promise counts, so that two transfers cannot have the same room",
		     promises),
		ROOM("what was reserved for a promise counts once, and may be resumed",
		     promise_becomes_blocks),
		ROOM("an object that was stored does not count twice until its transfer is over",
		     promise_is_kept),
		ROOM("B29 no file is made that the limit has no room for", without_anybody_asking),
		{ "B01 what is promised is not promised again, of a small disk either",
		  promises_of_a_disk, bed_setup_bare, bed_teardown, NULL },
		ROOM("B30 bad bytes in quarantine are known, and can be dropped one by one",
		     quarantined),
		{ "the ledger knows the sum of what was set last", ledger_sums, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
