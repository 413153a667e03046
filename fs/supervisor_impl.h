/*
 * supervisor_impl.h - the supervisor's insides: supervisor.c (the life of the mount), succession.c
 * (its workers, one after the other), succession_time.c (how long they may take) and
 * succession_show.c (what is told of them).  Nothing else includes it.
 */
#ifndef VMI_SUPERVISOR_IMPL_H
#define VMI_SUPERVISOR_IMPL_H

#include <stdbool.h>
#include "backing.h"
#include "core/restarts.h"
#include "core/workerstate.h"
#include "pulse.h"
#include "stuck.h"
#include "supervisor.h"
#include "workerproc.h"

enum { OUTAGE_MS = 20000 };		/* what readers wait for a worker */

enum supervisor_state { STARTING, PROBING, SERVING, STOPPING };

struct supervisor {
	const struct supervisor_setup *setup;
	enum supervisor_state state;
	pid_t probe;			/* 0: none */
	int signals;
	bool served;			/* was SERVING once */
	long long deadline;		/* PROBING, STOPPING: monotonic ms */
	bool killed;			/* STOPPING: the worker was, and does not end */
	bool alone;			/* STOPPING: without it */
	struct err *err;		/* what ended us */
	int rc;

	/* succession.c */
	struct workerproc now, next;	/* next: tried in an exchange, while the other one works */
	struct backings backings;
	struct restarts restarts;
	bool keeper_gone;		/* no worker can be started any more */
	int handover;			/* what the one before has left for the next; -1: nothing */
	long long start_at;		/* monotonic ms: a worker is to be started; 0: no */
	long long ready_at;		/* the one now works since */
	struct pulsewatch pulse;
	struct stuck stuck;
	long long outage_at;		/* readers have waited long enough; 0: they need not wait */
	long long show_at;		/* run_dir/worker could not be written: again; 0: it was */
	bool exchange_due;		/* as soon as a worker serves */
	/* The next one that serves has read an older configuration. */
	bool reload_due;
	struct worker_state shown;
};

/* supervisor.c: ends everything by a fault (the first one is the one that is told); in order. */
void supervisor_fail(struct supervisor *s, const struct err *why);
void supervisor_stop(struct supervisor *s);
void supervisor_ready(struct supervisor *s);	/* the first worker answers */

/* succession.c */
void succession_init(struct supervisor *s);
void succession_release(struct supervisor *s);
void succession_begin(struct supervisor *s);
void succession_exchange(struct supervisor *s);
void succession_reload(struct supervisor *s);	/* the configuration has changed */
void succession_end(struct supervisor *s);	/* the mount ends: workers are told */
void succession_take_notes(struct supervisor *s, struct workerproc *p);
bool succession_reaped(struct supervisor *s, pid_t pid, int status);	/* false: no worker */
int succession_watched(const struct supervisor *s);	/* the connection without a worker, or -1 */
void succession_cut(struct supervisor *s);	/* that one is over */
bool succession_is_over(const struct supervisor *s);	/* no worker is left */
void succession_run(struct supervisor *s);	/* what is due by time */

/* succession_time.c */
/* The worker is to show signs of life from now on. */
void succession_watch(struct supervisor *s);
void succession_kill_late(struct supervisor *s, long long now);
/* What is bounded gets ms more, because they have passed without anybody; the time is now. */
void succession_postpone(struct supervisor *s, long long now, long long ms);
long long succession_due(const struct supervisor *s);	/* monotonic ms of the next run; 0: never */

/* succession_show.c */
void succession_show(struct supervisor *s);	/* writes run_dir/worker */
void succession_show_again(struct supervisor *s);	/* if that is due */
void succession_keep_text(char to[WORKERSTATE_TEXT], const char *from);	/* cut to its place */
void succession_describe(const struct supervisor *s, struct note *note);
void succession_tell_history(const struct supervisor *s);

#endif
