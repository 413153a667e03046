/*
 * At the start store and catalogue are brought together.  No image is deleted:
 *
 *   row VERIFIED, file right     nothing to do
 *   row VERIFIED, file missing   the row becomes MISSING: "not cached"
 *   row not VERIFIED, file there a crash fell between rename and commit: it is hashed, and adopted
 *                                or quarantined
 *   file without row             lost+found; it stays while lists are awaited that may name it
 *   partial of an image that nobody wants any more    goes (engine_linger.c): it is no image yet
 *
 * Lists are awaited when the catalogue was rebuilt and none could be verified, because the CRLs were
 * too old, say.  When they are there again their images are looked for once more, and what lies in
 * the store is not fetched.
 *
 * Hashing takes hours when a catalogue was rebuilt beside a full cache.  So it is done in steps,
 * between the engine's other work, and what somebody waits for comes first.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "log.h"
#include "stamp.h"
#include "stored.h"

enum { MOVES_A_STEP = 1000, STEP_MS = 200 };

struct known {
	struct digest digest;
	int64_t size;
	bool has_root;
	struct digest root;
	bool verified, found;
	bool due;			/* to be hashed */
};

struct adoption {
	struct known *rows;
	size_t n, next;			/* next: none before it is due */
	bool awaiting;			/* lists that may name any object */
};

static int
add_row(void *arg, const struct object_row *row)
{
	struct adoption *a = arg;

	a->rows = xrealloc(a->rows, (a->n + 1) * sizeof(*a->rows));
	a->rows[a->n++] = (struct known){ .digest = row->digest, .size = row->size,
					  .has_root = row->root_listed, .root = row->root,
					  .verified = row->state == OBJECT_VERIFIED };
	return 0;
}

static int
by_digest(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return memcmp(x->digest.bytes, y->digest.bytes, DIGEST_BYTES);
}

static struct known *
find(const struct adoption *a, const struct digest *d)
{
	struct known key = { .digest = *d };

	return a->n == 0 ? NULL : bsearch(&key, a->rows, a->n, sizeof(*a->rows), by_digest);
}

static bool
known_object(void *arg, const struct digest *d)
{
	const struct adoption *a = arg;

	return a->awaiting || find(a, d) != NULL;
}

static bool
known_partial(void *arg, const struct digest *d)
{
	const struct adoption *a = arg;
	const struct known *row = find(a, d);

	return row != NULL ? !row->verified : a->awaiting;
}

static void
found(void *arg, const struct digest *d, int64_t size)
{
	struct known *row = find(arg, d);

	/* A wrong size is seen, and healed, when it is opened. */
	(void)size;
	if (row != NULL)
		row->found = true;
}

static void
moved(void *arg, const char *from, const char *to)
{
	(void)arg;
	log_warning("'%s' is none of ours: moved to '%s'", from, to);
}

static void
stuck(void *arg, const char *from, int errnum)
{
	(void)arg;
	log_warning("'%s' is none of ours, and cannot be moved: %s", from,
		    strerrordesc_np(errnum));
}

static int
commit_row(struct engine *e, const struct known *row,
	   int (*change)(struct catalogue *c, const struct known *row, const void *arg,
			 struct err *err),
	   const void *arg)
{
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };
	int rc = catalogue_begin(e->catalogue, &err);

	if (rc == 0)
		rc = change(e->catalogue, row, arg, &err);
	if (rc == 0)
		rc = catalogue_commit(e->catalogue, &err);
	if (rc == 0)
		return 0;
	catalogue_rollback(e->catalogue);
	digest_hex(&row->digest, hex);
	log_err(LOG_LVL_ERROR, hex, &err);
	return rc;
}

static int
set_verified(struct catalogue *c, const struct known *row, const void *tree, struct err *err)
{
	return catalogue_object_verified(c, &row->digest, tree, stamp_now(), err);
}

static int
set_lost(struct catalogue *c, const struct known *row, const void *why, struct err *err)
{
	return catalogue_object_lost(c, &row->digest, why, stamp_now(), err);
}

static int
set_failed(struct catalogue *c, const struct known *row, const void *arg, struct err *err)
{
	const struct err *why = arg;

	return catalogue_object_failed(c, &row->digest, why->code, why->text, true, 0, err);
}

static void
note_missing(struct engine *e, const struct known *row)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(&row->digest, hex);
	log_warning("%s: the file is not in the cache directory", hex);
	commit_row(e, row, set_lost, "the file is not in the cache directory");
}

static void
refuse(struct engine *e, const struct known *row, const struct err *why)
{
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };

	digest_hex(&row->digest, hex);
	log_err(LOG_LVL_WARNING, hex, why);
	/* What cannot be read just now is no proof that the bytes are bad. */
	if (why->code != CODE_CORRUPT && why->code != CODE_BLOCK_DIGEST)
		return;
	if (store_quarantine_object(e->config.store, &row->digest, &err) != 0)
		log_err(LOG_LVL_ERROR, hex, &err);
	if (why->code == CODE_BLOCK_DIGEST)
		commit_row(e, row, set_failed, why);
}

/* The engine may be told to stop while a large file is being hashed. */
static int
go_on(void *arg, int64_t done)
{
	struct engine *e = arg;
	bool stop;

	(void)done;
	pthread_mutex_lock(&e->lock);
	stop = e->stop;
	pthread_mutex_unlock(&e->lock);
	return stop ? -ECANCELED : 0;
}

/* What is being fetched meanwhile needs no adoption. */
static void
hash(struct engine *e, struct known *row)
{
	struct blockfile *f = NULL;
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };
	struct digest tree;
	int rc;

	row->due = false;
	if (engine_is_fetching(e, &row->digest))
		return;
	digest_hex(&row->digest, hex);
	rc = stored_rebuild(e->config.store, &row->digest, row->size,
			    row->has_root ? &row->root : NULL, go_on, e, &tree, &f, &err);
	if (rc != 0) {
		refuse(e, row, &err);
	} else if (commit_row(e, row, set_verified, &tree) == 0) {
		log_info("%s: adopted after hashing", hex);
		engine_note_audited(e, &row->digest, f);
	}
	blockfile_unref(f);
}

/* ---- in steps ------------------------------------------------------------------------------ */

void
engine_adopt_end(struct engine *e)
{
	if (e->adoption != NULL)
		free(e->adoption->rows);
	free(e->adoption);
	e->adoption = NULL;
}

static struct known *
next_due(struct adoption *a)
{
	while (a->next < a->n && !a->rows[a->next].due)
		a->next++;
	return a->next < a->n ? &a->rows[a->next] : NULL;
}

void
engine_adopt_step(struct engine *e)
{
	long long end = io_monotonic_ms() + STEP_MS;
	struct known *row = NULL;
	bool any = false;

	if (e->adoption == NULL)
		return;
	while (io_monotonic_ms() < end && (row = next_due(e->adoption)) != NULL) {
		hash(e, row);
		any = true;
	}
	if (next_due(e->adoption) == NULL) {
		engine_adopt_end(e);
		engine_look(e);
	} else if (any) {
		engine_rows_changed(e);
	}
}

bool
engine_is_to_adopt(const struct engine *e, const struct digest *d)
{
	const struct known *row = e->adoption != NULL ? find(e->adoption, d) : NULL;

	return row != NULL && row->due;
}

void
engine_adopt_now(struct engine *e, const struct digest *d)
{
	if (!engine_is_to_adopt(e, d))
		return;
	hash(e, find(e->adoption, d));
	engine_rows_changed(e);
}

/* ---- beginning ----------------------------------------------------------------------------- */

/* All rows, in order; NULL: they cannot be read. */
static struct adoption *
begin(struct engine *e)
{
	struct adoption *a = xcalloc(1, sizeof(*a));
	struct err err = { 0 };

	engine_adopt_end(e);
	e->lists_awaited = catalogue_lists_awaited(e->catalogue);
	a->awaiting = e->lists_awaited != 0;
	e->adoption = a;
	if (catalogue_object_each(e->catalogue, add_row, a, &err) != 0) {
		log_err(LOG_LVL_ERROR, "objects", &err);
		engine_adopt_end(e);
		e->lists_awaited = -1;		/* to be tried again */
		return NULL;
	}
	if (a->n > 0)
		qsort(a->rows, a->n, sizeof(*a->rows), by_digest);
	return a;
}

/* False: half a walk proves nothing missing. */
static bool
look_through(struct engine *e, struct adoption *a)
{
	struct store_walk walk = {
		.known_object = known_object, .known_partial = known_partial,
		.found = found, .moved = moved, .stuck = stuck, .arg = a,
		.max_moves = MOVES_A_STEP,
	};
	struct err err = { 0 };
	int n_moves;

	do
		n_moves = store_reconcile(e->config.store, &walk, &err);
	while (n_moves == MOVES_A_STEP);
	if (n_moves < 0 || store_recount(e->config.store, &err) != 0)
		log_err(LOG_LVL_ERROR, "cache directory", &err);
	return n_moves >= 0;
}

void
engine_adopt(struct engine *e)
{
	struct adoption *a;

	engine_finish_leaving(e);
	a = begin(e);
	if (a == NULL)
		return;
	if (e->lists_awaited > 0)
		log_warning("%lld lists cannot be used before they are refreshed: files in the cache "
			    "that no list names stay until then", (long long)e->lists_awaited);
	if (!look_through(e, a)) {
		engine_adopt_end(e);
		return;
	}
	for (size_t i = 0; i < a->n; i++) {
		if (a->rows[i].verified && !a->rows[i].found)
			note_missing(e, &a->rows[i]);
		a->rows[i].due = !a->rows[i].verified && a->rows[i].found;
	}
	if (next_due(a) == NULL)
		engine_adopt_end(e);
}

/* Nothing is moved: by now others work in the store. */
void
engine_adopt_again(struct engine *e)
{
	int64_t n = catalogue_lists_awaited(e->catalogue), blocks;
	struct adoption *a;

	if (n < 0 || n == e->lists_awaited)
		return;
	a = begin(e);
	for (size_t i = 0; a != NULL && i < a->n; i++) {
		struct known *row = &a->rows[i];

		row->due = !row->verified &&
			   store_object_stat(e->config.store, &row->digest, row->size, &blocks);
	}
	if (a != NULL && next_due(a) == NULL)
		engine_adopt_end(e);
}
