/*
 * Objects with their trees: what is believed of the two files, and what happens when one of them
 * is not to be believed.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "core/stored.h"
#include "tests/lib/storebed.h"

enum {
	GRANULE = VERITY_GRANULE,
	SIZE = 3 * GRANULE + 100,	/* two levels */
	SMALL = 5000,			/* its tree is a header alone */
};

static unsigned char image[SIZE], other[SIZE];

struct shelf {
	struct bed *bed;
	struct vtree_id id;
	struct blockfile *file;
	struct readbuf buf;
};

static int
setup(void **state)
{
	struct shelf *s = calloc(1, sizeof(*s));

	for (size_t i = 0; i < SIZE; i++) {
		image[i] = (unsigned char)((i * 2654435761u) >> 13);
		other[i] = (unsigned char)~image[i];
	}
	s->bed = bed_new();
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct shelf *s = *state;

	readbuf_release(&s->buf);
	blockfile_unref(s->file);
	bed_free(s->bed);
	free(s);
	return 0;
}

static int
open_as(struct shelf *s, const struct vtree_id *id)
{
	blockfile_unref(s->file);
	return stored_open(s->bed->store, &id->image, id->size, &id->verity, &s->file,
			   &s->bed->err);
}

static int
rebuild(struct shelf *s, const struct vtree_id *id, const struct digest *root, struct digest *tree)
{
	blockfile_unref(s->file);
	return stored_rebuild(s->bed->store, &id->image, id->size, root, NULL, NULL, tree, &s->file,
			      &s->bed->err);
}

static void
expect_bytes(struct shelf *s, const unsigned char *bytes, size_t size)
{
	const void *data;
	int64_t g;

	assert_int_equal(blockfile_read(s->file, &s->buf, 0, size, &data, &g), 0);
	assert_memory_equal(data, bytes, size);
}

static void
expect_no_tree(struct shelf *s, const struct vtree_id *id)
{
	struct blockfile *cached;

	assert_int_equal(open_as(s, id), -ENODATA);
	assert_int_equal(s->bed->err.rc, -ENODATA);
	assert_int_equal(s->bed->err.code, CODE_CORRUPT);
	assert_null(s->file);
	/* Nor from memory, where all of it lies by now. */
	assert_int_equal(stored_open_cached(s->bed->store, &id->image, id->size, &id->verity,
					    &cached), -EAGAIN);
	assert_null(cached);
}

/* The way out, whatever happened to the tree. */
static void
expect_rebuilt(struct shelf *s, const struct vtree_id *id)
{
	struct digest tree;

	assert_int_equal(rebuild(s, id, NULL, &tree), 0);
	assert_true(digest_equal(&tree, &id->verity));
	expect_bytes(s, image, (size_t)id->size);
	/* It was kept. */
	assert_int_equal(open_as(s, id), 0);
	expect_bytes(s, image, (size_t)id->size);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void
opened(void **state)
{
	struct shelf *s = *state;

	bed_add(s->bed, image, SIZE, &s->id);
	assert_int_equal(open_as(s, &s->id), 0);
	assert_true(blockfile_is_complete(s->file));
	expect_bytes(s, image, SIZE);
	bed_add(s->bed, image, SMALL, &s->id);
	assert_int_equal(open_as(s, &s->id), 0);
	expect_bytes(s, image, SMALL);
}

static void
opened_without_digest(void **state)
{
	struct shelf *s = *state;

	bed_add(s->bed, image, SIZE, &s->id);
	assert_int_equal(stored_open(s->bed->store, &s->id.image, SIZE, NULL, &s->file,
				     &s->bed->err), -ENODATA);
	assert_int_equal(s->bed->err.code, CODE_CORRUPT);
	expect_rebuilt(s, &s->id);
}

static void
object_bad_or_gone(void **state)
{
	struct shelf *s = *state;
	struct digest tree;
	char path[512];

	bed_add(s->bed, image, SIZE, &s->id);
	bed_object_path(s->bed, path, &s->id.image);
	assert_int_equal(truncate(path, SIZE - 1), 0);
	assert_int_equal(open_as(s, &s->id), -EBADMSG);
	assert_int_equal(s->bed->err.code, CODE_CORRUPT);
	assert_int_equal(rebuild(s, &s->id, NULL, &tree), -EBADMSG);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(open_as(s, &s->id), -ENOENT);
	assert_int_equal(rebuild(s, &s->id, NULL, &tree), -ENOENT);
}

/* ---- trees that are not right ---------------------------------------------------------------- */

static void
tree_missing(void **state)
{
	struct shelf *s = *state;
	char path[512];

	bed_add(s->bed, image, SIZE, &s->id);
	bed_side_path(s->bed, path, &s->id.image, false, ".fsv");
	assert_int_equal(unlink(path), 0);
	expect_no_tree(s, &s->id);
	expect_rebuilt(s, &s->id);
}

/* Every part of the file, and every length. */
static void
tree_torn(void **state)
{
	static const int64_t places[] = {
		0, 16, 80, 88, 152, 215, VTREE_HEADER, VTREE_HEADER + 200,
	};
	struct shelf *s = *state;
	struct vtree *tree = bed_tree(image, SIZE, &s->id);
	char path[512];
	struct stat st;

	bed_add(s->bed, image, SIZE, &s->id);
	bed_side_path(s->bed, path, &s->id.image, false, ".fsv");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, VTREE_HEADER + VERITY_BLOCK);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		bed_flip(path, places[i], 1);
		expect_no_tree(s, &s->id);
		expect_rebuilt(s, &s->id);
	}
	for (int64_t length = 0; length < st.st_size; length += 512) {
		assert_int_equal(truncate(path, length), 0);
		expect_no_tree(s, &s->id);
		assert_int_equal(store_tree_put(s->bed->store, tree, false, &s->bed->err), 0);
	}
	assert_int_equal(open_as(s, &s->id), 0);
	vtree_unref(tree);
}

static void
tree_is_fifo(void **state)
{
	struct shelf *s = *state;
	char path[512];

	bed_add(s->bed, image, SIZE, &s->id);
	bed_side_path(s->bed, path, &s->id.image, false, ".fsv");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0640), 0);
	expect_no_tree(s, &s->id);
	expect_rebuilt(s, &s->id);
}

static void
trees_swapped(void **state)
{
	struct shelf *s = *state;
	char one[512], two[512];
	struct vtree_id second, mixed;

	bed_add(s->bed, image, SIZE, &s->id);
	bed_add(s->bed, other, SIZE, &second);
	bed_side_path(s->bed, one, &s->id.image, false, ".fsv");
	bed_side_path(s->bed, two, &second.image, false, ".fsv");
	assert_int_equal(renameat2(AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE), 0);
	expect_no_tree(s, &s->id);
	expect_no_tree(s, &second);
	/*
	 * And the digests in the catalogue as well, so that each tree leads to the one that
	 * is asked.
	 */
	mixed = s->id;
	mixed.verity = second.verity;
	expect_no_tree(s, &mixed);
	expect_rebuilt(s, &s->id);
	/* The files are right, the rows are not. */
	expect_no_tree(s, &mixed);
	expect_rebuilt(s, &s->id);
}

static void
objects_swapped(void **state)
{
	struct shelf *s = *state;
	char one[512], two[512];
	struct vtree_id second;
	struct digest tree;
	const void *data;
	int64_t g;

	bed_add(s->bed, image, SIZE, &s->id);
	bed_add(s->bed, other, SIZE, &second);
	bed_object_path(s->bed, one, &s->id.image);
	bed_object_path(s->bed, two, &second.image);
	assert_int_equal(renameat2(AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE), 0);
	assert_int_equal(open_as(s, &s->id), 0);
	assert_int_equal(blockfile_read(s->file, &s->buf, 0, 1, &data, &g), -EBADMSG);
	assert_int_equal(rebuild(s, &s->id, NULL, &tree), -EBADMSG);
	assert_int_equal(s->bed->err.code, CODE_CORRUPT);
	/* Nothing was made of bytes that are not the image's. */
	assert_null(s->file);
}

static void
damaged_object_gets_no_tree(void **state)
{
	struct shelf *s = *state;
	char path[512], side[512];
	struct digest tree;

	bed_add(s->bed, image, SIZE, &s->id);
	bed_object_path(s->bed, path, &s->id.image);
	bed_side_path(s->bed, side, &s->id.image, false, ".fsv");
	assert_int_equal(unlink(side), 0);
	bed_flip(path, 2 * GRANULE, 1);
	assert_int_equal(rebuild(s, &s->id, NULL, &tree), -EBADMSG);
	assert_int_equal(s->bed->err.code, CODE_CORRUPT);
	assert_false(bed_exists(side));
	bed_flip(path, 2 * GRANULE, 1);
	expect_rebuilt(s, &s->id);
}

static void
signed_root_differs(void **state)
{
	struct shelf *s = *state;
	struct digest wrong, tree;

	bed_add(s->bed, image, SIZE, &s->id);
	assert_int_equal(rebuild(s, &s->id, &s->id.verity, &tree), 0);
	wrong = s->id.verity;
	wrong.bytes[63] ^= 1;
	assert_int_equal(rebuild(s, &s->id, &wrong, &tree), -EBADMSG);
	assert_int_equal(s->bed->err.code, CODE_BLOCK_DIGEST);
}

static int
stop_at_once(void *arg, int64_t done)
{
	(void)done;
	*(bool *)arg = true;
	return -ECANCELED;
}

static void
rebuild_cancelled(void **state)
{
	struct shelf *s = *state;
	struct digest tree;
	bool asked = false;

	bed_add(s->bed, image, SIZE, &s->id);
	assert_int_equal(stored_rebuild(s->bed->store, &s->id.image, SIZE, NULL, stop_at_once,
					&asked, &tree, &s->file, &s->bed->err), -ECANCELED);
	assert_true(asked);
}

static void
rebuild_without_room(void **state)
{
	struct shelf *s = *state;
	char shard[512], path[512];
	struct digest tree;
	int rc;

	if (geteuid() != 0)
		skip();
	bed_add(s->bed, image, SIZE, &s->id);
	bed_side_path(s->bed, path, &s->id.image, false, ".fsv");
	assert_int_equal(unlink(path), 0);
	bed_object_path(s->bed, path, &s->id.image);
	snprintf(shard, sizeof(shard), "%s", path);
	strrchr(shard, '/')[0] = '\0';
	/* Somebody who may read everything here, and write nothing. */
	assert_int_equal(chmod(s->bed->dir, 0755) | chmod(s->bed->cache, 0755) | chmod(path, 0644) |
			 chmod(shard, 0755), 0);
	bed_path(s->bed, path, "objects");
	assert_int_equal(chmod(path, 0755), 0);
	assert_int_equal(seteuid(12345), 0);
	rc = rebuild(s, &s->id, NULL, &tree);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(rc, 0);
	expect_bytes(s, image, SIZE);
	expect_no_tree(s, &s->id);
}

/* ---- block mode ------------------------------------------------------------------------------ */

static int
open_partial(struct shelf *s, struct vtree *tree)
{
	blockfile_unref(s->file);
	return stored_partial(s->bed->store, &s->id, tree, &s->file, &s->bed->err);
}

static size_t
granule_len(int64_t g)
{
	return g == 3 ? SIZE - 3 * GRANULE : GRANULE;
}

static void
land(struct shelf *s, int64_t g)
{
	size_t len = granule_len(g);

	assert_int_equal(blockfile_land(s->file, g, image + g * GRANULE, len, &s->bed->err), 0);
}

static void
save_map(struct shelf *s)
{
	struct buf map = BUF_INIT;

	blockfile_map(s->file, &map);
	assert_int_equal(store_map_write(s->bed->store, &s->id.image, map.data, map.len), 0);
	buf_release(&map);
}

static void
partial_goes_on(void **state)
{
	struct shelf *s = *state;
	struct vtree *tree = bed_tree(image, SIZE, &s->id);
	const void *data;
	int64_t g;

	assert_int_equal(open_partial(s, NULL), -ENOENT);
	assert_int_equal(bed_count(s->bed, "partial"), 0);
	assert_int_equal(open_partial(s, tree), 0);
	assert_int_equal(blockfile_n_missing(s->file), 4);
	land(s, 2);
	save_map(s);
	land(s, 0);
	/* Another run. */
	assert_int_equal(open_partial(s, NULL), 0);
	assert_int_equal(blockfile_n_missing(s->file), 3);
	assert_int_equal(blockfile_read(s->file, &s->buf, 2 * GRANULE, GRANULE, &data, &g), 0);
	assert_memory_equal(data, image + 2 * GRANULE, GRANULE);
	for (g = 0; g < 4; g++)
		land(s, g);
	assert_int_equal(store_commit_blocks(s->bed->store, &s->id.image, blockfile_fd(s->file),
					     &s->bed->err), 0);
	blockfile_set_complete(s->file);
	expect_bytes(s, image, SIZE);
	assert_int_equal(open_as(s, &s->id), 0);
	expect_bytes(s, image, SIZE);
	vtree_unref(tree);
}

/* As a power cut can leave it: the bytes, and a map with its name and without its own bytes. */
static void
partial_without_map(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} maps[] = { { NULL, 0 }, { "", 0 }, { "\0\0\0\0\0\0\0\0\0", 9 },
		     { "longer than it may be", 21 } };
	struct shelf *s = *state;
	struct vtree *tree = bed_tree(image, SIZE, &s->id);
	const void *data;
	char path[512];
	int64_t g;

	bed_side_path(s->bed, path, &s->id.image, true, ".map");
	assert_int_equal(open_partial(s, tree), 0);
	land(s, 1);
	land(s, 3);
	/* Half of a granule, and one of other bytes. */
	assert_int_equal(pwrite(blockfile_fd(s->file), image, GRANULE / 2, 0), GRANULE / 2);
	assert_int_equal(pwrite(blockfile_fd(s->file), image, GRANULE, 2 * GRANULE), GRANULE);
	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		if (maps[i].bytes == NULL)
			unlink(path);
		else
			bed_write(path, maps[i].bytes, maps[i].len);
		assert_int_equal(open_partial(s, NULL), 0);
		assert_false(blockfile_has(s->file, 0));
		for (g = 1; g <= 3; g += 2) {
			size_t len = granule_len(g);
			int64_t bad;

			assert_int_equal(blockfile_read(s->file, &s->buf, g * GRANULE, len, &data,
							&bad), 0);
			assert_memory_equal(data, image + g * GRANULE, len);
		}
		assert_int_equal(blockfile_read(s->file, &s->buf, 2 * GRANULE, 1, &data, &g),
				 -EAGAIN);
	}
	vtree_unref(tree);
}

static void
partial_with_lying_map(void **state)
{
	struct shelf *s = *state;
	struct vtree *tree = bed_tree(image, SIZE, &s->id);

	assert_int_equal(open_partial(s, tree), 0);
	assert_int_equal(store_map_write(s->bed->store, &s->id.image, "two", 3), 0);
	assert_int_equal(open_partial(s, NULL), 0);
	assert_int_equal(blockfile_n_missing(s->file), 4);
	assert_int_equal(store_map_write(s->bed->store, &s->id.image, "\xff", 1), 0);
	assert_int_equal(open_partial(s, NULL), 0);
	for (int64_t off = 0; off < SIZE; off += GRANULE) {
		const void *data;
		int64_t g;

		assert_int_equal(blockfile_read(s->file, &s->buf, off, 1, &data, &g), -EAGAIN);
		assert_int_equal(g, off / GRANULE);
	}
	/* The map of a file that is gone says nothing of a new one. */
	save_map(s);
	store_blocks_drop(s->bed->store, &s->id.image);
	assert_int_equal(store_map_write(s->bed->store, &s->id.image, "\xff", 1), 0);
	assert_int_equal(open_partial(s, tree), 0);
	assert_int_equal(blockfile_n_missing(s->file), 4);
	vtree_unref(tree);
}

static void
partial_with_bad_tree(void **state)
{
	struct shelf *s = *state;
	struct vtree *tree = bed_tree(image, SIZE, &s->id);
	char path[512];

	assert_int_equal(open_partial(s, tree), 0);
	bed_side_path(s->bed, path, &s->id.image, true, ".fsv");
	bed_flip(path, VTREE_HEADER + 1, 1);
	land(s, 1);
	save_map(s);
	assert_int_equal(open_partial(s, NULL), -ENOENT);
	/* What was fetched under it is still there when it was fetched again. */
	assert_int_equal(open_partial(s, tree), 0);
	assert_true(blockfile_has(s->file, 1));
	vtree_unref(tree);
}

static void
partial_of_a_cut_commit(void **state)
{
	struct shelf *s = *state;
	struct vtree *tree = bed_tree(image, SIZE, &s->id);
	char from[512], to[512], *slash;

	assert_int_equal(open_partial(s, tree), 0);
	land(s, 1);
	save_map(s);
	bed_side_path(s->bed, from, &s->id.image, true, ".fsv");
	bed_side_path(s->bed, to, &s->id.image, false, ".fsv");
	slash = strrchr(to, '/');
	*slash = '\0';
	assert_int_equal(mkdir(to, 0750), 0);
	*slash = '/';
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(open_partial(s, NULL), 0);
	assert_true(blockfile_has(s->file, 1));
	vtree_unref(tree);
}

#define T(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("an object opens with its tree", opened),
		T("an object whose tree is not known gets one from a whole pass",
		  opened_without_digest),
		T("B10 B12 an object of another size or none is told as such", object_bad_or_gone),
		T("B16 a missing tree is rebuilt from a whole pass", tree_missing),
		T("B15 a torn tree is found wherever it is torn, and rebuilt from a whole pass",
		  tree_torn),
		T("B13 a FIFO in place of a tree does not block", tree_is_fifo),
		T("X28 trees, or rows, that changed places are found out", trees_swapped),
		T("X28 objects that changed places give no byte, and no tree", objects_swapped),
		T("B15 a damaged object gets no tree", damaged_object_gets_no_tree),
		T("a tree that is not the signed one is refused", signed_root_differs),
		T("a pass can be ended", rebuild_cancelled),
		T("B28 a tree that cannot be kept is used all the same", rebuild_without_room),
		T("a partial file in block mode goes on where it was", partial_goes_on),
		T("P03 without a map what has its bytes on the disk is here", partial_without_map),
		T("a map that lies, or is another file's, is only a hint", partial_with_lying_map),
		T("a partial file outlives its tree", partial_with_bad_tree),
		T("P01 a tree that a cut commit moved already is found", partial_of_a_cut_commit),
	};

	return cmocka_run_group_tests_name("stored images", tests, NULL, NULL);
}
