/*
 * fetcher_file.c - file:// (RFC 8089): an admin's own list, or images below file_prefix.
 *
 * An image list is somebody else's text: where it may name files, openat2() keeps every step of
 * the path below the prefix, also when a directory there is a link that leads away.  The validator
 * is made of what changes when a file does, so that a transfer can be resumed.
 */
#include "config.h"

#include "fetcher_transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/hex.h"
#include "core/io.h"

enum { FILE_PIECE = 256 << 10 };

char *
file_url_path(const char *url)
{
	CLEANUP_BUF struct buf path = BUF_INIT;
	const char *p;

	if (strncasecmp(url, "file://", 7) != 0)
		return NULL;
	p = url + 7;
	if (strncasecmp(p, "localhost/", 10) == 0)
		p += 9;
	if (*p != '/')
		return NULL;
	for (; *p != '\0'; p++) {
		int byte = *p == '%' ? hex_byte(p + 1) : -1;

		if (*p != '%') {
			buf_putc(&path, *p);
		} else if (byte <= 0) {
			return NULL;
		} else {
			buf_putc(&path, (char)byte);
			p += 2;
		}
	}
	return buf_steal(&path, NULL);
}

/* Relative to the prefix, every component and every link below it. */
static int
open_below(const char *prefix, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	CLEANUP_FD int dir = -1;
	size_t len = strlen(prefix);

	while (len > 1 && prefix[len - 1] == '/')
		len--;
	if (strncmp(path, prefix, len) != 0 || (len > 1 && path[len] != '/'))
		return -EXDEV;
	path += len;
	path += strspn(path, "/");
	dir = io_openat(AT_FDCWD, prefix, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (dir < 0)
		return -errno;
	for (;;) {
		long fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));

		/* EAGAIN: a rename somewhere raced with the walk (openat2(2)). */
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			return fd >= 0 ? (int)fd : -errno;
	}
}

static int
open_file(const struct fetch_request *req, struct stat *st, struct err *err)
{
	CLEANUP_FREE char *path = file_url_path(req->url);
	CLEANUP_FD int fd = -1;

	if (path == NULL)
		return err_set(err, EINVAL, "not a file address of this machine: '%s'", req->url);
	if (req->file_prefix[0] != '\0') {
		fd = open_below(req->file_prefix, path);
	} else {
		fd = io_openat(AT_FDCWD, path,
			       O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
		if (fd < 0)
			fd = -errno;
	}
	if (fd == -EXDEV) {
		err_refuse(err, CODE_DOWNLOAD, "'%s' does not lie below '%s'", path,
			   req->file_prefix);
		return -EPERM;
	}
	if (fd < 0 || fstat(fd, st) != 0) {
		int errnum = fd < 0 ? -fd : errno;

		err_refuse(err, CODE_DOWNLOAD, "cannot open '%s': %s", path,
			   strerrordesc_np(errnum));
		return -errnum;
	}
	if (!S_ISREG(st->st_mode)) {
		err_refuse(err, CODE_DOWNLOAD, "'%s' is not a regular file", path);
		return -EINVAL;
	}
	return steal_fd(&fd);
}

static int
judge_file(const struct fetch_request *req, int64_t size, struct err *err)
{
	if (req->expected_size >= 0 && size != req->expected_size)
		return err_refuse(err, CODE_SIZE, "the file has %lld bytes, signed are %lld",
				  (long long)size, (long long)req->expected_size);
	if (size > req->max_bytes)
		return err_refuse(err, CODE_TOO_MUCH,
				  "the file has %lld bytes, at most %lld are accepted",
				  (long long)size, (long long)req->max_bytes);
	/* As a server's 416: a range holds at least one byte. */
	if (req->offset > size || (req->length > 0 && req->offset == size))
		return err_refuse(err, CODE_RANGE, "the file has %lld bytes, none from %lld on",
				  (long long)size, (long long)req->offset);
	return 0;
}

/* Until the size the file had when it was opened: one that grows meanwhile is not followed. */
static int
pump(struct transfer *t, int fd, const struct header_body *body, struct err *err)
{
	CLEANUP_FREE char *piece = xmalloc(FILE_PIECE);
	int64_t at = body->first;
	int rc = 0;

	while (rc == 0 && at < body->end) {
		int64_t left = body->end - at;
		size_t want = left < FILE_PIECE ? (size_t)left : FILE_PIECE;
		ssize_t n = io_pread_full(fd, piece, want, at);

		if (n < 0) {
			rc = err_set(err, (int)-n, "cannot read the file: %s",
				     strerrordesc_np((int)-n));
		} else if (n == 0) {
			err_refuse(err, CODE_SLOW, "the file became shorter while it was read");
			rc = -ECONNRESET;
		} else {
			at += n;
			rc = sink_add(t->sink, piece, (size_t)n, err);
		}
	}
	return rc;
}

int
file_fetch(struct transfer *t, struct err *err)
{
	struct header_body body = { 0, 0, 0 };
	char etag[FETCH_ETAG_MAX];
	struct stat st;
	CLEANUP_FD int fd = open_file(t->req, &st, err);
	int rc;

	if (fd < 0)
		return fd;
	rc = judge_file(t->req, st.st_size, err);
	if (rc != 0)
		return rc;
	snprintf(etag, sizeof(etag), "\"%llx-%llx-%llx.%lx\"", (unsigned long long)st.st_ino,
		 (unsigned long long)st.st_size, (unsigned long long)st.st_mtim.tv_sec,
		 (unsigned long)st.st_mtim.tv_nsec);
	body.total = body.end = st.st_size;
	if (t->req->length > 0) {
		body.first = t->req->offset;
		if (t->req->length < st.st_size - body.first)
			body.end = body.first + t->req->length;
	} else if (t->req->etag[0] == '\0' || strcmp(t->req->etag, etag) == 0)
		body.first = t->req->offset;
	t->begin(t->arg, &body, etag);
	rc = pump(t, fd, &body, err);
	return rc == 0 ? sink_flush(t->sink, err) : rc;
}
