/*
 * A ring with two counters that only grow:
 *
 *	hashed <= pushed <= hashed + HASHER_CHUNKS
 *
 * Chunk n lies in slot n % HASHER_CHUNKS.  Slots [hashed, pushed) belong to the hash thread and
 * may be read by the producer; the slot of chunk `pushed` belongs to the producer as soon as
 * pushed - hashed < HASHER_CHUNKS.  The digest state belongs to the hash thread while pushed >
 * hashed and to the producer otherwise; the lock orders the two.
 */
#include "config.h"
#include "hasher.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "buf.h"
#include "thread.h"

struct hasher {
	unsigned char *memory;		/* HASHER_CHUNKS buffers */
	struct digest_state *state;
	pthread_t thread;

	pthread_mutex_t lock;		/* protects what follows */
	pthread_cond_t pushed_more;
	pthread_cond_t hashed_more;
	size_t len[HASHER_CHUNKS];	/* bytes in each slot */
	uint64_t pushed, hashed;	/* chunks */
	bool stop;
};

static unsigned char *
slot(struct hasher *h, uint64_t n)
{
	return h->memory + (n % HASHER_CHUNKS) * HASHER_CHUNK;
}

static void *
hash_main(void *arg)
{
	struct hasher *h = arg;

	prctl(PR_SET_NAME, "intake-hash");
	pthread_mutex_lock(&h->lock);
	for (;;) {
		size_t len;

		while (h->pushed == h->hashed && !h->stop)
			pthread_cond_wait(&h->pushed_more, &h->lock);
		if (h->stop)
			break;
		len = h->len[h->hashed % HASHER_CHUNKS];
		pthread_mutex_unlock(&h->lock);
		digest_state_add(h->state, slot(h, h->hashed), len);
		pthread_mutex_lock(&h->lock);
		h->hashed++;
		pthread_cond_signal(&h->hashed_more);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

int
hasher_new(struct hasher **out, struct err *err)
{
	struct hasher *h = xcalloc(1, sizeof(*h));
	int rc;

	*out = NULL;
	h->memory = aligned_alloc(4096, (size_t)HASHER_CHUNKS * HASHER_CHUNK);
	if (h->memory == NULL) {
		free(h);
		return err_set(err, ENOMEM, "no memory for the buffers of a transfer");
	}
	h->state = digest_state_new();
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->pushed_more, NULL);
	pthread_cond_init(&h->hashed_more, NULL);
	rc = thread_start(&h->thread, hash_main, h);
	if (rc == 0) {
		*out = h;
		return 0;
	}
	digest_state_free(h->state);
	free(h->memory);
	free(h);
	errno = -rc;
	return err_set(err, errno, "cannot start a thread: %m");
}

void
hasher_free(struct hasher *h)
{
	if (h == NULL)
		return;
	pthread_mutex_lock(&h->lock);
	h->stop = true;
	pthread_cond_signal(&h->pushed_more);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	pthread_cond_destroy(&h->hashed_more);
	pthread_cond_destroy(&h->pushed_more);
	pthread_mutex_destroy(&h->lock);
	digest_state_free(h->state);
	free(h->memory);
	free(h);
}

void *
hasher_buffer(struct hasher *h)
{
	void *buffer;

	pthread_mutex_lock(&h->lock);
	while (h->pushed - h->hashed >= HASHER_CHUNKS)
		pthread_cond_wait(&h->hashed_more, &h->lock);
	buffer = slot(h, h->pushed);
	pthread_mutex_unlock(&h->lock);
	return buffer;
}

void
hasher_push(struct hasher *h, size_t len)
{
	assert(len <= HASHER_CHUNK);
	pthread_mutex_lock(&h->lock);
	assert(h->pushed - h->hashed < HASHER_CHUNKS);
	h->len[h->pushed % HASHER_CHUNKS] = len;
	h->pushed++;
	pthread_cond_signal(&h->pushed_more);
	pthread_mutex_unlock(&h->lock);
}

static void
wait_for_all(struct hasher *h)
{
	pthread_mutex_lock(&h->lock);
	while (h->hashed < h->pushed)
		pthread_cond_wait(&h->hashed_more, &h->lock);
	pthread_mutex_unlock(&h->lock);
}

void
hasher_reset(struct hasher *h)
{
	wait_for_all(h);
	digest_state_reset(h->state);
}

void
hasher_end(struct hasher *h, struct digest *d)
{
	wait_for_all(h);
	digest_state_end(h->state, d);
}
