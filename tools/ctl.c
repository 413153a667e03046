#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/control.h"
#include "core/dirs.h"
#include "core/io.h"
#include "core/log.h"
#include "core/opening.h"
#include "core/sandbox.h"

/* ---- directories and privileges -------------------------------------------------------------- */

struct owner {
	uid_t uid;
	gid_t gid;
};

static int
make_directories(const struct conf *conf, const struct owner *owner, struct err *err)
{
	int rc = dirs_make(conf, owner->uid, owner->gid, err);

	/* Whoever is not root hears later, and in better words, whose they are. */
	return rc == -EPERM && geteuid() != 0 ? 0 : rc;
}

static int
become_user(struct ctl *ctl, bool write, struct err *err)
{
	struct owner owner = { .uid = geteuid(), .gid = getegid() };
	int rc = 0;

	if (owner.uid == 0)
		rc = conf_ids(ctl->conf, &owner.uid, &owner.gid, err);
	if (rc != 0) {
		/*
		 * A user that cannot be used is a fault of the configuration, not an unknown image.
		 */
		err->rc = -EINVAL;
		return err->rc;
	}
	if (write)
		rc = make_directories(ctl->conf, &owner, err);
	if (rc == 0 && geteuid() == 0)
		rc = sandbox_become_user(owner.uid, owner.gid, err);
	return rc;
}

/* Says of a directory we may not use whose it is and what it would need. */
static int
explain_access(const char *key, const char *path, struct err *err)
{
	struct passwd pw, *found = NULL;
	char text[4096], owner[64];
	struct stat st;

	if (stat(path, &st) != 0)
		return err_set(err, EACCES,
			       "cannot use %s '%s': permission denied on the way to it;"
			       " every directory above it needs mode 0711 for uid %u",
			       key, path, (unsigned)geteuid());
	if (getpwuid_r(st.st_uid, &pw, text, sizeof(text), &found) == 0 && found != NULL)
		snprintf(owner, sizeof(owner), "'%.50s'", found->pw_name);
	else
		snprintf(owner, sizeof(owner), "uid %u", (unsigned)st.st_uid);
	return err_set(err, EACCES,
		       "cannot use %s '%s' as uid %u: it belongs to %s and has mode %04o;"
		       " its owner must be the user who runs this, with mode 0700 or more",
		       key, path, (unsigned)geteuid(), owner, (unsigned)st.st_mode & 07777);
}

static int
nothing_set_up(const struct conf *conf, struct err *err)
{
	return err_set(err, ENOENT,
		       "there is no state_dir '%s': nothing has been set up yet;"
		       " begin with 'vmimagectl endorser add'",
		       conf->state_dir);
}

static int
check_state_dir(const struct conf *conf, struct err *err)
{
	CLEANUP_FD int fd = -1;
	struct stat st;

	fd = io_openat(AT_FDCWD, conf->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0 && errno == EACCES)
		return explain_access("state_dir", conf->state_dir, err);
	if (fd < 0 && errno == ENOENT)
		return nothing_set_up(conf, err);
	if (fd < 0)
		return err_set(err, errno, "cannot open state_dir '%s': %s", conf->state_dir,
			       strerrordesc_np(errno));
	/*
	 * A stranger's files beside those of `user` would lock the daemon out of its own catalogue.
	 */
	if (fstat(fd, &st) != 0 || st.st_uid != geteuid())
		return explain_access("state_dir", conf->state_dir, err);
	return 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

static void
say(void *arg, const char *text)
{
	struct ctl *ctl = arg;

	output_warn(&ctl->out, "%s", text);
	/* Nobody reads the standard error of a command that the daemon or cron has started. */
	if (!ctl->conf->log_to_stderr)
		log_warning("%s", text);
}

/* An update is started by the daemon or by cron, and nobody looks at what it does. */
static int
confine(struct ctl *ctl, struct err *err)
{
	const struct conf *conf = ctl->conf;
	CLEANUP_FREE char *conf_dir = xstrdup(conf->file != NULL ? conf->file : CONF_DEFAULT_FILE);
	const struct sandbox_path paths[] = {
		{ conf->state_dir, true },
		{ conf->cache_dir, true },
		{ conf->handler_dir, true },
		{ conf->cert_dir, false },
		{ dirname(conf_dir), false },
		{ "/etc/localtime", false },
	};
	unsigned missing;
	int rc = sandbox_enter(SANDBOX_UPDATER, paths, sizeof(paths) / sizeof(paths[0]), &missing,
			       err);

	ctl->confined = rc == 0;
	return rc;
}

int
ctl_open(struct ctl *ctl, unsigned flags, struct err *err)
{
	struct opening opening = { .conf = ctl->conf, .say = say, .arg = ctl };
	unsigned how = 0;
	struct stat st;
	int rc;

	if ((flags & CTL_SET_UP) != 0 && stat(ctl->conf->state_dir, &st) != 0 && errno == ENOENT)
		return nothing_set_up(ctl->conf, err);
	rc = become_user(ctl, (flags & CTL_WRITE) != 0, err);
	if (rc == 0)
		rc = check_state_dir(ctl->conf, err);
	/* Before the catalogue is open, so that the starter holds no descriptor of it. */
	if (rc == 0 && flags != 0)
		rc = starter_new(&ctl->starter, ctl->conf, err);
	if (rc == 0 && (flags & CTL_CONFINED) != 0)
		rc = confine(ctl, err);
	if (rc != 0)
		return rc;
	if ((flags & CTL_WRITE) != 0)
		how |= CATALOGUE_CREATE;
	if ((flags & CTL_CHECK) != 0)
		how |= CATALOGUE_CHECK;
	opening.starter = ctl->starter;
	rc = opening_catalogue(&ctl->catalogue, &opening, how, err);
	if (rc == 0)
		catalogue_on_wait(ctl->catalogue, say, ctl);
	return rc;
}

int
ctl_open_store(struct ctl *ctl, bool own, struct err *err)
{
	int rc = 0;

	if (ctl->store == NULL)
		rc = store_open(ctl->conf, catalogue_store_id(ctl->catalogue), &ctl->store, err);
	if (rc == 0 && own)
		rc = store_lock(ctl->store, err);
	return rc;
}

void
ctl_close(struct ctl *ctl)
{
	catalogue_close(ctl->catalogue);
	store_close(ctl->store);
	starter_free(ctl->starter);
	if (ctl->poke)
		control_poke(ctl->conf);
	if (ctl->confined)
		control_confined(ctl->conf);
	conf_free(ctl->conf);
	ctl->catalogue = NULL;
	ctl->store = NULL;
	ctl->starter = NULL;
	ctl->conf = NULL;
}

/* ---- small things shared by verbs ------------------------------------------------------------ */

void
ctl_refresh(struct ctl *ctl, bool dry_run, struct refresh *r)
{
	memset(r, 0, sizeof(*r));
	r->conf = ctl->conf;
	r->catalogue = ctl->catalogue;
	r->starter = ctl->starter;
	r->dry_run = dry_run;
	r->say = say;
	r->arg = ctl;
}

int
ctl_fail(struct ctl *ctl, const struct err *err)
{
	/* What went wrong is the output alone: that is said when it ends. */
	if (err->rc == 0 && ctl->out.write_error != 0)
		return EXIT_DONE;
	return output_error(&ctl->out, err, NULL);
}

int
ctl_transaction(struct ctl *ctl, int (*fn)(struct ctl *ctl, void *arg, struct err *err), void *arg,
		struct err *err)
{
	int rc;

	rc = catalogue_begin(ctl->catalogue, err);
	if (rc != 0)
		return rc;
	rc = fn(ctl, arg, err);
	if (rc == 0)
		rc = catalogue_commit(ctl->catalogue, err);
	else
		catalogue_rollback(ctl->catalogue);
	if (rc == 0)
		ctl->poke = true;
	return rc;
}

int
ctl_sweep_messages(struct ctl *ctl, struct err *err)
{
	/* A reader in the mount is not to be led to what is gone. */
	if (ctl->poke)
		control_poke(ctl->conf);
	ctl->poke = false;
	return catalogue_message_sweep(ctl->catalogue, err);
}

int
ctl_find_image(struct ctl *ctl, const char *what, struct image_row *row, struct err *err)
{
	int rc;

	memset(row, 0, sizeof(*row));
	rc = catalogue_image_find(ctl->catalogue, what, row, err);
	if (rc == 0 && !row->live)
		rc = err_set(err, ENOENT,
			     "image '%s' is not endorsed any more; 'vmimagectl expired'"
			     " shows what is left of it",
			     what);
	return rc;
}
