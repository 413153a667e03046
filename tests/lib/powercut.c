/*
 * powercut.c - does things with a store on a recorded disk, and tries what every power cut
 * would have left of it.
 *
 *   powercut setup CACHE              a store with two images
 *   powercut act CACHE MARK           what a daemon does: commits, heals, removes.  After each
 *   step a
 *                                     byte is written to MARK (see recorder)
 *   powercut careless CACHE MARK      the same without any fsync: to show that it is noticed
 *   powercut replay BASE LOG DIR SECONDS
 *                                     makes, in DIR, disks as they could be after a cut: BASE and
 *                                     what LOG says of the writes before the cut.  Mounts each,
 *                                     and looks (powercut_check.c).  Prints what was wrong, and
 *                                     a count for each kind.  77: there is no loop device
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/stored.h"
#include "tests/lib/powercut.h"
#include "tests/lib/storebed.h"

enum { SIZE = 3 * VERITY_GRANULE + 12345, PIECE = 64 << 10 };

static bool careless;

int
fsync(int fd)
{
	return careless ? 0 : (int)syscall(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
	return careless ? 0 : (int)syscall(SYS_fdatasync, fd);
}

static void
demand(bool fact, const char *what, const struct err *err)
{
	if (fact)
		return;
	fprintf(stderr, "powercut: %s: %s\n", what, err->text);
	exit(1);
}

/* ---- images ---------------------------------------------------------------------------------- */

static void
make_image(struct powercut_image *image, int number)
{
	unsigned char *bytes = malloc(SIZE);
	uint64_t r = (uint64_t)number + 1;

	if (bytes == NULL)
		abort();
	for (size_t i = 0; i < SIZE; i++) {
		r = r * 6364136223846793005u + 1442695040888963407u;
		bytes[i] = (unsigned char)(r >> 33);
	}
	image->bytes = bytes;
	image->tree = bed_tree(bytes, SIZE, &image->id);
}

const struct powercut_image *
powercut_image(int i)
{
	static struct powercut_image images[N_IMAGES];

	if (images[i].bytes == NULL)
		make_image(&images[i], i);
	return &images[i];
}

struct store *
powercut_store(const char *cache)
{
	char path[512];
	struct conf conf = { .cache_dir = path, .cache_min_free_percent = -1 };
	struct err err = { 0 };
	struct store *s;

	snprintf(path, sizeof(path), "%s", cache);
	demand(store_open(&conf, BED_ID, &s, &err) == 0, "store_open", &err);
	return s;
}

/* ---- what is done ---------------------------------------------------------------------------- */

static void
stream(struct store *s, int number)
{
	const struct powercut_image *image = powercut_image(number);
	struct err err = { 0 };
	int64_t have;
	int fd;

	demand(store_partial_open(s, &image->id.image, SIZE, &fd, &have, &err) == 0,
	       "store_partial_open", &err);
	for (int64_t off = 0; off < SIZE; off += PIECE) {
		size_t len = SIZE - off < PIECE ? (size_t)(SIZE - off) : PIECE;

		demand(pwrite(fd, image->bytes + off, len, off) == (ssize_t)len, "pwrite", &err);
	}
	demand(store_commit(s, &image->id.image, fd, image->tree, &err) == 0, "store_commit", &err);
	close(fd);
}

static void
land(struct blockfile *f, int number, int64_t g)
{
	const struct powercut_image *image = powercut_image(number);
	size_t len = verity_granule_size(vtree_shape(image->tree), g);
	struct err err = { 0 };

	demand(blockfile_land(f, g, image->bytes + g * VERITY_GRANULE, len, &err) == 0,
	       "blockfile_land", &err);
}

static void
write_map(struct store *s, struct blockfile *f)
{
	struct buf map = BUF_INIT;
	struct err err = { 0 };

	blockfile_map(f, &map);
	demand(store_map_write(s, blockfile_digest(f), map.data, map.len) == 0, "store_map_write",
	       &err);
	buf_release(&map);
}

static struct blockfile *
begin_blocks(struct store *s, int number)
{
	const struct powercut_image *image = powercut_image(number);
	struct err err = { 0 };
	struct blockfile *f;

	demand(stored_partial(s, &image->id, image->tree, &f, &err) == 0, "stored_partial", &err);
	return f;
}

static void
blocks(struct store *s)
{
	struct blockfile *f = begin_blocks(s, BLOCKS);
	struct err err = { 0 };

	for (int64_t g = 3; g >= 0; g--) {
		land(f, BLOCKS, g);
		write_map(s, f);
	}
	demand(store_commit_blocks(s, blockfile_digest(f), blockfile_fd(f), &err) == 0,
	       "store_commit_blocks", &err);
	blockfile_unref(f);
}

static void
heal(struct store *s)
{
	const struct vtree_id *id = &powercut_image(HEALED)->id;
	struct err err = { 0 };
	struct blockfile *f;
	int fd;

	demand(stored_open(s, &id->image, SIZE, &id->verity, &f, &err) == 0, "stored_open", &err);
	fd = store_object_open_rw(s, &id->image, SIZE, &err);
	demand(fd >= 0, "store_object_open_rw", &err);
	blockfile_set_writable(f, fd);
	land(f, HEALED, BAD_GRANULE);
	blockfile_unref(f);
}

static void
tree_path(const char *cache, int number, char path[512])
{
	char hex[DIGEST_HEX + 1];

	digest_hex(&powercut_image(number)->id.image, hex);
	snprintf(path, 512, "%s/objects/%.2s/%s.fsv", cache, hex, hex);
}

static void
lose_tree(struct store *s, const char *cache)
{
	const struct vtree_id *id = &powercut_image(HEALED)->id;
	struct err err = { 0 };
	struct blockfile *f;
	struct digest tree;
	char path[512];

	tree_path(cache, HEALED, path);
	demand(unlink(path) == 0, "unlink", &err);
	demand(stored_rebuild(s, &id->image, SIZE, &id->verity, NULL, NULL, &tree, &f, &err) == 0,
	       "stored_rebuild", &err);
	blockfile_unref(f);
}

/* Kept: synced by somebody else, as a file system does now and then; the store itself does not. */
static struct blockfile *
keep_some(struct store *s)
{
	struct blockfile *f = begin_blocks(s, PARTIAL);

	land(f, PARTIAL, 0);
	land(f, PARTIAL, 2);
	write_map(s, f);
	if (!careless)
		syncfs(blockfile_fd(f));
	return f;
}

static void
mark(int fd, int number)
{
	const unsigned char byte = (unsigned char)number;
	struct err err = { 0 };

	demand(write(fd, &byte, 1) == 1, "mark", &err);
}

int
powercut_act(const char *cache, const char *mark_path)
{
	struct store *s = powercut_store(cache);
	int fd = open(mark_path, O_WRONLY | O_CLOEXEC);
	struct err err = { 0 };
	struct blockfile *f;

	mark(fd, MARK_BEGIN);
	stream(s, STREAM);
	mark(fd, MARK_STREAM);
	blocks(s);
	mark(fd, MARK_BLOCKS);
	heal(s);
	mark(fd, MARK_HEALED);
	mark(fd, MARK_TREE_LOST);
	lose_tree(s, cache);
	mark(fd, MARK_TREE);
	f = keep_some(s);
	mark(fd, MARK_KEPT);
	land(f, PARTIAL, 1);
	write_map(s, f);
	demand(store_object_remove(s, &powercut_image(REMOVED)->id.image, &err) == 0,
	       "store_object_remove", &err);
	mark(fd, MARK_REMOVED);
	mark(fd, MARK_END);
	blockfile_unref(f);
	store_close(s);
	close(fd);
	return 0;
}

int
powercut_setup(const char *cache)
{
	char path[512], *dot;
	struct conf conf = { .cache_dir = path, .cache_min_free_percent = -1 };
	struct err err = { 0 };
	struct store *s;

	snprintf(path, sizeof(path), "%s", cache);
	demand(store_init(&conf, BED_ID, false, &err) == 0, "store_init", &err);
	s = powercut_store(cache);
	stream(s, HEALED);
	stream(s, REMOVED);
	store_close(s);
	tree_path(cache, HEALED, path);
	dot = strrchr(path, '.');
	*dot = '\0';
	bed_flip(path, BAD_GRANULE * VERITY_GRANULE + 4321, 100);
	sync();
	return 0;
}

int
main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (strcmp(verb, "setup") == 0 && argc == 3)
		return powercut_setup(argv[2]);
	careless = strcmp(verb, "careless") == 0;
	if ((careless || strcmp(verb, "act") == 0) && argc == 4)
		return powercut_act(argv[2], argv[3]);
	if (strcmp(verb, "replay") == 0 && argc == 6)
		return powercut_replay(argv[2], argv[3], argv[4], strtol(argv[5], NULL, 10));
	fputs("usage: powercut setup CACHE | act CACHE MARK | careless CACHE MARK |\n"
	      "       replay BASE LOG DIR SECONDS\n", stderr);
	return 2;
}
