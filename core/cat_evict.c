/*
 * cat_evict.c - rows for the choice of what leaves the cache; pins; what is just leaving it.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include "cleanup.h"

int
catalogue_evict_each(struct catalogue *c, int (*fn)(void *arg, const struct evict_row *r),
		     void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_EVICT_EACH, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct evict_row r;

		next_digest(&q, &r.digest);
		r.verified = next_bool(&q);
		r.wanted = next_bool(&q);
		r.live = next_bool(&q);
		r.pinned = next_bool(&q);
		r.used = next_int(&q);
		r.expired_at = next_int(&q);
		rc = fn(arg, &r);
	}
	return rc;
}

static int
each_digest(struct catalogue *c, enum sql_id sql, int (*fn)(void *arg, const struct digest *d),
	    void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, sql, ARGS(), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct digest d;

		next_digest(&q, &d);
		rc = fn(arg, &d);
	}
	return rc;
}

int
catalogue_withdrawn_each(struct catalogue *c, int (*fn)(void *arg, const struct digest *d),
			 void *arg, struct err *err)
{
	return each_digest(c, SQL_OBJECT_WITHDRAWN, fn, arg, err);
}

int
catalogue_leaving_each(struct catalogue *c, int (*fn)(void *arg, const struct digest *d),
		       void *arg, struct err *err)
{
	return each_digest(c, SQL_LEAVING_EACH, fn, arg, err);
}

int
catalogue_object_left(struct catalogue *c, const struct digest *d, struct err *err)
{
	return cat_change(c, SQL_LEAVING_DELETE, ARGS(arg_digest(d)), err);
}

int64_t
catalogue_use_stamp(struct catalogue *c, int64_t now)
{
	int64_t newest = 0;

	if (cat_int(c, SQL_NEWEST_USE, ARGS(), &newest, NULL, NULL) != 0 || newest <= now)
		return now;
	return newest + 1;
}

int
catalogue_object_used(struct catalogue *c, const struct digest *d, int64_t now, struct err *err)
{
	return cat_change(c, SQL_OBJECT_USED, ARGS(arg_digest(d), arg_int(now)), err);
}

/* ---- pins ------------------------------------------------------------------------------------ */

int
catalogue_image_pin(struct catalogue *c, int64_t id, bool pinned, struct err *err)
{
	struct image_row r;
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = catalogue_image_by_id(c, id, &r, err);
	if (rc == 0 && r.pinned != pinned) {
		c->site_dirty = true;
		rc = cat_run(c, pinned ? SQL_PIN_ADD : SQL_PIN_DELETE,
			     ARGS(arg_text(r.meta.value[FIELD_ID]), arg_int(r.subscription)), err);
	}
	image_row_release(&r);
	return cat_scope_end(c, &scope, rc, err);
}

int64_t
catalogue_pin_count(struct catalogue *c)
{
	int64_t n = 0;

	return cat_int(c, SQL_PIN_COUNT, ARGS(), &n, NULL, NULL) == 0 ? n : 0;
}
