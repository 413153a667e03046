/*
 * Each call of the store to the file system fails once, wherever it stands: an image is stored as a
 * whole or not at all, nothing that is wrong is ever given out, and done again it works.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "tests/lib/callfaults.h"
#include "tests/lib/storebed.h"

enum { SIZE = VERITY_GRANULE + 5000 };

struct work {
	struct bed *b;
	char data[SIZE];
	struct vtree_id id; /* of data */
	struct vtree *tree;
};

/* What is done, what has to be there before, and whether it says that it is on the disk now. */
struct step {
	const char *name;
	int (*fn)(struct work *w, struct err *err);
	void (*before)(struct work *w);
	bool durable;
};

/* ---- an image that has never been seen ------------------------------------------------------- */

/* An empty cache, so that there are never more calls than the time before. */
static void
empty(struct bed *b)
{
	store_close(b->store);
	b->store = NULL;
	remove_tree(b->cache);
	assert_int_equal(mkdir(b->cache, 0750), 0);
	bed_open(b);
}

static void
fresh(struct work *w)
{
	static unsigned n;
	unsigned x = ++n;

	empty(w->b);
	for (size_t i = 0; i < SIZE; i++) {
		x = x * 1664525 + 1013904223;
		w->data[i] = (char)(x >> 24);
	}
	vtree_unref(w->tree);
	w->tree = bed_tree(w->data, SIZE, &w->id);
}

static void
stored(struct work *w)
{
	fresh(w);
	bed_add(w->b, w->data, SIZE, &w->id);
}

static void
received(struct work *w)
{
	int64_t have;
	int fd;

	fresh(w);
	assert_int_equal(
		store_partial_open(w->b->store, &w->id.image, SIZE, &fd, &have, &w->b->err), 0);
	assert_int_equal(pwrite(fd, w->data, SIZE, 0), SIZE);
	close(fd);
}

static void
in_blocks(struct work *w)
{
	bool is_new;
	int fd;

	fresh(w);
	assert_int_equal(
		store_blocks_open(w->b->store, &w->id.image, SIZE, &fd, &is_new, &w->b->err), 0);
	assert_int_equal(pwrite(fd, w->data, SIZE, 0), SIZE);
	close(fd);
	assert_int_equal(store_tree_put(w->b->store, w->tree, true, &w->b->err), 0);
	assert_int_equal(store_map_write(w->b->store, &w->id.image, "a map", 5), 0);
}

/* Bytes of nobody, and some that are known to be bad. */
static void
littered(struct work *w)
{
	char path[512];

	stored(w);
	bed_path(w->b, path, "objects/nobody's");
	bed_write(path, "x", 1);
	bed_path(w->b, path, "partial/nobody's");
	bed_write(path, "x", 1);
	assert_int_equal(store_quarantine_bytes(w->b->store, &w->id.image, "bad", 3, &w->b->err),
			 0);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static int
open_store(struct work *w, struct err *err)
{
	int rc;

	store_close(w->b->store);
	w->b->store = NULL;
	rc = store_open(&w->b->conf, BED_ID, &w->b->store, err);
	return rc == 0 ? store_lock(w->b->store, err) : rc;
}

static int
init_store(struct work *w, struct err *err)
{
	return store_init(&w->b->conf, BED_ID, false, err);
}

static int
receive(struct work *w, struct err *err)
{
	int64_t have;
	int fd, again, rc;

	rc = store_admit(w->b->store, &w->id.image, SIZE, NULL, err);
	if (rc == 0)
		rc = store_partial_open(w->b->store, &w->id.image, SIZE, &fd, &have, err);
	if (rc != 0)
		return rc;
	again = store_partial_reopen(w->b->store, &w->id.image, fd, err);
	rc = again < 0 ? again : store_partial_reset(w->b->store, &w->id.image, fd, SIZE, err);
	if (again >= 0)
		close(again);
	if (rc == 0 && io_pwrite_all(fd, w->data, SIZE, 0) != 0)
		rc = err_set(err, EIO, "cannot write");
	if (rc == 0 && store_partial_note(w->b->store, &w->id.image, fd, SIZE) != 0)
		rc = err_set(err, EIO, "cannot note");
	if (rc == 0)
		rc = store_commit(w->b->store, &w->id.image, fd, w->tree, err);
	close(fd);
	store_dismiss(w->b->store, &w->id.image);
	return rc;
}

static int
resume(struct work *w, struct err *err)
{
	int64_t have;
	int fd, rc = store_partial_open(w->b->store, &w->id.image, SIZE, &fd, &have, err);

	if (rc != 0)
		return rc;
	/* What is there of it is right; and if there is nothing, all of it comes again. */
	if (io_pwrite_all(fd, w->data + have, (size_t)(SIZE - have), have) != 0)
		rc = err_set(err, EIO, "cannot write");
	if (rc == 0)
		rc = store_commit(w->b->store, &w->id.image, fd, w->tree, err);
	close(fd);
	return rc;
}

/* Every byte, each granule against the tree. */
static int
check_all(struct work *w, int fd, struct vtree *tree, struct err *err)
{
	CLEANUP_FREE char *data = xcalloc(1, SIZE);
	int rc = 0;

	if (io_pread_full(fd, data, SIZE, 0) != SIZE)
		return err_set(err, EIO, "cannot read");
	assert_memory_equal(data, w->data, SIZE);
	for (int64_t g = 0; g < vtree_shape(tree)->n_granules && rc == 0; g++)
		rc = vtree_check_granule(tree, g, data + g * VERITY_GRANULE,
					 verity_granule_size(vtree_shape(tree), g));
	return rc == 0 ? 0 : err_set(err, -rc, "a granule is not right");
}

static int
read_back(struct work *w, struct err *err)
{
	struct vtree *tree = NULL;
	int64_t blocks;
	int fd = store_object_open(w->b->store, &w->id.image, SIZE, err), rc;

	if (fd < 0)
		return fd;
	rc = store_tree_open(w->b->store, &w->id.image, false, err);
	if (rc >= 0)
		rc = vtree_open(&tree, &w->id, rc, err);
	if (rc == 0)
		rc = check_all(w, fd, tree, err);
	if (rc == 0 && !store_object_stat(w->b->store, &w->id.image, SIZE, &blocks))
		rc = err_set(err, EIO, "cannot look at it");
	vtree_unref(tree);
	close(fd);
	return rc;
}

static int
open_for_healing(struct work *w, struct err *err)
{
	int fd = store_object_open_rw(w->b->store, &w->id.image, SIZE, err);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int
blocks_come(struct work *w, struct err *err)
{
	CLEANUP_BUF struct buf map = BUF_INIT;
	bool is_new;
	int fd, rc = store_blocks_open(w->b->store, &w->id.image, SIZE, &fd, &is_new, err);

	if (rc != 0)
		return rc;
	if (io_pwrite_all(fd, w->data, SIZE, 0) != 0)
		rc = err_set(err, EIO, "cannot write");
	if (rc == 0)
		rc = store_tree_put(w->b->store, w->tree, true, err);
	if (rc == 0 && (store_map_write(w->b->store, &w->id.image, "a map", 5) != 0 ||
			store_map_read(w->b->store, &w->id.image, &map) != 0))
		rc = err_set(err, EIO, "no map");
	if (rc == 0)
		rc = store_commit_blocks(w->b->store, &w->id.image, fd, err);
	close(fd);
	return rc;
}

static int
blocks_are_bad(struct work *w, struct err *err)
{
	return store_quarantine_blocks(w->b->store, &w->id.image, err);
}

static int
partial_is_bad(struct work *w, struct err *err)
{
	return store_quarantine_partial(w->b->store, &w->id.image, err);
}

static int
object_is_bad(struct work *w, struct err *err)
{
	return store_quarantine_object(w->b->store, &w->id.image, err);
}

static int
bytes_are_bad(struct work *w, struct err *err)
{
	return store_quarantine_bytes(w->b->store, &w->id.image, w->data, 5000, err);
}

static int
put_tree(struct work *w, struct err *err)
{
	return store_tree_put(w->b->store, w->tree, false, err);
}

static int
remove_object(struct work *w, struct err *err)
{
	return store_object_remove(w->b->store, &w->id.image, err);
}

static void
drop_partial(struct work *w)
{
	store_partial_drop(w->b->store, &w->id.image);
	store_blocks_drop(w->b->store, &w->id.image);
}

static int
give_up(struct work *w, struct err *err)
{
	(void)err;
	drop_partial(w);
	return 0;
}

static bool
is_known(void *arg, const struct digest *d)
{
	struct work *w = arg;

	return digest_equal(&w->id.image, d);
}

static int
tidy(struct work *w, struct err *err)
{
	const struct store_walk walk = {
		.known_object = is_known, .known_partial = is_known, .arg = w, .max_moves = 100
	};
	int rc = store_reconcile(w->b->store, &walk, err);

	return rc < 0 ? rc : 0;
}

static void
one_bad(void *arg, const struct digest *d, int64_t number, int64_t bytes)
{
	(void)arg;
	(void)d;
	(void)number;
	(void)bytes;
}

static int
measure(struct work *w, struct err *err)
{
	struct store_usage usage;
	int rc = store_usage(w->b->store, &usage, err);

	if (rc == 0)
		rc = store_recount(w->b->store, err);
	if (rc == 0)
		rc = store_room(w->b->store, &usage, err);
	if (rc == 0)
		rc = store_quarantine_each(w->b->store, one_bad, NULL, err);
	return rc == 0 ? store_quarantine_drop(w->b->store, &w->id.image, 1, err) : rc;
}

static const struct step steps[] = {
	{ "a cache is prepared", init_store, fresh, false },
	{ "it is opened", open_store, fresh, false },
	{ "an image comes", receive, fresh, true },
	{ "the rest of it comes", resume, received, true },
	{ "it is read", read_back, stored, false },
	{ "it is opened for healing", open_for_healing, stored, false },
	{ "it comes block by block", blocks_come, fresh, true },
	{ "its blocks are bad", blocks_are_bad, in_blocks, false },
	{ "what came of it is bad", partial_is_bad, received, false },
	{ "it has become bad", object_is_bad, stored, false },
	{ "some of its bytes have", bytes_are_bad, stored, false },
	{ "its tree is made anew", put_tree, stored, false },
	{ "it is removed", remove_object, stored, false },
	{ "it is given up", give_up, in_blocks, false },
	{ "a transfer is given up", give_up, received, false },
	{ "what is nobody's is put away", tidy, littered, false },
	{ "all is measured", measure, littered, false },
};

/* ---- with each call failing ------------------------------------------------------------------ */

/* Whatever failed, what has the name of the object is the object. */
static void
assert_right_or_absent(struct work *w)
{
	CLEANUP_FREE char *data = xcalloc(1, SIZE);
	struct err err = { 0 };
	int fd = store_object_open(w->b->store, &w->id.image, SIZE, &err);

	if (fd < 0) {
		assert_int_equal(fd, -ENOENT);
		return;
	}
	assert_int_equal(pread(fd, data, SIZE, 0), SIZE);
	assert_memory_equal(data, w->data, SIZE);
	close(fd);
}

/* After these fail nobody knows what is on the disk. */
static bool
is_about_the_disk(const char *call)
{
	return strcmp(call, "fsync") == 0 || strcmp(call, "fdatasync") == 0 ||
	       strcmp(call, "write") == 0 || strcmp(call, "pwrite") == 0;
}

/* For want of room for its tree a complete image is not thrown away. */
static bool
tree_is_right_or_absent(struct work *w)
{
	struct err err = { 0 };
	int fd = store_tree_open(w->b->store, &w->id.image, false, &err);

	if (fd >= 0)
		close(fd);
	return fd == -ENOENT || read_back(w, &err) == 0;
}

static bool
try_step(struct work *w, const struct step *s, long n, int errnum)
{
	struct err err = { 0 };
	bool struck;
	int rc;

	s->before(w);
	fault_begin(FAULT_FILES, n, errnum);
	rc = s->fn(w, &err);
	struck = fault_end();
	if (rc != 0 && !struck)
		fail_msg("%s: %s", s->name, err.text);
	if (rc != 0 && err.text[0] == '\0')
		fail_msg("%s: call %ld (%s) fails, and nothing is said", s->name, n, fault_name());
	if (rc == 0 && struck && s->durable && is_about_the_disk(fault_name()) &&
	    !(errnum == ENOSPC && tree_is_right_or_absent(w)))
		fail_msg("%s: call %ld (%s) fails, and nobody notices", s->name, n, fault_name());
	if (w->b->store == NULL)
		bed_open(w->b);
	assert_right_or_absent(w);
	if (rc != 0) {
		err_clear(&err);
		rc = s->fn(w, &err);
		/* What failed to be moved may have been moved. */
		if (rc != 0 && rc != -ENOENT)
			fail_msg("%s: after call %ld (%s) failed: %s", s->name, n, fault_name(),
				 err.text);
	}
	assert_right_or_absent(w);
	return struck;
}

static void
each_call_fails(void **state, int errnum)
{
	struct work w = { .b = *state };

	fault_unsynced();
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		for (long n = 1; try_step(&w, &steps[i], n, errnum); n++)
			assert_true(n < 1000);
	vtree_unref(w.tree);
}

static void
disk_fails(void **state)
{
	each_call_fails(state, EIO);
}

static void
disk_is_full(void **state)
{
	each_call_fails(state, ENOSPC);
}

/* After these nobody knows what is durable, or the name has been taken back. */
static bool
costs_the_bytes(const char *call)
{
	return strcmp(call, "fsync") == 0 || strcmp(call, "fdatasync") == 0 ||
	       strcmp(call, "fstat") == 0 || strcmp(call, "fstatat") == 0;
}

static bool
commits(struct work *w, long n)
{
	struct store *store;
	struct err err = { 0 };
	int64_t have;
	int fd, rc;
	bool struck;

	received(w);
	store = w->b->store;
	assert_int_equal(store_partial_open(store, &w->id.image, SIZE, &fd, &have, &err), 0);
	assert_int_equal(have, SIZE);
	fault_begin(FAULT_FILES, n, ENOSPC);
	rc = store_commit(store, &w->id.image, fd, w->tree, &err);
	struck = fault_end();
	close(fd);
	if (rc == 0 || costs_the_bytes(fault_name()))
		return struck;
	assert_int_equal(err.code, CODE_FULL);
	assert_int_equal(store_partial_open(store, &w->id.image, SIZE, &fd, &have, &err), 0);
	if (have != SIZE)
		fail_msg("call %ld (%s) fails, and all bytes are gone", n, fault_name());
	assert_int_equal(store_commit(store, &w->id.image, fd, w->tree, &err), 0);
	close(fd);
	assert_right_or_absent(w);
	return struck;
}

static void
full_at_the_end(void **state)
{
	struct work w = { .b = *state };

	fault_unsynced();
	for (long n = 1; commits(&w, n); n++)
		assert_true(n < 1000);
	vtree_unref(w.tree);
}

static void
files_shrink(void **state)
{
	each_call_fails(state, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST("B05 B06 whichever call fails, an object is right or absent", disk_fails,
			 bed_setup),
		BED_TEST("B01 so it is on a disk that is full", disk_is_full, bed_setup),
		BED_TEST("B01 B02 what came whole is not thrown away for want of room for the rest",
			 full_at_the_end, bed_setup),
		BED_TEST("B10 and where a file ends before its end", files_shrink, bed_setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
