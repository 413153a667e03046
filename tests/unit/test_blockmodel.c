/*
 * The block store against a model of it in memory: thousands of random steps, and after each of
 * them what the store says must be what the model knows.
 *
 * Steps: reads of any range, granules that land, wrong ones that must not, bits that flip and holes
 * and cuts on the disk, crashes that leave an older map, garbage for a map, or a torn tree, trees
 * that change places, commits, and objects that are healed.
 *
 * What holds, always:
 *   - a byte that is handed out is the image's byte
 *   - a read fails only where something is missing or was damaged
 *   - MISSING is told of a partial file alone, and the first granule of the range that is
 *   - a commit goes through when, and only when, every byte on the disk is right
 *
 * VMI_MODEL_STEPS: how many (10,000); VMI_MODEL_SEED: the same steps again.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <time.h>

#include "core/audit.h"
#include "core/stored.h"
#include "tests/lib/storebed.h"

enum { GRANULE = VERITY_GRANULE, N_IMAGES = 4, MAX_GRANULES = 8, STEPS = 10000 };

static const int64_t sizes[N_IMAGES] = {
	4097, GRANULE, 3 * GRANULE + 70000, 6 * GRANULE + 1,
};

enum state { ABSENT, PARTIAL, COMPLETE };

struct model {
	unsigned char *bytes;
	int64_t size, n;		/* bytes, granules */
	struct vtree_id id;
	struct vtree *tree;
	enum state state;
	struct blockfile *file;
	/* Landed, or committed, and not damaged since: a read of it must succeed. */
	bool sure[MAX_GRANULES];
};

static struct {
	struct bed *bed;
	struct model images[N_IMAGES];
	struct readbuf buf;
	struct err err;
	uint64_t seed, random;
	long step;
	long n_right, n_missing, n_bad, n_commits, n_crashes, n_heals, n_rebuilds;
} world;

/* The processes that die here die alone: what they wrote is in the page cache, synced or not. */
int
fsync(int fd)
{
	(void)fd;
	return 0;
}

int
fdatasync(int fd)
{
	(void)fd;
	return 0;
}

#define DEMAND(fact) \
	do { \
		if (!(fact)) \
			fail_msg("step %ld of VMI_MODEL_SEED=%llu: not so: %s", world.step, \
				 (unsigned long long)world.seed, #fact); \
	} while (0)

/* splitmix64 */
static uint64_t
roll(void)
{
	uint64_t z = world.random += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0 to n - 1 */
static int64_t
below(int64_t n)
{
	return (int64_t)(roll() % (uint64_t)n);
}

static bool
chance(int percent)
{
	return below(100) < percent;
}

static size_t
length_of(const struct model *m, int64_t g)
{
	return verity_granule_size(vtree_shape(m->tree), g);
}

static void
set_sure(struct model *m, bool sure)
{
	for (int64_t g = 0; g < m->n; g++)
		m->sure[g] = sure;
}

static bool
all_sure(const struct model *m)
{
	for (int64_t g = 0; g < m->n; g++) {
		if (!m->sure[g])
			return false;
	}
	return true;
}

static void
bytes_path(const struct model *m, char path[512])
{
	bool partial = m->state == PARTIAL;

	bed_side_path(world.bed, path, &m->id.image, partial, partial ? ".blocks" : "");
}

/* How many granules on the disk are not the image's? */
static int64_t
count_wrong(const struct model *m)
{
	static unsigned char got[GRANULE];
	char path[512];
	int64_t n = 0;
	int fd;

	bytes_path(m, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	DEMAND(fd >= 0);
	for (int64_t g = 0; g < m->n; g++) {
		ssize_t len = (ssize_t)length_of(m, g);

		n += pread(fd, got, (size_t)len, g * GRANULE) != len ||
		     memcmp(got, m->bytes + g * GRANULE, (size_t)len) != 0;
	}
	close(fd);
	return n;
}

/* ---- reads ----------------------------------------------------------------------------------- */

/* The first granule of the range whose bit is 0; -1: none. */
static int64_t
first_missing(const struct model *m, int64_t first, int64_t last)
{
	for (int64_t g = first; g <= last; g++) {
		if (!blockfile_has(m->file, g))
			return g;
	}
	return -1;
}

static void
read_some(struct model *m)
{
	int64_t off = below(m->size), most = m->size - off, size, first, last, missing, g = -1;
	const void *data;
	int rc;

	if (chance(75) && most > 10000)
		most = 10000;
	size = 1 + below(most);
	first = off / GRANULE;
	last = (off + size - 1) / GRANULE;
	missing = first_missing(m, first, last);
	rc = blockfile_read(m->file, &world.buf, off, (size_t)size, &data, &g);
	if (rc == 0) {
		DEMAND(memcmp(data, m->bytes + off, (size_t)size) == 0);
		DEMAND(m->state == COMPLETE || missing < 0);
		world.n_right++;
		return;
	}
	DEMAND(rc == (m->state == PARTIAL ? -EAGAIN : -EBADMSG));
	DEMAND(g >= first && g <= last);
	DEMAND(!m->sure[g]);
	DEMAND(!blockfile_has(m->file, g));
	DEMAND(m->state == COMPLETE || missing < 0 || g == missing);
	world.n_missing += m->state == PARTIAL;
	world.n_bad += m->state == COMPLETE;
}

/* ---- landing --------------------------------------------------------------------------------- */

static void
land_right(struct model *m)
{
	int64_t n, g = below(m->n);
	int rc;

	if (chance(50) && blockfile_missing(m->file, g, &n) >= 0)
		g = blockfile_missing(m->file, g, &n);
	if (m->state == COMPLETE && !blockfile_is_writable(m->file)) {
		DEMAND(blockfile_land(m->file, g, m->bytes + g * GRANULE, length_of(m, g),
				      &world.err) == -EROFS);
		rc = store_object_open_rw(world.bed->store, &m->id.image, m->size, &world.err);
		if (rc < 0) {
			DEMAND(rc == -EBADMSG);		/* it was cut short */
			return;
		}
		blockfile_set_writable(m->file, rc);
		DEMAND(blockfile_is_writable(m->file));
	}
	rc = blockfile_land(m->file, g, m->bytes + g * GRANULE, length_of(m, g), &world.err);
	DEMAND(rc == 0);
	DEMAND(blockfile_has(m->file, g));
	m->sure[g] = true;
	world.n_heals += m->state == COMPLETE;
}

static void
land_wrong(struct model *m)
{
	static unsigned char wrong[GRANULE];
	int64_t g = below(m->n);
	size_t len = length_of(m, g);
	bool had = blockfile_has(m->file, g);
	int rc;

	memcpy(wrong, m->bytes + g * GRANULE, len);
	if (chance(30))
		len--;
	else if (chance(50))
		memset(wrong, 0, len);
	else
		wrong[below((int64_t)len)] ^= (unsigned char)(1 << below(8));
	rc = blockfile_land(m->file, g, wrong, len, &world.err);
	DEMAND(rc == -EBADMSG && world.err.code == CODE_BLOCK_DIGEST);
	DEMAND(blockfile_has(m->file, g) == had);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void
damage(struct model *m)
{
	int64_t off = below(m->size), len = 1 + below(chance(70) ? 10 : m->size - off);
	char path[512];
	int fd;

	if (len > m->size - off)
		len = m->size - off;
	bytes_path(m, path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	DEMAND(fd >= 0);
	if (chance(60)) {
		unsigned char c = 0;

		if (pread(fd, &c, 1, off) == 1) {
			c ^= (unsigned char)(1 << below(8));
			DEMAND(pwrite(fd, &c, 1, off) == 1);
		}
		len = 1;
	} else if (chance(85)) {
		DEMAND(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len) == 0 ||
		       errno == EOPNOTSUPP);
	} else {
		/* For good, or until it has its length again: then with zeros. */
		DEMAND(ftruncate(fd, off) == 0);
		len = m->size - off;
		DEMAND(chance(50) || ftruncate(fd, m->size) == 0);
	}
	close(fd);
	for (int64_t g = off / GRANULE; g <= (off + len - 1) / GRANULE; g++)
		m->sure[g] = false;
}

static void
damage_tree(struct model *m)
{
	char path[512];
	struct stat st;

	bed_side_path(world.bed, path, &m->id.image, m->state == PARTIAL, ".fsv");
	if (stat(path, &st) != 0)
		return;
	if (chance(20))
		DEMAND(unlink(path) == 0);
	else if (chance(30))
		DEMAND(truncate(path, below(st.st_size)) == 0);
	else if (st.st_size > 0)
		bed_flip(path, below(st.st_size), 1);
}

static void
damage_map(struct model *m)
{
	unsigned char garbage[3] = { (unsigned char)roll(), (unsigned char)roll(), 0 };
	char path[512];

	bed_side_path(world.bed, path, &m->id.image, true, ".map");
	if (chance(30))
		unlink(path);
	else if (chance(50))
		bed_write(path, garbage, (size_t)below(4));
	else
		store_map_write(world.bed->store, &m->id.image, garbage, (size_t)below(4));
}

/* ---- crashes --------------------------------------------------------------------------------- */

static void
save_map(struct model *m)
{
	struct buf map = BUF_INIT;

	blockfile_map(m->file, &map);
	DEMAND(store_map_write(world.bed->store, &m->id.image, map.data, map.len) == 0);
	buf_release(&map);
}

static void
give_up(struct model *m)
{
	DEMAND(store_quarantine_object(world.bed->store, &m->id.image, &world.err) == 0);
	m->state = ABSENT;
	set_sure(m, false);
}

static void
reopen_partial(struct model *m)
{
	struct store *s = world.bed->store;
	int rc = stored_partial(s, &m->id, NULL, &m->file, &world.err);

	if (rc == -ENOENT)
		rc = stored_partial(s, &m->id, m->tree, &m->file, &world.err);
	DEMAND(rc == 0);
	for (int64_t g = 0; g < m->n; g++)
		m->sure[g] = m->sure[g] && blockfile_has(m->file, g);
}

static void
reopen_complete(struct model *m)
{
	struct store *s = world.bed->store;
	struct digest tree;
	int rc = stored_open(s, &m->id.image, m->size, &m->id.verity, &m->file, &world.err);

	if (rc == -ENODATA) {
		rc = stored_rebuild(s, &m->id.image, m->size, chance(50) ? &m->id.verity : NULL,
				    NULL, NULL, &tree, &m->file, &world.err);
		DEMAND(rc != 0 || (count_wrong(m) == 0 && digest_equal(&tree, &m->id.verity)));
		world.n_rebuilds += rc == 0;
	}
	if (rc == 0)
		return;
	DEMAND(rc == -EBADMSG && world.err.code == CODE_CORRUPT);
	DEMAND(!all_sure(m));
	give_up(m);
}

/* The process dies, and another one finds what is on the disk. */
static void
crash(struct model *m)
{
	bool lucky = chance(40);

	if (m->state == PARTIAL && (lucky || chance(30)))
		save_map(m);
	blockfile_unref(m->file);
	m->file = NULL;
	if (!lucky && chance(40))
		damage_tree(m);
	if (!lucky && m->state == PARTIAL && chance(40))
		damage_map(m);
	if (!lucky && chance(20))
		damage(m);
	if (m->state == COMPLETE) {
		reopen_complete(m);
	} else {
		bool before[MAX_GRANULES];
		char path[512];
		struct stat st;

		memcpy(before, m->sure, sizeof(before));
		bytes_path(m, path);
		DEMAND(stat(path, &st) == 0);
		reopen_partial(m);
		for (int64_t g = 0; lucky && st.st_size == m->size && g < m->n; g++)
			DEMAND(m->sure[g] == before[g]);
	}
	world.n_crashes++;
}

static void
swap_trees(struct model *m)
{
	struct model *other = &world.images[below(N_IMAGES)];
	char one[512], two[512];

	if (other == m || m->state != COMPLETE || other->state != COMPLETE)
		return;
	bed_side_path(world.bed, one, &m->id.image, false, ".fsv");
	bed_side_path(world.bed, two, &other->id.image, false, ".fsv");
	if (renameat2(AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE) != 0)
		DEMAND(errno == ENOENT);
	blockfile_unref(m->file);
	blockfile_unref(other->file);
	m->file = other->file = NULL;
	reopen_complete(m);
	reopen_complete(other);
}

/* ---- from one state to the next -------------------------------------------------------------- */

static void
begin(struct model *m)
{
	set_sure(m, false);
	if (chance(80)) {
		DEMAND(stored_partial(world.bed->store, &m->id, m->tree, &m->file,
				      &world.err) == 0);
		DEMAND(blockfile_n_missing(m->file) == m->n);
		m->state = PARTIAL;
		return;
	}
	bed_add(world.bed, m->bytes, m->size, &m->id);
	DEMAND(stored_open(world.bed->store, &m->id.image, m->size, &m->id.verity, &m->file,
			   &world.err) == 0);
	set_sure(m, true);
	m->state = COMPLETE;
}

/*
 * As the engine does when nothing is missing: the whole is hashed, and only then it is an
 * object.
 */
static void
commit(struct model *m)
{
	struct audit pass = { .fd = blockfile_fd(m->file), .size = m->size, .whole = true };
	int64_t n_wrong = count_wrong(m);
	char path[512];
	struct stat st;
	int rc;

	if (m->state != PARTIAL || blockfile_n_missing(m->file) > 0)
		return;
	bytes_path(m, path);
	rc = audit_run(&pass, &world.err);
	if (rc != 0) {
		DEMAND(rc == -EBADMSG && stat(path, &st) == 0 && st.st_size < m->size);
		return;
	}
	DEMAND(blockfile_judge(m->file, &pass) == n_wrong);
	DEMAND(blockfile_n_missing(m->file) == n_wrong);
	verity_builder_free(pass.builder);
	if (n_wrong > 0)
		return;
	DEMAND(digest_equal(&pass.sha512, &m->id.image));
	DEMAND(store_commit_blocks(world.bed->store, &m->id.image, blockfile_fd(m->file),
				   &world.err) == 0);
	blockfile_set_complete(m->file);
	m->state = COMPLETE;
	set_sure(m, true);
	world.n_commits++;
}

static void
evict(struct model *m)
{
	blockfile_unref(m->file);
	m->file = NULL;
	if (m->state == PARTIAL)
		store_blocks_drop(world.bed->store, &m->id.image);
	else
		DEMAND(store_object_remove(world.bed->store, &m->id.image, &world.err) == 0);
	m->state = ABSENT;
	set_sure(m, false);
}

static void
take_step(void)
{
	struct model *m = &world.images[below(N_IMAGES)];
	int64_t what = below(1000);

	if (m->state == ABSENT)
		begin(m);
	else if (what < 600)
		read_some(m);
	else if (what < 800)
		land_right(m);
	else if (what < 830)
		land_wrong(m);
	else if (what < 870)
		damage(m);
	else if (what < 930)
		crash(m);
	else if (what < 980)
		commit(m);
	else if (what < 995)
		swap_trees(m);
	else
		evict(m);
}

static void
make_world(uint64_t seed)
{
	memset(&world, 0, sizeof(world));
	world.seed = world.random = seed;
	world.bed = bed_new();
	for (int i = 0; i < N_IMAGES; i++) {
		struct model *m = &world.images[i];

		m->size = sizes[i];
		m->bytes = malloc((size_t)m->size);
		assert_non_null(m->bytes);
		for (int64_t off = 0; off < m->size; off++)
			m->bytes[off] = (unsigned char)roll();
		m->tree = bed_tree(m->bytes, m->size, &m->id);
		m->n = vtree_shape(m->tree)->n_granules;
		assert_true(m->n <= MAX_GRANULES);
	}
}

static int
end_world(void **state)
{
	(void)state;
	for (int i = 0; i < N_IMAGES; i++) {
		blockfile_unref(world.images[i].file);
		vtree_unref(world.images[i].tree);
		free(world.images[i].bytes);
	}
	readbuf_release(&world.buf);
	bed_free(world.bed);
	return 0;
}

static long
steps(void)
{
	const char *text = getenv("VMI_MODEL_STEPS");

	return text != NULL ? strtol(text, NULL, 10) : STEPS;
}

static void
run(uint64_t seed, long n)
{
	make_world(seed);
	print_message("VMI_MODEL_SEED=%llu: %ld steps\n", (unsigned long long)seed, n);
	for (world.step = 0; world.step < n; world.step++)
		take_step();
	print_message("reads: %ld right, %ld missing, %ld bad; %ld crashes, %ld commits, "
		      "%ld healed, %ld trees rebuilt\n", world.n_right, world.n_missing,
		      world.n_bad, world.n_crashes, world.n_commits, world.n_heals,
		      world.n_rebuilds);
}

static void
known_steps(void **state)
{
	(void)state;
	run(20240229, steps() / 2);
	/* They are always the same, and everything occurs among them. */
	if (steps() >= STEPS)
		DEMAND(world.n_right > 0 && world.n_missing > 0 && world.n_bad > 0 &&
		       world.n_crashes > 0 && world.n_commits > 0 && world.n_heals > 0 &&
		       world.n_rebuilds > 0);
}

static void
new_steps(void **state)
{
	const char *text = getenv("VMI_MODEL_SEED");
	struct timespec now;

	(void)state;
	clock_gettime(CLOCK_REALTIME, &now);
	run(text != NULL ? strtoull(text, NULL, 10) : (uint64_t)now.tv_nsec, steps() / 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ .name = "a block store does what its model says, in steps that stay the same",
		  .test_func = known_steps, .teardown_func = end_world },
		{ .name = "a block store does what its model says, in steps never tried before",
		  .test_func = new_steps, .teardown_func = end_world },
	};

	return cmocka_run_group_tests_name("the block store and its model", tests, NULL, NULL);
}
