/*
 * engine.h - who fetches what, and when: the one thread that owns the catalogue, the sockets and
 * the timers of a daemon (or of a command that works without one).
 *
 * Jobs, one a wanted digest: QUEUED -> RECEIVING -> (VERIFIED -> STORED | FAILED -> back-off).
 * At most fetch_parallel jobs receive at once, and one more for a reader if nobody waits for those.
 * A transfer that was cut resumes; a try that brought no byte counts; after LIMIT_TRIES of a list
 * version only a new list or engine_retry() tries again.  Choosing the next job is a pure function
 * (plan.h).
 */
#ifndef VMI_ENGINE_H
#define VMI_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "buf.h"
#include "catalogue.h"
#include "conf.h"
#include "digest.h"
#include "err.h"
#include "runner.h"
#include "starter.h"
#include "store.h"

struct blockfile;
struct engine;

#define ENGINE_NOT_SHOWN UINT64_MAX	/* no ticket: ops.changed() failed */

struct engine_ops {
	/*
	 * The answer to engine_want(): rc 0 and a file to read from (borrowed for the call), whole,
	 * or in block mode and being filled; or a negative errno value and the sentence.  Called
	 * once for each change from wanted to answered, on the engine's thread.
	 */
	void (*answered)(void *arg, const struct digest *d, int rc, struct blockfile *f,
			 const struct err *why);
	/*
	 * Any thread, no lock held.  landed: size bytes at off of a file in block mode, or of one
	 * that was healed, are verified now; data are they, for the call.  failed: n granules from
	 * first, which engine_want_granules() or engine_heal() asked for, cannot be had.
	 */
	void (*landed)(void *arg, struct blockfile *f, int64_t off, const void *data, size_t size);
	void (*failed)(void *arg, const struct digest *d, int64_t first, int64_t n, int rc,
		       const struct err *why);
	/*
	 * The file was hashed from end to end in this mount, and its bytes are the signed ones
	 * (integrity = open, or just fetched): on the engine's thread.
	 */
	void (*audited)(void *arg, const struct digest *d, struct blockfile *f);
	/*
	 * The bytes that were answered, or opened, before are not to be used any more: the disk
	 * could not keep them, or they turned out to be bad, or block mode was given up.
	 */
	void (*lost)(void *arg, const struct digest *d);
	/*
	 * Rows changed: rebuild what is shown.  On the engine's thread, which may use catalogue.
	 * Returns a ticket that grows from call to call, for engine_shown(); 0: it is shown now;
	 * ENGINE_NOT_SHOWN: it failed, what was shown before still is, and it is to be asked again.
	 */
	uint64_t (*changed)(void *arg, struct catalogue *catalogue);
	/* A job began or ended: what is volatile of these images must be looked up again. */
	void (*activity)(void *arg, const struct digest *d, bool active);
	/* The control socket asked for a reload; ends in engine_reconfigure() if all is well. */
	int (*reload)(void *arg, struct err *err);
	/* The control socket asked for the program on disk to take over. */
	void (*exchange)(void *arg);
	/* Whether a file of the object is open in the mount. */
	bool (*is_open)(void *arg, const struct digest *d);
	void *arg;		/* every function may be NULL */
};

struct engine_config {
	const struct conf *conf;	/* borrowed until engine_free() or engine_reconfigure() */
	struct catalogue *catalogue;	/* takes */
	struct store *store;		/* borrows; locked by the caller */
	struct starter *starter;	/* borrows */
	struct runner *runner;		/* of event handlers, borrows; NULL: events wait */
	uid_t event_uid;		/* handlers_owner() */
	struct engine_ops ops;
	int control_socket;		/* listening, or -1; borrows */
	int stop_fd;			/* readable: stop; -1: none */
	/* Timers for updates and expiry, prefetching, reconciliation. */
	bool daemon;
};

int engine_new(struct engine **out, const struct engine_config *config, struct err *err);

/*
 * Runs until engine_stop(); partial files are kept.  Without daemon: also returns when no job is
 * left.
 */
int engine_run(struct engine *e, struct err *err);
void engine_free(struct engine *e);

/* Any thread from here. */
void engine_stop(struct engine *e);
void engine_want(struct engine *e, const struct digest *d);	/* a reader, or a command, waits */
/* As engine_want(), and forgets failed tries. */
void engine_retry(struct engine *e, const struct digest *d);
/*
 * The object's file is gone, or no file of its size: if it still is, quarantine; it is fetched
 * anew.
 */
void engine_damaged(struct engine *e, const struct digest *d, const char *why);
/*
 * Readers wait for granules of a file that was answered in block mode; ends in landed(), failed()
 * or lost().  Look again (blockfile_has()) after the call.  Together with engine_want(),
 * before its answer, it has them fetched while the tree is; without block mode it is a want.
 */
void engine_want_granules(struct engine *e, const struct digest *d, int64_t first, int64_t n);
/*
 * Granule g of a complete file is bad (blockfile_read() said so): it is fetched and written anew,
 * the bad bytes are kept.  Ends in landed() or failed() (then the image is degraded).
 */
void engine_heal(struct engine *e, struct blockfile *f, int64_t g, const char *why);
/*
 * integrity = open: the file is hashed from end to end, once a mount, and healed where it is bad.
 * Ends in audited() or lost(), or in neither: then reads go on to be verified one by one.
 */
void engine_audit(struct engine *e, const struct digest *d);
/* Somebody opened or closed a file of it: the least recently used go first. */
void engine_used(struct engine *e, const struct digest *d);
/* The changes up to this one can be seen by everybody. */
void engine_shown(struct engine *e, uint64_t ticket);
void engine_reconfigure(struct engine *e, struct conf *conf);	/* takes conf */

struct engine_progress {
	bool active;			/* a job exists that is not over */
	int64_t bytes, total;
};
void engine_progress(struct engine *e, const struct digest *d, struct engine_progress *out);

/* What `status` shows.  Counters since start unless said otherwise. */
struct engine_status {
	int64_t started;		/* seconds UTC */
	int64_t last_update, next_update;/* 0: never */
	struct catalogue_counts rows;	/* now */
	int64_t n_fetching, n_queued;
	int64_t fetched_bytes, fetched_images, failed_tries;
	int64_t corrupt_granules, healed_granules, reused_bytes;
	int64_t events_waiting, events_failed;	/* for handlers; now */
	struct store_usage usage;
	int64_t cache_used;		/* what counts against usage.limit */
	int64_t expired_bytes;		/* of it, of stored files that only withdrawn images name */
	int64_t pinned;			/* images; now */
	int64_t evicted_images, evicted_bytes;	/* to make room */
	int64_t room_refusals, last_room_refusal;	/* with code 52; seconds UTC, 0: never */
	int64_t memory;			/* bytes, of this process; 0: there is no daemon */
	struct err clock;			/* rc 0: nothing is wrong with it (clock.h) */
};
void engine_status(struct engine *e, struct engine_status *out);

/*
 * One figure of a status.  The name is its key wherever it is shown; metrics add what their
 * conventions ask for.
 */
enum figure_form { FIGURE_NUMBER, FIGURE_COUNTER, FIGURE_STAMP };
struct engine_figure {
	const char *name, *help;
	enum figure_form form;
	int64_t value;			/* a stamp in seconds UTC; 0: never */
};

/* Calls fn for every figure, in the order in which they are shown. */
void engine_status_each(const struct engine_status *s,
			void (*fn)(void *arg, const struct engine_figure *f), void *arg);

/* For engine_status_each(): a member of a struct jsonw, a line "key: value" of a struct buf. */
void engine_figure_json(void *jsonw, const struct engine_figure *f);
void engine_figure_text(void *buf, const struct engine_figure *f);

/* What rows and store say, for a status without a daemon.  store may be NULL. */
int engine_status_count(struct engine_status *s, struct catalogue *c, struct store *store,
			struct err *err);

#endif
