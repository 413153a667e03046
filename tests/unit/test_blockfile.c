/*
 * Files with the tree that proves them: what is read, what is missing, what is bad, what lands.
 *
 * pread() and pwrite() are replaced here, so that the disk can fail, lie once, or change at an
 * exact moment.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/audit.h"
#include "core/blockfile.h"
#include "tests/lib/storebed.h"

enum {
	GRANULE = VERITY_GRANULE,
	BLOCK = VERITY_BLOCK,
	N = 6,				/* granules; the last one is short */
	TAIL = 12345,
	SIZE = (N - 1) * GRANULE + TAIL,
	WHOLE_FILE = -1,
};

static unsigned char image[SIZE];

/* ---- a disk that does as it is told ---------------------------------------------------------- */

static struct {
	int fd;				/* only calls on this file; -1: none */
	atomic_int n_reads, n_writes;
	atomic_int_fast64_t bytes_read;
	int spoil_reads;		/* the first so many have a wrong bit */
	int fail_reads, fail_writes;	/* the first so many fail with error */
	int error;
	void (*after_read)(int nth);
	void (*in_write)(void);		/* half of it is written */
} disk = { .fd = -1 };

ssize_t
pread(int fd, void *data, size_t len, off_t off)
{
	ssize_t n = syscall(SYS_pread64, fd, data, len, off);
	int nth;

	if (fd != disk.fd)
		return n;
	nth = ++disk.n_reads;
	disk.bytes_read += n;
	if (disk.after_read != NULL)
		disk.after_read(nth);
	if (nth <= disk.spoil_reads && n > 0)
		((unsigned char *)data)[n - 1] ^= 0x80;
	if (nth <= disk.fail_reads) {
		errno = disk.error;
		return -1;
	}
	return n;
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t off)
{
	ssize_t half;

	if (fd != disk.fd)
		return syscall(SYS_pwrite64, fd, data, len, off);
	if (++disk.n_writes <= disk.fail_writes) {
		errno = disk.error;
		return -1;
	}
	if (disk.in_write == NULL)
		return syscall(SYS_pwrite64, fd, data, len, off);
	half = syscall(SYS_pwrite64, fd, data, len / 2, off);
	disk.in_write();
	return half < 0 ? half : half + syscall(SYS_pwrite64, fd, (const char *)data + half,
						 len - (size_t)half, off + half);
}

/* ---- a file and its tree --------------------------------------------------------------------- */

struct bench {
	char path[64], other[80];
	struct vtree_id id;
	struct vtree *tree;
	struct blockfile *file;
	struct readbuf buf;
	struct err err;
	const void *data;
	int64_t g;
};

/* For what happens inside pread() and pwrite(). */
static struct bench *now;

static int
setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	int fd;

	for (size_t i = 0; i < SIZE; i++)
		image[i] = (unsigned char)((i * 2654435761u) >> 13);
	snprintf(b->path, sizeof(b->path), "/var/tmp/blockfile.XXXXXX");
	fd = mkstemp(b->path);
	assert_true(fd >= 0);
	close(fd);
	snprintf(b->other, sizeof(b->other), "%s.other", b->path);
	b->tree = bed_tree(image, SIZE, &b->id);
	now = b;
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bench *b = *state;

	disk.fd = -1;
	disk.n_reads = disk.n_writes = 0;
	disk.bytes_read = 0;
	disk.spoil_reads = disk.fail_reads = disk.fail_writes = 0;
	disk.after_read = NULL;
	disk.in_write = NULL;
	readbuf_release(&b->buf);
	blockfile_unref(b->file);
	vtree_unref(b->tree);
	unlink(b->path);
	unlink(b->other);
	free(b);
	return 0;
}

static int
reopen(const struct bench *b, int flags)
{
	int fd = open(b->path, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void
make_complete(struct bench *b)
{
	bed_write(b->path, image, SIZE);
	b->file = blockfile_complete(reopen(b, O_RDONLY), vtree_ref(b->tree));
}

static void
make_partial(struct bench *b, const void *map, size_t n_map)
{
	int fd = reopen(b, O_RDWR);

	assert_int_equal(ftruncate(fd, SIZE), 0);
	b->file = blockfile_partial(fd, vtree_ref(b->tree), map, n_map);
}

/* From here on the disk listens to struct disk. */
static void
watch_disk(const struct bench *b)
{
	disk.fd = blockfile_fd(b->file);
}

static int
land(struct bench *b, int64_t g)
{
	return blockfile_land(b->file, g, image + g * GRANULE,
			      verity_granule_size(vtree_shape(b->tree), g), &b->err);
}

static int
read_at(struct bench *b, int64_t off, size_t size)
{
	return blockfile_read(b->file, &b->buf, off, size, &b->data, &b->g);
}

static void
expect_right(struct bench *b, int64_t off, size_t size)
{
	assert_int_equal(read_at(b, off, size), 0);
	assert_memory_equal(b->data, image + off, size);
}

static void
expect_bad(struct bench *b, int64_t off, size_t size, int rc, int64_t g)
{
	assert_int_equal(read_at(b, off, size), rc);
	assert_int_equal(b->g, g);
}

/* ---- reading --------------------------------------------------------------------------------- */

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

/* ---- damage ---------------------------------------------------------------------------------- */

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

/* ---- landing --------------------------------------------------------------------------------- */

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

/* ---- a pass over the whole file -------------------------------------------------------------- */

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

/* ---- at the same time ------------------------------------------------------------------------ */

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

#define T(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

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
		T("wrong bytes do not land", wrong_bytes_do_not_land),
		T("B02 a disk that is full when a granule lands is full", disk_full),
		T("B05 a granule whose write failed is missing", failed_write_over_a_good_granule),
		T("a complete file is written only after it was opened for healing",
		  complete_is_read_only),
		T("a partial file becomes complete", partial_becomes_complete),
		T("bad bytes can be had as they are", raw_bytes),
		T("a pass over the whole file finds what its map hides", judged),
		T("files of one leaf and of one granule", small_files),
		T("a granule that lands while it is found bad is read again", landed_meanwhile),
		T("a granule that is half written is not bad", half_written),
		T("one thread at a time writes a granule", same_granule_by_many),
		T("X27 a file that is changed while it is read gives right bytes or none",
		  swapped_under_the_reader),
	};

	return cmocka_run_group_tests_name("block files", tests, NULL, NULL);
}
