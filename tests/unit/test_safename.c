/*
 * test_safename.c - identifiers and titles as file names.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/limits.h"
#include "core/safename.h"

enum { NAME_BYTES = SAFENAME_MAX + 32 };

static void
assert_is_file_name(const char *name)
{
	size_t len = strlen(name);

	assert_in_range(len, 1, LIMIT_IDENTIFIER_BYTES);
	assert_int_not_equal(name[0], '.');
	assert_int_not_equal(name[0], '-');
	assert_int_equal(strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				"0123456789._+-~"), len);
}

static void
safe_identifiers_stay(void **state)
{
	static const char *const cases[] = {
		"488dcdc4-9ab1-4fc8-a7ba-b7a5428ecb3d", "expired", "metadata.json", "a", "_", "+",
		"A..b", "1.0-rc+1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char name[NAME_BYTES];

		assert_true(safename_is_safe(cases[i]));
		safename_identifier(cases[i], name);
		assert_string_equal(name, cases[i]);
	}
}

static void
odd_identifiers_are_mapped(void **state)
{
	static const struct {
		const char *identifier, *name;
	} cases[] = {
		{ "../../etc/passwd", "_._.._etc_passwd~d26b5523" },
		{ "/etc/passwd", "_etc_passwd~" }, { ".", "_~" }, { "..", "_.~" }, { "", "_~" },
		{ "a/b", "a_b~" }, { "-rf", "_rf~" }, { ".hidden", "_hidden~" },
		{ "%2e%2e%2f", "_2e_2e_2f~" }, { "trailing ", "trailing_~" },
		{ "line\nbreak", "line_break~" }, { "a~b", "a_b~" },
		{ "\xC3\xA9t\xC3\xA9", "_t_~" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *tilde = strchr(cases[i].name, '~');
		size_t stem = (size_t)(tilde - cases[i].name) + 1;
		char name[NAME_BYTES];

		assert_false(safename_is_safe(cases[i].identifier));
		safename_identifier(cases[i].identifier, name);
		assert_is_file_name(name);
		assert_int_equal(strlen(name), stem + 8);
		assert_memory_equal(name, cases[i].name, stem);
	}
}

static void
mapped_identifiers_stay_apart(void **state)
{
	char a[NAME_BYTES], b[NAME_BYTES];

	(void)state;
	safename_identifier("a/b", a);
	safename_identifier("a b", b);
	assert_string_not_equal(a, b);
	safename_identifier(a, b);	/* the mapped name is no safe identifier itself */
	assert_string_not_equal(a, b);
}

static void
lengths_are_bounded(void **state)
{
	char text[10241], name[NAME_BYTES];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	safename_title(text, name);
	assert_int_equal(strlen(name), LIMIT_NAME_BYTES);
	safename_disambiguate(name, text);
	assert_is_file_name(name);
	text[LIMIT_IDENTIFIER_BYTES] = '\0';
	assert_true(safename_is_safe(text));
	safename_identifier(text, name);
	assert_string_equal(name, text);
	text[LIMIT_IDENTIFIER_BYTES] = 'x';
	text[LIMIT_IDENTIFIER_BYTES + 1] = '\0';
	assert_false(safename_is_safe(text));
	safename_identifier(text, name);
	assert_int_equal(strlen(name), LIMIT_NAME_BYTES + 9);
	memset(text, 1, sizeof(text) - 1);
	safename_title(text, name);
	assert_string_equal(name, "_");
}

static void
titles_are_mapped(void **state)
{
	static const struct {
		const char *title, *name;
	} cases[] = {
		{ "Image for CernVM [Scientific Linux/6.0/KVM]",
		  "Image_for_CernVM_Scientific_Linux_6.0_KVM_" },
		{ "README example VM", "README_example_VM" },
		{ "a/b", "a_b" }, { "a\nb", "a_b" }, { "\033[2Jgone", "_2Jgone" },
		{ "disk \xF0\x9F\x92\xBE v2", "disk_v2" }, { "", "_" }, { "...", "_.." },
		{ "--help", "_-help" }, { "a__b", "a_b" }, { "___", "_" }, { " .x", "_.x" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char name[NAME_BYTES];

		safename_title(cases[i].title, name);
		assert_string_equal(name, cases[i].name);
		assert_is_file_name(name);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		{ "L11 an identifier that is a safe name is shown as it is", safe_identifiers_stay,
		  NULL, NULL, NULL },
		{ "L11 an odd identifier is mapped and gets 8 digits of its SHA-512",
		  odd_identifiers_are_mapped, NULL, NULL, NULL },
		{ "L11 different odd identifiers have different names",
		  mapped_identifiers_stay_apart, NULL, NULL, NULL },
		{ "L29 a title becomes a name without spaces, slashes or control bytes",
		  titles_are_mapped, NULL, NULL, NULL },
		{ "L29 names are bounded whatever the length of title and identifier",
		  lengths_are_bounded, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests_name("safename", tests, NULL, NULL);
}
