/*
 * Figures for `status`: counted from the rows when they change, so that showing them costs nothing.
 */
#include "config.h"
#include "engine_impl.h"

#include <malloc.h>
#include <string.h>

#include "log.h"
#include "outbox.h"

struct withdrawn {
	struct store *store;
	int64_t bytes;
};

static int
add_withdrawn(void *arg, const struct digest *d)
{
	struct withdrawn *w = arg;

	w->bytes += store_bytes(w->store, d).object;
	return 0;
}

static int
count_room(struct engine_status *s, struct catalogue *c, struct store *store, struct err *err)
{
	struct withdrawn w = { .store = store };
	int rc = store_room(store, &s->usage, err);

	if (rc == 0)
		rc = catalogue_withdrawn_each(c, add_withdrawn, &w, err);
	s->expired_bytes = w.bytes;
	return rc;
}

int
engine_status_count(struct engine_status *s, struct catalogue *c, struct store *store,
		    struct err *err)
{
	int rc = catalogue_count(c, &s->rows, err);

	if (rc == 0)
		rc = catalogue_delivery_count(c, &s->events_waiting, &s->events_failed, err);
	s->pinned = catalogue_pin_count(c);
	if (rc == 0 && store != NULL)
		rc = count_room(s, c, store, err);
	s->cache_used = store_used(&s->usage);
	if (s->rows.tried > s->last_update)
		s->last_update = s->rows.tried;
	return rc;
}

void
engine_count_rows(struct engine *e)
{
	struct engine_status counted = { 0 };
	struct err err = { 0 };

	if (engine_status_count(&counted, e->catalogue, e->config.store, &err) != 0) {
		log_err(LOG_LVL_ERROR, "status", &err);
		return;
	}
	pthread_mutex_lock(&e->lock);
	e->status.rows = counted.rows;
	e->status.usage = counted.usage;
	e->status.cache_used = counted.cache_used;
	e->status.expired_bytes = counted.expired_bytes;
	e->status.pinned = counted.pinned;
	e->status.events_waiting = counted.events_waiting;
	e->status.events_failed = counted.events_failed;
	e->status.fetched_bytes = e->counters.fetched_bytes;
	e->status.fetched_images = e->counters.fetched_images;
	e->status.failed_tries = e->counters.failed_tries;
	if (counted.last_update > e->status.last_update)
		e->status.last_update = counted.last_update;
	pthread_mutex_unlock(&e->lock);
}

static bool
is_active(const struct lazyjob *job, int64_t *fetched)
{
	struct lazy_figures figures = { 0 };

	if (job->lazy != NULL)
		lazy_figures(job->lazy, &figures);
	*fetched = figures.fetched_bytes;
	/* Whole, and about to be the object. */
	return figures.active || (job->file != NULL && blockfile_n_missing(job->file) == 0);
}

void
engine_progress(struct engine *e, const struct digest *d, struct engine_progress *out)
{
	int64_t fetched;

	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&e->lock);
	for (struct job *job = e->jobs; job != NULL; job = job->next) {
		if (!digest_equal(&job->digest, d))
			continue;
		job_progress(job, &out->active, &out->bytes);
		out->total = job->size;
		break;
	}
	pthread_mutex_unlock(&e->lock);
	if (out->total > 0)
		return;
	pthread_rwlock_rdlock(&e->lazies);
	for (struct lazyjob *job = e->lazyjobs; job != NULL; job = job->next) {
		if (!digest_equal(&job->digest, d))
			continue;
		out->active = is_active(job, &fetched);
		out->bytes = engine_lazyjob_bytes(job);
		out->total = job->size;
		break;
	}
	pthread_rwlock_unlock(&e->lazies);
}

static void
add_lazyjobs(struct engine *e, struct engine_status *out)
{
	pthread_rwlock_rdlock(&e->lazies);
	for (struct lazyjob *job = e->lazyjobs; job != NULL; job = job->next) {
		int64_t fetched;

		if (is_active(job, &fetched))
			out->n_fetching++;
		else if (job->lazy == NULL && job->due)
			out->n_queued++;
		out->fetched_bytes += fetched;
	}
	pthread_rwlock_unlock(&e->lazies);
}

static int64_t
memory_in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return (int64_t)(m.uordblks + m.hblkhd);
}

void
engine_status(struct engine *e, struct engine_status *out)
{
	pthread_mutex_lock(&e->lock);
	*out = e->status;
	out->n_fetching = out->n_queued = 0;
	for (struct job *job = e->jobs; job != NULL; job = job->next) {
		bool active;
		int64_t bytes;

		job_progress(job, &active, &bytes);
		if (active && bytes > 0)
			out->n_fetching++;
		else if (active)
			out->n_queued++;
	}
	pthread_mutex_unlock(&e->lock);
	out->memory = memory_in_use();
	add_lazyjobs(e, out);
}
