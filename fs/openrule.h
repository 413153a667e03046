/*
 * openrule.h - whether an image file may be opened now.  Pure: no I/O.
 */
#ifndef VMI_OPENRULE_H
#define VMI_OPENRULE_H

#include <stdbool.h>
#include <stdint.h>
#include "fs/tree.h"

/*
 * 0, or -EKEYREJECTED (distrusted), -EKEYEXPIRED (expired, and either not stored or expired_open =
 * deny), -ENOENT (neither stored nor selected), -ESTALE (slot NULL: no longer in the tree).  Dates
 * are judged at now, in seconds UTC, whatever the rows still say.  is_open: somebody has it open;
 * then what is here in part counts as stored.
 */
int openrule_decide(const struct object_row *row, const struct tree_object_slot *slot,
		    int64_t now, bool expired_deny, bool is_open);

#endif
