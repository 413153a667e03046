/*
 * cat_delivery.c - one row for each event and handler: whether it was told.
 *
 *   waiting     to be told at next_try or later         failed: waiting again, or FAILED
 *   delivered   it took the event
 *   failed      it did not, LIMIT_EVENT_TRIES times (a Process event: once); replay makes it wait
 *
 * A handler learns of one image in the order in which things happened to it: a waiting delivery
 * holds back the later ones of the same image and handler, and nothing else.  Events of a run have
 * no image and so neither wait nor hold back.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "limits.h"
#include "stamp.h"

void
delivery_release(struct delivery *d)
{
	free(d->name);
	event_row_release(&d->event);
	memset(d, 0, sizeof(*d));
}

int
delivery_add(struct catalogue *c, int64_t event, struct err *err)
{
	return cat_run(c, SQL_DELIVERY_ADD, ARGS(arg_int(event)), err);
}

/* ---- what is next ---------------------------------------------------------------------------- */

/* The event that some handler is to be told first. */
struct choice {
	int64_t event, handler;		/* 0: none so far */
	int tries;
	int64_t next_due;		/* of what is not due yet */
};

/* Later than any try can be: the clock was wrong when the last one was noted. */
static bool
is_due(int64_t next_try, int64_t now)
{
	return next_try <= now || next_try - now > LIMIT_EVENT_BACKOFF_MAX;
}

/* The oldest event that is due for one handler competes with the choice so far. */
static int
consider(struct catalogue *c, int64_t handler, int64_t now, struct choice *best, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_DELIVERY_WAITING, ARGS(arg_int(handler)), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		int64_t event = next_int(&q), next_try = next_int(&q);

		rc = 0;
		if (!is_due(next_try, now)) {
			if (next_try < best->next_due)
				best->next_due = next_try;
			continue;
		}
		if (best->event == 0 || event < best->event) {
			best->event = event;
			best->handler = handler;
			best->tries = (int)next_int(&q);
		}
		break;
	}
	return rc;
}

static bool
is_busy(int64_t handler, const int64_t *busy, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (busy[i] == handler)
			return true;
	return false;
}

static int
choose(struct catalogue *c, int64_t handler, const int64_t *busy, size_t n, int64_t now,
       struct choice *best, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n_ids = 0;
	int rc;

	if (handler != 0)
		return consider(c, handler, now, best, err);
	rc = catalogue_handlers_seen(c, now, err);
	if (rc == 0)
		rc = handler_daemons(c, &ids, &n_ids, err);
	for (size_t i = 0; i < n_ids && rc == 0; i++)
		if (!is_busy(ids[i], busy, n))
			rc = consider(c, ids[i], now, best, err);
	return rc;
}

int
catalogue_delivery_next(struct catalogue *c, int64_t handler, const int64_t *busy, size_t n,
			int64_t now, struct delivery *out, int64_t *next_due, struct err *err)
{
	struct choice best = { .next_due = INT64_MAX };
	int rc = choose(c, handler, busy, n, now, &best, err);

	memset(out, 0, sizeof(*out));
	*next_due = best.next_due;
	if (rc != 0 || best.event == 0)
		return rc;
	out->handler = best.handler;
	out->tries = best.tries;
	rc = handler_get(c, best.handler, &out->kind, &out->name, err);
	if (rc == 0)
		rc = event_by_id(c, best.event, &out->event, err);
	if (rc == 0)
		return 1;
	delivery_release(out);
	return rc;
}

/* ---- what came of it ------------------------------------------------------------------------- */

int
catalogue_delivery_done(struct catalogue *c, int64_t event, int64_t handler, const char *why,
			int64_t next_try, struct err *err)
{
	if (why == NULL)
		return cat_change(c, SQL_DELIVERY_TAKEN, ARGS(arg_int(event), arg_int(handler)),
				  err);
	return cat_change(c, SQL_DELIVERY_FAILED,
			  ARGS(arg_int(event), arg_int(handler), arg_text(why), arg_int(next_try),
			       arg_int(LIMIT_EVENT_TRIES)),
			  err);
}

int
catalogue_delivery_count(struct catalogue *c, int64_t *waiting, int64_t *failed, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_DELIVERY_COUNT, ARGS(), err);

	*waiting = *failed = 0;
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc <= 0)
		return rc;
	*waiting = next_int(&q);
	*failed = next_int(&q);
	return 0;
}

int
catalogue_event_replay(struct catalogue *c, int64_t id, struct err *err)
{
	struct cat_scope scope;
	struct event_row row;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = event_by_id(c, id, &row, err);
	if (rc == 0)
		rc = delivery_add(c, id, err);
	if (rc == 0 && cat_n_changed(c) == 0)
		rc = err_set(err, ENOENT, "no event handler takes %s events: set event_command or "
			     "event_dir", row.type);
	event_row_release(&row);
	return cat_scope_end(c, &scope, rc, err);
}

/* ---- what is over ---------------------------------------------------------------------------- */

static int
prune(struct catalogue *c, int64_t now, struct err *err)
{
	int rc = handlers_look(c, now, err);

	return rc == 0 ? cat_run(c, SQL_EVENT_PRUNE, ARGS(arg_int(LIMIT_EVENTS_KEPT)), err) : rc;
}

int
catalogue_event_prune(struct catalogue *c, struct err *err)
{
	int64_t now = stamp_now(), value;
	bool over = false, due = false;
	struct cat_scope scope;
	int rc = cat_int(c, SQL_EVENT_IS_OVER, ARGS(arg_int(LIMIT_EVENTS_KEPT)), &value, &over,
			 err);

	if (rc == 0)
		rc = handlers_are_due(c, now, &due, err);
	/* Mostly there is nothing to do, and then nobody need wait for a lock. */
	if (rc != 0 || (!over && !due))
		return rc;
	rc = cat_scope_begin(c, &scope, err);
	if (rc != 0)
		return rc;
	rc = prune(c, now, err);
	return cat_scope_end(c, &scope, rc, err);
}
