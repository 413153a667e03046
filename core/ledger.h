/*
 * ledger.h - how many bytes of the disk each image takes, in memory, so that nobody has to walk the
 * store to know what it holds.
 *
 * An entry is what was measured last of a digest (allocated blocks), and what was promised to a
 * transfer that is to begin.  A promise counts where it is more than what is there.  Not locked:
 * the caller is.
 */
#ifndef VMI_LEDGER_H
#define VMI_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include "digest.h"

struct ledger;

struct ledger_entry {
	bool stored;			/* there is an object */
	int64_t object, partial;	/* bytes, with what lies beside them */
	int64_t promised;		/* of the partial, when it is all here; 0: nothing is */
};

struct ledger_totals {
	int64_t objects, partial;
	int64_t promised;		/* beyond what is there */
	int64_t n_objects;
};

struct ledger *ledger_new(void);
void ledger_free(struct ledger *l);

/* All zero for a digest that takes nothing. */
struct ledger_entry ledger_get(const struct ledger *l, const struct digest *d);
/* An entry that is all zero is forgotten. */
void ledger_set(struct ledger *l, const struct digest *d, const struct ledger_entry *entry);
struct ledger_totals ledger_totals(const struct ledger *l);

/* Calls fn for every digest; it may set entries of the ledger, of the digest it is given alone. */
void ledger_each(struct ledger *l, void (*fn)(void *arg, const struct digest *d), void *arg);

#endif
