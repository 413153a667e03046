/*
 * cmd_verify.c - whether the store and the catalogue are what was signed.
 *
 * Every object is read from the first byte to the last and hashed, with all cores; what is bad is
 * named by its granules where the kept tree knows them.  With --deep each subscription's stored
 * message is verified again and its rows are compared with it.  What is wrong is named, one line
 * each.  --fix mends:
 *
 *   some granules bad      fetched anew, one by one
 *   tree missing or wrong  made anew, because the bytes are right
 *   else                   quarantine; fetched anew if wanted.  Also if single granules cannot be
 *                          had because the servers give no ranges
 *
 *   nothing, any more      noted, where the row says that it was found bad
 *
 * and makes the rows from the messages again; --dry-run changes nothing at all.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/recheck.h"
#include "inspect.h"
#include "mend.h"
#include "obtain.h"

struct check {
	struct ctl *ctl;
	const struct options *opt;
	struct inspect *objects;
	size_t n_objects;
	size_t *to_heal;		/* numbers of objects: no daemon does it */
	size_t n_to_heal;
	struct obtain_list again;	/* bad and wanted: to be fetched */
	int n_wrong;
};

/* ---- what is to be checked ------------------------------------------------------------------- */

static void
add_object(struct check *c, const struct object_row *row, const char *name)
{
	c->objects = xrealloc(c->objects, (c->n_objects + 1) * sizeof(*c->objects));
	inspect_init(&c->objects[c->n_objects++], row, name);
}

static int
add_verified(void *arg, const struct object_row *row)
{
	struct check *c = arg;
	char hex[DIGEST_HEX + 1];

	digest_hex(&row->digest, hex);
	if (row->state == OBJECT_VERIFIED)
		add_object(c, row, hex);
	return 0;
}

static int
add_image(struct check *c, const char *what, struct err *err)
{
	struct object_row object = { 0 };
	struct image_row row = { 0 };
	int rc;

	rc = ctl_find_image(c->ctl, what, &row, err);
	if (rc == 0)
		rc = catalogue_object_get(c->ctl->catalogue, &row.meta.sha512, &object, err);
	if (rc == 0 && object.state == OBJECT_VERIFIED)
		add_object(c, &object, row.meta.value[FIELD_ID]);
	else if (rc == 0)
		output_note(&c->ctl->out, "image '%s' is not in the cache",
			    row.meta.value[FIELD_ID]);
	object_row_release(&object);
	image_row_release(&row);
	return rc;
}

static int
choose(struct check *c, char **args, size_t n, struct err *err)
{
	int rc = 0;

	if (n == 0)
		return catalogue_object_each(c->ctl->catalogue, add_verified, c, err);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = add_image(c, args[i], err);
	return rc;
}

/* ---- mending --------------------------------------------------------------------------------- */

/* Away with it, and anew. */
static int
replace_object(struct check *c, const struct inspect *o, const char *why, struct err *err)
{
	int rc = mend_replace(c->ctl, o, why, err);

	if (rc == 0 && o->wanted)
		obtain_add(&c->again, o->name, &o->digest, o->size);
	return rc;
}

/* Granules are healed when all objects were looked at, because an engine takes the catalogue. */
static int
heal_alone(struct check *c, const struct inspect *o, struct err *err)
{
	if (o->verdict == INSPECT_TREE)
		return mend_tree(c->ctl, o, err);
	c->to_heal = xrealloc(c->to_heal, (c->n_to_heal + 1) * sizeof(*c->to_heal));
	c->to_heal[c->n_to_heal++] = (size_t)(o - c->objects);
	return 0;
}

static int
heal_object(struct check *c, const struct inspect *o, const char *why, struct err *err)
{
	int rc = mend_ask(c->ctl, o, err);

	if (rc == -ENOTCONN)
		return heal_alone(c, o, err);
	if (rc == 0)
		output_note(&c->ctl->out, "healed: %s", o->name);
	else if (err->code == CODE_RANGE)
		rc = replace_object(c, o, why, err);
	return rc;
}

static int
fix_object(struct check *c, const struct inspect *o, const char *why, struct err *err)
{
	switch (o->verdict) {
	case INSPECT_GOOD:
		return mend_row(c->ctl, o, err);
	case INSPECT_TREE:
	case INSPECT_BLOCKS:
		return heal_object(c, o, why, err);
	case INSPECT_UNKNOWN:
		return err_set(err, EAGAIN, "it could not be looked at; try again later");
	case INSPECT_SIGNED:
		return err_set(err, EBADMSG, "what was signed does not agree with itself; ask its"
			       " endorser");
	case INSPECT_GONE:
	case INSPECT_UNREADABLE:
	case INSPECT_BYTES:
		break;
	}
	return replace_object(c, o, why, err);
}

static void
cannot_mend(struct check *c, const struct inspect *o, const struct err *err)
{
	output_warn(&c->ctl->out, "%s: cannot be mended: %s", o->name, err->text);
}

/* The catalogue, which the engine took, is opened anew for what else is to be done. */
static int
reopen(struct check *c, struct err *err)
{
	if (c->ctl->catalogue != NULL)
		return 0;
	starter_free(c->ctl->starter);
	c->ctl->starter = NULL;
	return ctl_open(c->ctl, CTL_STARTER, err);
}

static void
tell_healed(struct check *c, const struct mend_item *item)
{
	struct err err = item->err;

	if (err.rc == 0)
		output_note(&c->ctl->out, "healed: %s", item->image->name);
	else if (err.code != CODE_RANGE ||
		 replace_object(c, item->image, item->err.text, &err) != 0)
		cannot_mend(c, item->image, &err);
}

static int
heal_blocks(struct check *c, struct err *err)
{
	CLEANUP_FREE struct mend_item *items = xcalloc(c->n_to_heal + 1, sizeof(*items));
	int rc;

	if (c->n_to_heal == 0)
		return 0;
	for (size_t i = 0; i < c->n_to_heal; i++)
		items[i].image = &c->objects[c->to_heal[i]];
	rc = mend_blocks(c->ctl, items, c->n_to_heal, err);
	if (rc == 0)
		rc = reopen(c, err);
	for (size_t i = 0; rc == 0 && i < c->n_to_heal; i++)
		tell_healed(c, &items[i]);
	return rc;
}

/* ---- reporting ------------------------------------------------------------------------------- */

/* object: NULL for a subscription. */
static void
finding(struct check *c, const char *kind, const char *name, const struct inspect *object, int rc,
	const struct err *why)
{
	struct jsonw *w = output_json(&c->ctl->out);

	if (rc != 0)
		c->n_wrong++;
	if (w != NULL) {
		jsonw_open(w, NULL, '{');
		jsonw_string(w, kind, name);
		jsonw_string(w, "result", rc == 0 ? "ok" : "wrong");
		jsonw_integer(w, "code", rc == 0 ? 0 : (int64_t)why->code);
		jsonw_string(w, "error", rc == 0 ? "" : why->text);
		if (object != NULL)
			jsonw_integer(w, "bad_granules", object->n_granules);
		jsonw_close(w, '}');
	} else if (rc != 0) {
		output_line(&c->ctl->out, "WRONG %s %s: %s", kind, name, why->text);
	} else {
		output_note(&c->ctl->out, "ok %s %s", kind, name);
	}
	output_drain(&c->ctl->out);
}

static void
check_objects(struct check *c)
{
	struct jsonw *w = output_json(&c->ctl->out);
	bool silent = c->ctl->out.verbosity < 0 || c->ctl->out.json || isatty(STDERR_FILENO) != 1;

	if (w != NULL)
		jsonw_open(w, "images", '[');
	for (size_t i = 0; i < c->n_objects; i++) {
		struct inspect *o = &c->objects[i];
		struct err why = { 0 }, err = { 0 };
		int rc = inspect_object(o, c->ctl->store, silent, &why);

		finding(c, "image", o->name, o, rc, &why);
		if ((rc != 0 || o->accused) && c->opt->fix && !c->opt->dry_run &&
		    fix_object(c, o, why.text, &err) != 0)
			cannot_mend(c, o, &err);
	}
	if (w != NULL)
		jsonw_close(w, ']');
}

static int
check_subscription(void *arg, const struct subscription_row *row)
{
	struct check *c = arg;
	struct err why = { 0 };
	struct refresh r;
	int rc;

	/* What is distrusted already vouches for nothing. */
	if (!row->has_message || row->state == SUB_DISTRUSTED)
		return 0;
	ctl_refresh(c->ctl, c->opt->dry_run, &r);
	rc = recheck_audit(&r, row, c->opt->fix && !c->opt->dry_run, &why);
	finding(c, "subscription", row->list_id, NULL, rc, &why);
	return 0;
}

struct id_list {
	int64_t *ids;
	size_t n;
};

static int
add_id(void *arg, const struct subscription_row *row)
{
	struct id_list *l = arg;

	l->ids = xrealloc(l->ids, (l->n + 1) * sizeof(*l->ids));
	l->ids[l->n++] = row->id;
	return 0;
}

static int
check_subscriptions(struct check *c, struct err *err)
{
	struct jsonw *w = output_json(&c->ctl->out);
	struct id_list l = { 0 };
	int rc;

	rc = catalogue_subscription_each(c->ctl->catalogue, add_id, &l, err);
	if (w != NULL)
		jsonw_open(w, "subscriptions", '[');
	for (size_t i = 0; rc == 0 && i < l.n; i++) {
		struct subscription_row row = { 0 };

		if (catalogue_subscription_by_id(c->ctl->catalogue, l.ids[i], &row, NULL) == 0)
			check_subscription(c, &row);
		subscription_row_release(&row);
	}
	if (w != NULL)
		jsonw_close(w, ']');
	free(l.ids);
	return rc;
}

static void
fetch_again(struct check *c)
{
	struct err err = { 0 };
	int rc = obtain_all(c->ctl, &c->again, &err);

	if (rc != 0)
		ctl_fail(c->ctl, &err);
	for (size_t i = 0; rc == 0 && i < c->again.n; i++) {
		const struct obtain_item *item = &c->again.items[i];

		if (item->err.rc != 0)
			output_warn(&c->ctl->out, "%s: could not be fetched anew: %s", item->name,
				    item->err.text);
		else
			output_note(&c->ctl->out, "fetched anew: %s", item->name);
	}
}

int
cmd_verify(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct check c = { .ctl = ctl, .opt = opt };
	struct err err = { 0 };
	unsigned flags = 0;
	int rc;

	if (opt->deep || opt->fix)
		flags |= CTL_STARTER;
	/* A check of the whole catalogue rebuilds a damaged one: that is a change. */
	if ((opt->deep || opt->fix) && !opt->dry_run)
		flags |= CTL_CHECK;
	rc = ctl_open(ctl, flags, &err);
	if (rc == 0)
		rc = ctl_open_store(ctl, false, &err);
	if (rc == 0)
		rc = choose(&c, args, n, &err);
	if (rc == 0) {
		check_objects(&c);
		if (opt->deep)
			rc = check_subscriptions(&c, &err);
	}
	if (rc == 0)
		rc = heal_blocks(&c, &err);
	if (rc == 0 && c.again.n > 0)
		fetch_again(&c);
	if (c.n_wrong > 0 && opt->fix && !opt->dry_run)
		ctl->poke = true;
	for (size_t i = 0; i < c.n_objects; i++)
		inspect_release(&c.objects[i]);
	free(c.objects);
	free(c.to_heal);
	obtain_release(&c.again);
	if (rc != 0)
		return ctl_fail(ctl, &err);
	return c.n_wrong == 0 ? EXIT_DONE : EXIT_SOME_FAILED;
}
