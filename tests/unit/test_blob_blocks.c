/*
 * test_blob_blocks.c - reads of an image in block mode: what is asked for, who waits for what,
 * and what is shown of an image that is not whole.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/blockfile.h"
#include "core/catalogue.h"
#include "core/io.h"
#include "fs/blob.h"
#include "tests/unit/readbed.h"

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

/* As the kernel, for a page of a read-ahead. */
static void
does_not_wait_twice(void **state)
{
	struct mount *m = *state;
	long long from;

	blobs_set_timeouts(m->blobs, 3600, 1);
	open_serving(m);
	read_large(m, 0, 0, 2 * GRANULE);
	wait_for_answer(&m->reqs[0]);
	assert_errno(&m->reqs[0], ETIMEDOUT);
	for (size_t i = 1; i < 4; i++) {
		read_large(m, i, GRANULE + (off_t)i * 100, 100);
		assert_errno(&m->reqs[i], ETIMEDOUT);
	}
	/* Beside it, or asked for by who knows what he does, is another matter. */
	read_large(m, 4, 2 * GRANULE, 100);
	blob_read(m->blobs, &m->reqs[5], LARGE, 100, 0, O_DIRECT);
	assert_int_equal(blobs_parked(m->blobs), 2);
	put_granule(m, 0);
	read_large(m, 6, 0, 100);
	assert_large(&m->reqs[6], 0, 100);
	poll(NULL, 0, 1100);
	from = io_monotonic_ms();
	read_large(m, 7, GRANULE, 100);
	wait_for_answer(&m->reqs[7]);
	assert_errno(&m->reqs[7], ETIMEDOUT);
	assert_in_range(io_monotonic_ms() - from, 1000, 10000);
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
	blob_read(m->blobs, &m->reqs[0], 11, 100, GRANULE, 0);
	assert_false(has_answer(&m->reqs[0]));
	assert_int_equal(n_heals, 1);
	assert_int_equal(healed_granule, 1);
	blob_close(m->blobs, 11);
	free(bytes);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("the first read of an image with a signed tree asks for tree and block at"
		     " once", asks_for_tree_and_granule),
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
		TEST("P06 what was given up a moment ago is not waited for again",
		     does_not_wait_twice),
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
	};

	return cmocka_run_group_tests_name("blob_blocks", tests, NULL, NULL);
}
