/*
 * test_lazy.c - images in block mode: lanes, fetchers, trees, granules, over a web server within
 * the test that goes wrong in every way it is told to.
 *
 * VMIMAGEFS_FETCHER names the fetcher; without it everything is skipped.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/blockfile.h"
#include "core/io.h"
#include "core/lanes.h"
#include "core/lazy.h"
#include "core/stored.h"
#include "tests/lib/rangebed.h"
#include "tests/lib/storebed.h"

enum {
	GRANULES = 200,
	TAIL = 5000,			/* bytes of the last one */
	PATIENCE_S = 30,
	N_LANES = 4,
	KIDS = 256,
	CROWD = 6,
};

enum { IMAGE, SIDECAR, IMAGE2, SIDECAR2, OTHER_TREE };

static const int64_t image_size = (GRANULES - 1) * (int64_t)VERITY_GRANULE + TAIL;
static unsigned char *image;
static unsigned char *sidecar, *other_sidecar;
static struct verity_shape shape;
static struct vtree_id image_id;

/* ---- in the place of the starter ----------------------------------------------------------- */

static pthread_mutex_t kids_lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t kids[KIDS];
static uint32_t n_kids;

int
starter_run(struct starter *s, enum starter_program program, int arg, const int *fds, size_t n_fds,
	    uint32_t *id, struct err *err)
{
	const char *path = getenv("VMIMAGEFS_FETCHER");
	pid_t pid;

	(void)s;
	(void)program;
	(void)arg;
	(void)n_fds;
	(void)err;
	pid = fork();
	if (pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		dup2(fds[0], 3);
		fcntl(3, F_SETFD, 0);
		execl(path, "vmimagefs-fetcher", (char *)NULL);
		_exit(127);
	}
	pthread_mutex_lock(&kids_lock);
	assert_true(n_kids < KIDS);
	kids[n_kids++] = pid;
	*id = n_kids;
	pthread_mutex_unlock(&kids_lock);
	return 0;
}

void
starter_kill(struct starter *s, uint32_t id)
{
	(void)s;
	pthread_mutex_lock(&kids_lock);
	if (kids[id - 1] > 0) {
		kill(kids[id - 1], SIGKILL);
		waitpid(kids[id - 1], NULL, 0);
		kids[id - 1] = 0;
	}
	pthread_mutex_unlock(&kids_lock);
}

/* ---- the sidecar ------------------------------------------------------------------------- */

static unsigned char *
make_sidecar(const unsigned char *data, int64_t size, struct vtree_id *id)
{
	struct vtree *tree = bed_tree(data, size, id);
	unsigned char *out;
	struct buf file = BUF_INIT;

	assert_true(verity_shape_init(&shape, size));
	out = malloc((size_t)shape.total);
	assert_int_equal(vtree_file(tree, &file, NULL), 0);
	memcpy(out, file.data + VTREE_HEADER, (size_t)shape.prefix);
	for (int64_t g = 0; g < shape.n_granules; g++) {
		struct digest d;

		verity_granule(&shape, data + g * VERITY_GRANULE, verity_granule_size(&shape, g),
			       out + shape.offset[0] + g * VERITY_BLOCK, &d);
	}
	buf_release(&file);
	vtree_unref(tree);
	return out;
}

/* ---- the bed ------------------------------------------------------------------------------- */

struct site {
	struct bed *bed;
	struct rangebed *web;
	struct conf conf;
	struct lanes *lanes;
	struct lazy *lazy;
	struct lazy_source sources[2], sidecars[2];
	char uris[5][64];
	int notify;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool landed[GRANULES], failed[GRANULES];
	int n_landed, n_failed, n_wrong;
	struct err why;
	void *served[CROWD];		/* bytes of a test's own, for as long as the server runs */
};

static void
on_landed(void *arg, struct blockfile *f, int64_t off, const void *data, size_t size)
{
	struct site *s = arg;

	pthread_mutex_lock(&s->lock);
	assert_int_equal(off % VERITY_GRANULE, 0);
	s->n_wrong += memcmp(data, image + off, size) != 0;
	s->landed[off / VERITY_GRANULE] = true;
	s->n_landed++;
	s->n_wrong += !blockfile_has(f, off / VERITY_GRANULE);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void
on_failed(void *arg, const struct digest *d, int64_t first, int64_t n, const struct err *why)
{
	struct site *s = arg;

	pthread_mutex_lock(&s->lock);
	s->n_wrong += !digest_equal(d, &image_id.image);
	for (int64_t g = first; g < first + n; g++)
		s->failed[g] = true;
	s->n_failed++;
	s->why = *why;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static struct timespec
soon(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += PATIENCE_S;
	return t;
}

static void
set_uri(struct site *s, int file, const char *path)
{
	snprintf(s->uris[file], sizeof(s->uris[file]), "http://127.0.0.1:%d%s", s->web->port, path);
}

static int
setup(void **state)
{
	struct site *s = calloc(1, sizeof(*s));

	if (getenv("VMIMAGEFS_FETCHER") == NULL) {
		free(s);
		*state = NULL;
		return 0;
	}
	s->bed = bed_new();
	s->web = rangebed_new();
	rangebed_add(s->web, IMAGE, "/img", image, image_size);
	rangebed_add(s->web, SIDECAR, "/img.fsv", sidecar, shape.total);
	rangebed_add(s->web, IMAGE2, "/two", image, image_size);
	rangebed_add(s->web, SIDECAR2, "/two.fsv", sidecar, shape.total);
	rangebed_add(s->web, OTHER_TREE, "/other.fsv", other_sidecar, shape.total);
	for (int i = 0; i < 5; i++)
		set_uri(s, i, s->web->files[i].path);
	s->conf.connect_timeout = 5;
	s->conf.stall_timeout = 5;
	s->conf.block_timeout = 6;
	s->sources[0] = (struct lazy_source){ s->uris[IMAGE], NULL };
	s->sidecars[0] = (struct lazy_source){ s->uris[SIDECAR], NULL };
	for (int i = 0; i < 2; i++)
		s->sources[i].list_id = s->sidecars[i].list_id = (char *)(uintptr_t)"list";
	s->notify = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->lanes = lanes_new(NULL, &s->conf, N_LANES);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		return 0;
	lazy_free(s->lazy);
	lanes_free(s->lanes);
	rangebed_free(s->web);
	for (int i = 0; i < CROWD; i++)
		free(s->served[i]);
	bed_free(s->bed);
	close(s->notify);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return 0;
}

static void
start_with(struct site *s, size_t n_sources, size_t n_sidecars, struct blockfile *heals)
{
	struct lazy_config config = {
		.lanes = s->lanes,
		.store = s->bed->store,
		.id = image_id,
		.sources = s->sources,
		.n_sources = n_sources,
		.sidecars = s->sidecars,
		.n_sidecars = n_sidecars,
		.heals = heals,
		.notify_fd = s->notify,
		.landed = on_landed,
		.failed = on_failed,
		.arg = s,
	};
	struct err e;

	assert_int_equal(lazy_new(&s->lazy, &config, &e), 0);
}

static struct site *
start(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	start_with(s, 1, 1, NULL);
	return s;
}

/* Both the image and its sidecar lie twice. */
static struct site *
start_twice(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	s->sources[1].uri = s->uris[IMAGE2];
	s->sidecars[1].uri = s->uris[SIDECAR2];
	start_with(s, 2, 2, NULL);
	return s;
}

static bool
all_told(const struct site *s, int64_t first, int64_t n)
{
	for (int64_t g = first; g < first + n; g++)
		if (!s->landed[g] && !s->failed[g])
			return false;
	return true;
}

/* Until each of these granules has landed or failed. */
static void
wait_told(struct site *s, int64_t first, int64_t n)
{
	struct timespec until = soon();

	pthread_mutex_lock(&s->lock);
	while (!all_told(s, first, n))
		assert_int_equal(pthread_cond_timedwait(&s->changed, &s->lock, &until), 0);
	pthread_mutex_unlock(&s->lock);
}

static bool
has_landed(struct site *s, int64_t g)
{
	bool landed;

	pthread_mutex_lock(&s->lock);
	landed = s->landed[g];
	pthread_mutex_unlock(&s->lock);
	return landed;
}

static void
want(struct site *s, int64_t first, int64_t n)
{
	lazy_want(s->lazy, first, n);
	wait_told(s, first, n);
}

static void
wait_state(struct site *s, enum lazy_state state)
{
	long long until = io_monotonic_ms() + PATIENCE_S * 1000;
	struct pollfd p = { s->notify, POLLIN, 0 };
	eventfd_t n;

	while (lazy_state(s->lazy) != state) {
		assert_true(io_monotonic_ms() < until);
		if (poll(&p, 1, 1000) > 0)
			eventfd_read(s->notify, &n);
	}
}

/* When the requests that run have ended. */
static struct lazy_figures
figures_of(struct site *s)
{
	long long until = io_monotonic_ms() + PATIENCE_S * 1000;
	struct lazy_figures figures;

	for (;;) {
		lazy_figures(s->lazy, &figures);
		if (!figures.active)
			return figures;
		assert_true(io_monotonic_ms() < until);
		poll(NULL, 0, 1);
	}
}

static int64_t
fetched(struct site *s)
{
	return figures_of(s).fetched_bytes;
}

static void
restart(struct site *s)
{
	lazy_free(s->lazy);
	s->lazy = NULL;
	memset(s->landed, 0, sizeof(s->landed));
	memset(s->failed, 0, sizeof(s->failed));
	s->n_landed = s->n_failed = 0;
	start_with(s, 1, 1, NULL);
}

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

/* ---- sidecars ------------------------------------------------------------------------------ */

static void
assert_unfit(struct site *s, enum code code, const char *text)
{
	struct err e = { 0 };

	wait_state(s, LAZY_UNFIT);
	assert_true(lazy_result(s->lazy, &e) < 0);
	if (e.code != code || strstr(e.text, text) == NULL)
		print_message("code %d: %s\n", (int)e.code, e.text);
	assert_int_equal(e.code, code);
	assert_non_null(strstr(e.text, text));
	assert_non_null(strstr(e.text, "127.0.0.1"));
	assert_null(lazy_blockfile(s->lazy));
	assert_int_equal(s->n_landed, 0);
}

/* A sidecar in this mode, with a reader who waits. */
static void
unfit(void **state, enum rangebed_mode mode, int64_t arg, enum code code, const char *text)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	rangebed_mode(s->web, SIDECAR, mode, arg);
	rangebed_gate(s->web, true);
	start_with(s, 1, 1, NULL);
	lazy_want(s->lazy, 3, 1);
	rangebed_gate(s->web, false);
	wait_told(s, 3, 1);
	assert_unfit(s, code, text);
	assert_int_equal(s->why.code, code);
}

static void
sidecar_absent(void **state)
{
	unfit(state, RB_404, 0, CODE_DOWNLOAD, "HTTP status 404");
}

static void
sidecar_length(void **state)
{
	unfit(state, RB_TOTAL, 0, CODE_SIZE, "signed are");
}

static void
sidecar_endless(void **state)
{
	unfit(state, RB_ENDLESS, 0, CODE_RANGE, "more bytes than");
}

static void
sidecar_slow(void **state)
{
	long long begin = io_monotonic_ms();

	unfit(state, RB_SLOW, 100, CODE_SLOW, "");
	/* Half of a reader's patience is left for what comes instead. */
	assert_true(io_monotonic_ms() - begin < 6000);
}

static void
sidecar_silent(void **state)
{
	unfit(state, RB_SILENT, 0, CODE_SLOW, "");
}

static void
sidecar_without_ranges(void **state)
{
	unfit(state, RB_WHOLE, 0, CODE_RANGE, "without ranges");
}

static void
sidecar_first_block(void **state)
{
	struct site *s = *state;

	if (s != NULL)
		rangebed_flip(s->web, SIDECAR, 10, 0);
	unfit(state, RB_WELL, 0, CODE_BLOCK_DIGEST, "");
}

static void
sidecar_middle_block(void **state)
{
	struct site *s = *state;

	if (s != NULL)
		rangebed_flip(s->web, SIDECAR, shape.prefix / 2 + 5, 0);
	unfit(state, RB_WELL, 0, CODE_BLOCK_DIGEST, "");
}

static void
sidecar_of_another(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	s->sidecars[0].uri = s->uris[OTHER_TREE];
	start_with(s, 1, 1, NULL);
	lazy_want(s->lazy, 3, 1);
	assert_unfit(s, CODE_BLOCK_DIGEST, "");
}

static void
sidecar_refused(void **state)
{
	struct site *s = *state;
	struct rangebed *gone;

	if (s == NULL)
		skip();
	gone = rangebed_new();
	snprintf(s->uris[SIDECAR], sizeof(s->uris[0]), "http://127.0.0.1:%d/img.fsv", gone->port);
	rangebed_free(gone);
	start_with(s, 1, 1, NULL);
	/* Nobody waits: the image is probed. */
	assert_unfit(s, CODE_SLOW, "");
	assert_int_equal(rangebed_count(s->web, IMAGE), 1);
}

static void
second_sidecar(void **state)
{
	struct site *s = *state;

	if (s != NULL)
		rangebed_mode(s->web, SIDECAR, RB_404, 0);
	s = start_twice(state);
	want(s, 9, 1);
	assert_true(has_landed(s, 9));
}

static void
short_ranges(void **state)
{
	struct site *s = *state;

	if (s != NULL) {
		rangebed_mode(s->web, SIDECAR, RB_SHORT, 3000);
		rangebed_mode(s->web, IMAGE, RB_SHORT, 100000);
	}
	s = start(state);
	want(s, 12, 2);
	assert_true(has_landed(s, 12) && has_landed(s, 13));
	assert_int_equal(s->n_wrong, 0);
}

static void
everything_refused(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	rangebed_shut(s->web);
	start_with(s, 1, 1, NULL);
	want(s, 4, 1);
	assert_false(has_landed(s, 4));
	assert_int_equal(s->why.code, CODE_SLOW);
	assert_int_equal(s->why.rc, -EHOSTUNREACH);
	assert_int_equal(lazy_state(s->lazy), LAZY_ROOTING);
}

/* ---- servers ------------------------------------------------------------------------------- */

static void
image_without_ranges(void **state)
{
	struct site *s = *state;
	struct err e;

	if (s != NULL)
		rangebed_mode(s->web, IMAGE, RB_WHOLE, 0);
	s = start(state);
	want(s, 100, 1);
	wait_state(s, LAZY_UNFIT);
	lazy_result(s->lazy, &e);
	assert_int_equal(e.code, CODE_RANGE);
	assert_int_equal(s->n_landed, 0);
}

static void
image_with_other_range(void **state)
{
	struct site *s = *state;

	if (s != NULL)
		rangebed_mode(s->web, IMAGE, RB_OTHER, 0);
	s = start(state);
	want(s, 100, 1);
	wait_state(s, LAZY_UNFIT);
	assert_int_equal(s->why.code, CODE_RANGE);
	assert_int_equal(s->n_landed, 0);
}

static void
ranges_come_and_go(void **state)
{
	static const enum rangebed_mode modes[] = { RB_WHOLE, RB_OTHER };
	struct site *s = start(state);

	want(s, 1, 1);
	for (int i = 0; i < 2; i++) {
		rangebed_mode(s->web, IMAGE, modes[i], 0);
		want(s, 100 + 10 * i, 1);
		assert_true(s->failed[100 + 10 * i]);
		assert_int_equal(s->why.code, CODE_RANGE);
		assert_int_equal(s->why.rc, -EHOSTUNREACH);
		assert_int_equal(lazy_state(s->lazy), LAZY_SERVING);
		rangebed_mode(s->web, IMAGE, RB_WELL, 0);
		s->failed[100 + 10 * i] = false;
		want(s, 100 + 10 * i, 1);
		assert_true(has_landed(s, 100 + 10 * i));
	}
	/* It counts in the next run too that there was something. */
	rangebed_mode(s->web, IMAGE, RB_WHOLE, 0);
	restart(s);
	want(s, 50, 1);
	assert_true(s->failed[50]);
	assert_int_equal(lazy_state(s->lazy), LAZY_SERVING);
}

static void
other_source_has_ranges(void **state)
{
	struct site *s = *state;

	if (s != NULL)
		rangebed_mode(s->web, IMAGE, RB_WHOLE, 0);
	s = start_twice(state);
	want(s, 100, 1);
	assert_true(has_landed(s, 100));
}

static void
image_absent(void **state)
{
	struct site *s = start(state);

	want(s, 1, 1);
	rangebed_mode(s->web, IMAGE, RB_404, 0);
	want(s, 100, 1);
	assert_false(has_landed(s, 100));
	assert_int_equal(s->why.code, CODE_DOWNLOAD);
	assert_int_equal(lazy_state(s->lazy), LAZY_SERVING);
	rangebed_mode(s->web, IMAGE, RB_WELL, 0);
	s->failed[100] = false;
	want(s, 100, 1);
	assert_true(has_landed(s, 100));
}

static void
cut_connections(void **state)
{
	struct site *s = start(state);

	want(s, 0, 1);
	/* Each connection brings two granules and a half. */
	rangebed_mode(s->web, IMAGE, RB_CUT, 5 * VERITY_GRANULE / 2);
	want(s, 100, 9);
	for (int g = 100; g < 109; g++)
		assert_true(has_landed(s, g));
	assert_int_equal(s->n_wrong, 0);
}

static void
cut_in_the_first_granule(void **state)
{
	struct site *s = start(state);
	int before;

	want(s, 0, 1);
	rangebed_mode(s->web, IMAGE, RB_CUT_ONCE, 5000);
	want(s, 100, 1);
	assert_true(has_landed(s, 100));
	figures_of(s);
	rangebed_mode(s->web, IMAGE, RB_CUT, 5000);
	before = rangebed_count(s->web, IMAGE);
	want(s, 150, 1);
	assert_false(has_landed(s, 150));
	assert_int_equal(s->why.code, CODE_SLOW);
	/* Twice a round. */
	assert_int_equal(rangebed_count(s->web, IMAGE), before + 2 * LAZY_ROUNDS);
}

static void
one_at_a_time(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	for (int i = 0; i < 5; i++)
		rangebed_mode(s->web, i, RB_ALONE, 0);
	start_with(s, 1, 1, NULL);
	lazy_want(s->lazy, 100, 1);
	lazy_fill(s->lazy, LAZY_FILL_NOW);
	wait_state(s, LAZY_FULL);
	assert_int_equal(s->n_failed, 0);
	assert_in_range(rangebed_most(s->web), 1, LANES_PER_HOST);
	assert_in_range(rangebed_refused(s->web, IMAGE) + rangebed_refused(s->web, SIDECAR), 0,
			8);
}

static void
always_busy(void **state)
{
	struct site *s = start(state);

	want(s, 0, 1);
	rangebed_mode(s->web, IMAGE, RB_BUSY, 0);
	lazy_want(s->lazy, 100, 1);
	/* 503 at 0, 0.5, 1.5, 3.5 s ... and no more of them. */
	poll(NULL, 0, 2500);
	assert_in_range(rangebed_count(s->web, IMAGE), 2, 6);
	rangebed_mode(s->web, IMAGE, RB_WELL, 0);
	wait_told(s, 100, 1);
	assert_true(has_landed(s, 100));
}

/* ---- wrong bytes --------------------------------------------------------------------------- */

static void
wrong_then_right(void **state)
{
	struct site *s = start(state);
	struct lazy_figures figures;

	want(s, 0, 1);
	rangebed_flip(s->web, IMAGE, 70 * (int64_t)VERITY_GRANULE + 9, 1);
	want(s, 70, 1);
	assert_true(has_landed(s, 70));
	lazy_figures(s->lazy, &figures);
	assert_int_equal(figures.n_bad_granules, 1);
	assert_int_equal(s->n_wrong, 0);
}

static void
wrong_everywhere(void **state)
{
	struct site *s = start_twice(state);
	long long begin;

	rangebed_flip(s->web, IMAGE, 70 * (int64_t)VERITY_GRANULE + 9, 0);
	rangebed_flip(s->web, IMAGE2, 70 * (int64_t)VERITY_GRANULE + 9, 0);
	want(s, 69, 3);
	assert_true(has_landed(s, 69) && has_landed(s, 71));
	assert_true(s->failed[70] && !has_landed(s, 70));
	assert_int_equal(s->why.code, CODE_BLOCK_DIGEST);
	assert_int_equal(s->why.rc, -EBADMSG);
	/* Each source once, and one of them a second time. */
	assert_in_range(rangebed_count(s->web, IMAGE) + rangebed_count(s->web, IMAGE2), 3, 5);
	/* Whoever asks at once is told at once, without a request. */
	begin = io_monotonic_ms();
	s->failed[70] = false;
	want(s, 70, 1);
	assert_true(s->failed[70]);
	assert_true(io_monotonic_ms() - begin < LAZY_RETRY_MS);
	assert_in_range(rangebed_count(s->web, IMAGE) + rangebed_count(s->web, IMAGE2), 3, 5);
}

static void
wrong_from_one_source(void **state)
{
	struct site *s = start_twice(state);
	long long begin;

	rangebed_flip(s->web, IMAGE, 70 * (int64_t)VERITY_GRANULE + 9, 0);
	begin = io_monotonic_ms();
	want(s, 70, 1);
	assert_true(has_landed(s, 70));
	assert_true(io_monotonic_ms() - begin < LAZY_RETRY_MS);
}

/* Another image of the same size. */
static void
wrong_image(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	s->served[0] = calloc(1, (size_t)image_size);
	rangebed_add(s->web, IMAGE, "/img", s->served[0], image_size);
	start_with(s, 1, 1, NULL);
	lazy_fill(s->lazy, LAZY_FILL_NOW);
	want(s, 10, 1);
	assert_false(has_landed(s, 10));
	assert_int_equal(s->why.code, CODE_BLOCK_DIGEST);
	/* It is not fetched from end to end for nothing. */
	lazy_fill(s->lazy, LAZY_FILL_NOT);
	assert_in_range(fetched(s), 0, 6 << 20);
}

/* ---- the rest ------------------------------------------------------------------------------ */

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
	assert_true(io_monotonic_ms() - begin < 1000);
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
	until = io_monotonic_ms() + 4 * LAZY_RETRY_MS;
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

/* ---- data ---------------------------------------------------------------------------------- */

static int
make_data(void **state)
{
	struct vtree_id other;
	uint64_t x = 88172645463325252ULL;

	(void)state;
	image = malloc((size_t)image_size + 8);
	for (int64_t i = 0; i < image_size; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(image + i, &x, 8);
	}
	image[100] ^= 1;
	other_sidecar = make_sidecar(image, image_size, &other);
	image[100] ^= 1;
	sidecar = make_sidecar(image, image_size, &image_id);
	return 0;
}

static int
free_data(void **state)
{
	(void)state;
	free(image);
	free(sidecar);
	free(other_sidecar);
	return 0;
}

#define TEST(name, f) { name, f, setup, teardown, NULL }

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
		TEST("T40 no sidecar: 404", sidecar_absent),
		TEST("T40 a sidecar of another length", sidecar_length),
		TEST("T40 a sidecar without end", sidecar_endless),
		TEST("T40 a sidecar that comes too slowly", sidecar_slow),
		TEST("T40 a sidecar that does not come", sidecar_silent),
		TEST("T40 a sidecar without ranges", sidecar_without_ranges),
		TEST("T40 a sidecar whose first block is wrong", sidecar_first_block),
		TEST("T40 a sidecar with a wrong block in the middle", sidecar_middle_block),
		TEST("T40 the sidecar of another image", sidecar_of_another),
		TEST("T40 a sidecar out of reach while the image is not", sidecar_refused),
		TEST("a second sidecar takes the place of a bad one", second_sidecar),
		TEST("T28 ranges shorter than asked for are put together", short_ranges),
		TEST("a network that is down fails the readers and decides nothing",
		     everything_refused),
		TEST("T26 a server without ranges makes the image unfit", image_without_ranges),
		TEST("T27 a server with other ranges makes the image unfit",
		     image_with_other_range),
		TEST("T26 a server that had ranges is given time to have them again",
		     ranges_come_and_go),
		TEST("T26 another source with ranges serves", other_source_has_ranges),
		TEST("an image that is gone fails the readers, until it is there again",
		     image_absent),
		TEST("what a cut connection brought is used", cut_connections),
		TEST("T08 a range that is cut in its first granule is asked for once more",
		     cut_in_the_first_granule),
		TEST("T41 a server that allows one connection gets one", one_at_a_time),
		TEST("T41 a busy server is not stormed", always_busy),
		TEST("a wrong granule is fetched once more", wrong_then_right),
		TEST("a granule that is wrong from every source is EBADMSG", wrong_everywhere),
		TEST("T32 a granule that is wrong from one source comes from the other",
		     wrong_from_one_source),
		TEST("T44 another image of the same size is noticed early", wrong_image),
		TEST("healing lands a granule in a complete object", healing),
		TEST("ranges of the lowest level are verified into the cache", level0),
		TEST("waiting for the lowest level can be stopped", level0_stopped),
		TEST("freeing cancels what is fetched", freed_at_once),
		TEST("many images at one server are served over two connections", many_images),
		TEST("work that is due later is done by a lane that may ask the server",
		     watch_is_handed_over),
		TEST("a fetcher that is killed is replaced", fetcher_killed),
		TEST("an image of one granule needs no sidecar", one_granule),
		TEST("file:// is read below file_prefix only", files),
	};

	signal(SIGPIPE, SIG_IGN);
	cmocka_set_test_filter(getenv("VMIMAGEFS_TEST"));
	return cmocka_run_group_tests_name("lazy", tests, make_data, free_data);
}
