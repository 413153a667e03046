/*
 * test_lazy_sources.c - images in block mode whose servers have no ranges, hang up, are busy, or
 * send wrong bytes.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/io.h"
#include "core/lanes.h"
#include "core/lazy.h"
#include "tests/lib/rangebed.h"
#include "tests/lib/storebed.h"
#include "tests/unit/lazybed.h"

/* ---- servers ------------------------------------------------------------------------------- */

static void
image_without_ranges(void **state)
{
	struct site *s = *state;
	struct err e;

	if (s != NULL)
		rangebed_mode(s->web, IMAGE, RB_WHOLE, 0);
	s = start(state);
	want(s, 100, 1);
	wait_state(s, LAZY_UNFIT);
	lazy_result(s->lazy, &e);
	assert_int_equal(e.code, CODE_RANGE);
	assert_int_equal(s->n_landed, 0);
}

static void
image_with_other_range(void **state)
{
	struct site *s = *state;

	if (s != NULL)
		rangebed_mode(s->web, IMAGE, RB_OTHER, 0);
	s = start(state);
	want(s, 100, 1);
	wait_state(s, LAZY_UNFIT);
	assert_int_equal(s->why.code, CODE_RANGE);
	assert_int_equal(s->n_landed, 0);
}

static void
ranges_come_and_go(void **state)
{
	static const enum rangebed_mode modes[] = { RB_WHOLE, RB_OTHER };
	struct site *s = start(state);

	want(s, 1, 1);
	for (int i = 0; i < 2; i++) {
		rangebed_mode(s->web, IMAGE, modes[i], 0);
		want(s, 100 + 10 * i, 1);
		assert_true(s->failed[100 + 10 * i]);
		assert_int_equal(s->why.code, CODE_RANGE);
		assert_int_equal(s->why.rc, -EHOSTUNREACH);
		assert_int_equal(lazy_state(s->lazy), LAZY_SERVING);
		rangebed_mode(s->web, IMAGE, RB_WELL, 0);
		s->failed[100 + 10 * i] = false;
		want(s, 100 + 10 * i, 1);
		assert_true(has_landed(s, 100 + 10 * i));
	}
	/* It counts in the next run too that there was something. */
	rangebed_mode(s->web, IMAGE, RB_WHOLE, 0);
	restart(s);
	want(s, 50, 1);
	assert_true(s->failed[50]);
	assert_int_equal(lazy_state(s->lazy), LAZY_SERVING);
}

static void
other_source_has_ranges(void **state)
{
	struct site *s = *state;

	if (s != NULL)
		rangebed_mode(s->web, IMAGE, RB_WHOLE, 0);
	s = start_twice(state);
	want(s, 100, 1);
	assert_true(has_landed(s, 100));
}

static void
image_absent(void **state)
{
	struct site *s = start(state);

	want(s, 1, 1);
	rangebed_mode(s->web, IMAGE, RB_404, 0);
	want(s, 100, 1);
	assert_false(has_landed(s, 100));
	assert_int_equal(s->why.code, CODE_DOWNLOAD);
	assert_int_equal(lazy_state(s->lazy), LAZY_SERVING);
	rangebed_mode(s->web, IMAGE, RB_WELL, 0);
	s->failed[100] = false;
	want(s, 100, 1);
	assert_true(has_landed(s, 100));
}

static void
cut_connections(void **state)
{
	struct site *s = start(state);

	want(s, 0, 1);
	/* Each connection brings two granules and a half. */
	rangebed_mode(s->web, IMAGE, RB_CUT, 5 * VERITY_GRANULE / 2);
	want(s, 100, 9);
	for (int g = 100; g < 109; g++)
		assert_true(has_landed(s, g));
	assert_int_equal(s->n_wrong, 0);
}

static void
cut_in_the_first_granule(void **state)
{
	struct site *s = start(state);
	int before;

	want(s, 0, 1);
	rangebed_mode(s->web, IMAGE, RB_CUT_ONCE, 5000);
	want(s, 100, 1);
	assert_true(has_landed(s, 100));
	figures_of(s);
	rangebed_mode(s->web, IMAGE, RB_CUT, 5000);
	before = rangebed_count(s->web, IMAGE);
	want(s, 150, 1);
	assert_false(has_landed(s, 150));
	assert_int_equal(s->why.code, CODE_SLOW);
	/* Twice a round. */
	assert_int_equal(rangebed_count(s->web, IMAGE), before + 2 * LAZY_ROUNDS);
}

static void
one_at_a_time(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	for (int i = 0; i < 5; i++)
		rangebed_mode(s->web, i, RB_ALONE, 0);
	start_with(s, 1, 1, NULL);
	lazy_want(s->lazy, 100, 1);
	lazy_fill(s->lazy, LAZY_FILL_NOW);
	wait_state(s, LAZY_FULL);
	assert_int_equal(s->n_failed, 0);
	assert_in_range(rangebed_most(s->web), 1, LANES_PER_HOST);
	assert_in_range(rangebed_refused(s->web, IMAGE) + rangebed_refused(s->web, SIDECAR), 0,
			8);
}

static void
always_busy(void **state)
{
	struct site *s = start(state);

	want(s, 0, 1);
	rangebed_mode(s->web, IMAGE, RB_BUSY, 0);
	lazy_want(s->lazy, 100, 1);
	/* 503 at 0, 0.5, 1.5, 3.5 s ... and no more of them. */
	poll(NULL, 0, 2500);
	assert_in_range(rangebed_count(s->web, IMAGE), 2, 6);
	rangebed_mode(s->web, IMAGE, RB_WELL, 0);
	wait_told(s, 100, 1);
	assert_true(has_landed(s, 100));
}

/* ---- wrong bytes --------------------------------------------------------------------------- */

static void
wrong_then_right(void **state)
{
	struct site *s = start(state);
	struct lazy_figures figures;

	want(s, 0, 1);
	rangebed_flip(s->web, IMAGE, 70 * (int64_t)VERITY_GRANULE + 9, 1);
	want(s, 70, 1);
	assert_true(has_landed(s, 70));
	lazy_figures(s->lazy, &figures);
	assert_int_equal(figures.n_bad_granules, 1);
	assert_int_equal(s->n_wrong, 0);
}

static void
wrong_everywhere(void **state)
{
	struct site *s = start_twice(state);
	long long begin;

	rangebed_flip(s->web, IMAGE, 70 * (int64_t)VERITY_GRANULE + 9, 0);
	rangebed_flip(s->web, IMAGE2, 70 * (int64_t)VERITY_GRANULE + 9, 0);
	want(s, 69, 3);
	assert_true(has_landed(s, 69) && has_landed(s, 71));
	assert_true(s->failed[70] && !has_landed(s, 70));
	assert_int_equal(s->why.code, CODE_BLOCK_DIGEST);
	assert_int_equal(s->why.rc, -EBADMSG);
	/* Each source once, and one of them a second time. */
	assert_in_range(rangebed_count(s->web, IMAGE) + rangebed_count(s->web, IMAGE2), 3, 5);
	/* Whoever asks at once is told at once, without a request. */
	begin = io_monotonic_ms();
	s->failed[70] = false;
	want(s, 70, 1);
	assert_true(s->failed[70]);
	assert_true(io_monotonic_ms() - begin < LAZY_RETRY_MS);
	assert_in_range(rangebed_count(s->web, IMAGE) + rangebed_count(s->web, IMAGE2), 3, 5);
}

static void
wrong_from_one_source(void **state)
{
	struct site *s = start_twice(state);
	long long begin;

	/* Its sidecar and the fetchers are not to be counted. */
	want(s, 0, 1);
	rangebed_flip(s->web, IMAGE, 70 * (int64_t)VERITY_GRANULE + 9, 0);
	begin = io_monotonic_ms();
	want(s, 70, 1);
	assert_true(has_landed(s, 70));
	assert_true(io_monotonic_ms() - begin < LAZY_RETRY_MS);
}

/* Another image of the same size. */
static void
wrong_image(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	s->served[0] = calloc(1, (size_t)image_size);
	rangebed_add(s->web, IMAGE, "/img", s->served[0], image_size);
	start_with(s, 1, 1, NULL);
	lazy_fill(s->lazy, LAZY_FILL_NOW);
	want(s, 10, 1);
	assert_false(has_landed(s, 10));
	assert_int_equal(s->why.code, CODE_BLOCK_DIGEST);
	/* It is not fetched from end to end for nothing. */
	lazy_fill(s->lazy, LAZY_FILL_NOT);
	assert_in_range(fetched(s), 0, 6 << 20);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("T26 a server without ranges makes the image unfit", image_without_ranges),
		TEST("T27 a server with other ranges makes the image unfit",
		     image_with_other_range),
		TEST("T26 a server that had ranges is given time to have them again",
		     ranges_come_and_go),
		TEST("T26 another source with ranges serves", other_source_has_ranges),
		TEST("an image that is gone fails the readers, until it is there again",
		     image_absent),
		TEST("what a cut connection brought is used", cut_connections),
		TEST("T08 a range that is cut in its first granule is asked for once more",
		     cut_in_the_first_granule),
		TEST("T41 a server that allows one connection gets one", one_at_a_time),
		TEST("T41 a busy server is not stormed", always_busy),
		TEST("a wrong granule is fetched once more", wrong_then_right),
		TEST("a granule that is wrong from every source is EBADMSG", wrong_everywhere),
		TEST("T32 a granule that is wrong from one source comes from the other",
		     wrong_from_one_source),
		TEST("T44 another image of the same size is noticed early", wrong_image),
	};

	signal(SIGPIPE, SIG_IGN);
	cmocka_set_test_filter(getenv("VMIMAGEFS_TEST"));
	return cmocka_run_group_tests_name("lazy_sources", tests, make_data, free_data);
}
