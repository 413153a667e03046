/*
 * test_supervisor.c - the life of a mount until it is usable: it is tried, and given up if it does
 * not answer.
 *
 * Everything around the supervisor is played by this file: a worker that is ready at once, a mount
 * whose statfs answers or does not, and a clock that is as late as what is waited for.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/io.h"
#include "core/log.h"
#include "core/sandbox.h"
#include "fs/supervisor_impl.h"

enum { PATIENCE_MS = 20000, HALT_MS = 300000 };

static struct {
	bool silent, no_process;	/* the mount; the machine */
	bool halts;			/* the machine, for minutes, once */
	long long passed_ms;		/* while nobody did anything */
	long long forgiven_ms;
	int n_unmounts;
	bool serving;
	pid_t probe;
	struct supervisor *supervisor;
} world;

/* ---- time, processes, the mount ------------------------------------------------------------ */

int
clock_gettime(clockid_t clock, struct timespec *out)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, out);

	out->tv_sec += world.passed_ms / 1000;
	return rc;
}

/* Where nothing will come, the time is over at once. */
int
poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec t = { .tv_sec = world.silent ? 0 : PATIENCE_MS / 1000 };
	int rc;

	if (world.halts) {
		world.halts = false;
		world.passed_ms += HALT_MS;
		return 0;
	}
	if (world.silent)
		t.tv_nsec = 1000000;
	rc = (int)syscall(SYS_ppoll, fds, n, &t, NULL, 0);
	if (rc == 0) {
		assert_true(timeout >= 0);	/* or it would wait for ever */
		world.passed_ms += timeout + 1000;
	}
	return rc;
}

pid_t
fork(void)
{
	if (world.no_process) {
		errno = EAGAIN;
		return -1;
	}
	world.probe = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	return world.probe;
}

int
statfs(const char *path, struct statfs *out)
{
	(void)path;
	(void)out;
	while (world.silent)
		pause();
	return 0;
}

int
mountpoint_unmount(struct mountpoint *m, struct err *err)
{
	(void)m;
	(void)err;
	world.n_unmounts++;
	return 0;
}

void
mountpoint_cut(const struct mountpoint *m)
{
	(void)m;
}

int
connection_begin(struct connection *c, struct shared *shared, struct err *err)
{
	(void)c;
	(void)shared;
	(void)err;
	return 0;
}

void
connection_end(struct connection *c)
{
	(void)c;
}

/* ---- sandbox, keepers ---------------------------------------------------------------------- */

int
sandbox_become_user(uid_t uid, gid_t gid, struct err *err)
{
	(void)uid;
	(void)gid;
	(void)err;
	return 0;
}

int
sandbox_enter(enum sandbox_role role, const struct sandbox_path *paths, size_t n,
	      unsigned *missing, struct err *err)
{
	(void)role;
	(void)paths;
	(void)n;
	(void)err;
	*missing = 0;
	return 0;
}

void
sandbox_describe_missing(unsigned missing, struct buf *out)
{
	(void)missing;
	(void)out;
}

void
runner_stop(const struct runner *r)
{
	(void)r;
}

pid_t
runner_pid(const struct runner *r)
{
	(void)r;
	return 0;
}

pid_t
starter_pid(const struct starter *s)
{
	(void)s;
	return 0;
}

/* ---- a worker that is ready at once -------------------------------------------------------- */

void
succession_init(struct supervisor *s)
{
	s->now.notes = s->next.notes = -1;
	world.supervisor = s;
}

void
succession_begin(struct supervisor *s)
{
	supervisor_ready(s);
}

bool
succession_is_over(const struct supervisor *s)
{
	(void)s;
	return true;
}

int
succession_watched(const struct supervisor *s)
{
	(void)s;
	return -1;
}

/* A worker is looked at once a second. */
long long
succession_due(const struct supervisor *s)
{
	(void)s;
	return world.halts ? io_monotonic_ms() + 1000 : 0;
}

void
succession_postpone(struct supervisor *s, long long now, long long ms)
{
	(void)s;
	assert_in_range(now, HALT_MS, io_monotonic_ms());
	world.forgiven_ms += ms;
}

bool
succession_reaped(struct supervisor *s, pid_t pid, int status)
{
	(void)s;
	(void)pid;
	(void)status;
	return false;
}

void
succession_release(struct supervisor *s)
{
	(void)s;
}

void
succession_run(struct supervisor *s)
{
	(void)s;
}

void
succession_show_again(struct supervisor *s)
{
	(void)s;
}

void
succession_end(struct supervisor *s)
{
	(void)s;
}

void
succession_cut(struct supervisor *s)
{
	(void)s;
}

void
succession_exchange(struct supervisor *s)
{
	(void)s;
}

void
succession_take_notes(struct supervisor *s, struct workerproc *p)
{
	(void)s;
	(void)p;
}

void
succession_reload(struct supervisor *s)
{
	(void)s;
}

void
workerproc_tell(const struct workerproc *p, enum note_kind kind)
{
	(void)p;
	(void)kind;
}

void
workerproc_kill(const struct workerproc *p)
{
	(void)p;
}

/* ---- tests --------------------------------------------------------------------------------- */

/* The mount is usable, and ends at once. */
static void
serve(void *arg)
{
	(void)arg;
	world.serving = true;
	supervisor_stop(world.supervisor);
}

static int
run(struct err *err)
{
	struct mountpoint mountpoint = { .path = (char[]){ "/of the test" } };
	struct connection connection = { .fd = -1 };
	const struct supervisor_setup setup = {
		.mountpoint = &mountpoint, .connection = &connection, .serving = serve,
	};
	int rc;

	supervisor_block_signals();
	rc = supervisor_run(&setup, err);
	if (world.probe > 0) {
		kill(world.probe, SIGKILL);
		while (waitpid(world.probe, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return rc;
}

static int
begin(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	log_open("test", false, LOG_LVL_ERROR);
	return 0;
}

static void
mount_that_answers(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_int_equal(run(&err), 0);
	assert_true(world.serving);
}

static void
mount_that_does_not(void **state)
{
	struct err err = { 0 };

	(void)state;
	world.silent = true;
	assert_int_equal(run(&err), -EIO);
	assert_string_equal(err.text, "the mount on '/of the test' does not answer");
	assert_false(world.serving);
	assert_true(world.n_unmounts > 0);
	assert_in_range(world.passed_ms, 30000, 180000);
}

static void
mount_while_the_machine_stands_still(void **state)
{
	struct err err = { 0 };

	(void)state;
	world.halts = true;
	assert_int_equal(run(&err), 0);
	assert_true(world.serving);
	assert_in_range(world.forgiven_ms, HALT_MS - 1000, HALT_MS + PATIENCE_MS);
}

static void
mount_that_cannot_be_tried(void **state)
{
	struct err err = { 0 };

	(void)state;
	world.no_process = true;
	assert_int_equal(run(&err), -EAGAIN);
	assert_non_null(strstr(err.text, "no process to try the mount with"));
	assert_false(world.serving);
}

#define TEST(title, fn) { title, fn, begin, NULL, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a mount that answers is usable", mount_that_answers),
		TEST("a mount that does not answer when it is tried is given up",
		     mount_that_does_not),
		TEST("P05 but not for the time in which the whole machine stood still",
		     mount_while_the_machine_stands_still),
		TEST("so is a mount that cannot be tried", mount_that_cannot_be_tried),
	};

	return cmocka_run_group_tests_name("supervisor", tests, NULL, NULL);
}
