/*
 * Our side of the runner: its start, requests, and what comes back.
 */
#include "config.h"
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "kept.h"
#include "log.h"
#include "process.h"
#include "runner_impl.h"
#include "sandbox.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

enum {
	SEND_MS = 1000,		/* until a full socket has room */
	GONE_MS = 12000,	/* it gives handlers time to end */
};

struct runner {
	int sock;
	pid_t pid;
	/* Who may wait for it: after a fork there are two of us; 0: nobody. */
	pid_t owner;
	uint32_t next_id;
	struct runner_packet packet;
};

/* ---- both sides ------------------------------------------------------------------------------ */

int
runner_tell(int sock, uint32_t id, int status, bool timed_out, const struct buf *output, bool wait)
{
	struct runner_note note = { .magic = RUNNER_MAGIC, .kind = RUNNER_ENDED, .id = id,
				    .status = status, .timed_out = timed_out };
	size_t len = output->len < LIMIT_EVENT_OUTPUT ? output->len : LIMIT_EVENT_OUTPUT;
	struct iovec parts[2] = { { &note, sizeof(note) }, { output->data, len } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = len > 0 ? 2 : 1 };
	struct pollfd polled = { .fd = sock, .events = POLLOUT };

	while (sendmsg(sock, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
			return -errno;
		if (!wait)
			return -EAGAIN;
		poll(&polled, 1, -1);
	}
	return 0;
}

/* ---- the process ----------------------------------------------------------------------------- */

static int
find_user(const struct conf *conf, struct account *who, struct err *err)
{
	bool named = conf->event_user != NULL;
	int rc = account_find(named ? conf->event_user : conf->user, who, err);

	return rc == 0 ? 0 : err_prefix(err, "%s", named ? "event_user" : "user");
}

struct hosting {			/* what the keeper forks */
	int sock;
	const struct conf *conf;
	const struct account *who;	/* or NULL */
};

static int
host(void *arg)
{
	const struct hosting *h = arg;

	return runner_host(h->sock, h->conf, NULL, h->who);
}

enum { LOST_MS = 5000 };	/* the keeper's word waits that long for room */

static void
tell_lost(void *arg)
{
	const struct hosting *h = arg;
	struct runner_note note = { .magic = RUNNER_MAGIC, .kind = RUNNER_LOST, .id = RUNNER_ALL };
	struct pollfd polled = { .fd = h->sock, .events = POLLOUT };

	if (poll(&polled, 1, LOST_MS) > 0)
		send(h->sock, &note, sizeof(note), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int
keep_host(int sock, const struct conf *conf, const struct account *who)
{
	struct hosting hosting = { sock, conf, who };
	const struct kept kept = {
		.name = "process of event handlers", .run = host, .lost = tell_lost,
		.arg = &hosting, .fds = { sock }, .n_fds = 1,
	};
	struct err err = { 0 };
	unsigned missing;
	int rc = who != NULL ? account_become(who, &err) : 0;

	if (rc == 0)
		rc = sandbox_enter(SANDBOX_RUNNER, NULL, 0, &missing, &err);
	if (rc != 0) {
		log_err(LOG_LVL_ERROR, "event handlers", &err);
		return 1;
	}
	return kept_main(&kept);
}

static struct runner *
make_runner(int sock, pid_t pid, uint32_t last_id)
{
	struct runner *r = xcalloc(1, sizeof(*r));

	r->sock = sock;
	r->pid = pid;
	r->owner = pid > 0 ? getpid() : 0;
	r->next_id = last_id;
	return r;
}

int
runner_new(struct runner **out, const struct conf *conf, const char *command, struct err *err)
{
	bool change_user = command == NULL && geteuid() == 0;
	struct account who = { 0 };
	int pair[2], rc = 0;
	pid_t pid;

	*out = NULL;
	if (change_user)
		rc = find_user(conf, &who, err);
	if (rc != 0)
		return rc;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
		rc = err_set(err, errno, "no socket for event handlers: %s",
			     strerrordesc_np(errno));
		account_release(&who);
		return rc;
	}
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		_exit(command != NULL ? runner_host(pair[1], conf, command, NULL)
				      : keep_host(pair[1], conf, change_user ? &who : NULL));
	}
	rc = pid < 0 ? errno : 0;
	account_release(&who);
	close(pair[1]);
	if (rc != 0) {
		close(pair[0]);
		return err_set(err, rc, "no process for event handlers: %s", strerrordesc_np(rc));
	}
	*out = make_runner(pair[0], pid, 0);
	return 0;
}

void
runner_free(struct runner *r)
{
	if (r == NULL)
		return;
	close(r->sock);
	/* It has nothing that anybody waits for. */
	if (r->owner == getpid() && !process_wait(r->pid, GONE_MS, NULL))
		log_error("the process of event handlers does not end, and is left to itself");
	free(r);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* A full socket is waited for, but not for ever: a runner that is stopped does not read. */
static int
send_note(const struct runner *r, const struct runner_note *note, const int *fds, size_t n_fds)
{
	return io_send_fds_wait(r->sock, note, sizeof(*note), fds, n_fds, SEND_MS);
}

static int
send_order(const struct runner *r, enum runner_kind kind)
{
	struct runner_note note = { .magic = RUNNER_MAGIC, .kind = (int32_t)kind };

	return send_note(r, &note, NULL, 0);
}

void
runner_stop(const struct runner *r)
{
	if (r != NULL)
		send_order(r, RUNNER_STOP);
}

/* What the one before us had started is known by its ids: ours begin anywhere. */
struct runner *
runner_adopt(int sock)
{
	struct runner *r;
	uint32_t last = 0;

	if (getrandom(&last, sizeof(last), GRND_NONBLOCK) != (ssize_t)sizeof(last))
		last = (uint32_t)io_monotonic_ms();
	r = make_runner(sock, 0, last);
	send_order(r, RUNNER_RESET);
	return r;
}

int
runner_reload(struct runner *r, struct err *err)
{
	int rc = send_order(r, RUNNER_RELOAD);

	return rc == 0 ? 0 : err_set(err, -rc, "the process of event handlers does not answer: %s",
				     strerrordesc_np(-rc));
}

/* A file in memory that nobody can change any more, to be read from its beginning. */
static int
sealed_file(const struct buf *data)
{
	static const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	CLEANUP_FD int fd = memfd_create("vmimagefs-event", flags | MFD_NOEXEC_SEAL);
	int rc;

	if (fd < 0 && errno == EINVAL)	/* before Linux 6.3 */
		fd = memfd_create("vmimagefs-event", flags);
	if (fd < 0)
		return -errno;
	rc = io_write_all(fd, data->data, data->len);
	if (rc != 0)
		return rc;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0 ||
	    lseek(fd, 0, SEEK_SET) != 0)
		return -errno;
	return steal_fd(&fd);
}

static uint32_t
new_id(struct runner *r)
{
	do
		r->next_id++;
	while (r->next_id == 0 || r->next_id == RUNNER_ALL);
	return r->next_id;
}

int
runner_start(struct runner *r, const char *name, const struct buf *variables,
	     const struct buf *record, uint32_t *id, struct err *err)
{
	struct runner_note note = { .magic = RUNNER_MAGIC, .kind = RUNNER_RUN };
	CLEANUP_FD int in = sealed_file(record);
	CLEANUP_FD int env = sealed_file(variables);
	const int fds[RUNNER_FDS] = { in, env };
	int rc = in < 0 ? in : env < 0 ? env : 0;

	/* The one handler of a command is known without its name, its whole command line. */
	memcpy(note.name, name, strnlen(name, sizeof(note.name) - 1));
	note.id = new_id(r);
	if (rc == 0)
		rc = send_note(r, &note, fds, RUNNER_FDS);
	if (rc != 0)
		return err_set(err, -rc, "event handler '%.100s' cannot be asked for: %s", name,
			       strerrordesc_np(-rc));
	*id = note.id;
	return 0;
}

/* ---- what comes back ------------------------------------------------------------------------- */

pid_t
runner_pid(const struct runner *r)
{
	return r->pid;
}

int
runner_fd(const struct runner *r)
{
	return r->sock;
}

int
runner_reap(struct runner *r, uint32_t *id, int *status, bool *timed_out, struct buf *output)
{
	const struct runner_note *note = &r->packet.note;
	ssize_t n = io_recv_fds(r->sock, &r->packet, sizeof(r->packet), NULL, NULL);

	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return n < 0 ? (int)n : -EPIPE;
	if (n < (ssize_t)sizeof(*note) || note->magic != RUNNER_MAGIC ||
	    (note->kind != RUNNER_ENDED && note->kind != RUNNER_LOST))
		return -EPROTO;
	*id = note->id;
	*status = note->status;
	*timed_out = note->timed_out != 0;
	buf_clear(output);
	buf_add(output, r->packet.output, (size_t)n - sizeof(*note));
	return 1;
}
