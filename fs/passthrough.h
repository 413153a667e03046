/*
 * passthrough.h - objects whose stored file the kernel reads by itself, without asking us.
 *
 * Such a file is not checked at every read any more, so it must be known to be right as a whole:
 * it was hashed from end to end in this mount (integrity = open), or the kernel checks it itself
 * (fs-verity) against the digest that we would.
 *
 *   AUDITING    the engine hashes it
 *   OFFERED     the supervisor was asked to register it
 *   USABLE      has the kernel's number: its node is of generation 2, and all opens of that pass
 *   WITHDRAWN   distrusted, lost, or evicted: no new opens; those that are go on, because the
 *               kernel cannot be told to end them.  Let go when the last one is closed
 *
 * When the supervisor or the kernel cannot do it, that is said once, and everything is read and
 * checked by us for the rest of the mount.  Any thread.
 */
#ifndef VMI_PASSTHROUGH_H
#define VMI_PASSTHROUGH_H

#include <stdbool.h>
#include <stdint.h>
#include "core/blockfile.h"
#include "core/buf.h"
#include "core/digest.h"

struct passthrough;

struct passthrough_ops {
	/* To the supervisor; 0 or a negative errno value.  Does not wait. */
	int (*open)(void *arg, const struct digest *d, int fd);
	int (*close)(void *arg, const struct digest *d);
	/* The object's name leads to another node now.  No lock is held. */
	void (*changed)(void *arg, const struct digest *d);
	void *arg;
};

/* possible: false if libfuse cannot do it.  on: integrity = open. */
struct passthrough *passthrough_new(const struct passthrough_ops *ops, bool possible, bool on);
void passthrough_free(struct passthrough *p);	/* NULL is fine */
void passthrough_set_on(struct passthrough *p, bool on);

/*
 * A complete object was opened in the usual way.  Offers it if the kernel measures it; true: the
 * caller is to have it audited.
 */
bool passthrough_opened(struct passthrough *p, const struct digest *d, struct blockfile *f);
/*
 * What the worker before us has left: its objects go on passing through, without being hashed
 * again, if the supervisor still knows them.  From now on what is to be left to the next stands in
 * shared.
 */
struct shared;
void passthrough_restore(struct passthrough *p, struct shared *shared);
void passthrough_end(struct passthrough *p);	/* what stands there is not ours any more */

/* The engine's word: it is right / it is not what it was. */
void passthrough_audited(struct passthrough *p, const struct digest *d, struct blockfile *f);
void passthrough_lost(struct passthrough *p, const struct digest *d);
/* The supervisor's: the kernel's number, or a negative errno value. */
void passthrough_answered(struct passthrough *p, const struct digest *d, int rc);

/*
 * What is to become of each object: GONE: its file is no longer the object's, or may be another one
 * later; DENIED: distrusted, which may change again.  Both are withdrawn; what was DENIED, is still
 * open, and FREE now, is usable again.
 */
enum passthrough_fate { PASSTHROUGH_FREE, PASSTHROUGH_DENIED, PASSTHROUGH_GONE };
void passthrough_review(struct passthrough *p,
			enum passthrough_fate (*judge)(void *arg, const struct digest *d),
			void *arg);

/* Whether new look-ups lead to the node of generation 2.  NULL p: never. */
bool passthrough_is_usable(struct passthrough *p, const struct digest *d);
/* One more open file: the kernel's number, or 0.  One less. */
int passthrough_enter(struct passthrough *p, const struct digest *d);
void passthrough_leave(struct passthrough *p, const struct digest *d);

/* For `status`: "yes", or "no (why)"; counts; what is withdrawn and still open. */
void passthrough_describe(struct passthrough *p, struct buf *out);
void passthrough_count(struct passthrough *p, int64_t *n_objects, int64_t *n_open);
void passthrough_each_held(struct passthrough *p,
			   void (*fn)(void *arg, const struct digest *d, int64_t n_open),
			   void *arg);

#endif
