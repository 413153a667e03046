/*
 * test_starter.c - the process that starts programs.
 *
 * The programs are copies of this one under the names of ours: called by such a name, main() plays
 * the child.  A verifier reads a command line on descriptor 0 and answers on descriptor 1:
 *
 *   report        pid, parent, descriptors, environment, privileges
 *   exit N
 *   stay          writes "staying" and never ends
 *   breed         as stay, with a grandchild that holds descriptor 1 too
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/conf.h"
#include "core/starter.h"

extern char **environ;

enum { WAIT_MS = 10000 };	/* for what takes milliseconds */

/* ---- the child's part ------------------------------------------------------------------- */

static void
report_fds(void)
{
	char target[256];

	for (int fd = 0; fd < 64; fd++) {
		char path[32];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		printf("fd %d %s\n", fd, strncmp(target, "socket:", 7) == 0 ? "socket" :
		       strncmp(target, "pipe:", 5) == 0 ? "pipe" : target);
	}
}

static void
report(const char *argument)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");
	sigset_t blocked;

	report_fds();
	printf("argument %s\n", argument);
	printf("pid %d\nparent %d\ngroup %d\n", (int)getpid(), (int)getppid(), (int)getpgrp());
	printf("nnp %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	sigprocmask(SIG_BLOCK, NULL, &blocked);
	printf("blocked %d\n", sigismember(&blocked, SIGTERM));
	for (char **e = environ; *e != NULL; e++)
		printf("env %s\n", *e);
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "CapEff:", 7) == 0 || strncmp(line, "CapPrm:", 7) == 0 ||
		    strncmp(line, "Uid:", 4) == 0)
			fputs(line, stdout);
	if (f != NULL)
		fclose(f);
}

static void __attribute__((noreturn))
stay(void)
{
	printf("staying %d %d\n", (int)getpid(), (int)getppid());
	fflush(stdout);
	for (;;)
		pause();
}

static int
play_verifier(const char *argument)
{
	char command[64];

	if (fgets(command, sizeof(command), stdin) == NULL)
		return 1;
	if (strcmp(command, "report\n") == 0)
		report(argument);
	else if (strncmp(command, "exit ", 5) == 0)
		return (int)strtol(command + 5, NULL, 10);
	else if (strcmp(command, "breed\n") == 0 && fork() >= 0)
		stay();
	else if (strcmp(command, "stay\n") == 0)
		stay();
	return fflush(stdout);
}

static int
play_fetcher(void)
{
	return write(3, "fetcher", 7) == 7 ? 7 : 1;
}

/* Says what it was called with in a file beside the configuration. */
static int
play_vmimagectl(int argc, char **argv)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s.args", argc > 2 ? argv[2] : "/none");
	f = fopen(path, "w");
	if (f == NULL)
		return 1;
	for (int i = 1; i < argc; i++)
		fprintf(f, "%s ", argv[i]);
	return fclose(f) == 0 ? 0 : 1;
}

/* ---- the test's part -------------------------------------------------------------------- */

static char dir[] = "/tmp/test_starter.XXXXXX";

struct bed {
	struct conf *conf;
	struct starter *starter;
};

static void
copy_self(const char *name)
{
	char command[256], self[256], path[128];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int in, out;

	assert_true(n > 0);
	self[n] = '\0';
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	in = open(self, O_RDONLY);
	out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, command, sizeof(command))) > 0)
		assert_int_equal(write(out, command, (size_t)n), n);
	close(in);
	close(out);
}

static int
make_programs(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL || chmod(dir, 0777) != 0)
		return -1;
	copy_self("vmimagefs-verifier");
	copy_self("vmimagefs-fetcher");
	copy_self("vmimagectl");
	return setenv("VMIMAGEFS_LIBEXECDIR", dir, 1);
}

static int
remove_programs(void **state)
{
	static const char *const names[] = {
		"vmimagefs-verifier", "vmimagefs-fetcher", "vmimagectl", "x.conf", "x.conf.args"
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

static int
start(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	char path[128];
	struct err err = { 0 };
	FILE *f;

	snprintf(path, sizeof(path), "%s/x.conf", dir);
	f = fopen(path, "w");
	if (bed == NULL || f == NULL ||
	    fputs("user = nobody\ncert_dir = /etc/of-the-test\n", f) < 0 || fclose(f) != 0)
		return -1;
	setenv("SECRET", "of the caller", 1);
	if (conf_load(path, &bed->conf, &err) != 0 ||
	    starter_new(&bed->starter, bed->conf, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	*state = bed;
	return 0;
}

static int
stop(void **state)
{
	struct bed *bed = *state;

	starter_free(bed->starter);
	conf_free(bed->conf);
	free(bed);
	return 0;
}

static bool
wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, WAIT_MS) == 1;
}

/* Starts a verifier with a command; *answers is where it writes. */
static uint32_t
run_verifier(const struct bed *bed, const char *command, int *answers)
{
	int in[2], out[2], fds[2];
	struct err err = { 0 };
	uint32_t id = 0;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(write(in[1], command, strlen(command)), strlen(command));
	fds[0] = in[0];
	fds[1] = out[1];
	if (starter_run(bed->starter, STARTER_VERIFIER, 0, fds, 2, &id, &err) != 0)
		fail_msg("%s", err.text);
	close(in[0]);
	close(in[1]);
	close(out[1]);
	*answers = out[0];
	return id;
}

/* Reads until end of file, which comes when the last holder of the pipe has ended. */
static void
read_all(int fd, char *text, size_t room)
{
	size_t len = 0;

	while (len < room - 1) {
		ssize_t n;

		assert_true(wait_readable(fd));
		n = read(fd, text + len, room - 1 - len);
		assert_true(n >= 0);
		if (n == 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	close(fd);
}

/* "staying PID PARENT"; returns the parent, which is the starter. */
static pid_t
read_staying(int fd)
{
	char text[64];
	int pid, parent;
	ssize_t n;

	assert_true(wait_readable(fd));
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	assert_int_equal(sscanf(text, "staying %d %d", &pid, &parent), 2);
	return parent;
}

static int
reap(const struct bed *bed, uint32_t id)
{
	uint32_t ended;
	int status, rc;

	while ((rc = starter_reap(bed->starter, &ended, &status)) == 0)
		assert_true(wait_readable(starter_fd(bed->starter)));
	assert_int_equal(rc, 1);
	assert_int_equal(ended, id);
	return status;
}

static void
has_line(const char *text, const char *line)
{
	char with[256];

	snprintf(with, sizeof(with), "%s\n", line);
	if (strncmp(text, with, strlen(with)) == 0)
		return;
	snprintf(with, sizeof(with), "\n%s\n", line);
	if (strstr(text, with) == NULL)
		fail_msg("no line '%s' in:\n%s", line, text);
}

static void
has_no(const char *text, const char *part)
{
	if (strstr(text, part) != NULL)
		fail_msg("'%s' in:\n%s", part, text);
}

static void
descriptors_in_their_places(void **state)
{
	const struct bed *bed = *state;
	int answers, leaked = open("/dev/zero", O_RDONLY);	/* without close-on-exec */
	uint32_t id = run_verifier(bed, "report\n", &answers);
	char text[8192];

	read_all(answers, text, sizeof(text));
	assert_int_equal(reap(bed, id), 0);
	close(leaked);
	has_line(text, "argument /etc/of-the-test");
	has_line(text, "fd 0 pipe");
	has_line(text, "fd 1 pipe");
	has_no(text, "fd 3 socket");
	has_no(text, "/dev/zero");
	has_no(text, "x.conf");
}

static void
clean_environment_and_privileges(void **state)
{
	const struct bed *bed = *state;
	char text[8192];
	int answers;
	uint32_t id = run_verifier(bed, "report\n", &answers);

	read_all(answers, text, sizeof(text));
	reap(bed, id);
	has_line(text, "env LC_ALL=C");
	has_line(text, "env TZ=UTC");
	has_no(text, "SECRET");
	has_no(text, "env HOME");
	has_line(text, "nnp 1");
	has_line(text, "blocked 0");
	has_line(text, "CapEff:\t0000000000000000");
	has_line(text, "CapPrm:\t0000000000000000");
	if (geteuid() == 0)
		has_no(text, "Uid:\t0");
}

static void
tells_status(void **state)
{
	const struct bed *bed = *state;
	char text[16];
	int answers, status;
	uint32_t id = run_verifier(bed, "exit 42\n", &answers);

	read_all(answers, text, sizeof(text));
	status = reap(bed, id);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
	assert_int_equal(starter_reap(bed->starter, &id, &status), 0);
}

static void
kill_takes_the_group(void **state)
{
	const struct bed *bed = *state;
	char text[256];
	int answers, status;
	uint32_t id = run_verifier(bed, "breed\n", &answers);

	read_staying(answers);
	starter_kill(bed->starter, id);
	status = reap(bed, id);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	read_all(answers, text, sizeof(text));	/* ends: the grandchild is gone as well */
	starter_kill(bed->starter, id);		/* of one that has ended: ignored */
	starter_kill(bed->starter, 12345);
}

static void
children_end_with_the_handle(void **state)
{
	struct bed *bed = *state;
	char text[256];
	int answers;

	run_verifier(bed, "stay\n", &answers);
	read_staying(answers);
	starter_free(bed->starter);
	bed->starter = NULL;
	read_all(answers, text, sizeof(text));
}

static void
children_end_with_a_killed_starter(void **state)
{
	const struct bed *bed = *state;
	char text[256];
	int answers, status;
	uint32_t id;

	run_verifier(bed, "stay\n", &answers);
	assert_int_equal(kill(read_staying(answers), SIGKILL), 0);
	read_all(answers, text, sizeof(text));
	assert_true(wait_readable(starter_fd(bed->starter)));
	assert_int_equal(starter_reap(bed->starter, &id, &status), -EPIPE);
}

static void
survives_term(void **state)
{
	const struct bed *bed = *state;
	char text[16];
	int answers, more;
	uint32_t id = run_verifier(bed, "stay\n", &answers), second;
	pid_t starter = read_staying(answers);

	assert_int_equal(kill(starter, SIGTERM), 0);
	assert_int_equal(kill(starter, SIGINT), 0);
	assert_int_equal(kill(starter, SIGHUP), 0);
	second = run_verifier(bed, "exit 3\n", &more);
	assert_int_equal(WEXITSTATUS(reap(bed, second)), 3);
	read_all(more, text, sizeof(text));
	starter_kill(bed->starter, id);
	reap(bed, id);
	close(answers);
}

static void
fetcher_has_its_socket(void **state)
{
	const struct bed *bed = *state;
	struct err err;
	char text[16];
	uint32_t id;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(starter_run(bed->starter, STARTER_FETCHER, 0, &pair[1], 1, &id, &err), 0);
	close(pair[1]);
	read_all(pair[0], text, sizeof(text));
	assert_string_equal(text, "fetcher");
	assert_int_equal(WEXITSTATUS(reap(bed, id)), 7);
}

static void
updater_has_the_configuration(void **state)
{
	const struct bed *bed = *state;
	char path[128], text[256], wanted[256];
	struct err err;
	uint32_t id;
	FILE *f;

	snprintf(path, sizeof(path), "%s/x.conf.args", dir);
	assert_int_equal(starter_run(bed->starter, STARTER_UPDATER, STARTER_UPDATE, NULL, 0, &id,
				     &err),
			 0);
	assert_int_equal(reap(bed, id), 0);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	snprintf(wanted, sizeof(wanted), "-c %s/x.conf update --quiet --news ", dir);
	assert_string_equal(text, wanted);

	assert_int_equal(starter_run(bed->starter, STARTER_UPDATER, STARTER_RECHECK, NULL, 0, &id,
				     &err),
			 0);
	assert_int_equal(reap(bed, id), 0);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	assert_non_null(strstr(text, "expire --recheck"));
}

static void
many_at_once(void **state)
{
	enum { N = 70 };	/* more than fetch_parallel can be */
	const struct bed *bed = *state;
	int answers[N], status, n_ended = 0;
	uint32_t id;

	for (int i = 0; i < N; i++)
		run_verifier(bed, "exit 0\n", &answers[i]);
	while (n_ended < N) {
		int rc = starter_reap(bed->starter, &id, &status);

		assert_true(rc >= 0);
		if (rc == 0)
			assert_true(wait_readable(starter_fd(bed->starter)));
		n_ended += rc;
	}
	for (int i = 0; i < N; i++)
		close(answers[i]);
}

static int
start_without_programs(void **state)
{
	int rc;

	setenv("VMIMAGEFS_LIBEXECDIR", "/nonexistent-directory", 1);
	rc = start(state);
	setenv("VMIMAGEFS_LIBEXECDIR", dir, 1);
	return rc;
}

static void
missing_program_has_status_127(void **state)
{
	const struct bed *bed = *state;
	char text[16];
	int answers;
	uint32_t id;

	if (access(LIBEXECDIR "/vmimagefs-verifier", F_OK) == 0)
		skip();		/* an installed one is found instead */
	id = run_verifier(bed, "report\n", &answers);
	assert_int_equal(WEXITSTATUS(reap(bed, id)), 127);
	read_all(answers, text, sizeof(text));
}

#define WITH(title, fn) { title, fn, start, stop, NULL }

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WITH("a verifier has the message on 0, the verdict on 1 and nothing else of ours",
		     descriptors_in_their_places),
		WITH("a child has a clean environment and no privileges",
		    clean_environment_and_privileges),
		WITH("a fetcher has its request socket on 3", fetcher_has_its_socket),
		WITH("the updater is told which configuration to use",
		    updater_has_the_configuration),
		WITH("the end of a child is told with its status", tells_status),
		WITH("killing a child kills its process group", kill_takes_the_group),
		WITH("children end when the daemon lets the starter go",
		    children_end_with_the_handle),
		WITH("children end when the starter is killed, and its user hears of it",
		     children_end_with_a_killed_starter),
		WITH("P04 TERM, INT and HUP leave the starter to the daemon", survives_term),
		WITH("seventy programs can run at once", many_at_once),
		{ "a program that cannot be started has ended with status 127",
		  missing_program_has_status_127, start_without_programs, stop, NULL },
	};
	const char *name = strrchr(argv[0], '/');

	name = name != NULL ? name + 1 : argv[0];
	if (strcmp(name, "vmimagefs-verifier") == 0)
		return play_verifier(argc == 2 ? argv[1] : "none");
	if (strcmp(name, "vmimagefs-fetcher") == 0)
		return play_fetcher();
	if (strcmp(name, "vmimagectl") == 0)
		return play_vmimagectl(argc, argv);
	return cmocka_run_group_tests_name("starter", tests, make_programs, remove_programs);
}
