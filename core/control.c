/*
 * control.c - the control socket: making it, and asking over it.
 *
 * The socket is always addressed through a descriptor of run_dir ("/proc/self/fd/N/control"), so
 * that the path may be longer than sun_path allows, and so that what was checked is what is used.
 *
 * An answer is read line by line.  A request that the daemon answers from memory must be answered
 * within ANSWER_MS; "fetch", "want" and "heal" may take as long as the image takes, and end when
 * the daemon ends, because its end closes the connection.
 */
#include "config.h"
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "limits.h"
#include "sandboxstate.h"
#include "log.h"
#include "workerstate.h"

enum {
	ANSWER_MS = 60000,	/* purge and reload touch the disk; everything else is instant */
	POKE_MS = 10000,	/* a poke is a courtesy: the daemon looks for itself soon enough */
	WRITE_MS = 10000,
	LOOK_MS = 1000,		/* whether anybody is there to answer */
	LONG_TRIES = 3,
	BACKLOG = 16,
	ANSWER_BYTES = 1 << 20,	/* one line of an answer: the status of a large site */
};

#define SOCKET_NAME "control"

static void
make_address(int dir, struct sockaddr_un *sun)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	snprintf(sun->sun_path, sizeof(sun->sun_path), "/proc/self/fd/%d/%s", dir, SOCKET_NAME);
}

/* A connected socket, or a negative errno value. */
static int
connect_in(int dir)
{
	CLEANUP_FD int fd = -1;
	struct sockaddr_un sun;

	make_address(dir, &sun);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) != 0)
		return -errno;
	return steal_fd(&fd);
}

/* ---- server ---------------------------------------------------------------------------------- */

static int
open_run_dir(const struct conf *conf, uid_t uid, gid_t gid, struct err *err)
{
	CLEANUP_FD int dir = -1;
	bool made;

	made = mkdir(conf->run_dir, 0755) == 0;
	dir = io_openat(AT_FDCWD, conf->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0)
		return err_set(err, errno, "cannot open run_dir '%s': %s", conf->run_dir,
			       strerrordesc_np(errno));
	if (made && geteuid() == 0 && fchown(dir, uid, gid) != 0)
		return err_set(err, errno, "cannot give run_dir '%s' to uid %u: %s", conf->run_dir,
			       (unsigned)uid, strerrordesc_np(errno));
	return steal_fd(&dir);
}

/* A socket file that nobody listens on is what a killed daemon leaves behind. */
static int
remove_stale(const struct conf *conf, int dir, struct err *err)
{
	int fd;

	fd = connect_in(dir);
	if (fd >= 0) {
		close(fd);
		return err_refuse(err, CODE_BUSY, "a daemon already listens on '%s/%s'",
				  conf->run_dir, SOCKET_NAME);
	}
	if (fd == -EAGAIN)
		return err_refuse(err, CODE_BUSY, "a daemon that is busy listens on '%s/%s'",
				  conf->run_dir, SOCKET_NAME);
	if (unlinkat(dir, SOCKET_NAME, 0) != 0 && errno != ENOENT)
		return err_set(err, errno, "cannot remove the old socket '%s/%s': %s",
			       conf->run_dir, SOCKET_NAME, strerrordesc_np(errno));
	return 0;
}

/* A link, so that root writes into no file that the owner of run_dir could have put there. */
static void
show_mountpoint(const struct conf *conf, int dir)
{
	unlinkat(dir, CONTROL_MOUNTPOINT, 0);
	/* Without it the configuration's word counts, which is the same but for a mount by hand. */
	if (symlinkat(conf->mountpoint, dir, CONTROL_MOUNTPOINT) != 0)
		log_debug("'%s/" CONTROL_MOUNTPOINT "' cannot be made: %s", conf->run_dir,
			  strerrordesc_np(errno));
}

int
control_listen(const struct conf *conf, uid_t uid, gid_t gid, struct err *err)
{
	CLEANUP_FD int dir = -1, fd = -1;
	struct sockaddr_un sun;
	mode_t mask;
	int rc;

	dir = open_run_dir(conf, uid, gid, err);
	if (dir < 0)
		return dir;
	rc = remove_stale(conf, dir, err);
	if (rc != 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "cannot make a socket: %s", strerrordesc_np(errno));

	/* The mode at birth, so that there is no moment in which others may connect. */
	make_address(dir, &sun);
	mask = umask(0117);
	rc = bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0 ? 0 : -errno;
	umask(mask);
	if (rc != 0)
		return err_set(err, -rc, "cannot bind '%s/%s': %s", conf->run_dir, SOCKET_NAME,
			       strerrordesc_np(-rc));
	if (geteuid() == 0 && fchownat(dir, SOCKET_NAME, uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
		return err_set(err, errno, "cannot give '%s/%s' to uid %u: %s", conf->run_dir,
			       SOCKET_NAME, (unsigned)uid, strerrordesc_np(errno));
	if (listen(fd, BACKLOG) != 0)
		return err_set(err, errno, "cannot listen on '%s/%s': %s", conf->run_dir,
			       SOCKET_NAME, strerrordesc_np(errno));
	show_mountpoint(conf, dir);
	return steal_fd(&fd);
}

/* ---- client ---------------------------------------------------------------------------------- */

/* Waits for events until the deadline (0: for ever). */
static int
wait_for(int fd, short events, long long deadline)
{
	struct pollfd p = { .fd = fd, .events = events };
	long long left;
	int n;

	for (;;) {
		left = deadline == 0 ? -1 : deadline - io_monotonic_ms();
		if (deadline != 0 && left <= 0)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static int
dial(const struct conf *conf, struct err *err)
{
	CLEANUP_FD int dir = -1;
	int fd;

	dir = io_openat(AT_FDCWD, conf->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0 && (errno == ENOENT || errno == ENOTDIR))
		return err_set(err, ENOTCONN, "the daemon is not running: there is no '%s'",
			       conf->run_dir);
	if (dir < 0)
		return err_set(err, errno, "cannot open run_dir '%s': %s", conf->run_dir,
			       strerrordesc_np(errno));
	fd = connect_in(dir);
	switch (fd) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -ENOTSOCK:
		return err_set(err, ENOTCONN,
			       "the daemon is not running: nobody listens on '%s/%s'",
			       conf->run_dir, SOCKET_NAME);
	case -EAGAIN:
		return err_refuse(err, CODE_BUSY, "the daemon takes no more requests on '%s/%s'",
				  conf->run_dir, SOCKET_NAME);
	default:
		if (fd < 0)
			return err_set(err, -fd, "cannot connect to '%s/%s': %s", conf->run_dir,
				       SOCKET_NAME, strerrordesc_np(-fd));
	}
	return fd;
}

static int
send_request(int fd, const char *request, struct err *err)
{
	CLEANUP_BUF struct buf line = BUF_INIT;
	long long deadline = io_monotonic_ms() + WRITE_MS;
	size_t done = 0;
	ssize_t n;
	int rc;

	buf_printf(&line, "%s\n", request);
	if (line.len > LIMIT_CONTROL_LINE)
		return err_refuse(err, CODE_LIMIT, "request of %zu bytes is longer than %d",
				  line.len, LIMIT_CONTROL_LINE);
	while (done < line.len) {
		n = send(fd, line.data + done, line.len - done, MSG_NOSIGNAL);
		if (n >= 0) {
			done += (size_t)n;
			continue;
		}
		rc = errno == EAGAIN || errno == EINTR ? wait_for(fd, POLLOUT, deadline) : -errno;
		if (rc != 0)
			return err_set(err, -rc, "cannot send to the daemon: %s",
				       strerrordesc_np(-rc));
	}
	return 0;
}

/* "err <code> <errno> <sentence>" as the error it was. */
static int
take_refusal(const char *text, struct err *err)
{
	char *end;
	long code, errnum;

	code = strtol(text, &end, 10);
	errnum = strtol(end, &end, 10);
	if (*end == ' ')
		end++;
	if (errnum <= 0 || errnum > 4095)
		errnum = EIO;
	err_set(err, (int)errnum, "%s", *end != '\0' ? end : "the daemon refused the request");
	if (err != NULL && code > 0 && code < 256)
		err->code = (enum code)code;
	return -(int)errnum;
}

struct answer {
	int (*line)(void *arg, const char *text);
	void *arg;
	struct buf *ok_text;
	bool done;
};

/* One whole line; 0 to go on (or done), otherwise the error. */
static int
take_line(struct answer *a, const char *text, struct err *err)
{
	int rc;

	if (strncmp(text, "ok", 2) == 0 && (text[2] == '\0' || text[2] == ' ')) {
		if (a->ok_text != NULL && text[2] == ' ')
			buf_puts(a->ok_text, text + 3);
		a->done = true;
		return 0;
	}
	if (strncmp(text, "err ", 4) == 0)
		return take_refusal(text + 4, err);
	if (a->line == NULL)
		return 0;
	rc = a->line(a->arg, text);
	return rc < 0 ? err_set(err, -rc, "stopped: %s", strerrordesc_np(-rc)) : 0;
}

/* Every whole line in the buffer; what is left of a line moves to its front. */
static int
take_lines(struct answer *a, struct buf *in, struct err *err)
{
	char *start = in->data, *end = in->data + in->len, *nl;
	int rc = 0;

	while (rc == 0 && !a->done && (nl = memchr(start, '\n', (size_t)(end - start))) != NULL) {
		*nl = '\0';
		rc = take_line(a, start, err);
		start = nl + 1;
	}
	in->len = (size_t)(end - start);
	memmove(in->data, start, in->len);
	return rc;
}

/* 0: for ever. */
static bool
is_over(long long deadline)
{
	return deadline != 0 && io_monotonic_ms() >= deadline;
}

static int
no_answer(int rc, struct err *err)
{
	return err_set(err, -rc, "no answer from the daemon: %s", strerrordesc_np(-rc));
}

/*
 * Waits for a part of the answer, and looks meanwhile whether there is a worker that could give
 * one: the socket outlives it, and takes requests for the next.
 */
static int
wait_for_answer(const struct conf *conf, int fd, long long deadline, struct err *err)
{
	CLEANUP_BUF struct buf why = BUF_INIT;
	struct worker_state state;
	int rc;

	do {
		long long look = io_monotonic_ms() + LOOK_MS;

		rc = wait_for(fd, POLLIN, deadline != 0 && deadline < look ? deadline : look);
		if (rc != -ETIMEDOUT || is_over(deadline))
			break;
	} while (worker_state_read(conf->run_dir, &state) != 0 || !worker_state_is_down(&state));
	if (rc == 0)
		return 0;
	if (rc != -ETIMEDOUT || is_over(deadline))
		return no_answer(rc, err);
	worker_state_describe(&state, &why);
	return err_refuse(err, CODE_BUSY, "the daemon does not serve now: %s", buf_str(&why));
}

/* Also whoever sends all the time has to come to an end. */
static int
take_block(struct answer *a, struct buf *in, long long deadline, struct err *err)
{
	int rc = take_lines(a, in, err);

	if (rc == 0 && in->len > ANSWER_BYTES)
		rc = err_refuse(err, CODE_LIMIT, "a line of the daemon's answer is longer than %d "
				"bytes", ANSWER_BYTES);
	return rc == 0 && !a->done && is_over(deadline) ? no_answer(-ETIMEDOUT, err) : rc;
}

static int
read_answer(const struct conf *conf, int fd, struct answer *a, int timeout_ms, struct err *err)
{
	CLEANUP_BUF struct buf in = BUF_INIT;
	long long deadline = timeout_ms > 0 ? io_monotonic_ms() + timeout_ms : 0;
	char block[8192];
	ssize_t n;
	int rc = 0;

	while (rc == 0 && !a->done) {
		n = recv(fd, block, sizeof(block), 0);
		if (n > 0) {
			buf_add(&in, block, (size_t)n);
			rc = take_block(a, &in, deadline, err);
		} else if (n == 0) {
			rc = err_set(err, ECONNRESET, "the daemon ended before it answered");
		} else if (errno == EAGAIN || errno == EINTR) {
			rc = wait_for_answer(conf, fd, deadline, err);
		} else {
			rc = err_set(err, errno, "cannot read the daemon's answer: %s",
				     strerrordesc_np(errno));
		}
	}
	return rc;
}

static int
call(const struct conf *conf, const char *request, int timeout_ms, struct answer *answer,
     struct err *err)
{
	CLEANUP_FD int fd = -1;
	int rc;

	fd = dial(conf, err);
	if (fd < 0)
		return fd;
	rc = send_request(fd, request, err);
	if (rc != 0)
		return rc;
	return read_answer(conf, fd, answer, timeout_ms, err);
}

bool
control_listens(const struct conf *conf)
{
	int fd = dial(conf, NULL);

	if (fd >= 0)
		close(fd);
	return fd != -ENOTCONN;
}

/* Another worker takes the place of the one that was asked. */
static bool
is_exchanged(const struct conf *conf)
{
	struct worker_state state;

	return worker_state_read(conf->run_dir, &state) == 0 && !worker_state_is_down(&state) &&
	       control_listens(conf);
}

/* What goes through a whole image. */
static bool
is_long(const char *request)
{
	static const char *const words[] = { "fetch ", "want ", "heal " };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strncmp(request, words[i], strlen(words[i])) == 0)
			return true;
	return false;
}

int
control_call(const struct conf *conf, const char *request,
	     int (*line)(void *arg, const char *text), void *arg, struct buf *ok_text,
	     struct err *err)
{
	struct answer answer = { .line = line, .arg = arg, .ok_text = ok_text };
	int rc;

	if (!is_long(request))
		return call(conf, request, ANSWER_MS, &answer, err);
	for (int i = 0; (rc = call(conf, request, 0, &answer, err)) == -ECONNRESET; i++)
		if (i == LONG_TRIES || !is_exchanged(conf))
			break;
	return rc;
}

void
control_poke(const struct conf *conf)
{
	struct answer answer = { .line = NULL };

	/* Nothing depends on it: a daemon looks for changed rows by itself. */
	(void)call(conf, "poke", POKE_MS, &answer, NULL);
}

void
control_confined(const struct conf *conf)
{
	static const enum sandbox_role told[] = {
		SANDBOX_UPDATER, SANDBOX_FETCHER, SANDBOX_VERIFIER,
	};

	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		CLEANUP_BUF struct buf request = BUF_INIT;
		struct answer answer = { .line = NULL };
		struct sandbox_state state;

		if (!sandbox_board_get(told[i], &state))
			continue;
		buf_puts(&request, "confined ");
		sandbox_state_pack(&state, &request);
		if (call(conf, buf_str(&request), POKE_MS, &answer, NULL) != 0)
			return;
	}
}
