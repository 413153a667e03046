/*
 * The outbox: sessions of events, who is told of them, in which order, and what is over.
 */
#include "config.h"
#include "sitefixture.h"

#include "core/catalogue_impl.h"
#include "core/cleanup.h"
#include "core/json.h"
#include "core/limits.h"

#define OK(call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s", f->err.text); \
	} while (0)

enum { LATER = 60 };

/* ---- what a test says ------------------------------------------------------------------------ */

static void
handlers(struct fixture *f, const char *one, const char *two)
{
	const char *names[2] = { one, two };

	OK(catalogue_handlers_set(f->c, names, (size_t)(one != NULL) + (two != NULL), &f->err));
}

static int64_t
command_handler(struct fixture *f, enum handler_kind kind, const char *name)
{
	int64_t id;

	OK(catalogue_handler_use(f->c, kind, name, stamp_now(), &id, &f->err));
	return id;
}

/* Takes what is due, until nothing is: written as by assert_events(). */
static void
assert_delivered(struct fixture *f, int64_t handler, int64_t now, const char *expected)
{
	struct buf b = BUF_INIT;
	struct delivery d;
	int64_t next_due;
	int rc;

	while ((rc = catalogue_delivery_next(f->c, handler, NULL, 0, now, &d, &next_due,
					     &f->err)) == 1) {
		add_event(&b, &d.event);
		OK(catalogue_delivery_done(f->c, d.event.id, d.handler, NULL, 0, &f->err));
		delivery_release(&d);
	}
	OK(rc);
	assert_string_equal(buf_str(&b), expected);
	buf_release(&b);
}

/* The next one fails, and is to be tried again LATER. */
static void
fail_next(struct fixture *f, int64_t handler, int64_t now, const char *type, const char *identifier)
{
	struct delivery d;
	int64_t next_due;

	assert_int_equal(catalogue_delivery_next(f->c, handler, NULL, 0, now, &d, &next_due,
						 &f->err), 1);
	assert_string_equal(d.event.type, type);
	assert_string_equal(d.event.identifier, identifier);
	OK(catalogue_delivery_done(f->c, d.event.id, d.handler, "exit status 1", now + LATER,
				   &f->err));
	delivery_release(&d);
}

static int64_t
next_due(struct fixture *f, int64_t handler, int64_t now)
{
	struct delivery d;
	int64_t due;

	assert_int_equal(catalogue_delivery_next(f->c, handler, NULL, 0, now, &d, &due, &f->err),
			 0);
	return due;
}

/* A list with a and b, of which nothing is stored yet. */
static int64_t
two_images(struct fixture *f)
{
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	return sub;
}

static struct event_row
event(struct fixture *f, const char *what)
{
	struct event_row r;

	OK(catalogue_event_find(f->c, what, &r, &f->err));
	return r;
}

/* "delivered 2 exit status 1" of the event that comes nth. */
static void
assert_event_state(struct fixture *f, int64_t id, const char *expected)
{
	CLEANUP_FREE char *number = xasprintf("%lld", (long long)id);
	struct event_row r = event(f, number);
	CLEANUP_FREE char *text = xasprintf("%s %d %s", event_state_name(r.state), r.tries,
					    r.error);

	assert_string_equal(text, expected);
	event_row_release(&r);
}

/* ---- sessions and records -------------------------------------------------------------------- */

struct sessions {
	char first[40], last[40];
	int n;				/* how often it changed */
};

static int
note_session(void *arg, const struct event_row *r)
{
	struct sessions *s = arg;

	assert_int_equal(strlen(r->session), 36);
	if (strcmp(r->session, s->last) != 0)
		s->n++;
	if (s->n == 1)
		snprintf(s->first, sizeof(s->first), "%s", r->session);
	snprintf(s->last, sizeof(s->last), "%s", r->session);
	return 0;
}

static void
sessions(void **state)
{
	struct fixture *f = *state;
	struct sessions s = { .n = 0 };
	int64_t sub = two_images(f);

	OK(catalogue_begin(f->c, &f->err));
	store_content(f, 'a');
	store_content(f, 'b');
	OK(catalogue_commit(f->c, &f->err));
	publish(f, sub, "2", ENTRIES(IMG("b", "1", 'b')));
	assert_events(f, 0, "[AvailablePrefix a, AvailablePostfix a, "
			    "AvailablePrefix b, AvailablePostfix b], "
			    "[ExpirePrefix a, ExpirePostfix a]");
	OK(catalogue_event_each(f->c, 0, 0, note_session, &s, &f->err));
	assert_int_equal(s.n, 2);
}

static void
rolled_back(void **state)
{
	struct fixture *f = *state;

	handlers(f, "hook", NULL);
	two_images(f);
	OK(catalogue_begin(f->c, &f->err));
	store_content(f, 'a');
	catalogue_rollback(f->c);
	assert_events(f, 0, "");
	store_content(f, 'b');
	assert_delivered(f, 0, NOW, "[AvailablePrefix b, AvailablePostfix b]");
}

static void
assert_member(const struct json *object, const char *key, const char *expected)
{
	const char *value = json_as_string(json_get(object, key));

	if (value == NULL || strcmp(value, expected) != 0)
		fail_msg("%s is '%s', not '%s'", key, value != NULL ? value : "(none)", expected);
}

static void
records(void **state)
{
	struct fixture *f = *state;
	struct event_row r;
	struct json *record;
	int64_t size;

	two_images(f);
	store_content(f, 'a');
	r = event(f, "3");
	assert_null(strchr(r.json, '\n'));
	OK(json_parse(r.json, strlen(r.json), &record, &f->err));
	assert_member(record, "uuid", r.uuid);
	assert_member(record, "session", r.session);
	assert_member(record, "type", "AvailablePostfix");
	assert_member(record, "subscription", LIST);
	assert_member(record, "filename", "a");
	assert_member(record, "reason", "");
	for (int i = 0; i < N_FIELDS; i++)
		assert_non_null(json_get(record, field_table[i].column));
	assert_member(record, "identifier", "a");
	assert_true(json_as_integer(json_get(record, "size"), &size));
	assert_int_equal(size, 1000 + 'a');
	assert_member(json_get(record, "metadata"), "dc:title", "Title of a");
	assert_member(json_get(record, "metadata"), "hv:uri", "https://example.org/a-1.img");
	json_free(record);
	event_row_release(&r);
	r = event(f, "1");
	OK(json_parse(r.json, strlen(r.json), &record, &f->err));
	assert_int_equal(json_size(record), 4);
	json_free(record);
	event_row_release(&r);
}

static void
found(void **state)
{
	struct fixture *f = *state;
	struct event_row r, again;
	char prefix[10];

	two_images(f);
	store_content(f, 'a');
	r = event(f, "2");
	assert_string_equal(r.type, "AvailablePrefix");
	again = event(f, r.uuid);
	assert_int_equal(again.id, 2);
	event_row_release(&again);
	snprintf(prefix, sizeof(prefix), "%.9s", r.uuid);
	again = event(f, prefix);
	assert_int_equal(again.id, 2);
	event_row_release(&again);
	assert_int_equal(catalogue_event_find(f->c, "77", &again, &f->err), -ENOENT);
	assert_int_equal(catalogue_event_find(f->c, "", &again, &f->err), -ENOENT);
	assert_int_equal(catalogue_event_find(f->c, "zzzzzzzz", &again, &f->err), -ENOENT);
	event_row_release(&r);
}

/* ---- who is told ----------------------------------------------------------------------------- */

static void
told_in_order(void **state)
{
	struct fixture *f = *state;
	int64_t sub;

	handlers(f, "hook", NULL);
	sub = two_images(f);
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'c'), IMG("b", "1", 'b')));
	store_content(f, 'c');
	assert_delivered(f, 0, NOW,
			 "[AvailablePrefix a, AvailablePostfix a], "
			 "[ExpirePrefix a, ExpirePostfix a, "
			 "AvailablePrefix a, AvailablePostfix a]");
	assert_delivered(f, 0, NOW, "");
	assert_int_equal(next_due(f, 0, NOW), INT64_MAX);
	assert_event_state(f, 1, "delivered 0 ");
}

static void
nobody_to_tell(void **state)
{
	struct fixture *f = *state;

	two_images(f);
	store_content(f, 'a');
	assert_event_state(f, 2, "none 0 ");
	assert_delivered(f, 0, NOW, "");
	assert_int_equal(catalogue_event_replay(f->c, 2, &f->err), -ENOENT);
}

static void
latecomer(void **state)
{
	struct fixture *f = *state;
	int64_t sub = two_images(f), subscriber;

	store_content(f, 'a');
	store_content(f, 'b');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'c'), IMG("d", "1", 'd')));
	store_content(f, 'c');
	handlers(f, "hook", NULL);
	assert_delivered(f, 0, NOW, "AvailablePrefix a, AvailablePostfix a");
	assert_delivered(f, command_handler(f, HANDLER_CACHE, "/site/ev.sh"), NOW,
			 "AvailablePrefix a, AvailablePostfix a");
	subscriber = command_handler(f, HANDLER_SUBSCRIBE, "/site/ev.sh");
	assert_delivered(f, subscriber, NOW, "");
	/* What was registered before is no news. */
	handlers(f, "hook", NULL);
	assert_delivered(f, 0, NOW, "");
}

static void
kinds(void **state)
{
	struct fixture *f = *state;
	int64_t sub = two_images(f);
	int64_t cache = command_handler(f, HANDLER_CACHE, "c");
	int64_t subscriber = command_handler(f, HANDLER_SUBSCRIBE, "s");
	struct digest d = content('a');

	handlers(f, "hook", NULL);
	store_content(f, 'a');
	OK(catalogue_object_corrupt(f->c, &d, "bad", false, NOW, &f->err));
	publish(f, sub, "2", ENTRIES(IMG("b", "1", 'b'), IMG("new", "1", 'e')));
	assert_delivered(f, cache, NOW, "AvailablePrefix a, AvailablePostfix a, CorruptFound a, "
					"ExpirePrefix a, ExpirePostfix a");
	assert_delivered(f, subscriber, NOW, "SubscriptionImageNew new");
	assert_delivered(f, 0, NOW, "[AvailablePrefix a, AvailablePostfix a], [CorruptFound a], "
				    "SubscriptionImageNew new, [ExpirePrefix a, ExpirePostfix a]");
}

static void
new_images(void **state)
{
	struct fixture *f = *state;
	struct sessions s = { .n = 0 };
	int64_t sub = two_images(f), mark;

	assert_events(f, 0, "");
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a'), IMG("b", "2", 'b'), IMG("c", "1", 'c')));
	assert_events(f, 0, "SubscriptionImageNew c");
	OK(catalogue_event_each(f->c, 0, 0, note_session, &s, &f->err));
	/* It is known, whether or not the list of now names it. */
	mark = catalogue_event_last(f->c);
	publish(f, sub, "3", ENTRIES(IMG("a", "1", 'a')));
	publish(f, sub, "4", ENTRIES(IMG("a", "1", 'a'), IMG("c", "1", 'c')));
	assert_events(f, mark, "");
}

static void
runs(void **state)
{
	struct fixture *f = *state;
	int64_t cache = command_handler(f, HANDLER_CACHE, "c");
	int64_t other = command_handler(f, HANDLER_CACHE, "other");
	static const char session[] = "11111111-2222-4333-8444-555555555555";

	handlers(f, "hook", NULL);
	two_images(f);
	store_content(f, 'a');
	OK(catalogue_event_process(f->c, "ProcessPrefix", session, cache, NOW, &f->err));
	store_content(f, 'b');
	OK(catalogue_event_process(f->c, "ProcessPostfix", session, cache, NOW, &f->err));
	/* What was waiting before the run began belongs into it. */
	assert_delivered(f, cache, NOW, "[AvailablePrefix a, AvailablePostfix a, "
					"AvailablePrefix b, AvailablePostfix b]");
	assert_delivered(f, other, NOW, "AvailablePrefix a, AvailablePostfix a, "
					"AvailablePrefix b, AvailablePostfix b");
	assert_delivered(f, 0, NOW, "[AvailablePrefix a, AvailablePostfix a], "
				    "[AvailablePrefix b, AvailablePostfix b]");
}

static void
dropped(void **state)
{
	struct fixture *f = *state;
	struct delivery d;
	int64_t due;

	handlers(f, "one", "two");
	two_images(f);
	store_content(f, 'a');
	handlers(f, "two", NULL);
	while (catalogue_delivery_next(f->c, 0, NULL, 0, NOW, &d, &due, &f->err) == 1) {
		assert_string_equal(d.name, "two");
		assert_int_equal(d.kind, HANDLER_DAEMON);
		OK(catalogue_delivery_done(f->c, d.event.id, d.handler, NULL, 0, &f->err));
		delivery_release(&d);
	}
	assert_event_state(f, 2, "delivered 0 ");
	/* A word about a handler that is gone harms nobody. */
	OK(catalogue_delivery_done(f->c, 2, 1, "too late", NOW, &f->err));
	handlers(f, NULL, NULL);
	assert_event_state(f, 2, "none 0 ");
}

static void
busy(void **state)
{
	struct fixture *f = *state;
	struct delivery first, second, third;
	int64_t due, ids[2];

	handlers(f, "one", "two");
	two_images(f);
	store_content(f, 'a');
	assert_int_equal(catalogue_delivery_next(f->c, 0, NULL, 0, NOW, &first, &due, &f->err), 1);
	ids[0] = first.handler;
	assert_int_equal(catalogue_delivery_next(f->c, 0, ids, 1, NOW, &second, &due, &f->err), 1);
	assert_int_not_equal(second.handler, first.handler);
	assert_int_equal(second.event.id, first.event.id);
	ids[1] = second.handler;
	assert_int_equal(catalogue_delivery_next(f->c, 0, ids, 2, NOW, &third, &due, &f->err), 0);
	assert_int_equal(due, INT64_MAX);
	delivery_release(&first);
	delivery_release(&second);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void
held_back(void **state)
{
	struct fixture *f = *state;
	int64_t cache = command_handler(f, HANDLER_CACHE, "c");

	two_images(f);
	store_content(f, 'a');
	store_content(f, 'b');
	fail_next(f, cache, NOW, "AvailablePrefix", "a");
	assert_delivered(f, cache, NOW, "AvailablePrefix b, AvailablePostfix b");
	assert_int_equal(next_due(f, cache, NOW), NOW + LATER);
	assert_event_state(f, 2, "waiting 1 exit status 1");
	/* The clock went back: what seems to be due in years is due now. */
	fail_next(f, cache, NOW + LATER, "AvailablePrefix", "a");
	fail_next(f, cache, NOW - 300 * 86400, "AvailablePrefix", "a");
	assert_int_equal(next_due(f, cache, NOW - 300 * 86400), NOW - 300 * 86400 + LATER);
	fail_next(f, cache, NOW, "AvailablePrefix", "a");
	assert_delivered(f, cache, NOW + LATER, "AvailablePrefix a, AvailablePostfix a");
	assert_event_state(f, 2, "delivered 4 ");
}

static void
given_up(void **state)
{
	struct fixture *f = *state;
	int64_t cache = command_handler(f, HANDLER_CACHE, "c"), now = NOW;
	struct delivery d;
	int64_t due;

	two_images(f);
	store_content(f, 'a');
	for (int i = 0; i < LIMIT_EVENT_TRIES; i++, now += LATER)
		fail_next(f, cache, now, "AvailablePrefix", "a");
	assert_event_state(f, 2, "failed 24 exit status 1");
	assert_delivered(f, cache, now, "AvailablePostfix a");
	assert_int_equal(next_due(f, cache, now), INT64_MAX);
	/* It is as if it were new. */
	OK(catalogue_event_replay(f->c, 2, &f->err));
	assert_int_equal(catalogue_delivery_next(f->c, cache, NULL, 0, now, &d, &due, &f->err), 1);
	assert_int_equal(d.tries, 0);
	delivery_release(&d);
	assert_delivered(f, cache, now, "AvailablePrefix a");
}

static void
process_once(void **state)
{
	struct fixture *f = *state;

	handlers(f, "hook", NULL);
	two_images(f);
	store_content(f, 'a');
	fail_next(f, 0, NOW, "ProcessPrefix", "");
	assert_event_state(f, 1, "failed 1 exit status 1");
	fail_next(f, 0, NOW, "AvailablePrefix", "a");
	/* The end of the session is told although an image of it waits. */
	assert_delivered(f, 0, NOW, "]");
	assert_int_equal(next_due(f, 0, NOW), NOW + LATER);
}

static void
worst_state(void **state)
{
	struct fixture *f = *state;
	int64_t one = command_handler(f, HANDLER_CACHE, "one"), now = NOW;

	command_handler(f, HANDLER_CACHE, "two");
	two_images(f);
	store_content(f, 'a');
	assert_event_state(f, 2, "waiting 0 ");
	for (int i = 0; i < LIMIT_EVENT_TRIES; i++, now += LATER)
		fail_next(f, one, now, "AvailablePrefix", "a");
	assert_event_state(f, 2, "failed 24 exit status 1");
}

static void
after_a_crash(void **state)
{
	struct fixture *f = *state;
	struct delivery before, after;
	int64_t due;

	handlers(f, "hook", NULL);
	two_images(f);
	store_content(f, 'a');
	assert_int_equal(catalogue_delivery_next(f->c, 0, NULL, 0, NOW, &before, &due, &f->err), 1);
	fixture_reopen(f, CATALOGUE_CHECK);
	handlers(f, "hook", NULL);
	assert_int_equal(catalogue_delivery_next(f->c, 0, NULL, 0, NOW, &after, &due, &f->err), 1);
	assert_string_equal(before.event.uuid, after.event.uuid);
	delivery_release(&before);
	delivery_release(&after);
	assert_delivered(f, 0, NOW, "[AvailablePrefix a, AvailablePostfix a]");
}

/* ---- what is over ---------------------------------------------------------------------------- */

static int
count_event(void *arg, const struct event_row *r)
{
	(void)r;
	++*(int *)arg;
	return 0;
}

static int
n_events(struct fixture *f)
{
	int n = 0;

	OK(catalogue_event_each(f->c, 0, 0, count_event, &n, &f->err));
	return n;
}

/* Six events a time: it goes and comes. */
static void
many_events(struct fixture *f, const char *identifier, int times)
{
	OK(catalogue_begin(f->c, &f->err));
	for (int i = 0; i < times; i++) {
		select_image(f, identifier, false);
		select_image(f, identifier, true);
	}
	OK(catalogue_commit(f->c, &f->err));
}

static void
pruned(void **state)
{
	struct fixture *f = *state;

	two_images(f);
	store_content(f, 'a');
	store_content(f, 'b');
	many_events(f, "a", LIMIT_EVENTS_KEPT / 4 + 10);
	assert_true(n_events(f) > LIMIT_EVENTS_KEPT);
	OK(catalogue_event_prune(f->c, &f->err));
	/* The two of b say what is available; all others are old. */
	assert_int_equal(n_events(f), LIMIT_EVENTS_KEPT + 2);
	handlers(f, "hook", NULL);
	assert_delivered(f, 0, NOW, "AvailablePrefix b, AvailablePostfix b, "
				    "AvailablePrefix a, AvailablePostfix a");
	OK(catalogue_event_prune(f->c, &f->err));
	assert_int_equal(n_events(f), LIMIT_EVENTS_KEPT + 2);
}

static void
waiting_ones_stay(void **state)
{
	struct fixture *f = *state;
	int n;

	handlers(f, "hook", NULL);
	two_images(f);
	store_content(f, 'a');
	many_events(f, "a", LIMIT_EVENTS_KEPT / 4 + 10);
	n = n_events(f);
	OK(catalogue_event_prune(f->c, &f->err));
	assert_int_equal(n_events(f), n);
	handlers(f, NULL, NULL);
	OK(catalogue_event_prune(f->c, &f->err));
	assert_int_equal(n_events(f), LIMIT_EVENTS_KEPT);
}

static int
count_expired(void *arg, int64_t id, int64_t rev)
{
	(void)id;
	(void)rev;
	++*(int *)arg;
	return 0;
}

static void
purged_ones_are_forgotten(void **state)
{
	struct fixture *f = *state;
	struct digest d = content('a');
	int64_t revision;
	int n = 0;

	two_images(f);
	store_content(f, 'a');
	many_events(f, "a", 5);
	OK(catalogue_expired_prune(f->c, &f->err));
	OK(catalogue_expired_stubs(f->c, count_expired, &n, &f->err));
	assert_int_equal(n, 5);			/* with bytes */
	OK(catalogue_object_evicted(f->c, &d, &f->err));
	many_events(f, "b", LIMIT_PURGED_KEPT + 20);
	revision = catalogue_revision(f->c);
	OK(catalogue_expired_prune(f->c, &f->err));
	assert_true(catalogue_revision(f->c) > revision);
	n = 0;
	OK(catalogue_expired_stubs(f->c, count_expired, &n, &f->err));
	assert_int_equal(n, LIMIT_PURGED_KEPT);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(f->said.len, 0);
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("the events of one transaction are a session, from ProcessPrefix to "
		  "ProcessPostfix", sessions),
		T("what is rolled back has no events and is told to nobody", rolled_back),
		T("a record has every field of the image and the list's own words", records),
		T("an event is found by its number, its uuid, or the beginning of it", found),
		T("a handler is told of what happens, in order: Expire of the old, then Available",
		  told_in_order),
		T("without a handler events are kept, and cannot be replayed", nobody_to_tell),
		T("a handler that comes later begins with what is available", latecomer),
		T("handlers of the daemon, of vmcatcher_cache and of vmcatcher_subscribe are told "
		  "of what is theirs", kinds),
		T("SubscriptionImageNew tells of what an update brings, not of the first list",
		  new_images),
		T("a run of vmcatcher_cache is a session of its handler alone", runs),
		T("a handler that is configured no longer is told nothing more", dropped),
		T("a handler that is busy does not keep others from their events", busy),
		T("P20 a failed event is tried again, and holds back its own image alone",
		  held_back),
		T("P20 an event that failed too often is kept as failed until it is replayed",
		  given_up),
		T("P20 ProcessPrefix and ProcessPostfix are tried once and hold nothing back",
		  process_once),
		T("an event is as its worst delivery", worst_state),
		T("P21 an event that was not told before a crash is told after it, by the same id",
		  after_a_crash),
		T("P22 old events go, but not what is available", pruned),
		T("P22 events that wait are not removed", waiting_ones_stay),
		T("P22 of what was purged the last thousand versions are remembered",
		  purged_ones_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
