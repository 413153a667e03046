/*
 * hostile_modes.c - the ways in which a web server can go wrong, one function each.
 *
 * /MODE[:ARG]/NAME serves the data file NAME in that manner.  Every mode that sends a body honours
 * Range unless ranges are what it gets wrong; all send the ETag "v1" unless said otherwise.
 * /once-MODE is MODE for the first request of a path, and as it should be from then on;
 * /half-MODE is MODE, but the first response ends after half of the file.
 */
#include "config.h"

#include "hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20 };

/* ---- pieces that modes are made of ------------------------------------------------------- */

static int64_t
arg_or(const struct request *r, int64_t other)
{
	return r->arg[0] != '\0' ? strtoll(r->arg, NULL, 10) : other;
}

/* The part of the file that was asked for; honours If-Range: "v1". */
struct part {
	int64_t first, len;
	bool is_range;
};

static struct part
asked_part(const struct request *r, const char *etag)
{
	struct part p = { 0, r->size, false };

	if (r->range_first < 0 || r->range_first >= r->size)
		return p;
	if (r->if_range[0] != '\0' && strcmp(r->if_range, etag) != 0)
		return p;
	p.first = r->range_first;
	p.len = r->size - p.first;
	if (r->range_last >= p.first && r->range_last < r->size)
		p.len = r->range_last - p.first + 1;
	p.is_range = true;
	return p;
}

static bool
send_head(struct conn *c, const struct request *r, const struct part *p, const char *etag)
{
	bool good = conn_printf(c, "HTTP/1.1 %s\r\nServer: hostile\r\n",
				p->is_range ? "206 Partial Content" : "200 OK");

	if (good && etag[0] != '\0')
		good = conn_printf(c, "ETag: %s\r\n", etag);
	if (good && p->is_range)
		good = conn_printf(c, "Content-Range: bytes %lld-%lld/%lld\r\n",
				   (long long)p->first, (long long)(p->first + p->len - 1),
				   (long long)r->size);
	return good;
}

static bool
send_length(struct conn *c, int64_t len)
{
	return conn_printf(c, "Content-Length: %lld\r\n\r\n", (long long)len);
}

static bool
send_no_length(struct conn *c)
{
	return conn_printf(c, "Connection: close\r\n\r\n");
}

/* Everything as it should be, with this validator. */
static bool
serve_well(struct conn *c, const struct request *r, const char *etag)
{
	struct part p = asked_part(r, etag);

	if (r->range_first >= r->size)
		return conn_printf(c, "HTTP/1.1 416 Range Not Satisfiable\r\n"
				   "Content-Range: bytes */%lld\r\nContent-Length: 0\r\n\r\n",
				   (long long)r->size);
	return send_head(c, r, &p, etag) && send_length(c, p.len) &&
	       conn_body(c, r->data + p.first, p.len);
}

static bool
send_slowly(struct conn *c, const unsigned char *data, int64_t len, int64_t bytes_a_second)
{
	int64_t piece = bytes_a_second / 10 > 0 ? bytes_a_second / 10 : 1;

	while (len > 0) {
		int64_t n = piece < len ? piece : len;

		if (!conn_body(c, data, n) || !conn_sleep_ms(c, (int)(n * 1000 / bytes_a_second)))
			return false;
		data += n;
		len -= n;
	}
	return true;
}

/* The body with a change made to a copy. */
static bool
serve_copy(struct conn *c, const struct request *r,
	   void (*change)(unsigned char *, const struct request *))
{
	unsigned char *copy = malloc((size_t)r->size + 1);
	struct request changed = *r;
	bool good;

	if (copy == NULL)
		return false;
	memcpy(copy, r->data, (size_t)r->size);
	change(copy, r);
	changed.data = copy;
	good = serve_well(c, &changed, "\"v1\"");
	free(copy);
	return good;
}

/* ---- as it should be --------------------------------------------------------------------- */

static bool
mode_ok(struct conn *c, const struct request *r)
{
	return serve_well(c, r, "\"v1\"");
}

static bool
mode_rate(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");

	return send_head(c, r, &p, "\"v1\"") && send_length(c, p.len) &&
	       send_slowly(c, r->data + p.first, p.len, arg_or(r, 10 * MIB));
}

static bool
mode_auth(struct conn *c, const struct request *r)
{
	/* "user:secret" */
	if (strcmp(r->authorization, "Basic dXNlcjpzZWNyZXQ=") == 0)
		return serve_well(c, r, "\"v1\"");
	return conn_printf(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n"
			   "Content-Length: 0\r\n\r\n");
}

/* ---- time ---------------------------------------------------------------------------------- */

static bool
mode_silent(struct conn *c, const struct request *r)
{
	return conn_wait_release(c) && serve_well(c, r, "\"v1\"");
}

static bool
mode_headerdrip(struct conn *c, const struct request *r)
{
	char head[128];
	int ms = (int)arg_or(r, 1000);

	snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\nX-Drip: ",
		 (long long)r->size);
	for (const char *p = head; *p != '\0'; p++)
		if (!conn_send(c, p, 1) || !conn_sleep_ms(c, ms))
			return false;
	while (conn_send(c, "x", 1) && conn_sleep_ms(c, ms))
		;
	return false;
}

static bool
mode_slow(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");

	return send_head(c, r, &p, "\"v1\"") && send_length(c, p.len) &&
	       send_slowly(c, r->data + p.first, p.len, arg_or(r, 100));
}

static bool
mode_stall(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");
	int64_t at = r->size * arg_or(r, 50) / 100;
	int64_t now = at > p.first ? at - p.first : 0;

	if (now > p.len)
		now = p.len;
	return send_head(c, r, &p, "\"v1\"") && send_length(c, p.len) &&
	       conn_body(c, r->data + p.first, now) && conn_wait_release(c) &&
	       conn_body(c, r->data + p.first + now, p.len - now);
}

/* Stalls for the first request of a path only: a resumed transfer goes through. */
static bool
mode_stallonce(struct conn *c, const struct request *r)
{
	return r->nth == 1 ? mode_stall(c, r) : serve_well(c, r, "\"v1\"");
}

/* ---- cut connections ----------------------------------------------------------------------- */

static bool
mode_close(struct conn *c, const struct request *r)
{
	(void)c;
	(void)r;
	return false;
}

static int64_t
cut_at(const struct request *r, const struct part *p)
{
	return p->len * arg_or(r, 50) / 100;
}

static bool
mode_cut(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");

	if (send_head(c, r, &p, "\"v1\"") && send_length(c, p.len))
		conn_body(c, r->data + p.first, cut_at(r, &p));
	return false;
}

static bool
mode_cutwhole(struct conn *c, const struct request *r)
{
	struct request whole = *r;

	whole.range_first = -1;
	return mode_cut(c, &whole);
}

static bool
mode_cutonce(struct conn *c, const struct request *r)
{
	return r->nth == 1 ? mode_cut(c, r) : serve_well(c, r, "\"v1\"");
}

static bool
mode_cutnolen(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");

	if (send_head(c, r, &p, "\"v1\"") && send_no_length(c))
		conn_body(c, r->data + p.first, cut_at(r, &p));
	return false;
}

static bool
mode_cutchunked(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");

	if (send_head(c, r, &p, "\"v1\"") &&
	    conn_printf(c, "Transfer-Encoding: chunked\r\n\r\n%llx\r\n", (unsigned long long)p.len))
		conn_body(c, r->data + p.first, cut_at(r, &p));
	return false;
}

/* The first N responses of a path end after 1/(N+1) of the file each. */
static bool
mode_drops(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");
	int64_t n = arg_or(r, 3);
	int64_t most = r->size / (n + 1);
	bool cut = r->nth <= n && p.len > most;

	if (!send_head(c, r, &p, "\"v1\"") || !send_length(c, p.len) ||
	    !conn_body(c, r->data + p.first, cut ? most : p.len))
		return false;
	return !cut;
}

/* Every response ends after ARG bytes. */
static bool
mode_every(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");
	int64_t most = arg_or(r, MIB);

	if (!send_head(c, r, &p, "\"v1\"") || !send_length(c, p.len) ||
	    !conn_body(c, r->data + p.first, p.len > most ? most : p.len))
		return false;
	return p.len <= most;
}

/* ---- lengths ------------------------------------------------------------------------------- */

static bool
send_zeros(struct conn *c, int64_t n)
{
	static const char zeros[65536];

	while (n > 0) {
		int64_t now = n < (int64_t)sizeof(zeros) ? n : (int64_t)sizeof(zeros);

		if (!conn_body(c, zeros, now))
			return false;
		n -= now;
	}
	return true;
}

static bool
mode_more(struct conn *c, const struct request *r)
{
	int64_t n = arg_or(r, 1000);

	return conn_printf(c, "HTTP/1.1 200 OK\r\n") && send_length(c, r->size + n) &&
	       conn_body(c, r->data, r->size) && send_zeros(c, n);
}

static bool
mode_less(struct conn *c, const struct request *r)
{
	int64_t n = arg_or(r, 1000);

	return conn_printf(c, "HTTP/1.1 200 OK\r\n") && send_length(c, r->size - n) &&
	       conn_body(c, r->data, r->size - n);
}

static bool
mode_endless(struct conn *c, const struct request *r)
{
	if (conn_printf(c, "HTTP/1.1 200 OK\r\n") && send_no_length(c) &&
	    conn_body(c, r->data, r->size))
		while (send_zeros(c, MIB))
			;
	return false;
}

static bool
mode_minus(struct conn *c, const struct request *r)
{
	if (conn_printf(c, "HTTP/1.1 200 OK\r\n") && send_no_length(c))
		conn_body(c, r->data, r->size - 1);
	return false;
}

static bool
mode_plus(struct conn *c, const struct request *r)
{
	if (conn_printf(c, "HTTP/1.1 200 OK\r\n") && send_no_length(c) &&
	    conn_body(c, r->data, r->size))
		send_zeros(c, 1);
	return false;
}

/* ---- headers ------------------------------------------------------------------------------- */

static bool
mode_headerflood(struct conn *c, const struct request *r)
{
	conn_printf(c, "HTTP/1.1 200 OK\r\n");
	for (int64_t i = 0; i < arg_or(r, 200000); i++)
		if (!conn_printf(c, "X-Flood-%lld: 0123456789\r\n", (long long)i))
			return false;
	return send_length(c, r->size) && conn_body(c, r->data, r->size);
}

static bool
mode_continue(struct conn *c, const struct request *r)
{
	(void)r;
	while (conn_printf(c, "HTTP/1.1 100 Continue\r\n\r\n"))
		;
	return false;
}

static bool
mode_garbage(struct conn *c, const struct request *r)
{
	(void)r;
	conn_printf(c, "<html>HTTP/0.9 had no header</html>\n");
	return false;
}

static bool
mode_twolengths(struct conn *c, const struct request *r)
{
	return conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n",
			   (long long)r->size / 2) &&
	       send_length(c, r->size) && conn_body(c, r->data, r->size);
}

static bool
mode_neglength(struct conn *c, const struct request *r)
{
	conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n");
	conn_body(c, r->data, r->size);
	return false;
}

static bool
mode_hugelength(struct conn *c, const struct request *r)
{
	conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 12345678901234567890123\r\n\r\n");
	conn_body(c, r->data, r->size);
	return false;
}

static bool
mode_gzip(struct conn *c, const struct request *r)
{
	return conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n") &&
	       send_length(c, r->size) && conn_body(c, r->data, r->size);
}

static bool
mode_tegzip(struct conn *c, const struct request *r)
{
	if (conn_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n") && send_no_length(c))
		conn_body(c, r->data, r->size);
	return false;
}

/* ---- redirects and statuses ---------------------------------------------------------------- */

static bool
redirect_to(struct conn *c, const char *where)
{
	return conn_printf(c, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n",
			   where);
}

static bool
mode_loop(struct conn *c, const struct request *r)
{
	return redirect_to(c, r->path);
}

/* chain:N leads over N redirects to the file. */
static bool
mode_chain(struct conn *c, const struct request *r)
{
	const char *name = strrchr(r->path, '/');
	char next[REQUEST_TEXT_MAX];
	int64_t n = arg_or(r, 5);

	if (n <= 0)
		return serve_well(c, r, "\"v1\"");
	snprintf(next, sizeof(next), "/chain:%lld%s", (long long)n - 1, name != NULL ? name : "/");
	return redirect_to(c, next);
}

static bool
mode_redirect(struct conn *c, const struct request *r)
{
	return redirect_to(c, strncmp(r->query, "to=", 3) == 0 ? r->query + 3 : "/");
}

static bool
mode_status(struct conn *c, const struct request *r)
{
	int64_t status = arg_or(r, 500);
	bool has_body = status != 204 && status != 304;

	if (!conn_printf(c, "HTTP/1.1 %lld Something\r\n", (long long)status))
		return false;
	if (strncmp(r->query, "retry=", 6) == 0 &&
	    !conn_printf(c, "Retry-After: %s\r\n", r->query + 6))
		return false;
	return conn_printf(c, "%s", has_body ? "Content-Length: 6\r\n\r\nwrong\n" : "\r\n");
}

/* 503 to the first N requests. */
static bool
mode_busy(struct conn *c, const struct request *r)
{
	if (r->nth > arg_or(r, 1))
		return serve_well(c, r, "\"v1\"");
	return conn_printf(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
}

static bool
mode_portal(struct conn *c, const struct request *r)
{
	static const char page[] = "<html><title>Please log in</title></html>\n";

	(void)r;
	return conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n") &&
	       send_length(c, (int64_t)sizeof(page) - 1) &&
	       conn_body(c, page, (int64_t)sizeof(page) - 1);
}

/* ---- ranges and validators ----------------------------------------------------------------- */

static bool
mode_norange(struct conn *c, const struct request *r)
{
	struct request whole = *r;

	whole.range_first = -1;
	return serve_well(c, &whole, "\"v1\"");
}

static bool
mode_wrongrange(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");

	if (p.is_range && p.len > 1) {
		p.first++;
		p.len--;
	}
	return send_head(c, r, &p, "\"v1\"") && send_length(c, p.len) &&
	       conn_body(c, r->data + p.first, p.len);
}

static bool
mode_shortrange(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");

	if (p.is_range && p.len > 1)
		p.len /= 2;
	return send_head(c, r, &p, "\"v1\"") && send_length(c, p.len) &&
	       conn_body(c, r->data + p.first, p.len);
}

/* Says the right range and sends other bytes. */
static bool
mode_lyingrange(struct conn *c, const struct request *r)
{
	struct part p = asked_part(r, "\"v1\"");

	if (!p.is_range)
		return serve_well(c, r, "\"v1\"");
	return send_head(c, r, &p, "\"v1\"") && send_length(c, p.len) && send_zeros(c, p.len);
}

/* The first response is cut; the file is another one from then on. */
static bool
cut_then(struct conn *c, const struct request *r, const char *etag)
{
	struct part p = asked_part(r, etag);

	if (r->nth > 1)
		return serve_well(c, r, etag);
	if (send_head(c, r, &p, "\"v1\"") && send_length(c, p.len))
		conn_body(c, r->data + p.first, p.len / 2);
	return false;
}

static bool
mode_newetag(struct conn *c, const struct request *r)
{
	return cut_then(c, r, "\"v2\"");
}

static bool
mode_weaketag(struct conn *c, const struct request *r)
{
	return serve_well(c, r, "W/\"v1\"");
}

static bool
mode_noetag(struct conn *c, const struct request *r)
{
	return serve_well(c, r, "");
}

/* A range of another version, in spite of If-Range. */
static bool
mode_badifrange(struct conn *c, const struct request *r)
{
	struct request blind = *r;

	blind.if_range[0] = '\0';
	return serve_well(c, &blind, r->range_first < 0 ? "\"v1\"" : "\"v2\"");
}

/* ---- wrong bytes --------------------------------------------------------------------------- */

static void
flip(unsigned char *data, const struct request *r)
{
	int64_t at = r->size / 2;

	if (strcmp(r->arg, "first") == 0)
		at = 0;
	else if (strcmp(r->arg, "last") == 0)
		at = r->size - 1;
	if (r->size > 0)
		data[at] ^= 1;
}

static bool
mode_flip(struct conn *c, const struct request *r)
{
	return serve_copy(c, r, flip);
}

/* Wrong for the first request only. */
static bool
mode_fliponce(struct conn *c, const struct request *r)
{
	return r->nth == 1 ? serve_copy(c, r, flip) : serve_well(c, r, "\"v1\"");
}

static void
zero(unsigned char *data, const struct request *r)
{
	memset(data, 0, (size_t)r->size);
}

static bool
mode_zeros(struct conn *c, const struct request *r)
{
	return serve_copy(c, r, zero);
}

/* Two blocks of 1 MiB change places, or two halves of a smaller file. */
static void
swap_blocks(unsigned char *data, const struct request *r)
{
	size_t n = r->size >= 2 * MIB ? MIB : (size_t)r->size / 2;

	memcpy(data, r->data + n, n);
	memcpy(data + n, r->data, n);
}

static bool
mode_swap(struct conn *c, const struct request *r)
{
	return serve_copy(c, r, swap_blocks);
}

/* ---- table --------------------------------------------------------------------------------- */

static const struct mode {
	const char *name;
	bool (*serve)(struct conn *c, const struct request *r);
	const char *help;
} modes[] = {
	{ "ok", mode_ok, "as it should be" },
	{ "rate", mode_rate, ":N bytes a second" },
	{ "auth", mode_auth, "401 unless user:secret" },
	{ "silent", mode_silent, "no answer until /release" },
	{ "headerdrip", mode_headerdrip, ":MS milliseconds between two bytes of the header" },
	{ "slow", mode_slow, ":N bytes a second (100)" },
	{ "stall", mode_stall, ":P percent, then nothing until /release" },
	{ "stallonce", mode_stallonce, "the same for the first request only" },
	{ "close", mode_close, "before the header" },
	{ "cut", mode_cut, ":P percent of a body with Content-Length" },
	{ "cutwhole", mode_cutwhole, ":P percent, and Range is answered by 200" },
	{ "cutonce", mode_cutonce, "the same for the first request only" },
	{ "cutnolen", mode_cutnolen, ":P percent of a body without a length" },
	{ "cutchunked", mode_cutchunked, ":P percent of a chunk" },
	{ "drops", mode_drops, ":N disconnects, then all is well" },
	{ "every", mode_every, ":N bytes, then a disconnect, every time" },
	{ "more", mode_more, ":N bytes too many, announced" },
	{ "less", mode_less, ":N bytes too few, announced" },
	{ "endless", mode_endless, "no length and no end" },
	{ "minus", mode_minus, "one byte too few, not announced" },
	{ "plus", mode_plus, "one byte too many, not announced" },
	{ "headerflood", mode_headerflood, ":N header lines (200000)" },
	{ "continue", mode_continue, "100 Continue without end" },
	{ "garbage", mode_garbage, "no header (HTTP/0.9)" },
	{ "twolengths", mode_twolengths, "two different Content-Length" },
	{ "neglength", mode_neglength, "Content-Length: -5" },
	{ "hugelength", mode_hugelength, "Content-Length of 23 digits" },
	{ "gzip", mode_gzip, "Content-Encoding: gzip nobody asked for" },
	{ "tegzip", mode_tegzip, "Transfer-Encoding: gzip nobody asked for" },
	{ "loop", mode_loop, "redirect to itself" },
	{ "chain", mode_chain, ":N redirects, then the file" },
	{ "redirect", mode_redirect, "?to=URL (percent-encoded)" },
	{ "status", mode_status, ":N, with ?retry=TEXT as Retry-After" },
	{ "busy", mode_busy, "503 to the first :N requests" },
	{ "portal", mode_portal, "200 text/html" },
	{ "norange", mode_norange, "Range is answered by 200" },
	{ "wrongrange", mode_wrongrange, "206 of the bytes after those asked for" },
	{ "shortrange", mode_shortrange, "206 of the first half of what was asked for" },
	{ "lyingrange", mode_lyingrange, "206 with the right header and zeros" },
	{ "newetag", mode_newetag, "first response cut, then a new ETag" },
	{ "weaketag", mode_weaketag, "W/\"v1\"" },
	{ "noetag", mode_noetag, "no validator" },
	{ "badifrange", mode_badifrange, "If-Range is not understood, the ETag is new" },
	{ "flip", mode_flip, ":first|middle|last, one bit" },
	{ "fliponce", mode_fliponce, "the same for the first request only" },
	{ "zeros", mode_zeros, "right size, all zero" },
	{ "swap", mode_swap, "two blocks of 1 MiB change places" },
};

bool
mode_serve(struct conn *c, const struct request *r)
{
	const char *name = r->mode;

	if (strncmp(name, "once-", 5) == 0) {
		name = r->nth == 1 ? name + 5 : "ok";
	} else if (strncmp(name, "half-", 5) == 0) {
		name += 5;
		if (r->nth == 1)
			conn_cut_after(c, r->size / 2);
	}
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(modes[i].name, name) == 0)
			return modes[i].serve(c, r);
	return conn_printf(c, "HTTP/1.1 404 No such mode\r\nContent-Length: 0\r\n\r\n");
}

void
mode_help(void)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		printf("  /%s%s %s\n", modes[i].name, modes[i].help[0] == ':' ? "" : " ",
		       modes[i].help);
	printf("  /once-MODE the same for the first request only\n"
	       "  /half-MODE the first response ends after half of the file\n");
}
