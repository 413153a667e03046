/*
 * test_succession.c - what cannot be done now: an exchange that cannot begin is counted where who
 * asked for it looks; a mount that cannot be made anew is tried again with the next worker; a
 * program that was being tried when the worker died is not heard any more; a worker that hangs
 * before it serves is ended; how the worker is, is written later.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/buf.h"
#include "core/io.h"
#include "core/log.h"
#include "core/workerstate.h"
#include "fs/note.h"
#include "fs/supervisor_impl.h"

struct bed {
	char dir[40];
	struct conf conf;
	struct connection connection;
	struct mountpoint mountpoint;
	struct shared shared;
	struct supervisor_setup setup;
	struct supervisor s;
};

/* A daemon that serves. */
static int
begin(void **state)
{
	struct bed *bed = xcalloc(1, sizeof(*bed));

	log_open("test", false, LOG_LVL_ERROR);
	snprintf(bed->dir, sizeof(bed->dir), "/tmp/vmimagefs-unit.XXXXXX");
	assert_non_null(mkdtemp(bed->dir));
	bed->conf.run_dir = bed->dir;
	bed->connection.fd = -1;
	bed->setup.conf = &bed->conf;
	bed->mountpoint.path = bed->dir;
	bed->mountpoint.read_ahead = bed->mountpoint.abort = -1;
	bed->setup.connection = &bed->connection;
	bed->setup.mountpoint = &bed->mountpoint;
	bed->setup.shared = &bed->shared;
	bed->s.setup = &bed->setup;
	bed->s.state = SERVING;
	bed->s.now.step = PROC_SERVING;
	*state = bed;
	return 0;
}

static int
end(void **state)
{
	struct bed *bed = *state;

	worker_state_remove(bed->dir);
	assert_int_equal(rmdir(bed->dir), 0);
	free(bed);
	return 0;
}

static void
assert_refused(struct bed *bed)
{
	struct worker_state told;

	succession_exchange(&bed->s);
	assert_int_equal(worker_state_read(bed->dir, &told), 0);
	assert_int_equal(told.exchanges_refused, 1);
	assert_int_equal(told.exchanges, 0);
}

static void
while_another_is_tried(void **state)
{
	struct bed *bed = *state;

	bed->s.next.step = PROC_LOADING;
	assert_refused(bed);
}

static void
while_the_one_before_leaves(void **state)
{
	struct bed *bed = *state;

	bed->s.now.step = PROC_LEAVING;
	assert_refused(bed);
}

static void
before_the_mount_is_usable(void **state)
{
	struct bed *bed = *state;

	bed->s.state = PROBING;
	assert_refused(bed);
}

/* ---- a mount that cannot be made anew -------------------------------------------------------- */

static pid_t
start_sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);	/* a test that fails leaves it */
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	return pid;
}

static void
assert_was_killed(pid_t pid)
{
	int status = 0;

	kill(pid, SIGTERM);	/* if nobody has killed it */
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

/* The worker's note, which waits to be read.  Returns the worker's end. */
static int
say(struct workerproc *p, enum note_kind kind)
{
	struct note note;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	note_init(&note, kind);
	note_send(pair[0], &note, -1, false);
	p->notes = pair[1];
	return pair[0];
}

static void
forbid_files(struct rlimit *before)
{
	struct rlimit none = { 0, 0 };

	assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
	none.rlim_max = before->rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
}

/* A worker that is prepared after the connection was ended, while no file can be opened. */
static void
prepared_in_need(struct bed *bed)
{
	struct rlimit before;
	int theirs = say(&bed->s.now, NOTE_PREPARED);

	bed->s.now.step = PROC_PREPARING;
	bed->s.now.pid = start_sleeper();
	forbid_files(&before);
	succession_take_notes(&bed->s, &bed->s.now);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_was_killed(bed->s.now.pid);
	assert_int_equal(bed->s.state, SERVING);
	assert_int_equal(bed->s.now.why.rc, -EMFILE);
	close(theirs);
	close(bed->s.now.notes);
}

static void
while_files_are_short(void **state)
{
	struct bed *bed = *state;

	snprintf(bed->mountpoint.device, sizeof(bed->mountpoint.device), "0:0");
	prepared_in_need(bed);
}

static void
after_it_was_unmounted_by_ourselves(void **state)
{
	struct bed *bed = *state;

	bed->mountpoint.device[0] = '\0';
	prepared_in_need(bed);
}

/* ---- a worker that dies while another program is tried --------------------------------------- */

static void
program_that_is_tried_is_not_heard_any_more(void **state)
{
	struct bed *bed = *state;
	pid_t died = start_sleeper(), tried = start_sleeper();
	int theirs;

	kill(died, SIGKILL);
	assert_was_killed(died);
	bed->s.served = true;
	bed->s.now.pid = died;
	bed->s.now.notes = -1;
	bed->s.next.step = PROC_LOADING;
	bed->s.next.pid = tried;
	theirs = say(&bed->s.next, NOTE_LOADED);
	assert_true(succession_reaped(&bed->s, died, SIGKILL));
	assert_was_killed(tried);
	/* The one in its place is new. */
	bed->s.now.step = PROC_LOADING;
	succession_take_notes(&bed->s, &bed->s.next);
	assert_int_equal(bed->s.now.step, PROC_LOADING);
	assert_int_equal(bed->s.next.step, PROC_LOADING);
	assert_true(succession_reaped(&bed->s, tried, SIGKILL));
	assert_int_equal(bed->s.next.step, PROC_NONE);
	close(theirs);
}

static void
cause_is_told_of_the_worker_that_died(void **state)
{
	struct bed *bed = *state;
	pid_t died = start_sleeper(), tried = start_sleeper();
	struct worker_state told;

	kill(died, SIGKILL);
	assert_was_killed(died);
	bed->s.served = true;
	bed->s.now.pid = died;
	err_set(&bed->s.now.why, EIO, "the disk was full of eels");
	bed->s.next.step = PROC_LOADING;
	bed->s.next.pid = tried;
	bed->s.now.notes = bed->s.next.notes = -1;
	assert_true(succession_reaped(&bed->s, died, SIGKILL));
	assert_was_killed(tried);
	assert_true(succession_reaped(&bed->s, tried, SIGKILL));
	assert_int_equal(worker_state_read(bed->dir, &told), 0);
	assert_string_equal(told.last_cause, "the disk was full of eels");
	assert_string_equal(told.exchange, "the worker that it was to follow has died meanwhile");
	assert_int_equal(told.restarts, 1);
}

static void
cause_is_told_of_a_program_that_ends(void **state)
{
	struct bed *bed = *state;
	struct worker_state told;
	pid_t tried = start_sleeper();

	bed->s.served = true;
	bed->s.now.notes = bed->s.next.notes = -1;
	bed->s.next.step = PROC_LOADING;
	bed->s.next.pid = tried;
	kill(tried, SIGKILL);
	assert_was_killed(tried);
	assert_true(succession_reaped(&bed->s, tried, SIGKILL));
	assert_int_equal(worker_state_read(bed->dir, &told), 0);
	assert_string_equal(told.last_cause, "the program on disk could not take over: "
			    "the worker was ended by signal 9 (Killed)");
}

/* ---- a worker that hangs before it serves ---------------------------------------------------- */

/*
 * As if the supervisor had looked n times, each time after as long as it waits between two looks.
 */
static void
look(struct bed *bed, int n, bool lives)
{
	while (n-- > 0) {
		if (lives)
			atomic_fetch_add(&bed->shared.beats, 1);
		bed->s.pulse.look_at = 1;
		succession_run(&bed->s);
	}
}

/* It was loaded, and got the store; watchdog: as configured, in seconds.  Returns its end. */
static int
prepares(struct bed *bed, int watchdog)
{
	int theirs = say(&bed->s.now, NOTE_LOADED);

	bed->conf.watchdog = watchdog;
	bed->s.now.step = PROC_LOADING;
	bed->s.now.pid = start_sleeper();
	succession_take_notes(&bed->s, &bed->s.now);
	assert_int_equal(bed->s.now.step, PROC_PREPARING);
	return theirs;
}

static void
over(struct bed *bed, int theirs)
{
	kill(bed->s.now.pid, SIGTERM);
	waitpid(bed->s.now.pid, NULL, 0);
	close(theirs);
	close(bed->s.now.notes);
}

static void
hangs_while_it_prepares(void **state)
{
	struct bed *bed = *state;
	int theirs = prepares(bed, 120), status;
	long long look_at = bed->s.pulse.look_at;

	assert_in_range(look_at, io_monotonic_ms(), io_monotonic_ms() + 120000 / PULSE_LOOKS);
	assert_true(succession_due(&bed->s) == look_at);
	look(bed, 100, true);
	look(bed, PULSE_LOOKS - 1, false);
	assert_int_equal(waitpid(bed->s.now.pid, &status, WNOHANG), 0);
	look(bed, 1, false);
	assert_was_killed(bed->s.now.pid);
	assert_string_equal(bed->s.now.why.text, "the worker has shown no sign of life for 120 s");
	close(theirs);
	close(bed->s.now.notes);
}

static void
hangs_with_the_connection(void **state)
{
	struct bed *bed = *state;
	int theirs = prepares(bed, 120);

	bed->s.now.step = PROC_CONNECTED;
	look(bed, PULSE_LOOKS, false);
	assert_was_killed(bed->s.now.pid);
	close(theirs);
	close(bed->s.now.notes);
}

static void
may_wait_for_a_verifier(void **state)
{
	struct bed *bed = *state;
	int theirs = prepares(bed, 1);

	assert_in_range(bed->s.pulse.look_at, io_monotonic_ms() + 65000 / PULSE_LOOKS,
			io_monotonic_ms() + 120000 / PULSE_LOOKS);
	over(bed, theirs);
}

static void
is_not_watched_when_it_is_off(void **state)
{
	struct bed *bed = *state;
	int theirs = prepares(bed, 0);

	assert_int_equal(bed->s.pulse.look_at, 0);
	over(bed, theirs);
}

/* ---- a new program that hangs ---------------------------------------------------------------- */

enum { OLD_ONE_MS = 10000 };	/* what is left for the one before, of what readers wait */

/* Whether it is ended now. */
static bool
is_given_up(struct bed *bed)
{
	succession_run(&bed->s);
	return bed->s.now.why.rc == -ETIMEDOUT;
}

static void
new_program_that_hangs(void **state)
{
	struct bed *bed = *state;
	int theirs = prepares(bed, 120);
	long long due;

	bed->s.now.on_disk = true;
	due = succession_due(&bed->s);
	assert_in_range(due, 1, io_monotonic_ms() + OUTAGE_MS - OLD_ONE_MS);
	/* Time goes by, and it gets the connection: it gets no more for that. */
	bed->s.now.since -= OUTAGE_MS - OLD_ONE_MS;
	bed->s.now.turn_at -= OUTAGE_MS - OLD_ONE_MS;
	workerproc_enter(&bed->s.now, PROC_CONNECTED);
	assert_true(is_given_up(bed));
	assert_was_killed(bed->s.now.pid);
	/* It may not end at once. */
	assert_true(succession_due(&bed->s) == 0 || succession_due(&bed->s) > io_monotonic_ms());
	close(theirs);
}

static void
program_that_was_good_may_take_long(void **state)
{
	struct bed *bed = *state;
	int theirs = prepares(bed, 120);

	bed->s.now.since -= 3 * OUTAGE_MS;
	bed->s.now.turn_at -= 3 * OUTAGE_MS;
	assert_false(is_given_up(bed));
	over(bed, theirs);
}

/* ---- when the supervisor stood still --------------------------------------------------------- */

/* A worker has the connection; readers wait; nobody has looked for 100 s. */
static int
ready_meanwhile(struct bed *bed)
{
	int theirs = say(&bed->s.now, NOTE_HISTORY);
	struct note ready;

	note_init(&ready, NOTE_READY);
	note_send(theirs, &ready, -1, false);
	bed->s.served = true;
	bed->s.now.step = PROC_CONNECTED;
	bed->s.now.pid = start_sleeper();
	bed->s.now.since = io_monotonic_ms() - 100000;
	bed->s.outage_at = io_monotonic_ms() - 80000;
	return theirs;
}

static void
all_notes_come_before_deadlines(void **state)
{
	struct bed *bed = *state;
	int theirs = ready_meanwhile(bed);

	succession_take_notes(&bed->s, &bed->s.now);
	succession_run(&bed->s);
	assert_int_equal(bed->s.now.step, PROC_SERVING);
	assert_int_equal(bed->s.outage_at, 0);
	assert_int_equal(waitpid(bed->s.now.pid, NULL, WNOHANG), 0);
	over(bed, theirs);
}

static void
standstill_is_nobodys_time(void **state)
{
	struct bed *bed = *state;
	int theirs = ready_meanwhile(bed);
	long long now = io_monotonic_ms();

	bed->s.now.step = PROC_LOADING;
	succession_postpone(&bed->s, now, 99000);
	succession_run(&bed->s);
	assert_int_equal(waitpid(bed->s.now.pid, NULL, WNOHANG), 0);
	assert_in_range(bed->s.outage_at, now + 18000, now + 20000);
	/* It is over at some time. */
	bed->s.now.since -= 100000;
	succession_run(&bed->s);
	assert_was_killed(bed->s.now.pid);
	close(theirs);
}

static void
standstill_gives_no_more_than_all(void **state)
{
	struct bed *bed = *state;
	long long now = io_monotonic_ms();

	bed->s.now.since = bed->s.now.turn_at = now - 10;
	bed->s.outage_at = now + OUTAGE_MS - 10;
	succession_postpone(&bed->s, now, 3600000);
	assert_true(bed->s.now.since == now && bed->s.now.turn_at == now);
	assert_true(bed->s.outage_at == now + OUTAGE_MS);
	bed->s.outage_at = 0;
	succession_postpone(&bed->s, now, 3600000);
	assert_true(bed->s.outage_at == 0);
}

/* ---- a worker that a disk holds -------------------------------------------------------------- */

/* It was killed in the middle of its work, and is not gone, for as long as it is not waited for. */
static void
is_not_taken_for_one_that_tells_the_kernel(void **state)
{
	struct bed *bed = *state;
	siginfo_t info;
	int theirs, pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	bed->connection.fd = pair[0];
	bed->connection.resends = true;
	/* The one before was ended while it told something. */
	bed->shared.n_untold = 1;
	bed->shared.shown = 77;
	theirs = prepares(bed, 120);
	kill(bed->s.now.pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)bed->s.now.pid, &info, WEXITED | WNOWAIT), 0);
	for (int i = 0; i < 10; i++) {
		bed->s.stuck.look_at = 0;
		succession_run(&bed->s);
		assert_false(stuck_is(&bed->s.stuck, bed->s.now.pid));
	}
	assert_int_equal(bed->connection.fd, pair[0]);
	/* And this one knows that the kernel may lack something. */
	assert_int_equal(bed->shared.shown, 0);
	over(bed, theirs);
	close(pair[0]);
	close(pair[1]);
}

/* ---- the configuration changes while nobody serves ------------------------------------------- */

/* Whether the worker was told; its end of the socket. */
static bool
was_told_to_reload(int theirs)
{
	bool told = false;
	struct note note;
	int fd;

	while (note_receive(theirs, &note, &fd, false) == 1)
		told |= note.kind == NOTE_RELOAD;
	return told;
}

static void
reload_while_it_prepares(void **state)
{
	struct bed *bed = *state;
	int theirs = prepares(bed, 120);

	bed->s.served = true;
	succession_reload(&bed->s);
	assert_false(was_told_to_reload(theirs));
	close(bed->s.now.notes);
	close(theirs);
	theirs = say(&bed->s.now, NOTE_READY);
	bed->s.now.step = PROC_CONNECTED;
	succession_take_notes(&bed->s, &bed->s.now);
	assert_int_equal(bed->s.now.step, PROC_SERVING);
	assert_true(was_told_to_reload(theirs));
	over(bed, theirs);
}

static void
reload_while_another_is_tried(void **state)
{
	struct bed *bed = *state;
	int theirs = say(&bed->s.now, NOTE_HISTORY);
	struct note ready;

	bed->s.served = true;
	bed->s.next.step = PROC_LOADING;
	succession_reload(&bed->s);
	assert_true(was_told_to_reload(theirs));
	bed->s.next.step = PROC_NONE;	/* it is now */
	bed->s.now.step = PROC_CONNECTED;
	note_init(&ready, NOTE_READY);
	note_send(theirs, &ready, -1, false);
	succession_take_notes(&bed->s, &bed->s.now);
	assert_true(was_told_to_reload(theirs));
	succession_reload(&bed->s);
	assert_false(bed->s.reload_due);
	close(theirs);
	close(bed->s.now.notes);
}

/* ---- an exchange is asked for while nobody serves -------------------------------------------- */

static void
exchange_waits_for_a_worker(void **state)
{
	struct bed *bed = *state;
	int theirs = prepares(bed, 120);
	struct worker_state told;

	bed->s.served = true;
	bed->s.keeper_gone = true;	/* it comes to nothing, but it is tried */
	succession_exchange(&bed->s);
	succession_show(&bed->s);
	assert_int_equal(worker_state_read(bed->dir, &told), 0);
	assert_int_equal(told.exchanges, 0);
	assert_int_equal(told.exchanges_refused, 0);
	close(bed->s.now.notes);
	close(theirs);
	theirs = say(&bed->s.now, NOTE_READY);
	bed->s.now.step = PROC_CONNECTED;
	succession_take_notes(&bed->s, &bed->s.now);
	assert_int_equal(bed->s.now.step, PROC_SERVING);
	assert_int_equal(worker_state_read(bed->dir, &told), 0);
	assert_int_equal(told.exchanges, 1);
	assert_string_equal(told.exchange,
			    "no worker can be started any more: its keeper has ended");
	/* Once. */
	assert_false(bed->s.exchange_due);
	over(bed, theirs);
}

static void
while_the_new_one_prepares(void **state)
{
	struct bed *bed = *state;
	int theirs = prepares(bed, 120);

	bed->s.now.on_disk = true;
	assert_refused(bed);
	assert_false(bed->s.exchange_due);
	over(bed, theirs);
}

/* ---- run_dir/worker cannot be written -------------------------------------------------------- */

static int64_t
told_restarts(const struct bed *bed)
{
	struct worker_state told;

	assert_int_equal(worker_state_read(bed->dir, &told), 0);
	return told.restarts;
}

static void
is_written_later(void **state)
{
	struct bed *bed = *state;
	struct rlimit before;

	succession_show(&bed->s);
	bed->s.shown.restarts = 3;
	forbid_files(&before);
	succession_show(&bed->s);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(told_restarts(bed), 0);
	assert_in_range(succession_due(&bed->s), io_monotonic_ms(), io_monotonic_ms() + 2000);
	bed->s.state = STOPPING;
	assert_in_range(succession_due(&bed->s), io_monotonic_ms(), io_monotonic_ms() + 2000);
	bed->s.show_at = 1;
	succession_show_again(&bed->s);
	assert_int_equal(told_restarts(bed), 3);
	assert_int_equal(succession_due(&bed->s), 0);
}

#define TEST(title, fn) { title, fn, begin, end, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("P18 an exchange is refused while another program is tried",
		     while_another_is_tried),
		TEST("P18 and while the worker leaves", while_the_one_before_leaves),
		TEST("P18 and before the mount is usable", before_the_mount_is_usable),
		TEST("P18 and while the new program prepares itself", while_the_new_one_prepares),
		TEST("P18 one that is asked for while a worker is started begins when that one"
		     " serves", exchange_waits_for_a_worker),
		TEST("a mount that cannot be looked at for want of files is not given up for that",
		     while_files_are_short),
		TEST("nor is one that was unmounted to be made anew",
		     after_it_was_unmounted_by_ourselves),
		TEST("P18 the program that is tried when the worker dies does not displace the next"
		     " one", program_that_is_tried_is_not_heard_any_more),
		TEST("P18 the cause of that death is told, not that the other one was ended for it",
		     cause_is_told_of_the_worker_that_died),
		TEST("P18 of a program that ends by itself, its own",
		     cause_is_told_of_a_program_that_ends),
		TEST("I13 a worker that hangs while it prepares is ended, however long its work"
		     " takes", hangs_while_it_prepares),
		TEST("so is one that has the connection, and does not serve",
		     hangs_with_the_connection),
		TEST("with a short watchdog, too, it may wait for a verifier",
		     may_wait_for_a_verifier),
		TEST("with watchdog = off it is waited for", is_not_watched_when_it_is_off),
		TEST("P18 a new program that hangs leaves the one before time before readers give"
		     " up", new_program_that_hangs),
		TEST("P18 one that is known to be good may take longer",
		     program_that_was_good_may_take_long),
		TEST("P05 who was ready in time is not ended because nobody had looked",
		     all_notes_come_before_deadlines),
		TEST("P05 the time in which nobody looked is not counted",
		     standstill_is_nobodys_time),
		TEST("P05 but nobody gets more than if he began then",
		     standstill_gives_no_more_than_all),
		TEST("P07 what the one before was telling the kernel holds nobody after it",
		     is_not_taken_for_one_that_tells_the_kernel),
		TEST("a reload while a worker prepares is told it when it serves",
		     reload_while_it_prepares),
		TEST("and one while another program is tried to both",
		     reload_while_another_is_tried),
		TEST("how the worker is, is written later if it cannot be now", is_written_later),
	};

	return cmocka_run_group_tests_name("succession", tests, NULL, NULL);
}
