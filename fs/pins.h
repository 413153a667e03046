/*
 * pins.h - what the kernel still knows: records that must be found as long as it has a node of
 * them.
 *
 * Every lookup of a node whose content comes from one version of a record counts one pin; FORGET
 * takes the counts back.  A replaced record is found by (class, row, rev) until its count is 0:
 * a reader of an old version reads it to its end.  Any thread.
 */
#ifndef VMI_PINS_H
#define VMI_PINS_H

#include <stddef.h>
#include <stdint.h>
#include "fs/record.h"

struct pins;

struct pins *pins_new(void);
void pins_free(struct pins *p);

/* rev is the node's (NODE_REV_MASK applied, 0 for objects). */
void pins_add(struct pins *p, const struct record *r, uint64_t rev);
void pins_drop(struct pins *p, enum record_class class, uint64_t row, uint64_t rev, uint64_t n);

/* A new reference, or NULL. */
const struct record *pins_find(struct pins *p, enum record_class class, uint64_t row,
			       uint64_t rev);

/*
 * After a change of trees: what is pinned at no rev (0) may as well be the newest version that
 * find() gives (borrowed, NULL if there is none), so that the old one can go.
 */
void pins_renew(struct pins *p,
		const struct record *(*find)(void *arg, enum record_class class, uint64_t row),
		void *arg);

#endif
