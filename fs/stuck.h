/*
 * stuck.h - a worker that was killed and cannot end, because a thread of it waits inside of the
 * kernel for those who wait for the worker.
 *
 * To tell the kernel that something has changed takes the lock of a directory, or of a page.  Who
 * looks up a name there, or reads, has that lock until he is answered.  If the worker is killed
 * just then, only the next one could answer; but two never have the store, so that it waits for the
 * end of this one.  All would wait for ever.
 *
 * So who has such a lock is made to let go of it.  First those who look up names are told that what
 * they know is stale: the kernel asks again by itself, and nobody sees it.  If that does not do,
 * those who read get an error, and in the end the connection is cut.
 */
#ifndef VMI_STUCK_H
#define VMI_STUCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "fs/connection.h"

struct stuck {
	long long look_at;		/* monotonic ms */
	pid_t pid;			/* who was seen to be dead, and cannot end; 0: nobody */
	unsigned looks;			/* how often */
	struct connection_told told;
};

enum stuck_step {
	STUCK_NO,
	STUCK_YES,
	STUCK_CUT,			/* and nothing has helped: the connection is to be cut */
};

/*
 * To be called once in a while, with the worker that has the connection (0: none), and how many
 * notes to the kernel it had under way: without one something else holds it, a disk, and nothing is
 * done.
 */
enum stuck_step stuck_look(struct stuck *s, pid_t worker, int64_t n_untold,
			   const struct connection *c, long long now);

/* Whether that worker is. */
bool stuck_is(const struct stuck *s, pid_t worker);

#endif
