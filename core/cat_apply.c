/*
 * cat_apply.c - a trusted list becomes rows, in one transaction.
 *
 * Each entry is decided first, without changing anything, so that the preview and the real thing
 * cannot differ:
 *
 *   row             digest        current object   decision
 *   none            -             -                ADD
 *   not live        any           -                BACK (a selection made earlier counts again)
 *   live            same          -                SAME, or METADATA if another value differs
 *   live            other         not stored,      REPLACE at once
 *                                 unselected, or the new one is stored already
 *   live, selected  other         stored           PENDING: the old one is served until the new
 *                                                  one is verified (prefetch = never: REPLACE)
 *   of another list -             -                REFUSE (first owner keeps the identifier)
 *   none, not wished for          -                REFUSE if the subscription refuses new images
 *
 * Live rows that the list did not name leave.  An entry that is malformed, past its date, or
 * contradicts the size signed for the same digest elsewhere is REFUSE; its row leaves too.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "limits.h"
#include "listjudge.h"
#include "safename.h"
#include "stamp.h"

enum action { REFUSE, ADD, BACK, SAME, METADATA, REPLACE, PENDING, PENDING_SAME };

struct apply {
	struct catalogue *c;
	const struct subscription_row *sub;
	const struct imagelist *list;
	int64_t expires, now, generation;
	int64_t n_images;		/* that other lists hold, and this one so far */
	bool rebuilding;
	bool news;			/* what the subscription does not know is worth an event */
	struct update_result *result;
};

struct decision {
	enum action action;
	struct err why;			/* of REFUSE */
	int64_t owner;			/* REFUSE: the subscription that owns the identifier */
	bool found;
	struct image_brief b;		/* if found */
	int64_t expires;
	bool past;			/* REFUSE because of its date */
	bool wished, wished_selected;	/* an admin has spoken of it before any list did */
	bool unknown;			/* neither row nor wish; it is good otherwise */
	bool quiet;			/* METADATA: nothing but dates that it has from the list */
	bool held;			/* REPLACE: by the version that is still to come */
};

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int
refuse(struct decision *d, enum code code, const char *text)
{
	d->action = REFUSE;
	err_refuse(&d->why, code, "%s", text);
	return 0;
}

static int
decide_owner(struct apply *a, struct decision *d, struct err *err)
{
	struct subscription_row owner;
	int rc = catalogue_subscription_by_id(a->c, d->b.subscription, &owner, err);

	d->action = REFUSE;
	d->owner = d->b.subscription;
	if (rc == 0)
		err_refuse(&d->why, CODE_IDENTIFIER, "the identifier belongs to list '%s'",
			   owner.list_id);
	subscription_row_release(&owner);
	return rc;
}

/* The same bytes cannot have two sizes: who signed first, or proved it, is believed. */
static int
decide_size(struct apply *a, const struct imagelist_image *e, struct decision *d, bool *verified,
	    struct err *err)
{
	CAT_QUERY q = { 0 };
	int64_t size, rival = 0;
	bool found = false;
	int rc =
		cat_query_begin(&q, a->c, SQL_OBJECT_BRIEF, ARGS(arg_digest(&e->meta.sha512)), err);

	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc <= 0)
		return rc;
	*verified = next_bool(&q);
	size = next_int(&q);
	if (size == e->meta.size)
		return 0;
	if (*verified)
		return refuse(
			d, CODE_SIZE,
			"hv:size differs from the size of the verified image with this SHA-512");
	rc = cat_int(a->c, SQL_OBJECT_RIVAL_SIZE,
		     ARGS(arg_digest(&e->meta.sha512), arg_text(e->identifier), arg_int(a->sub->id),
			  arg_int(a->generation)), &rival, &found, err);
	if (rc == 0 && found)
		rc = refuse(d, CODE_SIZE,
			    "hv:size differs from that of another entry with this SHA-512");
	return rc;
}

static int
decide_new(struct apply *a, const struct imagelist_image *e, struct decision *d, struct err *err)
{
	char name[SAFENAME_MAX + 32];
	int64_t value;
	bool taken = false;
	int rc;

	d->action = ADD;
	safename_identifier(e->identifier, name);
	rc = cat_int(a->c, SQL_IMAGE_NAME_TAKEN, ARGS(arg_text(name)), &value, &taken, err);
	if (rc == 0 && taken)
		return refuse(d, CODE_IDENTIFIER,
			      "the name made of the identifier is taken by another image");
	if (rc == 0)
		rc = cat_int(a->c, SQL_WISH_GET,
			     ARGS(arg_text(e->identifier), arg_int(a->sub->id)), &value, &d->wished,
			     err);
	d->wished_selected = rc == 0 && d->wished && value != 0;
	d->unknown = rc == 0 && !d->wished;
	if (d->unknown && a->sub->refuse_new)
		return refuse(d, CODE_NEW_IMAGE, NEW_IMAGE_TEXT);
	return rc;
}

static bool
is_pending(const struct image_brief *b, const struct imagelist_image *e)
{
	struct digest seal;

	meta_seal(&e->meta, &seal);
	return b->pending != 0 && digest_equal(&seal, &b->pending_seal);
}

static enum action
decide_live(const struct apply *a, const struct imagelist_image *e, const struct image_brief *b,
	    bool new_stored)
{
	const struct digest *d = &e->meta.sha512;
	struct digest seal;

	meta_seal(&e->meta, &seal);
	if (digest_equal(d, &b->sha512))
		return b->pending == 0 && digest_equal(&seal, &b->seal) ? SAME : METADATA;
	if (!b->selected || !b->verified || new_stored || b->expires <= a->now ||
	    a->c->conf->prefetch == PREFETCH_NEVER)
		return REPLACE;
	return is_pending(b, e) ? PENDING_SAME : PENDING;
}

/* A list's own dates move with each publication and are no change of its images. */
static int
decide_quiet(struct apply *a, const struct imagelist_image *e, struct decision *d, struct err *err)
{
	CAT_QUERY q = { 0 };
	struct image_meta m;
	int rc = cat_query_begin(&q, a->c, SQL_META_GET, ARGS(arg_int(d->b.meta)), err);

	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc <= 0)
		return rc;
	meta_next(&q, &m);
	d->quiet = d->b.pending == 0 && m.json != NULL && e->meta.json != NULL &&
		   strcmp(m.json, e->meta.json) == 0;
	image_meta_release(&m);
	return 0;
}

static int
decide(struct apply *a, const struct imagelist_image *e, struct decision *d, struct err *err)
{
	bool new_stored = false;
	int rc;

	memset(d, 0, sizeof(*d));
	d->action = SAME;
	if (e->identifier[0] != '\0') {
		rc = image_brief_get(a->c, e->identifier, &d->b, &d->found, err);
		if (rc != 0)
			return rc;
	}
	if (e->refused)
		return refuse(d, e->code, e->error != NULL ? e->error : "malformed");
	if (d->found && d->b.subscription != a->sub->id)
		return decide_owner(a, d, err);
	d->expires = earlier(e->meta.expires, a->expires);
	if (d->expires <= a->now) {
		d->past = true;
		return refuse(d, CODE_EXPIRED, "the image is past its dc:date:expires");
	}
	rc = decide_size(a, e, d, &new_stored, err);
	if (rc != 0 || d->action == REFUSE)
		return rc;
	if ((!d->found || !d->b.live) && a->n_images >= LIMIT_IMAGES_ALL)
		return refuse(d, CODE_LIMIT, "all lists together hold too many images");
	if (!d->found)
		return decide_new(a, e, d, err);
	d->action = d->b.live ? decide_live(a, e, &d->b, new_stored) : BACK;
	d->held = d->action == REPLACE && is_pending(&d->b, e);
	return d->action == METADATA ? decide_quiet(a, e, d, err) : 0;
}

static void
count(struct apply *a, const struct decision *d)
{
	struct update_result *r = a->result;

	a->n_images += d->action != REFUSE;
	switch (d->quiet ? SAME : d->action) {
	case REFUSE:
		r->refused++;
		r->n_refused_new += d->why.code == CODE_NEW_IMAGE;
		break;
	case ADD:
	case BACK:
		r->added++;
		break;
	case SAME:
		r->unchanged++;
		break;
	case METADATA:
	case REPLACE:
		r->changed++;
		r->n_held += d->held;
		break;
	case PENDING:
	case PENDING_SAME:
		r->pending++;
		break;
	}
}

/* ---- acting ---------------------------------------------------------------------------------- */

/* "<id>", or the entry's number; "~2" ... on a clash. */
static int
refused_name(struct apply *a, const struct imagelist_image *e, char **out, struct err *err)
{
	char base[SAFENAME_MAX + 32];
	CLEANUP_FREE char *name = NULL;
	bool taken = true;
	int rc = 0;

	if (e->identifier[0] != '\0')
		safename_identifier(e->identifier, base);
	else
		snprintf(base, sizeof(base), "%td", e - a->list->images + 1);
	for (int n = 1; rc == 0 && taken; n++) {
		int64_t value;

		free(name);
		name = n == 1 ? xstrdup(base) : xasprintf("%s~%d", base, n);
		rc = cat_int(a->c, SQL_REFUSED_NAME_TAKEN,
			     ARGS(arg_int(a->sub->id), arg_text(name)), &value, &taken, err);
	}
	if (rc == 0)
		*out = steal_ptr(&name);
	return rc;
}

static int
act_refuse(struct apply *a, const struct imagelist_image *e, struct decision *d, struct err *err)
{
	CLEANUP_FREE char *name = NULL;
	int rc = refused_name(a, e, &name, err);

	if (rc == 0)
		rc = cat_run(a->c, SQL_REFUSED_ADD,
			     ARGS(arg_int(a->sub->id), arg_text(e->identifier), arg_text(name),
				  arg_int(d->why.code), arg_text(d->why.text), arg_id(d->owner)),
			     err);
	if (rc == 0 && d->past && d->found && d->b.live)
		rc = image_leave(a->c, &d->b, REASON_IMAGE_EXPIRED, a->now, err);
	return rc;
}

/* Whether a new image is selected: by policy, or as was decided before there was a list. */
static bool
is_selected(const struct apply *a, const struct decision *d)
{
	if (d->wished)
		return d->wished_selected;
	return !a->rebuilding && a->sub->select_new == SELECT_ALL;
}

static int
act_add(struct apply *a, const struct imagelist_image *e, const struct decision *d, int64_t meta,
	struct err *err)
{
	char name[SAFENAME_MAX + 32];
	bool selected = is_selected(a, d);
	int64_t ino;
	int rc = 0;

	if (d->wished)
		rc = cat_run(a->c, SQL_WISH_DELETE,
			     ARGS(arg_text(e->identifier), arg_int(a->sub->id)), err);
	if (rc == 0)
		rc = cat_inode(a->c, "image", e->identifier, &ino, err);
	if (rc != 0)
		return rc;
	safename_identifier(e->identifier, name);
	rc = cat_run(a->c, SQL_IMAGE_ADD,
		     ARGS(arg_int(ino), arg_int(a->sub->id), arg_text(e->identifier),
			  arg_text(name), arg_int(1), arg_int(selected), arg_int(a->generation),
			  arg_int(d->expires), arg_int(meta), arg_digest(&e->meta.sha512)),
		     err);
	return rc == 0 && selected ? image_announce(a->c, cat_last_id(a->c), a->now, err) : rc;
}

/* A version that was still to come is not that of this entry. */
static int
replace_pending(struct apply *a, const struct imagelist_image *e, const struct decision *d,
		struct err *err)
{
	if (d->b.pending == 0 || digest_equal(&d->b.pending_sha512, &e->meta.sha512))
		return 0;
	return image_withdraw_pending(a->c, &d->b, REASON_REPLACED, e->meta.value[FIELD_VERSION],
				      a->now, err);
}

/* The entry becomes the current version: BACK, METADATA, REPLACE. */
static int
act_current(struct apply *a, const struct imagelist_image *e, struct decision *d, int64_t meta,
	    struct err *err)
{
	/* A list that was lost to damage comes back with another version than was announced. */
	bool back_changed =
		d->action == BACK && d->b.announced && !digest_equal(&d->b.sha512, &e->meta.sha512);
	int rc = 0;

	if (d->action == REPLACE || back_changed)
		rc = image_withdraw(a->c, &d->b, REASON_REPLACED, e->meta.value[FIELD_VERSION],
				    a->now, err);
	if (rc == 0)
		rc = replace_pending(a, e, d, err);
	if (rc == 0)
		rc = cat_run(a->c, SQL_IMAGE_SET_META,
			     ARGS(arg_int(d->b.id), arg_int(meta), arg_digest(&e->meta.sha512),
				  arg_int(d->expires), arg_int(1), arg_int(a->generation)), err);
	if (rc == 0)
		rc = meta_drop(a->c, d->b.meta, err);
	if (rc == 0)
		rc = meta_drop(a->c, d->b.pending, err);
	return rc == 0 ? image_announce(a->c, d->b.id, a->now, err) : rc;
}

static int
act_pending(struct apply *a, const struct imagelist_image *e, const struct decision *d,
	    int64_t meta, struct err *err)
{
	int rc = replace_pending(a, e, d, err);

	if (rc == 0)
		rc = cat_run(a->c, SQL_IMAGE_SET_PENDING,
			     ARGS(arg_int(d->b.id), arg_int(meta), arg_digest(&e->meta.sha512)),
			     err);
	if (rc == 0)
		rc = cat_run(a->c, SQL_IMAGE_SET_GENERATION,
			     ARGS(arg_int(d->b.id), arg_int(a->generation)), err);
	return rc == 0 ? meta_drop(a->c, d->b.pending, err) : rc;
}

static int
act_same(struct apply *a, const struct decision *d, struct err *err)
{
	int rc = cat_run(a->c, SQL_IMAGE_SET_GENERATION,
			 ARGS(arg_int(d->b.id), arg_int(a->generation)), err);

	/* The dates of a pending image's current version are those of the list that had it. */
	if (rc == 0 && d->action == SAME)
		rc = cat_run(a->c, SQL_IMAGE_SET_EXPIRES,
			     ARGS(arg_int(d->b.id), arg_int(d->expires)), err);
	return rc;
}

static int
act(struct apply *a, const struct imagelist_image *e, struct decision *d, struct err *err)
{
	int64_t meta = 0;
	int rc = 0;

	if (d->unknown && a->news)
		rc = event_add_new(a->c, &e->meta, a->sub->list_id, a->now, err);
	if (rc != 0)
		return rc;
	if (d->action == REFUSE)
		return act_refuse(a, e, d, err);
	rc = object_name(a->c, &e->meta, a->list->created, err);
	if (rc == 0 && d->action != SAME && d->action != PENDING_SAME)
		rc = meta_insert(a->c, &e->meta, &meta, err);
	if (rc != 0)
		return rc;
	switch (d->action) {
	case REFUSE:
		break;
	case ADD:
		return act_add(a, e, d, meta, err);
	case BACK:
	case METADATA:
	case REPLACE:
		return act_current(a, e, d, meta, err);
	case PENDING:
		return act_pending(a, e, d, meta, err);
	case SAME:
	case PENDING_SAME:
		return act_same(a, d, err);
	}
	return 0;
}

static int
remove_unnamed(struct apply *a, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n = 0;
	int rc = cat_ids(a->c, SQL_IMAGE_LEAVING, ARGS(arg_int(a->sub->id), arg_int(a->generation)),
			 &ids, &n, err);

	for (size_t i = 0; i < n && rc == 0; i++) {
		struct image_brief b;
		bool found;

		rc = image_brief_by_id(a->c, ids[i], &b, &found, err);
		if (rc == 0)
			rc = image_leave(a->c, &b, REASON_REMOVED_FROM_LIST, a->now, err);
		a->result->removed++;
	}
	return rc;
}

/* The first list of a subscription is none; nor is the first after all was lost. */
static int
has_news(const struct apply *a, bool *news, struct err *err)
{
	int64_t value;

	*news = a->sub->has_message;
	if (*news)
		return 0;
	return cat_int(a->c, SQL_IMAGE_ANY_OF, ARGS(arg_int(a->sub->id)), &value, news, err);
}

int
apply_rows(struct catalogue *c, const struct subscription_row *sub, const struct imagelist *list,
	   int64_t expires, bool rebuilding, int64_t now, struct update_result *result,
	   struct err *err)
{
	struct apply a = { .c = c,
			   .sub = sub,
			   .list = list,
			   .expires = expires,
			   .now = now,
			   .rebuilding = rebuilding,
			   .result = result };
	int rc = cat_int(c, SQL_SUBSCRIPTION_GENERATION, ARGS(arg_int(sub->id)), &a.generation,
			 NULL, err);

	if (rc == 0)
		rc = cat_int(c, SQL_IMAGE_COUNT, ARGS(arg_int(sub->id)), &a.n_images, NULL, err);
	if (rc == 0 && !rebuilding)
		rc = has_news(&a, &a.news, err);
	if (rc == 0)
		rc = cat_run(c, SQL_REFUSED_CLEAR, ARGS(arg_int(sub->id)), err);
	for (size_t i = 0; i < list->n_images && rc == 0; i++) {
		struct decision d;

		rc = decide(&a, &list->images[i], &d, err);
		if (rc != 0)
			break;
		count(&a, &d);
		rc = act(&a, &list->images[i], &d, err);
	}
	if (rc == 0)
		rc = remove_unnamed(&a, err);
	if (rc == 0)
		rc = departed_forget(c, sub->id, list->n_images, err);
	/* Withdrawn images that this list names again are vouched for again. */
	if (rc == 0)
		rc = cat_run(c, SQL_EXPIRED_TRUST, ARGS(arg_text(sub->list_id), arg_int(sub->id)),
			     err);
	if (rc == 0)
		rc = object_collect(c, err);
	return rc == 0 ? inode_collect(c, err) : rc;
}

int
apply_subscription(struct catalogue *c, int64_t id, const struct imagelist *list, int64_t expires,
		   const struct verdict *verdict, const struct digest *message, int64_t now,
		   struct err *err)
{
	struct digest payload;
	int rc;

	digest_of(verdict->payload.data, verdict->payload.len, &payload);
	rc = cat_run(c, SQL_SUBSCRIPTION_APPLY,
		     ARGS(arg_int(id), arg_text(list->title), arg_text(list->description),
			  arg_text(list->uri), arg_text(list->version),
			  arg_text(list->vo != NULL ? list->vo : ""), arg_int(list->created),
			  arg_int(expires), arg_int(now), arg_digest(message), arg_digest(&payload),
			  arg_text(verdict->subject), arg_text(verdict->issuer)),
		     err);
	if (rc == 0)
		rc = endorser_refresh(c, id, err);
	return rc == 0 ? signer_applied(c, id, err) : rc;
}

static int
apply_new(struct catalogue *c, const struct subscription_row *sub, const struct imagelist *list,
	  const struct verdict *verdict, const struct digest *digest, const void *message,
	  size_t len, int64_t now, struct update_result *result, struct err *err)
{
	int64_t expires = list_expiry(list, c->conf);
	int rc = message_write(c, digest, message, len, verdict->payload.data, verdict->payload.len,
			       err);

	if (rc == 0)
		rc = apply_rows(c, sub, list, expires, false, now, result, err);
	if (rc == 0)
		rc = apply_subscription(c, sub->id, list, expires, verdict, digest, now, err);
	c->site_dirty = true;
	return rc;
}

/* Whether the very same message would change nothing. */
static bool
is_same(const struct subscription_row *sub, const struct digest *message)
{
	return sub->has_message && digest_equal(&sub->message, message) && !sub->reset_version &&
	       !sub->reapply && (sub->state == SUB_OK || sub->state == SUB_FAILED);
}

int
catalogue_apply_list(struct catalogue *c, const struct subscription_row *sub,
		     const struct imagelist *list, const struct verdict *verdict,
		     const void *message, size_t len, int64_t now, struct update_result *result,
		     struct err *err)
{
	struct cat_scope scope;
	struct digest digest;
	int rc;

	memset(result, 0, sizeof(*result));
	digest_of(message, len, &digest);
	if (is_same(sub, &digest)) {
		result->same = true;
		return catalogue_subscription_tried(c, sub->id, now, CODE_NONE, "", err);
	}
	rc = cat_scope_begin(c, &scope, err);
	if (rc != 0)
		return rc;
	rc = apply_new(c, sub, list, verdict, &digest, message, len, now, result, err);
	return cat_scope_end(c, &scope, rc, err);
}

int
apply_stored(struct catalogue *c, int64_t subscription, int64_t now, struct err *err)
{
	struct subscription_row sub;
	struct update_result result = { 0 };
	struct imagelist *list = NULL;
	CLEANUP_BUF struct buf payload = BUF_INIT;
	CAT_QUERY q = { 0 };
	struct digest expected;
	int rc = catalogue_subscription_by_id(c, subscription, &sub, err);

	if (rc == 0)
		rc = cat_query_begin(&q, c, SQL_SUBSCRIPTION_PAYLOAD, ARGS(arg_int(subscription)),
				     err);
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc > 0) {
		rc = 0;
		/* A damaged file is dealt with at the next check; nothing changes now. */
		if (next_digest(&q, &expected) &&
		    message_read(c, &sub.message, true, &expected, &payload, NULL) == 0 &&
		    imagelist_parse(payload.data, payload.len, c->conf->file_prefix, &list, NULL) ==
			    0)
			rc = apply_rows(c, &sub, list, sub.expires, false, now, &result, err);
		if (rc == 0)
			rc = signer_applied(c, subscription, err);
	}
	imagelist_free(list);
	subscription_row_release(&sub);
	return rc;
}

/* ---- preview --------------------------------------------------------------------------------- */

int
cat_by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

struct preview {
	const char **names;		/* identifiers that stay, sorted */
	size_t n;
	int (*fn)(void *arg, const char *what, const char *identifier, const char *title);
	void *arg;
	struct apply *apply;
};

static int
preview_leaving(void *arg, const struct image_row *r)
{
	struct preview *p = arg;
	const char *key = r->meta.value[FIELD_ID];

	if (p->n > 0 && bsearch(&key, p->names, p->n, sizeof(*p->names), cat_by_text) != NULL)
		return 0;
	p->apply->result->removed++;
	return p->fn(p->arg, "remove", key, r->meta.value[FIELD_TITLE]);
}

static int
preview_entry(struct preview *p, const struct imagelist_image *e, const struct decision *d)
{
	const char *what = NULL;

	count(p->apply, d);
	switch (d->action) {
	case REFUSE:
		what = "refuse";
		break;
	case ADD:
	case BACK:
		what = "add";
		break;
	case METADATA:
		what = d->quiet ? NULL : "change";
		break;
	case REPLACE:
	case PENDING:
		what = "change";
		break;
	case SAME:
	case PENDING_SAME:
		break;
	}
	if (d->action != REFUSE)
		p->names[p->n++] = e->identifier;
	if (what == NULL)
		return 0;
	return p->fn(p->arg, what, e->identifier,
		     e->meta.value[FIELD_TITLE] != NULL ? e->meta.value[FIELD_TITLE] : "");
}

int
catalogue_preview_list(struct catalogue *c, const struct subscription_row *sub,
		       const struct imagelist *list,
		       int (*fn)(void *arg, const char *what, const char *identifier,
				 const char *title),
		       void *arg, struct update_result *result, struct err *err)
{
	CLEANUP_FREE const char **names = xcalloc(list->n_images + 1, sizeof(*names));
	struct apply a = { .c = c, .sub = sub, .list = list, .expires = list_expiry(list, c->conf),
			   .now = stamp_now(), .generation = -1, .result = result };
	struct preview p = { .names = names, .fn = fn, .arg = arg, .apply = &a };
	int rc = cat_int(c, SQL_IMAGE_COUNT, ARGS(arg_int(sub->id)), &a.n_images, NULL, err);

	memset(result, 0, sizeof(*result));
	for (size_t i = 0; i < list->n_images && rc == 0; i++) {
		struct decision d;

		rc = decide(&a, &list->images[i], &d, err);
		if (rc == 0)
			rc = preview_entry(&p, &list->images[i], &d);
	}
	qsort(names, p.n, sizeof(*names), cat_by_text);
	if (rc == 0 && sub->id != 0)
		rc = catalogue_image_each(c, sub->id, true, preview_leaving, &p, err);
	return rc;
}
