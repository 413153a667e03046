/*
 * test_imagelist_images.c - the images of a list: what is kept of each, and what refuses it
 * alone.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/imagelist.h"
#include "core/json.h"
#include "tests/unit/listbed.h"

/* ---- images -------------------------------------------------------------------------------- */

static void
assert_image_value(const char *key, const char *json, enum field_id id, const char *value)
{
	struct imagelist *list = parse_changed(image_members, key, json);

	if (list->images[0].refused)
		fail_msg("%s %s: %s", key, json, list->images[0].error);
	assert_string_equal(list->images[0].meta.value[id], value);
	imagelist_free(list);
}

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

/* ---- block digests ------------------------------------------------------------------------- */

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

/* ---- identifiers, addresses, texts, dates -------------------------------------------------- */

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

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("L03 an image that lacks a key is refused alone", image_keys_missing),
		TEST("L04 an image with a key of a wrong type is refused alone",
		     image_keys_of_wrong_type),
		TEST("L07 a size is a whole number from 1 to 16 TiB, written as number or string",
		     sizes),
		TEST("L10 a digest is 128 hexadecimal digits, kept in lower case", digests),
		TEST("the fs-verity digest of an image is read, and where its sidecar is",
		     block_digests),
		TEST("L19 a malformed block digest or sidecar address refuses the image, never"
		     " silently the digest", bad_block_digests),
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
	};

	return cmocka_run_group_tests_name("imagelist_images", tests, NULL, NULL);
}
