/*
 * cat_event.c - the outbox: what happened to images, written in the transaction that did it.
 *
 * Types are vmcatcher's (ExpirePrefix, ExpirePostfix, AvailablePrefix, AvailablePostfix),
 * CorruptFound and CorruptHealed.  The JSON of an event names the image's fields as the files of
 * images/<id>/ do; an event never holds anything of a subscription but its identifier.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "json.h"

void
event_row_release(struct event_row *r)
{
	free(r->uuid);
	free(r->type);
	free(r->identifier);
	free(r->list_id);
	free(r->json);
	memset(r, 0, sizeof(*r));
}

static void
write_fields(struct jsonw *w, const struct image_meta *m)
{
	for (int i = 0; i < N_FIELDS; i++) {
		const struct field *f = &field_table[i];

		if (f->file == NULL || m->value[i] == NULL || m->value[i][0] == '\0')
			continue;
		if (f->type == FIELD_BYTES)
			jsonw_integer(w, f->file, m->size);
		else
			jsonw_string(w, f->file, m->value[i]);
	}
}

static void
write_event(struct buf *out, const char *uuid, const char *type, const struct image_meta *m,
	    const char *list_id, const char *filename, const char *reason, int64_t now)
{
	struct jsonw w;

	jsonw_begin(&w, out, false);
	jsonw_open(&w, NULL, '{');
	jsonw_string(&w, "uuid", uuid);
	jsonw_stamp(&w, "time", now);
	jsonw_string(&w, "type", type);
	jsonw_string(&w, "subscription", list_id);
	jsonw_string(&w, "filename", filename);
	if (reason != NULL)
		jsonw_string(&w, "reason", reason);
	write_fields(&w, m);
	jsonw_close(&w, '}');
}

int
event_add(struct catalogue *c, const char *type, int64_t meta, const char *list_id,
	  const char *filename, const char *reason, int64_t now, struct err *err)
{
	CAT_QUERY q = { 0 };
	CLEANUP_BUF struct buf json = BUF_INIT;
	char uuid[STORE_ID_TEXT];
	struct image_meta m;
	int rc = cat_query_begin(&q, c, SQL_META_GET, ARGS(arg_int(meta)), err);

	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc == 0)
		rc = err_refuse(err, CODE_DATABASE, "catalogue: metadata %lld is missing",
				(long long)meta);
	if (rc < 0)
		return rc;
	meta_next(&q, &m);
	cat_random_uuid(uuid);
	write_event(&json, uuid, type, &m, list_id, filename, reason, now);
	rc = cat_run(c, SQL_EVENT_ADD,
		     ARGS(arg_text(uuid), arg_int(now), arg_text(type), arg_text(m.value[FIELD_ID]),
			  arg_text(list_id), arg_text(buf_str(&json))), err);
	image_meta_release(&m);
	return rc;
}

int
catalogue_event_each(struct catalogue *c, int64_t after_id, int last_n,
		     int (*fn)(void *arg, const struct event_row *r), void *arg, struct err *err)
{
	CAT_QUERY q = { 0 };
	/* 0 or less: all of them; SQLite reads a negative limit as none. */
	int rc = cat_query_begin(&q, c, SQL_EVENT_EACH,
				 ARGS(arg_int(after_id), arg_int(last_n > 0 ? last_n : -1)), err);

	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		struct event_row r = { .id = next_int(&q) };

		r.uuid = next_text(&q);
		r.time = next_int(&q);
		r.type = next_text(&q);
		r.identifier = next_text(&q);
		r.list_id = next_text(&q);
		r.json = next_text(&q);
		rc = fn(arg, &r);
		event_row_release(&r);
	}
	return rc;
}

int64_t
catalogue_event_last(struct catalogue *c)
{
	int64_t last = 0;

	cat_int(c, SQL_EVENT_LAST, ARGS(), &last, NULL, NULL);
	return last;
}
