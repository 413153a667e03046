/*
 * keeper.h - who executes workers: the process that also keeps the starter (core/kept.h).
 *
 * The supervisor cannot: what it executed would be bound by its own sandbox.  The keeper is bound
 * by none; a worker that it executes is a child of the supervisor all the same (CLONE_PARENT).
 *
 * Two programs are known: the one that works, held open so that nothing on disk can take it away,
 * and whatever stands at the path that the daemon was started from.
 */
#ifndef VMI_KEEPER_H
#define VMI_KEEPER_H

#include <sys/types.h>
#include "core/conf.h"
#include "core/err.h"
#include "core/starter.h"
#include "options.h"

/* The descriptors of a worker, from 3 on. */
enum worker_fd {
	WORKER_FD_NOTES,		/* to the supervisor */
	WORKER_FD_CONTROL,		/* listening */
	WORKER_FD_STARTER,
	WORKER_FD_RUNNER,		/* this and what follows may be /dev/null: there is none */
	WORKER_FD_SHARED,
	WORKER_FD_READ_AHEAD,
	WORKER_FD_LOCK,			/* of run_dir: held until nobody of us is left */
	WORKER_FD_BOARD,		/* core/sandboxstate.h */
	N_WORKER_FDS
};

/* And behind them the configuration as it was at the start (options_save_conf()). */
enum { WORKER_FD_FIRST = 3, WORKER_FD_CONF = WORKER_FD_FIRST + N_WORKER_FDS };

#define WORKER_ARGUMENT "--worker="	/* and WORKER_PROTOCOL: the first argument of a worker */

enum keeper_program { KEEPER_GOOD, KEEPER_ON_DISK };

struct keeper;

/*
 * Forks keeper and starter.  Before any sandbox; single-threaded.  The caller is the one whose
 * children workers will be.
 */
int keeper_new(struct keeper **out, struct starter **starter, const struct conf *conf,
	       const struct options *options, struct err *err);
void keeper_free(struct keeper *k);	/* before starter_free(); NULL is fine */

/* Borrows fds; -1 for those that there are not.  That its program could be executed shows later. */
int keeper_start(struct keeper *k, enum keeper_program which, const int fds[N_WORKER_FDS],
		 pid_t *pid, struct err *err);

/* What was started from the disk last is the one that works from now on. */
void keeper_adopt(struct keeper *k);

#endif
