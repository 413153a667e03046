/*
 * ovaread.c - from the headers of an archive to its index, with whoever waits for it.
 *
 * A reader begins when the first operation waits, and runs in turns: it asks for a block
 * (blob_fetch()), and whichever comes second, the return of that call or the block, goes on with
 * the next.  So the call never nests, whether the block was there or comes from the engine's
 * thread a minute later.
 *
 * The mutex protects the list of readers and the operations that wait; it is not held during I/O,
 * while replying, or while an operation runs.  A reader's other members belong to the thread whose
 * turn it is.  As in blob.c, a waiting operation is named by a number for interrupts, and
 * the order of locks is request -> our mutex -> session.
 *
 * Opening the archive may have to wait for the disk: that is an errand (errand.h), which is given
 * up in the name of all that wait for it.
 *
 * An operation that begins to wait late has its full time all the same: when the reader's is over
 * it starts again, at the same block, for those that came after it had begun.
 */
#define FUSE_USE_VERSION 312

#include "config.h"
#include "fs/ovaread.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <fuse_lowlevel.h>

#include "core/buf.h"
#include "core/io.h"
#include "core/log.h"
#include "fs/errand.h"
#include "fs/handles.h"
#include "fs/lookup.h"

struct waiting {
	struct waiting *next;
	uint64_t id;
	long long since;		/* monotonic ms */
	struct operation op;
	char *name;
	struct handles_note note;	/* an open is counted when it is begun anew */
};

struct reader {
	struct reader *next;
	struct ovareads *all;
	struct digest digest;
	uint64_t object;
	struct waiting *waiting;	/* under the lock */
	bool listed;			/* likewise: operations may join */
	struct tarindex tar;
	long long since;		/* monotonic ms: the reads' time counts from here */
	atomic_int turn;
	int errnum;			/* of the block that came */
	unsigned char block[TAR_BLOCK];
};

struct ovareads {
	struct fs_context *fs;
	pthread_mutex_t lock;
	struct reader *readers;
	uint64_t last_id;
};

struct ovareads *
ovareads_new(struct fs_context *fs)
{
	struct ovareads *o = xcalloc(1, sizeof(*o));

	o->fs = fs;
	pthread_mutex_init(&o->lock, NULL);
	return o;
}

void
ovareads_free(struct ovareads *o)
{
	if (o == NULL)
		return;
	assert(o->readers == NULL);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

/* ---- operations that wait ------------------------------------------------------------------- */

static void
waiting_free(struct waiting *w)
{
	free(w->name);
	free(w);
}

/* Begins it anew, or answers it with the error, in the name of its own request. */
static void
end_waiting(struct waiting *w, int errnum)
{
	const struct fs_context *fs = fuse_req_userdata(w->op.req);
	struct handles_note ours = handles_defer();

	handles_resume(w->note);
	if (errnum != 0)
		fuse_reply_err(w->op.req, errnum);
	else
		w->op.run(&w->op);
	handles_end(fs->handles);
	handles_resume(ours);
	waiting_free(w);
}

/* errnum: 0: all are begun anew. */
static void
end_list(struct waiting *list, int errnum)
{
	while (list != NULL) {
		struct waiting *w = list;

		list = w->next;
		end_waiting(w, errnum);
	}
}

static struct waiting *
take_waiting(struct ovareads *o, uint64_t id)
{
	for (struct reader *r = o->readers; r != NULL; r = r->next)
		for (struct waiting **p = &r->waiting; *p != NULL; p = &(*p)->next) {
			struct waiting *w = *p;

			if (w->id != id)
				continue;
			*p = w->next;
			w->next = NULL;
			return w;
		}
	return NULL;
}

/* The reader goes on: what it has read so far was asked for, and is of use to the next. */
static void
on_interrupt(fuse_req_t req, void *data)
{
	const struct fs_context *fs = fuse_req_userdata(req);
	struct ovareads *o = fs->ovareads;
	struct waiting *w;

	pthread_mutex_lock(&o->lock);
	w = take_waiting(o, (uint64_t)(uintptr_t)data);
	pthread_mutex_unlock(&o->lock);
	end_list(w, EINTR);
}

static struct waiting *
waiting_new(struct ovareads *o, const struct operation *op)
{
	struct waiting *w = xcalloc(1, sizeof(*w));

	w->op = *op;
	w->op.name = w->name = xstrdup(op->name);
	w->since = io_monotonic_ms();
	w->note = handles_defer();
	pthread_mutex_lock(&o->lock);
	w->id = ++o->last_id;
	pthread_mutex_unlock(&o->lock);
	fuse_req_interrupt_func(op->req, on_interrupt, (void *)(uintptr_t)w->id);
	return w;
}

/* ---- the end of a reader -------------------------------------------------------------------- */

static void
reader_free(struct reader *r)
{
	tarindex_release(&r->tar);
	free(r);
}

/* The lock is held.  From now on whoever waits begins another one. */
static void
take_out(struct reader *r)
{
	struct reader **p = &r->all->readers;

	if (!r->listed)
		return;
	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	r->listed = false;
}

static void
end_reader(struct reader *r, int errnum)
{
	struct ovareads *o = r->all;
	struct waiting *list;

	pthread_mutex_lock(&o->lock);
	take_out(r);
	list = r->waiting;
	pthread_mutex_unlock(&o->lock);
	reader_free(r);
	end_list(list, errnum);
}

/* The archive is opened and closed for ourselves: no other process is to close it for us. */
static int
open_archive(struct fs_context *fs, const struct object_row *row, bool at_disk)
{
	struct handles_note note = handles_apart();
	int rc = blob_open(fs->blobs, row, at_disk);

	handles_resume(note);
	return rc;
}

static void
close_archive(const struct reader *r)
{
	struct handles_note note = handles_apart();

	blob_close(r->all->fs->blobs, r->object);
	handles_resume(note);
}

/* After the file was opened. */
static void
close_and_end(struct reader *r, int errnum)
{
	close_archive(r);
	end_reader(r, errnum);
}

/* All that is to be known: the members, or why the archive is refused. */
static void
publish(struct reader *r, const struct err *why)
{
	char hex[DIGEST_HEX + 1];

	if (why->rc != 0) {
		digest_hex(&r->digest, hex);
		log_warning("%s: its format is OVA, but %s", hex, why->text);
	}
	ovas_add(r->all->fs->ovas, &r->digest, &r->tar, why->rc != 0 ? why->text : NULL);
	close_and_end(r, 0);
}

/*
 * Out of time: those that began to wait after the reader did have some left.  True: it goes on for
 * them.
 */
static bool
starts_again(struct reader *r)
{
	struct ovareads *o = r->all;
	struct waiting *late = NULL, *over = NULL;
	long long since = 0;

	pthread_mutex_lock(&o->lock);
	for (struct waiting *w = r->waiting, *next; w != NULL; w = next) {
		struct waiting **list = w->since > r->since ? &late : &over;

		next = w->next;
		if (list == &late && (since == 0 || w->since < since))
			since = w->since;
		w->next = *list;
		*list = w;
	}
	r->waiting = late;
	if (late == NULL)
		take_out(r);
	pthread_mutex_unlock(&o->lock);
	end_list(over, ETIMEDOUT);
	r->since = since;
	return since != 0;
}

/* ---- turns ---------------------------------------------------------------------------------- */

static void run(struct reader *r);

/* A block has come, or none.  True: ask for the next. */
static bool
take_block(struct reader *r)
{
	struct err err = { 0 };

	if (r->errnum == ETIMEDOUT && starts_again(r))
		return true;
	if (r->errnum != 0) {
		close_and_end(r, r->errnum);
		return false;
	}
	if (tarindex_take(&r->tar, r->block, &err) == 0 && tarindex_next(&r->tar) >= 0)
		return true;
	if (err.rc == 0)
		tarindex_end(&r->tar, &err);
	publish(r, &err);
	return false;
}

static void
on_block(void *arg, int errnum, const void *data, size_t size)
{
	struct reader *r = arg;

	r->errnum = errnum == 0 && size != TAR_BLOCK ? EIO : errnum;
	if (r->errnum == 0)
		memcpy(r->block, data, TAR_BLOCK);
	if (atomic_fetch_add(&r->turn, 1) == 1 && take_block(r))
		run(r);
}

static void
run(struct reader *r)
{
	do {
		atomic_store(&r->turn, 0);
		blob_fetch(r->all->fs->blobs, r->object, TAR_BLOCK, tarindex_next(&r->tar),
			   r->since, on_block, r);
		/* on_block() goes on; the reader is no longer ours. */
		if (atomic_fetch_add(&r->turn, 1) == 0)
			return;
	} while (take_block(r));
}

/* The archive is open. */
static void
begin_reading(struct reader *r, int64_t size)
{
	struct err err = { 0 };

	tarindex_init(&r->tar, size);
	if (tarindex_next(&r->tar) >= 0) {
		run(r);
		return;
	}
	tarindex_end(&r->tar, &err);
	publish(r, &err);
}

/* Where the tree has it by now: who waits holds no reference on a row. */
static int
open_at_disk(struct reader *r, int64_t *size)
{
	struct fs_context *fs = r->all->fs;
	struct tree *t = tree_get(fs->holder);
	size_t i;
	int rc = -ESTALE;

	if (tree_object_of(t, &r->digest, &i)) {
		const struct object_row *row = &t->objects[i].object->row;

		r->object = (uint64_t)row->id;
		*size = row->size;
		rc = open_archive(fs, row, true);
	}
	tree_unref(t);
	return rc;
}

static void
begin_at_disk(void *arg, uint64_t number)
{
	struct reader *r = arg;
	struct fs_context *fs = r->all->fs;
	int64_t size = 0;
	int rc = open_at_disk(r, &size);

	if (!errand_claim(fs->errands, number)) {
		if (rc == 0)
			close_archive(r);
		reader_free(r);
	} else if (rc != 0) {
		end_reader(r, -rc);
	} else {
		begin_reading(r, size);
	}
}

/* Who waits is told; the reader itself stays until it is back from the disk. */
static void
give_up(void *arg, int errnum)
{
	struct reader *r = arg;
	struct waiting *list;

	pthread_mutex_lock(&r->all->lock);
	take_out(r);
	list = r->waiting;
	r->waiting = NULL;
	pthread_mutex_unlock(&r->all->lock);
	end_list(list, errnum);
}

static void
drop(void *arg)
{
	reader_free(arg);
}

static const struct errand_ops begin_errand = { begin_at_disk, give_up, drop };

/* is_open: it is for who has a member open, who is asked no more whether he may. */
static void
begin(struct reader *r, const struct place *p, bool is_open)
{
	struct fs_context *fs = r->all->fs;
	const struct tree_object_slot *slot;
	const struct object_row *row = place_archive(p, &slot);
	int rc = is_open ? 0 : fs_may_open(fs, row, slot);

	if (rc == 0)
		rc = open_archive(fs, row, false);
	if (rc == BLOB_ASK_DISK)
		errands_run(fs->errands, NULL, &begin_errand, r);
	else if (rc != 0)
		end_reader(r, -rc);
	else
		begin_reading(r, row->size);
}

/* The lock is held. */
static struct reader *
find_reader(struct ovareads *o, const struct digest *d)
{
	struct reader *r = o->readers;

	while (r != NULL && !digest_equal(&r->digest, d))
		r = r->next;
	return r;
}

/* The lock is held. */
static struct reader *
add_reader(struct ovareads *o, const struct object_row *row, long long since)
{
	struct reader *r = xcalloc(1, sizeof(*r));

	r->all = o;
	r->digest = row->digest;
	r->object = (uint64_t)row->id;
	r->since = since;
	r->listed = true;
	r->next = o->readers;
	o->readers = r;
	return r;
}

void
ovareads_wait(struct ovareads *o, const struct place *p, const struct operation *op)
{
	const struct tree_object_slot *slot;
	const struct object_row *row = place_archive(p, &slot);
	struct waiting *w = waiting_new(o, op);
	struct reader *r, *mine = NULL;
	bool interrupted, known = false;

	pthread_mutex_lock(&o->lock);
	r = find_reader(o, &row->digest);
	interrupted = fuse_req_interrupted(op->req) != 0;
	if (!interrupted && r == NULL)
		known = ovas_knows(o->fs->ovas, &row->digest);
	if (!interrupted && !known) {
		if (r == NULL)
			r = mine = add_reader(o, row, w->since);
		w->next = r->waiting;
		r->waiting = w;
		w = NULL;
	}
	pthread_mutex_unlock(&o->lock);
	if (interrupted)
		end_list(w, EINTR);
	else if (known)
		end_list(w, 0);
	if (mine != NULL)
		begin(mine, p, op->fh != 0);
}
