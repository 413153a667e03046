/*
 * candidate.h - a message that wants to become the current list of a subscription.
 *
 * From bytes to a parsed list whose signature holds and whose names are the certificate's.  What
 * depends on rows (who may sign, which version may follow) is judged elsewhere.
 */
#ifndef VMI_CANDIDATE_H
#define VMI_CANDIDATE_H

#include "buf.h"
#include "conf.h"
#include "digest.h"
#include "err.h"
#include "imagelist.h"
#include "starter.h"
#include "verdict.h"

struct candidate {
	struct buf message;		/* verbatim */
	struct digest digest;		/* of message */
	/* Also set when the signature is refused; rc 0: it was not judged. */
	struct verdict verdict;
	struct imagelist *list;		/* NULL until the signature is accepted */
};

void candidate_init(struct candidate *c);
void candidate_release(struct candidate *c);

static inline void
cleanup_candidate_p(struct candidate *c)
{
	candidate_release(c);
}
#define CLEANUP_CANDIDATE __attribute__((cleanup(cleanup_candidate_p)))

/*
 * Fills c->message from a URL (without userinfo), blocking.  username NULL: no credentials.
 * tls_ca NULL: system store.  CODE_DOWNLOAD, CODE_SLOW, CODE_LIMIT.
 */
int candidate_fetch(struct candidate *c, const struct conf *conf, struct starter *starter,
		    const char *url, const char *username, const char *password, const char *tls_ca,
		    struct err *err);

/*
 * Fills c->message from what was stored; -EBADMSG (CODE_CORRUPT) if it is gone or is not those
 * bytes any more.
 */
int candidate_load(struct candidate *c, const struct conf *conf, const struct digest *digest,
		   struct err *err);

/* Verifies the signature alone: codes 11, 14, 49, 50, 51. */
int candidate_verify(struct candidate *c, struct starter *starter, struct err *err);

/*
 * Verifies, parses, and compares the names: codes 11, 14, 49, 50, 51; 37, 38, 47, 34, 46; 12.  A
 * refusal of the signature is told apart from the rest by c->verdict.rc.
 */
int candidate_examine(struct candidate *c, const struct conf *conf, struct starter *starter,
		      struct err *err);

#endif
