/*
 * fetcher_sink.c - writing into the pipe.
 *
 * libcurl hands out the body in pieces of 16 KiB.  One write and one wake-up of the reader for each
 * costs a third of the speed, so pieces are gathered to SINK_PIECE and flushed when full or when
 * the network has nothing more at the moment.  A full pipe blocks us in poll(): the kernel's TCP
 * window then holds the server back, and there is nothing else in this process that would have to
 * go on meanwhile.
 */
#include "config.h"

#include "fetcher_sink.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/io.h"
#include "core/limits.h"

enum { SINK_PIECE = 256 << 10, SINK_PIECE_MIN = 1 << 10 };
enum { PIPE_GONE = POLLERR | POLLHUP | POLLNVAL };

void
sink_init(struct sink *s, int fd, int watch_fd, int64_t limit_rate, long long deadline)
{
	memset(s, 0, sizeof(*s));
	s->fd = fd;
	s->watch_fd = watch_fd;
	s->rate = limit_rate;
	s->deadline = deadline;
	s->piece_size = SINK_PIECE;
	/* Eight pieces a second, so that a slow rate does not come in lumps of minutes. */
	if (limit_rate > 0 && limit_rate / 8 < SINK_PIECE)
		s->piece_size = limit_rate / 8 > SINK_PIECE_MIN ? (size_t)(limit_rate / 8)
								: SINK_PIECE_MIN;
	s->piece = xmalloc(s->piece_size);
}

void
sink_release(struct sink *s)
{
	free(s->piece);
	s->piece = NULL;
}

static int
gone(struct err *err)
{
	return err_set(err, EPIPE, "whoever asked does not want the rest");
}

/* Waits until the pipe takes bytes (events POLLOUT), or just for a time (events 0). */
static int
wait_pipe(struct sink *s, short events, long long until, struct err *err)
{
	struct pollfd p[2] = { { s->fd, events, 0 }, { s->watch_fd, 0, 0 } };
	long long start = io_monotonic_ms();
	long long now = start;
	int rc = -EAGAIN;

	while (rc == -EAGAIN) {
		long long end = until;
		int n;

		if (s->deadline > 0 && (end == 0 || s->deadline < end))
			end = s->deadline;
		n = poll(p, 2, end == 0 ? -1 : end <= now ? 0 : (int)(end - now));
		now = io_monotonic_ms();
		if (n < 0 && errno != EINTR) {
			rc = err_set(err, errno, "poll: %s", strerrordesc_np(errno));
		} else if (n > 0 && ((p[0].revents | p[1].revents) & PIPE_GONE)) {
			rc = gone(err);
		} else if (n > 0 && (p[0].revents & POLLOUT)) {
			rc = 0;
		} else if (s->deadline > 0 && now >= s->deadline) {
			rc = err_refuse(err, CODE_SLOW,
					"not done in the time allowed for all of it");
		} else if (until > 0 && now >= until) {
			rc = 0;
		}
	}
	s->waited_ms += now - start;
	return rc;
}

static int
pace(struct sink *s, size_t len, struct err *err)
{
	long long now = io_monotonic_ms();

	if (s->next_ms < now)
		s->next_ms = now;
	s->next_ms += (long long)len * 1000 / s->rate;
	return s->next_ms > now ? wait_pipe(s, 0, s->next_ms, err) : 0;
}

int
sink_flush(struct sink *s, struct err *err)
{
	size_t done = 0;
	int rc = 0;

	while (rc == 0 && done < s->used) {
		long long start = io_monotonic_ms();
		ssize_t n = write(s->fd, s->piece + done, s->used - done);

		/* A pipe that was given by hand blocks here, not in poll(). */
		s->waited_ms += io_monotonic_ms() - start;
		if (n >= 0)
			done += (size_t)n;
		else if (errno == EAGAIN)
			rc = wait_pipe(s, POLLOUT, 0, err);
		else if (errno == EPIPE)
			rc = gone(err);
		else if (errno != EINTR)
			rc = err_set(err, errno, "cannot pass the body on: %s",
				     strerrordesc_np(errno));
	}
	if (rc == 0 && s->rate > 0 && done > 0)
		rc = pace(s, done, err);
	s->bytes -= (int64_t)(s->used - done);
	s->used = 0;
	return rc;
}

int
sink_add(struct sink *s, const void *data, size_t len, struct err *err)
{
	const char *p = data;
	int rc = 0;

	while (rc == 0 && len > 0) {
		size_t n = s->piece_size - s->used;

		if (n > len)
			n = len;
		memcpy(s->piece + s->used, p, n);
		s->used += n;
		s->bytes += (int64_t)n;
		p += n;
		len -= n;
		if (s->used == s->piece_size)
			rc = sink_flush(s, err);
	}
	return rc;
}

int64_t
sink_written(const struct sink *s)
{
	return s->bytes - (int64_t)s->used;
}

bool
sink_is_broken(const struct sink *s)
{
	struct pollfd p[2] = { { s->fd, 0, 0 }, { s->watch_fd, 0, 0 } };

	return poll(p, 2, 0) > 0;
}

long long
sink_waited(struct sink *s)
{
	long long ms = s->waited_ms;

	s->waited_ms = 0;
	return ms;
}

void
patience_init(struct patience *p, int64_t stall_seconds, int64_t limit_rate, long long now)
{
	p->stall_ms = stall_seconds * 1000;
	p->low_speed = LIMIT_LOW_SPEED;
	if (limit_rate > 0 && limit_rate / 2 < LIMIT_LOW_SPEED)
		p->low_speed = limit_rate / 2;
	p->heard_ms = p->window_ms = now;
	p->window_bytes = 0;
}

void
patience_heard(struct patience *p, int64_t bytes, long long now)
{
	p->heard_ms = now;
	p->window_bytes += bytes;
}

void
patience_forgive(struct patience *p, long long ms)
{
	p->heard_ms += ms;
	p->window_ms += ms;
}

long long
patience_end(const struct patience *p)
{
	long long since = p->heard_ms < p->window_ms ? p->heard_ms : p->window_ms;

	return p->stall_ms > 0 ? since + p->stall_ms : 0;
}

bool
patience_is_over(struct patience *p, long long now, const char **text)
{
	bool slow;

	*text = "no byte came";
	if (p->stall_ms == 0)
		return false;
	if (now - p->heard_ms >= p->stall_ms)
		return true;
	if (now - p->window_ms < p->stall_ms)
		return false;
	*text = "too few bytes came";
	slow = p->window_bytes * 1000 < p->low_speed * (now - p->window_ms);
	p->window_ms = now;
	p->window_bytes = 0;
	return slow;
}
