/*
 * Policy files: what is read, what is malformed, and which subject a CA may sign.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/policy.h"

enum { COST_MS = 10 };	/* of the most expensive pattern; a test allows ten times as much */

#define CA "/DC=org/DC=example/CN=Test Grid CA"
#define ALICE "/DC=org/DC=example/OU=People/CN=Alice"
#define HEAD "access_id_CA X509 '" CA "'\npos_rights globus CA:sign\n"

static int
setup(void **state)
{
	*state = policy_new();
	return 0;
}

static int
teardown(void **state)
{
	policy_free(*state);
	return 0;
}

static int
add_signing(void **state, const char *text, struct err *err)
{
	return policy_add_signing_policy(*state, "test.signing_policy", text, strlen(text), err);
}

static int
add_namespaces(void **state, const char *text, struct err *err)
{
	return policy_add_namespaces(*state, "test.namespaces", text, strlen(text), err);
}

static void
assert_permits(void **state, const char *subject)
{
	struct err err = { 0, CODE_NONE, "" };

	if (policy_permits(*state, CA, subject, &err) != 0)
		fail_msg("%s: %s", subject, err.text);
}

static void
assert_refuses(void **state, const char *subject, const char *part)
{
	struct err err = { 0, CODE_NONE, "" };

	assert_int_not_equal(policy_permits(*state, CA, subject, &err), 0);
	assert_int_equal(err.code, CODE_NAMESPACE);
	if (strstr(err.text, part) == NULL)
		fail_msg("'%s' does not mention '%s'", err.text, part);
}

static void
assert_malformed(void **state, const char *text, const char *part)
{
	struct err err = { 0, CODE_NONE, "" };

	assert_int_not_equal(add_signing(state, text, &err), 0);
	assert_int_equal(err.code, CODE_NAMESPACE);
	if (strstr(err.text, "test.signing_policy") == NULL || strstr(err.text, part) == NULL)
		fail_msg("'%s' does not mention '%s'", err.text, part);
}

static void
test_globs(void **state)
{
	assert_int_equal(add_signing(state, HEAD
	    "cond_subjects globus '\"/DC=org/DC=example/*\" \"/C=N?/O=Example\"'\n", NULL), 0);
	assert_permits(state, ALICE);
	assert_permits(state, "/C=NL/O=Example");
	assert_permits(state, "/DC=org/DC=example/");
	assert_refuses(state, "/C=NL/O=Example2", "test.signing_policy");
	assert_refuses(state, "/DC=org/DC=other/CN=x", "cond_subjects");
	assert_refuses(state, "x/DC=org/DC=example/CN=x", "outside");
}

static void
test_no_regex(void **state)
{
	assert_int_equal(add_signing(state, HEAD
	    "cond_subjects globus"
	    " '\"/DC=org/(.*\" \"/DC=[oO]rg/*\" \"/DC=....*\" \"^/DC=org/*\"'\n",
	    NULL), 0);
	assert_refuses(state, ALICE, "outside");
	assert_permits(state, "/DC=org/(.x");
	assert_permits(state, "/DC=[oO]rg/CN=x");
}

static void
test_quoting(void **state)
{
	assert_int_equal(add_signing(state,
				     "# comment\r\n\r\n  access_id_CA\tX509\t\"" CA "\" # more\r\n"
	    "pos_rights globus CA:sign\r\n cond_subjects globus \"/DC=org/*\"", NULL), 0);
	assert_permits(state, ALICE);
}

static void
test_several_cas(void **state)
{
	assert_int_equal(add_signing(state, HEAD "cond_subjects globus '\"/DC=org/*\"'\n"
	    "access_id_CA X509 '/CN=Other'\npos_rights globus CA:sign\n"
	    "cond_subjects globus '\"/CN=*\"'\n", NULL), 0);
	assert_permits(state, ALICE);
	assert_refuses(state, "/CN=x", "/DC=org/*");
}

static void
test_malformed(void **state)
{
	static const struct { const char *text, *part; } rows[] = {
		{ "", "no rule" },
		{ "# only a comment\n", "no rule" },
		{ HEAD "cond_subjects globus '\"/DC=org/*\"\n", "line 3: a quote is not closed" },
		{ HEAD "cond_subjects globus '\"/DC=org/*'\n", "cond_subjects is not closed" },
		{ HEAD "cond_subjects globus '\"/a\" /b'\n", "cond_subjects is not closed" },
		{ HEAD, "no cond_subjects" },
		{ "access_id_CA X509 '" CA "'\ncond_subjects globus '\"/*\"'\n", "without" },
		{ "cond_subjects globus '\"/*\"'\n", "without" },
		{ HEAD "cond_subjects globus\n", "2 words" },
		{ HEAD "neg_rights globus CA:sign\n", "not understood" },
		{ HEAD "cond_subjects globus a b c d e f g h\n", "too many" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_malformed(state, rows[i].text, rows[i].part);
	assert_refuses(state, ALICE, "malformed");
}

static void
test_nul(void **state)
{
	static const char text[] = HEAD "cond_subjects globus '\"/DC=org/*\"'\n\0";
	struct err err = { 0, CODE_NONE, "" };

	assert_int_not_equal(policy_add_signing_policy(*state, "nul", text, sizeof(text), &err), 0);
	assert_non_null(strstr(err.text, "NUL"));
	assert_refuses(state, ALICE, "speaks of CA");
}

static void
test_broken_names_issuer(void **state)
{
	assert_int_equal(add_namespaces(state, "TO Issuer \"" CA "\" PERMIT Subject \"/.*\"\n",
					NULL), 0);
	assert_permits(state, ALICE);
	assert_malformed(state, HEAD "cond_subjects globus '\"/DC=org/*\"'\nnonsense\n", "line 4");
	assert_refuses(state, ALICE, "test.signing_policy");
}

static void
test_namespaces(void **state)
{
	assert_int_equal(add_namespaces(state,
					"#NAMESPACES-VERSION: 1.0\nto issuer \"" CA "\" \\\r\n"
	    "  permit subject \"/DC=org/DC=ex.mple/.*\"\n", NULL), 0);
	assert_permits(state, ALICE);
	assert_refuses(state, "/DC=org/DC=other", "PERMIT Subject");
	assert_refuses(state, "/DC=org/DC=example", "test.namespaces");
}

static void
test_namespaces_deny(void **state)
{
	assert_int_equal(add_namespaces(state, "TO Issuer \"" CA "\" PERMIT Subject"
					" \"/DC=org/.*\"\n"
	    "TO Issuer \"" CA "\" DENY Subject \"/DC=org/DC=example/OU=Robots/.+\"\n", NULL), 0);
	assert_permits(state, ALICE);
	assert_refuses(state, "/DC=org/DC=example/OU=Robots/CN=r", "DENY");
}

static void
test_namespaces_regex(void **state)
{
	static const char *const unsupported[] = {
		"/DC=(org|com)/.*", "/DC=[a-z]/.*", "/DC=org/a+", "/DC=o?rg", "/DC=o*", "/a{2}",
		"/DC=org\\d", "/DC=org\\",
	};
	char text[256];
	struct err err;

	for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++) {
		snprintf(text, sizeof(text), "TO Issuer \"/CN=x\" PERMIT Subject \"%s\"\n",
			 unsupported[i]);
		assert_int_not_equal(add_namespaces(state, text, &err), 0);
		assert_non_null(strstr(err.text, "understood"));
	}
	assert_int_equal(add_namespaces(state, "TO Issuer \"" CA "\" PERMIT Subject"
	    " \"^/DC=org/CN=a\\.b \\(c\\).+$\"\n", NULL), 0);
	assert_permits(state, "/DC=org/CN=a.b (c)!");
	assert_refuses(state, "/DC=org/CN=aXb (c)!", "outside");
	assert_refuses(state, "/DC=org/CN=a.b (c)", "outside");
}

static void
test_namespaces_malformed(void **state)
{
	static const char *const texts[] = {
		"TO Issuer \"" CA "\"\n", "TO Issuer SELF PERMIT Subject \"/.*\"\n",
		"TO Issuer \"" CA "\" ALLOW Subject \"/.*\"\n", "\n", "TO \\ x\n",
	};
	struct err err;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_not_equal(add_namespaces(state, texts[i], &err), 0);
}

static void
test_both_must_permit(void **state)
{
	assert_int_equal(add_signing(state, HEAD "cond_subjects globus '\"/DC=org/*\"'\n",
				     NULL), 0);
	assert_int_equal(add_namespaces(state, "TO Issuer \"" CA "\" PERMIT Subject"
	    " \"/DC=org/DC=example/OU=Hosts/.*\"\n", NULL), 0);
	assert_permits(state, "/DC=org/DC=example/OU=Hosts/CN=h");
	assert_refuses(state, ALICE, "test.namespaces");
	assert_refuses(state, "/C=NL/OU=Hosts/CN=h", "outside");
}

static void
test_nobody_speaks(void **state)
{
	assert_refuses(state, ALICE, "install the one of its CA package");
}

static void
test_slash(void **state)
{
	assert_int_equal(add_signing(state, HEAD "cond_subjects globus '\"/DC=org/CN=host/*\"'\n",
				     NULL), 0);
	assert_permits(state, "/DC=org/CN=host\\/a.example.org");
	assert_permits(state, "/DC=org/CN=host/CN=a");
	assert_refuses(state, "/DC=org/CN=host\\/CN=a", "outside");
	assert_refuses(state, "/DC=org\\/CN=host/x", "outside");
	assert_refuses(state, "/DC=org/CN=guest\\/a.example.org", "outside");
	/* A backslash that escapes nothing is a byte like any other. */
	assert_refuses(state, "/DC=org/CN=host\\x/a", "outside");
}

/* A denial counts however the name may be read. */
static void
test_slash_denied(void **state)
{
	assert_int_equal(add_namespaces(state,
					"TO Issuer \"" CA "\" PERMIT Subject \"/DC=org/.*\"\n"
	    "TO Issuer \"" CA "\" DENY Subject \"/DC=org/CN=host/.*\"\n", NULL), 0);
	assert_permits(state, "/DC=org/CN=alice");
	assert_permits(state, "/DC=org/CN=guest\\/CN=a");
	assert_refuses(state, "/DC=org/CN=host\\/a", "DENY Subject");
	assert_refuses(state, "/DC=org/CN=host\\/CN=a", "DENY Subject");
	assert_refuses(state, "/DC=org/CN=host/CN=a", "DENY Subject");
}

static void
test_issuer_slash(void **state)
{
	struct err err;

	assert_int_equal(add_signing(state, "access_id_CA X509"
				     " '/OU=http://www.usertrust.com/CN=UTN'\n"
	    "pos_rights globus CA:sign\ncond_subjects globus '\"/C=NL/*\"'\n", NULL), 0);
	assert_int_equal(policy_permits(*state, "/OU=http:\\/\\/www.usertrust.com/CN=UTN",
					"/C=NL/CN=x",
	    &err), 0);
	assert_int_not_equal(policy_permits(*state, "/OU=http:\\/\\/www.usertrust.com\\/CN=UTN",
	    "/C=NL/CN=x", &err), 0);
	assert_int_not_equal(policy_permits(*state, "/OU=http:\\/\\/www.usertrust.org/CN=UTN",
	    "/C=NL/CN=x", &err), 0);
}

static void
test_spellings(void **state)
{
	assert_int_equal(add_signing(state, HEAD "cond_subjects globus"
	    " '\"/O=x/Email=*@example.org\" \"/O=x/USERID=*\"'\n", NULL), 0);
	assert_permits(state, "/O=x/emailAddress=a@example.org");
	assert_permits(state, "/O=x/UID=alice");
}

/*
 * One backtracking point: a thousand stars against a name that fails at its end.  It takes less
 * than 10 ms of the processor; a matcher that tries every way would not come to an end.
 */
static void
test_cost(void **state)
{
	char pattern[2001] = "", subject[8192];
	char text[8192];
	struct timespec begin, end;

	for (size_t i = 0; i < sizeof(pattern) - 1; i += 2)
		memcpy(pattern + i, "*a", 3);
	memset(subject, 'a', sizeof(subject) - 2);
	subject[sizeof(subject) - 2] = 'b';
	subject[sizeof(subject) - 1] = '\0';
	snprintf(text, sizeof(text), HEAD "cond_subjects globus '\"%s\"'\n", pattern);
	assert_int_equal(add_signing(state, text, NULL), 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
	assert_refuses(state, subject, "outside");
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	assert_true((end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000 <
		    10 * COST_MS);
}

int
main(void)
{
#define TEST(sentence, fn) { sentence, fn, setup, teardown, NULL }
	const struct CMUnitTest tests[] = {
		TEST("S19 '*' and '?' are wildcards over the whole subject", test_globs),
		TEST("S20 regular expressions in a signing_policy are literal text", test_no_regex),
		TEST("S20 comments, CRLF, both quotes and a missing last newline are read",
		     test_quoting),
		TEST("one signing_policy may speak of several CAs", test_several_cas),
		TEST("S20 a malformed signing_policy is refused, naming file, line and reason",
		     test_malformed),
		TEST("S20 a NUL byte makes the file malformed", test_nul),
		TEST("S20 a malformed file makes the CAs that it names unusable",
		     test_broken_names_issuer),
		TEST("namespaces permit what their expression matches whole", test_namespaces),
		TEST("a DENY rule wins over any PERMIT", test_namespaces_deny),
		TEST("S20 expressions beyond '.', '.*', '.+' and escapes are refused",
		     test_namespaces_regex),
		TEST("S20 a malformed namespaces file is refused", test_namespaces_malformed),
		TEST("S21 each kind of file that speaks of a CA must permit",
		     test_both_must_permit),
		TEST("S20 a CA of which no file speaks may sign nothing", test_nobody_speaks),
		TEST("a '/' inside a value matches its old spelling only where that is unambiguous",
		     test_slash),
		TEST("S19 a subject that is denied under any spelling is denied",
		     test_slash_denied),
		TEST("a '/' inside the CA's name matches its old spelling only where that is"
		     " unambiguous",
		     test_issuer_slash),
		TEST("old attribute names are the same as new ones", test_spellings),
		TEST("X23 a pattern of a thousand wildcards is matched within milliseconds",
		     test_cost),
	};

	return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
