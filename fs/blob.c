/*
 * Reads of image files.
 *
 * States of a blob, and what must hold (checked by blobtable_check() in debug builds):
 *
 *   state    file     parked reads wait for                      asked
 *   ABSENT   NULL     the engine's answer                        true while reads are parked
 *   READY    set      a granule each: the first one they lack    false
 *   CUT      NULL     there are none                             false
 *
 * A read of a READY blob is tried.  If a granule is missing, or bad, it is parked on the queue of
 * that granule, the engine is told, and then it is looked again whether the granule has come
 * meanwhile: what came before the read was parked woke nobody.  When the granule has come the read
 * is tried again, as if it were new but for its number and the time it began; the next missing
 * granule parks it again.  So every read waits for one thing at a time.
 *
 * One mutex protects the table, the blobs and the parked reads.  It is never held during I/O or
 * while replying: a read takes a reference on the block file, and a list of parked reads is taken
 * off as a whole before it is answered.
 *
 * Interrupts.  libfuse calls on_interrupt() with the request's own lock held, possibly after the
 * request was answered elsewhere.  Therefore a parked read is named by a number, never by a
 * pointer, and the handler is registered before the read is parked: an interrupt that comes in
 * between, or while a read that was parked is tried again, is seen by fuse_req_interrupted() when
 * it is parked.  Lock order: request lock -> our mutex -> session lock, and our mutex -> a block file's.
 *
 * The kernel tells of an interrupted reader only for O_DIRECT; a killed buffered reader is
 * gone, but its request stays until it is answered.  So each has its own deadline, too.
 *
 * What an interrupt does is to move that deadline: the read ends with EINTR after INTERRUPT_MS,
 * or with its bytes if they come before.  For the kernel tells of threads of io_uring, too, when
 * they are to start another one, which passes at once; and qemu, to which no disk says EINTR, can
 * wait for such a read for ever (qemu 7.2, Linux 6.18; seen in 2026).
 */
#define FUSE_USE_VERSION 312

#include "config.h"
#include "fs/blob.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "core/catalogue.h"
#include "core/engine.h"
#include "core/io.h"
#include "core/log.h"
#include "core/store.h"
#include "core/stored.h"
#include "core/verity.h"
#include "fs/blobtable.h"
#include "fs/context.h"

enum { INTERRUPT_MS = 500 };		/* a killed reader is to be gone within a second */

/* ---- answers -------------------------------------------------------------------------------- */

void
blob_answer(const struct read *r, const void *data)
{
	if (r->req != NULL)
		fuse_reply_buf(r->req, data, r->size);
	else
		r->done(r->arg, 0, data, r->size);
}

void
blob_refuse(const struct read *r, int errnum)
{
	if (r->req != NULL)
		fuse_reply_err(r->req, errnum);
	else
		r->done(r->arg, errnum, NULL, 0);
}

/* ---- parking -------------------------------------------------------------------------------- */

void
blob_fail_list(struct parked *list, int errnum)
{
	while (list != NULL) {
		struct parked *p = list;

		list = p->next;
		blob_refuse(&p->read, errnum);
		free(p);
	}
}

static struct parked *
take_parked(struct blobs *b, uint64_t id)
{
	struct parked *p;

	pthread_mutex_lock(&b->lock);
	p = blobtable_take(b, id);
	pthread_mutex_unlock(&b->lock);
	return p;
}

static void
on_interrupt(fuse_req_t req, void *data)
{
	struct fs_context *fs = fuse_req_userdata(req);
	struct blobs *b = fs->blobs;

	pthread_mutex_lock(&b->lock);
	blobtable_interrupt(b, (uint64_t)(uintptr_t)data, io_monotonic_ms() + INTERRUPT_MS);
	pthread_mutex_unlock(&b->lock);
}

/* The lock is held.  An interrupt that found nothing parked. */
static void
note_interrupt(struct read *r)
{
	if (r->ends_at == 0 && r->req != NULL && fuse_req_interrupted(r->req))
		r->ends_at = io_monotonic_ms() + INTERRUPT_MS;
}

static int
errnum_of_deadline(const struct read *r)
{
	return r->ends_at != 0 ? EINTR : ETIMEDOUT;
}

void
blob_fail_overdue(struct parked *list)
{
	while (list != NULL) {
		struct parked *p = list;

		list = p->next;
		blob_refuse(&p->read, errnum_of_deadline(&p->read));
		free(p);
	}
}

/* From now on the request has a number, and can be interrupted. */
static void
prepare_to_wait(struct blobs *b, struct read *r)
{
	if (r->id != 0)
		return;
	if (r->since == 0)
		r->since = io_monotonic_ms();
	pthread_mutex_lock(&b->lock);
	r->id = ++b->last_id;
	pthread_mutex_unlock(&b->lock);
	if (r->req != NULL)
		fuse_req_interrupt_func(r->req, on_interrupt, (void *)(uintptr_t)r->id);
}

/* What a read waits for. */
struct wish {
	struct blockfile *file;		/* NULL: the engine's answer */
	int64_t granule;
	bool bad;			/* the granule is here, and wrong */
	bool ask;			/* nobody has asked for it yet */
	bool lazy;			/* what the read needs can be had by itself */
	struct digest digest;
};

/* The lock is held.  0, -EAGAIN: look again, or why the read must not wait. */
static int
may_wait(const struct blobs *b, const struct blob *blob, const struct read *r,
	 const struct wish *wish)
{
	if (blob == NULL || blob->state == BLOB_CUT)
		return ESTALE;
	if (b->ending)
		return ENOTCONN;
	if (blob->file != wish->file)
		return -EAGAIN;
	/* A wait of no time is none, and the caller is to know that it is not over. */
	if (blobtable_deadline(b, blob, r) == r->since)
		return EAGAIN;
	return blobtable_deadline(b, blob, r) <= io_monotonic_ms() ? errnum_of_deadline(r) : 0;
}

static void
ask_for_granules(struct blobs *b, const struct wish *wish, const struct read *r)
{
	int64_t last = (r->off + (int64_t)r->size - 1) / VERITY_GRANULE, g = wish->granule, n;

	while (g <= last) {
		g = blockfile_missing(wish->file, g, &n);
		if (g < 0 || g > last)
			break;
		if (n > last - g + 1)
			n = last - g + 1;
		engine_want_granules(b->engine, &wish->digest, g, n);
		g += n;
	}
}

/* While the tree of an image is fetched, what is read first is fetched at the same time. */
static void
ask_for_answer(struct blobs *b, const struct wish *wish, const struct read *r)
{
	int64_t first = r->off / VERITY_GRANULE;
	int64_t last = (r->off + (int64_t)r->size - 1) / VERITY_GRANULE;

	if (wish->ask)
		engine_want(b->engine, &wish->digest);
	if (wish->lazy)
		engine_want_granules(b->engine, &wish->digest, first, last - first + 1);
}

static void
ask(struct blobs *b, const struct wish *wish, const struct read *r)
{
	if (wish->file == NULL)
		ask_for_answer(b, wish, r);
	else if (!wish->bad)
		ask_for_granules(b, wish, r);
	else if (wish->ask)
		engine_heal(b->engine, wish->file, wish->granule,
			    "the stored bytes are not what was signed, or cannot be read");
}

/* The lock is held. */
static void
park(struct blobs *b, struct blob *blob, const struct read *r, struct wish *wish)
{
	if (wish->file == NULL) {
		wish->ask = !blob->asked;
		blob->asked = true;
	} else {
		wish->ask = !wish->bad || !blobtable_is_healing(blob, wish->granule);
	}
	blobtable_park(b, blob, r, wish->file != NULL ? wish->granule : BLOB_WHOLE, wish->bad);
	blobtable_check(blob);
}

/* True: it is parked, or has been answered.  False: the state has changed; look again. */
static bool
wait_for(struct blobs *b, struct read *r, struct wish *wish)
{
	struct blob *blob;
	struct parked *p;
	int why;

	prepare_to_wait(b, r);
	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, r->object);
	note_interrupt(r);
	why = may_wait(b, blob, r, wish);
	if (blob != NULL) {
		wish->digest = blob->digest;
		wish->lazy = blob->lazy;
	}
	if (why == 0)
		park(b, blob, r, wish);
	pthread_mutex_unlock(&b->lock);
	wish->ask |= why == EAGAIN;
	if (why == 0 || why == EAGAIN)
		ask(b, wish, r);
	if (why > 0)
		blob_refuse(r, why);
	if (why != 0 || wish->file == NULL || !blockfile_has(wish->file, wish->granule))
		return why >= 0;
	p = take_parked(b, r->id);
	free(p);
	return p == NULL;
}

/* ---- reading -------------------------------------------------------------------------------- */

static struct spare_buf *
take_buf(struct blobs *b)
{
	struct spare_buf *spare;

	pthread_mutex_lock(&b->lock);
	spare = b->spare;
	if (spare != NULL)
		b->spare = spare->next;
	pthread_mutex_unlock(&b->lock);
	return spare != NULL ? spare : xcalloc(1, sizeof(*spare));
}

static void
put_buf(struct blobs *b, struct spare_buf *spare)
{
	pthread_mutex_lock(&b->lock);
	spare->next = b->spare;
	b->spare = spare;
	pthread_mutex_unlock(&b->lock);
}

/* Cuts the request to the file's size and gives a reference on what it is read from. */
static int
begin(struct blobs *b, struct read *r, struct blockfile **file)
{
	struct blob *blob;
	int errnum = 0;

	*file = NULL;
	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, r->object);
	if (blob == NULL || blob->state == BLOB_CUT) {
		errnum = ESTALE;
	} else if (r->off >= blob->size) {
		r->size = 0;
	} else {
		if ((int64_t)r->size > blob->size - r->off)
			r->size = (size_t)(blob->size - r->off);
		if (blob->file != NULL && r->size > 0)
			*file = blockfile_ref(blob->file);
	}
	pthread_mutex_unlock(&b->lock);
	return errnum;
}

/* 0: answered; otherwise as blockfile_read(). */
static int
reply_from(struct blobs *b, const struct read *r, struct blockfile *file, int64_t *granule)
{
	struct spare_buf *spare = take_buf(b);
	const void *data;
	int rc = blockfile_read(file, &spare->buf, r->off, r->size, &data, granule);

	if (rc == 0)
		blob_answer(r, data);
	put_buf(b, spare);
	return rc;
}

/* True: it is parked, or has been answered. */
static bool
try_read(struct blobs *b, struct read *r)
{
	struct wish wish = { .granule = BLOB_WHOLE };
	int errnum = begin(b, r, &wish.file), rc = -EAGAIN;
	bool done = true;

	if (errnum != 0) {
		blob_refuse(r, errnum);
		return true;
	}
	if (r->size == 0) {
		blob_answer(r, NULL);
		return true;
	}
	if (wish.file != NULL)
		rc = reply_from(b, r, wish.file, &wish.granule);
	/* ENODATA: what should prove it is damaged, and has to be made anew first. */
	wish.bad = rc == -EBADMSG || rc == -EIO || rc == -ENODATA;
	if (rc == -EAGAIN || wish.bad)
		done = wait_for(b, r, &wish);
	else if (rc != 0)
		blob_refuse(r, -rc);
	blockfile_unref(wish.file);
	return done;
}

void
blob_read(struct blobs *b, struct fuse_req *req, uint64_t object, size_t size, off_t off)
{
	struct read r = { .req = req, .object = object, .size = size, .off = off };

	while (!try_read(b, &r))
		;
}

void
blob_fetch(struct blobs *b, uint64_t object, size_t size, off_t off, long long since,
	   blob_done *done, void *arg)
{
	struct read r = { .done = done, .arg = arg, .object = object, .size = size, .off = off,
			  .since = since };

	while (!try_read(b, &r))
		;
}

void
blob_retry(struct blobs *b, struct parked *p)
{
	struct read r = p->read;
	struct blob *blob = p->blob;

	free(p);
	while (!try_read(b, &r))
		;
	pthread_mutex_lock(&b->lock);
	blob->n_again--;
	blobtable_collect(b, blob);
	pthread_mutex_unlock(&b->lock);
}

/* ---- open files ----------------------------------------------------------------------------- */

bool
blob_row_is_lazy(const struct object_row *row)
{
	return row->state != OBJECT_VERIFIED && row->has_root &&
	       (row->strict_reason == NULL || row->strict_reason[0] == '\0');
}

/*
 * The verified file; NULL after the engine was told that it is bad, or when its tree has to be
 * made anew: reads wait then.  -EIO if it is out of our reach, which is for an admin to mend.
 */
static int
open_stored(struct blobs *b, const struct object_row *row, struct blockfile **out)
{
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };
	int rc = stored_open(b->store, &row->digest, row->size,
			     row->has_tree ? &row->tree : NULL, out, &err);

	if (rc == 0)
		return 0;
	*out = NULL;
	if (rc == -ENODATA)
		return 0;
	if (store_object_is_bad(rc)) {
		engine_damaged(b->engine, &row->digest, err.text);
		return 0;
	}
	digest_hex(&row->digest, hex);
	log_err(LOG_LVL_ERROR, hex, &err);
	return -EIO;
}

/* The lock is held.  What another number of the same bytes is read from, if it is whole. */
static struct blockfile *
file_of_same(struct blobs *b, const struct digest *d)
{
	for (struct blob *blob = blobtable_first(b, d); blob != NULL; blob = blobtable_next(blob))
		if (blob->state == BLOB_READY && blockfile_is_complete(blob->file))
			return blockfile_ref(blob->file);
	return NULL;
}

static bool
must_be_opened(struct blobs *b, const struct object_row *row, struct blockfile **file)
{
	const struct blob *blob;
	bool must;

	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, (uint64_t)row->id);
	must = row->state == OBJECT_VERIFIED && (blob == NULL || blob->state == BLOB_ABSENT);
	*file = must ? file_of_same(b, &row->digest) : NULL;
	pthread_mutex_unlock(&b->lock);
	return must && *file == NULL;
}

int
blob_open(struct blobs *b, const struct object_row *row)
{
	uint64_t object = (uint64_t)row->id;
	struct blockfile *file;
	struct blob *blob;

	if (must_be_opened(b, row, &file) && open_stored(b, row, &file) != 0)
		return -EIO;
	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob == NULL)
		blob = blobtable_add(b, object, &row->digest, row->size);
	blob->lazy = blob_row_is_lazy(row);
	blob->opens++;
	b->n_open++;
	/* Reads that wait already are answered by the engine, which they have asked. */
	if (blob->state == BLOB_ABSENT && file != NULL && blob->n_parked == 0) {
		blob->file = file;
		blob->state = BLOB_READY;
		blob->asked = false;
		file = NULL;
	}
	blobtable_check(blob);
	pthread_mutex_unlock(&b->lock);
	blockfile_unref(file);
	return 0;
}

void
blob_close(struct blobs *b, uint64_t object)
{
	struct blob *blob;

	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob != NULL && blob->opens > 0) {
		blob->opens--;
		b->n_open--;
		blobtable_collect(b, blob);
	}
	pthread_mutex_unlock(&b->lock);
}

struct blockfile *
blob_file(struct blobs *b, uint64_t object)
{
	struct blockfile *file = NULL;
	struct blob *blob;

	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob != NULL && blob->file != NULL)
		file = blockfile_ref(blob->file);
	pthread_mutex_unlock(&b->lock);
	return file;
}

bool
blob_digest(struct blobs *b, uint64_t object, struct digest *out)
{
	const struct blob *blob;

	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob != NULL)
		*out = blob->digest;
	pthread_mutex_unlock(&b->lock);
	return blob != NULL;
}

/*
 * All of an image is data.  What is not here yet must never look like a hole, or cp and tar would
 * write zeros; and a hole of the stored file may be damage, which only reading it finds out.
 */
off_t
blob_seek(struct blobs *b, uint64_t object, off_t off, int whence)
{
	const struct blob *blob;
	int64_t size = -1;

	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob != NULL)
		size = blob->size;
	pthread_mutex_unlock(&b->lock);
	if (size < 0)
		return -ESTALE;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	if (off < 0 || off >= size)
		return -ENXIO;
	return whence == SEEK_DATA ? off : size;
}
