/*
 * store.h - the cache directory: objects, partial files, quarantine, lost+found, the marker.
 *
 *   cache_dir/.vmimagefs-store        marker: the store's id, the same as in the catalogue; the
 *                                     owner holds a flock on it
 *   cache_dir/objects/ab/<128 hex>    verified images, mode 0640 (0444 with a hard link for event
 *                                     handlers), never changed; opened for writing to heal alone
 *   cache_dir/objects/ab/<128 hex>.fsv  the tree that proves it (vtree.h)
 *   cache_dir/partial/<128 hex>       being received as a stream; its length is what has come
 *   cache_dir/partial/<128 hex>.blocks  being filled block by block, its full size from the start
 *   cache_dir/partial/<128 hex>.fsv, .map  its tree, and which granules are here (blockfile.h)
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
#include "buf.h"
#include "conf.h"
#include "digest.h"
#include "err.h"

struct store;
struct vtree;

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

/*
 * An object or its tree, if all that opening takes is in memory and nothing is amiss; -EAGAIN
 * otherwise.  *size: of the file.
 */
int store_open_cached(struct store *s, const struct digest *d, bool tree, int64_t *size);

/* What store_object_open() says of a file that is gone or bad, rather than out of our reach. */
static inline bool
store_object_is_bad(int rc)
{
	return rc == -ENOENT || rc == -EBADMSG;
}

/*
 * The space it takes, in 512-byte blocks, never 0; false if it is absent or wrong, or cannot be
 * looked at now.
 */
bool store_object_stat(struct store *s, const struct digest *d, int64_t size, int64_t *blocks);
/* 1: it is there.  0: it is absent or wrong.  Negative: it cannot be looked at now. */
int store_object_look(struct store *s, const struct digest *d, int64_t size);

/*
 * Takes cache_size and cache_min_free anew; what else of the store is configured stays until it is
 * opened again.
 */
void store_reconfigure(struct store *s, const struct conf *conf);

/* Owner below this line. */

/*
 * Opens or makes the partial file (read and write), reserved to size; what block mode left of the
 * same image is dropped.  *have is the number of
 * bytes that an earlier run received (the length of the file; 0 for a new one): a partial larger
 * than size is dropped.  -ENOSPC with CODE_FULL over cache_size, below cache_min_free, or without
 * room.
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
 * data -> fdatasync -> tree -> fsync -> rename to objects/ab/<hex> -> fsync of the directories.
 * What has the name already goes to quarantine/ or lost+found/.  Without room for the tree it is an
 * object without one.  A failure makes the partial unusable, and it is dropped; but not one that
 * passes (room, descriptors) when the data are durable: the next try has all of it.
 */
int store_commit(struct store *s, const struct digest *d, int fd, const struct vtree *tree,
		 struct err *err);

/*
 * Moves bad bytes to quarantine/: the newest of each digest, LIMIT_QUARANTINE_FILES in all, the
 * oldest goes.  What is no regular file goes to lost+found/.  Absent is fine.
 */
int store_quarantine_partial(struct store *s, const struct digest *d, struct err *err);
int store_quarantine_object(struct store *s, const struct digest *d, struct err *err);

/*
 * Trees (vtree.h).  Open: read-only, -ENOENT if there is none.  Put: written beside, renamed,
 * durable unless it is of one granule; replaces.  An object's tree goes with the object (remove,
 * quarantine).  -EBADMSG with CODE_CORRUPT: what has the name is no regular file.  Open: any
 * thread.
 */
int store_tree_open(struct store *s, const struct digest *d, bool partial, struct err *err);
int store_tree_put(struct store *s, const struct vtree *tree, bool partial, struct err *err);

/*
 * The file of an image in block mode, read and write, size bytes long and reserved; *is_new:
 * nothing of it is here yet.  -ENOSPC with CODE_FULL as store_partial_open().  A stream's partial
 * of the same image is dropped.
 */
int store_blocks_open(struct store *s, const struct digest *d, int64_t size, int *fd, bool *is_new,
		      struct err *err);
void store_blocks_drop(struct store *s, const struct digest *d);	/* with its tree and map */
/*
 * The map is a hint: written without fsync, replaced by rename.  -ENOENT: there is none; -EBADMSG:
 * it is torn.  Reads into out, which must be empty.
 */
int store_map_read(struct store *s, const struct digest *d, struct buf *out);
int store_map_write(struct store *s, const struct digest *d, const void *map, size_t len);
/*
 * Every block is here and the whole was hashed: as store_commit(), with its tree; the map goes.  fd
 * stays good for reading.
 */
int store_commit_blocks(struct store *s, const struct digest *d, int fd, struct err *err);
/* As store_quarantine_partial(), for the file in block mode. */
int store_quarantine_blocks(struct store *s, const struct digest *d, struct err *err);

/*
 * A second descriptor on a verified object, read and write, for healing.  Errors as
 * store_object_open().  Any thread.
 */
int store_object_open_rw(struct store *s, const struct digest *d, int64_t size, struct err *err);
/*
 * Bad bytes of a part of an object, kept as a file of their own: the newest four of an image,
 * within LIMIT_QUARANTINE_FILES.  Any thread.
 */
int store_quarantine_bytes(struct store *s, const struct digest *d, const void *data, size_t len,
			   struct err *err);

/* Absent is fine. */
int store_object_remove(struct store *s, const struct digest *d, struct err *err);

/*
 * Walks the whole store: known_object() and known_partial() say whether a digest is one of ours;
 * all else is moved to lost+found, at most max_moves (> 0) things a call.  Only trees and maps of
 * unknown digests are removed, because they hold no bytes of an image; that counts as a move, but
 * is not told.  Every object with a known digest is told to found() in each call, whether the
 * moves sufficed or not.  Returns the number of moves: when it is max_moves, there may be more to
 * move, and another call goes on.  found, moved and stuck (what could not be moved and stays) may
 * be NULL; from and to are paths below cache_dir.
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

/* ---- room ------------------------------------------------------------------------------------ */

struct store_usage {
	int64_t fs_total, fs_free;	/* bytes of the file system */
	/* bytes, by st_blocks, trees included */
	int64_t objects, partial, quarantine, lost_found;
	int64_t promised;		/* to transfers, beyond what is in partial */
	int64_t n_objects;
	int64_t limit;			/* cache_size; 0: none */
	int64_t keep_free;		/* cache_min_free in bytes */
};

/* What counts against cache_size. */
static inline int64_t
store_used(const struct store_usage *u)
{
	return u->objects + u->partial + u->quarantine + u->lost_found + u->promised;
}

/* Any thread.  usage: looks at every file.  room: what is known in memory; for the owner. */
int store_usage(struct store *s, struct store_usage *out, struct err *err);
int store_room(struct store *s, struct store_usage *out, struct err *err);

/* What is known in memory is compared with every file: at the start, and now and then. */
int store_recount(struct store *s, struct err *err);
/* Something of this digest has changed on the disk, by no function of this header. */
void store_measure(struct store *s, const struct digest *d);

struct store_bytes {
	int64_t object, partial, promised;
	bool stored;			/* there was an object when it was measured last */
};
struct store_bytes store_bytes(struct store *s, const struct digest *d);

/* What an image of this size takes in the end, its tree included. */
int64_t store_charge(int64_t size);
/*
 * Promises an image the room that it takes, so that nobody else gets it, until store_dismiss().
 * -ENOSPC with CODE_FULL: there is none, by cache_size or cache_min_free; *lacking (may be NULL) is
 * how much is missing.  fits: only asks.
 */
int store_admit(struct store *s, const struct digest *d, int64_t size, int64_t *lacking,
		struct err *err);
int store_fits(struct store *s, const struct digest *d, int64_t size, struct err *err);
int64_t store_lacks(struct store *s, const struct digest *d, int64_t size);
void store_dismiss(struct store *s, const struct digest *d);

/* Bad bytes in quarantine/, oldest first or not; drop: absent is fine. */
int store_quarantine_each(struct store *s,
			  void (*fn)(void *arg, const struct digest *d, int64_t number,
				     int64_t bytes),
			  void *arg, struct err *err);
int store_quarantine_drop(struct store *s, const struct digest *d, int64_t number,
			  struct err *err);

#endif
