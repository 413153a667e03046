/*
 * listjudge.c - may this verified, parsed list become the current one?
 *
 *   identifier differs from the subscription's                     31
 *   the very bytes that we have, and they stand                    same, nothing to do
 *   dc:date:created in the future                                  33
 *   dc:date:expires not after created, or past                     34
 *   lower version, or older created date                           17  } unless the admin said
 *   same version, other bytes, created not newer                   16  } update --reset-version
 *   same version, newer created                                    accepted with a warning
 *
 * The clock is taken as it is: a list from a publisher whose clock is ahead is refused until
 * ours has caught up.
 */
#include "config.h"
#include "listjudge.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "listversion.h"
#include "stamp.h"

int64_t
list_expiry(const struct imagelist *list, const struct conf *conf)
{
	int64_t span = conf->max_valid_time;

	if (span > 0 && list->expires > list->created && list->expires - list->created > span)
		return list->created + span;
	return list->expires;
}

static int
judge_dates(const struct imagelist *list, const struct conf *conf, int64_t now, struct err *err)
{
	char text[STAMP_BYTES];
	int64_t expires = list_expiry(list, conf);

	if (list->created > now) {
		stamp_format(list->created, text);
		return err_refuse(err, CODE_FUTURE,
				  "the list was created in the future, at %s: check the clock "
				  "here and at the publisher",
				  text);
	}
	if (list->expires <= list->created)
		return err_refuse(err, CODE_EXPIRED,
				  "dc:date:expires of the list is not after its dc:date:created");
	if (expires <= now) {
		stamp_format(expires, text);
		return err_refuse(err, CODE_EXPIRED, "the list expired at %s%s", text,
				  expires < list->expires ? " by max_valid_time" : "");
	}
	return 0;
}

/* Against the list that was accepted last, whether or not its message is still there. */
static int
judge_version(const struct subscription_row *sub, const struct imagelist *list, bool same_bytes,
	      struct err *warning, struct err *err)
{
	int order;

	if (sub->version == NULL || sub->version[0] == '\0' || sub->reset_version || same_bytes)
		return JUDGE_ACCEPT;
	order = listversion_compare(list->version, sub->version);
	if (order < 0)
		return err_refuse(err, CODE_LOWER_VERSION,
				  "version '%s' is lower than '%s', which we have: "
				  "update --reset-version accepts it once",
				  list->version, sub->version);
	if (order > 0 && list->created < sub->created)
		return err_refuse(err, CODE_LOWER_VERSION,
				  "version '%s' was created before '%s', which we have: "
				  "update --reset-version accepts it once",
				  list->version, sub->version);
	if (order > 0)
		return JUDGE_ACCEPT;
	if (list->created <= sub->created)
		return err_refuse(err, CODE_SAME_VERSION,
				  "version '%s' was published before with other content",
				  list->version);
	err_set(warning, EINVAL,
		"version '%s' has new content and a newer dc:date:created, but the same number",
		list->version);
	return JUDGE_ACCEPT_WITH_WARNING;
}

static int
warn_form(const struct subscription_row *sub, const struct imagelist *list, int judgement,
	  struct err *warning)
{
	if (judgement != JUDGE_ACCEPT)
		return judgement;
	if (list->unwrapped) {
		err_set(warning, EINVAL, "the list is in the old form, without hv:imagelist");
		return JUDGE_ACCEPT_WITH_WARNING;
	}
	if (sub->url != NULL && list->uri != NULL && list->uri[0] != '\0' &&
	    strcmp(sub->url, list->uri) != 0) {
		err_set(warning, EINVAL,
			"hv:uri of the list is '%s', another address than the one subscribed, "
			"which "
			"goes on being asked",
			list->uri);
		return JUDGE_ACCEPT_WITH_WARNING;
	}
	return judgement;
}

int
list_judge(const struct subscription_row *sub, const struct imagelist *list,
	   const struct digest *message, const struct conf *conf, int64_t now, struct err *warning,
	   struct err *err)
{
	bool same_bytes = digest_equal(&sub->message, message);
	int rc;

	if (sub->list_id != NULL && strcmp(sub->list_id, list->identifier) != 0)
		return err_refuse(err, CODE_LIST_ID, "the list is '%s', subscribed is '%s'",
				  list->identifier, sub->list_id);
	rc = judge_dates(list, conf, now, err);
	if (rc != 0)
		return rc;
	/* Known bytes are applied again where their images are not live. */
	if (same_bytes && sub->has_message && (sub->state == SUB_OK || sub->state == SUB_FAILED))
		return JUDGE_SAME;
	rc = judge_version(sub, list, same_bytes, warning, err);
	return rc < 0 ? rc : warn_form(sub, list, rc, warning);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Whether text is "KEY=...": what begins a component of a one-line name. */
static bool
begins_component(const char *text)
{
	size_t n = 0;

	while (isalnum((unsigned char)text[n]) || text[n] == '.' || text[n] == '-')
		n++;
	return n > 0 && text[n] == '=';
}

/*
 * OpenSSL 3 writes '/' inside a value as "\/", older versions wrote it plain.  The plain spelling
 * is believed only where what follows cannot be taken for a further component.
 */
bool
dn_equal(const char *registered, const char *certificate)
{
	if (strcmp(registered, certificate) == 0)
		return true;
	while (*registered != '\0' && *certificate != '\0') {
		if (certificate[0] == '\\' && certificate[1] == '/' && registered[0] == '/') {
			if (begins_component(certificate + 2))
				return false;
			certificate++;
		}
		if (*registered++ != *certificate++)
			return false;
	}
	return *registered == *certificate;
}

int
list_judge_names(const struct imagelist *list, const struct verdict *verdict, struct err *err)
{
	const char *subject = verdict->subject != NULL ? verdict->subject : "";
	const char *issuer = verdict->issuer != NULL ? verdict->issuer : "";

	if (!dn_equal(list->dn, subject))
		return err_refuse(err, CODE_DN, "hv:dn is '%s', the certificate's subject is '%s'",
				  list->dn, subject);
	if (!dn_equal(list->ca, issuer))
		return err_refuse(err, CODE_DN, "hv:ca is '%s', the certificate's issuer is '%s'",
				  list->ca, issuer);
	return 0;
}

/* ---- endorsers ------------------------------------------------------------------------------- */

struct judging {
	struct catalogue *c;
	int64_t subscription;
	const struct verdict *verdict;
	bool blocks;			/* it is about block digests, not about a list */
	char *registered;		/* owner of the credential, linked or not */
	char *linked;			/* who may sign this */
	struct err refusal;		/* of an endorser's switches */
	struct err *err;
};

static bool
holds(const struct endorser_row *e, const struct verdict *v)
{
	for (size_t i = 0; i < e->n_credentials; i++)
		if (dn_equal(e->credentials[i].subject, v->subject) &&
		    dn_equal(e->credentials[i].issuer, v->issuer))
			return true;
	return false;
}

/* Whether the endorser may speak of this at all, whatever the signature is like. */
static int
may_sign(struct judging *j, const struct endorser_row *e, bool *may)
{
	*may = false;
	if (e->blocks_only && !j->blocks) {
		err_refuse(&j->refusal, CODE_NOT_LINKED,
			   "endorser '%s' may sign block digests only (--blocks-only), no list",
			   e->name);
		return 0;
	}
	*may = e->blocks_only || (!j->blocks && j->subscription == 0);
	if (*may)
		return 0;
	return catalogue_link_read(j->c, e->id, j->subscription, may, j->err);
}

static int
judge_one(void *arg, const struct endorser_row *e)
{
	struct judging *j = arg;
	bool may;
	int rc;

	if (!holds(e, j->verdict))
		return 0;
	free(j->registered);
	j->registered = xstrdup(e->name);
	rc = may_sign(j, e, &may);
	if (rc != 0 || !may)
		return rc;
	if (j->verdict->weak_digest && !e->allow_sha1) {
		err_refuse(&j->refusal, CODE_WEAK,
			   "the message is signed with SHA-1, which endorser '%s' may not use: "
			   "ask for a SHA-256 signature, or register with --allow-sha1",
			   e->name);
		return 0;
	}
	if (j->verdict->other_purpose && !e->any_purpose) {
		err_refuse(&j->refusal, CODE_SIGNATURE,
			   "the certificate of endorser '%s' is not made for signing "
			   "e-mail: ask for another one, or register with --any-purpose",
			   e->name);
		return 0;
	}
	free(j->linked);
	j->linked = xstrdup(e->name);
	return 0;
}

static int
judge_signer(struct judging *j, char **name, struct err *err)
{
	const struct verdict *v = j->verdict;
	int rc;

	*name = NULL;
	j->err = err;
	if (v->subject == NULL || v->issuer == NULL)
		return err_refuse(err, CODE_SIGNATURE, "the message names no signer");
	rc = catalogue_endorser_each(j->c, judge_one, j, err);
	if (rc == 0 && j->linked == NULL) {
		if (j->refusal.rc != 0)
			rc = err_refuse(err, j->refusal.code, "%s", j->refusal.text);
		else if (j->registered != NULL)
			rc = err_refuse(err, CODE_NOT_LINKED,
					"endorser '%s' is not linked to %s list: 'vmimagectl "
					"endorser link' does it",
					j->registered, j->blocks ? "any" : "this");
		else
			rc = err_refuse(err, CODE_NOT_LINKED,
					"'%s' (issuer '%s') is no registered endorser: 'vmimagectl "
					"endorser add' registers one",
					v->subject, v->issuer);
	}
	if (rc == 0)
		*name = steal_ptr(&j->linked);
	free(j->linked);
	free(j->registered);
	return rc;
}

int
list_judge_endorser(struct catalogue *c, int64_t subscription, const struct verdict *verdict,
		    char **name, struct err *err)
{
	struct judging j = { .c = c, .subscription = subscription, .verdict = verdict };

	return judge_signer(&j, name, err);
}

int
list_judge_attester(struct catalogue *c, const struct verdict *verdict, char **name,
		    struct err *err)
{
	struct judging j = { .c = c, .verdict = verdict, .blocks = true };

	return judge_signer(&j, name, err);
}

bool
list_judge_told(const struct err *why)
{
	return why->code == CODE_NOT_LINKED || why->code == CODE_WEAK ||
	       why->code == CODE_SIGNATURE;
}
