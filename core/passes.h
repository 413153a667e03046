/*
 * passes.h - passes over whole files, in threads beside the engine's: minutes for a large image.
 *
 *   REBUILD   the tree of a stored object is lost: made anew, if the bytes are the image's
 *   ADOPT     a file lies in the store that no row calls verified: the same
 *   COMMIT    a file in block mode has all its granules: its SHA-512 is the last word; then it
 *             becomes the object
 *   CHECK     every granule of a complete file against its tree
 *
 * Two threads: one takes whatever is next, the other only what readers wait for, so that they do
 * not wait for the check of another image.  Each pass uses all cores (audit.h).
 */
#ifndef VMI_PASSES_H
#define VMI_PASSES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "blockfile.h"
#include "digest.h"
#include "err.h"
#include "store.h"

struct passes;

enum pass_kind { PASS_REBUILD, PASS_ADOPT, PASS_COMMIT, PASS_CHECK };

/* More bad granules than this in one file, and the rest is found by the next pass. */
enum { PASS_BAD_MAX = 4096 };

struct pass {
	struct pass *next;
	enum pass_kind kind;
	struct digest digest;
	int64_t size;
	bool urgent;			/* readers wait */
	/* REBUILD, ADOPT: the signed digest that the tree must have. */
	bool has_root;
	struct digest root;
	struct blockfile *file;		/* COMMIT, CHECK: a reference.  Else the result */
	atomic_bool cancelled;
	atomic_llong done;		/* bytes so far */
	/*
	 * The result; why.rc is it, too.
	 *   REBUILD, ADOPT
	 *             0: file and tree.  -EBADMSG: CODE_CORRUPT (not the image's bytes) or
	 *             CODE_BLOCK_DIGEST (they are, but the signed tree is another one's)
	 *   COMMIT    0: the object is in the store.  -EAGAIN: n_bad granules were wrong on the
	 *             disk, and are MISSING now.  -EBADMSG, CODE_BLOCK_DIGEST: all granules are the
	 *             signed ones, and the SHA-512 is not.  Others: the disk; the partial may be
	 *             gone
	 *   CHECK     0: all of it is right.  -EBADMSG: bad has n_bad granules.
	 *   all       -ECANCELED
	 */
	int rc;
	struct err why;
	struct digest tree;
	int64_t *bad;
	size_t n_bad;
};

/* Borrows store.  notify_fd is an eventfd, written when a pass has ended. */
struct passes *passes_new(struct store *store, int notify_fd);
void passes_free(struct passes *p);	/* cancels what runs, and waits for it; NULL is fine */

struct pass *pass_new(enum pass_kind kind, const struct digest *d, int64_t size);
void pass_free(struct pass *pass);	/* NULL is fine */

/* Takes pass. */
void passes_add(struct passes *p, struct pass *pass);
/*
 * Queued, or under way, or ended and not taken; borrowed: only kind, digest and done may be
 * looked at.
 */
struct pass *passes_find(struct passes *p, enum pass_kind kind, const struct digest *d);
/* One that has ended, or NULL; the caller frees it. */
struct pass *passes_take(struct passes *p);
/* Passes of this kind over this object end soon, with -ECANCELED.  NULL is fine: none is left. */
void passes_cancel(struct passes *p, enum pass_kind kind, const struct digest *d);
/* Readers wait for it now. */
void passes_hurry(struct passes *p, enum pass_kind kind, const struct digest *d);
bool passes_are_idle(struct passes *p);

#endif
