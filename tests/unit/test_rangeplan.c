/*
 * test_rangeplan.c - which granules are asked for next.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/rangeplan.h"

enum { GRANULES = 1000, AHEAD_MAX = 128, MAX = 32 };

/* What is here, and a plan over it. */
struct field {
	bool here[GRANULES];
	struct rangeplan *plan;
	struct rangeplan_missing missing;
	int64_t n_fetched;
};

static int64_t
find_missing(void *arg, int64_t from, int64_t *n)
{
	const struct field *f = arg;

	while (from < GRANULES && f->here[from])
		from++;
	if (from >= GRANULES)
		return -1;
	*n = 0;
	while (from + *n < GRANULES && !f->here[from + *n])
		++*n;
	return from;
}

static int
setup(void **state)
{
	struct field *f = calloc(1, sizeof(*f));

	f->plan = rangeplan_new(GRANULES, AHEAD_MAX);
	f->missing = (struct rangeplan_missing){ find_missing, f };
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct field *f = *state;

	rangeplan_free(f->plan);
	free(f);
	return 0;
}

static bool
next(struct field *f, enum range_kind kind, struct range *r)
{
	return rangeplan_next(f->plan, &f->missing, kind, MAX, r);
}

static void
assert_next(struct field *f, enum range_kind kind, int64_t first, int64_t n)
{
	struct range r = { -1, -1 };

	assert_true(next(f, kind, &r));
	assert_int_equal(r.first, first);
	assert_int_equal(r.n, n);
	rangeplan_begin(f->plan, &r);
}

static void
assert_none(struct field *f, enum range_kind kind)
{
	struct range r;

	assert_false(next(f, kind, &r));
}

/* A range in flight arrives. */
static void
land(struct field *f, int64_t first, int64_t n)
{
	struct range r = { first, n };

	for (int64_t g = first; g < first + n; g++) {
		f->here[g] = true;
		rangeplan_landed(f->plan, g);
	}
	f->n_fetched += n;
	rangeplan_end(f->plan, &r);
}

/* All that is due, wished or ahead, arrives; how many requests that takes. */
static int
land_all(struct field *f)
{
	struct range r;
	int n = 0;

	while (next(f, RANGE_WANTED, &r) || next(f, RANGE_AHEAD, &r)) {
		rangeplan_begin(f->plan, &r);
		land(f, r.first, r.n);
		n++;
	}
	return n;
}

/* A reader: wishes for what is not here, and waits for it. */
static void
read_granules(struct field *f, int64_t first, int64_t n)
{
	for (int64_t g = first; g < first + n; g++)
		if (!f->here[g])
			rangeplan_want(f->plan, g, 1, 0);
	land_all(f);
}

/* ---- wishes -------------------------------------------------------------------------------- */

static void
oldest_first(void **state)
{
	struct field *f = *state;

	rangeplan_want(f->plan, 500, 1, 1);
	rangeplan_want(f->plan, 20, 1, 2);
	assert_next(f, RANGE_WANTED, 500, 1);
	assert_next(f, RANGE_WANTED, 20, 1);
	assert_none(f, RANGE_WANTED);
}

static void
once_each(void **state)
{
	struct field *f = *state;
	long long since;

	for (int i = 0; i < 100; i++)
		rangeplan_want(f->plan, 7, 1, i);
	assert_next(f, RANGE_WANTED, 7, 1);
	rangeplan_want(f->plan, 7, 1, 101);
	assert_none(f, RANGE_WANTED);
	assert_true(rangeplan_waits(f->plan, &since));
	assert_int_equal(since, 0);
	land(f, 7, 1);
	assert_false(rangeplan_waits(f->plan, &since));
}

static void
joined(void **state)
{
	struct field *f = *state;

	rangeplan_want(f->plan, 20, 1, 1);
	rangeplan_want(f->plan, 22, 2, 1);
	rangeplan_want(f->plan, 19, 1, 1);
	rangeplan_want(f->plan, 26, 1, 1);
	assert_next(f, RANGE_WANTED, 19, 5);
	assert_next(f, RANGE_WANTED, 26, 1);
}

static void
nothing_twice(void **state)
{
	struct field *f = *state;

	rangeplan_want(f->plan, 10, 3, 1);
	assert_next(f, RANGE_WANTED, 10, 3);
	f->here[15] = true;
	rangeplan_want(f->plan, 8, 10, 1);
	assert_next(f, RANGE_WANTED, 8, 2);
	assert_next(f, RANGE_WANTED, 13, 2);
	assert_next(f, RANGE_WANTED, 16, 2);
	assert_none(f, RANGE_WANTED);
}

static void
bounded(void **state)
{
	struct field *f = *state;

	rangeplan_want(f->plan, 900, 200, 1);
	assert_next(f, RANGE_WANTED, 900, MAX);
	assert_next(f, RANGE_WANTED, 900 + MAX, MAX);
	assert_next(f, RANGE_WANTED, 900 + 2 * MAX, MAX);
	assert_next(f, RANGE_WANTED, 900 + 3 * MAX, 4);
	assert_none(f, RANGE_WANTED);
}

static void
asked_again(void **state)
{
	struct field *f = *state;
	struct range r;

	rangeplan_want(f->plan, 10, 4, 1);
	assert_next(f, RANGE_WANTED, 10, 4);
	/* Half of it came before the connection was cut. */
	f->here[10] = f->here[11] = true;
	rangeplan_landed(f->plan, 10);
	rangeplan_landed(f->plan, 11);
	rangeplan_end(f->plan, &(struct range){ 10, 4 });
	assert_true(next(f, RANGE_WANTED, &r));
	assert_int_equal(r.first, 12);
	assert_in_range(r.n, 2, 3);
}

static void
taken_back(void **state)
{
	struct field *f = *state;
	struct range r;

	rangeplan_want(f->plan, 10, 10, 1);
	rangeplan_want(f->plan, 50, 1, 2);
	rangeplan_begin(f->plan, &(struct range){ 12, 3 });
	assert_true(rangeplan_pop(f->plan, false, &r));
	assert_int_equal(r.first, 10);
	assert_int_equal(r.n, 2);
	assert_true(rangeplan_pop(f->plan, false, &r));
	assert_int_equal(r.first, 15);
	assert_int_equal(r.n, 5);
	assert_true(rangeplan_pop(f->plan, false, &r));
	assert_int_equal(r.first, 50);
	assert_false(rangeplan_pop(f->plan, false, &r));
	assert_true(rangeplan_pop(f->plan, true, &r));
	assert_int_equal(r.first, 12);
	assert_int_equal(r.n, 3);
	assert_false(rangeplan_pop(f->plan, true, &r));
}

static void
pruned(void **state)
{
	struct field *f = *state;
	struct range r;

	rangeplan_want(f->plan, 10, 10, 1);
	f->here[10] = f->here[13] = f->here[14] = f->here[19] = true;
	rangeplan_prune(f->plan, &f->missing);
	for (int64_t g = 10; g < 20; g++)
		assert_int_equal(rangeplan_landed(f->plan, g), !f->here[g]);
	assert_false(rangeplan_pop(f->plan, true, &r));
}

/* ---- read-ahead ---------------------------------------------------------------------------- */

static void
random_fetches_its_own(void **state)
{
	struct field *f = *state;
	uint32_t x = 12345;
	int64_t n = 0;

	for (int i = 0; i < 200; i++) {
		int64_t g;

		x = x * 1664525 + 1013904223;
		g = x % GRANULES;
		n += !f->here[g];
		read_granules(f, g, 1);
	}
	/* Chance makes a sequence of three now and then. */
	assert_in_range(f->n_fetched, n, n + 2);
}

static void
one_large_read(void **state)
{
	struct field *f = *state;

	/* What the kernel asks for around one page fault, or one read of a mebibyte. */
	for (int64_t g = 40; g < 44; g++)
		rangeplan_want(f->plan, g, 1, 0);
	assert_int_equal(land_all(f), 1);
	assert_int_equal(f->n_fetched, 4);
	rangeplan_want(f->plan, 300, 4, 0);
	land_all(f);
	assert_int_equal(f->n_fetched, 8);
}

static void
sequence_grows(void **state)
{
	struct field *f = *state;
	int64_t at = 0, longest = 0;
	int n_requests = 0;

	while (at < 800) {
		struct range r;
		int64_t before = f->n_fetched;

		if (f->here[at]) {
			at++;
			continue;
		}
		rangeplan_want(f->plan, at, 1, 0);
		while (next(f, RANGE_WANTED, &r) || next(f, RANGE_AHEAD, &r)) {
			rangeplan_begin(f->plan, &r);
			land(f, r.first, r.n);
			n_requests++;
		}
		if (f->n_fetched - before > longest)
			longest = f->n_fetched - before;
		/* Never more ahead than a quarter of what was read, or all of it in a stream. */
		assert_true(f->n_fetched <= (at < RANGEPLAN_SURE - 1 ? 5 * (at + 1) / 4
								     : 2 * (at + 1)));
	}
	assert_in_range(longest, AHEAD_MAX / 2, AHEAD_MAX + 1);
	assert_in_range(n_requests, 10, 80);
	assert_in_range(f->n_fetched, 800, 800 + AHEAD_MAX + 1);
}

static void
several_in_flight(void **state)
{
	struct field *f = *state;
	struct range r;
	int n = 0;

	read_granules(f, 0, 200);
	/* A stream by now: what it reads next keeps more than one connection busy. */
	while (f->here[200 + n])
		n++;
	rangeplan_want(f->plan, 200 + n, 1, 0);
	n = 0;
	while (next(f, RANGE_WANTED, &r) || next(f, RANGE_AHEAD, &r)) {
		rangeplan_begin(f->plan, &r);
		assert_in_range(r.n, 1, MAX);
		n++;
	}
	assert_in_range(n, 3, 8);
}

static void
two_streams(void **state)
{
	struct field *f = *state;

	for (int64_t g = 0; g < 32; g++) {
		read_granules(f, 100 + g, 1);
		read_granules(f, 600 + g, 1);
	}
	assert_true(f->here[133] && f->here[633]);
	assert_false(f->here[300] || f->here[99] || f->here[599]);
}

static void
leaves_the_sequence(void **state)
{
	struct field *f = *state;
	int64_t before;

	read_granules(f, 0, 64);
	before = f->n_fetched;
	for (int64_t g = 300; g < 1000; g += 50)
		read_granules(f, g, 1);
	assert_int_equal(f->n_fetched, before + 14);
}

static void
ends_with_the_file(void **state)
{
	struct field *f = *state;

	read_granules(f, GRANULES - 40, 40);
	assert_int_equal(f->n_fetched, 40);
	rangeplan_want(f->plan, GRANULES, 1, 0);
	rangeplan_want(f->plan, GRANULES - 1, 5, 0);
	assert_next(f, RANGE_FILL, 0, MAX);
}

/* ---- filling ------------------------------------------------------------------------------- */

static void
fills_holes(void **state)
{
	struct field *f = *state;
	struct range r;

	for (int64_t g = 0; g < GRANULES; g++)
		f->here[g] = g % 100 < 60;
	while (next(f, RANGE_FILL, &r)) {
		assert_in_range(r.n, 1, MAX);
		rangeplan_begin(f->plan, &r);
		land(f, r.first, r.n);
	}
	assert_int_equal(f->n_fetched, 400);
}

#define TEST(name, f) { name, f, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("who waits longest is served first", oldest_first),
		TEST("a granule is asked for once, however many wish for it", once_each),
		TEST("near wishes become one range", joined),
		TEST("what is here or on its way is not asked for", nothing_twice),
		TEST("a range is bounded", bounded),
		TEST("what did not come is asked for again", asked_again),
		TEST("wishes that fail are taken back, but for those in flight", taken_back),
		TEST("wishes for what has arrived otherwise are forgotten", pruned),
		TEST("random reads fetch their granules and no others", random_fetches_its_own),
		TEST("one large read is no sequence", one_large_read),
		TEST("a sequence grows its read-ahead up to the maximum", sequence_grows),
		TEST("a stream keeps several ranges in flight", several_in_flight),
		TEST("two streams at once are told apart", two_streams),
		TEST("read-ahead ends where the sequence does", leaves_the_sequence),
		TEST("nothing is asked for behind the end", ends_with_the_file),
		TEST("filling goes over every hole", fills_holes),
	};

	return cmocka_run_group_tests_name("rangeplan", tests, NULL, NULL);
}
