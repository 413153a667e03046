/*
 * lazyroot.c - the tree that everything else hangs on: fetched, verified, kept; or the verdict that
 * block mode cannot be used.
 *
 *	a sidecar is             what follows
 *	right                    SERVING; granules that came meanwhile are landed
 *	missing, short, wrong    the next one; none left: UNFIT, with the reason
 *	out of reach, too slow   likewise, but only if the image itself can be reached: a network
 *	                         that is down says nothing about the sidecar.  Then wishes fail,
 *	                         and the next one tries again
 *
 * Readers are answered as soon as the tree is verified; it is made durable after that.
 *
 * The prefix is held in memory once while it comes (1/4096 of the image), up to
 * LAZY_PREFIX_MAX: 512 MiB, an image of 2 TiB; larger ones are received as a stream.
 */
#include "config.h"
#include "lazy_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockfile.h"
#include "cleanup.h"
#include "io.h"
#include "stored.h"

/* ---- the verdict ----------------------------------------------------------------------- */

/* Locked.  A new round over all sidecars, at the next wish. */
static void
start_over(struct lazy *z)
{
	z->root.sidecar = 0;
	z->root.deadline = 0;
	z->root.undecided = false;
	z->root.n_refused = 0;
}

static bool
is_network(const struct err *e)
{
	return e->code == CODE_SLOW;
}

void
lazy_verdict(struct lazy *z, const struct err *image_why, struct failures *f)
{
	struct rooting *root = &z->root;

	if (!is_network(&root->why) || root->image_answers) {
		lazy_end(z, LAZY_UNFIT, &root->why, f);
	} else if (root->image_fails) {
		if (image_why == NULL)
			lazy_network_failed(z, &root->why, f);
		start_over(z);
	} else {
		root->undecided = true;
	}
}

/* Locked. */
static void
sidecar_failed(struct lazy *z, const struct err *why, struct failures *f)
{
	struct rooting *root = &z->root;

	root->n_refused = 0;
	if (root->why.rc == 0 || !is_network(why))
		root->why = *why;
	if (++root->sidecar == z->n_sidecars)
		lazy_verdict(z, NULL, f);
}

/* ---- the prefix ------------------------------------------------------------------------ */

int
lazy_prefix_piece(struct work *w, const void *data, size_t len)
{
	/* One lane fetches it: nobody else looks at it until it is done. */
	buf_add(&w->lazy->root.prefix, data, len);
	return 0;
}

/* A large tree goes to the disk first and is read from there, so that it is not kept in memory. */
static int
open_large(struct lazy *z, struct vtree *tree, struct blockfile **file, struct err *err)
{
	int rc = store_tree_put(z->store, tree, true, err);

	vtree_unref(tree);
	return rc == 0 ? stored_partial(z->store, &z->id, NULL, file, err) : rc;
}

/* Any other is good in memory: readers do not wait for it to be durable (lazy_keep_tree()). */
static int
open_small(struct lazy *z, struct vtree *tree, struct blockfile **file, struct err *err)
{
	CLEANUP_BUF struct buf map = BUF_INIT;
	bool is_new;
	int fd, rc;

	rc = store_blocks_open(z->store, &z->id.image, z->id.size, &fd, &is_new, err);
	if (rc != 0) {
		vtree_unref(tree);
		return rc;
	}
	if (!is_new)
		stored_map(z->store, &z->id.image, &z->shape, fd, &map);
	*file = blockfile_partial(fd, tree, map.data, map.len);
	return 0;
}

/* *wrong: it is the sidecar's fault. */
static int
plant(struct lazy *z, const char *uri, struct blockfile **file, bool *wrong, struct err *err)
{
	CLEANUP_FREE char *host = lanehost_name(uri);
	struct vtree *tree = NULL;
	int rc;

	rc = vtree_new(&tree, &z->id, z->root.prefix.data, z->root.prefix.len, err);
	buf_release(&z->root.prefix);
	*wrong = rc == -EBADMSG;
	if (rc != 0) {
		err_prefix(err, "sidecar at '%s'", host);
		return rc;
	}
	z->root.kept = z->shape.prefix > VTREE_MEMORY_BYTES;
	return z->root.kept ? open_large(z, tree, file, err) : open_small(z, tree, file, err);
}

/* FULL comes after it: what is committed then needs the tree on the disk. */
static void
keep_tree(struct lazy *z)
{
	struct failures f = { 0 };
	struct err e = { 0 };
	int rc;

	if (z->root.kept)
		return;
	rc = store_tree_put(z->store, blockfile_tree(z->file), true, &e);
	lanes_lock(z->lanes);
	z->root.kept = rc == 0;
	if (rc != 0)
		lazy_end(z, LAZY_BROKEN, &e, &f);
	lazy_look_at_file(z);
	lanes_unlock(z->lanes);
	lazy_tell(z, &f);
}

/* The tree is verified: what came before it can be judged now. */
static void
serve(struct work *w, struct blockfile *file)
{
	struct lazy *z = w->lazy;
	struct held *held;
	size_t n;

	lanes_lock(z->lanes);
	n = z->n_held;
	held = xcalloc(n + 1, sizeof(*held));
	memcpy(held, z->held, n * sizeof(*held));
	z->n_held = 0;
	z->file = file;
	z->root.in_flight = false;
	/* These are on their way until they are landed: no other lane asks for them meanwhile. */
	for (size_t i = 0; i < n; i++)
		rangeplan_begin(z->plan, &(struct range){ held[i].g, 1 });
	lazy_set_state(z, LAZY_SERVING);
	lanes_wake(z->lanes, z);
	lanes_unlock(z->lanes);
	for (size_t i = 0; i < n; i++) {
		lazy_land(w, held[i].g, held[i].data, held[i].len);
		lanes_lock(z->lanes);
		rangeplan_end(z->plan, &(struct range){ held[i].g, 1 });
		lanes_unlock(z->lanes);
		free(held[i].data);
	}
	free(held);
	keep_tree(z);
}

void
lazy_prefix_done(struct work *w, const struct ranged_end *end, bool refused)
{
	struct lazy *z = w->lazy;
	struct blockfile *file = NULL;
	struct failures f = { 0 };
	struct err e = end->err;
	bool wrong = true;
	int rc = e.rc;

	if (rc == 0)
		rc = plant(z, w->uri, &file, &wrong, &e);
	else
		err_prefix(&e, "sidecar");
	lanes_lock(z->lanes);
	z->figures.fetched_bytes += end->bytes;
	z->figures.n_requests++;
	/* Until it serves, nobody else begins with another tree. */
	z->root.in_flight = file != NULL;
	if (rc == 0 || rc == -ECANCELED || z->state != LAZY_ROOTING)
		;
	else if (refused && z->root.n_refused < LAZY_REFUSALS &&
		 io_monotonic_ms() < z->root.deadline)
		z->root.n_refused++;
	else if (!wrong)
		lazy_end(z, LAZY_BROKEN, &e, &f);
	else {
		if (refused)
			e.code = CODE_SLOW;	/* busy, not missing */
		sidecar_failed(z, &e, &f);
	}
	if (file != NULL && z->state != LAZY_ROOTING) {
		/* The image turned out to have no ranges meanwhile. */
		lanes_unlock(z->lanes);
		blockfile_unref(file);
		return;
	}
	lanes_unlock(z->lanes);
	if (file != NULL)
		serve(w, file);
	lazy_tell(z, &f);
}

/* ---- the lowest level ------------------------------------------------------------------ */

int
lazy_level0_piece(struct work *w, int64_t at, const unsigned char *data, size_t len)
{
	struct lazy *z = w->lazy;
	struct vtree *tree = blockfile_tree(z->file);
	int64_t g = (at - z->shape.offset[0]) / VERITY_BLOCK;

	for (size_t i = 0; i + VERITY_BLOCK <= len; i += VERITY_BLOCK, g++) {
		w->tree_rc = vtree_put_level0(tree, g, data + i);
		if (w->tree_rc != 0)
			return -1;
		w->n_landed++;
	}
	return 0;
}

void
lazy_level0_done(struct work *w, const struct ranged_end *end, bool refused)
{
	struct lazy *z = w->lazy;
	struct level0 *job = w->level0;
	struct err e = end->err;

	if (w->tree_rc != 0)
		err_refuse(&e, CODE_BLOCK_DIGEST, "'%s': block %lld is not what was signed", w->uri,
			   (long long)(w->range.first + w->n_landed));
	lanes_lock(z->lanes);
	z->figures.fetched_bytes += end->bytes;
	z->figures.n_requests++;
	job->in_flight = false;
	job->done += w->n_landed;
	job->rc = e.rc;
	job->err = e;
	if (job->done == job->n) {
		job->ended = true;
		job->rc = 0;
	} else if (e.rc != 0 && e.rc != -ECANCELED &&
		   !(refused && z->n_refused++ < LAZY_REFUSALS)) {
		job->ended = ++job->sidecar == z->n_sidecars;
	}
	pthread_cond_broadcast(&z->changed);
	lanes_unlock(z->lanes);
}
