/*
 * runnerbed.h - the process that runs event handlers, and handlers for it, for unit tests.
 *
 * Handlers are shell scripts in an event_dir of the test's own.
 */
#ifndef VMI_RUNNERBED_H
#define VMI_RUNNERBED_H

#include <poll.h>
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

#include "core/cleanup.h"
#include "core/conf.h"
#include "core/runner.h"
#include "tests/lib/removetree.h"

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

/* ---- the bed ------------------------------------------------------------------------------- */

static inline void
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

static inline void
put_handler(const struct bed *bed, const char *script)
{
	char text[4096];

	snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", script);
	put(bed, "handlers/one", text, 0755);
}

static inline void
configure(const struct bed *bed, const char *lines)
{
	char text[1024];

	snprintf(text, sizeof(text), "user = nobody\nevent_dir = %s/handlers\n%s", bed->dir, lines);
	put(bed, "x.conf", text, 0644);
}

static inline void
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

static inline int
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

static inline int
teardown(void **state)
{
	struct bed *bed = *state;

	runner_free(bed->runner);
	conf_free(bed->conf);
	remove_tree(bed->dir);
	free(bed);
	return 0;
}

/* ---- running ------------------------------------------------------------------------------- */

static inline uint32_t
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

static inline uint32_t
start(struct bed *bed, const char *name)
{
	return start_with(bed, name, "", 0, "{}\n");
}

static inline uint32_t
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

static inline void
reap(struct bed *bed, uint32_t id, struct result *r)
{
	assert_int_equal(reap_any(bed, r), id);
}

static inline void
run(struct bed *bed, const char *name, struct result *r)
{
	reap(bed, start(bed, name), r);
}

static inline void
says(const struct result *r, const char *part)
{
	if (strstr(buf_str(&r->output), part) == NULL)
		fail_msg("'%s' does not say '%s'", buf_str(&r->output), part);
}

static inline void
exited(const struct result *r, int status)
{
	if (!WIFEXITED(r->status) || WEXITSTATUS(r->status) != status)
		fail_msg("status %x, not exit %d: %s", (unsigned)r->status, status,
			 buf_str(&r->output));
}

#define NAMED(title, fn) { title, fn, setup, teardown, NULL }

#endif
