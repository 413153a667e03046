/*
 * lazywork.c - granules that come, and what follows when they do not.
 *
 *	what happened                        what follows
 *	right                                landed, told
 *	wrong                                another source, once more after a pause, then -EBADMSG
 *	the disk does not take it            BROKEN
 *	no ranges (45), from the first on    that source is unfit; all are: UNFIT
 *	no ranges (45), after there were     as below; for LAZY_RANGELESS_MS: UNFIT
 *	503, 429                             the host rests (lanehost.h); often in a row: as below
 *	cut or stalled in the first granule  the next source, or the same, once more
 *	anything else, and nothing came      the next source; all failed: wishes fail
 *	anything else, and something came    the rest is asked for again
 */
#include "config.h"
#include "lazy_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "blockfile.h"
#include "cleanup.h"
#include "io.h"
#include "plan.h"

enum { BAD_PAUSE_MAX_MS = 8000 };

/* ---- failures -------------------------------------------------------------------------- */

static void
lazy_add_failure(struct failures *f, const struct range *r, const struct err *why)
{
	f->at = xrealloc(f->at, (f->n + 1) * sizeof(*f->at));
	f->at[f->n++] = *r;
	f->why = *why;
}

void
lazy_tell(struct lazy *z, struct failures *f)
{
	for (size_t i = 0; i < f->n; i++)
		z->config.failed(z->config.arg, &z->id.image, f->at[i].first, f->at[i].n, &f->why);
	free(f->at);
	f->at = NULL;
	f->n = 0;
}

void
lazy_end(struct lazy *z, enum lazy_state state, const struct err *why, struct failures *f)
{
	struct range r;

	if (z->state == LAZY_UNFIT || z->state == LAZY_BROKEN)
		return;
	z->result = *why;
	while (rangeplan_pop(z->plan, true, &r))
		lazy_add_failure(f, &r, why);
	lazy_set_state(z, state);
	lanes_cancel(z->lanes, z, false);
}

static long long
back_off(int n)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = 0;
	return plan_backoff_ms(n, random, 0);
}

void
lazy_network_failed(struct lazy *z, const struct err *why, struct failures *f)
{
	long long now = io_monotonic_ms();
	struct range r;

	z->n_failed = 0;
	z->n_rounds++;
	z->retry_at = now + LAZY_RETRY_MS;
	z->idle_at = now + back_off(z->n_rounds);
	/* One cut connection is no dead network: the disk of a guest must not fail for it. */
	if (z->state == LAZY_SERVING && z->n_rounds < LAZY_ROUNDS)
		return;
	while (rangeplan_pop(z->plan, false, &r))
		lazy_add_failure(f, &r, why);
}

static size_t
lazy_n_usable(const struct lazy *z)
{
	size_t n = 0;

	for (size_t i = 0; i < z->n_sources; i++)
		n += !z->sources[i].unfit;
	return n;
}

/* The next source that may be used, if the one in use is still the one that failed. */
static void
next_source(struct lazy *z, size_t failed)
{
	if (z->source != failed)
		return;
	for (size_t i = 1; i <= z->n_sources; i++) {
		size_t s = (failed + i) % z->n_sources;

		if (!z->sources[s].unfit) {
			z->source = s;
			return;
		}
	}
}

/* A page of a server under repair must not cost what is here; one that stays does. */
static bool
ranges_are_gone(struct lazy *z, long long now)
{
	if (z->n_rangeless++ == 0)
		z->rangeless_since = now;
	return z->n_rangeless >= LIMIT_TRIES && now - z->rangeless_since >= LAZY_RANGELESS_MS;
}

/* Nothing came from a source. */
static void
source_failed(struct lazy *z, size_t source, const struct err *why, struct failures *f)
{
	struct err e = *why;

	z->n_refused = 0;
	z->n_cut = 0;
	next_source(z, source);
	if (++z->n_failed < lazy_n_usable(z))
		return;
	if (e.code == CODE_RANGE) {
		if (ranges_are_gone(z, io_monotonic_ms())) {
			lazy_end(z, LAZY_UNFIT, &e, f);
			return;
		}
		e.rc = -EHOSTUNREACH;
	}
	lazy_network_failed(z, &e, f);
	z->root.image_fails = true;
	if (z->state == LAZY_ROOTING && z->root.undecided)
		lazy_verdict(z, &e, f);
}

static void
source_unfit(struct lazy *z, size_t source, const struct err *why, struct failures *f)
{
	z->sources[source].unfit = true;
	next_source(z, source);
	if (lazy_n_usable(z) == 0)
		lazy_end(z, LAZY_UNFIT, why, f);
}

/* The source answered by something else than the range that was asked for. */
static void
source_rangeless(struct lazy *z, size_t source, const struct err *why, struct failures *f)
{
	bool others = lazy_n_usable(z) > 1;

	if (!z->sources[source].proven && (others || !z->proven))
		source_unfit(z, source, why, f);
	else
		source_failed(z, source, why, f);
}

/* ---- wrong granules -------------------------------------------------------------------- */

static struct bad *
find_bad(struct lazy *z, int64_t g)
{
	for (size_t i = 0; i < z->n_bad; i++)
		if (z->bad[i].g == g)
			return &z->bad[i];
	return NULL;
}

/* The oldest is forgotten where there are too many: the pauses of the whole image hold then. */
static struct bad *
add_bad(struct lazy *z, int64_t g)
{
	if (z->n_bad == LAZY_BAD)
		memmove(&z->bad[0], &z->bad[1], --z->n_bad * sizeof(z->bad[0]));
	z->bad[z->n_bad] = (struct bad){ .g = g };
	return &z->bad[z->n_bad++];
}

static void
forget_bad(struct lazy *z, int64_t g)
{
	struct bad *bad = find_bad(z, g);

	if (bad != NULL)
		*bad = z->bad[--z->n_bad];
}

static void
granule_wrong(struct work *w, int64_t g, const struct err *why, struct failures *f)
{
	struct lazy *z = w->lazy;
	struct bad *bad = find_bad(z, g);
	int usable = (int)lazy_n_usable(z), over;
	long long now = io_monotonic_ms();

	if (bad == NULL)
		bad = add_bad(z, g);
	bad->tries++;
	z->figures.n_bad_granules++;
	w->n_wrong++;
	w->n_wrong_in_row++;
	next_source(z, w->source);
	over = bad->tries - usable;
	bad->retry_at = now;
	if (over >= 0)
		bad->retry_at += over < 3 ? LAZY_RETRY_MS << over : BAD_PAUSE_MAX_MS;
	if (over > 0) {
		struct range r = { g, 1 };

		bad->failed = true;
		z->wrong = *why;
		if (rangeplan_wishes(z->plan, g))
			lazy_add_failure(f, &r, why);
		rangeplan_drop(z->plan, &r);
	}
	/* Not the one granule but the file: what nobody waits for is not worth the traffic. */
	if (++z->n_wrong_in_row % LAZY_WRONG_ROW == 0)
		z->idle_at = now + back_off((int)(z->n_wrong_in_row / LAZY_WRONG_ROW));
}

/* Wishes for what has failed already, and is not due again yet. */
static void
lazy_refuse(struct lazy *z)
{
	long long now = io_monotonic_ms();
	struct failures f = { 0 };

	lanes_lock(z->lanes);
	for (size_t i = 0; i < z->n_bad; i++) {
		const struct bad *bad = &z->bad[i];
		struct range r = { bad->g, 1 };

		if (!bad->failed || bad->retry_at <= now || !rangeplan_wishes(z->plan, bad->g))
			continue;
		lazy_add_failure(&f, &r, &z->wrong);
		rangeplan_drop(z->plan, &r);
	}
	lanes_unlock(z->lanes);
	lazy_tell(z, &f);
}

/* ---- landing --------------------------------------------------------------------------- */

static void
granule_right(struct work *w, int64_t g, size_t len)
{
	struct lazy *z = w->lazy;

	w->n_landed++;
	w->n_wrong_in_row = 0;
	z->n_wrong_in_row = 0;
	z->n_rangeless = 0;
	z->proven = true;
	if (w->kind == WORK_GRANULES)
		z->sources[w->source].proven = true;
	z->landed_since += (int64_t)len;
	forget_bad(z, g);
	rangeplan_landed(z->plan, g);
	lazy_look_at_file(z);
}

void
lazy_land(struct work *w, int64_t g, const void *data, size_t len)
{
	struct lazy *z = w->lazy;
	struct failures f = { 0 };
	struct err e = { 0 };
	int rc = blockfile_land(z->file, g, data, len, &e);

	lanes_lock(z->lanes);
	if (rc == 0) {
		granule_right(w, g, len);
	} else if (rc == -EBADMSG) {
		err_prefix(&e, "'%s'", w->kind == WORK_GRANULES ? w->uri
								: z->sources[z->source].what.uri);
		granule_wrong(w, g, &e, &f);
	} else {
		lazy_end(z, LAZY_BROKEN, &e, &f);
	}
	lanes_unlock(z->lanes);
	if (rc == 0)
		z->config.landed(z->config.arg, z->file, g * VERITY_GRANULE, data, len);
	lazy_tell(z, &f);
}

static void
hold(struct lazy *z, int64_t g, const void *data, size_t len)
{
	struct held *h = &z->held[z->n_held];

	if (z->n_held == LAZY_HELD)
		return;
	h->data = xmalloc(len);
	memcpy(h->data, data, len);
	h->g = g;
	h->len = len;
	z->n_held++;
}

static int
granule_piece(struct work *w, int64_t at, const void *data, size_t len)
{
	struct lazy *z = w->lazy;
	int64_t g = at / VERITY_GRANULE;
	bool wanted, early;

	/* A source may be cut in the middle of a granule; what is no whole one proves nothing. */
	if (len != verity_granule_size(&z->shape, g))
		return 0;
	lanes_lock(z->lanes);
	early = z->state == LAZY_ROOTING;
	wanted = !z->dying && (early || z->state == LAZY_SERVING);
	if (wanted && early) {
		hold(z, g, data, len);
		w->n_landed++;
	}
	lanes_unlock(z->lanes);
	if (wanted && !early)
		lazy_land(w, g, data, len);
	return wanted && w->n_wrong_in_row < LAZY_WRONG_ROW ? 0 : -1;
}

int
lazy_piece(void *work, int64_t at, const void *data, size_t len)
{
	struct work *w = work;

	switch (w->kind) {
	case WORK_TREE:
		return lazy_prefix_piece(w, data, len);
	case WORK_LEVEL0:
		return lazy_level0_piece(w, at, data, len);
	case WORK_GRANULES:
		return granule_piece(w, at, data, len);
	case WORK_MAP:
	case WORK_REFUSE:
		break;
	}
	return -1;
}

/* ---- the end of a request -------------------------------------------------------------- */

static void
note_rate(struct lazy *z, int64_t rate)
{
	if (rate > 0)
		z->rate = z->rate == 0 ? rate : (3 * z->rate + rate) / 4;
}

/* There is somebody who answers, but the answer was lost on the way. */
static bool
was_cut(const struct ranged_end *end)
{
	return end->err.code == CODE_SLOW && (end->begun || end->err.rc == -ECONNRESET);
}

/* Locked. */
static void
judge(struct work *w, const struct ranged_end *end, bool refused, struct failures *f)
{
	struct lazy *z = w->lazy;
	const struct err *why = &end->err;

	if (why->rc == 0 || w->n_landed > 0) {
		z->n_failed = 0;
		z->n_refused = 0;
		z->n_cut = 0;
		if (w->n_landed > 0)
			z->n_rounds = 0;
	}
	if (why->rc == 0 || why->rc == -ECANCELED)
		return;
	if (refused && ++z->n_refused < LAZY_REFUSALS)
		next_source(z, w->source);
	else if (w->n_landed == 0 && was_cut(end) && ++z->n_cut <= lazy_n_usable(z))
		next_source(z, w->source);
	else if (why->code == CODE_RANGE && w->n_landed == 0)
		source_rangeless(z, w->source, why, f);
	else if (w->n_landed == 0)
		source_failed(z, w->source, why, f);
}

static void
lazy_granules_done(struct work *w, const struct ranged_end *end, bool refused)
{
	struct lazy *z = w->lazy;
	struct failures f = { 0 };

	lanes_lock(z->lanes);
	rangeplan_end(z->plan, &w->range);
	z->n_filling -= w->filling;
	z->figures.fetched_bytes += end->bytes;
	z->figures.n_requests++;
	note_rate(z, end->rate);
	if (end->begun)
		z->root.image_answers = true;
	if (z->state == LAZY_ROOTING || z->state == LAZY_SERVING)
		judge(w, end, refused, &f);
	if (z->state == LAZY_ROOTING && z->root.undecided && z->root.image_answers)
		lazy_verdict(z, NULL, &f);
	lanes_unlock(z->lanes);
	lazy_tell(z, &f);
}

/* ---- the map --------------------------------------------------------------------------- */

/* at_once: at the end, when nothing else runs.  Else `saving` was set by lazy_take(). */
void
lazy_save_map(struct lazy *z, bool at_once)
{
	CLEANUP_BUF struct buf map = BUF_INIT;
	bool due;

	lanes_lock(z->lanes);
	due = z->state == LAZY_SERVING && !z->heals && z->landed_since > 0;
	z->landed_since = 0;
	z->saved_at = io_monotonic_ms();
	lanes_unlock(z->lanes);
	/* A hint: one that cannot be written costs fetching again what is here. */
	if (due && blockfile_map(z->file, &map))
		store_map_write(z->store, &z->id.image, map.data, map.len);
	lanes_lock(z->lanes);
	if (!at_once)
		z->saving = false;
	lanes_unlock(z->lanes);
}

void
lazy_done(struct work *w, const struct ranged_end *end, bool refused)
{
	switch (w->kind) {
	case WORK_TREE:
		lazy_prefix_done(w, end, refused);
		break;
	case WORK_LEVEL0:
		lazy_level0_done(w, end, refused);
		break;
	case WORK_GRANULES:
		lazy_granules_done(w, end, refused);
		break;
	case WORK_MAP:
		lazy_save_map(w->lazy, false);
		break;
	case WORK_REFUSE:
		lazy_refuse(w->lazy);
		break;
	}
}
