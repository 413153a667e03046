/*
 * rangeplan.h - which granules of an image to ask for next.  Pure: no I/O, no clock, no lock.
 *
 * It knows what readers wish for, what is being fetched, and where readers go on sequentially; what
 * is here already is told by whoever asks.  Three kinds of ranges, in the order of their urgency:
 *
 *	WANTED  the oldest wish that can be asked for, joined with wishes near it (one granule that
 *	        nobody wished for may lie between), and with the read-ahead of its reader
 *	AHEAD   what a sequential reader will want
 *	FILL    anything that is missing
 *
 * Read-ahead belongs to a run: wishes that follow each other, and of which some were answered
 * before the next was made, so that one large read, or what the kernel asks for around one page
 * fault, is no sequence yet.  It is as long as a quarter of the run so far, and as long as the
 * run once that is certain to be a stream (RANGEPLAN_SURE), up to the maximum.  A wish elsewhere
 * begins a run of its own without read-ahead: random reads fetch their granules and no others.
 *
 * A granule is in no two ranges in flight, so each is landed by one thread.
 */
#ifndef VMI_RANGEPLAN_H
#define VMI_RANGEPLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	RANGEPLAN_GAP = 1,		/* granules: cheaper to fetch than to ask twice */
	RANGEPLAN_LATE = 8,		/* granules: parts of one read overtake each other */
	RANGEPLAN_SURE = 128,		/* granules, 32 MiB */
	RANGEPLAN_RUNS = 8,		/* sequential readers that are told apart */
	RANGEPLAN_FLIGHTS = 64,
};

struct range {
	int64_t first, n;		/* granules */
};

enum range_kind { RANGE_WANTED, RANGE_AHEAD, RANGE_FILL };

/* The first granule at or after from that may be asked for, *n: how many follow it; -1: none. */
struct rangeplan_missing {
	int64_t (*fn)(void *arg, int64_t from, int64_t *n);
	void *arg;
};

struct rangeplan;

struct rangeplan *rangeplan_new(int64_t n_granules, int64_t ahead_max);
void rangeplan_free(struct rangeplan *p);	/* NULL is fine */

/* A reader waits for these, which are not here; now: any clock that does not go back. */
void rangeplan_want(struct rangeplan *p, int64_t first, int64_t n, long long now);

/*
 * The next range of this kind, of 1..max granules: false if there is none.  Changes nothing: it is
 * in flight from rangeplan_begin() until rangeplan_end().
 */
bool rangeplan_next(const struct rangeplan *p, const struct rangeplan_missing *missing,
		    enum range_kind kind, int64_t max, struct range *out);
void rangeplan_begin(struct rangeplan *p, const struct range *r);
void rangeplan_end(struct rangeplan *p, const struct range *r);
bool rangeplan_has_room(const struct rangeplan *p);	/* for one more in flight */
size_t rangeplan_n_flights(const struct rangeplan *p);

/* Granule g is here now.  True if a reader waited for it. */
bool rangeplan_landed(struct rangeplan *p, int64_t g);

bool rangeplan_wishes(const struct rangeplan *p, int64_t g);	/* somebody waits for it */

/* Whether somebody waits at all, and since when the longest. */
bool rangeplan_waits(const struct rangeplan *p, long long *since);

/* Forgets wishes for what is not missing (any more). */
void rangeplan_prune(struct rangeplan *p, const struct rangeplan_missing *missing);

/*
 * Takes back wishes: those within a range; the next one, or the next that is not in flight
 * (false: none).
 */
void rangeplan_drop(struct rangeplan *p, const struct range *r);
bool rangeplan_pop(struct rangeplan *p, bool in_flight_too, struct range *out);

#endif
