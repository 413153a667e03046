/*
 * kept.h - the life of a keeper: a process whose one duty is to fork another one again when that
 * has died, because those who need it could not any more (sandbox, user).
 *
 * It is forked before any sandbox, has become the user of the kept process already, and does
 * nothing on its own.
 */
#ifndef VMI_KEPT_H
#define VMI_KEPT_H

#include <stdbool.h>
#include <stddef.h>

enum { KEPT_FDS = 4 };

struct kept {
	const char *name;		/* of the kept process, for the log */
	/* The kept process: returns its exit status.  After status 0 it is not forked again. */
	int (*run)(void *arg);
	/* In the keeper: it was killed or failed, and so were its children.  Tells who waits. */
	void (*lost)(void *arg);
	/*
	 * In the keeper: fds[0] is readable; false: its other end has closed.  NULL: no such duty.
	 */
	bool (*serve)(void *arg);
	void *arg;
	/* Descriptors that the keeper needs; all others are closed. */
	int fds[KEPT_FDS];
	size_t n_fds;
};

/* Returns the exit status of the keeper: when the kept process ended by itself, or serve() did. */
int kept_main(const struct kept *k);

#endif
