/*
 * Receiving an image whose transfer is cut, or whose bytes are not the signed ones.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/intake.h"
#include "tests/lib/storebed.h"
#include "tests/unit/intakebed.h"

/* ---- cut and resumed ----------------------------------------------------------------------- */

static void
several_pipes(void **state)
{
	struct rig *r = *state;
	size_t step = 300001;

	start(r);
	for (size_t at = 0; at + step < IMAGE_LEN; at += step) {
		assert_int_equal(feed(r, r->image + at, step, 1 << 16), INTAKE_IDLE);
		assert_int_equal(intake_offset(r->in), at + step);
	}
	assert_int_equal(feed(r, r->image + intake_offset(r->in),
			      IMAGE_LEN - (size_t)intake_offset(r->in), 1 << 16), INTAKE_STORED);
	assert_true(intake_resumed(r->in));
	expect_stored(r);
}

static void
empty_pipe(void **state)
{
	struct rig *r = *state;

	start(r);
	assert_int_equal(feed(r, r->image, 0, 1), INTAKE_IDLE);
	assert_int_equal(intake_offset(r->in), 0);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
	assert_false(intake_resumed(r->in));
}

/* A directory stands for a pipe that cannot be read. */
static void
unreadable_pipe(void **state)
{
	struct rig *r = *state;
	struct err why = { 0 };

	start(r);
	assert_int_equal(feed(r, r->image, 1000000, 1 << 16), INTAKE_IDLE);
	intake_feed(r->in, open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	assert_int_equal(settle(r), INTAKE_FAILED);
	intake_result(r->in, &why);
	assert_int_equal(why.rc, -EISDIR);
	assert_int_equal(why.code, CODE_NONE);
	intake_free(r->in);
	start(r);
	assert_int_equal(settle(r), INTAKE_IDLE);
	assert_int_equal(intake_offset(r->in), 1000000);
}

static void
restarts(void **state)
{
	struct rig *r = *state;

	start(r);
	assert_int_equal(feed(r, r->image + 5, 1000000, 1 << 16), INTAKE_IDLE);
	intake_restart(r->in);
	assert_int_equal(intake_offset(r->in), 0);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
	assert_false(intake_resumed(r->in));
	expect_stored(r);
}

static void
earlier_run(void **state)
{
	struct rig *r = *state;

	start(r);
	feed(r, r->image, 2000000, 1 << 16);
	intake_free(r->in);
	start(r);
	assert_int_equal(settle(r), INTAKE_IDLE);
	assert_int_equal(intake_offset(r->in), 2000000);
	assert_true(intake_resumed(r->in));
	assert_int_equal(feed(r, r->image + 2000000, IMAGE_LEN - 2000000, 1 << 16), INTAKE_STORED);
	expect_stored(r);
}

static void
earlier_run_complete(void **state)
{
	struct rig *r = *state;
	char path[512], hex[DIGEST_HEX + 1];

	digest_hex(&r->digest, hex);
	bed_path(r->bed, path, "partial/%s", hex);
	bed_write(path, r->image, IMAGE_LEN);
	start(r);
	assert_int_equal(settle(r), INTAKE_STORED);
	expect_stored(r);
}

static void
poisoned(void **state)
{
	struct rig *r = *state;

	start(r);
	feed(r, r->image + 1, 1000000, 1 << 16);
	intake_free(r->in);
	start(r);
	settle(r);
	assert_int_equal(feed(r, r->image + 1000000, IMAGE_LEN - 1000000, 1 << 16), INTAKE_FAILED);
	assert_int_equal(intake_result(r->in, &r->err), -EBADMSG);
	assert_int_equal(r->err.code, CODE_DIGEST);
	assert_true(intake_resumed(r->in));
	assert_int_equal(bed_count(r->bed, "quarantine") + bed_count(r->bed, "partial"), 0);
	intake_free(r->in);
	start(r);
	assert_int_equal(intake_offset(r->in), 0);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
}

static void
stopped_while_waiting(void **state)
{
	struct rig *r = *state;
	int fds[2];

	start(r);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	intake_feed(r->in, fds[0]);
	assert_int_equal(write(fds[1], r->image, 5000), 5000);
	/* The sender is silent but there: what it sent is in the file all the same. */
	wait_offset(r, 5000);
	intake_free(r->in);
	assert_int_equal(write(fds[1], "x", 1), -1);	/* the reading end is closed */
	close(fds[1]);
	start(r);
	assert_int_equal(settle(r), INTAKE_IDLE);
	assert_int_equal(intake_offset(r->in), 5000);
}

/* ---- refusals ------------------------------------------------------------------------------ */

static int
setup_bare(void **state)
{
	*state = rig_new(bed_new_bare());
	return 0;
}

static void
expect_wrong(struct rig *r)
{
	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_FAILED);
	assert_int_equal(intake_result(r->in, &r->err), -EBADMSG);
	assert_int_equal(r->err.code, CODE_DIGEST);
	assert_null(intake_blockfile(r->in));
	assert_int_equal(bed_count(r->bed, "quarantine"), 1);
	assert_int_equal(bed_count(r->bed, "partial"), 0);
	intake_free(r->in);
	r->in = NULL;
	assert_int_equal(store_object_open(r->bed->store, &r->digest, IMAGE_LEN, NULL), -ENOENT);
}

static void
wrong_bits(void **state)
{
	struct rig *r = *state;
	const size_t at[] = { 0, IMAGE_LEN / 2, IMAGE_LEN - 1 };

	for (size_t i = 0; i < 3; i++) {
		r->image[at[i]] ^= 1;
		expect_wrong(r);
		r->image[at[i]] ^= 1;
	}
}

static void
wrong_order(void **state)
{
	struct rig *r = *state;
	unsigned char *swap = malloc(1 << 20);

	memcpy(swap, r->image, 1 << 20);
	memcpy(r->image, r->image + (1 << 20), 1 << 20);
	memcpy(r->image + (1 << 20), swap, 1 << 20);
	free(swap);
	expect_wrong(r);
}

static void
zeros(void **state)
{
	struct rig *r = *state;

	memset(r->image, 0, IMAGE_LEN);
	expect_wrong(r);
}

static void
too_much(void **state)
{
	struct rig *r = *state;

	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN + 1, 1 << 16), INTAKE_FAILED);
	assert_int_equal(intake_result(r->in, &r->err), -EBADMSG);
	assert_int_equal(r->err.code, CODE_TOO_MUCH);
	assert_int_equal(bed_count(r->bed, "partial"), 0);
}

static void
waits_for_the_end(void **state)
{
	struct rig *r = *state;
	int fds[2];

	digest_of(r->image, 10, &r->digest);
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, 10, NULL, r->notify,
				    &r->err), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	intake_feed(r->in, fds[0]);
	assert_int_equal(write(fds[1], r->image, 10), 10);
	wait_offset(r, 10);
	assert_int_equal(intake_state(r->in), INTAKE_RUNNING);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(settle(r), INTAKE_FAILED);
	intake_result(r->in, &r->err);
	assert_int_equal(r->err.code, CODE_TOO_MUCH);
	close(fds[1]);
}

static void
no_size(void **state)
{
	struct rig *r = *state;

	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, 0, NULL, r->notify,
				    &r->err), -EBADMSG);
	assert_int_equal(r->err.code, CODE_SIZE);
	assert_null(r->in);
}

/* ext2 has no fallocate(), so the disk can be full in the middle. */
static void
full_in_the_middle(void **state)
{
	struct rig *r = *state;
	static char block[64 << 10];
	char path[512];
	int fd;

	if (!bed_mount(r->bed, "ext2", NULL, 8192))
		skip();
	bed_open(r->bed);
	start(r);
	bed_path(r->bed, path, "filler");
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_FAILED);
	assert_int_equal(intake_result(r->in, &r->err), -ENOSPC);
	assert_int_equal(r->err.code, CODE_FULL);
	assert_int_equal(bed_count(r->bed, "partial"), 0);
	intake_free(r->in);
	assert_int_equal(unlink(path), 0);
	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
	expect_stored(r);
	intake_free(r->in);
	r->in = NULL;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		INTAKE_TEST("T38 a transfer that is cut often goes on where it stopped",
			    several_pipes, setup),
		INTAKE_TEST("a transfer without a byte changes nothing", empty_pipe, setup),
		INTAKE_TEST("B05 a pipe that cannot be read is not a server's that ended too early",
			    unreadable_pipe, setup),
		INTAKE_TEST("a transfer can start again at its first byte", restarts, setup),
		INTAKE_TEST("the bytes of an earlier run are hashed again and gone on with",
			    earlier_run, setup),
		INTAKE_TEST("an earlier run that had all bytes needs no transfer",
			    earlier_run_complete, setup),
		INTAKE_TEST("B25 a partial of another image is dropped and accuses nobody",
			    poisoned, setup),
		INTAKE_TEST("a silent sender is no reason to wait",
			    stopped_while_waiting, setup),
		INTAKE_TEST("T31 one wrong bit, first, middle or last, is refused and quarantined",
			    wrong_bits, setup),
		INTAKE_TEST("T31 two swapped blocks are refused", wrong_order, setup),
		INTAKE_TEST("T31 zeros are refused", zeros, setup),
		INTAKE_TEST("T31 one byte more than the signed size is refused",
			    too_much, setup),
		INTAKE_TEST("an image is complete when the sender has ended",
			    waits_for_the_end, setup),
		INTAKE_TEST("an image of no bytes is refused", no_size, setup),
		INTAKE_TEST("B02 a disk that fills up in the middle is full until room is made",
			    full_in_the_middle, setup_bare),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("intake_bad", tests, NULL, NULL);
}
