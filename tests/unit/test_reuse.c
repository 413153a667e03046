/*
 * What a new version of an image takes from the old one.
 *
 * The sidecar is in memory: lazy_fetch_level0() and lazy_changed() are those of this file, so
 * that a test sees what is asked of the network, and can make it fail or stall.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/reuse.h"
#include "tests/lib/storebed.h"

enum {
	LEAF = VERITY_BLOCK,
	GRANULE = VERITY_GRANULE,
	N = 20,				/* granules of the old version; the last one is short */
	TAIL = 3 * LEAF + 777,
	OLD_SIZE = (N - 1) * GRANULE + TAIL,
	ROOM = (N + 4) * GRANULE,
	PATIENCE_MS = 20000,
};

static unsigned char old[ROOM], new[ROOM];

/* ---- the network ----------------------------------------------------------------------------- */

static struct {
	struct blockfile *to;
	int error;			/* every request fails with it */
	atomic_bool stall;		/* requests wait for the stop */
	atomic_bool stopped;
	atomic_int n_requests, n_changed;
	atomic_llong n_blocks;
} network;

int
lazy_fetch_level0(struct lazy *l, int64_t first, int64_t n, struct err *err)
{
	struct vtree *tree = blockfile_tree(network.to);
	unsigned char block[VERITY_BLOCK];
	struct digest d;

	(void)l;
	network.n_requests++;
	if (network.error != 0)
		return err_set(err, network.error, "no network");
	while (network.stall && !network.stopped)
		poll(NULL, 0, 1);
	if (network.stopped)
		return err_set(err, ECANCELED, "cancelled");
	for (int64_t g = first; g < first + n; g++) {
		verity_granule(vtree_shape(tree), new + g * GRANULE,
			       verity_granule_size(vtree_shape(tree), g), block, &d);
		assert_int_equal(vtree_put_level0(tree, g, block), 0);
		network.n_blocks++;
	}
	return 0;
}

void
lazy_changed(struct lazy *l)
{
	(void)l;
	network.n_changed++;
}

/* ---- two versions ---------------------------------------------------------------------------- */

struct versions {
	struct blockfile *from, *to;
	int64_t old_size, new_size;
	int notify_fd;
	struct reuse *reuse;
	atomic_llong landed;
	struct err err;
};

static int
memory_file(const void *data, int64_t size)
{
	int fd = memfd_create("version", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	if (data != NULL)
		assert_int_equal(pwrite(fd, data, (size_t)size, 0), size);
	return fd;
}

static void
take_landed(void *arg, struct blockfile *f, int64_t off, const void *data, size_t size)
{
	struct versions *v = arg;

	assert_ptr_equal(f, v->to);
	assert_memory_equal(data, new + off, size);
	v->landed += (long long)size;
}

static void
make_versions(struct versions *v, int64_t old_size, int64_t new_size)
{
	struct vtree_id id;

	memset(v, 0, sizeof(*v));
	memset(&network, 0, sizeof(network));
	v->old_size = old_size;
	v->new_size = new_size;
	v->from = blockfile_complete(memory_file(old, old_size), bed_tree(old, old_size, &id));
	v->to = blockfile_partial(memory_file(NULL, new_size), bed_tree(new, new_size, &id), NULL,
				  0);
	v->notify_fd = eventfd(0, EFD_CLOEXEC);
	network.to = v->to;
}

static void
begin(struct versions *v)
{
	struct reuse_config config = {
		.to = v->to, .from = v->from, .notify_fd = v->notify_fd, .landed = take_landed,
		.arg = v,
	};

	assert_int_equal(reuse_new(&v->reuse, &config, &v->err), 0);
}

static int64_t
finish(struct versions *v)
{
	struct pollfd fd = { .fd = v->notify_fd, .events = POLLIN };
	int64_t bytes = -1;

	assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
	assert_true(reuse_is_over(v->reuse));
	reuse_result(v->reuse, &bytes, &v->err);
	return bytes;
}

/* What is here of the new version is right; how much is not here. */
static int64_t
missing(struct versions *v)
{
	const struct verity_shape *shape = vtree_shape(blockfile_tree(v->to));
	struct readbuf buf = { NULL, 0 };
	int64_t bytes = 0, bad;
	const void *data;

	for (int64_t g = 0; g < shape->n_granules; g++) {
		size_t size = verity_granule_size(shape, g);

		if (!blockfile_has(v->to, g)) {
			bytes += (int64_t)size;
			continue;
		}
		assert_int_equal(blockfile_read(v->to, &buf, g * GRANULE, size, &data, &bad), 0);
		assert_memory_equal(data, new + g * GRANULE, size);
	}
	readbuf_release(&buf);
	return bytes;
}

static void
release(struct versions *v)
{
	reuse_free(v->reuse);
	blockfile_unref(v->from);
	blockfile_unref(v->to);
	close(v->notify_fd);
}

static void
fill(unsigned char *data, size_t size, uint32_t seed)
{
	uint64_t x = seed * 2654435761u + 88172645463325252u;

	for (size_t i = 0; i + 8 <= size; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(data + i, &x, 8);
	}
}

static int
set_up(void **state)
{
	(void)state;
	fill(old, sizeof(old), 1);
	fill(new, sizeof(new), 2);
	return 0;
}

/* ---- the versions ---------------------------------------------------------------------------- */

static void
same_bytes_are_not_fetched(void **state)
{
	struct versions v;

	(void)state;
	memcpy(new, old, OLD_SIZE);
	make_versions(&v, OLD_SIZE, OLD_SIZE);
	begin(&v);
	assert_int_equal(finish(&v), OLD_SIZE);
	assert_int_equal(v.err.rc, 0);
	assert_int_equal(v.landed, OLD_SIZE);
	assert_int_equal(missing(&v), 0);
	assert_true(network.n_changed > 0);
	release(&v);
}

static void
changed_bytes_cost_their_granule(void **state)
{
	struct versions v;

	(void)state;
	memcpy(new, old, OLD_SIZE);
	new[7 * GRANULE + 5] ^= 1;
	make_versions(&v, OLD_SIZE, OLD_SIZE);
	begin(&v);
	finish(&v);
	assert_int_equal(missing(&v), GRANULE);
	assert_false(blockfile_has(v.to, 7));
	release(&v);
}

/* All that comes after the inserted block has moved by 4096 bytes. */
static void
an_inserted_block_costs_its_granule(void **state)
{
	const int64_t at = 5 * GRANULE + 9 * LEAF;
	struct versions v;

	(void)state;
	memcpy(new, old, (size_t)at);
	memcpy(new + at + LEAF, old + at, (size_t)(OLD_SIZE - at));
	make_versions(&v, OLD_SIZE, OLD_SIZE + LEAF);
	begin(&v);
	finish(&v);
	assert_int_equal(missing(&v), GRANULE);
	assert_false(blockfile_has(v.to, 5));
	release(&v);
}

static void
a_removed_block_costs_nothing(void **state)
{
	const int64_t at = 3 * GRANULE + 60 * LEAF;
	struct versions v;

	(void)state;
	memcpy(new, old, (size_t)at);
	memcpy(new + at, old + at + LEAF, (size_t)(OLD_SIZE - at - LEAF));
	make_versions(&v, OLD_SIZE, OLD_SIZE - LEAF);
	begin(&v);
	finish(&v);
	assert_int_equal(missing(&v), 0);
	release(&v);
}

static void
parts_may_change_places(void **state)
{
	struct versions v;

	(void)state;
	for (int i = 0; i < 8 * 64; i++)
		memcpy(new + i * LEAF, old + (8 * 64 - 1 - i) * LEAF, LEAF);
	make_versions(&v, OLD_SIZE, 8 * GRANULE);
	begin(&v);
	assert_int_equal(finish(&v), 8 * GRANULE);
	assert_int_equal(missing(&v), 0);
	release(&v);
}

/* The last leaf of the old version is a part of one in the new one, and not equal to it. */
static void
a_longer_version_keeps_what_was(void **state)
{
	struct versions v;

	(void)state;
	memcpy(new, old, OLD_SIZE);
	make_versions(&v, OLD_SIZE, OLD_SIZE + 2 * GRANULE);
	begin(&v);
	finish(&v);
	assert_int_equal(missing(&v), 2 * GRANULE + TAIL);
	release(&v);
}

/* A short last leaf is padded with zeros in both trees. */
static void
a_shorter_version_is_whole(void **state)
{
	struct versions v;

	(void)state;
	memcpy(new, old, OLD_SIZE);
	memset(new + OLD_SIZE - 777, 0, 777);
	memset(old + OLD_SIZE - 777, 0, 777);
	make_versions(&v, OLD_SIZE, OLD_SIZE - 700);
	begin(&v);
	finish(&v);
	assert_int_equal(missing(&v), 0);
	release(&v);
}

static void
other_bytes_are_left_to_the_network(void **state)
{
	struct versions v;

	(void)state;
	make_versions(&v, OLD_SIZE, OLD_SIZE);
	begin(&v);
	assert_int_equal(finish(&v), 0);
	assert_int_equal(v.err.rc, 0);
	assert_int_equal(missing(&v), OLD_SIZE);
	assert_int_equal(network.n_changed, 0);
	release(&v);
}

/* ---- what goes wrong ------------------------------------------------------------------------- */

static void
rot_does_not_spread(void **state)
{
	struct versions v;
	unsigned char byte = 0;

	(void)state;
	memcpy(new, old, OLD_SIZE);
	make_versions(&v, OLD_SIZE, OLD_SIZE);
	assert_int_equal(pwrite(blockfile_fd(v.from), &byte, 1, 4 * GRANULE + 17), 1);
	byte = (unsigned char)~old[4 * GRANULE + 17];
	assert_int_equal(pwrite(blockfile_fd(v.from), &byte, 1, 4 * GRANULE + 17), 1);
	begin(&v);
	finish(&v);
	assert_int_equal(missing(&v), GRANULE);
	assert_false(blockfile_has(v.to, 4));
	release(&v);
}

/* What is here already is neither looked at nor written again. */
static void
what_is_here_stays(void **state)
{
	struct versions v;

	(void)state;
	memcpy(new, old, OLD_SIZE);
	make_versions(&v, OLD_SIZE, OLD_SIZE);
	for (int64_t g = 0; g < N; g++)
		if (g != 6)
			assert_int_equal(blockfile_land(v.to, g, new + g * GRANULE,
							g < N - 1 ? GRANULE : TAIL, &v.err), 0);
	begin(&v);
	assert_int_equal(finish(&v), GRANULE);
	assert_int_equal(network.n_blocks, 1);
	assert_int_equal(missing(&v), 0);
	release(&v);
}

static void
without_the_sidecar_it_ends(void **state)
{
	struct versions v;
	int64_t bytes;

	(void)state;
	memcpy(new, old, OLD_SIZE);
	make_versions(&v, OLD_SIZE, OLD_SIZE);
	network.error = EHOSTUNREACH;
	begin(&v);
	assert_int_equal(finish(&v), 0);
	assert_int_equal(reuse_result(v.reuse, &bytes, &v.err), -EHOSTUNREACH);
	assert_string_equal(v.err.text, "no network");
	assert_int_equal(network.n_requests, 1);
	assert_int_equal(missing(&v), OLD_SIZE);
	release(&v);
}

static void
it_can_be_stopped(void **state)
{
	struct versions v;
	int64_t bytes;

	(void)state;
	memcpy(new, old, OLD_SIZE);
	make_versions(&v, OLD_SIZE, OLD_SIZE);
	network.stall = true;
	begin(&v);
	for (int i = 0; i < PATIENCE_MS && network.n_requests == 0; i++)
		poll(NULL, 0, 1);
	assert_int_equal(network.n_requests, 1);
	assert_false(reuse_is_over(v.reuse));
	network.stopped = true;
	finish(&v);
	assert_int_equal(reuse_result(v.reuse, &bytes, &v.err), -ECANCELED);
	release(&v);
}

/* ---- the index ------------------------------------------------------------------------------- */

static void
the_index_finds(void **state)
{
	struct leafindex *x = leafindex_new(1000);
	struct digest d;

	(void)state;
	for (int64_t i = 999; i >= 0; i--) {
		int64_t of = i / 4;	/* each digest four times */

		digest_of(&of, sizeof(of), &d);
		leafindex_add(x, i, d.bytes);
	}
	leafindex_end(x);
	for (int64_t of = 0; of < 250; of++) {
		digest_of(&of, sizeof(of), &d);
		assert_int_equal(leafindex_find(x, d.bytes, -1), of * 4);
		for (int64_t k = 0; k < 4; k++)
			assert_int_equal(leafindex_find(x, d.bytes, of * 4 + k), of * 4 + k);
		assert_int_equal(leafindex_find(x, d.bytes, of * 4 + 4), of * 4);
	}
	digest_of("other", 5, &d);
	assert_int_equal(leafindex_find(x, d.bytes, -1), -1);
	assert_int_equal(leafindex_find(x, d.bytes, 5), -1);
	leafindex_free(x);
}

static void
the_index_is_bounded(void **state)
{
	const int64_t most = REUSE_INDEX_BYTES / 8;
	struct leafindex *x = leafindex_new(INT64_C(1) << 32);
	struct digest first, last, beyond;

	(void)state;
	assert_non_null(x);
	digest_of("first", 5, &first);
	digest_of("last", 4, &last);
	digest_of("beyond", 6, &beyond);
	leafindex_add(x, 0, first.bytes);
	leafindex_add(x, most - 1, last.bytes);
	leafindex_add(x, most, beyond.bytes);
	leafindex_add(x, (INT64_C(1) << 32) - 1, beyond.bytes);
	leafindex_end(x);
	assert_int_equal(leafindex_find(x, first.bytes, -1), 0);
	assert_int_equal(leafindex_find(x, last.bytes, -1), most - 1);
	assert_int_equal(leafindex_find(x, beyond.bytes, most), -1);
	leafindex_free(x);
}

#define TEST(title, fn) { .name = title, .test_func = fn, .setup_func = set_up }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("of a version with the same bytes nothing is fetched",
		     same_bytes_are_not_fetched),
		TEST("a changed byte costs its granule", changed_bytes_cost_their_granule),
		TEST("an inserted block costs the granule it is in, wherever the rest has moved",
		     an_inserted_block_costs_its_granule),
		TEST("a removed block costs nothing", a_removed_block_costs_nothing),
		TEST("blocks are found in whatever order they are now", parts_may_change_places),
		TEST("of a longer version only what was appended is fetched",
		     a_longer_version_keeps_what_was),
		TEST("the end of a shorter version is taken as the tree has it, padded with zeros",
		     a_shorter_version_is_whole),
		TEST("a version with other bytes is left to the network",
		     other_bytes_are_left_to_the_network),
		TEST("I1 rotten bytes of the old version are not taken", rot_does_not_spread),
		TEST("granules that are here already are not looked at", what_is_here_stays),
		TEST("when the sidecar cannot be fetched nothing is taken",
		     without_the_sidecar_it_ends),
		TEST("P04 a comparison that waits for the network can be stopped",
		     it_can_be_stopped),
		TEST("the index knows a leaf by its digest, and goes on with the next one if it"
		     " can", the_index_finds),
		TEST("I8 the index has a bound, and leaves beyond it are not looked at",
		     the_index_is_bounded),
	};

	return cmocka_run_group_tests_name("reuse", tests, NULL, NULL);
}
