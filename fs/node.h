/*
 * node.h - node ids of the tree as plain numbers that any process can resolve from the catalogue.
 *
 *   63      58 57      50 49                    22 21                  0
 *   |  kind  |  field   |   row id (28 bits)      |   rev (22 bits)    |
 *
 * Directories have rev 0, but for one.  A text or link that shows a row has as rev the low bits of
 * the record's rev: new content is a new node, and the old one keeps its bytes until the kernel
 * forgets it.  What never changes has rev 0: names in by-title/, the constant texts, the image's
 * state (each state is a field of its own).  Image files have as rev their generation: 0 while
 * incomplete, 1 once verified, 2 when the kernel reads the stored file by itself (passthrough.h); a
 * node never goes from one to the other, because the kernel cannot do both to one node.  A link of
 * an endorser has the subscription as row and the endorser as rev.  The members of an archive have
 * the object as row and rev 0; their directory has the image as row and the object as rev, because
 * another version has other members.
 * Volatile texts have a serial number as row and rev; snapshot.c resolves it.
 *
 * NODE_ROOT is FUSE_ROOT_ID.  st_ino is another number: the row's ino (catalogue) with the field in
 * its low byte, so that it is the same for all versions.
 */
#ifndef VMI_NODE_H
#define VMI_NODE_H

#include <stdint.h>
#include "core/field.h"

#define NODE_ROOT 1ULL

enum node_kind {
	KIND_ROOT,		/* only as node id 1 */
	KIND_STATIC_DIR,	/* field: enum static_dir */
	KIND_STATIC_TEXT,	/* field: enum root_entry; a text that never changes */
	KIND_SNAPSHOT,		/* a volatile text: a serial number, resolved by snapshot.c */
	KIND_OBJECT,		/* by-sha512/<hex> */
	KIND_CACHE_LINK,
	KIND_IMAGE_DIR, KIND_IMAGE_TEXT, KIND_IMAGE_LINK,
	KIND_TITLE_LINK,
	KIND_SUB_DIR, KIND_SUB_TEXT, KIND_SUB_LINK, KIND_SUB_IMAGES_DIR, KIND_SUB_IMAGE_LINK,
	KIND_SUB_REFUSED_DIR, KIND_REFUSED_DIR, KIND_REFUSED_TEXT,
	KIND_ENDORSER_DIR, KIND_ENDORSER_TEXT, KIND_ENDORSER_SUBS_DIR, KIND_ENDORSER_SUB_LINK,
	KIND_EXPIRED_DIR, KIND_EXPIRED_TEXT, KIND_EXPIRED_LINK,
	KIND_OVA_DIR,		/* images/<id>/ova */
	KIND_OVA_FILE,		/* a member of an archive; field: its number in order of name */
	KIND_OVA_ERROR,		/* why the archive is refused */
	N_KINDS
};

enum static_dir {
	DIR_BY_SHA512, DIR_CACHE, DIR_IMAGES, DIR_BY_TITLE, DIR_SUBSCRIPTIONS, DIR_ENDORSERS,
	DIR_EXPIRED, N_STATIC_DIRS
};

/*
 * Fields.  They are part of node ids and of inode numbers: a number never changes its meaning, and
 * those of images are no others' (node_ino() knows them by their number alone).
 * Fields of the field table have the numbers ENTRY_FIELD0 + enum field_id everywhere.
 */
enum {
	ENTRY_DIR = 0,			/* the directory, or the image file, itself */
	ENTRY_FIELD0 = 1,
	ENTRY_FIELD_END = ENTRY_FIELD0 + N_FIELDS,
};

enum root_entry {
	ROOT_README = 16, ROOT_STATUS, ROOT_STATUS_JSON, ROOT_METRICS, ROOT_EVENTS,
	ROOT_SHA512SUMS,
};

enum image_state {
	IMAGE_AVAILABLE, IMAGE_SELECTED, IMAGE_FETCHING, IMAGE_VERIFIED, IMAGE_DEGRADED,
	IMAGE_FAILED, IMAGE_EXPIRED, N_IMAGE_STATES
};

enum image_entry {
	IMAGE_STATE0 = 200,		/* + enum image_state: one constant text each */
	IMAGE_STATE_END = IMAGE_STATE0 + N_IMAGE_STATES,
	IMAGE_PROGRESS = 100,		/* nothing yet; while a job runs, a snapshot */
	IMAGE_PROGRESS_FULL,
	IMAGE_PENDING,
	IMAGE_ERROR,			/* empty; otherwise a snapshot */
	IMAGE_IS_SELECTED,
	IMAGE_ENVIRONMENT,
	IMAGE_METADATA,
	IMAGE_FILE,			/* the link `image` */
	IMAGE_SUBSCRIPTION,		/* the link */
	IMAGE_REASON, IMAGE_EXPIRED_AT, IMAGE_REPLACED_BY,	/* in expired/ */
	IMAGE_OVA,			/* the directory */
	IMAGE_IN_TITLES = 240, IMAGE_IN_CACHE, IMAGE_IN_SUBSCRIPTION,	/* links elsewhere */
};

enum subscription_entry {
	SUB_ID = 64, SUB_TITLE, SUB_DESCRIPTION, SUB_URI, SUB_CREATED, SUB_EXPIRES, SUB_UPDATED,
	SUB_VERSION, SUB_STATE, SUB_ERROR, SUB_ENDORSER, SUB_LIST_SMIME, SUB_LIST_JSON, SUB_IMAGES,
	SUB_REFUSED,
};

enum refused_entry { REFUSED_ID = 64, REFUSED_CODE, REFUSED_ERROR };
enum endorser_entry { ENDORSER_SUBJECT = 64, ENDORSER_ISSUER, ENDORSER_SUBS };

#define NODE_PASSTHROUGH 2ULL	/* the generation */
#define NODE_ROW_MAX ((1ULL << 28) - 1)
#define NODE_REV_BITS 22
#define NODE_REV_MASK ((1ULL << NODE_REV_BITS) - 1)

static inline uint64_t
node_make(enum node_kind kind, unsigned field, uint64_t row, uint64_t rev)
{
	return (uint64_t)kind << 58 | (uint64_t)(field & 0xff) << 50 |
	       (row & NODE_ROW_MAX) << NODE_REV_BITS | (rev & NODE_REV_MASK);
}

static inline enum node_kind
node_kind(uint64_t node)
{
	return node == NODE_ROOT ? KIND_ROOT : (enum node_kind)(node >> 58);
}

static inline unsigned
node_field(uint64_t node)
{
	return (unsigned)(node >> 50) & 0xff;
}

static inline uint64_t
node_row(uint64_t node)
{
	return node >> NODE_REV_BITS & NODE_ROW_MAX;
}

static inline uint64_t
node_rev(uint64_t node)
{
	return node & NODE_REV_MASK;
}

static inline uint64_t
node_dir(enum static_dir dir)
{
	return node_make(KIND_STATIC_DIR, dir, 0, 0);
}

/* A snapshot's serial number in row and rev together. */
static inline uint64_t
node_of_serial(uint64_t serial)
{
	return node_make(KIND_SNAPSHOT, 0, serial >> NODE_REV_BITS, serial);
}

static inline uint64_t
node_serial(uint64_t node)
{
	return node_row(node) << NODE_REV_BITS | node_rev(node);
}

/* st_ino of an entry of a row: all states of an image are one file, and both forms of progress. */
static inline uint64_t
node_ino(uint64_t row_ino, unsigned field)
{
	if (field >= IMAGE_STATE0 && field < IMAGE_STATE_END)
		field = IMAGE_STATE0;
	if (field == IMAGE_PROGRESS_FULL)
		field = IMAGE_PROGRESS;
	return (row_ino & ~0xffULL) | field;
}

#endif
