/*
 * cat_stmt.c - running the named statements: binding, stepping, SQLite's errors as ours.
 *
 * A statement is prepared at its first use and kept.  A query that is begun while its statement
 * is still being walked gets a copy of its own, so that callbacks may ask whatever they like.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

struct cat_arg
arg_int(int64_t value)
{
	return (struct cat_arg){ .kind = ARG_INTEGER, .integer = value };
}

struct cat_arg
arg_id(int64_t value)
{
	return (struct cat_arg){ .kind = value != 0 ? ARG_INTEGER : ARG_NULL, .integer = value };
}

struct cat_arg
arg_text(const char *value)
{
	return (struct cat_arg){ .kind = value != NULL ? ARG_TEXT : ARG_NULL, .data = value,
				 .len = value != NULL ? strlen(value) : 0 };
}

struct cat_arg
arg_digest(const struct digest *value)
{
	return (struct cat_arg){ .kind = value != NULL ? ARG_BLOB : ARG_NULL,
				 .data = value != NULL ? value->bytes : NULL, .len = DIGEST_BYTES };
}

/* SQLite says of a file for which there was no descriptor that it cannot be opened. */
static int
explain_unopened(struct catalogue *c, const char *why, struct err *err)
{
	int errnum = c->db != NULL ? sqlite3_system_errno(c->db) : 0;

	if (errnum == 0 || errnum == EACCES || errnum == EPERM || errnum == EROFS)
		return err_set(
			err, EACCES,
			"catalogue: %s: '%s' must belong to the user that runs this, mode 0600",
			why, c->conf->state_dir);
	return err_set(err, errnum, "catalogue: %s: %s", why, strerrordesc_np(errnum));
}

int
cat_fail(struct catalogue *c, struct err *err)
{
	const char *why = c->db != NULL ? sqlite3_errmsg(c->db) : "out of memory";

	switch (sqlite3_errcode(c->db) & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return err_refuse(err, CODE_BUSY,
				  "catalogue: another process has been writing for too long");
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return err_refuse(err, CODE_CORRUPT,
				  "catalogue: %s: start vmimagefs, which rebuilds it", why);
	case SQLITE_FULL:
		return err_refuse(err, CODE_FULL, "catalogue: no room in '%s': free some space",
				  c->conf->state_dir);
	case SQLITE_NOMEM:
		return err_set(err, ENOMEM, "catalogue: out of memory: try again later");
	case SQLITE_CONSTRAINT:
		return err_set(err, EEXIST, "catalogue: %s", why);
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_CANTOPEN:
	case SQLITE_AUTH:
		return explain_unopened(c, why, err);
	default:
		return err_refuse(err, CODE_DATABASE, "catalogue: %s", why);
	}
}

static int
bind_args(struct sqlite3_stmt *stmt, const struct cat_arg *args)
{
	int rc = SQLITE_OK;

	for (int i = 1; args->kind != ARG_END && rc == SQLITE_OK; i++, args++) {
		switch (args->kind) {
		case ARG_INTEGER:
			rc = sqlite3_bind_int64(stmt, i, args->integer);
			break;
		case ARG_TEXT:
			rc = sqlite3_bind_text64(stmt, i, args->data, args->len, SQLITE_TRANSIENT,
						 SQLITE_UTF8);
			break;
		case ARG_BLOB:
			rc = sqlite3_bind_blob64(stmt, i, args->data, args->len, SQLITE_TRANSIENT);
			break;
		case ARG_NULL:
			rc = sqlite3_bind_null(stmt, i);
			break;
		case ARG_END:
			break;
		}
	}
	return rc;
}

int
cat_query_begin(struct cat_query *q, struct catalogue *c, enum sql_id id,
		const struct cat_arg *args, struct err *err)
{
	memset(q, 0, sizeof(*q));
	q->c = c;
	q->stmt = c->stmt[id];
	if (q->stmt == NULL || sqlite3_stmt_busy(q->stmt)) {
		q->own = q->stmt != NULL;
		q->stmt = NULL;
		if (sqlite3_prepare_v3(c->db, catalogue_sql(id), -1,
				       q->own ? 0 : SQLITE_PREPARE_PERSISTENT, &q->stmt,
				       NULL) != SQLITE_OK)
			return cat_fail(c, err);
		if (!q->own)
			c->stmt[id] = q->stmt;
	}
	if (bind_args(q->stmt, args) != SQLITE_OK)
		return cat_fail(c, err);
	return 0;
}

int
cat_query_next(struct cat_query *q, struct err *err)
{
	q->column = 0;
	switch (sqlite3_step(q->stmt)) {
	case SQLITE_ROW:
		return 1;
	case SQLITE_DONE:
		return 0;
	default:
		return cat_fail(q->c, err);
	}
}

void
cat_query_end(struct cat_query *q)
{
	if (q->stmt == NULL)
		return;
	if (q->own) {
		sqlite3_finalize(q->stmt);
	} else {
		sqlite3_reset(q->stmt);
		sqlite3_clear_bindings(q->stmt);
	}
	q->stmt = NULL;
}

int64_t
next_int(struct cat_query *q)
{
	return sqlite3_column_int64(q->stmt, q->column++);
}

bool
next_bool(struct cat_query *q)
{
	return sqlite3_column_int(q->stmt, q->column++) != 0;
}

char *
next_text(struct cat_query *q)
{
	const unsigned char *text = sqlite3_column_text(q->stmt, q->column++);

	/* A text that there is no room for is not the same as none. */
	if (text == NULL && sqlite3_errcode(q->c->db) == SQLITE_NOMEM)
		out_of_memory();
	return xstrdup((const char *)text);
}

bool
next_digest(struct cat_query *q, struct digest *d)
{
	const void *data = sqlite3_column_blob(q->stmt, q->column);
	int len = sqlite3_column_bytes(q->stmt, q->column++);

	memset(d, 0, sizeof(*d));
	if (data == NULL || len != DIGEST_BYTES)
		return false;
	memcpy(d->bytes, data, DIGEST_BYTES);
	return true;
}

int
cat_run(struct catalogue *c, enum sql_id id, const struct cat_arg *args, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, id, args, err);

	if (rc == 0)
		rc = cat_query_next(&q, err);
	return rc > 0 ? 0 : rc;
}

int
cat_int(struct catalogue *c, enum sql_id id, const struct cat_arg *args, int64_t *value,
	bool *found, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, id, args, err);

	*value = 0;
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (found != NULL)
		*found = rc > 0;
	if (rc > 0)
		*value = next_int(&q);
	return rc > 0 ? 0 : rc;
}

int
cat_ids(struct catalogue *c, enum sql_id id, const struct cat_arg *args, int64_t **ids, size_t *n,
	struct err *err)
{
	CAT_QUERY q = { 0 };
	size_t room = 0;
	int rc = cat_query_begin(&q, c, id, args, err);

	*ids = NULL;
	*n = 0;
	while (rc == 0 && (rc = cat_query_next(&q, err)) > 0) {
		if (*n == room) {
			room = room == 0 ? 16 : room * 2;
			*ids = xrealloc(*ids, room * sizeof(**ids));
		}
		(*ids)[(*n)++] = next_int(&q);
		rc = 0;
	}
	return rc;
}

int64_t
cat_last_id(struct catalogue *c)
{
	return sqlite3_last_insert_rowid(c->db);
}

int
cat_n_changed(struct catalogue *c)
{
	return sqlite3_changes(c->db);
}

int
cat_word(const char *const *table, int n, const char *word)
{
	for (int i = 0; word != NULL && i < n; i++)
		if (strcmp(table[i], word) == 0)
			return i;
	return -1;
}
