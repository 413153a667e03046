/*
 * test_engine_adopt_faults.c - what lies in the store is not fetched again, though the store cannot
 * be looked at just now, or its row not be written.
 */
#include "config.h"

#include "tests/unit/adoptbed.h"

#include <sys/socket.h>

#include "core/starter.h"
#include "core/stored.h"

static void
assert_is_adopted(struct bed *b, char letter)
{
	assert_true(is_being_hashed(b, letter));
	assert_false(is_fetched(b, letter));
	end_pass(b);
	assert_true(is_verified(b, letter) && has_file(b, letter));
}

static void
walk_fails(void **state)
{
	struct bed *b = *state;
	struct rlimit before;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	b->f->conf.prefetch = PREFETCH_ALWAYS;
	start(b, true);
	put_file(b, 'a', true);
	/* No row names this one: a walk would move it, a later look does not. */
	put_file(b, 'b', true);
	run_short_of_files(&before);
	engine_adopt(b->e);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_null(b->e->adoption);
	engine_look(b->e);
	assert_is_adopted(b, 'a');
	assert_true(has_file(b, 'b'));
}

static void
nothing_can_be_looked_at(void **state)
{
	struct bed *b = *state;
	struct rlimit before;
	int pair[2];

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a'), IMG("c", "1", 'c')));
	b->f->conf.prefetch = PREFETCH_ALWAYS;
	start(b, true);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	b->e->config.starter = starter_adopt(pair[0]);
	put_file(b, 'a', true);
	run_short_of_files(&before);
	engine_adopt(b->e);
	engine_look(b->e);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_false(is_being_hashed(b, 'a') || is_fetched(b, 'a'));
	/* The next check. */
	b->e->next_check = 0;
	engine_timers_run(b->e);
	starter_free(b->e->config.starter);
	close(pair[1]);
	assert_is_adopted(b, 'a');
	/* This one is not here. */
	assert_true(is_fetched(b, 'c'));
}

static void
row_cannot_be_written(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b'), IMG("c", "1", 'c')));
	for (char letter = 'a'; letter <= 'c'; letter++)
		put_file(b, letter, true);
	run_sql(b, "CREATE TRIGGER full BEFORE UPDATE ON object BEGIN SELECT RAISE(FAIL, 'full');"
		   " END");
	start(b, true);
	/* The first in order is being hashed. */
	want(b, 'a');
	end_pass(b);
	end_pass(b);
	/*
	 * Its bytes are right: who reads is served, and no more is hashed that could not be noted.
	 */
	assert_answered(b, 1, 0);
	want(b, 'a');
	assert_answered(b, 2, 0);
	assert_false(is_verified(b, 'a') || is_fetched(b, 'a'));
	assert_true(passes_are_idle(b->e->passes));
	assert_in_range(engine_adopt_wait(b->e, io_monotonic_ms()), 1, LIMIT_BACKOFF_MIN_MS);
	run_sql(b, "DROP TRIGGER full");
	b->e->adoption->retry_at = 0;
	engine_adopt_step(b->e);
	assert_true(is_verified(b, 'a') && is_verified(b, 'b'));
	end_pass(b);
	assert_true(is_verified(b, 'c'));
	assert_int_equal(b->n_answers, 2);
}

static void
remove_file(struct bed *b, char letter)
{
	char path[512];

	path_of(b, letter, path);
	assert_int_equal(unlink(path), 0);
}

/* The pass that ends with this: its bytes were right, and are the object. */
static void
end_commit(struct bed *b, char letter)
{
	struct digest d = digest_for(letter);
	unsigned char bytes[2048];
	struct pass *pass = pass_new(PASS_COMMIT, &d, (int64_t)bytes_of(letter, bytes));

	put_file(b, letter, true);
	if (stored_rebuild(b->store, &d, pass->size, NULL, NULL, NULL, &pass->tree, &pass->file,
			   &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	engine_committed(b->e, pass);
	pass_free(pass);
}

static struct lazyjob *
lazyjob_of(struct bed *b, char letter)
{
	struct digest d = digest_for(letter);

	return engine_find_lazyjob(b->e, &d);
}

/* Nothing of it is fetched. */
static void
assert_is_noted_later(struct bed *b, char letter)
{
	struct lazyjob *job = lazyjob_of(b, letter);

	assert_false(is_verified(b, letter));
	assert_non_null(job);
	assert_int_equal(job->state, LAZYJOB_STORED);
	assert_null(job->lazy);
	assert_in_range(engine_lazyjobs_wait(b->e, io_monotonic_ms()), 1, LIMIT_BACKOFF_MIN_MS);
	run_sql(b, "DROP TRIGGER full");
	job->retry_at = 0;
	engine_run_lazyjobs(b->e);
	assert_true(is_verified(b, letter) && has_file(b, letter));
	assert_false(is_fetched(b, letter));
}

static void
fetched_by_a_job_that_ended(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	start(b, true);
	run_sql(b, "CREATE TRIGGER full BEFORE UPDATE ON object BEGIN SELECT RAISE(FAIL, 'full');"
		   " END");
	end_commit(b, 'a');
	want(b, 'a');
	assert_answered(b, 1, 0);
	assert_is_noted_later(b, 'a');
	assert_int_equal(b->n_answers, 1);
}

static void
fetched_before_the_job_began(void **state)
{
	struct digest d = digest_for('a');
	struct bed *b = *state;
	struct object_row row;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	start(b, true);
	assert_int_equal(catalogue_object_get(b->f->c, &d, &row, &b->f->err), 0);
	engine_add_lazyjob(b->e, &row)->waiting = true;
	object_row_release(&row);
	run_sql(b, "CREATE TRIGGER full BEFORE UPDATE ON object BEGIN SELECT RAISE(FAIL, 'full');"
		   " END");
	end_commit(b, 'a');
	assert_answered(b, 1, 0);
	assert_is_noted_later(b, 'a');
	assert_int_equal(b->n_answers, 1);
}

static void
blocks_after_a_loss(void **state)
{
	struct digest d = digest_for('a'), root = content('d');
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a', .verity = 'd')));
	assert_int_equal(catalogue_object_verified(b->f->c, &d, &root, NOW, &b->f->err), 0);
	put_file(b, 'a', true);
	start(b, true);
	assert_true(is_verified(b, 'a'));
	remove_file(b, 'a');
	/* Smaller ones are never read so. */
	run_sql(b, "UPDATE object SET size = 1048576");
	want(b, 'a');
	/* Its tree is to be noted once it is here. */
	assert_non_null(lazyjob_of(b, 'a'));
	assert_false(lazyjob_of(b, 'a')->rooted);
	assert_false(is_verified(b, 'a'));
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("B34 where the row cannot be written readers are served, and it is written"
		     " later", row_cannot_be_written),
		TEST("a store that cannot be walked through at the start is looked at file by file",
		     walk_fails),
		TEST("where that fails, too, it is tried again at checks, and nothing prefetched"
		     " meanwhile", nothing_can_be_looked_at),
		TEST("B34 what was stored by a job that had ended is not fetched again",
		     fetched_by_a_job_that_ended),
		TEST("B34 who asks for it while that ends is served, and its row is written later",
		     fetched_before_the_job_began),
		TEST("B12 where a file is gone its image is read block by block as one that was"
		     " never here", blocks_after_a_loss),
	};

	return cmocka_run_group_tests_name("engine_adopt_faults", tests, NULL, NULL);
}
