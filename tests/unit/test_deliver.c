/*
 * test_deliver.c - from the outbox to handlers: which event is told to whom, and when.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/deliver.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/stamp.h"
#include "tests/unit/deliverbed.h"

/* ---- order and tries ----------------------------------------------------------------------- */

static void
step_until(struct bed *bed, size_t event, size_t h, int state, int64_t now)
{
	long long until = io_monotonic_ms() + WAIT_MS;

	while (outbox[event].state[h] != state && io_monotonic_ms() < until)
		step(bed, now);
	assert_int_equal(outbox[event].state[h], state);
}

static void
brings_events_in_order(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };
	int n_failed = -1;

	put_handler(bed, "one", "");
	add_event("ProcessPrefix", "", 1);
	add_event("AvailablePrefix", "a", 1);
	add_event("AvailablePostfix", "a", 1);
	add_event("ProcessPostfix", "", 1);
	begin(bed);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(n_failed, 0);
	for (size_t i = 0; i < n_events; i++)
		assert_int_equal(outbox[i].state[0], TAKEN);
	log_is(bed, "one ProcessPrefix\none AvailablePrefix a\none AvailablePostfix a\n"
		    "one ProcessPostfix\n");
	assert_int_equal(deliver_wait(bed->deliver, NOW), -1);
}

static void
never_waits_for_a_handler(void **state)
{
	struct bed *bed = *state;
	long long from;

	put_handler(bed, "one", "while [ ! -e go ]; do sleep 0.05; done");
	add_event("AvailablePostfix", "a", 1);
	add_event("AvailablePostfix", "b", 1);
	begin(bed);
	from = io_monotonic_ms();
	for (int i = 0; i < 100; i++)
		run_at(bed, NOW);
	assert_in_range(io_monotonic_ms() - from, 0, WAIT_MS);
	/* One at a time for a handler: the other event is not begun. */
	assert_int_equal(outbox[0].state[0], WAITING);
	put(bed, "go", "");
	step_until(bed, 1, 0, TAKEN, NOW);
	log_is(bed, "one AvailablePostfix a\none AvailablePostfix b\n");
}

static void
handlers_do_not_wait_for_each_other(void **state)
{
	struct bed *bed = *state;

	put_handler(bed, "one", "while [ ! -e go ]; do sleep 0.05; done");
	put_handler(bed, "two", "");
	put_handler(bed, "three", "exit 1");
	add_event("AvailablePostfix", "a", 3);
	add_event("AvailablePostfix", "b", 3);
	begin(bed);
	run_at(bed, NOW);
	step_until(bed, 1, 1, TAKEN, NOW);
	assert_int_equal(outbox[0].state[0], WAITING);
	put(bed, "go", "");
	step_until(bed, 1, 0, TAKEN, NOW);
	/* The third may end after the others. */
	while (outbox[0].tries[2] == 0)
		step(bed, NOW);
	assert_int_equal(outbox[0].state[2], WAITING);
}

static void
failed_event_is_tried_again(void **state)
{
	static const int waits[] = { 10, 20, 40, 80, 160, 320, 640, 1280, 1800 };
	const int n_waits = sizeof(waits) / sizeof(waits[0]);
	int i = 0;
	struct bed *bed = *state;
	int64_t now = stamp_now();

	put_handler(bed, "one", "echo out; echo 'it is down' >&2; exit 3");
	add_event("AvailablePostfix", "a", 1);
	add_event("ExpirePrefix", "a", 1);
	begin(bed);
	for (; i < n_waits; i++) {
		int64_t before = stamp_now();

		run_at(bed, now);
		while (outbox[0].tries[0] == i)
			step(bed, now);
		assert_in_range(outbox[0].next_try[0], before + waits[i], stamp_now() + waits[i]);
		assert_string_equal(outbox[0].error[0], "exit status 3: it is down");
		/* Not before its time, and what comes after it waits with it. */
		run_at(bed, outbox[0].next_try[0] - 1);
		assert_int_equal(deliver_wait(bed->deliver, outbox[0].next_try[0] - 1), 1000);
		assert_int_equal(outbox[1].tries[0], 0);
		now = outbox[0].next_try[0];
	}
	/* From here on each wait is the longest. */
	for (; i < LIMIT_EVENT_TRIES; i++) {
		assert_int_equal(outbox[0].state[0], WAITING);
		now += waits[n_waits - 1];
		run_at(bed, now);
		while (outbox[0].tries[0] == i)
			step(bed, now);
	}
	assert_int_equal(outbox[0].state[0], FAILED);
	/* Then it holds nothing back any more. */
	while (outbox[1].tries[0] == 0)
		step(bed, now);
}

static void
tries_of_all_are_over_when_all_are_told(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };
	int n_failed = -1;

	put_handler(bed, "one", "[ $VMCATCHER_EVENT_DC_IDENTIFIER != b ]");
	add_event("AvailablePostfix", "a", 1);
	add_event("AvailablePostfix", "b", 1);
	add_event("AvailablePostfix", "c", 1);
	begin(bed);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(n_failed, 1);
	assert_int_equal(outbox[0].state[0], TAKEN);
	assert_int_equal(outbox[1].state[0], WAITING);
	assert_int_equal(outbox[2].state[0], TAKEN);
}

static void
command_tells_its_own_handler(void **state)
{
	struct bed *bed = *state;
	struct deliver_config config = { .runner = bed->runner, .handler = 2 };
	struct err err = { 0 };
	int n_failed;

	config.setting.session = "of-the-run";
	put_handler(bed, "one", "");
	put_handler(bed, "two", "echo $VMCATCHER_EVENT_UUID_SESSION $VMCATCHER_EVENT_UUID >>log");
	add_event("AvailablePrefix", "a", 2);
	add_event("AvailablePostfix", "a", 2);
	begin_with(bed, &config);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	log_is(bed, "two AvailablePrefix a\nof-the-run uuid-1\ntwo AvailablePostfix a\n"
		    "of-the-run uuid-2\n");
	assert_int_equal(outbox[0].state[0], WAITING);
}

/* ---- directories --------------------------------------------------------------------------- */

static void
directories_come_first(void **state)
{
	struct bed *bed = *state;
	struct deliver_config config = { .runner = bed->runner, .dir = &dirs };
	struct err err = { 0 };
	int n_failed;

	put_handler(bed, "one", "");
	add_event("AvailablePostfix", "a", 1);
	add_event("AvailablePostfix", "bad", 1);
	dirs.fault = -ENOSPC;
	begin_with(bed, &config);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(n_failed, 1);
	log_is(bed, "one AvailablePostfix a\n");
	assert_string_equal(outbox[1].error[0], "the directories are at fault");
	assert_int_equal(dirs.n_prepared, 1);
	assert_int_equal(dirs.n_done, 1);
	assert_true(dirs.n_synced > 0);
}

static void
distrusted_image_is_not_announced(void **state)
{
	struct bed *bed = *state;
	struct deliver_config config = { .runner = bed->runner, .dir = &dirs };
	struct err err = { 0 };
	int n_failed;

	put_handler(bed, "one", "");
	add_event("AvailablePostfix", "bad", 1);
	add_event("ExpirePostfix", "a", 1);
	dirs.fault = -ESTALE;
	begin_with(bed, &config);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(n_failed, 0);
	log_is(bed, "one ExpirePostfix a\n");
	assert_int_equal(outbox[0].state[0], TAKEN);
}

static void
name_in_use_is_waited_for(void **state)
{
	struct bed *bed = *state;
	struct deliver_config config = { .runner = bed->runner, .dir = &dirs };
	struct err err = { 0 };
	int n_failed;

	put_handler(bed, "one", "sleep 0.2");
	put_handler(bed, "two", "");
	add_event("AvailablePostfix", "a", 1);
	add_event("AvailablePostfix", "bad", 0);
	outbox[1].state[1] = WAITING;
	dirs.fault = -EBUSY;
	begin_with(bed, &config);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(n_failed, 0);
	assert_int_equal(outbox[1].state[1], TAKEN);
	assert_int_equal(outbox[1].tries[1], 0);
	assert_int_equal(dirs.n_done, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ROW("events come to a handler in their order", brings_events_in_order),
		ROW("P20 nobody waits for a handler, and it has one event at a time",
		    never_waits_for_a_handler),
		ROW("handlers do not wait for each other", handlers_do_not_wait_for_each_other),
		ROW("P20 a failed event is tried again after 10 s, doubling, and holds back later "
		    "ones of its image until it is given up", failed_event_is_tried_again),
		ROW("telling all of it tries each event once",
		    tries_of_all_are_over_when_all_are_told),
		ROW("a command tells its own handler alone, in one session",
		    command_tells_its_own_handler),
		ROW("what a handler must find is made first, and without it it is not run",
		    directories_come_first),
		ROW("an image that is distrusted meanwhile is not announced",
		    distrusted_image_is_not_announced),
		ROW("a name that another handler is being told of is waited for",
		    name_in_use_is_waited_for),
	};

	return cmocka_run_group_tests_name("deliver", tests, NULL, NULL);
}
