/*
 * Whole files looked at while they are in use: for integrity = open, once a mount, and for a
 * command.
 *
 *   a pass (CHECK) hashes every granule -> the bad ones are healed, one by one -> another pass
 *
 * until one finds nothing bad: then the object is audited.  A granule that cannot be healed ends
 * it: the object is degraded, and its reads go on to be verified one by one.  Where the tree is
 * lost, the pass that makes it anew (REBUILD) says all there is to say.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "log.h"
#include "stamp.h"
#include "stored.h"

/* A disk that spoils what is written to it would keep us busy for ever. */
enum { MAX_ROUNDS = 16 };

struct examination {
	struct examination *next;
	struct digest digest;
	int64_t size;
	struct blockfile *file;		/* NULL: waits for a REBUILD */
	bool by_command;
	int rounds;
	int64_t *bad;			/* granules that are being healed */
	size_t n_bad;
	int64_t n_healed;
	struct err why;			/* of one that could not be */
};

/* That file, as it was: what has the name later, or was written to, was not looked at. */
struct audited {
	struct audited *next;
	struct digest digest;
	struct stat file;
};

static struct examination *
find(const struct engine *e, const struct digest *d)
{
	for (struct examination *x = e->examinations; x != NULL; x = x->next)
		if (digest_equal(&x->digest, d))
			return x;
	return NULL;
}

static struct examination *
add(struct engine *e, const struct object_row *row)
{
	struct examination *x = xcalloc(1, sizeof(*x));

	x->digest = row->digest;
	x->size = row->size;
	x->next = e->examinations;
	e->examinations = x;
	return x;
}

static void
drop(struct engine *e, struct examination *x)
{
	struct examination **p = &e->examinations;

	while (*p != x)
		p = &(*p)->next;
	*p = x->next;
	blockfile_unref(x->file);
	free(x->bad);
	free(x);
}

bool
engine_is_examining(const struct engine *e)
{
	return e->examinations != NULL;
}

void
engine_free_examinations(struct engine *e)
{
	while (e->examinations != NULL)
		drop(e, e->examinations);
	while (e->audited != NULL)
		engine_forget_audited(e, &e->audited->digest);
}

/* ---- what was audited in this mount -------------------------------------------------------- */

static struct audited *
find_audited(const struct engine *e, const struct digest *d)
{
	struct audited *a = e->audited;

	while (a != NULL && !digest_equal(&a->digest, d))
		a = a->next;
	return a;
}

static bool
is_audited(const struct engine *e, const struct digest *d, const struct blockfile *f)
{
	const struct audited *a = find_audited(e, d);
	struct stat st;

	return a != NULL && fstat(blockfile_fd(f), &st) == 0 && st.st_dev == a->file.st_dev &&
	       st.st_ino == a->file.st_ino && st.st_size == a->file.st_size &&
	       st.st_ctim.tv_sec == a->file.st_ctim.tv_sec &&
	       st.st_ctim.tv_nsec == a->file.st_ctim.tv_nsec;
}

void
engine_note_audited(struct engine *e, const struct digest *d, struct blockfile *f)
{
	const struct engine_ops *ops = &e->config.ops;
	struct audited *a = find_audited(e, d);

	if (a == NULL) {
		a = xcalloc(1, sizeof(*a));
		a->digest = *d;
		a->next = e->audited;
		e->audited = a;
	}
	if (fstat(blockfile_fd(f), &a->file) != 0)
		memset(&a->file, 0, sizeof(a->file));
	if (ops->audited != NULL)
		ops->audited(ops->arg, d, f);
}

void
engine_forget_audited(struct engine *e, const struct digest *d)
{
	struct audited **p = &e->audited, *a;

	while (*p != NULL && !digest_equal(&(*p)->digest, d))
		p = &(*p)->next;
	a = *p;
	if (a == NULL)
		return;
	*p = a->next;
	free(a);
}

/* ---- rounds -------------------------------------------------------------------------------- */

static void
end(struct engine *e, struct examination *x, const struct err *why)
{
	struct digest d = x->digest;
	int64_t n_healed = x->n_healed;
	bool by_command = x->by_command;

	drop(e, x);
	if (by_command)
		control_answer_healing(e, &d, n_healed, why != NULL ? why->rc : 0, why);
}

void
engine_drop_examination(struct engine *e, const struct digest *d, const struct err *why)
{
	struct examination *x = find(e, d);

	if (x == NULL)
		return;
	passes_cancel(e->passes, PASS_CHECK, d);
	end(e, x, why);
}

static void
begin_pass(struct engine *e, struct examination *x)
{
	struct pass *pass = pass_new(PASS_CHECK, &x->digest, x->size);

	pass->file = blockfile_ref(x->file);
	x->rounds++;
	passes_add(e->passes, pass);
}

static int
open_file(struct engine *e, const struct object_row *row, struct blockfile **out, struct err *err)
{
	return stored_open(e->config.store, &row->digest, row->size,
			   row->has_tree ? &row->tree : NULL, out, err);
}

static void
begin(struct engine *e, const struct object_row *row, bool by_command)
{
	struct blockfile *f = NULL;
	struct examination *x;
	struct err err = { 0 };
	int rc = open_file(e, row, &f, &err);

	if (rc == 0 && !by_command && is_audited(e, &row->digest, f)) {
		engine_note_audited(e, &row->digest, f);
		blockfile_unref(f);
		return;
	}
	x = add(e, row);
	x->by_command = by_command;
	x->file = f;
	if (rc == 0)
		begin_pass(e, x);
	else if (rc == -ENODATA)
		engine_begin_rebuild(e, row, &err);
	else if (store_object_is_bad(rc))
		engine_handle_damage(e, &row->digest, err.text);
	else
		end(e, x, &err);
}

void
engine_examine(struct engine *e, const struct digest *d, bool by_command)
{
	struct examination *x = find(e, d);
	struct object_row row;
	struct err err = { 0 };
	int rc;

	if (x != NULL) {
		x->by_command = x->by_command || by_command;
		return;
	}
	rc = catalogue_object_get(e->catalogue, d, &row, &err);
	if (rc == 0) {
		if (row.state == OBJECT_VERIFIED)
			begin(e, &row, by_command);
		else
			rc = err_set(&err, ENOENT, "the image is not in the cache");
		object_row_release(&row);
	}
	if (rc != 0 && by_command)
		control_answer_healing(e, d, 0, rc, &err);
}

static void
next_round(struct engine *e, struct examination *x)
{
	if (x->why.rc == 0 && x->rounds >= MAX_ROUNDS)
		err_refuse(&x->why, CODE_CORRUPT, "the disk does not keep what is written to it");
	if (x->why.rc == 0) {
		begin_pass(e, x);
	} else {
		struct err why = x->why;

		end(e, x, &why);
	}
}

void
engine_heal_outcome(struct engine *e, const struct digest *d, int64_t g, const struct err *why)
{
	struct examination *x = find(e, d);
	size_t i = 0;

	while (x != NULL && i < x->n_bad && x->bad[i] != g)
		i++;
	if (x == NULL || i == x->n_bad)
		return;
	x->bad[i] = x->bad[--x->n_bad];
	if (why == NULL)
		x->n_healed++;
	else
		x->why = *why;
	/* Those that are still to be begun count, so the last one is the last. */
	if (x->n_bad == 0)
		next_round(e, x);
}

static void
heal_all(struct engine *e, struct examination *x, struct pass *pass)
{
	struct blockfile *f = blockfile_ref(pass->file);

	free(x->bad);
	x->bad = xcalloc(pass->n_bad, sizeof(*x->bad));
	x->n_bad = pass->n_bad;
	for (size_t i = 0; i < pass->n_bad; i++)
		x->bad[i] = pass->bad[i];
	for (size_t i = 0; i < pass->n_bad; i++)
		engine_take_heal(e, &pass->digest, f, pass->bad[i],
				 "found bad when the whole file was hashed");
	blockfile_unref(f);
}

static void
note_good(struct engine *e, const struct examination *x)
{
	struct object_row row;
	struct err err = { 0 };
	bool accused;

	/* What was found bad meanwhile has its own end. */
	if (engine_is_healing_one(e, &x->digest) ||
	    catalogue_object_get(e->catalogue, &x->digest, &row, &err) != 0)
		return;
	accused = row.degraded || row.corrupt;
	object_row_release(&row);
	if (!accused)
		return;
	if (catalogue_object_healed(e->catalogue, &x->digest,
				    "the whole file was hashed and is right",
				    stamp_now(), &err) != 0)
		log_err(LOG_LVL_ERROR, "catalogue", &err);
	engine_drop_heal(e, &x->digest);
	engine_rows_changed(e);
}

void
engine_examined(struct engine *e, struct pass *pass)
{
	struct examination *x = find(e, &pass->digest);

	if (x == NULL || x->file != pass->file)
		return;
	if (pass->rc == 0) {
		note_good(e, x);
		engine_note_audited(e, &x->digest, x->file);
		end(e, x, NULL);
	} else if (pass->n_bad > 0) {
		heal_all(e, x, pass);
	} else {
		end(e, x, &pass->why);
	}
}

void
engine_examine_after_rebuild(struct engine *e, const struct pass *pass)
{
	struct examination *x = find(e, &pass->digest);

	if (x != NULL && x->file == NULL)
		end(e, x, pass->rc == 0 ? NULL : &pass->why);
}

/* Of what a command waits for. */
bool
engine_examine_progress(struct engine *e, const struct digest *d, int64_t *done, int64_t *size)
{
	struct pass *pass = passes_find(e->passes, PASS_CHECK, d);

	if (pass == NULL)
		pass = passes_find(e->passes, PASS_REBUILD, d);
	if (pass == NULL)
		return false;
	*done = (int64_t)atomic_load(&pass->done);
	*size = pass->size;
	return true;
}
