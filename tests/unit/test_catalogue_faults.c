/*
 * Each statement of the catalogue fails once, wherever it stands: what was begun is undone as a
 * whole, the caller is told, and done again it works.
 *
 * A site lives through all that can happen to it, step by step.  Each step is tried again and
 * again, with its first, second, ... call to SQLite or to the file system failing, until it makes
 * no more of them.
 */
#include "config.h"
#include "sitelooks.h"

#include <sqlite3.h>
#include "tests/lib/callfaults.h"

enum { CALLS = FAULT_SQLITE | FAULT_FILES };

/* One thing that happens.  quiet: some of its calls can fail without a word.  alone: in no
 * transaction. */
struct step {
	const char *name;
	int (*fn)(struct life *l, struct err *err);
	bool quiet, alone;
};

/* ---- all rows -------------------------------------------------------------------------------- */

static int
add_table(void *arg, int n, char **values, char **names)
{
	struct buf *b = arg;

	(void)names;
	for (int i = 0; i < n; i++)
		buf_printf(b, "%s|", values[i] != NULL ? values[i] : "-");
	buf_putc(b, '\n');
	return 0;
}

static void
dump(struct life *l, struct buf *out)
{
	CLEANUP_BUF struct buf tables = BUF_INIT;
	char *rest, *name;

	buf_clear(out);
	if (sqlite3_exec(l->f->c->db,
			 "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1",
			 add_table, &tables, NULL) != SQLITE_OK)
		fail_msg("no tables");
	rest = tables.data;
	while ((name = strsep(&rest, "|\n")) != NULL) {
		CLEANUP_FREE char *sql = xasprintf("SELECT '%s', * FROM \"%s\"", name, name);

		if (*name != '\0' && strncmp(name, "sqlite_", 7) != 0 &&
		    sqlite3_exec(l->f->c->db, sql, add_table, out, NULL) != SQLITE_OK)
			fail_msg("%s", sqlite3_errmsg(l->f->c->db));
	}
}

static int
count_commit(void *arg)
{
	((struct life *)arg)->n_commits++;
	return 0;
}

/* ---- one step, with each of its calls failing ------------------------------------------------ */

/* Other calls look whether something is there already, or clear away what was. */
static bool
is_needed(const char *call)
{
	static const char *const needed[] = { "write", "fsync", "fdatasync", "renameat",
					      "renameat2" };

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (strcmp(call, needed[i]) == 0)
			return true;
	return strncmp(call, "sqlite3_", 8) == 0;
}

/* Whether it has been done, be it that what comes after the transaction failed. */
static bool
try_step(struct life *l, const struct step *s, long n, const struct buf *before)
{
	CLEANUP_BUF struct buf after = BUF_INIT;
	struct err err = { 0 };
	bool struck;
	int rc;

	l->n_commits = 0;
	fault_begin(CALLS, n, EIO);
	rc = s->fn(l, &err);
	struck = fault_end();
	if (l->f->c->in_transaction || !sqlite3_get_autocommit(l->f->c->db))
		fail_msg("%s: call %ld (%s) leaves a transaction open", s->name, n, fault_name());
	if (!struck && rc != 0)
		fail_msg("%s: %s", s->name, err.text);
	if (struck && rc != 0 && err.text[0] == '\0')
		fail_msg("%s: call %ld (%s) fails, and nothing is said", s->name, n, fault_name());
	if (err.code == CODE_NOT_LINKED)
		fail_msg("%s: call %ld (%s) fails, which is taken for no link", s->name, n,
			 fault_name());
	if (rc == -EUCLEAN)
		fail_msg("%s: call %ld (%s) fails, which is taken for damage", s->name, n,
			 fault_name());
	if (struck && rc == 0 && !s->quiet && is_needed(fault_name()))
		fail_msg("%s: call %ld (%s) fails, and nobody notices", s->name, n, fault_name());
	dump(l, &after);
	if (rc != 0 && l->n_commits == 0 && strcmp(buf_str(before), buf_str(&after)) != 0)
		fail_msg("%s: call %ld (%s) fails, and half of it is done", s->name, n,
			 fault_name());
	return rc == 0 || l->n_commits > 0;
}

static void
run_step(struct life *l, const struct step *s)
{
	CLEANUP_BUF struct buf before = BUF_INIT;
	long n = 0;

	dump(l, &before);
	sqlite3_commit_hook(l->f->c->db, count_commit, l);
	do {
		if (++n > 5000)
			fail_msg("%s: no end of calls", s->name);
		/* A cached statement would make one call less. */
		for (int i = 0; i < N_SQL; i++) {
			sqlite3_finalize(l->f->c->stmt[i]);
			l->f->c->stmt[i] = NULL;
		}
	} while (!try_step(l, s, n, &before));
}

/*
 * As run_step(), but in a transaction that is rolled back each time, so that the calls after which
 * the step has ended are tried, too.
 */
static void
run_inside(struct life *l, const struct step *s)
{
	for (long n = 1;; n++) {
		struct err err = { 0 };
		bool struck;
		int rc;

		assert_int_equal(catalogue_begin(l->f->c, &l->f->err), 0);
		fault_begin(CALLS, n, EIO);
		rc = s->fn(l, &err);
		struck = fault_end();
		catalogue_rollback(l->f->c);
		if (!struck)
			return;
		if (rc == 0 && !s->quiet && is_needed(fault_name()))
			fail_msg("%s: call %ld (%s) fails, and nobody notices", s->name, n,
				 fault_name());
	}
}

/* ---- a life ---------------------------------------------------------------------------------- */

#define STEP(text, function, ...) \
	{ \
		.name = text, .fn = function, ##__VA_ARGS__ \
	}
static const struct step life[] = {
	STEP("an endorser is added", add_alice),
	STEP("one gets a further credential", widen_alice),
	STEP("one for blocks only is added", add_carol),
	STEP("a list is subscribed", subscribe_first),
	STEP("another one is", subscribe_second),
	STEP("its endorser is linked", link_first),
	STEP("and to the other", link_second),
	STEP("a list is applied", apply_first),
	STEP("handlers are set", set_handlers),
	STEP("an image comes", verified_a),
	STEP("another image comes", verified_b),
	STEP("blocks of one come", rooted_e),
	STEP("a new version of the list is applied", apply_next),
	STEP("what it would change is told", preview),
	STEP("the other list is applied", apply_second),
	STEP("a transfer begins", begun_d),
	STEP("it fails", failed_d),
	STEP("it may be tried again", forgiven_d),
	STEP("the version that was awaited comes", verified_c),
	STEP("an image of the other list comes", verified_f),
	STEP("block digests are attested", attest_d),
	STEP("others are", attest_again),
	STEP("contradicting ones are", attest_e),
	STEP("they cannot be used", strict_e),
	STEP("what is signed contradicts itself", contradicted_e),
	STEP("an attestation is trusted no longer", distrust_attestation),
	STEP("a tree is derived", derived_a),
	STEP("bad bytes are found", corrupt_a),
	STEP("and healed", healed_a),
	STEP("an image is used", used_a),
	STEP("the signer of a list is judged", judge_alice),
	STEP("and who attests block digests", judge_linked_for_blocks),
	STEP("an image is pinned", pin_c),
	STEP("endorsers are listed", endorsers),
	STEP("subscriptions are listed", subscriptions),
	STEP("images are listed", images),
	STEP("images of a list are listed", images_of),
	STEP("stubs are listed", stubs),
	STEP("refused images are listed", refused),
	STEP("objects are listed", objects),
	STEP("objects whose roots disagree are listed", disagreeing),
	STEP("objects to evict are listed", evictable),
	STEP("expired versions are listed", expired),
	STEP("events are listed", events),
	STEP("attestations are listed", attestations),
	STEP("what one attests is listed", attested),
	STEP("sources are listed", sources),
	STEP("sidecars are listed", sidecars),
	STEP("signers are listed", signers),
	STEP("withdrawn objects are listed", withdrawn),
	STEP("an expired version is looked at", expired_by_id),
	STEP("an object is looked at", look_at_object),
	STEP("an image is found by its title", find_by_title),
	STEP("a subscription is found by its prefix", find_subscription),
	STEP("an endorser is found", find_endorser),
	STEP("all is counted", counts),
	STEP("small things are counted", small_counts, .quiet = true),
	STEP("a note is made", set_note),
	STEP("decisions are told", format_site),
	STEP("decisions are written", write_site, .quiet = true, .alone = true),
	STEP("the whole is checked", check_all, .quiet = true, .alone = true),
	STEP("decisions are checked", check_decisions, .quiet = true, .alone = true),
	STEP("an image is unpinned", unpin_c),
	STEP("an image is deselected", deselect_c),
	STEP("and selected", select_c),
	STEP("what is new is refused", set_policy),
	STEP("images are accepted all the same", define_two),
	STEP("one that no list names is, too", define_unread),
	STEP("one is wished for", wish_w),
	STEP("wishes are listed", wishes),
	STEP("one is forgotten", undefine_p),
	STEP("one that is there is", undefine_x),
	STEP("the trust anchor is noted", set_anchor),
	STEP("name and password are", set_credentials),
	STEP("a version is forgiven", reset_version),
	STEP("a refresh fails", tried_in_vain),
	STEP("an event is due", next_delivery),
	STEP("an event is found", find_event),
	STEP("its handler does not take it", delivery_failed),
	STEP("it is sent again", replay),
	STEP("its handler takes it", delivery_done),
	STEP("other handlers are set", set_other_handlers),
	STEP("a command's handler comes", use_handler),
	STEP("it is used again", use_handler),
	STEP("it is told of a run", tell_process),
	STEP("handlers are seen", see_handlers),
	STEP("what nobody waits for goes", prune_events),
	STEP("what is withdrawn is purged", evicted_a),
	STEP("an image is evicted", evicted_c),
	STEP("what leaves is listed", leaving),
	STEP("it has left", left_c),
	STEP("a file is gone", lost_f),
	STEP("what is here in part is given up", abandoned_e),
	STEP("a version that waits is replaced", apply_held),
	STEP("an image is past its date", expire_by_date, .quiet = true),
	STEP("a signer is distrusted", distrust_signer),
	STEP("the signer of a list is", distrust_list),
	STEP("a credential is removed", remove_credential),
	STEP("an endorser of blocks is", remove_carol),
	STEP("an endorser is unlinked", unlink_first),
	STEP("lists are past their dates", expire_all, .quiet = true),
	STEP("an endorser is removed", remove_alice),
	STEP("a list is unsubscribed", unsubscribe),
	STEP("old versions are forgotten", prune_expired),
};

static void
each_call_fails(void **state)
{
	struct life l = { .f = *state };

	fault_unsynced();
	for (size_t i = 0; i < sizeof(life) / sizeof(life[0]); i++) {
		if (!life[i].alone)
			run_inside(&l, &life[i]);
		run_step(&l, &life[i]);
	}
}

/* ---- opening --------------------------------------------------------------------------------- */

static void
remove_from_state(struct fixture *f, const char *name)
{
	CLEANUP_FREE char *path = xasprintf("%s/%s", f->conf.state_dir, name);

	if (unlink(path) != 0 && errno != ENOENT)
		fail_msg("%s: %s", path, strerror(errno));
}

static void
lose_database(struct fixture *f)
{
	remove_from_state(f, "catalogue.db");
	remove_from_state(f, "catalogue.db-wal");
	remove_from_state(f, "catalogue.db-shm");
}

static void
lose_all(struct fixture *f)
{
	remove_tree(f->conf.state_dir);
}

static void
lose_decisions(struct fixture *f)
{
	remove_from_state(f, "site.json");
}

static void
lose_nothing(struct fixture *f)
{
	(void)f;
}

struct opening {
	unsigned flags;
	void (*lose)(struct fixture *f);
	const char *image_is; /* afterwards; NULL: there is none */
	long step;			/* which calls: every so many, with VMI_LONG all */
};

/* A message that cannot be read while all is rebuilt is as one that is damaged: fetched again. */
static void
assert_found(struct fixture *f, const char *image_is)
{
	struct subscription_row row;
	enum subscription_state state;

	assert_int_equal(catalogue_subscription_find(f->c, LIST, &row, &f->err), 0);
	state = row.state;
	if (state == SUB_NEW)
		publish(f, row.id, "1",
			ENTRIES(IMG("a", "1", 'a', .verity = '1'), IMG("b", "1", 'b')));
	subscription_row_release(&row);
	if (state == SUB_NEW && f->objects_good)
		store_content(f, 'a');
	assert_image(f, "a", image_is);
}

/* What was lost is there again after it was opened, if not with the Nth call failing then without.
 */
static void
open_with_faults(struct fixture *f, const struct opening *o)
{
	const long step = getenv("VMI_LONG") != NULL ? 1 : o->step;
	bool struck = true;

	fault_unsynced();
	for (long n = 1; struck; n += step) {
		int rc;

		assert_true(n < 5000);
		catalogue_close(f->c);
		f->c = NULL;
		o->lose(f);
		fault_begin(CALLS, n, EIO);
		rc = fixture_open(f, o->flags);
		struck = fault_end();
		if (rc != 0 && f->err.text[0] == '\0')
			fail_msg("call %ld (%s) fails, and nothing is said", n, fault_name());
		if (rc != 0 && fixture_open(f, o->flags) != 0)
			fail_msg("after call %ld (%s) failed: %s", n, fault_name(), f->err.text);
		if (strstr(buf_str(&f->said), "damaged") != NULL)
			fail_msg("call %ld (%s) is taken for damage: %s", n, fault_name(),
				 buf_str(&f->said));
		if (o->image_is != NULL)
			assert_found(f, o->image_is);
	}
}

static void
make_site(struct fixture *f)
{
	int64_t sub = subscribe(f, LIST, SELECT_NONE);

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1'), IMG("b", "1", 'b')));
	select_image(f, "a", true);
	store_content(f, 'a');
	f->objects_good = true;
}

static void
made_with_faults(void **state)
{
	open_with_faults(*state, &(struct opening){ CATALOGUE_CREATE, lose_all, NULL, 3 });
}

static void
opened_with_faults(void **state)
{
	make_site(*state);
	open_with_faults(*state, &(struct opening){ 0, lose_nothing, "live selected 1", 1 });
}

static void
checked_with_faults(void **state)
{
	make_site(*state);
	open_with_faults(*state, &(struct opening){ CATALOGUE_CHECK | CATALOGUE_CREATE,
						    lose_nothing, "live selected 1", 11 });
}

static void
decisions_with_faults(void **state)
{
	make_site(*state);
	open_with_faults(*state, &(struct opening){ 0, lose_decisions, "live selected 1", 1 });
}

static void
rebuilt_with_faults(void **state)
{
	make_site(*state);
	open_with_faults(*state,
			 &(struct opening){ CATALOGUE_CHECK, lose_database, "live selected 1", 7 });
}

#define TEST(title, function) \
	{ \
		.name = title, .test_func = function, .setup_func = fixture_setup, \
		.teardown_func = fixture_teardown \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("B34 whichever call fails, a change is done as a whole or not, and it is said",
		     each_call_fails),
		TEST("B34 a catalogue is made, if not while a call fails then the next time",
		     made_with_faults),
		TEST("B34 one that is there is opened, or is not, and stays as it is",
		     opened_with_faults),
		TEST("B34 one that cannot be read while it is checked is not taken for damaged",
		     checked_with_faults),
		TEST("B34 site.json is written anew, or is the next time", decisions_with_faults),
		TEST("B34 B19 one that was lost is rebuilt, or is the next time",
		     rebuilt_with_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
