/*
 * fetcher_tls.h - what libcurl leaves out of TLS: revocation lists that lie beside the CAs.
 */
#ifndef VMI_FETCHER_TLS_H
#define VMI_FETCHER_TLS_H

/*
 * For CURLOPT_SSL_CTX_FUNCTION (ssl_ctx is an SSL_CTX *): a server certificate that a CRL of the
 * trust store revokes is refused.  A CA without a CRL, or with one that is out of date, is
 * accepted: public CAs have none there, and what is transferred is signed by other means.
 */
void tls_check_revocation(void *ssl_ctx);

#endif
