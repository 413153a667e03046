/*
 * pulse.h - a worker's sign of life, for its supervisor.
 *
 * A number in shared memory that the worker makes grow once a second, as long as a FUSE thread can
 * take a request and what parks reads is not locked for good.  A worker that is stopped, that waits
 * for itself, or that was killed and cannot end because a thread of it is inside of the kernel with
 * a disk that does not answer, shows none.
 *
 * While it prepares it is one thread, whose work may rightly take minutes (a catalogue is checked,
 * or made anew).  That lives as long as it uses the processor, or a disk has it; one that goes
 * round in circles is not told from one that works.
 *
 * The supervisor looks at it PULSE_LOOKS times in the time that it gives a worker, and counts
 * looks, not seconds: where the whole machine stood still, one look was missed.
 */
#ifndef VMI_PULSE_H
#define VMI_PULSE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

enum { PULSE_LOOKS = 8 };

/* ---- the worker's side ----------------------------------------------------------------------- */

struct pulse;

/* A thread; alive() is called by it once a second, and need not come back where nothing lives. */
struct pulse *pulse_start(atomic_uint *beats, bool (*alive)(void *arg), void *arg);
void pulse_stop(struct pulse *p);	/* NULL is fine */

struct pulsework {
	clockid_t clock;		/* of the thread */
	long long used;			/* its nanoseconds when it was last looked at */
	int stat;			/* /proc/.../stat of it, or -1 */
};

/* The calling thread is looked at.  Before the sandbox, which has no /proc. */
void pulsework_init(struct pulsework *w);
void pulsework_release(struct pulsework *w);

/*
 * alive() with that (arg): it has used the processor since the last call, or waits inside of the
 * kernel for a disk: no signal would end that, and whoever came in its place would wait for the
 * same.
 */
bool pulsework_goes_on(void *arg);

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
