/*
 * xattr.c - user.vmimage.* of image files.  A member of an archive has those of the archive.
 *
 * What belongs to an image (id, title, version, list, endorser, expires) has one line for each
 * image that names the object, sorted, each value once: of the live images, or, when there is
 * none, of the expired ones.
 */
#include "config.h"
#define FUSE_USE_VERSION 312
#include "fs/ops.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/stamp.h"
#include "fs/lookup.h"
#include "fs/text.h"

#define PREFIX "user.vmimage."

struct values {
	char **value;
	size_t n, cap;
};

static void
values_add(struct values *v, const char *value)
{
	if (value == NULL || value[0] == '\0')
		return;
	if (v->n == v->cap) {
		v->cap = v->cap == 0 ? 8 : v->cap * 2;
		v->value = xrealloc(v->value, v->cap * sizeof(*v->value));
	}
	v->value[v->n++] = xstrdup(value);
}

static int
compare_values(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

/* Sorted, each once, a newline between them; empties the values. */
static void
values_join(struct values *v, struct buf *out)
{
	if (v->n > 0)
		qsort(v->value, v->n, sizeof(*v->value), compare_values);
	for (size_t i = 0; i < v->n; i++) {
		if (i > 0 && strcmp(v->value[i], v->value[i - 1]) == 0)
			continue;
		if (i > 0)
			buf_putc(out, '\n');
		buf_puts(out, v->value[i]);
	}
	for (size_t i = 0; i < v->n; i++)
		free(v->value[i]);
	free(v->value);
	memset(v, 0, sizeof(*v));
}

/* ---- values of the images ------------------------------------------------------------------- */

/* One image that names the object. */
struct naming {
	const struct tree *tree;
	const struct image_meta *meta;
	const char *list_id;
};

static void
add_field(struct values *v, const struct naming *n, enum field_id field)
{
	values_add(v, n->meta->value[field]);
}

static void
add_id(struct values *v, const struct naming *n)
{
	add_field(v, n, FIELD_ID);
}

static void
add_title(struct values *v, const struct naming *n)
{
	add_field(v, n, FIELD_TITLE);
}

static void
add_version(struct values *v, const struct naming *n)
{
	add_field(v, n, FIELD_VERSION);
}

static void
add_expires(struct values *v, const struct naming *n)
{
	add_field(v, n, FIELD_EXPIRES);
}

static void
add_list(struct values *v, const struct naming *n)
{
	values_add(v, n->list_id);
}

static void
add_endorser(struct values *v, const struct naming *n)
{
	for (size_t i = 0; i < n->tree->n_subs; i++)
		if (strcmp(n->tree->subs[i]->row.list_id, n->list_id) == 0)
			values_add(v, n->tree->subs[i]->row.endorser);
}

/* Images that have the object in cache/ while they show the version to come. */
static size_t
each_behind(const struct tree *t, size_t object,
	    void (*add)(struct values *v, const struct naming *n), struct values *v)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n_images; i++) {
		const struct tree_image *image = t->images[i].image;

		if (!image->ahead || t->images[i].cached != object)
			continue;
		add(v, &(struct naming){ t, &image->row.meta, image->row.list_id });
		n++;
	}
	return n;
}

static void
each_naming(const struct place *p, void (*add)(struct values *v, const struct naming *n),
	    struct values *v)
{
	const struct tree *t = p->tree;
	const struct digest *d = &record_as_object(p->record)->row.digest;
	size_t first, n = 0;

	if (p->slot != SIZE_MAX)
		tree_images_of(t, p->slot, &first, &n);
	for (size_t i = 0; i < n; i++) {
		const struct tree_image *image =
			t->images[t->images_by_object[first + i]].image;

		add(v, &(struct naming){ t, tree_image_shown(image), image->row.list_id });
	}
	if (p->slot != SIZE_MAX && t->n_ahead > 0)
		n += each_behind(t, p->slot, add, v);
	if (n > 0)
		return;
	for (size_t i = 0; i < t->n_expired; i++) {
		const struct expired_row *row = &t->expired[i]->row;

		if (digest_equal(&row->meta.sha512, d))
			add(v, &(struct naming){ t, &row->meta, row->list_id });
	}
}

/* ---- values of the object ------------------------------------------------------------------- */

static void
object_sha512(const struct place *p, struct buf *out)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(&record_as_object(p->record)->row.digest, hex);
	buf_puts(out, hex);
}

static void
object_state(const struct place *p, struct buf *out)
{
	const struct object_row *row = &record_as_object(p->record)->row;
	enum image_state state = IMAGE_EXPIRED;
	struct engine_progress progress;

	if (row->access == ACCESS_OK) {
		fs_progress(p->fs, &row->digest, &progress);
		state = progress.active ? IMAGE_FETCHING :
			row->state == OBJECT_FAILED ? IMAGE_FAILED :
			row->state == OBJECT_MISSING ?
				(row->wanted ? IMAGE_SELECTED : IMAGE_AVAILABLE) :
			row->degraded ? IMAGE_DEGRADED : IMAGE_VERIFIED;
	}
	buf_puts(out, image_state_name(state));
}

static void
object_fetched(const struct place *p, struct buf *out)
{
	int64_t fetched = record_as_object(p->record)->row.fetched;
	char stamp[STAMP_BYTES];

	if (fetched <= 0)
		return;
	stamp_format(fetched, stamp);
	buf_puts(out, stamp);
}

static void
object_error(const struct place *p, struct buf *out)
{
	buf_puts(out, object_row_error(&record_as_object(p->record)->row));
}

static void
object_pinned(const struct place *p, struct buf *out)
{
	buf_puts(out, record_as_object(p->record)->row.pinned ? "yes" : "no");
}

struct attribute {
	const char *name;
	void (*of_image)(struct values *v, const struct naming *n);
	void (*of_object)(const struct place *p, struct buf *out);
};

static const struct attribute attributes[] = {
	{ PREFIX "id", add_id, NULL },
	{ PREFIX "title", add_title, NULL },
	{ PREFIX "version", add_version, NULL },
	{ PREFIX "sha512", NULL, object_sha512 },
	{ PREFIX "state", NULL, object_state },
	{ PREFIX "fetched", NULL, object_fetched },
	{ PREFIX "list", add_list, NULL },
	{ PREFIX "endorser", add_endorser, NULL },
	{ PREFIX "expires", add_expires, NULL },
	{ PREFIX "error", NULL, object_error },
	{ PREFIX "pinned", NULL, object_pinned },
};

#define N_ATTRIBUTES (sizeof(attributes) / sizeof(attributes[0]))

static void
attribute_value(const struct attribute *a, const struct place *p, struct buf *out)
{
	struct values v = { NULL, 0, 0 };

	if (a->of_object != NULL) {
		a->of_object(p, out);
		return;
	}
	each_naming(p, a->of_image, &v);
	values_join(&v, out);
}

/* ---- operations ----------------------------------------------------------------------------- */

/* size 0 asks for the length. */
static void
reply_value(struct fuse_req *req, const struct buf *value, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, value->len);
	else if (size < value->len)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value->data, value->len);
}

void
op_getxattr(struct fuse_req *req, uint64_t node, const char *name, size_t size)
{
	struct fs_context *fs = fuse_req_userdata(req);
	PLACE_CLEANUP struct place p = { .fs = fs };
	CLEANUP_BUF struct buf value = BUF_INIT;
	int rc;

	/* ls asks every file for these, but no other file once it has heard that there are none. */
	if (strcmp(name, "security.selinux") == 0 || strcmp(name, "security.capability") == 0) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 ||
	    (node_kind(node) != KIND_OBJECT && node_kind(node) != KIND_OVA_FILE)) {
		fuse_reply_err(req, ENODATA);
		return;
	}
	rc = place_resolve(fs, node, &p);
	if (rc == 0) {
		rc = -ENODATA;
		for (size_t i = 0; i < N_ATTRIBUTES; i++)
			if (strcmp(attributes[i].name, name) == 0) {
				attribute_value(&attributes[i], &p, &value);
				rc = 0;
			}
	}
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		reply_value(req, &value, size);
}

void
op_listxattr(struct fuse_req *req, uint64_t node, size_t size)
{
	struct fs_context *fs = fuse_req_userdata(req);
	PLACE_CLEANUP struct place p = { .fs = fs };
	CLEANUP_BUF struct buf names = BUF_INIT;
	int rc = place_resolve(fs, node, &p);

	if (rc < 0) {
		fuse_reply_err(req, -rc);
		return;
	}
	if (place_is_image(&p))
		for (size_t i = 0; i < N_ATTRIBUTES; i++)
			buf_add(&names, attributes[i].name, strlen(attributes[i].name) + 1);
	reply_value(req, &names, size);
}
