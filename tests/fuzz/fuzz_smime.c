/*
 * X12: what the verifier does with a message (core/smime.h), and what its answer means to us
 * (core/verdict.h).
 *
 *	0	an S/MIME message as it stands
 *	1	a CMS structure (DER), put into an opaque message
 *	2	a CMS structure, beside the fixed text of a clear-signed one
 *	3	a verdict as a verifier that was taken over might send it: 1 byte flags (1: another
 *		magic number, 2: cut to what is left), rc 4, code 4, switches 4, four lengths of 2
 *		bytes, that of the payload 4, then texts and payload
 *	4	two names: hv:dn of a list, newline, that of a certificate
 *
 * trust/ holds two CAs with CRLs that are good until 2120.  Nobody but those who hold their keys
 * can make a new signature: what is accepted has the text that was signed for the corpus.
 */
#include "config.h"

#include "core/cleanup.h"
#include "core/limits.h"
#include "core/listjudge.h"
#include "core/smime.h"
#include "fuzz.h"
#include "fuzz_dir.h"

static struct trustdir *trust;
static struct digest signed_text[2];	/* with LF and with CRLF */

const char *
fuzz_title(void)
{
	return "X12 a message is accepted only with the text that was signed, whatever its bytes";
}

/* The text of the corpus: signed.json, which every message there carries. */
static void
setup(void)
{
	CLEANUP_FREE char *dir = fuzz_source("fuzz/trust"), *path = fuzz_source("fuzz/signed.json");
	CLEANUP_BUF struct buf text = BUF_INIT, crlf = BUF_INIT;
	struct err err = { 0 };

	if (trust != NULL)
		return;
	if (smime_init(&err) != 0 || trustdir_load(dir, &trust, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	fuzz_get(path, &text);
	digest_of(text.data, text.len, &signed_text[0]);
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] == '\n')
			buf_putc(&crlf, '\r');
		buf_putc(&crlf, text.data[i]);
	}
	digest_of(crlf.data, crlf.len, &signed_text[1]);
}

static void
add_base64(struct buf *out, const uint8_t *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		unsigned long v = (unsigned long)data[i] << 16;
		size_t n = len - i < 3 ? len - i : 3;

		if (n > 1)
			v |= (unsigned long)data[i + 1] << 8;
		if (n > 2)
			v |= data[i + 2];
		for (size_t k = 0; k < 4; k++)
			buf_putc(out, k <= n ? digits[v >> (18 - 6 * k) & 63] : '=');
		if (i % 48 == 45)
			buf_putc(out, '\n');
	}
	buf_putc(out, '\n');
}

static void
wrap_opaque(struct buf *out, const uint8_t *der, size_t len)
{
	buf_puts(out, "MIME-Version: 1.0\nContent-Type: application/x-pkcs7-mime;"
		      " smime-type=signed-data; name=\"smime.p7m\"\n"
		      "Content-Transfer-Encoding: base64\n\n");
	add_base64(out, der, len);
}

static void
wrap_clear(struct buf *out, const uint8_t *der, size_t len)
{
	CLEANUP_FREE char *path = fuzz_source("fuzz/signed.json");

	buf_puts(out, "MIME-Version: 1.0\nContent-Type: multipart/signed;"
		      " protocol=\"application/x-pkcs7-signature\"; micalg=\"sha-256\";"
		      " boundary=\"----B\"\n\n------B\n");
	fuzz_get(path, out);
	buf_puts(out, "\n------B\nContent-Type: application/x-pkcs7-signature; name=\"smime.p7s\"\n"
		      "Content-Transfer-Encoding: base64\n\n");
	add_base64(out, der, len);
	buf_puts(out, "\n------B--\n\n");
}

static void
check_accepted(const struct verdict *v)
{
	struct digest d;

	digest_of(v->payload.data, v->payload.len, &d);
	FUZZ_CHECK(digest_equal(&d, &signed_text[0]) || digest_equal(&d, &signed_text[1]));
	FUZZ_CHECK(v->code == CODE_NONE && !v->revoked);
	FUZZ_CHECK(strncmp(v->subject, "/DC=org/DC=example/OU=People/CN=", 32) == 0);
	FUZZ_CHECK(strncmp(v->issuer, "/DC=org/DC=example/CN=", 22) == 0);
}

static void
check_message(const void *data, size_t len)
{
	CLEANUP_FREE char *message = fuzz_copy(data, len, 0);
	CLEANUP_BUF struct buf wire = BUF_INIT;
	struct verdict v, read;

	verdict_init(&v);
	verdict_init(&read);
	if (smime_verify(trust, message, len, &v) == 0) {
		check_accepted(&v);
	} else {
		FUZZ_CHECK(v.payload.len == 0 && v.code != CODE_NONE && v.text[0] != '\0');
		for (const char *p = v.text; *p != '\0'; p++)
			FUZZ_CHECK((unsigned char)*p >= ' ');
	}
	/* What this verifier says is understood. */
	verdict_encode(&v, &wire);
	FUZZ_CHECK(verdict_decode(wire.data, wire.len, &read, NULL) == 0);
	FUZZ_CHECK(read.rc == v.rc && read.code == v.code && read.payload.len == v.payload.len);
	verdict_release(&read);
	verdict_release(&v);
}

/* Field by field, so that the corpus outlives a change of the struct. */
static void
take_wire(struct fuzz_input *in, struct buf *wire)
{
	unsigned flags = fuzz_take_byte(in);
	struct verdict_wire w;

	memset(&w, 0, sizeof(w));
	w.magic = VERDICT_MAGIC ^ (flags & 1);
	w.rc = (int32_t)fuzz_take_number(in, 4);
	w.code = (int32_t)fuzz_take_number(in, 4);
	w.revoked = (uint8_t)fuzz_take_byte(in);
	w.weak_digest = (uint8_t)fuzz_take_byte(in);
	w.other_purpose = (uint8_t)fuzz_take_byte(in);
	w.reserved = (uint8_t)fuzz_take_byte(in);
	w.subject_len = (uint32_t)fuzz_take_number(in, 2);
	w.issuer_len = (uint32_t)fuzz_take_number(in, 2);
	w.serial_len = (uint32_t)fuzz_take_number(in, 2);
	w.text_len = (uint32_t)fuzz_take_number(in, 2);
	w.payload_len = fuzz_take_number(in, 4);
	if ((flags & 2) == 0)
		buf_add(wire, &w, sizeof(w));
	buf_add(wire, in->data, in->len);
}

static void
check_verdict(struct fuzz_input *in)
{
	CLEANUP_BUF struct buf built = BUF_INIT;
	CLEANUP_FREE char *wire = NULL;
	struct err err = { 0 };
	struct verdict v;

	take_wire(in, &built);
	wire = fuzz_copy(built.data, built.len, 0);
	verdict_init(&v);
	if (verdict_decode(wire, built.len, &v, &err) == 0) {
		FUZZ_CHECK(v.rc <= 0 && v.payload.len <= built.len);
		FUZZ_CHECK(v.rc != 0 || (v.subject != NULL && v.issuer != NULL));
		FUZZ_CHECK(v.rc == 0 || v.payload.len == 0);
	} else {
		FUZZ_CHECK(err.text[0] != '\0');
	}
	verdict_release(&v);
}

/* Backslashes stand before slashes alone in what is equal otherwise. */
static void
check_names(struct fuzz_input *in)
{
	CLEANUP_FREE char *registered = fuzz_take_line(in), *certificate = fuzz_take_text(in);

	FUZZ_CHECK(dn_equal(registered, registered));
	if (dn_equal(registered, certificate))
		FUZZ_CHECK(strlen(registered) <= strlen(certificate));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_BUF struct buf message = BUF_INIT;
	struct fuzz_input in = { data, size };

	setup();
	switch (fuzz_take_byte(&in)) {
	case 1:
		wrap_opaque(&message, in.data, in.len);
		check_message(message.data, message.len);
		break;
	case 2:
		wrap_clear(&message, in.data, in.len);
		check_message(message.data, message.len);
		break;
	case 3:
		check_verdict(&in);
		break;
	case 4:
		check_names(&in);
		break;
	default:
		check_message(in.data, in.len);
		break;
	}
	return 0;
}
