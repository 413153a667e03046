#include "config.h"
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

enum {
	FDS_MAX = 8,
	TURNS_MAX = 10000,	/* other writers of one file that may come before us */
};

int
io_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int
io_pwrite_all(int fd, const void *data, size_t len, off_t off)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return 0;
}

int
io_openat(int dirfd, const char *name, int flags, mode_t mode)
{
	int fd;

	do
		fd = openat(dirfd, name, flags, mode);
	while (fd < 0 && errno == EINTR);
	return fd >= 0 ? fd : -errno;
}

int
io_fsync(int fd)
{
	int rc;

	do
		rc = fsync(fd);
	while (rc != 0 && errno == EINTR);
	return rc == 0 ? 0 : -errno;
}

int
io_fdatasync(int fd)
{
	int rc;

	do
		rc = fdatasync(fd);
	while (rc != 0 && errno == EINTR);
	return rc == 0 ? 0 : -errno;
}

int
io_ftruncate(int fd, off_t len)
{
	int rc;

	do
		rc = ftruncate(fd, len);
	while (rc != 0 && errno == EINTR);
	return rc == 0 ? 0 : -errno;
}

bool
io_is_shortage(int rc)
{
	return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM || rc == -EAGAIN || rc == -ENOBUFS;
}

ssize_t
io_read_full(int fd, void *data, size_t len)
{
	char *p = data;
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, p + got, len - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

ssize_t
io_pread_full(int fd, void *data, size_t len, off_t off)
{
	char *p = data;
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, p + got, len - got, off + (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

ssize_t
io_pread_cached(int fd, void *data, size_t len, off_t off)
{
	char *p = data;
	size_t got = 0;

	while (got < len) {
		struct iovec rest = { p + got, len - got };
		ssize_t n = preadv2(fd, &rest, 1, off + (off_t)got, RWF_NOWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EOPNOTSUPP ? -EAGAIN : -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

static int
openat2_cached(int dir, const char *path, bool confined, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned int)(flags | O_CLOEXEC | O_NOFOLLOW),
		.resolve = RESOLVE_CACHED | RESOLVE_NO_MAGICLINKS,
	};

	if (confined)
		how.resolve |= RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
	return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

/* Opening a device can do something: so what it is is looked at before. */
int
io_open_cached(int dir, const char *path, bool confined, off_t *size)
{
	CLEANUP_FD int look = openat2_cached(dir, path, confined, O_PATH), fd = -1;
	struct stat st, now;

	if (look < 0 || fstat(look, &st) != 0 || !S_ISREG(st.st_mode))
		return -EAGAIN;
	fd = openat2_cached(dir, path, confined, O_RDONLY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &now) != 0 || now.st_dev != st.st_dev || now.st_ino != st.st_ino)
		return -EAGAIN;
	*size = now.st_size;
	return steal_fd(&fd);
}

int
io_read_to_end(int fd, size_t max, struct buf *out)
{
	char chunk[16384];
	size_t total = 0;

	for (;;) {
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		total += (size_t)n;
		if (total > max)
			return -EFBIG;
		buf_add(out, chunk, (size_t)n);
	}
}

int
io_read_file(int dirfd, const char *name, size_t max, struct buf *out)
{
	CLEANUP_FD int fd = -1;
	struct stat st;

	/* O_NONBLOCK: opening a FIFO must not wait for its other end. */
	fd = io_openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size < 0 || (size_t)st.st_size > max)
		return -EFBIG;
	return io_read_to_end(fd, max, out);
}

/* ---- replacing a file ------------------------------------------------------------------------ */

/*
 * New contents are written beside the old ones, as NAME.new.  Two processes that replace the same
 * file take turns: each holds a flock on the new file from before its first byte until it has its
 * name.  Whoever waited for a file that got its name meanwhile begins again with another one.
 * What a crash leaves is thus known by nobody holding its lock, and is written over, or removed by
 * io_drop_stale().
 */

/* Is fd still what lies under the name? */
static bool
is_named(int dirfd, const char *name, int fd)
{
	struct stat ours, named;

	return fstat(fd, &ours) == 0 && fstatat(dirfd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

static int
lock_file(int fd, int how)
{
	while (flock(fd, how) != 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

/* The new file, empty and locked. */
static int
open_beside(int dirfd, const char *tmp, mode_t mode)
{
	for (int i = 0; i < TURNS_MAX; i++) {
		CLEANUP_FD int fd = -1;
		int rc;

		/* O_NONBLOCK: a FIFO that somebody put there must not hold us up. */
		fd = io_openat(dirfd, tmp, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
			       mode);
		if (fd < 0)
			return fd;
		rc = lock_file(fd, LOCK_EX);
		if (rc != 0)
			return rc;
		if (!is_named(dirfd, tmp, fd))
			continue;
		/* Only now: before, it may have been another's file, with its name already. */
		rc = io_ftruncate(fd, 0);
		return rc == 0 ? steal_fd(&fd) : rc;
	}
	return -EBUSY;
}

static int
fill(int fd, mode_t mode, const void *data, size_t len)
{
	int rc = io_write_all(fd, data, len);

	if (rc == 0 && fchmod(fd, mode) != 0)
		rc = -errno;
	return rc == 0 ? io_fsync(fd) : rc;
}

static int
sync_dir(int dirfd)
{
	CLEANUP_FD int dir = io_openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	return dir < 0 ? dir : io_fsync(dir);
}

/* Where a file system cannot rename without replacing, a second name does as well. */
static int
rename_noreplace(int dirfd, const char *from, const char *to)
{
	if (renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (linkat(dirfd, from, dirfd, to, 0) != 0)
		return -errno;
	return unlinkat(dirfd, from, 0) != 0 ? -errno : 0;
}

static int
write_file(int dirfd, const char *name, mode_t mode, const void *data, size_t len, bool replace)
{
	CLEANUP_FREE char *tmp = xasprintf("%s.new", name);
	CLEANUP_FD int fd = -1;
	int rc;

	fd = open_beside(dirfd, tmp, mode);
	if (fd < 0)
		return fd;
	rc = fill(fd, mode, data, len);
	if (rc == 0 && replace)
		rc = renameat(dirfd, tmp, dirfd, name) != 0 ? -errno : 0;
	else if (rc == 0)
		rc = rename_noreplace(dirfd, tmp, name);
	if (rc != 0) {
		unlinkat(dirfd, tmp, 0);
		return rc;
	}
	return sync_dir(dirfd);
}

int
io_replace_file(int dirfd, const char *name, mode_t mode, const void *data, size_t len)
{
	return write_file(dirfd, name, mode, data, len, true);
}

int
io_create_file(int dirfd, const char *name, mode_t mode, const void *data, size_t len)
{
	return write_file(dirfd, name, mode, data, len, false);
}

void
io_drop_stale(int dirfd, const char *name)
{
	CLEANUP_FREE char *tmp = xasprintf("%s.new", name);
	CLEANUP_FD int fd = io_openat(dirfd, tmp, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
				      0);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return;
	if (lock_file(fd, LOCK_EX | LOCK_NB) == 0 && is_named(dirfd, tmp, fd))
		unlinkat(dirfd, tmp, 0);
}

/* ---- time and descriptors -------------------------------------------------------------------- */

long long
io_monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int
io_send_fds(int sock, const void *data, size_t len, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (n_fds > FDS_MAX)
		return -EINVAL;
	if (n_fds > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EMSGSIZE;
}

int
io_send_fds_wait(int sock, const void *data, size_t len, const int *fds, size_t n_fds, int ms)
{
	struct pollfd polled = { .fd = sock, .events = POLLOUT };
	long long until = io_monotonic_ms() + ms, left;
	int rc;

	while ((rc = io_send_fds(sock, data, len, fds, n_fds)) == -EAGAIN) {
		left = until - io_monotonic_ms();
		if (left <= 0)
			return -ETIMEDOUT;
		poll(&polled, 1, (int)left);
	}
	return rc;
}

/* Takes the descriptors out of a message; those there is no room for are closed. */
static void
take_fds(struct msghdr *msg, int *fds, size_t room, size_t *taken)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (*taken < room)
				fds[(*taken)++] = fd;
			else
				close(fd);
		}
	}
}

ssize_t
io_recv_fds(int sock, void *data, size_t len, int *fds, size_t *n_fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
			      .msg_controllen = sizeof(control.space) };
	size_t taken = 0;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_fds(&msg, fds, n_fds != NULL ? *n_fds : 0, &taken);
	if (n_fds != NULL)
		*n_fds = taken;
	return n;
}

void
io_fill_std_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}
