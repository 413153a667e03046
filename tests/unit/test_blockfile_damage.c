/*
 * Files with the tree that proves them, whose bytes are wrong, cannot be read, or change while
 * they are read.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/blockfile.h"
#include "tests/lib/storebed.h"
#include "tests/unit/blockbed.h"

/* ---- damage -------------------------------------------------------------------------------- */

static void
flipped_bit(void **state)
{
	struct bench *b = *state;

	make_complete(b);
	bed_flip(b->path, 3 * GRANULE + 99, 1);
	expect_right(b, 0, 3 * GRANULE);
	expect_bad(b, 0, SIZE, -EBADMSG, 3);
	expect_bad(b, 4 * GRANULE - 1, 1, -EBADMSG, 3);
	expect_right(b, 4 * GRANULE, TAIL);
	assert_int_equal(blockfile_n_bad(b->file), 1);
	assert_false(blockfile_has(b->file, 3));
	/* As it was: served again, and no longer counted. */
	bed_flip(b->path, 3 * GRANULE + 99, 1);
	expect_right(b, 0, SIZE);
	assert_int_equal(blockfile_n_bad(b->file), 0);
}

static void
flipped_behind_the_cache(void **state)
{
	struct bench *b = *state;

	make_complete(b);
	expect_right(b, 0, SIZE);
	bed_flip(b->path, GRANULE + 3 * BLOCK, 1);
	expect_bad(b, GRANULE + 3 * BLOCK + 50, 10, -EBADMSG, 1);
	expect_right(b, GRANULE, 3 * BLOCK);
	expect_right(b, GRANULE + 4 * BLOCK, BLOCK);
	/* A leaf that is right does not make the granule right. */
	assert_int_equal(blockfile_n_bad(b->file), 1);
}

static void
punched_hole(void **state)
{
	struct bench *b = *state;
	int fd;

	make_complete(b);
	fd = reopen(b, O_RDWR);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * GRANULE + BLOCK,
		      BLOCK) != 0) {
		close(fd);
		skip();
	}
	expect_bad(b, 2 * GRANULE, 10, -EBADMSG, 2);
	blockfile_set_writable(b->file, fd);
	assert_int_equal(land(b, 2), 0);
	expect_right(b, 0, SIZE);
	assert_int_equal(blockfile_n_bad(b->file), 0);
}

static void
cut_short(void **state)
{
	struct bench *b = *state;

	make_complete(b);
	assert_int_equal(truncate(b->path, SIZE - 1), 0);
	expect_right(b, 4 * GRANULE, GRANULE);
	expect_bad(b, 4 * GRANULE, GRANULE + TAIL, -EBADMSG, 5);
	assert_int_equal(truncate(b->path, 0), 0);
	expect_bad(b, GRANULE, 2 * GRANULE, -EBADMSG, 1);
}

static void
wrong_once(void **state)
{
	struct bench *b = *state;

	make_complete(b);
	watch_disk(b);
	disk.spoil_reads = 1;
	expect_right(b, GRANULE, 2 * GRANULE);
	assert_int_equal(disk.n_reads, 2);
	assert_int_equal(blockfile_n_bad(b->file), 0);
}

static void
unreadable_once(void **state)
{
	struct bench *b = *state;

	make_complete(b);
	watch_disk(b);
	disk.fail_reads = 1;
	disk.error = EIO;
	expect_right(b, GRANULE, 2 * GRANULE);
	/* Whichever of the two it was, each is read again for itself. */
	assert_int_equal(disk.n_reads, 3);
	assert_int_equal(blockfile_n_bad(b->file), 0);
}

static void
unreadable(void **state)
{
	struct bench *b = *state;

	make_complete(b);
	watch_disk(b);
	disk.fail_reads = 2;
	disk.error = EIO;
	expect_bad(b, GRANULE, 2 * GRANULE, -EIO, 1);
	assert_int_equal(blockfile_n_bad(b->file), 1);
	expect_right(b, GRANULE, 2 * GRANULE);
	assert_int_equal(blockfile_n_bad(b->file), 0);
}

static void
no_memory(void **state)
{
	struct bench *b = *state;

	make_complete(b);
	watch_disk(b);
	disk.fail_reads = 2;
	disk.error = ENOMEM;
	assert_int_equal(read_at(b, 0, 10), -ENOMEM);
	assert_int_equal(blockfile_n_bad(b->file), 0);
}

static void
bad_in_partial(void **state)
{
	struct bench *b = *state;

	make_partial(b, NULL, 0);
	assert_int_equal(land(b, 1), 0);
	bed_flip(b->path, GRANULE, 1);
	expect_bad(b, GRANULE, 10, -EAGAIN, 1);
	assert_false(blockfile_has(b->file, 1));
	assert_int_equal(land(b, 1), 0);
	expect_right(b, GRANULE, GRANULE);
}

/* ---- at the same time ---------------------------------------------------------------------- */

static void
land_after_second_read(int nth)
{
	if (nth == 2)
		assert_int_equal(land(now, 1), 0);
}

static void
landed_meanwhile(void **state)
{
	struct bench *b = *state;

	make_complete(b);
	bed_flip(b->path, GRANULE, 1);
	blockfile_set_writable(b->file, reopen(b, O_RDWR));
	watch_disk(b);
	disk.after_read = land_after_second_read;
	expect_right(b, GRANULE, 10);
	assert_int_equal(disk.n_reads, 3);
	assert_int_equal(blockfile_n_bad(b->file), 0);
}

/* The writer stops in the middle until the reader has looked twice. */
static void
stop_in_the_middle(void)
{
	for (int i = 0; i < 20000 && disk.n_reads < 2; i++)
		usleep(1000);
}

static void *
land_main(void *arg)
{
	struct bench *b = arg;
	struct err err;

	return blockfile_land(b->file, 1, image + GRANULE, GRANULE, &err) == 0 ? b : NULL;
}

static void
half_written(void **state)
{
	static const unsigned char lie[1] = { 0xff };
	struct bench *b = *state;
	pthread_t writer;
	void *landed;

	/* The map says it is here, so it is read; but only the first half of it is. */
	make_partial(b, lie, sizeof(lie));
	watch_disk(b);
	disk.in_write = stop_in_the_middle;
	assert_int_equal(pthread_create(&writer, NULL, land_main, b), 0);
	while (disk.n_writes == 0)
		usleep(1000);
	expect_right(b, GRANULE, GRANULE);
	assert_int_equal(disk.n_reads, 3);
	assert_int_equal(pthread_join(writer, &landed), 0);
	assert_non_null(landed);
	assert_true(blockfile_has(b->file, 1));
}

static atomic_int writing, overlaps;

static void
note_overlap(void)
{
	if (atomic_fetch_add(&writing, 1) != 0)
		overlaps++;
	usleep(200);
	writing--;
}

static void
same_granule_by_many(void **state)
{
	struct bench *b = *state;
	pthread_t threads[4];
	void *landed;

	make_partial(b, NULL, 0);
	watch_disk(b);
	disk.in_write = note_overlap;
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, land_main, b), 0);
		for (int i = 0; i < 4; i++) {
			assert_int_equal(pthread_join(threads[i], &landed), 0);
			assert_non_null(landed);
		}
		expect_right(b, GRANULE, GRANULE);
	}
	assert_int_equal(overlaps, 0);
	assert_int_equal(blockfile_n_missing(b->file), N - 1);
}

static atomic_bool enough;

static uint32_t
next_random(uint32_t *r)
{
	*r = *r * 1664525u + 1013904223u;
	return *r >> 8;
}

/* Somebody who changes the file in place, for a while, and gives its name to another one. */
static void *
vandal_main(void *arg)
{
	enum { PLACES = 50 };
	struct bench *b = arg;
	int fd = open(b->path, O_RDWR | O_CLOEXEC);
	int64_t places[PLACES];
	bool fine = true;
	uint32_t r = 1;

	while (fine && !enough) {
		for (int i = 0; i < PLACES; i++) {
			unsigned char wrong;

			places[i] = next_random(&r) % SIZE;
			wrong = (unsigned char)(image[places[i]] ^ 1);
			fine = fine && pwrite(fd, &wrong, 1, places[i]) == 1;
		}
		for (int i = 0; i < PLACES; i++)
			fine = fine && pwrite(fd, image + places[i], 1, places[i]) == 1;
		bed_write(b->other, "another", 7);
		fine = fine && rename(b->other, b->path) == 0;
	}
	close(fd);
	return fine ? b : NULL;
}

static void
swapped_under_the_reader(void **state)
{
	struct bench *b = *state;
	const char *text = getenv("VMI_READS");
	long n = text != NULL ? strtol(text, NULL, 10) : 100000, n_right = 0, n_refused = 0;
	pthread_t vandal;
	uint32_t r = 7;
	void *fine;

	make_complete(b);
	enough = false;
	assert_int_equal(pthread_create(&vandal, NULL, vandal_main, b), 0);
	for (long i = 0; i < n; i++) {
		int64_t off;
		int rc;

		off = next_random(&r) % (SIZE - BLOCK);
		rc = read_at(b, off, BLOCK);
		if (rc == 0) {
			if (memcmp(b->data, image + off, BLOCK) != 0)
				fail_msg("wrong bytes at %lld", (long long)off);
			n_right++;
		} else {
			assert_int_equal(rc, -EBADMSG);
			n_refused++;
		}
	}
	enough = true;
	assert_int_equal(pthread_join(vandal, &fine), 0);
	assert_non_null(fine);
	print_message("%ld reads right, %ld refused\n", n_right, n_refused);
	assert_true(n_right > 0 && n_refused > 0);
	/* What is left is as it was. */
	expect_right(b, 0, SIZE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("B09 a flipped bit is found at the read, and is one granule's trouble",
		  flipped_bit),
		T("B09 a flipped bit is found also where the tree block is cached",
		  flipped_behind_the_cache),
		T("B14 a punched hole is found by its digest, and healed", punched_hole),
		T("B10 a file that was cut short is bad where it ends", cut_short),
		T("bytes that are wrong once are read again", wrong_once),
		T("B07 a read that fails once is tried again", unreadable_once),
		T("B07 a granule that cannot be read is told, until it can be", unreadable),
		T("a lack of memory says nothing about the disk", no_memory),
		T("a granule of a partial file that went bad is missing", bad_in_partial),
		T("a granule that lands while it is found bad is read again", landed_meanwhile),
		T("a granule that is half written is not bad", half_written),
		T("one thread at a time writes a granule", same_granule_by_many),
		T("X27 a file that is changed while it is read gives right bytes or none",
		  swapped_under_the_reader),
	};

	return cmocka_run_group_tests_name("damaged block files", tests, NULL, NULL);
}
