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
};

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

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("the next expiry is waited for, and nothing before it",
		     sleeps_until_it_is_due),
		TEST("B34 a catalogue that cannot say what expires next is not asked all the time",
		     asks_now_and_then),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
