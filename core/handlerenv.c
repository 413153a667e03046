/*
 * handlerenv.c - which variables a handler gets.
 *
 * Those of an event come from the process that reads the lists.  They are taken if their names are
 * ones that events have, and no other: whatever that process may be made to say, it does not
 * choose what is loaded or executed here.
 */
#include "config.h"
#include "handlerenv.h"

#include <ctype.h>
#include <locale.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

extern char **environ;

enum { N_EVENT_VARIABLES = 100 };	/* more than four times as many as any event has */

static const char usual_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static size_t
name_length(const char *variable)
{
	return strcspn(variable, "=");
}

/* Takes variable, in the place of one of the same name. */
static void
set(struct handlerenv *env, char *variable)
{
	size_t len = name_length(variable);

	for (size_t i = 0; i < env->n; i++) {
		if (name_length(env->at[i]) == len && strncmp(env->at[i], variable, len) == 0) {
			free(env->at[i]);
			env->at[i] = variable;
			return;
		}
	}
	env->at = xrealloc(env->at, (env->n + 2) * sizeof(*env->at));
	env->at[env->n++] = variable;
	env->at[env->n] = NULL;
}

static void
set_value(struct handlerenv *env, const char *name, const char *value)
{
	if (value != NULL)
		set(env, xasprintf("%s=%s", name, value));
}

/* Our own commands first: handlers call vmcatcher_image by its name. */
static void
set_path(struct handlerenv *env, const char *rest)
{
	const char *named = secure_getenv("VMIMAGEFS_LIBEXECDIR");
	CLEANUP_FREE char *dir = NULL;

	if (named != NULL && *named != '\0')
		dir = realpath(named, NULL);
	if (dir == NULL)
		dir = xstrdup(BINDIR);
	set(env, xasprintf("PATH=%s:%s", dir, rest));
}

void
handlerenv_release(struct handlerenv *env)
{
	for (size_t i = 0; i < env->n; i++)
		free(env->at[i]);
	free(env->at);
	memset(env, 0, sizeof(*env));
}

void
handlerenv_copy(struct handlerenv *env, const struct handlerenv *from)
{
	memset(env, 0, sizeof(*env));
	for (size_t i = 0; i < from->n; i++)
		set(env, xstrdup(from->at[i]));
}

/* ---- of a daemon ----------------------------------------------------------------------------- */

static void
set_locale(struct handlerenv *env)
{
	locale_t utf8 = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);

	set_value(env, "LC_ALL", utf8 != (locale_t)0 ? "C.UTF-8" : "C");
	if (utf8 != (locale_t)0)
		freelocale(utf8);
}

/* So that a command that a handler calls means this store. */
static void
set_config(struct handlerenv *env, const struct conf *conf)
{
	CLEANUP_FREE char *path = NULL;

	if (conf->file == NULL || strcmp(conf->file, CONF_DEFAULT_FILE) == 0)
		return;
	path = realpath(conf->file, NULL);
	set_value(env, "VMIMAGEFS_CONFIG", path != NULL ? path : conf->file);
}

/* "NAME" is ours, "NAME=VALUE" is as it stands. */
static void
set_configured(struct handlerenv *env, const char *words)
{
	static const char white[] = " \t";

	if (words == NULL)
		return;
	for (words += strspn(words, white); *words != '\0'; words += strspn(words, white)) {
		size_t len = strcspn(words, white);
		CLEANUP_FREE char *word = xstrndup(words, len);

		if (strchr(word, '=') != NULL)
			set(env, steal_ptr(&word));
		else
			set_value(env, word, getenv(word));
		words += len;
	}
}

void
handlerenv_daemon(struct handlerenv *env, const struct conf *conf, const struct account *who)
{
	memset(env, 0, sizeof(*env));
	set_path(env, usual_path);
	if (who != NULL) {
		set_value(env, "HOME", who->home);
		set_value(env, "USER", who->name);
		set_value(env, "LOGNAME", who->name);
	}
	set_locale(env);
	set_value(env, "TZ", getenv("TZ"));
	set_config(env, conf);
	/* Where programs of a build tree find each other. */
	set_value(env, "VMIMAGEFS_LIBEXECDIR", secure_getenv("VMIMAGEFS_LIBEXECDIR"));
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	set_value(env, "ASAN_OPTIONS", getenv("ASAN_OPTIONS"));
	set_value(env, "UBSAN_OPTIONS", getenv("UBSAN_OPTIONS"));
	set_value(env, "TSAN_OPTIONS", getenv("TSAN_OPTIONS"));
#endif
	set_configured(env, conf->event_env);
}

/* ---- of a command ---------------------------------------------------------------------------- */

/* A name, or with '*' all that begin so. */
static const char *const withheld[] = {
	"LD_*", "GCONV_PATH", "GLIBC_TUNABLES", "GETCONF_DIR", "HOSTALIASES", "LOCALDOMAIN",
	"LOCPATH", "MALLOC_*", "NIS_PATH", "NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS",
	"IFS", "ENV", "BASH_ENV", "BASH_FUNC_*", "BASHOPTS", "SHELLOPTS", "CDPATH", "GLOBIGNORE",
	"PS4", "PROMPT_COMMAND",
	"OPENSSL_*", "SSLKEYLOGFILE",
	"VMCATCHER_EVENT_*",
};

static bool
is_withheld(const char *variable)
{
	size_t len = name_length(variable);

	for (size_t i = 0; i < sizeof(withheld) / sizeof(withheld[0]); i++) {
		size_t n = strlen(withheld[i]);

		if (withheld[i][n - 1] == '*' ? strncmp(variable, withheld[i], n - 1) == 0
					      : n == len && strncmp(variable, withheld[i], n) == 0)
			return true;
	}
	return variable[len] != '=' || len == 0;
}

void
handlerenv_command(struct handlerenv *env)
{
	const char *path = getenv("PATH");

	memset(env, 0, sizeof(*env));
	for (char **e = environ; e != NULL && *e != NULL; e++)
		if (!is_withheld(*e))
			set(env, xstrdup(*e));
	set_path(env, path != NULL && *path != '\0' ? path : usual_path);
}

/* ---- of an event ----------------------------------------------------------------------------- */

static bool
is_of_event(const char *variable)
{
	static const char *const prefixes[] = { "VMCATCHER_EVENT_", "VMCATCHER_CACHE_DIR_" };
	size_t len = name_length(variable);

	if (variable[len] != '=')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isupper((unsigned char)variable[i]) && !isdigit((unsigned char)variable[i]) &&
		    variable[i] != '_')
			return false;
	if (strncmp(variable, "VMCATCHER_RDBMS=", 16) == 0)
		return true;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(variable, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

void
handlerenv_add_event(struct handlerenv *env, const struct buf *variables)
{
	const char *at = variables->data, *end = at + variables->len;
	int n = 0;

	while (at < end && n < N_EVENT_VARIABLES) {
		size_t len = strnlen(at, (size_t)(end - at));

		n++;
		if (is_of_event(at))
			set(env, xstrndup(at, len));
		at += len + 1;
	}
}
