/*
 * cmd_config.c - the configuration: what it is, whether it can work here, and the cache's marker.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "core/account.h"
#include "core/cleanup.h"
#include "core/handlers.h"

/* ---- show ------------------------------------------------------------------------------------ */

static void
show_setting(void *arg, const char *key, const char *value, const char *origin)
{
	struct output *o = arg;
	struct jsonw *w = output_json(o);

	if (w != NULL) {
		jsonw_open(w, NULL, '{');
		jsonw_string(w, "key", key);
		jsonw_string(w, "value", value);
		jsonw_string(w, "origin", origin);
		jsonw_close(w, '}');
	}
	output_line(o, "%s = %s    # %s", key, value, origin);
}

int
cmd_config_show(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct jsonw *w = output_json(&ctl->out);

	(void)opt;
	(void)args;
	(void)n;
	if (w != NULL)
		jsonw_open(w, "config", '[');
	conf_each(ctl->conf, show_setting, &ctl->out);
	if (w != NULL)
		jsonw_close(w, ']');
	return EXIT_DONE;
}

/* ---- check ----------------------------------------------------------------------------------- */

struct checking {
	struct ctl *ctl;
	uid_t uid;
	bool have_uid;
	int n_wrong;
};

static void __attribute__((format(printf, 4, 5)))
finding(struct checking *c, bool wrong, const char *key, const char *fmt, ...)
{
	struct jsonw *w = output_json(&c->ctl->out);
	CLEANUP_FREE char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		out_of_memory();
	va_end(ap);
	c->n_wrong += wrong;
	if (w != NULL) {
		jsonw_open(w, NULL, '{');
		jsonw_string(w, "key", key);
		jsonw_string(w, "severity", wrong ? "error" : "warning");
		jsonw_string(w, "message", text);
		jsonw_close(w, '}');
	}
	output_line(&c->ctl->out, "%s: %s: %s", wrong ? "error" : "warning", key, text);
}

/* A directory that must be there, or (made at first use) may be missing. */
static void
check_directory(struct checking *c, const char *key, const char *path, bool required, bool ours)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		if (errno != ENOENT || required)
			finding(c, true, key, "'%s': %s", path, strerrordesc_np(errno));
		else
			finding(c, false, key, "'%s' does not exist yet; it will be made", path);
		return;
	}
	if (!S_ISDIR(st.st_mode))
		finding(c, true, key, "'%s' is no directory", path);
	else if (ours && c->have_uid && st.st_uid != c->uid)
		finding(c, true, key,
			"'%s' belongs to uid %u, not to '%s'; chown it, or empty it and"
			" let it be made",
			path, (unsigned)st.st_uid, c->ctl->conf->user);
	else if (ours && (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		finding(c, true, key, "'%s' can be written by others (mode %04o)", path,
			(unsigned)st.st_mode & 07777);
}

static void
check_path(struct checking *c, const char *key, const char *path)
{
	struct stat st;

	if (path != NULL && stat(path, &st) != 0)
		finding(c, true, key, "'%s': %s", path, strerrordesc_np(errno));
}

/* A limit that the disk reaches first is none. */
static void
check_room(struct checking *c)
{
	const struct conf *conf = c->ctl->conf;
	int64_t total, keep;
	struct statvfs fs;

	if (conf->evict_selected && conf->cache_size == 0)
		finding(c, false, "evict_selected",
			"cache_size is unlimited: only cache_min_free lets images leave");
	if (conf->cache_size == 0 || statvfs(conf->cache_dir, &fs) != 0)
		return;
	total = (int64_t)(fs.f_blocks * fs.f_frsize);
	keep = conf->cache_min_free_percent >= 0 ? total / 100 * conf->cache_min_free_percent
						 : conf->cache_min_free;
	if (conf->cache_size > total - keep)
		finding(c, false, "cache_size",
			"'%s' is on a file system of %lld bytes, of which cache_min_free keeps %lld"
			" free: the limit of %lld is never reached", conf->cache_dir,
			(long long)total, (long long)keep, (long long)conf->cache_size);
}

static void
check_values(struct checking *c)
{
	const struct conf *conf = c->ctl->conf;

	if (conf->update_interval == 0)
		finding(c, false, "update_interval", "off: lists are refreshed only by 'vmimagectl"
			" update', from cron or a timer");
	if (conf->file_prefix != NULL)
		finding(c, false, "file_prefix", "lists may name files below '%s' on this host",
			conf->file_prefix);
	check_room(c);
	if (conf->expire_keep == KEEP_NEVER)
		finding(c, false, "expire_keep",
			"never: the file of an image is removed as soon as it"
			" is no longer endorsed");
	if (conf->integrity == INTEGRITY_OPEN)
		finding(c, false, "integrity",
			"open: where the kernel passes reads through, an image is checked once a"
			" mount: damage on the disk after that is not noticed, and who has an"
			" image open that is distrusted goes on reading it; new opens are refused"
			" at once, 'vmimagectl status' lists who holds one");
	if (conf->mountpoint[0] != '/')
		finding(c, true, "mountpoint", "'%s' is not an absolute path", conf->mountpoint);
}

/* ---- check: event handlers ------------------------------------------------------------------- */

static void
say_passed_over(void *arg, const char *text)
{
	finding(arg, false, "event_dir", "%s", text);
}

/* Only where the whole of it is a path: otherwise it is for a shell to say. */
static void
check_event_command(struct checking *c, const char *command)
{
	static const char of_shells[] = " \t;|&<>()$`\\\"'*?[#~";
	struct stat st;

	if (command == NULL || command[0] != '/' || strpbrk(command, of_shells) != NULL)
		return;
	if (stat(command, &st) != 0)
		finding(c, false, "event_command", "'%s': %s", command, strerrordesc_np(errno));
	else if (!S_ISREG(st.st_mode) || (st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0)
		finding(c, false, "event_command", "'%s' cannot be executed", command);
}

/* Mounting goes on without them, so none of it is an error. */
static void
check_handlers(struct checking *c)
{
	const struct conf *conf = c->ctl->conf;
	const char *user = conf->event_user;
	struct handlers list;
	struct account who;
	struct err err = { 0 };

	check_event_command(c, conf->event_command);
	if (user != NULL && account_find(user, &who, &err) != 0) {
		finding(c, false, "event_user", "%s: event handlers cannot be run", err.text);
	} else if (user != NULL) {
		if (who.uid == 0)
			finding(c, false, "event_user", "root: event handlers have all rights, on"
				" what image lists say");
		account_release(&who);
	}
	if (handlers_list(conf, handlers_owner(conf), &list, say_passed_over, c, &err) != 0)
		finding(c, false, "event_dir", "%s", err.text);
	else
		handlers_release(&list);
	if (conf->handler_group != NULL && getgrnam(conf->handler_group) == NULL)
		finding(c, false, "handler_group", "group '%s' does not exist",
			conf->handler_group);
}

int
cmd_config_check(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct checking c = { .ctl = ctl };
	const struct conf *conf = ctl->conf;
	struct jsonw *w = output_json(&ctl->out);
	struct err err = { 0 };
	gid_t gid;

	(void)opt;
	(void)args;
	(void)n;
	if (w != NULL)
		jsonw_open(w, "findings", '[');
	c.have_uid = conf_ids(conf, &c.uid, &gid, &err) == 0;
	if (!c.have_uid)
		finding(&c, true, "user", "%s", err.text);
	else if (c.uid == 0)
		finding(&c, false, "user", "root: the daemon keeps more privileges than it needs");
	check_directory(&c, "state_dir", conf->state_dir, false, true);
	check_directory(&c, "cache_dir", conf->cache_dir, false, true);
	check_directory(&c, "run_dir", conf->run_dir, false, true);
	check_directory(&c, "cert_dir", conf->cert_dir, true, false);
	check_directory(&c, "mountpoint", conf->mountpoint, false, false);
	check_path(&c, "tls_ca", conf->tls_ca);
	for (size_t i = 0; i < conf->list_ca.n; i++)
		check_path(&c, "tls_ca.LIST", conf->list_ca.at[i].value);
	check_path(&c, "file_prefix", conf->file_prefix);
	check_values(&c);
	check_handlers(&c);
	if (w != NULL)
		jsonw_close(w, ']');
	if (c.n_wrong == 0)
		output_note(&ctl->out, "the configuration can work on this host");
	return c.n_wrong == 0 ? EXIT_DONE : EXIT_SOME_FAILED;
}

/* ---- init-cache ------------------------------------------------------------------------------ */

int
cmd_config_init_cache(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct err err = { 0 };
	struct jsonw *w;
	int rc;

	(void)args;
	(void)n;
	rc = ctl_open(ctl, CTL_WRITE, &err);
	if (rc == 0)
		rc = store_init(ctl->conf, catalogue_store_id(ctl->catalogue), opt->force, &err);
	if (rc != 0)
		return output_error(&ctl->out, &err,
				    rc == -EEXIST ? "if this cache may be taken over:"
						    " 'vmimagectl config init-cache --force'"
						  : NULL);
	w = output_json(&ctl->out);
	if (w != NULL)
		jsonw_string(w, "cache_dir", ctl->conf->cache_dir);
	output_note(&ctl->out, "'%s' belongs to this catalogue", ctl->conf->cache_dir);
	return EXIT_DONE;
}
