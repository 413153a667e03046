/*
 * hostile_ranges.c - the ways in which a web server can go wrong with parts of a file: ranges,
 * their headers, their validators, their bytes.
 *
 * An offset in a mode's argument is one in the file: /flipat:300000/disk.img has one wrong bit, in
 * every answer that has that byte, whatever range was asked for.
 */
#include "config.h"

#include "hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20, SLOT_MS = 30 };

/* ---- ranges and validators ----------------------------------------------------------------- */

static bool
mode_norange(struct conn *c, const struct request *r)
{
	struct request whole = *r;

	whole.range_first = -1;
	return reply_well(c, &whole, "\"v1\"");
}

static bool
mode_wrongrange(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (p.is_range && p.len > 1) {
		p.first++;
		p.len--;
	}
	return reply_head(c, r, &p, "\"v1\"") && reply_length(c, p.len) &&
	       conn_body(c, r->data + p.first, p.len);
}

static bool
mode_shortrange(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (p.is_range && p.len > 1)
		p.len /= 2;
	return reply_head(c, r, &p, "\"v1\"") && reply_length(c, p.len) &&
	       conn_body(c, r->data + p.first, p.len);
}

/* Says the right range and sends other bytes. */
static bool
mode_lyingrange(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (!p.is_range)
		return reply_well(c, r, "\"v1\"");
	return reply_head(c, r, &p, "\"v1\"") && reply_length(c, p.len) && reply_zeros(c, p.len);
}

/* A 206 whose Content-Range has another total (-1: none), and more headers. */
static bool
head_saying(struct conn *c, const struct part *p, int64_t total, const char *more)
{
	if (!conn_printf(c, "HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\n%s"
			 "Content-Range: bytes %lld-%lld/",
			 more, (long long)p->first, (long long)(p->first + p->len - 1)))
		return false;
	return total >= 0 ? conn_printf(c, "%lld\r\n", (long long)total)
			  : conn_printf(c, "*\r\n");
}

static bool
mode_nototal(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (!p.is_range)
		return reply_well(c, r, "\"v1\"");
	return head_saying(c, &p, -1, "") && reply_length(c, p.len) &&
	       conn_body(c, r->data + p.first, p.len);
}

static bool
mode_othertotal(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (!p.is_range)
		return reply_well(c, r, "\"v1\"");
	return head_saying(c, &p, r->size + 1, "") && reply_length(c, p.len) &&
	       conn_body(c, r->data + p.first, p.len);
}

static bool
mode_norangehead(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (!p.is_range)
		return reply_well(c, r, "\"v1\"");
	return conn_printf(c, "HTTP/1.1 206 Partial Content\r\n") && reply_length(c, p.len) &&
	       conn_body(c, r->data + p.first, p.len);
}

/* Content-Range is right, but the body ends before, or goes on behind it. */
static bool
mode_rangeless(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (!p.is_range)
		return reply_well(c, r, "\"v1\"");
	return head_saying(c, &p, r->size, "") && reply_length(c, p.len / 2) &&
	       conn_body(c, r->data + p.first, p.len / 2);
}

static bool
mode_rangemore(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");
	int64_t n = reply_arg(r, 1000);

	if (!p.is_range)
		return reply_well(c, r, "\"v1\"");
	return head_saying(c, &p, r->size, "") && reply_length(c, p.len + n) &&
	       conn_body(c, r->data + p.first, p.len) && reply_zeros(c, n);
}

static bool
mode_rangeendless(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (!p.is_range)
		return reply_well(c, r, "\"v1\"");
	if (head_saying(c, &p, r->size, "") && reply_no_length(c) &&
	    conn_body(c, r->data + p.first, p.len))
		while (reply_zeros(c, MIB))
			;
	return false;
}

static bool
mode_rangegzip(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (!p.is_range)
		return reply_well(c, r, "\"v1\"");
	return head_saying(c, &p, r->size, "Content-Encoding: gzip\r\n") &&
	       reply_length(c, p.len) && conn_body(c, r->data + p.first, p.len);
}

static bool
mode_multipart(struct conn *c, const struct request *r)
{
	static const char head[] = "\r\n--x\r\nContent-Type: application/octet-stream\r\n\r\n",
			  tail[] = "\r\n--x--\r\n";
	struct part p = reply_part(r, "\"v1\"");
	int64_t n_head = (int64_t)sizeof(head) - 1, n_tail = (int64_t)sizeof(tail) - 1;

	if (!p.is_range)
		return reply_well(c, r, "\"v1\"");
	return conn_printf(c, "HTTP/1.1 206 Partial Content\r\n"
			   "Content-Type: multipart/byteranges; boundary=x\r\n") &&
	       reply_length(c, n_head + p.len + n_tail) && conn_body(c, head, n_head) &&
	       conn_body(c, r->data + p.first, p.len) && conn_body(c, tail, n_tail);
}

/* The first response is cut; the file is another one from then on. */
static bool
cut_then(struct conn *c, const struct request *r, const char *etag)
{
	struct part p = reply_part(r, etag);

	if (r->nth > 1)
		return reply_well(c, r, etag);
	if (reply_head(c, r, &p, "\"v1\"") && reply_length(c, p.len))
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
	return reply_well(c, r, "W/\"v1\"");
}

static bool
mode_noetag(struct conn *c, const struct request *r)
{
	return reply_well(c, r, "");
}

/* A range of another version, in spite of If-Range. */
static bool
mode_badifrange(struct conn *c, const struct request *r)
{
	struct request blind = *r;

	blind.if_range[0] = '\0';
	return reply_well(c, &blind, r->range_first < 0 ? "\"v1\"" : "\"v2\"");
}

/* Another one for each request; the bytes stay. */
static bool
mode_etags(struct conn *c, const struct request *r)
{
	char etag[32];

	snprintf(etag, sizeof(etag), "\"v%d\"", r->nth);
	return reply_well(c, r, etag);
}

/* ---- how many at a time -------------------------------------------------------------------- */

/* Whoever asks while another is being answered is sent away, so many a time. */
static bool
mode_slots(struct conn *c, const struct request *r)
{
	if (conn_active(c) > reply_arg(r, 1))
		return conn_printf(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
	/* So that two who do not wait for each other meet. */
	return conn_sleep_ms(c, SLOT_MS) && reply_well(c, r, "\"v1\"");
}

static bool
mode_wait(struct conn *c, const struct request *r)
{
	return conn_sleep_ms(c, (int)reply_arg(r, 100)) && reply_well(c, r, "\"v1\"");
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
	return reply_copy(c, r, flip);
}

/* Wrong for the first request only. */
static bool
mode_fliponce(struct conn *c, const struct request *r)
{
	return r->nth == 1 ? reply_copy(c, r, flip) : reply_well(c, r, "\"v1\"");
}

static void
zero(unsigned char *data, const struct request *r)
{
	memset(data, 0, (size_t)r->size);
}

static bool
mode_zeros(struct conn *c, const struct request *r)
{
	return reply_copy(c, r, zero);
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
	return reply_copy(c, r, swap_blocks);
}

/* ---- one place in the file ----------------------------------------------------------------- */

static bool
part_has(const struct part *p, int64_t at)
{
	return at >= p->first && at < p->first + p->len;
}

/* The part as it should be, up to a byte in it. */
static bool
part_until(struct conn *c, const struct request *r, const struct part *p, int64_t at)
{
	return reply_head(c, r, p, "\"v1\"") && reply_length(c, p->len) &&
	       conn_body(c, r->data + p->first, at - p->first);
}

static bool
mode_flipat(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");
	int64_t at = reply_arg(r, 0);
	unsigned char wrong;

	if (!part_has(&p, at))
		return reply_well(c, r, "\"v1\"");
	wrong = r->data[at] ^ 1;
	return part_until(c, r, &p, at) && conn_body(c, &wrong, 1) &&
	       conn_body(c, r->data + at + 1, p.first + p.len - at - 1);
}

static bool
mode_stallat(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");
	int64_t at = reply_arg(r, 0);

	if (!part_has(&p, at))
		return reply_well(c, r, "\"v1\"");
	return part_until(c, r, &p, at) && conn_wait_release(c) &&
	       conn_body(c, r->data + at, p.first + p.len - at);
}

static bool
mode_cutat(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");
	int64_t at = reply_arg(r, 0);

	if (!part_has(&p, at))
		return reply_well(c, r, "\"v1\"");
	part_until(c, r, &p, at);
	return false;
}

static bool
mode_refuseat(struct conn *c, const struct request *r)
{
	struct part p = reply_part(r, "\"v1\"");

	if (!part_has(&p, reply_arg(r, 0)))
		return reply_well(c, r, "\"v1\"");
	return conn_printf(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
}

/* The first answer that has the byte is like that; all others are as they should be. */
static bool
only_once(struct conn *c, const struct request *r,
	  bool (*mode)(struct conn *c, const struct request *r))
{
	struct part p = reply_part(r, "\"v1\"");

	if (part_has(&p, reply_arg(r, 0)) && conn_mark(c) == 1)
		return mode(c, r);
	return reply_well(c, r, "\"v1\"");
}

static bool
mode_flipatonce(struct conn *c, const struct request *r)
{
	return only_once(c, r, mode_flipat);
}

static bool
mode_stallatonce(struct conn *c, const struct request *r)
{
	return only_once(c, r, mode_stallat);
}

static bool
mode_cutatonce(struct conn *c, const struct request *r)
{
	return only_once(c, r, mode_cutat);
}

/* ---- table --------------------------------------------------------------------------------- */

static const struct mode modes[] = {
	{ "norange", mode_norange, "Range is answered by 200" },
	{ "wrongrange", mode_wrongrange, "206 of the bytes after those asked for" },
	{ "shortrange", mode_shortrange, "206 of the first half of what was asked for" },
	{ "lyingrange", mode_lyingrange, "206 with the right header and zeros" },
	{ "nototal", mode_nototal, "206 without the size of the file" },
	{ "othertotal", mode_othertotal, "206 of a file that is a byte longer" },
	{ "norangehead", mode_norangehead, "206 without Content-Range" },
	{ "rangeless", mode_rangeless, "206 whose body is half of what its header says" },
	{ "rangemore", mode_rangemore, ":N bytes (1000) more in the body than the 206 says" },
	{ "rangeendless", mode_rangeendless, "206 with a body that does not end" },
	{ "rangegzip", mode_rangegzip, "206 with a Content-Encoding that nobody asked for" },
	{ "multipart", mode_multipart, "206 as multipart/byteranges" },
	{ "newetag", mode_newetag, "first response cut, then a new ETag" },
	{ "weaketag", mode_weaketag, "W/\"v1\"" },
	{ "noetag", mode_noetag, "no validator" },
	{ "badifrange", mode_badifrange, "If-Range is not understood, the ETag is new" },
	{ "etags", mode_etags, "another ETag for each request" },
	{ "slots", mode_slots, ":N requests (1) at a time; 503 to others" },
	{ "wait", mode_wait, ":MS milliseconds (100) before each answer" },
	{ "flip", mode_flip, ":first|middle|last, one bit" },
	{ "fliponce", mode_fliponce, "the same for the first request only" },
	{ "zeros", mode_zeros, "right size, all zero" },
	{ "swap", mode_swap, "two blocks of 1 MiB change places" },
	{ "flipat", mode_flipat, ":OFFSET, one bit of that byte" },
	{ "flipatonce", mode_flipatonce, "the same in the first answer that has it" },
	{ "stallat", mode_stallat, ":OFFSET, nothing from there until /release" },
	{ "stallatonce", mode_stallatonce, "the same in the first answer that has it" },
	{ "cutat", mode_cutat, ":OFFSET, the connection ends there" },
	{ "cutatonce", mode_cutatonce, "the same in the first answer that has it" },
	{ "refuseat", mode_refuseat, ":OFFSET, 503 to who asks for it" },
};

const struct mode *
hostile_range_modes(size_t *n)
{
	*n = sizeof(modes) / sizeof(modes[0]);
	return modes;
}
