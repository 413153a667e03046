/*
 * cat_signer.c - who vouched for versions that the current list does not speak of any more.
 *
 * A list is trusted with its own signer, but what it replaced came from the list before, which
 * somebody else may have signed.  So each image keeps the signer of the list that named its current
 * version, and takes it along into expired/.  When that signer is trusted no longer,
 *
 *   a withdrawn version       becomes distrusted
 *   a version that is served  because the one that is to replace it is still being fetched, leaves
 *                             as distrusted, and the other takes its place
 *
 * Of each signer of whom anything is left one message is kept, the last: with it revocation is
 * found, as recheck.c finds it for current lists.  Versions that came before this was noted have no
 * signer, and go with the one of their list, as all do with cat_expire.c.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "stamp.h"

/* Whose word something is, and for which list; subscription 0: it was ended. */
struct voucher {
	char *list_id, *subject, *issuer;
	int64_t subscription;
};

struct vouchers {
	struct voucher *all;
	size_t n;
	bool linked;			/* who is registered must also be linked to the list */
};

void
vouchers_free(struct vouchers *v)
{
	if (v == NULL)
		return;
	for (size_t i = 0; i < v->n; i++) {
		free(v->all[i].list_id);
		free(v->all[i].subject);
		free(v->all[i].issuer);
	}
	free(v->all);
	free(v);
}

/* Whether some endorser stands for it now. */
static int
is_vouched(struct catalogue *c, const struct vouchers *v, const struct voucher *one, bool *yes,
	   struct err *err)
{
	int64_t endorser = 0;
	int rc = endorser_match(c, v->linked ? one->subscription : 0, one->subject, one->issuer,
				&endorser, err);

	*yes = endorser != 0;
	return rc;
}

static int
read_vouchers(struct catalogue *c, struct vouchers *v, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_SIGNER_VOUCHERS, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct voucher *one;
		bool stays;

		v->all = xrealloc(v->all, (v->n + 1) * sizeof(*v->all));
		one = &v->all[v->n++];
		one->list_id = next_text(&q);
		one->subject = next_text(&q);
		one->issuer = next_text(&q);
		one->subscription = next_int(&q);
		rc = is_vouched(c, v, one, &stays, err);
		if (rc == 0 && stays)
			continue;
		/* Nobody takes back what nobody gives. */
		free(one->list_id);
		free(one->subject);
		free(one->issuer);
		v->n--;
	}
	return rc;
}

int
vouchers_read(struct catalogue *c, bool linked, struct vouchers **out, struct err *err)
{
	struct vouchers *v = xcalloc(1, sizeof(*v));

	v->linked = linked;
	*out = v;
	return read_vouchers(c, v, err);
}

/* A version that waits for its successor leaves without it. */
static int
drop_waiting(struct catalogue *c, int64_t id, enum reason reason, int64_t now, struct err *err)
{
	struct image_brief b;
	bool found;
	int rc = image_brief_by_id(c, id, &b, &found, err);

	if (rc == 0)
		rc = image_yield(c, &b, reason, now, err);
	if (rc == 0)
		rc = image_swap_pending(c, &b, err);
	return rc == 0 ? image_announce(c, id, now, err) : rc;
}

/* Of one list, or of any (list_id NULL). */
static int
drop_signed(struct catalogue *c, const char *list_id, const char *subject, const char *issuer,
	    enum reason reason, int64_t now, int *changed, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n = 0;
	int rc = cat_run(c, SQL_SIGNER_DISTRUST,
			 ARGS(arg_text(subject), arg_text(issuer), arg_text(list_id)), err);

	*changed += cat_n_changed(c);
	if (rc == 0)
		rc = cat_ids(c, SQL_SIGNER_WAITING,
			     ARGS(arg_text(subject), arg_text(issuer), arg_text(list_id)), &ids, &n,
			     err);
	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = drop_waiting(c, ids[i], reason, now, err);
		++*changed;
	}
	return rc;
}

int
signer_applied(struct catalogue *c, int64_t subscription, struct err *err)
{
	int rc = cat_run(c, SQL_SIGNER_OF_IMAGES, ARGS(arg_int(subscription)), err);

	if (rc == 0)
		rc = cat_run(c, SQL_SIGNER_KEEP, ARGS(arg_int(subscription)), err);
	return rc == 0 ? cat_run(c, SQL_SIGNER_COLLECT, ARGS(), err) : rc;
}

int
vouchers_review(struct catalogue *c, const struct vouchers *v, enum reason reason, struct err *err)
{
	int rc = 0, changed = 0;

	for (size_t i = 0; i < v->n && rc == 0; i++) {
		const struct voucher *one = &v->all[i];
		bool stays;

		rc = is_vouched(c, v, one, &stays, err);
		if (rc == 0 && !stays)
			rc = drop_signed(c, one->list_id, one->subject, one->issuer, reason,
					 stamp_now(), &changed, err);
	}
	return rc == 0 && changed > 0 ? object_collect(c, err) : rc;
}

int
catalogue_signer_each(struct catalogue *c,
		      int (*fn)(void *arg, const char *subject, const char *issuer,
				const struct digest *message),
		      void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_SIGNER_EACH, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		CLEANUP_FREE char *subject = next_text(&q);
		CLEANUP_FREE char *issuer = next_text(&q);
		struct digest message;

		next_digest(&q, &message);
		rc = fn(arg, subject, issuer, &message);
	}
	return rc;
}

int
catalogue_signer_distrust(struct catalogue *c, const char *subject, const char *issuer,
			  enum reason reason, int64_t now, int *changed, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	*changed = 0;
	if (rc != 0)
		return rc;
	rc = drop_signed(c, NULL, subject, issuer, reason, now, changed, err);
	if (rc == 0 && *changed > 0)
		rc = object_collect(c, err);
	return cat_scope_end(c, &scope, rc, err);
}
