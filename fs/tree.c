/*
 * tree.c - finding things in a tree, and holding the current one.
 *
 * All searches are binary ones in sorted arrays, but for subscriptions and endorsers by name: a
 * site has tens of them.
 */
#include "config.h"
#include "fs/tree.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "core/buf.h"

struct tree *
tree_empty(void)
{
	struct tree *t = xcalloc(1, sizeof(*t));

	atomic_init(&t->refs, 1);
	return t;
}

static struct tree *
writable(const struct tree *t)
{
	union { const struct tree *c; struct tree *w; } u = { .c = t };

	return u.w;
}

struct tree *
tree_ref(const struct tree *t)
{
	struct tree *w = writable(t);

	atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
	return w;
}

static void
tree_free(struct tree *t)
{
	for (size_t i = 0; i < t->n_images; i++) {
		free(t->images[i].title_name);
		record_unref(&t->images[i].image->base);
	}
	for (size_t i = 0; i < t->n_objects; i++)
		record_unref(&t->objects[i].object->base);
	for (size_t i = 0; i < t->n_expired; i++)
		record_unref(&t->expired[i]->base);
	for (size_t i = 0; i < t->n_subs; i++)
		record_unref(&t->subs[i]->base);
	for (size_t i = 0; i < t->n_endorsers; i++)
		record_unref(&t->endorsers[i]->base);
	free(t->images);
	free(t->images_by_name);
	free(t->images_by_title);
	free(t->images_by_object);
	free(t->objects);
	free(t->objects_by_digest);
	free(t->expired);
	free(t->expired_by_name);
	free(t->subs);
	free(t->endorsers);
	if (t->events != NULL && atomic_fetch_sub(&t->events->refs, 1) == 1)
		free(t->events);
	free(t);
}

void
tree_unref(const struct tree *t)
{
	struct tree *w = writable(t);

	if (w != NULL && atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) == 1)
		tree_free(w);
}

/* ---- by row id ------------------------------------------------------------------------------ */

static const struct record *
image_record(const struct tree *t, size_t i)
{
	return &t->images[i].image->base;
}

static const struct record *
object_record(const struct tree *t, size_t i)
{
	return &t->objects[i].object->base;
}

static const struct record *
expired_record(const struct tree *t, size_t i)
{
	return &t->expired[i]->base;
}

static const struct record *
sub_record(const struct tree *t, size_t i)
{
	return &t->subs[i]->base;
}

static const struct record *
endorser_record(const struct tree *t, size_t i)
{
	return &t->endorsers[i]->base;
}

static bool
row_search(const struct tree *t, size_t n,
	   const struct record *(*at)(const struct tree *t, size_t i), uint64_t row, size_t *i)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (at(t, middle)->row < row)
			low = middle + 1;
		else
			high = middle;
	}
	*i = low;
	return low < n && at(t, low)->row == row;
}

bool
tree_image_at(const struct tree *t, uint64_t row, size_t *i)
{
	return row_search(t, t->n_images, image_record, row, i);
}

bool
tree_object_at(const struct tree *t, uint64_t row, size_t *i)
{
	return row_search(t, t->n_objects, object_record, row, i);
}

bool
tree_expired_at(const struct tree *t, uint64_t row, size_t *i)
{
	return row_search(t, t->n_expired, expired_record, row, i);
}

bool
tree_sub_at(const struct tree *t, uint64_t row, size_t *i)
{
	return row_search(t, t->n_subs, sub_record, row, i);
}

bool
tree_endorser_at(const struct tree *t, uint64_t row, size_t *i)
{
	return row_search(t, t->n_endorsers, endorser_record, row, i);
}

const struct tree_refused *
tree_refused_at(const struct tree *t, uint64_t row, size_t *sub)
{
	for (size_t s = 0; s < t->n_subs; s++)
		for (size_t i = 0; i < t->subs[s]->n_refused; i++)
			if (t->subs[s]->refused[i]->base.row == row) {
				*sub = s;
				return t->subs[s]->refused[i];
			}
	return NULL;
}

const struct record *
tree_record(const struct tree *t, enum record_class class, uint64_t row, size_t *slot)
{
	const struct tree_refused *refused;

	switch (class) {
	case RECORD_OBJECT:
		return tree_object_at(t, row, slot) ? &t->objects[*slot].object->base : NULL;
	case RECORD_IMAGE:
		return tree_image_at(t, row, slot) ? &t->images[*slot].image->base : NULL;
	case RECORD_SUB:
		return tree_sub_at(t, row, slot) ? &t->subs[*slot]->base : NULL;
	case RECORD_REFUSED:
		refused = tree_refused_at(t, row, slot);
		return refused != NULL ? &refused->base : NULL;
	case RECORD_ENDORSER:
		return tree_endorser_at(t, row, slot) ? &t->endorsers[*slot]->base : NULL;
	case RECORD_EXPIRED:
		return tree_expired_at(t, row, slot) ? &t->expired[*slot]->base : NULL;
	}
	return NULL;
}

/* ---- by name -------------------------------------------------------------------------------- */

static const char *
image_name(const struct tree *t, size_t i)
{
	return t->images[i].image->row.name;
}

static const char *
title_name(const struct tree *t, size_t i)
{
	return t->images[i].title_name;
}

static const char *
expired_name(const struct tree *t, size_t i)
{
	return t->expired[i]->row.name;
}

static bool
name_search(const struct tree *t, const uint32_t *index, size_t n,
	    const char *(*at)(const struct tree *t, size_t i), const char *name, size_t *i)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(at(t, index[middle]), name);

		if (order == 0) {
			*i = index[middle];
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

bool
tree_image_named(const struct tree *t, const char *name, size_t *i)
{
	return name_search(t, t->images_by_name, t->n_images, image_name, name, i);
}

bool
tree_title_named(const struct tree *t, const char *name, size_t *i)
{
	return name_search(t, t->images_by_title, t->n_images, title_name, name, i);
}

bool
tree_expired_named(const struct tree *t, const char *name, size_t *i)
{
	return name_search(t, t->expired_by_name, t->n_expired, expired_name, name, i);
}

bool
tree_sub_named(const struct tree *t, const char *name, size_t *i)
{
	for (*i = 0; *i < t->n_subs; ++*i)
		if (strcmp(t->subs[*i]->row.name, name) == 0)
			return true;
	return false;
}

bool
tree_endorser_named(const struct tree *t, const char *name, size_t *i)
{
	for (*i = 0; *i < t->n_endorsers; ++*i)
		if (strcmp(t->endorsers[*i]->row.dir, name) == 0)
			return true;
	return false;
}

bool
tree_object_of(const struct tree *t, const struct digest *d, size_t *i)
{
	size_t low = 0, high = t->n_objects;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct tree_object *o = t->objects[t->objects_by_digest[middle]].object;
		int order = memcmp(o->row.digest.bytes, d->bytes, sizeof(d->bytes));

		if (order == 0) {
			*i = t->objects_by_digest[middle];
			return true;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

void
tree_images_of(const struct tree *t, size_t object, size_t *first, size_t *n)
{
	size_t low = 0, high = t->n_images;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (t->images[t->images_by_object[middle]].object < object)
			low = middle + 1;
		else
			high = middle;
	}
	*first = low;
	*n = 0;
	while (low + *n < t->n_images &&
	       t->images[t->images_by_object[low + *n]].object == object)
		++*n;
}

/* ---- what follows from several rows --------------------------------------------------------- */

static const struct object_row *
object_row_of(const struct tree *t, uint32_t object)
{
	return object == TREE_NONE ? NULL : &t->objects[object].object->row;
}

const struct tree_object *
tree_image_archive(const struct tree *t, size_t image)
{
	const struct tree_image_slot *slot = &t->images[image];

	if (slot->object == TREE_NONE || !slot->image->row.selected ||
	    !image_meta_is_ova(tree_image_shown(slot->image)))
		return NULL;
	return t->objects[slot->object].object;
}

bool
tree_image_is_cached(const struct tree *t, size_t image)
{
	const struct tree_image_slot *slot = &t->images[image];
	const struct object_row *object = object_row_of(t, slot->cached);

	return slot->image->row.selected && object != NULL && object->state == OBJECT_VERIFIED;
}

enum image_state
tree_image_state(const struct tree *t, size_t image, bool fetching)
{
	const struct tree_image_slot *slot = &t->images[image];
	const struct object_row *object = object_row_of(t, slot->object);

	if (!slot->image->row.selected)
		return IMAGE_AVAILABLE;
	if (fetching)
		return IMAGE_FETCHING;
	if (object == NULL)
		return IMAGE_SELECTED;
	switch (object->state) {
	case OBJECT_MISSING:
		break;
	case OBJECT_FAILED:
		return IMAGE_FAILED;
	case OBJECT_VERIFIED:
		return object->degraded ? IMAGE_DEGRADED : IMAGE_VERIFIED;
	}
	return IMAGE_SELECTED;
}

const char *
tree_image_error(const struct tree *t, size_t image, enum code *code)
{
	const struct tree_image_slot *slot = &t->images[image];
	const struct object_row *of[] = {
		object_row_of(t, slot->object), object_row_of(t, slot->pending),
		object_row_of(t, slot->cached),
	};
	enum code unused;

	if (code == NULL)
		code = &unused;
	*code = CODE_NONE;
	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++)
		if (of[i] != NULL && object_row_error(of[i])[0] != '\0') {
			*code = of[i]->code;
			return object_row_error(of[i]);
		}
	return "";
}

/* ---- the current tree ----------------------------------------------------------------------- */

struct tree_holder {
	pthread_mutex_t lock;		/* protects the pointer */
	struct tree *tree;
};

struct tree_holder *
tree_holder_new(void)
{
	struct tree_holder *h = xcalloc(1, sizeof(*h));

	pthread_mutex_init(&h->lock, NULL);
	h->tree = tree_empty();
	return h;
}

void
tree_holder_free(struct tree_holder *h)
{
	if (h == NULL)
		return;
	tree_unref(h->tree);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

struct tree *
tree_get(struct tree_holder *h)
{
	struct tree *t;

	pthread_mutex_lock(&h->lock);
	t = tree_ref(h->tree);
	pthread_mutex_unlock(&h->lock);
	return t;
}

struct tree *
tree_swap(struct tree_holder *h, struct tree *t)
{
	struct tree *old;

	assert(t != NULL);
	pthread_mutex_lock(&h->lock);
	old = h->tree;
	h->tree = t;
	pthread_mutex_unlock(&h->lock);
	return old;
}
