/*
 * handlers.c - which programs a site runs for events, and the variables that they are given.
 *
 * A program in event_dir is run with the rights of event_user on what lists say, so one that
 * somebody else could have put there, or changed, is passed over.  Links are followed: packages
 * link theirs.
 */
#include "config.h"
#include "handlers.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "account.h"
#include "cleanup.h"
#include "field.h"
#include "json.h"
#include "limits.h"
#include "safename.h"

enum { NAME_MAX_BYTES = 200 };

/* ---- the directory --------------------------------------------------------------------------- */

static bool
ends_in(const char *name, const char *end)
{
	size_t len = strlen(name), n = strlen(end);

	return len >= n && strcmp(name + len - n, end) == 0;
}

/* Names that run-parts(8) would take; what editors and packages leave beside them is none. */
static bool
is_handler_name(const char *name)
{
	static const char *const left_over[] = {
		".bak", ".orig", ".rej", ".swp", ".rpmsave", ".rpmnew", ".rpmorig"
	};
	size_t len = strlen(name);

	if (len == 0 || len > NAME_MAX_BYTES || name[0] == '.' || strstr(name, ".dpkg-") != NULL)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && strchr("_-.", name[i]) == NULL)
			return false;
	for (size_t i = 0; i < sizeof(left_over) / sizeof(left_over[0]); i++)
		if (ends_in(name, left_over[i]))
			return false;
	return true;
}

uid_t
handlers_owner(const struct conf *conf)
{
	struct account who;
	struct err err;
	uid_t uid;

	if (account_find(conf->event_user != NULL ? conf->event_user : conf->user, &who,
			 &err) != 0)
		return (uid_t)-1;
	uid = who.uid;
	account_release(&who);
	return uid;
}

/* NULL: it can be run. */
static const char *
fault_of(const struct stat *st, uid_t owner)
{
	if (!S_ISREG(st->st_mode))
		return "it is no regular file";
	if ((st->st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0)
		return "it is not executable";
	if (st->st_mode & S_IWOTH)
		return "everybody can write it";
	if (st->st_uid != 0 && st->st_uid != owner)
		return "it belongs neither to root nor to event_user";
	if (owner == 0 && (st->st_mode & S_IWGRP) && st->st_gid != 0)
		return "its group can write it, and it would be run as root";
	return NULL;
}

/* Whoever can write the directory can put any program of root's there, under any name. */
static const char *
fault_of_dir(const struct stat *st, uid_t owner)
{
	if (st->st_mode & S_IWOTH)
		return "it is writable by everyone";
	if (st->st_uid != 0 && st->st_uid != owner)
		return "it belongs neither to root nor to event_user";
	if (owner == 0 && (st->st_mode & S_IWGRP) && st->st_gid != 0)
		return "its group can write it, and handlers are run as root";
	return NULL;
}

bool
handlers_dir_is_optional(const struct conf *conf)
{
	return strcmp(conf->event_dir, CONF_DEFAULT_EVENT_DIR) == 0;
}

static int
open_dir(const struct conf *conf, uid_t owner, int *fd, struct err *err)
{
	const char *fault;
	struct stat st;
	int rc = 0;

	*fd = open(conf->event_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0 && errno == ENOENT && handlers_dir_is_optional(conf))
		return -ENOENT;
	if (*fd < 0 || fstat(*fd, &st) != 0)
		rc = err_set(err, errno, "event_dir '%s': %s", conf->event_dir,
			     strerrordesc_np(errno));
	else if ((fault = fault_of_dir(&st, owner)) != NULL)
		rc = err_set(err, EPERM, "event_dir '%s' is not used: %s", conf->event_dir, fault);
	if (rc != 0)
		close_keep_errno(steal_fd(fd));
	return rc;
}

static int
check_one(int dirfd, const char *name, uid_t owner, const char **fault)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, 0) != 0)
		return -errno;
	*fault = fault_of(&st, owner);
	return 0;
}

static int
take_one(const struct conf *conf, int dirfd, const char *name, uid_t owner, struct handlers *out,
	 void (*say)(void *arg, const char *text), void *arg, struct err *err)
{
	const char *fault = NULL;
	int rc = check_one(dirfd, name, owner, &fault);

	if (rc != 0)
		fault = strerrordesc_np(-rc);
	if (fault == NULL && strcmp(name, HANDLERS_COMMAND) == 0)
		fault = "the key event_command has this name";
	if (fault != NULL) {
		CLEANUP_FREE char *text = xasprintf("event handler '%s/%s' is passed over: %s",
						    conf->event_dir, name, fault);

		if (say != NULL)
			say(arg, text);
		return 0;
	}
	if (out->n >= LIMIT_HANDLERS)
		return err_set(err, E2BIG, "event_dir '%s' holds more than %d handlers",
			       conf->event_dir, LIMIT_HANDLERS);
	out->names[out->n++] = xstrdup(name);
	return 0;
}

static int
list_dir(const struct conf *conf, uid_t owner, struct handlers *out,
	 void (*say)(void *arg, const char *text), void *arg, struct err *err)
{
	const struct dirent *d;
	int fd, rc = open_dir(conf, owner, &fd, err);
	DIR *dir;

	if (rc != 0)
		return rc == -ENOENT && handlers_dir_is_optional(conf) ? 0 : rc;
	dir = fdopendir(fd);
	if (dir == NULL) {
		rc = err_set(err, errno, "event_dir '%s': %s", conf->event_dir,
			     strerrordesc_np(errno));
		close(fd);
		return rc;
	}
	while (rc == 0 && (d = readdir(dir)) != NULL)
		if (is_handler_name(d->d_name))
			rc = take_one(conf, fd, d->d_name, owner, out, say, arg, err);
	closedir(dir);
	return rc;
}

static int
by_name(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

int
handlers_list(const struct conf *conf, uid_t owner, struct handlers *out,
	      void (*say)(void *arg, const char *text), void *arg, struct err *err)
{
	int rc = 0;

	out->n = 0;
	out->names = xcalloc(LIMIT_HANDLERS, sizeof(*out->names));
	if (conf->event_command != NULL)
		out->names[out->n++] = xstrdup(HANDLERS_COMMAND);
	if (conf->event_dir != NULL)
		rc = list_dir(conf, owner, out, say, arg, err);
	if (rc != 0)
		handlers_release(out);
	else
		qsort(out->names, out->n, sizeof(*out->names), by_name);
	return rc;
}

void
handlers_release(struct handlers *h)
{
	for (size_t i = 0; i < h->n; i++)
		free(h->names[i]);
	free(h->names);
	h->names = NULL;
	h->n = 0;
}

int
handlers_path(const struct conf *conf, uid_t owner, const char *name, char **path, struct err *err)
{
	const char *fault = NULL;
	int fd, rc;

	*path = NULL;
	if (conf->event_dir == NULL || !is_handler_name(name))
		return err_set(err, ENOENT, "there is no event handler '%s'", name);
	rc = open_dir(conf, owner, &fd, err);
	if (rc == 0) {
		rc = check_one(fd, name, owner, &fault);
		close(fd);
	} else if (rc != -ENOENT) {
		return rc;
	}
	if (rc != 0)
		return err_set(err, -rc, "event handler '%s/%s': %s", conf->event_dir, name,
			       strerrordesc_np(-rc));
	if (fault != NULL)
		return err_set(err, EPERM, "event handler '%s/%s' is not run: %s",
			       conf->event_dir, name, fault);
	*path = xasprintf("%s/%s", conf->event_dir, name);
	return 0;
}

/* ---- the variables of an event --------------------------------------------------------------- */

#define EVENT "VMCATCHER_EVENT_"

static void
add(struct buf *out, const char *name, const char *value)
{
	if (value == NULL || *value == '\0')
		return;
	buf_printf(out, "%s=%s", name, value);
	buf_putc(out, '\0');
}

/* Handlers put a name behind it with a '/' of their own, or with none. */
static void
add_directory(struct buf *out, const char *name, const char *path)
{
	CLEANUP_FREE char *dir = NULL;

	if (path == NULL)
		return;
	dir = xasprintf("%s%s", path, ends_in(path, "/") ? "" : "/");
	add(out, name, dir);
}

static void
add_field(struct buf *out, const struct field *f, const struct json *value)
{
	char digits[24];
	int64_t n;

	if (json_as_integer(value, &n)) {
		snprintf(digits, sizeof(digits), "%lld", (long long)n);
		add(out, f->variable, digits);
	} else {
		add(out, f->variable, json_as_string(value));
	}
}

/*
 * Handlers make paths of it, and remove what stands there.  One that could lead elsewhere, or be
 * taken for an option, is told as the name that the image has in the mount and in handler_dir; the
 * record has the identifier itself.
 */
static void
add_identifier(struct buf *out, const char *variable, const char *identifier)
{
	char name[SAFENAME_MAX + 32];

	if (identifier == NULL || *identifier == '\0')
		return;
	if (strchr(identifier, '/') == NULL && identifier[0] != '.' && identifier[0] != '-') {
		add(out, variable, identifier);
		return;
	}
	safename_identifier(identifier, name);
	add(out, variable, name);
}

/* vmcatcher tells of a new image what its entry in the list says and no more. */
static bool
is_left_out(enum field_id id, bool of_subscription)
{
	return of_subscription && (id == FIELD_VO || id == FIELD_FORMAT);
}

static void
add_image(struct buf *out, const struct json *record, bool of_subscription)
{
	for (int i = 0; i < N_FIELDS; i++) {
		const struct field *f = &field_table[i];

		if (f->id == FIELD_ID)
			add_identifier(out, f->variable,
				       json_as_string(json_get(record, f->column)));
		else if (f->variable != NULL && !is_left_out(f->id, of_subscription))
			add_field(out, f, json_get(record, f->column));
	}
	if (of_subscription)
		return;
	add_identifier(out, EVENT "IL_DC_IDENTIFIER",
		       json_as_string(json_get(record, "subscription")));
	add(out, EVENT "FILENAME", json_as_string(json_get(record, "filename")));
}

int
event_variables(const char *json, const struct event_setting *setting, struct buf *out,
		struct err *err)
{
	const char *type, *session = setting->session;
	struct json *record = NULL;
	bool of_subscription;
	int rc = json_parse_written(json, strlen(json), &record, err);

	if (rc != 0)
		return rc;
	type = json_as_string(json_get(record, "type"));
	if (type == NULL) {
		json_free(record);
		return err_set(err, EINVAL, "an event has no type");
	}
	of_subscription = strcmp(type, "SubscriptionImageNew") == 0;
	if (session == NULL)
		session = json_as_string(json_get(record, "session"));
	add(out, "VMCATCHER_RDBMS", setting->rdbms);
	if (!of_subscription) {
		add_directory(out, "VMCATCHER_CACHE_DIR_CACHE", setting->cache);
		add_directory(out, "VMCATCHER_CACHE_DIR_DOWNLOAD", setting->download);
		add_directory(out, "VMCATCHER_CACHE_DIR_EXPIRE", setting->expire);
	}
	add(out, EVENT "TYPE", type);
	add(out, EVENT "UUID_SESSION", session);
	add(out, EVENT "UUID", json_as_string(json_get(record, "uuid")));
	add_image(out, record, of_subscription);
	json_free(record);
	return 0;
}
