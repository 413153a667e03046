/*
 * Without a daemon an engine runs here until it has nothing left to do: every bad granule was
 * landed or has failed, and the rows say so.  Which ones still wait is kept under one lock, because
 * lanes' threads tell of them.
 */
#include "config.h"
#include "mend.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/blockfile.h"
#include "core/cleanup.h"
#include "core/control.h"
#include "core/engine.h"
#include "core/stamp.h"
#include "core/stored.h"
#include "progress.h"

static bool
is_silent(const struct ctl *ctl)
{
	return ctl->out.verbosity < 0 || ctl->out.json;
}

/* ---- a daemon does it ------------------------------------------------------------------------ */

static int
take_progress(void *arg, const char *text)
{
	int64_t bytes, total;

	if (sscanf(text, "progress %" SCNd64 " %" SCNd64, &bytes, &total) == 2)
		progress_update(arg, bytes, total);
	return 0;
}

int
mend_ask(struct ctl *ctl, const struct inspect *i, struct err *err)
{
	char request[16 + DIGEST_HEX] = "heal ";
	struct progress bar;
	int rc;

	digest_hex(&i->digest, request + strlen(request));
	progress_begin(&bar, i->name, is_silent(ctl));
	rc = control_call(ctl->conf, request, take_progress, &bar, NULL, err);
	progress_end(&bar);
	return rc;
}

/* ---- a row ----------------------------------------------------------------------------------- */

/* What stands in a row beside an image that was looked at. */
struct finding {
	const struct inspect *image;
	struct digest tree;
};

static int
acquit(struct ctl *ctl, void *arg, struct err *err)
{
	const struct finding *f = arg;

	return catalogue_object_healed(ctl->catalogue, &f->image->digest,
				       "the whole file was hashed and is right", stamp_now(), err);
}

int
mend_row(struct ctl *ctl, const struct inspect *i, struct err *err)
{
	struct finding good = { .image = i };
	int rc = mend_ask(ctl, i, err);

	return rc == -ENOTCONN ? ctl_transaction(ctl, acquit, &good, err) : rc;
}

/* ---- a tree ---------------------------------------------------------------------------------- */

struct pass {
	struct progress bar;
	int64_t size;
};

static int
show_pass(void *arg, int64_t done)
{
	struct pass *p = arg;

	progress_update(&p->bar, done, p->size);
	return 0;
}

static int
keep_tree(struct ctl *ctl, void *arg, struct err *err)
{
	const struct finding *f = arg;
	int rc = catalogue_object_set_tree(ctl->catalogue, &f->image->digest, &f->tree, err);

	return rc == 0 && f->image->accused ? acquit(ctl, arg, err) : rc;
}

int
mend_tree(struct ctl *ctl, const struct inspect *i, struct err *err)
{
	struct finding made = { .image = i };
	struct pass p = { .size = i->size };
	struct blockfile *file = NULL;
	int rc;

	rc = ctl_open_store(ctl, true, err);
	if (rc != 0)
		return rc;
	progress_begin(&p.bar, i->name, is_silent(ctl));
	rc = stored_rebuild(ctl->store, &i->digest, i->size, i->has_root ? &i->root : NULL,
			    show_pass, &p, &made.tree, &file, err);
	progress_end(&p.bar);
	if (rc == 0)
		rc = ctl_transaction(ctl, keep_tree, &made, err);
	blockfile_unref(file);
	return rc;
}

/* ---- a whole image --------------------------------------------------------------------------- */

struct loss {
	const struct inspect *image;
	const char *why;
};

static int
lose(struct ctl *ctl, void *arg, struct err *err)
{
	const struct loss *l = arg;

	return catalogue_object_lost(ctl->catalogue, &l->image->digest, l->why, stamp_now(), err);
}

/* The row first: nobody is to be told that these bytes are good while they are moved away. */
static int
quarantine(struct ctl *ctl, const struct inspect *i, const char *why, struct err *err)
{
	struct loss loss = { .image = i, .why = why };
	int rc;

	rc = ctl_open_store(ctl, true, err);
	if (rc == 0)
		rc = ctl_transaction(ctl, lose, &loss, err);
	if (rc == 0)
		rc = store_quarantine_object(ctl->store, &i->digest, err);
	return rc == -ENOENT ? 0 : rc;
}

int
mend_replace(struct ctl *ctl, const struct inspect *i, const char *why, struct err *err)
{
	char request[16 + DIGEST_HEX] = "damaged ";
	int rc;

	digest_hex(&i->digest, request + strlen(request));
	rc = control_call(ctl->conf, request, NULL, NULL, NULL, err);
	return rc == -ENOTCONN ? quarantine(ctl, i, why, err) : rc;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

struct mending {
	struct engine *engine;
	struct mend_item *items;
	size_t n;
	pthread_mutex_t lock;		/* of what follows, and of the items */
	struct progress bar;
	int64_t n_waiting, n_all;	/* granules */
};

/* The place of granule g among the bad ones, -1: it is none of them. */
static int64_t
place_of(const struct inspect *i, int64_t g)
{
	int64_t before = 0;

	for (size_t n = 0; n < i->n_bad; n++) {
		const struct inspect_run *r = &i->bad[n];

		if (g >= r->first && g < r->first + r->n)
			return before + g - r->first;
		before += r->n;
	}
	return -1;
}

/* The lock is held. */
static void
answer(struct mending *m, struct mend_item *item, int64_t g, const struct err *why)
{
	int64_t at = place_of(item->image, g);

	if (at < 0 || item->answered[at])
		return;
	item->answered[at] = 1;
	item->n_waiting--;
	m->n_waiting--;
	if (why != NULL && item->err.rc == 0)
		item->err = *why;
	progress_update(&m->bar, (m->n_all - m->n_waiting) * VERITY_GRANULE,
			m->n_all * VERITY_GRANULE);
}

static void
answer_all(struct mending *m, const struct digest *d, int64_t first, int64_t n,
	   const struct err *why)
{
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->n; i++)
		for (int64_t g = first; g < first + n; g++)
			if (digest_equal(&m->items[i].image->digest, d))
				answer(m, &m->items[i], g, why);
	pthread_mutex_unlock(&m->lock);
}

static void
landed(void *arg, struct blockfile *f, int64_t off, const void *data, size_t size)
{
	int64_t first = off / VERITY_GRANULE;

	(void)data;
	answer_all(arg, blockfile_digest(f), first,
		   (off + (int64_t)size + VERITY_GRANULE - 1) / VERITY_GRANULE - first, NULL);
}

static void
failed(void *arg, const struct digest *d, int64_t first, int64_t n, int rc, const struct err *why)
{
	struct err err = { 0 };

	if (why != NULL && why->rc != 0)
		err = *why;
	else
		err_set(&err, rc != 0 ? -rc : EIO, "%s", strerrordesc_np(rc != 0 ? -rc : EIO));
	answer_all(arg, d, first, n, &err);
}

/* The file and its tree, before the engine owns the store's work. */
static void
open_file(struct mending *m, struct ctl *ctl, struct mend_item *item)
{
	const struct inspect *i = item->image;

	item->answered = xcalloc((size_t)i->n_granules, 1);
	if (stored_open(ctl->store, &i->digest, i->size, &i->tree, &item->file, &item->err) != 0)
		return;
	item->n_waiting = i->n_granules;
	m->n_waiting += i->n_granules;
}

static void
ask_engine(struct mending *m, const struct mend_item *item)
{
	const struct inspect *i = item->image;

	for (size_t n = 0; item->file != NULL && n < i->n_bad; n++)
		for (int64_t k = 0; k < i->bad[n].n; k++)
			engine_heal(m->engine, item->file, i->bad[n].first + k,
				    "'vmimagectl verify' found it bad");
}

static int
run_engine(struct mending *m, struct ctl *ctl, struct err *err)
{
	struct engine_config config = {
		.conf = ctl->conf, .catalogue = steal_ptr(&ctl->catalogue), .store = ctl->store,
		.starter = ctl->starter, .control_socket = -1, .stop_fd = -1,
		.ops = { .landed = landed, .failed = failed, .arg = m },
	};
	int rc;

	rc = engine_new(&m->engine, &config, err);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < m->n; i++)
		ask_engine(m, &m->items[i]);
	progress_begin(&m->bar, "healing", is_silent(ctl));
	rc = engine_run(m->engine, err);
	engine_free(m->engine);
	progress_end(&m->bar);
	return rc;
}

static void
finish(struct mend_item *item)
{
	if (item->err.rc == 0 && item->n_waiting > 0)
		err_set(&item->err, EIO, "healing ended without an answer");
	blockfile_unref(item->file);
	free(item->answered);
	item->file = NULL;
	item->answered = NULL;
}

int
mend_blocks(struct ctl *ctl, struct mend_item *items, size_t n, struct err *err)
{
	struct mending m = { .items = items, .n = n };
	int rc;

	rc = ctl_open_store(ctl, true, err);
	if (rc != 0)
		return rc;
	pthread_mutex_init(&m.lock, NULL);
	for (size_t i = 0; i < n; i++)
		open_file(&m, ctl, &items[i]);
	m.n_all = m.n_waiting;
	if (m.n_waiting > 0)
		rc = run_engine(&m, ctl, err);
	for (size_t i = 0; i < n; i++)
		finish(&items[i]);
	pthread_mutex_destroy(&m.lock);
	return rc;
}
