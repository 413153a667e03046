/*
 * What the next worker finds of open files: each counted once, whatever happens to the one before.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/err.h"
#include "fs/handles.h"
#include "fs/shared.h"
#include "fs/snapshot.h"

#define RESENT (1ULL << 63)

struct bed {
	struct shared *shared;
	struct handles h;
	int fd;
};

static int
setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	struct err err;

	if (bed == NULL || shared_new(&bed->fd, &bed->shared, &err) != 0)
		return -1;
	handles_init(&bed->h, bed->shared);
	*state = bed;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *bed = *state;

	shared_unmap(bed->shared);
	close(bed->fd);
	free(bed);
	return 0;
}

static const struct digest digest = { .bytes = { 7 } };

static void
add_opens(void *arg, const struct shared_handle *handle)
{
	*(unsigned *)arg += handle->opens;
}

static unsigned
n_open(struct bed *bed)
{
	unsigned n = 0;

	handles_each(&bed->h, add_opens, &n);
	return n;
}

/* The worker is killed here. */
static void
next_worker(struct bed *bed)
{
	handles_defer();
	handles_init(&bed->h, bed->shared);
}

static void
opens_outlive_a_worker(void **state)
{
	struct bed *bed = *state;

	for (uint64_t i = 1; i <= 3; i++) {
		handles_begin(&bed->h, i);
		assert_true(handles_opened(&bed->h, 5, &digest, 100));
		handles_end(&bed->h);
	}
	handles_begin(&bed->h, 4);
	assert_true(handles_closed(&bed->h, 5));
	handles_end(&bed->h);
	next_worker(bed);
	assert_int_equal(n_open(bed), 2);
}

static void
what_a_worker_opens_for_itself_ends_with_it(void **state)
{
	struct handles_note note;
	struct bed *bed = *state;

	handles_begin(&bed->h, 11);
	note = handles_apart();
	assert_true(handles_opened(&bed->h, 5, &digest, 100));
	handles_resume(note);
	assert_true(handles_opened(&bed->h, 5, &digest, 100));
	assert_int_equal(n_open(bed), 1);
	note = handles_apart();
	assert_true(handles_closed(&bed->h, 5));
	handles_resume(note);
	assert_int_equal(n_open(bed), 1);
	/* The request is known by what it has opened for the reader. */
	next_worker(bed);
	handles_begin(&bed->h, 11 | RESENT);
	assert_false(handles_opened(&bed->h, 5, &digest, 100));
	handles_end(&bed->h);
	assert_int_equal(n_open(bed), 1);
}

static void
open_that_was_not_answered_counts_once(void **state)
{
	struct bed *bed = *state;

	handles_begin(&bed->h, 11);
	assert_true(handles_opened(&bed->h, 5, &digest, 100));
	next_worker(bed);
	assert_int_equal(n_open(bed), 1);
	handles_begin(&bed->h, 11 | RESENT);
	assert_false(handles_opened(&bed->h, 5, &digest, 100));
	/* Another one in the same request is its own. */
	assert_true(handles_closed(&bed->h, 5));
	handles_end(&bed->h);
	assert_int_equal(n_open(bed), 0);
}

static void
release_that_was_not_answered_counts_once(void **state)
{
	struct bed *bed = *state;

	handles_begin(&bed->h, 1);
	handles_opened(&bed->h, 5, &digest, 100);
	handles_opened(&bed->h, 5, &digest, 100);
	handles_end(&bed->h);
	handles_begin(&bed->h, 12);
	assert_true(handles_closed(&bed->h, 5));
	next_worker(bed);
	handles_begin(&bed->h, 12 | RESENT);
	assert_false(handles_closed(&bed->h, 5));
	handles_end(&bed->h);
	assert_int_equal(n_open(bed), 1);
}

static void
twice_killed_counts_once(void **state)
{
	struct bed *bed = *state;

	handles_begin(&bed->h, 13);
	handles_opened(&bed->h, 5, &digest, 100);
	next_worker(bed);
	handles_begin(&bed->h, 13 | RESENT);
	next_worker(bed);
	handles_begin(&bed->h, 13 | RESENT);
	assert_false(handles_opened(&bed->h, 5, &digest, 100));
	handles_end(&bed->h);
	assert_int_equal(n_open(bed), 1);
}

/* Nobody has asked again before the second was killed, nor before the third. */
static void
killed_before_it_came_again_counts_once(void **state)
{
	struct bed *bed = *state;

	handles_begin(&bed->h, 1);
	handles_opened(&bed->h, 5, &digest, 100);
	handles_opened(&bed->h, 5, &digest, 100);
	handles_end(&bed->h);
	handles_begin(&bed->h, 16);
	handles_closed(&bed->h, 5);
	next_worker(bed);
	handles_begin(&bed->h, 18);
	handles_end(&bed->h);
	next_worker(bed);
	next_worker(bed);
	handles_begin(&bed->h, 16 | RESENT);
	assert_false(handles_closed(&bed->h, 5));
	handles_end(&bed->h);
	assert_int_equal(n_open(bed), 1);
	/* It is known once. */
	handles_begin(&bed->h, 16 | RESENT);
	assert_true(handles_closed(&bed->h, 5));
	handles_end(&bed->h);
	assert_int_equal(n_open(bed), 0);
}

/* Each was answered, and its worker killed before it could say so. */
static void
forgotten_requests_leave_room(void **state)
{
	struct bed *bed = *state;
	uint64_t unique = 100;

	for (int i = 0; i < SHARED_REQUESTS + 3; i++) {
		handles_begin(&bed->h, unique++);
		handles_opened(&bed->h, 5, &digest, 100);
		next_worker(bed);
	}
	handles_begin(&bed->h, unique);
	handles_closed(&bed->h, 5);
	next_worker(bed);
	handles_begin(&bed->h, unique | RESENT);
	assert_false(handles_closed(&bed->h, 5));
	handles_end(&bed->h);
	assert_int_equal(n_open(bed), SHARED_REQUESTS + 2);
	/* The oldest went. */
	handles_begin(&bed->h, (unique - 1) | RESENT);
	assert_false(handles_opened(&bed->h, 5, &digest, 100));
	handles_end(&bed->h);
	handles_begin(&bed->h, 100 | RESENT);
	assert_true(handles_opened(&bed->h, 5, &digest, 100));
	handles_end(&bed->h);
}

static void
open_not_yet_counted_is_counted(void **state)
{
	struct bed *bed = *state;

	handles_begin(&bed->h, 14);
	next_worker(bed);
	handles_begin(&bed->h, 14 | RESENT);
	assert_true(handles_opened(&bed->h, 5, &digest, 100));
	handles_end(&bed->h);
	assert_int_equal(n_open(bed), 1);
}

static void
later_answer_keeps_its_note(void **state)
{
	struct bed *bed = *state;
	struct handles_note note;

	handles_begin(&bed->h, 15);
	note = handles_defer();
	handles_end(&bed->h);
	handles_resume(note);
	assert_true(handles_opened(&bed->h, 5, &digest, 100));
	next_worker(bed);
	handles_begin(&bed->h, 15 | RESENT);
	assert_false(handles_opened(&bed->h, 5, &digest, 100));
	handles_end(&bed->h);
}

static void
make(void *arg, struct buf *out)
{
	buf_puts(out, arg);
}

static void
texts_are_handed_over(void **state)
{
	struct snapshots *before = snapshots_new(), *after = snapshots_new();
	char text[] = "a text\n";
	const struct snapshot *shot = snapshots_look(before, 99, 5, 0, 0, make, text), *again;
	uint64_t node = shot->node;
	struct buf saved = BUF_INIT;

	(void)state;
	snapshot_unref(before, shot);
	snapshots_save(before, &saved);
	snapshots_load(after, saved.data, saved.len);
	again = snapshots_find(after, node);
	assert_non_null(again);
	assert_string_equal(again->text, text);
	assert_int_equal(again->ino, 5);
	snapshot_unref(after, again);
	/* Whatever the clock says, what is made from now on has another number. */
	again = snapshots_look(after, 98, 6, 0, 0, make, text);
	assert_int_not_equal(again->node, node);
	snapshots_forget(after, again->node, 1);
	snapshot_unref(after, again);
	/* What is cut short is passed over. */
	snapshots_forget(after, node, 1);
	assert_null(snapshots_find(after, node));
	snapshots_load(after, saved.data, saved.len - 1);
	buf_clear(&saved);
	snapshots_save(after, &saved);
	assert_int_equal(saved.len, 0);
	buf_release(&saved);
	snapshots_free(before);
	snapshots_free(after);
}

#define NAMED(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		NAMED("P07 open files are known to the next worker", opens_outlive_a_worker),
		NAMED("P07 what a worker opens for itself ends with it",
		      what_a_worker_opens_for_itself_ends_with_it),
		NAMED("P07 an open that was counted and not answered is counted once",
		      open_that_was_not_answered_counts_once),
		NAMED("P07 so is a release", release_that_was_not_answered_counts_once),
		NAMED("P07 whoever is killed twice is counted once", twice_killed_counts_once),
		NAMED("P07 so is what was killed again before it came again",
		      killed_before_it_came_again_counts_once),
		NAMED("P07 requests that never come again leave room for others",
		      forgotten_requests_leave_room),
		NAMED("P07 what was not yet counted is counted", open_not_yet_counted_is_counted),
		NAMED("P07 an open that is answered later is known until then",
		      later_answer_keeps_its_note),
		NAMED("P18 volatile texts are handed over whole, or not at all",
		      texts_are_handed_over),
	};

	return cmocka_run_group_tests_name("handles", tests, NULL, NULL);
}
