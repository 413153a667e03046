/*
 * lanehost.h - how many requests a server gets at a time, and when it wants to be left alone.
 *
 * A server may refuse a second connection with 503 (or 429).  It is asked by one lane alone
 * then, the one whose connection it kept, for LANEHOST_CAREFUL_MS; one that refuses while nothing
 * else is asked of it is left alone for longer and longer.  No lock of its own: the lanes' lock
 * covers it.
 */
#ifndef VMI_LANEHOST_H
#define VMI_LANEHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LANEHOST_CAREFUL_MS = 60000, LANEHOST_REST_MS = 500, LANEHOST_REST_MAX_MS = 30000 };

struct lanehost {
	struct lanehost *next;
	char *name;			/* scheme://host:port */
	int n_refs;
	int n_active;			/* requests that run */
	int n_refused;			/* in a row */
	long long rest_until;		/* not asked before */
	long long careful_until;	/* one request at a time until then */
	int n_lanes;			/* that have a connection to it, used or warm */
};

/* The one for this URL in the list at head, made if need be. */
struct lanehost *lanehost_get(struct lanehost **head, const char *uri);
struct lanehost *lanehost_ref(struct lanehost *h);
void lanehost_put(struct lanehost **head, struct lanehost *h);	/* NULL is fine */

/* scheme://host:port of a URL; caller frees. */
char *lanehost_name(const char *uri);

/*
 * May a lane ask it, that has a connection to it (knows) or not?  At most per_host at a time and
 * as many connections.  If only time has to pass, *next becomes the earlier of itself and that
 * time.
 */
bool lanehost_may_ask(const struct lanehost *h, bool knows, int per_host, long long now,
		      long long *next);

/* One request ended, already counted out of n_active: with a 503 or without. */
void lanehost_refused(struct lanehost *h, int retry_after, long long now);
void lanehost_answered(struct lanehost *h);

#endif
