/*
 * stamp.c - points in time as text.
 *
 * The calendar is computed here, from the number of days since 1970 in the proleptic Gregorian
 * calendar, because strptime() and mktime() depend on the locale, on TZ and on what the C library
 * thinks of 30 February.  All values are UTC; a leap second cannot be written.
 */
#include "config.h"
#include "stamp.h"

#include <string.h>
#include <time.h>

enum { YEAR_MIN = 1970, YEAR_MAX = 9999, DAY_SECONDS = 86400 };

#define STAMP_LAST 253402300799LL	/* 9999-12-31T23:59:59Z */
#define SPAN_LAST (36525LL * DAY_SECONDS)	/* a hundred years */

/* Where in the text each number stands, and what it may be. */
static const struct part {
	int at, len, min, max;
} parts[] = {
	{ 0, 4, YEAR_MIN, YEAR_MAX },
	{ 5, 2, 1, 12 },
	{ 8, 2, 1, 31 },
	{ 11, 2, 0, 23 },
	{ 14, 2, 0, 59 },
	{ 17, 2, 0, 59 },
};

enum { N_PARTS = sizeof(parts) / sizeof(parts[0]) };

static bool
is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int
days_in_month(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return days[month - 1] + (month == 2 && is_leap(year) ? 1 : 0);
}

/* Leap days in the years 1 to year. */
static int64_t
leap_days_until(int year)
{
	return year / 4 - year / 100 + year / 400;
}

static int64_t
days_since_1970(int year, int month, int day)
{
	int64_t days = (int64_t)(year - YEAR_MIN) * 365;

	days += leap_days_until(year - 1) - leap_days_until(YEAR_MIN - 1);
	for (int m = 1; m < month; m++)
		days += days_in_month(year, m);
	return days + day - 1;
}

static bool
has_form(const char *text, const char *form)
{
	size_t i;

	for (i = 0; form[i] != '\0'; i++) {
		bool digit = text[i] >= '0' && text[i] <= '9';

		if (form[i] == '0' ? !digit : text[i] != form[i])
			return false;
	}
	return text[i] == '\0';
}

static int
number_at(const char *text, int len)
{
	int n = 0;

	for (int i = 0; i < len; i++)
		n = n * 10 + (text[i] - '0');
	return n;
}

bool
stamp_parse(const char *text, int64_t *seconds)
{
	int n[N_PARTS];

	if (!has_form(text, "0000-00-00T00:00:00Z"))
		return false;
	for (int i = 0; i < N_PARTS; i++) {
		n[i] = number_at(text + parts[i].at, parts[i].len);
		if (n[i] < parts[i].min || n[i] > parts[i].max)
			return false;
	}
	if (n[2] > days_in_month(n[0], n[1]))
		return false;
	*seconds = days_since_1970(n[0], n[1], n[2]) * DAY_SECONDS
		+ n[3] * 3600 + n[4] * 60 + n[5];
	return true;
}

static void
put_number(char *at, int len, int n)
{
	for (int i = len - 1; i >= 0; i--) {
		at[i] = (char)('0' + n % 10);
		n /= 10;
	}
}

/* Fills the digits of a form; what cannot be written is shown as the nearest that can. */
static void
format(int64_t seconds, const char *form, char out[STAMP_BYTES])
{
	time_t t = seconds < 0 ? 0 : seconds > STAMP_LAST ? STAMP_LAST : seconds;
	struct tm tm;
	int n[N_PARTS];

	gmtime_r(&t, &tm);
	n[0] = tm.tm_year + 1900;
	n[1] = tm.tm_mon + 1;
	n[2] = tm.tm_mday;
	n[3] = tm.tm_hour;
	n[4] = tm.tm_min;
	n[5] = tm.tm_sec;
	memcpy(out, form, strlen(form) + 1);
	for (int i = 0; i < N_PARTS; i++)
		put_number(out + parts[i].at, parts[i].len, n[i]);
}

void
stamp_format(int64_t seconds, char out[STAMP_BYTES])
{
	format(seconds, "0000-00-00T00:00:00Z", out);
}

void
stamp_format_name(int64_t seconds, char out[STAMP_BYTES])
{
	format(seconds, "0000-00-00_00-00-00", out);
}

int64_t
stamp_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec;
}

/* Seconds in a unit of time; 0 if it is none. */
static int64_t
unit_seconds(const char *unit)
{
	if (*unit == '\0')
		return 1;
	if (unit[1] != '\0')
		return 0;
	switch (*unit) {
	case 's':
		return 1;
	case 'm':
		return 60;
	case 'h':
		return 3600;
	case 'd':
		return DAY_SECONDS;
	}
	return 0;
}

bool
stamp_parse_span(const char *text, int64_t *seconds)
{
	const char *p = text;
	int64_t n = 0, unit;

	for (; *p >= '0' && *p <= '9'; p++) {
		n = n * 10 + (*p - '0');
		if (n > SPAN_LAST)
			return false;
	}
	unit = unit_seconds(p);
	if (p == text || unit == 0 || n > SPAN_LAST / unit)
		return false;
	*seconds = n * unit;
	return true;
}
