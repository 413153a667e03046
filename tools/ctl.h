/*
 * ctl.h - what the verbs of vmimagectl share: configuration, output, and the way to the store.
 *
 * A verb is one function in a table.  It gets parsed options and arguments, opens what it needs
 * with ctl_open(), and returns an exit status.  What it changed it has committed before it prints;
 * closing, poking the daemon and flushing the output are done after it.
 *
 * A command started by root becomes `user` in ctl_open(): files that only root may read or
 * write (certificates, credentials, the destination of a copy) are opened before.
 */
#ifndef VMI_CTL_H
#define VMI_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include "core/catalogue.h"
#include "core/conf.h"
#include "core/refresh.h"
#include "core/starter.h"
#include "core/store.h"
#include "output.h"

struct ctl {
	struct output out;
	const char *config_file;	/* -c, or NULL */
	struct conf *conf;
	struct starter *starter;	/* NULL unless asked for */
	struct catalogue *catalogue;	/* NULL until ctl_open() */
	struct store *store;		/* NULL until ctl_open_store() */
	unsigned umask;			/* the caller's, for files of the caller's */
	bool poke;			/* rows were changed: tell the daemon at the end */
	bool confined;			/* opened with CTL_CONFINED */
};

/* The options of all verbs; which verb takes which stands in the table in vmimagectl.c. */
struct options {
	const char *subject, *issuer, *from_cert;
	const char *endorser, *select, *credentials;
	const char *state, *list, *purge;
	bool allow_sha1, any_purpose, blocks_only, auto_endorse, dry_run, reset_version;
	const char *output;
	const char *sign, *cert, *chain, *base_url, *out;
	const char *cache;
	bool all, deep, fix, recheck, follow, force, no_sidecar, news, binary;
};

typedef int (*verb_fn)(struct ctl *ctl, const struct options *opt, char **args, size_t n);

enum {
	CTL_WRITE = 1, /* makes directories, catalogue and store where there were never any */
	CTL_STARTER = 2, /* fetchers and verifiers will be needed (with the others they may be) */
	CTL_CHECK = 4, /* the catalogue is checked as a whole, and rebuilt if damaged */
	CTL_CONFINED = 8, /* in the sandbox of an updater, for good: opens nothing but the store */
	/* Only where something has been set up: otherwise says so, makes nothing. */
	CTL_SET_UP = 16,
};

/*
 * Becomes `user` if root, and opens the catalogue.  -EACCES names the path and the mode it needs.
 */
int ctl_open(struct ctl *ctl, unsigned flags, struct err *err);

/* Opens the store; own: becomes its owner (CODE_BUSY if a daemon or another command is). */
int ctl_open_store(struct ctl *ctl, bool own, struct err *err);

void ctl_close(struct ctl *ctl);

/* For refreshing and rechecking; lines go to standard error. */
void ctl_refresh(struct ctl *ctl, bool dry_run, struct refresh *r);

/* Reports the error and returns its exit status. */
int ctl_fail(struct ctl *ctl, const struct err *err);

/*
 * "VERB: why" on standard error with the verb's usage; verb "" is the program itself.  EXIT_USAGE.
 */
int ctl_usage(struct ctl *ctl, const char *verb, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* begin, fn, commit; or rollback. */
int ctl_transaction(struct ctl *ctl, int (*fn)(struct ctl *ctl, void *arg, struct err *err),
		    void *arg, struct err *err);

/* After a refresh: the messages of lists that were replaced go, when the daemon knows of it. */
int ctl_sweep_messages(struct ctl *ctl, struct err *err);

/* Finds a live image; the caller image_row_release()s it in every case. */
int ctl_find_image(struct ctl *ctl, const char *what, struct image_row *row, struct err *err);

/* The worst of two exit statuses that is told at the end: the last one that is not 0. */
static inline int
ctl_last_failure(int before, int now)
{
	return now != EXIT_DONE ? now : before;
}

/* cmd_trust.c */
int cmd_endorser_add(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_endorser_list(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_endorser_show(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_endorser_remove(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_endorser_link(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_endorser_unlink(struct ctl *ctl, const struct options *opt, char **args, size_t n);

/* cmd_lists.c */
int cmd_subscribe(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_unsubscribe(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_subscriptions(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_update(struct ctl *ctl, const struct options *opt, char **args, size_t n);

/* cmd_images.c */
int cmd_images(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_show(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_select(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_deselect(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_pin(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_unpin(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_path(struct ctl *ctl, const struct options *opt, char **args, size_t n);

/* cmd_fetch.c, cmd_verify.c, cmd_cache.c */
int cmd_fetch(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_get(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_verify(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_evict(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_expired(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_expire(struct ctl *ctl, const struct options *opt, char **args, size_t n);

/* cmd_attest.c, cmd_digest.c */
int cmd_attest(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_digest(struct ctl *ctl, const struct options *opt, char **args, size_t n);

/* cmd_import.c */
int cmd_import_vmcatcher(struct ctl *ctl, const struct options *opt, char **args, size_t n);

/* cmd_run.c, cmd_config.c */
int cmd_status(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_events(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_replay(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_reload(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_config_show(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_config_check(struct ctl *ctl, const struct options *opt, char **args, size_t n);
int cmd_config_init_cache(struct ctl *ctl, const struct options *opt, char **args, size_t n);

#endif
