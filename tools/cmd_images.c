/*
 * cmd_images.c - endorsed images: looking at them, choosing them.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/stamp.h"
#include "imageinfo.h"

/* ---- showing --------------------------------------------------------------------------------- */

/* Fields are named as the files of images/<id>/ are. */
static void
fields_json(struct jsonw *w, const struct image_meta *m)
{
	for (size_t i = 0; i < N_FIELDS; i++) {
		const struct field *f = &field_table[i];

		if (f->file == NULL)
			continue;
		switch (f->type) {
		case FIELD_BYTES:
			jsonw_integer(w, f->file, m->size);
			break;
		case FIELD_DATE:
			jsonw_stamp(w, f->file, f->id == FIELD_CREATED ? m->created : m->expires);
			break;
		case FIELD_TEXT:
		case FIELD_DIGEST:
		case FIELD_IMAGE_URI:
			jsonw_string(w, f->file, m->value[i]);
			break;
		}
	}
}

static void
image_json(struct jsonw *w, const struct image_row *row, const struct imageinfo *info)
{
	jsonw_open(w, NULL, '{');
	fields_json(w, &row->meta);
	jsonw_string(w, "fsverity_sha512", info->root);
	jsonw_string(w, "state", info->state);
	jsonw_boolean(w, "selected", row->selected);
	jsonw_string(w, "error", info->error);
	jsonw_string(w, "subscription", row->list_id);
	if (row->has_pending) {
		jsonw_open(w, "pending", '{');
		jsonw_string(w, "version", row->pending.value[FIELD_VERSION]);
		jsonw_string(w, "sha512", row->pending.value[FIELD_SHA512]);
		jsonw_integer(w, "size", row->pending.size);
		jsonw_close(w, '}');
	}
	jsonw_close(w, '}');
}

static void
image_text(struct output *o, const struct image_row *row, const struct imageinfo *info)
{
	for (size_t i = 0; i < N_FIELDS; i++)
		if (field_table[i].file != NULL)
			output_pair(o, field_table[i].file, row->meta.value[i]);
	output_pair(o, "fsverity_sha512", info->root);
	output_pair(o, "state", info->state);
	output_pair(o, "selected", row->selected ? "yes" : "no");
	output_pair(o, "error", info->error);
	output_pair(o, "subscription", row->list_id);
	if (row->has_pending)
		output_line(o, "pending: version %s, sha512 %s", row->pending.value[FIELD_VERSION],
			    row->pending.value[FIELD_SHA512]);
}

struct listing {
	struct ctl *ctl;
	const char *state;	/* NULL: any */
};

static int
list_one(void *arg, const struct image_row *row)
{
	const struct listing *l = arg;
	struct output *o = &l->ctl->out;
	CLEANUP_IMAGEINFO struct imageinfo info;
	char size[OUTPUT_SIZE_BYTES];

	imageinfo_get(&info, l->ctl->catalogue, row);
	if (l->state != NULL && strcmp(l->state, info.state) != 0)
		return 0;
	if (o->json)
		image_json(output_json(o), row, &info);
	output_size(row->meta.size, size);
	output_line(o, "%-36s  %-9s  %10s  %-12s  %s", row->meta.value[FIELD_ID], info.state, size,
		    row->meta.value[FIELD_VERSION], row->meta.value[FIELD_TITLE]);
	output_drain(o);
	return 0;
}

static int
check_state(struct ctl *ctl, const char *state)
{
	static const char *const states[] = { "available", "selected", "verified", "degraded",
					      "failed" };

	if (state == NULL)
		return EXIT_DONE;
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (strcmp(states[i], state) == 0)
			return EXIT_DONE;
	return ctl_usage(ctl, "images",
			 "--state is available, selected, verified, degraded or failed, not '%s'",
			 state);
}

int
cmd_images(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct listing l = { .ctl = ctl, .state = opt->state };
	struct subscription_row sub = { 0 };
	struct err err = { 0 };
	struct jsonw *w;
	int rc, status;

	(void)args;
	(void)n;
	status = check_state(ctl, opt->state);
	if (status != EXIT_DONE)
		return status;
	rc = ctl_open(ctl, 0, &err);
	if (rc == 0 && opt->list != NULL)
		rc = catalogue_subscription_find(ctl->catalogue, opt->list, &sub, &err);
	if (rc == 0) {
		w = output_json(&ctl->out);
		if (w != NULL)
			jsonw_open(w, "images", '[');
		rc = catalogue_image_each(ctl->catalogue, sub.id, true, list_one, &l, &err);
		if (w != NULL)
			jsonw_close(w, ']');
	}
	subscription_row_release(&sub);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

static void
show_row(struct ctl *ctl, const struct image_row *row)
{
	CLEANUP_IMAGEINFO struct imageinfo info;
	struct jsonw *w = output_json(&ctl->out);

	imageinfo_get(&info, ctl->catalogue, row);
	if (w != NULL)
		image_json(w, row, &info);
	else
		image_text(&ctl->out, row, &info);
}

int
cmd_show(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct image_row row = { 0 };
	struct err err = { 0 };
	struct jsonw *w;
	int rc;

	(void)opt;
	(void)n;
	rc = ctl_open(ctl, 0, &err);
	if (rc == 0)
		rc = ctl_find_image(ctl, args[0], &row, &err);
	if (rc == 0) {
		w = output_json(&ctl->out);
		if (w != NULL)
			jsonw_open(w, "images", '[');
		show_row(ctl, &row);
		if (w != NULL)
			jsonw_close(w, ']');
	}
	image_row_release(&row);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

int
cmd_path(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct image_row row = { 0 };
	struct err err = { 0 };
	CLEANUP_FREE char *path = NULL;
	char hex[DIGEST_HEX + 1];
	struct jsonw *w;
	int rc;

	(void)opt;
	(void)n;
	rc = ctl_open(ctl, 0, &err);
	if (rc == 0)
		rc = ctl_find_image(ctl, args[0], &row, &err);
	if (rc == 0 && !row.selected)
		rc = err_set(&err, ENOENT, "image '%s' has no path: it is not selected;"
			     " 'vmimagectl select' does that", args[0]);
	if (rc == 0) {
		digest_hex(&row.meta.sha512, hex);
		path = xasprintf("%s/by-sha512/%s", ctl->conf->mountpoint, hex);
		w = output_json(&ctl->out);
		if (w != NULL)
			jsonw_string(w, "path", path);
		output_line(&ctl->out, "%s", path);
	}
	image_row_release(&row);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

/* ---- choosing -------------------------------------------------------------------------------- */

struct choice {
	bool select;
	struct { int64_t id; char *name; } *images;
	size_t n;
};

static int
add_image(void *arg, const struct image_row *row)
{
	struct choice *c = arg;

	if (row->selected == c->select)
		return 0;
	c->images = xrealloc(c->images, (c->n + 1) * sizeof(*c->images));
	c->images[c->n].id = row->id;
	c->images[c->n++].name = xstrdup(row->meta.value[FIELD_ID]);
	return 0;
}

static int
choose(struct ctl *ctl, void *arg, struct err *err)
{
	const struct choice *c = arg;
	int64_t now = stamp_now();
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < c->n; i++)
		rc = catalogue_image_select(ctl->catalogue, c->images[i].id, c->select, now, err);
	return rc;
}

static void
report_choice(struct ctl *ctl, struct choice *c)
{
	struct jsonw *w = output_json(&ctl->out);

	if (w != NULL)
		jsonw_open(w, c->select ? "selected" : "deselected", '[');
	for (size_t i = 0; i < c->n; i++) {
		if (w != NULL)
			jsonw_string(w, NULL, c->images[i].name);
		output_note(&ctl->out, "image '%s' %s", c->images[i].name,
			    c->select ? "selected" : "deselected");
	}
	if (w != NULL)
		jsonw_close(w, ']');
}

/* All of the images that were named, or none: a misspelt name changes nothing. */
static int
select_or_deselect(struct ctl *ctl, const struct options *opt, char **args, size_t n,
		   bool to_select)
{
	const char *verb = to_select ? "select" : "deselect";
	struct choice c = { .select = to_select };
	struct err err = { 0 };
	int rc;

	if (opt->all == (n > 0))
		return ctl_usage(ctl, verb, "name images, or give --all");
	rc = ctl_open(ctl, CTL_WRITE, &err);
	if (rc == 0 && opt->all)
		rc = catalogue_image_each(ctl->catalogue, 0, true, add_image, &c, &err);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct image_row row = { 0 };

		rc = ctl_find_image(ctl, args[i], &row, &err);
		if (rc == 0)
			add_image(&c, &row);
		image_row_release(&row);
	}
	if (rc == 0 && c.n > 0)
		rc = ctl_transaction(ctl, choose, &c, &err);
	if (rc == 0)
		report_choice(ctl, &c);
	for (size_t i = 0; i < c.n; i++)
		free(c.images[i].name);
	free(c.images);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

int
cmd_select(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	return select_or_deselect(ctl, opt, args, n, true);
}

int
cmd_deselect(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	return select_or_deselect(ctl, opt, args, n, false);
}
