#include "config.h"
#include "plan.h"

#include <errno.h>

#include "limits.h"
#include "verity.h"

/* Of what is wanted and not here. */
static bool
is_due(const struct conf *conf, bool is_pending, bool has_handlers)
{
	switch ((enum conf_prefetch)conf->prefetch) {
	case PREFETCH_NEVER:
		return false;
	case PREFETCH_ALWAYS:
		return true;
	case PREFETCH_AUTO:
		return is_pending || has_handlers;
	}
	return false;
}

bool
plan_prefetch(const struct conf *conf, const struct object_row *object, bool is_pending,
	      bool has_handlers)
{
	return object->wanted && object->state != OBJECT_VERIFIED &&
	       is_due(conf, is_pending, has_handlers);
}

bool
plan_may_try(const struct object_row *object, int64_t now)
{
	/* Later than any back-off from now on: the clock was ahead when it was noted. */
	bool due = object->next_try <= now ||
		   object->next_try > now + LIMIT_BACKOFF_MAX_MS / 1000;

	return object->tries < LIMIT_TRIES && due;
}

int64_t
plan_backoff_ms(int n, uint32_t random, int retry_after)
{
	int64_t wait = LIMIT_BACKOFF_MIN_MS, asked = (int64_t)retry_after * 1000;

	for (int i = 1; i < n && wait < LIMIT_BACKOFF_MAX_MS; i++)
		wait *= 2;
	if (wait > LIMIT_BACKOFF_MAX_MS)
		wait = LIMIT_BACKOFF_MAX_MS;
	wait = wait / 2 + wait / 2 * (int64_t)random / ((int64_t)UINT32_MAX + 1);
	if (wait < asked)
		wait = asked;
	return wait < LIMIT_BACKOFF_MAX_MS ? wait : LIMIT_BACKOFF_MAX_MS;
}

bool
plan_blocks(const struct object_row *object)
{
	return object->has_root && object->state != OBJECT_VERIFIED &&
	       object->size > VERITY_GRANULE &&
	       (object->strict_reason == NULL || object->strict_reason[0] == '\0');
}

enum lazy_fill
plan_fill(const struct conf *conf, bool is_pending, bool has_handlers, bool is_asked)
{
	if (is_asked)
		return LAZY_FILL_NOW;
	switch ((enum conf_fill)conf->fill) {
	case FILL_NOW:
		return LAZY_FILL_NOW;
	case FILL_IDLE:
		return LAZY_FILL_IDLE;
	case FILL_NEVER:
		return is_due(conf, is_pending, has_handlers) ? LAZY_FILL_IDLE : LAZY_FILL_NOT;
	}
	return LAZY_FILL_NOT;
}

int
plan_reader_errno(const struct err *why)
{
	if (why->code == CODE_SLOW && why->rc != -ETIMEDOUT)
		return -EHOSTUNREACH;
	if (why->rc == 0 || why->rc == -EPIPE || why->rc == -EMFILE || why->rc == -ENFILE ||
	    why->rc == -ENOMEM)
		return -EIO;
	return why->rc;
}

int64_t
plan_purge_before(const struct conf *conf, int64_t now)
{
	switch ((enum conf_keep)conf->expire_keep) {
	case KEEP_ALWAYS:
		return INT64_MIN;
	case KEEP_NEVER:
		return INT64_MAX;
	case KEEP_AGE:
		return now - conf->expire_keep_age;
	}
	return INT64_MIN;
}
