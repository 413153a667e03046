/*
 * test_blob_damage.c - what readers of an image see when it is distrusted, or when its file turns
 * out bad.
 */
#include "config.h"

#include <errno.h>
#include <unistd.h>

#include "core/blockfile.h"
#include "core/engine.h"
#include "fs/blob.h"
#include "tests/unit/readbed.h"

/* ---- distrust ------------------------------------------------------------------------------ */

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

/* ---- bad files ----------------------------------------------------------------------------- */

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

int
main(void)
{
	static const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests_name("blob_damage", tests, NULL, NULL);
}
