/*
 * tree_diff.h - which names and attributes differ between two trees.  Pure: no I/O.
 */
#ifndef VMI_TREE_DIFF_H
#define VMI_TREE_DIFF_H

#include "fs/tree.h"

struct tree_diff_ops {
	/* What this name leads to may differ: it is new, gone, or another node.  May be NULL. */
	void (*entry)(void *arg, uint64_t parent, const char *name);
	/*
	 * The node's attributes may differ; data: its content too (a directory's listing, or an
	 * image that may not be read now).  Told after all entries of the directory.  May be NULL.
	 */
	void (*inode)(void *arg, uint64_t node, bool data);
};

/* Every name that could be answered differently is told; a few may be told in vain. */
void tree_diff(const struct tree *old, const struct tree *new, const struct tree_diff_ops *ops,
	       void *arg);

/* The names that change when a job for this object begins or ends. */
void tree_diff_activity(const struct tree *t, const struct digest *d,
			const struct tree_diff_ops *ops, void *arg);

#endif
