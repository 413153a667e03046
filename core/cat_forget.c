/*
 * cat_forget.c - what leaves the catalogue because nobody would miss it.
 *
 * The row of an image that its list has no more is kept, so that what was decided of it stands when
 * it comes back.  Of those of which nothing was decided the last ones are kept: else a list with
 * new identifiers in each version would make rows without end.  A row is forgotten only if an image
 * that comes for the first time would get the same one: accepted and selected as its subscription
 * does with new images, not pinned, nobody told that it is available.  What it leaves behind is of
 * others: expired/ and the events have copies of all that they show, objects are known by their
 * digests.
 *
 * An inode number is a hash of a name.  A row for it is needed while something has the number, so
 * that no other gets it; the same name gets it again.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <stdlib.h>
#include "cleanup.h"
#include "limits.h"

static int
forget(struct catalogue *c, int64_t id, struct err *err)
{
	CAT_QUERY q = { 0 };
	int64_t meta;
	int rc = cat_query_begin(&q, c, SQL_IMAGE_FORGET, ARGS(arg_int(id)), err);

	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc <= 0)
		return rc;
	meta = next_int(&q);
	cat_query_end(&q);
	return meta_drop(c, meta, err);
}

int
departed_forget(struct catalogue *c, int64_t subscription, size_t n_listed, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n = 0;
	/* More than one version adds; and nobody waits long, however many an old site has. */
	int64_t most = (int64_t)n_listed + LIMIT_DEPARTED_KEPT;
	int rc = cat_ids(c, SQL_IMAGE_FORGOTTEN,
			 ARGS(arg_int(subscription), arg_int(LIMIT_DEPARTED_KEPT), arg_int(most)),
			 &ids, &n, err);

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = forget(c, ids[i], err);
	/* Those that the subscription's policy had selected stand in site.json. */
	c->site_dirty = c->site_dirty || n > 0;
	return rc;
}

int
inode_collect(struct catalogue *c, struct err *err)
{
	int64_t n;
	int rc = cat_int(c, SQL_INODE_SURPLUS, ARGS(), &n, NULL, err);

	/* All rows are looked at: not each time. */
	if (rc != 0 || n <= LIMIT_INODES_UNUSED)
		return rc;
	return cat_run(c, SQL_INODE_COLLECT, ARGS(arg_int(4 * LIMIT_IMAGES_PER_LIST)), err);
}
