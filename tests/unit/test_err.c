/*
 * test_err.c - sentences of errors, and what each refusal code becomes outside: an errno value at
 * the mount, an exit status of a command.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "core/err.h"

/* ---- codes ----------------------------------------------------------------------------------- */

static const struct {
	enum code code;
	int number;
	int errnum;
	int status;
} codes[] = {
	{ CODE_NONE, 0, EIO, 1 },
	{ CODE_DOWNLOAD, 10, EHOSTUNREACH, 5 },
	{ CODE_SIGNATURE, 11, EKEYREJECTED, 4 },
	{ CODE_DN, 12, EKEYREJECTED, 4 },
	{ CODE_NOT_LINKED, 13, EKEYREJECTED, 4 },
	{ CODE_NO_ANCHORS, 14, EKEYREJECTED, 4 },
	{ CODE_DATABASE, 15, EIO, 1 },
	{ CODE_SAME_VERSION, 16, ESTALE, 4 },
	{ CODE_LOWER_VERSION, 17, ESTALE, 4 },
	{ CODE_LIST_ID, 31, EPROTO, 4 },
	{ CODE_NEW_IMAGE, 32, EPROTO, 4 },
	{ CODE_FUTURE, 33, EKEYEXPIRED, 4 },
	{ CODE_EXPIRED, 34, EKEYEXPIRED, 4 },
	{ CODE_JSON, 37, EPROTO, 4 },
	{ CODE_NOT_LIST, 38, EPROTO, 4 },
	{ CODE_BLOCK_DIGEST, 40, EBADMSG, 4 },
	{ CODE_SIZE, 41, EBADMSG, 4 },
	{ CODE_DIGEST, 42, EBADMSG, 4 },
	{ CODE_TOO_MUCH, 43, EBADMSG, 4 },
	{ CODE_SLOW, 44, ETIMEDOUT, 5 },
	{ CODE_RANGE, 45, EBADMSG, 4 },
	{ CODE_LIMIT, 46, EOVERFLOW, 4 },
	{ CODE_JSON_STRICT, 47, EPROTO, 4 },
	{ CODE_IDENTIFIER, 48, EPROTO, 4 },
	{ CODE_WEAK, 49, EKEYREJECTED, 4 },
	{ CODE_CRL, 50, EKEYREJECTED, 4 },
	{ CODE_NAMESPACE, 51, EKEYREJECTED, 4 },
	{ CODE_FULL, 52, ENOSPC, 8 },
	{ CODE_CORRUPT, 53, EIO, 1 },
	{ CODE_CLOCK, 54, EBUSY, 5 },
	{ CODE_BUSY, 55, EBUSY, 5 },
};

enum { N_CODES = sizeof(codes) / sizeof(codes[0]) };

static void
has_the_documented_numbers(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_CODES; i++)
		assert_int_equal(codes[i].code, codes[i].number);
}

static void
becomes_an_errno(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_CODES; i++)
		if (code_errno(codes[i].code) != codes[i].errnum)
			fail_msg("code %d gives %s", codes[i].number,
				 strerrorname_np(code_errno(codes[i].code)));
}

static void
becomes_an_exit_status(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_CODES; i++)
		if (code_exit(codes[i].code) != codes[i].status)
			fail_msg("code %d gives %d", codes[i].number, code_exit(codes[i].code));
}

/* A struct of a child process may hold any number. */
static void
survives_an_unknown_code(void **state)
{
	(void)state;
	assert_int_equal(code_errno((enum code)99), EIO);
	assert_int_equal(code_exit((enum code)99), EXIT_REFUSED);
}

/* ---- sentences ------------------------------------------------------------------------------- */

static void
sets_a_plain_error(void **state)
{
	struct err err = { .code = CODE_DIGEST };

	(void)state;
	assert_int_equal(err_set(&err, ENOENT, "no list '%s'", "a"), -ENOENT);
	assert_int_equal(err.rc, -ENOENT);
	assert_int_equal(err.code, CODE_NONE);
	assert_string_equal(err.text, "no list 'a'");
}

static void
sets_a_refusal(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_int_equal(err_refuse(&err, CODE_DIGEST, "%d of %d", 1, 2), -EBADMSG);
	assert_int_equal(err.rc, -EBADMSG);
	assert_int_equal(err.code, CODE_DIGEST);
	assert_string_equal(err.text, "1 of 2");
}

static void
takes_a_subject_in_front(void **state)
{
	struct err err = { 0 };

	(void)state;
	err_refuse(&err, CODE_SIZE, "it ended early");
	assert_int_equal(err_prefix(&err, "'%s'", "a.img"), -EBADMSG);
	assert_int_equal(err.code, CODE_SIZE);
	assert_string_equal(err.text, "'a.img': it ended early");
}

static void
shows_foreign_text_escaped(void **state)
{
	struct err err = { 0 };

	(void)state;
	err_set(&err, EPROTO, "title '%s'", "a\nb\033[2Jc\x7f\xc3\xa9");
	assert_string_equal(err.text, "title 'a\\x0Ab\\x1B[2Jc\\x7F\\xC3\\xA9'");
	err_set(&err, EPROTO, "x");
	err_prefix(&err, "%s", "one\r\ntwo");
	assert_string_equal(err.text, "one\\x0D\\x0Atwo: x");
}

static void
can_be_quoted_in_itself(void **state)
{
	struct err err = { 0 };

	(void)state;
	err_set(&err, EPROTO, "line 3");
	err_set(&err, EINVAL, "%s of the list", err.text);
	assert_string_equal(err.text, "line 3 of the list");
	err_prefix(&err, "%s", err.text);
	assert_string_equal(err.text, "line 3 of the list: line 3 of the list");
}

static void
is_cut_at_its_room(void **state)
{
	static char longer[3 * ERR_TEXT_MAX];
	struct err err = { 0 };

	(void)state;
	memset(longer, '\n', sizeof(longer) - 1);
	err_set(&err, EPROTO, "%s", longer);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	assert_int_equal(strncmp(err.text, "\\x0A\\x0A", 8), 0);
	err_prefix(&err, "%s", longer);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
}

static void
need_not_be_asked_for(void **state)
{
	struct err err = { .rc = -EIO, .code = CODE_CORRUPT, .text = "bad" };

	(void)state;
	assert_int_equal(err_set(NULL, ENOENT, "x"), -ENOENT);
	assert_int_equal(err_refuse(NULL, CODE_FULL, "x"), -ENOSPC);
	assert_int_equal(err_prefix(NULL, "x"), 0);
	err_clear(NULL);
	err_clear(&err);
	assert_int_equal(err.rc, 0);
	assert_int_equal(err.code, CODE_NONE);
	assert_string_equal(err.text, "");
}

#define TEST(title, fn) { .name = title, .test_func = fn }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("a refusal code keeps the number that is documented",
		     has_the_documented_numbers),
		TEST("each refusal code is one errno value at the mount", becomes_an_errno),
		TEST("each refusal code is one exit status of a command", becomes_an_exit_status),
		TEST("a code that nobody knows is an I/O error", survives_an_unknown_code),
		TEST("an error without a code says errno and sentence", sets_a_plain_error),
		TEST("a refusal says code, errno and sentence", sets_a_refusal),
		TEST("a subject goes in front of the sentence", takes_a_subject_in_front),
		TEST("X03 foreign text in a sentence is one printable line",
		     shows_foreign_text_escaped),
		TEST("a sentence can be made of the one before", can_be_quoted_in_itself),
		TEST("X03 a sentence that is too long is cut", is_cut_at_its_room),
		TEST("a caller that wants no sentence gets the errno value alone",
		     need_not_be_asked_for),
	};

	return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
