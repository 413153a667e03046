#include "config.h"
#include "storedir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"

/* openat2() answers EAGAIN when a rename anywhere made ".." doubtful, never for long. */
enum { AGAIN_MAX = 32 };

/* openat2() came with Linux 5.6 (2020); valgrind 3.19 and some containers do not know it. */
static atomic_bool openat2_missing;

static int
openat2_confined(int dir, const char *name, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned int)flags,
		.mode = (flags & O_CREAT) != 0 ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));
}

int
storedir_open(int dir, const char *name, int flags, mode_t mode)
{
	int fd;

	assert(strchr(name, '/') == NULL);
	flags |= O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	for (int i = 0; !openat2_missing && i < AGAIN_MAX; i++) {
		fd = openat2_confined(dir, name, flags, mode);
		if (fd < 0 && errno == ENOSYS)
			openat2_missing = true;
		else if (fd >= 0 || (errno != EINTR && errno != EAGAIN))
			return fd < 0 ? -errno : fd;
	}
	do
		fd = openat(dir, name, flags, mode);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

int
storedir_enter(int dir, const char *name, bool make)
{
	int fd, rc;

	fd = storedir_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd != -ENOENT || !make)
		return fd;
	if (mkdirat(dir, name, 0750) != 0 && errno != EEXIST)
		return -errno;
	rc = storedir_sync(dir);
	if (rc != 0)
		return rc;
	return storedir_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
}

/* Two steps that a crash can part: then the file has both names, and loses neither. */
static int
link_and_unlink(int from_dir, const char *from, int to_dir, const char *to)
{
	struct stat st;

	if (fstatat(from_dir, from, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	if (!S_ISDIR(st.st_mode)) {
		if (linkat(from_dir, from, to_dir, to, 0) != 0)
			return -errno;
		return unlinkat(from_dir, from, 0) != 0 ? -errno : 0;
	}
	/* A directory has one name.  rename() replaces only an empty one. */
	return renameat(from_dir, from, to_dir, to) != 0 ? -errno : 0;
}

int
storedir_move(int from_dir, const char *from, int to_dir, const char *to)
{
	if (renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EINVAL || errno == ENOSYS)
		return link_and_unlink(from_dir, from, to_dir, to);
	return -errno;
}

int
storedir_each(int dir, int (*fn)(void *arg, int dir, const char *name), void *arg)
{
	struct dirent *entry;
	DIR *list;
	int fd, rc = 0;

	/* A descriptor of its own, because the position in the listing belongs to the open file. */
	fd = storedir_open(dir, ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	list = fdopendir(fd);
	if (list == NULL) {
		rc = -errno;
		close(fd);
		return rc;
	}
	while (rc == 0) {
		errno = 0;
		entry = readdir(list);
		if (entry == NULL) {
			rc = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			rc = fn(arg, dir, entry->d_name);
	}
	closedir(list);
	return rc;
}

int
storedir_sync(int dir)
{
	/* Directory descriptors may be O_RDONLY for fsync(); O_PATH ones may not. */
	return io_fsync(dir);
}
