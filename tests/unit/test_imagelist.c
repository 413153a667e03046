/*
 * test_imagelist.c - payloads of lists, real ones and such as are no list.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/imagelist.h"
#include "core/json.h"
#include "core/limits.h"
#include "tests/unit/listbed.h"
#include "tests/unit/listfile.h"

/* ---- real lists ---------------------------------------------------------------------------- */

static struct imagelist *
parse_file(const char *name)
{
	struct imagelist *list;
	struct buf text;

	listfile_load(name, &text);
	list = must_parse(&text, NULL);
	buf_release(&text);
	return list;
}

static void
hepix_list(void **state)
{
	struct imagelist *list = parse_file("hepix-example.json");
	const struct imagelist_image *image = &list->images[0];

	(void)state;
	assert_string_equal(list->identifier, "4e186b44-2c64-40ea-97d5-e9e5c0bce059");
	assert_string_equal(list->title, "README example");
	assert_string_equal(list->version, "1");
	assert_string_equal(list->source, "example.org");
	assert_string_equal(list->uri, "http://example.org/example-image-list.image_list");
	assert_string_equal(list->dn, "/C=DE/O=GermanGrid/OU=DESY/CN=Owen Synge");
	assert_string_equal(list->ca, "/C=DE/O=GermanGrid/CN=GridKa-CA");
	assert_string_equal(list->vo, "");
	assert_int_equal(list->created, 1299776952);
	assert_false(list->unwrapped);
	assert_int_equal(list->n_images, 1);
	assert_false(image->refused);
	assert_string_equal(image->identifier, "488dcdc4-9ab1-4fc8-a7ba-b7a5428ecb3d");
	assert_int_equal(image->meta.size, 2147483648);
	assert_string_equal(image->meta.value[FIELD_SIZE], "2147483648");
	assert_string_equal(image->meta.value[FIELD_OSVERSION], "SL 5.5");
	assert_string_equal(image->meta.value[FIELD_FORMAT], "");
	assert_string_equal(image->meta.value[FIELD_EXPIRES], "2011-04-07T17:09:12Z");
	assert_int_equal(image->meta.created, list->created);
	imagelist_free(list);
}

static void
appdb_list(void **state)
{
	struct imagelist *list = parse_file("appdb-vo.json");
	const struct image_meta *meta = &list->images[0].meta;

	(void)state;
	assert_string_equal(list->vo, "some1.vo.net");
	assert_int_equal(list->n_images, 2);
	assert_false(list->images[0].refused);
	assert_int_equal(meta->size, 121243136);
	assert_string_equal(meta->value[FIELD_VO], "some1.vo.net");
	assert_string_equal(meta->value[FIELD_FORMAT], "OVA");
	assert_string_equal(meta->value[FIELD_GROUP], "General group");
	assert_string_equal(meta->value[FIELD_COMMENTS], "");
	assert_string_equal(meta->value[FIELD_EXPIRES], "2499-12-31T22:00:00Z");
	assert_non_null(strstr(meta->value[FIELD_MPURI], ":484/"));
	assert_non_null(strstr(meta->json, "\"ad:user:fullname\": \"Bruce Wayne\""));
	imagelist_free(list);
}

static void
vmcaster_list(void **state)
{
	struct imagelist *list = parse_file("vmcaster-crlf.json");

	(void)state;
	assert_string_equal(list->version, "1.1");
	assert_int_equal(list->n_images, 1);
	assert_false(list->images[0].refused);
	assert_string_equal(list->images[0].meta.value[FIELD_FORMAT], "raw");
	imagelist_free(list);
}

/* ---- what is no list ----------------------------------------------------------------------- */

static void
assert_list_refused(const struct member *table, const char *key, const char *json, enum code code)
{
	struct change change = { table, key, json };
	struct imagelist *list = NULL;
	struct buf text = BUF_INIT;
	struct err err;
	int rc;

	make_list(&change, &text);
	rc = imagelist_parse(buf_str(&text), text.len, NULL, &list, &err);
	if (rc == 0 || err.code != code)
		fail_msg("%s %s: code %d instead of %d", key, json != NULL ? json : "missing",
			 rc == 0 ? 0 : (int)err.code, (int)code);
	assert_null(list);
	buf_release(&text);
}

static void
assert_file_refused(const char *name, enum code code)
{
	struct imagelist *list = NULL;
	struct buf text;
	struct err err;

	listfile_load(name, &text);
	assert_int_not_equal(imagelist_parse(buf_str(&text), text.len, NULL, &list, &err), 0);
	if (err.code != code)
		fail_msg("%s: code %d (%s) instead of %d", name, (int)err.code, err.text,
			 (int)code);
	buf_release(&text);
}

static void
not_json(void **state)
{
	(void)state;
	assert_file_refused("empty.json", CODE_JSON);
	assert_file_refused("only-null.json", CODE_JSON);
	assert_file_refused("two-documents.json", CODE_JSON);
	assert_file_refused("duplicate-key.json", CODE_JSON_STRICT);
}

static void
not_a_list(void **state)
{
	(void)state;
	assert_file_refused("not-a-list.json", CODE_NOT_LIST);
	assert_file_refused("not-an-object.json", CODE_NOT_LIST);
}

static void
list_keys_missing(void **state)
{
	(void)state;
	for (const struct member *m = list_members; m->key != NULL; m++)
		assert_list_refused(list_members, m->key, NULL, CODE_NOT_LIST);
	for (const struct member *m = endorser_members; m->key != NULL; m++)
		assert_list_refused(endorser_members, m->key, NULL, CODE_NOT_LIST);
}

static void
list_keys_of_wrong_type(void **state)
{
	(void)state;
	for (int i = 0; i < N_WRONG_TYPES; i++) {
		for (const struct member *m = list_members; m->key != NULL; m++)
			assert_list_refused(list_members, m->key, wrong_types[i], CODE_NOT_LIST);
		for (const struct member *m = endorser_members; m->key != NULL; m++)
			assert_list_refused(endorser_members, m->key, wrong_types[i],
					    CODE_NOT_LIST);
	}
}

static void
endorser_is_one(void **state)
{
	(void)state;
	assert_file_refused("endorser-missing.json", CODE_NOT_LIST);
	assert_file_refused("endorser-array.json", CODE_NOT_LIST);
	assert_file_refused("endorser-array-of-two.json", CODE_NOT_LIST);
	assert_file_refused("endorser-twice.json", CODE_JSON_STRICT);
}

/* "{}" has as many members as an empty array has, and a number has none either. */
static void
images_are_an_array(void **state)
{
	static const char *const wrong[] = { "{}", "{\"a\": 1}", "\"[]\"", "0", "null", "false" };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct buf text = BUF_INIT, changed = BUF_INIT;
		struct imagelist *list = NULL;
		struct err err = { 0 };
		const char *at;

		make_list(NULL, &text);
		at = strstr(buf_str(&text), "\"hv:images\": [");
		assert_non_null(at);
		buf_add(&changed, text.data, (size_t)(at - text.data));
		buf_printf(&changed, "\"hv:images\": %s}}", wrong[i]);
		assert_int_not_equal(imagelist_parse(changed.data, changed.len, NULL, &list, &err),
				     0);
		assert_int_equal(err.code, CODE_NOT_LIST);
		assert_null(list);
		buf_release(&changed);
		buf_release(&text);
	}
}

static void
list_dates(void **state)
{
	static const char *const dates[] = {
		"\"\"", "\"2026-11-01T00:00:00\"", "\"2026-11-01T00:00:00+01:00\"",
		"\"2026-11-01T00:00:00.123Z\"", "\"2026-02-30T00:00:00Z\"",
		"\"2026-13-01T00:00:00Z\"", "\"2026-11-01T24:00:00Z\"", "\"26-11-01T00:00:00Z\"",
		"\"0000-11-01T00:00:00Z\"", "\"10000-11-01T00:00:00Z\"",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
		assert_list_refused(list_members, "dc:date:created", dates[i], CODE_EXPIRED);
		assert_list_refused(list_members, "dc:date:expires", dates[i], CODE_EXPIRED);
		assert_image_refused("dc:date:created", dates[i], CODE_EXPIRED);
		assert_image_refused("dc:date:expires", dates[i], CODE_EXPIRED);
	}
	assert_image_refused("dc:date:expires", "7", CODE_EXPIRED);
	assert_image_refused("dc:date:expires", "null", CODE_EXPIRED);
}

static void
list_identifiers(void **state)
{
	struct imagelist *list;

	(void)state;
	assert_list_refused(list_members, "dc:identifier", "\"\"", CODE_IDENTIFIER);
	assert_list_refused(list_members, "dc:identifier", "\"a\\nb\"", CODE_IDENTIFIER);
	list = parse_changed(list_members, "dc:identifier", "\"../../etc\"");
	assert_string_equal(list->identifier, "../../etc");
	imagelist_free(list);
}

static void
list_uri_without_credentials(void **state)
{
	struct imagelist *list = parse_changed(list_members, "hv:uri",
		"\"https://TOKEN:x-oauth-basic@vmcaster.example.org/image.list\"");

	(void)state;
	assert_string_equal(list->uri, "https://vmcaster.example.org/image.list");
	imagelist_free(list);
}

static void
old_form(void **state)
{
	struct imagelist *list = parse_file("old-form-without-wrapper.json");

	(void)state;
	assert_true(list->unwrapped);
	assert_string_equal(list->title, "README example");
	assert_int_equal(list->n_images, 1);
	assert_false(list->images[0].refused);
	imagelist_free(list);
}

static void
no_images(void **state)
{
	struct imagelist *list = parse_file("zero-images.json");

	(void)state;
	assert_int_equal(list->n_images, 0);
	imagelist_free(list);
}

/* ---- many images --------------------------------------------------------------------------- */

static void
make_many(int n, struct buf *out)
{
	char *at, *rest;

	make_list(NULL, out);
	at = strstr(out->data, "\"hv:images\": [") + strlen("\"hv:images\": [");
	rest = strchr(at, ']');
	rest = xstrdup(rest);
	out->len = (size_t)(at - out->data);
	for (int i = 0; i < n; i++) {
		char *id = xasprintf("\"image-%d\"", i);
		struct change change = { image_members, "dc:identifier", id };
		struct jsonw w;

		buf_puts(out, i == 0 ? "" : ",");
		jsonw_begin(&w, out, false);
		jsonw_open(&w, NULL, '{');
		jsonw_open(&w, "hv:image", '{');
		add_members(&w, image_members, &change);
		jsonw_close(&w, '}');
		jsonw_close(&w, '}');
		free(id);
	}
	buf_puts(out, rest);
	free(rest);
}

static void
image_count_is_bounded(void **state)
{
	struct imagelist *list = NULL;
	struct buf text = BUF_INIT;
	struct err err;

	(void)state;
	make_many(LIMIT_IMAGES_PER_LIST, &text);
	list = must_parse(&text, NULL);
	assert_int_equal(list->n_images, LIMIT_IMAGES_PER_LIST);
	assert_false(list->images[LIMIT_IMAGES_PER_LIST - 1].refused);
	imagelist_free(list);
	buf_clear(&text);
	make_many(LIMIT_IMAGES_PER_LIST + 1, &text);
	assert_int_not_equal(imagelist_parse(text.data, text.len, NULL, &list, &err), 0);
	assert_int_equal(err.code, CODE_LIMIT);
	buf_release(&text);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("the canonical HEPiX list is read", hepix_list),
		TEST("a list of the AppDB, all of strings, is read", appdb_list),
		TEST("a list of vmcaster, with CRLF, is read", vmcaster_list),
		TEST("L01 what is not JSON is no list", not_json),
		TEST("L02 JSON that is not an image list is refused as such", not_a_list),
		TEST("L03 a missing key of list or endorser refuses the list", list_keys_missing),
		TEST("L04 a list or endorser key of a wrong type refuses the list",
		     list_keys_of_wrong_type),
		TEST("L28 a list has exactly one endorser", endorser_is_one),
		TEST("L04 the images of a list are an array, or it is no list",
		     images_are_an_array),
		TEST("L13 a date that is none refuses the list, or the image it belongs to",
		     list_dates),
		TEST("L11 a list without a usable identifier is refused", list_identifiers),
		TEST("L26 credentials in the list's own address are not kept",
		     list_uri_without_credentials),
		TEST("L27 the old form without a wrapper is read, and marked", old_form),
		TEST("L22 a list may have no images", no_images),
		TEST("a list of more than 20000 images is refused", image_count_is_bounded),
	};

	return cmocka_run_group_tests_name("imagelist", tests, NULL, NULL);
}
