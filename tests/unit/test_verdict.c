/*
 * The verdict on the wire: what is written can be read, and what makes no sense is no verdict.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/cleanup.h"
#include "core/verdict.h"

static void
fill_accepted(struct verdict *v)
{
	verdict_init(v);
	v->subject = xstrdup("/DC=org/CN=Alice");
	v->issuer = xstrdup("/DC=org/CN=CA");
	v->serial = xstrdup("1000");
	v->not_after = 1800000000;
	v->weak_digest = true;
	buf_add(&v->payload, "{\0}", 3);
}

static void
test_accepted(void **state)
{
	CLEANUP_BUF struct buf wire = BUF_INIT;
	struct verdict v, read;
	struct err err;

	(void)state;
	fill_accepted(&v);
	verdict_encode(&v, &wire);
	verdict_init(&read);
	assert_int_equal(verdict_decode(wire.data, wire.len, &read, &err), 0);
	assert_int_equal(read.rc, 0);
	assert_int_equal(read.code, CODE_NONE);
	assert_string_equal(read.subject, v.subject);
	assert_string_equal(read.issuer, v.issuer);
	assert_string_equal(read.serial, v.serial);
	assert_true(read.not_after == v.not_after);
	assert_true(read.weak_digest && !read.revoked && !read.other_purpose);
	assert_int_equal(read.payload.len, 3);
	assert_memory_equal(read.payload.data, "{\0}", 3);
	assert_string_equal(read.text, "");
	verdict_release(&read);
	verdict_release(&v);
}

static void
test_refused(void **state)
{
	CLEANUP_BUF struct buf wire = BUF_INIT;
	struct verdict v, read;
	struct err err;

	(void)state;
	fill_accepted(&v);
	v.rc = -code_errno(CODE_SIGNATURE);
	v.code = CODE_SIGNATURE;
	v.revoked = true;
	memset(v.text, 'x', sizeof(v.text) - 1);
	verdict_encode(&v, &wire);
	verdict_init(&read);
	assert_int_equal(verdict_decode(wire.data, wire.len, &read, &err), 0);
	assert_int_equal(read.rc, v.rc);
	assert_int_equal(read.code, CODE_SIGNATURE);
	assert_true(read.revoked);
	assert_string_equal(read.text, v.text);
	assert_int_equal(read.payload.len, 0);
	verdict_release(&read);
	verdict_release(&v);
}

static void
test_unnamed(void **state)
{
	CLEANUP_BUF struct buf wire = BUF_INIT;
	struct verdict v, read;
	struct err err;

	(void)state;
	verdict_init(&v);
	v.rc = -code_errno(CODE_SIGNATURE);
	v.code = CODE_SIGNATURE;
	verdict_encode(&v, &wire);
	verdict_init(&read);
	assert_int_equal(verdict_decode(wire.data, wire.len, &read, &err), 0);
	assert_null(read.subject);
	assert_null(read.issuer);
	assert_null(read.serial);
	verdict_release(&read);
	verdict_release(&v);
}

static void
assert_no_verdict(const void *data, size_t len)
{
	struct err err = { 0, CODE_NONE, "" };
	struct verdict v;

	verdict_init(&v);
	assert_int_not_equal(verdict_decode(data, len, &v, &err), 0);
	assert_true(err.text[0] != '\0');
	assert_null(v.subject);
	verdict_release(&v);
}

static void
test_cut(void **state)
{
	CLEANUP_BUF struct buf wire = BUF_INIT;
	struct verdict v;

	(void)state;
	fill_accepted(&v);
	verdict_encode(&v, &wire);
	for (size_t len = 0; len < wire.len; len++) {
		/* A copy of just that size, so that a sanitizer sees a read beyond it. */
		char *cut = xmalloc(len);

		memcpy(cut, wire.data, len);
		assert_no_verdict(cut, len);
		free(cut);
	}
	buf_putc(&wire, 'x');
	assert_no_verdict(wire.data, wire.len);
	verdict_release(&v);
}

static void
set_magic(struct verdict_wire *w)
{
	w->magic++;
}

static void
set_positive_rc(struct verdict_wire *w)
{
	w->rc = 1;
}

static void
set_code(struct verdict_wire *w)
{
	w->code = CODE_SIGNATURE;
}

static void
set_refused_with_payload(struct verdict_wire *w)
{
	w->rc = -1;
	w->code = CODE_SIGNATURE;
}

static void
set_revoked(struct verdict_wire *w)
{
	w->revoked = 1;
}

static void
set_flag(struct verdict_wire *w)
{
	w->weak_digest = 2;
}

static void
set_huge_payload(struct verdict_wire *w)
{
	w->payload_len = UINT64_MAX;
}

/* Sums that would come out right modulo 2^32 or 2^64. */
static void
set_wrapping(struct verdict_wire *w)
{
	w->subject_len += 0x80000000U;
	w->issuer_len += 0x80000000U;
}

static void
set_wrapping_payload(struct verdict_wire *w)
{
	w->payload_len -= 0x100000000ULL;
}

static void
set_long_text(struct verdict_wire *w)
{
	w->text_len = ERR_TEXT_MAX;
}

static void
set_no_subject(struct verdict_wire *w)
{
	w->payload_len += w->subject_len;
	w->subject_len = 0;
}

static void
set_negative_code(struct verdict_wire *w)
{
	w->code = -1;
}

static void
set_revoked_twice(struct verdict_wire *w)
{
	w->revoked = 2;
}

static void
set_purpose(struct verdict_wire *w)
{
	w->other_purpose = 255;
}

static void
set_reserved(struct verdict_wire *w)
{
	w->reserved = 1;
}

static void
set_no_issuer(struct verdict_wire *w)
{
	w->payload_len += w->issuer_len;
	w->issuer_len = 0;
}

static void
test_senseless(void **state)
{
	static void (*const changes[])(struct verdict_wire *) = {
		set_magic, set_positive_rc, set_code, set_refused_with_payload, set_revoked,
		set_flag,
		set_huge_payload, set_wrapping, set_wrapping_payload, set_long_text, set_no_subject,
		set_negative_code, set_revoked_twice, set_purpose, set_reserved, set_no_issuer,
	};
	CLEANUP_BUF struct buf wire = BUF_INIT;
	struct verdict_wire w;
	struct verdict v;

	(void)state;
	fill_accepted(&v);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		buf_clear(&wire);
		verdict_encode(&v, &wire);
		memcpy(&w, wire.data, sizeof(w));
		changes[i](&w);
		memcpy(wire.data, &w, sizeof(w));
		assert_no_verdict(wire.data, wire.len);
	}
	verdict_release(&v);
}

static void
test_nul(void **state)
{
	CLEANUP_BUF struct buf wire = BUF_INIT;
	struct verdict v;

	(void)state;
	fill_accepted(&v);
	verdict_encode(&v, &wire);
	wire.data[sizeof(struct verdict_wire) + 3] = '\0';
	assert_no_verdict(wire.data, wire.len);
	verdict_release(&v);
}

int
main(void)
{
#define TEST(sentence, fn) { sentence, fn, NULL, NULL, NULL }
	const struct CMUnitTest tests[] = {
		TEST("an accepted verdict is read as it was written", test_accepted),
		TEST("a refusal is read as it was written, and carries no text of the list",
		     test_refused),
		TEST("a refusal without a signer has no names", test_unnamed),
		TEST("a verdict cut anywhere, or with a byte too many, is no verdict", test_cut),
		TEST("a verdict that contradicts itself is no verdict", test_senseless),
		TEST("a NUL byte in a name is no verdict", test_nul),
	};

	return cmocka_run_group_tests_name("verdict", tests, NULL, NULL);
}
