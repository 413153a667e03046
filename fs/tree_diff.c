/*
 * tree_diff.c - which names and attributes differ between two trees.
 *
 * Both trees are in order of row id: each kind of row is one merge.  The kernel remembers names,
 * also names that were not there, for a day; a name is told when a lookup of it would now give
 * another node, or none, or one where there was none.  The order matters: the entries of a
 * directory come before the directory itself.  The kernel serves an invalidation of a name under
 * the directory's lock, so that a listing which was begun with the old tree has ended when the
 * directory's cached listing is dropped after it.
 */
#include "config.h"
#include "fs/tree_diff.h"

#include <stdio.h>
#include <string.h>
#include "core/limits.h"
#include "fs/listing.h"

struct diff {
	const struct tree *old, *new;
	const struct tree_diff_ops *ops;
	void *arg;
	bool listing[N_STATIC_DIRS];	/* its names changed */
};

static void
tell_entry(struct diff *d, uint64_t parent, const char *name)
{
	if (d->ops->entry != NULL)
		d->ops->entry(d->arg, parent, name);
}

static void
tell_inode(struct diff *d, uint64_t node, bool data)
{
	if (d->ops->inode != NULL)
		d->ops->inode(d->arg, node, data);
}

/* A name in a static directory came or went (listed), or leads elsewhere. */
static void
tell_static(struct diff *d, enum static_dir dir, const char *name, bool listed)
{
	tell_entry(d, node_dir(dir), name);
	if (listed)
		d->listing[dir] = true;
}

static void
tell_listing(struct diff *d, uint64_t dir, int (*listing)(size_t i, struct listing *out))
{
	struct listing entry;
	int rc;

	for (size_t i = 0; (rc = listing(i, &entry)) >= 0; i++)
		if (rc > 0)
			tell_entry(d, dir, entry.name);
	tell_inode(d, dir, true);
}

/*
 * The next pair of a merge of two arrays by row id: SIZE_MAX stands for absent.  False when both
 * are at their end.
 */
struct merge {
	size_t old, new;	/* the pair */
	size_t i, k;		/* the next ones */
};

static bool
merge_next(struct merge *m, const struct record *old, const struct record *new)
{
	m->old = m->new = SIZE_MAX;
	if (old == NULL && new == NULL)
		return false;
	if (old != NULL && (new == NULL || old->row <= new->row))
		m->old = m->i++;
	if (new != NULL && (old == NULL || new->row <= old->row))
		m->new = m->k++;
	return true;
}

/* ---- images --------------------------------------------------------------------------------- */

static void
tell_sub_image(struct diff *d, const struct tree_image *image)
{
	uint64_t dir = node_make(KIND_SUB_IMAGES_DIR, SUB_IMAGES,
				 (uint64_t)image->row.subscription, 0);

	tell_entry(d, dir, image->row.name);
	tell_inode(d, dir, true);
}

static void
image_came_or_went(struct diff *d, const struct tree *t, size_t i)
{
	const struct tree_image_slot *slot = &t->images[i];

	tell_static(d, DIR_IMAGES, slot->image->row.name, true);
	tell_static(d, DIR_BY_TITLE, slot->title_name, true);
	if (tree_image_is_cached(t, i))
		tell_static(d, DIR_CACHE, slot->image->row.name, true);
	tell_sub_image(d, slot->image);
}

/*
 * An image may come back, as the same directory.  What programs still hold open in it would then
 * be found there again, so that its names are taken back too.
 */
static void
image_went(struct diff *d, size_t i)
{
	tell_listing(d, node_make(KIND_IMAGE_DIR, 0, d->old->images[i].image->base.row, 0),
		     listing_image);
	image_came_or_went(d, d->old, i);
}

/* The files that show the object's row, and through them the image's. */
static bool
object_files_differ(const struct diff *d, size_t old, size_t new)
{
	return tree_image_state(d->old, old, false) != tree_image_state(d->new, new, false) ||
	       strcmp(tree_image_error(d->old, old, NULL),
		      tree_image_error(d->new, new, NULL)) != 0;
}

/* Whether `ova' is there, and whose members are in it. */
static bool
archives_differ(const struct diff *d, size_t old, size_t new)
{
	const struct tree_object *o = tree_image_archive(d->old, old);
	const struct tree_object *n = tree_image_archive(d->new, new);

	return (o != NULL ? o->base.row : 0) != (n != NULL ? n->base.row : 0);
}

/* These links stay the same nodes for ever; their time is that of the image. */
static void
tell_link_times(struct diff *d, uint64_t row)
{
	tell_inode(d, node_make(KIND_TITLE_LINK, IMAGE_IN_TITLES, row, 0), false);
	tell_inode(d, node_make(KIND_SUB_IMAGE_LINK, IMAGE_IN_SUBSCRIPTION, row, 0), false);
}

static void
image_stayed(struct diff *d, size_t old, size_t new)
{
	const struct tree_image_slot *o = &d->old->images[old], *n = &d->new->images[new];
	uint64_t dir = node_make(KIND_IMAGE_DIR, 0, n->image->base.row, 0);
	bool was_cached = tree_image_is_cached(d->old, old);
	bool is_cached = tree_image_is_cached(d->new, new);
	bool other = o->image->base.rev != n->image->base.rev;

	if (strcmp(o->title_name, n->title_name) != 0) {
		tell_static(d, DIR_BY_TITLE, o->title_name, true);
		tell_static(d, DIR_BY_TITLE, n->title_name, true);
	}
	if (was_cached != is_cached || (is_cached && other))
		tell_static(d, DIR_CACHE, n->image->row.name, was_cached != is_cached);
	if (other || object_files_differ(d, old, new) || archives_differ(d, old, new))
		tell_listing(d, dir, listing_image);
	if (tree_image_shown(o->image)->created != tree_image_shown(n->image)->created)
		tell_link_times(d, n->image->base.row);
	if (o->image->row.subscription != n->image->row.subscription) {
		tell_sub_image(d, o->image);
		tell_sub_image(d, n->image);
	}
}

static void
diff_images(struct diff *d)
{
	const struct tree *o = d->old, *n = d->new;
	struct merge m = { 0, 0, 0, 0 };

	while (merge_next(&m, m.i < o->n_images ? &o->images[m.i].image->base : NULL,
			  m.k < n->n_images ? &n->images[m.k].image->base : NULL)) {
		if (m.new == SIZE_MAX)
			image_went(d, m.old);
		else if (m.old == SIZE_MAX)
			image_came_or_went(d, n, m.new);
		else
			image_stayed(d, m.old, m.new);
	}
}

/* ---- objects -------------------------------------------------------------------------------- */

static void
tell_object(struct diff *d, const struct tree_object *object, bool listed)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(&object->row.digest, hex);
	tell_static(d, DIR_BY_SHA512, hex, listed);
}

/* Which members it has is not known here; of a node that it has not, the kernel knows nothing. */
static void
tell_members(struct diff *d, const struct tree_object *object, bool data)
{
	tell_inode(d, node_make(KIND_OVA_ERROR, 0, object->base.row, 0), data);
	for (unsigned i = 0; i < LIMIT_TAR_MEMBERS; i++)
		tell_inode(d, node_make(KIND_OVA_FILE, i, object->base.row, 0), data);
}

static void
tell_generations(struct diff *d, const struct tree_object *object, bool ova, bool data)
{
	tell_inode(d, node_make(KIND_OBJECT, 0, object->base.row, 0), data);
	tell_inode(d, node_make(KIND_OBJECT, 0, object->base.row, 1), data);
	tell_inode(d, node_make(KIND_OBJECT, 0, object->base.row, NODE_PASSTHROUGH), data);
	if (ova)
		tell_members(d, object, data);
}

static void
object_stayed(struct diff *d, const struct tree_object_slot *old,
	      const struct tree_object_slot *new)
{
	const struct object_row *o = &old->object->row, *n = &new->object->row;
	bool verified = (o->state == OBJECT_VERIFIED) != (n->state == OBJECT_VERIFIED);
	bool trust = (o->access == ACCESS_DISTRUSTED) != (n->access == ACCESS_DISTRUSTED);
	bool ova = old->ova || new->ova;

	if (old->listed != new->listed || (new->listed && verified))
		tell_object(d, new->object, old->listed != new->listed);
	/* Read block by block until the whole turned out not to be what was signed. */
	if (trust || (o->has_tree && o->state == OBJECT_MISSING && n->state == OBJECT_FAILED))
		tell_generations(d, new->object, ova, true);
	else if (verified || o->mtime != n->mtime ||
		 old->object->blocks != new->object->blocks)
		tell_generations(d, new->object, ova, false);
}

/* It may have left because it is distrusted: its pages go, too. */
static void
object_went(struct diff *d, const struct tree_object_slot *old)
{
	if (old->listed)
		tell_object(d, old->object, true);
	tell_generations(d, old->object, old->ova, true);
}

static void
diff_objects(struct diff *d)
{
	const struct tree *o = d->old, *n = d->new;
	struct merge m = { 0, 0, 0, 0 };

	while (merge_next(&m, m.i < o->n_objects ? &o->objects[m.i].object->base : NULL,
			  m.k < n->n_objects ? &n->objects[m.k].object->base : NULL)) {
		if (m.old != SIZE_MAX && m.new != SIZE_MAX)
			object_stayed(d, &o->objects[m.old], &n->objects[m.new]);
		else if (m.old != SIZE_MAX)
			object_went(d, &o->objects[m.old]);
		else if (m.new != SIZE_MAX && n->objects[m.new].listed)
			tell_object(d, n->objects[m.new].object, true);
	}
}

/* ---- subscriptions, endorsers, expired images ----------------------------------------------- */

/* dir/<one name for each entry of the other>: all of them, for these rows change rarely. */
static void
tell_refused(struct diff *d, const struct tree_sub *sub)
{
	uint64_t dir = node_make(KIND_SUB_REFUSED_DIR, SUB_REFUSED, sub->base.row, 0);

	for (size_t i = 0; i < sub->n_refused; i++)
		tell_entry(d, dir, sub->refused[i]->name);
	tell_inode(d, dir, true);
}

static void
diff_subs(struct diff *d)
{
	const struct tree *o = d->old, *n = d->new;
	struct merge m = { 0, 0, 0, 0 };

	while (merge_next(&m, m.i < o->n_subs ? &o->subs[m.i]->base : NULL,
			  m.k < n->n_subs ? &n->subs[m.k]->base : NULL)) {
		if (m.new == SIZE_MAX) {
			tell_static(d, DIR_SUBSCRIPTIONS, o->subs[m.old]->row.name, true);
		} else if (m.old == SIZE_MAX) {
			tell_static(d, DIR_SUBSCRIPTIONS, n->subs[m.new]->row.name, true);
		} else if (o->subs[m.old] != n->subs[m.new]) {
			tell_listing(d, node_make(KIND_SUB_DIR, 0, n->subs[m.new]->base.row, 0),
				     listing_sub);
			tell_inode(d, node_make(KIND_SUB_IMAGES_DIR, SUB_IMAGES,
						n->subs[m.new]->base.row, 0), false);
			tell_refused(d, o->subs[m.old]);
			tell_refused(d, n->subs[m.new]);
		}
	}
}

/* endorsers/<name>/subscriptions/<list>: the names come from the subscriptions of the tree. */
static void
tell_links(struct diff *d, const struct tree *t, const struct tree_endorser *endorser)
{
	uint64_t dir = node_make(KIND_ENDORSER_SUBS_DIR, ENDORSER_SUBS, endorser->base.row, 0);
	size_t s;

	for (size_t i = 0; i < endorser->n_subs; i++)
		if (tree_sub_at(t, (uint64_t)endorser->subs[i], &s))
			tell_entry(d, dir, t->subs[s]->row.name);
	tell_inode(d, dir, true);
}

static void
diff_endorsers(struct diff *d)
{
	const struct tree *o = d->old, *n = d->new;
	struct merge m = { 0, 0, 0, 0 };

	while (merge_next(&m, m.i < o->n_endorsers ? &o->endorsers[m.i]->base : NULL,
			  m.k < n->n_endorsers ? &n->endorsers[m.k]->base : NULL)) {
		if (m.new == SIZE_MAX) {
			tell_static(d, DIR_ENDORSERS, o->endorsers[m.old]->row.dir, true);
		} else if (m.old == SIZE_MAX) {
			tell_static(d, DIR_ENDORSERS, n->endorsers[m.new]->row.dir, true);
		} else if (o->endorsers[m.old] != n->endorsers[m.new]) {
			const struct tree_endorser *e = n->endorsers[m.new];

			tell_listing(d, node_make(KIND_ENDORSER_DIR, 0, e->base.row, 0),
				     listing_endorser);
			tell_links(d, o, o->endorsers[m.old]);
			tell_links(d, n, e);
		}
	}
}

static void
diff_expired(struct diff *d)
{
	const struct tree *o = d->old, *n = d->new;
	struct merge m = { 0, 0, 0, 0 };

	while (merge_next(&m, m.i < o->n_expired ? &o->expired[m.i]->base : NULL,
			  m.k < n->n_expired ? &n->expired[m.k]->base : NULL)) {
		if (m.new == SIZE_MAX)
			tell_static(d, DIR_EXPIRED, o->expired[m.old]->row.name, true);
		else if (m.old == SIZE_MAX)
			tell_static(d, DIR_EXPIRED, n->expired[m.new]->row.name, true);
		else if (o->expired[m.old]->base.rev != n->expired[m.new]->base.rev)
			tell_listing(d, node_make(KIND_EXPIRED_DIR, 0,
						  n->expired[m.new]->base.row, 0),
				     listing_expired);
	}
}

void
tree_diff(const struct tree *old, const struct tree *new, const struct tree_diff_ops *ops,
	  void *arg)
{
	struct diff d = { .old = old, .new = new, .ops = ops, .arg = arg };

	/* What links lead to comes first: no new link leads to a name remembered as missing. */
	diff_objects(&d);
	diff_subs(&d);
	diff_endorsers(&d);
	diff_expired(&d);
	diff_images(&d);
	for (int dir = 0; dir < N_STATIC_DIRS; dir++)
		if (d.listing[dir])
			tell_inode(&d, node_dir((enum static_dir)dir), true);
}

void
tree_diff_activity(const struct tree *t, const struct digest *digest,
		   const struct tree_diff_ops *ops, void *arg)
{
	static const char *const names[] = { "state", "progress", "pending", "error" };
	struct diff d = { .old = t, .new = t, .ops = ops, .arg = arg };

	for (size_t i = 0; i < t->n_images; i++) {
		const struct image_row *row = &t->images[i].image->row;
		uint64_t dir = node_make(KIND_IMAGE_DIR, 0, (uint64_t)row->id, 0);

		if (!digest_equal(&row->meta.sha512, digest) &&
		    !(row->has_pending && digest_equal(&row->pending.sha512, digest)))
			continue;
		for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++)
			tell_entry(&d, dir, names[k]);
	}
}
