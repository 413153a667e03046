/*
 * test_engine_adopt.c - files in the store that no row calls verified: they are hashed beside the
 * engine's other work, and nothing is fetched that lies there.
 */
#include "config.h"

#include "tests/unit/sitefixture.h"

#include <poll.h>
#include <sqlite3.h>
#include <sys/resource.h>

#include "core/cleanup.h"
#include "core/engine_adopt.h"
#include "core/io.h"
#include "core/passes.h"
#include "core/store.h"
#include "core/stored.h"

enum { PATIENCE_MS = 20000 };

struct bed {
	struct fixture *f;
	struct store *store;
	struct engine *e;
	int64_t sub;
	int n_answers, rc;		/* of the last one */
	bool had_file;
};

static void
note_answer(void *arg, const struct digest *d, int rc, struct blockfile *f, const struct err *why)
{
	struct bed *b = arg;

	(void)d;
	(void)why;
	b->n_answers++;
	b->rc = rc;
	b->had_file = f != NULL;
}

/* ---- images ---------------------------------------------------------------------------------- */

/* The bytes of an image, by its letter in the list. */
static size_t
bytes_of(char letter, unsigned char out[2048])
{
	memset(out, letter, 2048);
	return (size_t)(1000 + letter);
}

static struct digest
digest_for(char letter)
{
	unsigned char bytes[2048];
	struct digest d;

	digest_of(bytes, bytes_of(letter, bytes), &d);
	return d;
}

/* Lists of the fixture have made-up digests: here they are to be those of the bytes. */
static void
make_true(struct buf *text, char letter)
{
	struct digest made_up = content(letter), d = digest_for(letter);
	char old[DIGEST_HEX + 1], new[DIGEST_HEX + 1], *at;

	digest_hex(&made_up, old);
	digest_hex(&d, new);
	at = strstr(buf_str(text), old);
	if (at != NULL)
		memcpy(text->data + (at - buf_str(text)), new, DIGEST_HEX);
}

static void
publish_true(struct bed *b, const char *version, const struct entry *e)
{
	struct buf text = BUF_INIT;

	list_text(&text, LIST, version, NOW - 1000, (int64_t)NOW + 100LL * 365 * 86400, e);
	for (; e->identifier != NULL; e++)
		make_true(&text, e->content);
	if (apply_text(b->f, b->sub, &text, NOW) != 0)
		fail_msg("%s", b->f->err.text);
	buf_release(&text);
}

static void
path_of(struct bed *b, char letter, char out[512])
{
	char hex[DIGEST_HEX + 1];
	struct digest d = digest_for(letter);

	digest_hex(&d, hex);
	snprintf(out, 512, "%s/objects/%.2s", b->f->conf.cache_dir, hex);
	mkdir(out, 0750);
	snprintf(out, 512, "%s/objects/%.2s/%s", b->f->conf.cache_dir, hex, hex);
}

/* As a crash leaves it between the rename and the row. */
static void
put_file(struct bed *b, char letter, bool good)
{
	unsigned char bytes[2048];
	size_t len = bytes_of(letter, bytes);
	char path[512];
	FILE *out;

	bytes[0] ^= !good;
	path_of(b, letter, path);
	out = fopen(path, "w");
	assert_non_null(out);
	assert_int_equal(fwrite(bytes, 1, len, out), len);
	assert_int_equal(fclose(out), 0);
}

static bool
has_file(struct bed *b, char letter)
{
	char path[512];

	path_of(b, letter, path);
	return access(path, F_OK) == 0;
}

static bool
is_verified(struct bed *b, char letter)
{
	struct digest d = digest_for(letter);
	struct object_row row;
	bool verified;

	if (catalogue_object_get(b->f->c, &d, &row, &b->f->err) != 0)
		return false;
	verified = row.state == OBJECT_VERIFIED;
	object_row_release(&row);
	return verified;
}

/* ---- the engine ------------------------------------------------------------------------------ */

static void
start(struct bed *b, bool daemon)
{
	struct engine_config config = {
		.conf = &b->f->conf, .catalogue = b->f->c, .store = b->store,
		.ops = { .answered = note_answer, .arg = b }, .control_socket = -1, .stop_fd = -1,
		.daemon = daemon,
	};

	if (engine_new(&b->e, &config, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	engine_adopt(b->e);
}

/* With its catalogue. */
static void
stop(struct bed *b)
{
	engine_free(b->e);
	b->e = NULL;
	b->f->c = NULL;
}

static int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));

	b->f = fixture_new();
	b->f->conf.fetch_parallel = 2;
	if (store_init(&b->f->conf, catalogue_store_id(b->f->c), false, &b->f->err) != 0 ||
	    store_open(&b->f->conf, catalogue_store_id(b->f->c), &b->store, &b->f->err) != 0 ||
	    store_lock(b->store, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	b->sub = subscribe(b->f, LIST, SELECT_ALL);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	if (b->e != NULL)
		stop(b);
	store_close(b->store);
	fixture_free(b->f);
	free(b);
	return 0;
}

/* Until a pass is taken, it is under way for all that the engine knows. */
static void
end_pass(struct bed *b)
{
	struct pollfd fd = { .fd = b->e->notify_fd, .events = POLLIN };
	struct pass *pass;
	uint64_t n;

	while ((pass = passes_take(b->e->passes)) == NULL) {
		assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
		assert_int_equal(read(fd.fd, &n, sizeof(n)), sizeof(n));
	}
	assert_int_equal(pass->kind, PASS_ADOPT);
	engine_adopted(b->e, pass);
	pass_free(pass);
	engine_adopt_step(b->e);
}

static bool
is_being_hashed(struct bed *b, char letter)
{
	struct digest d = digest_for(letter);

	return passes_find(b->e->passes, PASS_ADOPT, &d) != NULL;
}

static void
want(struct bed *b, char letter)
{
	struct digest d = digest_for(letter);

	engine_request(b->e, &d, false);
}

static bool
is_fetched(struct bed *b, char letter)
{
	struct digest d = digest_for(letter);

	return engine_is_fetching(b->e, &d);
}

static void
assert_answered(struct bed *b, int n, int rc)
{
	assert_int_equal(b->n_answers, n);
	assert_int_equal(b->rc, rc);
	assert_int_equal(b->had_file, rc == 0);
}

static void
run_sql(struct bed *b, const char *sql)
{
	CLEANUP_FREE char *path = xasprintf("%s/catalogue.db", b->f->conf.state_dir);
	struct sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* ---- tests ----------------------------------------------------------------------------------- */

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
row_cannot_be_written(void **state)
{
	struct bed *b = *state;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b'), IMG("c", "1", 'c')));
	for (char letter = 'a'; letter <= 'c'; letter++)
		put_file(b, letter, true);
	run_sql(b, "CREATE TRIGGER full BEFORE UPDATE ON object BEGIN SELECT RAISE(FAIL, 'full'); END");
	start(b, true);
	/* The first in order is being hashed. */
	want(b, 'a');
	end_pass(b);
	end_pass(b);
	/* Its bytes are right: who reads is served, and no more is hashed that could not be noted. */
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
left_before(void **state)
{
	struct digest d = digest_for('a'), nobodys = digest_for('b');
	struct bed *b = *state;

	/* A stream had ended as they were replaced: the process was killed before a row could say so. */
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
	struct rlimit before, none;

	publish_true(b, "1", ENTRIES(IMG("a", "1", 'a')));
	put_file(b, 'a', true);
	if (catalogue_object_note_partial(b->f->c, &d, "https://a", "", &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	publish_true(b, "2", ENTRIES(IMG("a", "2", 'c')));
	start(b, false);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ 3, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
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
	run_sql(b, "CREATE TRIGGER full BEFORE UPDATE ON object BEGIN SELECT RAISE(FAIL, 'full'); END");
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
	run_sql(b, "CREATE TRIGGER full BEFORE UPDATE ON object BEGIN SELECT RAISE(FAIL, 'full'); END");
	end_commit(b, 'a');
	assert_answered(b, 1, 0);
	assert_is_noted_later(b, 'a');
	assert_int_equal(b->n_answers, 1);
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("what lies in the store is hashed while the engine goes on, one file at a time",
		     in_the_background),
		TEST("who wants such an image waits for that, and nothing is fetched", readers_wait),
		TEST("a command has only that hashed which it needs", only_what_is_wanted),
		TEST("a file that turns out to be bad goes to quarantine, and who waits has it fetched",
		     damaged),
		TEST("of an image that is withdrawn meanwhile nothing is shown and nothing deleted",
		     withdrawn),
		TEST("one that is deselected meanwhile is taken over", deselected),
		TEST("one that is evicted meanwhile is gone", evicted),
		TEST("a file that is gone when the pass ends is not taken over", taken_away),
		TEST("where a list comes with other block digests the file is hashed once more",
		     other_blocks),
		TEST("B34 where the row cannot be written readers are served, and it is written later",
		     row_cannot_be_written),
		TEST("B34 nor is fetched again what was stored by a job that had ended",
		     fetched_by_a_job_that_ended),
		TEST("B34 who asks for it while that ends is served, and its row is written later",
		     fetched_before_the_job_began),
		TEST("what had left before its row could say that it is here is kept as what has left,"
		     " and goes if nobody names it", left_before),
		TEST("what is hidden with its list is not deleted, and adopted when that is back", hidden),
		TEST("what cannot be read just now is not deleted, be it that nobody wants it", unreadable),
		TEST("an engine that ends meanwhile leaves it to the next one", begins_again),
		TEST("lists that come meanwhile add to it, and who waits goes on waiting", lists_come),
	};

	return cmocka_run_group_tests_name("engine_adopt", tests, NULL, NULL);
}
