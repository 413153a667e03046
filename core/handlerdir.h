/*
 * handlerdir.h - the directories that vmcatcher's event handlers work in: handler_dir of a
 * daemon, or those given to vmcatcher_cache.
 *
 *   cache/<id>             an image that is selected, fetched and verified
 *   cache/cache.index      JSON object, sorted keys, indent 4: <id> -> what vmcatcher kept of it,
 *                          less the message (its copy for each image made the file quadratic)
 *   cache/templates/       writable by handler_group: the OpenNebula handler writes there
 *   partial/<id>           while a handler is told AvailablePrefix; cache.index is {}
 *   expired/<id>.<time>    what stands in expired/ of the mount; cache.index
 *
 * An entry is a symbolic link to MOUNTPOINT/by-sha512/<digest> when the store is mounted, else a
 * hard link to the object, else (another file system) a copy.  What is expired and distrusted or
 * purged is an empty file: a handler only asks whether it is one.  Index files are written whole
 * (rename) and never read: nothing is ever removed for want of an entry in them.  In these
 * directories only names that we made (handlerlink.h) are ever replaced or removed; what handlers
 * keep there is theirs.  Every name is one that safename.h made.  Errors: what cannot be made is
 * said, and the next sync tries again.
 *
 * While a handler is told of an event, the name that it looks at shows the event's own version,
 * also when rows have moved on since; then it follows the rows again (handlerdir_done()).
 */
#ifndef VMI_HANDLERDIR_H
#define VMI_HANDLERDIR_H

#include <stdbool.h>
#include "catalogue.h"
#include "conf.h"
#include "err.h"
#include "outbox.h"

struct handlerdir;

struct handlerdir_config {
	const char *cache, *partial, *expired;	/* must exist; borrowed for the call */
	const char *mountpoint;			/* NULL: not mounted */
	const char *objects;			/* cache_dir, for hard links */
	/*
	 * A file that others made (vmcatcher 0.6) gives way to a link if its bytes are the
	 * image's.  It is read whole for that: for commands, not for a daemon.
	 */
	bool adopt;
};

/*
 * Makes conf->handler_dir (0755) with cache/, partial/, expired/ (0755, of `user`) and
 * cache/templates (2775, handler_group): by root before it becomes user, else by whoever may.
 * Follows no link.
 */
int handlerdir_make(const struct conf *conf, uid_t uid, gid_t gid, struct err *err);

int handlerdir_open(struct handlerdir **out, const struct handlerdir_config *config,
		    struct err *err);
void handlerdir_close(struct handlerdir *h);

/*
 * Makes the directories say what the rows say; looks at rows only if they have changed.  An index
 * that costs much to write is written at the latest when handlerdir_wait() says so.
 */
int handlerdir_sync(struct handlerdir *h, struct catalogue *c, struct err *err);

/* Milliseconds until handlerdir_sync() has an index to write; -1: they are written. */
int handlerdir_wait(const struct handlerdir *h);

/*
 * sync, and then what this event's handler must find: the file in partial/ for AvailablePrefix,
 * in cache/ for AvailablePostfix and ExpirePrefix, in expired/ for ExpirePostfix.  Its errors are
 * those of this event alone: -ESTALE: an Available event of bytes that may not be given out any
 * more (distrusted, purged): it is not to be delivered.  -EBUSY: a handler is being told of
 * another version under the same name.
 */
int handlerdir_prepare(struct handlerdir *h, struct catalogue *c, const struct event_row *event,
		       struct err *err);

/* The handler of an event that was prepared has ended, however it did; once for each prepare. */
void handlerdir_done(struct handlerdir *h, const struct event_row *event);

#endif
