/*
 * ova.c - the table of indexes.
 *
 * One mutex protects the table and the counts of open members; an index itself is shared by
 * reference and read without it.  changed() is called after the lock was let go.
 */
#include "config.h"
#include "fs/ova.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/limits.h"

_Static_assert(LIMIT_TAR_MEMBERS < 1 << OVA_MEMBER_BITS, "a member fits into its bits");

enum { BUCKETS = 256 };

struct ova {
	struct ova *next;
	const struct ova_index *index;	/* a reference */
	uint64_t users;			/* open members */
	uint64_t used;			/* the table's clock when it was asked for last */
	bool disowned;
};

struct ovas {
	pthread_mutex_t lock;		/* protects all below */
	struct ova *buckets[BUCKETS];
	size_t n;
	uint64_t clock;
	ovas_changed *changed;
	void *arg;
};

/* ---- indexes -------------------------------------------------------------------------------- */

static struct ova_index *
writable(const struct ova_index *x)
{
	union { const struct ova_index *c; struct ova_index *w; } u = { .c = x };

	return u.w;
}

const struct ova_index *
ova_ref(const struct ova_index *x)
{
	atomic_fetch_add_explicit(&writable(x)->refs, 1, memory_order_relaxed);
	return x;
}

void
ova_unref(const struct ova_index *x)
{
	struct ova_index *w = writable(x);

	if (w == NULL || atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) > 1)
		return;
	for (size_t i = 0; i < w->n; i++)
		free(w->members[i].name);
	free(w->members);
	free(w->error);
	free(w);
}

/* FNV-1a. */
static void
mix(uint64_t *h, const void *data, size_t len)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < len; i++)
		*h = (*h ^ bytes[i]) * 0x100000001b3ULL;
}

/* What one worker has opened another one reads: both find the same serial. */
static uint64_t
serial_of(const struct ova_index *x)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	mix(&h, x->digest.bytes, sizeof(x->digest.bytes));
	for (size_t i = 0; i < x->n; i++) {
		const struct tar_member *m = &x->members[i];

		mix(&h, m->name, strlen(m->name) + 1);
		mix(&h, &m->off, sizeof(m->off));
		mix(&h, &m->size, sizeof(m->size));
	}
	h = (h ^ h >> 32) & OVA_SERIAL_MASK;
	return h != 0 ? h : 1;
}

static struct ova_index *
index_new(const struct digest *d, struct tarindex *tar, const char *why)
{
	struct ova_index *x = xcalloc(1, sizeof(*x));

	atomic_init(&x->refs, 1);
	x->digest = *d;
	x->error = xstrdup(why);
	if (why == NULL) {
		x->members = tar->members;
		x->n = tar->n;
		tar->members = NULL;
		tar->n = 0;
	}
	x->serial = serial_of(x);
	return x;
}

/* ---- the table ------------------------------------------------------------------------------ */

struct ovas *
ovas_new(ovas_changed *changed, void *arg)
{
	struct ovas *o = xcalloc(1, sizeof(*o));

	pthread_mutex_init(&o->lock, NULL);
	o->changed = changed;
	o->arg = arg;
	return o;
}

static void
ova_free(struct ova *ova)
{
	ova_unref(ova->index);
	free(ova);
}

void
ovas_free(struct ovas *o)
{
	if (o == NULL)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (o->buckets[i] != NULL) {
			struct ova *ova = o->buckets[i];

			o->buckets[i] = ova->next;
			ova_free(ova);
		}
	pthread_mutex_destroy(&o->lock);
	free(o);
}

/* A digest is as good as random. */
static struct ova **
bucket_of(struct ovas *o, const struct digest *d)
{
	return &o->buckets[d->bytes[0] % BUCKETS];
}

static struct ova *
find(struct ovas *o, const struct digest *d)
{
	struct ova *ova = *bucket_of(o, d);

	while (ova != NULL && !digest_equal(&ova->index->digest, d))
		ova = ova->next;
	if (ova != NULL)
		ova->used = ++o->clock;
	return ova;
}

/* Out of the table; the caller frees it. */
static void
take_out(struct ovas *o, struct ova *ova)
{
	struct ova **p = bucket_of(o, &ova->index->digest);

	while (*p != ova)
		p = &(*p)->next;
	*p = ova->next;
	o->n--;
}

static struct ova *
put_in(struct ovas *o, const struct ova_index *x)
{
	struct ova **bucket = bucket_of(o, &x->digest);
	struct ova *ova = xcalloc(1, sizeof(*ova));

	ova->index = ova_ref(x);
	ova->used = ++o->clock;
	ova->next = *bucket;
	*bucket = ova;
	o->n++;
	return ova;
}

/* When the table is full: what nobody holds, and nobody has asked for longest; or NULL. */
static struct ova *
take_oldest(struct ovas *o)
{
	struct ova *oldest = NULL;

	if (o->n <= LIMIT_OVA_INDEXES)
		return NULL;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct ova *ova = o->buckets[i]; ova != NULL; ova = ova->next)
			if (ova->users == 0 && (oldest == NULL || ova->used < oldest->used))
				oldest = ova;
	if (oldest != NULL)
		take_out(o, oldest);
	return oldest;
}

/* Without the lock.  NULL is fine. */
static void
tell_and_free(struct ovas *o, struct ova *ova)
{
	if (ova == NULL)
		return;
	o->changed(o->arg, &ova->index->digest, ova->disowned);
	ova_free(ova);
}

const struct ova_index *
ovas_find(struct ovas *o, const struct digest *d)
{
	const struct ova_index *x;
	const struct ova *ova;

	pthread_mutex_lock(&o->lock);
	ova = find(o, d);
	x = ova != NULL ? ova_ref(ova->index) : NULL;
	pthread_mutex_unlock(&o->lock);
	return x;
}

bool
ovas_knows(struct ovas *o, const struct digest *d)
{
	bool known;

	pthread_mutex_lock(&o->lock);
	known = find(o, d) != NULL;
	pthread_mutex_unlock(&o->lock);
	return known;
}

void
ovas_add(struct ovas *o, const struct digest *d, struct tarindex *tar, const char *why)
{
	struct ova_index *x = index_new(d, tar, why);
	struct ova *oldest = NULL;
	bool added = false;

	pthread_mutex_lock(&o->lock);
	if (find(o, d) == NULL) {
		put_in(o, x);
		oldest = take_oldest(o);
		added = true;
	}
	pthread_mutex_unlock(&o->lock);
	if (added)
		o->changed(o->arg, d, false);
	tell_and_free(o, oldest);
	ova_unref(x);
}

/* ---- open members --------------------------------------------------------------------------- */

void
ovas_hold(struct ovas *o, const struct ova_index *x)
{
	struct ova *ova;

	pthread_mutex_lock(&o->lock);
	ova = find(o, &x->digest);
	if (ova == NULL)		/* let go of since the caller found it */
		ova = put_in(o, x);
	/* If it was read anew meanwhile, the open member will find that it is another one. */
	if (ova->index->serial == x->serial)
		ova->users++;
	pthread_mutex_unlock(&o->lock);
}

void
ovas_let_go(struct ovas *o, const struct digest *d, uint64_t serial)
{
	struct ova *ova;

	pthread_mutex_lock(&o->lock);
	ova = find(o, d);
	if (ova != NULL && ova->index->serial == serial && ova->users > 0)
		ova->users--;
	pthread_mutex_unlock(&o->lock);
}

int
ovas_held(struct ovas *o, const struct digest *d, uint64_t serial, const struct ova_index **out)
{
	const struct ova_index *x = ovas_find(o, d);

	*out = NULL;
	if (x == NULL)
		return -EAGAIN;
	if (x->serial != serial) {
		ova_unref(x);
		return -ESTALE;
	}
	*out = x;
	return 0;
}

/* ---- what is wanted no longer --------------------------------------------------------------- */

void
ovas_review(struct ovas *o, enum ova_fate (*judge)(void *arg, const struct digest *d), void *arg)
{
	struct ova *gone = NULL;

	pthread_mutex_lock(&o->lock);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct ova *ova = o->buckets[i], *next; ova != NULL; ova = next) {
			enum ova_fate fate = judge(arg, &ova->index->digest);

			next = ova->next;
			if (fate == OVA_KEEP || (fate == OVA_UNUSED && ova->users > 0))
				continue;
			take_out(o, ova);
			ova->disowned = fate == OVA_DISOWNED;
			ova->next = gone;
			gone = ova;
		}
	pthread_mutex_unlock(&o->lock);
	while (gone != NULL) {
		struct ova *ova = gone;

		gone = ova->next;
		tell_and_free(o, ova);
	}
}
