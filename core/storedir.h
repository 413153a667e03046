/*
 * storedir.h - directories reached by descriptors: one name a step, no link ever followed.
 *
 * Nothing here knows what a store is.  Names are single components.  Functions return 0 or a
 * descriptor, or a negative errno value.  Any thread.
 */
#ifndef VMI_STOREDIR_H
#define VMI_STOREDIR_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * openat2() confined below dir, without symbolic links; on kernels and tools without openat2() the
 * same is had with O_NOFOLLOW, because name is one component.  Never waits for the other end of a
 * FIFO and never makes a terminal ours.  O_CLOEXEC.
 */
int storedir_open(int dir, const char *name, int flags, mode_t mode);

/* A descriptor on a directory.  make: if absent it is made (0750) and its name made durable. */
int storedir_enter(int dir, const char *name, bool make);

/*
 * Renames without replacing: -EEXIST if there is something at the new name already.  Where the file
 * system cannot do that in one step, files are linked and unlinked.
 */
int storedir_move(int from_dir, const char *from, int to_dir, const char *to);

/*
 * Calls fn for every name but "." and ".." until it returns other than 0, and returns that.  fn
 * may move or remove the entry it is given.
 */
int storedir_each(int dir, int (*fn)(void *arg, int dir, const char *name), void *arg);

/* fsync() of a directory: names made, moved or removed before are durable. */
int storedir_sync(int dir);

#endif
