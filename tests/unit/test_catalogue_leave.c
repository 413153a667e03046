/*
 * Images leave the valid view: trust ends, dates pass, an admin deselects or unsubscribes.
 */
#include "config.h"
#include "sitefixture.h"

/* ---- trust ----------------------------------------------------------------------------------- */

static void
unlinked(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	assert_int_equal(catalogue_unlink(f->c, "alice", sub, &f->err), 0);
	assert_state(f, sub, SUB_DISTRUSTED);
	assert_image(f, "a", "away selected 1");
	assert_expired(f, "a endorser-unlinked distrusted");
	assert_int_equal(access_of(f, 'a'), ACCESS_DISTRUSTED);
	/* Linking alone brings nothing back; the list does, even with the same bytes. */
	assert_int_equal(catalogue_link(f->c, "alice", sub, &f->err), 0);
	assert_state(f, sub, SUB_DISTRUSTED);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	assert_false(f->result.same);
	assert_state(f, sub, SUB_OK);
	assert_image(f, "a", "live selected 1");
	assert_int_equal(access_of(f, 'a'), ACCESS_OK);
	assert_expired(f, "a endorser-unlinked");
}

static void
removed_endorser(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	assert_int_equal(catalogue_endorser_remove(f->c, "alice", NULL, NULL, &f->err), 0);
	assert_expired(f, "a endorser-removed distrusted, b endorser-removed distrusted purged");
	assert_int_equal(catalogue_endorser_remove(f->c, "alice", NULL, NULL, &f->err), -ENOENT);
}

static void
two_credentials(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	assert_int_equal(catalogue_endorser_add(f->c, "alice", BOB, CA, false, false, &f->err), 0);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(catalogue_endorser_remove(f->c, "alice", BOB, CA, &f->err), 0);
	assert_state(f, sub, SUB_OK);
	assert_int_equal(catalogue_endorser_remove(f->c, "alice", ALICE, CA, &f->err), 0);
	assert_state(f, sub, SUB_DISTRUSTED);
}

static void
credential_once(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(catalogue_endorser_add(f->c, "alice", ALICE, CA, false, false, &f->err),
			 0);
	assert_int_equal(catalogue_endorser_add(f->c, "bob", ALICE, CA, false, false, &f->err),
			 -EEXIST);
	assert_non_null(strstr(f->err.text, "'alice'"));
}

static void
distrusted_ancestors(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	store_content(f, 'b');
	assert_int_equal(access_of(f, 'a'), ACCESS_EXPIRED);
	assert_int_equal(
		catalogue_distrust(f->c, sub, REASON_REVOKED, "certificate revoked", NOW, &f->err),
		0);
	assert_int_equal(access_of(f, 'a'), ACCESS_DISTRUSTED);
	assert_int_equal(access_of(f, 'b'), ACCESS_DISTRUSTED);
}

static void
shared_object_stays(void **state)
{
	struct fixture *f = *state;
	int64_t one = subscribe(f, LIST, SELECT_ALL), two = subscribe(f, OTHER_LIST, SELECT_NONE);

	publish(f, one, "1", ENTRIES(IMG("a", "1", 'a')));
	publish_in(f, two, OTHER_LIST, "1", NOW, ENTRIES(IMG("b", "1", 'a')));
	store_content(f, 'a');
	assert_int_equal(catalogue_distrust(f->c, one, REASON_REVOKED, "revoked", NOW, &f->err), 0);
	assert_int_equal(access_of(f, 'a'), ACCESS_OK);
}

/* ---- dates ----------------------------------------------------------------------------------- */

static void
list_expires(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct buf text = BUF_INIT;
	int changed;

	list_text(&text, LIST, "1", NOW - 5, NOW + 60,
		  ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b', .expires = NOW + 30)));
	assert_int_equal(apply_text(f, sub, &text, NOW), 0);
	assert_int_equal(catalogue_next_expiry(f->c), NOW + 30);
	assert_int_equal(catalogue_expire_by_date(f->c, NOW + 29, &changed, &f->err), 0);
	assert_int_equal(changed, 0);
	assert_int_equal(catalogue_expire_by_date(f->c, NOW + 30, &changed, &f->err), 0);
	assert_int_equal(changed, 1);
	assert_expired(f, "b image-expired purged");
	assert_int_equal(catalogue_expire_by_date(f->c, NOW + 60, &changed, &f->err), 0);
	assert_state(f, sub, SUB_EXPIRED);
	assert_expired(f, "b image-expired purged, a list-expired purged");
	assert_true(catalogue_next_expiry(f->c) == INT64_MAX);
	buf_release(&text);
}

static void
max_valid_time(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	f->conf.max_valid_time = 30 * 86400;
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(catalogue_next_expiry(f->c), NOW - 1000 + 30 * 86400);
}

static void
pending_takes_over(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	int changed;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .expires = NOW + 10)));
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	assert_image(f, "a", "live selected 1 pending 2");
	assert_int_equal(catalogue_expire_by_date(f->c, NOW + 10, &changed, &f->err), 0);
	assert_image(f, "a", "live selected 2");
	assert_expired(f, "a image-expired");
}

/* ---- selection, unsubscribing ---------------------------------------------------------------- */

static void
deselect(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL), mark;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	mark = catalogue_event_last(f->c);
	select_image(f, "a", false);
	assert_image(f, "a", "live unselected 1");
	assert_expired(f, "a deselected");
	select_image(f, "a", true);
	assert_events(f, mark,
		      "[ExpirePrefix a, ExpirePostfix a], "
		      "[AvailablePrefix a, AvailablePostfix a]");
}

static void
unsubscribe(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct image_row r;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	assert_int_equal(catalogue_subscription_remove(f->c, sub, NOW, &f->err), 0);
	assert_int_equal(catalogue_image_find(f->c, "a", &r, &f->err), -ENOENT);
	assert_expired(f, "a unsubscribed");
	assert_int_equal(access_of(f, 'a'), ACCESS_EXPIRED);
}

/* ---- while they are being fetched ------------------------------------------------------------ */

static void
begin_content(struct fixture *f, char letter)
{
	struct digest d = content(letter);

	if (catalogue_object_note_partial(f->c, &d, "https://example.org/image", "", &f->err) != 0)
		fail_msg("%s", f->err.text);
}

/* As the engine, when it has cleared away what was here of it. */
static void
abandon_content(struct fixture *f, char letter)
{
	struct digest d = content(letter);
	struct object_row row;

	if (catalogue_object_abandoned(f->c, &d, &f->err) != 0)
		fail_msg("%s", f->err.text);
	assert_int_equal(catalogue_object_get(f->c, &d, &row, &f->err), -ENOENT);
}

static void
replaced_while_stored(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	begin_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	assert_image(f, "a", "live selected 2");
	assert_expired(f, "a replaced");
	store_content(f, 'a');
	assert_int_equal(access_of(f, 'a'), ACCESS_EXPIRED);
	assert_expired(f, "a replaced");
}

static void
replaced_while_fetched(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	begin_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	assert_int_equal(access_of(f, 'a'), ACCESS_EXPIRED);
	abandon_content(f, 'a');
	assert_expired(f, "a replaced purged");
}

static void
distrusted_while_fetched(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct digest d = content('a');

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	begin_content(f, 'a');
	assert_int_equal(catalogue_unlink(f->c, "alice", sub, &f->err), 0);
	assert_expired(f, "a endorser-unlinked distrusted purged, b endorser-unlinked distrusted"
			  " purged");
	assert_int_equal(access_of(f, 'a'), ACCESS_DISTRUSTED);
	assert_int_equal(catalogue_object_verified(f->c, &d, NULL, NOW, &f->err), -ENOENT);
	abandon_content(f, 'a');
}

static void
pending_replaced_while_fetched(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct digest d = content('b');

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	begin_content(f, 'b');
	publish(f, sub, "3", ENTRIES(IMG("a", "3", 'c')));
	assert_image(f, "a", "live selected 1 pending 3");
	assert_expired(f, "");
	assert_int_equal(catalogue_object_verified(f->c, &d, NULL, NOW, &f->err), -ENOENT);
	abandon_content(f, 'b');
}

/* ---- names and subscriptions ----------------------------------------------------------------- */

static void
find_images(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct image_row r;

	publish(f, sub, "1",
		ENTRIES(IMG("abcd-1", "1", 'a'), IMG("abcd-2", "1", 'b'), IMG("../etc", "1", 'c')));
	assert_int_equal(catalogue_image_find(f->c, "abcd", &r, &f->err), -ENOTUNIQ);
	assert_non_null(strstr(f->err.text, "'abcd-1', 'abcd-2'"));
	assert_int_equal(catalogue_image_find(f->c, "abc", &r, &f->err), -ENOENT);
	r = image(f, "../etc");
	assert_null(strchr(r.name, '/'));
	image_row_release(&r);
	r = image(f, "Title of abcd-2");
	assert_string_equal(r.meta.value[FIELD_ID], "abcd-2");
	image_row_release(&r);
}

static void
subscribe_twice(void **state)
{
	struct fixture *f = *state;
	struct subscription_row row = { .list_id = xstrdup("other"),
					.url = xstrdup("https://example.org/" LIST),
					.password = xstrdup("hunter2") };

	subscribe(f, LIST, SELECT_NONE);
	assert_int_equal(catalogue_subscription_add(f->c, &row, &f->err), -EEXIST);
	assert_null(strstr(f->err.text, "hunter2"));
	subscription_row_release(&row);
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("S37 unlinking the endorser withdraws its images and refuses their content",
		  unlinked),
		T("S37 removing the endorser withdraws its images", removed_endorser),
		T("S38 an endorser has two credentials, and one can be removed", two_credentials),
		T("A02 a credential belongs to one endorser", credential_once),
		T("revoking distrusts the versions before, too", distrusted_ancestors),
		T("an object that another list names stays readable when one is distrusted",
		  shared_object_stays),
		T("lists and images are withdrawn at their date", list_expires),
		T("L30 max_valid_time shortens the validity of a list", max_valid_time),
		T("a waiting version takes over when the old one is past its date",
		  pending_takes_over),
		T("a deselected image is withdrawn, and available at once when selected again",
		  deselect),
		T("A04 unsubscribing withdraws images and keeps the objects", unsubscribe),
		T("a version that is replaced while its last bytes become durable is kept as the"
		  " version that left", replaced_while_stored),
		T("the row of a version that is replaced while it is fetched stays until its bytes"
		  " are cleared away", replaced_while_fetched),
		T("one that is distrusted while it is fetched is not stored any more, and its row"
		  " says so", distrusted_while_fetched),
		T("a waiting version that is replaced while it is fetched leaves no record",
		  pending_replaced_while_fetched),
		T("A07 an image is found by identifier, prefix or title; ambiguity is an error",
		  find_images),
		T("A05 subscribing twice is an error that shows no password", subscribe_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
