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

static const char list_ca_prefix[] = "tls_ca.";

static bool
is_list_ca(const char *name)
{
	return strncmp(name, list_ca_prefix, strlen(list_ca_prefix)) == 0;
}

/* Sets tls_ca.LIST; "system" takes an earlier setting away. */
static int
set_list_ca(struct conf *conf, const char *list, const char *value, struct err *err)
{
	char *path = NULL;
	size_t i;
	int rc;

	if (*list == '\0')
		return err_set(err, EINVAL, "no list is named after 'tls_ca.'");
	if (strcmp(value, "system") != 0) {
		rc = confvalue_path(value, &path, err);
		if (rc != 0)
			return rc;
	}
	for (i = 0; i < conf->n_list_ca; i++)
		if (strcmp(conf->list_ca[i].list, list) == 0)
			break;
	if (i == conf->n_list_ca) {
		conf->list_ca = xrealloc(conf->list_ca, (i + 1) * sizeof(*conf->list_ca));
		conf->list_ca[i].list = xstrdup(list);
		conf->n_list_ca++;
	} else {
		free(conf->list_ca[i].path);
	}
	conf->list_ca[i].path = path;
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

static int
set_from(struct conf *conf, const char *name, const char *value, const char *source, unsigned line,
	 struct err *err)
{
	const struct confkey *key = confkey_find(name);
	const struct conf_origin *before = find_origin(conf, name);
	int rc;

	if (key == NULL && !is_list_ca(name))
		return refuse_name(name, err);
	if (line > 0 && before != NULL && before->line > 0 && strcmp(before->source, source) == 0)
		return err_set(err, EINVAL, "key '%s' stands here twice: first in line %u", name,
			       before->line);
	if (*value == '\0')
		return err_set(err, EINVAL, "key '%s' has no value", name);
	if (key == NULL)
		rc = set_list_ca(conf, name + strlen(list_ca_prefix), value, err);
	else
		rc = key->set(conf, key, value, err);
	if (rc != 0) {
		err_prefix(err, "%s", name);
		return rc;
	}
	note_origin(conf, name, source, line);
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

void
conf_free(struct conf *conf)
{
	if (conf == NULL)
		return;
	for (size_t i = 0; i < conf->n_list_ca; i++) {
		free(conf->list_ca[i].list);
		free(conf->list_ca[i].path);
	}
	for (size_t i = 0; i < conf->n_origins; i++) {
		free(conf->origins[i].key);
		free(conf->origins[i].source);
	}
	free(conf->list_ca);
	free(conf->origins);
	free(conf->state_dir);
	free(conf->cache_dir);
	free(conf->run_dir);
	free(conf->cert_dir);
	free(conf->mountpoint);
	free(conf->tls_ca);
	free(conf->file_prefix);
	free(conf->proxy);
	free(conf->user);
	free(conf->group);
	free(conf->file);
	free(conf);
}

bool
conf_has_key(const char *name)
{
	return confkey_find(name) != NULL || is_list_ca(name);
}

static bool
is_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return strncmp(path, top, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

int
conf_check(const struct conf *conf, struct err *err)
{
	const struct { const char *name, *path; } dirs[] = {
		{ "state_dir", conf->state_dir }, { "cache_dir", conf->cache_dir },
		{ "run_dir", conf->run_dir }, { "cert_dir", conf->cert_dir },
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
	return 0;
}

const char *
conf_tls_ca(const struct conf *conf, const char *list_id)
{
	for (size_t i = 0; i < conf->n_list_ca; i++)
		if (strcmp(conf->list_ca[i].list, list_id) == 0)
			return conf->list_ca[i].path;
	return conf->tls_ca;
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
	for (size_t i = 0; i < conf->n_list_ca; i++) {
		CLEANUP_FREE char *name = xasprintf("%s%s", list_ca_prefix, conf->list_ca[i].list);

		tell(conf, name, conf->list_ca[i].path != NULL ? conf->list_ca[i].path : "system",
		     fn, arg);
	}
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
