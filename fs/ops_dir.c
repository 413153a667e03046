/*
 * ops_dir.c - names and attributes: lookup, forget, getattr, readlink, opendir, statfs.
 */
#include "config.h"
#define FUSE_USE_VERSION 312
#include "fs/ops.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <string.h>
#include <sys/statvfs.h>
#include "core/cleanup.h"
#include "fs/lookup.h"
#include "fs/ovaread.h"

void
ops_entry_param(const struct looked *l, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = l->node;
	e->generation = 1;
	e->attr = l->st;
	e->attr_timeout = OPS_TIMEOUT;
	e->entry_timeout = l->brief ? 0 : OPS_TIMEOUT;
}

static void
reply_looked(struct fuse_req *req, struct fs_context *fs, const struct looked *l)
{
	struct fuse_entry_param e;

	ops_entry_param(l, &e);
	/* An answer that nobody took is not remembered, and so will not be forgotten. */
	if (fuse_reply_entry(req, &e) != 0)
		lookup_forget(fs, l->node, 1);
}

/* The kernel remembers that the name is missing, until it is told otherwise. */
static void
reply_missing(struct fuse_req *req)
{
	struct fuse_entry_param e;

	memset(&e, 0, sizeof(e));
	e.entry_timeout = OPS_TIMEOUT;
	fuse_reply_entry(req, &e);
}

/* "." and ".." come from NFS and open_by_handle_at(), of nodes that the kernel has forgotten. */
static int
look(struct fs_context *fs, const struct place *dir, const char *name, struct looked *out)
{
	PLACE_CLEANUP struct place parent = { .fs = fs };
	struct entry entry;
	int rc;

	if (strcmp(name, ".") == 0)
		return lookup_self(dir, out);
	if (strcmp(name, "..") == 0) {
		rc = place_resolve(fs, place_parent(dir), &parent);
		return rc < 0 ? rc : lookup_self(&parent, out);
	}
	rc = place_find(dir, name, &entry);
	return rc < 0 ? rc : lookup_entry(dir, &entry, out);
}

/* Of a member of an archive its own attributes are wanted, of a directory those of one. */
static bool
look_must_wait(const struct place *dir, const char *name)
{
	if (!place_needs_index(dir))
		return false;
	return !place_is_dir(dir) || (strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
}

static void
lookup_again(const struct operation *op)
{
	op_lookup(op->req, op->node, op->name);
}

void
op_lookup(struct fuse_req *req, uint64_t parent, const char *name)
{
	struct fs_context *fs = fuse_req_userdata(req);
	PLACE_CLEANUP struct place dir = { .fs = fs };
	struct looked looked;
	const struct operation op = { .req = req, .run = lookup_again, .node = parent,
				      .name = name };
	int rc = place_resolve(fs, parent, &dir);

	if (rc == 0 && look_must_wait(&dir, name)) {
		ovareads_wait(fs->ovareads, &dir, &op);
		return;
	}
	if (rc == 0)
		rc = look(fs, &dir, name, &looked);
	if (rc == 0)
		reply_looked(req, fs, &looked);
	else if (rc == -ENOENT)
		reply_missing(req);
	else
		fuse_reply_err(req, -rc);
}

void
op_forget(struct fuse_req *req, uint64_t node, uint64_t n)
{
	lookup_forget(fuse_req_userdata(req), node, n);
	fuse_reply_none(req);
}

void
op_forget_multi(struct fuse_req *req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs_context *fs = fuse_req_userdata(req);

	for (size_t i = 0; i < count; i++)
		lookup_forget(fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void
getattr_again(const struct operation *op)
{
	op_getattr(op->req, op->node, NULL);
}

void
op_getattr(struct fuse_req *req, uint64_t node, struct fuse_file_info *fi)
{
	struct fs_context *fs = fuse_req_userdata(req);
	PLACE_CLEANUP struct place p = { .fs = fs };
	const struct operation op = { .req = req, .run = getattr_again, .node = node };
	struct stat st;
	int rc = place_resolve(fs, node, &p);

	(void)fi;
	if (rc == 0 && place_needs_index(&p) && !place_is_dir(&p)) {
		ovareads_wait(fs->ovareads, &p, &op);
		return;
	}
	if (rc < 0) {
		fuse_reply_err(req, -rc);
		return;
	}
	place_stat(&p, &st);
	fuse_reply_attr(req, &st, OPS_TIMEOUT);
}

void
op_readlink(struct fuse_req *req, uint64_t node)
{
	struct fs_context *fs = fuse_req_userdata(req);
	PLACE_CLEANUP struct place p = { .fs = fs };
	CLEANUP_BUF struct buf target = BUF_INIT;
	int rc = place_resolve(fs, node, &p);

	if (rc == 0)
		rc = place_is_link(&p) ? place_text(&p, &target) : -EINVAL;
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else
		fuse_reply_readlink(req, buf_str(&target));
}

static void
opendir_again(const struct operation *op)
{
	struct fuse_file_info fi = { .flags = op->flags };

	op_opendir(op->req, op->node, &fi);
}

/*
 * Here is where who lists an archive waits, and not in readdir: the kernel holds no lock of the
 * directory meanwhile.
 */
void
op_opendir(struct fuse_req *req, uint64_t node, struct fuse_file_info *fi)
{
	struct fs_context *fs = fuse_req_userdata(req);
	PLACE_CLEANUP struct place p = { .fs = fs };
	const struct operation op = { .req = req, .run = opendir_again, .node = node,
				      .flags = fi->flags };
	int rc = place_resolve(fs, node, &p);

	if (rc == 0 && place_needs_index(&p) && place_is_dir(&p)) {
		ovareads_wait(fs->ovareads, &p, &op);
		return;
	}
	if (rc == 0 && !place_is_dir(&p))
		rc = -ENOTDIR;
	if (rc < 0) {
		fuse_reply_err(req, -rc);
		return;
	}
	/*
	 * A long listing is read in parts, between which it may change: that is for us to sort out.
	 */
	fi->fh = 0;
	fi->cache_readdir = fi->keep_cache = place_is_short(&p);
	fuse_reply_open(req, fi);
}

void
op_releasedir(struct fuse_req *req, uint64_t node, struct fuse_file_info *fi)
{
	(void)node;
	(void)fi;
	fuse_reply_err(req, 0);
}

void
op_statfs(struct fuse_req *req, uint64_t node)
{
	struct fs_context *fs = fuse_req_userdata(req);
	struct engine_status status;
	const struct store_usage *u = &status.usage;
	struct statvfs st;
	struct tree *t = tree_get(fs->holder);
	int64_t used, left;

	(void)node;
	fs_status(fs, &status);
	used = store_used(u);
	/*
	 * Others may use the same disk: the size is what the cache has and what it could still get.
	 */
	left = u->fs_free;
	if (u->limit > 0 && u->limit - used < left)
		left = u->limit > used ? u->limit - used : 0;
	memset(&st, 0, sizeof(st));
	st.f_bsize = st.f_frsize = 4096;
	st.f_blocks = (fsblkcnt_t)((used + left) / 4096);
	st.f_bfree = st.f_bavail = (fsblkcnt_t)(left / 4096);
	st.f_files = t->n_images;
	st.f_namemax = ENTRY_NAME_MAX;
	st.f_flag = ST_RDONLY | ST_NOSUID | ST_NODEV;
	tree_unref(t);
	fuse_reply_statfs(req, &st);
}
