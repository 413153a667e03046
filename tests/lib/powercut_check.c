/*
 * What must be so in a store after a power cut, whatever was cut:
 *
 *   bytes     a byte that is handed out is the image's
 *   kept      what somebody was told is done, is: an image that was committed is there and whole,
 *             a healed granule is right, a removed image is gone
 *   tree      an object has its good tree, from the moment it has its name
 *   lost      nothing that we wrote looks as if it were not ours
 *   goes-on   what is not complete can be completed, by the way it came
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/stored.h"
#include "tests/lib/powercut.h"

struct view {
	struct store *store;
	unsigned int marks;
	struct readbuf buf;
};

static bool
done(const struct view *v, int mark)
{
	return (v->marks >> mark & 1) != 0;
}

static bool
is_verified(const struct view *v, int i)
{
	return i == HEALED || i == REMOVED || (i == STREAM && done(v, MARK_STREAM)) ||
	       (i == BLOCKS && done(v, MARK_BLOCKS));
}

/* ---- what the start of a daemon does --------------------------------------------------------- */

static int
find(const struct digest *d)
{
	for (int i = 0; i < N_IMAGES; i++) {
		if (digest_equal(d, &powercut_image(i)->id.image))
			return i;
	}
	return -1;
}

static bool
known_object(void *arg, const struct digest *d)
{
	(void)arg;
	return find(d) >= 0;
}

static bool
known_partial(void *arg, const struct digest *d)
{
	return find(d) >= 0 && !is_verified(arg, find(d));
}

static void
moved(void *arg, const char *from, const char *to)
{
	(void)arg;
	powercut_violated(FACT_LOST, "%s was moved to %s", from, to);
}

static void
reconcile(struct view *v)
{
	const struct store_walk walk = { .known_object = known_object,
		.known_partial = known_partial, .moved = moved, .arg = v, .max_moves = 1000 };
	struct err err = { 0 };

	if (store_reconcile(v->store, &walk, &err) < 0)
		powercut_violated(FACT_LOST, "reconcile: %s", err.text);
}

/* ---- images ---------------------------------------------------------------------------------- */

/* 0, or what reading a granule ended with. */
static int
look(struct view *v, int i, struct blockfile *f, int64_t g)
{
	const struct powercut_image *image = powercut_image(i);
	size_t len = verity_granule_size(vtree_shape(image->tree), g);
	const void *data;
	int64_t bad;
	int rc = blockfile_read(f, &v->buf, g * VERITY_GRANULE, len, &data, &bad);

	if (rc == 0 && memcmp(data, image->bytes + g * VERITY_GRANULE, len) != 0)
		powercut_violated(FACT_BYTES, "image %d, granule %d", i, (int)g);
	return rc;
}

static void
check_whole(struct view *v, int i, struct blockfile *f)
{
	for (int64_t g = 0; g < 4; g++) {
		int rc = look(v, i, f, g);

		if (rc == -EBADMSG && i == HEALED && g == BAD_GRANULE && !done(v, MARK_HEALED))
			continue;
		if (rc != 0)
			powercut_violated(FACT_KEPT, "image %d, granule %d: %d", i, (int)g, rc);
	}
}

static void
check_without_tree(struct view *v, int i)
{
	const struct vtree_id *id = &powercut_image(i)->id;
	struct err err = { 0 };
	struct blockfile *f;
	struct digest tree;
	int rc;

	if (i != HEALED || !done(v, MARK_TREE_LOST) || done(v, MARK_TREE))
		powercut_violated(FACT_TREE, "image %d has no good tree", i);
	rc = stored_rebuild(v->store, &id->image, id->size, NULL, NULL, NULL, &tree, &f, &err);
	if (rc != 0) {
		powercut_violated(FACT_GOES_ON, "image %d: its tree: %s", i, err.text);
		return;
	}
	if (!digest_equal(&tree, &id->verity))
		powercut_violated(FACT_TREE, "image %d: another tree", i);
	check_whole(v, i, f);
	blockfile_unref(f);
}

static bool
may_be_absent(const struct view *v, int i)
{
	return i == REMOVED ? done(v, MARK_KEPT) : !is_verified(v, i);
}

/* Is it an object? */
static bool
check_object(struct view *v, int i)
{
	const struct vtree_id *id = &powercut_image(i)->id;
	struct err err = { 0 };
	struct blockfile *f;
	int rc = stored_open(v->store, &id->image, id->size, &id->verity, &f, &err);

	if (rc == 0) {
		check_whole(v, i, f);
		blockfile_unref(f);
	} else if (rc == -ENODATA) {
		check_without_tree(v, i);
	} else if (rc != -ENOENT || !may_be_absent(v, i)) {
		powercut_violated(FACT_KEPT, "image %d: %s", i, err.text);
	}
	if (rc != -ENOENT && i == REMOVED && done(v, MARK_REMOVED))
		powercut_violated(FACT_KEPT, "image %d was removed", i);
	return rc != -ENOENT;
}

/* ---- what is not complete -------------------------------------------------------------------- */

static void
complete_blocks(struct view *v, int i, struct blockfile *f)
{
	const struct powercut_image *image = powercut_image(i);
	struct err err = { 0 };
	int64_t g, n;
	int rc = 0;

	while (rc == 0 && (g = blockfile_missing(f, 0, &n)) >= 0)
		rc = blockfile_land(f, g, image->bytes + g * VERITY_GRANULE,
				    verity_granule_size(vtree_shape(image->tree), g), &err);
	if (rc == 0)
		rc = store_commit_blocks(v->store, &image->id.image, blockfile_fd(f), &err);
	if (rc != 0)
		powercut_violated(FACT_GOES_ON, "image %d: %s", i, err.text);
}

static void
check_blocks(struct view *v, int i, bool go_on)
{
	const struct powercut_image *image = powercut_image(i);
	bool kept = i == PARTIAL && done(v, MARK_KEPT);
	struct err err = { 0 };
	struct blockfile *f;
	int rc = stored_partial(v->store, &image->id, NULL, &f, &err);

	if (rc == -ENOENT && !kept)
		rc = stored_partial(v->store, &image->id, image->tree, &f, &err);
	if (rc != 0) {
		powercut_violated(kept ? FACT_KEPT : FACT_GOES_ON, "image %d: %s", i, err.text);
		return;
	}
	for (int64_t g = 0; g < 4; g++) {
		rc = look(v, i, f, g);
		if (rc != 0 && rc != -EAGAIN)
			powercut_violated(FACT_GOES_ON, "image %d, granule %d: %d", i, (int)g, rc);
		if (rc != 0 && kept && (g == 0 || g == 2))
			powercut_violated(FACT_KEPT, "image %d, granule %d: %d", i, (int)g, rc);
	}
	if (go_on)
		complete_blocks(v, i, f);
	blockfile_unref(f);
}

static void
complete_stream(struct view *v, int i)
{
	const struct powercut_image *image = powercut_image(i);
	struct err err = { 0 };
	int64_t have;
	int fd, rc;

	rc = store_partial_open(v->store, &image->id.image, image->id.size, &fd, &have, &err);
	if (rc == 0) {
		if (pwrite(fd, image->bytes, (size_t)image->id.size, 0) != image->id.size)
			rc = -errno;
		if (rc == 0)
			rc = store_commit(v->store, &image->id.image, fd, image->tree, &err);
		close(fd);
	}
	if (rc != 0)
		powercut_violated(FACT_GOES_ON, "image %d: %s", i, err.text);
}

void
powercut_check(const char *cache, unsigned int marks, bool go_on)
{
	struct view v = { .store = powercut_store(cache), .marks = marks };

	reconcile(&v);
	for (int i = 0; i < N_IMAGES; i++) {
		if (check_object(&v, i) || i == HEALED || i == REMOVED)
			continue;
		if (i == STREAM && go_on)
			complete_stream(&v, i);
		else if (i != STREAM)
			check_blocks(&v, i, go_on);
		if (go_on && !check_object(&v, i))
			powercut_violated(FACT_GOES_ON, "image %d is not there", i);
	}
	readbuf_release(&v.buf);
	store_close(v.store);
}
