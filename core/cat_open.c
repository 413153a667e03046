/*
 * cat_open.c - opening the catalogue, and making or rebuilding it.
 *
 * What is found at opening, and what is done:
 *
 *   catalogue.db      site.json     otherwise
 *   good              good, equal   go on
 *   good              older, none   site.json is written anew (a crash came between the two)
 *   good              damaged       kept beside as site.json.damaged-<time>, written anew
 *   good              newer         the database is an old copy: as damaged
 *   missing, empty    good          rebuilt from site.json and messages/
 *   missing, empty    none          new, unless messages/ or the cache's marker show that there
 *                                   was one: then refused, with the way to restore
 *   damaged           good          kept beside as catalogue.db.damaged-<time>, rebuilt
 *   damaged           none, damaged refused, with the way to restore
 *   newer schema      any           refused, unchanged
 *
 * A catalogue is made, or rebuilt, beside its place as catalogue.db.new, and gets its name when it
 * is complete: a crash on the way leaves what was there before.  Nothing but such an unfinished
 * file is ever deleted here.
 *
 * Processes that have the catalogue open hold a shared lock on state_dir; making or rebuilding it
 * takes the lock alone.  Whoever waited for the lock looks again, because another process may have
 * done the work meanwhile.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include "cleanup.h"
#include "io.h"
#include "site.h"
#include "stamp.h"

#define DB_NAME "catalogue.db"
#define DB_UNFINISHED DB_NAME ".new"
#define MARKER_NAME ".vmimagefs-store"

enum {
	ALONE_MS = 5000,	/* for the lock alone: a daemon will not give its share away */
};

enum db_state { DB_MISSING, DB_PRESENT };

/*
 * secure_delete: what is deleted may be a password.  journal_size_limit: a log that grew while
 * somebody read for long is cut when it begins anew.
 */
static int
pragmas(struct catalogue *c)
{
	static const char text[] =
		"PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = "
		"MEMORY; PRAGMA journal_size_limit = 16777216;"
		"PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;";

	cat_wait_install(c);
	sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
	return sqlite3_exec(c->db, text, NULL, NULL, NULL);
}

static bool
is_damage(int sqlite_rc)
{
	return (sqlite_rc & 0xff) == SQLITE_CORRUPT || (sqlite_rc & 0xff) == SQLITE_NOTADB;
}

/* SQLite's last error: -EUCLEAN for a damaged file (err says how), or one that must stand. */
static int
judge_failure(struct catalogue *c, struct err *err)
{
	if (is_damage(sqlite3_errcode(c->db)))
		return err_set(err, EUCLEAN, "%s", sqlite3_errmsg(c->db));
	return cat_fail(c, err);
}

static int
open_db(struct catalogue *c, const char *name, struct err *err)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", c->conf->state_dir, name);
	int rc = sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

	if (rc == SQLITE_OK)
		rc = pragmas(c);
	if (rc == SQLITE_OK)
		return 0;
	rc = judge_failure(c, err);
	return rc == -EUCLEAN ? rc : err_prefix(err, "'%s'", path);
}

/* A disk that cannot be read now is no reason to take the note for missing. */
static int
get_note(struct catalogue *c, const char *key, char **value, struct err *err)
{
	CAT_QUERY q = { 0 };

	*value = NULL;
	if (cat_query_begin(&q, c, SQL_NOTE_GET, ARGS(arg_text(key)), NULL) != 0)
		/* "no such table" is SQLite's plain error */
		return (sqlite3_errcode(c->db) & 0xff) == SQLITE_ERROR
			       ? err_set(err, EUCLEAN, "%s", sqlite3_errmsg(c->db))
			       : judge_failure(c, err);
	if (cat_query_next(&q, NULL) < 0)
		return judge_failure(c, err);
	*value = next_text(&q);
	return 0;
}

/* The schema's number is kept twice, so that a flipped bit is not taken for a newer version. */
static int
check_version(struct catalogue *c, struct err *err)
{
	int version = catalogue_schema_version(c->db), rc;
	CLEANUP_FREE char *note = NULL;

	if (version < 0)
		return judge_failure(c, err);
	if (version == 0)
		return err_set(err, EUCLEAN, "it has no schema");
	rc = get_note(c, "schema", &note, err);
	if (rc != 0)
		return rc;
	if (note == NULL || strtol(note, NULL, 10) != version)
		return err_set(err, EUCLEAN, "its schema number is %d, its note of it is '%s'",
			       version, note != NULL ? note : "");
	if (version > SCHEMA_VERSION)
		return err_refuse(err, CODE_BUSY,
				  "'%s/" DB_NAME
				  "' was written by a newer version (schema %d, we know %d): "
				  "use that version",
				  c->conf->state_dir, version, SCHEMA_VERSION);
	return 0;
}

static int
load_store_id(struct catalogue *c, struct err *err)
{
	CLEANUP_FREE char *id = NULL;
	int rc = get_note(c, "store_id", &id, err);

	if (rc != 0)
		return rc;
	if (id == NULL || strlen(id) != UUID_TEXT - 1)
		return err_set(err, EUCLEAN, "it has no store id");
	memcpy(c->store_id, id, UUID_TEXT);
	return 0;
}

static int
open_existing(struct catalogue *c, struct err *err)
{
	int rc = open_db(c, DB_NAME, err);

	if (rc == 0 &&
	    sqlite3_exec(c->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL) != SQLITE_OK)
		rc = judge_failure(c, err);
	if (rc == 0)
		rc = check_version(c, err);
	if (rc == 0 && catalogue_schema_version(c->db) < SCHEMA_VERSION)
		rc = catalogue_schema_upgrade(c->db, err);
	return rc == 0 ? load_store_id(c, err) : rc;
}

/* Whether there is a database; what is there but cannot be one is an error. */
static int
look(struct catalogue *c, enum db_state *state, struct err *err)
{
	const char *dir = c->conf->state_dir;
	struct stat st;

	*state = DB_MISSING;
	if (fstatat(c->state_dir, DB_NAME, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno == ENOENT)
			return 0;
		return err_set(err, errno, "'%s/" DB_NAME "' cannot be looked at", dir);
	}
	if (!S_ISREG(st.st_mode))
		return err_refuse(err, CODE_CORRUPT,
				  "'%s/" DB_NAME
				  "' is no regular file: move it away and start vmimagefs again",
				  dir);
	if (faccessat(c->state_dir, DB_NAME, R_OK | W_OK, AT_EACCESS) != 0)
		return err_set(err, errno,
			       "'%s/" DB_NAME
			       "' cannot be read and written: it must belong to the user "
			       "that runs this, mode 0600",
			       dir);
	if ((st.st_mode & 077) != 0 && fchmodat(c->state_dir, DB_NAME, 0600, 0) != 0)
		return err_set(err, errno,
			       "'%s/" DB_NAME "' can be read by others and must be mode 0600", dir);
	*state = st.st_size > 0 ? DB_PRESENT : DB_MISSING;
	return 0;
}

static bool
messages_are_there(struct catalogue *c)
{
	int fd = io_openat(c->messages_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;
	bool found = false;

	if (dir == NULL) {
		close_keep_errno(fd);
		return false;
	}
	while (!found && (e = readdir(dir)) != NULL)
		found = e->d_name[0] != '.';
	closedir(dir);
	return found;
}

/* What shows that this site had a catalogue once; NULL if nothing does.  Caller frees. */
static char *
traces(struct catalogue *c, const struct err *site_error)
{
	CLEANUP_FREE char *marker = xasprintf("%s/" MARKER_NAME, c->conf->cache_dir);
	struct stat st;

	if (site_error->rc != -ENOENT)
		return xasprintf("%s/site.json (%s)", c->conf->state_dir, site_error->text);
	if (messages_are_there(c))
		return xasprintf("%s/messages", c->conf->state_dir);
	if (lstat(marker, &st) == 0)
		return steal_ptr(&marker);
	return NULL;
}

static void
say(const struct catalogue_hooks *hooks, const char *text)
{
	if (hooks != NULL && hooks->say != NULL)
		hooks->say(hooks->arg, text);
}

/* Renames what lies under the name to <name>.damaged-<time>; missing is fine. */
static int
set_aside(struct catalogue *c, const char *name, const char *stamp, struct err *err)
{
	for (int n = 1; n < 1000; n++) {
		CLEANUP_FREE char *to = n == 1 ? xasprintf("%s.damaged-%s", name, stamp)
					       : xasprintf("%s.damaged-%s~%d", name, stamp, n);

		if (renameat2(c->state_dir, name, c->state_dir, to, RENAME_NOREPLACE) == 0 ||
		    errno == ENOENT)
			return 0;
		if (errno != EEXIST)
			break;
	}
	return err_set(err, errno, "'%s/%s' cannot be moved aside", c->conf->state_dir, name);
}

static int
set_aside_all(struct catalogue *c, struct err *err)
{
	char stamp[STAMP_BYTES];
	int rc;

	stamp_format_name(stamp_now(), stamp);
	rc = set_aside(c, DB_NAME "-journal", stamp, err);
	if (rc == 0)
		rc = set_aside(c, DB_NAME "-wal", stamp, err);
	if (rc == 0)
		rc = set_aside(c, DB_NAME "-shm", stamp, err);
	if (rc == 0)
		rc = set_aside(c, DB_NAME, stamp, err);
	if (rc == 0 && (rc = io_fsync(c->state_dir)) != 0)
		err_set(err, -rc, "'%s' cannot be synced", c->conf->state_dir);
	return rc;
}

/* ---- making and rebuilding; the lock is ours alone below this line --------------------------- */

static void
drop_unfinished(struct catalogue *c)
{
	unlinkat(c->state_dir, DB_UNFINISHED, 0);
	unlinkat(c->state_dir, DB_UNFINISHED "-journal", 0);
}

/*
 * An empty catalogue, not in its place.  The file is made by us so that it is never readable by
 * others.  Without a write-ahead log, so that it is one file when it is renamed.
 */
static int
make_db(struct catalogue *c, struct err *err)
{
	int fd, rc;

	cat_close_db(c);
	drop_unfinished(c);
	fd = io_openat(c->state_dir, DB_UNFINISHED,
		       O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(err, errno,
			       "'%s/" DB_UNFINISHED
			       "' cannot be made: the directory must belong to the user "
			       "that runs this",
			       c->conf->state_dir);
	close(fd);
	rc = open_db(c, DB_UNFINISHED, err);
	return rc == 0 ? catalogue_schema_upgrade(c->db, err) : rc;
}

/* The finished catalogue takes its place. */
static int
install(struct catalogue *c, struct err *err)
{
	int rc;

	cat_close_db(c);
	rc = set_aside_all(c, err);
	if (rc != 0)
		return rc;
	if (renameat2(c->state_dir, DB_UNFINISHED, c->state_dir, DB_NAME, RENAME_NOREPLACE) != 0)
		rc = -errno;
	if (rc == 0)
		rc = io_fsync(c->state_dir);
	if (rc != 0)
		return err_set(err, -rc, "'%s/" DB_NAME "' cannot be put in its place",
			       c->conf->state_dir);
	return open_existing(c, err);
}

static int
set_store_id(struct catalogue *c, const char *id, struct err *err)
{
	snprintf(c->store_id, sizeof(c->store_id), "%s", id);
	return cat_run(c, SQL_NOTE_SET, ARGS(arg_text("store_id"), arg_text(id)), err);
}

static int
make_new(struct catalogue *c, struct err *err)
{
	char id[UUID_TEXT];
	int rc = make_db(c, err);

	if (rc == 0)
		rc = catalogue_begin(c, err);
	if (rc != 0)
		return rc;
	uuid_random(id);
	rc = set_store_id(c, id, err);
	if (rc == 0)
		rc = catalogue_commit(c, err);
	else
		catalogue_rollback(c);
	if (rc == 0)
		rc = install(c, err);
	/* Last: a site.json without a catalogue would tell of one that was lost. */
	return rc == 0 ? site_write(c, err) : rc;
}

static int
fill_from_site(struct catalogue *c, const struct site *site, const struct catalogue_hooks *hooks,
	       struct err *err)
{
	CLEANUP_FREE char *serial = xasprintf("%lld", (long long)site->serial);
	int rc = catalogue_begin(c, err);

	if (rc != 0)
		return rc;
	rc = set_store_id(c, site->store_id, err);
	if (rc == 0)
		rc = cat_run(c, SQL_NOTE_SET, ARGS(arg_text("site_serial"), arg_text(serial)), err);
	if (rc == 0)
		rc = catalogue_rebuild(c, site, hooks, err);
	c->site_dirty = true;
	if (rc == 0)
		return catalogue_commit(c, err);
	catalogue_rollback(c);
	return rc;
}

static int
rebuild(struct catalogue *c, const struct site *site, const char *why,
	const struct catalogue_hooks *hooks, struct err *err)
{
	CLEANUP_FREE char *text = xasprintf(
		"the catalogue is rebuilt from site.json and the stored messages, because %s; "
		"what was in expired/ and the events are lost from view, no image is deleted",
		why);
	int rc;

	say(hooks, text);
	rc = make_db(c, err);
	if (rc == 0)
		rc = fill_from_site(c, site, hooks, err);
	return rc == 0 ? install(c, err) : rc;
}

/* Nothing to rebuild from: the sentence that tells how to go on. */
static int
refuse_lost(struct catalogue *c, const char *what, const char *trace, struct err *err)
{
	return err_refuse(
		err, CODE_CORRUPT,
		"'%s/" DB_NAME
		"' is %s, and there is no good site.json to rebuild it from, but %s exists: "
		"restore catalogue.db or site.json from a backup, or, to begin anew, move '%s' "
		"away and "
		"run 'vmimagectl config init-cache --force'; images stay where they are",
		c->conf->state_dir, what, trace, c->conf->state_dir);
}

static int
restore_missing(struct catalogue *c, unsigned flags, const struct site *site,
		const struct err *site_error, const struct catalogue_hooks *hooks, struct err *err)
{
	CLEANUP_FREE char *trace = site == NULL ? traces(c, site_error) : NULL;
	const char *dir = c->conf->state_dir;

	if (trace != NULL)
		return refuse_lost(c, "missing or empty", trace, err);
	if (site == NULL && (flags & CATALOGUE_CREATE) == 0)
		return err_set(
			err, ENOENT,
			"there is no catalogue in '%s' yet: begin with 'vmimagectl endorser add'",
			dir);
	if (site == NULL)
		return make_new(c, err);
	if ((flags & (CATALOGUE_CREATE | CATALOGUE_CHECK)) == 0)
		return err_refuse(
			err, CODE_CORRUPT,
			"the catalogue in '%s' is missing: start vmimagefs, which rebuilds it",
			dir);
	return rebuild(c, site, "it is missing", hooks, err);
}

static int
restore_damaged(struct catalogue *c, unsigned flags, const struct site *site, const char *why,
		const struct catalogue_hooks *hooks, struct err *err)
{
	CLEANUP_FREE char *reason = xasprintf("it is damaged: %s", why);

	if ((flags & CATALOGUE_CHECK) == 0)
		return err_refuse(
			err, CODE_CORRUPT,
			"the catalogue is damaged (%s): start vmimagefs, which rebuilds it", why);
	if (site == NULL)
		return refuse_lost(c, "damaged", "the database itself", err);
	return rebuild(c, site, reason, hooks, err);
}

static int
restore(struct catalogue *c, unsigned flags, enum db_state state, const char *why,
	const struct catalogue_hooks *hooks, struct err *err)
{
	struct err site_error = { 0 };
	struct site *site = NULL;
	int rc;

	site_read(c->state_dir, &site, NULL, &site_error);
	if (state == DB_MISSING)
		rc = restore_missing(c, flags, site, &site_error, hooks, err);
	else
		rc = restore_damaged(c, flags, site, why, hooks, err);
	site_free(site);
	return rc;
}

/* ---- looking at what is there ---------------------------------------------------------------- */

/*
 * Compares the serials.  *stale: site.json is older than the catalogue, missing, or damaged (then
 * it is put aside) and must be written anew.  -EUCLEAN: it is newer.
 */
static int
compare_site(struct catalogue *c, bool *stale, struct err *err)
{
	struct site *site = NULL;
	CLEANUP_FREE char *note = NULL;
	char stamp[STAMP_BYTES];
	int64_t theirs, ours;
	struct err why = { 0 };
	int rc = site_read(c->state_dir, &site, NULL, &why);

	/* A disk that cannot be read now is no reason to take it for damaged. */
	if (rc != 0 && rc != -ENOENT && why.code == CODE_NONE) {
		*err = why;
		return rc;
	}
	theirs = site != NULL ? site->serial : 0;
	site_free(site);
	/* Read after site.json, because writers go the other way round. */
	if (get_note(c, "site_serial", &note, err) != 0)
		return err->rc;
	ours = note != NULL ? strtoll(note, NULL, 10) : 0;
	*stale = rc != 0 || theirs < ours;
	if (theirs > ours)
		return err_set(
			err, EUCLEAN,
			"it is an old copy: site.json knows decision %lld, the catalogue ends "
			"with %lld",
			(long long)theirs, (long long)ours);
	if (rc == 0 || rc == -ENOENT)
		return 0;
	stamp_format_name(stamp_now(), stamp);
	return set_aside(c, "site.json", stamp, err);
}

/* Others make or rebuild it in a moment. */
static int
lock_shared(struct catalogue *c, struct err *err)
{
	long long until = io_monotonic_ms() + c->wait_ms;

	while (flock(c->state_dir, LOCK_SH | LOCK_NB) != 0) {
		if (io_monotonic_ms() >= until)
			return err_refuse(err, CODE_BUSY,
					  "the catalogue in '%s' is being made or rebuilt by "
					  "another process: try again later", c->conf->state_dir);
		cat_wait_step();
	}
	return 0;
}

static int
open_dirs(struct catalogue *c, unsigned flags, struct err *err)
{
	const char *dir = c->conf->state_dir;

	if ((flags & CATALOGUE_CREATE) != 0)
		mkdir(dir, 0711);	/* EEXIST is the usual case; opening tells the rest */
	c->state_dir = io_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (c->state_dir < 0)
		return err_set(err, errno, "state_dir '%s' cannot be opened: %s", dir,
			       errno == ENOENT
				       ? "make it, owned by the user that runs this, mode 0711"
				       : "it must belong to the user that runs this");
	mkdirat(c->state_dir, "messages", 0700);
	c->messages_dir =
		io_openat(c->state_dir, "messages",
			  O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
	if (c->messages_dir < 0)
		return err_set(
			err, errno,
			"'%s/messages' cannot be opened: it must be a directory of the user that "
			"runs this",
			dir);
	return lock_shared(c, err);
}

/* What inspect() found is a fault that a rebuild does not mend. */
static bool
must_stand(int rc, enum db_state state, const struct err *why)
{
	return rc != 0 && (state == DB_MISSING || (rc != -EUCLEAN && why->code != CODE_CORRUPT));
}

/* A fault of now, and not of what the predecessor has found to be good. */
static bool
may_wait(int rc, const struct err *why)
{
	return why->code == CODE_BUSY || message_may_be_good(rc);
}

static int
check(struct catalogue *c, unsigned flags, const struct catalogue_hooks *hooks, struct err *why)
{
	CLEANUP_FREE char *text = NULL;
	int rc = catalogue_check(c, hooks, why);

	if (rc == 0 || (flags & CATALOGUE_HURRY) == 0 || !may_wait(rc, why))
		return rc;
	text = xasprintf("%s; readers wait: it is checked at the next start", why->text);
	say(hooks, text);
	err_clear(why);
	return 0;
}

/* Opens what is there.  0 with DB_MISSING: nothing. */
static int
inspect(struct catalogue *c, unsigned flags, const struct catalogue_hooks *hooks,
	enum db_state *state, struct err *why)
{
	bool stale = false;
	int rc;

	cat_close_db(c);
	err_clear(why);
	rc = look(c, state, why);
	if (rc != 0 || *state == DB_MISSING)
		return rc;
	if ((flags & CATALOGUE_CHECK) != 0)
		io_drop_stale(c->state_dir, "site.json");
	rc = open_existing(c, why);
	if (rc == 0)
		rc = compare_site(c, &stale, why);
	if (rc == 0 && (flags & CATALOGUE_CHECK) != 0)
		rc = check(c, flags, hooks, why);
	else if (rc == 0 && (flags & CATALOGUE_CREATE) != 0)
		rc = catalogue_check_decisions(c, why);
	/* The rows have it; whoever opens them next tries again. */
	if (rc == 0 && stale && site_write(c, why) != 0)
		say(hooks, why->text);
	return rc;
}

/*
 * The lock alone, or, as soon as another process has done the work, the share we had.  In between
 * nothing is held, so that two that want it alone do not wait for each other.
 */
static int
restore_alone(struct catalogue *c, unsigned flags, const struct catalogue_hooks *hooks,
	      struct err *err)
{
	long long until = io_monotonic_ms() + ALONE_MS;
	struct err why = { 0 };
	enum db_state state;
	bool alone = false;
	int rc;

	do {
		cat_close_db(c);
		alone = flock(c->state_dir, LOCK_EX | LOCK_NB) == 0;
		if (alone || flock(c->state_dir, LOCK_SH | LOCK_NB) == 0) {
			rc = inspect(c, flags, hooks, &state, &why);
			if (rc == 0 && state == DB_PRESENT)
				goto out;
			if (must_stand(rc, state, &why)) {
				*err = why;
				goto out;
			}
			if (alone) {
				rc = restore(c, flags, state, why.text, hooks, err);
				goto out;
			}
			flock(c->state_dir, LOCK_UN);
		}
		cat_wait_step();
	} while (io_monotonic_ms() < until);
	rc = err_refuse(err, CODE_BUSY, "'%s' is in use by another process: "
			"stop vmimagefs and vmimagectl first", c->conf->state_dir);
out:
	if (alone)
		flock(c->state_dir, LOCK_SH);
	return rc;
}

static bool
may_restore(unsigned flags, enum db_state state)
{
	return (flags & CATALOGUE_CHECK) != 0 ||
	       ((flags & CATALOGUE_CREATE) != 0 && state == DB_MISSING);
}

static int
open_catalogue(struct catalogue *c, unsigned flags, const struct catalogue_hooks *hooks,
	       struct err *err)
{
	struct err why = { 0 };
	enum db_state state;
	int rc = open_dirs(c, flags, err);

	if (rc != 0)
		return rc;
	rc = inspect(c, flags, hooks, &state, &why);
	if (rc == 0 && state == DB_PRESENT)
		return 0;
	if (must_stand(rc, state, &why)) {
		*err = why;
		return rc;
	}
	if (may_restore(flags, state))
		return restore_alone(c, flags, hooks, err);
	/* It only finds the words: without the flags nothing is made. */
	return restore(c, flags, state, why.text, hooks, err);
}

int
catalogue_open(struct catalogue **out, const struct conf *conf, unsigned flags,
	       const struct catalogue_hooks *hooks, struct err *err)
{
	struct catalogue *c = xcalloc(1, sizeof(*c));
	struct err ignored = { 0 };
	int rc;

	c->conf = conf;
	c->state_dir = c->messages_dir = -1;
	c->wait_ms = (flags & CATALOGUE_HURRY) != 0 ? CAT_HURRY_MS : CAT_BUSY_MS;
	rc = open_catalogue(c, flags, hooks, err != NULL ? err : &ignored);
	c->wait_ms = CAT_BUSY_MS;
	*out = rc == 0 ? c : NULL;
	if (rc != 0)
		catalogue_close(c);
	return rc;
}
