/*
 * Wants: what becomes of a reader, or a command, that asks for an object's bytes, and of a file
 * that turned out to be bad.
 *
 *   object      file                the engine
 *   verified    can be opened       answers with it
 *   verified    its tree is lost    hashes the whole to make it anew (a pass), then answers
 *   verified    gone, or bad        forgets it (handle_damage), and goes on as below
 *   otherwise   is there all the same   has it adopted first (engine_adoption.c)
 *   otherwise                       waits for the object's job, or begins one, or, between two
 *                                   tries, answers with the last failure
 *
 * A job is a lazyjob where the image's tree is signed, and a stream otherwise.
 * Each want is answered once, here or when its job comes to a result.  Who waits for a pass is
 * answered when it ends.
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
#include "stored.h"

void
engine_begin_rebuild(struct engine *e, const struct object_row *row, const struct err *why)
{
	char hex[DIGEST_HEX + 1];
	struct pass *pass;

	if (passes_find(e->passes, PASS_REBUILD, &row->digest) != NULL)
		return;
	digest_hex(&row->digest, hex);
	log_warning("%s: %s; it is made anew from the whole file", hex, why->text);
	pass = pass_new(PASS_REBUILD, &row->digest, row->size);
	pass->has_root = row->root_listed;
	pass->root = row->root;
	pass->urgent = true;
	passes_add(e->passes, pass);
}

/* What was known of the file goes with it; a row that cannot be changed stays as it is. */
static void
forget_file(struct engine *e, struct object_row *row, const char *why)
{
	struct object_row now;

	engine_handle_damage(e, &row->digest, why);
	if (catalogue_object_get(e->catalogue, &row->digest, &now, NULL) != 0)
		return;
	object_row_release(row);
	*row = now;
}

/* A verified object answers by itself.  True if the want is settled, or will be. */
static bool
answer_from_store(struct engine *e, struct object_row *row)
{
	struct blockfile *f = NULL;
	struct err err = { 0 };
	int rc;

	rc = stored_open(e->config.store, &row->digest, row->size,
			 row->has_tree ? &row->tree : NULL, &f, &err);
	if (rc == -ENODATA) {
		engine_begin_rebuild(e, row, &err);
		return true;
	}
	if (store_object_is_bad(rc)) {
		forget_file(e, row, err.text);
		return false;
	}
	engine_answer(e, &row->digest, rc < 0 ? -EIO : 0, f, rc < 0 ? &err : NULL);
	blockfile_unref(f);
	return true;
}

/* Whether a failed job may be tried again now because somebody asks. */
static bool
may_try_again(struct engine *e, const struct job *job, const struct object_row *row)
{
	if (row->tries >= LIMIT_TRIES || job->gave_up)
		return false;
	if (job->result.code == CODE_FULL)
		return engine_may_ask_again(e, &job->digest, job->size, job->free_then,
					    job->failed_at);
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
	engine_answer(e, &row->digest, why.rc, NULL, &why);
}

static void
want_stream(struct engine *e, const struct object_row *row, struct job *job, bool retry)
{
	if (job == NULL) {
		job = job_new(row);
		engine_add_job(e, job);
	} else if (job->state == JOB_BACKOFF) {
		if (!retry && !may_try_again(e, job, row)) {
			refuse_tries(e, row, job);
			return;
		}
		job->tries = row->tries;
		engine_requeue_job(e, job);
	}
	job->waiting = true;
	engine_tell_activity(e, &job->digest, true);
}

static void
want_row(struct engine *e, struct object_row *row, struct job *job, bool retry)
{
	struct err why = { 0 };

	if (row->access == ACCESS_DISTRUSTED) {
		err_set(&why, ESTALE, "nobody who is trusted vouches for this digest any more");
		engine_answer(e, &row->digest, why.rc, NULL, &why);
		return;
	}
	if (row->state == OBJECT_VERIFIED && answer_from_store(e, row))
		return;
	if (engine_adopt_first(e, &row->digest))
		return;
	if (!row->wanted) {
		err_set(&why, ENOENT, "no selected image names this digest");
		engine_answer(e, &row->digest, why.rc, NULL, &why);
		return;
	}
	if (job == NULL && !retry && !plan_may_try(row, stamp_now()) && row->tries > 0) {
		refuse_tries(e, row, NULL);
		return;
	}
	if (job == NULL && plan_blocks(row))
		engine_request_blocks(e, engine_add_lazyjob(e, row), retry);
	else
		want_stream(e, row, job, retry);
}

void
engine_prefetch(struct engine *e, const struct object_row *row)
{
	if (plan_blocks(row)) {
		engine_add_lazyjob(e, row);
		return;
	}
	engine_add_job(e, job_new(row));
	engine_tell_activity(e, &row->digest, true);
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
	struct lazyjob *lazyjob = engine_find_lazyjob(e, d);
	struct job *job = engine_find_job(e, d);
	struct object_row row;
	struct err err = { 0 };
	int rc = 0;

	if (job != NULL && job->state == JOB_STORING) {
		struct blockfile *f = intake_blockfile(job->intake);

		engine_answer(e, d, f != NULL ? 0 : -EIO, f, NULL);
		blockfile_unref(f);
		return;
	}
	if (job != NULL && job_is_active(job)) {
		job->waiting = true;
		return;
	}
	if (lazyjob != NULL) {
		engine_request_blocks(e, lazyjob, retry);
		return;
	}
	if (retry)
		rc = reset_tries(e, d, &err);
	if (rc == 0)
		rc = catalogue_object_get(e->catalogue, d, &row, &err);
	if (rc != 0) {
		engine_answer(e, d, rc, NULL, &err);
		return;
	}
	want_row(e, &row, job, retry);
	object_row_release(&row);
}

/* Whatever made somebody look: that there is no file is all that can be said of it. */
static bool
is_gone(struct engine *e, const struct digest *d)
{
	CLEANUP_FD int fd = store_object_open(e->config.store, d, 0, NULL);

	return fd == -ENOENT;
}

bool
engine_lose_object(struct engine *e, const struct digest *d, const char *why, struct err *said)
{
	bool gone = is_gone(e, d);
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };

	if (gone)
		why = "the file is not in the cache directory";
	digest_hex(d, hex);
	log_error("code %d: %s: %s; %sto be fetched anew", CODE_CORRUPT, hex, why,
		  gone ? "" : "moved to quarantine, ");
	/* The row first: a crash in between leaves a file that the next start looks at again. */
	if (catalogue_begin(e->catalogue, &err) != 0 ||
	    catalogue_object_lost(e->catalogue, d, why, stamp_now(), &err) != 0 ||
	    catalogue_commit(e->catalogue, &err) != 0) {
		catalogue_rollback(e->catalogue);
		log_err(LOG_LVL_ERROR, hex, &err);
		return false;
	}
	if (store_quarantine_object(e->config.store, d, &err) != 0 && err.rc != -ENOENT)
		log_err(LOG_LVL_ERROR, hex, &err);
	engine_drop_heal(e, d);
	engine_tell_lost(e, d);
	err_refuse(said, CODE_CORRUPT, "%s", why);
	return true;
}

void
engine_handle_damage(struct engine *e, const struct digest *d, const char *why)
{
	struct err err = { 0 };

	if (!engine_lose_object(e, d, why, &err))
		return;
	engine_rows_changed(e);
	engine_drop_examination(e, d, &err);
}

static int
note_tree(struct engine *e, const struct pass *pass, struct err *err)
{
	int rc = catalogue_begin(e->catalogue, err);

	if (rc == 0)
		rc = catalogue_object_set_tree(e->catalogue, &pass->digest, &pass->tree, err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, err);
	if (rc != 0)
		catalogue_rollback(e->catalogue);
	return rc;
}

/*
 * The bytes are the image's, and the tree that was signed is not theirs: nobody may rely on
 * either.
 */
static void
accuse(struct engine *e, const struct pass *pass)
{
	struct err err = { 0 };
	int rc;

	engine_handle_damage(e, &pass->digest, pass->why.text);
	rc = catalogue_begin(e->catalogue, &err);
	if (rc == 0)
		rc = catalogue_object_failed(e->catalogue, &pass->digest, CODE_BLOCK_DIGEST,
					     pass->why.text, true, 0, &err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, &err);
	if (rc != 0) {
		catalogue_rollback(e->catalogue);
		log_err(LOG_LVL_ERROR, "catalogue", &err);
	}
}

/* Whoever asked meanwhile asks again now: the answer is the same for all. */
void
engine_rebuilt(struct engine *e, struct pass *pass)
{
	struct err err = { 0 };

	if (pass->rc == -ECANCELED || engine_heal_after_rebuild(e, pass))
		return;
	if (pass->rc == 0) {
		if (note_tree(e, pass, &err) != 0)
			log_err(LOG_LVL_ERROR, "catalogue", &err);
		engine_note_audited(e, &pass->digest, pass->file);
	} else if (pass->why.code == CODE_BLOCK_DIGEST) {
		accuse(e, pass);
	} else if (store_object_is_bad(pass->rc)) {
		engine_handle_damage(e, &pass->digest, pass->why.text);
	}
	engine_examine_after_rebuild(e, pass);
	if (pass->rc == 0)
		engine_answer(e, &pass->digest, 0, pass->file, NULL);
	else if (pass->why.code == CODE_BLOCK_DIGEST || store_object_is_bad(pass->rc))
		engine_request(e, &pass->digest, false);
	else
		engine_answer(e, &pass->digest, -EIO, NULL, &pass->why);
}
