/*
 * Whether the host's clock can be right (clock.h), as far as the engine goes by it.
 *
 * When it was last seen stands in the catalogue (note "clock_seen"), written down every
 * CLOCK_NOTE_S while it is good.  What is wrong is said once for each change of state, and stands
 * in the status as long as it lasts.  A clock that is ahead is believed in the end: after
 * CLOCK_TRUST_S of the monotonic clock.  A host or a worker may never run for so long at a time, so
 * that what has been counted stands in the catalogue, too (note "clock_ahead", every
 * CLOCK_AHEAD_NOTE_S), until the clock is good.
 */
#include "config.h"
#include "engine_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cleanup.h"
#include "io.h"
#include "stamp.h"

#define SEEN_NOTE "clock_seen"
#define AHEAD_NOTE "clock_ahead"

static int
newest_of(void *arg, const struct subscription_row *row)
{
	int64_t *newest = arg;

	if (row->created > *newest)
		*newest = row->created;
	return 0;
}

/* It was accepted when our clock said that it had been made already. */
static int64_t
newest_list(struct engine *e)
{
	int64_t newest = 0;

	(void)catalogue_subscription_each(e->catalogue, newest_of, &newest, NULL);
	return newest;
}

static int64_t
read_note(struct engine *e)
{
	CLEANUP_FREE char *text = catalogue_note_get(e->catalogue, SEEN_NOTE);
	long long seen = 0;
	char *end;

	if (text != NULL)
		seen = strtoll(text, &end, 10);
	return text != NULL && end != text && *end == '\0' && seen > 0 ? seen : 0;
}

/* One that cannot be written is written the next time. */
static void
write_note(struct engine *e, int64_t now)
{
	struct clock_watch *w = &e->clock;
	struct err err = { 0 };
	char text[32];

	if (now - w->noted < CLOCK_NOTE_S && now >= w->noted)
		return;
	snprintf(text, sizeof(text), "%" PRId64, now);
	if (catalogue_note_set(e->catalogue, SEEN_NOTE, text, &err) != 0)
		log_err(LOG_LVL_WARNING, "clock", &err);
	else
		w->noted = now;
}

static void
enter(struct engine *e, enum clock_state state, int64_t now, int64_t newest)
{
	struct clock_watch *w = &e->clock;
	struct err why = { 0 };

	if (w->state == state)
		return;
	w->state = state;
	if (clock_say(state, now, newest, w->seen, &why) != 0)
		log_err(LOG_LVL_WARNING, "clock", &why);
	else
		log_info("the clock of this host is as it was expected again");
	pthread_mutex_lock(&e->lock);
	e->status.clock = why;
	pthread_mutex_unlock(&e->lock);
}

/* ---- a clock that is ahead ------------------------------------------------------------------- */

static void
read_ahead_note(struct engine *e)
{
	CLEANUP_FREE char *text = catalogue_note_get(e->catalogue, AHEAD_NOTE);
	struct clock_watch *w = &e->clock;

	w->ahead_noted = -1;
	if (text == NULL || *text == '\0')
		return;
	clock_ahead_parse(text, &w->ahead);
	w->ahead_noted = w->ahead.seconds;
}

static void
write_ahead_note(struct engine *e, const char *text, int64_t seconds)
{
	struct err err = { 0 };

	if (catalogue_note_set(e->catalogue, AHEAD_NOTE, text, &err) != 0)
		log_err(LOG_LVL_WARNING, "clock", &err);
	else
		e->clock.ahead_noted = seconds;
}

/* True: it has been ahead for so long that it is believed. */
static bool
count_ahead(struct engine *e, int64_t now)
{
	struct clock_watch *w = &e->clock;
	long long ms = io_monotonic_ms();
	int64_t seconds = w->looked > 0 ? (ms - w->looked) / 1000 : 0;
	char text[CLOCK_AHEAD_BYTES];

	clock_ahead_count(&w->ahead, now, seconds);
	/* What is less than a second counts the next time. */
	w->looked = w->looked > 0 ? w->looked + seconds * 1000 : ms;
	if (w->ahead_noted < 0 || w->ahead.seconds < w->ahead_noted ||
	    w->ahead.seconds - w->ahead_noted >= CLOCK_AHEAD_NOTE_S) {
		clock_ahead_format(&w->ahead, text);
		write_ahead_note(e, text, w->ahead.seconds);
	}
	return clock_ahead_is_believed(&w->ahead);
}

static void
forget_ahead(struct engine *e)
{
	struct clock_watch *w = &e->clock;

	w->ahead = (struct clock_ahead){ 0, 0 };
	if (w->ahead_noted >= 0)
		write_ahead_note(e, "", -1);
}

static void
look(struct engine *e)
{
	struct clock_watch *w = &e->clock;
	int64_t now = stamp_now(), newest = newest_list(e);
	enum clock_state state = clock_judge(now, newest, w->seen);

	if (state != CLOCK_AHEAD)
		w->looked = 0;
	else if (count_ahead(e, now))
		state = CLOCK_GOOD;
	enter(e, state, now, newest);
	if (state != CLOCK_GOOD)
		return;
	w->seen = now;
	write_note(e, now);
	forget_ahead(e);
}

void
engine_clock_start(struct engine *e)
{
	e->clock.seen = e->clock.noted = read_note(e);
	read_ahead_note(e);
	look(e);
}

bool
engine_clock_is_good(struct engine *e)
{
	look(e);
	return e->clock.state == CLOCK_GOOD;
}
