/*
 * store.h - the cache directory: objects, partial files, quarantine, lost+found, the marker.
 *
 *   cache_dir/.vmimagefs-store        marker: the store's id, the same as in the catalogue; the
 *                                     owner holds a flock on it
 *   cache_dir/objects/ab/<128 hex>    verified images, mode 0640, never changed or opened for
 *                                     writing again
 *   cache_dir/partial/<128 hex>       being received; its length is what has come
 *   cache_dir/quarantine/<128 hex>.N  bytes that failed verification, bounded
 *   cache_dir/lost+found/N-<name>     whatever we did not put there (lost+found.vmimagefs where the
 *                                     file system has a lost+found of root's)
 *
 * Every path is made of our own hex digests and integers, relative to directory descriptors, no
 * link followed; what is opened must be a regular file of the right size.  Threads: any, except
 * where a function says "owner", which is whoever holds the store lock.
 */
#ifndef VMI_STORE_H
#define VMI_STORE_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include "conf.h"
#include "digest.h"
#include "err.h"

struct store;

enum { STORE_ID_BYTES = 37 };	/* a random UUID and its NUL */

/*
 * Makes the directories and the marker.  Refused (-EEXIST) if a marker with another id is there
 * and force is not set.
 */
int store_init(const struct conf *conf, const char *store_id, bool force, struct err *err);

/*
 * Opens a store whose marker holds store_id; CODE_CORRUPT "cache marker missing" otherwise: a
 * cache file system that is not mounted must not look like an empty cache.
 */
int store_open(const struct conf *conf, const char *store_id, struct store **out, struct err *err);
void store_close(struct store *s);

/*
 * Makes us the owner (flock on the marker).  -EBUSY with CODE_BUSY when another process is.  Kept
 * until store_close() or exit, over fork.
 */
int store_lock(struct store *s, struct err *err);

/*
 * A descriptor on a verified object, read-only.  -ENOENT: there is none.  -EBADMSG with
 * CODE_CORRUPT: what is there is no regular file or has another size (looked at without blocking,
 * whatever it is).  -EACCES: it belongs to somebody else or cannot be read; the sentence says what
 * to do.  Other errors say nothing about the object.
 */
int store_object_open(struct store *s, const struct digest *d, int64_t size, struct err *err);

/* What store_object_open() says of a file that is gone or bad, rather than out of our reach. */
static inline bool
store_object_is_bad(int rc)
{
	return rc == -ENOENT || rc == -EBADMSG;
}

/* The space it takes, in 512-byte blocks, never 0; false if it is absent or wrong. */
bool store_object_stat(struct store *s, const struct digest *d, int64_t size, int64_t *blocks);

/* Takes cache_min_free anew; what else of the store is configured stays until it is opened again. */
void store_reconfigure(struct store *s, const struct conf *conf);

/* Owner below this line. */

/*
 * Opens or makes the partial file (read and write), reserved to size.  *have is the number of
 * bytes that an earlier run received (the length of the file; 0 for a new one): a partial larger
 * than size is dropped.  -ENOSPC with CODE_FULL below cache_min_free or without room.
 */
int store_partial_open(struct store *s, const struct digest *d, int64_t size, int *fd,
		       int64_t *have, struct err *err);

/* A read-only descriptor on the partial that fd is open on; it outlives the commit. */
int store_partial_reopen(struct store *s, const struct digest *d, int fd, struct err *err);

/*
 * Says that only the first have bytes of a partial are good to resume from; what lies beyond is cut
 * off.  Bytes written at the end of the file need no note: its length is the record.
 */
int store_partial_note(struct store *s, const struct digest *d, int fd, int64_t have);

/* Empties a partial and reserves size anew, for a transfer that starts again. */
int store_partial_reset(struct store *s, const struct digest *d, int fd, int64_t size,
			struct err *err);
void store_partial_drop(struct store *s, const struct digest *d);

/*
 * data -> fdatasync -> rename to objects/ab/<hex> -> fsync of the directories.  What has the name
 * already goes to quarantine/ or lost+found/.  Any failure makes the partial unusable: it is dropped.
 */
int store_commit(struct store *s, const struct digest *d, int fd, struct err *err);

/*
 * Moves bad bytes to quarantine/: the newest of each digest, LIMIT_QUARANTINE_FILES in all, the
 * oldest goes.  What is no regular file goes to lost+found/.  Absent is fine.
 */
int store_quarantine_partial(struct store *s, const struct digest *d, struct err *err);
int store_quarantine_object(struct store *s, const struct digest *d, struct err *err);

/* Absent is fine. */
int store_object_remove(struct store *s, const struct digest *d, struct err *err);

/*
 * Walks the whole store: known_object() and known_partial() say whether a digest is one of ours;
 * all else is moved to lost+found (never deleted), at most max_moves (> 0) things a call.  Every
 * object with a known digest is told to found() in each call, whether the moves sufficed or not.
 * Returns the number of moves: when it is max_moves, there may be more to move, and another call
 * goes on.  found, moved and stuck (what could not be moved and stays) may be NULL; from and to are
 * paths below cache_dir.
 */
struct store_walk {
	bool (*known_object)(void *arg, const struct digest *d);
	bool (*known_partial)(void *arg, const struct digest *d);
	void (*found)(void *arg, const struct digest *d, int64_t size);
	void (*moved)(void *arg, const char *from, const char *to);
	void (*stuck)(void *arg, const char *from, int errnum);
	void *arg;
	size_t max_moves;
};
int store_reconcile(struct store *s, const struct store_walk *walk, struct err *err);

/*
 * Calls fn for every regular file named by a digest in objects/ (to adopt objects after a catalogue
 * was lost).
 */
int store_each_object(struct store *s, void (*fn)(void *arg, const struct digest *d, int64_t size),
		      void *arg, struct err *err);

struct store_usage {
	int64_t fs_total, fs_free;	/* bytes of the file system */
	int64_t objects, partial, quarantine, lost_found;	/* bytes, by st_blocks */
	int64_t n_objects;
};
int store_usage(struct store *s, struct store_usage *out, struct err *err);

#endif
