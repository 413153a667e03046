/*
 * shim.h - what the files of shim.so share: the calls it knows, and when one of them is to fail.
 *
 * shim.c has the settings and the decision, shim_calls.c the calls on files, shim_memory.c memory,
 * processes and threads, shim_sqlite.c the layer of SQLite that talks to the system.
 * tests/lib/sweep.c reads and writes the counters.
 */
#ifndef VMI_TESTS_SHIM_H
#define VMI_TESTS_SHIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SHIM_CALLS(X) \
	X(OPEN, "open") X(READ, "read") X(PREAD, "pread") X(WRITE, "write") X(PWRITE, "pwrite") \
	X(FSYNC, "fsync") X(FDATASYNC, "fdatasync") X(RENAME, "rename") X(RENAME2, "rename2") \
	X(FALLOCATE, "fallocate") X(FTRUNCATE, "ftruncate") X(UNLINK, "unlink") \
	X(MKDIR, "mkdir") X(LINK, "link") X(MALLOC, "malloc") X(FORK, "fork") \
	X(THREAD, "thread") X(BACKING, "backing") \
	X(XOPEN, "xopen") X(XREAD, "xread") X(XWRITE, "xwrite") X(XTRUNCATE, "xtruncate") \
	X(XSYNC, "xsync") X(XSIZE, "xsize") X(XLOCK, "xlock") X(XDELETE, "xdelete") \
	X(XACCESS, "xaccess") X(XSHMMAP, "xshmmap") X(XSHMLOCK, "xshmlock")

enum shim_call {
#define SHIM_CALL_ID(id, name) CALL_##id,
	SHIM_CALLS(SHIM_CALL_ID)
#undef SHIM_CALL_ID
	N_CALLS,
};

/* The file that SHIM_COUNT names, mapped by every process that is watched. */
enum { SHIM_STACKS = 1 << 17 };

struct shim_counts {
	atomic_int hold;	/* not 0: nothing is counted and nothing fails */
	atomic_int struck;	/* faults so far */
	atomic_int stacked;	/* not 0: where memory is asked for is noted, too */
	atomic_long n[N_CALLS];
	uint64_t stacks[SHIM_STACKS];	/* of the nth of malloc: a hash of its call stack */
};

/*
 * Does this call meet a fault?  True with errno set (for calls of SQLite to one of its codes).  fd
 * and name say which file it is about, -1 and NULL for none.  *len, if given, may be made smaller.
 */
bool shim_strikes(enum shim_call call, int fd, const char *name, size_t *len);

/* The same of a pread at an offset. */
bool shim_strikes_at(off64_t off, int fd, size_t *len);

/* Whether any setting, or the counting, has to do with the call. */
bool shim_watches(enum shim_call call);

/* Whether what is to be synced is. */
bool shim_syncs(void);

void *shim_next(const char *name);

/* Declares real() as the library's own function of a name, looked up once. */
#define REAL(type, name) \
	static type real; \
	if (real == NULL) \
		real = (type)shim_next(name)

/* shim_sqlite.c: puts itself in front of SQLite's default layer, where there is SQLite. */
void shim_wrap_sqlite(void);

#endif
