/*
 * tree.h - what the mount shows, as an immutable snapshot of the catalogue.
 *
 * The engine's thread builds a new tree from the rows (records whose rev is the same are shared
 * with the one before) and swaps it in whole; FUSE threads take a reference for one operation.
 *
 * Arrays are in order of row id, which is the order of listings and the permanent cookie of an
 * entry; the arrays by_... hold indices into them.  What follows from several rows (an image's
 * name in by-title/, whether an object is listed) stands in the slots, not in the records.
 */
#ifndef VMI_TREE_H
#define VMI_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/conf.h"
#include "core/err.h"
#include "core/store.h"
#include "fs/node.h"
#include "fs/record.h"

#define TREE_NONE UINT32_MAX

struct tree_image_slot {
	const struct tree_image *image;		/* live */
	char *title_name;			/* in by-title/ */
	uint32_t object;			/* of the version shown, TREE_NONE if unknown */
	/* Of the version of cache/: the same, unless ahead. */
	uint32_t cached;
	uint32_t pending;			/* of the version to come, or TREE_NONE */
};

struct tree_object_slot {
	const struct tree_object *object;
	bool listed;		/* wanted, verified, or named by an unpurged expired row */
	int64_t expires;	/* the last date of the live images that name it; 0: none */
	bool ova;		/* who names it says that it is an archive */
};

/* A text that trees share. */
struct tree_text {
	atomic_uint refs;
	size_t len;
	char data[];
};

struct tree {
	atomic_uint refs;
	uint64_t serial;			/* grows from tree to tree */
	int64_t made;				/* seconds UTC */
	struct tree_image_slot *images;
	uint32_t *images_by_name, *images_by_title, *images_by_object;
	size_t n_images;
	size_t n_ahead;				/* images that show their pending version */
	struct tree_object_slot *objects;
	uint32_t *objects_by_digest;
	size_t n_objects;
	const struct tree_expired **expired;
	uint32_t *expired_by_name;
	size_t n_expired;
	const struct tree_sub **subs;
	size_t n_subs;
	const struct tree_endorser **endorsers;
	size_t n_endorsers;
	struct tree_text *events;		/* the file `events` */
	int64_t last_event;
	int64_t changed[N_STATIC_DIRS + 1];	/* when a listing last changed; last: the root's */
};

/*
 * Builds a tree from the catalogue's rows.  prev (may be NULL) is the tree before; store (may be
 * NULL) tells the blocks of stored files.  Rows that another process changes meanwhile are read
 * again, so that one transaction is seen whole.  On an error *out is NULL and prev stays good.
 */
int tree_build(struct catalogue *c, const struct conf *conf, struct store *store,
	       const struct tree *prev, struct tree **out, struct err *err);

struct tree *tree_empty(void);
struct tree *tree_ref(const struct tree *t);	/* returns t */
void tree_unref(const struct tree *t);		/* NULL is fine */

/* The slot with this row id, or the first one after it: *i; false if it is not that row. */
bool tree_image_at(const struct tree *t, uint64_t row, size_t *i);
bool tree_object_at(const struct tree *t, uint64_t row, size_t *i);
bool tree_expired_at(const struct tree *t, uint64_t row, size_t *i);
bool tree_sub_at(const struct tree *t, uint64_t row, size_t *i);
bool tree_endorser_at(const struct tree *t, uint64_t row, size_t *i);

/* By name.  false if there is none. */
bool tree_image_named(const struct tree *t, const char *name, size_t *i);
bool tree_title_named(const struct tree *t, const char *name, size_t *i);
bool tree_expired_named(const struct tree *t, const char *name, size_t *i);
bool tree_sub_named(const struct tree *t, const char *name, size_t *i);
bool tree_endorser_named(const struct tree *t, const char *name, size_t *i);
bool tree_object_of(const struct tree *t, const struct digest *d, size_t *i);

/* The record of a row, or NULL; *slot as above (of a refused entry: its subscription's). */
const struct record *tree_record(const struct tree *t, enum record_class class, uint64_t row,
				 size_t *slot);

/* A refused entry by its row id; NULL if there is none.  *sub is who has it. */
const struct tree_refused *tree_refused_at(const struct tree *t, uint64_t row, size_t *sub);

/* The images that show object number i: a range of images_by_object. */
void tree_images_of(const struct tree *t, size_t object, size_t *first, size_t *n);

/*
 * The object of an image that has a directory `ova': it is an archive, and has its link `image'.
 * NULL if it has not.
 */
const struct tree_object *tree_image_archive(const struct tree *t, size_t image);

/* Whether cache/ shows the image: selected, and a version of it is fetched and verified. */
bool tree_image_is_cached(const struct tree *t, size_t image);

/* The state of an image; fetching says whether a job for the version shown runs. */
enum image_state tree_image_state(const struct tree *t, size_t image, bool fetching);

/*
 * The last error of the version shown, or of the one to come, or why it is not fetched block by
 * block; "" if none.  *code (may be NULL) is the error's.
 */
const char *tree_image_error(const struct tree *t, size_t image, enum code *code);

/* The current tree, behind a lock that is held for two instructions. */
struct tree_holder;
struct tree_holder *tree_holder_new(void);		/* holds an empty tree */
void tree_holder_free(struct tree_holder *h);
struct tree *tree_get(struct tree_holder *h);		/* a reference */
struct tree *tree_swap(struct tree_holder *h, struct tree *t);	/* takes t, returns the old one */

#endif
