/*
 * test_engine_fill.c - which images in block mode are filled in the background: who has a place,
 * and who loses it.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/engine_impl.h"
#include "core/io.h"
#include "core/store_priv.h"

enum { PLACES = 2, STALL = 30, LONG_MS = 3600000 };

struct bed {
	struct conf conf;
	struct store store;		/* nothing is in it */
	struct engine e;
	char filling[16];
};

static int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));

	b->conf.fetch_parallel = PLACES;
	b->conf.stall_timeout = STALL;
	b->conf.fill = FILL_NOW;
	b->e.config.conf = &b->conf;
	b->e.config.store = &b->store;
	pthread_mutex_init(&b->store.room, NULL);
	pthread_mutex_init(&b->e.lock, NULL);
	pthread_rwlock_init(&b->e.lazies, NULL);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	for (struct lazyjob *job = b->e.lazyjobs, *next; job != NULL; job = next) {
		next = job->next;
		free(job);
	}
	pthread_mutex_destroy(&b->store.room);
	pthread_rwlock_destroy(&b->e.lazies);
	pthread_mutex_destroy(&b->e.lock);
	free(b);
	return 0;
}

/* Images of these names, one letter each: a capital is a new version of what is here. */
static void
add(struct bed *b, const char *names)
{
	for (; *names != '\0'; names++) {
		struct object_row row = {
			.digest.bytes[0] = (uint8_t)*names, .size = 1 << 20,
			.pending = *names >= 'A' && *names <= 'Z',
		};

		engine_add_lazyjob(&b->e, &row);
	}
}

static struct lazyjob *
image(struct bed *b, char name)
{
	struct digest d = { .bytes[0] = (uint8_t)name };
	struct lazyjob *job = engine_find_lazyjob(&b->e, &d);

	assert_non_null(job);
	return job;
}

/* Whoever has a place begins to fetch its tree. */
static void
plan(struct bed *b)
{
	engine_plan_fill(&b->e);
	for (struct lazyjob *job = b->e.lazyjobs; job != NULL; job = job->next)
		if (job->filling && job->state == LAZYJOB_QUEUED)
			job->state = LAZYJOB_ROOTING;
}

static int
by_letter(const void *a, const void *b)
{
	return *(const char *)a - *(const char *)b;
}

/* The names of those that are filled, after a plan. */
static const char *
filling(struct bed *b)
{
	size_t n = 0;

	plan(b);
	memset(b->filling, 0, sizeof(b->filling));
	for (struct lazyjob *job = b->e.lazyjobs; job != NULL; job = job->next)
		if (job->filling && n < sizeof(b->filling) - 1)
			b->filling[n++] = (char)job->digest.bytes[0];
	qsort(b->filling, n, 1, by_letter);
	return b->filling;
}

static void
pass_time(struct bed *b, long long ms)
{
	for (struct lazyjob *job = b->e.lazyjobs; job != NULL; job = job->next) {
		job->moved_at -= ms;
		job->retry_at -= job->retry_at != 0 ? ms : 0;
	}
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void
few_at_once(void **state)
{
	struct bed *b = *state;

	add(b, "abcdE");
	engine_plan_fill(&b->e);
	engine_plan_fill(&b->e);
	assert_string_equal(filling(b), "Ea");
	image(b, 'E')->state = LAZYJOB_CHECKING;
	assert_string_equal(filling(b), "Eab");
	image(b, 'a')->asked = true;
	assert_string_equal(filling(b), "Eabc");
}

static void
gives_its_place(void **state)
{
	struct bed *b = *state;

	add(b, "abcd");
	assert_string_equal(filling(b), "ab");
	pass_time(b, STALL * 1000);
	assert_string_equal(filling(b), "ab");
	assert_true(engine_places_wait(&b->e, io_monotonic_ms()) <= STALL * 1000);
	pass_time(b, STALL * 1000);
	assert_string_equal(filling(b), "cd");
	pass_time(b, STALL * 2000);
	assert_string_equal(filling(b), "ab");
}

static void
keeps_what_moves(void **state)
{
	struct bed *b = *state;

	add(b, "abc");
	assert_string_equal(filling(b), "ab");
	for (int i = 1; i < 10; i++) {
		image(b, 'b')->bytes += VERITY_GRANULE;
		pass_time(b, LONG_MS);
		assert_string_equal(filling(b), i % 2 == 0 ? "ab" : "bc");
	}
}

static void
alone(void **state)
{
	struct bed *b = *state;

	add(b, "ab");
	assert_string_equal(filling(b), "ab");
	pass_time(b, LONG_MS);
	assert_string_equal(filling(b), "ab");
	assert_int_equal(engine_places_wait(&b->e, io_monotonic_ms()), -1);
	add(b, "c");
	image(b, 'c')->state = LAZYJOB_BACKOFF;
	assert_string_equal(filling(b), "ab");
	image(b, 'c')->state = LAZYJOB_QUEUED;
	assert_string_equal(filling(b), "bc");
}

static void
new_versions_too(void **state)
{
	struct bed *b = *state;

	add(b, "ABCde");
	assert_string_equal(filling(b), "AB");
	pass_time(b, LONG_MS);
	assert_string_equal(filling(b), "Cd");
	pass_time(b, LONG_MS);
	assert_string_equal(filling(b), "Ae");
}

static void
something_came(void **state)
{
	struct bed *b = *state;

	add(b, "AbcdEf");
	assert_string_equal(filling(b), "AE");
	pass_time(b, LONG_MS);
	assert_string_equal(filling(b), "bc");
	/* A reader had it fetched. */
	image(b, 'E')->bytes += VERITY_GRANULE;
	pass_time(b, LONG_MS);
	assert_string_equal(filling(b), "Ed");
}

static void
rests_after_failure(void **state)
{
	struct bed *b = *state;

	add(b, "abc");
	image(b, 'a')->n_failed = 3;
	image(b, 'a')->retry_at = io_monotonic_ms() + LONG_MS;
	assert_string_equal(filling(b), "bc");
	pass_time(b, LONG_MS / 2);
	assert_string_equal(filling(b), "bc");
	pass_time(b, LONG_MS / 2);
	assert_string_equal(filling(b), "ac");
}

static void
needs_none(void **state)
{
	struct bed *b = *state;

	add(b, "abcde");
	image(b, 'a')->asked = true;
	image(b, 'b')->withdrawn = true;
	assert_string_equal(filling(b), "abcd");
	pass_time(b, LONG_MS);
	assert_string_equal(filling(b), "abde");
}

/* The disk has failed it, and the time of its next try has come. */
static void
fail_long_ago(struct bed *b, char name)
{
	struct lazyjob *job = image(b, name);

	job->state = LAZYJOB_BACKOFF;
	job->n_failed = 1;
	job->failed_at = io_monotonic_ms() - LONG_MS;
	job->retry_at = job->failed_at + LIMIT_BACKOFF_MIN_MS;
}

static int
wait_of(struct bed *b)
{
	return engine_lazyjobs_wait(&b->e, io_monotonic_ms());
}

static void
not_tried_for_nobody(void **state)
{
	struct bed *b = *state;

	add(b, "abc");
	fail_long_ago(b, 'a');
	fail_long_ago(b, 'b');
	/* One that was asked for in vain, and is read on. */
	fail_long_ago(b, 'c');
	image(b, 'c')->state = LAZYJOB_SERVING;
	assert_int_equal(wait_of(b), LIMIT_BACKOFF_MIN_MS);
	b->conf.fill = FILL_NEVER;
	assert_int_equal(wait_of(b), -1);
	image(b, 'b')->was_whole = true;
	assert_int_equal(wait_of(b), LIMIT_BACKOFF_MIN_MS);
}

static bool
is_there(struct bed *b, char name)
{
	struct digest d = { .bytes[0] = (uint8_t)name };

	return engine_find_lazyjob(&b->e, &d) != NULL;
}

static void
rests_when_over_due(void **state)
{
	struct bed *b = *state;

	add(b, "abcd");
	for (const char *name = "abcd"; *name != '\0'; name++)
		fail_long_ago(b, *name);
	image(b, 'b')->retry_at = io_monotonic_ms() + LONG_MS;
	image(b, 'c')->bytes = VERITY_GRANULE;
	image(b, 'd')->was_whole = true;
	engine_rest_lazyjobs(&b->e);
	assert_true(is_there(b, 'a'));
	b->conf.fill = FILL_NEVER;
	engine_rest_lazyjobs(&b->e);
	assert_false(is_there(b, 'a'));
	assert_int_equal(image(b, 'b')->state, LAZYJOB_BACKOFF);
	assert_int_equal(image(b, 'c')->state, LAZYJOB_QUEUED);
	assert_int_equal(image(b, 'd')->state, LAZYJOB_BACKOFF);
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("no more than fetch_parallel images are filled at once, new versions first",
		     few_at_once),
		TEST("an image of which nothing comes gives its place to one that waits",
		     gives_its_place),
		TEST("an image keeps its place as long as something comes", keeps_what_moves),
		TEST("an image keeps its place as long as nobody else can have it", alone),
		TEST("new versions whose server is gone do not keep others from being filled",
		     new_versions_too),
		TEST("an image of which something came after all has its turn as before",
		     something_came),
		TEST("an image that failed has no place before its next try", rests_after_failure),
		TEST("what a command waits for, or is withdrawn, needs no place and loses none",
		     needs_none),
		TEST("an image that failed wakes nobody when it is not to be filled",
		     not_tried_for_nobody),
		TEST("an image that failed is let go of after its back-off if not to be filled",
		     rests_when_over_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
