/*
 * chain.h - the judgement of one signer's certificate: chain, revocation, strength, purpose,
 * policy.
 *
 * Runs only in the verifier process, on the bytes that trustdir.h holds.  OpenSSL stands behind
 * it; its types are named here and nothing more.
 */
#ifndef VMI_CHAIN_H
#define VMI_CHAIN_H

#include "err.h"
#include "trustdir.h"
#include "verdict.h"

struct x509_st;
struct x509_store_st;
struct stack_st_X509;

/*
 * Judges the certificate of a signer.  The chain may consist of CAs of the trust directory alone;
 * others (certificates that came with the message, may be NULL) only serve for a better sentence.
 * Sets v->revoked and v->other_purpose whatever the result.  On success *store holds the CAs and
 * the authentic CRLs with all flags set; the caller frees it with X509_STORE_free().
 */
int chain_judge(const struct trustdir *trust, struct x509_st *signer,
		const struct stack_st_X509 *others, struct verdict *v,
		struct x509_store_st **store, struct err *err);

/* Key too weak (CODE_WEAK) or too large to be verified cheaply (CODE_LIMIT). */
int chain_judge_key(struct x509_st *signer, struct err *err);

/*
 * X509_NAME_oneline() of any length, subject or issuer; caller frees; NULL if it cannot be written.
 */
char *chain_subject(const struct x509_st *cert);
char *chain_issuer(const struct x509_st *cert);
long long chain_not_after(const struct x509_st *cert);	/* seconds UTC, 0 if it makes no sense */

#endif
