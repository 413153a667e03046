/*
 * chain_explain.c - a refused chain in one sentence: what is wrong, where, and what to do.
 *
 * Most refusals are mended by an admin who has never seen a certificate from the inside.  So the
 * sentence names the file that is missing, the date that has passed, the command to run.  A CRL
 * that was passed over while the chain was built is looked at again here, to say why.
 */
#include "config.h"
#include "chain_impl.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include "cleanup.h"
#include "stamp.h"

/* Says why the CA's CRL files do not serve, into out: "46cb6a7e.r0: larger than ... bytes". */
static void
explain_crl_files(const struct chain *c, const X509_NAME *ca, struct buf *out)
{
	const struct trustdir *t = c->trust;
	char stems[N_STEMS][STEM_BYTES];
	const struct trust_file *f;

	chain_stems(ca, stems);
	for (int i = 0; i < N_STEMS; i++) {
		for (size_t n = 0; (f = trustdir_find(t, TRUST_CRL, stems[i], n)) != NULL; n++) {
			bool pem = false;
			BIO *in = chain_open(f, &pem);
			X509_CRL *crl = in != NULL ? chain_next_crl(in, pem) : NULL;
			const char *why = f->problem;

			if (why == NULL && crl == NULL)
				why = "it cannot be parsed";
			if (why == NULL)
				why = chain_crl_fault(c, crl, ca);
			if (why == NULL && X509_CRL_get0_nextUpdate(crl) == NULL)
				why = "it has no nextUpdate";
			buf_printf(out, "%s'%s': %s", out->len != 0 ? "; " : "", f->name,
				   why != NULL ? why : "it does not cover the certificate");
			X509_CRL_free(crl);
			BIO_free(in);
		}
	}
	ERR_clear_error();
	if (out->len == 0)
		buf_printf(out, "there is no file '%s.r0'", stems[0]);
}

static int
refuse_crl(const struct chain *c, struct err *err)
{
	const X509_NAME *ca_name = X509_get_issuer_name(c->fault.cert);
	CLEANUP_FREE char *ca = chain_issuer(c->fault.cert);
	CLEANUP_BUF struct buf why = BUF_INIT;
	const ASN1_TIME *limit = NULL;
	char stamp[STAMP_BYTES];

	if (c->fault.crl != NULL && c->fault.error == X509_V_ERR_CRL_HAS_EXPIRED)
		limit = X509_CRL_get0_nextUpdate(c->fault.crl);
	else if (c->fault.crl != NULL && c->fault.error == X509_V_ERR_CRL_NOT_YET_VALID)
		limit = X509_CRL_get0_lastUpdate(c->fault.crl);
	if (limit != NULL) {
		stamp_format(chain_seconds(limit), stamp);
		return err_refuse(err, CODE_CRL, "the CRL of CA '%.256s' %s %s; run fetch-crl, and"
				  " look at the clock of this host", ca,
				  c->fault.error == X509_V_ERR_CRL_HAS_EXPIRED ? "expired on" :
				  "is not valid before", stamp);
	}
	if (c->fault.error != X509_V_ERR_UNABLE_TO_GET_CRL)
		return err_refuse(err, CODE_CRL, "the CRL of CA '%.256s' cannot be used: %s", ca,
				  X509_verify_cert_error_string(c->fault.error));
	explain_crl_files(c, ca_name, &why);
	return err_refuse(err, CODE_CRL, "no usable CRL of CA '%.256s' in the trust directory: %s;"
			  " run fetch-crl", ca, buf_str(&why));
}

static bool
came_with_message(const struct chain *c, const X509_NAME *name)
{
	for (int i = 0; i < sk_X509_num(c->others); i++)
		if (X509_NAME_cmp(X509_get_subject_name(sk_X509_value(c->others, i)), name) == 0)
			return true;
	return false;
}

/* The chain does not reach the trust directory: which certificate is missing, and what to do. */
static int
refuse_broken(const struct chain *c, struct err *err)
{
	X509 *last = sk_X509_value(c->built, sk_X509_num(c->built) - 1);
	const X509_NAME *wanted = X509_get_issuer_name(last);
	CLEANUP_FREE char *subject = chain_subject(last);
	CLEANUP_FREE char *issuer = chain_issuer(last);
	char stems[N_STEMS][STEM_BYTES];
	const struct trust_file *f;

	chain_stems(wanted, stems);
	f = trustdir_find(c->trust, TRUST_CA, stems[0], 0);
	if (chain_has_name(c, wanted))
		return err_refuse(err, CODE_SIGNATURE, "'%.256s' says that it was issued by"
				  " '%.256s', but the CA of that name in the trust directory has"
				  " another key", subject, issuer);
	if (f != NULL)
		return err_refuse(err, CODE_SIGNATURE, "the CA '%.256s', which issued '%.256s',"
				  " cannot be used: file '%s' of the trust directory: %s", issuer,
				  subject, f->name, f->problem != NULL ? f->problem :
				  "it holds no certificate of that CA");
	return err_refuse(err, CODE_SIGNATURE, "the CA '%.256s', which issued '%.256s', is not in"
			  " the trust directory%s; install its CA package if you trust it (file"
			  " '%s.0')", issuer, subject, came_with_message(c, wanted) ?
			  " (a copy inside the message does not count)" : "", stems[0]);
}

static int
refuse_date(const struct chain *c, struct err *err)
{
	CLEANUP_FREE char *subject = chain_subject(c->fault.cert);
	char from[STAMP_BYTES], to[STAMP_BYTES];
	bool expired = c->fault.error == X509_V_ERR_CERT_HAS_EXPIRED;

	stamp_format(chain_seconds(X509_get0_notBefore(c->fault.cert)), from);
	stamp_format(chain_seconds(X509_get0_notAfter(c->fault.cert)), to);
	return err_refuse(err, CODE_SIGNATURE, "the certificate of '%.256s' %s: it is valid from"
			  " %s to %s",
			  subject, expired ? "has expired" : "is not yet valid", from, to);
}

int
chain_explain(const struct chain *c, struct err *err)
{
	CLEANUP_FREE char *subject = NULL;

	if (c->fault.cert == NULL)
		return err_refuse(err, CODE_SIGNATURE, "the certificate is refused: %s",
				  X509_verify_cert_error_string(c->fault.error));
	subject = chain_subject(c->fault.cert);
	switch (c->fault.weight) {
	case WEIGHT_NONE:
		return 0;
	case WEIGHT_CRL:
		return refuse_crl(c, err);
	case WEIGHT_WEAK:
		return err_refuse(err, CODE_WEAK, "the certificate of '%.256s' is too weak: %s",
				  subject,
				  X509_verify_cert_error_string(c->fault.error));
	case WEIGHT_OTHER:
		return err_refuse(err, CODE_SIGNATURE, "the certificate of '%.256s' is refused: %s",
				  subject,
				  X509_verify_cert_error_string(c->fault.error));
	case WEIGHT_DATE:
		return refuse_date(c, err);
	case WEIGHT_BROKEN:
		return refuse_broken(c, err);
	case WEIGHT_REVOKED:
		return err_refuse(err, CODE_SIGNATURE, "the certificate of '%.256s' is revoked by"
				  " its CA",
				  subject);
	}
	return 0;
}
