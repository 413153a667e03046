/*
 * passreply.c - passthrough and parallel lookups through libfuse, or past it.
 *
 * For libfuse 3.13 to 3.16: fuse_session_custom_io() gives us each reply before it is written.
 * The reply to INIT and to OPEN is written by the thread that runs the operation, so what is to
 * be added waits in a variable of that thread.  The replies look like this (linux/fuse.h):
 *
 *	iov[0]	len(4) error(4) unique(8)
 *	iov[1]	INIT: major(4) minor(4) max_readahead(4) flags(4) ... max_pages(2) map_alignment(2)
 *		      flags2(4) max_stack_depth(4) ...
 *		OPEN: fh(8) open_flags(4) backing_id(4)
 *
 * A kernel that does not know the flag passes over it.
 */
#include "config.h"
#define FUSE_USE_VERSION 312
#include "fs/passreply.h"

#include <fuse_lowlevel.h>
#include <stdint.h>
#include <sys/uio.h>
#include <unistd.h>

bool
passreply_is_possible(void)
{
	return FUSE_VERSION >= FUSE_MAKE_VERSION(3, 13);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)

bool
passreply_attach(struct fuse_session *session)
{
	(void)session;
	return true;
}

void
passreply_parallel(struct fuse_conn_info *conn)
{
	fuse_set_feature_flag(conn, FUSE_CAP_PARALLEL_DIROPS);
}

void
passreply_init(struct fuse_conn_info *conn, bool stacked)
{
	if (fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH))
		conn->max_backing_stack_depth = stacked;
}

int
passreply_open(struct fuse_req *req, struct fuse_file_info *fi, int backing_id)
{
	fi->keep_cache = 0;
	fi->backing_id = backing_id;
	return fuse_reply_open(req, fi);
}

#elif FUSE_VERSION >= FUSE_MAKE_VERSION(3, 13)

enum {
	INIT_PARALLEL = 1 << 18,	/* flags */
	INIT_EXT = 1 << 30,		/* likewise: flags2 counts */
	INIT2_PASSTHROUGH = 1 << 5,	/* flags2: bit 37 of all */
	OPEN_KEEP_CACHE = 1 << 1,
	OPEN_PASSTHROUGH = 1 << 7,
};

struct init_reply {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
};

struct open_reply {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

/* What the next reply of this thread gets; 0: nothing. */
static _Thread_local struct {
	uint32_t flags, flags2, depth;
} init_more;
static _Thread_local int32_t open_backing;

static ssize_t
write_reply(int fd, struct iovec *iov, int count, void *userdata)
{
	(void)userdata;
	if (init_more.flags != 0 && count == 2 && iov[1].iov_len >= sizeof(struct init_reply)) {
		struct init_reply *init = iov[1].iov_base;

		init->flags |= init_more.flags;
		init->flags2 |= init_more.flags2;
		init->max_stack_depth = init_more.depth;
		init_more.flags = 0;
	} else if (open_backing > 0 && count == 2 && iov[1].iov_len == sizeof(struct open_reply)) {
		struct open_reply *reply = iov[1].iov_base;

		reply->open_flags = (reply->open_flags & ~(uint32_t)OPEN_KEEP_CACHE) |
				    OPEN_PASSTHROUGH;
		reply->backing_id = open_backing;
	}
	return writev(fd, iov, count);
}

static ssize_t
read_request(int fd, void *buf, size_t size, void *userdata)
{
	(void)userdata;
	return read(fd, buf, size);
}

bool
passreply_attach(struct fuse_session *session)
{
	static const struct fuse_custom_io io = { .writev = write_reply, .read = read_request };

	return fuse_session_custom_io(session, &io, fuse_session_fd(session)) == 0;
}

void
passreply_parallel(struct fuse_conn_info *conn)
{
	if ((conn->capable & FUSE_CAP_PARALLEL_DIROPS) != 0)
		init_more.flags |= INIT_PARALLEL;
}

/* The depth includes the mount itself. */
void
passreply_init(struct fuse_conn_info *conn, bool stacked)
{
	(void)conn;
	init_more.flags |= INIT_EXT;
	init_more.flags2 |= INIT2_PASSTHROUGH;
	init_more.depth = stacked ? 2 : 1;
}

int
passreply_open(struct fuse_req *req, struct fuse_file_info *fi, int backing_id)
{
	int rc;

	open_backing = backing_id;
	rc = fuse_reply_open(req, fi);
	open_backing = 0;
	return rc;
}

#else

bool
passreply_attach(struct fuse_session *session)
{
	(void)session;
	return false;
}

void
passreply_parallel(struct fuse_conn_info *conn)
{
	(void)conn;
}

void
passreply_init(struct fuse_conn_info *conn, bool stacked)
{
	(void)conn;
	(void)stacked;
}

int
passreply_open(struct fuse_req *req, struct fuse_file_info *fi, int backing_id)
{
	(void)backing_id;
	return fuse_reply_open(req, fi);
}

#endif
