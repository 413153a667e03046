/*
 * fetcher_http.c - http:// and https:// through libcurl; the only file that includes it.
 *
 * Nothing is left to libcurl's good nature.  Redirects are followed here, hop by hop, so that a
 * secret is never sent anywhere but to the host, port and scheme it was registered for, and so
 * that file:, ftp: and the like are refused before anything is opened.  The header is judged by
 * header_judge() before a byte of the body is passed on.  Sizes are counted here: libcurl calls an
 * endless body and a body cut short without a length a success.  No proxy, no netrc and no
 * environment unless the request says so.  Content codings are never decoded: what is signed is
 * what is stored at the server.
 *
 * One transfer runs at a time, on one multi handle that keeps connections open for the next.  The
 * write callback may block on the pipe (see fetcher_sink.c); the loop forgives that time to the
 * server.
 *
 *   http_fetch: hop -> (3xx) -> hop -> ... -> 200 or 206 -> begin -> body -> done
 */
#include "config.h"

#include "fetcher_transfer.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/imageuri.h"
#include "core/io.h"
#include "fetcher_tls.h"

enum { HTTP_RECEIVE_BYTES = 512 << 10, HTTP_POLL_MS = 60000, HTTP_CONNECTIONS = 4 };

struct http {
	CURLM *multi;
	CURL *easy;
};

/* Where one request of a chain of redirects goes. */
struct target {
	char url[LIMIT_URI_BYTES + 1];
	char host[256];
	char port[8];
	bool https;
};

struct hop {
	struct transfer *t;
	const struct target *target;
	bool with_secret;		/* username and password go along */
	struct header header;
	struct header_body body;
	struct patience patience;
	bool link_local;		/* an address was refused */
	int rc;				/* ours; 0 while all is well */
	struct err *err;
	char curl_text[CURL_ERROR_SIZE];
};

const char *
http_library(void)
{
	return curl_version();
}

/* ---- addresses ------------------------------------------------------------------------- */

static void
cleanup_url_p(CURLU **u)
{
	curl_url_cleanup(*u);
}

static int
target_part(CURLU *u, CURLUPart part, char *out, size_t size)
{
	char *text = NULL;
	int rc = -EINVAL;

	if (curl_url_get(u, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK) {
		rc = strlen(text) < size ? 0 : -E2BIG;
		if (rc == 0)
			memcpy(out, text, strlen(text) + 1);
		curl_free(text);
	}
	return rc;
}

/* base NULL: url is absolute.  What a message quotes is the host alone: a path may hold a token. */
static int
target_set(struct target *out, const char *base, const char *url, struct err *err)
{
	__attribute__((cleanup(cleanup_url_p))) CURLU *u = curl_url();
	const char *what = base == NULL ? "address" : "redirect";
	char scheme[16];
	CURLUcode uc = CURLUE_OK;

	if (u == NULL)
		return err_set(err, ENOMEM, "no memory for an address");
	if (base != NULL)
		uc = curl_url_set(u, CURLUPART_URL, base, 0);
	if (uc == CURLUE_OK)
		uc = curl_url_set(u, CURLUPART_URL, url,
				  CURLU_NON_SUPPORT_SCHEME | (base != NULL ? CURLU_URLENCODE : 0));
	if (uc != CURLUE_OK || target_part(u, CURLUPART_SCHEME, scheme, sizeof(scheme)) != 0)
		return err_refuse(err, CODE_DOWNLOAD, "malformed %s", what);
	out->https = strcasecmp(scheme, "https") == 0;
	if (!out->https && strcasecmp(scheme, "http") != 0)
		return err_refuse(err, CODE_DOWNLOAD,
				  "%s to '%s:', which is neither http nor https", what, scheme);
	curl_url_set(u, CURLUPART_USER, NULL, 0);
	curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
	curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
	if (target_part(u, CURLUPART_HOST, out->host, sizeof(out->host)) != 0 ||
	    target_part(u, CURLUPART_PORT, out->port, sizeof(out->port)) != 0 ||
	    target_part(u, CURLUPART_URL, out->url, sizeof(out->url)) != 0)
		return err_refuse(err, CODE_DOWNLOAD, "%s is too long or has no host", what);
	return 0;
}

static bool
target_same_origin(const struct target *a, const struct target *b)
{
	return a->https == b->https && strcasecmp(a->host, b->host) == 0 &&
	       strcmp(a->port, b->port) == 0;
}

/* ---- callbacks ------------------------------------------------------------------------- */

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct hop *hop = arg;

	(void)purpose;
	/*
	 * Where clouds hand out a machine's credentials: a list must not make this host ask there.
	 */
	if (imageuri_address_is_link_local(&address->addr)) {
		hop->link_local = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/*
 * Connected, the request is about to go out.  Until here libcurl watches connect_timeout (name,
 * connection, handshake), and a patience that is all zero never runs out.
 */
static int
on_connected(void *arg, char *ip, char *local_ip, int port, int local_port)
{
	struct hop *hop = arg;
	const struct fetch_request *req = hop->t->req;

	(void)ip;
	(void)local_ip;
	(void)port;
	(void)local_port;
	patience_init(&hop->patience, req->stall_timeout, req->limit_rate, io_monotonic_ms());
	return CURL_PREREQFUNC_OK;
}

static CURLcode
on_tls_context(CURL *easy, void *ssl_ctx, void *arg)
{
	(void)easy;
	(void)arg;
	tls_check_revocation(ssl_ctx);
	return CURLE_OK;
}

/* The header is complete: 0 goes on to the body, anything else ends the hop. */
static int
on_header_end(struct hop *hop)
{
	struct transfer *t = hop->t;

	t->http_status = hop->header.status;
	t->retry_after = hop->header.retry_after;
	if (header_is_redirect(&hop->header))
		return -EXDEV;
	hop->rc = header_judge(&hop->header, t->req, &hop->body, hop->err);
	if (hop->rc == 0)
		t->begin(t->arg, &hop->body, hop->header.etag);
	return hop->rc;
}

static size_t
on_header(char *line, size_t size, size_t n, void *arg)
{
	struct hop *hop = arg;
	size_t len = size * n;
	bool was_complete = hop->header.complete;

	patience_heard(&hop->patience, (int64_t)len, io_monotonic_ms());
	hop->rc = header_line(&hop->header, line, len, hop->err);
	if (hop->rc != 0)
		return 0;
	if (hop->header.complete && !was_complete && on_header_end(hop) != 0)
		return 0;
	return len;
}

/* Where the body has to end at the latest. */
static int64_t
body_limit(const struct hop *hop)
{
	const struct fetch_request *req = hop->t->req;

	if (req->length > 0)
		return hop->body.end;
	return req->expected_size >= 0 && req->expected_size < req->max_bytes ? req->expected_size
									      : req->max_bytes;
}

/*
 * One byte too many is passed on with the rest: whoever reads the pipe must not take the end of it
 * for the end of the file before END tells of the refusal.
 */
static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	struct hop *hop = arg;
	struct transfer *t = hop->t;
	size_t len = size * n;
	int64_t limit = body_limit(hop);
	int64_t room = limit - hop->body.first - t->sink->bytes;
	bool too_much = (int64_t)len > room;
	size_t take = too_much ? (size_t)room + 1 : len;

	patience_heard(&hop->patience, (int64_t)len, io_monotonic_ms());
	hop->rc = sink_add(t->sink, data, take, hop->err);
	if (hop->rc == 0 && too_much)
		hop->rc = sink_flush(t->sink, hop->err);
	patience_forgive(&hop->patience, sink_waited(t->sink));
	if (hop->rc == 0 && too_much && t->req->length > 0)
		hop->rc = err_refuse(hop->err, CODE_RANGE,
				     "more bytes than the Content-Range says");
	else if (hop->rc == 0 && too_much)
		hop->rc = err_refuse(hop->err, CODE_TOO_MUCH, "more than the %lld bytes allowed",
				     (long long)limit);
	return hop->rc == 0 ? len : 0;
}

/* ---- options --------------------------------------------------------------------------- */

/* Options that cannot be set are a libcurl we cannot work with, never something to pass over. */
struct options {
	CURL *easy;
	CURLcode rc;
};

static void
opt_long(struct options *o, CURLoption option, long value)
{
	if (o->rc == CURLE_OK)
		o->rc = curl_easy_setopt(o->easy, option, value);
}

static void
opt_text(struct options *o, CURLoption option, const char *value)
{
	if (o->rc == CURLE_OK)
		o->rc = curl_easy_setopt(o->easy, option, value);
}

static void
opt_ptr(struct options *o, CURLoption option, void *value)
{
	if (o->rc == CURLE_OK)
		o->rc = curl_easy_setopt(o->easy, option, value);
}

static void
set_callbacks(struct options *o, struct hop *hop)
{
	opt_ptr(o, CURLOPT_HEADERDATA, hop);
	opt_ptr(o, CURLOPT_WRITEDATA, hop);
	opt_ptr(o, CURLOPT_OPENSOCKETDATA, hop);
	opt_ptr(o, CURLOPT_PREREQDATA, hop);
	opt_ptr(o, CURLOPT_ERRORBUFFER, hop->curl_text);
	if (o->rc == CURLE_OK)
		o->rc = curl_easy_setopt(o->easy, CURLOPT_HEADERFUNCTION, on_header);
	if (o->rc == CURLE_OK)
		o->rc = curl_easy_setopt(o->easy, CURLOPT_WRITEFUNCTION, on_body);
	if (o->rc == CURLE_OK)
		o->rc = curl_easy_setopt(o->easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	if (o->rc == CURLE_OK)
		o->rc = curl_easy_setopt(o->easy, CURLOPT_PREREQFUNCTION, on_connected);
	if (o->rc == CURLE_OK)
		o->rc = curl_easy_setopt(o->easy, CURLOPT_SSL_CTX_FUNCTION, on_tls_context);
}

/* A directory or a file replaces the system's store, it does not add to it. */
static void
set_tls(struct options *o, const struct fetch_request *req)
{
	struct stat st;

	opt_long(o, CURLOPT_SSL_VERIFYPEER, 1);
	opt_long(o, CURLOPT_SSL_VERIFYHOST, 2);
	opt_long(o, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
	if (req->tls_ca[0] != '\0') {
		bool is_dir = stat(req->tls_ca, &st) == 0 && S_ISDIR(st.st_mode);

		opt_text(o, CURLOPT_CAINFO, is_dir ? NULL : req->tls_ca);
		opt_text(o, CURLOPT_CAPATH, is_dir ? req->tls_ca : NULL);
	}
}

static void
set_fixed(struct options *o, const struct fetch_request *req)
{
	long buffer = HTTP_RECEIVE_BYTES;

	if (req->limit_rate > 0 && req->limit_rate / 8 < buffer)
		buffer = req->limit_rate / 8 > 1024 ? (long)(req->limit_rate / 8) : 1024;
	opt_long(o, CURLOPT_BUFFERSIZE, buffer);
	opt_text(o, CURLOPT_PROTOCOLS_STR, "http,https");
	opt_text(o, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	opt_long(o, CURLOPT_FOLLOWLOCATION, 0);
	opt_long(o, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	opt_long(o, CURLOPT_HTTP09_ALLOWED, 0);
	opt_long(o, CURLOPT_HTTP_CONTENT_DECODING, 0);
	opt_long(o, CURLOPT_NETRC, CURL_NETRC_IGNORED);
	opt_long(o, CURLOPT_NOSIGNAL, 1);
	/* A resolver that hangs would otherwise be waited for when the transfer is given up. */
	opt_long(o, CURLOPT_QUICK_EXIT, 1);
	opt_long(o, CURLOPT_TCP_KEEPALIVE, 1);
	/*
	 * Closed before the end is told: no server sees more connections than images are fetched.
	 */
	opt_long(o, CURLOPT_FORBID_REUSE, req->length == 0);
	opt_long(o, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1);
	opt_long(o, CURLOPT_CONNECTTIMEOUT_MS, (long)req->connect_timeout * 1000);
	opt_text(o, CURLOPT_USERAGENT, "vmimagefs/" PACKAGE_VERSION);
	/* "" and not NULL: NULL would have libcurl ask the environment. */
	opt_text(o, CURLOPT_PROXY, req->proxy);
	opt_text(o, CURLOPT_NOPROXY, "");
}

static struct curl_slist *
add_header(struct options *o, struct curl_slist *list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(list, line);

	if (longer == NULL && o->rc == CURLE_OK)
		o->rc = CURLE_OUT_OF_MEMORY;
	return longer != NULL ? longer : list;
}

/* With a length: these bytes, whatever else has changed.  Without: the rest. */
static void
set_range(struct options *o, const struct fetch_request *req, struct curl_slist **lines)
{
	char range[48], if_range[FETCH_ETAG_MAX + 16];

	if (req->length > 0) {
		snprintf(range, sizeof(range), "%lld-%lld", (long long)req->offset,
			 (long long)(req->offset + req->length - 1));
		opt_text(o, CURLOPT_RANGE, range);
	} else if (req->offset > 0) {
		snprintf(range, sizeof(range), "%lld-", (long long)req->offset);
		opt_text(o, CURLOPT_RANGE, range);
		if (req->etag[0] != '\0') {
			snprintf(if_range, sizeof(if_range), "If-Range: %s", req->etag);
			*lines = add_header(o, *lines, if_range);
		}
	}
}

/*
 * Range and If-Range ask: the rest if it is still the same file, otherwise all of it.  "identity"
 * because without Accept-Encoding a server may choose any.  *lines must live as long as the hop.
 */
static void
set_request(struct options *o, const struct hop *hop, struct curl_slist **lines)
{
	const struct fetch_request *req = hop->t->req;

	opt_text(o, CURLOPT_URL, hop->target->url);
	*lines = add_header(o, *lines, "Accept-Encoding: identity");
	set_range(o, req, lines);
	opt_ptr(o, CURLOPT_HTTPHEADER, *lines);
	if (hop->with_secret) {
		opt_long(o, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		opt_text(o, CURLOPT_USERNAME, req->username);
		opt_text(o, CURLOPT_PASSWORD, req->password);
	}
}

/* ---- running --------------------------------------------------------------------------- */

/* What libcurl reports, in our codes.  Ours was found first where hop->rc is set. */
static int
curl_failed(struct hop *hop, CURLcode cc)
{
	const char *text = hop->curl_text[0] != '\0' ? hop->curl_text : curl_easy_strerror(cc);
	enum code code = CODE_SLOW;
	int errnum = EHOSTUNREACH;

	switch (cc) {
	case CURLE_OPERATION_TIMEDOUT:
		errnum = ETIMEDOUT;
		break;
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		errnum = ECONNRESET;
		break;
	case CURLE_BAD_CONTENT_ENCODING:	/* libcurl 8: an encoding that nobody asked for */
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
		code = CODE_RANGE;
		errnum = EBADMSG;
		break;
	case CURLE_URL_MALFORMAT:
		code = CODE_DOWNLOAD;
		errnum = EINVAL;
		break;
	case CURLE_OUT_OF_MEMORY:
		code = CODE_DOWNLOAD;
		errnum = ENOMEM;
		break;
	default:
		break;
	}
	err_refuse(hop->err, code, "%s", text);
	return -errnum;
}

/* One turn of the loop when libcurl has done what it can for now: 0 to wait and go on. */
static int
hop_check(struct hop *hop)
{
	struct sink *sink = hop->t->sink;
	long long now;
	const char *text;

	hop->rc = sink_flush(sink, hop->err);
	patience_forgive(&hop->patience, sink_waited(sink));
	now = io_monotonic_ms();
	if (hop->rc == 0 && sink_is_broken(sink))
		hop->rc = err_set(hop->err, EPIPE, "whoever asked does not want the rest");
	else if (hop->rc == 0 && sink->deadline > 0 && now >= sink->deadline)
		hop->rc = err_refuse(hop->err, CODE_SLOW,
				     "not done in the time allowed for all of it");
	else if (hop->rc == 0 && patience_is_over(&hop->patience, now, &text))
		hop->rc = err_refuse(hop->err, CODE_SLOW, "%s for %lld s", text,
				     hop->patience.stall_ms / 1000);
	return hop->rc;
}

/* Until the next thing that hop_check() could find; libcurl shortens it to its own timers. */
static int
hop_poll_ms(const struct hop *hop)
{
	long long now = io_monotonic_ms();
	long long end = now + HTTP_POLL_MS;
	long long patience = patience_end(&hop->patience);
	long long deadline = hop->t->sink->deadline;

	if (patience > 0 && patience < end)
		end = patience;
	if (deadline > 0 && deadline < end)
		end = deadline;
	return end > now ? (int)(end - now) : 0;
}

/* Returns the code of the finished transfer; CURLE_OK also when hop->rc ended it. */
static CURLcode
hop_loop(struct http *h, struct hop *hop)
{
	struct sink *sink = hop->t->sink;
	struct curl_waitfd extra[2] = { { sink->fd, 0, 0 }, { sink->watch_fd, 0, 0 } };
	unsigned n_extra = sink->watch_fd >= 0 ? 2 : 1;
	int running = 1, left = 0;
	CURLMsg *msg;

	/* The descriptors bring errors only: reader gone, parent gone. */
	while (curl_multi_perform(h->multi, &running) == CURLM_OK && running > 0)
		if (hop->rc != 0 || hop_check(hop) != 0 ||
		    curl_multi_poll(h->multi, extra, n_extra, hop_poll_ms(hop), NULL) != CURLM_OK)
			break;
	while ((msg = curl_multi_info_read(h->multi, &left)) != NULL)
		if (msg->msg == CURLMSG_DONE)
			return msg->data.result;
	return hop->rc != 0 ? CURLE_OK : CURLE_FAILED_INIT;
}

/* The body has ended as libcurl sees it; that proves nothing where no length was announced. */
static int
body_is_whole(struct hop *hop)
{
	const struct fetch_request *req = hop->t->req;
	int64_t at = hop->body.first + hop->t->sink->bytes;
	int64_t size = req->expected_size >= 0 ? req->expected_size : hop->body.total;

	if (!hop->header.complete) {
		err_refuse(hop->err, CODE_SLOW, "no answer");
		return -ECONNRESET;
	}
	if (req->length > 0)
		size = hop->body.end;
	if (size >= 0 && at < size) {
		err_refuse(hop->err, CODE_SLOW, "the body ended after %lld of %lld bytes",
			   (long long)at, (long long)size);
		return -ECONNRESET;
	}
	return 0;
}

static int
hop_result(struct hop *hop, CURLcode cc)
{
	/* What came before a cut is good: whoever asked resumes after it. */
	if (hop->rc == 0)
		hop->rc = sink_flush(hop->t->sink, hop->err);
	if (hop->rc != 0 || header_is_redirect(&hop->header))
		return hop->rc;
	if (hop->link_local && cc == CURLE_COULDNT_CONNECT) {
		err_refuse(hop->err, CODE_DOWNLOAD, "a link-local address is never asked");
		return -EPERM;
	}
	return cc == CURLE_OK ? body_is_whole(hop) : curl_failed(hop, cc);
}

static int
run_hop(struct http *h, struct hop *hop)
{
	struct options o = { h->easy, CURLE_OK };
	struct curl_slist *lines = NULL;
	const struct fetch_request *req = hop->t->req;
	int rc;

	curl_easy_reset(h->easy);
	set_callbacks(&o, hop);
	set_fixed(&o, req);
	set_tls(&o, req);
	set_request(&o, hop, &lines);
	header_init(&hop->header, (int64_t)time(NULL));
	if (o.rc != CURLE_OK) {
		rc = err_set(hop->err, ENOSYS, "libcurl: %s", curl_easy_strerror(o.rc));
	} else if (curl_multi_add_handle(h->multi, h->easy) != CURLM_OK) {
		rc = err_set(hop->err, ENOMEM, "libcurl cannot begin a transfer");
	} else {
		rc = hop_result(hop, hop_loop(h, hop));
		curl_multi_remove_handle(h->multi, h->easy);
	}
	curl_slist_free_all(lines);
	if (rc != 0 && hop->err != NULL && hop->err->code != CODE_NONE)
		err_prefix(hop->err, "server '%s'", hop->target->host);
	return rc;
}

/* Where redirect number n (from 0) leads; *at becomes it. */
static int
next_target(struct target *at, const struct hop *hop, int n, struct err *err)
{
	struct target next;
	int rc;

	if (n == LIMIT_REDIRECTS)
		rc = err_refuse(err, CODE_DOWNLOAD, "more than %d redirects", LIMIT_REDIRECTS);
	else
		rc = target_set(&next, at->url, hop->header.location, err);
	if (rc == 0 && hop->with_secret && !next.https) {
		err_refuse(err, CODE_DOWNLOAD,
			   "redirect from https to http of a request with a password");
		rc = -EPERM;
	}
	if (rc != 0)
		err_prefix(err, "server '%s'", at->host);
	else
		*at = next;
	return rc;
}

/* ---- public ---------------------------------------------------------------------------- */

int
http_new(struct http **out, struct err *err)
{
	struct http *h = xcalloc(1, sizeof(*h));

	*out = NULL;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
		h->multi = curl_multi_init();
		h->easy = curl_easy_init();
	}
	if (h->multi == NULL || h->easy == NULL) {
		http_free(h);
		return err_set(err, ENOMEM, "libcurl does not start");
	}
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)HTTP_CONNECTIONS);
	*out = h;
	return 0;
}

void
http_free(struct http *h)
{
	if (h == NULL)
		return;
	curl_easy_cleanup(h->easy);
	curl_multi_cleanup(h->multi);
	curl_global_cleanup();
	free(h);
}

/*
 * A secret goes to the origin it was registered for, over TLS, and once a redirect has led away
 * it is not taken out again, even if the chain comes back.
 */
int
http_fetch(struct http *h, struct transfer *t, struct err *err)
{
	bool secret = t->req->username[0] != '\0' || t->req->password[0] != '\0';
	struct target origin, at;
	int rc = target_set(&origin, NULL, t->req->url, err);

	if (rc == 0 && secret && !origin.https) {
		err_refuse(err, CODE_DOWNLOAD, "user and password are sent over https only");
		rc = -EPERM;
	}
	at = origin;
	for (int n = 0; rc == 0; n++) {
		struct hop hop = { .t = t, .target = &at, .err = err };

		hop.with_secret = secret = secret && target_same_origin(&origin, &at);
		rc = run_hop(h, &hop);
		if (rc != 0 || !header_is_redirect(&hop.header))
			break;
		rc = next_target(&at, &hop, n, err);
	}
	return rc;
}
