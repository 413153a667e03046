/*
 * ops.h - the FUSE operations.
 *
 * The user data of the session is a struct fs_context.  Each operation finds the node, checks,
 * calls what is below, and replies exactly once on every path.  fi->fh is 0 for texts and the
 * object's row id for image files: numbers that another process resolves.
 */
#ifndef VMI_OPS_H
#define VMI_OPS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fuse_conn_info;
struct fuse_entry_param;
struct fuse_file_info;
struct fuse_forget_data;
struct fuse_lowlevel_ops;
struct fuse_req;
struct looked;

const struct fuse_lowlevel_ops *ops_table(void);

/* How long the kernel remembers: everything that changes is taken back (notify.h). */
#define OPS_TIMEOUT 86400.0

/* ops_dir.c */
void op_lookup(struct fuse_req *req, uint64_t parent, const char *name);
void op_forget(struct fuse_req *req, uint64_t node, uint64_t n);
void op_forget_multi(struct fuse_req *req, size_t count, struct fuse_forget_data *forgets);
void op_getattr(struct fuse_req *req, uint64_t node, struct fuse_file_info *fi);
void op_readlink(struct fuse_req *req, uint64_t node);
void op_opendir(struct fuse_req *req, uint64_t node, struct fuse_file_info *fi);
void op_releasedir(struct fuse_req *req, uint64_t node, struct fuse_file_info *fi);
void op_statfs(struct fuse_req *req, uint64_t node);
void ops_entry_param(const struct looked *l, struct fuse_entry_param *e);

/* readdir.c */
void op_readdir(struct fuse_req *req, uint64_t node, size_t size, off_t off,
		struct fuse_file_info *fi);
void op_readdirplus(struct fuse_req *req, uint64_t node, size_t size, off_t off,
		    struct fuse_file_info *fi);

/* ops_file.c */
void op_open(struct fuse_req *req, uint64_t node, struct fuse_file_info *fi);
void op_read(struct fuse_req *req, uint64_t node, size_t size, off_t off,
	     struct fuse_file_info *fi);
void op_release(struct fuse_req *req, uint64_t node, struct fuse_file_info *fi);
void op_lseek(struct fuse_req *req, uint64_t node, off_t off, int whence,
	      struct fuse_file_info *fi);

/* xattr.c */
void op_getxattr(struct fuse_req *req, uint64_t node, const char *name, size_t size);
void op_listxattr(struct fuse_req *req, uint64_t node, size_t size);

#endif
