/*
 * Partial files of images that come as a stream.
 *
 * A partial lies at partial/<hex> and is preallocated beyond its end (FALLOC_FL_KEEP_SIZE), so
 * that a full disk shows before the first byte is fetched, while the length of the file goes on
 * saying how many bytes have come.  That length is the whole record: file systems write it after
 * the data it covers, so after a crash it is never larger than what is there, and no side file can
 * disagree with it.  Should it lie all the same, nothing is lost but time: who resumes hashes what
 * is on disk, and the digest decides.
 */
#include "config.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cleanup.h"
#include "store_priv.h"
#include "storedir.h"

int
store_reserve(struct store *s, const struct digest *d, int fd, int64_t size, bool keep_length,
	      struct err *err)
{
	int rc = store_fits(s, d, size, err);

	if (rc != 0)
		return rc;
	do
		rc = fallocate(fd, keep_length ? FALLOC_FL_KEEP_SIZE : 0, 0, size);
	while (rc != 0 && errno == EINTR);
	if (rc != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
		rc = keep_length ? 0 : ftruncate(fd, (off_t)size);
	if (rc == 0) {
		store_measure(s, d);
		return 0;
	}
	if (errno == ENOSPC || errno == EDQUOT)
		return err_refuse(err, CODE_FULL, "cannot reserve %lld bytes in '%s': %m",
				  (long long)size, s->path);
	return err_set(err, errno, "cannot reserve %lld bytes in '%s': %m", (long long)size,
		       s->path);
}

/* Gives back what was reserved beyond the end of the file. */
static void
unreserve(int fd, int64_t have)
{
	if (ftruncate(fd, (off_t)have) != 0)
		errno = 0;	/* the room stays taken until the partial is resumed or dropped */
}

int
store_open_earlier(struct store *s, const char *name, int64_t min, int64_t max)
{
	CLEANUP_FD int fd = -1;
	struct stat st;
	int rc;

	if (fstatat(s->partial, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode)) {
		char to[STORE_NAME_MAX + 1];

		rc = store_aside_lost(s, s->partial, name, to);
		return rc != 0 ? rc : -ENOENT;
	}
	if (st.st_size >= min && st.st_size <= max && st.st_uid == geteuid()) {
		fd = storedir_open(s->partial, name, O_RDWR, 0);
		if (fd >= 0 || fd != -EACCES)
			return steal_fd(&fd);
	}
	if (unlinkat(s->partial, name, 0) != 0)
		return -errno;
	return -ENOENT;
}

int
store_say_unopened(const struct store *s, int rc, const char *name, struct err *err)
{
	errno = -rc;
	if (rc == -ENOSPC || rc == -EDQUOT)
		return err_refuse(err, CODE_FULL, "cannot make '%s/partial/%s': %m", s->path, name);
	return err_set(err, errno, "cannot open '%s/partial/%s': %m", s->path, name);
}

int
store_partial_open(struct store *s, const struct digest *d, int64_t size, int *out_fd,
		   int64_t *have, struct err *err)
{
	CLEANUP_FD int fd = -1;
	char hex[DIGEST_HEX + 1];
	struct stat st;
	int rc;

	digest_hex(d, hex);
	*have = 0;
	store_blocks_drop(s, d);	/* its room is needed */
	fd = store_open_earlier(s, hex, 0, size);
	if (fd == -ENOENT)
		fd = storedir_open(s->partial, hex, O_RDWR | O_CREAT | O_EXCL, STORE_FILE_MODE);
	if (fd < 0)
		return store_say_unopened(s, fd, hex, err);
	if (fstat(fd, &st) != 0)
		return err_set(err, errno, "cannot look at '%s/partial/%s': %m", s->path, hex);
	rc = store_reserve(s, d, fd, size, true, err);
	if (rc != 0) {
		if (st.st_size == 0)
			unlinkat(s->partial, hex, 0);
		else
			unreserve(fd, st.st_size);
		store_measure(s, d);
		return rc;
	}
	*have = st.st_size;
	*out_fd = steal_fd(&fd);
	return 0;
}

int
store_partial_reopen(struct store *s, const struct digest *d, int fd, struct err *err)
{
	CLEANUP_FD int again = -1;
	char hex[DIGEST_HEX + 1];
	struct stat ours, named;

	digest_hex(d, hex);
	again = storedir_open(s->partial, hex, O_RDONLY, 0);
	if (again < 0) {
		errno = -again;
		return err_set(err, errno, "cannot open '%s/partial/%s': %m", s->path, hex);
	}
	if (fstat(fd, &ours) != 0 || fstat(again, &named) != 0 ||
	    ours.st_dev != named.st_dev || ours.st_ino != named.st_ino)
		return store_with_code(err, CODE_CORRUPT,
			err_set(err, EBADMSG, "'%s/partial/%s' was replaced while it was open",
				s->path, hex));
	return steal_fd(&again);
}

int
store_partial_note(struct store *s, const struct digest *d, int fd, int64_t have)
{
	struct stat st;

	(void)s;
	(void)d;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (have < 0 || have > st.st_size)
		return -EINVAL;
	if (have == st.st_size)
		return 0;
	return ftruncate(fd, (off_t)have) != 0 ? -errno : 0;
}

int
store_partial_reset(struct store *s, const struct digest *d, int fd, int64_t size, struct err *err)
{
	int rc = store_partial_note(s, d, fd, 0);

	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot empty a partial file in '%s': %m", s->path);
	}
	store_measure(s, d);	/* what it was emptied of is free again */
	return store_reserve(s, d, fd, size, true, err);
}

void
store_partial_drop(struct store *s, const struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	unlinkat(s->partial, hex, 0);
	store_measure(s, d);
}

int
store_quarantine_partial(struct store *s, const struct digest *d, struct err *err)
{
	char hex[DIGEST_HEX + 1];
	int rc;

	digest_hex(d, hex);
	rc = store_aside_any(s, s->partial, hex, hex);
	store_measure(s, d);
	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot move '%s/partial/%s' to quarantine: %m", s->path,
			       hex);
	}
	return 0;
}
