/*
 * cat_endorser.c - who is trusted: endorsers, their credentials, and what they may sign.
 *
 * Trust in a stored list follows from rows: some endorser must hold the signer's subject and
 * issuer and be linked to the subscription.  Whoever removes one of the two asks here which
 * subscriptions that leaves without a signer, and distrusts them in the same transaction.
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
#include "utf8.h"

void
endorser_row_release(struct endorser_row *r)
{
	free(r->name);
	free(r->dir);
	for (size_t i = 0; i < r->n_credentials; i++) {
		free(r->credentials[i].subject);
		free(r->credentials[i].issuer);
	}
	free(r->credentials);
	memset(r, 0, sizeof(*r));
}

static int
endorser_id(struct catalogue *c, const char *name, int64_t *id, struct err *err)
{
	bool found = false;
	int rc = cat_int(c, SQL_ENDORSER_ID, ARGS(arg_text(name)), id, &found, err);

	if (rc == 0 && !found)
		rc = err_set(err, ENOENT, "endorser '%s' is not registered", name);
	return rc;
}

/* Any text: vmcatcher's are such as 'Test Endorser', and scripts name them so. */
static int
check_name(const char *name, struct err *err)
{
	if (name[0] == '\0')
		return err_set(err, EINVAL, "the endorser's name is empty");
	if (strlen(name) > LIMIT_IDENTIFIER_BYTES)
		return err_set(err, EINVAL, "the endorser's name is longer than %d bytes",
			       LIMIT_IDENTIFIER_BYTES);
	if (!utf8_is_plain(name))
		return err_set(err, EINVAL,
			       "the endorser's name holds control characters or is no UTF-8");
	return 0;
}

/* What the mount calls it; only names that are no safe ones differ from it. */
static int
make_dir(struct catalogue *c, const char *name, char dir[SAFENAME_MAX + 32], struct err *err)
{
	int64_t value;
	bool taken = false;
	int rc;

	safename_identifier(name, dir);
	rc = cat_int(c, SQL_ENDORSER_DIR_TAKEN, ARGS(arg_text(dir)), &value, &taken, err);
	if (rc == 0 && taken)
		rc = err_set(err, EEXIST, "the directory '%s', made of the endorser's name, is that"
			     " of another: choose another name", dir);
	return rc;
}

static int
check_credential(struct catalogue *c, const char *subject, const char *issuer, struct err *err)
{
	CAT_QUERY q = { 0 };
	CLEANUP_FREE char *owner = NULL;
	int rc = cat_query_begin(&q, c, SQL_CREDENTIAL_OWNER,
				 ARGS(arg_text(subject), arg_text(issuer)), err);

	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc <= 0)
		return rc;
	owner = next_text(&q);
	return err_set(err, EEXIST,
		       "subject '%s' is registered already: it belongs to endorser '%s'", subject,
		       owner);
}

/* An endorser is of one kind: a further credential must not make more of it than it is. */
static int
check_kind(struct catalogue *c, const char *name, bool blocks_only, struct err *err)
{
	struct endorser_row row;
	int rc = catalogue_endorser_get(c, name, &row, err);

	if (rc == 0 && row.blocks_only != blocks_only)
		rc = err_set(err, EEXIST, "endorser '%s' is registered %s --blocks-only: choose"
			     " another name for this credential", name,
			     row.blocks_only ? "with" : "without");
	endorser_row_release(&row);
	return rc;
}

static int
add_rows(struct catalogue *c, const char *name, const char *subject, const char *issuer,
	 bool allow_sha1, bool any_purpose, bool blocks_only, struct err *err)
{
	char dir[SAFENAME_MAX + 32];
	int64_t id = 0, ino;
	bool found;
	int rc = check_name(name, err);

	if (rc == 0)
		rc = check_credential(c, subject, issuer, err);
	if (rc != 0)
		return rc;
	if ((rc = cat_int(c, SQL_ENDORSER_ID, ARGS(arg_text(name)), &id, &found, err)) != 0)
		return rc;
	if (found && (rc = check_kind(c, name, blocks_only, err)) != 0)
		return rc;
	if (found) {
		rc = cat_run(c, SQL_ENDORSER_SWITCHES,
			     ARGS(arg_int(id), arg_int(allow_sha1), arg_int(any_purpose)), err);
	} else if ((rc = make_dir(c, name, dir, err)) == 0 &&
		   (rc = cat_inode(c, "endorser", name, &ino, err)) == 0) {
		rc = cat_run(c, SQL_ENDORSER_ADD,
			     ARGS(arg_int(ino), arg_text(name), arg_text(dir), arg_int(allow_sha1),
				  arg_int(any_purpose), arg_int(blocks_only)),
			     err);
		id = cat_last_id(c);
	}
	if (rc == 0)
		rc = cat_run(c, SQL_CREDENTIAL_ADD,
			     ARGS(arg_int(id), arg_text(subject), arg_text(issuer)), err);
	c->site_dirty = true;
	return rc;
}

static int
add_endorser(struct catalogue *c, const char *name, const char *subject, const char *issuer,
	     bool allow_sha1, bool any_purpose, bool blocks_only, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = add_rows(c, name, subject, issuer, allow_sha1, any_purpose, blocks_only, err);
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_endorser_add(struct catalogue *c, const char *name, const char *subject,
		       const char *issuer, bool allow_sha1, bool any_purpose, struct err *err)
{
	return add_endorser(c, name, subject, issuer, allow_sha1, any_purpose, false, err);
}

int
catalogue_endorser_add_blocks_only(struct catalogue *c, const char *name, const char *subject,
				   const char *issuer, bool allow_sha1, bool any_purpose,
				   struct err *err)
{
	return add_endorser(c, name, subject, issuer, allow_sha1, any_purpose, true, err);
}

static int
read_credentials(struct catalogue *c, struct endorser_row *r, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_CREDENTIAL_EACH, ARGS(arg_int(r->id)), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct credential *k;

		r->credentials = xrealloc(r->credentials, (r->n_credentials + 1) * sizeof(*k));
		k = &r->credentials[r->n_credentials++];
		k->subject = next_text(&q);
		k->issuer = next_text(&q);
		rc = 0;
	}
	return rc;
}

static int
read_endorser(struct cat_query *q, struct endorser_row *r, struct err *err)
{
	memset(r, 0, sizeof(*r));
	r->id = next_int(q);
	r->rev = next_int(q);
	r->ino = (uint64_t)next_int(q);
	r->name = next_text(q);
	r->dir = next_text(q);
	r->allow_sha1 = next_bool(q);
	r->any_purpose = next_bool(q);
	r->blocks_only = next_bool(q);
	return read_credentials(q->c, r, err);
}

int
catalogue_endorser_get(struct catalogue *c, const char *name, struct endorser_row *out,
		       struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_ENDORSER_BY_NAME, ARGS(arg_text(name)), err);

	memset(out, 0, sizeof(*out));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc == 0)
		return err_set(err, ENOENT, "endorser '%s' is not registered", name);
	if (rc > 0)
		rc = read_endorser(&q, out, err);
	if (rc != 0)
		endorser_row_release(out);
	return rc;
}

int
catalogue_endorser_each(struct catalogue *c, int (*fn)(void *arg, const struct endorser_row *r),
			void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_ENDORSER_EACH, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct endorser_row r;

		rc = read_endorser(&q, &r, err);
		if (rc == 0)
			rc = fn(arg, &r);
		endorser_row_release(&r);
	}
	return rc;
}

int
endorser_match(struct catalogue *c, int64_t subscription, const char *subject, const char *issuer,
	       int64_t *endorser, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_CREDENTIAL_CANDIDATES, ARGS(arg_id(subscription)), err);

	*endorser = 0;
	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		int64_t id = next_int(&q);
		CLEANUP_FREE char *s = next_text(&q);
		CLEANUP_FREE char *i = next_text(&q);

		rc = 0;
		if (subject != NULL && issuer != NULL && dn_equal(s, subject) &&
		    dn_equal(i, issuer)) {
			*endorser = id;
			break;
		}
	}
	return rc;
}

int
endorser_refresh(struct catalogue *c, int64_t subscription, struct err *err)
{
	struct subscription_row r;
	int64_t endorser = 0;
	int rc = catalogue_subscription_by_id(c, subscription, &r, err);

	if (rc == 0)
		rc = endorser_match(c, subscription, r.signer_subject, r.signer_issuer, &endorser,
				    err);
	if (rc == 0)
		rc = cat_run(c, SQL_SUBSCRIPTION_ENDORSER,
			     ARGS(arg_int(subscription), arg_id(endorser)), err);
	subscription_row_release(&r);
	return rc;
}

/* Distrusts a subscription whose list nobody vouches for any more. */
static int
distrust_orphan(struct catalogue *c, int64_t subscription, enum reason reason, const char *endorser,
		struct err *err)
{
	struct subscription_row r;
	char why[ERR_TEXT_MAX];
	int rc = endorser_refresh(c, subscription, err);

	if (rc != 0)
		return rc;
	rc = catalogue_subscription_by_id(c, subscription, &r, err);
	if (rc == 0 && r.signer_subject != NULL && r.endorser[0] == '\0' &&
	    r.state != SUB_DISTRUSTED) {
		snprintf(why, sizeof(why), "endorser '%s' was %s", endorser,
			 reason == REASON_ENDORSER_UNLINKED ? "unlinked" : "removed");
		rc = catalogue_distrust(c, subscription, reason, why, stamp_now(), err);
	}
	subscription_row_release(&r);
	return rc;
}

static int
delete_rows(struct catalogue *c, int64_t id, const char *name, const char *subject,
	    const char *issuer, struct err *err)
{
	int rc;

	if (subject == NULL)
		return cat_run(c, SQL_ENDORSER_DELETE, ARGS(arg_int(id)), err);
	rc = cat_run(c, SQL_CREDENTIAL_DELETE,
		     ARGS(arg_int(id), arg_text(subject), arg_text(issuer)), err);
	if (rc == 0 && cat_n_changed(c) == 0)
		rc = err_set(err, ENOENT, "endorser '%s' has no subject '%s' with issuer '%s'",
			     name, subject, issuer != NULL ? issuer : "");
	return rc;
}

static int
remove_endorser(struct catalogue *c, const char *name, const char *subject, const char *issuer,
		struct err *err)
{
	CLEANUP_FREE int64_t *subs = NULL;
	struct vouchers *vouchers = NULL;
	int64_t id;
	size_t n = 0;
	int rc = endorser_id(c, name, &id, err);

	if (rc == 0)
		rc = cat_ids(c, SQL_LINK_SUBSCRIPTIONS, ARGS(arg_int(id)), &subs, &n, err);
	if (rc == 0)
		rc = attestation_leave(c, id, subject, issuer, err);
	if (rc == 0)
		rc = vouchers_read(c, false, &vouchers, err);
	if (rc == 0)
		rc = delete_rows(c, id, name, subject, issuer, err);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = distrust_orphan(c, subs[i], REASON_ENDORSER_REMOVED, name, err);
	if (rc == 0)
		rc = vouchers_review(c, vouchers, REASON_ENDORSER_REMOVED, err);
	vouchers_free(vouchers);
	c->site_dirty = true;
	return rc;
}

int
catalogue_endorser_remove(struct catalogue *c, const char *name, const char *subject,
			  const char *issuer, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = remove_endorser(c, name, subject, issuer, err);
	return cat_scope_end(c, &scope, rc, err);
}

static int
check_may_link(struct catalogue *c, const char *name, struct err *err)
{
	struct endorser_row row;
	int rc = catalogue_endorser_get(c, name, &row, err);

	if (rc == 0 && row.blocks_only)
		rc = err_refuse(err, CODE_NOT_LINKED, "endorser '%s' may sign block digests only"
				" (--blocks-only): it cannot be linked to a list", name);
	endorser_row_release(&row);
	return rc;
}

int
catalogue_link(struct catalogue *c, const char *endorser, int64_t subscription, struct err *err)
{
	struct cat_scope scope;
	int64_t id;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = endorser_id(c, endorser, &id, err);
	if (rc == 0)
		rc = check_may_link(c, endorser, err);
	if (rc == 0)
		rc = attestation_leave(c, id, NULL, NULL, err);
	if (rc == 0)
		rc = cat_run(c, SQL_LINK_ADD, ARGS(arg_int(id), arg_int(subscription)), err);
	if (rc == 0)
		rc = endorser_refresh(c, subscription, err);
	c->site_dirty = true;
	return cat_scope_end(c, &scope, rc, err);
}

static int
unlink_endorser(struct catalogue *c, const char *endorser, int64_t subscription, struct err *err)
{
	struct vouchers *vouchers = NULL;
	int64_t id;
	int rc = endorser_id(c, endorser, &id, err);

	if (rc == 0)
		rc = attestation_leave(c, id, NULL, NULL, err);
	if (rc == 0)
		rc = vouchers_read(c, true, &vouchers, err);
	if (rc == 0)
		rc = cat_run(c, SQL_LINK_DELETE, ARGS(arg_int(id), arg_int(subscription)), err);
	if (rc == 0 && cat_n_changed(c) == 0)
		rc = err_set(err, ENOENT, "endorser '%s' is not linked to this subscription",
			     endorser);
	if (rc == 0)
		rc = distrust_orphan(c, subscription, REASON_ENDORSER_UNLINKED, endorser, err);
	if (rc == 0)
		rc = vouchers_review(c, vouchers, REASON_ENDORSER_UNLINKED, err);
	vouchers_free(vouchers);
	c->site_dirty = true;
	return rc;
}

int
catalogue_unlink(struct catalogue *c, const char *endorser, int64_t subscription, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = unlink_endorser(c, endorser, subscription, err);
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_link_read(struct catalogue *c, int64_t endorser, int64_t subscription, bool *linked,
		    struct err *err)
{
	int64_t value;

	*linked = false;
	if (subscription == 0)
		return cat_int(c, SQL_LINK_SUBSCRIPTIONS, ARGS(arg_int(endorser)), &value, linked,
			       err);
	return cat_int(c, SQL_LINK_EXISTS, ARGS(arg_int(endorser), arg_int(subscription)), &value,
		       linked, err);
}

bool
catalogue_is_linked(struct catalogue *c, int64_t endorser, int64_t subscription)
{
	bool linked;

	return catalogue_link_read(c, endorser, subscription, &linked, NULL) == 0 && linked;
}
