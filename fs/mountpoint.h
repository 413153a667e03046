/*
 * mountpoint.h - the directory we mount on: looked at, mounted, unmounted.
 *
 * What is mounted where is read from /proc/self/mountinfo, which answers when the file system
 * itself does not.  A mount is known by its device number as long as it is there, so that nothing
 * but our own is ever unmounted: the kernel gives the number of one that has gone to the next.  One
 * that has another path now, because a directory above it was renamed or it was moved, is known by
 * its own number as well, which a copy (bind) of it does not have.
 */
#ifndef VMI_MOUNTPOINT_H
#define VMI_MOUNTPOINT_H

#include <stdbool.h>
#include <sys/types.h>
#include "core/err.h"

enum { MOUNT_DEVICE_BYTES = 24 };	/* "0:53" */

struct mountpoint {
	char *path;			/* links resolved */
	char device[MOUNT_DEVICE_BYTES];/* of our mount; empty while there is none */
	int id;				/* of our mount */
	int read_ahead;			/* descriptor to set it with (readahead.h), or -1 */
	int abort;			/* descriptor that cuts it, wherever the mount is, or -1 */
};

/* CODE_BUSY when a living daemon of ours serves the path already; changes nothing. */
int mountpoint_refuse_living(const char *path, struct err *err);

/*
 * Resolves and checks the path.  A dead mount of ours (no daemon behind it) is taken away; a
 * living one is CODE_BUSY; another file system, a file or a missing directory is refused, as is a
 * place that the user cannot reach, because it could not be unmounted later.  Root.  m is to be
 * released in every case.
 */
int mountpoint_check(struct mountpoint *m, const char *path, uid_t uid, gid_t gid, struct err *err);
void mountpoint_release(struct mountpoint *m);

/* Mounts the connection behind fuse_fd read-only, nosuid, nodev.  Root. */
int mountpoint_mount(struct mountpoint *m, const char *source, int fuse_fd, bool noexec,
		     struct err *err);

/*
 * Also where another file system was mounted over it, where it has another path now, and where that
 * cannot be found out now.
 */
bool mountpoint_is_mounted(const struct mountpoint *m);

/*
 * Ends the connection behind our mount, whoever else has a descriptor of it: all that wait get
 * ENOTCONN.  The mount stays.  For a mount that was made anew without being root, and where fusectl
 * can neither be reached nor be mounted, nothing happens if it cannot be named any more (detached,
 * covered).  CAP_SYS_ADMIN.
 */
void mountpoint_cut(const struct mountpoint *m);

/*
 * A mount of ours at the path, whose daemon is_dead(), is cut if it does not answer for seconds: a
 * worker that was killed while it told the kernel something can wait there for its own readers, and
 * hold the connection, for ever.  is_dead() is asked before and after those seconds.
 */
void mountpoint_cut_dead(const char *path, bool (*is_dead)(const void *arg), const void *arg);

/*
 * Unmounts, once; a busy one is detached, so that new opens see the directory below.  One that
 * another file system lies over stays: CODE_BUSY; so does everything when it cannot be found out
 * what is mounted.  If it has another path by now, that is m->path from then on.  CAP_SYS_ADMIN.
 */
int mountpoint_unmount(struct mountpoint *m, struct err *err);

#endif
