/*
 * test_listversion.c - the order of list versions.  The answers are those of vmcatcher 0.6.3.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/listversion.h"

struct pair {
	const char *older, *newer;
};

static int
sign(int n)
{
	return (n > 0) - (n < 0);
}

static void
assert_older(const struct pair *pairs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (sign(listversion_compare(pairs[i].older, pairs[i].newer)) != -1)
			fail_msg("'%s' is not older than '%s'", pairs[i].older, pairs[i].newer);
		if (sign(listversion_compare(pairs[i].newer, pairs[i].older)) != 1)
			fail_msg("'%s' is not newer than '%s'", pairs[i].newer, pairs[i].older);
	}
}

static void
numbers_count_by_value(void **state)
{
	static const struct pair pairs[] = {
		{ "1", "2" }, { "9", "10" }, { "1.9", "1.10" }, { "2.0", "10.0" },
		{ "3.3.0-1", "3.3.0-2" }, { "20141029", "20150618211400" },
		{ "2", "99999999999999999999" },
		{ "99999999999999999998", "99999999999999999999" },
		{ "007", "8" }, { "0", "1" },
	};

	(void)state;
	assert_older(pairs, sizeof(pairs) / sizeof(pairs[0]));
}

static void
a_longer_version_is_newer(void **state)
{
	static const struct pair pairs[] = {
		{ "", "0" }, { "1", "1.0" }, { "1.0", "1.0.0" }, { "1.", "1.0" }, { "1", "1." },
		{ "a", "a1" }, { "1-2", "1-2/3" },
	};

	(void)state;
	assert_older(pairs, sizeof(pairs) / sizeof(pairs[0]));
}

static void
a_number_is_newer_than_a_word(void **state)
{
	static const struct pair pairs[] = {
		{ "1.rc1", "1.0" }, { "1.a", "1.0" }, { "alpha", "1" }, { "1..2", "1.2" },
		{ "1a", "1" }, { "1.0rc1", "1.0" },
	};

	(void)state;
	assert_older(pairs, sizeof(pairs) / sizeof(pairs[0]));
}

static void
words_count_run_by_run(void **state)
{
	static const struct pair pairs[] = {
		{ "1.0a", "1.0b" }, { "rc9", "rc10" }, { "1.rc2x", "1.rc10a" }, { "a", "ab" },
		{ "A", "a" }, { "1,2", "1-2" }, { "1-2", "1.2" }, { "1.2", "1/2" },
		{ "v1.2", "v1.3" }, { "x", "1x" },
	};

	(void)state;
	assert_older(pairs, sizeof(pairs) / sizeof(pairs[0]));
}

static void
equal_values_are_one_version(void **state)
{
	static const struct pair pairs[] = {
		{ "", "" }, { "1.0", "1.0" }, { "1.0", "1.00" }, { "01.5", "1.4" },
		{ "a01", "a1" }, { "0", "000" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		assert_int_equal(listversion_compare(pairs[i].older, pairs[i].newer), 0);
		assert_int_equal(listversion_compare(pairs[i].newer, pairs[i].older), 0);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "L17 numbers in a version count by value, of any length", numbers_count_by_value,
		  NULL, NULL, NULL },
		{ "a version that goes on is newer", a_longer_version_is_newer, NULL, NULL, NULL },
		{ "a number is newer than a word", a_number_is_newer_than_a_word,
		  NULL, NULL, NULL },
		{ "words are compared by runs of digits and other bytes", words_count_run_by_run,
		  NULL, NULL, NULL },
		{ "a number written with leading zeros ends the comparison as equal",
		  equal_values_are_one_version, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests_name("listversion", tests, NULL, NULL);
}
