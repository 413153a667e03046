/*
 * test_lazy_sidecars.c - images in block mode whose tree does not come, or not as it was signed.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/io.h"
#include "core/lanes.h"
#include "core/lazy.h"
#include "tests/lib/rangebed.h"
#include "tests/lib/storebed.h"
#include "tests/unit/lazybed.h"

/* ---- in a test ----------------------------------------------------------------------------- */

static void
assert_unfit(struct site *s, enum code code, const char *text)
{
	struct err e = { 0 };

	wait_state(s, LAZY_UNFIT);
	assert_true(lazy_result(s->lazy, &e) < 0);
	if (e.code != code || strstr(e.text, text) == NULL)
		print_message("code %d: %s\n", (int)e.code, e.text);
	assert_int_equal(e.code, code);
	assert_non_null(strstr(e.text, text));
	assert_non_null(strstr(e.text, "127.0.0.1"));
	assert_null(lazy_blockfile(s->lazy));
	assert_int_equal(s->n_landed, 0);
}

/* A sidecar in this mode, with a reader who waits. */
static void
unfit(void **state, enum rangebed_mode mode, int64_t arg, enum code code, const char *text)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	rangebed_mode(s->web, SIDECAR, mode, arg);
	rangebed_gate(s->web, true);
	start_with(s, 1, 1, NULL);
	lazy_want(s->lazy, 3, 1);
	rangebed_gate(s->web, false);
	wait_told(s, 3, 1);
	assert_unfit(s, code, text);
	assert_int_equal(s->why.code, code);
}

/* ---- bad sidecars -------------------------------------------------------------------------- */

static void
sidecar_absent(void **state)
{
	unfit(state, RB_404, 0, CODE_DOWNLOAD, "HTTP status 404");
}

static void
sidecar_length(void **state)
{
	unfit(state, RB_TOTAL, 0, CODE_SIZE, "signed are");
}

static void
sidecar_endless(void **state)
{
	unfit(state, RB_ENDLESS, 0, CODE_RANGE, "more bytes than");
}

static void
sidecar_slow(void **state)
{
	long long begin = io_monotonic_ms();

	unfit(state, RB_SLOW, 100, CODE_SLOW, "");
	/* Half of a reader's patience is left for what comes instead. */
	assert_true(io_monotonic_ms() - begin < 6000);
}

static void
sidecar_silent(void **state)
{
	unfit(state, RB_SILENT, 0, CODE_SLOW, "");
}

static void
sidecar_without_ranges(void **state)
{
	unfit(state, RB_WHOLE, 0, CODE_RANGE, "without ranges");
}

static void
sidecar_first_block(void **state)
{
	struct site *s = *state;

	if (s != NULL)
		rangebed_flip(s->web, SIDECAR, 10, 0);
	unfit(state, RB_WELL, 0, CODE_BLOCK_DIGEST, "");
}

static void
sidecar_middle_block(void **state)
{
	struct site *s = *state;

	if (s != NULL)
		rangebed_flip(s->web, SIDECAR, shape.prefix / 2 + 5, 0);
	unfit(state, RB_WELL, 0, CODE_BLOCK_DIGEST, "");
}

static void
sidecar_of_another(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	s->sidecars[0].uri = s->uris[OTHER_TREE];
	start_with(s, 1, 1, NULL);
	lazy_want(s->lazy, 3, 1);
	assert_unfit(s, CODE_BLOCK_DIGEST, "");
}

static void
sidecar_refused(void **state)
{
	struct site *s = *state;
	struct rangebed *gone;

	if (s == NULL)
		skip();
	gone = rangebed_new();
	snprintf(s->uris[SIDECAR], sizeof(s->uris[0]), "http://127.0.0.1:%d/img.fsv", gone->port);
	rangebed_free(gone);
	start_with(s, 1, 1, NULL);
	/* Nobody waits: the image is probed. */
	assert_unfit(s, CODE_SLOW, "");
	assert_int_equal(rangebed_count(s->web, IMAGE), 1);
}

/* ---- others -------------------------------------------------------------------------------- */

static void
second_sidecar(void **state)
{
	struct site *s = *state;

	if (s != NULL)
		rangebed_mode(s->web, SIDECAR, RB_404, 0);
	s = start_twice(state);
	want(s, 9, 1);
	assert_true(has_landed(s, 9));
}

static void
short_ranges(void **state)
{
	struct site *s = *state;

	if (s != NULL) {
		rangebed_mode(s->web, SIDECAR, RB_SHORT, 3000);
		rangebed_mode(s->web, IMAGE, RB_SHORT, 100000);
	}
	s = start(state);
	want(s, 12, 2);
	assert_true(has_landed(s, 12) && has_landed(s, 13));
	assert_int_equal(s->n_wrong, 0);
}

static void
everything_refused(void **state)
{
	struct site *s = *state;

	if (s == NULL)
		skip();
	rangebed_shut(s->web);
	start_with(s, 1, 1, NULL);
	want(s, 4, 1);
	assert_false(has_landed(s, 4));
	assert_int_equal(s->why.code, CODE_SLOW);
	assert_int_equal(s->why.rc, -EHOSTUNREACH);
	assert_int_equal(lazy_state(s->lazy), LAZY_ROOTING);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("T40 no sidecar: 404", sidecar_absent),
		TEST("T40 a sidecar of another length", sidecar_length),
		TEST("T40 a sidecar without end", sidecar_endless),
		TEST("T40 a sidecar that comes too slowly", sidecar_slow),
		TEST("T40 a sidecar that does not come", sidecar_silent),
		TEST("T40 a sidecar without ranges", sidecar_without_ranges),
		TEST("T40 a sidecar whose first block is wrong", sidecar_first_block),
		TEST("T40 a sidecar with a wrong block in the middle", sidecar_middle_block),
		TEST("T40 the sidecar of another image", sidecar_of_another),
		TEST("T40 a sidecar out of reach while the image is not", sidecar_refused),
		TEST("a second sidecar takes the place of a bad one", second_sidecar),
		TEST("T28 ranges shorter than asked for are put together", short_ranges),
		TEST("a network that is down fails the readers and decides nothing",
		     everything_refused),
	};

	signal(SIGPIPE, SIG_IGN);
	cmocka_set_test_filter(getenv("VMIMAGEFS_TEST"));
	return cmocka_run_group_tests_name("lazy_sidecars", tests, make_data, free_data);
}
