/*
 * refresh.h - one subscription brought up to date: fetch, verify, judge, apply.  Blocking; for
 * processes that do nothing else meanwhile (vmimagectl and the updater that the daemon starts).
 *
 * A function that returns a negative errno value has changed nothing that is served; the reason
 * is in err and, where there is a subscription, in its row.
 */
#ifndef VMI_REFRESH_H
#define VMI_REFRESH_H

#include "candidate.h"
#include "catalogue.h"
#include "conf.h"
#include "err.h"
#include "starter.h"

struct refresh {
	const struct conf *conf;
	struct catalogue *catalogue;
	struct starter *starter;
	bool dry_run;
	/* As if every subscription had reset_version: for a dry run of it. */
	bool any_version;
	bool news;		/* do not say again what was said the last time */
	long long deadline; /* io_monotonic_ms() after which no fetch begins (CODE_SLOW); 0: none */
	/* May be NULL.  Warnings and changes, one line each, for the top to print or log. */
	void (*say)(void *arg, const char *text);
	/*
	 * May be NULL.  What came, before it is compared with the rows: verdict and list as far as
	 * they are known (list NULL: it has been refused already).  For whoever tells of it in
	 * words of his own.
	 */
	void (*examined)(void *arg, const struct candidate *candidate);
	void *arg;
};

/* What a new subscription begins with. */
struct refresh_wish {
	const char *url;			/* without userinfo */
	const char *username, *password;	/* NULL: none */
	const char *endorser; /* NULL: whoever is registered with the signer's names */
	bool auto_endorse;			/* registers the signer if nobody is */
	int select_new;				/* enum conf_select */
	bool refuse_new;			/* images of later lists are refused (32) */
	/*
	 * As vmcatcher subscribes: the images of the list become known, and none is available
	 * before the first refresh, which judges dates and version.  What is subscribed already, by
	 * this very URL, gets to know the images that are new, and is given credentials if there
	 * are any.
	 */
	bool define_only;
};

/*
 * Fetches and imports the first list of a new subscription; *id is its row.  All of it happens or
 * nothing.  result->same: it was subscribed before (define_only).
 */
int refresh_subscribe(const struct refresh *r, const struct refresh_wish *wish, int64_t *id,
		      struct update_result *result, struct err *err);

/* One subscription.  A refusal is recorded in its row; the good state before it stands. */
int refresh_subscription(const struct refresh *r, int64_t id, struct update_result *result,
			 struct err *err);

/*
 * Makes an examined candidate the subscription's list again, in one transaction, whatever its
 * version: it is the one we have (CODE_BUSY: not any more).
 */
int refresh_reapply(const struct refresh *r, int64_t id, const struct candidate *candidate,
		    struct err *err);

/* One line to say(). */
void refresh_say(const struct refresh *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
