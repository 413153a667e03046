/*
 * refresh.c - one subscription brought up to date.
 *
 *   URL -> fetcher process -> message -> verifier process -> verdict -> payload -> image list
 *       -> judged against the rows -> rows
 *
 * The order of the checks is the order of the codes that users see: transport (10, 44), signature
 * and chain (11, 14, 49, 50, 51), JSON and form (37, 38, 47, 34), names in the list against the
 * certificate (12), list identifier (31), endorser (13), dates and versions (33, 34, 16, 17).
 * No byte of the payload is parsed before the signature over it was accepted.
 *
 * When the list stands, signed block digests for its images are looked for where the configuration
 * says (attestimport.h); that they cannot be had is no fault of the list.
 *
 * Everything that depends on rows is judged inside the transaction that applies the list, so that
 * an endorser who is unlinked, or a newer version that is applied, at the same moment by another
 * command is not overlooked.  A refusal rolls back and is then recorded by itself.
 */
#include "config.h"
#include "refresh.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "attestimport.h"
#include "cleanup.h"
#include "clock.h"
#include "io.h"
#include "listjudge.h"
#include "safename.h"
#include "stamp.h"

void
refresh_say(const struct refresh *r, const char *fmt, ...)
{
	char line[ERR_TEXT_MAX];
	va_list ap;

	if (r->say == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	r->say(r->arg, line);
}

static void
say_warning(const struct refresh *r, const char *list_id, const struct err *warning)
{
	if (warning->text[0] != '\0')
		refresh_say(r, "list '%s': warning: %s", list_id, warning->text);
}

static int
examine(const struct refresh *r, struct candidate *cand, struct err *err)
{
	int rc = candidate_examine(cand, r->conf, r->starter, err);

	if (r->examined != NULL)
		r->examined(r->arg, cand);
	return rc;
}

/* ---- judging against the rows; inside a transaction ------------------------------------------ */

static int
check_identifier(const struct subscription_row *sub, const struct imagelist *list, struct err *err)
{
	if (strcmp(sub->list_id, list->identifier) == 0)
		return 0;
	return err_refuse(err, CODE_LIST_ID, "this URL now serves list '%s', not '%s'",
			  list->identifier, sub->list_id);
}

/*
 * An enum judgement or a refusal.  JUDGE_SAME is a reason to do nothing only if the rows stand: a
 * list that was distrusted and verifies again is applied again, and so is one for which any version
 * was allowed, because that word must not stand open for a list that comes some day, or one of
 * which other images are to be accepted now, by an admin's word, the clock or file_prefix.
 */
static int
judge(const struct refresh *r, const struct subscription_row *sub, const struct candidate *cand,
      int64_t now, struct err *warning, struct err *err)
{
	CLEANUP_FREE char *endorser = NULL;
	int rc;

	rc = check_identifier(sub, cand->list, err);
	if (rc == 0)
		rc = list_judge_endorser(r->catalogue, sub->id, &cand->verdict, &endorser, err);
	if (rc != 0)
		return rc;
	rc = list_judge(sub, cand->list, &cand->digest, r->conf, now, warning, err);
	if (rc == JUDGE_SAME &&
	    (sub->state == SUB_DISTRUSTED || sub->reset_version || sub->reapply))
		rc = JUDGE_ACCEPT;
	return rc;
}

static int
say_change(void *arg, const char *what, const char *identifier, const char *title)
{
	const struct refresh *r = arg;

	refresh_say(r, "would %s '%s' (%s)", what, identifier, title);
	return 0;
}

/* Applies, previews, or notes that nothing is new. */
static int
carry_out(const struct refresh *r, const struct subscription_row *sub,
	  const struct candidate *cand, int judgement, int64_t now, struct update_result *result,
	  struct err *err)
{
	struct refresh copy = *r;

	if (judgement == JUDGE_SAME) {
		result->same = true;
		if (r->dry_run)
			return 0;
		return catalogue_subscription_tried(r->catalogue, sub->id, now, CODE_NONE, "", err);
	}
	if (r->dry_run)
		return catalogue_preview_list(r->catalogue, sub, cand->list, say_change, &copy,
					      result, err);
	return catalogue_apply_list(r->catalogue, sub, cand->list, &cand->verdict,
				    cand->message.data, cand->message.len, now, result, err);
}

/* begin ... commit around judging and carrying out, with the row as it is now. */
static int
settle(const struct refresh *r, int64_t id, const struct candidate *cand,
       struct update_result *result, struct err *err)
{
	struct subscription_row sub = { 0 };
	struct err warning = { 0 };
	int64_t now = stamp_now();
	bool lacks = false;
	int rc;

	rc = catalogue_begin(r->catalogue, err);
	if (rc != 0)
		return rc;
	rc = catalogue_subscription_by_id(r->catalogue, id, &sub, err);
	sub.reset_version = sub.reset_version || r->any_version;
	if (rc == 0 && sub.has_message && digest_equal(&sub.message, &cand->digest))
		rc = catalogue_list_lacks(r->catalogue, &sub, cand->list, now, &lacks, err);
	sub.reapply = sub.reapply || lacks;
	if (rc == 0)
		rc = judge(r, &sub, cand, now, &warning, err);
	if (rc >= 0)
		rc = carry_out(r, &sub, cand, rc, now, result, err);
	if (rc == 0 && !r->dry_run)
		rc = catalogue_commit(r->catalogue, err);
	else
		catalogue_rollback(r->catalogue);
	if (rc == 0)
		say_warning(r, sub.list_id, &warning);
	subscription_row_release(&sub);
	return rc;
}

int
refresh_reapply(const struct refresh *r, int64_t id, const struct candidate *candidate,
		struct err *err)
{
	struct subscription_row sub = { 0 };
	struct update_result result = { 0 };
	CLEANUP_FREE char *endorser = NULL;
	int rc;

	rc = catalogue_begin(r->catalogue, err);
	if (rc != 0)
		return rc;
	rc = catalogue_subscription_by_id(r->catalogue, id, &sub, err);
	if (rc == 0)
		rc = check_identifier(&sub, candidate->list, err);
	if (rc == 0 && !(sub.has_message && digest_equal(&sub.message, &candidate->digest)))
		rc = err_refuse(err, CODE_BUSY, "list '%s': another version came meanwhile",
				sub.list_id);
	if (rc == 0)
		rc = list_judge_endorser(r->catalogue, id, &candidate->verdict, &endorser, err);
	/* Although it is the message that is there. */
	sub.reapply = true;
	if (rc == 0)
		rc = catalogue_apply_list(r->catalogue, &sub, candidate->list,
					  &candidate->verdict, candidate->message.data,
					  candidate->message.len, stamp_now(), &result, err);
	if (rc == 0)
		rc = catalogue_commit(r->catalogue, err);
	else
		catalogue_rollback(r->catalogue);
	subscription_row_release(&sub);
	return rc;
}

/* ---- one subscription ------------------------------------------------------------------------ */

/* After a list was applied, or found to be the one we have. */
static void
look_for_block_digests(const struct refresh *r, const char *list_id, bool same)
{
	bool news = attestimport_for_list(r, list_id);

	if (!r->dry_run && (news || !same))
		attestimport_say_disagreements(r);
}

/* Before anything is asked: by a clock of the past every signature is one of the future. */
static int
check_clock(int64_t newest, struct err *err)
{
	int64_t now = stamp_now();

	return clock_say(clock_judge(now, newest, 0), now, newest, 0, err);
}

static int
check_deadline(const struct refresh *r, struct err *err)
{
	if (r->deadline == 0 || io_monotonic_ms() < r->deadline)
		return 0;
	return err_refuse(err, CODE_SLOW,
			  "not tried: the time for one refresh of all lists is over");
}

/*
 * A refusal is a fact of its own transaction; if even that fails the first reason is the one to
 * tell.
 */
static void
record_refusal(const struct refresh *r, int64_t id, int64_t tried, const struct err *why)
{
	/* Without a code of its own it is a fault of this host, and must not pass for success. */
	enum code code = why->code != CODE_NONE ? why->code : CODE_DOWNLOAD;

	if (r->dry_run || catalogue_begin(r->catalogue, NULL) != 0)
		return;
	if (catalogue_subscription_tried(r->catalogue, id, tried, code, why->text, NULL) == 0)
		(void)catalogue_commit(r->catalogue, NULL);
	else
		catalogue_rollback(r->catalogue);
}

int
refresh_subscription(const struct refresh *r, int64_t id, struct update_result *result,
		     struct err *err)
{
	CLEANUP_CANDIDATE struct candidate cand;
	struct subscription_row sub = { 0 };
	struct err why = { 0 };
	bool tried;
	int rc;

	candidate_init(&cand);
	memset(result, 0, sizeof(*result));
	rc = catalogue_subscription_by_id(r->catalogue, id, &sub, &why);
	if (rc == 0)
		rc = check_clock(sub.created, &why);
	if (rc == 0)
		rc = check_deadline(r, &why);
	tried = rc == 0;
	/* If it never ends, or takes this process with it, others come first the next time. */
	if (tried && !r->dry_run)
		(void)catalogue_subscription_begun(r->catalogue, id, stamp_now(), NULL);
	if (rc == 0)
		rc = candidate_fetch(&cand, r->conf, r->starter, sub.url, sub.username,
				     sub.password, conf_tls_ca(r->conf, sub.list_id), &why);
	if (rc == 0)
		rc = examine(r, &cand, &why);
	if (rc == 0)
		rc = settle(r, id, &cand, result, &why);
	if (rc != 0) {
		/* One that was not tried is among the first the next time. */
		record_refusal(r, id, tried ? stamp_now() : sub.tried, &why);
		if (err != NULL)
			*err = why;
	} else {
		look_for_block_digests(r, sub.list_id, result->same);
	}
	subscription_row_release(&sub);
	return rc;
}

/* ---- subscribing ----------------------------------------------------------------------------- */

static int
check_new_url(const struct refresh *r, const struct refresh_wish *wish, struct err *err)
{
	struct subscription_row row = { 0 };
	int rc;

	if (wish->username != NULL && strncmp(wish->url, "https://", 8) != 0)
		return err_set(err, EINVAL, "credentials are sent over https only, not to '%s'",
			       wish->url);
	rc = catalogue_subscription_find(r->catalogue, wish->url, &row, NULL);
	if (rc == 0 && strcmp(row.url, wish->url) == 0 && !wish->define_only)
		rc = err_set(err, EEXIST, "'%s' is subscribed already, as list '%s'", wish->url,
			     row.list_id);
	else
		rc = 0;
	subscription_row_release(&row);
	return rc;
}

/* A name for an endorser nobody named: the last CN of the subject, made safe and unique. */
static char *
endorser_name(struct catalogue *c, const char *subject)
{
	struct endorser_row row = { 0 };
	char base[SAFENAME_MAX + 32];
	const char *cn = strrchr(subject, '=');
	char *name;
	int n, rc;

	safename_title(cn != NULL ? cn + 1 : subject, base);
	name = xstrdup(base);
	for (n = 2; n < 1000; n++) {
		rc = catalogue_endorser_get(c, name, &row, NULL);
		endorser_row_release(&row);
		memset(&row, 0, sizeof(row));
		if (rc != 0)
			break;
		free(name);
		name = xasprintf("%s-%d", base, n);
	}
	return name;
}

/* why comes with the refusal that nobody known has signed. */
static int
register_signer(const struct refresh *r, const struct verdict *verdict, char **name,
		struct err *why)
{
	CLEANUP_FREE char *fresh = endorser_name(r->catalogue, verdict->subject);
	struct err failure = { 0 };
	int rc;

	rc = catalogue_endorser_add(r->catalogue, fresh, verdict->subject, verdict->issuer, false,
				    false, &failure);
	/* Registered, but not for lists: that is what the refusal said. */
	if (rc == -EEXIST)
		return why->rc;
	if (rc == 0)
		rc = list_judge_endorser(r->catalogue, 0, verdict, name, &failure);
	if (rc == 0)
		refresh_say(r, "registered endorser '%s': subject '%s', issuer '%s'", *name,
			    verdict->subject, verdict->issuer);
	else
		*why = failure;
	return rc;
}

/* Who vouches for the first list.  *name: the endorser to be linked; caller frees. */
static int
find_endorser(const struct refresh *r, const struct refresh_wish *wish,
	      const struct verdict *verdict, char **name, struct err *err)
{
	struct endorser_row row = { 0 };
	struct err why = { 0 };
	int rc;

	if (wish->endorser != NULL) {
		rc = catalogue_endorser_get(r->catalogue, wish->endorser, &row, err);
		endorser_row_release(&row);
		if (rc != 0)
			return rc;
	}
	rc = list_judge_endorser(r->catalogue, 0, verdict, name, &why);
	if (rc != 0 && why.code == CODE_NOT_LINKED && wish->auto_endorse) {
		rc = register_signer(r, verdict, name, &why);
	}
	if (rc == 0 && wish->endorser != NULL && strcmp(wish->endorser, *name) != 0)
		return err_refuse(err, CODE_NOT_LINKED, "the list is signed by endorser '%s'"
				  " (subject '%s'), not by '%s'", *name, verdict->subject,
				  wish->endorser);
	if (rc != 0 && err != NULL)
		*err = why;
	return rc;
}

/* The row alone: 1 if this very URL is subscribed already. */
static int
enter_row(const struct refresh *r, const struct refresh_wish *wish, const struct imagelist *list,
	  int64_t *id, struct err *err)
{
	struct subscription_row sub = { 0 };
	int rc;

	if (wish->define_only) {
		rc = catalogue_subscription_find(r->catalogue, wish->url, &sub, NULL);
		*id = sub.id;
		if (rc == 0 && strcmp(sub.url, wish->url) == 0) {
			rc = check_identifier(&sub, list, err);
			subscription_row_release(&sub);
			return rc != 0 ? rc : 1;
		}
		subscription_row_release(&sub);
		memset(&sub, 0, sizeof(sub));
	}
	sub.list_id = xstrdup(list->identifier);
	sub.url = xstrdup(wish->url);
	sub.username = xstrdup(wish->username);
	sub.password = xstrdup(wish->password);
	sub.select_new = wish->select_new;
	sub.refuse_new = wish->refuse_new;
	rc = catalogue_subscription_add(r->catalogue, &sub, err);
	*id = sub.id;
	subscription_row_release(&sub);
	return rc;
}

/* Judged and applied at once: the list is the current one. */
static int
enter_list(const struct refresh *r, const struct candidate *cand, int64_t id,
	   struct update_result *result, struct err *err)
{
	struct subscription_row sub = { 0 };
	struct err warning = { 0 };
	int64_t now = stamp_now();
	int rc;

	rc = catalogue_subscription_by_id(r->catalogue, id, &sub, err);
	if (rc == 0)
		rc = judge(r, &sub, cand, now, &warning, err);
	if (rc >= 0)
		rc = carry_out(r, &sub, cand, rc, now, result, err);
	if (rc == 0)
		say_warning(r, sub.list_id, &warning);
	subscription_row_release(&sub);
	return rc;
}

/* Another signer than the linked one does not make anything known. */
static int
enter_again(const struct refresh *r, const struct refresh_wish *wish, const struct candidate *cand,
	    int64_t id, struct err *err)
{
	CLEANUP_FREE char *endorser = NULL;
	int rc = list_judge_endorser(r->catalogue, id, &cand->verdict, &endorser, err);

	if (rc == 0 && wish->username != NULL)
		rc = catalogue_subscription_set_credentials(r->catalogue, id, wish->username,
							    wish->password, err);
	return rc;
}

/* The rows of a new subscription, inside a transaction. */
static int
enter(const struct refresh *r, const struct refresh_wish *wish, const struct candidate *cand,
      int64_t *id, struct update_result *result, struct err *err)
{
	CLEANUP_FREE char *endorser = NULL;
	int rc;

	rc = find_endorser(r, wish, &cand->verdict, &endorser, err);
	if (rc == 0)
		rc = enter_row(r, wish, cand->list, id, err);
	if (rc < 0)
		return rc;
	result->same = rc == 1;
	if (result->same)
		rc = enter_again(r, wish, cand, *id, err);
	else
		rc = catalogue_link(r->catalogue, endorser, *id, err);
	if (rc == 0 && wish->define_only)
		return catalogue_image_define(r->catalogue, *id, cand->list, NULL, err);
	return rc == 0 ? enter_list(r, cand, *id, result, err) : rc;
}

int
refresh_subscribe(const struct refresh *r, const struct refresh_wish *wish, int64_t *id,
		  struct update_result *result, struct err *err)
{
	CLEANUP_CANDIDATE struct candidate cand;
	int rc;

	candidate_init(&cand);
	memset(result, 0, sizeof(*result));
	rc = check_clock(0, err);
	if (rc == 0)
		rc = check_new_url(r, wish, err);
	if (rc == 0)
		rc = candidate_fetch(&cand, r->conf, r->starter, wish->url, wish->username,
				     wish->password, r->conf->tls_ca, err);
	if (rc == 0)
		rc = examine(r, &cand, err);
	if (rc != 0)
		return rc;
	rc = catalogue_begin(r->catalogue, err);
	if (rc != 0)
		return rc;
	rc = enter(r, wish, &cand, id, result, err);
	if (rc == 0)
		rc = catalogue_commit(r->catalogue, err);
	else
		catalogue_rollback(r->catalogue);
	if (rc == 0 && !wish->define_only)
		look_for_block_digests(r, cand.list->identifier, false);
	return rc;
}
