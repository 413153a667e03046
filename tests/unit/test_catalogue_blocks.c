/*
 * Block digests in the catalogue: which root an object has, what is known of its tree, and a
 * database of the version before, which knew nothing of all that.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/limits.h"
#include "tests/unit/attestbed.h"
#include "tests/unit/oldstate.h"
#include "tests/unit/sitefixture.h"

/* ---- roots --------------------------------------------------------------------------------- */

static void
root_of_a_list(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1'), IMG("b", "1", 'b')));
	assert_blocks(f, 'a', "r1");
	assert_listed(f, 'a', true);
	assert_blocks(f, 'b', "-");
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b', .verity = '2')));
	assert_blocks(f, 'a', "-");
	assert_blocks(f, 'b', "r2");
}

static void
root_of_a_pending_version(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1')));
	store_content(f, 'a');
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'b', .verity = '2')));
	assert_image(f, "a", "live selected 1 pending 2");
	assert_blocks(f, 'b', "r2");
	assert_sidecars(f, 'b', "https://example.org/a-2.img.fsv 0");
}

static void
lists_disagree(void **state)
{
	struct fixture *f = *state;
	int64_t one = subscribe(f, LIST, SELECT_ALL), two = subscribe(f, OTHER_LIST, SELECT_ALL);
	int64_t rev;

	publish(f, one, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1')));
	publish_in(f, two, OTHER_LIST, "1", NOW, ENTRIES(IMG("b", "1", 'a', .verity = '1')));
	assert_blocks(f, 'a', "r1");
	assert_n_disagreeing(f, 0);
	rev = object_rev(f, 'a');
	publish_in(f, two, OTHER_LIST, "2", NOW, ENTRIES(IMG("b", "1", 'a', .verity = '2')));
	assert_blocks(f, 'a', "-");
	assert_true(object_rev(f, 'a') > rev);
	assert_sidecars(f, 'a', "");
	assert_n_disagreeing(f, 1);
	OK(catalogue_subscription_remove(f->c, two, NOW, &f->err));
	assert_blocks(f, 'a', "r1");
	assert_n_disagreeing(f, 0);
}

static void
sidecars(void **state)
{
	struct fixture *f = *state;
	int64_t one = subscribe(f, LIST, SELECT_ALL), two = subscribe(f, OTHER_LIST, SELECT_ALL);

	register_site(f);
	publish(f, one, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1')));
	publish_in(f, two, OTHER_LIST, "1", NOW,
		   ENTRIES(IMG("b", "1", 'a', .verity = '1', .sidecar = "https://b.org/x")));
	OK(attest(f, SITE, CLAIMS(SAYS('a', '1', .uri = "https://site.org/a.fsv"))));
	assert_sidecars(f, 'a', "https://example.org/a-1.img.fsv 0, https://b.org/x 9,"
				" https://site.org/a.fsv 0");
	/* What names no root any more names no sidecar. */
	publish(f, one, "2", ENTRIES(IMG("a", "1", 'a')));
	assert_sidecars(f, 'a', "https://b.org/x 9, https://site.org/a.fsv 0");
}

/* ---- an object's life ---------------------------------------------------------------------- */

static void
rooted_while_the_root_stands(void **state)
{
	struct fixture *f = *state;
	struct digest d = content('a'), tree = content('1'), other = content('2');
	int64_t sub = subscribe(f, LIST, SELECT_ALL), rev, of_image;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1')));
	rev = object_rev(f, 'a');
	of_image = image_rev(f, "a");
	OK(catalogue_object_rooted(f->c, &d, &tree, &f->err));
	assert_blocks(f, 'a', "r1 t1");
	assert_true(object_rev(f, 'a') > rev && image_rev(f, "a") > of_image);
	/* A tree that another root was proved with proves nothing. */
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a', .verity = '2')));
	assert_blocks(f, 'a', "r2");
	OK(catalogue_object_rooted(f->c, &d, &other, &f->err));
	assert_blocks(f, 'a', "r2 t2");
	publish(f, sub, "3", ENTRIES(IMG("a", "1", 'a')));
	assert_blocks(f, 'a', "-");
	/* Verified, the tree is derived from the bytes and needs nobody's word. */
	OK(catalogue_object_verified(f->c, &d, &tree, NOW, &f->err));
	assert_blocks(f, 'a', "t1");
	OK(catalogue_object_set_tree(f->c, &d, &other, &f->err));
	assert_blocks(f, 'a', "t2");
	OK(catalogue_object_evicted(f->c, &d, &f->err));
	assert_blocks(f, 'a', "-");
}

static void
strict_with_its_reason(void **state)
{
	struct fixture *f = *state;
	struct digest d = content('a'), tree = content('1');
	int64_t sub = subscribe(f, LIST, SELECT_ALL), rev;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1')));
	OK(catalogue_object_rooted(f->c, &d, &tree, &f->err));
	rev = image_rev(f, "a");
	OK(catalogue_object_strict(f->c, &d, "no ranges", &f->err));
	assert_blocks(f, 'a', "r1");
	assert_error(f, 'a', "no ranges");
	assert_true(image_rev(f, "a") > rev);
	/* A failure is more than a reason. */
	OK(catalogue_object_failed(f->c, &d, CODE_SLOW, "no answer", true, 0, &f->err));
	assert_error(f, 'a', "no answer");
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a', .verity = '1')));
	OK(catalogue_object_rooted(f->c, &d, &tree, &f->err));
	assert_blocks(f, 'a', "r1 t1");
}

static void
reason_outlives_verification(void **state)
{
	struct fixture *f = *state;
	struct digest d = content('a'), tree = content('1');
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1')));
	OK(catalogue_object_strict(f->c, &d, "no ranges", &f->err));
	OK(catalogue_object_verified(f->c, &d, &tree, NOW, &f->err));
	assert_error(f, 'a', "no ranges");
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a', .verity = '1', .title = "New")));
	assert_error(f, 'a', "no ranges");
	publish(f, sub, "3", ENTRIES(IMG("a", "1", 'a', .verity = '2')));
	assert_error(f, 'a', "");
}

static void
contradiction_is_final(void **state)
{
	struct fixture *f = *state;
	struct digest d = content('a'), tree = content('1');
	int64_t sub = subscribe(f, LIST, SELECT_ALL), last;
	struct object_row r;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1')));
	OK(catalogue_object_rooted(f->c, &d, &tree, &f->err));
	last = catalogue_event_last(f->c);
	for (int i = 0; i < 2; i++) {
		OK(catalogue_object_corrupt(f->c, &d, "tree and SHA-512 disagree", false, NOW,
					    &f->err));
		OK(catalogue_object_failed(f->c, &d, CODE_BLOCK_DIGEST, "they disagree", true, 0,
					   &f->err));
	}
	assert_events(f, last, "[CorruptFound a]");
	r = object(f, 'a');
	assert_int_equal(r.tries, LIMIT_TRIES);
	assert_int_equal(r.state, OBJECT_FAILED);
	assert_int_equal(r.code, CODE_BLOCK_DIGEST);
	assert_false(r.has_tree);
	object_row_release(&r);
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a', .verity = '2')));
	r = object(f, 'a');
	assert_int_equal(r.tries, 0);
	assert_int_equal(r.state, OBJECT_MISSING);
	object_row_release(&r);
}

static void
damage_is_told_once(void **state)
{
	struct fixture *f = *state;
	struct digest d = content('a');
	int64_t sub = subscribe(f, LIST, SELECT_ALL), last;
	struct catalogue_counts counts;
	struct object_row r;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'a')));
	store_content(f, 'a');
	last = catalogue_event_last(f->c);
	OK(catalogue_object_corrupt(f->c, &d, "granule 7", false, NOW, &f->err));
	assert_error(f, 'a', "");
	OK(catalogue_object_corrupt(f->c, &d, "granule 9: no server", true, NOW, &f->err));
	assert_events(f, last, "[CorruptFound a, CorruptFound b]");
	r = object(f, 'a');
	assert_true(r.degraded && r.state == OBJECT_VERIFIED);
	object_row_release(&r);
	assert_error(f, 'a', "granule 9: no server");
	OK(catalogue_count(f->c, &counts, &f->err));
	assert_int_equal(counts.degraded, 2);
	last = catalogue_event_last(f->c);
	OK(catalogue_object_healed(f->c, &d, "fetched", NOW, &f->err));
	OK(catalogue_object_healed(f->c, &d, "fetched", NOW, &f->err));
	assert_events(f, last, "[CorruptHealed a, CorruptHealed b]");
	assert_error(f, 'a', "");
	last = catalogue_event_last(f->c);
	OK(catalogue_object_corrupt(f->c, &d, "granule 7", false, NOW, &f->err));
	store_content(f, 'a');
	assert_events(f, last,
		      "[CorruptFound a, CorruptFound b], "
		      "[CorruptHealed a, CorruptHealed b]");
}

static void
counts_partial_images(void **state)
{
	struct fixture *f = *state;
	struct digest d = content('a'), tree = content('1');
	struct catalogue_counts counts;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1'), IMG("b", "1", 'b')));
	OK(catalogue_object_rooted(f->c, &d, &tree, &f->err));
	OK(catalogue_count(f->c, &counts, &f->err));
	assert_int_equal(counts.partial, 1);
	OK(catalogue_object_verified(f->c, &d, &tree, NOW, &f->err));
	OK(catalogue_count(f->c, &counts, &f->err));
	assert_int_equal(counts.partial, 0);
}

/* ---- damage and upgrade -------------------------------------------------------------------- */

static void
run_sql(struct fixture *f, const char *sql)
{
	CLEANUP_FREE char *db = xasprintf("%s/catalogue.db", f->conf.state_dir);
	pid_t child;
	int status;

	catalogue_close(f->c);
	f->c = NULL;
	child = fork();
	if (child == 0) {
		execlp("sqlite3", "sqlite3", db, sql, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		skip();
	assert_int_equal(status, 0);
}

static void
assert_rebuilt(struct fixture *f, bool expected)
{
	bool rebuilt = strstr(buf_str(&f->said), "rebuilt") != NULL;

	if (rebuilt != expected)
		fail_msg("%s: '%s'", rebuilt ? "rebuilt" : "not rebuilt", buf_str(&f->said));
}

/* Alice attests, because every message counts as signed by her here. */
static void
furnish(struct fixture *f)
{
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	register_site(f);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1'), IMG("b", "1", 'b')));
	OK(attest(f, ALICE, CLAIMS(SAYS('b', '2'))));
	assert_blocks(f, 'b', "r2");
}

static void
rebuild_brings_them_back(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *db = xasprintf("%s/catalogue.db", f->conf.state_dir);
	struct endorser_row e;

	furnish(f);
	catalogue_close(f->c);
	f->c = NULL;
	assert_int_equal(unlink(db), 0);
	OK(fixture_open(f, CATALOGUE_CHECK | CATALOGUE_CREATE));
	assert_rebuilt(f, true);
	assert_blocks(f, 'a', "r1");
	assert_blocks(f, 'b', "r2");
	OK(catalogue_endorser_get(f->c, "site", &e, &f->err));
	assert_true(e.blocks_only);
	endorser_row_release(&e);
	/* And they survive the check that sweeps what nothing refers to. */
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_blocks(f, 'b', "r2");
}

static void
changed_rows_are_found(void **state)
{
	static const char *const changes[] = {
		"UPDATE meta SET verity = zeroblob(64) WHERE verity IS NOT NULL",
		"UPDATE meta SET verity = NULL",
		"UPDATE meta SET verity_uri = 'https://evil.org/' WHERE verity IS NOT NULL",
		"UPDATE attested SET verity = zeroblob(64)",
		"UPDATE attested SET sha512 = zeroblob(64)",
		"UPDATE attested SET uri = 'https://evil.org/'",
		"UPDATE attestation SET subject = '/CN=Somebody else'",
		"UPDATE attestation SET endorser = (SELECT id FROM endorser WHERE name = 'site')",
		"UPDATE endorser SET blocks_only = 1",
		"DROP TRIGGER attested_new",
	};
	struct fixture *f = *state;

	furnish(f);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		buf_clear(&f->said);
		run_sql(f, changes[i]);
		OK(fixture_open(f, CATALOGUE_CHECK));
		assert_rebuilt(f, true);
		assert_blocks(f, 'a', "r1");
		assert_blocks(f, 'b', "r2");
	}
}

/* The stored message of the attestation is cut. */
static void
damage_message(struct fixture *f, const struct claim *claims)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	char hex[DIGEST_HEX + 1];
	struct digest d;
	char *path;

	claims_text(&text, claims);
	digest_of(text.data, text.len, &d);
	digest_hex(&d, hex);
	path = xasprintf("%s/messages/%s.smime", f->conf.state_dir, hex);
	assert_int_equal(truncate(path, 7), 0);
	free(path);
}

static void
damaged_message_counts_no_longer(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	damage_message(f, CLAIMS(SAYS('b', '2')));
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_rebuilt(f, false);
	assert_non_null(strstr(buf_str(&f->said), "block digests signed by"));
	assert_blocks(f, 'a', "r1");
	assert_blocks(f, 'b', "-");
	/* Given again, it is there again. */
	OK(attest(f, ALICE, CLAIMS(SAYS('b', '2'))));
	assert_blocks(f, 'b', "r2");
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_blocks(f, 'b', "r2");
}

/* "with" has block digests in its list, those of "malformed" are no such thing. */
static void
assert_upgraded(struct fixture *f)
{
	struct image_row r = image(f, "with");

	assert_rebuilt(f, false);
	assert_true(r.meta.has_verity);
	assert_string_equal(r.meta.verity_uri, "https://example.org/with.fsv");
	image_row_release(&r);
	assert_blocks(f, 'a', "ra");
	assert_blocks(f, 'c', "-");
	assert_image(f, "plain", "live selected 1 pending 2");
	assert_image(f, "malformed", "away selected 1");
	assert_expired(f, "gone removed-from-list, far endorser-unlinked distrusted purged,"
			  " malformed removed-from-list");
}

static void
upgrade(void **state)
{
	struct fixture *f = *state;
	int64_t last;

	old_state(f, "state-1");
	OK(fixture_open(f, CATALOGUE_CHECK | CATALOGUE_CREATE));
	assert_upgraded(f);
	last = catalogue_event_last(f->c);
	assert_true(last > 8);
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_upgraded(f);
	assert_int_equal(catalogue_event_last(f->c), last);
}

static void
upgrade_by_a_command(void **state)
{
	struct fixture *f = *state;

	old_state(f, "state-1");
	OK(fixture_open(f, CATALOGUE_CREATE));
	assert_image(f, "malformed", "live selected 1");
	assert_blocks(f, 'a', "-");
	register_site(f);
	OK(attest(f, SITE, CLAIMS(SAYS('c', '7'))));
	assert_blocks(f, 'c', "r7");
	OK(catalogue_endorser_remove(f->c, "site", NULL, NULL, &f->err));
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_upgraded(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("the root of an image is the fs-verity digest that its list signs",
		  root_of_a_list),
		T("a pending version has its root, too", root_of_a_pending_version),
		T("an image for which lists sign different block digests has no root",
		  lists_disagree),
		T("a tree is looked for where those who name the root say", sidecars),
		T("a tree proves blocks only while the root that it leads to is signed",
		  rooted_while_the_root_stands),
		T("why an image is not read by blocks is told until a list is applied again",
		  strict_with_its_reason),
		T("a verified image keeps the reason until another root is signed",
		  reason_outlives_verification),
		T("block digests that contradict the SHA-512 are final until something else is"
		  " signed", contradiction_is_final),
		T("damage is told once, and once that it is healed", damage_is_told_once),
		T("images that are here in part are counted", counts_partial_images),
		T("a rebuilt catalogue has blocks-only endorsers and attestations again",
		  rebuild_brings_them_back),
		T("changed rows of block digests are found", changed_rows_are_found),
		T("an attestation whose stored message is damaged counts no longer",
		  damaged_message_counts_no_longer),
		T("a database of the version before is upgraded, and its lists are read anew",
		  upgrade),
		T("a command upgrades it as well, and the next check reads the lists",
		  upgrade_by_a_command),
	};

	return cmocka_run_group_tests_name("catalogue_blocks", tests, NULL, NULL);
}
