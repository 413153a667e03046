/*
 * What is known of the workers so far: in run_dir/worker for everybody, and for the status that the
 * worker of now shows.
 */
#include "config.h"
#include "supervisor_impl.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/io.h"
#include "core/log.h"
#include "core/stamp.h"

enum { SHOW_AGAIN_MS = 1000 };

static enum worker_phase
phase_of(const struct supervisor *s)
{
	if (s->state == STOPPING)
		return WORKER_STOPPING;
	/* It was cut, or has died, and cannot end yet. */
	if (s->now.step == PROC_SERVING &&
	    (s->setup->connection->fd < 0 || stuck_is(&s->stuck, s->now.pid)))
		return WORKER_WAITING;
	if (s->now.step == PROC_SERVING && s->next.step != PROC_NONE)
		return WORKER_EXCHANGING;
	if (s->now.step == PROC_SERVING)
		return WORKER_SERVING;
	return s->now.pid == 0 && s->start_at != 0 ? WORKER_WAITING : WORKER_STARTING;
}

void
succession_show(struct supervisor *s)
{
	struct worker_state *w = &s->shown;
	enum worker_phase phase = phase_of(s);
	int rc;

	if (phase != w->phase || w->since == 0)
		w->since = stamp_now();
	w->phase = phase;
	w->supervisor = getpid();
	w->worker = s->now.pid;
	memcpy(w->version, s->now.version, sizeof(w->version));
	w->next_start = 0;
	if (phase == WORKER_WAITING && s->start_at != 0)
		w->next_start = stamp_now() + (s->start_at - io_monotonic_ms() + 999) / 1000;
	rc = worker_state_write(s->setup->conf->run_dir, w);
	if (rc != 0 && s->show_at == 0)
		log_warning("'%s/" WORKERSTATE_FILE "' cannot be written: %s",
			    s->setup->conf->run_dir, strerrordesc_np(-rc));
	s->show_at = rc != 0 ? io_monotonic_ms() + SHOW_AGAIN_MS : 0;
}

/* Commands believe what is there, and the next change may be months away. */
void
succession_show_again(struct supervisor *s)
{
	if (s->show_at != 0 && io_monotonic_ms() >= s->show_at)
		succession_show(s);
}

void
succession_keep_text(char to[WORKERSTATE_TEXT], const char *from)
{
	size_t len = strnlen(from, WORKERSTATE_TEXT - 1);

	memcpy(to, from, len);
	to[len] = '\0';
}

void
succession_describe(const struct supervisor *s, struct note *note)
{
	const struct worker_state *w = &s->shown;
	char stamp[STAMP_BYTES];

	note->rc = (int32_t)w->restarts;
	if (w->last_end == 0)
		return;
	stamp_format(w->last_end, stamp);
	snprintf(note->text, sizeof(note->text), "%s %s", stamp, w->last_cause);
}

void
succession_tell_history(const struct supervisor *s)
{
	struct note note;

	note_init(&note, NOTE_HISTORY);
	succession_describe(s, &note);
	workerproc_send(&s->now, &note, -1);
}
