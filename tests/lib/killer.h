/*
 * killer.h - which system calls change what is on disk, and what a stopped thread is about to
 * change.
 */
#ifndef VMI_KILLER_H
#define VMI_KILLER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct killer_call {
	const char *name;	/* "openat" */
	char path[PATH_MAX];	/* what it changes; of two names the new one */
};

/*
 * Has the calling process stop for its tracer (PTRACE_EVENT_SECCOMP) at each such call, and
 * all that it becomes.  -1 with errno set.
 */
int killer_filter(void);

/*
 * What the thread does with that call.  false: it changes nothing (a file that is opened without
 * being made or cut), or nothing can be said.
 */
bool killer_look(pid_t tid, uint64_t nr, const uint64_t args[6], struct killer_call *call);

/*
 * A path with what differs from run to run taken out of it: digests, numbers, UUIDs are '#'.
 * "objects/4f/4f31...9c" is "objects/#/#".
 */
void killer_kind(const char *path, char *kind, size_t size);

#endif
