/*
 * supervisor.h - the process that holds the mount: it has workers started, one after the other,
 * passes signals on to them, and unmounts at the end.
 *
 * Single-threaded; as `user` with CAP_SYS_ADMIN alone; parses nothing from outside but fixed-size
 * notes of the worker.
 */
#ifndef VMI_SUPERVISOR_H
#define VMI_SUPERVISOR_H

#include <sys/types.h>
#include "connection.h"
#include "core/conf.h"
#include "core/err.h"
#include "core/runner.h"
#include "core/starter.h"
#include "keeper.h"
#include "mountpoint.h"
#include "options.h"
#include "shared.h"

/* Everything is borrowed. */
struct supervisor_setup {
	const struct conf *conf;
	const struct options *options;
	struct mountpoint *mountpoint;	/* mounted */
	struct connection *connection;	/* on which it is mounted */
	struct shared *shared;
	int shared_fd;
	int control_socket;		/* for workers, as those that follow */
	int lock;
	int board_fd;			/* or -1 */
	struct keeper *keeper;
	struct starter *starter;
	struct runner *runner;		/* or NULL */
	uid_t uid;
	gid_t gid;
	void (*serving)(void *arg);	/* the mount answers */
	void *arg;
};

/*
 * Gives up privileges, has the worker started, and returns when the mount has gone: 0, or a
 * negative errno value when it ended by a fault (logged, if it was serving already).  All signals
 * that it takes must be blocked (supervisor_block_signals) before any child is forked.
 */
int supervisor_run(const struct supervisor_setup *setup, struct err *err);

void supervisor_block_signals(void);

#endif
