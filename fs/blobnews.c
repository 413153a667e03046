/*
 * What the engine says of files that are open: its answers, what landed, what is lost.
 *
 * Each finds the blobs of a digest, changes them under the lock, takes off the parked reads that
 * it concerns, and answers or tries them after the lock was let go.
 */
#define FUSE_USE_VERSION 312

#include "config.h"
#include "fs/blob.h"

#include <errno.h>
#include <stdlib.h>

#include <fuse_lowlevel.h>

#include "core/catalogue.h"
#include "core/engine.h"
#include "core/verity.h"
#include "fs/blobtable.h"

/* An open file is not missing: what it was opened for has been withdrawn. */
static int
errnum_of(int rc)
{
	return rc == -ENOENT ? ESTALE : -rc;
}

/* Tries again what is to be tried again, and fails the rest. */
static void
finish(struct blobs *b, struct parked *list, int errnum)
{
	while (list != NULL) {
		struct parked *p = list;

		list = p->next;
		if (p->again) {
			blob_retry(b, p);
			continue;
		}
		blob_refuse(&p->read, p->healing ? EIO : errnum);
		free(p);
	}
}

/* The lock is held.  From one list to another. */
static void
take_over(struct parked *p, bool again, struct parked **list)
{
	while (p != NULL) {
		struct parked *next = p->next;

		if (again)
			blobtable_hold(p);
		p->next = *list;
		*list = p;
		p = next;
	}
}

/* The lock is held. */
static void
settle(struct blobs *b, struct blob *blob, struct blockfile *f, struct parked **list)
{
	struct parked *taken = NULL;

	if (blob->state == BLOB_CUT)
		return;
	/* Each number of the same bytes may have opened the whole file for itself. */
	if (blob->state != BLOB_READY || !blockfile_is_complete(blob->file)) {
		blob_let_go(b, blob->file);
		blob->file = blockfile_ref(f);
	}
	blob->state = BLOB_READY;
	blob->asked = false;
	/* What is being read from the other file has its answer from there, or looks again. */
	blobtable_take_waiting(b, blob, &taken);
	take_over(taken, true, list);
	blobtable_collect(b, blob);
}

/* The lock is held.  A whole file stays of use but when it is known to be wrong. */
static void
give_up(struct blobs *b, struct blob *blob, int rc, struct parked **list)
{
	if (blob->state == BLOB_CUT)
		return;
	if (blob->state == BLOB_READY && blockfile_is_complete(blob->file) && rc != -EBADMSG)
		return;
	blobtable_drop_file(b, blob);
	blob->asked = false;
	blobtable_take_all(b, blob, list);
	blobtable_collect(b, blob);
}

void
blob_answered(struct blobs *b, const struct digest *d, int rc, struct blockfile *f)
{
	struct parked *list = NULL;
	struct blob *blob, *next;

	pthread_mutex_lock(&b->lock);
	for (blob = blobtable_first(b, d); blob != NULL; blob = next) {
		next = blobtable_next(blob);
		if (rc == 0)
			settle(b, blob, f, &list);
		else
			give_up(b, blob, rc, &list);
	}
	pthread_mutex_unlock(&b->lock);
	finish(b, list, errnum_of(rc));
}

static bool
lies_within(const struct read *r, int64_t off, size_t size)
{
	return r->off >= off && r->off + (int64_t)r->size <= off + (int64_t)size;
}

/* The lock is held.  What lies within the landed bytes is answered from them. */
static void
take_landed(struct blobs *b, struct blob *blob, int64_t off, size_t size, struct parked **list)
{
	int64_t first = off / VERITY_GRANULE, last = (off + (int64_t)size - 1) / VERITY_GRANULE;
	struct parked *taken = NULL;

	blobtable_take_granules(b, blob, first, last - first + 1, &taken);
	for (struct parked *p = taken; p != NULL; p = p->next)
		if (!lies_within(&p->read, off, size))
			blobtable_hold(p);
	take_over(taken, false, list);
	blobtable_collect(b, blob);
}

void
blob_landed(struct blobs *b, struct blockfile *f, int64_t off, const void *data, size_t size)
{
	const struct digest *d = blockfile_digest(f);
	struct parked *list = NULL;
	struct blob *blob, *next;

	pthread_mutex_lock(&b->lock);
	for (blob = blobtable_first(b, d); blob != NULL; blob = next) {
		next = blobtable_next(blob);
		take_landed(b, blob, off, size, &list);
	}
	pthread_mutex_unlock(&b->lock);
	while (list != NULL) {
		struct parked *p = list;
		const struct read *r = &p->read;

		list = p->next;
		if (p->again) {
			blob_retry(b, p);
			continue;
		}
		blob_answer(r, (const char *)data + (r->off - off));
		free(p);
	}
}

/* The lock is held.  What has come all the same is tried again. */
static void
take_failed(struct blobs *b, struct blob *blob, int64_t first, int64_t n, struct parked **list)
{
	struct parked *taken = NULL;

	if (blob->state != BLOB_READY)
		return;
	blobtable_take_granules(b, blob, first, n, &taken);
	for (struct parked *p = taken; p != NULL; p = p->next)
		if (blockfile_has(blob->file, p->granule))
			blobtable_hold(p);
	take_over(taken, false, list);
	blobtable_collect(b, blob);
}

void
blob_failed(struct blobs *b, const struct digest *d, int64_t first, int64_t n, int rc)
{
	struct parked *list = NULL;
	struct blob *blob, *next;

	pthread_mutex_lock(&b->lock);
	for (blob = blobtable_first(b, d); blob != NULL; blob = next) {
		next = blobtable_next(blob);
		take_failed(b, blob, first, n, &list);
	}
	pthread_mutex_unlock(&b->lock);
	finish(b, list, errnum_of(rc));
}

/* The lock is held.  How long a read may wait depends on what it waits for; it only grows. */
static void
move_deadlines(struct blobs *b, struct blob *blob)
{
	for (size_t i = 0; i < BLOB_QUEUES && blob->n_parked > 0; i++)
		for (struct parked *p = blob->queues[i]; p != NULL; p = p->next) {
			long long deadline = blobtable_deadline(b, blob, &p->read);

			if (p->granule != BLOB_DISK && deadline > p->deadline)
				p->deadline = deadline;
		}
}

void
blob_lost(struct blobs *b, const struct digest *d)
{
	bool ask = false;

	pthread_mutex_lock(&b->lock);
	for (struct blob *blob = blobtable_first(b, d); blob != NULL;
	     blob = blobtable_next(blob)) {
		blobtable_drop_file(b, blob);
		if (blob->n_parked > 0 && !blob->asked) {
			blob->asked = true;
			ask = true;
		}
		move_deadlines(b, blob);
		blobtable_check(blob);
	}
	pthread_mutex_unlock(&b->lock);
	if (ask)
		engine_want(b->engine, d);
}

void
blob_mode(struct blobs *b, const struct object_row *row)
{
	bool lazy = blob_row_is_lazy(row);

	pthread_mutex_lock(&b->lock);
	for (struct blob *blob = blobtable_first(b, &row->digest); blob != NULL;
	     blob = blobtable_next(blob)) {
		blob->lazy = lazy;
		move_deadlines(b, blob);
	}
	pthread_mutex_unlock(&b->lock);
}

void
blob_cut(struct blobs *b, const struct digest *d, bool cut)
{
	struct parked *list = NULL;
	struct blob *blob, *next;

	pthread_mutex_lock(&b->lock);
	for (blob = blobtable_first(b, d); blob != NULL; blob = next) {
		next = blobtable_next(blob);
		if (cut) {
			blobtable_drop_file(b, blob);
			blob->asked = false;
			blobtable_take_all(b, blob, &list);
			blob->state = BLOB_CUT;
		} else if (blob->state == BLOB_CUT) {
			blob->state = BLOB_ABSENT;
		}
		blobtable_collect(b, blob);
	}
	pthread_mutex_unlock(&b->lock);
	blob_fail_list(list, ESTALE);
}
