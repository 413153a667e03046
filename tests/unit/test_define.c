/*
 * Which images a subscription accepts, endorsers with any name, and that both outlive the database.
 */
#include "config.h"
#include "sitefixture.h"

#include "core/cleanup.h"
#include "core/io.h"

#define OK(call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s", f->err.text); \
	} while (0)

/* ---- what a test says ------------------------------------------------------------------------ */

static void
list_of(struct buf *text, const char *version, const struct entry *e)
{
	list_text(text, LIST, version, NOW - 1000, (int64_t)NOW + 100LL * 365 * 86400, e);
}

static int
define(struct fixture *f, int64_t sub, const char *only, const struct entry *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct imagelist *list;
	int rc;

	list_of(&text, "1", e);
	OK(imagelist_parse(text.data, text.len, NULL, &list, &f->err));
	rc = catalogue_image_define(f->c, sub, list, only, &f->err);
	imagelist_free(list);
	return rc;
}

static struct subscription_row
row_of(struct fixture *f, int64_t sub)
{
	struct subscription_row r;

	OK(catalogue_subscription_by_id(f->c, sub, &r, &f->err));
	return r;
}

static int
add_refused(void *arg, const struct refused_row *r)
{
	buf_printf(arg, "%s%s %d", ((struct buf *)arg)->len > 0 ? ", " : "", r->identifier,
		   (int)r->code);
	return 0;
}

static void
assert_refused(struct fixture *f, int64_t sub, const char *expected)
{
	struct buf b = BUF_INIT;

	OK(catalogue_refused_each(f->c, sub, add_refused, &b, &f->err));
	assert_string_equal(buf_str(&b), expected);
	buf_release(&b);
}

static void
assert_unknown(struct fixture *f, const char *identifier)
{
	struct image_row r;

	assert_int_equal(catalogue_image_find(f->c, identifier, &r, &f->err), -ENOENT);
}

/* As vmcatcher subscribes: a and b are known, nothing is there. */
static int64_t
subscribe_as_vmcatcher(struct fixture *f)
{
	int64_t sub = subscribe(f, LIST, SELECT_NONE);

	OK(catalogue_subscription_set_policy(f->c, sub, true, SELECT_NONE, &f->err));
	OK(define(f, sub, NULL, ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b'))));
	return sub;
}

static char *
site_json(struct fixture *f)
{
	struct buf text = BUF_INIT;
	int dir = open(f->conf.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(io_read_file(dir, "site.json", 1 << 20, &text) >= 0);
	close(dir);
	return buf_steal(&text, NULL);
}

/* ---- defining -------------------------------------------------------------------------------- */

static void
defined(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe_as_vmcatcher(f);
	struct subscription_row r = row_of(f, sub);

	assert_image(f, "a", "away unselected 1");
	assert_image(f, "b", "away unselected 1");
	assert_string_equal(r.title, "List");
	assert_string_equal(r.version, "");
	assert_int_equal(r.state, SUB_NEW);
	subscription_row_release(&r);
	select_image(f, "b", true);
	fixture_reopen(f, CATALOGUE_CHECK);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	assert_int_equal(f->result.added, 2);
	assert_image(f, "a", "live unselected 1");
	assert_image(f, "b", "live selected 1");
	assert_events(f, 0, "");
}

static void
refused(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe_as_vmcatcher(f);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("c", "1", 'c')));
	assert_int_equal(f->result.n_refused_new, 1);
	assert_int_equal(f->result.refused, 1);
	assert_refused(f, sub, "c 32");
	assert_unknown(f, "c");
	assert_image(f, "a", "live unselected 1");
	assert_image(f, "b", "away unselected 1");
	/* It has not been accepted meanwhile. */
	assert_events(f, 0, "SubscriptionImageNew c");
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_refused(f, sub, "c 32");
	assert_int_equal(f->said.len, 0);
}

static void
accepted(void **state)
{
	const struct entry *list = ENTRIES(IMG("a", "1", 'a'), IMG("c", "1", 'c'),
					   IMG("d", "1", 'd'), IMG("e", "1", 'e'));
	struct fixture *f = *state;
	int64_t sub = subscribe_as_vmcatcher(f);

	publish(f, sub, "1", list);
	assert_refused(f, sub, "c 32, d 32, e 32");
	publish(f, sub, "1", list);
	assert_true(f->result.same);
	OK(define(f, sub, "c", list));
	assert_image(f, "c", "away unselected 1");
	OK(catalogue_image_define(f->c, sub, NULL, "d", &f->err));
	assert_unknown(f, "d");
	/* The same bytes are applied once more. */
	publish(f, sub, "1", list);
	assert_false(f->result.same);
	assert_image(f, "c", "live unselected 1");
	assert_image(f, "d", "live unselected 1");
	assert_refused(f, sub, "e 32");
	publish(f, sub, "1", list);
	assert_true(f->result.same);
	assert_int_equal(define(f, sub, "nobody", list), -ENOENT);
}

static void
policy_changed(void **state)
{
	const struct entry *list = ENTRIES(IMG("a", "1", 'a'), IMG("c", "1", 'c'));
	struct fixture *f = *state;
	int64_t sub = subscribe_as_vmcatcher(f);

	publish(f, sub, "1", list);
	OK(catalogue_subscription_set_policy(f->c, sub, false, SELECT_ALL, &f->err));
	publish(f, sub, "1", list);
	assert_image(f, "a", "live unselected 1");
	assert_image(f, "c", "live selected 1");
	OK(catalogue_subscription_set_policy(f->c, sub, false, SELECT_NONE, &f->err));
	publish(f, sub, "1", list);
	assert_true(f->result.same);
	assert_int_equal(catalogue_subscription_set_policy(f->c, 77, true, SELECT_NONE, &f->err),
			 -ENOENT);
}

static void
again(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe_as_vmcatcher(f);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	select_image(f, "a", true);
	OK(define(f, sub, NULL, ENTRIES(IMG("a", "2", 'd'), IMG("c", "1", 'c'))));
	assert_image(f, "a", "live selected 1");
	assert_image(f, "c", "away unselected 1");
}

static void
of_another_list(void **state)
{
	struct fixture *f = *state;
	int64_t other = subscribe(f, OTHER_LIST, SELECT_NONE), sub;
	struct image_row r;

	publish_in(f, other, OTHER_LIST, "1", NOW, ENTRIES(IMG("a", "7", 'a')));
	sub = subscribe_as_vmcatcher(f);
	r = image(f, "a");
	assert_int_equal(r.subscription, other);
	image_row_release(&r);
	assert_int_equal(catalogue_image_undefine(f->c, sub, "a", NOW, &f->err), -ENOENT);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	assert_refused(f, sub, "a 48");
}

static void
forgotten(void **state)
{
	const struct entry *list = ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b'));
	struct fixture *f = *state;
	int64_t sub = subscribe_as_vmcatcher(f), mark;

	publish(f, sub, "1", list);
	select_image(f, "a", true);
	store_content(f, 'a');
	mark = catalogue_event_last(f->c);
	OK(catalogue_image_undefine(f->c, sub, "a", NOW, &f->err));
	assert_events(f, mark, "[ExpirePrefix a, ExpirePostfix a]");
	assert_expired(f, "a deselected");
	assert_unknown(f, "a");
	assert_refused(f, sub, "a 32");
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_unknown(f, "a");
	assert_int_equal(f->said.len, 0);
	publish(f, sub, "1", list);
	assert_refused(f, sub, "a 32");
	assert_image(f, "b", "live unselected 1");
	assert_int_equal(catalogue_image_undefine(f->c, sub, "a", NOW, &f->err), -ENOENT);
}

static void
wished(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	OK(catalogue_image_wish(f->c, sub, "yes", true, &f->err));
	OK(catalogue_image_wish(f->c, sub, "no", true, &f->err));
	OK(catalogue_image_wish(f->c, sub, "no", false, &f->err));
	fixture_lose_database(f);
	OK(catalogue_subscription_set_policy(f->c, sub, true, SELECT_ALL, &f->err));
	publish(f, sub, "1", ENTRIES(IMG("yes", "1", 'a'), IMG("no", "1", 'b'),
				     IMG("new", "1", 'c')));
	assert_image(f, "yes", "live selected 1");
	assert_image(f, "no", "live unselected 1");
	assert_refused(f, sub, "new 32");
	/* A row has the word. */
	OK(catalogue_image_wish(f->c, sub, "yes", false, &f->err));
	assert_image(f, "yes", "live selected 1");
}

/* ---- what outlives the database -------------------------------------------------------------- */

static void
rebuilt(void **state)
{
	const struct entry *list = ENTRIES(IMG("a", "1", 'a'), IMG("c", "1", 'c'));
	struct fixture *f = *state;
	int64_t sub = subscribe_as_vmcatcher(f);
	struct subscription_row r;

	OK(catalogue_subscription_set_anchor(f->c, sub, ANCHOR_IGTF, &f->err));
	OK(catalogue_subscription_set_credentials(f->c, sub, "token", "secret", &f->err));
	publish(f, sub, "1", list);
	select_image(f, "b", true);
	fixture_lose_database(f);
	r = row_of(f, sub);
	assert_true(r.refuse_new);
	assert_int_equal(r.trust_anchor, ANCHOR_IGTF);
	assert_string_equal(r.username, "token");
	assert_string_equal(r.password, "secret");
	subscription_row_release(&r);
	assert_image(f, "a", "live unselected 1");
	assert_refused(f, sub, "c 32");
	/* b was defined and selected, and is in no list that could be read. */
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a'), IMG("b", "2", 'b'), IMG("c", "1", 'c')));
	assert_image(f, "b", "live selected 2");
	assert_refused(f, sub, "c 32");
	fixture_reopen(f, CATALOGUE_CHECK);
	OK(catalogue_subscription_set_credentials(f->c, sub, NULL, NULL, &f->err));
	r = row_of(f, sub);
	assert_null(r.username);
	assert_null(r.password);
	subscription_row_release(&r);
}

static void
nothing_new_in_site(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	CLEANUP_FREE char *text = NULL;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	text = site_json(f);
	assert_null(strstr(text, "new_images"));
	assert_null(strstr(text, "trust_anchor"));
	assert_null(strstr(text, "defined"));
}

/* ---- endorsers ------------------------------------------------------------------------------- */

static void
any_name(void **state)
{
	static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				   "0123456789._+-~";
	static const char *const names[] = { "Test Endorser", "Jos\xC3\xA9 'the signer'", "../..",
					     "-l", "test-endorser", "Test_Endorser" };
	struct fixture *f = *state;
	struct endorser_row e;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		CLEANUP_FREE char *subject = xasprintf("/CN=%zu", i);

		OK(catalogue_endorser_add(f->c, names[i], subject, CA, false, false, &f->err));
	}
	fixture_lose_database(f);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		OK(catalogue_endorser_get(f->c, names[i], &e, &f->err));
		assert_string_equal(e.name, names[i]);
		assert_int_equal(strspn(e.dir, safe), strlen(e.dir));
		assert_true(e.dir[0] != '.' && e.dir[0] != '-');
		endorser_row_release(&e);
	}
	OK(catalogue_endorser_get(f->c, "Test_Endorser", &e, &f->err));
	assert_string_equal(e.dir, "Test_Endorser");
	endorser_row_release(&e);
}

static void
no_name(void **state)
{
	struct fixture *f = *state;
	char name[130];

	memset(name, 'n', sizeof(name));
	name[129] = '\0';
	assert_int_equal(catalogue_endorser_add(f->c, name, ALICE, CA, false, false, &f->err),
			 -EINVAL);
	name[128] = '\0';
	OK(catalogue_endorser_add(f->c, name, ALICE, CA, false, false, &f->err));
	assert_int_equal(catalogue_endorser_add(f->c, "", BOB, CA, false, false, &f->err), -EINVAL);
	assert_int_equal(catalogue_endorser_add(f->c, "a\tb", BOB, CA, false, false, &f->err),
			 -EINVAL);
	assert_int_equal(catalogue_endorser_add(f->c, "\xC2\x9B", BOB, CA, false, false, &f->err),
			 -EINVAL);
	assert_int_equal(catalogue_endorser_add(f->c, "\xFF", BOB, CA, false, false, &f->err),
			 -EINVAL);
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("defined images are known, and available when the list is applied", defined),
		T("A06 a new image is refused (32) where the subscription refuses new ones, the "
		  "others stand", refused),
		T("A06 an image that is accepted is there after the next refresh of the same list",
		  accepted),
		T("A06 a changed policy applies the same list again", policy_changed),
		T("defining again adds what is new and changes nothing", again),
		T("what another list owns stays there", of_another_list),
		T("A06 an image that is refused leaves at once and does not come back", forgotten),
		T("what was decided before there was a list counts when it comes", wished),
		T("policies and accepted images outlive the database", rebuilt),
		T("site.json of a site without such policies is as it was", nothing_new_in_site),
		T("an endorser has any name, and a safe directory", any_name),
		T("control characters and more than 128 bytes are no name", no_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
