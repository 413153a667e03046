/*
 * plan.h - decisions of the engine as pure functions of rows, configuration and time.
 */
#ifndef VMI_PLAN_H
#define VMI_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include "catalogue.h"
#include "conf.h"

/* Whether a daemon fetches this object without a reader: a pending version of a verified image (unless prefetch = never), anything selected with prefetch = always. */
bool plan_prefetch(const struct conf *conf, const struct object_row *object, bool is_pending);

/* Whether a try may begin now: fewer than LIMIT_TRIES failed ones, and next_try has come. */
bool plan_may_try(const struct object_row *object, int64_t now);

/* Milliseconds until try number n+1 (n >= 1 failed ones): 2 s doubling to 5 min, with jitter in [0.5, 1) of it from random (0..UINT32_MAX); at least retry_after seconds, capped. */
int64_t plan_backoff_ms(int n, uint32_t random, int retry_after);

/* Whether a withdrawn object's file may go now by expire_keep. */
bool plan_may_purge(const struct conf *conf, int64_t expired_at, int64_t now);

#endif
