/*
 * cat_define.c - which images a subscription knows, decided by an admin and not by a list.
 *
 * Known is what has a row, live or not, or a wish.  Where new images are refused, what is not
 * known is refused (32), and what is known is a decision that site.json keeps.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "safename.h"

/* The next refresh looks at the list again, and site.json follows. */
static int
decided(struct catalogue *c, int64_t subscription, struct err *err)
{
	c->site_dirty = true;
	return cat_run(c, SQL_SUBSCRIPTION_REAPPLY, ARGS(arg_int(subscription)), err);
}

static int
check_subscription(struct catalogue *c, int64_t id, struct err *err)
{
	struct subscription_row sub;
	int rc = catalogue_subscription_by_id(c, id, &sub, err);

	subscription_row_release(&sub);
	return rc;
}

static int
wish(struct catalogue *c, int64_t subscription, const char *identifier, bool selected,
     struct err *err)
{
	struct image_brief b;
	bool found;
	int rc = image_brief_get(c, identifier, &b, &found, err);

	if (rc != 0 || found)
		return rc;
	return cat_run(c, SQL_WISH_ADD,
		       ARGS(arg_text(identifier), arg_int(subscription), arg_int(selected)), err);
}

int
catalogue_image_wish(struct catalogue *c, int64_t subscription, const char *identifier,
		     bool selected, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = check_subscription(c, subscription, err);
	if (rc == 0)
		rc = wish(c, subscription, identifier, selected, err);
	if (rc == 0)
		rc = decided(c, subscription, err);
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_wish_each(struct catalogue *c, int (*fn)(void *arg, const struct wish_row *r), void *arg,
		    struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_WISH_EACH, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct wish_row r = { .subscription = next_int(&q) };

		r.identifier = next_text(&q);
		r.list_id = next_text(&q);
		r.selected = next_bool(&q);
		rc = fn(arg, &r);
		free(r.identifier);
		free(r.list_id);
	}
	return rc;
}

/* ---- defining -------------------------------------------------------------------------------- */

/* A row that is neither live nor selected (unless that was wished for). */
static int
insert_row(struct catalogue *c, int64_t subscription, const struct imagelist_image *e,
	   const char *name, struct err *err)
{
	int64_t selected, ino, meta;
	int rc = cat_int(c, SQL_WISH_GET, ARGS(arg_text(e->identifier), arg_int(subscription)),
			 &selected, NULL, err);

	if (rc == 0)
		rc = cat_run(c, SQL_WISH_DELETE,
			     ARGS(arg_text(e->identifier), arg_int(subscription)), err);
	if (rc == 0)
		rc = cat_inode(c, "image", e->identifier, &ino, err);
	if (rc == 0)
		rc = meta_insert(c, &e->meta, &meta, err);
	if (rc != 0)
		return rc;
	return cat_run(c, SQL_IMAGE_ADD,
		       ARGS(arg_int(ino), arg_int(subscription), arg_text(e->identifier),
			    arg_text(name), arg_int(0), arg_int(selected), arg_int(0),
			    arg_int(e->meta.expires), arg_int(meta), arg_digest(&e->meta.sha512)),
		       err);
}

static int
define_entry(struct catalogue *c, int64_t subscription, const struct imagelist_image *e,
	     struct err *err)
{
	char name[SAFENAME_MAX + 32];
	struct image_brief b;
	int64_t value;
	bool found, taken = false;
	int rc = image_brief_get(c, e->identifier, &b, &found, err);

	if (rc != 0 || found)
		return rc;
	safename_identifier(e->identifier, name);
	rc = cat_int(c, SQL_IMAGE_NAME_TAKEN, ARGS(arg_text(name)), &value, &taken, err);
	return rc == 0 && !taken ? insert_row(c, subscription, e, name, err) : rc;
}

static int
define(struct catalogue *c, int64_t subscription, const struct imagelist *list, const char *only,
       struct err *err)
{
	size_t n = 0;
	int rc = 0;

	for (size_t i = 0; i < list->n_images && rc == 0; i++) {
		const struct imagelist_image *e = &list->images[i];

		if (e->refused || (only != NULL && strcmp(only, e->identifier) != 0))
			continue;
		rc = define_entry(c, subscription, e, err);
		n++;
	}
	if (rc == 0 && only != NULL && n == 0)
		rc = err_set(err, ENOENT, "list '%s' names no image '%s'", list->identifier, only);
	return rc;
}

static int
describe(struct catalogue *c, int64_t subscription, const struct imagelist *list, struct err *err)
{
	return cat_run(c, SQL_SUBSCRIPTION_DESCRIBE,
		       ARGS(arg_int(subscription), arg_text(list->title),
			    arg_text(list->description), arg_text(list->uri),
			    arg_text(list->vo != NULL ? list->vo : "")),
		       err);
}

int
catalogue_image_define(struct catalogue *c, int64_t subscription, const struct imagelist *list,
		       const char *only, struct err *err)
{
	struct cat_scope scope;
	int rc;

	if (list == NULL)
		return catalogue_image_wish(c, subscription, only, false, err);
	rc = cat_scope_begin(c, &scope, err);
	if (rc != 0)
		return rc;
	rc = check_subscription(c, subscription, err);
	if (rc == 0)
		rc = define(c, subscription, list, only, err);
	if (rc == 0 && only == NULL)
		rc = describe(c, subscription, list, err);
	if (rc == 0)
		rc = decided(c, subscription, err);
	return cat_scope_end(c, &scope, rc, err);
}

/* ---- and forgetting -------------------------------------------------------------------------- */

/* What the list of now names is shown as refused at once, not only when it is applied again. */
static int
note_refused(struct catalogue *c, int64_t subscription, const char *identifier, struct err *err)
{
	char name[SAFENAME_MAX + 32];
	int64_t value;
	bool taken = false;
	int rc;

	safename_identifier(identifier, name);
	rc = cat_int(c, SQL_REFUSED_NAME_TAKEN, ARGS(arg_int(subscription), arg_text(name)), &value,
		     &taken, err);
	if (rc != 0 || taken)
		return rc;
	return cat_run(c, SQL_REFUSED_ADD,
		       ARGS(arg_int(subscription), arg_text(identifier), arg_text(name),
			    arg_int(CODE_NEW_IMAGE), arg_text(NEW_IMAGE_TEXT), arg_id(0)),
		       err);
}

static int
forget_row(struct catalogue *c, struct image_brief *b, const char *identifier, int64_t now,
	   struct err *err)
{
	bool live = b->live;
	int rc = 0;

	if (b->live || b->announced)
		rc = image_leave(c, b, REASON_DESELECTED, now, err);
	if (rc == 0)
		rc = cat_run(c, SQL_IMAGE_DELETE, ARGS(arg_int(b->id)), err);
	if (rc == 0)
		rc = meta_drop(c, b->meta, err);
	if (rc == 0 && live)
		rc = note_refused(c, b->subscription, identifier, err);
	return rc == 0 ? object_collect(c, err) : rc;
}

static int
undefine(struct catalogue *c, int64_t subscription, const char *identifier, int64_t now,
	 struct err *err)
{
	struct image_brief b;
	bool row, wished = false;
	int64_t value;
	int rc = image_brief_get(c, identifier, &b, &row, err);

	row = row && b.subscription == subscription;
	if (rc == 0)
		rc = cat_int(c, SQL_WISH_GET, ARGS(arg_text(identifier), arg_int(subscription)),
			     &value, &wished, err);
	if (rc == 0 && !row && !wished)
		return err_set(err, ENOENT, "the subscription knows no image '%s'", identifier);
	if (rc == 0 && wished)
		rc = cat_run(c, SQL_WISH_DELETE, ARGS(arg_text(identifier), arg_int(subscription)),
			     err);
	return rc == 0 && row ? forget_row(c, &b, identifier, now, err) : rc;
}

int
catalogue_image_undefine(struct catalogue *c, int64_t subscription, const char *identifier,
			 int64_t now, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = undefine(c, subscription, identifier, now, err);
	if (rc == 0)
		rc = decided(c, subscription, err);
	return cat_scope_end(c, &scope, rc, err);
}
