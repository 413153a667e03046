/*
 * worker.h - the process that serves the mount: FUSE loop and engine, without network, exec or
 * capabilities.
 *
 * The supervisor forks it single-threaded and keeps a copy of the /dev/fuse descriptor; the two
 * talk in notes (note.h).  When the mount goes away under it (umount), the worker ends by itself
 * with status 0.
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

/* Everything is borrowed for the life of the process. */
struct worker_args {
	const struct conf *conf;
	const struct options *options;	/* for RELOAD: options_load_conf() */
	const char *conf_file;		/* of -o config=, NULL: the default places */
	int fuse_fd;			/* mounted already */
	int control_socket;		/* listening */
	int supervisor_socket;		/* blocking */
	int read_ahead;			/* readahead.h; or -1 */
	struct starter *starter;
	struct runner *runner;		/* of event handlers, or NULL */
	uid_t event_uid;		/* handlers_owner() */
	uid_t uid;
	gid_t gid;
	unsigned max_threads;		/* of the FUSE loop; 0: its own choice */
	bool debug;			/* print every request */
};

/*
 * Runs in the new process, which is `user` already, has all signals of the daemon blocked and
 * SIGPIPE ignored, and has yet to call sandbox_enter() before it makes threads.  Returns the
 * exit status: 0 after STOP or the end of the mount.
 */
int worker_main(const struct worker_args *args);

#endif
