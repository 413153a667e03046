/*
 * test_fetcher_header.c - what HTTP response headers are believed.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tools/fetcher_header.h"

enum { NOW = 1795255200 };	/* Sat, 21 Nov 2026 10:00:00 GMT */

/* Feeds the lines, stops at the first refusal and returns its code. */
static enum code
feed(struct header *h, const char *const *lines)
{
	struct err err = { 0 };

	header_init(h, NOW);
	for (; *lines != NULL; lines++)
		if (header_line(h, *lines, strlen(*lines), &err) != 0)
			return err.code;
	return CODE_NONE;
}

#define FEED(h, ...) feed(h, (const char *const[]){ __VA_ARGS__, NULL })

static enum code
judge(const struct header *h, int64_t offset, int64_t expected, const char *etag,
      struct header_body *body)
{
	struct fetch_request req = { .offset = offset, .max_bytes = 1000,
				     .expected_size = expected };
	struct err err = { 0 };

	snprintf(req.etag, sizeof(req.etag), "%s", etag);
	return header_judge(h, &req, body, &err) == 0 ? CODE_NONE : err.code;
}

static void
whole_file(void **state)
{
	struct header h;
	struct header_body body;

	(void)state;
	assert_int_equal(FEED(&h, "HTTP/1.1 200 OK\r\n", "content-length: 100\r\n",
			      "ETag: \"abc\"\r\n", "\r\n"), CODE_NONE);
	assert_true(h.complete);
	assert_string_equal(h.etag, "\"abc\"");
	assert_int_equal(judge(&h, 0, 100, "", &body), CODE_NONE);
	assert_int_equal(body.first, 0);
	assert_int_equal(body.total, 100);
}

static void
interim_responses(void **state)
{
	struct header h;

	(void)state;
	assert_int_equal(FEED(&h, "HTTP/1.1 100 Continue\r\n", "Content-Length: 7\r\n", "\r\n"),
			 CODE_NONE);
	assert_false(h.complete);
	header_line(&h, "HTTP/1.1 200 OK\r\n", 17, NULL);
	header_line(&h, "\r\n", 2, NULL);
	assert_true(h.complete);
	assert_int_equal(h.content_length, -1);
}

static void
header_flood(void **state)
{
	struct header h;
	struct err err = { 0 };
	int lines = 0;

	(void)state;
	header_init(&h, NOW);
	header_line(&h, "HTTP/1.1 200 OK\r\n", 17, NULL);
	while (lines < 200000 && header_line(&h, "X-Flood: 0123456789\r\n", 21, &err) == 0)
		lines++;
	assert_int_equal(err.code, CODE_LIMIT);
	assert_true(lines <= LIMIT_HEADER_BYTES / 21);
}

static void
endless_continue(void **state)
{
	struct header h;
	struct err err = { 0 };
	int n = 0;

	(void)state;
	header_init(&h, NOW);
	while (n < 100000 && header_line(&h, "HTTP/1.1 100 Continue\r\n", 23, &err) == 0 &&
	       header_line(&h, "\r\n", 2, &err) == 0)
		n++;
	assert_int_equal(err.code, CODE_LIMIT);
}

static void
content_length(void **state)
{
	struct header h;

	(void)state;
	assert_int_equal(FEED(&h, "HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n",
			      "Content-Length: 6\r\n"), CODE_RANGE);
	assert_int_equal(FEED(&h, "HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n",
			      "Content-Length: 5\r\n"), CODE_NONE);
	assert_int_equal(FEED(&h, "HTTP/1.1 200 OK\r\n", "Content-Length: -5\r\n"), CODE_RANGE);
	assert_int_equal(FEED(&h, "HTTP/1.1 200 OK\r\n",
			      "Content-Length: 12345678901234567890123\r\n"),
			 CODE_RANGE);
	assert_int_equal(FEED(&h, "HTTP/1.1 200 OK\r\n", "Content-Length: 5, 6\r\n"), CODE_RANGE);
	assert_int_equal(FEED(&h, "HTTP/1.1 200 OK\r\n", "Content-Length:\r\n"), CODE_RANGE);
}

static void
sizes(void **state)
{
	struct header h;
	struct header_body body;

	(void)state;
	FEED(&h, "HTTP/1.1 200 OK\r\n", "Content-Length: 101\r\n", "\r\n");
	assert_int_equal(judge(&h, 0, 100, "", &body), CODE_SIZE);
	assert_int_equal(judge(&h, 0, 102, "", &body), CODE_SIZE);
	FEED(&h, "HTTP/1.1 200 OK\r\n", "Content-Length: 1001\r\n", "\r\n");
	assert_int_equal(judge(&h, 0, -1, "", &body), CODE_TOO_MUCH);
	FEED(&h, "HTTP/1.1 206 Part\r\n", "Content-Range: bytes 10-98/99\r\n", "\r\n");
	assert_int_equal(judge(&h, 10, 100, "", &body), CODE_SIZE);
	/* The total is not said, but the part alone is too long. */
	FEED(&h, "HTTP/1.1 206 Part\r\n", "Content-Range: bytes 10-1000/*\r\n", "\r\n");
	assert_int_equal(judge(&h, 10, -1, "", &body), CODE_TOO_MUCH);
}

static void
chunked(void **state)
{
	struct header h;
	struct header_body body;

	(void)state;
	FEED(&h, "HTTP/1.1 200 OK\r\n", "Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n",
	     "\r\n");
	assert_int_equal(judge(&h, 0, 100, "", &body), CODE_NONE);
	assert_int_equal(body.total, -1);
	assert_int_equal(FEED(&h, "HTTP/1.1 200 OK\r\n", "Transfer-Encoding: gzip, chunked\r\n"),
			 CODE_RANGE);
}

static void
range_as_asked(void **state)
{
	struct header h;
	struct header_body body;

	(void)state;
	FEED(&h, "HTTP/1.1 206 Partial Content\r\n", "Content-Range: bytes 10-99/100\r\n",
	     "Content-Length: 90\r\n", "ETag: \"v\"\r\n", "\r\n");
	assert_int_equal(judge(&h, 10, 100, "\"v\"", &body), CODE_NONE);
	assert_int_equal(body.first, 10);
	assert_int_equal(body.end, 100);
	assert_int_equal(body.total, 100);
	assert_int_equal(judge(&h, 9, 100, "\"v\"", &body), CODE_RANGE);
	assert_int_equal(judge(&h, 0, 100, "", &body), CODE_RANGE);
}

static void
range_shorter(void **state)
{
	struct header h;
	struct header_body body;

	(void)state;
	FEED(&h, "HTTP/1.1 206 Partial Content\r\n", "Content-Range: bytes 10-49/100\r\n",
	     "Content-Length: 40\r\n", "\r\n");
	assert_int_equal(judge(&h, 10, 100, "", &body), CODE_NONE);
	assert_int_equal(body.end, 50);
	FEED(&h, "HTTP/1.1 206 Partial Content\r\n", "Content-Range: bytes 10-49/100\r\n",
	     "Content-Length: 90\r\n", "\r\n");
	assert_int_equal(judge(&h, 10, 100, "", &body), CODE_RANGE);
}

static void
range_ignored(void **state)
{
	struct header h;
	struct header_body body;

	(void)state;
	FEED(&h, "HTTP/1.1 200 OK\r\n", "Content-Length: 100\r\n", "\r\n");
	assert_int_equal(judge(&h, 10, 100, "\"v\"", &body), CODE_NONE);
	assert_int_equal(body.first, 0);
}

/* Bytes 10..49 of a file of 100. */
static enum code
judge_part(const char *const *lines, struct header_body *body)
{
	struct fetch_request req = { .offset = 10, .length = 40, .max_bytes = 100,
				     .expected_size = 100 };
	struct header h;
	struct err err = { 0 };
	enum code code = feed(&h, lines);

	if (code != CODE_NONE)
		return code;
	return header_judge(&h, &req, body, &err) == 0 ? CODE_NONE : err.code;
}

#define PART(body, ...) judge_part((const char *const[]){ __VA_ARGS__, NULL }, body)
#define H206 "HTTP/1.1 206 Part\r\n"
#define RANGE(text) "Content-Range: bytes " text "\r\n", "\r\n"

static void
part_as_asked(void **state)
{
	struct header_body body;

	(void)state;
	assert_int_equal(PART(&body, H206, RANGE("10-49/100")), CODE_NONE);
	assert_int_equal(body.first, 10);
	assert_int_equal(body.end, 50);
	assert_int_equal(body.total, 100);
	assert_int_equal(PART(&body, H206, RANGE("10-10/100")), CODE_NONE);
	assert_int_equal(body.end, 11);
	/* No If-Range was sent: the digest tells whether these are the bytes. */
	assert_int_equal(PART(&body, H206, "ETag: W/\"x\"\r\n", RANGE("10-49/100")), CODE_NONE);
}

static void
part_refused(void **state)
{
	struct header_body body;

	(void)state;
	assert_int_equal(PART(&body, "HTTP/1.1 200 OK\r\n", "Content-Length: 100\r\n", "\r\n"),
			 CODE_RANGE);
	assert_int_equal(PART(&body, H206, "\r\n"), CODE_RANGE);
	assert_int_equal(PART(&body, H206, RANGE("10-50/100")), CODE_RANGE);
	assert_int_equal(PART(&body, H206, RANGE("9-49/100")), CODE_RANGE);
	assert_int_equal(PART(&body, H206, RANGE("11-49/100")), CODE_RANGE);
	assert_int_equal(PART(&body, H206, RANGE("10-49/*")), CODE_RANGE);
	assert_int_equal(PART(&body, H206, "Content-Length: 41\r\n", RANGE("10-49/100")),
			 CODE_RANGE);
	assert_int_equal(PART(&body, H206, RANGE("10-49/101")), CODE_SIZE);
	assert_int_equal(PART(&body, H206, "Content-Type: multipart/byteranges; boundary=x\r\n",
			      "\r\n"), CODE_RANGE);
	assert_int_equal(PART(&body, "HTTP/1.1 416 No\r\n", "\r\n"), CODE_RANGE);
	assert_int_equal(PART(&body, "HTTP/1.1 503 No\r\n", "\r\n"), CODE_DOWNLOAD);
}

/* From byte 0 a length asks for a part just as well. */
static void
part_from_the_start(void **state)
{
	struct fetch_request req = { .length = 40, .max_bytes = 100, .expected_size = 100 };
	struct header_body body;
	struct header h;

	(void)state;
	FEED(&h, H206, RANGE("0-39/100"));
	assert_int_equal(header_judge(&h, &req, &body, NULL), 0);
	assert_int_equal(body.end, 40);
	FEED(&h, "HTTP/1.1 200 OK\r\n", "Content-Length: 40\r\n", "\r\n");
	assert_true(header_judge(&h, &req, &body, NULL) < 0);
	/* Where nothing is known of the file, zeros must not pass for what the server has said. */
	req.expected_size = -1;
	FEED(&h, H206, "\r\n");
	assert_true(header_judge(&h, &req, &body, NULL) < 0);
}

static void
range_malformed(void **state)
{
	static const char *const bad[] = {
		"Content-Range: 10-99/100\r\n", "Content-Range: bytes 10-9/100\r\n",
		"Content-Range: bytes 10-100/100\r\n", "Content-Range: bytes */100\r\n",
		"Content-Range: bytes 10-99\r\n", "Content-Range: bytes -10-99/100\r\n",
		"Content-Range: bytes 10-99/100x\r\n",
		"Content-Range: bytes 10-9999999999999999999/*\r\n",
	};
	struct header h;
	struct header_body body;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(FEED(&h, "HTTP/1.1 206 Part\r\n", bad[i]), CODE_RANGE);
	assert_int_equal(FEED(&h, "HTTP/1.1 206 Part\r\n", "Content-Range: bytes 1-2/3\r\n",
			      "Content-Range: bytes 1-2/3\r\n"), CODE_RANGE);
	FEED(&h, "HTTP/1.1 206 Part\r\n", "\r\n");
	assert_int_equal(judge(&h, 10, 100, "", &body), CODE_RANGE);
	FEED(&h, "HTTP/1.1 416 No\r\n", "Content-Range: bytes */100\r\n", "\r\n");
	assert_int_equal(judge(&h, 10, 100, "", &body), CODE_RANGE);
}

static void
changed_file(void **state)
{
	struct header h;
	struct header_body body;

	(void)state;
	FEED(&h, "HTTP/1.1 206 Part\r\n", "Content-Range: bytes 10-99/100\r\n", "ETag: \"new\"\r\n",
	     "\r\n");
	assert_int_equal(judge(&h, 10, 100, "\"old\"", &body), CODE_RANGE);
	FEED(&h, "HTTP/1.1 206 Part\r\n", "Content-Range: bytes 10-99/100\r\n",
	     "ETag: W/\"old\"\r\n", "\r\n");
	assert_int_equal(judge(&h, 10, 100, "\"old\"", &body), CODE_RANGE);
	FEED(&h, "HTTP/1.1 206 Part\r\n", "Content-Range: bytes 10-99/100\r\n", "\r\n");
	assert_int_equal(judge(&h, 10, 100, "\"old\"", &body), CODE_NONE);
}

static void
validators(void **state)
{
	struct header h;

	(void)state;
	FEED(&h, "HTTP/1.1 200 OK\r\n", "ETag: W/\"v\"\r\n", "\r\n");
	assert_string_equal(h.etag, "");
	assert_true(h.etag_is_weak);
	FEED(&h, "HTTP/1.1 200 OK\r\n", "ETag: bare\r\n", "\r\n");
	assert_string_equal(h.etag, "");
	FEED(&h, "HTTP/1.1 200 OK\r\n", "ETag: \"a\x01" "b\"\r\n", "\r\n");
	assert_string_equal(h.etag, "");
	FEED(&h, "HTTP/1.1 200 OK\r\n", "ETag: \"a\"b\"\r\n", "\r\n");
	assert_string_equal(h.etag, "");
}

static void
statuses(void **state)
{
	static const char *const lines[] = {
		"HTTP/1.1 204 x\r\n", "HTTP/1.1 304 x\r\n", "HTTP/1.1 401 x\r\n",
		"HTTP/1.1 403 x\r\n",
		"HTTP/1.1 404 x\r\n", "HTTP/1.1 410 x\r\n", "HTTP/1.1 429 x\r\n",
		"HTTP/1.1 500 x\r\n",
		"HTTP/1.1 503 x\r\n", "HTTP/1.1 101 x\r\n", "HTTP/1.1 203 x\r\n",
		"HTTP/1.1 302 x\r\n", "HTTP/1.1 999\r\n",
	};
	struct header h;
	struct header_body body;

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		FEED(&h, lines[i], "\r\n");
		assert_true(h.complete);
		assert_int_equal(judge(&h, 0, -1, "", &body), CODE_DOWNLOAD);
	}
}

static void
retry_after(void **state)
{
	struct header h;

	(void)state;
	FEED(&h, "HTTP/1.1 429 x\r\n", "Retry-After: 1000000000\r\n", "\r\n");
	assert_int_equal(h.retry_after, HEADER_RETRY_AFTER_MAX);
	FEED(&h, "HTTP/1.1 429 x\r\n", "Retry-After: 99999999999999999999999999\r\n", "\r\n");
	assert_int_equal(h.retry_after, HEADER_RETRY_AFTER_MAX);
	FEED(&h, "HTTP/1.1 503 x\r\n", "Retry-After: 7\r\n", "\r\n");
	assert_int_equal(h.retry_after, 7);
	FEED(&h, "HTTP/1.1 503 x\r\n", "Retry-After: Sat, 21 Nov 2026 10:01:00 GMT\r\n", "\r\n");
	assert_int_equal(h.retry_after, 60);
	FEED(&h, "HTTP/1.1 503 x\r\n", "Retry-After: Sat, 21 Nov 2015 10:01:00 GMT\r\n", "\r\n");
	assert_int_equal(h.retry_after, 0);
	FEED(&h, "HTTP/1.1 503 x\r\n", "Retry-After: -9\r\n", "\r\n");
	assert_int_equal(h.retry_after, 0);
	FEED(&h, "HTTP/1.1 503 x\r\n", "Retry-After: soon\r\n", "\r\n");
	assert_int_equal(h.retry_after, 0);
}

static void
redirects(void **state)
{
	static char line[LIMIT_URI_BYTES + 64] = "Location: http://h/";
	struct header h;

	(void)state;
	FEED(&h, "HTTP/1.1 302 Found\r\n", "Location:  /other \r\n", "\r\n");
	assert_true(header_is_redirect(&h));
	assert_string_equal(h.location, "/other");
	FEED(&h, "HTTP/1.1 200 OK\r\n", "Location: /other\r\n", "\r\n");
	assert_false(header_is_redirect(&h));
	memset(line + strlen(line), 'x', sizeof(line) - strlen(line) - 1);
	assert_int_equal(FEED(&h, "HTTP/1.1 302 Found\r\n", line), CODE_LIMIT);
}

static void
trailers(void **state)
{
	struct header h;

	(void)state;
	assert_int_equal(FEED(&h, "HTTP/1.1 200 OK\r\n", "ETag: \"a\"\r\n", "\r\n",
			      "Content-Length: 5\r\n", "Content-Length: 6\r\n", "ETag: \"b\"\r\n",
			      "\r\n"),
			 CODE_NONE);
	assert_string_equal(h.etag, "\"a\"");
	assert_int_equal(h.content_length, -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "a 200 with the right length begins at byte 0", whole_file, NULL, NULL, NULL },
		{ "an interim response leaves nothing behind", interim_responses, NULL, NULL,
		  NULL },
		{ "T14 a header of more than 64 KiB is refused", header_flood, NULL, NULL, NULL },
		{ "T15 endless interim responses are refused", endless_continue, NULL, NULL, NULL },
		{ "T17 T18 T19 contradicting, negative and overlong lengths are refused",
		  content_length, NULL, NULL, NULL },
		{ "T11 T12 an announced size other than the signed one is refused before the body",
		  sizes, NULL, NULL, NULL },
		{ "a chunked body announces no size; other transfer codings are refused", chunked,
		  NULL, NULL, NULL },
		{ "a range that begins where it was asked to is accepted", range_as_asked, NULL,
		  NULL, NULL },
		{ "T28 a shorter range is accepted for what its Content-Range proves",
		  range_shorter, NULL, NULL, NULL },
		{ "T26 a 200 to a range request starts the file again", range_ignored, NULL, NULL,
		  NULL },
		{ "T27 a malformed or other Content-Range is refused", range_malformed, NULL, NULL,
		  NULL },
		{ "a part is what was asked for, or the beginning of it", part_as_asked, NULL, NULL,
		  NULL },
		{ "T26 T27 anything else is no answer to a request for a part", part_refused, NULL,
		  NULL, NULL },
		{ "a part from byte 0 is a part too", part_from_the_start, NULL, NULL, NULL },
		{ "T29 a range of a file that has changed is refused", changed_file, NULL, NULL,
		  NULL },
		{ "T29 only a strong validator is kept", validators, NULL, NULL, NULL },
		{ "T24 every other status is a failed download", statuses, NULL, NULL, NULL },
		{ "T24 Retry-After is capped at five minutes", retry_after, NULL, NULL, NULL },
		{ "a redirect is a 3xx with a Location of bounded length", redirects, NULL, NULL,
		  NULL },
		{ "trailers change nothing", trailers, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests_name("fetcher_header", tests, NULL, NULL);
}
