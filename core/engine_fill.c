/*
 * Images in block mode beyond what readers ask for: what is filled in the background, what is taken
 * over from an older version first, and what is let go of.
 *
 * Places for filling: at most fetch_parallel images fill at once, new versions first, so that they
 * are whole one after the other, and not all at the end.  A command that asks for all of an image
 * needs no place, and neither does one that was withdrawn while it is open (engine_linger.c): its
 * publisher may take the file away any moment.  Nor does one that was whole until its last pass
 * (engine_whole.c): it lacks little, and nobody will read it for that.
 *
 * One of which nothing has come for FILL_STALLS times stall_timeout gives its place to one that
 * waits for it, and is late then: it has its turn when only others that are late wait.  Else a few
 * images whose server is gone would keep all others from being filled.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <string.h>

#include "io.h"
#include "log.h"
#include "plan.h"
#include "reuse.h"
#include "stored.h"

enum { FILL_STALLS = 2 };

/* ---- an older version's blocks ------------------------------------------------------------- */

struct older {
	const struct digest *new;
	struct digest old;
	bool found;
};

static int
find_older(void *arg, const struct image_row *row)
{
	struct older *o = arg;

	if (!row->has_pending || !digest_equal(&row->pending.sha512, o->new))
		return 0;
	o->old = row->meta.sha512;
	o->found = true;
	return 0;
}

/* The image's version that is in the store, as a file to read from; NULL: none. */
static struct blockfile *
older_version(struct engine *e, const struct lazyjob *job)
{
	struct older o = { .new = &job->digest };
	struct blockfile *f = NULL;
	struct object_row row;
	struct err err = { 0 };

	if (catalogue_image_each(e->catalogue, 0, true, find_older, &o, &err) != 0 || !o.found ||
	    catalogue_object_get(e->catalogue, &o.old, &row, &err) != 0)
		return NULL;
	if (row.state == OBJECT_VERIFIED && row.has_tree &&
	    stored_open(e->config.store, &o.old, row.size, &row.tree, &f, &err) != 0)
		f = NULL;
	object_row_release(&row);
	return f;
}

void
engine_begin_reuse(struct engine *e, struct lazyjob *job)
{
	struct reuse_config config = {
		.lazy = job->lazy, .to = job->file, .notify_fd = e->notify_fd,
		.landed = engine_tell_landed, .arg = e,
	};
	struct err err = { 0 };

	if (!job->pending || job->reused || blockfile_n_missing(job->file) == 0)
		return;
	job->reused = true;
	config.from = older_version(e, job);
	if (config.from != NULL && reuse_new(&job->reuse, &config, &err) != 0)
		engine_log_lazyjob(LOG_LVL_WARNING, job, &err);
	blockfile_unref(config.from);
}

void
engine_look_at_reuse(struct engine *e, struct lazyjob *job)
{
	struct err err = { 0 };
	char hex[DIGEST_HEX + 1];
	int64_t bytes = 0;

	if (job->reuse == NULL || !reuse_is_over(job->reuse))
		return;
	digest_hex(&job->digest, hex);
	if (reuse_result(job->reuse, &bytes, &err) != 0)
		log_err(LOG_LVL_INFO, hex, &err);
	log_info("%s: %lld bytes taken from the version before", hex, (long long)bytes);
	pthread_mutex_lock(&e->lock);
	e->status.reused_bytes += bytes;
	pthread_mutex_unlock(&e->lock);
	reuse_free(job->reuse);
	job->reuse = NULL;
}

/* ---- places -------------------------------------------------------------------------------- */

static bool
needs_no_place(const struct lazyjob *job)
{
	return job->asked || job->withdrawn || job->was_whole;
}

enum lazy_fill
engine_wanted_fill(struct engine *e, const struct lazyjob *job)
{
	return plan_fill(engine_conf(e), job->pending, engine_has_handlers(e), needs_no_place(job));
}

static bool
can_be_filled(const struct lazyjob *job)
{
	return job->state == LAZYJOB_QUEUED || job->state == LAZYJOB_ROOTING ||
	       job->state == LAZYJOB_SERVING;
}

static bool
takes_place(const struct lazyjob *job)
{
	return job->filling && !needs_no_place(job) && can_be_filled(job);
}

/* One that failed would hold a place for nothing before the time of its next try. */
static bool
waits_for_place(struct engine *e, const struct lazyjob *job, long long now)
{
	bool rests = job->n_failed > 0 && now < job->retry_at && job->state != LAZYJOB_SERVING;

	return !job->filling && !rests && !needs_no_place(job) && can_be_filled(job) &&
	       engine_wanted_fill(e, job) != LAZY_FILL_NOT;
}

/* The file changes places with what the plan says only when that is something else. */
static void
set_fill(struct engine *e, struct lazyjob *job)
{
	enum lazy_fill fill = job->filling ? engine_wanted_fill(e, job) : LAZY_FILL_NOT;

	if (job->state != LAZYJOB_SERVING || job->reuse != NULL || job->fill == fill)
		return;
	job->fill = fill;
	lazy_fill(job->lazy, fill);
}

static void
set_due(struct engine *e, struct lazyjob *job, bool due)
{
	if (job->due == due)
		return;
	pthread_rwlock_wrlock(&e->lazies);
	job->due = due;
	pthread_rwlock_unlock(&e->lazies);
}

static void
note_moved(struct lazyjob *job, long long now)
{
	job->moved_at = now;
	job->had = engine_lazyjob_bytes(job);
}

static long long
stuck_at(const struct engine *e, const struct lazyjob *job)
{
	return job->moved_at + FILL_STALLS * 1000 * engine_conf(e)->stall_timeout;
}

static void
go_behind(struct engine *e, struct lazyjob *job)
{
	struct lazyjob **p = &e->lazyjobs;

	while (*p != job)
		p = &(*p)->next;
	pthread_rwlock_wrlock(&e->lazies);
	*p = job->next;
	while (*p != NULL)
		p = &(*p)->next;
	*p = job;
	job->next = NULL;
	pthread_rwlock_unlock(&e->lazies);
}

/* As many as others wait for in vain.  Returns how many. */
static int64_t
take_places_back(struct engine *e, long long now, int64_t n_wanted)
{
	struct lazyjob *job, *next;
	int64_t n_taken = 0;
	size_t n = 0;

	for (job = e->lazyjobs; job != NULL && n_wanted > 0; job = job->next)
		n++;
	/* Those that go behind are not met again. */
	for (job = e->lazyjobs; n > 0 && n_taken < n_wanted; job = next, n--) {
		next = job->next;
		if (!takes_place(job))
			continue;
		if (job->had != engine_lazyjob_bytes(job))
			note_moved(job, now);
		if (now < stuck_at(e, job))
			continue;
		job->filling = false;
		job->late = true;
		go_behind(e, job);
		n_taken++;
	}
	return n_taken;
}

enum turn { TURN_NEW_VERSIONS, TURN_OTHERS, TURN_LATE, N_TURNS };

static enum turn
turn_of(const struct lazyjob *job)
{
	return job->late ? TURN_LATE : job->pending ? TURN_NEW_VERSIONS : TURN_OTHERS;
}

static void
give_places(struct engine *e, enum turn turn, long long now, int64_t *free_places)
{
	for (struct lazyjob *job = e->lazyjobs; job != NULL && *free_places > 0; job = job->next) {
		if (turn_of(job) != turn || !waits_for_place(e, job, now))
			continue;
		job->filling = true;
		job->late = false;
		note_moved(job, now);
		(*free_places)--;
	}
}

/* What needs no place has one at once, what is not to be filled has none. */
static void
review_place(struct engine *e, struct lazyjob *job)
{
	bool wanted = engine_wanted_fill(e, job) != LAZY_FILL_NOT;

	set_due(e, job, wanted);
	job->filling = wanted && (job->filling || needs_no_place(job));
	/* Something came after all. */
	if (job->late && job->had != engine_lazyjob_bytes(job))
		job->late = false;
}

void
engine_plan_fill(struct engine *e)
{
	int64_t n_free = engine_conf(e)->fetch_parallel, n_waiting = 0;
	long long now = io_monotonic_ms();

	for (struct lazyjob *job = e->lazyjobs; job != NULL; job = job->next) {
		review_place(e, job);
		n_free -= takes_place(job);
		n_waiting += waits_for_place(e, job, now);
	}
	n_free += take_places_back(e, now, n_waiting - n_free);
	for (int turn = 0; turn < N_TURNS; turn++)
		give_places(e, (enum turn)turn, now, &n_free);
	for (struct lazyjob *job = e->lazyjobs; job != NULL; job = job->next)
		set_fill(e, job);
}

long long
engine_places_wait(struct engine *e, long long now)
{
	long long wait = -1;
	bool any = false;

	for (const struct lazyjob *job = e->lazyjobs; job != NULL; job = job->next) {
		long long left = stuck_at(e, job) - now;

		any = any || waits_for_place(e, job, now);
		if (takes_place(job) && (wait < 0 || left < wait))
			wait = left < 0 ? 0 : left;
	}
	return any ? wait : -1;
}

/* ---- rest ----------------------------------------------------------------------------------- */

static bool
may_rest(struct engine *e, const struct lazyjob *job, long long now)
{
	struct lazy_figures figures = { .active = false };

	if (job->waiting || job->filling || job->asked || job->reuse != NULL ||
	    engine_is_open(e, &job->digest))
		return false;
	switch (job->state) {
	case LAZYJOB_ROOTING:
	case LAZYJOB_SERVING:
		lazy_figures(job->lazy, &figures);
		/* One that has all its granules is about to be checked. */
		return !figures.active &&
		       (job->file == NULL || blockfile_n_missing(job->file) > 0);
	case LAZYJOB_BACKOFF:
		/* Until then readers are told of the failure, and not each of them tries again. */
		return now >= job->retry_at && engine_wanted_fill(e, job) == LAZY_FILL_NOT;
	case LAZYJOB_QUEUED:
	case LAZYJOB_CHECKING:
	case LAZYJOB_STORED:
		break;
	}
	return false;
}

static void
rest(struct engine *e, struct lazyjob *job)
{
	struct digest d = job->digest;

	if (job->rooted || job->due || engine_lazyjob_bytes(job) > 0) {
		engine_stop_lazyjob(e, job);
		job->state = LAZYJOB_QUEUED;
	} else {
		engine_drop_lazyjob(e, job);
	}
	engine_tell_activity(e, &d, false);
}

/*
 * An image that is neither open nor filled keeps descriptors and its tree for nothing.  What is
 * here of it stays, and is found again by the next reader.
 */
void
engine_rest_lazyjobs(struct engine *e)
{
	long long now = io_monotonic_ms();
	struct lazyjob *job, *next;

	for (job = e->lazyjobs; job != NULL; job = next) {
		next = job->next;
		if (may_rest(e, job, now))
			rest(e, job);
	}
}
