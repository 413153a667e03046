/*
 * test_stamp.c - dates of lists, names and output; spans of the configuration.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "core/stamp.h"

static void
accepts_the_one_form(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds;
	} cases[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2011-03-10T17:09:12Z", 1299776952 },
		{ "2000-02-29T23:59:59Z", 951868799 },
		{ "2026-11-21T10:00:00Z", 1795255200 },
		{ "2100-03-01T00:00:00Z", 4107542400 },
		{ "2499-12-31T22:00:00Z", 16725218400 },
		{ "9999-12-31T23:59:59Z", 253402300799 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[STAMP_BYTES];
		int64_t seconds = -1;

		assert_true(stamp_parse(cases[i].text, &seconds));
		assert_int_equal(seconds, cases[i].seconds);
		stamp_format(seconds, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void
refuses_other_forms(void **state)
{
	static const char *const cases[] = {
		"", "2026-11-21", "2026-11-21T10:00:00", "2026-11-21T10:00:00+01:00",
		"2026-11-21T10:00:00.123Z", "2026-02-30T10:00:00Z", "2026-02-29T10:00:00Z",
		"2100-02-29T00:00:00Z", "2026-13-01T10:00:00Z", "2026-00-01T10:00:00Z",
		"2026-11-00T10:00:00Z", "2026-11-31T10:00:00Z", "2026-11-21T24:00:00Z",
		"2026-11-21T10:60:00Z", "2026-11-21T10:00:60Z", "26-11-21T10:00:00Z",
		"0000-11-21T10:00:00Z", "1969-12-31T23:59:59Z", "10000-01-01T00:00:00Z",
		"2026-11-21 10:00:00Z", "2026-11-21t10:00:00z", " 2026-11-21T10:00:00Z",
		"2026-11-21T10:00:00Z ", "2026-11-21T10:00:00Z\n", "2026-1-21T10:00:00Z",
		"+026-11-21T10:00:00Z", "2026-11-21T1 :00:00Z", "now",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t seconds;

		if (stamp_parse(cases[i], &seconds))
			fail_msg("'%s' was accepted", cases[i]);
	}
}

static void
ignores_the_time_zone(void **state)
{
	char text[STAMP_BYTES];
	int64_t seconds;

	(void)state;
	setenv("TZ", "Asia/Kathmandu", 1);
	tzset();
	assert_true(stamp_parse("2026-07-01T00:00:00Z", &seconds));
	assert_int_equal(seconds, 1782864000);
	stamp_format(seconds, text);
	assert_string_equal(text, "2026-07-01T00:00:00Z");
	unsetenv("TZ");
	tzset();
}

static void
writes_names(void **state)
{
	char text[STAMP_BYTES];

	(void)state;
	stamp_format_name(1795255200, text);
	assert_string_equal(text, "2026-11-21_10-00-00");
}

static void
clamps_what_cannot_be_written(void **state)
{
	char text[STAMP_BYTES];

	(void)state;
	stamp_format(-1, text);
	assert_string_equal(text, "1970-01-01T00:00:00Z");
	stamp_format(INT64_MAX, text);
	assert_string_equal(text, "9999-12-31T23:59:59Z");
}

static void
every_day_survives_a_round_trip(void **state)
{
	(void)state;
	for (int64_t day = 0; day < 150000; day += 13) {
		char text[STAMP_BYTES];
		int64_t seconds;

		stamp_format(day * 86400 + 1, text);
		assert_true(stamp_parse(text, &seconds));
		assert_int_equal(seconds, day * 86400 + 1);
	}
}

static void
accepts_spans(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds;
	} cases[] = {
		{ "0", 0 }, { "30", 30 }, { "30s", 30 }, { "5m", 300 }, { "6h", 21600 },
		{ "30d", 2592000 }, { "36525d", 3155760000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t seconds = -1;

		assert_true(stamp_parse_span(cases[i].text, &seconds));
		assert_int_equal(seconds, cases[i].seconds);
	}
}

static void
refuses_other_spans(void **state)
{
	static const char *const cases[] = {
		"", "s", "-1", "+1", "1.5h", "1 h", " 1", "5 ", "5w", "5min", "1h30m", "36526d",
		"99999999999999999999", "0x10", "9223372036854775807d",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t seconds;

		if (stamp_parse_span(cases[i], &seconds))
			fail_msg("'%s' was accepted", cases[i]);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "L13 a date is YYYY-MM-DDTHH:MM:SSZ from 1970 to 9999", accepts_the_one_form,
		  NULL, NULL, NULL },
		{ "L13 a date of any other form is refused", refuses_other_forms,
		  NULL, NULL, NULL },
		{ "the time zone has no effect on dates", ignores_the_time_zone, NULL, NULL, NULL },
		{ "a time in a file name has neither colons nor letters", writes_names,
		  NULL, NULL, NULL },
		{ "a time outside 1970 to 9999 is written as the nearest in it",
		  clamps_what_cannot_be_written, NULL, NULL, NULL },
		{ "what is written is read back as the same time", every_day_survives_a_round_trip,
		  NULL, NULL, NULL },
		{ "a span is a number with s, m, h, d or nothing", accepts_spans,
		  NULL, NULL, NULL },
		{ "a span of any other form or over 100 years is refused", refuses_other_spans,
		  NULL, NULL, NULL },
	};

	return cmocka_run_group_tests_name("stamp", tests, NULL, NULL);
}
