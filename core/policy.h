/*
 * policy.h - .signing_policy (Globus EACL) and .namespaces (EUGridPMA) files: which subjects a CA
 * may sign.
 *
 * '*' and '?' are wildcards in signing_policy; namespaces hold regular expressions of which the
 * plain wildcard subset is understood (".", ".*", ".+" and escapes); neither is ever given to a
 * regex engine, and no pattern makes matching take more than pattern length times name length.
 * Names are X509_NAME_oneline() forms.  Pure: no I/O.
 */
#ifndef VMI_POLICY_H
#define VMI_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include "err.h"

struct policy;	/* rules of one or many files */

struct policy *policy_new(void);
void policy_free(struct policy *p);

/*
 * Adds the rules of one file; origin names it in messages.  A malformed file is refused with
 * CODE_NAMESPACE, the file, the line and the reason; none of its rules counts, and every issuer
 * that it named before the fault is unusable from then on.
 */
int policy_add_signing_policy(struct policy *p, const char *origin, const char *text, size_t len,
			      struct err *err);
int policy_add_namespaces(struct policy *p, const char *origin, const char *text, size_t len,
			  struct err *err);

/*
 * Whether issuer may sign subject: each kind of file that speaks of this issuer must permit it,
 * and at least one must speak.  CODE_NAMESPACE otherwise, naming the file and the rule.
 */
int policy_permits(const struct policy *p, const char *issuer, const char *subject,
		   struct err *err);

#endif
