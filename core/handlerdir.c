/*
 * handlerdir.c - from rows to names for event handlers.
 *
 * Two tables, one of images and one of expired versions, mirror the rows in order of their ids.
 * Each entry says which name it has and what that is to show; `todo` that the name does not show it
 * yet.  A sync compares (id, rev) with the tables, reads the rows that differ, and puts in place
 * what is to do; without any change the catalogue's revision alone is read.
 *
 * The index files are put together from texts that are kept with the entries.  Writing one costs in
 * proportion to all of them; therefore one that took long is written again only when twenty times
 * as long has passed, and writing never takes more than a twentieth of the time.
 *
 * What one event needs beyond that is in handlerdir_event.c.
 */
#include "config.h"
#include "handlerdir_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "io.h"

enum { RETRY_MS = 30000 };

/* ---- opening --------------------------------------------------------------------------------- */

static int
open_one(struct handlerdir *h, enum which which, const char *path,
	 const struct handlerdir_config *config, struct err *err)
{
	const struct handlerlink_config one = {
		.path = path, .mountpoint = config->mountpoint, .cache_dir = config->objects,
		.adopt = config->adopt,
	};

	return handlerlink_open(&h->link[which], &one, err);
}

/* Two that are one would take each other's names away. */
static int
refuse_same(const struct handlerdir *h, struct err *err)
{
	if (handlerlink_same(h->link[IN_CACHE], h->link[IN_PARTIAL]) ||
	    handlerlink_same(h->link[IN_CACHE], h->link[IN_EXPIRED]) ||
	    handlerlink_same(h->link[IN_PARTIAL], h->link[IN_EXPIRED]))
		return err_set(err, EINVAL,
			       "the directories for cached, partial and expired images must be "
			       "three different ones");
	return 0;
}

int
handlerdir_open(struct handlerdir **out, const struct handlerdir_config *config, struct err *err)
{
	struct handlerdir *h = xcalloc(1, sizeof(*h));
	int rc;

	*out = NULL;
	h->mounted = config->mountpoint != NULL;
	h->images.where = IN_CACHE;
	h->expired.where = IN_EXPIRED;
	rc = open_one(h, IN_CACHE, config->cache, config, err);
	if (rc == 0)
		rc = open_one(h, IN_PARTIAL, config->partial, config, err);
	if (rc == 0)
		rc = open_one(h, IN_EXPIRED, config->expired, config, err);
	if (rc == 0)
		rc = refuse_same(h, err);
	if (rc == 0)
		*out = steal_ptr(&h);
	handlerdir_close(h);
	return rc;
}

void
handlerdir_close(struct handlerdir *h)
{
	if (h == NULL)
		return;
	handlerdir_end_holds(h);
	if (h->images.index_changed && h->revision != 0)
		handlerdir_write_index(h, &h->images, NULL);
	if (h->expired.index_changed && h->revision != 0)
		handlerdir_write_index(h, &h->expired, NULL);
	for (int i = 0; i < N_WHICH; i++)
		handlerlink_close(h->link[i]);
	handlerdir_table_release(&h->images);
	handlerdir_table_release(&h->expired);
	free(h->messages);
	free(h->holds);
	free(h);
}

/* ---- what a name shows ----------------------------------------------------------------------- */

bool
handlerdir_is_reserved(const char *name)
{
	return strcmp(name, HANDLERDIR_INDEX) == 0 || strcmp(name, HANDLERDIR_TEMPLATES) == 0;
}

int
handlerdir_show(struct handlerdir *h, enum which where, struct entry *e, struct err *err)
{
	struct handlerlink *l = h->link[where];
	int rc;

	e->todo = false;
	if (handlerdir_defer(h, where, e->name))
		return 0;
	if (handlerdir_is_reserved(e->name))
		return err_set(err, EEXIST, "the image '%s' cannot be given to event handlers: its "
			       "name is that of a file of theirs", e->name);
	if (e->empty)
		rc = handlerlink_empty(l, e->name, err);
	else
		rc = handlerlink_image(l, e->name, &e->digest, e->size, err);
	/* Expired, and its bytes never came, or are gone: a handler only asks for a file. */
	if (rc == -ENOENT && where == IN_EXPIRED)
		rc = handlerlink_empty(l, e->name, err);
	e->todo = rc != 0;
	return rc;
}

int
handlerdir_hide(struct handlerdir *h, enum which where, const char *name, struct err *err)
{
	if (name == NULL || handlerdir_is_reserved(name) || handlerdir_defer(h, where, name))
		return 0;
	return handlerlink_drop(h->link[where], name, err);
}

/* ---- sync ------------------------------------------------------------------------------------ */

/* The first error is told; the rest is put in place all the same. */
static int
show_all(struct handlerdir *h, struct table *t, struct err *err)
{
	int first = 0;

	for (size_t i = 0; i < t->n; i++) {
		struct entry *e = &t->at[i];
		int rc = 0;

		if (e->name != NULL && e->todo)
			rc = handlerdir_show(h, t->where, e, first == 0 ? err : NULL);
		if (first == 0)
			first = rc;
		h->n_todo += e->todo;
	}
	return first;
}

static int
put_in_place(struct handlerdir *h, struct err *err)
{
	int rc, expired;

	h->n_todo = 0;
	h->next_try = io_monotonic_ms() + RETRY_MS;
	rc = show_all(h, &h->images, err);
	expired = show_all(h, &h->expired, rc == 0 ? err : NULL);
	return rc != 0 ? rc : expired;
}

struct sweep {
	const struct handlerdir *h;
	enum which where;
	struct names names;
};

static bool
is_wanted(void *arg, const char *name)
{
	const struct sweep *s = arg;

	return handlerdir_is_reserved(name) || handlerdir_is_held(s->h, s->where, name) ||
	       handlerdir_has_name(&s->names, name);
}

static int
sweep_one(struct handlerdir *h, enum which where, const struct table *t, struct err *err)
{
	struct sweep s = { .h = h, .where = where };
	int rc;

	handlerdir_names(t, &s.names);
	rc = handlerlink_sweep(h->link[where], is_wanted, &s, err);
	free(s.names.at);
	return rc;
}

/* What an earlier run left and no row knows any more.  Nothing is ever kept in partial/. */
static int
sweep(struct handlerdir *h, struct err *err)
{
	const struct table none = { .n = 0 };
	int rc = sweep_one(h, IN_CACHE, &h->images, err);

	if (rc == 0)
		rc = sweep_one(h, IN_EXPIRED, &h->expired, err);
	if (rc == 0)
		rc = sweep_one(h, IN_PARTIAL, &none, err);
	if (rc == 0)
		rc = handlerlink_write(h->link[IN_PARTIAL], HANDLERDIR_INDEX, "{}", 2, err);
	h->images.index_changed = h->expired.index_changed = true;
	h->swept = rc == 0;
	return rc;
}

int
handlerdir_sync(struct handlerdir *h, struct catalogue *c, struct err *err)
{
	/* Before the rows: what another process commits while they are read is seen next time. */
	int64_t revision = catalogue_revision(c);
	bool changed = revision == 0 || revision != h->revision;
	int rc = 0;

	if (changed) {
		h->revision = 0;
		rc = handlerdir_follow(h, c, err);
		if (rc == 0 && !h->swept)
			rc = sweep(h, err);
		if (rc != 0)
			return rc;
		h->revision = revision;
	}
	if (changed || (h->n_todo > 0 && io_monotonic_ms() >= h->next_try))
		rc = put_in_place(h, err);
	if (rc == 0)
		rc = handlerdir_write_due(h, err);
	else
		handlerdir_write_due(h, NULL);
	return rc;
}
