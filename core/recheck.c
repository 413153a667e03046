/*
 * recheck.c - what a stored message is worth today.
 *
 * A list was trusted at the moment it was accepted.  Afterwards a CRL may revoke its signer, and a
 * damaged catalogue may say more than any message ever did.  Both are found without network, from
 * the verbatim message and the trust directory.
 *
 *   the stored message now          | the subscription
 *   verifies, endorser linked       | stands; comes back if it was distrusted
 *   verifies, endorser gone         | distrusted: endorser-unlinked (the command did it already;
 *                                   | this catches rows that claim otherwise)
 *   some certificate revoked        | distrusted: revoked
 *   no valid CRL, crl_strict        | distrusted: revoked
 *   refused for any other reason    | stands until its own expiry (an expired CRL or certificate
 *                                   | proves nothing against what was accepted), and says so
 *   missing or other bytes          | distrusted: corrupt; the next update brings it back
 *   no verdict (no verifier, limit) | nothing is known: stands, and is asked again
 *
 * Attestations of block digests are judged again in the same pass (attestimport.c), and so are the
 * signers of versions that a list has replaced: of each of them one message is kept.
 */
#include "config.h"
#include "recheck.h"

#include <errno.h>
#include <string.h>

#include "attestimport.h"
#include "cleanup.h"
#include "clock.h"
#include "listjudge.h"
#include "stamp.h"
#include "trustdir.h"

#define FINGERPRINT_NOTE "trust-fingerprint"

struct id_set {
	int64_t *ids;
	size_t n;
};

static int
collect_id(void *arg, const struct subscription_row *row)
{
	struct id_set *set = arg;

	set->ids = xrealloc(set->ids, (set->n + 1) * sizeof(*set->ids));
	set->ids[set->n++] = row->id;
	return 0;
}

/* One pass over the lists. */
struct recheck {
	const struct refresh *r;
	bool distrusted_only;
	bool aloud;		/* also what merely stays as it was is told */
	bool unknown;		/* there was no verdict: the question must be asked again */
	bool busy;		/* because there was no verifier, or it did not get that far */
	int changed;		/* subscriptions and attestations */
};

/*
 * Inside a transaction: what was judged is the message of now.  Another process may have applied a
 * newer one meanwhile, and then nothing follows from what the older one is worth; the question is
 * asked again.
 */
static int
is_current(struct recheck *k, const struct subscription_row *sub, bool *current, struct err *err)
{
	struct subscription_row now = { 0 };
	int rc = catalogue_subscription_by_id(k->r->catalogue, sub->id, &now, err);

	*current = rc == 0 && now.has_message && digest_equal(&now.message, &sub->message);
	subscription_row_release(&now);
	k->unknown = k->unknown || !*current;
	return rc;
}

static void
say_distrusted(const struct recheck *k, const struct subscription_row *sub, enum reason reason,
	       const char *why)
{
	refresh_say(k->r, "list '%s': no longer trusted (%s): %s", sub->list_id,
		    reason_name(reason), why);
}

static int
distrust(struct recheck *k, const struct subscription_row *sub, enum reason reason, const char *why,
	 struct err *err)
{
	struct catalogue *c = k->r->catalogue;
	bool current = false;
	int rc;

	if (sub->state == SUB_DISTRUSTED)
		return 0;
	if (k->r->dry_run) {
		say_distrusted(k, sub, reason, why);
		return 0;
	}
	rc = catalogue_begin(c, err);
	if (rc != 0)
		return rc;
	rc = is_current(k, sub, &current, err);
	if (rc == 0 && current) {
		say_distrusted(k, sub, reason, why);
		rc = catalogue_distrust(c, sub->id, reason, why, stamp_now(), err);
	}
	if (rc == 0)
		rc = catalogue_commit(c, err);
	else
		catalogue_rollback(c);
	if (rc == 0 && current)
		k->changed++;
	return rc;
}

static int
restore(struct recheck *k, const struct subscription_row *sub, const struct candidate *cand,
	struct err *err)
{
	int rc;

	if (sub->state != SUB_DISTRUSTED)
		return 0;
	refresh_say(k->r, "list '%s': trusted again", sub->list_id);
	if (k->r->dry_run)
		return 0;
	rc = refresh_reapply(k->r, sub->id, cand, err);
	if (rc == 0)
		k->changed++;
	return rc;
}

static void
say_it_stays(const struct recheck *k, const struct subscription_row *sub, const char *why)
{
	if (k->aloud)
		refresh_say(k->r, "list '%s': its stored message is refused now, %s: %s",
			    sub->list_id, sub->state == SUB_DISTRUSTED ? "it stays distrusted"
								       : "its images stay", why);
}

static int
judge_signer(struct recheck *k, const struct subscription_row *sub, const struct candidate *cand,
	     struct err *err)
{
	CLEANUP_FREE char *endorser = NULL;
	struct err why = { 0 };
	int rc;

	rc = list_judge_endorser(k->r->catalogue, sub->id, &cand->verdict, &endorser, &why);
	if (rc == 0)
		return restore(k, sub, cand, err);
	if (why.code == CODE_NOT_LINKED)
		return distrust(k, sub, REASON_ENDORSER_UNLINKED, why.text, err);
	k->unknown = k->unknown || !list_judge_told(&why);
	say_it_stays(k, sub, why.text);
	return 0;
}

static int
recheck_one(struct recheck *k, const struct subscription_row *sub, struct err *err)
{
	CLEANUP_CANDIDATE struct candidate cand;
	const struct conf *conf = k->r->conf;
	struct err why = { 0 };
	int rc;

	candidate_init(&cand);
	rc = candidate_load(&cand, conf, &sub->message, &why);
	if (rc != 0 && why.code == CODE_CORRUPT)
		return distrust(k, sub, REASON_CORRUPT, why.text, err);
	if (rc == 0)
		rc = candidate_examine(&cand, conf, k->r->starter, &why);
	if (rc == 0)
		return judge_signer(k, sub, &cand, err);
	if (cand.verdict.rc != 0 && cand.verdict.revoked)
		return distrust(k, sub, REASON_REVOKED, why.text, err);
	if (cand.verdict.rc != 0 && conf->crl_strict && why.code == CODE_CRL)
		return distrust(k, sub, REASON_REVOKED, why.text, err);
	if (cand.verdict.rc == 0 && cand.list == NULL)
		k->unknown = true;
	k->busy = k->busy || (cand.verdict.rc == 0 && cand.verdict.payload.len == 0);
	say_it_stays(k, sub, why.text);
	return 0;
}

static int
recheck_each(struct recheck *k, struct err *err)
{
	struct id_set set = { 0 };
	int rc, first = 0;
	size_t i;

	rc = catalogue_subscription_each(k->r->catalogue, collect_id, &set, err);
	for (i = 0; rc == 0 && i < set.n; i++) {
		struct subscription_row sub = { 0 };
		struct err why = { 0 };
		int one;

		one = catalogue_subscription_by_id(k->r->catalogue, set.ids[i], &sub, &why);
		if (one == 0 && sub.has_message &&
		    (!k->distrusted_only || sub.state == SUB_DISTRUSTED))
			one = recheck_one(k, &sub, &why);
		/* One subscription that cannot be judged must not shield the others. */
		if (one != 0 && one != -ENOENT && first == 0) {
			first = one;
			if (err != NULL)
				*err = why;
		}
		subscription_row_release(&sub);
	}
	free(set.ids);
	return rc != 0 ? rc : first;
}

/* ---- signers of what was replaced ------------------------------------------------------------ */

struct signers {
	struct signer { char *subject, *issuer; struct digest message; } *all;
	size_t n;
};

static int
collect_signer(void *arg, const char *subject, const char *issuer, const struct digest *message)
{
	struct signers *s = arg;
	struct signer *one;

	s->all = xrealloc(s->all, (s->n + 1) * sizeof(*s->all));
	one = &s->all[s->n++];
	one->subject = xstrdup(subject);
	one->issuer = xstrdup(issuer);
	one->message = *message;
	return 0;
}

static int
distrust_signer(struct recheck *k, const struct signer *s, const char *why, struct err *err)
{
	int changed = 0, rc;

	if (k->r->dry_run)
		return 0;
	rc = catalogue_signer_distrust(k->r->catalogue, s->subject, s->issuer, REASON_REVOKED,
				       stamp_now(), &changed, err);
	if (rc == 0 && changed > 0)
		refresh_say(k->r, "%d earlier versions signed by '%s': no longer trusted: %s",
			    changed, s->subject, why);
	k->changed += changed;
	return rc;
}

/* Only a revocation counts: what else is wrong with an old message proves nothing. */
static int
recheck_signer(struct recheck *k, const struct signer *s, struct err *err)
{
	CLEANUP_CANDIDATE struct candidate cand;
	struct err why = { 0 };
	int rc;

	candidate_init(&cand);
	rc = candidate_load(&cand, k->r->conf, &s->message, &why);
	if (rc != 0 && why.code == CODE_CORRUPT)
		return 0;
	if (rc == 0)
		rc = candidate_verify(&cand, k->r->starter, &why);
	if (rc != 0 && (cand.verdict.revoked || (k->r->conf->crl_strict && why.code == CODE_CRL)))
		return distrust_signer(k, s, why.text, err);
	k->unknown = k->unknown || (rc != 0 && cand.verdict.rc == 0);
	return 0;
}

static int
recheck_signers(struct recheck *k, struct err *err)
{
	struct signers s = { 0 };
	int rc = catalogue_signer_each(k->r->catalogue, collect_signer, &s, err), first = 0;

	for (size_t i = 0; i < s.n; i++) {
		struct err why = { 0 };
		int one = rc == 0 ? recheck_signer(k, &s.all[i], &why) : 0;

		if (one != 0 && first == 0) {
			first = one;
			if (err != NULL)
				*err = why;
		}
		free(s.all[i].subject);
		free(s.all[i].issuer);
	}
	free(s.all);
	return rc != 0 ? rc : first;
}

/* Lists, what was attested beside them, and what came from lists before; all of it is looked at. */
static int
recheck_messages(struct recheck *k, struct err *err)
{
	struct err why[2] = { 0 };
	int rc = recheck_each(k, err), also[2] = { 0, 0 };

	also[0] = attestimport_recheck(k->r, k->distrusted_only, k->aloud, &k->unknown,
				       &k->changed, &why[0]);
	/* What is distrusted there does not come back. */
	if (!k->distrusted_only)
		also[1] = recheck_signers(k, &why[1]);
	for (int i = 0; i < 2 && rc == 0; i++) {
		rc = also[i];
		if (rc != 0 && err != NULL)
			*err = why[i];
	}
	return rc;
}

int
recheck_lists(const struct refresh *r, enum recheck_scope scope, int *changed, struct err *err)
{
	struct recheck k = {
		.r = r, .distrusted_only = scope == RECHECK_DISTRUSTED, .aloud = true,
	};
	CLEANUP_FREE char *known = NULL;
	char hex[DIGEST_HEX + 1];
	int64_t now = stamp_now();
	struct digest print;
	bool news;
	int rc;

	*changed = 0;
	/* By a clock of the past every CRL is one of the future; a timer says nothing of it. */
	if (clock_judge(now, 0, 0) != CLOCK_GOOD)
		return scope == RECHECK_IF_CHANGED ? 0 : clock_say(CLOCK_BEHIND, now, 0, 0, err);
	if (scope == RECHECK_DISTRUSTED) {
		rc = recheck_messages(&k, err);
		*changed = k.changed;
		return rc;
	}
	/* Read before the directory is used: a change in between is then seen the next time. */
	rc = trustdir_fingerprint(r->conf->cert_dir, &print, err);
	if (rc != 0)
		return rc;
	digest_hex(&print, hex);
	known = catalogue_note_get(r->catalogue, FINGERPRINT_NOTE);
	news = known == NULL || strcmp(known, hex) != 0;
	if (scope == RECHECK_IF_CHANGED && !news && !r->conf->crl_strict)
		return 0;
	/* With crl_strict it is asked again and again, and the answer is mostly the same. */
	k.aloud = news || scope == RECHECK_ALL;
	rc = recheck_messages(&k, err);
	*changed = k.changed;
	if (rc == 0 && k.busy)
		return err_refuse(err, CODE_BUSY,
				  "stored messages could not be judged anew: what stood"
				  " stands");
	if (rc == 0 && news && !k.unknown && !r->dry_run)
		rc = catalogue_note_set(r->catalogue, FINGERPRINT_NOTE, hex, err);
	return rc;
}

/* ---- audit ----------------------------------------------------------------------------------- */

static int
pass_over(void *arg, const char *what, const char *identifier, const char *title)
{
	(void)arg;
	(void)what;
	(void)identifier;
	(void)title;
	return 0;
}

static int
audit_rows(const struct refresh *r, const struct subscription_row *sub,
	   const struct candidate *cand, struct err *err)
{
	struct update_result result = { 0 };
	CLEANUP_FREE char *endorser = NULL;
	int rc;

	if (strcmp(sub->list_id, cand->list->identifier) != 0)
		return err_refuse(err, CODE_CORRUPT, "its message is of list '%s'",
				  cand->list->identifier);
	rc = list_judge_endorser(r->catalogue, sub->id, &cand->verdict, &endorser, err);
	if (rc != 0)
		return rc;
	rc = catalogue_preview_list(r->catalogue, sub, cand->list, pass_over, NULL, &result,
				    err);
	if (rc != 0)
		return rc;
	/* What is still to come would come at once by now: it is what the message says. */
	result.changed -= result.n_held;
	if (result.added + result.changed + result.removed != 0)
		return err_refuse(err, CODE_CORRUPT, "rows differ from the signed message: %d"
				  " missing, %d different, %d that it does not hold",
				  result.added, result.changed, result.removed);
	return 0;
}

int
recheck_audit(const struct refresh *r, const struct subscription_row *sub, bool repair,
	      struct err *err)
{
	CLEANUP_CANDIDATE struct candidate cand;
	struct err why = { 0 };
	int rc;

	candidate_init(&cand);
	rc = candidate_load(&cand, r->conf, &sub->message, err);
	if (rc == 0)
		rc = candidate_examine(&cand, r->conf, r->starter, err);
	if (rc != 0)
		return rc;
	rc = audit_rows(r, sub, &cand, err);
	if (rc != 0 && repair && refresh_reapply(r, sub->id, &cand, &why) != 0)
		refresh_say(r, "list '%s': cannot be repaired: %s", sub->list_id, why.text);
	return rc;
}
