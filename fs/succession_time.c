/*
 * How long a worker may take.
 *
 * What comes before it has the store is bounded, and so is what a new program does until it serves:
 * readers wait for it, and the one before, which can serve, is to have its turn before they give
 * up.  Otherwise to prepare may rightly take minutes, and who serves does so for months: that one
 * is watched, and killed when it shows no sign of life (pulse.h) for as long as `watchdog' says.
 * Who prepares may wait for others, and has PREPARE_MS at least.
 */
#include "config.h"
#include "supervisor_impl.h"

#include <errno.h>

#include "core/io.h"
#include "core/log.h"

enum {
	LOAD_MS = 20000,		/* until LOADED */
	/* Of a new program, from GO to READY: then OUTAGE_MS has room for the one before. */
	TRY_MS = 8000,
	LEAVE_MS = 5000,
	PREPARE_MS = 90000,		/* longer than a verifier may take */
};

/* ---- signs of life -------------------------------------------------------------------------- */

/* Who has the store or the connection; what comes before is bounded. */
static bool
is_watched(const struct workerproc *p)
{
	return p->step == PROC_PREPARING || p->step == PROC_CONNECTED || p->step == PROC_SERVING;
}

static long long
watchdog_ms(const struct supervisor *s)
{
	long long ms = s->setup->conf->watchdog * 1000;

	return ms > 0 && ms < PREPARE_MS && s->now.step != PROC_SERVING ? PREPARE_MS : ms;
}

void
succession_watch(struct supervisor *s)
{
	pulsewatch_begin(&s->pulse, atomic_load(&s->setup->shared->beats), io_monotonic_ms(),
			 watchdog_ms(s));
}

/* ---- who is late ---------------------------------------------------------------------------- */

/* When the step has lasted too long; 0: it may last. */
static long long
limit_of(const struct workerproc *p)
{
	switch (p->step) {
	case PROC_LOADING:
		return p->since + LOAD_MS;
	case PROC_PREPARING:
	case PROC_CONNECTED:
		return p->on_disk ? p->turn_at + TRY_MS : 0;
	case PROC_LEAVING:
		return p->since + LEAVE_MS;
	case PROC_NONE: case PROC_LOADED: case PROC_SERVING:
		break;
	}
	return 0;
}

/* Readers wait for it; if the disk holds it, longer than they should. */
static void
kill_serving(struct supervisor *s, long long now)
{
	workerproc_kill(&s->now);
	if (s->outage_at == 0 && s->setup->connection->fd >= 0)
		s->outage_at = now + OUTAGE_MS;
}

static void
kill_slow(struct supervisor *s, struct workerproc *p, long long now)
{
	long long limit = limit_of(p);

	if (limit == 0 || now < limit)
		return;
	p->since = p->turn_at = now;	/* once in a while, until it has ended */
	if (p->step == PROC_LEAVING) {
		kill_serving(s, now);
	} else {
		err_set(&p->why, ETIMEDOUT, "the worker does not get ready");
		workerproc_give_up(p);
	}
}

static void
kill_silent(struct supervisor *s, long long now)
{
	if (!is_watched(&s->now) ||
	    !pulsewatch_is_silent(&s->pulse, atomic_load(&s->setup->shared->beats), now,
				  watchdog_ms(s)))
		return;
	err_set(&s->now.why, ETIMEDOUT, "the worker has shown no sign of life for %lld s",
		watchdog_ms(s) / 1000);
	log_err(LOG_LVL_ERROR, "killing it", &s->now.why);
	succession_keep_text(s->shown.last_cause, s->now.why.text);
	kill_serving(s, now);
}

void
succession_kill_late(struct supervisor *s, long long now)
{
	kill_slow(s, &s->now, now);
	kill_slow(s, &s->next, now);
	kill_silent(s, now);
}

/* ---- time that nobody had ------------------------------------------------------------------- */

/* 0: never. */
static long long
sooner(long long a, long long b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

/* No step is longer than from now on. */
static void
postpone_step(struct workerproc *p, long long now, long long ms)
{
	p->since = sooner(p->since + ms, now);
	p->turn_at = sooner(p->turn_at + ms, now);
}

void
succession_postpone(struct supervisor *s, long long now, long long ms)
{
	postpone_step(&s->now, now, ms);
	postpone_step(&s->next, now, ms);
	if (s->outage_at != 0)
		s->outage_at = sooner(s->outage_at + ms, now + OUTAGE_MS);
}

/* ---- when that is to be looked at ----------------------------------------------------------- */

long long
succession_due(const struct supervisor *s)
{
	long long due = sooner(s->show_at, s->now.pid != 0 ? s->stuck.look_at : 0);

	if (s->state == STOPPING)
		return due;
	due = sooner(sooner(due, s->start_at), s->outage_at);
	due = sooner(due, limit_of(&s->now));
	if (is_watched(&s->now))
		due = sooner(due, s->pulse.look_at);
	return sooner(due, limit_of(&s->next));
}
