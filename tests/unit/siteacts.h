/*
 * siteacts.h - what can happen to a catalogue, each as a function of its own.
 */
#ifndef VMI_TEST_SITEACTS_H
#define VMI_TEST_SITEACTS_H

#include "sitefixture.h"

#include "core/attestation.h"
#include "core/catalogue_impl.h"
#include "core/cleanup.h"
#include "core/jsonw.h"
#include "core/listjudge.h"
#include "core/site.h"

enum { LATER = NOW + 1000 };

struct life {
	struct fixture *f;
	int64_t sub, other, handler, event;
	int n_commits;
};

/* ---- what happens to a site ------------------------------------------------------------------ */

static int
add_alice(struct life *l, struct err *err)
{
	return catalogue_endorser_add(l->f->c, "alice", ALICE, CA, false, false, err);
}

static int
widen_alice(struct life *l, struct err *err)
{
	return catalogue_endorser_add(l->f->c, "alice", BOB, CA, true, true, err);
}

static int
add_carol(struct life *l, struct err *err)
{
	return catalogue_endorser_add_blocks_only(l->f->c, "carol", "/CN=Carol", CA, false, false,
						  err);
}

static int
add_subscription(struct life *l, const char *list_id, int64_t *id, struct err *err)
{
	struct subscription_row row = { .list_id = xstrdup(list_id),
					.select_new = SELECT_ALL,
					.username = xstrdup("u"),
					.password = xstrdup("p") };
	int rc;

	row.url = xasprintf("https://example.org/%s", list_id);
	rc = catalogue_subscription_add(l->f->c, &row, err);
	*id = row.id;
	subscription_row_release(&row);
	return rc;
}

static int
subscribe_first(struct life *l, struct err *err)
{
	return add_subscription(l, LIST, &l->sub, err);
}

static int
subscribe_second(struct life *l, struct err *err)
{
	return add_subscription(l, OTHER_LIST, &l->other, err);
}

static int
link_first(struct life *l, struct err *err)
{
	return catalogue_link(l->f->c, "alice", l->sub, err);
}

static int
link_second(struct life *l, struct err *err)
{
	return catalogue_link(l->f->c, "alice", l->other, err);
}

static int
apply(struct life *l, int64_t sub, const char *list_id, const char *version, const struct entry *e,
      struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int rc;

	list_text(&text, list_id, version, NOW - 1000, (int64_t)NOW + 86400, e);
	err_clear(&l->f->err);
	rc = apply_text(l->f, sub, &text, NOW);
	*err = l->f->err;
	return rc;
}

static int
apply_first(struct life *l, struct err *err)
{
	return apply(
		l, l->sub, LIST, "1",
		ENTRIES(IMG("a", "1", 'a', .verity = '1'), IMG("b", "1", 'b', .expires = NOW + 500),
			IMG("e", "1", 'e', .verity = '2', .sidecar = "https://example.org/e.fsv")),
		err);
}

static int
apply_next(struct life *l, struct err *err)
{
	return apply(
		l, l->sub, LIST, "2",
		ENTRIES(IMG("a", "2", 'c'), IMG("d", "1", 'd'), IMG("e", "1", 'e', .verity = '2')),
		err);
}

static int
apply_second(struct life *l, struct err *err)
{
	return apply(l, l->other, OTHER_LIST, "1",
		     ENTRIES(IMG("x", "1", 'f'), IMG("e", "1", 'e'), IMG("y", "1", '9')), err);
}

static int
apply_held(struct life *l, struct err *err)
{
	return apply(l, l->sub, LIST, "3", ENTRIES(IMG("d", "1", 'd'), IMG("a", "3", '3')), err);
}

static int
nothing_of(void *arg, const char *what, const char *identifier, const char *title)
{
	(void)arg;
	(void)what;
	(void)identifier;
	(void)title;
	return 0;
}

static int
preview(struct life *l, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct subscription_row row;
	struct imagelist *list = NULL;
	struct update_result result;
	int rc;

	list_text(&text, LIST, "9", NOW - 1000, (int64_t)NOW + 86400,
		  ENTRIES(IMG("a", "9", '8'), IMG("x", "1", '7'), IMG("n", "1", '6')));
	rc = catalogue_subscription_by_id(l->f->c, l->sub, &row, err);
	if (rc == 0)
		rc = imagelist_parse(text.data, text.len, NULL, &list, err);
	if (rc == 0)
		rc = catalogue_preview_list(l->f->c, &row, list, nothing_of, NULL, &result, err);
	imagelist_free(list);
	subscription_row_release(&row);
	return rc;
}

/* ---- objects --------------------------------------------------------------------------------- */

#define OBJECT_STEP(name, letter, call) \
	static int name(struct life *l, struct err *err) \
	{ \
		const struct digest d = content(letter), tree = content('1'); \
		struct catalogue *c = l->f->c; \
		(void)tree; \
		return call; \
	}
OBJECT_STEP(verified_a, 'a', catalogue_object_verified(c, &d, &tree, NOW, err))
OBJECT_STEP(verified_b, 'b', catalogue_object_verified(c, &d, NULL, NOW, err))
OBJECT_STEP(verified_c, 'c', catalogue_object_verified(c, &d, NULL, NOW, err))
OBJECT_STEP(verified_f, 'f', catalogue_object_verified(c, &d, NULL, NOW, err))
OBJECT_STEP(rooted_e, 'e', catalogue_object_rooted(c, &d, &tree, err))
OBJECT_STEP(strict_e, 'e', catalogue_object_strict(c, &d, "no sidecar", err))
OBJECT_STEP(failed_d, 'd',
	    catalogue_object_failed(c, &d, CODE_DIGEST, "bad bytes", true, LATER, err))
OBJECT_STEP(contradicted_e, 'e',
	    catalogue_object_failed(c, &d, CODE_BLOCK_DIGEST, "no", true, LATER, err))
OBJECT_STEP(forgiven_d, 'd', catalogue_object_reset_tries(c, &d, err))
OBJECT_STEP(begun_d, 'd',
	    catalogue_object_note_partial(c, &d, "https://example.org/d", "\"x\"", err))
OBJECT_STEP(derived_a, 'a', catalogue_object_set_tree(c, &d, &tree, err))
OBJECT_STEP(corrupt_a, 'a', catalogue_object_corrupt(c, &d, "a bad disk", true, NOW, err))
OBJECT_STEP(healed_a, 'a', catalogue_object_healed(c, &d, "fetched again", NOW, err))
OBJECT_STEP(used_a, 'a', catalogue_object_used(c, &d, LATER, err))
OBJECT_STEP(evicted_a, 'a', catalogue_object_evicted(c, &d, err))
OBJECT_STEP(evicted_c, 'c', catalogue_object_evicted(c, &d, err))
OBJECT_STEP(left_c, 'c', catalogue_object_left(c, &d, err))
OBJECT_STEP(lost_f, 'f', catalogue_object_lost(c, &d, "its file is gone", NOW, err))
OBJECT_STEP(abandoned_e, 'e', catalogue_object_abandoned(c, &d, err))

/* ---- what an admin decides ------------------------------------------------------------------- */

static int
with_image(struct life *l, const char *what, int (*fn)(struct life *, int64_t, struct err *),
	   struct err *err)
{
	struct image_row r;
	int rc = catalogue_image_find(l->f->c, what, &r, err);
	int64_t id = r.id;

	image_row_release(&r);
	return rc == 0 ? fn(l, id, err) : rc;
}

static int
do_deselect(struct life *l, int64_t id, struct err *err)
{
	return catalogue_image_select(l->f->c, id, false, NOW, err);
}

static int
do_select(struct life *l, int64_t id, struct err *err)
{
	return catalogue_image_select(l->f->c, id, true, NOW, err);
}

static int
do_pin(struct life *l, int64_t id, struct err *err)
{
	return catalogue_image_pin(l->f->c, id, true, err);
}

static int
do_unpin(struct life *l, int64_t id, struct err *err)
{
	return catalogue_image_pin(l->f->c, id, false, err);
}

static int
deselect_c(struct life *l, struct err *err)
{
	return with_image(l, "a", do_deselect, err);
}

static int
select_c(struct life *l, struct err *err)
{
	return with_image(l, "a", do_select, err);
}

static int
pin_c(struct life *l, struct err *err)
{
	return with_image(l, "a", do_pin, err);
}

static int
unpin_c(struct life *l, struct err *err)
{
	return with_image(l, "a", do_unpin, err);
}

static int
define_two(struct life *l, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct imagelist *list = NULL;
	int rc;

	list_text(&text, OTHER_LIST, "2", NOW - 1000, (int64_t)NOW + 86400,
		  ENTRIES(IMG("x", "1", 'f'), IMG("p", "1", '5'), IMG("q", "1", '4')));
	rc = imagelist_parse(text.data, text.len, NULL, &list, err);
	if (rc == 0)
		rc = catalogue_image_define(l->f->c, l->other, list, NULL, err);
	imagelist_free(list);
	return rc;
}

static int
define_unread(struct life *l, struct err *err)
{
	return catalogue_image_define(l->f->c, l->other, NULL, "z", err);
}

static int
undefine_p(struct life *l, struct err *err)
{
	return catalogue_image_undefine(l->f->c, l->other, "p", NOW, err);
}

static int
undefine_x(struct life *l, struct err *err)
{
	return catalogue_image_undefine(l->f->c, l->other, "x", NOW, err);
}

static int
wish_w(struct life *l, struct err *err)
{
	return catalogue_image_wish(l->f->c, l->other, "w", true, err);
}

static int
set_policy(struct life *l, struct err *err)
{
	return catalogue_subscription_set_policy(l->f->c, l->other, true, SELECT_NONE, err);
}

static int
set_anchor(struct life *l, struct err *err)
{
	return catalogue_subscription_set_anchor(l->f->c, l->other, ANCHOR_IGTF, err);
}

static int
set_credentials(struct life *l, struct err *err)
{
	return catalogue_subscription_set_credentials(l->f->c, l->other, "name", NULL, err);
}

static int
reset_version(struct life *l, struct err *err)
{
	return catalogue_subscription_reset_version(l->f->c, l->sub, err);
}

static int
tried_in_vain(struct life *l, struct err *err)
{
	return catalogue_subscription_tried(l->f->c, l->sub, NOW, CODE_SIGNATURE, "not signed",
					    err);
}

/* ---- events ---------------------------------------------------------------------------------- */

static int
set_handlers(struct life *l, struct err *err)
{
	return catalogue_handlers_set(l->f->c, (const char *const[]){ "one", "two" }, 2, err);
}

static int
set_other_handlers(struct life *l, struct err *err)
{
	return catalogue_handlers_set(l->f->c, (const char *const[]){ "two", "three" }, 2, err);
}

static int
see_handlers(struct life *l, struct err *err)
{
	return catalogue_handlers_seen(l->f->c, (int64_t)NOW + 1000 * 86400LL, err);
}

static int
use_handler(struct life *l, struct err *err)
{
	return catalogue_handler_use(l->f->c, HANDLER_CACHE, "old", NOW, &l->handler, err);
}

static int
tell_process(struct life *l, struct err *err)
{
	return catalogue_event_process(l->f->c, "ProcessPrefix", "a-session", l->handler, NOW, err);
}

static int
next_delivery(struct life *l, struct err *err)
{
	struct delivery d;
	int64_t due;
	int rc = catalogue_delivery_next(l->f->c, 0, &l->handler, 1, (int64_t)NOW + 10, &d, &due,
					 err);

	if (rc > 0) {
		l->event = d.event.id;
		l->handler = d.handler;
	}
	delivery_release(&d);
	return rc < 0 ? rc : 0;
}

static int
delivery_failed(struct life *l, struct err *err)
{
	return catalogue_delivery_done(l->f->c, l->event, l->handler, "it is ill", LATER, err);
}

static int
delivery_done(struct life *l, struct err *err)
{
	return catalogue_delivery_done(l->f->c, l->event, l->handler, NULL, 0, err);
}

static int
replay(struct life *l, struct err *err)
{
	return catalogue_event_replay(l->f->c, l->event, err);
}

static int
find_event(struct life *l, struct err *err)
{
	CLEANUP_FREE char *number = xasprintf("%lld", (long long)l->event);
	struct event_row r;
	int rc = catalogue_event_find(l->f->c, number, &r, err);

	event_row_release(&r);
	return rc;
}

/* Handlers of a far past go, and what waits for them. */
static int
prune_events(struct life *l, struct err *err)
{
	return catalogue_event_prune(l->f->c, err);
}

/* ---- attestations ---------------------------------------------------------------------------- */

static int
attest_bytes(struct life *l, char letter, char verity, const char *url, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct attestation_origin origin = { .url = url, .list_id = "" };
	struct attestation_entry e = { .identifier = xstrdup("of"),
				       .sha512 = content(letter),
				       .verity = content(verity),
				       .size = 1000 + letter };
	struct attestation_result result;
	struct attestation *list = NULL;
	CLEANUP_FREE char *endorser = NULL;
	struct verdict v;
	struct jsonw w;
	int rc;

	jsonw_begin(&w, &text, true);
	jsonw_open(&w, NULL, '[');
	attestation_write(&w, &e);
	jsonw_close(&w, ']');
	free(e.identifier);
	verdict_init(&v);
	v.subject = xstrdup("/CN=Carol");
	v.issuer = xstrdup(CA);
	buf_add(&v.payload, text.data, text.len);
	rc = list_judge_attester(l->f->c, &v, &endorser, err);
	if (rc == 0)
		rc = attestation_parse(text.data, text.len, NULL, &list, err);
	if (rc == 0)
		rc = catalogue_attestation_add(l->f->c, list, &v, endorser, text.data, text.len,
					       &origin, NOW, &result, err);
	attestation_free(list);
	verdict_release(&v);
	return rc;
}

static int
judge(struct life *l, const char *subject, bool blocks, struct err *err)
{
	CLEANUP_FREE char *endorser = NULL;
	struct verdict v;
	int rc;

	verdict_init(&v);
	v.subject = xstrdup(subject);
	v.issuer = xstrdup(CA);
	if (blocks)
		rc = list_judge_attester(l->f->c, &v, &endorser, err);
	else
		rc = list_judge_endorser(l->f->c, l->sub, &v, &endorser, err);
	verdict_release(&v);
	return rc;
}

static int
judge_alice(struct life *l, struct err *err)
{
	return judge(l, ALICE, false, err);
}

static int
judge_linked_for_blocks(struct life *l, struct err *err)
{
	return judge(l, ALICE, true, err);
}

static int
attest_d(struct life *l, struct err *err)
{
	return attest_bytes(l, 'd', '3', "https://example.org/blocks", err);
}

static int
attest_again(struct life *l, struct err *err)
{
	return attest_bytes(l, 'd', '4', "https://example.org/blocks", err);
}

static int
attest_e(struct life *l, struct err *err)
{
	return attest_bytes(l, 'e', '7', "", err);
}

static int
distrust_attestation(struct life *l, struct err *err)
{
	return catalogue_attestation_trust(l->f->c, 2, NULL, false, err);
}

/* ---- how it ends ----------------------------------------------------------------------------- */

static int
expire_by_date(struct life *l, struct err *err)
{
	int changed;

	return catalogue_expire_by_date(l->f->c, (int64_t)NOW + 600, &changed, err);
}

static int
expire_all(struct life *l, struct err *err)
{
	int changed;

	return catalogue_expire_by_date(l->f->c, (int64_t)NOW + 2 * 86400, &changed, err);
}

static int
distrust_signer(struct life *l, struct err *err)
{
	int changed;

	return catalogue_signer_distrust(l->f->c, ALICE, CA, REASON_REVOKED, NOW, &changed, err);
}

static int
distrust_list(struct life *l, struct err *err)
{
	return catalogue_distrust(l->f->c, l->other, REASON_REVOKED, "revoked", NOW, err);
}

static int
remove_credential(struct life *l, struct err *err)
{
	return catalogue_endorser_remove(l->f->c, "alice", BOB, CA, err);
}

static int
remove_carol(struct life *l, struct err *err)
{
	return catalogue_endorser_remove(l->f->c, "carol", NULL, NULL, err);
}

static int
unlink_first(struct life *l, struct err *err)
{
	return catalogue_unlink(l->f->c, "alice", l->sub, err);
}

static int
remove_alice(struct life *l, struct err *err)
{
	return catalogue_endorser_remove(l->f->c, "alice", NULL, NULL, err);
}

static int
unsubscribe(struct life *l, struct err *err)
{
	return catalogue_subscription_remove(l->f->c, l->sub, NOW, err);
}

static int
prune_expired(struct life *l, struct err *err)
{
	return catalogue_expired_prune(l->f->c, err);
}

#endif
