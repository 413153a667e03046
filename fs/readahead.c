/*
 * readahead.c - writing read_ahead_kb of the mount's backing device, when it changes.
 *
 * The descriptor was opened by root; the attribute takes what is written by whoever has it.
 */
#include "config.h"
#include "fs/readahead.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/buf.h"
#include "core/log.h"

struct readahead {
	pthread_mutex_t lock;
	int fd;
	unsigned kib;		/* what was written last; 0: nothing yet */
};

struct readahead *
readahead_new(int fd)
{
	struct readahead *r = xcalloc(1, sizeof(*r));

	pthread_mutex_init(&r->lock, NULL);
	r->fd = fd;
	return r;
}

void
readahead_free(struct readahead *r)
{
	if (r == NULL)
		return;
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void
readahead_set(struct readahead *r, unsigned kib)
{
	if (r == NULL)
		return;
	pthread_mutex_lock(&r->lock);
	if (r->fd >= 0 && r->kib != kib && dprintf(r->fd, "%u", kib) < 0) {
		log_debug("read-ahead stays as the kernel chose it: %m");
		r->fd = -1;
	}
	r->kib = kib;
	pthread_mutex_unlock(&r->lock);
}
