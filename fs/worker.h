/*
 * worker.h - the process that serves the mount: FUSE loop and engine, without network, exec or
 * capabilities.
 *
 * It is executed anew (workermain.h) by the keeper, for the supervisor, which keeps a copy of the
 * /dev/fuse descriptor; the two talk in notes (note.h).  When the mount goes away under it
 * (umount), the worker ends by itself with status 0.
 */
#ifndef VMI_WORKER_H
#define VMI_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/conf.h"
#include "core/err.h"
#include "core/runner.h"
#include "core/starter.h"

struct options;
struct shared;

/* Everything is borrowed for the life of the process. */
struct worker_args {
	const struct conf *conf;
	const struct options *options;	/* for RELOAD: options_load_conf() */
	int control_socket;		/* listening */
	int supervisor_socket;		/* blocking */
	int read_ahead;			/* readahead.h; or -1 */
	struct shared *shared;
	struct starter *starter;
	int runner_socket;		/* of event handlers, taken; or -1 */
	uid_t event_uid;		/* handlers_owner() */
	unsigned max_threads;		/* of the FUSE loop; 0: its own choice */
	bool debug;			/* print every request */
};

/*
 * Runs in the new process, which is `user` already, has all signals of the daemon blocked and
 * SIGPIPE ignored, and has yet to call sandbox_enter() before it makes threads.  Returns the
 * exit status: 0 after STOP, RETIRE or the end of the mount.
 */
int worker_main(const struct worker_args *args);

#endif
