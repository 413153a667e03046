/*
 * test_audit.c - the pass over a whole file.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/audit.h"
#include "core/io.h"

static int
file_of(const void *data, size_t size)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, data, size), 0);
	return fd;
}

static unsigned char *
random_bytes(size_t size, unsigned seed)
{
	unsigned char *data = malloc(size + 1);

	assert_non_null(data);
	for (size_t i = 0; i < size; i++) {
		seed = seed * 1664525 + 1013904223;
		data[i] = (unsigned char)(seed >> 24);
	}
	return data;
}

/* The same in one thread. */
static void
digests_of(const unsigned char *data, size_t size, struct digest *sha512, struct digest *verity)
{
	struct verity_builder *b;
	struct verity_shape s;
	struct digest d;

	digest_of(data, size, sha512);
	assert_true(verity_shape_init(&s, (int64_t)size));
	assert_int_equal(verity_builder_new(&b, (int64_t)size), 0);
	for (int64_t g = 0; g < s.n_granules; g++) {
		verity_granule(&s, data + g * VERITY_GRANULE, verity_granule_size(&s, g), NULL, &d);
		verity_builder_set(b, g, &d);
	}
	verity_builder_end(b, verity);
	verity_builder_free(b);
}

static void
gives_both_digests(void **state)
{
	static const size_t sizes[] = { 0, 1, 4096, 4097, VERITY_GRANULE - 1, VERITY_GRANULE,
					VERITY_GRANULE + 1, 100 * VERITY_GRANULE + 12345 };

	(void)state;
	for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
		unsigned char *data = random_bytes(sizes[n], (unsigned)n);
		struct audit a = { .fd = file_of(data, sizes[n]), .size = (int64_t)sizes[n] };
		struct digest sha512, verity;

		digests_of(data, sizes[n], &sha512, &verity);
		for (int whole = 0; whole < 2; whole++) {
			a.whole = whole;
			assert_int_equal(audit_run(&a, NULL), 0);
			assert_true(digest_equal(&a.verity, &verity));
			if (whole)
				assert_true(digest_equal(&a.sha512, &sha512));
			assert_non_null(a.builder);
			verity_builder_free(a.builder);
		}
		close(a.fd);
		free(data);
	}
}

/* ---- what is told on the way ----------------------------------------------------------------- */

struct told {
	pthread_mutex_t lock;
	int64_t last, end_at;
	int n_calls;
	unsigned char *level0;
	unsigned char seen[64];
};

static int
progress(void *arg, int64_t done)
{
	struct told *t = arg;

	assert_true(done > t->last);
	t->last = done;
	t->n_calls++;
	return t->end_at > 0 && done >= t->end_at ? -ECANCELED : 0;
}

static void
level0(void *arg, int64_t g, const unsigned char block[VERITY_BLOCK])
{
	struct told *t = arg;

	pthread_mutex_lock(&t->lock);
	t->seen[g]++;
	memcpy(t->level0 + g * VERITY_BLOCK, block, VERITY_BLOCK);
	pthread_mutex_unlock(&t->lock);
}

static void
tells_progress_and_blocks(void **state)
{
	enum { SIZE = 40 * VERITY_GRANULE + 77, GRANULES = 41 };
	unsigned char *data = random_bytes(SIZE, 5), block[VERITY_BLOCK];
	struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct audit a = { .fd = file_of(data, SIZE), .size = SIZE, .progress = progress,
			   .level0 = level0, .arg = &t };
	struct verity_shape s;
	struct digest d;

	(void)state;
	t.level0 = calloc(GRANULES, VERITY_BLOCK);
	assert_int_equal(audit_run(&a, NULL), 0);
	assert_int_equal(t.last, SIZE);
	assert_true(t.n_calls > 1);
	assert_true(verity_shape_init(&s, SIZE));
	for (int64_t g = 0; g < GRANULES; g++) {
		assert_int_equal(t.seen[g], 1);
		verity_granule(&s, data + g * VERITY_GRANULE, verity_granule_size(&s, g), block,
			       &d);
		assert_memory_equal(t.level0 + g * VERITY_BLOCK, block, VERITY_BLOCK);
	}
	verity_builder_free(a.builder);
	close(a.fd);
	free(t.level0);
	free(data);
}

static void
one_leaf_has_no_level0(void **state)
{
	struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct audit a = { .fd = file_of("abc", 3), .size = 3, .level0 = level0, .arg = &t };

	(void)state;
	assert_int_equal(audit_run(&a, NULL), 0);
	assert_int_equal(t.seen[0], 0);
	verity_builder_free(a.builder);
	close(a.fd);
}

static void
ends_when_it_is_told(void **state)
{
	enum { SIZE = 60 * VERITY_GRANULE };
	unsigned char *data = random_bytes(SIZE, 6);
	struct told t = { .end_at = 20 * VERITY_GRANULE };
	struct audit a = { .fd = file_of(data, SIZE), .size = SIZE, .whole = true,
			   .progress = progress, .arg = &t };

	(void)state;
	for (int n = 0; n < 20; n++) {
		struct err err = { 0 };

		t.last = 0;
		assert_int_equal(audit_run(&a, &err), -ECANCELED);
		assert_int_equal(err.rc, -ECANCELED);
		assert_int_equal(t.last, 20 * VERITY_GRANULE);
		assert_null(a.builder);
	}
	close(a.fd);
	free(data);
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void
short_file_is_found(void **state)
{
	unsigned char *data = random_bytes(3 * VERITY_GRANULE, 7);
	struct audit a = { .fd = file_of(data, 2 * VERITY_GRANULE + 9), .whole = true,
			   .size = 2 * VERITY_GRANULE + 10 };
	struct err err = { 0 };

	(void)state;
	assert_int_equal(audit_run(&a, &err), -EBADMSG);
	assert_int_equal(err.code, CODE_SIZE);
	assert_null(a.builder);
	/* Longer than it should be is not the pass's to judge: it reads size bytes. */
	a.size = 2 * VERITY_GRANULE + 8;
	assert_int_equal(audit_run(&a, &err), 0);
	verity_builder_free(a.builder);
	close(a.fd);
	free(data);
}

static void
unreadable_file_is_an_error(void **state)
{
	struct audit a = { .fd = open("/", O_RDONLY | O_DIRECTORY), .size = 10 * VERITY_GRANULE,
			   .whole = true };
	struct err err = { 0 };

	(void)state;
	assert_int_equal(audit_run(&a, &err), -EISDIR);
	assert_non_null(strstr(err.text, "byte 0"));
	assert_null(a.builder);
	close(a.fd);
	a.size = -1;
	assert_int_equal(audit_run(&a, &err), -EINVAL);
	assert_null(a.builder);
}

/* A hole is zeros.  5 MiB with two written bytes. */
static void
holes_are_zeros(void **state)
{
	enum { SIZE = 5 << 20 };
	unsigned char *data = calloc(1, SIZE);
	struct audit a = { .fd = memfd_create("sparse", MFD_CLOEXEC), .size = SIZE, .whole = true };
	struct digest sha512, verity;

	(void)state;
	data[0] = data[3 << 20] = 'x';
	assert_int_equal(ftruncate(a.fd, SIZE), 0);
	assert_int_equal(pwrite(a.fd, "x", 1, 0), 1);
	assert_int_equal(pwrite(a.fd, "x", 1, 3 << 20), 1);
	digests_of(data, SIZE, &sha512, &verity);
	assert_int_equal(audit_run(&a, NULL), 0);
	assert_true(digest_equal(&a.sha512, &sha512));
	assert_true(digest_equal(&a.verity, &verity));
	verity_builder_free(a.builder);
	close(a.fd);
	free(data);
}

#define TEST(title, fn) { .name = title, .test_func = fn }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("a pass gives the SHA-512 and the fs-verity digest of a file of any size",
		     gives_both_digests),
		TEST("a pass tells how far it is, and every level-0 block once",
		     tells_progress_and_blocks),
		TEST("a file of one leaf has no level-0 block", one_leaf_has_no_level0),
		TEST("a pass ends when it is told to", ends_when_it_is_told),
		TEST("a file that is too short is refused with its size", short_file_is_found),
		TEST("what cannot be read is an error that says where",
		     unreadable_file_is_an_error),
		TEST("a hole in a file is zeros", holes_are_zeros),
	};

	return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
