/*
 * The life of a mount, as the supervisor sees it:
 *
 *   STARTING   the worker opens the catalogue and builds the tree; accesses to the mount wait
 *   PROBING    READY has come; a child asks the mount for its statfs, because READY is a promise
 *              and an answer is a fact.  It has no descriptor of the connection, so that it cannot
 *              hold up its end, and we do not ask ourselves, because we could hang with it
 *   SERVING    the front process may return to the shell
 *   STOPPING   unmounted (or detached); the worker has STOP_MS to end, then it is killed
 *
 * STARTING -> PROBING -> SERVING -> STOPPING -> end; every state ends when the worker does.
 *
 * The descriptor of /dev/fuse stays open here for the whole life: as long as it does, the kernel
 * keeps the connection and what waits on it, even without a worker.  A worker that crashed is
 * where a new one would be forked; this version ends the mount.
 */
#include "config.h"
#include "supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/log.h"
#include "core/sandbox.h"
#include "fs/backing.h"
#include "fs/note.h"
#include "worker.h"

enum { STOP_MS = 5000 };

static const int taken_signals[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD };

enum state { STARTING, PROBING, SERVING, STOPPING };

struct supervisor {
	const struct supervisor_setup *setup;
	enum state state;
	pid_t worker;			/* 0: ended */
	pid_t probe;			/* 0: none */
	int notes;			/* socket to the worker; -1 once it closed */
	struct backings backings;
	int signals;
	bool served;			/* was SERVING once */
	long long deadline;		/* STOPPING: monotonic ms; 0: the worker was killed */
	struct err *err;		/* what ended us */
	int rc;
};

static void
signal_set(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < sizeof(taken_signals) / sizeof(taken_signals[0]); i++)
		sigaddset(set, taken_signals[i]);
}

void
supervisor_block_signals(void)
{
	sigset_t set;

	signal_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* ---- children --------------------------------------------------------------------------- */

static void __attribute__((noreturn))
become_worker(const struct supervisor_setup *setup, int notes, pid_t parent)
{
	struct worker_args args = {
		.conf = setup->conf,
		.options = setup->options,
		.conf_file = setup->options->config,
		.fuse_fd = setup->fuse_fd,
		.control_socket = setup->control_socket,
		.supervisor_socket = notes,
		.read_ahead = setup->mountpoint->read_ahead,
		.starter = setup->starter,
		.runner = setup->runner,
		.event_uid = setup->event_uid,
		.uid = setup->uid,
		.gid = setup->gid,
		.max_threads = setup->options->max_threads,
		.debug = setup->options->debug,
	};
	struct err err;

	prctl(PR_SET_NAME, "vmi-worker");
	close_keep_errno(setup->front_fd);
	if (sandbox_become_user(setup->uid, setup->gid, &err) != 0) {
		log_err(LOG_LVL_ERROR, "worker", &err);
		_exit(1);
	}
	/*
	 * After the change of user, which takes it back.  A worker alone could not be
	 * unmounted by anyone.
	 */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	exit(worker_main(&args));
}

static int
fork_worker(struct supervisor *s)
{
	int pair[2];
	pid_t self = getpid();

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set(s->err, errno, "no socket for the worker: %s",
			       strerrordesc_np(errno));
	s->worker = fork();
	if (s->worker == 0) {
		close(pair[0]);
		close(s->signals);
		become_worker(s->setup, pair[1], self);
	}
	close(pair[1]);
	s->notes = pair[0];
	if (s->worker < 0) {
		s->worker = 0;
		return err_set(s->err, errno, "no process for the worker: %s",
			       strerrordesc_np(errno));
	}
	return 0;
}

static void
start_probe(struct supervisor *s)
{
	s->probe = fork();
	if (s->probe == 0) {
		struct statfs answer;

		close(s->setup->fuse_fd);
		close(s->notes);
		_exit(statfs(s->setup->mountpoint->path, &answer) == 0 ? 0 : 1);
	}
	s->state = PROBING;
	if (s->probe < 0)
		log_warning("no process to try the mount with: %s", strerrordesc_np(errno));
}

/* Only CAP_SYS_ADMIN outlives this; it is needed to unmount. */
static int
become_supervisor(const struct supervisor_setup *setup, struct err *err)
{
	CLEANUP_BUF struct buf lacks = BUF_INIT;
	unsigned missing;
	int rc;

	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
		return err_set(err, errno, "PR_SET_KEEPCAPS: %s", strerrordesc_np(errno));
	rc = sandbox_become_user(setup->uid, setup->gid, err);
	if (rc == 0)
		rc = sandbox_enter(SANDBOX_SUPERVISOR, NULL, 0, &missing, err);
	if (rc != 0)
		return rc;
	sandbox_describe_missing(missing, &lacks);
	if (lacks.len > 0)
		log_warning("supervisor: %s", buf_str(&lacks));
	return 0;
}

/* ---- the worker's notes and ours -------------------------------------------------------- */

/* A worker that does not read its notes must not stop us; one that has ended needs none. */
static void
send_note(const struct supervisor *s, const struct note *note)
{
	int rc = s->notes >= 0 ? note_send(s->notes, note, -1, false) : 0;

	if (rc < 0 && rc != -EPIPE)
		log_warning("the worker does not take a note: %s", strerrordesc_np(-rc));
}

static void
tell_worker(const struct supervisor *s, enum note_kind kind)
{
	struct note note;

	note_init(&note, kind);
	send_note(s, &note);
}

static void
answer_backing(struct supervisor *s, const struct digest *d, int fd)
{
	struct note note;

	note_init(&note, NOTE_BACKING_ID);
	note.digest = *d;
	note.rc = backings_open(&s->backings, d, fd);
	send_note(s, &note);
}

static void
begin_stop(struct supervisor *s)
{
	struct err err;

	if (s->state == STOPPING)
		return;
	s->state = STOPPING;
	s->deadline = io_monotonic_ms() + STOP_MS;
	/* First: handlers that have the mount open get time to end, as the worker does. */
	runner_stop(s->setup->runner);
	if (mountpoint_unmount(s->setup->mountpoint, &err) != 0)
		log_err(LOG_LVL_ERROR, "unmount", &err);
	tell_worker(s, NOTE_STOP);
}

/* Ends everything by a fault; the first one is the one that is told. */
static void
fail(struct supervisor *s, const struct err *why)
{
	if (s->rc == 0) {
		s->rc = why->rc;
		*s->err = *why;
		if (s->served)
			log_err(LOG_LVL_ERROR, "vmimagefs", why);
	}
	begin_stop(s);
}

static void
worker_failed(struct supervisor *s, struct note *note)
{
	struct err err;

	note->text[sizeof(note->text) - 1] = '\0';
	err_set(&err, note->rc < 0 && note->rc > -4096 ? -note->rc : EIO, "%s", note->text);
	err.code = (enum code)note->code;
	fail(s, &err);
}

static void
take_note(struct supervisor *s)
{
	struct note note;
	CLEANUP_FD int fd = -1;
	int rc = note_receive(s->notes, &note, &fd, false);

	if (rc == -EAGAIN || rc == -EINTR)
		return;
	if (rc == -EPROTO) {
		log_error("a note of the worker has a wrong form and is ignored");
		return;
	}
	if (rc <= 0) {		/* it ends; its status will say how */
		close(steal_fd(&s->notes));
		return;
	}
	if (note.kind == NOTE_READY && s->state == STARTING)
		start_probe(s);
	else if (note.kind == NOTE_FAILED)
		worker_failed(s, &note);
	else if (note.kind == NOTE_BACKING_OPEN)
		answer_backing(s, &note.digest, fd);
	else if (note.kind == NOTE_BACKING_CLOSE)
		backings_close(&s->backings, &note.digest);
}

/* ---- what ends -------------------------------------------------------------------------- */

static void
probe_ended(struct supervisor *s, int status)
{
	struct err err;

	s->probe = 0;
	if (s->state != PROBING)
		return;
	if (status != 0) {
		err_set(&err, EIO, "the mount on '%s' does not answer", s->setup->mountpoint->path);
		fail(s, &err);
		return;
	}
	s->state = SERVING;
	s->served = true;
	log_info("serving '%s'", s->setup->mountpoint->path);
	s->setup->serving(s->setup->arg);
}

static void
worker_ended(struct supervisor *s, int status)
{
	struct err err;

	s->worker = 0;
	if (s->state == STOPPING)
		return;
	if (WIFSIGNALED(status))
		err_set(&err, EIO, "the worker was ended by signal %d (%s)", WTERMSIG(status),
			sigdescr_np(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0 || s->state != SERVING)
		err_set(&err, EIO, "the worker ended with status %d", WEXITSTATUS(status));
	else
		err_clear(&err);
	if (err.rc != 0)
		fail(s, &err);
	else
		log_info("'%s' was unmounted", s->setup->mountpoint->path);
	begin_stop(s);
}

static void
reap(struct supervisor *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == s->worker) {
			/* FAILED may wait there, and says more than the status. */
			if (s->notes >= 0)
				take_note(s);
			worker_ended(s, status);
		} else if (pid == s->probe) {
			probe_ended(s, status);
		} else if (s->setup->runner != NULL && pid == runner_pid(s->setup->runner)) {
			if (s->state != STOPPING)
				log_error("the process of event handlers has ended: events wait "
					  "until the next mount");
		} else {
			log_error("the starter has ended: nothing can be fetched or updated until "
				  "the "
				  "next mount");
		}
	}
}

static void
take_signal(struct supervisor *s)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGCHLD:
		reap(s);
		break;
	case SIGHUP:
		tell_worker(s, NOTE_RELOAD);
		break;
	case SIGUSR1:
		tell_worker(s, NOTE_DUMP_STATUS);
		break;
	case SIGUSR2:
		log_warning("USR2: exchanging the worker is not in this version");
		break;
	default:
		log_info("signal %u: unmounting", info.ssi_signo);
		begin_stop(s);
		break;
	}
}

/* Milliseconds to wait; kills a worker that is past its time. */
static int
next_timeout(struct supervisor *s)
{
	long long left;

	if (s->state != STOPPING || s->deadline == 0)
		return -1;
	left = s->deadline - io_monotonic_ms();
	if (left > 0)
		return (int)left;
	log_error("the worker does not end within %d s and is killed", STOP_MS / 1000);
	kill(s->worker, SIGKILL);
	s->deadline = 0;
	return -1;
}

static void
serve(struct supervisor *s)
{
	while (s->worker > 0) {
		struct pollfd polled[2] = {
			{ .fd = s->signals, .events = POLLIN },
			{ .fd = s->notes, .events = POLLIN },
		};

		if (poll(polled, 2, next_timeout(s)) < 0 && errno != EINTR) {
			log_error("poll: %s", strerrordesc_np(errno));
			kill(s->worker, SIGKILL);
		}
		if (polled[1].revents != 0)
			take_note(s);
		if (polled[0].revents != 0)
			take_signal(s);
	}
}

int
supervisor_run(const struct supervisor_setup *setup, struct err *err)
{
	struct supervisor s = { .setup = setup, .notes = -1, .signals = -1, .err = err };
	struct err why;
	sigset_t set;
	int rc;

	backings_init(&s.backings, setup->fuse_fd);
	signal_set(&set);
	s.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	rc = s.signals < 0 ? err_set(err, errno, "signalfd: %s", strerrordesc_np(errno))
			   : fork_worker(&s);
	close(setup->control_socket);
	if (rc == 0)
		rc = become_supervisor(setup, &why);
	else
		why = *err;
	if (rc != 0)
		fail(&s, &why);
	serve(&s);
	/* When the worker ended by itself, the mount may still be there, dead. */
	if (mountpoint_unmount(setup->mountpoint, &why) != 0)
		log_err(LOG_LVL_ERROR, "unmount", &why);
	if (s.rc == 0 && !s.served)
		s.rc = err_set(err, EINTR, "stopped before the mount was usable");
	backings_release(&s.backings);
	close_keep_errno(s.notes);
	close_keep_errno(s.signals);
	return s.rc;
}
