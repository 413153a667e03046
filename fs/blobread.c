/*
 * Reads of image files: answered from memory, at the disk, or parked until they can be.
 *
 * A read of a READY blob is tried from memory first, which waits for nothing.  What is not in
 * memory is read in a place of the disk's (disk.h): at once if there is one, otherwise when its
 * turn comes.  If a granule is missing, or bad, the read is parked on the queue of that granule,
 * the engine is told, and then it is looked again whether the granule has come meanwhile: what came
 * before the read was parked woke nobody.  When the granule has come the read is tried again, as if
 * it were new but for its number and the time it began; the next missing granule parks it again.
 * So every read waits for one thing at a time.
 *
 * A disk may not answer, and the thread that asked it cannot be called back.  So a read at the disk
 * is parked as well, with a deadline of its own (block_timeout, each time), and whoever takes it
 * off the table has the right to answer it.  A request for what was waited for in vain a moment ago
 * has DISK_LATE_MS.  The thread that comes back late finds its read gone: it lets go of the buffer,
 * which is its own, and of the request says nothing.  Threads of others (the engine's, the lanes')
 * never go to the disk for a read: they leave a turn.
 *
 * Interrupts.  libfuse calls on_interrupt() with the request's own lock held, possibly after the
 * request was answered elsewhere.  Therefore a parked read is named by a number, never by a
 * pointer, and the handler is registered before the read is parked: an interrupt that comes in
 * between, or while a read that was parked is tried again, is seen by fuse_req_interrupted() when
 * it is parked.  Lock order: request lock -> our mutex -> session lock, and our mutex -> a block
 * file's, and the disk's.
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
#include <fcntl.h>
#include <stdlib.h>

#include <fuse_lowlevel.h>

#include "core/engine.h"
#include "core/io.h"
#include "core/verity.h"
#include "fs/blobtable.h"
#include "fs/context.h"
#include "fs/disk.h"

enum {
	INTERRUPT_MS = 500,		/* a killed reader is to be gone within a second */
	DISK_LATE_MS = 500,		/* for a disk that was waited for in vain just now */
};

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
	pthread_mutex_lock(&b->lock);
	if (r->since == 0)
		blobtable_begin_wait(b, r, io_monotonic_ms());
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

static void
close_file(void *file)
{
	blockfile_unref(file);
}

void
blob_let_go(struct blobs *b, struct blockfile *file)
{
	if (file != NULL && !blockfile_unref_shared(file))
		disk_later(b->disk, close_file, file);
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

/* 0: answered; otherwise as blockfile_read_cached(). */
static int
reply_from_memory(struct blobs *b, const struct read *r, struct blockfile *file, int64_t *granule,
		  bool *ahead)
{
	struct spare_buf *spare = take_buf(b);
	const void *data;
	int rc = blockfile_read_cached(file, &spare->buf, r->off, r->size, &data, granule, ahead);

	if (rc == 0)
		blob_answer(r, data);
	put_buf(b, spare);
	return rc;
}

/* After the reader was answered; while all places are taken there are other things to be read. */
static void
read_ahead(struct blobs *b, struct blockfile *file, int64_t off)
{
	if (!disk_enter(b->disk))
		return;
	blockfile_read_ahead(file, off);
	disk_leave(b->disk);
}

/* What was read is wrong, or is not here.  True: it is parked, or has been answered. */
static bool
take_failure(struct blobs *b, struct read *r, struct wish *wish, int rc)
{
	/* ENODATA: what should prove it is damaged, and has to be made anew first. */
	wish->bad = rc == -EBADMSG || rc == -EIO || rc == -ENODATA;
	if (rc == -EAGAIN || wish->bad)
		return wait_for(b, r, wish);
	blob_refuse(r, -rc);
	return true;
}

static bool go_to_disk(struct blobs *b, struct read *r, const struct blockfile *file, bool here);

/*
 * True: it is parked, or at the disk, or has been answered.  here: this thread may go to the disk
 * itself.
 */
static bool
try_read(struct blobs *b, struct read *r, bool here)
{
	struct wish wish = { .granule = BLOB_WHOLE };
	int errnum = begin(b, r, &wish.file), rc = -EAGAIN;
	bool done = true, ahead = false;

	if (errnum != 0) {
		blob_refuse(r, errnum);
		return true;
	}
	if (r->size == 0) {
		blob_answer(r, NULL);
		return true;
	}
	if (wish.file != NULL)
		rc = reply_from_memory(b, r, wish.file, &wish.granule, &ahead);
	if (rc == BLOCKFILE_ASK_DISK)
		done = go_to_disk(b, r, wish.file, here);
	else if (rc != 0)
		done = take_failure(b, r, &wish, rc);
	else if (ahead && here)
		read_ahead(b, wish.file, r->off + (int64_t)r->size);
	blob_let_go(b, wish.file);
	return done;
}

/* ---- at the disk ---------------------------------------------------------------------------- */

/* What is to be read; false: nobody waits for it any more. */
static bool
look_at_turn(struct blobs *b, uint64_t id, struct read *r, struct blockfile **file)
{
	const struct parked *p;

	pthread_mutex_lock(&b->lock);
	p = blobtable_look(b, id);
	if (p != NULL && p->granule == BLOB_DISK) {
		*r = p->read;
		*file = blockfile_ref(p->blob->file);
	} else {
		p = NULL;
	}
	pthread_mutex_unlock(&b->lock);
	return p != NULL;
}

/*
 * Whoever gets true has to answer it.  One that waits for something else by now is left to that
 * unless there is something to give.
 */
static bool
claim(struct blobs *b, uint64_t id, bool anyhow, struct read *r)
{
	struct parked *p;

	pthread_mutex_lock(&b->lock);
	p = blobtable_look(b, id);
	if (p != NULL && (anyhow || p->granule == BLOB_DISK))
		p = blobtable_take(b, id);
	else
		p = NULL;
	if (p != NULL)
		*r = p->read;
	pthread_mutex_unlock(&b->lock);
	free(p);
	return p != NULL;
}

/* In a place of the disk's, where this may take for ever. */
static void
read_at_disk(void *arg, uint64_t id)
{
	struct wish wish = { .granule = BLOB_WHOLE };
	struct blobs *b = arg;
	struct spare_buf *spare;
	const void *data;
	struct read r;
	bool mine;
	int rc;

	if (!look_at_turn(b, id, &r, &wish.file))
		return;
	spare = take_buf(b);
	rc = blockfile_read(wish.file, &spare->buf, r.off, r.size, &data, &wish.granule);
	mine = claim(b, id, rc == 0, &r);
	if (mine && rc == 0)
		blob_answer(&r, data);
	put_buf(b, spare);
	if (mine && rc != 0 && !take_failure(b, &r, &wish, rc))
		while (!try_read(b, &r, false))
			;
	blockfile_unref(wish.file);
}

/* The lock is held.  0, -EAGAIN: look again, or why it must not wait for the disk. */
static int
may_go(const struct blobs *b, const struct blob *blob, const struct read *r,
       const struct blockfile *file, long long now)
{
	if (blob == NULL || blob->state == BLOB_CUT)
		return ESTALE;
	if (b->ending)
		return ENOTCONN;
	if (r->ends_at != 0 && r->ends_at <= now)
		return EINTR;
	return blob->file != file ? -EAGAIN : 0;
}

/* False: look again.  Its time at the disk does not depend on how long it has waited before. */
static bool
go_to_disk(struct blobs *b, struct read *r, const struct blockfile *file, bool here)
{
	long long now = io_monotonic_ms();
	struct blob *blob;
	struct parked *p;
	bool inside = false;
	int why;

	prepare_to_wait(b, r);
	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, r->object);
	note_interrupt(r);
	why = may_go(b, blob, r, file, now);
	if (why == 0) {
		p = blobtable_park_at_disk(
			b, blob, r, now + (r->late ? DISK_LATE_MS : b->block_timeout * 1000));
		p->turn.run = read_at_disk;
		p->turn.arg = b;
		inside = here && disk_enter(b->disk);
		if (!inside)
			disk_queue(b->disk, &p->turn);
	}
	pthread_mutex_unlock(&b->lock);
	if (why > 0)
		blob_refuse(r, why);
	if (inside) {
		read_at_disk(b, r->id);
		disk_leave(b->disk);
	}
	return why >= 0;
}

/* ---- from outside --------------------------------------------------------------------------- */

void
blob_read(struct blobs *b, struct fuse_req *req, uint64_t object, size_t size, off_t off, int flags)
{
	struct read r = { .req = req, .object = object, .size = size, .off = off,
			  .buffered = (flags & O_DIRECT) == 0 };

	while (!try_read(b, &r, true))
		;
}

void
blob_fetch(struct blobs *b, uint64_t object, size_t size, off_t off, long long since,
	   blob_done *done, void *arg)
{
	struct read r = { .done = done, .arg = arg, .object = object, .size = size, .off = off,
			  .since = since };

	while (!try_read(b, &r, false))
		;
}

void
blob_retry(struct blobs *b, struct parked *p)
{
	struct read r = p->read;
	struct blob *blob = p->blob;

	free(p);
	while (!try_read(b, &r, false))
		;
	pthread_mutex_lock(&b->lock);
	blob->n_again--;
	blobtable_collect(b, blob);
	pthread_mutex_unlock(&b->lock);
}
