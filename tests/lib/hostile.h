/*
 * hostile.h - what the parts of the scripted web server share: connections, requests and counting
 * (hostile.c), ports (hostile_ports.c), what answers are made of (hostile_reply.c), and what a mode
 * does with them (hostile_modes.c, hostile_ranges.c).
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;
struct ssl_ctx_st;

enum { REQUEST_TEXT_MAX = 2048 };

/* One request as it came.  Texts are empty where there was none. */
struct request {
	char method[16];
	char path[REQUEST_TEXT_MAX];	/* without the query */
	char mode[64];			/* first component, up to ':' */
	char arg[64];			/* after ':' in it */
	char query[REQUEST_TEXT_MAX];	/* percent-decoded */
	char if_range[300];
	char authorization[REQUEST_TEXT_MAX];
	char host[300];
	int64_t range_first;		/* -1: no Range */
	int64_t range_last;		/* -1: open */
	int nth;			/* of this path, from 1 */
	const unsigned char *data;	/* of the file that this path serves */
	int64_t size;
};

/* All or nothing; false when the peer is gone. */
bool conn_send(struct conn *c, const void *data, size_t len);
bool conn_printf(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Body bytes: counted for /stats. */
bool conn_body(struct conn *c, const void *data, int64_t len);

/* The connection ends after so many more body bytes. */
void conn_cut_after(struct conn *c, int64_t len);

/* Until /release is asked for, or the peer is gone.  True when released. */
bool conn_wait_release(struct conn *c);

/* False when the peer has gone meanwhile. */
bool conn_sleep_ms(struct conn *c, int ms);

bool conn_is_tls(const struct conn *c);

/* How many requests for files are being answered now, this one included. */
int64_t conn_active(const struct conn *c);

/* Counts in a number of the path's own; from 1. */
int64_t conn_mark(struct conn *c);

/* ---- ports --------------------------------------------------------------------------------- */

void hostile_die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* On 127.0.0.1; *port 0: any, and which.  backlog < 0: does not listen. */
int port_open(int backlog, int *port);

/* One that drops every SYN. */
void port_open_full(int *port);

/* CERT:KEY[:old|:demand]: old speaks TLS 1.0 and 1.1 only, demand wants a client certificate. */
struct ssl_ctx_st *port_tls(const char *spec);

/* ---- answers ------------------------------------------------------------------------------- */

/* The part of the file that was asked for. */
struct part {
	int64_t first, len;
	bool is_range;
};

/* The mode's argument as a number. */
int64_t reply_arg(const struct request *r, int64_t other);

/* Honours If-Range with this ETag. */
struct part reply_part(const struct request *r, const char *etag);

/* 200 or 206 with Content-Range; a length, or none, and the empty line have to follow. */
bool reply_head(struct conn *c, const struct request *r, const struct part *p, const char *etag);
bool reply_length(struct conn *c, int64_t len);
bool reply_no_length(struct conn *c);

/* Everything as it should be, with this validator. */
bool reply_well(struct conn *c, const struct request *r, const char *etag);

/* The body with a change made to a copy. */
bool reply_copy(struct conn *c, const struct request *r,
		void (*change)(unsigned char *, const struct request *));

bool reply_slowly(struct conn *c, const unsigned char *data, int64_t len, int64_t bytes_a_second);
bool reply_zeros(struct conn *c, int64_t n);

/* ---- modes --------------------------------------------------------------------------------- */

struct mode {
	const char *name;
	bool (*serve)(struct conn *c, const struct request *r);
	const char *help;		/* begins with ':' if there is an argument */
};

const struct mode *hostile_range_modes(size_t *n);

/* Serves one request.  True if the connection may go on. */
bool mode_serve(struct conn *c, const struct request *r);

/* Prints the modes, one a line. */
void mode_help(void);

#endif
