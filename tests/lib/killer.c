/*
 * killer.c - runs a program and kills it, with all that it has started, as it enters a call that
 * changes something on disk.
 *
 *   killer --root DIR [--trace FILE] [--at CALL KIND NTH] [--one] PROGRAM ARG...
 *
 *     --root DIR        only calls that change something below it; repeatable
 *     --trace FILE      writes each, as it is entered: "CALL KIND NTH".  KIND is the path below
 *                       DIR without what differs from run to run (killer_kind()); NTH counts the
 *                       calls of this name and kind, of whatever thread
 *     --at CALL KIND NTH    the one at which everything is killed; "any any N": the Nth of all
 *     --one             only the process that makes the call is killed; the others live on
 *
 * Ends when all that was started has ended: with 137 if the call was reached, otherwise as the
 * program itself did.  What is started by what is started is traced as well, also when it has
 * become a daemon.  A filter stops the calls in question alone (killer_calls.c): everything else
 * runs at its own speed.
 */
#include "config.h"
#include "tests/lib/killer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ROOTS = 8, MAX_KINDS = 4096, MAX_THREADS = 8192, KIND_BYTES = 512, REACHED = 137 };

struct count {
	const char *name;
	char kind[KIND_BYTES];
	long n;
};

static struct {
	const char *roots[MAX_ROOTS], *at_call, *at_kind;
	size_t n_roots, n_counts, n_threads;
	long at_nth, n_calls;
	bool one, reached;
	FILE *trace;
	struct count counts[MAX_KINDS];
	pid_t threads[MAX_THREADS];
	pid_t program;
	int status;
} killer;

static void __attribute__((noreturn))
die(const char *what)
{
	perror(what);
	exit(125);
}

/* ---- which call ------------------------------------------------------------------------------ */

/* What of the path is below a root; NULL: it is not. */
static const char *
below_root(const char *path)
{
	for (size_t i = 0; i < killer.n_roots; i++) {
		size_t len = strlen(killer.roots[i]);

		if (strncmp(path, killer.roots[i], len) == 0 && path[len] == '/')
			return path + len + 1;
	}
	return NULL;
}

static bool
is_shared_memory(const char *path)
{
	size_t len = strlen(path);

	return len >= 4 && strcmp(path + len - 4, "-shm") == 0;
}

static long
count_call(const char *name, const char *kind)
{
	struct count *c = killer.counts, *end = c + killer.n_counts;

	while (c < end && (strcmp(c->name, name) != 0 || strcmp(c->kind, kind) != 0))
		c++;
	if (c == end) {
		if (killer.n_counts == MAX_KINDS)
			return 0;
		killer.n_counts++;
		c->name = name;
		snprintf(c->kind, sizeof(c->kind), "%s", kind);
	}
	return ++c->n;
}

static bool
is_the_one(const char *name, const char *kind, long nth)
{
	if (killer.at_call == NULL || killer.reached)
		return false;
	if (strcmp(killer.at_call, "any") == 0)
		return killer.n_calls == killer.at_nth;
	return nth == killer.at_nth && strcmp(name, killer.at_call) == 0 &&
	       strcmp(kind, killer.at_kind) == 0;
}

/* Whether the thread is about to make the call that it is all about. */
static bool
enters(pid_t tid)
{
	struct __ptrace_syscall_info info = { 0 };
	struct killer_call call;
	char kind[KIND_BYTES];
	const char *path;
	long nth;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof(info), &info) <= 0 ||
	    info.op != PTRACE_SYSCALL_INFO_SECCOMP ||
	    !killer_look(tid, info.seccomp.nr, (const uint64_t *)info.seccomp.args, &call))
		return false;
	path = below_root(call.path);
	if (path == NULL || is_shared_memory(path))
		return false;
	killer_kind(path, kind, sizeof(kind));
	nth = count_call(call.name, kind);
	killer.n_calls++;
	if (killer.trace != NULL)
		fprintf(killer.trace, "%s %s %ld\n", call.name, kind, nth);
	return is_the_one(call.name, kind, nth);
}

/* ---- threads --------------------------------------------------------------------------------- */

static void
know(pid_t tid)
{
	for (size_t i = 0; i < killer.n_threads; i++)
		if (killer.threads[i] == tid)
			return;
	if (killer.n_threads == MAX_THREADS)
		die("too many threads");
	killer.threads[killer.n_threads++] = tid;
}

static void
forget(pid_t tid)
{
	for (size_t i = 0; i < killer.n_threads; i++) {
		if (killer.threads[i] == tid) {
			killer.threads[i] = killer.threads[--killer.n_threads];
			return;
		}
	}
}

/* kill() takes the number of a thread for its process. */
static void
kill_from(pid_t tid)
{
	killer.reached = true;
	if (killer.one) {
		kill(tid, SIGKILL);
		return;
	}
	for (size_t i = 0; i < killer.n_threads; i++)
		kill(killer.threads[i], SIGKILL);
}

static void
go_on(pid_t tid, int status)
{
	int sig = WSTOPSIG(status), event = status >> 16;

	if (killer.reached && !killer.one) {
		kill(tid, SIGKILL);
		ptrace(PTRACE_CONT, tid, NULL, NULL);
		return;
	}
	if (event == PTRACE_EVENT_SECCOMP && enters(tid))
		kill_from(tid);
	if (event == PTRACE_EVENT_STOP && (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN ||
					   sig == SIGTTOU))
		ptrace(PTRACE_LISTEN, tid, NULL, NULL);
	else
		ptrace(PTRACE_CONT, tid, NULL, (void *)(long)(event == 0 ? sig : 0));
}

static void
watch(void)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (tid <= 0)
			continue;
		if (WIFSTOPPED(status)) {
			know(tid);
			go_on(tid, status);
			continue;
		}
		forget(tid);
		if (tid == killer.program)
			killer.status = status;
	}
	if (errno != ECHILD)
		die("waitpid");
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static void __attribute__((noreturn))
become(char **argv, int gate)
{
	char byte;

	if (read(gate, &byte, 1) != 1)
		_exit(125);
	close(gate);
	if (killer_filter() != 0)
		die("seccomp");
	execvp(argv[0], argv);
	die(argv[0]);
}

static void
start(char **argv)
{
	const long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
			     PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL;
	int gate[2];

	/* What becomes a daemon is ours to wait for. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 || pipe2(gate, O_CLOEXEC) != 0)
		die("pipe2");
	killer.program = fork();
	if (killer.program == 0) {
		close(gate[1]);
		become(argv, gate[0]);
	}
	close(gate[0]);
	if (killer.program < 0 ||
	    ptrace(PTRACE_SEIZE, killer.program, NULL, (void *)options) != 0)
		die("ptrace");
	know(killer.program);
	if (write(gate[1], "g", 1) != 1)
		die("write");
	close(gate[1]);
}

static void __attribute__((noreturn))
usage(void)
{
	fputs("usage: killer --root DIR [--trace FILE] [--at CALL KIND NTH] [--one] "
	      "PROGRAM ARG...\n", stderr);
	exit(125);
}

static char **
parse(char **argv)
{
	for (argv++; *argv != NULL && strncmp(*argv, "--", 2) == 0; argv++) {
		if (strcmp(*argv, "--root") == 0 && argv[1] != NULL &&
		    killer.n_roots < MAX_ROOTS) {
			killer.roots[killer.n_roots++] = *++argv;
		} else if (strcmp(*argv, "--trace") == 0 && argv[1] != NULL) {
			killer.trace = fopen(*++argv, "we");
			if (killer.trace == NULL)
				die(*argv);
			setvbuf(killer.trace, NULL, _IOLBF, 0);
		} else if (strcmp(*argv, "--at") == 0 && argv[1] != NULL && argv[2] != NULL &&
			   argv[3] != NULL) {
			killer.at_call = argv[1];
			killer.at_kind = argv[2];
			killer.at_nth = strtol(argv[3], NULL, 10);
			argv += 3;
		} else if (strcmp(*argv, "--one") == 0) {
			killer.one = true;
		} else {
			usage();
		}
	}
	if (*argv == NULL || killer.n_roots == 0)
		usage();
	return argv;
}

int
main(int argc, char **argv)
{
	(void)argc;
	start(parse(argv));
	watch();
	if (killer.trace != NULL && fclose(killer.trace) != 0)
		die("trace");
	if (killer.reached)
		return REACHED;
	return WIFEXITED(killer.status) ? WEXITSTATUS(killer.status)
					: 128 + WTERMSIG(killer.status);
}
