/*
 * stall.c - a disk that stops answering when it is told to.
 *
 *   stall IMAGE MOUNTPOINT    mounts one file, MOUNTPOINT/disk, which is IMAGE, and stays in the
 *                             foreground.  USR1: from now on nothing is answered; USR2: all that
 *                             waits is, and what comes.  KILL: what waits fails
 *
 * A loop device on disk makes a block device of it.  Nothing of it is kept in memory (direct_io),
 * so that what the file system above asks for is asked here.  One thread.
 */
#include "config.h"

#define FUSE_USE_VERSION 31
#include <fuse.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int image = -1;
static volatile sig_atomic_t stalled;

static void
on_signal(int sig)
{
	stalled = sig == SIGUSR1;
}

/* Between the look and the sleep the signal waits: sigsuspend() lets it in. */
static void
answer_in_time(void)
{
	sigset_t both, before;

	sigemptyset(&both);
	sigaddset(&both, SIGUSR1);
	sigaddset(&both, SIGUSR2);
	sigprocmask(SIG_BLOCK, &both, &before);
	while (stalled)
		sigsuspend(&before);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static int
stall_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	if (strcmp(path, "/") == 0) {
		memset(st, 0, sizeof(*st));
		st->st_mode = S_IFDIR | 0755;
		return 0;
	}
	if (strcmp(path, "/disk") != 0)
		return -ENOENT;
	if (fstat(image, st) != 0)
		return -errno;
	st->st_mode = S_IFREG | 0600;
	return 0;
}

static int
stall_open(const char *path, struct fuse_file_info *fi)
{
	fi->direct_io = 1;
	return strcmp(path, "/disk") == 0 ? 0 : -ENOENT;
}

static int
stall_read(const char *path, char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	ssize_t n;

	(void)path, (void)fi;
	answer_in_time();
	n = pread(image, buf, size, off);
	return n < 0 ? -errno : (int)n;
}

static int
stall_write(const char *path, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	ssize_t n;

	(void)path, (void)fi;
	answer_in_time();
	n = pwrite(image, buf, size, off);
	return n < 0 ? -errno : (int)n;
}

static int
stall_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	(void)path, (void)data_only, (void)fi;
	answer_in_time();
	return 0;
}

int
main(int argc, char **argv)
{
	static const struct fuse_operations ops = {
		.getattr = stall_getattr, .open = stall_open, .read = stall_read,
		.write = stall_write, .fsync = stall_fsync,
	};
	char foreground[] = "-f", one_thread[] = "-s";
	char *args[] = { argv[0], foreground, one_thread, NULL, NULL };
	struct sigaction act = { .sa_handler = on_signal };

	if (argc != 3) {
		fputs("usage: stall IMAGE MOUNTPOINT\n", stderr);
		return 2;
	}
	image = open(argv[1], O_RDWR | O_CLOEXEC);
	if (image < 0) {
		perror(argv[1]);
		return 1;
	}
	sigaction(SIGUSR1, &act, NULL);
	sigaction(SIGUSR2, &act, NULL);
	args[3] = argv[2];
	return fuse_main(4, args, &ops, NULL);
}
