/*
 * handlerlink.h - one name in a directory that event handlers look into: a link to an image, a
 * copy, or an empty file; and whether it is ours to replace.
 *
 * Ours is a symbolic link to .../by-sha512/<128 hex>, and a regular file of which
 * DIR/.vmimagefs/<name> says so.  Anything else with the name is somebody's, and stays.
 * The mount is never touched: symbolic links are made and read, not followed.  Names are single
 * components that do not begin with '.'.  One thread for each struct; processes may share a
 * directory.
 */
#ifndef VMI_HANDLERLINK_H
#define VMI_HANDLERLINK_H

#include <stdbool.h>
#include <stdint.h>
#include "digest.h"
#include "err.h"

struct handlerlink;

struct handlerlink_config {
	const char *path;		/* the directory: must exist */
	const char *mountpoint;		/* symbolic links into it; NULL: hard links, or copies */
	const char *cache_dir;		/* of the objects that these are of */
	bool adopt;			/* a file of others with the very bytes gives way */
};

/* Borrows nothing. */
int handlerlink_open(struct handlerlink **out, const struct handlerlink_config *config,
		     struct err *err);
void handlerlink_close(struct handlerlink *l);

/* Whether both are the same directory. */
bool handlerlink_same(const struct handlerlink *a, const struct handlerlink *b);

enum handlerlink_state {
	HANDLERLINK_FREE,		/* nothing has the name */
	HANDLERLINK_IMAGE,		/* ours: an image */
	HANDLERLINK_EMPTY,		/* ours: an empty file */
	HANDLERLINK_FOREIGN,
};
/* What the name shows now; of an image its digest. */
enum handlerlink_state handlerlink_look(const struct handlerlink *l, const char *name,
					struct digest *d);

/*
 * Makes the name show the image, in one step if it showed something of ours before; does nothing if
 * it does already.  -EEXIST: the name is somebody else's.  Without a mount -ENOENT: the
 * object is not in the store, or is not size bytes long.  A copy is hashed on the way: -EBADMSG.
 */
int handlerlink_image(struct handlerlink *l, const char *name, const struct digest *d, int64_t size,
		      struct err *err);
/* The same with an empty file. */
int handlerlink_empty(struct handlerlink *l, const char *name, struct err *err);

/* Takes the name away if it is ours. */
int handlerlink_drop(struct handlerlink *l, const char *name, struct err *err);

/* Takes every name of ours away that wanted() does not know, and notes of names that are gone. */
int handlerlink_sweep(struct handlerlink *l, bool (*wanted)(void *arg, const char *name), void *arg,
		      struct err *err);

/*
 * Replaces a file of ours (an index) whole, mode 0644.  Not durable: it is written at each start.
 */
int handlerlink_write(struct handlerlink *l, const char *name, const void *data, size_t len,
		      struct err *err);

#endif
