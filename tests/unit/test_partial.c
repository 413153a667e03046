/*
 * Partial files, and what a disk without room makes of them.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/lib/storebed.h"

/* ---- partial files ----------------------------------------------------------------------- */

static void
partial_resumes(void **state)
{
	struct bed *b = *state;
	struct digest d;
	struct stat st;
	int64_t have;
	int fd;

	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	assert_int_equal(store_partial_open(b->store, &d, 1 << 20, &fd, &have, &b->err), 0);
	assert_int_equal(have, 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_true(st.st_blocks >= (1 << 20) / 512);
	assert_int_equal(pwrite(fd, BED_TEXT, BED_TEXT_LEN, 0), BED_TEXT_LEN);
	close(fd);
	assert_int_equal(store_partial_open(b->store, &d, 1 << 20, &fd, &have, &b->err), 0);
	assert_int_equal(have, BED_TEXT_LEN);
	assert_int_equal(store_partial_note(b->store, &d, fd, 5), 0);
	assert_int_equal(store_partial_note(b->store, &d, fd, 6), -EINVAL);
	close(fd);
	assert_int_equal(store_partial_open(b->store, &d, 1 << 20, &fd, &have, &b->err), 0);
	assert_int_equal(have, 5);
	assert_int_equal(store_partial_reset(b->store, &d, fd, 1 << 20, &b->err), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_true(st.st_blocks >= (1 << 20) / 512);
	close(fd);
	store_partial_drop(b->store, &d);
	assert_int_equal(bed_count(b, "partial"), 0);
}

static void
partial_too_large(void **state)
{
	struct bed *b = *state;
	struct digest d;
	int64_t have;
	int fd;

	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	assert_int_equal(store_partial_open(b->store, &d, 100, &fd, &have, &b->err), 0);
	assert_int_equal(ftruncate(fd, 101), 0);
	close(fd);
	assert_int_equal(store_partial_open(b->store, &d, 100, &fd, &have, &b->err), 0);
	assert_int_equal(have, 0);
	close(fd);
}

static void
partial_is_fifo(void **state)
{
	struct bed *b = *state;
	char path[512], hex[DIGEST_HEX + 1];
	struct digest d;
	int64_t have;
	int fd;

	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	digest_hex(&d, hex);
	bed_path(b, path, "partial/%s", hex);
	assert_int_equal(mkfifo(path, 0640), 0);
	assert_int_equal(store_partial_open(b->store, &d, 100, &fd, &have, &b->err), 0);
	assert_int_equal(have, 0);
	assert_int_equal(bed_count(b, "lost+found"), 1);
	close(fd);
}

static void
commit_raced(void **state)
{
	struct bed *b = *state;
	char path[512], found[BED_TEXT_LEN];
	struct digest d;
	FILE *f;

	/* Of the right size, but who knows what is in it. */
	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	f = fopen(path, "r+");
	assert_non_null(f);
	fputc('!', f);
	fclose(f);
	bed_add_object(b, BED_TEXT, &d);
	f = fopen(path, "r");
	assert_int_equal(fread(found, 1, BED_TEXT_LEN, f), BED_TEXT_LEN);
	fclose(f);
	assert_memory_equal(found, BED_TEXT, BED_TEXT_LEN);
	assert_int_equal(bed_count(b, "quarantine"), 1);
	assert_int_equal(bed_count(b, "partial"), 0);
}

static void
commit_over_damage(void **state)
{
	struct bed *b = *state;
	char path[512];
	struct digest d;
	int64_t blocks;

	bed_add_object(b, BED_TEXT, &d);
	bed_object_path(b, path, &d);
	assert_int_equal(truncate(path, 3), 0);
	bed_add_object(b, BED_TEXT, &d);
	assert_true(store_object_stat(b->store, &d, BED_TEXT_LEN, &blocks));
	assert_int_equal(bed_count(b, "quarantine"), 1);
}

static void
reopened_partial(void **state)
{
	struct bed *b = *state;
	char got[BED_TEXT_LEN];
	struct vtree_id id;
	struct vtree *tree = bed_tree(BED_TEXT, BED_TEXT_LEN, &id);
	struct digest d = id.image;
	int64_t have;
	int fd, again;

	assert_int_equal(store_partial_open(b->store, &d, BED_TEXT_LEN, &fd, &have, &b->err), 0);
	again = store_partial_reopen(b->store, &d, fd, &b->err);
	assert_true(again >= 0);
	assert_int_equal(pwrite(fd, BED_TEXT, BED_TEXT_LEN, 0), BED_TEXT_LEN);
	assert_int_equal(store_commit(b->store, &d, fd, tree, &b->err), 0);
	vtree_unref(tree);
	close(fd);
	assert_int_equal(pread(again, got, BED_TEXT_LEN, 0), BED_TEXT_LEN);
	assert_memory_equal(got, BED_TEXT, BED_TEXT_LEN);
	close(again);
}

static void
commit_of_another_file(void **state)
{
	struct bed *b = *state;
	struct vtree_id id;
	struct vtree *tree = bed_tree(BED_TEXT, BED_TEXT_LEN, &id);
	char path[512], hex[DIGEST_HEX + 1];
	int64_t have;
	int fd;

	assert_int_equal(store_partial_open(b->store, &id.image, BED_TEXT_LEN, &fd, &have,
					    &b->err), 0);
	assert_int_equal(pwrite(fd, BED_TEXT, BED_TEXT_LEN, 0), BED_TEXT_LEN);
	digest_hex(&id.image, hex);
	bed_path(b, path, "partial/%s", hex);
	assert_int_equal(unlink(path), 0);
	bed_write(path, "an image, of no kind", BED_TEXT_LEN);
	assert_int_equal(store_commit(b->store, &id.image, fd, tree, &b->err), -EBADMSG);
	assert_int_equal(b->err.code, CODE_CORRUPT);
	assert_int_equal(store_object_open(b->store, &id.image, BED_TEXT_LEN, &b->err), -ENOENT);
	close(fd);
	vtree_unref(tree);
}

/* ---- room -------------------------------------------------------------------------------- */

static void
keeps_min_free(void **state)
{
	struct bed *b = *state;
	struct store_usage u;
	struct store *careful;
	struct digest d;
	int64_t have;
	int fd;

	assert_int_equal(store_usage(b->store, &u, &b->err), 0);
	b->conf.cache_min_free = u.fs_total + 1;
	assert_int_equal(store_open(&b->conf, BED_ID, &careful, &b->err), 0);
	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	assert_int_equal(store_partial_open(careful, &d, 1, &fd, &have, &b->err), -ENOSPC);
	assert_int_equal(b->err.code, CODE_FULL);
	assert_non_null(strstr(b->err.text, "cache_min_free"));
	assert_int_equal(bed_count(b, "partial"), 0);
	store_close(careful);
}

/* A tmpfs of 1 MiB: an image too large for it, then one that fits once something went away. */
static void
full_disk(void **state)
{
	struct bed *b = *state;
	char path[512];
	static char filler[700 << 10];
	struct digest d;
	int64_t have;
	int fd;

	if (!bed_mount(b, "tmpfs", "size=1m", 0))
		skip();
	bed_open(b);
	bed_path(b, path, "filler");
	bed_write(path, filler, sizeof(filler));
	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	assert_int_equal(store_partial_open(b->store, &d, 600 << 10, &fd, &have, &b->err), -ENOSPC);
	assert_int_equal(b->err.code, CODE_FULL);
	assert_int_equal(bed_count(b, "partial"), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(store_partial_open(b->store, &d, 600 << 10, &fd, &have, &b->err), 0);
	close(fd);
}

static void
no_inodes(void **state)
{
	struct bed *b = *state;
	char path[512];
	struct digest d;
	int64_t have;
	int fd;

	if (!bed_mount(b, "tmpfs", "size=1m,nr_inodes=16", 0))
		skip();
	bed_open(b);
	for (int i = 0; i < 16; i++) {
		bed_path(b, path, "filler%d", i);
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
		if (fd < 0)
			break;
		close(fd);
	}
	digest_of(BED_TEXT, BED_TEXT_LEN, &d);
	assert_int_equal(store_partial_open(b->store, &d, BED_TEXT_LEN, &fd, &have,
					    &b->err), -ENOSPC);
	assert_int_equal(b->err.code, CODE_FULL);
	bed_path(b, path, "filler0");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(store_partial_open(b->store, &d, BED_TEXT_LEN, &fd, &have, &b->err), 0);
	close(fd);
}

static void
without_fallocate(void **state)
{
	struct bed *b = *state;
	struct digest d;
	int64_t blocks;

	if (!bed_mount(b, "ext2", NULL, 4096))
		skip();
	bed_open(b);
	bed_add_object(b, BED_TEXT, &d);
	assert_true(store_object_stat(b->store, &d, BED_TEXT_LEN, &blocks));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST("a partial file goes on at its length and is reserved whole",
			 partial_resumes, bed_setup),
		BED_TEST("B25 a partial file larger than the image is dropped",
			 partial_too_large, bed_setup),
		BED_TEST("a FIFO in place of a partial file is moved aside",
			 partial_is_fifo, bed_setup),
		BED_TEST("an object that was there first gives way to the bytes that were hashed",
			 commit_raced, bed_setup),
		BED_TEST("a damaged object gives way to a good one",
			 commit_over_damage, bed_setup),
		BED_TEST("a descriptor on a partial file outlives the commit",
			 reopened_partial, bed_setup),
		BED_TEST("what was put in place of a partial file does not become an object",
			 commit_of_another_file, bed_setup),
		BED_TEST("below cache_min_free nothing is fetched", keeps_min_free, bed_setup),
		BED_TEST("B01 a full disk shows before the first byte, and is no longer full "
			 "once room is made",
			 full_disk, bed_setup_bare),
		BED_TEST("B03 a disk without inodes is full", no_inodes, bed_setup_bare),
		BED_TEST("B27 a file system without fallocate will do",
			 without_fallocate, bed_setup_bare),
	};

	return cmocka_run_group_tests_name("partial files", tests, NULL, NULL);
}
