#include "config.h"
#include "mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/process.h"
#include "core/sandbox.h"

enum {
	STACKED_MAX = 16,	/* dead mounts one on the other that we take away */
	ANSWER_MS = 5000,	/* for a mount that may be dead */
};

static const char fs_type[] = "fuse.vmimagefs";

/* The mount on top at a path, as mountinfo has it. */
struct mounted {
	bool found;
	bool lies_below;		/* another mount has the device that was asked for */
	int id;
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

/* One line of mountinfo. */
struct entry {
	int id;
	const char *device, *type;
	char *path;
};

/*
 * 36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw
 * ^id   ^device     ^path                             ^type (proc(5))
 */
static bool
parse_mountinfo_line(char *line, struct entry *out)
{
	char *dash = strstr(line, " - "), *field;

	if (dash == NULL)
		return false;
	*dash = '\0';
	dash[3 + strcspn(dash + 3, " ")] = '\0';
	*out = (struct entry){ .id = (int)strtol(line, NULL, 10), .type = dash + 3 };
	for (int n = 1; (field = strsep(&line, " ")) != NULL; n++) {
		if (n == 3)
			out->device = field;
		if (n == 5)
			out->path = field;
	}
	if (out->device == NULL || out->path == NULL)
		return false;
	unescape(out->path);
	return true;
}

/* Calls for each mount, the one on top last. */
static int
read_mountinfo(void (*take)(const struct entry *e, void *arg), void *arg, struct err *err)
{
	CLEANUP_FILE FILE *f = fopen("/proc/self/mountinfo", "re");
	CLEANUP_FREE char *line = NULL;
	struct entry e;
	size_t room = 0;

	if (f == NULL)
		return err_set(err, errno, "/proc/self/mountinfo: %s", strerrordesc_np(errno));
	while (getline(&line, &room, f) > 0)
		if (parse_mountinfo_line(line, &e))
			take(&e, arg);
	return feof(f) ? 0 : err_set(err, errno, "/proc/self/mountinfo: %s",
				     strerrordesc_np(errno));
}

/* The number alone may be another one's by now. */
static bool
is_ours(const char *device, const char *type, const char *wanted)
{
	return strcmp(device, wanted) == 0 && strcmp(type, fs_type) == 0;
}

struct search {
	const char *path, *wanted;
	struct mounted *out;
};

static void
take_at_path(const struct entry *e, void *arg)
{
	const struct search *s = arg;
	struct mounted *out = s->out;

	if (strcmp(e->path, s->path) != 0)
		return;
	out->lies_below |= out->found && is_ours(out->device, out->type, s->wanted);
	out->found = true;
	out->id = e->id;
	snprintf(out->device, sizeof(out->device), "%s", e->device);
	snprintf(out->type, sizeof(out->type), "%s", e->type);
}

/* wanted: a device that may lie below, or "". */
static int
find_mounted(const char *path, const char *wanted, struct mounted *out, struct err *err)
{
	struct search s = { .path = path, .wanted = wanted, .out = out };

	memset(out, 0, sizeof(*out));
	return read_mountinfo(take_at_path, &s, err);
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

enum answer { ANSWERS, DEAD, SILENT };

/* The lock, the front process and whoever reads our log must not wait for a child that stays. */
static void
let_go_of_all(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (null < 0 || dup2(null, fd) < 0)
			close(fd);
	close_range(STDERR_FILENO + 1, ~0U, 0);
}

/*
 * A child asks, because only the end of the connection ends such a question; it stays behind with a
 * mount that is SILENT.  Not stat(): the kernel answers that from memory long after the daemon has
 * died.
 */
static enum answer
ask_mount(const char *path, pid_t *asking)
{
	struct statfs answer;
	int status = 0;

	*asking = fork();
	if (*asking == 0) {
		let_go_of_all();
		_exit(statfs(path, &answer) != 0 && (errno == ENOTCONN || errno == ECONNABORTED)
			      ? DEAD
			      : ANSWERS);
	}
	if (*asking < 0)
		return ANSWERS;
	if (!process_wait(*asking, ANSWER_MS, &status))
		return SILENT;
	return WIFEXITED(status) && WEXITSTATUS(status) == DEAD ? DEAD : ANSWERS;
}

/* One that says nothing may be. */
static bool
is_living(const char *path)
{
	pid_t asking;

	return ask_mount(path, &asking) != DEAD;
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
 * A child becomes the user, with all that is lost by that, as the supervisor will.  Its status is 0
 * or an errno value.  Without O_DIRECTORY, which would trigger an automount that waits for us.
 */
static void __attribute__((noreturn))
reach_as(const char *path, uid_t uid, gid_t gid)
{
	int rc = sandbox_become_user(uid, gid, NULL);

	if (rc == 0)
		rc = open(path, O_PATH | O_CLOEXEC) < 0 ? -errno : 0;
	_exit(-rc);
}

static int
check_reachable(const char *path, uid_t uid, gid_t gid, struct err *err)
{
	pid_t pid = fork();
	int status, failure;

	if (pid == 0)
		reach_as(path, uid, gid);
	if (pid < 0)
		return err_set(err, errno, "no process to try the mount point with: %s",
			       strerrordesc_np(errno));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	failure = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
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
	m->read_ahead = m->abort = -1;
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
	close_keep_errno(steal_fd(&m->read_ahead));
	close_keep_errno(steal_fd(&m->abort));
}

/*
 * fusectl has its place where systemd, or an admin, has mounted it; elsewhere, as in most
 * containers, it is mounted nowhere for this moment.
 */
static int
open_abort(const char *device)
{
	const char *colon = strchr(device, ':'), *number = colon != NULL ? colon + 1 : "";
	CLEANUP_FREE char *usual = xasprintf("/sys/fs/fuse/connections/%s/abort", number);
	CLEANUP_FREE char *path = xasprintf("%s/abort", number);
	CLEANUP_FD int fs = -1, dir = -1;
	int fd = open(usual, O_WRONLY | O_CLOEXEC);

	/* Later, when it is mounted anew, these calls are not ours to make. */
	if (fd >= 0 || geteuid() != 0)
		return fd;
	fs = fsopen("fusectl", FSOPEN_CLOEXEC);
	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0)
		return -1;
	dir = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	return dir < 0 ? -1 : openat(dir, path, O_WRONLY | O_CLOEXEC);
}

/* Opened when it is mounted, as root; the user may not. */
static void
open_controls(struct mountpoint *m)
{
	CLEANUP_FREE char *read_ahead = xasprintf("/sys/class/bdi/%s/read_ahead_kb", m->device);

	close_keep_errno(m->read_ahead);
	m->read_ahead = open(read_ahead, O_WRONLY | O_CLOEXEC);
	close_keep_errno(m->abort);
	m->abort = open_abort(m->device);
}

int
mountpoint_mount(struct mountpoint *m, const char *source, int fuse_fd, bool noexec,
		 struct err *err)
{
	unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | (noexec ? MS_NOEXEC : 0);
	CLEANUP_FREE char *data = NULL;
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
	m->id = mounted.id;
	open_controls(m);
	return 0;
}

enum place { GONE, ON_TOP, COVERED, UNKNOWN };

/* UNKNOWN is explained in err. */
static enum place
look_at(const char *path, const struct mountpoint *m, struct mounted *top, struct err *err)
{
	if (find_mounted(path, m->device, top, err) != 0)
		return UNKNOWN;
	if (top->found && is_ours(top->device, top->type, m->device))
		return ON_TOP;
	return top->lies_below ? COVERED : GONE;
}

struct move {
	const struct mountpoint *m;
	char *path;			/* NULL: it is nowhere */
};

static void
take_moved(const struct entry *e, void *arg)
{
	struct move *move = arg;

	if (move->path == NULL && e->id == move->m->id &&
	    is_ours(e->device, e->type, move->m->device))
		move->path = xstrdup(e->path);
}

/* *where: the path that it has now; NULL if GONE.  The caller frees it. */
static enum place
look_where(const struct mountpoint *m, struct mounted *top, char **where, struct err *err)
{
	struct move move = { .m = m };
	enum place place;
	int rc;

	*where = NULL;
	if (m->device[0] == '\0')
		return GONE;
	place = look_at(m->path, m, top, err);
	if (place != GONE) {
		*where = xstrdup(m->path);
		return place;
	}
	rc = read_mountinfo(take_moved, &move, err);
	*where = move.path;
	if (rc != 0)
		return UNKNOWN;
	return move.path != NULL ? look_at(move.path, m, top, err) : GONE;
}

bool
mountpoint_is_mounted(const struct mountpoint *m)
{
	CLEANUP_FREE char *where = NULL;
	struct mounted top;

	return look_where(m, &top, &where, NULL) != GONE;
}

/* MNT_FORCE first cuts; held by us, the mount is busy, and is not taken away by it. */
static void
cut_by_force(const struct mountpoint *m)
{
	CLEANUP_FREE char *where = NULL;
	struct mounted top;
	struct err err;
	enum place place = look_where(m, &top, &where, &err);
	int held;

	if (place == UNKNOWN)
		log_warning("cannot cut '%s': %s", m->path, err.text);
	if (place != ON_TOP)
		return;
	held = open(where, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (held < 0)
		log_warning("cannot hold '%s': %s", where, strerrordesc_np(errno));
	else if (umount2(where, UMOUNT_NOFOLLOW | MNT_FORCE) != 0 && errno != EBUSY)
		log_warning("cannot cut '%s': %s", where, strerrordesc_np(errno));
	close_keep_errno(held);
}

void
mountpoint_cut(const struct mountpoint *m)
{
	if (m->abort < 0 || write(m->abort, "1", 1) != 1)
		cut_by_force(m);
}

/*
 * While it is held the mount that was asked about stays, and keeps its number.  But the kernel goes
 * from held to what lies over it by now, if anything does: that one is not ours to cut.
 */
static void
cut_held(int held, const char *path, const struct mounted *asked)
{
	struct mounted top;
	char link[32];

	if (find_mounted(path, "", &top, NULL) != 0 || !top.found || top.id != asked->id)
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", held);
	log_warning("the mount on '%s' is one of a daemon that was killed, and does not answer: "
		    "it is cut", path);
	if (umount2(link, MNT_FORCE) != 0 && errno != EBUSY)
		log_warning("cannot cut '%s': %s", path, strerrordesc_np(errno));
}

void
mountpoint_cut_dead(const char *path, bool (*is_dead)(const void *arg), const void *arg)
{
	CLEANUP_FREE char *real = realpath(path, NULL);
	CLEANUP_FD int held = -1;
	struct mounted mounted;
	pid_t asking;

	if (real != NULL)
		path = real;
	if (find_mounted(path, "", &mounted, NULL) != 0 || !mounted.found ||
	    strcmp(mounted.type, fs_type) != 0 || !is_dead(arg))
		return;
	/* Without O_DIRECTORY, which would trigger an automount that waits for us. */
	held = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (held < 0 || ask_mount(path, &asking) != SILENT)
		return;
	/* It takes seconds, in which another one may have begun there. */
	if (is_dead(arg))
		cut_held(held, path, &mounted);
	process_wait(asking, ANSWER_MS, NULL);
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

/* The mount is to be made anew where its directory is. */
static void
follow(struct mountpoint *m, char **where)
{
	if (strcmp(*where, m->path) == 0)
		return;
	log_warning("the mount on '%s' has become '%s'", m->path, *where);
	free(m->path);
	m->path = steal_ptr(where);
}

int
mountpoint_unmount(struct mountpoint *m, struct err *err)
{
	CLEANUP_FREE char *where = NULL;
	struct mounted top;
	int rc;

	switch (look_where(m, &top, &where, err)) {
	case ON_TOP:
		follow(m, &where);
		rc = unmount_top(m, err);
		if (rc == 0)	/* the number may be another one's from now on */
			m->device[0] = '\0';
		return rc;
	case COVERED:
		follow(m, &where);
		return err_refuse(err, CODE_BUSY,
				  "cannot unmount '%s': another file system '%s' is mounted over "
				  "it: run 'umount %s' for that one first, and once more for the "
				  "mount below", m->path, top.type, m->path);
	case UNKNOWN:
		return err->rc;
	case GONE:
		break;
	}
	return 0;
}
