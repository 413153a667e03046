/*
 * Receiving an image: it is stored, and the tree that was built on the way is its own.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/intake.h"
#include "core/io.h"
#include "tests/lib/storebed.h"
#include "tests/unit/intakebed.h"

/* ---- what goes well ------------------------------------------------------------------------ */

static void
stores(void **state)
{
	struct rig *r = *state;

	start(r);
	assert_int_equal(intake_state(r->in), INTAKE_IDLE);
	assert_int_equal(intake_offset(r->in), 0);
	assert_null(intake_blockfile(r->in));
	assert_int_equal(feed(r, r->image, IMAGE_LEN, IMAGE_LEN), INTAKE_STORED);
	assert_int_equal(intake_offset(r->in), IMAGE_LEN);
	assert_false(intake_resumed(r->in));
	assert_int_equal(intake_result(r->in, NULL), 0);
	expect_stored(r);
}

static void
small_pieces(void **state)
{
	struct rig *r = *state;

	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1009), INTAKE_STORED);
	expect_stored(r);
}

/* What a reader has of the image: the verified bytes at off. */
static void
expect_read(struct blockfile *f, const unsigned char *image, int64_t off, size_t size)
{
	struct readbuf buf = { 0 };
	const void *data;
	int64_t g;

	assert_int_equal(blockfile_read(f, &buf, off, size, &data, &g), 0);
	assert_memory_equal(data, image + off, size);
	readbuf_release(&buf);
}

static void
keeps_what_was_given(void **state)
{
	struct rig *r = *state;
	struct blockfile *f;

	start(r);
	feed(r, r->image, IMAGE_LEN, 1 << 16);
	f = intake_blockfile(r->in);
	assert_non_null(f);
	intake_free(r->in);
	r->in = NULL;
	assert_true(blockfile_is_complete(f));
	assert_false(blockfile_is_writable(f));
	assert_int_equal(fcntl(blockfile_fd(f), F_GETFL) & O_ACCMODE, O_RDONLY);
	expect_read(f, r->image, IMAGE_LEN - 100, 100);
	expect_read(f, r->image, 0, 1);
	blockfile_unref(f);
}

static void
one_byte(void **state)
{
	struct rig *r = *state;

	digest_of(r->image, 1, &r->digest);
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, 1, NULL, r->notify,
				    &r->err), 0);
	assert_int_equal(feed(r, r->image, 1, 1), INTAKE_STORED);
}

static void
raced(void **state)
{
	struct rig *r = *state;

	start(r);
	feed(r, r->image, IMAGE_LEN, 1 << 16);
	intake_free(r->in);
	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
	expect_stored(r);
}

/* ---- the tree ------------------------------------------------------------------------------ */

/* An image of zeros, and the first bytes of its digest as the fsverity tool prints it. */
static void
expect_vector(struct rig *r, size_t len, const char *hex16)
{
	unsigned char *zeros = calloc(1, len);
	char hex[DIGEST_HEX + 1];
	struct digest built;

	assert_non_null(zeros);
	digest_of(zeros, len, &r->digest);
	assert_int_equal(intake_new(&r->in, r->bed->store, &r->digest, (int64_t)len, NULL,
				    r->notify, &r->err), 0);
	assert_int_equal(feed(r, zeros, len, 50021), INTAKE_STORED);
	built = built_tree(r);
	digest_hex(&built, hex);
	hex[16] = '\0';
	assert_string_equal(hex, hex16);
	intake_free(r->in);
	r->in = NULL;
	free(zeros);
}

static void
vectors(void **state)
{
	struct rig *r = *state;

	expect_vector(r, 4096, "928922686c4caf32");
	expect_vector(r, 4097, "4339f5da3788e60f");
	expect_vector(r, 262144, "0fab0d1193794470");
	expect_vector(r, 262145, "66570da2a4960575");
	expect_vector(r, 16777217, "3103eb04b7a15418");
}

/* The end of a pipe, and a pause of the sender, at and around the ends of granules. */
static void
cut_around_granules(void **state)
{
	struct rig *r = *state;
	const size_t ends[] = {
		1, VERITY_GRANULE - 1, VERITY_GRANULE, VERITY_GRANULE + 1, 2 * VERITY_GRANULE,
		5 * VERITY_GRANULE - 4096, 10 * VERITY_GRANULE + 4097, IMAGE_LEN - 1,
	};
	size_t at = 0;

	start(r);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		assert_int_equal(feed(r, r->image + at, ends[i] - at, 1 << 16), INTAKE_IDLE);
		assert_int_equal(intake_offset(r->in), ends[i]);
		at = ends[i];
	}
	assert_int_equal(feed(r, r->image + at, IMAGE_LEN - at, 1), INTAKE_STORED);
	expect_stored(r);
}

static void
slow_sender(void **state)
{
	struct rig *r = *state;
	const size_t ends[] = { 10, 300000, 2 * VERITY_GRANULE, 2 * VERITY_GRANULE + 1, IMAGE_LEN };
	size_t at = 0;
	int fds[2];

	start(r);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	intake_feed(r->in, fds[0]);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		assert_int_equal(io_write_all(fds[1], r->image + at, ends[i] - at), 0);
		/* Nothing more until the pieces of granules were taken as they are. */
		wait_offset(r, (int64_t)ends[i]);
		at = ends[i];
	}
	close(fds[1]);
	assert_int_equal(settle(r), INTAKE_STORED);
	expect_stored(r);
}

static void
signed_root(void **state)
{
	struct rig *r = *state;

	start(r);
	feed(r, r->image, IMAGE_LEN, 1 << 16);
	r->root = built_tree(r);
	r->has_root = true;
	intake_free(r->in);
	assert_int_equal(store_object_remove(r->bed->store, &r->digest, &r->err), 0);
	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_STORED);
	expect_stored(r);
}

/* The SHA-512 is right: nobody but the signers is at fault, also after a resumed transfer. */
static void
other_root(void **state)
{
	struct rig *r = *state;

	digest_of("another image", 13, &r->root);
	r->has_root = true;
	for (size_t first = 0; first < 1000000; first += 700001) {
		start(r);
		feed(r, r->image, first, 1 << 16);
		assert_int_equal(feed(r, r->image + first, IMAGE_LEN - first, 1 << 16),
				 INTAKE_FAILED);
		assert_int_equal(intake_result(r->in, &r->err), -code_errno(CODE_BLOCK_DIGEST));
		assert_int_equal(r->err.code, CODE_BLOCK_DIGEST);
		assert_null(intake_blockfile(r->in));
		assert_int_equal(bed_count(r->bed, "quarantine"), 1);
		assert_int_equal(bed_count(r->bed, "partial"), 0);
		assert_int_equal(store_object_open(r->bed->store, &r->digest, IMAGE_LEN, NULL),
				 -ENOENT);
		intake_free(r->in);
		r->in = NULL;
	}
}

static void
both_wrong(void **state)
{
	struct rig *r = *state;

	digest_of("another image", 13, &r->root);
	r->has_root = true;
	r->image[5] ^= 1;
	start(r);
	assert_int_equal(feed(r, r->image, IMAGE_LEN, 1 << 16), INTAKE_FAILED);
	intake_result(r->in, &r->err);
	assert_int_equal(r->err.code, CODE_DIGEST);
}

/* ---- threads ------------------------------------------------------------------------------- */

static int
count_threads(const char *name, bool *all_blocked)
{
	struct dirent *e;
	int n = 0;
	DIR *tasks = opendir("/proc/self/task");

	*all_blocked = true;
	while ((e = readdir(tasks)) != NULL) {
		char path[300], line[200], want[64];
		unsigned long long blocked;
		bool ours = false;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		snprintf(want, sizeof(want), "Name:\t%s\n", name);
		f = fopen(path, "re");
		while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
			if (strcmp(line, want) == 0)
				ours = true;
			if (ours && sscanf(line, "SigBlk: %llx", &blocked) == 1 &&
			    (blocked >> (SIGTERM - 1) & 1) == 0)
				*all_blocked = false;
		}
		n += ours;
		if (f != NULL)
			fclose(f);
	}
	closedir(tasks);
	return n;
}

static void
threads_are_quiet(void **state)
{
	struct rig *r = *state;
	bool blocked;

	start(r);
	/* More than the ring holds: all threads have run, and have their names. */
	assert_int_equal(feed(r, r->image, IMAGE_LEN - 1, 1 << 16), INTAKE_IDLE);
	assert_int_equal(count_threads("intake-read", &blocked), 1);
	assert_true(blocked);
	assert_int_equal(count_threads("intake-hash", &blocked), 1);
	assert_true(blocked);
	assert_int_equal(count_threads("intake-tree", &blocked), 1);
	assert_true(blocked);
	intake_free(r->in);
	r->in = NULL;
	assert_int_equal(count_threads("intake-read", &blocked), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		INTAKE_TEST("an image with the signed digest is stored", stores, setup),
		INTAKE_TEST("T01 pieces of any size make the same image", small_pieces, setup),
		INTAKE_TEST("verified bytes stay readable whatever becomes of the intake",
			    keeps_what_was_given, setup),
		INTAKE_TEST("an image of one byte is stored", one_byte, setup),
		INTAKE_TEST("an image that is stored already is stored once", raced, setup),
		INTAKE_TEST("the tree that a transfer builds is the one that fsverity prints",
			    vectors, setup),
		INTAKE_TEST("a transfer that is cut anywhere in a granule builds the same tree",
			    cut_around_granules, setup),
		INTAKE_TEST("a sender that pauses within granules builds the same tree",
			    slow_sender, setup),
		INTAKE_TEST("bytes with the signed SHA-512 and the signed tree are stored",
			    signed_root, setup),
		INTAKE_TEST("T40 bytes with the signed SHA-512 and another tree are refused (40)",
			    other_root, setup),
		INTAKE_TEST("bytes with neither are those of another image (42)", both_wrong,
			    setup),
		INTAKE_TEST("the threads of a transfer take no signals",
			    threads_are_quiet, setup),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("intake", tests, NULL, NULL);
}
