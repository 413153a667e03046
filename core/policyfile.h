/*
 * policyfile.h - the rules of one .signing_policy or .namespaces file, told one by one.
 *
 * Knows the syntax and nothing of what the rules mean (policy.h does).  Pure: no I/O.
 */
#ifndef VMI_POLICYFILE_H
#define VMI_POLICYFILE_H

#include <stdbool.h>
#include <stddef.h>
#include "err.h"

/*
 * Told of each rule as it is written.  pattern NULL: the file begins to speak of this issuer, its
 * rules follow.  Returns NULL, or what in the pattern is not understood.
 */
typedef const char *policyfile_rule_fn(void *arg, const char *issuer, bool deny,
				       const char *pattern);

/*
 * 0, or CODE_NAMESPACE with origin, line and reason at the first fault; the rules before it were
 * told.
 */
int policyfile_signing_policy(const char *origin, const char *text, size_t len,
			      policyfile_rule_fn *fn, void *arg, struct err *err);
int policyfile_namespaces(const char *origin, const char *text, size_t len, policyfile_rule_fn *fn,
			  void *arg, struct err *err);

#endif
