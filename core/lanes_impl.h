/*
 * lanes_impl.h - between lanes.c and lazy*.c: what a lane is given to do, and the one lock.
 *
 * The lanes' lock covers the lanes, the hosts and every struct lazy; it is taken before a
 * blockfile's or the store's own, and never held over I/O, hashing or a callback.
 *
 *	lazy_look()   locked     what is most urgent, if this lane may do it
 *	lazy_take()   locked     it is this lane's now
 *	lazy_piece()  unlocked   bytes came
 *	lazy_done()   unlocked   the request ended
 */
#ifndef VMI_LANES_IMPL_H
#define VMI_LANES_IMPL_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lanehost.h"
#include "lanes.h"
#include "ranged.h"
#include "rangeplan.h"

struct lane;
struct lazy;
struct level0;

/* MAP and REFUSE ask no server. */
enum work_kind { WORK_TREE, WORK_LEVEL0, WORK_GRANULES, WORK_MAP, WORK_REFUSE };
enum work_rank { RANK_WAITED, RANK_TREE, RANK_AHEAD, RANK_FILL, RANK_CHORE, RANK_NONE };

#define LANES_NEVER LLONG_MAX

struct work {
	struct lazy *lazy;
	enum work_kind kind;
	enum work_rank rank;
	long long since;		/* RANK_WAITED: the oldest wish */
	bool filling;			/* GRANULES: of RANK_FILL */
	struct lanehost *host;		/* NULL: none is asked */
	const char *uri, *list_id;	/* borrowed from the lazy */
	size_t source;			/* number of the source, or of the sidecar */
	int64_t offset, length, file_size;
	int64_t seconds;		/* total timeout */
	struct range range;		/* GRANULES, LEVEL0 */
	struct level0 *level0;
	/* What came of it. */
	int64_t n_landed, n_wrong, n_wrong_in_row;
	int tree_rc;			/* LEVEL0: a block was wrong */
};

/* ---- lanes.c ------------------------------------------------------------------------------- */

void lanes_lock(struct lanes *l);
void lanes_unlock(struct lanes *l);
pthread_mutex_t *lanes_mutex(struct lanes *l);	/* for waiting on a condition */

/* Locked below this line. */
void lanes_add(struct lanes *l, struct lazy *z);
void lanes_remove(struct lanes *l, struct lazy *z);
void lanes_wake(struct lanes *l, struct lazy *z);	/* it may have work now */
/* What runs for it, or only its ranges of the lowest level, ends at once. */
void lanes_cancel(struct lanes *l, struct lazy *z, bool level0_only);
struct lanehost **lanes_hosts(struct lanes *l);
const struct conf *lanes_conf(struct lanes *l);
int64_t lanes_patience(struct lanes *l);	/* seconds that a reader waits for a block */
bool lanes_may_ask(const struct lane *lane, const struct lanehost *h, long long now,
		   long long *next);

/* ---- lazy*.c ------------------------------------------------------------------------------- */

/* Fills *w, but changes nothing.  *next becomes the earlier of itself and when to look again. */
enum work_rank lazy_look(struct lazy *z, const struct lane *lane, long long now, long long *next,
			 struct work *w);
void lazy_take(struct work *w);
void lazy_let_go(struct lazy *z);	/* after lazy_done(): the lane does not know it any more */

/* Unlocked. */
int lazy_piece(void *work, int64_t at, const void *data, size_t len);
/* refused: with 503 or 429, which the host has been told. */
void lazy_done(struct work *w, const struct ranged_end *end, bool refused);

#endif
