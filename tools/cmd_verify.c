/*
 * cmd_verify.c - whether the store and the catalogue are what was signed.
 *
 * Every object is read from the first byte to the last and hashed.  With --deep each
 * subscription's stored message is verified again and its rows are compared with it.  What is
 * wrong is named, one line each; --fix quarantines bad files, fetches wanted ones anew and makes
 * the rows from the messages again; --dry-run changes nothing at all.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/control.h"
#include "core/io.h"
#include "core/recheck.h"
#include "core/stamp.h"
#include "obtain.h"
#include "progress.h"

enum { BLOCK_BYTES = 1 << 20 };

struct check {
	struct ctl *ctl;
	const struct options *opt;
	struct object { struct digest digest; int64_t size; char *name; bool wanted; } *objects;
	size_t n_objects;
	struct obtain_list again;	/* bad and wanted: to be fetched */
	int n_wrong;
};

/* ---- what is to be checked ------------------------------------------------------------------- */

static void
add_object(struct check *c, const struct digest *d, int64_t size, const char *name, bool wanted)
{
	struct object *o;

	c->objects = xrealloc(c->objects, (c->n_objects + 1) * sizeof(*c->objects));
	o = &c->objects[c->n_objects++];
	o->digest = *d;
	o->size = size;
	o->name = xstrdup(name);
	o->wanted = wanted;
}

static int
add_verified(void *arg, const struct object_row *row)
{
	struct check *c = arg;
	char hex[DIGEST_HEX + 1];

	digest_hex(&row->digest, hex);
	if (row->state == OBJECT_VERIFIED)
		add_object(c, &row->digest, row->size, hex, row->wanted);
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
		add_object(c, &object.digest, object.size, row.meta.value[FIELD_ID], object.wanted);
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

/* ---- one object ------------------------------------------------------------------------------ */

static int
hash_file(const struct check *c, int fd, const struct object *o, struct digest *sum,
	  struct err *err)
{
	struct digest_state *hash = digest_state_new();
	CLEANUP_FREE char *block = xmalloc(BLOCK_BYTES);
	struct progress p;
	int64_t at = 0;
	ssize_t n;
	int rc = 0;

	progress_begin(&p, o->name, c->ctl->out.verbosity < 0 || c->ctl->out.json ||
		       isatty(STDERR_FILENO) != 1);
	while ((n = io_pread_full(fd, block, BLOCK_BYTES, (off_t)at)) > 0) {
		digest_state_add(hash, block, (size_t)n);
		at += n;
		progress_update(&p, at, o->size);
	}
	progress_end(&p);
	if (n < 0)
		rc = err_set(err, (int)-n, "cannot be read: %s", strerrordesc_np((int)-n));
	digest_state_end(hash, sum);
	digest_state_free(hash);
	return rc;
}

static int
check_object(const struct check *c, const struct object *o, struct err *err)
{
	CLEANUP_FD int fd = -1;
	struct digest sum;
	int rc;

	fd = store_object_open(c->ctl->store, &o->digest, o->size, err);
	if (fd == -ENOENT)
		return err_refuse(err, CODE_CORRUPT, "its file is gone");
	if (fd < 0)
		return fd;
	rc = hash_file(c, fd, o, &sum, err);
	if (rc == 0 && !digest_equal(&sum, &o->digest))
		rc = err_refuse(err, CODE_CORRUPT, "its bytes are not those of its SHA-512");
	return rc;
}

/* The row first: nobody is to be told that these bytes are good while they are moved away. */
static int
forget_object(struct check *c, const struct object *o, const char *why, struct err *err)
{
	struct ctl *ctl = c->ctl;
	int rc;

	rc = ctl_open_store(ctl, true, err);
	if (rc == 0)
		rc = catalogue_begin(ctl->catalogue, err);
	if (rc != 0)
		return rc;
	rc = catalogue_object_lost(ctl->catalogue, &o->digest, why, stamp_now(), err);
	if (rc == 0)
		rc = catalogue_commit(ctl->catalogue, err);
	else
		catalogue_rollback(ctl->catalogue);
	if (rc == 0)
		rc = store_quarantine_object(ctl->store, &o->digest, err);
	return rc == -ENOENT ? 0 : rc;
}

static int
fix_object(struct check *c, const struct object *o, const char *why, struct err *err)
{
	char request[16 + DIGEST_HEX] = "damaged ";
	int rc;

	digest_hex(&o->digest, request + strlen(request));
	rc = control_call(c->ctl->conf, request, NULL, NULL, NULL, err);
	if (rc == -ENOTCONN)
		rc = forget_object(c, o, why, err);
	if (rc == 0 && o->wanted)
		obtain_add(&c->again, o->name, &o->digest, o->size);
	return rc;
}

/* ---- reporting ------------------------------------------------------------------------------- */

static void
finding(struct check *c, const char *kind, const char *name, int rc, const struct err *why)
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

	if (w != NULL)
		jsonw_open(w, "images", '[');
	for (size_t i = 0; i < c->n_objects; i++) {
		const struct object *o = &c->objects[i];
		struct err why = { 0 }, err = { 0 };
		int rc = check_object(c, o, &why);

		finding(c, "image", o->name, rc, &why);
		if (rc != 0 && c->opt->fix && !c->opt->dry_run &&
		    fix_object(c, o, why.text, &err) != 0)
			output_warn(&c->ctl->out, "%s: cannot be mended: %s", o->name, err.text);
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
	finding(c, "subscription", row->list_id, rc, &why);
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
	if (rc == 0 && c.again.n > 0)
		fetch_again(&c);
	if (c.n_wrong > 0 && opt->fix && !opt->dry_run)
		ctl->poke = true;
	for (size_t i = 0; i < c.n_objects; i++)
		free(c.objects[i].name);
	free(c.objects);
	obtain_release(&c.again);
	if (rc != 0)
		return ctl_fail(ctl, &err);
	return c.n_wrong == 0 ? EXIT_DONE : EXIT_SOME_FAILED;
}
