/*
 * sandbox.h - giving up privileges for good: ids, capabilities, no_new_privs, Landlock,
 * seccomp, rlimits.
 *
 * Order (Landlock and seccomp bind the calling thread only): sandbox_become_user(), then
 * sandbox_enter(), then threads.  What the kernel lacks is returned in a mask so that it can be
 * said once; nothing is pretended.
 */
#ifndef VMI_SANDBOX_H
#define VMI_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "buf.h"
#include "err.h"

enum sandbox_role {
	SANDBOX_SUPERVISOR, SANDBOX_STARTER, SANDBOX_WORKER, SANDBOX_FETCHER, SANDBOX_VERIFIER
};

enum {
	SANDBOX_MISSING_LANDLOCK = 1,		/* kernel without Landlock */
	SANDBOX_MISSING_LANDLOCK_NET = 2,	/* ABI < 4: no network rules */
	SANDBOX_MISSING_SECCOMP = 4,		/* kernel or build without seccomp */
};

struct sandbox_path {
	const char *path;
	bool writable;		/* files below it may be made, changed, renamed and removed */
};

/*
 * setgroups, setresgid, setresuid; does nothing when already that user.  Never returns half
 * done: it dies.
 */
int sandbox_become_user(uid_t uid, gid_t gid, struct err *err);

/*
 * Takes the role: clears capabilities (the supervisor keeps CAP_SYS_ADMIN), no_new_privs,
 * RLIMIT_CORE 0, PR_SET_DUMPABLE 0 for fetcher, umask 0027, Landlock with the paths given and
 * nothing else, the seccomp filter of the role.  Paths that do not exist are passed over.
 * *missing gets SANDBOX_MISSING_* bits.
 */
int sandbox_enter(enum sandbox_role role, const struct sandbox_path *paths, size_t n_paths,
		  unsigned *missing, struct err *err);

/* "no Landlock in this kernel; ..." for the log, empty when nothing is missing. */
void sandbox_describe_missing(unsigned missing, struct buf *out);

/*
 * Empties the environment but for TZ=UTC, LC_ALL=C, a fixed PATH and the names given
 * (NULL-terminated).
 */
void sandbox_clean_environment(const char *const *keep);

#endif
