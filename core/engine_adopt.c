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
 * A walk that fails, because descriptors were short or the disk had an error, says nothing of what
 * is missing, and is made once more at the next start.  What lies in the store is looked for row by
 * row at once, and at each check for as long as that fails, too: it is not to be fetched again.
 *
 * Lists are awaited when the catalogue was rebuilt and none could be verified, because the CRLs
 * were too old, say.  When they are there again their images are looked for once more, and what
 * lies in the store is not fetched.
 *
 * What is to be hashed is hashed by passes, while the engine works (engine_adoption.c).
 */
#include "config.h"
#include "engine_adopt.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "stamp.h"

enum { MOVES_A_STEP = 1000 };

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

struct known *
adoption_find(const struct adoption *a, const struct digest *d)
{
	struct known key = { .digest = *d };

	return a->n == 0 ? NULL : bsearch(&key, a->rows, a->n, sizeof(*a->rows), by_digest);
}

static bool
known_object(void *arg, const struct digest *d)
{
	const struct adoption *a = arg;

	return a->awaiting || adoption_find(a, d) != NULL;
}

static bool
known_partial(void *arg, const struct digest *d)
{
	const struct adoption *a = arg;
	const struct known *row = adoption_find(a, d);

	return row != NULL ? !row->verified : a->awaiting;
}

static void
found(void *arg, const struct digest *d, int64_t size)
{
	struct known *row = adoption_find(arg, d);

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
set_lost(struct catalogue *c, const struct known *row, const void *why, struct err *err)
{
	return catalogue_object_lost(c, &row->digest, why, stamp_now(), err);
}

static void
note_missing(struct engine *e, const struct known *row)
{
	static const char why[] = "the file is not in the cache directory";
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };

	digest_hex(&row->digest, hex);
	log_warning("%s: %s", hex, why);
	if (adoption_change_row(e, row, set_lost, why, &err) != 0)
		log_err(LOG_LVL_ERROR, hex, &err);
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
		log_warning("%lld lists cannot be used before they are refreshed: files in the"
			    " cache that no list names stay until then",
			    (long long)e->lists_awaited);
	if (!look_through(e, a)) {
		engine_adopt_end(e);
		e->lists_awaited = -1;		/* file by file, then */
		return;
	}
	for (size_t i = 0; i < a->n; i++) {
		if (a->rows[i].verified && !a->rows[i].found)
			note_missing(e, &a->rows[i]);
		a->rows[i].due = !a->rows[i].verified && a->rows[i].found;
	}
	adoption_begin_next(e);
}

/* What an earlier look found due, and may be at work on, goes on. */
static void
go_on(struct adoption *a, struct adoption *old)
{
	for (size_t i = 0; i < old->n; i++) {
		struct known *was = &old->rows[i];
		struct known *row = was->due ? adoption_find(a, &was->digest) : NULL;

		if (row == NULL || row->verified)
			continue;
		row->due = true;
		row->waiting = was->waiting;
		row->pass = was->pass;
		row->file = was->file;
		a->n_unwritten += row->file != NULL;
		if (old->current == was)
			a->current = row;
		*was = (struct known){ .due = false };
	}
	a->retry_at = old->retry_at;
	a->changed = old->changed;
	a->failed = old->failed;
}

/* The rest is no row's any more, or a row says already what was to be found out. */
static void
leave(struct engine *e, struct adoption *old)
{
	for (size_t i = 0; i < old->n; i++) {
		struct known *row = &old->rows[i];

		if (row->pass != NULL)
			passes_cancel(e->passes, PASS_ADOPT, &row->digest);
		adoption_answer(e, row);
	}
}

static void
look_at(struct engine *e, struct known *row)
{
	int there;

	if (row->verified || row->due || engine_is_fetching(e, &row->digest))
		return;
	there = store_object_look(e->config.store, &row->digest, row->size);
	row->due = there > 0;
	if (there < 0)
		e->lists_awaited = -1;		/* to be looked at once more */
}

/* Nothing is moved: by now others work in the store. */
void
engine_adopt_again(struct engine *e)
{
	int64_t n = catalogue_lists_awaited(e->catalogue);
	struct adoption *a, *old = e->adoption;

	if (n < 0 || n == e->lists_awaited)
		return;
	e->adoption = NULL;
	a = begin(e);
	if (a == NULL) {
		e->adoption = old;
		return;
	}
	if (old != NULL)
		go_on(a, old);
	for (size_t i = 0; i < a->n; i++)
		look_at(e, &a->rows[i]);
	if (old != NULL)
		leave(e, old);
	adoption_free(old);
	adoption_begin_next(e);
}
