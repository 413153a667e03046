/*
 * mend.h - healing stored images: bad granules are fetched anew, a lost tree is made anew.
 *
 * A running daemon does it (control.h, "heal"); without one the command does it under the store's
 * lock.
 */
#ifndef VMI_MEND_H
#define VMI_MEND_H

#include <stddef.h>
#include "core/err.h"
#include "ctl.h"
#include "inspect.h"

/*
 * Asks the daemon to heal this image, and waits, with a progress bar.  -ENOTCONN: there is none.
 * CODE_RANGE: its servers give no single blocks.
 */
int mend_ask(struct ctl *ctl, const struct inspect *i, struct err *err);

/* INSPECT_TREE: makes and keeps the tree anew; becomes the owner of the store. */
int mend_tree(struct ctl *ctl, const struct inspect *i, struct err *err);

/*
 * INSPECT_GOOD, but the row says that it was found bad (accused): whoever mended it could not note
 * it.  A daemon looks at it once more.
 */
int mend_row(struct ctl *ctl, const struct inspect *i, struct err *err);

/*
 * All of it is bad: it goes to quarantine, and its row says so (why).  A daemon does it, and
 * fetches it anew; without one the command becomes the owner of the store.
 */
int mend_replace(struct ctl *ctl, const struct inspect *i, const char *why, struct err *err);

/*
 * INSPECT_BLOCKS: each image with its own result.  The catalogue of ctl is closed afterwards (an
 * engine takes it).  A negative errno value means that nothing could be begun.
 */
struct mend_item {
	const struct inspect *image;	/* borrowed */
	struct err err;			/* rc 0: every bad granule is good now */
	/* mend.c's: */
	struct blockfile *file;
	unsigned char *answered;	/* of each bad granule, in the order of image->bad */
	int64_t n_waiting;
};
int mend_blocks(struct ctl *ctl, struct mend_item *items, size_t n, struct err *err);

#endif
