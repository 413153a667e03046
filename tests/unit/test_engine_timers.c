/*
 * test_engine_timers.c - what the engine does by the clock, and when it looks at it next.
 */
#include "config.h"

#include "tests/unit/sitefixture.h"

#include <sqlite3.h>

#include "core/catalogue_impl.h"
#include "core/engine_impl.h"
#include "core/io.h"
#include "core/log.h"
#include "core/store.h"

enum { INTERVAL = 60, HOUR = 3600 };

struct bed {
	struct fixture *f;
	struct store *store;
	struct engine *e;
	bool open;			/* somebody has all images open */
};

/* ---- the starter: who is started does nothing ------------------------------------------------ */

int
starter_run(struct starter *s, enum starter_program program, int arg, const int *fds, size_t n_fds,
	    uint32_t *id, struct err *err)
{
	(void)s;
	(void)program;
	(void)arg;
	(void)fds;
	(void)n_fds;
	(void)err;
	*id = 7;
	return 0;
}

void
starter_kill(struct starter *s, uint32_t id)
{
	(void)s;
	(void)id;
}

int
starter_fd(const struct starter *s)
{
	(void)s;
	return -1;
}

int
starter_reap(struct starter *s, uint32_t *id, int *status)
{
	(void)s;
	(void)id;
	(void)status;
	return 0;
}

/* ---- the bed --------------------------------------------------------------------------------- */

static bool
is_open(void *arg, const struct digest *d)
{
	struct bed *b = arg;

	(void)d;
	return b->open;
}

static int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));
	struct engine_config config = { .control_socket = -1, .stop_fd = -1, .daemon = true };
	struct fixture *f;

	log_set_level(LOG_LVL_ERROR);
	b->f = f = fixture_new();
	f->conf.fetch_parallel = 2;
	f->conf.expire_interval = INTERVAL;
	if (store_init(&f->conf, catalogue_store_id(f->c), false, &f->err) != 0 ||
	    store_open(&f->conf, catalogue_store_id(f->c), &b->store, &f->err) != 0 ||
	    store_lock(b->store, &f->err) != 0)
		fail_msg("%s", f->err.text);
	config.conf = &f->conf;
	config.catalogue = f->c;
	config.store = b->store;
	config.ops.is_open = is_open;
	config.ops.arg = b;
	if (engine_new(&b->e, &config, &f->err) != 0)
		fail_msg("%s", f->err.text);
	/* Only what expires is due. */
	b->e->next_check = io_monotonic_ms() + HOUR * 1000;
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	engine_free(b->e);
	b->f->c = NULL;			/* it was the engine's */
	store_close(b->store);
	fixture_free(b->f);
	free(b);
	return 0;
}

/* An image of a list that is in force for that long. */
static void
publish_for(struct bed *b, int64_t seconds)
{
	int64_t sub = subscribe(b->f, LIST, SELECT_ALL), now = stamp_now();
	struct buf text = BUF_INIT;

	list_text(&text, LIST, "1", now - HOUR, now + seconds, ENTRIES(IMG("a", "1", 'a')));
	if (apply_text(b->f, sub, &text, now) != 0)
		fail_msg("%s", b->f->err.text);
	buf_release(&text);
}

static int
no_minimum(void *arg, int action, const char *table, const char *function, const char *db,
	   const char *trigger)
{
	(void)arg;
	(void)table;
	(void)db;
	(void)trigger;
	return action == SQLITE_FUNCTION && strcmp(function, "min") == 0 ? SQLITE_DENY : SQLITE_OK;
}

/* As long as this lasts it cannot be asked what expires next; all else can. */
static void
hide_next(struct bed *b, bool hidden)
{
	sqlite3_set_authorizer(b->f->c->db, hidden ? no_minimum : NULL, NULL);
}

static int
wait_of(struct bed *b)
{
	return engine_timers_wait(b->e, io_monotonic_ms());
}

static void
sleeps_until_it_is_due(void **state)
{
	struct bed *b = *state;

	publish_for(b, HOUR / 2);
	b->e->next_expiry = 0;
	assert_int_equal(wait_of(b), 0);
	engine_timers_run(b->e);
	assert_int_equal(b->e->next_expiry, catalogue_next_expiry(b->f->c));
	assert_in_range(wait_of(b), (HOUR / 2 - 60) * 1000, HOUR / 2 * 1000);
}

static void
asks_now_and_then(void **state)
{
	struct bed *b = *state;

	publish_for(b, HOUR / 2);
	hide_next(b, true);
	assert_int_equal(catalogue_next_expiry(b->f->c), 0);
	b->e->next_expiry = 0;
	engine_timers_run(b->e);
	assert_in_range(wait_of(b), 1, INTERVAL * 1000);
	hide_next(b, false);
	b->e->next_expiry = 0;
	engine_timers_run(b->e);
	assert_int_equal(b->e->next_expiry, catalogue_next_expiry(b->f->c));
}

/* ---- what others removed --------------------------------------------------------------------- */

/* Images that are verified, by their rows. */
static void
publish_verified(struct bed *b, const struct entry *entries)
{
	int64_t sub = subscribe(b->f, LIST, SELECT_ALL), now = stamp_now();
	struct buf text = BUF_INIT;

	list_text(&text, LIST, "1", now - HOUR, now + HOUR, entries);
	if (apply_text(b->f, sub, &text, now) != 0)
		fail_msg("%s", b->f->err.text);
	buf_release(&text);
	for (; entries->identifier != NULL; entries++)
		store_content(b->f, entries->content);
}

static void
put_file(struct bed *b, char letter)
{
	struct digest d = content(letter);
	char hex[DIGEST_HEX + 1], path[512];

	digest_hex(&d, hex);
	snprintf(path, sizeof(path), "%s/objects/%.2s", b->f->conf.cache_dir, hex);
	mkdir(path, 0750);
	snprintf(path, sizeof(path), "%s/objects/%.2s/%s", b->f->conf.cache_dir, hex, hex);
	assert_int_equal(close(open(path, O_WRONLY | O_CREAT | O_EXCL, 0640)), 0);
	assert_int_equal(truncate(path, 1000 + letter), 0);
}

static void
remove_file(struct bed *b, char letter)
{
	struct digest d = content(letter);

	assert_int_equal(store_object_remove(b->store, &d, &b->f->err), 0);
}

static enum object_state
state_of(struct bed *b, char letter)
{
	struct digest d = content(letter);
	enum object_state state;
	struct object_row row;

	if (catalogue_object_get(b->f->c, &d, &row, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	state = row.state;
	object_row_release(&row);
	return state;
}

static bool
is_fetched(struct bed *b, char letter)
{
	struct digest d = content(letter);

	return engine_is_fetching(b->e, &d);
}

/* As ten minutes after the last time. */
static void
count_store(struct bed *b)
{
	b->e->room.counted_at = io_monotonic_ms() - HOUR * 1000;
	b->e->next_check = 0;
	engine_timers_run(b->e);
}

static void
removed_by_others(void **state)
{
	struct bed *b = *state;

	b->f->conf.prefetch = PREFETCH_ALWAYS;
	publish_verified(b, ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	put_file(b, 'a');
	put_file(b, 'b');
	count_store(b);
	assert_int_equal(state_of(b, 'a'), OBJECT_VERIFIED);
	remove_file(b, 'a');
	b->e->next_check = 0;
	engine_timers_run(b->e);
	assert_int_equal(state_of(b, 'a'), OBJECT_VERIFIED);
	count_store(b);
	assert_int_equal(state_of(b, 'a'), OBJECT_MISSING);
	assert_true(is_fetched(b, 'a'));
	assert_int_equal(state_of(b, 'b'), OBJECT_VERIFIED);
	assert_false(is_fetched(b, 'b'));
}

static void
removed_while_open(void **state)
{
	struct bed *b = *state;

	publish_verified(b, ENTRIES(IMG("a", "1", 'a')));
	put_file(b, 'a');
	count_store(b);
	remove_file(b, 'a');
	b->open = true;
	count_store(b);
	assert_int_equal(state_of(b, 'a'), OBJECT_VERIFIED);
	b->open = false;
	count_store(b);
	assert_int_equal(state_of(b, 'a'), OBJECT_MISSING);
}

static int
n_verified(struct bed *b)
{
	struct sqlite3_stmt *q = NULL;
	int n;

	assert_int_equal(sqlite3_prepare_v2(b->f->c->db, "SELECT count(*) FROM object"
					    " WHERE state = 'verified'", -1, &q, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(q), SQLITE_ROW);
	n = sqlite3_column_int(q, 0);
	sqlite3_finalize(q);
	return n;
}

static void
many_removed(void **state)
{
	struct bed *b = *state;

	assert_int_equal(sqlite3_exec(b->f->c->db, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL"
				      " SELECT i + 1 FROM n WHERE i < 300) INSERT INTO object"
				      " (ino, digest, size, mtime, state)"
				      " SELECT 1000 + i, randomblob(64), 5, 5, 'verified' FROM n",
				      NULL, NULL, NULL), SQLITE_OK);
	count_store(b);
	assert_in_range(n_verified(b), 1, 299);
	b->e->next_check = 0;
	engine_timers_run(b->e);
	assert_int_equal(n_verified(b), 0);
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("the next expiry is waited for, and nothing before it",
		     sleeps_until_it_is_due),
		TEST("B34 a catalogue that cannot say what expires next is not asked all the time",
		     asks_now_and_then),
		TEST("B12 a file that others removed is noticed when the store is counted, and"
		     " fetched", removed_by_others),
		TEST("B12 one that is open is left to who reads it", removed_while_open),
		TEST("B12 many that were removed are noticed in steps, one a check", many_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
