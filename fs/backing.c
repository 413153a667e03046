/*
 * backing.c - FUSE_DEV_IOC_BACKING_OPEN and _CLOSE (Linux 6.9), with definitions of our own:
 * the headers of the oldest distribution we build on do not have them.
 */
#include "config.h"
#include "fs/backing.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/buf.h"
#include "core/log.h"

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

void
backings_init(struct backings *b, int fuse_fd)
{
	memset(b, 0, sizeof(*b));
	b->fuse_fd = fuse_fd;
}

void
backings_release(struct backings *b)
{
	free(b->all);
	memset(b, 0, sizeof(*b));
}

static struct backing *
find(struct backings *b, const struct digest *d)
{
	for (size_t i = 0; i < b->n; i++)
		if (digest_equal(&b->all[i].digest, d))
			return &b->all[i];
	return NULL;
}

void
backings_close(struct backings *b, const struct digest *d)
{
	struct backing *known = find(b, d);
	uint32_t id;

	if (known == NULL)
		return;
	id = (uint32_t)known->id;
	*known = b->all[--b->n];
	if (ioctl(b->fuse_fd, BACKING_CLOSE, &id) < 0)
		log_warning("backing file %u cannot be let go: %s", id, strerrordesc_np(errno));
}

int
backings_open(struct backings *b, const struct digest *d, int fd)
{
	const struct backing_map map = { .fd = fd };
	const struct backing *known = find(b, d);
	int id;

	if (fd < 0)
		return known != NULL ? known->id : -EBADF;
	/* It may be of a file that the object had before, and that is not its own any more. */
	backings_close(b, d);
	if (b->n == BACKINGS_MAX)
		return -ENOSPC;
	id = ioctl(b->fuse_fd, BACKING_OPEN, &map);
	if (id < 0)
		return -errno;
	if (id == 0)
		return -EIO;
	if (b->n == b->cap) {
		b->cap = b->cap == 0 ? 16 : b->cap * 2;
		b->all = xrealloc(b->all, b->cap * sizeof(*b->all));
	}
	b->all[b->n++] = (struct backing){ .digest = *d, .id = id };
	return id;
}

void
backings_keep(struct backings *b, bool (*is_needed)(const void *arg, const struct digest *d),
	      const void *arg)
{
	for (size_t i = b->n; i-- > 0;) {
		const struct digest d = b->all[i].digest;

		if (!is_needed(arg, &d))
			backings_close(b, &d);
	}
}
