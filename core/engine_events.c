/*
 * Event handlers of a daemon: the outbox is looked at when rows have changed and when a try is
 * due, the runner when it has something to say.  The engine never waits for a handler.
 *
 * A handler is told of a change when everybody can see it in the mount, or SHOW_MS later.
 */
#include "config.h"
#include "engine_impl.h"

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "deliver.h"
#include "handlerdir.h"
#include "handlers.h"
#include "io.h"
#include "log.h"
#include "runner.h"
#include "stamp.h"

enum {
	SHOW_MS = 2000,
	COUNT_MS = 1000,		/* counting takes its time when thousands wait */
};

struct engine_events {
	struct runner *runner;		/* NULL: there are no handlers in this mount */
	struct handlerdir *dir;
	struct deliver *deliver;
	bool any;			/* handlers are configured, */
	size_t n;			/* so many */
	bool changed;			/* the outbox is to be looked at, */
	uint64_t ticket;		/* when this is shown, */
	long long look_by;		/* or at this moment (monotonic ms) */
	bool uncounted;			/* what waits is to be counted for the status, */
	long long count_at;		/* not before this moment */
	char *cache, *partial, *expired, *rdbms;
};

/* ---- which handlers there are ---------------------------------------------------------------- */

static void
say(void *arg, const char *text)
{
	(void)arg;
	log_warning("%s", text);
}

/* What cannot be listed stays as it was: nothing that waits for a handler is dropped for that. */
static void
set_handlers(struct engine *e)
{
	struct engine_events *ev = e->events;
	struct handlers list;
	struct err err = { 0 };

	if (handlers_list(engine_conf(e), e->config.event_uid, &list, say, NULL, &err) != 0) {
		log_err(LOG_LVL_ERROR, "event handlers stay as they were", &err);
		return;
	}
	ev->any = list.n > 0;
	ev->n = list.n;
	if (catalogue_handlers_set(e->catalogue, (const char *const *)list.names, list.n,
				   &err) != 0 ||
	    catalogue_handlers_count(e->catalogue, &ev->n, &err) != 0)
		log_err(LOG_LVL_ERROR, "event handlers", &err);
	if (ev->any && ev->runner == NULL)
		log_error("no process for event handlers was started with this mount: events wait "
			  "until the next one");
	handlers_release(&list);
}

bool
engine_has_handlers(const struct engine *e)
{
	return e->events != NULL && e->events->any;
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static int
open_dir(struct engine *e, struct err *err)
{
	struct engine_events *ev = e->events;
	const struct conf *conf = engine_conf(e);
	struct handlerdir_config config = {
		.mountpoint = conf->mountpoint, .objects = conf->cache_dir,
	};

	ev->cache = xasprintf("%s/cache", conf->handler_dir);
	ev->partial = xasprintf("%s/partial", conf->handler_dir);
	ev->expired = xasprintf("%s/expired", conf->handler_dir);
	ev->rdbms = xasprintf("sqlite:///%s/catalogue.db", conf->state_dir);
	config.cache = ev->cache;
	config.partial = ev->partial;
	config.expired = ev->expired;
	return handlerdir_open(&ev->dir, &config, err);
}

static int
open_deliver(struct engine *e, struct err *err)
{
	struct engine_events *ev = e->events;
	struct deliver_config config = {
		.catalogue = e->catalogue, .runner = ev->runner, .dir = ev->dir,
		.setting = { .cache = ev->cache, .download = ev->partial, .expire = ev->expired,
			     .rdbms = ev->rdbms },
	};

	return deliver_new(&ev->deliver, &config, err);
}

void
engine_events_start(struct engine *e)
{
	struct engine_events *ev;
	struct err err = { 0 };

	if (!e->config.daemon)
		return;
	ev = e->events = xcalloc(1, sizeof(*ev));
	ev->runner = e->config.runner;
	set_handlers(e);
	if (ev->runner == NULL)
		return;
	if (open_dir(e, &err) != 0 || open_deliver(e, &err) != 0)
		log_err(LOG_LVL_ERROR, "event handlers cannot be run: events wait", &err);
}

void
engine_events_reload(struct engine *e)
{
	struct err err = { 0 };

	if (e->events == NULL)
		return;
	if (e->events->runner != NULL && runner_reload(e->events->runner, &err) != 0)
		log_err(LOG_LVL_ERROR, "reload", &err);
	set_handlers(e);
	engine_events_changed(e);
}

/*
 * Nothing may have happened for a long time.  Commands forget handlers that are idle, and so those
 * of a daemon that was stopped for a month.
 */
void
engine_events_keep(struct engine *e)
{
	struct err err = { 0 };
	size_t n;
	int rc;

	if (!engine_has_handlers(e))
		return;
	rc = catalogue_handlers_seen(e->catalogue, stamp_now(), &err);
	if (rc == 0)
		rc = catalogue_handlers_count(e->catalogue, &n, &err);
	if (rc != 0) {
		log_err(LOG_LVL_ERROR, "event handlers", &err);
	} else if (n < e->events->n) {
		log_warning("event handlers had been forgotten, and are told again from now on");
		set_handlers(e);
		engine_events_changed(e);
	}
}

void
engine_events_end(struct engine *e)
{
	struct engine_events *ev = e->events;

	if (ev == NULL)
		return;
	deliver_free(ev->deliver);
	handlerdir_close(ev->dir);
	free(ev->cache);
	free(ev->partial);
	free(ev->expired);
	free(ev->rdbms);
	free(ev);
	e->events = NULL;
}

/* ---- in the loop ----------------------------------------------------------------------------- */

void
engine_events_changed(struct engine *e)
{
	struct engine_events *ev = e->events;

	if (ev == NULL || ev->deliver == NULL)
		return;
	if (!ev->changed)
		ev->look_by = io_monotonic_ms() + SHOW_MS;
	ev->changed = true;
	ev->ticket = e->ticket;
}

int
engine_events_fd(const struct engine *e)
{
	const struct engine_events *ev = e->events;

	return ev != NULL && ev->deliver != NULL ? deliver_fd(ev->deliver) : -1;
}

/* The wait in ms, -1 for ever, or until the moment, whichever is sooner. */
static int
sooner(int wait, long long moment)
{
	long long left = moment - io_monotonic_ms();

	if (left < 0)
		left = 0;
	return wait < 0 || left < wait ? (int)left : wait;
}

int
engine_events_wait(const struct engine *e)
{
	const struct engine_events *ev = e->events;
	int wait;

	if (ev == NULL || ev->deliver == NULL)
		return -1;
	wait = deliver_wait(ev->deliver, stamp_now());
	if (ev->changed)
		wait = sooner(wait, ev->look_by);
	return ev->uncounted ? sooner(wait, ev->count_at) : wait;
}

static bool
is_shown(struct engine *e)
{
	const struct engine_events *ev = e->events;

	return ev->ticket <= engine_last_shown(e) || io_monotonic_ms() >= ev->look_by;
}

static void
count_events(struct engine *e)
{
	struct engine_events *ev = e->events;
	int64_t waiting, failed;

	if (!ev->uncounted || io_monotonic_ms() < ev->count_at)
		return;
	ev->uncounted = false;
	ev->count_at = io_monotonic_ms() + COUNT_MS;
	if (catalogue_delivery_count(e->catalogue, &waiting, &failed, NULL) != 0)
		return;
	pthread_mutex_lock(&e->lock);
	e->status.events_waiting = waiting;
	e->status.events_failed = failed;
	pthread_mutex_unlock(&e->lock);
}

void
engine_events_run(struct engine *e, bool readable)
{
	struct engine_events *ev = e->events;
	struct err err = { 0 };
	int64_t now = stamp_now();

	if (ev == NULL || ev->deliver == NULL)
		return;
	if (ev->changed && is_shown(e)) {
		ev->changed = false;
	} else if (!readable && deliver_wait(ev->deliver, now) != 0) {
		count_events(e);
		return;
	}
	if (deliver_run(ev->deliver, now, &err) != 0)
		log_err(LOG_LVL_ERROR, "events", &err);
	ev->uncounted = true;
	count_events(e);
}
