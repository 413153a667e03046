/*
 * verify.h - one signed message handed to a verifier process, and its verdict taken back.
 *
 * The message is parsed in that process alone; here it is a string of bytes.
 */
#ifndef VMI_VERIFY_H
#define VMI_VERIFY_H

#include <stddef.h>
#include "err.h"
#include "starter.h"
#include "verdict.h"

/*
 * Blocks, at most LIMIT_VERIFIER_SECONDS.  0 with out->rc set (which may be a refusal), or a
 * negative errno value if there is no verdict (CODE_LIMIT: the verifier died, ran too long, or
 * said nothing that makes sense).  out was verdict_init()ed; the caller releases it.  No other
 * child of this starter may be running.
 */
int verify_message(struct starter *starter, const void *message, size_t len, struct verdict *out,
		   struct err *err);

#endif
