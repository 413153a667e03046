/*
 * What leaves the cache: to make room (engine_room.c), or by an admin's word.
 *
 * First its rows, in one transaction that also notes it as leaving; then whatever of the engine
 * works on it; then the view of the mount; then its files; then the note.  A crash anywhere in
 * between is finished at the next start (engine_finish_leaving()).
 *
 * What is open stays: readers that have it open go on, and who opens it a moment too late to be
 * seen finds the file gone, and has it fetched again.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "evict.h"

/*
 * Nobody works on it any more.  A lazyjob rests and is not freed: somebody may be walking the list
 * of them.
 */
static void
let_go(struct engine *e, const struct digest *d)
{
	struct lazyjob *lazyjob = engine_find_lazyjob(e, d);
	struct job *job = engine_find_job(e, d);
	bool waited_for = (lazyjob != NULL && (lazyjob->waiting || lazyjob->asked)) ||
			  (job != NULL && job->waiting);
	struct err why = { 0 };

	waited_for = engine_adopt_never(e, d) || waited_for;
	if (lazyjob != NULL) {
		passes_cancel(e->passes, PASS_COMMIT, d);
		engine_stop_lazyjob(e, lazyjob);
		lazyjob->state = LAZYJOB_QUEUED;
		lazyjob->rooted = lazyjob->waiting = lazyjob->asked = lazyjob->was_whole = false;
		lazyjob->bytes = 0;
	}
	if (job != NULL && job->state != JOB_STORING)
		engine_drop_job(e, job);
	err_set(&why, ENOENT, "the image was evicted while it was being fetched");
	if (waited_for)
		engine_answer(e, d, why.rc, NULL, &why);
	engine_drop_heal(e, d);
	err_set(&why, ENOENT, "the image was evicted");
	engine_drop_examination(e, d, &why);
	engine_tell_lost(e, d);
	engine_tell_activity(e, d, false);
}

static int
remove_files(struct engine *e, const struct digest *d, struct err *err)
{
	store_partial_drop(e->config.store, d);
	store_blocks_drop(e->config.store, d);
	return store_object_remove(e->config.store, d, err);
}

/* By the row of now: others may have pinned or selected it since it was chosen. */
static bool
may_still_go(const struct evict_item *item, const struct object_row *row)
{
	if (row->pinned)
		return false;
	if (item->kind == EVICT_PARTIAL || item->kind == EVICT_FILLING)
		return row->state != OBJECT_VERIFIED;
	return item->kind == EVICT_SELECTED || !row->wanted;
}

/* EVICT_NEVER: it stays.  One whose row has gone leaves nothing but its files. */
static int
change_row(struct engine *e, struct evict_item *item, struct err *err)
{
	struct object_row row = { 0 };
	struct err why = { 0 };
	int rc = catalogue_object_get(e->catalogue, &item->digest, &row, &why);

	if (rc != 0 && rc != -ENOENT) {
		*err = why;
		return rc;
	}
	if (engine_is_open(e, &item->digest) || (rc == 0 && !may_still_go(item, &row)))
		item->kind = EVICT_NEVER;
	object_row_release(&row);
	if (item->kind == EVICT_NEVER)
		return 0;
	return catalogue_object_evicted(e->catalogue, &item->digest, err);
}

/* In one transaction; what somebody has opened, pinned or selected meanwhile stays. */
static int
change_rows(struct engine *e, struct evict_item *items, size_t n, struct err *err)
{
	int rc = catalogue_begin(e->catalogue, err);

	for (size_t i = 0; rc == 0 && i < n; i++)
		if (items[i].kind != EVICT_QUARANTINE)
			rc = change_row(e, &items[i], err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, err);
	if (rc != 0)
		catalogue_rollback(e->catalogue);
	return rc;
}

static bool
has_files(const struct evict_item *item)
{
	return item->kind != EVICT_QUARANTINE && item->kind != EVICT_NEVER;
}

static void
note_evicted(struct engine *e, const struct evict_item *item)
{
	static const char *const words[] = {
		[EVICT_QUARANTINE] = "in quarantine", [EVICT_PARTIAL] = "fetched in part",
		[EVICT_EXPIRED] = "expired", [EVICT_UNSELECTED] = "not selected",
		[EVICT_FILLING] = "nobody waits for it", [EVICT_SELECTED] = "not used for long",
	};
	char hex[DIGEST_HEX + 1];

	digest_hex(&item->digest, hex);
	log_info("%s: evicted to make room, %lld bytes (%s)", hex, (long long)item->bytes,
		 words[item->kind]);
	pthread_mutex_lock(&e->lock);
	e->status.evicted_images += item->kind != EVICT_QUARANTINE;
	e->status.evicted_bytes += item->bytes;
	pthread_mutex_unlock(&e->lock);
}

/* What remains if this fails is removed at the next start. */
static void
forget_leaving(struct engine *e, const struct evict_item *items, size_t n)
{
	struct err err = { 0 };
	int rc = catalogue_begin(e->catalogue, &err);

	for (size_t i = 0; rc == 0 && i < n; i++)
		if (has_files(&items[i]))
			rc = catalogue_object_left(e->catalogue, &items[i].digest, &err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, &err);
	if (rc == 0)
		return;
	catalogue_rollback(e->catalogue);
	log_err(LOG_LVL_WARNING, "eviction", &err);
}

int
engine_evict_items(struct engine *e, struct evict_item *items, size_t n, struct err *err)
{
	int rc = change_rows(e, items, n, err), last = 0;

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < n; i++)
		if (has_files(&items[i]))
			let_go(e, &items[i].digest);
	engine_rows_changed(e);
	for (size_t i = 0; i < n; i++) {
		const struct evict_item *item = &items[i];

		if (item->kind == EVICT_NEVER)
			continue;
		if (item->kind == EVICT_QUARANTINE)
			rc = store_quarantine_drop(e->config.store, &item->digest, item->since,
						   err);
		else
			rc = remove_files(e, &item->digest, err);
		if (rc == 0)
			note_evicted(e, item);
		else
			last = rc;
	}
	if (last == 0)
		forget_leaving(e, items, n);
	e->room.planned_at = 0;
	return last;
}

int
engine_evict(struct engine *e, const struct digest *d, struct err *err)
{
	/* Also if it is selected. */
	struct evict_item item = { .kind = EVICT_SELECTED, .digest = *d };
	const struct job *job = engine_find_job(e, d);
	struct object_row row;
	int rc;

	if (engine_is_open(e, d))
		return err_refuse(err, CODE_BUSY, "the image is open; close what reads it first");
	if (job != NULL && job->state == JOB_STORING)
		return err_refuse(err, CODE_BUSY, "the image is just being stored");
	rc = catalogue_object_get(e->catalogue, d, &row, err);
	if (rc == 0 && row.pinned)
		rc = err_refuse(err, CODE_BUSY, "the image is pinned; 'vmimagectl unpin' it first");
	object_row_release(&row);
	if (rc != 0)
		return rc;
	rc = change_rows(e, &item, 1, err);
	if (rc == 0 && item.kind == EVICT_NEVER)
		rc = err_refuse(err, CODE_BUSY, "the image has just been opened or pinned");
	if (rc != 0)
		return rc;
	let_go(e, d);
	engine_rows_changed(e);
	rc = remove_files(e, d, err);
	if (rc == 0)
		forget_leaving(e, &item, 1);
	e->room.planned_at = 0;
	return rc;
}

struct left_over {
	struct digest *items;
	size_t n;
};

static int
note_leaving(void *arg, const struct digest *d)
{
	struct left_over *l = arg;

	l->items = xrealloc(l->items, (l->n + 1) * sizeof(*l->items));
	l->items[l->n++] = *d;
	return 0;
}

/* What is verified came after it. */
static int
finish(struct engine *e, const struct digest *d, struct err *err)
{
	struct object_row row = { 0 };
	int rc = catalogue_object_get(e->catalogue, d, &row, err);

	if (rc == -ENOENT || (rc == 0 && row.state != OBJECT_VERIFIED))
		rc = remove_files(e, d, err);
	object_row_release(&row);
	return rc == 0 ? catalogue_object_left(e->catalogue, d, err) : rc;
}

void
engine_finish_leaving(struct engine *e)
{
	struct left_over l = { NULL, 0 };
	struct err err = { 0 };

	if (catalogue_leaving_each(e->catalogue, note_leaving, &l, &err) != 0)
		log_err(LOG_LVL_ERROR, "catalogue", &err);
	for (size_t i = 0; i < l.n; i++)
		if (finish(e, &l.items[i], &err) != 0)
			log_err(LOG_LVL_ERROR, "eviction", &err);
	free(l.items);
}
