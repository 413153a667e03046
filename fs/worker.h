/*
 * worker.h - the process that serves the mount: FUSE loop and engine, without network, exec or
 * capabilities.
 *
 * The supervisor forks it single-threaded and keeps a copy of the /dev/fuse descriptor.  Between
 * the two runs a SOCK_SEQPACKET pair with fixed-size notes:
 *
 *   worker -> supervisor   READY (about to answer), FAILED (it cannot start; code and text)
 *   supervisor -> worker   STOP, RELOAD, DUMP_STATUS
 *
 * End of file on the socket means STOP.  When the mount goes away under it (umount), the worker
 * ends by itself with status 0.
 */
#ifndef VMI_WORKER_H
#define VMI_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/conf.h"
#include "core/err.h"
#include "core/starter.h"

struct options;

enum { WORKER_NOTE_MAGIC = 0x57724e31 };

enum worker_note_kind {
	WORKER_READY = 1,
	WORKER_FAILED,
	WORKER_STOP,
	WORKER_RELOAD,
	WORKER_DUMP_STATUS,
};

struct worker_note {
	uint32_t magic;
	int32_t kind;			/* enum worker_note_kind */
	int32_t rc;			/* FAILED: negative errno value */
	int32_t code;			/* FAILED: enum code */
	char text[ERR_TEXT_MAX];	/* FAILED: the sentence */
};

/* Everything is borrowed for the life of the process. */
struct worker_args {
	const struct conf *conf;
	const struct options *options;	/* for RELOAD: options_load_conf() */
	const char *conf_file;		/* of -o config=, NULL: the default places */
	int fuse_fd;			/* mounted already */
	int control_socket;		/* listening */
	int supervisor_socket;		/* blocking */
	struct starter *starter;
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
