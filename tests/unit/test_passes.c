/*
 * Passes over whole files: what comes of each kind, of good files and bad ones.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/passes.h"
#include "core/stored.h"
#include "tests/lib/storebed.h"

enum {
	GRANULE = VERITY_GRANULE,
	N = 9,
	SIZE = (N - 1) * GRANULE + 4711,
	PATIENCE_MS = 20000,
};

static unsigned char image[SIZE];

struct fixture {
	struct bed *bed;
	struct vtree_id id;
	int notify_fd;
	struct passes *passes;
};

static int
set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	for (size_t i = 0; i < SIZE; i++)
		image[i] = (unsigned char)(i * 2654435761u >> 13);
	f->bed = bed_new();
	f->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->passes = passes_new(f->bed->store, f->notify_fd);
	*state = f;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	passes_free(f->passes);
	close(f->notify_fd);
	bed_free(f->bed);
	free(f);
	return 0;
}

static struct blockfile *
stored(struct fixture *f)
{
	struct blockfile *file = NULL;

	assert_int_equal(stored_open(f->bed->store, &f->id.image, SIZE, &f->id.verity, &file,
				     &f->bed->err), 0);
	return file;
}

/* A partial file with all granules but the one left out (-1: none). */
static struct blockfile *
partial(struct fixture *f, const unsigned char *bytes, int64_t left_out)
{
	struct vtree *tree = bed_tree(bytes, SIZE, &f->id);
	struct blockfile *file = NULL;

	assert_int_equal(stored_partial(f->bed->store, &f->id, tree, &file, &f->bed->err), 0);
	vtree_unref(tree);
	for (int64_t g = 0; g < N; g++)
		if (g != left_out)
			assert_int_equal(blockfile_land(file, g, bytes + g * GRANULE,
							g < N - 1 ? GRANULE : SIZE % GRANULE,
							&f->bed->err), 0);
	return file;
}

static struct pass *
result(struct fixture *f)
{
	struct pollfd fd = { .fd = f->notify_fd, .events = POLLIN };
	struct pass *pass = NULL;
	uint64_t n;

	while ((pass = passes_take(f->passes)) == NULL) {
		assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
		assert_int_equal(read(f->notify_fd, &n, sizeof(n)), sizeof(n));
	}
	return pass;
}

static struct pass *
run(struct fixture *f, enum pass_kind kind, struct blockfile *file)
{
	struct pass *pass = pass_new(kind, &f->id.image, SIZE);

	pass->file = file;
	passes_add(f->passes, pass);
	return result(f);
}

/* ---- of stored files ----------------------------------------------------------------------- */

static void
checks_a_good_file(void **state)
{
	struct fixture *f = *state;
	struct pass *pass;

	bed_add(f->bed, image, SIZE, &f->id);
	pass = run(f, PASS_CHECK, stored(f));
	assert_int_equal(pass->rc, 0);
	assert_int_equal(pass->n_bad, 0);
	assert_true(passes_are_idle(f->passes));
	pass_free(pass);
}

static void
names_bad_granules(void **state)
{
	struct fixture *f = *state;
	struct pass *pass;
	char path[512];

	bed_add(f->bed, image, SIZE, &f->id);
	bed_side_path(f->bed, path, &f->id.image, false, "");
	bed_flip(path, 3 * GRANULE + 9, 1);
	bed_flip(path, SIZE - 1, 1);
	pass = run(f, PASS_CHECK, stored(f));
	assert_int_equal(pass->rc, -EBADMSG);
	assert_int_equal(pass->why.code, CODE_CORRUPT);
	assert_int_equal(pass->n_bad, 2);
	assert_int_equal(pass->bad[0], 3);
	assert_int_equal(pass->bad[1], N - 1);
	pass_free(pass);
}

static void
rebuilds_a_tree(void **state)
{
	struct fixture *f = *state;
	struct blockfile *again;
	struct pass *pass;
	char path[512];

	bed_add(f->bed, image, SIZE, &f->id);
	bed_side_path(f->bed, path, &f->id.image, false, ".fsv");
	assert_int_equal(unlink(path), 0);
	pass = run(f, PASS_REBUILD, NULL);
	assert_int_equal(pass->rc, 0);
	assert_true(digest_equal(&pass->tree, &f->id.verity));
	assert_true(blockfile_is_complete(pass->file));
	pass_free(pass);
	again = stored(f);
	blockfile_unref(again);
}

static void
rebuilds_no_tree_of_bad_bytes(void **state)
{
	struct fixture *f = *state;
	struct pass *pass;
	char path[512];

	bed_add(f->bed, image, SIZE, &f->id);
	bed_side_path(f->bed, path, &f->id.image, false, "");
	bed_flip(path, 0, 1);
	pass = run(f, PASS_REBUILD, NULL);
	assert_int_equal(pass->rc, -EBADMSG);
	assert_int_equal(pass->why.code, CODE_CORRUPT);
	assert_null(pass->file);
	pass_free(pass);
}

/* ---- of files in block mode ---------------------------------------------------------------- */

static void
commits_a_whole_file(void **state)
{
	struct fixture *f = *state;
	struct blockfile *file;
	struct pass *pass;

	pass = run(f, PASS_COMMIT, partial(f, image, -1));
	assert_int_equal(pass->rc, 0);
	assert_true(digest_equal(&pass->tree, &f->id.verity));
	pass_free(pass);
	file = stored(f);
	blockfile_unref(file);
	assert_int_equal(bed_count(f->bed, "partial"), 0);
}

/* Between the landing and the pass. */
static void
finds_what_has_changed(void **state)
{
	struct fixture *f = *state;
	struct blockfile *file = partial(f, image, -1);
	struct pass *pass;
	char path[512];
	int64_t n;

	bed_side_path(f->bed, path, &f->id.image, true, ".blocks");
	bed_flip(path, 5 * GRANULE, 1);
	pass = run(f, PASS_COMMIT, blockfile_ref(file));
	assert_int_equal(pass->rc, -EAGAIN);
	assert_int_equal(pass->n_bad, 1);
	assert_int_equal(blockfile_missing(file, 0, &n), 5);
	assert_int_equal(blockfile_n_missing(file), 1);
	pass_free(pass);

	assert_int_equal(blockfile_land(file, 5, image + 5 * GRANULE, GRANULE, &f->bed->err), 0);
	pass = run(f, PASS_COMMIT, file);
	assert_int_equal(pass->rc, 0);
	pass_free(pass);
}

/* The tree is signed, and is right, and the SHA-512 that was signed is of something else. */
static void
tells_two_digests_apart(void **state)
{
	struct fixture *f = *state;
	struct vtree *tree = bed_tree(image, SIZE, &f->id), *other;
	struct verity_builder *builder;
	struct blockfile *file = NULL;
	struct pass *pass;
	char path[512];
	const void *prefix;
	size_t len;

	vtree_unref(tree);
	assert_int_equal(verity_builder_new(&builder, SIZE), 0);
	for (int64_t g = 0; g < N; g++) {
		struct verity_shape shape;
		struct digest d;

		verity_shape_init(&shape, SIZE);
		verity_granule(&shape, image + g * GRANULE, verity_granule_size(&shape, g), NULL,
			       &d);
		verity_builder_set(builder, g, &d);
	}
	verity_builder_end(builder, &f->id.verity);
	prefix = verity_builder_prefix(builder, &len);
	digest_of("another image", 13, &f->id.image);
	assert_int_equal(vtree_new(&other, &f->id, prefix, len, &f->bed->err), 0);
	verity_builder_free(builder);
	assert_int_equal(stored_partial(f->bed->store, &f->id, other, &file, &f->bed->err), 0);
	vtree_unref(other);
	for (int64_t g = 0; g < N; g++)
		assert_int_equal(blockfile_land(file, g, image + g * GRANULE,
						g < N - 1 ? GRANULE : SIZE % GRANULE,
						&f->bed->err), 0);
	pass = run(f, PASS_COMMIT, file);
	assert_int_equal(pass->rc, -EBADMSG);
	assert_int_equal(pass->why.code, CODE_BLOCK_DIGEST);
	assert_int_equal(pass->n_bad, 0);
	pass_free(pass);
	bed_object_path(f->bed, path, &f->id.image);
	assert_false(bed_exists(path));
}

/* ---- the queue ----------------------------------------------------------------------------- */

static void
finds_and_cancels(void **state)
{
	struct fixture *f = *state;
	struct pass *pass;

	bed_add(f->bed, image, SIZE, &f->id);
	for (int i = 0; i < 3; i++) {
		pass = pass_new(PASS_CHECK, &f->id.image, SIZE);
		pass->file = stored(f);
		passes_add(f->passes, pass);
	}
	assert_non_null(passes_find(f->passes, PASS_CHECK, &f->id.image));
	assert_null(passes_find(f->passes, PASS_COMMIT, &f->id.image));
	assert_false(passes_are_idle(f->passes));
	for (int i = 0; i < 3; i++) {
		passes_cancel(f->passes, PASS_CHECK, &f->id.image);
		pass = result(f);
		assert_true(pass->rc == 0 || pass->rc == -ECANCELED);
		pass_free(pass);
	}
	assert_null(passes_find(f->passes, PASS_CHECK, &f->id.image));
}

/* A name and a size: what is in it does not matter to who has to read all of it. */
static void
begin_long(struct fixture *f, int64_t size, struct digest *d)
{
	char path[512];

	bed_add_object(f->bed, "a large one", d);
	bed_object_path(f->bed, path, d);
	assert_int_equal(truncate(path, size), 0);
	passes_add(f->passes, pass_new(PASS_ADOPT, d, size));
}

static void
hurries(void **state)
{
	struct fixture *f = *state;
	struct digest large;
	struct pass *pass;

	bed_add(f->bed, image, SIZE, &f->id);
	begin_long(f, INT64_C(1) << 35, &large);
	passes_add(f->passes, pass_new(PASS_ADOPT, &f->id.image, SIZE));
	passes_hurry(f->passes, PASS_ADOPT, &f->id.image);
	pass = result(f);
	assert_true(digest_equal(&pass->digest, &f->id.image));
	assert_int_equal(pass->rc, 0);
	assert_true(digest_equal(&pass->tree, &f->id.verity));
	pass_free(pass);
	passes_cancel(f->passes, PASS_ADOPT, &large);
	pass = result(f);
	assert_int_equal(pass->rc, -ECANCELED);
	pass_free(pass);
}

static void
ends_with_passes_left(void **state)
{
	struct fixture *f = *state;

	bed_add(f->bed, image, SIZE, &f->id);
	for (int i = 0; i < 40; i++) {
		struct pass *pass = pass_new(PASS_CHECK, &f->id.image, SIZE);

		pass->file = stored(f);
		pass->urgent = i % 2;
		passes_add(f->passes, pass);
	}
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = set_up, .teardown_func = tear_down }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("a check finds nothing wrong with a good file", checks_a_good_file),
		TEST("B09 a check says which granules are bad", names_bad_granules),
		TEST("B16 a tree that is gone is made anew from the file", rebuilds_a_tree),
		TEST("B15 but not from bytes with another SHA-512", rebuilds_no_tree_of_bad_bytes),
		TEST("I2 a file that has all its granules, and the SHA-512, becomes the object",
		     commits_a_whole_file),
		TEST("granules that changed on the disk before are missing again",
		     finds_what_has_changed),
		TEST("I2 a signed tree and another SHA-512 are code 40", tells_two_digests_apart),
		TEST("a pass can be looked for, and cancelled", finds_and_cancels),
		TEST("a pass that readers come to wait for does not wait for another image's",
		     hurries),
		TEST("P04 the end does not wait for what is queued", ends_with_passes_left),
	};

	return cmocka_run_group_tests_name("passes", tests, NULL, NULL);
}
