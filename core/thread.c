#include "config.h"
#include "thread.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "code.h"
#include "log.h"

/* Enough for an error sentence, a path and the sanitizers' red zones. */
enum { THREAD_STACK = 512 << 10 };

int
thread_start(pthread_t *thread, void *(*fn)(void *arg), void *arg)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int rc;

	rc = pthread_attr_init(&attr);
	if (rc != 0)
		return -rc;
	rc = pthread_attr_setstacksize(&attr, THREAD_STACK);
	/* Inherited, so set around the creation: the thread never runs without it. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (rc == 0)
		rc = pthread_create(thread, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -rc;
}

/* The next start may find a thread. */
void
thread_start_or_end(pthread_t *thread, void *(*fn)(void *arg), void *arg, const char *what_for)
{
	int rc = thread_start(thread, fn, arg);

	if (rc == 0)
		return;
	log_error("no thread for %s: %s", what_for, strerrordesc_np(-rc));
	_exit(EXIT_TEMPORARY);
}
