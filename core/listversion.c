/*
 * listversion.c - the order of hv:version strings.
 *
 * A version is read as items: the delimiters - , . / are items of their own, what stands between
 * them is one item each.  Items are compared in pairs, the first pair that differs decides:
 *
 *	number and number	by value, of any length
 *	number and other	the number is newer
 *	other and other		again in pairs, of runs of digits and runs of other bytes, by the
 *				same rules, and other bytes in byte order
 *
 * If no pair differs the version with more items is newer.  Two numbers of one value written
 * differently (1 and 01) end the comparison as equal, whatever follows.  That is vmcatcher's
 * behaviour, and lists were published under it, so it is kept.
 */
#include "config.h"
#include "listversion.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* A part of a version string; len 0 is past the end. */
struct item {
	const char *at;
	size_t len;
};

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_number(struct item item)
{
	for (size_t i = 0; i < item.len; i++)
		if (!is_digit(item.at[i]))
			return false;
	return item.len > 0;
}

static bool
is_same(struct item a, struct item b)
{
	return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

/* Takes the first item off rest: a delimiter or everything up to one. */
static struct item
next_item(struct item *rest)
{
	static const char delimiters[] = "-,./";
	struct item item = { rest->at, 0 };

	while (item.len < rest->len && memchr(delimiters, item.at[item.len], 4) == NULL)
		item.len++;
	if (item.len == 0 && rest->len > 0)
		item.len = 1;
	rest->at += item.len;
	rest->len -= item.len;
	return item;
}

/* Takes the first run of digits, or of other bytes, off rest. */
static struct item
next_run(struct item *rest)
{
	struct item run = { rest->at, 0 };

	while (run.len < rest->len && is_digit(run.at[run.len]) == is_digit(run.at[0]))
		run.len++;
	rest->at += run.len;
	rest->len -= run.len;
	return run;
}

static int
sign(int n)
{
	return (n > 0) - (n < 0);
}

static struct item
without_zeros(struct item number)
{
	while (number.len > 0 && *number.at == '0') {
		number.at++;
		number.len--;
	}
	return number;
}

static int
compare_numbers(struct item a, struct item b)
{
	a = without_zeros(a);
	b = without_zeros(b);
	if (a.len != b.len)
		return a.len < b.len ? -1 : 1;
	return sign(memcmp(a.at, b.at, a.len));
}

static int
compare_bytes(struct item a, struct item b)
{
	size_t common = a.len < b.len ? a.len : b.len;
	int order = sign(memcmp(a.at, b.at, common));

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Compares two items of which at most one is a number. */
static int
compare_runs(struct item a, struct item b)
{
	for (;;) {
		struct item x = next_run(&a), y = next_run(&b);

		if (x.len == 0 || y.len == 0)
			return (x.len > 0) - (y.len > 0);
		if (is_same(x, y))
			continue;
		if (is_number(x) && is_number(y))
			return compare_numbers(x, y);
		if (is_number(x) || is_number(y))
			return is_number(x) ? 1 : -1;
		return compare_bytes(x, y);
	}
}

int
listversion_compare(const char *a, const char *b)
{
	struct item rest_a = { a, strlen(a) }, rest_b = { b, strlen(b) };

	for (;;) {
		struct item x = next_item(&rest_a), y = next_item(&rest_b);
		int order;

		if (x.len == 0 || y.len == 0)
			return (x.len > 0) - (y.len > 0);
		if (is_same(x, y))
			continue;
		if (is_number(x) && is_number(y))
			return compare_numbers(x, y);
		if (is_number(x) || is_number(y))
			return is_number(x) ? 1 : -1;
		order = compare_runs(x, y);
		if (order != 0)
			return order;
	}
}
