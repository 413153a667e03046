/*
 * A ruleset names the rights it handles: these are refused everywhere, except below the paths
 * that rules were added for.  Rights that a kernel does not know must be left out (the ABI number
 * says which it knows), and rights on a plain file must not include those of directories.
 *
 * What is already open stays as it is: descriptors carry the rights they were opened with.
 */
#include "config.h"
#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444	/* the same on every architecture */
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

/* include/uapi/linux/landlock.h; the number after a right is the ABI that brought it. */
enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_CHAR = 1 << 6,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_SOCK = 1 << 9,
	FS_MAKE_FIFO = 1 << 10,
	FS_MAKE_BLOCK = 1 << 11,
	FS_MAKE_SYM = 1 << 12,
	FS_REFER = 1 << 13,		/* 2; renaming between directories */
	FS_TRUNCATE = 1 << 14,		/* 3 */
	FS_IOCTL_DEV = 1 << 15,		/* 5 */

	FS_ALL_READ = FS_READ_FILE | FS_READ_DIR,
	FS_ALL_WRITE = FS_EXECUTE | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_CHAR |
		       FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_BLOCK |
		       FS_MAKE_SYM | FS_REFER | FS_TRUNCATE | FS_IOCTL_DEV,
	/*
	 * Below a writable directory everything but executing: what somebody put there, be it a
	 * FIFO or a device, must be movable to lost+found, and Landlock asks the right to make a
	 * thing for moving it.  Making devices takes a capability that we have given up.
	 */
	FS_WRITABLE = FS_ALL_READ | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_CHAR |
		      FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_BLOCK |
		      FS_MAKE_SYM | FS_REFER | FS_TRUNCATE,
	FS_OF_FILES = FS_READ_FILE | FS_WRITE_FILE | FS_EXECUTE | FS_TRUNCATE | FS_IOCTL_DEV,

	NET_BIND_TCP = 1 << 0,		/* 4 */
	NET_CONNECT_TCP = 1 << 1,

	SCOPE_ABSTRACT_SOCKETS = 1 << 0,/* 6 */
	SCOPE_SIGNALS = 1 << 1,

	RULE_PATH_BENEATH = 1,
	CREATE_RULESET_VERSION = 1,
};

struct ruleset_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net;
	uint64_t scoped;
};

struct path_beneath_attr {
	uint64_t allowed_access;
	int32_t parent_fd;
} __attribute__((packed));

/* The number of the kernel's ABI; 0 or less: there is no Landlock. */
static long
abi_version(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
}

static uint64_t
known_fs_rights(long abi)
{
	uint64_t rights = FS_ALL_READ | FS_ALL_WRITE;

	if (abi < 2)
		rights &= ~(uint64_t)FS_REFER;
	if (abi < 3)
		rights &= ~(uint64_t)FS_TRUNCATE;
	if (abi < 5)
		rights &= ~(uint64_t)FS_IOCTL_DEV;
	return rights;
}

static struct ruleset_attr
make_attr(const struct landlock_rules *rules, long abi)
{
	struct ruleset_attr attr = { 0, 0, 0 };

	if (rules->read)
		attr.handled_access_fs |= FS_ALL_READ;
	if (rules->write)
		attr.handled_access_fs |= FS_ALL_WRITE;
	attr.handled_access_fs &= known_fs_rights(abi);
	if (abi >= 4) {
		if (rules->tcp_bind)
			attr.handled_access_net |= NET_BIND_TCP;
		if (rules->tcp_connect)
			attr.handled_access_net |= NET_CONNECT_TCP;
	}
	if (abi >= 6 && rules->scope_sockets)
		attr.scoped |= SCOPE_ABSTRACT_SOCKETS;
	if (abi >= 6 && rules->scope_signals)
		attr.scoped |= SCOPE_SIGNALS;
	return attr;
}

static int
add_path(int ruleset, const struct ruleset_attr *attr, const struct sandbox_path *path,
	 struct err *err)
{
	struct path_beneath_attr beneath;
	CLEANUP_FD int fd = -1;
	struct stat st;

	fd = io_openat(AT_FDCWD, path->path, O_PATH | O_CLOEXEC, 0);
	/* Without a rule it is refused. */
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EACCES))
		return 0;
	if (fd < 0 || fstat(fd, &st) != 0)
		return err_set(err, errno, "sandbox: '%s' cannot be opened: %s", path->path,
			       strerrordesc_np(errno));
	beneath.allowed_access = path->writable ? FS_WRITABLE : FS_ALL_READ;
	if (!S_ISDIR(st.st_mode))
		beneath.allowed_access &= FS_OF_FILES;
	beneath.allowed_access &= attr->handled_access_fs;
	beneath.parent_fd = fd;
	if (beneath.allowed_access == 0)
		return 0;
	if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &beneath, 0) != 0)
		return err_set(err, errno, "sandbox: no Landlock rule for '%s': %s", path->path,
			       strerrordesc_np(errno));
	return 0;
}

int
landlock_enter(const struct landlock_rules *rules, struct landlock_force *force,
	       unsigned *missing, struct err *err)
{
	CLEANUP_FD int ruleset = -1;
	struct ruleset_attr attr;
	long abi = abi_version();
	int rc;

	memset(force, 0, sizeof(*force));
	if (abi < 1) {
		*missing |= SANDBOX_MISSING_LANDLOCK;
		return 0;
	}
	if (abi < 4 && (rules->tcp_bind || rules->tcp_connect))
		*missing |= SANDBOX_MISSING_LANDLOCK_NET;
	attr = make_attr(rules, abi);
	if (attr.handled_access_fs == 0 && attr.handled_access_net == 0 && attr.scoped == 0)
		return 0;	/* the kernel refuses an empty one */
	/* Older kernels refuse a longer struct only if what they do not know is not 0. */
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return err_set(err, errno, "sandbox: no Landlock ruleset: %s",
			       strerrordesc_np(errno));
	for (size_t i = 0; i < rules->n_paths; i++) {
		rc = add_path(ruleset, &attr, &rules->paths[i], err);
		if (rc != 0)
			return rc;
	}
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
		return err_set(err, errno, "sandbox: Landlock: %s", strerrordesc_np(errno));
	force->abi = (unsigned)abi;
	force->files = attr.handled_access_fs != 0;
	force->net = attr.handled_access_net != 0;
	force->scope = attr.scoped != 0;
	return 0;
}
