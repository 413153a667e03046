#include "config.h"
#include "verdict.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

void
verdict_init(struct verdict *v)
{
	memset(v, 0, sizeof(*v));
	buf_init(&v->payload);
}

void
verdict_release(struct verdict *v)
{
	free(v->subject);
	free(v->issuer);
	free(v->serial);
	buf_release(&v->payload);
	memset(v, 0, sizeof(*v));
}

static uint32_t
text_len(const char *text)
{
	return text != NULL ? (uint32_t)strlen(text) : 0;
}

void
verdict_encode(const struct verdict *v, struct buf *out)
{
	struct verdict_wire w;

	memset(&w, 0, sizeof(w));
	w.magic = VERDICT_MAGIC;
	w.rc = v->rc;
	w.code = (int32_t)v->code;
	w.revoked = v->revoked;
	w.weak_digest = v->weak_digest;
	w.other_purpose = v->other_purpose;
	w.subject_len = text_len(v->subject);
	w.issuer_len = text_len(v->issuer);
	w.serial_len = text_len(v->serial);
	w.text_len = text_len(v->text);
	w.payload_len = v->rc == 0 ? v->payload.len : 0;
	w.not_after = v->not_after;
	w.sandbox = v->sandbox;

	buf_reserve(out, sizeof(w) + w.subject_len + w.issuer_len + w.serial_len + w.text_len +
		    w.payload_len);
	buf_add(out, &w, sizeof(w));
	buf_add(out, v->subject, w.subject_len);
	buf_add(out, v->issuer, w.issuer_len);
	buf_add(out, v->serial, w.serial_len);
	buf_add(out, v->text, w.text_len);
	buf_add(out, v->payload.data, w.payload_len);
}

/*
 * The verifier parsed foreign bytes: a verdict that it could not have meant is no verdict.
 * NULL, or what is wrong with the fixed part.
 */
static const char *
wire_fault(const struct verdict_wire *w, size_t len)
{
	uint64_t rest = len - sizeof(*w);

	if (w->magic != VERDICT_MAGIC)
		return "wrong magic number";
	if (w->rc > 0 || w->code < 0 || (w->rc == 0 && w->code != CODE_NONE))
		return "result and code disagree";
	if (w->revoked > 1 || w->weak_digest > 1 || w->other_purpose > 1 || w->reserved != 0)
		return "a flag is neither 0 nor 1";
	if (w->rc == 0 && (w->revoked || w->subject_len == 0 || w->issuer_len == 0))
		return "accepted, but revoked or without a signer";
	if (w->rc != 0 && w->payload_len != 0)
		return "a payload beside a refusal";
	if (w->text_len >= ERR_TEXT_MAX)
		return "the sentence is too long";
	if (w->payload_len > rest ||
	    (uint64_t)w->subject_len + w->issuer_len + w->serial_len + w->text_len !=
	    rest - w->payload_len)
		return "lengths do not add up";
	return NULL;
}

/* Takes a string of the wire; NULL if it is empty.  Caller frees. */
static char *
take_text(const char **at, size_t len)
{
	char *text = len != 0 ? xstrndup(*at, len) : NULL;

	*at += len;
	return text;
}

int
verdict_decode(const void *data, size_t len, struct verdict *v, struct err *err)
{
	const char *at = data;
	struct verdict_wire w;
	const char *fault;

	if (len < sizeof(w))
		return err_set(err, EPROTO, "the verifier's answer is cut after %zu bytes", len);
	memcpy(&w, at, sizeof(w));
	at += sizeof(w);
	fault = wire_fault(&w, len);
	if (fault == NULL && memchr(at, '\0', len - sizeof(w) - w.payload_len) != NULL)
		fault = "a NUL byte in a string";
	if (fault != NULL)
		return err_set(err, EPROTO, "the verifier's answer makes no sense: %s", fault);

	verdict_release(v);
	verdict_init(v);
	v->rc = w.rc;
	v->code = (enum code)w.code;
	v->revoked = w.revoked;
	v->weak_digest = w.weak_digest;
	v->other_purpose = w.other_purpose;
	v->not_after = w.not_after;
	v->sandbox = w.sandbox;
	v->subject = take_text(&at, w.subject_len);
	v->issuer = take_text(&at, w.issuer_len);
	v->serial = take_text(&at, w.serial_len);
	memcpy(v->text, at, w.text_len);
	at += w.text_len;
	buf_add(&v->payload, at, w.payload_len);
	return 0;
}
