/*
 * plan.h - decisions of the engine as pure functions of rows, configuration and time.
 */
#ifndef VMI_PLAN_H
#define VMI_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include "catalogue.h"
#include "conf.h"
#include "err.h"
#include "lazy.h"

/*
 * Whether a daemon fetches this object without a reader: a pending version of a verified image
 * (unless prefetch = never), anything selected with prefetch = always, or with auto where event
 * handlers wait for it.
 */
bool plan_prefetch(const struct conf *conf, const struct object_row *object, bool is_pending,
		   bool has_handlers);

/* Whether a try may begin now: fewer than LIMIT_TRIES failed ones, and next_try has come. */
bool plan_may_try(const struct object_row *object, int64_t now);

/*
 * Milliseconds until try number n+1 (n >= 1 failed ones): 2 s doubling to 5 min, with jitter in
 * [0.5, 1) of it from random (0..UINT32_MAX); at least retry_after seconds, capped.
 */
int64_t plan_backoff_ms(int n, uint32_t random, int retry_after);

/*
 * Whether it is fetched block by block, rather than as a stream: its tree is signed, nothing
 * spoke against it so far, and it has more than one granule.
 */
bool plan_blocks(const struct object_row *object);

/*
 * How much of an image in block mode is fetched that nobody has read: by conf's fill; all of what
 * is to be here without a reader anyway (as plan_prefetch() says), though no faster than fill
 * says; all of it now if a command asked.
 */
enum lazy_fill plan_fill(const struct conf *conf, bool is_pending, bool has_handlers,
			 bool is_asked);

/*
 * The errno value for readers, as the manual lists them: no answer in time is one thing
 * (ETIMEDOUT), whatever else kept the bytes from coming the other (EHOSTUNREACH), and want of
 * descriptors, memory or the starter is our own trouble (EIO).  Negative.
 */
int plan_reader_errno(const struct err *why);

/* What was withdrawn then or earlier may go now by expire_keep. */
int64_t plan_purge_before(const struct conf *conf, int64_t now);

#endif
