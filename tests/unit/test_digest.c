/*
 * test_digest.c - SHA-512 against the vectors of FIPS 180-4 and NIST's examples.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/digest.h"

/* https://csrc.nist.gov/projects/cryptographic-standards-and-guidelines/example-values */
static const struct {
	const char *text;
	const char *hex;
} vectors[] = {
	{ "abc",
	  "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
	  "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f" },
	{ "",
	  "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
	  "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e" },
	{ "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
	  "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
	  "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
	  "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909" },
};

static const char million_a[] =
	"e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb"
	"de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b";

static void
assert_hex(const struct digest *d, const char *wanted)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	assert_string_equal(hex, wanted);
}

static void
is_sha512(void **state)
{
	struct digest d;

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		digest_of(vectors[i].text, strlen(vectors[i].text), &d);
		assert_hex(&d, vectors[i].hex);
	}
}

/* In pieces of every size around the 128-byte blocks of the algorithm. */
static void
is_the_same_in_pieces(void **state)
{
	struct digest_state *s = digest_state_new();
	static char a[1000];
	struct digest d;

	(void)state;
	memset(a, 'a', sizeof(a));
	for (size_t piece = 1; piece <= sizeof(a); piece += 63) {
		digest_state_reset(s);
		for (size_t left = 1000000; left > 0;) {
			size_t n = left < piece ? left : piece;

			digest_state_add(s, a, n);
			left -= n;
		}
		digest_state_end(s, &d);
		assert_hex(&d, million_a);
	}
	digest_state_free(s);
	digest_state_free(NULL);
}

static void
starts_again_after_a_reset(void **state)
{
	struct digest_state *s = digest_state_new();
	struct digest d;

	(void)state;
	digest_state_add(s, "something else", 14);
	digest_state_reset(s);
	digest_state_add(s, "abc", 3);
	digest_state_end(s, &d);
	assert_hex(&d, vectors[0].hex);
	digest_state_free(s);
}

static void
reads_either_case(void **state)
{
	char upper[DIGEST_HEX + 1];
	struct digest a, b;

	(void)state;
	for (size_t i = 0; i <= DIGEST_HEX; i++) {
		char c = vectors[0].hex[i];

		upper[i] = c >= 'a' && c <= 'f' ? (char)(c - 'a' + 'A') : c;
	}
	assert_true(digest_parse(vectors[0].hex, &a));
	assert_true(digest_parse(upper, &b));
	assert_true(digest_equal(&a, &b));
	assert_hex(&b, vectors[0].hex);
	b.bytes[DIGEST_BYTES - 1] ^= 1;
	assert_false(digest_equal(&a, &b));
}

static void
refuses_what_is_no_digest(void **state)
{
	static const char outside[] = "g/:@`G \n\x80\xff";
	char text[DIGEST_HEX + 2];
	struct digest d;

	(void)state;
	assert_false(digest_parse("", &d));
	memcpy(text, vectors[0].hex, DIGEST_HEX);
	text[DIGEST_HEX - 1] = '\0';
	assert_false(digest_parse(text, &d));
	text[DIGEST_HEX - 1] = text[DIGEST_HEX] = '0';
	text[DIGEST_HEX + 1] = '\0';
	assert_false(digest_parse(text, &d));
	text[DIGEST_HEX] = '\0';
	assert_true(digest_parse(text, &d));
	for (size_t i = 0; i < sizeof(outside) - 1; i++) {
		for (size_t at = 0; at < DIGEST_HEX; at++) {
			char kept = text[at];

			text[at] = outside[i];
			assert_false(digest_parse(text, &d));
			text[at] = kept;
		}
	}
}

#define TEST(title, fn) { .name = title, .test_func = fn }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("a digest is SHA-512 as in FIPS 180-4", is_sha512),
		TEST("a digest does not depend on the pieces that the bytes come in",
		     is_the_same_in_pieces),
		TEST("a hash that was reset starts again", starts_again_after_a_reset),
		TEST("a digest is written in either case", reads_either_case),
		TEST("a digest has exactly 128 hexadecimal digits", refuses_what_is_no_digest),
	};

	return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
