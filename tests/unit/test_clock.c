/*
 * test_clock.c - whether a host's clock can be right.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"

enum { DAY = 86400 };

static const int64_t now = CLOCK_FLOOR + 400 * (int64_t)DAY;

static void
good_without_a_past(void **state)
{
	(void)state;
	assert_int_equal(clock_judge(now, 0, 0), CLOCK_GOOD);
	assert_int_equal(clock_judge(now, now, now), CLOCK_GOOD);
	assert_int_equal(clock_say(CLOCK_GOOD, now, 0, 0, NULL), 0);
}

static void
behind(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_int_equal(clock_judge(1000, 0, 0), CLOCK_BEHIND);
	assert_int_equal(clock_judge(CLOCK_FLOOR - 1, 0, 0), CLOCK_BEHIND);
	assert_int_equal(clock_judge(CLOCK_FLOOR, 0, 0), CLOCK_GOOD);
	assert_int_equal(clock_judge(now, now + CLOCK_SLACK_S, 0), CLOCK_GOOD);
	assert_int_equal(clock_judge(now, now + CLOCK_SLACK_S + 1, 0), CLOCK_BEHIND);
	assert_true(clock_say(CLOCK_BEHIND, 1000, now, 0, &err) < 0);
	assert_int_equal(err.code, CODE_CLOCK);
}

static void
ahead(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_int_equal(clock_judge(now, 0, now - 30 * DAY), CLOCK_GOOD);
	assert_int_equal(clock_judge(now, 0, now - 30 * DAY - 1), CLOCK_AHEAD);
	assert_int_equal(clock_judge(now, 0, now + 1000 * (int64_t)DAY), CLOCK_GOOD);
	assert_true(clock_say(CLOCK_AHEAD, now, 0, now - 40 * DAY, &err) < 0);
	assert_int_equal(err.code, CODE_CLOCK);
}

static void
ahead_for_a_day_in_all(void **state)
{
	struct clock_ahead a = { 0, 0 }, read;
	char text[CLOCK_AHEAD_BYTES];
	int64_t at = now;

	(void)state;
	for (int run = 0; run < 3; run++, at += 8 * DAY) {
		clock_ahead_count(&a, at, 0);
		assert_false(clock_ahead_is_believed(&a));
		at += DAY / 3;
		clock_ahead_count(&a, at, DAY / 3);
		clock_ahead_format(&a, text);
		clock_ahead_parse(text, &read);
		assert_memory_equal(&read, &a, sizeof(a));
		a = read;
	}
	assert_true(clock_ahead_is_believed(&a));
	clock_ahead_count(&a, at, INT64_MAX);
	assert_int_equal(a.seconds, CLOCK_TRUST_S);
}

static void
ahead_and_another_one(void **state)
{
	static const int64_t leaps[] = { -2 * DAY, 31 * DAY };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct clock_ahead a = { DAY - 1, now };

		clock_ahead_count(&a, now + leaps[i], 10);
		assert_int_equal(a.seconds, 0);
		clock_ahead_count(&a, now + leaps[i] + 10, 10);
		assert_int_equal(a.seconds, 10);
	}
}

static void
ahead_text_that_is_none(void **state)
{
	static const char *const texts[] = {
		"", " ", "x", "5", "5 ", "5 x", "-1 1800000000", "86401 1800000000",
		"5 1800000000x",
		"5 1000", "5 9223372036854775807", "99999999999999999999 1800000000",
	};
	struct clock_ahead a;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		clock_ahead_parse(texts[i], &a);
		assert_int_equal(a.seconds, 0);
		assert_int_equal(a.at, 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "a clock without a past is taken as it is", good_without_a_past, NULL, NULL,
		  NULL },
		{ "K03 a clock of the past, or older than a known list, is behind", behind, NULL,
		  NULL, NULL },
		{ "K02 a clock 30 days later than it was last seen is ahead", ahead, NULL, NULL,
		  NULL },
		{ "K02 one that has been ahead for a day is believed, in however many runs",
		  ahead_for_a_day_in_all, NULL, NULL, NULL },
		{ "K02 one that leaps meanwhile counts from the beginning", ahead_and_another_one,
		  NULL, NULL, NULL },
		{ "K02 a note of it that is none counts for nothing", ahead_text_that_is_none, NULL,
		  NULL, NULL },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
