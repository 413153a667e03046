/*
 * catalogue_check.c - whether rows, messages and site.json tell the same story (invariant I4).
 *
 * The signed messages and site.json are the authority; rows are derived.  Compared are:
 *   - the tables and triggers are those that the schema's steps make
 *   - SQLite's own integrity check, foreign keys, CHECKs (states on which trust depends are words)
 *   - endorsers, links, subscriptions, selections: site.json made anew equals the file
 *   - each list: the stored message hashes to its name, the payload to the row's digest; parsed
 *     again it gives the list's fields and every live image's metadata
 *   - each attestation: its message hashes to its name; parsed again its payload has every entry
 *   - each row of metadata: its seal; each event: that it is JSON
 * A difference is -EUCLEAN: the catalogue is damaged and will be rebuilt.  (What file_prefix was
 * when a message was accepted is not known any more: for the comparison any will do, and where it
 * decided which of two entries stands, either.)  A damaged message file harms its own subscription
 * only: its images are hidden until the list has been fetched again.
 *
 * An image that is missing from the live view costs no trust: the stored list is applied again.  So
 * are all lists once after an upgrade, because the version before may not have read all of them.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "io.h"
#include "listjudge.h"
#include "safename.h"
#include "site.h"
#include "stamp.h"

static int
check_database(struct catalogue *c, struct err *err)
{
	CAT_QUERY q = { 0 };
	CLEANUP_FREE char *text = NULL;
	int64_t value;
	bool found = false;
	int rc = cat_query_begin(&q, c, SQL_INTEGRITY_CHECK, ARGS(), err);

	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc < 0)
		return rc;
	text = rc > 0 ? next_text(&q) : NULL;
	cat_query_end(&q);
	if (text == NULL || strcmp(text, "ok") != 0)
		return err_set(err, EUCLEAN, "%s",
			       text != NULL ? text : "no answer from the integrity check");
	rc = cat_int(c, SQL_FOREIGN_KEY_CHECK, ARGS(), &value, &found, err);
	if (rc == 0 && found)
		rc = err_set(err, EUCLEAN, "a row refers to one that is missing");
	return rc;
}

/* A query that counts what must not be. */
static int
check_none(struct catalogue *c, enum sql_id sql, const char *what, struct err *err)
{
	int64_t n;
	int rc = cat_int(c, sql, ARGS(), &n, NULL, err);

	if (rc == 0 && n != 0)
		rc = err_set(err, EUCLEAN, "%s", what);
	return rc;
}

static int
check_seals(struct catalogue *c, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_META_EACH_SEAL, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct digest stored, seal;
		struct image_meta m;

		meta_next(&q, &m);
		next_digest(&q, &stored);
		meta_seal(&m, &seal);
		rc = 0;
		if (!digest_equal(&stored, &seal))
			rc = err_set(err, EUCLEAN, "metadata of '%s' does not fit its seal",
				     m.value[FIELD_ID] != NULL ? m.value[FIELD_ID] : "");
		image_meta_release(&m);
	}
	return rc;
}

/* The moment of expiry, on which purging by age depends, stands in the name too. */
static int
check_expired_names(struct catalogue *c, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_CHECK_EXPIRED_NAMES, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		CLEANUP_FREE char *name = next_text(&q);
		int64_t expired_at = next_int(&q);
		CLEANUP_FREE char *identifier = next_text(&q);
		char safe[SAFENAME_MAX + 32], stamp[STAMP_BYTES];
		CLEANUP_FREE char *expected = NULL;

		safename_identifier(identifier, safe);
		stamp_format_name(expired_at, stamp);
		expected = xasprintf("%s.%s", safe, stamp);
		rc = 0;
		if (strncmp(name, expected, strlen(expected)) != 0)
			rc = err_set(err, EUCLEAN, "expired '%s' does not fit its date", name);
	}
	return rc;
}

typedef int format_fn(struct catalogue *c, struct buf *out, struct err *err);

static int
site_differs(struct catalogue *c, const struct buf *file, format_fn *format, bool *differs,
	     struct err *err)
{
	CLEANUP_BUF struct buf ours = BUF_INIT;
	int rc = format(c, &ours, err);

	*differs = rc == 0 &&
		   (ours.len != file->len || memcmp(ours.data, file->data, file->len) != 0);
	return rc;
}

/* Only when both are of the same decision; otherwise one of the two is just being written. */
static int
check_site(struct catalogue *c, struct err *err)
{
	CLEANUP_BUF struct buf file = BUF_INIT;
	CLEANUP_FREE char *serial = catalogue_note_get(c, "site_serial");
	struct site *site = NULL;
	bool differs = false;
	int rc = 0;

	if (site_read(c->state_dir, &site, &file, NULL) != 0)
		return 0;
	if (serial != NULL && strtoll(serial, NULL, 10) == site->serial)
		rc = site_differs(c, &file, site_format, &differs, err);
	if (rc == 0 && differs)
		rc = site_differs(c, &file, site_format_before, &differs, err);
	if (rc == 0 && differs)
		rc = err_set(err, EUCLEAN,
			     "endorsers, subscriptions or selections differ from site.json");
	site_free(site);
	return rc;
}

int
catalogue_check_decisions(struct catalogue *c, struct err *err)
{
	int rc = cat_run(c, SQL_BEGIN_READ, ARGS(), err);

	if (rc != 0)
		return rc;
	rc = check_site(c, err);
	cat_undo(c);
	return rc;
}

/* ---- sorted tables of pointers -------------------------------------------------------------- */

typedef int order_fn(const void *a, const void *b);

/* Of those equal to *key, which is a pointer as theirs, the first; n: there is none. */
static size_t
find_first(const void *key, const void *table, size_t n, order_fn *order)
{
	const char *start = table, *at = NULL;

	if (n > 0)
		at = bsearch(key, table, n, sizeof(void *), order);
	if (at == NULL)
		return n;
	while (at > start && order(at - sizeof(void *), key) == 0)
		at -= sizeof(void *);
	return (size_t)(at - start) / sizeof(void *);
}

/* ---- one subscription ------------------------------------------------------------------------ */

/* Entries of a parsed list in order of identifier, of which there may be several with one. */
struct index {
	const struct imagelist_image **entry;
	size_t n;
};

static int
by_identifier(const void *a, const void *b)
{
	const struct imagelist_image *const *x = a, *const *y = b;

	return strcmp((*x)->identifier, (*y)->identifier);
}

static void
index_list(struct index *index, const struct imagelist *list)
{
	index->entry = xcalloc(list->n_images + 1, sizeof(*index->entry));
	index->n = 0;
	for (size_t i = 0; i < list->n_images; i++)
		if (!list->images[i].refused)
			index->entry[index->n++] = &list->images[i];
	qsort(index->entry, index->n, sizeof(*index->entry), by_identifier);
}

/* The entry of an identifier that has this very metadata. */
static const struct imagelist_image *
index_find(const struct index *index, const char *identifier, const struct digest *seal)
{
	struct imagelist_image key = { .identifier = xstrdup(identifier) };
	const struct imagelist_image *key_p = &key, *same = NULL;
	size_t i = find_first(&key_p, index->entry, index->n, by_identifier);

	for (; i < index->n && same == NULL && by_identifier(&index->entry[i], &key_p) == 0; i++) {
		struct digest found;

		meta_seal(&index->entry[i]->meta, &found);
		if (digest_equal(&found, seal))
			same = index->entry[i];
	}
	free(key.identifier);
	return same;
}

static bool
differs(const char *a, const char *b)
{
	return strcmp(a != NULL ? a : "", b != NULL ? b : "") != 0;
}

static int
check_list_fields(const struct subscription_row *r, const struct imagelist *list, struct err *err)
{
	if (differs(r->list_id, list->identifier) || differs(r->title, list->title) ||
	    differs(r->description, list->description) || differs(r->uri, list->uri) ||
	    differs(r->version, list->version) || differs(r->vo, list->vo) ||
	    r->created != list->created)
		return err_set(err, EUCLEAN, "the row of list '%s' differs from its stored message",
			       r->list_id);
	if (r->signer_subject == NULL || r->signer_issuer == NULL ||
	    !dn_equal(list->dn, r->signer_subject) || !dn_equal(list->ca, r->signer_issuer))
		return err_set(err, EUCLEAN,
			       "the signer of list '%s' differs from its stored message",
			       r->list_id);
	return 0;
}

/* Every live image is in the list, with this metadata.  Capped dates are set anew. */
static int
check_live(struct catalogue *c, const struct subscription_row *r, const struct index *index,
	   int64_t expires, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_IMAGE_CHECK_EACH, ARGS(arg_int(r->id)), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		int64_t id = next_int(&q);
		CLEANUP_FREE char *identifier = next_text(&q);
		bool pending = next_bool(&q);
		const struct imagelist_image *e;
		struct digest seal;

		next_digest(&q, &seal);
		e = index_find(index, identifier, &seal);
		rc = 0;
		if (e == NULL)
			rc = err_set(err, EUCLEAN, "image '%s' is not what list '%s' says",
				     identifier, r->list_id);
		else if (!pending)
			rc = cat_run(c, SQL_IMAGE_SET_EXPIRES,
				     ARGS(arg_int(id),
					  arg_int(e->meta.expires < expires ? e->meta.expires
									    : expires)),
				     err);
	}
	return rc;
}

/* Identifiers in order. */
struct names {
	char **text;
	size_t n;
};

static void
names_release(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->text[i]);
	free(names->text);
}

/* Of what was refused, but not for its date or its address: these may be good now. */
static int
read_refused(struct catalogue *c, int64_t subscription, struct names *names, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_REFUSED_BUT_FOR,
				 ARGS(arg_int(subscription), arg_int(CODE_EXPIRED)), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		names->text = xrealloc(names->text, (names->n + 1) * sizeof(*names->text));
		names->text[names->n++] = next_text(&q);
		rc = 0;
	}
	return rc;
}

static bool
names_have(const struct names *names, const char *text)
{
	return names->n > 0 &&
	       bsearch(&text, names->text, names->n, sizeof(*names->text), cat_by_text) != NULL;
}

int
catalogue_list_lacks(struct catalogue *c, const struct subscription_row *r,
		     const struct imagelist *list, int64_t now, bool *lacks, struct err *err)
{
	struct names refused = { 0 };
	int rc = read_refused(c, r->id, &refused, err);

	*lacks = false;
	for (size_t i = 0; i < list->n_images && rc == 0 && !*lacks; i++) {
		const struct imagelist_image *e = &list->images[i];
		struct image_brief b;
		bool found;

		if (e->refused || e->meta.expires <= now || names_have(&refused, e->identifier))
			continue;
		rc = image_brief_get(c, e->identifier, &b, &found, err);
		*lacks = rc == 0 && (!found || (!b.live && b.subscription == r->id));
	}
	names_release(&refused);
	return rc;
}

/* any: the list with all that may have been accepted. */
static int
check_images(struct catalogue *c, const struct subscription_row *r, const struct imagelist *list,
	     const struct imagelist *any, bool reapply, struct err *err)
{
	struct index index;
	int64_t expires = list_expiry(list, c->conf), now = stamp_now();
	bool current = (r->state == SUB_OK || r->state == SUB_FAILED) && expires > now;
	bool lacks = false;
	int rc;

	index_list(&index, any);
	rc = cat_run(c, SQL_SUBSCRIPTION_SET_EXPIRES, ARGS(arg_int(r->id), arg_int(expires)), err);
	if (rc == 0 && current && reapply) {
		c->site_dirty = true;
		rc = apply_stored(c, r->id, now, err);
	}
	if (rc == 0)
		rc = check_live(c, r, &index, expires, err);
	if (rc == 0 && current)
		rc = catalogue_list_lacks(c, r, list, now, &lacks, err);
	if (rc == 0 && lacks) {
		c->site_dirty = true;	/* images that come back may be selected by policy */
		rc = apply_stored(c, r->id, now, err);
	}
	free(index.entry);
	return rc;
}

/* The stored message cannot be believed: nothing is live until it has been fetched again. */
static int
hide(struct catalogue *c, const struct subscription_row *r, const struct err *why,
     const struct catalogue_hooks *hooks, struct err *err)
{
	CLEANUP_FREE char *text =
		xasprintf("list '%s': %s; its images come back when it has been fetched again",
			  r->list_id, why->text);
	int rc = cat_run(c, SQL_IMAGE_HIDE, ARGS(arg_int(r->id)), err);

	if (hooks != NULL && hooks->say != NULL)
		hooks->say(hooks->arg, text);
	if (rc == 0)
		rc = cat_run(c, SQL_SUBSCRIPTION_UNSTORED,
			     ARGS(arg_int(r->id), arg_int(CODE_CORRUPT), arg_text(why->text)), err);
	return rc == 0 ? object_collect(c, err) : rc;
}

static int
read_payload(struct catalogue *c, const struct subscription_row *r, struct buf *payload,
	     struct err *err)
{
	CLEANUP_BUF struct buf message = BUF_INIT;
	CAT_QUERY q = { 0 };
	struct digest expected;
	int rc = cat_query_begin(&q, c, SQL_SUBSCRIPTION_PAYLOAD, ARGS(arg_int(r->id)), err);

	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc < 0)
		return rc;
	next_digest(&q, &expected);
	rc = message_read(c, &r->message, false, NULL, &message, err);
	return rc == 0 ? message_read(c, &r->message, true, &expected, payload, err) : rc;
}

struct check {
	struct catalogue *c;
	const struct catalogue_hooks *hooks;
	bool reapply;			/* the first check after an upgrade */
	struct err *err;
};

/* Without one, no other file_prefix would say more. */
static bool
has_refused(const struct imagelist *list)
{
	for (size_t i = 0; i < list->n_images; i++)
		if (list->images[i].refused)
			return true;
	return false;
}

static int
check_subscription(void *arg, const struct subscription_row *r)
{
	struct check *k = arg;
	CLEANUP_BUF struct buf payload = BUF_INIT;
	struct imagelist *list = NULL, *any = NULL;
	struct err why = { 0 };
	int rc;

	if (!r->has_message)
		return 0;
	rc = read_payload(k->c, r, &payload, &why);
	if (rc != 0 && (message_may_be_good(rc) || why.code == CODE_DATABASE)) {
		if (k->err != NULL)
			*k->err = why;
		return rc;
	}
	if (rc != 0)
		return hide(k->c, r, &why, k->hooks, k->err);
	if (imagelist_parse(payload.data, payload.len, k->c->conf->file_prefix, &list, &why) != 0 ||
	    (has_refused(list) &&
	     imagelist_parse_all(payload.data, payload.len, &any, &why) != 0)) {
		imagelist_free(list);
		return hide(k->c, r, &why, k->hooks, k->err);
	}
	rc = check_list_fields(r, list, k->err);
	if (rc == 0 && r->endorser[0] == '\0' && (r->state == SUB_OK || r->state == SUB_FAILED))
		rc = err_set(k->err, EUCLEAN, "list '%s' is live without an endorser", r->list_id);
	if (rc == 0)
		rc = check_images(k->c, r, list, any != NULL ? any : list, k->reapply, k->err);
	imagelist_free(list);
	imagelist_free(any);
	return rc;
}

/* ---- attestations ---------------------------------------------------------------------------- */

/* Entries that stand, in order of SHA-512. */
struct attested {
	const struct attestation_entry **entry;
	size_t n;
	struct err *err;
};

static int
by_sha512(const void *a, const void *b)
{
	const struct attestation_entry *const *x = a, *const *y = b;

	return memcmp((*x)->sha512.bytes, (*y)->sha512.bytes, DIGEST_BYTES);
}

static void
index_attestation(struct attested *index, const struct attestation *list)
{
	index->entry = xcalloc(list->n, sizeof(*index->entry));
	for (size_t i = 0; i < list->n; i++)
		if (!list->entries[i].refused)
			index->entry[index->n++] = &list->entries[i];
	qsort(index->entry, index->n, sizeof(*index->entry), by_sha512);
}

static bool
is_entry(const struct attestation_entry *e, const struct attestation_entry *row)
{
	return e->size == row->size && digest_equal(&e->verity, &row->verity) &&
	       !differs(e->uri, row->uri) && !differs(e->identifier, row->identifier);
}

static int
check_entry(void *arg, const struct attestation_entry *row)
{
	struct attested *index = arg;
	size_t i = find_first(&row, index->entry, index->n, by_sha512);

	for (; i < index->n && by_sha512(&index->entry[i], &row) == 0; i++)
		if (is_entry(index->entry[i], row))
			return 0;
	return err_set(index->err, EUCLEAN, "block digests of '%s' are not what was signed",
		       row->identifier);
}

/* Of the stored files; a damaged one harms its own entries only. */
static int
read_attestation(struct catalogue *c, const struct attestation_row *r, struct buf *payload,
		 struct attestation **list, struct err *why)
{
	CLEANUP_BUF struct buf message = BUF_INIT;
	int rc = message_read(c, &r->message, false, NULL, &message, why);

	if (rc == 0)
		rc = message_read(c, &r->message, true, &r->payload, payload, why);
	return rc == 0 ? attestation_parse_all(payload->data, payload->len, list, why) : rc;
}

static int
check_signer(struct catalogue *c, const struct attestation_row *r, struct err *err)
{
	struct endorser_row e;
	bool holds = false;
	int rc;

	if (r->endorser[0] == '\0')
		return 0;
	rc = catalogue_endorser_get(c, r->endorser, &e, err);
	for (size_t i = 0; rc == 0 && i < e.n_credentials; i++)
		holds = holds || (dn_equal(e.credentials[i].subject, r->subject) &&
				  dn_equal(e.credentials[i].issuer, r->issuer));
	if (rc == 0 && !holds)
		rc = err_set(err, EUCLEAN, "block digests are trusted as endorser '%s', who did not"
			     " sign them", r->endorser);
	endorser_row_release(&e);
	return rc;
}

static int
check_attestation(void *arg, const struct attestation_row *r)
{
	struct check *k = arg;
	CLEANUP_BUF struct buf payload = BUF_INIT;
	struct attestation *list = NULL;
	struct attested index = { .err = k->err };
	struct err why = { 0 };
	int rc = check_signer(k->c, r, k->err), unread = 0;

	if (rc == 0)
		unread = read_attestation(k->c, r, &payload, &list, &why);
	if (message_may_be_good(unread)) {
		if (k->err != NULL)
			*k->err = why;
		return unread;
	}
	if (unread != 0) {
		CLEANUP_FREE char *text = xasprintf("block digests signed by '%s' are not used:"
						    " %s", r->subject, why.text);

		if (k->hooks != NULL && k->hooks->say != NULL)
			k->hooks->say(k->hooks->arg, text);
		return catalogue_attestation_trust(k->c, r->id, NULL, false, k->err);
	}
	if (rc == 0) {
		index_attestation(&index, list);
		rc = catalogue_attested_each(k->c, r->id, check_entry, &index, k->err);
	}
	free(index.entry);
	attestation_free(list);
	return rc;
}

/* ---- together -------------------------------------------------------------------------------- */

static int
check_all(struct catalogue *c, const struct catalogue_hooks *hooks, struct err *err)
{
	CLEANUP_FREE char *reapply = catalogue_note_get(c, "reapply");
	struct check k = { c, hooks, reapply != NULL && reapply[0] == '1', err };
	int rc = catalogue_schema_check(c->db, err);

	if (rc == 0)
		rc = check_database(c, err);
	if (rc == 0)
		rc = check_site(c, err);
	if (rc == 0)
		rc = check_none(c, SQL_CHECK_STRAY_LIVE, "images are live without a current list",
				err);
	if (rc == 0)
		rc = check_none(c, SQL_CHECK_DIGESTS,
				"digests or sizes of images and objects differ", err);
	if (rc == 0)
		rc = check_none(c, SQL_OBJECT_MISSING_ROWS,
				"an image names an object without a row", err);
	if (rc == 0)
		rc = check_none(c, SQL_CHECK_EVENTS, "an event is no JSON", err);
	if (rc == 0)
		rc = check_seals(c, err);
	if (rc == 0)
		rc = check_expired_names(c, err);
	if (rc == 0)
		rc = catalogue_subscription_each(c, check_subscription, &k, err);
	if (rc == 0)
		rc = catalogue_attestation_each(c, check_attestation, &k, err);
	if (rc == 0 && k.reapply)
		rc = cat_run(c, SQL_NOTE_SET, ARGS(arg_text("reapply"), arg_text("0")), err);
	return rc == 0 ? message_sweep(c, err) : rc;
}

int
catalogue_check(struct catalogue *c, const struct catalogue_hooks *hooks, struct err *err)
{
	int rc = catalogue_begin(c, err);

	if (rc != 0)
		return rc;
	rc = check_all(c, hooks, err);
	if (rc == 0)
		return catalogue_commit(c, err);
	catalogue_rollback(c);
	return rc;
}
