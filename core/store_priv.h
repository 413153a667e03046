/*
 * store_priv.h - what the files of the store share: store.c, partial.c, storeblocks.c, storetree.c,
 * storecommit.c, storeroom.c, aside.c, reconcile.c.
 */
#ifndef VMI_STORE_PRIV_H
#define VMI_STORE_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include "err.h"
#include "store.h"

enum {
	STORE_FILE_MODE = 0640,
	STORE_NAME_MAX = 255,	/* of any file system of Linux */
	STORE_SIDE_MAX = DIGEST_HEX + 16,	/* a digest, a suffix, .new */
};

/*
 * What stands beside an object or a partial file, behind its digest; and behind that while
 * it is written.
 */
#define STORE_TREE ".fsv"
#define STORE_BLOCKS ".blocks"
#define STORE_MAP ".map"
#define STORE_NEW ".new"

#define STORE_MARKER ".vmimagefs-store"
#define STORE_LOST_FOUND "lost+found"
/* mkfs.ext4 makes a lost+found of root alone; on such a file system ours has this name. */
#define STORE_LOST_FOUND_OTHER "lost+found.vmimagefs"

struct store {
	/* fixed while the store is open */
	char *path;			/* cache_dir, for messages */
	int root, objects, partial, quarantine, lost;	/* directories */
	const char *lost_name;
	int marker;			/* the flock is on this open file */

	atomic_int min_free_percent;	/* as in struct conf; new ones after a reload */
	_Atomic int64_t min_free, limit;

	atomic_bool quarantine_changed, lost_changed;	/* to be measured anew */

	/* Three locks; aside may be taken under side, and room under no other. */
	pthread_mutex_t aside;		/* one move to quarantine/ or lost+found/ at a time */
	int64_t next_lost;		/* under it: next number in lost+found/; 0: not known yet */
	pthread_mutex_t side;		/* who makes or removes a NAME.new has it */
	pthread_mutex_t room;		/* what follows */
	struct ledger *ledger;		/* NULL: not counted yet */
	int64_t quarantine_bytes, lost_bytes;
};

static inline int
store_with_code(struct err *err, enum code code, int rc)
{
	if (err != NULL)
		err->code = code;
	return rc;
}

static inline void
store_side_name(char name[STORE_SIDE_MAX + 1], const char *hex, const char *suffix)
{
	snprintf(name, STORE_SIDE_MAX + 1, "%.*s%s", DIGEST_HEX, hex, suffix);
}

/*
 * Opens dir/name as a regular file, without waiting for anything else that has the name: -EBADMSG
 * then.  Other errors as open(); no sentence is written.
 */
int store_open_regular(int dir, const char *name, int flags);

/*
 * A file beside an object or partial file, replaced as a whole: it has its old contents or all of
 * the new ones.  write puts the new ones into the empty file.  durable: they are there after a
 * power cut; otherwise anything may be.
 */
int store_replace_side(struct store *s, int dir, const char *name,
		       int (*write)(void *arg, int fd), void *arg, bool durable);

/*
 * Opens a file of partial/ (read and write) that an earlier run left if it can be gone on with: a
 * regular file of ours of min to max bytes.  Anything else goes.  -ENOENT: there is nothing (any
 * more).
 */
int store_open_earlier(struct store *s, const char *name, int64_t min, int64_t max);

/*
 * Is there room for the rest of the image's size bytes, of which fd is what is here?  Then it is
 * reserved, with its length unless keep_length.
 */
int store_reserve(struct store *s, const struct digest *d, int fd, int64_t size, bool keep_length,
		  struct err *err);

/* The sentence for a file that cannot be made in partial/; CODE_FULL where that is the reason. */
int store_say_unopened(const struct store *s, int rc, const char *name, struct err *err);

/* The directory objects/<first two digits of hex>, or a negative errno value. */
int store_shard(struct store *s, const char *hex, bool make);

/* The same, made if need be; what is in its way is moved to lost+found. */
int store_enter_shard(struct store *s, const char *hex);

/* Moves dir/name to lost+found/<number>-<name>; to gets the new name. */
int store_aside_lost(struct store *s, int dir, const char *name, char to[STORE_NAME_MAX + 1]);

/* Is it a name in quarantine/? */
bool store_aside_is_quarantined(const char *name);

/* Regular files to quarantine/, everything else to lost+found/.  Absent is 0. */
int store_aside_any(struct store *s, int dir, const char *name, const char *hex);

#endif
