/*
 * tree_index.c - names, orders, and what follows from several rows of a tree.
 *
 * by-title/: the safe form of the title.  Where several images share one, all of them get '~' and
 * 8 hex digits of the identifier's digest, so that the name of an image does not depend on which
 * of them came first.  Should even these be equal, the row id follows: names are unique always.
 */
#include "config.h"
#include "fs/tree_index.h"

#include <stdlib.h>
#include <string.h>
#include "core/buf.h"
#include "core/safename.h"

/* ---- orders --------------------------------------------------------------------------------- */

static int
compare_rows(const struct record *a, const struct record *b)
{
	return (a->row > b->row) - (a->row < b->row);
}

static int
image_slots_by_row(const void *a, const void *b)
{
	const struct tree_image_slot *x = a, *y = b;

	return compare_rows(&x->image->base, &y->image->base);
}

static int
object_slots_by_row(const void *a, const void *b)
{
	const struct tree_object_slot *x = a, *y = b;

	return compare_rows(&x->object->base, &y->object->base);
}

/* For arrays of pointers to records: the record is the first member. */
static int
pointers_by_row(const void *a, const void *b)
{
	const struct record *const *x = a, *const *y = b;

	return compare_rows(*x, *y);
}

static int
images_by_name(const void *a, const void *b, void *tree)
{
	const struct tree *t = tree;
	const uint32_t *x = a, *y = b;

	return strcmp(t->images[*x].image->row.name, t->images[*y].image->row.name);
}

static int
images_by_title(const void *a, const void *b, void *tree)
{
	const struct tree *t = tree;
	const uint32_t *x = a, *y = b;
	int order = strcmp(t->images[*x].title_name, t->images[*y].title_name);

	return order != 0 ? order : (*x > *y) - (*x < *y);
}

static int
images_by_object(const void *a, const void *b, void *tree)
{
	const struct tree *t = tree;
	const uint32_t *x = a, *y = b;
	uint32_t p = t->images[*x].object, q = t->images[*y].object;

	return p != q ? (p > q) - (p < q) : (*x > *y) - (*x < *y);
}

static int
expired_by_name(const void *a, const void *b, void *tree)
{
	const struct tree *t = tree;
	const uint32_t *x = a, *y = b;

	return strcmp(t->expired[*x]->row.name, t->expired[*y]->row.name);
}

static int
objects_by_digest(const void *a, const void *b, void *tree)
{
	const struct tree *t = tree;
	const uint32_t *x = a, *y = b;

	return memcmp(t->objects[*x].object->row.digest.bytes,
		      t->objects[*y].object->row.digest.bytes, DIGEST_BYTES);
}

/* An array of the numbers 0..n-1 in the given order. */
static uint32_t *
index_make(struct tree *t, size_t n, int (*order)(const void *a, const void *b, void *tree))
{
	uint32_t *index = xcalloc(n + 1, sizeof(*index));

	for (size_t i = 0; i < n; i++)
		index[i] = (uint32_t)i;
	qsort_r(index, n, sizeof(*index), order, t);
	return index;
}

/* An array that nothing was added to is NULL, which qsort() must not be given. */
static void
sort(void *array, size_t n, size_t size, int (*order)(const void *a, const void *b))
{
	if (n > 1)
		qsort(array, n, size, order);
}

static void
sort_rows(struct tree *t)
{
	sort(t->images, t->n_images, sizeof(*t->images), image_slots_by_row);
	sort(t->objects, t->n_objects, sizeof(*t->objects), object_slots_by_row);
	sort(t->expired, t->n_expired, sizeof(*t->expired), pointers_by_row);
	sort(t->subs, t->n_subs, sizeof(*t->subs), pointers_by_row);
	sort(t->endorsers, t->n_endorsers, sizeof(*t->endorsers), pointers_by_row);
}

/* ---- names of by-title/ --------------------------------------------------------------------- */

/* Replaces the names of images that share one; once is enough but for a collision of digests. */
static bool
resolve_clashes(struct tree *t, void (*distinguish)(struct tree_image_slot *slot))
{
	bool clash = false;

	for (size_t i = 0, next; i < t->n_images; i = next) {
		const char *name = t->images[t->images_by_title[i]].title_name;

		for (next = i + 1; next < t->n_images; next++)
			if (strcmp(t->images[t->images_by_title[next]].title_name, name) != 0)
				break;
		if (next - i < 2)
			continue;
		clash = true;
		for (size_t k = i; k < next; k++)
			distinguish(&t->images[t->images_by_title[k]]);
	}
	return clash;
}

static void
distinguish_by_identifier(struct tree_image_slot *slot)
{
	char name[SAFENAME_MAX + 32];

	safename_title(tree_image_shown(slot->image)->value[FIELD_TITLE], name);
	safename_disambiguate(name, tree_image_shown(slot->image)->value[FIELD_ID]);
	free(slot->title_name);
	slot->title_name = xstrdup(name);
}

static void
distinguish_by_row(struct tree_image_slot *slot)
{
	char *name = xasprintf("%s~%llu", slot->title_name,
			       (unsigned long long)slot->image->base.row);

	free(slot->title_name);
	slot->title_name = name;
}

static void
name_titles(struct tree *t)
{
	void (*const ways[])(struct tree_image_slot *slot) = {
		distinguish_by_identifier, distinguish_by_row
	};
	char name[SAFENAME_MAX + 32];

	for (size_t i = 0; i < t->n_images; i++) {
		safename_title(tree_image_shown(t->images[i].image)->value[FIELD_TITLE], name);
		t->images[i].title_name = xstrdup(name);
	}
	t->images_by_title = index_make(t, t->n_images, images_by_title);
	for (size_t w = 0; w < 2 && resolve_clashes(t, ways[w]); w++)
		qsort_r(t->images_by_title, t->n_images, sizeof(*t->images_by_title),
			images_by_title, t);
}

/* ---- what follows from several rows --------------------------------------------------------- */

static uint32_t
object_number(const struct tree *t, const struct digest *d)
{
	size_t i;

	return tree_object_of(t, d, &i) ? (uint32_t)i : TREE_NONE;
}

/* A live image vouches for an object until this moment. */
static void
vouch(struct tree *t, uint32_t object, int64_t image_expires, int64_t list_expires)
{
	int64_t expires = image_expires > 0 ? image_expires : INT64_MAX;

	if (object == TREE_NONE)
		return;
	if (list_expires > 0 && list_expires < expires)
		expires = list_expires;
	if (expires > t->objects[object].expires)
		t->objects[object].expires = expires;
}

static void
note_archive(struct tree *t, uint32_t object, const struct image_meta *m)
{
	if (object != TREE_NONE && image_meta_is_ova(m))
		t->objects[object].ova = true;
}

static void
link_images(struct tree *t)
{
	for (size_t i = 0; i < t->n_images; i++) {
		struct tree_image_slot *slot = &t->images[i];
		const struct image_row *row = &slot->image->row;
		size_t sub;
		int64_t list_expires = tree_sub_at(t, (uint64_t)row->subscription, &sub) ?
			t->subs[sub]->row.expires : 0;

		const struct image_meta *coming = tree_image_coming(slot->image);

		slot->object = object_number(t, &tree_image_shown(slot->image)->sha512);
		slot->cached = object_number(t, &row->meta.sha512);
		slot->pending = coming != NULL ? object_number(t, &coming->sha512) : TREE_NONE;
		note_archive(t, slot->object, tree_image_shown(slot->image));
		note_archive(t, slot->cached, &row->meta);
		t->n_ahead += slot->image->ahead;
		vouch(t, slot->cached, row->meta.expires, list_expires);
		if (row->has_pending)
			vouch(t, object_number(t, &row->pending.sha512), row->pending.expires,
			      list_expires);
	}
}

static void
list_objects(struct tree *t)
{
	size_t o;

	for (size_t i = 0; i < t->n_objects; i++) {
		const struct object_row *row = &t->objects[i].object->row;

		t->objects[i].listed = row->wanted || row->state == OBJECT_VERIFIED;
	}
	for (size_t i = 0; i < t->n_expired; i++)
		if (!t->expired[i]->row.purged &&
		    tree_object_of(t, &t->expired[i]->row.meta.sha512, &o)) {
			t->objects[o].listed = true;
			note_archive(t, (uint32_t)o, &t->expired[i]->row.meta);
		}
}

void
tree_index(struct tree *t)
{
	sort_rows(t);
	t->objects_by_digest = index_make(t, t->n_objects, objects_by_digest);
	t->images_by_name = index_make(t, t->n_images, images_by_name);
	t->expired_by_name = index_make(t, t->n_expired, expired_by_name);
	name_titles(t);
	link_images(t);
	t->images_by_object = index_make(t, t->n_images, images_by_object);
	list_objects(t);
}
