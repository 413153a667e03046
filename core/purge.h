/*
 * purge.h - removing the files of withdrawn images, by policy or by an admin's word.  For the
 * owner of the store.
 */
#ifndef VMI_PURGE_H
#define VMI_PURGE_H

#include <stdbool.h>
#include <stdint.h>
#include "catalogue.h"
#include "conf.h"
#include "err.h"
#include "store.h"

struct purged {
	int files;
	int versions;			/* whose file stays, because another has the same */
	int open;			/* files that were due and stay, because they are open */
};

/* Purges what expire_keep lets go.  is_open NULL: nothing is, because no daemon runs. */
int purge_by_policy(struct catalogue *c, struct store *s, const struct conf *conf, int64_t now,
		    bool (*is_open)(void *arg, const struct digest *d), void *arg,
		    struct purged *out, struct err *err);

/* Purges what was withdrawn at least age seconds ago, whatever expire_keep says. */
int purge_older(struct catalogue *c, struct store *s, int64_t age, int64_t now,
		bool (*is_open)(void *arg, const struct digest *d), void *arg, struct purged *out,
		struct err *err);

#endif
