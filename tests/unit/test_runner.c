/*
 * test_runner.c - the process that runs event handlers.
 *
 * Handlers are shell scripts in an event_dir of the test's own.  Time-outs are a second, so that
 * what ignores TERM lives LIMIT_EVENT_KILL_SECONDS longer.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/cleanup.h"
#include "core/conf.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/runner.h"
#include "core/runner_impl.h"

enum { WAIT_MS = 20000 };

struct bed {
	char dir[64];
	struct conf *conf;
	struct runner *runner;
};

struct result {
	int status;
	bool timed_out;
	struct buf output;
};

/* ---- the bed --------------------------------------------------------------------------------- */

static void
put(const struct bed *bed, const char *name, const char *text, mode_t mode)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", bed->dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void
put_handler(const struct bed *bed, const char *script)
{
	char text[4096];

	snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", script);
	put(bed, "handlers/one", text, 0755);
}

static void
configure(const struct bed *bed, const char *lines)
{
	char text[1024];

	snprintf(text, sizeof(text), "user = nobody\nevent_dir = %s/handlers\n%s", bed->dir, lines);
	put(bed, "x.conf", text, 0644);
}

static void
begin(struct bed *bed, const char *lines, const char *command)
{
	char path[128];
	struct err err = { 0 };

	configure(bed, lines);
	snprintf(path, sizeof(path), "%s/x.conf", bed->dir);
	if (conf_load(path, &bed->conf, &err) != 0 ||
	    runner_new(&bed->runner, bed->conf, command, &err) != 0)
		fail_msg("%s", err.text);
}

static int
setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	char path[128];

	snprintf(bed->dir, sizeof(bed->dir), "/tmp/test_runner.XXXXXX");
	if (mkdtemp(bed->dir) == NULL || chmod(bed->dir, 01777) != 0)
		return -1;
	snprintf(path, sizeof(path), "%s/handlers", bed->dir);
	*state = bed;
	return mkdir(path, 0755);
}

static int
teardown(void **state)
{
	struct bed *bed = *state;
	pid_t pid;

	runner_free(bed->runner);
	conf_free(bed->conf);
	pid = fork();
	if (pid == 0) {
		execlp("rm", "rm", "-rf", bed->dir, (char *)NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
	free(bed);
	return 0;
}

/* ---- running --------------------------------------------------------------------------------- */

static uint32_t
start_with(struct bed *bed, const char *name, const char *variables, size_t len, const char *record)
{
	CLEANUP_BUF struct buf v = BUF_INIT, r = BUF_INIT;
	struct err err = { 0 };
	uint32_t id = 0;

	buf_add(&v, variables, len);
	buf_puts(&r, record);
	if (runner_start(bed->runner, name, &v, &r, &id, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_not_equal(id, 0);
	return id;
}

static uint32_t
start(struct bed *bed, const char *name)
{
	return start_with(bed, name, "", 0, "{}\n");
}

static uint32_t
reap_any(struct bed *bed, struct result *r)
{
	struct pollfd p = { .fd = runner_fd(bed->runner), .events = POLLIN };
	uint32_t id = 0;
	int rc;

	buf_init(&r->output);
	while ((rc = runner_reap(bed->runner, &id, &r->status, &r->timed_out, &r->output)) == 0)
		if (poll(&p, 1, WAIT_MS) != 1)
			fail_msg("no word of the runner");
	assert_int_equal(rc, 1);
	return id;
}

static void
reap(struct bed *bed, uint32_t id, struct result *r)
{
	assert_int_equal(reap_any(bed, r), id);
}

static void
run(struct bed *bed, const char *name, struct result *r)
{
	reap(bed, start(bed, name), r);
}

static void
says(const struct result *r, const char *part)
{
	if (strstr(buf_str(&r->output), part) == NULL)
		fail_msg("'%s' does not say '%s'", buf_str(&r->output), part);
}

static void
says_not(const struct result *r, const char *part)
{
	if (strstr(buf_str(&r->output), part) != NULL)
		fail_msg("'%s' says '%s'", buf_str(&r->output), part);
}

static void
exited(const struct result *r, int status)
{
	if (!WIFEXITED(r->status) || WEXITSTATUS(r->status) != status)
		fail_msg("status %x, not exit %d: %s", (unsigned)r->status, status,
			 buf_str(&r->output));
}

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

/* ---- what a handler finds -------------------------------------------------------------------- */

static void
handler_gets_record_and_variables(void **state)
{
	static const char variables[] = "VMCATCHER_EVENT_TYPE=AvailablePostfix\0"
					"VMCATCHER_EVENT_DC_TITLE=a 'b' $(c)\nd";
	struct bed *bed = *state;
	struct result r;

	put_handler(bed, "cat; printf '%s|' \"$VMCATCHER_EVENT_TYPE\" "
			 "\"$VMCATCHER_EVENT_DC_TITLE\"");
	begin(bed, "", NULL);
	reap(bed, start_with(bed, "one", variables, sizeof(variables), "{\"a\":1}\n"), &r);
	exited(&r, 0);
	assert_false(r.timed_out);
	assert_string_equal(buf_str(&r.output), "{\"a\":1}\nAvailablePostfix|a 'b' $(c)\nd|");
	buf_release(&r.output);
}

/* Below SIGRTMIN; a parent that is no C program may have left them so, and signal() refuses them. */
static void
ignore_signals_of_libc(void)
{
	static const unsigned long ignore[8] = { (unsigned long)SIG_IGN };

	for (int sig = SIGSYS + 1; sig < SIGRTMIN; sig++)
		assert_int_equal(syscall(SYS_rt_sigaction, sig, ignore, NULL, 8), 0);
}

static void
handler_is_nobodys_copy(void **state)
{
	struct bed *bed = *state;
	struct result r;

	put_handler(bed,
		    "readlink /proc/$$/fd/1 | cut -c1-5\n"
		    "grep -E '^(SigBlk|SigIgn|CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp):' "
		    "/proc/self/status | tr '\\t' ' '\n"
		    "ps -o sid= -o pgid= -p $$ | "
		    "awk -v p=$$ '{ print \"leads\", $1 == p, $2 == p }'\n"
		    "id -u; umask; pwd");
	signal(SIGPIPE, SIG_IGN);
	ignore_signals_of_libc();
	/* The last one is the directory that ls itself has open. */
	begin(bed, "event_command = exec ls /proc/self/fd\n", NULL);
	run(bed, "event_command", &r);
	assert_string_equal(buf_str(&r.output), "0\n1\n2\n3\n");
	buf_release(&r.output);
	run(bed, "one", &r);
	exited(&r, 0);
	says(&r, "pipe:");
	says(&r, "SigBlk: 0000000000000000");
	says(&r, "SigIgn: 0000000000000000");
	says(&r, "Seccomp: 0");
	says(&r, "NoNewPrivs: 0");
	says(&r, "leads 1 1");
	says(&r, "\n0022\n/\n");
	if (geteuid() == 0) {
		struct passwd *nobody = getpwnam("nobody");
		char uid[32];

		assert_non_null(nobody);
		snprintf(uid, sizeof(uid), "\n%u\n", (unsigned)nobody->pw_uid);
		says(&r, uid);
		says(&r, "CapInh: 0000000000000000");
		says(&r, "CapPrm: 0000000000000000");
		says(&r, "CapEff: 0000000000000000");
		says(&r, "CapAmb: 0000000000000000");
	}
	buf_release(&r.output);
}

static void
environment_of_a_daemon_is_clean(void **state)
{
	struct bed *bed = *state;
	struct result r;

	put_handler(bed, "env");
	setenv("LD_PRELOAD_OF_TEST", "x", 1);
	setenv("IFS", "x", 1);
	setenv("KEPT", "as it is", 1);
	setenv("TZ", "Europe/Vienna", 1);
	setenv("VMCATCHER_EVENT_VO", "of the caller", 1);
	begin(bed, "event_env = KEPT ONE_AUTH=/var/lib/one/auth MISSING\n", NULL);
	run(bed, "one", &r);
	exited(&r, 0);
	says(&r, "KEPT=as it is\n");
	says(&r, "ONE_AUTH=/var/lib/one/auth\n");
	says(&r, "TZ=Europe/Vienna\n");
	says(&r, "LC_ALL=C");
	says(&r, "VMIMAGEFS_CONFIG=/tmp/test_runner.");
	says(&r, "PATH=" BINDIR ":/usr/local/sbin:");
	if (geteuid() == 0) {
		says(&r, "USER=nobody\n");
		says(&r, "LOGNAME=nobody\n");
		says(&r, "HOME=/");
	}
	says_not(&r, "IFS=");
	says_not(&r, "LD_PRELOAD");
	says_not(&r, "MISSING");
	says_not(&r, "VMCATCHER");
	buf_release(&r.output);
}

static void
environment_of_a_command_is_the_callers(void **state)
{
	struct bed *bed = *state;
	struct result r;
	char here[4096];

	setenv("PS4", "x", 1);
	setenv("BASH_ENV", "/x", 1);
	setenv("OPENSSL_CONF", "/x", 1);
	setenv("LD_BIND_NOW", "1", 1);
	setenv("MINE", "as it is", 1);
	setenv("VMCATCHER_EVENT_VO", "of the caller", 1);
	setenv("VMCATCHER_CACHE_EVENT", "kept", 1);
	begin(bed, "", "env; pwd; id -u");
	run(bed, "whatever", &r);
	exited(&r, 0);
	says(&r, "MINE=as it is\n");
	says(&r, "VMCATCHER_CACHE_EVENT=kept\n");
	says(&r, "PATH=" BINDIR ":");
	says(&r, getcwd(here, sizeof(here)));
	says_not(&r, "PS4=");
	says_not(&r, "BASH_ENV=");
	says_not(&r, "OPENSSL_CONF=");
	says_not(&r, "LD_BIND_NOW=");
	says_not(&r, "VMCATCHER_EVENT_VO");
	unsetenv("BASH_ENV");
	buf_release(&r.output);
}

static void
only_variables_of_events_are_taken(void **state)
{
	static const char variables[] = "LD_PRELOAD=/evil.so\0PATH=/evil\0IFS=x\0HOME=/evil\0"
					"VMCATCHER_EVENT_lower=1\0VMCATCHER_EVENT_A-B=1\0"
					"VMCATCHER_EVENT_NOTHING\0=x\0"
					"VMCATCHER_RDBMS=sqlite:////x\0VMCATCHER_EVENT_TYPE=t";
	struct bed *bed = *state;
	struct result r;

	put_handler(bed, "env");
	begin(bed, "", NULL);
	reap(bed, start_with(bed, "one", variables, sizeof(variables), ""), &r);
	says(&r, "VMCATCHER_RDBMS=sqlite:////x\n");
	says(&r, "VMCATCHER_EVENT_TYPE=t\n");
	says_not(&r, "evil");
	says_not(&r, "IFS");
	says_not(&r, "lower");
	says_not(&r, "A-B");
	says_not(&r, "NOTHING");
	buf_release(&r.output);
}

/* ---- what becomes of it ---------------------------------------------------------------------- */

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

static void
what_cannot_be_started_says_so(void **state)
{
	struct bed *bed = *state;
	struct result r;

	put(bed, "handlers/plain", "#!/bin/sh\n", 0644);
	put(bed, "handlers/open", "#!/bin/sh\n", 0777);
	put(bed, "handlers/lost", "#!/nonexistent/interpreter\n", 0755);
	begin(bed, "", NULL);
	run(bed, "missing", &r);
	exited(&r, 127);
	says(&r, "No such file");
	buf_release(&r.output);
	run(bed, "plain", &r);
	exited(&r, 127);
	says(&r, "not executable");
	buf_release(&r.output);
	run(bed, "open", &r);
	exited(&r, 127);
	says(&r, "everybody can write it");
	buf_release(&r.output);
	run(bed, "lost", &r);
	exited(&r, 127);
	says(&r, "handlers/lost' cannot be started: No such file");
	buf_release(&r.output);
	run(bed, "../../bin/sh", &r);
	exited(&r, 127);
	says(&r, "there is no event handler");
	buf_release(&r.output);
	run(bed, "event_command", &r);
	exited(&r, 127);
	says(&r, "there is no event_command");
	buf_release(&r.output);
}

static void
several_run_at_once(void **state)
{
	struct bed *bed = *state;
	uint32_t slow, fast;
	struct result r;

	put_handler(bed, "while [ ! -e \"$VMCATCHER_EVENT_FILENAME\" ]; do sleep 0.05; done");
	begin(bed, "event_command = echo of the command; touch \"$VMCATCHER_EVENT_FILENAME\"\n",
	      NULL);
	{
		char variable[128];
		int len = snprintf(variable, sizeof(variable), "VMCATCHER_EVENT_FILENAME=%s/go",
				   bed->dir);

		slow = start_with(bed, "one", variable, (size_t)len + 1, "");
		fast = start_with(bed, "event_command", variable, (size_t)len + 1, "");
	}
	assert_int_not_equal(slow, fast);
	/* Who is told of first is not said: the slow one ends because the other did its work. */
	for (uint32_t seen = 0; seen != slow + fast;) {
		uint32_t ended = reap_any(bed, &r);

		seen += ended;
		assert_true(ended == slow || ended == fast);
		assert_string_equal(buf_str(&r.output), ended == fast ? "of the command\n" : "");
		exited(&r, 0);
		buf_release(&r.output);
	}
}

static void
many_wait_to_be_read(void **state)
{
	enum { N = 40 };
	struct bed *bed = *state;
	struct result r;

	/* More than the socket takes: nobody is lost, and new ones can be started meanwhile. */
	put_handler(bed, "head -c 65536 /dev/zero; exit 6");
	begin(bed, "", NULL);
	for (int i = 0; i < N; i++)
		start(bed, "one");
	usleep(300000);
	for (int i = 0; i < N; i++) {
		reap_any(bed, &r);
		exited(&r, 6);
		assert_int_equal(r.output.len, LIMIT_EVENT_OUTPUT);
		buf_release(&r.output);
	}
}

static void
reload_reads_the_configuration(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };
	struct result r;

	begin(bed, "event_command = echo one\n", NULL);
	run(bed, "event_command", &r);
	assert_string_equal(buf_str(&r.output), "one\n");
	buf_release(&r.output);
	configure(bed, "event_command = echo $WORD\nevent_env = WORD=two\n");
	assert_int_equal(runner_reload(bed->runner, &err), 0);
	run(bed, "event_command", &r);
	assert_string_equal(buf_str(&r.output), "two\n");
	buf_release(&r.output);
	configure(bed, "event_command = echo three\nnonsense\n");
	assert_int_equal(runner_reload(bed->runner, &err), 0);
	run(bed, "event_command", &r);
	assert_string_equal(buf_str(&r.output), "two\n");
	buf_release(&r.output);
}

/* ---- the end --------------------------------------------------------------------------------- */

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

/* A worker that has been taken over could block the runner, and with it the end of the daemon. */
static void
descriptors_that_could_block_are_refused(void **state)
{
	struct bed *bed = *state;
	struct runner_note note = { .magic = RUNNER_MAGIC, .kind = RUNNER_RUN, .id = 12345,
				    .name = "one" };
	struct result r;
	int ends[2];

	put_handler(bed, "exit 3");
	begin(bed, "", NULL);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(io_send_fds(runner_fd(bed->runner), &note, sizeof(note),
				     (int[]){ ends[0], ends[0] }, RUNNER_FDS), 0);
	reap(bed, start(bed, "one"), &r);
	assert_int_equal(WEXITSTATUS(r.status), 3);
	buf_release(&r.output);
	close(ends[0]);
	close(ends[1]);
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

/* Of the kept process. */
static pid_t
child_of(pid_t pid)
{
	char path[64];
	int child = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(path, "re");
	if (f == NULL || fscanf(f, "%d", &child) != 1)
		child = 0;
	if (f != NULL)
		fclose(f);
	return (pid_t)child;
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

#define NAMED(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		NAMED("a handler reads the record and has the event's variables, byte for byte",
		      handler_gets_record_and_variables),
		NAMED("C18 a handler has descriptors 0, 1, 2, default signals, its own session and "
		      "no sandbox", handler_is_nobodys_copy),
		NAMED("X02 a daemon's handler has a clean environment and what event_env names",
		      environment_of_a_daemon_is_clean),
		NAMED("X02 a command's handler has the caller's environment less what leads astray",
		      environment_of_a_command_is_the_callers),
		NAMED("X02 only variables of events are taken from a request",
		      only_variables_of_events_are_taken),
		NAMED("P20 exit status, signal and output of a handler are told",
		      exit_status_is_told),
		NAMED("P20 a handler whose time is over gets TERM", term_ends_it_at_its_time),
		NAMED("P20 a handler that ignores TERM is killed with its group and its orphans",
		      kill_ends_what_ignores_term),
		NAMED("P20 a child that holds the pipe holds nobody up and is ended in time",
		      child_that_holds_the_pipe_holds_nobody_up),
		NAMED("P20 of 1 GB of output the first 64 KiB are kept", output_is_bounded),
		NAMED("P20 a handler may close its descriptors", closing_descriptors_is_harmless),
		NAMED("P20 a handler that is missing, not executable, or everybody's is not run",
		      what_cannot_be_started_says_so),
		NAMED("several handlers run at once", several_run_at_once),
		NAMED("results that nobody reads yet are not lost", many_wait_to_be_read),
		NAMED("a reload takes effect, and a mistake in the file does not",
		      reload_reads_the_configuration),
		NAMED("the end of the runner ends what it runs, in bounded time",
		      end_ends_what_runs),
		NAMED("what is ended because the daemon ends is no failure",
		      stop_is_told_of_by_nobody),
		NAMED("C18 a request with descriptors that could block the runner is ignored",
		      descriptors_that_could_block_are_refused),
		NAMED("P21 a runner that is killed takes its handlers along, and is forked again",
		      killed_runner_takes_handlers_along),
	};

	unsetenv("VMIMAGEFS_LIBEXECDIR");	/* or PATH would begin with it */
	return cmocka_run_group_tests_name("runner", tests, NULL, NULL);
}
