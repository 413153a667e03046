/*
 * attestbed.h - what the catalogue knows of block digests, and attestations of them, for unit
 * tests.
 *
 * Contents and digests are letters, as in sitefixture.h.
 */
#ifndef VMI_ATTESTBED_H
#define VMI_ATTESTBED_H

#include <stdio.h>
#include <stdlib.h>

#include "core/attestation.h"
#include "core/cleanup.h"
#include "core/jsonw.h"
#include "core/limits.h"
#include "core/listjudge.h"
#include "tests/unit/oldstate.h"
#include "tests/unit/sitefixture.h"

#define SITE "/DC=org/DC=example/CN=Site key"

/* ---- what a row says ----------------------------------------------------------------------- */

static inline struct object_row
object(struct fixture *f, char letter)
{
	struct digest d = content(letter);
	struct object_row r;

	if (catalogue_object_get(f->c, &d, &r, &f->err) != 0)
		fail_msg("%s", f->err.text);
	return r;
}

/* "r" and the root's letter, "t" and the tree's, as "rb tb"; "-" if there is neither. */
static inline void
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
static inline void
assert_listed(struct fixture *f, char letter, bool expected)
{
	struct object_row r = object(f, letter);

	assert_int_equal(r.root_listed, expected);
	object_row_release(&r);
}

static inline int64_t
object_rev(struct fixture *f, char letter)
{
	struct object_row r = object(f, letter);
	int64_t rev = r.rev;

	object_row_release(&r);
	return rev;
}

static inline int64_t
image_rev(struct fixture *f, const char *identifier)
{
	struct image_row r = image(f, identifier);
	int64_t rev = r.rev;

	image_row_release(&r);
	return rev;
}

static inline void
assert_error(struct fixture *f, char letter, const char *expected)
{
	struct object_row r = object(f, letter);

	assert_string_equal(object_row_error(&r), expected);
	object_row_release(&r);
}

static inline int
add_sidecar(void *arg, const char *uri, const char *list_id)
{
	buf_printf(arg, "%s%s %c", ((struct buf *)arg)->len > 0 ? ", " : "", uri, list_id[0]);
	return 0;
}

/* The addresses, each with the first letter of the list whose CA is asked. */
static inline void
assert_sidecars(struct fixture *f, char letter, const char *expected)
{
	struct digest d = content(letter);
	struct buf b = BUF_INIT;

	assert_int_equal(catalogue_object_sidecars(f->c, &d, add_sidecar, &b, &f->err), 0);
	assert_string_equal(buf_str(&b), expected);
	buf_release(&b);
}

static inline int
count_one(void *arg, const struct digest *d)
{
	(void)d;
	++*(int *)arg;
	return 0;
}

static inline void
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

/* ---- making attestations ------------------------------------------------------------------- */

struct claim {
	char content, verity;
	int size;			/* 0: the one of the lists made here */
	const char *uri;		/* NULL: none */
};

#define SAYS(c, v, ...) { .content = c, .verity = v, ##__VA_ARGS__ }
#define CLAIMS(...) ((const struct claim[]){ __VA_ARGS__, { .content = 0 } })

static inline void
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

static inline void
note_refused(void *arg, const char *identifier, enum code code, const char *why)
{
	struct fixture *f = arg;

	(void)why;
	buf_printf(&f->said, "%s %d\n", identifier, (int)code);
}

/* As if the verifier had found the message signed by subject. */
static inline int
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

static inline int
attest(struct fixture *f, const char *subject, const struct claim *claims)
{
	return attest_from(f, subject, "", claims);
}

static inline void
register_site(struct fixture *f)
{
	OK(catalogue_endorser_add_blocks_only(f->c, "site", SITE, CA, false, false, &f->err));
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

#endif
