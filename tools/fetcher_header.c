/*
 * fetcher_header.c - reading and judging HTTP response headers (RFC 9110, RFC 9112).
 *
 * libcurl frames the message, but it believes too much for our purpose (7.88.1, measured): of two
 * different Content-Length lines the last one wins, a length of 23 digits means "unlimited", a 206
 * with another Content-Range than asked is a success, and so is a 200 to a range request.  So the
 * lines that decide which bytes of the file will come are read here again, strictly, and compared
 * with the request before one byte of the body is passed on.
 *
 * What may answer a request:
 *
 *   asked          answer                              body starts at
 *   whole file     200                                 0
 *   from offset    206, Content-Range first == offset  offset
 *   from offset    200 (no ranges, or file changed)    0: whoever asked starts again
 *
 *   a range        206, Content-Range within it,       offset
 *                  first == offset
 *
 * Everything else is refused.  A 206 may end before the file, or the range, does: its Content-Range
 * proves which bytes it brings, and the rest is asked for again.  Who asked for a range (a length)
 * has a digest for just these bytes and no use for others: there a 200 is refused too, and so is a
 * range of a file whose size is signed and not told.
 */
#include "config.h"

#include "fetcher_header.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <time.h>

void
header_init(struct header *h, int64_t now)
{
	memset(h, 0, sizeof(*h));
	h->now = now;
	h->content_length = -1;
	h->range_total = -1;
}

/* ---- values ---------------------------------------------------------------------------- */

struct text {
	const char *p;
	size_t len;
};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static void
trim(struct text *t)
{
	while (t->len > 0 && is_blank(t->p[0])) {
		t->p++;
		t->len--;
	}
	while (t->len > 0 && (is_blank(t->p[t->len - 1]) || t->p[t->len - 1] == '\r' ||
			      t->p[t->len - 1] == '\n'))
		t->len--;
}

static bool
text_is(const struct text *t, const char *word)
{
	return t->len == strlen(word) && strncasecmp(t->p, word, t->len) == 0;
}

/* 18 digits cannot overflow, and no file of ours is larger than LIMIT_IMAGE_BYTES. */
static bool
take_number(struct text *t, int64_t *value)
{
	size_t n = 0;
	int64_t v = 0;

	while (n < t->len && t->p[n] >= '0' && t->p[n] <= '9') {
		if (n == 18)
			return false;
		v = v * 10 + (t->p[n] - '0');
		n++;
	}
	if (n == 0)
		return false;
	t->p += n;
	t->len -= n;
	*value = v;
	return true;
}

static bool
take_char(struct text *t, char c)
{
	if (t->len == 0 || t->p[0] != c)
		return false;
	t->p++;
	t->len--;
	return true;
}

/* ---- fields ---------------------------------------------------------------------------- */

static int
read_content_length(struct header *h, struct text value, struct err *err)
{
	int64_t n = 0;

	if (!take_number(&value, &n) || value.len != 0)
		return err_refuse(err, CODE_RANGE, "malformed Content-Length");
	if (h->content_length >= 0 && h->content_length != n)
		return err_refuse(err, CODE_RANGE, "two different Content-Length lines");
	h->content_length = n;
	return 0;
}

/* Content-Range: bytes 5-9/10, or 5-9/ and a star for "size unknown" (RFC 9110 section 14.4). */
static int
read_content_range(struct header *h, struct text value, struct err *err)
{
	bool good;

	/* A 416 says "bytes", a star and the size: no range at all, and refused by its status. */
	if (h->status != 206)
		return 0;
	good = !h->has_range && value.len > 6 && strncasecmp(value.p, "bytes ", 6) == 0;
	if (good) {
		value.p += 6;
		value.len -= 6;
		good = take_number(&value, &h->range_first) && take_char(&value, '-') &&
		       take_number(&value, &h->range_last) && take_char(&value, '/');
	}
	if (good && !take_char(&value, '*'))
		good = take_number(&value, &h->range_total);
	if (!good || value.len != 0 || h->range_last < h->range_first ||
	    (h->range_total >= 0 && h->range_last >= h->range_total))
		return err_refuse(err, CODE_RANGE, "malformed Content-Range");
	h->has_range = true;
	return 0;
}

/* Only a strong validator says that bytes are the same (RFC 9110 section 8.8.1). */
static void
read_etag(struct header *h, struct text value)
{
	if (value.len >= 2 && strncmp(value.p, "W/", 2) == 0) {
		h->etag_is_weak = true;
		return;
	}
	if (value.len < 2 || value.len >= sizeof(h->etag) || value.p[0] != '"' ||
	    value.p[value.len - 1] != '"')
		return;
	for (size_t i = 1; i < value.len - 1; i++) {
		unsigned char c = (unsigned char)value.p[i];

		if (c <= ' ' || c == '"' || c >= 0x7f)
			return;
	}
	memcpy(h->etag, value.p, value.len);
	h->etag[value.len] = '\0';
}

static void
read_retry_after(struct header *h, struct text value)
{
	char date[64];
	struct tm tm;
	int64_t seconds = 0;
	struct text rest = value;

	if (value.len > 0 && value.p[0] >= '0' && value.p[0] <= '9') {
		if (!take_number(&rest, &seconds))
			seconds = HEADER_RETRY_AFTER_MAX;
	} else if (value.len < sizeof(date)) {
		memcpy(date, value.p, value.len);
		date[value.len] = '\0';
		memset(&tm, 0, sizeof(tm));
		if (strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm) != NULL)
			seconds = (int64_t)timegm(&tm) - h->now;
	}
	if (seconds > HEADER_RETRY_AFTER_MAX)
		seconds = HEADER_RETRY_AFTER_MAX;
	h->retry_after = seconds > 0 ? (int)seconds : 0;
}

static int
read_location(struct header *h, struct text value, struct err *err)
{
	if (value.len >= sizeof(h->location))
		return err_refuse(err, CODE_LIMIT, "redirect to an address of more than %d bytes",
				  LIMIT_URI_BYTES);
	memcpy(h->location, value.p, value.len);
	h->location[value.len] = '\0';
	return 0;
}

/* We ask for no other coding; one that comes unasked would be decoded by libcurl. */
static int
read_transfer_encoding(struct header *h, struct text value, struct err *err)
{
	if (text_is(&value, "chunked"))
		h->chunked = true;
	else if (!text_is(&value, "identity"))
		return err_refuse(err, CODE_RANGE, "transfer coding '%.*s' was not asked for",
				  (int)(value.len < 64 ? value.len : 64), value.p);
	return 0;
}

/* ---- lines ----------------------------------------------------------------------------- */

/* "HTTP/1.1 200 OK": a new response, interim or final; what was counted stays counted. */
static bool
read_status_line(struct header *h, const char *line, size_t len)
{
	size_t bytes = h->bytes;
	size_t at = 5;
	int status = 0;

	if (len < 12 || strncmp(line, "HTTP/", 5) != 0)
		return false;
	while (at < len && line[at] != ' ')
		at++;
	for (size_t i = at + 1; i < at + 4 && i < len; i++) {
		if (line[i] < '0' || line[i] > '9')
			return false;
		status = status * 10 + (line[i] - '0');
	}
	header_init(h, h->now);
	h->bytes = bytes;
	h->status = status;
	return true;
}

static int
read_field(struct header *h, struct text name, struct text value, struct err *err)
{
	int rc = 0;

	if (text_is(&name, "Content-Length"))
		rc = read_content_length(h, value, err);
	else if (text_is(&name, "Content-Range"))
		rc = read_content_range(h, value, err);
	else if (text_is(&name, "Transfer-Encoding"))
		rc = read_transfer_encoding(h, value, err);
	else if (text_is(&name, "Location"))
		rc = read_location(h, value, err);
	else if (text_is(&name, "ETag"))
		read_etag(h, value);
	else if (text_is(&name, "Retry-After"))
		read_retry_after(h, value);
	return rc;
}

int
header_line(struct header *h, const char *line, size_t len, struct err *err)
{
	const char *colon;
	struct text name, value;

	h->bytes += len;
	if (h->bytes > LIMIT_HEADER_BYTES)
		return err_refuse(err, CODE_LIMIT, "response header of more than %d bytes",
				  LIMIT_HEADER_BYTES);
	if (h->complete || read_status_line(h, line, len))
		return 0;
	value = (struct text){ line, len };
	trim(&value);
	if (value.len == 0) {
		/* 1xx is followed by the real answer; 101 would leave HTTP and is final. */
		h->complete = h->status >= 200 || h->status == 101;
		return 0;
	}
	colon = memchr(line, ':', len);
	if (colon == NULL)
		return 0;
	name = (struct text){ line, (size_t)(colon - line) };
	value = (struct text){ colon + 1, len - name.len - 1 };
	trim(&value);
	return read_field(h, name, value, err);
}

/* ---- judging --------------------------------------------------------------------------- */

bool
header_is_redirect(const struct header *h)
{
	if (!h->complete || h->location[0] == '\0')
		return false;
	return h->status == 301 || h->status == 302 || h->status == 303 || h->status == 307 ||
	       h->status == 308;
}

static int
judge_range(const struct header *h, const struct fetch_request *req, struct header_body *body,
	    struct err *err)
{
	int64_t len = h->range_last - h->range_first + 1;

	if (req->offset == 0 && req->length == 0)
		return err_refuse(err, CODE_RANGE, "a part was sent, all was asked for");
	if (!h->has_range)
		return err_refuse(err, CODE_RANGE, "status 206 without Content-Range");
	if (h->range_first != req->offset)
		return err_refuse(err, CODE_RANGE, "asked for bytes from %lld, got bytes from %lld",
				  (long long)req->offset, (long long)h->range_first);
	if (req->length > 0 && len > req->length)
		return err_refuse(err, CODE_RANGE, "asked for %lld bytes, a range of %lld came",
				  (long long)req->length, (long long)len);
	if (req->length > 0 && req->expected_size >= 0 && h->range_total < 0)
		return err_refuse(err, CODE_RANGE, "a range of a file of unknown size");
	if (!h->chunked && h->content_length >= 0 && h->content_length != len)
		return err_refuse(err, CODE_RANGE, "Content-Length and Content-Range disagree");
	/* If-Range forbids a 206 of another file; who sends one has not understood it. */
	if (req->etag[0] != '\0' && (h->etag_is_weak ||
	    (h->etag[0] != '\0' && strcmp(h->etag, req->etag) != 0)))
		return err_refuse(err, CODE_RANGE, "range of a file that has changed meanwhile");
	body->first = h->range_first;
	body->end = h->range_last + 1;
	body->total = h->range_total;
	return 0;
}

static int
judge_size(const struct fetch_request *req, const struct header_body *body, struct err *err)
{
	if (body->total >= 0 && req->expected_size >= 0 && body->total != req->expected_size)
		return err_refuse(err, CODE_SIZE, "server announces %lld bytes, signed are %lld",
				  (long long)body->total, (long long)req->expected_size);
	if (body->total > req->max_bytes || body->end > req->max_bytes)
		return err_refuse(err, CODE_TOO_MUCH,
				  "server announces %lld bytes, at most %lld are accepted",
				  (long long)(body->total > body->end ? body->total : body->end),
				  (long long)req->max_bytes);
	return 0;
}

int
header_judge(const struct header *h, const struct fetch_request *req, struct header_body *body,
	     struct err *err)
{
	int rc = 0;

	body->first = 0;
	body->end = body->total = h->chunked ? -1 : h->content_length;
	if (h->status == 206)
		rc = judge_range(h, req, body, err);
	else if (h->status == 416)
		rc = err_refuse(err, CODE_RANGE, "HTTP status 416: no bytes from %lld on",
				(long long)req->offset);
	else if (h->status != 200)
		rc = err_refuse(err, CODE_DOWNLOAD, "HTTP status %d", h->status);
	else if (req->length > 0)
		rc = err_refuse(err, CODE_RANGE,
				"no range but the whole file was sent: a server without ranges");
	if (rc == 0)
		rc = judge_size(req, body, err);
	return rc;
}
