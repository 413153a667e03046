/*
 * test_purge.c - files of withdrawn images go when policy or an admin says so, and only those.
 */
#include "config.h"

#include "tests/unit/sitefixture.h"

#include "core/purge.h"
#include "core/store.h"
#include "core/vtree.h"

enum { DAY = 86400 };

struct bed {
	struct fixture *f;
	struct store *store;
	int64_t sub;
};

static int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));

	b->f = fixture_new();
	if (store_init(&b->f->conf, catalogue_store_id(b->f->c), false, &b->f->err) != 0 ||
	    store_open(&b->f->conf, catalogue_store_id(b->f->c), &b->store, &b->f->err) != 0 ||
	    store_lock(b->store, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	b->sub = subscribe(b->f, LIST, SELECT_ALL);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	store_close(b->store);
	fixture_free(b->f);
	free(b);
	return 0;
}

/* A tree for it: nobody looks at what it says. */
static struct vtree *
any_tree(const struct digest *d, int64_t size)
{
	struct vtree_id id = { .image = *d, .size = size };
	struct vtree *tree = NULL;

	assert_int_equal(vtree_new(&tree, &id, NULL, 0, NULL), 0);
	return tree;
}

/* A file for the content letter, in the store and in the catalogue. */
static void
fetch_at(struct bed *b, char letter, int64_t now)
{
	struct digest d = content(letter);
	struct vtree *tree = any_tree(&d, 1000 + letter);
	int64_t have;
	int fd;

	if (store_partial_open(b->store, &d, 1000 + letter, &fd, &have, &b->f->err) != 0 ||
	    ftruncate(fd, 1000 + letter) != 0 || store_commit(b->store, &d, fd, tree,
							      &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	vtree_unref(tree);
	close(fd);
	if (catalogue_object_verified(b->f->c, &d, NULL, now, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
}

static void
fetch(struct bed *b, char letter)
{
	fetch_at(b, letter, NOW);
}

static bool
has_file(struct bed *b, char letter)
{
	struct digest d = content(letter);
	int64_t blocks;

	return store_object_stat(b->store, &d, 1000 + letter, &blocks);
}

static enum object_state
state_of(struct bed *b, char letter)
{
	struct digest d = content(letter);
	enum object_state s;
	struct object_row o;

	if (catalogue_object_get(b->f->c, &d, &o, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	s = o.state;
	object_row_release(&o);
	return s;
}

/* arg: the letter of what is open. */
static bool
is_open(void *arg, const struct digest *d)
{
	struct digest open = content(*(const char *)arg);

	return digest_equal(d, &open);
}

static void
assert_purged_but(struct bed *b, int64_t now, char open, int wanted)
{
	struct purged purged = { -1, -1, -1 };

	if (purge_by_policy(b->f->c, b->store, &b->f->conf, now, is_open, &open, &purged,
			    &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	assert_int_equal(purged.files, wanted);
}

static void
assert_purged(struct bed *b, int64_t now, int wanted)
{
	assert_purged_but(b, now, '0', wanted);
}

/* open: the letter of what is open; NULL: there is no daemon. */
static void
by_hand(struct bed *b, int64_t age, int64_t now, const char *open, struct purged *purged)
{
	char letter = open != NULL ? *open : '0';

	if (purge_older(b->f->c, b->store, age, now, open != NULL ? is_open : NULL, &letter, purged,
			&b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
}

/* img-a was 'a' and is 'b' now. */
static void
replace(struct bed *b)
{
	publish(b->f, b->sub, "1", ENTRIES(IMG("img-a", "1", 'a'), IMG("img-c", "1", 'c')));
	fetch(b, 'a');
	fetch(b, 'c');
	publish(b->f, b->sub, "2", ENTRIES(IMG("img-a", "2", 'b'), IMG("img-c", "1", 'c')));
	fetch(b, 'b');
	assert_expired(b->f, "img-a replaced");
}

static void
keeps_what_it_may_not_purge(void **state)
{
	struct bed *b = *state;

	replace(b);
	b->f->conf.expire_keep = KEEP_ALWAYS;
	assert_purged(b, NOW + 1000 * DAY, 0);
	b->f->conf.expire_keep = KEEP_AGE;
	b->f->conf.expire_keep_age = 30 * DAY;
	assert_purged(b, NOW + 30 * DAY - 1, 0);
	assert_expired(b->f, "img-a replaced");
	assert_true(has_file(b, 'a') && has_file(b, 'b') && has_file(b, 'c'));
}

static void
purges_at_its_age(void **state)
{
	struct bed *b = *state;

	replace(b);
	b->f->conf.expire_keep = KEEP_AGE;
	b->f->conf.expire_keep_age = 30 * DAY;
	assert_purged(b, NOW + 30 * DAY, 1);
	assert_expired(b->f, "img-a replaced purged");
	assert_false(has_file(b, 'a'));
	assert_true(has_file(b, 'b') && has_file(b, 'c'));
	assert_purged(b, NOW + 31 * DAY, 0);
}

static void
purges_at_once(void **state)
{
	struct bed *b = *state;

	replace(b);
	b->f->conf.expire_keep = KEEP_NEVER;
	assert_purged(b, NOW, 1);
	assert_false(has_file(b, 'a'));
}

/* The worker that has its descriptor is not the last one. */
static void
spares_what_is_open(void **state)
{
	struct bed *b = *state;

	replace(b);
	b->f->conf.expire_keep = KEEP_NEVER;
	assert_purged_but(b, NOW, 'a', 0);
	assert_expired(b->f, "img-a replaced");
	assert_true(has_file(b, 'a'));
	assert_purged(b, NOW, 1);
	assert_false(has_file(b, 'a'));
}

static void
spares_what_came_back(void **state)
{
	struct bed *b = *state;

	replace(b);
	/* Version 3 is version 1 again: its bytes are endorsed, selected, and here. */
	publish(b->f, b->sub, "3", ENTRIES(IMG("img-a", "3", 'a'), IMG("img-c", "1", 'c')));
	assert_image(b->f, "img-a", "live selected 3");
	b->f->conf.expire_keep = KEEP_NEVER;
	assert_purged(b, NOW, 1);
	assert_true(has_file(b, 'a'));
	assert_int_equal(state_of(b, 'a'), OBJECT_VERIFIED);
	assert_false(has_file(b, 'b'));
}

/* Replaced on day 0, back on day 10, replaced again on day 20: thirty days from then. */
static void
counts_from_the_last_time(void **state)
{
	struct bed *b = *state;

	replace(b);
	publish_in(b->f, b->sub, LIST, "3", NOW + 10 * DAY,
		   ENTRIES(IMG("img-a", "3", 'a'), IMG("img-c", "1", 'c')));
	publish_in(b->f, b->sub, LIST, "4", NOW + 20 * DAY,
		   ENTRIES(IMG("img-a", "4", 'd'), IMG("img-c", "1", 'c')));
	fetch_at(b, 'd', NOW + 20 * DAY);
	b->f->conf.expire_keep = KEEP_AGE;
	b->f->conf.expire_keep_age = 30 * DAY;
	assert_purged(b, NOW + 39 * DAY, 0);
	assert_purged(b, NOW + 49 * DAY, 1);
	assert_true(has_file(b, 'a') && !has_file(b, 'b'));
	assert_purged(b, NOW + 50 * DAY, 1);
	assert_false(has_file(b, 'a'));
}

/*
 * Each goes at its time; the file when no version has it any more, and never while an image has it.
 */
static void
purges_versions_that_share_a_file(void **state)
{
	struct bed *b = *state;
	struct purged purged;

	publish(b->f, b->sub, "1", ENTRIES(IMG("img-a", "1", 'a'), IMG("img-b", "1", 'b')));
	fetch(b, 'a');
	fetch(b, 'b');
	publish_in(b->f, b->sub, LIST, "2", NOW + DAY, ENTRIES(IMG("img-a", "2", 'a')));
	publish_in(b->f, b->sub, LIST, "3", NOW + 2 * DAY, ENTRIES(IMG("img-c", "3", 'a')));
	publish_in(b->f, b->sub, LIST, "4", NOW + 3 * DAY, ENTRIES(IMG("img-b", "4", 'b')));
	assert_expired(b->f, "img-b removed-from-list, img-a removed-from-list, "
			     "img-c removed-from-list");
	by_hand(b, DAY, NOW + 3 * DAY, NULL, &purged);
	assert_int_equal(purged.files, 0);
	assert_int_equal(purged.versions, 2);
	assert_expired(b->f, "img-b removed-from-list purged, img-a removed-from-list purged, "
			     "img-c removed-from-list");
	assert_true(has_file(b, 'a') && has_file(b, 'b'));
	by_hand(b, DAY, NOW + 4 * DAY, NULL, &purged);
	assert_int_equal(purged.files, 1);
	assert_int_equal(purged.versions, 0);
	assert_false(has_file(b, 'a'));
	assert_int_equal(state_of(b, 'b'), OBJECT_VERIFIED);
}

static void
purges_what_was_deselected(void **state)
{
	struct bed *b = *state;

	replace(b);
	select_image(b->f, "img-c", false);
	b->f->conf.expire_keep = KEEP_NEVER;
	assert_purged(b, NOW, 2);
	assert_expired(b->f, "img-a replaced purged, img-c deselected purged");
	assert_false(has_file(b, 'c'));
	/* It is still endorsed: whoever selects it again fetches it again. */
	assert_int_equal(state_of(b, 'c'), OBJECT_MISSING);
}

static void
purges_by_hand(void **state)
{
	struct bed *b = *state;
	struct purged purged;

	replace(b);
	b->f->conf.expire_keep = KEEP_ALWAYS;
	by_hand(b, DAY, NOW + DAY - 1, NULL, &purged);
	assert_int_equal(purged.files, 0);
	by_hand(b, DAY, NOW + DAY, NULL, &purged);
	assert_int_equal(purged.files, 1);
	assert_false(has_file(b, 'a'));
	by_hand(b, 1000000000000, NOW, NULL, &purged);
	assert_int_equal(purged.files, 0);
}

static void
spares_by_hand_what_is_open(void **state)
{
	struct bed *b = *state;
	struct purged purged;

	publish(b->f, b->sub, "1", ENTRIES(IMG("img-a", "1", 'a'), IMG("img-b", "1", 'b')));
	fetch(b, 'a');
	fetch(b, 'b');
	publish(b->f, b->sub, "2", NO_ENTRIES);
	by_hand(b, 0, NOW, "a", &purged);
	assert_int_equal(purged.files, 1);
	assert_int_equal(purged.open, 1);
	assert_true(has_file(b, 'a') && !has_file(b, 'b'));
	assert_expired(b->f, "img-a removed-from-list, img-b removed-from-list purged");
	by_hand(b, 0, NOW, "b", &purged);
	assert_int_equal(purged.files, 1);
	assert_int_equal(purged.open, 0);
	assert_false(has_file(b, 'a'));
}

static void
purges_a_file_that_is_gone(void **state)
{
	struct bed *b = *state;
	struct digest d = content('a');

	replace(b);
	assert_int_equal(store_object_remove(b->store, &d, &b->f->err), 0);
	b->f->conf.expire_keep = KEEP_NEVER;
	assert_purged(b, NOW, 1);
	assert_expired(b->f, "img-a replaced purged");
}

/* One file, withdrawn twice. */
static void
counts_a_file_once(void **state)
{
	struct bed *b = *state;

	publish(b->f, b->sub, "1", ENTRIES(IMG("img-a", "1", 'a'), IMG("img-b", "1", 'a')));
	fetch(b, 'a');
	publish(b->f, b->sub, "2", NO_ENTRIES);
	assert_expired(b->f, "img-a removed-from-list, img-b removed-from-list");
	b->f->conf.expire_keep = KEEP_NEVER;
	assert_purged(b, NOW, 1);
	assert_expired(b->f, "img-a removed-from-list purged, img-b removed-from-list purged");
	assert_false(has_file(b, 'a'));
}

/* A machine may be running from it: the engine drops it when it is closed. */
static void
spares_what_is_here_in_part(void **state)
{
	struct bed *b = *state;
	struct digest d = content('a'), tree = content('1');

	publish(b->f, b->sub, "1", ENTRIES(IMG("img-a", "1", 'a', .verity = '1')));
	if (catalogue_object_rooted(b->f->c, &d, &tree, &b->f->err) != 0)
		fail_msg("%s", b->f->err.text);
	publish(b->f, b->sub, "2", NO_ENTRIES);
	b->f->conf.expire_keep = KEEP_NEVER;
	assert_purged(b, NOW, 0);
	assert_expired(b->f, "img-a removed-from-list");
	fetch(b, 'a');
	assert_purged(b, NOW, 1);
	assert_expired(b->f, "img-a removed-from-list purged");
}

#define TEST(title, fn) \
	{ .name = title, .test_func = fn, .setup_func = setup, .teardown_func = teardown }

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST("expire_keep keeps withdrawn images always or for a time",
		     keeps_what_it_may_not_purge),
		TEST("expire_keep of 30d purges after thirty days, once", purges_at_its_age),
		TEST("expire_keep = never purges as soon as an image is withdrawn", purges_at_once),
		TEST("what is open is purged when it is closed", spares_what_is_open),
		TEST("bytes that a selected image names are never purged", spares_what_came_back),
		TEST("bytes that came back and left again are kept from the last time on",
		     counts_from_the_last_time),
		TEST("what is here in part is not purged before it is whole",
		     spares_what_is_here_in_part),
		TEST("versions that share a file go one by one, and the file with the last",
		     purges_versions_that_share_a_file),
		TEST("a deselected image is purged and can be fetched again",
		     purges_what_was_deselected),
		TEST("A21 expired --purge goes by age alone", purges_by_hand),
		TEST("expired --purge leaves what is open, and counts it",
		     spares_by_hand_what_is_open),
		TEST("a file that is gone already is purged in the catalogue",
		     purges_a_file_that_is_gone),
		TEST("a file that several withdrawn images share is purged once",
		     counts_a_file_once),
	};

	return cmocka_run_group_tests_name("purge", tests, NULL, NULL);
}
