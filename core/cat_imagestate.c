/*
 * cat_imagestate.c - what becomes of one image: it is selected, replaced, leaves, comes back.
 *
 * A row is kept for each identifier, so that a selection outlives an image's absence, until its
 * subscription is removed or nobody would miss it (cat_forget.c).
 *
 *   live        the current list of a subscription in ok or failed names it, within its dates
 *   selected    the admin wants it (kept while it is not live)
 *   announced   Available events were sent and no Expire events since
 *   pending     the list names a newer version than the one that is served
 *
 * Invariants
 *   pending    => live and selected, and the current object was stored when pending began
 *   announced  => selected; and live, unless the stored list was lost to damage: then the images
 *                 are hidden without a word until the list is fetched again
 *
 * "Withdrawing" writes history: an expired row when someone may have seen bytes or wished for
 * them, Expire events when Available ones had been sent.  An expired row without stored bytes is
 * born purged.  Part of the bytes count as stored unless they are distrusted: who reads them block
 * by block is to go on, a stream whose last bytes are just becoming durable ends as the version
 * that left, and the engine drops the rest.  Of a pending version only blocks can have been read.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "safename.h"
#include "stamp.h"

static void
read_brief(struct cat_query *q, struct image_brief *b)
{
	b->id = next_int(q);
	b->subscription = next_int(q);
	b->meta = next_int(q);
	b->pending = next_int(q);
	b->live = next_bool(q);
	b->selected = next_bool(q);
	b->announced = next_bool(q);
	b->verified = next_bool(q);
	next_digest(q, &b->sha512);
	next_digest(q, &b->pending_sha512);
	next_digest(q, &b->seal);
	next_digest(q, &b->pending_seal);
	b->expires = next_int(q);
	b->partial = next_bool(q);
	b->pending_partial = next_bool(q);
}

static int
get_brief(struct catalogue *c, enum sql_id sql, const struct cat_arg *args, struct image_brief *b,
	  bool *found, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, sql, args, err);

	memset(b, 0, sizeof(*b));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	*found = rc > 0;
	if (*found)
		read_brief(&q, b);
	return rc > 0 ? 0 : rc;
}

int
image_brief_get(struct catalogue *c, const char *identifier, struct image_brief *b, bool *found,
		struct err *err)
{
	return get_brief(c, SQL_IMAGE_BRIEF, ARGS(arg_text(identifier)), b, found, err);
}

int
image_brief_by_id(struct catalogue *c, int64_t id, struct image_brief *b, bool *found,
		  struct err *err)
{
	return get_brief(c, SQL_IMAGE_BRIEF_BY_ID, ARGS(arg_int(id)), b, found, err);
}

/* How an image is called: identifier, name in the mount, list. */
struct label {
	char *identifier, *name, *list_id;
};

static void
label_release(struct label *l)
{
	free(l->identifier);
	free(l->name);
	free(l->list_id);
}

static int
label_get(struct catalogue *c, int64_t id, struct label *l, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_IMAGE_LABEL, ARGS(arg_int(id)), err);

	memset(l, 0, sizeof(*l));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc == 0)
		rc = err_set(err, ENOENT, "no image with number %lld", (long long)id);
	if (rc < 0)
		return rc;
	l->identifier = next_text(&q);
	l->name = next_text(&q);
	l->list_id = next_text(&q);
	return 0;
}

/* "<safe id>.<UTC>", with ~2, ~3 ... when an image expires twice in a second. */
static int
expired_name(struct catalogue *c, const char *name, int64_t now, char **out, struct err *err)
{
	CLEANUP_FREE char *try = NULL;
	char stamp[STAMP_BYTES];
	bool taken = true;
	int rc = 0;

	stamp_format_name(now, stamp);
	for (int n = 1; rc == 0 && taken; n++) {
		int64_t value;

		free(try);
		try = n == 1 ? xasprintf("%s.%s", name, stamp)
			     : xasprintf("%s.%s~%d", name, stamp, n);
		rc = cat_int(c, SQL_EXPIRED_NAME_TAKEN, ARGS(arg_text(try)), &value, &taken, err);
	}
	if (rc == 0)
		*out = steal_ptr(&try);
	return rc;
}

/* A version of an image that goes. */
struct leaver {
	int64_t meta;
	struct digest sha512;
	bool selected, kept;		/* kept: there are bytes of it */
	bool pending;			/* it was the pending one */
};

static int
add_expired(struct catalogue *c, int64_t image, const struct leaver *v, const struct label *l,
	    const char *name, enum reason reason, const char *replaced_by, int64_t now,
	    struct err *err)
{
	int64_t ino;
	int rc = cat_inode(c, "expired", name, &ino, err);

	if (rc != 0)
		return rc;
	return cat_run(c, SQL_EXPIRED_ADD,
		       ARGS(arg_int(ino), arg_text(name), arg_text(l->list_id),
			    arg_text(reason_name(reason)), arg_int(now),
			    arg_text(replaced_by != NULL ? replaced_by : ""),
			    arg_text(reason_distrusts(reason) ? "distrusted" : "withdrawn"),
			    arg_text(v->kept ? "kept" : "purged"), arg_int(v->meta),
			    arg_digest(&v->sha512), arg_int(v->selected), arg_int(image),
			    arg_int(v->pending)),
		       err);
}

static int
withdraw_labelled(struct catalogue *c, struct image_brief *b, const struct label *l,
		  enum reason reason, const char *replaced_by, int64_t now, struct err *err)
{
	struct leaver v = {
		.meta = b->meta, .sha512 = b->sha512, .selected = b->selected,
		.kept = b->verified || (b->partial && !reason_distrusts(reason)),
	};
	CLEANUP_FREE char *name = NULL;
	int rc = expired_name(c, l->name, now, &name, err);

	if (rc == 0)
		rc = add_expired(c, b->id, &v, l, name, reason, replaced_by, now, err);
	if (rc != 0 || !b->announced)
		return rc;
	rc = event_add(c, "ExpirePrefix", b->meta, l->list_id, l->name, reason_name(reason), now,
		       err);
	if (rc == 0)
		rc = event_add(c, "ExpirePostfix", b->meta, l->list_id, name, reason_name(reason),
			       now, err);
	if (rc == 0)
		rc = cat_run(c, SQL_IMAGE_SET_ANNOUNCED, ARGS(arg_int(b->id), arg_int(0)), err);
	b->announced = false;
	return rc;
}

int
image_withdraw(struct catalogue *c, struct image_brief *b, enum reason reason,
	       const char *replaced_by, int64_t now, struct err *err)
{
	struct label l;
	int rc;

	if (!b->selected && !b->verified && !b->partial)
		return 0;
	rc = label_get(c, b->id, &l, err);
	if (rc == 0)
		rc = withdraw_labelled(c, b, &l, reason, replaced_by, now, err);
	label_release(&l);
	return rc;
}

int
image_yield(struct catalogue *c, struct image_brief *b, enum reason reason, int64_t now,
	    struct err *err)
{
	CLEANUP_FREE char *successor = NULL;
	int rc = b->pending != 0 ? meta_version(c, b->pending, &successor, err) : 0;

	return rc == 0 ? image_withdraw(c, b, reason, successor, now, err) : rc;
}

int
image_withdraw_pending(struct catalogue *c, const struct image_brief *b, enum reason reason,
		       const char *replaced_by, int64_t now, struct err *err)
{
	struct leaver v = {
		.meta = b->pending, .sha512 = b->pending_sha512, .selected = b->selected,
		.kept = !reason_distrusts(reason), .pending = true,
	};
	CLEANUP_FREE char *name = NULL;
	struct label l;
	int rc;

	if (b->pending == 0 || !b->pending_partial)
		return 0;
	rc = label_get(c, b->id, &l, err);
	if (rc == 0)
		rc = expired_name(c, l.name, now, &name, err);
	if (rc == 0)
		rc = add_expired(c, b->id, &v, &l, name, reason, replaced_by, now, err);
	label_release(&l);
	return rc;
}

int
image_leave(struct catalogue *c, struct image_brief *b, enum reason reason, int64_t now,
	    struct err *err)
{
	int rc = image_withdraw(c, b, reason, NULL, now, err);

	if (rc == 0)
		rc = image_withdraw_pending(c, b, reason, NULL, now, err);
	if (rc == 0 && b->pending != 0) {
		rc = cat_run(c, SQL_IMAGE_SET_PENDING,
			     ARGS(arg_int(b->id), arg_id(0), arg_digest(NULL)), err);
		if (rc == 0)
			rc = meta_drop(c, b->pending, err);
		b->pending = 0;
	}
	if (rc == 0)
		rc = cat_run(c, SQL_IMAGE_SET_LIVE, ARGS(arg_int(b->id), arg_int(0)), err);
	b->live = false;
	return rc;
}

int
image_swap_pending(struct catalogue *c, struct image_brief *b, struct err *err)
{
	int64_t old = b->meta;
	int rc = cat_run(c, SQL_IMAGE_SWAP_PENDING, ARGS(arg_int(b->id)), err);

	b->meta = b->pending;
	b->sha512 = b->pending_sha512;
	b->pending = 0;
	return rc == 0 ? meta_drop(c, old, err) : rc;
}

int
image_announce(struct catalogue *c, int64_t id, int64_t now, struct err *err)
{
	struct image_brief b;
	struct label l = { 0 };
	bool found;
	int rc = image_brief_by_id(c, id, &b, &found, err);

	if (rc != 0 || !found || !b.live || !b.selected || !b.verified || b.announced)
		return rc;
	rc = label_get(c, id, &l, err);
	if (rc == 0)
		rc = event_add(c, "AvailablePrefix", b.meta, l.list_id, l.name, NULL, now, err);
	if (rc == 0)
		rc = event_add(c, "AvailablePostfix", b.meta, l.list_id, l.name, NULL, now, err);
	if (rc == 0)
		rc = cat_run(c, SQL_IMAGE_SET_ANNOUNCED, ARGS(arg_int(id), arg_int(1)), err);
	label_release(&l);
	return rc;
}

static int
deselect(struct catalogue *c, struct image_brief *b, int64_t now, struct err *err)
{
	int rc = b->live ? image_yield(c, b, REASON_DESELECTED, now, err) : 0;

	if (rc == 0)
		rc = cat_run(c, SQL_IMAGE_SET_SELECTED, ARGS(arg_int(b->id), arg_int(0)), err);
	/* The list has the newer version; nobody waits for its bytes any more. */
	if (rc == 0 && b->pending != 0) {
		rc = image_swap_pending(c, b, err);
		if (rc == 0)
			rc = object_collect(c, err);
	}
	return rc;
}

int
catalogue_image_select(struct catalogue *c, int64_t id, bool selected, int64_t now, struct err *err)
{
	struct cat_scope scope;
	struct image_brief b;
	bool found;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = image_brief_by_id(c, id, &b, &found, err);
	if (rc == 0 && !found)
		rc = err_set(err, ENOENT, "no image with number %lld", (long long)id);
	if (rc == 0 && b.selected != selected) {
		c->site_dirty = true;
		if (!selected)
			rc = deselect(c, &b, now, err);
		else
			rc = cat_run(c, SQL_IMAGE_SET_SELECTED, ARGS(arg_int(id), arg_int(1)), err);
		if (rc == 0 && selected)
			rc = image_announce(c, id, now, err);
	}
	return cat_scope_end(c, &scope, rc, err);
}
