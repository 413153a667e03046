/*
 * sandboxbed.h - processes that enter a sandbox and try what is left to them, for unit tests.
 *
 * A sandbox is for good, so that each test runs in a process of its own, which ends with the
 * first thing that is not as it should be.
 */
#ifndef VMI_SANDBOXBED_H
#define VMI_SANDBOXBED_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/sandbox.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };		/* its run-time may make processes */
#else
enum { SANITIZED = 0 };
#endif

enum { CHILD_GOOD = 0, CHILD_BAD = 1, CHILD_SKIPS = 77 };

static char dir[] = "/tmp/test_sandbox.XXXXXX";
static char readable[64], writable[64];

static inline int
make_dirs(void **state)
{
	char path[96];
	int fd;

	(void)state;
	if (mkdtemp(dir) == NULL || chmod(dir, 0755) != 0)
		return -1;
	snprintf(readable, sizeof(readable), "%s/readable", dir);
	snprintf(writable, sizeof(writable), "%s/writable", dir);
	if (mkdir(readable, 0777) != 0 || mkdir(writable, 0777) != 0)
		return -1;
	snprintf(path, sizeof(path), "%s/file", readable);
	fd = open(path, O_WRONLY | O_CREAT, 0666);
	return fd >= 0 ? close(fd) : -1;
}

static inline int
remove_dirs(void **state)
{
	char path[96];

	(void)state;
	snprintf(path, sizeof(path), "%s/file", readable);
	unlink(path);
	rmdir(readable);
	rmdir(writable);
	return rmdir(dir);
}

/* ---- in the child -------------------------------------------------------------------------- */

static inline void
expect(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "not as it should be: %s (%s)\n", what, strerrordesc_np(errno));
	_exit(CHILD_BAD);
}

static inline void
enter(enum sandbox_role role, const struct sandbox_path *paths, size_t n)
{
	unsigned missing;
	struct err err = { 0 };

	if (sandbox_enter(role, paths, n, &missing, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		_exit(CHILD_BAD);
	}
	if (missing != 0)
		_exit(CHILD_SKIPS);
}

static inline unsigned long long
effective_capabilities(void)
{
	char line[256];
	unsigned long long caps = ~0ULL;
	FILE *f = fopen("/proc/self/status", "re");

	expect(f != NULL, "/proc/self/status opens");
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	fclose(f);
	return caps;
}

/* ---- the test's part ----------------------------------------------------------------------- */

/* The wait status of a process that does this and ends. */
static inline int
run(void (*body)(void))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		body();
		_exit(CHILD_GOOD);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIPS)
		skip();
	return status;
}

static inline void
in_a_process(void **state)
{
	union {
		void *data;
		void (*body)(void);
	} what = { .data = *state };

	assert_int_equal(run(what.body), 0);
}

static inline void *
body(void (*fn)(void))
{
	union {
		void (*fn)(void);
		void *data;
	} what = { .fn = fn };

	return what.data;
}

#endif
