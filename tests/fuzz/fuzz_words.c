/*
 * X14: the single values of a list: dates, versions, names, addresses.
 *
 *	0	a date, or a span of time
 *	1	three versions, one a line: their order is one
 *	2	an identifier or title that becomes a file name
 *	3	an address of an image
 *	4	8 bytes: a point in time
 *	5	a URL with a user and a password (core/fetch.h)
 */
#include "config.h"

#include "core/cleanup.h"
#include "core/fetch.h"
#include "core/imageuri.h"
#include "core/limits.h"
#include "core/listversion.h"
#include "core/safename.h"
#include "core/stamp.h"
#include "fuzz.h"

const char *
fuzz_title(void)
{
	return "X14 dates, versions, names and addresses of a list are read in one way only";
}

static void
check_stamp(const char *text)
{
	char back[STAMP_BYTES];
	int64_t seconds = -1;

	if (stamp_parse(text, &seconds)) {
		stamp_format(seconds, back);
		FUZZ_CHECK(strcmp(text, back) == 0 && seconds >= 0);
	}
	if (stamp_parse_span(text, &seconds))
		FUZZ_CHECK(seconds >= 0 && seconds <= 36525LL * 86400);
}

static void
check_time(int64_t seconds)
{
	char text[STAMP_BYTES], name[STAMP_BYTES];
	int64_t back = -1;

	stamp_format(seconds, text);
	stamp_format_name(seconds, name);
	FUZZ_CHECK(stamp_parse(text, &back) && safename_is_safe(name));
	FUZZ_CHECK(back == seconds || seconds < 0 || seconds > 253402300799LL);
}

static int
sign(int n)
{
	return (n > 0) - (n < 0);
}

/* 01 and 1 end a comparison as equal (listversion.c): with them the order is none. */
static bool
has_leading_zero(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if (*p == '0' && p[1] >= '0' && p[1] <= '9' &&
		    (p == text || p[-1] < '0' || p[-1] > '9'))
			return true;
	return false;
}

static void
check_versions(struct fuzz_input *in)
{
	CLEANUP_FREE char *a = fuzz_take_line(in), *b = fuzz_take_line(in), *c = fuzz_take_line(in);

	FUZZ_CHECK(listversion_compare(a, a) == 0);
	FUZZ_CHECK(sign(listversion_compare(a, b)) == -sign(listversion_compare(b, a)));
	if (has_leading_zero(a) || has_leading_zero(b) || has_leading_zero(c))
		return;
	if (listversion_compare(a, b) <= 0 && listversion_compare(b, c) <= 0)
		FUZZ_CHECK(listversion_compare(a, c) <= 0);
}

/* '~' and eight hexadecimal digits at the end, if it has them, are ours. */
static void
check_name(const char *name, bool may_be_mapped)
{
	size_t len = strlen(name), safe = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
						 "abcdefghijklmnopqrstuvwxyz0123456789._+-");

	FUZZ_CHECK(len > 0 && len <= LIMIT_IDENTIFIER_BYTES + 9 && len < SAFENAME_MAX + 32);
	FUZZ_CHECK(name[0] != '.' && name[0] != '-');
	if (safe < len)
		FUZZ_CHECK(may_be_mapped && name[safe] == '~' && len - safe == 9 &&
			   strspn(name + safe + 1, "0123456789abcdef") == 8);
}

static void
check_names(const char *text)
{
	char name[SAFENAME_MAX + 32];

	safename_identifier(text, name);
	check_name(name, true);
	FUZZ_CHECK(safename_is_safe(text) == (strcmp(name, text) == 0));
	safename_title(text, name);
	check_name(name, false);
	FUZZ_CHECK(strlen(name) <= LIMIT_NAME_BYTES && strstr(name, "__") == NULL);
	safename_disambiguate(name, text);
	check_name(name, true);
}

static void
check_address(char *uri)
{
	struct err err = { 0 };

	if (imageuri_check("hv:uri", uri, NULL, &err) == 0) {
		FUZZ_CHECK(strlen(uri) <= LIMIT_URI_BYTES && strpbrk(uri, " \"'\\`\n\r\t") == NULL);
		FUZZ_CHECK(strncasecmp(uri, "http", 4) == 0);
	} else {
		FUZZ_CHECK(err.code == CODE_EXPIRED && err.text[0] != '\0');
	}
	if (imageuri_check("hv:uri", uri, "/srv/images", NULL) == 0 &&
	    strncasecmp(uri, "file", 4) == 0)
		FUZZ_CHECK(strstr(uri, "/srv/images/") != NULL && strstr(uri, "/../") == NULL);
	imageuri_strip_userinfo(uri);
}

static void
check_url(const char *url)
{
	char *clean = NULL, *user = NULL, *password = NULL;
	struct err err = { 0 };

	if (fetch_split_url(url, &clean, &user, &password, &err) == 0) {
		FUZZ_CHECK(clean != NULL && strlen(clean) <= LIMIT_URI_BYTES);
		FUZZ_CHECK((user == NULL) == (password == NULL));
		FUZZ_CHECK(user == NULL || (strlen(user) < FETCH_SECRET_MAX &&
					    strlen(password) < FETCH_SECRET_MAX));
	} else {
		FUZZ_CHECK(clean == NULL && user == NULL && password == NULL);
		FUZZ_CHECK(err.rc == -EINVAL);
	}
	free(clean);
	free(user);
	free(password);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	unsigned kind = fuzz_take_byte(&in);
	CLEANUP_FREE char *text = NULL;

	if (kind == 1) {
		check_versions(&in);
		return 0;
	}
	if (kind == 4) {
		check_time((int64_t)fuzz_take_number(&in, 8));
		return 0;
	}
	text = fuzz_take_text(&in);
	switch (kind) {
	case 2:
		check_names(text);
		break;
	case 3:
		check_address(text);
		break;
	case 5:
		check_url(text);
		break;
	default:
		check_stamp(text);
		break;
	}
	return 0;
}
