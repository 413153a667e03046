#include "config.h"
#include "granulemap.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 64 };

struct granulemap {
	int64_t n_granules;		/* fixed */
	size_t n_bytes;

	pthread_mutex_t lock;		/* all below */
	pthread_cond_t ended;		/* a landing has */
	struct landing *landings;
	/*
	 * Landings are counted in a few slots: two granules that share one cost a reader another
	 * look at the disk, never a wrong answer.
	 */
	uint32_t n_landed[SLOTS];
	int64_t n_here;			/* bits that are 1 */
	bool changed;			/* since it was last copied */
	unsigned char *bits;		/* lowest of a byte first; 0 beyond n_granules */
};

/* ---- under the lock -------------------------------------------------------------------------- */

static bool
bit(const struct granulemap *m, int64_t g)
{
	return (m->bits[g / 8] >> (g % 8) & 1) != 0;
}

static void
put_bit(struct granulemap *m, int64_t g, bool value)
{
	if (bit(m, g) == value)
		return;
	m->bits[g / 8] = (unsigned char)(m->bits[g / 8] ^ 1U << (g % 8));
	m->n_here += value ? 1 : -1;
	m->changed = true;
}

/* The first granule from g whose bit is value; n_granules if there is none. */
static int64_t
find_bit(const struct granulemap *m, int64_t g, bool value)
{
	const unsigned char none = value ? 0 : 0xff;	/* a byte without such a bit */

	while (g < m->n_granules && bit(m, g) != value) {
		g++;
		while (g % 8 == 0 && g < m->n_granules && m->bits[g / 8] == none)
			g += 8;
	}
	return g < m->n_granules ? g : m->n_granules;
}

static bool
is_landing(const struct granulemap *m, int64_t g)
{
	for (const struct landing *l = m->landings; l != NULL; l = l->next) {
		if (l->g == g)
			return true;
	}
	return false;
}

static uint32_t *
slot(struct granulemap *m, int64_t g)
{
	return &m->n_landed[g % SLOTS];
}

static void
trim(struct granulemap *m)
{
	if (m->n_granules % 8 != 0)
		m->bits[m->n_bytes - 1] &= (unsigned char)((1U << (m->n_granules % 8)) - 1);
}

/* ---- the map --------------------------------------------------------------------------------- */

struct granulemap *
granulemap_new(int64_t n_granules, bool all_here)
{
	struct granulemap *m = xcalloc(1, sizeof(*m));

	m->n_granules = n_granules;
	m->n_bytes = (size_t)((n_granules + 7) / 8);
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->ended, NULL);
	m->bits = xcalloc(m->n_bytes + 1, 1);
	if (all_here) {
		memset(m->bits, 0xff, m->n_bytes);
		trim(m);
		m->n_here = n_granules;
	}
	return m;
}

void
granulemap_free(struct granulemap *m)
{
	if (m == NULL)
		return;
	assert(m->landings == NULL);
	pthread_cond_destroy(&m->ended);
	pthread_mutex_destroy(&m->lock);
	free(m->bits);
	free(m);
}

void
granulemap_load(struct granulemap *m, const void *bytes, size_t n)
{
	pthread_mutex_lock(&m->lock);
	if (n == m->n_bytes && n > 0) {
		memcpy(m->bits, bytes, n);
		trim(m);
		m->n_here = 0;
		for (size_t i = 0; i < n; i++)
			m->n_here += __builtin_popcount(m->bits[i]);
	}
	pthread_mutex_unlock(&m->lock);
}

bool
granulemap_copy(struct granulemap *m, struct buf *out)
{
	bool changed;

	pthread_mutex_lock(&m->lock);
	buf_add(out, m->bits, m->n_bytes);
	changed = m->changed;
	m->changed = false;
	pthread_mutex_unlock(&m->lock);
	return changed;
}

bool
granulemap_has(struct granulemap *m, int64_t g)
{
	bool has;

	pthread_mutex_lock(&m->lock);
	has = bit(m, g);
	pthread_mutex_unlock(&m->lock);
	return has;
}

static void
put(struct granulemap *m, int64_t g, bool value)
{
	pthread_mutex_lock(&m->lock);
	put_bit(m, g, value);
	pthread_mutex_unlock(&m->lock);
}

void
granulemap_set(struct granulemap *m, int64_t g)
{
	put(m, g, true);
}

void
granulemap_clear(struct granulemap *m, int64_t g)
{
	put(m, g, false);
}

int64_t
granulemap_n_missing(struct granulemap *m)
{
	int64_t n;

	pthread_mutex_lock(&m->lock);
	n = m->n_granules - m->n_here;
	pthread_mutex_unlock(&m->lock);
	return n;
}

int64_t
granulemap_missing(struct granulemap *m, int64_t from, int64_t *n)
{
	int64_t first;

	pthread_mutex_lock(&m->lock);
	first = find_bit(m, from, false);
	*n = find_bit(m, first, true) - first;
	pthread_mutex_unlock(&m->lock);
	return *n > 0 ? first : -1;
}

/* ---- landing --------------------------------------------------------------------------------- */

bool
granulemap_begin(struct granulemap *m, struct landing *me)
{
	bool waited = false, begun;

	pthread_mutex_lock(&m->lock);
	while (is_landing(m, me->g)) {
		waited = true;
		pthread_cond_wait(&m->ended, &m->lock);
	}
	begun = !waited || !bit(m, me->g);
	if (begun) {
		me->next = m->landings;
		m->landings = me;
	}
	pthread_mutex_unlock(&m->lock);
	return begun;
}

void
granulemap_end(struct granulemap *m, struct landing *me, bool written)
{
	struct landing **link = &m->landings;

	pthread_mutex_lock(&m->lock);
	while (*link != me)
		link = &(*link)->next;
	*link = me->next;
	put_bit(m, me->g, written);
	++*slot(m, me->g);
	pthread_cond_broadcast(&m->ended);
	pthread_mutex_unlock(&m->lock);
}

uint32_t
granulemap_landings(struct granulemap *m, int64_t g)
{
	uint32_t n;

	pthread_mutex_lock(&m->lock);
	n = *slot(m, g);
	pthread_mutex_unlock(&m->lock);
	return n;
}

bool
granulemap_lose(struct granulemap *m, int64_t g, uint32_t landings)
{
	bool lost;

	pthread_mutex_lock(&m->lock);
	lost = !is_landing(m, g) && *slot(m, g) == landings;
	if (lost)
		put_bit(m, g, false);
	while (is_landing(m, g))
		pthread_cond_wait(&m->ended, &m->lock);
	pthread_mutex_unlock(&m->lock);
	return lost;
}
