/*
 * fetch.h - the request socket between us and a fetcher process, seen from our side.
 *
 * The fetcher gets fixed-size requests on a SOCK_SEQPACKET socket, each with the write end of a
 * pipe.  For each it answers FETCH_BEGIN when the response header is complete and acceptable,
 * writes the body into the pipe, closes it, and answers FETCH_END.  A request that fails before
 * the body answers FETCH_END alone.  The connection stays warm for the next request.
 *
 *   us                               fetcher
 *   struct fetch_request + pipe  ->
 *                                <-  struct fetch_answer FETCH_BEGIN
 *                        (pipe)  <=  body bytes
 *                                <-  struct fetch_answer FETCH_END
 *
 * Both structs are fixed-size and used between programs of one build only.
 */
#ifndef VMI_FETCH_H
#define VMI_FETCH_H

#include <stdbool.h>
#include <stdint.h>
#include "buf.h"
#include "conf.h"
#include "err.h"
#include "limits.h"
#include "sandboxstate.h"
#include "starter.h"

enum {
	FETCH_ETAG_MAX = 256,
	FETCH_PATH_MAX = 1024,
	FETCH_SECRET_MAX = 1024,
	FETCH_REQUEST_MAGIC = 0x46724531,
	FETCH_ANSWER_MAGIC = 0x46614e32,
};

struct fetch_request {
	uint32_t magic;
	int64_t offset;			/* first byte wanted; > 0 sends Range and If-Range: etag */
	/*
	 * > 0: so many bytes from offset and no more.  Range: bytes=a-b is sent, without If-Range;
	 * only a 206 whose Content-Range begins at offset, ends at or before the last byte asked
	 * for and agrees with expected_size is accepted (a 200 or anything else: CODE_RANGE).  A
	 * shorter answer ends well, END says how much came.  Counts for http, https and file.
	 */
	int64_t length;
	int64_t max_bytes;		/* of the whole file; one byte more is CODE_TOO_MUCH */
	int64_t expected_size;		/* signed: another one announced is CODE_SIZE; -1 none */
	/* Seconds; stall and total 0: none. */
	int64_t connect_timeout, stall_timeout, total_timeout;
	int64_t limit_rate;		/* bytes a second; 0: off */
	char url[LIMIT_URI_BYTES + 1];	/* http, https or file; without userinfo */
	/* Sent to this URL's host, over verified TLS only. */
	char username[FETCH_SECRET_MAX], password[FETCH_SECRET_MAX];
	char etag[FETCH_ETAG_MAX];	/* strong validator of the bytes we have */
	char tls_ca[FETCH_PATH_MAX];	/* file or directory; empty: system store */
	char proxy[LIMIT_URI_BYTES + 1];/* empty: none */
	char file_prefix[FETCH_PATH_MAX];/* file:// must lie below; empty: any */
};

enum fetch_kind { FETCH_BEGIN = 1, FETCH_END = 2 };

struct fetch_answer {
	uint32_t magic;
	int32_t kind;			/* enum fetch_kind */
	int64_t offset;			/* BEGIN: first byte to come: the one wanted, or 0 */
	int64_t total;			/* BEGIN: whole size announced, -1 unknown */
	int64_t bytes;			/* END: body bytes written to the pipe */
	int32_t rc;			/* END: 0 or a negative errno value */
	int32_t code;			/* END: enum code */
	int32_t http_status;		/* 0 where there was none */
	int32_t retry_after;		/* seconds the server asked for, capped; 0 none */
	char etag[FETCH_ETAG_MAX];	/* BEGIN: strong validator, empty if none */
	char text[ERR_TEXT_MAX];	/* END: the sentence; never holds a secret */
	struct sandbox_state sandbox;	/* of the fetcher */
};

struct fetch;

/*
 * Fills timeouts, rate, proxy from conf (NULL: the defaults) and clears the rest: no size expected,
 * max_bytes LIMIT_IMAGE_BYTES.
 */
void fetch_request_init(struct fetch_request *req, const struct conf *conf);

/* Starts a fetcher and sends it a first request.  Takes pipe_wr in every case. */
int fetch_start(struct fetch **out, struct starter *starter, const struct fetch_request *req,
		int pipe_wr, struct err *err);

/* Starts a fetcher that waits for its first request, which fetch_again() sends. */
int fetch_prepare(struct fetch **out, struct starter *starter, struct err *err);

/*
 * The next request, after FETCH_END; on the warm connection if the last one had a length.  Takes
 * pipe_wr in every case.  tls_ca, file_prefix and the path of a file:// URL must be those of the
 * first request: the fetcher's sandbox closed over them.
 */
int fetch_again(struct fetch *f, const struct fetch_request *req, int pipe_wr, struct err *err);

/* Readable when an answer waits or the fetcher is gone. */
int fetch_fd(const struct fetch *f);

/*
 * One answer: 1; none yet: 0; the fetcher ended without an END or answers nonsense: a negative
 * errno value.
 */
int fetch_take(struct fetch *f, struct fetch_answer *answer, struct err *err);

/* Ends the fetcher if it still runs. NULL is fine. */
void fetch_free(struct fetch *f);

/*
 * For lists: the whole body into out, blocking, at most LIMIT_LIST_SECONDS (or total_timeout) and
 * LIMIT_MESSAGE_BYTES (or max_bytes).  out is empty on failure.
 */
int fetch_to_buf(struct starter *starter, const struct fetch_request *req, struct buf *out,
		 struct err *err);

/*
 * Takes "user:password@" out of a URL.  clean, user and password are allocated (user and password
 * NULL if there were none).  Percent-encoding of the secrets is decoded.  -EINVAL for other
 * schemes than http, https, file, for control bytes, spaces or over-long URLs.
 */
int fetch_split_url(const char *url, char **clean, char **username, char **password,
		    struct err *err);

#endif
