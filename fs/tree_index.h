/*
 * tree_index.h - the second half of building a tree: names, orders, and what follows from several
 * rows.  Pure: no I/O.
 */
#ifndef VMI_TREE_INDEX_H
#define VMI_TREE_INDEX_H

#include "fs/tree.h"

/*
 * Sorts the arrays by row id and fills every index and derived field.  Once, before anyone else
 * sees the tree.
 */
void tree_index(struct tree *t);

#endif
