/*
 * smime.c - one S/MIME message: read, measured, its signer found and judged, its text verified.
 *
 *	MIME-Version: 1.0
 *	Content-Type: multipart/signed; protocol="application/x-pkcs7-signature"; ...
 *
 *	------4F2D
 *	{"hv:imagelist": ...}                     the text; signed with CRLF line ends
 *	------4F2D
 *	Content-Type: application/x-pkcs7-signature; name="smime.p7s"
 *	Content-Transfer-Encoding: base64
 *
 *	MIIH...                                   CMS SignedData without content
 *	------4F2D--
 *
 * or, opaque, `Content-Type: application/x-pkcs7-mime; smime-type=signed-data` with the text inside
 * the SignedData.  OpenSSL finds the parts and decodes the base64, but into a plain DER string
 * first: its shape is measured before a decoder that makes an object of every certificate sees it.
 *
 *	ContentInfo SEQUENCE                      level 0
 *	  contentType OBJECT IDENTIFIER                 1
 *	  content [0]                                   1
 *	    SignedData SEQUENCE                         2
 *	      version, digestAlgorithms SET ...         3
 *	      certificates [0], crls [1]                3
 *	        Certificate ...                         4
 *	      signerInfos SET                           3
 *
 * Why signed attributes are required: without them a signature over an attribute set could be
 * presented as one over a text (draft-ietf-lamps-cms-euf-cma-signeddata, 2025).
 *
 * What is shown to anyone is what CMS_verify() wrote while it hashed, and only if it succeeded:
 * text outside the boundaries is never looked at.
 */
#include "config.h"
#include "smime.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/asn1.h>
#include <openssl/asn1t.h>
#include <openssl/bn.h>
#include <openssl/cms.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "chain.h"
#include "cleanup.h"
#include "limits.h"

enum {
	ASN1_DEPTH_MAX = 64,		/* a SignedData has about 20 levels */
	SIGNED_DATA_SETS = 3,		/* level of certificates, signerInfos ... */
};

struct letter {
	ASN1_STRING *der;		/* the whole ContentInfo */
	BIO *text;			/* the signed part of a clear-signed message, else NULL */
	CMS_ContentInfo *cms;
	CMS_SignerInfo *info;		/* the only one; inside cms */
	STACK_OF(X509) *certs;		/* of the message */
	X509 *signer;			/* one of certs */
	X509_STORE *store;
};

static void
letter_release(struct letter *l)
{
	ASN1_STRING_free(l->der);
	BIO_free_all(l->text);
	CMS_ContentInfo_free(l->cms);
	sk_X509_pop_free(l->certs, X509_free);
	X509_STORE_free(l->store);
	ERR_clear_error();
}

/* ---- set-up ------------------------------------------------------------- */

/* Fetching once is enough: implementations are kept for the life of the process. */
static bool
fetch_algorithms(void)
{
	static const char *const digests[] = { "SHA1", "SHA256", "SHA384", "SHA512", "MD5" };
	static const char *const keys[] = { "RSA", "RSA-PSS", "EC", "ED25519", "ED448", "DSA" };
	bool ok = true;

	for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++) {
		EVP_MD *md = EVP_MD_fetch(NULL, digests[i], NULL);

		ok = ok && md != NULL;
		EVP_MD_free(md);
	}
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		EVP_KEYMGMT *key = EVP_KEYMGMT_fetch(NULL, keys[i], NULL);

		ok = ok && (key != NULL || i > 2);
		EVP_KEYMGMT_free(key);
	}
	ERR_clear_error();
	return ok;
}

int
smime_init(struct err *err)
{
	/* NO_LOAD_CONFIG has to be said first: OPENSSL_CONF could load code into this process. */
	if (!OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_CRYPTO_STRINGS |
				 OPENSSL_INIT_ADD_ALL_DIGESTS, NULL) ||
	    !fetch_algorithms())
		return err_refuse(err, CODE_LIMIT, "OpenSSL cannot be initialised: %s",
				  ERR_reason_error_string(ERR_peek_last_error()));
	/* The C library reads its time zone file when a date is first looked at. */
	tzset();
	return 0;
}

/* ---- read --------------------------------------------------------------- */

static int
refuse_unreadable(const char *message, size_t len, struct err *err)
{
	int reason = ERR_GET_REASON(ERR_peek_last_error());
	size_t blank = 0;

	while (blank < len && strchr(" \t\r\n", message[blank]) != NULL && message[blank] != '\0')
		blank++;
	if (len == 0)
		return err_refuse(err, CODE_SIGNATURE, "the message is empty");
	if (blank < len && (message[blank] == '{' || message[blank] == '['))
		return err_refuse(err, CODE_SIGNATURE, "the list is not signed: it is plain JSON;"
				  " a list must be an S/MIME signed message (RFC 8551)");
	if (len >= 2 && memcmp(message, "\x1f\x8b", 2) == 0)
		return err_refuse(err, CODE_SIGNATURE, "the message is compressed (gzip); a list"
				  " must be an S/MIME signed message (RFC 8551)");
	if (reason == ASN1_R_NO_CONTENT_TYPE || reason == ASN1_R_MIME_PARSE_ERROR)
		return err_refuse(err, CODE_SIGNATURE, "the message is not S/MIME: it has no"
				  " Content-Type header (DER and PEM messages are not accepted)");
	if (reason == ASN1_R_INVALID_MIME_TYPE || reason == ASN1_R_SIG_INVALID_MIME_TYPE)
		return err_refuse(err, CODE_SIGNATURE, "the message is not signed: its"
				  " Content-Type is neither multipart/signed nor"
				  " application/pkcs7-mime (RFC 8551)");
	return err_refuse(err, CODE_SIGNATURE, "the S/MIME message is cut or damaged: %s",
			  reason != 0 ? ERR_reason_error_string(ERR_peek_last_error()) :
			  "its signature cannot be read");
}

/* Splits the message: l->der, and l->text if it is clear-signed. */
static int
letter_read(struct letter *l, const char *message, size_t len, struct err *err)
{
	BIO *in = BIO_new_mem_buf(message, (int)len);

	ERR_clear_error();
	if (in != NULL)
		l->der = (ASN1_STRING *)SMIME_read_ASN1(in, &l->text,
							ASN1_ITEM_rptr(ASN1_SEQUENCE));
	BIO_free(in);
	return l->der != NULL ? 0 : refuse_unreadable(message, len, err);
}

/* ---- measure ------------------------------------------------------------ */

/* A constructed value whose end has not been reached. */
struct frame {
	const unsigned char *end;	/* NULL: indefinite length, until an end-of-contents */
	size_t n_children;
};

static int
refuse_shape(struct err *err)
{
	return err_refuse(err, CODE_SIGNATURE, "the signature is damaged: it is not well-formed"
			  " ASN.1");
}

/*
 * Walks the encoding without decoding anything: nesting and the number of members of the sets of
 * the SignedData stay within bounds.  Decoders repeat everything else that is looked at here.
 */
static int
measure(const unsigned char *der, size_t len, struct err *err)
{
	struct frame frames[ASN1_DEPTH_MAX];
	const unsigned char *p = der, *end = der + len;
	size_t depth = 0;

	while (p < end) {
		int tag, class, form;
		long size;

		while (depth > 0 && frames[depth - 1].end == p)
			depth--;
		if (depth > 0 && frames[depth - 1].end == NULL && end - p >= 2 && p[0] == 0 &&
		    p[1] == 0) {
			p += 2;
			depth--;
			continue;
		}
		if (depth > 0 && ++frames[depth - 1].n_children > LIMIT_CERTS_IN_MESSAGE &&
		    depth == SIGNED_DATA_SETS + 1)
			return err_refuse(err, CODE_LIMIT, "the signature holds more than %d"
					  " certificates, CRLs or signers", LIMIT_CERTS_IN_MESSAGE);
		form = ASN1_get_object(&p, &size, &tag, &class, end - p);
		if ((form & 0x80) != 0)
			return refuse_shape(err);
		if ((form & V_ASN1_CONSTRUCTED) == 0) {
			p += size;
			continue;
		}
		if (depth == ASN1_DEPTH_MAX)
			return err_refuse(err, CODE_LIMIT, "the signature is nested more than %d"
					  " levels deep",
					  ASN1_DEPTH_MAX);
		frames[depth].end = (form & 1) != 0 ? NULL : p + size;
		frames[depth++].n_children = 0;
	}
	return 0;
}

static int
letter_decode(struct letter *l, struct err *err)
{
	const unsigned char *der = ASN1_STRING_get0_data(l->der);
	int type, content, rc;

	rc = measure(der, (size_t)ASN1_STRING_length(l->der), err);
	if (rc != 0)
		return rc;
	l->cms = d2i_CMS_ContentInfo(NULL, &der, ASN1_STRING_length(l->der));
	if (l->cms == NULL)
		return err_refuse(err, CODE_SIGNATURE, "the signature is damaged: it is not a CMS"
				  " message (RFC 5652)");
	type = OBJ_obj2nid(CMS_get0_type(l->cms));
	if (type == NID_pkcs7_enveloped || type == NID_pkcs7_encrypted ||
	    type == NID_pkcs7_signedAndEnveloped || type == NID_id_smime_ct_authEnvelopedData)
		return err_refuse(err, CODE_SIGNATURE, "the message is encrypted; encrypted lists"
				  " are not supported");
	if (type != NID_pkcs7_signed)
		return err_refuse(err, CODE_SIGNATURE, "the message is not signed: its CMS type is"
				  " '%s'",
				  OBJ_nid2sn(type));
	content = OBJ_obj2nid(CMS_get0_eContentType(l->cms));
	if (content != NID_pkcs7_data)
		return err_refuse(err, CODE_SIGNATURE, "what is signed is not plain data but '%s'",
				  OBJ_nid2sn(content));
	return 0;
}

/* ---- signer ------------------------------------------------------------- */

static int
find_signer(struct letter *l, struct err *err)
{
	STACK_OF(CMS_SignerInfo) *infos = CMS_get0_SignerInfos(l->cms);
	int n = sk_CMS_SignerInfo_num(infos);	/* -1 where there is not even the set */

	if (n < 1)
		return err_refuse(err, CODE_SIGNATURE, "nobody signed the message: it carries"
				  " certificates but no signature");
	if (n != 1)
		return err_refuse(err, CODE_SIGNATURE, "the message has %d signatures; a list has"
				  " exactly one",
				  n);
	l->info = sk_CMS_SignerInfo_value(infos, 0);
	l->certs = CMS_get1_certs(l->cms);
	for (int i = 0; i < sk_X509_num(l->certs); i++) {
		if (CMS_SignerInfo_cert_cmp(l->info, sk_X509_value(l->certs, i)) != 0)
			continue;
		l->signer = sk_X509_value(l->certs, i);
		CMS_SignerInfo_set1_signer_cert(l->info, l->signer);
		return 0;
	}
	return err_refuse(err, CODE_SIGNATURE, "the signer's certificate is not in the message;"
			  " sign without -nocerts");
}

/* Caller frees. */
static char *
serial_text(const X509 *cert)
{
	BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
	char *hex = n != NULL ? BN_bn2hex(n) : NULL, *copy = xstrdup(hex);

	OPENSSL_free(hex);
	BN_free(n);
	return copy;
}

static int
name_signer(const struct letter *l, struct verdict *v, struct err *err)
{
	v->subject = chain_subject(l->signer);
	v->issuer = chain_issuer(l->signer);
	v->serial = serial_text(l->signer);
	v->not_after = chain_not_after(l->signer);
	if (v->subject == NULL || v->issuer == NULL || *v->subject == '\0' || *v->issuer == '\0')
		return err_refuse(err, CODE_SIGNATURE, "the signer's certificate has an empty or"
				  " oversized name");
	return 0;
}

/* ---- algorithms and attributes ------------------------------------------ */

static int
judge_digest(const struct letter *l, struct verdict *v, struct err *err)
{
	X509_ALGOR *digest = NULL;
	const ASN1_OBJECT *oid;
	int nid;

	CMS_SignerInfo_get0_algs(l->info, NULL, NULL, &digest, NULL);
	X509_ALGOR_get0(&oid, NULL, NULL, digest);
	nid = OBJ_obj2nid(oid);
	v->weak_digest = nid == NID_sha1;
	if (nid == NID_sha256 || nid == NID_sha384 || nid == NID_sha512 || v->weak_digest)
		return 0;
	return err_refuse(err, CODE_WEAK, "the message is signed with the digest %s; SHA-256,"
			  " SHA-384 or SHA-512 is needed",
			  nid != NID_undef ? OBJ_nid2sn(nid) : "of an unknown kind");
}

/* Counts the values of one kind of signed attribute, in however many attributes they stand. */
static int
count_attribute(const CMS_SignerInfo *info, int nid)
{
	int n = CMS_signed_get_attr_count(info), values = 0;

	for (int i = 0; i < n; i++) {
		X509_ATTRIBUTE *attr = CMS_signed_get_attr(info, i);

		if (OBJ_obj2nid(X509_ATTRIBUTE_get0_object(attr)) == nid)
			values += X509_ATTRIBUTE_count(attr);
	}
	return values;
}

static int
judge_attributes(const struct letter *l, struct err *err)
{
	if (CMS_signed_get_attr_count(l->info) < 2)
		return err_refuse(err, CODE_WEAK, "the signature has no signed attributes; sign"
				  " without -noattr");
	if (count_attribute(l->info, NID_pkcs9_contentType) != 1 ||
	    count_attribute(l->info, NID_pkcs9_messageDigest) != 1)
		return err_refuse(err, CODE_WEAK, "the signed attributes must hold content-type and"
				  " message-digest exactly once (RFC 5652 section 11)");
	return 0;
}

/* ---- text --------------------------------------------------------------- */

static bool
error_queue_has(int library, int reason)
{
	unsigned long e;
	bool found = false;

	while ((e = ERR_get_error()) != 0)
		found = found || (ERR_GET_LIB(e) == library && ERR_GET_REASON(e) == reason);
	return found;
}

/* The chain was judged with stricter eyes already; CMS_verify() looks at it and at the text. */
static int
verify_text(struct letter *l, struct verdict *v, struct err *err)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *data = NULL;
	long len;
	int rc;

	ERR_clear_error();
	if (out == NULL) {
		rc = err_refuse(err, CODE_LIMIT, "no memory for the signed text");
	} else if (CMS_verify(l->cms, NULL, l->store, l->text, out, CMS_NOCRL) == 1) {
		len = BIO_get_mem_data(out, &data);
		if (len > 0)
			buf_add(&v->payload, data, (size_t)len);
		rc = 0;
	} else if (error_queue_has(ERR_LIB_CMS, CMS_R_CONTENT_VERIFY_ERROR)) {
		rc = err_refuse(err, CODE_SIGNATURE, "the text was changed after it was signed:"
				" its digest is not the signed one");
	} else {
		rc = err_refuse(err, CODE_SIGNATURE, "the signature is wrong: it was not made with"
				" the key of the certificate, or it was changed");
	}
	BIO_free(out);
	return rc;
}

/* ---- together ----------------------------------------------------------- */

static int
letter_verify(struct letter *l, const struct trustdir *trust, const char *message, size_t len,
	      struct verdict *v, struct err *err)
{
	int rc;

	if (len > LIMIT_MESSAGE_BYTES)
		return err_refuse(err, CODE_LIMIT, "the message is larger than %d bytes",
				  LIMIT_MESSAGE_BYTES);
	rc = letter_read(l, message, len, err);
	if (rc == 0)
		rc = letter_decode(l, err);
	if (rc == 0)
		rc = find_signer(l, err);
	if (rc == 0)
		rc = name_signer(l, v, err);
	if (rc == 0)
		rc = chain_judge_key(l->signer, err);
	if (rc == 0)
		rc = chain_judge(trust, l->signer, l->certs, v, &l->store, err);
	if (rc == 0)
		rc = judge_digest(l, v, err);
	if (rc == 0)
		rc = judge_attributes(l, err);
	if (rc == 0)
		rc = verify_text(l, v, err);
	return rc;
}

int
smime_verify(const struct trustdir *trust, const void *message, size_t len, struct verdict *out)
{
	struct err err = { 0, CODE_NONE, "" };
	struct letter l = { NULL, NULL, NULL, NULL, NULL, NULL, NULL };

	verdict_release(out);
	verdict_init(out);
	out->rc = letter_verify(&l, trust, message, len, out, &err);
	out->code = err.code;
	snprintf(out->text, sizeof(out->text), "%s", err.text);
	letter_release(&l);
	return out->rc;
}
