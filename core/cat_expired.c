/*
 * cat_expired.c - what is no longer endorsed: reasons, and the rows behind expired/.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "limits.h"

enum { N_REASONS = REASON_CORRUPT + 1 };

static const char *const reason_words[N_REASONS] = {
	[REASON_REPLACED] = "replaced",
	[REASON_REMOVED_FROM_LIST] = "removed-from-list",
	[REASON_LIST_EXPIRED] = "list-expired",
	[REASON_IMAGE_EXPIRED] = "image-expired",
	[REASON_UNSUBSCRIBED] = "unsubscribed",
	[REASON_DESELECTED] = "deselected",
	[REASON_ENDORSER_REMOVED] = "endorser-removed",
	[REASON_ENDORSER_UNLINKED] = "endorser-unlinked",
	[REASON_REVOKED] = "revoked",
	[REASON_CORRUPT] = "corrupt",
};

const char *
reason_name(enum reason r)
{
	return reason_words[r];
}

bool
reason_distrusts(enum reason r)
{
	switch (r) {
	case REASON_ENDORSER_REMOVED:
	case REASON_ENDORSER_UNLINKED:
	case REASON_REVOKED:
	case REASON_CORRUPT:
		return true;
	case REASON_REPLACED:
	case REASON_REMOVED_FROM_LIST:
	case REASON_LIST_EXPIRED:
	case REASON_IMAGE_EXPIRED:
	case REASON_UNSUBSCRIBED:
	case REASON_DESELECTED:
		break;
	}
	return false;
}

void
expired_row_release(struct expired_row *r)
{
	free(r->name);
	free(r->list_id);
	free(r->replaced_by);
	free(r->error);
	image_meta_release(&r->meta);
	memset(r, 0, sizeof(*r));
}

static void
read_expired(struct cat_query *q, struct expired_row *r)
{
	CLEANUP_FREE char *reason = NULL;
	CLEANUP_FREE char *trust = NULL;
	int word;

	memset(r, 0, sizeof(*r));
	r->id = next_int(q);
	r->rev = next_int(q);
	r->ino = (uint64_t)next_int(q);
	r->name = next_text(q);
	r->list_id = next_text(q);
	reason = next_text(q);
	word = cat_word(reason_words, N_REASONS, reason);
	r->reason = word >= 0 ? (enum reason)word : REASON_CORRUPT;
	r->expired_at = next_int(q);
	r->replaced_by = next_text(q);
	trust = next_text(q);
	r->distrusted = trust == NULL || strcmp(trust, "withdrawn") != 0;
	r->purged = next_bool(q);
	r->selected = next_bool(q);
	r->error = next_text(q);
	meta_next(q, &r->meta);
}

int
catalogue_expired_each(struct catalogue *c, int (*fn)(void *arg, const struct expired_row *r),
		       void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_EXPIRED_EACH, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct expired_row r;

		read_expired(&q, &r);
		rc = fn(arg, &r);
		expired_row_release(&r);
	}
	return rc;
}

int
catalogue_expired_stubs(struct catalogue *c, int (*fn)(void *arg, int64_t id, int64_t rev),
			void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_EXPIRED_STUBS, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		int64_t id = next_int(&q);

		rc = fn(arg, id, next_int(&q));
	}
	return rc;
}

int
catalogue_expired_by_id(struct catalogue *c, int64_t id, struct expired_row *out, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_EXPIRED_BY_ID, ARGS(arg_int(id)), err);

	memset(out, 0, sizeof(*out));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc == 0)
		return err_set(err, ENOENT, "no expired image with number %lld", (long long)id);
	if (rc < 0)
		return rc;
	read_expired(&q, out);
	return 0;
}

/* Its name has a time in it and does not come again, so that its number may go, too. */
static int
forget(struct catalogue *c, int64_t id, struct err *err)
{
	int64_t ino = 0, meta = 0;
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_EXPIRED_DELETE, ARGS(arg_int(id)), err);

	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc <= 0)
		return rc;
	ino = next_int(&q);
	meta = next_int(&q);
	cat_query_end(&q);
	rc = cat_run(c, SQL_INODE_DELETE, ARGS(arg_int(ino)), err);
	return rc == 0 ? meta_drop(c, meta, err) : rc;
}

int
catalogue_expired_purge_shared(struct catalogue *c, int64_t before, int *n, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	*n = 0;
	if (rc != 0)
		return rc;
	rc = cat_run(c, SQL_EXPIRED_PURGE_SHARED, ARGS(arg_int(before)), err);
	if (rc == 0)
		*n = cat_n_changed(c);
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_expired_prune(struct catalogue *c, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	struct cat_scope scope;
	int64_t value;
	bool any = false;
	size_t n = 0;
	int rc = cat_int(c, SQL_EXPIRED_FORGOTTEN, ARGS(arg_int(LIMIT_PURGED_KEPT)), &value, &any,
			 err);

	/* Mostly there is nothing to do, and then nobody need wait for a lock. */
	if (rc != 0 || !any)
		return rc;
	rc = cat_scope_begin(c, &scope, err);
	if (rc != 0)
		return rc;
	rc = cat_ids(c, SQL_EXPIRED_FORGOTTEN, ARGS(arg_int(LIMIT_PURGED_KEPT)), &ids, &n, err);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = forget(c, ids[i], err);
	return cat_scope_end(c, &scope, rc, err);
}
