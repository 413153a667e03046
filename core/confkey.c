#include "config.h"
#include "confkey.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "confvalue.h"

enum {
	RUN_DIR_MAX = 90,	/* sun_path is 108 bytes, and names of ours follow */
	HOUR = 3600,		/* seconds */
	DAY = 24 * HOUR,
	YEAR = 366 * 86400,
};

static void *
slot(struct conf *conf, const struct confkey *key)
{
	return (char *)conf + key->offset;
}

static const void *
slot_const(const struct conf *conf, const struct confkey *key)
{
	return (const char *)conf + key->offset;
}

/* Text values: paths, accounts, the proxy.  Takes text. */
static int
replace_text(struct conf *conf, const struct confkey *key, char *text)
{
	char **p = slot(conf, key);

	free(*p);
	*p = text;
	return 0;
}

static bool
says_none(const struct confkey *key, const char *value)
{
	return key->none != NULL && strcmp(value, key->none) == 0;
}

static int
set_path(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	char *path = NULL;
	int rc;

	if (says_none(key, value))
		return replace_text(conf, key, NULL);
	rc = confvalue_path(value, &path, err);
	if (rc != 0)
		return rc;
	if (strcmp(path, "/") == 0)
		rc = err_set(err, EINVAL, "'/' is not a directory of its own");
	else if (key->max > 0 && strlen(path) > (size_t)key->max)
		rc = err_set(err, EINVAL, "'%s' is longer than %lld bytes: leave room for a "
			     "socket's name", path, (long long)key->max);
	if (rc != 0) {
		free(path);
		return rc;
	}
	return replace_text(conf, key, path);
}

static void
show_text(const struct conf *conf, const struct confkey *key, struct buf *out)
{
	char *const *p = slot_const(conf, key);

	buf_puts(out, *p != NULL ? *p : key->none);
}

static int
set_account(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	char *name = NULL;
	int rc;

	if (says_none(key, value))
		return replace_text(conf, key, NULL);
	rc = confvalue_account(value, &name, err);
	return rc != 0 ? rc : replace_text(conf, key, name);
}

static int
set_proxy(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	char *url = NULL;
	int rc;

	if (says_none(key, value))
		return replace_text(conf, key, NULL);
	rc = confvalue_proxy(value, &url, err);
	return rc != 0 ? rc : replace_text(conf, key, url);
}

static int
set_text(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	char *text = NULL;
	int rc;

	if (says_none(key, value))
		return replace_text(conf, key, NULL);
	rc = confvalue_text(value, &text, err);
	return rc != 0 ? rc : replace_text(conf, key, text);
}

static int
set_variables(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	char *text = NULL;
	int rc;

	if (says_none(key, value))
		return replace_text(conf, key, NULL);
	rc = confvalue_variables(value, &text, err);
	return rc != 0 ? rc : replace_text(conf, key, text);
}

static int
set_url(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	char *url = NULL;
	int rc;

	if (says_none(key, value))
		return replace_text(conf, key, NULL);
	rc = confvalue_url(value, &url, err);
	return rc != 0 ? rc : replace_text(conf, key, url);
}

static void
show_proxy(const struct conf *conf, const struct confkey *key, struct buf *out)
{
	if (conf->proxy == NULL)
		buf_puts(out, key->none);
	else
		confvalue_add_proxy(out, conf->proxy);
}

static int
set_span(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	int64_t *p = slot(conf, key), seconds = 0;
	int rc = 0;

	if (!says_none(key, value))
		rc = confvalue_span(value, key->min, key->max, &seconds, err);
	if (rc == 0)
		*p = seconds;
	return rc;
}

static void
show_span(const struct conf *conf, const struct confkey *key, struct buf *out)
{
	const int64_t *p = slot_const(conf, key);

	if (*p == 0 && key->none != NULL)
		buf_puts(out, key->none);
	else
		confvalue_add_span(out, *p);
}

static int
set_number(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	int64_t *p = slot(conf, key), n;
	int rc = confvalue_number(value, key->min, key->max, &n, err);

	if (rc == 0)
		*p = n;
	return rc;
}

static void
show_number(const struct conf *conf, const struct confkey *key, struct buf *out)
{
	const int64_t *p = slot_const(conf, key);

	buf_printf(out, "%lld", (long long)*p);
}

static int
set_size(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	int64_t *p = slot(conf, key), n = 0;
	int rc = 0;

	if (!says_none(key, value))
		rc = confvalue_size(value, &n, err);
	if (rc == 0)
		*p = n;
	return rc;
}

static void
show_size(const struct conf *conf, const struct confkey *key, struct buf *out)
{
	const int64_t *p = slot_const(conf, key);

	if (*p == 0 && key->none != NULL)
		buf_puts(out, key->none);
	else
		confvalue_add_size(out, *p);
}

static int
set_choice(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	int *p = slot(conf, key), chosen;
	int rc = confvalue_choice(value, key->words, &chosen, err);

	if (rc == 0)
		*p = chosen;
	return rc;
}

static void
show_choice(const struct conf *conf, const struct confkey *key, struct buf *out)
{
	const int *p = slot_const(conf, key);

	buf_puts(out, key->words[*p]);
}

static int
set_keep(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	int keep = KEEP_AGE;
	int64_t age = 0;
	int rc = 0;

	if (strcmp(value, "always") == 0)
		keep = KEEP_ALWAYS;
	else if (strcmp(value, "never") == 0)
		keep = KEEP_NEVER;
	else
		rc = confvalue_span(value, key->min, key->max, &age, err);
	if (rc != 0)
		return err_set(err, EINVAL,
			       "'%s' is not 'always', 'never' or a span of time such as 30d",
			       value);
	conf->expire_keep = keep;
	conf->expire_keep_age = age;
	return 0;
}

static void
show_keep(const struct conf *conf, const struct confkey *key, struct buf *out)
{
	(void)key;
	if (conf->expire_keep == KEEP_AGE)
		confvalue_add_span(out, conf->expire_keep_age);
	else
		buf_puts(out, conf->expire_keep == KEEP_ALWAYS ? "always" : "never");
}

static int
set_min_free(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	int64_t bytes = 0;
	int percent = -1, rc;

	(void)key;
	if (confvalue_is_percent(value))
		rc = confvalue_percent(value, &percent, err);
	else
		rc = confvalue_size(value, &bytes, err);
	if (rc != 0)
		return rc;
	conf->cache_min_free_percent = percent;
	conf->cache_min_free = bytes;
	return 0;
}

static void
show_min_free(const struct conf *conf, const struct confkey *key, struct buf *out)
{
	(void)key;
	if (conf->cache_min_free_percent >= 0)
		buf_printf(out, "%d%%", conf->cache_min_free_percent);
	else
		confvalue_add_size(out, conf->cache_min_free);
}

static const char *const level_words[] = { "error", "warning", "info", "debug", NULL };

static int
set_level(struct conf *conf, const struct confkey *key, const char *value, struct err *err)
{
	int chosen, rc = confvalue_choice(value, key->words, &chosen, err);

	if (rc == 0)
		conf->log_level = (enum log_level)chosen;
	return rc;
}

static void
show_level(const struct conf *conf, const struct confkey *key, struct buf *out)
{
	buf_puts(out, key->words[conf->log_level]);
}

static const char *const no_yes[] = { "no", "yes", NULL };
static const char *const none_all[] = { "none", "all", NULL };
static const char *const allow_deny[] = { "allow", "deny", NULL };
static const char *const prefetch_words[] = { "auto", "never", "always", NULL };
static const char *const fill_words[] = { "idle", "never", "now", NULL };
static const char *const integrity_words[] = { "read", "open", NULL };
static const char *const log_words[] = { "syslog", "stderr", NULL };

#define AT(field) .offset = offsetof(struct conf, field)
#define PATH .set = set_path, .show = show_text
#define SPAN .set = set_span, .show = show_span
#define ACCOUNT .set = set_account, .show = show_text
#define CHOICE(list) .set = set_choice, .show = show_choice, .words = list

static const struct confkey keys[] = {
	{ "state_dir", "/var/lib/vmimagefs", AT(state_dir), PATH },
	{ "cache_dir", "/var/cache/vmimagefs", AT(cache_dir), PATH },
	{ "run_dir", "/run/vmimagefs", AT(run_dir), PATH, .max = RUN_DIR_MAX },
	{ "cert_dir", "/etc/grid-security/certificates", AT(cert_dir), PATH },
	{ "mountpoint", "/vmimages", AT(mountpoint), PATH },
	{ "tls_ca", "system", AT(tls_ca), PATH, .none = "system" },
	{ "file_prefix", "none", AT(file_prefix), PATH, .none = "none" },
	{ "update_interval", "6h", AT(update_interval), SPAN, .none = "off",
	  .min = 10, .max = YEAR },
	{ "expire_interval", "60s", AT(expire_interval), SPAN, .min = 1, .max = HOUR },
	{ "max_valid_time", "off", AT(max_valid_time), SPAN, .none = "off",
	  .min = 60, .max = 100LL * YEAR },
	{ "crl_strict", "no", AT(crl_strict), CHOICE(no_yes) },
	{ "select_new", "none", AT(select_new), CHOICE(none_all) },
	{ "expire_keep", "always", .set = set_keep, .show = show_keep,
	  .min = 0, .max = 100LL * YEAR },
	{ "expired_open", "allow", AT(expired_open_deny), CHOICE(allow_deny) },
	{ "cache_size", "unlimited", AT(cache_size), .set = set_size, .show = show_size,
	  .none = "unlimited" },
	{ "cache_min_free", "5%", .set = set_min_free, .show = show_min_free },
	{ "evict_selected", "no", AT(evict_selected), CHOICE(no_yes) },
	{ "read_timeout", "1h", AT(read_timeout), SPAN, .min = 0, .max = YEAR },
	{ "block_timeout", "25s", AT(block_timeout), SPAN, .min = 1, .max = YEAR },
	{ "watchdog", "2m", AT(watchdog), SPAN, .none = "off", .min = 1, .max = DAY },
	{ "connect_timeout", "15s", AT(connect_timeout), SPAN, .min = 1, .max = HOUR },
	{ "stall_timeout", "30s", AT(stall_timeout), SPAN, .min = 1, .max = HOUR },
	{ "fetch_parallel", "4", AT(fetch_parallel), .set = set_number, .show = show_number,
	  .min = 1, .max = 64 },
	{ "limit_rate", "off", AT(limit_rate), .set = set_size, .show = show_size, .none = "off" },
	{ "proxy", "none", AT(proxy), .set = set_proxy, .show = show_proxy, .none = "none" },
	{ "prefetch", "auto", AT(prefetch), CHOICE(prefetch_words) },
	{ "fill", "idle", AT(fill), CHOICE(fill_words) },
	{ "attestation", "none", AT(attestation), .set = set_url, .show = show_text,
	  .none = "none" },
	{ "integrity", "read", AT(integrity), CHOICE(integrity_words) },
	{ "event_command", "none", AT(event_command), .set = set_text, .show = show_text,
	  .none = "none" },
	{ "event_dir", CONF_DEFAULT_EVENT_DIR, AT(event_dir), PATH, .none = "none" },
	{ "event_user", "user", AT(event_user), ACCOUNT, .none = "user" },
	{ "event_env", "none", AT(event_env), .set = set_variables, .show = show_text,
	  .none = "none" },
	{ "event_timeout", "10m", AT(event_timeout), SPAN, .min = 1, .max = DAY },
	{ "handler_dir", CONF_DEFAULT_HANDLER_DIR, AT(handler_dir), PATH },
	{ "handler_group", "primary", AT(handler_group), ACCOUNT, .none = "primary" },
	{ "user", "vmimagefs", AT(user), ACCOUNT },
	{ "group", "primary", AT(group), ACCOUNT, .none = "primary" },
	{ "log", "syslog", AT(log_to_stderr), CHOICE(log_words) },
	{ "log_level", "info", .set = set_level, .show = show_level, .words = level_words },
};

enum { N_KEYS = sizeof(keys) / sizeof(keys[0]) };

/* Keys that the documentation promises for features which this version does not have. */
static const char *const later[] = {
	"mirror", NULL
};

const struct confkey *
confkey_at(size_t i)
{
	return i < N_KEYS ? &keys[i] : NULL;
}

const struct confkey *
confkey_find(const char *name)
{
	for (size_t i = 0; i < N_KEYS; i++)
		if (strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

bool
confkey_is_later(const char *name)
{
	for (size_t i = 0; later[i] != NULL; i++) {
		size_t len = strlen(later[i]);

		if (strncmp(name, later[i], len) == 0 && (name[len] == '\0' || name[len] == '.'))
			return true;
	}
	return false;
}
