/*
 * test_buf.c - byte strings that grow.
 */
#include "config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/buf.h"
#include "core/code.h"

static void
is_a_string_when_empty(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	assert_string_equal(buf_str(&b), "");
	buf_add(&b, NULL, 0);
	assert_string_equal(buf_str(&b), "");
	buf_release(&b);
	buf_init(&b);
	assert_non_null(b.data);
	assert_string_equal(b.data, "");
	buf_release(&b);
	buf_release(&b);
}

/* Against a model, over every growth of the memory. */
static void
keeps_every_byte(void **state)
{
	enum { TOTAL = 100000 };
	char *model = malloc(TOTAL + 1);
	struct buf b = BUF_INIT;
	size_t at = 0, step = 1;

	(void)state;
	for (size_t i = 0; i < TOTAL; i++)
		model[i] = (char)(i * 31 % 251);
	while (at + step <= TOTAL) {
		buf_add(&b, model + at, step);
		at += step;
		step = step * 5 / 3 + 1;
		assert_int_equal(b.len, at);
		assert_true(b.cap > b.len);
		assert_memory_equal(b.data, model, at);
		assert_int_equal(b.data[at], '\0');
	}
	buf_release(&b);
	free(model);
}

static void
holds_nul_bytes(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	buf_add(&b, "a\0b", 3);
	buf_putc(&b, '\0');
	buf_puts(&b, "c");
	assert_int_equal(b.len, 5);
	assert_memory_equal(b.data, "a\0b\0c\0", 6);
	buf_release(&b);
}

static void
prints_of_any_length(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	buf_printf(&b, "%d-%s", 7, "x");
	buf_printf(&b, "%s", "");
	buf_printf(&b, "%*d", 5000, 1);
	assert_int_equal(b.len, 5003);
	assert_int_equal(strncmp(b.data, "7-x   ", 6), 0);
	assert_int_equal(b.data[5002], '1');
	buf_release(&b);
}

static void
is_cleared_with_its_memory(void **state)
{
	struct buf b = BUF_INIT;
	size_t cap;

	(void)state;
	buf_clear(&b);
	buf_puts(&b, "some text");
	cap = b.cap;
	buf_clear(&b);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.cap, cap);
	assert_string_equal(b.data, "");
	buf_release(&b);
}

static void
gives_its_bytes_away(void **state)
{
	struct buf b = BUF_INIT;
	size_t len = 99;
	char *text;

	(void)state;
	buf_puts(&b, "mine");
	text = buf_steal(&b, &len);
	assert_string_equal(text, "mine");
	assert_int_equal(len, 4);
	assert_null(b.data);
	assert_int_equal(b.len, 0);
	free(text);
	text = buf_steal(&b, NULL);
	assert_string_equal(text, "");
	free(text);
}

static void
escapes_what_is_not_printable(void **state)
{
	struct buf b = BUF_INIT;
	char all[256];

	(void)state;
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	buf_add_escaped(&b, all, sizeof(all));
	/* 95 printable bytes as they are, four for each of the others. */
	assert_int_equal(b.len, 95 + 4 * (256 - 95));
	assert_non_null(strstr(b.data, "\\x00\\x01"));
	assert_non_null(strstr(b.data, "\\x1F !\"#"));
	assert_non_null(strstr(b.data, "}~\\x7F\\x80"));
	for (size_t i = 0; i < b.len; i++)
		assert_in_range((unsigned char)b.data[i], 0x20, 0x7e);
	buf_release(&b);
}

static void
copies_strings(void **state)
{
	char *s;

	(void)state;
	assert_null(xstrdup(NULL));
	s = xstrndup("hello", 3);
	assert_string_equal(s, "hel");
	free(s);
	s = xasprintf("%s %d", "n", 3);
	assert_string_equal(s, "n 3");
	free(s);
	s = xcalloc(0, 0);
	assert_non_null(s);
	s = xrealloc(s, 0);
	assert_non_null(s);
	free(s);
}

static void
ends_the_process_without_memory(void **state)
{
	struct rlimit no_core = { 0, 0 };
	int status;
	pid_t pid;

	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	skip();		/* their malloc ends the process by itself */
#endif
	pid = fork();
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		close(2);
		xmalloc(SIZE_MAX / 2);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_TEMPORARY);
}

#define TEST(title, fn) { .name = title, .test_func = fn }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("an empty byte string is an empty text", is_a_string_when_empty),
		TEST("a byte string keeps every byte while it grows", keeps_every_byte),
		TEST("a byte string may hold NUL bytes", holds_nul_bytes),
		TEST("a byte string takes formatted text of any length", prints_of_any_length),
		TEST("a cleared byte string keeps its memory", is_cleared_with_its_memory),
		TEST("a byte string gives its bytes away and is empty after", gives_its_bytes_away),
		TEST("X03 escaped text holds printable ASCII alone", escapes_what_is_not_printable),
		TEST("copies of strings belong to the caller", copies_strings),
		TEST("P13 without memory for something small the process ends with status 5",
		     ends_the_process_without_memory),
	};

	return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
