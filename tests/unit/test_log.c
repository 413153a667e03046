/*
 * test_log.c - what stands in the log, and what never does.
 *
 * The lines are caught on descriptor 2.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/io.h"
#include "core/limits.h"
#include "core/log.h"

static int caught = -1, real_stderr = -1;

static int
setup(void **state)
{
	char path[] = "/tmp/test_log.XXXXXX";
	static int n;

	(void)state;
	caught = mkostemp(path, O_CLOEXEC);
	if (caught < 0)
		return -1;
	unlink(path);
	real_stderr = fcntl(2, F_DUPFD_CLOEXEC, 3);
	log_open("prog", false, LOG_LVL_INFO);
	if (dup2(caught, 2) != 2)
		return -1;
	/* So that no line repeats one of the test before. */
	log_error("test %d", ++n);
	return ftruncate(caught, 0) != 0 || lseek(caught, 0, SEEK_SET) != 0;
}

static int
teardown(void **state)
{
	(void)state;
	fflush(stderr);
	dup2(real_stderr, 2);
	close(real_stderr);
	close(caught);
	return 0;
}

/* What was written since the last call; the caller frees it. */
static char *
lines(void)
{
	static struct buf text = BUF_INIT;

	fflush(stderr);
	buf_clear(&text);
	lseek(caught, 0, SEEK_SET);
	assert_int_equal(io_read_to_end(caught, 1 << 24, &text), 0);
	assert_int_equal(ftruncate(caught, 0), 0);
	lseek(caught, 0, SEEK_SET);
	return buf_steal(&text, NULL);
}

static void
assert_lines(const char *wanted)
{
	char *found = lines();

	assert_string_equal(found, wanted);
	free(found);
}

static void
says_program_and_level(void **state)
{
	(void)state;
	log_error("%s %d", "broken", 1);
	log_warning("odd");
	log_info("done");
	assert_lines("prog: error: broken 1\nprog: warning: odd\nprog: info: done\n");
}

static void
leaves_out_what_is_below_its_level(void **state)
{
	(void)state;
	log_debug("detail");
	log_set_level(LOG_LVL_ERROR);
	log_warning("odd");
	log_error("broken");
	log_set_level(LOG_LVL_DEBUG);
	log_debug("detail");
	assert_lines("prog: error: broken\nprog: debug: detail\n");
}

static void
escapes_control_bytes(void **state)
{
	(void)state;
	log_info("title '%s'", "x\nprog: error: all is lost\033[2J\r\x9b");
	assert_lines("prog: info: title 'x\\x0Aprog: error: all is lost\\x1B[2J\\x0D\\x9B'\n");
	log_info("%s", "%n%s%1000000d");
	assert_lines("prog: info: %n%s%1000000d\n");
}

static void
cuts_long_lines(void **state)
{
	size_t len = 10 << 20;
	char *text = malloc(len + 1), *found;

	(void)state;
	memset(text, 'x', len);
	text[len] = '\0';
	log_info("%s", text);
	found = lines();
	assert_in_range(strlen(found), 900, strlen("prog: info: \n") + LIMIT_LOG_LINE);
	assert_non_null(strstr(found, "xxx... (10485760 bytes)\n"));
	free(found);
	text[LIMIT_LOG_LINE] = '\0';
	log_info("%s", text);
	found = lines();
	assert_int_equal(strlen(found), strlen("prog: info: \n") + LIMIT_LOG_LINE);
	free(found);
	free(text);
}

static void
counts_repeats(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++)
		log_warning("the same");
	log_info("another");
	log_info("another");
	log_error("another");
	log_error("last");
	assert_lines("prog: warning: the same\n"
		     "prog: warning: last message repeated 999 times\n"
		     "prog: info: another\n"
		     "prog: info: last message repeated 1 times\n"
		     "prog: error: another\n"
		     "prog: error: last\n");
}

static void
tells_a_refusal_in_one_line(void **state)
{
	struct err err = { 0 };

	(void)state;
	err_refuse(&err, CODE_DIGEST, "the SHA-512 differs");
	log_err(LOG_LVL_WARNING, "a.img", &err);
	err_set(&err, ENOENT, "there is none");
	log_err(LOG_LVL_INFO, "b\nimg", &err);
	assert_lines("prog: warning: code 42: a.img: the SHA-512 differs\n"
		     "prog: info: b\\x0Aimg: there is none\n");
}

enum { THREADS = 4, EACH = 500 };

static void *
log_much(void *arg)
{
	for (int i = 0; i < EACH; i++)
		log_info("%s %d", (const char *)arg, i);
	return NULL;
}

static void
keeps_lines_of_threads_whole(void **state)
{
	static char names[THREADS][100];
	pthread_t threads[THREADS];
	char *found, *save = NULL;
	int n = 0;

	(void)state;
	for (int i = 0; i < THREADS; i++) {
		memset(names[i], 'a' + i, sizeof(names[i]) - 1);
		assert_int_equal(pthread_create(&threads[i], NULL, log_much, names[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	found = lines();
	for (char *line = strtok_r(found, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		const char *text = line + strlen("prog: info: ");
		size_t run = strspn(text, (char[]){ text[0], '\0' });

		assert_int_equal(run, sizeof(names[0]) - 1);
		assert_in_range(strtol(text + run, NULL, 10), 0, EACH - 1);
		n++;
	}
	assert_int_equal(n, THREADS * EACH);
	free(found);
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("a line says program, level and fact", says_program_and_level),
		TEST("what is less important than log_level is left out",
		     leaves_out_what_is_below_its_level),
		TEST("X03 control bytes and format strings from outside are harmless",
		     escapes_control_bytes),
		TEST("X03 a long line is cut at 1 KiB and says its length", cuts_long_lines),
		TEST("the same line again is counted, not written", counts_repeats),
		TEST("a refusal is one line with its code", tells_a_refusal_in_one_line),
		TEST("lines of several threads stay whole", keeps_lines_of_threads_whole),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
