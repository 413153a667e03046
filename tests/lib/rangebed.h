/*
 * rangebed.h - a web server within the test: files in memory, ranges, and faults that can be
 * changed while it runs.
 *
 * One thread a connection.  What was asked for is written down: how often, which bytes, over how
 * many connections, how many at a time.  A gate holds answers back until it is opened, so that a
 * test need not sleep for things to be at the same time.
 */
#ifndef VMI_RANGEBED_H
#define VMI_RANGEBED_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { RANGEBED_FILES = 32, RANGEBED_CONNS = 256, RANGEBED_LOG = 4096 };

enum rangebed_mode {
	RB_WELL,
	RB_404,
	RB_WHOLE,		/* 200 and all of it */
	RB_OTHER,		/* 206 of a range that begins a byte later */
	RB_SHORT,		/* 206 of the first half of the range, arg bytes if that is > 0 */
	RB_TOTAL,		/* 206 with another total size */
	RB_ENDLESS,		/* goes on after the range */
	RB_SLOW,		/* arg bytes a second */
	RB_SILENT,		/* takes the request and says nothing */
	RB_CUT,			/* the connection ends after arg bytes of the body */
	RB_CUT_ONCE,		/* only the first one */
	RB_ALONE,		/* 503 over any connection but the one that asked first */
	RB_BUSY,		/* always 503 */
};

struct rangebed_file {
	const char *path;
	const unsigned char *data;
	int64_t size;
	enum rangebed_mode mode;
	int64_t arg;
	int64_t flip;		/* this byte of it is wrong; -1: none */
	int64_t n_flips;	/* that often; 0: always */
	int n_requests, n_refused;
};

struct rangebed {
	int port, listener;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_bool stop;
	bool gate_closed;
	int owner;		/* RB_ALONE */
	int n_threads, n_open, most_open, n_connections, n_answering, most_answering, n_at_gate;
	int conns[RANGEBED_CONNS];
	int64_t body_bytes;
	struct rangebed_file files[RANGEBED_FILES];
	struct { int file; int64_t first, last; } log[RANGEBED_LOG];
	int n_log;
};

struct rangebed_conn {
	struct rangebed *bed;
	int fd;
};

static inline bool
rangebed_send(int fd, const void *data, int64_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len > (1 << 20) ? 1 << 20 : (size_t)len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

static inline bool __attribute__((format(printf, 2, 3)))
rangebed_say(int fd, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return rangebed_send(fd, text, n);
}

static inline bool
rangebed_slowly(int fd, const unsigned char *data, int64_t len, int64_t rate)
{
	struct timespec tick = { 0, 50000000 };

	while (len > 0) {
		int64_t n = rate / 20 > 0 ? rate / 20 : 1;

		n = n < len ? n : len;
		if (!rangebed_send(fd, data, n))
			return false;
		data += n;
		len -= n;
		nanosleep(&tick, NULL);
	}
	return true;
}

/* The body with one byte changed. */
static inline bool
rangebed_body(struct rangebed *b, struct rangebed_file *f, int fd, int64_t first, int64_t len)
{
	int64_t flip = -1;

	pthread_mutex_lock(&b->lock);
	b->body_bytes += len;
	if (f->flip >= first && f->flip < first + len) {
		flip = f->flip;
		if (f->n_flips > 0 && --f->n_flips == 0)
			f->flip = -1;
	}
	pthread_mutex_unlock(&b->lock);
	if (flip >= 0) {
		unsigned char *copy = malloc((size_t)len);
		bool sent;

		memcpy(copy, f->data + first, (size_t)len);
		copy[flip - first] ^= 0x40;
		sent = rangebed_send(fd, copy, len);
		free(copy);
		return sent;
	}
	return rangebed_send(fd, f->data + first, len);
}

static inline bool
rangebed_head(int fd, const struct rangebed_file *f, int64_t first, int64_t len, int64_t total)
{
	(void)f;
	return rangebed_say(fd, "HTTP/1.1 206 Partial Content\r\nContent-Length: %lld\r\n"
			    "Content-Range: bytes %lld-%lld/%lld\r\n\r\n", (long long)len,
			    (long long)first, (long long)(first + len - 1), (long long)total);
}

static inline bool
rangebed_endless(struct rangebed *b, int fd, const struct rangebed_file *f, int64_t first,
		 int64_t len)
{
	static const char zeros[65536];

	if (!rangebed_say(fd, "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n"
			  "Content-Range: bytes %lld-%lld/%lld\r\n\r\n", (long long)first,
			  (long long)(first + len - 1), (long long)f->size) ||
	    !rangebed_send(fd, f->data + first, len))
		return false;
	while (!b->stop && rangebed_send(fd, zeros, sizeof(zeros)))
		;
	return false;
}

/* Until the peer, or the test, ends it. */
static inline bool
rangebed_silent(int fd)
{
	char c;

	return recv(fd, &c, 1, 0) > 0 && false;
}

static inline bool
rangebed_serve(struct rangebed *b, struct rangebed_file *f, int fd, int64_t first, int64_t last)
{
	enum rangebed_mode mode;
	int64_t len = last - first + 1, arg;

	pthread_mutex_lock(&b->lock);
	mode = f->mode;
	arg = f->arg;
	if (mode == RB_CUT_ONCE)
		f->mode = RB_WELL;
	pthread_mutex_unlock(&b->lock);
	switch (mode) {
	case RB_WELL:
	case RB_ALONE:
		break;
	case RB_404:
		return rangebed_say(fd, "HTTP/1.1 404 Not Found\r\n"
				    "Content-Length: 4\r\n\r\nno\r\n");
	case RB_WHOLE:
		return rangebed_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n\r\n",
				    (long long)f->size) &&
		       rangebed_body(b, f, fd, 0, f->size);
	case RB_OTHER:
		return rangebed_head(fd, f, first + 1, len - 1, f->size) &&
		       rangebed_body(b, f, fd, first + 1, len - 1);
	case RB_SHORT:
		len = arg > 0 && arg < len ? arg : len > 1 ? len / 2 : len;
		break;
	case RB_TOTAL:
		return rangebed_head(fd, f, first, len, f->size + 1) &&
		       rangebed_body(b, f, fd, first, len);
	case RB_ENDLESS:
		return rangebed_endless(b, fd, f, first, len);
	case RB_SLOW:
		return rangebed_head(fd, f, first, len, f->size) &&
		       rangebed_slowly(fd, f->data + first, len, arg);
	case RB_SILENT:
		return rangebed_silent(fd);
	case RB_CUT:
	case RB_CUT_ONCE:
		return rangebed_head(fd, f, first, len, f->size) &&
		       rangebed_body(b, f, fd, first, arg < len ? arg : len) && arg >= len;
	case RB_BUSY:
		pthread_mutex_lock(&b->lock);
		f->n_refused++;
		pthread_mutex_unlock(&b->lock);
		rangebed_say(fd, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
		return false;
	}
	return rangebed_head(fd, f, first, len, f->size) && rangebed_body(b, f, fd, first, len);
}

/* One request's text, up to its empty line; false: the peer is gone. */
static inline bool
rangebed_request(int fd, char *text, size_t size)
{
	size_t n = 0;

	while (n + 1 < size) {
		ssize_t got = recv(fd, text + n, size - 1 - n, 0);

		if (got <= 0)
			return false;
		n += (size_t)got;
		text[n] = '\0';
		if (strstr(text, "\r\n\r\n") != NULL)
			return true;
	}
	return false;
}

/* Writes it down, waits at the gate; which file, or -1. */
static inline int
rangebed_enter(struct rangebed *b, int fd, const char *text, int64_t *first, int64_t *last,
	       bool *refuse)
{
	const char *range = strstr(text, "Range: bytes=");
	int found = -1;

	pthread_mutex_lock(&b->lock);
	for (int i = 0; i < RANGEBED_FILES; i++) {
		const char *path = b->files[i].path;

		if (path != NULL && strncmp(text, "GET ", 4) == 0 &&
		    strncmp(text + 4, path, strlen(path)) == 0 && text[4 + strlen(path)] == ' ')
			found = i;
	}
	if (found >= 0) {
		struct rangebed_file *f = &b->files[found];

		*first = 0;
		*last = f->size - 1;
		if (range != NULL) {
			char *end;

			*first = strtoll(range + 13, &end, 10);
			if (end[1] >= '0' && end[1] <= '9')
				*last = strtoll(end + 1, NULL, 10);
			if (*last > f->size - 1)
				*last = f->size - 1;
		}
		f->n_requests++;
		if (b->owner < 0)
			b->owner = fd;
		*refuse = f->mode == RB_ALONE && b->owner != fd;
		f->n_refused += *refuse;
		if (b->n_log < RANGEBED_LOG) {
			b->log[b->n_log].file = found;
			b->log[b->n_log].first = *first;
			b->log[b->n_log++].last = *last;
		}
	}
	b->n_answering++;
	if (b->n_answering > b->most_answering)
		b->most_answering = b->n_answering;
	b->n_at_gate++;
	pthread_cond_broadcast(&b->changed);
	while (b->gate_closed && !b->stop)
		pthread_cond_wait(&b->changed, &b->lock);
	b->n_at_gate--;
	pthread_mutex_unlock(&b->lock);
	return found;
}

static inline void *
rangebed_conn_main(void *arg)
{
	struct rangebed_conn *c = arg;
	struct rangebed *b = c->bed;
	bool more = true;

	while (more && !b->stop) {
		char text[8192];
		int64_t first = 0, last = 0;
		bool refuse = false;
		int file;

		if (!rangebed_request(c->fd, text, sizeof(text)))
			break;
		file = rangebed_enter(b, c->fd, text, &first, &last, &refuse);
		if (file < 0)
			more = rangebed_say(c->fd, "HTTP/1.1 404 Not Found\r\n"
					    "Content-Length: 0\r\n\r\n");
		else if (refuse)
			more = rangebed_say(c->fd, "HTTP/1.1 503 One at a time\r\n"
					    "Content-Length: 0\r\n\r\n") && false;
		else
			more = rangebed_serve(b, &b->files[file], c->fd, first, last);
		pthread_mutex_lock(&b->lock);
		b->n_answering--;
		pthread_mutex_unlock(&b->lock);
	}
	pthread_mutex_lock(&b->lock);
	for (int i = 0; i < RANGEBED_CONNS; i++)
		if (b->conns[i] == c->fd)
			b->conns[i] = -1;
	if (b->owner == c->fd)
		b->owner = -1;
	close(c->fd);
	b->n_open--;
	b->n_threads--;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	free(c);
	return NULL;
}

static inline void
rangebed_accept(struct rangebed *b, int fd)
{
	struct rangebed_conn *c = malloc(sizeof(*c));
	pthread_t thread;
	int one = 1;

	*c = (struct rangebed_conn){ b, fd };
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	pthread_mutex_lock(&b->lock);
	for (int i = 0; i < RANGEBED_CONNS; i++) {
		if (b->conns[i] < 0) {
			b->conns[i] = fd;
			break;
		}
	}
	b->n_threads++;
	b->n_connections++;
	if (++b->n_open > b->most_open)
		b->most_open = b->n_open;
	pthread_mutex_unlock(&b->lock);
	assert_int_equal(pthread_create(&thread, NULL, rangebed_conn_main, c), 0);
	pthread_detach(thread);
}

static inline void *
rangebed_main(void *arg)
{
	struct rangebed *b = arg;
	int fd;

	while ((fd = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		rangebed_accept(b, fd);
	return NULL;
}

static inline struct rangebed *
rangebed_new(void)
{
	struct rangebed *b = calloc(1, sizeof(*b));
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(at);

	for (int i = 0; i < RANGEBED_CONNS; i++)
		b->conns[i] = -1;
	b->owner = -1;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	b->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(b->listener >= 0);
	assert_int_equal(bind(b->listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(b->listener, 64), 0);
	assert_int_equal(getsockname(b->listener, (struct sockaddr *)&at, &len), 0);
	b->port = ntohs(at.sin_port);
	assert_int_equal(pthread_create(&b->thread, NULL, rangebed_main, b), 0);
	return b;
}

static inline struct rangebed_file *
rangebed_add(struct rangebed *b, int i, const char *path, const void *data, int64_t size)
{
	pthread_mutex_lock(&b->lock);
	b->files[i] = (struct rangebed_file){ .path = path, .data = data, .size = size,
					      .flip = -1 };
	pthread_mutex_unlock(&b->lock);
	return &b->files[i];
}

/* Byte at of a file is wrong from now on, n times (0: always). */
static inline void
rangebed_flip(struct rangebed *b, int i, int64_t at, int64_t n)
{
	pthread_mutex_lock(&b->lock);
	b->files[i].flip = at;
	b->files[i].n_flips = n;
	pthread_mutex_unlock(&b->lock);
}

static inline void
rangebed_mode(struct rangebed *b, int i, enum rangebed_mode mode, int64_t arg)
{
	pthread_mutex_lock(&b->lock);
	b->files[i].mode = mode;
	b->files[i].arg = arg;
	pthread_mutex_unlock(&b->lock);
}

static inline void
rangebed_gate(struct rangebed *b, bool closed)
{
	pthread_mutex_lock(&b->lock);
	b->gate_closed = closed;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

/* Waits until so many requests stand at the gate. */
static inline void
rangebed_wait_gate(struct rangebed *b, int n)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	pthread_mutex_lock(&b->lock);
	while (b->n_at_gate < n)
		assert_int_equal(pthread_cond_timedwait(&b->changed, &b->lock, &until), 0);
	pthread_mutex_unlock(&b->lock);
}

/* Requests for a file so far. */
static inline int
rangebed_count(struct rangebed *b, int i)
{
	int n;

	pthread_mutex_lock(&b->lock);
	n = b->files[i].n_requests;
	pthread_mutex_unlock(&b->lock);
	return n;
}

/* How often it was told 503. */
static inline int
rangebed_refused(struct rangebed *b, int i)
{
	int n;

	pthread_mutex_lock(&b->lock);
	n = b->files[i].n_refused;
	pthread_mutex_unlock(&b->lock);
	return n;
}

/* The most connections at a time. */
static inline int
rangebed_most(struct rangebed *b)
{
	int n;

	pthread_mutex_lock(&b->lock);
	n = b->most_open;
	pthread_mutex_unlock(&b->lock);
	return n;
}

/* No more connections; those that are there end.  Refuses from now on. */
static inline void
rangebed_shut(struct rangebed *b)
{
	if (b->listener < 0)
		return;
	shutdown(b->listener, SHUT_RDWR);
	pthread_join(b->thread, NULL);
	close(b->listener);
	b->listener = -1;
	pthread_mutex_lock(&b->lock);
	b->stop = true;
	for (int i = 0; i < RANGEBED_CONNS; i++)
		if (b->conns[i] >= 0)
			shutdown(b->conns[i], SHUT_RDWR);
	pthread_cond_broadcast(&b->changed);
	while (b->n_threads > 0)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static inline void
rangebed_free(struct rangebed *b)
{
	rangebed_shut(b);
	pthread_cond_destroy(&b->changed);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

#endif
