/*
 * fetcher_tls.c - CRLs for server certificates.
 *
 * A grid site keeps CAs and CRLs by hash names in one directory, as fetch-crl(8) leaves them.
 * OpenSSL finds the CRLs there once checking is switched on, but then insists on one for every CA.
 * The callback takes back only that insistence: all other errors stand.
 */
#include "config.h"

#include "fetcher_tls.h"

#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

static int
pass_missing_crl(int ok, X509_STORE_CTX *ctx)
{
	switch (X509_STORE_CTX_get_error(ctx)) {
	case X509_V_ERR_UNABLE_TO_GET_CRL:
	case X509_V_ERR_CRL_HAS_EXPIRED:
	case X509_V_ERR_CRL_NOT_YET_VALID:
		/* Otherwise the error of this step would stay as the result of the whole chain. */
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
		return 1;
	default:
		return ok;
	}
}

void
tls_check_revocation(void *ssl_ctx)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ssl_ctx);

	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	X509_STORE_set_verify_cb(store, pass_missing_crl);
}
