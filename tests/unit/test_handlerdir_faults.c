/*
 * Each call with which the directories of event handlers are made fails once: the next sync makes
 * what is missing, and nothing else is touched.
 */
#include "config.h"
#include "handlerbed.h"

#include "core/cleanup.h"
#include "tests/lib/callfaults.h"

enum { CALLS = FAULT_FILES | FAULT_SQLITE };

/* What is done to the directories, once with a call that fails and then without. */
struct act {
	int (*fn)(struct bed *b);
	void (*before)(struct bed *b);
	void (*after)(struct bed *b);
};

static void
empty_dirs(struct bed *b)
{
	static const char *const subs[] = { "cache", "partial", "expired" };

	handlerdir_close(b->h);
	b->h = NULL;
	remove_tree(b->top);
	assert_int_equal(mkdir(b->top, 0755), 0);
	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++) {
		CLEANUP_FREE char *path = path_of(b, subs[i]);

		assert_int_equal(mkdir(path, 0755), 0);
	}
}

static int
open_and_sync(struct bed *b)
{
	int rc = b->h == NULL ? handlerdir_open(&b->h, &b->config, &b->err) : 0;

	return rc == 0 ? handlerdir_sync(b->h, b->f->c, &b->err) : rc;
}

static void
with_each_call(struct bed *b, const struct act *a, int errnum)
{
	bool struck = true;

	for (long n = 1; struck; n++) {
		int rc;

		assert_true(n < 2000);
		a->before(b);
		err_clear(&b->err);
		fault_begin(CALLS, n, errnum);
		rc = a->fn(b);
		struck = fault_end();
		if (rc != 0 && (!struck || b->err.text[0] == '\0'))
			fail_msg("call %ld (%s): %d '%s'", n, fault_name(), rc, b->err.text);
		/* Otherwise it would take half a minute until what failed is tried again. */
		handlerdir_close(b->h);
		b->h = NULL;
		err_clear(&b->err);
		if (a->fn(b) != 0)
			fail_msg("after call %ld (%s): %s", n, fault_name(), b->err.text);
		a->after(b);
	}
}

/* ---- all anew -------------------------------------------------------------------------------- */

static void
has_links(struct bed *b)
{
	assert_name(b, "cache/a", "link c");
	assert_name(b, "expired/a" EXPIRED_AT, "link a");
	assert_name(b, "cache/b", "-");
}

static void
has_files(struct bed *b)
{
	assert_name(b, "cache/a", "file");
	assert_name(b, "expired/a" EXPIRED_AT, "file");
	assert_name(b, "cache/b", "-");
}

static void
links(void **state)
{
	struct bed *b = *state;

	publish_two(b);
	replace_a(b);
	with_each_call(b, &(struct act){ open_and_sync, empty_dirs, has_links }, EIO);
}

static void
files(struct bed *b, int error)
{
	free(make_object(b, 'a'));
	free(make_object(b, 'c'));
	b->config.mountpoint = NULL;
	publish_two(b);
	replace_a(b);
	with_each_call(b, &(struct act){ open_and_sync, empty_dirs, has_files }, error);
}

static void
hard_links(void **state)
{
	files(*state, EIO);
}

/* Where hard links cannot be had the bytes are copied. */
static void
copies(void **state)
{
	files(*state, EXDEV);
}

static void
full_disk(void **state)
{
	files(*state, ENOSPC);
}

/* ---- what changes ---------------------------------------------------------------------------- */

/* There and away by turns. */
static void
turn(struct bed *b)
{
	struct image_row r = image(b->f, "a");
	bool selected = r.selected;

	image_row_release(&r);
	select_image(b->f, "a", !selected);
}

static void
follows(struct bed *b)
{
	struct image_row r = image(b->f, "a");

	assert_name(b, "cache/a", r.selected ? "file" : "-");
	image_row_release(&r);
}

static void
changes(void **state)
{
	struct bed *b = *state;

	free(make_object(b, 'a'));
	b->config.mountpoint = NULL;
	publish_two(b);
	with_each_call(b, &(struct act){ open_and_sync, turn, follows }, EIO);
}

/* ---- an event -------------------------------------------------------------------------------- */

static int
last_event(void *arg, const struct event_row *r)
{
	if (strcmp(r->type, "AvailablePrefix") == 0)
		*(int64_t *)arg = r->id;
	return 0;
}

static int
prepare(struct bed *b)
{
	CLEANUP_FREE char *number = NULL;
	struct event_row event;
	int64_t id = 0;
	int rc = b->h == NULL ? handlerdir_open(&b->h, &b->config, &b->err) : 0;

	if (rc == 0)
		rc = catalogue_event_each(b->f->c, 0, 1000, last_event, &id, &b->err);
	if (rc != 0)
		return rc;
	number = xasprintf("%lld", (long long)id);
	rc = catalogue_event_find(b->f->c, number, &event, &b->err);
	if (rc == 0)
		rc = handlerdir_prepare(b->h, b->f->c, &event, &b->err);
	if (rc == 0)
		handlerdir_done(b->h, &event);
	event_row_release(&event);
	return rc;
}

static void
nothing_partial(struct bed *b)
{
	OK(handlerdir_sync(b->h, b->f->c, &b->err));
	assert_name(b, "cache/a", "link c");
}

static void
events(void **state)
{
	struct bed *b = *state;

	publish_two(b);
	replace_a(b);
	with_each_call(b, &(struct act){ prepare, empty_dirs, nothing_partial }, EIO);
}

/* ---- the directories themselves -------------------------------------------------------------- */

static void
nothing_there(struct bed *b)
{
	remove_tree(b->top);
}

static int
make_dirs(struct bed *b)
{
	return handlerdir_make(&b->f->conf, geteuid(), getegid(), &b->err);
}

static void
all_there(struct bed *b)
{
	assert_name(b, "cache/templates", "dir");
	assert_name(b, "partial", "dir");
	assert_name(b, "expired", "dir");
}

static void
made(void **state)
{
	with_each_call(*state, &(struct act){ make_dirs, nothing_there, all_there }, EIO);
}

static int
unsynced(void **state)
{
	(void)state;
	fault_unsynced();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("links for handlers are made, if not at once then the next time", links),
		T("hard links are", hard_links),
		T("and where there are none, copies", copies),
		T("B01 on a full disk they wait for room", full_disk),
		T("what changes is followed", changes),
		T("what a handler must find is there, or its event waits", events),
		T("the directories are made", made),
	};

	return cmocka_run_group_tests(tests, unsynced, NULL);
}
