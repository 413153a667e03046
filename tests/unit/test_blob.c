/*
 * test_blob.c - reads of image files, parked until there is something to answer.
 *
 * The engine is played by this file, libfuse by reqbed.h, the store is a real one.
 */
#define FUSE_USE_VERSION 312

#include "config.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/reqbed.h"
#include "tests/lib/storebed.h"

#include "core/blockfile.h"
#include "core/catalogue.h"
#include "core/engine.h"
#include "core/io.h"
#include "core/stored.h"
#include "fs/blob.h"
#include "fs/context.h"
#include "fs/disk.h"

static struct fs_context fs;

/* ---- the engine's part ----------------------------------------------------------------------- */

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

/* ---- a mount with one small image that is stored, and a large one that is not ----------------- */

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

static int
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

static int
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

static int
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
static void
open_unfetched(struct mount *m)
{
	assert_int_equal(open_row(m, OBJECT, false), 0);
}

static void
open_verified(struct mount *m)
{
	assert_int_equal(open_row(m, OBJECT, true), 0);
}

static void
read_whole(struct mount *m, size_t i)
{
	blob_read(m->blobs, &m->reqs[i], OBJECT, SIZE, 0);
}

/* The engine has the bytes. */
static void
bring(struct mount *m)
{
	struct blockfile *f;

	assert_int_equal(stored_open(m->bed->store, &m->digest, SIZE, &m->tree, &f, &m->bed->err),
			 0);
	blob_answered(m->blobs, &m->digest, 0, f);
	blockfile_unref(f);
}

/* ---- the large image: block mode --------------------------------------------------------------- */

static struct object_row
large_row(const struct mount *m)
{
	return (struct object_row){
		.id = LARGE, .digest = m->id.image, .size = LARGE_SIZE, .access = ACCESS_OK,
		.state = OBJECT_MISSING, .wanted = true, .has_root = true, .root = m->id.verity,
	};
}

/* Its tree is known to the engine; nothing has been fetched. */
static void
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

static void
open_large(struct mount *m)
{
	const struct object_row row = large_row(m);

	assert_int_equal(blob_open(m->blobs, &row, true), 0);
}

/* Open, and in block mode already. */
static void
open_serving(struct mount *m)
{
	prepare_large(m);
	open_large(m);
	blob_answered(m->blobs, &m->id.image, 0, m->partial);
}

static size_t
granule_size(int64_t g)
{
	return g == N_GRANULES - 1 ? TAIL : GRANULE;
}

static void
put_granule(struct mount *m, int64_t g)
{
	assert_int_equal(blockfile_land(m->partial, g, large + g * GRANULE, granule_size(g),
					&m->bed->err), 0);
}

static void
land(struct mount *m, int64_t g)
{
	put_granule(m, g);
	blob_landed(m->blobs, m->partial, g * GRANULE, large + g * GRANULE, granule_size(g));
}

static void
read_large(struct mount *m, size_t i, off_t off, size_t size)
{
	blob_read(m->blobs, &m->reqs[i], LARGE, size, off);
}

/* The bytes of the large image from off on. */
static void
assert_large(struct fuse_req *req, off_t off, size_t size)
{
	assert_errno(req, 0);
	assert_int_equal(req->len, size);
	assert_memory_equal(req->data, large + off, size < 64 ? size : 64);
}

/* ---- parked reads ---------------------------------------------------------------------------- */

static void
parks_and_answers(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	for (size_t i = 0; i < N_REQS; i++)
		blob_read(m->blobs, &m->reqs[i], OBJECT, 5, 4);
	assert_int_equal(n_wanted, 1);
	assert_true(digest_equal(&last_wanted, &m->digest));
	assert_int_equal(blobs_parked(m->blobs), N_REQS);
	for (size_t i = 0; i < N_REQS; i++)
		assert_false(has_answer(&m->reqs[i]));
	bring(m);
	for (size_t i = 0; i < N_REQS; i++)
		assert_bytes(&m->reqs[i], "quick");
	assert_int_equal(blobs_parked(m->blobs), 0);
	blob_close(m->blobs, OBJECT);
}

static void
fails_all_and_asks_again(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	read_whole(m, 1);
	blob_answered(m->blobs, &m->digest, -EBADMSG, NULL);
	assert_errno(&m->reqs[0], EBADMSG);
	assert_errno(&m->reqs[1], EBADMSG);
	assert_int_equal(blobs_parked(m->blobs), 0);
	read_whole(m, 2);
	assert_int_equal(n_wanted, 2);
	bring(m);
	assert_bytes(&m->reqs[2], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
says_what_was_withdrawn(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	blob_answered(m->blobs, &m->digest, -ENOENT, NULL);
	assert_errno(&m->reqs[0], ESTALE);
	blob_close(m->blobs, OBJECT);
}

static void
ignores_answers_to_others(void **state)
{
	struct mount *m = *state;
	struct digest other;

	digest_of("other", 5, &other);
	open_unfetched(m);
	read_whole(m, 0);
	blob_answered(m->blobs, &other, -EBADMSG, NULL);
	assert_false(has_answer(&m->reqs[0]));
	bring(m);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
interrupts_one(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	read_whole(m, 1);
	interrupt(&m->reqs[0]);
	wait_for_answer(&m->reqs[0]);
	assert_errno(&m->reqs[0], EINTR);
	assert_false(has_answer(&m->reqs[1]));
	assert_int_equal(blobs_parked(m->blobs), 1);
	bring(m);
	interrupt(&m->reqs[1]);
	assert_errno(&m->reqs[0], EINTR);
	assert_bytes(&m->reqs[1], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
interrupted_before_it_waits(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	interrupt(&m->reqs[0]);
	read_whole(m, 0);
	wait_for_answer(&m->reqs[0]);
	assert_errno(&m->reqs[0], EINTR);
	assert_int_equal(blobs_parked(m->blobs), 0);
	blob_close(m->blobs, OBJECT);
}

/* Each before and after it waits. */
static void
interrupted_and_answered(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	interrupt(&m->reqs[0]);
	read_whole(m, 0);
	read_whole(m, 1);
	interrupt(&m->reqs[1]);
	interrupt(&m->reqs[1]);
	assert_int_equal(blobs_parked(m->blobs), 2);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	assert_bytes(&m->reqs[1], TEXT);
	blob_close(m->blobs, OBJECT);
}

/* An interrupt makes nobody wait longer. */
static void
interrupted_at_its_end(void **state)
{
	struct mount *m = *state;
	long long from;

	open_unfetched(m);
	read_whole(m, 0);
	interrupt(&m->reqs[0]);
	blobs_set_timeouts(m->blobs, 3600, 25);
	from = io_monotonic_ms();
	blob_lost(m->blobs, &m->digest);	/* the deadlines of all are looked at again */
	wait_for_answer(&m->reqs[0]);
	assert_errno(&m->reqs[0], EINTR);
	assert_in_range(io_monotonic_ms() - from, 0, 10000);
	blob_close(m->blobs, OBJECT);
}

/* The first read may wait for an hour, the second for one second: it fails alone. */
static void
fails_at_its_deadline(void **state)
{
	struct mount *m = *state;
	long long from;

	open_unfetched(m);
	read_whole(m, 0);
	blobs_set_timeouts(m->blobs, 1, 25);
	from = io_monotonic_ms();
	read_whole(m, 1);
	wait_for_answer(&m->reqs[1]);
	assert_errno(&m->reqs[1], ETIMEDOUT);
	assert_in_range(io_monotonic_ms() - from, 1000, 10000);
	assert_false(has_answer(&m->reqs[0]));
	assert_int_equal(blobs_parked(m->blobs), 1);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
does_not_wait_at_all(void **state)
{
	struct mount *m = *state;

	blobs_set_timeouts(m->blobs, 0, 25);
	open_unfetched(m);
	read_whole(m, 0);
	assert_errno(&m->reqs[0], EAGAIN);
	assert_int_equal(n_wanted, 1);
	bring(m);
	read_whole(m, 1);
	assert_bytes(&m->reqs[1], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
ends_with_the_mount(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	blobs_end(m->blobs);
	assert_errno(&m->reqs[0], ENOTCONN);
	read_whole(m, 1);
	assert_errno(&m->reqs[1], ENOTCONN);
	interrupt(&m->reqs[0]);
	assert_errno(&m->reqs[0], ENOTCONN);
	blob_close(m->blobs, OBJECT);
}

/* The reader was killed: its file is closed while its read is still parked. */
static void
outlives_its_file(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	blob_close(m->blobs, OBJECT);
	assert_int_equal(blobs_open(m->blobs), 0);
	assert_true(blob_is_open(m->blobs, &m->digest));
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	assert_false(blob_is_open(m->blobs, &m->digest));
}

/* ---- what is there --------------------------------------------------------------------------- */

static void
reads_what_is_verified(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	read_whole(m, 0);
	assert_bytes(&m->reqs[0], TEXT);
	blob_read(m->blobs, &m->reqs[1], OBJECT, 100, SIZE - 3);
	assert_bytes(&m->reqs[1], "fox");
	blob_read(m->blobs, &m->reqs[2], OBJECT, 100, SIZE);
	assert_bytes(&m->reqs[2], "");
	blob_read(m->blobs, &m->reqs[3], OBJECT, 100, INT64_MAX);
	assert_bytes(&m->reqs[3], "");
	blob_read(m->blobs, &m->reqs[4], OBJECT, 0, 0);
	assert_bytes(&m->reqs[4], "");
	assert_int_equal(n_wanted, 0);
	blob_close(m->blobs, OBJECT);
}

/* At the end of a file nothing is missing. */
static void
reads_the_end_without_waiting(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	blob_read(m->blobs, &m->reqs[0], OBJECT, 100, SIZE);
	assert_bytes(&m->reqs[0], "");
	assert_int_equal(n_wanted, 0);
	blob_close(m->blobs, OBJECT);
}

static void
seeks_without_fetching(void **state)
{
	struct mount *m = *state;

	for (int verified = 0; verified < 2; verified++) {
		assert_int_equal(open_row(m, OBJECT, verified), 0);
		assert_int_equal(blob_seek(m->blobs, OBJECT, 0, SEEK_DATA), 0);
		assert_int_equal(blob_seek(m->blobs, OBJECT, SIZE - 1, SEEK_DATA), SIZE - 1);
		assert_int_equal(blob_seek(m->blobs, OBJECT, 0, SEEK_HOLE), SIZE);
		assert_int_equal(blob_seek(m->blobs, OBJECT, SIZE, SEEK_DATA), -ENXIO);
		assert_int_equal(blob_seek(m->blobs, OBJECT, SIZE, SEEK_HOLE), -ENXIO);
		assert_int_equal(blob_seek(m->blobs, OBJECT, -1, SEEK_HOLE), -ENXIO);
		blob_close(m->blobs, OBJECT);
	}
	assert_int_equal(blob_seek(m->blobs, OBJECT, 0, SEEK_DATA), -ESTALE);
	assert_int_equal(n_wanted, 0);
}

static void
counts_open_files(void **state)
{
	struct mount *m = *state;

	assert_false(blob_is_open(m->blobs, &m->digest));
	open_verified(m);
	open_verified(m);
	assert_int_equal(blobs_open(m->blobs), 2);
	blob_close(m->blobs, OBJECT);
	assert_true(blob_is_open(m->blobs, &m->digest));
	blob_close(m->blobs, OBJECT);
	assert_false(blob_is_open(m->blobs, &m->digest));
	blob_close(m->blobs, OBJECT);
	assert_int_equal(blobs_open(m->blobs), 0);
	read_whole(m, 0);
	assert_errno(&m->reqs[0], ESTALE);
}

/* Forgotten and listed again while a file of it was open: two numbers, one content. */
static void
serves_two_numbers(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	assert_int_equal(open_row(m, OBJECT + 1, false), 0);
	blob_read(m->blobs, &m->reqs[0], OBJECT + 1, SIZE, 0);
	assert_false(has_answer(&m->reqs[0]));
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_cut(m->blobs, &m->digest, true);
	blob_read(m->blobs, &m->reqs[1], OBJECT, SIZE, 0);
	blob_read(m->blobs, &m->reqs[2], OBJECT + 1, SIZE, 0);
	assert_errno(&m->reqs[1], ESTALE);
	assert_errno(&m->reqs[2], ESTALE);
	blob_close(m->blobs, OBJECT);
	assert_true(blob_is_open(m->blobs, &m->digest));
	blob_close(m->blobs, OBJECT + 1);
	assert_false(blob_is_open(m->blobs, &m->digest));
}

/* ---- distrust -------------------------------------------------------------------------------- */

static void
cuts_what_is_distrusted(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	read_whole(m, 0);
	assert_bytes(&m->reqs[0], TEXT);
	blob_cut(m->blobs, &m->digest, true);
	read_whole(m, 1);
	assert_errno(&m->reqs[1], ESTALE);
	/* Bytes that come late change nothing. */
	bring(m);
	read_whole(m, 2);
	assert_errno(&m->reqs[2], ESTALE);
	blob_cut(m->blobs, &m->digest, false);
	read_whole(m, 3);
	bring(m);
	assert_bytes(&m->reqs[3], TEXT);
	blob_close(m->blobs, OBJECT);
}

static void
cuts_what_waits(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	read_whole(m, 0);
	blob_cut(m->blobs, &m->digest, true);
	assert_errno(&m->reqs[0], ESTALE);
	assert_int_equal(blobs_parked(m->blobs), 0);
	blob_cut(m->blobs, &m->digest, true);
	blob_close(m->blobs, OBJECT);
}

/* ---- bad files ------------------------------------------------------------------------------- */

static void
damage(struct mount *m)
{
	char path[512];

	bed_object_path(m->bed, path, &m->digest);
	assert_int_equal(truncate(path, 3), 0);
}

/* As the engine does: away with it, and the good bytes from the network. */
static void
mend(struct mount *m)
{
	assert_int_equal(store_quarantine_object(m->bed->store, &m->digest, &m->bed->err), 0);
	bed_add_object(m->bed, TEXT, &m->digest);
}

static void
refetches_what_is_bad_at_open(void **state)
{
	struct mount *m = *state;

	damage(m);
	open_verified(m);
	assert_int_equal(n_damaged, 1);
	assert_true(digest_equal(&last_damaged, &m->digest));
	read_whole(m, 0);
	assert_int_equal(n_wanted, 1);
	mend(m);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_close(m->blobs, OBJECT);
}

/* The engine has fetched the granule again, and writes it over the bad one. */
static void
heal(struct mount *m, const char *bytes)
{
	struct blockfile *f = blob_file(m->blobs, OBJECT);
	int fd = store_object_open_rw(m->bed->store, &m->digest, SIZE, &m->bed->err);

	assert_true(fd >= 0);
	blockfile_set_writable(f, fd);
	assert_int_equal(blockfile_land(f, 0, bytes, SIZE, &m->bed->err), 0);
	blob_landed(m->blobs, f, 0, bytes, SIZE);
	blockfile_unref(f);
}

static void
spoil(struct mount *m)
{
	char path[512];

	bed_object_path(m->bed, path, &m->digest);
	bed_flip(path, 4, 1);
}

static void
heals_what_goes_bad(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	read_whole(m, 0);
	assert_bytes(&m->reqs[0], TEXT);
	spoil(m);
	read_whole(m, 1);
	read_whole(m, 2);
	assert_false(has_answer(&m->reqs[1]));
	/* One note is enough, and the file is not given up. */
	assert_int_equal(n_heals, 1);
	assert_int_equal(healed_granule, 0);
	assert_int_equal(n_wanted + n_damaged, 0);
	heal(m, TEXT);
	assert_bytes(&m->reqs[1], TEXT);
	assert_bytes(&m->reqs[2], TEXT);
	read_whole(m, 3);
	assert_bytes(&m->reqs[3], TEXT);
	assert_int_equal(n_heals, 1);
	blob_close(m->blobs, OBJECT);
}

static void
gives_up_what_cannot_be_healed(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	spoil(m);
	read_whole(m, 0);
	blob_failed(m->blobs, &m->digest, 0, 1, -EHOSTUNREACH);
	assert_errno(&m->reqs[0], EIO);
	/* The next reader is worth another try. */
	read_whole(m, 1);
	assert_int_equal(n_heals, 2);
	heal(m, TEXT);
	assert_bytes(&m->reqs[1], TEXT);
	blob_close(m->blobs, OBJECT);
}

/* What the disk lost altogether is bad, too. */
static void
heals_what_was_cut_short(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	damage(m);
	read_whole(m, 0);
	assert_int_equal(n_heals, 1);
	blob_failed(m->blobs, &m->digest, 0, 1, -EHOSTUNREACH);
	assert_errno(&m->reqs[0], EIO);
	blob_close(m->blobs, OBJECT);
}

static void
waits_anew_for_what_was_lost(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	blob_lost(m->blobs, &m->digest);
	read_whole(m, 0);
	assert_false(has_answer(&m->reqs[0]));
	assert_int_equal(n_wanted, 1);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_close(m->blobs, OBJECT);
}

/* B15, B16: without its tree a file proves nothing. */
static void
waits_for_a_tree(void **state)
{
	struct mount *m = *state;
	char path[512];

	bed_side_path(m->bed, path, &m->digest, false, ".fsv");
	bed_flip(path, 0, 1);
	open_verified(m);
	assert_int_equal(n_damaged, 0);
	read_whole(m, 0);
	assert_false(has_answer(&m->reqs[0]));
	assert_int_equal(n_wanted, 1);
	bed_flip(path, 0, 1);
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_close(m->blobs, OBJECT);
}

/* ---- block mode ------------------------------------------------------------------------------- */

static void
asks_for_tree_and_granule(void **state)
{
	struct mount *m = *state;

	prepare_large(m);
	open_large(m);
	read_large(m, 0, 2 * GRANULE + 5, GRANULE);
	assert_int_equal(n_wanted, 1);
	assert_int_equal(n_wishes, 1);
	assert_int_equal(wishes[0].first, 2);
	assert_int_equal(wishes[0].n, 2);
	put_granule(m, 2);
	blob_answered(m->blobs, &m->id.image, 0, m->partial);
	assert_false(has_answer(&m->reqs[0]));
	assert_int_equal(wishes[1].first, 3);
	assert_int_equal(wishes[1].n, 1);
	land(m, 3);
	assert_large(&m->reqs[0], 2 * GRANULE + 5, GRANULE);
	blob_close(m->blobs, LARGE);
}

static void
answers_from_what_lands(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	for (size_t i = 0; i < N_REQS; i++)
		read_large(m, i, GRANULE + (off_t)i * 100, 100);
	assert_int_equal(blobs_parked(m->blobs), N_REQS);
	assert_int_equal(n_wanted, 0);
	/* Not from the disk: there is nothing on it. */
	blob_landed(m->blobs, m->partial, 2 * GRANULE, large + 2 * GRANULE, GRANULE);
	assert_int_equal(blobs_parked(m->blobs), N_REQS);
	blob_landed(m->blobs, m->partial, GRANULE, large + GRANULE, GRANULE);
	for (size_t i = 0; i < N_REQS; i++)
		assert_large(&m->reqs[i], GRANULE + (off_t)i * 100, 100);
	assert_int_equal(blobs_parked(m->blobs), 0);
	blob_close(m->blobs, LARGE);
}

static void
serves_what_is_here(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	put_granule(m, 4);
	read_large(m, 0, 4 * GRANULE + 10, 4096);
	assert_large(&m->reqs[0], 4 * GRANULE + 10, TAIL - 10);
	assert_int_equal(n_wishes, 0);
	read_large(m, 1, 3 * GRANULE + 10, GRANULE);
	assert_false(has_answer(&m->reqs[1]));
	assert_int_equal(n_wishes, 1);
	assert_int_equal(wishes[0].first, 3);
	assert_int_equal(wishes[0].n, 1);
	land(m, 3);
	assert_large(&m->reqs[1], 3 * GRANULE + 10, GRANULE - 10 + TAIL < GRANULE ?
		     GRANULE - 10 + TAIL : GRANULE);
	blob_close(m->blobs, LARGE);
}

/* 0 and 2 are here, 1 and 3 are not. */
static void
wishes_for_gaps_alone(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	put_granule(m, 0);
	put_granule(m, 2);
	read_large(m, 0, 0, 4 * GRANULE);
	assert_int_equal(n_wishes, 2);
	assert_int_equal(wishes[0].first, 1);
	assert_int_equal(wishes[0].n, 1);
	assert_int_equal(wishes[1].first, 3);
	assert_int_equal(wishes[1].n, 1);
	land(m, 3);
	assert_false(has_answer(&m->reqs[0]));
	land(m, 1);
	assert_large(&m->reqs[0], 0, 4 * GRANULE);
	blob_close(m->blobs, LARGE);
}

static struct mount *wishing;

/* The granule comes while it is being asked for: after the read was parked, but nobody was told. */
static void
come_in_silence(int64_t first, int64_t n)
{
	on_wish = NULL;
	assert_int_equal(n, 1);
	put_granule(wishing, first);
}

static void
misses_no_landing(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	wishing = m;
	on_wish = come_in_silence;
	read_large(m, 0, GRANULE, 100);
	assert_large(&m->reqs[0], GRANULE, 100);
	assert_int_equal(blobs_parked(m->blobs), 0);
	blob_close(m->blobs, LARGE);
}

static void
come_and_tell(int64_t first, int64_t n)
{
	on_wish = NULL;
	assert_int_equal(n, 1);
	land(wishing, first);
}

/* And with the note: it is answered once. */
static void
is_answered_once_by_landing_and_look(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	wishing = m;
	on_wish = come_and_tell;
	read_large(m, 0, GRANULE, 100);
	assert_large(&m->reqs[0], GRANULE, 100);
	assert_int_equal(blobs_parked(m->blobs), 0);
	blob_close(m->blobs, LARGE);
}

static void
fails_overlapping_reads_alone(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	read_large(m, 0, 0, 100);
	read_large(m, 1, GRANULE, 100);
	read_large(m, 2, GRANULE - 50, 100);
	put_granule(m, 0);
	blob_failed(m->blobs, &m->id.image, 0, 2, -EHOSTUNREACH);
	/* Granule 0 came all the same; the third read waits for 1 now, and has wished it anew. */
	assert_large(&m->reqs[0], 0, 100);
	assert_errno(&m->reqs[1], EHOSTUNREACH);
	assert_false(has_answer(&m->reqs[2]));
	blob_failed(m->blobs, &m->id.image, 1, 1, -EBADMSG);
	assert_errno(&m->reqs[2], EBADMSG);
	assert_int_equal(blobs_parked(m->blobs), 0);
	blob_close(m->blobs, LARGE);
}

static void
fetches_again_what_the_disk_lost(void **state)
{
	struct mount *m = *state;
	unsigned char other;

	open_serving(m);
	put_granule(m, 1);
	other = large[GRANULE + 17] ^ 1;
	assert_int_equal(pwrite(blockfile_fd(m->partial), &other, 1, GRANULE + 17), 1);
	read_large(m, 0, GRANULE, 100);
	assert_false(has_answer(&m->reqs[0]));
	assert_int_equal(n_wishes, 1);
	assert_int_equal(n_heals, 0);
	land(m, 1);
	assert_large(&m->reqs[0], GRANULE, 100);
	blob_close(m->blobs, LARGE);
}

/* 1 second for blocks, an hour for the whole. */
static void
waits_for_blocks_a_short_time(void **state)
{
	struct mount *m = *state;
	long long from = io_monotonic_ms();

	blobs_set_timeouts(m->blobs, 3600, 1);
	prepare_large(m);
	open_large(m);
	read_large(m, 0, 0, 100);
	wait_for_answer(&m->reqs[0]);
	assert_errno(&m->reqs[0], ETIMEDOUT);
	assert_in_range(io_monotonic_ms() - from, 1000, 10000);
	blob_answered(m->blobs, &m->id.image, 0, m->partial);
	read_large(m, 1, 0, 100);
	wait_for_answer(&m->reqs[1]);
	assert_errno(&m->reqs[1], ETIMEDOUT);
	blob_close(m->blobs, LARGE);
}

/*
 * 0 s  the read begins to wait for a granule; it has 1 s
 * then the image is to be streamed: the read has an hour
 * 1 s  nothing
 * 2 s  another read of the same image that has a second is over, and this one is not
 */
static void
waits_longer_for_a_stream(void **state)
{
	struct mount *m = *state;
	struct object_row row;

	blobs_set_timeouts(m->blobs, 3600, 1);
	open_serving(m);
	read_large(m, 0, 0, 100);
	blob_lost(m->blobs, &m->id.image);
	row = large_row(m);
	row.strict_reason = (char[]){ "the server gives no ranges" };
	blob_mode(m->blobs, &row);
	assert_int_equal(n_wanted, 1);
	blobs_set_timeouts(m->blobs, 2, 1);
	read_large(m, 1, 0, 100);
	wait_for_answer(&m->reqs[1]);
	assert_errno(&m->reqs[1], ETIMEDOUT);
	assert_false(has_answer(&m->reqs[0]));
	for (int64_t g = 0; g < N_GRANULES; g++)
		put_granule(m, g);
	blockfile_set_complete(m->partial);
	blob_answered(m->blobs, &m->id.image, 0, m->partial);
	assert_large(&m->reqs[0], 0, 100);
	blob_close(m->blobs, LARGE);
}

/* Every block was signed, and so was another whole. */
static void
stops_serving_what_was_wrong_as_a_whole(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	put_granule(m, 0);
	read_large(m, 0, 0, 100);
	assert_large(&m->reqs[0], 0, 100);
	read_large(m, 1, GRANULE, 100);
	blob_answered(m->blobs, &m->id.image, -EBADMSG, NULL);
	assert_errno(&m->reqs[1], EBADMSG);
	read_large(m, 2, 0, 100);
	assert_false(has_answer(&m->reqs[2]));
	assert_int_equal(n_wanted, 1);
	blob_answered(m->blobs, &m->id.image, -EBADMSG, NULL);
	assert_errno(&m->reqs[2], EBADMSG);
	blob_close(m->blobs, LARGE);
}

static void
interrupts_a_granule(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	read_large(m, 0, 0, 100);
	read_large(m, 1, 0, 100);
	interrupt(&m->reqs[0]);
	wait_for_answer(&m->reqs[0]);
	assert_errno(&m->reqs[0], EINTR);
	land(m, 0);
	assert_errno(&m->reqs[0], EINTR);
	assert_large(&m->reqs[1], 0, 100);
	blob_close(m->blobs, LARGE);
}

static void
cuts_what_waits_for_granules(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	put_granule(m, 0);
	read_large(m, 0, GRANULE, 100);
	blob_cut(m->blobs, &m->id.image, true);
	assert_errno(&m->reqs[0], ESTALE);
	read_large(m, 1, 0, 100);
	assert_errno(&m->reqs[1], ESTALE);
	land(m, 1);
	blob_failed(m->blobs, &m->id.image, 1, 1, -EIO);
	blob_close(m->blobs, LARGE);
}

static void
ends_with_granules_missing(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	read_large(m, 0, GRANULE, 100);
	blobs_end(m->blobs);
	assert_errno(&m->reqs[0], ENOTCONN);
	land(m, 1);
	blob_close(m->blobs, LARGE);
}

static void
never_shows_a_hole_of_a_partial(void **state)
{
	struct mount *m = *state;

	open_serving(m);
	put_granule(m, 1);
	assert_int_equal(blob_seek(m->blobs, LARGE, 3, SEEK_DATA), 3);
	assert_int_equal(blob_seek(m->blobs, LARGE, 3, SEEK_HOLE), LARGE_SIZE);
	assert_int_equal(blob_seek(m->blobs, LARGE, LARGE_SIZE, SEEK_DATA), -ENXIO);
	assert_int_equal(n_wishes + n_wanted, 0);
	blob_close(m->blobs, LARGE);
}

/* As bit-rot does: cp, which skips holes, would write zeros and never know. */
static void
never_shows_a_hole_of_the_disk(void **state)
{
	enum { HOLED_SIZE = 3 * GRANULE };
	struct mount *m = *state;
	unsigned char *bytes = malloc(HOLED_SIZE);
	struct object_row row = { .id = 11, .size = HOLED_SIZE, .state = OBJECT_VERIFIED,
				  .access = ACCESS_OK, .has_tree = true };
	struct vtree_id id;
	char path[512];
	int fd;

	memset(bytes, 'x', HOLED_SIZE);
	bed_add(m->bed, bytes, HOLED_SIZE, &id);
	row.digest = id.image;
	row.tree = id.verity;
	bed_object_path(m->bed, path, &id.image);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, GRANULE,
				   GRANULE), 0);
	assert_int_equal(lseek(fd, 0, SEEK_HOLE), GRANULE);
	close(fd);
	assert_int_equal(blob_open(m->blobs, &row, true), 0);
	assert_int_equal(blob_seek(m->blobs, 11, 0, SEEK_HOLE), HOLED_SIZE);
	assert_int_equal(blob_seek(m->blobs, 11, GRANULE, SEEK_DATA), GRANULE);
	blob_read(m->blobs, &m->reqs[0], 11, 100, GRANULE);
	assert_false(has_answer(&m->reqs[0]));
	assert_int_equal(n_heals, 1);
	assert_int_equal(healed_granule, 1);
	blob_close(m->blobs, 11);
	free(bytes);
}

/* ---- all at once ----------------------------------------------------------------------------- */

/* Readers, interrupts, the engine's answers, cuts and closes in any order: one answer a read. */

enum { READERS = 3, ROUNDS = 400, AT_ONCE = 8 };

struct storm {
	struct mount *m;
	unsigned seed;
	atomic_bool *over;
};

static void *
read_wildly(void *arg)
{
	struct storm *s = arg;
	struct fuse_req reqs[AT_ONCE];

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t object = OBJECT + (unsigned)rand_r(&s->seed) % 2;
		bool verified = rand_r(&s->seed) % 4 == 0;

		open_row(s->m, object, verified);
		for (int i = 0; i < AT_ONCE; i++) {
			req_init(&reqs[i]);
			blob_read(s->m->blobs, &reqs[i], object, SIZE, 0);
			if (rand_r(&s->seed) % 3 == 0)
				interrupt(&reqs[rand_r(&s->seed) % (i + 1)]);
		}
		if (rand_r(&s->seed) % 2 == 0)
			interrupt(&reqs[0]);
		blob_close(s->m->blobs, object);
		for (int i = 0; i < AT_ONCE; i++) {
			wait_for_answer(&reqs[i]);
			assert_int_equal(atomic_load(&reqs[i].n_answers), 1);
			if (reqs[i].errnum == 0) {
				assert_bytes(&reqs[i], TEXT);
			} else {
				assert_true(reqs[i].errnum == EINTR || reqs[i].errnum == ESTALE ||
					    reqs[i].errnum == EBADMSG);
			}
		}
	}
	return NULL;
}

static void *
answer_wildly(void *arg)
{
	struct storm *s = arg;

	while (!atomic_load(s->over)) {
		switch (rand_r(&s->seed) % 5) {
		case 4:
			blob_lost(s->m->blobs, &s->m->digest);
			break;
		case 0:
			blob_answered(s->m->blobs, &s->m->digest, -EBADMSG, NULL);
			break;
		case 1:
			blob_cut(s->m->blobs, &s->m->digest, true);
			blob_cut(s->m->blobs, &s->m->digest, false);
			break;
		default:
			bring(s->m);
			break;
		}
		blob_is_open(s->m->blobs, &s->m->digest);
		blob_seek(s->m->blobs, OBJECT, 0, SEEK_DATA);
	}
	return NULL;
}

static void
answers_each_exactly_once(void **state)
{
	struct mount *m = *state;
	atomic_bool over = false;
	struct storm storms[READERS + 1];
	pthread_t threads[READERS + 1];

	for (unsigned i = 0; i <= READERS; i++) {
		storms[i] = (struct storm){ m, i + 1, &over };
		assert_int_equal(pthread_create(&threads[i], NULL,
						i < READERS ? read_wildly : answer_wildly,
						&storms[i]), 0);
	}
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&over, true);
	pthread_join(threads[READERS], NULL);
	assert_int_equal(blobs_parked(m->blobs), 0);
	assert_int_equal(blobs_open(m->blobs), 0);
	assert_false(blob_is_open(m->blobs, &m->digest));
}

/*
 * The same in block mode: lanes land granules and fail some, the disk loses some, the image goes and
 * comes back.
 */
static void *
read_granules_wildly(void *arg)
{
	struct storm *s = arg;
	struct fuse_req reqs[AT_ONCE];

	for (int round = 0; round < ROUNDS; round++) {
		off_t off[AT_ONCE];
		size_t size[AT_ONCE];

		open_large(s->m);
		for (int i = 0; i < AT_ONCE; i++) {
			off[i] = rand_r(&s->seed) % (LARGE_SIZE - 2);
			size[i] = (size_t)(rand_r(&s->seed) % (GRANULE + GRANULE / 2)) + 1;
			if ((off_t)size[i] > LARGE_SIZE - off[i])
				size[i] = (size_t)(LARGE_SIZE - off[i]);
			req_init(&reqs[i]);
			blob_read(s->m->blobs, &reqs[i], LARGE, size[i], off[i]);
			if (rand_r(&s->seed) % 4 == 0)
				interrupt(&reqs[rand_r(&s->seed) % (i + 1)]);
		}
		blob_close(s->m->blobs, LARGE);
		for (int i = 0; i < AT_ONCE; i++) {
			wait_for_answer(&reqs[i]);
			assert_int_equal(atomic_load(&reqs[i].n_answers), 1);
			if (reqs[i].errnum == 0) {
				assert_large(&reqs[i], off[i], size[i]);
			} else {
				assert_true(reqs[i].errnum == EINTR || reqs[i].errnum == ESTALE ||
					    reqs[i].errnum == EBADMSG ||
					    reqs[i].errnum == EHOSTUNREACH);
			}
		}
	}
	return NULL;
}

static void *
land_wildly(void *arg)
{
	struct storm *s = arg;
	struct mount *m = s->m;
	char zero = 0;

	while (!atomic_load(s->over)) {
		int64_t g = rand_r(&s->seed) % N_GRANULES;

		switch (rand_r(&s->seed) % 16) {
		case 0:
			blob_failed(m->blobs, &m->id.image, g, 2, -EHOSTUNREACH);
			break;
		case 1:
			if (pwrite(blockfile_fd(m->partial), &zero, 1, g * GRANULE) == 1)
				break;
			abort();
		case 2:
			blob_lost(m->blobs, &m->id.image);
			break;
		case 3:
			blob_answered(m->blobs, &m->id.image, -EBADMSG, NULL);
			break;
		case 4: case 5: case 6:
			blob_answered(m->blobs, &m->id.image, 0, m->partial);
			break;
		default:
			land(m, g);
			break;
		}
	}
	return NULL;
}

static void
answers_each_exactly_once_by_granules(void **state)
{
	enum { LANES = 2 };
	struct mount *m = *state;
	atomic_bool over = false;
	struct storm storms[READERS + LANES];
	pthread_t threads[READERS + LANES];

	prepare_large(m);
	for (unsigned i = 0; i < READERS + LANES; i++) {
		storms[i] = (struct storm){ m, i + 1, &over };
		assert_int_equal(pthread_create(&threads[i], NULL,
						i < READERS ? read_granules_wildly : land_wildly,
						&storms[i]), 0);
	}
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&over, true);
	for (unsigned i = READERS; i < READERS + LANES; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(blobs_parked(m->blobs), 0);
	assert_int_equal(blobs_open(m->blobs), 0);
	assert_false(blob_is_open(m->blobs, &m->id.image));
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("C01 many readers of one image cause one fetch and all get its bytes",
		     parks_and_answers),
		TEST("a failed fetch fails all readers; the next reader asks again",
		     fails_all_and_asks_again),
		TEST("a reader of an image that is withdrawn meanwhile gets ESTALE",
		     says_what_was_withdrawn),
		TEST("C03 the fate of another image changes nothing", ignores_answers_to_others),
		TEST("P06 an interrupted reader gets EINTR, the others wait on", interrupts_one),
		TEST("P06 so does one that was interrupted on the way", interrupted_before_it_waits),
		TEST("P06 what comes within a moment of an interrupt is given out",
		     interrupted_and_answered),
		TEST("P06 who was interrupted waits for a moment, whatever the others wait for",
		     interrupted_at_its_end),
		TEST("read_timeout ends each read with ETIMEDOUT in its own time",
		     fails_at_its_deadline),
		TEST("read_timeout = 0 answers EAGAIN at once and fetches", does_not_wait_at_all),
		TEST("P04 the end of the mount answers what waits with ENOTCONN",
		     ends_with_the_mount),
		TEST("C04 a read that its reader no longer waits for is answered all the same",
		     outlives_its_file),
		TEST("F21 reads of a verified image end at its size", reads_what_is_verified),
		TEST("F21 a read at the end of an unfetched image fetches nothing",
		     reads_the_end_without_waiting),
		TEST("F25 an image is data up to its size, fetched or not", seeks_without_fetching),
		TEST("an image is open until its last file is closed", counts_open_files),
		TEST("C07 an image that was forgotten and listed again serves old and new files",
		     serves_two_numbers),
		TEST("C07 open files of a distrusted image are ESTALE until it is trusted again",
		     cuts_what_is_distrusted),
		TEST("S37 a reader that waits for an image learns that it is distrusted",
		     cuts_what_waits),
		TEST("B10 an image that is bad when it is opened is fetched again",
		     refetches_what_is_bad_at_open),
		TEST("B09 a block that goes bad under its readers is healed once, and they wait",
		     heals_what_goes_bad),
		TEST("B09 a block that cannot be healed is EIO, and tried again by the next reader",
		     gives_up_what_cannot_be_healed),
		TEST("B07 what the disk cut off is healed, too", heals_what_was_cut_short),
		TEST("B15 B16 an image without its tree is not read until the tree was made anew",
		     waits_for_a_tree),
		TEST("B06 bytes that the disk did not keep are waited for again",
		     waits_anew_for_what_was_lost),
		TEST("the first read of an image with a signed tree asks for tree and block at once",
		     asks_for_tree_and_granule),
		TEST("C01 hundreds of readers of one block get it from the buffer that was checked",
		     answers_from_what_lands),
		TEST("what is here is served while the rest is not", serves_what_is_here),
		TEST("a read over several blocks asks for those alone that are missing",
		     wishes_for_gaps_alone),
		TEST("a block that comes while it is asked for is not waited for",
		     misses_no_landing),
		TEST("and is answered once", is_answered_once_by_landing_and_look),
		TEST("a block that cannot be had fails its readers, and no others",
		     fails_overlapping_reads_alone),
		TEST("a block of a partial image that the disk lost is fetched again",
		     fetches_again_what_the_disk_lost),
		TEST("block_timeout ends a read that waits for blocks alone",
		     waits_for_blocks_a_short_time),
		TEST("T40 a read has read_timeout from when its image comes as a stream",
		     waits_longer_for_a_stream),
		TEST("an image whose blocks are right and whose whole is wrong is EBADMSG for all",
		     stops_serving_what_was_wrong_as_a_whole),
		TEST("P06 a reader of a block is interrupted alone", interrupts_a_granule),
		TEST("S37 a reader of a block learns that its image is distrusted",
		     cuts_what_waits_for_granules),
		TEST("P04 the end of the mount answers what waits for blocks",
		     ends_with_granules_missing),
		TEST("F25 an image in block mode has no holes, and seeking fetches nothing",
		     never_shows_a_hole_of_a_partial),
		TEST("B14 F25 a hole that the disk made is data, which is found out to be bad",
		     never_shows_a_hole_of_the_disk),
		TEST("C07 every read is answered exactly once, whatever happens at once",
		     answers_each_exactly_once),
		TEST("and in block mode", answers_each_exactly_once_by_granules),
	};

	return cmocka_run_group_tests_name("blob", tests, NULL, NULL);
}
