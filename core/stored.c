/*
 * An object and its tree are two files, and the catalogue names both digests: the object's name is
 * its SHA-512, the row has the digest that the tree must lead to.  Whatever changed places, was
 * torn, or is missing of the three shows here as -ENODATA, and the way out is always the same: a
 * pass over the whole object, which alone can say again what its tree is.
 */
#include "config.h"
#include "stored.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit.h"
#include "buf.h"
#include "cleanup.h"
#include "vtree.h"

/* Errors of this process, which say nothing about the file. */
static bool
is_our_lack(int rc)
{
	return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE;
}

static int
say_no_tree(const struct digest *d, struct err *err)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	if (err != NULL && err->rc != 0)
		err_prefix(err, "object '%s' has no good tree", hex);
	else
		err_set(err, ENODATA, "object '%s' has no tree yet", hex);
	if (err != NULL) {
		err->rc = -ENODATA;
		err->code = CODE_CORRUPT;
	}
	return -ENODATA;
}

static int
open_tree(struct store *s, const struct vtree_id *id, bool partial, struct vtree **tree,
	  struct err *err)
{
	int fd = store_tree_open(s, &id->image, partial, err);

	return fd < 0 ? fd : vtree_open(tree, id, fd, err);
}

int
stored_open(struct store *s, const struct digest *d, int64_t size, const struct digest *tree,
	    struct blockfile **out, struct err *err)
{
	CLEANUP_FD int fd = store_object_open(s, d, size, err);
	struct vtree_id id = { .image = *d, .size = size };
	struct vtree *found;
	int rc;

	*out = NULL;
	if (fd < 0)
		return fd;
	err_clear(err);
	if (tree == NULL)
		return say_no_tree(d, err);
	id.verity = *tree;
	rc = open_tree(s, &id, false, &found, err);
	if (rc != 0)
		return is_our_lack(rc) ? rc : say_no_tree(d, err);
	*out = blockfile_complete(steal_fd(&fd), found);
	return 0;
}

int
stored_open_cached(struct store *s, const struct digest *d, int64_t size,
		   const struct digest *tree, struct blockfile **out)
{
	struct vtree_id id = { .image = *d, .size = size };
	int64_t len = 0, tree_len = 0;
	CLEANUP_FD int fd = -1;
	struct vtree *found;
	int tree_fd;

	*out = NULL;
	if (tree == NULL)
		return -EAGAIN;
	fd = store_open_cached(s, d, false, &len);
	if (fd < 0 || len != size)
		return -EAGAIN;
	tree_fd = store_open_cached(s, d, true, &tree_len);
	if (tree_fd < 0)
		return -EAGAIN;
	id.verity = *tree;
	if (vtree_open_cached(&found, &id, tree_fd) != 0)
		return -EAGAIN;
	*out = blockfile_complete(steal_fd(&fd), found);
	return 0;
}

/* ---- made anew ------------------------------------------------------------------------------- */

static int
judge_pass(const struct audit *pass, const struct digest *d, const struct digest *root,
	   struct err *err)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	if (!digest_equal(&pass->sha512, d)) {
		err_set(err, EBADMSG, "the bytes of object '%s' have another SHA-512", hex);
		if (err != NULL)
			err->code = CODE_CORRUPT;
		return -EBADMSG;
	}
	if (root != NULL && !digest_equal(&pass->verity, root))
		return err_refuse(err, CODE_BLOCK_DIGEST, "object '%s' has the signed SHA-512 but "
				  "not the signed fs-verity digest", hex);
	return 0;
}

/*
 * The tree of a pass, kept in the store unless it is there already: after a catalogue was lost all
 * are.  That it cannot be kept (a full disk, a read-only one) is no reason not to use it: the next
 * start makes it again.  A large one is used from its file.
 */
static int
keep_tree(struct store *s, const struct audit *pass, const struct vtree_id *id, struct vtree **out,
	  struct err *err)
{
	const void *prefix;
	struct vtree *kept;
	size_t len;
	int rc;

	prefix = verity_builder_prefix(pass->builder, &len);
	/*
	 * Of a large one that is there only the header would be looked at: it may be what is
	 * damaged.
	 */
	if (len <= VTREE_MEMORY_BYTES && open_tree(s, id, false, out, NULL) == 0)
		return 0;
	rc = vtree_new(out, id, prefix, len, err);
	if (rc != 0 || store_tree_put(s, *out, false, NULL) != 0 || len <= VTREE_MEMORY_BYTES)
		return rc;
	if (open_tree(s, id, false, &kept, NULL) == 0) {
		vtree_unref(*out);
		*out = kept;
	}
	return 0;
}

int
stored_rebuild(struct store *s, const struct digest *d, int64_t size, const struct digest *root,
	       int (*progress)(void *arg, int64_t done), void *arg, struct digest *tree,
	       struct blockfile **out, struct err *err)
{
	CLEANUP_FD int fd = store_object_open(s, d, size, err);
	struct audit pass = { .fd = fd, .size = size, .whole = true, .progress = progress,
			      .arg = arg };
	struct vtree_id id = { .image = *d, .size = size };
	struct vtree *made;
	int rc;

	*out = NULL;
	if (fd < 0)
		return fd;
	rc = audit_run(&pass, err);
	if (rc == 0)
		rc = judge_pass(&pass, d, root, err);
	id.verity = pass.verity;
	if (rc == 0)
		rc = keep_tree(s, &pass, &id, &made, err);
	verity_builder_free(pass.builder);
	if (rc != 0)
		return rc;
	*tree = pass.verity;
	*out = blockfile_complete(steal_fd(&fd), made);
	return 0;
}

/* ---- in block mode --------------------------------------------------------------------------- */

/*
 * The tree of an earlier run.  When a power cut fell into the commit, it lies with the objects
 * already.
 */
static int
find_tree(struct store *s, const struct vtree_id *id, struct vtree **tree, struct err *err)
{
	int rc = open_tree(s, id, true, tree, err);

	if (rc != 0 && !is_our_lack(rc))
		rc = open_tree(s, id, false, tree, NULL);
	if (rc == 0 || is_our_lack(rc))
		return rc;
	if (err != NULL)
		err->rc = -ENOENT;
	return -ENOENT;
}

enum { EXTENTS_MAX = 1 << 16 };	/* looked at; what lies behind them counts as missing */

/* Granules that lie within [from, to), which begins and ends anywhere. */
static void
add_extent(struct buf *map, const struct verity_shape *shape, int64_t from, int64_t to)
{
	int64_t g = (from + VERITY_GRANULE - 1) / VERITY_GRANULE;

	for (; g < shape->n_granules; g++) {
		if (g * VERITY_GRANULE + (int64_t)verity_granule_size(shape, g) > to)
			break;
		map->data[g / 8] = (char)(map->data[g / 8] | 1 << (g % 8));
	}
}

/* Some file systems call all of a sparse file data. */
static bool
knows_holes(int fd, int64_t size)
{
	struct stat st;

	return lseek(fd, 0, SEEK_HOLE) < size ||
	    (fstat(fd, &st) == 0 && (int64_t)st.st_blocks * 512 >= size);
}

/*
 * A map is written without fsync: a power cut can leave it empty, or (ext4) with zeros for its
 * bytes.  Then what has bytes counts as here.  That is no more of a hint than the map was: each
 * read verifies it.  map: zeros.
 */
static void
guess_map(int fd, const struct verity_shape *shape, struct buf *map)
{
	off_t from = 0, to;

	if (!knows_holes(fd, shape->size))
		return;
	for (int i = 0; i < EXTENTS_MAX && (from = lseek(fd, from, SEEK_DATA)) >= 0; i++) {
		to = lseek(fd, from, SEEK_HOLE);
		if (to < 0)
			return;
		add_extent(map, shape, from, to);
		from = to;
	}
}

void
stored_map(struct store *s, const struct digest *d, const struct verity_shape *shape, int fd,
	   struct buf *out)
{
	size_t len = (size_t)(shape->n_granules + 7) / 8;

	buf_clear(out);
	if (store_map_read(s, d, out) == 0 && out->len == len)
		return;
	buf_clear(out);
	for (size_t i = 0; i < len; i++)
		buf_putc(out, 0);
	guess_map(fd, shape, out);
}

int
stored_partial(struct store *s, const struct vtree_id *id, struct vtree *tree,
	       struct blockfile **out, struct err *err)
{
	CLEANUP_BUF struct buf map = BUF_INIT;
	struct vtree *ours;
	bool is_new;
	int fd, rc;

	*out = NULL;
	if (tree != NULL) {
		rc = store_tree_put(s, tree, true, err);
		ours = vtree_ref(tree);
	} else {
		rc = find_tree(s, id, &ours, err);
		if (rc != 0)
			return rc;
	}
	if (rc == 0)
		rc = store_blocks_open(s, &id->image, id->size, &fd, &is_new, err);
	if (rc != 0) {
		vtree_unref(ours);
		return rc;
	}
	if (!is_new)
		stored_map(s, &id->image, vtree_shape(ours), fd, &map);
	*out = blockfile_partial(fd, ours, map.data, map.len);
	return 0;
}
