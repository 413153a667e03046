#include "config.h"
#include "process.h"

#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <syslog.h>
#include <unistd.h>

void
process_reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
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

int
process_close_inherited(int keep)
{
	closelog();
	if (keep > 3 && close_range(3, (unsigned)keep - 1, 0) != 0)
		return -errno;
	return close_range((unsigned)keep + 1, ~0U, 0) != 0 ? -errno : 0;
}

int
process_close_from(unsigned first)
{
	if (close_range(first, ~0U, 0) != 0 && close_range(first, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
		return -errno;
	return 0;
}
