/*
 * test_text.c - the text of metadata files, and the volatile ones.
 */
#include "config.h"

#include "tests/lib/treebed.h"
#include "core/digest.h"
#include "fs/snapshot.h"
#include "fs/text.h"

static int
setup(void **state)
{
	const struct treebed_image images[] = { { 1, NULL, NULL }, { 2, NULL, NULL } };

	treebed_setup(state);
	treebed_list(*state, 1, images, 2);
	treebed_refresh(*state);
	return 0;
}

static void
one_value_and_a_newline(void **state)
{
	struct treebed *b = *state;

	treebed_expect(b, "images/image-1/id", "image-1\n");
	treebed_expect(b, "images/image-1/comments", "it's \"quoted\"\n");
	treebed_expect(b, "images/image-1/size", "4097\n");
	treebed_expect(b, "images/image-1/created", "2023-11-14T22:13:21Z\n");
	treebed_expect(b, "images/image-1/selected", "no\n");
	treebed_expect(b, "images/image-1/vo", "");
	treebed_expect(b, "images/image-1/error", "");
}

static void
every_text_has_its_size(void **state)
{
	struct treebed *b = *state;
	struct looked dir;
	struct place p;
	struct entry e;
	uint64_t cookie = 2;
	char path[400];
	int n = 0;

	assert_int_equal(treebed_walk(b, "images/image-1", &dir), 0);
	assert_int_equal(place_resolve(&b->fs, dir.node, &p), 0);
	for (; place_next(&p, cookie, &e); cookie = e.cookie) {
		snprintf(path, sizeof(path), "images/image-1/%s", e.name);
		free(treebed_read(b, path));
		n++;
	}
	place_release(&p);
	assert_int_equal(n, 24);
}

static void
states_of_an_image(void **state)
{
	struct treebed *b = *state;

	treebed_expect(b, "images/image-1/state", "available\n");
	treebed_select(b, 1, true);
	treebed_refresh(b);
	treebed_expect(b, "images/image-1/state", "selected\n");
	treebed_expect(b, "images/image-1/progress", "0 4097 0\n");
	treebed_fetching(b, 1, "1", 2048);
	treebed_expect(b, "images/image-1/state", "fetching\n");
	treebed_expect(b, "images/image-1/progress", "2048 4097 49\n");
	treebed_idle();
	treebed_verified(b, 1, "1");
	treebed_refresh(b);
	treebed_expect(b, "images/image-1/state", "verified\n");
	treebed_expect(b, "images/image-1/progress", "4097 4097 100\n");
}

static void
failure_says_why(void **state)
{
	struct treebed *b = *state;
	struct digest d;
	char *status;

	treebed_select(b, 1, true);
	treebed_digest(1, "1", &d);
	treebed_ok(b, catalogue_object_failed(b->c, &d, CODE_DIGEST, "the digest differs", true, 0,
					      &b->err));
	treebed_refresh(b);
	treebed_expect(b, "images/image-1/state", "failed\n");
	treebed_expect(b, "images/image-1/error", "the digest differs\n");
	status = treebed_read(b, "status");
	assert_non_null(strstr(status, "image.image-1: code 42: the digest differs\n"));
	free(status);
}

static void
pending_shows_the_coming_version(void **state)
{
	const struct treebed_image images[] = { { 1, NULL, "2" }, { 2, NULL, NULL } };
	struct treebed *b = *state;
	char expected[400], hex[DIGEST_HEX + 1];
	struct digest d;

	treebed_select(b, 1, true);
	treebed_verified(b, 1, "1");
	treebed_refresh(b);
	treebed_expect_missing(b, "images/image-1/pending");
	treebed_list(b, 2, images, 2);
	treebed_refresh(b);
	treebed_digest(1, "2", &d);
	digest_hex(&d, hex);
	snprintf(expected, sizeof(expected), "version: 2\nsha512: %s\nprogress: 0 4097 0\n", hex);
	treebed_expect(b, "images/image-1/pending", expected);
	treebed_expect(b, "images/image-1/version", "1\n");
	treebed_expect(b, "images/image-1/state", "verified\n");
	treebed_fetching(b, 1, "2", 4096);
	snprintf(expected, sizeof(expected), "version: 2\nsha512: %s\nprogress: 4096 4097 99\n",
		 hex);
	treebed_expect(b, "images/image-1/pending", expected);
	treebed_idle();
	treebed_verified(b, 1, "2");
	treebed_refresh(b);
	treebed_expect(b, "images/image-1/version", "2\n");
	treebed_expect_missing(b, "images/image-1/pending");
}

/* The path from images/<id>/ to the content of a version. */
static void
link_to(char out[300], const char *up, const char *version)
{
	char hex[DIGEST_HEX + 1];
	struct digest d;

	treebed_digest(1, version, &d);
	digest_hex(&d, hex);
	snprintf(out, 300, "%sby-sha512/%s", up, hex);
}

/* Version 1 is stored; version 2 is coming, with a signed tree. */
static void
begin_update(struct treebed *b)
{
	const struct treebed_image images[] = { { 1, "New title", "2", true },
						{ 2, NULL, NULL, false } };

	treebed_select(b, 1, true);
	treebed_verified(b, 1, "1");
	treebed_refresh(b);
	treebed_list(b, 2, images, 2);
	treebed_refresh(b);
}

static void
expect_versions(struct treebed *b, const char *shown, const char *cached)
{
	char target[300], line[400], hex[DIGEST_HEX + 1];
	struct digest d;

	snprintf(line, sizeof(line), "%s\n", shown);
	treebed_expect(b, "images/image-1/version", line);
	link_to(target, "../../", shown);
	treebed_expect(b, "images/image-1/image", target);
	link_to(target, "../", cached);
	treebed_expect(b, "cache/image-1", target);
	treebed_digest(1, cached, &d);
	digest_hex(&d, hex);
	snprintf(line, sizeof(line), "%s  cache/image-1\n", hex);
	treebed_expect(b, "SHA512SUMS", line);
}

static void
rooted_version_is_shown(void **state)
{
	struct treebed *b = *state;

	begin_update(b);
	expect_versions(b, "1", "1");
	treebed_rooted(b, 1, "2");
	treebed_refresh(b);
	expect_versions(b, "2", "1");
	treebed_expect_missing(b, "images/image-1/pending");
	treebed_expect(b, "images/image-1/title", "New title\n");
	treebed_expect(b, "by-title/New_title", "../images/image-1");
	treebed_expect(b, "images/image-1/state", "selected\n");
	treebed_expect(b, "images/image-1/progress", "0 4097 0\n");
	treebed_fetching(b, 1, "2", 2048);
	treebed_expect(b, "images/image-1/state", "fetching\n");
	treebed_expect(b, "images/image-1/progress", "2048 4097 49\n");
	treebed_idle();
	treebed_verified(b, 1, "2");
	treebed_refresh(b);
	expect_versions(b, "2", "2");
	treebed_expect(b, "images/image-1/state", "verified\n");
	treebed_expect_missing(b, "images/image-1/pending");
}

/* Its blocks were right and the whole was not: what is shown is what is good. */
static void
failed_version_is_not_shown(void **state)
{
	struct treebed *b = *state;
	struct digest d;

	begin_update(b);
	treebed_rooted(b, 1, "2");
	treebed_refresh(b);
	expect_versions(b, "2", "1");
	treebed_digest(1, "2", &d);
	treebed_ok(b,
		   catalogue_object_failed(b->c, &d, CODE_BLOCK_DIGEST, "the whole differs", true,
					      0, &b->err));
	treebed_refresh(b);
	expect_versions(b, "1", "1");
	treebed_expect(b, "images/image-1/state", "verified\n");
	treebed_expect(b, "images/image-1/error", "the whole differs\n");
}

static void
strict_reason_is_said(void **state)
{
	struct treebed *b = *state;
	struct digest d;

	begin_update(b);
	treebed_rooted(b, 1, "2");
	treebed_refresh(b);
	treebed_digest(1, "2", &d);
	treebed_ok(b, catalogue_object_strict(b->c, &d, "the sidecar is short", &b->err));
	treebed_refresh(b);
	expect_versions(b, "1", "1");
	treebed_expect(b, "images/image-1/error", "the sidecar is short\n");
	treebed_verified(b, 1, "2");
	treebed_refresh(b);
	expect_versions(b, "2", "2");
	treebed_expect(b, "images/image-1/state", "verified\n");
	treebed_expect(b, "images/image-1/error", "the sidecar is short\n");
}

static void
damage_is_said(void **state)
{
	struct treebed *b = *state;
	struct digest d;

	treebed_select(b, 1, true);
	treebed_verified(b, 1, "1");
	treebed_refresh(b);
	treebed_digest(1, "1", &d);
	treebed_ok(b, catalogue_object_corrupt(b->c, &d, "block 3 is bad", true, 1, &b->err));
	treebed_refresh(b);
	treebed_expect(b, "images/image-1/state", "degraded\n");
	treebed_expect(b, "images/image-1/error", "block 3 is bad\n");
	treebed_ok(b, catalogue_object_healed(b->c, &d, "fetched again", 2, &b->err));
	treebed_refresh(b);
	treebed_expect(b, "images/image-1/state", "verified\n");
	treebed_expect(b, "images/image-1/error", "");
}

static void
environment_is_shell_safe(void **state)
{
	struct treebed *b = *state;
	char *text = treebed_read(b, "images/image-1/environment");

	assert_non_null(strstr(text, "VMCATCHER_EVENT_SL_COMMENTS='it'\\''s \"quoted\"'\n"));
	assert_non_null(strstr(text, "VMCATCHER_EVENT_FILENAME='image-1'\n"));
	assert_non_null(strstr(text, "VMCATCHER_EVENT_IL_DC_IDENTIFIER='list-1'\n"));
	free(text);
}

static void
sums_name_what_is_cached(void **state)
{
	struct treebed *b = *state;
	char expected[400], hex[DIGEST_HEX + 1];
	struct digest d;

	treebed_expect(b, "SHA512SUMS", "");
	treebed_select(b, 2, true);
	treebed_verified(b, 2, "1");
	treebed_refresh(b);
	treebed_digest(2, "1", &d);
	digest_hex(&d, hex);
	snprintf(expected, sizeof(expected), "%s  cache/image-2\n", hex);
	treebed_expect(b, "SHA512SUMS", expected);
}

static void
status_in_three_forms(void **state)
{
	struct treebed *b = *state;
	char *text;

	treebed_idle();
	b->fs.engine = treebed_engine();
	text = treebed_read(b, "status");
	assert_non_null(strstr(text, "\nstarted: 2023-11-14T22:13:20Z\n"));
	assert_non_null(strstr(text, "\nimages: 3\n"));
	free(text);
	text = treebed_read(b, "status.json");
	assert_non_null(strstr(text, "\"schema\": 1"));
	assert_non_null(strstr(text, "\"images\": 3"));
	free(text);
	text = treebed_read(b, "metrics");
	assert_non_null(strstr(text, "# TYPE vmimagefs_images gauge\nvmimagefs_images 3\n"));
	assert_non_null(strstr(text, "vmimagefs_subscription_ok{subscription=\"list-1\"} 1\n"));
	free(text);
}

static void
events_are_lines(void **state)
{
	struct treebed *b = *state;
	char *text;

	treebed_select(b, 1, true);
	treebed_verified(b, 1, "1");
	treebed_refresh(b);
	text = treebed_read(b, "events");
	assert_non_null(strstr(text, "AvailablePostfix"));
	assert_int_equal(text[0], '{');
	assert_int_equal(text[strlen(text) - 1], '\n');
	free(text);
}

static void
list_texts(void **state)
{
	struct treebed *b = *state;
	struct looked looked;

	treebed_expect(b, "subscriptions/list-1/id", "list-1\n");
	treebed_expect(b, "subscriptions/list-1/state", "ok\n");
	treebed_expect(b, "subscriptions/list-1/endorser", "../../endorsers/alice");
	treebed_expect(b, "endorsers/alice/subject", TREEBED_DN "\n");
	treebed_expect(b, "endorsers/alice/subscriptions/list-1", "../../../subscriptions/list-1");
	assert_int_equal(treebed_walk(b, "subscriptions/list-1/list.json", &looked), 0);
	assert_true(looked.st.st_size > 0);
	lookup_forget(&b->fs, looked.node, 1);
}

/* ---- snapshots ------------------------------------------------------------------------------ */

static void
make_number(void *arg, struct buf *out)
{
	buf_printf(out, "%d\n", *(int *)arg);
}

static void
snapshot_is_one_version(void **state)
{
	struct snapshots *s = snapshots_new();
	struct buf left = BUF_INIT;
	int number = 1;
	const struct snapshot *a, *b, *c;
	uint64_t second;

	(void)state;
	a = snapshots_look(s, 77, 7, 0, 0, make_number, &number);
	b = snapshots_look(s, 77, 7, 0, 0, make_number, &number);
	assert_int_equal(a->node, b->node);
	number = 2;
	c = snapshots_look(s, 77, 7, 0, 0, make_number, &number);
	assert_int_not_equal(a->node, c->node);
	assert_string_equal(a->text, "1\n");
	assert_string_equal(c->text, "2\n");
	assert_int_equal(a->ino, c->ino);
	snapshot_unref(s, a);
	snapshot_unref(s, b);
	second = c->node;
	snapshots_forget(s, second, 1);
	assert_string_equal(c->text, "2\n");
	snapshot_unref(s, c);
	assert_null(snapshots_find(s, second));
	a = snapshots_find(s, node_of_serial(node_serial(a->node)));
	assert_non_null(a);
	snapshot_unref(s, a);
	snapshots_forget(s, a->node, 2);
	snapshots_save(s, &left);
	assert_int_equal(left.len, 0);
	buf_release(&left);
	snapshots_free(s);
}

static void
young_snapshot_is_not_made_again(void **state)
{
	struct snapshots *s = snapshots_new();
	int number = 1;
	const struct snapshot *a, *b;

	(void)state;
	a = snapshots_look(s, 77, 7, 60000, 0, make_number, &number);
	number = 2;
	b = snapshots_look(s, 77, 7, 60000, 0, make_number, &number);
	assert_ptr_equal(a, b);
	snapshot_unref(s, a);
	snapshot_unref(s, b);
	snapshots_free(s);
}

static void
text_of_a_state_follows_it(void **state)
{
	struct snapshots *s = snapshots_new();
	int number = 1;
	const struct snapshot *a, *b, *c;

	(void)state;
	a = snapshots_look(s, 77, 7, 0, 5, make_number, &number);
	number = 2;
	b = snapshots_look(s, 77, 7, 0, 5, make_number, &number);
	assert_ptr_equal(a, b);
	c = snapshots_look(s, 77, 7, 0, 6, make_number, &number);
	assert_string_equal(c->text, "2\n");
	snapshot_unref(s, a);
	snapshot_unref(s, b);
	snapshot_unref(s, c);
	snapshots_free(s);
}

#define IN_BED(title, function) { title, function, setup, treebed_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		IN_BED("a metadata file is one value and a newline, or empty",
		       one_value_and_a_newline),
		IN_BED("F33 the size of every file is what is read", every_text_has_its_size),
		IN_BED("an image goes from available over selected and fetching to verified",
		       states_of_an_image),
		IN_BED("a failed image says why, also in status", failure_says_why),
		IN_BED("pending shows the coming version while the old one is shown whole",
		       pending_shows_the_coming_version),
		IN_BED("a version that can be read block by block is shown while cache/ has the old"
		       " one", rooted_version_is_shown),
		IN_BED("unless it turns out to be wrong as a whole", failed_version_is_not_shown),
		IN_BED("T40 why an image is not read block by block stands in error",
		       strict_reason_is_said),
		IN_BED("I16 an image with damage that could not be healed is degraded, and says"
		       " why", damage_is_said),
		IN_BED("environment can be read by a shell", environment_is_shell_safe),
		IN_BED("SHA512SUMS names what is in cache/", sums_name_what_is_cached),
		IN_BED("status, status.json and metrics tell the same", status_in_three_forms),
		IN_BED("events has one JSON object a line", events_are_lines),
		IN_BED("a subscription shows its list and its endorser", list_texts),
		{ .name = "F33 a volatile text is a new file when it says something else",
		  .test_func = snapshot_is_one_version },
		{ .name = "a volatile text is not made again while it is young",
		  .test_func = young_snapshot_is_not_made_again },
		{ .name = "a text that follows from a state is made again when that has changed",
		  .test_func = text_of_a_state_follows_it },
	};

	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
