#include "config.h"
#include "certname.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "core/cleanup.h"
#include "core/io.h"

enum { CERTIFICATE_BYTES = 1 << 20 };

/* OpenSSL's own allocation as one that free() takes. */
static char *
oneline(const X509_NAME *name)
{
	char *text = X509_NAME_oneline(name, NULL, 0);
	char *copy = xstrdup(text);

	OPENSSL_free(text);
	return copy;
}

static int
read_names(const struct buf *pem, const char *file, char **subject, char **issuer, struct err *err)
{
	X509 *cert = NULL;
	BIO *bio;
	int rc;

	bio = BIO_new_mem_buf(pem->data, (int)pem->len);
	if (bio != NULL)
		cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	if (cert == NULL) {
		rc = err_set(err, EINVAL, "'%s' holds no PEM certificate", file);
		goto out;
	}
	*subject = oneline(X509_get_subject_name(cert));
	*issuer = oneline(X509_get_issuer_name(cert));
	rc = 0;
out:
	X509_free(cert);
	BIO_free(bio);
	ERR_clear_error();
	return rc;
}

int
certname_read(const char *file, char **subject, char **issuer, struct err *err)
{
	CLEANUP_BUF struct buf pem = BUF_INIT;
	CLEANUP_FD int fd = -1;
	int rc;

	/* An admin may well name a link or a pipe; only its size is bounded. */
	fd = io_openat(AT_FDCWD, file, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
	if (fd < 0)
		return err_set(err, errno == ENOENT ? EINVAL : errno,
			       "cannot open certificate '%s': %s", file, strerrordesc_np(errno));
	rc = io_read_to_end(fd, CERTIFICATE_BYTES, &pem);
	if (rc != 0)
		return err_set(err, -rc, "cannot read certificate '%s': %s", file,
			       strerrordesc_np(-rc));
	return read_names(&pem, file, subject, issuer, err);
}
