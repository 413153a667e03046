/*
 * cat_object.c - image contents by digest: stored or not, tries, where to get them.
 *
 * missing  --a try failed-->  failed  --new list, or reset-->  missing
 * missing, failed  --verified and in the store-->  verified  --file bad or evicted-->  missing
 *
 * missing and failed objects may have a tree: that of the signed root (rooted), whose prefix was
 * verified, so that blocks can be read before the whole is here.  It counts only while that root is
 * the one that is named: who takes it back takes the tree with it, in the moment the row is read.
 * strict_reason says why there is no tree although there is a root.
 *
 * An object may be corrupt: its bytes contradict what is signed, and an event told so.  A verified
 * one may be degraded besides: bad blocks could not be healed.
 *
 * A row exists while a live image or an unpurged expired one names the digest; a verified one is
 * never dropped, because then its file would be a stranger in the store.  Nor is one that notes
 * where a transfer began (etag_url), before the engine has cleared away what came of it.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "limits.h"

static const char *const state_words[3] = { "missing", "verified", "failed" };

void
object_row_release(struct object_row *r)
{
	free(r->error);
	free(r->etag);
	free(r->etag_url);
	free(r->strict_reason);
	memset(r, 0, sizeof(*r));
}

static enum object_state
next_state(struct cat_query *q)
{
	CLEANUP_FREE char *state = next_text(q);
	int word = cat_word(state_words, 3, state);

	return word >= 0 ? (enum object_state)word : OBJECT_MISSING;
}

static void
read_object(struct cat_query *q, struct object_row *r)
{
	memset(r, 0, sizeof(*r));
	r->id = next_int(q);
	r->rev = next_int(q);
	r->ino = (uint64_t)next_int(q);
	next_digest(q, &r->digest);
	r->size = next_int(q);
	r->mtime = next_int(q);
	r->state = next_state(q);
	r->tries = (int)next_int(q);
	r->next_try = next_int(q);
	r->code = (enum code)next_int(q);
	r->error = next_text(q);
	r->etag = next_text(q);
	r->etag_url = next_text(q);
	r->fetched = next_int(q);
	r->wanted = next_bool(q);
	r->pending = next_bool(q);
	r->access = (enum object_access)next_int(q);
	r->has_tree = next_digest(q, &r->tree);
	r->has_root = next_digest(q, &r->root);
	r->root_listed = next_bool(q) && r->has_root;
	r->degraded = next_bool(q);
	r->corrupt = next_bool(q);
	r->strict_reason = next_text(q);
	r->pinned = next_bool(q);
	r->used = next_int(q);
	if (r->state != OBJECT_VERIFIED && r->has_tree &&
	    !(r->has_root && digest_equal(&r->tree, &r->root))) {
		r->has_tree = false;
		memset(&r->tree, 0, sizeof(r->tree));
	}
}

int
catalogue_object_get(struct catalogue *c, const struct digest *d, struct object_row *out,
		     struct err *err)
{
	CAT_QUERY q = { 0 };
	char hex[DIGEST_HEX + 1];
	int rc = cat_query_begin(&q, c, SQL_OBJECT_GET, ARGS(arg_digest(d)), err);

	memset(out, 0, sizeof(*out));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc == 0) {
		digest_hex(d, hex);
		return err_set(err, ENOENT, "no list names an image with SHA-512 %.16s...", hex);
	}
	if (rc < 0)
		return rc;
	read_object(&q, out);
	return 0;
}

int
catalogue_object_look(struct catalogue *c, const struct digest *d, bool rooted,
		      struct object_look *out, struct err *err)
{
	CAT_QUERY q = { 0 };
	enum sql_id sql = rooted ? SQL_OBJECT_LOOK_ROOT : SQL_OBJECT_LOOK;
	int rc = cat_query_begin(&q, c, sql, ARGS(arg_digest(d)), err);

	memset(out, 0, sizeof(*out));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc <= 0)
		return rc;
	out->known = true;
	out->state = next_state(&q);
	out->degraded = next_bool(&q);
	out->used = next_int(&q);
	out->error = next_text(&q);
	out->has_root = next_digest(&q, &out->root);
	return 0;
}

void
object_look_release(struct object_look *l)
{
	free(l->error);
	memset(l, 0, sizeof(*l));
}

int
catalogue_object_each(struct catalogue *c, int (*fn)(void *arg, const struct object_row *r),
		      void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_OBJECT_EACH, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct object_row r;

		read_object(&q, &r);
		rc = fn(arg, &r);
		object_row_release(&r);
	}
	return rc;
}

int
catalogue_object_sources(struct catalogue *c, const struct digest *d,
			 int (*fn)(void *arg, const char *uri, const char *list_id), void *arg,
			 struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_OBJECT_SOURCES, ARGS(arg_digest(d)), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		CLEANUP_FREE char *uri = next_text(&q);
		CLEANUP_FREE char *list_id = next_text(&q);

		rc = fn(arg, uri, list_id);
	}
	return rc;
}

int
catalogue_object_sidecars(struct catalogue *c, const struct digest *d,
			  int (*fn)(void *arg, const char *uri, const char *list_id), void *arg,
			  struct err *err)
{
	CAT_QUERY q = { 0 };
	struct object_row row;
	int rc = catalogue_object_get(c, d, &row, err);

	if (rc == 0 && row.has_root)
		rc = cat_query_begin(&q, c, SQL_OBJECT_SIDECARS,
				     ARGS(arg_digest(d), arg_digest(&row.root), arg_int(row.size)),
				     err);
	while (rc == 0 && row.has_root && (rc = cat_query_next(&q, err)) > 0) {
		CLEANUP_FREE char *uri = next_text(&q);
		CLEANUP_FREE char *list_id = next_text(&q);

		rc = fn(arg, uri, list_id);
	}
	object_row_release(&row);
	return rc;
}

int
catalogue_object_disagreeing(struct catalogue *c,
			     int (*fn)(void *arg, const struct digest *d), void *arg,
			     struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_OBJECT_DISAGREEING, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct digest d;

		next_digest(&q, &d);
		rc = fn(arg, &d);
	}
	return rc;
}

/* What was kept of it with another size is no part of this image. */
static int
renew(struct catalogue *c, const struct image_meta *m, struct err *err)
{
	const struct digest *d = &m->sha512;
	int rc = cat_run(c, SQL_EXPIRED_PURGE_SIZE, ARGS(arg_digest(d), arg_int(m->size)), err);

	if (rc != 0)
		return rc;
	return cat_run(c, SQL_OBJECT_RENEW,
		       ARGS(arg_digest(d), arg_int(m->size),
			    arg_digest(m->has_verity ? &m->verity : NULL)),
		       err);
}

int
object_name(struct catalogue *c, const struct image_meta *m, int64_t mtime, struct err *err)
{
	const struct digest *d = &m->sha512;
	char hex[DIGEST_HEX + 1];
	int64_t value, ino;
	bool found;
	int rc = cat_int(c, SQL_OBJECT_BRIEF, ARGS(arg_digest(d)), &value, &found, err);

	if (rc != 0)
		return rc;
	if (found)
		return renew(c, m, err);
	digest_hex(d, hex);
	rc = cat_inode(c, "object", hex, &ino, err);
	if (rc != 0)
		return rc;
	return cat_run(c, SQL_OBJECT_ADD,
		       ARGS(arg_int(ino), arg_digest(d), arg_int(m->size), arg_int(mtime)), err);
}

int
object_collect(struct catalogue *c, struct err *err)
{
	return cat_run(c, SQL_OBJECT_COLLECT, ARGS(), err);
}

/* Pending versions with this digest become current. */
static int
swap_all(struct catalogue *c, const struct digest *d, int64_t now, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n = 0;
	int rc = cat_ids(c, SQL_IMAGE_PENDING_OF, ARGS(arg_digest(d)), &ids, &n, err);

	for (size_t i = 0; i < n && rc == 0; i++) {
		struct image_brief b;
		bool found;

		rc = image_brief_by_id(c, ids[i], &b, &found, err);
		if (rc == 0)
			rc = image_yield(c, &b, REASON_REPLACED, now, err);
		if (rc == 0)
			rc = image_swap_pending(c, &b, err);
	}
	return rc;
}

static int
announce_all(struct catalogue *c, const struct digest *d, int64_t now, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n = 0;
	int rc = cat_ids(c, SQL_IMAGE_NAMING, ARGS(arg_digest(d)), &ids, &n, err);

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = image_announce(c, ids[i], now, err);
	return rc;
}

int
catalogue_object_failed(struct catalogue *c, const struct digest *d, enum code code,
			const char *error, bool counts, int64_t next_try, struct err *err)
{
	if (code == CODE_BLOCK_DIGEST)
		return cat_change(c, SQL_OBJECT_CONTRADICTED,
				  ARGS(arg_digest(d), arg_int(code), arg_text(error),
				       arg_int(counts ? LIMIT_TRIES : 0)),
				  err);
	return cat_change(c, SQL_OBJECT_FAILED,
			  ARGS(arg_digest(d), arg_int(code), arg_text(error), arg_int(counts),
			       arg_int(next_try)),
			  err);
}

int
catalogue_object_reset_tries(struct catalogue *c, const struct digest *d, struct err *err)
{
	return cat_change(c, SQL_OBJECT_RESET_TRIES, ARGS(arg_digest(d)), err);
}

int
catalogue_object_note_partial(struct catalogue *c, const struct digest *d, const char *url,
			      const char *etag, struct err *err)
{
	return cat_change(c, SQL_OBJECT_PARTIAL,
			  ARGS(arg_digest(d), arg_text(url != NULL ? url : ""),
			       arg_text(etag != NULL ? etag : "")),
			  err);
}

/* An event for every live selected image of the object. */
static int
report(struct catalogue *c, const char *type, const struct digest *d, const char *why, int64_t now,
       struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n = 0;
	int rc = cat_ids(c, SQL_IMAGE_NAMING, ARGS(arg_digest(d)), &ids, &n, err);

	for (size_t i = 0; i < n && rc == 0; i++) {
		struct image_row r;

		rc = catalogue_image_by_id(c, ids[i], &r, err);
		if (rc == 0) {
			struct image_brief b;
			bool found;

			rc = image_brief_by_id(c, ids[i], &b, &found, err);
			if (rc == 0)
				rc = event_add(c, type, b.meta, r.list_id, r.name, why, now, err);
		}
		image_row_release(&r);
	}
	return rc;
}

/* Whether the object is verified, and whether bad bytes of it were told of. */
static int
get_harm(struct catalogue *c, const struct digest *d, bool *verified, bool *told, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_OBJECT_HARM, ARGS(arg_digest(d)), err);

	*verified = *told = false;
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc <= 0)
		return rc;
	*verified = next_bool(&q);
	*told = next_bool(&q);
	return 0;
}

static int
add_verified(struct catalogue *c, const struct digest *d, const struct digest *tree, int64_t now,
	     struct err *err)
{
	bool verified, told;
	int rc = get_harm(c, d, &verified, &told, err);

	if (rc != 0)
		return rc;
	rc = cat_run(c, SQL_OBJECT_VERIFIED, ARGS(arg_digest(d), arg_int(now), arg_digest(tree)),
		     err);
	if (rc == 0 && cat_n_changed(c) == 0)
		rc = err_set(err, ENOENT, "no list names this object any more");
	/* Its file is the new one. */
	if (rc == 0)
		rc = cat_run(c, SQL_LEAVING_DELETE, ARGS(arg_digest(d)), err);
	if (rc == 0 && told)
		rc = report(c, "CorruptHealed", d, "the whole image was verified anew", now, err);
	if (rc == 0)
		rc = swap_all(c, d, now, err);
	return rc == 0 ? announce_all(c, d, now, err) : rc;
}

int
catalogue_object_verified(struct catalogue *c, const struct digest *d, const struct digest *tree,
			  int64_t now, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = add_verified(c, d, tree, now, err);
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_object_rooted(struct catalogue *c, const struct digest *d, const struct digest *tree,
			struct err *err)
{
	return cat_change(c, SQL_OBJECT_ROOTED, ARGS(arg_digest(d), arg_digest(tree)), err);
}

int
catalogue_object_strict(struct catalogue *c, const struct digest *d, const char *why,
			struct err *err)
{
	return cat_change(c, SQL_OBJECT_STRICT, ARGS(arg_digest(d), arg_text(why)), err);
}

int
catalogue_object_set_tree(struct catalogue *c, const struct digest *d, const struct digest *tree,
			  struct err *err)
{
	return cat_change(c, SQL_OBJECT_SET_TREE, ARGS(arg_digest(d), arg_digest(tree)), err);
}

int
catalogue_object_corrupt(struct catalogue *c, const struct digest *d, const char *why,
			 bool degraded, int64_t now, struct err *err)
{
	struct cat_scope scope;
	bool verified, told;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = get_harm(c, d, &verified, &told, err);
	if (rc == 0 && !told)
		rc = report(c, "CorruptFound", d, why, now, err);
	if (rc == 0)
		rc = cat_run(c, SQL_OBJECT_CORRUPT,
			     ARGS(arg_digest(d), arg_text(why), arg_int(degraded && verified),
				  arg_int(CODE_CORRUPT)),
			     err);
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_object_healed(struct catalogue *c, const struct digest *d, const char *how, int64_t now,
			struct err *err)
{
	struct cat_scope scope;
	bool verified, told;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = get_harm(c, d, &verified, &told, err);
	if (rc == 0 && verified && told)
		rc = report(c, "CorruptHealed", d, how, now, err);
	if (rc == 0 && verified)
		rc = cat_run(c, SQL_OBJECT_HEALED, ARGS(arg_digest(d)), err);
	return cat_scope_end(c, &scope, rc, err);
}

/* Bytes that only withdrawn images name cannot be fetched again. */
static int
purge_unless_live(struct catalogue *c, const struct digest *d, struct err *err)
{
	int64_t live = 0;
	int rc = cat_int(c, SQL_OBJECT_IS_LIVE, ARGS(arg_digest(d)), &live, NULL, err);

	if (rc == 0 && live == 0)
		rc = cat_run(c, SQL_EXPIRED_PURGE, ARGS(arg_digest(d)), err);
	return rc == 0 && live == 0 ? object_collect(c, err) : rc;
}

int
catalogue_object_lost(struct catalogue *c, const struct digest *d, const char *why, int64_t now,
		      struct err *err)
{
	struct cat_scope scope;
	bool verified, told;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = get_harm(c, d, &verified, &told, err);
	if (rc == 0 && verified && !told)
		rc = report(c, "CorruptFound", d, why, now, err);
	if (rc == 0)
		rc = cat_run(c, SQL_OBJECT_LOST,
			     ARGS(arg_digest(d), arg_text(why), arg_int(CODE_CORRUPT)), err);
	if (rc == 0)
		rc = purge_unless_live(c, d, err);
	return cat_scope_end(c, &scope, rc, err);
}

static int
abandon(struct catalogue *c, const struct digest *d, struct err *err)
{
	struct object_row row;
	struct err absent = { 0 };
	int rc = catalogue_object_get(c, d, &row, &absent);
	bool needed = rc == 0 && (row.wanted || row.state == OBJECT_VERIFIED);

	if (rc == 0)
		object_row_release(&row);
	if (rc == -ENOENT || needed)
		return 0;
	if (rc != 0 && err != NULL)
		*err = absent;
	if (rc == 0)
		rc = cat_run(c, SQL_EXPIRED_PURGE, ARGS(arg_digest(d)), err);
	if (rc == 0)
		rc = cat_run(c, SQL_OBJECT_ABANDONED, ARGS(arg_digest(d)), err);
	return rc == 0 ? object_collect(c, err) : rc;
}

int
catalogue_object_abandoned(struct catalogue *c, const struct digest *d, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = abandon(c, d, err);
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_object_evicted(struct catalogue *c, const struct digest *d, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = cat_run(c, SQL_EXPIRED_PURGE, ARGS(arg_digest(d)), err);
	if (rc == 0)
		rc = cat_run(c, SQL_OBJECT_EVICTED, ARGS(arg_digest(d)), err);
	if (rc == 0)
		rc = cat_run(c, SQL_LEAVING_ADD, ARGS(arg_digest(d)), err);
	if (rc == 0)
		rc = object_collect(c, err);
	return cat_scope_end(c, &scope, rc, err);
}
