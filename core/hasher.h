/*
 * hasher.h - threads that run SHA-512 and the Merkle tree (verity.h) over a stream of bytes.
 *
 * The producer fills granules of a ring and pushes what it has; while the threads hash it, the
 * producer writes the same bytes to disk and goes on filling: what is hashed is what is written.
 * SHA-512 of the whole is one chain and has a thread of its own.  The granules are independent:
 * another thread hashes them, and the producer helps when it would only wait.  All functions
 * belong to one producer thread.
 */
#ifndef VMI_HASHER_H
#define VMI_HASHER_H

#include <stddef.h>
#include <stdint.h>
#include "digest.h"
#include "err.h"
#include "verity.h"

enum { HASHER_GRANULES = 8 };	/* 2 MiB: the disk may take some ms meanwhile */

struct hasher;

/* For a stream of size bytes.  -ENOMEM, -EINVAL for an impossible size, -EAGAIN without threads. */
int hasher_new(struct hasher **out, int64_t size, struct err *err);
void hasher_free(struct hasher *h);	/* what is queued is thrown away; NULL is fine */

/*
 * Where the next bytes of the stream belong, and in *room how many of them: to the end of a granule
 * at most, and 0 after the last byte (NULL then).  Waits if all granules are in use.
 */
void *hasher_buffer(struct hasher *h, size_t *room);

/*
 * The first len bytes of the last hasher_buffer() are there.  They must not change, and can still
 * be read by the producer, until it calls hasher_buffer() again.
 */
void hasher_push(struct hasher *h, size_t len);

/* Waits for what is queued; then forgets it all: the next byte is the first. */
void hasher_reset(struct hasher *h);

/* After the last byte: waits for what is queued; the two digests of the stream.  Once. */
void hasher_end(struct hasher *h, struct digest *whole, struct digest *verity);

/* After the end: the tree's prefix as the sidecar has it, borrowed; *len may be 0. */
const void *hasher_prefix(const struct hasher *h, size_t *len);

#endif
