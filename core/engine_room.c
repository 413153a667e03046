/*
 * Room for images, before they are fetched: what leaves for it, who is refused, and when it is
 * tried again.
 *
 *   is there room?          it is promised to the transfer (store_admit())
 *   can it be made?         by evict.h's decision, from rows and what the store has measured
 *   else                    CODE_FULL (52), ENOSPC to readers, and a sentence that says what
 *                           takes it
 *
 * Who was refused waits for room, and not for a time: the next reader asks again as soon as
 * anything has changed, or after a second, so that one who does nothing but ask keeps nobody
 * busy.  What is fetched without a reader is looked at every second, which costs a look at memory
 * and a statvfs(2); and every five seconds at the rows, because a file that was closed makes room
 * possible, too.
 *
 * While the cache is over its limit (a smaller one was configured) a few objects go at a time, so
 * that nobody waits for that.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "evict.h"
#include "io.h"
#include "stamp.h"

enum {
	LOOK_MS = 1000,		/* between two looks for somebody who was refused */
	PLAN_MS = 5000,		/* between two looks at the rows for them */
	RECOUNT_MS = 2000,	/* a refusal is doubted no more often */
	DISK_MS = 60000,	/* a disk that said ENOSPC is asked again after that time anyway */
	TRIM_MAX = 16,		/* things that leave in one go */
	ROUNDS = 3,
};

/* ---- who used what --------------------------------------------------------------------------- */

struct use {
	struct digest digest;
	int64_t at;
	long long ms;			/* monotonic: the clock may be set before it is saved */
};

/* Many uses of few images: one entry for each that was used since the last save. */
void
engine_used(struct engine *e, const struct digest *d)
{
	struct room *r = &e->room;
	int64_t now = stamp_now();
	size_t i = 0;

	pthread_mutex_lock(&r->lock);
	while (i < r->n_uses && !digest_equal(&r->uses[i].digest, d))
		i++;
	if (i == r->n_uses) {
		r->uses = xrealloc(r->uses, (r->n_uses + 1) * sizeof(*r->uses));
		r->uses[r->n_uses++].digest = *d;
	}
	r->uses[i].at = now;
	r->uses[i].ms = io_monotonic_ms();
	pthread_mutex_unlock(&r->lock);
}

/* By the clock of now. */
static int64_t
time_of_use(const struct use *use, int64_t now)
{
	int64_t at = now - (io_monotonic_ms() - use->ms) / 1000;

	return llabs(at - use->at) <= 1 ? use->at : at;
}

static int
save_uses(struct engine *e, const struct use *uses, size_t n, struct err *err)
{
	int64_t now = stamp_now(), stamp = catalogue_use_stamp(e->catalogue, now);
	int rc = catalogue_begin(e->catalogue, err);

	/* While the clock is not what it was, all that were used since the last save are equal. */
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = catalogue_object_used(e->catalogue, &uses[i].digest,
					   stamp == now ? time_of_use(&uses[i], now) : stamp, err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, err);
	if (rc != 0)
		catalogue_rollback(e->catalogue);
	return rc;
}

void
engine_save_uses(struct engine *e)
{
	struct room *r = &e->room;
	CLEANUP_FREE struct use *uses = NULL;
	struct err err = { 0 };
	size_t n;

	pthread_mutex_lock(&r->lock);
	uses = r->uses;
	n = r->n_uses;
	r->uses = NULL;
	r->n_uses = 0;
	pthread_mutex_unlock(&r->lock);
	/* What cannot be saved is known a little less well the next time. */
	if (n > 0 && save_uses(e, uses, n, &err) != 0)
		log_err(LOG_LVL_WARNING, "last use of images", &err);
}

/* ---- what there is --------------------------------------------------------------------------- */

/* Why what is there does not go; in bytes, for the sentence. */
struct tally {
	int64_t open, pinned, selected, fetching;
};

struct gathering {
	struct engine *e;
	const struct digest *except;	/* whom the room is for; NULL: nobody */
	const struct evict_policy *policy;
	struct evict_item *items;
	size_t n;
	struct tally tally;
};

static void
add_item(struct gathering *g, const struct evict_item *item)
{
	g->items = xrealloc(g->items, (g->n + 1) * sizeof(*g->items));
	g->items[g->n++] = *item;
}

static bool
has_pass(struct engine *e, const struct digest *d)
{
	return passes_find(e->passes, PASS_REBUILD, d) != NULL ||
	       passes_find(e->passes, PASS_COMMIT, d) != NULL ||
	       passes_find(e->passes, PASS_CHECK, d) != NULL;
}

static void
ask_jobs(struct engine *e, const struct digest *d, struct evict_facts *f)
{
	const struct lazyjob *lazyjob = engine_find_lazyjob(e, d);
	const struct job *job = engine_find_job(e, d);

	if (job != NULL) {
		f->busy = f->busy || job->waiting || job->state == JOB_STORING;
		f->filling = job->state == JOB_RECEIVING;
	}
	if (lazyjob != NULL) {
		f->busy = f->busy || lazyjob->waiting || lazyjob->asked ||
			  lazyjob->state == LAZYJOB_CHECKING || lazyjob->state == LAZYJOB_STORED;
		f->filling = f->filling || lazyjob->lazy != NULL;
	}
}

static void
count_stays(struct tally *t, const struct evict_facts *f, enum evict_kind kind,
	    const struct evict_policy *policy, int64_t bytes)
{
	if (f->open)
		t->open += bytes;
	else if (f->pinned)
		t->pinned += bytes;
	else if (f->busy || (kind == EVICT_FILLING && !policy->urgent))
		t->fetching += bytes;
	else if (kind == EVICT_SELECTED && !policy->selected_too)
		t->selected += bytes;
}

static int
add_object(void *arg, const struct evict_row *row)
{
	struct gathering *g = arg;
	struct store_bytes b = store_bytes(g->e->config.store, &row->digest);
	struct evict_facts f = {
		.verified = row->verified, .wanted = row->wanted, .live = row->live,
		.pinned = row->pinned,
	};
	struct evict_item item = { .digest = row->digest };

	item.bytes = b.object + b.partial + b.promised;
	if (item.bytes == 0 || (g->except != NULL && digest_equal(g->except, &row->digest)))
		return 0;
	f.open = engine_is_open(g->e, &row->digest);
	f.busy = engine_is_to_adopt(g->e, &row->digest) || has_pass(g->e, &row->digest);
	ask_jobs(g->e, &row->digest, &f);
	item.kind = evict_judge(&f);
	item.since = item.kind == EVICT_EXPIRED ? row->expired_at : row->used;
	count_stays(&g->tally, &f, item.kind, g->policy, item.bytes);
	add_item(g, &item);
	return 0;
}

static void
add_quarantined(void *arg, const struct digest *d, int64_t number, int64_t bytes)
{
	struct evict_item item = { .kind = EVICT_QUARANTINE, .digest = *d, .bytes = bytes,
				   .since = number };

	add_item(arg, &item);
}

static int
gather(struct gathering *g, struct err *err)
{
	int rc;

	engine_save_uses(g->e);
	rc = store_quarantine_each(g->e->config.store, add_quarantined, g, err);
	return rc == 0 ? catalogue_evict_each(g->e->catalogue, add_object, g, err) : rc;
}

/* ---- making room ----------------------------------------------------------------------------- */

static int
plan(struct gathering *g, int64_t lacking, size_t *n, struct err *err)
{
	int rc = gather(g, err);

	*n = rc == 0 ? evict_plan(g->items, g->n, g->policy, lacking, NULL) : 0;
	return rc;
}

/* 1: room was made; 0: there is none to be made; negative: what kept us from it. */
static int
free_room(struct engine *e, const struct digest *d, const struct evict_policy *policy,
	  int64_t lacking, struct tally *tally, struct err *err)
{
	struct gathering g = { .e = e, .except = d, .policy = policy };
	size_t n;
	int rc = plan(&g, lacking, &n, err);

	if (rc == 0 && n > 0) {
		rc = engine_evict_items(e, g.items, n, err);
		if (rc == 0)
			rc = 1;
	}
	*tally = g.tally;
	free(g.items);
	return rc;
}

/* Others may have made room behind our back. */
static bool
recount(struct engine *e)
{
	long long now = io_monotonic_ms();

	if (e->room.counted_at != 0 && now - e->room.counted_at < RECOUNT_MS)
		return false;
	e->room.counted_at = now;
	return store_recount(e->config.store, NULL) == 0;
}

static void
add_share(struct buf *out, const char *who, int64_t bytes)
{
	if (bytes > 0)
		buf_printf(out, "%s%s %lld", out->len > 0 ? ", " : "", who, (long long)bytes);
}

/* What takes the room, and what can be done; behind what the store has said. */
static void
explain(struct engine *e, const struct tally *t, struct err *err)
{
	CLEANUP_BUF struct buf shares = BUF_INIT;
	CLEANUP_FREE char *said = xstrdup(err->text);
	bool by_limit = strstr(said, "cache_size") != NULL;
	struct store_usage u = { 0 };

	store_room(e->config.store, &u, NULL);
	add_share(&shares, "selected images take", t->selected);
	add_share(&shares, "pinned ones", t->pinned);
	add_share(&shares, "open ones", t->open);
	add_share(&shares, "those being fetched", t->fetching);
	add_share(&shares, "lost+found", u.lost_found);
	err_refuse(err, CODE_FULL, "%s%s%s; evict, deselect or unpin images, or %s", said,
		   shares.len > 0 ? "; " : "", buf_str(&shares),
		   by_limit ? "raise cache_size" : "lower cache_min_free");
}

static void
note_refusal(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	e->status.room_refusals++;
	e->status.last_room_refusal = stamp_now();
	pthread_mutex_unlock(&e->lock);
}

int
engine_make_room(struct engine *e, const struct digest *d, int64_t size, bool urgent,
		 struct err *err)
{
	struct evict_policy policy = {
		.urgent = urgent,
		.selected_too = urgent && engine_conf(e)->evict_selected,
	};
	struct tally tally = { 0 };
	struct err why = { 0 };
	int64_t lacking = 0;
	int rc = store_admit(e->config.store, d, size, &lacking, &why);

	for (int i = 0; rc == -ENOSPC && i < ROUNDS; i++) {
		struct err trouble = { 0 };
		int made = free_room(e, d, &policy, lacking, &tally, &trouble);

		if (made < 0)
			log_err(LOG_LVL_ERROR, "eviction", &trouble);
		if (made <= 0 && !recount(e))
			break;
		rc = store_admit(e->config.store, d, size, &lacking, &why);
	}
	if (rc == -ENOSPC) {
		explain(e, &tally, &why);
		note_refusal(e);
		e->room.planned_at = io_monotonic_ms();
	}
	if (rc != 0)
		*err = why;
	return rc;
}

static int64_t
free_now(struct engine *e)
{
	struct store_usage u = { 0 };

	return store_room(e->config.store, &u, NULL) == 0 ? u.fs_free : 0;
}

int64_t
engine_disk_full(struct engine *e)
{
	e->room.planned_at = io_monotonic_ms();
	return free_now(e);
}

bool
engine_may_ask_again(struct engine *e, const struct digest *d, int64_t size, int64_t free_then,
		     long long failed_at)
{
	if (e->room.planned_at == 0 || io_monotonic_ms() - failed_at >= LIMIT_ROOM_LOOK_MS)
		return true;
	if (free_then >= 0)
		return free_now(e) > free_then;
	return store_fits(e->config.store, d, size, NULL) == 0;
}

/* ---- who was refused ------------------------------------------------------------------------- */

bool
engine_room_came(struct engine *e, const struct digest *d, int64_t size, int64_t free_then,
		 long long failed_at)
{
	static const struct evict_policy policy = { .urgent = false };
	struct gathering g = { .e = e, .except = d, .policy = &policy };
	long long now = io_monotonic_ms();
	size_t n = 0;

	/* The disk had less than it said it had: it has to say more. */
	if (free_then >= 0 && free_now(e) <= free_then && now - failed_at < DISK_MS)
		return false;
	if (store_fits(e->config.store, d, size, NULL) == 0)
		return true;
	if (e->room.planned_at != 0 && now - e->room.planned_at < PLAN_MS)
		return false;
	e->room.planned_at = now;
	recount(e);
	if (store_fits(e->config.store, d, size, NULL) == 0)
		return true;
	(void)plan(&g, store_lacks(e->config.store, d, size), &n, NULL);
	free(g.items);
	return n > 0;
}

/* ---- over the limit -------------------------------------------------------------------------- */

static size_t
trim(struct engine *e, int64_t over, struct err *err)
{
	struct evict_policy policy = {
		.partly = true, .selected_too = engine_conf(e)->evict_selected,
	};
	struct gathering g = { .e = e, .policy = &policy };
	size_t n;
	int rc = plan(&g, over, &n, err);

	if (n > TRIM_MAX)
		n = TRIM_MAX;
	if (rc == 0 && n > 0)
		rc = engine_evict_items(e, g.items, n, err);
	free(g.items);
	return rc == 0 ? n : 0;
}

void
engine_trim(struct engine *e)
{
	long long now = io_monotonic_ms();
	struct store_usage u = { 0 };
	struct err err = { 0 };

	if (!e->config.daemon || now < e->room.trim_at)
		return;
	e->room.trim_at = now + engine_conf(e)->expire_interval * 1000;
	if (store_room(e->config.store, &u, &err) != 0 || u.limit == 0 ||
	    store_used(&u) <= u.limit)
		return;
	if (trim(e, store_used(&u) - u.limit, &err) > 0)
		e->room.trim_at = now + LOOK_MS;
	else if (err.rc != 0)
		log_err(LOG_LVL_ERROR, "eviction", &err);
}

int
engine_trim_wait(const struct engine *e, long long now)
{
	long long left = e->room.trim_at - now;

	return !e->config.daemon ? -1 : left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

void
engine_room_changed(struct engine *e)
{
	e->room.planned_at = e->room.trim_at = 0;
}
