/*
 * lanes.h - the threads that fetch ranges: a few lanes, each with a fetcher process and its warm
 * connection, shared by all images in block mode.
 *
 * A lane takes the most urgent piece of work that any image has (lazy.h), preferring the image,
 * and so the connection, that it served last:
 *
 *	readers wait > tree prefixes > read-ahead > filling (idle: only after LANES_QUIET_MS
 *	without a reader's wish)
 *
 * Never more than LANES_PER_HOST requests to one host at a time, nor connections.  An idle lane
 * gives up its fetcher after LANES_IDLE_MS.  No lane holds a lock while it waits.
 *
 * Starting a fetcher takes about as long as a first read may (10 ms).  Where one can be expected,
 * LANES_READY lanes have one that waits for its first request.
 */
#ifndef VMI_LANES_H
#define VMI_LANES_H

#include "conf.h"
#include "starter.h"

enum { LANES_PER_HOST = 2, LANES_QUIET_MS = 1000, LANES_IDLE_MS = 60000, LANES_READY = 2 };

struct lanes;
struct lazy;

/* n lanes, whose threads begin when there is work.  starter: borrowed, used by any thread. */
struct lanes *lanes_new(struct starter *starter, const struct conf *conf, int n);
/* conf is copied from as far as it is needed (timeouts, rate, proxy, tls_ca, file_prefix, fill). */
void lanes_reconfigure(struct lanes *l, const struct conf *conf);
/* An image may be read in block mode at any time now; so it is too once there was a struct lazy. */
void lanes_expect(struct lanes *l);
/* Ends the threads and what they fetch; every struct lazy must have been freed before. */
void lanes_free(struct lanes *l);

/*
 * Whether no lane could be started for want of a thread or process, and none runs: nobody is at
 * work.
 */
bool lanes_are_stuck(struct lanes *l);

#endif
