/*
 * A signer's certificate, judged: what no CA of a trust directory should have signed, and chains
 * that are longer, larger or older than is accepted.  All certificates are made here; those of
 * everyday life are tried in tests/spec/trust.sh.
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

#include <openssl/bn.h>
#include <openssl/cms.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "core/chain.h"
#include "core/chain_impl.h"
#include "core/cleanup.h"
#include "core/limits.h"
#include "core/smime.h"
#include "core/trustdir.h"
#include "tests/lib/callfaults.h"

/* ---- judging --------------------------------------------------------------------------------- */

static int
judge(struct bed *bed, X509 *signer, struct err *err)
{
	X509_STORE *store = NULL;
	struct verdict v;
	int rc = 0;

	err_clear(err);
	if (bed->trust == NULL)
		rc = trustdir_load(bed->path, &bed->trust, err);
	verdict_init(&v);
	if (rc == 0)
		rc = chain_judge(bed->trust, signer, NULL, &v, &store, err);
	assert_true((rc == 0) == (store != NULL));
	X509_STORE_free(store);
	verdict_release(&v);
	return rc;
}

/* Refused with this code, and a sentence that has these words in it. */
static void
assert_refused(struct bed *bed, X509 *signer, enum code code, const char *words)
{
	struct err err;

	assert_int_not_equal(judge(bed, signer, &err), 0);
	if (err.code != code || strstr(err.text, words) == NULL)
		fail_msg("%d %s", (int)err.code, err.text);
}

static void
assert_accepted(struct bed *bed, X509 *signer)
{
	struct err err;

	if (judge(bed, signer, &err) != 0)
		fail_msg("%s", err.text);
}

static void
signed_by_a_ca(void **state)
{
	struct bed *bed = *state;

	assert_accepted(bed, bed->alice);
}

static void
proxy(void **state)
{
	struct bed *bed = *state;
	X509 *made = certificate(name_of("alice/proxy", 11), bed->root, "critical,CA:FALSE",
				 "critical,digitalSignature");
	X509 *cert;

	extend(made, bed->root, NID_proxyCertInfo, "critical,language:id-ppl-inheritAll");
	X509_sign(made, key, EVP_sha256());
	/* What it is was noted when it was first signed. */
	cert = X509_dup(made);
	assert_refused(bed, cert, CODE_SIGNATURE, "proxy");
	X509_free(cert);
	X509_free(made);
}

static void
may_not_sign(void **state)
{
	struct bed *bed = *state;
	X509 *cert = certificate(name_of("bob", 3), bed->root, "critical,CA:FALSE",
				 "critical,keyEncipherment");

	assert_refused(bed, cert, CODE_SIGNATURE, "keyUsage");
	X509_free(cert);
}

/* The signer's own CA is not asked when the one above it may not have made that CA. */
static void
policy_of_each_level(void **state)
{
	struct bed *bed = *state;
	X509 *inner = ca("inner", bed->root), *bob = user("bob", inner), *eve = user("eve", inner);

	trust_ca(bed, inner, "/CN=b*");
	assert_accepted(bed, bob);
	assert_refused(bed, eve, CODE_NAMESPACE, "eve");
	X509_free(inner);
	X509_free(bob);
	X509_free(eve);
}

/* One that is among the trusted CAs itself: then nobody is above who could be asked. */
static void
signs_for_itself(void **state)
{
	struct bed *bed = *state;
	X509 *self = certificate(name_of("self", 4), NULL, "critical,CA:TRUE",
				 "critical,digitalSignature,keyCertSign,cRLSign");

	assert_refused(bed, self, CODE_SIGNATURE, "");
	trust_ca(bed, self, "/CN=s*");
	trustdir_free(bed->trust);
	bed->trust = NULL;
	assert_accepted(bed, self);
	trust_ca(bed, self, "/CN=b*");
	trustdir_free(bed->trust);
	bed->trust = NULL;
	assert_refused(bed, self, CODE_NAMESPACE, "self");
	X509_free(self);
}

/* n CAs below each other, and a signer below the last. */
static X509 *
signer_below(struct bed *bed, int n)
{
	X509 *issuer = bed->root, *signer;

	X509_up_ref(issuer);
	for (int i = 1; i < n; i++) {
		CLEANUP_FREE char *name = xasprintf("level %d", i);
		X509 *next = ca(name, issuer);

		trust_ca(bed, next, "/CN=*");
		X509_free(issuer);
		issuer = next;
	}
	signer = user("far below", issuer);
	X509_free(issuer);
	return signer;
}

static void
as_deep_as_may_be(void **state)
{
	X509 *signer = signer_below(*state, LIMIT_CHAIN_DEPTH);

	assert_accepted(*state, signer);
	X509_free(signer);
}

static void
too_deep(void **state)
{
	X509 *signer = signer_below(*state, LIMIT_CHAIN_DEPTH + 1);

	assert_refused(*state, signer, CODE_SIGNATURE, "more than 12 CAs");
	X509_free(signer);
}

/* A megabyte of what is written with four characters each. */
static X509_NAME *
endless_name(void)
{
	enum { LEN = 300000 };
	CLEANUP_FREE char *text = xcalloc(1, LEN);

	memset(text, 1, LEN);
	return name_of(text, LEN);
}

static void
endless_subject(void **state)
{
	struct bed *bed = *state;
	X509 *bob = certificate(endless_name(), bed->root, "critical,CA:FALSE",
				"critical,digitalSignature");

	assert_refused(bed, bob, CODE_LIMIT, "too long");
	X509_free(bob);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static X509 *
with_rsa_key(int bits)
{
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	BIGNUM *n = BN_new(), *e = BN_new();
	EVP_PKEY *rsa = NULL;
	OSSL_PARAM *params;
	X509 *cert = X509_new();

	BN_set_word(e, 65537);
	BN_set_bit(n, bits - 1);
	BN_set_bit(n, 0);
	OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n);
	OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e);
	params = OSSL_PARAM_BLD_to_param(build);
	if (EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &rsa, EVP_PKEY_PUBLIC_KEY, params) != 1)
		fail_msg("no key of %d bits", bits);
	X509_set_pubkey(cert, rsa);
	EVP_PKEY_free(rsa);
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(build);
	BN_free(n);
	BN_free(e);
	return cert;
}

static void
assert_key(int bits, enum code code)
{
	X509 *cert = with_rsa_key(bits);
	struct err err = { 0 };
	int rc = chain_judge_key(cert, &err);

	assert_int_equal(err.code, code);
	assert_true((rc == 0) == (code == CODE_NONE));
	X509_free(cert);
}

static void
sizes_of_keys(void **state)
{
	(void)state;
	assert_key(1024, CODE_WEAK);
	assert_key(2048, CODE_NONE);
	assert_key(LIMIT_RSA_BITS, CODE_NONE);
	assert_key(LIMIT_RSA_BITS + 8, CODE_LIMIT);
}

static void
no_key(void **state)
{
	X509 *cert = X509_new();
	struct err err = { 0 };

	(void)state;
	assert_int_not_equal(chain_judge_key(cert, &err), 0);
	assert_int_equal(err.code, CODE_WEAK);
	X509_free(cert);
}

/* ---- CRLs ------------------------------------------------------------------------------------ */

/* A CRL that says it is signed with this. */
static const char *
fault_of_crl(struct bed *bed, int signature_nid)
{
	struct chain c = { .cas = sk_X509_new_null() };
	X509_CRL *crl = crl_of(bed->root, NULL);
	const X509_ALGOR *algorithm;
	const char *fault;

	sk_X509_push(c.cas, bed->root);
	X509_CRL_get0_signature(crl, NULL, &algorithm);
	if (signature_nid != NID_undef)
		X509_ALGOR_set0((X509_ALGOR *)(uintptr_t)algorithm, OBJ_nid2obj(signature_nid),
				V_ASN1_NULL, NULL);
	fault = chain_crl_fault(&c, crl, X509_get_subject_name(bed->root));
	X509_CRL_free(crl);
	sk_X509_free(c.cas);
	return fault;
}

static void
broken_digests(void **state)
{
	static const int broken[] = { NID_md2WithRSAEncryption, NID_md4WithRSAEncryption,
				      NID_md5WithRSAEncryption, NID_mdc2WithRSA,
				      NID_rsaEncryption };

	assert_null(fault_of_crl(*state, NID_undef));
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		assert_string_equal(fault_of_crl(*state, broken[i]),
				    "it is signed with a broken digest (MD5)");
}

/* ---- messages -------------------------------------------------------------------------------- */

static void
verify(struct bed *bed, CMS_ContentInfo *cms, BIO *text, int flags, struct verdict *v)
{
	BIO *out = BIO_new(BIO_s_mem());
	struct err err;
	char *data;
	long len;

	if (bed->trust == NULL && trustdir_load(bed->path, &bed->trust, &err) != 0)
		fail_msg("%s", err.text);
	if (cms == NULL || !SMIME_write_CMS(out, cms, text, flags))
		fail_msg("no message");
	len = BIO_get_mem_data(out, &data);
	verdict_init(v);
	smime_verify(bed->trust, data, (size_t)len, v);
	BIO_free(out);
	CMS_ContentInfo_free(cms);
	BIO_free(text);
}

static CMS_ContentInfo *
sign(X509 *signer, const EVP_MD *digest, BIO *text)
{
	CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, CMS_DETACHED | CMS_PARTIAL);

	if (cms == NULL ||
	    CMS_add1_signer(cms, signer, key, digest, CMS_DETACHED | CMS_PARTIAL) == NULL ||
	    !CMS_final(cms, text, NULL, CMS_DETACHED))
		fail_msg("cannot sign");
	(void)BIO_reset(text);
	return cms;
}

static void
digests_of_messages(void **state)
{
	struct bed *bed = *state;
	const EVP_MD *good[] = { EVP_sha256(), EVP_sha384(), EVP_sha512() };
	struct verdict v;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		BIO *text = BIO_new_mem_buf("a text\r\n", 8);

		verify(bed, sign(bed->alice, good[i], text), text, CMS_DETACHED | CMS_REUSE_DIGEST,
		       &v);
		if (v.rc != 0 || v.weak_digest)
			fail_msg("%s: %s", EVP_MD_get0_name(good[i]), v.text);
		assert_int_equal(v.payload.len, 8);
		verdict_release(&v);
	}
}

static void
assert_message_refused(struct bed *bed, CMS_ContentInfo *cms, BIO *text, const char *words)
{
	struct verdict v;

	verify(bed, cms, text, CMS_DETACHED | CMS_REUSE_DIGEST, &v);
	if (v.code != CODE_SIGNATURE || strstr(v.text, words) == NULL)
		fail_msg("%d %s", (int)v.code, v.text);
	assert_int_equal(v.payload.len, 0);
	verdict_release(&v);
}

static void
number_of_signers(void **state)
{
	const unsigned flags = CMS_DETACHED | CMS_PARTIAL;
	struct bed *bed = *state;
	X509 *bob = user("bob", bed->root);
	BIO *text = BIO_new_mem_buf("a text\r\n", 8);
	CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, flags);

	CMS_add1_cert(cms, bed->alice);
	CMS_final(cms, text, NULL, CMS_DETACHED);
	(void)BIO_reset(text);
	assert_message_refused(bed, cms, text, "nobody signed");
	text = BIO_new_mem_buf("a text\r\n", 8);
	cms = CMS_sign(NULL, NULL, NULL, NULL, flags);
	CMS_add1_signer(cms, bed->alice, key, EVP_sha256(), flags);
	CMS_add1_signer(cms, bob, key, EVP_sha256(), flags);
	CMS_final(cms, text, NULL, CMS_DETACHED);
	(void)BIO_reset(text);
	assert_message_refused(bed, cms, text, "2 signatures");
	X509_free(bob);
}

static void
other_digest(void **state)
{
	struct bed *bed = *state;
	BIO *text = BIO_new_mem_buf("a text\r\n", 8);
	struct verdict v;

	verify(bed, sign(bed->alice, EVP_sha224(), text), text, CMS_DETACHED | CMS_REUSE_DIGEST,
	       &v);
	assert_int_equal(v.code, CODE_WEAK);
	verdict_release(&v);
}

static void
encrypted(void **state)
{
	struct bed *bed = *state;
	STACK_OF(X509) *to = sk_X509_new_null();
	BIO *text = BIO_new_mem_buf("a text\r\n", 8);
	struct verdict v;

	sk_X509_push(to, bed->alice);
	verify(bed, CMS_encrypt(to, text, EVP_aes_128_cbc(), 0), NULL, 0, &v);
	assert_int_equal(v.code, CODE_SIGNATURE);
	assert_non_null(strstr(v.text, "encrypted"));
	verdict_release(&v);
	sk_X509_free(to);
	BIO_free(text);
}

static void
assert_nameless(struct bed *bed, X509 *signer)
{
	BIO *text = BIO_new_mem_buf("a text\r\n", 8);
	struct verdict v;

	verify(bed, sign(signer, EVP_sha256(), text), text, CMS_DETACHED | CMS_REUSE_DIGEST, &v);
	assert_int_equal(v.code, CODE_SIGNATURE);
	assert_non_null(strstr(v.text, "empty or oversized name"));
	verdict_release(&v);
}

static void
names_that_cannot_be_shown(void **state)
{
	struct bed *bed = *state;
	X509 *above = certificate(endless_name(), NULL, "critical,CA:TRUE",
				  "critical,keyCertSign,cRLSign");
	X509 *bob = user("bob", above);
	X509 *eve = certificate(endless_name(), bed->root, "critical,CA:FALSE",
				"critical,digitalSignature");
	X509 *nobody = certificate(X509_NAME_new(), bed->root, "critical,CA:FALSE",
				   "critical,digitalSignature");

	assert_nameless(bed, bob);
	assert_nameless(bed, eve);
	assert_nameless(bed, nobody);
	X509_free(above);
	X509_free(bob);
	X509_free(eve);
	X509_free(nobody);
}

/* ---- a disk that does not answer ------------------------------------------------------------- */

/* Judges alice anew while the nth call fails; false: there are not so many. */
static bool
judge_with_fault(struct bed *bed, long n, int *rc, struct err *err)
{
	trustdir_free(bed->trust);
	bed->trust = NULL;
	fault_begin(FAULT_FILES, n, EIO);
	*rc = judge(bed, bed->alice, err);
	return fault_end();
}

/*
 * In any file there may be what revokes: as long as one cannot be read there is no verdict, but
 * that of a file which revokes already.
 */
static void
assert_no_verdict(struct bed *bed, const char *revoked)
{
	struct err err;
	int n_none = 0, rc;

	for (long n = 1; judge_with_fault(bed, n, &rc, &err); n++) {
		if (rc == 0)
			fail_msg("call %ld (%s) fails, and she is accepted", n, fault_name());
		else if (err.code == CODE_NONE)
			n_none++;
		else if (revoked == NULL || strstr(err.text, revoked) == NULL)
			fail_msg("call %ld (%s): %d %s", n, fault_name(), (int)err.code, err.text);
	}
	assert_true(n_none > 10);
}

static void
no_answer(void **state)
{
	struct bed *bed = *state;

	assert_no_verdict(bed, NULL);
	put_crl(bed, bed->root, bed->alice);
	assert_no_verdict(bed, "revoked");
}

static void
revoked_beside(void **state)
{
	struct bed *bed = *state;
	BIO *other = BIO_new_mem_buf("not to be read", -1);
	bool said = false;
	struct err err;
	int rc;

	put(bed, X509_get_subject_name(bed->root), "r7", other);
	put_crl(bed, bed->root, bed->alice);
	for (long n = 1; !said && judge_with_fault(bed, n, &rc, &err); n++)
		said = err.code == CODE_SIGNATURE && strstr(err.text, "revoked") != NULL;
	assert_true(said);
}

/* ---- no memory ------------------------------------------------------------------------------- */

static void
no_memory(void **state)
{
	struct bed *bed = *state;
	bool struck = true;

	put_crl(bed, bed->root, bed->alice);
	assert_refused(bed, bed->alice, CODE_SIGNATURE, "revoked");
	for (long n = 1; struck; n++) {
		struct err err;
		int rc;

		fault_begin(FAULT_CRYPTO, n, ENOMEM);
		rc = judge(bed, bed->alice, &err);
		struck = fault_end();
		if (rc == 0)
			fail_msg("call %ld (%s) fails, and it is accepted", n, fault_name());
		if (err.code == CODE_NONE)
			fail_msg("call %ld (%s) fails without a code", n, fault_name());
	}
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
		TEST("who is certified by a trusted CA may sign", signed_by_a_ca),
		TEST("a proxy certificate signs nothing", proxy),
		TEST("a key that is not for signing signs nothing", may_not_sign),
		TEST("the policy of each CA is asked for what it signed", policy_of_each_level),
		TEST("the policy is asked for who signs for itself, too", signs_for_itself),
		TEST("as many CAs above each other as are allowed", as_deep_as_may_be),
		TEST("one more is too many", too_deep),
		TEST("a signer with an endless name is refused", endless_subject),
		TEST("keys are neither too small nor too large", sizes_of_keys),
		TEST("a certificate without a key is refused", no_key),
		TEST("a CRL that is signed with a broken digest does not count", broken_digests),
		TEST("messages are signed with SHA-256, SHA-384 or SHA-512", digests_of_messages),
		TEST("and with no other digest", other_digest),
		TEST("a message has one signer", number_of_signers),
		TEST("an encrypted message is refused", encrypted),
		TEST("a signer whose name cannot be shown is refused", names_that_cannot_be_shown),
		TEST("what cannot be read at the moment accepts and refuses nobody", no_answer),
		TEST("who is revoked by what can be read is refused", revoked_beside),
		TEST("without memory nobody is accepted who is revoked", no_memory),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
