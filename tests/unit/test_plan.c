/*
 * test_plan.c - what the engine decides: what to fetch unasked, when to try again, what to purge.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "core/limits.h"
#include "core/plan.h"
#include "core/verity.h"

enum { NOW = 1795255200 };

/* ---- prefetch -------------------------------------------------------------------------------- */

static void
prefetches_by_policy(void **state)
{
	static const struct {
		int prefetch;
		bool is_pending, has_handlers, wanted;
		enum object_state state;
		bool result;
	} cases[] = {
		/* a new version of a verified image: always, unless forbidden */
		{ PREFETCH_AUTO, true, false, true, OBJECT_MISSING, true },
		{ PREFETCH_AUTO, true, false, true, OBJECT_FAILED, true },
		{ PREFETCH_NEVER, true, false, true, OBJECT_MISSING, false },
		{ PREFETCH_ALWAYS, true, false, true, OBJECT_MISSING, true },
		/* what was selected and never read: its first reader fetches it */
		{ PREFETCH_AUTO, false, false, true, OBJECT_MISSING, false },
		{ PREFETCH_NEVER, false, false, true, OBJECT_MISSING, false },
		{ PREFETCH_ALWAYS, false, false, true, OBJECT_MISSING, true },
		/* handlers wait for it */
		{ PREFETCH_AUTO, false, true, true, OBJECT_MISSING, true },
		{ PREFETCH_NEVER, false, true, true, OBJECT_MISSING, false },
		{ PREFETCH_AUTO, false, true, true, OBJECT_VERIFIED, false },
		/* what nobody selected, what is here */
		{ PREFETCH_AUTO, false, true, false, OBJECT_MISSING, false },
		{ PREFETCH_ALWAYS, false, false, false, OBJECT_MISSING, false },
		{ PREFETCH_ALWAYS, true, false, false, OBJECT_MISSING, false },
		{ PREFETCH_ALWAYS, true, false, true, OBJECT_VERIFIED, false },
		{ PREFETCH_AUTO, true, false, true, OBJECT_VERIFIED, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct conf conf = { .prefetch = cases[i].prefetch };
		struct object_row row = { .wanted = cases[i].wanted, .state = cases[i].state };

		if (plan_prefetch(&conf, &row, cases[i].is_pending, cases[i].has_handlers) !=
		    cases[i].result)
			fail_msg("case %zu", i);
	}
}

/* ---- block mode ------------------------------------------------------------------------------ */

static void
reads_in_blocks_what_is_signed(void **state)
{
	const struct object_row good = {
		.size = VERITY_GRANULE + 1, .has_root = true, .strict_reason = (char[]){ "" },
		.state = OBJECT_MISSING,
	};
	struct object_row row = good;

	(void)state;
	assert_true(plan_blocks(&row));
	row.state = OBJECT_FAILED;
	assert_true(plan_blocks(&row));
	row.state = OBJECT_VERIFIED;
	assert_false(plan_blocks(&row));
	row = good;
	row.has_root = false;
	assert_false(plan_blocks(&row));
	row = good;
	row.strict_reason = (char[]){ "the sidecar is short" };
	assert_false(plan_blocks(&row));
	row = good;
	row.size = VERITY_GRANULE;
	assert_false(plan_blocks(&row));
}

static void
fills_by_policy(void **state)
{
	static const struct {
		int fill, prefetch;
		bool is_pending, has_handlers, is_asked;
		enum lazy_fill result;
	} cases[] = {
		{ FILL_IDLE, PREFETCH_AUTO, false, false, false, LAZY_FILL_IDLE },
		{ FILL_NOW, PREFETCH_AUTO, false, false, false, LAZY_FILL_NOW },
		{ FILL_NEVER, PREFETCH_AUTO, false, false, false, LAZY_FILL_NOT },
		{ FILL_NEVER, PREFETCH_NEVER, false, false, false, LAZY_FILL_NOT },
		/* a new version is to be whole before it replaces the old one */
		{ FILL_IDLE, PREFETCH_AUTO, true, false, false, LAZY_FILL_IDLE },
		{ FILL_NOW, PREFETCH_AUTO, true, false, false, LAZY_FILL_NOW },
		{ FILL_NEVER, PREFETCH_AUTO, true, false, false, LAZY_FILL_IDLE },
		{ FILL_NEVER, PREFETCH_NEVER, true, false, false, LAZY_FILL_NOT },
		/* what is to be here without a reader */
		{ FILL_NEVER, PREFETCH_ALWAYS, false, false, false, LAZY_FILL_IDLE },
		{ FILL_NOW, PREFETCH_ALWAYS, false, false, false, LAZY_FILL_NOW },
		{ FILL_NEVER, PREFETCH_AUTO, false, true, false, LAZY_FILL_IDLE },
		{ FILL_NEVER, PREFETCH_NEVER, false, true, false, LAZY_FILL_NOT },
		/* a command waits */
		{ FILL_NEVER, PREFETCH_NEVER, false, false, true, LAZY_FILL_NOW },
		{ FILL_IDLE, PREFETCH_AUTO, true, false, true, LAZY_FILL_NOW },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct conf conf = { .fill = cases[i].fill, .prefetch = cases[i].prefetch };

		if (plan_fill(&conf, cases[i].is_pending, cases[i].has_handlers,
			      cases[i].is_asked) != cases[i].result)
			fail_msg("case %zu", i);
	}
}

static void
tells_readers_what_the_manual_lists(void **state)
{
	static const struct {
		int rc;
		enum code code;
		int result;
	} cases[] = {
		{ -ETIMEDOUT, CODE_SLOW, -ETIMEDOUT },
		{ -ECONNREFUSED, CODE_SLOW, -EHOSTUNREACH },
		{ -EREMOTEIO, CODE_SLOW, -EHOSTUNREACH },
		{ -EBADMSG, CODE_BLOCK_DIGEST, -EBADMSG },
		{ -ENOSPC, CODE_FULL, -ENOSPC },
		{ -EIO, CODE_CORRUPT, -EIO },
		{ -EPIPE, CODE_NONE, -EIO },
		{ -EMFILE, CODE_NONE, -EIO },
		{ -ENOMEM, CODE_NONE, -EIO },
		{ 0, CODE_NONE, -EIO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err why = { .rc = cases[i].rc, .code = cases[i].code };

		assert_int_equal(plan_reader_errno(&why), cases[i].result);
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
	assert_int_equal(plan_purge_before(&always, NOW), INT64_MIN);
	assert_int_equal(plan_purge_before(&never, NOW), INT64_MAX);
	/* A clock that was set back must not delete. */
	assert_int_equal(plan_purge_before(&age, NOW), NOW - AGE);
}

#define TEST(title, fn) { .name = title, .test_func = fn }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("L24 prefetch says what is fetched before anybody reads it",
		     prefetches_by_policy),
		TEST("an image is read block by block if its tree is signed and nothing speaks"
		     " against it", reads_in_blocks_what_is_signed),
		TEST("fill says what is fetched of an image beyond what is read", fills_by_policy),
		TEST("readers get the errno values that the manual lists",
		     tells_readers_what_the_manual_lists),
		TEST("T31 wrong bytes are tried five times a list version", tries_five_times),
		TEST("a failed image is not tried again before its time", waits_for_its_time),
		TEST("the wait between tries doubles from 2 s to 5 min, with jitter",
		     backs_off_by_doubling),
		TEST("T24 a server's Retry-After is obeyed up to 5 min", obeys_retry_after),
		TEST("A21 expire_keep says when a withdrawn image may go", purges_by_policy),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
