/*
 * What the engine does because time has passed: expiry by date, the periodic look at rows and trust
 * directory, purging, refreshing lists.  Refreshing and rechecking run in processes of their own
 * (vmimagectl, started by the starter); the engine sees the rows they change.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/wait.h>

#include "io.h"
#include "log.h"
#include "outbox.h"
#include "plan.h"
#include "purge.h"
#include "stamp.h"

enum { RECOUNT_MS = 600000 };

void
engine_timers_start(struct engine *e)
{
	const struct conf *conf = engine_conf(e);
	int64_t now = stamp_now();

	e->next_check = io_monotonic_ms();
	e->next_update = 0;
	if (e->config.daemon && conf->update_interval > 0) {
		e->next_update = e->status.last_update + conf->update_interval;
		/* Later than an interval from now: the clock was ahead when it was noted. */
		if (e->next_update < now || e->next_update > now + conf->update_interval)
			e->next_update = now;
	}
	pthread_mutex_lock(&e->lock);
	e->status.next_update = e->next_update;
	pthread_mutex_unlock(&e->lock);
}

static int
at_most(int wait, int64_t ms)
{
	if (ms < 0)
		ms = 0;
	if (ms > INT64_C(3600000))
		ms = INT64_C(3600000);
	return wait < 0 || ms < wait ? (int)ms : wait;
}

int
engine_timers_wait(const struct engine *e, long long now)
{
	int64_t clock = stamp_now();
	int wait = -1;

	if (!e->config.daemon)
		return -1;
	wait = at_most(wait, e->next_check - now);
	if (e->next_update > 0)
		wait = at_most(wait, (e->next_update - clock) * 1000);
	if (e->next_expiry != INT64_MAX)
		wait = at_most(wait, (e->next_expiry - clock) * 1000);
	return wait;
}

static void
expire(struct engine *e)
{
	struct err err = { 0 };
	int64_t now = stamp_now(), later = now + engine_conf(e)->expire_interval;
	int changed = 0, rc;

	rc = catalogue_begin(e->catalogue, &err);
	if (rc == 0)
		rc = catalogue_expire_by_date(e->catalogue, now, &changed, &err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, &err);
	if (rc != 0) {
		catalogue_rollback(e->catalogue);
		log_err(LOG_LVL_ERROR, "expiry", &err);
		e->next_expiry = later;
		return;
	}
	if (changed > 0)
		log_info("%d images have expired", changed);
	engine_look(e);		/* what is being fetched may be among them */
	/* All that was due has left: so it could not be asked, and is not to be in every turn. */
	if (e->next_expiry <= now) {
		log_error("expiry: the catalogue does not say what is due next");
		e->next_expiry = later;
	}
}

static void
purge(struct engine *e)
{
	const struct engine_ops *ops = &e->config.ops;
	struct err err = { 0 };
	struct purged purged = { 0 };

	if (!engine_clock_is_good(e))
		return;
	if (catalogue_event_prune(e->catalogue, &err) != 0 ||
	    catalogue_expired_prune(e->catalogue, &err) != 0)
		log_err(LOG_LVL_ERROR, "removing old events", &err);
	if (engine_conf(e)->expire_keep == KEEP_ALWAYS)
		return;
	err_clear(&err);
	if (purge_by_policy(e->catalogue, e->config.store, engine_conf(e), stamp_now(),
			    ops->is_open, ops->arg, &purged, &err) != 0)
		log_err(LOG_LVL_ERROR, "purging expired images", &err);
	if (purged.files > 0)
		log_info("%d expired images purged (expire_keep)", purged.files);
	if (purged.files + purged.versions > 0)
		engine_rows_changed(e);
}

static const char *
name_of(enum starter_task task)
{
	return task == STARTER_UPDATE ? "update" : "recheck";
}

/* False: the last one still runs, or there is none to be had now. */
static bool
start(struct engine *e, enum starter_task task, struct updater *u)
{
	struct err err = { 0 };

	if (u->id != 0)
		return false;
	u->since = io_monotonic_ms();
	if (starter_run(e->config.starter, STARTER_UPDATER, (int)task, NULL, 0, &u->id,
			&err) != 0) {
		u->id = 0;
		log_err(LOG_LVL_ERROR, name_of(task), &err);
	}
	return u->id != 0;
}

/* One that hangs, in a trust directory whose server does not answer, is not to be the last one. */
static void
end_hung(struct engine *e, enum starter_task task, struct updater *u)
{
	long long now = io_monotonic_ms();

	if (u->id == 0 || now - u->since < LIMIT_UPDATER_SECONDS * 1000LL)
		return;
	log_error("%s: it has not ended within %d s and is killed", name_of(task),
		  LIMIT_UPDATER_SECONDS);
	starter_kill(e->config.starter, u->id);
	u->since = now;
}

/* Files that others made or removed in the store are seen now and then. */
static void
recount(struct engine *e)
{
	long long now = io_monotonic_ms();
	struct err err = { 0 };

	if (now - e->room.counted_at < RECOUNT_MS)
		return;
	e->room.counted_at = now;
	if (store_recount(e->config.store, &err) != 0)
		log_err(LOG_LVL_ERROR, "cache directory", &err);
	else if (engine_note_lost(e))
		e->room.counted_at = now - RECOUNT_MS;	/* the next check goes on */
}

static void
check(struct engine *e)
{
	engine_events_keep(e);
	/* The store could not be looked at, or the rows. */
	if (e->lists_awaited < 0)
		engine_look(e);
	end_hung(e, STARTER_UPDATE, &e->updater);
	end_hung(e, STARTER_RECHECK, &e->rechecker);
	start(e, STARTER_RECHECK, &e->rechecker);
	purge(e);
	engine_rest_lazyjobs(e);
	engine_save_uses(e);
	recount(e);
	/* The disk fills and empties without us, too. */
	engine_count_rows(e);
}

/* One that did not begin is no update: it is tried again as often as rows are looked at. */
static void
update(struct engine *e, int64_t clock)
{
	const struct conf *conf = engine_conf(e);
	bool began = start(e, STARTER_UPDATE, &e->updater);
	int64_t wait = conf->update_interval;

	if (!began && conf->expire_interval < wait)
		wait = conf->expire_interval;
	e->next_update = clock + wait;
	pthread_mutex_lock(&e->lock);
	if (began)
		e->status.last_update = clock;
	e->status.next_update = e->next_update;
	pthread_mutex_unlock(&e->lock);
}

void
engine_timers_run(struct engine *e)
{
	int64_t clock = stamp_now();
	long long now = io_monotonic_ms();

	if (!e->config.daemon)
		return;
	if (clock >= e->next_expiry)
		expire(e);
	if (e->next_update > clock + engine_conf(e)->update_interval)
		e->next_update = clock;		/* it was set back */
	if (e->next_update > 0 && clock >= e->next_update)
		update(e, clock);
	if (now >= e->next_check) {
		e->next_check = now + engine_conf(e)->expire_interval * 1000;
		check(e);
	}
}

void
engine_reap(struct engine *e)
{
	uint32_t id;
	int status, rc;

	if (e->starter_gone)
		return;
	while ((rc = starter_reap(e->config.starter, &id, &status)) == 1) {
		bool all = id == STARTER_ALL;

		if (!all && id != e->updater.id && id != e->rechecker.id)
			continue;
		if (!all && !WIFEXITED(status))
			log_error("vmimagectl, started for a refresh, was ended by signal %d",
				  WTERMSIG(status));
		if (all || id == e->updater.id)
			e->updater.id = 0;
		if (all || id == e->rechecker.id)
			e->rechecker.id = 0;
	}
	if (rc == -EPIPE) {
		log_error("the starter has ended: nothing can be fetched, updated or rechecked");
		e->starter_gone = true;
	}
}

/* It goes on being filled, whoever had asked for it, if fill says so; and is known to progress. */
static bool
is_partial(const struct object_row *row)
{
	return row->wanted && row->has_tree && plan_blocks(row);
}

static int
prefetch_one(void *arg, const struct object_row *row)
{
	struct engine *e = arg;

	/* Its first reader is to find a fetcher that has started. */
	if (row->wanted && plan_blocks(row))
		lanes_expect(e->lanes);
	if (row->tries >= LIMIT_TRIES)
		return 0;
	if (!plan_prefetch(engine_conf(e), row, row->pending, engine_has_handlers(e)) &&
	    !is_partial(row))
		return 0;
	/* Whether it lies here cannot be seen now. */
	if (e->lists_awaited < 0 &&
	    store_object_look(e->config.store, &row->digest, row->size) < 0)
		return 0;
	if (!engine_is_fetching(e, &row->digest) && !engine_is_to_adopt(e, &row->digest))
		engine_prefetch(e, row);
	return 0;
}

void
engine_plan_prefetch(struct engine *e)
{
	struct err err = { 0 };

	if (!e->config.daemon)
		return;
	if (catalogue_object_each(e->catalogue, prefetch_one, e, &err) != 0)
		log_err(LOG_LVL_ERROR, "prefetch", &err);
}
