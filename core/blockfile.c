/*
 * The bytes of an image and the tree that proves them, met in one place.
 *
 *   MISSING   its bit in the map is 0
 *   LANDED    its bit is as it was before; a thread is in granulemap_begin()..end() with it
 *   VERIFIED  its bit is 1
 *
 *   MISSING  -> LANDED    blockfile_land() has hashed it
 *   LANDED   -> VERIFIED  it was written, and in a complete file made durable
 *   LANDED   -> MISSING   it could not be written: what is on the disk now, nobody knows
 *   VERIFIED -> MISSING   a read found it bad twice, or a pass over the whole file did
 *   MISSING  -> VERIFIED  complete files only: a read found it good again
 *
 * In a partial file only a landing sets a bit.  So whoever was told that a granule is MISSING, and
 * asks for it, hears of it when it comes: it cannot come in silence.
 *
 * A read looks at the map, reads, hashes and compares what it has read, and hands out that buffer
 * and no other.  No lock is held meanwhile, so a granule may be written while it is read.  A mix of
 * right and right bytes is right.  A mix with bad ones is found out by its digest, and read
 * again; if that is bad as well, the granule is only then called bad when nothing was landed
 * there since before the second look.
 *
 * A read from memory (blockfile_read_cached()) is the same but for one thing: where anything is
 * amiss it says so, and leaves the second look to a read that may wait.
 *
 * How much a read has to hash: whole leaves (4 KiB) where the granule's level-0 block is in the
 * cache of verified blocks, the whole granule otherwise, which brings the block into the cache.
 */
#include "config.h"
#include "blockfile.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit.h"
#include "cleanup.h"
#include "granulemap.h"
#include "io.h"
#include "verity.h"

enum { AHEAD_BYTES = 1 << 20 };		/* what a sequential reader is likely to want next */

/* What proving bytes may end with besides 0 and errno values. */
enum { AGAIN_WHOLE = 1, AGAIN_LANDED = 2, ASK_DISK = 3 };

struct blockfile {
	atomic_int refs;
	/* fixed */
	struct vtree *tree;
	const struct verity_shape *shape;
	struct granulemap *map;
	int fd;

	atomic_bool complete;
	atomic_int writable;		/* a second descriptor, or -1; set once */
	_Atomic int64_t read_end;	/* of the last read: a sequential one begins there */
};

/* ---- making and letting go ------------------------------------------------------------------- */

static struct blockfile *
blockfile_new(int fd, struct vtree *tree, bool complete)
{
	struct blockfile *f = xcalloc(1, sizeof(*f));

	f->refs = 1;
	f->tree = tree;
	f->shape = vtree_shape(tree);
	f->map = granulemap_new(f->shape->n_granules, complete);
	f->fd = fd;
	f->complete = complete;
	f->writable = -1;
	f->read_end = -1;
	return f;
}

struct blockfile *
blockfile_complete(int fd, struct vtree *tree)
{
	return blockfile_new(fd, tree, true);
}

struct blockfile *
blockfile_partial(int fd, struct vtree *tree, const void *map, size_t n_map)
{
	struct blockfile *f = blockfile_new(fd, tree, false);

	if (map != NULL)
		granulemap_load(f->map, map, n_map);
	return f;
}

struct blockfile *
blockfile_ref(struct blockfile *f)
{
	atomic_fetch_add(&f->refs, 1);
	return f;
}

bool
blockfile_unref_shared(struct blockfile *f)
{
	int refs = atomic_load(&f->refs);

	while (refs > 1)
		if (atomic_compare_exchange_weak(&f->refs, &refs, refs - 1))
			return true;
	return false;
}

void
blockfile_unref(struct blockfile *f)
{
	if (f == NULL || atomic_fetch_sub(&f->refs, 1) > 1)
		return;
	close_keep_errno(f->fd);
	close_keep_errno(f->writable);
	granulemap_free(f->map);
	vtree_unref(f->tree);
	free(f);
}

void
readbuf_release(struct readbuf *b)
{
	free(b->memory);
	b->memory = NULL;
	b->size = 0;
}

static int
readbuf_reserve(struct readbuf *b, size_t size)
{
	void *memory;

	if (size <= b->size)
		return 0;
	/* What was in it is of no use: malloc(), not realloc(), which would copy it. */
	memory = malloc(size);
	if (memory == NULL)
		return -ENOMEM;
	free(b->memory);
	b->memory = memory;
	b->size = size;
	return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Bytes of the file, whole leaves at least. */
struct span {
	int64_t start, end;
};

static int64_t
granule_start(int64_t g)
{
	return g * VERITY_GRANULE;
}

static int64_t
granule_end(const struct blockfile *f, int64_t g)
{
	int64_t end = (g + 1) * VERITY_GRANULE;

	return end < f->shape->size ? end : f->shape->size;
}

/* The part of granule g that lies in the span. */
static struct span
part_of(const struct blockfile *f, const struct span *span, int64_t g)
{
	struct span part = { granule_start(g), granule_end(f, g) };

	if (part.start < span->start)
		part.start = span->start;
	if (part.end > span->end)
		part.end = span->end;
	return part;
}

/* Is some of it MISSING?  In a complete file the disk is asked each time. */
static bool
is_missing(struct blockfile *f, const struct span *wanted, int64_t *g)
{
	int64_t last = (wanted->end - 1) / VERITY_GRANULE;

	if (atomic_load(&f->complete))
		return false;
	for (*g = wanted->start / VERITY_GRANULE; *g <= last; ++*g) {
		if (!granulemap_has(f->map, *g))
			return true;
	}
	return false;
}

/* Which bytes must be read and hashed to prove those that are wanted. */
static struct span
plan(struct blockfile *f, const struct span *wanted, bool whole)
{
	int64_t first = wanted->start / VERITY_GRANULE, last = (wanted->end - 1) / VERITY_GRANULE;
	struct span span = { granule_start(first), granule_end(f, last) };
	unsigned char block[VERITY_BLOCK];
	bool by_leaves;

	if (whole)
		return span;
	by_leaves = vtree_level0(f->tree, first, block);
	if (by_leaves)
		span.start = wanted->start - wanted->start % VERITY_BLOCK;
	if (last != first)
		by_leaves = vtree_level0(f->tree, last, block);
	if (by_leaves) {
		int64_t end = (wanted->end + VERITY_BLOCK - 1) / VERITY_BLOCK * VERITY_BLOCK;

		span.end = end < span.end ? end : span.end;
	}
	return span;
}

static int
check_whole(struct blockfile *f, int64_t g, const void *data, size_t len)
{
	int rc = vtree_check_granule(f->tree, g, data, len);

	if (rc == 0 && atomic_load(&f->complete))
		granulemap_set(f->map, g);
	return rc;
}

/*
 * 0, -EBADMSG, AGAIN_WHOLE: a part alone cannot be proven now, or -ENODATA: nothing can, because
 * the tree's own file is damaged.
 */
static int
check_part(struct blockfile *f, int64_t g, const struct span *part, const void *data)
{
	size_t len = (size_t)(part->end - part->start), first;
	int rc;

	if (part->start == granule_start(g) && part->end == granule_end(f, g)) {
		rc = check_whole(f, g, data, len);
	} else {
		first = (size_t)((part->start - granule_start(g)) / VERITY_BLOCK);
		rc = vtree_check_leaves(f->tree, g, first, data, len);
		rc = rc == 0 ? AGAIN_WHOLE : rc == 1 ? 0 : rc;
	}
	if (rc != -EUCLEAN)
		return rc;
	/* Not known to be good any more, so that who waits for it is not told to look again. */
	if (atomic_load(&f->complete))
		granulemap_clear(f->map, g);
	return -ENODATA;
}

/* The second look at a part that was bad or could not be read. */
static int
read_again(struct blockfile *f, int64_t g, const struct span *part, void *data)
{
	uint32_t landings = granulemap_landings(f->map, g);
	size_t len = (size_t)(part->end - part->start);
	ssize_t n = io_pread_full(f->fd, data, len, part->start);
	int rc = -EBADMSG;		/* also of a file that was cut short */

	if (n == -ENOMEM)
		return -ENOMEM;
	if (n < 0)
		rc = -EIO;
	else if ((size_t)n == len)
		rc = check_part(f, g, part, data);
	if (rc != -EIO && rc != -EBADMSG)
		return rc;
	if (!granulemap_lose(f->map, g, landings))
		return AGAIN_LANDED;
	return atomic_load(&f->complete) ? rc : -EAGAIN;
}

/* ASK_DISK: not all of it is in memory, or it is not right. */
static int
read_span_cached(struct blockfile *f, const struct span *span, unsigned char *memory)
{
	size_t len = (size_t)(span->end - span->start);

	if (io_pread_cached(f->fd, memory, len, span->start) != (ssize_t)len)
		return ASK_DISK;
	for (int64_t g = span->start / VERITY_GRANULE; granule_start(g) < span->end; g++) {
		struct span part = part_of(f, span, g);
		int rc = check_part(f, g, &part, memory + (part.start - span->start));

		if (rc != 0)
			return rc == AGAIN_WHOLE ? rc : ASK_DISK;
	}
	return 0;
}

/* Reads and proves a span; *g is the granule that failed. */
static int
read_span(struct blockfile *f, const struct span *span, unsigned char *memory, int64_t *g)
{
	ssize_t n = io_pread_full(f->fd, memory, (size_t)(span->end - span->start), span->start);

	for (*g = span->start / VERITY_GRANULE; granule_start(*g) < span->end; ++*g) {
		struct span part = part_of(f, span, *g);
		unsigned char *data = memory + (part.start - span->start);
		int rc = -EIO;

		if (n >= part.end - span->start)
			rc = check_part(f, *g, &part, data);
		if (rc == -EIO || rc == -EBADMSG)
			rc = read_again(f, *g, &part, data);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Whether it goes on where the last one ended. */
static bool
is_sequential(struct blockfile *f, const struct span *wanted)
{
	int64_t before = atomic_exchange(&f->read_end, wanted->end);

	return before == wanted->start && wanted->end < f->shape->size;
}

static int
read_wanted(struct blockfile *f, struct readbuf *buf, const struct span *wanted, bool cached,
	    const void **data, int64_t *g)
{
	bool whole = false;

	for (;;) {
		struct span span;
		int rc;

		if (is_missing(f, wanted, g))
			return -EAGAIN;
		span = plan(f, wanted, whole);
		rc = readbuf_reserve(buf, (size_t)(span.end - span.start));
		if (rc == 0)
			rc = cached ? read_span_cached(f, &span, buf->memory) :
				      read_span(f, &span, buf->memory, g);
		if (rc == 0) {
			*data = (const unsigned char *)buf->memory + (wanted->start - span.start);
			return 0;
		}
		if (rc < 0 || rc == ASK_DISK)
			return rc;
		whole = whole || rc == AGAIN_WHOLE;
	}
}

static struct span
wanted_span(const struct blockfile *f, int64_t off, size_t size)
{
	assert(off >= 0 && off <= f->shape->size && (int64_t)size <= f->shape->size - off);
	return (struct span){ off, off + (int64_t)size };
}

int
blockfile_read(struct blockfile *f, struct readbuf *buf, int64_t off, size_t size,
	       const void **data, int64_t *g)
{
	struct span wanted = wanted_span(f, off, size);

	*data = "";
	if (size == 0)
		return 0;
	if (is_sequential(f, &wanted))
		blockfile_read_ahead(f, wanted.end);
	return read_wanted(f, buf, &wanted, false, data, g);
}

int
blockfile_read_cached(struct blockfile *f, struct readbuf *buf, int64_t off, size_t size,
		      const void **data, int64_t *g, bool *ahead)
{
	struct span wanted = wanted_span(f, off, size);
	int rc;

	*data = "";
	*ahead = false;
	if (size == 0)
		return 0;
	if (!vtree_is_in_memory(f->tree))
		return is_missing(f, &wanted, g) ? -EAGAIN : BLOCKFILE_ASK_DISK;
	rc = read_wanted(f, buf, &wanted, true, data, g);
	if (rc == 0)
		*ahead = is_sequential(f, &wanted);
	return rc == ASK_DISK ? BLOCKFILE_ASK_DISK : rc;
}

/* The kernel reads what comes next while we hash what we have. */
void
blockfile_read_ahead(struct blockfile *f, int64_t off)
{
	posix_fadvise(f->fd, off, AHEAD_BYTES, POSIX_FADV_WILLNEED);
}

ssize_t
blockfile_raw(struct blockfile *f, int64_t g, void *data, size_t room)
{
	size_t len = verity_granule_size(f->shape, g);

	return io_pread_full(f->fd, data, len < room ? len : room, granule_start(g));
}

/* ---- landing --------------------------------------------------------------------------------- */

static int
write_granule(int fd, int64_t g, const void *data, size_t len, bool durable)
{
	int rc = io_pwrite_all(fd, data, len, granule_start(g));

	return rc == 0 && durable ? io_fdatasync(fd) : rc;
}

static int
say_unwritten(int rc, int64_t g, struct err *err)
{
	errno = -rc;
	if (rc == -ENOSPC || rc == -EDQUOT)
		return err_refuse(err, CODE_FULL, "cannot write block %lld of the image: %m",
				  (long long)g);
	return err_set(err, -rc, "cannot write block %lld of the image: %m", (long long)g);
}

int
blockfile_land(struct blockfile *f, int64_t g, const void *data, size_t len, struct err *err)
{
	bool complete = atomic_load(&f->complete);
	int fd = complete ? atomic_load(&f->writable) : f->fd;
	struct landing me = { .g = g };
	int rc = -EBADMSG;

	assert(g >= 0 && g < f->shape->n_granules);
	if (len == verity_granule_size(f->shape, g))
		rc = vtree_check_granule(f->tree, g, data, len);
	if (rc == -EBADMSG)
		return err_refuse(err, CODE_BLOCK_DIGEST,
				  "block %lld of the image is not what was signed", (long long)g);
	if (rc != 0)
		return err_set(err, ENODATA, "the tree of the image is damaged");
	if (fd < 0)
		return err_set(err, EROFS, "the image is complete and not open for writing");
	if (!granulemap_begin(f->map, &me))
		return 0;
	rc = write_granule(fd, g, data, len, complete);
	granulemap_end(f->map, &me, rc == 0);
	return rc == 0 ? 0 : say_unwritten(rc, g, err);
}

/* A name may have been given to another file since the first descriptor was opened. */
static bool
same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

void
blockfile_set_writable(struct blockfile *f, int fd)
{
	int none = -1;

	if (!same_file(f->fd, fd) ||
	    !atomic_compare_exchange_strong(&f->writable, &none, fd))
		close_keep_errno(fd);
}

bool
blockfile_is_writable(struct blockfile *f)
{
	return atomic_load(&f->writable) >= 0;
}

/* ---- after a pass over the whole file -------------------------------------------------------- */

/* The digests of all granules stand in level 1; of one alone there is no level 1. */
static bool
granule_differs(struct blockfile *f, int64_t g, const unsigned char *level1)
{
	struct digest wanted;

	if (level1 == NULL || vtree_granule(f->tree, g, &wanted) != 0)
		return true;
	return memcmp(level1 + g * DIGEST_BYTES, wanted.bytes, DIGEST_BYTES) != 0;
}

int64_t
blockfile_judge(struct blockfile *f, const struct audit *pass)
{
	const unsigned char *prefix, *level1 = NULL;
	int64_t n_bad = 0;
	size_t len;

	assert(pass->size == f->shape->size);
	if (digest_equal(&pass->verity, &vtree_id(f->tree)->verity))
		return 0;
	prefix = verity_builder_prefix(pass->builder, &len);
	if (f->shape->n_levels > 1)
		level1 = prefix + f->shape->offset[1];
	for (int64_t g = 0; g < f->shape->n_granules; g++) {
		if (!granule_differs(f, g, level1))
			continue;
		n_bad++;
		granulemap_clear(f->map, g);
	}
	return n_bad;
}

/* ---- what is here ---------------------------------------------------------------------------- */

struct vtree *
blockfile_tree(struct blockfile *f)
{
	return f->tree;
}

const struct digest *
blockfile_digest(const struct blockfile *f)
{
	return &vtree_id(f->tree)->image;
}

int64_t
blockfile_size(const struct blockfile *f)
{
	return f->shape->size;
}

int
blockfile_fd(const struct blockfile *f)
{
	return f->fd;
}

bool
blockfile_has(struct blockfile *f, int64_t g)
{
	return g >= 0 && g < f->shape->n_granules && granulemap_has(f->map, g);
}

int64_t
blockfile_missing(struct blockfile *f, int64_t from, int64_t *n)
{
	return granulemap_missing(f->map, from, n);
}

int64_t
blockfile_n_missing(struct blockfile *f)
{
	return granulemap_n_missing(f->map);
}

int64_t
blockfile_n_bad(struct blockfile *f)
{
	return atomic_load(&f->complete) ? granulemap_n_missing(f->map) : 0;
}

bool
blockfile_is_complete(struct blockfile *f)
{
	return atomic_load(&f->complete);
}

void
blockfile_set_complete(struct blockfile *f)
{
	atomic_store(&f->complete, true);
}

bool
blockfile_map(struct blockfile *f, struct buf *out)
{
	return granulemap_copy(f->map, out);
}
