/*
 * The engine's loop: one poll over everything that can happen, then each job is stepped until it
 * has nothing more to do.
 *
 * Who waits is answered exactly once for each engine_want(): when the job's bytes are verified,
 * or when its try failed.  A want that meets a failed job is answered at once with its failure,
 * unless the time for a new try has come.
 */
#include "config.h"
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cleanup.h"
#include "engine_impl.h"
#include "io.h"
#include "log.h"
#include "plan.h"
#include "stamp.h"

enum {
	POLL_CONTROL = 4, POLL_EVENTS,		/* of those that are always there */
	POLL_FIXED,
	POLL_MAX = POLL_FIXED + LIMIT_CONTROL_CLIENTS + 128,
};

static void
clear_fd(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0) {
		/* Nothing was there. */
	}
}

static struct job_env
job_environment(struct engine *e)
{
	return (struct job_env){
		.conf = engine_conf(e), .catalogue = e->catalogue, .store = e->config.store,
		.starter = e->config.starter, .notify_fd = e->notify_fd,
		.counters = &e->counters,
	};
}

struct job *
engine_find_job(struct engine *e, const struct digest *d)
{
	for (struct job *job = e->jobs; job != NULL; job = job->next)
		if (digest_equal(&job->digest, d))
			return job;
	return NULL;
}

void
engine_add_job(struct engine *e, struct job *job)
{
	struct job **end = &e->jobs;

	while (*end != NULL)
		end = &(*end)->next;
	pthread_mutex_lock(&e->lock);
	*end = job;
	pthread_mutex_unlock(&e->lock);
}

void
engine_drop_job(struct engine *e, struct job *job)
{
	struct job **p = &e->jobs;

	while (*p != job)
		p = &(*p)->next;
	pthread_mutex_lock(&e->lock);
	*p = job->next;
	pthread_mutex_unlock(&e->lock);
	store_dismiss(e->config.store, &job->digest);
	job_free(job);
}

/*
 * Behind those that are still to be tried: else a server that hangs, with enough images, would have
 * all places for ever.
 */
void
engine_requeue_job(struct engine *e, struct job *job)
{
	struct job **p = &e->jobs;

	job_requeue(job);
	while (*p != job)
		p = &(*p)->next;
	pthread_mutex_lock(&e->lock);
	*p = job->next;
	while (*p != NULL)
		p = &(*p)->next;
	*p = job;
	job->next = NULL;
	pthread_mutex_unlock(&e->lock);
}

void
engine_answer(struct engine *e, const struct digest *d, int rc, struct blockfile *f,
	      const struct err *why)
{
	const struct engine_ops *ops = &e->config.ops;

	if (ops->answered != NULL)
		ops->answered(ops->arg, d, rc, f, why);
	control_answer_watchers(e, d, rc, why);
}

void
engine_tell_activity(struct engine *e, const struct digest *d, bool active)
{
	if (e->config.ops.activity != NULL)
		e->config.ops.activity(e->config.ops.arg, d, active);
}

void
engine_tell_lost(struct engine *e, const struct digest *d)
{
	engine_forget_audited(e, d);
	if (e->config.ops.lost != NULL)
		e->config.ops.lost(e->config.ops.arg, d);
}

void
engine_tell_failed(struct engine *e, const struct digest *d, int64_t first, int64_t n,
		   const struct err *why)
{
	const struct engine_ops *ops = &e->config.ops;

	if (ops->failed != NULL)
		ops->failed(ops->arg, d, first, n, plan_reader_errno(why), why);
}

bool
engine_is_open(struct engine *e, const struct digest *d)
{
	const struct engine_ops *ops = &e->config.ops;

	return ops->is_open != NULL && ops->is_open(ops->arg, d);
}

bool
engine_is_fetching(struct engine *e, const struct digest *d)
{
	return engine_find_job(e, d) != NULL || engine_find_lazyjob(e, d) != NULL;
}

void
engine_rows_changed(struct engine *e)
{
	e->next_expiry = catalogue_next_expiry(e->catalogue);
	engine_count_rows(e);
	if (e->config.ops.changed == NULL)
		return;
	e->ticket = e->config.ops.changed(e->config.ops.arg, e->catalogue);
	if (e->ticket == ENGINE_NOT_SHOWN) {
		e->ticket = 0;
		e->data_version = -1;	/* the next turn looks again */
	}
	engine_events_changed(e);
}

/* ---- jobs -------------------------------------------------------------------------------- */

/*
 * Readers of a daemon get the bytes as soon as they are verified.  A command is answered when the
 * file is in the store and its row says so: it has nothing to read, and will say that all is done.
 */
static void
answer_job(struct engine *e, struct job *job, struct blockfile *file)
{
	if (!job->waiting)
		return;
	if (job->state == (e->config.daemon ? JOB_STORING : JOB_DONE)) {
		job->waiting = false;
		engine_answer(e, &job->digest, file != NULL ? 0 : -EIO, file, NULL);
	} else if (job->state == JOB_BACKOFF) {
		job->waiting = false;
		engine_answer(e, &job->digest, job->result.rc, NULL, &job->result);
	}
}

/* The intake goes when the job is done, and what it received was hashed from end to end. */
static struct blockfile *
hold_file(const struct job *job)
{
	return job->state == JOB_STORING ? intake_blockfile(job->intake) : NULL;
}

static void
end_job(struct engine *e, struct job *job, struct blockfile *file)
{
	struct digest d = job->digest;

	engine_drop_job(e, job);
	if (file != NULL)
		engine_note_audited(e, &d, file);
	control_answer_watchers(e, &d, 0, NULL);
}

/* Steps one job until it rests; drops it when it is done. */
static void
run_job(struct engine *e, struct job *job)
{
	struct blockfile *file = hold_file(job);
	struct job_env env = job_environment(e);
	enum job_state before;
	bool more;

	do {
		before = job->state;
		more = job_step(job, &env);
		if (file == NULL)
			file = hold_file(job);
		answer_job(e, job, file);
		if (job->state == before)
			continue;
		/* Readers have been given these bytes, but the disk did not keep them. */
		if (before == JOB_STORING && job->state == JOB_BACKOFF) {
			engine_tell_lost(e, &job->digest);
			e->data_version = -1;	/* its row may be to be cleared away */
		}
		if (job->state == JOB_BACKOFF)
			store_dismiss(e->config.store, &job->digest);
		if (job->state == JOB_BACKOFF && job->result.code == CODE_FULL)
			job->free_then = engine_disk_full(e);
		if (job->state == JOB_BACKOFF || job->state == JOB_DONE) {
			engine_tell_activity(e, &job->digest, false);
			engine_rows_changed(e);
		}
	} while (more && (job->state == JOB_RECEIVING || job->state == JOB_STORING));
	if (job->state == JOB_BACKOFF && before != JOB_BACKOFF)
		control_answer_watchers(e, &job->digest, job->result.rc, &job->result);
	if (job->state == JOB_DONE)
		end_job(e, job, file);
	blockfile_unref(file);
}

/*
 * Readers first; what nobody waits for leaves them one place.  If that took all there are (there
 * may be one alone), readers have one more.
 */
struct job *
engine_next_job(struct engine *e)
{
	int64_t places = engine_conf(e)->fetch_parallel, running = 0, waited_for = 0;
	struct job *idle = NULL;

	for (struct job *job = e->jobs; job != NULL; job = job->next) {
		running += job->state == JOB_RECEIVING;
		waited_for += job->state == JOB_RECEIVING && job->waiting;
	}
	if (running > places || (running == places && waited_for > 0))
		return NULL;
	for (struct job *job = e->jobs; job != NULL; job = job->next) {
		if (job->state != JOB_QUEUED)
			continue;
		if (job->waiting)
			return job;
		if (idle == NULL)
			idle = job;
	}
	return running < places - 1 || (places == 1 && running == 0) ? idle : NULL;
}

/* One that found no room waits for room, and not for a time. */
static bool
is_due(struct engine *e, struct job *job)
{
	long long now = io_monotonic_ms();

	if (job->state != JOB_BACKOFF || job->gave_up || now < job->retry_at)
		return false;
	if (job->result.code != CODE_FULL)
		return true;
	job->retry_at = now + LIMIT_ROOM_LOOK_MS;
	return engine_room_came(e, &job->digest, job->size, job->free_then, job->failed_at);
}

/* With room promised to it, or not at all. */
static void
start_job(struct engine *e, struct job *job, const struct job_env *env)
{
	struct err err = { 0 };

	if (engine_make_room(e, &job->digest, job->size, job->waiting || job->pending, &err) != 0) {
		job_refuse(job, env, &err);
		return;
	}
	job_start(job, env);
	if (job->state == JOB_BACKOFF && job->result.code == CODE_FULL)
		job->free_then = engine_disk_full(e);
}

static void
run_jobs(struct engine *e)
{
	struct job_env env = job_environment(e);
	struct job *job, *next;

	for (job = e->jobs; job != NULL; job = next) {
		next = job->next;
		if (is_due(e, job)) {
			engine_requeue_job(e, job);
			engine_tell_activity(e, &job->digest, true);
		}
		run_job(e, job);
	}
	while ((job = engine_next_job(e)) != NULL) {
		start_job(e, job, &env);
		answer_job(e, job, NULL);
		if (job->state == JOB_BACKOFF) {
			engine_tell_activity(e, &job->digest, false);
			engine_rows_changed(e);
		} else {
			run_job(e, job);
		}
	}
}

/* Jobs whose object nobody wants any more, and failures that a new list version has forgiven. */
static void
review_jobs(struct engine *e)
{
	struct job *job, *next;

	for (job = e->jobs; job != NULL; job = next) {
		struct object_row row;
		struct err err = { 0 };
		bool wanted = false;

		next = job->next;
		if (catalogue_object_get(e->catalogue, &job->digest, &row, &err) == 0) {
			wanted = row.wanted && row.state != OBJECT_VERIFIED;
			job->tries = row.tries;
			if (job->state == JOB_BACKOFF && row.tries == 0 && job->gave_up)
				wanted = false;	/* a fresh start: the next want makes a new job */
			object_row_release(&row);
		}
		if (wanted || job->state == JOB_STORING)
			continue;
		if (job->waiting) {
			err_set(&err, ENOENT, "the image was withdrawn while it was being fetched");
			engine_answer(e, &job->digest, err.rc, NULL, &err);
		}
		job->waiting = false;
		engine_drop_job(e, job);
	}
}

void
engine_look(struct engine *e)
{
	/*
	 * Only here: what others changed while we handled a change of our own is still to be
	 * looked at.  Our own commits do not move it.
	 */
	e->data_version = catalogue_data_version(e->catalogue);
	engine_adopt_again(e);
	engine_rows_changed(e);
	engine_room_changed(e);
	engine_review_adoption(e);
	review_jobs(e);
	engine_review_lazyjobs(e);
	engine_drop_unwanted(e);
	engine_plan_prefetch(e);
	engine_plan_fill(e);
}

/* ---- the loop ----------------------------------------------------------------------------- */

static size_t
fill_poll(struct engine *e, struct pollfd *fds)
{
	size_t n = 0;

	fds[n++] = (struct pollfd){ .fd = e->wake_fd, .events = POLLIN };
	fds[n++] = (struct pollfd){ .fd = e->notify_fd, .events = POLLIN };
	fds[n++] = (struct pollfd){ .fd = e->config.stop_fd, .events = POLLIN };
	fds[n++] = (struct pollfd){ .fd = e->starter_gone ? -1 : starter_fd(e->config.starter),
				    .events = POLLIN };
	fds[n++] = (struct pollfd){ .fd = e->config.control_socket, .events = POLLIN };
	fds[n++] = (struct pollfd){ .fd = engine_events_fd(e), .events = POLLIN };
	for (struct client *c = e->clients; c != NULL && n < POLL_MAX; c = c->next)
		fds[n++] = (struct pollfd){ .fd = c->fd, .events = POLLIN };
	for (struct job *job = e->jobs; job != NULL && n < POLL_MAX; job = job->next)
		if (job_fd(job) >= 0)
			fds[n++] = (struct pollfd){ .fd = job_fd(job), .events = POLLIN };
	return n;
}

static int
sooner(int a, long long b)
{
	if (b < 0)
		b = 0;
	if (b > 3600 * 1000)
		b = 3600 * 1000;
	return a < 0 || b < a ? (int)b : a;
}

static int
wait_ms(struct engine *e)
{
	long long now = io_monotonic_ms();
	int wait = engine_timers_wait(e, now), blocks, events, room, adoption;

	for (struct job *job = e->jobs; job != NULL; job = job->next)
		if ((job->state == JOB_BACKOFF && !job->gave_up) ||
		    (job->state == JOB_STORING && job->retry_at > 0))
			wait = sooner(wait, job->retry_at - now);
	if (control_has_watchers(e))
		wait = sooner(wait, 250);
	if ((adoption = engine_adopt_wait(e, now)) >= 0)
		wait = sooner(wait, adoption);
	if ((room = engine_trim_wait(e, now)) >= 0)
		wait = sooner(wait, room);
	if ((blocks = engine_lazyjobs_wait(e, now)) >= 0)
		wait = sooner(wait, blocks);
	if ((events = engine_events_wait(e)) >= 0)
		wait = sooner(wait, events);
	return wait;
}

static void
take_passes(struct engine *e)
{
	struct pass *pass;

	while ((pass = passes_take(e->passes)) != NULL) {
		switch (pass->kind) {
		case PASS_REBUILD:
			engine_rebuilt(e, pass);
			break;
		case PASS_ADOPT:
			engine_adopted(e, pass);
			break;
		case PASS_COMMIT:
			engine_committed(e, pass);
			break;
		case PASS_CHECK:
			engine_examined(e, pass);
			break;
		}
		pass_free(pass);
	}
}

static void
serve_clients(struct engine *e, const struct pollfd *fds, size_t n)
{
	if ((fds[POLL_CONTROL].revents & POLLIN) != 0)
		control_accept(e);
	for (size_t i = POLL_FIXED; i < n; i++) {
		if (fds[i].revents == 0)
			continue;
		for (struct client *c = e->clients; c != NULL; c = c->next)
			if (c->fd == fds[i].fd)
				control_readable(e, c);
	}
	control_tell_progress(e);
	control_settle(e);
	control_drop_closed(e);
}

static bool
inbox_is_empty(struct engine *e)
{
	bool empty;

	pthread_mutex_lock(&e->lock);
	empty = e->inbox == NULL;
	pthread_mutex_unlock(&e->lock);
	return empty;
}

static bool
idle(struct engine *e)
{
	for (const struct job *job = e->jobs; job != NULL; job = job->next)
		if (job_is_active(job))
			return false;
	for (const struct lazyjob *job = e->lazyjobs; job != NULL; job = job->next)
		if (job->waiting)
			return false;
	return inbox_is_empty(e) && passes_are_idle(e->passes) && !engine_is_healing(e) &&
	       !engine_is_examining(e);
}

/* One round; true: stop. */
static bool
turn(struct engine *e, struct err *err, int *rc)
{
	struct pollfd fds[POLL_MAX];
	size_t n = fill_poll(e, fds);

	if (poll(fds, n, wait_ms(e)) < 0 && errno != EINTR) {
		*rc = err_set(err, errno, "poll failed");
		return true;
	}
	if ((fds[2].revents & (POLLIN | POLLHUP)) != 0)
		return true;
	clear_fd(e->notify_fd);
	if (engine_take_inbox(e))
		return true;
	engine_reap(e);
	engine_timers_run(e);
	take_passes(e);
	engine_run_heals(e);
	engine_run_lazyjobs(e);
	run_jobs(e);
	serve_clients(e, fds, n);
	engine_events_run(e, fds[POLL_EVENTS].revents != 0);
	engine_trim(e);
	engine_adopt_step(e);
	return false;
}

int
engine_run(struct engine *e, struct err *err)
{
	int rc = 0;

	engine_adopt(e);
	if (e->config.daemon)
		engine_clock_start(e);
	engine_timers_start(e);
	engine_events_start(e);
	engine_look(e);
	do {
		if (turn(e, err, &rc))
			break;
	} while (e->config.daemon || !idle(e));
	engine_save_uses(e);
	return rc;
}

/* One for readers and one for what is done in the background, at least. */
static int
n_lanes(const struct conf *conf)
{
	return conf->fetch_parallel < 2 ? 2 : (int)conf->fetch_parallel;
}

int
engine_new(struct engine **out, const struct engine_config *config, struct err *err)
{
	struct engine *e = xcalloc(1, sizeof(*e));

	e->config = *config;
	e->catalogue = config->catalogue;
	e->inbox_end = &e->inbox;
	e->next_expiry = INT64_MAX;
	pthread_mutex_init(&e->lock, NULL);
	pthread_rwlock_init(&e->lazies, NULL);
	pthread_mutex_init(&e->room.lock, NULL);
	e->status.started = stamp_now();
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->wake_fd < 0 || e->notify_fd < 0) {
		int rc = err_set(err, errno, "no eventfd for the engine");

		engine_free(e);
		return rc;
	}
	e->passes = passes_new(config->store, e->notify_fd);
	e->lanes = lanes_new(config->starter, config->conf, n_lanes(config->conf));
	*out = e;
	return 0;
}

void
engine_free(struct engine *e)
{
	if (e == NULL)
		return;
	/* First what has threads that call others, or use what is freed below. */
	passes_free(e->passes);
	e->passes = NULL;
	engine_free_heals(e);
	while (e->lazyjobs != NULL)
		engine_drop_lazyjob(e, e->lazyjobs);
	lanes_free(e->lanes);
	while (e->jobs != NULL)
		engine_drop_job(e, e->jobs);
	engine_free_inbox(e);
	engine_free_examinations(e);
	control_drop_all(e);
	engine_adopt_end(e);
	engine_events_end(e);
	close_keep_errno(e->wake_fd);
	close_keep_errno(e->notify_fd);
	catalogue_close(e->catalogue);
	conf_free(e->own_conf);
	conf_free(e->new_conf);
	free(e->room.uses);
	pthread_mutex_destroy(&e->room.lock);
	pthread_rwlock_destroy(&e->lazies);
	pthread_mutex_destroy(&e->lock);
	free(e);
}
