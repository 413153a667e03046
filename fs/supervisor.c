/*
 * The life of a mount, as the supervisor sees it:
 *
 *   STARTING   the first worker opens the catalogue and builds the tree; accesses to the mount wait
 *   PROBING    READY has come; a child asks the mount for its statfs, because READY is a promise
 *              and an answer is a fact.  It has no descriptor of the connection, so that it cannot
 *              hold up its end, and we do not ask ourselves, because we could hang with it.  After
 *              PROBE_MS without an answer the mount is given up
 *   SERVING    the front process may return to the shell.  Workers come and go (succession.c)
 *   STOPPING   unmounted (or detached); the worker has STOP_MS to end, then it is killed, and after
 *              as long again left to itself
 *
 * STARTING -> PROBING -> SERVING -> STOPPING -> end.  Before the mount is SERVING it ends when the
 * worker does.
 *
 * The descriptor of /dev/fuse stays open here for the whole life: as long as it does, the kernel
 * keeps the connection and what waits on it, even without a worker.
 */
#include "config.h"
#include "supervisor_impl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/log.h"
#include "core/sandbox.h"

enum {
	PROBE_MS = 60000,
	STOP_MS = 5000,
	/* Later than due: a processor that is busy is not as late. */
	STANDSTILL_MS = 2000,
};

static const int taken_signals[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD };

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
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* ---- the mount is tried --------------------------------------------------------------------- */

static void
start_probe(struct supervisor *s)
{
	struct err err;

	s->probe = fork();
	if (s->probe == 0) {
		struct statfs answer;

		/*
		 * It may wait for as long as there is a connection, and must not be what keeps
		 * others.
		 */
		close_range(STDERR_FILENO + 1, ~0U, 0);
		_exit(statfs(s->setup->mountpoint->path, &answer) == 0 ? 0 : 1);
	}
	s->state = PROBING;
	s->deadline = io_monotonic_ms() + PROBE_MS;
	if (s->probe < 0) {
		err_set(&err, errno, "no process to try the mount with: %s",
			strerrordesc_np(errno));
		supervisor_fail(s, &err);
	}
}

void
supervisor_ready(struct supervisor *s)
{
	if (s->state == STARTING)
		start_probe(s);
}

static void
no_answer(struct supervisor *s)
{
	struct err err;

	err_set(&err, EIO, "the mount on '%s' does not answer", s->setup->mountpoint->path);
	supervisor_fail(s, &err);
}

static void
probe_ended(struct supervisor *s, int status)
{
	s->probe = 0;
	if (s->state != PROBING)
		return;
	if (status != 0) {
		no_answer(s);
		return;
	}
	s->state = SERVING;
	s->served = true;
	log_info("serving '%s'", s->setup->mountpoint->path);
	s->setup->serving(s->setup->arg);
}

/* ---- ends ----------------------------------------------------------------------------------- */

void
supervisor_stop(struct supervisor *s)
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
	succession_end(s);
}

void
supervisor_fail(struct supervisor *s, const struct err *why)
{
	if (s->rc == 0) {
		s->rc = why->rc;
		*s->err = *why;
		if (s->served)
			log_err(LOG_LVL_ERROR, "vmimagefs", why);
	}
	supervisor_stop(s);
}

/* Those that keep the others. */
static void
keeper_ended(struct supervisor *s, pid_t pid)
{
	if (s->state == STOPPING)
		return;
	if (pid == starter_pid(s->setup->starter)) {
		s->keeper_gone = true;
		log_error("the keeper of starter and worker has ended: neither can be started again"
			  " before the next mount");
	} else if (s->setup->runner != NULL && pid == runner_pid(s->setup->runner)) {
		log_error("the keeper of event handlers has ended: they cannot be started again "
			  "before the next mount");
	}
}

static void
reap(struct supervisor *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == s->probe)
			probe_ended(s, status);
		else if (!succession_reaped(s, pid, status))
			keeper_ended(s, pid);
	}
}

/* ---- the loop ------------------------------------------------------------------------------- */

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
		succession_reload(s);
		break;
	case SIGUSR1:
		workerproc_tell(&s->now, NOTE_DUMP_STATUS);
		break;
	case SIGUSR2:
		succession_exchange(s);
		break;
	default:
		log_info("signal %u: unmounting", info.ssi_signo);
		supervisor_stop(s);
		break;
	}
}

/* Monotonic ms; 0: never. */
static long long
next_due(const struct supervisor *s)
{
	long long due = succession_due(s);

	if (s->state != STOPPING && s->state != PROBING)
		return due;
	return due == 0 || s->deadline < due ? s->deadline : due;
}

/* Milliseconds to wait; ends what is past its time. */
static int
next_timeout(struct supervisor *s)
{
	long long due = next_due(s), now = io_monotonic_ms(), left = due - now;

	if (due == 0)
		return -1;
	if (left > 0)
		return left > 60000 ? 60000 : (int)left;
	if (s->state == PROBING && now >= s->deadline)
		no_answer(s);
	if (s->state != STOPPING || now < s->deadline)
		return 0;
	if (s->killed) {
		log_error("the worker cannot end before a disk answers, and is left to itself");
		s->alone = true;
		return 0;
	}
	log_error("the worker does not end within %d s and is killed", STOP_MS / 1000);
	workerproc_kill(&s->now);
	mountpoint_cut(s->setup->mountpoint);	/* or it may wait for who waits for it */
	s->killed = true;
	s->deadline = io_monotonic_ms() + STOP_MS;
	return STOP_MS;
}

/*
 * When we come so much later than we were due, all stood still (SIGSTOP, a freezer, a virtual
 * machine that was halted), or we did: nobody may have had the time that has passed.  Returns what
 * time it is.
 */
static long long
forgive_standstill(struct supervisor *s, long long due)
{
	long long now = io_monotonic_ms(), late = now - due;
	long long latest = now + (s->state == PROBING ? PROBE_MS : STOP_MS);

	if (late < STANDSTILL_MS)
		return now;
	log_info("nothing went on for %lld s, which do not count", late / 1000);
	s->deadline = s->deadline + late < latest ? s->deadline + late : latest;
	succession_postpone(s, now, late);
	return now;
}

static void
serve(struct supervisor *s)
{
	long long looked = io_monotonic_ms();

	while (s->state != STOPPING || !(s->alone || succession_is_over(s))) {
		struct pollfd polled[4] = {
			{ .fd = s->signals, .events = POLLIN },
			{ .fd = s->now.notes, .events = POLLIN },
			{ .fd = s->next.notes, .events = POLLIN },
			/* Nobody reads requests here; only that there will be none. */
			{ .fd = succession_watched(s), .events = 0 },
		};
		int timeout = next_timeout(s);

		if (poll(polled, 4, timeout) < 0 && errno != EINTR)
			log_error("poll: %s", strerrordesc_np(errno));
		if (polled[3].revents != 0)
			succession_cut(s);
		if (polled[1].revents != 0)
			succession_take_notes(s, &s->now);
		if (polled[2].revents != 0)
			succession_take_notes(s, &s->next);
		if (polled[0].revents != 0)
			take_signal(s);
		/* Only now: what has come meanwhile was in time. */
		looked = timeout >= 0 ? forgive_standstill(s, looked + timeout) : io_monotonic_ms();
		succession_run(s);
		succession_show_again(s);
	}
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

/* Signals first: a child that ends at once is to be noticed. */
static int
begin(struct supervisor *s, struct err *why)
{
	sigset_t set;
	int rc;

	signal_set(&set);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	rc = s->signals < 0 ? err_set(why, errno, "signalfd: %s", strerrordesc_np(errno)) : 0;
	if (rc == 0)
		rc = connection_begin(s->setup->connection, s->setup->shared, why);
	return rc == 0 ? become_supervisor(s->setup, why) : rc;
}

int
supervisor_run(const struct supervisor_setup *setup, struct err *err)
{
	struct supervisor s = { .setup = setup, .signals = -1, .err = err };
	struct err why;

	succession_init(&s);
	if (begin(&s, &why) == 0)
		succession_begin(&s);
	else
		supervisor_fail(&s, &why);
	serve(&s);
	/* Who waits in a mount that was detached is told so, and is none to wait for. */
	connection_end(setup->connection);
	/* When the worker ended by itself, the mount may still be there, dead. */
	if (mountpoint_unmount(setup->mountpoint, &why) != 0)
		log_err(LOG_LVL_ERROR, "unmount", &why);
	if (s.rc == 0 && !s.served)
		s.rc = err_set(err, EINTR, "stopped before the mount was usable");
	succession_release(&s);
	close_keep_errno(s.signals);
	return s.rc;
}
