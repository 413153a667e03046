#include "config.h"
#include "inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/audit.h"
#include "core/cleanup.h"
#include "core/io.h"
#include "core/vtree.h"
#include "progress.h"

enum { RUNS_TOLD = 8 };

struct pass {
	struct inspect *i;
	int fd;
	struct vtree *tree;		/* NULL: there is no good one, and tree_err says why */
	struct err tree_err;
	struct progress bar;
};

void
inspect_init(struct inspect *i, const struct object_row *row, const char *name)
{
	memset(i, 0, sizeof(*i));
	i->name = xstrdup(name);
	i->digest = row->digest;
	i->size = row->size;
	i->wanted = row->wanted;
	i->accused = row->corrupt || row->degraded;
	i->has_tree = row->has_tree;
	i->tree = row->tree;
	i->has_root = row->root_listed;
	i->root = row->root;
}

void
inspect_release(struct inspect *i)
{
	free(i->name);
	free(i->bad);
	memset(i, 0, sizeof(*i));
}

/* ---- the tree that is kept ------------------------------------------------------------------- */

static int
open_tree(const struct inspect *i, struct store *store, struct vtree **out, struct err *err)
{
	struct vtree_id id = { .image = i->digest, .size = i->size, .verity = i->tree };
	int fd;

	*out = NULL;
	if (!i->has_tree)
		return -ENOENT;
	fd = store_tree_open(store, &i->digest, false, err);
	return fd < 0 ? fd : vtree_open(out, &id, fd, err);
}

/* ---- which granules are bad ------------------------------------------------------------------ */

static void
add_bad(struct inspect *i, int64_t g)
{
	struct inspect_run *last = i->n_bad > 0 ? &i->bad[i->n_bad - 1] : NULL;

	i->n_granules++;
	if (last != NULL && last->first + last->n == g) {
		last->n++;
		return;
	}
	/* Room doubles: the number of runs is a power of two when it is used up. */
	if ((i->n_bad & (i->n_bad - 1)) == 0)
		i->bad = xrealloc(i->bad, (i->n_bad > 0 ? 2 * i->n_bad : 1) * sizeof(*i->bad));
	i->bad[i->n_bad++] = (struct inspect_run){ .first = g, .n = 1 };
}

/* The entries of level 1 that were computed, against those that are kept. */
static int
compare_trees(struct pass *p, const struct audit *a)
{
	const struct verity_shape *s = vtree_shape(p->tree);
	const unsigned char *prefix;
	struct digest want;
	size_t len;
	int rc = 0;

	if (s->n_granules == 1) {
		add_bad(p->i, 0);
		return 0;
	}
	prefix = verity_builder_prefix(a->builder, &len);
	for (int64_t g = 0; g < s->n_granules && rc == 0; g++) {
		rc = vtree_granule(p->tree, g, &want);
		if (rc == 0 && memcmp(want.bytes, prefix + s->offset[1] + g * DIGEST_BYTES,
				      DIGEST_BYTES) != 0)
			add_bad(p->i, g);
	}
	return rc;
}

/* The same for a file that cannot be read to its end: granule by granule. */
static int
read_granules(struct pass *p)
{
	const struct verity_shape *s = vtree_shape(p->tree);
	CLEANUP_FREE char *granule = xmalloc(VERITY_GRANULE);
	int rc = 0;

	for (int64_t g = 0; g < s->n_granules && rc != -EUCLEAN; g++) {
		size_t size = verity_granule_size(s, g);
		ssize_t n = io_pread_full(p->fd, granule, size, g * VERITY_GRANULE);

		rc = n == (ssize_t)size ? vtree_check_granule(p->tree, g, granule, size) : -EIO;
		if (rc != 0)
			add_bad(p->i, g);
		progress_update(&p->bar, g * VERITY_GRANULE, s->size);
	}
	return rc == -EUCLEAN ? rc : 0;
}

static void
add_runs(const struct inspect *i, struct buf *text)
{
	for (size_t n = 0; n < i->n_bad && n < RUNS_TOLD; n++) {
		int64_t end = (i->bad[n].first + i->bad[n].n) * VERITY_GRANULE;

		buf_printf(text, "%s%" PRId64 "-%" PRId64, n > 0 ? ", " : "",
			   i->bad[n].first * VERITY_GRANULE,
			   (end < i->size ? end : i->size) - 1);
	}
	if (i->n_bad > RUNS_TOLD)
		buf_printf(text, " and %zu more ranges", i->n_bad - RUNS_TOLD);
}

/* how: what is wrong with the whole. */
static int
refuse_blocks(struct inspect *i, const char *how, struct err *why)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct verity_shape s;

	verity_shape_init(&s, i->size);
	add_runs(i, &text);
	i->verdict = INSPECT_BLOCKS;
	return err_refuse(why, CODE_CORRUPT, "%s; %" PRId64 " of %" PRId64
			  " granules are bad: bytes %s", how, i->n_granules, s.n_granules,
			  buf_str(&text));
}

/* ---- judging --------------------------------------------------------------------------------- */

static int
judge_bytes(struct pass *p, const struct audit *a, struct err *why)
{
	static const char other[] = "its bytes are not those of its SHA-512";

	p->i->verdict = INSPECT_BYTES;
	if (p->tree != NULL && compare_trees(p, a) == 0 && p->i->n_granules > 0)
		return refuse_blocks(p->i, other, why);
	return err_refuse(why, CODE_CORRUPT, "%s", other);
}

/* The bytes are right.  An object without a tree gets one when it is read: nothing is wrong. */
static int
judge_tree(struct pass *p, const struct audit *a, struct err *why)
{
	struct inspect *i = p->i;

	if (i->has_root && !digest_equal(&a->verity, &i->root)) {
		i->verdict = INSPECT_SIGNED;
		return err_refuse(why, CODE_BLOCK_DIGEST, "its bytes are those of its SHA-512, but"
				  " not those of the signed fs-verity digest");
	}
	i->verdict = INSPECT_TREE;
	if (i->has_tree && !digest_equal(&a->verity, &i->tree))
		return err_refuse(why, CODE_CORRUPT, "its bytes are right, but the tree that is"
				  " kept for it is another one's");
	if (i->has_tree && p->tree == NULL)
		return err_refuse(why, CODE_CORRUPT, "its bytes are right, but %s",
				  p->tree_err.text);
	i->verdict = INSPECT_GOOD;
	return 0;
}

static int
show(void *arg, int64_t done)
{
	struct pass *p = arg;

	progress_update(&p->bar, done, p->i->size);
	return 0;
}

static int
judge(struct pass *p, struct err *why)
{
	struct inspect *i = p->i;
	struct audit a = { .fd = p->fd, .size = i->size, .whole = true, .progress = show,
			   .arg = p };
	struct err failed = { 0 };
	int rc;

	rc = audit_run(&a, &failed);
	if (rc == -EIO && p->tree != NULL && read_granules(p) == 0 && i->n_granules > 0)
		return refuse_blocks(i, "it cannot be read", why);
	if (rc != 0) {
		i->verdict = io_is_shortage(rc) ? INSPECT_UNKNOWN : INSPECT_UNREADABLE;
		if (why != NULL)
			*why = failed;
		return rc;
	}
	if (!digest_equal(&a.sha512, &i->digest))
		rc = judge_bytes(p, &a, why);
	else
		rc = judge_tree(p, &a, why);
	verity_builder_free(a.builder);
	return rc;
}

int
inspect_object(struct inspect *i, struct store *store, bool silent, struct err *why)
{
	CLEANUP_FD int fd = store_object_open(store, &i->digest, i->size, why);
	struct pass p = { .i = i, .fd = fd };
	int rc;

	i->verdict = io_is_shortage(fd) ? INSPECT_UNKNOWN :
		     store_object_is_bad(fd) ? INSPECT_GONE : INSPECT_UNREADABLE;
	if (fd == -ENOENT)
		return err_refuse(why, CODE_CORRUPT, "its file is gone");
	if (fd < 0)
		return fd;
	if (open_tree(i, store, &p.tree, &p.tree_err) == -ENOENT)
		err_set(&p.tree_err, ENOENT, "the tree file is gone");
	progress_begin(&p.bar, i->name, silent);
	rc = judge(&p, why);
	progress_end(&p.bar);
	vtree_unref(p.tree);
	return rc;
}
