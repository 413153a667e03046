/*
 * lookup.c - what a node id stands for, and what it shows.
 *
 * A node leads to a record in three ways.  Directories: the row in the current tree, or nothing.
 * What has a rev: the row in the current tree if it is still at this rev, otherwise the pinned
 * record of that rev.  The rest (image files, links that never change, the states): the row in
 * the current tree at whatever rev, otherwise the one that was pinned when it was looked up.
 */
#include "config.h"
#include "fs/lookup.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "core/safename.h"
#include "fs/statustext.h"
#include "fs/text.h"

struct kind {
	mode_t type;		/* 0: none */
	int class;		/* enum record_class, -1: no record */
	bool versioned;		/* the node's rev is that of the record */
};

static const struct kind kinds[N_KINDS] = {
	[KIND_ROOT] = { S_IFDIR, -1, false },
	[KIND_STATIC_DIR] = { S_IFDIR, -1, false },
	[KIND_STATIC_TEXT] = { S_IFREG, -1, false },
	[KIND_SNAPSHOT] = { S_IFREG, -1, false },
	[KIND_OBJECT] = { S_IFREG, RECORD_OBJECT, false },
	[KIND_CACHE_LINK] = { S_IFLNK, RECORD_IMAGE, true },
	[KIND_IMAGE_DIR] = { S_IFDIR, RECORD_IMAGE, false },
	[KIND_IMAGE_TEXT] = { S_IFREG, RECORD_IMAGE, true },
	[KIND_IMAGE_LINK] = { S_IFLNK, RECORD_IMAGE, true },
	[KIND_TITLE_LINK] = { S_IFLNK, RECORD_IMAGE, false },
	[KIND_SUB_DIR] = { S_IFDIR, RECORD_SUB, false },
	[KIND_SUB_TEXT] = { S_IFREG, RECORD_SUB, true },
	[KIND_SUB_LINK] = { S_IFLNK, RECORD_SUB, true },
	[KIND_SUB_IMAGES_DIR] = { S_IFDIR, RECORD_SUB, false },
	[KIND_SUB_IMAGE_LINK] = { S_IFLNK, RECORD_IMAGE, false },
	[KIND_SUB_REFUSED_DIR] = { S_IFDIR, RECORD_SUB, false },
	[KIND_REFUSED_DIR] = { S_IFDIR, RECORD_REFUSED, false },
	[KIND_REFUSED_TEXT] = { S_IFREG, RECORD_REFUSED, false },
	[KIND_ENDORSER_DIR] = { S_IFDIR, RECORD_ENDORSER, false },
	[KIND_ENDORSER_TEXT] = { S_IFREG, RECORD_ENDORSER, true },
	[KIND_ENDORSER_SUBS_DIR] = { S_IFDIR, RECORD_ENDORSER, false },
	[KIND_ENDORSER_SUB_LINK] = { S_IFLNK, RECORD_SUB, false },
	[KIND_EXPIRED_DIR] = { S_IFDIR, RECORD_EXPIRED, false },
	[KIND_EXPIRED_TEXT] = { S_IFREG, RECORD_EXPIRED, true },
	[KIND_EXPIRED_LINK] = { S_IFLNK, RECORD_EXPIRED, true },
	[KIND_OVA_DIR] = { S_IFDIR, RECORD_IMAGE, false },
	[KIND_OVA_FILE] = { S_IFREG, RECORD_OBJECT, false },
	[KIND_OVA_ERROR] = { S_IFREG, RECORD_OBJECT, false },
};

/* The states and the empty error are the same text at every rev. */
static bool
is_versioned(enum node_kind kind, unsigned field)
{
	if (kind == KIND_IMAGE_TEXT &&
	    ((field >= IMAGE_STATE0 && field < IMAGE_STATE_END) || field == IMAGE_ERROR))
		return false;
	return kinds[kind].versioned;
}

/* The rev under which a node's record is pinned. */
static uint64_t
pin_rev(uint64_t node)
{
	return is_versioned(node_kind(node), node_field(node)) ? node_rev(node) : 0;
}

/* ---- resolving ------------------------------------------------------------------------------ */

static int
resolve_record(struct place *p)
{
	enum record_class class = (enum record_class)kinds[p->kind].class;
	bool versioned = is_versioned(p->kind, p->field);
	uint64_t rev = node_rev(p->node);
	const struct record *r = tree_record(p->tree, class, node_row(p->node), &p->slot);

	if (r != NULL && (!versioned || (r->rev & NODE_REV_MASK) == rev)) {
		p->record = record_ref(r);
		return 0;
	}
	p->slot = SIZE_MAX;
	if (kinds[p->kind].type == S_IFDIR)
		return -ESTALE;
	r = pins_find(p->fs->pins, class, node_row(p->node), pin_rev(p->node));
	if (r != NULL && versioned && (r->rev & NODE_REV_MASK) != rev) {
		record_unref(r);
		r = NULL;
	}
	p->record = r;
	return r != NULL ? 0 : -ESTALE;
}

/* A directory leads to the members of one version, which may have been replaced. */
static int
resolve_archive(struct place *p)
{
	const struct tree_object *object;

	if (p->kind == KIND_OVA_DIR) {
		object = tree_image_archive(p->tree, p->slot);
		if (object == NULL || (object->base.row & NODE_REV_MASK) != node_rev(p->node))
			return -ESTALE;
	} else {
		object = record_as_object(p->record);
	}
	p->ova = ovas_find(p->fs->ovas, &object->row.digest);
	if (p->ova == NULL || p->kind == KIND_OVA_DIR)
		return 0;
	if (p->kind == KIND_OVA_ERROR)
		return p->ova->error != NULL ? 0 : -ESTALE;
	return p->field < p->ova->n ? 0 : -ESTALE;
}

static bool
is_of_archive(enum node_kind kind)
{
	return kind == KIND_OVA_DIR || kind == KIND_OVA_FILE || kind == KIND_OVA_ERROR;
}

/* Takes the tree; release the place whatever the result. */
static int
resolve_in(struct fs_context *fs, struct tree *tree, uint64_t node, struct place *p)
{
	int rc;

	*p = (struct place){
		.fs = fs, .tree = tree, .node = node, .kind = node_kind(node),
		.field = node_field(node), .slot = SIZE_MAX,
	};
	if ((unsigned)p->kind >= N_KINDS || (p->kind == KIND_ROOT && node != NODE_ROOT))
		return -ESTALE;
	if (p->kind == KIND_SNAPSHOT) {
		p->snapshot = snapshots_find(fs->snapshots, node);
		return p->snapshot != NULL ? 0 : -ESTALE;
	}
	if (p->kind == KIND_STATIC_DIR)
		return p->field < N_STATIC_DIRS ? 0 : -ESTALE;
	if (kinds[p->kind].class < 0)
		return 0;
	rc = resolve_record(p);
	return rc == 0 && is_of_archive(p->kind) ? resolve_archive(p) : rc;
}

int
place_resolve(struct fs_context *fs, uint64_t node, struct place *out)
{
	return resolve_in(fs, tree_get(fs->holder), node, out);
}

void
place_release(struct place *p)
{
	record_unref(p->record);
	if (p->snapshot != NULL)
		snapshot_unref(p->fs->snapshots, p->snapshot);
	ova_unref(p->ova);
	tree_unref(p->tree);
	p->ova = NULL;
	p->record = NULL;
	p->snapshot = NULL;
	p->tree = NULL;
}

bool
place_needs_index(const struct place *p)
{
	return is_of_archive(p->kind) && p->ova == NULL;
}

bool
place_is_image(const struct place *p)
{
	return p->kind == KIND_OBJECT || p->kind == KIND_OVA_FILE;
}

bool
place_is_dir(const struct place *p)
{
	return kinds[p->kind].type == S_IFDIR;
}

bool
place_is_link(const struct place *p)
{
	return kinds[p->kind].type == S_IFLNK;
}

/* ---- content -------------------------------------------------------------------------------- */

bool
place_is_list(const struct place *p)
{
	return p->kind == KIND_SUB_TEXT &&
	       (p->field == SUB_LIST_SMIME || p->field == SUB_LIST_JSON);
}

int
place_list_open(const struct place *p, bool at_disk)
{
	const struct digest *message = &record_as_sub(p->record)->row.message;
	bool payload = p->field == SUB_LIST_JSON;
	int fd;

	assert(place_is_list(p));
	fd = message_open_cached(p->fs->conf, message, payload);
	return fd < 0 && at_disk ? message_open(p->fs->conf, message, payload, NULL) : fd;
}

static int64_t
list_size(const struct place *p)
{
	const struct tree_sub *sub = record_as_sub(p->record);

	return p->field == SUB_LIST_JSON ? sub->payload_size : sub->message_size;
}

static void
link_to_subscription(const struct place *p, const struct tree_image *image, struct buf *out)
{
	char name[SAFENAME_MAX + 32];
	size_t sub;

	if (tree_sub_at(p->tree, (uint64_t)image->row.subscription, &sub)) {
		buf_printf(out, "../../subscriptions/%s", p->tree->subs[sub]->row.name);
	} else {
		safename_identifier(image->row.list_id, name);
		buf_printf(out, "../../subscriptions/%s", name);
	}
}

static void
image_link(const struct place *p, struct buf *out)
{
	const struct tree_image *image = record_as_image(p->record);

	switch (p->field) {
	case IMAGE_IN_CACHE:
		link_to_object("../", &image->row.meta.sha512, out);
		break;
	case IMAGE_IN_TITLES:
		buf_printf(out, "../images/%s", image->row.name);
		break;
	case IMAGE_IN_SUBSCRIPTION:
		buf_printf(out, "../../../images/%s", image->row.name);
		break;
	case IMAGE_SUBSCRIPTION:
		link_to_subscription(p, image, out);
		break;
	default:
		text_image(image, p->field, out);
		break;
	}
}

static void
sub_link(const struct place *p, struct buf *out)
{
	const struct tree_sub *sub = record_as_sub(p->record);
	char name[SAFENAME_MAX + 32];

	if (p->kind == KIND_ENDORSER_SUB_LINK) {
		buf_printf(out, "../../../subscriptions/%s", sub->row.name);
		return;
	}
	safename_identifier(sub->row.endorser, name);
	buf_printf(out, "../../endorsers/%s", name);
}

int
place_text(const struct place *p, struct buf *out)
{
	switch (p->kind) {
	case KIND_STATIC_TEXT:
		text_static(p->field, out);
		return 0;
	case KIND_SNAPSHOT:
		buf_add(out, p->snapshot->text, p->snapshot->len);
		return 0;
	case KIND_IMAGE_TEXT:
		text_image(record_as_image(p->record), p->field, out);
		return 0;
	case KIND_CACHE_LINK: case KIND_IMAGE_LINK: case KIND_TITLE_LINK:
	case KIND_SUB_IMAGE_LINK:
		image_link(p, out);
		return 0;
	case KIND_SUB_TEXT:
		text_sub(record_as_sub(p->record), p->field, out);
		return place_is_list(p) ? -EINVAL : 0;
	case KIND_SUB_LINK: case KIND_ENDORSER_SUB_LINK:
		sub_link(p, out);
		return 0;
	case KIND_REFUSED_TEXT:
		text_refused(record_as_refused(p->record), p->field, out);
		return 0;
	case KIND_ENDORSER_TEXT:
		text_endorser(record_as_endorser(p->record), p->field, out);
		return 0;
	case KIND_EXPIRED_TEXT: case KIND_EXPIRED_LINK:
		text_expired(record_as_expired(p->record), p->field, out);
		return 0;
	case KIND_OVA_ERROR:
		text_error(p->ova->error, out);
		return 0;
	case KIND_ROOT: case KIND_STATIC_DIR: case KIND_OBJECT: case KIND_IMAGE_DIR:
	case KIND_SUB_DIR: case KIND_SUB_IMAGES_DIR: case KIND_SUB_REFUSED_DIR:
	case KIND_REFUSED_DIR: case KIND_ENDORSER_DIR: case KIND_ENDORSER_SUBS_DIR:
	case KIND_EXPIRED_DIR: case KIND_OVA_DIR: case KIND_OVA_FILE: case N_KINDS:
		break;
	}
	return -EINVAL;
}

const struct object_row *
place_object(const struct place *p, const struct tree_object_slot **slot)
{
	*slot = p->slot == SIZE_MAX ? NULL : &p->tree->objects[p->slot];
	return &record_as_object(p->record)->row;
}

const struct object_row *
place_archive(const struct place *p, const struct tree_object_slot **slot)
{
	assert(is_of_archive(p->kind));
	if (p->kind != KIND_OVA_DIR)
		return place_object(p, slot);
	*slot = &p->tree->objects[p->tree->images[p->slot].object];
	return &(*slot)->object->row;
}

/* ---- attributes ----------------------------------------------------------------------------- */

uint64_t
place_ino(const struct place *p)
{
	char name[32];

	if (p->kind == KIND_ROOT)
		return 1;
	if (p->kind == KIND_STATIC_DIR)
		return 2 + p->field;
	if (p->kind == KIND_STATIC_TEXT)
		return p->field;
	if (p->kind == KIND_SNAPSHOT)
		return p->snapshot->ino;
	if (p->kind == KIND_ENDORSER_SUB_LINK) {
		snprintf(name, sizeof(name), "%llu", (unsigned long long)node_rev(p->node));
		return record_ino(p->record->ino, name);
	}
	if (p->kind == KIND_OVA_FILE)
		return ova_ino(p->record->ino, p->ova->members[p->field].name);
	if (p->kind == KIND_OVA_ERROR)
		return ova_ino(p->record->ino, NULL);
	return node_ino(p->record->ino, p->field);
}

static int64_t
place_mtime(const struct place *p)
{
	if (p->kind == KIND_SNAPSHOT)
		return p->snapshot->mtime;
	if (p->kind == KIND_STATIC_DIR)
		return p->tree->changed[p->field];
	if (p->record == NULL)
		return p->tree->changed[N_STATIC_DIRS];
	switch (p->record->class) {
	case RECORD_OBJECT:
		return record_as_object(p->record)->row.mtime;
	case RECORD_IMAGE:
		return tree_image_shown(record_as_image(p->record))->created;
	case RECORD_SUB:
		return record_as_sub(p->record)->row.created;
	case RECORD_REFUSED:
		return record_as_refused(p->record)->updated;
	case RECORD_ENDORSER:
		return p->tree->changed[DIR_ENDORSERS];
	case RECORD_EXPIRED:
		return p->kind == KIND_EXPIRED_DIR ?
			record_as_expired(p->record)->row.expired_at :
			record_as_expired(p->record)->row.meta.created;
	}
	return 0;
}

/*
 * Entering costs nothing: its members are known, or are read from the file here.  A directory that
 * would have an image fetched is found by who asks for it, and not by who walks through all.
 */
bool
place_lists_ova(const struct place *p)
{
	const struct tree_object *object = tree_image_archive(p->tree, p->slot);

	return object != NULL && (object->row.state == OBJECT_VERIFIED ||
				  ovas_knows(p->fs->ovas, &object->row.digest));
}

static size_t
n_static_subdirs(const struct tree *t, enum static_dir dir)
{
	switch (dir) {
	case DIR_IMAGES:
		return t->n_images;
	case DIR_SUBSCRIPTIONS:
		return t->n_subs;
	case DIR_ENDORSERS:
		return t->n_endorsers;
	case DIR_EXPIRED:
		return t->n_expired;
	case DIR_BY_SHA512: case DIR_CACHE: case DIR_BY_TITLE: case N_STATIC_DIRS:
		break;
	}
	return 0;
}

/* Directories: themselves, ".", and ".." of each directory in them. */
static nlink_t
place_nlink(const struct place *p)
{
	if (!place_is_dir(p))
		return 1;
	if (p->kind == KIND_ROOT)
		return 2 + N_STATIC_DIRS;
	if (p->kind == KIND_STATIC_DIR)
		return 2 + n_static_subdirs(p->tree, (enum static_dir)p->field);
	if (p->kind == KIND_SUB_DIR)
		return 2 + 2;		/* images, refused */
	if (p->kind == KIND_SUB_REFUSED_DIR)
		return 2 + record_as_sub(p->record)->n_refused;
	if (p->kind == KIND_ENDORSER_DIR)
		return 2 + 1;		/* subscriptions */
	if (p->kind == KIND_IMAGE_DIR)
		return 2 + place_lists_ova(p);
	return 2;
}

static off_t
place_size(const struct place *p)
{
	struct buf text = BUF_INIT;
	off_t size;

	if (place_is_dir(p))
		return 0;
	if (p->kind == KIND_OBJECT)
		return record_as_object(p->record)->row.size;
	if (p->kind == KIND_OVA_FILE)
		return p->ova->members[p->field].size;
	if (p->kind == KIND_SNAPSHOT)
		return (off_t)p->snapshot->len;
	if (place_is_list(p))
		return list_size(p);
	place_text(p, &text);
	size = (off_t)text.len;
	buf_release(&text);
	return size;
}

/* A file of any size has blocks: tar takes one without for a hole from end to end. */
static blkcnt_t
place_blocks(const struct place *p, off_t size)
{
	if (p->kind == KIND_OBJECT && record_as_object(p->record)->blocks > 0)
		return record_as_object(p->record)->blocks;
	return place_is_link(p) ? 0 : (size + 511) / 512;
}

void
place_stat(const struct place *p, struct stat *st)
{
	mode_t type = kinds[p->kind].type;

	memset(st, 0, sizeof(*st));
	st->st_ino = place_ino(p);
	st->st_mode = type | (type == S_IFDIR ? 0755 : type == S_IFLNK ? 0777 : 0644);
	st->st_nlink = place_nlink(p);
	st->st_uid = p->fs->uid;
	st->st_gid = p->fs->gid;
	st->st_size = place_size(p);
	st->st_blksize = 4096;
	st->st_blocks = place_blocks(p, st->st_size);
	st->st_mtim.tv_sec = place_mtime(p);
	st->st_atim = st->st_ctim = st->st_mtim;
}

/* ---- looking up ----------------------------------------------------------------------------- */

struct volatile_text {
	const struct place *dir;
	const struct entry *entry;
};

/* What a job says now; it may have ended since the entry was found. */
static void
make_image_text(const struct place *dir, const struct entry *e, struct buf *out)
{
	const struct tree_image *image = dir->tree->images[e->image].image;
	const struct image_meta *shown = tree_image_shown(image);
	struct engine_progress progress;

	switch (e->field) {
	case IMAGE_PROGRESS:
		fs_progress(dir->fs, &shown->sha512, &progress);
		text_progress(progress.bytes, shown->size, out);
		break;
	case IMAGE_PENDING:
		fs_progress(dir->fs, &image->row.pending.sha512, &progress);
		text_pending(image, progress.bytes, out);
		break;
	case IMAGE_ERROR:
		text_error(tree_image_error(dir->tree, e->image, NULL), out);
		break;
	default:
		break;
	}
}

/* Of a withdrawn image that is here in part: it is filled while somebody has it open. */
static void
make_expired_progress(const struct place *dir, struct buf *out)
{
	const struct image_meta *meta = &record_as_expired(dir->record)->row.meta;
	struct engine_progress progress;

	fs_progress(dir->fs, &meta->sha512, &progress);
	text_progress(progress.bytes, meta->size, out);
}

static void
make_text(void *arg, struct buf *out)
{
	const struct volatile_text *v = arg;

	if (v->dir->kind == KIND_EXPIRED_DIR)
		make_expired_progress(v->dir, out);
	else if (v->entry->image == SIZE_MAX)
		statustext_make(v->dir->fs, v->dir->tree, v->entry->field, out);
	else
		make_image_text(v->dir, v->entry, out);
}

static int
look_volatile(const struct place *dir, const struct entry *e, struct looked *out)
{
	struct volatile_text v = { dir, e };
	/* What follows from the tree alone need not be made again before there is another one. */
	bool sums = dir->record == NULL && e->field == ROOT_SHA512SUMS;
	bool events = dir->record == NULL && e->field == ROOT_EVENTS;
	uint64_t serial = sums || events ? dir->tree->serial : 0;
	/* A command that has changed the tree sees the sums changed. */
	long long age = e->brief && !sums ? 1000 : 0;
	enum node_kind kind = dir->kind == KIND_EXPIRED_DIR ? KIND_EXPIRED_TEXT : KIND_IMAGE_TEXT;
	uint64_t subject = dir->record != NULL ?
		node_make(kind, e->field, dir->record->row, 0) :
		node_make(KIND_STATIC_TEXT, e->field, 0, 0);
	struct place p = { .fs = dir->fs, .tree = dir->tree, .kind = KIND_SNAPSHOT,
			   .slot = SIZE_MAX };

	p.snapshot = snapshots_look(dir->fs->snapshots, subject, e->ino, age, serial, make_text,
				    &v);
	p.node = out->node = p.snapshot->node;
	out->brief = e->brief;
	place_stat(&p, &out->st);
	snapshot_unref(dir->fs->snapshots, p.snapshot);
	return 0;
}

int
lookup_entry(const struct place *dir, const struct entry *e, struct looked *out)
{
	PLACE_CLEANUP struct place p = { .fs = dir->fs };
	int rc;

	if (e->node == 0)
		return look_volatile(dir, e, out);
	rc = resolve_in(dir->fs, tree_ref(dir->tree), e->node, &p);
	if (rc < 0)
		return rc;
	/* Let go of since the directory was resolved. */
	if (place_needs_index(&p) && dir->ova != NULL)
		p.ova = ova_ref(dir->ova);
	return lookup_self(&p, out);
}

int
lookup_self(const struct place *p, struct looked *out)
{
	out->node = p->node;
	out->brief = false;
	place_stat(p, &out->st);
	if (p->snapshot != NULL)
		snapshots_again(p->fs->snapshots, p->snapshot);
	else if (p->record != NULL && !place_is_dir(p))
		pins_add(p->fs->pins, p->record, pin_rev(p->node));
	return 0;
}

void
lookup_forget(struct fs_context *fs, uint64_t node, uint64_t n)
{
	enum node_kind kind = node_kind(node);

	if ((unsigned)kind >= N_KINDS)
		return;
	if (kind == KIND_SNAPSHOT)
		snapshots_forget(fs->snapshots, node, n);
	else if (kinds[kind].class >= 0 && kinds[kind].type != S_IFDIR)
		pins_drop(fs->pins, (enum record_class)kinds[kind].class, node_row(node),
			  pin_rev(node), n);
}
