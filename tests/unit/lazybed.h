/*
 * lazybed.h - an image in block mode, for unit tests: its lanes, its store, and a web server
 * within the test that has it twice, each time with its sidecar, and goes wrong in every way it
 * is told to.
 *
 * VMIMAGEFS_FETCHER names the fetcher; without it everything is skipped.
 *
 * The starter is played by this file: include it once in a program.
 */
#ifndef VMI_LAZYBED_H
#define VMI_LAZYBED_H

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
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/blockfile.h"
#include "core/io.h"
#include "core/lanes.h"
#include "core/lazy.h"
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

/* ---- the image and its sidecars ------------------------------------------------------------ */

static inline unsigned char *
make_sidecar(const unsigned char *data, int64_t size, struct vtree_id *id)
{
	struct vtree *tree = bed_tree(data, size, id);
	int file = memfd_create("tree", MFD_CLOEXEC);
	unsigned char *out;

	assert_true(verity_shape_init(&shape, size));
	out = malloc((size_t)shape.total);
	assert_int_equal(vtree_write(tree, file, NULL), 0);
	assert_int_equal(pread(file, out, (size_t)shape.prefix, VTREE_HEADER), shape.prefix);
	for (int64_t g = 0; g < shape.n_granules; g++) {
		struct digest d;

		verity_granule(&shape, data + g * VERITY_GRANULE, verity_granule_size(&shape, g),
			       out + shape.offset[0] + g * VERITY_BLOCK, &d);
	}
	close(file);
	vtree_unref(tree);
	return out;
}

static inline int
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

static inline int
free_data(void **state)
{
	(void)state;
	free(image);
	free(sidecar);
	free(other_sidecar);
	return 0;
}

/* ---- one image ----------------------------------------------------------------------------- */

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

static inline void
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

static inline void
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

static inline struct timespec
soon(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += PATIENCE_S;
	return t;
}

static inline void
set_uri(struct site *s, int file, const char *path)
{
	snprintf(s->uris[file], sizeof(s->uris[file]), "http://127.0.0.1:%d%s", s->web->port, path);
}

static inline int
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

static inline int
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

static inline void
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

static inline struct site *
start(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	start_with(s, 1, 1, NULL);
	return s;
}

/* Both the image and its sidecar lie twice. */
static inline struct site *
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

static inline void
restart(struct site *s)
{
	lazy_free(s->lazy);
	s->lazy = NULL;
	memset(s->landed, 0, sizeof(s->landed));
	memset(s->failed, 0, sizeof(s->failed));
	s->n_landed = s->n_failed = 0;
	start_with(s, 1, 1, NULL);
}

/* ---- what it says -------------------------------------------------------------------------- */

static inline bool
all_told(const struct site *s, int64_t first, int64_t n)
{
	for (int64_t g = first; g < first + n; g++)
		if (!s->landed[g] && !s->failed[g])
			return false;
	return true;
}

/* Until each of these granules has landed or failed. */
static inline void
wait_told(struct site *s, int64_t first, int64_t n)
{
	struct timespec until = soon();

	pthread_mutex_lock(&s->lock);
	while (!all_told(s, first, n))
		assert_int_equal(pthread_cond_timedwait(&s->changed, &s->lock, &until), 0);
	pthread_mutex_unlock(&s->lock);
}

static inline bool
has_landed(struct site *s, int64_t g)
{
	bool landed;

	pthread_mutex_lock(&s->lock);
	landed = s->landed[g];
	pthread_mutex_unlock(&s->lock);
	return landed;
}

static inline void
want(struct site *s, int64_t first, int64_t n)
{
	lazy_want(s->lazy, first, n);
	wait_told(s, first, n);
}

static inline void
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
static inline struct lazy_figures
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

static inline int64_t
fetched(struct site *s)
{
	return figures_of(s).fetched_bytes;
}

#define TEST(name, f) { name, f, setup, teardown, NULL }

#endif
