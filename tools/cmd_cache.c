/*
 * cmd_cache.c - what leaves the cache: by hand, by age, by date.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/control.h"
#include "core/outbox.h"
#include "core/purge.h"
#include "core/recheck.h"
#include "core/stamp.h"

/* ---- evict ----------------------------------------------------------------------------------- */

/*
 * Withdrawn versions with these bytes are purged; a live image only loses its file for now.  What
 * is pinned stays.
 */
static int
forget(struct ctl *ctl, void *arg, struct err *err)
{
	struct object_row row;
	int rc = catalogue_object_get(ctl->catalogue, arg, &row, err);

	if (rc == 0 && row.pinned)
		rc = err_refuse(err, CODE_BUSY,
				"the image is pinned; 'vmimagectl unpin' it first");
	object_row_release(&row);
	return rc == 0 ? catalogue_object_evicted(ctl->catalogue, arg, err) : rc;
}

static int
forget_leaving(struct ctl *ctl, void *arg, struct err *err)
{
	return catalogue_object_left(ctl->catalogue, arg, err);
}

/* Without a daemon nobody can have the file open through a mount. */
static int
evict_here(struct ctl *ctl, struct digest *d, struct err *err)
{
	int rc;

	rc = ctl_open_store(ctl, true, err);
	if (rc == 0)
		rc = ctl_transaction(ctl, forget, d, err);
	if (rc != 0)
		return rc;
	store_partial_drop(ctl->store, d);
	store_blocks_drop(ctl->store, d);
	rc = store_object_remove(ctl->store, d, err);
	return rc == 0 ? ctl_transaction(ctl, forget_leaving, d, err) : rc;
}

int
cmd_evict(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	char request[16 + DIGEST_HEX] = "evict ";
	struct image_row row = { 0 };
	struct err err = { 0 };
	struct jsonw *w;
	int rc;

	(void)opt;
	(void)n;
	rc = ctl_open(ctl, CTL_WRITE | CTL_SET_UP, &err);
	if (rc == 0)
		rc = ctl_find_image(ctl, args[0], &row, &err);
	if (rc == 0) {
		digest_hex(&row.meta.sha512, request + strlen(request));
		rc = control_call(ctl->conf, request, NULL, NULL, NULL, &err);
		if (rc == -ENOTCONN)
			rc = evict_here(ctl, &row.meta.sha512, &err);
	}
	if (rc == 0) {
		w = output_json(&ctl->out);
		if (w != NULL)
			jsonw_string(w, "evicted", row.meta.value[FIELD_ID]);
		output_note(&ctl->out, "image '%s' has left the cache", row.meta.value[FIELD_ID]);
	}
	image_row_release(&row);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

/* ---- expired --------------------------------------------------------------------------------- */

static int
list_one(void *arg, const struct expired_row *row)
{
	struct ctl *ctl = arg;
	struct jsonw *w = output_json(&ctl->out);
	char stamp[STAMP_BYTES];

	if (w != NULL) {
		jsonw_open(w, NULL, '{');
		jsonw_string(w, "name", row->name);
		jsonw_string(w, "id", row->meta.value[FIELD_ID]);
		jsonw_string(w, "version", row->meta.value[FIELD_VERSION]);
		jsonw_string(w, "sha512", row->meta.value[FIELD_SHA512]);
		jsonw_integer(w, "size", row->meta.size);
		jsonw_string(w, "subscription", row->list_id);
		jsonw_string(w, "reason", reason_name(row->reason));
		jsonw_stamp(w, "expired_at", row->expired_at);
		jsonw_string(w, "replaced_by", row->replaced_by);
		jsonw_boolean(w, "distrusted", row->distrusted);
		jsonw_boolean(w, "purged", row->purged);
		jsonw_close(w, '}');
	}
	stamp_format(row->expired_at, stamp);
	output_line(&ctl->out, "%s  %s  %-17s  %s%s", row->name, stamp, reason_name(row->reason),
		    row->meta.value[FIELD_TITLE], row->purged ? "  (purged)" : "");
	return output_drain(&ctl->out);
}

static int
list_expired(struct ctl *ctl, struct err *err)
{
	struct jsonw *w;
	int rc;

	rc = ctl_open(ctl, 0, err);
	if (rc != 0)
		return rc;
	w = output_json(&ctl->out);
	if (w != NULL)
		jsonw_open(w, "expired", '[');
	rc = catalogue_expired_each(ctl->catalogue, list_one, ctl, err);
	if (w != NULL)
		jsonw_close(w, ']');
	return rc;
}

static int
purge_here(struct ctl *ctl, int64_t age, struct purged *purged, struct err *err)
{
	int rc;

	rc = ctl_open(ctl, CTL_WRITE | CTL_SET_UP, err);
	if (rc == 0)
		rc = ctl_open_store(ctl, true, err);
	if (rc == 0)
		rc = purge_older(ctl->catalogue, ctl->store, age, stamp_now(), NULL, NULL, purged,
				 err);
	return rc;
}

/* A daemon does it, because it knows what is open. */
static int
purge(struct ctl *ctl, int64_t age, struct purged *purged, struct err *err)
{
	CLEANUP_FREE char *request = xasprintf("purge %" PRId64, age);
	CLEANUP_BUF struct buf answer = BUF_INIT;
	char *end;
	int rc;

	rc = control_call(ctl->conf, request, NULL, NULL, &answer, err);
	if (rc == -ENOTCONN)
		return purge_here(ctl, age, purged, err);
	if (rc == 0) {
		purged->files = (int)strtol(buf_str(&answer), &end, 10);
		purged->open = (int)strtol(end, NULL, 10);
	}
	return rc;
}

int
cmd_expired(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct purged purged = { 0 };
	struct err err = { 0 };
	struct jsonw *w;
	int64_t age;
	int rc;

	(void)args;
	(void)n;
	if (opt->purge == NULL) {
		rc = list_expired(ctl, &err);
		return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
	}
	if (!stamp_parse_span(opt->purge, &age))
		return ctl_usage(ctl, "expired", "'%s' is no age: 30d, 12h, 5m, 90s, or 0",
				 opt->purge);
	rc = purge(ctl, age, &purged, &err);
	if (rc != 0)
		return ctl_fail(ctl, &err);
	w = output_json(&ctl->out);
	if (w != NULL) {
		jsonw_integer(w, "purged", purged.files);
		jsonw_integer(w, "open", purged.open);
	}
	output_note(&ctl->out, "%d files of expired images removed", purged.files);
	if (purged.open > 0)
		output_note(&ctl->out, "%d are open and stay: purge again when they are closed",
			    purged.open);
	return EXIT_DONE;
}

/* ---- expire ---------------------------------------------------------------------------------- */

struct expiry {
	int images;	/* past their date */
	int lists;	/* no longer trusted, or trusted again */
};

static int
expire_by_date(struct ctl *ctl, void *arg, struct err *err)
{
	struct expiry *e = arg;

	return catalogue_expire_by_date(ctl->catalogue, stamp_now(), &e->images, err);
}

int
cmd_expire(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct expiry e = { 0 };
	struct err err = { 0 };
	struct refresh r;
	struct jsonw *w;
	int rc;

	(void)args;
	(void)n;
	rc = ctl_open(ctl, CTL_WRITE, &err);
	if (rc == 0)
		rc = ctl_transaction(ctl, expire_by_date, &e, &err);
	if (rc == 0) {
		ctl_refresh(ctl, false, &r);
		rc = recheck_lists(&r, opt->recheck ? RECHECK_IF_CHANGED : RECHECK_ALL, &e.lists,
				   &err);
	}
	/* A daemon that has us recheck does it itself, when it believes the clock. */
	if (rc == 0 && !(opt->recheck && control_listens(ctl->conf)))
		rc = catalogue_event_prune(ctl->catalogue, &err);
	if (rc == 0)
		rc = catalogue_expired_prune(ctl->catalogue, &err);
	ctl->poke = e.images > 0 || e.lists > 0;
	if (rc != 0)
		return ctl_fail(ctl, &err);
	w = output_json(&ctl->out);
	if (w != NULL) {
		jsonw_integer(w, "images", e.images);
		jsonw_integer(w, "subscriptions", e.lists);
	}
	output_note(&ctl->out, "%d images expired by date, trust changed for %d lists", e.images,
		    e.lists);
	return EXIT_DONE;
}
