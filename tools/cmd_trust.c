/*
 * cmd_trust.c - endorsers: who is trusted to sign which list.
 *
 * An endorser is a name of this site for one or more credentials (subject and issuer of a
 * certificate).  A registered endorser may sign the lists that it is linked to and no other; one
 * that is registered for block digests only signs no list at all.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <string.h>

#include "certname.h"
#include "core/cleanup.h"
#include "core/recheck.h"

/* ---- showing --------------------------------------------------------------------------------- */

struct links {
	struct ctl *ctl;
	struct subscription_ref { int64_t id; char *list_id; } *subs;
	size_t n;
};

static int
collect_subscription(void *arg, const struct subscription_row *row)
{
	struct links *l = arg;

	l->subs = xrealloc(l->subs, (l->n + 1) * sizeof(*l->subs));
	l->subs[l->n].id = row->id;
	l->subs[l->n++].list_id = xstrdup(row->list_id);
	return 0;
}

static void
links_release(struct links *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->subs[i].list_id);
	free(l->subs);
}

static void
endorser_json(struct jsonw *w, const struct links *l, const struct endorser_row *row)
{
	jsonw_open(w, NULL, '{');
	jsonw_string(w, "name", row->name);
	jsonw_boolean(w, "allow_sha1", row->allow_sha1);
	jsonw_boolean(w, "any_purpose", row->any_purpose);
	jsonw_boolean(w, "blocks_only", row->blocks_only);
	jsonw_open(w, "credentials", '[');
	for (size_t i = 0; i < row->n_credentials; i++) {
		jsonw_open(w, NULL, '{');
		jsonw_string(w, "subject", row->credentials[i].subject);
		jsonw_string(w, "issuer", row->credentials[i].issuer);
		jsonw_close(w, '}');
	}
	jsonw_close(w, ']');
	jsonw_open(w, "subscriptions", '[');
	for (size_t i = 0; i < l->n; i++)
		if (catalogue_is_linked(l->ctl->catalogue, row->id, l->subs[i].id))
			jsonw_string(w, NULL, l->subs[i].list_id);
	jsonw_close(w, ']');
	jsonw_close(w, '}');
}

static void
endorser_text(struct output *o, const struct links *l, const struct endorser_row *row)
{
	output_pair(o, "name", row->name);
	for (size_t i = 0; i < row->n_credentials; i++) {
		output_pair(o, "subject", row->credentials[i].subject);
		output_pair(o, "issuer", row->credentials[i].issuer);
	}
	output_pair(o, "allow_sha1", row->allow_sha1 ? "yes" : "no");
	output_pair(o, "any_purpose", row->any_purpose ? "yes" : "no");
	output_pair(o, "blocks_only", row->blocks_only ? "yes" : "no");
	for (size_t i = 0; i < l->n; i++)
		if (catalogue_is_linked(l->ctl->catalogue, row->id, l->subs[i].id))
			output_pair(o, "subscription", l->subs[i].list_id);
}

static int
list_one(void *arg, const struct endorser_row *row)
{
	const struct links *l = arg;
	struct output *o = &l->ctl->out;
	struct jsonw *w = output_json(o);

	if (w != NULL)
		endorser_json(w, l, row);
	for (size_t i = 0; i < row->n_credentials; i++)
		output_line(o, "%s  %s  %s", row->name, row->credentials[i].subject,
			    row->credentials[i].issuer);
	return output_drain(o);
}

/* The endorser by name, or all of them (name NULL: one line each); the JSON form is the same. */
static int
show(struct ctl *ctl, const char *name, struct err *err)
{
	struct links l = { .ctl = ctl };
	struct endorser_row row = { 0 };
	struct jsonw *w = NULL;
	int rc;

	rc = catalogue_subscription_each(ctl->catalogue, collect_subscription, &l, err);
	if (rc == 0 && name != NULL)
		rc = catalogue_endorser_get(ctl->catalogue, name, &row, err);
	if (rc == 0) {
		w = output_json(&ctl->out);
		if (w != NULL)
			jsonw_open(w, "endorsers", '[');
		if (name == NULL)
			rc = catalogue_endorser_each(ctl->catalogue, list_one, &l, err);
		else if (w != NULL)
			endorser_json(w, &l, &row);
		else
			endorser_text(&ctl->out, &l, &row);
		if (w != NULL)
			jsonw_close(w, ']');
	}
	endorser_row_release(&row);
	links_release(&l);
	return rc;
}

int
cmd_endorser_list(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct err err = { 0 };
	int rc;

	(void)opt;
	(void)args;
	(void)n;
	rc = ctl_open(ctl, 0, &err);
	if (rc == 0)
		rc = show(ctl, NULL, &err);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

int
cmd_endorser_show(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct err err = { 0 };
	int rc;

	(void)opt;
	(void)n;
	rc = ctl_open(ctl, 0, &err);
	if (rc == 0)
		rc = show(ctl, args[0], &err);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

/* ---- changing -------------------------------------------------------------------------------- */

struct change {
	const char *name;
	char *subject, *issuer;		/* NULL: not given */
	const char *list;
	bool allow_sha1, any_purpose, blocks_only;
};

/* The lists that were waiting for this endorser come back at once, from their stored messages. */
static void
restore_lists(struct ctl *ctl)
{
	struct err err = { 0 };
	struct refresh r;
	int changed;

	ctl_refresh(ctl, false, &r);
	if (recheck_lists(&r, RECHECK_DISTRUSTED, &changed, &err) != 0)
		output_warn(&ctl->out, "%s; the next update looks again", err.text);
}

/* After a change: what the endorser is now, or a sentence. */
static int
report(struct ctl *ctl, const struct change *ch, const char *what, struct err *err)
{
	if (ctl->out.json)
		return show(ctl, ch->name, err);
	output_note(&ctl->out, "endorser '%s' %s", ch->name, what);
	return 0;
}

static int
add(struct ctl *ctl, void *arg, struct err *err)
{
	const struct change *ch = arg;

	return (ch->blocks_only ? catalogue_endorser_add_blocks_only : catalogue_endorser_add)(
		ctl->catalogue, ch->name, ch->subject, ch->issuer, ch->allow_sha1, ch->any_purpose,
		err);
}

static int
take_credential(struct ctl *ctl, const struct options *opt, struct change *ch)
{
	static const char verb[] = "endorser add";
	struct err err = { 0 };

	if (opt->from_cert != NULL && (opt->subject != NULL || opt->issuer != NULL))
		return ctl_usage(ctl, verb,
				 "--from-cert takes the place of --subject and --issuer");
	if (opt->from_cert != NULL)
		return certname_read(opt->from_cert, &ch->subject, &ch->issuer, &err) == 0 ?
		       EXIT_DONE : ctl_fail(ctl, &err);
	if (opt->subject == NULL || opt->issuer == NULL)
		return ctl_usage(ctl, verb, "--subject and --issuer, or --from-cert, are needed");
	if (opt->subject[0] != '/' || opt->issuer[0] != '/')
		return ctl_usage(ctl, verb, "names are written as /DC=org/DC=example/CN=Name");
	ch->subject = xstrdup(opt->subject);
	ch->issuer = xstrdup(opt->issuer);
	return EXIT_DONE;
}

int
cmd_endorser_add(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct change ch = {
		.name = args[0], .allow_sha1 = opt->allow_sha1, .any_purpose = opt->any_purpose,
		.blocks_only = opt->blocks_only,
	};
	struct err err = { 0 };
	int rc, status;

	(void)n;
	status = take_credential(ctl, opt, &ch);
	if (status == EXIT_DONE) {
		rc = ctl_open(ctl, CTL_WRITE | CTL_STARTER, &err);
		if (rc == 0)
			rc = ctl_transaction(ctl, add, &ch, &err);
		if (rc == 0) {
			restore_lists(ctl);
			rc = report(ctl, &ch, "registered", &err);
		}
		if (rc != 0)
			status = ctl_fail(ctl, &err);
	}
	free(ch.subject);
	free(ch.issuer);
	return status;
}

static int
remove_endorser(struct ctl *ctl, void *arg, struct err *err)
{
	const struct change *ch = arg;

	return catalogue_endorser_remove(ctl->catalogue, ch->name, ch->subject, ch->issuer, err);
}

int
cmd_endorser_remove(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	CLEANUP_FREE char *subject = xstrdup(opt->subject), *issuer = xstrdup(opt->issuer);
	struct change ch = { .name = args[0], .subject = subject, .issuer = issuer };
	struct err err = { 0 };
	struct jsonw *w;
	int rc;

	(void)n;
	if ((opt->subject == NULL) != (opt->issuer == NULL))
		return ctl_usage(ctl, "endorser remove",
				 "a credential is a --subject and an --issuer");
	rc = ctl_open(ctl, CTL_WRITE | CTL_SET_UP, &err);
	if (rc == 0)
		rc = ctl_transaction(ctl, remove_endorser, &ch, &err);
	if (rc != 0)
		return ctl_fail(ctl, &err);
	w = output_json(&ctl->out);
	if (w != NULL)
		jsonw_string(w, "removed", ch.name);
	output_note(&ctl->out, subject != NULL ? "credential of endorser '%s' removed"
						: "endorser '%s' removed", ch.name);
	return EXIT_DONE;
}

/* ---- links ----------------------------------------------------------------------------------- */

static int
link_or_unlink(struct ctl *ctl, const struct change *ch, bool to_link, struct err *err)
{
	struct subscription_row sub = { 0 };
	int rc;

	rc = catalogue_subscription_find(ctl->catalogue, ch->list, &sub, err);
	if (rc == 0 && to_link)
		rc = catalogue_link(ctl->catalogue, ch->name, sub.id, err);
	else if (rc == 0)
		rc = catalogue_unlink(ctl->catalogue, ch->name, sub.id, err);
	subscription_row_release(&sub);
	return rc;
}

static int
do_link(struct ctl *ctl, void *arg, struct err *err)
{
	return link_or_unlink(ctl, arg, true, err);
}

static int
do_unlink(struct ctl *ctl, void *arg, struct err *err)
{
	return link_or_unlink(ctl, arg, false, err);
}

int
cmd_endorser_link(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct change ch = { .name = args[0], .list = args[1] };
	struct err err = { 0 };
	int rc;

	(void)opt;
	(void)n;
	rc = ctl_open(ctl, CTL_WRITE | CTL_SET_UP | CTL_STARTER, &err);
	if (rc == 0)
		rc = ctl_transaction(ctl, do_link, &ch, &err);
	if (rc == 0) {
		restore_lists(ctl);
		rc = report(ctl, &ch, "linked", &err);
	}
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

int
cmd_endorser_unlink(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct change ch = { .name = args[0], .list = args[1] };
	struct err err = { 0 };
	int rc;

	(void)opt;
	(void)n;
	rc = ctl_open(ctl, CTL_WRITE | CTL_SET_UP, &err);
	if (rc == 0)
		rc = ctl_transaction(ctl, do_unlink, &ch, &err);
	if (rc == 0)
		rc = report(ctl, &ch, "unlinked", &err);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}
