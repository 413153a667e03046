/*
 * Where values come from (confkey.c says which there are).  Later sources override earlier
 * ones: built-in, main file, drop-ins in the order of their names, command line.  Within one
 * file a key stands once, because of two values for one key an admin would see only the one
 * that lost.
 */
#include "config.h"
#include "conf.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "confkey.h"
#include "conffile.h"
#include "confvalue.h"

struct conf_origin {
	char *key;
	char *source;		/* a file, or what conf_set() was told */
	unsigned line;		/* 0: not from a file */
};

/* Keys that can also be said of one list: NAME.LIST. */
struct list_key {
	const char *prefix;
	const char *none;	/* takes away what NAME says */
	size_t offset;		/* of the struct conf_lists */
	int (*read)(const char *text, char **out, struct err *err);
};

static const struct list_key list_keys[] = {
	{ "tls_ca.", "system", offsetof(struct conf, list_ca), confvalue_path },
	{ "attestation.", "none", offsetof(struct conf, list_attestation), confvalue_url },
};

enum { N_LIST_KEYS = sizeof(list_keys) / sizeof(list_keys[0]) };

static const struct list_key *
find_list_key(const char *name)
{
	for (size_t i = 0; i < N_LIST_KEYS; i++)
		if (strncmp(name, list_keys[i].prefix, strlen(list_keys[i].prefix)) == 0)
			return &list_keys[i];
	return NULL;
}

static struct conf_lists *
lists_of(struct conf *conf, const struct list_key *key)
{
	return (struct conf_lists *)(void *)((char *)conf + key->offset);
}

static const struct conf_lists *
lists_of_const(const struct conf *conf, const struct list_key *key)
{
	return (const struct conf_lists *)(const void *)((const char *)conf + key->offset);
}

static struct conf_of_list *
find_of_list(const struct conf_lists *lists, const char *list)
{
	for (size_t i = 0; i < lists->n; i++)
		if (strcmp(lists->at[i].list, list) == 0)
			return &lists->at[i];
	return NULL;
}

static int
set_of_list(struct conf *conf, const struct list_key *key, const char *name, const char *value,
	    struct err *err)
{
	struct conf_lists *lists = lists_of(conf, key);
	const char *list = name + strlen(key->prefix);
	struct conf_of_list *one;
	char *text = NULL;
	int rc;

	if (*list == '\0')
		return err_set(err, EINVAL, "no list is named after '%s'", key->prefix);
	if (strcmp(value, key->none) != 0) {
		rc = key->read(value, &text, err);
		if (rc != 0)
			return rc;
	}
	one = find_of_list(lists, list);
	if (one == NULL) {
		lists->at = xrealloc(lists->at, (lists->n + 1) * sizeof(*lists->at));
		one = &lists->at[lists->n++];
		one->list = xstrdup(list);
	} else {
		free(one->value);
	}
	one->value = text;
	return 0;
}

bool
conf_is_later_key(const char *name)
{
	return confkey_is_later(name);
}

static int
refuse_name(const char *name, struct err *err)
{
	return err_set(err, EINVAL, conf_is_later_key(name) ? "key '%s' is not in this version" :
		       "unknown key '%s'", name);
}

static struct conf_origin *
find_origin(const struct conf *conf, const char *name)
{
	for (size_t i = 0; i < conf->n_origins; i++)
		if (strcmp(conf->origins[i].key, name) == 0)
			return &conf->origins[i];
	return NULL;
}

static void
note_origin(struct conf *conf, const char *name, const char *source, unsigned line)
{
	struct conf_origin *o = find_origin(conf, name);

	if (o == NULL) {
		conf->origins = xrealloc(conf->origins, (conf->n_origins + 1) * sizeof(*o));
		o = &conf->origins[conf->n_origins++];
		o->key = xstrdup(name);
	} else {
		free(o->source);
	}
	o->source = xstrdup(source);
	o->line = line;
}

/* Without a word of its own handler_dir lies in state_dir, wherever that is. */
static void
place_handler_dir(struct conf *conf)
{
	if (find_origin(conf, "handler_dir") != NULL)
		return;
	free(conf->handler_dir);
	conf->handler_dir = xasprintf("%s/vmcatcher", conf->state_dir);
}

static int
set_from(struct conf *conf, const char *name, const char *value, const char *source, unsigned line,
	 struct err *err)
{
	const struct confkey *key = confkey_find(name);
	const struct list_key *list_key = find_list_key(name);
	const struct conf_origin *before = find_origin(conf, name);
	int rc;

	if (key == NULL && list_key == NULL)
		return refuse_name(name, err);
	if (line > 0 && before != NULL && before->line > 0 && strcmp(before->source, source) == 0)
		return err_set(err, EINVAL, "key '%s' stands here twice: first in line %u", name,
			       before->line);
	if (*value == '\0')
		return err_set(err, EINVAL, "key '%s' has no value", name);
	if (key == NULL)
		rc = set_of_list(conf, list_key, name, value, err);
	else
		rc = key->set(conf, key, value, err);
	if (rc != 0) {
		err_prefix(err, "%s", name);
		return rc;
	}
	note_origin(conf, name, source, line);
	place_handler_dir(conf);
	return 0;
}

int
conf_set(struct conf *conf, const char *key, const char *value, const char *origin, struct err *err)
{
	return set_from(conf, key, value, origin, 0, err);
}

static int
set_line(void *arg, const char *file, unsigned line, const char *name, const char *value,
	 struct err *err)
{
	return set_from(arg, name, value, file, line, err);
}

static struct conf *
conf_new(void)
{
	struct conf *conf = xcalloc(1, sizeof(*conf));

	const struct confkey *key;

	for (size_t i = 0; (key = confkey_at(i)) != NULL; i++)
		if (key->set(conf, key, key->fallback, NULL) != 0)
			abort();
	return conf;
}

int
conf_load_from(const char *file, bool must_exist, const char *dropins, struct conf **out,
	       struct err *err)
{
	struct conf *conf = conf_new();
	int rc;

	*out = NULL;
	rc = conffile_read(file, set_line, conf, err);
	if (rc == -ENOENT && !must_exist) {
		err_clear(err);
		rc = 0;
	} else if (rc == 0) {
		conf->file = xstrdup(file);
	}
	if (rc == 0 && dropins != NULL)
		rc = conffile_read_dir(dropins, set_line, conf, err);
	conf->dropins = xstrdup(dropins);
	/* A site in a file of its own is not to run what another one has in /etc. */
	if (dropins == NULL && find_origin(conf, "event_dir") == NULL)
		free(steal_ptr(&conf->event_dir));
	if (rc == 0)
		rc = conf_check(conf, err);
	if (rc != 0)
		goto out;
	*out = conf;
	conf = NULL;
out:
	conf_free(conf);
	return rc;
}

int
conf_load(const char *file, struct conf **out, struct err *err)
{
	const char *named = file != NULL ? file : secure_getenv("VMIMAGEFS_CONFIG");

	if (named != NULL && *named != '\0')
		return conf_load_from(named, true, NULL, out, err);
	return conf_load_from(CONF_DEFAULT_FILE, false, CONF_DEFAULT_DROPINS, out, err);
}

int
conf_load_again(const struct conf *before, struct conf **out, struct err *err)
{
	const char *file = before->file != NULL ? before->file : CONF_DEFAULT_FILE;
	const struct confkey *key;
	struct conf *conf = NULL;
	int rc;

	*out = NULL;
	rc = conf_load_from(file, before->dropins == NULL, before->dropins, &conf, err);
	for (size_t i = 0; rc == 0 && (key = confkey_at(i)) != NULL; i++) {
		const struct conf_origin *o = find_origin(before, key->name);
		CLEANUP_BUF struct buf value = BUF_INIT;

		if (o == NULL || o->line > 0)
			continue;
		key->show(before, key, &value);
		rc = conf_set(conf, key->name, buf_str(&value), o->source, err);
	}
	if (rc == 0)
		*out = steal_ptr(&conf);
	conf_free(conf);
	return rc;
}

static void
lists_release(struct conf_lists *lists)
{
	for (size_t i = 0; i < lists->n; i++) {
		free(lists->at[i].list);
		free(lists->at[i].value);
	}
	free(lists->at);
}

void
conf_free(struct conf *conf)
{
	if (conf == NULL)
		return;
	for (size_t i = 0; i < N_LIST_KEYS; i++)
		lists_release(lists_of(conf, &list_keys[i]));
	for (size_t i = 0; i < conf->n_origins; i++) {
		free(conf->origins[i].key);
		free(conf->origins[i].source);
	}
	free(conf->origins);
	free(conf->state_dir);
	free(conf->cache_dir);
	free(conf->run_dir);
	free(conf->cert_dir);
	free(conf->mountpoint);
	free(conf->tls_ca);
	free(conf->file_prefix);
	free(conf->proxy);
	free(conf->attestation);
	free(conf->event_command);
	free(conf->event_dir);
	free(conf->event_user);
	free(conf->event_env);
	free(conf->handler_dir);
	free(conf->handler_group);
	free(conf->user);
	free(conf->group);
	free(conf->file);
	free(conf->dropins);
	free(conf);
}

bool
conf_has_key(const char *name)
{
	return confkey_find(name) != NULL || find_list_key(name) != NULL;
}

static bool
is_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return strncmp(path, top, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* Others read and write there, and nothing else of ours may lie below it. */
static int
check_handler_dir(const struct conf *conf, struct err *err)
{
	const char *dir = conf->handler_dir;
	const struct { const char *name, *path; } others[] = {
		{ "state_dir", conf->state_dir }, { "cache_dir", conf->cache_dir },
		{ "run_dir", conf->run_dir }, { "mountpoint", conf->mountpoint },
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (is_below(others[i].path, dir))
			return err_set(err, EINVAL, "%s '%s' lies below handler_dir '%s'",
				       others[i].name, others[i].path, dir);
	if (is_below(dir, conf->cache_dir) || is_below(dir, conf->run_dir))
		return err_set(err, EINVAL, "handler_dir '%s' lies below '%s'", dir,
			       is_below(dir, conf->cache_dir) ? conf->cache_dir : conf->run_dir);
	return 0;
}

int
conf_check(const struct conf *conf, struct err *err)
{
	const struct { const char *name, *path; } dirs[] = {
		{ "state_dir", conf->state_dir }, { "cache_dir", conf->cache_dir },
		{ "run_dir", conf->run_dir }, { "cert_dir", conf->cert_dir },
		{ "handler_dir", conf->handler_dir },
	};

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (is_below(dirs[i].path, conf->mountpoint))
			return err_set(err, EINVAL, "%s '%s' lies below the mount point '%s': "
				       "the mount would hide it", dirs[i].name, dirs[i].path,
				       conf->mountpoint);
	for (size_t i = 0; i < 3; i++)
		if (is_below(conf->mountpoint, dirs[i].path))
			return err_set(err, EINVAL,
				       "mountpoint '%s' lies below %s '%s': choose another",
				       conf->mountpoint, dirs[i].name, dirs[i].path);
	if (is_below(conf->state_dir, conf->cache_dir) ||
	    is_below(conf->cache_dir, conf->state_dir))
		return err_set(err, EINVAL,
			       "state_dir '%s' and cache_dir '%s' lie one below the other",
			       conf->state_dir, conf->cache_dir);
	return check_handler_dir(conf, err);
}

const char *
conf_tls_ca(const struct conf *conf, const char *list_id)
{
	const struct conf_of_list *one = find_of_list(&conf->list_ca, list_id);

	return one != NULL ? one->value : conf->tls_ca;
}

const char *
conf_attestation(const struct conf *conf, const char *list_id)
{
	const struct conf_of_list *one = find_of_list(&conf->list_attestation, list_id);

	return one != NULL ? one->value : conf->attestation;
}

static void
tell(const struct conf *conf, const char *name, const char *value,
     void (*fn)(void *arg, const char *key, const char *value, const char *origin), void *arg)
{
	const struct conf_origin *o = find_origin(conf, name);
	CLEANUP_FREE char *origin = NULL;

	if (o == NULL)
		origin = xstrdup("default");
	else if (o->line == 0)
		origin = xstrdup(o->source);
	else
		origin = xasprintf("%s:%u", o->source, o->line);
	fn(arg, name, value, origin);
}

static void
tell_of_lists(const struct conf *conf, const struct list_key *key,
	      void (*fn)(void *arg, const char *key, const char *value, const char *origin),
	      void *arg)
{
	const struct conf_lists *lists = lists_of_const(conf, key);

	for (size_t i = 0; i < lists->n; i++) {
		const struct conf_of_list *one = &lists->at[i];
		CLEANUP_FREE char *name = xasprintf("%s%s", key->prefix, one->list);

		tell(conf, name, one->value != NULL ? one->value : key->none, fn, arg);
	}
}

void
conf_each(const struct conf *conf,
	  void (*fn)(void *arg, const char *key, const char *value, const char *origin), void *arg)
{
	const struct confkey *key;

	for (size_t i = 0; (key = confkey_at(i)) != NULL; i++) {
		CLEANUP_BUF struct buf value = BUF_INIT;

		key->show(conf, key, &value);
		tell(conf, key->name, buf_str(&value), fn, arg);
	}
	for (size_t k = 0; k < N_LIST_KEYS; k++)
		tell_of_lists(conf, &list_keys[k], fn, arg);
}

int
conf_ids(const struct conf *conf, uid_t *uid, gid_t *gid, struct err *err)
{
	char room[4096];
	struct passwd pw, *found = NULL;
	struct group gr, *group = NULL;
	int rc;

	rc = getpwnam_r(conf->user, &pw, room, sizeof(room), &found);
	if (found == NULL && rc != 0)
		return err_set(err, rc, "user '%s' cannot be looked up: %s", conf->user,
			       strerrordesc_np(rc));
	if (found == NULL)
		return err_set(err, ENOENT,
			       "user '%s' does not exist: make it with 'useradd --system "
			       "--home-dir %s --shell /usr/sbin/nologin %s'",
			       conf->user, conf->state_dir, conf->user);
	if (pw.pw_uid == 0)
		return err_set(err, EPERM, "user '%s' is root: name an account without privileges",
			       conf->user);
	*uid = pw.pw_uid;
	*gid = pw.pw_gid;
	if (conf->group == NULL)
		return 0;
	rc = getgrnam_r(conf->group, &gr, room, sizeof(room), &group);
	if (group == NULL && rc != 0)
		return err_set(err, rc, "group '%s' cannot be looked up: %s", conf->group,
			       strerrordesc_np(rc));
	if (group == NULL)
		return err_set(err, ENOENT,
			       "group '%s' does not exist: make it with 'groupadd --system %s'",
			       conf->group, conf->group);
	*gid = gr.gr_gid;
	return 0;
}
