/*
 * Attestations in the catalogue: who may say which block digests, and for how long it counts.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/limits.h"
#include "core/listjudge.h"
#include "tests/unit/attestbed.h"
#include "tests/unit/oldstate.h"
#include "tests/unit/sitefixture.h"

/* ---- what is stored ------------------------------------------------------------------------ */

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

/* ---- who may attest ------------------------------------------------------------------------ */

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
	struct verdict v = { .subject = (char[]){ SITE }, .issuer = (char[]){ CA },
			     .weak_digest = true };
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

/* ---- what it says -------------------------------------------------------------------------- */

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests_name("catalogue_attest", tests, NULL, NULL);
}
