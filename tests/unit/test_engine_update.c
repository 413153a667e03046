/*
 * test_engine_update.c - when lists are updated, and what counts as an update.
 */
#include "config.h"

#include "tests/unit/sitefixture.h"

#include <sys/socket.h>
#include <unistd.h>

#include "core/engine_impl.h"
#include "core/io.h"
#include "core/log.h"
#include "core/starter.h"
#include "core/store.h"

enum { INTERVAL = 60, HOUR = 3600 };

struct bed {
	struct fixture *f;
	struct store *store;
	struct engine *e;
	struct starter *starter;
	int starter_side;		/* the other end of its socket, -1: it is dead */
};

static int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));
	struct engine_config config = { .control_socket = -1, .stop_fd = -1, .daemon = true };
	struct fixture *f;

	log_set_level(LOG_LVL_ERROR);
	b->starter_side = -1;
	b->f = f = fixture_new();
	f->conf.fetch_parallel = 2;
	f->conf.expire_interval = INTERVAL;
	f->conf.update_interval = 6 * HOUR;
	if (store_init(&f->conf, catalogue_store_id(f->c), false, &f->err) != 0 ||
	    store_open(&f->conf, catalogue_store_id(f->c), &b->store, &f->err) != 0 ||
	    store_lock(b->store, &f->err) != 0)
		fail_msg("%s", f->err.text);
	config.conf = &f->conf;
	config.catalogue = f->c;
	config.store = b->store;
	if (engine_new(&b->e, &config, &f->err) != 0)
		fail_msg("%s", f->err.text);
	/* Only updates are due. */
	b->e->next_check = io_monotonic_ms() + HOUR * 1000;
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	engine_free(b->e);
	starter_free(b->starter);
	if (b->starter_side >= 0)
		close(b->starter_side);
	b->f->c = NULL;			/* it was the engine's */
	store_close(b->store);
	fixture_free(b->f);
	free(b);
	return 0;
}

/* One that takes notes and does nothing; or that is dead. */
static void
have_starter(struct bed *b, bool alive)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	starter_free(b->starter);
	b->starter = starter_adopt(pair[0]);
	b->e->config.starter = b->starter;
	b->starter_side = alive ? pair[1] : -1;
	if (!alive)
		close(pair[1]);
}

static void
update_is_due(struct bed *b)
{
	b->e->next_update = stamp_now();
	engine_timers_run(b->e);
}

static void
assert_updated(struct bed *b, bool began)
{
	int64_t wait = b->e->next_update - stamp_now();
	struct engine_status status;

	engine_status(b->e, &status);
	assert_int_equal(b->e->updater.id != 0, began);
	assert_int_equal(status.last_update > 0, began);
	assert_int_equal(status.next_update, b->e->next_update);
	assert_in_range(wait, began ? 6 * HOUR - 60 : 1, began ? 6 * HOUR : INTERVAL);
}

static void
updates_when_it_can(void **state)
{
	struct bed *b = *state;

	have_starter(b, false);
	update_is_due(b);
	assert_updated(b, false);
	have_starter(b, true);
	update_is_due(b);
	assert_updated(b, true);
}

static void
updates_one_by_one(void **state)
{
	struct bed *b = *state;

	have_starter(b, true);
	update_is_due(b);
	b->e->status.last_update = 1;
	update_is_due(b);
	assert_int_equal(b->e->status.last_update, 1);
	assert_in_range(b->e->next_update - stamp_now(), 1, INTERVAL);
	/* It has ended. */
	b->e->updater.id = 0;
	update_is_due(b);
	assert_updated(b, true);
	assert_true(b->e->status.last_update > 1);
}

#define TEST(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("an update that cannot be started is no update, and is tried again soon",
		     updates_when_it_can),
		TEST("while the last update runs none is begun, and the next one soon after it",
		     updates_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
