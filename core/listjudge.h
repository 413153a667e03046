/*
 * listjudge.h - whether a verified, parsed list may become the current one.  Pure decisions on rows
 * and time.
 */
#ifndef VMI_LISTJUDGE_H
#define VMI_LISTJUDGE_H

#include <stdint.h>
#include "catalogue.h"
#include "conf.h"
#include "digest.h"
#include "err.h"
#include "imagelist.h"
#include "verdict.h"

enum judgement { JUDGE_ACCEPT, JUDGE_SAME, JUDGE_ACCEPT_WITH_WARNING };

/*
 * Version and date rules (I5, I6; codes 16, 17, 31, 33, 34).  warning (may be NULL) gets a
 * sentence for JUDGE_ACCEPT_WITH_WARNING (same version, newer dc:date:created; unwrapped list;
 * differing hv:uri).  Returns an enum judgement or a negative errno value.
 */
int list_judge(const struct subscription_row *sub, const struct imagelist *list,
	       const struct digest *message, const struct conf *conf, int64_t now,
	       struct err *warning, struct err *err);

/* dc:date:expires capped by max_valid_time after created. */
int64_t list_expiry(const struct imagelist *list, const struct conf *conf);

/*
 * hv:dn and hv:ca equal the certificate's names (12).  The old spelling of '/' inside a value is
 * accepted where it is unambiguous.
 */
int list_judge_names(const struct imagelist *list, const struct verdict *verdict, struct err *err);
bool dn_equal(const char *registered, const char *certificate);

/*
 * Whether some registered endorser holds exactly this credential, is linked to the subscription
 * (13), and its switches allow the weak digest (49) or other purpose (11) of the verdict.
 * subscription 0: registered is enough (subscribing).  name is the endorser's; caller frees.
 */
int list_judge_endorser(struct catalogue *c, int64_t subscription, const struct verdict *verdict,
			char **name, struct err *err);

/*
 * The same for an attestation of block digests: the endorser is blocks-only, or linked to some
 * list; of which images it may speak is asked when they are read.
 */
int list_judge_attester(struct catalogue *c, const struct verdict *verdict, char **name,
			struct err *err);
/* Whether the two above have judged the signer, and not just failed because nobody could tell. */
bool list_judge_told(const struct err *why);

#endif
