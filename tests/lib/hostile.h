/*
 * hostile.h - what the two halves of the scripted web server share: connections and requests
 * (hostile.c), and what a mode does with them (hostile_modes.c).
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;

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

/* Serves one request.  True if the connection may go on. */
bool mode_serve(struct conn *c, const struct request *r);

/* Prints the modes, one a line. */
void mode_help(void);

#endif
