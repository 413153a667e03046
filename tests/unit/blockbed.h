/*
 * blockbed.h - a file with the tree that proves it, on a disk that does as it is told, for unit
 * tests.
 *
 * pread() and pwrite() are replaced here, so that the disk can fail, lie once, or change at an
 * exact moment. Include it once in a program.
 */
#ifndef VMI_BLOCKBED_H
#define VMI_BLOCKBED_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

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

/* ---- a disk that does as it is told -------------------------------------------------------- */

struct {
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

/* ---- a file and its tree ------------------------------------------------------------------- */

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

static inline int
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

static inline int
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

static inline int
reopen(const struct bench *b, int flags)
{
	int fd = open(b->path, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static inline void
make_complete(struct bench *b)
{
	bed_write(b->path, image, SIZE);
	b->file = blockfile_complete(reopen(b, O_RDONLY), vtree_ref(b->tree));
}

static inline void
make_partial(struct bench *b, const void *map, size_t n_map)
{
	int fd = reopen(b, O_RDWR);

	assert_int_equal(ftruncate(fd, SIZE), 0);
	b->file = blockfile_partial(fd, vtree_ref(b->tree), map, n_map);
}

/* From here on the disk listens to struct disk. */
static inline void
watch_disk(const struct bench *b)
{
	disk.fd = blockfile_fd(b->file);
}

static inline int
land(struct bench *b, int64_t g)
{
	return blockfile_land(b->file, g, image + g * GRANULE,
			      verity_granule_size(vtree_shape(b->tree), g), &b->err);
}

static inline int
read_at(struct bench *b, int64_t off, size_t size)
{
	return blockfile_read(b->file, &b->buf, off, size, &b->data, &b->g);
}

static inline void
expect_right(struct bench *b, int64_t off, size_t size)
{
	assert_int_equal(read_at(b, off, size), 0);
	assert_memory_equal(b->data, image + off, size);
}

static inline void
expect_bad(struct bench *b, int64_t off, size_t size, int rc, int64_t g)
{
	assert_int_equal(read_at(b, off, size), rc);
	assert_int_equal(b->g, g);
}

#define T(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

#endif
