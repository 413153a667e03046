/*
 * chain.c - from a signer's certificate to a CA of the trust directory, with a CRL at every level.
 *
 * The steps, in order:
 *
 *   gather   From the signer's issuer upwards, the CA files whose hash is that of the name wanted,
 *            and the CRL files beside them.  A CRL counts only if a CA of that name signed it:
 *            a forged one can neither revoke nor clear anything.
 *   build    X509_verify_cert() with CRL_CHECK_ALL and X509_STRICT over those CAs and CRLs alone.
 *            It is told to go on after each fault, and the weightiest fault is kept, so that the
 *            answer does not depend on the order in which OpenSSL looks at things.
 *   revoked  Each certificate of the chain against every authentic CRL, expired ones too: a
 *            revocation does not lapse because nobody has fetched a newer CRL.
 *   judge    The faults, the purpose, and the policy files, which OpenSSL knows nothing of.
 *
 * A CA or CRL file that cannot be read at the moment could hold a revocation, or what all depends
 * on: then there is no verdict, unless another file already says revoked.
 *
 * The store is made anew for each message and has no lookup method: X509_LOOKUP_hash_dir opens
 * files in the middle of a verification, when this process can no longer open any.
 */
#include "config.h"
#include "chain.h"

#include <stdint.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "chain_impl.h"
#include "cleanup.h"
#include "limits.h"

enum {
	AUTH_LEVEL = 2,		/* 112 bits: RSA-2048, SHA-224 and better */
	MIN_SECURITY_BITS = 112,
	MAX_CAS = 4 * LIMIT_CHAIN_DEPTH,	/* of one chain, with renewed ones */
};

/* ---- names and times ---------------------------------------------------- */

/* With a buffer of ours X509_NAME_oneline() would cut a long name in silence. */
static char *
name_text(const X509_NAME *name)
{
	char *line = X509_NAME_oneline(name, NULL, 0), *copy;

	if (line == NULL)
		return NULL;
	copy = xstrdup(line);
	OPENSSL_free(line);
	return copy;
}

char *
chain_subject(const struct x509_st *cert)
{
	return name_text(X509_get_subject_name(cert));
}

char *
chain_issuer(const struct x509_st *cert)
{
	return name_text(X509_get_issuer_name(cert));
}

long long
chain_seconds(const ASN1_TIME *time)
{
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	int days = 0, seconds = 0, ok;

	ok = epoch != NULL && time != NULL && ASN1_TIME_diff(&days, &seconds, epoch, time);
	ASN1_TIME_free(epoch);
	return ok ? days * 86400LL + seconds : 0;
}

long long
chain_not_after(const struct x509_st *cert)
{
	return chain_seconds(X509_get0_notAfter(cert));
}

void
chain_stems(const X509_NAME *name, char stems[N_STEMS][STEM_BYTES])
{
	unsigned long hash[N_STEMS];

	hash[0] = X509_NAME_hash_ex(name, NULL, NULL, NULL);
	hash[1] = X509_NAME_hash_old(name);
	for (int i = 0; i < N_STEMS; i++)
		snprintf(stems[i], STEM_BYTES, "%08x", (unsigned)(hash[i] & 0xffffffffUL));
}

/* ---- gather ------------------------------------------------------------- */

/* Without a password OpenSSL asks the terminal for one when a PEM block says it is encrypted. */
static char no_password[] = "";

static X509 *
next_certificate(BIO *in, bool pem)
{
	if (pem)
		return PEM_read_bio_X509_AUX(in, NULL, NULL, no_password);
	return d2i_X509_bio(in, NULL);
}

X509_CRL *
chain_next_crl(BIO *in, bool pem)
{
	if (pem)
		return PEM_read_bio_X509_CRL(in, NULL, NULL, no_password);
	return d2i_X509_CRL_bio(in, NULL);
}

BIO *
chain_open(const struct trust_file *f, bool *pem)
{
	if (f->problem != NULL || f->len == 0)
		return NULL;
	*pem = ((const unsigned char *)f->data)[0] != 0x30;
	return BIO_new_mem_buf(f->data, (int)f->len);
}

static bool
has_ca(const struct chain *c, const X509 *cert)
{
	for (int i = 0; i < sk_X509_num(c->cas); i++)
		if (X509_cmp(sk_X509_value(c->cas, i), cert) == 0)
			return true;
	return false;
}

/* The CAs of this name in one file. */
static void
gather_ca_file(struct chain *c, const struct trust_file *f, const X509_NAME *name)
{
	bool pem = false;
	BIO *in = chain_open(f, &pem);
	X509 *cert;

	while (in != NULL && (cert = next_certificate(in, pem)) != NULL) {
		if (sk_X509_num(c->cas) < MAX_CAS && !has_ca(c, cert) &&
		    X509_NAME_cmp(X509_get_subject_name(cert), name) == 0 &&
		    X509_STORE_add_cert(c->store, cert) && sk_X509_push(c->cas, cert))
			cert = NULL;
		X509_free(cert);
	}
	BIO_free(in);
	ERR_clear_error();
}

/* Nothing that is signed with these proves anything; SHA-1 still does for the words of a CA. */
static bool
digest_is_broken(int signature_nid)
{
	int digest = NID_undef, key = NID_undef;

	if (!OBJ_find_sigid_algs(signature_nid, &digest, &key))
		return true;
	return digest == NID_md2 || digest == NID_md4 || digest == NID_md5 || digest == NID_mdc2;
}

const char *
chain_crl_fault(const struct chain *c, X509_CRL *crl, const X509_NAME *name)
{
	if (X509_NAME_cmp(X509_CRL_get_issuer(crl), name) != 0)
		return "it was issued by another CA";
	if (digest_is_broken(X509_CRL_get_signature_nid(crl)))
		return "it is signed with a broken digest (MD5)";
	for (int i = 0; i < sk_X509_num(c->cas); i++) {
		X509 *ca = sk_X509_value(c->cas, i);
		EVP_PKEY *key = X509_get0_pubkey(ca);

		if (X509_NAME_cmp(X509_get_subject_name(ca), name) == 0 && key != NULL &&
		    X509_CRL_verify(crl, key) == 1)
			return NULL;
	}
	return "it is not signed by that CA (forged or damaged)";
}

static void
gather_crl_file(struct chain *c, const struct trust_file *f, const X509_NAME *name)
{
	bool pem = false;
	BIO *in = chain_open(f, &pem);
	X509_CRL *crl;

	while (in != NULL && (crl = chain_next_crl(in, pem)) != NULL) {
		/* Without nextUpdate (RFC 5280 section 5.1.2.5) it would stay in date for ever. */
		if (chain_crl_fault(c, crl, name) == NULL &&
		    (X509_CRL_get0_nextUpdate(crl) == NULL || X509_STORE_add_crl(c->store, crl)) &&
		    sk_X509_CRL_push(c->crls, crl))
			crl = NULL;
		X509_CRL_free(crl);
	}
	BIO_free(in);
	ERR_clear_error();
}

static void
gather_kind(struct chain *c, enum trust_kind kind, const char *stem, const X509_NAME *name)
{
	const struct trust_file *f;

	for (size_t n = 0; (f = trustdir_find(c->trust, kind, stem, n)) != NULL; n++) {
		if (f->trouble != 0)
			c->trouble = f;
		else if (kind == TRUST_CA)
			gather_ca_file(c, f, name);
		else
			gather_crl_file(c, f, name);
	}
}

/* Every CA of this name, then the CRLs that one of them signed. */
static void
gather_name(struct chain *c, const X509_NAME *name)
{
	char stems[N_STEMS][STEM_BYTES];

	chain_stems(name, stems);
	for (int i = 0; i < N_STEMS; i++)
		gather_kind(c, TRUST_CA, stems[i], name);
	for (int i = 0; i < N_STEMS; i++)
		gather_kind(c, TRUST_CRL, stems[i], name);
}

bool
chain_has_name(const struct chain *c, const X509_NAME *name)
{
	for (int i = 0; i < sk_X509_num(c->cas); i++)
		if (X509_NAME_cmp(X509_get_subject_name(sk_X509_value(c->cas, i)), name) == 0)
			return true;
	return false;
}

/* c->cas grows while we walk it: each CA's issuer is wanted in its turn. */
static void
gather(struct chain *c)
{
	gather_name(c, X509_get_issuer_name(c->signer));
	for (int i = 0; i < sk_X509_num(c->cas); i++) {
		const X509_NAME *issuer = X509_get_issuer_name(sk_X509_value(c->cas, i));

		if (!chain_has_name(c, issuer))
			gather_name(c, issuer);
	}
}

/* ---- build -------------------------------------------------------------- */

static enum weight
error_weight(int error)
{
	switch (error) {
	case X509_V_ERR_CERT_REVOKED:
		return WEIGHT_REVOKED;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		return WEIGHT_BROKEN;
	case X509_V_ERR_CERT_NOT_YET_VALID:
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return WEIGHT_DATE;
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
	case X509_V_ERR_CA_MD_TOO_WEAK:
		return WEIGHT_WEAK;
	case X509_V_ERR_UNABLE_TO_GET_CRL:
	case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
	case X509_V_ERR_CRL_SIGNATURE_FAILURE:
	case X509_V_ERR_CRL_NOT_YET_VALID:
	case X509_V_ERR_CRL_HAS_EXPIRED:
	case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
	case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
	case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
	case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
	case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
	case X509_V_ERR_DIFFERENT_CRL_SCOPE:
	case X509_V_ERR_CRL_PATH_VALIDATION_ERROR:
		return WEIGHT_CRL;
	default:
		return WEIGHT_OTHER;
	}
}

static void
note_fault(struct chain *c, int error, X509 *cert, X509_CRL *crl)
{
	struct fault *f = &c->fault;

	if (error_weight(error) <= f->weight)
		return;
	X509_free(f->cert);
	X509_CRL_free(f->crl);
	f->weight = error_weight(error);
	f->error = error;
	f->cert = cert;
	f->crl = crl;
	if (cert != NULL)
		X509_up_ref(cert);
	if (crl != NULL)
		X509_CRL_up_ref(crl);
}

/* Returns 1 whatever it is told: the fault is kept, and stays one. */
static int
on_verify(int ok, X509_STORE_CTX *ctx)
{
	struct chain *c = X509_STORE_CTX_get_app_data(ctx);

	if (!ok)
		note_fault(c, X509_STORE_CTX_get_error(ctx), X509_STORE_CTX_get_current_cert(ctx),
			   X509_STORE_CTX_get0_current_crl(ctx));
	return 1;
}

static int
build(struct chain *c, bool any_purpose, struct err *err)
{
	X509_VERIFY_PARAM *param = X509_STORE_get0_param(c->store);
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	int rc = 0;

	X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL |
				    X509_V_FLAG_X509_STRICT);
	X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
	X509_VERIFY_PARAM_set_depth(param, LIMIT_CHAIN_DEPTH);
	if (any_purpose)
		X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_ANY);
	if (ctx == NULL || !X509_STORE_CTX_init(ctx, c->store, c->signer, NULL) ||
	    !X509_STORE_CTX_set_default(ctx, "smime_sign")) {
		rc = err_refuse(err, CODE_LIMIT, "no memory to verify the certificate");
		goto out;
	}
	X509_STORE_CTX_set_app_data(ctx, c);
	X509_STORE_CTX_set_verify_cb(ctx, on_verify);
	if (X509_verify_cert(ctx) != 1 && c->fault.weight == WEIGHT_NONE)
		note_fault(c, X509_STORE_CTX_get_error(ctx), c->signer, NULL);
	c->built = X509_STORE_CTX_get1_chain(ctx);
	if (c->built == NULL || sk_X509_num(c->built) == 0)
		rc = err_refuse(err, CODE_SIGNATURE, "the certificate cannot be verified");
out:
	X509_STORE_CTX_free(ctx);
	ERR_clear_error();
	return rc;
}

/* ---- revoked ------------------------------------------------------------ */

/* A CRL that speaks of every certificate of its CA: silence in it clears. */
static bool
crl_is_complete(const X509_CRL *crl)
{
	return X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) < 0 &&
	    X509_CRL_get_ext_by_NID(crl, NID_issuing_distribution_point, -1) < 0;
}

/*
 * Listed in some authentic CRL, and in no newer complete one absent (a certificate on hold may be
 * released, and an old <hash>.r1 may lie about).
 */
static bool
is_revoked(const struct chain *c, X509 *cert)
{
	long long listed = INT64_MIN, cleared = INT64_MIN;

	for (int i = 0; i < sk_X509_CRL_num(c->crls); i++) {
		X509_CRL *crl = sk_X509_CRL_value(c->crls, i);
		long long when = chain_seconds(X509_CRL_get0_lastUpdate(crl));
		X509_REVOKED *entry = NULL;
		int found;

		if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_issuer_name(cert)) != 0)
			continue;
		found = X509_CRL_get0_by_cert(crl, &entry, cert);
		if (found == 1 && when > listed)
			listed = when;
		else if (found != 1 && crl_is_complete(crl) && when > cleared)
			cleared = when;
	}
	return listed != INT64_MIN && listed >= cleared;
}

static void
note_revoked(struct chain *c)
{
	for (int i = 0; i < sk_X509_num(c->built); i++)
		if (is_revoked(c, sk_X509_value(c->built, i)))
			note_fault(c, X509_V_ERR_CERT_REVOKED, sk_X509_value(c->built, i), NULL);
}

/* ---- judge -------------------------------------------------------------- */

int
chain_judge_key(struct x509_st *signer, struct err *err)
{
	EVP_PKEY *key = X509_get0_pubkey(signer);
	const char *type;
	int bits;

	if (key == NULL)
		return err_refuse(err, CODE_WEAK, "the key of the signer's certificate is of no"
				  " kind that is understood");
	bits = EVP_PKEY_get_bits(key);
	type = EVP_PKEY_get0_type_name(key);
	if (bits > LIMIT_RSA_BITS)
		return err_refuse(err, CODE_LIMIT, "the signer's %s key has %d bits; at most %d"
				  " are accepted",
				  type, bits, LIMIT_RSA_BITS);
	if (EVP_PKEY_get_security_bits(key) < MIN_SECURITY_BITS)
		return err_refuse(err, CODE_WEAK, "the signer's %s key of %d bits is too weak; RSA"
				  " needs 2048, elliptic curves 224", type, bits);
	return 0;
}

/* RFC 3820: whoever holds a proxy need not be the person it names. */
static int
judge_kind(X509 *signer, struct err *err)
{
	uint32_t flags = X509_get_extension_flags(signer);

	if ((flags & EXFLAG_PROXY) != 0)
		return err_refuse(err, CODE_SIGNATURE, "the list is signed with a proxy"
				  " certificate; it must be signed with the certificate of the"
				  " endorser");
	if ((flags & EXFLAG_INVALID) != 0)
		return err_refuse(err, CODE_SIGNATURE, "the signer's certificate has malformed"
				  " extensions");
	return 0;
}

/* X509_get_key_usage() has all bits set where there is no keyUsage. */
static int
judge_usage(X509 *signer, struct err *err)
{
	if ((X509_get_key_usage(signer) & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)) == 0)
		return err_refuse(err, CODE_SIGNATURE, "the signer's certificate may not sign: its"
				  " keyUsage has neither digitalSignature nor nonRepudiation");
	return 0;
}

/* Each certificate that a CA issued, the signer's own even if it is self-signed. */
static int
judge_policy(const struct chain *c, struct err *err)
{
	int n = sk_X509_num(c->built), rc = 0;

	for (int i = 0; i < n && rc == 0 && (i == 0 || i < n - 1); i++) {
		X509 *cert = sk_X509_value(c->built, i);
		CLEANUP_FREE char *subject = chain_subject(cert);
		CLEANUP_FREE char *issuer = chain_issuer(cert);
		char stems[N_STEMS][STEM_BYTES];
		const char *const names[N_STEMS] = { stems[0], stems[1] };

		if (subject == NULL || issuer == NULL)
			return err_refuse(err, CODE_LIMIT, "a name in the certificate chain is too"
					  " long");
		chain_stems(X509_get_issuer_name(cert), stems);
		rc = trustdir_permits(c->trust, names, N_STEMS, issuer, subject, err);
	}
	return rc;
}

static int
judge_depth(const struct chain *c, struct err *err)
{
	int depth = sk_X509_num(c->built) - 1;

	if (depth > LIMIT_CHAIN_DEPTH)
		return err_refuse(err, CODE_SIGNATURE, "the certificate chain has more than %d CAs",
				  LIMIT_CHAIN_DEPTH);
	return 0;
}

static int
judge(struct chain *c, struct verdict *v, struct err *err)
{
	int rc;

	rc = judge_kind(c->signer, err);
	if (rc != 0)
		return rc;
	v->other_purpose = X509_check_purpose(c->signer, X509_PURPOSE_SMIME_SIGN, 0) != 1;
	gather(c);
	rc = build(c, v->other_purpose, err);
	if (rc != 0)
		return rc;
	note_revoked(c);
	v->revoked = c->fault.weight == WEIGHT_REVOKED;
	if (c->fault.weight != WEIGHT_REVOKED) {
		rc = judge_usage(c->signer, err);
		if (rc != 0)
			return rc;
	}
	if (c->fault.weight != WEIGHT_NONE)
		return chain_explain(c, err);
	rc = judge_depth(c, err);
	return rc != 0 ? rc : judge_policy(c, err);
}

int
chain_judge(const struct trustdir *trust, struct x509_st *signer,
	    const struct stack_st_X509 *others, struct verdict *v, struct x509_store_st **store,
	    struct err *err)
{
	struct chain c = {
		.trust = trust, .signer = signer, .others = others,
		.store = X509_STORE_new(), .cas = sk_X509_new_null(),
		.crls = sk_X509_CRL_new_null(),
	};
	int rc;

	if (c.store == NULL || c.cas == NULL || c.crls == NULL) {
		rc = err_refuse(err, CODE_LIMIT, "no memory to verify the certificate");
		goto out;
	}
	rc = judge(&c, v, err);
	if (c.trouble != NULL && !v->revoked)
		rc = trustdir_trouble(c.trouble, err);
	if (rc != 0)
		goto out;
	*store = c.store;
	c.store = NULL;
out:
	X509_free(c.fault.cert);
	X509_CRL_free(c.fault.crl);
	sk_X509_pop_free(c.built, X509_free);
	sk_X509_CRL_pop_free(c.crls, X509_CRL_free);
	sk_X509_pop_free(c.cas, X509_free);
	X509_STORE_free(c.store);
	return rc;
}
