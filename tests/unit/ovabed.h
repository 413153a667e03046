/*
 * ovabed.h - a site whose images are archives, for unit tests of images/ID/ova.
 *
 * The open image files are played by this file: an archive in memory, whose blocks come at once
 * or when the test says so. Include it once in a program, before anything that includes libfuse's
 * headers.
 */
#ifndef VMI_OVABED_H
#define VMI_OVABED_H

#define FUSE_USE_VERSION 312

#include <stdio.h>
#include <string.h>

#include "core/tarindex.h"
#include "fs/ova.h"
#include "fs/ovaread.h"
#include "tests/lib/reqbed.h"
#include "tests/lib/treebed.h"

/* ---- the part of blob.c -------------------------------------------------------------------- */

enum { ARCHIVE = 4103 };		/* bytes of image 7 (treebed.h) */

static struct {
	unsigned char bytes[8192];	/* the archive */
	bool at_once;			/* blocks come before the call returns */
	int errnum;			/* instead of a block that comes at once */
	int n_open, n_fetches, depth, deepest;
	blob_done *done;		/* what waits for a block */
	void *arg;
	int64_t off;
	long long since;
} disk;

int
blob_open(struct blobs *b, const struct object_row *row, bool at_disk)
{
	(void)b;
	(void)row;
	(void)at_disk;
	disk.n_open++;
	return 0;
}

void
blob_close(struct blobs *b, uint64_t object)
{
	(void)b;
	(void)object;
	disk.n_open--;
}

void
blob_fetch(struct blobs *b, uint64_t object, size_t size, off_t off, long long since,
	   blob_done *done, void *arg)
{
	(void)b;
	(void)object;
	assert_int_equal(size, TAR_BLOCK);
	assert_true(off >= 0 && off + TAR_BLOCK <= ARCHIVE);
	assert_null(disk.done);
	disk.n_fetches++;
	if (disk.at_once) {
		if (++disk.depth > disk.deepest)
			disk.deepest = disk.depth;
		if (disk.errnum != 0)
			done(arg, disk.errnum, NULL, 0);
		else
			done(arg, 0, disk.bytes + off, size);
		disk.depth--;
		return;
	}
	disk.done = done;
	disk.arg = arg;
	disk.off = off;
	disk.since = since;
}

/* A header in block number i of the archive. */
static inline void
put_member(int i, const char *name, int size)
{
	unsigned char *block = disk.bytes + i * TAR_BLOCK;
	char octal[32];
	unsigned sum = 0;

	memset(block, 0, TAR_BLOCK);
	memcpy(block, name, strlen(name));
	snprintf(octal, sizeof(octal), "%011o", (unsigned)size);
	memcpy(block + 124, octal, 12);
	block[156] = '0';
	memcpy(block + 257, "ustar\00000", 8);
	memset(block + 148, ' ', 8);
	for (int k = 0; k < TAR_BLOCK; k++)
		sum += block[k];
	snprintf(octal, sizeof(octal), "%06o", sum);
	memcpy(block + 148, octal, 7);
}

/* vm.ovf, disk.vmdk, the end: headers in blocks 0, 2 and 5. */
static inline void
put_archive(void)
{
	memset(&disk, 0, sizeof(disk));
	put_member(0, "vm.ovf", 100);
	put_member(2, "disk.vmdk", 1024);
}

/* ---- a site with archives ------------------------------------------------------------------ */

static const struct treebed_image images[] = {
	{ .number = 7, .format = "OVA" }, { .number = 8 }, { .number = 9, .format = "ova" },
};

static inline int
setup(void **state)
{
	struct treebed *b = treebed_new();

	put_archive();
	treebed_list(b, 1, images, 3);
	treebed_select(b, 7, true);
	treebed_select(b, 8, true);
	treebed_refresh(b);
	b->fs.ovareads = ovareads_new(&b->fs);
	reqbed_userdata = &b->fs;
	*state = b;
	return 0;
}

static inline int
teardown(void **state)
{
	struct treebed *b = *state;

	assert_null(disk.done);
	assert_int_equal(disk.n_open, 0);
	ovareads_free(b->fs.ovareads);
	treebed_free(b);
	return 0;
}

/* The index of image 7 is known: members named so, or the reason why there are none. */
static inline void
learn(struct treebed *b, const char *const *names, size_t n, const char *why)
{
	struct tarindex tar;
	struct digest d;

	treebed_digest(7, "1", &d);
	tarindex_init(&tar, ARCHIVE);
	tar.members = xcalloc(n + 1, sizeof(*tar.members));
	for (tar.n = 0; tar.n < n; tar.n++)
		tar.members[tar.n] = (struct tar_member){
			xstrdup(names[tar.n]), 512 * (int64_t)tar.n, 100 + (int64_t)tar.n };
	ovas_add(b->fs.ovas, &d, &tar, why);
	tarindex_release(&tar);
}

static inline void
learn_two(struct treebed *b)
{
	static const char *const names[] = { "disk.vmdk", "vm.ovf" };

	learn(b, names, 2, NULL);
}

static inline bool
is_listed(struct treebed *b, const char *path, const char *name)
{
	struct looked looked;
	struct place dir;
	struct entry e;
	bool found = false;

	assert_int_equal(treebed_walk(b, path, &looked), 0);
	assert_int_equal(place_resolve(&b->fs, looked.node, &dir), 0);
	for (uint64_t cookie = 0; place_next(&dir, cookie, &e); cookie = e.cookie)
		found = found || strcmp(e.name, name) == 0;
	place_release(&dir);
	return found;
}

static inline uint64_t
node_of(struct treebed *b, const char *path)
{
	struct looked looked;

	assert_int_equal(treebed_walk(b, path, &looked), 0);
	return looked.node;
}

static inline enum ova_fate
judge_as(void *arg, const struct digest *d)
{
	const enum ova_fate *fate = arg;

	(void)d;
	return *fate;
}

#define IN_BED(title, function) { title, function, setup, teardown, NULL }

#endif
