/*
 * handlerdir_event.c - what the handler that is told of one event must find.
 *
 * A hold is a name that a handler is just being told of.  It shows the version of the event,
 * whatever the rows say, and the tables leave it alone:
 *
 *   AvailablePrefix   partial/<id>: made for the event
 *   AvailablePostfix  cache/<id>: mostly what the rows say; an event that had to wait may be of a
 *                     version that was replaced meanwhile: then cache/<id> shows that for a while
 *   ExpirePrefix      cache/<id>: whatever stands there; if nothing does any more, the old version
 *                     or an empty file
 *   ExpirePostfix     expired/<id>.<time>: what the rows say
 *
 * Several handlers can hold one name if they are told of the same version.
 */
#include "config.h"
#include "handlerdir_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "json.h"

/* ---- events ---------------------------------------------------------------------------------- */

/* What a handler that is told of an event looks for. */
struct wanted {
	enum which where;
	bool expires;
	char *name;
	struct digest digest;
	int64_t size;
};

static const struct {
	const char *type;
	enum which where;
	bool expires;
} event_types[] = {
	{ "AvailablePrefix", IN_PARTIAL, false }, { "AvailablePostfix", IN_CACHE, false },
	{ "ExpirePrefix", IN_CACHE, true }, { "ExpirePostfix", IN_EXPIRED, true },
};

static bool
read_record(const struct json *record, struct wanted *w)
{
	const char *name = json_as_string(json_get(record, "filename"));
	const char *sha512 = json_as_string(json_get(record, "sha512"));

	if (name == NULL || name[0] == '.' || name[0] == '\0' || strchr(name, '/') != NULL ||
	    handlerdir_is_reserved(name) || sha512 == NULL || !digest_parse(sha512, &w->digest) ||
	    !json_as_integer(json_get(record, "size"), &w->size))
		return false;
	w->name = xstrdup(name);
	return true;
}

/* 1; 0: no file belongs to the event; negative: its record is none that we wrote. */
static int
wanted_of(const struct event_row *event, struct wanted *w)
{
	const size_t n = sizeof(event_types) / sizeof(event_types[0]);
	struct json *record = NULL;
	size_t i = 0;
	bool is;

	while (i < n && strcmp(event->type, event_types[i].type) != 0)
		i++;
	memset(w, 0, sizeof(*w));
	if (i == n)
		return 0;
	if (event->json == NULL ||
	    json_parse_written(event->json, strlen(event->json), &record, NULL) != 0)
		return -EINVAL;
	w->where = event_types[i].where;
	w->expires = event_types[i].expires;
	is = read_record(record, w);
	json_free(record);
	return is ? 1 : -EINVAL;
}

/* ---- holds ----------------------------------------------------------------------------------- */

static struct hold *
find_hold(const struct handlerdir *h, const struct wanted *w)
{
	for (size_t i = 0; i < h->n_holds; i++) {
		struct hold *held = &h->holds[i];

		if (held->where == w->where && held->expires == w->expires &&
		    strcmp(held->name, w->name) == 0 && digest_equal(&held->digest, &w->digest))
			return held;
	}
	return NULL;
}

static void
hold(struct handlerdir *h, const struct wanted *w, bool displaced)
{
	struct hold *held = find_hold(h, w);

	if (held == NULL) {
		h->holds = xrealloc(h->holds, (h->n_holds + 1) * sizeof(*h->holds));
		held = &h->holds[h->n_holds++];
		*held = (struct hold){ .where = w->where, .expires = w->expires,
				       .name = xstrdup(w->name), .digest = w->digest };
	}
	held->displaced |= displaced;
	held->users++;
}

bool
handlerdir_defer(struct handlerdir *h, enum which where, const char *name)
{
	bool held = false;

	for (size_t i = 0; i < h->n_holds; i++) {
		if (h->holds[i].where != where || strcmp(h->holds[i].name, name) != 0)
			continue;
		h->holds[i].displaced = true;
		held = true;
	}
	return held;
}

bool
handlerdir_is_held(const struct handlerdir *h, enum which where, const char *name)
{
	for (size_t i = 0; i < h->n_holds; i++)
		if (h->holds[i].where == where && strcmp(h->holds[i].name, name) == 0)
			return true;
	return false;
}

/* Whether a handler that is being told of another version looks at the same name. */
static bool
is_in_use(const struct handlerdir *h, const struct wanted *w)
{
	for (size_t i = 0; i < h->n_holds; i++) {
		const struct hold *held = &h->holds[i];

		if (held->where == w->where && !held->expires &&
		    strcmp(held->name, w->name) == 0 && !digest_equal(&held->digest, &w->digest))
			return true;
	}
	return false;
}

/* The name follows its entry again, or goes. */
static void
restore(struct handlerdir *h, enum which where, const char *name)
{
	struct table *t = where == IN_CACHE ? &h->images : &h->expired;

	for (size_t i = 0; where != IN_PARTIAL && i < t->n; i++) {
		struct entry *e = &t->at[i];

		if (e->name == NULL || strcmp(e->name, name) != 0)
			continue;
		if (handlerdir_show(h, where, e, NULL) != 0)
			h->n_todo++;
		return;
	}
	handlerdir_hide(h, where, name, NULL);
}

static void
end_hold(struct handlerdir *h, struct hold *held)
{
	struct hold ended = *held;

	*held = h->holds[--h->n_holds];
	if (ended.displaced)
		restore(h, ended.where, ended.name);
	free(ended.name);
}

void
handlerdir_end_holds(struct handlerdir *h)
{
	while (h->n_holds > 0)
		end_hold(h, &h->holds[h->n_holds - 1]);
}

/* Whether these bytes may still be given out, and are here. */
static int
may_be_given(struct handlerdir *h, struct catalogue *c, const struct digest *d, bool *may,
	     struct err *err)
{
	struct object_row object;
	int rc = catalogue_object_get(c, d, &object, err);

	*may = false;
	if (rc != 0)
		return rc == -ENOENT ? 0 : rc;
	/* What the mount shows may be missing here: evicted, and fetched again when it is read. */
	*may = object.access != ACCESS_DISTRUSTED &&
	       (object.state == OBJECT_VERIFIED || (h->mounted && object.wanted));
	object_row_release(&object);
	return 0;
}

static int
show_event(struct handlerdir *h, const struct wanted *w, bool may, struct err *err)
{
	struct handlerlink *l = h->link[w->where];
	int rc;

	if (!may)
		return handlerlink_empty(l, w->name, err);
	rc = handlerlink_image(l, w->name, &w->digest, w->size, err);
	if (rc == -ENOENT && w->expires)
		rc = handlerlink_empty(l, w->name, err);
	return rc;
}

/* ExpirePrefix and ExpirePostfix: a file, whatever is in it. */
static int
prepare_expire(struct handlerdir *h, struct catalogue *c, const struct wanted *w, struct err *err)
{
	enum handlerlink_state state;
	struct digest shown;
	bool may, displaced;
	int rc = 0;

	state = handlerlink_look(h->link[w->where], w->name, &shown);
	displaced = state != HANDLERLINK_IMAGE && state != HANDLERLINK_EMPTY;
	if (displaced)
		rc = may_be_given(h, c, &w->digest, &may, err);
	if (displaced && rc == 0)
		rc = show_event(h, w, may, err);
	if (rc == 0)
		hold(h, w, displaced);
	return rc;
}

static int
prepare_available(struct handlerdir *h, struct catalogue *c, const struct wanted *w,
		  struct err *err)
{
	enum handlerlink_state state;
	struct digest shown;
	bool may = false, same;
	int rc;

	if (is_in_use(h, w))
		return err_set(err, EBUSY, "a handler is being told of another version of '%s'",
			       w->name);
	rc = may_be_given(h, c, &w->digest, &may, err);
	if (rc != 0)
		return rc;
	if (!may)
		return err_set(err, ESTALE, "the image '%s' may not be given out any more",
			       w->name);
	state = handlerlink_look(h->link[w->where], w->name, &shown);
	same = state == HANDLERLINK_IMAGE && digest_equal(&shown, &w->digest);
	rc = show_event(h, w, true, err);
	if (rc == 0)
		hold(h, w, !same);
	return rc;
}

int
handlerdir_prepare(struct handlerdir *h, struct catalogue *c, const struct event_row *event,
		   struct err *err)
{
	struct wanted w;
	int rc;

	/* What other images cannot have is told by the caller's own handlerdir_sync(). */
	handlerdir_sync(h, c, NULL);
	rc = wanted_of(event, &w);
	if (rc < 0)
		return err_set(err, -rc, "event %s (%s) names no file that could be made",
			       event->uuid, event->type);
	if (rc == 0)
		return 0;
	rc = w.expires ? prepare_expire(h, c, &w, err) : prepare_available(h, c, &w, err);
	free(w.name);
	return rc;
}

void
handlerdir_done(struct handlerdir *h, const struct event_row *event)
{
	struct hold *held;
	struct wanted w;

	if (wanted_of(event, &w) <= 0)
		return;
	held = find_hold(h, &w);
	if (held != NULL && --held->users == 0)
		end_hold(h, held);
	free(w.name);
}
