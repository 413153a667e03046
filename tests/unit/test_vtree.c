/*
 * test_vtree.c - the tree that is kept beside an image: its file, what is refused, what it proves.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/io.h"
#include "core/vtree.h"

/* Three levels, and a short leaf. */
enum { GRANULES = 66, SIZE = GRANULES * VERITY_GRANULE - 1000 };

/* An image in memory with its tree. */
struct image {
	unsigned char *data;
	struct verity_shape shape;
	struct vtree_id id;
	struct verity_builder *builder;
	const void *prefix;
	size_t len;
};

static void
image_new(struct image *i, int64_t size, unsigned seed)
{
	struct digest d;

	memset(i, 0, sizeof(*i));
	i->data = malloc((size_t)size + 1);
	assert_non_null(i->data);
	for (int64_t n = 0; n < size; n++) {
		seed = seed * 1664525 + 1013904223;
		i->data[n] = (unsigned char)(seed >> 24);
	}
	assert_true(verity_shape_init(&i->shape, size));
	assert_int_equal(verity_builder_new(&i->builder, size), 0);
	for (int64_t g = 0; g < i->shape.n_granules; g++) {
		verity_granule(&i->shape, i->data + g * VERITY_GRANULE,
			       verity_granule_size(&i->shape, g), NULL, &d);
		verity_builder_set(i->builder, g, &d);
	}
	verity_builder_end(i->builder, &i->id.verity);
	i->prefix = verity_builder_prefix(i->builder, &i->len);
	i->id.size = size;
	digest_of(i->data, (size_t)size, &i->id.image);
}

static void
image_release(struct image *i)
{
	verity_builder_free(i->builder);
	free(i->data);
}

static struct vtree *
image_tree(const struct image *i)
{
	struct err err = { 0 };
	struct vtree *t;

	assert_int_equal(vtree_new(&t, &i->id, i->prefix, i->len, &err), 0);
	return t;
}

static const unsigned char *
granule_data(const struct image *i, int64_t g)
{
	return i->data + g * VERITY_GRANULE;
}

static int
check(struct vtree *t, const struct image *i, int64_t g)
{
	return vtree_check_granule(t, g, granule_data(i, g), verity_granule_size(&i->shape, g));
}

static int
check_leaf(struct vtree *t, const struct image *i, int64_t g, size_t leaf)
{
	return vtree_check_leaves(t, g, leaf, granule_data(i, g) + leaf * VERITY_BLOCK,
				  VERITY_BLOCK);
}

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
assert_torn(const struct vtree_id *id, int fd)
{
	struct err err = { 0 };

	assert_int_equal(open_tree(id, fd, &err), -EBADMSG);
	assert_int_equal(err.code, CODE_CORRUPT);
	assert_int_equal(err.rc, -EBADMSG);
}

static void
flip(int fd, off_t at)
{
	unsigned char byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

/* ---- the file -------------------------------------------------------------------------------- */

static void
file_comes_back(void **state)
{
	static const int64_t sizes[] = { 0, 1, 4096, 4097, VERITY_GRANULE, VERITY_GRANULE + 1,
					 SIZE };

	(void)state;
	for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
		struct buf file = BUF_INIT;
		struct vtree *t, *again;
		struct image i;
		struct stat st;
		char *copy;
		int fd;

		image_new(&i, sizes[n], 1);
		t = image_tree(&i);
		fd = tree_file(&i);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_size, VTREE_HEADER + i.shape.prefix);
		assert_int_equal(vtree_file(t, &file, NULL), 0);
		assert_int_equal(file.len, st.st_size);
		copy = malloc(file.len);
		assert_int_equal(pread(fd, copy, file.len, 0), file.len);
		assert_memory_equal(copy, file.data, file.len);
		assert_int_equal(vtree_open(&again, &i.id, fd, NULL), 0);
		for (int64_t g = 0; g < i.shape.n_granules; g++)
			assert_int_equal(check(again, &i, g), 0);
		vtree_unref(again);
		vtree_unref(t);
		free(copy);
		buf_release(&file);
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
		assert_torn(&i.id, fd);
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
			assert_torn(&i.id, fd);
	}
	assert_torn(&i.id, fd);
	close(fd);
	fd = tree_file(&i);
	assert_int_equal(ftruncate(fd, whole + 1), 0);
	assert_torn(&i.id, fd);
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
	assert_torn(&a.id, fd_b);
	assert_torn(&b.id, fd_a);
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
	assert_torn(&a.id, fd);
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
	assert_torn(&i.id, ends[0]);
	dir = open("/", O_RDONLY | O_DIRECTORY);
	assert_torn(&i.id, dir);
	close(dir);
	close(ends[0]);
	close(ends[1]);
	image_release(&i);
}

/* ---- a prefix from the network --------------------------------------------------------------- */

static int
from_prefix(const struct image *i, const void *prefix, size_t len)
{
	struct err err = { 0 };
	struct vtree *t;
	int rc = vtree_new(&t, &i->id, prefix, len, &err);

	if (rc != 0) {
		assert_null(t);
		assert_int_equal(err.code, CODE_BLOCK_DIGEST);
	}
	vtree_unref(t);
	return rc;
}

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

/* ---- checking -------------------------------------------------------------------------------- */

static void
granules_are_proven(void **state)
{
	struct digest d, want;
	struct vtree *t;
	struct image i;

	(void)state;
	image_new(&i, SIZE, 11);
	t = image_tree(&i);
	for (int64_t g = 0; g < GRANULES; g++) {
		assert_int_equal(check(t, &i, g), 0);
		verity_granule(&i.shape, granule_data(&i, g), verity_granule_size(&i.shape, g),
			       NULL, &d);
		assert_int_equal(vtree_granule(t, g, &want), 0);
		assert_true(digest_equal(&d, &want));
		i.data[g * VERITY_GRANULE + g * 100] ^= 1;
		assert_int_equal(check(t, &i, g), -EBADMSG);
		i.data[g * VERITY_GRANULE + g * 100] ^= 1;
	}
	/* The right bytes at a wrong place, or too few of them. */
	assert_int_equal(vtree_check_granule(t, 1, granule_data(&i, 0), VERITY_GRANULE), -EBADMSG);
	assert_int_equal(vtree_check_granule(t, 0, granule_data(&i, 0), VERITY_GRANULE - 1),
			 -EBADMSG);
	assert_int_equal(vtree_check_granule(t, -1, granule_data(&i, 0), VERITY_GRANULE), -EBADMSG);
	assert_int_equal(vtree_check_granule(t, GRANULES, granule_data(&i, 0), VERITY_GRANULE),
			 -EBADMSG);
	vtree_unref(t);
	image_release(&i);
}

static void
leaves_are_proven(void **state)
{
	int64_t last = GRANULES - 1;
	size_t size;
	struct vtree *t;
	struct image i;

	(void)state;
	image_new(&i, SIZE, 12);
	t = image_tree(&i);
	/* Nothing is known of a granule's leaves before the granule was checked. */
	assert_int_equal(check_leaf(t, &i, 3, 5), 0);
	assert_int_equal(check(t, &i, 3), 0);
	for (size_t leaf = 0; leaf < VERITY_ARITY; leaf++)
		assert_int_equal(check_leaf(t, &i, 3, leaf), 1);
	assert_int_equal(vtree_check_leaves(t, 3, 7, granule_data(&i, 3) + 7 * VERITY_BLOCK,
					    20 * VERITY_BLOCK), 1);
	i.data[3 * VERITY_GRANULE + 20 * VERITY_BLOCK] ^= 1;
	assert_int_equal(check_leaf(t, &i, 3, 20), -EBADMSG);
	assert_int_equal(check_leaf(t, &i, 3, 19), 1);
	assert_int_equal(vtree_check_leaves(t, 3, 7, granule_data(&i, 3) + 7 * VERITY_BLOCK,
					    20 * VERITY_BLOCK), -EBADMSG);
	/* The last leaf of the image is short, and no other may be. */
	size = verity_granule_size(&i.shape, last);
	assert_int_equal(check(t, &i, last), 0);
	assert_int_equal(vtree_check_leaves(t, last, 62, granule_data(&i, last) + 62 * VERITY_BLOCK,
					    size - 62 * VERITY_BLOCK), 1);
	assert_int_equal(vtree_check_leaves(t, last, 62, granule_data(&i, last) + 62 * VERITY_BLOCK,
					    100), -EBADMSG);
	assert_int_equal(vtree_check_leaves(t, last, 62, granule_data(&i, last) + 62 * VERITY_BLOCK,
					    2 * VERITY_BLOCK), -EBADMSG);
	assert_int_equal(vtree_check_leaves(t, 3, 64, granule_data(&i, 3), VERITY_BLOCK), -EBADMSG);
	vtree_unref(t);
	image_release(&i);
}

/* Without a prefix there is nothing to compare with: the digest itself is. */
static void
small_images_prove_themselves(void **state)
{
	static const int64_t sizes[] = { 1, 4095, 4096, 4097, VERITY_GRANULE };

	(void)state;
	for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
		size_t first = sizes[n] < VERITY_BLOCK ? (size_t)sizes[n] : VERITY_BLOCK;
		struct digest d;
		struct vtree *t;
		struct image i;

		image_new(&i, sizes[n], 13);
		assert_int_equal(i.len, 0);
		t = image_tree(&i);
		assert_int_equal(vtree_granule(t, 0, &d), -ENODATA);
		i.data[0] ^= 1;
		assert_int_equal(check(t, &i, 0), -EBADMSG);
		i.data[0] ^= 1;
		assert_int_equal(check(t, &i, 0), 0);
		assert_int_equal(vtree_check_leaves(t, 0, 0, i.data, first), 1);
		i.data[0] ^= 1;
		assert_int_equal(vtree_check_leaves(t, 0, 0, i.data, first), -EBADMSG);
		vtree_unref(t);
		image_release(&i);
	}
}

static void
empty_image_has_one_digest(void **state)
{
	struct vtree *t;
	struct image i;

	(void)state;
	image_new(&i, 0, 14);
	assert_int_equal(from_prefix(&i, "", 0), 0);
	t = image_tree(&i);
	assert_int_equal(vtree_check_granule(t, 0, "", 0), -EBADMSG);
	vtree_unref(t);
	i.id.verity.bytes[0] ^= 1;
	assert_int_equal(from_prefix(&i, "", 0), -EBADMSG);
	image_release(&i);
}

static void
level0_blocks_come_from_a_sidecar(void **state)
{
	unsigned char block[VERITY_BLOCK], got[VERITY_BLOCK];
	struct vtree *t;
	struct digest d;
	struct image i;

	(void)state;
	image_new(&i, SIZE, 15);
	t = image_tree(&i);
	verity_granule(&i.shape, granule_data(&i, 9), VERITY_GRANULE, block, &d);
	assert_false(vtree_level0(t, 9, got));
	block[17] ^= 1;
	assert_int_equal(vtree_put_level0(t, 9, block), -EBADMSG);
	assert_false(vtree_level0(t, 9, got));
	block[17] ^= 1;
	assert_int_equal(vtree_put_level0(t, 8, block), -EBADMSG);
	assert_int_equal(vtree_put_level0(t, 9, block), 0);
	assert_true(vtree_level0(t, 9, got));
	assert_memory_equal(got, block, VERITY_BLOCK);
	assert_int_equal(check_leaf(t, &i, 9, 0), 1);
	vtree_unref(t);
	image_release(&i);
}

/* ---- the cache ------------------------------------------------------------------------------- */

/* The next tree may lie where the last one lay in memory. */
static void
freed_tree_leaves_nothing(void **state)
{
	struct image a, b;
	struct vtree *t;

	(void)state;
	image_new(&a, SIZE, 16);
	image_new(&b, SIZE, 17);
	for (int n = 0; n < 50; n++) {
		const struct image *i = n % 2 == 0 ? &a : &b;

		t = image_tree(i);
		assert_int_equal(check_leaf(t, i, 0, 0), 0);
		assert_int_equal(check(t, i, 0), 0);
		assert_int_equal(check_leaf(t, i, 0, 0), 1);
		vtree_unref(t);
	}
	image_release(&a);
	image_release(&b);
}

struct hammer {
	const struct image *i;
	struct vtree *t;
	unsigned seed;
	int wrong;
};

static void *
hammer_main(void *arg)
{
	struct hammer *h = arg;

	for (int n = 0; n < 300; n++) {
		int64_t g = (int64_t)(h->seed = h->seed * 1664525 + 1013904223) % GRANULES;
		size_t leaf = h->seed / GRANULES % 60;
		int rc;

		rc = check_leaf(h->t, h->i, g, leaf);
		if (rc == 0 && n % 7 == 0)
			rc = check(h->t, h->i, g);
		h->wrong += rc < 0;
	}
	vtree_unref(h->t);
	return NULL;
}

/* Threads of two images, each with a reference of its own that is the last one somewhere. */
static void
threads_share_it(void **state)
{
	struct image images[2];
	struct vtree *trees[2];
	struct hammer h[6];
	pthread_t threads[6];

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		image_new(&images[k], SIZE, 20 + k);
		trees[k] = image_tree(&images[k]);
	}
	for (unsigned n = 0; n < 6; n++) {
		h[n] = (struct hammer){ .i = &images[n % 2], .t = vtree_ref(trees[n % 2]),
					.seed = n };
		assert_int_equal(pthread_create(&threads[n], NULL, hammer_main, &h[n]), 0);
	}
	vtree_unref(trees[0]);
	vtree_unref(trees[1]);
	for (unsigned n = 0; n < 6; n++) {
		pthread_join(threads[n], NULL);
		assert_int_equal(h[n].wrong, 0);
	}
	image_release(&images[0]);
	image_release(&images[1]);
}

/* ---- a tree that is too large for memory ----------------------------------------------------- */

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
	struct buf file = BUF_INIT;
	struct vtree *t, *copy;
	struct image i;
	int64_t g;
	int fd, fd2;

	(void)state;
	large_image(&i);
	fd = tree_file(&i);
	assert_int_equal(vtree_open(&t, &i.id, dup(fd), NULL), 0);
	assert_int_equal(vtree_file(t, &file, NULL), -EFBIG);
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

/* ---- what makes no sense --------------------------------------------------------------------- */

static void
outside_is_nothing(void **state)
{
	unsigned char block[VERITY_BLOCK] = { 0 };
	struct vtree *t;
	struct image i, leaf;

	(void)state;
	image_new(&i, SIZE, 31);
	t = image_tree(&i);
	for (int64_t g = -1; g <= GRANULES; g += GRANULES + 1) {
		assert_int_equal(vtree_check_granule(t, g, i.data, VERITY_GRANULE), -EBADMSG);
		assert_int_equal(vtree_check_leaves(t, g, 0, i.data, VERITY_BLOCK), -EBADMSG);
		assert_int_equal(vtree_put_level0(t, g, block), -EBADMSG);
	}
	assert_int_equal(vtree_check_granule(t, 0, i.data, VERITY_GRANULE - 1), -EBADMSG);
	assert_int_equal(vtree_check_leaves(t, 0, 0, i.data, 0), -EBADMSG);
	assert_int_equal(vtree_check_leaves(t, 0, 63, i.data, 2 * VERITY_BLOCK), -EBADMSG);
	/* A piece of a leaf is none, and the last granule has no sixty-fourth leaf. */
	assert_int_equal(vtree_check_leaves(t, 0, 0, i.data, VERITY_BLOCK - 1), -EBADMSG);
	vtree_unref(t);
	image_release(&i);

	image_new(&leaf, 100, 32);
	t = image_tree(&leaf);
	assert_int_equal(vtree_put_level0(t, 0, block), -EBADMSG);
	assert_int_equal(vtree_check_leaves(t, 0, 1, leaf.data, 100), -EBADMSG);
	vtree_unref(t);
	image_release(&leaf);
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

#define TEST(title, fn) { .name = title, .test_func = fn }

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
		TEST("a granule is right only at its place and whole", granules_are_proven),
		TEST("leaves are checked alone once their granule was", leaves_are_proven),
		TEST("an image of one granule needs no prefix", small_images_prove_themselves),
		TEST("an empty image has one fs-verity digest", empty_image_has_one_digest),
		TEST("a level-0 block of a sidecar is verified before it is kept",
		     level0_blocks_come_from_a_sidecar),
		TEST("a tree that was freed leaves no blocks behind", freed_tree_leaves_nothing),
		TEST("threads check blocks of the same trees at once", threads_share_it),
		TEST("I1 what lies outside of an image, or is no whole leaf, proves nothing",
		     outside_is_nothing),
		TEST("B15 a file that cannot be read is no tree", unreadable_file_is_no_tree),
		TEST("B15 a tree too large for memory is verified block by block",
		     large_tree_is_verified_when_used),
	};

	return cmocka_run_group_tests_name("vtree", tests, NULL, NULL);
}
