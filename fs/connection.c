/*
 * /dev/fuse.
 *
 * The first request looks like this (linux/fuse.h):
 *
 *	len(4) opcode(4) unique(8) nodeid(8) uid(4) gid(4) pid(4) ...	40 bytes
 *	major(4) minor(4) max_readahead(4) flags(4) flags2(4) ...
 */
#include "config.h"
#include "fs/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"

enum {
	INIT_MS = 5000,			/* it is there when mount(2) returns */
	INIT_OPCODE = 26,
	INIT_FLAGS_AT = 52, INIT_FLAGS2_AT = 56,
	REQUEST_ROOM = 64 << 10,	/* the kernel refuses to write into less than 8 KiB */
};

#define INIT_EXT (1U << 30)		/* flags: flags2 counts */
#define INIT2_HAS_RESEND (1U << 7)	/* flags2: bit 39 of all */

void
connection_init(struct connection *c)
{
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

void
connection_release(struct connection *c)
{
	close_keep_errno(steal_fd(&c->fd));
	while (c->n_spares > 0)
		close_keep_errno(c->spares[--c->n_spares]);
}

static int
open_device(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int
connection_open(struct connection *c, struct err *err)
{
	int fd = open_device();

	if (fd < 0)
		return err_set(err, -fd,
			       "/dev/fuse cannot be opened: %s: load the kernel's module with "
			       "'modprobe fuse'",
			       strerrordesc_np(-fd));
	c->fd = fd;
	while (c->n_spares < CONNECTION_SPARES && (fd = open_device()) >= 0)
		c->spares[c->n_spares++] = fd;
	return 0;
}

static uint32_t
number_at(const uint8_t *data, size_t at)
{
	uint32_t n;

	memcpy(&n, data + at, sizeof(n));
	return n;
}

static bool
can_resend(const uint8_t *init, size_t len)
{
	return len >= INIT_FLAGS2_AT + 4 && (number_at(init, INIT_FLAGS_AT) & INIT_EXT) != 0 &&
	       (number_at(init, INIT_FLAGS2_AT) & INIT2_HAS_RESEND) != 0;
}

int
connection_begin(struct connection *c, struct shared *s, struct err *err)
{
	CLEANUP_FREE uint8_t *room = xmalloc(REQUEST_ROOM);
	struct pollfd polled = { .fd = c->fd, .events = POLLIN };
	ssize_t n = -1;

	errno = ETIMEDOUT;
	if (poll(&polled, 1, INIT_MS) > 0)
		n = read(c->fd, room, REQUEST_ROOM);
	if (n < 0)
		return err_set(err, errno, "the kernel does not begin the connection: %s",
			       strerrordesc_np(errno));
	if (n < INIT_FLAGS_AT + 4 || n > SHARED_INIT_MAX || number_at(room, 4) != INIT_OPCODE)
		return err_set(err, EPROTO, "the kernel begins the connection in another way");
	c->resends = can_resend(room, (size_t)n);
	memcpy(s->init, room, (size_t)n);
	s->reply_len = 0;
	s->init_len = (uint32_t)n;
	return 0;
}

void
connection_end(struct connection *c)
{
	close_keep_errno(steal_fd(&c->fd));
}

int
connection_renew(struct connection *c, struct err *err)
{
	int fd = open_device();

	if (fd < 0 && c->n_spares > 0)
		fd = c->spares[--c->n_spares];
	if (fd < 0)
		return err_set(err, -fd, "/dev/fuse cannot be opened again: %s",
			       strerrordesc_np(-fd));
	c->fd = fd;
	return 0;
}
