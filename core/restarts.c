#include "config.h"
#include "restarts.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

static bool
was_healthy(int status, long long worked_ms)
{
	if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM))
		return worked_ms >= RESTARTS_KILLED_MS;
	return worked_ms >= RESTARTS_HEALTHY_MS;
}

long long
restarts_wait(struct restarts *r, int status, long long worked_ms)
{
	long long wait = RESTARTS_WAIT_MIN_MS;

	if (was_healthy(status, worked_ms))
		r->n_quick = 0;
	if (r->n_quick++ == 0)
		return 0;
	for (int i = 2; i < r->n_quick && wait < RESTARTS_WAIT_MAX_MS; i++)
		wait *= 2;
	return wait < RESTARTS_WAIT_MAX_MS ? wait : RESTARTS_WAIT_MAX_MS;
}
