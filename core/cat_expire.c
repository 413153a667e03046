/*
 * cat_expire.c - whole lists and images leave: by the clock, or because trust is gone.
 *
 * Neither needs the network.  Withdrawn is not distrusted: what is merely past its date may go on
 * being read by who has it open.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "stamp.h"

static enum code
reason_code(enum reason reason)
{
	switch (reason) {
	case REASON_ENDORSER_REMOVED:
	case REASON_ENDORSER_UNLINKED:
		return CODE_NOT_LINKED;
	case REASON_CORRUPT:
		return CODE_DIGEST;
	case REASON_REVOKED:
	case REASON_REPLACED:
	case REASON_REMOVED_FROM_LIST:
	case REASON_UNSUBSCRIBED:
	case REASON_DESELECTED:
		return CODE_SIGNATURE;
	case REASON_LIST_EXPIRED:
	case REASON_IMAGE_EXPIRED:
		break;
	}
	return CODE_EXPIRED;
}

/* Every live image of the subscription leaves. */
static int
leave_all(struct catalogue *c, int64_t subscription, enum reason reason, int64_t now, int *changed,
	  struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n = 0;
	int rc = cat_ids(c, SQL_IMAGE_LIVE_OF, ARGS(arg_int(subscription)), &ids, &n, err);

	for (size_t i = 0; i < n && rc == 0; i++) {
		struct image_brief b;
		bool found;

		rc = image_brief_by_id(c, ids[i], &b, &found, err);
		if (rc == 0)
			rc = image_leave(c, &b, reason, now, err);
		++*changed;
	}
	return rc;
}

static int
set_state(struct catalogue *c, int64_t id, enum subscription_state state, enum code code,
	  const char *error, struct err *err)
{
	return cat_run(c, SQL_SUBSCRIPTION_STATE,
		       ARGS(arg_int(id), arg_text(subscription_state_name(state)), arg_int(code),
			    arg_text(error)),
		       err);
}

static int
distrust(struct catalogue *c, const struct subscription_row *r, enum reason reason, const char *why,
	 int64_t now, struct err *err)
{
	int changed = 0;
	int rc = leave_all(c, r->id, reason, now, &changed, err);

	if (rc == 0)
		rc = cat_run(c, SQL_EXPIRED_DISTRUST, ARGS(arg_text(r->list_id)), err);
	if (rc == 0 && r->state != SUB_NEW)
		rc = set_state(c, r->id, SUB_DISTRUSTED, reason_code(reason), why, err);
	return rc == 0 ? object_collect(c, err) : rc;
}

int
catalogue_distrust(struct catalogue *c, int64_t subscription, enum reason reason, const char *why,
		   int64_t now, struct err *err)
{
	struct subscription_row r;
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = catalogue_subscription_by_id(c, subscription, &r, err);
	if (rc == 0)
		rc = distrust(c, &r, reason, why != NULL ? why : reason_name(reason), now, err);
	subscription_row_release(&r);
	return cat_scope_end(c, &scope, rc, err);
}

/* ---- the clock ------------------------------------------------------------------------------- */

static int
expire_lists(struct catalogue *c, int64_t now, int *changed, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n = 0;
	int rc = cat_ids(c, SQL_SUBSCRIPTION_OVERDUE, ARGS(arg_int(now)), &ids, &n, err);

	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = leave_all(c, ids[i], REASON_LIST_EXPIRED, now, changed, err);
		if (rc == 0)
			rc = set_state(c, ids[i], SUB_EXPIRED, CODE_EXPIRED,
				       "the list is past its dc:date:expires (or max_valid_time)",
				       err);
	}
	return rc;
}

/* A pending version takes the place of one that is past its date, stored or not. */
static int
expire_image(struct catalogue *c, int64_t id, int64_t now, struct err *err)
{
	struct image_brief b;
	bool found;
	int rc = image_brief_by_id(c, id, &b, &found, err);

	if (rc != 0)
		return rc;
	if (b.pending == 0)
		return image_leave(c, &b, REASON_IMAGE_EXPIRED, now, err);
	rc = image_yield(c, &b, REASON_IMAGE_EXPIRED, now, err);
	return rc == 0 ? image_swap_pending(c, &b, err) : rc;
}

static int
expire_images(struct catalogue *c, int64_t now, int *changed, struct err *err)
{
	size_t n;
	int rc;

	/* A second round, because a pending version may be past its own date. */
	do {
		CLEANUP_FREE int64_t *ids = NULL;

		rc = cat_ids(c, SQL_IMAGE_OVERDUE, ARGS(arg_int(now)), &ids, &n, err);
		for (size_t i = 0; i < n && rc == 0; i++) {
			rc = expire_image(c, ids[i], now, err);
			++*changed;
		}
	} while (rc == 0 && n > 0);
	return rc;
}

int
catalogue_expire_by_date(struct catalogue *c, int64_t now, int *changed, struct err *err)
{
	struct cat_scope scope;
	int rc;

	*changed = 0;
	/* Mostly there is nothing to do, and then nobody need wait for a lock. */
	if (catalogue_next_expiry(c) > now)
		return 0;
	rc = cat_scope_begin(c, &scope, err);
	if (rc != 0)
		return rc;
	rc = expire_lists(c, now, changed, err);
	if (rc == 0)
		rc = expire_images(c, now, changed, err);
	if (rc == 0)
		rc = object_collect(c, err);
	return cat_scope_end(c, &scope, rc, err);
}

/* A catalogue that cannot be asked: now, so that somebody looks, and hears why. */
static int64_t
minimum(struct catalogue *c, enum sql_id sql)
{
	CAT_QUERY q = { 0 };
	CLEANUP_FREE char *text = NULL;

	/* min() of no rows is NULL, which must not be taken for the year 1970. */
	if (cat_query_begin(&q, c, sql, ARGS(), NULL) != 0 || cat_query_next(&q, NULL) <= 0)
		return 0;
	text = next_text(&q);
	return text != NULL ? strtoll(text, NULL, 10) : INT64_MAX;
}

int64_t
catalogue_next_expiry(struct catalogue *c)
{
	int64_t lists = minimum(c, SQL_SUBSCRIPTION_NEXT_EXPIRY);
	int64_t images = minimum(c, SQL_IMAGE_NEXT_EXPIRY);

	return lists < images ? lists : images;
}
