/*
 * verdictbed.h - a verifier that says of messages what it was told to say.
 */
#ifndef VMI_TESTS_VERDICTBED_H
#define VMI_TESTS_VERDICTBED_H

#include "sitefixture.h"

#include "core/verify.h"

static struct {
	int none;			/* not 0: it says nothing at all */
	enum code code;			/* CODE_NONE: the signature is good */
	bool revoked, weak;
	const char *signer;
	/* Of messages without this text: good, and signed by the other. */
	const char *only, *other;
	int n;				/* how often it was asked */
	void (*meanwhile)(void *arg);	/* what happens while it thinks; NULL: nothing */
	void *arg;
} verdict;

int
verify_message(struct starter *starter, const void *message, size_t len, struct verdict *out,
	       struct err *err)
{
	bool his = verdict.only == NULL ||
		   memmem(message, len, verdict.only, strlen(verdict.only)) != NULL;

	(void)starter;
	verdict.n++;
	if (verdict.meanwhile != NULL)
		verdict.meanwhile(verdict.arg);
	if (verdict.none != 0)
		return err_set(err, verdict.none, "there is no verifier");
	out->subject = xstrdup(his ? verdict.signer : verdict.other);
	out->issuer = xstrdup(CA);
	out->weak_digest = his && verdict.weak;
	if (his && verdict.code != CODE_NONE) {
		out->rc = -code_errno(verdict.code);
		out->code = verdict.code;
		out->revoked = verdict.revoked;
		snprintf(out->text, sizeof(out->text), "the verifier refuses it");
		return 0;
	}
	buf_add(&out->payload, message, len);
	return 0;
}

/* What struct refresh says, to a struct fixture. */
static void
say(void *arg, const char *text)
{
	site_say(arg, text);
}

#endif
