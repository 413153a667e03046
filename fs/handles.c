/*
 * The table of open objects.
 *
 * The order of writes: a slot is filled before its count makes it one, and a request's delta is
 * written after the count that it speaks of.  Between the two lies the only moment in which a kill
 * has an open counted once too often: such an object is kept until the mount ends.
 */
#include "config.h"
#include "fs/handles.h"

#include <string.h>

#include "core/log.h"

enum { PROBES = 64 };

#define RESENT (1ULL << 63)		/* the kernel's mark of a request that was sent before */

enum { APART = 2 };			/* no request's: nothing is counted */

/*
 * Of the request under way.  at: NULL: none; repeats: what was counted for it before: -1, 0, 1; or
 * APART.
 */
static _Thread_local struct handles_note under_way;

/*
 * A worker more has gone.  What its request has changed stays where it is until that comes again:
 * we may be killed before, and then the next one needs it.
 */
static void
age(struct shared_request *r)
{
	if (r->delta == 0)
		r->unique = 0;
	if (r->unique != 0 && r->age < INT32_MAX)
		r->age++;
}

void
handles_init(struct handles *h, struct shared *shared)
{
	memset(h, 0, sizeof(*h));
	h->shared = shared;
	pthread_mutex_init(&h->lock, NULL);
	for (size_t i = 0; shared != NULL && i < SHARED_REQUESTS; i++)
		age(&shared->requests[i]);
}

/* ---- requests ------------------------------------------------------------------------------- */

/* The lock is held.  What the request changed when it came to a worker before us; or NULL. */
static struct shared_request *
find_before(struct handles *h, uint64_t unique)
{
	for (size_t i = 0; i < SHARED_REQUESTS; i++) {
		struct shared_request *r = &h->shared->requests[i];

		if (r->unique != 0 && r->age > 0 && (r->unique & ~RESENT) == (unique & ~RESENT))
			return r;
	}
	return NULL;
}

/*
 * The lock is held.  A free one; else the oldest of workers before us: what was answered just
 * before a kill never comes again, and is not known by anything else.
 */
static struct shared_request *
find_room(struct handles *h)
{
	struct shared_request *oldest = NULL;

	for (size_t i = 0; i < SHARED_REQUESTS; i++) {
		struct shared_request *r = &h->shared->requests[i];

		if (r->unique == 0)
			return r;
		if (r->age > 0 && (oldest == NULL || r->age > oldest->age))
			oldest = r;
	}
	return oldest;
}

/* The lock is held. */
static struct shared_request *
note_request(struct handles *h, uint64_t unique)
{
	struct shared_request *r = find_room(h);

	if (r == NULL)
		return NULL;
	r->unique = 0;
	atomic_signal_fence(memory_order_release);
	r->delta = 0;
	r->age = 0;
	atomic_signal_fence(memory_order_release);
	r->unique = unique;
	return r;
}

void
handles_begin(struct handles *h, uint64_t unique)
{
	struct shared_request *at;

	if (h == NULL || h->shared == NULL || unique == 0)
		return;
	pthread_mutex_lock(&h->lock);
	at = (unique & RESENT) != 0 ? find_before(h, unique) : NULL;
	under_way.repeats = at != NULL ? at->delta : 0;
	if (at != NULL)
		at->age = 0;
	under_way.at = at != NULL ? at : note_request(h, unique);
	pthread_mutex_unlock(&h->lock);
}

void
handles_end(struct handles *h)
{
	if (h == NULL || h->shared == NULL)
		return;
	pthread_mutex_lock(&h->lock);
	if (under_way.at != NULL)
		under_way.at->unique = 0;
	under_way.at = NULL;
	under_way.repeats = 0;
	pthread_mutex_unlock(&h->lock);
}

struct handles_note
handles_defer(void)
{
	struct handles_note note = under_way;

	under_way = (struct handles_note){ NULL, 0 };
	return note;
}

void
handles_resume(struct handles_note note)
{
	under_way = note;
}

struct handles_note
handles_apart(void)
{
	struct handles_note note = under_way;

	under_way = (struct handles_note){ NULL, APART };
	return note;
}

/* True: this was counted when the request came for the first time. */
static bool
is_repeated(int delta)
{
	if (under_way.repeats != delta)
		return false;
	under_way.repeats = 0;
	return true;
}

static void
note_delta(int delta)
{
	if (under_way.at != NULL)
		under_way.at->delta += delta;
}

/* ---- the table ------------------------------------------------------------------------------ */

/*
 * The lock is held.  An object is in one of the PROBES slots from its number on: numbers are rows
 * of one table, so that neighbours are neighbours here.
 */
static struct shared_handle *
slot_of(struct handles *h, uint64_t object, size_t i)
{
	return &h->shared->handles[(object + i) % SHARED_HANDLES];
}

static struct shared_handle *
find(struct handles *h, uint64_t object)
{
	for (size_t i = 0; i < PROBES; i++) {
		struct shared_handle *at = slot_of(h, object, i);

		if (at->opens > 0 && at->object == object)
			return at;
	}
	return NULL;
}

static struct shared_handle *
find_free(struct handles *h, uint64_t object)
{
	for (size_t i = 0; i < PROBES; i++)
		if (slot_of(h, object, i)->opens == 0)
			return slot_of(h, object, i);
	return NULL;
}

static void
say_full(struct handles *h)
{
	if (!h->said_full)
		log_warning("so many images are open that some will not outlive the worker");
	h->said_full = true;
}

bool
handles_opened(struct handles *h, uint64_t object, const struct digest *d, int64_t size)
{
	struct shared_handle *at;

	if (h == NULL || h->shared == NULL || under_way.repeats == APART)
		return true;
	if (is_repeated(1))
		return false;
	pthread_mutex_lock(&h->lock);
	at = find(h, object);
	if (at == NULL && (at = find_free(h, object)) != NULL) {
		at->object = object;
		at->digest = *d;
		at->size = size;
		atomic_signal_fence(memory_order_release);
	}
	if (at != NULL)
		at->opens++;
	else
		say_full(h);
	note_delta(1);
	pthread_mutex_unlock(&h->lock);
	return true;
}

bool
handles_closed(struct handles *h, uint64_t object)
{
	struct shared_handle *at;

	if (h == NULL || h->shared == NULL || under_way.repeats == APART)
		return true;
	if (is_repeated(-1))
		return false;
	pthread_mutex_lock(&h->lock);
	at = find(h, object);
	if (at != NULL)
		at->opens--;
	note_delta(-1);
	pthread_mutex_unlock(&h->lock);
	return true;
}

void
handles_each(struct handles *h,
	     void (*fn)(void *arg, const struct shared_handle *handle), void *arg)
{
	for (size_t i = 0; h->shared != NULL && i < SHARED_HANDLES; i++) {
		struct shared_handle copy = h->shared->handles[i];

		if (copy.opens > 0)
			fn(arg, &copy);
	}
}
