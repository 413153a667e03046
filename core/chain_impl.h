/*
 * chain_impl.h - what chain.c finds out and chain_explain.c puts into words.  For those two alone.
 */
#ifndef VMI_CHAIN_IMPL_H
#define VMI_CHAIN_IMPL_H

#include <stdbool.h>

#include "chain.h"

/* OpenSSL's types under their own tags: no header of ours includes one of a library. */
struct asn1_string_st;		/* ASN1_TIME */
struct bio_st;			/* BIO */
struct stack_st_X509_CRL;	/* STACK_OF(X509_CRL) */
struct X509_crl_st;		/* X509_CRL */
struct X509_name_st;		/* X509_NAME */

enum {
	STEM_BYTES = 9,		/* eight digits and a NUL */
	N_STEMS = 2,		/* a name has a hash of today and one of OpenSSL 0.9 */
};

/* How much a fault weighs: the heaviest is told. */
enum weight {
	WEIGHT_NONE,
	WEIGHT_CRL,
	WEIGHT_WEAK,
	WEIGHT_OTHER,
	WEIGHT_DATE,
	WEIGHT_BROKEN,		/* no chain to the trust directory */
	WEIGHT_REVOKED,
};

struct fault {
	enum weight weight;
	int error;		/* X509_V_ERR_... */
	struct x509_st *cert;	/* where it was found; a reference */
	struct X509_crl_st *crl;/* for WEIGHT_CRL, may be NULL; a reference */
};

struct chain {
	const struct trustdir *trust;
	struct x509_st *signer;			/* borrowed */
	const struct stack_st_X509 *others;	/* borrowed */
	struct x509_store_st *store;
	struct stack_st_X509 *cas;
	struct stack_st_X509_CRL *crls;	/* authentic ones, also expired */
	struct stack_st_X509 *built;
	struct fault fault;
	/* A CA or CRL file that may say more another time; borrowed. */
	const struct trust_file *trouble;
};

/* The stems under which files of this name are kept. */
void chain_stems(const struct X509_name_st *name, char stems[N_STEMS][STEM_BYTES]);
long long chain_seconds(const struct asn1_string_st *time);	/* UTC, 0 if it makes no sense */

/* A memory BIO on the file's bytes, and whether they are PEM; NULL if the file cannot be used. */
struct bio_st *chain_open(const struct trust_file *f, bool *pem);
struct X509_crl_st *chain_next_crl(struct bio_st *in, bool pem);

/* Why a CRL does not count for the CAs of this name; NULL if it does. */
const char *chain_crl_fault(const struct chain *c, struct X509_crl_st *crl,
			    const struct X509_name_st *name);
/* Whether a CA that was found has this name. */
bool chain_has_name(const struct chain *c, const struct X509_name_st *name);

/* The refusal for c->fault, whose weight is not WEIGHT_NONE. */
int chain_explain(const struct chain *c, struct err *err);

#endif
