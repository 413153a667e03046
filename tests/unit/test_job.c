/*
 * test_job.c - fetching one object, with the real fetcher, from files below file_prefix.
 *
 * What servers do to a transfer is in spec tests; here it is what a job makes of it: which source
 * comes next, what counts as a failed try, what the catalogue and the store hold in the end.
 * VMIMAGEFS_LIBEXECDIR names the directory of the fetcher; without it everything is skipped.
 */
#include "config.h"

#include <sqlite3.h>

#include "tests/unit/jobbed.h"

/* ---- success --------------------------------------------------------------------------------- */

static void
fetches_verifies_stores(void **state)
{
	struct bed *b = *state;
	bool active;
	int64_t bytes;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	run(b);
	assert_stored(b);
	job_progress(b->job, &active, &bytes);
	assert_false(active);
	assert_image(b->f, "image-0", "live selected 1");
}

static void
answers_before_it_is_durable(void **state)
{
	struct bed *b = *state;
	bool seen = false;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	start(b);
	for (long long end = io_monotonic_ms() + PATIENCE_MS;
	     b->job->state != JOB_DONE && io_monotonic_ms() < end;) {
		job_step(b->job, &b->env);
		/* Readers get their bytes here, once the digest is right. */
		if (b->job->state == JOB_STORING && !seen) {
			struct blockfile *f = intake_blockfile(b->job->intake);
			struct readbuf buf = { 0 };
			const void *got;
			int64_t g;

			assert_non_null(f);
			assert_int_equal(blockfile_read(f, &buf, SIZE - 16, 16, &got, &g), 0);
			assert_memory_equal(got, bytes_signed + SIZE - 16, 16);
			readbuf_release(&buf);
			blockfile_unref(f);
			seen = true;
		}
	}
	assert_true(seen);
	assert_stored(b);
}

static void
takes_the_signed_tree(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	b->has_root = true;
	b->root = b->tree;
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	run(b);
	assert_true(b->job->has_root);
	assert_stored(b);
}

static void
takes_the_source_that_works(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "b.img", bytes_signed, SIZE);
	list_files(b, FILES("none.img", "b.img", "nor-this.img"));
	run(b);
	assert_stored(b);
}

static void
goes_on_where_it_stopped(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	/* If the first half were read again, the digest would be wrong. */
	bytes_signed[0] ^= 1;
	put(b, "a.img", bytes_signed, SIZE);
	bytes_signed[0] ^= 1;
	list_files(b, FILES("a.img"));
	leave_partial(b, bytes_signed, SIZE / 2);
	run(b);
	assert_stored(b);
}

static void
await_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
}

/*
 * The bytes of a request are lost on their way, and its fetcher has ended; its pipe has not as long
 * as the descriptor that is returned is open.
 */
static int
lose_bytes(struct job *job, const struct job_env *env)
{
	CLEANUP_FREE char *path = NULL;
	static char lost[SIZE];
	int hold;

	while (job->fetch == NULL)
		job_step(job, env);
	path = xasprintf("/proc/self/fd/%d", job->pipe_rd);
	hold = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(hold >= 0);
	assert_int_equal(io_read_full(job->pipe_rd, lost, SIZE), SIZE);
	while (!job->ended) {
		await_readable(job_fd(job));
		job_step(job, env);
	}
	assert_int_equal(intake_state(job->intake), INTAKE_RUNNING);
	return hold;
}

static void
asks_when_all_is_taken_in(void **state)
{
	struct bed *b = *state;
	uint64_t count;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	put(b, "b.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img", "b.img"));
	start(b);
	close(lose_bytes(b->job, &b->env));
	while (intake_state(b->job->intake) == INTAKE_RUNNING) {
		await_readable(b->env.notify_fd);
		assert_int_equal(read(b->env.notify_fd, &count, sizeof(count)), sizeof(count));
	}
	assert_int_equal(intake_offset(b->job->intake), 0);
	job_step(b->job, &b->env);
	assert_int_equal(b->job->state, JOB_RECEIVING);
	assert_non_null(b->job->fetch);
	assert_false(b->job->ended);
	finish(b);
	assert_stored(b);
	assert_int_equal(b->counters.failed_tries, 0);
}

/* Two parts that do not belong together accuse nobody: all of it once more. */
static void
starts_again_after_a_bad_part(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	leave_partial(b, bytes_signed + 1, SIZE / 2);
	run(b);
	assert_int_equal(b->job->state, JOB_QUEUED);
	assert_int_equal(b->counters.failed_tries, 0);
	run(b);
	assert_stored(b);
}

static void
sql(struct bed *b, const char *text)
{
	if (sqlite3_exec(b->f->c->db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(b->f->c->db));
}

/* As long as this is there no row of a stored object can be written. */
static void
refuse_rows(struct bed *b)
{
	sql(b, "CREATE TEMP TRIGGER refuse BEFORE UPDATE ON object WHEN new.state = 'verified'"
	       " BEGIN SELECT raise(ABORT, 'disk is full'); END");
}

static void
accept_rows(struct bed *b)
{
	sql(b, "DROP TRIGGER refuse");
}

/* Until nothing more happens by itself. */
static void
step_to_rest(struct bed *b)
{
	long long end = io_monotonic_ms() + PATIENCE_MS;

	while (job_is_active(b->job) && b->job->n_failed == 0 && io_monotonic_ms() < end)
		job_step(b->job, &b->env);
}

static void
writes_the_row_later(void **state)
{
	struct bed *b = *state;
	struct store_usage usage;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	assert_int_equal(store_admit(b->store, &b->digest, SIZE, NULL, &b->f->err), 0);
	refuse_rows(b);
	start(b);
	step_to_rest(b);
	assert_int_equal(b->job->state, JOB_STORING);
	assert_in_range(b->job->retry_at - io_monotonic_ms(), 0, 2000);
	assert_int_equal(b->counters.failed_tries, 0);
	assert_int_equal(store_usage(b->store, &usage, &b->f->err), 0);
	assert_int_equal(usage.promised, 0);
	assert_false(job_step(b->job, &b->env));
	/* It cannot come a second time. */
	put(b, "a.img", "", 0);
	accept_rows(b);
	finish(b);
	assert_stored(b);
	assert_int_equal(store_usage(b->store, &usage, &b->f->err), 0);
	assert_int_equal(usage.quarantine, 0);
}

static void
tells_a_command_at_once(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	refuse_rows(b);
	start(b);
	b->job->waiting = true;
	step_to_rest(b);
	assert_int_equal(b->job->state, JOB_BACKOFF);
	assert_true(b->job->gave_up);
	assert_non_null(strstr(b->job->result.text, "disk is full"));
	assert_int_equal(close(store_object_open(b->store, &b->digest, SIZE, &b->f->err)), 0);
}

/* ---- failure --------------------------------------------------------------------------------- */

static void
counts_wrong_bytes(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	bytes_signed[SIZE / 2] ^= 1;
	put(b, "a.img", bytes_signed, SIZE);
	bytes_signed[SIZE / 2] ^= 1;
	list_files(b, FILES("a.img"));
	run(b);
	assert_failed(b, CODE_DIGEST, 1);
	assert_int_equal(b->counters.failed_tries, 1);
	assert_false(b->job->gave_up);
	assert_in_range(b->job->retry_at - b->job->failed_at, 1000, 2000);
}

/* The same bytes would come from any source, and at any time. */
static void
gives_up_what_contradicts_itself(void **state)
{
	struct bed *b = *state;
	struct store_usage usage;
	char hex[DIGEST_HEX + 1];

	skip_without_fetcher();
	b->has_root = true;
	digest_of("another image", 13, &b->root);
	put(b, "a.img", bytes_signed, SIZE);
	put(b, "b.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img", "b.img"));
	run(b);
	assert_failed(b, CODE_BLOCK_DIGEST, LIMIT_TRIES);
	assert_true(b->job->gave_up);
	assert_int_equal(b->job->result.rc, -EBADMSG);
	assert_int_equal(b->counters.failed_tries, 1);
	digest_hex(&b->root, hex);
	assert_non_null(strstr(b->job->result.text, hex));
	assert_int_equal(store_usage(b->store, &usage, &b->f->err), 0);
	assert_true(usage.quarantine >= SIZE);
}

static void
counts_wrong_sizes(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE - 1);
	list_files(b, FILES("a.img"));
	run(b);
	assert_failed(b, CODE_SIZE, 1);
	put(b, "a.img", bytes_signed, SIZE);
	job_requeue(b->job);
	run(b);
	assert_stored(b);
}

static void
gives_up_after_five(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE - 1);
	list_files(b, FILES("a.img"));
	for (int try = 1; try <= LIMIT_TRIES; try++) {
		run(b);
		assert_failed(b, CODE_SIZE, try);
		assert_int_equal(b->job->gave_up, try == LIMIT_TRIES);
		job_requeue(b->job);
	}
}

/* What the network does is nobody's fault, but the waits grow. */
static void
does_not_count_the_network(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	list_files(b, FILES("none.img"));
	for (int try = 1; try <= LIMIT_TRIES + 1; try++) {
		long long wait;

		run(b);
		assert_failed(b, CODE_DOWNLOAD, 0);
		assert_false(b->job->gave_up);
		wait = b->job->retry_at - b->job->failed_at;
		assert_in_range(wait, 1000 << (try - 1), 2000 << (try - 1));
		job_requeue(b->job);
	}
	put(b, "none.img", bytes_signed, SIZE);
	run(b);
	assert_stored(b);
}

static void
needs_a_source(void **state)
{
	struct bed *b = *state;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	/* The admin has taken file_prefix out of the configuration since. */
	free(b->conf->file_prefix);
	b->conf->file_prefix = NULL;
	run(b);
	assert_failed(b, CODE_NONE, 0);
	assert_non_null(strstr(b->job->result.text, "file_prefix"));
}

static void
can_be_dropped_at_any_moment(void **state)
{
	struct bed *b = *state;
	struct store_usage usage;

	skip_without_fetcher();
	put(b, "a.img", bytes_signed, SIZE);
	list_files(b, FILES("a.img"));
	for (int steps = 0; steps < 12; steps++) {
		start(b);
		for (int i = 0; i < steps && job_is_active(b->job); i++)
			job_step(b->job, &b->env);
		job_free(b->job);
		b->job = NULL;
	}
	b->counters.fetched_bytes = 0;	/* some were done */
	assert_int_equal(store_usage(b->store, &usage, &b->f->err), 0);
	assert_int_equal(usage.quarantine, 0);
	start(b);
	finish(b);
	assert_stored(b);
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("an image is fetched, verified and stored", fetches_verifies_stores),
		TEST("readers get verified bytes before they are durable",
		     answers_before_it_is_durable),
		TEST("an image whose tree is the signed one is stored", takes_the_signed_tree),
		TEST("B34 an object whose row cannot be written is not fetched again, its row is"
		     " written later", writes_the_row_later),
		TEST("B34 a command is told at once that the row could not be written",
		     tells_a_command_at_once),
		TEST("T32 a source that fails is followed by the next one",
		     takes_the_source_that_works),
		TEST("T08 a transfer goes on where an earlier run stopped",
		     goes_on_where_it_stopped),
		TEST("T08 what was cut is asked for again at once, however late its last bytes are"
		     " taken in", asks_when_all_is_taken_in),
		TEST("B25 a partial of another image costs a restart, not a try",
		     starts_again_after_a_bad_part),
		TEST("T31 wrong bytes are a failed try", counts_wrong_bytes),
		TEST("T40 an image whose digests contradict each other is given up at once (40)",
		     gives_up_what_contradicts_itself),
		TEST("T12 a wrong size is a failed try, and a later right one is taken",
		     counts_wrong_sizes),
		TEST("T31 after five failed tries of a list version a job gives up",
		     gives_up_after_five),
		TEST("T01 a source that is away uses up no tries, it makes the waits longer",
		     does_not_count_the_network),
		TEST("L26 without file_prefix a file:// image has no source", needs_a_source),
		TEST("L23 a job can be dropped at any moment, and begun again",
		     can_be_dropped_at_any_moment),
	};

	return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
