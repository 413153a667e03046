/*
 * runner.h - the process that runs event handlers, so that neither the sandboxed worker nor a
 * command that has become `user` has to.
 *
 * runner_new() forks it while the caller is single-threaded, before any sandbox and before the
 * change of user: it becomes event_user (the daemon) or stays who the caller is (a command), has
 * none of the caller's descriptors, and ends when its socket closes; what runs then is ended
 * (TERM, KILL). It runs what the configuration or the admin's own command line names and nothing
 * else: a request names a handler, it does not bring one.
 *
 * A handler runs in a session and process group of its own; descriptors 0, 1, 2 alone: the record
 * as JSON, and a pipe for both outputs.  It ends by itself or gets TERM after the time-out and
 * KILL LIMIT_EVENT_KILL_SECONDS later, it and whatever is in its group or was orphaned by it.  The
 * first LIMIT_EVENT_OUTPUT bytes that it wrote are kept, the rest is read and dropped.  It is over
 * when its own process has ended; a child that holds the pipe holds nobody up, and is ended when
 * the time of its handler is over.
 */
#ifndef VMI_RUNNER_H
#define VMI_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "buf.h"
#include "conf.h"
#include "err.h"

struct runner;

/*
 * command NULL: the handlers of conf (event_command by /bin/sh -c, and the programs in event_dir
 * by exec), as event_user, with a clean environment and event_env.  Otherwise the one handler
 * "command", run by /bin/sh -c, with the caller's environment less LD_*, IFS, BASH_ENV, ENV,
 * OPENSSL_* and the like. PATH begins with the directory of our own commands in both.
 * That of a daemon is forked again when it is killed.
 */
int runner_new(struct runner **out, const struct conf *conf, const char *command, struct err *err);

/*
 * A daemon's runner by its socket (runner_fd() of another process), which is taken.  What runs for
 * the process before us is ended (TERM, KILL), and nothing of ours begins before it has.
 */
struct runner *runner_adopt(int sock);
/* Waits for the process to end, which it does in bounded time. */
void runner_free(struct runner *r);

/* Nothing is started any more, and what runs is ended without a word: saves runner_free() time. */
void runner_stop(const struct runner *r);

/*
 * Starts a handler by its name.  variables: NAME=VALUE strings, each ended by a NUL; record: what
 * it reads from its standard input.  *id names the run.
 */
int runner_start(struct runner *r, const char *name, const struct buf *variables,
		 const struct buf *record, uint32_t *id, struct err *err);

/* Reads the configuration again (by itself): the daemon was told to reload. */
int runner_reload(struct runner *r, struct err *err);

#define RUNNER_ALL UINT32_MAX	/* in the place of an id: all that was started before */

pid_t runner_pid(const struct runner *r);
int runner_fd(const struct runner *r);	/* readable: something has ended, or the runner itself */

/*
 * Takes one run that has ended: 1 and id, wait status (127 << 8 with a reason in output: it could
 * not be started), whether the time-out ended it, and what it wrote (raw; cleared before).  0:
 * none now. Negative: the runner is gone.
 */
int runner_reap(struct runner *r, uint32_t *id, int *status, bool *timed_out, struct buf *output);

#endif
