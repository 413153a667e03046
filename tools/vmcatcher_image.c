/*
 * vmcatcher_image.c - vmcatcher_image: which images there are, and which the site wants.
 *
 * The state of an image is a number: 1 if the site wants it (selected), plus 2 if the latest list
 * of its subscription names it and can be trusted (live).  Event handlers of sites read this list
 * as a user of their own, who may not open the catalogue; they are answered from the mount, which
 * shows everybody the images that are live.
 */
#include "config.h"
#include "vmcatcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/control.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/stamp.h"

#define LOGGER "vmcatcher_image.controler"

enum { STATE_WANTED = 1, STATE_AVAILABLE = 2 };

/* ---- -l -------------------------------------------------------------------------------------- */

static int
put_image(struct vmc *v, const char *identifier, int state, const char *list_id)
{
	if (v->format == VMC_JSON) {
		jsonw_open(&v->json, NULL, '{');
		jsonw_string(&v->json, "image", identifier);
		jsonw_integer(&v->json, "state", state);
		jsonw_string(&v->json, "subscription", list_id);
		jsonw_close(&v->json, '}');
		return vmc_drain(v);
	}
	output_add_foreign(&v->out, identifier);
	buf_printf(&v->out, "\t%d\t", state);
	output_add_foreign(&v->out, list_id);
	buf_putc(&v->out, '\n');
	return vmc_drain(v);
}

static int
list_one(void *arg, const struct image_row *row)
{
	/* Of a subscription that was deleted nothing is known there. */
	if (row->subscription == 0)
		return 0;
	return put_image(arg, row->meta.value[FIELD_ID],
			 (row->selected ? STATE_WANTED : 0) + (row->live ? STATE_AVAILABLE : 0),
			 row->list_id);
}

/* What an admin has decided of an image that no list here names: known, and nothing more. */
static int
list_wish(void *arg, const struct wish_row *row)
{
	return put_image(arg, row->identifier, row->selected ? STATE_WANTED : 0, row->list_id);
}

/* The value in a file of the mount: one line.  false: it could not be read. */
static bool
read_value(int dirfd, const char *name, struct buf *out)
{
	CLEANUP_FD int fd = io_openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);

	buf_clear(out);
	if (fd < 0 || io_read_to_end(fd, LIMIT_CONTROL_LINE, out) != 0 || out->len == 0)
		return false;
	if (out->data[out->len - 1] == '\n')
		out->data[--out->len] = '\0';
	return true;
}

static int
list_from_directory(struct vmc *v, int images, const char *name)
{
	CLEANUP_BUF struct buf identifier = BUF_INIT, selected = BUF_INIT, list = BUF_INIT;
	CLEANUP_FD int fd = io_openat(images, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	/* It may have gone since the directory was read. */
	if (fd < 0 || !read_value(fd, "id", &identifier) ||
	    !read_value(fd, "selected", &selected) || !read_value(fd, "subscription/id", &list))
		return 0;
	return put_image(
		v, buf_str(&identifier),
		STATE_AVAILABLE + (strcmp(buf_str(&selected), "yes") == 0 ? STATE_WANTED : 0),
		buf_str(&list));
}

/* Where a daemon says that it has mounted; else where the configuration says so. */
static int
open_images(const struct conf *conf)
{
	CLEANUP_FREE char *said = xasprintf("%s/" CONTROL_MOUNTPOINT "/images", conf->run_dir);
	CLEANUP_FREE char *meant = xasprintf("%s/images", conf->mountpoint);
	int fd = io_openat(AT_FDCWD, said, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	return fd >= 0 ? fd : io_openat(AT_FDCWD, meant, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

static int
list_from_mount(struct vmc *v, struct err *err)
{
	int fd = open_images(v->ctl.conf);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *d;
	int rc = 0;

	if (dir == NULL) {
		close_keep_errno(fd);
		return err_prefix(err, "nothing is mounted at '%s' either",
				  v->ctl.conf->mountpoint);
	}
	vmc_log(v, VMC_INFO, LOGGER, "answered from the mount: %s", err->text);
	/* What was wrong with the catalogue has been answered. */
	err_clear(err);
	while (rc == 0 && (d = readdir(dir)) != NULL)
		if (d->d_name[0] != '.')
			rc = list_from_directory(v, fd, d->d_name);
	closedir(dir);
	return rc;
}

static int
action_list(struct vmc *v, struct err *err)
{
	int rc = vmc_open(v, 0, err);

	if (v->format == VMC_JSON)
		jsonw_open(vmc_json(v), NULL, '[');
	if (rc == 0) {
		rc = catalogue_image_each(v->ctl.catalogue, 0, false, list_one, v, err);
		if (rc == 0)
			rc = catalogue_wish_each(v->ctl.catalogue, list_wish, v, err);
	} else if (rc == -EACCES || rc == -EPERM)
		rc = list_from_mount(v, err);
	if (v->format == VMC_JSON) {
		jsonw_close(&v->json, ']');
		vmc_json_end(v);
	}
	return rc;
}

/* ---- selecting images ------------------------------------------------------------------------ */

/* What -u or -s named: the images found for one of its values. */
struct found {
	int64_t *ids;
	size_t n;
	const struct digest *digest;	/* for add_if_digest() */
	const char *identifier;		/* for add_if_wish() */
	struct {
		int64_t subscription;	/* in which it is only known; 0: it is not */
		bool selected;
	} wish;
};

static void
add_found(struct found *f, int64_t id)
{
	f->ids = xrealloc(f->ids, (f->n + 1) * sizeof(*f->ids));
	f->ids[f->n++] = id;
}

/* The version that is served or the one that is coming: the list may have named either. */
static int
add_if_digest(void *arg, const struct image_row *row)
{
	struct found *f = arg;

	if (row->subscription != 0 &&
	    (digest_equal(&row->meta.sha512, f->digest) ||
	     (row->has_pending && digest_equal(&row->pending.sha512, f->digest))))
		add_found(f, row->id);
	return 0;
}

static int
find_by_digest(struct vmc *v, const char *what, struct found *f, struct err *err)
{
	struct digest d;
	int rc;

	if (!digest_parse(what, &d))
		return 0;
	f->digest = &d;
	rc = catalogue_image_each(v->ctl.catalogue, 0, false, add_if_digest, f, err);
	f->digest = NULL;
	return rc;
}

static int
add_if_wish(void *arg, const struct wish_row *row)
{
	struct found *f = arg;

	if (strcmp(row->identifier, f->identifier) == 0) {
		f->wish.subscription = row->subscription;
		f->wish.selected = row->selected;
	}
	return 0;
}

/* By the whole identifier: a title or the beginning of one means nothing to vmcatcher. */
static int
find_by_identifier(struct vmc *v, const char *what, struct found *f, struct err *err)
{
	struct image_row row = { 0 };
	int rc = catalogue_image_find(v->ctl.catalogue, what, &row, err);

	if (rc == 0 && row.subscription != 0 && strcmp(row.meta.value[FIELD_ID], what) == 0)
		add_found(f, row.id);
	image_row_release(&row);
	if (rc != 0 && rc != -ENOENT && rc != -ENOTUNIQ)
		return rc;
	f->identifier = what;
	return f->n > 0 ? 0 : catalogue_wish_each(v->ctl.catalogue, add_if_wish, f, err);
}

static int
find(struct vmc *v, const char *what, struct found *f, struct err *err)
{
	*f = (struct found){ 0 };
	return vmc_flag(v, "sha512") ? find_by_digest(v, what, f, err)
				     : find_by_identifier(v, what, f, err);
}

static struct vmc_values
selections(const struct vmc *v)
{
	return vmc_values(v, vmc_flag(v, "sha512") ? "sha512" : "uuid");
}

/* What matches nothing is passed over in silence, as there. */
static int
select_all(struct ctl *ctl, void *arg, struct err *err)
{
	struct vmc *v = arg;
	struct vmc_values what = selections(v);
	bool add = vmc_flag(v, "add");
	int64_t now = stamp_now();
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < what.n; i++) {
		struct found f;

		rc = find(v, what.at[i], &f, err);
		for (size_t k = 0; rc == 0 && k < f.n; k++)
			rc = catalogue_image_select(ctl->catalogue, f.ids[k], add, now, err);
		if (rc == 0 && f.wish.subscription != 0)
			rc = catalogue_image_wish(ctl->catalogue, f.wish.subscription, what.at[i],
						  add, err);
		free(f.ids);
	}
	return rc;
}

/* ---- -i -------------------------------------------------------------------------------------- */

/* What the latest list says of the image, be it here already or not. */
static const struct image_meta *
latest(const struct image_row *row)
{
	return row->has_pending ? &row->pending : &row->meta;
}

static void
put_instance_lines(struct vmc *v, const struct image_meta *m)
{
	static const struct {
		const char *key;
		enum field_id field;
	} lines[] = {
		{ "image.dc:description", FIELD_DESCRIPTION },
		{ "image.dc:title", FIELD_TITLE },
		{ "image.hv:hypervisor", FIELD_HYPERVISOR },
		{ "image.hv:size", FIELD_SIZE },
		{ "image.hv:uri", FIELD_URI },
		{ "image.hv:version", FIELD_VERSION },
		{ "image.sl:arch", FIELD_ARCH },
		{ "image.sl:checksum:sha512", FIELD_SHA512 },
		{ "image.sl:comments", FIELD_COMMENTS },
		{ "image.sl:os", FIELD_OS },
		{ "image.sl:osversion", FIELD_OSVERSION },
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		vmc_put_line(v, lines[i].key, m->value[lines[i].field]);
}

static void
put_instance_json(struct vmc *v, const struct image_meta *m)
{
	struct jsonw *w = vmc_info_open(v, "ImageInstance");

	jsonw_string(w, "arch", m->value[FIELD_ARCH]);
	jsonw_string(w, "comments", m->value[FIELD_COMMENTS]);
	jsonw_string(w, "description", m->value[FIELD_DESCRIPTION]);
	jsonw_string(w, "hypervisor", m->value[FIELD_HYPERVISOR]);
	jsonw_string(w, "sha512", m->value[FIELD_SHA512]);
	jsonw_integer(w, "size", m->size);
	jsonw_string(w, "sl:os", m->value[FIELD_OS]);
	jsonw_string(w, "sl:osversion", m->value[FIELD_OSVERSION]);
	jsonw_string(w, "title", m->value[FIELD_TITLE]);
	jsonw_string(w, "uri", m->value[FIELD_URI]);
	jsonw_string(w, "version", m->value[FIELD_VERSION]);
	vmc_info_close(v);
}

static void
put_definition(struct vmc *v, const struct image_row *row)
{
	struct jsonw *w;

	if (v->format != VMC_JSON) {
		vmc_put_line(v, "imagedef.dc:identifier", row->meta.value[FIELD_ID]);
		vmc_put_line(v, "imagedef.cache", row->selected ? "1" : "0");
		return;
	}
	w = vmc_info_open(v, "ImageDefinition");
	jsonw_integer(w, "cache", row->selected ? 1 : 0);
	jsonw_string(w, "identifier", row->meta.value[FIELD_ID]);
	vmc_info_close(v);
}

static void
put_signer(struct vmc *v, const struct subscription_row *s)
{
	struct jsonw *w;

	if (v->format != VMC_JSON) {
		vmc_put_line(v, "endorser:hv:subject", s->signer_subject);
		vmc_put_line(v, "endorser:hv:issuer", s->signer_issuer);
		return;
	}
	w = vmc_info_open(v, "Endorser");
	jsonw_string(w, "identifier", s->endorser);
	vmc_info_close(v);
	w = vmc_info_open(v, "EndorserPrincible");
	jsonw_string(w, "issuer", s->signer_issuer);
	jsonw_string(w, "subject", s->signer_subject);
	vmc_info_close(v);
	vmc_info_open(v, "SubscriptionAuth");
	vmc_info_close(v);
}

static void
put_info(struct vmc *v, const struct image_row *row, const struct subscription_row *s)
{
	vmc_info_begin(v);
	vmc_put_subscription(v, s);
	if (row->live) {
		vmc_put_imagelist(v, s);
		if (v->format == VMC_JSON)
			put_instance_json(v, latest(row));
		else
			put_instance_lines(v, latest(row));
	}
	put_definition(v, row);
	if (row->live)
		put_signer(v, s);
	vmc_info_end(v);
}

static int
info_one(struct vmc *v, int64_t id, const char *what, struct err *err)
{
	struct subscription_row sub = { 0 };
	struct image_row row = { 0 };
	int rc = catalogue_image_by_id(v->ctl.catalogue, id, &row, err);

	if (rc == 0)
		rc = catalogue_subscription_by_id(v->ctl.catalogue, row.subscription, &sub, err);
	if (rc == 0 && !row.live)
		vmc_log(v, VMC_WARNING, LOGGER, "Image '%s' has expired.", what);
	if (rc == 0 && (v->format == VMC_LINES || v->format == VMC_JSON))
		put_info(v, &row, &sub);
	else if (rc == 0 && row.live)
		rc = vmc_put_message(v, &sub, v->format, err);
	subscription_row_release(&sub);
	image_row_release(&row);
	return rc;
}

/* Only known: what a list will say of it nobody has read yet. */
static int
info_wish(struct vmc *v, int64_t subscription, const char *identifier, bool selected,
	  struct err *err)
{
	struct image_row row = { .subscription = subscription, .selected = selected };
	struct subscription_row sub = { 0 };
	int rc = catalogue_subscription_by_id(v->ctl.catalogue, subscription, &sub, err);

	row.meta.value[FIELD_ID] = xstrdup(identifier);
	vmc_log(v, VMC_WARNING, LOGGER, "Image '%s' has expired.", identifier);
	if (rc == 0 && (v->format == VMC_LINES || v->format == VMC_JSON))
		put_info(v, &row, &sub);
	subscription_row_release(&sub);
	image_row_release(&row);
	return rc;
}

static int
info_selection(struct vmc *v, const char *what, struct err *err)
{
	struct found f;
	int rc = find(v, what, &f, err);

	if (rc == 0 && f.n == 0 && f.wish.subscription == 0)
		vmc_log(v, VMC_WARNING, LOGGER,
			"Selections '%s' does not match any known images.", what);
	if (rc == 0 && f.wish.subscription != 0)
		rc = info_wish(v, f.wish.subscription, what, f.wish.selected, err);
	for (size_t k = 0; rc == 0 && k < f.n; k++)
		rc = info_one(v, f.ids[k], what, err);
	free(f.ids);
	return rc;
}

static int
action_info(struct vmc *v, struct err *err)
{
	struct vmc_values what = selections(v);
	int rc = vmc_outputs_open(v, what.n, err);

	if (rc == 0)
		rc = vmc_open(v, 0, err);
	for (size_t i = 0; rc == 0 && i < what.n; i++) {
		size_t from = v->out.len;

		rc = info_selection(v, what.at[i], err);
		if (rc == 0)
			rc = vmc_output_take(v, i, from, err);
	}
	return rc;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int
act(struct vmc *v, const char *action, struct err *err)
{
	int rc;

	if (strcmp(action, "list") == 0)
		return action_list(v, err);
	if (strcmp(action, "info") == 0)
		return action_info(v, err);
	rc = vmc_open(v, CTL_WRITE, err);
	return rc == 0 ? ctl_transaction(&v->ctl, select_all, v, err) : rc;
}

int
vmc_image(struct vmc *v)
{
	static const char *const actions[] = { "list", "info", "add", "remove", NULL };
	const char *action = vmc_one_action(v, actions);
	struct err err = { 0 };

	if (action == NULL)
		return 1;
	if (strcmp(action, "list") != 0 && selections(v).n == 0) {
		vmc_log(v, VMC_ERROR, "main", "Action '%s' requires an image to be selected.",
			action);
		return 1;
	}
	if (vmc_flag(v, "sha512") && vmc_flag(v, "uuid")) {
		vmc_log(v, VMC_ERROR, "main", "Conflicting selectors.");
		return 1;
	}
	return act(v, action, &err) == 0 ? 0 : vmc_fail(v, LOGGER, &err);
}
