/*
 * lazy.c - one image in block mode: making it, and asking it for granules.
 *
 *	ROOTING --tree verified--> SERVING --nothing missing--> FULL
 *	   |                          |  ^--a granule is missing after all--|
 *	   +--> UNFIT <---------------+
 *	   +--> BROKEN <--------------+
 *
 *	state     file   asked for
 *	ROOTING   NULL   the prefix of the tree; up to LAZY_HELD granules that readers wait for
 *	SERVING   set    wishes, read-ahead, filling, level-0 blocks
 *	FULL      set    level-0 blocks
 *	UNFIT     -      nothing
 *	BROKEN    -      nothing
 *
 * An image of one granule has no prefix: it begins with SERVING, and its only granule proves
 * itself.
 */
#include "config.h"
#include "lazy_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "blockfile.h"
#include "io.h"
#include "stored.h"

/* ---- state ----------------------------------------------------------------------------- */

void
lazy_set_state(struct lazy *z, enum lazy_state state)
{
	if (z->state == state)
		return;
	z->state = state;
	eventfd_write(z->config.notify_fd, 1);
}

void
lazy_look_at_file(struct lazy *z)
{
	bool full;

	if (z->heals || (z->state != LAZY_SERVING && z->state != LAZY_FULL))
		return;
	full = z->root.kept && blockfile_n_missing(z->file) == 0;
	lazy_set_state(z, full ? LAZY_FULL : LAZY_SERVING);
}

static struct source *
copy_sources(struct lazy *z, const struct lazy_source *from, size_t n)
{
	struct source *to = xcalloc(n + 1, sizeof(*to));

	for (size_t i = 0; i < n; i++) {
		to[i].what.uri = xstrdup(from[i].uri);
		to[i].what.list_id = xstrdup(from[i].list_id);
		to[i].host = lanehost_get(lanes_hosts(z->lanes), from[i].uri);
	}
	return to;
}

/* Locked. */
static void
free_sources(struct lazy *z, struct source *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(s[i].what.uri);
		free(s[i].what.list_id);
		lanehost_put(lanes_hosts(z->lanes), s[i].host);
	}
	free(s);
}

/* What an earlier run left, or what needs no tree from elsewhere: SERVING at once. */
static int
find_file(struct lazy *z, struct err *err)
{
	struct vtree *tree = NULL;
	int rc;

	if (z->heals) {
		z->file = blockfile_ref(z->config.heals);
		return 0;
	}
	rc = stored_partial(z->store, &z->id, NULL, &z->file, err);
	if (rc == -ENOENT && z->shape.prefix == 0) {
		rc = vtree_new(&tree, &z->id, NULL, 0, err);
		if (rc == 0)
			rc = stored_partial(z->store, &z->id, tree, &z->file, err);
		vtree_unref(tree);
		return rc;
	}
	return rc == -ENOENT ? 0 : rc;
}

static void
begin(struct lazy *z)
{
	struct failures none = { 0 };
	struct err why;

	z->saved_at = io_monotonic_ms();
	if (z->file != NULL) {
		z->state = LAZY_SERVING;
		z->root.kept = true;
		z->proven = !z->heals && blockfile_n_missing(z->file) < z->shape.n_granules;
		lazy_look_at_file(z);
	} else if (z->shape.prefix > LAZY_PREFIX_MAX) {
		err_refuse(&why, CODE_LIMIT, "the tree of block digests takes %lld bytes, too many "
			   "to be verified at once", (long long)z->shape.prefix);
		lazy_end(z, LAZY_UNFIT, &why, &none);
	} else if (z->n_sidecars == 0) {
		err_refuse(&why, CODE_DOWNLOAD, "no place of the tree of block digests is known");
		lazy_end(z, LAZY_UNFIT, &why, &none);
	}
	if (z->n_sources == 0 && z->state != LAZY_FULL) {
		err_refuse(&why, CODE_DOWNLOAD, "no place of the image is known");
		lazy_end(z, LAZY_UNFIT, &why, &none);
	}
	lanes_wake(z->lanes, z);
}

int
lazy_new(struct lazy **out, const struct lazy_config *config, struct err *err)
{
	struct lazy *z = xcalloc(1, sizeof(*z));
	int rc;

	*out = NULL;
	z->lanes = config->lanes;
	z->store = config->store;
	z->id = config->id;
	z->config = *config;
	z->heals = config->heals != NULL;
	if (!verity_shape_init(&z->shape, z->id.size)) {
		free(z);
		return err_set(err, EINVAL, "an image of %lld bytes", (long long)config->id.size);
	}
	rc = find_file(z, err);
	if (rc != 0) {
		free(z);
		return rc;
	}
	pthread_cond_init(&z->changed, NULL);
	z->plan = rangeplan_new(z->shape.n_granules, LAZY_AHEAD_MAX / VERITY_GRANULE);
	lanes_lock(z->lanes);
	z->sources = copy_sources(z, config->sources, config->n_sources);
	z->sidecars = copy_sources(z, config->sidecars, config->n_sidecars);
	z->n_sources = config->n_sources;
	z->n_sidecars = config->n_sidecars;
	lanes_add(z->lanes, z);
	begin(z);
	lanes_unlock(z->lanes);
	*out = z;
	return 0;
}

static void
cancel_level0s(struct lazy *z)
{
	z->stopped = true;
	lanes_cancel(z->lanes, z, true);
	pthread_cond_broadcast(&z->changed);
}

void
lazy_free(struct lazy *z)
{
	if (z == NULL)
		return;
	lanes_lock(z->lanes);
	z->dying = true;
	cancel_level0s(z);
	lanes_remove(z->lanes, z);
	lanes_cancel(z->lanes, z, false);
	while (z->n_working > 0 || z->level0s != NULL)
		pthread_cond_wait(&z->changed, lanes_mutex(z->lanes));
	free_sources(z, z->sources, z->n_sources);
	free_sources(z, z->sidecars, z->n_sidecars);
	lanes_unlock(z->lanes);
	lazy_save_map(z, true);
	blockfile_unref(z->file);
	for (size_t i = 0; i < z->n_held; i++)
		free(z->held[i].data);
	buf_release(&z->root.prefix);
	rangeplan_free(z->plan);
	pthread_cond_destroy(&z->changed);
	free(z);
}

enum lazy_state
lazy_state(struct lazy *z)
{
	enum lazy_state state;

	lanes_lock(z->lanes);
	state = z->state;
	lanes_unlock(z->lanes);
	return state;
}

int
lazy_result(struct lazy *z, struct err *err)
{
	int rc;

	lanes_lock(z->lanes);
	rc = z->result.rc;
	if (err != NULL)
		*err = z->result;
	lanes_unlock(z->lanes);
	return rc;
}

struct blockfile *
lazy_blockfile(struct lazy *z)
{
	struct blockfile *f = NULL;

	lanes_lock(z->lanes);
	if (z->file != NULL && (z->state == LAZY_SERVING || z->state == LAZY_FULL))
		f = blockfile_ref(z->file);
	lanes_unlock(z->lanes);
	return f;
}

/* ---- wishes ---------------------------------------------------------------------------- */

/* Without what is here; while healing, what is here is what is wrong. */
static void
add_wishes(struct lazy *z, int64_t first, int64_t n, long long now)
{
	int64_t end = first + n;

	if (z->file == NULL || z->heals) {
		rangeplan_want(z->plan, first, n, now);
		return;
	}
	while (first < end) {
		int64_t g = blockfile_missing(z->file, first, &n);

		if (g < 0 || g >= end)
			return;
		if (n > end - g)
			n = end - g;
		rangeplan_want(z->plan, g, n, now);
		first = g + n;
	}
}

void
lazy_want(struct lazy *z, int64_t first, int64_t n)
{
	long long now = io_monotonic_ms();

	if (first < 0 || n <= 0 || first >= z->shape.n_granules)
		return;
	if (n > z->shape.n_granules - first)
		n = z->shape.n_granules - first;
	lanes_lock(z->lanes);
	if (!z->dying && z->state != LAZY_UNFIT && z->state != LAZY_BROKEN) {
		add_wishes(z, first, n, now);
		z->wanted_at = now;
		lazy_look_at_file(z);
		lanes_wake(z->lanes, z);
	}
	lanes_unlock(z->lanes);
}

void
lazy_fill(struct lazy *z, enum lazy_fill fill)
{
	lanes_lock(z->lanes);
	z->fill = fill;
	lanes_wake(z->lanes, z);
	lanes_unlock(z->lanes);
}

static int64_t
missing_in_file(void *file, int64_t from, int64_t *n)
{
	return blockfile_missing(file, from, n);
}

void
lazy_changed(struct lazy *z)
{
	lanes_lock(z->lanes);
	if (z->file != NULL && !z->heals)
		rangeplan_prune(z->plan, &(struct rangeplan_missing){ missing_in_file, z->file });
	lazy_look_at_file(z);
	lanes_wake(z->lanes, z);
	lanes_unlock(z->lanes);
}

void
lazy_figures(struct lazy *z, struct lazy_figures *out)
{
	long long since;

	lanes_lock(z->lanes);
	*out = z->figures;
	out->active = z->n_working > 0 || rangeplan_waits(z->plan, &since);
	lanes_unlock(z->lanes);
}

void
lazy_stop(struct lazy *z)
{
	lanes_lock(z->lanes);
	cancel_level0s(z);
	lanes_unlock(z->lanes);
}

int
lazy_fetch_level0(struct lazy *z, int64_t first, int64_t n, struct err *err)
{
	struct level0 job = { .first = first, .n = n };
	struct level0 **at;

	lanes_lock(z->lanes);
	if (z->file == NULL || z->n_sidecars == 0) {
		lanes_unlock(z->lanes);
		return err_set(err, ENOENT, "there is no sidecar to ask");
	}
	job.next = z->level0s;
	z->level0s = &job;
	lanes_wake(z->lanes, z);
	while (job.in_flight || (!job.ended && !z->stopped))
		pthread_cond_wait(&z->changed, lanes_mutex(z->lanes));
	for (at = &z->level0s; *at != &job; at = &(*at)->next)
		;
	*at = job.next;
	pthread_cond_broadcast(&z->changed);	/* lazy_free() waits for the list to be empty */
	lanes_unlock(z->lanes);
	if (!job.ended)
		return err_set(err, ECANCELED, "not wanted any more");
	if (job.rc != 0 && err != NULL)
		*err = job.err;
	return job.rc;
}
