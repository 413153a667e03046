/*
 * Stores of schema 2 and 3, as released versions left them (tests/data/state-2, -3), are taken
 * over: trust, selections, what is available and its history stand, and handlers are told of what
 * they need.
 */
#include "config.h"
#include "oldstate.h"

#include "core/cleanup.h"
#include "core/json.h"

#define OK(call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s", f->err.text); \
	} while (0)

static void
assert_not_rebuilt(struct fixture *f)
{
	if (strstr(buf_str(&f->said), "rebuilt") != NULL)
		fail_msg("'%s'", buf_str(&f->said));
}

static void
assert_endorser(struct fixture *f, const char *name, size_t n_credentials)
{
	struct endorser_row e;

	OK(catalogue_endorser_get(f->c, name, &e, &f->err));
	assert_string_equal(e.dir, name);
	assert_int_equal(e.n_credentials, n_credentials);
	endorser_row_release(&e);
}

static void
assert_policy(struct fixture *f, const char *list_id, int select_new)
{
	struct subscription_row r;

	OK(catalogue_subscription_find(f->c, list_id, &r, &f->err));
	assert_int_equal(r.select_new, select_new);
	assert_false(r.refuse_new);
	assert_int_equal(r.trust_anchor, ANCHOR_NONE);
	assert_false(r.reapply);
	subscription_row_release(&r);
}

static void
assert_taken_over(struct fixture *f)
{
	assert_not_rebuilt(f);
	assert_endorser(f, "alice", 2);
	assert_endorser(f, "bob", 1);
	assert_endorser(f, "site", 1);
	assert_policy(f, LIST, SELECT_NONE);
	assert_policy(f, OTHER_LIST, SELECT_ALL);
	assert_image(f, "good", "live selected 1");
	assert_image(f, "moved", "live selected 1 pending 2");
	assert_image(f, "gone", "away selected 1");
	assert_image(f, "unselected", "live unselected 1");
	assert_image(f, "far", "live selected 3");
	assert_expired(f, "gone removed-from-list");
}

static void
everything_stands(void **state)
{
	struct fixture *f = *state;
	int64_t last;

	old_state(f, "state-2");
	OK(fixture_open(f, CATALOGUE_CHECK | CATALOGUE_CREATE));
	assert_taken_over(f);
	last = catalogue_event_last(f->c);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_taken_over(f);
	assert_int_equal(catalogue_event_last(f->c), last);
}

static void
a_command_upgrades(void **state)
{
	struct fixture *f = *state;

	old_state(f, "state-2");
	OK(fixture_open(f, CATALOGUE_CREATE));
	assert_taken_over(f);
	OK(catalogue_endorser_add(f->c, "Carol C.", "/DC=org/CN=Carol", CA, false, false, &f->err));
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_taken_over(f);
}

static void
assert_member(const struct json *object, const char *key, const char *expected)
{
	const char *value = json_as_string(json_get(object, key));

	if (value == NULL || strcmp(value, expected) != 0)
		fail_msg("%s is '%s', not '%s'", key, value != NULL ? value : "(none)", expected);
}

static void
new_handlers_get_whole_records(void **state)
{
	static const char *const names[] = { "hook" };
	static const char *const expected[] = {
		"AvailablePrefix good", "AvailablePostfix good", "AvailablePrefix moved",
		"AvailablePostfix moved", "AvailablePrefix far", "AvailablePostfix far",
	};
	struct fixture *f = *state;
	int64_t next_due;

	old_state(f, "state-2");
	OK(fixture_open(f, CATALOGUE_CHECK | CATALOGUE_CREATE));
	OK(catalogue_handlers_set(f->c, names, 1, &f->err));
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
		CLEANUP_FREE char *text = NULL;
		struct delivery d;
		struct json *record;

		assert_int_equal(catalogue_delivery_next(f->c, 0, NULL, 0, NOW, &d, &next_due,
							 &f->err), 1);
		text = xasprintf("%s %s", d.event.type, d.event.identifier);
		assert_string_equal(text, expected[i]);
		OK(json_parse(d.event.json, strlen(d.event.json), &record, &f->err));
		assert_member(record, "uuid", d.event.uuid);
		assert_member(record, "session", d.event.session);
		assert_member(record, "identifier", d.event.identifier);
		assert_member(record, "group_name", "");
		assert_member(record, "mpuri", "");
		assert_member(json_get(record, "metadata"), "dc:identifier", d.event.identifier);
		json_free(record);
		OK(catalogue_delivery_done(f->c, d.event.id, d.handler, NULL, 0, &f->err));
		delivery_release(&d);
	}
}

/* ---- schema 3 -------------------------------------------------------------------------------- */

static void
assert_taken_over_3(struct fixture *f)
{
	struct subscription_row r;

	assert_not_rebuilt(f);
	assert_endorser(f, "alice", 1);
	assert_policy(f, LIST, SELECT_NONE);
	OK(catalogue_subscription_find(f->c, OTHER_LIST, &r, &f->err));
	assert_true(r.refuse_new);
	subscription_row_release(&r);
	assert_image(f, "good", "live selected 1");
	assert_image(f, "moved", "live selected 1 pending 2");
	assert_image(f, "gone", "away selected 1");
	assert_image(f, "left", "live unselected 1");
	assert_image(f, "far", "live selected 3");
	assert_expired(f, "gone removed-from-list, left deselected");
}

static int
check_used(void *arg, const struct evict_row *row)
{
	/* Nothing more is known of the last use than when it was fetched. */
	if (row->verified) {
		assert_int_equal(row->used, NOW);
		assert_false(row->pinned);
		++*(int *)arg;
	}
	return 0;
}

static void
room_from_3(void **state)
{
	struct fixture *f = *state;
	struct image_row r;
	int n = 0;

	old_state(f, "state-3");
	OK(fixture_open(f, CATALOGUE_CHECK | CATALOGUE_CREATE));
	assert_taken_over_3(f);
	OK(catalogue_evict_each(f->c, check_used, &n, &f->err));
	assert_int_equal(n, 5);
	assert_int_equal(catalogue_pin_count(f->c), 0);
	r = image(f, "good");
	OK(catalogue_image_pin(f->c, r.id, true, &f->err));
	image_row_release(&r);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_taken_over_3(f);
	assert_int_equal(catalogue_pin_count(f->c), 1);
}

static void
command_from_3(void **state)
{
	struct fixture *f = *state;
	struct image_row r;

	old_state(f, "state-3");
	OK(fixture_open(f, CATALOGUE_CREATE));
	r = image(f, "far");
	OK(catalogue_image_pin(f->c, r.id, true, &f->err));
	image_row_release(&r);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_taken_over_3(f);
	assert_int_equal(catalogue_pin_count(f->c), 1);
}

/* What waited for a handler waits for it still. */
static void
deliveries_from_3(void **state)
{
	struct fixture *f = *state;
	int64_t waiting = 0, failed = 0;

	old_state(f, "state-3");
	OK(fixture_open(f, CATALOGUE_CHECK | CATALOGUE_CREATE));
	OK(catalogue_delivery_count(f->c, &waiting, &failed, &f->err));
	assert_int_equal(waiting, 28);
	assert_int_equal(failed, 0);
}

int
main(void)
{
#define TEST(title, function) \
	{ title, function, fixture_setup, fixture_teardown, NULL }
	const struct CMUnitTest tests[] = {
		TEST("a store of schema 2 is taken over: trust, selections, history",
		     everything_stands),
		TEST("so it is by the first command that opens it", a_command_upgrades),
		TEST("events of before are whole records for a handler that is new",
		     new_handlers_get_whole_records),
		TEST("a store of schema 3 is taken over; what was fetched counts as used then",
		     room_from_3),
		TEST("and so it is by a command that pins an image of it", command_from_3),
		TEST("what waited for a handler there waits for it still", deliveries_from_3),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
