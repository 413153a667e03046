/*
 * Partial files: bytes on their way into the store, and the step that makes them an object.
 *
 * A partial lies at partial/<hex> and is preallocated beyond its end (FALLOC_FL_KEEP_SIZE), so
 * that a full disk shows before the first byte is fetched, while the length of the file goes on
 * saying how many bytes have come.  That length is the whole record: file systems write it after
 * the data it covers, so after a crash it is never larger than what is there, and no side file can
 * disagree with it.  Should it lie all the same, nothing is lost but time: who resumes hashes what
 * is on disk, and the digest decides.
 *
 * Whatever has the object's name already was not hashed just now, as the partial was: it may be a
 * good copy that a crash left without a row, or a file that somebody put there.  It is exchanged
 * for the partial in one step and kept in quarantine/.
 *
 * Commit order (after any crash there is the partial, or the object, or for a moment both names):
 *	data -> fdatasync -> rename without replacing to objects/ab/<hex>
 *	     -> fsync of objects/ab and partial/
 * A file whose fsync failed is dropped, because the kernel may have thrown its dirty pages away
 * and would answer the next fsync with success.
 */
#include "config.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "store_priv.h"
#include "storedir.h"

static int
say_full(const struct store *s, int64_t need, int64_t free_now, int64_t keep, struct err *err)
{
	return err_refuse(err, CODE_FULL, "no room in '%s': %lld bytes needed, %lld free, "
			  "%lld to be kept free (cache_min_free)", s->path, (long long)need,
			  (long long)free_now, (long long)keep);
}

/* Is there room for need more bytes above cache_min_free? */
static int
judge_room(const struct store *s, int64_t need, struct err *err)
{
	int percent = atomic_load(&s->min_free_percent);
	int64_t total, free_now, keep;
	struct statvfs fs;

	if (fstatvfs(s->partial, &fs) != 0)
		return err_set(err, errno, "cannot ask for the free space of '%s': %m", s->path);
	total = (int64_t)(fs.f_blocks * fs.f_frsize);
	free_now = (int64_t)(fs.f_bavail * fs.f_frsize);
	keep = percent >= 0 ? total / 100 * percent : atomic_load(&s->min_free);
	if (free_now < need || free_now - need < keep)
		return say_full(s, need, free_now, keep, err);
	return 0;
}

static int
preallocate(const struct store *s, int fd, int64_t size, struct err *err)
{
	struct stat st;
	int64_t need;
	int rc;

	if (fstat(fd, &st) != 0)
		return err_set(err, errno, "cannot look at a partial file in '%s': %m", s->path);
	need = size - (int64_t)st.st_blocks * 512;
	if (need < 0)
		need = 0;
	rc = judge_room(s, need, err);
	if (rc != 0)
		return rc;
	do
		rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size);
	while (rc != 0 && errno == EINTR);
	if (rc == 0 || errno == EOPNOTSUPP || errno == ENOSYS)
		return 0;
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

/*
 * Opens what an earlier run left if it can be gone on with: a regular file of ours, not larger than
 * the image.  -ENOENT: there is nothing (any more).
 */
static int
open_earlier(struct store *s, const char *hex, int64_t size)
{
	CLEANUP_FD int fd = -1;
	struct stat st;
	int rc;

	if (fstatat(s->partial, hex, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode)) {
		char to[STORE_NAME_MAX + 1];

		rc = store_aside_lost(s, s->partial, hex, to);
		return rc != 0 ? rc : -ENOENT;
	}
	if (st.st_size <= size && st.st_uid == geteuid()) {
		fd = storedir_open(s->partial, hex, O_RDWR, 0);
		if (fd >= 0 || fd != -EACCES)
			return steal_fd(&fd);
	}
	if (unlinkat(s->partial, hex, 0) != 0)
		return -errno;
	return -ENOENT;
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
	fd = open_earlier(s, hex, size);
	if (fd == -ENOENT)
		fd = storedir_open(s->partial, hex, O_RDWR | O_CREAT | O_EXCL, STORE_FILE_MODE);
	if (fd == -ENOSPC || fd == -EDQUOT) {
		errno = -fd;
		return err_refuse(err, CODE_FULL, "cannot make '%s/partial/%s': %m", s->path, hex);
	}
	if (fd < 0) {
		errno = -fd;
		return err_set(err, errno, "cannot open '%s/partial/%s': %m", s->path, hex);
	}
	if (fstat(fd, &st) != 0)
		return err_set(err, errno, "cannot look at '%s/partial/%s': %m", s->path, hex);
	rc = preallocate(s, fd, size, err);
	if (rc != 0) {
		if (st.st_size == 0)
			unlinkat(s->partial, hex, 0);
		else
			unreserve(fd, st.st_size);
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
	return preallocate(s, fd, size, err);
}

void
store_partial_drop(struct store *s, const struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	unlinkat(s->partial, hex, 0);
}

/* Gives the partial its name as an object; what has the name already is put aside. */
static int
name_object(struct store *s, int shard, const char *hex)
{
	int rc = storedir_move(s->partial, hex, shard, hex);

	if (rc != -EEXIST)
		return rc;
	if (renameat2(s->partial, hex, shard, hex, RENAME_EXCHANGE) == 0) {
		/* If this fails, the next start moves it to lost+found. */
		(void)store_aside_any(s, s->partial, hex);
		return 0;
	}
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	rc = store_aside_any(s, shard, hex);
	return rc != 0 ? rc : storedir_move(s->partial, hex, shard, hex);
}

/* objects/ab; what is in its way is moved to lost+found. */
static int
enter_shard(struct store *s, const char *hex)
{
	const char name[3] = { hex[0], hex[1], '\0' };
	char to[STORE_NAME_MAX + 1];
	int fd = store_shard(s, hex, true);

	if (fd != -ENOTDIR && fd != -ELOOP)
		return fd;
	fd = store_aside_lost(s, s->objects, name, to);
	return fd != 0 ? fd : store_shard(s, hex, true);
}

static int
commit_durably(struct store *s, const char *hex, int fd)
{
	CLEANUP_FD int shard = -1;
	int rc;

	do
		rc = fdatasync(fd);
	while (rc != 0 && errno == EINTR);
	if (rc != 0)
		return -errno;
	shard = enter_shard(s, hex);
	if (shard < 0)
		return shard;
	rc = name_object(s, shard, hex);
	if (rc != 0)
		return rc;
	rc = storedir_sync(shard);
	if (rc == 0)
		rc = storedir_sync(s->partial);
	if (rc != 0)
		unlinkat(shard, hex, 0);
	return rc;
}

int
store_commit(struct store *s, const struct digest *d, int fd, struct err *err)
{
	char hex[DIGEST_HEX + 1];
	int rc;

	digest_hex(d, hex);
	rc = commit_durably(s, hex, fd);
	if (rc == 0)
		return 0;
	store_partial_drop(s, d);
	errno = -rc;
	if (rc == -ENOSPC || rc == -EDQUOT)
		return err_refuse(err, CODE_FULL, "cannot keep object '%s' in '%s': %m", hex,
				  s->path);
	return err_set(err, errno, "cannot keep object '%s' in '%s': %m", hex, s->path);
}

int
store_quarantine_partial(struct store *s, const struct digest *d, struct err *err)
{
	char hex[DIGEST_HEX + 1];
	int rc;

	digest_hex(d, hex);
	rc = store_aside_any(s, s->partial, hex);
	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot move '%s/partial/%s' to quarantine: %m", s->path,
			       hex);
	}
	return 0;
}
