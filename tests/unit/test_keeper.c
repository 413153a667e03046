/*
 * test_keeper.c - executing workers: whose answer is whose, and what is said if it cannot be done.
 *
 * The keeper's process is played by this file, without user and sandbox of core/starter.c; what it
 * serves is the real one.  The worker is this program again, which writes its number to the socket
 * of its notes.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/kept.h"
#include "fs/keeper.h"
#include "fs/note.h"

enum { PATIENCE_MS = 20000 };

struct bed {
	char path[64];
	struct conf *conf;
	struct keeper *keeper;
	struct starter *starter;
	int notes[2];
	struct err err;
};

/* ---- time, and the keeper's process -------------------------------------------------------- */

static bool hurry;			/* nobody is waited for */
static pid_t asleep;			/* goes on when somebody is waited for */
static pid_t keeper;

int
poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec t = { .tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000L };

	if (hurry)
		t = (struct timespec){ 0, 0 };
	else if (asleep > 0)
		kill(asleep, SIGCONT);
	return (int)syscall(SYS_ppoll, fds, n, timeout < 0 ? NULL : &t, NULL, 0);
}

static bool
is_of_duty(const struct kept *duty, int fd)
{
	for (size_t i = 0; i < duty->n_fds; i++)
		if (duty->fds[i] == fd)
			return true;
	return false;
}

int
starter_new_kept(struct starter **out, const struct conf *conf, const struct kept *duty,
		 struct err *err)
{
	(void)conf;
	(void)err;
	*out = NULL;
	keeper = fork();
	if (keeper == 0) {
		struct pollfd p = { .fd = duty->fds[0], .events = POLLIN };

		for (int fd = 3; fd < 64; fd++)
			if (!is_of_duty(duty, fd))
				close(fd);
		while (poll(&p, 1, -1) == 1 && duty->serve(duty->arg))
			;
		_exit(0);
	}
	return 0;
}

/* ---- the bed ------------------------------------------------------------------------------- */

static int
setup(void **state)
{
	const struct options options = { .foreground = true };
	struct bed *b = calloc(1, sizeof(*b));
	int fd;

	snprintf(b->path, sizeof(b->path), "/tmp/test_keeper.XXXXXX");
	fd = mkstemp(b->path);
	assert_true(fd >= 0 && fchmod(fd, 0644) == 0);
	assert_int_equal(write(fd, "user = nobody\n", 14), 14);
	close(fd);
	if (conf_load(b->path, &b->conf, &b->err) != 0 ||
	    keeper_new(&b->keeper, &b->starter, b->conf, &options, &b->err) != 0)
		fail_msg("%s", b->err.text);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	keeper_free(b->keeper);
	assert_int_equal(waitpid(keeper, NULL, 0), keeper);
	conf_free(b->conf);
	unlink(b->path);
	free(b);
	return 0;
}

/* As the supervisor does it; *pid is what it is told. */
static int
start(struct bed *b, pid_t *pid)
{
	int fds[N_WORKER_FDS], rc;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, b->notes), 0);
	for (int i = 0; i < N_WORKER_FDS; i++)
		fds[i] = -1;
	fds[WORKER_FD_NOTES] = b->notes[1];
	rc = keeper_start(b->keeper, KEEPER_GOOD, fds, pid, &b->err);
	close(b->notes[1]);
	return rc;
}

/* The number of the process that has our notes, when it has ended. */
static pid_t
worker_of(struct bed *b)
{
	struct pollfd p = { .fd = b->notes[0], .events = POLLIN };
	pid_t pid = 0;
	int status;

	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
	assert_int_equal(read(b->notes[0], &pid, sizeof(pid)), sizeof(pid));
	close(b->notes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return pid;
}

/* ---- tests --------------------------------------------------------------------------------- */

static void
answer_names_our_child(void **state)
{
	struct bed *b = *state;
	pid_t pid = 0;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(start(b, &pid), 0);
		assert_int_equal(pid, worker_of(b));
	}
}

static void
late_answer_is_no_other(void **state)
{
	struct bed *b = *state;
	pid_t pid = 0;
	int status;

	kill(keeper, SIGSTOP);
	assert_int_equal(waitpid(keeper, &status, WUNTRACED), keeper);
	hurry = true;
	assert_int_equal(start(b, &pid), -ETIMEDOUT);
	assert_int_equal(start(b, &pid), -ETIMEDOUT);
	hurry = false;
	asleep = keeper;
	assert_int_equal(start(b, &pid), 0);
	asleep = 0;
	assert_int_equal(pid, worker_of(b));
	/* Those that nobody waits for any more. */
	assert_true(waitpid(-1, &status, 0) > 0);
	assert_true(waitpid(-1, &status, 0) > 0);
}

static void
failure_is_explained(void **state)
{
	struct rlimit few = { 16, 16 };
	struct bed *b = *state;
	struct note note;
	int fd, status;
	pid_t pid = 0;

	assert_int_equal(prlimit(keeper, RLIMIT_NOFILE, &few, NULL), 0);
	assert_int_equal(start(b, &pid), 0);
	assert_int_equal(note_receive(b->notes[0], &note, &fd, true), 1);
	assert_int_equal(note.kind, NOTE_FAILED);
	assert_int_equal(note.rc, -EMFILE);
	assert_non_null(strstr(note.text, "cannot be executed: Too many open files"));
	close(b->notes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 127);
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST("a worker is a child of its supervisor, which is told its number",
		     answer_names_our_child),
		TEST("an answer of the keeper that comes late is to no other request",
		     late_answer_is_no_other),
		TEST("P12 a worker that cannot be executed for want of descriptors says so",
		     failure_is_explained),
	};
	pid_t pid = getpid();

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && strncmp(argv[1], WORKER_ARGUMENT, strlen(WORKER_ARGUMENT)) == 0)
		return write(WORKER_FD_FIRST + WORKER_FD_NOTES, &pid, sizeof(pid)) < 0 &&
		       errno != EPIPE;
	return cmocka_run_group_tests_name("keeper", tests, NULL, NULL);
}
