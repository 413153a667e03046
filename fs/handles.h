/*
 * handles.h - which objects are open, written where the next worker finds it (shared.h).
 *
 * Opens and releases are counted once each, whatever happens to the worker: what a request has
 * changed is noted under its number until it is answered.  A request that was not is sent again by
 * the kernel, with the same number; what its first time has counted is not counted again.
 */
#ifndef VMI_HANDLES_H
#define VMI_HANDLES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/digest.h"
#include "fs/shared.h"

struct handles {
	struct shared *shared;		/* borrowed; NULL: there is none, nothing is written */
	pthread_mutex_t lock;		/* protects the table */
	bool said_full;
};

/* What stands in the table are requests of workers before us. */
void handles_init(struct handles *h, struct shared *shared);

/*
 * On a FUSE thread, around an open or a release that came from the kernel with this number.  What
 * is counted in between belongs to it.
 */
void handles_begin(struct handles *h, uint64_t unique);
void handles_end(struct handles *h);

/*
 * The request will be answered by another thread, or later: what it has counted is known by the
 * return value, which is given to handles_resume() there, and handles_end() ends it.
 */
struct handles_note { struct shared_request *at; int repeats; };
struct handles_note handles_defer(void);
void handles_resume(struct handles_note note);

/*
 * What this thread opens and closes from now on it does for itself: it ends with the worker and is
 * not counted.  Until handles_resume() with the value returned.
 */
struct handles_note handles_apart(void);

/*
 * One more, one less open file.  False: the worker before us has counted it already, for this
 * request, and nothing is to be counted.
 */
bool handles_opened(struct handles *h, uint64_t object, const struct digest *d, int64_t size);
bool handles_closed(struct handles *h, uint64_t object);

/* Every object that the worker before us left open. */
void handles_each(struct handles *h,
		  void (*fn)(void *arg, const struct shared_handle *handle), void *arg);

#endif
