/*
 * hostile_modes.c - the ways in which a web server can go wrong, one function each.
 *
 * /MODE[:ARG]/NAME serves the data file NAME in that manner.  Every mode that sends a body honours
 * Range unless ranges are what it gets wrong; all send the ETag "v1" unless said otherwise.
 * Ranges, validators and wrong bytes are in hostile_ranges.c.
 *
 * /range-MODE is MODE for requests with a Range, and as it should be for others;
 * /once-MODE is MODE for the first request of a path, and as it should be from then on;
 * /half-MODE is MODE, but the first response ends after half of the file.
 */
#include "config.h"

#include "hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20 };

/* ---- as it should be --------------------------------------------------------------------- */

static bool
mode_ok(struct conn *c, const struct request *r)
{
	return reply_well(c, r, "\"v1\"");
}

static bool
mode_rate(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	return reply_head(c, r, &p, "\"v1\"") && reply_length(c, p.len) &&
	       reply_slowly(c, r->data + p.first, p.len, reply_arg(r, 10 * MIB));
}

static bool
mode_auth(struct conn *c, const struct request *r)
{
	/* "user:secret" */
	if (strcmp(r->authorization, "Basic dXNlcjpzZWNyZXQ=") == 0)
		return reply_well(c, r, "\"v1\"");
	return conn_printf(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n"
			   "Content-Length: 0\r\n\r\n");
}

/* ---- time ---------------------------------------------------------------------------------- */

static bool
mode_silent(struct conn *c, const struct request *r)
{
	return conn_wait_release(c) && reply_well(c, r, "\"v1\"");
}

static bool
mode_headerdrip(struct conn *c, const struct request *r)
{
	char head[128];
	int ms = (int)reply_arg(r, 1000);

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
	struct part p = reply_part(r, "\"v1\"");

	return reply_head(c, r, &p, "\"v1\"") && reply_length(c, p.len) &&
	       reply_slowly(c, r->data + p.first, p.len, reply_arg(r, 100));
}

static bool
mode_stall(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");
	int64_t at = r->size * reply_arg(r, 50) / 100;
	int64_t now = at > p.first ? at - p.first : 0;

	if (now > p.len)
		now = p.len;
	return reply_head(c, r, &p, "\"v1\"") && reply_length(c, p.len) &&
	       conn_body(c, r->data + p.first, now) && conn_wait_release(c) &&
	       conn_body(c, r->data + p.first + now, p.len - now);
}

/* Stalls for the first request of a path only: a resumed transfer goes through. */
static bool
mode_stallonce(struct conn *c, const struct request *r)
{
	return r->nth == 1 ? mode_stall(c, r) : reply_well(c, r, "\"v1\"");
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
	return p->len * reply_arg(r, 50) / 100;
}

static bool
mode_cut(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (reply_head(c, r, &p, "\"v1\"") && reply_length(c, p.len))
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
	return r->nth == 1 ? mode_cut(c, r) : reply_well(c, r, "\"v1\"");
}

static bool
mode_cutnolen(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (reply_head(c, r, &p, "\"v1\"") && reply_no_length(c))
		conn_body(c, r->data + p.first, cut_at(r, &p));
	return false;
}

static bool
mode_cutchunked(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (reply_head(c, r, &p, "\"v1\"") &&
	    conn_printf(c, "Transfer-Encoding: chunked\r\n\r\n%llx\r\n", (unsigned long long)p.len))
		conn_body(c, r->data + p.first, cut_at(r, &p));
	return false;
}

/* The first N responses of a path end after 1/(N+1) of the file each. */
static bool
mode_drops(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");
	int64_t n = reply_arg(r, 3);
	int64_t most = r->size / (n + 1);
	bool cut = r->nth <= n && p.len > most;

	if (!reply_head(c, r, &p, "\"v1\"") || !reply_length(c, p.len) ||
	    !conn_body(c, r->data + p.first, cut ? most : p.len))
		return false;
	return !cut;
}

/* Every response ends after ARG bytes. */
static bool
mode_every(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");
	int64_t most = reply_arg(r, MIB);

	if (!reply_head(c, r, &p, "\"v1\"") || !reply_length(c, p.len) ||
	    !conn_body(c, r->data + p.first, p.len > most ? most : p.len))
		return false;
	return p.len <= most;
}

/* ---- lengths ------------------------------------------------------------------------------- */

static bool
mode_more(struct conn *c, const struct request *r)
{
	int64_t n = reply_arg(r, 1000);

	return conn_printf(c, "HTTP/1.1 200 OK\r\n") && reply_length(c, r->size + n) &&
	       conn_body(c, r->data, r->size) && reply_zeros(c, n);
}

static bool
mode_less(struct conn *c, const struct request *r)
{
	int64_t n = reply_arg(r, 1000);

	return conn_printf(c, "HTTP/1.1 200 OK\r\n") && reply_length(c, r->size - n) &&
	       conn_body(c, r->data, r->size - n);
}

static bool
mode_endless(struct conn *c, const struct request *r)
{
	if (conn_printf(c, "HTTP/1.1 200 OK\r\n") && reply_no_length(c) &&
	    conn_body(c, r->data, r->size))
		while (reply_zeros(c, MIB))
			;
	return false;
}

static bool
mode_minus(struct conn *c, const struct request *r)
{
	if (conn_printf(c, "HTTP/1.1 200 OK\r\n") && reply_no_length(c))
		conn_body(c, r->data, r->size - 1);
	return false;
}

static bool
mode_plus(struct conn *c, const struct request *r)
{
	if (conn_printf(c, "HTTP/1.1 200 OK\r\n") && reply_no_length(c) &&
	    conn_body(c, r->data, r->size))
		reply_zeros(c, 1);
	return false;
}

/* ---- headers ------------------------------------------------------------------------------- */

static bool
mode_headerflood(struct conn *c, const struct request *r)
{
	conn_printf(c, "HTTP/1.1 200 OK\r\n");
	for (int64_t i = 0; i < reply_arg(r, 200000); i++)
		if (!conn_printf(c, "X-Flood-%lld: 0123456789\r\n", (long long)i))
			return false;
	return reply_length(c, r->size) && conn_body(c, r->data, r->size);
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
	       reply_length(c, r->size) && conn_body(c, r->data, r->size);
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
	       reply_length(c, r->size) && conn_body(c, r->data, r->size);
}

static bool
mode_tegzip(struct conn *c, const struct request *r)
{
	if (conn_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n") && reply_no_length(c))
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
	int64_t n = reply_arg(r, 5);

	if (n <= 0)
		return reply_well(c, r, "\"v1\"");
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
	int64_t status = reply_arg(r, 500);
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
	if (r->nth > reply_arg(r, 1))
		return reply_well(c, r, "\"v1\"");
	return conn_printf(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
}

static bool
mode_portal(struct conn *c, const struct request *r)
{
	static const char page[] = "<html><title>Please log in</title></html>\n";

	(void)r;
	return conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n") &&
	       reply_length(c, (int64_t)sizeof(page) - 1) &&
	       conn_body(c, page, (int64_t)sizeof(page) - 1);
}

/* ---- table --------------------------------------------------------------------------------- */

static const struct mode modes[] = {
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
};

enum { N_MODES = sizeof(modes) / sizeof(modes[0]) };

static const struct mode *
find_mode(const char *name, const struct mode *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].name, name) == 0)
			return &list[i];
	return NULL;
}

/* What stands in front of the name; "ok" if the mode is not for this request. */
static const char *
take_prefixes(struct conn *c, const struct request *r)
{
	const char *name = r->mode;

	if (strncmp(name, "range-", 6) == 0)
		name = r->range_first >= 0 ? name + 6 : "ok";
	if (strncmp(name, "once-", 5) == 0) {
		name = r->nth == 1 ? name + 5 : "ok";
	} else if (strncmp(name, "half-", 5) == 0) {
		name += 5;
		if (r->nth == 1)
			conn_cut_after(c, r->size / 2);
	}
	return name;
}

bool
mode_serve(struct conn *c, const struct request *r)
{
	const char *name = take_prefixes(c, r);
	size_t n;
	const struct mode *ranges = hostile_range_modes(&n);
	const struct mode *m = find_mode(name, modes, N_MODES);

	if (m == NULL)
		m = find_mode(name, ranges, n);
	if (m == NULL)
		return conn_printf(c, "HTTP/1.1 404 No such mode\r\nContent-Length: 0\r\n\r\n");
	return m->serve(c, r);
}

static void
help_of(const struct mode *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		printf("  /%s%s %s\n", list[i].name, list[i].help[0] == ':' ? "" : " ",
		       list[i].help);
}

void
mode_help(void)
{
	size_t n;
	const struct mode *ranges = hostile_range_modes(&n);

	help_of(modes, N_MODES);
	help_of(ranges, n);
	printf("  /range-MODE the same for requests with a Range only\n"
	       "  /once-MODE the same for the first request only\n"
	       "  /half-MODE the first response ends after half of the file\n");
}
