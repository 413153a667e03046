/*
 * When a process that has died is started again, and how the state of the worker is told.
 */
#include "config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/restarts.h"
#include "core/workerstate.h"

enum { CRASH = SIGSEGV, KILL = SIGKILL, FAILED = 1 << 8 };

static void
first_is_at_once(void **state)
{
	struct restarts r = { 0 };

	(void)state;
	assert_int_equal(restarts_wait(&r, CRASH, 10), 0);
}

static void
then_longer_each_time(void **state)
{
	static const long long waits[] = { 0, 1000, 2000, 4000, 8000, 16000, 30000, 30000 };
	struct restarts r = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
		assert_int_equal(restarts_wait(&r, i % 2 == 0 ? CRASH : FAILED, 100), waits[i]);
}

static void
health_forgives(void **state)
{
	struct restarts r = { 0 };

	(void)state;
	restarts_wait(&r, CRASH, 0);
	restarts_wait(&r, CRASH, 0);
	restarts_wait(&r, CRASH, 0);
	assert_int_equal(restarts_wait(&r, CRASH, RESTARTS_HEALTHY_MS), 0);
	assert_int_equal(restarts_wait(&r, CRASH, 0), 1000);
}

static void
who_was_killed_did_nothing_wrong(void **state)
{
	struct restarts r = { 0 };

	(void)state;
	for (int i = 0; i < 20; i++)
		assert_int_equal(restarts_wait(&r, KILL, RESTARTS_KILLED_MS), 0);
	assert_int_equal(restarts_wait(&r, KILL, RESTARTS_KILLED_MS - 1), 1000);
	assert_int_equal(restarts_wait(&r, KILL, 0), 2000);
}

static void
state_is_told_as_it_was_written(void **state)
{
	char dir[] = "/tmp/vmimagefs-unit.XXXXXX";
	struct worker_state out, in = {
		.phase = WORKER_WAITING, .supervisor = 17, .since = 1700000000, .restarts = 3,
		.last_end = 1700000001, .last_cause = "it fell: over\nits feet",
		.next_start = 1700000002, .exchanges = 2, .exchange = "done", .version = "1.2",
		.exchanges_refused = 4,
	};

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_not_equal(worker_state_read(dir, &out), 0);
	assert_int_equal(worker_state_write(dir, &in), 0);
	assert_int_equal(worker_state_write(dir, &in), 0);
	assert_int_equal(worker_state_read(dir, &out), 0);
	assert_true(worker_state_is_down(&out));
	assert_int_equal(out.supervisor, 17);
	assert_int_equal(out.worker, 0);
	assert_int_equal(out.restarts, 3);
	assert_int_equal(out.last_end, in.last_end);
	assert_int_equal(out.next_start, in.next_start);
	assert_null(strchr(out.last_cause, '\n'));
	assert_non_null(strstr(out.last_cause, "it fell: over"));
	assert_string_equal(out.exchange, "done");
	assert_int_equal(out.exchanges_refused, 4);
	assert_string_equal(out.version, "1.2");
	worker_state_remove(dir);
	assert_int_equal(rmdir(dir), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "P14 who dies for the first time is started again at once", first_is_at_once,
		  NULL, NULL, NULL },
		{ "P14 who dies again and again waits longer each time, 30 s at most",
		  then_longer_each_time, NULL, NULL, NULL },
		{ "P14 a minute of health is forgiven everything", health_forgives, NULL, NULL,
		  NULL },
		{ "P07 who was killed while it worked is started again at once, each time",
		  who_was_killed_did_nothing_wrong, NULL, NULL, NULL },
		{ "I19 the state of the worker is read as it was written",
		  state_is_told_as_it_was_written, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests_name("restarts", tests, NULL, NULL);
}
