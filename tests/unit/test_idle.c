/*
 * Handlers that nobody uses are forgotten; those that only a clock makes look so are not.
 */
#include "config.h"
#include "sitefixture.h"

#include <inttypes.h>

#include "core/catalogue_impl.h"
#include "core/limits.h"

#define OK(call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s", f->err.text); \
	} while (0)

enum { DAY = 86400, IDLE = LIMIT_HANDLER_IDLE_DAYS * DAY, LEAP = IDLE + 10 * DAY };

/* A handler of the daemon, and two images of which one is available: four events wait for it. */
static int
with_handler(void **state)
{
	static const char *const names[] = { "hook" };
	struct fixture *f;

	*state = f = fixture_new();
	OK(catalogue_handlers_set(f->c, names, 1, &f->err));
	publish(f, subscribe(f, LIST, SELECT_ALL), "1",
		ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	store_content(f, 'a');
	return 0;
}

static size_t
n_handlers(struct fixture *f)
{
	size_t n;

	OK(catalogue_handlers_count(f->c, &n, &f->err));
	return n;
}

static int64_t
n_waiting(struct fixture *f)
{
	int64_t waiting, failed;

	OK(catalogue_delivery_count(f->c, &waiting, &failed, &f->err));
	return waiting;
}

/* So many seconds pass; seen from now they have passed already. */
static void
pass(struct fixture *f, int64_t seconds)
{
	char *text = catalogue_note_get(f->c, "handlers_looked"), earlier[32];

	OK(catalogue_begin(f->c, &f->err));
	OK(cat_run(f->c, SQL_HANDLER_SHIFT, ARGS(arg_int(-seconds), arg_int(INT64_MAX)), &f->err));
	if (text != NULL) {
		snprintf(earlier, sizeof(earlier), "%" PRId64,
			 (int64_t)strtoll(text, NULL, 10) - seconds);
		OK(catalogue_note_set(f->c, "handlers_looked", earlier, &f->err));
	}
	OK(catalogue_commit(f->c, &f->err));
	free(text);
}

static void
prune(struct fixture *f)
{
	OK(catalogue_event_prune(f->c, &f->err));
}

/* Days in which a command looks and nobody uses a handler. */
static void
days(struct fixture *f, int n)
{
	for (int i = 0; i < n; i++) {
		pass(f, DAY);
		prune(f);
	}
}

/* ---- who is idle ----------------------------------------------------------------------------- */

static void
a_day_at_a_time(void **state)
{
	struct fixture *f = *state;

	prune(f);
	days(f, LIMIT_HANDLER_IDLE_DAYS - 1);
	assert_int_equal(n_handlers(f), 1);
	assert_true(n_waiting(f) > 0);
	days(f, 2);
	assert_int_equal(n_handlers(f), 0);
	assert_int_equal(n_waiting(f), 0);
}

static void
of_commands(void **state)
{
	struct fixture *f = *state;
	int64_t now = stamp_now(), ago = now - IDLE - DAY, old, used, id;
	enum handler_kind kind;
	char *name;

	OK(catalogue_handler_use(f->c, HANDLER_CACHE, "old", ago, &old, &f->err));
	OK(catalogue_handler_use(f->c, HANDLER_CACHE, "used", ago, &used, &f->err));
	OK(catalogue_handler_use(f->c, HANDLER_CACHE, "used", now, &id, &f->err));
	assert_int_equal(id, used);
	OK(catalogue_event_process(f->c, "ProcessPrefix", "of-old", old, ago, &f->err));
	prune(f);
	assert_int_equal(handler_get(f->c, old, &kind, &name, &f->err), -ENOENT);
	/* Its own event goes with it; those of the others stay. */
	assert_events(f, 0, "[AvailablePrefix a, AvailablePostfix a]");
	OK(handler_get(f->c, used, &kind, &name, &f->err));
	free(name);
}

static void
who_is_there(void **state)
{
	struct fixture *f = *state;

	prune(f);
	for (int i = 0; i < 3; i++) {
		days(f, LIMIT_HANDLER_IDLE_DAYS - 5);
		OK(catalogue_handlers_seen(f->c, stamp_now(), &f->err));
	}
	assert_int_equal(n_handlers(f), 1);
}

/* ---- clocks ---------------------------------------------------------------------------------- */

static void
leaps(void **state)
{
	struct fixture *f = *state;
	int64_t waiting = n_waiting(f);

	prune(f);
	pass(f, LEAP);
	prune(f);
	assert_int_equal(n_handlers(f), 1);
	pass(f, 100 * (int64_t)LEAP);
	prune(f);
	prune(f);
	assert_int_equal(n_handlers(f), 1);
	assert_int_equal(n_waiting(f), waiting);
}

static void
a_leap_is_an_end_to_nothing(void **state)
{
	struct fixture *f = *state;

	prune(f);
	pass(f, LEAP);
	prune(f);
	days(f, LIMIT_HANDLER_IDLE_DAYS);
	assert_int_equal(n_handlers(f), 0);
}

static void
back_again(void **state)
{
	struct fixture *f = *state;

	/* It was used and looked at by a clock ten years ahead. */
	prune(f);
	pass(f, -3650 * (int64_t)DAY);
	prune(f);
	assert_int_equal(n_handlers(f), 1);
	days(f, LIMIT_HANDLER_IDLE_DAYS + 2);
	assert_int_equal(n_handlers(f), 0);
}

static void
no_number(void **state)
{
	struct fixture *f = *state;

	OK(catalogue_note_set(f->c, "handlers_looked", "-7 times", &f->err));
	prune(f);
	assert_int_equal(n_handlers(f), 1);
	days(f, LIMIT_HANDLER_IDLE_DAYS + 2);
	assert_int_equal(n_handlers(f), 0);
}

#define T(title, fn) { title, fn, with_handler, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("P22 nothing waits for ever for a daemon that does not come back",
		  a_day_at_a_time),
		T("P22 a command's handler that nobody uses is forgotten", of_commands),
		T("a daemon that says that it is there keeps its handlers", who_is_there),
		T("K02 a clock that leaps makes no handler idle", leaps),
		T("K02 who is idle after a leap is forgotten later", a_leap_is_an_end_to_nothing),
		T("K02 who was used by a clock ahead counts from when the clock is right",
		  back_again),
		T("a note that is no number counts as none", no_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
