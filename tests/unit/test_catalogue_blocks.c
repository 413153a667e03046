/*
 * Block digests in the catalogue: which root an object has, what is known of its tree, who may
 * attest, and a database of the version before, which knew nothing of all that.
 */
#include "config.h"
#include "sitefixture.h"

#include "core/attestation.h"
#include "core/cleanup.h"
#include "core/jsonw.h"
#include "core/limits.h"
#include "core/listjudge.h"
#include "oldstate.h"

#define SITE "/DC=org/DC=example/CN=Site key"

/* ---- what a row says ------------------------------------------------------------------------- */

static struct object_row
object(struct fixture *f, char letter)
{
	struct digest d = content(letter);
	struct object_row r;

	if (catalogue_object_get(f->c, &d, &r, &f->err) != 0)
		fail_msg("%s", f->err.text);
	return r;
}

/* "r" and the root's letter, "t" and the tree's, as "rb tb"; "-" if there is neither. */
static void
assert_blocks(struct fixture *f, char letter, const char *expected)
{
	struct object_row r = object(f, letter);
	char root[DIGEST_HEX + 1], tree[DIGEST_HEX + 1], text[8] = "-";

	digest_hex(&r.root, root);
	digest_hex(&r.tree, tree);
	if (r.has_root && r.has_tree)
		snprintf(text, sizeof(text), "r%c t%c", root[0], tree[0]);
	else if (r.has_root || r.has_tree)
		snprintf(text, sizeof(text), "%c%c", r.has_root ? 'r' : 't',
			 r.has_root ? root[0] : tree[0]);
	assert_string_equal(text, expected);
	object_row_release(&r);
}

/* Whether a list itself has signed the root. */
static void
assert_listed(struct fixture *f, char letter, bool expected)
{
	struct object_row r = object(f, letter);

	assert_int_equal(r.root_listed, expected);
	object_row_release(&r);
}

static int64_t
object_rev(struct fixture *f, char letter)
{
	struct object_row r = object(f, letter);
	int64_t rev = r.rev;

	object_row_release(&r);
	return rev;
}

static int64_t
image_rev(struct fixture *f, const char *identifier)
{
	struct image_row r = image(f, identifier);
	int64_t rev = r.rev;

	image_row_release(&r);
	return rev;
}

static void
assert_error(struct fixture *f, char letter, const char *expected)
{
	struct object_row r = object(f, letter);

	assert_string_equal(object_row_error(&r), expected);
	object_row_release(&r);
}

static int
add_sidecar(void *arg, const char *uri, const char *list_id)
{
	buf_printf(arg, "%s%s %c", ((struct buf *)arg)->len > 0 ? ", " : "", uri, list_id[0]);
	return 0;
}

/* The addresses, each with the first letter of the list whose CA is asked. */
static void
assert_sidecars(struct fixture *f, char letter, const char *expected)
{
	struct digest d = content(letter);
	struct buf b = BUF_INIT;

	assert_int_equal(catalogue_object_sidecars(f->c, &d, add_sidecar, &b, &f->err), 0);
	assert_string_equal(buf_str(&b), expected);
	buf_release(&b);
}

static int
count_one(void *arg, const struct digest *d)
{
	(void)d;
	++*(int *)arg;
	return 0;
}

static void
assert_n_disagreeing(struct fixture *f, int expected)
{
	int n = 0;

	assert_int_equal(catalogue_object_disagreeing(f->c, count_one, &n, &f->err), 0);
	assert_int_equal(n, expected);
}

#define OK(call) \
	do { \
		if ((call) != 0) \
			fail_msg("%s", f->err.text); \
	} while (0)

/* ---- making attestations --------------------------------------------------------------------- */

struct claim {
	char content, verity;
	int size;			/* 0: the one of the lists made here */
	const char *uri;		/* NULL: none */
};

#define SAYS(c, v, ...) { .content = c, .verity = v, ##__VA_ARGS__ }
#define CLAIMS(...) ((const struct claim[]){ __VA_ARGS__, { .content = 0 } })

static void
claims_text(struct buf *out, const struct claim *k)
{
	struct jsonw w;

	jsonw_begin(&w, out, true);
	jsonw_open(&w, NULL, '[');
	for (; k->content != 0; k++) {
		struct attestation_entry e = { .identifier = xasprintf("of-%c", k->content),
					       .sha512 = content(k->content),
					       .verity = content(k->verity),
					       .size = k->size != 0 ? k->size : 1000 + k->content,
					       .uri = xstrdup(k->uri) };

		attestation_write(&w, &e);
		free(e.identifier);
		free(e.uri);
	}
	jsonw_close(&w, ']');
}

static void
note_refused(void *arg, const char *identifier, enum code code, const char *why)
{
	struct fixture *f = arg;

	(void)why;
	buf_printf(&f->said, "%s %d\n", identifier, (int)code);
}

/* As if the verifier had found the message signed by subject. */
static int
attest_from(struct fixture *f, const char *subject, const char *url, const struct claim *claims)
{
	struct attestation_origin origin = { .url = url, .list_id = "", .refused = note_refused,
					     .arg = f };
	struct attestation_result result;
	struct attestation *list = NULL;
	CLEANUP_FREE char *endorser = NULL;
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct verdict v;
	int rc;

	err_clear(&f->err);
	verdict_init(&v);
	v.subject = xstrdup(subject);
	v.issuer = xstrdup(CA);
	claims_text(&text, claims);
	buf_add(&v.payload, text.data, text.len);
	rc = list_judge_attester(f->c, &v, &endorser, &f->err);
	if (rc == 0)
		rc = attestation_parse(text.data, text.len, NULL, &list, &f->err);
	if (rc == 0)
		rc = catalogue_attestation_add(f->c, list, &v, endorser, text.data, text.len,
					       &origin, NOW, &result, &f->err);
	attestation_free(list);
	verdict_release(&v);
	return rc;
}

static int
attest(struct fixture *f, const char *subject, const struct claim *claims)
{
	return attest_from(f, subject, "", claims);
}

static void
register_site(struct fixture *f)
{
	OK(catalogue_endorser_add_blocks_only(f->c, "site", SITE, CA, false, false, &f->err));
}

static int
count_attestation(void *arg, const struct attestation_row *r)
{
	((int *)arg)[r->trusted]++;
	return 0;
}

/* How many stored messages count, and how many do not. */
static void
assert_attestations(struct fixture *f, int trusted, int distrusted)
{
	int n[2] = { 0, 0 };

	assert_int_equal(catalogue_attestation_each(f->c, count_attestation, n, &f->err), 0);
	assert_int_equal(n[1], trusted);
	assert_int_equal(n[0], distrusted);
}

/* ---- roots ----------------------------------------------------------------------------------- */

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

/* ---- an object's life ------------------------------------------------------------------------ */

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

/* ---- who may attest -------------------------------------------------------------------------- */

static void
blocks_only_attests_any_image(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL), rev, of_image;

	register_site(f);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	rev = object_rev(f, 'a');
	of_image = image_rev(f, "a");
	OK(attest(f, SITE, CLAIMS(SAYS('a', '1'), SAYS('c', '3'))));
	assert_blocks(f, 'a', "r1");
	/* It takes no image away that is here. */
	assert_listed(f, 'a', false);
	assert_sidecars(f, 'a', "https://example.org/a-1.img.fsv 0");
	assert_true(object_rev(f, 'a') > rev && image_rev(f, "a") > of_image);
	/* What was attested before a list named it. */
	publish(f, sub, "2", ENTRIES(IMG("a", "1", 'a'), IMG("c", "1", 'c')));
	assert_blocks(f, 'c', "r3");
}

static void
blocks_only_does_nothing_else(void **state)
{
	struct fixture *f = *state;
	struct verdict v = { .subject = (char[]){ SITE }, .issuer = (char[]){ CA } };
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	char *name = NULL;

	register_site(f);
	assert_int_not_equal(catalogue_link(f->c, "site", sub, &f->err), 0);
	assert_int_equal(f->err.code, CODE_NOT_LINKED);
	assert_int_not_equal(list_judge_endorser(f->c, sub, &v, &name, &f->err), 0);
	assert_int_equal(f->err.code, CODE_NOT_LINKED);
	assert_non_null(strstr(f->err.text, "block digests only"));
	assert_int_not_equal(list_judge_endorser(f->c, 0, &v, &name, &f->err), 0);
	assert_int_equal(f->err.code, CODE_NOT_LINKED);
}

static void
kinds_do_not_mix(void **state)
{
	struct fixture *f = *state;
	struct endorser_row e;

	subscribe(f, LIST, SELECT_ALL);
	register_site(f);
	assert_int_equal(catalogue_endorser_add(f->c, "site", BOB, CA, false, false, &f->err),
			 -EEXIST);
	assert_int_equal(catalogue_endorser_add_blocks_only(f->c, "alice", BOB, CA, false, false,
							    &f->err),
			 -EEXIST);
	assert_int_equal(catalogue_endorser_add_blocks_only(f->c, "second", SITE, CA, false, false,
							    &f->err),
			 -EEXIST);
	OK(catalogue_endorser_add_blocks_only(f->c, "site", BOB, CA, false, false, &f->err));
	OK(catalogue_endorser_get(f->c, "site", &e, &f->err));
	assert_true(e.blocks_only);
	assert_int_equal(e.n_credentials, 2);
	endorser_row_release(&e);
}

static void
endorser_attests_its_own_lists(void **state)
{
	struct fixture *f = *state;
	int64_t one = subscribe(f, LIST, SELECT_ALL), two = subscribe(f, OTHER_LIST, SELECT_ALL);
	int64_t rev;

	OK(catalogue_endorser_add(f->c, "bob", BOB, CA, false, false, &f->err));
	publish(f, one, "1", ENTRIES(IMG("a", "1", 'a')));
	publish_in(f, two, OTHER_LIST, "1", NOW, ENTRIES(IMG("b", "1", 'b')));
	assert_int_not_equal(attest(f, BOB, CLAIMS(SAYS('a', '1'))), 0);
	assert_int_equal(f->err.code, CODE_NOT_LINKED);
	OK(catalogue_link(f->c, "bob", one, &f->err));
	OK(attest(f, BOB, CLAIMS(SAYS('a', '1'), SAYS('b', '2'))));
	assert_blocks(f, 'a', "r1");
	assert_blocks(f, 'b', "-");
	rev = object_rev(f, 'b');
	OK(catalogue_link(f->c, "bob", two, &f->err));
	assert_blocks(f, 'b', "r2");
	assert_true(object_rev(f, 'b') > rev);
	OK(catalogue_unlink(f->c, "bob", one, &f->err));
	assert_blocks(f, 'a', "-");
	assert_blocks(f, 'b', "r2");
}

static void
stranger_attests_nothing(void **state)
{
	struct fixture *f = *state;

	subscribe(f, LIST, SELECT_ALL);
	assert_int_not_equal(attest(f, SITE, CLAIMS(SAYS('a', '1'))), 0);
	assert_int_equal(f->err.code, CODE_NOT_LINKED);
	assert_attestations(f, 0, 0);
}

static void
weak_signature_needs_its_switch(void **state)
{
	struct fixture *f = *state;
	struct verdict v = { .subject = (char[]){ SITE }, .issuer = (char[]){ CA }, .weak_digest = true };
	char *name = NULL;

	register_site(f);
	assert_int_not_equal(list_judge_attester(f->c, &v, &name, &f->err), 0);
	assert_int_equal(f->err.code, CODE_WEAK);
	OK(catalogue_endorser_add_blocks_only(f->c, "site", BOB, CA, true, false, &f->err));
	OK(list_judge_attester(f->c, &v, &name, &f->err));
	assert_string_equal(name, "site");
	free(name);
}

static void
trust_in_attestations_is_current(void **state)
{
	struct fixture *f = *state;
	struct digest d = content('a'), tree = content('1');
	int64_t sub = subscribe(f, LIST, SELECT_ALL), rev, of_image;

	register_site(f);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a')));
	OK(attest(f, SITE, CLAIMS(SAYS('a', '1'))));
	OK(catalogue_object_rooted(f->c, &d, &tree, &f->err));
	assert_blocks(f, 'a', "r1 t1");
	rev = object_rev(f, 'a');
	of_image = image_rev(f, "a");
	OK(catalogue_endorser_remove(f->c, "site", NULL, NULL, &f->err));
	assert_blocks(f, 'a', "-");
	assert_true(object_rev(f, 'a') > rev && image_rev(f, "a") > of_image);
	assert_attestations(f, 0, 1);
	/* Registered again: the stored message has to be verified again first. */
	register_site(f);
	assert_blocks(f, 'a', "-");
	OK(attest(f, SITE, CLAIMS(SAYS('a', '1'))));
	assert_blocks(f, 'a', "r1 t1");
	assert_attestations(f, 1, 0);
}

static int
take_id(void *arg, const struct attestation_row *r)
{
	*(int64_t *)arg = r->id;
	return 0;
}

static void
credential_takes_its_attestations_along(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL), id = 0;

	register_site(f);
	OK(catalogue_endorser_add_blocks_only(f->c, "site", BOB, CA, false, false, &f->err));
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	OK(attest(f, SITE, CLAIMS(SAYS('a', '1'))));
	OK(attest(f, BOB, CLAIMS(SAYS('b', '2'))));
	OK(catalogue_endorser_remove(f->c, "site", BOB, CA, &f->err));
	assert_blocks(f, 'a', "r1");
	assert_blocks(f, 'b', "-");
	/* Revoked: what its stored message is worth now. */
	OK(catalogue_endorser_remove(f->c, "site", SITE, CA, &f->err));
	OK(catalogue_endorser_add_blocks_only(f->c, "site", SITE, CA, false, false, &f->err));
	OK(catalogue_attestation_each(f->c, take_id, &id, &f->err));
	OK(catalogue_attestation_trust(f->c, id, "site", true, &f->err));
	assert_blocks(f, 'b', "r2");
	OK(catalogue_attestation_trust(f->c, id, "site", false, &f->err));
	assert_blocks(f, 'b', "-");
}

static void
attestation_and_list_disagree(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	register_site(f);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a', .verity = '1')));
	OK(attest(f, SITE, CLAIMS(SAYS('a', '2'))));
	assert_blocks(f, 'a', "-");
	assert_n_disagreeing(f, 1);
	OK(attest(f, SITE, CLAIMS(SAYS('a', '1'))));
	assert_blocks(f, 'a', "r1");
	assert_attestations(f, 1, 0);
}

static void
newer_word_replaces_the_older(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	register_site(f);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b'), IMG("c", "1", 'c')));
	OK(attest_from(f, SITE, "https://site.org/m", CLAIMS(SAYS('a', '1'), SAYS('b', '2'))));
	OK(attest(f, SITE, CLAIMS(SAYS('c', '3'))));
	/* From the same address: what it does not say any more is gone. */
	OK(attest_from(f, SITE, "https://site.org/m", CLAIMS(SAYS('a', '4'))));
	assert_blocks(f, 'a', "r4");
	assert_blocks(f, 'b', "-");
	assert_blocks(f, 'c', "r3");
	assert_attestations(f, 2, 0);
	OK(attest(f, SITE, CLAIMS(SAYS('a', '5'), SAYS('c', '6'))));
	assert_blocks(f, 'a', "r5");
	assert_blocks(f, 'c', "r6");
	assert_attestations(f, 1, 0);
}

static void
size_must_be_the_signed_one(void **state)
{
	struct fixture *f = *state;
	int64_t sub = subscribe(f, LIST, SELECT_ALL);

	register_site(f);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	OK(attest(f, SITE, CLAIMS(SAYS('a', '1', .size = 77), SAYS('b', '2'))));
	assert_string_equal(buf_str(&f->said), "of-a 41\n");
	assert_blocks(f, 'a', "-");
	assert_blocks(f, 'b', "r2");
	assert_int_not_equal(attest(f, SITE, CLAIMS(SAYS('a', '1', .size = 78))), 0);
	assert_int_equal(f->err.code, CODE_SIZE);
	/* Before a list says how large it is, it may be any size, and then has to be right. */
	OK(attest(f, SITE, CLAIMS(SAYS('c', '3', .size = 79))));
	publish(f, sub, "2", ENTRIES(IMG("c", "1", 'c')));
	assert_blocks(f, 'c', "-");
}

static void
attestation_allows_another_try(void **state)
{
	struct fixture *f = *state;
	struct digest a = content('a'), b = content('b');
	int64_t sub = subscribe(f, LIST, SELECT_ALL);
	struct object_row r;

	register_site(f);
	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b')));
	OK(attest(f, SITE, CLAIMS(SAYS('a', '1'))));
	OK(catalogue_object_failed(f->c, &a, CODE_BLOCK_DIGEST, "no", true, 0, &f->err));
	OK(catalogue_object_strict(f->c, &b, "why", &f->err));
	OK(attest(f, SITE, CLAIMS(SAYS('b', '2'))));
	assert_error(f, 'b', "");
	r = object(f, 'a');
	assert_int_equal(r.tries, LIMIT_TRIES);
	object_row_release(&r);
	/* Whoever misled us is gone. */
	OK(catalogue_endorser_remove(f->c, "site", NULL, NULL, &f->err));
	r = object(f, 'a');
	assert_int_equal(r.tries, 0);
	assert_int_equal(r.state, OBJECT_MISSING);
	object_row_release(&r);
}

/* ---- damage and upgrade ---------------------------------------------------------------------- */

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

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

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
		T("a blocks-only endorser attests block digests of any image",
		  blocks_only_attests_any_image),
		T("a blocks-only endorser cannot be linked and signs no list",
		  blocks_only_does_nothing_else),
		T("an endorser is blocks-only with all its credentials or with none",
		  kinds_do_not_mix),
		T("another endorser attests images of the lists that it is linked to",
		  endorser_attests_its_own_lists),
		T("who is not registered attests nothing", stranger_attests_nothing),
		T("an attestation with SHA-1 needs the endorser's switch",
		  weak_signature_needs_its_switch),
		T("what a removed endorser attested counts no longer, at once",
		  trust_in_attestations_is_current),
		T("a removed or revoked credential takes its attestations along",
		  credential_takes_its_attestations_along),
		T("an image for which list and attestation disagree has no root",
		  attestation_and_list_disagree),
		T("the newer word of a signer, or from an address, replaces the older",
		  newer_word_replaces_the_older),
		T("an attestation of another size than the image's is refused (41)",
		  size_must_be_the_signed_one),
		T("what an attestation names may be tried again, and so when it is taken back",
		  attestation_allows_another_try),
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
