/*
 * errand.c - errands, and the thread that gives up those that take too long.
 *
 *   MADE      in the disk's queue, or go() is being called
 *   CLAIMED   gone from the list: go() answers
 *   OVER      being given up: errand_claim() waits until that is done, so that arg stays until
 *             then.  Afterwards the turn is cancelled and arg dropped; or go() has begun, and is
 *             told no
 *
 * Whoever takes an errand off the list, or says that it is over, under the lock, has the right to
 * its request.  As in blobread.c an errand is named by its number, and the order of locks is
 * request -> ours -> the session's and the disk's.
 */
#define FUSE_USE_VERSION 312

#include "config.h"
#include "fs/errand.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include <fuse_lowlevel.h>

#include "core/buf.h"
#include "core/io.h"
#include "core/thread.h"
#include "fs/context.h"
#include "fs/disk.h"

enum { INTERRUPT_MS = 500 };	/* as in blobread.c */

struct errand {
	struct errand *next;
	struct turn turn;
	const struct errand_ops *ops;
	void *arg;
	bool interrupted, over;
	long long deadline;	/* monotonic ms */
};

struct errands {
	pthread_mutex_t lock;		/* protects all below */
	pthread_cond_t wake;		/* a deadline has moved, or the end; monotonic clock */
	pthread_cond_t gone;		/* one that was over has left the list */
	pthread_t thread;
	struct disk *disk;
	struct errand *list;
	uint64_t last_number;
	int64_t timeout, n;
	bool ending;
};

/* ---- the list; the lock is held -------------------------------------------------------------- */

static struct errand **
find(struct errands *e, uint64_t number)
{
	struct errand **p = &e->list;

	while (*p != NULL && (*p)->turn.number != number)
		p = &(*p)->next;
	return p;
}

/* It is freed. */
static void
take(struct errands *e, struct errand **p)
{
	struct errand *x = *p;

	*p = x->next;
	e->n--;
	free(x);
}

/* One whose time is over, or NULL; *next: the earliest deadline, 0: none. */
static struct errand *
find_overdue(struct errands *e, long long now, long long *next)
{
	*next = 0;
	for (struct errand *x = e->list; x != NULL; x = x->next) {
		if (x->over)
			continue;
		if (e->ending || x->deadline <= now)
			return x;
		if (*next == 0 || x->deadline < *next)
			*next = x->deadline;
	}
	return NULL;
}

/* The lock is let go meanwhile. */
static void
give_up(struct errands *e, struct errand *x, int errnum)
{
	if (x->interrupted && errnum == ETIMEDOUT)
		errnum = EINTR;
	x->over = true;
	pthread_mutex_unlock(&e->lock);
	x->ops->give_up(x->arg, errnum);
	if (disk_cancel(e->disk, &x->turn))
		x->ops->drop(x->arg);
	pthread_mutex_lock(&e->lock);
	take(e, find(e, x->turn.number));
	pthread_cond_broadcast(&e->gone);
}

/* ---- deadlines ------------------------------------------------------------------------------- */

static void *
watch(void *arg)
{
	struct errands *e = arg;

	prctl(PR_SET_NAME, "errands");
	pthread_mutex_lock(&e->lock);
	while (!e->ending) {
		long long next;
		struct errand *overdue = find_overdue(e, io_monotonic_ms(), &next);
		struct timespec until = { .tv_sec = next / 1000, .tv_nsec = next % 1000 * 1000000 };

		if (overdue != NULL)
			give_up(e, overdue, ETIMEDOUT);
		else if (next == 0)
			pthread_cond_wait(&e->wake, &e->lock);
		else
			pthread_cond_timedwait(&e->wake, &e->lock, &until);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* The lock is held. */
static void
interrupt(struct errands *e, struct errand *x)
{
	long long ends_at = io_monotonic_ms() + INTERRUPT_MS;

	x->interrupted = true;
	if (ends_at < x->deadline)
		x->deadline = ends_at;
	pthread_cond_signal(&e->wake);
}

static void
on_interrupt(fuse_req_t req, void *data)
{
	const struct fs_context *fs = fuse_req_userdata(req);
	struct errands *e = fs->errands;
	struct errand *x;

	pthread_mutex_lock(&e->lock);
	x = *find(e, (uint64_t)(uintptr_t)data);
	if (x != NULL && !x->interrupted)
		interrupt(e, x);
	pthread_mutex_unlock(&e->lock);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

struct errands *
errands_new(struct disk *disk, int64_t timeout)
{
	struct errands *e = xcalloc(1, sizeof(*e));
	pthread_condattr_t attr;

	e->disk = disk;
	e->timeout = timeout;
	pthread_mutex_init(&e->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&e->gone, NULL);
	/* Without it requests could wait for ever. */
	thread_start_or_end(&e->thread, watch, e, "the deadlines of requests");
	return e;
}

void
errands_set_timeout(struct errands *e, int64_t timeout)
{
	pthread_mutex_lock(&e->lock);
	e->timeout = timeout;
	pthread_mutex_unlock(&e->lock);
}

void
errands_end(struct errands *e)
{
	struct errand *x;
	long long next;

	pthread_mutex_lock(&e->lock);
	e->ending = true;
	pthread_cond_signal(&e->wake);
	while ((x = find_overdue(e, 0, &next)) != NULL)
		give_up(e, x, ENOTCONN);
	pthread_mutex_unlock(&e->lock);
}

void
errands_free(struct errands *e)
{
	if (e == NULL)
		return;
	errands_end(e);
	pthread_join(e->thread, NULL);
	pthread_cond_destroy(&e->gone);
	pthread_cond_destroy(&e->wake);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

int64_t
errands_count(struct errands *e)
{
	int64_t n;

	pthread_mutex_lock(&e->lock);
	n = e->n;
	pthread_mutex_unlock(&e->lock);
	return n;
}

/* ---- errands --------------------------------------------------------------------------------- */

static uint64_t
new_number(struct errands *e)
{
	uint64_t number;

	pthread_mutex_lock(&e->lock);
	number = ++e->last_number;
	pthread_mutex_unlock(&e->lock);
	return number;
}

/* The lock is held.  True: this thread has the place, and the errand is to be done at once. */
static bool
add(struct errands *e, struct errand *x)
{
	x->deadline = io_monotonic_ms() + e->timeout * 1000;
	x->next = e->list;
	e->list = x;
	e->n++;
	pthread_cond_signal(&e->wake);
	if (disk_enter(e->disk))
		return true;
	disk_queue(e->disk, &x->turn);
	return false;
}

void
errands_run(struct errands *e, struct fuse_req *req, const struct errand_ops *ops, void *arg)
{
	struct errand *x = xcalloc(1, sizeof(*x));
	uint64_t number = new_number(e);
	bool inside = false, ending;

	x->ops = ops;
	x->arg = x->turn.arg = arg;
	x->turn.run = ops->go;
	x->turn.number = number;
	if (req != NULL)
		fuse_req_interrupt_func(req, on_interrupt, (void *)(uintptr_t)number);
	pthread_mutex_lock(&e->lock);
	ending = e->ending;
	if (!ending)
		inside = add(e, x);
	/* It may have come before there was something to find. */
	if (!ending && req != NULL && fuse_req_interrupted(req))
		interrupt(e, x);
	pthread_mutex_unlock(&e->lock);
	if (inside) {
		ops->go(arg, number);
		disk_leave(e->disk);
	}
	if (!ending)
		return;
	ops->give_up(arg, ENOTCONN);
	ops->drop(arg);
	free(x);
}

bool
errand_claim(struct errands *e, uint64_t number)
{
	struct errand **p;
	bool mine;

	pthread_mutex_lock(&e->lock);
	while (p = find(e, number), *p != NULL && (*p)->over)
		pthread_cond_wait(&e->gone, &e->lock);
	mine = *p != NULL;
	if (mine)
		take(e, p);
	pthread_mutex_unlock(&e->lock);
	return mine;
}
