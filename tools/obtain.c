/*
 * obtain.c - getting objects into the store.
 *
 * The main thread shows progress and waits; others work:
 *   daemon runs      up to fetch_parallel threads, each asking over a connection of its own
 *   no daemon        one thread runs an engine under the store's lock
 * struct work is shared by them under its lock; a worker that ends signals the condition.
 */
#include "config.h"
#include "obtain.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/control.h"
#include "core/engine.h"
#include "core/io.h"
#include "progress.h"

enum {
	SHOW_MS = 200,
	MAX_THREADS = 64,	/* as fetch_parallel */
};

struct work {
	struct ctl *ctl;
	struct obtain_list *list;
	struct engine *engine;		/* NULL: the daemon does it */
	pthread_mutex_t lock;		/* of what follows, and of the items */
	pthread_cond_t ended;
	size_t next;			/* first item that nobody has taken */
	size_t n_running;
	struct err engine_err;
};

/* ---- the list -------------------------------------------------------------------------------- */

void
obtain_add(struct obtain_list *list, const char *name, const struct digest *digest, int64_t size)
{
	struct obtain_item *item;

	for (size_t i = 0; i < list->n; i++)
		if (digest_equal(&list->items[i].digest, digest))
			return;
	list->items = xrealloc(list->items, (list->n + 1) * sizeof(*list->items));
	item = &list->items[list->n++];
	memset(item, 0, sizeof(*item));
	item->name = xstrdup(name);
	item->digest = *digest;
	item->size = size;
}

void
obtain_release(struct obtain_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i].name);
	free(list->items);
	list->items = NULL;
	list->n = 0;
}

/* A row may say that it is here, and its file may have been removed behind our back. */
static int
is_stored(struct ctl *ctl, const struct object_row *object, bool *stored, struct err *err)
{
	int64_t blocks;
	int rc = 0;

	*stored = false;
	if (object->state != OBJECT_VERIFIED)
		return 0;
	rc = ctl_open_store(ctl, false, err);
	if (rc == 0)
		*stored = store_object_stat(ctl->store, &object->digest, object->size, &blocks);
	return rc;
}

static int
add_version(struct ctl *ctl, struct obtain_list *list, const struct image_row *row,
	    const struct image_meta *meta, struct err *err)
{
	const char *name = row->meta.value[FIELD_ID];
	struct object_row object = { 0 };
	bool stored = false;
	int rc;

	rc = catalogue_object_get(ctl->catalogue, &meta->sha512, &object, err);
	if (rc == 0)
		rc = is_stored(ctl, &object, &stored, err);
	if (rc == 0 && !stored) {
		if (row->selected)
			obtain_add(list, name, &meta->sha512, meta->size);
		else
			rc = err_set(err, ENOENT, "image '%s' is not selected, so it may not be"
				     " fetched; 'vmimagectl select' does that", name);
	}
	object_row_release(&object);
	return rc;
}

int
obtain_add_image(struct ctl *ctl, struct obtain_list *list, const struct image_row *row,
		 bool with_pending, struct err *err)
{
	int rc;

	rc = add_version(ctl, list, row, &row->meta, err);
	if (rc == 0 && with_pending && row->has_pending)
		rc = add_version(ctl, list, row, &row->pending, err);
	return rc;
}

/* ---- asking the daemon ----------------------------------------------------------------------- */

struct asking {
	struct work *work;
	struct obtain_item *item;
};

static int
take_progress(void *arg, const char *text)
{
	struct asking *a = arg;
	long long bytes;

	if (sscanf(text, "progress %lld", &bytes) != 1)
		return 0;
	pthread_mutex_lock(&a->work->lock);
	a->item->bytes = bytes;
	pthread_mutex_unlock(&a->work->lock);
	return 0;
}

static void
set_answer(struct obtain_item *item, int rc, const struct err *why)
{
	item->answered = true;
	memset(&item->err, 0, sizeof(item->err));
	if (rc != 0 && why != NULL && why->rc != 0)
		item->err = *why;
	else if (rc != 0)
		err_set(&item->err, -rc, "%s", strerrordesc_np(-rc));
	else
		item->bytes = item->size;
}

static void *
ask_daemon(void *arg)
{
	struct work *w = arg;

	pthread_mutex_lock(&w->lock);
	while (w->next < w->list->n) {
		struct obtain_item *item = &w->list->items[w->next++];
		struct asking asking = { .work = w, .item = item };
		char request[16 + DIGEST_HEX];
		struct err err = { 0 };
		int rc;

		pthread_mutex_unlock(&w->lock);
		snprintf(request, sizeof(request), "%s ", w->list->patient ? "want" : "fetch");
		digest_hex(&item->digest, request + strlen(request));
		rc = control_call(w->ctl->conf, request, take_progress, &asking, NULL, &err);
		pthread_mutex_lock(&w->lock);
		set_answer(item, rc, &err);
	}
	w->n_running--;
	pthread_cond_signal(&w->ended);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* ---- an engine of our own -------------------------------------------------------------------- */

static void
take_answer(void *arg, const struct digest *d, int rc, struct blockfile *f, const struct err *why)
{
	struct work *w = arg;

	/* Without a daemon an answer comes when the whole is the object, in block mode too. */
	(void)f;
	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < w->list->n; i++)
		if (digest_equal(&w->list->items[i].digest, d))
			set_answer(&w->list->items[i], rc, why);
	pthread_mutex_unlock(&w->lock);
}

static void *
run_engine(void *arg)
{
	struct work *w = arg;
	struct err err = { 0 };

	(void)engine_run(w->engine, &err);
	pthread_mutex_lock(&w->lock);
	w->engine_err = err;
	w->n_running--;
	pthread_cond_signal(&w->ended);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static int
make_engine(struct work *w, struct err *err)
{
	struct ctl *ctl = w->ctl;
	struct engine_config config = {
		.conf = ctl->conf, .starter = ctl->starter, .control_socket = -1, .stop_fd = -1,
		.ops = { .answered = take_answer, .arg = w },
	};
	int rc;

	rc = ctl_open_store(ctl, true, err);
	if (rc != 0)
		return rc;
	config.catalogue = ctl->catalogue;
	config.store = ctl->store;
	ctl->catalogue = NULL;
	rc = engine_new(&w->engine, &config, err);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < w->list->n; i++) {
		const struct digest *d = &w->list->items[i].digest;

		if (w->list->patient)
			engine_want(w->engine, d);
		else
			engine_retry(w->engine, d);
	}
	return 0;
}

/* ---- showing and waiting --------------------------------------------------------------------- */

/* The lock is held. */
static void
show(struct work *w, struct progress *p)
{
	int64_t bytes = 0, total = 0;

	for (size_t i = 0; i < w->list->n; i++) {
		struct obtain_item *item = &w->list->items[i];
		struct engine_progress now;

		if (w->engine != NULL && !item->answered) {
			engine_progress(w->engine, &item->digest, &now);
			item->bytes = now.bytes;
		}
		bytes += item->bytes;
		total += item->size;
	}
	progress_update(p, bytes, total);
}

static void
add_ms(struct timespec *t, long ms)
{
	t->tv_nsec += ms * 1000000L;
	t->tv_sec += t->tv_nsec / 1000000000L;
	t->tv_nsec %= 1000000000L;
}

static void
wait_for_workers(struct work *w, struct progress *p)
{
	struct timespec until;

	pthread_mutex_lock(&w->lock);
	while (w->n_running > 0) {
		show(w, p);
		clock_gettime(CLOCK_MONOTONIC, &until);
		add_ms(&until, SHOW_MS);
		pthread_cond_timedwait(&w->ended, &w->lock, &until);
	}
	show(w, p);
	pthread_mutex_unlock(&w->lock);
}

static void
work_init(struct work *w, struct ctl *ctl, struct obtain_list *list)
{
	pthread_condattr_t attr;

	memset(w, 0, sizeof(*w));
	w->ctl = ctl;
	w->list = list;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->ended, &attr);
	pthread_condattr_destroy(&attr);
}

static void
work_release(struct work *w)
{
	engine_free(w->engine);
	pthread_cond_destroy(&w->ended);
	pthread_mutex_destroy(&w->lock);
}

static int
run_workers(struct work *w, struct err *err)
{
	size_t n = w->engine != NULL ? 1 : (size_t)w->ctl->conf->fetch_parallel, started = 0;
	CLEANUP_FREE char *subject = NULL;
	pthread_t threads[MAX_THREADS];
	struct progress p;
	int rc = 0;

	if (n > w->list->n)
		n = w->list->n;
	if (n > MAX_THREADS)
		n = MAX_THREADS;
	w->n_running = n;
	while (started < n && rc == 0) {
		rc = pthread_create(&threads[started], NULL,
				    w->engine != NULL ? run_engine : ask_daemon, w);
		started += rc == 0;
	}
	if (started < n) {
		pthread_mutex_lock(&w->lock);
		w->n_running -= n - started;
		pthread_mutex_unlock(&w->lock);
		/* Fewer threads do the same work; none do none. */
		if (started == 0)
			return err_set(err, rc, "cannot start a thread: %s", strerrordesc_np(rc));
	}
	subject = w->list->n == 1 ? xstrdup(w->list->items[0].name)
				  : xasprintf("%zu images", w->list->n);
	progress_begin(&p, subject, w->ctl->out.verbosity < 0 || w->ctl->out.json);
	wait_for_workers(w, &p);
	progress_end(&p);
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

static bool
daemon_runs(struct ctl *ctl)
{
	return control_call(ctl->conf, "poke", NULL, NULL, NULL, NULL) == 0;
}

int
obtain_all(struct ctl *ctl, struct obtain_list *list, struct err *err)
{
	struct work w;
	int rc = 0;

	if (list->n == 0)
		return 0;
	work_init(&w, ctl, list);
	/* A poke first, so that what this command selected or changed is known to the daemon. */
	if (!daemon_runs(ctl))
		rc = make_engine(&w, err);
	if (rc == 0)
		rc = run_workers(&w, err);
	for (size_t i = 0; rc == 0 && i < list->n; i++) {
		struct obtain_item *item = &list->items[i];

		if (item->answered)
			continue;
		if (w.engine_err.rc != 0)
			item->err = w.engine_err;
		else
			err_set(&item->err, EIO, "the fetch of image '%s' ended without an answer",
				item->name);
	}
	work_release(&w);
	return rc;
}
