/*
 * entries.c - the entries of directories: by name, and in the order of their cookies.
 *
 * There are two sorts of directories.  A directory of one row (and the root) has the fixed names of
 * a listing, some of which are absent at times; the key of an entry is its place in the listing.
 * A directory of many rows has one name a row; the key is the row id, which is never reused.
 * The cookie of an entry is its key + 3, after "." (1) and ".." (2): it says the same to every
 * tree, so that an entry that is there throughout a listing is told exactly once, whatever
 * happens to its neighbours.
 */
#include "config.h"
#include "fs/lookup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "fs/listing.h"

enum { COOKIE_DOT = 1, COOKIE_DOTDOT = 2, COOKIE_FIRST = 3, SHORT_LISTING = 64 };

static void
entry_set(struct entry *e, const char *name, uint64_t node, uint64_t ino, mode_t type)
{
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->node = node;
	e->ino = ino;
	e->type = type;
	e->field = 0;
	e->image = SIZE_MAX;
	e->brief = false;
	e->hidden = false;
}

/* ---- fixed names ---------------------------------------------------------------------------- */

/* Whether the entry is there; fills it in. */
static bool
root_entry(const struct place *dir, const struct listing *l, struct entry *e)
{
	(void)dir;
	if (l->type == S_IFDIR) {
		entry_set(e, l->name, node_dir((enum static_dir)l->field), 2 + l->field, S_IFDIR);
	} else if (l->field == ROOT_README) {
		entry_set(e, l->name, node_make(KIND_STATIC_TEXT, l->field, 0, 0), l->field,
			  S_IFREG);
	} else {
		entry_set(e, l->name, 0, l->field, S_IFREG);
		e->field = l->field;
		e->brief = true;
	}
	return true;
}

static bool
is_fetching(const struct place *dir, const struct digest *d)
{
	struct engine_progress progress;

	fs_progress(dir->fs, d, &progress);
	return progress.active;
}

/* An image in block mode has bytes also while nobody fetches any. */
static bool
is_on_its_way(const struct place *dir, const struct digest *d)
{
	struct engine_progress progress;

	fs_progress(dir->fs, d, &progress);
	return progress.active || progress.bytes > 0;
}

static bool
object_is_verified(const struct tree *t, uint32_t object)
{
	return object != TREE_NONE &&
	       t->objects[object].object->row.state == OBJECT_VERIFIED;
}

static void
volatile_entry(const struct place *dir, struct entry *e, bool brief, unsigned field)
{
	e->node = 0;
	e->field = field;
	e->image = dir->slot;
	e->brief = brief;
}

static bool
ova_entry(const struct place *dir, struct entry *e)
{
	const struct tree_object *object = tree_image_archive(dir->tree, dir->slot);

	if (object == NULL)
		return false;
	e->node = node_make(KIND_OVA_DIR, IMAGE_OVA, dir->record->row, object->base.row);
	e->hidden = !place_lists_ova(dir);
	return true;
}

static bool
image_entry(const struct place *dir, const struct listing *l, struct entry *e)
{
	const struct tree_image_slot *slot = &dir->tree->images[dir->slot];
	const struct image_meta *shown = tree_image_shown(slot->image);
	const struct image_meta *coming = tree_image_coming(slot->image);
	const struct record *r = dir->record;
	enum image_state state;

	entry_set(e, l->name, node_make(KIND_IMAGE_TEXT, l->field, r->row, r->rev),
		  node_ino(r->ino, l->field), l->type);
	switch (l->field) {
	case IMAGE_STATE0:
		state = tree_image_state(dir->tree, dir->slot,
					 is_fetching(dir, &shown->sha512));
		e->node = node_make(KIND_IMAGE_TEXT, IMAGE_STATE0 + (unsigned)state, r->row, 0);
		break;
	case IMAGE_PROGRESS:
		if (object_is_verified(dir->tree, slot->object))
			e->node = node_make(KIND_IMAGE_TEXT, IMAGE_PROGRESS_FULL, r->row, r->rev);
		else if (is_on_its_way(dir, &shown->sha512))
			volatile_entry(dir, e, true, IMAGE_PROGRESS);
		break;
	case IMAGE_PENDING:
		if (coming == NULL)
			return false;
		if (is_on_its_way(dir, &coming->sha512))
			volatile_entry(dir, e, true, IMAGE_PENDING);
		break;
	case IMAGE_ERROR:
		if (tree_image_error(dir->tree, dir->slot, NULL)[0] != '\0')
			volatile_entry(dir, e, false, IMAGE_ERROR);
		else
			e->node = node_make(KIND_IMAGE_TEXT, IMAGE_ERROR, r->row, 0);
		break;
	case IMAGE_FILE: case IMAGE_SUBSCRIPTION:
		e->node = node_make(KIND_IMAGE_LINK, l->field, r->row, r->rev);
		return l->field != IMAGE_FILE || slot->image->row.selected;
	case IMAGE_OVA:
		return ova_entry(dir, e);
	default:
		break;
	}
	return true;
}

static bool
is_verified(const struct tree *t, const struct digest *d)
{
	size_t i;

	return tree_object_of(t, d, &i) && t->objects[i].object->row.state == OBJECT_VERIFIED;
}

static bool
expired_entry(const struct place *dir, const struct listing *l, struct entry *e)
{
	const struct expired_row *row = &record_as_expired(dir->record)->row;
	const struct record *r = dir->record;
	enum node_kind kind = l->type == S_IFLNK ? KIND_EXPIRED_LINK : KIND_EXPIRED_TEXT;
	unsigned field = l->field == IMAGE_STATE0 ? IMAGE_STATE0 + IMAGE_EXPIRED : l->field;

	entry_set(e, l->name, node_make(kind, field, r->row, r->rev), node_ino(r->ino, field),
		  l->type);
	if (l->field == IMAGE_PROGRESS && !row->purged &&
	    !is_verified(dir->tree, &row->meta.sha512))
		volatile_entry(dir, e, true, IMAGE_PROGRESS);
	return l->field != IMAGE_FILE || (!row->purged && !row->distrusted);
}

static bool
sub_entry(const struct place *dir, const struct listing *l, struct entry *e)
{
	const struct tree_sub *sub = record_as_sub(dir->record);
	const struct record *r = dir->record;

	entry_set(e, l->name, node_make(KIND_SUB_TEXT, l->field, r->row, r->rev),
		  node_ino(r->ino, l->field), l->type);
	switch (l->field) {
	case SUB_ENDORSER:
		e->node = node_make(KIND_SUB_LINK, l->field, r->row, r->rev);
		return sub->row.endorser != NULL && sub->row.endorser[0] != '\0';
	case SUB_LIST_SMIME:
		return sub->message_size > 0;
	case SUB_LIST_JSON:
		return sub->payload_size > 0;
	case SUB_IMAGES:
		e->node = node_make(KIND_SUB_IMAGES_DIR, SUB_IMAGES, r->row, 0);
		return true;
	case SUB_REFUSED:
		e->node = node_make(KIND_SUB_REFUSED_DIR, SUB_REFUSED, r->row, 0);
		return true;
	default:
		return true;
	}
}

static bool
refused_entry(const struct place *dir, const struct listing *l, struct entry *e)
{
	entry_set(e, l->name, node_make(KIND_REFUSED_TEXT, l->field, dir->record->row, 0),
		  node_ino(dir->record->ino, l->field), l->type);
	return true;
}

static bool
endorser_entry(const struct place *dir, const struct listing *l, struct entry *e)
{
	const struct record *r = dir->record;
	uint64_t node = l->type == S_IFDIR ?
		node_make(KIND_ENDORSER_SUBS_DIR, ENDORSER_SUBS, r->row, 0) :
		node_make(KIND_ENDORSER_TEXT, l->field, r->row, r->rev);

	entry_set(e, l->name, node, node_ino(r->ino, l->field), l->type);
	return true;
}

/* ---- one name a row ------------------------------------------------------------------------- */

/* Each: the entry of the row in this slot; false if the directory does not show it. */
static bool
image_row_entry(const struct place *dir, size_t i, struct entry *e)
{
	const struct tree_image_slot *slot = &dir->tree->images[i];
	const struct record *r = &slot->image->base;

	if (dir->kind == KIND_SUB_IMAGES_DIR) {
		entry_set(e, slot->image->row.name,
			  node_make(KIND_SUB_IMAGE_LINK, IMAGE_IN_SUBSCRIPTION, r->row, 0),
			  node_ino(r->ino, IMAGE_IN_SUBSCRIPTION), S_IFLNK);
		return (uint64_t)slot->image->row.subscription == dir->record->row;
	}
	switch (dir->field) {
	case DIR_CACHE:
		entry_set(e, slot->image->row.name,
			  node_make(KIND_CACHE_LINK, IMAGE_IN_CACHE, r->row, r->rev),
			  node_ino(r->ino, IMAGE_IN_CACHE), S_IFLNK);
		return tree_image_is_cached(dir->tree, i);
	case DIR_BY_TITLE:
		entry_set(e, slot->title_name,
			  node_make(KIND_TITLE_LINK, IMAGE_IN_TITLES, r->row, 0),
			  node_ino(r->ino, IMAGE_IN_TITLES), S_IFLNK);
		return true;
	default:
		entry_set(e, slot->image->row.name, node_make(KIND_IMAGE_DIR, 0, r->row, 0),
			  node_ino(r->ino, ENTRY_DIR), S_IFDIR);
		return true;
	}
}

static uint64_t
generation(const struct place *dir, const struct object_row *row)
{
	if (row->state != OBJECT_VERIFIED)
		return 0;
	return passthrough_is_usable(dir->fs->passthrough, &row->digest) ? NODE_PASSTHROUGH : 1;
}

static bool
object_row_entry(const struct place *dir, size_t i, struct entry *e)
{
	const struct tree_object_slot *slot = &dir->tree->objects[i];
	const struct object_row *row = &slot->object->row;
	char hex[DIGEST_HEX + 1];

	digest_hex(&row->digest, hex);
	entry_set(e, hex, node_make(KIND_OBJECT, 0, slot->object->base.row, generation(dir, row)),
		  node_ino(row->ino, ENTRY_DIR), S_IFREG);
	return slot->listed;
}

static bool
expired_row_entry(const struct place *dir, size_t i, struct entry *e)
{
	const struct tree_expired *x = dir->tree->expired[i];

	entry_set(e, x->row.name, node_make(KIND_EXPIRED_DIR, 0, x->base.row, 0),
		  node_ino(x->base.ino, ENTRY_DIR), S_IFDIR);
	return true;
}

static bool
endorser_row_entry(const struct place *dir, size_t i, struct entry *e)
{
	const struct tree_endorser *x = dir->tree->endorsers[i];

	entry_set(e, x->row.dir, node_make(KIND_ENDORSER_DIR, 0, x->base.row, 0),
		  node_ino(x->base.ino, ENTRY_DIR), S_IFDIR);
	return true;
}

static bool
refused_row_entry(const struct place *dir, size_t i, struct entry *e)
{
	const struct tree_refused *x = record_as_sub(dir->record)->refused[i];

	entry_set(e, x->name, node_make(KIND_REFUSED_DIR, 0, x->base.row, 0),
		  node_ino(x->base.ino, ENTRY_DIR), S_IFDIR);
	return true;
}

static bool
is_linked(const struct tree_endorser *endorser, int64_t sub)
{
	for (size_t i = 0; i < endorser->n_subs; i++)
		if (endorser->subs[i] == sub)
			return true;
	return false;
}

/* In subscriptions/ a directory, in endorsers/<name>/subscriptions/ a link. */
static bool
sub_row_entry(const struct place *dir, size_t i, struct entry *e)
{
	const struct tree_sub *x = dir->tree->subs[i];
	char number[32];

	if (dir->kind == KIND_STATIC_DIR) {
		entry_set(e, x->row.name, node_make(KIND_SUB_DIR, 0, x->base.row, 0),
			  node_ino(x->base.ino, ENTRY_DIR), S_IFDIR);
		return true;
	}
	snprintf(number, sizeof(number), "%llu", (unsigned long long)dir->record->row);
	entry_set(e, x->row.name,
		  node_make(KIND_ENDORSER_SUB_LINK, 0, x->base.row, dir->record->row),
		  record_ino(x->base.ino, number), S_IFLNK);
	return is_linked(record_as_endorser(dir->record), x->row.id);
}

/* The key is the place in the order of names: an archive never changes. */
static bool
member_row_entry(const struct place *dir, size_t i, struct entry *e)
{
	const struct tree_object_slot *slot;
	const struct object_row *row = place_archive(dir, &slot);
	uint64_t object = (uint64_t)row->id;

	if (dir->ova->error != NULL)
		entry_set(e, "error", node_make(KIND_OVA_ERROR, 0, object, 0),
			  ova_ino(row->ino, NULL), S_IFREG);
	else
		entry_set(e, dir->ova->members[i].name,
			  node_make(KIND_OVA_FILE, (unsigned)i, object, 0),
			  ova_ino(row->ino, dir->ova->members[i].name), S_IFREG);
	return true;
}

static size_t
n_image_rows(const struct place *dir)
{
	return dir->tree->n_images;
}

static size_t
n_object_rows(const struct place *dir)
{
	return dir->tree->n_objects;
}

static size_t
n_expired_rows(const struct place *dir)
{
	return dir->tree->n_expired;
}

static size_t
n_sub_rows(const struct place *dir)
{
	return dir->tree->n_subs;
}

static size_t
n_endorser_rows(const struct place *dir)
{
	return dir->tree->n_endorsers;
}

static size_t
n_refused_rows(const struct place *dir)
{
	return record_as_sub(dir->record)->n_refused;
}

/* 0 while they are not known: then nothing is listed, and what is asked for waits. */
static size_t
n_member_rows(const struct place *dir)
{
	if (dir->ova == NULL)
		return 0;
	return dir->ova->error != NULL ? 1 : dir->ova->n;
}

static bool
image_row_named(const struct place *dir, const char *name, size_t *i)
{
	if (dir->kind == KIND_STATIC_DIR && dir->field == DIR_BY_TITLE)
		return tree_title_named(dir->tree, name, i);
	return tree_image_named(dir->tree, name, i);
}

static bool
object_row_named(const struct place *dir, const char *name, size_t *i)
{
	struct digest d;

	return digest_parse(name, &d) && tree_object_of(dir->tree, &d, i);
}

static bool
expired_row_named(const struct place *dir, const char *name, size_t *i)
{
	return tree_expired_named(dir->tree, name, i);
}

static bool
sub_row_named(const struct place *dir, const char *name, size_t *i)
{
	return tree_sub_named(dir->tree, name, i);
}

static bool
endorser_row_named(const struct place *dir, const char *name, size_t *i)
{
	return tree_endorser_named(dir->tree, name, i);
}

static bool
refused_row_named(const struct place *dir, const char *name, size_t *i)
{
	const struct tree_sub *sub = record_as_sub(dir->record);

	for (*i = 0; *i < sub->n_refused; ++*i)
		if (strcmp(sub->refused[*i]->name, name) == 0)
			return true;
	return false;
}

static bool
member_row_named(const struct place *dir, const char *name, size_t *i)
{
	struct entry e;

	for (*i = 0; *i < n_member_rows(dir); ++*i)
		if (member_row_entry(dir, *i, &e) && strcmp(e.name, name) == 0)
			return true;
	return false;
}

/* ---- all directories ------------------------------------------------------------------------ */

struct dir_type {
	/* of fixed names; both or neither */
	int (*listing)(size_t i, struct listing *out);
	bool (*fixed)(const struct place *dir, const struct listing *l, struct entry *e);
	/* of rows */
	size_t (*n_rows)(const struct place *dir);
	bool (*row)(const struct place *dir, size_t i, struct entry *e);
	bool (*named)(const struct place *dir, const char *name, size_t *i);
};

static const struct dir_type dir_root = { .listing = listing_root, .fixed = root_entry };
static const struct dir_type dir_image = { .listing = listing_image, .fixed = image_entry };
static const struct dir_type dir_expired = { .listing = listing_expired,
					     .fixed = expired_entry };
static const struct dir_type dir_sub = { .listing = listing_sub, .fixed = sub_entry };
static const struct dir_type dir_refused = { .listing = listing_refused,
					     .fixed = refused_entry };
static const struct dir_type dir_endorser = { .listing = listing_endorser,
					      .fixed = endorser_entry };
static const struct dir_type rows_of_images = { .n_rows = n_image_rows, .row = image_row_entry,
						.named = image_row_named };
static const struct dir_type rows_of_objects = { .n_rows = n_object_rows,
						 .row = object_row_entry,
						 .named = object_row_named };
static const struct dir_type rows_of_expired = { .n_rows = n_expired_rows,
						 .row = expired_row_entry,
						 .named = expired_row_named };
static const struct dir_type rows_of_subs = { .n_rows = n_sub_rows, .row = sub_row_entry,
					      .named = sub_row_named };
static const struct dir_type rows_of_endorsers = { .n_rows = n_endorser_rows,
						   .row = endorser_row_entry,
						   .named = endorser_row_named };
static const struct dir_type rows_of_refused = { .n_rows = n_refused_rows,
						 .row = refused_row_entry,
						 .named = refused_row_named };

static const struct dir_type rows_of_members = { .n_rows = n_member_rows,
						 .row = member_row_entry,
						 .named = member_row_named };

static const struct dir_type *const static_dir_types[N_STATIC_DIRS] = {
	[DIR_BY_SHA512] = &rows_of_objects,
	[DIR_CACHE] = &rows_of_images,
	[DIR_IMAGES] = &rows_of_images,
	[DIR_BY_TITLE] = &rows_of_images,
	[DIR_SUBSCRIPTIONS] = &rows_of_subs,
	[DIR_ENDORSERS] = &rows_of_endorsers,
	[DIR_EXPIRED] = &rows_of_expired,
};

static const struct dir_type *const dir_types[N_KINDS] = {
	[KIND_ROOT] = &dir_root,
	[KIND_IMAGE_DIR] = &dir_image,
	[KIND_SUB_DIR] = &dir_sub,
	[KIND_SUB_IMAGES_DIR] = &rows_of_images,
	[KIND_SUB_REFUSED_DIR] = &rows_of_refused,
	[KIND_REFUSED_DIR] = &dir_refused,
	[KIND_ENDORSER_DIR] = &dir_endorser,
	[KIND_ENDORSER_SUBS_DIR] = &rows_of_subs,
	[KIND_EXPIRED_DIR] = &dir_expired,
	[KIND_OVA_DIR] = &rows_of_members,
};

/* NULL if the place is no directory. */
static const struct dir_type *
type_of(const struct place *dir)
{
	return dir->kind == KIND_STATIC_DIR ? static_dir_types[dir->field] :
					      dir_types[dir->kind];
}

static int
find_fixed(const struct dir_type *type, const struct place *dir, const char *name,
	   struct entry *out)
{
	struct listing l;
	int rc;

	for (size_t i = 0; (rc = type->listing(i, &l)) >= 0; i++)
		if (rc > 0 && strcmp(l.name, name) == 0)
			return type->fixed(dir, &l, out) ? 0 : -ENOENT;
	return -ENOENT;
}

int
place_find(const struct place *dir, const char *name, struct entry *out)
{
	const struct dir_type *type = type_of(dir);
	size_t i;

	if (type == NULL)
		return -ENOTDIR;
	if (strlen(name) > ENTRY_NAME_MAX)
		return -ENAMETOOLONG;
	out->cookie = 0;
	if (type->listing != NULL)
		return find_fixed(type, dir, name, out);
	if (!type->named(dir, name, &i) || !type->row(dir, i, out))
		return -ENOENT;
	/* A digest is read in either case of its digits, a name is one string. */
	return strcmp(out->name, name) == 0 ? 0 : -ENOENT;
}

static bool
next_fixed(const struct dir_type *type, const struct place *dir, uint64_t key,
	   struct entry *out)
{
	struct listing l;
	int rc;

	for (size_t i = key; (rc = type->listing(i, &l)) >= 0; i++)
		if (rc > 0 && type->fixed(dir, &l, out) && !out->hidden) {
			out->cookie = i + COOKIE_FIRST;
			return true;
		}
	return false;
}

/* The row id of a slot of a directory of rows. */
static uint64_t
row_id(const struct dir_type *type, const struct place *dir, size_t i)
{
	if (type == &rows_of_images)
		return dir->tree->images[i].image->base.row;
	if (type == &rows_of_objects)
		return dir->tree->objects[i].object->base.row;
	if (type == &rows_of_expired)
		return dir->tree->expired[i]->base.row;
	if (type == &rows_of_subs)
		return dir->tree->subs[i]->base.row;
	if (type == &rows_of_endorsers)
		return dir->tree->endorsers[i]->base.row;
	if (type == &rows_of_members)
		return i;
	return record_as_sub(dir->record)->refused[i]->base.row;
}

static bool
next_row(const struct dir_type *type, const struct place *dir, uint64_t key, struct entry *out)
{
	size_t low = 0, high = type->n_rows(dir), n = high;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (row_id(type, dir, middle) < key)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < n; low++)
		if (type->row(dir, low, out)) {
			out->cookie = row_id(type, dir, low) + COOKIE_FIRST;
			return true;
		}
	return false;
}

bool
place_next(const struct place *dir, uint64_t cookie, struct entry *out)
{
	const struct dir_type *type = type_of(dir);

	if (type == NULL)
		return false;
	if (cookie < COOKIE_DOT) {
		entry_set(out, ".", dir->node, place_ino(dir), S_IFDIR);
		out->cookie = COOKIE_DOT;
		return true;
	}
	if (cookie < COOKIE_DOTDOT) {
		/* Its inode number is the business of the lookup; listings may give any but 0. */
		entry_set(out, "..", place_parent(dir), 1, S_IFDIR);
		out->cookie = COOKIE_DOTDOT;
		return true;
	}
	if (type->listing != NULL)
		return next_fixed(type, dir, cookie - COOKIE_DOTDOT, out);
	return next_row(type, dir, cookie - COOKIE_DOTDOT, out);
}

bool
place_is_short(const struct place *dir)
{
	const struct dir_type *type = type_of(dir);

	return type != NULL && (type->listing != NULL || type->n_rows(dir) <= SHORT_LISTING);
}

uint64_t
place_parent(const struct place *dir)
{
	uint64_t row = node_row(dir->node);
	size_t sub;

	if (dir->kind == KIND_IMAGE_DIR)
		return node_dir(DIR_IMAGES);
	if (dir->kind == KIND_SUB_DIR)
		return node_dir(DIR_SUBSCRIPTIONS);
	if (dir->kind == KIND_ENDORSER_DIR)
		return node_dir(DIR_ENDORSERS);
	if (dir->kind == KIND_EXPIRED_DIR)
		return node_dir(DIR_EXPIRED);
	if (dir->kind == KIND_SUB_IMAGES_DIR || dir->kind == KIND_SUB_REFUSED_DIR)
		return node_make(KIND_SUB_DIR, 0, row, 0);
	if (dir->kind == KIND_ENDORSER_SUBS_DIR)
		return node_make(KIND_ENDORSER_DIR, 0, row, 0);
	if (dir->kind == KIND_OVA_DIR)
		return node_make(KIND_IMAGE_DIR, 0, row, 0);
	if (dir->kind == KIND_REFUSED_DIR && tree_refused_at(dir->tree, row, &sub) != NULL)
		return node_make(KIND_SUB_REFUSED_DIR, SUB_REFUSED,
				 dir->tree->subs[sub]->base.row, 0);
	return NODE_ROOT;
}
