/*
 * The calls that change what is on disk: their numbers, and where their arguments name a file.
 *
 * What is written through a mapping is no call: SQLite maps its -shm file alone, which is made anew
 * at each start and is therefore no part of what is on disk.
 */
#include "config.h"
#include "tests/lib/killer.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Where the file is named. */
enum shape {
	FD,		/* a descriptor, in argument a */
	PATH,		/* a path, in argument a */
	AT,		/* a directory's descriptor in argument a, a path behind it */
	OPEN,		/* as AT, then flags */
	OPEN_HOW,	/* as AT, then struct open_how */
};

static const struct spec {
	uint64_t nr;
	const char *name;
	enum shape shape;
	int a;
} specs[] = {
#ifdef SYS_creat
	{ SYS_creat, "creat", PATH, 0 },
	{ SYS_rename, "rename", PATH, 1 },
	{ SYS_link, "link", PATH, 1 },
	{ SYS_symlink, "symlink", PATH, 1 },
	{ SYS_unlink, "unlink", PATH, 0 },
	{ SYS_mkdir, "mkdir", PATH, 0 },
	{ SYS_rmdir, "rmdir", PATH, 0 },
	{ SYS_mknod, "mknod", PATH, 0 },
	{ SYS_chmod, "chmod", PATH, 0 },
	{ SYS_chown, "chown", PATH, 0 },
	{ SYS_lchown, "lchown", PATH, 0 },
#endif
	{ SYS_openat, "openat", OPEN, 0 },
	{ SYS_openat2, "openat2", OPEN_HOW, 0 },
	{ SYS_write, "write", FD, 0 },
	{ SYS_writev, "writev", FD, 0 },
	{ SYS_pwrite64, "pwrite64", FD, 0 },
	{ SYS_pwritev, "pwritev", FD, 0 },
	{ SYS_pwritev2, "pwritev2", FD, 0 },
	{ SYS_sendfile, "sendfile", FD, 0 },
	{ SYS_splice, "splice", FD, 2 },
	{ SYS_copy_file_range, "copy_file_range", FD, 2 },
	{ SYS_fsync, "fsync", FD, 0 },
	{ SYS_fdatasync, "fdatasync", FD, 0 },
	{ SYS_syncfs, "syncfs", FD, 0 },
	{ SYS_sync_file_range, "sync_file_range", FD, 0 },
	{ SYS_ftruncate, "ftruncate", FD, 0 },
	{ SYS_truncate, "truncate", PATH, 0 },
	{ SYS_fallocate, "fallocate", FD, 0 },
#ifdef SYS_renameat
	{ SYS_renameat, "renameat", AT, 2 },
#endif
	{ SYS_renameat2, "renameat2", AT, 2 },
	{ SYS_linkat, "linkat", AT, 2 },
	{ SYS_symlinkat, "symlinkat", AT, 1 },
	{ SYS_unlinkat, "unlinkat", AT, 0 },
	{ SYS_mkdirat, "mkdirat", AT, 0 },
	{ SYS_mknodat, "mknodat", AT, 0 },
	{ SYS_fchmod, "fchmod", FD, 0 },
	{ SYS_fchmodat, "fchmodat", AT, 0 },
	{ SYS_fchown, "fchown", FD, 0 },
	{ SYS_fchownat, "fchownat", AT, 0 },
	{ SYS_utimensat, "utimensat", AT, 0 },
	{ SYS_fsetxattr, "fsetxattr", FD, 0 },
};

enum { N_SPECS = sizeof(specs) / sizeof(specs[0]), SHORT_RUN = 8 };

static const struct spec *
find_spec(uint64_t nr)
{
	for (size_t i = 0; i < N_SPECS; i++)
		if (specs[i].nr == nr)
			return &specs[i];
	return NULL;
}

/* Of one architecture: programs of another would not be seen, and none are started. */
int
killer_filter(void)
{
	struct sock_filter code[N_SPECS + 3];
	struct sock_fprog program = { .len = N_SPECS + 3, .filter = code };

	code[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
	for (size_t i = 0; i < N_SPECS; i++)
		code[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							  (uint32_t)specs[i].nr,
							  (uint8_t)(N_SPECS - i), 0);
	code[N_SPECS + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[N_SPECS + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* ---- what it changes ------------------------------------------------------------------------- */

static bool
peek(pid_t tid, uint64_t addr, void *out, size_t size)
{
	struct iovec here = { out, size }, there = { (void *)(uintptr_t)addr, size };

	return process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

/* Piece by piece, because the page behind a short string may not be there. */
static bool
peek_string(pid_t tid, uint64_t addr, char *out, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (!peek(tid, addr + i, &out[i], 1))
			return false;
		if (out[i] == '\0')
			return true;
	}
	return false;
}

static bool
path_of_link(char *path, const char *link)
{
	ssize_t n = readlink(link, path, PATH_MAX - 1);

	if (n <= 0)
		return false;
	path[n] = '\0';
	return path[0] == '/';
}

static bool
path_of_fd(pid_t tid, int fd, char *path)
{
	char link[64];

	if (fd == AT_FDCWD)
		snprintf(link, sizeof(link), "/proc/%d/cwd", (int)tid);
	else
		snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)tid, fd);
	return path_of_link(path, link);
}

static bool
path_at(pid_t tid, int dir, uint64_t addr, char *path)
{
	char name[PATH_MAX];
	size_t len;

	if (addr == 0)
		return path_of_fd(tid, dir, path);
	if (!peek_string(tid, addr, name, sizeof(name)))
		return false;
	if (name[0] == '/')
		return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
	if (!path_of_fd(tid, dir, path))
		return false;
	len = strlen(path);
	return name[0] == '\0' ||
	       snprintf(path + len, PATH_MAX - len, "/%s", name) < (int)(PATH_MAX - len);
}

static bool
changes(uint64_t flags)
{
	return (flags & (O_CREAT | O_TRUNC)) != 0;
}

bool
killer_look(pid_t tid, uint64_t nr, const uint64_t args[6], struct killer_call *call)
{
	const struct spec *spec = find_spec(nr);
	const uint64_t *arg;
	struct open_how how;

	if (spec == NULL)
		return false;
	call->name = spec->name;
	arg = args + spec->a;
	switch (spec->shape) {
	case FD:
		return path_of_fd(tid, (int)arg[0], call->path);
	case PATH:
		return path_at(tid, AT_FDCWD, arg[0], call->path);
	case AT:
		return path_at(tid, (int)arg[0], arg[1], call->path);
	case OPEN:
		return changes(arg[2]) && path_at(tid, (int)arg[0], arg[1], call->path);
	case OPEN_HOW:
		return peek(tid, arg[2], &how, sizeof(how)) && changes(how.flags) &&
		       path_at(tid, (int)arg[0], arg[1], call->path);
	}
	return false;
}

/* ---- kinds of files -------------------------------------------------------------------------- */

/* How much of s is a digest, a UUID, a number; 0: none of it. */
static size_t
run_of(const char *s, bool begins)
{
	size_t hex = strspn(s, "0123456789abcdef-"), digits = strspn(s, "0123456789");

	if (hex >= SHORT_RUN)
		return hex;
	if (begins && hex == 2 && (s[2] == '/' || s[2] == '\0'))
		return hex;
	return digits;
}

void
killer_kind(const char *path, char *kind, size_t size)
{
	bool begins = true;
	size_t n = 0;

	while (*path != '\0' && n + 1 < size) {
		size_t run = run_of(path, begins);

		begins = *path == '/';
		kind[n++] = run > 0 ? '#' : isspace((unsigned char)*path) ? '_' : *path;
		path += run > 0 ? run : 1;
	}
	kind[n] = '\0';
}
