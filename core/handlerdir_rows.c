/*
 * handlerdir_rows.c - from rows to entries.
 */
#include "config.h"
#include "handlerdir_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"

static void
entry_release(struct entry *e)
{
	free(e->name);
	handlerindex_text_release(&e->text);
	memset(e, 0, sizeof(*e));
}

void
handlerdir_table_release(struct table *t)
{
	for (size_t i = 0; i < t->n; i++)
		entry_release(&t->at[i]);
	free(t->at);
	t->at = NULL;
	t->n = 0;
}

/* ---- from a row to an entry ------------------------------------------------------------------ */

/* Whether cache/ of the mount shows it, too. */
static int
is_cached(struct catalogue *c, const struct image_row *row, bool *cached, struct err *err)
{
	struct object_row object;
	int rc;

	*cached = false;
	if (!row->live || !row->selected)
		return 0;
	rc = catalogue_object_get(c, &row->meta.sha512, &object, err);
	if (rc != 0)
		return rc == -ENOENT ? 0 : rc;
	*cached = object.state == OBJECT_VERIFIED && object.access == ACCESS_OK;
	object_row_release(&object);
	return 0;
}

static int
load_image(struct catalogue *c, struct entry *e, struct err *err)
{
	struct image_row row;
	bool cached = false;
	int rc = catalogue_image_by_id(c, e->id, &row, err);

	if (rc == -ENOENT)
		return 0;	/* gone since; the revision has changed */
	if (rc == 0)
		rc = is_cached(c, &row, &cached, err);
	if (rc == 0 && cached) {
		e->name = xstrdup(row.name);
		e->digest = row.meta.sha512;
		e->size = row.meta.size;
		e->subscription = row.subscription;
		e->todo = true;
		handlerindex_text_init(&e->text, &row.meta, row.name, row.list_id);
	}
	image_row_release(&row);
	return rc;
}

static int
load_expired(struct catalogue *c, struct entry *e, struct err *err)
{
	struct expired_row row;
	int rc = catalogue_expired_by_id(c, e->id, &row, err);

	if (rc != 0)
		return rc == -ENOENT ? 0 : rc;
	e->name = xstrdup(row.name);
	e->empty = row.distrusted || row.purged;
	e->digest = row.meta.sha512;
	e->size = row.meta.size;
	e->todo = true;
	handlerindex_text_init(&e->text, &row.meta, row.name, row.list_id);
	expired_row_release(&row);
	return 0;
}

/* ---- comparing rows with a table ------------------------------------------------------------- */

struct stubs {
	struct entry *at;		/* id and rev alone */
	size_t n, cap;
};

static void
add_stub(struct stubs *s, int64_t id, int64_t rev)
{
	if (s->n == s->cap) {
		s->cap = s->cap == 0 ? 64 : s->cap * 2;
		s->at = xrealloc(s->at, s->cap * sizeof(*s->at));
	}
	s->at[s->n++] = (struct entry){ .id = id, .rev = rev };
}

static int
on_image(void *arg, const struct image_stub *s)
{
	if (s->live && s->selected)
		add_stub(arg, s->id, s->rev);
	return 0;
}

static int
on_expired(void *arg, int64_t id, int64_t rev)
{
	add_stub(arg, id, rev);
	return 0;
}

/*
 * What the row says now, in an entry that has the row's id and rev.  The name that the entry before
 * had, if any, is taken away unless it is the same: names go before others come.
 */
static int
load(struct handlerdir *h, struct catalogue *c, struct table *t, struct entry *e,
     const struct entry *before, struct err *err)
{
	int rc = t->where == IN_CACHE ? load_image(c, e, err) : load_expired(c, e, err);

	if (rc == 0 && before != NULL && before->name != NULL &&
	    (e->name == NULL || strcmp(e->name, before->name) != 0))
		rc = handlerdir_hide(h, t->where, before->name, err);
	t->index_changed |= e->name != NULL || (before != NULL && before->name != NULL);
	return rc;
}

/* Both are in order of id.  Entries that stay are moved; what is left of the old table goes. */
static int
merge(struct handlerdir *h, struct catalogue *c, struct table *t, struct stubs *s, struct err *err)
{
	size_t old = 0;
	int rc = 0;

	for (size_t i = 0; i < s->n && rc == 0; i++) {
		struct entry *e = &s->at[i];

		for (; old < t->n && t->at[old].id < e->id && rc == 0; old++) {
			rc = handlerdir_hide(h, t->where, t->at[old].name, err);
			t->index_changed = true;
		}
		if (rc != 0)
			break;
		if (old < t->n && t->at[old].id == e->id && t->at[old].rev == e->rev) {
			*e = t->at[old];
			memset(&t->at[old], 0, sizeof(t->at[old]));
			old++;
		} else if (old < t->n && t->at[old].id == e->id) {
			rc = load(h, c, t, e, &t->at[old], err);
			old++;
		} else {
			rc = load(h, c, t, e, NULL, err);
		}
	}
	for (; old < t->n && rc == 0; old++) {
		rc = handlerdir_hide(h, t->where, t->at[old].name, err);
		t->index_changed = true;
	}
	return rc;
}

/* On an error the table is empty: the next sync reads all rows. */
static int
follow(struct handlerdir *h, struct catalogue *c, struct table *t, struct err *err)
{
	struct stubs s = { NULL, 0, 0 };
	int rc;

	if (t->where == IN_CACHE)
		rc = catalogue_image_stubs(c, on_image, &s, err);
	else
		rc = catalogue_expired_stubs(c, on_expired, &s, err);
	if (rc == 0)
		rc = merge(h, c, t, &s, err);
	handlerdir_table_release(t);
	t->at = s.at;
	t->n = s.n;
	if (rc != 0) {
		handlerdir_table_release(t);
		h->swept = false;
	}
	return rc;
}

/* ---- messages -------------------------------------------------------------------------------- */

struct messages {
	struct message *at;
	size_t n;
};

static int
on_subscription(void *arg, const struct subscription_row *row)
{
	struct messages *m = arg;

	if (!row->has_message)
		return 0;
	m->at = xrealloc(m->at, (m->n + 1) * sizeof(*m->at));
	memset(&m->at[m->n], 0, sizeof(*m->at));
	m->at[m->n].subscription = row->id;
	m->at[m->n++].digest = row->message;
	return 0;
}

static int
follow_messages(struct handlerdir *h, struct catalogue *c, struct err *err)
{
	struct messages m = { NULL, 0 };
	int rc = catalogue_subscription_each(c, on_subscription, &m, err);

	if (rc == 0 && (m.n != h->n_messages ||
			(m.n > 0 && memcmp(m.at, h->messages, m.n * sizeof(*m.at)) != 0)))
		h->images.index_changed = true;
	free(h->messages);
	h->messages = m.at;
	h->n_messages = m.n;
	return rc;
}

int
handlerdir_follow(struct handlerdir *h, struct catalogue *c, struct err *err)
{
	int rc = follow_messages(h, c, err);

	if (rc == 0)
		rc = follow(h, c, &h->images, err);
	if (rc == 0)
		rc = follow(h, c, &h->expired, err);
	return rc;
}

/* ---- names in order -------------------------------------------------------------------------- */

static int
by_name(const void *a, const void *b)
{
	const struct entry *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

void
handlerdir_names(const struct table *t, struct names *names)
{
	names->at = xcalloc(t->n + 1, sizeof(*names->at));
	names->n = 0;
	for (size_t i = 0; i < t->n; i++)
		if (t->at[i].name != NULL)
			names->at[names->n++] = &t->at[i];
	qsort(names->at, names->n, sizeof(*names->at), by_name);
}

bool
handlerdir_has_name(const struct names *names, const char *name)
{
	CLEANUP_FREE char *copy = xstrdup(name);
	const struct entry e = { .name = copy };
	const struct entry *key = &e;

	return names->n > 0 && bsearch(&key, names->at, names->n, sizeof(*names->at),
				       by_name) != NULL;
}
