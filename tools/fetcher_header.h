/*
 * fetcher_header.h - the header of an HTTP response: what its lines say, and whether it may be
 * the answer to what we asked.  Pure: no I/O, no library.
 */
#ifndef VMI_FETCHER_HEADER_H
#define VMI_FETCHER_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "core/fetch.h"
#include "core/limits.h"

enum { HEADER_RETRY_AFTER_MAX = 300 };	/* seconds; a server may ask for 10^9 */

struct header {
	int64_t now;			/* seconds UTC, to read a Retry-After that is a date */
	size_t bytes;			/* of all lines, those of interim responses included */
	bool complete;			/* the final response's empty line has come */
	int status;
	int64_t content_length;		/* -1: none */
	bool chunked;
	bool has_range;
	int64_t range_first, range_last;
	int64_t range_total;		/* -1: "*" */
	char etag[FETCH_ETAG_MAX];	/* strong validator with its quotes, empty if none */
	bool etag_is_weak;		/* there was one, but it proves nothing */
	int retry_after;		/* seconds, capped; 0: none */
	char location[LIMIT_URI_BYTES + 1];
};

/* Which bytes the body of an accepted response brings. */
struct header_body {
	int64_t first;			/* position of its first byte in the file */
	int64_t end;			/* position after its last byte, -1 unknown */
	int64_t total;			/* announced size of the whole file, -1 unknown */
};

void header_init(struct header *h, int64_t now);

/*
 * One line as it came, with its line end.  Refuses what cannot be believed: more than
 * LIMIT_HEADER_BYTES (CODE_LIMIT), malformed or contradicting lengths and ranges (CODE_RANGE).
 * Lines after the end of the header (trailers) are counted and otherwise ignored.
 */
int header_line(struct header *h, const char *line, size_t len, struct err *err);

/* Complete, and says where else to look. */
bool header_is_redirect(const struct header *h);

/*
 * Whether this complete header may answer the request.  CODE_DOWNLOAD for an HTTP error,
 * CODE_RANGE for other bytes than asked, CODE_SIZE and CODE_TOO_MUCH for an announced size that
 * cannot be right.
 */
int header_judge(const struct header *h, const struct fetch_request *req, struct header_body *body,
		 struct err *err);

#endif
