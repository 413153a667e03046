/*
 * blobtable.h - blobs, their stored files and their parked reads, as blob.c keeps them.
 *
 * The lock of struct blobs must be held in every function here.  Only blob.c includes this.
 */
#ifndef VMI_BLOBTABLE_H
#define VMI_BLOBTABLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/digest.h"
#include "fs/blob.h"

enum blob_state { BLOB_ABSENT, BLOB_READY, BLOB_CUT };

enum { BLOB_BUCKETS = 64 };

struct parked {
	struct parked *next;
	uint64_t id;
	struct fuse_req *req;
	size_t size;
	off_t off;
	long long deadline;		/* monotonic ms */
	uint64_t object;
	bool healing;			/* our file is bad: without a better one it is EIO */
	bool again;			/* the suspect file is back in use: read it */
};

struct stored {				/* a descriptor on verified bytes */
	unsigned refs;
	int fd;
	struct digest digest;
};

struct blob {
	struct blob *next;
	uint64_t object;
	struct digest digest;
	int64_t size;
	enum blob_state state;
	struct stored *stored;
	struct stored *suspect;		/* failed a read; only while ABSENT */
	unsigned opens;
	bool asked;
	struct parked *parked;
};

struct blobs {
	pthread_mutex_t lock;
	pthread_cond_t wake;		/* of the deadline thread; on the monotonic clock */
	pthread_t thread;
	bool ending;
	long long next_deadline;	/* what the thread waits for; 0: nothing */
	struct blob *buckets[BLOB_BUCKETS];
	struct store *store;
	struct engine *engine;
	int64_t timeout;		/* seconds */
	uint64_t last_id;
	int64_t n_parked, n_open;
};

/* The table of states in blob.c, asserted. */
void blobtable_check(const struct blob *blob);
/* One reference is the caller's.  Takes fd. */
struct stored *stored_new(int fd, const struct digest *d);
/* NULL gives NULL. */
struct stored *stored_ref(struct stored *s);
/* Closes the descriptor with the last reference.  NULL is fine. */
void stored_unref(struct stored *s);
/* By number; NULL if there is none. */
struct blob *blobtable_find(struct blobs *b, uint64_t object);
/*
 * The next blob with these bytes after another one (NULL: the first), in the order of the table.  There may be
 * several: an object that was forgotten while a file of it was open has another number when it
 * is listed again.
 */
struct blob *blobtable_next(struct blobs *b, const struct digest *d, const struct blob *after);
/* Frees a blob that is neither open nor waited for. */
void blobtable_collect(struct blobs *b, struct blob *blob);
/* A new blob, ABSENT. */
struct blob *blobtable_add(struct blobs *b, uint64_t object, const struct digest *d, int64_t size);
/* Takes all parked reads off a blob and puts them in front of a list. */
void blobtable_take_parked(struct blobs *b, struct blob *blob, struct parked **list);
/* Takes one parked read off by its number; NULL if it was answered. */
struct parked *blobtable_take(struct blobs *b, uint64_t id);
/* Takes off what is past its deadline and notes the earliest one left. */
struct parked *blobtable_take_overdue(struct blobs *b, long long now);

#endif
