/*
 * control.h - the control socket run_dir/control (SOCK_STREAM, 0660): what needs the living daemon.
 *
 * One request a connection, one line of at most LIMIT_CONTROL_LINE bytes; answers are lines, the
 * last one begins with "ok" or "err".  Who may call is the socket's mode: root, the daemon's user,
 * and members of its group.
 *
 *   fetch <128 hex>      progress <bytes> <total>   (repeated)
 *                        ok  |  err <code> <errno> <sentence>
 *   want <128 hex>       the same, as patient as a reader: wrong bytes wait out their back-off,
 *                        and are given up
 *   evict <128 hex>      ok  |  err ...
 *   heal <128 hex>       progress <bytes> <total>   (repeated) all of it is hashed, and healed
 *                        ok <n>  |  err ...         granules that were bad
 *   damaged <128 hex>    ok  |  err ...            its bytes are bad: quarantine, fetch anew
 *   purge <seconds>      ok <n> <m>  |  err ...    expired objects older than that; m are open
 *                                                  and stay
 *   poke                 ok                        rows changed: from the answer on they are seen
 *   reload               ok  |  err ...
 *   exchange             ok                        the program on disk is tried: see workerstate.h
 *   status               one JSON object, then ok
 *   confined <hex>       ok  |  err ...            what is in force in an updater, or in one of its
 *                                                  children (sandboxstate.h); by the daemon's user
 */
#ifndef VMI_CONTROL_H
#define VMI_CONTROL_H

#include <stdbool.h>

#include "buf.h"
#include "conf.h"
#include "err.h"

/*
 * Beside the socket a link of this name leads to where the daemon mounts, which its command line
 * may have said: for those who may not open the catalogue.
 */
#define CONTROL_MOUNTPOINT "mountpoint"

/*
 * Server: makes the listening socket (root, before privileges are dropped; single-threaded, because
 * the mode comes from the umask).  Makes run_dir if it is missing.  A socket that a dead daemon
 * left is replaced; one that answers is CODE_BUSY.  Returns the descriptor: non-blocking,
 * close-on-exec.
 */
int control_listen(const struct conf *conf, uid_t uid, gid_t gid, struct err *err);

/*
 * Client: sends one request and calls line() for every answer line before the last.  -ENOTCONN
 * when no daemon listens; otherwise 0 or what "err" carried.  What takes long is asked again when
 * another worker takes over meanwhile.  ok_text (may be NULL) gets what followed "ok ".
 */
int control_call(const struct conf *conf, const char *request,
		 int (*line)(void *arg, const char *text), void *arg, struct buf *ok_text,
		 struct err *err);

/* Whether there is a daemon, even if it has no worker now. */
bool control_listens(const struct conf *conf);

/* Tells a daemon, if there is one, that rows changed. */
void control_poke(const struct conf *conf);

/*
 * Tells a daemon, if there is one, what is in force in this process, an updater, and its children.
 */
void control_confined(const struct conf *conf);

#endif
