/*
 * idmap.c - open addressing with linear probing.
 *
 * Removal moves the following entries of a run back over the hole, so that there are no marks of
 * removed entries and a table that shrank in use answers as fast as a new one.  The table doubles
 * when it is three quarters full and halves when it is one eighth full: after a storm of lookups
 * and forgets it is as small as before.
 */
#include "config.h"
#include "fs/idmap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "core/buf.h"

enum { MIN_SLOTS = 64 };

void
idmap_init(struct idmap *m)
{
	memset(m, 0, sizeof(*m));
}

void
idmap_release(struct idmap *m)
{
	free(m->slots);
	idmap_init(m);
}

/* The place where a key belongs: the multiplier spreads the structured bits of node ids. */
static size_t
home(const struct idmap *m, uint64_t key)
{
	key ^= key >> 32;
	key *= 0x9e3779b97f4a7c15ULL;
	return (size_t)(key >> 20) & (m->n_slots - 1);
}

/* The slot of the key, or the free one where it would go. */
static size_t
probe(const struct idmap *m, uint64_t key)
{
	size_t i = home(m, key);

	while (m->slots[i].key != 0 && m->slots[i].key != key)
		i = (i + 1) & (m->n_slots - 1);
	return i;
}

static void
resize(struct idmap *m, size_t n_slots)
{
	struct idmap_slot *old = m->slots;
	size_t n_old = m->n_slots;

	m->slots = xcalloc(n_slots, sizeof(*m->slots));
	m->n_slots = n_slots;
	for (size_t i = 0; i < n_old; i++)
		if (old[i].key != 0)
			m->slots[probe(m, old[i].key)] = old[i];
	free(old);
}

void *
idmap_get(const struct idmap *m, uint64_t key)
{
	return m->n_slots == 0 ? NULL : m->slots[probe(m, key)].value;
}

void
idmap_set(struct idmap *m, uint64_t key, void *value)
{
	size_t i;

	assert(key != 0 && value != NULL);
	if ((m->n_used + 1) * 4 > m->n_slots * 3)
		resize(m, m->n_slots == 0 ? MIN_SLOTS : m->n_slots * 2);
	i = probe(m, key);
	if (m->slots[i].key == 0)
		m->n_used++;
	m->slots[i] = (struct idmap_slot){ key, value };
}

void *
idmap_remove(struct idmap *m, uint64_t key)
{
	size_t hole, next, mask = m->n_slots - 1;
	void *value;

	if (m->n_slots == 0)
		return NULL;
	hole = probe(m, key);
	value = m->slots[hole].value;
	if (value == NULL)
		return NULL;
	for (next = (hole + 1) & mask; m->slots[next].key != 0; next = (next + 1) & mask) {
		size_t h = home(m, m->slots[next].key);

		/* An entry may move back only as far as its home. */
		if (((next - h) & mask) >= ((next - hole) & mask)) {
			m->slots[hole] = m->slots[next];
			hole = next;
		}
	}
	m->slots[hole] = (struct idmap_slot){ 0, NULL };
	m->n_used--;
	if (m->n_slots > MIN_SLOTS && m->n_used * 8 < m->n_slots)
		resize(m, m->n_slots / 2);
	return value;
}
