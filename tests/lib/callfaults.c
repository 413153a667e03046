/*
 * callfaults.c - the calls that can fail, each a function that asks whether it is its turn.
 */
#undef _FORTIFY_SOURCE /* the plain names are defined here */
#include "config.h"
#include "callfaults.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/cms.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of a kind of call: it can come to an end. */
enum { ENDS = 256 };

/* Where the program's own code is: what a library calls is none of ours. */
extern const char __executable_start[], etext[];

static struct {
	_Atomic unsigned kinds;
	_Atomic long left;
	_Atomic bool struck;
	int errnum;
	pthread_t thread;
	_Atomic bool sqlite; /* the last call to SQLite is the one that failed */
	const char *_Atomic name;
} fault;

void
fault_begin(unsigned kinds, long n, int errnum)
{
	fault.left = n;
	fault.struck = fault.sqlite = false;
	fault.name = "";
	fault.errnum = errnum;
	fault.thread = pthread_self();
	fault.kinds = kinds;
}

bool
fault_end(void)
{
	fault.kinds = 0;
	fault.sqlite = false;
	return fault.struck;
}

const char *
fault_name(void)
{
	return fault.name;
}

static bool
strikes(unsigned kind, const char *name, const void *caller)
{
	if ((fault.kinds & FAULT_HERE) != 0 && !pthread_equal(fault.thread, pthread_self()))
		return false;
	if ((fault.kinds & kind) == 0 || (fault.errnum == 0 && (kind & ENDS) == 0) ||
	    (const char *)caller < __executable_start || (const char *)caller >= etext ||
	    atomic_fetch_sub(&fault.left, 1) != 1)
		return false;
	fault.name = name;
	fault.struck = true;
	fault.sqlite = kind == FAULT_SQLITE;
	errno = fault.errnum;
	return true;
}

/* The function of that name in the libraries. */
static void *
real(const char *name)
{
	void *fn = dlsym(RTLD_NEXT, name);

	if (fn == NULL)
		abort();
	return fn;
}

/*
 * CALL(kind, what a failed one returns, type, name, its name for the linker, parameters, arguments)
 */
#define CALL(kind, failed, type, name, symbol, params, args) \
	type name params \
	{ \
		static type(*_Atomic next) params; \
		if (strikes(kind, #name, __builtin_return_address(0))) \
			return failed; \
		if (next == NULL) \
			next = (type(*) params)(uintptr_t)real(symbol); \
		return next args; \
	}

/* Those of files whose offsets are wide have two names. */
#define FILE_CALL(name, params, args) CALL(FAULT_FILES, -1, int, name, #name, params, args)
#define FILE_CALL64(name, params, args) CALL(FAULT_FILES, -1, int, name, #name "64", params, args)

/* Without an errno there is no more to be read. */
#define AT_END (fault.errnum == 0 ? 0 : -1)

static mode_t
mode_of(int flags, va_list ap)
{
	return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(ap, mode_t) : 0;
}

int
open(const char *path, int flags, ...)
{
	int (*next)(const char *, int, ...) =
		(int (*)(const char *, int, ...))(uintptr_t)real("open64");
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	if (strikes(FAULT_FILES, "open", __builtin_return_address(0)))
		return -1;
	return next(path, flags, mode);
}

int
openat(int dir, const char *path, int flags, ...)
{
	int (*next)(int, const char *, int, ...) =
		(int (*)(int, const char *, int, ...))(uintptr_t)real("openat64");
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	if (strikes(FAULT_FILES, "openat", __builtin_return_address(0)))
		return -1;
	return next(dir, path, flags, mode);
}

CALL(FAULT_FILES | ENDS, AT_END, ssize_t, read, "read", (int fd, void *data, size_t len),
     (fd, data, len))
CALL(FAULT_FILES, -1, ssize_t, write, "write", (int fd, const void *data, size_t len),
     (fd, data, len))
CALL(FAULT_FILES | ENDS, AT_END, ssize_t, pread, "pread64",
     (int fd, void *data, size_t len, off_t off), (fd, data, len, off))
CALL(FAULT_FILES, -1, ssize_t, pwrite, "pwrite64",
     (int fd, const void *data, size_t len, off_t off), (fd, data, len, off))
CALL(FAULT_FILES | ENDS, AT_END, ssize_t, preadv2, "preadv64v2",
     (int fd, const struct iovec *parts, int n, off_t off, int flags), (fd, parts, n, off, flags))
CALL(FAULT_FILES, -1, ssize_t, writev, "writev", (int fd, const struct iovec *parts, int n),
     (fd, parts, n))
CALL(FAULT_FILES, -1, ssize_t, readlinkat, "readlinkat",
     (int dir, const char *path, char *out, size_t len), (dir, path, out, len))
CALL(FAULT_FILES, -1, off_t, lseek, "lseek64", (int fd, off_t off, int whence), (fd, off, whence))
FILE_CALL64(fstat, (int fd, struct stat *st), (fd, st))
FILE_CALL64(lstat, (const char *path, struct stat *st), (path, st))
FILE_CALL64(fstatat, (int dir, const char *path, struct stat *st, int flags),
	    (dir, path, st, flags))
FILE_CALL64(fstatvfs, (int fd, struct statvfs *st), (fd, st))
FILE_CALL64(ftruncate, (int fd, off_t len), (fd, len))
FILE_CALL64(fallocate, (int fd, int mode, off_t off, off_t len), (fd, mode, off, len))
FILE_CALL(rename, (const char *from, const char *to), (from, to))
FILE_CALL(renameat, (int from_dir, const char *from, int to_dir, const char *to),
	  (from_dir, from, to_dir, to))
FILE_CALL(renameat2, (int from_dir, const char *from, int to_dir, const char *to, unsigned flags),
	  (from_dir, from, to_dir, to, flags))
FILE_CALL(unlink, (const char *path), (path))
FILE_CALL(unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
FILE_CALL(mkdir, (const char *path, mode_t mode), (path, mode))
FILE_CALL(mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
FILE_CALL(linkat, (int from_dir, const char *from, int to_dir, const char *to, int flags),
	  (from_dir, from, to_dir, to, flags))
FILE_CALL(symlinkat, (const char *target, int dir, const char *path), (target, dir, path))
FILE_CALL(fchmod, (int fd, mode_t mode), (fd, mode))
FILE_CALL(fchmodat, (int dir, const char *path, mode_t mode, int flags), (dir, path, mode, flags))
FILE_CALL(fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
FILE_CALL(fchownat, (int dir, const char *path, uid_t uid, gid_t gid, int flags),
	  (dir, path, uid, gid, flags))
FILE_CALL(faccessat, (int dir, const char *path, int mode, int flags), (dir, path, mode, flags))
FILE_CALL(flock, (int fd, int how), (fd, how))
CALL(FAULT_FILES, NULL, DIR *, fdopendir, "fdopendir", (int fd), (fd))
CALL(FAULT_FILES, NULL, DIR *, opendir, "opendir", (const char *path), (path))
CALL(FAULT_FILES, NULL, struct dirent *, readdir, "readdir64", (DIR *dir), (dir))

static bool unsynced;

void
fault_unsynced(void)
{
	unsynced = true;
}

static int
sync_with(const char *name, int fd, const void *caller)
{
	int (*next)(int);

	if (strikes(FAULT_FILES, name, caller))
		return -1;
	next = (int (*)(int))(uintptr_t)real(name);
	return unsynced ? 0 : next(fd);
}

int
fsync(int fd)
{
	return sync_with("fsync", fd, __builtin_return_address(0));
}

int
fdatasync(int fd)
{
	return sync_with("fdatasync", fd, __builtin_return_address(0));
}

#define PROCESS_CALL(type, name, params, args) \
	CALL(FAULT_PROCESS, -1, type, name, #name, params, args)
PROCESS_CALL(pid_t, fork, (void), ())
PROCESS_CALL(int, pipe2, (int fds[2], int flags), (fds, flags))
PROCESS_CALL(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
PROCESS_CALL(int, socketpair, (int domain, int type, int protocol, int fds[2]),
	     (domain, type, protocol, fds))
PROCESS_CALL(int, listen, (int fd, int n), (fd, n))
PROCESS_CALL(int, eventfd, (unsigned value, int flags), (value, flags))
PROCESS_CALL(int, poll, (struct pollfd *fds, nfds_t n, int ms), (fds, n, ms))
PROCESS_CALL(ssize_t, send, (int fd, const void *data, size_t len, int flags),
	     (fd, data, len, flags))
CALL(FAULT_PROCESS | ENDS, AT_END, ssize_t, recv, "recv",
     (int fd, void *data, size_t len, int flags), (fd, data, len, flags))
PROCESS_CALL(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
PROCESS_CALL(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
PROCESS_CALL(int, setrlimit, (__rlimit_resource_t what, const struct rlimit *limit), (what, limit))
CALL(FAULT_PROCESS, fault.errnum, int, pthread_create, "pthread_create",
     (pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *), void *arg),
     (out, attr, fn, arg))

int
bind(int fd, const struct sockaddr *address, socklen_t len)
{
	int (*next)(int, const struct sockaddr *, socklen_t) =
		(int (*)(int, const struct sockaddr *, socklen_t))(uintptr_t)real("bind");

	return strikes(FAULT_PROCESS, "bind", __builtin_return_address(0)) ? -1
									   : next(fd, address, len);
}

int
connect(int fd, const struct sockaddr *address, socklen_t len)
{
	int (*next)(int, const struct sockaddr *, socklen_t) =
		(int (*)(int, const struct sockaddr *, socklen_t))(uintptr_t)real("connect");

	return strikes(FAULT_PROCESS, "connect", __builtin_return_address(0))
		       ? -1
		       : next(fd, address, len);
}

/* What failed stands in the database handle, too. */
#define SQLITE_CALL(name, params, args) \
	int name params \
	{ \
		static int(*_Atomic next) params; \
		if (strikes(FAULT_SQLITE, #name, __builtin_return_address(0))) \
			return SQLITE_IOERR; \
		if (next == NULL) \
			next = (int(*) params)(uintptr_t)real(#name); \
		fault.sqlite = false; \
		return next args; \
	}
SQLITE_CALL(sqlite3_step, (sqlite3_stmt *stmt), (stmt))
SQLITE_CALL(sqlite3_prepare_v2,
	    (sqlite3 *db, const char *sql, int len, sqlite3_stmt **stmt, const char **tail),
	    (db, sql, len, stmt, tail))
SQLITE_CALL(sqlite3_prepare_v3,
	    (sqlite3 *db, const char *sql, int len, unsigned flags, sqlite3_stmt **stmt,
	     const char **tail),
	    (db, sql, len, flags, stmt, tail))
SQLITE_CALL(sqlite3_exec,
	    (sqlite3 *db, const char *sql, int (*fn)(void *, int, char **, char **), void *arg,
	     char **said),
	    (db, sql, fn, arg, said))
SQLITE_CALL(sqlite3_bind_int64, (sqlite3_stmt *stmt, int i, sqlite3_int64 value), (stmt, i, value))

int
sqlite3_errcode(sqlite3 *db)
{
	int (*next)(sqlite3 *) = (int (*)(sqlite3 *))(uintptr_t)real("sqlite3_errcode");

	return fault.sqlite ? SQLITE_IOERR : next(db);
}

#define CRYPTO_CALL(type, name, params, args) CALL(FAULT_CRYPTO, 0, type, name, #name, params, args)
CRYPTO_CALL(BIO *, BIO_new, (const BIO_METHOD *method), (method))
CRYPTO_CALL(BIO *, BIO_new_mem_buf, (const void *data, int len), (data, len))
CRYPTO_CALL(X509_STORE *, X509_STORE_new, (void), ())
CRYPTO_CALL(X509_STORE_CTX *, X509_STORE_CTX_new, (void), ())
CRYPTO_CALL(int, X509_STORE_CTX_init,
	    (X509_STORE_CTX *ctx, X509_STORE *store, X509 *cert, STACK_OF(X509) *chain),
	    (ctx, store, cert, chain))
CRYPTO_CALL(int, X509_STORE_CTX_set_default, (X509_STORE_CTX *ctx, const char *name), (ctx, name))
CRYPTO_CALL(int, X509_STORE_add_cert, (X509_STORE *store, X509 *cert), (store, cert))
CRYPTO_CALL(int, X509_STORE_add_crl, (X509_STORE *store, X509_CRL *crl), (store, crl))
CRYPTO_CALL(OPENSSL_STACK *, OPENSSL_sk_new_null, (void), ())
CRYPTO_CALL(int, OPENSSL_sk_push, (OPENSSL_STACK *st, const void *data), (st, data))
CRYPTO_CALL(EVP_MD_CTX *, EVP_MD_CTX_new, (void), ())
CRYPTO_CALL(EVP_MD *, EVP_MD_fetch, (OSSL_LIB_CTX *lib, const char *name, const char *how),
	    (lib, name, how))
