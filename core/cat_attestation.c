/*
 * cat_attestation.c - attestations: signed block digests for images of lists that have none.
 *
 *   trust         endorser    its entries
 *   trusted       set         count, for the images that this endorser may speak of
 *   trusted       NULL        do not: the endorser, or this credential of it, was removed
 *   distrusted    any         do not: revoked, or the stored message is damaged
 *
 * Of which images an endorser may speak is asked each time an object is read (catalogue_sql.c): a
 * blocks-only endorser of any, another one of those of lists that it is linked to.  So it counts at
 * once that trust is taken back, and what was taken back comes back only when the stored message
 * was verified again (attestimport.h).
 *
 * The newer word of a signer takes the place of its older one about the same image, and the newer
 * message from one address that of the older one.  A message without an entry that stands is
 * forgotten.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "limits.h"
#include "listjudge.h"

static void
attestation_row_release(struct attestation_row *r)
{
	free(r->source);
	free(r->list_id);
	free(r->subject);
	free(r->issuer);
	free(r->endorser);
	memset(r, 0, sizeof(*r));
}

static void
read_attestation(struct cat_query *q, struct attestation_row *r)
{
	CLEANUP_FREE char *trust = NULL;

	memset(r, 0, sizeof(*r));
	r->id = next_int(q);
	next_digest(q, &r->message);
	next_digest(q, &r->payload);
	r->source = next_text(q);
	r->list_id = next_text(q);
	r->subject = next_text(q);
	r->issuer = next_text(q);
	r->endorser = next_text(q);
	trust = next_text(q);
	r->trusted = r->endorser[0] != '\0' && trust != NULL && strcmp(trust, "trusted") == 0;
	r->imported = next_int(q);
	r->n = next_int(q);
}

int
catalogue_attestation_each(struct catalogue *c,
			   int (*fn)(void *arg, const struct attestation_row *r), void *arg,
			   struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_ATTESTATION_EACH, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct attestation_row r;

		read_attestation(&q, &r);
		rc = fn(arg, &r);
		attestation_row_release(&r);
	}
	return rc;
}

int
catalogue_attested_each(struct catalogue *c, int64_t attestation,
			int (*fn)(void *arg, const struct attestation_entry *e), void *arg,
			struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_ATTESTED_EACH, ARGS(arg_int(attestation)), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct attestation_entry e = { 0 };

		next_digest(&q, &e.sha512);
		e.size = next_int(&q);
		next_digest(&q, &e.verity);
		e.uri = next_text(&q);
		e.identifier = next_text(&q);
		rc = fn(arg, &e);
		free(e.uri);
		free(e.identifier);
	}
	return rc;
}

/* ---- trust ----------------------------------------------------------------------------------- */

static int
set_trust(struct catalogue *c, int64_t id, const char *endorser, bool trusted, struct err *err)
{
	int64_t owner = 0;
	int rc = 0;

	if (endorser != NULL)
		rc = cat_int(c, SQL_ENDORSER_ID, ARGS(arg_text(endorser)), &owner, NULL, err);
	if (rc == 0)
		rc = cat_run(c, SQL_ATTESTATION_TRUST,
			     ARGS(arg_int(id), arg_id(owner),
				  arg_text(trusted ? "trusted" : "distrusted")),
			     err);
	/* What failed because of what was said is worth another try when something else is. */
	return rc == 0 ? cat_run(c, SQL_OBJECT_RETRY_ATTESTATION, ARGS(arg_int(id)), err) : rc;
}

int
catalogue_attestation_trust(struct catalogue *c, int64_t id, const char *endorser, bool trusted,
			    struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = set_trust(c, id, endorser, trusted, err);
	return cat_scope_end(c, &scope, rc, err);
}

/* The attestations of an endorser that this credential of it signed. */
static int
signed_with(struct catalogue *c, int64_t endorser, const char *subject, const char *issuer,
	    int64_t **ids, size_t *n, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_ATTESTATION_OF, ARGS(arg_int(endorser)), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		int64_t id = next_int(&q);
		CLEANUP_FREE char *s = next_text(&q);
		CLEANUP_FREE char *i = next_text(&q);

		rc = 0;
		if (!dn_equal(subject, s) || !dn_equal(issuer, i))
			continue;
		*ids = xrealloc(*ids, (*n + 1) * sizeof(**ids));
		(*ids)[(*n)++] = id;
	}
	return rc;
}

int
attestation_leave(struct catalogue *c, int64_t endorser, const char *subject, const char *issuer,
		  struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n = 0;
	int rc = cat_run(c, SQL_OBJECT_RETRY_ENDORSER, ARGS(arg_int(endorser)), err);

	if (rc == 0 && subject != NULL && issuer != NULL)
		rc = signed_with(c, endorser, subject, issuer, &ids, &n, err);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = cat_run(c, SQL_ATTESTATION_DISOWN, ARGS(arg_int(ids[i])), err);
	return rc;
}

/* ---- a new message --------------------------------------------------------------------------- */

struct adding {
	struct catalogue *c;
	const struct verdict *verdict;
	const struct attestation_origin *origin;
	struct attestation_result *result;
	int64_t id;
	struct err first;		/* the first refusal */
	struct err *err;
};

static void
tell_refused(struct adding *a, const struct attestation_entry *e, enum code code, const char *why)
{
	const struct attestation_origin *o = a->origin;

	a->result->refused++;
	if (a->first.rc == 0)
		err_refuse(&a->first, code, "%s", why);
	if (o->refused != NULL)
		o->refused(o->arg, e->identifier, code, why);
}

/* The same bytes cannot have two sizes. */
static int
check_size(struct adding *a, const struct attestation_entry *e, bool *good)
{
	int64_t size;
	bool found = false;
	int rc = cat_int(a->c, SQL_OBJECT_SIZE, ARGS(arg_digest(&e->sha512)), &size, &found,
			 a->err);

	*good = rc == 0 && (!found || size == e->size);
	return rc;
}

static int
add_entry(struct adding *a, const struct attestation_entry *e)
{
	bool good;
	int rc;

	if (e->refused) {
		tell_refused(a, e, e->code, e->error);
		return 0;
	}
	rc = check_size(a, e, &good);
	if (rc == 0 && !good) {
		tell_refused(a, e, CODE_SIZE,
			     "hv:size differs from that of the image with this SHA-512");
		return 0;
	}
	if (rc == 0)
		rc = cat_run(a->c, SQL_ATTESTED_REPLACE,
			     ARGS(arg_digest(&e->sha512), arg_text(a->verdict->subject),
				  arg_text(a->verdict->issuer)),
			     a->err);
	if (rc == 0)
		rc = cat_run(a->c, SQL_ATTESTED_ADD,
			     ARGS(arg_int(a->id), arg_digest(&e->sha512), arg_int(e->size),
				  arg_digest(&e->verity), arg_text(e->uri),
				  arg_text(e->identifier)),
			     a->err);
	a->result->accepted++;
	return rc;
}

static int
add_row(struct adding *a, const char *endorser, const struct digest *message, int64_t now)
{
	const struct buf *payload = &a->verdict->payload;
	struct digest digest;
	int64_t owner;
	int rc = cat_int(a->c, SQL_ENDORSER_ID, ARGS(arg_text(endorser)), &owner, NULL, a->err);

	digest_of(payload->data, payload->len, &digest);
	if (rc == 0)
		rc = cat_run(a->c, SQL_ATTESTATION_ADD,
			     ARGS(arg_digest(message), arg_digest(&digest),
				  arg_text(a->origin->url), arg_text(a->origin->list_id),
				  arg_text(a->verdict->subject), arg_text(a->verdict->issuer),
				  arg_id(owner), arg_int(now)),
			     a->err);
	a->id = cat_last_id(a->c);
	return rc;
}

static int
check_room(struct adding *a, const struct attestation *list)
{
	int64_t n;
	int rc = cat_int(a->c, SQL_ATTESTED_COUNT, ARGS(), &n, NULL, a->err);

	if (rc == 0 && n + (int64_t)list->n > LIMIT_IMAGES_ALL)
		rc = err_refuse(a->err, CODE_LIMIT,
				"all attestations together would name more than %d images",
				LIMIT_IMAGES_ALL);
	return rc;
}

static int
add_new(struct adding *a, const struct attestation *list, const char *endorser,
	const struct digest *digest, const void *message, size_t len, int64_t now)
{
	const struct buf *payload = &a->verdict->payload;
	int rc = check_room(a, list);

	if (rc == 0)
		rc = message_write(a->c, digest, message, len, payload->data, payload->len,
				   a->err);
	if (rc == 0)
		rc = add_row(a, endorser, digest, now);
	for (size_t i = 0; i < list->n && rc == 0; i++)
		rc = add_entry(a, &list->entries[i]);
	if (rc == 0 && a->result->accepted > 0 && a->origin->url[0] != '\0')
		rc = cat_run(a->c, SQL_ATTESTATION_REPLACE,
			     ARGS(arg_int(a->id), arg_text(a->origin->url)), a->err);
	if (rc == 0)
		rc = cat_run(a->c, SQL_ATTESTATION_COLLECT, ARGS(), a->err);
	if (rc == 0 && a->result->accepted == 0)
		rc = err_refuse(a->err, a->first.code, "no entry can be used: %s", a->first.text);
	return rc == 0 ? cat_run(a->c, SQL_OBJECT_RETRY_ATTESTATION, ARGS(arg_int(a->id)), a->err)
		       : rc;
}

/* The very message that we have: trusted again if it was not, and nothing else. */
static int
add_known(struct adding *a, const char *endorser, const struct digest *digest, const void *message,
	  size_t len, bool *known)
{
	const struct buf *payload = &a->verdict->payload;
	CAT_QUERY q = { 0 };
	struct attestation_row row;
	int rc = cat_query_begin(&q, a->c, SQL_ATTESTATION_BY_MESSAGE, ARGS(arg_digest(digest)),
				 a->err);

	*known = false;
	if (rc == 0)
		rc = cat_query_next(&q, a->err);
	if (rc <= 0)
		return rc;
	*known = a->result->same = true;
	read_attestation(&q, &row);
	cat_query_end(&q);
	rc = 0;
	a->result->accepted = (int)row.n;
	if (!row.trusted) {
		/* Its file may be what was wrong with it. */
		rc = message_write(a->c, digest, message, len, payload->data, payload->len,
				   a->err);
		if (rc == 0)
			rc = set_trust(a->c, row.id, endorser, true, a->err);
		a->result->same = false;
	}
	attestation_row_release(&row);
	return rc;
}

int
catalogue_attestation_add(struct catalogue *c, const struct attestation *list,
			  const struct verdict *verdict, const char *endorser, const void *message,
			  size_t len, const struct attestation_origin *origin, int64_t now,
			  struct attestation_result *result, struct err *err)
{
	struct adding a = { .c = c, .verdict = verdict, .origin = origin, .result = result,
			    .err = err };
	struct cat_scope scope;
	struct digest digest;
	bool known;
	int rc = cat_scope_begin(c, &scope, err);

	memset(result, 0, sizeof(*result));
	if (rc != 0)
		return rc;
	digest_of(message, len, &digest);
	rc = add_known(&a, endorser, &digest, message, len, &known);
	if (rc == 0 && !known)
		rc = add_new(&a, list, endorser, &digest, message, len, now);
	return cat_scope_end(c, &scope, rc, err);
}
