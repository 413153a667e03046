/*
 * dirs.h - the directories of a site and the lock that makes a daemon the only one.
 */
#ifndef VMI_DIRS_H
#define VMI_DIRS_H

#include <stdbool.h>
#include <sys/types.h>
#include "conf.h"
#include "err.h"

/*
 * Makes run_dir (0755), state_dir (0711) and cache_dir (0750) where they are missing and gives
 * them to the user, and the directories of event handlers in handler_dir.  A directory with
 * contents that belongs to somebody else is refused (-EPERM), never taken.  Whoever is not root
 * makes them for himself.
 */
int dirs_make(const struct conf *conf, uid_t uid, gid_t gid, struct err *err);

/*
 * The lock run_dir/lock as a descriptor: whoever inherits it holds it.  A daemon that is just
 * ending is waited for, at most wait_seconds; CODE_BUSY when another one keeps it.  Single-threaded
 * (uses SIGALRM).
 */
int dirs_lock(const struct conf *conf, uid_t uid, gid_t gid, unsigned wait_seconds, int *fd,
	      struct err *err);

/*
 * Says that this process, and none that it forks, looks after the site: for as long as it
 * lives, and has the descriptor open.  To be called under the lock above.
 */
int dirs_supervise(const struct conf *conf, uid_t uid, gid_t gid, int *fd, struct err *err);

/* Whether one does, in any pid namespace; also when that cannot be found out. */
bool dirs_is_supervised(const struct conf *conf);

#endif
