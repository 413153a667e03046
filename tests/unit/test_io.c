/*
 * test_io.c - reads and writes that finish or fail, files that are replaced whole, descriptors
 * that go through sockets.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/io.h"
#include "tests/lib/removetree.h"

struct bed {
	char path[32];
	int dir;
};

static int
setup(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));

	snprintf(b->path, sizeof(b->path), "/tmp/test_io.XXXXXX");
	if (mkdtemp(b->path) == NULL)
		return -1;
	b->dir = open(b->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = b;
	return b->dir < 0 ? -1 : 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	close(b->dir);
	remove_tree(b->path);
	free(b);
	return 0;
}

static void
put(const struct bed *b, const char *name, const char *text)
{
	int fd = openat(b->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static bool
exists(const struct bed *b, const char *name)
{
	struct stat st;

	return fstatat(b->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
assert_file(const struct bed *b, const char *name, const char *wanted)
{
	struct buf text = BUF_INIT;

	assert_int_equal(io_read_file(b->dir, name, 1 << 20, &text), 0);
	assert_string_equal(buf_str(&text), wanted);
	buf_release(&text);
}

/* ---- short counts, signals ------------------------------------------------------------------- */

enum { MUCH = 4 << 20, PIECE = 777 };

static void
on_alarm(int sig)
{
	(void)sig;
}

/* A signal without SA_RESTART every half millisecond. */
static void
alarm_often(bool on)
{
	struct itimerval timer = { { 0, on ? 500 : 0 }, { 0, on ? 500 : 0 } };
	struct sigaction action = { .sa_handler = on ? on_alarm : SIG_IGN };

	if (on)
		sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	if (!on)
		sigaction(SIGALRM, &action, NULL);
}

static unsigned char
byte_at(size_t i)
{
	return (unsigned char)(i * 2654435761u >> 24);
}

static void __attribute__((noreturn))
check_stream(int fd)
{
	unsigned char data[PIECE];
	size_t at = 0;
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		for (ssize_t i = 0; i < n; i++)
			if (data[i] != byte_at(at++))
				_exit(1);
	_exit(n == 0 && at == MUCH ? 0 : 2);
}

static void
writes_all_in_spite_of_signals(void **state)
{
	unsigned char *data = malloc(MUCH);
	int fds[2], status, rc;
	pid_t pid;

	(void)state;
	for (size_t i = 0; i < MUCH; i++)
		data[i] = byte_at(i);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		close(fds[1]);
		check_stream(fds[0]);
	}
	close(fds[0]);
	alarm_often(true);
	rc = io_write_all(fds[1], data, MUCH);
	close(fds[1]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	alarm_often(false);
	free(data);
	assert_int_equal(rc, 0);
	assert_int_equal(status, 0);
}

static void __attribute__((noreturn))
send_stream(int fd)
{
	unsigned char data[PIECE];

	for (size_t at = 0; at < MUCH;) {
		size_t n = MUCH - at < PIECE ? MUCH - at : PIECE;

		for (size_t i = 0; i < n; i++)
			data[i] = byte_at(at++);
		if (io_write_all(fd, data, n) != 0)
			_exit(1);
	}
	_exit(0);
}

static void
reads_all_in_spite_of_signals(void **state)
{
	unsigned char *data = malloc(MUCH + 1);
	ssize_t got, rest;
	int fds[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		send_stream(fds[1]);
	}
	close(fds[1]);
	alarm_often(true);
	got = io_read_full(fds[0], data, MUCH - 1);
	rest = io_read_full(fds[0], data + MUCH - 1, 2);
	alarm_often(false);
	close(fds[0]);
	waitpid(pid, NULL, 0);
	assert_int_equal(got, MUCH - 1);
	assert_int_equal(rest, 1);
	for (size_t i = 0; i < MUCH; i++)
		if (data[i] != byte_at(i))
			fail_msg("byte %zu differs", i);
	free(data);
}

static void
reads_and_writes_at_offsets(void **state)
{
	struct bed *b = *state;
	int fd = openat(b->dir, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char data[16] = "";

	assert_int_equal(io_pwrite_all(fd, "hello", 5, 3), 0);
	assert_int_equal(io_pread_full(fd, data, sizeof(data), 3), 5);
	assert_string_equal(data, "hello");
	assert_int_equal(io_pread_full(fd, data, sizeof(data), 0), 8);
	assert_int_equal(io_pread_full(fd, data, sizeof(data), 8), 0);
	assert_int_equal(io_pread_full(fd, data, sizeof(data), -1), -EINVAL);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	close(fd);
}

static void
says_what_failed(void **state)
{
	char byte;
	int fds[2];

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(io_read_full(fds[1], &byte, 1), -EBADF);
	assert_int_equal(io_pread_full(fds[0], &byte, 1, 0), -ESPIPE);
	assert_int_equal(io_pwrite_all(fds[1], "x", 1, 0), -ESPIPE);
	close(fds[0]);
	assert_int_equal(io_write_all(fds[1], "x", 1), -EPIPE);
	close(fds[1]);
	fds[0] = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_int_equal(io_write_all(fds[0], "x", 1), -ENOSPC);
	assert_int_equal(io_write_all(fds[0], "x", 0), 0);
	close(fds[0]);
}

static void
reads_to_the_end_or_a_bound(void **state)
{
	struct bed *b = *state;
	struct buf text = BUF_INIT;
	char data[40000];
	int fd;

	memset(data, 'x', sizeof(data) - 1);
	data[sizeof(data) - 1] = '\0';
	put(b, "f", data);
	fd = openat(b->dir, "f", O_RDONLY | O_CLOEXEC);
	buf_puts(&text, "before ");
	assert_int_equal(io_read_to_end(fd, sizeof(data) - 1, &text), 0);
	assert_int_equal(text.len, 7 + sizeof(data) - 1);
	assert_int_equal(strncmp(text.data, "before xxx", 10), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(io_read_to_end(fd, sizeof(data) - 2, &text), -EFBIG);
	close(fd);
	buf_release(&text);
}

/* ---- whole files ----------------------------------------------------------------------------- */

static void
reads_regular_files_alone(void **state)
{
	struct bed *b = *state;
	struct buf text = BUF_INIT;

	put(b, "f", "12345");
	assert_int_equal(symlinkat("f", b->dir, "link"), 0);
	assert_int_equal(mkdirat(b->dir, "dir", 0700), 0);
	assert_int_equal(mkfifoat(b->dir, "fifo", 0600), 0);
	assert_int_equal(symlinkat("/dev/zero", b->dir, "zero"), 0);
	assert_int_equal(io_read_file(b->dir, "f", 5, &text), 0);
	assert_string_equal(buf_str(&text), "12345");
	assert_int_equal(io_read_file(b->dir, "f", 4, &text), -EFBIG);
	assert_int_equal(io_read_file(b->dir, "none", 5, &text), -ENOENT);
	assert_int_equal(io_read_file(b->dir, "link", 5, &text), -ELOOP);
	assert_int_equal(io_read_file(b->dir, "zero", 5, &text), -ELOOP);
	assert_int_equal(io_read_file(b->dir, "dir", 5, &text), -EINVAL);
	assert_int_equal(io_read_file(b->dir, "fifo", 5, &text), -EINVAL);
	assert_int_equal(io_read_file(AT_FDCWD, "/dev/zero", 5, &text), -EINVAL);
	assert_string_equal(buf_str(&text), "12345");
	buf_release(&text);
}

static void
replaces_a_file_whole(void **state)
{
	struct bed *b = *state;
	struct stat st;

	umask(077);
	assert_int_equal(io_replace_file(b->dir, "f", 0640, "one", 3), 0);
	assert_file(b, "f", "one");
	assert_int_equal(io_replace_file(b->dir, "f", 0604, "second", 6), 0);
	assert_file(b, "f", "second");
	assert_int_equal(io_replace_file(b->dir, "f", 0604, "", 0), 0);
	assert_file(b, "f", "");
	assert_int_equal(fstatat(b->dir, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0604);
	assert_false(exists(b, "f.new"));
}

/* While it is replaced again and again, every look finds one version, whole. */
static void
shows_old_or_new(void **state)
{
	enum { LEN = 20000, ROUNDS = 300 };
	struct bed *b = *state;
	char *data = malloc(LEN);
	int status = 0, looks = 0;
	pid_t pid;

	memset(data, 'A', LEN);
	assert_int_equal(io_replace_file(b->dir, "f", 0600, data, LEN), 0);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < ROUNDS; i++) {
			memset(data, 'A' + i % 26, LEN);
			if (io_replace_file(b->dir, "f", 0600, data, LEN) != 0)
				_exit(1);
		}
		_exit(0);
	}
	do {
		struct buf text = BUF_INIT;

		assert_int_equal(io_read_file(b->dir, "f", LEN, &text), 0);
		assert_int_equal(text.len, LEN);
		assert_memory_equal(text.data, text.data + 1, LEN - 1);
		buf_release(&text);
		looks++;
	} while (waitpid(pid, &status, WNOHANG) == 0);
	free(data);
	assert_int_equal(status, 0);
	assert_true(looks > 1);
}

/* Each writes its own letter, so a mixture would show. */
static void
lets_writers_take_turns(void **state)
{
	enum { LEN = 5000, WRITERS = 4, ROUNDS = 50 };
	struct bed *b = *state;
	struct buf text = BUF_INIT;
	char data[LEN];

	for (int w = 0; w < WRITERS; w++) {
		if (fork() > 0)
			continue;
		memset(data, 'a' + w, LEN);
		for (int i = 0; i < ROUNDS; i++)
			if (io_replace_file(b->dir, "f", 0600, data, LEN) != 0)
				_exit(1);
		_exit(0);
	}
	for (int w = 0; w < WRITERS; w++) {
		int status = -1;

		wait(&status);
		assert_int_equal(status, 0);
	}
	assert_int_equal(io_read_file(b->dir, "f", LEN, &text), 0);
	assert_int_equal(text.len, LEN);
	assert_memory_equal(text.data, text.data + 1, LEN - 1);
	assert_false(exists(b, "f.new"));
	buf_release(&text);
}

static void
leaves_the_old_file_on_failure(void **state)
{
	struct bed *b = *state;

	put(b, "f", "old");
	/* The new name is a directory, a link: nothing is written through it. */
	assert_int_equal(mkdirat(b->dir, "f.new", 0700), 0);
	assert_int_equal(io_replace_file(b->dir, "f", 0600, "new", 3), -EISDIR);
	assert_int_equal(unlinkat(b->dir, "f.new", AT_REMOVEDIR), 0);
	put(b, "victim", "untouched");
	assert_int_equal(symlinkat("victim", b->dir, "f.new"), 0);
	assert_int_equal(io_replace_file(b->dir, "f", 0600, "new", 3), -ELOOP);
	assert_file(b, "victim", "untouched");
	assert_file(b, "f", "old");
	assert_int_equal(unlinkat(b->dir, "f.new", 0), 0);
	/* The name cannot be taken: what was written goes. */
	assert_int_equal(mkdirat(b->dir, "d", 0700), 0);
	assert_int_equal(io_replace_file(b->dir, "d", 0600, "new", 3), -EISDIR);
	assert_false(exists(b, "d.new"));
	assert_int_equal(io_replace_file(b->dir, "none/f", 0600, "new", 3), -ENOENT);
}

/* A file may have ten bytes: the eleventh is refused, as a full disk refuses it. */
static void
takes_back_half_a_file(void **state)
{
	struct rlimit few = { 10, RLIM_INFINITY }, before;
	struct bed *b = *state;
	int rc;

	put(b, "f", "old");
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	setrlimit(RLIMIT_FSIZE, &few);
	rc = io_replace_file(b->dir, "f", 0600, "much too long", 13);
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(rc, -EFBIG);
	assert_file(b, "f", "old");
	assert_false(exists(b, "f.new"));
}

static void
creates_only_what_is_new(void **state)
{
	struct bed *b = *state;

	assert_int_equal(io_create_file(b->dir, "f", 0600, "one", 3), 0);
	assert_int_equal(io_create_file(b->dir, "f", 0600, "two", 3), -EEXIST);
	assert_file(b, "f", "one");
	assert_false(exists(b, "f.new"));
	assert_int_equal(symlinkat("nowhere", b->dir, "link"), 0);
	assert_int_equal(io_create_file(b->dir, "link", 0600, "two", 3), -EEXIST);
	assert_false(exists(b, "nowhere"));
}

static void
drops_what_a_crash_left(void **state)
{
	struct bed *b = *state;
	int fd;

	put(b, "f", "old");
	put(b, "f.new", "half of i");
	io_drop_stale(b->dir, "f");
	assert_false(exists(b, "f.new"));
	assert_file(b, "f", "old");
	io_drop_stale(b->dir, "f");
	/* One that a living process writes is locked, and stays. */
	put(b, "f.new", "half of i");
	fd = openat(b->dir, "f.new", O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	io_drop_stale(b->dir, "f");
	assert_true(exists(b, "f.new"));
	close(fd);
	/* What is left is written over. */
	assert_int_equal(io_replace_file(b->dir, "f", 0600, "new", 3), 0);
	assert_file(b, "f", "new");
	assert_int_equal(mkfifoat(b->dir, "f.new", 0600), 0);
	io_drop_stale(b->dir, "f");
	assert_true(exists(b, "f.new"));
}

/* ---- descriptors and time -------------------------------------------------------------------- */

static void
passes_descriptors(void **state)
{
	int socks[2], pipes[2], got[2] = { -1, -1 };
	size_t n = 2;
	char data[16] = "";

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(io_send_fds(socks[0], "hello", 6, pipes, 2), 0);
	assert_int_equal(io_recv_fds(socks[1], data, sizeof(data), got, &n), 6);
	assert_string_equal(data, "hello");
	assert_int_equal(n, 2);
	assert_true((fcntl(got[0], F_GETFD) & FD_CLOEXEC) != 0);
	close(pipes[0]);
	assert_int_equal(write(got[1], "x", 1), 1);
	assert_int_equal(read(got[0], data, 1), 1);
	close(pipes[1]);
	close(got[0]);
	close(got[1]);
	n = 2;
	assert_int_equal(io_send_fds(socks[0], "plain", 5, NULL, 0), 0);
	assert_int_equal(io_recv_fds(socks[1], data, sizeof(data), got, &n), 5);
	assert_int_equal(n, 0);
	close(socks[0]);
	n = 2;
	assert_int_equal(io_recv_fds(socks[1], data, sizeof(data), got, &n), 0);
	assert_int_equal(io_send_fds(socks[1], "x", 1, NULL, 0), -EPIPE);
	close(socks[1]);
}

static int
count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Descriptors that nobody asked for are closed, not leaked. */
static void
closes_unwanted_descriptors(void **state)
{
	int socks[2], sent[8], got[1], before;
	size_t n = 1;
	char data[4];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), 0);
	for (size_t i = 0; i < 8; i++)
		sent[i] = socks[0];
	before = count_fds();
	assert_int_equal(io_send_fds(socks[0], "x", 1, sent, 8), 0);
	assert_int_equal(io_recv_fds(socks[1], data, sizeof(data), got, &n), 1);
	assert_int_equal(n, 1);
	assert_int_equal(count_fds(), before + 1);
	close(got[0]);
	assert_int_equal(io_send_fds(socks[0], "x", 1, sent, 8), 0);
	assert_int_equal(io_recv_fds(socks[1], data, sizeof(data), NULL, NULL), 1);
	assert_int_equal(count_fds(), before);
	assert_int_equal(io_send_fds(socks[0], "x", 1, sent, 9), -EINVAL);
	close(socks[0]);
	close(socks[1]);
}

static void
waits_for_a_full_socket(void **state)
{
	int socks[2], rc;
	char data[4];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, socks), 0);
	while ((rc = io_send_fds(socks[0], "x", 1, NULL, 0)) == 0)
		;
	assert_int_equal(rc, -EAGAIN);
	assert_int_equal(io_send_fds_wait(socks[0], "x", 1, NULL, 0, 20), -ETIMEDOUT);
	while (recv(socks[1], data, sizeof(data), 0) > 0)
		;
	assert_int_equal(io_send_fds_wait(socks[0], "x", 1, NULL, 0, 20), 0);
	close(socks[0]);
	close(socks[1]);
}

/* In a child with each set of 0, 1 and 2 closed. */
static void
fills_the_standard_descriptors(void **state)
{
	(void)state;
	for (int closed = 0; closed < 8; closed++) {
		int status = -1;
		pid_t pid = fork();

		if (pid == 0) {
			struct stat null, st;
			int before, bad = 0;

			stat("/dev/null", &null);
			for (int fd = 0; fd < 3; fd++)
				if ((closed >> fd & 1) != 0)
					close(fd);
			before = count_fds();
			io_fill_std_fds();
			for (int fd = 0; fd < 3; fd++) {
				bad |= fstat(fd, &st) != 0;
				bad |= (closed >> fd & 1) != 0 && st.st_rdev != null.st_rdev;
			}
			bad |= count_fds() != before + __builtin_popcount((unsigned)closed);
			_exit(bad);
		}
		waitpid(pid, &status, 0);
		assert_int_equal(status, 0);
	}
}

static void
counts_milliseconds(void **state)
{
	struct timespec pause = { 0, 20000000 };
	long long from = io_monotonic_ms(), took;

	(void)state;
	nanosleep(&pause, NULL);
	took = io_monotonic_ms() - from;
	assert_in_range(took, 19, 20000);
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("signals and short counts cut no write short", writes_all_in_spite_of_signals),
		TEST("signals and short counts cut no read short", reads_all_in_spite_of_signals),
		TEST("reads and writes at an offset leave the file's own alone",
		     reads_and_writes_at_offsets),
		TEST("a failed read or write says why", says_what_failed),
		TEST("more than the bound is refused, not read", reads_to_the_end_or_a_bound),
		TEST("S20 only a regular file is read: no link, directory, FIFO or device",
		     reads_regular_files_alone),
		TEST("a replaced file has the new text and mode", replaces_a_file_whole),
		TEST("a file that is being replaced is the old or the new one, whole",
		     shows_old_or_new),
		TEST("processes that replace one file take turns", lets_writers_take_turns),
		TEST("X04 a file that cannot be replaced stays, and no link is followed",
		     leaves_the_old_file_on_failure),
		TEST("B01 what was half written is taken away again", takes_back_half_a_file),
		TEST("a file that must be new replaces nothing", creates_only_what_is_new),
		TEST("what a crash left beside a file is dropped, what is being written stays",
		     drops_what_a_crash_left),
		TEST("descriptors pass through a socket, close-on-exec", passes_descriptors),
		TEST("descriptors that nobody wants are closed", closes_unwanted_descriptors),
		TEST("a full socket is waited for, but not for ever", waits_for_a_full_socket),
		TEST("P24 closed standard descriptors become /dev/null",
		     fills_the_standard_descriptors),
		TEST("K04 deadlines are milliseconds of a clock that nobody sets",
		     counts_milliseconds),
	};

	return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
