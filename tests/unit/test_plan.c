/*
 * test_plan.c - what the engine decides: what to fetch unasked, when to try again, what to purge.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/limits.h"
#include "core/plan.h"

enum { NOW = 1795255200 };

/* ---- prefetch -------------------------------------------------------------------------------- */

static void
prefetches_by_policy(void **state)
{
	static const struct {
		int prefetch;
		bool is_pending, wanted;
		enum object_state state;
		bool result;
	} cases[] = {
		/* a new version of a verified image: always, unless forbidden */
		{ PREFETCH_AUTO, true, true, OBJECT_MISSING, true },
		{ PREFETCH_AUTO, true, true, OBJECT_FAILED, true },
		{ PREFETCH_NEVER, true, true, OBJECT_MISSING, false },
		{ PREFETCH_ALWAYS, true, true, OBJECT_MISSING, true },
		/* what was selected and never read: its first reader fetches it */
		{ PREFETCH_AUTO, false, true, OBJECT_MISSING, false },
		{ PREFETCH_NEVER, false, true, OBJECT_MISSING, false },
		{ PREFETCH_ALWAYS, false, true, OBJECT_MISSING, true },
		/* what nobody selected, what is here */
		{ PREFETCH_ALWAYS, false, false, OBJECT_MISSING, false },
		{ PREFETCH_ALWAYS, true, false, OBJECT_MISSING, false },
		{ PREFETCH_ALWAYS, true, true, OBJECT_VERIFIED, false },
		{ PREFETCH_AUTO, true, true, OBJECT_VERIFIED, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct conf conf = { .prefetch = cases[i].prefetch };
		struct object_row row = { .wanted = cases[i].wanted, .state = cases[i].state };

		if (plan_prefetch(&conf, &row, cases[i].is_pending) != cases[i].result)
			fail_msg("case %zu", i);
	}
}

/* ---- tries ----------------------------------------------------------------------------------- */

static void
tries_five_times(void **state)
{
	struct object_row row = { .next_try = 0 };

	(void)state;
	for (row.tries = 0; row.tries < LIMIT_TRIES; row.tries++)
		assert_true(plan_may_try(&row, NOW));
	assert_false(plan_may_try(&row, NOW));
	assert_int_equal(LIMIT_TRIES, 5);
}

static void
waits_for_its_time(void **state)
{
	struct object_row row = { .tries = 1, .next_try = NOW };

	(void)state;
	assert_false(plan_may_try(&row, NOW - 1));
	assert_true(plan_may_try(&row, NOW));
}

/* Try n+1 waits 2 s * 2^(n-1), from half of it up to all of it, never above five minutes. */
static void
backs_off_by_doubling(void **state)
{
	int64_t whole = 2000;

	(void)state;
	for (int n = 1; n <= 100; n++) {
		int64_t least = plan_backoff_ms(n, 0, 0), most = plan_backoff_ms(n, UINT32_MAX, 0);

		assert_int_equal(least, whole / 2);
		assert_in_range(most, whole * 999 / 1000, whole - 1);
		for (uint32_t random = 0; random < UINT32_MAX - 997 * 4001; random += 997 * 4001) {
			int64_t wait = plan_backoff_ms(n, random, 0);

			assert_true(wait >= least && wait <= most);
		}
		whole = whole * 2 < 300000 ? whole * 2 : 300000;
	}
	assert_int_equal(plan_backoff_ms(INT32_MAX, 0, 0), 150000);
}

static void
obeys_retry_after(void **state)
{
	(void)state;
	assert_int_equal(plan_backoff_ms(1, 0, 60), 60000);
	assert_int_equal(plan_backoff_ms(1, 0, 1), 1000);
	assert_int_equal(plan_backoff_ms(9, 0, 1), 150000);
	assert_int_equal(plan_backoff_ms(1, 0, 301), 300000);
	assert_int_equal(plan_backoff_ms(1, UINT32_MAX, INT32_MAX), 300000);
	/* Nonsense of a server is no reason to hurry. */
	assert_int_equal(plan_backoff_ms(1, 0, -5), 1000);
}

/* ---- purging --------------------------------------------------------------------------------- */

static void
purges_by_policy(void **state)
{
	enum { AGE = 30 * 86400 };
	struct conf always = { .expire_keep = KEEP_ALWAYS }, never = { .expire_keep = KEEP_NEVER };
	struct conf age = { .expire_keep = KEEP_AGE, .expire_keep_age = AGE };

	(void)state;
	assert_false(plan_may_purge(&always, 0, NOW));
	assert_true(plan_may_purge(&never, NOW, NOW));
	assert_false(plan_may_purge(&age, NOW - AGE + 1, NOW));
	assert_true(plan_may_purge(&age, NOW - AGE, NOW));
	/* A clock that was set back must not delete. */
	assert_false(plan_may_purge(&age, NOW + AGE, NOW));
}

#define TEST(title, fn) { .name = title, .test_func = fn }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("L24 prefetch says what is fetched before anybody reads it",
		     prefetches_by_policy),
		TEST("T31 wrong bytes are tried five times a list version", tries_five_times),
		TEST("a failed image is not tried again before its time", waits_for_its_time),
		TEST("the wait between tries doubles from 2 s to 5 min, with jitter",
		     backs_off_by_doubling),
		TEST("T24 a server's Retry-After is obeyed up to 5 min", obeys_retry_after),
		TEST("A21 expire_keep says when a withdrawn image may go", purges_by_policy),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
