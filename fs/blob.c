/*
 * Reads of image files.
 *
 * States of a blob, and what must hold (checked by blobtable_check() in debug builds):
 *
 *   state    stored   parked           asked
 *   ABSENT   NULL     any              true while reads are parked, or a file is suspect
 *   READY    set      empty            false
 *   CUT      NULL     empty            false
 *
 * A file that cannot be read in part is suspect: the blob is ABSENT while the engine gets a new one.
 * If it gets none, the blob is READY with the old file, and only the reads that it failed end
 * with EIO.
 *
 * One mutex protects the table, the blobs and the parked reads.  It is never held during I/O or
 * while replying: a read takes a reference on the stored file, and a list of parked reads is taken
 * off as a whole before it is answered.
 *
 * Interrupts.  libfuse calls on_interrupt() with the request's own lock held, possibly after the
 * request was answered elsewhere.  Therefore a parked read is named by a number, never by a pointer,
 * and the handler is registered before the read is parked: an interrupt that comes in between is
 * seen by fuse_req_interrupted() when it is parked.  Lock order: request lock -> our mutex ->
 * session lock.
 *
 * The kernel tells of an interrupted reader only for O_DIRECT; a killed buffered reader is
 * gone, but its request stays until it is answered.  So each has its own deadline, too.
 */
#define FUSE_USE_VERSION 312

#include "config.h"
#include "fs/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "core/cleanup.h"
#include "core/engine.h"
#include "core/io.h"
#include "core/log.h"
#include "core/store.h"
#include "fs/blobtable.h"
#include "fs/context.h"

/* ---- answering; without the lock ----------------------------------------------------------- */

static void
fail_parked(struct parked *list, int errnum)
{
	while (list != NULL) {
		struct parked *p = list;

		list = p->next;
		fuse_reply_err(p->req, errnum);
		free(p);
	}
}

/* One retry: a transient fault of the disk must not reach a guest. */
static ssize_t
read_stored(int fd, void *data, size_t size, off_t off)
{
	ssize_t n = io_pread_full(fd, data, size, off);

	return n >= 0 ? n : io_pread_full(fd, data, size, off);
}

/* True if the request was answered, false if the file is bad, which is logged. */
static bool
reply_from(const struct stored *stored, fuse_req_t req, size_t size, off_t off)
{
	CLEANUP_FREE char *data = NULL;
	char hex[DIGEST_HEX + 1];
	ssize_t n;

	if (posix_memalign((void **)&data, 4096, size) != 0) {
		data = NULL;
		fuse_reply_err(req, ENOMEM);
		return true;
	}
	n = read_stored(stored->fd, data, size, off);
	if (n == (ssize_t)size) {
		fuse_reply_buf(req, data, size);
		return true;
	}
	digest_hex(&stored->digest, hex);
	log_error("code %d: %s: the stored file cannot be read at byte %lld: %s", CODE_CORRUPT, hex,
		  (long long)off, n < 0 ? strerrordesc_np((int)-n) : "it is too short");
	return false;
}

static void
put_stored(struct blobs *b, struct stored *stored)
{
	pthread_mutex_lock(&b->lock);
	stored_unref(stored);
	pthread_mutex_unlock(&b->lock);
}

/* ---- parking ------------------------------------------------------------------------------- */

static struct blobs *the_blobs(fuse_req_t req);

static void
on_interrupt(fuse_req_t req, void *data)
{
	struct blobs *b = the_blobs(req);
	struct parked *p;

	pthread_mutex_lock(&b->lock);
	p = blobtable_take(b, (uint64_t)(uintptr_t)data);
	pthread_mutex_unlock(&b->lock);
	if (p != NULL)
		fuse_reply_err(p->req, EINTR);
	free(p);
}

/* The lock is held.  True if the engine has to be asked. */
static bool
park(struct blobs *b, struct blob *blob, struct parked *p)
{
	struct parked **end = &blob->parked;
	bool ask = !blob->asked;

	while (*end != NULL)
		end = &(*end)->next;
	*end = p;
	b->n_parked++;
	blob->asked = true;
	if (b->next_deadline == 0 || p->deadline < b->next_deadline)
		pthread_cond_signal(&b->wake);
	return ask;
}

static struct parked *
new_parked(struct blobs *b, uint64_t object, fuse_req_t req, size_t size, off_t off,
	   bool healing)
{
	struct parked *p = xcalloc(1, sizeof(*p));

	p->object = object;
	p->req = req;
	p->size = size;
	p->off = off;
	p->healing = healing;
	pthread_mutex_lock(&b->lock);
	p->id = ++b->last_id;
	p->deadline = io_monotonic_ms() + b->timeout * 1000;
	pthread_mutex_unlock(&b->lock);
	return p;
}

/* The blob has no bytes yet: wait for the engine, unless the state has changed meanwhile. */
static void
park_read(struct blobs *b, uint64_t object, fuse_req_t req, size_t size, off_t off, bool healing)
{
	struct parked *p = new_parked(b, object, req, size, off, healing);
	struct digest digest;
	bool ask = false, again = false;
	struct blob *blob;
	int errnum = 0;

	fuse_req_interrupt_func(req, on_interrupt, (void *)(uintptr_t)p->id);
	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob == NULL || blob->state == BLOB_CUT)
		errnum = ESTALE;
	else if (b->ending)
		errnum = ENOTCONN;
	else if (fuse_req_interrupted(req))
		errnum = EINTR;
	else if (blob->state == BLOB_READY)
		again = true;
	else {
		digest = blob->digest;
		ask = park(b, blob, p);
		p = NULL;
	}
	pthread_mutex_unlock(&b->lock);
	if (ask)
		engine_want(b->engine, &digest);
	if (again)
		blob_read(b, req, object, size, off);
	else if (errnum != 0)
		fuse_reply_err(req, errnum);
	free(p);
}

/*
 * The file behind a blob cannot be read: the engine gets a new one, unless another reader has seen
 * to it.
 */
static void
suspect(struct blobs *b, uint64_t object, struct stored *stored)
{
	bool first = false;
	struct blob *blob;

	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob != NULL && blob->stored == stored) {
		first = true;
		blob->suspect = blob->stored;
		blob->stored = NULL;
		blob->state = BLOB_ABSENT;
		blob->asked = true;
		blobtable_check(blob);
	}
	pthread_mutex_unlock(&b->lock);
	if (first)
		engine_unreadable(b->engine, &stored->digest, "the stored file cannot be read");
}

void
blob_read(struct blobs *b, struct fuse_req *req, uint64_t object, size_t size, off_t off)
{
	struct stored *stored = NULL;
	struct digest digest = { { 0 } };
	bool replied = true, healing = false;
	struct blob *blob;
	int64_t timeout;

	pthread_mutex_lock(&b->lock);
	timeout = b->timeout;
	blob = blobtable_find(b, object);
	if (blob == NULL || blob->state == BLOB_CUT) {
		blob = NULL;
	} else if (off >= blob->size) {
		size = 0;
	} else {
		if ((int64_t)size > blob->size - off)
			size = (size_t)(blob->size - off);
		digest = blob->digest;
		stored = stored_ref(blob->stored);
	}
	pthread_mutex_unlock(&b->lock);

	if (blob == NULL) {
		fuse_reply_err(req, ESTALE);
	} else if (size == 0) {
		fuse_reply_buf(req, NULL, 0);
	} else {
		replied = stored != NULL && reply_from(stored, req, size, off);
		healing = stored != NULL && !replied;
	}
	if (healing)
		suspect(b, object, stored);
	put_stored(b, stored);
	if (replied)
		return;
	if (timeout == 0) {
		engine_want(b->engine, &digest);
		fuse_reply_err(req, EAGAIN);
	} else {
		park_read(b, object, req, size, off, healing);
	}
}

/* ---- open files ---------------------------------------------------------------------------- */

/*
 * The verified file; -ENOENT after the engine was told that it is bad, so that reads wait for a
 * better one; -EIO if it is out of our reach, which is for an admin to mend.
 */
static int
open_stored(struct blobs *b, const struct digest *d, int64_t size)
{
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };
	int fd = store_object_open(b->store, d, size, &err);

	if (fd >= 0)
		return fd;
	if (store_object_is_bad(fd)) {
		engine_damaged(b->engine, d, err.text);
		return -ENOENT;
	}
	digest_hex(d, hex);
	log_err(LOG_LVL_ERROR, hex, &err);
	return -EIO;
}

int
blob_open(struct blobs *b, uint64_t object, const struct digest *d, int64_t size, bool verified)
{
	int fd = verified ? open_stored(b, d, size) : -ENOENT;
	struct blob *blob;

	if (fd == -EIO)
		return -EIO;
	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob == NULL)
		blob = blobtable_add(b, object, d, size);
	blob->opens++;
	b->n_open++;
	if (blob->state == BLOB_ABSENT && fd >= 0 && blob->parked == NULL) {
		blob->stored = stored_new(fd, d);
		blob->state = BLOB_READY;
		blob->asked = false;
		fd = -1;
	}
	blobtable_check(blob);
	pthread_mutex_unlock(&b->lock);
	if (fd >= 0)
		close(fd);
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

off_t
blob_seek(struct blobs *b, uint64_t object, off_t off, int whence)
{
	struct stored *stored = NULL;
	struct blob *blob;
	int64_t size = -1;
	off_t at;

	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob != NULL) {
		size = blob->size;
		stored = stored_ref(blob->stored);
	}
	pthread_mutex_unlock(&b->lock);
	if (size < 0)
		return -ESTALE;
	if (off < 0 || off >= size) {
		at = -ENXIO;
	} else if (stored == NULL) {
		/* What is not here yet must never look like a hole: cp and tar would write zeros. */
		at = whence == SEEK_DATA ? off : size;
	} else {
		/* Moving the shared offset is harmless: every read is a pread(). */
		at = lseek(stored->fd, off, whence);
		if (at < 0)
			at = -errno;
	}
	put_stored(b, stored);
	return at;
}

/* ---- the engine's word --------------------------------------------------------------------- */

/*
 * The lock is held.  A blob that waited gets the bytes, or is told that there are none; then a
 * suspect file is still better than nothing.
 */
static void
settle(struct blobs *b, struct blob *blob, struct stored *stored, struct parked **list)
{
	if (blob->state != BLOB_ABSENT)
		return;
	if (stored == NULL && blob->suspect != NULL) {
		for (struct parked *p = blob->parked; p != NULL; p = p->next)
			p->again = !p->healing;
		stored = blob->suspect;
	}
	blobtable_take_parked(b, blob, list);
	blob->asked = false;
	blob->stored = stored_ref(stored);
	stored_unref(blob->suspect);
	blob->suspect = NULL;
	if (blob->stored != NULL)
		blob->state = BLOB_READY;
	blobtable_collect(b, blob);
}

static void
answer_parked(struct blobs *b, const struct stored *stored, struct parked *p, int rc)
{
	if (stored == NULL && p->again)
		blob_read(b, p->req, p->object, p->size, p->off);
	else if (stored == NULL)
		fuse_reply_err(p->req, p->healing ? EIO : -rc);
	else if (!reply_from(stored, p->req, p->size, p->off))
		fuse_reply_err(p->req, EIO);
	free(p);
}

void
blob_answered(struct blobs *b, const struct digest *d, int rc, int fd)
{
	int mine = rc == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	struct stored *stored = mine >= 0 ? stored_new(mine, d) : NULL;
	struct parked *list = NULL;
	struct blob *blob, *next;

	if (rc == 0 && mine < 0)
		rc = -errno;
	/* An open file is not missing: what it was opened for has been withdrawn. */
	if (rc == -ENOENT)
		rc = -ESTALE;
	pthread_mutex_lock(&b->lock);
	for (blob = blobtable_next(b, d, NULL); blob != NULL; blob = next) {
		next = blobtable_next(b, d, blob);
		settle(b, blob, stored, &list);
	}
	pthread_mutex_unlock(&b->lock);

	while (list != NULL) {
		struct parked *p = list;

		list = p->next;
		answer_parked(b, stored, p, rc);
	}
	put_stored(b, stored);
}

/* The lock is held. */
static void
let_go(struct blob *blob)
{
	stored_unref(blob->stored);
	stored_unref(blob->suspect);
	blob->stored = blob->suspect = NULL;
}

void
blob_cut(struct blobs *b, const struct digest *d, bool cut)
{
	struct parked *list = NULL;
	struct blob *blob, *next;

	pthread_mutex_lock(&b->lock);
	for (blob = blobtable_next(b, d, NULL); blob != NULL; blob = next) {
		next = blobtable_next(b, d, blob);
		if (cut) {
			blobtable_take_parked(b, blob, &list);
			let_go(blob);
			blob->state = BLOB_CUT;
			blob->asked = false;
		} else if (blob->state == BLOB_CUT) {
			blob->state = BLOB_ABSENT;
		}
		blobtable_collect(b, blob);
	}
	pthread_mutex_unlock(&b->lock);
	fail_parked(list, ESTALE);
}

void
blob_lost(struct blobs *b, const struct digest *d)
{
	pthread_mutex_lock(&b->lock);
	for (struct blob *blob = blobtable_next(b, d, NULL); blob != NULL;
	     blob = blobtable_next(b, d, blob)) {
		let_go(blob);
		if (blob->state == BLOB_READY)
			blob->state = BLOB_ABSENT;
		blobtable_check(blob);
	}
	pthread_mutex_unlock(&b->lock);
}

bool
blob_is_open(struct blobs *b, const struct digest *d)
{
	bool is_open;

	pthread_mutex_lock(&b->lock);
	is_open = blobtable_next(b, d, NULL) != NULL;
	pthread_mutex_unlock(&b->lock);
	return is_open;
}

int64_t
blobs_parked(struct blobs *b)
{
	int64_t n;

	pthread_mutex_lock(&b->lock);
	n = b->n_parked;
	pthread_mutex_unlock(&b->lock);
	return n;
}

int64_t
blobs_open(struct blobs *b)
{
	int64_t n;

	pthread_mutex_lock(&b->lock);
	n = b->n_open;
	pthread_mutex_unlock(&b->lock);
	return n;
}

/* ---- deadlines ------------------------------------------------------------------------------ */

static void *
watch_deadlines(void *arg)
{
	struct blobs *b = arg;

	prctl(PR_SET_NAME, "deadline");
	pthread_mutex_lock(&b->lock);
	while (!b->ending) {
		struct parked *overdue = blobtable_take_overdue(b, io_monotonic_ms());
		struct timespec until = { .tv_sec = b->next_deadline / 1000,
					  .tv_nsec = b->next_deadline % 1000 * 1000000 };

		if (overdue != NULL) {
			pthread_mutex_unlock(&b->lock);
			fail_parked(overdue, ETIMEDOUT);
			pthread_mutex_lock(&b->lock);
		} else if (b->next_deadline == 0) {
			pthread_cond_wait(&b->wake, &b->lock);
		} else {
			pthread_cond_timedwait(&b->wake, &b->lock, &until);
		}
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

/* ---- beginning and end ---------------------------------------------------------------------- */

static struct blobs *
the_blobs(fuse_req_t req)
{
	struct fs_context *fs = fuse_req_userdata(req);

	return fs->blobs;
}

struct blobs *
blobs_new(struct store *store, int64_t read_timeout_seconds)
{
	struct blobs *b = xcalloc(1, sizeof(*b));
	pthread_condattr_t attr;

	b->store = store;
	b->timeout = read_timeout_seconds;
	pthread_mutex_init(&b->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&b->wake, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&b->thread, NULL, watch_deadlines, b) != 0)
		abort();
	return b;
}

void
blobs_set_engine(struct blobs *b, struct engine *engine)
{
	b->engine = engine;
}

void
blobs_set_timeout(struct blobs *b, int64_t read_timeout_seconds)
{
	pthread_mutex_lock(&b->lock);
	b->timeout = read_timeout_seconds;
	pthread_mutex_unlock(&b->lock);
}

void
blobs_end(struct blobs *b)
{
	struct parked *all = NULL;

	pthread_mutex_lock(&b->lock);
	b->ending = true;
	pthread_cond_signal(&b->wake);
	for (size_t i = 0; i < BLOB_BUCKETS; i++)
		for (struct blob *blob = b->buckets[i]; blob != NULL; blob = blob->next)
			blobtable_take_parked(b, blob, &all);
	pthread_mutex_unlock(&b->lock);
	fail_parked(all, ENOTCONN);
}

void
blobs_free(struct blobs *b)
{
	if (b == NULL)
		return;
	blobs_end(b);
	pthread_join(b->thread, NULL);
	for (size_t i = 0; i < BLOB_BUCKETS; i++) {
		struct blob *blob, *next;

		for (blob = b->buckets[i]; blob != NULL; blob = next) {
			next = blob->next;
			let_go(blob);
			free(blob);
		}
	}
	pthread_cond_destroy(&b->wake);
	pthread_mutex_destroy(&b->lock);
	free(b);
}
