/*
 * A ring of granules.  Granule g of the stream lies in slot g % HASHER_GRANULES:
 *
 *	finished <= claimed <= whole granules of pushed		counts of granules
 *	finished * granule <= streamed <= pushed		streamed and pushed are bytes
 *	pushed <= (finished + HASHER_GRANULES) * granule
 *
 *   pushed     bytes from the producer
 *   streamed   bytes that SHA-512 has run over
 *   claimed    granules that somebody hashes, or has hashed, for the tree
 *   finished   granules of which nothing is left to do: their slots are free
 *
 * The producer may stop in the middle of a granule, for a slow sender or for the end of a pipe:
 * SHA-512 goes on to the last byte there is, the tree waits until the granule is whole.
 *
 * Bytes [streamed, pushed) and granules [finished, claimed) are read without the lock; nobody
 * writes them, because their slots are in use.  The digest state belongs to the stream thread
 * while pushed > streamed and to the producer otherwise; the lock orders the two.
 *
 * SHA-512 of the whole cannot be divided, so nobody takes that thread's time for anything else.
 * The tree costs about as much again.  The producer, when the ring is full, hashes a granule
 * instead of waiting: then it is the tree that is behind, or will be.
 */
#include "config.h"
#include "hasher.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "buf.h"
#include "thread.h"

struct hasher {
	struct verity_shape shape;	/* fixed, as the next one */
	unsigned char *memory;		/* HASHER_GRANULES slots */
	struct digest_state *state;
	struct verity_builder *builder;	/* locks by itself */
	pthread_t stream, tree;

	pthread_mutex_t lock;		/* protects what follows */
	pthread_cond_t more;		/* pushed has grown, or stop */
	pthread_cond_t less;		/* streamed or finished has grown */
	int64_t pushed, streamed;
	int64_t claimed, finished;
	bool in_tree[HASHER_GRANULES];	/* hashed for the tree, not yet finished */
	bool stop;
};

/* ---- where things lie (pure) ------------------------------------------------------------- */

static unsigned char *
place(const struct hasher *h, int64_t offset)
{
	return h->memory + offset % ((int64_t)HASHER_GRANULES * VERITY_GRANULE);
}

/* Bytes from offset to the end of its granule, or of the stream. */
static int64_t
rest_of_granule(const struct hasher *h, int64_t offset)
{
	int64_t in_granule = VERITY_GRANULE - offset % VERITY_GRANULE;
	int64_t in_stream = h->shape.size - offset;

	return in_granule < in_stream ? in_granule : in_stream;
}

/* The offset behind granule g. */
static int64_t
end_of(const struct hasher *h, int64_t g)
{
	return g * VERITY_GRANULE + (int64_t)verity_granule_size(&h->shape, g);
}

/* ---- with the lock held ------------------------------------------------------------------ */

static bool
can_claim(const struct hasher *h)
{
	return h->claimed < h->shape.n_granules && h->pushed >= end_of(h, h->claimed);
}

static void
advance(struct hasher *h)
{
	while (h->finished < h->claimed && h->in_tree[h->finished % HASHER_GRANULES] &&
	       h->streamed >= end_of(h, h->finished)) {
		h->in_tree[h->finished % HASHER_GRANULES] = false;
		h->finished++;
	}
	pthread_cond_signal(&h->less);
}

/* Lets the lock go meanwhile. */
static void
hash_granule(struct hasher *h)
{
	int64_t g = h->claimed++;
	struct digest d;

	pthread_mutex_unlock(&h->lock);
	verity_granule(&h->shape, place(h, g * VERITY_GRANULE), verity_granule_size(&h->shape, g),
		       NULL, &d);
	verity_builder_set(h->builder, g, &d);
	pthread_mutex_lock(&h->lock);
	h->in_tree[g % HASHER_GRANULES] = true;
	advance(h);
}

/* Likewise. */
static void
hash_stream(struct hasher *h)
{
	int64_t rest = rest_of_granule(h, h->streamed), len = h->pushed - h->streamed;

	if (len > rest)
		len = rest;
	pthread_mutex_unlock(&h->lock);
	digest_state_add(h->state, place(h, h->streamed), (size_t)len);
	pthread_mutex_lock(&h->lock);
	h->streamed += len;
	advance(h);
}

/* ---- the threads ------------------------------------------------------------------------- */

static void *
stream_main(void *arg)
{
	struct hasher *h = arg;

	prctl(PR_SET_NAME, "intake-hash");
	pthread_mutex_lock(&h->lock);
	while (!h->stop) {
		if (h->streamed < h->pushed)
			hash_stream(h);
		else
			pthread_cond_wait(&h->more, &h->lock);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static void *
tree_main(void *arg)
{
	struct hasher *h = arg;

	prctl(PR_SET_NAME, "intake-tree");
	pthread_mutex_lock(&h->lock);
	while (!h->stop) {
		if (can_claim(h))
			hash_granule(h);
		else
			pthread_cond_wait(&h->more, &h->lock);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static void
stop(struct hasher *h)
{
	pthread_mutex_lock(&h->lock);
	h->stop = true;
	pthread_cond_broadcast(&h->more);
	pthread_mutex_unlock(&h->lock);
}

static int
start_threads(struct hasher *h)
{
	int rc = thread_start(&h->stream, stream_main, h);

	if (rc != 0)
		return rc;
	rc = thread_start(&h->tree, tree_main, h);
	if (rc != 0) {
		stop(h);
		pthread_join(h->stream, NULL);
	}
	return rc;
}

/* ---- the producer ------------------------------------------------------------------------ */

static void
release(struct hasher *h)
{
	pthread_cond_destroy(&h->less);
	pthread_cond_destroy(&h->more);
	pthread_mutex_destroy(&h->lock);
	verity_builder_free(h->builder);
	digest_state_free(h->state);
	free(h->memory);
	free(h);
}

int
hasher_new(struct hasher **out, int64_t size, struct err *err)
{
	struct hasher *h = xcalloc(1, sizeof(*h));
	int rc;

	*out = NULL;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->more, NULL);
	pthread_cond_init(&h->less, NULL);
	h->state = digest_state_new();
	h->memory = aligned_alloc(4096, (size_t)HASHER_GRANULES * VERITY_GRANULE);
	rc = h->memory == NULL ? -ENOMEM : 0;
	if (rc == 0 && !verity_shape_init(&h->shape, size))
		rc = -EINVAL;
	if (rc == 0)
		rc = verity_builder_new(&h->builder, size);
	if (rc == 0)
		rc = start_threads(h);
	if (rc != 0) {
		release(h);
		errno = -rc;
		return err_set(err, errno, "cannot hash %lld bytes: %m", (long long)size);
	}
	*out = h;
	return 0;
}

void
hasher_free(struct hasher *h)
{
	if (h == NULL)
		return;
	stop(h);
	pthread_join(h->stream, NULL);
	pthread_join(h->tree, NULL);
	release(h);
}

void *
hasher_buffer(struct hasher *h, size_t *room)
{
	void *buffer;

	pthread_mutex_lock(&h->lock);
	*room = (size_t)rest_of_granule(h, h->pushed);
	while (*room > 0 && h->pushed / VERITY_GRANULE - h->finished >= HASHER_GRANULES) {
		if (can_claim(h))
			hash_granule(h);
		else
			pthread_cond_wait(&h->less, &h->lock);
	}
	buffer = *room > 0 ? place(h, h->pushed) : NULL;
	pthread_mutex_unlock(&h->lock);
	return buffer;
}

void
hasher_push(struct hasher *h, size_t len)
{
	pthread_mutex_lock(&h->lock);
	assert((int64_t)len <= rest_of_granule(h, h->pushed));
	h->pushed += (int64_t)len;
	/* Both threads wait on it, and a piece of a granule is work for one of them alone. */
	pthread_cond_broadcast(&h->more);
	pthread_mutex_unlock(&h->lock);
}

/* Helps, as long as there is a granule that nobody has begun. */
static void
wait_for_all(struct hasher *h)
{
	pthread_mutex_lock(&h->lock);
	while (h->streamed < h->pushed || can_claim(h) || h->finished < h->claimed) {
		if (can_claim(h))
			hash_granule(h);
		else
			pthread_cond_wait(&h->less, &h->lock);
	}
	pthread_mutex_unlock(&h->lock);
}

void
hasher_reset(struct hasher *h)
{
	wait_for_all(h);
	pthread_mutex_lock(&h->lock);
	h->pushed = h->streamed = h->claimed = h->finished = 0;
	digest_state_reset(h->state);
	pthread_mutex_unlock(&h->lock);
}

void
hasher_end(struct hasher *h, struct digest *whole, struct digest *verity)
{
	wait_for_all(h);
	assert(h->pushed == h->shape.size);
	digest_state_end(h->state, whole);
	verity_builder_end(h->builder, verity);
}

const void *
hasher_prefix(const struct hasher *h, size_t *len)
{
	return verity_builder_prefix(h->builder, len);
}
