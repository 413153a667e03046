/*
 * test_pins.c - rows of the choice of what leaves: pins, last use, what has expired, what is
 * leaving.
 */
#include "config.h"

#include "tests/unit/sitefixture.h"

#include <glob.h>
#include "core/cleanup.h"

#define OK(call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s", f->err.text); \
	} while (0)

static void
pin(struct fixture *f, const char *identifier, bool pinned)
{
	struct image_row r = image(f, identifier);

	OK(catalogue_image_pin(f->c, r.id, pinned, &f->err));
	image_row_release(&r);
}

static bool
is_pinned(struct fixture *f, const char *identifier)
{
	struct image_row r = image(f, identifier);
	bool pinned = r.pinned;

	image_row_release(&r);
	return pinned;
}

static struct evict_row found;
static char sought;

static int
find_row(void *arg, const struct evict_row *row)
{
	struct digest d = content(sought);

	if (digest_equal(&row->digest, &d)) {
		found = *row;
		*(bool *)arg = true;
	}
	return 0;
}

/* "verified wanted live pinned", as far as it is. */
static void
assert_row(struct fixture *f, char letter, const char *expected)
{
	bool there = false;
	char text[64];

	sought = letter;
	OK(catalogue_evict_each(f->c, find_row, &there, &f->err));
	if (!there) {
		assert_string_equal("none", expected);
		return;
	}
	snprintf(text, sizeof(text), "%s%s%s%s%s", found.verified ? "verified " : "",
		 found.wanted ? "wanted " : "", found.live ? "live " : "",
		 found.pinned ? "pinned " : "", found.expired_at != 0 ? "expired " : "");
	assert_string_equal(text, expected);
}

static int64_t
two(struct fixture *f)
{
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	store_content(f, 'a');
	store_content(f, 'b');
	return sub;
}

static void
pins_stand(void **state)
{
	struct fixture *f = *state;
	int64_t sub = two(f);

	pin(f, "a", true);
	pin(f, "a", true);
	assert_true(is_pinned(f, "a"));
	assert_false(is_pinned(f, "b"));
	assert_int_equal(catalogue_pin_count(f->c), 1);
	assert_row(f, 'a', "verified wanted live pinned ");
	assert_row(f, 'b', "verified wanted live ");
	/* It has left the list, and is kept. */
	publish(f, sub, "2", ENTRIES(IMG("b", "1", 'b')));
	assert_row(f, 'a', "verified pinned expired ");
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(f->said.len, 0);
	assert_row(f, 'a', "verified pinned expired ");
	publish(f, sub, "3", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	assert_true(is_pinned(f, "a"));
	pin(f, "a", false);
	assert_false(is_pinned(f, "a"));
	assert_row(f, 'a', "verified wanted live expired ");
	assert_int_equal(catalogue_pin_count(f->c), 0);
}

static void
until_replaced(void **state)
{
	struct fixture *f = *state;
	int64_t sub = two(f);

	pin(f, "a", true);
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'c'), IMG("b", "1", 'b')));
	assert_row(f, 'a', "verified wanted live pinned ");
	assert_row(f, 'c', "wanted live pinned ");
	store_content(f, 'c');
	assert_row(f, 'a', "verified expired ");
	assert_row(f, 'c', "verified wanted live pinned ");
}

static void
seen_at_once(void **state)
{
	struct fixture *f = *state;
	struct image_row before, after;
	struct object_row o;
	struct digest d = content('a');
	int64_t revision, rev;

	two(f);
	revision = catalogue_revision(f->c);
	before = image(f, "a");
	OK(catalogue_object_get(f->c, &d, &o, &f->err));
	rev = o.rev;
	object_row_release(&o);
	pin(f, "a", true);
	after = image(f, "a");
	assert_true(catalogue_revision(f->c) > revision);
	assert_true(after.rev > before.rev);
	OK(catalogue_object_get(f->c, &d, &o, &f->err));
	assert_true(o.pinned);
	assert_true(o.rev > rev);
	object_row_release(&o);
	image_row_release(&before);
	image_row_release(&after);
}

static void
outlive_the_catalogue(void **state)
{
	struct fixture *f = *state;
	int64_t sub = two(f);

	pin(f, "a", true);
	pin(f, "b", true);
	/* Not in the list any more: the pin has no row to stand at. */
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a')));
	fixture_lose_database(f);
	assert_true(is_pinned(f, "a"));
	assert_int_equal(catalogue_pin_count(f->c), 2);
	publish(f, 1, "3", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	assert_true(is_pinned(f, "b"));
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(catalogue_pin_count(f->c), 2);
}

static void
end_with_the_subscription(void **state)
{
	struct fixture *f = *state;
	int64_t sub = two(f);

	pin(f, "a", true);
	OK(catalogue_subscription_remove(f->c, sub, NOW, &f->err));
	assert_int_equal(catalogue_pin_count(f->c), 0);
	assert_row(f, 'a', "verified expired ");
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(f->said.len, 0);
}

static void
used(void **state)
{
	struct fixture *f = *state;
	struct digest d = content('a');
	int64_t revision;

	two(f);
	assert_row(f, 'a', "verified wanted live ");
	assert_int_equal(found.used, NOW);	/* fetched */
	revision = catalogue_revision(f->c);
	OK(catalogue_object_used(f->c, &d, NOW + 100, &f->err));
	OK(catalogue_object_used(f->c, &d, NOW + 50, &f->err));
	assert_row(f, 'a', "verified wanted live ");
	assert_int_equal(found.used, NOW + 100);
	assert_int_equal(catalogue_revision(f->c), revision);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_row(f, 'a', "verified wanted live ");
	assert_int_equal(found.used, NOW + 100);
}

static void
spoil_messages(struct fixture *f)
{
	CLEANUP_FREE char *pattern = xasprintf("%s/messages/*.smime", f->conf.state_dir);
	glob_t paths;

	assert_int_equal(glob(pattern, 0, NULL, &paths), 0);
	for (size_t i = 0; i < paths.gl_pathc; i++)
		assert_int_equal(truncate(paths.gl_pathv[i], 10), 0);
	globfree(&paths);
}

static void
hidden_for_a_while(void **state)
{
	struct fixture *f = *state;

	two(f);
	select_image(f, "b", false);
	catalogue_close(f->c);
	f->c = NULL;
	spoil_messages(f);
	OK(fixture_open(f, CATALOGUE_CHECK));
	assert_image(f, "a", "away selected 1");
	assert_row(f, 'a', "verified wanted ");
	assert_row(f, 'b', "verified expired ");
}

static int64_t
use(struct fixture *f, char letter, int64_t now)
{
	struct digest d = content(letter);
	int64_t stamp = catalogue_use_stamp(f->c, now);

	OK(catalogue_object_used(f->c, &d, stamp, &f->err));
	assert_row(f, letter, "verified wanted live ");
	assert_true(found.used >= stamp);
	return found.used;
}

static void
used_by_a_clock_ahead(void **state)
{
	struct fixture *f = *state;
	int64_t ahead;

	two(f);
	assert_int_equal(use(f, 'b', NOW + 100), NOW + 100);
	ahead = use(f, 'a', NOW + 1000000);
	assert_true(use(f, 'b', NOW + 200) > ahead);
	assert_true(use(f, 'a', NOW + 300) > ahead + 1);
	/* The clock has come to what was noted: it is as if nothing had been. */
	assert_int_equal(use(f, 'b', NOW + 2000000), NOW + 2000000);
}

static void
used_by_a_clock_behind(void **state)
{
	struct fixture *f = *state;
	int64_t behind;

	two(f);
	use(f, 'a', NOW + 100);
	behind = use(f, 'b', 1000);
	assert_true(behind > NOW + 100);
	assert_int_equal(use(f, 'a', NOW + 200), NOW + 200);
	assert_true(NOW + 200 > behind);
}

/* It was fetched later than now. */
static void
fetched_by_a_clock_ahead(void **state)
{
	struct fixture *f = *state;

	two(f);
	assert_true(use(f, 'b', NOW - 1000) > NOW);
}

static int
count_digest(void *arg, const struct digest *d)
{
	(void)d;
	++*(int *)arg;
	return 0;
}

static int
n_leaving(struct fixture *f)
{
	int n = 0;

	OK(catalogue_leaving_each(f->c, count_digest, &n, &f->err));
	return n;
}

static void
leaving(void **state)
{
	struct digest a = content('a');
	struct fixture *f = *state;
	int n = 0;

	two(f);
	OK(catalogue_object_evicted(f->c, &a, &f->err));
	assert_row(f, 'a', "wanted live ");
	assert_int_equal(n_leaving(f), 1);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(f->said.len, 0);
	assert_int_equal(n_leaving(f), 1);
	OK(catalogue_object_left(f->c, &a, &f->err));
	assert_int_equal(n_leaving(f), 0);
	/* Fetched again before its file was looked after: that one is the new one. */
	OK(catalogue_object_evicted(f->c, &a, &f->err));
	store_content(f, 'a');
	assert_int_equal(n_leaving(f), 0);
	select_image(f, "b", false);
	OK(catalogue_withdrawn_each(f->c, count_digest, &n, &f->err));
	assert_int_equal(n, 0);		/* the list still names it */
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("a pin stands over restarts, while the image is away, and until it is taken back",
		  pins_stand),
		T("a pinned image keeps its version until a verified one has taken its place",
		  until_replaced),
		T("a pin is seen at once by whoever shows rows", seen_at_once),
		T("B18 pins come back with a catalogue that was lost, of images that are away, too",
		  outlive_the_catalogue),
		T("pins end with their subscription", end_with_the_subscription),
		T("while a list cannot be believed its images are not evicted as if they had"
		  " expired", hidden_for_a_while),
		T("the last use of an image is noted, never goes back, and changes nothing that is "
		  "shown", used),
		T("who used an image while the clock was ahead does not keep it for ever",
		  used_by_a_clock_ahead),
		T("what is used while the clock is behind does not go first when it is right again",
		  used_by_a_clock_behind),
		T("what was fetched while the clock was ahead is older than what is used now",
		  fetched_by_a_clock_ahead),
		T("what was evicted is leaving until its file is gone or there again", leaving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
