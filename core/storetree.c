/*
 * Trees beside objects and partial files (vtree.h), and how any file beside them is replaced.
 *
 * A tree is derived data: what it says was signed, or was derived from bytes that matched their
 * SHA-512, and nothing of it is believed before it leads to the digest in the catalogue.  So it
 * may be deleted at any time, and all that a torn or a lost one costs is a pass over the object.
 */
#include "config.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "store_priv.h"
#include "storedir.h"
#include "vtree.h"

int
store_open_regular(int dir, const char *name, int flags)
{
	CLEANUP_FD int fd = -1;
	struct stat st;

	/* Opening a device can do something: so its type is looked at before, and again after. */
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	fd = storedir_open(dir, name, flags, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) != 0)
		return -errno;
	return S_ISREG(st.st_mode) ? steal_fd(&fd) : -EBADMSG;
}

/* ---- replacing ------------------------------------------------------------------------------- */

/* A new, empty file.  What has the name is a leftover of a crash, or none of ours. */
static int
make_anew(struct store *s, int dir, const char *name)
{
	char to[STORE_NAME_MAX + 1];

	if (unlinkat(dir, name, 0) != 0 && errno == EISDIR)
		(void)store_aside_lost(s, dir, name, to);
	return storedir_open(dir, name, O_WRONLY | O_CREAT | O_EXCL, STORE_FILE_MODE);
}

static int
rename_over(struct store *s, int dir, const char *from, const char *to)
{
	char lost[STORE_NAME_MAX + 1];

	if (renameat(dir, from, dir, to) == 0)
		return 0;
	if (errno != EISDIR || store_aside_lost(s, dir, to, lost) != 0)
		return -errno;
	return renameat(dir, from, dir, to) != 0 ? -errno : 0;
}

static int
replace(struct store *s, int dir, const char *name, const char *tmp,
	int (*write)(void *arg, int fd), void *arg, bool durable)
{
	CLEANUP_FD int fd = make_anew(s, dir, tmp);
	int rc = fd < 0 ? fd : write(arg, fd);

	if (rc == 0 && durable)
		rc = io_fsync(fd);
	if (rc == 0)
		rc = rename_over(s, dir, tmp, name);
	if (rc != 0 && fd >= 0)
		unlinkat(dir, tmp, 0);
	if (rc == 0 && durable)
		rc = storedir_sync(dir);
	return rc;
}

int
store_replace_side(struct store *s, int dir, const char *name,
		   int (*write)(void *arg, int fd), void *arg, bool durable)
{
	char tmp[STORE_SIDE_MAX + 1];
	int rc;

	snprintf(tmp, sizeof(tmp), "%s%s", name, STORE_NEW);
	pthread_mutex_lock(&s->side);
	rc = replace(s, dir, name, tmp, write, arg, durable);
	pthread_mutex_unlock(&s->side);
	return rc;
}

/* ---- trees ----------------------------------------------------------------------------------- */

int
store_tree_open(struct store *s, const struct digest *d, bool partial, struct err *err)
{
	char hex[DIGEST_HEX + 1], name[STORE_SIDE_MAX + 1];
	CLEANUP_FD int shard = -1;
	int fd;

	digest_hex(d, hex);
	store_side_name(name, hex, STORE_TREE);
	if (!partial)
		shard = store_shard(s, hex, false);
	fd = partial ? s->partial : shard;
	if (fd >= 0)
		fd = store_open_regular(fd, name, O_RDONLY);
	if (fd == -EBADMSG)
		return store_with_code(err, CODE_CORRUPT,
			err_set(err, EBADMSG, "the tree '%s' is no regular file", name));
	if (fd < 0) {
		errno = -fd;
		return err_set(err, errno, "cannot open the tree '%s': %m", name);
	}
	return fd;
}

struct writing {
	const struct vtree *tree;
	struct err *err;
	bool said;			/* err has the sentence */
};

static int
write_tree(void *arg, int fd)
{
	struct writing *w = arg;
	int rc = vtree_write(w->tree, fd, w->err);

	w->said = rc != 0;
	return rc;
}

int
store_tree_put(struct store *s, const struct vtree *tree, bool partial, struct err *err)
{
	struct writing w = { .tree = tree, .err = err };
	/* That of one granule is made again faster than a disk makes it durable. */
	bool durable = vtree_shape(tree)->prefix > 0;
	char hex[DIGEST_HEX + 1], name[STORE_SIDE_MAX + 1];
	CLEANUP_FD int shard = -1;
	int rc;

	digest_hex(&vtree_id(tree)->image, hex);
	store_side_name(name, hex, STORE_TREE);
	if (!partial)
		shard = store_enter_shard(s, hex);
	rc = partial ? s->partial : shard;
	if (rc >= 0)
		rc = store_replace_side(s, rc, name, write_tree, &w, durable);
	store_measure(s, &vtree_id(tree)->image);
	if (rc == 0)
		return 0;
	errno = -rc;
	if (rc == -ENOSPC || rc == -EDQUOT)
		return err_refuse(err, CODE_FULL, "cannot keep the tree '%s' in '%s': %m", name,
				  s->path);
	return w.said ? rc : err_set(err, errno, "cannot keep the tree '%s' in '%s': %m", name,
				     s->path);
}
