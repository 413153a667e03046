/*
 * disk.c - places in the store, and the queue for them.
 *
 * A turn is taken off the queue together with a copy of what it says, under the lock.  From then on
 * its memory is its owner's again: a turn can be given up, and freed, while what it said is just
 * being done, which finds out by its number that nobody wants it any more.
 *
 * n_inside counts turns and callers of disk_enter() alike and never exceeds n.
 */
#include "config.h"
#include "fs/disk.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/thread.h"

enum { OWN_THREADS = 2 };

struct disk {
	pthread_mutex_t lock;		/* protects all below */
	pthread_cond_t due;		/* a turn was queued, or a place is free, or stop */
	struct turn *first, **last;
	unsigned n_places, n_inside;
	int64_t n_waiting;
	bool inline_places, stop;
	pthread_t threads[OWN_THREADS];
	int n_threads;
};

/* ---- the queue; the lock is held ------------------------------------------------------------- */

static void
append(struct disk *d, struct turn *turn)
{
	assert(turn->link == NULL);
	turn->next = NULL;
	turn->link = d->last;
	*d->last = turn;
	d->last = &turn->next;
	d->n_waiting++;
}

static void
unlink_turn(struct disk *d, struct turn *turn)
{
	*turn->link = turn->next;
	if (turn->next != NULL)
		turn->next->link = turn->link;
	else
		d->last = turn->link;
	turn->link = NULL;
	d->n_waiting--;
}

/* The lock is let go meanwhile. */
static void
run_first(struct disk *d)
{
	struct turn *turn = d->first, copy = *turn;

	unlink_turn(d, turn);
	pthread_mutex_unlock(&d->lock);
	copy.run(copy.arg, copy.number);
	pthread_mutex_lock(&d->lock);
}

/* ---- threads of our own ---------------------------------------------------------------------- */

static void *
disk_main(void *arg)
{
	struct disk *d = arg;

	prctl(PR_SET_NAME, "disk");
	pthread_mutex_lock(&d->lock);
	while (!d->stop) {
		if (d->first == NULL || d->n_inside == d->n_places) {
			pthread_cond_wait(&d->due, &d->lock);
			continue;
		}
		d->n_inside++;
		run_first(d);
		d->n_inside--;
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* One there must be, or what is queued would stay there. */
static void
start_threads(struct disk *d)
{
	thread_start_or_end(&d->threads[d->n_threads++], disk_main, d, "reading the store");
	while (d->n_threads < OWN_THREADS &&
	       thread_start(&d->threads[d->n_threads], disk_main, d) == 0)
		d->n_threads++;
}

struct disk *
disk_new(unsigned n, bool inline_places)
{
	struct disk *d = xcalloc(1, sizeof(*d));

	assert(n > 0);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->due, NULL);
	d->last = &d->first;
	d->n_places = n;
	d->inline_places = inline_places;
	start_threads(d);
	return d;
}

void
disk_stop(struct disk *d)
{
	bool before;

	pthread_mutex_lock(&d->lock);
	before = d->stop;
	d->stop = true;
	pthread_cond_broadcast(&d->due);
	pthread_mutex_unlock(&d->lock);
	for (int i = 0; i < d->n_threads && !before; i++)
		pthread_join(d->threads[i], NULL);
}

void
disk_free(struct disk *d)
{
	if (d == NULL)
		return;
	disk_stop(d);
	pthread_mutex_lock(&d->lock);
	while (d->first != NULL)
		run_first(d);
	pthread_mutex_unlock(&d->lock);
	assert(d->n_inside == 0);
	pthread_cond_destroy(&d->due);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* ---- any thread ------------------------------------------------------------------------------ */

bool
disk_enter(struct disk *d)
{
	bool entered;

	pthread_mutex_lock(&d->lock);
	entered = d->inline_places && d->first == NULL && d->n_inside < d->n_places;
	d->n_inside += entered;
	pthread_mutex_unlock(&d->lock);
	return entered;
}

void
disk_leave(struct disk *d)
{
	pthread_mutex_lock(&d->lock);
	while (d->first != NULL && !d->stop)
		run_first(d);
	d->n_inside--;
	pthread_mutex_unlock(&d->lock);
}

void
disk_queue(struct disk *d, struct turn *turn)
{
	pthread_mutex_lock(&d->lock);
	append(d, turn);
	if (d->n_inside < d->n_places)
		pthread_cond_signal(&d->due);
	pthread_mutex_unlock(&d->lock);
}

bool
disk_cancel(struct disk *d, struct turn *turn)
{
	bool waits;

	pthread_mutex_lock(&d->lock);
	waits = turn->link != NULL;
	if (waits)
		unlink_turn(d, turn);
	pthread_mutex_unlock(&d->lock);
	return waits;
}

/* ---- what nobody waits for ------------------------------------------------------------------- */

struct chore {
	struct turn turn;
	void (*fn)(void *arg);
	void *arg;
};

static void
run_chore(void *arg, uint64_t number)
{
	struct chore *chore = arg;

	(void)number;
	chore->fn(chore->arg);
	free(chore);
}

void
disk_later(struct disk *d, void (*fn)(void *arg), void *arg)
{
	struct chore *chore = xcalloc(1, sizeof(*chore));

	chore->turn.run = run_chore;
	chore->turn.arg = chore;
	chore->fn = fn;
	chore->arg = arg;
	disk_queue(d, &chore->turn);
}

static void
close_one(void *arg)
{
	close_keep_errno((int)(intptr_t)arg);
}

void
disk_close_later(struct disk *d, int fd)
{
	if (fd >= 0)
		disk_later(d, close_one, (void *)(intptr_t)fd);
}
