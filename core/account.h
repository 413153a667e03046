/*
 * account.h - a user of this host by name.
 */
#ifndef VMI_ACCOUNT_H
#define VMI_ACCOUNT_H

#include <sys/types.h>
#include "err.h"

struct account {
	char *name, *home;
	uid_t uid;
	gid_t gid;		/* the primary group */
};

/* -ENOENT: there is no such user.  Caller account_release()s. */
int account_find(const char *name, struct account *out, struct err *err);
void account_release(struct account *a);

/*
 * The calling process, root, becomes this user with all groups of it, for good.  What it executes
 * may gain privileges again as the user's programs do (sudo), unlike after sandbox_become_user().
 * Does nothing when it is this user already.  Never returns half done: it dies.
 */
int account_become(const struct account *a, struct err *err);

#endif
