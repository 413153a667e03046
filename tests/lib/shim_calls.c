/*
 * shim_calls.c - the calls on files, each under all the names that the C library has for it.
 */
#undef _FILE_OFFSET_BITS	/* both names of each call are defined here */
#undef _FORTIFY_SOURCE
#include "config.h"
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

typedef int open_fn(const char *path, int flags, ...);
typedef int openat_fn(int dir, const char *path, int flags, ...);
typedef ssize_t read_fn(int fd, void *data, size_t len);
typedef ssize_t pread_fn(int fd, void *data, size_t len, off64_t off);
typedef ssize_t preadv2_fn(int fd, const struct iovec *parts, int n, off64_t off, int flags);
typedef ssize_t write_fn(int fd, const void *data, size_t len);
typedef ssize_t pwrite_fn(int fd, const void *data, size_t len, off64_t off);
typedef int sync_fn(int fd);
typedef int truncate_fn(int fd, off64_t len);
typedef int fallocate_fn(int fd, int mode, off64_t off, off64_t len);
typedef int rename_fn(const char *from, const char *to);
typedef int renameat_fn(int from_dir, const char *from, int to_dir, const char *to);
typedef int renameat2_fn(int from_dir, const char *from, int to_dir, const char *to,
			 unsigned int flags);
typedef int unlinkat_fn(int dir, const char *path, int flags);
typedef int mkdirat_fn(int dir, const char *path, mode_t mode);
typedef int linkat_fn(int from_dir, const char *from, int to_dir, const char *to, int flags);
typedef int symlinkat_fn(const char *target, int dir, const char *path);
typedef long syscall_fn(long number, ...);
typedef int ioctl_fn(int fd, unsigned long request, ...);

/* Names that are the C library's own, and have no prototypes. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);
ssize_t __read_chk(int fd, void *data, size_t len, size_t room);
ssize_t __pread_chk(int fd, void *data, size_t len, off64_t off, size_t room);
ssize_t __pread64_chk(int fd, void *data, size_t len, off64_t off, size_t room);

static mode_t
mode_of(int flags, va_list ap)
{
	return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(ap, mode_t) : 0;
}

static int
open_at(int dir, const char *path, int flags, mode_t mode)
{
	REAL(openat_fn *, "openat");

	return shim_strikes(CALL_OPEN, dir, path, NULL) ? -1 : real(dir, path, flags, mode);
}

#define DEFINE_OPEN(name) \
	int name(const char *path, int flags, ...) \
	{ \
		va_list ap; \
		mode_t mode; \
		va_start(ap, flags); \
		mode = mode_of(flags, ap); \
		va_end(ap); \
		return open_at(AT_FDCWD, path, flags, mode); \
	}
#define DEFINE_OPENAT(name) \
	int name(int dir, const char *path, int flags, ...) \
	{ \
		va_list ap; \
		mode_t mode; \
		va_start(ap, flags); \
		mode = mode_of(flags, ap); \
		va_end(ap); \
		return open_at(dir, path, flags, mode); \
	}
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

int
__open_2(const char *path, int flags)
{
	return open_at(AT_FDCWD, path, flags, 0);
}

int
__open64_2(const char *path, int flags)
{
	return open_at(AT_FDCWD, path, flags, 0);
}

int
__openat_2(int dir, const char *path, int flags)
{
	return open_at(dir, path, flags, 0);
}

int
__openat64_2(int dir, const char *path, int flags)
{
	return open_at(dir, path, flags, 0);
}

/* openat2() and clone3() have no functions of their own in the C library. */
long
syscall(long number, ...)
{
	REAL(syscall_fn *, "syscall");
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
#ifdef SYS_openat2
	if (number == SYS_openat2 && shim_strikes(CALL_OPEN, (int)a[0], (const char *)a[1], NULL))
		return -1;
#endif
	if ((number == SYS_clone || number == SYS_clone3) &&
	    shim_strikes(CALL_FORK, -1, NULL, NULL))
		return -1;
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t
read(int fd, void *data, size_t len)
{
	REAL(read_fn *, "read");

	return shim_strikes(CALL_READ, fd, NULL, &len) ? -1 : real(fd, data, len);
}

ssize_t
__read_chk(int fd, void *data, size_t len, size_t room)
{
	if (len > room)
		abort();
	return read(fd, data, len);
}

ssize_t
pread64(int fd, void *data, size_t len, off64_t off)
{
	REAL(pread_fn *, "pread64");

	return shim_strikes_at(off, fd, &len) ? -1 : real(fd, data, len, off);
}

ssize_t
pread(int fd, void *data, size_t len, off_t off)
{
	return pread64(fd, data, len, off);
}

ssize_t
__pread64_chk(int fd, void *data, size_t len, off64_t off, size_t room)
{
	if (len > room)
		abort();
	return pread64(fd, data, len, off);
}

ssize_t
__pread_chk(int fd, void *data, size_t len, off64_t off, size_t room)
{
	return __pread64_chk(fd, data, len, off, room);
}

ssize_t
preadv64v2(int fd, const struct iovec *parts, int n, off64_t off, int flags)
{
	REAL(preadv2_fn *, "preadv64v2");

	/* A disk that may fail keeps nothing in memory: otherwise it would not be asked. */
	if ((flags & RWF_NOWAIT) != 0 && shim_watches(CALL_PREAD)) {
		errno = EAGAIN;
		return -1;
	}
	return shim_strikes_at(off, fd, NULL) ? -1 : real(fd, parts, n, off, flags);
}

ssize_t
preadv2(int fd, const struct iovec *parts, int n, off_t off, int flags)
{
	return preadv64v2(fd, parts, n, off, flags);
}

ssize_t
preadv64(int fd, const struct iovec *parts, int n, off64_t off)
{
	return preadv64v2(fd, parts, n, off, 0);
}

ssize_t
preadv(int fd, const struct iovec *parts, int n, off_t off)
{
	return preadv64v2(fd, parts, n, off, 0);
}

ssize_t
write(int fd, const void *data, size_t len)
{
	REAL(write_fn *, "write");

	return shim_strikes(CALL_WRITE, fd, NULL, &len) ? -1 : real(fd, data, len);
}

ssize_t
pwrite64(int fd, const void *data, size_t len, off64_t off)
{
	REAL(pwrite_fn *, "pwrite64");

	return shim_strikes(CALL_PWRITE, fd, NULL, &len) ? -1 : real(fd, data, len, off);
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t off)
{
	return pwrite64(fd, data, len, off);
}

int
fsync(int fd)
{
	REAL(sync_fn *, "fsync");

	return shim_strikes(CALL_FSYNC, fd, NULL, NULL) ? -1 : shim_syncs() ? real(fd) : 0;
}

int
fdatasync(int fd)
{
	REAL(sync_fn *, "fdatasync");

	return shim_strikes(CALL_FDATASYNC, fd, NULL, NULL) ? -1 : shim_syncs() ? real(fd) : 0;
}

int
ftruncate64(int fd, off64_t len)
{
	REAL(truncate_fn *, "ftruncate64");

	return shim_strikes(CALL_FTRUNCATE, fd, NULL, NULL) ? -1 : real(fd, len);
}

int
ftruncate(int fd, off_t len)
{
	return ftruncate64(fd, len);
}

int
fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	REAL(fallocate_fn *, "fallocate64");

	return shim_strikes(CALL_FALLOCATE, fd, NULL, NULL) ? -1 : real(fd, mode, off, len);
}

int
fallocate(int fd, int mode, off_t off, off_t len)
{
	return fallocate64(fd, mode, off, len);
}

int
rename(const char *from, const char *to)
{
	REAL(rename_fn *, "rename");

	return shim_strikes(CALL_RENAME, AT_FDCWD, from, NULL) ? -1 : real(from, to);
}

int
renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	REAL(renameat_fn *, "renameat");

	return shim_strikes(CALL_RENAME, from_dir, from, NULL) ? -1 : real(from_dir, from, to_dir,
									   to);
}

int
renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags)
{
	REAL(renameat2_fn *, "renameat2");

	if (shim_strikes(CALL_RENAME, from_dir, from, NULL) ||
	    (flags != 0 && shim_strikes(CALL_RENAME2, from_dir, from, NULL)))
		return -1;
	return real(from_dir, from, to_dir, to, flags);
}

int
unlinkat(int dir, const char *path, int flags)
{
	REAL(unlinkat_fn *, "unlinkat");

	return shim_strikes(CALL_UNLINK, dir, path, NULL) ? -1 : real(dir, path, flags);
}

int
unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int
rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int
mkdirat(int dir, const char *path, mode_t mode)
{
	REAL(mkdirat_fn *, "mkdirat");

	return shim_strikes(CALL_MKDIR, dir, path, NULL) ? -1 : real(dir, path, mode);
}

int
mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

int
linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	REAL(linkat_fn *, "linkat");

	return shim_strikes(CALL_LINK, to_dir, to, NULL) ? -1
							 : real(from_dir, from, to_dir, to, flags);
}

int
link(const char *from, const char *to)
{
	return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
symlinkat(const char *target, int dir, const char *path)
{
	REAL(symlinkat_fn *, "symlinkat");

	return shim_strikes(CALL_LINK, dir, path, NULL) ? -1 : real(target, dir, path);
}

int
symlink(const char *target, const char *path)
{
	return symlinkat(target, AT_FDCWD, path);
}

/* FUSE_DEV_IOC_BACKING_OPEN; the argument is passed on as it came. */
int
ioctl(int fd, unsigned long request, ...)
{
	const unsigned long backing_open = 0x4010e501;
	va_list ap;
	void *arg;

	REAL(ioctl_fn *, "ioctl");
	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	/* By its name: a device by its descriptor is let through. */
	if (request == backing_open && shim_strikes(CALL_BACKING, fd, "/dev/fuse", NULL))
		return -1;
	return real(fd, request, arg);
}
