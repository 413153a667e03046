/*
 * Messages verified in this process, where a sanitizer sees every byte: the list of the real
 * vmcaster, and what becomes of it when bytes are changed, cut, or put in.
 *
 * The CRL of the sample lapses on 2026-12-21: after that the message is refused for it, and these
 * tests only see that nothing crashes.  What is accepted and refused in full, tests/spec shows.
 */
#include "config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/smime.h"

enum { MUTATIONS = 400 };

static struct trustdir *trust;
static struct buf message = BUF_INIT;
static struct verdict original;

/* The directory of the samples: make sets srcdir; by hand the tests run in the source tree. */
static void
sample_path(char *out, size_t size, const char *name)
{
	const char *top = getenv("srcdir");

	snprintf(out, size, "%s/tests/data/samples/%s", top != NULL ? top : ".", name);
}

static int
setup(void **state)
{
	char path[4096];
	struct err err;

	(void)state;
	if (smime_init(&err) != 0)
		return -1;
	sample_path(path, sizeof(path), "vmcaster/certificates");
	if (trustdir_load(path, &trust, &err) != 0) {
		print_error("%s\n", err.text);
		return -1;
	}
	sample_path(path, sizeof(path), "vmcaster/vmcaster-signed.list");
	if (io_read_file(AT_FDCWD, path, LIMIT_MESSAGE_BYTES, &message) != 0)
		return -1;
	verdict_init(&original);
	smime_verify(trust, message.data, message.len, &original);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	trustdir_free(trust);
	buf_release(&message);
	verdict_release(&original);
	return 0;
}

/* A changed message is refused, or it is the same text signed by the same person. */
static void
assert_harmless(const struct buf *changed)
{
	struct verdict v;

	verdict_init(&v);
	smime_verify(trust, changed->data, changed->len, &v);
	if (v.rc == 0) {
		assert_int_equal(original.rc, 0);
		assert_string_equal(v.subject, original.subject);
		assert_int_equal(v.payload.len, original.payload.len);
		assert_memory_equal(v.payload.data, original.payload.data, v.payload.len);
	} else {
		assert_int_equal(v.payload.len, 0);
		assert_int_not_equal(v.code, CODE_NONE);
		assert_true(v.text[0] != '\0');
	}
	verdict_release(&v);
}

static void
test_sample(void **state)
{
	(void)state;
	assert_non_null(original.subject);
	assert_string_equal(original.subject, "/DC=org/DC=example/OU=People/CN=Test endorser");
	assert_string_equal(original.issuer, "/DC=org/DC=example/CN=Test Grid CA");
	assert_string_equal(original.serial, "1000");
	assert_false(original.revoked || original.other_purpose);
	if (original.rc != 0) {
		print_message("the sample has lapsed: %s\n", original.text);
		return;
	}
	assert_true(original.weak_digest);
	assert_int_equal(original.payload.data[0], '{');
	assert_null(memmem(original.payload.data, original.payload.len, "------", 6));
}

/* The generator of C's rand() differs between systems: this one is written down. */
static unsigned
next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(*seed >> 33);
}

static void
test_changed_bytes(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (int i = 0; i < MUTATIONS; i++) {
		CLEANUP_BUF struct buf changed = BUF_INIT;
		unsigned n = 1 + next_random(&seed) % 3;

		buf_add(&changed, message.data, message.len);
		while (n-- > 0)
			changed.data[next_random(&seed) % changed.len] = (char)next_random(&seed);
		assert_harmless(&changed);
	}
}

/* Bytes of the base64 become other base64: the structure inside is hit, not its wrapping. */
static void
test_changed_structure(void **state)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *part = memmem(message.data, message.len, "\n\nMII", 5);
	uint64_t seed = 2;
	size_t start;

	(void)state;
	assert_non_null(part);
	start = (size_t)(part - message.data) + 2;
	for (int i = 0; i < MUTATIONS; i++) {
		CLEANUP_BUF struct buf changed = BUF_INIT;
		size_t at = start + next_random(&seed) % (message.len - start);

		buf_add(&changed, message.data, message.len);
		if (strchr(digits, changed.data[at]) == NULL)
			continue;
		changed.data[at] = digits[next_random(&seed) % 64];
		assert_harmless(&changed);
	}
}

/* The last byte of the structure is the last of the signature's value; the text stays as it is. */
static void
test_changed_signature(void **state)
{
	CLEANUP_BUF struct buf changed = BUF_INIT;
	struct verdict v;
	char *end;

	(void)state;
	buf_add(&changed, message.data, message.len);
	end = memmem(changed.data, changed.len, "\n\n------", 8);
	assert_non_null(end);
	end = memmem(end + 8, changed.len - (size_t)(end + 8 - changed.data), "\n\n------", 8);
	assert_non_null(end);
	end[-8] = end[-8] == 'A' ? 'B' : 'A';
	verdict_init(&v);
	assert_int_not_equal(smime_verify(trust, changed.data, changed.len, &v), 0);
	if (original.rc == 0)
		assert_non_null(strstr(v.text, "was not made with the key of the certificate"));
	verdict_release(&v);
}

static void
test_cut(void **state)
{
	(void)state;
	for (size_t len = 0; len < message.len; len += 31) {
		CLEANUP_BUF struct buf changed = BUF_INIT;

		buf_add(&changed, message.data, len);
		assert_harmless(&changed);
	}
}

static void
test_limit(void **state)
{
	CLEANUP_BUF struct buf large = BUF_INIT;
	struct verdict v;

	(void)state;
	buf_reserve(&large, LIMIT_MESSAGE_BYTES + 1);
	memset(large.data, '\n', LIMIT_MESSAGE_BYTES + 1);
	large.len = LIMIT_MESSAGE_BYTES + 1;
	verdict_init(&v);
	smime_verify(trust, large.data, large.len, &v);
	assert_int_equal(v.code, CODE_LIMIT);
	verdict_release(&v);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "the list of the real vmcaster names its signer", test_sample, NULL, NULL, NULL },
		{ "S03 a message with bytes changed is refused or means the same",
		  test_changed_bytes, NULL, NULL, NULL },
		{ "S04 a signature with bytes changed is refused or means the same",
		  test_changed_structure, NULL, NULL, NULL },
		{ "S04 a text whose signature was changed is refused", test_changed_signature, NULL,
		  NULL, NULL },
		{ "S04 a message cut anywhere is refused", test_cut, NULL, NULL, NULL },
		{ "S34 a message beyond the limit is refused", test_limit, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests_name("smime", tests, setup, teardown);
}
