/*
 * lazy_impl.h - what lazy.c, lazylook.c, lazyroot.c and lazywork.c share: one image in block mode.
 *
 *	lazy.c      the public functions
 *	lazylook.c  what is to be done next
 *	lazyroot.c  the tree: its prefix, ranges of its lowest level, the verdict on the sidecars
 *	lazywork.c  granules: landing them, and what follows from failures
 *
 * All of struct lazy below `lock` is covered by the lanes' lock (lanes_impl.h).
 */
#ifndef VMI_LAZY_IMPL_H
#define VMI_LAZY_IMPL_H

#include <pthread.h>
#include "lanes_impl.h"
#include "lazy.h"
#include "vtree.h"

enum {
	LAZY_HELD = 32,			/* granules, 8 MiB, that wait in memory for the tree */
	LAZY_BAD = 64,			/* wrong granules that are remembered */
	LAZY_WRONG_ROW = 4,		/* so many wrong granules in a row end a request */
	LAZY_REQUEST_MAX = 32,		/* granules, 8 MiB: long enough to fill a fast line */
	LAZY_REQUEST_FIRST = 8,		/* before it is known how fast it is */
	LAZY_REFUSALS = 8,		/* in a row, until a busy server has failed */
	LAZY_LEVEL0_MAX = 2048,		/* blocks of one request, 8 MiB */
	LAZY_MAP_BYTES = 64 << 20,	/* the map is saved after so much, or */
	LAZY_MAP_MS = 5000,
	LAZY_RANGELESS_MS = 300000,	/* a server that had ranges is given to have them again */
};

#define LAZY_PREFIX_MAX (8LL * VTREE_MEMORY_BYTES)	/* of an image of 2 TiB */

struct source {
	struct lazy_source what;
	struct lanehost *host;
	bool unfit;			/* a server without ranges */
	bool proven;			/* a granule came from it */
};

/*
 * A granule that was wrong; not asked for again before retry_at.  Once it has failed, wishes that
 * are made in that time fail at once.
 */
struct bad {
	int64_t g;
	int tries;
	bool failed;
	long long retry_at;
};

/* A granule that came before the tree. */
struct held {
	int64_t g;
	void *data;
	size_t len;
};

/* A blocked lazy_fetch_level0(). */
struct level0 {
	struct level0 *next;
	int64_t first, n, done;
	size_t sidecar;
	bool in_flight, ended;
	int rc;
	struct err err;
};

/* While ROOTING. */
struct rooting {
	size_t sidecar;			/* the next to ask */
	bool in_flight;
	struct buf prefix;		/* of the lane that fetches it */
	long long deadline;		/* of this round over all sidecars; 0: not begun */
	int n_refused;
	struct err why;			/* the most telling failure of this round */
	bool undecided;			/* sidecars cannot be reached: what about the image? */
	bool image_answers, image_fails;/* in this round */
	bool kept;			/* the tree is on the disk, or was */
};

struct lazy {
	struct lanes *lanes;
	struct store *store;
	struct vtree_id id;
	struct verity_shape shape;
	struct lazy_config config;	/* the callbacks and notify_fd */
	struct source *sources, *sidecars;
	size_t n_sources, n_sidecars;
	bool heals;

	/* lock */
	enum lazy_state state;
	struct err result;
	struct blockfile *file;		/* set once, by whoever ends ROOTING */
	struct rangeplan *plan;
	struct rooting root;
	enum lazy_fill fill;
	bool dying, stopped;
	int n_working;			/* lanes that work for it */
	pthread_cond_t changed;		/* n_working, level0s */

	size_t source;			/* of the image, in use */
	size_t n_failed;		/* sources that failed, since the last success */
	int n_rounds;			/* over all of them */
	int n_refused;
	size_t n_cut;			/* answers that began and brought no granule, in a row */
	long long retry_at;		/* nothing is asked of the sources before */
	long long idle_at;		/* nor what nobody waits for */
	long long wanted_at;		/* the last wish */
	int64_t rate;			/* bytes a second of one connection; 0: not known */
	int n_filling;
	bool proven;			/* a granule came by range, now or in an earlier run */
	int n_rangeless;		/* rounds that ended with code 45, since the last one */
	long long rangeless_since;

	struct bad bad[LAZY_BAD];
	size_t n_bad;
	struct err wrong;		/* what the last of them was told with */
	int64_t n_wrong_in_row;		/* wrong granules since the last right one */
	struct held held[LAZY_HELD];
	size_t n_held;
	struct level0 *level0s;

	bool saving;			/* the map */
	long long saved_at;
	int64_t landed_since;		/* bytes */
	struct lazy_figures figures;
};

/* Wishes that have failed, to be told without the lock. */
struct failures {
	struct range *at;
	size_t n;
	struct err why;
};

/* Locked. */
void lazy_set_state(struct lazy *z, enum lazy_state state);
/* FULL or not, after something landed, or turned out to be missing. */
void lazy_look_at_file(struct lazy *z);
/* UNFIT or BROKEN: what waits is in f. */
void lazy_end(struct lazy *z, enum lazy_state state, const struct err *why, struct failures *f);
/* All sources failed: what waits, and is not on its way, is in f. */
void lazy_network_failed(struct lazy *z, const struct err *why, struct failures *f);

/* Unlocked. */
void lazy_tell(struct lazy *z, struct failures *f);
void lazy_land(struct work *w, int64_t g, const void *data, size_t len);
void lazy_save_map(struct lazy *z, bool at_once);

/* lazyroot.c; unlocked but for lazy_verdict(). */
int lazy_prefix_piece(struct work *w, const void *data, size_t len);
void lazy_prefix_done(struct work *w, const struct ranged_end *end, bool refused);
/* Undecided, and now the image has answered or not. */
void lazy_verdict(struct lazy *z, const struct err *image_why, struct failures *f);
int lazy_level0_piece(struct work *w, int64_t at, const unsigned char *data, size_t len);
void lazy_level0_done(struct work *w, const struct ranged_end *end, bool refused);

#endif
