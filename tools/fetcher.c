/*
 * fetcher.c - vmimagefs-fetcher: the only process with the network.
 *
 * It reads bytes that nobody has authenticated, so it can do nothing with them but pass them on:
 * it never holds a descriptor of a stored image, cannot write a file, and every
 * connection it makes is for a request that came from its parent.  The protocol is drawn in
 * core/fetch.h.  The first request is read before the sandbox closes, because it names the trust
 * store, or the file, that must stay readable; both hold for the life of the process.
 *
 * Given a URL, it is a program to run by hand: the body goes to stdout, the sentence to stderr.
 * The way through sandbox, transfer and checks is the same.
 */
#include "config.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/fetch.h"
#include "core/io.h"
#include "core/process.h"
#include "core/sandbox.h"
#include "core/sandboxstate.h"
#include "fetcher_byhand.h"
#include "fetcher_transfer.h"

enum { REQUEST_FD = 3, PIPE_BYTES = 1 << 20 };

struct fetcher {
	struct http *http;
	int socket;			/* -1 when run by hand */
	bool verbose;			/* by hand: tells what begins */
};

/* ---- sandbox --------------------------------------------------------------------------- */

/*
 * Resolver, system trust store and libraries (name service modules are loaded late) are the same
 * for everyone.
 */
static const char *const system_paths[] = {
	"/etc", "/usr", "/lib", "/lib64", "/var/lib/ca-certificates",
	"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager",
};

enum { N_SYSTEM_PATHS = sizeof(system_paths) / sizeof(system_paths[0]) };

static void
add_path(struct sandbox_path *paths, size_t *n, const char *path)
{
	if (path != NULL && path[0] != '\0')
		paths[(*n)++] = (struct sandbox_path){ path, false };
}

/* The trust store and the file, or the directory it must lie in, come with the request. */
static int
enter_sandbox(const struct fetch_request *req, struct err *err)
{
	CLEANUP_FREE char *file = file_url_path(req->url);
	struct sandbox_path paths[N_SYSTEM_PATHS + 2];
	size_t n = 0;
	unsigned missing;

	for (size_t i = 0; i < N_SYSTEM_PATHS; i++)
		add_path(paths, &n, system_paths[i]);
	add_path(paths, &n, req->tls_ca);
	add_path(paths, &n, req->file_prefix[0] != '\0' ? req->file_prefix : file);
	/* What is missing in this kernel is said once, by the daemon. */
	return sandbox_enter(SANDBOX_FETCHER, paths, n, &missing, err);
}

/* ---- answers --------------------------------------------------------------------------- */

static void
answer_init(struct fetch_answer *a, enum fetch_kind kind)
{
	memset(a, 0, sizeof(*a));
	a->magic = FETCH_ANSWER_MAGIC;
	a->kind = (int32_t)kind;
	a->total = -1;
	/* Its beginning as much as its end: a first request may take days. */
	sandbox_board_get(SANDBOX_FETCHER, &a->sandbox);
}

/* An answer that cannot be sent means that nobody waits for it; the next read sees that too. */
static void
on_begin(void *arg, const struct header_body *body, const char *etag)
{
	struct fetcher *f = arg;
	struct fetch_answer a;

	if (f->verbose)
		fprintf(stderr, "begin: first byte %lld, size %lld, validator %s\n",
			(long long)body->first, (long long)body->total, etag[0] ? etag : "none");
	if (f->socket < 0)
		return;
	answer_init(&a, FETCH_BEGIN);
	a.offset = body->first;
	a.total = body->total;
	snprintf(a.etag, sizeof(a.etag), "%s", etag);
	io_send_fds(f->socket, &a, sizeof(a), NULL, 0);
}

static bool
is_terminated(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static bool
is_span(int64_t seconds)
{
	/* A hundred years, so that milliseconds cannot overflow. */
	return seconds >= 0 && seconds <= 100LL * 366 * 86400;
}

static int
check_request(const struct fetch_request *r, struct err *err)
{
	bool good = r->magic == FETCH_REQUEST_MAGIC && is_terminated(r->url, sizeof(r->url)) &&
		    is_terminated(r->username, sizeof(r->username)) &&
		    is_terminated(r->password, sizeof(r->password)) &&
		    is_terminated(r->etag, sizeof(r->etag)) &&
		    is_terminated(r->tls_ca, sizeof(r->tls_ca)) &&
		    is_terminated(r->proxy, sizeof(r->proxy)) &&
		    is_terminated(r->file_prefix, sizeof(r->file_prefix)) &&
		    r->offset >= 0 && r->max_bytes >= 0 && r->offset <= r->max_bytes &&
		    r->length >= 0 && r->length <= INT64_MAX - r->offset &&
		    r->expected_size >= -1 && r->limit_rate >= 0 &&
		    is_span(r->connect_timeout) && is_span(r->stall_timeout) &&
		    is_span(r->total_timeout);

	return good ? 0 : err_set(err, EINVAL, "malformed request");
}

/* Serves one request.  What it leaves in *end is told after fd is closed. */
static int
serve(struct fetcher *f, const struct fetch_request *req, int fd, struct fetch_answer *end)
{
	struct err err = { 0 };
	struct sink sink;
	struct transfer t = { .req = req, .sink = &sink, .begin = on_begin, .arg = f };
	long long deadline = 0;
	int rc;

	if (req->total_timeout > 0)
		deadline = io_monotonic_ms() + req->total_timeout * 1000;
	sink_init(&sink, fd, f->socket, req->limit_rate, deadline);
	rc = check_request(req, &err);
	if (rc == 0 && strncasecmp(req->url, "file:", 5) == 0)
		rc = file_fetch(&t, &err);
	else if (rc == 0)
		rc = http_fetch(f->http, &t, &err);
	answer_init(end, FETCH_END);
	end->bytes = sink_written(&sink);
	end->rc = rc;
	end->code = (int32_t)(rc != 0 && err.code == CODE_NONE ? CODE_DOWNLOAD : err.code);
	end->http_status = t.http_status;
	end->retry_after = t.retry_after;
	snprintf(end->text, sizeof(end->text), "%s", err.text);
	sink_release(&sink);
	return rc;
}

/* ---- as a child ------------------------------------------------------------------------ */

/* A whole request with its pipe, or 0 when there is no more to do. */
static int
next_request(struct fetcher *f, struct fetch_request *req, int *pipe_wr)
{
	int fd = -1;
	size_t n_fds = 1;
	ssize_t n = io_recv_fds(f->socket, req, sizeof(*req), &fd, &n_fds);

	if (n != (ssize_t)sizeof(*req) || n_fds != 1) {
		close_keep_errno(n_fds == 1 ? fd : -1);
		return 0;
	}
	/* The pipe is ours alone, so its flags are too.  A larger one saves wake-ups. */
	fcntl(fd, F_SETFL, O_WRONLY | O_NONBLOCK);
	fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
	*pipe_wr = fd;
	return 1;
}

static int
run_as_child(struct fetcher *f)
{
	struct fetch_request req;
	struct fetch_answer end;
	bool is_inside = false;
	int fd = -1;

	while (next_request(f, &req, &fd)) {
		struct err err = { 0 };

		if (!is_inside &&
		    (check_request(&req, &err) != 0 || enter_sandbox(&req, &err) != 0)) {
			fprintf(stderr, "vmimagefs-fetcher: %s\n", err.text);
			return EXIT_SOME_FAILED;
		}
		is_inside = true;
		serve(f, &req, fd, &end);
		close(fd);
		io_send_fds(f->socket, &end, sizeof(end), NULL, 0);
		explicit_bzero(&req, sizeof(req));
	}
	return EXIT_DONE;
}

static bool
has_request_socket(void)
{
	int type = 0;
	socklen_t len = sizeof(type);

	return getsockopt(REQUEST_FD, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
	       type == SOCK_SEQPACKET;
}

/* ---- by hand ---------------------------------------------------------------------------- */

static int
run_by_hand(struct fetcher *f, const struct byhand *byhand)
{
	struct fetch_answer end;
	struct err err = { 0 };

	f->verbose = byhand->verbose;
	if (enter_sandbox(&byhand->req, &err) != 0) {
		fprintf(stderr, "vmimagefs-fetcher: %s\n", err.text);
		return EXIT_SOME_FAILED;
	}
	if (serve(f, &byhand->req, STDOUT_FILENO, &end) == 0)
		return EXIT_DONE;
	fprintf(stderr, "vmimagefs-fetcher: code %d: %s (%s, after %lld bytes%s)\n", (int)end.code,
		end.text, strerrorname_np(-end.rc), (long long)end.bytes,
		end.retry_after > 0 ? ", asks to wait" : "");
	return code_exit((enum code)end.code);
}

int
main(int argc, char **argv)
{
	struct fetcher f = { .socket = argc > 1 ? -1 : REQUEST_FD };
	struct byhand byhand;
	struct err err = { 0 };
	int rc;

	sandbox_clean_environment(NULL);
	signal(SIGPIPE, SIG_IGN);
	io_fill_std_fds();
	process_close_from(REQUEST_FD + 1);
	if (argc == 1 && !has_request_socket()) {
		fprintf(stderr, "vmimagefs-fetcher: no URL, and no socket on descriptor 3; "
			"see --help\n");
		return EXIT_USAGE;
	}
	rc = argc > 1 ? byhand_parse(&byhand, argc, argv) : 0;
	if (rc != 0)
		return rc > 0 ? EXIT_DONE : EXIT_USAGE;
	if (http_new(&f.http, &err) != 0) {
		fprintf(stderr, "vmimagefs-fetcher: %s\n", err.text);
		return EXIT_SOME_FAILED;
	}
	rc = argc > 1 ? run_by_hand(&f, &byhand) : run_as_child(&f);
	explicit_bzero(&byhand, sizeof(byhand));
	http_free(f.http);
	return rc;
}
