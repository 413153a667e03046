/*
 * fusethreads.h - the threads that read requests from the kernel: a fixed number, however many
 * readers wait.
 */
#ifndef VMI_FUSETHREADS_H
#define VMI_FUSETHREADS_H

#include <stdbool.h>
#include "core/err.h"

enum { FUSETHREADS_SPARE = 2 };	/* so many never wait for the disk (disk.h) */

struct fusethreads;
struct fuse_session;
struct handles;

/* How many there will be.  wanted 0: our own choice. */
unsigned fusethreads_count(unsigned wanted);

/*
 * ended() is called, by any of them, when the connection is over; session and handles are borrowed.
 */
int fusethreads_start(struct fusethreads **out, unsigned n, struct fuse_session *session,
		      struct handles *handles, void (*ended)(void *arg), void *arg,
		      struct err *err);

/*
 * Whether one of them waits for a request, or has finished one since this was asked last.  One
 * thread at a time asks.
 */
bool fusethreads_answer(struct fusethreads *t);

/* Each ends after the request that it is busy with; waits for that.  NULL is fine. */
void fusethreads_stop(struct fusethreads *t);

#endif
