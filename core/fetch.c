/*
 * fetch.c - our end of the request socket, and the splitting of URLs.
 *
 * A fetcher reads bytes from strangers, so what it answers is believed only where it makes sense:
 *
 *   state      answer that is accepted     leads to
 *   ASKED      BEGIN, END                  RUNNING, DONE
 *   RUNNING    END                         DONE
 *   DONE       none (fetch_again() asks)   ASKED
 *
 * with sizes, offsets and codes in range and texts that are terminated and printable.  Anything
 * else is a fetcher gone wrong: its answers end there.
 */
#include "config.h"

#include "fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "hex.h"
#include "io.h"

enum fetch_state { FETCH_ASKED, FETCH_RUNNING, FETCH_DONE, FETCH_BROKEN };

enum { FETCH_PIECE = 64 << 10, FETCH_RETRY_AFTER_MAX = 300, FETCH_ERRNO_MAX = 4095 };

struct fetch {
	struct starter *starter;
	uint32_t child;
	int sock;
	enum fetch_state state;
	int64_t offset, length;		/* asked for */
	int64_t expected_size;
};

/* ---- requests -------------------------------------------------------------------------- */

void
fetch_request_init(struct fetch_request *req, const struct conf *conf)
{
	memset(req, 0, sizeof(*req));
	req->magic = FETCH_REQUEST_MAGIC;
	req->max_bytes = LIMIT_IMAGE_BYTES;
	req->expected_size = -1;
	req->connect_timeout = 15;
	req->stall_timeout = 30;
	if (conf == NULL)
		return;
	req->connect_timeout = conf->connect_timeout;
	req->stall_timeout = conf->stall_timeout;
	req->limit_rate = conf->limit_rate;
	if (conf->proxy != NULL)
		snprintf(req->proxy, sizeof(req->proxy), "%s", conf->proxy);
}

/* The request waits in the socket until the fetcher is there to read it. */
static int
send_request(struct fetch *f, const struct fetch_request *req, int pipe_wr, struct err *err)
{
	int rc = io_send_fds(f->sock, req, sizeof(*req), &pipe_wr, 1);

	if (rc != 0)
		return err_set(err, -rc, "cannot ask the fetcher: %s", strerrordesc_np(-rc));
	f->offset = req->offset;
	f->length = req->length;
	f->expected_size = req->expected_size;
	f->state = FETCH_ASKED;
	return 0;
}

/* A socket and, at its other end, *theirs, whoever is started there. */
static int
new_fetch(struct fetch **out, int *theirs, struct err *err)
{
	struct fetch *f;
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) != 0)
		return err_set(err, errno, "no socket for a fetcher: %s",
			       strerrordesc_np(errno));
	f = xcalloc(1, sizeof(*f));
	f->sock = socks[0];
	f->state = FETCH_DONE;
	*theirs = socks[1];
	*out = f;
	return 0;
}

static int
run_fetcher(struct fetch *f, struct starter *starter, int theirs, struct err *err)
{
	int rc = starter_run(starter, STARTER_FETCHER, 0, &theirs, 1, &f->child, err);

	if (rc == 0)
		f->starter = starter;
	return rc;
}

int
fetch_start(struct fetch **out, struct starter *starter, const struct fetch_request *req,
	    int pipe_wr, struct err *err)
{
	CLEANUP_FD int pipe_fd = pipe_wr;
	CLEANUP_FD int theirs = -1;
	struct fetch *f = NULL;
	int rc = new_fetch(&f, &theirs, err);

	if (rc == 0)
		rc = send_request(f, req, pipe_fd, err);
	if (rc == 0)
		rc = run_fetcher(f, starter, theirs, err);
	*out = rc == 0 ? f : NULL;
	if (rc != 0)
		fetch_free(f);
	return rc;
}

int
fetch_prepare(struct fetch **out, struct starter *starter, struct err *err)
{
	CLEANUP_FD int theirs = -1;
	struct fetch *f = NULL;
	int rc = new_fetch(&f, &theirs, err);

	if (rc == 0)
		rc = run_fetcher(f, starter, theirs, err);
	*out = rc == 0 ? f : NULL;
	if (rc != 0)
		fetch_free(f);
	return rc;
}

int
fetch_again(struct fetch *f, const struct fetch_request *req, int pipe_wr, struct err *err)
{
	CLEANUP_FD int pipe_fd = pipe_wr;

	if (f->state != FETCH_DONE)
		return err_set(err, EBUSY, "the fetcher has not answered the request before");
	return send_request(f, req, pipe_fd, err);
}

int
fetch_fd(const struct fetch *f)
{
	return f->sock;
}

void
fetch_free(struct fetch *f)
{
	if (f == NULL)
		return;
	if (f->starter != NULL)
		starter_kill(f->starter, f->child);
	close_keep_errno(f->sock);
	free(f);
}

/* ---- answers --------------------------------------------------------------------------- */

static bool
is_text(const char *text, size_t size)
{
	size_t len = strnlen(text, size);

	if (len == size)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return false;
	return true;
}

static bool
begin_is_sane(const struct fetch *f, const struct fetch_answer *a)
{
	if (f->state != FETCH_ASKED || a->total < -1)
		return false;
	if (f->length > 0)
		return a->offset == f->offset &&
		       (f->expected_size < 0 || a->total == f->expected_size);
	return a->offset == 0 || a->offset == f->offset;
}

static bool
end_is_sane(const struct fetch *f, const struct fetch_answer *a)
{
	if (f->state != FETCH_ASKED && f->state != FETCH_RUNNING)
		return false;
	if (f->length > 0 && a->bytes > f->length && a->rc == 0)
		return false;
	/* A transfer that went well has begun before. */
	if (a->rc == 0)
		return f->state == FETCH_RUNNING && a->code == CODE_NONE;
	return a->rc < 0 && a->rc >= -FETCH_ERRNO_MAX && a->code > CODE_NONE &&
	       a->code <= CODE_BUSY;
}

static bool
answer_is_sane(const struct fetch *f, const struct fetch_answer *a, size_t len)
{
	if (len != sizeof(*a) || a->magic != FETCH_ANSWER_MAGIC || a->bytes < 0 ||
	    a->http_status < 0 || a->http_status > 999 || a->retry_after < 0 ||
	    a->retry_after > FETCH_RETRY_AFTER_MAX || !is_text(a->etag, sizeof(a->etag)) ||
	    !is_text(a->text, sizeof(a->text)))
		return false;
	switch (a->kind) {
	case FETCH_BEGIN:
		return begin_is_sane(f, a);
	case FETCH_END:
		return end_is_sane(f, a);
	default:
		return false;
	}
}

static int
broken(struct fetch *f, struct err *err, const char *text)
{
	f->state = FETCH_BROKEN;
	err_refuse(err, CODE_DOWNLOAD, "%s", text);
	return -EIO;
}

int
fetch_take(struct fetch *f, struct fetch_answer *answer, struct err *err)
{
	ssize_t n;

	if (f->state == FETCH_BROKEN)
		return broken(f, err, "the fetcher does not answer any more");
	do
		n = recv(f->sock, answer, sizeof(*answer), MSG_DONTWAIT | MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return broken(f, err, "the fetcher ended without an answer");
	if (!answer_is_sane(f, answer, (size_t)n))
		return broken(f, err, "the fetcher gave an answer that makes no sense");
	if (answer->sandbox.role == SANDBOX_FETCHER)
		sandbox_board_note(&answer->sandbox);
	f->state = answer->kind == FETCH_BEGIN ? FETCH_RUNNING : FETCH_DONE;
	return 1;
}

/* ---- a whole body ---------------------------------------------------------------------- */

/* What one body in the making is: its pipe ends (pipe < 0) and its fetcher answers (ended). */
struct collect {
	struct fetch *f;
	int pipe;
	bool ended;
	struct fetch_answer end;
	int64_t max_bytes;
	struct buf *out;
};

/* One piece from the pipe: 0, or the error that ends it all. */
static int
collect_bytes(struct collect *c, struct err *err)
{
	ssize_t n;

	buf_reserve(c->out, FETCH_PIECE);
	n = read(c->pipe, c->out->data + c->out->len, FETCH_PIECE);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR
			       ? 0
			       : err_set(err, errno, "cannot read the body: %s",
					 strerrordesc_np(errno));
	c->out->len += (size_t)n;
	c->out->data[c->out->len] = '\0';
	/* The fetcher counts too; but it is the one that reads what strangers send. */
	if ((int64_t)c->out->len > c->max_bytes)
		return err_refuse(err, CODE_TOO_MUCH, "more than the %lld bytes allowed",
				  (long long)c->max_bytes);
	if (n == 0) {
		close(c->pipe);
		c->pipe = -1;
	}
	return 0;
}

static int
collect_answers(struct collect *c, struct err *err)
{
	int n = fetch_take(c->f, &c->end, err);

	if (n > 0 && c->end.kind == FETCH_END)
		c->ended = true;
	return n < 0 ? n : 0;
}

static int
collect_step(struct collect *c, long long deadline, struct err *err)
{
	struct pollfd p[2] = {
		{ c->pipe, POLLIN, 0 },
		{ c->ended ? -1 : fetch_fd(c->f), POLLIN, 0 },
	};
	long long left = deadline - io_monotonic_ms();
	int rc = 0;

	if (left <= 0)
		return err_refuse(err, CODE_SLOW, "not done in the time allowed for all of it");
	if (poll(p, 2, (int)left) < 0)
		return errno == EINTR ? 0 : err_set(err, errno, "poll: %s", strerrordesc_np(errno));
	if (p[0].revents != 0)
		rc = collect_bytes(c, err);
	if (rc == 0 && p[1].revents != 0)
		rc = collect_answers(c, err);
	return rc;
}

static int
collect_result(const struct collect *c, struct err *err)
{
	if (c->end.rc != 0) {
		err_refuse(err, (enum code)c->end.code, "%s", c->end.text);
		if (err != NULL)
			err->rc = c->end.rc;
		return c->end.rc;
	}
	if (c->end.bytes != (int64_t)c->out->len) {
		err_refuse(err, CODE_DOWNLOAD, "%lld bytes came, the fetcher counted %lld",
			   (long long)c->out->len, (long long)c->end.bytes);
		return -EIO;
	}
	return 0;
}

int
fetch_to_buf(struct starter *starter, const struct fetch_request *req, struct buf *out,
	     struct err *err)
{
	struct fetch_request whole = *req;
	struct collect c = { .pipe = -1, .out = out };
	long long deadline;
	int fds[2];
	int rc;

	whole.offset = whole.length = 0;
	whole.etag[0] = '\0';
	if (whole.total_timeout == 0 || whole.total_timeout > LIMIT_LIST_SECONDS)
		whole.total_timeout = LIMIT_LIST_SECONDS;
	if (whole.max_bytes > LIMIT_MESSAGE_BYTES)
		whole.max_bytes = LIMIT_MESSAGE_BYTES;
	c.max_bytes = whole.max_bytes;
	/* A second more, so that the fetcher's own sentence about the time comes first. */
	deadline = io_monotonic_ms() + (whole.total_timeout + 1) * 1000;
	buf_clear(out);
	if (pipe2(fds, O_CLOEXEC) != 0) {
		rc = err_set(err, errno, "no pipe for a fetcher: %s", strerrordesc_np(errno));
		goto out;
	}
	c.pipe = fds[0];
	fcntl(c.pipe, F_SETFL, O_NONBLOCK);
	rc = fetch_start(&c.f, starter, &whole, fds[1], err);
	while (rc == 0 && (c.pipe >= 0 || !c.ended))
		rc = collect_step(&c, deadline, err);
	if (rc == 0)
		rc = collect_result(&c, err);
out:
	explicit_bzero(&whole, sizeof(whole));
	fetch_free(c.f);
	close_keep_errno(c.pipe);
	if (rc != 0)
		buf_clear(out);
	return rc;
}

/* ---- URLs ------------------------------------------------------------------------------ */

/* NULL for a malformed escape, a control byte or a secret that no request can carry. */
static char *
decode_secret(const char *text, size_t len)
{
	CLEANUP_BUF struct buf b = BUF_INIT;

	buf_puts(&b, "");
	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)text[i];

		if (c == '%') {
			c = i + 2 < len ? hex_byte(text + i + 1) : -1;
			if (c < 0)
				return NULL;
			i += 2;
		}
		if (c < ' ' || c == 0x7f || b.len + 1 >= FETCH_SECRET_MAX)
			return NULL;
		buf_putc(&b, (char)c);
	}
	return buf_steal(&b, NULL);
}

static int
check_bytes(const char *url, struct err *err)
{
	size_t len = strlen(url);

	/* Room for what the secrets take: the clean URL is measured by itself. */
	if (len > LIMIT_URI_BYTES + 6 * FETCH_SECRET_MAX)
		return err_set(err, EINVAL, "URL of more than %d bytes", LIMIT_URI_BYTES);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)url[i] <= ' ' || url[i] == 0x7f)
			return err_set(err, EINVAL,
				       "URL with a space or control byte at position %zu", i + 1);
	return 0;
}

/* Length of "scheme://" if it is one of ours, else 0. */
static size_t
scheme_len(const char *url, bool *is_file)
{
	static const char *const schemes[] = { "https://", "http://", "file://" };

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		if (strncasecmp(url, schemes[i], strlen(schemes[i])) == 0) {
			*is_file = i == 2;
			return strlen(schemes[i]);
		}
	}
	return 0;
}

static int
split_userinfo(const char *info, size_t len, char **username, char **password, struct err *err)
{
	const char *colon = memchr(info, ':', len);
	size_t user_len = colon != NULL ? (size_t)(colon - info) : len;
	const char *rest = colon != NULL ? colon + 1 : info + len;

	*username = decode_secret(info, user_len);
	*password = decode_secret(rest, (size_t)(info + len - rest));
	if (*username == NULL || *password == NULL)
		return err_set(err, EINVAL, "user or password in the URL is malformed or too long");
	return 0;
}

int
fetch_split_url(const char *url, char **clean, char **username, char **password, struct err *err)
{
	CLEANUP_FREE char *joined = NULL;
	CLEANUP_FREE char *user = NULL;
	CLEANUP_FREE char *secret = NULL;
	bool is_file = false;
	size_t scheme = scheme_len(url, &is_file);
	const char *authority = url + scheme;
	size_t len = strcspn(authority, "/?#");
	const char *at = memrchr(authority, '@', len);
	const char *host = at != NULL ? at + 1 : authority;
	int rc;

	*clean = *username = *password = NULL;
	rc = check_bytes(url, err);
	if (rc == 0 && scheme == 0)
		rc = err_set(err, EINVAL, "URL is not http://, https:// or file://");
	if (rc == 0 && (is_file ? at != NULL : host == authority + len))
		rc = err_set(err, EINVAL, is_file ? "file: URL with user or password"
						  : "URL without a host");
	if (rc == 0 && at != NULL)
		rc = split_userinfo(authority, (size_t)(at - authority), &user, &secret, err);
	if (rc != 0)
		return rc;
	joined = xasprintf("%.*s%s", (int)scheme, url, host);
	if (strlen(joined) > LIMIT_URI_BYTES)
		return err_set(err, EINVAL, "URL of more than %d bytes", LIMIT_URI_BYTES);
	*clean = steal_ptr(&joined);
	*username = steal_ptr(&user);
	*password = steal_ptr(&secret);
	return 0;
}
