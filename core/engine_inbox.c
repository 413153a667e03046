/*
 * What other threads tell the engine: each call leaves a note and wakes its thread, but for one.  A
 * reader's wish for granules goes straight to the lazy that fetches them: a block's way must not
 * lead over a thread that may be writing a row.
 */
#include "config.h"
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cleanup.h"
#include "engine_impl.h"

static void
signal_fd(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0) {
		/* Full means that it is signalled already. */
	}
}

static void
clear_fd(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0) {
		/* Nothing was there. */
	}
}

static struct inbox_item *
new_item(enum inbox_kind kind, const struct digest *d)
{
	struct inbox_item *item = xcalloc(1, sizeof(*item));

	item->kind = kind;
	item->digest = *d;
	return item;
}

static void
put(struct engine *e, struct inbox_item *item)
{
	pthread_mutex_lock(&e->lock);
	*e->inbox_end = item;
	e->inbox_end = &item->next;
	pthread_mutex_unlock(&e->lock);
	signal_fd(e->wake_fd);
}

static void
free_item(struct inbox_item *item)
{
	blockfile_unref(item->file);
	free(item);
}

void
engine_post(struct engine *e, enum inbox_kind kind, const struct digest *d, int64_t first,
	    int64_t n, const struct err *why)
{
	struct inbox_item *item = new_item(kind, d);

	item->first = first;
	item->n = n;
	if (why != NULL)
		item->why = *why;
	put(e, item);
}

/* ---- any thread ---------------------------------------------------------------------------- */

void
engine_want(struct engine *e, const struct digest *d)
{
	put(e, new_item(INBOX_WANT, d));
}

void
engine_retry(struct engine *e, const struct digest *d)
{
	put(e, new_item(INBOX_RETRY, d));
}

void
engine_damaged(struct engine *e, const struct digest *d, const char *why)
{
	struct inbox_item *item = new_item(INBOX_DAMAGED, d);

	snprintf(item->why.text, sizeof(item->why.text), "%s", why);
	put(e, item);
}

void
engine_want_granules(struct engine *e, const struct digest *d, int64_t first, int64_t n)
{
	struct lazyjob *job;
	bool told = false;

	pthread_rwlock_rdlock(&e->lazies);
	job = engine_find_lazyjob(e, d);
	if (job != NULL && job->lazy != NULL) {
		lazy_want(job->lazy, first, n);
		told = true;
	}
	pthread_rwlock_unlock(&e->lazies);
	if (!told)
		engine_post(e, INBOX_GRANULES, d, first, n, NULL);
}

void
engine_heal(struct engine *e, struct blockfile *f, int64_t g, const char *why)
{
	struct inbox_item *item = new_item(INBOX_HEAL, blockfile_digest(f));

	item->first = g;
	item->n = 1;
	item->file = blockfile_ref(f);
	snprintf(item->why.text, sizeof(item->why.text), "%s", why);
	put(e, item);
}

void
engine_audit(struct engine *e, const struct digest *d)
{
	put(e, new_item(INBOX_AUDIT, d));
}

void
engine_stop(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_mutex_unlock(&e->lock);
	signal_fd(e->wake_fd);
}

void
engine_shown(struct engine *e, uint64_t ticket)
{
	pthread_mutex_lock(&e->lock);
	if (ticket > e->shown)
		e->shown = ticket;
	pthread_mutex_unlock(&e->lock);
	signal_fd(e->wake_fd);
}

uint64_t
engine_last_shown(struct engine *e)
{
	uint64_t shown;

	pthread_mutex_lock(&e->lock);
	shown = e->shown;
	pthread_mutex_unlock(&e->lock);
	return shown;
}

void
engine_reconfigure(struct engine *e, struct conf *conf)
{
	pthread_mutex_lock(&e->lock);
	conf_free(e->new_conf);
	e->new_conf = conf;
	e->poked = true;
	pthread_mutex_unlock(&e->lock);
	signal_fd(e->wake_fd);
}

/* ---- the engine's thread ------------------------------------------------------------------- */

/* Who saw it may have seen a file that has been evicted, or replaced by a good one, since. */
static void
take_damage(struct engine *e, const struct digest *d, const char *why)
{
	CLEANUP_FD int fd = -1;
	struct object_row row;
	struct err err = { 0 };

	if (catalogue_object_get(e->catalogue, d, &row, &err) != 0)
		return;
	if (row.state == OBJECT_VERIFIED)
		fd = store_object_open(e->config.store, d, row.size, &err);
	if (row.state == OBJECT_VERIFIED && store_object_is_bad(fd))
		engine_handle_damage(e, d, why);
	object_row_release(&row);
}

static void
take_item(struct engine *e, struct inbox_item *item)
{
	switch (item->kind) {
	case INBOX_WANT:
		engine_request(e, &item->digest, false);
		break;
	case INBOX_RETRY:
		engine_request(e, &item->digest, true);
		break;
	case INBOX_DAMAGED:
		take_damage(e, &item->digest, item->why.text);
		break;
	case INBOX_GRANULES:
		engine_take_granules(e, &item->digest, item->first, item->n);
		break;
	case INBOX_MISSED:
		engine_take_missed(e, item);
		break;
	case INBOX_HEAL:
		engine_take_heal(e, &item->digest, item->file, item->first, item->why.text);
		break;
	case INBOX_HEALED:
		engine_take_healed(e, &item->digest, item->first);
		break;
	case INBOX_UNHEALED:
		engine_take_unhealed(e, item);
		break;
	case INBOX_AUDIT:
		engine_examine(e, &item->digest, false);
		break;
	}
}

static void
take_conf(struct engine *e, struct conf *conf)
{
	if (conf == NULL)
		return;
	e->config.conf = conf;
	conf_free(e->own_conf);
	e->own_conf = conf;
	store_reconfigure(e->config.store, conf);
	engine_room_changed(e);
	lanes_reconfigure(e->lanes, conf);
	engine_timers_start(e);
	engine_events_reload(e);
}

bool
engine_take_inbox(struct engine *e)
{
	struct inbox_item *items;
	struct conf *conf;
	bool stop, poked;

	clear_fd(e->wake_fd);
	pthread_mutex_lock(&e->lock);
	items = e->inbox;
	e->inbox = NULL;
	e->inbox_end = &e->inbox;
	stop = e->stop;
	poked = e->poked;
	e->poked = false;
	conf = e->new_conf;
	e->new_conf = NULL;
	pthread_mutex_unlock(&e->lock);

	take_conf(e, conf);
	if (poked || catalogue_data_version(e->catalogue) != e->data_version)
		engine_look(e);
	while (items != NULL) {
		struct inbox_item *item = items;

		items = item->next;
		if (!stop)
			take_item(e, item);
		free_item(item);
	}
	return stop;
}

void
engine_free_inbox(struct engine *e)
{
	while (e->inbox != NULL) {
		struct inbox_item *item = e->inbox;

		e->inbox = item->next;
		free_item(item);
	}
	e->inbox_end = &e->inbox;
}
