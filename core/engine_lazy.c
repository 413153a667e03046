/*
 * Images in block mode (struct lazyjob in engine_impl.h), driven by the engine's thread.
 *
 *   QUEUED -> ROOTING            a want, a command, or a place for filling
 *   ROOTING -> SERVING           the tree is verified: the row says so, wants are answered
 *   SERVING -> CHECKING          every granule is here
 *   CHECKING -> STORED -> gone   the SHA-512 is right: it is an ordinary object
 *   CHECKING -> SERVING          granules had changed on the disk, and are fetched again
 *   CHECKING -> gone             the SHA-512 is wrong: code 40, quarantine, EBADMSG
 *   ROOTING, SERVING -> gone     UNFIT: strict mode, with the same readers
 *   any -> BACKOFF               the disk (or whatever else is ours) failed
 *
 * A network that fails changes no state: the wishes that waited are told, and the next one tries
 * again.  Only a want that waits for the tree is answered with the failure.
 *
 * A command that asks for all of an image is answered when it is the object; without a daemon
 * each want is such a command.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cleanup.h"
#include "io.h"
#include "log.h"
#include "plan.h"
#include "reuse.h"
#include "stamp.h"

enum { WISH_MS = 250 };

struct lazyjob *
engine_find_lazyjob(struct engine *e, const struct digest *d)
{
	for (struct lazyjob *job = e->lazyjobs; job != NULL; job = job->next)
		if (digest_equal(&job->digest, d))
			return job;
	return NULL;
}

void
engine_tell_landed(void *engine, struct blockfile *f, int64_t off, const void *data, size_t size)
{
	struct engine *e = engine;

	if (e->config.ops.landed != NULL)
		e->config.ops.landed(e->config.ops.arg, f, off, data, size);
}

/* What becomes of it depends on the state, which is the engine's thread's to know. */
static void
missed(void *engine, const struct digest *d, int64_t first, int64_t n, const struct err *why)
{
	engine_post(engine, INBOX_MISSED, d, first, n, why);
}

int
engine_change_lazyjob(struct engine *e, struct lazyjob *job,
		      int (*change)(struct engine *e, struct lazyjob *job, struct err *err),
		      struct err *err)
{
	int rc = catalogue_begin(e->catalogue, err);

	if (rc == 0)
		rc = change(e, job, err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, err);
	if (rc != 0)
		catalogue_rollback(e->catalogue);
	return rc;
}

void
engine_log_lazyjob(enum log_level level, const struct lazyjob *job, const struct err *why)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(&job->digest, hex);
	log_err(level, hex, why);
}

/* ---- its parts ----------------------------------------------------------------------------- */

static int64_t
whole_granules(int64_t size, int64_t n_missing)
{
	return n_missing * VERITY_GRANULE < size ? size - n_missing * VERITY_GRANULE : 0;
}

int64_t
engine_lazyjob_bytes(const struct lazyjob *job)
{
	return job->file == NULL ? job->bytes
				 : whole_granules(job->size, blockfile_n_missing(job->file));
}

/* What the map of an earlier run says, which is a hint; one bit a granule. */
static int64_t
bytes_by_map(struct engine *e, const struct lazyjob *job)
{
	int64_t n_missing = (job->size + VERITY_GRANULE - 1) / VERITY_GRANULE;
	CLEANUP_BUF struct buf map = BUF_INIT;

	if (store_map_read(e->config.store, &job->digest, &map) != 0)
		return 0;
	for (size_t i = 0; i < map.len; i++)
		n_missing -= __builtin_popcount((unsigned char)map.data[i]);
	return n_missing < 0 ? job->size : whole_granules(job->size, n_missing);
}

/*
 * Nobody calls the lazy any more when this returns: not readers, who take the lock, and not its own
 * threads.
 */
void
engine_stop_lazyjob(struct engine *e, struct lazyjob *job)
{
	struct lazy_figures figures = { 0 };
	struct blockfile *file;
	struct lazy *lazy;

	pthread_rwlock_wrlock(&e->lazies);
	lazy = job->lazy;
	file = job->file;
	job->bytes = engine_lazyjob_bytes(job);
	job->lazy = NULL;
	job->file = NULL;
	pthread_rwlock_unlock(&e->lazies);
	if (job->reuse != NULL)
		lazy_stop(lazy);
	reuse_free(job->reuse);
	job->reuse = NULL;
	if (lazy != NULL) {
		lazy_figures(lazy, &figures);
		lazy_free(lazy);
	}
	blockfile_unref(file);
	e->counters.fetched_bytes += figures.fetched_bytes;
	job->filling = false;
	job->fill = LAZY_FILL_NOT;
	job->wish = -1;
	store_dismiss(e->config.store, &job->digest);
}

void
engine_drop_lazyjob(struct engine *e, struct lazyjob *job)
{
	struct lazyjob **p = &e->lazyjobs;

	passes_cancel(e->passes, PASS_COMMIT, &job->digest);
	engine_stop_lazyjob(e, job);
	while (*p != job)
		p = &(*p)->next;
	pthread_rwlock_wrlock(&e->lazies);
	*p = job->next;
	pthread_rwlock_unlock(&e->lazies);
	free(job->uri);
	free(job);
}

struct lazyjob *
engine_add_lazyjob(struct engine *e, const struct object_row *row)
{
	struct lazyjob *job = xcalloc(1, sizeof(*job)), **end = &e->lazyjobs;

	job->digest = row->digest;
	job->root = row->root;
	job->size = row->size;
	job->pending = row->pending;
	/* A row that says failed says otherwise when the tree is here again. */
	job->rooted = row->has_tree && row->state != OBJECT_FAILED;
	job->state = LAZYJOB_QUEUED;
	job->wish = -1;
	if (row->has_tree)
		job->bytes = bytes_by_map(e, job);
	while (*end != NULL)
		end = &(*end)->next;
	pthread_rwlock_wrlock(&e->lazies);
	*end = job;
	pthread_rwlock_unlock(&e->lazies);
	return job;
}

/* ---- failures ------------------------------------------------------------------------------ */

static int
note_failure(struct engine *e, struct lazyjob *job, struct err *err)
{
	int64_t next_try = job->result.code == CODE_FULL ? 0 :
			   stamp_now() + (job->retry_at - job->failed_at) / 1000;

	return catalogue_object_failed(e->catalogue, &job->digest, job->result.code,
				       job->result.text, false, next_try, err);
}

static void
set_backoff(struct lazyjob *job, const struct err *why)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = 0;
	job->result = *why;
	job->result.rc = plan_reader_errno(why);
	job->failed_at = io_monotonic_ms();
	job->free_then = -1;
	if (why->code == CODE_FULL) {
		job->retry_at = job->failed_at + LIMIT_ROOM_LOOK_MS;
		return;
	}
	job->n_failed++;
	job->retry_at = job->failed_at + plan_backoff_ms(job->n_failed, random, 0);
}

/* Whoever waits for the tree, or for the whole, learns why there is none for now. */
static void
answer_failure(struct engine *e, struct lazyjob *job)
{
	struct err why = job->result;

	e->counters.failed_tries += why.code != CODE_FULL;
	engine_log_lazyjob(LOG_LVL_WARNING, job, &why);
	job->asked = false;
	if (job->waiting) {
		job->waiting = false;
		engine_answer(e, &job->digest, why.rc, NULL, &why);
	} else {
		control_answer_watchers(e, &job->digest, why.rc, &why);
	}
}

/* Nothing of it can be read: the row says failed until its tree is here. */
static void
fail_row(struct engine *e, struct lazyjob *job)
{
	struct err err = { 0 };

	if (engine_change_lazyjob(e, job, note_failure, &err) != 0)
		engine_log_lazyjob(LOG_LVL_ERROR, job, &err);
	job->rooted = false;
	answer_failure(e, job);
	engine_rows_changed(e);
}

/* The disk, or want of descriptors or threads. */
void
engine_fail_lazyjob(struct engine *e, struct lazyjob *job, const struct err *why)
{
	bool served = job->file != NULL, began = job->lazy != NULL;

	engine_stop_lazyjob(e, job);
	job->state = LAZYJOB_BACKOFF;
	set_backoff(job, why);
	if (began && why->code == CODE_FULL)
		job->free_then = engine_disk_full(e);
	if (served)
		engine_tell_lost(e, &job->digest);
	fail_row(e, job);
	engine_tell_activity(e, &job->digest, false);
}

static int
note_strict(struct engine *e, struct lazyjob *job, struct err *err)
{
	return catalogue_object_strict(e->catalogue, &job->digest, job->result.text, err);
}

/* The whole stream takes over for who waits, and for who has it open. */
static void
go_strict(struct engine *e, struct lazyjob *job)
{
	bool needed = job->waiting || job->asked || engine_is_open(e, &job->digest);
	bool served = job->file != NULL, withdrawn = job->withdrawn;
	struct digest d = job->digest;
	struct err err = { 0 };

	lazy_result(job->lazy, &job->result);
	engine_log_lazyjob(LOG_LVL_WARNING, job, &job->result);
	if (engine_change_lazyjob(e, job, note_strict, &err) != 0)
		engine_log_lazyjob(LOG_LVL_ERROR, job, &err);
	engine_drop_lazyjob(e, job);
	store_blocks_drop(e->config.store, &d);
	engine_rows_changed(e);
	if (served)
		engine_tell_lost(e, &d);
	if (needed)
		engine_request(e, &d, false);
	else
		engine_tell_activity(e, &d, false);
	if (withdrawn)
		engine_drop_unwanted(e);
	engine_plan_prefetch(e);
}

/* ---- beginning ----------------------------------------------------------------------------- */

static int
make_lazy(struct engine *e, struct lazyjob *job, struct lazy **out, struct err *err)
{
	struct sources images, sidecars = { 0 };
	struct lazy_config config = {
		.lanes = e->lanes, .store = e->config.store,
		.id = { .image = job->digest, .size = job->size, .verity = job->root },
		.notify_fd = e->notify_fd, .landed = engine_tell_landed, .failed = missed,
		.arg = e,
	};
	int rc = engine_sources(e, &job->digest, &images, &sidecars, err);

	config.sources = images.items;
	config.n_sources = images.n;
	config.sidecars = sidecars.items;
	config.n_sidecars = sidecars.n;
	if (rc == 0)
		rc = lazy_new(out, &config, err);
	if (rc == 0 && job->uri == NULL)
		job->uri = xstrdup(images.items[0].uri);
	engine_sources_release(&images);
	engine_sources_release(&sidecars);
	return rc;
}

static void
start(struct engine *e, struct lazyjob *job)
{
	struct lazy *lazy = NULL;
	struct err err = { 0 };

	/* The same file is just being made the object by an earlier job's pass. */
	if (passes_find(e->passes, PASS_COMMIT, &job->digest) != NULL)
		return;
	job->state = LAZYJOB_ROOTING;
	if (engine_make_room(e, &job->digest, job->size,
			     job->waiting || job->asked || job->pending, &err) != 0 ||
	    make_lazy(e, job, &lazy, &err) != 0) {
		engine_fail_lazyjob(e, job, &err);
		return;
	}
	pthread_rwlock_wrlock(&e->lazies);
	job->lazy = lazy;
	pthread_rwlock_unlock(&e->lazies);
	engine_tell_activity(e, &job->digest, true);
}

static bool
may_try_again(struct engine *e, const struct lazyjob *job)
{
	if (job->result.code == CODE_FULL)
		return engine_may_ask_again(e, &job->digest, job->size, job->free_then,
					    job->failed_at);
	return io_monotonic_ms() - job->failed_at >= LIMIT_BACKOFF_MIN_MS;
}

void
engine_request_blocks(struct engine *e, struct lazyjob *job, bool retry)
{
	bool patient = !retry && e->config.daemon;

	if (job->state == LAZYJOB_BACKOFF && patient && !may_try_again(e, job)) {
		struct err why = job->result;

		engine_answer(e, &job->digest, why.rc, NULL, &why);
		return;
	}
	if (!patient || control_is_watched(e, &job->digest))
		job->asked = true;
	switch (job->state) {
	case LAZYJOB_BACKOFF:
		job->state = LAZYJOB_QUEUED;
		/* fall through */
	case LAZYJOB_QUEUED:
		job->waiting = true;
		start(e, job);
		return;
	case LAZYJOB_ROOTING:
		job->waiting = true;
		return;
	case LAZYJOB_SERVING:
	case LAZYJOB_CHECKING:
	case LAZYJOB_STORED:
		if (e->config.daemon)
			engine_answer(e, &job->digest, 0, job->file, NULL);
		else
			job->waiting = true;
		return;
	}
}

/* A wish that found no lazy. */
void
engine_take_granules(struct engine *e, const struct digest *d, int64_t first, int64_t n)
{
	struct lazyjob *job = engine_find_lazyjob(e, d);

	if (job != NULL && job->lazy != NULL)
		lazy_want(job->lazy, first, n);
	else
		engine_request(e, d, false);
}

void
engine_take_missed(struct engine *e, const struct inbox_item *item)
{
	struct lazyjob *job = engine_find_lazyjob(e, &item->digest);
	bool mine;

	if (job == NULL || job->lazy == NULL)
		return;
	mine = job->wish >= item->first && job->wish < item->first + item->n;
	if (mine)
		job->wish = -1;
	switch (lazy_state(job->lazy)) {
	case LAZY_ROOTING:
		set_backoff(job, &item->why);
		fail_row(e, job);
		break;
	case LAZY_SERVING:
	case LAZY_FULL:
		if (mine && job->asked) {
			set_backoff(job, &item->why);
			answer_failure(e, job);
		} else {
			engine_log_lazyjob(LOG_LVL_WARNING, job, &item->why);
		}
		engine_tell_failed(e, &item->digest, item->first, item->n, &item->why);
		break;
	case LAZY_UNFIT:
	case LAZY_BROKEN:
		/*
		 * Those who waited for the granule go on waiting, or are told, when the state is
		 * seen.
		 */
		break;
	}
}

/* ---- the tree is here ---------------------------------------------------------------------- */

static int
note_rooted(struct engine *e, struct lazyjob *job, struct err *err)
{
	int rc = catalogue_object_rooted(e->catalogue, &job->digest, &job->root, err);

	/* By this note the partial file is found when nobody wants the image any more. */
	if (rc == 0)
		rc = catalogue_object_note_partial(e->catalogue, &job->digest, job->uri, "", err);
	return rc;
}

static void
serve(struct engine *e, struct lazyjob *job)
{
	struct blockfile *f = lazy_blockfile(job->lazy);
	struct err err = { 0 };

	pthread_rwlock_wrlock(&e->lazies);
	job->file = f;
	pthread_rwlock_unlock(&e->lazies);
	job->state = LAZYJOB_SERVING;
	job->n_failed = 0;
	/* Readers first: a row takes as long as the disk takes to make it durable. */
	if (job->waiting && e->config.daemon) {
		job->waiting = false;
		engine_answer(e, &job->digest, 0, f, NULL);
	}
	if (!job->rooted) {
		if (engine_change_lazyjob(e, job, note_rooted, &err) != 0)
			engine_log_lazyjob(LOG_LVL_ERROR, job, &err);
		job->rooted = true;
		engine_rows_changed(e);
	}
	engine_begin_reuse(e, job);
}

/* ---- turn by turn -------------------------------------------------------------------------- */

/*
 * A failure is told to wishes alone.  So what waits for the tree, or for all of the image, has one
 * granule wished for: it is needed in any case.
 */
static void
keep_wish(struct lazyjob *job)
{
	bool rooting = job->state == LAZYJOB_ROOTING, due;
	int64_t n;

	if (job->wish >= 0 && job->file != NULL && blockfile_has(job->file, job->wish))
		job->wish = -1;
	due = job->waiting ? job->asked || job->n_failed > 0
			   : job->asked || (rooting && job->filling);
	if (job->n_failed > 0 && !job->waiting && io_monotonic_ms() < job->retry_at)
		due = false;
	if (!due || job->wish >= 0)
		return;
	job->wish = rooting ? 0 : blockfile_missing(job->file, 0, &n);
	if (job->wish >= 0)
		lazy_want(job->lazy, job->wish, 1);
}

static void
run_serving(struct engine *e, struct lazyjob *job)
{
	struct err why = { 0 };

	switch (lazy_state(job->lazy)) {
	case LAZY_ROOTING:
		keep_wish(job);
		break;
	case LAZY_SERVING:
	case LAZY_FULL:
		if (job->state == LAZYJOB_ROOTING)
			serve(e, job);
		engine_look_at_reuse(e, job);
		keep_wish(job);
		if (job->reuse == NULL && lazy_state(job->lazy) == LAZY_FULL &&
		    blockfile_n_missing(job->file) == 0)
			engine_begin_check(e, job);
		break;
	case LAZY_UNFIT:
		go_strict(e, job);
		break;
	case LAZY_BROKEN:
		lazy_result(job->lazy, &why);
		engine_fail_lazyjob(e, job, &why);
		break;
	}
}

/* One that found no room waits for room, and not for a time. */
static bool
has_room(struct engine *e, struct lazyjob *job, long long now)
{
	if (job->result.code != CODE_FULL)
		return true;
	job->retry_at = now + LIMIT_ROOM_LOOK_MS;
	return engine_room_came(e, &job->digest, job->size, job->free_then, job->failed_at);
}

static void
run_lazyjob(struct engine *e, struct lazyjob *job)
{
	long long now = io_monotonic_ms();

	switch (job->state) {
	case LAZYJOB_QUEUED:
		if (job->waiting || job->asked || job->filling)
			start(e, job);
		break;
	case LAZYJOB_ROOTING:
	case LAZYJOB_SERVING:
		run_serving(e, job);
		break;
	case LAZYJOB_CHECKING:
		break;
	case LAZYJOB_STORED:
		/* A granule that a reader found bad meanwhile is being landed anew. */
		if (now >= job->retry_at && blockfile_n_missing(job->file) == 0)
			engine_finish_lazyjob(e, job);
		break;
	case LAZYJOB_BACKOFF:
		if (now >= job->retry_at && engine_wanted_fill(e, job) != LAZY_FILL_NOT &&
		    has_room(e, job, now))
			job->state = LAZYJOB_QUEUED;
		break;
	}
}

void
engine_run_lazyjobs(struct engine *e)
{
	struct lazyjob *job, *next;

	engine_end_lingering(e);
	engine_plan_fill(e);
	for (job = e->lazyjobs; job != NULL; job = next) {
		next = job->next;
		run_lazyjob(e, job);
	}
	/* Those that can be filled from now on: nobody would wake us for them. */
	engine_plan_fill(e);
	for (job = e->lazyjobs; job != NULL; job = next) {
		next = job->next;
		if (job->state == LAZYJOB_QUEUED && job->filling)
			run_lazyjob(e, job);
	}
}

/* Whether its retry_at is a time to wait for: without a reader it is tried again to be filled. */
static bool
is_tried_again(struct engine *e, const struct lazyjob *job)
{
	if (job->retry_at == 0)
		return false;
	if (job->state == LAZYJOB_STORED)
		return true;
	return (job->state == LAZYJOB_BACKOFF || job->n_failed > 0) &&
	       engine_wanted_fill(e, job) != LAZY_FILL_NOT;
}

int
engine_lazyjobs_wait(struct engine *e, long long now)
{
	long long wait = engine_linger_wait(e), places = engine_places_wait(e, now);

	for (const struct lazyjob *job = e->lazyjobs; job != NULL; job = job->next) {
		long long left = job->retry_at - now;

		/*
		 * Landed granules wake nobody, and one is to be wished for as long as a command
		 * waits.
		 */
		if (job->asked && job->state == LAZYJOB_SERVING && (wait < 0 || wait > WISH_MS))
			wait = WISH_MS;
		if (!is_tried_again(e, job))
			continue;
		/* One that is over due waits for something else. */
		if (left < 0)
			left = LIMIT_BACKOFF_MIN_MS;
		if (wait < 0 || left < wait)
			wait = left;
	}
	if (places >= 0 && (wait < 0 || places < wait))
		wait = places;
	return wait > LIMIT_BACKOFF_MAX_MS ? LIMIT_BACKOFF_MAX_MS : (int)wait;
}
