/*
 * The session's descriptor leads to three things, one after the other, because libfuse of any
 * version knows only its number: to a pipe, while libfuse answers the first request; to the
 * connection; and at the end of a worker that another one replaces, to nothing.
 *
 *	request, from memory  ->  libfuse  ->  pipe  ->  the kernel and memory (the first worker)
 *							 nowhere (later ones)
 *
 * Formats (linux/fuse.h):
 *
 *	request	initial.h
 *	reply	len(4) error(4) unique(8) major(4) minor(4) max_readahead(4) flags(4)
 *		max_background(2) congestion_threshold(2) max_write(4) time_gran(4) max_pages(2)
 *		map_alignment(2) flags2(4) ...
 */
#define FUSE_USE_VERSION 312

#include "config.h"
#include "fs/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "fs/initial.h"
#include "fs/ops.h"
#include "fs/passreply.h"

enum {
	AGREED_FLAGS_AT = 28, AGREED_FLAGS2_AT = 48,
	REPLY_MIN = 16 + 24,
};

int
session_new(struct session *s, struct fs_context *fs, bool debug, struct err *err)
{
	char *argv[] = { (char[]){ "vmimagefs" }, (char[]){ "-odebug" }, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(debug ? 2 : 1, argv);

	*s = (struct session){ .fd = -1, .nowhere = -1 };
	s->fuse = fuse_session_new(&args, ops_table(), sizeof(*ops_table()), fs);
	fuse_opt_free_args(&args);
	return s->fuse != NULL ? 0 : err_set(err, EIO, "libfuse refused to make a session");
}

static void
mask_at(uint8_t *data, size_t at, uint32_t mask)
{
	uint32_t n = initial_number(data, at) & mask;

	memcpy(data + at, &n, sizeof(n));
}

/* The kernel knows what the first worker wanted, and nothing more is to be had. */
static void
ask_what_was_agreed(uint8_t *asked, size_t len, const uint8_t *agreed, size_t agreed_len)
{
	bool more = agreed_len >= AGREED_FLAGS2_AT + 4 &&
		    (initial_number(agreed, AGREED_FLAGS_AT) & INITIAL_EXT) != 0;

	mask_at(asked, INITIAL_FLAGS_AT, initial_number(agreed, AGREED_FLAGS_AT));
	if (len >= INITIAL_FLAGS2_AT + 4)
		mask_at(asked, INITIAL_FLAGS2_AT,
			more ? initial_number(agreed, AGREED_FLAGS2_AT) : 0);
}

/* libfuse's reply to the request, by way of the pipe whose other end the session writes to. */
static int
ask_libfuse(struct session *s, uint8_t *request, size_t len, int pipe_fd,
	    uint8_t reply[SHARED_INIT_MAX], size_t *reply_len, struct err *err)
{
	struct fuse_buf buf = { .size = len, .mem = request };
	ssize_t n;

	fuse_session_process_buf(s->fuse, &buf);
	n = read(pipe_fd, reply, SHARED_INIT_MAX);
	if (n < REPLY_MIN || initial_number(reply, 4) != 0)
		return err_set(err, EPROTO, "libfuse does not agree with the kernel");
	*reply_len = (size_t)n;
	return 0;
}

/*
 * Whoever was killed between the two steps has left a reply that the kernel may not have.  One that
 * it has already it refuses with ENOENT.
 */
static int
tell_kernel(int fuse_fd, const struct shared *shared, struct err *err)
{
	if (write(fuse_fd, shared->reply, shared->reply_len) >= 0 || errno == ENOENT)
		return 0;
	return err_set(err, errno, "the kernel does not take what was agreed: %s",
		       strerrordesc_np(errno));
}

static int
agree(struct session *s, struct shared *shared, int pipe_fd, struct err *err)
{
	uint8_t request[SHARED_INIT_MAX], reply[SHARED_INIT_MAX];
	size_t len = shared->init_len, reply_len = 0;
	int rc;

	if (len < INITIAL_FLAGS_AT + 4 || len > SHARED_INIT_MAX ||
	    shared->reply_len > SHARED_INIT_MAX)
		return err_set(err, EPROTO, "there is no first request of the kernel");
	memcpy(request, shared->init, len);
	s->takeover = shared->reply_len >= REPLY_MIN;
	s->resends = initial_can_resend(request, len);
	if (s->takeover)
		ask_what_was_agreed(request, len, shared->reply, shared->reply_len);
	rc = ask_libfuse(s, request, len, pipe_fd, reply, &reply_len, err);
	if (rc == 0 && !s->takeover) {
		memcpy(shared->reply, reply, reply_len);
		shared->reply_len = (uint32_t)reply_len;
	}
	return rc;
}

static int
begin(struct session *s, int fuse_fd, struct shared *shared, int *ends, struct err *err)
{
	char path[32];
	int rc;

	s->fd = steal_fd(&ends[1]);
	/* libfuse takes an open device by this name, and does not look what it is. */
	snprintf(path, sizeof(path), "/dev/fd/%d", s->fd);
	if (fuse_session_mount(s->fuse, path) != 0)
		return err_set(err, EIO, "libfuse does not take the open /dev/fuse");
	passreply_attach(s->fuse);
	rc = agree(s, shared, ends[0], err);
	if (rc == 0)
		rc = tell_kernel(fuse_fd, shared, err);
	if (rc == 0 && dup3(fuse_fd, s->fd, O_CLOEXEC) < 0)
		rc = err_set(err, errno, "no descriptor for the connection: %s",
			     strerrordesc_np(errno));
	return rc;
}

int
session_begin(struct session *s, int fuse_fd, struct shared *shared, struct err *err)
{
	CLEANUP_FD int taken = fuse_fd;
	int ends[2], rc;

	/* Now: at the end there may be no descriptor left. */
	s->nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (s->nowhere < 0)
		return err_set(err, errno, "/dev/null: %s", strerrordesc_np(errno));
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
		return err_set(err, errno, "no pipe for libfuse: %s", strerrordesc_np(errno));
	rc = begin(s, taken, shared, ends, err);
	close_keep_errno(ends[0]);
	close_keep_errno(ends[1]);
	return rc;
}

void
session_resend(const struct session *s)
{
	if (!s->takeover || !s->resends)
		return;
	if (!initial_resend(s->fd))
		log_error("the kernel does not send again what was not answered: %s",
			  strerrordesc_np(errno));
}

void
session_leave(const struct session *s)
{
	if (dup3(s->nowhere, s->fd, O_CLOEXEC) < 0)
		log_error("the connection cannot be left: %s", strerrordesc_np(errno));
}

void
session_release(struct session *s)
{
	if (s->fuse == NULL)
		return;
	fuse_session_destroy(s->fuse);
	s->fuse = NULL;
	close_keep_errno(s->nowhere);
	s->nowhere = -1;
}
