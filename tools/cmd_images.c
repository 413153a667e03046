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
	jsonw_boolean(w, "pinned", row->pinned);
	jsonw_stamp(w, "last_used", info->used);
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
	char stamp[STAMP_BYTES] = "never";

	for (size_t i = 0; i < N_FIELDS; i++)
		if (field_table[i].file != NULL)
			output_pair(o, field_table[i].file, row->meta.value[i]);
	output_pair(o, "fsverity_sha512", info->root);
	output_pair(o, "state", info->state);
	output_pair(o, "selected", row->selected ? "yes" : "no");
	output_pair(o, "pinned", row->pinned ? "yes" : "no");
	if (info->used > 0)
		stamp_format(info->used, stamp);
	output_pair(o, "last_used", stamp);
	output_pair(o, "error", info->error);
	output_pair(o, "subscription", row->list_id);
	if (row->has_pending)
		output_line(o, "pending: version %s, sha512 %s", row->pending.value[FIELD_VERSION],
			    row->pending.value[FIELD_SHA512]);
}

struct listing {
	struct ctl *ctl;
	const char *state;	/* NULL: any */
	struct err *err;
};

static void
image_line(struct output *o, const struct image_row *row, const struct imageinfo *info)
{
	char size[OUTPUT_SIZE_BYTES];

	output_size(row->meta.size, size);
	output_line(o, "%-36s  %-9s  %10s  %-12s  %s%s", row->meta.value[FIELD_ID], info->state,
		    size, row->meta.value[FIELD_VERSION], row->meta.value[FIELD_TITLE],
		    row->pinned ? "  (pinned)" : "");
}

static int
list_one(void *arg, const struct image_row *row)
{
	const struct listing *l = arg;
	struct output *o = &l->ctl->out;
	CLEANUP_IMAGEINFO struct imageinfo info;
	int rc = imageinfo_get(&info, l->ctl->catalogue, row, o->json, l->err);

	if (rc != 0)
		return rc;
	if (l->state != NULL && strcmp(l->state, info.state) != 0)
		return 0;
	if (o->json)
		image_json(output_json(o), row, &info);
	else
		image_line(o, row, &info);
	return output_drain(o);
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
	struct err err = { 0 };
	struct listing l = { .ctl = ctl, .state = opt->state, .err = &err };
	struct subscription_row sub = { 0 };
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

static int
show_row(struct ctl *ctl, const struct image_row *row, struct err *err)
{
	CLEANUP_IMAGEINFO struct imageinfo info;
	int rc = imageinfo_get(&info, ctl->catalogue, row, true, err);
	struct jsonw *w;

	if (rc != 0)
		return rc;
	w = output_json(&ctl->out);
	if (w == NULL) {
		image_text(&ctl->out, row, &info);
		return 0;
	}
	jsonw_open(w, "images", '[');
	image_json(w, row, &info);
	jsonw_close(w, ']');
	return 0;
}

int
cmd_show(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct image_row row = { 0 };
	struct err err = { 0 };
	int rc;

	(void)opt;
	(void)n;
	rc = ctl_open(ctl, 0, &err);
	if (rc == 0)
		rc = ctl_find_image(ctl, args[0], &row, &err);
	if (rc == 0)
		rc = show_row(ctl, &row, &err);
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

/* What the four verbs decide of an image, and how they say it. */
struct decision {
	const char *verb, *done;
	bool value;
	bool (*stands)(const struct image_row *row, bool value);
	int (*decide)(struct catalogue *c, int64_t id, bool value, struct err *err);
};

static bool
is_selected(const struct image_row *row, bool value)
{
	return row->selected == value;
}

static bool
is_pinned(const struct image_row *row, bool value)
{
	return row->pinned == value;
}

static int
set_selected(struct catalogue *c, int64_t id, bool value, struct err *err)
{
	return catalogue_image_select(c, id, value, stamp_now(), err);
}

static const struct decision to_select = { "select", "selected", true, is_selected, set_selected };
static const struct decision to_deselect = { "deselect", "deselected", false, is_selected,
					     set_selected };
static const struct decision to_pin = { "pin", "pinned", true, is_pinned, catalogue_image_pin };
static const struct decision to_unpin = { "unpin", "unpinned", false, is_pinned,
					  catalogue_image_pin };

struct choice {
	const struct decision *what;
	struct { int64_t id; char *name; } *images;
	size_t n;
};

static int
add_image(void *arg, const struct image_row *row)
{
	struct choice *c = arg;

	if (c->what->stands(row, c->what->value))
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
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < c->n; i++)
		rc = c->what->decide(ctl->catalogue, c->images[i].id, c->what->value, err);
	return rc;
}

static void
report_choice(struct ctl *ctl, struct choice *c)
{
	struct jsonw *w = output_json(&ctl->out);

	if (w != NULL)
		jsonw_open(w, c->what->done, '[');
	for (size_t i = 0; i < c->n; i++) {
		if (w != NULL)
			jsonw_string(w, NULL, c->images[i].name);
		output_note(&ctl->out, "image '%s' %s", c->images[i].name, c->what->done);
	}
	if (w != NULL)
		jsonw_close(w, ']');
}

/* All of the images that were named, or none: a misspelt name changes nothing. */
static int
decide(struct ctl *ctl, const struct options *opt, char **args, size_t n,
       const struct decision *what)
{
	struct choice c = { .what = what };
	struct err err = { 0 };
	int rc;

	if (opt->all == (n > 0))
		return ctl_usage(ctl, what->verb, "name images, or give --all");
	rc = ctl_open(ctl, CTL_WRITE | CTL_SET_UP, &err);
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
	return decide(ctl, opt, args, n, &to_select);
}

int
cmd_deselect(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	return decide(ctl, opt, args, n, &to_deselect);
}

int
cmd_pin(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	return decide(ctl, opt, args, n, &to_pin);
}

int
cmd_unpin(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	return decide(ctl, opt, args, n, &to_unpin);
}
