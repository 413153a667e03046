/*
 * intake.h - receiving one image: pipe -> SHA-512, Merkle tree and partial file, in one pass.
 *
 * One thread reads the pipe and writes the file; two others hash the same buffers, one for the
 * SHA-512 of the whole, one for the tree (verity.h), so that hashing overlaps fetching and writing.
 * The hash states live over several pipes, so that a transfer that was cut goes on where it
 * stopped.
 *
 * States, in order:
 *   IDLE      no pipe; wants bytes from intake_offset() on
 *   RUNNING   a pipe is being read
 *   VERIFIED  all bytes are here, size and digests are the signed ones; being made durable
 *   STORED    the object has its name in the store, and its tree beside it
 *   FAILED    intake_result() says why: CODE_DIGEST (partial quarantined; dropped if
 *             intake_resumed()), CODE_BLOCK_DIGEST (quarantined), CODE_TOO_MUCH, CODE_FULL, or an
 *             I/O error (partial dropped)
 * A pipe that ends early leads back to IDLE.  VERIFIED can still end in FAILED, when the disk fails
 * while the object is made durable: block files given out stay good.
 */
#ifndef VMI_INTAKE_H
#define VMI_INTAKE_H

#include <stdbool.h>
#include <stdint.h>
#include "blockfile.h"
#include "digest.h"
#include "err.h"
#include "store.h"

enum intake_state { INTAKE_IDLE, INTAKE_RUNNING, INTAKE_VERIFIED, INTAKE_STORED, INTAKE_FAILED };

struct intake;

/*
 * Opens the partial file and starts the threads; the bytes of an earlier run are hashed again
 * first (state RUNNING meanwhile).  notify_fd is an eventfd that is written at every change of
 * state.  root (may be NULL): the fs-verity digest that was signed; bytes whose SHA-512 is right
 * but whose tree leads elsewhere are FAILED with CODE_BLOCK_DIGEST, quarantined, and served to
 * nobody.  Borrows store until intake_free().
 */
int intake_new(struct intake **out, struct store *store, const struct digest *expected,
	       int64_t size, const struct digest *root, int notify_fd, struct err *err);

/* Any thread. */
enum intake_state intake_state(struct intake *in);
int64_t intake_offset(struct intake *in);	/* bytes received so far */

/* IDLE only: starts again at byte 0 (the server could not prove that our bytes are still its). */
void intake_restart(struct intake *in);

/* IDLE only: reads the pipe; its first byte is byte intake_offset().  Takes pipe_rd. */
void intake_feed(struct intake *in, int pipe_rd);

/* VERIFIED or STORED: the verified bytes and their tree (a reference); NULL in other states. */
struct blockfile *intake_blockfile(struct intake *in);

/*
 * Some of the bytes came from an earlier run or an earlier pipe.  If the digest is wrong then, the
 * parts may not belong together: one full restart (a new intake) is due before it counts as a
 * failed try.
 */
bool intake_resumed(struct intake *in);

/* FAILED: the reason; 0 in other states. */
int intake_result(struct intake *in, struct err *err);

/*
 * Stops the threads; the partial stays for a later run unless it is empty, FAILED or STORED.  A
 * commit that is under way is waited for.  NULL is fine.
 */
void intake_free(struct intake *in);

#endif
