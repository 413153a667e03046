/*
 * The step that makes a partial file an object.
 *
 *	data -> fdatasync
 *	tree -> fsync -> objects/ab/<hex>.fsv -> fsync of objects/ab
 *	     -> rename without replacing to objects/ab/<hex> -> fsync of objects/ab and partial/
 *
 * After a crash at any point there is the partial, or the object, or for a moment both names; and a
 * tree that lies alone or not.  A tree in objects/ab whose image is still a partial is looked for
 * there too (stored.h).  In block mode the tree was written and synced when it was fetched, and
 * is only renamed.  If it is gone, the object is good all the same: it gets another one from a
 * whole pass.  So does a stream for whose tree there is no room.
 *
 * Whatever has the object's name already was not hashed just now, as the partial was: it may be a
 * good copy that a crash left without a row, or a file that somebody put there.  It is exchanged
 * for the partial in one step and kept in quarantine/.
 *
 * A file whose fsync failed is dropped, because the kernel may have thrown its dirty pages away
 * and would answer the next fsync with success.
 */
#include "config.h"
#include "store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "store_priv.h"
#include "storedir.h"
#include "vtree.h"

int
store_enter_shard(struct store *s, const char *hex)
{
	const char name[3] = { hex[0], hex[1], '\0' };
	char to[STORE_NAME_MAX + 1];
	int fd = store_shard(s, hex, true);

	if (fd != -ENOTDIR && fd != -ELOOP)
		return fd;
	fd = store_aside_lost(s, s->objects, name, to);
	return fd != 0 ? fd : store_shard(s, hex, true);
}

/* Gives the partial its name as an object; what has the name already is put aside. */
static int
name_object(struct store *s, const char *partial, int shard, const char *hex)
{
	int rc = storedir_move(s->partial, partial, shard, hex);

	if (rc != -EEXIST)
		return rc;
	if (renameat2(s->partial, partial, shard, hex, RENAME_EXCHANGE) == 0) {
		/* If this fails, the next start moves it to lost+found. */
		(void)store_aside_any(s, s->partial, partial, hex);
		return 0;
	}
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	rc = store_aside_any(s, shard, hex, hex);
	return rc != 0 ? rc : storedir_move(s->partial, partial, shard, hex);
}

/* Syncs the data of what lies under the name; -EBADMSG: that is not the file that was hashed. */
static int
sync_data(struct store *s, const char *partial, int fd)
{
	struct stat ours, named;

	int rc = io_fdatasync(fd);

	if (rc != 0)
		return rc;
	if (fstat(fd, &ours) != 0 ||
	    fstatat(s->partial, partial, &named, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	return ours.st_dev == named.st_dev && ours.st_ino == named.st_ino ? 0 : -EBADMSG;
}

static int
name_durably(struct store *s, const char *partial, int shard, const char *hex)
{
	int rc = name_object(s, partial, shard, hex);

	if (rc != 0)
		return rc;
	rc = storedir_sync(shard);
	if (rc == 0)
		rc = storedir_sync(s->partial);
	if (rc != 0)
		unlinkat(shard, hex, 0);
	return rc;
}

static int
say_uncommitted(const struct store *s, int rc, const char *hex, struct err *err)
{
	errno = -rc;
	if (rc == -ENOSPC || rc == -EDQUOT)
		return err_refuse(err, CODE_FULL, "cannot keep object '%s' in '%s': %m", hex,
				  s->path);
	if (rc == -EBADMSG)
		return store_with_code(err, CODE_CORRUPT,
			err_set(err, EBADMSG, "the partial file of '%s' in '%s' was replaced "
				"while it was open", hex, s->path));
	return err_set(err, errno, "cannot keep object '%s' in '%s': %m", hex, s->path);
}

/*
 * Want of room or of descriptors passes, and what it may have cost is found by the next try, which
 * hashes all that is here: the bytes stay for it.  Otherwise what is left in partial/ is of no use.
 */
static bool
may_be_tried_again(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT || rc == -EMFILE || rc == -ENFILE ||
	       rc == -ENOMEM || rc == -EROFS;
}

/* ---- a stream -------------------------------------------------------------------------------- */

static int
enter(struct store *s, const char *hex, const struct vtree *tree)
{
	CLEANUP_FD int shard = -1;
	int rc = shard = store_enter_shard(s, hex);

	if (rc < 0)
		return rc;
	rc = store_tree_put(s, tree, false, NULL);
	/* The bytes are all here: they are not thrown away for want of room for their tree. */
	if (rc != 0 && rc != -ENOSPC && rc != -EDQUOT)
		return rc;
	return name_durably(s, hex, shard, hex);
}

static int
commit_stream(struct store *s, const char *hex, int fd, const struct vtree *tree, bool *synced)
{
	int rc = sync_data(s, hex, fd);

	*synced = rc == 0;
	return rc != 0 ? rc : enter(s, hex, tree);
}

int
store_commit(struct store *s, const struct digest *d, int fd, const struct vtree *tree,
	     struct err *err)
{
	char hex[DIGEST_HEX + 1];
	bool synced;
	int rc;

	assert(digest_equal(&vtree_id(tree)->image, d));
	digest_hex(d, hex);
	rc = commit_stream(s, hex, fd, tree, &synced);
	store_measure(s, d);
	if (rc == 0)
		return 0;
	if (!synced || !may_be_tried_again(rc))
		store_partial_drop(s, d);
	return say_uncommitted(s, rc, hex, err);
}

/* ---- block mode ------------------------------------------------------------------------------ */

static int
move_tree(struct store *s, int shard, const char *hex)
{
	char tree[STORE_SIDE_MAX + 1], to[STORE_NAME_MAX + 1];

	store_side_name(tree, hex, STORE_TREE);
	if (renameat(s->partial, tree, shard, tree) != 0) {
		if (errno == ENOENT)
			return 0;
		if (errno != EISDIR || store_aside_lost(s, shard, tree, to) != 0 ||
		    renameat(s->partial, tree, shard, tree) != 0)
			return -errno;
	}
	return storedir_sync(shard);
}

static int
commit_blocks(struct store *s, const char *hex, int fd)
{
	char blocks[STORE_SIDE_MAX + 1];
	CLEANUP_FD int shard = -1;
	int rc;

	store_side_name(blocks, hex, STORE_BLOCKS);
	rc = sync_data(s, blocks, fd);
	if (rc != 0)
		return rc;
	rc = shard = store_enter_shard(s, hex);
	if (rc < 0)
		return rc;
	rc = move_tree(s, shard, hex);
	return rc != 0 ? rc : name_durably(s, blocks, shard, hex);
}

int
store_commit_blocks(struct store *s, const struct digest *d, int fd, struct err *err)
{
	char hex[DIGEST_HEX + 1];
	int rc;

	digest_hex(d, hex);
	rc = commit_blocks(s, hex, fd);
	store_measure(s, d);
	if (!may_be_tried_again(rc))
		store_blocks_drop(s, d);
	return rc == 0 ? 0 : say_uncommitted(s, rc, hex, err);
}
