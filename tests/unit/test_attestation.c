/*
 * What attestations of block digests may look like.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/attestation.h"
#include "core/buf.h"
#include "core/cleanup.h"
#include "core/jsonw.h"
#include "core/limits.h"

#define HEX32 "0123456789abcdef0123456789abcdef"
#define HEX HEX32 HEX32 HEX32 HEX32
#define OTHER HEX32 HEX32 HEX32 "fedcba9876543210fedcba9876543210"

#define ID "\"dc:identifier\":\"an image\""
#define SHA "\"sl:checksum:sha512\":\"" HEX "\""
#define SIZE "\"hv:size\":7"
#define VERITY "\"sl:checksum:fsverity-sha512\":\"" OTHER "\""
#define GOOD ID "," SHA "," SIZE "," VERITY

static struct attestation *
parse(const char *text)
{
	struct attestation *a = NULL;
	struct err err;

	if (attestation_parse(text, strlen(text), NULL, &a, &err) != 0)
		fail_msg("%s", err.text);
	return a;
}

static void
refused_whole(const char *text, enum code code)
{
	struct attestation *a;
	struct err err = { 0 };

	assert_int_not_equal(attestation_parse(text, strlen(text), NULL, &a, &err), 0);
	assert_int_equal(err.code, code);
}

/* An entry made of these members is refused, and the good one behind it is not. */
static void
refused_entry(const char *members, enum code code)
{
	CLEANUP_FREE char *text = xasprintf("[{%s},{" GOOD "}]", members);
	struct attestation *a = parse(text);

	assert_int_equal(a->n, 2);
	if (!a->entries[0].refused)
		fail_msg("taken: %s", members);
	assert_int_equal(a->entries[0].code, code);
	assert_false(a->entries[1].refused);
	attestation_free(a);
}

static void
one_or_many(void **state)
{
	struct attestation *a = parse("{" GOOD "}");
	char hex[DIGEST_HEX + 1];

	(void)state;
	assert_int_equal(a->n, 1);
	assert_false(a->entries[0].refused);
	assert_string_equal(a->entries[0].identifier, "an image");
	assert_int_equal(a->entries[0].size, 7);
	digest_hex(&a->entries[0].sha512, hex);
	assert_string_equal(hex, HEX);
	digest_hex(&a->entries[0].verity, hex);
	assert_string_equal(hex, OTHER);
	assert_string_equal(a->entries[0].uri, "");
	attestation_free(a);
	a = parse("[{" GOOD ",\"hv:fsverity:uri\":\"https://a/b\",\"x\":1},"
		  "{" ID ",\"sl:checksum:sha512\":\"" OTHER "\",\"hv:size\":\"8\"," VERITY "}]");
	assert_int_equal(a->n, 2);
	assert_string_equal(a->entries[0].uri, "https://a/b");
	assert_int_equal(a->entries[1].size, 8);
	attestation_free(a);
}

static void
other_payloads(void **state)
{
	(void)state;
	refused_whole("", CODE_JSON);
	refused_whole("7", CODE_JSON);
	refused_whole("[", CODE_JSON);
	refused_whole("{" GOOD "," ID "}", CODE_JSON_STRICT);
	refused_whole("[]", CODE_NOT_LIST);
	refused_whole("{\"hv:imagelist\":{}}", CODE_NOT_LIST);
	refused_whole("{\"hv:images\":[]," GOOD "}", CODE_NOT_LIST);
}

static void
malformed_entries(void **state)
{
	(void)state;
	refused_entry("", CODE_EXPIRED);
	refused_entry(SHA "," SIZE "," VERITY, CODE_EXPIRED);
	refused_entry(ID "," SIZE "," VERITY, CODE_EXPIRED);
	refused_entry(ID "," SHA "," VERITY, CODE_EXPIRED);
	refused_entry(ID "," SHA "," SIZE, CODE_EXPIRED);
	refused_entry(ID "," SHA "," SIZE ",\"hv:fsverity:uri\":\"https://a/b\"", CODE_EXPIRED);
	refused_entry(ID "," SHA "," SIZE ",\"sl:checksum:fsverity-sha512\":7", CODE_EXPIRED);
	refused_entry(ID "," SHA ",\"hv:size\":0," VERITY, CODE_EXPIRED);
	refused_entry(ID ",\"sl:checksum:sha512\":\"abc\"," SIZE "," VERITY, CODE_EXPIRED);
	refused_entry("\"dc:identifier\":\"\"," SHA "," SIZE "," VERITY, CODE_IDENTIFIER);
	refused_entry("\"dc:identifier\":\"a\\nb\"," SHA "," SIZE "," VERITY, CODE_IDENTIFIER);
	refused_entry(GOOD ",\"hv:fsverity:uri\":\"file:///etc/x\"", CODE_EXPIRED);
	refused_entry(GOOD ",\"hv:fsverity:uri\":7", CODE_EXPIRED);
}

static void
entries_that_are_no_objects(void **state)
{
	struct attestation *a = parse("[7,null,[],\"x\",{" GOOD "}]");

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_true(a->entries[i].refused);
	assert_false(a->entries[4].refused);
	attestation_free(a);
}

static void
first_of_two_stands(void **state)
{
	struct attestation *a = parse("[{" GOOD "},{" GOOD "}]");

	(void)state;
	assert_false(a->entries[0].refused);
	assert_true(a->entries[1].refused);
	attestation_free(a);
}

static void
bounded(void **state)
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	(void)state;
	buf_putc(&text, '[');
	for (int i = 0; i <= LIMIT_IMAGES_PER_LIST; i++)
		buf_puts(&text, i == 0 ? "{}" : ",{}");
	buf_putc(&text, ']');
	refused_whole(buf_str(&text), CODE_LIMIT);
}

static void
written_and_read(void **state)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct attestation *a = parse("{" GOOD ",\"hv:fsverity:uri\":\"https://a/b\"}"), *b;
	struct jsonw w;

	(void)state;
	jsonw_begin(&w, &text, true);
	attestation_write(&w, &a->entries[0]);
	b = parse(buf_str(&text));
	assert_false(b->entries[0].refused);
	assert_true(digest_equal(&a->entries[0].verity, &b->entries[0].verity));
	assert_string_equal(b->entries[0].uri, "https://a/b");
	attestation_free(a);
	attestation_free(b);
}

#define T(title, fn) { title, fn, NULL, NULL, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("an attestation is of one image or of many", one_or_many),
		T("what is no attestation is refused, an image list too", other_payloads),
		T("a malformed entry is refused alone", malformed_entries),
		T("an entry that is no object is refused alone", entries_that_are_no_objects),
		T("of two entries for one SHA-512 the first stands", first_of_two_stands),
		T("an attestation of more than 20000 images is refused", bounded),
		T("what is written can be read", written_and_read),
	};

	return cmocka_run_group_tests_name("attestation", tests, NULL, NULL);
}
