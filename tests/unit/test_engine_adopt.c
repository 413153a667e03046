/*
 * test_engine_adopt.c - files in the store that no row calls verified: they are hashed beside the
 * engine's other work, and nothing is fetched that lies there.
 */
#include "config.h"

#include "tests/unit/adoptbed.h"

static void
in_the_background(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b'), IMG("c", "1", 'c')));
	put_file(b, 'a', true);
	put_file(b, 'b', true);
	start(b, true);
	assert_false(is_verified(b, 'a') || is_verified(b, 'b'));
	/* One at a time, and none of them is fetched meanwhile. */
	assert_true(is_being_hashed(b, 'a') != is_being_hashed(b, 'b'));
	engine_plan_prefetch(b->e);
	assert_false(is_fetched(b, 'a') || is_fetched(b, 'b'));
	end_pass(b);
	assert_true(is_verified(b, 'a') != is_verified(b, 'b'));
	end_pass(b);
	assert_true(is_verified(b, 'a') && is_verified(b, 'b'));
	assert_null(b->e->adoption);
	assert_true(passes_are_idle(b->e->passes));
	assert_int_equal(b->n_answers, 0);
	assert_false(is_verified(b, 'c'));
}

static void
readers_wait(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b'), IMG("c", "1", 'c')));
	for (char letter = 'a'; letter <= 'c'; letter++)
		put_file(b, letter, true);
	start(b, true);
	for (char letter = 'a'; letter <= 'c'; letter++) {
		want(b, letter);
		want(b, letter);
		assert_true(is_being_hashed(b, letter));
		assert_false(is_fetched(b, letter));
	}
	assert_int_equal(b->n_answers, 0);
	for (int i = 1; i <= 3; i++) {
		end_pass(b);
		assert_answered(b, i, 0);
	}
	assert_null(b->e->adoption);
}

static void
only_what_is_wanted(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	put_file(b, 'a', true);
	put_file(b, 'b', true);
	start(b, false);
	engine_adopt_step(b->e);
	assert_true(passes_are_idle(b->e->passes));
	want(b, 'b');
	end_pass(b);
	assert_answered(b, 1, 0);
	assert_true(is_verified(b, 'b') && !is_verified(b, 'a'));
	assert_true(passes_are_idle(b->e->passes));
}

static void
damaged(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	put_file(b, 'a', false);
	put_file(b, 'b', false);
	start(b, true);
	want(b, 'a');
	end_pass(b);
	end_pass(b);
	assert_false(is_verified(b, 'a') || is_verified(b, 'b'));
	assert_false(has_file(b, 'a') || has_file(b, 'b'));
	/* Who waited goes on waiting. */
	assert_true(is_fetched(b, 'a'));
	assert_int_equal(b->n_answers, 0);
	assert_null(b->e->adoption);
}

static void
withdrawn(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	put_file(b, 'a', true);
	put_file(b, 'b', true);
	start(b, true);
	want(b, 'a');
	publish_true(b, "2", ENTRIES(IMG("b", "1", 'b')));
	engine_look(b->e);
	assert_answered(b, 1, -ENOENT);
	while (b->e->adoption != NULL)
		end_pass(b);
	/* It is nobody's, but never deleted. */
	assert_true(has_file(b, 'a'));
	assert_true(is_verified(b, 'b'));
	assert_int_equal(b->n_answers, 1);
}

static void
deselected(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	put_file(b, 'a', true);
	start(b, true);
	want(b, 'a');
	select_image(b->f, "a", false);
	engine_look(b->e);
	assert_int_equal(b->n_answers, 0);
	end_pass(b);
	assert_answered(b, 1, 0);
	assert_true(is_verified(b, 'a'));
}

static void
evicted(void **state)
{
	struct bed *b = *state;
	struct digest d = digest_for('a');

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	put_file(b, 'a', true);
	start(b, true);
	want(b, 'a');
	assert_int_equal(engine_evict(b->e, &d, &b->f->err), 0);
	assert_answered(b, 1, -ENOENT);
	end_pass(b);
	assert_false(is_verified(b, 'a') || has_file(b, 'a'));
	assert_int_equal(b->n_answers, 1);
	want(b, 'a');
	assert_true(is_fetched(b, 'a'));
}

static void
taken_away(void **state)
{
	struct bed *b = *state;
	char path[512];

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	put_file(b, 'a', true);
	start(b, true);
	want(b, 'a');
	path_of(b, 'a', path);
	assert_int_equal(unlink(path), 0);
	end_pass(b);
	assert_false(is_verified(b, 'a'));
	assert_true(is_fetched(b, 'a'));
}

static void
other_blocks(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	put_file(b, 'a', true);
	start(b, true);
	publish_true(b, "2", ENTRIES(IMG("a", "1", 'a', .verity = 'd')));
	engine_look(b->e);
	end_pass(b);
	/* What was found out is no answer to what is asked now. */
	assert_false(is_verified(b, 'a'));
	assert_true(has_file(b, 'a') && is_being_hashed(b, 'a'));
	end_pass(b);
	assert_false(is_verified(b, 'a') || has_file(b, 'a'));
}

static void
left_before(void **state)
{
	struct digest d = digest_for('a'), nobodys = digest_for('b');
	struct bed *b = *state;

	/*
	 * A stream had ended as they were replaced: the process was killed before a row could say
	 * so.
	 */
	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	put_file(b, 'a', true);
	put_file(b, 'b', true);
	if (catalogue_object_note_partial(b->f->c, &d, "https://a", "", &b->f->err) != 0 ||
	    catalogue_object_note_partial(b->f->c, &nobodys, "https://b", "", &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	publish_true(b, "2", ENTRIES(IMG("a", "2", 'c'), IMG("b", "2", 'd')));
	run_sql(b, "UPDATE expired SET bytes = 'purged' WHERE name LIKE 'b.%'");
	start(b, true);
	engine_look(b->e);
	while (b->e->adoption != NULL)
		end_pass(b);
	assert_true(is_verified(b, 'a') && has_file(b, 'a'));
	assert_false(has_file(b, 'b'));
	assert_expired(b->f, "a replaced, b replaced purged");
}

/* Its list cannot be believed until it has been fetched again. */
static void
hidden(void **state)
{
	struct digest d = digest_for('a');
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	put_file(b, 'a', true);
	if (catalogue_object_note_partial(b->f->c, &d, "https://a", "", &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	run_sql(b, "UPDATE image SET live = 0; UPDATE subscription SET stored = 0");
	start(b, true);
	engine_look(b->e);
	while (b->e->adoption != NULL)
		end_pass(b);
	engine_look(b->e);
	assert_true(has_file(b, 'a') && !is_verified(b, 'a'));
	assert_false(engine_is_nobodys(b->e, &d));
	run_sql(b, "UPDATE image SET live = 1; UPDATE subscription SET stored = 1");
	engine_look(b->e);
	while (b->e->adoption != NULL)
		end_pass(b);
	assert_true(has_file(b, 'a') && is_verified(b, 'a'));
}

static void
unreadable(void **state)
{
	struct digest d = digest_for('a');
	struct bed *b = *state;
	struct rlimit before;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	put_file(b, 'a', true);
	if (catalogue_object_note_partial(b->f->c, &d, "https://a", "", &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	publish_true(b, "2", ENTRIES(IMG("a", "2", 'c')));
	start(b, false);
	run_short_of_files(&before);
	want(b, 'a');
	end_pass(b);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_false(is_verified(b, 'a'));
	engine_look(b->e);
	assert_true(has_file(b, 'a'));
	assert_answered(b, 1, -ENOENT);
}

static void
begins_again(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	put_file(b, 'a', true);
	start(b, true);
	want(b, 'a');
	stop(b);
	if (fixture_open(b->f, 0) != 0)
		fail_msg("%s", b->f->err.text);
	assert_false(is_verified(b, 'a'));
	start(b, true);
	end_pass(b);
	assert_true(is_verified(b, 'a'));
	assert_int_equal(b->n_answers, 0);
}

static void
lists_come(void **state)
{
	struct digest other = digest_for('b');
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	put_file(b, 'a', true);
	start(b, true);
	want(b, 'a');
	/* As after a start at which a list was awaited, which had left the file in its place. */
	put_file(b, 'b', true);
	b->e->lists_awaited = 1;
	publish_true(b, "2", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	engine_look(b->e);
	assert_true(engine_is_to_adopt(b->e, &other));
	assert_int_equal(b->n_answers, 0);
	end_pass(b);
	assert_answered(b, 1, 0);
	end_pass(b);
	assert_true(is_verified(b, 'a') && is_verified(b, 'b'));
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("what lies in the store is hashed while the engine goes on, one file at a"
		     " time", in_the_background),
		TEST("who wants such an image waits for that, and nothing is fetched",
		     readers_wait),
		TEST("a command has only that hashed which it needs", only_what_is_wanted),
		TEST("a file that turns out to be bad goes to quarantine, and who waits has it"
		     " fetched", damaged),
		TEST("of an image that is withdrawn meanwhile nothing is shown and nothing deleted",
		     withdrawn),
		TEST("one that is deselected meanwhile is taken over", deselected),
		TEST("one that is evicted meanwhile is gone", evicted),
		TEST("a file that is gone when the pass ends is not taken over", taken_away),
		TEST("where a list comes with other block digests the file is hashed once more",
		     other_blocks),
		TEST("what had left before its row could say that it is here is kept as what has"
		     " left, and goes if nobody names it", left_before),
		TEST("what is hidden with its list is not deleted, and adopted when that is back",
		     hidden),
		TEST("what cannot be read just now is not deleted, be it that nobody wants it",
		     unreadable),
		TEST("an engine that ends meanwhile leaves it to the next one", begins_again),
		TEST("lists that come meanwhile add to it, and who waits goes on waiting",
		     lists_come),
	};

	return cmocka_run_group_tests_name("engine_adopt", tests, NULL, NULL);
}
