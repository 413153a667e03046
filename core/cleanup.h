/*
 * cleanup.h - scope-bound release of the plain things: descriptors, FILEs, heap strings, bufs.
 *
 * Give ownership away with steal_fd() and steal_ptr().  Closing keeps errno.
 */
#ifndef VMI_CLEANUP_H
#define VMI_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "buf.h"

static inline void
close_keep_errno(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
}

static inline void
cleanup_fd_p(int *fd)
{
	close_keep_errno(*fd);
}

static inline void
cleanup_free_p(void *p)
{
	free(*(void **)p);
}

static inline void
cleanup_file_p(FILE **f)
{
	int saved = errno;

	if (*f != NULL)
		fclose(*f);
	errno = saved;
}

static inline void
cleanup_buf_p(struct buf *b)
{
	buf_release(b);
}

static inline int
steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

static inline void *
steal_ptr(void *pp)
{
	void *taken = *(void **)pp;

	*(void **)pp = NULL;
	return taken;
}

#define CLEANUP_FD __attribute__((cleanup(cleanup_fd_p)))
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free_p)))
#define CLEANUP_FILE __attribute__((cleanup(cleanup_file_p)))
#define CLEANUP_BUF __attribute__((cleanup(cleanup_buf_p)))

#endif
