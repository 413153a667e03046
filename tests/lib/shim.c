/*
 * shim.so - faults from below: makes chosen library calls of programs fail.
 *
 *	LD_PRELOAD=.../shim.so SHIM_FAIL=fdatasync:1:EIO SHIM_PATH=/partial/ vmimagefs ...
 *
 *   SHIM_FAIL     CALL:WHEN:ERRNO[,...]
 *                 WHEN is N (the Nth call alone), N+ (from the Nth on) or * (each).  ERRNO "short"
 *                 is no failure: only half of what was asked for is read or written
 *   SHIM_SHORT    CALL[,...]  of read, pread, write, pwrite: only half of what was asked for
 *   SHIM_EINTR    CALL[,...]  every other call fails with EINTR
 *   SHIM_PATH     TEXT        only for files whose path contains TEXT ("pipe:" for pipes); malloc
 *                             has no path and is let through
 *   SHIM_SKIP     TEXT        not for files whose path contains TEXT
 *   SHIM_AT       OFFSET      of pread, only those that begin there
 *   SHIM_PROGRAM  NAME[,...]  only in programs of these names (the file's last component)
 *   SHIM_ARMED    FILE        only while FILE exists
 *   SHIM_NOSYNC   1           fsync() and fdatasync() that do not fail do nothing
 *   SHIM_LOG      FILE        gets a line "pid call n errno" for each fault
 *   SHIM_TRACE    1           and the call stack below it
 *   SHIM_COUNT    FILE        a struct shim_counts: all processes that name it count together, the
 *                             calls of all kinds
 *
 * CALL: those of shim.h.  open stands for open(), openat() and openat2(); pread for preadv() and
 * preadv2(), for which nothing is in memory (RWF_NOWAIT) while it may fail; rename for renameat()
 * and renameat2() too; rename2 for renameat2() with flags; unlink for unlinkat() and rmdir(); link
 * for symlink(); malloc for everything that allocates; fork for clone(); thread for
 * pthread_create(); backing for the ioctl() that registers a backing file for passthrough.  Those
 * with an x are functions of SQLite's VFS, and fail with SQLITE_IOERR, SQLITE_FULL, SQLITE_BUSY,
 * SQLITE_NOMEM.  ERRNO: a name of the table below, or a number.
 *
 * Calls are counted for each process, from 1, and only those that SHIM_PATH, SHIM_PROGRAM and
 * SHIM_ARMED let through; a forked child goes on counting where its parent was.  The paths looked
 * at are those of descriptors (/proc/self/fd), or directory and name where a call has names.  What
 * is no file (a device, an eventfd) does not fail as one, and is let through.  Calls that the C
 * library makes inside itself (fopen, readdir) are not seen, but for malloc.  A setting that makes
 * no sense ends the program with status 99.
 */
#include "config.h"
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const call_names[N_CALLS] = {
#define CALL_NAME(id, name) name,
	SHIM_CALLS(CALL_NAME)
};

enum { RULES_MAX = 16, PATH_ROOM = 4352, STACK_ROOM = 48, SHORT = 100000 };

static const struct {
	const char *name;
	int value;
} errno_names[] = {
	{ "EACCES", EACCES }, { "EAGAIN", EAGAIN }, { "EDQUOT", EDQUOT }, { "EFBIG", EFBIG },
	{ "EINTR", EINTR }, { "EINVAL", EINVAL }, { "EIO", EIO }, { "EMFILE", EMFILE },
	{ "ENFILE", ENFILE }, { "ENOMEM", ENOMEM }, { "ENOSPC", ENOSPC }, { "ENOSYS", ENOSYS },
	{ "EOPNOTSUPP", EOPNOTSUPP }, { "EPERM", EPERM }, { "EROFS", EROFS }, { "short", SHORT },
	/* sqlite3.h promises that these numbers stay. */
	{ "SQLITE_BUSY", 5 }, { "SQLITE_NOMEM", 7 }, { "SQLITE_IOERR", 10 }, { "SQLITE_FULL", 13 },
};

static struct rule {
	enum shim_call call;
	long first, last;
	int errnum;
} rules[RULES_MAX];

static int n_rules;
static bool shortened[N_CALLS], interrupted[N_CALLS];
static const char *only_path, *skip_path, *armed, *only_at;
static int log_fd = -1;
static bool traced, unsynced;
static atomic_long turns[N_CALLS];
static struct shim_counts own, *counts = &own;	/* own: only what is used of it has pages */
static bool counting;
static __thread bool inside;	/* what we call ourselves is let through */

/* ---- configuration ----------------------------------------------------------------------- */

/* A test that asks for a fault which cannot happen must not pass. */
static void __attribute__((noreturn))
refuse(const char *what, const char *text)
{
	dprintf(2, "shim: %s '%s'\n", what, text);
	_exit(99);
}

static enum shim_call
parse_call(const char *text, size_t len)
{
	for (int i = 0; i < N_CALLS; i++) {
		if (strlen(call_names[i]) == len && strncmp(call_names[i], text, len) == 0)
			return (enum shim_call)i;
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

static bool
is_named(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (; *list != '\0'; list += strcspn(list, ","), list += *list == ',') {
		if (strcspn(list, ",") == len && strncmp(list, name, len) == 0)
			return true;
	}
	return false;
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

/* An empty one is none. */
static const char *
text_of(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && *value != '\0' ? value : NULL;
}

/* Nothing is mapped without the file: then nobody waits for what is counted. */
static void
count_in(const char *file)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC, 0);
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		refuse("cannot map", file);
	counts = map;
	counting = true;
}

static void __attribute__((constructor))
configure(void)
{
	const char *program = getenv("SHIM_PROGRAM"), *log = getenv("SHIM_LOG");
	const char *count = getenv("SHIM_COUNT");

	if (program != NULL && !is_named(program, program_invocation_short_name))
		return;
	only_path = text_of("SHIM_PATH");
	skip_path = text_of("SHIM_SKIP");
	armed = getenv("SHIM_ARMED");
	only_at = getenv("SHIM_AT");
	if (log != NULL)
		log_fd = (int)syscall(SYS_openat, AT_FDCWD, log,
				      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	each_word(getenv("SHIM_SHORT"), parse_short);
	each_word(getenv("SHIM_EINTR"), parse_eintr);
	each_word(getenv("SHIM_FAIL"), parse_rule);
	traced = getenv("SHIM_TRACE") != NULL;
	unsynced = getenv("SHIM_NOSYNC") != NULL;
	if (count != NULL)
		count_in(count);
	for (int call = CALL_XOPEN; call < N_CALLS; call++) {
		if (shim_watches((enum shim_call)call)) {
			shim_wrap_sqlite();
			break;
		}
	}
}

/* ---- decisions --------------------------------------------------------------------------- */

void *
shim_next(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* Or a pipe, or a socket: no device, and none of the kernel's own, which have no type at all. */
static bool
is_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) != 0 || ((st.st_mode & S_IFMT) != 0 && !S_ISCHR(st.st_mode));
}

static bool
path_matches(int fd, const char *name)
{
	char path[PATH_ROOM], link[64];
	ssize_t len = 0;

	if (name == NULL && !is_file(fd))
		return false;
	if (only_path == NULL && skip_path == NULL)
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
	if (skip_path != NULL && strstr(path, skip_path) != NULL)
		return false;
	return only_path == NULL || strstr(path, only_path) != NULL;
}

bool
shim_syncs(void)
{
	return !unsynced;
}

bool
shim_watches(enum shim_call call)
{
	if (counting || shortened[call] || interrupted[call])
		return true;
	for (int i = 0; i < n_rules; i++) {
		if (rules[i].call == call)
			return true;
	}
	return false;
}

/* The stack: the object files with their offsets, for addr2line. */
static void
write_log(enum shim_call call, long n, int errnum)
{
	void *stack[STACK_ROOM];
	char line[96];
	int len;

	if (log_fd < 0)
		return;
	len = snprintf(line, sizeof(line), "%ld %s %ld %d\n", (long)getpid(), call_names[call], n,
		       errnum);
	syscall(SYS_write, log_fd, line, (size_t)len);
	if (traced)
		backtrace_symbols_fd(stack, backtrace(stack, STACK_ROOM), log_fd);
}

static void
strike(enum shim_call call, long n, int errnum)
{
	counts->struck++;
	write_log(call, n, errnum);
	errno = errnum;
}

/* Whether a call that is watched is one of those that are counted. */
static bool
is_counted(enum shim_call call, int fd, const char *name)
{
	if (counts->hold != 0)
		return false;
	if (call != CALL_MALLOC && call != CALL_FORK && call != CALL_THREAD &&
	    !path_matches(fd, name))
		return false;
	return armed == NULL || syscall(SYS_faccessat, AT_FDCWD, armed, F_OK) == 0;
}

static void
note_stack(long n)
{
	void *stack[STACK_ROOM];
	uint64_t hash = 14695981039346656037u;
	int depth;

	if (counts->stacked == 0 || n >= SHIM_STACKS)
		return;
	depth = backtrace(stack, STACK_ROOM);
	for (int i = 0; i < depth; i++)
		hash = (hash ^ (uint64_t)(uintptr_t)stack[i]) * 1099511628211u;
	counts->stacks[n] = hash;
}

static bool
decide(enum shim_call call, size_t *len)
{
	long n = ++counts->n[call];

	if (call == CALL_MALLOC)
		note_stack(n);
	for (int i = 0; i < n_rules; i++) {
		if (rules[i].call != call || n < rules[i].first ||
		    (rules[i].last != 0 && n > rules[i].last))
			continue;
		strike(call, n, rules[i].errnum);
		if (rules[i].errnum != SHORT)
			return true;
		if (len != NULL && *len > 1)
			*len = (*len + 1) / 2;
		return false;
	}
	if (interrupted[call] && ++turns[call] % 2 == 1) {
		strike(call, n, EINTR);
		return true;
	}
	if (len != NULL && shortened[call] && *len > 1)
		*len = (*len + 1) / 2;
	return false;
}

bool
shim_strikes_at(off64_t off, int fd, size_t *len)
{
	return (only_at == NULL || off == strtoll(only_at, NULL, 10)) &&
	       shim_strikes(CALL_PREAD, fd, NULL, len);
}

bool
shim_strikes(enum shim_call call, int fd, const char *name, size_t *len)
{
	int saved = errno;
	bool strikes = false;

	if (inside || !shim_watches(call))
		return false;
	inside = true;
	if (is_counted(call, fd, name))
		strikes = decide(call, len);
	inside = false;
	if (!strikes)
		errno = saved;
	return strikes;
}
