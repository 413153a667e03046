/*
 * Images in block mode when the rows of the catalogue have changed, and those that nobody wants any
 * more: withdrawn, replaced, past their date, deselected.
 *
 *   wanted as before             goes on
 *   another root, or none        begins anew
 *   unwanted, but open           lingers: it is read as before, and filled to its end at once,
 *                                because its publisher may take the file away; then it is the
 *                                object, and kept as any image that has expired
 *   unwanted and not open        dropped: file, tree, map, row
 *   distrusted                   dropped at once; the mount has cut who has it open
 *
 * So a machine that runs from an image survives that the list drops it.  Who closes it is not told
 * to the engine: it looks each LINGER_MS.  At a start nothing is open.
 *
 * What is dropped goes before its row does: a crash in between leaves a row without a file, which
 * the next start forgets.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "cleanup.h"
#include "log.h"
#include "plan.h"

enum { LINGER_MS = 1000 };

static bool
may_linger(struct engine *e, const struct object_row *row)
{
	return !row->wanted && row->access != ACCESS_DISTRUSTED && row->has_tree &&
	       plan_blocks(row) && engine_is_open(e, &row->digest);
}

/* ---- jobs ---------------------------------------------------------------------------------- */

enum fate { FATE_STAYS, FATE_ENDS, FATE_BEGINS_ANEW };

/* Both end by themselves soon, as the object. */
static bool
is_whole(const struct lazyjob *job)
{
	return job->state == LAZYJOB_CHECKING || job->state == LAZYJOB_STORED;
}

static enum fate
judge(struct engine *e, struct lazyjob *job, const struct object_row *row)
{
	bool same = plan_blocks(row) && row->size == job->size &&
		    digest_equal(&row->root, &job->root);

	job->withdrawn = !row->wanted;
	if (is_whole(job))
		return FATE_STAYS;
	if (row->state == OBJECT_VERIFIED)
		return FATE_BEGINS_ANEW;
	if (job->withdrawn)
		return same && may_linger(e, row) ? FATE_STAYS : FATE_ENDS;
	job->pending = row->pending;
	return same ? FATE_STAYS : FATE_BEGINS_ANEW;
}

/* Withdrawn; or the row now says something else of it than it did when the job began. */
static void
end(struct engine *e, struct lazyjob *job, enum fate fate)
{
	struct digest d = job->digest;
	bool served = job->file != NULL;
	bool needed = job->waiting || job->asked || (served && engine_is_open(e, &d));
	struct err why = { 0 };

	engine_drop_lazyjob(e, job);
	store_blocks_drop(e->config.store, &d);
	if (served)
		engine_tell_lost(e, &d);
	engine_tell_activity(e, &d, false);
	if (!needed)
		return;
	if (fate == FATE_BEGINS_ANEW) {
		engine_request(e, &d, false);
		return;
	}
	err_set(&why, ENOENT, "the image was withdrawn while it was being fetched");
	engine_answer(e, &d, why.rc, NULL, &why);
}

void
engine_review_lazyjobs(struct engine *e)
{
	struct lazyjob *job, *next;

	for (job = e->lazyjobs; job != NULL; job = next) {
		enum fate fate = FATE_ENDS;
		struct object_row row;
		struct err err = { 0 };

		next = job->next;
		if (catalogue_object_get(e->catalogue, &job->digest, &row, &err) == 0) {
			fate = judge(e, job, &row);
			object_row_release(&row);
		}
		if (fate != FATE_STAYS)
			end(e, job, fate);
	}
}

void
engine_end_lingering(struct engine *e)
{
	struct lazyjob *job, *next;
	bool any = false;

	for (job = e->lazyjobs; job != NULL; job = next) {
		next = job->next;
		if (!job->withdrawn || is_whole(job) || engine_is_open(e, &job->digest))
			continue;
		end(e, job, FATE_ENDS);
		any = true;
	}
	if (any)
		engine_drop_unwanted(e);
}

int
engine_linger_wait(const struct engine *e)
{
	for (const struct lazyjob *job = e->lazyjobs; job != NULL; job = job->next)
		if (job->withdrawn && !is_whole(job))
			return LINGER_MS;
	return -1;
}

/* ---- rows ---------------------------------------------------------------------------------- */

struct unwanted {
	struct engine *e;
	bool awaiting;			/* lists that may name any object */
	struct leftover {
		struct digest digest;
		bool begun;		/* a transfer of it */
	} *items;
	size_t n;
};

static int
look_at(void *arg, const struct object_row *row)
{
	struct unwanted *u = arg;
	struct engine *e = u->e;

	if (row->wanted || row->state == OBJECT_VERIFIED || engine_is_fetching(e, &row->digest) ||
	    engine_is_to_adopt(e, &row->digest))
		return 0;
	/* Open, but nobody has read of it since the daemon let go of it. */
	if (may_linger(e, row)) {
		engine_add_lazyjob(e, row)->withdrawn = true;
		return 0;
	}
	/* Hidden, it may be, while its list cannot be believed; not so what is distrusted. */
	if (u->awaiting && row->access != ACCESS_DISTRUSTED)
		return 0;
	/* A note of where its bytes came from is left by every transfer that began. */
	if (row->etag_url[0] == '\0' && row->access == ACCESS_OK)
		return 0;
	u->items = xrealloc(u->items, (u->n + 1) * sizeof(*u->items));
	u->items[u->n++] = (struct leftover){ row->digest, row->etag_url[0] != '\0' };
	return 0;
}

/* It may be an object already whose row could not be written before it left. */
static int
abandon(struct engine *e, const struct leftover *l, struct err *err)
{
	const struct digest *d = &l->digest;
	int rc = l->begun ? store_object_remove(e->config.store, d, err) : 0;

	store_partial_drop(e->config.store, d);
	store_blocks_drop(e->config.store, d);
	if (rc == 0)
		rc = catalogue_begin(e->catalogue, err);
	if (rc == 0)
		rc = catalogue_object_abandoned(e->catalogue, d, err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, err);
	if (rc != 0)
		catalogue_rollback(e->catalogue);
	return rc;
}

bool
engine_is_nobodys(struct engine *e, const struct digest *d)
{
	bool awaiting = catalogue_lists_awaited(e->catalogue) != 0;
	struct object_row row;
	int rc = catalogue_object_get(e->catalogue, d, &row, NULL);

	if (rc == 0 && (row.wanted || row.state == OBJECT_VERIFIED || row.access == ACCESS_OK))
		awaiting = true;
	else if (rc == 0 && row.access == ACCESS_DISTRUSTED)
		awaiting = false;
	object_row_release(&row);
	return (rc == 0 || rc == -ENOENT) && !awaiting;
}

void
engine_drop_unwanted(struct engine *e)
{
	struct unwanted u = { .e = e, .awaiting = catalogue_lists_awaited(e->catalogue) != 0 };
	struct err err = { 0 };
	char hex[DIGEST_HEX + 1];

	if (catalogue_object_each(e->catalogue, look_at, &u, &err) != 0)
		log_err(LOG_LVL_ERROR, "partial files", &err);
	for (size_t i = 0; i < u.n; i++) {
		digest_hex(&u.items[i].digest, hex);
		if (abandon(e, &u.items[i], &err) != 0)
			log_err(LOG_LVL_ERROR, hex, &err);
		else
			log_info("%s: not wanted any more, what was here of it is dropped", hex);
	}
	if (u.n > 0)
		engine_rows_changed(e);
	free(u.items);
}
