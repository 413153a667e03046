/*
 * notify.h - telling the kernel what it must look up again.
 *
 * The kernel remembers names and attributes for a day; this thread takes back what a new tree
 * changed.  It holds no lock while it talks to the kernel, because the kernel may wait for a
 * lookup that another thread of ours has yet to answer.
 */
#ifndef VMI_NOTIFY_H
#define VMI_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include "core/digest.h"
#include "fs/tree.h"

struct notifier;
struct fuse_session;

/*
 * Starts the thread.  The session is borrowed until notifier_free(), and mounted.  shown() is
 * called on the thread with each tree that the kernel now knows all about.
 */
struct notifier *notifier_new(struct fuse_session *session,
			      void (*shown)(void *arg, const struct tree *t), void *arg);

/* Where the number of notes that the kernel has yet to be told is kept, from now on; borrowed. */
void notifier_count(struct notifier *n, int64_t *untold);

/* Waits until the kernel was told everything, or ms have passed (false). */
bool notifier_flush(struct notifier *n, int ms);

/* What differs between the trees; takes both references.  NULL notifier: only lets go of them. */
void notifier_swapped(struct notifier *n, struct tree *old, struct tree *new);

/* The files that tell of a job for this object; takes the reference. */
void notifier_activity(struct notifier *n, struct tree *t, const struct digest *d);

/* One name, which leads to another node now. */
void notifier_name(struct notifier *n, uint64_t parent, const char *name);

/* The listing of a directory, and its attributes. */
void notifier_listing(struct notifier *n, uint64_t dir);

/* Ends the thread; what is queued is dropped.  NULL is fine. */
void notifier_free(struct notifier *n);

#endif
