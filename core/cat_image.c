/*
 * cat_image.c - reading images: by id, by what a user types, all of them.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"

void
image_row_release(struct image_row *r)
{
	free(r->list_id);
	free(r->name);
	image_meta_release(&r->meta);
	image_meta_release(&r->pending);
	memset(r, 0, sizeof(*r));
}

static void
read_image(struct cat_query *q, struct image_row *r)
{
	memset(r, 0, sizeof(*r));
	r->id = next_int(q);
	r->rev = next_int(q);
	r->ino = (uint64_t)next_int(q);
	r->subscription = next_int(q);
	r->list_id = next_text(q);
	r->name = next_text(q);
	r->live = next_bool(q);
	r->selected = next_bool(q);
	meta_next(q, &r->meta);
	r->has_pending = next_bool(q);
	meta_next(q, &r->pending);
	r->pinned = next_bool(q);
}

int
catalogue_image_by_id(struct catalogue *c, int64_t id, struct image_row *out, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_IMAGE_BY_ID, ARGS(arg_int(id)), err);

	memset(out, 0, sizeof(*out));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc == 0)
		return err_set(err, ENOENT, "no image with number %lld", (long long)id);
	if (rc < 0)
		return rc;
	read_image(&q, out);
	return 0;
}

int
catalogue_image_each(struct catalogue *c, int64_t subscription, bool live_only,
		     int (*fn)(void *arg, const struct image_row *r), void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	enum sql_id sql = live_only ? SQL_IMAGE_EACH_LIVE : SQL_IMAGE_EACH;
	int rc = cat_query_begin(&q, c, sql, ARGS(arg_id(subscription)), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct image_row r;

		read_image(&q, &r);
		rc = fn(arg, &r);
		image_row_release(&r);
	}
	return rc;
}

int
catalogue_image_stubs(struct catalogue *c, int (*fn)(void *arg, const struct image_stub *s),
		      void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_IMAGE_STUBS, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct image_stub s = { .id = next_int(&q) };

		s.rev = next_int(&q);
		s.live = next_bool(&q);
		s.selected = next_bool(&q);
		rc = fn(arg, &s);
	}
	return rc;
}

/* One way to read what the user typed.  *id stays 0 if it gives nothing. */
static int
try_one(struct catalogue *c, enum sql_id sql, struct cat_arg key, const char *what, int64_t *id,
	struct err *err)
{
	CAT_QUERY q = { 0 };
	CLEANUP_BUF struct buf names = BUF_INIT;
	int64_t first = 0;
	int n = 0, rc = cat_query_begin(&q, c, sql, ARGS(key), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		int64_t found = next_int(&q);
		CLEANUP_FREE char *identifier = next_text(&q);

		rc = 0;
		if (n++ == 0)
			first = found;
		if (n <= 5)
			buf_printf(&names, "%s'%s'", n > 1 ? ", " : "", identifier);
	}
	if (rc == 0 && n > 1)
		return err_set(err, ENOTUNIQ, "'%s' may be %s%s: give the identifier", what,
			       buf_str(&names), n > 5 ? " and more" : "");
	if (rc == 0)
		*id = first;
	return rc;
}

int
catalogue_image_find(struct catalogue *c, const char *what, struct image_row *out, struct err *err)
{
	struct digest d;
	int64_t id = 0;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = try_one(c, SQL_IMAGE_EXACT, arg_text(what), what, &id, err);
	if (rc == 0 && id == 0)
		rc = try_one(c, SQL_IMAGE_BY_NAME, arg_text(what), what, &id, err);
	if (rc == 0 && id == 0 && digest_parse(what, &d))
		rc = try_one(c, SQL_IMAGE_BY_DIGEST, arg_digest(&d), what, &id, err);
	if (rc == 0 && id == 0)
		rc = try_one(c, SQL_IMAGE_BY_TITLE, arg_text(what), what, &id, err);
	if (rc == 0 && id == 0 && strlen(what) >= 4)
		rc = try_one(c, SQL_IMAGE_BY_PREFIX, arg_text(what), what, &id, err);
	if (rc == 0 && id == 0)
		rc = err_set(err, ENOENT, "no image '%s': vmimagectl images lists them", what);
	return rc == 0 ? catalogue_image_by_id(c, id, out, err) : rc;
}

int
catalogue_refused_each(struct catalogue *c, int64_t subscription,
		       int (*fn)(void *arg, const struct refused_row *r), void *arg,
		       struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_REFUSED_EACH, ARGS(arg_int(subscription)), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct refused_row r = { .id = next_int(&q) };

		r.subscription = next_int(&q);
		r.identifier = next_text(&q);
		r.name = next_text(&q);
		r.code = (enum code)next_int(&q);
		r.error = next_text(&q);
		rc = fn(arg, &r);
		free(r.identifier);
		free(r.name);
		free(r.error);
	}
	return rc;
}
