/*
 * shared.h - memory that outlives a worker: what the next one needs to go on where it ended.
 *
 * A sealed file in memory, made by main, mapped by the supervisor and by every worker.  The
 * supervisor writes the connection's part and believes nothing that it reads there; all else is the
 * worker's, but for n_untold: between two workers it becomes a `shown' that nobody knows.  A worker
 * can be killed between any two instructions: what is counted here may be off by what a request
 * under way has changed, and handles.h says how that is found out.
 *
 * Its layout is part of what supervisor and worker agree on by WORKER_PROTOCOL: they may come from
 * different versions of the program.
 */
#ifndef VMI_SHARED_H
#define VMI_SHARED_H

#include <stdatomic.h>
#include <stdint.h>
#include "core/digest.h"
#include "core/err.h"

enum {
	WORKER_PROTOCOL = 1,
	SHARED_MAGIC = 0x766d6931,
	SHARED_INIT_MAX = 512,		/* of the kernel's INIT request, and of our reply */
	SHARED_HANDLES = 8192,		/* objects that are open at a time */
	SHARED_REQUESTS = 128,		/* opens and releases under way: more than FUSE threads */
	SHARED_BACKED = 4096,		/* as BACKINGS_MAX */
};

struct shared_handle {
	struct digest digest;
	int64_t size;
	uint64_t object;
	uint32_t opens;			/* 0: free */
	uint32_t spare;
};

struct shared_request {
	uint64_t unique;		/* 0: free */
	int32_t delta;			/* what it has changed opens by so far */
	int32_t age;			/* workers since: 0: it is under way in this one */
};

enum { SHARED_USABLE = 1, SHARED_WITHDRAWN };

struct shared_backed {			/* what the kernel reads by itself (passthrough.h) */
	struct digest digest;
	int64_t n_open;
	uint32_t used;			/* 0: free, or as above */
	uint32_t spare;
};

struct shared {
	uint32_t magic, protocol;

	/* Of the connection, by the supervisor. */
	uint32_t init_len;		/* 0: there is none */
	uint8_t init[SHARED_INIT_MAX];	/* the kernel's INIT request */

	/* By workers. */
	atomic_uint beats;		/* signs of life (pulse.h) */
	uint32_t reply_len;		/* 0: INIT was never answered */
	uint8_t reply[SHARED_INIT_MAX];
	/* tree_fingerprint() of what the kernel was told; 0: unknown. */
	uint64_t shown;
	int64_t n_active;		/* images that the kernel believes to be fetched just now */
	int64_t n_untold;		/* notes to the kernel that are under way */
	struct shared_handle handles[SHARED_HANDLES];
	struct shared_request requests[SHARED_REQUESTS];
	struct shared_backed backed[SHARED_BACKED];
};

/* A new one: its descriptor, and its mapping. */
int shared_new(int *fd, struct shared **out, struct err *err);
/* Maps one that is there; -EPROTO: it is none, or of another protocol. */
int shared_map(int fd, struct shared **out, struct err *err);
void shared_unmap(struct shared *s);	/* NULL is fine */

/*
 * The board of core/sandboxstate.h, in a file of its own: all processes write there.  A new one
 * (its descriptor, or -1: each process will have its own), or one that is there (-1 is fine).
 */
int shared_board_new(void);
void shared_board_use(int fd);

/* Another connection: nothing is open, nothing agreed. */
void shared_reset(struct shared *s);

#endif
