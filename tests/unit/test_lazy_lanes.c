/*
 * test_lazy_lanes.c - lanes that several images share, and what becomes of them when an image
 * goes or a fetcher dies.
 */
#include "config.h"

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
#include "tests/lib/rangebed.h"
#include "tests/lib/storebed.h"
#include "tests/unit/lazybed.h"

/* ---- one image ----------------------------------------------------------------------------- */

static void
freed_at_once(void **state)
{
	struct site *s = start(state);
	long long begin;

	want(s, 0, 1);
	rangebed_gate(s->web, true);
	lazy_want(s->lazy, 50, 1);
	lazy_want(s->lazy, 90, 1);
	rangebed_wait_gate(s->web, 2);
	begin = io_monotonic_ms();
	lazy_free(s->lazy);
	s->lazy = NULL;
	/* Without the bytes that the gate holds back, which would take as long as it stays shut. */
	assert_true(io_monotonic_ms() - begin < 4000);
	assert_int_equal(s->n_landed, 1);
	rangebed_gate(s->web, false);
}

static void
fetcher_killed(void **state)
{
	struct site *s = start(state);

	want(s, 0, 1);
	rangebed_gate(s->web, true);
	lazy_want(s->lazy, 50, 1);
	rangebed_wait_gate(s->web, 1);
	pthread_mutex_lock(&kids_lock);
	for (uint32_t i = 0; i < n_kids; i++)
		if (kids[i] > 0)
			kill(kids[i], SIGKILL);
	pthread_mutex_unlock(&kids_lock);
	rangebed_gate(s->web, false);
	wait_told(s, 50, 1);
	s->failed[50] = false;
	want(s, 50, 1);
	assert_true(has_landed(s, 50));
}

/* ---- many ---------------------------------------------------------------------------------- */

/*
 * Six images at one server, in the time of each other's pauses: a granule of each is wrong at
 * first, all are read here and there, and then filled.
 */
enum { CROWD_GRANULES = 20 };

struct crowd {
	struct lazy *lazy[CROWD];
	int n_failed, n_landed;
	pthread_mutex_t lock;
};

static void
crowd_landed(void *arg, struct blockfile *f, int64_t off, const void *data, size_t size)
{
	struct crowd *c = arg;

	(void)f;
	assert_memory_equal(data, image + off, size);
	pthread_mutex_lock(&c->lock);
	c->n_landed++;
	pthread_mutex_unlock(&c->lock);
}

static void
crowd_failed(void *arg, const struct digest *d, int64_t first, int64_t n, const struct err *why)
{
	struct crowd *c = arg;

	(void)d;
	(void)first;
	(void)n;
	(void)why;
	pthread_mutex_lock(&c->lock);
	c->n_failed++;
	pthread_mutex_unlock(&c->lock);
}

static int
crowd_n_landed(struct crowd *c)
{
	int n;

	pthread_mutex_lock(&c->lock);
	n = c->n_landed;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static int
crowd_n_failed(struct crowd *c)
{
	int n;

	pthread_mutex_lock(&c->lock);
	n = c->n_failed;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void
many_images(void **state)
{
	static char paths[2 * CROWD][16], uris[2 * CROWD][256];
	struct crowd crowd = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct site *s = *state;

	if (s == NULL)
		skip();
	for (int i = 0; i < CROWD; i++) {
		int64_t size = (CROWD_GRANULES + i) * (int64_t)VERITY_GRANULE - 17;
		struct lazy_source sources[2] = {
			{ uris[2 * i], NULL }, { uris[2 * i + 1], NULL },
		};
		struct lazy_config config = {
			.lanes = s->lanes, .store = s->bed->store, .notify_fd = s->notify,
			.sources = sources, .n_sources = 1, .sidecars = sources + 1,
			.n_sidecars = 1, .landed = crowd_landed, .failed = crowd_failed,
			.arg = &crowd,
		};

		sources[0].list_id = sources[1].list_id = (char *)(uintptr_t)"list";
		s->served[i] = make_sidecar(image, size, &config.id);
		snprintf(paths[2 * i], sizeof(paths[0]), "/crowd%d", i);
		snprintf(paths[2 * i + 1], sizeof(paths[0]), "/crowd%d.fsv", i);
		rangebed_add(s->web, 8 + 2 * i, paths[2 * i], image, size);
		rangebed_add(s->web, 9 + 2 * i, paths[2 * i + 1], s->served[i], shape.total);
		rangebed_flip(s->web, 8 + 2 * i, 3 * (int64_t)VERITY_GRANULE + i, 1);
		for (int k = 2 * i; k < 2 * i + 2; k++)
			snprintf(uris[k], sizeof(uris[k]), "http://127.0.0.1:%d%s", s->web->port,
				 paths[k]);
		assert_int_equal(lazy_new(&crowd.lazy[i], &config, NULL), 0);
		lazy_want(crowd.lazy[i], 3, 1);
		lazy_want(crowd.lazy[i], 11 + i, 1);
		lazy_fill(crowd.lazy[i], LAZY_FILL_IDLE);
	}
	for (int i = 0; i < CROWD; i++) {
		s->lazy = crowd.lazy[i];
		wait_state(s, LAZY_FULL);
		figures_of(s);
	}
	s->lazy = NULL;
	for (int i = 0; i < CROWD; i++)
		lazy_free(crowd.lazy[i]);
	assert_int_equal(crowd.n_failed, 0);
	assert_int_equal(crowd.n_landed, CROWD * CROWD_GRANULES + CROWD * (CROWD - 1) / 2);
	assert_in_range(rangebed_most(s->web), 1, LANES_PER_HOST);
	assert_true(verity_shape_init(&shape, image_size));
}

/*
 * Two lanes have the connections to one server, two those to another.  A wish at the second is due
 * after a pause; whichever lane wakes up for that, one that may ask has to.
 */
static void
watch_is_handed_over(void **state)
{
	int64_t size = 10 * (int64_t)VERITY_GRANULE;
	struct crowd crowd = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct lazy_source sources[2];
	struct lazy_config config;
	struct site *s = *state, other;
	struct rangebed *web;
	unsigned char *tree;
	long long until;

	if (s == NULL)
		skip();
	rangebed_gate(s->web, true);
	start_with(s, 1, 1, NULL);
	lazy_want(s->lazy, 5, 1);
	rangebed_wait_gate(s->web, 2);

	web = rangebed_new();
	config = (struct lazy_config){
		.lanes = s->lanes, .store = s->bed->store, .notify_fd = s->notify,
		.sources = sources, .n_sources = 1, .sidecars = sources + 1, .n_sidecars = 1,
		.landed = crowd_landed, .failed = crowd_failed, .arg = &crowd,
	};
	tree = make_sidecar(image, size, &config.id);
	rangebed_add(web, 0, "/x", image, size);
	rangebed_add(web, 1, "/x.fsv", tree, shape.total);
	other.web = web;
	for (int i = 0; i < 2; i++) {
		set_uri(&other, i, web->files[i].path);
		sources[i] = (struct lazy_source){ other.uris[i], (char *)(uintptr_t)"list" };
	}
	assert_int_equal(lazy_new(&crowd.lazy[0], &config, NULL), 0);
	lazy_want(crowd.lazy[0], 5, 1);
	while (crowd_n_landed(&crowd) == 0)
		poll(NULL, 0, 10);
	/* The lanes of the first server sleep from now on. */
	lazy_free(s->lazy);
	s->lazy = NULL;
	rangebed_mode(web, 0, RB_CUT, 0);
	lazy_want(crowd.lazy[0], 3, 1);
	while (crowd_n_failed(&crowd) == 0)
		poll(NULL, 0, 10);
	rangebed_mode(web, 0, RB_WELL, 0);
	lazy_want(crowd.lazy[0], 3, 1);
	until = io_monotonic_ms() + 20 * LAZY_RETRY_MS;
	while (crowd_n_landed(&crowd) == 1) {
		assert_true(io_monotonic_ms() < until);
		poll(NULL, 0, 10);
	}
	rangebed_gate(s->web, false);
	lazy_free(crowd.lazy[0]);
	rangebed_free(web);
	free(tree);
	assert_true(verity_shape_init(&shape, image_size));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("freeing cancels what is fetched", freed_at_once),
		TEST("many images at one server are served over two connections", many_images),
		TEST("work that is due later is done by a lane that may ask the server",
		     watch_is_handed_over),
		TEST("a fetcher that is killed is replaced", fetcher_killed),
	};

	signal(SIGPIPE, SIG_IGN);
	cmocka_set_test_filter(getenv("VMIMAGEFS_TEST"));
	return cmocka_run_group_tests_name("lazy_lanes", tests, make_data, free_data);
}
