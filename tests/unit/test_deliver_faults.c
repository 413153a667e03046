/*
 * test_deliver_faults.c - from the outbox to handlers: what is not noted, who is gone, and what
 * is said of it all.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/cleanup.h"
#include "core/deliver.h"
#include "core/io.h"
#include "core/limits.h"
#include "tests/lib/childof.h"
#include "tests/unit/deliverbed.h"

/* ---- faults -------------------------------------------------------------------------------- */

static void
fault_of_the_catalogue_loses_nothing(void **state)
{
	struct bed *bed = *state;
	struct pollfd p;
	struct err err = { 0 };

	put_handler(bed, "one", "");
	add_event("AvailablePostfix", "a", 1);
	begin(bed);
	run_at(bed, NOW);
	fault = -EIO;
	p = (struct pollfd){ .fd = deliver_fd(bed->deliver), .events = POLLIN };
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(deliver_run(bed->deliver, NOW, &err), -EIO);
	assert_string_equal(err.text, "the catalogue is at fault");
	/* It is not asked again at once. */
	assert_int_equal(deliver_wait(bed->deliver, NOW), 10000);
	fault = 0;
	run_at(bed, NOW + 10);
	assert_int_equal(outbox[0].state[0], TAKEN);
	log_is(bed, "one AvailablePostfix a\n");
}

static void
end_of_the_runner_is_said_once(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };
	struct pollfd p;
	pid_t host;
	int n_failed;

	put_handler(bed, "one", "sleep 30");
	add_event("AvailablePostfix", "a", 1);
	begin(bed);
	run_at(bed, NOW);
	/* Its keeper first, which would start another one. */
	while ((host = child_of(runner_pid(bed->runner))) == 0)
		poll(NULL, 0, 1);
	kill(runner_pid(bed->runner), SIGKILL);
	kill(host, SIGKILL);
	p = (struct pollfd){ .fd = deliver_fd(bed->deliver), .events = POLLIN };
	/* The one that minds the handler has the socket, too, until it has ended the handler. */
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(deliver_run(bed->deliver, NOW, &err), -EPIPE);
	assert_int_equal(deliver_run(bed->deliver, NOW, &err), 0);
	assert_int_equal(deliver_fd(bed->deliver), -1);
	assert_int_equal(deliver_wait(bed->deliver, NOW), -1);
	assert_int_equal(outbox[0].state[0], WAITING);
	assert_int_equal(outbox[0].tries[0], 0);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
}

/* ---- what is said -------------------------------------------------------------------------- */

static void
output_is_escaped_and_cut(void **state)
{
	struct bed *bed = *state;
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err err = { 0 };
	char path[128];
	int n_failed, saved = dup(2), fd;

	put_handler(bed, "one",
		    "printf 'line\\033[2J\\0hidden\\n%s\\n' 'test: error: a forged line'\n"
		    "head -c 3000 /dev/zero | tr '\\0' x; echo; i=0\n"
		    "while [ $i -lt 100 ]; do i=$((i+1)); echo many $i; done; exit 1");
	add_event("AvailablePostfix", "a", 1);
	begin(bed);
	snprintf(path, sizeof(path), "%s/said", bed->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && dup2(fd, 2) == 2);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(dup2(saved, 2), 2);
	close(saved);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(io_read_to_end(fd, 1 << 20, &text), 0);
	close(fd);
	assert_non_null(strstr(buf_str(&text), "test: info: event handler 'one': "
					       "line\\x1B[2J\\x00hidden\n"));
	assert_null(strstr(buf_str(&text), "\ntest: error: a forged line"));
	assert_non_null(strstr(buf_str(&text), ": test: error: a forged line\n"));
	assert_in_range(text.len, 1000, 8000);
	assert_non_null(strstr(buf_str(&text), "wrote more, which is not logged"));
	for (const char *at = buf_str(&text); *at != '\0'; at += strcspn(at, "\n") + 1)
		assert_in_range(strcspn(at, "\n"), 1, LIMIT_LOG_LINE + 64);
}

static struct {
	int n, status;
	bool timed_out;
	char type[32], output[64];
} heard;

static void
hear(void *arg, const struct event_row *event, int status, bool timed_out, const char *output)
{
	assert_ptr_equal(arg, &heard);
	heard.n++;
	heard.status = status;
	heard.timed_out = timed_out;
	snprintf(heard.type, sizeof(heard.type), "%s", event->type);
	snprintf(heard.output, sizeof(heard.output), "%s", output);
}

static void
command_says_it_in_its_own_words(void **state)
{
	struct bed *bed = *state;
	struct deliver_config config = { .runner = bed->runner, .ended = hear, .arg = &heard };
	struct err err = { 0 };
	int n_failed;

	put_handler(bed, "one", "echo hello; exit 7");
	add_event("ExpirePrefix", "a", 1);
	begin_with(bed, &config);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(heard.n, 1);
	assert_int_equal(WEXITSTATUS(heard.status), 7);
	assert_false(heard.timed_out);
	assert_string_equal(heard.type, "ExpirePrefix");
	assert_string_equal(heard.output, "hello\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ROW("P21 what could not be noted is delivered again",
		    fault_of_the_catalogue_loses_nothing),
		ROW("the end of the runner is said once, and events wait",
		    end_of_the_runner_is_said_once),
		ROW("X03 what a handler writes is escaped, cut and bounded in the log",
		    output_is_escaped_and_cut),
		ROW("a command says what became of it in its own words",
		    command_says_it_in_its_own_words),
	};

	return cmocka_run_group_tests_name("deliver_faults", tests, NULL, NULL);
}
