/*
 * The control socket: how it is made, and what a client makes of its answers.  The daemon's part
 * is played by a thread that reads one request and writes one prepared answer.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cleanup.h"
#include "core/control.h"
#include "core/limits.h"
#include "tests/lib/callfaults.h"

struct bed {
	char dir[64];
	char run_dir[96];
	struct conf conf;
	int listener;
	/* The daemon that is played. */
	pthread_t thread;
	bool played;
	const char *answer;	/* NULL: end without a word */
	size_t repeat;		/* how often it is written */
	char request[LIMIT_CONTROL_LINE + 1];
};

static time_t passed_s;	/* of all clocks, while nobody waited */

int
clock_gettime(clockid_t clock, struct timespec *out)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, out);

	out->tv_sec += passed_s;
	return rc;
}

static int
setup(void **state)
{
	struct bed *bed = xcalloc(1, sizeof(*bed));

	passed_s = 0;
	snprintf(bed->dir, sizeof(bed->dir), "/tmp/test_control.XXXXXX");
	assert_non_null(mkdtemp(bed->dir));
	snprintf(bed->run_dir, sizeof(bed->run_dir), "%s/run", bed->dir);
	bed->conf.run_dir = bed->run_dir;
	bed->conf.mountpoint = bed->dir;
	bed->listener = -1;
	bed->repeat = 1;
	*state = bed;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *bed = *state;
	char path[128];

	if (bed->played)
		pthread_join(bed->thread, NULL);
	if (bed->listener >= 0)
		close(bed->listener);
	snprintf(path, sizeof(path), "%s/control", bed->run_dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/" CONTROL_MOUNTPOINT, bed->run_dir);
	unlink(path);
	rmdir(bed->run_dir);
	rmdir(bed->dir);
	free(bed);
	return 0;
}

static void
listen_here(struct bed *bed)
{
	struct err err = { 0 };

	bed->listener = control_listen(&bed->conf, geteuid(), getegid(), &err);
	if (bed->listener < 0)
		fail_msg("%s", err.text);
}

static void *
play(void *arg)
{
	struct bed *bed = arg;
	struct pollfd p = { .fd = bed->listener, .events = POLLIN };
	size_t len = 0;
	int fd;

	if (poll(&p, 1, 10000) != 1)
		return NULL;
	fd = accept(bed->listener, NULL, NULL);
	while (len < sizeof(bed->request) - 1 && memchr(bed->request, '\n', len) == NULL) {
		ssize_t n = read(fd, bed->request + len, sizeof(bed->request) - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	for (size_t i = 0; bed->answer != NULL && i < bed->repeat; i++)
		if (send(fd, bed->answer, strlen(bed->answer), MSG_NOSIGNAL) < 0)
			break;
	close(fd);
	return NULL;
}

static void
play_daemon(struct bed *bed, const char *answer, size_t repeat)
{
	listen_here(bed);
	bed->answer = answer;
	bed->repeat = repeat;
	assert_int_equal(pthread_create(&bed->thread, NULL, play, bed), 0);
	bed->played = true;
}

static int
collect(void *arg, const char *text)
{
	struct buf *b = arg;

	buf_puts(b, text);
	buf_putc(b, '|');
	return 0;
}

/* ---- making the socket ----------------------------------------------------------------------- */

static void
test_mode(void **state)
{
	struct bed *bed = *state;
	char path[128];
	struct stat st;

	listen_here(bed);
	snprintf(path, sizeof(path), "%s/control", bed->run_dir);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(stat(bed->run_dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
}

static void
test_long_path(void **state)
{
	struct bed *bed = *state;
	char deep[256], path[300];
	struct stat st;

	assert_int_equal(mkdir(bed->run_dir, 0755), 0);
	snprintf(deep, sizeof(deep), "%s/%0150d", bed->run_dir, 7);
	bed->conf.run_dir = deep;
	listen_here(bed);
	snprintf(path, sizeof(path), "%s/control", deep);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);
	rmdir(deep);
}

static void
test_stale(void **state)
{
	struct bed *bed = *state;

	listen_here(bed);
	close(bed->listener);	/* the file stays, as after a SIGKILL */
	bed->listener = -1;
	assert_int_equal(control_call(&bed->conf, "poke", NULL, NULL, NULL, NULL), -ENOTCONN);
	play_daemon(bed, "ok\n", 1);
	assert_int_equal(control_call(&bed->conf, "poke", NULL, NULL, NULL, NULL), 0);
}

static void
test_second(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };

	listen_here(bed);
	assert_true(control_listen(&bed->conf, geteuid(), getegid(), &err) < 0);
	assert_int_equal(err.code, CODE_BUSY);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void
test_no_daemon(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };

	assert_int_equal(control_call(&bed->conf, "status", NULL, NULL, NULL, &err), -ENOTCONN);
	assert_non_null(strstr(err.text, bed->run_dir));
	control_poke(&bed->conf);	/* returns, and says nothing */
}

static void
test_lines(void **state)
{
	struct bed *bed = *state;
	CLEANUP_BUF struct buf lines = BUF_INIT, ok = BUF_INIT;

	play_daemon(bed, "progress 1 10\nprogress 10 10\nok 7 files\n", 1);
	assert_int_equal(control_call(&bed->conf, "purge 0", collect, &lines, &ok, NULL), 0);
	assert_string_equal(buf_str(&lines), "progress 1 10|progress 10 10|");
	assert_string_equal(buf_str(&ok), "7 files");
	pthread_join(bed->thread, NULL);
	bed->played = false;
	assert_string_equal(bed->request, "purge 0\n");
}

static void
test_refusal(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };

	play_daemon(bed, "err 42 74 image 'x' has another digest\n", 1);
	assert_int_equal(control_call(&bed->conf, "fetch 00", NULL, NULL, NULL, &err), -74);
	assert_int_equal(err.code, CODE_DIGEST);
	assert_string_equal(err.text, "image 'x' has another digest");
}

static void
test_nonsense_refusal(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };

	play_daemon(bed, "err maybe\n", 1);
	assert_int_equal(control_call(&bed->conf, "reload", NULL, NULL, NULL, &err), -EIO);
	assert_int_equal(err.code, CODE_NONE);
}

static void
test_early_end(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };

	play_daemon(bed, "progress 1 10\nok", 1);
	assert_int_equal(control_call(&bed->conf, "fetch 00", NULL, NULL, NULL, &err), -ECONNRESET);
}

static void
test_endless_line(void **state)
{
	static char block[65537];
	struct bed *bed = *state;
	struct err err = { 0 };

	memset(block, 'x', sizeof(block) - 1);
	play_daemon(bed, block, 64);
	assert_true(control_call(&bed->conf, "status", NULL, NULL, NULL, &err) < 0);
	assert_int_equal(err.code, CODE_LIMIT);
}

static int
take_a_second(void *arg, const char *text)
{
	(void)text;
	passed_s++;
	++*(int *)arg;
	return 0;
}

/* All of it is there at once: nothing is waited for. */
static void
test_endless_answer(void **state)
{
	static const char line[] = "progress 1 10\n";
	struct bed *bed = *state;
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err err = { 0 };
	int n = 0;

	for (int i = 0; i < 1500; i++)
		buf_puts(&text, line);
	buf_puts(&text, "ok\n");
	play_daemon(bed, buf_str(&text), 1);
	assert_int_equal(control_call(&bed->conf, "status", take_a_second, &n, NULL, &err),
			 -ETIMEDOUT);
	assert_in_range(n, 60, 1499);
	pthread_join(bed->thread, NULL);
	bed->played = false;
}

static void
test_long_request(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };
	char request[LIMIT_CONTROL_LINE + 1];

	memset(request, 'x', sizeof(request) - 1);
	request[sizeof(request) - 1] = '\0';
	play_daemon(bed, NULL, 1);
	assert_true(control_call(&bed->conf, request, NULL, NULL, NULL, &err) < 0);
	assert_int_equal(err.code, CODE_LIMIT);
}

/* ---- with each call failing ------------------------------------------------------------------ */

enum { CALLS = FAULT_FILES | FAULT_PROCESS | FAULT_HERE };

static void
listen_with_faults(void **state)
{
	struct bed *bed = *state;
	bool struck = true;

	for (long n = 1; struck; n++) {
		struct err err = { 0 };
		int fd;

		fault_begin(CALLS, n, EIO);
		fd = control_listen(&bed->conf, geteuid(), getegid(), &err);
		struck = fault_end();
		if (fd < 0 && (!struck || err.text[0] == '\0'))
			fail_msg("call %ld (%s): '%s'", n, fault_name(), err.text);
		if (fd >= 0)
			close(fd);
		/* What it left is replaced as what a killed daemon left. */
		listen_here(bed);
		close(bed->listener);
		bed->listener = -1;
	}
}

static void
call_with_faults(void **state)
{
	struct bed *bed = *state;
	bool struck = true;

	for (long n = 1; struck; n++) {
		CLEANUP_BUF struct buf lines = BUF_INIT;
		struct err err = { 0 };
		int rc;

		memset(bed->request, 0, sizeof(bed->request));
		play_daemon(bed, "progress 1 2\nok\n", 1);
		fault_begin(CALLS, n, EIO);
		rc = control_call(&bed->conf, "fetch x", collect, &lines, NULL, &err);
		struck = fault_end();
		if (rc == 0)
			assert_string_equal(buf_str(&lines), "progress 1 2|");
		else if (!struck || err.text[0] == '\0')
			fail_msg("call %ld (%s): '%s'", n, fault_name(), err.text);
		/* The daemon may not have been asked at all. */
		if (rc != 0)
			shutdown(bed->listener, SHUT_RDWR);
		pthread_join(bed->thread, NULL);
		bed->played = false;
		close(bed->listener);
		bed->listener = -1;
	}
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("run_dir and the socket are made, the socket with mode 0660", test_mode),
		TEST("run_dir may be longer than a socket address", test_long_path),
		TEST("a socket that a killed daemon left is replaced", test_stale),
		TEST("P09 a second daemon on the same run_dir is refused with code 55",
		     test_second),
		TEST("no daemon is told apart from a daemon that refuses", test_no_daemon),
		TEST("the lines of an answer arrive before its end", test_lines),
		TEST("a refusal carries code, errno value and sentence", test_refusal),
		TEST("a refusal that makes no sense is an I/O error", test_nonsense_refusal),
		TEST("a daemon that ends before it answers is an error", test_early_end),
		TEST("a line of an answer without end is given up", test_endless_line),
		TEST("nor does a daemon that sends line after line hold a command for ever",
		     test_endless_answer),
		TEST("a request that is too long is never sent", test_long_request),
		TEST("the socket is made, or it is said why not, and then the next time",
		     listen_with_faults),
		TEST("a call is answered, or it is said why not", call_with_faults),
	};

	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
