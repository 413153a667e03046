/*
 * test_runner.c - the process that runs event handlers: what a handler finds, which are run, and
 * how many.
 */
#include "config.h"

#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/runner.h"
#include "core/runner_impl.h"
#include "tests/unit/runnerbed.h"

/* ---- what a handler finds ------------------------------------------------------------------ */

static void
says_not(const struct result *r, const char *part)
{
	if (strstr(buf_str(&r->output), part) != NULL)
		fail_msg("'%s' says '%s'", buf_str(&r->output), part);
}

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

/*
 * Below SIGRTMIN; a parent that is no C program may have left them so, and signal() refuses them.
 */
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

/* ---- which are run ------------------------------------------------------------------------- */

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
		NAMED("P20 a handler that is missing, not executable, or everybody's is not run",
		      what_cannot_be_started_says_so),
		NAMED("several handlers run at once", several_run_at_once),
		NAMED("results that nobody reads yet are not lost", many_wait_to_be_read),
		NAMED("a reload takes effect, and a mistake in the file does not",
		      reload_reads_the_configuration),
		NAMED("C18 a request with descriptors that could block the runner is ignored",
		      descriptors_that_could_block_are_refused),
	};

	unsetenv("VMIMAGEFS_LIBEXECDIR");	/* or PATH would begin with it */
	return cmocka_run_group_tests_name("runner", tests, NULL, NULL);
}
