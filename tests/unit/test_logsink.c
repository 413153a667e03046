/*
 * test_logsink.c - a log that is not read does not hold up who writes it.
 *
 * The readers are pipes, sockets and terminals of the test's own, and a syslogd of two lines.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <termios.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/io.h"
#include "core/log.h"
#include "core/logsink.h"

enum { WAIT_MS = 50, PATIENCE_MS = 5000, MANY = 100000 };

static char dir[] = "/tmp/test_logsink.XXXXXX";
static char path[64];

static int
setup(void **state)
{
	(void)state;
	memcpy(strrchr(dir, '.'), ".XXXXXX", 8);
	signal(SIGPIPE, SIG_IGN);
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/log", dir);
	logsink_open();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	logsink_close();
	unlink(path);
	return rmdir(dir);
}

/* ---- standard error -------------------------------------------------------------------------- */

/* How many lines are taken before one is not, which must be said in time. */
static int
fill(int fd)
{
	int n = 0;

	while (n < MANY && logsink_write(fd, "prog", "info", "a line of the log", n == 0 ? -1 : 0))
		n++;
	assert_in_range(n, 1, MANY - 1);
	return n;
}

static void
assert_given_up_in_time(int fd)
{
	long long begin = io_monotonic_ms();

	assert_false(logsink_write(fd, "prog", "info", "one more", WAIT_MS));
	assert_in_range(io_monotonic_ms() - begin, WAIT_MS - 10, PATIENCE_MS);
	begin = io_monotonic_ms();
	assert_false(logsink_write(fd, "prog", "info", "one more", 0));
	assert_in_range(io_monotonic_ms() - begin, 0, PATIENCE_MS);
}

static void
drain(int fd)
{
	char room[4096];

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	while (read(fd, room, sizeof(room)) > 0)
		;
}

static void
assert_holds_nobody_up(int reads, int writes)
{
	fill(writes);
	assert_given_up_in_time(writes);
	drain(reads);
	assert_true(logsink_write(writes, "prog", "info", "again", 0));
	close(reads);
	close(writes);
}

static void
does_not_wait_for_a_pipe(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_holds_nobody_up(fds[0], fds[1]);
}

static void
does_not_wait_for_a_socket(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_holds_nobody_up(fds[0], fds[1]);
}

static void
does_not_wait_for_a_terminal(void **state)
{
	int reads = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), writes;

	(void)state;
	assert_true(reads >= 0 && grantpt(reads) == 0 && unlockpt(reads) == 0);
	writes = open(ptsname(reads), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(writes >= 0);
	assert_int_equal(tcflow(writes, TCOOFF), 0);	/* ^S */
	assert_false(logsink_write(writes, "prog", "info", "one more", WAIT_MS));
	assert_int_equal(tcflow(writes, TCOON), 0);
	assert_true(logsink_write(writes, "prog", "info", "again", PATIENCE_MS));
	close(reads);
	close(writes);
}

static void
writes_files(void **state)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	(void)state;
	assert_true(logsink_write(fd, "prog", "error", "first", 0));
	assert_true(logsink_write(fd, "prog", NULL, "second", -1));
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(io_read_to_end(fd, 1000, &text), 0);
	assert_string_equal(buf_str(&text), "prog: error: first\nprog: second\n");
	close(fd);
}

static void
gives_up_without_a_reader(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[0]);
	assert_false(logsink_write(fds[1], "prog", "info", "one", -1));
	close(fds[1]);
	assert_false(logsink_write(fds[1], "prog", "info", "one", -1));
}

/* ---- syslog ---------------------------------------------------------------------------------- */

static int
listen_at(const char *name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", name);
	unlink(name);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

static const char *
received(int fd)
{
	static char line[2000];
	ssize_t n = recv(fd, line, sizeof(line) - 1, 0);

	line[n > 0 ? n : 0] = '\0';
	return line;
}

static void
writes_as_syslogd_expects(void **state)
{
	int fd = listen_at(path), priority, day, n = 0;
	char month[4], clock[9], rest[100], wanted[100];

	(void)state;
	assert_true(logsink_syslog(path, LOG_WARNING, "prog", "a fact: 50 %s", 0));
	assert_int_equal(sscanf(received(fd), "<%d>%3[A-Za-z] %d %8[0-9:] %99[^\n]%n", &priority,
				month, &day, clock, rest, &n), 5);
	assert_int_equal(priority, LOG_DAEMON | LOG_WARNING);
	assert_in_range(day, 1, 31);
	assert_int_equal(strlen(clock), 8);
	snprintf(wanted, sizeof(wanted), "prog[%ld]: a fact: 50 %%s", (long)getpid());
	assert_string_equal(rest, wanted);
	close(fd);
}

static void
finds_the_next_syslogd(void **state)
{
	int fd;

	(void)state;
	assert_false(logsink_syslog(path, LOG_INFO, "prog", "nobody", WAIT_MS));
	fd = listen_at(path);
	assert_true(logsink_syslog(path, LOG_INFO, "prog", "first", 0));
	assert_non_null(strstr(received(fd), "first"));
	close(fd);
	assert_false(logsink_syslog(path, LOG_INFO, "prog", "nobody", WAIT_MS));
	fd = listen_at(path);
	assert_true(logsink_syslog(path, LOG_INFO, "prog", "second", 0));
	assert_non_null(strstr(received(fd), "second"));
	close(fd);
}

static void
does_not_wait_for_syslogd(void **state)
{
	int fd = listen_at(path), n = 0;
	long long begin;

	(void)state;
	while (n < MANY && logsink_syslog(path, LOG_INFO, "prog", "a line", 0))
		n++;
	assert_in_range(n, 1, MANY - 1);
	begin = io_monotonic_ms();
	assert_false(logsink_syslog(path, LOG_INFO, "prog", "one more", WAIT_MS));
	assert_in_range(io_monotonic_ms() - begin, WAIT_MS - 10, PATIENCE_MS);
	assert_non_null(strstr(received(fd), "a line"));
	assert_true(logsink_syslog(path, LOG_INFO, "prog", "again", 0));
	close(fd);
}

static void
stays_apart_from_other_descriptors(void **state)
{
	int lowest;

	(void)state;
	logsink_close();
	lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
	close(lowest);
	logsink_open();
	assert_int_equal(open("/dev/null", O_RDONLY | O_CLOEXEC), lowest);
	close(lowest);
}

/* ---- the log --------------------------------------------------------------------------------- */

/* What a daemon logs while nobody reads: comes to an end, and later it is said what is missing. */
static void
says_what_is_missing(void **state)
{
	int fds[2], real = fcntl(2, F_DUPFD_CLOEXEC, 3), lost = -1;
	long long begin = io_monotonic_ms();
	CLEANUP_BUF struct buf text = BUF_INIT;
	const char *at;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	dup2(fds[1], 2);
	close(fds[1]);
	log_open("prog", false, LOG_LVL_INFO);
	log_never_wait();
	for (int i = 0; i < 10000; i++)
		log_info("line %d", i);
	drain(fds[0]);
	log_info("a line");
	log_info("another");
	dup2(real, 2);
	close(real);
	assert_in_range(io_monotonic_ms() - begin, 0, PATIENCE_MS);
	assert_true(fcntl(fds[0], F_SETFL, 0) == 0);
	assert_int_equal(io_read_to_end(fds[0], 10000, &text), 0);
	close(fds[0]);
	at = buf_str(&text);
	assert_int_equal(sscanf(at, "prog: warning: %d lines are missing here", &lost), 1);
	assert_in_range(lost, 1000, 9999);
	assert_non_null(strstr(at, "did not take them\nprog: info: a line\nprog: info: another\n"));
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("I13 a pipe that nobody reads is not waited for longer than asked",
		     does_not_wait_for_a_pipe),
		TEST("I13 nor is a socket", does_not_wait_for_a_socket),
		TEST("I13 nor is a terminal that was stopped", does_not_wait_for_a_terminal),
		TEST("lines to a file are there", writes_files),
		TEST("without a reader a line is given up at once", gives_up_without_a_reader),
		TEST("syslogd is told facility, priority, time, program and process",
		     writes_as_syslogd_expects),
		TEST("a syslogd that comes later, or again, is found", finds_the_next_syslogd),
		TEST("I13 a syslogd that does not read is not waited for longer than asked",
		     does_not_wait_for_syslogd),
		TEST("the log's socket takes no number that others may be given",
		     stays_apart_from_other_descriptors),
		TEST("I13 a daemon's log that nobody reads holds nobody up, and says later what is"
		     " missing", says_what_is_missing),
	};

	return cmocka_run_group_tests_name("logsink", tests, NULL, NULL);
}
