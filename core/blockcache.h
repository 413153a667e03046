/*
 * blockcache.h - the one cache of verified tree blocks, for all trees (vtree.h).
 *
 * VTREE_CACHE_BYTES; the block that was not used for longest goes.  Any thread; the lock is held
 * for a copy of at most one block, never over hashing or I/O.
 */
#ifndef VMI_BLOCKCACHE_H
#define VMI_BLOCKCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "verity.h"

struct blockcache_key {
	uint64_t tree;			/* a number that no other tree ever had */
	int64_t index;			/* of the block in its level */
	int level;
};

/* Copies len bytes at off of the block out; false: it is not here. */
bool blockcache_get(const struct blockcache_key *key, size_t off, void *out, size_t len);

void blockcache_put(const struct blockcache_key *key, const unsigned char block[VERITY_BLOCK]);

/* Forgets all blocks of a tree. */
void blockcache_drop(uint64_t tree);

#endif
