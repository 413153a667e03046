/*
 * engine_impl.h - the engine's insides, shared by engine.c, engine_timers.c, engine_status.c and
 * controlserver.c.  Nothing else includes it.
 *
 * Locks: "lock" protects inbox, job list membership (not the jobs' insides, which belong to the
 * engine's thread) and the status; it is never held across a call into another module except
 * job_bytes().
 */
#ifndef VMI_ENGINE_IMPL_H
#define VMI_ENGINE_IMPL_H

#include <poll.h>
#include <pthread.h>
#include "engine.h"
#include "job.h"

enum inbox_kind { INBOX_WANT, INBOX_RETRY, INBOX_DAMAGED, INBOX_UNREADABLE };

struct inbox_item {
	struct inbox_item *next;
	enum inbox_kind kind;
	struct digest digest;
	char why[256];
};

struct client {				/* of the control socket */
	struct client *next;
	int fd;
	struct buf in;
	bool watching;			/* "fetch": waits for the job of digest */
	struct digest digest;
	long long told_at;		/* monotonic ms of the last progress line */
	struct buf answer;		/* the last line, while it has to wait */
	uint64_t ticket;		/* until this is shown, */
	long long answer_by;		/* or until this moment (monotonic ms); before: a request is due */
	bool closing;
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

	struct job_counters counters;	/* go into the status when rows are counted */
	int wake_fd;			/* eventfd: the inbox */
	int notify_fd;			/* eventfd: intakes changed state */
	int64_t data_version;
	uint64_t ticket;		/* of the last ops.changed() */
	struct client *clients;

	long long next_check;		/* monotonic ms: rows, trust directory, purging */
	int64_t next_update;		/* seconds UTC; 0: never */
	int64_t next_expiry;		/* seconds UTC */
	uint32_t updater, rechecker;	/* starter ids; 0: not running */
	struct adoption *adoption;	/* objects still to be hashed; NULL: none */
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
uint64_t engine_last_shown(struct engine *e);
void engine_look(struct engine *e);	/* at rows that others may have changed: what is shown, and what is to be fetched */
void engine_add_job(struct engine *e, struct job *job);
void engine_answer(struct engine *e, const struct digest *d, int rc, int fd, const struct err *why);
void engine_tell_activity(struct engine *e, const struct job *job);
void engine_tell_lost(struct engine *e, const struct digest *d);

/* engine_wants.c */
void engine_request(struct engine *e, const struct digest *d, bool retry);
void engine_handle_damage(struct engine *e, const struct digest *d, const char *why);
void engine_heal(struct engine *e, const struct digest *d, const char *why);
void engine_prefetch(struct engine *e, const struct object_row *row);

/* engine_timers.c: what is due by time, and what rows that changed make due. */
void engine_timers_start(struct engine *e);
void engine_timers_run(struct engine *e);
int engine_timers_wait(const struct engine *e, long long now);	/* ms until the next, -1 never */
void engine_plan_prefetch(struct engine *e);
void engine_reap(struct engine *e);

/* engine_adopt.c: store and catalogue brought together at the start. */
void engine_adopt(struct engine *e);
void engine_adopt_step(struct engine *e);	/* hashes for a while what is to be adopted */
void engine_adopt_now(struct engine *e, const struct digest *d);	/* if it is among them */
bool engine_is_to_adopt(const struct engine *e, const struct digest *d);
void engine_adopt_end(struct engine *e);
void engine_drop_partials(struct engine *e);	/* of images that nobody wants any more */

/* engine_status.c */
void engine_count_rows(struct engine *e);

/* controlserver.c */
void control_accept(struct engine *e);
void control_readable(struct engine *e, struct client *c);
void control_answer_watchers(struct engine *e, const struct digest *d, int rc, const struct err *why);
void control_tell_progress(struct engine *e);
void control_settle(struct engine *e);
bool control_has_watchers(const struct engine *e);
void control_drop_closed(struct engine *e);
void control_drop_all(struct engine *e);

#endif
