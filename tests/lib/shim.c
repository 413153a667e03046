/*
 * shim.so - faults from below: makes chosen library calls of one program fail.
 *
 *	LD_PRELOAD=.../shim.so SHIM_FAIL=fdatasync:1:EIO SHIM_PATH=/partial/ vmimagefs ...
 *
 *   SHIM_FAIL     CALL:WHEN:ERRNO[,...]
 *                 WHEN is N (the Nth call alone), N+ (from the Nth on) or * (each)
 *   SHIM_SHORT    CALL[,...]  of read, pread, write, pwrite: only half of what was asked for
 *   SHIM_EINTR    CALL[,...]  every other call fails with EINTR
 *   SHIM_PATH     TEXT        only for files whose path contains TEXT ("pipe:" for pipes); malloc
 *                             has no path and is let through
 *   SHIM_PROGRAM  NAME        only in programs of this name (the file's last component)
 *   SHIM_ARMED    FILE        only while FILE exists
 *   SHIM_LOG      FILE        gets a line "pid call n errno" for each fault
 *
 * CALL: open read pread write pwrite fsync fdatasync rename rename2 fallocate ftruncate malloc
 * backing, which is the ioctl() that registers a backing file for passthrough.
 * open stands for open(), openat() and openat2(); rename for renameat() and renameat2() too;
 * rename2 for renameat2() with flags.  ERRNO: a name of the table below, or a number.
 *
 * Calls are counted for each process, from 1, and only those that SHIM_PATH, SHIM_PROGRAM and
 * SHIM_ARMED let through; a forked child goes on counting where its parent was.  The paths looked
 * at are those of descriptors (/proc/self/fd), or directory and name where a call has names.  Calls
 * that the C library makes inside itself (fopen, readdir) are not seen.  A setting that makes no
 * sense ends the program with status 99.
 */
#undef _FILE_OFFSET_BITS	/* both names of each call are defined here */
#undef _FORTIFY_SOURCE
#include "config.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum call {
	CALL_OPEN, CALL_READ, CALL_PREAD, CALL_WRITE, CALL_PWRITE, CALL_FSYNC, CALL_FDATASYNC,
	CALL_RENAME, CALL_RENAME2, CALL_FALLOCATE, CALL_FTRUNCATE, CALL_MALLOC, CALL_BACKING,
	N_CALLS,
};

static const char *const call_names[N_CALLS] = {
	"open", "read", "pread", "write", "pwrite", "fsync", "fdatasync", "rename", "rename2",
	"fallocate", "ftruncate", "malloc", "backing",
};

static const struct {
	const char *name;
	int value;
} errno_names[] = {
	{ "EACCES", EACCES }, { "EAGAIN", EAGAIN }, { "EDQUOT", EDQUOT }, { "EFBIG", EFBIG },
	{ "EINTR", EINTR }, { "EINVAL", EINVAL }, { "EIO", EIO }, { "EMFILE", EMFILE },
	{ "ENFILE", ENFILE }, { "ENOMEM", ENOMEM }, { "ENOSPC", ENOSPC }, { "ENOSYS", ENOSYS },
	{ "EOPNOTSUPP", EOPNOTSUPP }, { "EPERM", EPERM }, { "EROFS", EROFS },
};

enum { RULES_MAX = 16, PATH_ROOM = 4352 };

static struct rule {
	enum call call;
	long first, last;
	int errnum;
} rules[RULES_MAX];

static int n_rules;
static bool shortened[N_CALLS], interrupted[N_CALLS];
static const char *only_path, *armed;
static int log_fd = -1;
static atomic_long counts[N_CALLS], turns[N_CALLS];

/* ---- configuration ----------------------------------------------------------------------- */

/* A test that asks for a fault which cannot happen must not pass. */
static void __attribute__((noreturn))
refuse(const char *what, const char *text)
{
	dprintf(2, "shim: %s '%s'\n", what, text);
	_exit(99);
}

static enum call
parse_call(const char *text, size_t len)
{
	for (int i = 0; i < N_CALLS; i++) {
		if (strlen(call_names[i]) == len && strncmp(call_names[i], text, len) == 0)
			return (enum call)i;
	}
	refuse("no such call:", text);
}

static int
parse_errno(const char *text, size_t len)
{
	char *end;
	long n = strtol(text, &end, 10);

	for (size_t i = 0; i < sizeof(errno_names) / sizeof(errno_names[0]); i++) {
		if (strlen(errno_names[i].name) == len &&
		    strncmp(errno_names[i].name, text, len) == 0)
			return errno_names[i].value;
	}
	if (end != text + len || n <= 0)
		refuse("no such errno:", text);
	return (int)n;
}

/* CALL:WHEN:ERRNO */
static void
parse_rule(const char *text, size_t len)
{
	const char *when = memchr(text, ':', len), *number, *end = text + len;
	struct rule *r = &rules[n_rules];
	char *after;

	if (when == NULL || n_rules == RULES_MAX)
		refuse("bad rule:", text);
	number = memchr(when + 1, ':', (size_t)(end - when - 1));
	if (number == NULL)
		refuse("bad rule:", text);
	r->call = parse_call(text, (size_t)(when - text));
	r->errnum = parse_errno(number + 1, (size_t)(end - number - 1));
	if (when[1] == '*') {
		r->first = 1;
		r->last = 0;
	} else {
		r->first = strtol(when + 1, &after, 10);
		r->last = *after == '+' ? 0 : r->first;
		if (r->first <= 0)
			refuse("bad rule:", text);
	}
	n_rules++;
}

static void
each_word(const char *text, void (*fn)(const char *word, size_t len))
{
	while (text != NULL && *text != '\0') {
		size_t len = strcspn(text, ",");

		if (len > 0)
			fn(text, len);
		text += len + (text[len] == ',');
	}
}

static void
parse_short(const char *text, size_t len)
{
	shortened[parse_call(text, len)] = true;
}

static void
parse_eintr(const char *text, size_t len)
{
	interrupted[parse_call(text, len)] = true;
}

static void __attribute__((constructor))
configure(void)
{
	const char *program = getenv("SHIM_PROGRAM"), *log = getenv("SHIM_LOG");

	if (program != NULL && strcmp(program, program_invocation_short_name) != 0)
		return;
	only_path = getenv("SHIM_PATH");
	armed = getenv("SHIM_ARMED");
	if (log != NULL)
		log_fd = (int)syscall(SYS_openat, AT_FDCWD, log,
				      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	each_word(getenv("SHIM_SHORT"), parse_short);
	each_word(getenv("SHIM_EINTR"), parse_eintr);
	each_word(getenv("SHIM_FAIL"), parse_rule);
}

/* ---- decisions --------------------------------------------------------------------------- */

static void *
next_symbol(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* Declares real() as the library's own function of a name, looked up once. */
#define REAL(type, name) \
	static type real; \
	if (real == NULL) \
		real = (type)next_symbol(name)

static bool
path_matches(int fd, const char *name)
{
	char path[PATH_ROOM], link[64];
	ssize_t len = 0;

	if (only_path == NULL)
		return true;
	if (fd >= 0 && (name == NULL || *name != '/')) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		len = readlink(link, path, sizeof(path) - 1);
		if (len < 0)
			len = 0;
	}
	path[len] = '\0';
	if (name != NULL)
		snprintf(path + len, sizeof(path) - (size_t)len, "/%s", name);
	return strstr(path, only_path) != NULL;
}

static bool
is_wanted(enum call call)
{
	if (shortened[call] || interrupted[call])
		return true;
	for (int i = 0; i < n_rules; i++) {
		if (rules[i].call == call)
			return true;
	}
	return false;
}

static void
write_log(enum call call, long n, int errnum)
{
	char line[96];
	int len;

	if (log_fd < 0)
		return;
	len = snprintf(line, sizeof(line), "%ld %s %ld %d\n", (long)getpid(), call_names[call], n,
		       errnum);
	syscall(SYS_write, log_fd, line, (size_t)len);
}

/* Does this call meet a fault?  True with errno set.  *len, if given, may be made smaller. */
static bool
strikes(enum call call, int fd, const char *name, size_t *len)
{
	int saved = errno;
	long n;

	if (!is_wanted(call) || (call != CALL_MALLOC && !path_matches(fd, name)) ||
	    (armed != NULL && syscall(SYS_faccessat, AT_FDCWD, armed, F_OK) != 0)) {
		errno = saved;
		return false;
	}
	n = ++counts[call];
	errno = saved;
	for (int i = 0; i < n_rules; i++) {
		if (rules[i].call != call || n < rules[i].first ||
		    (rules[i].last != 0 && n > rules[i].last))
			continue;
		write_log(call, n, rules[i].errnum);
		errno = rules[i].errnum;
		return true;
	}
	if (interrupted[call] && ++turns[call] % 2 == 1) {
		write_log(call, n, EINTR);
		errno = EINTR;
		return true;
	}
	if (len != NULL && shortened[call] && *len > 1)
		*len = (*len + 1) / 2;
	return false;
}

/* ---- the calls --------------------------------------------------------------------------- */

typedef int open_fn(const char *path, int flags, ...);
typedef int openat_fn(int dir, const char *path, int flags, ...);
typedef ssize_t read_fn(int fd, void *data, size_t len);
typedef ssize_t pread_fn(int fd, void *data, size_t len, off64_t off);
typedef ssize_t write_fn(int fd, const void *data, size_t len);
typedef ssize_t pwrite_fn(int fd, const void *data, size_t len, off64_t off);
typedef int sync_fn(int fd);
typedef int truncate_fn(int fd, off64_t len);
typedef int fallocate_fn(int fd, int mode, off64_t off, off64_t len);
typedef int rename_fn(const char *from, const char *to);
typedef int renameat_fn(int from_dir, const char *from, int to_dir, const char *to);
typedef int renameat2_fn(int from_dir, const char *from, int to_dir, const char *to,
			 unsigned int flags);
typedef long syscall_fn(long number, ...);
typedef void *malloc_fn(size_t size);
typedef int ioctl_fn(int fd, unsigned long request, ...);

/* Names that are the C library's own, and have no prototypes. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);
ssize_t __read_chk(int fd, void *data, size_t len, size_t room);
ssize_t __pread_chk(int fd, void *data, size_t len, off64_t off, size_t room);
ssize_t __pread64_chk(int fd, void *data, size_t len, off64_t off, size_t room);
void *__libc_malloc(size_t size);

static mode_t
mode_of(int flags, va_list ap)
{
	return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(ap, mode_t) : 0;
}

static int
open_at(int dir, const char *path, int flags, mode_t mode)
{
	REAL(openat_fn *, "openat");

	return strikes(CALL_OPEN, dir, path, NULL) ? -1 : real(dir, path, flags, mode);
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

/* openat2() has no function of its own in the C library. */
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
	if (number == SYS_openat2 && strikes(CALL_OPEN, (int)a[0], (const char *)a[1], NULL))
		return -1;
#endif
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t
read(int fd, void *data, size_t len)
{
	REAL(read_fn *, "read");

	return strikes(CALL_READ, fd, NULL, &len) ? -1 : real(fd, data, len);
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

	return strikes(CALL_PREAD, fd, NULL, &len) ? -1 : real(fd, data, len, off);
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
write(int fd, const void *data, size_t len)
{
	REAL(write_fn *, "write");

	return strikes(CALL_WRITE, fd, NULL, &len) ? -1 : real(fd, data, len);
}

ssize_t
pwrite64(int fd, const void *data, size_t len, off64_t off)
{
	REAL(pwrite_fn *, "pwrite64");

	return strikes(CALL_PWRITE, fd, NULL, &len) ? -1 : real(fd, data, len, off);
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

	return strikes(CALL_FSYNC, fd, NULL, NULL) ? -1 : real(fd);
}

int
fdatasync(int fd)
{
	REAL(sync_fn *, "fdatasync");

	return strikes(CALL_FDATASYNC, fd, NULL, NULL) ? -1 : real(fd);
}

int
ftruncate64(int fd, off64_t len)
{
	REAL(truncate_fn *, "ftruncate64");

	return strikes(CALL_FTRUNCATE, fd, NULL, NULL) ? -1 : real(fd, len);
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

	return strikes(CALL_FALLOCATE, fd, NULL, NULL) ? -1 : real(fd, mode, off, len);
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

	return strikes(CALL_RENAME, AT_FDCWD, from, NULL) ? -1 : real(from, to);
}

int
renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	REAL(renameat_fn *, "renameat");

	return strikes(CALL_RENAME, from_dir, from, NULL) ? -1 : real(from_dir, from, to_dir, to);
}

int
renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags)
{
	REAL(renameat2_fn *, "renameat2");

	if (strikes(CALL_RENAME, from_dir, from, NULL) ||
	    (flags != 0 && strikes(CALL_RENAME2, from_dir, from, NULL)))
		return -1;
	return real(from_dir, from, to_dir, to, flags);
}

void *
malloc(size_t size)
{
	static malloc_fn *real;
	static atomic_bool asked;

	/* The look-up itself may allocate. */
	if (real == NULL && !asked) {
		asked = true;
		real = (malloc_fn *)next_symbol("malloc");
	}
	if (strikes(CALL_MALLOC, -1, NULL, NULL))
		return NULL;
	return real != NULL ? real(size) : __libc_malloc(size);
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
	if (request == backing_open && strikes(CALL_BACKING, fd, NULL, NULL))
		return -1;
	return real(fd, request, arg);
}
