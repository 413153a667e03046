/*
 * Open image files.
 *
 * States of a blob, and what must hold (checked by blobtable_check() in debug builds):
 *
 *   state    file     parked reads wait for                      asked
 *   ABSENT   NULL     the engine's answer                        true while reads are parked
 *   READY    set      a granule each: the first one they lack,   false
 *                     or the disk
 *   CUT      NULL     there are none                             false
 *
 * One mutex protects the table, the blobs and the parked reads.  It is never held during I/O or
 * while replying: a read takes a reference on the block file, and a list of parked reads is taken
 * off as a whole before it is answered.  Nor is a file closed under it: the last reference goes to
 * the disk's queue.
 */
#include "config.h"
#include "fs/blob.h"

#include <errno.h>
#include <unistd.h>

#include "core/catalogue.h"
#include "core/engine.h"
#include "core/log.h"
#include "core/store.h"
#include "core/stored.h"
#include "fs/blobtable.h"
#include "fs/handles.h"

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
blob_open(struct blobs *b, const struct object_row *row, bool at_disk)
{
	uint64_t object = (uint64_t)row->id;
	struct blockfile *file;
	struct blob *blob;
	bool must = must_be_opened(b, row, &file);

	if (must)
		must = stored_open_cached(b->store, &row->digest, row->size,
					  row->has_tree ? &row->tree : NULL, &file) != 0;
	if (must && !at_disk)
		return BLOB_ASK_DISK;
	if (must && open_stored(b, row, &file) != 0)
		return -EIO;
	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob == NULL)
		blob = blobtable_add(b, object, &row->digest, row->size);
	blob->lazy = blob_row_is_lazy(row);
	if (handles_opened(b->handles, object, &row->digest, row->size)) {
		blob->opens++;
		b->n_open++;
	}
	/* Reads that wait already are answered by the engine, which they have asked. */
	if (blob->state == BLOB_ABSENT && file != NULL && blob->n_parked == 0) {
		blob->file = file;
		blob->state = BLOB_READY;
		blob->asked = false;
		file = NULL;
	}
	blobtable_check(blob);
	pthread_mutex_unlock(&b->lock);
	blob_let_go(b, file);
	return 0;
}

void
blob_close(struct blobs *b, uint64_t object)
{
	struct blob *blob;

	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob != NULL && blob->opens > 0 && handles_closed(b->handles, object)) {
		blob->opens--;
		b->n_open--;
		blobtable_collect(b, blob);
	}
	pthread_mutex_unlock(&b->lock);
}

/* Its bytes are asked for when somebody reads them. */
void
blob_restore(struct blobs *b, uint64_t object, const struct digest *d, int64_t size,
	     unsigned opens)
{
	struct blob *blob;

	pthread_mutex_lock(&b->lock);
	blob = blobtable_find(b, object);
	if (blob == NULL)
		blob = blobtable_add(b, object, d, size);
	blob->opens += opens;
	b->n_open += opens;
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
