/*
 * outbox.h - the part of the catalogue that tells what happened: events, the handlers that are to
 * be told, and what came of it.
 *
 * As catalogue.h: one thread a catalogue; what changes rows works in the caller's transaction.
 */
#ifndef VMI_OUTBOX_H
#define VMI_OUTBOX_H

#include <stddef.h>
#include <stdint.h>
#include "catalogue.h"
#include "err.h"

/*
 * Types are vmcatcher's: ProcessPrefix, SubscriptionImageNew, ExpirePrefix, ExpirePostfix,
 * AvailablePrefix, AvailablePostfix, ProcessPostfix; and ours: CorruptFound, CorruptHealed.
 * Events are written in the transaction of what they tell of.  A transaction with events of images
 * is one session: it begins with ProcessPrefix and ends with ProcessPostfix, all with one session
 * uuid (SubscriptionImageNew alone calls for neither, as vmcatcher_subscribe has none).  For each
 * handler that is registered a delivery is written with the event.
 *
 * SubscriptionImageNew tells of an image that a list names and the subscription did not know, be
 * it accepted or refused; the first list of a subscription is no news.
 *
 * json is the whole record, one object on one line: uuid, session, time, type, subscription,
 * filename, reason ("" if none), every field of the image by its name in field_table (column; ""
 * if empty, size a number), and as `metadata` the hv:image object of the list.  Process events
 * have the first four alone.
 */
enum event_state { EVENT_NO_HANDLER, EVENT_DELIVERED, EVENT_WAITING, EVENT_FAILED };
const char *event_state_name(enum event_state s);	/* none delivered waiting failed */

struct event_row {
	int64_t id;
	char *uuid;			/* unique */
	char *session;			/* uuid, shared by the events of one transaction */
	int64_t time;
	char *type;			/* AvailablePostfix, ... */
	char *identifier, *list_id;	/* of the image, "" if none */
	char *json;
	enum event_state state;		/* over all handlers: the worst */
	int tries;			/* the most of any handler */
	char *error;			/* of the last try that failed, "" */
};
void event_row_release(struct event_row *r);
/* The last n, oldest first. */
int catalogue_event_each(struct catalogue *c, int64_t after_id, int last_n,
			 int (*fn)(void *arg, const struct event_row *r), void *arg,
			 struct err *err);
int64_t catalogue_event_last(struct catalogue *c);
/* By number, uuid or a unique prefix of it (4 or more).  -ENOENT, -ENOTUNIQ. */
int catalogue_event_find(struct catalogue *c, const char *what, struct event_row *out,
			 struct err *err);
/* Has it delivered again, to every handler that takes its type, as if it were new. */
int catalogue_event_replay(struct catalogue *c, int64_t id, struct err *err);

/*
 * Removes events that are over: all but the last LIMIT_EVENTS_KEPT, and those that wait or are the
 * last Available ones of an announced image.  Handlers that nobody has used for
 * LIMIT_HANDLER_IDLE_DAYS, be it because the daemon does not run, go with what waited for them; a
 * clock that leaps makes nobody idle.
 */
int catalogue_event_prune(struct catalogue *c, struct err *err);

/*
 * Handlers.  Those of the daemon are told of everything; those given to vmcatcher_cache (-x) of
 * Available, Expire and Corrupt events, and of the Process events of their own runs; those given to
 * vmcatcher_subscribe (-x) of SubscriptionImageNew.  One that is new is told of what is available
 * already (the last Available events of announced images), so that it can begin at any time.
 */
enum handler_kind { HANDLER_DAEMON, HANDLER_CACHE, HANDLER_SUBSCRIBE };

/* The daemon's handlers are these now: new ones are added, deliveries to others are dropped. */
int catalogue_handlers_set(struct catalogue *c, const char *const *names, size_t n,
			   struct err *err);
/* The daemon is there, also when nothing happens: its handlers are not forgotten. */
int catalogue_handlers_seen(struct catalogue *c, int64_t now, struct err *err);
/* How many the daemon has. */
int catalogue_handlers_count(struct catalogue *c, size_t *n, struct err *err);
/*
 * A handler of a command, by its command line: found or added.  One that was not used for
 * LIMIT_HANDLER_IDLE_DAYS is forgotten (catalogue_event_prune()).
 */
int catalogue_handler_use(struct catalogue *c, enum handler_kind kind, const char *name,
			  int64_t now, int64_t *id, struct err *err);

/* A Process event of a run of vmcatcher_cache, for its handler alone. */
int catalogue_event_process(struct catalogue *c, const char *type, const char *session,
			    int64_t handler, int64_t now, struct err *err);

struct delivery {
	int64_t handler;
	enum handler_kind kind;
	char *name;			/* of the handler */
	int tries;			/* that failed so far */
	struct event_row event;
};
void delivery_release(struct delivery *d);

/*
 * The next event that is due for this handler (0: for any of the daemon's that is not in
 * busy[0..n)), oldest first: 1 and *out, or 0 and *next_due (seconds UTC, INT64_MAX: nothing
 * waits).  An event of an image waits while an earlier one of that image still waits for this
 * handler; one that has failed LIMIT_EVENT_TRIES times holds nothing back any more.  Process
 * events of a command's own run come before and after everything else that waits for it.
 */
int catalogue_delivery_next(struct catalogue *c, int64_t handler, const int64_t *busy, size_t n,
			    int64_t now, struct delivery *out, int64_t *next_due, struct err *err);
/*
 * What came of it.  why NULL: it was taken.  Otherwise it is tried again at next_try, up to
 * LIMIT_EVENT_TRIES times; Process events are tried once.  A next_try that is further away than
 * LIMIT_EVENT_BACKOFF_MAX was noted by a clock that was wrong, and is due.
 */
int catalogue_delivery_done(struct catalogue *c, int64_t event, int64_t handler, const char *why,
			    int64_t next_try, struct err *err);

/* Events that some handler is still to be told of, or did not take. */
int catalogue_delivery_count(struct catalogue *c, int64_t *waiting, int64_t *failed,
			     struct err *err);

#endif
