/*
 * fscheck.c - system calls that a shell cannot make, on files and directories of the mount.
 *
 *   fscheck mutate FILE DIR DIRNAME LINK
 *                                 every call that could change something: FILE is a file of the
 *                                 mount, DIR a directory of it that has the directory DIRNAME,
 *                                 LINK the path of a symlink.  Prints "CALL RESULT" a line: the
 *                                 name of the error, or "done"
 *   fscheck same GROUP FILE LOCAL makes each call of the group on both files, which have the same
 *                                 bytes, and prints what differs; status 1 then.  GROUPs:
 *                                   read    offsets and lengths at the edges
 *                                   huge    one read of 2 GiB
 *                                   direct  O_DIRECT, aligned and not
 *                                   map     mmap, msync, madvise
 *                                   move    splice, tee, sendfile, copy_file_range, preadv2
 *                                   seek    SEEK_DATA and SEEK_HOLE
 *                                   lock    flock, POSIX locks, OFD locks, leases
 *                                   xattr   attributes that do not exist
 *   fscheck seek FILE             the same rules for a file that has no local twin and no holes
 *   fscheck attr FILE NAME        getxattr() with no, too small and enough room; prints the value
 *   fscheck handle FILE           name_to_handle_at(), open_by_handle_at(); prints the file
 *   fscheck list DIR BYTES        getdents64() with a buffer of BYTES; prints "INO TYPE NAME"
 *   fscheck places DIR            telldir(), seekdir() and rewinddir() to each entry
 *   fscheck lists DIR BYTES STABLE SECONDS
 *                                 lists for that long: each name at most once, and every name that
 *                                 stands in the file STABLE; prints how often
 *   fscheck versions SECONDS FILE CONTENT...
 *                                 reads FILE for that long, in pieces of one byte: as long as its
 *                                 size says, and each time the same as one of the files CONTENT
 *
 * Ends with 0, with 1 after it has said what is wrong, with 2 for wrong usage.
 */
#include "config.h"

#include "tests/lib/fscheck.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096 };

static int n_wrong;

void
fscheck_wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	n_wrong++;
}

bool
fscheck_has_failed(void)
{
	return n_wrong > 0;
}

long long
fscheck_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static const char *
result_name(long long result)
{
	return result >= 0 ? "done" : strerrorname_np(errno);
}

/* ---- mutate --------------------------------------------------------------------------------- */

static void
told(const char *call, long long result)
{
	printf("%s %s\n", call, result_name(result));
}

static int
open_told(const char *call, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	told(call, fd);
	return fd;
}

static void
mutate_by_open(const char *file, const char *dir)
{
	open_told("open(O_WRONLY)", file, O_WRONLY);
	open_told("open(O_RDWR)", file, O_RDWR);
	open_told("open(O_TRUNC)", file, O_RDONLY | O_TRUNC);
	open_told("open(O_APPEND)", file, O_WRONLY | O_APPEND);
	open_told("open(O_TMPFILE)", dir, O_TMPFILE | O_RDWR);
	open_told("open(O_DIRECTORY|O_RDWR)", dir, O_DIRECTORY | O_RDWR);
}

static void
mutate_by_descriptor(int fd)
{
	struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	int flags = FS_NODUMP_FL, source = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	loff_t off = 0, into = 0;
	struct fsxattr fsx = { 0 };

	told("write", write(fd, "x", 1));
	told("pwrite", pwrite(fd, "x", 1, 0));
	told("ftruncate", ftruncate(fd, 0));
	told("fallocate", fallocate(fd, 0, 0, PAGE));
	told("fallocate(PUNCH_HOLE)",
	     fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
	told("copy_file_range", copy_file_range(source, &off, fd, &into, PAGE, 0));
	told("FICLONE", ioctl(fd, FICLONE, source));
	told("FS_IOC_SETFLAGS", ioctl(fd, FS_IOC_SETFLAGS, &flags));
	told("FS_IOC_FSSETXATTR", ioctl(fd, FS_IOC_FSSETXATTR, &fsx));
	told("fchmod", fchmod(fd, 0600));
	told("fchown", fchown(fd, 1, 1));
	told("futimens", futimens(fd, now));
	told("fsetxattr", fsetxattr(fd, "user.x", "x", 1, 0));
	told("fremovexattr", fremovexattr(fd, "user.vmimage.id"));
	close(source);
}

static void
mutate_by_name(const char *file, int dir, const char *subdir, const char *link)
{
	struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };

	told("open(O_CREAT)", openat(dir, "new", O_CREAT | O_RDWR | O_CLOEXEC, 0644));
	told("truncate", truncate(file, 0));
	told("unlink", unlink(link));
	told("mkdir", mkdirat(dir, "new", 0755));
	told("rmdir", unlinkat(dir, subdir, AT_REMOVEDIR));
	told("rename", renameat(dir, subdir, dir, "new"));
	told("rename(NOREPLACE)", renameat2(dir, subdir, dir, "new", RENAME_NOREPLACE));
	told("rename(EXCHANGE)", renameat2(dir, subdir, AT_FDCWD, link, RENAME_EXCHANGE));
	told("link", linkat(AT_FDCWD, file, dir, "new", 0));
	told("symlink", symlinkat("x", dir, "new"));
	told("mknod(FIFO)", mknodat(dir, "new", S_IFIFO | 0644, 0));
	told("mknod(device)", mknodat(dir, "new", S_IFCHR | 0644, 0x103));
	told("chmod", chmod(file, 0600));
	told("chown", chown(file, 1, 1));
	told("lchown", lchown(link, 1, 1));
	told("utimensat", utimensat(AT_FDCWD, file, now, 0));
	told("setxattr", setxattr(file, "user.x", "x", 1, 0));
	told("removexattr", removexattr(file, "user.vmimage.id"));
}

static int
do_mutate(char **args)
{
	int fd = open(args[0], O_RDONLY | O_CLOEXEC);
	int dir = open(args[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || dir < 0) {
		fscheck_wrong("cannot open: %s", strerrorname_np(errno));
		return 1;
	}
	mutate_by_open(args[0], args[1]);
	mutate_by_descriptor(fd);
	mutate_by_name(args[0], dir, args[2], args[3]);
	return 0;
}
/* ---- one file ------------------------------------------------------------------------------- */

static void
expect(const char *what, off_t found, off_t wanted, int error)
{
	if (found != wanted || (found < 0 && errno != error))
		fscheck_wrong("%s: %lld %s, not %lld", what, (long long)found,
			      found < 0 ? strerrorname_np(errno) : "", (long long)wanted);
}

static int
do_seek(char **args)
{
	int fd = open(args[0], O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0) {
		fscheck_wrong("open: %s", strerrorname_np(errno));
		return 1;
	}
	expect("SEEK_DATA 0", lseek(fd, 0, SEEK_DATA), 0, 0);
	expect("SEEK_HOLE 0", lseek(fd, 0, SEEK_HOLE), st.st_size, 0);
	expect("SEEK_DATA in the middle", lseek(fd, st.st_size / 2, SEEK_DATA), st.st_size / 2, 0);
	expect("SEEK_HOLE at the last byte", lseek(fd, st.st_size - 1, SEEK_HOLE), st.st_size, 0);
	expect("SEEK_DATA at the end", lseek(fd, st.st_size, SEEK_DATA), -1, ENXIO);
	expect("SEEK_HOLE at the end", lseek(fd, st.st_size, SEEK_HOLE), -1, ENXIO);
	expect("SEEK_HOLE beyond the end", lseek(fd, st.st_size + 9, SEEK_HOLE), -1, ENXIO);
	expect("SEEK_END", lseek(fd, 0, SEEK_END), st.st_size, 0);
	return fscheck_has_failed();
}

static int
do_attr(char **args)
{
	char value[65536];
	ssize_t len = getxattr(args[0], args[1], NULL, 0);

	if (len < 0) {
		printf("%s\n", strerrorname_np(errno));
		return 1;
	}
	if (len > 1)
		expect("too little room", getxattr(args[0], args[1], value, (size_t)len - 1), -1,
		       ERANGE);
	expect("enough room", getxattr(args[0], args[1], value, sizeof(value)), len, 0);
	expect("just enough", getxattr(args[0], args[1], value, (size_t)len > 0 ? (size_t)len : 1),
	       len, 0);
	len = listxattr(args[0], NULL, 0);
	if (len <= 1)
		fscheck_wrong("listxattr: %zd", len);
	expect("a list in too little room", listxattr(args[0], value, 1), -1, ERANGE);
	expect("a list in just enough", listxattr(args[0], value, (size_t)len), len, 0);
	len = getxattr(args[0], args[1], value, sizeof(value));
	printf("%.*s\n", (int)len, value);
	return fscheck_has_failed();
}

static int
do_handle(char **args)
{
	struct { struct file_handle head; unsigned char room[128]; } h;
	char block[PAGE];
	int mount_id, mount, fd;
	ssize_t n;

	h.head.handle_bytes = sizeof(h.room);
	mount = open(args[0], O_RDONLY | O_CLOEXEC);
	if (name_to_handle_at(AT_FDCWD, args[0], &h.head, &mount_id, AT_SYMLINK_FOLLOW) != 0) {
		printf("%s\n", strerrorname_np(errno));
		return errno == EOPNOTSUPP ? 77 : 1;
	}
	fd = open_by_handle_at(mount, &h.head, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		printf("%s\n", strerrorname_np(errno));
		return 1;
	}
	while ((n = read(fd, block, sizeof(block))) > 0)
		fwrite(block, 1, (size_t)n, stdout);
	return n < 0;
}
/* ---- versions -------------------------------------------------------------------------------- */

enum { TEXT_MAX = 1 << 16 };

struct text {
	char data[TEXT_MAX];
	size_t len;
};

/* False: it could not be read. */
static bool
read_text(const char *path, size_t piece, struct text *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st = { 0 };
	ssize_t n = fd < 0 || fstat(fd, &st) != 0 ? -1 : 1;

	out->len = 0;
	while (n > 0 && out->len + piece <= TEXT_MAX) {
		n = read(fd, out->data + out->len, piece);
		out->len += n > 0 ? (size_t)n : 0;
	}
	if (n < 0)
		fscheck_wrong("%s: %s", path, strerrorname_np(errno));
	else if (out->len != (size_t)st.st_size)
		fscheck_wrong("%s: %zu bytes, its size is %lld", path, out->len,
			      (long long)st.st_size);
	if (fd >= 0)
		close(fd);
	return n == 0;
}

static int
do_versions(char **args)
{
	static struct text found, wanted[8];
	long long end = fscheck_now_ms() + strtoll(args[0], NULL, 10) * 1000;
	size_t n = 0, seen[8] = { 0 };

	for (char **path = args + 2; *path != NULL && n < 8; path++)
		read_text(*path, TEXT_MAX, &wanted[n++]);
	while (!fscheck_has_failed() && fscheck_now_ms() < end && read_text(args[1], 1, &found)) {
		size_t i = 0;

		while (i < n && (wanted[i].len != found.len ||
				 memcmp(wanted[i].data, found.data, found.len) != 0))
			i++;
		if (i == n)
			fscheck_wrong("neither of them: %.*s", (int)found.len, found.data);
		else
			seen[i]++;
	}
	for (size_t i = 0; i < n; i++)
		printf("%zu%c", seen[i], i + 1 < n ? ' ' : '\n');
	return fscheck_has_failed();
}
/* ---- main ------------------------------------------------------------------------------------ */

static const struct command {
	const char *name;
	int n_args;		/* at least */
	int (*run)(char **args);
} commands[] = {
	{ "mutate", 4, do_mutate }, { "same", 3, fscheck_same }, { "seek", 1, do_seek },
	{ "attr", 2, do_attr }, { "handle", 1, do_handle }, { "list", 2, fscheck_list },
	{ "places", 1, fscheck_places }, { "lists", 4, fscheck_lists },
	{ "versions", 3, do_versions },
};

int
main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, argv[1]) == 0 && argc - 2 >= commands[i].n_args)
			return commands[i].run(argv + 2);
	fputs("fscheck: see the head of tests/lib/fscheck.c\n", stderr);
	return 2;
}
