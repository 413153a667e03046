/*
 * context.h - everything that a FUSE operation may use: one struct for the life of a mount.
 *
 * Made before the threads start, released after they ended.  The pointers do not change in
 * between; what they lead to has locks of its own.
 */
#ifndef VMI_CONTEXT_H
#define VMI_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/conf.h"
#include "core/engine.h"
#include "fs/blob.h"
#include "fs/notify.h"
#include "fs/ova.h"
#include "fs/passthrough.h"
#include "fs/pins.h"
#include "fs/readahead.h"
#include "fs/snapshot.h"
#include "fs/tree.h"

struct fs_context {
	struct tree_holder *holder;
	struct pins *pins;
	struct snapshots *snapshots;
	struct held *held;		/* open message files (held.c) */
	struct ovas *ovas;
	struct ovareads *ovareads;	/* borrowed; readers of archives */
	struct notifier *notifier;	/* NULL: no kernel to tell */
	struct blobs *blobs;		/* borrowed */
	struct disk *disk;		/* borrowed; places in the store */
	struct errands *errands;	/* borrowed; requests that need one */
	struct handles *handles;	/* borrowed; what is open, for the next worker; or NULL */
	int64_t *n_active;		/* borrowed; jobs that the kernel may know of; or NULL */
	struct history *history;	/* borrowed; of the workers before us; or NULL */
	struct passthrough *passthrough;/* borrowed; NULL: there is none */
	struct readahead *readahead;	/* borrowed; may be NULL */
	bool stacked;			/* the store lies on a stacked file system */
	struct engine *engine;		/* borrowed; NULL: nothing is being fetched */
	struct store *store;		/* borrowed */
	const struct conf *conf;	/* borrowed; used for what no reload changes */
	atomic_bool expired_open_deny;	/* set again after a reload */
	uid_t uid;			/* owner of all entries; set after the init */
	gid_t gid;
};

/* What became of the workers before us, as the supervisor tells it. */
struct history {
	pthread_mutex_t lock;
	int64_t restarts;
	char last[512];		/* when and why the last one was started again; or empty */
};

/* conf, store and blobs are borrowed until fs_context_release(). */
void fs_context_init(struct fs_context *fs, const struct conf *conf, struct store *store,
		     struct blobs *blobs);
void fs_context_release(struct fs_context *fs);

/* The engine's counters.  Any thread; waits for nothing. */
void fs_status(struct fs_context *fs, struct engine_status *out);

/* Whether a job for the object runs, and how far it is. */
void fs_progress(struct fs_context *fs, const struct digest *d, struct engine_progress *out);
/* Somebody has opened or closed a file of the object: what is used stays longest in the cache. */
void fs_used(struct fs_context *fs, const struct digest *d);

/*
 * Whether the object may be opened now (openrule_decide()).  slot: its slot in a tree, NULL if it
 * has left.
 */
int fs_may_open(struct fs_context *fs, const struct object_row *row,
		const struct tree_object_slot *slot);

/*
 * Rows changed: builds the new tree, swaps it in, cuts and restores objects whose trust changed,
 * and lets the kernel forget what is no longer so.  On the engine's thread.  If the rows
 * cannot be read the tree stays as it is, which is logged.  Returns the serial of the tree that
 * the notifier will tell of, or 0.
 */
uint64_t fs_tree_refresh(struct fs_context *fs, struct catalogue *c);

/* A job for this object began or ended. */
void fs_image_activity(struct fs_context *fs, const struct digest *d, bool active);

#endif
