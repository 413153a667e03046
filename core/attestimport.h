/*
 * attestimport.h - attestations brought in and judged again: fetch, verify, judge, rows.  Blocking,
 * as refresh.h.
 *
 * A message is treated as a list is: one signer, chain, CRLs and policy files in the verifier
 * process, a registered endorser whose switches allow it.  Entries that are refused are told with
 * say(), one line each.
 */
#ifndef VMI_ATTESTIMPORT_H
#define VMI_ATTESTIMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include "catalogue.h"
#include "err.h"
#include "refresh.h"

/* A message from the admin's hand.  *endorser: whose it is; caller frees. */
int attestimport_message(const struct refresh *r, const void *message, size_t len,
			 struct attestation_result *result, char **endorser, struct err *err);

/*
 * What the configuration names for a list, if anything.  It never fails a refresh: what goes wrong
 * is told with say().  Nothing is done in a dry run.  Whether there was something new.
 */
bool attestimport_for_list(const struct refresh *r, const char *list_id);

/*
 * Stored messages judged anew without network, as recheck_lists() does for lists: what is revoked
 * or damaged counts no longer, what is trusted again counts again.  lost_only: only those that do
 * not count now.  aloud: also what merely stays as it was is told.  *unknown: there was no verdict,
 * the question must be asked again.  *changed is added to.
 */
int attestimport_recheck(const struct refresh *r, bool lost_only, bool aloud, bool *unknown,
			 int *changed, struct err *err);

/* One line for each image for which several fs-verity digests are named, so that none is used. */
void attestimport_say_disagreements(const struct refresh *r);

#endif
