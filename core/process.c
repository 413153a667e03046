#include "config.h"
#include "process.h"

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "log.h"

enum {
	KERNEL_SIGSET = 8,		/* bytes of a signal set, as the kernel counts */
	WAIT_STEP_MAX_MS = 20,
};

/* struct sigaction of the kernel: SIG_DFL is 0, no flags, nothing masked.  Larger than any. */
static const unsigned long default_action[8];

void
process_reset_signals(void)
{
	sigset_t none;

	/* libc keeps two for itself, and would leave them ignored if our parent had them so. */
	for (int sig = 1; sig < NSIG; sig++)
		if (signal(sig, SIG_DFL) == SIG_ERR)
			syscall(SYS_rt_sigaction, sig, default_action, NULL, KERNEL_SIGSET);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void
process_block_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

/* The lowest of them from first on, or -1. */
static int
next_kept(const int *keep, size_t n, int first)
{
	int lowest = -1;

	for (size_t i = 0; i < n; i++)
		if (keep[i] >= first && (lowest < 0 || keep[i] < lowest))
			lowest = keep[i];
	return lowest;
}

int
process_close_all_but(const int *keep, size_t n)
{
	int first = 3, next;

	while ((next = next_kept(keep, n, first)) >= 0) {
		if (next > first && close_range((unsigned)first, (unsigned)next - 1, 0) != 0)
			return -errno;
		first = next + 1;
	}
	if (close_range((unsigned)first, ~0U, 0) != 0)
		return -errno;
	log_renew();
	return 0;
}

int
process_close_inherited(int keep)
{
	return process_close_all_but(&keep, 1);
}

int
process_close_from(unsigned first)
{
	if (close_range(first, ~0U, 0) != 0 && close_range(first, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
		return -errno;
	log_renew();
	return 0;
}

/* "1234 (name) D ...": the name may have a ")" of its own. */
char
process_state(int stat)
{
	char line[256];
	ssize_t n = stat >= 0 ? pread(stat, line, sizeof(line) - 1, 0) : -1;
	const char *name_end;

	if (n <= 0)
		return 0;
	line[n] = '\0';
	name_end = strrchr(line, ')');
	return name_end != NULL && name_end[1] == ' ' ? name_end[2] : '\0';
}

void
process_raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		log_warning("RLIMIT_NOFILE stays low: %s", strerrordesc_np(errno));
}

bool
process_wait(pid_t pid, int ms, int *status)
{
	long long until = io_monotonic_ms() + ms;
	int step = 1;
	pid_t rc;

	while ((rc = waitpid(pid, status, WNOHANG)) == 0 || (rc < 0 && errno == EINTR)) {
		if (io_monotonic_ms() >= until)
			return false;
		poll(NULL, 0, step);
		step = step < WAIT_STEP_MAX_MS / 2 ? step * 2 : WAIT_STEP_MAX_MS;
	}
	return true;
}
