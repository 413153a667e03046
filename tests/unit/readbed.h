/*
 * readbed.h - open image files and who reads them, for unit tests: a small image that is stored,
 * and a large one that is not.
 *
 * The engine is played by this file, libfuse by reqbed.h, the store is a real one. Include it
 * once in a program, before anything that includes libfuse's headers.
 */
#ifndef VMI_READBED_H
#define VMI_READBED_H

#define FUSE_USE_VERSION 312

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/blockfile.h"
#include "core/catalogue.h"
#include "core/engine.h"
#include "core/stored.h"
#include "fs/blob.h"
#include "fs/context.h"
#include "fs/disk.h"
#include "tests/lib/reqbed.h"
#include "tests/lib/storebed.h"

static struct fs_context fs;

/* ---- the engine's part --------------------------------------------------------------------- */

enum { WISHES = 16 };

static atomic_int n_wanted, n_damaged, n_wishes, n_heals;
static struct digest last_wanted, last_damaged;
static struct { int64_t first, n; } wishes[WISHES];
static _Atomic int64_t healed_granule;
static void (*on_wish)(int64_t first, int64_t n);

void
engine_want(struct engine *e, const struct digest *d)
{
	(void)e;
	if (atomic_fetch_add(&n_wanted, 1) == 0)
		last_wanted = *d;
}

void
engine_damaged(struct engine *e, const struct digest *d, const char *why)
{
	(void)e;
	assert_non_null(why);
	if (atomic_fetch_add(&n_damaged, 1) == 0)
		last_damaged = *d;
}

void
engine_want_granules(struct engine *e, const struct digest *d, int64_t first, int64_t n)
{
	int i = atomic_fetch_add(&n_wishes, 1);

	(void)e;
	(void)d;
	if (i < WISHES) {
		wishes[i].first = first;
		wishes[i].n = n;
	}
	if (on_wish != NULL)
		on_wish(first, n);
}

void
engine_heal(struct engine *e, struct blockfile *f, int64_t g, const char *why)
{
	(void)e;
	assert_non_null(f);
	assert_non_null(why);
	atomic_store(&healed_granule, g);
	atomic_fetch_add(&n_heals, 1);
}

/* ---- a mount with one small image that is stored, and a large one that is not -------------- */

#define TEXT "the quick brown fox"

enum {
	SIZE = sizeof(TEXT) - 1, OBJECT = 7, N_REQS = 300,
	LARGE = 9, GRANULE = VERITY_GRANULE, N_GRANULES = 5, TAIL = 1000,
	LARGE_SIZE = (N_GRANULES - 1) * GRANULE + TAIL,
};

static unsigned char large[LARGE_SIZE];

struct mount {
	struct bed *bed;
	struct disk *disk;
	struct blobs *blobs;
	struct digest digest;
	struct digest tree;
	struct vtree_id id;		/* of the large one */
	struct blockfile *partial;
	struct fuse_req reqs[N_REQS];
};

static inline int
setup(void **state)
{
	struct mount *m = calloc(1, sizeof(*m));
	struct vtree_id id;

	m->bed = bed_new();
	reqbed_userdata = &fs;
	m->disk = disk_new(4, true);
	m->blobs = fs.blobs = blobs_new(m->bed->store, m->disk, 3600, 25);
	bed_add(m->bed, TEXT, SIZE, &id);
	m->digest = id.image;
	m->tree = id.verity;
	for (size_t i = 0; i < N_REQS; i++)
		req_init(&m->reqs[i]);
	n_wanted = n_damaged = n_wishes = n_heals = 0;
	on_wish = NULL;
	*state = m;
	return 0;
}

static inline int
teardown(void **state)
{
	struct mount *m = *state;

	disk_stop(m->disk);
	blobs_free(m->blobs);
	disk_free(m->disk);
	blockfile_unref(m->partial);
	bed_free(m->bed);
	free(m);
	return 0;
}

static inline int
open_row(struct mount *m, uint64_t object, bool verified)
{
	struct object_row row = {
		.id = (int64_t)object, .digest = m->digest, .size = SIZE, .access = ACCESS_OK,
		.state = verified ? OBJECT_VERIFIED : OBJECT_MISSING, .wanted = true,
		.has_tree = verified, .tree = m->tree,
	};

	return blob_open(m->blobs, &row, true);
}

/* Opened while the store has nothing of it yet. */
static inline void
open_unfetched(struct mount *m)
{
	assert_int_equal(open_row(m, OBJECT, false), 0);
}

static inline void
open_verified(struct mount *m)
{
	assert_int_equal(open_row(m, OBJECT, true), 0);
}

static inline void
read_whole(struct mount *m, size_t i)
{
	blob_read(m->blobs, &m->reqs[i], OBJECT, SIZE, 0, 0);
}

/* The engine has the bytes. */
static inline void
bring(struct mount *m)
{
	struct blockfile *f;

	assert_int_equal(stored_open(m->bed->store, &m->digest, SIZE, &m->tree, &f, &m->bed->err),
			 0);
	blob_answered(m->blobs, &m->digest, 0, f);
	blockfile_unref(f);
}

/* ---- the large image: block mode ----------------------------------------------------------- */

static inline struct object_row
large_row(const struct mount *m)
{
	return (struct object_row){
		.id = LARGE, .digest = m->id.image, .size = LARGE_SIZE, .access = ACCESS_OK,
		.state = OBJECT_MISSING, .wanted = true, .has_root = true, .root = m->id.verity,
	};
}

/* Its tree is known to the engine; nothing has been fetched. */
static inline void
prepare_large(struct mount *m)
{
	struct vtree *tree;
	char name[] = "/var/tmp/blob.XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(ftruncate(fd, LARGE_SIZE), 0);
	for (size_t i = 0; i < LARGE_SIZE; i++)
		large[i] = (unsigned char)((i * 2654435761u) >> 11);
	tree = bed_tree(large, LARGE_SIZE, &m->id);
	m->partial = blockfile_partial(fd, tree, NULL, 0);
}

static inline void
open_large(struct mount *m)
{
	const struct object_row row = large_row(m);

	assert_int_equal(blob_open(m->blobs, &row, true), 0);
}

/* Open, and in block mode already. */
static inline void
open_serving(struct mount *m)
{
	prepare_large(m);
	open_large(m);
	blob_answered(m->blobs, &m->id.image, 0, m->partial);
}

static inline size_t
granule_size(int64_t g)
{
	return g == N_GRANULES - 1 ? TAIL : GRANULE;
}

static inline void
put_granule(struct mount *m, int64_t g)
{
	assert_int_equal(blockfile_land(m->partial, g, large + g * GRANULE, granule_size(g),
					&m->bed->err), 0);
}

static inline void
land(struct mount *m, int64_t g)
{
	put_granule(m, g);
	blob_landed(m->blobs, m->partial, g * GRANULE, large + g * GRANULE, granule_size(g));
}

static inline void
read_large(struct mount *m, size_t i, off_t off, size_t size)
{
	blob_read(m->blobs, &m->reqs[i], LARGE, size, off, 0);
}

/* The bytes of the large image from off on. */
static inline void
assert_large(struct fuse_req *req, off_t off, size_t size)
{
	assert_errno(req, 0);
	assert_int_equal(req->len, size);
	assert_memory_equal(req->data, large + off, size < 64 ? size : 64);
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

#endif
