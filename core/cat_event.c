/*
 * cat_event.c - the outbox: what happened to images, written in the transaction that did it.
 *
 * Types are vmcatcher's and, of ours, CorruptFound and CorruptHealed.  The JSON of an event is the
 * whole record: what happened, each field of the image by its name in the field table, and under
 * "metadata" what the list says, verbatim.  It never holds anything of a subscription but its
 * identifier.
 *
 * The events of one transaction share a session, as those of one run of vmcatcher_cache did: the
 * first of an image that comes, goes or is damaged is preceded by ProcessPrefix, and the commit
 * writes ProcessPostfix.  SubscriptionImageNew belongs to the session without calling for one,
 * since vmcatcher_subscribe has none.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "json.h"
#include "jsonw.h"

const char *
event_state_name(enum event_state s)
{
	switch (s) {
	case EVENT_NO_HANDLER:
		break;
	case EVENT_DELIVERED:
		return "delivered";
	case EVENT_WAITING:
		return "waiting";
	case EVENT_FAILED:
		return "failed";
	}
	return "none";
}

void
event_row_release(struct event_row *r)
{
	free(r->uuid);
	free(r->session);
	free(r->type);
	free(r->identifier);
	free(r->list_id);
	free(r->json);
	free(r->error);
	memset(r, 0, sizeof(*r));
}

/* ---- writing --------------------------------------------------------------------------------- */

/* An event before it has a row. */
struct happening {
	const char *type, *list_id, *filename, *reason;
	const struct image_meta *meta;	/* NULL: Process events */
	const char *session;
	int64_t handler;		/* it is for this one alone; 0: for all who take its type */
	int64_t time;
};

static const char *
or_empty(const char *text)
{
	return text != NULL ? text : "";
}

/* The list's object as json_dump() wrote it: what is no string begins lines with spaces. */
static void
write_metadata(struct jsonw *w, const char *json)
{
	CLEANUP_BUF struct buf line = BUF_INIT;

	for (const char *s = json; *s != '\0'; s++) {
		if (*s != '\n')
			buf_putc(&line, *s);
		else
			s += strspn(s + 1, " ");
	}
	jsonw_raw(w, "metadata", line.len > 0 ? buf_str(&line) : "{}");
}

static void
write_fields(struct jsonw *w, const struct image_meta *m)
{
	for (int i = 0; i < N_FIELDS; i++) {
		const struct field *f = &field_table[i];

		if (f->type == FIELD_BYTES)
			jsonw_integer(w, f->column, m->size);
		else
			jsonw_string(w, f->column, or_empty(m->value[i]));
	}
	write_metadata(w, or_empty(m->json));
}

static void
write_event(struct buf *out, const char *uuid, const struct happening *h)
{
	struct jsonw w;

	jsonw_begin(&w, out, false);
	jsonw_open(&w, NULL, '{');
	jsonw_string(&w, "uuid", uuid);
	jsonw_string(&w, "session", h->session);
	jsonw_stamp(&w, "time", h->time);
	jsonw_string(&w, "type", h->type);
	if (h->meta != NULL) {
		jsonw_string(&w, "subscription", h->list_id);
		jsonw_string(&w, "filename", or_empty(h->filename));
		jsonw_string(&w, "reason", or_empty(h->reason));
		write_fields(&w, h->meta);
	}
	jsonw_close(&w, '}');
}

static int
insert(struct catalogue *c, const struct happening *h, struct err *err)
{
	CLEANUP_BUF struct buf json = BUF_INIT;
	char uuid[UUID_TEXT];
	int rc;

	uuid_random(uuid);
	write_event(&json, uuid, h);
	rc = cat_run(c, SQL_EVENT_ADD,
		     ARGS(arg_text(uuid), arg_text(h->session), arg_int(h->time), arg_text(h->type),
			  arg_text(h->meta != NULL ? or_empty(h->meta->value[FIELD_ID]) : ""),
			  arg_text(or_empty(h->list_id)), arg_text(buf_str(&json)),
			  arg_id(h->handler)),
		     err);
	return rc == 0 ? delivery_add(c, cat_last_id(c), err) : rc;
}

static int
insert_process(struct catalogue *c, const char *type, const char *session, int64_t handler,
	       int64_t now, struct err *err)
{
	struct happening h = { .type = type, .session = session, .handler = handler, .time = now };

	return insert(c, &h, err);
}

/* Of this transaction; with: it gets its ProcessPrefix now, unless it has one. */
static int
join_session(struct catalogue *c, bool with, int64_t now, struct err *err)
{
	if (c->session[0] == '\0')
		uuid_random(c->session);
	if (!with || c->session_time != 0)
		return 0;
	c->session_time = now;
	return insert_process(c, "ProcessPrefix", c->session, 0, now, err);
}

int
event_session_end(struct catalogue *c, struct err *err)
{
	if (c->session_time == 0)
		return 0;
	return insert_process(c, "ProcessPostfix", c->session, 0, c->session_time, err);
}

void
event_session_clear(struct catalogue *c)
{
	c->session[0] = '\0';
	c->session_time = 0;
}

static int
get_meta(struct catalogue *c, int64_t meta, struct image_meta *m, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_META_GET, ARGS(arg_int(meta)), err);

	memset(m, 0, sizeof(*m));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc == 0)
		rc = err_refuse(err, CODE_DATABASE, "catalogue: metadata %lld is missing",
				(long long)meta);
	if (rc < 0)
		return rc;
	meta_next(&q, m);
	return 0;
}

int
event_add(struct catalogue *c, const char *type, int64_t meta, const char *list_id,
	  const char *filename, const char *reason, int64_t now, struct err *err)
{
	struct image_meta m;
	struct happening h = { .type = type, .list_id = list_id, .filename = filename,
			       .reason = reason, .meta = &m, .session = c->session, .time = now };
	int rc = get_meta(c, meta, &m, err);

	if (rc == 0)
		rc = join_session(c, true, now, err);
	if (rc == 0)
		rc = insert(c, &h, err);
	image_meta_release(&m);
	return rc;
}

int
event_add_new(struct catalogue *c, const struct image_meta *m, const char *list_id, int64_t now,
	      struct err *err)
{
	struct happening h = { .type = "SubscriptionImageNew", .list_id = list_id, .meta = m,
			       .session = c->session, .time = now };
	int rc = join_session(c, false, now, err);

	return rc == 0 ? insert(c, &h, err) : rc;
}

int
catalogue_event_process(struct catalogue *c, const char *type, const char *session,
			int64_t handler, int64_t now, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = insert_process(c, type, session, handler, now, err);
	return cat_scope_end(c, &scope, rc, err);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The row of a query that begins with the columns of an event. */
static void
event_next(struct cat_query *q, struct event_row *r)
{
	memset(r, 0, sizeof(*r));
	r->id = next_int(q);
	r->uuid = next_text(q);
	r->session = next_text(q);
	r->time = next_int(q);
	r->type = next_text(q);
	r->identifier = next_text(q);
	r->list_id = next_text(q);
	r->json = next_text(q);
	r->state = (enum event_state)next_int(q);
	r->tries = (int)next_int(q);
	r->error = next_text(q);
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
		struct event_row r;

		event_next(&q, &r);
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

int
event_by_id(struct catalogue *c, int64_t id, struct event_row *out, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_EVENT_BY_ID, ARGS(arg_int(id)), err);

	memset(out, 0, sizeof(*out));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc == 0)
		return err_set(err, ENOENT, "no event with number %lld", (long long)id);
	if (rc < 0)
		return rc;
	event_next(&q, out);
	return 0;
}

/* The number that the text is; 0 if it is none. */
static int64_t
as_number(const char *text)
{
	char *end;
	long long value;

	if (text[0] < '1' || text[0] > '9')
		return 0;
	errno = 0;
	value = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0' ? value : 0;
}

int
catalogue_event_find(struct catalogue *c, const char *what, struct event_row *out, struct err *err)
{
	CLEANUP_FREE int64_t *ids = NULL;
	int64_t number = as_number(what);
	size_t n = 0;
	int rc;

	memset(out, 0, sizeof(*out));
	if (number != 0 && event_by_id(c, number, out, NULL) == 0)
		return 0;
	if (strlen(what) >= 4) {
		rc = cat_ids(c, SQL_EVENT_BY_UUID, ARGS(arg_text(what)), &ids, &n, err);
		if (rc != 0)
			return rc;
	}
	if (n > 1)
		return err_set(err, ENOTUNIQ, "several events begin with '%s': give more of it",
			       what);
	if (n == 0)
		return err_set(err, ENOENT, "no event '%s': vmimagectl events lists them", what);
	return event_by_id(c, ids[0], out, err);
}
