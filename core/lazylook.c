/*
 * lazylook.c - what an image wants most, of what a lane may do now.
 *
 *	ROOTING  the prefix; a wish, to be held until the tree can prove it; a probe of the image
 *	SERVING  wishes > ranges of the lowest level > read-ahead > filling > saving the map
 *	FULL     ranges of the lowest level
 *
 * Looking changes nothing: several lanes are asked whether they could do it before one does.
 */
#include "config.h"
#include "lazy_impl.h"

#include "blockfile.h"
#include "io.h"

/* The presence query of the plan. */
struct missing {
	const struct lazy *z;
	long long now;
};

/*
 * Cuts [first, first + *n) before the first granule that must not be asked for; false: that is
 * first.
 */
static bool
cut_blocked(const struct missing *m, int64_t first, int64_t *n)
{
	const struct lazy *z = m->z;

	for (size_t i = 0; i < z->n_bad; i++)
		if (z->bad[i].retry_at > m->now && z->bad[i].g >= first &&
		    z->bad[i].g - first < *n)
			*n = z->bad[i].g - first;
	for (size_t i = 0; i < z->n_held; i++)
		if (z->held[i].g >= first && z->held[i].g - first < *n)
			*n = z->held[i].g - first;
	return *n > 0;
}

static int64_t
find_missing(void *arg, int64_t from, int64_t *n)
{
	const struct missing *m = arg;
	const struct lazy *z = m->z;

	while (from < z->shape.n_granules) {
		int64_t first = from;

		*n = z->shape.n_granules - from;
		if (z->file != NULL && !z->heals)
			first = blockfile_missing(z->file, from, n);
		if (first < 0)
			return -1;
		if (cut_blocked(m, first, n))
			return first;
		from = first + 1;
	}
	return -1;
}

/* A quarter of a second on the line: a reader elsewhere in the image does not wait longer. */
static int64_t
request_max(const struct lazy *z)
{
	int64_t rate = z->rate, limit = lanes_conf(z->lanes)->limit_rate;
	int64_t n = LAZY_REQUEST_FIRST;

	if (limit > 0 && (rate == 0 || limit < rate))
		rate = limit;
	if (rate > 0)
		n = rate / 4 / VERITY_GRANULE;
	return n < 1 ? 1 : n < LAZY_REQUEST_MAX ? n : LAZY_REQUEST_MAX;
}

static bool
next_range(const struct lazy *z, struct missing *m, enum range_kind kind, struct range *r)
{
	struct rangeplan_missing missing = { find_missing, m };

	return rangeplan_next(z->plan, &missing, kind, request_max(z), r);
}

static void
look_again_at(long long *next, long long when)
{
	if (when < *next)
		*next = when;
}

/* May the source in use be asked now, for whoever waits or for nobody? */
static bool
may_ask_source(const struct lazy *z, const struct lane *lane, bool somebody_waits, long long now,
	       long long *next)
{
	long long when = somebody_waits || z->idle_at < z->retry_at ? z->retry_at : z->idle_at;

	if (z->n_sources == 0 || !rangeplan_has_room(z->plan))
		return false;
	if (now < when) {
		look_again_at(next, when);
		return false;
	}
	return lanes_may_ask(lane, z->sources[z->source].host, now, next);
}

static void
plan_work(const struct lazy *z, const struct range *r, struct work *w)
{
	const struct source *s = &z->sources[z->source];

	w->kind = WORK_GRANULES;
	w->range = *r;
	w->source = z->source;
	w->host = s->host;
	w->uri = s->what.uri;
	w->list_id = s->what.list_id;
	w->offset = r->first * VERITY_GRANULE;
	w->length = r->n * VERITY_GRANULE;
	if (w->length > z->id.size - w->offset)
		w->length = z->id.size - w->offset;
	w->file_size = z->id.size;
	w->seconds = lanes_patience(z->lanes);
}

static bool
look_wanted(struct lazy *z, const struct lane *lane, struct missing *m, long long *next,
	    struct work *w)
{
	struct range r;

	if (!rangeplan_waits(z->plan, &w->since) || !next_range(z, m, RANGE_WANTED, &r) ||
	    !may_ask_source(z, lane, true, m->now, next))
		return false;
	plan_work(z, &r, w);
	w->rank = RANK_WAITED;
	return true;
}

static bool
look_ahead(struct lazy *z, const struct lane *lane, struct missing *m, long long *next,
	   struct work *w)
{
	struct range r;

	if (z->heals || !next_range(z, m, RANGE_AHEAD, &r) ||
	    !may_ask_source(z, lane, false, m->now, next))
		return false;
	plan_work(z, &r, w);
	w->rank = RANK_AHEAD;
	return true;
}

/* When idle, over one connection: a reader who comes finds the other one free. */
static bool
look_fill(struct lazy *z, const struct lane *lane, struct missing *m, long long *next,
	  struct work *w)
{
	struct range r;

	if (z->heals || z->fill == LAZY_FILL_NOT || !next_range(z, m, RANGE_FILL, &r))
		return false;
	if (z->fill == LAZY_FILL_IDLE) {
		if (z->n_filling > 0)
			return false;
		if (m->now < z->wanted_at + LANES_QUIET_MS) {
			look_again_at(next, z->wanted_at + LANES_QUIET_MS);
			return false;
		}
	}
	if (!may_ask_source(z, lane, false, m->now, next))
		return false;
	plan_work(z, &r, w);
	w->rank = RANK_FILL;
	w->filling = true;
	return true;
}

/*
 * Wrong granules that somebody waits for are due at a time of their own; or they have failed, which
 * only has to be said again.
 */
static bool
look_at_bad(const struct lazy *z, long long now, long long *next, struct work *w)
{
	for (size_t i = 0; i < z->n_bad; i++) {
		const struct bad *bad = &z->bad[i];

		if (bad->retry_at <= now || !rangeplan_wishes(z->plan, bad->g))
			continue;
		if (bad->failed) {
			w->kind = WORK_REFUSE;
			w->rank = RANK_WAITED;
			w->since = now;
			w->host = NULL;
			return true;
		}
		look_again_at(next, bad->retry_at);
	}
	return false;
}

static void
sidecar_work(const struct lazy *z, size_t sidecar, struct work *w)
{
	const struct source *s = &z->sidecars[sidecar];

	w->source = sidecar;
	w->host = s->host;
	w->uri = s->what.uri;
	w->list_id = s->what.list_id;
	w->file_size = z->shape.total;
	w->seconds = lanes_patience(z->lanes) / 2;
}

static bool
look_level0(struct lazy *z, const struct lane *lane, long long now, long long *next,
	    struct work *w)
{
	for (struct level0 *job = z->level0s; job != NULL; job = job->next) {
		int64_t left = job->n - job->done;

		if (job->in_flight || job->ended || z->stopped ||
		    !lanes_may_ask(lane, z->sidecars[job->sidecar].host, now, next))
			continue;
		sidecar_work(z, job->sidecar, w);
		w->kind = WORK_LEVEL0;
		w->rank = RANK_TREE;
		w->level0 = job;
		w->range.first = job->first + job->done;
		w->range.n = left < LAZY_LEVEL0_MAX ? left : LAZY_LEVEL0_MAX;
		w->offset = z->shape.offset[0] + w->range.first * VERITY_BLOCK;
		w->length = w->range.n * VERITY_BLOCK;
		return true;
	}
	return false;
}

/*
 * All sidecars together get half of a reader's patience, because the other half has to be enough
 * for what comes instead; a long prefix gets a second a mebibyte on top.
 */
static int64_t
prefix_seconds(const struct lazy *z, long long now)
{
	int64_t left, n = (int64_t)(z->n_sidecars - z->root.sidecar);

	if (z->root.deadline == 0) {
		int64_t half = lanes_patience(z->lanes) / 2;
		int64_t stall = lanes_conf(z->lanes)->stall_timeout;

		left = stall > 0 && stall < half ? stall : half;
		left += z->shape.prefix >> 20;
	} else {
		left = (z->root.deadline - now) / 1000;
	}
	return left / n > 1 ? left / n : 1;
}

static bool
look_prefix(struct lazy *z, const struct lane *lane, long long now, long long *next,
	    struct work *w)
{
	bool waits = rangeplan_waits(z->plan, &w->since);
	long long when = waits || z->idle_at < z->retry_at ? z->retry_at : z->idle_at;

	if (z->root.in_flight || z->root.undecided)
		return false;
	if (now < when) {
		look_again_at(next, when);
		return false;
	}
	if (!lanes_may_ask(lane, z->sidecars[z->root.sidecar].host, now, next))
		return false;
	sidecar_work(z, z->root.sidecar, w);
	w->kind = WORK_TREE;
	w->rank = waits ? RANK_WAITED : RANK_TREE;
	w->offset = 0;
	w->length = z->shape.prefix;
	w->seconds = prefix_seconds(z, now);
	return true;
}

/* Nobody waits for a granule, but whether the image can be had at all is the question. */
static bool
look_probe(struct lazy *z, const struct lane *lane, long long now, long long *next, struct work *w)
{
	struct range r = { 0, 1 };

	if (!z->root.undecided || rangeplan_n_flights(z->plan) > 0 || z->n_held == LAZY_HELD ||
	    !may_ask_source(z, lane, true, now, next))
		return false;
	plan_work(z, &r, w);
	w->rank = RANK_TREE;
	return true;
}

/* As many granules as there is room for while they wait for the tree. */
static bool
look_early(struct lazy *z, const struct lane *lane, struct missing *m, long long *next,
	   struct work *w)
{
	int64_t room = LAZY_HELD - (int64_t)z->n_held;

	if (rangeplan_n_flights(z->plan) > 0 || room <= 0 ||
	    !look_wanted(z, lane, m, next, w))
		return false;
	if (w->range.n > room) {
		struct range r = { w->range.first, room };

		plan_work(z, &r, w);
	}
	return true;
}

static bool
look_map(const struct lazy *z, long long now, long long *next, struct work *w)
{
	if (z->saving || z->landed_since == 0 || z->heals)
		return false;
	if (now < z->saved_at + LAZY_MAP_MS && z->landed_since < LAZY_MAP_BYTES) {
		look_again_at(next, z->saved_at + LAZY_MAP_MS);
		return false;
	}
	w->kind = WORK_MAP;
	w->rank = RANK_CHORE;
	w->host = NULL;
	return true;
}

enum work_rank
lazy_look(struct lazy *z, const struct lane *lane, long long now, long long *next, struct work *w)
{
	struct missing m = { z, now };
	bool found = false;

	if (z->dying)
		return RANK_NONE;
	switch (z->state) {
	case LAZY_ROOTING:
		found = look_prefix(z, lane, now, next, w) || look_early(z, lane, &m, next, w) ||
			look_probe(z, lane, now, next, w);
		break;
	case LAZY_SERVING:
		found = look_at_bad(z, now, next, w) ||
			look_wanted(z, lane, &m, next, w) ||
			look_level0(z, lane, now, next, w) ||
			look_ahead(z, lane, &m, next, w) || look_fill(z, lane, &m, next, w) ||
			look_map(z, now, next, w);
		break;
	case LAZY_FULL:
		found = look_level0(z, lane, now, next, w);
		break;
	case LAZY_UNFIT:
	case LAZY_BROKEN:
		break;
	}
	return found ? w->rank : RANK_NONE;
}

static void
begin_rooting(struct lazy *z)
{
	struct rooting *root = &z->root;
	long long now = io_monotonic_ms();

	if (root->deadline == 0) {
		root->deadline = now + prefix_seconds(z, now) * 1000 * (long long)z->n_sidecars;
		root->image_answers = root->image_fails = false;
		err_clear(&root->why);
	}
	root->in_flight = true;
	buf_clear(&root->prefix);
}

void
lazy_take(struct work *w)
{
	struct lazy *z = w->lazy;

	z->n_working++;
	switch (w->kind) {
	case WORK_TREE:
		begin_rooting(z);
		break;
	case WORK_LEVEL0:
		w->level0->in_flight = true;
		break;
	case WORK_GRANULES:
		rangeplan_begin(z->plan, &w->range);
		z->n_filling += w->filling;
		break;
	case WORK_MAP:
		z->saving = true;
		break;
	case WORK_REFUSE:
		break;
	}
}

void
lazy_let_go(struct lazy *z)
{
	z->n_working--;
	if (z->dying)
		pthread_cond_broadcast(&z->changed);
}
