/*
 * handlerdir_index.c - when cache.index is written, and of what.
 */
#include "config.h"
#include "handlerdir_impl.h"

#include <stdlib.h>

#include "buf.h"
#include "cleanup.h"
#include "io.h"

enum { INDEX_SHARE = 20, FAILED_MS = 1500 };

static const struct digest *
message_of(const struct handlerdir *h, int64_t subscription)
{
	for (size_t i = 0; i < h->n_messages; i++)
		if (h->messages[i].subscription == subscription)
			return &h->messages[i].digest;
	return NULL;
}

int
handlerdir_write_index(struct handlerdir *h, struct table *t, struct err *err)
{
	CLEANUP_BUF struct buf out = BUF_INIT;
	long long start = io_monotonic_ms();
	struct names names;
	int rc;

	handlerdir_names(t, &names);
	handlerindex_begin(&out);
	for (size_t i = 0; i < names.n; i++) {
		const struct entry *e = names.at[i];

		handlerindex_add(&out, e->name, &e->text, message_of(h, e->subscription));
	}
	handlerindex_end(&out);
	free(names.at);
	rc = handlerlink_write(h->link[t->where], HANDLERDIR_INDEX, out.data, out.len, err);
	t->index_end = io_monotonic_ms();
	/* Where it cannot be written it is tried again after half a minute. */
	t->index_took = rc != 0 ? FAILED_MS : t->index_end - start;
	t->index_changed = rc != 0;
	return rc;
}

/* Milliseconds until the index may be written; -1: it is. */
static long long
index_wait(const struct table *t, long long now)
{
	long long wait = t->index_end + t->index_took * INDEX_SHARE - now;

	if (!t->index_changed)
		return -1;
	return wait > 0 ? wait : 0;
}

int
handlerdir_write_due(struct handlerdir *h, struct err *err)
{
	long long now = io_monotonic_ms();
	int rc = 0;

	if (index_wait(&h->images, now) == 0)
		rc = handlerdir_write_index(h, &h->images, err);
	if (rc == 0 && index_wait(&h->expired, now) == 0)
		rc = handlerdir_write_index(h, &h->expired, err);
	return rc;
}

int
handlerdir_wait(const struct handlerdir *h)
{
	long long now = io_monotonic_ms();
	long long images = index_wait(&h->images, now), expired = index_wait(&h->expired, now);

	if (images < 0 || (expired >= 0 && expired < images))
		images = expired;
	return (int)images;
}

