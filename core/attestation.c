/*
 * attestation.c - signed block digests beside the lists.
 *
 *	[ { "dc:identifier": "...",
 *	    "sl:checksum:sha512": "<128 hex>",
 *	    "hv:size": 1073741824,
 *	    "sl:checksum:fsverity-sha512": "<128 hex>",
 *	    "hv:fsverity:uri": "https://..."            optional
 *	  }, ... ]                                      or one such object alone
 *
 * The keys are those of a list's images and are read by the same functions.  What ties an entry to
 * an image is its SHA-512; the identifier is for people.  Other keys have no meaning here.
 */
#include "config.h"
#include "attestation.h"

#include <stdlib.h>
#include <string.h>

#include "imagekey.h"
#include "json.h"
#include "limits.h"

static int
need_text(const struct json *object, const char *key, const char **text, struct err *err)
{
	const struct json *j = json_get(object, key);

	if (j == NULL)
		return err_refuse(err, CODE_EXPIRED, "'%s' is missing", key);
	*text = json_as_string(j);
	if (*text == NULL)
		return err_refuse(err, CODE_EXPIRED, "'%s' is not a string", key);
	return 0;
}

static int
parse_values(const struct json *object, const char *file_prefix, struct attestation_entry *e,
	     struct err *err)
{
	const char *text;
	bool has_verity = false;
	int rc;

	rc = need_text(object, "dc:identifier", &text, err);
	if (rc == 0)
		rc = imagekey_identifier(text, err);
	if (rc == 0)
		rc = need_text(object, "sl:checksum:sha512", &text, err);
	if (rc == 0)
		rc = imagekey_sha512(text, &e->sha512, err);
	if (rc == 0)
		rc = imagekey_size(json_get(object, "hv:size"), &e->size, err);
	if (rc == 0)
		rc = imagekey_verity(object, file_prefix, &has_verity, &e->verity, &e->uri, err);
	if (rc == 0 && !has_verity)
		rc = err_refuse(err, CODE_EXPIRED, "'sl:checksum:fsverity-sha512' is missing");
	return rc;
}

static void
refuse(struct attestation_entry *e, const struct err *why)
{
	e->refused = true;
	e->code = why->code;
	e->error = xstrdup(why->text);
}

static void
parse_entry(const struct json *object, const char *file_prefix, struct attestation_entry *e)
{
	const char *identifier = json_as_string(json_get(object, "dc:identifier"));
	struct err why = { 0 };
	int rc;

	e->identifier = xstrdup(identifier != NULL ? identifier : "");
	if (json_kind(object) == JSON_KIND_OBJECT)
		rc = parse_values(object, file_prefix, e, &why);
	else
		rc = err_refuse(&why, CODE_EXPIRED, "an entry is not an object");
	if (rc != 0)
		refuse(e, &why);
}

static int
by_sha512(const void *a, const void *b)
{
	struct attestation_entry *const *x = a, *const *y = b;
	int order = memcmp((*x)->sha512.bytes, (*y)->sha512.bytes, DIGEST_BYTES);

	return order != 0 ? order : (*x > *y) - (*x < *y);
}

/* Of entries with one SHA-512 the first stands. */
static void
refuse_repeated(struct attestation *a)
{
	struct attestation_entry **sorted = xcalloc(a->n, sizeof(*sorted));
	size_t n = 0;

	for (size_t i = 0; i < a->n; i++)
		if (!a->entries[i].refused)
			sorted[n++] = &a->entries[i];
	qsort(sorted, n, sizeof(*sorted), by_sha512);
	for (size_t i = 1; i < n; i++) {
		struct err why;

		if (!digest_equal(&sorted[i]->sha512, &sorted[i - 1]->sha512))
			continue;
		err_refuse(&why, CODE_EXPIRED, "another entry has the same 'sl:checksum:sha512'");
		refuse(sorted[i], &why);
	}
	free(sorted);
}

static int
check_form(const struct json *doc, struct err *err)
{
	if (json_get(doc, "hv:imagelist") != NULL || json_get(doc, "hv:images") != NULL)
		return err_refuse(err, CODE_NOT_LIST,
				  "it is an image list, not an attestation of block digests");
	if (json_kind(doc) == JSON_KIND_OBJECT)
		return 0;
	if (json_size(doc) == 0)
		return err_refuse(err, CODE_NOT_LIST, "the attestation names no image");
	if (json_size(doc) > LIMIT_IMAGES_PER_LIST)
		return err_refuse(err, CODE_LIMIT, "an attestation of more than %d images",
				  LIMIT_IMAGES_PER_LIST);
	return 0;
}

static int
parse(const void *payload, size_t len, const char *file_prefix, struct attestation **out,
      struct err *err)
{
	struct attestation *a;
	struct json *doc = NULL;
	bool one;
	int rc;

	rc = json_parse(payload, len, &doc, err);
	if (rc == 0)
		rc = check_form(doc, err);
	if (rc != 0) {
		json_free(doc);
		return rc;
	}
	one = json_kind(doc) == JSON_KIND_OBJECT;
	a = xcalloc(1, sizeof(*a));
	a->n = one ? 1 : json_size(doc);
	a->entries = xcalloc(a->n, sizeof(*a->entries));
	for (size_t i = 0; i < a->n; i++)
		parse_entry(one ? doc : json_at(doc, i), file_prefix, &a->entries[i]);
	json_free(doc);
	*out = a;
	return 0;
}

int
attestation_parse(const void *payload, size_t len, const char *file_prefix,
		  struct attestation **out, struct err *err)
{
	int rc = parse(payload, len, file_prefix, out, err);

	if (rc == 0)
		refuse_repeated(*out);
	return rc;
}

int
attestation_parse_all(const void *payload, size_t len, struct attestation **out, struct err *err)
{
	return parse(payload, len, "/", out, err);
}

void
attestation_free(struct attestation *a)
{
	if (a == NULL)
		return;
	for (size_t i = 0; i < a->n; i++) {
		free(a->entries[i].identifier);
		free(a->entries[i].error);
		free(a->entries[i].uri);
	}
	free(a->entries);
	free(a);
}

void
attestation_write(struct jsonw *w, const struct attestation_entry *e)
{
	char hex[DIGEST_HEX + 1];

	jsonw_open(w, NULL, '{');
	jsonw_string(w, "dc:identifier", e->identifier);
	digest_hex(&e->sha512, hex);
	jsonw_string(w, "sl:checksum:sha512", hex);
	jsonw_integer(w, "hv:size", e->size);
	digest_hex(&e->verity, hex);
	jsonw_string(w, "sl:checksum:fsverity-sha512", hex);
	if (e->uri != NULL && e->uri[0] != '\0')
		jsonw_string(w, "hv:fsverity:uri", e->uri);
	jsonw_close(w, '}');
}
