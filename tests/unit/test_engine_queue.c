/*
 * test_engine_queue.c - whose turn it is among images that are fetched as a stream.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "core/buf.h"
#include "core/engine_impl.h"

enum { N_IMAGES = 4, PLACES = 3 };

struct bed {
	struct conf conf;
	struct engine e;
};

/* Images 'a', 'b' ..., in this order. */
static int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));

	b->conf.fetch_parallel = PLACES;
	b->e.config.conf = &b->conf;
	pthread_mutex_init(&b->e.lock, NULL);
	for (int i = 0; i < N_IMAGES; i++) {
		struct object_row row = { .digest.bytes[0] = (uint8_t)('a' + i), .size = 1 << 20 };

		engine_add_job(&b->e, job_new(&row));
	}
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	for (struct job *job = b->e.jobs, *next; job != NULL; job = next) {
		next = job->next;
		job_free(job);
	}
	pthread_mutex_destroy(&b->e.lock);
	free(b);
	return 0;
}

static struct job *
image(struct bed *b, char name)
{
	struct digest d = { .bytes[0] = (uint8_t)name };
	struct job *job = engine_find_job(&b->e, &d);

	assert_non_null(job);
	return job;
}

/* The next one, and it has the place; '-': nobody. */
static char
begin(struct bed *b)
{
	struct job *job = engine_next_job(&b->e);

	if (job == NULL)
		return '-';
	job->state = JOB_RECEIVING;
	return (char)job->digest.bytes[0];
}

/* Its time for another try has come at once. */
static void
fail_try(struct bed *b, char name)
{
	struct job *job = image(b, name);

	job->state = JOB_BACKOFF;
	engine_requeue_job(&b->e, job);
	assert_int_equal(job->state, JOB_QUEUED);
}

static void
assert_turns(struct bed *b, const char *turns)
{
	for (const char *name = turns; *name != '\0'; name++) {
		assert_int_equal(begin(b), *name);
		fail_try(b, *name);
	}
}

static void
all_have_their_turn(void **state)
{
	assert_turns(*state, "abcdabcdab");
}

static void
others_go_on(void **state)
{
	struct bed *b = *state;

	image(b, 'b')->state = JOB_STORING;
	assert_turns(b, "acdacd");
	image(b, 'b')->state = JOB_QUEUED;
	assert_turns(b, "bacdb");
}

static void
readers_have_their_turn(void **state)
{
	struct bed *b = *state;

	for (const char *name = "bcd"; *name != '\0'; name++)
		image(b, *name)->waiting = true;
	assert_turns(b, "bcdbcd");
}

static void
readers_first(void **state)
{
	struct bed *b = *state;

	image(b, 'd')->waiting = true;
	assert_int_equal(begin(b), 'd');
	assert_int_equal(begin(b), 'a');
	assert_int_equal(begin(b), '-');
	image(b, 'c')->waiting = true;
	assert_int_equal(begin(b), 'c');
	image(b, 'b')->waiting = true;
	assert_int_equal(begin(b), '-');
}

static void
one_place(void **state)
{
	struct bed *b = *state;

	b->conf.fetch_parallel = 1;
	assert_int_equal(begin(b), 'a');
	assert_int_equal(begin(b), '-');
	image(b, 'c')->waiting = image(b, 'd')->waiting = true;
	assert_int_equal(begin(b), 'c');
	assert_int_equal(begin(b), '-');
	image(b, 'c')->state = JOB_DONE;
	assert_int_equal(begin(b), 'd');
	image(b, 'd')->state = JOB_DONE;
	assert_int_equal(begin(b), '-');
	/* Now somebody waits for it, too. */
	image(b, 'a')->waiting = image(b, 'b')->waiting = true;
	assert_int_equal(begin(b), '-');
	image(b, 'a')->state = JOB_DONE;
	assert_int_equal(begin(b), 'b');
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("an image whose try failed is tried again after those that wait for their"
		     " first one", all_have_their_turn),
		TEST("what is stored or received keeps its place in the order", others_go_on),
		TEST("readers of images that cannot be had do not keep other readers waiting for"
		     " ever", readers_have_their_turn),
		TEST("readers go first, and what nobody waits for leaves them one place",
		     readers_first),
		TEST("a reader does not wait for the only place when nobody waits for what has it",
		     one_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
