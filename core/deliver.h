/*
 * deliver.h - brings events from the outbox to handlers: at least once, in order for each image,
 * one at a time for each handler.
 *
 * Used by the engine of a daemon (deliver_fd() in its poll loop) and, blocking, by vmcatcher_cache
 * and vmcatcher_subscribe.  One thread: that of the catalogue.  What a handler wrote goes to the
 * log, escaped and cut; a handler that failed is tried again after LIMIT_EVENT_BACKOFF_MIN
 * seconds, doubling, up to LIMIT_EVENT_TRIES times; then the event stays FAILED until `replay`.
 * Process events are tried once.
 */
#ifndef VMI_DELIVER_H
#define VMI_DELIVER_H

#include <stdbool.h>
#include <stdint.h>
#include "catalogue.h"
#include "conf.h"
#include "err.h"
#include "handlerdir.h"
#include "handlers.h"
#include "outbox.h"
#include "runner.h"

struct deliver;

struct deliver_config {
	struct catalogue *catalogue;	/* borrows */
	struct runner *runner;		/* borrows */
	struct handlerdir *dir;		/* borrows; NULL: no directories (vmcatcher_subscribe) */
	int64_t handler;		/* of a command; 0: those of catalogue_handlers_set() */
	struct event_setting setting;	/* borrows its strings */
	/*
	 * May be NULL.  A handler has ended, well or not: status as waitpid()'s (127 << 8 with the
	 * reason in output, too, if it could not be started).  What it wrote is then not logged
	 * here.
	 */
	void (*ended)(void *arg, const struct event_row *event, int status, bool timed_out,
		      const char *output);
	void *arg;
};

int deliver_new(struct deliver **out, const struct deliver_config *config, struct err *err);
void deliver_free(struct deliver *d);

/*
 * Takes what has ended, starts what is due at now.  Never waits for a handler.  After an error
 * (the catalogue, or -EPIPE: the runner has ended) nothing is lost: what was not noted is
 * delivered again.
 */
int deliver_run(struct deliver *d, int64_t now, struct err *err);
int deliver_fd(const struct deliver *d);
/* Milliseconds until deliver_run() has something to do without deliver_fd(); -1: nothing waits. */
int deliver_wait(const struct deliver *d, int64_t now);

/*
 * Delivers all that is due now and returns when it is over (bounded by event_timeout each).
 * *n_failed tries failed.
 */
int deliver_all(struct deliver *d, int *n_failed, struct err *err);

#endif
