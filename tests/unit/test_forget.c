/*
 * A list with new identifiers in each version makes no catalogue without end, and nothing that an
 * admin decided is forgotten.
 */
#include "config.h"
#include "sitefixture.h"

#include <sqlite3.h>
#include "core/catalogue_impl.h"
#include "core/cleanup.h"
#include "core/limits.h"

#define OK(call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s", f->err.text); \
	} while (0)

enum { MANY = LIMIT_DEPARTED_KEPT + 200, FLOOD = LIMIT_DEPARTED_KEPT + 200 };

static int64_t
number(struct fixture *f, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	int64_t n = -1;

	if (sqlite3_prepare_v2(f->c->db, sql, -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		n = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return n;
}

static int64_t
n_images(struct fixture *f)
{
	return number(f, "SELECT count(*) FROM image");
}

static bool
is_known(struct fixture *f, const char *identifier)
{
	struct image_brief b;
	bool found;

	OK(image_brief_get(f->c, identifier, &b, &found, &f->err));
	return found;
}

/* A version with n images that no other has, without a word in expired/. */
static void
publish_new(struct fixture *f, int64_t sub, int version, size_t n)
{
	CLEANUP_FREE struct entry *e = xcalloc(n + 1, sizeof(*e));
	CLEANUP_FREE char (*names)[16] = xcalloc(n, sizeof(*names));
	char text[16];

	snprintf(text, sizeof(text), "%d", version);
	for (size_t i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "%d-%zu", version, i);
		e[i] = (struct entry)IMG(names[i], "1", 'e');
	}
	publish(f, sub, text, e);
}

static void
new_ones_each_time(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);

	for (int version = 1; version <= 4; version++) {
		publish_new(f, sub, version, MANY);
		assert_int_equal(f->result.added, MANY);
		assert_true(n_images(f) <= MANY + LIMIT_DEPARTED_KEPT);
	}
	assert_true(is_known(f, "3-1000"));
	assert_false(is_known(f, "1-150"));
	assert_int_equal(number(f, "SELECT count(*) FROM meta"), n_images(f));
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(f->said.len, 0);
}

/* What a site has from before: each update takes some, so that nobody waits for long. */
static void
many_at_first(void **state)
{
	static const char copies[] =
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
		" INSERT INTO image (ino, subscription, identifier, name, selected, generation,"
		" expires, meta, sha512) SELECT i, subscription, 'gone-' || i, 'gone-' || i, 0, 1,"
		" expires, meta, sha512 FROM n, image WHERE identifier = 'a'";
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(sqlite3_exec(f->c->db, copies, NULL, NULL, NULL), SQLITE_OK);
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(n_images(f), 3001 - LIMIT_DEPARTED_KEPT - 1);
	publish(f, sub, "3", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(n_images(f), LIMIT_DEPARTED_KEPT + 1);
	publish(f, sub, "4", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(n_images(f), LIMIT_DEPARTED_KEPT + 1);
}

/* ---- what stays ------------------------------------------------------------------------------ */

static void
flood(struct fixture *f, int64_t sub, int version)
{
	publish_new(f, sub, version, FLOOD);
	publish(f, sub, "9", ENTRIES(IMG("last", "1", 'f')));
	assert_true(n_images(f) < FLOOD);
}

static void
selected_ones_stay(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct image_row r;

	publish(f, sub, "1", ENTRIES(IMG("chosen", "1", 'a'), IMG("pinned", "1", 'b'),
				     IMG("other", "1", 'c')));
	select_image(f, "chosen", true);
	r = image(f, "pinned");
	OK(catalogue_image_pin(f->c, r.id, true, &f->err));
	image_row_release(&r);
	flood(f, sub, 2);
	assert_false(is_known(f, "other"));
	assert_image(f, "chosen", "away selected 1");
	assert_image(f, "pinned", "away unselected 1");
	publish(f, sub, "10", ENTRIES(IMG("chosen", "1", 'a'), IMG("other", "1", 'c')));
	assert_image(f, "chosen", "live selected 1");
	assert_image(f, "other", "live unselected 1");
}

static void
deselected_ones_stay(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("unwanted", "1", 'a'), IMG("other", "1", 'c')));
	select_image(f, "unwanted", false);
	flood(f, sub, 2);
	assert_false(is_known(f, "other"));
	assert_image(f, "unwanted", "away unselected 1");
	publish(f, sub, "10", ENTRIES(IMG("unwanted", "1", 'a'), IMG("other", "1", 'c')));
	assert_image(f, "unwanted", "live unselected 1");
	assert_image(f, "other", "live selected 1");
	fixture_lose_database(f);
	assert_image(f, "unwanted", "live unselected 1");
	assert_image(f, "other", "live selected 1");
}

static void
accepted_ones_stay(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);

	publish(f, sub, "1", ENTRIES(IMG("accepted", "1", 'a')));
	publish_new(f, sub, 2, FLOOD);
	OK(catalogue_subscription_set_policy(f->c, sub, true, SELECT_NONE, &f->err));
	publish(f, sub, "3", ENTRIES(IMG("2-1", "1", 'e'), IMG("stranger", "1", 'b')));
	assert_int_equal(f->result.refused, 1);
	publish(f, sub, "4", ENTRIES(IMG("accepted", "1", 'a')));
	assert_image(f, "accepted", "live unselected 1");
}

/* Its bytes and its history are not its row's. */
static void
comes_back_as_new(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL), mark;
	struct image_row r;
	uint64_t ino;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	r = image(f, "a");
	ino = r.ino;
	image_row_release(&r);
	flood(f, sub, 2);
	assert_false(is_known(f, "a"));
	assert_int_equal(number(f, "SELECT count(*) FROM expired WHERE bytes = 'kept'"), 1);
	assert_int_equal(access_of(f, 'a'), ACCESS_EXPIRED);
	mark = catalogue_event_last(f->c);
	publish(f, sub, "10", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(access_of(f, 'a'), ACCESS_OK);
	assert_events(f, mark, "SubscriptionImageNew a, [AvailablePrefix a, AvailablePostfix a]");
	r = image(f, "a");
	assert_true(r.ino == ino);
	image_row_release(&r);
}

/* ---- inode numbers --------------------------------------------------------------------------- */

static void
numbers_are_collected(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);

	for (int version = 1; version <= 4; version++)
		publish_new(f, sub, version, MANY);
	publish(f, sub, "5", ENTRIES(IMG("a", "1", 'a')));
	assert_true(number(f, "SELECT count(*) FROM inode") <=
		    2 * (LIMIT_DEPARTED_KEPT + 10) + LIMIT_INODES_UNUSED);
	assert_int_equal(number(f, "SELECT count(*) FROM (SELECT ino FROM image UNION ALL"
				   " SELECT ino FROM object UNION ALL SELECT ino FROM endorser"
				   " UNION ALL SELECT ino FROM subscription)"
				   " WHERE ino NOT IN (SELECT ino FROM inode)"), 0);
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("a list with new identifiers in each version has no history without end",
		  new_ones_each_time),
		T("an update forgets a bounded number of images that left long ago", many_at_first),
		T("images that were selected or pinned by hand are known for ever",
		  selected_ones_stay),
		T("images that were deselected by hand are known for ever", deselected_ones_stay),
		T("where new images are refused those that were accepted are known for ever",
		  accepted_ones_stay),
		T("L23 an image that was forgotten is back without a download", comes_back_as_new),
		T("inode numbers that nothing has go when there are many", numbers_are_collected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
