/*
 * vmcatcher_db.c - from the URL of vmcatcher's database to a store of ours.
 *
 *   no URL          the store of the site's configuration
 *   sqlite:////P    P is, or leads to, the catalogue.db of
 *                     the site's store           that store
 *                     a store made here          that store, by the vmimagefs.conf beside state/
 *                   P is vmcatcher 0.6's         P.vmimagefs/, into which P is imported once; P is
 *                                                never written
 *                   there is no P                P.vmimagefs/ is made, and P becomes a link to its
 *                                                catalogue
 *   sqlite:///P     the same, relative to the working directory
 *   anything else   refused
 *
 * P.vmimagefs/ holds vmimagefs.conf, state/, cache/, run/, vmcatcher/ (handler_dir) and mnt/.  Its
 * files belong to the caller.  Root makes it as the owner of the directory that P is in, and if
 * that is root's own, for the user of the site's configuration.  What a vmimagefs.conf says that
 * is not root's is done with no more than its owner's rights.
 */
#include "config.h"
#include "vmcatcher.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/sandbox.h"
#include "core/vmcatcherdb.h"
#include "import.h"

#define SCHEME "sqlite:///"
#define CONFIG_NAME "vmimagefs.conf"
#define CATALOGUE_NAME "catalogue.db"
#define IMPORTED_NAME "vmcatcher-imported"

enum { HOME_MAX = 86 };	/* run_dir has 90 bytes at most: the address of a socket is short */

/* ---- names ----------------------------------------------------------------------------------- */

/* Everything before the last slash; "/" for a name in the root. */
static char *
directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

static const char *
base_of(const char *path)
{
	return strrchr(path, '/') + 1;
}

/* What the line of a configuration file can hold: the path becomes part of several. */
static bool
is_writable_path(const char *path)
{
	for (const char *p = path; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f || (*p == ' ' && p[1] == '#'))
			return false;
	return true;
}

static char *
join(const char *directory, const char *name)
{
	return xasprintf("%s/%s", strcmp(directory, "/") == 0 ? "" : directory, name);
}

/* Without links and '..' in its directories, if they are there: the same path from everywhere. */
static int
real_path(const char *path, char **out, struct err *err)
{
	CLEANUP_FREE char *cwd = realpath(".", NULL);
	CLEANUP_FREE char *whole = NULL, *directory = NULL, *real = NULL;

	if (path[0] != '/' && cwd == NULL)
		return err_set(err, errno, "the working directory: %s", strerrordesc_np(errno));
	whole = path[0] == '/' ? xstrdup(path) : join(cwd, path);
	directory = directory_of(whole);
	real = realpath(directory, NULL);
	*out = join(real != NULL ? real : directory, base_of(whole));
	return 0;
}

/* The path that the URL names, absolute.  A password in a URL that is refused is not repeated. */
static int
path_of_url(const char *url, char **path, struct err *err)
{
	const char *name = url + strlen(SCHEME);
	const char *base;

	if (strncmp(url, SCHEME, strlen(SCHEME)) != 0)
		return err_set(err, EINVAL,
			       "a database '%.*s' cannot be used: only sqlite:////PATH,"
			       " or sqlite:///PATH relative to the working directory",
			       (int)strcspn(url, "/@"), url);
	if (*name == '\0' || strcmp(name, ":memory:") == 0)
		return err_set(err, EINVAL, "database '%s' has no file: name one, as in"
			       " sqlite:////var/lib/vmcatcher/vmcatcher.db", url);
	if (strchr(name, '?') != NULL || name[strlen(name) - 1] == '/')
		return err_set(err, EINVAL, "database '%s': the path of a file and nothing else is"
			       " wanted after sqlite:///", url);
	if (!is_writable_path(name))
		return err_set(err, EINVAL, "database '%s': the path of a file may have no control"
			       " characters, and no '#' after a space", url);
	base = strrchr(name, '/') != NULL ? base_of(name) : name;
	if (strcmp(base, "..") == 0 || strcmp(base, ".") == 0)
		return err_set(err, EINVAL, "database '%s' is no regular file", url);
	return real_path(name, path, err);
}

/* Where the name leads, although what it leads to need not exist: our links go one step. */
static char *
target_of(const char *path)
{
	CLEANUP_FREE char *whole = realpath(path, NULL), *directory = directory_of(path);
	char text[4096];
	ssize_t len;

	if (whole != NULL)
		return steal_ptr(&whole);
	len = readlink(path, text, sizeof(text) - 1);
	if (len <= 0)
		return xstrdup(path);
	text[len] = '\0';
	return text[0] == '/' ? xstrdup(text) : xasprintf("%s/%s", directory, text);
}

static bool
same_directory(const char *one, const char *other)
{
	struct stat a, b;

	return strcmp(one, other) == 0 ||
	       (stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev &&
		a.st_ino == b.st_ino);
}

/* ---- making a store -------------------------------------------------------------------------- */

struct place {
	char *path;		/* P */
	char *home;		/* P.vmimagefs */
	char *config;		/* its vmimagefs.conf */
	char *user;		/* of the store */
	const char *cert_dir;	/* NULL: the default */
	bool link;		/* P is to lead to the catalogue */
};

static void
place_release(struct place *p)
{
	free(p->path);
	free(p->home);
	free(p->config);
	free(p->user);
}

static char *
name_of_uid(uid_t uid)
{
	struct passwd pw, *found = NULL;
	char room[4096];

	if (getpwuid_r(uid, &pw, room, sizeof(room), &found) == 0 && found != NULL)
		return xstrdup(found->pw_name);
	return xasprintf("%u", (unsigned)uid);
}

static void
write_configuration(const struct place *p, struct buf *out)
{
	const char *h = p->home;

	buf_printf(out, "# The store of %s%s\n", SCHEME, p->path);
	buf_puts(out, "# Made by vmcatcher's commands; vmimagefs -o config=THIS-FILE mounts it.\n");
	buf_printf(out, "user = %s\n", p->user);
	buf_printf(out, "state_dir = %s/state\ncache_dir = %s/cache\nrun_dir = %s/run\n", h, h, h);
	buf_printf(out, "handler_dir = %s/vmcatcher\nmountpoint = %s/mnt\n", h, h);
	/* Commands that are not told it, and a daemon, are to use the same. */
	if (p->cert_dir != NULL)
		buf_printf(out, "cert_dir = %s\n", p->cert_dir);
}

/* Opens P.vmimagefs, making it where it is missing.  Nothing is followed. */
static int
open_home(const struct place *p, struct err *err)
{
	struct stat st;
	int fd;

	if (mkdir(p->home, 0755) != 0 && errno != EEXIST)
		return err_set(err, errno, "directory '%s' cannot be made: %s", p->home,
			       strerrordesc_np(errno));
	fd = io_openat(AT_FDCWD, p->home, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, errno, "directory '%s': %s", p->home, strerrordesc_np(errno));
	/* The umask has no word in this: the daemon and its handlers pass through. */
	if (fstat(fd, &st) != 0 || st.st_uid != geteuid() || fchmod(fd, 0755) != 0) {
		close_keep_errno(fd);
		return err_set(err, EPERM, "directory '%s' belongs to somebody else", p->home);
	}
	return fd;
}

static int
make_mountpoint(int home)
{
	if (mkdirat(home, "mnt", 0755) != 0)
		return errno == EEXIST ? 0 : -1;
	return fchmodat(home, "mnt", 0755, 0);
}

static int
make_link(const struct place *p, struct err *err)
{
	CLEANUP_FREE char *target = xasprintf("%s/state/" CATALOGUE_NAME, base_of(p->home));

	if (symlink(target, p->path) == 0 || errno == EEXIST)
		return 0;
	return err_set(err, errno, "link '%s' cannot be made: %s", p->path,
		       strerrordesc_np(errno));
}

/* The configuration last but one, the link last: what is unfinished is gone on with. */
static int
make_home(const struct place *p, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	CLEANUP_FD int fd = open_home(p, err);
	int rc;

	if (fd < 0)
		return fd;
	if (make_mountpoint(fd) != 0)
		return err_set(err, errno, "directory '%s/mnt' cannot be made: %s", p->home,
			       strerrordesc_np(errno));
	write_configuration(p, &text);
	rc = io_create_file(fd, CONFIG_NAME, 0644, text.data, text.len);
	if (rc != 0 && rc != -EEXIST)
		return err_set(err, -rc, "'%s' cannot be written: %s", p->config,
			       strerrordesc_np(-rc));
	return p->link ? make_link(p, err) : 0;
}

/* make_home() by a child that has become the owner of the directory that P is in. */
static int
make_home_as(const struct place *p, uid_t uid, gid_t gid, struct err *err)
{
	struct err told = { 0 };
	int ends[2], status;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return err_set(err, errno, "pipe: %s", strerrordesc_np(errno));
	pid = fork();
	if (pid == 0) {
		int rc = sandbox_become_user(uid, gid, &told);

		if (rc == 0)
			rc = make_home(p, &told);
		_exit(io_write_all(ends[1], &told, sizeof(told)) != 0 || rc != 0);
	}
	close_keep_errno(ends[1]);
	if (pid < 0 || io_read_full(ends[0], &told, sizeof(told)) != (ssize_t)sizeof(told))
		err_set(&told, pid < 0 ? errno : EPROTO, "'%s' could not be made", p->home);
	close_keep_errno(ends[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (told.rc != 0 && err != NULL)
		*err = told;
	return told.rc;
}

/* Whose the store is going to be, and making it as him. */
static int
make_store(struct place *p, const struct conf *site, struct err *err)
{
	CLEANUP_FREE char *directory = directory_of(p->path);
	struct stat st;

	if (strlen(p->home) > HOME_MAX)
		return err_set(err, ENAMETOOLONG, "the path of database '%s' is longer than %zu"
			       " bytes: a store beside it could have no socket", p->path,
			       HOME_MAX - strlen(".vmimagefs"));
	if (stat(directory, &st) != 0)
		return err_set(err, errno, "directory '%s' of the database: %s", directory,
			       strerrordesc_np(errno));
	if (geteuid() != 0 || st.st_uid != 0)
		p->user = name_of_uid(geteuid() != 0 ? geteuid() : st.st_uid);
	else
		p->user = xstrdup(site != NULL ? site->user : "vmimagefs");
	if (geteuid() == 0 && st.st_uid != 0)
		return make_home_as(p, st.st_uid, st.st_gid, err);
	return make_home(p, err);
}

/* ---- using one ------------------------------------------------------------------------------- */

static void
take_configuration(struct vmc *v, struct conf *conf)
{
	v->ctl.conf = conf;
	v->ctl.config_file = conf->file;
}

/*
 * A store of somebody else: its configuration is to be his own file, not a link to one that only
 * we can read, and of which a message would repeat a line.
 */
static int
check_home(const char *home, const char *config, struct err *err)
{
	struct stat st, file;

	if (lstat(home, &st) != 0)
		return err_set(err, errno, "'%s': %s", home, strerrordesc_np(errno));
	if (!S_ISDIR(st.st_mode) || (st.st_mode & S_IWOTH) != 0)
		return err_set(err, EPERM, "'%s' is not used: it is to be a directory that nobody"
			       " but its owner may write", home);
	if (st.st_uid != geteuid() && lstat(config, &file) == 0 &&
	    (!S_ISREG(file.st_mode) || (file.st_uid != st.st_uid && file.st_uid != 0)))
		return err_set(err, EPERM, "'%s' is not used: it is no file of the owner of its"
			       " directory", config);
	return 0;
}

static int
use_home(struct vmc *v, const char *home, struct err *err)
{
	CLEANUP_FREE char *config = xasprintf("%s/" CONFIG_NAME, home);
	CLEANUP_FREE char *state = xasprintf("%s/state", home);
	struct conf *conf = NULL;
	int rc = check_home(home, config, err);

	if (rc == 0)
		rc = conf_load_from(config, true, NULL, &conf, err);
	if (rc == 0 && !same_directory(conf->state_dir, state))
		rc = err_set(err, EINVAL, "'%s' speaks of another state_dir than '%s': was the"
			     " store moved?", config, state);
	if (rc != 0) {
		conf_free(conf);
		return rc;
	}
	take_configuration(v, conf);
	v->home = xstrdup(home);
	return 0;
}

static bool
is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* 1: the path is a catalogue of ours, and its store is in use now; 0: it is something else. */
static int
use_catalogue(struct vmc *v, const char *path, struct conf **site, struct err *err)
{
	CLEANUP_FREE char *target = target_of(path), *state = directory_of(target);
	CLEANUP_FREE char *home = directory_of(state), *config = NULL;
	int rc;

	if (strcmp(base_of(target), CATALOGUE_NAME) != 0)
		return 0;
	if (*site != NULL && same_directory((*site)->state_dir, state)) {
		take_configuration(v, steal_ptr(site));
		return 1;
	}
	config = xasprintf("%s/" CONFIG_NAME, home);
	if (strcmp(base_of(state), "state") == 0 && is_there(config)) {
		rc = use_home(v, home, err);
		return rc != 0 ? rc : 1;
	}
	if (!is_there(target))
		return 0;
	return err_set(err, EINVAL, "no configuration is known whose state_dir is '%s': name it in"
		       " VMIMAGEFS_CONFIG", state);
}

/* A file that is no catalogue of ours: vmcatcher's, or nothing we could use. */
static int
take_database(struct vmc *v, struct place *p, const struct conf *site, struct err *err)
{
	int rc;

	if (!is_there(p->config)) {
		rc = vmcatcherdb_is(p->path, err);
		if (rc == 0)
			rc = err_set(err, EINVAL, "'%s' is neither a database of vmcatcher 0.6 nor"
				     " a catalogue of vmimagefs", p->path);
		if (rc < 0)
			return rc;
		rc = make_store(p, site, err);
		if (rc != 0)
			return rc;
	}
	v->import = xstrdup(p->path);
	return use_home(v, p->home, err);
}

static int
choose_path(struct vmc *v, struct place *p, struct conf **site, struct err *err)
{
	struct stat st;
	int rc = use_catalogue(v, p->path, site, err);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	p->home = xasprintf("%s.vmimagefs", p->path);
	p->config = xasprintf("%s/" CONFIG_NAME, p->home);
	rc = stat(p->path, &st) == 0 ? 0 : -errno;
	if (rc == 0 && S_ISREG(st.st_mode))
		return take_database(v, p, *site, err);
	if (rc == 0)
		return err_set(err, EINVAL, "database '%s' is no regular file", p->path);
	if (rc != -ENOENT)
		return err_set(err, -rc, "database '%s': %s", p->path, strerrordesc_np(-rc));
	p->link = true;
	rc = make_store(p, *site, err);
	return rc == 0 ? use_home(v, p->home, err) : rc;
}

static int
choose_url(struct vmc *v, const char *url, struct err *err)
{
	struct place p = { .cert_dir = v->cert_dir };
	struct conf *site = NULL;
	int rc = path_of_url(url, &p.path, err);

	if (rc == 0) {
		/* A site's configuration with faults is no matter of another store. */
		conf_load(NULL, &site, NULL);
		rc = choose_path(v, &p, &site, err);
	}
	if (rc == 0)
		v->database = xasprintf(SCHEME "%s", p.path);
	conf_free(site);
	place_release(&p);
	return rc;
}

int
vmc_choose(struct vmc *v, struct err *err)
{
	const char *url = vmc_value(v, "database");
	struct conf *conf = NULL;
	int rc;

	if (url != NULL)
		return choose_url(v, url, err);
	rc = conf_load(NULL, &conf, err);
	if (rc != 0)
		return rc;
	take_configuration(v, conf);
	v->database = xasprintf(SCHEME "%s/" CATALOGUE_NAME, conf->state_dir);
	vmc_log(v, VMC_INFO, "main", "Defaulting DB connection to '%s'", v->database);
	return 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int
note_import(struct vmc *v, const struct import_result *r, struct err *err)
{
	CLEANUP_FD int fd = io_openat(AT_FDCWD, v->ctl.conf->state_dir,
				      O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	CLEANUP_FREE char *text = xasprintf("%s\n", v->import);
	int rc = fd >= 0 ? io_replace_file(fd, IMPORTED_NAME, 0600, text, strlen(text)) : -errno;

	if (rc != 0)
		return err_set(err, -rc, "'%s/" IMPORTED_NAME "' cannot be written: %s",
			       v->ctl.conf->state_dir, strerrordesc_np(-rc));
	for (size_t i = 0; i < r->n_odd; i++)
		vmc_log(v, VMC_WARNING, "main", "%s: %s", v->import, r->odd[i]);
	for (size_t i = 0; i < r->n_lists; i++)
		if (r->lists[i].why.rc != 0)
			vmc_log(v, VMC_WARNING, "main", "%s: list '%s': %s", v->import,
				r->lists[i].list_id, r->lists[i].why.text);
	vmc_log(v, VMC_WARNING, "main", "database '%s' of vmcatcher was imported into '%s', once:"
		" %d endorsers, %zu subscriptions; it is not written any more", v->import, v->home,
		r->endorsers, r->n_lists);
	return 0;
}

/* Nothing if it was done before; whoever may not look is told so when the catalogue is opened. */
static int
import_once(struct vmc *v, struct err *err)
{
	CLEANUP_FREE char *note = xasprintf("%s/" IMPORTED_NAME, v->ctl.conf->state_dir);
	struct import_result result = { 0 };
	struct stat st;
	int rc;

	if (v->import == NULL || lstat(note, &st) == 0 || errno != ENOENT)
		return 0;
	rc = import_vmcatcher(&v->ctl, v->import, NULL, &result, err);
	if (rc == 0)
		rc = note_import(v, &result, err);
	v->ctl.poke = v->ctl.poke || result.changed;
	import_result_release(&result);
	return rc;
}

/* Root has no business in somebody's store but as he himself would do it. */
static int
become_owner(const struct vmc *v, struct err *err)
{
	struct stat st;

	if (v->home == NULL || geteuid() != 0)
		return 0;
	if (lstat(v->home, &st) != 0)
		return err_set(err, errno, "'%s': %s", v->home, strerrordesc_np(errno));
	return st.st_uid != 0 ? sandbox_become_user(st.st_uid, st.st_gid, err) : 0;
}

int
vmc_open(struct vmc *v, unsigned flags, struct err *err)
{
	CLEANUP_FREE char *catalogue =
		xasprintf("%s/" CATALOGUE_NAME, v->ctl.conf->state_dir);
	struct stat st;
	int rc = become_owner(v, err);

	if (rc == 0)
		rc = import_once(v, err);
	if (rc != 0 || v->ctl.catalogue != NULL)
		return rc;
	/* vmcatcher made its tables whatever it was asked. */
	if (lstat(catalogue, &st) != 0 && errno == ENOENT)
		flags |= CTL_WRITE;
	return ctl_open(&v->ctl, flags, err);
}
