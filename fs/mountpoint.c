#include "config.h"
#include "mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/process.h"

enum {
	STACKED_MAX = 16,	/* dead mounts one on the other that we take away */
	DEAD_MS = 5000,		/* for an answer of one that may be dead */
};

static const char fs_type[] = "fuse.vmimagefs";

/* The mount on top at a path, as mountinfo has it. */
struct mounted {
	bool found;
	bool lies_below;		/* another mount has the device that was asked for */
	char device[MOUNT_DEVICE_BYTES];
	char type[64];
};

/* Paths in mountinfo have space, tab, newline and backslash as \ooo. */
static void
unescape(char *text)
{
	char *to = text;

	for (const char *p = text; *p != '\0'; p++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' &&
		    p[3] >= '0' && p[3] <= '7') {
			*to++ = (char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
			p += 3;
		} else {
			*to++ = *p;
		}
	}
	*to = '\0';
}

/*
 * 36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw
 *       ^device     ^path                             ^type (proc(5))
 */
static bool
parse_mountinfo_line(char *line, const char **device, char **path, const char **type)
{
	char *dash = strstr(line, " - "), *field;

	if (dash == NULL)
		return false;
	*dash = '\0';
	*type = dash + 3;
	dash[3 + strcspn(dash + 3, " ")] = '\0';
	*device = NULL;
	*path = NULL;
	for (int n = 1; (field = strsep(&line, " ")) != NULL; n++) {
		if (n == 3)
			*device = field;
		if (n == 5)
			*path = field;
	}
	return *device != NULL && *path != NULL;
}

/* wanted: a device that may lie below, or "". */
static int
find_mounted(const char *path, const char *wanted, struct mounted *out, struct err *err)
{
	CLEANUP_FILE FILE *f = fopen("/proc/self/mountinfo", "re");
	CLEANUP_FREE char *line = NULL;
	size_t room = 0;

	memset(out, 0, sizeof(*out));
	if (f == NULL)
		return err_set(err, errno, "/proc/self/mountinfo: %s", strerrordesc_np(errno));
	while (getline(&line, &room, f) > 0) {
		const char *device, *type;
		char *where;

		if (!parse_mountinfo_line(line, &device, &where, &type))
			continue;
		unescape(where);
		if (strcmp(where, path) != 0)
			continue;
		out->lies_below |= out->found && strcmp(out->device, wanted) == 0;
		out->found = true;	/* the last one is on top */
		snprintf(out->device, sizeof(out->device), "%s", device);
		snprintf(out->type, sizeof(out->type), "%s", type);
	}
	return 0;
}

/* The path without links.  Below a dead mount realpath() fails, but then the path was good once. */
static int
resolve(struct mountpoint *m, const char *path, struct err *err)
{
	m->path = realpath(path, NULL);
	if (m->path != NULL)
		return 0;
	if (errno == ENOTCONN) {
		m->path = xstrdup(path);
		return 0;
	}
	if (errno == ENOENT)
		return err_set(err, ENOENT, "mount point '%s' does not exist: run 'mkdir -p %s'",
			       path, path);
	return err_set(err, errno, "mount point '%s': %s", path, strerrordesc_np(errno));
}

/* Not stat(): the kernel answers that from memory long after the daemon has died. */
static bool
is_living(const char *path)
{
	struct statfs answer;

	return statfs(path, &answer) == 0 || (errno != ENOTCONN && errno != ECONNABORTED);
}

static int
refuse_second(const char *path, struct err *err)
{
	return err_refuse(err, CODE_BUSY,
			  "vmimagefs is mounted on '%s' already: run 'umount %s' first", path,
			  path);
}

int
mountpoint_refuse_living(const char *path, struct err *err)
{
	CLEANUP_FREE char *real = realpath(path, NULL);
	struct mounted mounted;
	int rc;

	if (real == NULL)
		return 0;
	rc = find_mounted(real, "", &mounted, err);
	if (rc == 0 && mounted.found && strcmp(mounted.type, fs_type) == 0 && is_living(real))
		return refuse_second(real, err);
	return rc;
}

/*
 * Takes away dead mounts of ours until the directory is free.  An automount point is made
 * to be mounted over.
 */
static int
clear_place(const struct mountpoint *m, bool *automount, struct err *err)
{
	struct mounted mounted;

	for (int i = 0; i < STACKED_MAX; i++) {
		int rc = find_mounted(m->path, "", &mounted, err);

		*automount = mounted.found && strcmp(mounted.type, "autofs") == 0;
		if (rc != 0 || !mounted.found || *automount)
			return rc;
		if (strcmp(mounted.type, fs_type) != 0)
			return err_refuse(err, CODE_BUSY,
					  "another file system '%s' is mounted on '%s': "
					  "unmount it or choose another mount point",
					  mounted.type, m->path);
		if (is_living(m->path))
			return refuse_second(m->path, err);
		if (umount2(m->path, MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
			return err_set(err, errno,
				       "the dead mount on '%s' cannot be taken away: %s", m->path,
				       strerrordesc_np(errno));
		log_warning("'%s': a mount whose daemon had gone was taken away", m->path);
	}
	return err_refuse(err, CODE_BUSY, "more than %d dead mounts on '%s'", STACKED_MAX, m->path);
}

static void
warn_if_not_empty(const char *path)
{
	const struct dirent *d;
	DIR *dir = opendir(path);
	int n = 0;

	if (dir == NULL)
		return;
	while (n == 0 && (d = readdir(dir)) != NULL)
		n += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	closedir(dir);
	if (n > 0)
		log_warning("mount point '%s' is not empty: the mount hides what is in it", path);
}

/*
 * Looks at the directory with the eyes of the user: fsuid alone, so that we stay root.  Without
 * O_DIRECTORY, which would trigger an automount that waits for us.
 */
static int
check_reachable(const char *path, uid_t uid, gid_t gid, struct err *err)
{
	CLEANUP_FD int fd = -1;
	int failure;

	setfsgid(gid);
	setfsuid(uid);
	fd = open(path, O_PATH | O_CLOEXEC);
	failure = fd < 0 ? errno : 0;
	setfsuid(geteuid());
	setfsgid(getegid());
	if (failure != 0)
		return err_set(
			err, failure,
			"mount point '%s' cannot be reached by uid %u (%s), which has to "
			"unmount it: choose another, or 'chmod o+x' the directories above it",
			path, (unsigned)uid, strerrordesc_np(failure));
	return 0;
}

int
mountpoint_check(struct mountpoint *m, const char *path, uid_t uid, gid_t gid, struct err *err)
{
	bool automount = false;
	struct stat st;
	int rc;

	memset(m, 0, sizeof(*m));
	m->read_ahead = -1;
	rc = resolve(m, path, err);
	if (rc == 0)
		rc = clear_place(m, &automount, err);
	if (rc != 0)
		return rc;
	if (stat(m->path, &st) != 0)
		return err_set(err, errno, "mount point '%s': %s", m->path, strerrordesc_np(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "mount point '%s' is not a directory", m->path);
	if (!automount)		/* reading it would trigger it */
		warn_if_not_empty(m->path);
	return check_reachable(m->path, uid, gid, err);
}

void
mountpoint_release(struct mountpoint *m)
{
	free(m->path);
	m->path = NULL;
	if (m->read_ahead >= 0)
		close(m->read_ahead);
	m->read_ahead = -1;
}

int
mountpoint_mount(struct mountpoint *m, const char *source, int fuse_fd, bool noexec,
		 struct err *err)
{
	unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | (noexec ? MS_NOEXEC : 0);
	CLEANUP_FREE char *data = NULL, *attribute = NULL;
	struct mounted mounted;
	int rc;

	data = xasprintf(
		"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
		fuse_fd);
	if (mount(source, m->path, fs_type, flags, data) != 0)
		return err_set(err, errno, "cannot mount on '%s': %s", m->path,
			       strerrordesc_np(errno));
	rc = find_mounted(m->path, "", &mounted, err);
	if (rc != 0 || !mounted.found) {
		umount2(m->path, MNT_DETACH | UMOUNT_NOFOLLOW);
		return rc != 0 ? rc
			       : err_set(err, EIO, "the mount on '%s' is not in mountinfo",
					 m->path);
	}
	memcpy(m->device, mounted.device, sizeof(m->device));
	/* Opened now, as root; the user may not. */
	attribute = xasprintf("/sys/class/bdi/%s/read_ahead_kb", m->device);
	close_keep_errno(m->read_ahead);
	m->read_ahead = open(attribute, O_WRONLY | O_CLOEXEC);
	return 0;
}

enum place { GONE, ON_TOP, COVERED };

static enum place
look_where(const struct mountpoint *m, struct mounted *top)
{
	if (m->device[0] == '\0' || find_mounted(m->path, m->device, top, NULL) != 0)
		return GONE;
	if (top->found && strcmp(top->device, m->device) == 0)
		return ON_TOP;
	return top->lies_below ? COVERED : GONE;
}

bool
mountpoint_is_mounted(const struct mountpoint *m)
{
	struct mounted top;

	return look_where(m, &top) != GONE;
}

/* MNT_FORCE first cuts; held by us, the mount is busy, and is not taken away by it. */
void
mountpoint_cut(const struct mountpoint *m)
{
	struct mounted top;
	int held;

	if (look_where(m, &top) != ON_TOP)
		return;
	held = open(m->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (held < 0)
		log_warning("cannot hold '%s': %s", m->path, strerrordesc_np(errno));
	else if (umount2(m->path, UMOUNT_NOFOLLOW | MNT_FORCE) != 0 && errno != EBUSY)
		log_warning("cannot cut '%s': %s", m->path, strerrordesc_np(errno));
	close_keep_errno(held);
}

void
mountpoint_cut_dead(const char *path)
{
	struct mounted mounted;
	pid_t child;

	if (find_mounted(path, "", &mounted, NULL) != 0 || !mounted.found ||
	    strcmp(mounted.type, fs_type) != 0)
		return;
	child = fork();
	if (child == 0) {
		struct statfs answer;

		statfs(path, &answer);
		_exit(0);		/* whatever it was: there was an answer */
	}
	if (child < 0 || process_wait(child, DEAD_MS))
		return;
	log_warning("the mount on '%s' is one of a daemon that was killed, and does not answer: it is "
		    "cut", path);
	if (umount2(path, UMOUNT_NOFOLLOW | MNT_FORCE) != 0 && errno != EBUSY)
		log_warning("cannot cut '%s': %s", path, strerrordesc_np(errno));
	kill(child, SIGKILL);
	process_wait(child, DEAD_MS);
}

static int
unmount_top(const struct mountpoint *m, struct err *err)
{
	if (umount2(m->path, UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno == EBUSY) {
		log_info("'%s' is busy: it is detached now, and gone when its last file is closed",
			 m->path);
		if (umount2(m->path, UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
			return 0;
	}
	return err_set(err, errno, "cannot unmount '%s': %s", m->path, strerrordesc_np(errno));
}

int
mountpoint_unmount(struct mountpoint *m, struct err *err)
{
	struct mounted top;

	switch (look_where(m, &top)) {
	case ON_TOP:
		return unmount_top(m, err);
	case COVERED:
		return err_refuse(err, CODE_BUSY,
				  "cannot unmount '%s': another file system '%s' is mounted over "
				  "it: run 'umount %s' for that one first, and once more for the "
				  "mount below", m->path, top.type, m->path);
	case GONE:
		break;
	}
	return 0;
}
