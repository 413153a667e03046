/*
 * conf.h - the configuration: /etc/vmimagefs/vmimagefs.conf and conf.d, or one file named by -c
 * or VMIMAGEFS_CONFIG (then no drop-ins are read).
 *
 * "key = value", '#' comments.  An unknown or ill-formed key, or one repeated in the same file, is
 * an error with file and line; a drop-in overrides the main file.  Keys that belong to features
 * of a later version are refused as "not in this version". The table in conf.c drives parsing,
 * defaults and `config show`.  A struct conf does not change after conf_load(); reloading makes
 * a new one.
 */
#ifndef VMI_CONF_H
#define VMI_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "buf.h"
#include "err.h"
#include "log.h"

#define CONF_DEFAULT_FILE "/etc/vmimagefs/vmimagefs.conf"
#define CONF_DEFAULT_DROPINS "/etc/vmimagefs/conf.d"
#define CONF_DEFAULT_EVENT_DIR "/etc/vmimagefs/handlers.d"
#define CONF_DEFAULT_HANDLER_DIR "/var/lib/vmimagefs/vmcatcher"

enum conf_select { SELECT_NONE, SELECT_ALL };
enum conf_prefetch { PREFETCH_AUTO, PREFETCH_NEVER, PREFETCH_ALWAYS };
enum conf_fill { FILL_IDLE, FILL_NEVER, FILL_NOW };
enum conf_integrity { INTEGRITY_READ, INTEGRITY_OPEN };
enum conf_keep { KEEP_ALWAYS, KEEP_NEVER, KEEP_AGE };

/* Values of a key that hold for one list each: NAME.LIST. */
struct conf_lists {
	struct conf_of_list {
		char *list;
		char *value;	/* NULL: none, whatever NAME says */
	} *at;
	size_t n;
};

struct conf {
	char *state_dir, *cache_dir, *run_dir, *cert_dir, *mountpoint;
	char *tls_ca;			/* NULL: system store */
	char *file_prefix;		/* NULL: file:// images are refused; no trailing slash */
	int64_t update_interval;	/* seconds; 0: off */
	int64_t expire_interval;	/* seconds */
	int64_t max_valid_time;		/* seconds; 0: off */
	int crl_strict;			/* boolean */
	int select_new;			/* enum conf_select */
	int expire_keep;		/* enum conf_keep */
	int64_t expire_keep_age;	/* seconds, for KEEP_AGE */
	int expired_open_deny;		/* boolean */
	int64_t cache_size;		/* bytes; 0: unlimited */
	int evict_selected;		/* boolean */
	int cache_min_free_percent;	/* of the file system; -1: cache_min_free is in bytes */
	int64_t cache_min_free;		/* bytes, when the percentage is -1 */
	int64_t read_timeout;		/* seconds; 0: EAGAIN at once */
	int64_t block_timeout;		/* seconds; of a read that waits for blocks alone */
	int64_t watchdog;		/* seconds; 0: off */
	int64_t connect_timeout, stall_timeout;	/* seconds */
	int64_t fetch_parallel;		/* 1..64 */
	int64_t limit_rate;		/* bytes a second of one transfer; 0: off */
	char *proxy;			/* NULL: none, whatever the environment says */
	int prefetch;			/* enum conf_prefetch */
	int fill;			/* enum conf_fill */
	int integrity;			/* enum conf_integrity */
	char *attestation;		/* URL of signed block digests for all lists; NULL: none */
	char *event_command;		/* run by /bin/sh -c for every event; NULL: none */
	/* Every program in it is a handler, too; NULL: none, as by default with one file named. */
	char *event_dir;
	char *event_user;		/* NULL: user */
	char *event_env;		/* NAMEs and NAME=VALUEs, white space between; or NULL */
	int64_t event_timeout;		/* seconds */
	char *handler_dir;		/* where vmcatcher's handlers look for images */
	char *handler_group;		/* may write cache/templates there; NULL: event_user's */
	char *user, *group;		/* group NULL: the user's */
	int log_to_stderr;		/* boolean; default syslog */
	enum log_level log_level;

	/* of conf_load() itself */
	char *file;			/* the main file read, NULL if only defaults hold */
	char *dropins;			/* the directory of drop-ins that was read, or NULL */
	struct conf_lists list_ca;	/* tls_ca.LIST */
	struct conf_lists list_attestation;	/* attestation.LIST */
	struct conf_origin *origins;	/* where each key came from, for config show */
	size_t n_origins;
};

/*
 * Reads the configuration.  file NULL means VMIMAGEFS_CONFIG (secure_getenv) or the default; a
 * missing default file gives the defaults, a missing named file is an error (-ENOENT).  A file
 * that is writable by others is refused (-EPERM).  *out is NULL on error; caller conf_free()s.
 */
int conf_load(const char *file, struct conf **out, struct err *err);

/*
 * The same with everything named: a file that may have to exist, and a directory of
 * drop-ins or NULL.
 */
int conf_load_from(const char *file, bool must_exist, const char *dropins, struct conf **out,
		   struct err *err);
/* Reads again what before was read from; what was set by conf_set() since stays as it was. */
int conf_load_again(const struct conf *before, struct conf **out, struct err *err);
void conf_free(struct conf *conf);

/*
 * Sets one key as if it stood in the file (options of the command line); origin names the
 * source.
 */
int conf_set(struct conf *conf, const char *key, const char *value, const char *origin,
	     struct err *err);

/* Whether the table has such a key (or it is tls_ca.LIST or attestation.LIST). */
bool conf_has_key(const char *key);

/* Whether it is a key of a feature that this version does not have. */
bool conf_is_later_key(const char *key);

/*
 * What no single key can say: the directories and the mount point do not lie in one
 * another.  To be repeated after conf_set().
 */
int conf_check(const struct conf *conf, struct err *err);

/* The CA file or directory for the servers of a list: tls_ca.LIST, else tls_ca, else NULL. */
const char *conf_tls_ca(const struct conf *conf, const char *list_id);

/* Where signed block digests for a list are: attestation.LIST, else attestation, else NULL. */
const char *conf_attestation(const struct conf *conf, const char *list_id);

/*
 * Calls fn for every key in the table's order with its value as text and its origin
 * ("default" or file:line).
 */
void conf_each(const struct conf *conf,
	       void (*fn)(void *arg, const char *key, const char *value, const char *origin),
	       void *arg);

/* user and group to ids; a missing user is an error that holds the useradd line.  */
int conf_ids(const struct conf *conf, uid_t *uid, gid_t *gid, struct err *err);

#endif
