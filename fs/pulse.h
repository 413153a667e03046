/*
 * pulse.h - a worker's sign of life, for its supervisor.
 *
 * A number in shared memory that the worker makes grow once a second, as long as a FUSE thread can
 * take a request and what parks reads is not locked for good.  A worker that is stopped, that waits
 * for itself, or that was killed and cannot end because a thread of it is inside of the kernel with a
 * disk that does not answer, shows none.
 *
 * The supervisor looks at it PULSE_LOOKS times in the time that it gives a worker, and counts looks,
 * not seconds: where the whole machine stood still, one look was missed.
 */
#ifndef VMI_PULSE_H
#define VMI_PULSE_H

#include <stdatomic.h>
#include <stdbool.h>

enum { PULSE_LOOKS = 8 };

/* ---- the worker's side ----------------------------------------------------------------------- */

struct pulse;

/* A thread; alive() is called by it once a second, and need not come back where nothing lives. */
struct pulse *pulse_start(atomic_uint *beats, bool (*alive)(void *arg), void *arg);
void pulse_stop(struct pulse *p);	/* NULL is fine */

/* ---- the supervisor's ------------------------------------------------------------------------ */

struct pulsewatch {
	unsigned last;			/* what beats was */
	unsigned missed;		/* looks since */
	long long look_at;		/* monotonic ms of the next look; 0: nobody is watched */
};

/* limit_ms: how long a worker may show no sign of life; 0: for ever. */
void pulsewatch_begin(struct pulsewatch *w, unsigned beats, long long now, long long limit_ms);

/* Whether there was none for so long; said once, and again after as long. */
bool pulsewatch_is_silent(struct pulsewatch *w, unsigned beats, long long now, long long limit_ms);

#endif
