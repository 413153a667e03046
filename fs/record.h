/*
 * record.h - one row of the catalogue as the tree shows it: immutable, counted, shared by trees.
 *
 * A record is made on the engine's thread and never changes.  Every tree that shows the row at
 * this rev holds a reference, and so does every operation that uses it and every pin (pins.h).
 */
#ifndef VMI_RECORD_H
#define VMI_RECORD_H

#include <stdatomic.h>
#include <stdint.h>
#include "core/catalogue.h"

enum record_class {
	RECORD_OBJECT, RECORD_IMAGE, RECORD_SUB, RECORD_REFUSED, RECORD_ENDORSER, RECORD_EXPIRED
};

struct record {
	atomic_uint refs;
	enum record_class class;
	uint64_t row, rev;
	uint64_t ino;
};

struct tree_object {
	struct record base;
	struct object_row row;
	int64_t blocks;			/* of the stored file; 0 unless verified */
};

struct tree_image {
	struct record base;		/* rev: of the row, and whether ahead */
	struct image_row row;		/* its strings lie in the next */
	/*
	 * The pending version is shown as the current one: its tree is verified, so that it can be
	 * read block by block.  cache/ still has the version before, which is whole.
	 */
	bool ahead;
	char strings[];
};

struct tree_refused {
	struct record base;		/* rev 0: an entry never changes */
	char *identifier, *name, *error;
	enum code code;
	int64_t updated;		/* of the list */
};

struct tree_sub {
	struct record base;
	struct subscription_row row;
	int64_t message_size, payload_size;	/* 0: there is none */
	struct tree_refused **refused;	/* by row */
	size_t n_refused;
};

struct tree_endorser {
	struct record base;
	struct endorser_row row;
	int64_t *subs;			/* linked subscriptions, by row */
	size_t n_subs;
};

struct tree_expired {
	struct record base;
	struct expired_row row;		/* its strings lie in the next */
	char strings[];
};

/* Each takes the row's strings (the caller's struct is empty after). */
struct tree_image *record_image(struct image_row *row, bool ahead);
struct tree_expired *record_expired(struct expired_row *row);
struct tree_endorser *record_endorser(struct endorser_row *row, int64_t *subs, size_t n_subs);
struct tree_sub *record_sub(struct subscription_row *row, struct tree_refused **refused,
			    size_t n_refused);
/* Each copies the row. */
struct tree_object *record_object(const struct object_row *row);
struct tree_refused *record_refused(const struct refused_row *row, uint64_t sub_ino,
				    int64_t updated);

/* Any thread.  record_unref() frees with the last reference; NULL is fine. */
struct record *record_ref(const struct record *r);	/* returns r */
void record_unref(const struct record *r);

/* What a record is; asserts the class. */
const struct tree_object *record_as_object(const struct record *r);
const struct tree_image *record_as_image(const struct record *r);
const struct tree_sub *record_as_sub(const struct record *r);
const struct tree_refused *record_as_refused(const struct record *r);
const struct tree_endorser *record_as_endorser(const struct record *r);
const struct tree_expired *record_as_expired(const struct record *r);

/* The version that images/ shows, and the one that is to come, or NULL. */
const struct image_meta *tree_image_shown(const struct tree_image *image);
const struct image_meta *tree_image_coming(const struct tree_image *image);

/* Whether the list says that it is an OVA: `ova', in any case, is the last word of its format. */
bool image_meta_is_ova(const struct image_meta *m);

/* Copies of two objects' rows tell the same. */
bool object_row_equal(const struct object_row *a, const struct object_row *b);

/*
 * An inode number for what has none in the catalogue (refused entries, an endorser's links); its
 * low byte is 0.
 */
uint64_t record_ino(uint64_t parent_ino, const char *name);

/* That of a member of an archive, or (NULL) of its error. */
uint64_t ova_ino(uint64_t object_ino, const char *member);

#endif
