/*
 * test_site_kept.c - what site.json keeps although it is old, large or cannot be written just now.
 */
#include "config.h"
#include "sitefixture.h"

#include <sqlite3.h>
#include "core/catalogue_impl.h"
#include "core/cleanup.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/site.h"

static int
state_dir(struct fixture *f)
{
	return open(f->conf.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
read_site_file(struct fixture *f, struct buf *out)
{
	CLEANUP_FD int dir = state_dir(f);

	assert_int_equal(io_read_file(dir, "site.json", LIMIT_SITE_BYTES, out), 0);
}

static void
write_site_file(struct fixture *f, const struct buf *text)
{
	CLEANUP_FD int dir = state_dir(f);

	assert_int_equal(io_replace_file(dir, "site.json", 0600, text->data, text->len), 0);
}

/* A directory where the new file would be made first. */
static void
obstruct(struct fixture *f, bool obstructed)
{
	CLEANUP_FD int dir = state_dir(f);

	assert_int_equal(obstructed ? mkdirat(dir, "site.json.new", 0700)
				    : unlinkat(dir, "site.json.new", AT_REMOVEDIR), 0);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void
cannot_be_written(void **state)
{
	struct fixture *f = *state;
	CLEANUP_BUF struct buf before = BUF_INIT;
	CLEANUP_BUF struct buf after = BUF_INIT;

	read_site_file(f, &before);
	subscribe(f, LIST, SELECT_NONE);
	write_site_file(f, &before);
	obstruct(f, true);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_non_null(strstr(buf_str(&f->said), "site.json' cannot be written"));
	fixture_reopen(f, 0);
	obstruct(f, false);
	fixture_reopen(f, 0);
	read_site_file(f, &after);
	assert_non_null(strstr(after.data, LIST));
}

static int64_t
deselected_one(struct fixture *f)
{
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	select_image(f, "b", false);
	return sub;
}

static void
deselected_without_a_list(void **state)
{
	struct fixture *f = *state;

	deselected_one(f);
	f->revoked = true;
	fixture_lose_database(f);
	f->revoked = false;
	publish(f, 1, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b'), IMG("c", "1", 'c')));
	assert_image(f, "a", "live selected 1");
	assert_image(f, "b", "live unselected 1");
	assert_image(f, "c", "live selected 1");
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_image(f, "b", "live unselected 1");
}

static void
of_a_version_before(void **state)
{
	struct fixture *f = *state;
	CLEANUP_BUF struct buf text = BUF_INIT;

	deselected_one(f);
	assert_int_equal(site_format_before(f->c, &text, &f->err), 0);
	assert_null(strstr(text.data, "defined"));
	write_site_file(f, &text);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(f->said.len, 0);
	select_image(f, "a", false);
	buf_clear(&text);
	read_site_file(f, &text);
	assert_non_null(strstr(text.data, "defined"));
}

/* Names as long as they may be, all of them selected. */
static void
of_many_images(void **state)
{
	static const char copies[] =
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 140000)"
		" INSERT INTO image (ino, subscription, identifier, name, selected, live,"
		" generation, expires, meta, sha512) SELECT i, subscription, printf('%0120d', i),"
		" 'n-' || i, 1, 0, 1, expires, meta, sha512 FROM n, image WHERE identifier = 'a'";
	struct fixture *f = *state;
	CLEANUP_BUF struct buf text = BUF_INIT;

	deselected_one(f);
	assert_int_equal(sqlite3_exec(f->c->db, copies, NULL, NULL, NULL), SQLITE_OK);
	select_image(f, "b", true);
	read_site_file(f, &text);
	assert_true(text.len > LIMIT_MESSAGE_BYTES);
	fixture_reopen(f, 0);
	assert_image(f, "b", "live selected 1");
	assert_int_equal(f->said.len, 0);
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("the catalogue opens while site.json cannot be written, which is said",
		  cannot_be_written),
		T("an image that was deselected by hand stays so although its list cannot be "
		  "verified in a rebuild", deselected_without_a_list),
		T("site.json of a version that did not note what was deselected is no damage",
		  of_a_version_before),
		T("site.json of a site with very many images can be read", of_many_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
