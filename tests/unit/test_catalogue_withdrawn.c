/*
 * Images that are here in part when they leave: a machine may be running from them, so that what is
 * needed to go on stays known until it is closed, or nobody is trusted who stands behind it.
 */
#include "config.h"
#include "sitefixture.h"

#include "core/attestation.h"
#include "core/cleanup.h"
#include "core/jsonw.h"
#include "core/listjudge.h"

#define SITE "/DC=org/DC=example/CN=Site key"

#define OK(call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s", f->err.text); \
	} while (0)

/* ---- what is known of an object -------------------------------------------------------------- */

static int
add_place(void *arg, const char *uri, const char *list_id)
{
	buf_printf(arg, " %s,%c", strrchr(uri, '/') + 1, list_id[0]);
	return 0;
}

/*
 * "live", "left", "cut" or "none"; "tree" if its blocks can be read; then the names of the places
 * of image and sidecar, each with the first letter of its list's identifier.
 */
static void
assert_object(struct fixture *f, char letter, const char *expected)
{
	static const char *const access_words[] = { "live", "left", "cut" };
	CLEANUP_BUF struct buf b = BUF_INIT;
	struct digest d = content(letter);
	struct object_row r;
	struct err err = { 0 };
	int rc = catalogue_object_get(f->c, &d, &r, &err);

	if (rc == -ENOENT) {
		assert_string_equal("none", expected);
		return;
	}
	assert_int_equal(rc, 0);
	buf_puts(&b, access_words[r.access]);
	if (r.state == OBJECT_VERIFIED)
		buf_puts(&b, " whole");
	else if (r.has_tree && r.has_root)
		buf_puts(&b, " tree");
	object_row_release(&r);
	OK(catalogue_object_sources(f->c, &d, add_place, &b, &f->err));
	OK(catalogue_object_sidecars(f->c, &d, add_place, &b, &f->err));
	assert_string_equal(buf_str(&b), expected);
}

/* Its blocks can be read from now on: the tree of this letter was verified. */
static void
root_content(struct fixture *f, char letter, char verity)
{
	struct digest d = content(letter), tree = content(verity);

	OK(catalogue_object_rooted(f->c, &d, &tree, &f->err));
}

static void
abandon(struct fixture *f, char letter)
{
	struct digest d = content(letter);

	OK(catalogue_object_abandoned(f->c, &d, &f->err));
}

/* A subscription whose image a is here in part. */
static int64_t
in_part(struct fixture *f)
{
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1')));
	root_content(f, 'a', '1');
	assert_object(f, 'a', "live tree a-1.img,0 a-1.img.fsv,0");
	return sub;
}

/* ---- leaving --------------------------------------------------------------------------------- */

static void
stays_known(void **state)
{
	struct fixture *f = *state;
	int64_t sub = in_part(f), last = catalogue_event_last(f->c);

	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	assert_expired(f, "a replaced");
	assert_object(f, 'a', "left tree a-1.img,0 a-1.img.fsv,0");
	/* Nobody was told that it was there. */
	assert_events(f, last, "");
	abandon(f, 'a');
	assert_expired(f, "a replaced purged");
	assert_object(f, 'a', "none");
}

static void
each_way_of_leaving(void **state)
{
	struct fixture *f = *state;
	int64_t sub = in_part(f);

	select_image(f, "a", false);
	assert_object(f, 'a', "live tree a-1.img,0 a-1.img.fsv,0");
	publish(f, sub, "2", NO_ENTRIES);
	assert_object(f, 'a', "left tree a-1.img,0 a-1.img.fsv,0");
	OK(catalogue_subscription_remove(f->c, sub, NOW, &f->err));
	assert_object(f, 'a', "left tree a-1.img,0 a-1.img.fsv,0");
	assert_expired(f, "a deselected, a removed-from-list");
	abandon(f, 'a');
	assert_object(f, 'a', "none");
	assert_expired(f, "a deselected purged, a removed-from-list purged");
}

static void
past_its_date(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	int changed = 0;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1', .expires = NOW + 10)));
	root_content(f, 'a', '1');
	OK(catalogue_expire_by_date(f->c, NOW + 10, &changed, &f->err));
	assert_expired(f, "a image-expired");
	assert_object(f, 'a', "left tree a-1.img,0 a-1.img.fsv,0");
}

static void
becomes_whole(void **state)
{
	struct fixture *f = *state;
	int64_t sub = in_part(f), last = catalogue_event_last(f->c);
	struct digest d = content('a'), tree = content('1');

	publish(f, sub, "2", NO_ENTRIES);
	OK(catalogue_object_verified(f->c, &d, &tree, NOW, &f->err));
	assert_object(f, 'a', "left whole a-1.img,0");
	assert_events(f, last, "");
	abandon(f, 'a');
	assert_object(f, 'a', "left whole a-1.img,0");
	assert_expired(f, "a removed-from-list");
}

static void
comes_back(void **state)
{
	struct fixture *f = *state;
	int64_t sub = in_part(f);

	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	publish(f, sub, "3", ENTRIES(IMG("a", "2", 'b'), IMG("c", "1", 'a', .verity = '1')));
	/* The lists that are in force say where it is. */
	assert_object(f, 'a', "live tree c-1.img,0 c-1.img.fsv,0");
	abandon(f, 'a');
	assert_object(f, 'a', "live tree c-1.img,0 c-1.img.fsv,0");
	assert_expired(f, "a replaced");
}

static void
other_size(void **state)
{
	struct fixture *f = *state;
	int64_t sub = in_part(f), other = subscribe(f, OTHER_LIST, SELECT_ALL);
	CLEANUP_BUF struct buf text = BUF_INIT;
	char *size;

	publish(f, sub, "2", NO_ENTRIES);
	list_text(&text, OTHER_LIST, "1", NOW - 1000, (int64_t)NOW + 86400,
		  ENTRIES(IMG("c", "1", 'a', .verity = '1')));
	size = strstr(text.data, "\"hv:size\":1097");
	assert_non_null(size);
	size[strlen("\"hv:size\":109")] = '8';
	OK(apply_text(f, other, &text, NOW));
	assert_expired(f, "a removed-from-list purged");
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_string_equal(buf_str(&f->said), "");
}

static void
survives_a_check(void **state)
{
	struct fixture *f = *state;
	int64_t sub = in_part(f);

	publish(f, sub, "2", NO_ENTRIES);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_string_equal(buf_str(&f->said), "");
	assert_object(f, 'a', "left tree a-1.img,0 a-1.img.fsv,0");
}

/* ---- a version to come ----------------------------------------------------------------------- */

static int64_t
to_come(struct fixture *f)
{
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b', .verity = '2')));
	root_content(f, 'b', '2');
	assert_image(f, "a", "live selected 1 pending 2");
	return sub;
}

static void
replaced_before_it_is_whole(void **state)
{
	struct fixture *f = *state;
	int64_t sub = to_come(f);

	publish(f, sub, "3", ENTRIES(IMG("a", "3", 'c')));
	assert_image(f, "a", "live selected 1 pending 3");
	assert_expired(f, "a replaced");
	assert_object(f, 'b', "left tree a-2.img,0 a-2.img.fsv,0");
	/* One of which nothing was read has not been there. */
	publish(f, sub, "4", ENTRIES(IMG("a", "1", 'a')));
	assert_expired(f, "a replaced");
	assert_image(f, "a", "live selected 1");
	assert_object(f, 'c', "none");
}

static void
back_to_the_old_one(void **state)
{
	struct fixture *f = *state;
	int64_t sub = to_come(f);

	publish(f, sub, "3", ENTRIES(IMG("a", "1", 'a')));
	assert_image(f, "a", "live selected 1");
	assert_expired(f, "a replaced");
	assert_object(f, 'b', "left tree a-2.img,0 a-2.img.fsv,0");
	publish(f, sub, "4", ENTRIES(IMG("a", "2", 'b', .verity = '2')));
	assert_image(f, "a", "live selected 1 pending 2");
	assert_object(f, 'b', "live tree a-2.img,0 a-2.img.fsv,0");
}

static void
leaves_with_the_image(void **state)
{
	struct fixture *f = *state;
	int64_t sub = to_come(f);

	publish(f, sub, "3", NO_ENTRIES);
	assert_expired(f, "a removed-from-list, a removed-from-list");
	assert_object(f, 'b', "left tree a-2.img,0 a-2.img.fsv,0");
}

static void
is_distrusted_with_the_image(void **state)
{
	struct fixture *f = *state;

	to_come(f);
	OK(catalogue_endorser_remove(f->c, "alice", NULL, NULL, &f->err));
	assert_expired(f, "a endorser-removed distrusted, a endorser-removed distrusted purged");
	assert_object(f, 'b', "none");
}

/* ---- trust ----------------------------------------------------------------------------------- */

static void
distrusted_at_once(void **state)
{
	struct fixture *f = *state;

	in_part(f);
	OK(catalogue_endorser_remove(f->c, "alice", NULL, NULL, &f->err));
	assert_expired(f, "a endorser-removed distrusted purged");
	assert_object(f, 'a', "none");
}

static void
distrusted_later(void **state)
{
	struct fixture *f = *state;
	int64_t sub = in_part(f);

	publish(f, sub, "2", NO_ENTRIES);
	OK(catalogue_endorser_remove(f->c, "alice", NULL, NULL, &f->err));
	assert_expired(f, "a removed-from-list distrusted");
	assert_object(f, 'a', "cut");
	abandon(f, 'a');
	assert_expired(f, "a removed-from-list distrusted purged");
	assert_object(f, 'a', "none");
}

/* As if the verifier had found a message signed by subject: 'a' has the block digest '1'. */
static void
attest(struct fixture *f, const char *subject)
{
	struct attestation_entry e = { .identifier = xstrdup("of-a"), .sha512 = content('a'),
				       .verity = content('1'), .size = 1000 + 'a',
				       .uri = xstrdup("https://site.org/site.fsv") };
	struct attestation_origin origin = { .url = "", .list_id = "" };
	CLEANUP_BUF struct buf text = BUF_INIT;
	CLEANUP_FREE char *endorser = NULL;
	struct attestation_result result;
	struct attestation *list = NULL;
	struct verdict v;
	struct jsonw w;

	jsonw_begin(&w, &text, true);
	jsonw_open(&w, NULL, '[');
	attestation_write(&w, &e);
	jsonw_close(&w, ']');
	verdict_init(&v);
	v.subject = xstrdup(subject);
	v.issuer = xstrdup(CA);
	buf_add(&v.payload, text.data, text.len);
	OK(list_judge_attester(f->c, &v, &endorser, &f->err));
	OK(attestation_parse(text.data, text.len, NULL, &list, &f->err));
	OK(catalogue_attestation_add(f->c, list, &v, endorser, text.data, text.len, &origin, NOW,
				     &result, &f->err));
	attestation_free(list);
	verdict_release(&v);
	free(e.identifier);
	free(e.uri);
}

/* The list names no block digests; somebody else does. */
static int64_t
attested(struct fixture *f, const char *subject)
{
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	if (strcmp(subject, SITE) == 0) {
		OK(catalogue_endorser_add_blocks_only(f->c, "site", SITE, CA, false, false,
						      &f->err));
	} else {
		OK(catalogue_endorser_add(f->c, "bob", BOB, CA, false, false, &f->err));
		OK(catalogue_link(f->c, "bob", sub, &f->err));
	}
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	attest(f, subject);
	root_content(f, 'a', '1');
	assert_object(f, 'a', "live tree a-1.img,0 site.fsv,0");
	publish(f, sub, "2", NO_ENTRIES);
	assert_object(f, 'a', "left tree a-1.img,0 site.fsv,0");
	return sub;
}

static void
attested_by_the_site(void **state)
{
	struct fixture *f = *state;

	attested(f, SITE);
	OK(catalogue_endorser_remove(f->c, "site", NULL, NULL, &f->err));
	assert_object(f, 'a', "left a-1.img,0");
}

static void
attested_by_who_is_linked(void **state)
{
	struct fixture *f = *state;
	int64_t sub = attested(f, BOB);

	OK(catalogue_unlink(f->c, "bob", sub, &f->err));
	assert_object(f, 'a', "left a-1.img,0");
}

static void
attested_and_unsubscribed(void **state)
{
	struct fixture *f = *state;
	int64_t sub = attested(f, BOB);

	OK(catalogue_subscription_remove(f->c, sub, NOW, &f->err));
	assert_object(f, 'a', "left tree a-1.img,0 site.fsv,0");
	OK(catalogue_endorser_remove(f->c, "bob", NULL, NULL, &f->err));
	assert_object(f, 'a', "left a-1.img,0");
}

static void
disagreement(void **state)
{
	struct fixture *f = *state;
	int64_t sub = in_part(f);

	OK(catalogue_endorser_add_blocks_only(f->c, "site", SITE, CA, false, false, &f->err));
	publish(f, sub, "2", ENTRIES(IMG("b", "1", 'a', .verity = '2')));
	assert_object(f, 'a', "live b-1.img,0 b-1.img.fsv,0");
	root_content(f, 'a', '2');
	publish(f, sub, "3", NO_ENTRIES);
	assert_object(f, 'a', "left a-1.img,0 b-1.img,0");
}

#define T(title, function) { title, function, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("C07 an image that is here in part can be read on when it is replaced",
		  stays_known),
		T("whatever the way in which it leaves", each_way_of_leaving),
		T("also past its date", past_its_date),
		T("when it is whole it is kept as any image that has expired", becomes_whole),
		T("an image that comes back is that of the lists in force", comes_back),
		T("part of an image that is signed with another size is no part of it", other_size),
		T("a catalogue with such images passes the check", survives_a_check),
		T("a version that is replaced before it was whole can be read on",
		  replaced_before_it_is_whole),
		T("so can one that is taken back", back_to_the_old_one),
		T("and one that leaves with its image", leaves_with_the_image),
		T("X26 a version to come is distrusted with its image",
		  is_distrusted_with_the_image),
		T("X26 of an image that is not trusted any more no part stays", distrusted_at_once),
		T("X26 nor when it had left before", distrusted_later),
		T("block digests that the site attests count until it takes them back",
		  attested_by_the_site),
		T("those of an endorser count while it is linked to the list",
		  attested_by_who_is_linked),
		T("or while it is registered, when the list is gone", attested_and_unsubscribed),
		T("lists that disagree have no block digests, nor have they when they are gone",
		  disagreement),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
