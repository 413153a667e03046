/*
 * Every field in which a row could differ from what was signed, or decided, is compared: one that
 * differs makes the catalogue a damaged one, which is built anew from the messages.
 */
#include "config.h"
#include "sitefixture.h"

#include <sqlite3.h>
#include "core/cleanup.h"

static void
run_sql(struct fixture *f, const char *sql)
{
	CLEANUP_FREE char *path = xasprintf("%s/catalogue.db", f->conf.state_dir);
	struct sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	sqlite3_close(db);
}

/* Image a has been replaced once; b is there. */
static int
setup(void **state)
{
	struct fixture *f = fixture_new();
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'c'), IMG("b", "1", 'b')));
	store_content(f, 'c');
	f->objects_good = true;
	*state = f;
	return 0;
}

static void
assert_noticed(struct fixture *f, const char *sql)
{
	catalogue_close(f->c);
	f->c = NULL;
	run_sql(f, sql);
	buf_clear(&f->said);
	if (fixture_open(f, CATALOGUE_CHECK) != 0)
		fail_msg("%s: %s", sql, f->err.text);
	if (strstr(buf_str(&f->said), "rebuilt") == NULL)
		fail_msg("nobody notices: %s", sql);
	assert_image(f, "a", "live selected 2");
	assert_image(f, "b", "live selected 1");
}

static void
fields_of_a_list(void **state)
{
	static const char *const fields[] = { "title", "description", "uri", "version", "vo" };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		CLEANUP_FREE char *sql =
			xasprintf("UPDATE subscription SET %s = %s || 'x'", fields[i], fields[i]);

		assert_noticed(*state, sql);
	}
	assert_noticed(*state, "UPDATE subscription SET created = created + 1");
}

static void
signer_of_a_list(void **state)
{
	assert_noticed(*state, "UPDATE subscription SET signer_subject = NULL");
	assert_noticed(*state, "UPDATE subscription SET signer_issuer = NULL");
	assert_noticed(*state, "UPDATE subscription SET signer_subject = '/CN=Mallory'");
	assert_noticed(*state, "UPDATE subscription SET signer_issuer = '/CN=Mallory'");
	assert_noticed(*state, "UPDATE subscription SET signer_endorser = NULL");
}

static void
images_of_a_list(void **state)
{
	assert_noticed(*state,
		       "UPDATE image SET meta = (SELECT meta FROM image WHERE identifier = 'a')"
		       " WHERE identifier = 'b'");
	assert_noticed(*state, "UPDATE image SET identifier = 'x' WHERE identifier = 'b'");
}

static void
dates_of_what_has_expired(void **state)
{
	assert_noticed(*state, "UPDATE expired SET expired_at = expired_at - 86400");
}

static void
rows_that_refer_to_none(void **state)
{
	assert_noticed(*state, "PRAGMA foreign_keys = OFF; UPDATE image SET subscription = 99");
}

/* That costs no trust: the list is applied once more. */
static void
images_that_are_missing(void **state)
{
	struct fixture *f = *state;

	catalogue_close(f->c);
	f->c = NULL;
	run_sql(f, "UPDATE image SET live = 0 WHERE identifier = 'b'");
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(f->said.len, 0);
	assert_image(f, "b", "live selected 1");
	assert_expired(f, "a replaced");
}

/*
 * Of two with one identifier the first that file_prefix lets in stands; it need not be that of now.
 */
static void
entries_of_one_name(void **state)
{
	struct fixture *f = *state;
	struct subscription_row row;

	if (catalogue_subscription_find(f->c, LIST, &row, &f->err) != 0)
		fail_msg("%s", f->err.text);
	publish(f, row.id, "3",
		ENTRIES(IMG("a", "9", '9', .verity = '1', .sidecar = "file:///elsewhere/a"),
			IMG("a", "2", 'c'), IMG("b", "1", 'b')));
	subscription_row_release(&row);
	for (int i = 0; i < 2; i++) {
		fixture_reopen(f, CATALOGUE_CHECK);
		assert_int_equal(f->said.len, 0);
		assert_image(f, "a", "live selected 2");
		free(f->conf.file_prefix);
		f->conf.file_prefix = xstrdup("/elsewhere");
	}
	catalogue_close(f->c);
	f->c = NULL;
	free(f->conf.file_prefix);
	f->conf.file_prefix = NULL;
}

#define TEST(title, function) \
	{ \
		.name = title, .test_func = function, .setup_func = setup, \
		.teardown_func = fixture_teardown \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("each field of a list is what was signed", fields_of_a_list),
		TEST("so is who signed it", signer_of_a_list),
		TEST("and each image", images_of_a_list),
		TEST("what has expired has done so when its name says",
		     dates_of_what_has_expired),
		TEST("no row refers to one that is missing", rows_that_refer_to_none),
		TEST("an image that is missing is taken from the list again",
		     images_that_are_missing),
		TEST("L26 which of two entries stands depended on file_prefix, and is no damage",
		     entries_of_one_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
