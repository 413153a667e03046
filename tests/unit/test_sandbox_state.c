/*
 * test_sandbox_state.c - what is said of sandboxes, and what belongs to all roles: the user, the
 * environment, and what a test build does with a forbidden call.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/sandbox.h"
#include "core/sandboxstate.h"
#include "tests/unit/sandboxbed.h"

/* ---- in the child -------------------------------------------------------------------------- */

/* The kernel's own words, by a process that has not been told any. */
static void
board_tells_the_truth(void)
{
	char line[256], status[1024] = "";
	struct sandbox_state state;
	struct buf text = BUF_INIT;
	FILE *f = fopen("/proc/self/status", "re");	/* says what holds when it is read */

	expect(f != NULL, "/proc/self/status opens");
	expect(!sandbox_board_get(SANDBOX_WORKER, &state), "nothing is said before");
	enter(SANDBOX_WORKER, NULL, 0);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "Seccomp:", 8) == 0 || strncmp(line, "NoNewPrivs:", 11) == 0 ||
		    strncmp(line, "CapEff:", 7) == 0)
			strncat(status, line, sizeof(status) - strlen(status) - 1);
	fclose(f);
	expect(strcmp(status, "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n") == 0,
	       "the kernel knows what was given up");
	expect(sandbox_board_get(SANDBOX_WORKER, &state), "it is on the board");
	expect(state.pid == getpid() && state.uid == geteuid() && state.capabilities == 0 &&
		       state.no_new_privs == 1 && state.seccomp == 2 && state.allow_list,
	       "as the kernel has it");
	expect(state.landlock_abi > 0 && state.landlock_files, "and Landlock");
	sandbox_state_describe(&state, &text);
	expect(strstr(buf_str(&text), "no capabilities, no_new_privs, Landlock ") != NULL &&
		       strstr(buf_str(&text), "seccomp (list of permissions)") != NULL,
	       "in words");
	buf_release(&text);
}

static void
forbidden_call_is_fatal(void)
{
	setenv("VMIMAGEFS_TEST_FILTER", "kill", 1);
	enter(SANDBOX_VERIFIER, NULL, 0);
	socket(AF_INET, SOCK_STREAM, 0);
}

static void
becomes_the_user_for_good(void)
{
	struct err err;

	if (geteuid() != 0)
		_exit(CHILD_SKIPS);
	expect(sandbox_become_user(65534, 65534, &err) == 0, "the user changes");
	expect(getuid() == 65534 && geteuid() == 65534 && getgid() == 65534,
	       "all ids are the user's");
	expect(getgroups(0, NULL) == 0, "no other groups are left");
	expect(setuid(0) < 0, "there is no way back");
	expect(effective_capabilities() == 0, "there are no capabilities");
	expect(prctl(PR_CAPBSET_READ, 21, 0, 0, 0) == 0, "nothing executed can gain one");
	expect(sandbox_become_user(65534, 65534, &err) == 0, "again is nothing");
	expect(sandbox_become_user(1, 1, &err) == -EPERM, "another user is refused");
}

static void
environment_is_small(void)
{
	const char *const keep[] = { "KEPT", "NOT_SET", "BEGINS_*", NULL };

	setenv("KEPT", "yes", 1);
	setenv("KEPT_NOT", "no", 1);
	setenv("BEGINS_SO", "a=b", 1);
	setenv("LD_PRELOAD_X", "no", 1);
	sandbox_clean_environment(keep);
	expect(getenv("KEPT") != NULL && strcmp(getenv("KEPT"), "yes") == 0,
	       "what is named is kept");
	expect(getenv("BEGINS_SO") != NULL && strcmp(getenv("BEGINS_SO"), "a=b") == 0,
	       "and what begins so");
	expect(getenv("LD_PRELOAD_X") == NULL && getenv("HOME") == NULL &&
		       getenv("KEPT_NOT") == NULL,
	       "the rest is gone");
	expect(getenv("PATH") != NULL && strcmp(getenv("TZ"), "UTC") == 0 &&
		       strcmp(getenv("LC_ALL"), "C") == 0,
	       "path, zone and locale are fixed");
	expect(getenv("NOT_SET") == NULL, "nothing is invented");
}

/* ---- the test's part ----------------------------------------------------------------------- */

/* Only a test build obeys: elsewhere the call fails and the process goes on. */
static void
in_a_process_that_is_killed(void **state)
{
	int status = run(forbidden_call_is_fatal);

	(void)state;
#ifdef TEST_BUILD
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
#else
	assert_int_equal(status, 0);
#endif
}

static void
state_travels_as_a_word(void **state)
{
	const struct sandbox_state sent = { .pid = 7, .role = SANDBOX_UPDATER, .seccomp = 2,
					    .landlock_abi = 7, .bounding = 1ULL << 40 };
	struct sandbox_state got;
	struct buf word = BUF_INIT;

	(void)state;
	sandbox_state_pack(&sent, &word);
	assert_true(sandbox_state_unpack(buf_str(&word), &got));
	assert_memory_equal(&got, &sent, sizeof(got));
	word.data[3] = 'x';
	assert_false(sandbox_state_unpack(buf_str(&word), &got));
	assert_false(sandbox_state_unpack("", &got));
	buf_release(&word);
}

static void
board_shows_the_latest(void **state)
{
	struct sandbox_state one = { .pid = 7, .role = SANDBOX_FETCHER, .seccomp = 2 }, got;
	struct sandbox_board board = { 0 };
	struct buf text = BUF_INIT;

	(void)state;
	sandbox_board_use(&board);
	assert_false(sandbox_board_get(SANDBOX_FETCHER, &got));
	sandbox_board_note(&one);
	one.pid = 8;
	sandbox_board_note(&one);
	assert_true(sandbox_board_get(SANDBOX_FETCHER, &got));
	assert_int_equal(got.pid, 8);
	one.role = SANDBOX_ROLES;
	sandbox_board_note(&one);
	sandbox_board_text(&text);
	assert_non_null(strstr(buf_str(&text), "sandbox.fetcher: uid 0, no capabilities, without "
			       "no_new_privs, no Landlock, seccomp (list of refusals)\n"));
	assert_non_null(strstr(buf_str(&text), "sandbox.verifier: none has run yet\n"));
	sandbox_board_use(NULL);
	buf_release(&text);
}

static void
says_what_is_missing(void **state)
{
	struct buf text = BUF_INIT;

	(void)state;
	sandbox_describe_missing(0, &text);
	assert_string_equal(buf_str(&text), "");
	sandbox_describe_missing(SANDBOX_MISSING_LANDLOCK | SANDBOX_MISSING_SECCOMP, &text);
	assert_non_null(strstr(buf_str(&text), "no Landlock in this kernel"));
	assert_non_null(strstr(buf_str(&text), "; no seccomp"));
	buf_release(&text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "what a process says of its sandbox is what the kernel says", in_a_process, NULL,
		  NULL, body(board_tells_the_truth) },
		{ "P17 a forbidden call kills the process in a test build, and fails elsewhere",
		  in_a_process_that_is_killed, NULL, NULL, NULL },
		{ "what is in force travels as a word", state_travels_as_a_word, NULL, NULL, NULL },
		{ "the latest of a kind is shown", board_shows_the_latest, NULL, NULL, NULL },
		{ "a process becomes the user for good", in_a_process, NULL, NULL,
		  body(becomes_the_user_for_good) },
		{ "the environment of a child is small and fixed", in_a_process, NULL, NULL,
		  body(environment_is_small) },
		{ "what a kernel lacks is said", says_what_is_missing, NULL, NULL, NULL },
	};

	/* Here it is looked at what refusals are, one after the other. */
	unsetenv("VMIMAGEFS_TEST_FILTER");
	return cmocka_run_group_tests_name("sandbox_state", tests, make_dirs, remove_dirs);
}
