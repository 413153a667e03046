/*
 * Files with the tree that proves them: what is read, what is missing, what lands.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "core/audit.h"
#include "core/blockfile.h"
#include "tests/lib/storebed.h"
#include "tests/unit/blockbed.h"

/* ---- reading ------------------------------------------------------------------------------- */

static void
any_range(void **state)
{
	struct bench *b = *state;
	static const int64_t edges[] = {
		0, 1, BLOCK - 1, BLOCK, BLOCK + 1, GRANULE - 1, GRANULE, GRANULE + 1,
		2 * GRANULE + 3 * BLOCK, SIZE - TAIL - 1, SIZE - TAIL, SIZE - BLOCK, SIZE - 1, SIZE,
	};
	const size_t n = sizeof(edges) / sizeof(edges[0]);

	make_complete(b);
	/* Twice: with an empty cache and with a full one. */
	for (size_t i = 0; i < 2 * n; i++) {
		for (size_t j = 0; j < n; j++) {
			if (edges[j] >= edges[i % n])
				expect_right(b, edges[i % n], (size_t)(edges[j] - edges[i % n]));
		}
	}
	assert_int_equal(blockfile_n_bad(b->file), 0);
	assert_int_equal(blockfile_n_missing(b->file), 0);
}

static void
price_of_a_read(void **state)
{
	struct bench *b = *state;

	make_complete(b);
	watch_disk(b);
	expect_right(b, GRANULE + 5000, 100);
	assert_int_equal(disk.bytes_read, GRANULE);
	disk.bytes_read = 0;
	expect_right(b, GRANULE + 5000, 100);
	assert_int_equal(disk.bytes_read, BLOCK);
	disk.bytes_read = 0;
	disk.n_reads = 0;
	/* The known end of one, two whole ones, the unknown start of one: a single call. */
	expect_right(b, 2 * GRANULE - BLOCK, 2 * GRANULE + 2 * BLOCK);
	assert_int_equal(disk.bytes_read, BLOCK + 3 * GRANULE);
	assert_int_equal(disk.n_reads, 1);
}

static void
first_missing(void **state)
{
	struct bench *b = *state;

	make_partial(b, NULL, 0);
	assert_int_equal(land(b, 1), 0);
	assert_int_equal(land(b, 4), 0);
	expect_right(b, GRANULE + 7, GRANULE - 7);
	expect_bad(b, GRANULE, 3 * GRANULE, -EAGAIN, 2);
	expect_bad(b, 0, SIZE, -EAGAIN, 0);
	expect_bad(b, 5 * GRANULE - 1, 2, -EAGAIN, 5);
	assert_int_equal(blockfile_n_missing(b->file), 4);
}

static void
missing_runs(void **state)
{
	struct bench *b = *state;
	int64_t n;

	make_partial(b, NULL, 0);
	assert_int_equal(blockfile_missing(b->file, 0, &n), 0);
	assert_int_equal(n, N);
	assert_int_equal(land(b, 0), 0);
	assert_int_equal(land(b, 3), 0);
	assert_int_equal(blockfile_missing(b->file, 0, &n), 1);
	assert_int_equal(n, 2);
	assert_int_equal(blockfile_missing(b->file, 2, &n), 2);
	assert_int_equal(n, 1);
	assert_int_equal(blockfile_missing(b->file, 3, &n), 4);
	assert_int_equal(n, 2);
	assert_int_equal(land(b, 4), 0);
	assert_int_equal(land(b, 5), 0);
	assert_int_equal(blockfile_missing(b->file, 3, &n), -1);
	assert_false(blockfile_has(b->file, 1));
	assert_true(blockfile_has(b->file, 5));
	assert_false(blockfile_has(b->file, N));
}

static void
map_is_a_hint(void **state)
{
	struct bench *b = *state;
	static const unsigned char lie[1] = { 0xff };
	struct buf map = BUF_INIT;

	make_partial(b, lie, sizeof(lie));
	assert_int_equal(blockfile_n_missing(b->file), 0);
	expect_bad(b, 0, 1, -EAGAIN, 0);
	expect_bad(b, GRANULE, 2 * GRANULE, -EAGAIN, 1);
	assert_int_equal(blockfile_n_missing(b->file), 2);
	assert_int_equal(blockfile_n_bad(b->file), 0);
	assert_int_equal(land(b, 0), 0);
	expect_right(b, 0, GRANULE);
	assert_true(blockfile_map(b->file, &map));
	assert_int_equal(map.len, 1);
	assert_int_equal((unsigned char)map.data[0], 0x3d);	/* 0, 2 to 5, and none beyond */
	buf_clear(&map);
	assert_false(blockfile_map(b->file, &map));
	buf_release(&map);
}

static void
map_of_another_file(void **state)
{
	struct bench *b = *state;
	static const unsigned char other[2] = { 0xff, 0xff };

	make_partial(b, other, sizeof(other));
	assert_int_equal(blockfile_n_missing(b->file), N);
}

/* ---- landing ------------------------------------------------------------------------------- */

static void
wrong_bytes_do_not_land(void **state)
{
	struct bench *b = *state;
	struct stat before, after;

	make_partial(b, NULL, 0);
	assert_int_equal(stat(b->path, &before), 0);
	image[GRANULE + 7] ^= 1;
	assert_int_equal(land(b, 1), -EBADMSG);
	assert_int_equal(b->err.code, CODE_BLOCK_DIGEST);
	image[GRANULE + 7] ^= 1;
	/* Another granule's bytes, and too few of its own. */
	assert_int_equal(blockfile_land(b->file, 1, image, GRANULE, &b->err), -EBADMSG);
	assert_int_equal(blockfile_land(b->file, 1, image + GRANULE, GRANULE - 1, &b->err),
			 -EBADMSG);
	assert_int_equal(stat(b->path, &after), 0);
	assert_int_equal(after.st_blocks, before.st_blocks);
	assert_int_equal(blockfile_n_missing(b->file), N);
}

static void
disk_full(void **state)
{
	struct bench *b = *state;

	make_partial(b, NULL, 0);
	watch_disk(b);
	disk.fail_writes = 2;
	disk.error = ENOSPC;
	assert_int_equal(land(b, 0), -ENOSPC);
	assert_int_equal(b->err.code, CODE_FULL);
	expect_bad(b, 0, 1, -EAGAIN, 0);
	disk.error = EIO;
	assert_int_equal(land(b, 0), -EIO);
	assert_int_equal(land(b, 0), 0);
	expect_right(b, 0, GRANULE);
}

static void
failed_write_over_a_good_granule(void **state)
{
	struct bench *b = *state;

	make_partial(b, NULL, 0);
	assert_int_equal(land(b, 0), 0);
	watch_disk(b);
	disk.fail_writes = 1;
	disk.error = EIO;
	assert_int_equal(land(b, 0), -EIO);
	assert_false(blockfile_has(b->file, 0));
}

static void
complete_is_read_only(void **state)
{
	struct bench *b = *state;
	int other;

	make_complete(b);
	bed_flip(b->path, 0, 1);
	expect_bad(b, 0, 1, -EBADMSG, 0);
	assert_int_equal(land(b, 0), -EROFS);
	bed_write(b->other, image, SIZE);
	other = open(b->other, O_RDWR | O_CLOEXEC);
	blockfile_set_writable(b->file, other);
	assert_false(blockfile_is_writable(b->file));
	blockfile_set_writable(b->file, reopen(b, O_RDWR));
	assert_true(blockfile_is_writable(b->file));
	assert_int_equal(land(b, 0), 0);
	expect_right(b, 0, GRANULE);
}

static void
partial_becomes_complete(void **state)
{
	struct bench *b = *state;

	make_partial(b, NULL, 0);
	for (int64_t g = 0; g < N; g++) {
		assert_int_equal(blockfile_n_missing(b->file), N - g);
		assert_int_equal(land(b, g), 0);
	}
	assert_false(blockfile_is_complete(b->file));
	blockfile_set_complete(b->file);
	assert_true(blockfile_is_complete(b->file));
	expect_right(b, 0, SIZE);
	/* The descriptor that it was filled through writes no more. */
	assert_int_equal(land(b, 0), -EROFS);
}

static void
raw_bytes(void **state)
{
	struct bench *b = *state;
	static unsigned char got[GRANULE];

	make_complete(b);
	bed_flip(b->path, SIZE - 1, 1);
	assert_int_equal(blockfile_raw(b->file, N - 1, got, sizeof(got)), TAIL);
	assert_memory_equal(got, image + SIZE - TAIL, TAIL - 1);
	assert_int_equal(got[TAIL - 1], image[SIZE - 1] ^ 0x20);
	assert_int_equal(blockfile_raw(b->file, 0, got, 10), 10);
}

/* ---- a pass over the whole file ------------------------------------------------------------ */

static void
judge(struct bench *b, int64_t n_bad)
{
	struct audit pass = { .fd = blockfile_fd(b->file), .size = SIZE };

	assert_int_equal(audit_run(&pass, &b->err), 0);
	assert_int_equal(blockfile_judge(b->file, &pass), n_bad);
	verity_builder_free(pass.builder);
}

static void
judged(void **state)
{
	struct bench *b = *state;
	static const unsigned char lie[1] = { 0xff };

	make_partial(b, lie, sizeof(lie));
	for (int64_t g = 0; g < N - 2; g++)
		assert_int_equal(land(b, g), 0);
	bed_flip(b->path, GRANULE, 1);
	judge(b, 3);
	assert_false(blockfile_has(b->file, 1));
	assert_true(blockfile_has(b->file, 2));
	assert_int_equal(blockfile_n_missing(b->file), 3);
	for (int64_t g = 0; g < N; g++)
		assert_int_equal(land(b, g), 0);
	judge(b, 0);
	assert_int_equal(blockfile_n_missing(b->file), 0);
}

static void
small_files(void **state)
{
	static const int64_t sizes[] = { 1, 4095, 4096, 4097, GRANULE - 1, GRANULE, GRANULE + 1 };
	struct bench *b = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct vtree_id id;
		struct audit pass = { .size = sizes[i] };
		struct blockfile *f;

		bed_write(b->path, image, (size_t)sizes[i]);
		f = blockfile_complete(reopen(b, O_RDONLY), bed_tree(image, sizes[i], &id));
		assert_int_equal(blockfile_read(f, &b->buf, 0, (size_t)sizes[i], &b->data, &b->g),
				 0);
		assert_memory_equal(b->data, image, (size_t)sizes[i]);
		bed_flip(b->path, sizes[i] - 1, 1);
		assert_int_equal(blockfile_read(f, &b->buf, sizes[i] - 1, 1, &b->data, &b->g),
				 -EBADMSG);
		pass.fd = blockfile_fd(f);
		assert_int_equal(audit_run(&pass, &b->err), 0);
		assert_int_equal(blockfile_judge(f, &pass), 1);
		assert_int_equal(blockfile_n_bad(f), 1);
		verity_builder_free(pass.builder);
		blockfile_unref(f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("any range of a file comes back as it is", any_range),
		T("a granule that was hashed once costs whole leaves from then on",
		  price_of_a_read),
		T("a read is told the first granule that is missing", first_missing),
		T("missing granules are found in runs", missing_runs),
		T("a map that lies costs a fetch", map_is_a_hint),
		T("a map of another length is no map", map_of_another_file),
		T("wrong bytes do not land", wrong_bytes_do_not_land),
		T("B02 a disk that is full when a granule lands is full", disk_full),
		T("B05 a granule whose write failed is missing", failed_write_over_a_good_granule),
		T("a complete file is written only after it was opened for healing",
		  complete_is_read_only),
		T("a partial file becomes complete", partial_becomes_complete),
		T("bad bytes can be had as they are", raw_bytes),
		T("a pass over the whole file finds what its map hides", judged),
		T("files of one leaf and of one granule", small_files),
	};

	return cmocka_run_group_tests_name("block files", tests, NULL, NULL);
}
