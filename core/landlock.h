/*
 * landlock.h - the Landlock rules of a process, by raw system calls.
 *
 * The headers of the oldest distribution we build on know fewer rights than its kernels may
 * have, and there is no libc wrapper; the numbers are kernel ABI and are written down in
 * landlock.c.
 */
#ifndef VMI_LANDLOCK_H
#define VMI_LANDLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include "err.h"
#include "sandbox.h"

/* What is taken away from the calling thread, unless a path gives it back. */
struct landlock_rules {
	bool read;		/* reading files and directories */
	bool write;		/* making, changing, renaming, removing and running files */
	bool tcp_bind, tcp_connect;
	bool scope_sockets, scope_signals;	/* abstract ones, and to processes, outside */
	const struct sandbox_path *paths;	/* borrowed for the call */
	size_t n_paths;
};

/* What came of it: abi 0 is nothing. */
struct landlock_force {
	unsigned abi;
	bool files, net, scope;
};

/*
 * Binds the calling thread and all it starts, for good; no_new_privs must be set.  Paths that do
 * not exist are passed over.  *missing gets SANDBOX_MISSING_LANDLOCK or _LANDLOCK_NET when the
 * kernel cannot do it.
 */
int landlock_enter(const struct landlock_rules *rules, struct landlock_force *force,
		   unsigned *missing, struct err *err);

#endif
