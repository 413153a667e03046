/*
 * ranged.c - one range: request, answers, pipe, pieces.
 *
 *	ASKED --BEGIN--> BODY --(pipe at its end and END)--> judged: whole, or asked on, or failed
 *
 * The pipe is read only after BEGIN has said which bytes come.  Pieces are handed out as soon as
 * they are whole, while the fetcher goes on filling the pipe.  A fetcher that does not end when
 * its own time is over, or answers nonsense, is killed; so is one whose request is cancelled,
 * because nothing else ends a transfer at once.
 */
#include "config.h"
#include "ranged.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"

/* What the fetcher's own clocks are given to come first, and the least that a rate is told from. */
enum { GRACE_MS = 2000, RATE_BYTES = 512 << 10 };

struct ranged {
	struct starter *starter;
	struct fetch *fetch;
	bool fresh;			/* it has had no request: its sandbox is open */
	int cancel_fd;			/* eventfd */
	unsigned char *piece;		/* RANGED_PIECE bytes */
	/* What the sandbox of the running fetcher closed over. */
	char tls_ca[FETCH_PATH_MAX], file_prefix[FETCH_PATH_MAX];
};

/* One ranged_get(). */
struct getting {
	struct ranged *r;
	struct fetch_request req;	/* what is missing of the range */
	int pipe;			/* -1: at its end */
	bool begun, ended;		/* of this request */
	struct fetch_answer answer;	/* END */
	int64_t came;			/* bytes of this request */
	int64_t at;			/* position in the file of the piece being filled */
	size_t used;			/* of it */
	long long deadline, first_ms, last_ms;
	int (*take)(void *arg, int64_t at, const void *data, size_t len);
	void *arg;
	struct ranged_end *end;
};

int
ranged_new(struct ranged **out, struct starter *starter, struct err *err)
{
	struct ranged *r = xcalloc(1, sizeof(*r));

	*out = NULL;
	r->starter = starter;
	r->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->cancel_fd < 0) {
		int errnum = errno;

		free(r);
		return err_set(err, errnum, "no eventfd: %s", strerrordesc_np(errnum));
	}
	r->piece = aligned_alloc(4096, RANGED_PIECE);
	if (r->piece == NULL) {
		ranged_free(r);
		return err_set(err, ENOMEM, "no memory for a piece of an image");
	}
	*out = r;
	return 0;
}

void
ranged_drop(struct ranged *r)
{
	fetch_free(r->fetch);
	r->fetch = NULL;
	r->fresh = false;
}

int
ranged_prepare(struct ranged *r, struct err *err)
{
	int rc;

	ranged_drop(r);
	rc = fetch_prepare(&r->fetch, r->starter, err);
	r->fresh = rc == 0;
	return rc;
}

bool
ranged_is_fresh(const struct ranged *r)
{
	return r->fresh;
}

void
ranged_free(struct ranged *r)
{
	if (r == NULL)
		return;
	ranged_drop(r);
	close_keep_errno(r->cancel_fd);
	free(r->piece);
	free(r);
}

bool
ranged_is_warm(const struct ranged *r)
{
	return r->fetch != NULL;
}

void
ranged_cancel(struct ranged *r)
{
	eventfd_write(r->cancel_fd, 1);
}

void
ranged_resume(struct ranged *r)
{
	eventfd_t n;

	eventfd_read(r->cancel_fd, &n);
}

/* ---- asking ---------------------------------------------------------------------------- */

static bool
fits_sandbox(const struct ranged *r, const struct fetch_request *req)
{
	return r->fresh || (strcmp(r->tls_ca, req->tls_ca) == 0 &&
			    strcmp(r->file_prefix, req->file_prefix) == 0);
}

static void
note_sandbox(struct ranged *r, const struct fetch_request *req)
{
	memcpy(r->tls_ca, req->tls_ca, sizeof(r->tls_ca));
	memcpy(r->file_prefix, req->file_prefix, sizeof(r->file_prefix));
	r->fresh = false;
}

/* The fetcher that is there, if it still is; 0: it was asked. */
static int
ask_again(struct ranged *r, const struct fetch_request *req, int pipe_wr, struct err *err)
{
	int again = fcntl(pipe_wr, F_DUPFD_CLOEXEC, 0);
	int rc;

	if (again < 0)
		return -errno;
	rc = fetch_again(r->fetch, req, again, err);
	if (rc == 0)
		close(pipe_wr);
	return rc;
}

static int
ask(struct getting *g, struct err *err)
{
	struct ranged *r = g->r;
	int fds[2], rc;

	g->begun = g->ended = false;
	g->came = 0;
	if (pipe2(fds, O_CLOEXEC) != 0)
		return err_set(err, errno, "no pipe for a fetcher: %s", strerrordesc_np(errno));
	g->pipe = fds[0];
	fcntl(g->pipe, F_SETFL, O_NONBLOCK);
	rc = -ENOENT;
	if (r->fetch != NULL && fits_sandbox(r, &g->req))
		rc = ask_again(r, &g->req, fds[1], err);
	if (rc != 0) {
		ranged_drop(r);
		rc = fetch_start(&r->fetch, r->starter, &g->req, fds[1], err);
	}
	note_sandbox(r, &g->req);
	return rc;
}

/* ---- receiving ------------------------------------------------------------------------- */

/* The piece is full, or the range is at its end. */
static int
hand_out(struct getting *g, struct err *err)
{
	size_t len = g->used;

	g->used = 0;
	g->at += (int64_t)len;
	if (len > 0 && g->take(g->arg, g->at - (int64_t)len, g->r->piece, len) != 0)
		return err_set(err, ECANCELED, "whoever asked does not want the rest");
	return 0;
}

/* More than the range: sent with a refusal that END will tell. */
static int
skip_bytes(struct getting *g, struct err *err)
{
	char more[64];
	ssize_t n = read(g->pipe, more, sizeof(more));

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return err_set(err, errno, "cannot read from a fetcher: %s",
			       strerrordesc_np(errno));
	if (n > 0)
		g->came += n;
	if (n == 0) {
		close(g->pipe);
		g->pipe = -1;
	}
	return 0;
}

/* All that the pipe has now. */
static int
take_bytes(struct getting *g, struct err *err)
{
	while (g->came < g->req.length) {
		size_t room = RANGED_PIECE - g->used;
		int rc = 0;
		ssize_t n;

		if ((int64_t)room > g->req.length - g->came)
			room = (size_t)(g->req.length - g->came);
		n = read(g->pipe, g->r->piece + g->used, room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			break;
		g->last_ms = io_monotonic_ms();
		if (g->end->bytes == 0)
			g->first_ms = g->last_ms;
		g->came += n;
		g->end->bytes += n;
		g->used += (size_t)n;
		if (g->used == RANGED_PIECE || g->came == g->req.length)
			rc = hand_out(g, err);
		if (rc != 0)
			return rc;
	}
	return skip_bytes(g, err);
}

static int
take_answers(struct getting *g, struct err *err)
{
	while (!g->ended) {
		struct fetch_answer answer;
		int n = fetch_take(g->r->fetch, &answer, err);

		if (n <= 0)
			return n;
		if (answer.kind == FETCH_BEGIN) {
			g->begun = g->end->begun = true;
		} else {
			g->answer = answer;
			g->ended = true;
		}
	}
	return 0;
}

static int
step(struct getting *g, struct err *err)
{
	/* Without BEGIN the pipe ends empty, or what is in it is for nobody. */
	struct pollfd p[3] = {
		{ g->r->cancel_fd, POLLIN, 0 },
		{ g->ended ? -1 : fetch_fd(g->r->fetch), POLLIN, 0 },
		{ g->begun ? g->pipe : -1, POLLIN, 0 },
	};
	long long left = g->deadline - io_monotonic_ms();
	int rc = 0;

	if (left <= 0)
		return err_refuse(err, CODE_SLOW, "no answer in the time allowed for it");
	if (poll(p, 3, (int)left) < 0)
		return errno == EINTR ? 0 : err_set(err, errno, "poll: %s", strerrordesc_np(errno));
	if (p[0].revents != 0)
		return err_set(err, ECANCELED, "not wanted any more");
	if (p[1].revents != 0)
		rc = take_answers(g, err);
	if (rc == 0 && p[2].revents != 0)
		rc = take_bytes(g, err);
	return rc;
}

static int
answer_result(const struct getting *g, struct err *err)
{
	const struct fetch_answer *a = &g->answer;

	if (a->rc != 0) {
		err_refuse(err, (enum code)a->code, "%s", a->text);
		err->rc = a->rc;
		return a->rc;
	}
	if (a->bytes != g->came || g->came > g->req.length) {
		err_refuse(err, CODE_DOWNLOAD, "%lld bytes came, the fetcher counted %lld",
			   (long long)g->came, (long long)a->bytes);
		return -EIO;
	}
	return 0;
}

/* One request until its END: 0, or what went wrong.  Leaves the fetcher usable or drops it. */
static int
receive(struct getting *g, struct err *err)
{
	int rc = ask(g, err);

	while (rc == 0 && (!g->ended || (g->begun && g->pipe >= 0)))
		rc = step(g, err);
	close_keep_errno(g->pipe);
	g->pipe = -1;
	if (rc != 0) {
		ranged_drop(g->r);
		return rc;
	}
	g->end->http_status = g->answer.http_status;
	g->end->retry_after = g->answer.retry_after;
	return answer_result(g, err);
}

static void
tell_rate(const struct getting *g)
{
	long long ms = g->last_ms - g->first_ms;

	if (g->end->bytes >= RATE_BYTES)
		g->end->rate = g->end->bytes * 1000 / (ms > 0 ? ms : 1);
}

int
ranged_get(struct ranged *r, const struct fetch_request *req,
	   int (*piece)(void *arg, int64_t at, const void *data, size_t len), void *arg,
	   struct ranged_end *end)
{
	struct getting *g = xcalloc(1, sizeof(*g));
	int rc;

	memset(end, 0, sizeof(*end));
	g->r = r;
	g->req = *req;
	g->pipe = -1;
	g->at = req->offset;
	g->take = piece;
	g->arg = arg;
	g->end = end;
	g->deadline = io_monotonic_ms() + req->total_timeout * 1000 + GRACE_MS;
	do {
		rc = receive(g, &end->err);
		g->req.offset += g->came;
		g->req.length -= g->came;
	} while (rc == 0 && g->req.length > 0 && g->came > 0);
	if (rc == 0 && g->req.length > 0)
		rc = err_refuse(&end->err, CODE_RANGE, "no bytes of the range came");
	end->err.rc = rc;
	tell_rate(g);
	explicit_bzero(&g->req, sizeof(g->req));
	free(g);
	return rc;
}
