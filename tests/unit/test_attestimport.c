/*
 * Signed block digests brought in by hand and judged again.  The verifier is one of ours here,
 * which says of every message what it was told to say.
 */
#include "config.h"
#include "attestbed.h"
#include "verdictbed.h"

#include "core/attestimport.h"
#include "core/recheck.h"
#include "tests/lib/callfaults.h"

struct bed {
	struct fixture *f;
	struct refresh r;
	struct buf message; /* image a has the tree b */
	struct err err;
	bool unknown;
	int changed;
};

static int
setup(void **state)
{
	struct bed *b = xcalloc(1, sizeof(*b));
	struct fixture *f = fixture_new();

	memset(&verdict, 0, sizeof(verdict));
	verdict.signer = SITE;
	b->f = f;
	b->r = (struct refresh){ .conf = &f->conf, .catalogue = f->c, .say = say, .arg = b->f };
	OK(catalogue_endorser_add_blocks_only(f->c, "site", SITE, CA, false, false, &f->err));
	publish(f, subscribe(f, LIST, SELECT_ALL), "1",
		ENTRIES(IMG("a", "1", 'a'), IMG("c", "1", 'c', .verity = 'd')));
	claims_text(&b->message, CLAIMS(SAYS('a', 'b')));
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	fixture_free(b->f);
	buf_release(&b->message);
	free(b);
	return 0;
}

static int
bring(struct bed *b, const struct buf *message, bool *same)
{
	struct attestation_result result;
	CLEANUP_FREE char *endorser = NULL;
	int rc;

	err_clear(&b->err);
	rc = attestimport_message(&b->r, message->data, message->len, &result, &endorser, &b->err);
	if (same != NULL)
		*same = result.same;
	if (rc == 0 && !result.same)
		assert_string_equal(endorser, "site");
	return rc;
}

static void
assert_brought(struct bed *b)
{
	if (bring(b, &b->message, NULL) != 0)
		fail_msg("%s", b->err.text);
	assert_blocks(b->f, 'a', "rb");
}

static void
assert_judged(struct bed *b, bool lost_only, int changed, const char *blocks)
{
	b->unknown = false;
	b->changed = 0;
	err_clear(&b->err);
	buf_clear(&b->f->said);
	if (attestimport_recheck(&b->r, lost_only, true, &b->unknown, &b->changed, &b->err) != 0)
		fail_msg("%s", b->err.text);
	assert_int_equal(b->changed, changed);
	assert_blocks(b->f, 'a', blocks);
}

/* ---- bringing in ----------------------------------------------------------------------------- */

static void
brought_in(void **state)
{
	struct bed *b = *state;
	bool same;

	assert_brought(b);
	assert_int_equal(bring(b, &b->message, &same), 0);
	assert_true(same);
}

static void
refused(void **state)
{
	struct bed *b = *state;
	CLEANUP_BUF struct buf other = BUF_INIT;

	verdict.code = CODE_SIGNATURE;
	assert_int_not_equal(bring(b, &b->message, NULL), 0);
	assert_int_equal(b->err.code, CODE_SIGNATURE);
	verdict.code = CODE_NONE;
	verdict.signer = BOB;
	assert_int_not_equal(bring(b, &b->message, NULL), 0);
	assert_int_equal(b->err.code, CODE_NOT_LINKED);
	verdict.signer = SITE;
	verdict.weak = true;
	assert_int_not_equal(bring(b, &b->message, NULL), 0);
	assert_int_equal(b->err.code, CODE_WEAK);
	verdict.weak = false;
	buf_puts(&other, "{\"hv:imagelist\": {}}");
	assert_int_not_equal(bring(b, &other, NULL), 0);
	assert_int_equal(b->err.code, CODE_NOT_LIST);
	assert_blocks(b->f, 'a', "-");
}

static void
refused_entries_are_told(void **state)
{
	struct bed *b = *state;
	CLEANUP_BUF struct buf some = BUF_INIT;

	claims_text(&some, CLAIMS(SAYS('a', 'b'), SAYS('c', 'd', .size = 1)));
	assert_int_equal(bring(b, &some, NULL), 0);
	assert_non_null(strstr(buf_str(&b->f->said), "image 'of-c': code 41"));
	assert_blocks(b->f, 'a', "rb");
}

static void
contradictions_are_told(void **state)
{
	struct bed *b = *state;
	CLEANUP_BUF struct buf other = BUF_INIT;

	claims_text(&other, CLAIMS(SAYS('c', 'e')));
	assert_int_equal(bring(b, &other, NULL), 0);
	assert_non_null(strstr(buf_str(&b->f->said), "several block digests are signed for it"));
	assert_blocks(b->f, 'c', "-");
}

/* ---- judging again --------------------------------------------------------------------------- */

static void
revoked_and_back(void **state)
{
	struct bed *b = *state;

	assert_brought(b);
	assert_judged(b, false, 0, "rb");
	verdict.code = CODE_SIGNATURE;
	verdict.revoked = true;
	b->r.dry_run = true;
	assert_judged(b, false, 0, "rb");
	b->r.dry_run = false;
	assert_judged(b, false, 1, "-");
	assert_non_null(strstr(buf_str(&b->f->said), "no longer trusted"));
	assert_judged(b, true, 0, "-");
	verdict.code = CODE_NONE;
	verdict.revoked = false;
	assert_judged(b, true, 1, "rb");
	assert_non_null(strstr(buf_str(&b->f->said), "trusted again"));
	assert_judged(b, true, 0, "rb");
}

static void
another_reason(void **state)
{
	struct bed *b = *state;

	assert_brought(b);
	verdict.code = CODE_CRL;
	assert_judged(b, false, 0, "rb");
	assert_non_null(strstr(buf_str(&b->f->said), "they stay:"));
	assert_false(b->unknown);
	b->f->conf.crl_strict = true;
	assert_judged(b, false, 1, "-");
	verdict.code = CODE_SIGNATURE;
	assert_judged(b, false, 0, "-");
	assert_non_null(strstr(buf_str(&b->f->said), "they stay distrusted"));
	verdict.code = CODE_NONE;
	verdict.weak = true;
	assert_judged(b, false, 0, "-");
	assert_false(b->unknown);
	verdict.signer = BOB;
	assert_judged(b, false, 0, "-");
}

static void
no_verdict(void **state)
{
	struct bed *b = *state;

	assert_brought(b);
	verdict.none = EAGAIN;
	assert_judged(b, false, 0, "rb");
	assert_true(b->unknown);
}

static void
message_lost(void **state)
{
	struct bed *b = *state;
	CLEANUP_FREE char *dir = xasprintf("%s/messages", b->f->conf.state_dir);

	assert_brought(b);
	remove_tree(dir);
	assert_judged(b, false, 1, "-");
}

/* ---- with each call failing ------------------------------------------------------------------ */

static void
brought_with_faults(void **state)
{
	struct bed *b = *state;
	bool struck = true;

	fault_unsynced();
	for (long n = 1; struck; n++) {
		CLEANUP_BUF struct buf message = BUF_INIT;
		char verity = n % 2 == 0 ? 'b' : 'e';
		int rc;

		claims_text(&message, CLAIMS(SAYS('a', verity)));
		fault_begin(FAULT_FILES | FAULT_SQLITE, n, EIO);
		rc = bring(b, &message, NULL);
		struck = fault_end();
		if (rc != 0 &&
		    (!struck || b->err.text[0] == '\0' || b->err.code == CODE_NOT_LINKED))
			fail_msg("call %ld (%s): %d '%s'", n, fault_name(), (int)b->err.code,
				 b->err.text);
		if (bring(b, &message, NULL) != 0)
			fail_msg("after call %ld (%s): %s", n, fault_name(), b->err.text);
		assert_blocks(b->f, 'a', verity == 'b' ? "rb" : "re");
	}
}

/* Nothing that could not be read distrusts anybody, and the question stays open. */
static void
judged_with_faults(void **state)
{
	struct bed *b = *state;
	bool struck = true;

	fault_unsynced();
	assert_brought(b);
	for (long n = 1; struck; n++) {
		int rc;

		b->unknown = false;
		b->changed = 0;
		err_clear(&b->err);
		buf_clear(&b->f->said);
		fault_begin(FAULT_FILES | FAULT_SQLITE, n, EIO);
		rc = attestimport_recheck(&b->r, false, true, &b->unknown, &b->changed, &b->err);
		struck = fault_end();
		if (struck && rc == 0 && !b->unknown && b->f->said.len > 0)
			fail_msg("call %ld (%s): %s", n, fault_name(), buf_str(&b->f->said));
		assert_int_equal(b->changed, 0);
		assert_blocks(b->f, 'a', "rb");
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
		TEST("signed block digests are brought in, once", brought_in),
		TEST("those that are not signed, or not by who may, are refused", refused),
		TEST("entries that are refused are told", refused_entries_are_told),
		TEST("so are images for which several digests are signed", contradictions_are_told),
		TEST("what a revoked key signed counts no longer, and counts again",
		     revoked_and_back),
		TEST("what would be refused today for another reason stays", another_reason),
		TEST("what nobody can judge stays, and is asked for again", no_verdict),
		TEST("a message that is lost counts no longer", message_lost),
		TEST("B34 they are brought in, if not at once then the next time",
		     brought_with_faults),
		TEST("B34 what cannot be read distrusts nobody, and is asked again",
		     judged_with_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
