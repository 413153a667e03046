/*
 * The process that minds one handler: it starts it, reads what it writes, ends it when its time is
 * over, and tells what became of it.
 *
 *   RUNNING    the handler's own process lives
 *   LEFT       it has ended and that was told; what it left behind (its group, and what became a
 *              child of ours, the subreaper) may go on until the time of the handler is over.  Its
 *              output is read and dropped, so that it does not end by SIGPIPE
 *   TERMED     the time is over, or we were told to end: TERM was sent, KILL comes next
 *   KILLED     KILL is sent again and again, because a process that dies leaves its children to us
 *
 * The handler's own process is not waited for before the end, so that the number of its group
 * means no other group.
 */
#include "config.h"
#include "runner_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "log.h"
#include "process.h"

enum {
	DRAIN_MAX = 4 << 20,	/* read after the end: more is a child that goes on writing */
	KILL_STEP_MS = 50,
	KILL_STEPS = 60,	/* then they are not ours to kill */
};

enum state { RUNNING, LEFT, TERMED, KILLED };

struct minder {
	const struct runner_task *task;
	enum state state;
	pid_t handler;
	bool ended, told, reaped;	/* of the handler's own process */
	bool timed_out, stopped;
	int status;
	int signals, output_fd;
	long long deadline;		/* monotonic ms: of the state */
	int n_kills, n_others;
	struct buf output;
};

/* ---- the handler ----------------------------------------------------------------------------- */

static void __attribute__((noreturn))
become_handler(const struct runner_task *task, int output, pid_t parent)
{
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	process_reset_signals();
	if (dup2(output, 1) < 0 || dup2(output, 2) < 0 || dup2(task->record, 0) < 0 ||
	    process_close_from(3) != 0)
		_exit(127);
	if (task->of_daemon) {
		umask(0022);
		if (chdir("/") != 0)
			_exit(127);
	}
	execve(task->argv[0], task->argv, task->env->at);
	dprintf(2, "'%s' cannot be started: %s\n", task->argv[0], strerrordesc_np(errno));
	_exit(127);
}

/* ---- its processes --------------------------------------------------------------------------- */

/* The numbers of our children stand in one file, with spaces between. */
static void
each_child(void (*fn)(struct minder *m, pid_t pid), struct minder *m)
{
	CLEANUP_FREE char *path = xasprintf("/proc/self/task/%d/children", (int)getpid());
	CLEANUP_FILE FILE *f = fopen(path, "re");
	int pid;

	while (f != NULL && fscanf(f, "%d", &pid) == 1)
		fn(m, (pid_t)pid);
}

static void
send_term(struct minder *m, pid_t pid)
{
	(void)m;
	kill(pid, SIGTERM);
}

static void
send_kill(struct minder *m, pid_t pid)
{
	(void)m;
	kill(pid, SIGKILL);
}

static void
signal_all(struct minder *m, int sig)
{
	if (!m->reaped)
		kill(-m->handler, sig);
	each_child(sig == SIGKILL ? send_kill : send_term, m);
}

static void
reap_orphan(struct minder *m, pid_t pid)
{
	int status;

	if (pid != m->handler)
		waitpid(pid, &status, WNOHANG);
}

static void
look_at_handler(struct minder *m)
{
	siginfo_t info = { 0 };

	if (m->ended || waitid(P_PID, (id_t)m->handler, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
	    info.si_pid != m->handler)
		return;
	m->ended = true;
	if (info.si_code == CLD_EXITED)
		m->status = (info.si_status & 0xff) << 8;
	else
		m->status = info.si_status | (info.si_code == CLD_DUMPED ? 0x80 : 0);
}

static void
count_other(struct minder *m, pid_t pid)
{
	m->n_others += pid != m->handler;
}

/* Whether the handler's own process is the only child left. */
static bool
is_alone(struct minder *m)
{
	m->n_others = 0;
	each_child(count_other, m);
	return m->n_others == 0;
}

/* True: nothing of the handler is left. */
static bool
collect(struct minder *m)
{
	int status;
	pid_t pid;

	look_at_handler(m);
	each_child(reap_orphan, m);
	if (!m->ended)
		return false;
	/* The kernel's list of children may lack one while others end: the last word is ECHILD. */
	if (!m->reaped && is_alone(m)) {
		waitpid(m->handler, &status, 0);
		m->reaped = true;
	}
	if (!m->reaped)
		return false;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		;
	return pid < 0 && errno == ECHILD;
}

/* ---- what it writes -------------------------------------------------------------------------- */

/* One piece; false: there is nothing now. */
static bool
read_output(struct minder *m, size_t *total)
{
	char piece[16384];
	ssize_t n;

	if (m->output_fd < 0)
		return false;
	n = read(m->output_fd, piece, sizeof(piece));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		close(steal_fd(&m->output_fd));
		return false;
	}
	*total += (size_t)n;
	if (!m->told && m->output.len < LIMIT_EVENT_OUTPUT) {
		size_t room = LIMIT_EVENT_OUTPUT - m->output.len;

		buf_add(&m->output, piece, (size_t)n < room ? (size_t)n : room);
	}
	return true;
}

static void
drain(struct minder *m)
{
	size_t total = 0;

	while (total < DRAIN_MAX && read_output(m, &total))
		;
}

/* Who ends all of us does not ask what became of it: the event will be delivered again. */
static void
try_to_tell(struct minder *m)
{
	drain(m);
	if (!m->stopped && runner_tell(m->task->sock, m->task->id, m->status, m->timed_out,
				       &m->output, false) == -EAGAIN)
		return;
	m->told = true;
	if (m->state == RUNNING)
		m->state = LEFT;
	buf_release(&m->output);
}

/* ---- its time -------------------------------------------------------------------------------- */

static void
begin_end(struct minder *m)
{
	if (m->state != RUNNING && m->state != LEFT)
		return;
	m->timed_out = !m->ended && !m->stopped;
	m->state = TERMED;
	m->deadline = io_monotonic_ms() + LIMIT_EVENT_KILL_SECONDS * 1000;
	signal_all(m, SIGTERM);
}

/* True: we give up. */
static bool
time_is_over(struct minder *m)
{
	switch (m->state) {
	case RUNNING:
	case LEFT:
		begin_end(m);
		return false;
	case TERMED:
		m->state = KILLED;
		break;
	case KILLED:
		break;
	}
	if (++m->n_kills > KILL_STEPS)
		return true;
	signal_all(m, SIGKILL);
	m->deadline = io_monotonic_ms() + KILL_STEP_MS;
	return false;
}

static void
take_signals(struct minder *m)
{
	struct signalfd_siginfo info;

	while (read(m->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo != SIGTERM)
			continue;
		m->stopped = true;
		begin_end(m);
	}
}

static bool
wait_for_news(struct minder *m, bool gone)
{
	bool telling = m->ended && !m->told;
	struct pollfd polled[3] = {
		{ .fd = m->signals, .events = POLLIN },
		{ .fd = m->output_fd, .events = POLLIN },
		{ .fd = telling ? m->task->sock : -1, .events = POLLOUT },
	};
	long long left = m->deadline - io_monotonic_ms();
	int wait = gone ? -1 : left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
	size_t total = 0;

	if (poll(polled, 3, wait) < 0 && errno != EINTR)
		return false;
	if (polled[1].revents != 0)
		read_output(m, &total);
	if (polled[0].revents != 0)
		take_signals(m);
	return true;
}

static void
mind(struct minder *m)
{
	bool gone = false;

	while (wait_for_news(m, gone)) {
		gone = gone || collect(m);
		if (m->ended && !m->told)
			try_to_tell(m);
		if (gone && m->told)
			return;
		if (!gone && io_monotonic_ms() >= m->deadline && time_is_over(m))
			return;
	}
}

/* ---- the process ----------------------------------------------------------------------------- */

static void
tell_not_started(const struct runner_task *task, const char *why)
{
	CLEANUP_BUF struct buf output = BUF_INIT;

	buf_puts(&output, why);
	runner_tell(task->sock, task->id, RUNNER_NOT_STARTED, false, &output, true);
}

static bool
open_signals(struct minder *m)
{
	sigset_t taken;

	sigemptyset(&taken);
	sigaddset(&taken, SIGCHLD);
	sigaddset(&taken, SIGTERM);
	m->signals = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
	return m->signals >= 0;
}

void
runner_minder(const struct runner_task *task, pid_t parent)
{
	struct minder m = { .task = task, .signals = -1, .output_fd = -1 };
	pid_t self = getpid();
	int ends[2];

	prctl(PR_SET_NAME, "vmi-minder");
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	/* When the runner is killed we go on for as long as it takes to end the handler. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	if (!open_signals(&m) || pipe2(ends, O_CLOEXEC) != 0) {
		tell_not_started(task, strerrordesc_np(errno));
		_exit(0);
	}
	m.output_fd = ends[0];
	fcntl(m.output_fd, F_SETFL, O_NONBLOCK);
	m.deadline = io_monotonic_ms() + task->timeout * 1000;
	m.handler = fork();
	if (m.handler == 0)
		become_handler(task, ends[1], self);
	if (m.handler < 0) {
		tell_not_started(task, strerrordesc_np(errno));
		_exit(0);
	}
	close(ends[1]);
	close(task->record);
	mind(&m);
	_exit(0);
}
