/*
 * shim_memory.c - memory, processes and threads that cannot be had.
 *
 * The memory comes from the next library that has these functions (a sanitizer's, perhaps); what
 * the search for it allocates itself, from the C library.
 */
#undef _FORTIFY_SOURCE
#include "config.h"
#include "shim.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

typedef void *malloc_fn(size_t size);
typedef void *calloc_fn(size_t n, size_t size);
typedef void *realloc_fn(void *p, size_t size);
typedef void *memalign_fn(size_t alignment, size_t size);
typedef pid_t fork_fn(void);
typedef int clone_fn(int (*fn)(void *arg), void *stack, int flags, void *arg, ...);
typedef int thread_fn(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *arg),
		      void *arg);

/* The C library's own, without prototypes. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static malloc_fn *next_malloc;
static calloc_fn *next_calloc;
static realloc_fn *next_realloc;
static memalign_fn *next_memalign;

/* Once; whoever comes in between, or from below, gets the C library's. */
static void
look_up(void)
{
	static atomic_bool asked;

	if (next_memalign != NULL || atomic_exchange(&asked, true))
		return;
	next_malloc = (malloc_fn *)shim_next("malloc");
	next_calloc = (calloc_fn *)shim_next("calloc");
	next_realloc = (realloc_fn *)shim_next("realloc");
	next_memalign = (memalign_fn *)shim_next("memalign");
}

void *
malloc(size_t size)
{
	look_up();
	if (shim_strikes(CALL_MALLOC, -1, NULL, NULL))
		return NULL;
	return next_malloc != NULL ? next_malloc(size) : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	look_up();
	if (shim_strikes(CALL_MALLOC, -1, NULL, NULL))
		return NULL;
	return next_calloc != NULL ? next_calloc(n, size) : __libc_calloc(n, size);
}

void *
realloc(void *p, size_t size)
{
	look_up();
	if ((p == NULL || size != 0) && shim_strikes(CALL_MALLOC, -1, NULL, NULL))
		return NULL;
	return next_realloc != NULL ? next_realloc(p, size) : __libc_realloc(p, size);
}

void *
reallocarray(void *p, size_t n, size_t size)
{
	if (size != 0 && n > SIZE_MAX / size) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, n * size);
}

void *
memalign(size_t alignment, size_t size)
{
	look_up();
	if (shim_strikes(CALL_MALLOC, -1, NULL, NULL))
		return NULL;
	return next_memalign != NULL ? next_memalign(alignment, size)
				     : __libc_memalign(alignment, size);
}

void *
aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

int
posix_memalign(void **out, size_t alignment, size_t size)
{
	int saved = errno;
	void *p = memalign(alignment, size);

	errno = saved;
	if (p == NULL)
		return ENOMEM;
	*out = p;
	return 0;
}

/* ---- processes and threads ------------------------------------------------------------------- */

pid_t
fork(void)
{
	REAL(fork_fn *, "fork");

	return shim_strikes(CALL_FORK, -1, NULL, NULL) ? -1 : real();
}

int
clone(int (*fn)(void *arg), void *stack, int flags, void *arg, ...)
{
	REAL(clone_fn *, "clone");
	void *a[3];
	va_list ap;

	va_start(ap, arg);
	for (int i = 0; i < 3; i++)
		a[i] = va_arg(ap, void *);
	va_end(ap);
	if (shim_strikes(CALL_FORK, -1, NULL, NULL))
		return -1;
	return real(fn, stack, flags, arg, a[0], a[1], a[2]);
}

int
pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *arg), void *arg)
{
	REAL(thread_fn *, "pthread_create");
	int saved = errno, errnum;

	if (!shim_strikes(CALL_THREAD, -1, NULL, NULL))
		return real(thread, attr, fn, arg);
	errnum = errno;
	errno = saved;
	return errnum;
}
