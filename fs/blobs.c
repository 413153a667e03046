/*
 * All blobs of a mount: made, counted, timed out, and let go.
 */
#define FUSE_USE_VERSION 312

#include "config.h"
#include "fs/blob.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "core/buf.h"
#include "core/io.h"
#include "core/thread.h"
#include "fs/blobtable.h"

/* ---- counting ------------------------------------------------------------------------------- */

bool
blob_is_open(struct blobs *b, const struct digest *d)
{
	bool is_open;

	pthread_mutex_lock(&b->lock);
	is_open = blobtable_first(b, d) != NULL;
	pthread_mutex_unlock(&b->lock);
	return is_open;
}

int64_t
blobs_parked(struct blobs *b)
{
	int64_t n;

	pthread_mutex_lock(&b->lock);
	n = b->n_parked - b->n_at_disk;
	pthread_mutex_unlock(&b->lock);
	return n;
}

int64_t
blobs_at_disk(struct blobs *b)
{
	int64_t n;

	pthread_mutex_lock(&b->lock);
	n = b->n_at_disk;
	pthread_mutex_unlock(&b->lock);
	return n;
}

int64_t
blobs_open(struct blobs *b)
{
	int64_t n;

	pthread_mutex_lock(&b->lock);
	n = b->n_open;
	pthread_mutex_unlock(&b->lock);
	return n;
}

/* ---- deadlines ------------------------------------------------------------------------------ */

static void *
watch_deadlines(void *arg)
{
	struct blobs *b = arg;

	prctl(PR_SET_NAME, "deadline");
	pthread_mutex_lock(&b->lock);
	while (!b->ending) {
		struct parked *overdue = blobtable_take_overdue(b, io_monotonic_ms());
		struct timespec until = { .tv_sec = b->next_deadline / 1000,
					  .tv_nsec = b->next_deadline % 1000 * 1000000 };

		if (overdue != NULL) {
			pthread_mutex_unlock(&b->lock);
			blob_fail_overdue(overdue);
			pthread_mutex_lock(&b->lock);
		} else if (b->next_deadline == 0) {
			pthread_cond_wait(&b->wake, &b->lock);
		} else {
			pthread_cond_timedwait(&b->wake, &b->lock, &until);
		}
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

/* ---- beginning and end ---------------------------------------------------------------------- */

struct blobs *
blobs_new(struct store *store, struct disk *disk, int64_t read_timeout, int64_t block_timeout)
{
	struct blobs *b = xcalloc(1, sizeof(*b));
	pthread_condattr_t attr;

	b->store = store;
	b->disk = disk;
	b->read_timeout = read_timeout;
	b->block_timeout = block_timeout;
	pthread_mutex_init(&b->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&b->wake, &attr);
	pthread_condattr_destroy(&attr);
	/* Without it reads could wait for ever. */
	thread_start_or_end(&b->thread, watch_deadlines, b, "the deadlines of reads");
	return b;
}

void
blobs_set_engine(struct blobs *b, struct engine *engine)
{
	b->engine = engine;
}

void
blobs_set_handles(struct blobs *b, struct handles *handles)
{
	b->handles = handles;
}

void
blobs_set_timeouts(struct blobs *b, int64_t read_timeout, int64_t block_timeout)
{
	pthread_mutex_lock(&b->lock);
	b->read_timeout = read_timeout;
	b->block_timeout = block_timeout;
	pthread_mutex_unlock(&b->lock);
}

void
blobs_end(struct blobs *b)
{
	struct parked *all = NULL;

	pthread_mutex_lock(&b->lock);
	b->ending = true;
	pthread_cond_signal(&b->wake);
	for (size_t i = 0; i < BLOB_BUCKETS; i++)
		for (struct blob *blob = b->by_object[i], *next; blob != NULL; blob = next) {
			next = blob->next;
			blobtable_take_all(b, blob, &all);
			blobtable_collect(b, blob);
		}
	pthread_mutex_unlock(&b->lock);
	blob_fail_list(all, ENOTCONN);
}

void
blobs_free(struct blobs *b)
{
	if (b == NULL)
		return;
	blobs_end(b);
	pthread_join(b->thread, NULL);
	for (size_t i = 0; i < BLOB_BUCKETS; i++)
		while (b->by_object[i] != NULL) {
			struct blob *blob = b->by_object[i];

			blob->opens = 0;
			blob->n_again = 0;
			blobtable_collect(b, blob);
		}
	while (b->spare != NULL) {
		struct spare_buf *spare = b->spare;

		b->spare = spare->next;
		readbuf_release(&spare->buf);
		free(spare);
	}
	pthread_cond_destroy(&b->wake);
	pthread_mutex_destroy(&b->lock);
	free(b);
}
