/*
 * reuse.h - blocks of an older version of an image, used for a new one instead of fetching them.
 *
 * Compared by digest, at any 4096-byte-aligned offset: an insertion of whole blocks moves the
 * rest, and the rest is still found.  The leaf digests of the new version come from level 0 of
 * its sidecar (1/64 of the image), those of the old one from reading it.  A granule is taken over
 * only if all its leaves are found, and it is verified like one from the network.
 *
 * A thread of its own; readers of the new version are served meanwhile.
 */
#ifndef VMI_REUSE_H
#define VMI_REUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "blockfile.h"
#include "err.h"
#include "lazy.h"

/*
 * Memory for the index of the old version's leaves, 8 bytes each: enough for 8 GiB.  What lies
 * beyond in a larger image is not looked at.
 */
enum { REUSE_INDEX_BYTES = 16 << 20 };

struct reuse;

struct reuse_config {
	struct lazy *lazy;		/* of the new version; borrowed until reuse_free() */
	struct blockfile *to;		/* likewise its file; a reference is taken */
	struct blockfile *from;		/* the old version, complete; a reference is taken */
	int notify_fd;			/* eventfd, written when it is over */
	/* By the thread: as in struct lazy_config. */
	void (*landed)(void *arg, struct blockfile *f, int64_t off, const void *data, size_t size);
	void *arg;
};

/* 0, or a negative errno value: there is no thread. */
int reuse_new(struct reuse **out, const struct reuse_config *config, struct err *err);
bool reuse_is_over(struct reuse *r);
/* When over: bytes that were taken over, and 0 or why it ended early. */
int reuse_result(struct reuse *r, int64_t *bytes, struct err *err);
/* Ends it, and waits for that: soon, if lazy_stop() was called before.  NULL is fine. */
void reuse_free(struct reuse *r);

/*
 * The index, for itself: which leaf of the old version has this digest?  add: any thread, any
 * order. find: after end; prefer is the leaf that would continue a run.  -1: none.
 */
struct leafindex;
struct leafindex *leafindex_new(int64_t n_leaves);	/* up to the bound; NULL: no memory */
void leafindex_free(struct leafindex *x);
void leafindex_add(struct leafindex *x, int64_t leaf, const unsigned char *digest);
void leafindex_end(struct leafindex *x);
int64_t leafindex_find(const struct leafindex *x, const unsigned char *digest, int64_t prefer);

#endif
