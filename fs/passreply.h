/*
 * passreply.h - telling the kernel what libfuse does not: that it reads an opened file by itself,
 * and that lookups in one directory need not wait for each other.
 *
 * libfuse knows how from 3.17 on (https://github.com/libfuse/libfuse/pull/861 for the lookups).
 * With 3.13 to 3.16 its replies are completed on their way to the kernel.  With older ones neither
 * is to be had.
 */
#ifndef VMI_PASSREPLY_H
#define VMI_PASSREPLY_H

#include <stdbool.h>

struct fuse_conn_info;
struct fuse_file_info;
struct fuse_req;
struct fuse_session;

bool passreply_is_possible(void);	/* with this libfuse */

/* After the session was mounted, before its first request.  false: not with this libfuse. */
bool passreply_attach(struct fuse_session *session);

/* In the init operation: lookups and listings of one directory may come at the same time. */
void passreply_parallel(struct fuse_conn_info *conn);

/* In the init operation.  stacked: the stored files lie on a stacked file system (overlayfs). */
void passreply_init(struct fuse_conn_info *conn, bool stacked);

/* As fuse_reply_open(), with the kernel's number of the backing file. */
int passreply_open(struct fuse_req *req, struct fuse_file_info *fi, int backing_id);

#endif
