/*
 * fetcher_sink.h - where the body goes: a pipe whose reader may be slow, and the two clocks that
 * go with it.
 *
 * The sink gathers small pieces and writes them in large ones.  When the pipe is full it waits;
 * that time is the reader's, not the server's, and sink_waited() tells it so that it is not held
 * against the server.
 */
#ifndef VMI_FETCHER_SINK_H
#define VMI_FETCHER_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

struct sink {
	int fd;				/* borrowed */
	int watch_fd;			/* whose end means that nobody wants the rest; -1 none */
	long long deadline;		/* CLOCK_MONOTONIC milliseconds; 0 none */
	int64_t rate;			/* bytes a second; 0 off */
	int64_t bytes;			/* accepted, less those that could not be written */
	char *piece;
	size_t piece_size, used;
	long long next_ms;		/* with a rate: when the next piece may go */
	long long waited_ms;
};

/* The socket and the deadline may be absent; limit_rate 0 means none. */
void sink_init(struct sink *s, int fd, int watch_fd, int64_t limit_rate, long long deadline);
void sink_release(struct sink *s);

/*
 * Adds bytes, and writes when a piece is full.  -EPIPE: the reader has closed the pipe or
 * whoever asked is gone.  -ETIMEDOUT with CODE_SLOW: the deadline has passed.
 */
int sink_add(struct sink *s, const void *data, size_t len, struct err *err);
int sink_flush(struct sink *s, struct err *err);

/* Bytes that have reached the pipe. */
int64_t sink_written(const struct sink *s);

/* Whether the reader, or whoever asked, is gone. */
bool sink_is_broken(const struct sink *s);

/* Milliseconds waited for the reader, or for the rate, since the last call. */
long long sink_waited(struct sink *s);

/*
 * How long a server may keep us waiting: stall_ms without a byte, or LIMIT_LOW_SPEED (half of
 * limit_rate if that is less) on the average of that time.
 */
struct patience {
	long long stall_ms;
	int64_t low_speed;		/* bytes a second */
	long long heard_ms;		/* when the last byte came */
	long long window_ms;		/* since when window_bytes are counted */
	int64_t window_bytes;
};

void patience_init(struct patience *p, int64_t stall_seconds, int64_t limit_rate, long long now);
void patience_heard(struct patience *p, int64_t bytes, long long now);
void patience_forgive(struct patience *p, long long ms);

/* When it runs out if nothing is heard; 0: never. */
long long patience_end(const struct patience *p);

/* Whether it has run out; *text says how. */
bool patience_is_over(struct patience *p, long long now, const char **text);

#endif
