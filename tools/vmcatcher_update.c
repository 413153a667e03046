/*
 * vmcatcher_update.c - vmcatcher_subscribe -s and -U: lists are fetched, and what vmcatcher said
 * of it.
 *
 * Subscribing makes the images of a list known and none of them available; the first -U does
 * that. -U goes on after a list that is refused and returns the last refusal.  What vmcatcher had
 * a sentence for is told with it, on its logger; our own reason is told where it had none, or
 * with -v -v.
 *
 * Time is applied at the end of -U, as by `vmimagectl update`: a site with cron alone has lists and
 * images expire by it.
 */
#include "config.h"
#include "vmcatcher_sub.h"

#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/fetch.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/listjudge.h"
#include "core/listversion.h"
#include "core/outbox.h"
#include "core/recheck.h"
#include "core/stamp.h"
#include "vmcatcher_deliver.h"

#define FATC "db_controler"		/* the loggers of vmcatcher, as it spells them */
#define VIEW "fileView"

/* One list on its way. */
struct arrival {
	struct vmc *v;
	const struct subscription_row *sub;	/* NULL: it is being subscribed to */
	bool came;				/* what follows is known */
	char *subject, *issuer, *dn, *ca, *identifier, *version;
};

static void
arrival_release(struct arrival *a)
{
	free(a->subject);
	free(a->issuer);
	free(a->dn);
	free(a->ca);
	free(a->identifier);
	free(a->version);
}

/* What differs from the subscription and is accepted. */
static void
warn_of(const struct arrival *a, const struct candidate *c)
{
	const struct subscription_row *sub = a->sub;
	bool news = !sub->has_message || !digest_equal(&sub->message, &c->digest);

	if (news && strcmp(c->list->uri, sub->url) != 0) {
		vmc_log(a->v, VMC_WARNING, VIEW,
			"list hv:uri does not match subscription uri for '%s'", sub->list_id);
		vmc_log(a->v, VMC_INFO, VIEW, "Expected URI '%s'", sub->url);
		vmc_log(a->v, VMC_INFO, VIEW, "Downloaded URI '%s'", c->list->uri);
	}
	if (news && sub->version != NULL && sub->version[0] != '\0' &&
	    listversion_compare(c->list->version, sub->version) == 0)
		vmc_log(a->v, VMC_WARNING, FATC, "Downloaded version \"%s\" version \"%s\" has the"
			" same version number than the old version \"%s\".", sub->list_id,
			c->list->version, sub->version);
}

static void
examined(void *arg, const struct candidate *c)
{
	struct arrival *a = arg;

	a->came = true;
	a->subject = xstrdup(c->verdict.subject);
	a->issuer = xstrdup(c->verdict.issuer);
	if (c->list == NULL)
		return;
	a->dn = xstrdup(c->list->dn);
	a->ca = xstrdup(c->list->ca);
	a->identifier = xstrdup(c->list->identifier);
	a->version = xstrdup(c->list->version);
	if (a->sub != NULL)
		warn_of(a, c);
}

static const char *
or_empty(const char *text)
{
	return text != NULL ? text : "";
}

static void
say(void *arg, const char *text)
{
	const struct arrival *a = arg;

	vmc_log(a->v, VMC_INFO, FATC, "%s", text);
}

static void
prepare(struct arrival *a, struct refresh *r)
{
	ctl_refresh(&a->v->ctl, false, r);
	r->say = say;
	r->examined = examined;
	r->arg = a;
}

/* ---- -s -------------------------------------------------------------------------------------- */

static bool
names_differ(const struct arrival *a)
{
	return a->dn != NULL && !dn_equal(a->dn, or_empty(a->subject));
}

static void
tell_not_subscribed(const struct arrival *a, const char *url, const struct err *err)
{
	switch ((int)err->code) {
	case CODE_NOT_LINKED:
		vmc_log(a->v, VMC_ERROR, FATC, "Endorser '%s':'%s' was not found in database.",
			or_empty(a->subject), or_empty(a->issuer));
		vmc_log(a->v, VMC_DEBUG, FATC, "%s", err->text);
		vmc_log(a->v, VMC_INFO, FATC, "Use '--auto-endorse' to add endorser '%s':'%s' to"
			" subscription database.", or_empty(a->subject), or_empty(a->issuer));
		return;
	case CODE_DN:
		vmc_log(a->v, VMC_ERROR, FATC, names_differ(a) ?
			"Endorser DN does not match signature" :
			"list hv:ca does not match signature");
		vmc_log(a->v, VMC_INFO, FATC, "%s", err->text);
		return;
	default:
		break;
	}
	if (!a->came)
		vmc_log(a->v, VMC_ERROR, FATC, "%s, while retrieving %s", err->text, url);
	else if (a->identifier == NULL)
		vmc_log(a->v, VMC_ERROR, FATC, "Validate text '%s' produced error '%s'", url,
			err->text);
	else
		vmc_log(a->v, VMC_ERROR, FATC, "%s", err->text);
}

static int
decorate(struct ctl *ctl, void *arg, struct err *err)
{
	const struct arrival *a = arg;

	(void)ctl;
	return vmc_sub_decorate(a->v, a->sub->id, err);
}

/* Policy and trust anchor, which are no part of what is imported. */
static int
add_terms(struct vmc *v, int64_t id, struct err *err)
{
	struct subscription_row sub = { .id = id };
	struct arrival a = { .v = v, .sub = &sub };

	return ctl_transaction(&v->ctl, decorate, &a, err);
}

static int
subscribe_wish(struct vmc *v, const struct refresh_wish *wish)
{
	struct arrival a = { .v = v };
	struct update_result result;
	struct err err = { 0 };
	struct refresh r;
	int64_t id = 0;
	int rc;

	prepare(&a, &r);
	rc = refresh_subscribe(&r, wish, &id, &result, &err);
	if (rc != 0)
		tell_not_subscribed(&a, wish->url, &err);
	else if (result.same)
		vmc_log(v, VMC_DEBUG, FATC, "'%s' was subscribed to before", wish->url);
	arrival_release(&a);
	if (rc == 0 && (rc = add_terms(v, id, &err)) != 0)
		vmc_fail(v, FATC, &err);
	if (rc == 0)
		v->ctl.poke = true;
	else
		vmc_log(v, VMC_ERROR, FATC, "subscriptions subscribe failed for %s", wish->url);
	return rc;
}

static void
wipe(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

static int
subscribe_one(struct vmc *v, const char *given)
{
	CLEANUP_FREE char *url = NULL;
	char *username = NULL, *password = NULL;
	struct refresh_wish wish = {
		.auto_endorse = vmc_flag(v, "auto-endorse"), .select_new = SELECT_NONE,
		.refuse_new = true, .define_only = true,
	};
	struct err err = { 0 };
	int rc;

	rc = fetch_split_url(given, &url, &username, &password, &err);
	if (rc != 0) {
		vmc_fail(v, FATC, &err);
		return rc;
	}
	wish.url = url;
	wish.username = username != NULL ? username : vmc_value(v, "uri-username-set");
	wish.password = password != NULL ? password : vmc_value(v, "uri-password-set");
	rc = subscribe_wish(v, &wish);
	wipe(username);
	wipe(password);
	return rc;
}

static void
tell_certificates(struct vmc *v)
{
	if (vmc_value(v, "cert-dir") == NULL)
		vmc_log(v, VMC_INFO, "main", "Defaulting Certificate directory to '%s'",
			v->ctl.conf->cert_dir);
}

int
vmc_sub_subscribe(struct vmc *v)
{
	struct vmc_values urls = vmc_values(v, "subscribe");
	CLEANUP_FREE char *shown = vmc_sub_shown(urls);
	struct err err = { 0 };
	bool all = true;

	tell_certificates(v);
	if (vmc_open(v, CTL_WRITE | CTL_STARTER, &err) != 0)
		return vmc_fail(v, "main", &err);
	for (size_t i = 0; i < urls.n; i++)
		all = subscribe_one(v, urls.at[i]) == 0 && all;
	if (!all)
		vmc_log(v, VMC_ERROR, "main", "Failed to subscribe to '%s'", shown);
	return all ? 0 : 1;
}

/* ---- -U -------------------------------------------------------------------------------------- */

/* What fileView had a sentence for; what is not among it is told in our own words. */
static void
tell_view(const struct arrival *a, const struct err *err)
{
	const char *id = a->sub->list_id;
	bool dn = names_differ(a);

	switch ((int)err->code) {
	case CODE_DN:
		vmc_log(a->v, VMC_ERROR, VIEW,
			dn ? "Endorser DN does not match signature for '%s'" :
			     "list hv:ca does not match signature for '%s'", id);
		vmc_log(a->v, VMC_INFO, VIEW, "Expected %s '%s'", dn ? "DN" : "CA",
			or_empty(dn ? a->dn : a->ca));
		vmc_log(a->v, VMC_INFO, VIEW, "Downloaded %s '%s'", dn ? "DN" : "CA",
			or_empty(dn ? a->subject : a->issuer));
		return;
	case CODE_LIST_ID:
		vmc_log(a->v, VMC_INFO, VIEW, "Expected identifier '%s'", id);
		vmc_log(a->v, VMC_INFO, VIEW, "Downloaded identifier '%s'",
			or_empty(a->identifier));
		return;
	case CODE_FUTURE:
		vmc_log(a->v, VMC_ERROR, VIEW, "Image list '%s' has an invalid creation date as in"
			" the future.", id);
		return;
	case CODE_EXPIRED:
		vmc_log(a->v, VMC_WARNING, VIEW, "Downloaded image list '%s' has expired.", id);
		return;
	default:
		vmc_log(a->v, VMC_ERROR, VIEW, "%s", err->text);
	}
}

static void
tell_refused(const struct arrival *a, const struct err *err)
{
	const struct subscription_row *sub = a->sub;

	vmc_log(a->v, VMC_DEBUG, FATC, "%s", err->text);
	switch ((int)err->code) {
	case CODE_NOT_LINKED:
		vmc_log(a->v, VMC_ERROR, FATC, "Endorser subject='%s' issuer='%s' not authorised on"
			" subscription '%s'", or_empty(a->subject), or_empty(a->issuer),
			sub->list_id);
		return;
	case CODE_LOWER_VERSION:
		vmc_log(a->v, VMC_ERROR, FATC, "Downloaded version \"%s\" version \"%s\" has lower"
			" version number than the old version \"%s\".", sub->list_id,
			or_empty(a->version), or_empty(sub->version));
		return;
	case CODE_SAME_VERSION:
	case CODE_BUSY:
	case CODE_DATABASE:
	case CODE_CORRUPT:
		vmc_log(a->v, VMC_ERROR, FATC, "%s", err->text);
		return;
	default:
		break;
	}
	if (!a->came) {
		vmc_log(a->v, VMC_ERROR, FATC, "%s, while retrieving %s", err->text, sub->url);
		return;
	}
	tell_view(a, err);
	vmc_log(a->v, VMC_ERROR, FATC, "Failed to verify subscription '%s' with URI '%s'",
		sub->list_id, sub->url);
}

struct refused {
	const struct arrival *a;
	int status;
};

static int
tell_refused_image(void *arg, const struct refused_row *row)
{
	struct refused *r = arg;
	const struct arrival *a = r->a;

	if (row->code == CODE_NEW_IMAGE) {
		vmc_log(a->v, VMC_INFO, FATC, "ImageId '%s' refused by subscription '%s'",
			row->identifier, a->sub->list_id);
		r->status = CODE_NEW_IMAGE;
	} else {
		vmc_log(a->v, VMC_WARNING, FATC, "ImageId '%s' of subscription '%s' left out: %s",
			row->identifier, a->sub->list_id, row->error);
	}
	return 0;
}

/* 0, or 32 for images that policy refuses. */
static int
tell_taken(const struct arrival *a, const struct update_result *result)
{
	struct refused refused = { .a = a };
	const struct subscription_row *sub = a->sub;
	struct err err = { 0 };

	if (!sub->has_message)
		vmc_log(a->v, VMC_INFO, FATC, "First version of:%s", sub->list_id);
	vmc_log(a->v, VMC_DEBUG, FATC, result->same ? "Same version:%s" : "Downloaded version:%s",
		result->same ? sub->list_id : or_empty(a->version));
	if (result->same || result->refused == 0)
		return 0;
	if (catalogue_refused_each(a->v->ctl.catalogue, sub->id, tell_refused_image, &refused,
				   &err) != 0)
		return vmc_fail(a->v, FATC, &err);
	return refused.status;
}

static int
update_one(struct vmc *v, int64_t id, long long deadline)
{
	struct subscription_row sub = { 0 };
	struct arrival a = { .v = v, .sub = &sub };
	struct update_result result = { 0 };
	struct err err = { 0 };
	struct refresh r;
	int status;

	if (catalogue_subscription_by_id(v->ctl.catalogue, id, &sub, &err) != 0) {
		subscription_row_release(&sub);
		return vmc_fail(v, FATC, &err);
	}
	vmc_log(v, VMC_INFO, FATC, "Updating:%s", sub.list_id);
	prepare(&a, &r);
	r.deadline = deadline;
	if (refresh_subscription(&r, id, &result, &err) == 0) {
		status = tell_taken(&a, &result);
		v->ctl.poke = v->ctl.poke || !result.same;
	} else {
		tell_refused(&a, &err);
		status = vmc_status(&err);
		v->ctl.poke = true;
	}
	arrival_release(&a);
	subscription_row_release(&sub);
	return status;
}

struct ids {
	int64_t *at;
	size_t n;
};

static int
add_id(void *arg, const struct subscription_row *row)
{
	struct ids *ids = arg;

	ids->at = xrealloc(ids->at, (ids->n + 1) * sizeof(*ids->at));
	ids->at[ids->n++] = row->id;
	return 0;
}

static int
expire_by_date(struct ctl *ctl, void *arg, struct err *err)
{
	return catalogue_expire_by_date(ctl->catalogue, stamp_now(), arg, err);
}

int
vmc_apply_time(struct vmc *v, struct err *err)
{
	struct arrival a = { .v = v };
	int expired = 0, changed = 0, rc = 0;
	bool poke = v->ctl.poke;
	struct refresh r;

	if (catalogue_next_expiry(v->ctl.catalogue) <= stamp_now())
		rc = ctl_transaction(&v->ctl, expire_by_date, &expired, err);
	prepare(&a, &r);
	r.examined = NULL;
	if (rc == 0)
		rc = recheck_lists(&r, RECHECK_IF_CHANGED, &changed, err);
	v->ctl.poke = poke || expired > 0 || changed > 0;
	return rc;
}

static int
update_all(struct vmc *v)
{
	long long deadline = io_monotonic_ms() + LIMIT_REFRESH_SECONDS * 1000LL;
	struct err err = { 0 };
	struct ids ids = { 0 };
	int status = 0;

	if (catalogue_subscription_each_due(v->ctl.catalogue, stamp_now(), add_id, &ids, &err) !=
	    0)
		status = vmc_fail(v, FATC, &err);
	for (size_t i = 0; i < ids.n; i++)
		status = ctl_last_failure(status, update_one(v, ids.at[i], deadline));
	free(ids.at);
	if (vmc_apply_time(v, &err) != 0)
		status = ctl_last_failure(status, vmc_fail(v, FATC, &err));
	if (ctl_sweep_messages(&v->ctl, &err) != 0)
		status = ctl_last_failure(status, vmc_fail(v, FATC, &err));
	return status;
}

int
vmc_sub_update(struct vmc *v)
{
	struct vmc_session session = { 0 };
	struct err err = { 0 };
	int status;

	tell_certificates(v);
	if (vmc_open(v, CTL_WRITE | CTL_STARTER, &err) != 0 ||
	    vmc_session_begin(&session, v, HANDLER_SUBSCRIBE, &err) != 0) {
		vmc_session_release(&session);
		return vmc_fail(v, "main", &err);
	}
	status = update_all(v);
	if (vmc_session_deliver(&session, &err) != 0)
		status = ctl_last_failure(status, vmc_fail(v, "Events", &err));
	vmc_session_release(&session);
	return status;
}
