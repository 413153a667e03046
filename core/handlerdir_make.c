/*
 * handlerdir_make.c - the directories of event handlers, made by root in a directory that belongs
 * to `user`.
 *
 * Whoever runs as `user` could put a link there to have root give something else away.  Therefore
 * below state_dir each name is opened from a descriptor without following links, and owner and mode
 * are set through descriptors.  What is there already and belongs to somebody else is never taken.
 */
#include "config.h"
#include "handlerdir.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account.h"
#include "cleanup.h"
#include "handlerdir_impl.h"
#include "io.h"
#include "storedir.h"

enum { DIR_MODE = 0755, TEMPLATES_MODE = 02775 };

struct owner {
	uid_t uid;
	gid_t gid;
};

static int
say(const char *path, const char *name, const char *what, int rc, struct err *err)
{
	return err_set(err, -rc, "handler_dir: '%s%s%s' cannot be %s: %s", path,
		       name[0] != '\0' ? "/" : "", name, what, strerrordesc_np(-rc));
}

/* ---- whose ----------------------------------------------------------------------------------- */

static int
group_by_name(const char *name, gid_t *gid, struct err *err)
{
	struct group gr, *found = NULL;
	CLEANUP_BUF struct buf room = BUF_INIT;
	int rc;

	buf_reserve(&room, 16384);
	while ((rc = getgrnam_r(name, &gr, room.data, room.cap, &found)) == ERANGE &&
	       room.cap < 1 << 20)
		buf_reserve(&room, room.cap * 2);
	if (found == NULL)
		return err_set(err, rc != 0 ? rc : EINVAL,
			       "handler_group: there is no group '%s'", name);
	*gid = gr.gr_gid;
	return 0;
}

/* Who may write cache/templates. */
static int
templates_group(const struct conf *conf, gid_t fallback, gid_t *gid, struct err *err)
{
	struct account account;
	int rc;

	*gid = fallback;
	if (conf->handler_group != NULL)
		return group_by_name(conf->handler_group, gid, err);
	if (conf->event_user == NULL)
		return 0;
	rc = account_find(conf->event_user, &account, err);
	if (rc != 0)
		return rc;
	*gid = account.gid;
	account_release(&account);
	return 0;
}

/* ---- one directory --------------------------------------------------------------------------- */

static int
is_not_empty(void *arg, int dir, const char *name)
{
	(void)arg;
	(void)dir;
	(void)name;
	return 1;
}

static int
take(int fd, const struct owner *owner, mode_t mode)
{
	struct stat st;

	/* The owner last: what is ours has its mode, also after a crash in between. */
	if (fchmod(fd, mode & 0777) != 0 || fstat(fd, &st) != 0)
		return -errno;
	if ((st.st_uid != owner->uid || st.st_gid != owner->gid) &&
	    fchown(fd, owner->uid, owner->gid) != 0)
		return -errno;
	/* A change of owner clears it. */
	return (mode & S_ISGID) != 0 && fchmod(fd, mode) != 0 ? -errno : 0;
}

/* Another process of ours may have made it, and given it away in this moment. */
static bool
is_owned_by_now(int fd, const struct owner *owner, struct stat *st)
{
	return fstat(fd, st) == 0 && st->st_uid == owner->uid;
}

/* A descriptor on dir/name, made if it is missing.  path is that of dir, for messages. */
static int
make_dir(int dir, const char *path, const char *name, const struct owner *owner, mode_t mode,
	 struct err *err)
{
	bool made = mkdirat(dir, name, 0700) == 0;
	CLEANUP_FD int fd = -1;
	struct stat st;
	int rc = 0;

	if (!made && errno != EEXIST)
		return say(path, name, "made", -errno, err);
	fd = storedir_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0 || fstat(fd, &st) != 0)
		return say(path, name, "opened", fd < 0 ? fd : -errno, err);
	if (made || (st.st_uid == 0 && owner->uid != 0 && geteuid() == 0 &&
		     storedir_each(fd, is_not_empty, NULL) == 0))
		rc = take(fd, owner, mode);
	else if (!is_owned_by_now(fd, owner, &st))
		return err_set(err, EPERM,
			       "handler_dir: '%s/%s' belongs to uid %u, not to the user %u of the "
			       "configuration", path, name, (unsigned)st.st_uid,
			       (unsigned)owner->uid);
	if (rc != 0)
		return say(path, name, "given its owner and mode", rc, err);
	return steal_fd(&fd);
}

/* ---- the way to handler_dir ------------------------------------------------------------------ */

static bool
lies_in(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && path[len] == '/' && path[len + 1] != '\0';
}

/*
 * The directory that handler_dir stands in; *name: the last component, in *path.  Directories on
 * the way are not made, but for those below state_dir.
 */
static int
open_parent(const struct conf *conf, const struct owner *owner, char *path, char **name,
	    struct err *err)
{
	const char *root = conf->state_dir;
	CLEANUP_FD int dir = -1;
	char *last = strrchr(path, '/');

	*name = last + 1;
	if (!lies_in(path, root)) {
		*last = '\0';
		dir = io_openat(AT_FDCWD, path[0] != '\0' ? path : "/",
				O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
		return dir < 0 ? say(path, "", "opened", -errno, err) : steal_fd(&dir);
	}
	dir = io_openat(AT_FDCWD, root, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0)
		return say(root, "", "opened", -errno, err);
	for (char *part = path + strlen(root) + 1; part < *name;) {
		char *end = strchr(part, '/');
		int next;

		*end = '\0';
		next = make_dir(dir, root, part, owner, DIR_MODE, err);
		if (next < 0)
			return next;
		close(dir);
		dir = next;
		part = end + 1;
	}
	return steal_fd(&dir);
}

/* cache/templates, once made, is the handlers' and the admin's. */
static int
make_templates(int cache, const char *path, const struct owner *owner, struct err *err)
{
	int fd;

	if (faccessat(cache, HANDLERDIR_TEMPLATES, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	fd = make_dir(cache, path, HANDLERDIR_TEMPLATES, owner, TEMPLATES_MODE, err);
	if (fd < 0) {
		/* One that the handlers cannot use would be taken for done next time. */
		unlinkat(cache, HANDLERDIR_TEMPLATES, AT_REMOVEDIR);
		return fd;
	}
	close(fd);
	return 0;
}

static int
make_inside(int dir, const char *path, const struct owner *owner, const struct owner *templates,
	    struct err *err)
{
	static const char *const names[] = { "cache", "partial", "expired" };
	int rc = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && rc == 0; i++) {
		CLEANUP_FD int fd = make_dir(dir, path, names[i], owner, DIR_MODE, err);

		rc = fd < 0 ? fd : 0;
		if (rc == 0 && i == 0)
			rc = make_templates(fd, path, templates, err);
	}
	return rc;
}

int
handlerdir_make(const struct conf *conf, uid_t uid, gid_t gid, struct err *err)
{
	CLEANUP_FREE char *path = xstrdup(conf->handler_dir);
	struct owner owner = { uid, gid }, templates = { uid, gid };
	CLEANUP_FD int parent = -1, dir = -1;
	size_t len = strlen(path);
	char *name;
	int rc;

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	if (path[0] != '/' || len == 1)
		return err_set(err, EINVAL, "handler_dir: '%s' is no directory for handlers",
			       conf->handler_dir);
	rc = templates_group(conf, gid, &templates.gid, err);
	if (rc != 0)
		return rc;
	parent = open_parent(conf, &owner, path, &name, err);
	if (parent < 0)
		return parent;
	dir = make_dir(parent, path, name, &owner, DIR_MODE, err);
	if (dir < 0)
		return dir;
	return make_inside(dir, conf->handler_dir, &owner, &templates, err);
}
