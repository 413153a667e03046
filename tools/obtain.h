/*
 * obtain.h - getting objects into the store: through the daemon, or by an engine of our own.
 *
 * Shows the progress of all of them together.
 */
#ifndef VMI_OBTAIN_H
#define VMI_OBTAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/digest.h"
#include "core/err.h"
#include "ctl.h"

struct obtain_item {
	char *name;			/* what the user calls it */
	struct digest digest;
	int64_t size;			/* bytes, signed */
	/* Filled by obtain_all(). */
	bool answered;
	struct err err;			/* rc 0: it is in the store, verified */
	int64_t bytes;			/* so far */
};

struct obtain_list {
	struct obtain_item *items;
	size_t n;
	/*
	 * Nobody in particular asks, but a timer: images whose bytes were wrong wait out their
	 * back-off, and after LIMIT_TRIES the next list.  Otherwise failed tries are forgotten.
	 */
	bool patient;
};

/* Adds an item, once a digest. */
void obtain_add(struct obtain_list *list, const char *name, const struct digest *digest,
		int64_t size);
void obtain_release(struct obtain_list *list);

/*
 * Adds what of this live image is not in the store yet: its current version, and with_pending also
 * the one that is to replace it.  -ENOENT if something is missing and the image is not selected:
 * then nothing of it may be fetched.
 */
int obtain_add_image(struct ctl *ctl, struct obtain_list *list, const struct image_row *row,
		     bool with_pending, struct err *err);

/*
 * Blocks until every item is answered.  The catalogue of ctl may be closed afterwards (an engine
 * takes it): open what is needed of it, the store for one, before.  A negative errno value means
 * that nothing could be begun; otherwise each item has its own result.  Needs ctl_open() with
 * CTL_WRITE and CTL_STARTER.
 */
int obtain_all(struct ctl *ctl, struct obtain_list *list, struct err *err);

#endif
