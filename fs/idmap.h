/*
 * idmap.h - a hash table from 64-bit numbers to pointers.
 *
 * Keys are not 0.  The values are the caller's.  No lock of its own.
 */
#ifndef VMI_IDMAP_H
#define VMI_IDMAP_H

#include <stddef.h>
#include <stdint.h>

struct idmap {
	struct idmap_slot {
		uint64_t key;	/* 0: free */
		void *value;
	} *slots;
	size_t n_slots;		/* 0 or a power of two */
	size_t n_used;
};

void idmap_init(struct idmap *m);
void idmap_release(struct idmap *m);
void *idmap_get(const struct idmap *m, uint64_t key);		/* NULL if absent */
void idmap_set(struct idmap *m, uint64_t key, void *value);	/* replaces; value is not NULL */
void *idmap_remove(struct idmap *m, uint64_t key);		/* what was there, or NULL */

#endif
