/*
 * ranged.h - a fetcher that is kept warm, asked for one range after another; the bytes come out in
 * whole pieces.
 *
 * The fetcher is started before or with the first request, and again when the trust store or the
 * place of files that its sandbox closed over is another one.  A range that is answered with a
 * part of it is asked on for as long as each answer brings something.  One thread uses it; any
 * thread may cancel.
 */
#ifndef VMI_RANGED_H
#define VMI_RANGED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "err.h"
#include "fetch.h"
#include "starter.h"

/* Every piece but the last of a range has this many bytes: a granule, or 64 tree blocks. */
enum { RANGED_PIECE = 256 << 10 };

struct ranged;

/* starter: borrowed.  -EMFILE, -ENOMEM. */
int ranged_new(struct ranged **out, struct starter *starter, struct err *err);
void ranged_free(struct ranged *r);	/* NULL is fine */

/* Starts a fetcher that waits for the first request, so that this one need not wait for it. */
int ranged_prepare(struct ranged *r, struct err *err);
bool ranged_is_fresh(const struct ranged *r);	/* and has not had one */

/* Ends the fetcher, and with it its connections; the next request starts another. */
void ranged_drop(struct ranged *r);
bool ranged_is_warm(const struct ranged *r);

struct ranged_end {
	struct err err;			/* rc 0: all of the range came */
	int http_status;		/* of the last answer; 0 none */
	int retry_after;		/* seconds; 0 none */
	bool begun;			/* an acceptable answer: such a file, with ranges */
	int64_t bytes;			/* that came, of pieces that were handed out or not */
	int64_t rate;			/* bytes a second; 0: too few to say */
};

/*
 * Fetches req->length bytes from req->offset, within req->total_timeout and a little, and hands
 * out the pieces in order, at being the position in the file.  piece returns 0 to go on.
 * -ECANCELED (after ranged_cancel(), and when piece does not go on): nothing was wrong with the
 * server.
 */
int ranged_get(struct ranged *r, const struct fetch_request *req,
	       int (*piece)(void *arg, int64_t at, const void *data, size_t len), void *arg,
	       struct ranged_end *end);

/* Any thread: what runs, or else the next ranged_get(), ends at once, until ranged_resume(). */
void ranged_cancel(struct ranged *r);
void ranged_resume(struct ranged *r);

#endif
