/*
 * smime.h - S/MIME (RFC 8551) and CMS (RFC 5652) verification of one message against a trust
 * directory.
 *
 * Runs only in the verifier process.  OpenSSL stands behind it and shows in no header.
 */
#ifndef VMI_SMIME_H
#define VMI_SMIME_H

#include <stddef.h>
#include "err.h"
#include "trustdir.h"
#include "verdict.h"

/*
 * Makes everything that verification needs later, so that no file is opened then: algorithms,
 * error strings, the time zone.  No configuration file and no environment variable has a say.  To
 * be called before anything else of OpenSSL.
 */
int smime_init(struct err *err);

/*
 * Verifies a clear-signed or opaque S/MIME message and fills the verdict: exactly one signer,
 * signed attributes, strong digest, chain to the trust directory with a valid CRL at every level,
 * policy files.  DER and PEM messages are refused (CODE_SIGNATURE).  The verdict's rc is also
 * returned.
 */
int smime_verify(const struct trustdir *trust, const void *message, size_t len,
		 struct verdict *out);

#endif
