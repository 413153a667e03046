/*
 * certname.h - the names in a certificate file, written as lists and endorsers write them.
 */
#ifndef VMI_CERTNAME_H
#define VMI_CERTNAME_H

#include "core/err.h"

/*
 * Subject and issuer of the first PEM certificate in the file, in X509_NAME_oneline() form, the one
 * that the verifier uses.  Nothing else in the certificate is looked at or trusted.  The caller
 * frees both.
 */
int certname_read(const char *file, char **subject, char **issuer, struct err *err);

#endif
