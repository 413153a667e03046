/*
 * test_imagelist.c - payloads of lists, real ones and bad ones.
 *
 * Most lists here are made from three tables of members (list, endorser, image) in which one
 * member is replaced or left out; the files in tests/data/lists are named after their defect.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/imagelist.h"
#include "core/json.h"
#include "core/limits.h"
#include "listfile.h"

#define HEX32 "0123456789abcdef0123456789abcdef"
#define SHA512 HEX32 HEX32 HEX32 HEX32

struct member {
	const char *key;
	const char *json;
};

static const struct member list_members[] = {
	{ "dc:date:created", "\"2026-11-01T00:00:00Z\"" },
	{ "dc:date:expires", "\"2026-12-01T00:00:00Z\"" },
	{ "dc:identifier", "\"4e186b44-2c64-40ea-97d5-e9e5c0bce059\"" },
	{ "dc:description", "\"a list\"" },
	{ "dc:title", "\"A list\"" },
	{ "dc:source", "\"example.org\"" },
	{ "hv:version", "\"1.0\"" },
	{ "hv:uri", "\"https://example.org/list\"" },
	{ NULL, NULL },
};

static const struct member endorser_members[] = {
	{ "hv:ca", "\"/DC=org/CN=CA\"" },
	{ "hv:dn", "\"/DC=org/CN=Someone\"" },
	{ "hv:email", "\"someone@example.org\"" },
	{ "dc:creator", "\"Someone\"" },
	{ NULL, NULL },
};

static const struct member image_members[] = {
	{ "dc:identifier", "\"488dcdc4-9ab1-4fc8-a7ba-b7a5428ecb3d\"" },
	{ "dc:title", "\"An image\"" },
	{ "dc:description", "\"\"" },
	{ "hv:size", "121243136" },
	{ "sl:checksum:sha512", "\"" SHA512 "\"" },
	{ "sl:arch", "\"x86_64\"" },
	{ "hv:uri", "\"https://example.org/image.img\"" },
	{ "sl:os", "\"Linux\"" },
	{ "sl:osversion", "\"Debian 12\"" },
	{ "sl:comments", "\"\"" },
	{ "hv:hypervisor", "\"KVM\"" },
	{ "hv:version", "\"1\"" },
	{ NULL, NULL },
};

/* A change to one of the tables: json NULL leaves the member out, a new key is added. */
struct change {
	const struct member *table;
	const char *key;
	const char *json;
};

/* ---- making lists ------------------------------------------------------------------------ */

static void
add_members(struct jsonw *w, const struct member *table, const struct change *change)
{
	bool found = change == NULL || change->table != table;

	for (const struct member *m = table; m->key != NULL; m++) {
		bool same = change != NULL && change->table == table
			&& strcmp(m->key, change->key) == 0;

		found |= same;
		if (!same || change->json != NULL)
			jsonw_raw(w, m->key, same ? change->json : m->json);
	}
	if (!found)
		jsonw_raw(w, change->key, change->json);
}

/* A list of one good image, and before it one with the change if the change is to an image. */
static void
make_list(const struct change *change, struct buf *out)
{
	bool image_changes = change != NULL && change->table == image_members;
	struct jsonw w;

	jsonw_begin(&w, out, true);
	jsonw_open(&w, NULL, '{');
	jsonw_open(&w, "hv:imagelist", '{');
	add_members(&w, list_members, change);
	jsonw_open(&w, "hv:endorser", '{');
	jsonw_open(&w, "hv:x509", '{');
	add_members(&w, endorser_members, change);
	jsonw_close(&w, '}');
	jsonw_close(&w, '}');
	jsonw_open(&w, "hv:images", '[');
	for (int i = image_changes ? 0 : 1; i < 2; i++) {
		struct change other = { image_members, "dc:identifier", "\"good\"" };

		jsonw_open(&w, NULL, '{');
		jsonw_open(&w, "hv:image", '{');
		add_members(&w, image_members, i == 0 ? change : &other);
		jsonw_close(&w, '}');
		jsonw_close(&w, '}');
	}
	jsonw_close(&w, ']');
	jsonw_close(&w, '}');
	jsonw_close(&w, '}');
}

static struct imagelist *
must_parse(const struct buf *text, const char *file_prefix)
{
	struct imagelist *list = NULL;
	struct err err;

	if (imagelist_parse(buf_str(text), text->len, file_prefix, &list, &err) != 0)
		fail_msg("%s", err.text);
	return list;
}

static struct imagelist *
parse_changed(const struct member *table, const char *key, const char *json)
{
	struct change change = { table, key, json };
	struct buf text = BUF_INIT;
	struct imagelist *list;

	make_list(&change, &text);
	list = must_parse(&text, NULL);
	buf_release(&text);
	return list;
}

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

/* The changed image is refused and the other one stands. */
static void
assert_image_refused(const char *key, const char *json, enum code code)
{
	struct imagelist *list = parse_changed(image_members, key, json);

	assert_int_equal(list->n_images, 2);
	if (!list->images[0].refused || list->images[0].code != code)
		fail_msg("%s %.60s: code %d instead of %d", key, json != NULL ? json : "missing",
			 (int)list->images[0].code, (int)code);
	assert_non_null(list->images[0].error);
	assert_null(list->images[0].meta.json);
	assert_false(list->images[1].refused);
	assert_string_equal(list->images[1].identifier, "good");
	imagelist_free(list);
}

static void
assert_image_value(const char *key, const char *json, enum field_id id, const char *value)
{
	struct imagelist *list = parse_changed(image_members, key, json);

	if (list->images[0].refused)
		fail_msg("%s %s: %s", key, json, list->images[0].error);
	assert_string_equal(list->images[0].meta.value[id], value);
	imagelist_free(list);
}

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

/* ---- real lists --------------------------------------------------------------------------- */

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

/* ---- what is no list ------------------------------------------------------------------------ */

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

static const char *const wrong_types[] = { "1", "[]", "{}", "null", "true", "1.5" };

enum { N_WRONG_TYPES = sizeof(wrong_types) / sizeof(wrong_types[0]) };

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
		assert_int_not_equal(imagelist_parse(changed.data, changed.len, NULL, &list, &err), 0);
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

/* ---- images -------------------------------------------------------------------------------- */

static void
image_keys_missing(void **state)
{
	(void)state;
	for (const struct member *m = image_members; m->key != NULL; m++)
		assert_image_refused(m->key, NULL, CODE_EXPIRED);
}

static void
image_keys_of_wrong_type(void **state)
{
	(void)state;
	for (const struct member *m = image_members; m->key != NULL; m++)
		for (int i = 0; i < N_WRONG_TYPES; i++)
			if (strcmp(m->key, "hv:size") != 0 || strcmp(wrong_types[i], "1") != 0)
				assert_image_refused(m->key, wrong_types[i], CODE_EXPIRED);
}

static void
sizes(void **state)
{
	static const char *const bad[] = {
		"-1", "0", "-0", "1.5", "1e3", "1.0", "1e999", "9223372036854775808",
		"18446744073709551616", "17592186044417", "\"17592186044417\"", "\"0x10\"",
		"\" 12\"", "\"12 \"", "\"12abc\"", "\"\"", "true", "\"00012\"", "\"-1\"", "\"+1\"",
		"\"0\"", "\"1.5\"", "\"1e3\"", "\"99999999999999999999999999\"", "\"\\u0661\"",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_image_refused("hv:size", bad[i], CODE_EXPIRED);
	assert_image_value("hv:size", "1", FIELD_SIZE, "1");
	assert_image_value("hv:size", "\"123\"", FIELD_SIZE, "123");
	assert_image_value("hv:size", "\"121243136\"", FIELD_SIZE, "121243136");
	assert_image_value("hv:size", "17592186044416", FIELD_SIZE, "17592186044416");
	assert_image_value("hv:size", "\"17592186044416\"", FIELD_SIZE, "17592186044416");
}

static void
digests(void **state)
{
	(void)state;
	assert_image_refused("sl:checksum:sha512", "\"" HEX32 HEX32 HEX32
			     "0123456789abcdef0123456789abcde\"", CODE_EXPIRED);
	assert_image_refused("sl:checksum:sha512", "\"" SHA512 "0\"", CODE_EXPIRED);
	assert_image_refused("sl:checksum:sha512", "\"" HEX32 HEX32 HEX32
			     "0123456789abcdefg123456789abcdef\"", CODE_EXPIRED);
	assert_image_refused("sl:checksum:sha512", "\" " SHA512 "\"", CODE_EXPIRED);
	assert_image_refused("sl:checksum:sha512", "\"" SHA512 " \"", CODE_EXPIRED);
	assert_image_refused("sl:checksum:sha512", "\"sha512:" SHA512 "\"", CODE_EXPIRED);
	assert_image_refused("sl:checksum:sha512", "\"\"", CODE_EXPIRED);
	assert_image_value("sl:checksum:sha512", "\"0123456789ABCDEF0123456789ABCDEF"
			   HEX32 HEX32 HEX32 "\"", FIELD_SHA512, SHA512);
}

/* ---- block digests ----------------------------------------------------------------------- */

#define VERITY_KEY "sl:checksum:fsverity-sha512"
#define VERITY_URI_KEY "hv:fsverity:uri"
#define VERITY "\"" HEX32 HEX32 HEX32 "fedcba9876543210fedcba9876543210\""

/* The image with the change to VERITY_KEY; json may hold further members. */
static void
assert_verity(const char *key, const char *json, bool has, const char *uri)
{
	struct imagelist *list = parse_changed(image_members, key, json);
	const struct image_meta *meta = &list->images[0].meta;
	char hex[DIGEST_HEX + 1];

	if (list->images[0].refused)
		fail_msg("%s", list->images[0].error);
	assert_int_equal(meta->has_verity, has);
	digest_hex(&meta->verity, hex);
	if (has)
		assert_memory_equal(hex, &VERITY[1], DIGEST_HEX);
	assert_string_equal(meta->verity_uri, uri);
	assert_false(list->images[1].meta.has_verity);
	assert_string_equal(list->images[1].meta.verity_uri, "");
	imagelist_free(list);
}

static void
block_digests(void **state)
{
	(void)state;
	assert_verity(VERITY_KEY, VERITY, true, "");
	assert_verity(VERITY_KEY, VERITY ", \"" VERITY_URI_KEY "\": \"https://example.org/x.fsv\"",
		      true, "https://example.org/x.fsv");
	/* Nothing proves what lies there. */
	assert_verity(VERITY_URI_KEY, "\"https://example.org/x.fsv\"", false, "");
}

static void
bad_block_digests(void **state)
{
	static const char *const digests[] = {
		"null", "7", "true", "[]", "{}", "\"\"", "[" VERITY "]",
		"\"" HEX32 HEX32 HEX32 "0123456789abcdef0123456789abcde\"",	/* 127 */
		"\"" HEX32 HEX32 HEX32 HEX32 "0\"",				/* 129 */
		"\"" HEX32 HEX32 HEX32 "0123456789abcdef0123456789abcdeF\"",
		"\"" HEX32 HEX32 HEX32 "0123456789abcdef0123456789abcdeg\"",
		"\" " HEX32 HEX32 HEX32 "0123456789abcdef0123456789abcde\"",
		"\"sha512:" HEX32 HEX32 HEX32 HEX32 "\"",
	};
	static const char *const uris[] = {
		"null", "7", "[]", "\"\"", "\"x.fsv\"", "\"ftp://example.org/x.fsv\"",
		"\"file:///etc/x.fsv\"", "\"https://me:secret@example.org/x.fsv\"",
		"\"http://169.254.169.254/x.fsv\"", "\"https://example.org/x y\"",
	};
	struct buf json = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++)
		assert_image_refused(VERITY_KEY, digests[i], CODE_EXPIRED);
	for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
		buf_clear(&json);
		buf_printf(&json, "%s, \"%s\": %s", VERITY, VERITY_URI_KEY, uris[i]);
		assert_image_refused(VERITY_KEY, buf_str(&json), CODE_EXPIRED);
		assert_image_refused(VERITY_URI_KEY, uris[i], CODE_EXPIRED);
	}
	buf_release(&json);
}

static void
refusals_name_the_key(void **state)
{
	struct imagelist *list = parse_changed(image_members, VERITY_URI_KEY, "\"ftp://a/b\"");

	(void)state;
	assert_non_null(strstr(list->images[0].error, "'" VERITY_URI_KEY "'"));
	imagelist_free(list);
	list = parse_changed(image_members, "hv:uri", "\"ftp://a/b\"");
	assert_non_null(strstr(list->images[0].error, "'hv:uri'"));
	imagelist_free(list);
}

static void
identifiers(void **state)
{
	static const char *const odd[] = {
		"../../etc/passwd", "/etc/passwd", ".", "..", "a/b", "-rf", ".hidden", "expired",
		"metadata.json", "%2e%2e%2f", "trailing ",
	};
	struct buf json = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		buf_clear(&json);
		buf_printf(&json, "\"%s\"", odd[i]);
		assert_image_value("dc:identifier", buf_str(&json), FIELD_ID, odd[i]);
	}
	buf_clear(&json);
	buf_printf(&json, "\"%0300d\"", 7);
	assert_image_refused("dc:identifier", buf_str(&json), CODE_IDENTIFIER);
	assert_image_refused("dc:identifier", "\"\"", CODE_IDENTIFIER);
	assert_image_refused("dc:identifier", "\"a\\nb\"", CODE_IDENTIFIER);
	assert_image_refused("dc:identifier", "\"\\u007f\"", CODE_IDENTIFIER);
	assert_image_refused("dc:identifier", "\"\\u009b2J\"", CODE_IDENTIFIER);
	buf_release(&json);
}

static void
first_of_two_equal_identifiers_stands(void **state)
{
	struct imagelist *list = parse_changed(image_members, "dc:identifier", "\"good\"");

	(void)state;
	assert_false(list->images[0].refused);
	assert_true(list->images[1].refused);
	assert_int_equal(list->images[1].code, CODE_IDENTIFIER);
	assert_string_equal(list->images[1].identifier, "good");
	imagelist_free(list);
}

static void
refused_images_take_no_identifier(void **state)
{
	struct imagelist *list = parse_changed(image_members, "hv:size", "0");

	(void)state;
	assert_true(list->images[0].refused);
	assert_string_equal(list->images[0].identifier, "488dcdc4-9ab1-4fc8-a7ba-b7a5428ecb3d");
	assert_non_null(strstr(list->images[0].error, "hv:size"));
	assert_false(list->images[1].refused);
	imagelist_free(list);
}

static void
uris(void **state)
{
	struct change change = { image_members, "hv:uri", "\"file:///srv/images/a.img\"" };
	struct buf text = BUF_INIT;
	struct imagelist *list;

	(void)state;
	assert_image_refused("hv:uri", "\"file:///etc/shadow\"", CODE_EXPIRED);
	assert_image_refused("hv:uri", "\"ftp://example.org/x\"", CODE_EXPIRED);
	assert_image_refused("hv:uri", "\"http://user:pw@example.org/x\"", CODE_EXPIRED);
	assert_image_refused("hv:uri", "\"http://169.254.169.254/x\"", CODE_EXPIRED);
	assert_image_refused("hv:uri", "\"http://example.org/;touch /tmp/x\"", CODE_EXPIRED);
	make_list(&change, &text);
	list = must_parse(&text, "/srv/images");
	assert_false(list->images[0].refused);
	imagelist_free(list);
	list = must_parse(&text, "/srv/other");
	assert_true(list->images[0].refused);
	imagelist_free(list);
	buf_release(&text);
}

static void
unknown_keys_are_kept(void **state)
{
	struct buf value = BUF_INIT;
	struct imagelist *list;

	(void)state;
	buf_puts(&value, "{\"nested\": [1, 0.10, {\"deep\": null}]");
	for (int i = 0; i < 199; i++)
		buf_printf(&value, ", \"x:%d\": \"value %d\"", i, i);
	buf_putc(&value, '}');
	list = parse_changed(image_members, "ad:unknown", buf_str(&value));
	assert_false(list->images[0].refused);
	assert_non_null(strstr(list->images[0].meta.json, "\"x:198\": \"value 198\""));
	assert_non_null(strstr(list->images[0].meta.json, "0.10"));
	imagelist_free(list);
	list = parse_changed(list_members, "x:unknown", buf_str(&value));
	assert_false(list->images[0].refused);
	imagelist_free(list);
	buf_release(&value);
}

static void
optional_text_of_wrong_type_is_absent(void **state)
{
	(void)state;
	assert_image_value("hv:format", "\"OVA\"", FIELD_FORMAT, "OVA");
	assert_image_value("hv:format", "7", FIELD_FORMAT, "");
	assert_image_value("ad:group", "null", FIELD_GROUP, "");
}

static void
texts_are_verbatim(void **state)
{
	struct buf json = BUF_INIT;
	struct imagelist *list;

	(void)state;
	assert_image_value("dc:title", "\"a/b\\n\\u001b[2J\\ud83d\\udcbe'\"", FIELD_TITLE,
			   "a/b\n\033[2J\xF0\x9F\x92\xBE'");
	buf_puts(&json, "\"");
	for (int i = 0; i < 10240; i++)
		buf_putc(&json, 'x');
	buf_puts(&json, "\"");
	list = parse_changed(image_members, "dc:title", buf_str(&json));
	assert_int_equal(strlen(list->images[0].meta.value[FIELD_TITLE]), 10240);
	imagelist_free(list);
	buf_release(&json);
}

static void
image_dates(void **state)
{
	(void)state;
	assert_image_value("dc:date:expires", "\"2026-11-15T00:00:00Z\"", FIELD_EXPIRES,
			   "2026-11-15T00:00:00Z");
	assert_image_value("dc:date:expires", "\"2499-12-31T22:00:00Z\"", FIELD_EXPIRES,
			   "2026-12-01T00:00:00Z");
	assert_image_value("dc:date:created", "\"2020-01-01T00:00:00Z\"", FIELD_CREATED,
			   "2020-01-01T00:00:00Z");
	assert_image_value("hv:version", "\"2\"", FIELD_CREATED, "2026-11-01T00:00:00Z");
	assert_image_value("hv:version", "\"2\"", FIELD_EXPIRES, "2026-12-01T00:00:00Z");
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

#define TEST(title, function) { title, function, NULL, NULL, NULL }

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
		TEST("L04 the images of a list are an array, or it is no list", images_are_an_array),
		TEST("L13 a date that is none refuses the list, or the image it belongs to",
		     list_dates),
		TEST("L11 a list without a usable identifier is refused", list_identifiers),
		TEST("L26 credentials in the list's own address are not kept",
		     list_uri_without_credentials),
		TEST("L27 the old form without a wrapper is read, and marked", old_form),
		TEST("L22 a list may have no images", no_images),
		TEST("L03 an image that lacks a key is refused alone", image_keys_missing),
		TEST("L04 an image with a key of a wrong type is refused alone",
		     image_keys_of_wrong_type),
		TEST("L07 a size is a whole number from 1 to 16 TiB, written as number or string",
		     sizes),
		TEST("L10 a digest is 128 hexadecimal digits, kept in lower case", digests),
		TEST("the fs-verity digest of an image is read, and where its sidecar is",
		     block_digests),
		TEST("L19 a malformed block digest or sidecar address refuses the image, never silently"
		     " the digest", bad_block_digests),
		TEST("a refusal names the key that is wrong", refusals_name_the_key),
		TEST("L11 odd identifiers are kept verbatim, unusable ones refuse the image",
		     identifiers),
		TEST("L11 of two images with one identifier the first stands",
		     first_of_two_equal_identifiers_stands),
		TEST("a refused image keeps its identifier and leaves the others alone",
		     refused_images_take_no_identifier),
		TEST("L26 an image with an unacceptable address is refused alone", uris),
		TEST("L18 unknown keys are kept and have no effect", unknown_keys_are_kept),
		TEST("optional text of a wrong type counts as absent",
		     optional_text_of_wrong_type_is_absent),
		TEST("L29 texts are kept verbatim, whatever they contain", texts_are_verbatim),
		TEST("an image expires at its own date or the list's, whichever is earlier",
		     image_dates),
		TEST("a list of more than 20000 images is refused", image_count_is_bounded),
	};

	return cmocka_run_group_tests_name("imagelist", tests, NULL, NULL);
}
