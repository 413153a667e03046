/*
 * readdir.c - listings, plain and with attributes.
 *
 * Each request is answered from the current tree; the cookie says where to go on.  An entry of
 * readdirplus counts as a lookup, but for "." and "..", which the kernel does not count.
 *
 * The kernel asks once more after the last entry, and keeps what it was given.  If the tree had
 * changed in between, the entries of the new one would follow all of the old one there, and for a
 * moment others would be shown both.  So the cookie of a last entry says that it was the last.
 */
#include "config.h"
#define FUSE_USE_VERSION 312
#include "fs/ops.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "fs/lookup.h"
#include "fs/ovaread.h"

enum { REPLY_MAX = 1 << 20 };		/* the kernel asks for 128 KiB at most today */

#define LAST_ENTRY (UINT64_C(1) << 62)	/* beside the cookie; row ids do not come so far */

struct reply {
	struct fuse_req *req;
	char *data;
	size_t size, used;
	struct buf counted;		/* node ids of the lookups in it */
};

static bool
is_dot(const struct entry *e)
{
	return strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0;
}

static bool
fits(const struct reply *r, size_t need)
{
	return need <= r->size - r->used;
}

typedef bool adder(struct reply *r, const struct place *dir, const struct entry *e);

/* False when the reply is full. */
static bool
add_plain(struct reply *r, const struct place *dir, const struct entry *e)
{
	struct stat st = { .st_ino = e->ino, .st_mode = e->type };
	size_t need = fuse_add_direntry(r->req, NULL, 0, e->name, NULL, 0);

	(void)dir;
	if (!fits(r, need))
		return false;
	fuse_add_direntry(r->req, r->data + r->used, r->size - r->used, e->name, &st,
			  (off_t)e->cookie);
	r->used += need;
	return true;
}

static bool
add_plus(struct reply *r, const struct place *dir, const struct entry *e)
{
	struct fuse_entry_param param;
	struct looked looked;
	size_t need = fuse_add_direntry_plus(r->req, NULL, 0, e->name, NULL, 0);

	if (!fits(r, need))
		return false;
	memset(&param, 0, sizeof(param));
	param.attr.st_ino = e->ino;
	param.attr.st_mode = e->type;
	/* Without a node id the kernel takes the name and looks it up itself. */
	if (!is_dot(e) && lookup_entry(dir, e, &looked) == 0) {
		ops_entry_param(&looked, &param);
		buf_add(&r->counted, &looked.node, sizeof(looked.node));
	}
	fuse_add_direntry_plus(r->req, r->data + r->used, r->size - r->used, e->name, &param,
			       (off_t)e->cookie);
	r->used += need;
	return true;
}

static void
uncount(struct fs_context *fs, const struct buf *counted)
{
	uint64_t node;

	for (size_t i = 0; i + sizeof(node) <= counted->len; i += sizeof(node)) {
		memcpy(&node, counted->data + i, sizeof(node));
		lookup_forget(fs, node, 1);
	}
}

static void
readdir_again(const struct operation *op)
{
	op_readdir(op->req, op->node, op->size, op->off, NULL);
}

static void
readdirplus_again(const struct operation *op)
{
	op_readdirplus(op->req, op->node, op->size, op->off, NULL);
}

/* Until the reply is full. */
static void
add_entries(struct reply *r, const struct place *dir, uint64_t cookie, adder *add)
{
	struct entry e, next;
	bool more = place_next(dir, cookie, &e);

	while (more) {
		more = place_next(dir, e.cookie, &next);
		if (!more)
			e.cookie |= LAST_ENTRY;
		if (!add(r, dir, &e))
			break;
		e = next;
	}
}

static void
list(struct fuse_req *req, uint64_t node, size_t size, off_t off, adder *add)
{
	struct fs_context *fs = fuse_req_userdata(req);
	PLACE_CLEANUP struct place dir = { .fs = fs };
	CLEANUP_FREE char *data = NULL;
	struct reply r = { .req = req, .size = size < REPLY_MAX ? size : REPLY_MAX,
			   .counted = BUF_INIT };
	const struct operation op = { .req = req, .node = node, .size = size, .off = off,
				      .run = add == add_plus ? readdirplus_again : readdir_again };
	uint64_t cookie = (uint64_t)off;
	int rc = place_resolve(fs, node, &dir);

	if (rc == 0 && !place_is_dir(&dir))
		rc = -ENOTDIR;
	if (rc == 0 && place_needs_index(&dir)) {
		ovareads_wait(fs->ovareads, &dir, &op);
		return;
	}
	if (rc == 0 && (r.data = data = malloc(r.size + 1)) == NULL)
		rc = -ENOMEM;
	if (rc < 0) {
		fuse_reply_err(req, -rc);
		return;
	}
	if ((cookie & LAST_ENTRY) == 0)
		add_entries(&r, &dir, cookie, add);
	if (fuse_reply_buf(req, r.data, r.used) != 0)
		uncount(fs, &r.counted);
	buf_release(&r.counted);
}

void
op_readdir(struct fuse_req *req, uint64_t node, size_t size, off_t off,
	   struct fuse_file_info *fi)
{
	(void)fi;
	list(req, node, size, off, add_plain);
}

void
op_readdirplus(struct fuse_req *req, uint64_t node, size_t size, off_t off,
	       struct fuse_file_info *fi)
{
	(void)fi;
	list(req, node, size, off, add_plus);
}
