/*
 * io.h - reads and writes that finish or fail: EINTR and short counts are handled here.
 */
#ifndef VMI_IO_H
#define VMI_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "buf.h"
#include "err.h"

/* All of len bytes, or a negative errno value. */
int io_write_all(int fd, const void *data, size_t len);
int io_pwrite_all(int fd, const void *data, size_t len, off_t off);

/* As the calls of their names, but never EINTR: a descriptor or 0, or a negative errno value. */
int io_openat(int dirfd, const char *name, int flags, mode_t mode);
int io_fsync(int fd);
int io_fdatasync(int fd);
int io_ftruncate(int fd, off_t len);

/*
 * Whether a call failed for want of something of this process or host, so that it says nothing of
 * the file: no descriptor, no memory.
 */
bool io_is_shortage(int rc);

/* Up to len bytes; fewer only at the end of the file.  Bytes read or a negative errno value. */
ssize_t io_read_full(int fd, void *data, size_t len);
ssize_t io_pread_full(int fd, void *data, size_t len, off_t off);
/*
 * The same from memory alone: -EAGAIN if the disk would have to be asked, or where it cannot be
 * told (a file system without RWF_NOWAIT).
 */
ssize_t io_pread_cached(int fd, void *data, size_t len, off_t off);
/*
 * Opens a regular file for reading if all that this takes is in memory: -EAGAIN otherwise, whatever
 * the reason.  confined: below dir, without symbolic links.  *size: of the file.
 */
int io_open_cached(int dir, const char *path, bool confined, off_t *size);

/* Everything until end of file, appended to out; more than max bytes is -EFBIG. */
int io_read_to_end(int fd, size_t max, struct buf *out);

/*
 * The whole regular file name (relative to dirfd), at most max bytes, O_NOFOLLOW, O_NONBLOCK: a
 * FIFO, device or directory is -EINVAL, a larger file -EFBIG.
 */
int io_read_file(int dirfd, const char *name, size_t max, struct buf *out);

/*
 * Replaces name in dirfd by data: NAME.new beside it, fsync, rename, fsync of the directory.
 * After a crash the file is the old one or the new one, whole.  Processes that replace the same
 * file wait for each other; the last one wins.
 */
int io_replace_file(int dirfd, const char *name, mode_t mode, const void *data, size_t len);

/* The same for a file that must be new: -EEXIST if something has the name already, and it stays. */
int io_create_file(int dirfd, const char *name, mode_t mode, const void *data, size_t len);

/* Removes NAME.new if a crash left it; one that is just being written stays. */
void io_drop_stale(int dirfd, const char *name);

/* Milliseconds of CLOCK_MONOTONIC: for every deadline, so that clock steps do not matter. */
long long io_monotonic_ms(void);

/*
 * One message on a SOCK_SEQPACKET or stream socket, with up to n_fds descriptors as SCM_RIGHTS.
 * Received descriptors are close-on-exec; *n_fds is the room before and the number after.
 * Returns the bytes received (0: the peer closed), 0 for a sent message, or a negative errno value.
 */
int io_send_fds(int sock, const void *data, size_t len, const int *fds, size_t n_fds);
/* The same; a non-blocking socket that is full is waited for, -ETIMEDOUT after ms. */
int io_send_fds_wait(int sock, const void *data, size_t len, const int *fds, size_t n_fds, int ms);
ssize_t io_recv_fds(int sock, void *data, size_t len, int *fds, size_t *n_fds);

/* Opens /dev/null on every closed one of 0, 1, 2, so that no file of ours ever lands there. */
void io_fill_std_fds(void);

#endif
