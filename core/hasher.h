/*
 * hasher.h - a thread that runs SHA-512 over a stream of buffers, in order.
 *
 * The producer fills buffers of a ring and pushes them; while the thread hashes one, the producer
 * writes the same buffer to disk and fills the next: what is hashed is what is written, and neither
 * waits for the other.  All functions belong to one producer thread.
 */
#ifndef VMI_HASHER_H
#define VMI_HASHER_H

#include <stddef.h>
#include "digest.h"
#include "err.h"

enum {
	HASHER_CHUNK = 256 << 10,	/* bytes of a buffer: handing it over costs nothing */
	HASHER_CHUNKS = 8,		/* 2 MiB: the disk may take some ms meanwhile */
};

struct hasher;

/* -ENOMEM, or -EAGAIN when there can be no more threads. */
int hasher_new(struct hasher **out, struct err *err);
void hasher_free(struct hasher *h);	/* what is queued is thrown away; NULL is fine */

/* A free, page-aligned buffer of HASHER_CHUNK bytes; waits for one if all are in use. */
void *hasher_buffer(struct hasher *h);

/*
 * The first len bytes of the last hasher_buffer() come next in the stream.  They must not change,
 * and can still be read by the producer, until it calls hasher_buffer() again.
 */
void hasher_push(struct hasher *h, size_t len);

/* Waits for what is queued; then forgets it all. */
void hasher_reset(struct hasher *h);

/* Waits for what is queued and gives the digest of everything since the last reset. */
void hasher_end(struct hasher *h, struct digest *d);

#endif
