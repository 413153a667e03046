/*
 * test_backing.c - which stored file the kernel reads for an object.
 *
 * The kernel is played by this file: it gives numbers, and knows which are in use.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "fs/backing.h"

enum { DEVICE = 3000, N_NUMBERS = 16 };

static int file_of[N_NUMBERS];	/* 0: the number is free */
static int n_given, refusal;

static int
give_number(const int32_t *map)
{
	if (refusal != 0) {
		errno = refusal;
		return -1;
	}
	file_of[++n_given] = map[0];
	return n_given;
}

int
ioctl(int fd, unsigned long request, ...)
{
	const uint32_t *number;
	const void *arg;
	va_list args;

	va_start(args, request);
	arg = va_arg(args, const void *);
	va_end(args);
	assert_int_equal(fd, DEVICE);
	if (_IOC_NR(request) == 1)
		return give_number(arg);
	assert_int_equal(_IOC_NR(request), 2);
	number = arg;
	assert_true(*number > 0 && *number < N_NUMBERS && file_of[*number] != 0);
	file_of[*number] = 0;
	return 0;
}

static struct backings backings;

static int
setup(void **state)
{
	(void)state;
	memset(file_of, 0, sizeof(file_of));
	n_given = refusal = 0;
	backings_init(&backings, DEVICE);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	backings_release(&backings);
	return 0;
}

static int
n_files(void)
{
	int n = 0;

	for (int i = 0; i < N_NUMBERS; i++)
		n += file_of[i] != 0;
	return n;
}

static struct digest
object(unsigned char letter)
{
	struct digest d;

	memset(d.bytes, letter, sizeof(d.bytes));
	return d;
}

static void
known_to_the_next_worker(void **state)
{
	struct digest a = object('a'), b = object('b');
	int id = backings_open(&backings, &a, 10);

	(void)state;
	assert_true(id > 0);
	assert_int_equal(backings_open(&backings, &a, -1), id);
	assert_int_equal(backings_open(&backings, &b, -1), -EBADF);
	assert_int_equal(n_files(), 1);
}

static void
another_file(void **state)
{
	struct digest a = object('a');
	int old = backings_open(&backings, &a, 10), id = backings_open(&backings, &a, 11);

	(void)state;
	assert_int_equal(file_of[id], 11);
	assert_int_equal(file_of[old], 0);
	assert_int_equal(n_files(), 1);
	assert_int_equal(backings_open(&backings, &a, -1), id);
}

static void
refused_file(void **state)
{
	struct digest a = object('a');

	(void)state;
	assert_true(backings_open(&backings, &a, 10) > 0);
	refusal = ENOTTY;
	assert_int_equal(backings_open(&backings, &a, 11), -ENOTTY);
	assert_int_equal(backings_open(&backings, &a, -1), -EBADF);
	assert_int_equal(n_files(), 0);
}

static bool
is_b(const void *arg, const struct digest *d)
{
	struct digest b = object('b');

	(void)arg;
	return digest_equal(d, &b);
}

static void
unknown_to_the_next_worker(void **state)
{
	struct digest a = object('a'), b = object('b'), c = object('c');

	(void)state;
	backings_open(&backings, &a, 10);
	backings_open(&backings, &b, 11);
	backings_open(&backings, &c, 12);
	backings_keep(&backings, is_b, NULL);
	assert_int_equal(n_files(), 1);
	assert_int_equal(file_of[backings_open(&backings, &b, -1)], 11);
	assert_int_equal(backings_open(&backings, &a, -1), -EBADF);
}

static void
closed(void **state)
{
	struct digest a = object('a');

	(void)state;
	backings_open(&backings, &a, 10);
	backings_close(&backings, &a);
	backings_close(&backings, &a);
	assert_int_equal(n_files(), 0);
	assert_int_equal(backings_open(&backings, &a, -1), -EBADF);
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("a file keeps its number when the next worker asks for it",
		     known_to_the_next_worker),
		TEST("I1 an object that has another file now is read from that one", another_file),
		TEST("I1 nor from the old one when the kernel refuses the new one", refused_file),
		TEST("what was not left to the next worker is let go of",
		     unknown_to_the_next_worker),
		TEST("what is closed has no number any more, and is closed once", closed),
	};

	return cmocka_run_group_tests_name("backing", tests, NULL, NULL);
}
