/*
 * test_json.c - strict reading, bounds, and writing.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "core/json.h"
#include "core/limits.h"
#include "listfile.h"

static struct json *
must_parse(const char *text)
{
	struct json *doc = NULL;
	struct err err;

	if (json_parse(text, strlen(text), &doc, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	return doc;
}

static void
assert_refused(const void *text, size_t len, enum code code)
{
	struct json *doc = NULL;
	struct err err;
	int rc = json_parse(text, len, &doc, &err);

	if (rc == 0 || err.code != code)
		fail_msg("%.60s: code %d instead of %d", (const char *)text,
			 rc == 0 ? 0 : (int)err.code, (int)code);
	assert_int_equal(rc, -code_errno(code));
	assert_int_not_equal(err.text[0], '\0');
	assert_null(doc);
}

static void
assert_file_refused(const char *name, enum code code)
{
	struct buf text;

	listfile_load(name, &text);
	assert_refused(buf_str(&text), text.len, code);
	buf_release(&text);
}

static void
assert_dumps(const char *in, const char *out)
{
	struct json *doc = must_parse(in);
	struct buf text = BUF_INIT;

	json_dump(doc, &text);
	assert_string_equal(buf_str(&text), out);
	buf_release(&text);
	json_free(doc);
}

/* ---- not JSON ------------------------------------------------------------------------- */

static void
truncated_text(void **state)
{
	struct buf text;

	(void)state;
	listfile_load("hepix-example.json", &text);
	while (text.data[text.len - 1] != '}')
		text.len--;
	for (size_t i = 0; i < 16; i++)
		assert_refused(text.data, text.len * i / 16, CODE_JSON);
	assert_refused(text.data, text.len - 1, CODE_JSON);
	buf_release(&text);
}

static void
no_text(void **state)
{
	(void)state;
	assert_file_refused("empty.json", CODE_JSON);
	assert_file_refused("only-spaces.json", CODE_JSON);
	assert_file_refused("only-null.json", CODE_JSON);
	assert_refused("", 0, CODE_JSON);
	assert_refused("\"text\"", 6, CODE_JSON);
	assert_refused("1.5", 3, CODE_JSON);
}

static void
almost_json(void **state)
{
	static const char *const texts[] = {
		"{\"a\":01}", "{\"a\":1.}", "{\"a\":.5}", "{\"a\":+1}", "{\"a\":-}", "{\"a\":1e}",
		"{\"a\":0x10}", "{\"a\":1.5.2}", "{\"a\":1.5\"b\":2}", "{\"a\" 1.5}", "{1.5:2}",
		"{1:2}", "[1.5 2.5]", "[true1.5]", "[-Infinity]", "[1e5e5]", "[\"a\"1.5]", "[}",
		"{\"a\":1}}", "]", "[\"\\x\"]",
	};

	(void)state;
	assert_file_refused("trailing-comma.json", CODE_JSON);
	assert_file_refused("comment.json", CODE_JSON);
	assert_file_refused("nan.json", CODE_JSON);
	assert_file_refused("single-quotes.json", CODE_JSON);
	assert_file_refused("two-documents.json", CODE_JSON);
	assert_file_refused("leading-zero-number.json", CODE_JSON);
	assert_file_refused("byte-order-mark.json", CODE_JSON);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_refused(texts[i], strlen(texts[i]), CODE_JSON);
}

/* ---- not strict -------------------------------------------------------------------------- */

static void
duplicate_key(void **state)
{
	(void)state;
	assert_file_refused("duplicate-key.json", CODE_JSON_STRICT);
	assert_refused("{\"a\":1,\"\\u0061\":2}", 18, CODE_JSON_STRICT);
	json_free(must_parse("{\"a\":{\"a\":1},\"b\":{\"a\":1}}"));
}

static void
bad_text(void **state)
{
	(void)state;
	assert_file_refused("nul-escape-in-string.json", CODE_JSON_STRICT);
	assert_file_refused("nul-escape-in-key.json", CODE_JSON_STRICT);
	assert_file_refused("nul-byte-in-string.json", CODE_JSON_STRICT);
	assert_file_refused("bare-control-byte-in-string.json", CODE_JSON_STRICT);
	assert_file_refused("bare-newline-in-string.json", CODE_JSON_STRICT);
	assert_file_refused("invalid-utf8-ff.json", CODE_JSON_STRICT);
	assert_file_refused("overlong-utf8-slash.json", CODE_JSON_STRICT);
	assert_file_refused("utf8-surrogate.json", CODE_JSON_STRICT);
	assert_file_refused("lone-surrogate-escape.json", CODE_JSON);
	assert_refused("[1.5,\"\x01\"]", 9, CODE_JSON_STRICT);
}

static void
escaped_nul_is_told_from_an_escaped_backslash(void **state)
{
	struct json *doc = must_parse("[\"\\\\u0000\"]");

	(void)state;
	assert_string_equal(json_as_string(json_at(doc, 0)), "\\u0000");
	json_free(doc);
	assert_refused("[\"\\\\\\u0000\"]", 12, CODE_JSON_STRICT);
}

/* ---- bounds ------------------------------------------------------------------------------ */

static void
depth_is_bounded(void **state)
{
	struct buf text = BUF_INIT;

	(void)state;
	for (int i = 0; i < LIMIT_JSON_DEPTH; i++)
		buf_putc(&text, '[');
	for (int i = 0; i < LIMIT_JSON_DEPTH; i++)
		buf_putc(&text, ']');
	json_free(must_parse(buf_str(&text)));
	buf_clear(&text);
	for (int i = 0; i < LIMIT_JSON_DEPTH + 1; i++)
		buf_putc(&text, '[');
	assert_refused(buf_str(&text), text.len, CODE_LIMIT);
	buf_release(&text);
}

static void
keys_are_bounded(void **state)
{
	struct buf text = BUF_INIT;

	(void)state;
	for (int n = LIMIT_JSON_KEYS; n <= LIMIT_JSON_KEYS + 1; n++) {
		buf_clear(&text);
		for (int i = 0; i < n; i++)
			buf_printf(&text, "%c\"k:%d\":[{\"a\":\"b:c\"}]", i == 0 ? '{' : ',', i);
		buf_putc(&text, '}');
		if (n == LIMIT_JSON_KEYS)
			json_free(must_parse(buf_str(&text)));
		else
			assert_refused(buf_str(&text), text.len, CODE_LIMIT);
	}
	buf_release(&text);
}

static void
strings_are_bounded(void **state)
{
	struct buf text = BUF_INIT;

	(void)state;
	buf_puts(&text, "[\"");
	for (int i = 0; i < LIMIT_JSON_STRING; i++)
		buf_putc(&text, 'x');
	buf_puts(&text, "\"]");
	json_free(must_parse(buf_str(&text)));
	text.len -= 2;
	buf_puts(&text, "x\"]");
	assert_refused(buf_str(&text), text.len, CODE_LIMIT);
	buf_release(&text);
}

static void
assert_quick(struct buf *text, enum code code)
{
	clock_t start = clock();

	assert_refused(buf_str(text), text->len, code);
	assert_true(clock() - start < CLOCKS_PER_SEC);
	buf_release(text);
}

static void
huge_inputs_end_soon(void **state)
{
	struct buf text = BUF_INIT;

	(void)state;
	for (int i = 0; i < 100000; i++)
		buf_putc(&text, '[');
	assert_quick(&text, CODE_LIMIT);
	buf_init(&text);
	buf_putc(&text, '{');
	for (int i = 0; i < 1000000; i++)
		buf_printf(&text, "\"%d\":1,", i);
	buf_puts(&text, "\"x\":1}");
	assert_quick(&text, CODE_LIMIT);
	buf_init(&text);
	buf_puts(&text, "{\"a\":\"");
	for (int i = 0; i < 15 << 20; i++)
		buf_putc(&text, 'x');
	buf_puts(&text, "\"}");
	assert_quick(&text, CODE_LIMIT);
	buf_init(&text);
	buf_putc(&text, '[');
	for (int i = 0; i < 5 << 20; i++)
		buf_puts(&text, "{},");
	buf_puts(&text, "{}]");
	assert_quick(&text, CODE_LIMIT);
	buf_init(&text);
	buf_reserve(&text, LIMIT_MESSAGE_BYTES + 1);
	memset(text.data, ' ', LIMIT_MESSAGE_BYTES + 1);
	text.len = LIMIT_MESSAGE_BYTES + 1;
	assert_quick(&text, CODE_LIMIT);
}

/* ---- values ------------------------------------------------------------------------------- */

static void
kinds(void **state)
{
	static const enum json_kind expected[] = {
		JSON_KIND_NULL, JSON_KIND_BOOL, JSON_KIND_INTEGER, JSON_KIND_REAL,
		JSON_KIND_STRING, JSON_KIND_ARRAY, JSON_KIND_OBJECT, JSON_KIND_INTEGER,
		JSON_KIND_REAL, JSON_KIND_INTEGER,
	};
	struct json *doc = must_parse("[null, true, 7, 0.1, \"s\", [], {}, 18446744073709551616,"
				      " 1e999, -0]");
	bool truth = false;
	int64_t n = 0;

	(void)state;
	assert_int_equal(json_size(doc), sizeof(expected) / sizeof(expected[0]));
	for (size_t i = 0; i < json_size(doc); i++)
		assert_int_equal(json_kind(json_at(doc, i)), expected[i]);
	assert_true(json_as_boolean(json_at(doc, 1), &truth) && truth);
	assert_true(json_as_integer(json_at(doc, 2), &n) && n == 7);
	assert_string_equal(json_as_string(json_at(doc, 4)), "s");
	for (size_t i = 7; i < 10; i++) {
		assert_false(json_as_integer(json_at(doc, i), &n));
		assert_null(json_as_string(json_at(doc, i)));
	}
	assert_null(json_at(doc, 10));
	json_free(doc);
}

static void
nothing_has_no_members(void **state)
{
	int64_t n;
	bool truth;

	(void)state;
	assert_null(json_get(NULL, "a"));
	assert_null(json_at(NULL, 0));
	assert_null(json_as_string(NULL));
	assert_int_equal(json_kind(NULL), JSON_KIND_NULL);
	assert_int_equal(json_size(NULL), 0);
	assert_false(json_as_integer(NULL, &n));
	assert_false(json_as_boolean(NULL, &truth));
	json_free(NULL);
}

static void
add_key(void *arg, const char *key, const struct json *value)
{
	struct buf *keys = arg;

	assert_int_equal(json_kind(value), JSON_KIND_INTEGER);
	buf_puts(keys, key);
}

static void
members_keep_their_order(void **state)
{
	struct json *doc = must_parse("{\"z\":1,\"a\":2,\"m\":3,\"b\":4}");
	struct buf keys = BUF_INIT;

	(void)state;
	json_each(doc, add_key, &keys);
	assert_string_equal(buf_str(&keys), "zamb");
	buf_release(&keys);
	json_free(doc);
}

static void
values_are_written_as_they_were(void **state)
{
	(void)state;
	assert_dumps("{\"z\":0.1,\"a\":[1.50,-2E+3,1e999,9223372036854775807,9223372036854775808,"
		     "-0,-12,0]}",
		     "{\n  \"z\": 0.1,\n  \"a\": [\n    1.50,\n    -2E+3,\n    1e999,\n"
		     "    9223372036854775807,\n    9223372036854775808,\n    -0,\n    -12,\n"
		     "    0\n  ]\n}");
	assert_dumps("{\"e\":{},\"f\":[ ],\"t\":true,\"n\":null}",
		     "{\n  \"e\": {},\n  \"f\": [],\n  \"t\": true,\n  \"n\": null\n}");
	assert_dumps("[\"\\u00e9/\\/\\u20ac\"]", "[\n  \"\xC3\xA9//\xE2\x82\xAC\"\n]");
}

/* ---- writing --------------------------------------------------------------------------------- */

static void
write_sample(struct buf *out, bool pretty)
{
	struct jsonw w;

	jsonw_begin(&w, out, pretty);
	jsonw_open(&w, NULL, '{');
	jsonw_integer(&w, "schema", 1);
	jsonw_open(&w, "images", '[');
	jsonw_open(&w, NULL, '{');
	jsonw_string(&w, "id", "a\"b");
	jsonw_string(&w, "none", NULL);
	jsonw_boolean(&w, "selected", false);
	jsonw_close(&w, '}');
	jsonw_string(&w, NULL, "x");
	jsonw_close(&w, ']');
	jsonw_open(&w, "empty", '{');
	jsonw_close(&w, '}');
	jsonw_stamp(&w, "created", 1299776952);
	jsonw_stamp(&w, "expired", 0);
	jsonw_raw(&w, "raw", "[1]");
	jsonw_close(&w, '}');
}

static void
writes_one_line(void **state)
{
	struct buf out = BUF_INIT;

	(void)state;
	write_sample(&out, false);
	assert_string_equal(buf_str(&out),
		"{\"schema\":1,\"images\":[{\"id\":\"a\\\"b\",\"none\":null,\"selected\":false},"
		"\"x\"],\"empty\":{},\"created\":\"2011-03-10T17:09:12Z\",\"expired\":null,"
		"\"raw\":[1]}");
	buf_release(&out);
}

static void
writes_indented(void **state)
{
	struct buf out = BUF_INIT;

	(void)state;
	write_sample(&out, true);
	assert_string_equal(buf_str(&out),
		"{\n  \"schema\": 1,\n  \"images\": [\n    {\n      \"id\": \"a\\\"b\",\n"
		"      \"none\": null,\n      \"selected\": false\n    },\n    \"x\"\n  ],\n"
		"  \"empty\": {},\n  \"created\": \"2011-03-10T17:09:12Z\",\n"
		"  \"expired\": null,\n  \"raw\": [1]\n}");
	buf_release(&out);
}

static void
writes_text_that_a_terminal_can_show(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "\033[2J\n\t\r\b\f\x7F\xC2\x9B", "\"\\u001b[2J\\n\\t\\r\\b\\f\\u007f\\u009b\"" },
		{ "back\\slash", "\"back\\\\slash\"" },
		{ "\xC2\xA0\xE2\x82\xAC\xF0\x9F\x92\xBE",
		  "\"\xC2\xA0\xE2\x82\xAC\xF0\x9F\x92\xBE\"" },
		{ "\xFF", "\"\xEF\xBF\xBD\"" },
		{ "\xC3", "\"\xEF\xBF\xBD\"" },
		{ "\xC0\xAF", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"" },
		{ "\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"" },
		{ "\xF4\x90\x80\x80x", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDx\"" },
		{ "\xE0\x80\xAF", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = BUF_INIT;
		struct jsonw w;

		jsonw_begin(&w, &out, false);
		jsonw_string(&w, NULL, cases[i].in);
		assert_string_equal(buf_str(&out), cases[i].out);
		buf_release(&out);
	}
}

/*
 * A message full of objects, each with as many keys as an object may have, long and alike.  If all
 * of them met in one slot of a hash table (whose seed nobody can know), that many comparisons would
 * still be few, because an object is bounded.
 */
static void
many_keys_end_soon(void **state)
{
	struct buf text = BUF_INIT;
	struct json *doc = NULL;
	struct err err = { 0 };
	clock_t begun;

	(void)state;
	buf_putc(&text, '[');
	for (unsigned n = 0; text.len < LIMIT_MESSAGE_BYTES - (LIMIT_JSON_KEYS + 1) * 32; n++) {
		buf_putc(&text, n > 0 ? ',' : ' ');
		for (unsigned k = 0; k < LIMIT_JSON_KEYS; k++)
			buf_printf(&text, "%c\"aaaaaaaaaaaaaaa%04x\":0", k > 0 ? ',' : '{',
				   k * 256);
		buf_putc(&text, '}');
	}
	buf_putc(&text, ']');
	begun = clock();
	if (json_parse(text.data, text.len, &doc, &err) != 0)
		fail_msg("%s", err.text);
	assert_true(clock() - begun < 10 * CLOCKS_PER_SEC);	/* less than one, with slack */
	json_free(doc);
	buf_release(&text);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "L01 a truncated text is not JSON", truncated_text, NULL, NULL, NULL },
		{ "L01 nothing, spaces and a bare value are not JSON", no_text, NULL, NULL, NULL },
		{ "L09 what other parsers forgive is not JSON", almost_json, NULL, NULL, NULL },
		{ "L05 a duplicate key is refused", duplicate_key, NULL, NULL, NULL },
		{ "L08 NUL, bare control bytes and bad UTF-8 in a string are refused", bad_text,
		  NULL, NULL, NULL },
		{ "L08 an escaped backslash before u0000 is no NUL",
		  escaped_nul_is_told_from_an_escaped_backslash, NULL, NULL, NULL },
		{ "L06 the depth is bounded", depth_is_bounded, NULL, NULL, NULL },
		{ "L06 the keys of one object are bounded", keys_are_bounded, NULL, NULL, NULL },
		{ "L06 the length of a string is bounded", strings_are_bounded, NULL, NULL, NULL },
		{ "L06 a huge input is refused in less than a second", huge_inputs_end_soon,
		  NULL, NULL, NULL },
		{ "X22 a message full of keys that are alike is read in less than a second",
		  many_keys_end_soon, NULL, NULL, NULL },
		{ "L07 a number that is no int64 keeps its kind and has no integer value", kinds,
		  NULL, NULL, NULL },
		{ "an absent value can be asked anything", nothing_has_no_members,
		  NULL, NULL, NULL },
		{ "members are visited in their order", members_keep_their_order,
		  NULL, NULL, NULL },
		{ "L18 values are written out as they were read", values_are_written_as_they_were,
		  NULL, NULL, NULL },
		{ "JSON is written on one line", writes_one_line, NULL, NULL, NULL },
		{ "JSON is written with one member a line", writes_indented, NULL, NULL, NULL },
		{ "L29 written text has no control character and only UTF-8",
		  writes_text_that_a_terminal_can_show, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
