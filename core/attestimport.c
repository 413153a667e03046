/*
 * attestimport.c - an attestation on its way into the rows, and what it is worth later.
 *
 *   the stored message now         | its entries
 *   verifies, endorser may sign    | count (again)
 *   verifies, endorser gone        | do not (the command that removed it did it already)
 *   some certificate revoked       | do not
 *   no valid CRL, crl_strict       | do not
 *   refused for any other reason   | stay as they are, and it is told
 *   missing or other bytes         | do not; fetching or giving the message again brings them back
 *   no verdict                     | nothing is known: stay, and it is asked again
 */
#include "config.h"
#include "attestimport.h"

#include <errno.h>
#include <string.h>

#include "attestation.h"
#include "candidate.h"
#include "cleanup.h"
#include "io.h"
#include "listjudge.h"
#include "stamp.h"

struct import {
	const struct refresh *r;
	const char *what;		/* how the message is called in a line */
};

static void
say_refused(void *arg, const char *identifier, enum code code, const char *why)
{
	const struct import *i = arg;

	refresh_say(i->r, "%s: image '%s': code %d: %s", i->what, identifier, (int)code, why);
}

/* begin ... commit around judging the signer and the rows, as a list is settled. */
static int
settle(struct import *i, const struct attestation *list, const struct candidate *cand,
       const char *url, const char *list_id, struct attestation_result *result, char **endorser,
       struct err *err)
{
	struct attestation_origin origin = { .url = url, .list_id = list_id,
					     .refused = say_refused, .arg = i };
	struct catalogue *c = i->r->catalogue;
	int rc = catalogue_begin(c, err);

	if (rc != 0)
		return rc;
	rc = list_judge_attester(c, &cand->verdict, endorser, err);
	if (rc == 0)
		rc = catalogue_attestation_add(c, list, &cand->verdict, *endorser,
					       cand->message.data, cand->message.len, &origin,
					       stamp_now(), result, err);
	if (rc == 0)
		return catalogue_commit(c, err);
	catalogue_rollback(c);
	return rc;
}

static int
import(struct import *i, struct candidate *cand, const char *url, const char *list_id,
       struct attestation_result *result, char **endorser, struct err *err)
{
	const struct refresh *r = i->r;
	struct attestation *list = NULL;
	int rc = candidate_verify(cand, r->starter, err);

	if (rc == 0)
		rc = attestation_parse(cand->verdict.payload.data, cand->verdict.payload.len,
				       r->conf->file_prefix, &list, err);
	if (rc == 0)
		rc = settle(i, list, cand, url, list_id, result, endorser, err);
	attestation_free(list);
	return rc;
}

int
attestimport_message(const struct refresh *r, const void *message, size_t len,
		     struct attestation_result *result, char **endorser, struct err *err)
{
	CLEANUP_CANDIDATE struct candidate cand;
	struct import i = { .r = r, .what = "attestation" };
	int rc;

	memset(result, 0, sizeof(*result));
	*endorser = NULL;
	candidate_init(&cand);
	buf_add(&cand.message, message, len);
	digest_of(message, len, &cand.digest);
	rc = import(&i, &cand, "", "", result, endorser, err);
	if (rc == 0 && !result->same)
		attestimport_say_disagreements(r);
	return rc;
}

static int
fetch_for_list(struct import *i, const char *url, const char *list_id,
	       struct attestation_result *result, struct err *err)
{
	CLEANUP_CANDIDATE struct candidate cand;
	CLEANUP_FREE char *endorser = NULL;
	const struct refresh *r = i->r;
	int rc;

	candidate_init(&cand);
	if (r->deadline != 0 && io_monotonic_ms() >= r->deadline)
		return err_refuse(err, CODE_SLOW,
				  "not tried: the time for one refresh of all lists is over");
	rc = candidate_fetch(&cand, r->conf, r->starter, url, NULL, NULL,
			     conf_tls_ca(r->conf, list_id), err);
	return rc == 0 ? import(i, &cand, url, list_id, result, &endorser, err) : rc;
}

/* Keeps the line for the next time; whether it is another one than the last time. */
static bool
note_failure(const struct refresh *r, const char *list_id, const char *line)
{
	CLEANUP_FREE char *key = xasprintf("attestation-error:%s", list_id);
	CLEANUP_FREE char *before = catalogue_note_get(r->catalogue, key);

	if (strcmp(before != NULL ? before : "", line) == 0)
		return false;
	(void)catalogue_note_set(r->catalogue, key, line, NULL);
	return true;
}

bool
attestimport_for_list(const struct refresh *r, const char *list_id)
{
	const char *url = conf_attestation(r->conf, list_id);
	CLEANUP_FREE char *what = xasprintf("list '%s': block digests", list_id);
	CLEANUP_FREE char *line = NULL;
	struct import i = { .r = r, .what = what };
	struct attestation_result result = { 0 };
	struct err why = { 0 };

	if (url == NULL || r->dry_run)
		return false;
	if (fetch_for_list(&i, url, list_id, &result, &why) == 0) {
		note_failure(r, list_id, "");
		return !result.same;
	}
	if (why.code != CODE_NONE)
		line = xasprintf("%s from '%s' are not used: code %d: %s", what, url,
				 (int)why.code, why.text);
	else
		line = xasprintf("%s from '%s' are not used: %s", what, url, why.text);
	if (note_failure(r, list_id, line) || !r->news)
		refresh_say(r, "%s", line);
	return false;
}

/* ---- judging again --------------------------------------------------------------------------- */

/* One stored message. */
struct stored {
	int64_t id;
	struct digest message;
	char *subject;
	bool trusted;
};

struct recheck {
	const struct refresh *r;
	struct stored *all;
	size_t n;
	bool aloud;
	bool unknown;
	int changed;
};

static int
collect(void *arg, const struct attestation_row *row)
{
	struct recheck *k = arg;
	struct stored *s;

	k->all = xrealloc(k->all, (k->n + 1) * sizeof(*k->all));
	s = &k->all[k->n++];
	s->id = row->id;
	s->message = row->message;
	s->subject = xstrdup(row->subject);
	s->trusted = row->trusted;
	return 0;
}

/* endorser NULL: its entries count no longer. */
static int
set_trust(struct recheck *k, const struct stored *s, const char *endorser, const char *why,
	  struct err *err)
{
	int rc;

	if (s->trusted == (endorser != NULL))
		return 0;
	if (endorser != NULL)
		refresh_say(k->r, "block digests signed by '%s': trusted again", s->subject);
	else
		refresh_say(k->r, "block digests signed by '%s': no longer trusted: %s", s->subject,
			    why);
	if (k->r->dry_run)
		return 0;
	rc = catalogue_attestation_trust(k->r->catalogue, s->id, endorser, endorser != NULL, err);
	if (rc == 0)
		k->changed++;
	return rc;
}

static int
recheck_one(struct recheck *k, const struct stored *s, struct err *err)
{
	CLEANUP_CANDIDATE struct candidate cand;
	CLEANUP_FREE char *endorser = NULL;
	const struct conf *conf = k->r->conf;
	struct err why = { 0 };
	int rc;

	candidate_init(&cand);
	rc = candidate_load(&cand, conf, &s->message, &why);
	if (rc != 0 && why.code == CODE_CORRUPT)
		return set_trust(k, s, NULL, why.text, err);
	if (rc == 0)
		rc = candidate_verify(&cand, k->r->starter, &why);
	if (rc == 0)
		rc = list_judge_attester(k->r->catalogue, &cand.verdict, &endorser, &why);
	if (rc == 0)
		return set_trust(k, s, endorser, NULL, err);
	if (why.code == CODE_NOT_LINKED || cand.verdict.revoked ||
	    (conf->crl_strict && why.code == CODE_CRL))
		return set_trust(k, s, NULL, why.text, err);
	k->unknown = k->unknown || (cand.verdict.rc == 0 && !list_judge_told(&why));
	if (k->aloud)
		refresh_say(k->r, "block digests signed by '%s': the stored message is refused now,"
			    " they %s: %s", s->subject,
			    s->trusted ? "stay" : "stay distrusted", why.text);
	return 0;
}

int
attestimport_recheck(const struct refresh *r, bool lost_only, bool aloud, bool *unknown,
		     int *changed, struct err *err)
{
	struct recheck k = { .r = r, .aloud = aloud };
	int rc, first = 0;

	rc = catalogue_attestation_each(r->catalogue, collect, &k, err);
	for (size_t i = 0; i < k.n; i++) {
		struct err why = { 0 };
		int one = 0;

		if (rc == 0 && !(lost_only && k.all[i].trusted))
			one = recheck_one(&k, &k.all[i], &why);
		/* One message that cannot be judged must not shield the others. */
		if (one != 0 && first == 0) {
			first = one;
			if (err != NULL)
				*err = why;
		}
		free(k.all[i].subject);
	}
	free(k.all);
	*unknown = *unknown || k.unknown;
	*changed += k.changed;
	return rc != 0 ? rc : first;
}

/* ---- contradictions -------------------------------------------------------------------------- */

static int
say_disagreement(void *arg, const struct digest *d)
{
	const struct refresh *r = arg;
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	refresh_say(r, "image %.16s...: several block digests are signed for it: none is used, it"
		    " is read when all of it has come", hex);
	return 0;
}

void
attestimport_say_disagreements(const struct refresh *r)
{
	struct refresh copy = *r;

	(void)catalogue_object_disagreeing(r->catalogue, say_disagreement, &copy, NULL);
}
