/*
 * imagelist.c - a verified payload to an image list.
 *
 *	{ "hv:imagelist": {
 *		"dc:identifier": ..., "dc:title": ..., "hv:version": ..., (list_texts, list_dates)
 *		"hv:endorser": { "hv:x509": { "hv:dn": ..., "hv:ca": ..., ... } },
 *		"hv:images": [ { "hv:image": { ... (field_table) } }, ... ] } }
 *
 * The list's own keys and the endorser decide whether there is a list at all.  Each image stands
 * for itself: one that cannot be used is kept as refused, with its reason, and takes nothing else
 * down.  Keys that no table names are carried along in image_meta.json and have no effect.
 */
#include "config.h"
#include "imagelist.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "imagekey.h"
#include "imageuri.h"
#include "json.h"
#include "limits.h"
#include "safename.h"
#include "stamp.h"

/* Where a required string of the list or its endorser is kept, if it is. */
struct text_key {
	const char *key;
	size_t offset;
};

#define NOT_KEPT SIZE_MAX

static const struct text_key list_texts[] = {
	{ "dc:identifier", offsetof(struct imagelist, identifier) },
	{ "dc:title", offsetof(struct imagelist, title) },
	{ "dc:description", offsetof(struct imagelist, description) },
	{ "dc:source", offsetof(struct imagelist, source) },
	{ "hv:version", offsetof(struct imagelist, version) },
	{ "hv:uri", offsetof(struct imagelist, uri) },
	{ NULL, 0 },
};

static const struct text_key endorser_texts[] = {
	{ "hv:dn", offsetof(struct imagelist, dn) },
	{ "hv:ca", offsetof(struct imagelist, ca) },
	{ "hv:email", NOT_KEPT },
	{ "dc:creator", NOT_KEPT },
	{ NULL, 0 },
};

/* What an image is parsed with. */
struct context {
	const struct imagelist *list;
	const char *file_prefix;
};

/* ---- pieces --------------------------------------------------------------------------------- */

static int
get_text(const struct json *object, const char *key, enum code code, const char **text,
	 struct err *err)
{
	const struct json *j = json_get(object, key);

	if (j == NULL)
		return err_refuse(err, code, "'%s' is missing", key);
	*text = json_as_string(j);
	if (*text == NULL)
		return err_refuse(err, code, "'%s' is not a string", key);
	return 0;
}

static int
get_object(const struct json *object, const char *key, const struct json **out, struct err *err)
{
	const struct json *j = json_get(object, key);

	if (j == NULL)
		return err_refuse(err, CODE_NOT_LIST, "'%s' is missing", key);
	if (json_kind(j) != JSON_KIND_OBJECT)
		return err_refuse(err, CODE_NOT_LIST, "'%s' is not an object", key);
	*out = j;
	return 0;
}

static int
get_date(const struct json *object, const char *key, int64_t *seconds, struct err *err)
{
	const char *text;
	int rc;

	rc = get_text(object, key, CODE_NOT_LIST, &text, err);
	if (rc == 0 && !stamp_parse(text, seconds))
		rc = err_refuse(err, CODE_EXPIRED,
				"'%s' is not a date of the form YYYY-MM-DDTHH:MM:SSZ", key);
	return rc;
}

/* ---- one image ------------------------------------------------------------------------------ */

static int
parse_size(const struct json *j, struct image_meta *meta, struct err *err)
{
	int rc = imagekey_size(j, &meta->size, err);

	if (rc == 0)
		meta->value[FIELD_SIZE] = xasprintf("%lld", (long long)meta->size);
	return rc;
}

static int
parse_digest(const char *text, struct image_meta *meta, struct err *err)
{
	char hex[DIGEST_HEX + 1];
	int rc = imagekey_sha512(text, &meta->sha512, err);

	if (rc != 0)
		return rc;
	digest_hex(&meta->sha512, hex);
	meta->value[FIELD_SHA512] = xstrdup(hex);
	return 0;
}

/* The value itself is written by apply_list(). */
static int
parse_date(const struct field *f, const char *text, struct image_meta *meta, struct err *err)
{
	int64_t *seconds = f->id == FIELD_CREATED ? &meta->created : &meta->expires;

	if (!stamp_parse(text, seconds))
		return err_refuse(err, CODE_EXPIRED,
				  "'%s' is not a date of the form YYYY-MM-DDTHH:MM:SSZ",
				  f->list_key);
	return 0;
}

/* A field that the image has.  Free text that is optional and no string counts as absent. */
static int
parse_field(const struct field *f, const struct json *j, const struct context *ctx,
	    struct image_meta *meta, struct err *err)
{
	const char *text = json_as_string(j);
	int rc = 0;

	if (f->type == FIELD_BYTES)
		return parse_size(j, meta, err);
	if (text == NULL && f->type == FIELD_TEXT && !f->required)
		return 0;
	if (text == NULL)
		return err_refuse(err, CODE_EXPIRED, "'%s' is not a string", f->list_key);
	switch (f->type) {
	case FIELD_DIGEST:
		return parse_digest(text, meta, err);
	case FIELD_DATE:
		return parse_date(f, text, meta, err);
	case FIELD_IMAGE_URI:
		rc = imageuri_check(f->list_key, text, ctx->file_prefix, err);
		break;
	case FIELD_TEXT:
	case FIELD_BYTES:
		break;
	}
	if (rc == 0)
		meta->value[f->id] = xstrdup(text);
	return rc;
}

/* What the list says for all its images, and the texts of what was not said. */
static void
apply_list(const struct imagelist *list, struct image_meta *meta)
{
	char text[STAMP_BYTES];

	if (meta->created < 0)
		meta->created = list->created;
	if (meta->expires < 0 || meta->expires > list->expires)
		meta->expires = list->expires;
	stamp_format(meta->created, text);
	meta->value[FIELD_CREATED] = xstrdup(text);
	stamp_format(meta->expires, text);
	meta->value[FIELD_EXPIRES] = xstrdup(text);
	meta->value[FIELD_VO] = xstrdup(list->vo);
	for (int i = 0; i < N_FIELDS; i++)
		if (meta->value[i] == NULL)
			meta->value[i] = xstrdup("");
}

static int
parse_fields(const struct json *object, const struct context *ctx, struct image_meta *meta,
	     struct err *err)
{
	int rc = 0;

	meta->created = meta->expires = -1;
	for (int i = 0; i < N_FIELDS && rc == 0; i++) {
		const struct field *f = &field_table[i];
		const struct json *j;

		if (f->list_key == NULL)
			continue;
		j = json_get(object, f->list_key);
		if (j != NULL)
			rc = parse_field(f, j, ctx, meta, err);
		else if (f->required)
			rc = err_refuse(err, CODE_EXPIRED, "'%s' is missing", f->list_key);
	}
	if (rc == 0)
		rc = imagekey_verity(object, ctx->file_prefix, &meta->has_verity, &meta->verity,
				     &meta->verity_uri, err);
	return rc;
}

static void
refuse_image(struct imagelist_image *image, const struct err *why)
{
	image_meta_release(&image->meta);
	image->refused = true;
	image->code = why->code;
	image->error = xstrdup(why->text);
}

static void
parse_image(const struct json *element, const struct context *ctx, struct imagelist_image *image)
{
	const struct json *object = json_get(element, "hv:image");
	const char *identifier = json_as_string(json_get(object, "dc:identifier"));
	struct buf json = BUF_INIT;
	struct err why;

	image->identifier = xstrdup(identifier != NULL ? identifier : "");
	if (json_kind(object) != JSON_KIND_OBJECT) {
		err_refuse(&why, CODE_EXPIRED, "an entry of 'hv:images' has no object 'hv:image'");
		refuse_image(image, &why);
		return;
	}
	if ((identifier != NULL && imagekey_identifier(identifier, &why) < 0)
	    || parse_fields(object, ctx, &image->meta, &why) < 0) {
		refuse_image(image, &why);
		return;
	}
	apply_list(ctx->list, &image->meta);
	json_dump(object, &json);
	image->meta.json = buf_steal(&json, NULL);
}

/* ---- identifiers that collide --------------------------------------------------------------- */

struct shown_name {
	char name[SAFENAME_MAX + 32];
	struct imagelist_image *image;
};

static int
compare_shown_names(const void *a, const void *b)
{
	const struct shown_name *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order != 0 ? order : (x->image > y->image) - (x->image < y->image);
}

/*
 * Of usable images with one name in the mount the first keeps it.  Equal identifiers have equal
 * names; different ones may have been made so that their names are equal.
 */
static void
refuse_collisions(struct imagelist *list)
{
	struct shown_name *names = xcalloc(list->n_images, sizeof(*names));
	size_t n = 0;

	for (size_t i = 0; i < list->n_images; i++) {
		if (list->images[i].refused)
			continue;
		names[n].image = &list->images[i];
		safename_identifier(list->images[i].identifier, names[n++].name);
	}
	qsort(names, n, sizeof(*names), compare_shown_names);
	for (size_t i = 1; i < n; i++) {
		struct err why;

		if (strcmp(names[i].name, names[i - 1].name) != 0)
			continue;
		err_refuse(&why, CODE_IDENTIFIER,
			   "another image of this list has the identifier '%s'",
			   names[i].image->identifier);
		refuse_image(names[i].image, &why);
	}
	free(names);
}

/* ---- the list ------------------------------------------------------------------------------- */

static int
parse_texts(const struct json *object, const struct text_key *keys, struct imagelist *list,
	    struct err *err)
{
	for (; keys->key != NULL; keys++) {
		const char *text = NULL;
		int rc = get_text(object, keys->key, CODE_NOT_LIST, &text, err);

		if (rc < 0)
			return rc;
		if (keys->offset != NOT_KEPT)
			*(char **)(void *)((char *)list + keys->offset) = xstrdup(text);
	}
	return 0;
}

static int
parse_endorser(const struct json *object, struct imagelist *list, struct err *err)
{
	const struct json *endorser, *x509;
	int rc;

	/* vmcaster writes one if a list has several endorsers; which of them signs is not said. */
	if (json_kind(json_get(object, "hv:endorser")) == JSON_KIND_ARRAY)
		return err_refuse(err, CODE_NOT_LIST,
				  "'hv:endorser' is an array: a list has exactly one endorser");
	rc = get_object(object, "hv:endorser", &endorser, err);
	if (rc == 0)
		rc = get_object(endorser, "hv:x509", &x509, err);
	if (rc == 0)
		rc = parse_texts(x509, endorser_texts, list, err);
	return rc;
}

static int
parse_images(const struct json *object, const char *file_prefix, struct imagelist *list,
	     struct err *err)
{
	const struct json *images = json_get(object, "hv:images");
	struct context ctx = { .list = list, .file_prefix = file_prefix };

	if (images == NULL)
		return err_refuse(err, CODE_NOT_LIST, "'hv:images' is missing");
	if (json_kind(images) != JSON_KIND_ARRAY)
		return err_refuse(err, CODE_NOT_LIST, "'hv:images' is not an array");
	if (json_size(images) > LIMIT_IMAGES_PER_LIST)
		return err_refuse(err, CODE_LIMIT, "a list of more than %d images",
				  LIMIT_IMAGES_PER_LIST);
	list->n_images = json_size(images);
	list->images = xcalloc(list->n_images, sizeof(*list->images));
	for (size_t i = 0; i < list->n_images; i++)
		parse_image(json_at(images, i), &ctx, &list->images[i]);
	return 0;
}

/* The object with the list's keys. */
static int
unwrap(const struct json *root, const struct json **object, bool *unwrapped, struct err *err)
{
	*unwrapped = json_get(root, "hv:imagelist") == NULL;
	if (!*unwrapped)
		return get_object(root, "hv:imagelist", object, err);
	if (json_get(root, "hv:images") == NULL)
		return err_refuse(err, CODE_NOT_LIST, "'hv:imagelist' is missing");
	*object = root;
	return 0;
}

static int
parse_list(const struct json *root, const char *file_prefix, struct imagelist *list,
	   struct err *err)
{
	const struct json *object;
	const char *vo;
	int rc;

	rc = unwrap(root, &object, &list->unwrapped, err);
	if (rc < 0)
		return rc;
	rc = parse_texts(object, list_texts, list, err);
	if (rc < 0)
		return rc;
	rc = imagekey_identifier(list->identifier, err);
	if (rc < 0)
		return rc;
	if (strlen(list->uri) > LIMIT_URI_BYTES)
		return err_refuse(err, CODE_LIMIT, "'hv:uri' is longer than %d bytes",
				  LIMIT_URI_BYTES);
	/* Shown to all; the address that is polled is kept elsewhere. */
	imageuri_strip_userinfo(list->uri);
	vo = json_as_string(json_get(object, "ad:vo"));
	list->vo = xstrdup(vo != NULL ? vo : "");
	rc = parse_endorser(object, list, err);
	if (rc == 0)
		rc = get_date(object, "dc:date:created", &list->created, err);
	if (rc == 0)
		rc = get_date(object, "dc:date:expires", &list->expires, err);
	if (rc == 0)
		rc = parse_images(object, file_prefix, list, err);
	return rc;
}

static int
parse(const void *payload, size_t len, const char *file_prefix, struct imagelist **out,
      struct err *err)
{
	struct imagelist *list = xcalloc(1, sizeof(*list));
	struct json *doc = NULL;
	int rc;

	rc = json_parse(payload, len, &doc, err);
	if (rc < 0)
		goto out;
	rc = parse_list(doc, file_prefix, list, err);
	if (rc < 0)
		goto out;
	*out = list;
	list = NULL;
out:
	json_free(doc);
	imagelist_free(list);
	return rc;
}

int
imagelist_parse(const void *payload, size_t len, const char *file_prefix,
		struct imagelist **out, struct err *err)
{
	int rc = parse(payload, len, file_prefix, out, err);

	if (rc == 0)
		refuse_collisions(*out);
	return rc;
}

int
imagelist_parse_all(const void *payload, size_t len, struct imagelist **out, struct err *err)
{
	return parse(payload, len, "/", out, err);
}

void
imagelist_free(struct imagelist *list)
{
	if (list == NULL)
		return;
	for (size_t i = 0; i < list->n_images; i++) {
		free(list->images[i].identifier);
		free(list->images[i].error);
		image_meta_release(&list->images[i].meta);
	}
	free(list->images);
	free(list->identifier);
	free(list->title);
	free(list->description);
	free(list->source);
	free(list->version);
	free(list->uri);
	free(list->vo);
	free(list->dn);
	free(list->ca);
	free(list);
}
