/*
 * verdict.h - what the verifier process says of one signed message, and how it travels.
 *
 * The verifier reads the message on descriptor 0 until end of file, and writes on descriptor 1
 * one struct verdict_wire followed by subject, issuer, serial, text and payload, unterminated.
 */
#ifndef VMI_VERDICT_H
#define VMI_VERDICT_H

#include <stdbool.h>
#include <stdint.h>
#include "buf.h"
#include "err.h"
#include "sandboxstate.h"

enum { VERDICT_MAGIC = 0x56644332 };

struct verdict_wire {
	uint32_t magic;
	int32_t rc;			/* 0 accepted, else a negative errno value */
	int32_t code;			/* enum code */
	uint8_t revoked;		/* some certificate of the chain is positively revoked */
	uint8_t weak_digest;		/* the message digest is SHA-1: needs --allow-sha1 */
	uint8_t other_purpose;		/* not an e-mail certificate: needs --any-purpose */
	uint8_t reserved;
	uint32_t subject_len, issuer_len, serial_len, text_len;
	uint64_t payload_len;		/* 0 unless rc is 0 */
	int64_t not_after;		/* of the signer's certificate, seconds UTC */
	struct sandbox_state sandbox;	/* of the verifier */
};

/*
 * The decoded form.  subject and issuer are X509_NAME_oneline() forms ('/' inside a value is
 * written "\/"); they are set whenever the message had exactly one signer certificate, also on
 * refusal.
 */
struct verdict {
	int rc;
	enum code code;
	bool revoked, weak_digest, other_purpose;
	char *subject, *issuer, *serial;	/* serial in upper-case hex */
	int64_t not_after;
	char text[ERR_TEXT_MAX];
	struct buf payload;		/* the signed text, canonical line ends as signed */
	struct sandbox_state sandbox;	/* of the verifier; for showing only */
};

void verdict_init(struct verdict *v);
void verdict_release(struct verdict *v);
void verdict_encode(const struct verdict *v, struct buf *out);
int verdict_decode(const void *data, size_t len, struct verdict *v, struct err *err);

#endif
