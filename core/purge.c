/*
 * The row first, the file after: a crash in between leaves a file that is known to be leaving, and
 * the next start removes it; the other way round would leave a row that promises bytes.  An object
 * that a selected image names is never touched, nor what is here in part: the engine drops that as
 * soon as nobody has it open.  Of versions that share a file each goes at its time, and the file
 * with the last: else a list whose versions have the same bytes would have a history without end.
 *
 * Nothing goes that is open: who has it open could read on from the descriptor of this worker, but
 * the next worker has to find the file under its name.
 */
#include "config.h"
#include "purge.h"

#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "plan.h"

struct candidate {
	struct digest digest;
	bool due;
};

struct candidates {
	int64_t before;			/* what left then or earlier is due */
	struct candidate *rows;		/* every expired row with bytes */
	size_t n;
	bool any_due;
	bool (*is_open)(void *arg, const struct digest *d);	/* NULL: nothing is */
	void *arg;
};

static int
add_row(void *arg, const struct expired_row *row)
{
	struct candidates *c = arg;

	if (row->purged)
		return 0;
	c->any_due = c->any_due || row->expired_at <= c->before;
	c->rows = xrealloc(c->rows, (c->n + 1) * sizeof(*c->rows));
	c->rows[c->n++] = (struct candidate){
		row->meta.sha512, row->expired_at <= c->before,
	};
	return 0;
}

static int
by_digest(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return memcmp(x->digest.bytes, y->digest.bytes, DIGEST_BYTES);
}

/*
 * The digests that are due, once each.  An image that came back and left again has several rows:
 * the one that left last decides.
 */
static void
keep_due(struct candidates *c)
{
	size_t kept = 0;

	if (c->n > 0)
		qsort(c->rows, c->n, sizeof(*c->rows), by_digest);
	for (size_t i = 0, end; i < c->n; i = end) {
		struct candidate group = c->rows[i];

		for (end = i + 1; end < c->n && by_digest(&c->rows[end], &group) == 0; end++)
			group.due = group.due && c->rows[end].due;
		if (group.due)
			c->rows[kept++] = group;
	}
	c->n = kept;
}

static int
may_go(struct catalogue *c, const struct digest *d, bool *may, struct err *err)
{
	struct object_row row;
	int rc = catalogue_object_get(c, d, &row, err);

	if (rc != 0)
		return rc;
	*may = !row.wanted && (row.state == OBJECT_VERIFIED || !row.has_tree);
	object_row_release(&row);
	return 0;
}

/* Inside a transaction: a command may select the image at any other time. */
static int
forget(struct catalogue *c, const struct digest *d, bool *forgotten, struct err *err)
{
	int rc = may_go(c, d, forgotten, err);

	return rc == 0 && *forgotten ? catalogue_object_evicted(c, d, err) : rc;
}

static int
purge_one(struct catalogue *c, struct store *s, const struct digest *d, int *n, struct err *err)
{
	bool forgotten = false;
	int rc = catalogue_begin(c, err);

	if (rc == 0)
		rc = forget(c, d, &forgotten, err);
	if (rc == 0)
		rc = catalogue_commit(c, err);
	if (rc != 0) {
		catalogue_rollback(c);
		return rc;
	}
	if (!forgotten)
		return 0;
	rc = store_object_remove(s, d, err);
	if (rc == 0)
		rc = catalogue_object_left(c, d, err);
	if (rc == 0)
		++*n;
	return rc;
}

static int
spare_one(struct catalogue *c, const struct digest *d, int *n, struct err *err)
{
	bool due = false;
	int rc = may_go(c, d, &due, err);

	*n += due;
	return rc;
}

static int
purge(struct catalogue *c, struct store *s, struct candidates *what, struct purged *out,
      struct err *err)
{
	int rc = catalogue_expired_each(c, add_row, what, err);

	*out = (struct purged){ 0 };
	keep_due(what);
	for (size_t i = 0; rc == 0 && i < what->n; i++) {
		const struct digest *d = &what->rows[i].digest;

		if (what->is_open != NULL && what->is_open(what->arg, d))
			rc = spare_one(c, d, &out->open, err);
		else
			rc = purge_one(c, s, d, &out->files, err);
	}
	free(what->rows);
	/* Mostly there is nothing to do, and then nobody need wait for a lock. */
	if (rc == 0 && what->any_due)
		rc = catalogue_expired_purge_shared(c, what->before, &out->versions, err);
	return rc;
}

int
purge_by_policy(struct catalogue *c, struct store *s, const struct conf *conf, int64_t now,
		bool (*is_open)(void *arg, const struct digest *d), void *arg,
		struct purged *out, struct err *err)
{
	struct candidates what = {
		.before = plan_purge_before(conf, now), .is_open = is_open, .arg = arg,
	};

	return purge(c, s, &what, out, err);
}

int
purge_older(struct catalogue *c, struct store *s, int64_t age, int64_t now,
	    bool (*is_open)(void *arg, const struct digest *d), void *arg, struct purged *out,
	    struct err *err)
{
	struct candidates what = { .before = now - age, .is_open = is_open, .arg = arg };

	return purge(c, s, &what, out, err);
}
