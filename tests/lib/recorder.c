/*
 * recorder.c - a disk that writes down what it is told.
 *
 *   recorder IMAGE LOG MOUNTPOINT     mounts two files and stays in the foreground:
 *
 *     MOUNTPOINT/disk    IMAGE; each write and each flush (fsync) is appended to LOG
 *     MOUNTPOINT/mark    a byte written to it is appended to LOG as a mark of that number
 *
 * A loop device on disk makes a block device of it.  One thread: the log has one order.
 */
#include "config.h"

#define FUSE_USE_VERSION 31
#include <fuse.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/powerlog.h"

enum { DISK = 1, MARK = 2 };

static int image = -1, log_fd = -1;

static int
note(enum power_kind kind, uint64_t off, const void *data, size_t len)
{
	struct power_record r = { .kind = kind, .len = (uint32_t)len, .off = off };

	if (write(log_fd, &r, sizeof(r)) != (ssize_t)sizeof(r))
		return -EIO;
	return len == 0 || write(log_fd, data, len) == (ssize_t)len ? 0 : -EIO;
}

static int
which(const char *path)
{
	return strcmp(path, "/disk") == 0 ? DISK : strcmp(path, "/mark") == 0 ? MARK : 0;
}

static int
rec_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	if (strcmp(path, "/") == 0) {
		memset(st, 0, sizeof(*st));
		st->st_mode = S_IFDIR | 0755;
		return 0;
	}
	if (which(path) == 0)
		return -ENOENT;
	if (fstat(image, st) != 0)
		return -errno;
	st->st_mode = S_IFREG | 0600;
	if (which(path) == MARK)
		st->st_size = 0;
	return 0;
}

static int
rec_open(const char *path, struct fuse_file_info *fi)
{
	fi->direct_io = which(path) == MARK;
	return which(path) != 0 ? 0 : -ENOENT;
}

static int
rec_read(const char *path, char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	ssize_t n = which(path) == DISK ? pread(image, buf, size, off) : 0;

	(void)fi;
	return n < 0 ? -errno : (int)n;
}

static int
rec_write(const char *path, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	int rc;

	(void)fi;
	if (which(path) == MARK)
		rc = note(POWER_MARK, (uint64_t)(unsigned char)buf[0], NULL, 0);
	else if (pwrite(image, buf, size, off) != (ssize_t)size)
		rc = -EIO;
	else
		rc = note(POWER_WRITE, (uint64_t)off, buf, size);
	return rc != 0 ? rc : (int)size;
}

static int
rec_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	(void)data_only;
	(void)fi;
	return which(path) == DISK ? note(POWER_FLUSH, 0, NULL, 0) : 0;
}

int
main(int argc, char **argv)
{
	static const struct fuse_operations ops = {
		.getattr = rec_getattr, .open = rec_open, .read = rec_read, .write = rec_write,
		.fsync = rec_fsync,
	};
	char foreground[] = "-f", one_thread[] = "-s";
	char *args[] = { argv[0], foreground, one_thread, NULL, NULL };

	if (argc != 4) {
		fputs("usage: recorder IMAGE LOG MOUNTPOINT\n", stderr);
		return 2;
	}
	image = open(argv[1], O_RDWR | O_CLOEXEC);
	log_fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (image < 0 || log_fd < 0) {
		perror(image < 0 ? argv[1] : argv[2]);
		return 1;
	}
	args[3] = argv[3];
	return fuse_main(4, args, &ops, NULL);
}
