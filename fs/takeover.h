/*
 * takeover.h - what a worker takes over from the one before it, and leaves to the next.
 *
 *   open images     shared memory (handles.h): their reads go on, they are not evicted
 *   passthrough     likewise: what the kernel reads by itself
 *   names           if rows or jobs have changed without the kernel being told, it is made to
 *                   look everything up again
 *   volatile texts  handed over in order only: after a crash an open one is ESTALE
 */
#ifndef VMI_TAKEOVER_H
#define VMI_TAKEOVER_H

#include "fs/context.h"
#include "fs/shared.h"

/* Before requests are answered. */
void takeover_restore(struct fs_context *fs, struct shared *shared);

/* With a notifier, when FUSE threads run: what the kernel may have missed. */
void takeover_tell(struct fs_context *fs, struct shared *shared);

/* The kernel knows all about this tree now. */
void takeover_shown(struct shared *shared, const struct tree *t);

/* When nobody answers requests any more: a descriptor for the next worker, or -1. */
int takeover_leave(struct fs_context *fs);
/* What the one before has left, if this version can read it; fd: takes, -1 is fine. */
void takeover_take(struct fs_context *fs, int fd);

#endif
