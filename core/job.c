/*
 * One object on its way: source -> fetcher -> pipe -> intake -> store -> catalogue.
 *
 * Two parties report: the fetcher (BEGIN, END over its socket) and the intake (state).  A try is
 * judged only when both are through: the fetcher has said END and the intake is not RUNNING.  Then
 * the intake's word counts first, because it has seen the bytes.
 *
 * What counts as a failed try of LIMIT_TRIES: bytes that are not the signed ones, or too many or
 * too few of them.  A network that is down never uses up tries, it only makes the waits longer.
 * Bytes with the signed SHA-512 and another tree than the signed one use up all of them at once:
 * the signatures contradict each other, and the same bytes would come again.
 */
#include "config.h"
#include "job.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "log.h"
#include "plan.h"
#include "stamp.h"

/*
 * A cut transfer goes on at once only after at least this much of it came, or an eighth of what was
 * missing: else a server that gives a byte a connection would keep us busy for ever.
 */
enum { PROGRESS_BYTES = 256 << 10, PROGRESS_SHARE = 8 };

struct job *
job_new(const struct object_row *row)
{
	struct job *job = xcalloc(1, sizeof(*job));

	job->digest = row->digest;
	job->size = row->size;
	job->has_root = row->has_root;
	job->root = row->root;
	job->tries = row->tries;
	job->pending = row->pending;
	job->pipe_rd = -1;
	pthread_mutex_init(&job->lock, NULL);
	snprintf(job->etag, sizeof(job->etag), "%s", row->etag != NULL ? row->etag : "");
	snprintf(job->etag_url, sizeof(job->etag_url), "%s",
		 row->etag_url != NULL ? row->etag_url : "");
	return job;
}

static void
set_state(struct job *job, enum job_state state)
{
	pthread_mutex_lock(&job->lock);
	job->state = state;
	pthread_mutex_unlock(&job->lock);
}

/* The intake is freed outside the lock: that waits for its threads. */
static void
drop_intake(struct job *job)
{
	struct intake *intake = job->intake;

	pthread_mutex_lock(&job->lock);
	job->intake = NULL;
	pthread_mutex_unlock(&job->lock);
	intake_free(intake);
}

static void
drop_sources(struct job *job)
{
	for (size_t i = 0; i < job->n_sources; i++) {
		free(job->sources[i].uri);
		free(job->sources[i].list_id);
	}
	free(job->sources);
	job->sources = NULL;
	job->n_sources = job->source = 0;
}

static void
end_transfer(struct job *job)
{
	fetch_free(job->fetch);
	job->fetch = NULL;
	if (job->pipe_rd >= 0)
		close(job->pipe_rd);
	job->pipe_rd = -1;
	job->begun = job->ended = false;
}

void
job_free(struct job *job)
{
	if (job == NULL)
		return;
	end_transfer(job);
	drop_intake(job);
	drop_sources(job);
	pthread_mutex_destroy(&job->lock);
	free(job);
}

bool
job_is_active(const struct job *job)
{
	return job->state == JOB_QUEUED || job->state == JOB_RECEIVING || job->state == JOB_STORING;
}

void
job_progress(struct job *job, bool *active, int64_t *bytes)
{
	pthread_mutex_lock(&job->lock);
	*active = job_is_active(job);
	*bytes = job->intake != NULL ? intake_offset(job->intake) : 0;
	pthread_mutex_unlock(&job->lock);
}

int
job_fd(const struct job *job)
{
	return job->fetch != NULL && !job->ended ? fetch_fd(job->fetch) : -1;
}

void
job_requeue(struct job *job)
{
	assert(job->state == JOB_BACKOFF);
	set_state(job, JOB_QUEUED);
	job->gave_up = false;
	job->n_sources_failed = 0;
	job->restarted = false;
	err_clear(&job->result);
}

/*
 * Readers get the errno values that the manual lists: no answer in time is one thing, and whatever
 * else kept the bytes from coming is the other.
 */
static int
errno_for_readers(const struct err *why)
{
	if (why->code == CODE_SLOW && why->rc != -ETIMEDOUT)
		return -EHOSTUNREACH;
	/* Want of descriptors, memory or the starter is our trouble, and no answer to a read(). */
	if (why->rc == -EPIPE || why->rc == -EMFILE || why->rc == -ENFILE || why->rc == -ENOMEM)
		return -EIO;
	return why->rc;
}

static int64_t
backoff_ms(const struct job *job, int retry_after)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = 0;
	return plan_backoff_ms(job->n_failed, random, retry_after);
}

/* The try is over without bytes to serve. */
static void
fail(struct job *job, const struct job_env *env, const struct err *why, bool counts,
     int retry_after)
{
	char hex[DIGEST_HEX + 1];
	bool full = why->code == CODE_FULL;
	int64_t wait;
	struct err e;

	end_transfer(job);
	drop_intake(job);
	drop_sources(job);
	set_state(job, JOB_BACKOFF);
	job->result = *why;
	job->result.rc = errno_for_readers(why);
	job->n_failed += !full;
	job->free_then = -1;
	if (counts)
		job->tries = why->code == CODE_BLOCK_DIGEST ? LIMIT_TRIES : job->tries + 1;
	job->gave_up = job->tries >= LIMIT_TRIES;
	if (job->gave_up)
		store_partial_drop(env->store, &job->digest);
	wait = full ? LIMIT_ROOM_LOOK_MS : backoff_ms(job, retry_after);
	job->failed_at = io_monotonic_ms();
	job->retry_at = job->failed_at + wait;
	env->counters->failed_tries += !full;

	digest_hex(&job->digest, hex);
	log_err(LOG_LVL_WARNING, hex, why);
	if (catalogue_begin(env->catalogue, &e) != 0 ||
	    catalogue_object_failed(env->catalogue, &job->digest, why->code, why->text, counts,
				    stamp_now() + wait / 1000, &e) != 0 ||
	    catalogue_commit(env->catalogue, &e) != 0) {
		catalogue_rollback(env->catalogue);
		log_err(LOG_LVL_ERROR, hex, &e);
	}
}

void
job_refuse(struct job *job, const struct job_env *env, const struct err *why)
{
	assert(job->state == JOB_QUEUED);
	fail(job, env, why, false, 0);
}

struct sourcing {
	struct job *job;
	bool files_allowed;		/* file_prefix is set now, whatever it was at the import */
};

static int
add_source(void *arg, const char *uri, const char *list_id)
{
	const struct sourcing *sourcing = arg;
	struct job *job = sourcing->job;
	size_t n = job->n_sources;

	if (strncmp(uri, "file:", 5) == 0 && !sourcing->files_allowed)
		return 0;

	job->sources = xrealloc(job->sources, (n + 1) * sizeof(*job->sources));
	job->sources[n].uri = xstrdup(uri);
	job->sources[n].list_id = xstrdup(list_id);
	job->n_sources++;
	return 0;
}

void
job_start(struct job *job, const struct job_env *env)
{
	struct sourcing sourcing = { job, env->conf->file_prefix != NULL };
	struct intake *intake = NULL;
	struct err e = { 0 };
	int rc;

	assert(job->state == JOB_QUEUED && job->intake == NULL && job->fetch == NULL);
	set_state(job, JOB_RECEIVING);
	drop_sources(job);
	rc = catalogue_object_sources(env->catalogue, &job->digest, add_source, &sourcing, &e);
	if (rc == 0 && job->n_sources == 0)
		rc = err_set(&e, ENOENT,
			     "no list that is in force names a place to fetch it from%s",
			     sourcing.files_allowed ? "" : " (file:// needs file_prefix)");
	/* Each try begins with another of them. */
	if (rc == 0)
		job->source = (size_t)job->n_failed % job->n_sources;
	job->reached = 0;
	if (rc == 0)
		rc = intake_new(&intake, env->store, &job->digest, job->size,
				job->has_root ? &job->root : NULL, env->notify_fd, &e);
	pthread_mutex_lock(&job->lock);
	job->intake = intake;
	pthread_mutex_unlock(&job->lock);
	if (rc != 0)
		fail(job, env, &e, false, 0);
}

static void
fill_request(const struct job *job, const struct conf *conf, struct fetch_request *req)
{
	const struct job_source *source = &job->sources[job->source];
	const char *ca = conf_tls_ca(conf, source->list_id);

	fetch_request_init(req, conf);
	req->offset = intake_offset(job->intake);
	req->max_bytes = req->expected_size = job->size;
	snprintf(req->url, sizeof(req->url), "%s", source->uri);
	if (req->offset > 0 && strcmp(job->etag_url, source->uri) == 0)
		snprintf(req->etag, sizeof(req->etag), "%s", job->etag);
	if (ca != NULL)
		snprintf(req->tls_ca, sizeof(req->tls_ca), "%s", ca);
	if (conf->file_prefix != NULL)
		snprintf(req->file_prefix, sizeof(req->file_prefix), "%s", conf->file_prefix);
}

/* The intake is IDLE and no request runs: ask for what is missing. */
static void
request(struct job *job, const struct job_env *env)
{
	struct fetch_request req;
	struct err e = { 0 };
	int fds[2], rc;

	if (pipe2(fds, O_CLOEXEC) != 0) {
		err_set(&e, errno, "no pipe for a fetcher");
		fail(job, env, &e, false, 0);
		return;
	}
	fill_request(job, env->conf, &req);
	job->pipe_rd = fds[0];
	rc = fetch_start(&job->fetch, env->starter, &req, fds[1], &e);
	if (rc != 0)
		fail(job, env, &e, false, 0);
}

static void
note_validator(struct job *job, const struct job_env *env, const char *etag)
{
	const char *uri = job->sources[job->source].uri;
	struct err e;

	if (strcmp(job->etag, etag) == 0 && strcmp(job->etag_url, uri) == 0)
		return;
	snprintf(job->etag, sizeof(job->etag), "%s", etag);
	snprintf(job->etag_url, sizeof(job->etag_url), "%s", uri);
	if (catalogue_begin(env->catalogue, &e) != 0 ||
	    catalogue_object_note_partial(env->catalogue, &job->digest, uri, etag, &e) != 0 ||
	    catalogue_commit(env->catalogue, &e) != 0) {
		/* Without the note a later run starts at byte 0: slower, never wrong. */
		catalogue_rollback(env->catalogue);
		log_err(LOG_LVL_WARNING, "partial file", &e);
	}
}

static void
begin(struct job *job, const struct job_env *env, const struct fetch_answer *answer)
{
	struct err e = { 0 };

	if (answer->offset != intake_offset(job->intake)) {
		if (answer->offset != 0) {
			err_refuse(&e, CODE_RANGE, "'%s' answered from byte %lld instead of %lld",
				   job->sources[job->source].uri, (long long)answer->offset,
				   (long long)intake_offset(job->intake));
			fail(job, env, &e, false, 0);
			return;
		}
		intake_restart(job->intake);
	}
	job->begun = true;
	note_validator(job, env, answer->etag);
	intake_feed(job->intake, steal_fd(&job->pipe_rd));
}

/* The source failed; there may be another one that has not failed in this round. */
static void
source_failed(struct job *job, const struct job_env *env, const struct err *why, bool counts)
{
	int retry_after = job->ended ? job->end.retry_after : 0;

	end_transfer(job);
	job->n_sources_failed++;
	if (job->n_sources_failed < job->n_sources) {
		job->source = (job->source + 1) % job->n_sources;
		log_info("%s; going on with '%s'", why->text, job->sources[job->source].uri);
		return;
	}
	fail(job, env, why, counts, retry_after);
}

/* Whether so much came since the last time that going on at once is no waste. */
static bool
made_progress(struct job *job)
{
	/* What is received a second time, after a restart, is no progress. */
	int64_t missing = job->size - job->reached;
	int64_t gained = intake_offset(job->intake) - job->reached;

	if (gained <= 0)
		return false;
	job->reached += gained;
	return gained >= PROGRESS_BYTES || gained >= missing / PROGRESS_SHARE;
}

/* END came and the intake wants more bytes: cut short, or refused before the body. */
static void
judge_short(struct job *job, const struct job_env *env)
{
	const struct fetch_answer *end = &job->end;
	bool counts = end->code == CODE_SIZE || end->code == CODE_TOO_MUCH;
	struct err e = { .rc = end->rc, .code = (enum code)end->code };

	memcpy(e.text, end->text, sizeof(e.text));
	e.text[sizeof(e.text) - 1] = '\0';
	if (e.rc == 0) {
		err_refuse(&e, CODE_SIZE, "'%s' ended after %lld of %lld bytes (hv:size)",
			   job->sources[job->source].uri, (long long)intake_offset(job->intake),
			   (long long)job->size);
		counts = true;
	}
	if (end->code == CODE_RANGE && intake_offset(job->intake) > 0) {
		/*
		 * What we have cannot be proven to be the server's bytes: once more from the start.
		 */
		end_transfer(job);
		intake_restart(job->intake);
		return;
	}
	if (!counts && made_progress(job)) {
		log_info("%s; resuming at byte %lld", e.text,
			 (long long)intake_offset(job->intake));
		end_transfer(job);
		return;
	}
	source_failed(job, env, &e, counts);
}

static void
judge_failed(struct job *job, const struct job_env *env)
{
	struct err e = { 0 };
	bool counts;

	intake_result(job->intake, &e);
	err_prefix(&e, "'%s'", job->sources[job->source].uri);
	if (e.code == CODE_BLOCK_DIGEST) {
		fail(job, env, &e, true, 0);
		return;
	}
	counts = e.code == CODE_DIGEST || e.code == CODE_TOO_MUCH || e.code == CODE_SIZE;
	if (e.code == CODE_DIGEST && intake_resumed(job->intake) && !job->restarted) {
		/* The earlier part may have been poisoned: one full restart before it counts. */
		log_info("%s; fetching it anew from the first byte", e.text);
		end_transfer(job);
		drop_intake(job);
		job->restarted = true;
		set_state(job, JOB_QUEUED);
		return;
	}
	if (counts && job->n_sources_failed + 1 < job->n_sources) {
		log_warning("%s; going on with another source", e.text);
		end_transfer(job);
		drop_intake(job);
		job->n_sources_failed++;
		job->n_failed++;
		set_state(job, JOB_QUEUED);
		return;
	}
	fail(job, env, &e, counts, 0);
}

/* The row learns of the object and of its tree. */
static int
note_verified(struct job *job, const struct job_env *env, struct err *err)
{
	struct blockfile *f = intake_blockfile(job->intake);
	const struct digest *tree = &vtree_id(blockfile_tree(f))->verity;
	int rc = catalogue_begin(env->catalogue, err);

	if (rc == 0)
		rc = catalogue_object_verified(env->catalogue, &job->digest, tree, stamp_now(),
					       err);
	if (rc == 0)
		rc = catalogue_commit(env->catalogue, err);
	blockfile_unref(f);
	return rc;
}

/*
 * The object lies in the store, and who reads has its bytes.  If the row cannot be written now, it
 * can be later: another try would fetch all of it again.  A command is not kept waiting; the next
 * start adopts the object.
 */
static void
note_later(struct job *job, const struct job_env *env, const struct err *why)
{
	char hex[DIGEST_HEX + 1];

	catalogue_rollback(env->catalogue);
	/* Nobody names it any more, or just now: the engine clears it away, or has it adopted. */
	if (why->rc == -ENOENT || job->waiting) {
		fail(job, env, why, false, 0);
		job->gave_up = true;
		return;
	}
	digest_hex(&job->digest, hex);
	log_err(LOG_LVL_ERROR, hex, why);
	/* It takes its room as an object already. */
	store_dismiss(env->store, &job->digest);
	job->n_failed++;
	job->retry_at = io_monotonic_ms() + backoff_ms(job, 0);
}

static void
finish(struct job *job, const struct job_env *env)
{
	char hex[DIGEST_HEX + 1];
	struct err e = { 0 };

	if (io_monotonic_ms() < job->retry_at)
		return;
	if (note_verified(job, env, &e) != 0) {
		note_later(job, env, &e);
		return;
	}
	digest_hex(&job->digest, hex);
	env->counters->fetched_bytes += job->size;
	env->counters->fetched_images++;
	drop_intake(job);
	set_state(job, JOB_DONE);
	log_info("%s: fetched and verified, %lld bytes", hex, (long long)job->size);
}

static void
begin_storing(struct job *job)
{
	end_transfer(job);
	job->retry_at = 0;
	set_state(job, JOB_STORING);
}

/* Answers of the fetcher.  True if there was one. */
static bool
take_answers(struct job *job, const struct job_env *env)
{
	bool any = false;

	while (job->state == JOB_RECEIVING && job->fetch != NULL && !job->ended) {
		struct fetch_answer answer;
		struct err e = { 0 };
		int rc = fetch_take(job->fetch, &answer, &e);

		if (rc == 0)
			break;
		any = true;
		if (rc < 0) {
			memset(&job->end, 0, sizeof(job->end));
			job->end.rc = rc;
			job->end.code = CODE_SLOW;
			memcpy(job->end.text, e.text, sizeof(job->end.text));
			job->ended = true;
		} else if (answer.kind == FETCH_BEGIN) {
			begin(job, env, &answer);
		} else {
			job->end = answer;
			job->ended = true;
		}
	}
	return any;
}

/*
 * The intake wants bytes.  If it was the last one to end of the request before, nobody else comes
 * to say that it is time for another one: so that is asked for as soon as this one is judged.
 */
static void
ask(struct job *job, const struct job_env *env)
{
	if (job->ended)
		judge_short(job, env);
	if (job->state == JOB_RECEIVING && job->fetch == NULL)
		request(job, env);
}

bool
job_step(struct job *job, const struct job_env *env)
{
	enum job_state before = job->state;
	bool any = take_answers(job, env);

	if (job->state != JOB_RECEIVING && job->state != JOB_STORING)
		return any || job->state != before;
	switch (intake_state(job->intake)) {
	case INTAKE_RUNNING:
		break;
	case INTAKE_IDLE:
		ask(job, env);
		break;
	case INTAKE_VERIFIED:
		begin_storing(job);
		break;
	case INTAKE_STORED:
		if (job->state == JOB_RECEIVING)
			begin_storing(job);	/* its answer is due before DONE */
		else
			finish(job, env);
		break;
	case INTAKE_FAILED:
		judge_failed(job, env);
		break;
	}
	return any || job->state != before;
}
