/*
 * ops_file.c - open, read, release and lseek of texts, lists and images.
 *
 * What may have to wait for the disk is tried without it first, and then, as an errand (errand.h),
 * from the beginning: opening an image, opening a list, reading one.
 *
 * Texts are made anew for each read: a node id names one version, so that they are the same
 * each time.  The kernel keeps the pages of texts and images over opens, because neither ever
 * changes under its node id.
 */
#include "config.h"
#define FUSE_USE_VERSION 312
#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/io.h"
#include "fs/disk.h"
#include "fs/errand.h"
#include "fs/handles.h"
#include "fs/held.h"
#include "fs/lookup.h"
#include "fs/ovaread.h"
#include "fs/passreply.h"

enum { READ_MAX = 8 << 20 };

#define ASK_DISK BLOB_ASK_DISK	/* besides 0 and errno values: only an errand can do it */

/* ---- open ----------------------------------------------------------------------------------- */

static int
judge_image(struct fs_context *fs, const struct place *p)
{
	const struct tree_object_slot *slot;
	const struct object_row *row = place_object(p, &slot);

	return fs_may_open(fs, row, slot);
}

static int
open_image(struct fs_context *fs, const struct place *p, bool at_disk)
{
	const struct tree_object_slot *slot;
	const struct object_row *row = place_object(p, &slot);
	int rc = judge_image(fs, p);

	if (rc < 0)
		return rc;
	rc = blob_open(fs->blobs, row, at_disk);
	if (rc == 0)
		readahead_set(fs->readahead, blob_row_is_lazy(row) ? READ_AHEAD_LAZY_KIB :
								     READ_AHEAD_WHOLE_KIB);
	return rc;
}

static int
open_list(struct fs_context *fs, const struct place *p, bool at_disk)
{
	int fd;

	if (held_again(fs->held, p->node))
		return 0;
	fd = place_list_open(p, at_disk);
	if (fd == -EAGAIN && !at_disk)
		return ASK_DISK;
	/* Swept since a newer list came: the kernel is to look the name up again. */
	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	held_open(fs->held, p->node, fd);
	return 0;
}

static bool
is_passthrough(uint64_t node)
{
	return node_kind(node) == KIND_OBJECT && node_rev(node) == NODE_PASSTHROUGH;
}

/* An image, or a member of one. */
static void
close_image(struct fs_context *fs, uint64_t fh)
{
	uint64_t object = ova_fh_object(fh);
	struct digest d;

	if (blob_digest(fs->blobs, object, &d)) {
		if (ova_fh_member(fh) >= 0)
			ovas_let_go(fs->ovas, &d, ova_fh_serial(fh));
		fs_used(fs, &d);
	}
	blob_close(fs->blobs, object);
}

static void
close_node(struct fs_context *fs, uint64_t node, uint64_t fh)
{
	struct digest d;

	if (is_passthrough(node) && blob_digest(fs->blobs, fh, &d))
		passthrough_leave(fs->passthrough, &d);
	if (fh != 0)
		close_image(fs, fh);
	else
		disk_close_later(fs->disk, held_close(fs->held, node));
}

static int
open_node(struct fs_context *fs, const struct place *p, struct fuse_file_info *fi, bool at_disk)
{
	int rc = 0;

	if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & (O_TRUNC | O_CREAT)) != 0)
		return -EROFS;
	if (place_is_dir(p))
		return -EISDIR;
	if (place_is_link(p))
		return -ELOOP;
	fi->fh = 0;
	if (place_is_image(p)) {
		rc = open_image(fs, p, at_disk);
		fi->fh = p->record->row;
		if (rc == 0)
			fs_used(fs, &record_as_object(p->record)->row.digest);
		if (rc == 0 && p->kind == KIND_OVA_FILE) {
			fi->fh = ova_fh(fi->fh, p->field, p->ova->serial);
			ovas_hold(fs->ovas, p->ova);
		}
	} else if (place_is_list(p)) {
		rc = open_list(fs, p, at_disk);
	}
	return rc;
}

/*
 * An image that loses its trust is cut after the new tree is there.  An open that began with the
 * old tree may have missed the cut: it is judged once more, by the tree of now.
 */
static int
judge_again(struct fs_context *fs, const struct place *p, struct fuse_file_info *fi)
{
	PLACE_CLEANUP struct place now = { .fs = fs };
	int rc = place_resolve(fs, p->node, &now);

	if (rc == 0 && now.tree != p->tree)
		rc = judge_image(fs, &now);
	if (rc < 0)
		close_image(fs, fi->fh);
	return rc;
}

/*
 * The kernel cannot have a node open both ways.  So all opens of this one pass through, and when
 * that is over the name leads to another one: ESTALE makes the kernel look it up again.
 */
static int
enter_passthrough(struct fs_context *fs, const struct place *p, uint64_t fh)
{
	int id = passthrough_enter(fs->passthrough, &record_as_object(p->record)->row.digest);

	if (id > 0)
		return id;
	close_image(fs, fh);
	return -ESTALE;
}

/* A whole image that was opened the usual way: the next open may pass through. */
static void
consider_passthrough(struct fs_context *fs, const struct place *p, uint64_t fh)
{
	const struct object_row *row = &record_as_object(p->record)->row;
	struct blockfile *file;

	if (fs->passthrough == NULL || row->state != OBJECT_VERIFIED || row->degraded)
		return;
	file = blob_file(fs->blobs, fh);
	if (file != NULL && passthrough_opened(fs->passthrough, &row->digest, file))
		engine_audit(fs->engine, &row->digest);
	blob_let_go(fs->blobs, file);
}

/* 0 or the kernel's number of a backing file, in *id; a negative errno value; or ASK_DISK. */
static int
open_place(struct fs_context *fs, const struct place *p, struct fuse_file_info *fi, bool at_disk,
	   int *id)
{
	int rc = open_node(fs, p, fi, at_disk);

	*id = 0;
	if (rc == 0 && place_is_image(p))
		rc = judge_again(fs, p, fi);
	if (rc == 0 && is_passthrough(p->node)) {
		*id = enter_passthrough(fs, p, fi->fh);
		rc = *id < 0 ? *id : 0;
	} else if (rc == 0 && p->kind == KIND_OBJECT) {
		consider_passthrough(fs, p, fi->fh);
	}
	return rc;
}

static void
reply_opened(struct fuse_req *req, struct fs_context *fs, uint64_t node,
	     struct fuse_file_info *fi, int rc, int id)
{
	if (rc < 0) {
		fuse_reply_err(req, -rc);
		return;
	}
	fi->keep_cache = 1;
	fi->noflush = 1;
	/* The opener was killed meanwhile: there will be no release. */
	if ((id > 0 ? passreply_open(req, fi, id) : fuse_reply_open(req, fi)) != 0)
		close_node(fs, node, fi->fh);
}

/* ---- errands -------------------------------------------------------------------------------- */

/* A request that needs the disk. */
struct request {
	struct fs_context *fs;
	struct fuse_req *req;
	uint64_t node;
	int flags;			/* of an open */
	size_t size;			/* of a read */
	off_t off;
	struct handles_note note;	/* of an open */
};

static void
request_refuse(void *arg, int errnum)
{
	struct request *r = arg;

	fuse_reply_err(r->req, errnum);
	handles_resume(r->note);
	handles_end(r->fs->handles);
}

static void
request_run(const struct request *request, const struct errand_ops *ops)
{
	struct request *r = xmalloc(sizeof(*r));

	*r = *request;
	r->note = handles_defer();
	errands_run(r->fs->errands, r->req, ops, r);
}

static void
open_at_disk(void *arg, uint64_t number)
{
	CLEANUP_FREE struct request *r = arg;
	PLACE_CLEANUP struct place p = { .fs = r->fs };
	struct fuse_file_info fi = { .flags = r->flags };
	int id = 0, rc = place_resolve(r->fs, r->node, &p);

	/* Let go of meanwhile: the kernel is to look the name up again. */
	if (rc == 0 && place_needs_index(&p))
		rc = -ESTALE;
	handles_resume(r->note);
	if (rc == 0)
		rc = open_place(r->fs, &p, &fi, true, &id);
	if (errand_claim(r->fs->errands, number)) {
		reply_opened(r->req, r->fs, r->node, &fi, rc, id);
		handles_end(r->fs->handles);
	} else {
		handles_defer();	/* it was given up, and its note with it */
		if (rc == 0)
			close_node(r->fs, r->node, fi.fh);
	}
}

static const struct errand_ops open_errand = { open_at_disk, request_refuse, free };

static void
open_again(const struct operation *op)
{
	struct fuse_file_info fi = { .flags = op->flags };

	op_open(op->req, op->node, &fi);
}

void
op_open(struct fuse_req *req, uint64_t node, struct fuse_file_info *fi)
{
	struct fs_context *fs = fuse_req_userdata(req);
	PLACE_CLEANUP struct place p = { .fs = fs };
	const struct operation op = { .req = req, .run = open_again, .node = node,
				      .flags = fi->flags };
	const struct request request = { .fs = fs, .req = req, .node = node, .flags = fi->flags };
	int id = 0, rc = place_resolve(fs, node, &p);

	if (rc == 0 && place_needs_index(&p) && !place_is_dir(&p)) {
		ovareads_wait(fs->ovareads, &p, &op);
		return;
	}
	if (rc == 0)
		rc = open_place(fs, &p, fi, false, &id);
	if (rc == ASK_DISK)
		request_run(&request, &open_errand);
	else
		reply_opened(req, fs, node, fi, rc, id);
}

void
op_release(struct fuse_req *req, uint64_t node, struct fuse_file_info *fi)
{
	close_node(fuse_req_userdata(req), node, fi->fh);
	fuse_reply_err(req, 0);
}

/* ---- read ----------------------------------------------------------------------------------- */

static ssize_t
read_list_again(struct fs_context *fs, uint64_t node, char *data, size_t size, off_t off)
{
	PLACE_CLEANUP struct place p = { .fs = fs };
	CLEANUP_FD int fd = -1;
	int rc = place_resolve(fs, node, &p);

	if (rc == 0)
		fd = place_list_open(&p, true);
	return rc < 0 ? rc : fd < 0 ? fd : io_pread_full(fd, data, size, off);
}

static void
reply_read(struct fuse_req *req, const char *data, ssize_t n)
{
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, data, (size_t)n);
}

static void
read_list_at_disk(void *arg, uint64_t number)
{
	CLEANUP_FREE struct request *r = arg;
	CLEANUP_FREE char *data = malloc(r->size + 1);
	CLEANUP_FD int unused = -1;
	ssize_t n = -ENOMEM;

	if (data != NULL)
		n = held_read(r->fs->held, r->node, true, data, r->size, r->off, &unused);
	if (n == -ENOENT)	/* opened in a process before us */
		n = read_list_again(r->fs, r->node, data, r->size, r->off);
	if (errand_claim(r->fs->errands, number))
		reply_read(r->req, data, n);
}

static const struct errand_ops read_list_errand = { read_list_at_disk, request_refuse, free };

static void
read_list(struct fuse_req *req, struct fs_context *fs, uint64_t node, size_t size, off_t off)
{
	struct request request = { .fs = fs, .req = req, .node = node, .size = size, .off = off };
	CLEANUP_FREE char *data = NULL;
	int unused;
	ssize_t n;

	if (request.size > READ_MAX)
		request.size = READ_MAX;
	data = malloc(request.size + 1);
	if (data == NULL) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	n = held_read(fs->held, node, false, data, request.size, off, &unused);
	disk_close_later(fs->disk, unused);
	if (n == -EAGAIN || n == -ENOENT)
		request_run(&request, &read_list_errand);
	else
		reply_read(req, data, n);
}

static void
read_text(struct fuse_req *req, const struct place *p, size_t size, off_t off)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	size_t left;
	int rc;

	/* Large texts are snapshots: no copy is made of them. */
	if (p->kind == KIND_SNAPSHOT) {
		left = (size_t)off < p->snapshot->len ? p->snapshot->len - (size_t)off : 0;
		fuse_reply_buf(req, left > 0 ? p->snapshot->text + off : NULL,
			       left < size ? left : size);
		return;
	}
	rc = place_text(p, &text);
	if (rc < 0) {
		fuse_reply_err(req, -rc);
		return;
	}
	left = (size_t)off < text.len ? text.len - (size_t)off : 0;
	fuse_reply_buf(req, left > 0 ? text.data + off : NULL, left < size ? left : size);
}

/*
 * Where an open member lies in its archive: *off and *size, which are 0 if it is an image.
 * -EAGAIN: that has to be read first (wait_for_index()).
 */
static int
find_member(struct fs_context *fs, uint64_t fh, int64_t *off, int64_t *size)
{
	int member = ova_fh_member(fh);
	const struct ova_index *index;
	struct digest d;
	int rc;

	*off = *size = 0;
	if (member < 0)
		return 0;
	if (!blob_digest(fs->blobs, ova_fh_object(fh), &d))
		return -ESTALE;
	rc = ovas_held(fs->ovas, &d, ova_fh_serial(fh), &index);
	if (rc < 0)
		return rc;
	if ((size_t)member < index->n) {
		*off = index->members[member].off;
		*size = index->members[member].size;
	} else {
		rc = -ESTALE;
	}
	ova_unref(index);
	return rc;
}

/* The member was opened in a process before us, or its index was let go of: it is read again. */
static void
wait_for_index(struct fs_context *fs, const struct operation *op)
{
	PLACE_CLEANUP struct place p = { .fs = fs };
	int rc = place_resolve(fs, op->node, &p);

	if (rc < 0)
		fuse_reply_err(op->req, -rc);
	else if (place_needs_index(&p))
		ovareads_wait(fs->ovareads, &p, op);
	else	/* it came meanwhile */
		op->run(op);
}

/* An open image is read through its number alone: it may have left the tree. */
static void
read_image(struct fs_context *fs, const struct operation *op)
{
	uint64_t fh = op->fh;
	size_t size = op->size;
	off_t off = op->off;
	int64_t start, len;
	int rc = find_member(fs, fh, &start, &len);

	if (rc == -EAGAIN) {
		wait_for_index(fs, op);
		return;
	}
	if (rc == 0 && off < 0)
		rc = -EINVAL;
	if (rc == 0 && ova_fh_member(fh) >= 0) {
		if (off >= len)
			size = 0;
		else if ((int64_t)size > len - off)
			size = (size_t)(len - off);
		/* What is beyond the member's end may be beyond the archive's. */
		off = size > 0 ? off + start : 0;
	}
	if (rc < 0)
		fuse_reply_err(op->req, -rc);
	else
		blob_read(fs->blobs, op->req, ova_fh_object(fh), size, off, op->flags);
}

static void
read_again(const struct operation *op)
{
	struct fuse_file_info fi = { .fh = op->fh, .flags = op->flags };

	op_read(op->req, op->node, op->size, op->off, &fi);
}

void
op_read(struct fuse_req *req, uint64_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs_context *fs = fuse_req_userdata(req);
	PLACE_CLEANUP struct place p = { .fs = fs };
	const struct operation op = { .req = req, .run = read_again, .node = node, .fh = fi->fh,
				      .size = size, .off = off, .flags = fi->flags };
	int rc;

	if (fi->fh != 0) {
		read_image(fs, &op);
		return;
	}
	rc = place_resolve(fs, node, &p);
	if (rc == 0 && place_needs_index(&p)) {
		ovareads_wait(fs->ovareads, &p, &op);
		return;
	}
	if (rc < 0)
		fuse_reply_err(req, -rc);
	else if (place_is_list(&p))
		read_list(req, fs, node, size, off);
	else if (off < 0)
		fuse_reply_err(req, EINVAL);
	else
		read_text(req, &p, size, off);
}

/* ---- lseek ---------------------------------------------------------------------------------- */

/* A text has no holes, and a member of an archive none that could be trusted (blob_seek()). */
static off_t
seek_within(off_t size, off_t off, int whence)
{
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (off < 0 || off >= size)
		return -ENXIO;
	return whence == SEEK_DATA ? off : size;
}

static off_t
seek_text(const struct place *p, off_t off, int whence)
{
	struct stat st;

	if (place_needs_index(p))
		return -EAGAIN;
	place_stat(p, &st);
	return seek_within(st.st_size, off, whence);
}

static off_t
seek_image(struct fs_context *fs, uint64_t fh, off_t off, int whence)
{
	int64_t start, size;
	int rc = find_member(fs, fh, &start, &size);

	if (rc < 0)
		return rc;
	return ova_fh_member(fh) >= 0 ? seek_within(size, off, whence) :
					blob_seek(fs->blobs, fh, off, whence);
}

static void
lseek_again(const struct operation *op)
{
	struct fuse_file_info fi = { .fh = op->fh };

	op_lseek(op->req, op->node, op->off, op->flags, &fi);
}

void
op_lseek(struct fuse_req *req, uint64_t node, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fs_context *fs = fuse_req_userdata(req);
	PLACE_CLEANUP struct place p = { .fs = fs };
	const struct operation op = { .req = req, .run = lseek_again, .node = node, .fh = fi->fh,
				      .off = off, .flags = whence };
	off_t result;

	if (fi->fh != 0) {
		result = seek_image(fs, fi->fh, off, whence);
	} else {
		result = place_resolve(fs, node, &p);
		if (result == 0)
			result = seek_text(&p, off, whence);
	}
	if (result == -EAGAIN)
		wait_for_index(fs, &op);
	else if (result < 0)
		fuse_reply_err(req, (int)-result);
	else
		fuse_reply_lseek(req, result);
}
