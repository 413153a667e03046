/*
 * rangeplan.c - wishes, flights and runs; each a short list that is searched from end to end.
 *
 * Wishes are kept in the order of their arrival and never overlap, so that the longest waiting is
 * served first and each granule is asked for once.  There are as many as the kernel lets reads
 * wait, less those for the same granule.
 *
 *	wish    added by want() less what is wished already; cut by landed(), drop(), pop()
 *	flight  from begin() to end(); wishes in it stay, and can be asked for again after the end
 *	run     start ... pos: wished one after the other; pos ... ahead: what to read ahead
 */
#include "config.h"
#include "rangeplan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

struct wish {
	struct range range;
	long long since;
};

struct run {
	int64_t length;			/* granules wished in sequence; 0: unused */
	int64_t pos;			/* after the last one */
	int64_t ahead;			/* end of the read-ahead, >= pos */
	bool answered;			/* one of them has landed */
	uint64_t used;			/* when, for replacing the one not used longest */
};

struct rangeplan {
	int64_t n_granules, ahead_max;
	struct wish *wishes;
	size_t n_wishes, room;
	struct range flights[RANGEPLAN_FLIGHTS];
	size_t n_flights;
	struct run runs[RANGEPLAN_RUNS];
	uint64_t clock;			/* wishes so far */
};

static int64_t
min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
max64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t
end_of(const struct range *r)
{
	return r->first + r->n;
}

static bool
holds(const struct range *r, int64_t g)
{
	return g >= r->first && g < end_of(r);
}

struct rangeplan *
rangeplan_new(int64_t n_granules, int64_t ahead_max)
{
	struct rangeplan *p = xcalloc(1, sizeof(*p));

	p->n_granules = n_granules;
	p->ahead_max = ahead_max;
	return p;
}

void
rangeplan_free(struct rangeplan *p)
{
	if (p == NULL)
		return;
	free(p->wishes);
	free(p);
}

/* ---- runs ------------------------------------------------------------------------------ */

/*
 * A wish within the read-ahead has passed over what was read from the disk without being wished
 * for; the parts of a large read come from several threads, so one may be a little late or early.
 */
static bool
run_continues(const struct run *run, int64_t first)
{
	int64_t early = run->ahead > run->pos ? RANGEPLAN_GAP : 0;

	return run->length > 0 && first <= run->ahead + early &&
	       first >= run->pos - min64(run->length, RANGEPLAN_LATE);
}

static struct run *
find_run(struct rangeplan *p, int64_t first)
{
	struct run *oldest = &p->runs[0];

	for (size_t i = 0; i < RANGEPLAN_RUNS; i++)
		if (run_continues(&p->runs[i], first))
			return &p->runs[i];
	for (size_t i = 1; i < RANGEPLAN_RUNS; i++)
		if (p->runs[i].used < oldest->used)
			oldest = &p->runs[i];
	*oldest = (struct run){ .pos = first, .ahead = first };
	return oldest;
}

/*
 * A quarter, because what is read ahead of a file's end is for nothing, and a machine that boots
 * reads many files; all of it once there can be no doubt.
 */
static int64_t
ahead_of(const struct rangeplan *p, const struct run *run)
{
	int64_t n = run->length < RANGEPLAN_SURE ? run->length / 4 : run->length;

	return run->answered ? min64(n, p->ahead_max) : 0;
}

/* More is asked for when half of what was read ahead is used up: long requests, and no pause. */
static void
run_extend(struct rangeplan *p, int64_t first, int64_t n)
{
	struct run *run = find_run(p, first);
	int64_t end = first + n, ahead;

	if (end > run->pos) {
		run->length += end - run->pos;
		run->pos = end;
	}
	run->used = ++p->clock;
	run->ahead = max64(run->ahead, run->pos);
	ahead = ahead_of(p, run);
	if (run->ahead - run->pos <= ahead / 2)
		run->ahead = min64(run->pos + ahead, p->n_granules);
	run->ahead = max64(run->ahead, run->pos);
}

/* ---- wishes ---------------------------------------------------------------------------- */

static struct wish *
find_wish(const struct rangeplan *p, int64_t g)
{
	for (size_t i = 0; i < p->n_wishes; i++)
		if (holds(&p->wishes[i].range, g))
			return &p->wishes[i];
	return NULL;
}

/* Where the first wish after g begins, or end. */
static int64_t
next_wish_start(const struct rangeplan *p, int64_t g, int64_t end)
{
	for (size_t i = 0; i < p->n_wishes; i++) {
		int64_t first = p->wishes[i].range.first;

		if (first > g && first < end)
			end = first;
	}
	return end;
}

static void
insert_wish(struct rangeplan *p, size_t at, const struct wish *wish)
{
	if (p->n_wishes == p->room) {
		p->room = p->room == 0 ? 16 : p->room * 2;
		p->wishes = xrealloc(p->wishes, p->room * sizeof(*p->wishes));
	}
	memmove(&p->wishes[at + 1], &p->wishes[at], (p->n_wishes - at) * sizeof(*p->wishes));
	p->wishes[at] = *wish;
	p->n_wishes++;
}

static void
remove_wish(struct rangeplan *p, size_t at)
{
	p->n_wishes--;
	memmove(&p->wishes[at], &p->wishes[at + 1], (p->n_wishes - at) * sizeof(*p->wishes));
}

void
rangeplan_want(struct rangeplan *p, int64_t first, int64_t n, long long now)
{
	int64_t end = min64(first + n, p->n_granules);

	assert(first >= 0 && n > 0);
	if (first >= end)
		return;
	run_extend(p, first, end - first);
	while (first < end) {
		const struct wish *wish = find_wish(p, first);

		if (wish != NULL) {
			first = end_of(&wish->range);
		} else {
			int64_t until = next_wish_start(p, first, end);
			struct wish more = { { first, until - first }, now };

			insert_wish(p, p->n_wishes, &more);
			first = until;
		}
	}
}

/*
 * Cuts [first, end) out of wish number i, which it meets; returns how many wishes are left of
 * it.
 */
static size_t
cut_wish(struct rangeplan *p, size_t i, int64_t first, int64_t end)
{
	struct wish before = p->wishes[i], after = p->wishes[i];
	size_t left = 0;

	before.range.n = first - before.range.first;
	after.range.n = end_of(&after.range) - end;
	after.range.first = end;
	remove_wish(p, i);
	if (after.range.n > 0) {
		insert_wish(p, i, &after);
		left++;
	}
	if (before.range.n > 0) {
		insert_wish(p, i, &before);
		left++;
	}
	return left;
}

void
rangeplan_drop(struct rangeplan *p, const struct range *r)
{
	for (size_t i = 0; i < p->n_wishes;) {
		const struct range *have = &p->wishes[i].range;

		if (have->first < end_of(r) && end_of(have) > r->first)
			i += cut_wish(p, i, r->first, end_of(r));
		else
			i++;
	}
}

void
rangeplan_prune(struct rangeplan *p, const struct rangeplan_missing *missing)
{
	for (size_t i = 0; i < p->n_wishes;) {
		struct range have = p->wishes[i].range, open = { 0, 0 };

		open.first = missing->fn(missing->arg, have.first, &open.n);
		if (open.first < 0 || open.first >= end_of(&have)) {
			remove_wish(p, i);
		} else if (open.first > have.first) {
			cut_wish(p, i, have.first, open.first);
		} else if (end_of(&open) < end_of(&have)) {
			/* What follows becomes a wish of its own, and is looked at next. */
			cut_wish(p, i, end_of(&open), end_of(&open) + 1);
			i++;
		} else {
			i++;
		}
	}
}

bool
rangeplan_landed(struct rangeplan *p, int64_t g)
{
	bool waited = find_wish(p, g) != NULL;

	for (size_t i = 0; i < RANGEPLAN_RUNS; i++) {
		struct run *run = &p->runs[i];

		if (g < run->pos && g >= run->pos - run->length)
			run->answered = true;
	}
	if (waited)
		rangeplan_drop(p, &(struct range){ g, 1 });
	return waited;
}

bool
rangeplan_wishes(const struct rangeplan *p, int64_t g)
{
	return find_wish(p, g) != NULL;
}

bool
rangeplan_waits(const struct rangeplan *p, long long *since)
{
	if (p->n_wishes == 0)
		return false;
	*since = p->wishes[0].since;
	for (size_t i = 1; i < p->n_wishes; i++)
		if (p->wishes[i].since < *since)
			*since = p->wishes[i].since;
	return true;
}

/* ---- flights --------------------------------------------------------------------------- */

bool
rangeplan_has_room(const struct rangeplan *p)
{
	return p->n_flights < RANGEPLAN_FLIGHTS;
}

size_t
rangeplan_n_flights(const struct rangeplan *p)
{
	return p->n_flights;
}

void
rangeplan_begin(struct rangeplan *p, const struct range *r)
{
	assert(rangeplan_has_room(p));
	p->flights[p->n_flights++] = *r;
}

void
rangeplan_end(struct rangeplan *p, const struct range *r)
{
	for (size_t i = 0; i < p->n_flights; i++) {
		if (p->flights[i].first == r->first && p->flights[i].n == r->n) {
			p->flights[i] = p->flights[--p->n_flights];
			return;
		}
	}
	assert(false);	/* it was in flight */
}

static const struct range *
find_flight(const struct rangeplan *p, int64_t g)
{
	for (size_t i = 0; i < p->n_flights; i++)
		if (holds(&p->flights[i], g))
			return &p->flights[i];
	return NULL;
}

bool
rangeplan_pop(struct rangeplan *p, bool in_flight_too, struct range *out)
{
	if (in_flight_too) {
		if (p->n_wishes == 0)
			return false;
		*out = p->wishes[0].range;
		remove_wish(p, 0);
		return true;
	}
	for (size_t i = 0; i < p->n_wishes; i++) {
		struct range r = p->wishes[i].range;

		/* The first part of it that is not in flight. */
		for (int64_t g = r.first; g < end_of(&r);) {
			const struct range *flight = find_flight(p, g);

			if (flight != NULL) {
				g = end_of(flight);
				continue;
			}
			*out = (struct range){ g, 1 };
			while (end_of(out) < end_of(&r) && find_flight(p, end_of(out)) == NULL)
				out->n++;
			cut_wish(p, i, out->first, end_of(out));
			return true;
		}
	}
	return false;
}

/* ---- what is next ---------------------------------------------------------------------- */

/*
 * The first stretch within [from, end) that is missing and not in flight: false if there is
 * none.
 */
static bool
find_open(const struct rangeplan *p, const struct rangeplan_missing *missing, int64_t from,
	  int64_t end, struct range *out)
{
	while (from < end) {
		const struct range *flight;

		out->first = missing->fn(missing->arg, from, &out->n);
		if (out->first < 0 || out->first >= end)
			return false;
		flight = find_flight(p, out->first);
		if (flight != NULL) {
			from = end_of(flight);
			continue;
		}
		out->n = min64(out->n, end - out->first);
		for (size_t i = 0; i < p->n_flights; i++)
			if (p->flights[i].first > out->first)
				out->n = min64(out->n, p->flights[i].first - out->first);
		return true;
	}
	return false;
}

/* How far r, which ends before end, can grow over wishes and small gaps between them. */
static int64_t
join_forward(const struct rangeplan *p, const struct range *r, int64_t end)
{
	int64_t joined = end_of(r);

	for (int64_t g = joined; g < end && g <= joined + RANGEPLAN_GAP; g++)
		if (find_wish(p, g) != NULL)
			joined = g + 1;
	return joined;
}

static bool
is_open(const struct rangeplan *p, const struct rangeplan_missing *missing, int64_t g)
{
	struct range r;

	return g >= 0 && find_open(p, missing, g, g + 1, &r);
}

/* Wishes just before: a large read whose parts came in another order. */
static int64_t
join_backward(const struct rangeplan *p, const struct rangeplan_missing *missing,
	      const struct range *r, int64_t max)
{
	int64_t first = r->first;

	while (end_of(r) - first < max && find_wish(p, first - 1) != NULL &&
	       is_open(p, missing, first - 1))
		first--;
	return first;
}

/* Half of the read-ahead is a request, so that two are in flight. */
static int64_t
ahead_piece(const struct rangeplan *p, const struct run *run, int64_t max)
{
	return min64(max, max64(1, ahead_of(p, run) / 2));
}

/* How far the read-ahead of whoever reads at the end of r goes. */
static int64_t
join_ahead(const struct rangeplan *p, const struct range *r, int64_t max)
{
	int64_t end = end_of(r);

	for (size_t i = 0; i < RANGEPLAN_RUNS; i++) {
		const struct run *run = &p->runs[i];

		if (run->length > 0 && r->first < run->pos + RANGEPLAN_GAP &&
		    end_of(r) >= run->pos && end_of(r) < run->ahead)
			end = max64(end, min64(run->ahead, r->first + ahead_piece(p, run, max)));
	}
	return end;
}

static bool
next_wanted(const struct rangeplan *p, const struct rangeplan_missing *missing, int64_t max,
	    struct range *out)
{
	for (size_t i = 0; i < p->n_wishes; i++) {
		const struct range *wish = &p->wishes[i].range;
		struct range open;
		int64_t limit;

		if (!find_open(p, missing, wish->first, end_of(wish), out))
			continue;
		out->n = min64(out->n, max);
		if (out->first == wish->first) {
			int64_t first = join_backward(p, missing, out, max);

			out->n += out->first - first;
			out->first = first;
		}
		/* What may follow without a break. */
		limit = out->first + max;
		if (end_of(out) < limit &&
		    find_open(p, missing, end_of(out), min64(limit, p->n_granules), &open) &&
		    open.first == end_of(out)) {
			out->n = join_forward(p, out, end_of(&open)) - out->first;
			out->n = min64(join_ahead(p, out, max), end_of(&open)) - out->first;
		}
		return true;
	}
	return false;
}

static bool
next_ahead(const struct rangeplan *p, const struct rangeplan_missing *missing, int64_t max,
	   struct range *out)
{
	const struct run *best = NULL;

	for (size_t i = 0; i < RANGEPLAN_RUNS; i++) {
		const struct run *run = &p->runs[i];
		struct range open;

		if (run->ahead <= run->pos || (best != NULL && run->used < best->used) ||
		    !find_open(p, missing, run->pos, run->ahead, &open))
			continue;
		open.n = min64(open.n, ahead_piece(p, run, max));
		*out = open;
		best = run;
	}
	return best != NULL;
}

bool
rangeplan_next(const struct rangeplan *p, const struct rangeplan_missing *missing,
	       enum range_kind kind, int64_t max, struct range *out)
{
	bool found = false;

	assert(max > 0);
	switch (kind) {
	case RANGE_WANTED:
		found = next_wanted(p, missing, max, out);
		break;
	case RANGE_AHEAD:
		found = next_ahead(p, missing, max, out);
		break;
	case RANGE_FILL:
		found = find_open(p, missing, 0, p->n_granules, out);
		out->n = found ? min64(out->n, max) : 0;
		break;
	}
	return found;
}
