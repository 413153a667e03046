/*
 * cat_handler.c - who is told of events.
 *
 * A handler is a row as long as it is configured (the daemon's) or used (those that commands were
 * given): from its first moment on each event that concerns it gets a delivery.  What is available
 * already is what a handler that comes later could not know; so it begins with that.
 *
 * `used` says when somebody last asked what there is to tell it, to the day.  Without it a daemon
 * that never comes back would have events wait for it for ever.
 *
 * Once a day it is looked at who is idle (note "handlers_looked": when).  A long time in which
 * nobody looked counts as LIMIT_HANDLER_GAP_DAYS: the clock may have leapt, or the host was off.
 * By a clock that has gone back everybody was used now at the latest.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "limits.h"
#include "stamp.h"

#define LOOKED_NOTE "handlers_looked"

static const char *const kind_words[3] = {
	[HANDLER_DAEMON] = "daemon",
	[HANDLER_CACHE] = "cache",
	[HANDLER_SUBSCRIBE] = "subscribe",
};

static int
find_handler(struct catalogue *c, enum handler_kind kind, const char *name, int64_t *id,
	     bool *found, struct err *err)
{
	return cat_int(c, SQL_HANDLER_ID, ARGS(arg_text(kind_words[kind]), arg_text(name)), id,
		       found, err);
}

static int
add_handler(struct catalogue *c, enum handler_kind kind, const char *name, int64_t now, int64_t *id,
	    struct err *err)
{
	int rc = cat_run(c, SQL_HANDLER_ADD,
			 ARGS(arg_text(kind_words[kind]), arg_text(name), arg_int(now)), err);

	*id = cat_last_id(c);
	return rc == 0 ? cat_run(c, SQL_DELIVERY_BACKLOG, ARGS(arg_int(*id)), err) : rc;
}

static bool
is_among(const char *name, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* Those of the daemon that are not among the names go, and their deliveries with them. */
static int
drop_others(struct catalogue *c, const char *const *names, size_t n, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n_ids = 0;
	int rc = handler_daemons(c, &ids, &n_ids, err);

	for (size_t i = 0; i < n_ids && rc == 0; i++) {
		CLEANUP_FREE char *name = NULL;
		enum handler_kind kind;

		rc = handler_get(c, ids[i], &kind, &name, err);
		if (rc == 0 && !is_among(name, names, n))
			rc = cat_run(c, SQL_HANDLER_DELETE, ARGS(arg_int(ids[i])), err);
	}
	return rc;
}

static int
add_missing(struct catalogue *c, const char *const *names, size_t n, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++) {
		bool found = false;
		int64_t id;

		rc = find_handler(c, HANDLER_DAEMON, names[i], &id, &found, err);
		if (rc == 0 && !found)
			rc = add_handler(c, HANDLER_DAEMON, names[i], stamp_now(), &id, err);
	}
	return rc;
}

int
catalogue_handlers_set(struct catalogue *c, const char *const *names, size_t n, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = drop_others(c, names, n, err);
	if (rc == 0)
		rc = add_missing(c, names, n, err);
	if (rc == 0)
		rc = cat_run(c, SQL_HANDLER_SEEN, ARGS(arg_int(stamp_now())), err);
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_handler_use(struct catalogue *c, enum handler_kind kind, const char *name, int64_t now,
		      int64_t *id, struct err *err)
{
	struct cat_scope scope;
	bool found = false;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = find_handler(c, kind, name, id, &found, err);
	if (rc == 0 && found)
		rc = cat_run(c, SQL_HANDLER_USED, ARGS(arg_int(*id), arg_int(now)), err);
	else if (rc == 0)
		rc = add_handler(c, kind, name, now, id, err);
	return cat_scope_end(c, &scope, rc, err);
}

int
handler_get(struct catalogue *c, int64_t id, enum handler_kind *kind, char **name, struct err *err)
{
	CAT_QUERY q = { 0 };
	CLEANUP_FREE char *word = NULL;
	int found, rc = cat_query_begin(&q, c, SQL_HANDLER_GET, ARGS(arg_int(id)), err);

	*name = NULL;
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc == 0)
		return err_set(err, ENOENT, "no handler with number %lld", (long long)id);
	if (rc < 0)
		return rc;
	word = next_text(&q);
	found = cat_word(kind_words, 3, word);
	*kind = found >= 0 ? (enum handler_kind)found : HANDLER_DAEMON;
	*name = next_text(&q);
	return 0;
}

int
catalogue_handlers_seen(struct catalogue *c, int64_t now, struct err *err)
{
	struct cat_scope scope;
	bool unseen = false;
	int64_t value;
	int rc = cat_int(c, SQL_HANDLER_IS_UNSEEN, ARGS(arg_int(now - 86400)), &value, &unseen,
			 err);

	if (rc != 0 || !unseen)
		return rc;
	rc = cat_scope_begin(c, &scope, err);
	if (rc != 0)
		return rc;
	rc = cat_run(c, SQL_HANDLER_SEEN, ARGS(arg_int(now)), err);
	return cat_scope_end(c, &scope, rc, err);
}

int
handler_daemons(struct catalogue *c, int64_t **ids, size_t *n, struct err *err)
{
	return cat_ids(c, SQL_HANDLER_EACH, ARGS(arg_text(kind_words[HANDLER_DAEMON])), ids, n,
		       err);
}

int
catalogue_handlers_count(struct catalogue *c, size_t *n, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;

	*n = 0;
	return handler_daemons(c, &ids, n, err);
}

/* ---- who is idle ----------------------------------------------------------------------------- */

/* 0: nobody has looked so far. */
static int
last_look(struct catalogue *c, int64_t *looked, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	int rc = catalogue_note_read(c, LOOKED_NOTE, &text, err);

	*looked = text != NULL ? strtoll(text, NULL, 10) : 0;
	if (*looked < 0)
		*looked = 0;
	return rc;
}

static bool
is_due(int64_t looked, int64_t now)
{
	return looked > now || now - looked >= 86400;
}

int
handlers_are_due(struct catalogue *c, int64_t now, bool *due, struct err *err)
{
	int64_t looked;
	int rc = last_look(c, &looked, err);

	*due = rc == 0 && is_due(looked, now);
	return rc;
}

static int
note_look(struct catalogue *c, int64_t now, struct err *err)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, now);
	return catalogue_note_set(c, LOOKED_NOTE, text, err);
}

int
handlers_look(struct catalogue *c, int64_t now, struct err *err)
{
	int64_t looked, gap, idle_since = now - LIMIT_HANDLER_IDLE_DAYS * 86400LL;
	int rc = last_look(c, &looked, err);

	if (rc != 0 || !is_due(looked, now))
		return rc;
	gap = looked > 0 ? now - looked - LIMIT_HANDLER_GAP_DAYS * 86400LL : 0;
	rc = cat_run(c, SQL_HANDLER_SHIFT, ARGS(arg_int(gap > 0 ? gap : 0), arg_int(now)), err);
	if (rc == 0)
		rc = cat_run(c, SQL_HANDLER_FORGET, ARGS(arg_int(idle_since)), err);
	return rc == 0 ? note_look(c, now, err) : rc;
}
