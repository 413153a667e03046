/*
 * A version keeps the signer who vouched for it, when the list is another one's already.
 */
#include "config.h"
#include "sitefixture.h"

#include "core/cleanup.h"

#define OK(call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s", f->err.text); \
	} while (0)

/* As publish_in(), signed by somebody. */
static void
publish_by(struct fixture *f, int64_t sub, const char *subject, const char *version,
	   const struct entry *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct imagelist *list = NULL;
	struct subscription_row row;
	struct verdict v;

	verdict_init(&v);
	v.subject = xstrdup(subject);
	v.issuer = xstrdup(CA);
	list_text(&text, LIST, version, NOW - 1000, (int64_t)NOW + 100LL * 365 * 86400, e);
	buf_add(&v.payload, text.data, text.len);
	OK(catalogue_subscription_by_id(f->c, sub, &row, &f->err));
	OK(imagelist_parse(text.data, text.len, NULL, &list, &f->err));
	OK(catalogue_apply_list(f->c, &row, list, &v, text.data, text.len, NOW, &f->result,
				&f->err));
	imagelist_free(list);
	verdict_release(&v);
	subscription_row_release(&row);
}

/* Alice and Bob may both sign. */
static int64_t
two_endorsers(struct fixture *f)
{
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	OK(catalogue_endorser_add(f->c, "bob", BOB, CA, false, false, &f->err));
	OK(catalogue_link(f->c, "bob", sub, &f->err));
	return sub;
}

/* a, version 1, came from Alice and was replaced by what Bob signed. */
static int64_t
replaced(struct fixture *f)
{
	int64_t sub = two_endorsers(f);

	publish_by(f, sub, ALICE, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	publish_by(f, sub, BOB, "2", ENTRIES(IMG("a", "2", 'b')));
	store_content(f, 'b');
	assert_expired(f, "a replaced");
	assert_int_equal(access_of(f, 'a'), ACCESS_EXPIRED);
	return sub;
}

static void
removed_signer_of_an_old_version(void **state)
{
	struct fixture *f = *state;
	int64_t sub = replaced(f);

	OK(catalogue_endorser_remove(f->c, "alice", NULL, NULL, &f->err));
	assert_expired(f, "a replaced distrusted");
	assert_int_equal(access_of(f, 'a'), ACCESS_DISTRUSTED);
	assert_image(f, "a", "live selected 2");
	assert_state(f, sub, SUB_OK);
}

static void
unlinked_signer_of_an_old_version(void **state)
{
	struct fixture *f = *state;
	int64_t sub = replaced(f);

	OK(catalogue_unlink(f->c, "alice", sub, &f->err));
	assert_expired(f, "a replaced distrusted");
	assert_image(f, "a", "live selected 2");
}

static void
removed_credential_of_an_old_version(void **state)
{
	struct fixture *f = *state;
	int64_t sub = replaced(f);

	OK(catalogue_endorser_add(f->c, "alice", "/CN=Alice of old", CA, false, false, &f->err));
	OK(catalogue_endorser_remove(f->c, "alice", "/CN=Alice of old", CA, &f->err));
	assert_expired(f, "a replaced");
	OK(catalogue_endorser_remove(f->c, "alice", ALICE, CA, &f->err));
	assert_expired(f, "a replaced distrusted");
	assert_state(f, sub, SUB_OK);
}

static void
other_signers_take_nothing_along(void **state)
{
	struct fixture *f = *state;
	int64_t sub = replaced(f);

	publish_by(f, sub, ALICE, "3", ENTRIES(IMG("a", "3", 'c')));
	store_content(f, 'c');
	assert_expired(f, "a replaced, a replaced");
	OK(catalogue_endorser_remove(f->c, "bob", NULL, NULL, &f->err));
	assert_expired(f, "a replaced, a replaced distrusted");
	assert_image(f, "a", "live selected 3");
}

static void
subscription_was_ended_before(void **state)
{
	struct fixture *f = *state;
	int64_t sub = two_endorsers(f);

	publish_by(f, sub, ALICE, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	OK(catalogue_subscription_remove(f->c, sub, NOW, &f->err));
	assert_expired(f, "a unsubscribed");
	OK(catalogue_endorser_remove(f->c, "bob", NULL, NULL, &f->err));
	assert_expired(f, "a unsubscribed");
	OK(catalogue_endorser_remove(f->c, "alice", NULL, NULL, &f->err));
	assert_expired(f, "a unsubscribed distrusted");
	assert_int_equal(access_of(f, 'a'), ACCESS_DISTRUSTED);
}

/* Alice's version 1 is served while Bob's version 2 is fetched. */
static int64_t
waiting(struct fixture *f)
{
	int64_t sub = two_endorsers(f);

	publish_by(f, sub, ALICE, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	publish_by(f, sub, BOB, "2", ENTRIES(IMG("a", "2", 'b')));
	assert_image(f, "a", "live selected 1 pending 2");
	return sub;
}

static void
version_that_waits_for_its_successor(void **state)
{
	struct fixture *f = *state;
	int64_t sub = waiting(f), last = catalogue_event_last(f->c);

	OK(catalogue_unlink(f->c, "alice", sub, &f->err));
	assert_image(f, "a", "live selected 2");
	assert_expired(f, "a endorser-unlinked distrusted");
	assert_int_equal(access_of(f, 'a'), ACCESS_DISTRUSTED);
	assert_events(f, last, "[ExpirePrefix a, ExpirePostfix a]");
	last = catalogue_event_last(f->c);
	store_content(f, 'b');
	assert_events(f, last, "[AvailablePrefix a, AvailablePostfix a]");
}

static void
successor_has_its_own_signer(void **state)
{
	struct fixture *f = *state;
	int64_t sub = waiting(f);

	/* Bob's list names the version that waits; Alice's removal must not take it along. */
	store_content(f, 'b');
	OK(catalogue_unlink(f->c, "alice", sub, &f->err));
	assert_image(f, "a", "live selected 2");
	assert_expired(f, "a replaced distrusted");
}

static void
version_that_is_named_again(void **state)
{
	struct fixture *f = *state;
	int64_t sub = two_endorsers(f);

	publish_by(f, sub, ALICE, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	publish_by(f, sub, BOB, "2", ENTRIES(IMG("a", "1", 'a')));
	OK(catalogue_endorser_remove(f->c, "alice", NULL, NULL, &f->err));
	assert_image(f, "a", "live selected 1");
	assert_expired(f, "");
	publish_by(f, sub, BOB, "3", NO_ENTRIES);
	assert_expired(f, "a removed-from-list");
}

static void
subscribed_anew_with_another_endorser(void **state)
{
	struct fixture *f = *state;
	int64_t sub = two_endorsers(f);

	publish_by(f, sub, ALICE, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	OK(catalogue_subscription_remove(f->c, sub, NOW, &f->err));
	OK(catalogue_endorser_add(f->c, "carol", "/CN=Carol", CA, false, false, &f->err));
	sub = subscribe(f, LIST, SELECT_NONE);
	OK(catalogue_link(f->c, "carol", sub, &f->err));
	OK(catalogue_unlink(f->c, "alice", sub, &f->err));
	assert_expired(f, "a unsubscribed distrusted");
}

static void
unrelated_changes_cut_nothing(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *list_id = xstrdup(LIST), *url = xstrdup("https://x/y");
	struct subscription_row row = { .list_id = list_id, .url = url };
	int64_t sub = two_endorsers(f);

	publish_by(f, sub, ALICE, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	OK(catalogue_subscription_remove(f->c, sub, NOW, &f->err));
	/* The list comes back, and only Bob may sign it: nobody has taken anything back. */
	OK(catalogue_subscription_add(f->c, &row, &f->err));
	free(row.name);
	OK(catalogue_link(f->c, "bob", row.id, &f->err));
	OK(catalogue_unlink(f->c, "bob", row.id, &f->err));
	assert_expired(f, "a unsubscribed");
}

struct signers {
	int n;
	struct digest message;
};

static int
count_signer(void *arg, const char *subject, const char *issuer, const struct digest *message)
{
	struct signers *s = arg;

	(void)issuer;
	assert_string_equal(subject, ALICE);
	s->message = *message;
	s->n++;
	return 0;
}

static void
revoked_signer(void **state)
{
	struct fixture *f = *state;
	struct signers s = { 0 };
	int changed;

	replaced(f);
	OK(catalogue_signer_each(f->c, count_signer, &s, &f->err));
	assert_int_equal(s.n, 1);
	OK(catalogue_signer_distrust(f->c, ALICE, CA, REASON_REVOKED, NOW, &changed, &f->err));
	assert_int_equal(changed, 1);
	assert_expired(f, "a replaced distrusted");
	assert_image(f, "a", "live selected 2");
	/* Nothing of hers is left to ask about. */
	s.n = 0;
	OK(catalogue_signer_each(f->c, count_signer, &s, &f->err));
	assert_int_equal(s.n, 0);
}

static void
revoked_signer_of_a_waiting_version(void **state)
{
	struct fixture *f = *state;
	int changed;

	waiting(f);
	OK(catalogue_signer_distrust(f->c, ALICE, CA, REASON_REVOKED, NOW, &changed, &f->err));
	assert_int_equal(changed, 1);
	assert_image(f, "a", "live selected 2");
	assert_expired(f, "a revoked distrusted");
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("an old version is distrusted when the endorser who signed it is removed",
		  removed_signer_of_an_old_version),
		T("and when that one is unlinked", unlinked_signer_of_an_old_version),
		T("and when the credential is removed that signed it",
		  removed_credential_of_an_old_version),
		T("versions of other signers stay as they are", other_signers_take_nothing_along),
		T("what an ended subscription left is distrusted with its endorser",
		  subscription_was_ended_before),
		T("a version that is served until its successor has come leaves with its signer",
		  version_that_waits_for_its_successor),
		T("the successor stays with its own", successor_has_its_own_signer),
		T("a version that a newer list names is that list's", version_that_is_named_again),
		T("an endorser who is unlinked from a list takes along what it signed for it"
		  " before", subscribed_anew_with_another_endorser),
		T("who was never trusted with it takes nothing along",
		  unrelated_changes_cut_nothing),
		T("a revoked signer's old versions are distrusted", revoked_signer),
		T("a revoked signer's version that waits for its successor leaves",
		  revoked_signer_of_a_waiting_version),
	};

	return cmocka_run_group_tests_name("catalogue_signers", tests, NULL, NULL);
}
