/*
 * The rows of the catalogue: lists are applied, images come, change, leave and return.
 */
#include "config.h"
#include "sitefixture.h"

#include <sqlite3.h>
#include "core/catalogue_impl.h"

#include <time.h>

/* ---- lists ----------------------------------------------------------------------------------- */

static void
first_list(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct subscription_row r;

	assert_state(f, sub, SUB_NEW);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	assert_int_equal(f->result.added, 2);
	assert_image(f, "a", "live unselected 1");
	assert_int_equal(catalogue_subscription_find(f->c, LIST, &r, &f->err), 0);
	assert_string_equal(r.version, "1");
	assert_string_equal(r.endorser, "alice");
	assert_true(r.has_message);
	subscription_row_release(&r);
	assert_events(f, 0, "");
}

static void
same_list(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	int64_t rev;
	struct image_row r;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	r = image(f, "a");
	rev = r.rev;
	image_row_release(&r);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	assert_true(f->result.same);
	r = image(f, "a");
	assert_int_equal(r.rev, rev);
	image_row_release(&r);
	assert_expired(f, "");
}

static void
select_new_all(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	assert_image(f, "a", "live selected 1");
	select_image(f, "a", false);
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	assert_image(f, "a", "live unselected 1");
	assert_image(f, "b", "live selected 1");
}

static void
zero_images(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	int64_t mark;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	store_content(f, 'a');
	assert_events(f, 0, "[AvailablePrefix a, AvailablePostfix a]");
	mark = catalogue_event_last(f->c);
	publish(f, sub, "2", NO_ENTRIES);
	assert_int_equal(f->result.removed, 2);
	assert_image(f, "a", "away selected 1");
	assert_expired(f, "a removed-from-list, b removed-from-list purged");
	assert_events(f, mark, "[ExpirePrefix a, ExpirePostfix a]");
	assert_int_equal(access_of(f, 'a'), ACCESS_EXPIRED);
}

/* As many images as all lists may hold, each in one version of a list. */
static void
once_listed(struct fixture *f)
{
	static const char many[] =
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
		" INSERT INTO image (ino, subscription, identifier, name, selected, generation,"
		" expires, meta, sha512) SELECT i, subscription, 'gone-' || i, 'gone-' || i, 1, 1,"
		" expires, meta, sha512 FROM n, image WHERE identifier = 'a'";

	if (sqlite3_exec(f->c->db, many, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s", sqlite3_errmsg(f->c->db));
}

static void
identifiers_without_end(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL), other = subscribe(f, OTHER_LIST, SELECT_NONE);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	once_listed(f);
	publish_in(f, other, OTHER_LIST, "1", NOW, ENTRIES(IMG("b", "1", 'b')));
	assert_int_equal(f->result.refused, 0);
	assert_image(f, "b", "live unselected 1");
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a'), IMG("c", "1", 'c')));
	assert_int_equal(f->result.refused, 0);
}

static void
comes_back(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	int64_t mark;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	publish(f, sub, "2", NO_ENTRIES);
	mark = catalogue_event_last(f->c);
	publish(f, sub, "3", ENTRIES(IMG("a", "1", 'a')));
	assert_image(f, "a", "live selected 1");
	assert_int_equal(access_of(f, 'a'), ACCESS_OK);
	assert_events(f, mark, "[AvailablePrefix a, AvailablePostfix a]");
}

static void
new_version_waits(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	int64_t mark;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	mark = catalogue_event_last(f->c);
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	assert_int_equal(f->result.pending, 1);
	assert_image(f, "a", "live selected 1 pending 2");
	assert_events(f, mark, "");
	assert_expired(f, "");
	store_content(f, 'b');
	assert_image(f, "a", "live selected 2");
	assert_expired(f, "a replaced");
	assert_events(f, mark,
		      "[ExpirePrefix a, ExpirePostfix a, "
		      "AvailablePrefix a, AvailablePostfix a]");
	assert_int_equal(access_of(f, 'a'), ACCESS_EXPIRED);
}

static void
pending_is_replaced(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct digest b = content('b');
	struct object_row o;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	publish(f, sub, "3", ENTRIES(IMG("a", "3", 'c')));
	assert_image(f, "a", "live selected 1 pending 3");
	assert_int_equal(catalogue_object_get(f->c, &b, &o, NULL), -ENOENT);
	publish(f, sub, "4", ENTRIES(IMG("a", "1", 'a')));
	assert_image(f, "a", "live selected 1");
	assert_expired(f, "");
}

static void
unfetched_is_replaced(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	assert_image(f, "a", "live selected 2");
	assert_expired(f, "a replaced purged");
	assert_events(f, 0, "");
}

static void
prefetch_never(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	int64_t mark;

	f->conf.prefetch = PREFETCH_NEVER;
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	mark = catalogue_event_last(f->c);
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b')));
	assert_image(f, "a", "live selected 2");
	assert_events(f, mark, "[ExpirePrefix a, ExpirePostfix a]");
}

static void
metadata_only(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	int64_t mark;
	struct image_row r;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	mark = catalogue_event_last(f->c);
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a', .title = "Other title")));
	assert_int_equal(f->result.changed, 1);
	r = image(f, "Other title");
	assert_string_equal(r.meta.value[FIELD_TITLE], "Other title");
	image_row_release(&r);
	assert_expired(f, "");
	assert_events(f, mark, "");
}

static void
two_ids_one_object(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'a')));
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("b", "1", 'a')));
	assert_int_equal(access_of(f, 'a'), ACCESS_OK);
	assert_image(f, "b", "live selected 1");
	assert_expired(f, "a removed-from-list");
}

static int
one_refused(void *arg, const struct refused_row *r)
{
	struct buf *b = arg;

	buf_printf(b, "%s %d %s", r->name, (int)r->code, r->error);
	return 0;
}

static void
first_owner_keeps(void **state)
{
	struct fixture *f = *state;
	int64_t one = subscribe(f, LIST, SELECT_NONE), two = subscribe(f, OTHER_LIST, SELECT_NONE);
	struct buf b = BUF_INIT;
	struct image_row r;

	publish(f, one, "1", ENTRIES(IMG("a", "1", 'a')));
	publish_in(f, two, OTHER_LIST, "1", NOW, ENTRIES(IMG("a", "7", 'b'), IMG("b", "1", 'b')));
	assert_int_equal(f->result.refused, 1);
	r = image(f, "a");
	assert_string_equal(r.list_id, LIST);
	image_row_release(&r);
	assert_int_equal(catalogue_refused_each(f->c, two, one_refused, &b, &f->err), 0);
	assert_string_equal(buf_str(&b), "a 48 the identifier belongs to list '" LIST "'");
	buf_release(&b);
	/* When the owner goes, the other list has it at once. */
	assert_int_equal(catalogue_subscription_remove(f->c, one, NOW, &f->err), 0);
	assert_image(f, "a", "live unselected 7");
}

static void
size_contradiction(void **state)
{
	struct fixture *f = *state;
	int64_t one = subscribe(f, LIST, SELECT_NONE), two = subscribe(f, OTHER_LIST, SELECT_NONE);
	struct buf text = BUF_INIT;
	char *size;

	publish(f, one, "1", ENTRIES(IMG("a", "1", 'a')));
	list_text(&text, OTHER_LIST, "1", NOW - 5, (int64_t)NOW + 100LL * 365 * 86400,
		  ENTRIES(IMG("x", "1", 'a')));
	size = strstr(text.data, "\"hv:size\":1");
	size[strlen("\"hv:size\":")] = '2';
	assert_int_equal(apply_text(f, two, &text, NOW), 0);
	assert_int_equal(f->result.refused, 1);
	assert_int_equal(access_of(f, 'a'), ACCESS_OK);
	buf_release(&text);
}

static int
one_preview(void *arg, const char *what, const char *identifier, const char *title)
{
	(void)title;
	buf_printf(arg, "%s %s;", what, identifier);
	return 0;
}

static void
preview_changes_nothing(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct buf text = BUF_INIT, said = BUF_INIT;
	struct subscription_row row;
	struct imagelist *list;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b'), IMG("c", "1", 'c')));
	list_text(&text, LIST, "2", NOW - 5, (int64_t)NOW + 100LL * 365 * 86400,
		  ENTRIES(IMG("a", "1", 'a'), IMG("b", "2", 'e'), IMG("d", "1", 'd')));
	assert_int_equal(imagelist_parse(text.data, text.len, NULL, &list, &f->err), 0);
	assert_int_equal(catalogue_subscription_by_id(f->c, sub, &row, &f->err), 0);
	assert_int_equal(
		catalogue_preview_list(f->c, &row, list, one_preview, &said, &f->result, &f->err),
		0);
	assert_string_equal(buf_str(&said), "change b;add d;remove c;");
	assert_int_equal(f->result.unchanged, 1);
	assert_image(f, "b", "live selected 1");
	imagelist_free(list);
	subscription_row_release(&row);
	buf_release(&text);
	buf_release(&said);
}

static void
bare_row(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct buf text = BUF_INIT;
	char *hex;

	list_text(&text, LIST, "1", NOW - 5, (int64_t)NOW + 100LL * 365 * 86400,
		  ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	hex = strstr(text.data, "bbbb");
	hex[3] = 'x';
	assert_int_equal(apply_text(f, sub, &text, NOW), 0);
	assert_int_equal(f->result.added, 1);
	assert_int_equal(f->result.refused, 1);
	assert_image(f, "a", "live selected 1");
	buf_release(&text);
}

/* ---- objects --------------------------------------------------------------------------------- */

static void
tries_by_version(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct digest d = content('a');
	struct object_row o;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(catalogue_object_failed(f->c, &d, CODE_DIGEST, "digest differs", true,
						 NOW + 9, &f->err),
			 0);
	assert_int_equal(catalogue_object_get(f->c, &d, &o, &f->err), 0);
	assert_int_equal(o.state, OBJECT_FAILED);
	assert_int_equal(o.tries, 1);
	assert_int_equal(o.next_try, NOW + 9);
	assert_string_equal(o.error, "digest differs");
	object_row_release(&o);
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a')));
	assert_int_equal(catalogue_object_get(f->c, &d, &o, &f->err), 0);
	assert_int_equal(o.state, OBJECT_MISSING);
	assert_int_equal(o.tries, 0);
	assert_int_equal(o.next_try, 0);
	object_row_release(&o);
}

static void
failure_bumps_image(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct digest d = content('a');
	struct image_row r;
	int64_t rev;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	r = image(f, "a");
	rev = r.rev;
	image_row_release(&r);
	assert_int_equal(
		catalogue_object_failed(f->c, &d, CODE_SLOW, "no answer", true, 0, &f->err), 0);
	r = image(f, "a");
	assert_true(r.rev > rev);
	image_row_release(&r);
}

static void
lost_object(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL), mark;
	struct digest d = content('a');
	struct object_row o;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	mark = catalogue_event_last(f->c);
	assert_int_equal(catalogue_object_lost(f->c, &d, "size differs", NOW, &f->err), 0);
	assert_events(f, mark, "[CorruptFound a]");
	assert_int_equal(catalogue_object_get(f->c, &d, &o, &f->err), 0);
	assert_int_equal(o.state, OBJECT_MISSING);
	assert_true(o.wanted);
	object_row_release(&o);
}

/*
 * In all ways in which a file goes that was found bad; each time handlers learn when it is right
 * again.
 */
static void
lost_object_comes_back(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL), mark;
	struct digest d = content('a');

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	mark = catalogue_event_last(f->c);
	assert_int_equal(catalogue_object_lost(f->c, &d, "size differs", NOW, &f->err), 0);
	store_content(f, 'a');
	assert_events(f, mark, "[CorruptFound a], [CorruptHealed a]");
	mark = catalogue_event_last(f->c);
	assert_int_equal(catalogue_object_lost(f->c, &d, "size differs", NOW, &f->err), 0);
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a', .title = "New")));
	store_content(f, 'a');
	assert_events(f, mark, "[CorruptFound a], [CorruptHealed a]");
	mark = catalogue_event_last(f->c);
	assert_int_equal(catalogue_object_corrupt(f->c, &d, "granule 7", true, NOW, &f->err), 0);
	assert_int_equal(catalogue_object_lost(f->c, &d, "granule 7", NOW, &f->err), 0);
	store_content(f, 'a');
	assert_events(f, mark, "[CorruptFound a], [CorruptHealed a]");
	mark = catalogue_event_last(f->c);
	assert_int_equal(catalogue_object_corrupt(f->c, &d, "granule 7", true, NOW, &f->err), 0);
	assert_int_equal(catalogue_object_evicted(f->c, &d, &f->err), 0);
	assert_int_equal(catalogue_object_left(f->c, &d, &f->err), 0);
	store_content(f, 'a');
	assert_events(f, mark, "[CorruptFound a], [CorruptHealed a]");
	mark = catalogue_event_last(f->c);
	store_content(f, 'a');
	assert_events(f, mark, "");
}

static int
count_source(void *arg, const char *uri, const char *list_id)
{
	(void)list_id;
	buf_printf(arg, "%s ", uri);
	return 0;
}

static void
sources(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct digest d = content('a');
	struct buf b = BUF_INIT;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'a')));
	assert_int_equal(catalogue_object_sources(f->c, &d, count_source, &b, &f->err), 0);
	assert_string_equal(buf_str(&b),
			    "https://example.org/a-1.img https://example.org/b-1.img ");
	buf_release(&b);
}

static void
purge(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct digest d = content('a');
	struct object_row o;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("b", "1", 'b')));
	assert_int_equal(catalogue_object_evicted(f->c, &d, &f->err), 0);
	assert_expired(f, "a removed-from-list purged");
	assert_int_equal(catalogue_object_get(f->c, &d, &o, NULL), -ENOENT);
}

/* ---- identity -------------------------------------------------------------------------------- */

static void
stable_inodes(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct image_row r;
	uint64_t ino;
	int64_t id;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	r = image(f, "a");
	ino = r.ino;
	id = r.id;
	assert_int_equal(ino & 0xff, 0);
	image_row_release(&r);
	assert_int_equal(catalogue_subscription_remove(f->c, sub, NOW, &f->err), 0);
	sub = subscribe(f, LIST, SELECT_NONE);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	r = image(f, "a");
	assert_true(r.ino == ino);
	assert_int_not_equal(r.id, id);
	image_row_release(&r);
}

static int
count_image(void *arg, const struct image_row *r)
{
	(void)r;
	++*(int *)arg;
	return 0;
}

static void
field_columns(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_NONE);
	struct image_row r;

	/* Each field comes back from its own column: os and arch are not swapped, and so on. */
	publish(f, sub, "1", ENTRIES(IMG("a", "7", 'a')));
	r = image(f, "a");
	assert_string_equal(r.meta.value[FIELD_ID], "a");
	assert_string_equal(r.meta.value[FIELD_TITLE], "Title of a");
	assert_string_equal(r.meta.value[FIELD_VERSION], "7");
	assert_string_equal(r.meta.value[FIELD_OS], "Linux");
	assert_string_equal(r.meta.value[FIELD_OSVERSION], "12");
	assert_string_equal(r.meta.value[FIELD_ARCH], "x86_64");
	assert_string_equal(r.meta.value[FIELD_HYPERVISOR], "kvm");
	assert_string_equal(r.meta.value[FIELD_URI], "https://example.org/a-7.img");
	assert_int_equal(r.meta.size, 1000 + 'a');
	image_row_release(&r);
}

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The times are printed for who wants them; only the rows are asserted. */
static void
thousand_images(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct entry *e = xcalloc(1001, sizeof(*e));
	double t0, t1, t2;
	int n = 0;

	for (int i = 0; i < 1000; i++) {
		e[i].identifier = xasprintf("00000000-0000-4000-8000-%012d", i);
		e[i].version = "1";
		e[i].content = "0123456789abcdef"[i % 16];
	}
	t0 = seconds();
	publish(f, sub, "1", e);
	t1 = seconds();
	publish(f, sub, "2", e);
	t2 = seconds();
	print_message("1000 images: first list %.3f s, next version %.3f s\n", t1 - t0, t2 - t1);
	assert_int_equal(f->result.unchanged, 1000);
	assert_int_equal(catalogue_image_each(f->c, sub, true, count_image, &n, &f->err), 0);
	assert_int_equal(n, 1000);
	for (int i = 0; i < 1000; i++)
		free((void *)(uintptr_t)e[i].identifier);
	free(e);
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

static void
past_its_date(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .expires = NOW),
				     IMG("b", "1", 'b', .expires = NOW + 1)));
	assert_int_equal(f->result.refused, 1);
	assert_int_equal(f->result.added, 1);
	assert_image(f, "b", "live selected 1");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("the first list makes its images available, unselected", first_list),
		T("L16 a byte-identical list changes nothing", same_list),
		T("L14 an image that is past its date already is refused", past_its_date),
		T("select_new = all selects new images, and leaves deselected ones alone",
		  select_new_all),
		T("L22 an empty list withdraws all images with events and keeps the objects",
		  zero_images),
		T("images that no list has any more do not count among those that may be listed",
		  identifiers_without_end),
		T("L23 an image that is listed again is back without a download", comes_back),
		T("L24 a new version is served when it is verified, the old one until then",
		  new_version_waits),
		T("a newer version replaces one that waits; going back drops it",
		  pending_is_replaced),
		T("an image that was never fetched is replaced at once and without events",
		  unfetched_is_replaced),
		T("prefetch = never replaces a version at once", prefetch_never),
		T("a change of metadata keeps the image available", metadata_only),
		T("L25 two identifiers share an object, and removing one leaves it readable",
		  two_ids_one_object),
		T("an identifier belongs to the first list until that is unsubscribed",
		  first_owner_keeps),
		T("a digest that is signed with two sizes keeps the first", size_contradiction),
		T("a preview says what would change and changes nothing", preview_changes_nothing),
		T("a malformed image is refused alone", bare_row),
		T("a new list version lets failed images be tried again", tries_by_version),
		T("a failed try is seen at the image", failure_bumps_image),
		T("a damaged object is reported and wanted again", lost_object),
		T("B09 a damaged object that is fetched again is reported as healed",
		  lost_object_comes_back),
		T("an object may be fetched from every live image's address", sources),
		T("a purged object leaves its expired row", purge),
		T("inode numbers return with the name, row ids do not", stable_inodes),
		T("every field has its column", field_columns),
		T("a thousand images are applied and listed", thousand_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
