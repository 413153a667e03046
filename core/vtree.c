/*
 * A tree has its prefix in memory, verified when it was made; or, when that would be too much, the
 * .fsv file, of which only the header was read: each block is then read and verified when it is
 * used, from the root down.
 *
 * An image of one granule has no prefix.  Its granule proves itself: what it hashes to is the root,
 * and the fs-verity digest follows from the root and the size.
 */
#include "config.h"
#include "vtree.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "blockcache.h"
#include "cleanup.h"
#include "io.h"

static const char magic[] = "vmimagefs tree 1";

enum {
	MAGIC_BYTES = 16,
	IMAGE_AT = 16,
	SIZE_AT = 80,
	VERITY_AT = 88,
	SUM_AT = 152,
	HEADER_USED = SUM_AT + DIGEST_BYTES,
	COPY_BYTES = 1 << 20,
};

struct vtree {
	atomic_uint n_refs;
	uint64_t serial;		/* never used again: what the cache knows it by */
	struct vtree_id id;
	struct verity_shape shape;
	unsigned char *prefix;		/* NULL: in the file */
	int fd;				/* -1: in memory */
};

static atomic_uint_fast64_t next_serial = 1;

/* ---- blocks of the tree ---------------------------------------------------------------------- */

/* The file of a large tree says what the signed digest does not. */
static int
damaged(struct err *err, const char *why)
{
	int rc = err_set(err, EBADMSG, "the tree file %s", why);

	if (err != NULL)
		err->code = CODE_CORRUPT;
	return rc;
}

static bool
leads_to_digest(const struct vtree *t, const struct digest *root)
{
	struct digest d;

	verity_digest(t->shape.size, root, &d);
	return digest_equal(&d, &t->id.verity);
}

/* want NULL: it is the root's. */
static bool
block_is_right(const struct vtree *t, const unsigned char block[VERITY_BLOCK],
	       const struct digest *want)
{
	struct digest d;

	verity_block(block, &d);
	return want != NULL ? digest_equal(&d, want) : leads_to_digest(t, &d);
}

static void
entry(const unsigned char *block, int64_t i, struct digest *out)
{
	memcpy(out->bytes, block + (size_t)i * DIGEST_BYTES, DIGEST_BYTES);
}

/* Block i of a level above 0, verified. */
static int
load_block(struct vtree *t, int level, int64_t i, const struct digest *want,
	   unsigned char block[VERITY_BLOCK])
{
	struct blockcache_key key = { .tree = t->serial, .level = level, .index = i };
	ssize_t n;

	if (blockcache_get(&key, 0, block, VERITY_BLOCK))
		return 0;
	n = io_pread_full(t->fd, block, VERITY_BLOCK,
			  VTREE_HEADER + t->shape.offset[level] + i * VERITY_BLOCK);
	if (n < 0)
		return (int)n;
	if (n != VERITY_BLOCK || !block_is_right(t, block, want))
		return -EBADMSG;
	blockcache_put(&key, block);
	return 0;
}

/* An entry of level 1, by way of the blocks above it. */
static int
granule_from_file(struct vtree *t, int64_t g, struct digest *out)
{
	unsigned char block[VERITY_BLOCK];
	int top = t->shape.n_levels - 1, rc;

	for (int level = top; level > 0; level--) {
		int64_t child = g >> (6 * (level - 1));	/* its number in the level below */

		rc = load_block(t, level, child / VERITY_ARITY, level < top ? out : NULL, block);
		if (rc != 0)
			return rc;
		entry(block, child % VERITY_ARITY, out);
	}
	return 0;
}

int
vtree_granule(struct vtree *t, int64_t g, struct digest *out)
{
	static_assert(VERITY_ARITY == 1 << 6, "shifts by 6");

	assert(g >= 0 && g < t->shape.n_granules);
	if (t->shape.n_granules == 1)
		return -ENODATA;
	if (t->prefix == NULL)
		return granule_from_file(t, g, out);
	entry(t->prefix + t->shape.offset[1], g, out);
	return 0;
}

/* ---- making one ------------------------------------------------------------------------------ */

static struct vtree *
allocate(const struct vtree_id *id, struct err *err)
{
	struct vtree *t = xcalloc(1, sizeof(*t));

	atomic_init(&t->n_refs, 1);
	t->serial = atomic_fetch_add(&next_serial, 1);
	t->id = *id;
	t->fd = -1;
	if (!verity_shape_init(&t->shape, id->size)) {
		free(t);
		err_set(err, EINVAL, "no image can have %lld bytes", (long long)id->size);
		return NULL;
	}
	return t;
}

/* Every level against the one above it, the root against the digest. */
static bool
prefix_is_right(const struct vtree *t)
{
	const struct verity_shape *s = &t->shape;
	static const struct digest empty;
	struct digest want;

	if (s->n_granules == 0)
		return leads_to_digest(t, &empty);
	for (int level = s->n_levels - 1; level > 0; level--) {
		const unsigned char *blocks = t->prefix + s->offset[level];
		bool top = level == s->n_levels - 1;

		for (int64_t i = 0; i < s->n_blocks[level]; i++) {
			if (!top)
				entry(t->prefix + s->offset[level + 1], i, &want);
			if (!block_is_right(t, blocks + i * VERITY_BLOCK, top ? NULL : &want))
				return false;
		}
	}
	return true;
}

int
vtree_new(struct vtree **out, const struct vtree_id *id, const void *prefix, size_t len,
	  struct err *err)
{
	struct vtree *t = allocate(id, err);
	int rc;

	*out = NULL;
	if (t == NULL)
		return -EINVAL;
	if (len != (size_t)t->shape.prefix) {
		rc = err_refuse(err, CODE_BLOCK_DIGEST, "the tree's upper levels have %zu bytes"
				" instead of %lld", len, (long long)t->shape.prefix);
		goto out;
	}
	t->prefix = malloc(len + 1);
	if (t->prefix == NULL) {
		rc = err_set(err, ENOMEM, "no memory for %zu bytes of a tree", len);
		goto out;
	}
	if (len > 0)
		memcpy(t->prefix, prefix, len);
	if (!prefix_is_right(t)) {
		rc = err_refuse(err, CODE_BLOCK_DIGEST,
				"the tree does not lead to the signed fs-verity digest");
		goto out;
	}
	*out = t;
	t = NULL;
	rc = 0;
out:
	vtree_unref(t);
	return rc;
}

/* ---- the file -------------------------------------------------------------------------------- */

static void
make_header(const struct vtree *t, unsigned char header[VTREE_HEADER])
{
	struct digest sum;

	memset(header, 0, VTREE_HEADER);
	memcpy(header, magic, MAGIC_BYTES);
	memcpy(header + IMAGE_AT, t->id.image.bytes, DIGEST_BYTES);
	for (int i = 0; i < 8; i++)
		header[SIZE_AT + i] = (unsigned char)((uint64_t)t->id.size >> (8 * i));
	memcpy(header + VERITY_AT, t->id.verity.bytes, DIGEST_BYTES);
	digest_of(header, SUM_AT, &sum);
	memcpy(header + SUM_AT, sum.bytes, DIGEST_BYTES);
}

/* What the header should say is known, so that it can only be right or wrong: but say how. */
static int
check_header(const struct vtree *t, const unsigned char header[VTREE_HEADER], struct err *err)
{
	unsigned char wanted[VTREE_HEADER];
	struct digest sum;

	digest_of(header, SUM_AT, &sum);
	if (memcmp(header, magic, MAGIC_BYTES) != 0 ||
	    memcmp(header + SUM_AT, sum.bytes, DIGEST_BYTES) != 0)
		return damaged(err, "has a torn header");
	make_header(t, wanted);
	if (memcmp(header + IMAGE_AT, wanted + IMAGE_AT, VERITY_AT - IMAGE_AT) != 0)
		return damaged(err, "belongs to another image");
	if (memcmp(header + VERITY_AT, wanted + VERITY_AT, DIGEST_BYTES) != 0)
		return damaged(err, "is for another fs-verity digest");
	if (memcmp(header, wanted, VTREE_HEADER) != 0)
		return damaged(err, "has a torn header");
	return 0;
}

static int
unreadable(struct err *err, int rc)
{
	return err_set(err, -rc, "the tree file cannot be read: %s", strerrordesc_np(-rc));
}

static int
read_header(struct vtree *t, struct err *err)
{
	unsigned char header[VTREE_HEADER];
	struct stat st;
	ssize_t n;

	if (fstat(t->fd, &st) != 0)
		return unreadable(err, -errno);
	if (!S_ISREG(st.st_mode))
		return damaged(err, "is no regular file");
	if (st.st_size != VTREE_HEADER + t->shape.prefix)
		return damaged(err, "has a wrong length");
	n = io_pread_full(t->fd, header, sizeof(header), 0);
	if (n < 0)
		return unreadable(err, (int)n);
	if (n != (ssize_t)sizeof(header))
		return damaged(err, "has a wrong length");
	return check_header(t, header, err);
}

static int
read_prefix(struct vtree *t, struct err *err)
{
	size_t len = (size_t)t->shape.prefix;
	ssize_t n;

	t->prefix = malloc(len + 1);
	if (t->prefix == NULL)
		return err_set(err, ENOMEM, "no memory for %zu bytes of a tree", len);
	n = io_pread_full(t->fd, t->prefix, len, VTREE_HEADER);
	if (n < 0)
		return unreadable(err, (int)n);
	if ((size_t)n != len)
		return damaged(err, "has a wrong length");
	if (!prefix_is_right(t))
		return damaged(err, "does not lead to the fs-verity digest");
	close(steal_fd(&t->fd));
	return 0;
}

int
vtree_open(struct vtree **out, const struct vtree_id *id, int fd, struct err *err)
{
	struct vtree *t = allocate(id, err);
	int rc;

	*out = NULL;
	if (t == NULL) {
		close_keep_errno(fd);
		return -EINVAL;
	}
	t->fd = fd;
	rc = read_header(t, err);
	if (rc == 0 && t->shape.prefix <= VTREE_MEMORY_BYTES)
		rc = read_prefix(t, err);
	if (rc == 0) {
		*out = t;
		t = NULL;
	}
	vtree_unref(t);
	return rc;
}

static bool
read_all_cached(struct vtree *t)
{
	size_t len = (size_t)t->shape.prefix;
	unsigned char header[VTREE_HEADER];

	if (len > VTREE_MEMORY_BYTES ||
	    io_pread_cached(t->fd, header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
	    check_header(t, header, NULL) != 0)
		return false;
	t->prefix = malloc(len + 1);
	return t->prefix != NULL &&
	       io_pread_cached(t->fd, t->prefix, len, VTREE_HEADER) == (ssize_t)len &&
	       prefix_is_right(t);
}

int
vtree_open_cached(struct vtree **out, const struct vtree_id *id, int fd)
{
	struct vtree *t = allocate(id, NULL);
	bool right;

	*out = NULL;
	if (t == NULL) {
		close_keep_errno(fd);
		return -EAGAIN;
	}
	t->fd = fd;
	right = read_all_cached(t);
	close_keep_errno(steal_fd(&t->fd));
	if (right)
		*out = t;
	else
		vtree_unref(t);
	return right ? 0 : -EAGAIN;
}

static int
copy_prefix(const struct vtree *t, int fd)
{
	CLEANUP_FREE char *chunk = malloc(COPY_BYTES);
	int64_t off = VTREE_HEADER, end = VTREE_HEADER + t->shape.prefix;
	int rc = chunk == NULL ? -ENOMEM : 0;

	while (rc == 0 && off < end) {
		size_t want = end - off < COPY_BYTES ? (size_t)(end - off) : COPY_BYTES;
		ssize_t n = io_pread_full(t->fd, chunk, want, off);

		if (n < 0)
			return (int)n;
		if ((size_t)n != want)
			return -EBADMSG;
		rc = io_pwrite_all(fd, chunk, want, off);
		off += n;
	}
	return rc;
}

int
vtree_write(const struct vtree *t, int fd, struct err *err)
{
	unsigned char header[VTREE_HEADER];
	int rc;

	make_header(t, header);
	rc = io_pwrite_all(fd, header, sizeof(header), 0);
	if (rc == 0 && t->prefix != NULL)
		rc = io_pwrite_all(fd, t->prefix, (size_t)t->shape.prefix, VTREE_HEADER);
	else if (rc == 0)
		rc = copy_prefix(t, fd);
	if (rc != 0)
		return err_set(err, -rc, "the tree cannot be written: %s", strerrordesc_np(-rc));
	return 0;
}

/* ---- sharing it ------------------------------------------------------------------------------ */

struct vtree *
vtree_ref(struct vtree *t)
{
	atomic_fetch_add(&t->n_refs, 1);
	return t;
}

void
vtree_unref(struct vtree *t)
{
	if (t == NULL || atomic_fetch_sub(&t->n_refs, 1) != 1)
		return;
	blockcache_drop(t->serial);
	close_keep_errno(t->fd);
	free(t->prefix);
	free(t);
}

const struct vtree_id *
vtree_id(const struct vtree *t)
{
	return &t->id;
}

bool
vtree_is_in_memory(const struct vtree *t)
{
	return t->prefix != NULL || t->shape.n_granules <= 1;
}

const struct verity_shape *
vtree_shape(const struct vtree *t)
{
	return &t->shape;
}

/* ---- checking -------------------------------------------------------------------------------- */

static struct blockcache_key
level0_key(const struct vtree *t, int64_t g)
{
	return (struct blockcache_key){ .tree = t->serial, .level = 0, .index = g };
}

/* Whether d is the digest of granule g. */
static int
compare_granule(struct vtree *t, int64_t g, const struct digest *d)
{
	struct digest want;
	int rc;

	if (t->shape.n_granules == 1)
		return leads_to_digest(t, d) ? 0 : -EBADMSG;
	rc = vtree_granule(t, g, &want);
	if (rc != 0)
		return -EUCLEAN;
	return digest_equal(d, &want) ? 0 : -EBADMSG;
}

static bool
is_granule(const struct vtree *t, int64_t g)
{
	return g >= 0 && g < t->shape.n_granules;
}

int
vtree_check_granule(struct vtree *t, int64_t g, const void *data, size_t len)
{
	unsigned char block[VERITY_BLOCK];
	struct blockcache_key key = level0_key(t, g);
	struct digest d;
	int rc;

	if (!is_granule(t, g) || len != verity_granule_size(&t->shape, g))
		return -EBADMSG;
	verity_granule(&t->shape, data, len, block, &d);
	rc = compare_granule(t, g, &d);
	if (rc == 0)
		blockcache_put(&key, block);
	return rc;
}

/* The bytes must be whole leaves, and only the last one of the image may be short. */
static bool
are_leaves(const struct vtree *t, int64_t g, size_t first, size_t len)
{
	size_t size, at = first * VERITY_BLOCK;

	if (!is_granule(t, g) || first >= VERITY_ARITY || len == 0)
		return false;
	size = verity_granule_size(&t->shape, g);
	if (at >= size || len > size - at)
		return false;
	return len % VERITY_BLOCK == 0 || at + len == size;
}

int
vtree_check_leaves(struct vtree *t, int64_t g, size_t first, const void *data, size_t len)
{
	struct digest want[VERITY_ARITY], have[VERITY_ARITY];
	struct blockcache_key key = level0_key(t, g);
	size_t bytes;

	if (!are_leaves(t, g, first, len))
		return -EBADMSG;
	bytes = (len + VERITY_BLOCK - 1) / VERITY_BLOCK * DIGEST_BYTES;
	if (!blockcache_get(&key, first * DIGEST_BYTES, want, bytes))
		return 0;
	verity_leaves(data, len, have);
	return memcmp(have, want, bytes) == 0 ? 1 : -EBADMSG;
}

int
vtree_put_level0(struct vtree *t, int64_t g, const unsigned char block[VERITY_BLOCK])
{
	struct blockcache_key key = level0_key(t, g);
	struct digest d;
	int rc;

	/* An image of one leaf has no level 0. */
	if (!is_granule(t, g) || t->shape.n_levels == 0)
		return -EBADMSG;
	verity_block(block, &d);
	rc = compare_granule(t, g, &d);
	if (rc == 0)
		blockcache_put(&key, block);
	return rc;
}

bool
vtree_level0(struct vtree *t, int64_t g, unsigned char block[VERITY_BLOCK])
{
	struct blockcache_key key = level0_key(t, g);

	return t->shape.n_levels > 0 && blockcache_get(&key, 0, block, VERITY_BLOCK);
}
