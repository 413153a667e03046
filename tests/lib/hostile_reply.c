/*
 * hostile_reply.c - what the answers of the scripted web server are made of.
 */
#include "config.h"

#include "hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t
reply_arg(const struct request *r, int64_t other)
{
	return r->arg[0] != '\0' ? strtoll(r->arg, NULL, 10) : other;
}

struct part
reply_part(const struct request *r, const char *etag)
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

bool
reply_head(struct conn *c, const struct request *r, const struct part *p, const char *etag)
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

bool
reply_length(struct conn *c, int64_t len)
{
	return conn_printf(c, "Content-Length: %lld\r\n\r\n", (long long)len);
}

bool
reply_no_length(struct conn *c)
{
	return conn_printf(c, "Connection: close\r\n\r\n");
}

bool
reply_well(struct conn *c, const struct request *r, const char *etag)
{
	struct part p = reply_part(r, etag);

	if (r->range_first >= r->size)
		return conn_printf(c, "HTTP/1.1 416 Range Not Satisfiable\r\n"
				   "Content-Range: bytes */%lld\r\nContent-Length: 0\r\n\r\n",
				   (long long)r->size);
	return reply_head(c, r, &p, etag) && reply_length(c, p.len) &&
	       conn_body(c, r->data + p.first, p.len);
}

bool
reply_slowly(struct conn *c, const unsigned char *data, int64_t len, int64_t bytes_a_second)
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

bool
reply_copy(struct conn *c, const struct request *r,
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
	good = reply_well(c, &changed, "\"v1\"");
	free(copy);
	return good;
}

bool
reply_zeros(struct conn *c, int64_t n)
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
