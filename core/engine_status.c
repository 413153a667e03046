/*
 * Figures for `status`: counted from the rows when they change, so that showing them costs nothing.
 */
#include "config.h"
#include "engine_impl.h"

#include <string.h>

#include "log.h"

int
engine_status_count(struct engine_status *s, struct catalogue *c, struct store *store,
		    struct err *err)
{
	int rc = catalogue_count(c, &s->rows, err);

	if (rc == 0 && store != NULL)
		rc = store_usage(store, &s->usage, err);
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
	e->status.fetched_bytes = e->counters.fetched_bytes;
	e->status.fetched_images = e->counters.fetched_images;
	e->status.failed_tries = e->counters.failed_tries;
	if (counted.last_update > e->status.last_update)
		e->status.last_update = counted.last_update;
	pthread_mutex_unlock(&e->lock);
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
}
