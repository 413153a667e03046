/*
 * blob.h - reading image files: answer from the store, or park until the engine has the bytes.
 *
 * A blob exists per object that is open or waited for; its number is the object's row id, which
 * is also fi->fh, so that another worker process can take over the open files.
 *
 *   ABSENT    no verified bytes: reads are parked; the engine was asked
 *   READY     a descriptor on verified bytes: reads are answered from it
 *   CUT       distrusted: reads fail with ESTALE
 *
 * Every parked read ends exactly once: answered, failed, interrupted (EINTR), past its deadline
 * (ETIMEDOUT), or at the end of the mount (ENOTCONN).  No thread sleeps for a parked read.
 */
#ifndef VMI_BLOB_H
#define VMI_BLOB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/digest.h"
#include "core/err.h"

struct blobs;
struct engine;
struct store;
struct fuse_req;

struct blobs *blobs_new(struct store *store, int64_t read_timeout_seconds);
void blobs_set_engine(struct blobs *b, struct engine *engine);
void blobs_set_timeout(struct blobs *b, int64_t read_timeout_seconds);
/* The mount ends: answers everything that is parked with ENOTCONN; later reads too. */
void blobs_end(struct blobs *b);
/* After the FUSE threads have ended. */
void blobs_free(struct blobs *b);

/* One more / one less open file of the object.  verified: the tree says the store has it.  0 or a negative errno value. */
int blob_open(struct blobs *b, uint64_t object, const struct digest *d, int64_t size, bool verified);
void blob_close(struct blobs *b, uint64_t object);

/* Replies to the request, now or later, exactly once.  object was opened; after a takeover it need not be: d, size and verified open it. */
void blob_read(struct blobs *b, struct fuse_req *req, uint64_t object, size_t size, off_t off);

/* SEEK_DATA or SEEK_HOLE of an open object: the new offset or a negative errno value.  Unfetched ranges are data. */
off_t blob_seek(struct blobs *b, uint64_t object, off_t off, int whence);

/* The engine's answer: completes or fails all parked reads of the digest. */
void blob_answered(struct blobs *b, const struct digest *d, int rc, int fd);

/* The bytes that open files had are bad: their reads wait for the engine again. */
void blob_lost(struct blobs *b, const struct digest *d);

/* Distrusted from now on / trusted again. */
void blob_cut(struct blobs *b, const struct digest *d, bool cut);

bool blob_is_open(struct blobs *b, const struct digest *d);

/* For `status`. */
int64_t blobs_parked(struct blobs *b);
int64_t blobs_open(struct blobs *b);

#endif
