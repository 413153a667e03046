/*
 * /dev/fuse.
 */
#include "config.h"
#include "fs/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "fs/initial.h"

enum {
	INIT_MS = 5000,			/* it is there when mount(2) returns */
	INIT_OPCODE = 26,
	REQUEST_ROOM = 64 << 10,	/* the kernel refuses to write into less than 8 KiB */
	ANY_REQUEST_ROOM = 2 << 20,	/* once agreed: into less than a write request could need */
	REFUSED_MAX = 1 << 16,
};

#define UNIQUE_RESEND (1ULL << 63)	/* of a request that is sent again */

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
	if (n < INITIAL_FLAGS_AT + 4 || n > SHARED_INIT_MAX ||
	    initial_number(room, INITIAL_OPCODE_AT) != INIT_OPCODE)
		return err_set(err, EPROTO, "the kernel begins the connection in another way");
	c->resends = initial_can_resend(room, (size_t)n);
	memcpy(s->init, room, (size_t)n);
	s->reply_len = 0;
	s->init_len = (uint32_t)n;
	return 0;
}

/* ---- requests that nobody answers ------------------------------------------------------------ */

static bool
answer(const struct connection *c, int32_t error, uint64_t unique)
{
	const struct fuse_out_header header = {
		.len = sizeof(header), .error = error, .unique = unique,
	};

	return write(c->fd, &header, sizeof(header)) == (ssize_t)sizeof(header);
}

/*
 * A lookup that is refused as stale comes back at once, as a new request of the same thread,
 * perhaps of another name on its path, and would be an error if it were refused again.  Who is of
 * another pid namespace has number 0, and may be many.
 */
static bool
may_ask_again(const struct fuse_in_header *request, const struct connection_told *told,
	      size_t n_before)
{
	if ((request->unique & UNIQUE_RESEND) == 0 || told->n == CONNECTION_TOLD_MAX)
		return false;
	for (size_t i = 0; i < n_before; i++)
		if (told->pids[i] == request->pid)
			return false;
	return true;
}

/* What to answer to any other; 0: nothing. */
static int32_t
refusal_of(const struct fuse_in_header *request, bool all)
{
	switch (request->opcode) {
	case FUSE_LOOKUP:
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		return all ? -EIO : 0;
	default:
		return 0;
	}
}

static int
refuse_waiting(const struct connection *c, struct connection_told *told, bool all)
{
	CLEANUP_FREE uint8_t *room = xmalloc(ANY_REQUEST_ROOM);
	size_t n_before = told->n;
	int refused = 0;

	for (int i = 0; i < REFUSED_MAX; i++) {
		ssize_t n = read(c->fd, room, ANY_REQUEST_ROOM);
		struct fuse_in_header request;
		int32_t refusal;

		if (n < 0 && (errno == EINTR || errno == ENOENT))
			continue;		/* that one is no longer wanted */
		if (n < (ssize_t)sizeof(request))
			break;
		memcpy(&request, room, sizeof(request));
		refusal = refusal_of(&request, all);
		if (!all && request.opcode == FUSE_LOOKUP &&
		    may_ask_again(&request, told, n_before)) {
			told->pids[told->n++] = request.pid;
			refusal = -ESTALE;
		}
		if (refusal != 0 && answer(c, refusal, request.unique))
			refused++;
	}
	return refused;
}

int
connection_refuse(const struct connection *c, struct connection_told *told, bool all)
{
	int flags = fcntl(c->fd, F_GETFL), refused;

	/* Who is killed takes his request back, perhaps between a poll() and our read(). */
	if (!c->resends || flags < 0 || fcntl(c->fd, F_SETFL, flags | O_NONBLOCK) != 0)
		return 0;
	refused = initial_resend(c->fd) ? refuse_waiting(c, told, all) : 0;
	fcntl(c->fd, F_SETFL, flags);
	return refused;
}

/* ---- its end --------------------------------------------------------------------------------- */

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
