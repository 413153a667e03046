/*
 * lanes.c - the lanes' threads: choose, ask, tell; and what is counted for each server.
 *
 *	idle --(woken, or it is time)--> choose --nothing--> idle
 *	                                   |
 *	                                 begin --> ranged_get() --> end --> choose
 *
 * A lane remembers which servers its fetcher has connections to, so that those are used again and
 * no server sees more of them than LANES_PER_HOST, idle ones included: a lane without one to a
 * server may ask it only while fewer lanes have one.
 */
#include "config.h"
#include "lanes_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "buf.h"
#include "fetch.h"
#include "io.h"
#include "log.h"
#include "thread.h"

enum {
	LANES_MAX = 16,
	LANE_HOSTS = 4,			/* as many connections as a fetcher keeps */
	UNFAIR_MS = 50,			/* how much longer others may have waited */
	DEFAULT_PATIENCE = 25,
};

struct lane {
	struct lanes *lanes;
	pthread_t thread;
	pthread_cond_t woken;
	bool started, idle;
	long long until;		/* idle: when it looks again by itself */
	struct ranged *ranged;		/* of its thread; others only cancel */
	struct fetch_request req;
	struct work work;		/* lazy NULL: none */
	struct lazy *last;		/* compared only; it may be gone */
	struct lanehost *hosts[LANE_HOSTS];
	size_t n_hosts;
	long long used_at;
	long long prepared_at;		/* the last try to have a fetcher ready */
};

struct lanes {
	pthread_mutex_t lock;
	struct starter *starter;
	struct conf *conf;		/* the few fields that are copied */
	bool stop;
	bool stuck;			/* the last lane that was to start could not */
	bool expected;			/* LANES_READY of them have a fetcher ready */
	struct lanehost *hosts;
	struct lazy **lazies;
	size_t n_lazies;
	size_t n;
	struct lane lanes[];
};

/* ---- configuration --------------------------------------------------------------------- */

static struct conf *
copy_conf(const struct conf *conf)
{
	struct conf *c = xcalloc(1, sizeof(*c));

	c->connect_timeout = conf->connect_timeout;
	c->stall_timeout = conf->stall_timeout;
	c->block_timeout = conf->block_timeout;
	c->limit_rate = conf->limit_rate;
	c->proxy = xstrdup(conf->proxy);
	c->tls_ca = xstrdup(conf->tls_ca);
	c->file_prefix = xstrdup(conf->file_prefix);
	c->list_ca.n = conf->list_ca.n;
	c->list_ca.at = xcalloc(conf->list_ca.n + 1, sizeof(*c->list_ca.at));
	for (size_t i = 0; i < conf->list_ca.n; i++) {
		c->list_ca.at[i].list = xstrdup(conf->list_ca.at[i].list);
		c->list_ca.at[i].value = xstrdup(conf->list_ca.at[i].value);
	}
	return c;
}

static void
free_conf(struct conf *c)
{
	for (size_t i = 0; i < c->list_ca.n; i++) {
		free(c->list_ca.at[i].list);
		free(c->list_ca.at[i].value);
	}
	free(c->list_ca.at);
	free(c->proxy);
	free(c->tls_ca);
	free(c->file_prefix);
	free(c);
}

const struct conf *
lanes_conf(struct lanes *l)
{
	return l->conf;
}

int64_t
lanes_patience(struct lanes *l)
{
	return l->conf->block_timeout > 1 ? l->conf->block_timeout : DEFAULT_PATIENCE;
}

/* ---- what the lock covers -------------------------------------------------------------- */

void
lanes_lock(struct lanes *l)
{
	pthread_mutex_lock(&l->lock);
}

void
lanes_unlock(struct lanes *l)
{
	pthread_mutex_unlock(&l->lock);
}

pthread_mutex_t *
lanes_mutex(struct lanes *l)
{
	return &l->lock;
}

struct lanehost **
lanes_hosts(struct lanes *l)
{
	return &l->hosts;
}

static bool
lane_knows(const struct lane *lane, const struct lanehost *h)
{
	for (size_t i = 0; i < lane->n_hosts; i++)
		if (lane->hosts[i] == h)
			return true;
	return false;
}

static void
lane_learns(struct lane *lane, struct lanehost *h)
{
	assert(lane->n_hosts < LANE_HOSTS);
	lane->hosts[lane->n_hosts++] = lanehost_ref(h);
	h->n_lanes++;
}

static void
lane_forgets(struct lane *lane)
{
	for (size_t i = 0; i < lane->n_hosts; i++) {
		lane->hosts[i]->n_lanes--;
		lanehost_put(&lane->lanes->hosts, lane->hosts[i]);
	}
	lane->n_hosts = 0;
}

/* The connection to this one was closed by a refusal. */
static void
lane_forgets_one(struct lane *lane, const struct lanehost *h)
{
	for (size_t i = 0; i < lane->n_hosts; i++) {
		if (lane->hosts[i] != h)
			continue;
		lane->hosts[i]->n_lanes--;
		lanehost_put(&lane->lanes->hosts, lane->hosts[i]);
		lane->hosts[i] = lane->hosts[--lane->n_hosts];
		return;
	}
}

bool
lanes_may_ask(const struct lane *lane, const struct lanehost *h, long long now, long long *next)
{
	return lanehost_may_ask(h, lane_knows(lane, h), LANES_PER_HOST, now, next);
}

/* ---- choosing -------------------------------------------------------------------------- */

/* Whether a is to be done before b. */
static bool
goes_before(const struct lane *lane, const struct work *a, const struct work *b)
{
	long long bonus_a = a->lazy == lane->last ? UNFAIR_MS : 0;
	long long bonus_b = b->lazy == lane->last ? UNFAIR_MS : 0;

	if (a->rank != b->rank)
		return a->rank < b->rank;
	if (a->rank == RANK_WAITED)
		return a->since - bonus_a < b->since - bonus_b;
	return bonus_a > bonus_b;
}

static bool
choose(const struct lane *lane, long long now, long long *next, struct work *out)
{
	const struct lanes *l = lane->lanes;

	out->rank = RANK_NONE;
	for (size_t i = 0; i < l->n_lazies; i++) {
		struct work w = { .lazy = l->lazies[i] };

		w.rank = lazy_look(l->lazies[i], lane, now, next, &w);
		if (w.rank != RANK_NONE && (out->rank == RANK_NONE || goes_before(lane, &w, out)))
			*out = w;
	}
	return out->rank != RANK_NONE;
}

static void *lane_main(void *arg);

static bool
lane_start(struct lane *lane)
{
	struct err e = { 0 };
	int rc;

	if (lane->ranged == NULL && ranged_new(&lane->ranged, lane->lanes->starter, &e) != 0) {
		log_err(LOG_LVL_ERROR, "block mode", &e);
		return false;
	}
	rc = thread_start(&lane->thread, lane_main, lane);
	if (rc != 0)
		log_error("no thread for block mode: %s", strerrordesc_np(-rc));
	lane->started = rc == 0;
	return rc == 0;
}

/* Whether it would find something to do; *next: when else it should look. */
static bool
has_work(const struct lane *lane, struct lazy *z, long long *next)
{
	struct work w = { .lazy = z };

	if (z == NULL)
		return choose(lane, io_monotonic_ms(), next, &w);
	return lazy_look(z, lane, io_monotonic_ms(), next, &w) != RANK_NONE;
}

static bool
is_better(const struct lane *a, const struct lane *b)
{
	if (b == NULL || a->n_hosts != b->n_hosts)
		return b == NULL || a->n_hosts > b->n_hosts;
	return a->started && !b->started;
}

static void
wake(struct lane *lane)
{
	if (lane->started) {
		lane->idle = false;
		pthread_cond_signal(&lane->woken);
	} else {
		lane->lanes->stuck = !lane_start(lane);
	}
}

bool
lanes_are_stuck(struct lanes *l)
{
	bool stuck;

	pthread_mutex_lock(&l->lock);
	stuck = l->stuck;
	for (size_t i = 0; i < l->n; i++)
		stuck = stuck && !l->lanes[i].started;
	pthread_mutex_unlock(&l->lock);
	return stuck;
}

/*
 * Wakes one lane that finds work, with warm connections if there is any, else a new one.  If only
 * time has to pass, somebody has to look then: whoever does, and may not do it itself (because
 * others have the connections), comes here again before it sleeps on.  So do those that are busy.
 */
static void
wake_one(struct lanes *l, struct lazy *z)
{
	struct lane *best = NULL, *watch = NULL;
	long long earliest = LANES_NEVER, watched = LANES_NEVER;

	for (size_t i = 0; i < l->n && !l->stop; i++) {
		struct lane *lane = &l->lanes[i];

		if (lane->started && !lane->idle) {
			watched = 0;
			continue;
		}
		if (is_better(lane, best) && has_work(lane, z, &earliest))
			best = lane;
		if (lane->started && lane->until < watched)
			watched = lane->until;
		if (watch == NULL || (lane->started && !watch->started))
			watch = lane;
	}
	if (best != NULL)
		wake(best);
	else if (earliest < watched)
		wake(watch);
}

void
lanes_wake(struct lanes *l, struct lazy *z)
{
	wake_one(l, z);
}

void
lanes_add(struct lanes *l, struct lazy *z)
{
	l->lazies = xrealloc(l->lazies, (l->n_lazies + 1) * sizeof(struct lazy *));
	l->lazies[l->n_lazies++] = z;
	l->expected = true;
}

void
lanes_remove(struct lanes *l, struct lazy *z)
{
	for (size_t i = 0; i < l->n_lazies; i++) {
		if (l->lazies[i] == z) {
			l->lazies[i] = l->lazies[--l->n_lazies];
			return;
		}
	}
}

void
lanes_cancel(struct lanes *l, struct lazy *z, bool level0_only)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->lanes[i].work.lazy == z &&
		    (!level0_only || l->lanes[i].work.kind == WORK_LEVEL0))
			ranged_cancel(l->lanes[i].ranged);
}

/* ---- one piece of work ----------------------------------------------------------------- */

static int64_t
at_most(int64_t seconds, int64_t most)
{
	return seconds > 0 && seconds < most ? seconds : most;
}

/* Half of a reader's patience for a server that says nothing, so that another one can be asked. */
static void
fill_request(struct lane *lane)
{
	struct lanes *l = lane->lanes;
	struct fetch_request *req = &lane->req;
	const struct work *w = &lane->work;
	const char *ca = conf_tls_ca(l->conf, w->list_id);
	int64_t half = lanes_patience(l) / 2;

	fetch_request_init(req, l->conf);
	req->connect_timeout = at_most(req->connect_timeout, half);
	req->stall_timeout = at_most(req->stall_timeout, half);
	req->total_timeout = w->seconds;
	req->offset = w->offset;
	req->length = w->length;
	req->expected_size = w->file_size;
	snprintf(req->url, sizeof(req->url), "%s", w->uri);
	if (ca != NULL)
		snprintf(req->tls_ca, sizeof(req->tls_ca), "%s", ca);
	if (l->conf->file_prefix != NULL)
		snprintf(req->file_prefix, sizeof(req->file_prefix), "%s", l->conf->file_prefix);
}

/* True: the fetcher has to go first, because it cannot keep one more connection. */
static bool
begin(struct lane *lane, const struct work *w)
{
	bool full = false;

	lane->work = *w;
	lazy_take(&lane->work);
	ranged_resume(lane->ranged);
	if (w->host == NULL)
		return false;
	if (!lane_knows(lane, w->host)) {
		full = lane->n_hosts == LANE_HOSTS;
		if (full)
			lane_forgets(lane);
		lane_learns(lane, w->host);
	}
	w->host->n_active++;
	fill_request(lane);
	return full;
}

/* A list is somebody else's text: files are read only below the place that the admin named. */
static bool
is_allowed(const struct fetch_request *req, struct ranged_end *end)
{
	if (strncmp(req->url, "file:", 5) != 0 || req->file_prefix[0] != '\0')
		return true;
	memset(end, 0, sizeof(*end));
	err_refuse(&end->err, CODE_DOWNLOAD, "'%s' needs file_prefix", req->url);
	return false;
}

/* Locked.  What the server is known for after this answer. */
static bool
note_answer(struct lane *lane, const struct ranged_end *end)
{
	struct lanehost *h = lane->work.host;
	bool refused = end->err.rc != 0 && (end->http_status == 503 || end->http_status == 429);

	h->n_active--;
	if (!ranged_is_warm(lane->ranged))
		lane_forgets(lane);
	else if (end->err.rc != 0 && !end->begun)
		lane_forgets_one(lane, h);
	if (refused)
		lanehost_refused(h, end->retry_after, io_monotonic_ms());
	else if (end->begun)
		lanehost_answered(h);
	return refused;
}

/* Locked at the beginning and at the end. */
static void
work(struct lane *lane, const struct work *w)
{
	struct lanes *l = lane->lanes;
	struct ranged_end end = { 0 };
	bool refused = false;
	bool drop = begin(lane, w);

	wake_one(l, NULL);
	lanes_unlock(l);
	if (drop)
		ranged_drop(lane->ranged);
	if (w->host != NULL && is_allowed(&lane->req, &end))
		ranged_get(lane->ranged, &lane->req, lazy_piece, &lane->work, &end);
	if (w->host != NULL) {
		lanes_lock(l);
		refused = note_answer(lane, &end);
		lanes_unlock(l);
	}
	lazy_done(&lane->work, &end, refused);
	lanes_lock(l);
	lane->last = w->lazy;
	lane->used_at = io_monotonic_ms();
	lane->work.lazy = NULL;
	lazy_let_go(w->lazy);
	/* Others may have waited for this one to end. */
	wake_one(l, NULL);
}

/* ---- threads --------------------------------------------------------------------------- */

static void
wait_until(struct lane *lane, long long until)
{
	struct lanes *l = lane->lanes;
	struct timespec ts = { .tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000 };

	lane->idle = true;
	lane->until = until;
	wake_one(l, NULL);
	if (!lane->idle)
		return;
	if (until == LANES_NEVER)
		pthread_cond_wait(&lane->woken, &l->lock);
	else
		pthread_cond_timedwait(&lane->woken, &l->lock, &ts);
	lane->idle = false;
}

static void
give_up_fetcher(struct lane *lane)
{
	lane_forgets(lane);
	lanes_unlock(lane->lanes);
	ranged_drop(lane->ranged);
	lanes_lock(lane->lanes);
}

/* One that cannot be started is not tried again soon; a request would say why. */
static void
prepare_fetcher(struct lane *lane, long long now)
{
	lane->prepared_at = now;
	lanes_unlock(lane->lanes);
	ranged_prepare(lane->ranged, NULL);
	lanes_lock(lane->lanes);
}

static bool
should_prepare(const struct lane *lane, long long now)
{
	return lane->lanes->expected && lane < lane->lanes->lanes + LANES_READY &&
	       !ranged_is_warm(lane->ranged) &&
	       (lane->prepared_at == 0 || now >= lane->prepared_at + LANES_IDLE_MS);
}

/*
 * There is nothing to do until *next: true if its fetcher was seen to, which may have taken
 * time.
 */
static bool
keep_house(struct lane *lane, long long now, long long *next)
{
	long long over = lane->used_at + LANES_IDLE_MS;

	if (should_prepare(lane, now)) {
		prepare_fetcher(lane, now);
		return true;
	}
	if (!ranged_is_warm(lane->ranged) || ranged_is_fresh(lane->ranged))
		return false;
	if (now >= over) {
		lane->prepared_at = 0;
		give_up_fetcher(lane);
		return true;
	}
	if (over < *next)
		*next = over;
	return false;
}

static void *
lane_main(void *arg)
{
	struct lane *lane = arg;
	struct lanes *l = lane->lanes;

	prctl(PR_SET_NAME, "lane");
	lanes_lock(l);
	while (!l->stop) {
		long long now = io_monotonic_ms(), next = LANES_NEVER;
		struct work w;

		if (choose(lane, now, &next, &w))
			work(lane, &w);
		else if (!keep_house(lane, now, &next))
			wait_until(lane, next);
	}
	lane_forgets(lane);
	lanes_unlock(l);
	return NULL;
}

/* ---- public ---------------------------------------------------------------------------- */

struct lanes *
lanes_new(struct starter *starter, const struct conf *conf, int n)
{
	struct lanes *l = xcalloc(1, sizeof(*l) + (size_t)n * sizeof(l->lanes[0]));
	pthread_condattr_t attr;

	/* fetch_parallel is of images: more lanes than servers serve are of no use. */
	if (n > LANES_MAX)
		n = LANES_MAX;
	assert(n > 0);
	pthread_mutex_init(&l->lock, NULL);
	l->starter = starter;
	l->conf = copy_conf(conf);
	l->n = (size_t)n;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	for (size_t i = 0; i < l->n; i++) {
		l->lanes[i].lanes = l;
		pthread_cond_init(&l->lanes[i].woken, &attr);
	}
	pthread_condattr_destroy(&attr);
	return l;
}

void
lanes_reconfigure(struct lanes *l, const struct conf *conf)
{
	struct conf *fresh = copy_conf(conf);

	lanes_lock(l);
	free_conf(l->conf);
	l->conf = fresh;
	lanes_unlock(l);
}

static void
expect(struct lanes *l)
{
	if (l->expected)
		return;
	l->expected = true;
	for (size_t i = 0; i < l->n && i < LANES_READY; i++)
		if (!l->lanes[i].started || l->lanes[i].idle)
			wake(&l->lanes[i]);
}

void
lanes_expect(struct lanes *l)
{
	lanes_lock(l);
	expect(l);
	lanes_unlock(l);
}

void
lanes_free(struct lanes *l)
{
	if (l == NULL)
		return;
	lanes_lock(l);
	assert(l->n_lazies == 0);
	l->stop = true;
	for (size_t i = 0; i < l->n; i++)
		pthread_cond_signal(&l->lanes[i].woken);
	lanes_unlock(l);
	for (size_t i = 0; i < l->n; i++) {
		struct lane *lane = &l->lanes[i];

		if (lane->started)
			pthread_join(lane->thread, NULL);
		ranged_free(lane->ranged);
		explicit_bzero(&lane->req, sizeof(lane->req));
		pthread_cond_destroy(&lane->woken);
	}
	assert(l->hosts == NULL);
	pthread_mutex_destroy(&l->lock);
	free_conf(l->conf);
	free(l->lazies);
	free(l);
}
