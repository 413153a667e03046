/*
 * store_priv.h - what the files of the store share: store.c, partial.c, aside.c, reconcile.c.
 */
#ifndef VMI_STORE_PRIV_H
#define VMI_STORE_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include "err.h"
#include "store.h"

enum {
	STORE_FILE_MODE = 0640,
	STORE_NAME_MAX = 255,	/* of any file system of Linux */
};

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
	_Atomic int64_t min_free;

	pthread_mutex_t aside;		/* one move to quarantine/ or lost+found/ at a time */
	int64_t next_lost;		/* under it: next number in lost+found/; 0: not known yet */
};

static inline int
store_with_code(struct err *err, enum code code, int rc)
{
	if (err != NULL)
		err->code = code;
	return rc;
}

/* The directory objects/<first two digits of hex>, or a negative errno value. */
int store_shard(struct store *s, const char *hex, bool make);

/* "a directory", "a FIFO"... */
const char *store_file_type(mode_t mode);

/* Moves dir/name to lost+found/<number>-<name>; to gets the new name. */
int store_aside_lost(struct store *s, int dir, const char *name, char to[STORE_NAME_MAX + 1]);

/* Moves a regular file dir/hex to quarantine/<hex>.<number>, drops the oldest over the bound. */
int store_aside_quarantine(struct store *s, int dir, const char *hex);

/* Is it a name that store_aside_quarantine() gives? */
bool store_aside_is_quarantined(const char *name);

/* Regular files to quarantine/, everything else to lost+found/.  Absent is 0. */
int store_aside_any(struct store *s, int dir, const char *hex);

#endif
