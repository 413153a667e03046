/*
 * sweep - one command run again and again, each time with another call of it failing.
 *
 *	sweep [-bvwx] [-e STATUS] [-n POINTS [-o SEED] | -a] [-t SECONDS] [-k CHECK] [-m COUNTS]
 *	      -s SITE -S SHIM -f CALL:ERRNO[,...] -- COMMAND...
 *
 * The command runs once in peace, and what it changed is noted: the site (a directory with state,
 * cache and run) before and after.  Then, for each CALL:ERRNO, it runs again and again from the
 * same beginning, with the shim (tests/lib/shim.c) making the 1st, 2nd, ... Nth of these calls
 * fail, counted over all processes of the command.  After each run this must hold:
 *
 *   - it was ended by no signal, within SECONDS, and no process of it is left
 *   - it ended with 0 and the site is as after, or it did not, and said why
 *   - the site is as before or as after, and SQLite finds no damage in the catalogue
 *   - done again in peace, the site is as after, with no file more or less; then CHECK (a shell
 *     command), if one is given, succeeds
 *
 * EINTR and short (half of what was asked for) are no failures: it must end with 0, as after.
 *
 *   -n POINTS   so many Ns of each CALL:ERRNO, evenly spread; by default all.  Four times as many
 *               of malloc.  SEED says which one, if it is one
 *   -a          all of malloc, too; otherwise one for each way (call stack) by which memory is
 *               asked for
 *   -b          the command looks by itself whether all is well afterwards: only the catalogue is
 *               looked at, and nothing is done again
 *   -e STATUS   the status with which it ends in peace (0)
 *   -w          the command works in several steps: between before and after there may be others,
 *               and done again it may tell of less, because less was left to do
 *   -x          files may be left: the next start of the daemon looks at them
 *   -m COUNTS   the counters, made by the caller, who lets calls count (first byte 0) or not (1)
 *
 * Nothing is synced to the disk in all of this, because it takes longest.
 *
 * SITE/faults is a file of shell assignments for programs that are started with an environment of
 * their own.  What is wrong is printed, and what was run; status 1 if anything was wrong.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "shim.h"
#include "sweep.h"

/*
 * A status above is no command's own: a shell that cannot start it, a sanitizer, a test's
 * complaint.
 */
enum { STATUS_MAX = 99, STEP_MS = 2, LEFT_MS = 5000, SAID_MAX = 1 << 20 };

static const char *const call_names[N_CALLS] = {
#define CALL_NAME(id, name) name,
	SHIM_CALLS(CALL_NAME)
};

struct sweep {
	const char *site, *shim, *check;
	const char *const *command;
	char *counts_file;
	struct shim_counts *counts;
	long *points;		/* of malloc: one for each call stack */
	long n_points;
	long totals[N_CALLS];
	long spread;		/* 0: all */
	long seed;		/* which one, where one is tried */
	int seconds;
	bool all, verbose, loose, unlisted, steps;	/* -a -v -b -x -w */
	int done;		/* the status with which it ends in peace */
	struct buf before, after, files_after;
	long n_runs, n_wrong, n_missed;
};

/* How one run ended. */
struct end {
	int status;		/* as waitpid(); -1: it had to be killed */
	bool left;		/* processes of it were left */
	long long ms;
};

static void __attribute__((noreturn))
die(const char *what)
{
	fprintf(stderr, "sweep: %s: %s\n", what, strerrordesc_np(errno));
	exit(98);
}

/* ---- one run --------------------------------------------------------------------------------- */

/* What was begun is in process groups of its own: whoever ends us does not reach it. */
static volatile sig_atomic_t stopped;

static void
on_stop(int sig)
{
	stopped = sig;
}

static void
heed_signals(void)
{
	struct sigaction act = { .sa_handler = on_stop };

	for (int i = 0; i < 3; i++)
		sigaction((const int[]){ SIGTERM, SIGINT, SIGHUP }[i], &act, NULL);
}

static bool
is_transparent(const char *fail)
{
	return strstr(fail, ":EINTR") != NULL || strstr(fail, ":short") != NULL;
}

/* SQLite takes an interrupted fsync() for a failed one. */
static const char *
skipped(const char *fail)
{
	return is_transparent(fail) ? "catalogue.db" : "";
}

/* To open a file can only be interrupted where files come over a network: those of the site. */
static const char *
only(const struct sweep *s, const char *fail)
{
	return strncmp(fail, "open:", 5) == 0 && is_transparent(fail) ? s->site : "";
}

static const char *
setting(const char *name)
{
	const char *value = getenv(name);

	return value != NULL ? value : "";
}

static void
write_faults(const struct sweep *s, const char *fail)
{
	CLEANUP_FREE char *path = xasprintf("%s/faults", s->site);
	FILE *f = fopen(path, "w");

	if (f == NULL)
		die(path);
	if (fail != NULL)
		fprintf(f, "LD_PRELOAD=%s SHIM_COUNT=%s SHIM_FAIL=%s SHIM_SKIP=%s SHIM_PATH=%s"
			" SHIM_PROGRAM=%s SHIM_NOSYNC=1\n", s->shim, s->counts_file, fail,
			skipped(fail), only(s, fail), setting("SHIM_PROGRAM"));
	else
		fprintf(f, "LD_PRELOAD=%s SHIM_NOSYNC=1\n", s->shim);
	if (fclose(f) != 0)
		die(path);
}

static void __attribute__((noreturn))
become_command(const struct sweep *s, const char *const *command, const char *fail)
{
	CLEANUP_FREE char *said = xasprintf("%s/said", s->site);
	int out = open(said, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
	int null = open("/dev/null", O_RDONLY);

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (out < 0 || null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(97);
	setenv("LD_PRELOAD", s->shim, 1);
	setenv("SHIM_NOSYNC", "1", 1);
	if (fail != NULL) {
		setenv("SHIM_COUNT", s->counts_file, 1);
		setenv("SHIM_FAIL", fail, 1);
		setenv("SHIM_SKIP", skipped(fail), 1);
		setenv("SHIM_PATH", only(s, fail), 1);
	}
	execvp(command[0], (char *const *)(uintptr_t)command);
	_exit(97);
}

static void
sleep_ms(long ms)
{
	const struct timespec step = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&step, NULL);
}

/* What a process of ours left behind is our child now. */
static bool
has_children(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		;
	return pid == 0;
}

static void
kill_children(void)
{
	CLEANUP_BUF struct buf list = BUF_INIT;
	CLEANUP_FREE char *path = xasprintf("/proc/self/task/%d/children", (int)getpid());
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *at, *end;

	if (fd < 0 || io_read_to_end(fd, SAID_MAX, &list) != 0)
		return;
	at = list.data;
	for (long pid; at != NULL && (pid = strtol(at, &end, 10)) > 0; at = end)
		kill((pid_t)pid, SIGKILL);
}

static bool
wait_children(long long ms)
{
	long long until = io_monotonic_ms() + ms;

	while (has_children()) {
		if (stopped || io_monotonic_ms() >= until)
			return false;
		sleep_ms(STEP_MS);
	}
	return true;
}

/* Waits for the command, and for what it began. */
static struct end
await(const struct sweep *s, pid_t pid)
{
	long long begun = io_monotonic_ms(), until = begun + s->seconds * 1000LL;
	struct end end = { .status = -1 };

	while (waitpid(pid, &end.status, WNOHANG) == 0) {
		end.status = -1;
		if (stopped || io_monotonic_ms() >= until) {
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			break;
		}
		sleep_ms(STEP_MS);
	}
	end.ms = io_monotonic_ms() - begun;
	end.left = !wait_children(end.status == -1 ? 0 : LEFT_MS);
	while (!wait_children(0)) {
		kill_children();
		sleep_ms(STEP_MS);
	}
	if (stopped)
		exit(128 + stopped);
	return end;
}

/* fail: the setting for the shim, "" to count only, NULL for no shim. */
static struct end
run(struct sweep *s, const char *const *command, const char *fail)
{
	pid_t pid;

	write_faults(s, fail);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		become_command(s, command, fail);
	return await(s, pid);
}

static void
clear_counts(struct sweep *s)
{
	for (int i = 0; i < N_CALLS; i++)
		s->counts->n[i] = 0;
	s->counts->struck = 0;
}

static void
what_it_said(const struct sweep *s, struct buf *out)
{
	CLEANUP_FREE char *path = xasprintf("%s/said", s->site);

	buf_clear(out);
	io_read_file(AT_FDCWD, path, SAID_MAX, out);
}

/* ---- in peace -------------------------------------------------------------------------------- */

static void
look(const struct sweep *s, struct buf *rows, struct buf *files)
{
	buf_clear(rows);
	site_rows(s->site, rows);
	if (files != NULL) {
		buf_clear(files);
		site_files(s->site, files);
	}
}

static int
compare_points(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return x[0] != y[0] ? (x[0] < y[0] ? -1 : 1) : x[1] != y[1] ? (x[1] < y[1] ? -1 : 1) : 0;
}

static int
compare_longs(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? -1 : x > y;
}

/* The first call of each stack. */
static void
choose_stacks(struct sweep *s)
{
	long total = s->totals[CALL_MALLOC], n = total < SHIM_STACKS ? total : SHIM_STACKS - 1;
	CLEANUP_FREE uint64_t (*pairs)[2] = xcalloc((size_t)n + 1, sizeof(*pairs));

	for (long i = 0; i < n; i++) {
		pairs[i][0] = s->counts->stacks[i + 1];
		pairs[i][1] = (uint64_t)i + 1;
	}
	qsort(pairs, (size_t)n, sizeof(*pairs), compare_points);
	s->points = xcalloc((size_t)n + 1, sizeof(*s->points));
	for (long i = 0; i < n; i++)
		if (i == 0 || pairs[i][0] != pairs[i - 1][0])
			s->points[s->n_points++] = (long)pairs[i][1];
	qsort(s->points, (size_t)s->n_points, sizeof(*s->points), compare_longs);
}

static bool
ended_with(const struct end *end, int status)
{
	return end->status >= 0 && WIFEXITED(end->status) && WEXITSTATUS(end->status) == status;
}

static bool
ended_well(const struct end *end)
{
	return ended_with(end, 0);
}

static int
run_in_peace(struct sweep *s)
{
	CLEANUP_BUF struct buf again = BUF_INIT, said = BUF_INIT;
	struct end end;

	look(s, &s->before, NULL);
	clear_counts(s);
	s->counts->stacked = 1;
	end = run(s, s->command, "");
	s->counts->stacked = 0;
	look(s, &s->after, &s->files_after);
	what_it_said(s, &said);
	if (!ended_with(&end, s->done) || end.left) {
		printf("# without a fault it ends with status %#x%s: %s\n", (unsigned)end.status,
		       end.left ? " and leaves processes" : "", buf_str(&said));
		return -1;
	}
	for (int i = 0; i < N_CALLS; i++)
		s->totals[i] = s->counts->n[i];
	choose_stacks(s);
	if (s->loose)
		return 0;
	site_load(s->site, "sweep");
	run(s, s->command, NULL);
	look(s, &again, NULL);
	if (strcmp(buf_str(&again), buf_str(&s->after)) != 0) {
		printf("# run twice it does not do the same:\n%s\n%s\n", buf_str(&s->after),
		       buf_str(&again));
		return -1;
	}
	return 0;
}

/* ---- with a fault ---------------------------------------------------------------------------- */

static void __attribute__((format(printf, 3, 4)))
wrong(struct sweep *s, const char *fail, const char *fmt, ...)
{
	CLEANUP_BUF struct buf said = BUF_INIT;
	va_list ap;

	what_it_said(s, &said);
	s->n_wrong++;
	printf("# %s: ", fail);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("; it said: %.*s\n", (int)strcspn(buf_str(&said), "\n"), buf_str(&said));
	fflush(stdout);
}

static bool
equal(const struct buf *a, const struct buf *b)
{
	return strcmp(buf_str(a), buf_str(b)) == 0;
}

/* What was said and done; false if something is wrong. */
static bool
judge_end(struct sweep *s, const char *fail, const struct end *end)
{
	CLEANUP_BUF struct buf said = BUF_INIT;

	what_it_said(s, &said);
	if (end->status < 0)
		wrong(s, fail, "it does not end within %d s", s->seconds);
	else if (WIFSIGNALED(end->status))
		wrong(s, fail, "it is ended by signal %d", WTERMSIG(end->status));
	else if (strstr(buf_str(&said), "Sanitizer") != NULL)
		wrong(s, fail, "a sanitizer finds something");
	else if (end->left)
		wrong(s, fail, "processes of it are left");
	else if (WEXITSTATUS(end->status) >= STATUS_MAX)
		wrong(s, fail, "it ends with status %d", WEXITSTATUS(end->status));
	else if (!ended_with(end, s->done) && is_transparent(fail))
		wrong(s, fail, "it ends with status %d", WEXITSTATUS(end->status));
	else if (!ended_well(end) && said.len == 0)
		wrong(s, fail, "it ends with status %d and does not say why",
		      WEXITSTATUS(end->status));
	else
		return true;
	return false;
}

static bool
judge_rows(struct sweep *s, const char *fail, const struct end *end)
{
	CLEANUP_BUF struct buf rows = BUF_INIT;

	look(s, &rows, NULL);
	if (equal(&rows, &s->after))
		return true;
	else if (!s->loose && ended_well(end))
		wrong(s, fail, "it ends with 0, and it is not done");
	else if (equal(&rows, &s->before))
		return true;
	else if (strstr(buf_str(&rows), "\n!") != NULL || buf_str(&rows)[0] == '!')
		wrong(s, fail, "the catalogue is damaged");
	else if (s->loose || s->steps)
		return true;
	else
		wrong(s, fail, "it is neither as before nor as after");
	site_show_difference("as after would be", &s->after, &rows);
	site_show_difference("as before would be", &s->before, &rows);
	return false;
}

static bool
is_as_after(const struct sweep *s, struct buf *rows)
{
	CLEANUP_BUF struct buf after = BUF_INIT;

	buf_puts(&after, buf_str(&s->after));
	if (s->steps) {
		site_drop_events(&after);
		site_drop_events(rows);
	}
	return equal(rows, &after);
}

static bool
judge_again(struct sweep *s, const char *fail)
{
	CLEANUP_BUF struct buf rows = BUF_INIT, files = BUF_INIT;
	struct end end = run(s, s->command, NULL);

	look(s, &rows, &files);
	if (end.status < 0 || end.left || WIFSIGNALED(end.status)) {
		wrong(s, fail, "done again in peace it does not end");
		return false;
	}
	if (!is_as_after(s, &rows)) {
		wrong(s, fail, "done again in peace it is not as after");
		site_show_difference("as after would be", &s->after, &rows);
		return false;
	}
	if (!s->unlisted && !equal(&files, &s->files_after)) {
		wrong(s, fail, "there are other files than after");
		site_show_difference("there would be", &s->files_after, &files);
		return false;
	}
	if (s->check != NULL) {
		end = run(s, (const char *[]){ "sh", "-c", s->check, NULL }, NULL);
		if (!ended_well(&end)) {
			wrong(s, fail, "then '%s' fails", s->check);
			return false;
		}
	}
	return true;
}

/* False if the fault was not met. */
static bool
try_point(struct sweep *s, const char *fail)
{
	struct end end;

	site_load(s->site, "sweep");
	clear_counts(s);
	end = run(s, s->command, fail);
	if (s->counts->struck == 0) {
		s->n_missed++;
		return false;
	}
	s->n_runs++;
	if (s->verbose)
		printf("# %s: status %#x, %lld ms\n", fail, (unsigned)end.status, end.ms);
	if (judge_end(s, fail, &end) && judge_rows(s, fail, &end) && !s->loose)
		judge_again(s, fail);
	return true;
}

/* What nobody may notice is not tried with all files: see skipped() and only(). */
static long
count_calls(struct sweep *s, const char *name, enum shim_call call, const char *errnum)
{
	CLEANUP_FREE char *never = xasprintf("%s:%d:%s", name, INT_MAX, errnum);

	if (!is_transparent(never))
		return s->totals[call];
	site_load(s->site, "sweep");
	clear_counts(s);
	run(s, s->command, never);
	return s->counts->n[call];
}

static bool
try_call(struct sweep *s, const char *name, long n, const char *errnum)
{
	CLEANUP_FREE char *fail = xasprintf("%s:%ld:%s", name, n, errnum);

	return try_point(s, fail);
}

/*
 * The ns to try: those of a spread over 1..total, or over the stacks.  Not each run makes as many
 * calls: where one was not reached an earlier one is tried.
 */
static void
sweep_fault(struct sweep *s, const char *name, enum shim_call call, const char *errnum)
{
	bool by_stack = call == CALL_MALLOC && !s->all;
	long total = count_calls(s, name, call, errnum), n, tries;
	long runs = s->n_runs, missed = s->n_missed, bad = s->n_wrong;

	n = by_stack ? s->n_points : total;
	tries = call == CALL_MALLOC ? 4 * s->spread : s->spread;
	if (tries == 0 || tries > n)
		tries = n;
	for (long i = 0; i < tries; i++) {
		/* The first and the last, and between them evenly; a single one is anywhere. */
		long at = tries > 1 ? i * (n - 1) / (tries - 1) : s->seed * 7919 % n;

		while (!try_call(s, name, by_stack ? s->points[at] : at + 1, errnum) && at > 0)
			at /= 2;
	}
	printf("# %s:%s: %ld calls, %ld failed, %ld not reached, %ld wrong\n", name, errnum,
	       total, s->n_runs - runs, s->n_missed - missed, s->n_wrong - bad);
	fflush(stdout);
}

static enum shim_call
call_of(const char *name)
{
	for (int i = 0; i < N_CALLS; i++)
		if (strcmp(call_names[i], name) == 0)
			return (enum shim_call)i;
	errno = EINVAL;
	die(name);
}

static void
sweep_all(struct sweep *s, char *faults)
{
	char *word, *errnum;

	while ((word = strsep(&faults, ",")) != NULL) {
		errnum = word;
		strsep(&errnum, ":");
		if (errnum == NULL) {
			errno = EINVAL;
			die(word);
		}
		sweep_fault(s, word, call_of(word), errnum);
	}
}

/* The counters: a file, so that processes that are started in a roundabout way find them. */
static void
map_counts(struct sweep *s)
{
	int fd;

	if (s->counts_file == NULL)
		s->counts_file = xasprintf("%s/counts", s->site);
	fd = open(s->counts_file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0 || fchmod(fd, 0666) != 0 || ftruncate(fd, sizeof(*s->counts)) != 0)
		die(s->counts_file);
	s->counts = mmap(NULL, sizeof(*s->counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (s->counts == MAP_FAILED)
		die(s->counts_file);
	close(fd);
}

static void __attribute__((noreturn))
usage(void)
{
	fputs("usage: sweep [-abvwx] [-e STATUS] [-n POINTS] [-o SEED] [-t SECONDS] [-k CHECK]"
	      " [-m COUNTS] -s SITE -S SHIM -f CALL:ERRNO[,...] -- COMMAND...\n", stderr);
	exit(2);
}

static char *
parse(struct sweep *s, int argc, char **argv)
{
	char *faults = NULL;
	int c;

	while ((c = getopt(argc, argv, "+abvwxe:n:o:t:k:m:s:S:f:")) != -1) {
		switch (c) {
		case 'a': s->all = true; break;
		case 'b': s->loose = true; break;
		case 'v': s->verbose = true; break;
		case 'w': s->steps = true; break;
		case 'x': s->unlisted = true; break;
		case 'e': s->done = (int)strtol(optarg, NULL, 10); break;
		case 'o': s->seed = strtol(optarg, NULL, 10); break;
		case 'n': s->spread = strtol(optarg, NULL, 10); break;
		case 't': s->seconds = (int)strtol(optarg, NULL, 10); break;
		case 'k': s->check = optarg; break;
		case 'm': s->counts_file = optarg; break;
		case 's': s->site = optarg; break;
		case 'S': s->shim = optarg; break;
		case 'f': faults = optarg; break;
		default: usage();
		}
	}
	if (s->site == NULL || s->shim == NULL || faults == NULL || optind == argc)
		usage();
	s->command = (const char *const *)argv + optind;
	return faults;
}

int
main(int argc, char **argv)
{
	struct sweep s = { .seconds = 20 };
	char *faults = parse(&s, argc, argv);
	long long begun = io_monotonic_ms();

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	heed_signals();
	map_counts(&s);
	site_save(s.site, "sweep");
	if (run_in_peace(&s) == 0)
		sweep_all(&s, faults);
	printf("# %ld runs, %ld wrong, %ld not reached, %lld ms\n", s.n_runs, s.n_wrong,
	       s.n_missed, io_monotonic_ms() - begun);
	site_load(s.site, "sweep");
	return s.n_wrong > 0 || s.n_runs == 0;
}
