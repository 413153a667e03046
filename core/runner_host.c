/*
 * The runner's own process: it forks a minder for each request, and that is nearly all.
 *
 * It keeps a copy of the configuration of its own, so that a request can only name what an admin
 * has written.  All signals are blocked in it but those that a signalfd takes: a TERM to every
 * process of that name must not take it away from the daemon that still ends in order.
 *
 * STOP ends what runs; the runner itself ends when the socket closes, after its minders, which
 * then end their handlers.
 */
#include "config.h"
#include "runner_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "handlers.h"
#include "io.h"
#include "log.h"
#include "process.h"
#include "sandbox.h"

enum {
	N_RUNS = 256,		/* 32 handlers, and what earlier ones left behind */
	END_MS = (LIMIT_EVENT_KILL_SECONDS + 4) * 1000,
	RESET_STEP_MS = 250,
};

struct run {
	uint32_t id;		/* 0: free */
	pid_t minder;
	bool failed;		/* it has ended badly, and this is not yet told */
};

struct host {
	int sock, signals;
	const struct conf *conf;
	struct conf *own_conf;		/* after a reload */
	const char *command;		/* NULL: a daemon's */
	const struct account *who;	/* NULL: nobody else */
	uid_t owner;			/* of handlers */
	struct handlerenv env;
	bool stopped;			/* told to; it stays until the socket closes */
	long long reset_by;		/* monotonic ms; 0: nothing is to end before we go on */
	bool ending;
	struct run runs[N_RUNS];
};

/* ---- what a request names -------------------------------------------------------------------- */

static char **
shell_argv(const char *command)
{
	char **argv = xcalloc(4, sizeof(*argv));

	argv[0] = xstrdup("/bin/sh");
	argv[1] = xstrdup("-c");
	argv[2] = xstrdup(command);
	return argv;
}

static void
free_argv(char **argv)
{
	for (char **p = argv; p != NULL && *p != NULL; p++)
		free(*p);
	free(argv);
}

static int
find_handler(const struct host *h, const char *name, char ***argv, struct err *err)
{
	char *path;
	int rc;

	if (h->command != NULL) {
		*argv = shell_argv(h->command);
		return 0;
	}
	if (strcmp(name, HANDLERS_COMMAND) == 0) {
		if (h->conf->event_command == NULL)
			return err_set(err, ENOENT, "there is no event_command any more");
		*argv = shell_argv(h->conf->event_command);
		return 0;
	}
	rc = handlers_path(h->conf, h->owner, name, &path, err);
	if (rc != 0)
		return rc;
	*argv = xcalloc(2, sizeof(**argv));
	(*argv)[0] = path;
	return 0;
}

/* As runner_start() makes them: reading it cannot block, and nobody changes it meanwhile. */
static bool
is_sealed(int fd)
{
	const int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & wanted) == wanted;
}

static int
read_variables(struct handlerenv *env, int fd)
{
	CLEANUP_BUF struct buf variables = BUF_INIT;
	int rc = io_read_to_end(fd, RUNNER_VARIABLES_MAX, &variables);

	if (rc == 0)
		handlerenv_add_event(env, &variables);
	return rc;
}

/* ---- runs ------------------------------------------------------------------------------------ */

static struct run *
find_run(struct host *h, uint32_t id)
{
	for (size_t i = 0; i < N_RUNS; i++)
		if (h->runs[i].id == id)
			return &h->runs[i];
	return NULL;
}

static void
tell_refused(struct host *h, uint32_t id, const char *why)
{
	CLEANUP_BUF struct buf output = BUF_INIT;

	buf_puts(&output, why);
	runner_tell(h->sock, id, RUNNER_NOT_STARTED, false, &output, true);
}

static int
fork_minder(struct host *h, struct run *run, struct runner_task *task)
{
	pid_t self = getpid();

	run->minder = fork();
	if (run->minder == 0) {
		close(h->signals);
		runner_minder(task, self);
	}
	if (run->minder < 0)
		return -errno;
	run->id = task->id;
	run->failed = false;
	return 0;
}

/* fds: record, variables. */
static void
start_run(struct host *h, const struct runner_note *note, const int *fds)
{
	struct runner_task task = {
		.id = note->id, .sock = h->sock, .record = fds[0],
		.timeout = h->conf->event_timeout, .of_daemon = h->command == NULL,
	};
	struct handlerenv env = { 0 };
	struct run *run = find_run(h, 0);
	struct err err = { 0 };
	int rc;

	if (run == NULL)
		rc = err_set(&err, EAGAIN, "what earlier handlers left behind is still running");
	else
		rc = find_handler(h, note->name, &task.argv, &err);
	if (rc == 0) {
		handlerenv_copy(&env, &h->env);
		rc = read_variables(&env, fds[1]);
		task.env = &env;
		if (rc == 0)
			rc = fork_minder(h, run, &task);
		if (rc != 0)
			err_set(&err, -rc, "no process for a handler: %s", strerrordesc_np(-rc));
	}
	if (rc != 0)
		tell_refused(h, note->id, err.text);
	free_argv(task.argv);
	handlerenv_release(&env);
}

static void
reload(struct host *h)
{
	struct conf *conf = NULL;
	struct err err = { 0 };

	if (h->command != NULL)
		return;
	if (conf_load_again(h->conf, &conf, &err) != 0) {
		log_err(LOG_LVL_ERROR, "event handlers stay as they were", &err);
		return;
	}
	conf_free(h->own_conf);
	h->conf = h->own_conf = conf;
	handlerenv_release(&h->env);
	handlerenv_daemon(&h->env, conf, h->who);
	log_set_level(conf->log_level);
}

static void
signal_minders(const struct host *h, int sig)
{
	for (size_t i = 0; i < N_RUNS; i++)
		if (h->runs[i].id != 0 && !h->runs[i].failed)
			kill(h->runs[i].minder, sig);
}

static void
stop(struct host *h)
{
	h->stopped = true;
	signal_minders(h, SIGTERM);
}

/* Another process asks from now on; two runs of one handler are never to be at the same time. */
static void
reset(struct host *h)
{
	signal_minders(h, SIGTERM);
	h->reset_by = io_monotonic_ms() + END_MS;
}

static bool
note_is_valid(const struct runner_note *note, ssize_t len, size_t n_fds)
{
	if (len != (ssize_t)sizeof(*note) || note->magic != RUNNER_MAGIC ||
	    memchr(note->name, '\0', sizeof(note->name)) == NULL)
		return false;
	if (note->kind == RUNNER_RELOAD || note->kind == RUNNER_STOP || note->kind == RUNNER_RESET)
		return n_fds == 0;
	return note->kind == RUNNER_RUN && note->id != 0 && n_fds == RUNNER_FDS;
}

static void
take_note(struct host *h)
{
	int fds[RUNNER_FDS];
	size_t n_fds = RUNNER_FDS;
	struct runner_note note;
	ssize_t len = io_recv_fds(h->sock, &note, sizeof(note), fds, &n_fds);

	if (len == -EAGAIN)
		return;
	if (len <= 0)
		h->ending = true;
	else if (!note_is_valid(&note, len, n_fds) ||
		 (note.kind == RUNNER_RUN && (!is_sealed(fds[0]) || !is_sealed(fds[1]))))
		log_error("runner: a request that is none of ours is ignored");
	else if (note.kind == RUNNER_STOP)
		stop(h);
	else if (note.kind == RUNNER_RESET)
		reset(h);
	else if (note.kind == RUNNER_RELOAD)
		reload(h);
	else if (!h->stopped && find_run(h, note.id) == NULL)
		start_run(h, &note, fds);
	for (size_t i = 0; len > 0 && i < n_fds; i++)
		close(fds[i]);
}

static void
collect_minders(struct host *h)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(h->signals, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < N_RUNS; i++) {
			struct run *run = &h->runs[i];

			if (run->id == 0 || run->minder != pid)
				continue;
			run->failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
			if (!run->failed)
				run->id = 0;
		}
	}
}

/* Of those whose minder could not.  True if the socket had no room for one. */
static bool
tell_failed(struct host *h)
{
	CLEANUP_BUF struct buf output = BUF_INIT;

	buf_puts(&output, "the process that minded the handler was killed");
	for (size_t i = 0; i < N_RUNS; i++) {
		struct run *run = &h->runs[i];

		if (run->id == 0 || !run->failed)
			continue;
		if (runner_tell(h->sock, run->id, SIGKILL, false, &output, false) == -EAGAIN)
			return true;
		run->id = 0;
	}
	return false;
}

static bool
has_runs(const struct host *h)
{
	for (size_t i = 0; i < N_RUNS; i++)
		if (h->runs[i].id != 0 && !h->runs[i].failed)
			return true;
	return false;
}

/* Minders end their handlers, and then themselves. */
static void
end_runs(struct host *h)
{
	long long deadline = io_monotonic_ms() + END_MS, left;
	struct pollfd polled = { .fd = h->signals, .events = POLLIN };

	signal_minders(h, SIGTERM);
	collect_minders(h);
	while (has_runs(h) && (left = deadline - io_monotonic_ms()) > 0) {
		poll(&polled, 1, (int)left);
		collect_minders(h);
	}
	signal_minders(h, SIGKILL);
}

/* True: what was started before the reset is still ending; notes stay in the socket meanwhile. */
static bool
is_resetting(struct host *h)
{
	if (h->reset_by == 0)
		return false;
	if (has_runs(h) && io_monotonic_ms() < h->reset_by)
		return true;
	signal_minders(h, SIGKILL);
	h->reset_by = 0;
	return false;
}

static void
serve(struct host *h)
{
	bool full = false;

	while (!h->ending) {
		bool resetting = is_resetting(h);
		short wanted = (short)((resetting ? 0 : POLLIN) | (full ? POLLOUT : 0));
		struct pollfd polled[2] = {
			{ .fd = h->sock, .events = wanted },
			{ .fd = h->signals, .events = POLLIN },
		};

		if (poll(polled, 2, resetting ? RESET_STEP_MS : -1) < 0 && errno != EINTR)
			break;
		if (polled[0].revents & (POLLHUP | POLLERR))
			h->ending = resetting;
		if (polled[0].revents & (POLLIN | POLLHUP | POLLERR) && !resetting)
			take_note(h);
		if (polled[1].revents & POLLIN)
			collect_minders(h);
		full = tell_failed(h);
	}
	end_runs(h);
}

/* ---- the process ----------------------------------------------------------------------------- */

static int
settle(struct host *h, struct err *err)
{
	sigset_t child;
	unsigned missing;
	int rc;

	prctl(PR_SET_NAME, "vmi-runner");
	process_block_signals();
	rc = process_close_inherited(h->sock);
	if (rc != 0)
		return err_set(err, -rc, "close_range: %s", strerrordesc_np(-rc));
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	h->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (h->signals < 0)
		return err_set(err, errno, "signalfd: %s", strerrordesc_np(errno));
	if (h->command != NULL) {
		handlerenv_command(&h->env);
		return 0;
	}
	h->owner = h->who != NULL ? h->who->uid : geteuid();
	handlerenv_daemon(&h->env, h->conf, h->who);
	if (chdir("/") != 0)
		return err_set(err, errno, "chdir: %s", strerrordesc_np(errno));
	rc = h->who != NULL ? account_become(h->who, err) : 0;
	return rc == 0 ? sandbox_enter(SANDBOX_RUNNER, NULL, 0, &missing, err) : rc;
}

int
runner_host(int sock, const struct conf *conf, const char *command, const struct account *who)
{
	struct host h = { .sock = sock, .conf = conf, .command = command, .who = who };
	struct err err = { 0 };
	int rc = settle(&h, &err);

	if (rc != 0)
		log_err(LOG_LVL_ERROR, "event handlers", &err);
	else
		serve(&h);
	handlerenv_release(&h.env);
	conf_free(h.own_conf);
	return rc == 0 ? 0 : 1;
}
