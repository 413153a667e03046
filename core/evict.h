/*
 * evict.h - what leaves the cache when room is needed: a decision of rows and time, without I/O.
 *
 * What may go, and in which order:
 *
 *   quarantine     bytes that failed verification
 *   partial        part of an image that nobody reads or fetches now
 *   expired        no list names it any more: what was withdrawn first
 *   unselected     a list names it, but nobody selected it: what was used last, last
 *   filling        part of an image that is being fetched, nobody waiting, for one who does
 *   selected       the stored version of a selected image, only if evict_selected says so
 *
 * What is open, pinned, or in somebody's hands stays.  Nothing goes in vain: when all that may go
 * is not enough, nothing does; and nothing goes that is not needed for it.
 */
#ifndef VMI_EVICT_H
#define VMI_EVICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "digest.h"

/* In the order in which they go. */
enum evict_kind {
	EVICT_QUARANTINE, EVICT_PARTIAL, EVICT_EXPIRED, EVICT_UNSELECTED, EVICT_FILLING,
	EVICT_SELECTED,
	EVICT_NEVER,
};

/* What is known of an object that takes room. */
struct evict_facts {
	bool verified;		/* stored whole; otherwise in part */
	bool wanted;		/* a selected image of a list in force names it, now or to come */
	bool live;		/* an image of a list in force names it */
	bool pinned;
	bool open;
	bool busy;		/* somebody waits for it, or it is just being checked or healed */
	bool filling;		/* it is being fetched */
};
enum evict_kind evict_judge(const struct evict_facts *f);

struct evict_item {
	enum evict_kind kind;
	struct digest digest;
	int64_t bytes;		/* that its leaving frees */
	int64_t since;		/* of two of a kind the one with the smaller number goes first */
};

struct evict_policy {
	bool urgent;		/* somebody waits for the room: what is only filled may go */
	bool selected_too;	/* evict_selected */
	bool partly;		/* better some room than none: when over the limit already */
};

/*
 * Puts what is to go to the front of items, in the order in which it goes, and returns how many
 * these are.  0: nothing goes.  Then *possible, if not NULL, is how much could have been freed.
 */
size_t evict_plan(struct evict_item *items, size_t n, const struct evict_policy *policy,
		  int64_t lacking, int64_t *possible);

#endif
