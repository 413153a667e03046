/*
 * test_lazy.c - images in block mode while all goes well: what a read fetches and what it does
 * not, what is filled, and what an earlier run left.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/blockfile.h"
#include "core/io.h"
#include "core/lanes.h"
#include "core/lazy.h"
#include "core/stored.h"
#include "tests/lib/rangebed.h"
#include "tests/lib/storebed.h"
#include "tests/unit/lazybed.h"

/* ---- reads --------------------------------------------------------------------------------- */

static void
first_read(void **state)
{
	struct site *s = start(state);
	struct lazy_figures figures;

	want(s, 100, 1);
	assert_true(has_landed(s, 100));
	assert_int_equal(lazy_state(s->lazy), LAZY_SERVING);
	assert_int_equal(s->n_wrong, 0);
	figures = figures_of(s);
	assert_int_equal(figures.n_requests, 2);
	assert_int_equal(figures.fetched_bytes, shape.prefix + VERITY_GRANULE);
	assert_int_equal(rangebed_count(s->web, SIDECAR), 1);
}

static void
granule_comes_with_the_tree(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	rangebed_gate(s->web, true);
	start_with(s, 1, 1, NULL);
	lazy_want(s->lazy, 7, 1);
	rangebed_wait_gate(s->web, 2);
	assert_int_equal(rangebed_count(s->web, IMAGE), 1);
	assert_int_equal(rangebed_count(s->web, SIDECAR), 1);
	rangebed_gate(s->web, false);
	wait_told(s, 7, 1);
	assert_true(has_landed(s, 7));
	assert_int_equal(rangebed_count(s->web, IMAGE), 1);
}

static uint32_t
n_started(void)
{
	uint32_t n;

	pthread_mutex_lock(&kids_lock);
	n = n_kids;
	pthread_mutex_unlock(&kids_lock);
	return n;
}

static void
fetchers_are_ready(void **state)
{
	struct site *s = *state;
	uint32_t before = n_started();
	long long until = io_monotonic_ms() + PATIENCE_S * 1000;

	if (s == NULL)
		skip();
	lanes_expect(s->lanes);
	while (n_started() < before + LANES_READY) {
		assert_true(io_monotonic_ms() < until);
		poll(NULL, 0, 1);
	}
	start_with(s, 1, 1, NULL);
	want(s, 7, 1);
	want(s, 100, 1);
	assert_true(has_landed(s, 7) && has_landed(s, 100));
	/* A lane that has just started its own may still be busy with that. */
	assert_in_range(n_started(), before + LANES_READY, before + LANES_READY + 1);
}

static void
last_granule(void **state)
{
	struct site *s = start(state);

	want(s, GRANULES - 1, 1);
	assert_true(has_landed(s, GRANULES - 1));
	lazy_want(s->lazy, GRANULES, 1);
	lazy_want(s->lazy, -1, 1);
	assert_int_equal(fetched(s), shape.prefix + TAIL);
}

static void *
hundredth_reader(void *arg)
{
	lazy_want(((struct site *)arg)->lazy, 50, 1);
	return NULL;
}

static void
hundred_readers(void **state)
{
	struct site *s = start(state);
	pthread_t threads[100];

	want(s, 0, 1);
	rangebed_gate(s->web, true);
	for (int i = 0; i < 100; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hundredth_reader, s), 0);
	for (int i = 0; i < 100; i++)
		pthread_join(threads[i], NULL);
	rangebed_wait_gate(s->web, 1);
	rangebed_gate(s->web, false);
	wait_told(s, 50, 1);
	assert_int_equal(rangebed_count(s->web, IMAGE), 2);
	assert_int_equal(s->n_landed, 2);
}

static void
near_ranges_are_joined(void **state)
{
	struct site *s = start(state);

	want(s, 0, 1);
	rangebed_gate(s->web, true);
	/* Two are on their way to the server, so that what follows waits for a lane. */
	lazy_want(s->lazy, 150, 1);
	lazy_want(s->lazy, 170, 1);
	rangebed_wait_gate(s->web, 2);
	lazy_want(s->lazy, 20, 1);
	lazy_want(s->lazy, 21, 1);
	lazy_want(s->lazy, 23, 1);
	lazy_want(s->lazy, 30, 1);
	rangebed_gate(s->web, false);
	wait_told(s, 20, 4);
	wait_told(s, 30, 1);
	/* 0; 150; 170; 20..23; 30 */
	assert_int_equal(rangebed_count(s->web, IMAGE), 5);
}

static void
random_reads(void **state)
{
	struct site *s = start(state);
	static const int64_t order[] = { 5, 190, 60, 61, 30, 7, 120, 33, 150, 90 };
	size_t n = sizeof(order) / sizeof(order[0]);

	for (size_t i = 0; i < n; i++)
		want(s, order[i], 1);
	assert_int_equal(fetched(s), shape.prefix + (int64_t)n * VERITY_GRANULE);
}

static void
sequential_reads(void **state)
{
	struct site *s = start(state);
	struct lazy_figures figures;

	for (int64_t g = 0; g < GRANULES; g++)
		if (!has_landed(s, g))
			want(s, g, 1);
	wait_state(s, LAZY_FULL);
	figures = figures_of(s);
	assert_int_equal(figures.fetched_bytes, shape.prefix + image_size);
	assert_in_range(figures.n_requests, 2, GRANULES / 4);
	assert_int_equal(s->n_wrong, 0);
}

/* ---- filling ------------------------------------------------------------------------------- */

static void
filling(void **state)
{
	struct site *s = start(state);
	struct blockfile *f;

	lazy_fill(s->lazy, LAZY_FILL_NOW);
	wait_told(s, 0, GRANULES);
	wait_state(s, LAZY_FULL);
	assert_int_equal(s->n_landed, GRANULES);
	assert_int_equal(s->n_wrong, 0);
	assert_in_range(rangebed_most(s->web), 1, LANES_PER_HOST);
	f = lazy_blockfile(s->lazy);
	assert_int_equal(blockfile_n_missing(f), 0);
	blockfile_unref(f);
}

static void
idle_filling(void **state)
{
	struct site *s = start(state);
	long long begin = io_monotonic_ms();

	lazy_want(s->lazy, 10, 1);
	lazy_fill(s->lazy, LAZY_FILL_IDLE);
	wait_told(s, 10, 1);
	wait_state(s, LAZY_FULL);
	assert_true(io_monotonic_ms() - begin >= LANES_QUIET_MS);
}

static void
found_again(void **state)
{
	struct site *s = start(state);
	int sidecars;

	want(s, 100, 4);
	sidecars = rangebed_count(s->web, SIDECAR);
	restart(s);
	assert_int_equal(lazy_state(s->lazy), LAZY_SERVING);
	lazy_want(s->lazy, 100, 4);
	want(s, 104, 1);
	assert_int_equal(s->n_landed, 1);
	assert_int_equal(fetched(s), VERITY_GRANULE);
	assert_int_equal(rangebed_count(s->web, SIDECAR), sidecars);
}

static void
missing_after_all(void **state)
{
	struct site *s = start(state);
	struct readbuf buf = { 0 };
	struct blockfile *f;
	char path[512];
	const void *data;
	int64_t g;

	lazy_fill(s->lazy, LAZY_FILL_NOW);
	wait_state(s, LAZY_FULL);
	bed_side_path(s->bed, path, &image_id.image, true, ".blocks");
	bed_flip(path, 33 * (int64_t)VERITY_GRANULE + 77, 1);
	f = lazy_blockfile(s->lazy);
	assert_int_equal(blockfile_read(f, &buf, 33 * (int64_t)VERITY_GRANULE, 4096, &data, &g),
			 -EAGAIN);
	assert_int_equal(g, 33);
	lazy_changed(s->lazy);
	wait_state(s, LAZY_FULL);
	assert_int_equal(blockfile_read(f, &buf, 33 * (int64_t)VERITY_GRANULE, 4096, &data, &g),
			 0);
	assert_memory_equal(data, image + 33 * (int64_t)VERITY_GRANULE, 4096);
	readbuf_release(&buf);
	blockfile_unref(f);
}

static void
healing(void **state)
{
	struct site *s = *state;
	struct readbuf buf = { 0 };
	struct vtree_id id;
	struct blockfile *f;
	char path[512];
	const void *data;
	struct err e;
	int64_t g;

	if (s == NULL)
		skip();
	bed_add(s->bed, image, image_size, &id);
	bed_object_path(s->bed, path, &id.image);
	bed_flip(path, 33 * (int64_t)VERITY_GRANULE + 77, 1);
	assert_int_equal(stored_open(s->bed->store, &id.image, id.size, &id.verity, &f, &e), 0);
	assert_int_equal(blockfile_read(f, &buf, 33 * (int64_t)VERITY_GRANULE, 512, &data, &g),
			 -EBADMSG);
	blockfile_set_writable(f, store_object_open_rw(s->bed->store, &id.image, id.size, &e));
	start_with(s, 1, 0, f);
	assert_int_equal(lazy_state(s->lazy), LAZY_SERVING);
	want(s, 33, 1);
	assert_true(has_landed(s, 33));
	assert_int_equal(fetched(s), VERITY_GRANULE);
	assert_int_equal(blockfile_read(f, &buf, 33 * (int64_t)VERITY_GRANULE, 512, &data, &g), 0);
	readbuf_release(&buf);
	blockfile_unref(f);
}

/* ---- the lowest level ---------------------------------------------------------------------- */

static void
level0(void **state)
{
	struct site *s = start(state);
	unsigned char block[VERITY_BLOCK];
	struct blockfile *f;
	struct err e;

	want(s, 0, 1);
	assert_int_equal(lazy_fetch_level0(s->lazy, 20, 100, &e), 0);
	f = lazy_blockfile(s->lazy);
	for (int64_t g = 20; g < 120; g++) {
		assert_true(vtree_level0(blockfile_tree(f), g, block));
		assert_memory_equal(block, sidecar + shape.offset[0] + g * VERITY_BLOCK,
				    VERITY_BLOCK);
	}
	rangebed_flip(s->web, SIDECAR, shape.offset[0] + 130 * VERITY_BLOCK, 0);
	assert_true(lazy_fetch_level0(s->lazy, 120, 20, &e) < 0);
	assert_int_equal(e.code, CODE_BLOCK_DIGEST);
	rangebed_mode(s->web, SIDECAR, RB_404, 0);
	assert_true(lazy_fetch_level0(s->lazy, 150, 20, &e) < 0);
	blockfile_unref(f);
}

static void *
stop_soon(void *arg)
{
	struct site *s = arg;

	rangebed_wait_gate(s->web, 1);
	lazy_stop(s->lazy);
	return NULL;
}

static void
level0_stopped(void **state)
{
	struct site *s = start(state);
	pthread_t thread;
	struct err e;

	want(s, 0, 1);
	rangebed_gate(s->web, true);
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, s), 0);
	assert_int_equal(lazy_fetch_level0(s->lazy, 20, 100, &e), -ECANCELED);
	pthread_join(thread, NULL);
	assert_int_equal(lazy_fetch_level0(s->lazy, 20, 100, &e), -ECANCELED);
	rangebed_gate(s->web, false);
}

/* ---- other images -------------------------------------------------------------------------- */

static void
one_granule(void **state)
{
	struct site *s = *state;
	struct vtree *tree;

	if (s == NULL)
		skip();
	tree = bed_tree(image, 70000, &image_id);
	vtree_unref(tree);
	rangebed_add(s->web, IMAGE, "/img", image, 70000);
	start_with(s, 1, 0, NULL);
	assert_int_equal(lazy_state(s->lazy), LAZY_SERVING);
	want(s, 0, 1);
	assert_true(has_landed(s, 0));
	wait_state(s, LAZY_FULL);
	tree = bed_tree(image, image_size, &image_id);
	vtree_unref(tree);
}

static void
files(void **state)
{
	struct site *s = *state;
	char path[512], tree_path[560];

	if (s == NULL)
		skip();
	snprintf(path, sizeof(path), "file://%s/img", s->bed->dir);
	snprintf(tree_path, sizeof(tree_path), "%s.fsv", path);
	bed_write(path + 7, image, (size_t)image_size);
	bed_write(tree_path + 7, sidecar, (size_t)shape.total);
	s->sources[0].uri = path;
	s->sidecars[0].uri = tree_path;
	start_with(s, 1, 1, NULL);
	wait_state(s, LAZY_UNFIT);
	lazy_free(s->lazy);
	s->lazy = NULL;
	s->conf.file_prefix = s->bed->dir;
	lanes_reconfigure(s->lanes, &s->conf);
	start_with(s, 1, 1, NULL);
	want(s, 5, 1);
	assert_true(has_landed(s, 5));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a first read costs the tree's prefix and one granule", first_read),
		TEST("the first granule is asked for while the tree is on its way",
		     granule_comes_with_the_tree),
		TEST("where a first read is expected, its fetchers are there before it",
		     fetchers_are_ready),
		TEST("the last granule may be short, and there is none after it", last_granule),
		TEST("a hundred readers of one granule cause one request", hundred_readers),
		TEST("near ranges become one request", near_ranges_are_joined),
		TEST("random reads fetch their granules and no others", random_reads),
		TEST("sequential reads grow a read-ahead, and nothing is fetched twice",
		     sequential_reads),
		TEST("filling fetches all that is missing over two connections", filling),
		TEST("idle filling waits until nobody has read for a while", idle_filling),
		TEST("tree and granules of an earlier run are found again", found_again),
		TEST("a granule of a full file that turns out bad is fetched again",
		     missing_after_all),
		TEST("healing lands a granule in a complete object", healing),
		TEST("ranges of the lowest level are verified into the cache", level0),
		TEST("waiting for the lowest level can be stopped", level0_stopped),
		TEST("an image of one granule needs no sidecar", one_granule),
		TEST("file:// is read below file_prefix only", files),
	};

	signal(SIGPIPE, SIG_IGN);
	cmocka_set_test_filter(getenv("VMIMAGEFS_TEST"));
	return cmocka_run_group_tests_name("lazy", tests, make_data, free_data);
}
