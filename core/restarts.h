/*
 * restarts.h - when a process that has died is started again.
 *
 * At once; and when one dies again soon, after 1, 2, 4 ... 30 seconds.  One that has worked for
 * RESTARTS_HEALTHY_MS was well, and the next death counts from the beginning.  Who was killed by
 * somebody else (KILL, TERM) did nothing wrong, and needs to have worked for RESTARTS_KILLED_MS
 * only.  Pure decisions: no I/O and no clock.
 */
#ifndef VMI_RESTARTS_H
#define VMI_RESTARTS_H

enum {
	RESTARTS_HEALTHY_MS = 60000,
	RESTARTS_KILLED_MS = 500,
	RESTARTS_WAIT_MIN_MS = 1000,
	RESTARTS_WAIT_MAX_MS = 30000,
};

struct restarts {		/* all zeros: nothing has died yet */
	int n_quick;		/* deaths in a row, each soon after the start */
};

/*
 * One has died.  status: as waitpid()'s; worked_ms: since it was ready, 0 if it never was.  Returns
 * the milliseconds to wait.
 */
long long restarts_wait(struct restarts *r, int status, long long worked_ms);

#endif
