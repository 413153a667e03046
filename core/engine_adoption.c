/*
 * Hashing takes hours when a catalogue was rebuilt beside a full cache.  So it is done by passes
 * (passes.h), one image after the other, and the engine does its other work meanwhile.  What
 * somebody waits for comes first: he is answered when it is over, and nothing is fetched that lies
 * here already.  Of each that is due
 *
 *   pass   NULL: it has not begun.  A daemon that ends forgets it; the next one begins again
 *   file   its bytes are right, and the row cannot be written yet; readers are served
 *
 * What is evicted, or named by no row any more, is not due any more; the file that no row names
 * stays until the next start.  Where the row has changed (another size, another root) the pass is
 * made once more.
 */
#include "config.h"
#include "engine_adopt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "log.h"
#include "stamp.h"
#include "vtree.h"

enum { TELL_MS = 200 };		/* so often others see what was adopted */

int
adoption_change_row(struct engine *e, const struct known *row,
		    int (*change)(struct catalogue *c, const struct known *row, const void *arg,
				  struct err *err),
		    const void *arg, struct err *err)
{
	int rc = catalogue_begin(e->catalogue, err);

	if (rc == 0)
		rc = change(e->catalogue, row, arg, err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, err);
	if (rc != 0)
		catalogue_rollback(e->catalogue);
	return rc;
}

static void
log_row(enum log_level level, const struct known *row, const struct err *why)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(&row->digest, hex);
	log_err(level, hex, why);
}

static int
set_verified(struct catalogue *c, const struct known *row, const void *tree, struct err *err)
{
	return catalogue_object_verified(c, &row->digest, tree, stamp_now(), err);
}

static int
set_failed(struct catalogue *c, const struct known *row, const void *arg, struct err *err)
{
	const struct err *why = arg;

	return catalogue_object_failed(c, &row->digest, why->code, why->text, true, 0, err);
}

/* Nothing that a transfer has left: what nobody wants is not cleared away by it. */
static int
set_unknown(struct catalogue *c, const struct known *row, const void *arg, struct err *err)
{
	(void)arg;
	return catalogue_object_note_partial(c, &row->digest, "", "", err);
}

/* ---- one image ------------------------------------------------------------------------------- */

static void
drop_file(struct adoption *a, struct known *row)
{
	a->n_unwritten -= row->file != NULL;
	blockfile_unref(row->file);
	row->file = NULL;
}

/* It is settled, one way or the other. */
static void
end_row(struct engine *e, struct known *row)
{
	struct adoption *a = e->adoption;

	if (row->pass != NULL)
		passes_cancel(e->passes, PASS_ADOPT, &row->digest);
	if (a->current == row)
		a->current = NULL;
	drop_file(a, row);
	row->pass = NULL;
	row->due = false;
}

/* Who waits for it asks again: the answer is the same for all. */
void
adoption_answer(struct engine *e, struct known *row)
{
	struct digest d = row->digest;
	bool waiting = row->waiting;

	row->waiting = false;
	if (waiting)
		engine_request(e, &d, false);
}

static void
refuse(struct engine *e, struct known *row, const struct err *why)
{
	struct err err = { 0 };

	log_row(LOG_LVL_WARNING, row, why);
	end_row(e, row);
	e->adoption->changed = e->adoption->failed = true;
	/* What cannot be read just now is no proof that the bytes are bad: the file stays. */
	if (why->code != CODE_CORRUPT && why->code != CODE_BLOCK_DIGEST) {
		if (adoption_change_row(e, row, set_unknown, NULL, &err) != 0)
			log_row(LOG_LVL_ERROR, row, &err);
		return;
	}
	if (store_quarantine_object(e->config.store, &row->digest, &err) != 0)
		log_row(LOG_LVL_ERROR, row, &err);
	if (why->code == CODE_BLOCK_DIGEST &&
	    adoption_change_row(e, row, set_failed, why, &err) != 0)
		log_row(LOG_LVL_ERROR, row, &err);
}

/* Where it cannot be written now a daemon can later; a command says so. */
static void
write_row(struct engine *e, struct known *row)
{
	struct adoption *a = e->adoption;
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };
	const struct digest *tree = &vtree_id(blockfile_tree(row->file))->verity;
	int rc = adoption_change_row(e, row, set_verified, tree, &err);

	if (rc == 0) {
		digest_hex(&row->digest, hex);
		log_info("%s: adopted after hashing", hex);
		engine_note_audited(e, &row->digest, row->file);
		a->changed = true;
		end_row(e, row);
		return;
	}
	/* Nobody names it any more: engine_drop_unwanted() knows what to do. */
	if (rc == -ENOENT)
		a->changed = a->failed = true;
	else
		log_row(LOG_LVL_ERROR, row, &err);
	a->retry_at = io_monotonic_ms() + LIMIT_BACKOFF_MIN_MS;
	if (rc != -ENOENT && e->config.daemon)
		return;
	end_row(e, row);
	if (row->waiting)
		engine_answer(e, &row->digest, rc, NULL, &err);
	row->waiting = false;
}

/* What its row says now.  1: as before; 0: something else; negative: it is not to be adopted. */
static int
look_at_row(struct engine *e, struct known *row)
{
	struct known now = *row;
	struct object_row got;
	struct err err = { 0 };
	int rc = catalogue_object_get(e->catalogue, &row->digest, &got, &err);

	/* A catalogue that cannot answer says nothing. */
	if (rc != 0)
		return rc == -ENOENT ? rc : 1;
	row->size = got.size;
	row->has_root = got.root_listed;
	row->root = got.root;
	rc = got.state == OBJECT_VERIFIED ? -EALREADY : 0;
	object_row_release(&got);
	if (rc != 0 || row->size != now.size || row->has_root != now.has_root)
		return rc;
	return !row->has_root || digest_equal(&row->root, &now.root);
}

/* A purge may have taken the file meanwhile. */
bool
adoption_has_object(struct engine *e, const struct known *row)
{
	int64_t blocks;

	return store_object_stat(e->config.store, &row->digest, row->size, &blocks);
}

static void
settle(struct engine *e, struct known *row, const struct pass *pass)
{
	int as_before = look_at_row(e, row);

	if (as_before == 0)
		return;
	if (as_before < 0) {
		end_row(e, row);
	} else if (pass->rc != 0) {
		refuse(e, row, &pass->why);
	} else if (!adoption_has_object(e, row)) {
		e->adoption->failed = true;
		end_row(e, row);
	} else {
		row->file = blockfile_ref(pass->file);
		e->adoption->n_unwritten++;
		write_row(e, row);
	}
}

void
engine_adopted(struct engine *e, struct pass *pass)
{
	struct known *row = e->adoption != NULL ? adoption_find(e->adoption, &pass->digest) : NULL;

	/* Another's: what it hashed has been evicted since. */
	if (row == NULL || row->pass != pass)
		return;
	row->pass = NULL;
	if (e->adoption->current == row)
		e->adoption->current = NULL;
	if (pass->rc != -ECANCELED)
		settle(e, row, pass);
	adoption_answer(e, row);
}

/* ---- whose turn it is ------------------------------------------------------------------------ */

void
adoption_free(struct adoption *a)
{
	for (size_t i = 0; a != NULL && i < a->n; i++)
		drop_file(a, &a->rows[i]);
	if (a != NULL)
		free(a->rows);
	free(a);
}

void
engine_adopt_end(struct engine *e)
{
	adoption_free(e->adoption);
	e->adoption = NULL;
}

static struct known *
next_due(struct adoption *a)
{
	while (a->next < a->n && !a->rows[a->next].due)
		a->next++;
	return a->next < a->n ? &a->rows[a->next] : NULL;
}

static struct known *
due_row(const struct engine *e, const struct digest *d)
{
	struct known *row = e->adoption != NULL ? adoption_find(e->adoption, d) : NULL;

	return row != NULL && row->due ? row : NULL;
}

static void
begin_pass(struct engine *e, struct known *row, bool urgent)
{
	struct pass *pass = pass_new(PASS_ADOPT, &row->digest, row->size);

	pass->has_root = row->has_root;
	pass->root = row->root;
	pass->urgent = urgent;
	row->pass = pass;
	passes_add(e->passes, pass);
}

/*
 * One that nobody waits for.  Not in a command, which ends when its own work is done; and not while
 * rows cannot be written.
 */
void
adoption_begin_next(struct engine *e)
{
	struct adoption *a = e->adoption;

	if (!e->config.daemon || a->current != NULL || a->n_unwritten > 0 || next_due(a) == NULL)
		return;
	for (size_t i = a->next; i < a->n && a->current == NULL; i++) {
		struct known *row = &a->rows[i];

		if (!row->due || row->pass != NULL)
			continue;
		if (look_at_row(e, row) < 0) {
			end_row(e, row);
			continue;
		}
		a->current = row;
		begin_pass(e, row, false);
	}
}

static void
write_rows(struct engine *e)
{
	struct adoption *a = e->adoption;

	if (a->n_unwritten == 0 || io_monotonic_ms() < a->retry_at)
		return;
	for (size_t i = 0; i < a->n; i++)
		if (a->rows[i].file != NULL)
			write_row(e, &a->rows[i]);
}

/* Ten thousand small ones are not shown one by one. */
static void
tell(struct engine *e)
{
	struct adoption *a = e->adoption;
	bool over = next_due(a) == NULL, failed = a->failed;

	if (!over && (!a->changed || io_monotonic_ms() < a->told_at + TELL_MS))
		return;
	a->told_at = io_monotonic_ms();
	a->changed = a->failed = false;
	if (over)
		engine_adopt_end(e);
	/* What was refused may have to be fetched. */
	if (over || failed)
		engine_look(e);
	else
		engine_rows_changed(e);
}

void
engine_adopt_step(struct engine *e)
{
	if (e->adoption == NULL)
		return;
	write_rows(e);
	adoption_begin_next(e);
	tell(e);
}

int
engine_adopt_wait(const struct engine *e, long long now)
{
	struct adoption *a = e->adoption;
	long long wait = -1;

	if (a == NULL)
		return -1;
	if (next_due(a) == NULL)
		return 0;
	if (a->changed)
		wait = a->told_at + TELL_MS - now;
	if (a->n_unwritten > 0 && (wait < 0 || a->retry_at - now < wait))
		wait = a->retry_at - now;
	return wait > 0 ? (int)wait : a->changed || a->n_unwritten > 0 ? 0 : -1;
}

/* ---- others ask ------------------------------------------------------------------------------ */

bool
engine_is_to_adopt(const struct engine *e, const struct digest *d)
{
	return due_row(e, d) != NULL;
}

bool
engine_adopt_first(struct engine *e, const struct digest *d)
{
	struct known *row = due_row(e, d);

	if (row == NULL)
		return false;
	if (row->file != NULL) {
		engine_answer(e, d, 0, row->file, NULL);
		return true;
	}
	row->waiting = true;
	if (row->pass != NULL) {
		passes_hurry(e->passes, PASS_ADOPT, d);
	} else {
		look_at_row(e, row);
		begin_pass(e, row, true);
	}
	return true;
}

bool
engine_adopt_never(struct engine *e, const struct digest *d)
{
	struct known *row = due_row(e, d);
	bool waiting = row != NULL && row->waiting;

	if (row == NULL)
		return false;
	row->waiting = false;
	end_row(e, row);
	return waiting;
}

bool
engine_adopt_progress(struct engine *e, const struct digest *d, int64_t *done, int64_t *size)
{
	const struct pass *pass = passes_find(e->passes, PASS_ADOPT, d);

	if (pass == NULL)
		return false;
	*done = (int64_t)atomic_load(&pass->done);
	*size = pass->size;
	return true;
}

void
engine_review_adoption(struct engine *e)
{
	struct adoption *a = e->adoption;

	for (size_t i = 0; a != NULL && i < a->n; i++) {
		struct known *row = &a->rows[i];
		struct object_row got;

		if (!row->due || (row->pass == NULL && row->file == NULL && !row->waiting))
			continue;
		if (catalogue_object_get(e->catalogue, &row->digest, &got, NULL) == -ENOENT)
			end_row(e, row);
		object_row_release(&got);
		adoption_answer(e, row);
	}
}
