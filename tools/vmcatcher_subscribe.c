/*
 * vmcatcher_subscribe.c - lists: which are subscribed, how, and on which terms.
 *
 * One action a run, as vmcatcher has it.  --uri-* and --imagelist-newimage-* stand beside -s and
 * are said of what is subscribed, or alone and are said of what -u or -r select.
 *
 *   -l -D                       here, and what says something of a subscription
 *   -s -U                       vmcatcher_update.c
 *   -i --image-list             vmcatcher_subinfo.c
 *   --image-accept, -refuse     vmcatcher_policy.c
 */
#include "config.h"
#include "vmcatcher_sub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/cleanup.h"
#include "core/fetch.h"
#include "core/stamp.h"

/* ---- selecting ------------------------------------------------------------------------------- */

struct vmc_values
vmc_sub_selected(const struct vmc *v)
{
	struct vmc_values uris = vmc_values(v, "uri");

	return uris.n > 0 ? uris : vmc_values(v, "uuid");
}

struct search {
	const char *what;
	bool by_uri;
	int64_t id;
};

static int
look_at(void *arg, const struct subscription_row *row)
{
	struct search *s = arg;
	bool found;

	if (s->by_uri)
		found = strcmp(row->url, s->what) == 0 ||
			(row->uri != NULL && strcmp(row->uri, s->what) == 0);
	else
		found = strcmp(row->list_id, s->what) == 0;
	if (found && s->id == 0)
		s->id = row->id;
	return 0;
}

int
vmc_sub_find(struct vmc *v, const char *selector, struct subscription_row *out, struct err *err)
{
	struct search s = { .what = selector, .by_uri = vmc_values(v, "uri").n > 0 };
	CLEANUP_FREE char *clean = NULL, *username = NULL, *password = NULL;
	int rc;

	memset(out, 0, sizeof(*out));
	/* What was subscribed to with a password in its URL is found by that URL, too. */
	if (s.by_uri && fetch_split_url(selector, &clean, &username, &password, NULL) == 0)
		s.what = clean;
	rc = catalogue_subscription_each(v->ctl.catalogue, look_at, &s, err);
	if (rc == 0 && s.id == 0)
		rc = err_set(err, ENOENT, "Selections '%s' does not match any known subscriptions.",
			     s.what);
	return rc == 0 ? catalogue_subscription_by_id(v->ctl.catalogue, s.id, out, err) : rc;
}

char *
vmc_sub_shown(struct vmc_values values)
{
	struct buf b = BUF_INIT;

	buf_putc(&b, '[');
	for (size_t i = 0; i < values.n; i++) {
		CLEANUP_FREE char *clean = NULL, *username = NULL, *password = NULL;
		int rc = fetch_split_url(values.at[i], &clean, &username, &password, NULL);

		buf_printf(&b, "%s'%s'", i > 0 ? ", " : "", rc == 0 ? clean : values.at[i]);
	}
	buf_putc(&b, ']');
	return buf_steal(&b, NULL);
}

/* ---- terms ----------------------------------------------------------------------------------- */

struct vmc_sub_policy {
	bool refuse_new;
	int select_new;			/* enum conf_select */
};

/* --imagelist-newimage-*: false if none was given. */
static bool
vmc_sub_policy(const struct vmc *v, struct vmc_sub_policy *policy)
{
	policy->refuse_new = true;
	policy->select_new = SELECT_NONE;
	if (vmc_flag(v, "imagelist-newimage-subscribe")) {
		policy->refuse_new = false;
		policy->select_new = SELECT_ALL;
	} else if (vmc_flag(v, "imagelist-newimage-accept")) {
		policy->refuse_new = false;
	} else {
		return vmc_flag(v, "imagelist-newimage-refuse");
	}
	return true;
}

/* --uri-trustanchor-set: false if it is none of the three. */
static bool
vmc_sub_anchor(const char *text, enum trust_anchor *anchor)
{
	static const enum trust_anchor all[] = { ANCHOR_NONE, ANCHOR_BROWSER, ANCHOR_IGTF };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (strcasecmp(vmc_anchor_name(all[i]), text) == 0) {
			*anchor = all[i];
			return true;
		}
	}
	return false;
}

static int
set_credentials(struct vmc *v, int64_t id, struct err *err)
{
	const char *username = vmc_value(v, "uri-username-set");
	const char *password = vmc_value(v, "uri-password-set");
	bool no_username = vmc_flag(v, "uri-username-clear");
	bool no_password = vmc_flag(v, "uri-password-clear");
	struct subscription_row row = { 0 };
	int rc;

	if (username == NULL && password == NULL && !no_username && !no_password)
		return 0;
	rc = catalogue_subscription_by_id(v->ctl.catalogue, id, &row, err);
	if (username == NULL && !no_username)
		username = row.username;
	if (password == NULL && !no_password)
		password = row.password;
	if (rc == 0 && username != NULL && strncmp(row.url, "https://", 8) != 0)
		rc = err_set(err, EINVAL, "credentials are sent over https only, not to '%s'",
			     row.url);
	if (rc == 0)
		rc = catalogue_subscription_set_credentials(v->ctl.catalogue, id, username,
							    password, err);
	subscription_row_release(&row);
	return rc;
}

int
vmc_sub_decorate(struct vmc *v, int64_t id, struct err *err)
{
	const char *text = vmc_value(v, "uri-trustanchor-set");
	struct vmc_sub_policy policy;
	enum trust_anchor anchor;
	int rc;

	rc = set_credentials(v, id, err);
	if (rc == 0 && text != NULL && vmc_sub_anchor(text, &anchor))
		rc = catalogue_subscription_set_anchor(v->ctl.catalogue, id, anchor, err);
	if (rc == 0 && vmc_sub_policy(v, &policy))
		rc = catalogue_subscription_set_policy(v->ctl.catalogue, id, policy.refuse_new,
						       policy.select_new, err);
	return rc;
}

struct decoration {
	struct vmc *v;
	int64_t id;
};

static int
decorate(struct ctl *ctl, void *arg, struct err *err)
{
	const struct decoration *d = arg;

	(void)ctl;
	return vmc_sub_decorate(d->v, d->id, err);
}

static int
decorate_selected(struct vmc *v)
{
	struct vmc_values selected = vmc_sub_selected(v);
	struct err err = { 0 };
	int status = 0;

	if (vmc_open(v, CTL_WRITE, &err) != 0)
		return vmc_fail(v, "main", &err);
	for (size_t i = 0; i < selected.n; i++) {
		struct decoration d = { .v = v };
		struct subscription_row row = { 0 };
		int rc = vmc_sub_find(v, selected.at[i], &row, &err);

		d.id = row.id;
		subscription_row_release(&row);
		if (rc == -ENOENT)
			vmc_log(v, VMC_WARNING, "db_controler", "%s", err.text);
		else if (rc != 0 || ctl_transaction(&v->ctl, decorate, &d, &err) != 0)
			status = vmc_fail(v, "db_controler", &err);
	}
	return status;
}

/* ---- -l -------------------------------------------------------------------------------------- */

static int
list_line(void *arg, const struct subscription_row *row)
{
	struct vmc *v = arg;

	output_add_foreign(&v->out, row->list_id);
	buf_printf(&v->out, "\t%s\t%s\t", row->state != SUB_DISTRUSTED ? "True" : "False",
		   vmc_anchor_name(row->trust_anchor));
	output_add_foreign(&v->out, row->url);
	buf_putc(&v->out, '\n');
	return 0;
}

static int
list_member(void *arg, const struct subscription_row *row)
{
	struct jsonw *w = arg;

	jsonw_open(w, NULL, '{');
	jsonw_boolean(w, "authorised", row->state != SUB_DISTRUSTED);
	jsonw_string(w, "identifier", row->list_id);
	jsonw_string(w, "uri", row->url);
	jsonw_close(w, '}');
	return 0;
}

static int
list_all(struct vmc *v)
{
	struct err err = { 0 };
	struct jsonw *w;
	int rc;

	rc = vmc_open(v, 0, &err);
	if (rc == 0 && v->format == VMC_JSON) {
		w = vmc_json(v);
		jsonw_open(w, NULL, '[');
		rc = catalogue_subscription_each(v->ctl.catalogue, list_member, w, &err);
		jsonw_close(w, ']');
		vmc_json_end(v);
	} else if (rc == 0) {
		rc = catalogue_subscription_each(v->ctl.catalogue, list_line, v, &err);
	}
	return rc == 0 ? 0 : vmc_fail(v, "main", &err);
}

/* ---- -D -------------------------------------------------------------------------------------- */

static int
delete_one(struct ctl *ctl, void *arg, struct err *err)
{
	const struct subscription_row *row = arg;

	return catalogue_subscription_remove(ctl->catalogue, row->id, stamp_now(), err);
}

static int
delete_selected(struct vmc *v)
{
	struct vmc_values selected = vmc_sub_selected(v);
	CLEANUP_FREE char *shown = vmc_sub_shown(selected);
	struct err err = { 0 };
	bool found = false;
	int status = 0;

	if (vmc_open(v, CTL_WRITE, &err) != 0)
		return vmc_fail(v, "main", &err);
	for (size_t i = 0; i < selected.n; i++) {
		struct subscription_row row = { 0 };
		int rc = vmc_sub_find(v, selected.at[i], &row, &err);

		if (rc == 0)
			rc = ctl_transaction(&v->ctl, delete_one, &row, &err);
		found = found || rc == 0;
		if (rc != 0 && rc != -ENOENT)
			status = vmc_fail(v, "db_controler", &err);
		subscription_row_release(&row);
	}
	if (!found) {
		vmc_log(v, VMC_ERROR, "main", "Failed to remove a subscription from '%s'", shown);
		status = status == 0 ? 1 : status;
	}
	return status;
}

/* ---- what was asked for ---------------------------------------------------------------------- */

static const struct {
	const char *option;
	bool selects;			/* needs -u or -r */
	int (*run)(struct vmc *v);
} actions[] = {
	{ "list", false, list_all },
	{ "subscribe", false, vmc_sub_subscribe },
	{ "update", false, vmc_sub_update },
	{ "delete", true, delete_selected },
	{ "info", true, vmc_sub_info },
	{ "image-list", true, vmc_sub_image_list },
	{ "image-accept", true, vmc_sub_image_accept },
	{ "image-refuse", true, vmc_sub_image_refuse },
};

enum { N_ACTIONS = sizeof(actions) / sizeof(actions[0]) };

/* What may stand alone. */
static bool
has_decoration(const struct vmc *v)
{
	static const char *const options[] = {
		"uri-trustanchor-set", "uri-username-set", "uri-username-clear",
		"uri-password-set", "uri-password-clear", "imagelist-newimage-accept",
		"imagelist-newimage-subscribe", "imagelist-newimage-refuse",
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (vmc_flag(v, options[i]))
			return true;
	return false;
}

static bool
check_selection(const struct vmc *v, bool needed)
{
	size_t uuids = vmc_values(v, "uuid").n, uris = vmc_values(v, "uri").n;

	if (needed && uuids == 0 && uris == 0) {
		vmc_log(v, VMC_ERROR, "main", "No subscription selections made.");
		return false;
	}
	if (uuids > 0 && uris > 0) {
		vmc_log(v, VMC_ERROR, "main", "Conflicting selectors.");
		return false;
	}
	return true;
}

static bool
check_terms(const struct vmc *v)
{
	const char *text = vmc_value(v, "uri-trustanchor-set");
	int n = vmc_flag(v, "imagelist-newimage-accept") +
		vmc_flag(v, "imagelist-newimage-subscribe") +
		vmc_flag(v, "imagelist-newimage-refuse");
	enum trust_anchor anchor;

	if (n > 1) {
		vmc_log(v, VMC_ERROR, "main", "Conflicting functions.");
		return false;
	}
	if (text != NULL && !vmc_sub_anchor(text, &anchor)) {
		vmc_log(v, VMC_ERROR, "main", "Invalid trust anchor '%s' allowed values are"
			" 'none', 'browser', 'igtf'", text);
		return false;
	}
	return true;
}

int
vmc_subscribe(struct vmc *v)
{
	const char *names[N_ACTIONS + 1] = { NULL }, *chosen = NULL;
	bool decorated = has_decoration(v), any = false;
	size_t i;

	for (i = 0; i < N_ACTIONS; i++) {
		names[i] = actions[i].option;
		any = any || vmc_flag(v, names[i]);
	}
	if (any || !decorated)
		chosen = vmc_one_action(v, names);
	if ((chosen == NULL && (any || !decorated)) || !check_terms(v))
		return 1;
	if (chosen == NULL)
		return check_selection(v, true) ? decorate_selected(v) : 1;
	if (decorated && strcmp(chosen, "subscribe") != 0) {
		vmc_log(v, VMC_ERROR, "main", "More than one action selected.");
		return 1;
	}
	for (i = 0; strcmp(actions[i].option, chosen) != 0; i++)
		;
	return check_selection(v, actions[i].selects) ? actions[i].run(v) : 1;
}
