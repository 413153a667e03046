/*
 * test_runner_ends.c - how event handlers end, and what becomes of them when the runner does.
 *
 * Time-outs are a second, so that what ignores TERM lives LIMIT_EVENT_KILL_SECONDS longer.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/runner.h"
#include "tests/lib/childof.h"
#include "tests/unit/runnerbed.h"

/* ---- what becomes of a handler ------------------------------------------------------------- */

static bool
exists(const struct bed *bed, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", bed->dir, name);
	return access(path, F_OK) == 0;
}

/* The number in a file that a handler writes; 0 if it does not come. */
static pid_t
read_pid(const struct bed *bed, const char *name)
{
	long long until = io_monotonic_ms() + WAIT_MS;
	char path[128];
	int pid = 0;

	snprintf(path, sizeof(path), "%s/%s", bed->dir, name);
	while (pid == 0 && io_monotonic_ms() < until) {
		FILE *f = fopen(path, "r");

		if (f == NULL || fscanf(f, "%d", &pid) != 1)
			usleep(10000);
		if (f != NULL)
			fclose(f);
	}
	return pid;
}

static bool
is_gone_within(pid_t pid, int ms)
{
	long long until = io_monotonic_ms() + ms;

	while (io_monotonic_ms() < until) {
		if (kill(pid, 0) != 0 && errno == ESRCH)
			return true;
		usleep(10000);
	}
	return false;
}

static void
exit_status_is_told(void **state)
{
	struct bed *bed = *state;
	struct result r;

	put_handler(bed, "echo said; echo complained >&2; exit 3");
	begin(bed, "", NULL);
	run(bed, "one", &r);
	exited(&r, 3);
	assert_string_equal(buf_str(&r.output), "said\ncomplained\n");
	buf_release(&r.output);
	put_handler(bed, "kill -SEGV $$");
	run(bed, "one", &r);
	assert_true(WIFSIGNALED(r.status));
	assert_int_equal(WTERMSIG(r.status), SIGSEGV);
	assert_false(r.timed_out);
	buf_release(&r.output);
}

static void
term_ends_it_at_its_time(void **state)
{
	struct bed *bed = *state;
	long long from = io_monotonic_ms();
	struct result r;

	put_handler(bed, "trap 'echo ended; exit 9' TERM; echo begun; "
		    "while :; do sleep 0.1; done");
	begin(bed, "event_timeout = 1s\n", NULL);
	run(bed, "one", &r);
	assert_true(r.timed_out);
	exited(&r, 9);
	says(&r, "begun\n");
	says(&r, "ended\n");
	assert_in_range(io_monotonic_ms() - from, 1000, WAIT_MS);
	buf_release(&r.output);
}

static void
kill_ends_what_ignores_term(void **state)
{
	struct bed *bed = *state;
	long long from = io_monotonic_ms(), took;
	struct result r;
	char script[512];
	pid_t child, apart;

	/* One in its group, and one that has left it and lost its parent. */
	snprintf(script, sizeof(script),
		 "trap '' TERM\nsleep 60 & echo $! >%s/child\n"
		 "(setsid sh -c 'trap \"\" TERM; echo $$ >%s/apart; sleep 60; sleep 60' &)\n"
		 "while :; do sleep 1; done", bed->dir, bed->dir);
	put_handler(bed, script);
	begin(bed, "event_timeout = 1s\n", NULL);
	run(bed, "one", &r);
	took = io_monotonic_ms() - from;
	assert_true(r.timed_out);
	assert_true(WIFSIGNALED(r.status));
	assert_int_equal(WTERMSIG(r.status), SIGKILL);
	assert_in_range(took, 1000 + LIMIT_EVENT_KILL_SECONDS * 1000, WAIT_MS);
	child = read_pid(bed, "child");
	apart = read_pid(bed, "apart");
	assert_true(child > 0 && apart > 0);
	assert_true(is_gone_within(child, WAIT_MS));
	assert_true(is_gone_within(apart, WAIT_MS));
	buf_release(&r.output);
}

static void
child_that_holds_the_pipe_holds_nobody_up(void **state)
{
	struct bed *bed = *state;
	long long from = io_monotonic_ms();
	struct result r;
	char script[256];
	pid_t child;

	snprintf(script, sizeof(script), "echo begun; sleep 60 & echo $! >%s/child; exit 0",
		 bed->dir);
	put_handler(bed, script);
	begin(bed, "event_timeout = 4s\n", NULL);
	run(bed, "one", &r);
	exited(&r, 0);
	assert_false(r.timed_out);
	assert_string_equal(buf_str(&r.output), "begun\n");
	assert_in_range(io_monotonic_ms() - from, 0, 3900);
	child = read_pid(bed, "child");
	/* It may go on, but not longer than the handler might have. */
	assert_int_equal(kill(child, 0), 0);
	assert_true(is_gone_within(child, WAIT_MS));
	assert_true(io_monotonic_ms() - from >= 3900);
	buf_release(&r.output);
}

static void
output_is_bounded(void **state)
{
	struct bed *bed = *state;
	struct result r;

	put_handler(bed, "echo first; head -c 1000000000 /dev/zero | tr '\\0' x; exit 4");
	begin(bed, "event_timeout = 60s\n", NULL);
	run(bed, "one", &r);
	exited(&r, 4);
	assert_int_equal(r.output.len, LIMIT_EVENT_OUTPUT);
	assert_memory_equal(r.output.data, "first\nxxxx", 10);
	buf_release(&r.output);
}

static void
closing_descriptors_is_harmless(void **state)
{
	struct bed *bed = *state;
	struct result r;

	put_handler(bed, "exec <&- >&- 2>&-; sleep 0.3; exit 5");
	begin(bed, "", NULL);
	run(bed, "one", &r);
	exited(&r, 5);
	assert_int_equal(r.output.len, 0);
	buf_release(&r.output);
}

/* ---- the end ------------------------------------------------------------------------------- */

static void
end_ends_what_runs(void **state)
{
	struct bed *bed = *state;
	long long from;
	char script[256];
	pid_t handler;

	snprintf(script, sizeof(script),
		 "trap 'touch %s/asked; exit 0' TERM; echo $$ >%s/pid; "
		 "while :; do sleep 0.1; done", bed->dir,
		 bed->dir);
	put_handler(bed, script);
	begin(bed, "", NULL);
	start(bed, "one");
	handler = read_pid(bed, "pid");
	assert_true(handler > 0);
	from = io_monotonic_ms();
	runner_free(bed->runner);
	bed->runner = NULL;
	assert_in_range(io_monotonic_ms() - from, 0, WAIT_MS);
	assert_true(exists(bed, "asked"));
	assert_int_equal(kill(handler, 0), -1);
}

static void
stop_is_told_of_by_nobody(void **state)
{
	struct bed *bed = *state;
	CLEANUP_BUF struct buf output = BUF_INIT;
	char script[256];
	pid_t handler;
	uint32_t id;
	bool timed_out;
	int status;

	snprintf(script, sizeof(script), "[ ! -e %s/pid ] || touch %s/second; echo $$ >%s/pid; "
		 "exec sleep 60", bed->dir, bed->dir, bed->dir);
	put_handler(bed, script);
	begin(bed, "", NULL);
	start(bed, "one");
	handler = read_pid(bed, "pid");
	assert_true(handler > 0);
	runner_stop(bed->runner);
	start(bed, "one");
	assert_true(is_gone_within(handler, WAIT_MS));
	buf_init(&output);
	assert_int_equal(runner_reap(bed->runner, &id, &status, &timed_out, &output), 0);
	runner_free(bed->runner);
	bed->runner = NULL;
	assert_false(exists(bed, "second"));
}

static void
killed_runner_takes_handlers_along(void **state)
{
	struct bed *bed = *state;
	struct buf output = BUF_INIT;
	char script[256];
	pid_t handler, host;
	uint32_t id = 0;
	bool timed_out;
	int status, rc;

	snprintf(script, sizeof(script), "echo $$ >%s/pid; sleep 60; :", bed->dir);
	put_handler(bed, script);
	begin(bed, "", NULL);
	start(bed, "one");
	handler = read_pid(bed, "pid");
	assert_true(handler > 0);
	host = child_of(runner_pid(bed->runner));
	assert_true(host > 0);
	kill(host, SIGKILL);
	assert_true(is_gone_within(handler, WAIT_MS));
	/* Another one is there, and says that nothing is left of what ran. */
	for (int i = 0; i < WAIT_MS / 10; i++) {
		rc = runner_reap(bed->runner, &id, &status, &timed_out, &output);
		if (rc != 0)
			break;
		poll(NULL, 0, 10);
	}
	assert_int_equal(rc, 1);
	assert_int_equal(id, RUNNER_ALL);
	buf_release(&output);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		NAMED("P20 exit status, signal and output of a handler are told",
		      exit_status_is_told),
		NAMED("P20 a handler whose time is over gets TERM", term_ends_it_at_its_time),
		NAMED("P20 a handler that ignores TERM is killed with its group and its orphans",
		      kill_ends_what_ignores_term),
		NAMED("P20 a child that holds the pipe holds nobody up and is ended in time",
		      child_that_holds_the_pipe_holds_nobody_up),
		NAMED("P20 of 1 GB of output the first 64 KiB are kept", output_is_bounded),
		NAMED("P20 a handler may close its descriptors", closing_descriptors_is_harmless),
		NAMED("the end of the runner ends what it runs, in bounded time",
		      end_ends_what_runs),
		NAMED("what is ended because the daemon ends is no failure",
		      stop_is_told_of_by_nobody),
		NAMED("P21 a runner that is killed takes its handlers along, and is forked again",
		      killed_runner_takes_handlers_along),
	};

	unsetenv("VMIMAGEFS_LIBEXECDIR");	/* or PATH would begin with it */
	return cmocka_run_group_tests_name("runner_ends", tests, NULL, NULL);
}
