/*
 * Stored messages judged anew: who is distrusted, what stays as it is because nobody could tell,
 * what comes back.  The verifier is one of ours here, which says of every message what it was told
 * to say.
 */
#include "config.h"
#include "verdictbed.h"

#include <sqlite3.h>
#include "core/catalogue_impl.h"
#include "core/cleanup.h"
#include "core/io.h"
#include "core/listjudge.h"
#include "core/recheck.h"
#include "tests/lib/callfaults.h"

struct bed {
	struct fixture *f;
	struct refresh r;
	char *certs;
	int64_t sub;
	struct err err;
	int changed;
};

/* Image a of a list that Alice has signed, stored. */
static int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));

	memset(&verdict, 0, sizeof(verdict));
	verdict.signer = ALICE;
	verdict.only = "\"hv:version\":\"1\"";
	verdict.other = BOB;
	b->f = fixture_new();
	b->certs = xasprintf("%s/certificates", b->f->dir);
	if (mkdir(b->certs, 0755) != 0)
		return -1;
	b->f->conf.cert_dir = b->certs;
	b->r = (struct refresh){ .conf = &b->f->conf, .catalogue = b->f->c, .say = say,
				 .arg = b->f };
	b->sub = subscribe(b->f, LIST, SELECT_ALL);
	publish(b->f, b->sub, "1", ENTRIES(IMG("a", "1", 'a')));
	store_content(b->f, 'a');
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	fixture_free(b->f);
	free(b->certs);
	free(b);
	return 0;
}

static int
recheck(struct bed *b, enum recheck_scope scope)
{
	err_clear(&b->err);
	buf_clear(&b->f->said);
	return recheck_lists(&b->r, scope, &b->changed, &b->err);
}

static void
assert_rechecked(struct bed *b, enum recheck_scope scope, int changed)
{
	if (recheck(b, scope) != 0)
		fail_msg("%s", b->err.text);
	assert_int_equal(b->changed, changed);
}

static void
change_trust(struct bed *b)
{
	CLEANUP_FREE char *path = xasprintf("%s/12345678.0", b->certs);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
}

/* ---- what distrusts -------------------------------------------------------------------------- */

static void
revoked(void **state)
{
	struct bed *b = *state;

	verdict.code = CODE_SIGNATURE;
	verdict.revoked = true;
	assert_rechecked(b, RECHECK_ALL, 1);
	assert_state(b->f, b->sub, SUB_DISTRUSTED);
	assert_image(b->f, "a", "away selected 1");
	assert_rechecked(b, RECHECK_ALL, 0);
	verdict.code = CODE_NONE;
	assert_rechecked(b, RECHECK_DISTRUSTED, 1);
	assert_state(b->f, b->sub, SUB_OK);
	assert_image(b->f, "a", "live selected 1");
	assert_rechecked(b, RECHECK_DISTRUSTED, 0);
}

static void
not_linked(void **state)
{
	struct bed *b = *state;

	assert_int_equal(sqlite3_exec(b->f->c->db, "DELETE FROM link", NULL, NULL, NULL),
			 SQLITE_OK);
	assert_rechecked(b, RECHECK_ALL, 1);
	assert_state(b->f, b->sub, SUB_DISTRUSTED);
}

static void
message_lost(void **state)
{
	struct bed *b = *state;
	CLEANUP_FREE char *dir = xasprintf("%s/messages", b->f->conf.state_dir);

	remove_tree(dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_rechecked(b, RECHECK_ALL, 1);
	assert_state(b->f, b->sub, SUB_DISTRUSTED);
}

static int
append_newline(const char *path, const struct stat *st, int type, struct FTW *where)
{
	int fd;

	(void)st;
	(void)where;
	if (type != FTW_F)
		return 0;
	if (chmod(path, 0600) != 0)
		return -1;
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "\n", 1), 1);
	close(fd);
	return 0;
}

/* A verifier would have nothing against this one: what was accepted was another. */
static void
message_exchanged(void **state)
{
	struct bed *b = *state;
	CLEANUP_FREE char *dir = xasprintf("%s/messages", b->f->conf.state_dir);

	assert_int_equal(nftw(dir, append_newline, 16, FTW_PHYS), 0);
	assert_rechecked(b, RECHECK_ALL, 1);
	assert_state(b->f, b->sub, SUB_DISTRUSTED);
	assert_int_equal(verdict.n, 0);
}

static void
strict_about_crls(void **state)
{
	struct bed *b = *state;

	verdict.code = CODE_CRL;
	assert_rechecked(b, RECHECK_ALL, 0);
	assert_state(b->f, b->sub, SUB_OK);
	b->f->conf.crl_strict = true;
	assert_rechecked(b, RECHECK_IF_CHANGED, 1);
	assert_state(b->f, b->sub, SUB_DISTRUSTED);
}

/* ---- what does not --------------------------------------------------------------------------- */

static void
refused_now(void **state)
{
	struct bed *b = *state;

	verdict.code = CODE_SIGNATURE;
	assert_rechecked(b, RECHECK_ALL, 0);
	assert_non_null(strstr(buf_str(&b->f->said), "its images stay"));
	verdict.code = CODE_NONE;
	verdict.weak = true;
	assert_rechecked(b, RECHECK_ALL, 0);
	assert_state(b->f, b->sub, SUB_OK);
	assert_image(b->f, "a", "live selected 1");
}

static void
publish_next(void *arg)
{
	struct bed *b = arg;

	publish(b->f, b->sub, "2", ENTRIES(IMG("a", "2", 'a')));
}

/* Another process applies a newer list while the stored one is judged. */
static void
newer_meanwhile(void **state)
{
	struct bed *b = *state;

	verdict.code = CODE_SIGNATURE;
	verdict.revoked = true;
	verdict.meanwhile = publish_next;
	verdict.arg = b;
	change_trust(b);
	assert_rechecked(b, RECHECK_IF_CHANGED, 0);
	assert_state(b->f, b->sub, SUB_OK);
	assert_image(b->f, "a", "live selected 2");
	verdict.meanwhile = NULL;
	verdict.n = 0;
	assert_rechecked(b, RECHECK_IF_CHANGED, 0);
	assert_true(verdict.n > 0);
}

/* What was distrusted came back by itself; the older version must not come after it. */
static void
newer_meanwhile_is_not_undone(void **state)
{
	struct bed *b = *state;

	revoked(state);
	verdict.code = CODE_SIGNATURE;
	assert_rechecked(b, RECHECK_ALL, 1);
	assert_state(b->f, b->sub, SUB_DISTRUSTED);
	verdict.code = CODE_NONE;
	verdict.meanwhile = publish_next;
	verdict.arg = b;
	assert_int_not_equal(recheck(b, RECHECK_DISTRUSTED), 0);
	assert_int_equal(b->err.code, CODE_BUSY);
	assert_state(b->f, b->sub, SUB_OK);
	assert_image(b->f, "a", "live selected 2");
}

static void
no_verdict(void **state)
{
	struct bed *b = *state;

	verdict.none = EAGAIN;
	assert_int_not_equal(recheck(b, RECHECK_IF_CHANGED), 0);
	assert_int_equal(b->err.code, CODE_BUSY);
	assert_state(b->f, b->sub, SUB_OK);
	verdict.none = 0;
	verdict.n = 0;
	assert_rechecked(b, RECHECK_IF_CHANGED, 0);
	assert_int_equal(verdict.n, 1);
}

static void
asked_when_trust_changes(void **state)
{
	struct bed *b = *state;

	assert_rechecked(b, RECHECK_IF_CHANGED, 0);
	assert_int_equal(verdict.n, 1);
	assert_rechecked(b, RECHECK_IF_CHANGED, 0);
	assert_int_equal(verdict.n, 1);
	change_trust(b);
	assert_rechecked(b, RECHECK_IF_CHANGED, 0);
	assert_int_equal(verdict.n, 2);
	rmdir(b->certs);
}

static void
dry_run(void **state)
{
	struct bed *b = *state;

	b->r.dry_run = true;
	verdict.code = CODE_SIGNATURE;
	verdict.revoked = true;
	assert_rechecked(b, RECHECK_ALL, 0);
	assert_non_null(strstr(buf_str(&b->f->said), "no longer trusted"));
	assert_state(b->f, b->sub, SUB_OK);
	b->r.dry_run = false;
	assert_rechecked(b, RECHECK_ALL, 1);
	b->r.dry_run = true;
	verdict.code = CODE_NONE;
	assert_rechecked(b, RECHECK_DISTRUSTED, 0);
	assert_non_null(strstr(buf_str(&b->f->said), "trusted again"));
	assert_state(b->f, b->sub, SUB_DISTRUSTED);
}

static void
judgements(void **state)
{
	static const enum code told[] = { CODE_NOT_LINKED, CODE_WEAK, CODE_SIGNATURE };
	static const enum code open[] = { CODE_NONE, CODE_DATABASE, CODE_BUSY, CODE_LIMIT };

	(void)state;
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++)
		assert_true(list_judge_told(&(struct err){ .code = told[i] }));
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		assert_false(list_judge_told(&(struct err){ .code = open[i] }));
}

/* ---- versions of before ---------------------------------------------------------------------- */

/* What Alice signed was replaced by what Bob did, and is kept. */
static void
replace_by_bob(struct bed *b)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct imagelist *list = NULL;
	struct subscription_row row;
	struct verdict v;

	assert_int_equal(catalogue_endorser_add(b->f->c, "bob", BOB, CA, false, false, &b->err), 0);
	assert_int_equal(catalogue_link(b->f->c, "bob", b->sub, &b->err), 0);
	verdict_init(&v);
	v.subject = xstrdup(BOB);
	v.issuer = xstrdup(CA);
	list_text(&text, LIST, "2", NOW - 1000, (int64_t)NOW + 100LL * 365 * 86400,
		  ENTRIES(IMG("a", "2", 'b')));
	buf_add(&v.payload, text.data, text.len);
	assert_int_equal(catalogue_subscription_by_id(b->f->c, b->sub, &row, &b->err), 0);
	assert_int_equal(imagelist_parse(text.data, text.len, NULL, &list, &b->err), 0);
	assert_int_equal(catalogue_apply_list(b->f->c, &row, list, &v, text.data, text.len, NOW,
					      &b->f->result, &b->err),
			 0);
	imagelist_free(list);
	verdict_release(&v);
	subscription_row_release(&row);
	store_content(b->f, 'b');
	assert_expired(b->f, "a replaced");
}

static void
earlier_signer_revoked(void **state)
{
	struct bed *b = *state;

	replace_by_bob(b);
	verdict.code = CODE_SIGNATURE;
	assert_rechecked(b, RECHECK_ALL, 0);
	verdict.revoked = true;
	b->r.dry_run = true;
	assert_rechecked(b, RECHECK_ALL, 0);
	assert_expired(b->f, "a replaced");
	b->r.dry_run = false;
	assert_rechecked(b, RECHECK_ALL, 1);
	assert_state(b->f, b->sub, SUB_OK);
	assert_expired(b->f, "a replaced distrusted");
	assert_rechecked(b, RECHECK_ALL, 0);
}

/* ---- audit ----------------------------------------------------------------------------------- */

static int
audit(struct bed *b, bool repair)
{
	struct subscription_row row;
	int rc;

	err_clear(&b->err);
	buf_clear(&b->f->said);
	assert_int_equal(catalogue_subscription_by_id(b->f->c, b->sub, &row, &b->err), 0);
	rc = recheck_audit(&b->r, &row, repair, &b->err);
	subscription_row_release(&row);
	return rc;
}

static void
audited(void **state)
{
	struct bed *b = *state;

	assert_int_equal(audit(b, true), 0);
	assert_int_equal(sqlite3_exec(b->f->c->db, "UPDATE image SET live = 0", NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_not_equal(audit(b, false), 0);
	assert_int_equal(b->err.code, CODE_CORRUPT);
	assert_image(b->f, "a", "away selected 1");
	assert_int_not_equal(audit(b, true), 0);
	assert_image(b->f, "a", "live selected 1");
	assert_int_equal(audit(b, true), 0);
	verdict.code = CODE_SIGNATURE;
	assert_int_not_equal(audit(b, true), 0);
	assert_int_equal(b->err.code, CODE_SIGNATURE);
}

static void
audit_of_another_list(void **state)
{
	struct bed *b = *state;

	assert_int_equal(sqlite3_exec(b->f->c->db, "UPDATE subscription SET list_id = 'other'",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_not_equal(audit(b, true), 0);
	assert_int_equal(b->err.code, CODE_CORRUPT);
	assert_non_null(strstr(b->err.text, "is of list"));
}

static void
audit_of_nobodys_list(void **state)
{
	struct bed *b = *state;

	assert_int_equal(sqlite3_exec(b->f->c->db, "DELETE FROM link", NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_not_equal(audit(b, true), 0);
	assert_int_equal(b->err.code, CODE_NOT_LINKED);
	assert_non_null(strstr(buf_str(&b->f->said), "cannot be repaired"));
}

/* ---- with each call failing ------------------------------------------------------------------ */

/* Nothing that could not be read distrusts anybody, and the question stays open. */
static void
good_with_faults(void **state)
{
	struct bed *b = *state;
	bool struck = true;

	fault_unsynced();
	for (long n = 1; struck; n++) {
		bool untold;
		int rc;

		change_trust(b);
		fault_begin(FAULT_FILES | FAULT_SQLITE, n, EIO);
		rc = recheck(b, RECHECK_IF_CHANGED);
		struck = fault_end();
		if (rc != 0 && (!struck || b->err.text[0] == '\0'))
			fail_msg("call %ld (%s): '%s'", n, fault_name(), b->err.text);
		untold = rc != 0 || strstr(buf_str(&b->f->said), "its images stay") != NULL;
		assert_state(b->f, b->sub, SUB_OK);
		assert_image(b->f, "a", "live selected 1");
		verdict.n = 0;
		assert_rechecked(b, RECHECK_IF_CHANGED, 0);
		if (untold && verdict.n == 0)
			fail_msg("call %ld (%s) fails, and nobody asks again", n, fault_name());
	}
}

static void
revoked_with_faults(void **state)
{
	struct bed *b = *state;
	bool struck = true;

	fault_unsynced();
	verdict.revoked = true;
	for (long n = 1; struck; n++) {
		int rc;

		change_trust(b);
		verdict.code = CODE_SIGNATURE;
		fault_begin(FAULT_FILES | FAULT_SQLITE, n, EIO);
		rc = recheck(b, RECHECK_IF_CHANGED);
		struck = fault_end();
		if (rc != 0 && (!struck || b->err.text[0] == '\0'))
			fail_msg("call %ld (%s): '%s'", n, fault_name(), b->err.text);
		if (recheck(b, RECHECK_IF_CHANGED) != 0)
			fail_msg("after call %ld (%s): %s", n, fault_name(), b->err.text);
		assert_state(b->f, b->sub, SUB_DISTRUSTED);
		verdict.code = CODE_NONE;
		assert_rechecked(b, RECHECK_DISTRUSTED, 1);
		assert_state(b->f, b->sub, SUB_OK);
	}
}

#define TEST(title, function) \
	{ \
		.name = title, .test_func = function, .setup_func = setup, \
		.teardown_func = teardown \
	}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("a list whose signer is revoked is withdrawn, and comes back with him",
		     revoked),
		TEST("so is one whose signer is linked no longer", not_linked),
		TEST("and one whose message is lost", message_lost),
		TEST("B24 or is another one, though that is signed, too", message_exchanged),
		TEST("one whose CRL is missing is, where CRLs are taken strictly",
		     strict_about_crls),
		TEST("one that would be refused today for another reason stays", refused_now),
		TEST("what an older message is worth now says nothing of a newer list",
		     newer_meanwhile),
		TEST("an older message that is trusted again does not replace a newer list",
		     newer_meanwhile_is_not_undone),
		TEST("one that nobody can judge stays, and is asked for again", no_verdict),
		TEST("what nobody could tell is no judgement", judgements),
		TEST("nobody is asked while the trusted CAs are the same",
		     asked_when_trust_changes),
		TEST("a dry run says what it would do", dry_run),
		TEST("versions of a signer who is revoked are distrusted, the list stays",
		     earlier_signer_revoked),
		TEST("rows that are not what was signed are found, and mended", audited),
		TEST("a message of another list is none of this one", audit_of_another_list),
		TEST("what nobody may sign is not mended", audit_of_nobodys_list),
		TEST("B34 what cannot be read distrusts nobody, and is asked again",
		     good_with_faults),
		TEST("B34 who is revoked is distrusted, if not at once then the next time",
		     revoked_with_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
