/*
 * lookup.h - from names to nodes, and from nodes to what they show.
 *
 * A struct place is what a node id stands for during one operation: it holds references on a
 * tree and a record, so that everything the operation reads belongs to one version.  Release it
 * with place_release().  No FUSE types here: the operations are thin above this.
 */
#ifndef VMI_LOOKUP_H
#define VMI_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include "core/buf.h"
#include "fs/context.h"

enum { ENTRY_NAME_MAX = 255 };

struct place {
	struct fs_context *fs;
	struct tree *tree;
	uint64_t node;
	enum node_kind kind;
	unsigned field;
	const struct record *record;	/* NULL for static entries */
	size_t slot;			/* of the record in the tree, SIZE_MAX if it has left */
	const struct snapshot *snapshot;/* of KIND_SNAPSHOT */
	const struct ova_index *ova;	/* of KIND_OVA_*; NULL while it is not known */
};

#define PLACE_CLEANUP __attribute__((cleanup(place_release)))

/* 0, or -ESTALE for a node that is no more. */
int place_resolve(struct fs_context *fs, uint64_t node, struct place *out);
void place_release(struct place *p);

/*
 * The place belongs to an archive whose members are not known: what it shows must wait until they
 * are (ovaread.h).  Only of a directory the attributes can be had, and its xattrs of a member.
 */
bool place_needs_index(const struct place *p);

/* Of an image's directory: whether `ova' is listed in it. */
bool place_lists_ova(const struct place *p);

bool place_is_dir(const struct place *p);
bool place_is_link(const struct place *p);
void place_stat(const struct place *p, struct stat *st);

/*
 * The content of a text or the target of a link.  -EINVAL for others, and for lists: see
 * place_is_list().
 */
int place_text(const struct place *p, struct buf *out);

/* list.smime and list.json: read from the stored message. */
bool place_is_list(const struct place *p);
/* A descriptor or a negative errno value; -EAGAIN: only by asking the disk (at_disk). */
int place_list_open(const struct place *p, bool at_disk);

/* An image, or a member of one that is an archive. */
bool place_is_image(const struct place *p);
/* The object of an image: its row, and its slot if the tree still has it, or NULL. */
const struct object_row *place_object(const struct place *p, const struct tree_object_slot **slot);

/* Likewise of any KIND_OVA_*. */
const struct object_row *place_archive(const struct place *p,
				       const struct tree_object_slot **slot);

/*
 * One entry of a directory.  node is 0 for a volatile text, which is made when it is looked up.
 */
struct entry {
	char name[ENTRY_NAME_MAX + 1];
	uint64_t node;
	uint64_t ino;
	mode_t type;		/* S_IFDIR, S_IFREG, S_IFLNK */
	uint64_t cookie;	/* permanent; listings go on after it */
	unsigned field;		/* of a volatile text */
	size_t image;		/* its image's slot, SIZE_MAX for those in the root */
	bool brief;		/* a volatile text that goes on changing without notice */
	bool hidden;		/* can be found, but is not listed */
};

/* -ENOENT, -ENOTDIR. */
int place_find(const struct place *dir, const char *name, struct entry *out);
/* The first entry after the cookie (0: of all): "." and ".." come first; false: no more. */
bool place_next(const struct place *dir, uint64_t cookie, struct entry *out);
/* Whether the whole listing is short enough for the kernel to keep. */
bool place_is_short(const struct place *dir);
uint64_t place_parent(const struct place *dir);	/* node id; the root's is the root */
uint64_t place_ino(const struct place *p);

/* What a lookup answers: counted, until lookup_forget(). */
struct looked {
	uint64_t node;
	struct stat st;
	bool brief;		/* the name must be looked up again each time */
};

/* 0 or -ESTALE.  The entry is of this directory and came from the same place. */
int lookup_entry(const struct place *dir, const struct entry *e, struct looked *out);
int lookup_self(const struct place *p, struct looked *out);	/* "." */
void lookup_forget(struct fs_context *fs, uint64_t node, uint64_t n);

#endif
