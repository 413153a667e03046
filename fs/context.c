/*
 * context.c - what all operations share, and what happens when rows changed.
 *
 * The order at a change: the new tree is built and swapped in, so that every lookup from now on
 * sees it; then objects that are no longer trusted are cut, which ends their parked reads, and are
 * withdrawn from passthrough; then the kernel is told.  It must be this order: the kernel waits for
 * parked reads when it drops the pages of a file.
 */
#include "config.h"
#include "fs/context.h"

#include <string.h>
#include "core/log.h"
#include "core/stamp.h"
#include "fs/held.h"
#include "fs/openrule.h"

/* `ova' comes or goes in the listing of an image, or its members are others. */
static void
tell_archive(struct notifier *n, uint64_t image, uint64_t object, bool disowned)
{
	uint64_t dir = node_make(KIND_IMAGE_DIR, 0, image, 0);

	if (disowned) {
		notifier_name(n, dir, "ova");	/* and with it all names below */
		notifier_listing(n, node_make(KIND_OVA_DIR, IMAGE_OVA, image, object));
	}
	notifier_listing(n, dir);
}

static void
on_archive(void *arg, const struct digest *d, bool disowned)
{
	struct fs_context *fs = arg;
	struct tree *t;
	size_t i, first, n = 0;

	if (fs->notifier == NULL)
		return;
	t = tree_get(fs->holder);
	if (tree_object_of(t, d, &i))
		tree_images_of(t, i, &first, &n);
	for (size_t k = 0; k < n; k++)
		tell_archive(fs->notifier,
			     t->images[t->images_by_object[first + k]].image->base.row,
			     t->objects[i].object->base.row, disowned);
	tree_unref(t);
}

void
fs_context_init(struct fs_context *fs, const struct conf *conf, struct store *store,
		struct blobs *blobs)
{
	memset(fs, 0, sizeof(*fs));
	fs->holder = tree_holder_new();
	fs->pins = pins_new();
	fs->snapshots = snapshots_new();
	fs->held = held_new();
	fs->ovas = ovas_new(on_archive, fs);
	fs->conf = conf;
	fs->store = store;
	fs->blobs = blobs;
	atomic_init(&fs->expired_open_deny, conf != NULL && conf->expired_open_deny);
}

void
fs_context_release(struct fs_context *fs)
{
	notifier_free(fs->notifier);
	ovas_free(fs->ovas);
	held_free(fs->held);
	snapshots_free(fs->snapshots);
	pins_free(fs->pins);
	tree_holder_free(fs->holder);
	memset(fs, 0, sizeof(*fs));
}

void
fs_status(struct fs_context *fs, struct engine_status *out)
{
	memset(out, 0, sizeof(*out));
	if (fs->engine != NULL)
		engine_status(fs->engine, out);
}

void
fs_progress(struct fs_context *fs, const struct digest *d, struct engine_progress *out)
{
	memset(out, 0, sizeof(*out));
	if (fs->engine != NULL)
		engine_progress(fs->engine, d, out);
}

void
fs_used(struct fs_context *fs, const struct digest *d)
{
	if (fs->engine != NULL)
		engine_used(fs->engine, d);
}

int
fs_may_open(struct fs_context *fs, const struct object_row *row,
	    const struct tree_object_slot *slot)
{
	bool partial = row->state != OBJECT_VERIFIED && row->has_tree;

	return openrule_decide(row, slot, stamp_now(), atomic_load(&fs->expired_open_deny),
			       partial && blob_is_open(fs->blobs, &row->digest));
}

/* What the record of its last leaving says of a digest that no row names any more. */
static bool
is_disowned(const struct tree *t, const struct digest *d)
{
	for (size_t i = t->n_expired; i-- > 0;)
		if (digest_equal(&t->expired[i]->row.meta.sha512, d))
			return t->expired[i]->row.distrusted;
	return false;
}

/*
 * An object whose bytes were not yet in the catalogue, or are purged already, leaves without a
 * row that says distrusted; but someone may have it open.
 */
static void
cut_disowned(struct fs_context *fs, const struct tree *old, const struct tree *new)
{
	size_t i;

	for (size_t k = 0; k < old->n_objects; k++) {
		const struct object_row *row = &old->objects[k].object->row;

		if (!tree_object_at(new, (uint64_t)row->id, &i) &&
		    blob_is_open(fs->blobs, &row->digest) && is_disowned(new, &row->digest))
			blob_cut(fs->blobs, &row->digest, true);
	}
}

/* Open files of objects that lost, or got back, their trust. */
static void
cut_distrusted(struct fs_context *fs, const struct tree *old, const struct tree *new)
{
	size_t i;

	for (size_t k = 0; k < new->n_objects; k++) {
		const struct object_row *row = &new->objects[k].object->row;
		bool distrusted = row->access == ACCESS_DISTRUSTED, was = false;

		if (tree_object_at(old, (uint64_t)row->id, &i))
			was = old->objects[i].object->row.access == ACCESS_DISTRUSTED;
		if (was != distrusted)
			blob_cut(fs->blobs, &row->digest, distrusted);
	}
}

/* Readers that wait are to know how long: a stream has more time than a block. */
static void
tell_modes(struct fs_context *fs, const struct tree *old, const struct tree *new)
{
	size_t i;

	for (size_t k = 0; k < new->n_objects; k++) {
		const struct object_row *row = &new->objects[k].object->row;

		if (tree_object_at(old, (uint64_t)row->id, &i) &&
		    new->objects[k].object != old->objects[i].object &&
		    blob_row_is_lazy(row) != blob_row_is_lazy(&old->objects[i].object->row))
			blob_mode(fs->blobs, row);
	}
}

static enum passthrough_fate
judge_passthrough(void *arg, const struct digest *d)
{
	const struct tree *t = arg;
	const struct object_row *row;
	size_t i;

	if (!tree_object_of(t, d, &i))
		return PASSTHROUGH_GONE;
	row = &t->objects[i].object->row;
	/* Of a degraded one bad bytes are known: it has to be hashed from end to end again. */
	if (row->state != OBJECT_VERIFIED || row->degraded)
		return PASSTHROUGH_GONE;
	return row->access == ACCESS_DISTRUSTED ? PASSTHROUGH_DENIED : PASSTHROUGH_FREE;
}

struct archives {
	struct fs_context *fs;
	const struct tree *tree;
};

/*
 * What was read block by block is disowned when the whole is not what was signed.  Of an archive
 * that has left, members may be open since another worker, which has counted them.
 */
static enum ova_fate
judge_archive(void *arg, const struct digest *d)
{
	const struct archives *a = arg;
	const struct object_row *row;
	size_t i;

	if (!tree_object_of(a->tree, d, &i))
		return a->fs->blobs != NULL && blob_is_open(a->fs->blobs, d) ? OVA_KEEP :
									       OVA_UNUSED;
	row = &a->tree->objects[i].object->row;
	return row->state == OBJECT_FAILED && row->code == CODE_BLOCK_DIGEST ? OVA_DISOWNED :
									       OVA_KEEP;
}

static const struct record *
newest_record(void *arg, enum record_class class, uint64_t row)
{
	size_t slot;

	return tree_record(arg, class, row, &slot);
}

uint64_t
fs_tree_refresh(struct fs_context *fs, struct catalogue *c)
{
	struct tree *prev = tree_get(fs->holder), *next = NULL;
	struct err err = { 0 };
	uint64_t serial;

	if (tree_build(c, fs->conf, fs->store, prev, &next, &err) < 0) {
		log_err(LOG_LVL_ERROR, "tree", &err);
		tree_unref(prev);
		return ENGINE_NOT_SHOWN;
	}
	serial = fs->notifier != NULL ? next->serial : 0;
	tree_ref(next);
	tree_unref(tree_swap(fs->holder, next));
	pins_renew(fs->pins, newest_record, next);
	if (fs->blobs != NULL) {
		cut_distrusted(fs, prev, next);
		cut_disowned(fs, prev, next);
		tell_modes(fs, prev, next);
	}
	if (fs->passthrough != NULL)
		passthrough_review(fs->passthrough, judge_passthrough, next);
	ovas_review(fs->ovas, judge_archive, &(struct archives){ fs, next });
	notifier_swapped(fs->notifier, prev, next);
	return serial;
}

void
fs_image_activity(struct fs_context *fs, const struct digest *d, bool active)
{
	/* Either way what was remembered is no longer true. */
	if (fs->n_active != NULL)
		*fs->n_active += active ? 1 : -1;
	if (fs->notifier != NULL)
		notifier_activity(fs->notifier, tree_get(fs->holder), d);
}
