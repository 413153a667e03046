/*
 * powercut.h - what the files of powercut share: the images, and what was done with them.
 */
#ifndef VMI_POWERCUT_H
#define VMI_POWERCUT_H

#include <stdbool.h>
#include <stdint.h>
#include "core/store.h"
#include "core/vtree.h"

enum {
	HEALED,		/* in the store from the start, with a bad granule, which is healed */
	STREAM,		/* comes as a stream */
	BLOCKS,		/* comes in block mode, and becomes an object */
	PARTIAL,	/* comes in block mode, and does not become one */
	REMOVED,	/* in the store from the start, and removed */
	N_IMAGES,
};

enum { BAD_GRANULE = 1 };		/* of HEALED */

/* Somebody was told that this is done.  In this order. */
enum {
	MARK_BEGIN = 1,
	MARK_STREAM,	/* STREAM was committed */
	MARK_BLOCKS,	/* BLOCKS was */
	MARK_HEALED,
	MARK_TREE_LOST,	/* HEALED's tree will be removed */
	MARK_TREE,	/* and was made anew */
	MARK_KEPT,	/* granules 0 and 2 of PARTIAL, its tree and its map were synced */
	MARK_REMOVED,
	MARK_END,
};

struct powercut_image {
	const unsigned char *bytes;
	struct vtree_id id;
	struct vtree *tree;
};

const struct powercut_image *powercut_image(int i);

/* Opens the store in the directory; ends the program if it cannot. */
struct store *powercut_store(const char *cache);

int powercut_setup(const char *cache);
int powercut_act(const char *cache, const char *mark);
int powercut_replay(const char *base, const char *log, const char *dir, long seconds);

/* What is in a store after a cut.  Counts what is not as it must be. */
enum fact { FACT_MOUNT, FACT_BYTES, FACT_KEPT, FACT_TREE, FACT_LOST, FACT_GOES_ON, N_FACTS };
void powercut_violated(enum fact fact, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* marks: bit n is set if mark n came before the cut.  go_on: and everything is completed. */
void powercut_check(const char *cache, unsigned int marks, bool go_on);

#endif
