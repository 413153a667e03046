/*
 * The end of block mode: every granule is here, and the SHA-512 of the whole is the last word (I2).
 *
 *   right                   the file becomes the object, then its row says so
 *   granules have changed   they are fetched again, whatever fill says: who reads has read all of
 *                           it, and will not ask.  Three times, then the disk is to blame
 *   wrong                   code 40: quarantine, open readers get EBADMSG, and no try before a new
 *                           list: two digests were signed, and they are of different files
 *
 * A crash between file and row leaves a file that the next start hashes and adopts.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>

#include "cleanup.h"
#include "io.h"
#include "log.h"
#include "stamp.h"

/* Passes in a row over a file that does not keep what is written to it. */
enum { MAX_CHECKS = 3 };

/* So that a pass that a stop of the daemon cuts short costs no byte. */
static void
save_map(struct engine *e, const struct lazyjob *job)
{
	CLEANUP_BUF struct buf map = BUF_INIT;

	blockfile_map(job->file, &map);
	store_map_write(e->config.store, &job->digest, map.data, map.len);
}

void
engine_begin_check(struct engine *e, struct lazyjob *job)
{
	struct pass *pass = pass_new(PASS_COMMIT, &job->digest, job->size);

	save_map(e, job);
	pass->file = blockfile_ref(job->file);
	passes_add(e->passes, pass);
	job->was_whole = true;
	job->state = LAZYJOB_CHECKING;
}

static int
note_verified(struct engine *e, struct lazyjob *job, struct err *err)
{
	return catalogue_object_verified(e->catalogue, &job->digest, &job->root, stamp_now(), err);
}

/* It was distrusted, say, while it was being checked: nobody names it any more. */
static void
disown(struct engine *e, struct lazyjob *job, const struct err *why)
{
	struct digest d = job->digest;
	struct err err = { 0 };

	engine_drop_lazyjob(e, job);
	if (store_object_remove(e->config.store, &d, &err) != 0)
		log_err(LOG_LVL_ERROR, "cache directory", &err);
	engine_tell_lost(e, &d);
	engine_answer(e, &d, why->rc, NULL, why);
	engine_tell_activity(e, &d, false);
	engine_drop_unwanted(e);
	engine_rows_changed(e);
}

/* The file is in the store.  If the row cannot be written now, it can be later. */
void
engine_finish_lazyjob(struct engine *e, struct lazyjob *job)
{
	struct blockfile *f = blockfile_ref(job->file);
	struct digest d = job->digest;
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };
	bool waiting;

	if (engine_change_lazyjob(e, job, note_verified, &err) != 0) {
		engine_log_lazyjob(LOG_LVL_ERROR, job, &err);
		blockfile_unref(f);
		job->retry_at = io_monotonic_ms() + LIMIT_BACKOFF_MIN_MS;
		if (err.rc == -ENOENT && engine_is_nobodys(e, &job->digest))
			disown(e, job, &err);
		return;
	}
	blockfile_set_complete(f);
	waiting = job->waiting;
	e->counters.fetched_images++;
	engine_drop_lazyjob(e, job);
	store_blocks_drop(e->config.store, &d);
	digest_hex(&d, hex);
	log_info("%s: all of it is here, and verified", hex);
	engine_rows_changed(e);
	if (waiting)
		engine_answer(e, &d, 0, f, NULL);
	else
		control_answer_watchers(e, &d, 0, NULL);
	engine_tell_activity(e, &d, false);
	engine_note_audited(e, &d, f);
	blockfile_unref(f);
}

static int
note_accused(struct engine *e, struct lazyjob *job, struct err *err)
{
	const struct err *why = &job->result;
	int rc;

	rc = catalogue_object_corrupt(e->catalogue, &job->digest, why->text, false, stamp_now(),
				      err);
	/* What was signed does not change by trying again: only a new list does that. */
	if (rc == 0)
		rc = catalogue_object_failed(e->catalogue, &job->digest, why->code, why->text, true,
					     0, err);
	return rc;
}

/* Two digests were signed, and they are of different files. */
static void
accuse(struct engine *e, struct lazyjob *job, const struct err *why)
{
	bool withdrawn = job->withdrawn;
	struct digest d = job->digest;
	struct err err = { 0 };

	job->result = *why;
	job->result.rc = -code_errno(why->code);
	e->counters.failed_tries++;
	engine_log_lazyjob(LOG_LVL_ERROR, job, why);
	if (engine_change_lazyjob(e, job, note_accused, &err) != 0)
		engine_log_lazyjob(LOG_LVL_ERROR, job, &err);
	engine_drop_lazyjob(e, job);
	if (store_quarantine_blocks(e->config.store, &d, &err) != 0)
		log_err(LOG_LVL_ERROR, "quarantine", &err);
	engine_tell_lost(e, &d);
	engine_answer(e, &d, -code_errno(why->code), NULL, why);
	engine_tell_activity(e, &d, false);
	engine_rows_changed(e);
	if (withdrawn)
		engine_drop_unwanted(e);
}

/*
 * The row cannot be written now: as with any file that is the object already, it is tried again,
 * and readers have the file meanwhile.
 */
static void
keep_orphan(struct engine *e, const struct pass *pass, struct lazyjob *job)
{
	struct object_row row = { .digest = pass->digest, .size = pass->size };

	if (job == NULL)
		job = engine_add_lazyjob(e, &row);
	job->root = pass->tree;
	pthread_rwlock_wrlock(&e->lazies);
	job->file = blockfile_ref(pass->file);
	pthread_rwlock_unlock(&e->lazies);
	job->state = LAZYJOB_STORED;
	job->retry_at = io_monotonic_ms() + LIMIT_BACKOFF_MIN_MS;
	if (job->waiting && e->config.daemon) {
		job->waiting = false;
		engine_answer(e, &job->digest, 0, job->file, NULL);
	}
}

/* A job that ended while its file became the object: the object counts if anybody wants it. */
static void
settle_orphan(struct engine *e, const struct pass *pass, struct lazyjob *job)
{
	bool waiting = job != NULL && (job->waiting || job->asked), wanted = true;
	char hex[DIGEST_HEX + 1];
	struct object_row row;
	struct err err = { 0 };
	int rc;

	if (pass->rc != 0)
		return;
	blockfile_set_complete(pass->file);
	rc = catalogue_object_get(e->catalogue, &pass->digest, &row, &err);
	/* A catalogue that cannot answer now says nothing. */
	if (rc == 0)
		wanted = row.wanted;
	else if (rc == -ENOENT)
		wanted = false;
	object_row_release(&row);
	if (wanted && rc == 0)
		rc = catalogue_object_verified(e->catalogue, &pass->digest, &pass->tree,
					       stamp_now(), &err);
	if (wanted && rc != 0) {
		digest_hex(&pass->digest, hex);
		log_err(LOG_LVL_ERROR, hex, &err);
		keep_orphan(e, pass, job);
		return;
	}
	if (!wanted && store_object_remove(e->config.store, &pass->digest, &err) != 0)
		log_err(LOG_LVL_ERROR, "cache directory", &err);
	engine_rows_changed(e);
	/* One that came after it has waited for the pass, and has nothing to fetch. */
	if (job != NULL)
		engine_drop_lazyjob(e, job);
	if (waiting)
		engine_request(e, &pass->digest, false);
}

static void
check_again(struct engine *e, struct lazyjob *job, const struct pass *pass)
{
	if (++job->n_checks >= MAX_CHECKS) {
		struct err why = { 0 };

		err_set(&why, EIO, "the disk does not keep what is written to it: %s",
			pass->why.text);
		engine_fail_lazyjob(e, job, &why);
		return;
	}
	engine_log_lazyjob(LOG_LVL_WARNING, job, &pass->why);
	job->state = LAZYJOB_SERVING;
	lazy_changed(job->lazy);
}

void
engine_committed(struct engine *e, struct pass *pass)
{
	struct lazyjob *job = engine_find_lazyjob(e, &pass->digest);

	if (job == NULL || job->file != pass->file) {
		settle_orphan(e, pass, job);
		return;
	}
	if (pass->rc == 0) {
		job->state = LAZYJOB_STORED;
		job->retry_at = 0;
	} else if (pass->rc == -EAGAIN) {
		check_again(e, job, pass);
	} else if (pass->rc == -ECANCELED) {
		job->state = LAZYJOB_SERVING;
	} else if (pass->why.code == CODE_BLOCK_DIGEST) {
		accuse(e, job, &pass->why);
	} else {
		engine_fail_lazyjob(e, job, &pass->why);
	}
}
