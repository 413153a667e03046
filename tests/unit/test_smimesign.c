/*
 * Messages that we sign: what the reader of messages accepts, and keys with which nothing can be
 * signed.
 */
#include "config.h"
#include "certbed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/limits.h"
#include "core/smime.h"
#include "core/smimesign.h"
#include "core/trustdir.h"
#include "tests/lib/callfaults.h"

static const char text[] = "[{\"a\": \"text\"}]\n";

struct pems {
	struct buf key, cert, chain;
};

static void
add_bio(struct buf *out, BIO *bio)
{
	char *data;
	long len = BIO_get_mem_data(bio, &data);

	buf_add(out, data, (size_t)len);
	BIO_free(bio);
}

static void
add_cert(struct buf *out, X509 *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_X509(bio, cert);
	add_bio(out, bio);
}

static void
add_key(struct buf *out, EVP_PKEY *k, const char *passphrase)
{
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_PrivateKey(bio, k, passphrase != NULL ? EVP_aes_128_cbc() : NULL,
				 (const unsigned char *)passphrase,
				 passphrase != NULL ? (int)strlen(passphrase) : 0, NULL, NULL);
	add_bio(out, bio);
}

static struct pems
pems_of(struct bed *bed)
{
	struct pems p = { BUF_INIT, BUF_INIT, BUF_INIT };

	add_key(&p.key, key, NULL);
	add_cert(&p.cert, bed->alice);
	add_cert(&p.chain, bed->alice);
	add_cert(&p.chain, bed->root);
	return p;
}

static void
pems_release(struct pems *p)
{
	buf_release(&p->key);
	buf_release(&p->cert);
	buf_release(&p->chain);
}

static int
sign_with(const struct pems *p, struct buf *out, struct err *err)
{
	struct smimesigner *s = NULL;
	int rc = smimesigner_new(&s, &p->key, &p->cert, &p->chain, err);

	if (rc == 0)
		rc = smimesigner_sign(s, text, strlen(text), out, err);
	smimesigner_free(s);
	return rc;
}

static void
assert_accepted_by_reader(struct bed *bed, const struct buf *message)
{
	struct verdict v;
	struct err err;

	if (bed->trust == NULL && trustdir_load(bed->path, &bed->trust, &err) != 0)
		fail_msg("%s", err.text);
	verdict_init(&v);
	if (smime_verify(bed->trust, message->data, message->len, &v) != 0)
		fail_msg("%s", v.text);
	assert_string_equal(v.subject, "/CN=alice");
	assert_false(v.weak_digest);
	assert_non_null(memmem(v.payload.data, v.payload.len, "\"text\"", 6));
	verdict_release(&v);
}

static void
accepted(void **state)
{
	struct bed *bed = *state;
	struct pems p = pems_of(bed);
	CLEANUP_BUF struct buf message = BUF_INIT;
	struct err err = { 0 };

	assert_int_equal(sign_with(&p, &message, &err), 0);
	assert_accepted_by_reader(bed, &message);
	buf_clear(&message);
	buf_clear(&p.chain);
	assert_int_equal(sign_with(&p, &message, &err), 0);
	assert_accepted_by_reader(bed, &message);
	pems_release(&p);
}

static void
assert_useless(const struct pems *p, const char *words)
{
	CLEANUP_BUF struct buf message = BUF_INIT;
	struct err err = { 0 };

	assert_int_not_equal(sign_with(p, &message, &err), 0);
	if (strstr(err.text, words) == NULL)
		fail_msg("%s", err.text);
	assert_int_equal(message.len, 0);
}

static void
useless(void **state)
{
	struct bed *bed = *state;
	struct pems p = pems_of(bed);
	EVP_PKEY *other = EVP_EC_gen("P-256");

	buf_clear(&p.key);
	add_key(&p.key, key, "secret");
	assert_useless(&p, "passphrase");
	buf_clear(&p.key);
	add_key(&p.key, other, NULL);
	assert_useless(&p, "not that of the certificate");
	buf_clear(&p.key);
	buf_puts(&p.key, "no key");
	assert_useless(&p, "key");
	buf_clear(&p.key);
	add_key(&p.key, key, NULL);
	buf_clear(&p.cert);
	buf_puts(&p.cert, "no certificate");
	assert_useless(&p, "certificate");
	buf_clear(&p.cert);
	add_cert(&p.cert, bed->alice);
	buf_clear(&p.chain);
	buf_puts(&p.chain, "no chain");
	assert_useless(&p, "chain");
	buf_clear(&p.chain);
	for (int i = 0; i < LIMIT_CERTS_IN_MESSAGE; i++)
		add_cert(&p.chain, bed->root);
	assert_useless(&p, "a chain of");
	EVP_PKEY_free(other);
	pems_release(&p);
}

static void
too_large(void **state)
{
	struct pems p = pems_of(*state);
	CLEANUP_BUF struct buf message = BUF_INIT;
	CLEANUP_FREE char *large = xcalloc(1, LIMIT_MESSAGE_BYTES);
	struct smimesigner *s = NULL;
	struct err err = { 0 };

	assert_int_equal(smimesigner_new(&s, &p.key, &p.cert, NULL, &err), 0);
	assert_int_not_equal(smimesigner_sign(s, large, LIMIT_MESSAGE_BYTES, &message, &err), 0);
	assert_int_equal(err.code, CODE_LIMIT);
	smimesigner_free(s);
	pems_release(&p);
}

/* What came out although a call failed is as good as any. */
static void
no_memory(void **state)
{
	struct bed *bed = *state;
	struct pems p = pems_of(bed);
	bool struck = true;

	for (long n = 1; struck; n++) {
		CLEANUP_BUF struct buf message = BUF_INIT;
		struct err err = { 0 };
		int rc;

		fault_begin(FAULT_CRYPTO, n, ENOMEM);
		rc = sign_with(&p, &message, &err);
		struck = fault_end();
		if (rc == 0)
			assert_accepted_by_reader(bed, &message);
		else if (!struck || err.text[0] == '\0')
			fail_msg("call %ld (%s): '%s'", n, fault_name(), err.text);
	}
	pems_release(&p);
}

#define TEST(title, function) \
	{ \
		.name = title, .test_func = function, .setup_func = setup, \
		.teardown_func = teardown \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("what we sign is accepted", accepted),
		TEST("with what is no key, or another's, nothing is signed", useless),
		TEST("a text that would be too large is not", too_large),
		TEST("without memory there is a message or a reason", no_memory),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
