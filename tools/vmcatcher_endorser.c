/*
 * vmcatcher_endorser.c - vmcatcher_endorser: who may sign, and which list.
 *
 * vmcatcher warns of an endorser or subscription that it does not know and goes on with exit
 * status 0; only a credential that cannot be added is a failure (12).  All that one command adds
 * or removes is one transaction.
 */
#include "config.h"
#include "vmcatcher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/recheck.h"

#define LOGGER "db_controler"

enum { CREATE_FAILED = 12 };

/* vmcatcher has no word for what it does not do. */
static void
say(void *arg, const char *text)
{
	vmc_log(arg, VMC_INFO, LOGGER, "%s", text);
}

/* Lists that were waiting for an endorser come back at once, from their stored messages. */
static void
restore_lists(struct vmc *v)
{
	struct err err = { 0 };
	struct refresh r;
	int changed;

	ctl_refresh(&v->ctl, false, &r);
	r.say = say;
	r.arg = v;
	if (recheck_lists(&r, RECHECK_DISTRUSTED, &changed, &err) != 0)
		vmc_log(v, VMC_WARNING, LOGGER, "%s; the next update looks again", err.text);
}

/* ---- showing --------------------------------------------------------------------------------- */

static int
list_credentials(void *arg, const struct endorser_row *row)
{
	struct vmc *v = arg;

	for (size_t i = 0; i < row->n_credentials; i++) {
		buf_puts(&v->out, "'");
		output_add_foreign(&v->out, row->name);
		buf_puts(&v->out, "'\t'");
		output_add_foreign(&v->out, row->credentials[i].subject);
		buf_puts(&v->out, "'\t'");
		output_add_foreign(&v->out, row->credentials[i].issuer);
		buf_puts(&v->out, "'\n");
	}
	return 0;
}

static int
list_credentials_json(void *arg, const struct endorser_row *row)
{
	struct jsonw *w = arg;

	jsonw_open(w, NULL, '{');
	jsonw_string(w, "endorser", row->name);
	if (row->n_credentials > 0)
		jsonw_open(w, "princibles", '[');
	for (size_t i = 0; i < row->n_credentials; i++) {
		jsonw_open(w, NULL, '{');
		jsonw_string(w, "issuer", row->credentials[i].issuer);
		jsonw_string(w, "subject", row->credentials[i].subject);
		jsonw_close(w, '}');
	}
	if (row->n_credentials > 0)
		jsonw_close(w, ']');
	jsonw_close(w, '}');
	return 0;
}

static int
action_list(struct vmc *v, struct err *err)
{
	struct jsonw *w;
	int rc;

	if (v->format != VMC_JSON)
		return catalogue_endorser_each(v->ctl.catalogue, list_credentials, v, err);
	w = vmc_json(v);
	jsonw_open(w, NULL, '[');
	rc = catalogue_endorser_each(v->ctl.catalogue, list_credentials_json, w, err);
	jsonw_close(w, ']');
	vmc_json_end(v);
	return rc;
}

/* The endorser being looked at, against each subscription. */
struct linked {
	struct vmc *v;
	const struct endorser_row *endorser;
	void (*fn)(struct linked *l, const struct subscription_row *s);
	struct jsonw *w;	/* NULL: lines */
	struct err *err;
	int rc;
};

static int
each_linked(void *arg, const struct subscription_row *s)
{
	struct linked *l = arg;

	if (catalogue_is_linked(l->v->ctl.catalogue, l->endorser->id, s->id))
		l->fn(l, s);
	return l->rc;
}

static void
put_link(struct linked *l, const struct subscription_row *s)
{
	if (l->w != NULL) {
		jsonw_open(l->w, NULL, '{');
		jsonw_boolean(l->w, "authorised", true);
		jsonw_string(l->w, "endorser", l->endorser->name);
		jsonw_string(l->w, "subscription", s->list_id);
		jsonw_close(l->w, '}');
		return;
	}
	buf_puts(&l->v->out, "'");
	output_add_foreign(&l->v->out, l->endorser->name);
	buf_puts(&l->v->out, "'\t'");
	output_add_foreign(&l->v->out, s->list_id);
	buf_puts(&l->v->out, "'\t'True'\n");
}

static int
list_links(void *arg, const struct endorser_row *row)
{
	struct linked *l = arg;

	l->endorser = row;
	return catalogue_subscription_each(l->v->ctl.catalogue, each_linked, l, l->err);
}

static int
action_links(struct vmc *v, struct err *err)
{
	struct linked l = { .v = v, .fn = put_link, .err = err };
	int rc;

	if (v->format == VMC_JSON) {
		l.w = vmc_json(v);
		jsonw_open(l.w, NULL, '[');
	}
	rc = catalogue_endorser_each(v->ctl.catalogue, list_links, &l, err);
	if (l.w != NULL) {
		jsonw_close(l.w, ']');
		vmc_json_end(v);
	}
	return rc;
}

static void
put_subscription(struct linked *l, const struct subscription_row *s)
{
	if (l->w != NULL) {
		jsonw_open(l->w, NULL, '{');
		vmc_subscription_members(l->w, s);
		jsonw_close(l->w, '}');
	} else if (l->v->format == VMC_LINES) {
		vmc_put_subscription(l->v, s);
		vmc_put_imagelist(l->v, s);
	} else if (s->has_message) {
		l->rc = vmc_put_message(l->v, s, l->v->format, l->err);
	}
}

static void
info_lines(struct vmc *v, const struct endorser_row *row)
{
	vmc_put_line(v, "endorser.dc:identifier", row->name);
	for (size_t i = 0; i < row->n_credentials; i++) {
		vmc_put_line(v, "endorser.hv:dn", row->credentials[i].subject);
		vmc_put_line(v, "endorser.hv:ca", row->credentials[i].issuer);
	}
}

/* "Princables" is how vmcatcher spells it here, and "princibles" in its list. */
static void
info_json(struct jsonw *w, const struct endorser_row *row)
{
	jsonw_open(w, NULL, '{');
	jsonw_open(w, "Princables", '[');
	for (size_t i = 0; i < row->n_credentials; i++) {
		jsonw_open(w, NULL, '{');
		jsonw_string(w, "hv:ca", row->credentials[i].issuer);
		jsonw_string(w, "hv:dn", row->credentials[i].subject);
		jsonw_close(w, '}');
	}
	jsonw_close(w, ']');
	jsonw_open(w, "Subscription", '[');
}

static int
info_one(struct vmc *v, const char *name, struct err *err)
{
	struct linked l = { .v = v, .fn = put_subscription, .err = err };
	struct endorser_row row = { 0 };
	int rc = catalogue_endorser_get(v->ctl.catalogue, name, &row, err);

	if (rc == 0) {
		l.endorser = &row;
		if (v->format == VMC_JSON)
			info_json(l.w = vmc_json(v), &row);
		else
			info_lines(v, &row);
		rc = catalogue_subscription_each(v->ctl.catalogue, each_linked, &l, err);
	}
	if (l.w != NULL) {
		jsonw_close(l.w, ']');
		jsonw_close(l.w, '}');
		vmc_json_end(v);
	}
	endorser_row_release(&row);
	return rc;
}

static int
action_info(struct vmc *v, struct err *err)
{
	struct vmc_values names = vmc_values(v, "endorser_uuid");
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < names.n; i++) {
		rc = info_one(v, names.at[i], err);
		if (rc == -ENOENT) {
			vmc_log(v, VMC_WARNING, LOGGER, "endorser '%s' not found", names.at[i]);
			rc = 0;
		}
	}
	return rc;
}

/* ---- creating -------------------------------------------------------------------------------- */

struct creation {
	struct vmc *v;
	const char *name;
	struct vmc_values subjects, issuers;
};

static int
create(struct ctl *ctl, void *arg, struct err *err)
{
	const struct creation *c = arg;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < c->subjects.n; i++) {
		/* One issuer may serve many subjects. */
		const char *issuer = c->issuers.at[c->issuers.n == 1 ? 0 : i];

		rc = catalogue_endorser_add(ctl->catalogue, c->name, c->subjects.at[i], issuer,
					    false, false, err);
		if (rc != 0)
			vmc_log(c->v, VMC_ERROR, LOGGER, "Database integrity error while adding"
				" '%s' credentials to  '%s'.", c->subjects.at[i], c->name);
	}
	return rc;
}

static bool
are_pairs(const struct creation *c)
{
	if (c->subjects.n > c->issuers.n && c->issuers.n > 1)
		vmc_log(c->v, VMC_WARNING, LOGGER, "Unsure how to add subjects credentials without"
			" issuer credentials.");
	else if (c->issuers.n > c->subjects.n)
		vmc_log(c->v, VMC_WARNING, LOGGER,
			"Cant add issuer credentials, without a subject.");
	else
		return true;
	return false;
}

/* Returns the exit status. */
static int
action_create(struct vmc *v)
{
	struct creation c = {
		.v = v, .name = vmc_value(v, "endorser_uuid"),
		.subjects = vmc_values(v, vmc_flag(v, "dn") ? "dn" : "subject"),
		.issuers = vmc_values(v, "issuer"),
	};
	struct err err = { 0 };

	if (!are_pairs(&c))
		return CREATE_FAILED;
	if (vmc_open(v, CTL_WRITE | CTL_STARTER, &err) != 0)
		return vmc_fail(v, LOGGER, &err);
	if (ctl_transaction(&v->ctl, create, &c, &err) != 0) {
		vmc_log(v, VMC_ERROR, LOGGER, "%s", err.text);
		return CREATE_FAILED;
	}
	restore_lists(v);
	return 0;
}

/* ---- deleting, linking ----------------------------------------------------------------------- */

static int
delete_endorsers(struct ctl *ctl, void *arg, struct err *err)
{
	struct vmc *v = arg;
	struct vmc_values names = vmc_values(v, "endorser_uuid");
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < names.n; i++) {
		rc = catalogue_endorser_remove(ctl->catalogue, names.at[i], NULL, NULL, err);
		if (rc == 0)
			vmc_log(v, VMC_INFO, LOGGER, "Deleting endorser '%s'.", names.at[i]);
		if (rc == -ENOENT) {
			vmc_log(v, VMC_WARNING, LOGGER, "Failed to find endorser '%s'.",
				names.at[i]);
			rc = 0;
		}
	}
	return rc;
}

/* By its whole identifier: vmcatcher knows no prefixes.  *id is 0 if there is none. */
static int
find_subscription(struct ctl *ctl, const char *list_id, int64_t *id, struct err *err)
{
	struct subscription_row row = { 0 };
	int rc = catalogue_subscription_find(ctl->catalogue, list_id, &row, err);

	*id = rc == 0 && strcmp(row.list_id, list_id) == 0 ? row.id : 0;
	subscription_row_release(&row);
	return rc == -ENOENT || rc == -ENOTUNIQ ? 0 : rc;
}

static int
link_one(struct vmc *v, const char *endorser, const char *list_id, struct err *err)
{
	struct endorser_row row = { 0 };
	int64_t id = 0;
	int rc = catalogue_endorser_get(v->ctl.catalogue, endorser, &row, err);

	if (rc == -ENOENT) {
		vmc_log(v, VMC_WARNING, LOGGER, "endorser not available.");
		return 0;
	}
	if (rc == 0)
		rc = find_subscription(&v->ctl, list_id, &id, err);
	if (rc == 0 && id == 0)
		vmc_log(v, VMC_WARNING, LOGGER, "subscription not available.");
	else if (rc == 0 && catalogue_is_linked(v->ctl.catalogue, row.id, id))
		vmc_log(v, VMC_WARNING, LOGGER, "endorser and subscription already linked.");
	else if (rc == 0)
		rc = catalogue_link(v->ctl.catalogue, endorser, id, err);
	endorser_row_release(&row);
	return rc;
}

static int
unlink_one(struct vmc *v, const char *endorser, const char *list_id, struct err *err)
{
	int64_t id = 0;
	int rc = find_subscription(&v->ctl, list_id, &id, err);

	if (rc == 0)
		rc = id != 0 ? catalogue_unlink(v->ctl.catalogue, endorser, id, err) : -ENOENT;
	if (rc == -ENOENT) {
		vmc_log(v, VMC_WARNING, LOGGER, "endorser and subscription are not linked.");
		rc = 0;
	}
	return rc;
}

/* The first endorser with the first subscription, and so on; what has no partner is passed over. */
static int
each_pair(struct vmc *v,
	  int (*fn)(struct vmc *v, const char *endorser, const char *list_id, struct err *err),
	  struct err *err)
{
	struct vmc_values endorsers = vmc_values(v, "endorser_uuid");
	struct vmc_values lists = vmc_values(v, "subscription_uuid");
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < endorsers.n && i < lists.n; i++)
		rc = fn(v, endorsers.at[i], lists.at[i], err);
	return rc;
}

static int
do_link(struct ctl *ctl, void *arg, struct err *err)
{
	(void)ctl;
	return each_pair(arg, link_one, err);
}

static int
do_unlink(struct ctl *ctl, void *arg, struct err *err)
{
	(void)ctl;
	return each_pair(arg, unlink_one, err);
}

/* ---- the command ----------------------------------------------------------------------------- */

static bool
is_selected(const struct vmc *v, const char *option, const char *what)
{
	if (vmc_values(v, option).n > 0)
		return true;
	vmc_log(v, VMC_ERROR, "main", "No %s selected.", what);
	return false;
}

static bool
has_what_it_needs(const struct vmc *v, const char *action)
{
	bool listing = strcmp(action, "list") == 0 || strcmp(action, "links") == 0;
	bool linking = strcmp(action, "link") == 0 || strcmp(action, "unlink") == 0;

	if (!listing && !is_selected(v, "endorser_uuid", "endorsers"))
		return false;
	if (linking && !is_selected(v, "subscription_uuid", "subscriptions"))
		return false;
	if (strcmp(action, "create") != 0)
		return true;
	if (!is_selected(v, vmc_flag(v, "dn") ? "dn" : "subject", "subjects") ||
	    !is_selected(v, "issuer", "issuers"))
		return false;
	if (vmc_values(v, "endorser_uuid").n == 1)
		return true;
	vmc_log(v, VMC_ERROR, "main", "More than one endorser cannot be created at a time.");
	return false;
}

static int
change(struct vmc *v, const char *action, struct err *err)
{
	if (strcmp(action, "delete") == 0)
		return ctl_transaction(&v->ctl, delete_endorsers, v, err);
	if (strcmp(action, "unlink") == 0)
		return ctl_transaction(&v->ctl, do_unlink, v, err);
	return ctl_transaction(&v->ctl, do_link, v, err);
}

static int
act(struct vmc *v, const char *action, struct err *err)
{
	bool linking = strcmp(action, "link") == 0;
	int rc;

	if (strcmp(action, "list") == 0 || strcmp(action, "links") == 0 ||
	    strcmp(action, "info") == 0) {
		rc = vmc_open(v, 0, err);
		if (rc != 0)
			return rc;
		return strcmp(action, "list") == 0 ? action_list(v, err)
		       : strcmp(action, "links") == 0 ? action_links(v, err)
						      : action_info(v, err);
	}
	rc = vmc_open(v, CTL_WRITE | (linking ? CTL_STARTER : 0U), err);
	if (rc == 0)
		rc = change(v, action, err);
	if (rc == 0 && linking)
		restore_lists(v);
	return rc;
}

int
vmc_endorser(struct vmc *v)
{
	static const char *const actions[] = { "list", "links", "create", "delete", "link",
					       "unlink", "info", NULL };
	const char *action;
	struct err err = { 0 };

	if (vmc_flag(v, "subject"))
		vmc_log(v, VMC_INFO, "main",
			"Option '--subject' and '-S' are depricated in favour of '--dn'.");
	action = vmc_one_action(v, actions);
	if (action == NULL || !has_what_it_needs(v, action))
		return 1;
	if (strcmp(action, "create") == 0)
		return action_create(v);
	return act(v, action, &err) == 0 ? 0 : vmc_fail(v, LOGGER, &err);
}
