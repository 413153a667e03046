/*
 * tree_build.c - from the catalogue's rows to a tree.
 *
 * Rows are read in the order objects, images, expired images, subscriptions, endorsers, events.
 * Of images and expired images only (id, rev) are read when nothing changed: a tree of 10,000
 * images is rebuilt in milliseconds after one of them changed, and shares the other 9,999 records.
 *
 * Another process may commit between two of these queries.  The catalogue's data version tells;
 * then everything is read again, so that a list is seen as a whole or not at all.  After
 * MAX_ROUNDS the rows are taken as they are: each is true, and the next change is on its way.
 */
#include "config.h"
#include "fs/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "core/buf.h"
#include "core/cleanup.h"
#include "core/limits.h"
#include "core/outbox.h"
#include "core/stamp.h"
#include "fs/tree_diff.h"
#include "fs/tree_index.h"

enum { MAX_ROUNDS = 5 };

struct stub {
	int64_t id, rev;
};

struct build {
	struct catalogue *c;
	const struct conf *conf;
	struct store *store;
	const struct tree *prev;
	struct tree *t;
	struct stub *stubs;		/* of the kind being read */
	size_t n_stubs, cap_stubs;
	size_t cap_objects;
	struct digest *ready;		/* pending objects that can be read block by block */
	size_t n_ready, cap_ready;
	struct tree_refused **refused;
	size_t n_refused, cap_refused;
	const struct subscription_row *sub;
	struct buf events;
};

/* Room for one more element of an array; returns the array. */
static void *
grow(void *array, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return array;
	*cap = *cap == 0 ? 64 : *cap * 2;
	return xrealloc(array, *cap * size);
}

static void
add_stub(struct build *b, int64_t id, int64_t rev)
{
	b->stubs = grow(b->stubs, b->n_stubs, &b->cap_stubs, sizeof(*b->stubs));
	b->stubs[b->n_stubs++] = (struct stub){ id, rev };
}

/* ---- objects -------------------------------------------------------------------------------- */

/* A try that failed has made it FAILED: then the version before is shown again. */
static bool
is_ready(const struct object_row *row)
{
	return row->pending && row->wanted && row->has_tree && row->state == OBJECT_MISSING &&
	       row->access == ACCESS_OK;
}

static int
on_object(void *arg, const struct object_row *row)
{
	struct build *b = arg;
	struct tree *t = b->t;
	const struct tree_object *object = NULL;
	size_t i;

	if (b->prev != NULL && tree_object_at(b->prev, (uint64_t)row->id, &i) &&
	    object_row_equal(&b->prev->objects[i].object->row, row)) {
		object = b->prev->objects[i].object;
		record_ref(&object->base);
	} else {
		struct tree_object *made = record_object(row);

		if (row->state == OBJECT_VERIFIED && b->store != NULL &&
		    !store_object_stat(b->store, &row->digest, row->size, &made->blocks))
			made->blocks = 0;
		object = made;
	}
	if (is_ready(row)) {
		b->ready = grow(b->ready, b->n_ready, &b->cap_ready, sizeof(*b->ready));
		b->ready[b->n_ready++] = row->digest;
	}
	t->objects = grow(t->objects, t->n_objects, &b->cap_objects, sizeof(*t->objects));
	t->objects[t->n_objects++] = (struct tree_object_slot){ .object = object };
	return 0;
}

/* ---- images and expired images -------------------------------------------------------------- */

static int
on_image_stub(void *arg, const struct image_stub *s)
{
	if (s->live)
		add_stub(arg, s->id, s->rev);
	return 0;
}

/* Whether its pending version is shown. */
static bool
is_ahead(const struct build *b, const struct image_row *row)
{
	for (size_t i = 0; row->has_pending && row->selected && i < b->n_ready; i++)
		if (digest_equal(&b->ready[i], &row->pending.sha512))
			return true;
	return false;
}

static int
load_image(struct build *b, const struct stub *s, struct err *err)
{
	struct tree *t = b->t;
	const struct tree_image *image;
	struct image_row row;
	size_t i;

	if (b->prev != NULL && tree_image_at(b->prev, (uint64_t)s->id, &i) &&
	    b->prev->images[i].image->row.rev == s->rev &&
	    b->prev->images[i].image->ahead == is_ahead(b, &b->prev->images[i].image->row)) {
		image = b->prev->images[i].image;
		record_ref(&image->base);
	} else {
		int rc = catalogue_image_by_id(b->c, s->id, &row, err);

		if (rc == -ENOENT)
			return 0;	/* gone since; the data version has changed */
		if (rc < 0)
			return rc;
		if (!row.live) {
			image_row_release(&row);
			return 0;
		}
		image = record_image(&row, is_ahead(b, &row));
	}
	t->images[t->n_images++] = (struct tree_image_slot){
		.image = image, .object = TREE_NONE, .cached = TREE_NONE, .pending = TREE_NONE
	};
	return 0;
}

static int
load_images(struct build *b, struct err *err)
{
	int rc;

	b->n_stubs = 0;
	rc = catalogue_image_stubs(b->c, on_image_stub, b, err);
	if (rc < 0)
		return rc;
	b->t->images = xcalloc(b->n_stubs + 1, sizeof(*b->t->images));
	for (size_t i = 0; i < b->n_stubs && rc == 0; i++)
		rc = load_image(b, &b->stubs[i], err);
	return rc;
}

static int
on_expired_stub(void *arg, int64_t id, int64_t rev)
{
	add_stub(arg, id, rev);
	return 0;
}

static int
load_expired_one(struct build *b, const struct stub *s, struct err *err)
{
	const struct tree_expired *expired;
	struct expired_row row;
	size_t i;

	if (b->prev != NULL && tree_expired_at(b->prev, (uint64_t)s->id, &i) &&
	    b->prev->expired[i]->row.rev == s->rev) {
		expired = b->prev->expired[i];
		record_ref(&expired->base);
	} else {
		int rc = catalogue_expired_by_id(b->c, s->id, &row, err);

		if (rc == -ENOENT)
			return 0;
		if (rc < 0)
			return rc;
		expired = record_expired(&row);
	}
	b->t->expired[b->t->n_expired++] = expired;
	return 0;
}

static int
load_expired(struct build *b, struct err *err)
{
	int rc;

	b->n_stubs = 0;
	rc = catalogue_expired_stubs(b->c, on_expired_stub, b, err);
	if (rc < 0)
		return rc;
	b->t->expired = xcalloc(b->n_stubs + 1, sizeof(*b->t->expired));
	for (size_t i = 0; i < b->n_stubs && rc == 0; i++)
		rc = load_expired_one(b, &b->stubs[i], err);
	return rc;
}

/* ---- subscriptions -------------------------------------------------------------------------- */

static int
on_subscription(void *arg, const struct subscription_row *row)
{
	add_stub(arg, row->id, row->rev);
	return 0;
}

static int
on_refused(void *arg, const struct refused_row *row)
{
	struct build *b = arg;

	b->refused = grow(b->refused, b->n_refused, &b->cap_refused, sizeof(*b->refused));
	b->refused[b->n_refused++] = record_refused(row, b->sub->ino, b->sub->created);
	return 0;
}

static int
refused_by_row(const void *a, const void *b)
{
	const struct tree_refused *const *x = a, *const *y = b;

	return ((*x)->base.row > (*y)->base.row) - ((*x)->base.row < (*y)->base.row);
}

/* 0 if the file cannot be had: then the entry is not shown. */
static int64_t
message_file_size(const struct build *b, const struct digest *message, bool payload)
{
	CLEANUP_FD int fd = message_open(b->conf, message, payload, NULL);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : 0;
}

static void
forget_secrets(struct subscription_row *row)
{
	if (row->password != NULL)
		explicit_bzero(row->password, strlen(row->password));
	free(row->password);
	free(row->username);
	row->password = row->username = NULL;
}

static int
make_sub(struct build *b, int64_t id, const struct tree_sub **out, struct err *err)
{
	struct subscription_row row;
	struct tree_sub *sub;
	int rc = catalogue_subscription_by_id(b->c, id, &row, err);

	if (rc < 0)
		return rc;
	forget_secrets(&row);
	b->sub = &row;
	b->refused = NULL;
	b->n_refused = b->cap_refused = 0;
	rc = catalogue_refused_each(b->c, id, on_refused, b, err);
	b->sub = NULL;
	if (b->n_refused > 0)
		qsort(b->refused, b->n_refused, sizeof(*b->refused), refused_by_row);
	sub = record_sub(&row, b->refused, b->n_refused);
	if (sub->row.has_message && b->conf != NULL) {
		sub->message_size = message_file_size(b, &sub->row.message, false);
		sub->payload_size = message_file_size(b, &sub->row.message, true);
	}
	if (rc < 0) {
		record_unref(&sub->base);
		return rc;
	}
	*out = sub;
	return 0;
}

static int
load_subs(struct build *b, struct err *err)
{
	struct tree *t = b->t;
	size_t prev;
	int rc;

	b->n_stubs = 0;
	rc = catalogue_subscription_each(b->c, on_subscription, b, err);
	if (rc < 0)
		return rc;
	t->subs = xcalloc(b->n_stubs + 1, sizeof(*t->subs));
	for (size_t i = 0; i < b->n_stubs; i++) {
		const struct stub *s = &b->stubs[i];

		if (b->prev != NULL && tree_sub_at(b->prev, (uint64_t)s->id, &prev) &&
		    b->prev->subs[prev]->row.rev == s->rev) {
			t->subs[t->n_subs] = b->prev->subs[prev];
			record_ref(&t->subs[t->n_subs]->base);
			rc = 0;
		} else {
			rc = make_sub(b, s->id, &t->subs[t->n_subs], err);
		}
		if (rc == 0)
			t->n_subs++;
		else if (rc != -ENOENT)
			return rc;
	}
	return 0;
}

/* ---- endorsers ------------------------------------------------------------------------------ */

struct endorser_names {
	char **name;
	size_t n, cap;
};

static int
on_endorser(void *arg, const struct endorser_row *row)
{
	struct endorser_names *names = arg;

	names->name = grow(names->name, names->n, &names->cap, sizeof(*names->name));
	names->name[names->n++] = xstrdup(row->name);
	return 0;
}

/* Takes row.  The record of the tree before if it says the same. */
static const struct tree_endorser *
make_endorser(struct build *b, struct endorser_row *row)
{
	int64_t *subs = xcalloc(b->t->n_subs + 1, sizeof(*subs));
	const struct tree_endorser *old;
	size_t n = 0, i;

	for (size_t s = 0; s < b->t->n_subs; s++)
		if (catalogue_is_linked(b->c, row->id, b->t->subs[s]->row.id))
			subs[n++] = b->t->subs[s]->row.id;
	if (b->prev != NULL && tree_endorser_at(b->prev, (uint64_t)row->id, &i)) {
		old = b->prev->endorsers[i];
		if (old->row.rev == row->rev && old->n_subs == n &&
		    memcmp(old->subs, subs, n * sizeof(*subs)) == 0) {
			endorser_row_release(row);
			free(subs);
			record_ref(&old->base);
			return old;
		}
	}
	return record_endorser(row, subs, n);
}

static int
load_endorsers(struct build *b, struct err *err)
{
	struct endorser_names names = { NULL, 0, 0 };
	struct endorser_row row;
	struct tree *t = b->t;
	int rc = catalogue_endorser_each(b->c, on_endorser, &names, err);

	t->endorsers = xcalloc(names.n + 1, sizeof(*t->endorsers));
	for (size_t i = 0; i < names.n && rc >= 0; i++) {
		rc = catalogue_endorser_get(b->c, names.name[i], &row, err);
		if (rc == 0)
			t->endorsers[t->n_endorsers++] = make_endorser(b, &row);
		else if (rc == -ENOENT)
			rc = 0;
	}
	for (size_t i = 0; i < names.n; i++)
		free(names.name[i]);
	free(names.name);
	return rc;
}

/* ---- events --------------------------------------------------------------------------------- */

static int
on_event(void *arg, const struct event_row *row)
{
	struct build *b = arg;

	buf_puts(&b->events, row->json);
	buf_putc(&b->events, '\n');
	return 0;
}

static int
load_events(struct build *b, struct err *err)
{
	struct tree *t = b->t;
	int rc;

	t->last_event = catalogue_event_last(b->c);
	if (b->prev != NULL && b->prev->events != NULL && b->prev->last_event == t->last_event) {
		t->events = b->prev->events;
		atomic_fetch_add(&t->events->refs, 1);
		return 0;
	}
	buf_clear(&b->events);
	rc = catalogue_event_each(b->c, 0, LIMIT_EVENTS_SHOWN, on_event, b, err);
	if (rc < 0)
		return rc;
	t->events = xmalloc(sizeof(*t->events) + b->events.len);
	atomic_init(&t->events->refs, 1);
	t->events->len = b->events.len;
	memcpy(t->events->data, buf_str(&b->events), b->events.len);
	return 0;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int
load_all(struct build *b, struct err *err)
{
	int rc = catalogue_object_each(b->c, on_object, b, err);

	if (rc == 0)
		rc = load_images(b, err);
	if (rc == 0)
		rc = load_expired(b, err);
	if (rc == 0)
		rc = load_subs(b, err);
	if (rc == 0)
		rc = load_endorsers(b, err);
	if (rc == 0)
		rc = load_events(b, err);
	return rc;
}

static void
note_changed_dir(void *arg, uint64_t node, bool data)
{
	struct tree *t = arg;

	(void)data;
	if (node_kind(node) == KIND_STATIC_DIR)
		t->changed[node_field(node)] = t->made;
}

/* A directory's time is that of the last change of its listing. */
static void
date_listings(struct tree *t, const struct tree *prev)
{
	const struct tree_diff_ops ops = { .inode = note_changed_dir };

	for (size_t i = 0; i <= N_STATIC_DIRS; i++)
		t->changed[i] = prev != NULL && prev->made != 0 ? prev->changed[i] : t->made;
	if (prev != NULL)
		tree_diff(prev, t, &ops, t);
}

int
tree_build(struct catalogue *c, const struct conf *conf, struct store *store,
	   const struct tree *prev, struct tree **out, struct err *err)
{
	struct build b = { .c = c, .conf = conf, .store = store, .prev = prev,
			   .events = BUF_INIT };
	int rc = 0;

	for (int round = 0; round < MAX_ROUNDS; round++) {
		int64_t version = catalogue_data_version(c);

		tree_unref(b.t);
		b.t = tree_empty();
		b.cap_objects = b.n_ready = 0;
		rc = load_all(&b, err);
		if (rc < 0 || catalogue_data_version(c) == version)
			break;
	}
	free(b.stubs);
	free(b.ready);
	buf_release(&b.events);
	if (rc < 0) {
		tree_unref(b.t);
		*out = NULL;
		return rc;
	}
	tree_index(b.t);
	b.t->made = stamp_now();
	b.t->serial = prev != NULL ? prev->serial + 1 : 1;
	date_listings(b.t, prev);
	*out = b.t;
	return 0;
}
