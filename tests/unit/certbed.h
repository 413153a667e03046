/*
 * certbed.h - CAs, the certificates and CRLs that they issue, and a trust directory of them.
 *
 * OpenSSL's types by their own names: X509 is struct x509_st.
 */
#ifndef VMI_TEST_CERTBED_H
#define VMI_TEST_CERTBED_H

#include <stddef.h>

struct X509_name_st;
struct X509_crl_st;
struct bio_st;
struct evp_pkey_st;
struct trustdir;
struct x509_st;

enum { DAY = 86400 };

struct bed {
	char path[64];
	int fd;
	struct trustdir *trust;
	struct x509_st *root, *alice;
};

extern struct evp_pkey_st *key;	/* everybody's: nothing here depends on whose a key is */

int group_setup(void **state);
int group_teardown(void **state);

/* A root that is trusted, and alice's certificate of it. */
int setup(void **state);
int teardown(void **state);

/* ---- certificates; the caller frees them ----------------------------------------------------- */

struct X509_name_st *name_of(const char *text, size_t len);

/*
 * Signed by issuer, or by itself (NULL).  Takes name.  The caller may extend it, and signs it then.
 */
struct x509_st *certificate(struct X509_name_st *name, struct x509_st *issuer,
			    const char *constraints, const char *usage);
void extend(struct x509_st *cert, struct x509_st *issuer, int nid, const char *value);
struct x509_st *ca(const char *name, struct x509_st *issuer);
struct x509_st *user(const char *name, struct x509_st *issuer);

/* It lists the certificate, if one is given. */
struct X509_crl_st *crl_of(struct x509_st *issuer, struct x509_st *revoked);

/* ---- the trust directory --------------------------------------------------------------------- */

/* Takes bio. */
void put(struct bed *bed, const struct X509_name_st *name, const char *suffix, struct bio_st *bio);
void put_crl(struct bed *bed, struct x509_st *issuer, struct x509_st *revoked);

/* A CA with its CRL and a policy by which it may sign whatever matches. */
void trust_ca(struct bed *bed, struct x509_st *cert, const char *may_sign);

#endif
