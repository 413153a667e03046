/*
 * fetcher_transfer.h - one request being served, and the two ways to serve it.
 */
#ifndef VMI_FETCHER_TRANSFER_H
#define VMI_FETCHER_TRANSFER_H

#include <stdint.h>
#include "core/err.h"
#include "core/fetch.h"
#include "fetcher_header.h"
#include "fetcher_sink.h"

struct transfer {
	const struct fetch_request *req;
	struct sink *sink;
	/* Tells whoever asked that an acceptable body comes; etag is empty if there is none. */
	void (*begin)(void *arg, const struct header_body *body, const char *etag);
	void *arg;
	int http_status;		/* of the last response, 0 none */
	int retry_after;		/* seconds, 0 none */
};

/*
 * file:// by plain reads.  The last component may not be a link and must be a regular file; with
 * file_prefix everything must lie below it, links included.
 */
int file_fetch(struct transfer *t, struct err *err);

/* The path in a file URL, percent-decoded; NULL for other or malformed URLs.  Caller frees. */
char *file_url_path(const char *url);

/* http:// and https://.  One struct http keeps connections warm from request to request. */
struct http;
int http_new(struct http **out, struct err *err);
void http_free(struct http *h);
int http_fetch(struct http *h, struct transfer *t, struct err *err);

/* "libcurl/7.88.1 OpenSSL/..."; borrowed. */
const char *http_library(void);

#endif
