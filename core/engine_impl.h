/*
 * engine_impl.h - the engine's insides, shared by engine*.c and controlserver.c.  Nothing else
 * includes it.
 *
 * Locks, in the order in which they may be taken:
 *
 *   lazies   (read-write) the list of lazyjobs, and their lazy, file, bytes and due; read while
 *            one of them is called, so that none is freed meanwhile.  Never held while something
 *            is freed
 *   lock     inbox, job list membership (not the jobs' insides, which belong to the engine's
 *            thread) and the status; never held across a call into another module except
 *            job_progress()
 */
#ifndef VMI_ENGINE_IMPL_H
#define VMI_ENGINE_IMPL_H

#include <poll.h>
#include <pthread.h>
#include "clock.h"
#include "engine.h"
#include "job.h"
#include "lanes.h"
#include "lazy.h"
#include "log.h"
#include "passes.h"

enum inbox_kind {
	INBOX_WANT, INBOX_RETRY, INBOX_DAMAGED,
	INBOX_GRANULES,			/* wanted, of an image that no lazy fetches */
	INBOX_MISSED,			/* wanted, and not to be had */
	INBOX_HEAL, INBOX_HEALED, INBOX_UNHEALED,
	INBOX_AUDIT,
};

struct inbox_item {
	struct inbox_item *next;
	enum inbox_kind kind;
	struct digest digest;
	int64_t first, n;		/* granules */
	struct blockfile *file;		/* a reference, or NULL */
	struct err why;
};

/*
 * An image in block mode.
 *
 *   QUEUED    nobody waits: to be filled when there is a place, or, if fill says no, to be read
 *   ROOTING   its tree is being fetched; wants wait
 *   SERVING   wants are answered with file; granules come as readers ask, and in the background
 *   CHECKING  every granule is here: a pass (COMMIT) hashes the whole
 *   STORED    it is the object; the row is still to say so
 *   BACKOFF   the disk did not take it; result says why
 *
 *   state     lazy      file
 *   QUEUED    NULL      NULL
 *   ROOTING   set       NULL
 *   SERVING, CHECKING  set    set
 *   STORED    set       set; lazy is NULL if another job had fetched it
 *   BACKOFF   NULL      NULL
 */
enum lazyjob_state {
	LAZYJOB_QUEUED, LAZYJOB_ROOTING, LAZYJOB_SERVING, LAZYJOB_CHECKING, LAZYJOB_STORED,
	LAZYJOB_BACKOFF,
};

struct reuse;

struct lazyjob {
	struct lazyjob *next;
	struct digest digest, root;
	int64_t size;
	enum lazyjob_state state;
	bool pending;			/* a new version of an image whose old one is here */
	bool rooted;			/* the row has the tree */
	bool waiting;			/* wants that are not answered */
	bool asked;			/* a command waits for all of it */
	bool filling;			/* has one of the places for filling */
	bool late;			/* had one, and nothing came for too long */
	int64_t had;			/* bytes that were here at moved_at */
	long long moved_at;		/* monotonic ms: filling: the last time that some came */
	bool reused;			/* an older version was looked at */
	bool withdrawn;			/* nobody wants it any more, but it is open */
	enum lazy_fill fill;		/* what the lazy was told */
	char *uri;			/* one of its sources */
	int64_t wish;			/* for the command: granule that was wished for, -1 none */
	/* Every granule was here once: it is filled, whatever fill says. */
	bool was_whole;
	int n_checks;			/* passes that found the file changed */
	int n_failed;			/* in a row, for the back-off */
	long long retry_at, failed_at;	/* monotonic ms; STORED: retry_at of the row */
	int64_t free_then;		/* BACKOFF: what the disk had when it had no room, or -1 */
	struct err result;
	struct lazy *lazy;
	struct blockfile *file;
	int64_t bytes;			/* that are here, while there is no file */
	bool due;			/* all of it is to be fetched, whoever reads */
	struct reuse *reuse;		/* blocks of an older version are being taken over */
};

struct clock_watch {
	enum clock_state state;
	int64_t seen;			/* the last good one; 0: never */
	int64_t noted;			/* likewise, in the catalogue */
	struct clock_ahead ahead;	/* for how long it has been */
	int64_t ahead_noted;		/* its seconds in the catalogue; -1: none are there */
	long long looked;		/* monotonic ms: when it was counted; 0: not in this run */
};

struct client {				/* of the control socket */
	struct client *next;
	int fd;
	struct buf in;
	bool watching;			/* "fetch", "want": waits for the job of digest */
	bool healing;			/* "heal": waits for its examination */
	struct digest digest;
	long long told_at;		/* monotonic ms of the last progress line */
	struct buf answer;		/* the last line, while it has to wait */
	uint64_t ticket;		/* until this is shown, */
	long long answer_by;		/* or until this moment (monotonic ms) */
	bool closing;
};

/* engine_room.c */
struct use;

struct room {
	pthread_mutex_t lock;		/* of uses; taken alone */
	struct use *uses;		/* since they were saved last */
	size_t n_uses;
	long long counted_at, planned_at, trim_at;	/* monotonic ms; 0: never, or at once */
};

struct engine {
	struct engine_config config;
	struct catalogue *catalogue;
	struct conf *own_conf;		/* after a reload */

	pthread_mutex_t lock;
	struct inbox_item *inbox, **inbox_end;
	bool stop, poked;
	uint64_t shown;			/* ticket of ops.changed() */
	struct conf *new_conf;
	struct job *jobs;
	struct engine_status status;

	pthread_rwlock_t lazies;
	struct lazyjob *lazyjobs;
	struct lanes *lanes;
	struct passes *passes;
	struct heal *heals;		/* engine_heal.c */
	struct examination *examinations;	/* engine_examine.c */
	struct audited *audited;	/* objects that were hashed whole in this mount */

	struct job_counters counters;	/* go into the status when rows are counted */
	int wake_fd;			/* eventfd: the inbox */
	int notify_fd;			/* eventfd: intakes changed state */
	int64_t data_version;
	uint64_t ticket;		/* of the last ops.changed() */
	struct client *clients;

	long long next_check;		/* monotonic ms: rows, trust directory, purging */
	int64_t next_update;		/* seconds UTC; 0: never */
	int64_t next_expiry;		/* seconds UTC */
	struct updater { uint32_t id; long long since; } updater, rechecker;	/* 0: not running */
	struct room room;
	struct engine_events *events;	/* engine_events.c; NULL: not a daemon */
	struct adoption *adoption;	/* engine_adoption.c; NULL: nothing is to be adopted */
	int64_t lists_awaited;		/* when the store was looked through last; -1: it was not */
	struct clock_watch clock;
	bool starter_gone;		/* its socket is at its end: always readable */
};

static inline const struct conf *
engine_conf(const struct engine *e)
{
	return e->config.conf;
}

/* engine.c */
struct job *engine_find_job(struct engine *e, const struct digest *d);
void engine_rows_changed(struct engine *e);
/* Looks at rows that others may have changed: what is shown, and what is to be fetched. */
void engine_look(struct engine *e);
void engine_add_job(struct engine *e, struct job *job);
void engine_drop_job(struct engine *e, struct job *job);
void engine_requeue_job(struct engine *e, struct job *job);	/* BACKOFF -> QUEUED */
struct job *engine_next_job(struct engine *e);	/* to be started now, or NULL */
void engine_answer(struct engine *e, const struct digest *d, int rc, struct blockfile *f,
		   const struct err *why);
void engine_tell_activity(struct engine *e, const struct digest *d, bool active);
void engine_tell_lost(struct engine *e, const struct digest *d);
void engine_tell_failed(struct engine *e, const struct digest *d, int64_t first, int64_t n,
			const struct err *why);
bool engine_is_open(struct engine *e, const struct digest *d);
/* Whether a job of either kind exists. */
bool engine_is_fetching(struct engine *e, const struct digest *d);

/* engine_inbox.c */
bool engine_take_inbox(struct engine *e);	/* true: stop */
void engine_free_inbox(struct engine *e);
uint64_t engine_last_shown(struct engine *e);
void engine_post(struct engine *e, enum inbox_kind kind, const struct digest *d, int64_t first,
		 int64_t n, const struct err *why);

/*
 * engine_wants.c.  lose_object: the part of handle_damage that comes before rows are shown; false:
 * its row cannot be changed, and nothing is; said: what is to be told of it.
 */
void engine_request(struct engine *e, const struct digest *d, bool retry);
void engine_handle_damage(struct engine *e, const struct digest *d, const char *why);
bool engine_lose_object(struct engine *e, const struct digest *d, const char *why,
			struct err *said);
void engine_prefetch(struct engine *e, const struct object_row *row);
void engine_begin_rebuild(struct engine *e, const struct object_row *row, const struct err *why);
void engine_rebuilt(struct engine *e, struct pass *pass);

/*
 * engine_lazy.c: images in block mode.  request_blocks: as engine_request() for an image that has a
 * lazyjob.  change: in a transaction of its own.
 */
struct lazyjob *engine_find_lazyjob(struct engine *e, const struct digest *d);
struct lazyjob *engine_add_lazyjob(struct engine *e, const struct object_row *row);
int64_t engine_lazyjob_bytes(const struct lazyjob *job);	/* here; lazies held */
/* It is without lazy and file then. */
void engine_stop_lazyjob(struct engine *e, struct lazyjob *job);
void engine_drop_lazyjob(struct engine *e, struct lazyjob *job);
void engine_fail_lazyjob(struct engine *e, struct lazyjob *job, const struct err *why);
void engine_request_blocks(struct engine *e, struct lazyjob *job, bool retry);
void engine_take_granules(struct engine *e, const struct digest *d, int64_t first, int64_t n);
void engine_take_missed(struct engine *e, const struct inbox_item *item);
void engine_run_lazyjobs(struct engine *e);
int engine_lazyjobs_wait(struct engine *e, long long now);	/* ms, -1 never */
void engine_tell_landed(void *engine, struct blockfile *f, int64_t off, const void *data,
			size_t size);
int engine_change_lazyjob(struct engine *e, struct lazyjob *job,
			  int (*change)(struct engine *e, struct lazyjob *job, struct err *err),
			  struct err *err);
void engine_log_lazyjob(enum log_level level, const struct lazyjob *job, const struct err *why);

/* engine_whole.c: the last check of an image in block mode. */
void engine_begin_check(struct engine *e, struct lazyjob *job);
void engine_committed(struct engine *e, struct pass *pass);
void engine_finish_lazyjob(struct engine *e, struct lazyjob *job);

/*
 * engine_fill.c: rest: lets go of what nobody uses for now.  places_wait: ms until somebody may
 * lose his place to another, -1 never.
 */
void engine_begin_reuse(struct engine *e, struct lazyjob *job);
void engine_look_at_reuse(struct engine *e, struct lazyjob *job);
enum lazy_fill engine_wanted_fill(struct engine *e, const struct lazyjob *job);
void engine_plan_fill(struct engine *e);
long long engine_places_wait(struct engine *e, long long now);
void engine_rest_lazyjobs(struct engine *e);

/*
 * engine_linger.c: after rows have changed: jobs, then what is here in part and not wanted.  end:
 * of those that nobody wants and that have been closed.
 */
void engine_review_lazyjobs(struct engine *e);
void engine_drop_unwanted(struct engine *e);
/* Certainly: no list names it, and none is awaited that may.  What is here of it can be deleted. */
bool engine_is_nobodys(struct engine *e, const struct digest *d);
void engine_end_lingering(struct engine *e);
int engine_linger_wait(const struct engine *e);	/* ms until it is to be looked at, -1 never */

/*
 * engine_room.c: room for images.  make_room: promised to d (store_dismiss() when it is not needed
 * any more), or -ENOSPC with CODE_FULL and what takes it.  urgent: somebody waits for it, or it is
 * the new version of what is here.  may_ask_again: whether a reader's wish is worth another look.
 * room_came: whether somebody who was refused and has no reader may try again.  free_then: what the
 * disk had when it said ENOSPC itself, -1 if it did not.  changed: what may leave is something else
 * now.
 */
int engine_make_room(struct engine *e, const struct digest *d, int64_t size, bool urgent,
		     struct err *err);
bool engine_may_ask_again(struct engine *e, const struct digest *d, int64_t size,
			  int64_t free_then, long long failed_at);
bool engine_room_came(struct engine *e, const struct digest *d, int64_t size, int64_t free_then,
		      long long failed_at);
int64_t engine_disk_full(struct engine *e);	/* it said so itself: free_then, for later */
void engine_save_uses(struct engine *e);
void engine_room_changed(struct engine *e);
void engine_trim(struct engine *e);		/* back to cache_size, a few at a time */
int engine_trim_wait(const struct engine *e, long long now);

/* engine_evict.c: what leaves.  evict: an admin's word.  items: of evict_plan(); may be changed. */
struct evict_item;
int engine_evict(struct engine *e, const struct digest *d, struct err *err);
int engine_evict_items(struct engine *e, struct evict_item *items, size_t n, struct err *err);
void engine_finish_leaving(struct engine *e);	/* what a crash cut */

/*
 * engine_lost.c: rows of files that others removed, when they have been counted.  True: there are
 * more.
 */
bool engine_note_lost(struct engine *e);

/* engine_sources.c: where the bytes of an image, and of its tree, can come from. */
struct sources {
	struct lazy_source *items;
	size_t n;
	bool files_allowed;
};
int engine_sources(struct engine *e, const struct digest *d, struct sources *images,
		   struct sources *sidecars, struct err *err);
void engine_sources_release(struct sources *s);

/* engine_heal.c: bad granules of complete files. */
void engine_take_heal(struct engine *e, const struct digest *d, struct blockfile *f, int64_t g,
		      const char *why);
void engine_take_healed(struct engine *e, const struct digest *d, int64_t g);
void engine_take_unhealed(struct engine *e, const struct inbox_item *item);
void engine_run_heals(struct engine *e);
bool engine_heal_after_rebuild(struct engine *e, const struct pass *pass);	/* true: settled */
void engine_drop_heal(struct engine *e, const struct digest *d);	/* its object is gone */
void engine_free_heals(struct engine *e);
bool engine_is_healing(const struct engine *e);
bool engine_is_healing_one(const struct engine *e, const struct digest *d);

/*
 * engine_examine.c: whole files, for integrity = open, and for a command, which is answered.
 * outcome: a granule of one was healed, or could not be.
 */
void engine_examine(struct engine *e, const struct digest *d, bool by_command);
void engine_examined(struct engine *e, struct pass *pass);
void engine_examine_after_rebuild(struct engine *e, const struct pass *pass);
void engine_heal_outcome(struct engine *e, const struct digest *d, int64_t g,
			 const struct err *why);
bool engine_is_examining(const struct engine *e);
bool engine_examine_progress(struct engine *e, const struct digest *d, int64_t *done,
			     int64_t *size);
void engine_drop_examination(struct engine *e, const struct digest *d, const struct err *why);
void engine_note_audited(struct engine *e, const struct digest *d, struct blockfile *f);
void engine_forget_audited(struct engine *e, const struct digest *d);
void engine_free_examinations(struct engine *e);

/* engine_timers.c: what is due by time, and what rows that changed make due. */
void engine_timers_start(struct engine *e);
void engine_timers_run(struct engine *e);
int engine_timers_wait(const struct engine *e, long long now);	/* ms until the next, -1 never */
void engine_plan_prefetch(struct engine *e);
void engine_reap(struct engine *e);

/* engine_clock.c: while the clock is not good nothing is deleted for its age. */
void engine_clock_start(struct engine *e);
bool engine_clock_is_good(struct engine *e);	/* looks at it */

/* engine_events.c: handlers.  changed: of rows; readable: the descriptor is. */
void engine_events_start(struct engine *e);
void engine_events_reload(struct engine *e);
void engine_events_keep(struct engine *e);	/* now and then */
void engine_events_changed(struct engine *e);
void engine_events_run(struct engine *e, bool readable);
int engine_events_fd(const struct engine *e);
int engine_events_wait(const struct engine *e);	/* ms, -1 never */
bool engine_has_handlers(const struct engine *e);
void engine_events_end(struct engine *e);

/* engine_adopt.c: store and catalogue brought together at the start. */
void engine_adopt(struct engine *e);
/* If lists have come that were awaited, or the store or the rows could not be looked at before. */
void engine_adopt_again(struct engine *e);

/*
 * engine_adoption.c: what lies in the store and is to be hashed before its row may say so.  first:
 * true: it is among them, and who asks is, or will be, answered.  never: it is not any more; true:
 * somebody waits for it, and is to be answered.  wait: ms until step has something to do, -1 never.
 */
bool engine_is_to_adopt(const struct engine *e, const struct digest *d);
bool engine_adopt_first(struct engine *e, const struct digest *d);
bool engine_adopt_never(struct engine *e, const struct digest *d);
bool engine_adopt_progress(struct engine *e, const struct digest *d, int64_t *done, int64_t *size);
void engine_adopted(struct engine *e, struct pass *pass);
void engine_review_adoption(struct engine *e);	/* after rows have changed */
void engine_adopt_step(struct engine *e);
int engine_adopt_wait(const struct engine *e, long long now);
void engine_adopt_end(struct engine *e);

/* engine_status.c */
void engine_count_rows(struct engine *e);

/* controlserver.c.  is_watched: a command waits for all of it. */
void control_accept(struct engine *e);
void control_readable(struct engine *e, struct client *c);
void control_answer_watchers(struct engine *e, const struct digest *d, int rc,
			     const struct err *why);
void control_answer_healing(struct engine *e, const struct digest *d, int64_t n_healed, int rc,
			    const struct err *why);
void control_tell_progress(struct engine *e);
void control_settle(struct engine *e);
bool control_has_watchers(const struct engine *e);
bool control_is_watched(const struct engine *e, const struct digest *d);
void control_drop_closed(struct engine *e);
void control_drop_all(struct engine *e);

#endif
