/*
 * lazy.h - one image in block mode: its tree is fetched and verified first, then the granules that
 * readers ask for, then, in the background, the rest.
 *
 *   ROOTING    fetching the prefix of the sidecar; the first reader's granules are asked for at
 *              the same time, and wait in memory until the tree can prove them
 *   SERVING    the tree is verified: granules are landed as they come
 *   FULL       every granule is here; nothing is fetched any more
 *   UNFIT      block mode cannot be used: lazy_result() says why (sidecar missing, short, wrong or
 *              slow; a server without ranges, 45).  What waits is failed with it; the engine goes
 *              on with the whole stream
 *   BROKEN     the disk does not take the bytes (full, I/O error): lazy_result()
 *
 * A server that had ranges and has none for a while (a page that says it is being repaired) is
 * out of reach for that time, so that what is here is kept; after minutes of that the image is
 * UNFIT.
 *
 * Network failures do not change the state: they fail the wishes that wait, once every source was
 * tried LAZY_ROUNDS times in a row (at once while ROOTING), and the next wish tries again (after
 * LAZY_RETRY_MS).  A granule that is wrong from every source fails its wishes with -EBADMSG.
 *
 * Wishes that are near each other become one request; sequential ones grow a read-ahead, from
 * one granule to LAZY_AHEAD_MAX, over several requests in flight.  Bytes of a request that nobody
 * waits for any more are used all the same.
 *
 * The fetched ranges must be proven by a 206 with exactly the Content-Range that was asked for,
 * or a shorter one from the same first byte; what came of it is used.
 */
#ifndef VMI_LAZY_H
#define VMI_LAZY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "blockfile.h"
#include "conf.h"
#include "digest.h"
#include "err.h"
#include "lanes.h"
#include "store.h"

enum { LAZY_AHEAD_MAX = 32 << 20, LAZY_RETRY_MS = 1000, LAZY_ROUNDS = 2 };

enum lazy_state { LAZY_ROOTING, LAZY_SERVING, LAZY_FULL, LAZY_UNFIT, LAZY_BROKEN };

struct lazy;

struct lazy_source {
	char *uri, *list_id;		/* list_id: for tls_ca */
};

struct lazy_config {
	struct lanes *lanes;		/* borrowed until lazy_free() */
	struct store *store;		/* borrowed likewise */
	struct vtree_id id;		/* the signed digests and the size */
	const struct lazy_source *sources;	/* of the image; copied */
	size_t n_sources;
	const struct lazy_source *sidecars;	/* of the tree; copied; in order of preference */
	size_t n_sidecars;
	/*
	 * Healing a complete object: its granules are landed there, the state begins with SERVING.
	 * Borrowed: a reference is taken.  NULL: the store's partial in block mode.
	 */
	struct blockfile *heals;
	int notify_fd;			/* eventfd, written at every change of state */
	/*
	 * From lanes' threads, without locks held.  landed: size bytes at off are VERIFIED, and
	 * data are they (for the call).  failed: the wishes for these granules have failed (one
	 * call each).
	 */
	void (*landed)(void *arg, struct blockfile *f, int64_t off, const void *data, size_t size);
	void (*failed)(void *arg, const struct digest *image, int64_t first, int64_t n,
		       const struct err *why);
	void *arg;
};

int lazy_new(struct lazy **out, const struct lazy_config *config, struct err *err);
/*
 * Cancels what is fetched (waiting for callbacks that run); keeps partial, tree and map on the
 * disk.
 */
void lazy_free(struct lazy *l);

/* Any thread from here. */
enum lazy_state lazy_state(struct lazy *l);
int lazy_result(struct lazy *l, struct err *err);	/* UNFIT, BROKEN */
struct blockfile *lazy_blockfile(struct lazy *l);	/* a reference; NULL while ROOTING */

/*
 * A reader waits for these granules; ends in landed() or failed().  What is here already is told
 * by nobody: look again (blockfile_has()) after wishing.
 */
void lazy_want(struct lazy *l, int64_t first, int64_t n);
/* Fetches all that is missing, in the background (conf's fill = idle or now, or not at all). */
enum lazy_fill { LAZY_FILL_NOT, LAZY_FILL_IDLE, LAZY_FILL_NOW };
void lazy_fill(struct lazy *l, enum lazy_fill fill);
/* A granule arrived from elsewhere (another version of the image), or turned out to be missing. */
void lazy_changed(struct lazy *l);

struct lazy_figures {
	int64_t fetched_bytes, n_requests, n_bad_granules;
	bool active;			/* something is being fetched or is due now */
};
void lazy_figures(struct lazy *l, struct lazy_figures *out);

/* Ranges of the sidecar's level 0: blocks of granules first..first+n-1 into the cache of verified
 * blocks.  Blocks the calling thread until done; for comparing versions.  0 or a negative value. */
int lazy_fetch_level0(struct lazy *l, int64_t first, int64_t n, struct err *err);

/*
 * What blocks in lazy_fetch_level0() returns -ECANCELED, now and later; lazy_free() is still
 * due.
 */
void lazy_stop(struct lazy *l);

#endif
