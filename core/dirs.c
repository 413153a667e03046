#include "config.h"
#include "dirs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "handlerdir.h"
#include "io.h"

#define SUPERVISOR_FILE "supervisor"

/* mkdir -p of everything above the last name. */
static int
make_parents(const char *path, struct err *err)
{
	CLEANUP_FREE char *part = xstrdup(path);

	for (char *p = strchr(part + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(part, 0755) != 0 && errno != EEXIST)
			return err_set(err, errno, "directory '%s' cannot be made: %s", part,
				       strerrordesc_np(errno));
		*p = '/';
	}
	return 0;
}

/* lost+found does not count: a new file system on a directory of its own. */
static bool
is_empty(int fd)
{
	int copy = io_openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	const struct dirent *d;
	bool empty = true;
	DIR *dir;

	if (copy < 0)
		return false;
	dir = fdopendir(copy);
	if (dir == NULL) {
		close(copy);
		return false;
	}
	while (empty && (d = readdir(dir)) != NULL)
		empty = strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
			strcmp(d->d_name, "lost+found") == 0;
	closedir(dir);
	return empty;
}

/*
 * An admin may have put a link there, or the user himself; not somebody else who can write to the
 * directory above.
 */
static int
check_link(const char *key, const char *path, uid_t uid, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) != 0 || !S_ISLNK(st.st_mode) || st.st_uid == 0 || st.st_uid == uid)
		return 0;
	return err_set(err, EPERM, "%s '%s' is a link that belongs to uid %u: remove it", key, path,
		       (unsigned)st.st_uid);
}

static int
make_one(const char *key, const char *path, mode_t mode, uid_t uid, gid_t gid, struct err *err)
{
	CLEANUP_FD int fd = -1;
	bool made, ours, free_for_us;
	struct stat st;
	int rc;

	rc = make_parents(path, err);
	if (rc == 0)
		rc = check_link(key, path, uid, err);
	if (rc != 0)
		return rc;
	made = mkdir(path, 0700) == 0;
	if (!made && errno != EEXIST)
		return err_set(err, errno, "%s '%s' cannot be made: %s", key, path,
			       strerrordesc_np(errno));
	/*
	 * Everything else goes through the descriptor, so that the name cannot be exchanged
	 * meanwhile.
	 */
	fd = io_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0 || fstat(fd, &st) != 0)
		return err_set(err, errno, "%s '%s' cannot be opened: %s", key, path,
			       strerrordesc_np(errno));
	free_for_us = made || (st.st_uid == 0 && is_empty(fd));
	/* Another process of ours may have made it, and given it away in this moment. */
	if (!free_for_us && fstat(fd, &st) != 0)
		return err_set(err, errno, "%s '%s': %s", key, path, strerrordesc_np(errno));
	ours = st.st_uid == uid;
	if (!ours && !free_for_us)
		return err_set(
			err, EPERM,
			"%s '%s' belongs to uid %u, not to the user %u of the configuration: "
			"run 'chown -R %u:%u %s' if it is a store of vmimagefs",
			key, path, (unsigned)st.st_uid, (unsigned)uid, (unsigned)uid, (unsigned)gid,
			path);
	if (ours && (st.st_mode & S_IWOTH))
		return err_set(err, EPERM, "%s '%s' is writable by everyone: run 'chmod o-w %s'",
			       key, path, path);
	/* The owner last: what is ours has its mode, also after a crash in between. */
	if ((made || !ours) && fchmod(fd, mode) != 0)
		return err_set(err, errno, "%s '%s' cannot get mode %04o: %s", key, path,
			       (unsigned)mode, strerrordesc_np(errno));
	if (!ours && fchown(fd, uid, gid) != 0)
		return err_set(err, errno, "%s '%s' cannot be given to uid %u: %s", key, path,
			       (unsigned)uid, strerrordesc_np(errno));
	return 0;
}

int
dirs_make(const struct conf *conf, uid_t uid, gid_t gid, struct err *err)
{
	int rc = make_one("run_dir", conf->run_dir, 0755, uid, gid, err);

	if (rc == 0)
		rc = make_one("state_dir", conf->state_dir, 0711, uid, gid, err);
	if (rc == 0)
		rc = make_one("cache_dir", conf->cache_dir, 0750, uid, gid, err);
	/* Also without any handler: one may be named in a configuration that is read again. */
	if (rc == 0 && conf->handler_dir != NULL)
		rc = handlerdir_make(conf, uid, gid, err);
	return rc;
}

static void
on_alarm(int sig)
{
	(void)sig;
}

/* flock() that gives up: the alarm has no SA_RESTART and interrupts it. */
static int
lock_within(int fd, unsigned seconds)
{
	struct sigaction ring = { .sa_handler = on_alarm }, before;
	int rc;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK || seconds == 0)
		return -errno;
	sigaction(SIGALRM, &ring, &before);
	alarm(seconds);
	rc = flock(fd, LOCK_EX) == 0 ? 0 : -errno;
	alarm(0);
	sigaction(SIGALRM, &before, NULL);
	return rc == -EINTR ? -EWOULDBLOCK : rc;
}

/* Nothing is written to it: whoever owns run_dir could have put any file in its place. */
static int
open_lock(const char *path, struct err *err)
{
	int fd = io_openat(AT_FDCWD, path,
			   O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	return fd >= 0 ? fd : err_set(err, errno, "lock '%s' cannot be opened: %s", path,
				      strerrordesc_np(errno));
}

int
dirs_lock(const struct conf *conf, uid_t uid, gid_t gid, unsigned wait_seconds, int *out,
	  struct err *err)
{
	CLEANUP_FREE char *path = xasprintf("%s/lock", conf->run_dir);
	CLEANUP_FD int fd = -1;
	int rc;

	*out = -1;
	fd = open_lock(path, err);
	if (fd < 0)
		return fd;
	rc = lock_within(fd, wait_seconds);
	if (rc == -EWOULDBLOCK)
		return err_refuse(err, CODE_BUSY,
				  "'%s' is locked: vmimagefs runs already with this "
				  "configuration; unmount it first, or name another run_dir",
				  path);
	if (rc != 0)
		return err_set(err, -rc, "lock '%s': %s", path, strerrordesc_np(-rc));
	if (fchown(fd, uid, gid) != 0)
		return err_set(err, errno, "lock '%s': %s", path, strerrordesc_np(errno));
	*out = steal_fd(&fd);
	return 0;
}

/*
 * A record lock, because a child does not inherit it.  The process would lose it by closing any
 * descriptor of the file, which nothing else opens.
 */
int
dirs_supervise(const struct conf *conf, uid_t uid, gid_t gid, int *out, struct err *err)
{
	struct flock all = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	CLEANUP_FREE char *path = xasprintf("%s/" SUPERVISOR_FILE, conf->run_dir);
	CLEANUP_FD int fd = open_lock(path, err);

	*out = -1;
	if (fd < 0)
		return fd;
	if (fcntl(fd, F_SETLK, &all) != 0 || fchown(fd, uid, gid) != 0)
		return err_set(err, errno, "lock '%s': %s", path, strerrordesc_np(errno));
	*out = steal_fd(&fd);
	return 0;
}

bool
dirs_is_supervised(const struct conf *conf)
{
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	CLEANUP_FREE char *path = xasprintf("%s/" SUPERVISOR_FILE, conf->run_dir);
	CLEANUP_FD int fd = io_openat(AT_FDCWD, path,
				      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);

	return fd < 0 || fcntl(fd, F_GETLK, &all) != 0 || all.l_type != F_UNLCK;
}
