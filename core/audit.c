/*
 * A ring of granules.  The caller's thread reads them in order; one thread adds them to the SHA-512
 * of the whole, also in order; the others take the next one that nobody has taken.  Counters that
 * only grow:
 *
 *	streamed, taken <= filled <= n_granules
 *
 * Granule n lies in slot n % n_slots.  The reader may fill a slot when users is 0: the stream and a
 * worker have let go of what was in it.  Then it belongs to those two, who only read it.
 */
#include "config.h"
#include "audit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "buf.h"
#include "io.h"
#include "thread.h"

enum {
	MAX_SLOTS = 16,			/* 4 MiB: a disk may pause for some ms */
	MAX_WORKERS = 12,
};

struct pass {
	struct audit *audit;
	struct verity_shape shape;
	struct digest_state *stream;	/* of the stream's thread; NULL: not wanted */
	unsigned char *memory;
	int64_t n_slots;
	pthread_t threads[MAX_WORKERS + 1];
	size_t n_threads;

	pthread_mutex_t lock;		/* of what follows */
	pthread_cond_t more;		/* filled grew, or it is over */
	pthread_cond_t room;		/* a slot has no users */
	int64_t filled, streamed, taken;
	int users[MAX_SLOTS];
	bool stop;			/* no more will be filled */
};

static unsigned char *
slot(const struct pass *p, int64_t n)
{
	return p->memory + (size_t)(n % p->n_slots) * VERITY_GRANULE;
}

/* ---- the threads ----------------------------------------------------------------------------- */

/* Waits for granule *next and takes it: its number, -1 when there will be none. */
static int64_t
take(struct pass *p, int64_t *next)
{
	int64_t g = -1;

	pthread_mutex_lock(&p->lock);
	while (*next >= p->filled && !p->stop)
		pthread_cond_wait(&p->more, &p->lock);
	if (*next < p->filled)
		g = (*next)++;
	pthread_mutex_unlock(&p->lock);
	return g;
}

static void
let_go(struct pass *p, int64_t g)
{
	pthread_mutex_lock(&p->lock);
	if (--p->users[g % p->n_slots] == 0)
		pthread_cond_signal(&p->room);
	pthread_mutex_unlock(&p->lock);
}

static void *
stream_main(void *arg)
{
	struct pass *p = arg;
	int64_t g;

	prctl(PR_SET_NAME, "audit-stream");
	while ((g = take(p, &p->streamed)) >= 0) {
		digest_state_add(p->stream, slot(p, g), verity_granule_size(&p->shape, g));
		let_go(p, g);
	}
	return NULL;
}

static void
hash_granule(struct pass *p, int64_t g)
{
	const struct audit *a = p->audit;
	unsigned char block[VERITY_BLOCK];
	struct digest d;

	verity_granule(&p->shape, slot(p, g), verity_granule_size(&p->shape, g), block, &d);
	verity_builder_set(a->builder, g, &d);
	if (a->level0 != NULL && p->shape.n_levels > 0)
		a->level0(a->arg, g, block);
	let_go(p, g);
}

static void *
worker_main(void *arg)
{
	struct pass *p = arg;
	int64_t g;

	prctl(PR_SET_NAME, "audit-tree");
	while ((g = take(p, &p->taken)) >= 0)
		hash_granule(p, g);
	return NULL;
}

/* ---- the reader ------------------------------------------------------------------------------ */

static void
wait_for_room(struct pass *p, int64_t g)
{
	pthread_mutex_lock(&p->lock);
	while (p->users[g % p->n_slots] > 0)
		pthread_cond_wait(&p->room, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

static void
hand_over(struct pass *p, int64_t g)
{
	pthread_mutex_lock(&p->lock);
	p->users[g % p->n_slots] = p->stream != NULL ? 2 : 1;
	p->filled = g + 1;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
}

static int
read_granule(struct pass *p, int64_t g, struct err *err)
{
	size_t want = verity_granule_size(&p->shape, g);
	int64_t off = g * VERITY_GRANULE;
	ssize_t n = io_pread_full(p->audit->fd, slot(p, g), want, off);

	if (n < 0)
		return err_set(err, (int)-n, "cannot be read at byte %lld: %s", (long long)off,
			       strerrordesc_np((int)-n));
	if ((size_t)n != want)
		return err_refuse(err, CODE_SIZE, "ends at byte %lld, not at %lld",
				  (long long)off + n, (long long)p->shape.size);
	return 0;
}

static int
read_all(struct pass *p, struct err *err)
{
	const struct audit *a = p->audit;
	int64_t done = 0;
	int rc = 0;

	posix_fadvise(a->fd, 0, a->size, POSIX_FADV_SEQUENTIAL);
	for (int64_t g = 0; g < p->shape.n_granules; g++) {
		wait_for_room(p, g);
		rc = read_granule(p, g, err);
		if (rc != 0)
			return rc;
		hand_over(p, g);
		done += (int64_t)verity_granule_size(&p->shape, g);
		if (a->progress != NULL)
			rc = a->progress(a->arg, done);
		if (rc < 0)
			return err_set(err, -rc, "interrupted at byte %lld", (long long)done);
	}
	return 0;
}

/* ---- setting up ------------------------------------------------------------------------------ */

static int64_t
count_cores(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return 1;
	return CPU_COUNT(&set);
}

static int64_t
smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int
start(struct pass *p, void *(*fn)(void *arg), struct err *err)
{
	int rc = thread_start(&p->threads[p->n_threads], fn, p);

	if (rc != 0)
		return err_set(err, -rc, "cannot start a thread: %s", strerrordesc_np(-rc));
	p->n_threads++;
	return 0;
}

/* The stream takes a core of its own.  One worker must be; fewer than wanted are only slower. */
static int
start_threads(struct pass *p, struct err *err)
{
	int64_t n = count_cores() - (p->stream != NULL ? 1 : 0);
	int rc = 0;

	n = smaller(smaller(n, MAX_WORKERS), p->shape.n_granules);
	if (p->stream != NULL)
		rc = start(p, stream_main, err);
	if (rc == 0)
		rc = start(p, worker_main, err);
	for (int64_t i = 1; rc == 0 && i < n; i++)
		if (start(p, worker_main, NULL) != 0)
			break;
	return rc;
}

/* What was filled is worked off first: also after an error, which costs some ms. */
static void
join_threads(struct pass *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
}

static int
run(struct pass *p, struct err *err)
{
	int rc;

	p->n_slots = smaller(MAX_SLOTS, p->shape.n_granules);
	p->memory = aligned_alloc(VERITY_BLOCK, (size_t)p->n_slots * VERITY_GRANULE);
	if (p->memory == NULL)
		return err_set(err, ENOMEM, "no memory for the buffers of a hash");
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	pthread_cond_init(&p->room, NULL);
	rc = start_threads(p, err);
	if (rc == 0)
		rc = read_all(p, err);
	join_threads(p);
	pthread_cond_destroy(&p->room);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	free(p->memory);
	return rc;
}

int
audit_run(struct audit *a, struct err *err)
{
	struct pass p = { .audit = a };
	int rc;

	a->builder = NULL;
	if (!verity_shape_init(&p.shape, a->size))
		return err_set(err, EINVAL, "no image can have %lld bytes", (long long)a->size);
	if (verity_builder_new(&a->builder, a->size) != 0)
		return err_set(err, ENOMEM, "no memory for the tree");
	if (a->whole)
		p.stream = digest_state_new();
	rc = p.shape.n_granules > 0 ? run(&p, err) : 0;
	if (rc == 0) {
		verity_builder_end(a->builder, &a->verity);
		if (a->whole)
			digest_state_end(p.stream, &a->sha512);
	} else {
		verity_builder_free(a->builder);
		a->builder = NULL;
	}
	digest_state_free(p.stream);
	return rc;
}
