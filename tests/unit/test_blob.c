/*
 * test_blob.c - reads of image files, parked until there is something to answer, and how they
 * end.
 */
#include "config.h"

#include <errno.h>

#include "core/io.h"
#include "fs/blob.h"
#include "tests/unit/readbed.h"

/* ---- parked reads -------------------------------------------------------------------------- */

static void
parks_and_answers(void **state)
{
	struct mount *m = *state;

	open_unfetched(m);
	for (size_t i = 0; i < N_REQS; i++)
		blob_read(m->blobs, &m->reqs[i], OBJECT, 5, 4, 0);
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

/* ---- what is there ------------------------------------------------------------------------- */

static void
reads_what_is_verified(void **state)
{
	struct mount *m = *state;

	open_verified(m);
	read_whole(m, 0);
	assert_bytes(&m->reqs[0], TEXT);
	blob_read(m->blobs, &m->reqs[1], OBJECT, 100, SIZE - 3, 0);
	assert_bytes(&m->reqs[1], "fox");
	blob_read(m->blobs, &m->reqs[2], OBJECT, 100, SIZE, 0);
	assert_bytes(&m->reqs[2], "");
	blob_read(m->blobs, &m->reqs[3], OBJECT, 100, INT64_MAX, 0);
	assert_bytes(&m->reqs[3], "");
	blob_read(m->blobs, &m->reqs[4], OBJECT, 0, 0, 0);
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
	blob_read(m->blobs, &m->reqs[0], OBJECT, 100, SIZE, 0);
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
	blob_read(m->blobs, &m->reqs[0], OBJECT + 1, SIZE, 0, 0);
	assert_false(has_answer(&m->reqs[0]));
	bring(m);
	assert_bytes(&m->reqs[0], TEXT);
	blob_cut(m->blobs, &m->digest, true);
	blob_read(m->blobs, &m->reqs[1], OBJECT, SIZE, 0, 0);
	blob_read(m->blobs, &m->reqs[2], OBJECT + 1, SIZE, 0, 0);
	assert_errno(&m->reqs[1], ESTALE);
	assert_errno(&m->reqs[2], ESTALE);
	blob_close(m->blobs, OBJECT);
	assert_true(blob_is_open(m->blobs, &m->digest));
	blob_close(m->blobs, OBJECT + 1);
	assert_false(blob_is_open(m->blobs, &m->digest));
}

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
		TEST("P06 so does one that was interrupted on the way",
		     interrupted_before_it_waits),
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
	};

	return cmocka_run_group_tests_name("blob", tests, NULL, NULL);
}
