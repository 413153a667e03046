/*
 * recheck.h - stored messages judged anew, without network.
 *
 * Trust ends when an endorser is removed, a CRL names its certificate, or the rows turn out not to
 * be what was signed.  None of that needs the list's server.
 */
#ifndef VMI_RECHECK_H
#define VMI_RECHECK_H

#include <stdbool.h>
#include "catalogue.h"
#include "err.h"
#include "refresh.h"

enum recheck_scope {
	RECHECK_IF_CHANGED, /* all, if the trust directory has changed since the last time or
			       crl_strict is set */
	RECHECK_ALL,
	RECHECK_DISTRUSTED, /* those alone that may come back, after an endorser was registered or
			       linked */
};

/*
 * Revoked signers are distrusted; with crl_strict so are lists whose CRL is missing or expired;
 * lists that were distrusted and are trusted again come back.  A message that cannot be judged (no
 * verifier) changes nothing and is asked again.  Attestations of block digests
 * likewise.  *changed counts subscriptions and attestations.  While this host's clock is of the
 * past (clock.h) nothing is judged: CODE_CLOCK, or 0 for RECHECK_IF_CHANGED.
 */
int recheck_lists(const struct refresh *r, enum recheck_scope scope, int *changed, struct err *err);

/*
 * Compares one subscription's rows with its stored message.  Refused (CODE_CORRUPT, or what the
 * signature or endorser is refused with) if they differ.  With repair the rows are then made from
 * the message again, if it can be trusted; the finding is returned all the same.
 */
int recheck_audit(const struct refresh *r, const struct subscription_row *sub, bool repair,
		  struct err *err);

#endif
