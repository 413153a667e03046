/*
 * Wants: what becomes of a reader, or a command, that asks for an object's bytes, and of a file that
 * turned out to be bad.
 *
 *   object      file                the engine
 *   verified    can be opened       answers with it
 *   verified    gone, or bad        forgets it (handle_damage), and goes on as below
 *   verified    bad in part (heal)  fetches another; the old one stays until that is verified
 *   otherwise                       waits for the object's job, or begins one, or, between two
 *                                   tries, answers with the last failure
 *
 * Each want is answered once, here or when its job comes to a result.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <stdio.h>

#include "cleanup.h"
#include "io.h"
#include "log.h"
#include "plan.h"
#include "stamp.h"

/* A verified object answers by itself.  True if the want is settled. */
static bool
answer_from_store(struct engine *e, const struct object_row *row)
{
	CLEANUP_FD int fd = -1;
	struct err err = { 0 };

	fd = store_object_open(e->config.store, &row->digest, row->size, &err);
	if (store_object_is_bad(fd)) {
		engine_handle_damage(e, &row->digest, err.text);
		return false;
	}
	engine_answer(e, &row->digest, fd < 0 ? -EIO : 0, fd, fd < 0 ? &err : NULL);
	return true;
}

/* Whether a failed job may be tried again now because somebody asks. */
static bool
may_try_again(const struct job *job, const struct object_row *row)
{
	if (row->tries >= LIMIT_TRIES || job->gave_up)
		return false;
	/* Only bytes that were wrong wait out the whole back-off: a network that came back is used
	 * by the next reader, but not hammered. */
	if (row->tries > 0)
		return plan_may_try(row, stamp_now());
	return io_monotonic_ms() - job->failed_at >= LIMIT_BACKOFF_MIN_MS;
}

static void
refuse_tries(struct engine *e, const struct object_row *row, const struct job *job)
{
	struct err why = { .code = row->code };

	if (job != NULL) {
		why = job->result;
	} else {
		why.rc = -code_errno(row->code);
		snprintf(why.text, sizeof(why.text), "%s", row->error);
	}
	engine_answer(e, &row->digest, why.rc, -1, &why);
}

static void
want_row(struct engine *e, const struct object_row *row, struct job *job, bool retry)
{
	struct err why = { 0 };

	if (row->access == ACCESS_DISTRUSTED) {
		err_set(&why, ESTALE, "nobody who is trusted vouches for this digest any more");
		engine_answer(e, &row->digest, why.rc, -1, &why);
		return;
	}
	if (row->state == OBJECT_VERIFIED && answer_from_store(e, row))
		return;
	if (!row->wanted) {
		err_set(&why, ENOENT, "no selected image names this digest");
		engine_answer(e, &row->digest, why.rc, -1, &why);
		return;
	}
	if (job == NULL && !retry && !plan_may_try(row, stamp_now()) && row->tries > 0) {
		refuse_tries(e, row, NULL);
		return;
	}
	if (job == NULL) {
		job = job_new(row);
		engine_add_job(e, job);
	} else if (job->state == JOB_BACKOFF) {
		if (!retry && !may_try_again(job, row)) {
			refuse_tries(e, row, job);
			return;
		}
		job->tries = row->tries;
		job_requeue(job);
	}
	job->waiting = true;
	engine_tell_activity(e, job);
}

void
engine_prefetch(struct engine *e, const struct object_row *row)
{
	struct job *job = job_new(row);

	engine_add_job(e, job);
	engine_tell_activity(e, job);
}

static int
reset_tries(struct engine *e, const struct digest *d, struct err *err)
{
	int rc = catalogue_begin(e->catalogue, err);

	if (rc == 0)
		rc = catalogue_object_reset_tries(e->catalogue, d, err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, err);
	if (rc != 0)
		catalogue_rollback(e->catalogue);
	return rc;
}

void
engine_request(struct engine *e, const struct digest *d, bool retry)
{
	struct job *job = engine_find_job(e, d);
	struct object_row row;
	struct err err = { 0 };
	int rc = 0;

	if (job != NULL && job->state == JOB_STORING) {
		CLEANUP_FD int fd = intake_dup(job->intake);

		engine_answer(e, d, fd < 0 ? fd : 0, fd, NULL);
		return;
	}
	if (job != NULL && job_is_active(job)) {
		job->waiting = true;
		return;
	}
	engine_adopt_now(e, d);
	if (retry)
		rc = reset_tries(e, d, &err);
	if (rc == 0)
		rc = catalogue_object_get(e->catalogue, d, &row, &err);
	if (rc != 0) {
		engine_answer(e, d, rc, -1, &err);
		return;
	}
	want_row(e, &row, job, retry);
	object_row_release(&row);
}

void
engine_handle_damage(struct engine *e, const struct digest *d, const char *why)
{
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };

	digest_hex(d, hex);
	log_error("code %d: %s: %s; moved to quarantine, to be fetched anew", CODE_CORRUPT, hex, why);
	/* The row first: a crash in between leaves a file that the next start looks at again. */
	if (catalogue_begin(e->catalogue, &err) != 0 ||
	    catalogue_object_lost(e->catalogue, d, why, stamp_now(), &err) != 0 ||
	    catalogue_commit(e->catalogue, &err) != 0) {
		catalogue_rollback(e->catalogue);
		log_err(LOG_LVL_ERROR, hex, &err);
		return;
	}
	if (store_quarantine_object(e->config.store, d, &err) != 0 && err.rc != -ENOENT)
		log_err(LOG_LVL_ERROR, hex, &err);
	engine_tell_lost(e, d);
	engine_rows_changed(e);
}

static int
report_unreadable(struct engine *e, const struct digest *d, const char *why, struct err *err)
{
	int rc = catalogue_begin(e->catalogue, err);

	if (rc == 0)
		rc = catalogue_object_unreadable(e->catalogue, d, why, stamp_now(), err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, err);
	if (rc != 0)
		catalogue_rollback(e->catalogue);
	return rc;
}

/* A job of its own kind: its object is verified and stays so whatever becomes of the job. */
static void
begin_healing(struct engine *e, const struct object_row *row, const char *why)
{
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };
	struct job *job;

	digest_hex(&row->digest, hex);
	if (!row->wanted) {
		log_error("code %d: %s: %s", CODE_CORRUPT, hex, why);
		engine_answer(e, &row->digest, -EIO, -1, NULL);
		return;
	}
	log_error("code %d: %s: %s; to be fetched anew, the file stays until then", CODE_CORRUPT, hex,
		  why);
	if (report_unreadable(e, &row->digest, why, &err) != 0)
		log_err(LOG_LVL_ERROR, hex, &err);
	job = job_new(row);
	job->heals = job->waiting = true;
	engine_add_job(e, job);
	engine_tell_activity(e, job);
}

void
engine_heal(struct engine *e, const struct digest *d, const char *why)
{
	struct job *job = engine_find_job(e, d);
	struct object_row row;
	struct err err = { 0 };
	int rc;

	rc = catalogue_object_get(e->catalogue, d, &row, &err);
	if (rc != 0) {
		engine_answer(e, d, rc, -1, &err);
		return;
	}
	if (row.state != OBJECT_VERIFIED || (job != NULL && job_is_active(job))) {
		engine_request(e, d, false);
	} else if (job == NULL) {
		begin_healing(e, &row, why);
	} else if (may_try_again(job, &row)) {
		job_requeue(job);
		job->waiting = true;
		engine_tell_activity(e, job);
	} else {
		refuse_tries(e, &row, job);
	}
	object_row_release(&row);
}
