/*
 * blobtable.h - blobs, what they are read from, and their parked reads.
 *
 * The lock of struct blobs must be held in every function here.  Only blob*.c include this.
 *
 * A parked read stands in three lists: of what it waits for (a queue of its blob), of its number
 * (an interrupt names it so), and with all others in the table of numbers.
 */
#ifndef VMI_BLOBTABLE_H
#define VMI_BLOBTABLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/blockfile.h"
#include "core/digest.h"
#include "fs/blob.h"
#include "fs/disk.h"

enum blob_state { BLOB_ABSENT, BLOB_READY, BLOB_CUT };

enum { BLOB_BUCKETS = 256, BLOB_QUEUES = 64, BLOB_NUMBERS = 256, BLOB_OVERDUE = 256 };

/* In the place of a granule. */
#define BLOB_WHOLE (-1)	/* the engine's answer is waited for */
#define BLOB_DISK (-2)	/* the disk is, or a place there */

struct read {			/* a request, or a read of our own */
	struct fuse_req *req;
	blob_done *done;	/* of our own: req is NULL */
	void *arg;
	uint64_t object;
	size_t size;
	off_t off;
	uint64_t id;		/* 0: it has not been parked yet */
	long long since;	/* monotonic ms when it first was, or (our own) as was said */
	long long ends_at;	/* likewise, because it was interrupted; 0: it was not */
	bool buffered;		/* the kernel asks for pages, and again for what it did not get */
	bool late;		/* what it asks for was waited for in vain just now */
};

struct parked {
	struct parked *next, **link;		/* in the queue of its blob */
	struct parked *next_number, **number_link;
	struct read read;
	struct blob *blob;
	int64_t granule;	/* what it waits for, or BLOB_WHOLE, or BLOB_DISK */
	struct turn turn;	/* BLOB_DISK: in the disk's queue, unless it is being read */
	bool healing;		/* the granule is bad: without a better one it is EIO */
	bool again;		/* to be tried again; holds the blob until then */
	long long deadline;	/* monotonic ms */
};

struct blob {
	struct blob *next, *next_same;	/* by number, by digest */
	uint64_t object;
	struct digest digest;
	int64_t size;
	enum blob_state state;
	struct blockfile *file;		/* a reference */
	bool lazy;			/* can be had block by block */
	bool asked;			/* the engine, for an answer */
	unsigned opens;
	size_t n_parked;
	size_t n_again;			/* were parked, and are being tried again */
	struct parked *queues[BLOB_QUEUES];	/* by granule */
};

/* A request that was past its deadline a moment ago. */
struct overdue {
	uint64_t object;
	off_t off;
	size_t size;
	/* Monotonic ms: it began; what it asked for may be asked for again. */
	long long since, until;
};

struct spare_buf {
	struct spare_buf *next;
	struct readbuf buf;
};

struct blobs {
	pthread_mutex_t lock;
	pthread_cond_t wake;		/* of the deadline thread; on the monotonic clock */
	pthread_t thread;
	bool ending;
	long long next_deadline;	/* what the thread waits for; 0: nothing */
	struct blob *by_object[BLOB_BUCKETS], *by_digest[BLOB_BUCKETS];
	struct parked *by_id[BLOB_NUMBERS];
	struct spare_buf *spare;	/* buffers that no read uses now */
	struct store *store;
	struct handles *handles;	/* or NULL */
	struct disk *disk;
	struct engine *engine;
	int64_t read_timeout, block_timeout;	/* seconds */
	uint64_t last_id;
	int64_t n_parked, n_open;
	int64_t n_at_disk;		/* of those parked */
	struct overdue overdue[BLOB_OVERDUE];	/* the last ones, in a ring */
	size_t n_overdue;		/* so many have been put there */
};

/* The table of states in blob.c, asserted. */
void blobtable_check(const struct blob *blob);

/* By number; NULL if there is none. */
struct blob *blobtable_find(struct blobs *b, uint64_t object);
/*
 * The first blob with these bytes, and the next after one.  There may be several: an object
 * that was forgotten while a file of it was open has another number when it is listed again.
 */
struct blob *blobtable_first(struct blobs *b, const struct digest *d);
struct blob *blobtable_next(const struct blob *after);
/* A new blob, ABSENT. */
struct blob *blobtable_add(struct blobs *b, uint64_t object, const struct digest *d, int64_t size);
/* Frees a blob that is neither open nor waited for. */
void blobtable_collect(struct blobs *b, struct blob *blob);
/* Lets go of the file: READY becomes ABSENT, and its parked reads wait for the engine. */
void blobtable_drop_file(struct blobs *b, struct blob *blob);

/*
 * A request begins to wait, now or, when the same was asked for and given up within the last
 * second, when that one began: for each page that its read-ahead did not get the kernel asks once
 * more, for one reader after the other.
 */
void blobtable_begin_wait(const struct blobs *b, struct read *r, long long now);

/* Makes it wait for the granule (or BLOB_WHOLE). */
struct parked *blobtable_park(struct blobs *b, struct blob *blob, const struct read *r,
			      int64_t granule, bool healing);
/* Makes it wait for the disk; its turn is still to be queued, and has its number. */
struct parked *blobtable_park_at_disk(struct blobs *b, struct blob *blob, const struct read *r,
				      long long deadline);
/* When a read that waits from r->since on gives up. */
long long blobtable_deadline(const struct blobs *b, const struct blob *blob, const struct read *r);
/* Whether anyone waits for the granule to be healed. */
bool blobtable_is_healing(const struct blob *blob, int64_t granule);

/* Each takes parked reads off and puts them in front of a list; then blobtable_collect() is due. */
void blobtable_take_all(struct blobs *b, struct blob *blob, struct parked **list);
/* All but those at the disk. */
void blobtable_take_waiting(struct blobs *b, struct blob *blob, struct parked **list);
void blobtable_take_granules(struct blobs *b, struct blob *blob, int64_t first, int64_t n,
			     struct parked **list);
/* It will be tried again: blob_retry(). */
void blobtable_hold(struct parked *p);
/* By its number; NULL if it was answered.  look: it stays.  take: collects the blob. */
struct parked *blobtable_look(struct blobs *b, uint64_t id);
struct parked *blobtable_take(struct blobs *b, uint64_t id);
/* What is past its deadline; notes the earliest one left.  Collects the blobs. */
struct parked *blobtable_take_overdue(struct blobs *b, long long now);
/* The read of that number, if it is parked, waits no longer than until then. */
void blobtable_interrupt(struct blobs *b, uint64_t id, long long ends_at);

/* Tries it again, as if it were new, and lets go of its blob.  Without the lock. */
void blob_retry(struct blobs *b, struct parked *p);
void blob_fail_list(struct parked *list, int errnum);
/* With EINTR those that were interrupted, with ETIMEDOUT the others. */
void blob_fail_overdue(struct parked *list);
/* The one answer to a read.  Without the lock. */
void blob_answer(const struct read *r, const void *data);
void blob_refuse(const struct read *r, int errnum);

#endif
