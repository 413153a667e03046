/*
 * granulemap.h - which granules of a file are here, and which are being written just now.
 *
 * One bit a granule.  Any thread; no function does I/O, but granulemap_begin() and
 * granulemap_lose() wait for another thread that is writing the same granule.
 */
#ifndef VMI_GRANULEMAP_H
#define VMI_GRANULEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"

struct granulemap;

struct granulemap *granulemap_new(int64_t n_granules, bool all_here);
void granulemap_free(struct granulemap *m);

/* Of n bytes as granulemap_copy() gave it; one of another length is no map, and changes nothing. */
void granulemap_load(struct granulemap *m, const void *bytes, size_t n);
/* Appends it; has it changed since the last call? */
bool granulemap_copy(struct granulemap *m, struct buf *out);

bool granulemap_has(struct granulemap *m, int64_t g);
void granulemap_set(struct granulemap *m, int64_t g);
void granulemap_clear(struct granulemap *m, int64_t g);

int64_t granulemap_n_missing(struct granulemap *m);
/* The first one that is not here, from on; -1: none.  *n: how many follow each other from there. */
int64_t granulemap_missing(struct granulemap *m, int64_t from, int64_t *n);

/* A thread that writes a granule, on its stack. */
struct landing {
	int64_t g;
	struct landing *next;
};

/*
 * Begins to write me->g.  False: another thread was writing it, and has; there is nothing
 * to end.
 */
bool granulemap_begin(struct granulemap *m, struct landing *me);
void granulemap_end(struct granulemap *m, struct landing *me, bool written);

/* How often something was landed where g is counted: differs if g was landed in between. */
uint32_t granulemap_landings(struct granulemap *m, int64_t g);

/*
 * g was found bad; landings was taken before it was read.  False: it was or is being written
 * meanwhile, so that nothing is known of it; that has ended now.  True: it is not here.
 */
bool granulemap_lose(struct granulemap *m, int64_t g, uint32_t landings);

#endif
