/*
 * The store as a whole: its marker, its lock, and the objects in it.
 *
 * A store is a directory tree on a file system that may be absent at start, full, read-only, or
 * changed behind our back.  Therefore
 *  - the marker file holds the id of the catalogue that owns the store: an empty directory where
 *    the cache file system is not mounted has none, and is refused rather than taken for a cache
 *    that lost everything;
 *  - everything below cache_dir is reached through directory descriptors taken once, one name a
 *    step, no link followed (storedir.h);
 *  - the type of an object is looked at before it is opened, because opening a device can do
 *    something, and once more on the descriptor, because that look alone proves nothing.
 *
 * The lock is a flock() on the marker.  It belongs to the open file, so it survives fork() and
 * ends with the last process that holds the descriptor, however it ends.  A marker that was
 * replaced has another inode: whoever locks an old one is told to open again.
 */
#include "config.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "ledger.h"
#include "log.h"
#include "store_priv.h"
#include "storedir.h"

enum { MARKER_MAX = 256 };

static int
open_root(const char *path, struct err *err)
{
	int fd;

	/* The admin may have made cache_dir itself a link to the disk it lies on. */
	do
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return err_set(err, errno, "cannot open cache_dir '%s': %m", path);
	return fd;
}

/* The id in the marker, without its newline.  -ENOENT: there is no marker. */
static int
read_marker(int root, struct buf *id)
{
	CLEANUP_FD int fd = storedir_open(root, STORE_MARKER, O_RDONLY, 0);
	int rc = fd < 0 ? fd : io_read_to_end(fd, MARKER_MAX, id);

	if (rc == 0 && id->len > 0 && id->data[id->len - 1] == '\n')
		id->data[--id->len] = '\0';
	return rc;
}

/* Takes the lock of the marker that is there; -EBUSY if some process owns the store. */
static int
lock_marker(int root, int *lock)
{
	CLEANUP_FD int fd = storedir_open(root, STORE_MARKER, O_RDONLY, 0);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	*lock = steal_fd(&fd);
	return 0;
}

enum marker { MARKER_NONE, MARKER_OURS, MARKER_OTHER };

static enum marker
look_at_marker(int root, const char *store_id, struct buf *id)
{
	int rc = read_marker(root, id);

	if (rc == -ENOENT)
		return MARKER_NONE;
	return rc == 0 && strcmp(buf_str(id), store_id) == 0 ? MARKER_OURS : MARKER_OTHER;
}

/*
 * A marker of ours is left alone: somebody may hold its lock.  One of another catalogue is replaced
 * only while we hold its lock, so that whoever owns that store keeps it.
 */
static int
write_marker(const struct store *s, const char *store_id, bool force)
{
	CLEANUP_FREE char *text = xasprintf("%s\n", store_id);
	CLEANUP_BUF struct buf id = BUF_INIT;
	CLEANUP_FD int lock = -1;
	int rc = -EEXIST;

	switch (look_at_marker(s->root, store_id, &id)) {
	case MARKER_NONE:
		return io_create_file(s->root, STORE_MARKER, STORE_FILE_MODE, text, strlen(text));
	case MARKER_OURS:
		return 0;
	case MARKER_OTHER:
		if (force)
			rc = lock_marker(s->root, &lock);
		if (rc == 0)
			rc = io_replace_file(s->root, STORE_MARKER, STORE_FILE_MODE, text,
					     strlen(text));
		break;
	}
	return rc;
}

/* May a marker with this id be written here? */
static int
judge_marker(const struct store *s, const char *store_id, bool force, struct err *err)
{
	CLEANUP_BUF struct buf id = BUF_INIT;

	if (force || look_at_marker(s->root, store_id, &id) != MARKER_OTHER)
		return 0;
	return err_set(err, EEXIST, "'%s' is the cache of another catalogue (marker '%s'); "
		       "`vmimagectl config init-cache --force` takes it over",
		       s->path, id.len > 0 ? buf_str(&id) : "unreadable");
}

/*
 * Opens lost+found, or the other name where that one is not for us: a file system's own
 * lost+found belongs to root and to fsck.
 */
static int
open_lost(int root, const char **name)
{
	int fd = storedir_enter(root, STORE_LOST_FOUND, true);

	*name = STORE_LOST_FOUND;
	if (fd >= 0 && faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	else if (fd != -EACCES)
		return fd;
	*name = STORE_LOST_FOUND_OTHER;
	return storedir_enter(root, STORE_LOST_FOUND_OTHER, true);
}

static int
enter_or_say(const struct store *s, const char *name, struct err *err)
{
	int fd = storedir_enter(s->root, name, true);

	if (fd < 0) {
		errno = -fd;
		return err_set(err, errno, "cannot open '%s/%s': %m", s->path, name);
	}
	return fd;
}

static int
open_dirs(struct store *s, struct err *err)
{
	if ((s->objects = enter_or_say(s, "objects", err)) < 0)
		return s->objects;
	if ((s->partial = enter_or_say(s, "partial", err)) < 0)
		return s->partial;
	if ((s->quarantine = enter_or_say(s, "quarantine", err)) < 0)
		return s->quarantine;
	s->lost = open_lost(s->root, &s->lost_name);
	if (s->lost < 0) {
		errno = -s->lost;
		return err_set(err, errno, "cannot open '%s/%s': %m", s->path, s->lost_name);
	}
	return 0;
}

static struct store *
store_alloc(const struct conf *conf)
{
	struct store *s = xcalloc(1, sizeof(*s));

	s->path = xstrdup(conf->cache_dir);
	s->root = s->objects = s->partial = s->quarantine = s->lost = s->marker = -1;
	store_reconfigure(s, conf);
	pthread_mutex_init(&s->aside, NULL);
	pthread_mutex_init(&s->side, NULL);
	pthread_mutex_init(&s->room, NULL);
	return s;
}

void
store_reconfigure(struct store *s, const struct conf *conf)
{
	atomic_store(&s->min_free, conf->cache_min_free);
	atomic_store(&s->min_free_percent, conf->cache_min_free_percent);
	atomic_store(&s->limit, conf->cache_size);
}

int
store_init(const struct conf *conf, const char *store_id, bool force, struct err *err)
{
	struct store *s = store_alloc(conf);
	int rc;

	if (mkdir(s->path, 0750) != 0 && errno != EEXIST) {
		rc = err_set(err, errno, "cannot make cache_dir '%s': %m", s->path);
		goto out;
	}
	rc = s->root = open_root(s->path, err);
	if (rc < 0)
		goto out;
	rc = judge_marker(s, store_id, force, err);
	if (rc != 0)
		goto out;
	rc = open_dirs(s, err);
	if (rc != 0)
		goto out;
	/* Last, because a marker says that all of it is there. */
	rc = write_marker(s, store_id, force);
	if (rc == -EEXIST) {	/* another process was faster; was it for the same catalogue? */
		rc = judge_marker(s, store_id, false, err);
	} else if (rc == -EBUSY) {
		err_refuse(err, CODE_BUSY, "the cache '%s' is in use by another process", s->path);
	} else if (rc != 0) {
		errno = -rc;
		err_set(err, errno, "cannot write '%s/%s': %m", s->path, STORE_MARKER);
	}
out:
	store_close(s);
	return rc;
}

static int
check_marker(struct store *s, const char *store_id, struct err *err)
{
	CLEANUP_BUF struct buf id = BUF_INIT;
	int rc = read_marker(s->root, &id);

	if (rc == -ENOENT)
		return err_refuse(err, CODE_CORRUPT, "cache marker missing in '%s': is its file "
				  "system mounted? If the cache is lost, "
				  "`vmimagectl config init-cache --force` starts an empty one",
				  s->path);
	if (rc != 0) {
		errno = -rc;
		return err_refuse(err, CODE_CORRUPT, "cannot read the cache marker '%s/%s': %m",
				  s->path, STORE_MARKER);
	}
	if (strcmp(buf_str(&id), store_id) != 0)
		return err_refuse(err, CODE_CORRUPT, "'%s' is the cache of another catalogue "
				  "(marker '%s', ours is '%s')", s->path, buf_str(&id), store_id);
	s->marker = storedir_open(s->root, STORE_MARKER, O_RDONLY, 0);
	if (s->marker < 0) {
		errno = -s->marker;
		return err_set(err, errno, "cannot open '%s/%s': %m", s->path, STORE_MARKER);
	}
	return 0;
}

int
store_open(const struct conf *conf, const char *store_id, struct store **out, struct err *err)
{
	struct store *s = store_alloc(conf);
	int rc;

	*out = NULL;
	rc = s->root = open_root(s->path, err);
	if (rc < 0)
		goto out;
	rc = check_marker(s, store_id, err);
	if (rc != 0)
		goto out;
	rc = open_dirs(s, err);
	if (rc != 0)
		goto out;
	*out = s;
	s = NULL;
out:
	store_close(s);
	return rc;
}

void
store_close(struct store *s)
{
	if (s == NULL)
		return;
	close_keep_errno(s->marker);
	close_keep_errno(s->lost);
	close_keep_errno(s->quarantine);
	close_keep_errno(s->partial);
	close_keep_errno(s->objects);
	close_keep_errno(s->root);
	pthread_mutex_destroy(&s->aside);
	pthread_mutex_destroy(&s->side);
	pthread_mutex_destroy(&s->room);
	ledger_free(s->ledger);
	free(s->path);
	free(s);
}

int
store_lock(struct store *s, struct err *err)
{
	struct stat ours, named;
	int rc;

	do
		rc = flock(s->marker, LOCK_EX | LOCK_NB);
	while (rc != 0 && errno == EINTR);
	if (rc != 0 && errno == EWOULDBLOCK)
		return err_refuse(err, CODE_BUSY, "the cache '%s' is in use by another process",
				  s->path);
	if (rc != 0)
		return err_set(err, errno, "cannot lock '%s/%s': %m", s->path, STORE_MARKER);
	if (fstat(s->marker, &ours) != 0 ||
	    fstatat(s->root, STORE_MARKER, &named, AT_SYMLINK_NOFOLLOW) != 0 ||
	    ours.st_dev != named.st_dev || ours.st_ino != named.st_ino) {
		flock(s->marker, LOCK_UN);
		return err_refuse(err, CODE_BUSY, "the cache '%s' was initialised anew meanwhile; "
				  "start again", s->path);
	}
	return 0;
}

int
store_shard(struct store *s, const char *hex, bool make)
{
	const char name[3] = { hex[0], hex[1], '\0' };

	return storedir_enter(s->objects, name, make);
}

/* "a directory", "a FIFO"... */
static const char *
store_file_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "a regular file";
	case S_IFDIR:
		return "a directory";
	case S_IFLNK:
		return "a symbolic link";
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	default:
		return "a device";
	}
}

static int
judge_object(const struct stat *st, const char *hex, int64_t size, struct err *err)
{
	if (!S_ISREG(st->st_mode))
		return store_with_code(err, CODE_CORRUPT,
			err_set(err, EBADMSG, "object '%s' is %s, not a regular file", hex,
				store_file_type(st->st_mode)));
	if (st->st_size != size)
		return store_with_code(err, CODE_CORRUPT,
			err_set(err, EBADMSG, "object '%s' has %lld bytes instead of %lld", hex,
				(long long)st->st_size, (long long)size));
	return 0;
}

/* Whoever else owns the file could change it after it was verified. */
static int
judge_owner(const struct store *s, const struct stat *st, const char *hex, struct err *err)
{
	if (st->st_uid == geteuid() || st->st_uid == 0)
		return 0;
	return err_set(err, EACCES, "object '%s' belongs to user %u instead of %u: "
		       "chown it, or remove it from '%s/objects/%.2s'", hex,
		       (unsigned int)st->st_uid, (unsigned int)geteuid(), s->path, hex);
}

static int
say_unusable(const struct store *s, int errnum, const char *hex, const struct stat *st,
	     struct err *err)
{
	errno = errnum;
	if (errnum == EACCES && st != NULL)
		return err_set(err, errnum, "cannot open object '%s': %m (owner %u, mode %04o): "
			       "give it to user %u with mode 0640, or remove it from "
			       "'%s/objects/%.2s'",
			       hex, (unsigned int)st->st_uid, (unsigned int)(st->st_mode & 07777),
			       (unsigned int)geteuid(), s->path, hex);
	if (errnum == ENOTDIR || errnum == ELOOP)
		return store_with_code(err, CODE_CORRUPT,
			err_set(err, EBADMSG, "'%s/objects/%.2s' is no directory", s->path, hex));
	return err_set(err, errnum, "cannot open object '%s': %m", hex);
}

/*
 * An object that event handlers see by a hard link has no write bit (handlerlink.h).  Its owner
 * gets a descriptor to write by all the same, and the bit goes again.
 */
static int
open_readonly_rw(int shard, const char *hex, const struct stat *st)
{
	int fd;

	if (fchmodat(shard, hex, (st->st_mode & 0777) | S_IWUSR, 0) != 0)
		return -errno;
	fd = storedir_open(shard, hex, O_RDWR, 0);
	if (fchmodat(shard, hex, st->st_mode & 0777, 0) != 0)
		log_warning("object '%.16s...' keeps its write bit: %s", hex,
			    strerrordesc_np(errno));
	return fd;
}

static int
open_object(struct store *s, const struct digest *d, int64_t size, int flags, struct err *err)
{
	CLEANUP_FD int shard = -1, fd = -1;
	char hex[DIGEST_HEX + 1];
	struct stat st;
	int rc;

	digest_hex(d, hex);
	shard = store_shard(s, hex, false);
	if (shard < 0)
		return say_unusable(s, -shard, hex, NULL, err);
	if (fstatat(shard, hex, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return say_unusable(s, errno, hex, NULL, err);
	rc = judge_object(&st, hex, size, err);
	if (rc != 0)
		return rc;
	fd = storedir_open(shard, hex, flags, 0);
	if (fd == -EACCES && flags == O_RDWR && st.st_uid == geteuid())
		fd = open_readonly_rw(shard, hex, &st);
	if (fd < 0)
		return say_unusable(s, -fd, hex, &st, err);
	if (fstat(fd, &st) != 0)
		return say_unusable(s, errno, hex, NULL, err);
	rc = judge_object(&st, hex, size, err);
	if (rc == 0)
		rc = judge_owner(s, &st, hex, err);
	return rc != 0 ? rc : steal_fd(&fd);
}

int
store_object_open(struct store *s, const struct digest *d, int64_t size, struct err *err)
{
	return open_object(s, d, size, O_RDONLY, err);
}

int
store_open_cached(struct store *s, const struct digest *d, bool tree, int64_t *size)
{
	char hex[DIGEST_HEX + 1], path[STORE_SIDE_MAX + 4];
	CLEANUP_FD int fd = -1;
	struct stat st;
	off_t len = 0;

	digest_hex(d, hex);
	snprintf(path, sizeof(path), "%.2s/%s%s", hex, hex, tree ? STORE_TREE : "");
	fd = io_open_cached(s->objects, path, true, &len);
	if (fd < 0 || fstat(fd, &st) != 0 || (st.st_uid != geteuid() && st.st_uid != 0))
		return -EAGAIN;
	*size = len;
	return steal_fd(&fd);
}

int
store_object_open_rw(struct store *s, const struct digest *d, int64_t size, struct err *err)
{
	return open_object(s, d, size, O_RDWR, err);
}

/* As store_object_look(). */
static int
look_at_object(struct store *s, const struct digest *d, int64_t size, struct stat *st)
{
	CLEANUP_FD int shard = -1;
	char hex[DIGEST_HEX + 1];
	int rc = 0;

	digest_hex(d, hex);
	shard = store_shard(s, hex, false);
	if (shard < 0)
		rc = shard;
	else if (fstatat(shard, hex, st, AT_SYMLINK_NOFOLLOW) != 0)
		rc = -errno;
	if (rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP)
		return 0;
	return rc != 0 ? rc : S_ISREG(st->st_mode) && st->st_size == size;
}

int
store_object_look(struct store *s, const struct digest *d, int64_t size)
{
	struct stat st;

	return look_at_object(s, d, size, &st);
}

bool
store_object_stat(struct store *s, const struct digest *d, int64_t size, int64_t *blocks)
{
	struct stat st;

	if (look_at_object(s, d, size, &st) != 1)
		return false;
	/* Small files live inside their inode on some file systems, and have no blocks. */
	*blocks = st.st_blocks > 0 ? (int64_t)st.st_blocks : (size + 511) / 512;
	return true;
}

/* The object first: a tree that a crash leaves alone is no harm, and goes at the next start. */
static int
unlink_object(int shard, const char *hex)
{
	char tree[STORE_SIDE_MAX + 1];
	int rc;

	store_side_name(tree, hex, STORE_TREE);
	rc = unlinkat(shard, hex, 0) != 0 ? -errno : 0;
	if (rc == 0 || rc == -ENOENT)
		unlinkat(shard, tree, 0);
	return rc == 0 ? storedir_sync(shard) : rc;
}

int
store_object_remove(struct store *s, const struct digest *d, struct err *err)
{
	CLEANUP_FD int shard = -1;
	char hex[DIGEST_HEX + 1];
	int rc;

	digest_hex(d, hex);
	shard = store_shard(s, hex, false);
	if (shard == -ENOENT)
		return 0;
	if (shard < 0)
		return say_unusable(s, -shard, hex, NULL, err);
	rc = unlink_object(shard, hex);
	store_measure(s, d);
	if (rc == -ENOENT)
		return 0;
	if (rc == -EISDIR)
		return store_quarantine_object(s, d, err);
	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot remove object '%s': %m", hex);
	}
	return 0;
}
