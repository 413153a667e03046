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
	SANDBOX_SUPERVISOR, SANDBOX_STARTER, SANDBOX_WORKER, SANDBOX_FETCHER, SANDBOX_VERIFIER,
	SANDBOX_UPDATER, SANDBOX_RUNNER, SANDBOX_ROLES
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
 * Takes the role for good: capabilities (the supervisor keeps CAP_SYS_ADMIN), no_new_privs, limits,
 * a memory that nobody may look into or make code of, umask 0027, Landlock with the paths given and
 * nothing else, the seccomp filter.  The table in sandbox.c says who has what.  Paths that do not
 * exist, or cannot be reached, are passed over.  *missing gets SANDBOX_MISSING_* bits.  What is
 * then in force is written on the board (sandboxstate.h).
 */
int sandbox_enter(enum sandbox_role role, const struct sandbox_path *paths, size_t n_paths,
		  unsigned *missing, struct err *err);

/* "no Landlock in this kernel; ..." for the log, empty when nothing is missing. */
void sandbox_describe_missing(unsigned missing, struct buf *out);

/*
 * Empties the environment but for TZ=UTC, LC_ALL=C, a fixed PATH and the names given
 * (NULL-terminated), of which one that ends in '*' means all that begin so.
 */
void sandbox_clean_environment(const char *const *keep);

/*
 * What programs of ours leave to each other: where they are, how sanitizers report; in a test build
 * what those read that wrap their calls.
 */
extern const char *const sandbox_own_variables[];

#endif
