/*
 * verify.c - our end of a verifier process.
 *
 * One socket pair is the child's descriptors 0 and 1.  We write the message, shut our writing
 * side down (its end of file), and read until its end of file.  Both directions are served by one
 * poll loop: a verifier that answers before it has read everything, or that reads slowly, must
 * not block us, and nothing it does may take longer than the deadline or more memory than the
 * largest honest answer.
 */
#include "config.h"
#include "verify.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "limits.h"

enum {
	/* A verdict is a payload no longer than its message, and names. */
	VERDICT_EXTRA_BYTES = 256 << 10,
	REAP_MS = 5000,		/* from end of file, or from SIGKILL, to the end of the process */
};

struct exchange {
	int fd;
	const char *data;	/* still to be sent */
	size_t left;
	size_t max_answer;
	struct buf *answer;
	bool sent_all, ended;
};

static int
send_some(struct exchange *x)
{
	ssize_t n;

	n = send(x->fd, x->data, x->left, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0) {
		/* It refused before it had read everything; what it says is still to be read. */
		if (errno != EPIPE && errno != ECONNRESET)
			return -errno;
		x->left = 0;
	} else {
		x->data += n;
		x->left -= (size_t)n;
	}
	if (x->left == 0 && !x->sent_all) {
		shutdown(x->fd, SHUT_WR);
		x->sent_all = true;
	}
	return 0;
}

static int
receive_some(struct exchange *x)
{
	char block[65536];
	ssize_t n;

	n = recv(x->fd, block, sizeof(block), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0 && errno != ECONNRESET)
		return -errno;
	if (n <= 0) {
		x->ended = true;
		return 0;
	}
	if (x->answer->len + (size_t)n > x->max_answer)
		return -EFBIG;
	buf_add(x->answer, block, (size_t)n);
	return 0;
}

static int
converse(struct exchange *x, long long deadline)
{
	struct pollfd p = { .fd = x->fd };
	long long left;
	int rc = 0;

	if (x->left == 0)
		rc = send_some(x);
	while (rc == 0 && !x->ended) {
		left = deadline - io_monotonic_ms();
		if (left <= 0)
			return -ETIMEDOUT;
		p.events = (short)(x->sent_all ? POLLIN : POLLIN | POLLOUT);
		if (poll(&p, 1, (int)left) < 0) {
			if (errno != EINTR)
				return -errno;
			continue;
		}
		if ((p.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
			rc = receive_some(x);
		if (rc == 0 && !x->sent_all && (p.revents & POLLOUT) != 0)
			rc = send_some(x);
	}
	return rc;
}

/* The wait status of the child, or a negative errno value if it did not end in time. */
static int
reap(struct starter *starter, uint32_t id, int *status)
{
	long long deadline = io_monotonic_ms() + REAP_MS, left;
	struct pollfd p = { .fd = starter_fd(starter), .events = POLLIN };
	uint32_t ended;
	int n;

	for (;;) {
		while ((n = starter_reap(starter, &ended, status)) > 0)
			if (ended == id || ended == STARTER_ALL)
				return 0;
		if (n < 0)
			return n;
		left = deadline - io_monotonic_ms();
		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)left) < 0 && errno != EINTR)
			return -errno;
	}
}

static int
explain(int rc, int status, struct err *err)
{
	if (rc == -ETIMEDOUT)
		return err_refuse(err, CODE_LIMIT, "the verifier was stopped after %d seconds",
				  LIMIT_VERIFIER_SECONDS);
	if (rc == -EFBIG)
		return err_refuse(err, CODE_LIMIT,
				  "the verifier said more than a verdict can hold");
	if (rc != 0)
		return err_set(err, -rc, "cannot talk to the verifier: %s", strerrordesc_np(-rc));
	if (status == STARTER_NOT_STARTED)
		return err_refuse(err, CODE_BUSY,
				  "the verifier could not be started: no process or no"
				  " memory for it");
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_TEMPORARY)
		return err_refuse(err, CODE_LIMIT, "the verifier had no memory for the message");
	if (WIFSIGNALED(status))
		return err_refuse(err, CODE_LIMIT, "the verifier was ended by signal %d (%s): the"
				  " message needs more than it may use", WTERMSIG(status),
				  sigabbrev_np(WTERMSIG(status)));
	return err_refuse(err, CODE_LIMIT, "the verifier ended with status %d and gave no verdict",
			  WEXITSTATUS(status));
}

int
verify_message(struct starter *starter, const void *message, size_t len, struct verdict *out,
	       struct err *err)
{
	CLEANUP_BUF struct buf answer = BUF_INIT;
	CLEANUP_FD int ours = -1;
	struct exchange x = {
		.data = message, .left = len, .answer = &answer,
		.max_answer = len + VERDICT_EXTRA_BYTES,
	};
	int pair[2], fds[2], rc, reaped, status = 0;
	uint32_t id = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set(err, errno, "cannot make a socket pair: %s", strerrordesc_np(errno));
	ours = pair[0];
	fds[0] = fds[1] = pair[1];
	rc = starter_run(starter, STARTER_VERIFIER, 0, fds, 2, &id, err);
	close(pair[1]);
	if (rc != 0)
		return rc;

	x.fd = ours;
	rc = converse(&x, io_monotonic_ms() + LIMIT_VERIFIER_SECONDS * 1000LL);
	if (rc != 0)
		starter_kill(starter, id);
	reaped = reap(starter, id, &status);
	if (rc == 0 && reaped != 0) {
		starter_kill(starter, id);
		rc = reaped;
	}
	if (rc != 0 || answer.len == 0)
		return explain(rc, status, err);
	rc = verdict_decode(answer.data, answer.len, out, err);
	if (rc != 0)
		return explain(0, status, err);
	if (out->sandbox.role == SANDBOX_VERIFIER)
		sandbox_board_note(&out->sandbox);
	return 0;
}
