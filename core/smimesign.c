#include "config.h"
#include "smimesign.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "limits.h"

struct smimesigner {
	EVP_PKEY *key;
	X509 *cert;
	STACK_OF(X509) *chain;
};

/* OpenSSL asks for a passphrase on the terminal unless it is told otherwise. */
static int
refuse_passphrase(char *buf, int size, int writing, void *asked)
{
	(void)buf;
	(void)size;
	(void)writing;
	*(bool *)asked = true;
	return -1;
}

static const char *
reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text != NULL ? text : "no reason is known";
}

static int
read_key(struct smimesigner *s, const struct buf *pem, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->len);
	bool asked = false;

	if (bio != NULL)
		s->key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &asked);
	BIO_free(bio);
	if (s->key != NULL)
		return 0;
	if (asked)
		return err_set(err, EINVAL, "the private key has a passphrase, which is not asked"
			       " for: write the key without one into a file that only you can read"
			       " ('openssl pkey -in KEY -out FILE')");
	return err_set(err, EINVAL, "there is no private key in PEM: %s", reason());
}

static int
read_cert(struct smimesigner *s, const struct buf *pem, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->len);

	if (bio != NULL)
		s->cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	BIO_free(bio);
	if (s->cert == NULL)
		return err_set(err, EINVAL, "there is no certificate in PEM: %s", reason());
	if (X509_check_private_key(s->cert, s->key) != 1)
		return err_set(err, EINVAL, "the private key is not that of the certificate");
	return 0;
}

static int
read_chain(struct smimesigner *s, const struct buf *pem, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(pem->data, (int)pem->len);
	bool kept = true;
	X509 *cert;

	s->chain = sk_X509_new_null();
	while (bio != NULL && s->chain != NULL && kept &&
	       sk_X509_num(s->chain) < LIMIT_CERTS_IN_MESSAGE &&
	       (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		kept = sk_X509_push(s->chain, cert) > 0;
		if (!kept)
			X509_free(cert);
	}
	BIO_free(bio);
	if (!kept)
		return err_set(err, ENOMEM, "no memory for a chain of certificates");
	if (s->chain == NULL || sk_X509_num(s->chain) == 0)
		return err_set(err, EINVAL, "there is no certificate of a chain in PEM");
	if (sk_X509_num(s->chain) >= LIMIT_CERTS_IN_MESSAGE)
		return err_refuse(err, CODE_LIMIT, "a chain of %d certificates or more",
				  LIMIT_CERTS_IN_MESSAGE);
	return 0;
}

int
smimesigner_new(struct smimesigner **out, const struct buf *key, const struct buf *cert,
		const struct buf *chain, struct err *err)
{
	struct smimesigner *s = xcalloc(1, sizeof(*s));
	int rc;

	ERR_clear_error();
	rc = read_key(s, key, err);
	if (rc == 0)
		rc = read_cert(s, cert, err);
	if (rc == 0 && chain != NULL && chain->len > 0)
		rc = read_chain(s, chain, err);
	ERR_clear_error();
	if (rc != 0) {
		smimesigner_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void
smimesigner_free(struct smimesigner *s)
{
	if (s == NULL)
		return;
	EVP_PKEY_free(s->key);
	X509_free(s->cert);
	sk_X509_pop_free(s->chain, X509_free);
	free(s);
}

/* The SignedData without the text. */
static CMS_ContentInfo *
make_cms(const struct smimesigner *s, BIO *text)
{
	CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, CMS_PARTIAL | CMS_DETACHED);
	bool ok = cms != NULL &&
		  CMS_add1_signer(cms, s->cert, s->key, EVP_sha256(),
				  CMS_PARTIAL | CMS_DETACHED) != NULL;

	for (int i = 0; ok && i < sk_X509_num(s->chain); i++)
		ok = X509_cmp(sk_X509_value(s->chain, i), s->cert) == 0 ||
		     CMS_add1_cert(cms, sk_X509_value(s->chain, i)) == 1;
	/* Hashed with CRLF line ends, as every reader of a clear-signed text does. */
	ok = ok && CMS_final(cms, text, NULL, CMS_DETACHED) == 1;
	if (ok)
		return cms;
	CMS_ContentInfo_free(cms);
	return NULL;
}

int
smimesigner_sign(const struct smimesigner *s, const void *text, size_t len, struct buf *out,
		 struct err *err)
{
	BIO *in, *message;
	CMS_ContentInfo *cms = NULL;
	char *data = NULL;
	long n = 0;

	if (len > LIMIT_MESSAGE_BYTES / 2)
		return err_refuse(err, CODE_LIMIT, "the message would be larger than %d bytes",
				  LIMIT_MESSAGE_BYTES);
	ERR_clear_error();
	in = BIO_new_mem_buf(text, (int)len);
	message = BIO_new(BIO_s_mem());
	if (in != NULL && message != NULL)
		cms = make_cms(s, in);
	/* REUSE_DIGEST: the signature is made already; otherwise writing would make it again. */
	if (cms != NULL && BIO_reset(in) == 1 &&
	    SMIME_write_CMS(message, cms, in, CMS_DETACHED | CMS_REUSE_DIGEST) == 1)
		n = BIO_get_mem_data(message, &data);
	if (n > 0)
		buf_add(out, data, (size_t)n);
	else
		err_set(err, EINVAL, "the message cannot be signed: %s", reason());
	ERR_clear_error();
	CMS_ContentInfo_free(cms);
	BIO_free(message);
	BIO_free(in);
	return n > 0 ? 0 : -EINVAL;
}
