/*
 * cat_rebuild.c - an empty catalogue filled from site.json and the stored messages.
 *
 * Nothing is taken from the damaged database.  Each message is verified as if it had just been
 * fetched; one that does not pass leaves its subscription without images, until a refresh brings a
 * good list.  No older list than before is taken even then: version and date stand in site.json.
 * What else lies in messages/ and verifies as an attestation of block digests comes back, too; a
 * fetch says again which address it is from.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "io.h"
#include "listjudge.h"
#include "site.h"
#include "stamp.h"

struct rebuild {
	struct catalogue *c;
	const struct catalogue_hooks *hooks;
	int64_t now;
	struct err *err;
};

static int
add_endorser(struct catalogue *c, const struct site_endorser *e, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < e->n_credentials && rc == 0; i++)
		rc = (e->blocks_only ? catalogue_endorser_add_blocks_only : catalogue_endorser_add)(
			c, e->name, e->credentials[i].subject, e->credentials[i].issuer,
			e->allow_sha1, e->any_purpose, err);
	return rc;
}

static int
add_subscription(struct catalogue *c, const struct site_subscription *s, int64_t *id,
		 struct err *err)
{
	struct subscription_row row = { .list_id = s->list_id,
					.url = s->url,
					.username = s->username,
					.password = s->password,
					.select_new = s->select_new,
					.refuse_new = s->refuse_new,
					.trust_anchor = s->trust_anchor };
	int rc = catalogue_subscription_add(c, &row, err);

	*id = row.id;
	free(row.name);
	for (size_t i = 0; i < s->endorsers.n && rc == 0; i++)
		rc = catalogue_link(c, s->endorsers.text[i], *id, err);
	for (size_t i = 0; i < s->defined.n && rc == 0; i++)
		rc = cat_run(c, SQL_WISH_ADD,
			     ARGS(arg_text(s->defined.text[i]), arg_int(*id), arg_int(0)), err);
	for (size_t i = 0; i < s->selected.n && rc == 0; i++)
		rc = cat_run(c, SQL_WISH_ADD,
			     ARGS(arg_text(s->selected.text[i]), arg_int(*id), arg_int(1)), err);
	for (size_t i = 0; i < s->pinned.n && rc == 0; i++)
		rc = cat_run(c, SQL_PIN_ADD, ARGS(arg_text(s->pinned.text[i]), arg_int(*id)), err);
	if (rc == 0)
		rc = cat_run(c, SQL_SUBSCRIPTION_RESTORE,
			     ARGS(arg_int(*id), arg_text(s->version), arg_int(s->created),
				  arg_digest(s->has_message ? &s->message : NULL),
				  arg_int(s->reset_version)),
			     err);
	return rc;
}

static int
set_state(struct rebuild *r, int64_t id, enum subscription_state state, const struct err *why,
	  struct err *err)
{
	return cat_run(r->c, SQL_SUBSCRIPTION_STATE,
		       ARGS(arg_int(id), arg_text(subscription_state_name(state)),
			    arg_int(why->code), arg_text(why->text)),
		       err);
}

/* The message as a newly fetched one: signature, endorser, format, names. */
static int
trust_message(struct rebuild *r, const struct subscription_row *sub, const struct buf *message,
	      struct verdict *verdict, struct imagelist **list, struct err *why)
{
	CLEANUP_FREE char *endorser = NULL;
	int rc = r->hooks->verify(r->hooks->arg, message->data, message->len, verdict, why);

	if (rc == 0 && verdict->rc != 0)
		rc = err_refuse(why, verdict->code, "%s", verdict->text);
	if (rc == 0)
		rc = list_judge_endorser(r->c, sub->id, verdict, &endorser, why);
	if (rc == 0)
		rc = imagelist_parse(verdict->payload.data, verdict->payload.len,
				     r->c->conf->file_prefix, list, why);
	if (rc == 0)
		rc = list_judge_names(*list, verdict, why);
	if (rc == 0 && strcmp((*list)->identifier, sub->list_id) != 0)
		rc = err_refuse(why, CODE_LIST_ID, "the stored message is of list '%s'",
				(*list)->identifier);
	return rc;
}

static int
apply_trusted(struct rebuild *r, const struct subscription_row *sub, const struct buf *message,
	      const struct verdict *verdict, const struct imagelist *list, struct err *err)
{
	static const struct err past = { .code = CODE_EXPIRED,
					 .text = "the list is past its dc:date:expires "
						 "(or max_valid_time)" };
	struct update_result result = { 0 };
	int64_t expires = list_expiry(list, r->c->conf);
	int rc = message_write(r->c, &sub->message, message->data, message->len,
			       verdict->payload.data, verdict->payload.len, err);

	if (rc == 0 && expires > r->now)
		rc = apply_rows(r->c, sub, list, expires, true, r->now, &result, err);
	if (rc == 0)
		rc = apply_subscription(r->c, sub->id, list, expires, verdict, &sub->message,
					r->now, err);
	if (rc == 0 && expires <= r->now)
		rc = set_state(r, sub->id, SUB_EXPIRED, &past, err);
	return rc;
}

/* To be tried again, instead of a catalogue without the list: no verifier, say. */
static bool
is_passing(int rc, const struct err *why)
{
	return message_may_be_good(rc) || why->code == CODE_BUSY || why->code == CODE_DATABASE ||
	       why->code == CODE_FULL;
}

static int
give_up(const struct err *why, struct err *err)
{
	if (err != NULL)
		*err = *why;
	return why->rc;
}

static int
restore_list(struct rebuild *r, const struct subscription_row *sub, struct err *err)
{
	static const struct err to_refresh = { .code = CODE_NONE, .text = "to be refreshed" };
	CLEANUP_BUF struct buf message = BUF_INIT;
	struct imagelist *list = NULL;
	struct verdict verdict;
	struct err why = { 0 };
	int rc;

	if (r->hooks == NULL || r->hooks->verify == NULL)
		return set_state(r, sub->id, SUB_NEW, &to_refresh, err);
	rc = message_read(r->c, &sub->message, false, NULL, &message, &why);
	if (rc != 0)
		return is_passing(rc, &why) ? give_up(&why, err)
					    : set_state(r, sub->id, SUB_FAILED, &why, err);
	verdict_init(&verdict);
	rc = trust_message(r, sub, &message, &verdict, &list, &why);
	if (rc == 0)
		rc = apply_trusted(r, sub, &message, &verdict, list, err);
	else if (is_passing(rc, &why))
		rc = give_up(&why, err);
	else
		rc = set_state(r, sub->id,
			       verdict.revoked || why.code == CODE_NOT_LINKED ? SUB_DISTRUSTED
									      : SUB_FAILED,
			       &why, err);
	imagelist_free(list);
	verdict_release(&verdict);
	return rc;
}

static int
restore_subscription(struct rebuild *r, const struct site_subscription *s, struct err *err)
{
	struct subscription_row sub;
	int64_t id;
	int rc = add_subscription(r->c, s, &id, err);

	if (rc != 0 || !s->has_message)
		return rc;
	rc = catalogue_subscription_by_id(r->c, id, &sub, err);
	if (rc == 0)
		rc = restore_list(r, &sub, err);
	/* Applying what we had is not the new list that this was meant for. */
	if (rc == 0 && s->reset_version)
		rc = cat_run(r->c, SQL_SUBSCRIPTION_RESET_VERSION, ARGS(arg_int(id)), err);
	subscription_row_release(&sub);
	return rc;
}

/* ---- attestations ---------------------------------------------------------------------------- */

static int
add_attestation(struct rebuild *r, const struct buf *message, const struct verdict *verdict,
		struct err *why)
{
	struct attestation_origin origin = { .url = "", .list_id = "" };
	struct attestation_result result;
	struct attestation *list = NULL;
	CLEANUP_FREE char *endorser = NULL;
	int rc = list_judge_attester(r->c, verdict, &endorser, why);

	if (rc == 0)
		rc = attestation_parse(verdict->payload.data, verdict->payload.len,
				       r->c->conf->file_prefix, &list, why);
	if (rc == 0)
		rc = catalogue_attestation_add(r->c, list, verdict, endorser, message->data,
					       message->len, &origin, r->now, &result, why);
	attestation_free(list);
	return rc;
}

/* What is no attestation, or none that is believed today, is passed over. */
static int
restore_attestation(void *arg, const struct digest *digest)
{
	struct rebuild *r = arg;
	CLEANUP_BUF struct buf message = BUF_INIT;
	struct verdict verdict;
	struct err why = { 0 };
	bool used = true;
	int rc = message_is_used(r->c, digest, &used, &why);

	if (rc == 0 && used)
		return 0;
	if (rc == 0)
		rc = message_read(r->c, digest, false, NULL, &message, &why);
	if (rc != 0)
		return is_passing(rc, &why) ? give_up(&why, r->err) : 0;
	verdict_init(&verdict);
	rc = r->hooks->verify(r->hooks->arg, message.data, message.len, &verdict, &why);
	if (rc == 0 && verdict.rc == 0)
		rc = add_attestation(r, &message, &verdict, &why);
	verdict_release(&verdict);
	/* A full disk or a broken database is not the message's fault. */
	return is_passing(rc, &why) ? give_up(&why, r->err) : 0;
}

/* Objects whose bytes are in the store and good need not be fetched again. */
static int
adopt_objects(struct rebuild *r, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc;

	if (r->hooks == NULL || r->hooks->object_good == NULL)
		return 0;
	rc = cat_query_begin(&q, r->c, SQL_OBJECT_ADOPTABLE, ARGS(), err);
	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct digest d;

		next_digest(&q, &d);
		rc = 0;
		if (r->hooks->object_good(r->hooks->arg, &d, next_int(&q)))
			rc = catalogue_object_verified(r->c, &d, NULL, r->now, err);
	}
	return rc;
}

int
catalogue_rebuild(struct catalogue *c, const struct site *site, const struct catalogue_hooks *hooks,
		  struct err *err)
{
	struct rebuild r = { c, hooks, stamp_now(), err };
	int rc = 0;

	for (size_t i = 0; i < site->n_endorsers && rc == 0; i++)
		rc = add_endorser(c, &site->endorsers[i], err);
	for (size_t i = 0; i < site->n_subscriptions && rc == 0; i++)
		rc = restore_subscription(&r, &site->subscriptions[i], err);
	if (rc == 0 && hooks != NULL && hooks->verify != NULL)
		rc = message_each(c, restore_attestation, &r, err);
	return rc == 0 ? adopt_objects(&r, err) : rc;
}
