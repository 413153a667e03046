/*
 * Taking over blocks from an older version, in three steps:
 *
 *   1. the old file is read once; the digests of its leaves go into an index
 *   2. for a run of missing granules of the new one, their level-0 blocks (64 leaf digests each)
 *      are fetched from the sidecar
 *   3. a granule whose leaves are all in the index is put together from the old file and landed,
 *      which verifies it: an index that lies, or an old file that has rotted, costs time alone
 *
 * The index is a sorted array of 64-bit numbers, the first five bytes of a digest above the number
 * of the leaf.  Two leaves of 2^21 share five bytes by chance about twice in all; step 3 finds out.
 */
#include "config.h"
#include "reuse.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "audit.h"
#include "io.h"
#include "thread.h"
#include "verity.h"
#include "vtree.h"

enum {
	LEAF_BITS = 24,
	KEY_BYTES = 5,			/* LEAF_BITS + 8 * KEY_BYTES is 64 */
	/* Granules whose level-0 blocks are fetched at once: 1 MiB. */
	BATCH = 256,
};

/* ---- the index ----------------------------------------------------------------------------- */

struct leafindex {
	uint64_t *entries;
	int64_t n_leaves;		/* room; leaves beyond are left out */
	atomic_llong n;
};

struct leafindex *
leafindex_new(int64_t n_leaves)
{
	struct leafindex *x = xcalloc(1, sizeof(*x));
	const int64_t most = REUSE_INDEX_BYTES / (int64_t)sizeof(*x->entries);

	x->n_leaves = n_leaves < most ? n_leaves : most;
	x->entries = malloc((size_t)(x->n_leaves + 1) * sizeof(*x->entries));
	if (x->entries == NULL) {
		free(x);
		return NULL;
	}
	return x;
}

void
leafindex_free(struct leafindex *x)
{
	if (x != NULL)
		free(x->entries);
	free(x);
}

static uint64_t
key_of(const unsigned char *digest)
{
	uint64_t key = 0;

	for (int i = 0; i < KEY_BYTES; i++)
		key = key << 8 | digest[i];
	return key << LEAF_BITS;
}

void
leafindex_add(struct leafindex *x, int64_t leaf, const unsigned char *digest)
{
	if (leaf < x->n_leaves)
		x->entries[atomic_fetch_add(&x->n, 1)] = key_of(digest) | (uint64_t)leaf;
}

static int
by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

void
leafindex_end(struct leafindex *x)
{
	qsort(x->entries, (size_t)atomic_load(&x->n), sizeof(*x->entries), by_value);
}

/* The first entry that is not below value. */
static size_t
lower_bound(const struct leafindex *x, uint64_t value)
{
	size_t from = 0, to = (size_t)atomic_load(&x->n);

	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (x->entries[middle] < value)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

int64_t
leafindex_find(const struct leafindex *x, const unsigned char *digest, int64_t prefer)
{
	const uint64_t leaf_mask = (UINT64_C(1) << LEAF_BITS) - 1, key = key_of(digest);
	size_t n = (size_t)atomic_load(&x->n), at;

	if (prefer >= 0 && prefer < x->n_leaves) {
		at = lower_bound(x, key | (uint64_t)prefer);
		if (at < n && x->entries[at] == (key | (uint64_t)prefer))
			return prefer;
	}
	at = lower_bound(x, key);
	if (at == n || (x->entries[at] & ~leaf_mask) != key)
		return -1;
	return (int64_t)(x->entries[at] & leaf_mask);
}

/* ---- the work ------------------------------------------------------------------------------ */

struct reuse {
	struct reuse_config config;
	pthread_t thread;
	atomic_bool stop, over;
	struct leafindex *index;
	unsigned char *granule;		/* being put together */
	/* Written by the thread, read when it is over. */
	int64_t bytes;
	struct err why;
};

static int
go_on(void *arg, int64_t done)
{
	struct reuse *r = arg;

	(void)done;
	return atomic_load(&r->stop) ? -ECANCELED : 0;
}

static int64_t
leaves_of(const struct verity_shape *shape, int64_t g)
{
	return ((int64_t)verity_granule_size(shape, g) + VERITY_BLOCK - 1) / VERITY_BLOCK;
}

/* By any thread of the pass. */
static void
index_block(void *arg, int64_t g, const unsigned char block[VERITY_BLOCK])
{
	struct reuse *r = arg;
	int64_t n = leaves_of(vtree_shape(blockfile_tree(r->config.from)), g);

	for (int64_t i = 0; i < n; i++)
		leafindex_add(r->index, g * VERITY_ARITY + i, block + i * DIGEST_BYTES);
}

static int
index_old(struct reuse *r, struct err *err)
{
	struct audit audit = {
		.fd = blockfile_fd(r->config.from), .size = blockfile_size(r->config.from),
		.progress = go_on, .level0 = index_block, .arg = r,
	};
	int rc;

	r->index = leafindex_new(vtree_shape(blockfile_tree(r->config.from))->n_leaves);
	if (r->index == NULL)
		return err_set(err, ENOMEM, "no memory to compare two versions");
	rc = audit_run(&audit, err);
	verity_builder_free(audit.builder);
	if (rc == 0)
		leafindex_end(r->index);
	return rc;
}

/* Reads n leaves of the old file; its last one is padded as the tree pads it. */
static int
take_leaves(struct reuse *r, unsigned char *to, int64_t leaf, int64_t n)
{
	size_t size = (size_t)n * VERITY_BLOCK;
	ssize_t got = io_pread_full(blockfile_fd(r->config.from), to, size, leaf * VERITY_BLOCK);

	if (got < 0)
		return (int)got;
	memset(to + got, 0, size - (size_t)got);
	return 0;
}

/* 1: put together; 0: a leaf is new. */
static int
assemble(struct reuse *r, int64_t n_leaves, const unsigned char *block)
{
	int64_t old[VERITY_ARITY], prefer = -1;

	for (int64_t i = 0; i < n_leaves; i++) {
		old[i] = leafindex_find(r->index, block + i * DIGEST_BYTES, prefer);
		if (old[i] < 0)
			return 0;
		prefer = old[i] + 1;
	}
	for (int64_t i = 0, end; i < n_leaves; i = end) {
		for (end = i + 1; end < n_leaves && old[end] == old[end - 1] + 1; end++)
			;
		if (take_leaves(r, r->granule + i * VERITY_BLOCK, old[i], end - i) != 0)
			return 0;
	}
	return 1;
}

/* A negative value: it makes no sense to go on. */
static int
try_granule(struct reuse *r, int64_t g, struct err *err)
{
	struct vtree *tree = blockfile_tree(r->config.to);
	size_t size = verity_granule_size(vtree_shape(tree), g);
	unsigned char block[VERITY_BLOCK];
	int rc;

	if (blockfile_has(r->config.to, g) || !vtree_level0(tree, g, block) ||
	    assemble(r, leaves_of(vtree_shape(tree), g), block) == 0)
		return 0;
	rc = blockfile_land(r->config.to, g, r->granule, size, err);
	if (rc == -EBADMSG)
		return 0;
	if (rc != 0)
		return rc;
	r->bytes += (int64_t)size;
	r->config.landed(r->config.arg, r->config.to, g * VERITY_GRANULE, r->granule, size);
	return 0;
}

static int
compare(struct reuse *r, struct err *err)
{
	int64_t n_granules = vtree_shape(blockfile_tree(r->config.to))->n_granules;
	int64_t next = 0, n, g;
	int rc = 0;

	while (rc == 0 && (g = blockfile_missing(r->config.to, next, &n)) >= 0) {
		int64_t end = g + (n < BATCH ? n : BATCH), before = r->bytes;

		rc = lazy_fetch_level0(r->config.lazy, g, end - g, err);
		for (; rc == 0 && g < end && !atomic_load(&r->stop); g++)
			rc = try_granule(r, g, err);
		if (r->bytes > before)
			lazy_changed(r->config.lazy);
		if (rc == 0 && atomic_load(&r->stop))
			rc = err_set(err, ECANCELED, "cancelled");
		next = end;
		if (next >= n_granules)
			break;
	}
	return rc;
}

static void *
work(void *arg)
{
	struct reuse *r = arg;
	const uint64_t one = 1;
	int rc;

	prctl(PR_SET_NAME, "reuse");
	rc = index_old(r, &r->why);
	if (rc == 0)
		rc = compare(r, &r->why);
	r->why.rc = rc;
	atomic_store(&r->over, true);
	if (write(r->config.notify_fd, &one, sizeof(one)) < 0) {
		/* Full means that it is readable already. */
	}
	return NULL;
}

/* ---- beginning and end --------------------------------------------------------------------- */

static void
release(struct reuse *r)
{
	blockfile_unref(r->config.to);
	blockfile_unref(r->config.from);
	leafindex_free(r->index);
	free(r->granule);
	free(r);
}

int
reuse_new(struct reuse **out, const struct reuse_config *config, struct err *err)
{
	struct reuse *r = xcalloc(1, sizeof(*r));
	int rc;

	r->config = *config;
	blockfile_ref(r->config.to);
	blockfile_ref(r->config.from);
	r->granule = malloc(VERITY_GRANULE);
	rc = r->granule == NULL ? -ENOMEM : thread_start(&r->thread, work, r);
	if (rc != 0) {
		release(r);
		return err_set(err, -rc, "versions cannot be compared: %s", strerrordesc_np(-rc));
	}
	*out = r;
	return 0;
}

bool
reuse_is_over(struct reuse *r)
{
	return atomic_load(&r->over);
}

int
reuse_result(struct reuse *r, int64_t *bytes, struct err *err)
{
	*bytes = r->bytes;
	*err = r->why;
	return r->why.rc;
}

void
reuse_free(struct reuse *r)
{
	if (r == NULL)
		return;
	atomic_store(&r->stop, true);
	pthread_join(r->thread, NULL);
	release(r);
}
