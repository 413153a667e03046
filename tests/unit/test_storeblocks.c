/*
 * What block mode keeps on the disk: the file with its full length, the tree, the map, and the step
 * that makes an object of them.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/lib/storebed.h"

static void
full_length(void **state)
{
	struct bed *b = *state;
	struct digest d;
	struct stat st;
	bool is_new;
	int fd;

	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	assert_int_equal(store_blocks_open(b->store, &d, 1 << 20, &fd, &is_new, &b->err), 0);
	assert_true(is_new);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 1 << 20);
	assert_true(st.st_blocks >= (1 << 20) / 512);
	assert_int_equal(pwrite(fd, BED_TEXT, BED_TEXT_LEN, 777), BED_TEXT_LEN);
	close(fd);
	assert_int_equal(store_blocks_open(b->store, &d, 1 << 20, &fd, &is_new, &b->err), 0);
	assert_false(is_new);
	close(fd);
	/* One of another size is of another image: it cannot be gone on with. */
	assert_int_equal(store_map_write(b->store, &d, "m", 1), 0);
	assert_int_equal(store_blocks_open(b->store, &d, 2 << 20, &fd, &is_new, &b->err), 0);
	assert_true(is_new);
	assert_int_equal(bed_count(b, "partial"), 1);
	close(fd);
}

static void
one_mode_at_a_time(void **state)
{
	struct bed *b = *state;
	struct vtree_id id;
	struct vtree *tree = bed_tree(BED_TEXT, BED_TEXT_LEN, &id);
	int64_t have;
	bool is_new;
	int fd;

	assert_int_equal(store_partial_open(b->store, &id.image, BED_TEXT_LEN, &fd, &have,
					    &b->err), 0);
	close(fd);
	assert_int_equal(store_blocks_open(b->store, &id.image, BED_TEXT_LEN, &fd, &is_new,
					   &b->err),
			 0);
	close(fd);
	assert_int_equal(bed_count(b, "partial"), 1);
	assert_int_equal(store_tree_put(b->store, tree, true, &b->err), 0);
	assert_int_equal(store_map_write(b->store, &id.image, "m", 1), 0);
	assert_int_equal(bed_count(b, "partial"), 3);
	assert_int_equal(store_partial_open(b->store, &id.image, BED_TEXT_LEN, &fd, &have,
					    &b->err), 0);
	close(fd);
	assert_int_equal(bed_count(b, "partial"), 1);
	vtree_unref(tree);
}

static void
map_comes_back(void **state)
{
	struct bed *b = *state;
	struct buf got = BUF_INIT;
	char path[512];
	struct digest d;

	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	assert_int_equal(store_map_read(b->store, &d, &got), -ENOENT);
	assert_int_equal(store_map_write(b->store, &d, "older", 5), 0);
	assert_int_equal(store_map_write(b->store, &d, "newer map", 9), 0);
	assert_int_equal(store_map_read(b->store, &d, &got), 0);
	assert_int_equal(got.len, 9);
	assert_memory_equal(got.data, "newer map", 9);
	buf_release(&got);
	bed_side_path(b, path, &d, true, ".map");
	/* As a power cut can leave it. */
	bed_flip(path, 3, 1);
	assert_int_equal(store_map_read(b->store, &d, &got), -EBADMSG);
	buf_clear(&got);
	bed_write(path, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 17);
	assert_int_equal(store_map_read(b->store, &d, &got), -EBADMSG);
	buf_clear(&got);
	bed_write(path, "", 0);
	assert_int_equal(store_map_read(b->store, &d, &got), -EBADMSG);
	buf_clear(&got);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0640), 0);
	assert_int_equal(store_map_read(b->store, &d, &got), -EBADMSG);
	buf_clear(&got);
	assert_int_equal(store_map_write(b->store, &d, "m", 1), 0);
	assert_int_equal(store_map_read(b->store, &d, &got), 0);
	buf_release(&got);
}

static void
tree_replaced(void **state)
{
	struct bed *b = *state;
	struct vtree_id id;
	struct vtree *tree = bed_tree(BED_TEXT, BED_TEXT_LEN, &id), *found;
	char path[512], inner[600];
	int fd;

	assert_int_equal(store_tree_open(b->store, &id.image, false, &b->err), -ENOENT);
	assert_int_equal(store_tree_put(b->store, tree, false, &b->err), 0);
	bed_side_path(b, path, &id.image, false, ".fsv");
	bed_flip(path, 20, 1);
	assert_int_equal(store_tree_put(b->store, tree, false, &b->err), 0);
	/* A directory, and a leftover directory of the name that is written first. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0750), 0);
	snprintf(inner, sizeof(inner), "%s.new", path);
	assert_int_equal(mkdir(inner, 0750), 0);
	assert_int_equal(store_tree_open(b->store, &id.image, false, &b->err), -EBADMSG);
	assert_int_equal(b->err.code, CODE_CORRUPT);
	assert_int_equal(store_tree_put(b->store, tree, false, &b->err), 0);
	assert_int_equal(bed_count(b, "lost+found"), 2);
	fd = store_tree_open(b->store, &id.image, false, &b->err);
	assert_true(fd >= 0);
	assert_int_equal(vtree_open(&found, &id, fd, &b->err), 0);
	vtree_unref(found);
	vtree_unref(tree);
}

static void
blocks_become_object(void **state)
{
	struct bed *b = *state;
	struct vtree_id id;
	struct vtree *tree = bed_tree(BED_TEXT, BED_TEXT_LEN, &id);
	char path[512], got[BED_TEXT_LEN];
	bool is_new;
	int fd;

	assert_int_equal(store_blocks_open(b->store, &id.image, BED_TEXT_LEN, &fd, &is_new,
					   &b->err),
			 0);
	assert_int_equal(store_tree_put(b->store, tree, true, &b->err), 0);
	assert_int_equal(store_map_write(b->store, &id.image, "\x01", 1), 0);
	assert_int_equal(pwrite(fd, BED_TEXT, BED_TEXT_LEN, 0), BED_TEXT_LEN);
	assert_int_equal(store_commit_blocks(b->store, &id.image, fd, &b->err), 0);
	assert_int_equal(bed_count(b, "partial"), 0);
	assert_int_equal(pread(fd, got, BED_TEXT_LEN, 0), BED_TEXT_LEN);
	close(fd);
	fd = store_object_open(b->store, &id.image, BED_TEXT_LEN, &b->err);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, got, BED_TEXT_LEN, 0), BED_TEXT_LEN);
	assert_memory_equal(got, BED_TEXT, BED_TEXT_LEN);
	close(fd);
	bed_side_path(b, path, &id.image, false, ".fsv");
	assert_true(bed_exists(path));
	vtree_unref(tree);
}

static void
commit_without_tree(void **state)
{
	struct bed *b = *state;
	struct digest d;
	int64_t blocks;
	bool is_new;
	int fd;

	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	assert_int_equal(store_blocks_open(b->store, &d, BED_TEXT_LEN, &fd, &is_new, &b->err), 0);
	assert_int_equal(pwrite(fd, BED_TEXT, BED_TEXT_LEN, 0), BED_TEXT_LEN);
	assert_int_equal(store_commit_blocks(b->store, &d, fd, &b->err), 0);
	assert_true(store_object_stat(b->store, &d, BED_TEXT_LEN, &blocks));
	close(fd);
}

static void
blocks_to_quarantine(void **state)
{
	struct bed *b = *state;
	struct vtree_id id;
	struct vtree *tree = bed_tree(BED_TEXT, BED_TEXT_LEN, &id);
	bool is_new;
	int fd;

	assert_int_equal(store_quarantine_blocks(b->store, &id.image, &b->err), 0);
	assert_int_equal(store_blocks_open(b->store, &id.image, BED_TEXT_LEN, &fd, &is_new,
					   &b->err),
			 0);
	close(fd);
	assert_int_equal(store_tree_put(b->store, tree, true, &b->err), 0);
	assert_int_equal(store_map_write(b->store, &id.image, "\x01", 1), 0);
	assert_int_equal(store_quarantine_blocks(b->store, &id.image, &b->err), 0);
	assert_int_equal(bed_count(b, "partial"), 0);
	assert_int_equal(bed_count(b, "quarantine"), 1);
	vtree_unref(tree);
}

/* A tmpfs of 1 MiB. */
static void
full_disk(void **state)
{
	struct bed *b = *state;
	struct digest d;
	bool is_new;
	int fd;

	if (!bed_mount(b, "tmpfs", "size=1m", 0))
		skip();
	bed_open(b);
	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	assert_int_equal(store_blocks_open(b->store, &d, 2 << 20, &fd, &is_new, &b->err), -ENOSPC);
	assert_int_equal(b->err.code, CODE_FULL);
	assert_int_equal(bed_count(b, "partial"), 0);
	assert_int_equal(store_blocks_open(b->store, &d, 600 << 10, &fd, &is_new, &b->err), 0);
	close(fd);
}

static void
without_fallocate(void **state)
{
	struct bed *b = *state;
	struct digest d;
	struct stat st;
	bool is_new;
	int fd;

	if (!bed_mount(b, "ext2", NULL, 4096))
		skip();
	bed_open(b);
	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	assert_int_equal(store_blocks_open(b->store, &d, 1 << 20, &fd, &is_new, &b->err), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 1 << 20);
	close(fd);
}

static void
usage_of_trees(void **state)
{
	struct bed *b = *state;
	struct store_usage u;
	struct digest d;
	bool is_new;
	int fd;

	bed_add_object(b, BED_TEXT, &d);
	assert_int_equal(store_blocks_open(b->store, &d, 1 << 20, &fd, &is_new, &b->err), 0);
	close(fd);
	assert_int_equal(store_usage(b->store, &u, &b->err), 0);
	assert_int_equal(u.n_objects, 1);
	assert_true(u.objects >= 8192);		/* the tree's file has a block of its own */
	assert_true(u.partial >= 1 << 20);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST("a file in block mode has its full length and is reserved whole",
			 full_length, bed_setup),
		BED_TEST("an image comes as a stream or in block mode, and the other one goes",
			 one_mode_at_a_time, bed_setup),
		BED_TEST("a map comes back as it was written last", map_comes_back, bed_setup),
		BED_TEST("a tree replaces whatever has its name", tree_replaced, bed_setup),
		BED_TEST("a file in block mode becomes an object with its tree",
			 blocks_become_object, bed_setup),
		BED_TEST("B16 a tree that is gone does not cost the object",
			 commit_without_tree, bed_setup),
		BED_TEST("a file in block mode goes to quarantine without tree and map",
			 blocks_to_quarantine, bed_setup),
		BED_TEST("B01 block mode is told of a full disk before the first byte",
			 full_disk, bed_setup_bare),
		BED_TEST("B27 block mode works without fallocate",
			 without_fallocate, bed_setup_bare),
		BED_TEST("trees and block files are counted", usage_of_trees, bed_setup),
	};

	return cmocka_run_group_tests_name("block mode on disk", tests, NULL, NULL);
}
