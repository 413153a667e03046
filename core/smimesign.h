/*
 * smimesign.h - an S/MIME message (RFC 8551) made with a key and a certificate in PEM.
 *
 * Clear-signed (multipart/signed), SHA-256, signed attributes, the signer's certificate inside:
 * what smime.h accepts and what list makers write.  OpenSSL stands behind it and shows in no
 * header.
 */
#ifndef VMI_SMIMESIGN_H
#define VMI_SMIMESIGN_H

#include <stddef.h>
#include "buf.h"
#include "err.h"

struct smimesigner;

/*
 * Texts in PEM: one private key, one certificate, and further certificates for the message (NULL or
 * empty: none).  A key that needs a passphrase is refused, nobody is asked for one; so is one that
 * does not belong to the certificate.  The caller smimesigner_free()s *out.
 */
int smimesigner_new(struct smimesigner **out, const struct buf *key, const struct buf *cert,
		    const struct buf *chain, struct err *err);
void smimesigner_free(struct smimesigner *s);	/* NULL is fine */

/* Appends the signed message to out. */
int smimesigner_sign(const struct smimesigner *s, const void *text, size_t len, struct buf *out,
		     struct err *err);

#endif
