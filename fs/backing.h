/*
 * backing.h - stored files that the kernel may read by itself, as the supervisor keeps them.
 *
 * The kernel wants CAP_SYS_ADMIN for it, which the supervisor alone has.  It gives each file a
 * number on the connection; there is one for each object, however many have it open.  What was
 * registered ends with the connection.  Single-threaded.
 */
#ifndef VMI_BACKING_H
#define VMI_BACKING_H

#include <stdbool.h>
#include <stddef.h>
#include "core/digest.h"

enum { BACKINGS_MAX = 4096 };	/* a file that the kernel holds open each */

struct backing {
	struct digest digest;
	int id;
};

struct backings {
	int fuse_fd;			/* borrowed */
	struct backing *all;
	size_t n, cap;
};

void backings_init(struct backings *b, int fuse_fd);
void backings_release(struct backings *b);

/*
 * The kernel's number for the object, which is read from fd (borrowed for the call) from now on,
 * whatever it had before; fd -1: the number that it has (EBADF: none).  Or a negative errno value:
 * EPERM (no capability, or not agreed with the kernel), ENOTTY (an older kernel), EOPNOTSUPP, ELOOP
 * (the store lies on a stacked file system).
 */
int backings_open(struct backings *b, const struct digest *d, int fd);

/* No new opens by this number; files that are open go on. */
void backings_close(struct backings *b, const struct digest *d);
/* All others are closed. */
void backings_keep(struct backings *b, bool (*is_needed)(const void *arg, const struct digest *d),
		   const void *arg);

#endif
