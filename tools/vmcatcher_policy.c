/*
 * vmcatcher_policy.c - vmcatcher_subscribe --image-accept and --image-refuse: single images of
 * lists whose new images are refused.  Selections and images are pairs, in the order given.
 *
 * What is so already is told as an error and is none, as in vmcatcher; a subscription that is not
 * known, or half a pair, is one.  The next -U applies what was decided.
 */
#include "config.h"
#include "vmcatcher_sub.h"

#include <errno.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/imagelist.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/stamp.h"

struct pair {
	struct vmc *v;
	const struct subscription_row *sub;
	const char *identifier;
};

/* By its whole identifier. */
static int
find_image(const struct pair *p, struct image_row *row, struct err *err)
{
	int rc = catalogue_image_find(p->v->ctl.catalogue, p->identifier, row, err);

	if (rc == 0 && strcmp(row->meta.value[FIELD_ID], p->identifier) != 0)
		rc = -ENOENT;
	return rc;
}

/* The list that is stored, if there is one. */
static int
stored_list(const struct pair *p, struct imagelist **list, struct err *err)
{
	const struct conf *conf = p->v->ctl.conf;
	CLEANUP_BUF struct buf payload = BUF_INIT;
	CLEANUP_FD int fd = -1;
	int rc;

	*list = NULL;
	if (!p->sub->has_message)
		return 0;
	fd = message_open(conf, &p->sub->message, true, err);
	if (fd < 0)
		return fd;
	rc = io_read_to_end(fd, LIMIT_MESSAGE_BYTES, &payload);
	if (rc != 0)
		return err_set(err, -rc, "the list of subscription '%s' cannot be read: %s",
			       p->sub->list_id, strerrordesc_np(-rc));
	return imagelist_parse(payload.data, payload.len, conf->file_prefix, list, err);
}

static int
define(struct ctl *ctl, void *arg, struct err *err)
{
	const struct pair *p = arg;
	struct imagelist *list = NULL;
	int rc;

	rc = stored_list(p, &list, err);
	if (rc == 0)
		rc = catalogue_image_define(ctl->catalogue, p->sub->id, list, p->identifier, err);
	/* A list that is still to come may name it. */
	if (rc == -ENOENT)
		rc = catalogue_image_define(ctl->catalogue, p->sub->id, NULL, p->identifier, err);
	imagelist_free(list);
	return rc;
}

static int
accept_one(struct pair *p, struct err *err)
{
	struct image_row row = { 0 };
	int rc = find_image(p, &row, NULL);

	if (rc == 0)
		vmc_log(p->v, VMC_ERROR, "db_controler",
			"Subscription '%s' has image '%s' already.", row.list_id, p->identifier);
	image_row_release(&row);
	return rc == 0 ? 0 : ctl_transaction(&p->v->ctl, define, p, err);
}

static int
undefine(struct ctl *ctl, void *arg, struct err *err)
{
	const struct pair *p = arg;

	return catalogue_image_undefine(ctl->catalogue, p->sub->id, p->identifier, stamp_now(),
					err);
}

static int
refuse_one(struct pair *p, struct err *err)
{
	struct image_row row = { 0 };
	int rc = find_image(p, &row, NULL);

	if (rc != 0 || row.subscription != p->sub->id) {
		vmc_log(p->v, VMC_ERROR, "db_controler",
			"Subscription '%s' already refuses image '%s'.", p->sub->list_id,
			p->identifier);
		rc = 0;
	} else {
		rc = ctl_transaction(&p->v->ctl, undefine, p, err);
	}
	image_row_release(&row);
	return rc;
}

static bool
check_pairs(const struct vmc *v, size_t subscriptions, size_t images)
{
	if (subscriptions > images)
		vmc_log(v, VMC_ERROR, "db_controler", "Not enough images selected");
	else if (images > subscriptions)
		vmc_log(v, VMC_ERROR, "db_controler", "Not enough subscriptions selected");
	return subscriptions == images;
}

static int
each_pair(struct vmc *v, const char *option, int (*fn)(struct pair *p, struct err *err))
{
	struct vmc_values selected = vmc_sub_selected(v), images = vmc_values(v, option);
	struct err err = { 0 };
	int status = 0;

	if (!check_pairs(v, selected.n, images.n))
		return 1;
	if (vmc_open(v, CTL_WRITE, &err) != 0)
		return vmc_fail(v, "main", &err);
	for (size_t i = 0; i < selected.n; i++) {
		struct subscription_row sub = { 0 };
		struct pair p = { .v = v, .sub = &sub, .identifier = images.at[i] };
		int rc = vmc_sub_find(v, selected.at[i], &sub, &err);

		if (rc == -ENOENT) {
			vmc_log(v, VMC_ERROR, "db_controler", "Subscription '%s' is unknown.",
				selected.at[i]);
			status = 1;
		} else if (rc != 0 || fn(&p, &err) != 0) {
			status = vmc_fail(v, "db_controler", &err);
		}
		subscription_row_release(&sub);
	}
	return status;
}

int
vmc_sub_image_accept(struct vmc *v)
{
	return each_pair(v, "image-accept", accept_one);
}

int
vmc_sub_image_refuse(struct vmc *v)
{
	return each_pair(v, "image-refuse", refuse_one);
}
