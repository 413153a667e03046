/*
 * test_vtree.c - the tree that is kept beside an image: its file, what comes of it, and what is
 * refused.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/vtree.h"
#include "tests/unit/vtreebed.h"

/* ---- the file ------------------------------------------------------------------------------ */

/* A file with the tree in it. */
static int
tree_file(const struct image *i)
{
	struct vtree *t = image_tree(i);
	int fd = memfd_create("tree", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(vtree_write(t, fd, NULL), 0);
	vtree_unref(t);
	return fd;
}

static int
open_tree(const struct vtree_id *id, int fd, struct err *err)
{
	struct vtree *t;
	int rc = vtree_open(&t, id, dup(fd), err);

	if (rc != 0)
		assert_null(t);
	vtree_unref(t);
	return rc;
}

static void
assert_torn(const struct vtree_id *id, int fd, const char *why)
{
	struct err err = { 0 };

	assert_int_equal(open_tree(id, fd, &err), -EBADMSG);
	assert_true(err.code == CODE_CORRUPT && err.rc == -EBADMSG);
	assert_non_null(strstr(err.text, why));
}

static void
flip(int fd, off_t at)
{
	unsigned char byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static void
file_comes_back(void **state)
{
	static const int64_t sizes[] = { 0, 1, 4096, 4097, VERITY_GRANULE, VERITY_GRANULE + 1,
					 SIZE };

	(void)state;
	for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
		struct vtree *again;
		struct image i;
		struct stat st;
		int fd;

		image_new(&i, sizes[n], 1);
		fd = tree_file(&i);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_size, VTREE_HEADER + i.shape.prefix);
		assert_int_equal(vtree_open(&again, &i.id, fd, NULL), 0);
		for (int64_t g = 0; g < i.shape.n_granules; g++)
			assert_int_equal(check(again, &i, g), 0);
		vtree_unref(again);
		image_release(&i);
	}
}

static void
file_is_as_drawn(void **state)
{
	unsigned char h[VTREE_HEADER];
	struct digest sum;
	struct image i;
	uint64_t size;
	int fd;

	(void)state;
	image_new(&i, SIZE, 2);
	fd = tree_file(&i);
	assert_int_equal(pread(fd, h, sizeof(h), 0), sizeof(h));
	assert_memory_equal(h, "vmimagefs tree 1", 16);
	assert_memory_equal(h + 16, i.id.image.bytes, DIGEST_BYTES);
	size = 0;
	for (int n = 7; n >= 0; n--)
		size = size << 8 | h[80 + n];
	assert_int_equal(size, SIZE);
	assert_memory_equal(h + 88, i.id.verity.bytes, DIGEST_BYTES);
	digest_of(h, 152, &sum);
	assert_memory_equal(h + 152, sum.bytes, DIGEST_BYTES);
	for (size_t n = 216; n < sizeof(h); n++)
		assert_int_equal(h[n], 0);
	close(fd);
	image_release(&i);
}

/* Every byte of the header, some of each block of the prefix. */
static void
changed_byte_is_found(void **state)
{
	struct image i;
	int fd;

	(void)state;
	image_new(&i, SIZE, 3);
	fd = tree_file(&i);
	for (off_t at = 0; at < VTREE_HEADER + (off_t)i.len; at += at < 300 ? 1 : 509) {
		flip(fd, at);
		assert_torn(&i.id, fd, "");
		flip(fd, at);
	}
	assert_int_equal(open_tree(&i.id, fd, NULL), 0);
	close(fd);
	image_release(&i);
}

static void
wrong_length_is_found(void **state)
{
	struct image i;
	off_t whole;
	int fd;

	(void)state;
	image_new(&i, SIZE, 4);
	fd = tree_file(&i);
	whole = VTREE_HEADER + (off_t)i.len;
	for (off_t len = 0; len <= whole + VERITY_BLOCK; len += 2048) {
		assert_int_equal(ftruncate(fd, len), 0);
		if (len < whole)
			assert_torn(&i.id, fd, "wrong length");
	}
	assert_torn(&i.id, fd, "wrong length");
	close(fd);
	fd = tree_file(&i);
	assert_int_equal(ftruncate(fd, whole + 1), 0);
	assert_torn(&i.id, fd, "wrong length");
	close(fd);
	image_release(&i);
}

/* Both files are good, and each is at the other's place. */
static void
swapped_files_are_found(void **state)
{
	struct image a, b;
	int fd_a, fd_b;

	(void)state;
	image_new(&a, SIZE, 5);
	image_new(&b, SIZE, 6);
	fd_a = tree_file(&a);
	fd_b = tree_file(&b);
	assert_torn(&a.id, fd_b, "another image");
	assert_torn(&b.id, fd_a, "another image");
	assert_int_equal(open_tree(&a.id, fd_a, NULL), 0);
	close(fd_a);
	close(fd_b);
	image_release(&a);
	image_release(&b);
}

/* A forged file whose header and levels agree, but not with the digest that the catalogue names. */
static void
another_tree_is_refused(void **state)
{
	struct image a, b;
	struct vtree_id forged;
	struct vtree *t;
	int fd;

	(void)state;
	image_new(&a, SIZE, 7);
	image_new(&b, SIZE, 8);
	forged = b.id;
	forged.image = a.id.image;
	assert_int_equal(vtree_new(&t, &forged, b.prefix, b.len, NULL), 0);
	fd = memfd_create("tree", MFD_CLOEXEC);
	assert_int_equal(vtree_write(t, fd, NULL), 0);
	vtree_unref(t);
	assert_torn(&a.id, fd, "another fs-verity digest");
	close(fd);
	image_release(&a);
	image_release(&b);
}

static void
no_file_is_no_tree(void **state)
{
	struct image i;
	int ends[2], dir;

	(void)state;
	image_new(&i, SIZE, 9);
	assert_int_equal(pipe(ends), 0);
	assert_torn(&i.id, ends[0], "no regular file");
	dir = open("/", O_RDONLY | O_DIRECTORY);
	assert_torn(&i.id, dir, "no regular file");
	close(dir);
	close(ends[0]);
	close(ends[1]);
	image_release(&i);
}

/* A descriptor that is closed, and one that cannot be read. */
static void
unreadable_file_is_no_tree(void **state)
{
	char path[] = "/tmp/vmi-vtree-XXXXXX";
	struct err err = { 0 };
	struct vtree *t;
	struct image i;
	int fd = mkstemp(path), write_only;

	(void)state;
	image_new(&i, SIZE, 33);
	assert_int_equal(vtree_open(&t, &i.id, -1, &err), -EBADF);
	assert_null(t);
	t = image_tree(&i);
	assert_int_equal(vtree_write(t, fd, NULL), 0);
	vtree_unref(t);
	write_only = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(write_only >= 0);
	assert_int_equal(vtree_open(&t, &i.id, write_only, &err), -EBADF);
	assert_null(t);
	close(fd);
	unlink(path);
	image_release(&i);
}

/* ---- a prefix from the network ------------------------------------------------------------- */

static void
prefix_is_verified(void **state)
{
	unsigned char *copy;
	struct image i;

	(void)state;
	image_new(&i, SIZE, 10);
	copy = malloc(i.len + 1);
	memcpy(copy, i.prefix, i.len);
	assert_int_equal(from_prefix(&i, copy, i.len), 0);
	for (size_t at = 0; at < i.len; at += 97) {
		copy[at] ^= 0x80;
		assert_int_equal(from_prefix(&i, copy, i.len), -EBADMSG);
		copy[at] ^= 0x80;
	}
	assert_int_equal(from_prefix(&i, copy, i.len - 1), -EBADMSG);
	assert_int_equal(from_prefix(&i, copy, i.len + 1), -EBADMSG);
	assert_int_equal(from_prefix(&i, copy, 0), -EBADMSG);
	free(copy);
	image_release(&i);
}

/* ---- a tree that is too large for memory --------------------------------------------------- */

/*
 * 300 GiB of zeros: every granule is the same, so that the tree can be made without reading them.
 * The prefix has 76 MiB.
 */
#define LARGE (300LL << 30)

static void
large_image(struct image *i)
{
	struct digest d;

	memset(i, 0, sizeof(*i));
	i->data = calloc(1, VERITY_GRANULE);
	assert_true(verity_shape_init(&i->shape, LARGE));
	assert_true(i->shape.prefix > VTREE_MEMORY_BYTES);
	verity_granule(&i->shape, i->data, VERITY_GRANULE, NULL, &d);
	assert_int_equal(verity_builder_new(&i->builder, LARGE), 0);
	for (int64_t g = 0; g < i->shape.n_granules; g++)
		verity_builder_set(i->builder, g, &d);
	verity_builder_end(i->builder, &i->id.verity);
	i->prefix = verity_builder_prefix(i->builder, &i->len);
	i->id.size = LARGE;
}

static void
large_tree_is_verified_when_used(void **state)
{
	struct digest d, want;
	struct vtree *t, *copy;
	struct image i;
	int64_t g;
	int fd, fd2;

	(void)state;
	large_image(&i);
	fd = tree_file(&i);
	assert_int_equal(vtree_open(&t, &i.id, dup(fd), NULL), 0);
	verity_granule(&i.shape, i.data, VERITY_GRANULE, NULL, &want);
	for (g = 0; g < i.shape.n_granules; g += 99991) {
		assert_int_equal(vtree_granule(t, g, &d), 0);
		assert_true(digest_equal(&d, &want));
		assert_int_equal(vtree_check_granule(t, g, i.data, VERITY_GRANULE), 0);
	}
	i.data[5] = 1;
	assert_int_equal(vtree_check_granule(t, 7, i.data, VERITY_GRANULE), -EBADMSG);
	i.data[5] = 0;
	/* It can be written without being in memory. */
	fd2 = memfd_create("copy", MFD_CLOEXEC);
	assert_int_equal(vtree_write(t, fd2, NULL), 0);
	vtree_unref(t);
	assert_int_equal(vtree_open(&copy, &i.id, fd2, NULL), 0);
	g = i.shape.n_granules - 1;
	assert_int_equal(vtree_check_granule(copy, g, i.data, VERITY_GRANULE), 0);
	vtree_unref(copy);
	/* A changed block of level 1 takes its own 64 granules out, and no others. */
	g = 64 * 1000;
	flip(fd, VTREE_HEADER + i.shape.offset[1] + g * DIGEST_BYTES + 3);
	assert_int_equal(vtree_open(&t, &i.id, fd, NULL), 0);
	assert_int_equal(vtree_granule(t, g + 63, &d), -EBADMSG);
	assert_int_equal(vtree_check_granule(t, g, i.data, VERITY_GRANULE), -EUCLEAN);
	assert_int_equal(vtree_granule(t, g + 64, &d), 0);
	assert_int_equal(vtree_granule(t, g - 1, &d), 0);
	vtree_unref(t);
	image_release(&i);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("a tree that was written can be opened again, whatever the image's size",
		     file_comes_back),
		TEST("the file of a tree has the format that vtree.h draws", file_is_as_drawn),
		TEST("B15 a changed byte anywhere in the file of a tree is found",
		     changed_byte_is_found),
		TEST("B15 a file of a tree that is too short or too long is found",
		     wrong_length_is_found),
		TEST("X28 files of trees that changed places are found", swapped_files_are_found),
		TEST("X28 a consistent tree for another digest is refused",
		     another_tree_is_refused),
		TEST("B15 what is no regular file is no tree", no_file_is_no_tree),
		TEST("T40 a prefix that does not lead to the signed digest is refused",
		     prefix_is_verified),
		TEST("B15 a file that cannot be read is no tree", unreadable_file_is_no_tree),
		TEST("B15 a tree too large for memory is verified block by block",
		     large_tree_is_verified_when_used),
	};

	return cmocka_run_group_tests_name("vtree", tests, NULL, NULL);
}
