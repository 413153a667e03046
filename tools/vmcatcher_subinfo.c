/*
 * vmcatcher_subinfo.c - vmcatcher_subscribe -i and --image-list: a subscription in each format, to
 * standard output or to the files of -o.
 */
#include "config.h"
#include "vmcatcher_sub.h"

#include <errno.h>

/* What is shown of a subscription, into v->out. */
typedef int (*show_fn)(struct vmc *v, const struct subscription_row *sub, struct err *err);

static int
show_info(struct vmc *v, const struct subscription_row *sub, struct err *err)
{
	if (v->format == VMC_SMIME || v->format == VMC_MESSAGE)
		return vmc_put_message(v, sub, v->format, err);
	vmc_info_begin(v);
	vmc_put_subscription(v, sub);
	vmc_put_imagelist(v, sub);
	vmc_info_end(v);
	return 0;
}

/* ---- --image-list ---------------------------------------------------------------------------- */

struct listing {
	struct vmc *v;
	const struct subscription_row *sub;
	struct jsonw *w;		/* NULL: lines */
};

static void
put_definition(const struct listing *l, const char *identifier, bool selected)
{
	if (l->w == NULL) {
		vmc_put_line(l->v, "imagedef.dc:identifier", identifier);
		vmc_put_line(l->v, "imagedef.cache", selected ? "1" : "0");
		return;
	}
	jsonw_open(l->w, NULL, '{');
	jsonw_integer(l->w, "cache", selected);
	jsonw_string(l->w, "identifier", identifier);
	jsonw_close(l->w, '}');
}

static int
put_image(void *arg, const struct image_row *row)
{
	put_definition(arg, row->meta.value[FIELD_ID], row->selected);
	return 0;
}

/* Accepted before any list has named it. */
static int
put_wish(void *arg, const struct wish_row *row)
{
	const struct listing *l = arg;

	if (row->subscription == l->sub->id)
		put_definition(l, row->identifier, row->selected);
	return 0;
}

static int
put_definitions(struct listing *l, struct err *err)
{
	struct catalogue *c = l->v->ctl.catalogue;
	int rc = catalogue_image_each(c, l->sub->id, false, put_image, l, err);

	return rc == 0 ? catalogue_wish_each(c, put_wish, l, err) : rc;
}

/* vmcatcher ended in a traceback here: the form is that of its other blocks. */
static int
show_images(struct vmc *v, const struct subscription_row *sub, struct err *err)
{
	struct listing l = { .v = v, .sub = sub };
	int rc;

	vmc_info_begin(v);
	vmc_put_subscription(v, sub);
	vmc_put_imagelist(v, sub);
	if (v->format != VMC_JSON)
		return put_definitions(&l, err);
	l.w = vmc_info_open(v, "ImageDefinitions");
	jsonw_open(l.w, "images", '[');
	rc = put_definitions(&l, err);
	jsonw_close(l.w, ']');
	vmc_info_close(v);
	vmc_info_end(v);
	return rc;
}

/* ---- all that were selected ------------------------------------------------------------------ */

static int
show_selected(struct vmc *v, show_fn show)
{
	struct vmc_values selected = vmc_sub_selected(v);
	struct err err = { 0 };
	int status = 0, rc;

	if (vmc_outputs_open(v, selected.n, &err) != 0 || vmc_open(v, 0, &err) != 0)
		return vmc_fail(v, "main", &err);
	for (size_t i = 0; i < selected.n; i++) {
		struct subscription_row sub = { 0 };
		size_t from = v->out.len;

		rc = vmc_sub_find(v, selected.at[i], &sub, &err);
		if (rc == 0)
			rc = show(v, &sub, &err);
		if (rc == 0)
			rc = vmc_output_take(v, i, from, &err);
		subscription_row_release(&sub);
		if (rc == -ENOENT)
			vmc_log(v, VMC_WARNING, "db_controler", "%s", err.text);
		else if (rc != 0)
			status = vmc_fail(v, "db_controler", &err);
	}
	return status;
}

int
vmc_sub_info(struct vmc *v)
{
	return show_selected(v, show_info);
}

int
vmc_sub_image_list(struct vmc *v)
{
	return show_selected(v, show_images);
}
