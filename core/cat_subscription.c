/*
 * cat_subscription.c - the lists that the site follows.
 *
 * state     the list we have      how it is left
 * new       none                  a list is accepted: ok
 * ok        current               a refresh fails: failed; its date comes: expired
 * failed    stands                a refresh succeeds: ok; its date comes: expired.  Without a
 *                                 good stored message (stored = 0) no image is live until then
 * expired   past its date         a list is accepted: ok
 * distrusted  nobody vouches      the list is accepted again: ok
 *
 * Images are live in ok and failed only.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "safename.h"

const char *const subscription_words[5] = { "new", "ok", "failed", "expired", "distrusted" };
const char *const anchor_words[3] = {
	[ANCHOR_NONE] = "none",
	[ANCHOR_BROWSER] = "browser",
	[ANCHOR_IGTF] = "igtf",
};

const char *
subscription_state_name(enum subscription_state s)
{
	return subscription_words[s];
}

void
subscription_row_release(struct subscription_row *r)
{
	free(r->list_id);
	free(r->name);
	free(r->url);
	free(r->username);
	free(r->password);
	free(r->error);
	free(r->title);
	free(r->description);
	free(r->uri);
	free(r->version);
	free(r->vo);
	free(r->signer_subject);
	free(r->signer_issuer);
	free(r->endorser);
	memset(r, 0, sizeof(*r));
}

static void
read_subscription(struct cat_query *q, struct subscription_row *r)
{
	CLEANUP_FREE char *select_new = NULL;
	CLEANUP_FREE char *state = NULL;
	CLEANUP_FREE char *new_images = NULL;
	CLEANUP_FREE char *anchor = NULL;
	int word;

	memset(r, 0, sizeof(*r));
	r->id = next_int(q);
	r->rev = next_int(q);
	r->ino = (uint64_t)next_int(q);
	r->list_id = next_text(q);
	r->name = next_text(q);
	r->url = next_text(q);
	r->username = next_text(q);
	r->password = next_text(q);
	select_new = next_text(q);
	r->select_new =
		select_new != NULL && strcmp(select_new, "all") == 0 ? SELECT_ALL : SELECT_NONE;
	state = next_text(q);
	word = cat_word(subscription_words, 5, state);
	/* An unknown word is damage that CATALOGUE_CHECK finds; until then nothing of it counts. */
	r->state = word >= 0 ? (enum subscription_state)word : SUB_DISTRUSTED;
	r->code = (enum code)next_int(q);
	r->error = next_text(q);
	r->title = next_text(q);
	r->description = next_text(q);
	r->uri = next_text(q);
	r->version = next_text(q);
	r->vo = next_text(q);
	r->created = next_int(q);
	r->expires = next_int(q);
	r->updated = next_int(q);
	r->tried = next_int(q);
	next_digest(q, &r->message);
	r->has_message = next_bool(q);
	r->signer_subject = next_text(q);
	r->signer_issuer = next_text(q);
	r->endorser = next_text(q);
	r->reset_version = next_bool(q);
	new_images = next_text(q);
	r->refuse_new = new_images == NULL || strcmp(new_images, "accept") != 0;
	anchor = next_text(q);
	word = cat_word(anchor_words, 3, anchor);
	r->trust_anchor = word >= 0 ? (enum trust_anchor)word : ANCHOR_NONE;
	r->reapply = next_bool(q);
}

static int
check_clash(struct catalogue *c, const struct subscription_row *r, struct err *err)
{
	CAT_QUERY q = { 0 };
	CLEANUP_FREE char *list_id = NULL;
	bool same_list;
	int rc = cat_query_begin(&q, c, SQL_SUBSCRIPTION_CLASH,
				 ARGS(arg_text(r->list_id), arg_text(r->name), arg_text(r->url)),
				 err);

	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc <= 0)
		return rc;
	same_list = next_bool(&q);
	list_id = next_text(&q);
	if (same_list)
		return err_set(err, EEXIST, "list '%s' is subscribed already", list_id);
	return err_set(err, EEXIST, "this address or name is subscribed already, as list '%s'",
		       list_id);
}

static const char *
select_word(int select_new)
{
	return select_new == SELECT_ALL ? "all" : "none";
}

static const char *
new_word(bool refuse_new)
{
	return refuse_new ? "refuse" : "accept";
}

static int
add_subscription(struct catalogue *c, struct subscription_row *r, struct err *err)
{
	char name[SAFENAME_MAX + 32];
	int64_t ino;
	int rc;

	safename_identifier(r->list_id, name);
	free(r->name);
	r->name = xstrdup(name);
	if ((rc = check_clash(c, r, err)) != 0)
		return rc;
	if ((rc = cat_inode(c, "sub", r->list_id, &ino, err)) != 0)
		return rc;
	rc = cat_run(c, SQL_SUBSCRIPTION_ADD,
		     ARGS(arg_int(ino), arg_text(r->list_id), arg_text(r->name), arg_text(r->url),
			  arg_text(r->username), arg_text(r->password),
			  arg_text(select_word(r->select_new)), arg_text(new_word(r->refuse_new)),
			  arg_text(anchor_words[r->trust_anchor])),
		     err);
	r->id = cat_last_id(c);
	r->ino = (uint64_t)ino;
	c->site_dirty = true;
	return rc;
}

int
catalogue_subscription_add(struct catalogue *c, struct subscription_row *r, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = add_subscription(c, r, err);
	return cat_scope_end(c, &scope, rc, err);
}

/* The only row of a query of (id, list_id); 0 rows leave *id 0. */
static int
only_one(struct catalogue *c, enum sql_id sql, const char *what, bool first_exact, int64_t *id,
	 struct err *err)
{
	CAT_QUERY q = { 0 };
	CLEANUP_BUF struct buf names = BUF_INIT;
	int n = 0, rc = cat_query_begin(&q, c, sql, ARGS(arg_text(what)), err);

	*id = 0;
	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		int64_t found = next_int(&q);
		CLEANUP_FREE char *list_id = next_text(&q);

		rc = 0;
		if (n++ == 0)
			*id = found;
		if (first_exact && strcmp(list_id, what) == 0)
			return 0;
		if (n <= 5)
			buf_printf(&names, "%s'%s'", n > 1 ? ", " : "", list_id);
	}
	if (rc == 0 && n > 1)
		rc = err_set(err, ENOTUNIQ, "'%s' may be %s%s: give more of it", what,
			     buf_str(&names), n > 5 ? " and more" : "");
	return rc;
}

int
catalogue_subscription_find(struct catalogue *c, const char *what, struct subscription_row *out,
			    struct err *err)
{
	int64_t id = 0;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = only_one(c, SQL_SUBSCRIPTION_BY_KEY, what, true, &id, err);
	if (rc == 0 && id == 0 && strlen(what) >= 4)
		rc = only_one(c, SQL_SUBSCRIPTION_BY_PREFIX, what, false, &id, err);
	if (rc == 0 && id == 0)
		rc = err_set(err, ENOENT,
			     "no subscription '%s': vmimagectl subscriptions lists them", what);
	return rc == 0 ? catalogue_subscription_by_id(c, id, out, err) : rc;
}

int
catalogue_subscription_by_id(struct catalogue *c, int64_t id, struct subscription_row *out,
			     struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_SUBSCRIPTION_BY_ID, ARGS(arg_int(id)), err);

	memset(out, 0, sizeof(*out));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc == 0)
		return err_set(err, ENOENT, "no subscription with number %lld", (long long)id);
	if (rc < 0)
		return rc;
	read_subscription(&q, out);
	return 0;
}

static int
each(struct catalogue *c, enum sql_id sql, const struct cat_arg *args,
     int (*fn)(void *arg, const struct subscription_row *r), void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, sql, args, err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct subscription_row r;

		read_subscription(&q, &r);
		rc = fn(arg, &r);
		subscription_row_release(&r);
	}
	return rc;
}

int
catalogue_subscription_each(struct catalogue *c,
			    int (*fn)(void *arg, const struct subscription_row *r), void *arg,
			    struct err *err)
{
	return each(c, SQL_SUBSCRIPTION_EACH, ARGS(), fn, arg, err);
}

int
catalogue_subscription_each_due(struct catalogue *c, int64_t now,
				int (*fn)(void *arg, const struct subscription_row *r),
				void *arg, struct err *err)
{
	return each(c, SQL_SUBSCRIPTION_EACH_DUE, ARGS(arg_int(now)), fn, arg, err);
}

static int
remove_images(struct catalogue *c, int64_t id, int64_t now, struct err *err)
{
	CLEANUP_FREE int64_t *images = NULL;
	size_t n = 0;
	int rc = cat_ids(c, SQL_IMAGE_ALL_OF, ARGS(arg_int(id)), &images, &n, err);

	for (size_t i = 0; i < n && rc == 0; i++) {
		struct image_brief b;
		bool found;

		rc = image_brief_by_id(c, images[i], &b, &found, err);
		if (rc == 0 && (b.live || b.announced))
			rc = image_leave(c, &b, REASON_UNSUBSCRIBED, now, err);
		if (rc == 0)
			rc = cat_run(c, SQL_IMAGE_DELETE, ARGS(arg_int(images[i])), err);
		if (rc == 0)
			rc = meta_drop(c, b.meta, err);
	}
	return rc;
}

/* Lists that had to leave identifiers to this one get them now, from their stored messages. */
int
catalogue_subscription_remove(struct catalogue *c, int64_t id, int64_t now, struct err *err)
{
	CLEANUP_FREE int64_t *yielding = NULL;
	struct cat_scope scope;
	size_t n = 0;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = cat_ids(c, SQL_SUBSCRIPTION_YIELDING, ARGS(arg_int(id)), &yielding, &n, err);
	if (rc == 0)
		rc = remove_images(c, id, now, err);
	if (rc == 0)
		rc = cat_run(c, SQL_SUBSCRIPTION_DELETE, ARGS(arg_int(id)), err);
	if (rc == 0 && cat_n_changed(c) == 0)
		rc = err_set(err, ENOENT, "no subscription with number %lld", (long long)id);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = apply_stored(c, yielding[i], now, err);
	if (rc == 0)
		rc = object_collect(c, err);
	c->site_dirty = true;
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_subscription_begun(struct catalogue *c, int64_t id, int64_t now, struct err *err)
{
	return cat_change(c, SQL_SUBSCRIPTION_BEGUN, ARGS(arg_int(id), arg_int(now)), err);
}

int
catalogue_subscription_tried(struct catalogue *c, int64_t id, int64_t now, enum code code,
			     const char *error, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = cat_run(c, SQL_SUBSCRIPTION_TRIED,
		     ARGS(arg_int(id), arg_int(now), arg_int(code),
			  arg_text(error != NULL ? error : "")),
		     err);
	return cat_scope_end(c, &scope, rc, err);
}

/* One statement by which an admin decides something; the subscription is its first value. */
static int
decide(struct catalogue *c, enum sql_id sql, const struct cat_arg *args, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = cat_run(c, sql, args, err);
	if (rc == 0 && cat_n_changed(c) == 0)
		rc = err_set(err, ENOENT, "no subscription with number %lld",
			     (long long)args[0].integer);
	c->site_dirty = true;
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_subscription_reset_version(struct catalogue *c, int64_t id, struct err *err)
{
	return decide(c, SQL_SUBSCRIPTION_RESET_VERSION, ARGS(arg_int(id)), err);
}

int
catalogue_subscription_set_policy(struct catalogue *c, int64_t id, bool refuse_new, int select_new,
				  struct err *err)
{
	return decide(c, SQL_SUBSCRIPTION_POLICY,
		      ARGS(arg_int(id), arg_text(new_word(refuse_new)),
			   arg_text(select_word(select_new))),
		      err);
}

int
catalogue_subscription_set_anchor(struct catalogue *c, int64_t id, enum trust_anchor anchor,
				  struct err *err)
{
	return decide(c, SQL_SUBSCRIPTION_ANCHOR, ARGS(arg_int(id), arg_text(anchor_words[anchor])),
		      err);
}

int
catalogue_subscription_set_credentials(struct catalogue *c, int64_t id, const char *username,
				       const char *password, struct err *err)
{
	return decide(c, SQL_SUBSCRIPTION_CREDENTIALS,
		      ARGS(arg_int(id), arg_text(username), arg_text(password)), err);
}

int64_t
catalogue_lists_awaited(struct catalogue *c)
{
	int64_t n = 0;

	return cat_int(c, SQL_SUBSCRIPTION_AWAITED, ARGS(), &n, NULL, NULL) == 0 ? n : -1;
}
