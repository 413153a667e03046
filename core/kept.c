/*
 * A keeper.
 *
 * What the kept process leaves behind when it is killed becomes a child of ours (subreaper) and is
 * waited for, GONE_MS at most: the next one begins when nothing of the one before is left.
 */
#include "config.h"
#include "kept.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "log.h"
#include "process.h"
#include "restarts.h"

enum { GONE_MS = 10000 };

struct keeper {
	const struct kept *kept;
	struct restarts restarts;
	int signals;
	pid_t pid;			/* of the kept process; 0: it has died */
	int status;			/* of the last one */
	long long since;		/* it was forked (monotonic ms) */
	long long died_at;
	long long start_at;		/* the next is to be forked, while pid is 0 */
	bool lost;			/* who waits is still to be told */
};

static void
start(struct keeper *k)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(k->kept->run(k->kept->arg));
	k->since = io_monotonic_ms();
	if (pid > 0) {
		k->pid = pid;
		return;
	}
	log_error("no process for the %s: %s", k->kept->name, strerrordesc_np(errno));
	k->start_at = k->since + RESTARTS_WAIT_MIN_MS;
}

static void
died(struct keeper *k, int status)
{
	long long now = io_monotonic_ms();
	long long wait = restarts_wait(&k->restarts, status, now - k->since);

	if (WIFSIGNALED(status))
		log_error("the %s was ended by signal %d and is started again", k->kept->name,
			  WTERMSIG(status));
	else
		log_error("the %s ended with status %d and is started again", k->kept->name,
			  WEXITSTATUS(status));
	k->pid = 0;
	k->lost = true;
	k->died_at = now;
	k->start_at = now + wait;
}

/* False: the kept process ended by itself. */
static bool
collect(struct keeper *k)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(k->signals, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != k->pid)
			continue;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			return false;
		died(k, status);
	}
	return true;
}

static bool
has_children(void)
{
	siginfo_t info;

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void
go_on(struct keeper *k)
{
	long long now = io_monotonic_ms();

	if (k->pid > 0 || (k->lost && has_children() && now < k->died_at + GONE_MS))
		return;
	if (k->lost && k->kept->lost != NULL)
		k->kept->lost(k->kept->arg);
	k->lost = false;
	if (now >= k->start_at)
		start(k);
}

static int
wait_ms(const struct keeper *k)
{
	long long left = k->start_at - io_monotonic_ms();

	if (k->pid > 0)
		return -1;
	return k->lost || left < 100 ? 100 : (int)left;
}

/* False: it is over. */
static bool
serves(const struct kept *kept, short revents)
{
	return revents == 0 || kept->serve == NULL || kept->serve(kept->arg);
}

static int
settle(struct keeper *k)
{
	sigset_t child;
	int rc;

	prctl(PR_SET_NAME, "vmi-keeper");
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	process_block_signals();
	rc = process_close_all_but(k->kept->fds, k->kept->n_fds);
	if (rc != 0)
		return rc;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	k->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	return k->signals >= 0 && chdir("/") == 0 ? 0 : -errno;
}

int
kept_main(const struct kept *kept)
{
	struct keeper k = { .kept = kept, .signals = -1 };
	int rc = settle(&k);

	if (rc != 0) {
		log_error("the keeper of the %s: %s", kept->name, strerrordesc_np(-rc));
		return 1;
	}
	start(&k);
	for (;;) {
		struct pollfd polled[2] = {
			{ .fd = k.signals, .events = POLLIN },
			{ .fd = kept->serve != NULL ? kept->fds[0] : -1, .events = POLLIN },
		};

		if (poll(polled, 2, wait_ms(&k)) < 0 && errno != EINTR)
			return 1;
		if (!collect(&k) || !serves(kept, polled[1].revents))
			return 0;
		go_on(&k);
	}
}
