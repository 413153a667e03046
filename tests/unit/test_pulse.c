/*
 * test_pulse.c - when a worker is taken for one that hangs, and what is a sign of life.
 */
#include "config.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "fs/pulse.h"

enum { LIMIT_MS = 8000, LOOK_MS = LIMIT_MS / PULSE_LOOKS, PATIENCE_MS = 20000 };

/* ---- the supervisor's side ------------------------------------------------------------------- */

static void
is_silent_after_its_time(void **state)
{
	struct pulsewatch w;
	long long now = 1000;

	(void)state;
	pulsewatch_begin(&w, 7, now, LIMIT_MS);
	for (; now < 1000 + LIMIT_MS; now += 100)
		assert_false(pulsewatch_is_silent(&w, 7, now, LIMIT_MS));
	assert_true(pulsewatch_is_silent(&w, 7, now, LIMIT_MS));
	/* It is said once, until as long has passed again. */
	for (; now < 1000 + 2 * LIMIT_MS; now += 100)
		assert_false(pulsewatch_is_silent(&w, 7, now, LIMIT_MS));
	assert_true(pulsewatch_is_silent(&w, 7, now, LIMIT_MS));
}

static void
one_beat_is_enough(void **state)
{
	struct pulsewatch w;
	unsigned beats = 4294967295U;	/* the number may begin anew */

	(void)state;
	pulsewatch_begin(&w, beats, 0, LIMIT_MS);
	for (long long now = 0; now < 100 * LIMIT_MS; now += LOOK_MS) {
		if (now % (LIMIT_MS - LOOK_MS) == 0)
			beats++;
		assert_false(pulsewatch_is_silent(&w, beats, now, LIMIT_MS));
	}
}

static void
machine_that_stood_still_is_no_silence(void **state)
{
	struct pulsewatch w;
	long long now = 1000;

	(void)state;
	pulsewatch_begin(&w, 7, now, LIMIT_MS);
	now += 1000LL * LIMIT_MS;
	assert_false(pulsewatch_is_silent(&w, 7, now, LIMIT_MS));
	for (int i = 1; i < PULSE_LOOKS - 1; i++)
		assert_false(pulsewatch_is_silent(&w, 7, now += LOOK_MS, LIMIT_MS));
	assert_false(pulsewatch_is_silent(&w, 8, now += LOOK_MS, LIMIT_MS));
}

static void
nobody_is_watched_when_it_is_off(void **state)
{
	struct pulsewatch w;

	(void)state;
	pulsewatch_begin(&w, 7, 0, 0);
	for (long long now = 0; now < 1000LL * LIMIT_MS; now += LIMIT_MS)
		assert_false(pulsewatch_is_silent(&w, 7, now, 0));
	assert_int_equal(w.look_at, 0);
}

/* ---- the worker's ---------------------------------------------------------------------------- */

static bool
lives(void *arg)
{
	return atomic_load((atomic_bool *)arg);
}

static bool
beats_in_time(atomic_uint *beats, unsigned before)
{
	long long until = io_monotonic_ms() + PATIENCE_MS;

	while (atomic_load(beats) == before && io_monotonic_ms() < until)
		poll(NULL, 0, 10);
	return atomic_load(beats) != before;
}

static void
beats_while_it_lives(void **state)
{
	atomic_uint beats = 41;
	atomic_bool living = true;
	struct pulse *p = pulse_start(&beats, lives, &living);
	unsigned before;

	(void)state;
	assert_true(beats_in_time(&beats, 41));
	assert_true(beats_in_time(&beats, 42));
	atomic_store(&living, false);
	poll(NULL, 0, 1100);		/* one may be on its way */
	before = atomic_load(&beats);
	poll(NULL, 0, 1500);
	assert_int_equal(atomic_load(&beats), before);
	atomic_store(&living, true);
	assert_true(beats_in_time(&beats, before));
	pulse_stop(p);
	before = atomic_load(&beats);
	poll(NULL, 0, 1100);
	assert_int_equal(atomic_load(&beats), before);
}

/* Whether it comes to that: threads begin and end their work when they can. */
static bool
will(struct pulsework *w, bool go_on)
{
	long long until = io_monotonic_ms() + PATIENCE_MS;

	while (pulsework_goes_on(w) != go_on && io_monotonic_ms() < until)
		poll(NULL, 0, 10);
	return io_monotonic_ms() < until;
}

enum { WAITS, WORKS };

struct busy {
	atomic_int wish;
	struct pulsework work;
	atomic_bool begun;
	int bell[2];
};

static void *
be_busy(void *arg)
{
	struct busy *b = arg;
	char byte;

	pulsework_init(&b->work);
	atomic_store(&b->begun, true);
	while (read(b->bell[0], &byte, 1) == 1)
		while (atomic_load(&b->wish) == WORKS)
			;
	return NULL;
}

static void
prepares_while_it_works(void **state)
{
	struct busy b = { .wish = WAITS };
	pthread_t thread;

	(void)state;
	assert_int_equal(pipe(b.bell), 0);
	assert_int_equal(pthread_create(&thread, NULL, be_busy, &b), 0);
	while (!atomic_load(&b.begun))
		poll(NULL, 0, 1);
	assert_true(will(&b.work, false));
	atomic_store(&b.wish, WORKS);
	assert_int_equal(write(b.bell[1], "", 1), 1);
	for (int i = 0; i < 3; i++)
		assert_true(will(&b.work, true));
	atomic_store(&b.wish, WAITS);
	assert_true(will(&b.work, false));
	close(b.bell[1]);
	pthread_join(thread, NULL);
	close(b.bell[0]);
	pulsework_release(&b.work);
}

static bool
goes_on_with(const char *stat)
{
	struct pulsework w;
	bool goes_on;

	pulsework_init(&w);
	close_keep_errno(w.stat);
	w.stat = memfd_create("stat", MFD_CLOEXEC);
	assert_true(w.stat >= 0);
	assert_int_equal(write(w.stat, stat, strlen(stat)), strlen(stat));
	w.clock = (clockid_t)-1;		/* no time passes */
	goes_on = pulsework_goes_on(&w);
	pulsework_release(&w);
	return goes_on;
}

static void
prepares_while_a_disk_has_it(void **state)
{
	(void)state;
	assert_true(goes_on_with("12 (vmi-worker) D 1 12 12 0 -1 4194560 1\n"));
	assert_true(goes_on_with("12 (a) S (b) D 1\n"));
	assert_false(goes_on_with("12 (a) D (b) S 1\n"));
	assert_false(goes_on_with("12 (vmi-worker) S 1 12 12 0 -1 4194560 1\n"));
	assert_false(goes_on_with(""));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		{ .name = "I13 a worker that shows no sign of life for its whole time is noticed",
		  .test_func = is_silent_after_its_time },
		{ .name = "one sign of life in that time is enough",
		  .test_func = one_beat_is_enough },
		{ .name = "a machine that stood still is no worker that hangs",
		  .test_func = machine_that_stood_still_is_no_silence },
		{ .name = "with watchdog = off nobody is watched",
		  .test_func = nobody_is_watched_when_it_is_off },
		{ .name = "a worker shows that it lives, and only then",
		  .test_func = beats_while_it_lives },
		{ .name = "I13 a worker that prepares shows life while it works, and not while it"
			  " waits",
		  .test_func = prepares_while_it_works },
		{ .name = "and while a disk has it", .test_func = prepares_while_a_disk_has_it },
	};

	return cmocka_run_group_tests_name("pulse", tests, NULL, NULL);
}
