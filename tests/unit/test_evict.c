/*
 * test_evict.c - what leaves the cache when room is needed: rule by rule, and against a model.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/evict.h"

#define ARRAY_N(a) (sizeof(a) / sizeof((a)[0]))

/* ---- judging --------------------------------------------------------------------------------- */

static void
assert_kind(struct evict_facts f, enum evict_kind expected)
{
	assert_int_equal(evict_judge(&f), expected);
}

static void
kinds(void **state)
{
	(void)state;
	assert_kind((struct evict_facts){ .verified = true }, EVICT_EXPIRED);
	assert_kind((struct evict_facts){ .verified = true, .live = true }, EVICT_UNSELECTED);
	assert_kind((struct evict_facts){ .verified = true, .live = true, .wanted = true },
		    EVICT_SELECTED);
	assert_kind((struct evict_facts){ .wanted = true, .live = true }, EVICT_PARTIAL);
	assert_kind((struct evict_facts){ .wanted = true, .live = true, .filling = true },
		    EVICT_FILLING);
	assert_kind((struct evict_facts){ .verified = false }, EVICT_PARTIAL);
}

/* Whatever else is true of it. */
static void
never(void **state)
{
	(void)state;
	for (unsigned bits = 0; bits < 128; bits++) {
		struct evict_facts f = {
			.verified = (bits & 1) != 0, .wanted = (bits & 2) != 0,
			.live = (bits & 4) != 0, .filling = (bits & 8) != 0,
			.open = (bits & 16) != 0, .pinned = (bits & 32) != 0,
			.busy = (bits & 64) != 0,
		};

		assert_int_equal(evict_judge(&f) == EVICT_NEVER, bits >= 16);
	}
}

/* ---- choosing -------------------------------------------------------------------------------- */

static struct evict_item
item(char name, enum evict_kind kind, int64_t bytes, int64_t since)
{
	struct evict_item i = { .kind = kind, .bytes = bytes, .since = since };

	i.digest.bytes[0] = (unsigned char)name;
	return i;
}

/* The names of those that go, in order. */
static void
assert_goes(struct evict_item *items, size_t n, struct evict_policy policy, int64_t lacking,
	    const char *expected)
{
	size_t n_goes = evict_plan(items, n, &policy, lacking, NULL);
	char names[16] = "";

	assert_true(n_goes < sizeof(names));
	for (size_t i = 0; i < n_goes; i++)
		names[i] = (char)items[i].digest.bytes[0];
	assert_string_equal(names, expected);
}

static const struct evict_policy plain = { .urgent = false };
static const struct evict_policy urgent = { .urgent = true };
static const struct evict_policy rolling = { .urgent = true, .selected_too = true };

static void
in_order(void **state)
{
	(void)state;
	for (int64_t lacking = 1; lacking <= 7; lacking++) {
		struct evict_item items[] = {
			item('s', EVICT_SELECTED, 1, 1), item('f', EVICT_FILLING, 1, 1),
			item('u', EVICT_UNSELECTED, 1, 1), item('y', EVICT_EXPIRED, 1, 9),
			item('x', EVICT_EXPIRED, 1, 1), item('p', EVICT_PARTIAL, 1, 9),
			item('q', EVICT_QUARANTINE, 1, 9), item('n', EVICT_NEVER, 100, 1),
		};
		char expected[] = "qpxyufs";

		expected[lacking] = '\0';
		assert_goes(items, ARRAY_N(items), rolling, lacking, expected);
	}
}

static void
only_for_whom(void **state)
{
	struct evict_item items[] = {
		item('s', EVICT_SELECTED, 4, 1), item('f', EVICT_FILLING, 4, 1),
		item('x', EVICT_EXPIRED, 4, 1),
	};

	(void)state;
	assert_goes(items, 3, plain, 4, "x");
	assert_goes(items, 3, plain, 5, "");
	assert_goes(items, 3, urgent, 5, "xf");
	assert_goes(items, 3, urgent, 9, "");
	assert_goes(items, 3, rolling, 9, "xfs");
	assert_goes(items, 3, rolling, 13, "");
}

static void
not_in_vain(void **state)
{
	struct evict_item items[] = {
		item('a', EVICT_EXPIRED, 10, 1), item('b', EVICT_EXPIRED, 10, 2),
		item('z', EVICT_EXPIRED, 0, 0), item('n', EVICT_NEVER, 1000, 0),
	};
	int64_t possible = -1;

	(void)state;
	assert_goes(items, 4, plain, 21, "");
	assert_int_equal(evict_plan(items, 4, &plain, 21, &possible), 0);
	assert_int_equal(possible, 20);
	assert_goes(items, 4, (struct evict_policy){ .partly = true }, 21, "ab");
	assert_goes(items, 4, plain, 0, "");
	assert_goes(NULL, 0, plain, 1, "");
}

/* The small ones went first, then the large one was enough by itself. */
static void
no_more_than_needed(void **state)
{
	struct evict_item items[] = {
		item('a', EVICT_EXPIRED, 1, 1), item('b', EVICT_EXPIRED, 2, 2),
		item('c', EVICT_EXPIRED, 50, 3), item('d', EVICT_UNSELECTED, 50, 1),
	};

	(void)state;
	assert_goes(items, 4, plain, 50, "c");
	assert_goes(items, 4, plain, 51, "ac");
	assert_goes(items, 4, plain, 53, "abc");
	assert_goes(items, 4, plain, 54, "cd");
}

/* ---- a model --------------------------------------------------------------------------------- */

static uint64_t seed = 88172645463325252ULL;

static int64_t
any(int64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (int64_t)(seed % (uint64_t)n);
}

enum { MOST = 12 };

static bool
allowed(const struct evict_item *i, const struct evict_policy *p)
{
	return i->bytes > 0 && i->kind != EVICT_NEVER &&
	       (i->kind != EVICT_FILLING || p->urgent) &&
	       (i->kind != EVICT_SELECTED || p->selected_too);
}

static bool
goes_before(const struct evict_item *a, const struct evict_item *b)
{
	return a->kind != b->kind ? a->kind < b->kind : a->since < b->since;
}

static int64_t
sum(const struct evict_item *items, size_t n)
{
	int64_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += items[i].bytes;
	return total;
}

/* The same things as before, each once, in another order. */
static void
assert_same_things(const struct evict_item *a, const struct evict_item *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t found = 0;

		for (size_t j = 0; j < n; j++)
			found += memcmp(&a[i], &b[j], sizeof(*a)) == 0;
		assert_int_equal(found, 1);
	}
}

/*
 * Who is spared although something more valuable goes: only one that would not have been enough in
 * its place.
 */
static void
assert_worst_go(const struct evict_item *items, size_t n_goes, size_t n,
		const struct evict_policy *p, int64_t lacking)
{
	for (size_t i = 0; i < n_goes; i++) {
		int64_t others = sum(items, n_goes) - items[i].bytes, spared = 0;

		for (size_t j = n_goes; j < n; j++)
			if (allowed(&items[j], p) && goes_before(&items[j], &items[i]))
				spared += items[j].bytes;
		assert_true(others + spared < lacking);
	}
}

static void
one_round(void)
{
	struct evict_policy p = { .urgent = any(2) == 0, .selected_too = any(2) == 0,
				  .partly = any(4) == 0 };
	struct evict_item items[MOST], before[MOST];
	size_t n = (size_t)any(MOST + 1), n_goes;
	int64_t lacking = any(60), possible = 0;

	memset(items, 0, sizeof(items));
	for (size_t i = 0; i < n; i++) {
		struct evict_item one = item((char)('a' + i), (enum evict_kind)any(EVICT_NEVER + 1),
					     any(12), (int64_t)i * 100 + any(100));

		memcpy(&items[i], &one, sizeof(one));
		possible += allowed(&items[i], &p) ? items[i].bytes : 0;
	}
	memcpy(before, items, sizeof(items));
	n_goes = evict_plan(items, n, &p, lacking, NULL);
	assert_same_things(before, items, n);
	for (size_t i = 0; i < n_goes; i++)
		assert_true(allowed(&items[i], &p));
	for (size_t i = 1; i < n_goes; i++)
		assert_true(goes_before(&items[i - 1], &items[i]));
	if (possible < lacking && !p.partly) {
		assert_int_equal(n_goes, 0);
		return;
	}
	if (possible < lacking) {
		assert_int_equal(sum(items, n_goes), possible);
		return;
	}
	assert_true(sum(items, n_goes) >= lacking);
	for (size_t i = 0; i < n_goes; i++)
		assert_true(sum(items, n_goes) - items[i].bytes < lacking);
	assert_worst_go(items, n_goes, n, &p, lacking);
}

static void
random_rounds(void **state)
{
	(void)state;
	for (int i = 0; i < 200000; i++)
		one_round();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "what a row says of an object decides how dear it is", kinds, NULL, NULL, NULL },
		{ "X07 what is open, pinned or in somebody's hands never leaves", never, NULL, NULL,
		  NULL },
		{ "quarantine, dead parts, what has expired, what is not selected, what nobody "
		  "waits for: in this order they leave", in_order, NULL, NULL, NULL },
		{ "selected images leave only if evict_selected says so, what is being filled only "
		  "for who waits", only_for_whom, NULL, NULL, NULL },
		{ "B29 when all that may leave is not enough, nothing does", not_in_vain, NULL,
		  NULL, NULL },
		{ "nothing leaves that is not needed", no_more_than_needed, NULL, NULL, NULL },
		{ "200,000 random caches: what leaves may, suffices, is the least valuable, and no "
		  "more", random_rounds, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
