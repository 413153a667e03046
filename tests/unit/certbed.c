#include "config.h"
#include "tests/unit/certbed.h"

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

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "core/chain.h"
#include "core/chain_impl.h"
#include "core/cleanup.h"
#include "core/io.h"
#include "core/smime.h"
#include "core/trustdir.h"
#include "tests/lib/removetree.h"

struct evp_pkey_st *key;

/* ---- making certificates --------------------------------------------------------------------- */

X509_NAME *
name_of(const char *text, size_t len)
{
	X509_NAME *name = X509_NAME_new();

	/* A CN would have to be short. */
	const char *kind = len < 64 ? "CN" : "UID";

	if (!X509_NAME_add_entry_by_txt(name, kind, MBSTRING_ASC, (const unsigned char *)text,
					(int)len, -1, 0))
		fail_msg("no name");
	return name;
}

void
extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *ext;
	CONF *conf = NCONF_new(NULL);
	X509V3_CTX ctx;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509V3_set_nconf(&ctx, conf);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (ext == NULL || !X509_add_ext(cert, ext, -1))
		fail_msg("no extension %s: %s", value,
			 ERR_reason_error_string(ERR_peek_last_error()));
	X509_EXTENSION_free(ext);
	NCONF_free(conf);
}

X509 *
certificate(X509_NAME *name, X509 *issuer, const char *constraints, const char *usage)
{
	static long serial;
	X509 *cert = X509_new();

	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(cert), -DAY);
	X509_gmtime_adj(X509_getm_notAfter(cert), DAY);
	X509_set_subject_name(cert, name);
	X509_set_issuer_name(cert, issuer != NULL ? X509_get_subject_name(issuer) : name);
	X509_set_pubkey(cert, key);
	X509_NAME_free(name);
	extend(cert, cert, NID_subject_key_identifier, "hash");
	extend(cert, issuer != NULL ? issuer : cert, NID_authority_key_identifier, "keyid:always");
	extend(cert, issuer, NID_basic_constraints, constraints);
	if (usage != NULL)
		extend(cert, issuer, NID_key_usage, usage);
	X509_sign(cert, key, EVP_sha256());
	return cert;
}

X509 *
ca(const char *name, X509 *issuer)
{
	return certificate(name_of(name, strlen(name)), issuer, "critical,CA:TRUE",
			   "critical,keyCertSign,cRLSign");
}

X509 *
user(const char *name, X509 *issuer)
{
	return certificate(name_of(name, strlen(name)), issuer, "critical,CA:FALSE",
			   "critical,digitalSignature");
}

/* ---- the trust directory --------------------------------------------------------------------- */

void
put(struct bed *bed, const X509_NAME *name, const char *suffix, BIO *bio)
{
	char stems[N_STEMS][STEM_BYTES];
	CLEANUP_FREE char *file = NULL;
	char *data;
	long len = BIO_get_mem_data(bio, &data);

	chain_stems(name, stems);
	file = xasprintf("%s.%s", stems[0], suffix);
	assert_int_equal(io_replace_file(bed->fd, file, 0644, data, (size_t)len), 0);
	BIO_free(bio);
}

X509_CRL *
crl_of(X509 *issuer, X509 *revoked)
{
	X509_CRL *crl = X509_CRL_new();
	X509V3_CTX ctx;
	ASN1_TIME *t = ASN1_TIME_new();
	X509_EXTENSION *ext;

	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer));
	X509_CRL_set1_lastUpdate(crl, X509_gmtime_adj(t, -DAY));
	if (revoked != NULL) {
		X509_REVOKED *entry = X509_REVOKED_new();

		X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked));
		X509_REVOKED_set_revocationDate(entry, t);
		X509_CRL_add0_revoked(crl, entry);
	}
	X509_CRL_set1_nextUpdate(crl, X509_gmtime_adj(t, DAY));
	ASN1_TIME_free(t);
	X509V3_set_ctx(&ctx, issuer, NULL, NULL, crl, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, NID_authority_key_identifier, "keyid:always");
	X509_CRL_add_ext(crl, ext, -1);
	X509_EXTENSION_free(ext);
	X509_CRL_sign(crl, key, EVP_sha256());
	return crl;
}

void
put_crl(struct bed *bed, X509 *issuer, X509 *revoked)
{
	X509_CRL *crl = crl_of(issuer, revoked);
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_X509_CRL(bio, crl);
	put(bed, X509_get_subject_name(issuer), "r0", bio);
	X509_CRL_free(crl);
}

void
trust_ca(struct bed *bed, X509 *cert, const char *may_sign)
{
	const X509_NAME *name = X509_get_subject_name(cert);
	CLEANUP_FREE char *subject = chain_subject(cert);
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_X509(bio, cert);
	put(bed, name, "0", bio);
	put_crl(bed, cert, NULL);
	if (subject == NULL)
		return;
	bio = BIO_new(BIO_s_mem());
	BIO_printf(bio,
		   "access_id_CA X509 '%s'\npos_rights globus CA:sign\n"
		   "cond_subjects globus '\"%s\"'\n",
		   subject, may_sign);
	put(bed, name, "signing_policy", bio);
}

int
group_setup(void **state)
{
	struct err err;

	(void)state;
	key = EVP_EC_gen("P-256");
	return key != NULL && smime_init(&err) == 0 ? 0 : -1;
}

int
group_teardown(void **state)
{
	(void)state;
	EVP_PKEY_free(key);
	return 0;
}

int
setup(void **state)
{
	struct bed *bed = xcalloc(1, sizeof(*bed));

	snprintf(bed->path, sizeof(bed->path), "/tmp/test_chain.XXXXXX");
	if (mkdtemp(bed->path) == NULL)
		return -1;
	bed->fd = open(bed->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bed->root = ca("root", NULL);
	bed->alice = user("alice", bed->root);
	trust_ca(bed, bed->root, "/CN=*");
	*state = bed;
	return 0;
}

int
teardown(void **state)
{
	struct bed *bed = *state;

	trustdir_free(bed->trust);
	X509_free(bed->root);
	X509_free(bed->alice);
	close(bed->fd);
	remove_tree(bed->path);
	free(bed);
	return 0;
}
