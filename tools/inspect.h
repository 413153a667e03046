/*
 * inspect.h - a stored image from its first byte to its last: is it what was signed and is kept?
 */
#ifndef VMI_INSPECT_H
#define VMI_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/catalogue.h"
#include "core/digest.h"
#include "core/err.h"
#include "core/store.h"

enum inspect_verdict {
	INSPECT_GOOD,
	INSPECT_GONE,		/* no such file, or none that can be it */
	INSPECT_UNREADABLE,	/* nothing is known of its bytes: the disk does not give them */
	/* Nor of the disk: there was no descriptor, memory or thread to look. */
	INSPECT_UNKNOWN,
	INSPECT_BLOCKS,		/* some granules are bad, and these are known by the kept tree */
	INSPECT_BYTES,		/* bad, and no good tree says where */
	INSPECT_TREE,		/* the bytes are right; the tree is missing or wrong */
	INSPECT_SIGNED,		/* the bytes are right; the signed fs-verity digest is others' */
};

struct inspect_run {
	int64_t first, n;	/* granules that follow each other */
};

struct inspect {
	/* What is looked at. */
	char *name;		/* for people; the holder's */
	struct digest digest;
	int64_t size;
	bool has_tree, has_root, wanted;
	bool accused;		/* its row says that bytes of it were found bad */
	struct digest tree, root;
	/* What was found. */
	enum inspect_verdict verdict;
	struct inspect_run *bad;
	size_t n_bad;		/* runs */
	int64_t n_granules;	/* in all runs */
};

/* An image called name (copied) as the catalogue knows it. */
void inspect_init(struct inspect *i, const struct object_row *row, const char *name);
void inspect_release(struct inspect *i);

/* Shows its progress unless silent.  0: good; otherwise a negative errno value, and why. */
int inspect_object(struct inspect *i, struct store *store, bool silent, struct err *why);

#endif
