/*
 * A fixed number of slots, in memory that the kernel gives when it is touched.  A slot is free, or
 * holds a block; then it is in the list of its hash bucket and in the list of use.  Slots and ends
 * of lists are numbers: NONE is no slot, USE is the head of the list of use (a ring: older than it
 * is the newest block, newer the oldest).
 *
 *	free	next_free
 *	used	next_in_bucket; newer, older
 */
#include "config.h"
#include "blockcache.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "vtree.h"

enum {
	N_SLOTS = VTREE_CACHE_BYTES / VERITY_BLOCK,
	N_BUCKETS = 2 * N_SLOTS,
	USE = N_SLOTS,			/* a slot without a block */
	NONE = N_SLOTS + 1,
};

struct slot {
	struct blockcache_key key;
	uint16_t next;			/* in its bucket, or free */
	uint16_t newer, older;
};

static struct {
	pthread_mutex_t lock;		/* of all that follows */
	unsigned char *blocks;		/* N_SLOTS of them; NULL until the first one comes */
	struct slot slots[N_SLOTS + 1];
	uint16_t buckets[N_BUCKETS];
	uint16_t free;
} cache = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- lists ----------------------------------------------------------------------------------- */

static uint16_t *
bucket_of(const struct blockcache_key *key)
{
	uint64_t h = key->tree * 0x9e3779b97f4a7c15u + (uint64_t)key->index;

	h = (h ^ (uint64_t)key->level << 56) * 0xff51afd7ed558ccdu;
	return &cache.buckets[(h >> 32) % N_BUCKETS];
}

static bool
key_equal(const struct blockcache_key *a, const struct blockcache_key *b)
{
	return a->tree == b->tree && a->index == b->index && a->level == b->level;
}

static uint16_t
find(const struct blockcache_key *key)
{
	uint16_t i = *bucket_of(key);

	while (i != NONE && !key_equal(&cache.slots[i].key, key))
		i = cache.slots[i].next;
	return i;
}

static void
use_remove(uint16_t i)
{
	struct slot *s = &cache.slots[i];

	cache.slots[s->newer].older = s->older;
	cache.slots[s->older].newer = s->newer;
}

static void
use_add_newest(uint16_t i)
{
	struct slot *s = &cache.slots[i], *head = &cache.slots[USE];

	s->newer = USE;
	s->older = head->older;
	cache.slots[head->older].newer = i;
	head->older = i;
}

static void
bucket_remove(uint16_t i)
{
	uint16_t *at = bucket_of(&cache.slots[i].key);

	while (*at != i)
		at = &cache.slots[*at].next;
	*at = cache.slots[i].next;
}

static void
release(uint16_t i)
{
	use_remove(i);
	bucket_remove(i);
	cache.slots[i].next = cache.free;
	cache.free = i;
}

/* The lowest numbers first, so that memory that was touched is used again. */
static bool
prepare(void)
{
	if (cache.blocks != NULL)
		return true;
	cache.blocks = aligned_alloc(VERITY_BLOCK, VTREE_CACHE_BYTES);
	if (cache.blocks == NULL)
		return false;
	for (uint16_t i = 0; i < N_SLOTS; i++)
		cache.slots[i].next = i + 1 < N_SLOTS ? (uint16_t)(i + 1) : (uint16_t)NONE;
	for (size_t i = 0; i < N_BUCKETS; i++)
		cache.buckets[i] = NONE;
	cache.slots[USE].newer = cache.slots[USE].older = USE;
	cache.free = 0;
	return true;
}

/* ---- what others see ------------------------------------------------------------------------- */

static unsigned char *
block_of(uint16_t i)
{
	return cache.blocks + (size_t)i * VERITY_BLOCK;
}

bool
blockcache_get(const struct blockcache_key *key, size_t off, void *out, size_t len)
{
	uint16_t i = NONE;

	assert(off + len <= VERITY_BLOCK);
	pthread_mutex_lock(&cache.lock);
	if (cache.blocks != NULL)
		i = find(key);
	if (i != NONE) {
		use_remove(i);
		use_add_newest(i);
		memcpy(out, block_of(i) + off, len);
	}
	pthread_mutex_unlock(&cache.lock);
	return i != NONE;
}

/* The lock is held, and the key is not here. */
static void
insert(const struct blockcache_key *key, const unsigned char *block)
{
	uint16_t i, *bucket = bucket_of(key);

	if (cache.free == NONE)
		release(cache.slots[USE].newer);
	i = cache.free;
	cache.free = cache.slots[i].next;
	cache.slots[i].key = *key;
	cache.slots[i].next = *bucket;
	*bucket = i;
	use_add_newest(i);
	memcpy(block_of(i), block, VERITY_BLOCK);
}

void
blockcache_put(const struct blockcache_key *key, const unsigned char block[VERITY_BLOCK])
{
	pthread_mutex_lock(&cache.lock);
	/* Without memory nothing is kept: it is a cache. */
	if (prepare() && find(key) == NONE)
		insert(key, block);
	pthread_mutex_unlock(&cache.lock);
}

void
blockcache_drop(uint64_t tree)
{
	uint16_t i, older;

	pthread_mutex_lock(&cache.lock);
	i = cache.blocks != NULL ? cache.slots[USE].older : USE;
	for (; i != USE; i = older) {
		older = cache.slots[i].older;
		if (cache.slots[i].key.tree == tree)
			release(i);
	}
	pthread_mutex_unlock(&cache.lock);
}
