/*
 * ops.c - the table of FUSE operations, what is agreed with the kernel, and what is refused.
 *
 * The mount is read-only and the kernel refuses changes by itself; the operations answer EROFS
 * all the same, should a request come through.  Locks are not among them: without these
 * operations the kernel keeps locks itself, as for a local file.  opendir is always answered: an
 * ENOSYS once would let the kernel keep long listings that change between two parts.
 */
#include "config.h"
#define FUSE_USE_VERSION 312
#include "fs/ops.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include "core/verity.h"
#include "fs/context.h"
#include "fs/passreply.h"

/* ---- what is agreed ------------------------------------------------------------------------- */

enum {
	/* Parked read-ahead counts against these: at the default of 12 it stalls the mount. */
	MAX_BACKGROUND = 65535,
	CONGESTION_THRESHOLD = 49151,
};

static void
want(struct fuse_conn_info *conn, unsigned flag, bool on)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	if (on)
		fuse_set_feature_flag(conn, flag);
	else
		fuse_unset_feature_flag(conn, flag);
#else
	if (on)
		conn->want |= flag & conn->capable;
	else
		conn->want &= ~flag;
#endif
}

static void
op_init(void *userdata, struct fuse_conn_info *conn)
{
	const struct fs_context *fs = userdata;

	/* With it an O_DIRECT reader that waits cannot be killed (measured, kernel 6.18). */
	want(conn, FUSE_CAP_ASYNC_DIO, false);
	want(conn, FUSE_CAP_ASYNC_READ, true);
	want(conn, FUSE_CAP_READDIRPLUS, true);
	want(conn, FUSE_CAP_EXPORT_SUPPORT, true);
	want(conn, FUSE_CAP_CACHE_SYMLINKS, true);
	/* The kernel then remembers that there are none: half of what ls -l asks. */
	want(conn, FUSE_CAP_POSIX_ACL, true);
	want(conn, FUSE_CAP_SPLICE_READ, false);
	want(conn, FUSE_CAP_SPLICE_WRITE, false);
	want(conn, FUSE_CAP_SPLICE_MOVE, false);
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = CONGESTION_THRESHOLD;
	/*
	 * Bounds reads as well: one granule each, so that it is hashed once, and the kernel's
	 * read-ahead is hashed by several threads (measured on two cores: 1.2 times as fast as with
	 * reads of 1 MiB, twice as fast as with 128 KiB).
	 */
	conn->max_write = VERITY_GRANULE;
	/*
	 * Otherwise one lookup that waits (for an archive) has all others in that directory wait on
	 * a lock of the kernel, where no signal ends them.
	 */
	passreply_parallel(conn);
	if (fs->passthrough != NULL)
		passreply_init(conn, fs->stacked);
}

/* ---- what is refused ------------------------------------------------------------------------ */

static void
refuse(struct fuse_req *req)
{
	fuse_reply_err(req, EROFS);
}

static void
op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *st, int to_set,
	   struct fuse_file_info *fi)
{
	(void)node, (void)st, (void)to_set, (void)fi;
	refuse(req);
}

static void
op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	(void)parent, (void)name, (void)mode, (void)dev;
	refuse(req);
}

static void
op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	(void)parent, (void)name, (void)mode;
	refuse(req);
}

static void
op_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent, (void)name;
	refuse(req);
}

static void
op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	(void)target, (void)parent, (void)name;
	refuse(req);
}

static void
op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	  const char *new_name, unsigned flags)
{
	(void)parent, (void)name, (void)new_parent, (void)new_name, (void)flags;
	refuse(req);
}

static void
op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t new_parent, const char *new_name)
{
	(void)node, (void)new_parent, (void)new_name;
	refuse(req);
}

static void
op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	  struct fuse_file_info *fi)
{
	(void)parent, (void)name, (void)mode, (void)fi;
	refuse(req);
}

static void
op_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off,
	 struct fuse_file_info *fi)
{
	(void)node, (void)data, (void)size, (void)off, (void)fi;
	refuse(req);
}

static void
op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size,
	    int flags)
{
	(void)node, (void)name, (void)value, (void)size, (void)flags;
	refuse(req);
}

static void
op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	(void)node, (void)name;
	refuse(req);
}

static void
op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off, off_t len,
	     struct fuse_file_info *fi)
{
	(void)node, (void)mode, (void)off, (void)len, (void)fi;
	refuse(req);
}

static void
op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_off, struct fuse_file_info *in_fi,
		   fuse_ino_t out, off_t out_off, struct fuse_file_info *out_fi, size_t len,
		   int flags)
{
	(void)in, (void)in_off, (void)in_fi, (void)out, (void)out_off, (void)out_fi, (void)len;
	(void)flags;
	refuse(req);
}

/* ---- what has nothing to do ----------------------------------------------------------------- */

static void
op_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)node, (void)fi;
	fuse_reply_err(req, 0);
}

static void
op_fsync(fuse_req_t req, fuse_ino_t node, int data_only, struct fuse_file_info *fi)
{
	(void)node, (void)data_only, (void)fi;
	fuse_reply_err(req, 0);
}

static void
op_ioctl(fuse_req_t req, fuse_ino_t node, unsigned command, void *arg,
	 struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
	 size_t out_size)
{
	(void)node, (void)command, (void)arg, (void)fi, (void)flags, (void)in, (void)in_size;
	(void)out_size;
	fuse_reply_err(req, ENOTTY);
}

static const struct fuse_lowlevel_ops table = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.open = op_open,
	.read = op_read,
	.lseek = op_lseek,
	.flush = op_flush,
	.fsync = op_fsync,
	.release = op_release,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsync,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.ioctl = op_ioctl,
	.setattr = op_setattr,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_remove,
	.rmdir = op_remove,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = op_create,
	.write = op_write,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
	.fallocate = op_fallocate,
	.copy_file_range = op_copy_file_range,
};

const struct fuse_lowlevel_ops *
ops_table(void)
{
	return &table;
}
