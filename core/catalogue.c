/*
 * catalogue.c - transactions, notes, inode numbers, counts, closing.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <assert.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include "cleanup.h"
#include "site.h"

/* ---- small services -------------------------------------------------------------------------- */

/* 55 bits of the hash, above 8 that are left for the versions of a file. */
static int64_t
inode_hash(const char *name, unsigned salt)
{
	CLEANUP_BUF struct buf b = BUF_INIT;
	struct digest d;
	uint64_t value = 0;

	buf_puts(&b, name);
	buf_putc(&b, (char)salt);
	digest_of(b.data, b.len, &d);
	for (int i = 0; i < 8; i++)
		value = value << 8 | d.bytes[i];
	return (int64_t)(value >> 9 << 8);
}

int
cat_inode(struct catalogue *c, const char *kind, const char *name, int64_t *ino, struct err *err)
{
	CLEANUP_FREE char *key = xasprintf("%s:%s", kind, name);
	bool found = false;
	int rc = cat_int(c, SQL_INODE_GET, ARGS(arg_text(key)), ino, &found, err);

	for (unsigned salt = 0; rc == 0 && !found && salt < 256; salt++) {
		bool taken = true;
		int64_t value;

		*ino = inode_hash(key, salt);
		rc = cat_int(c, SQL_INODE_OWNER, ARGS(arg_int(*ino)), &value, &taken, err);
		/* Numbers below 2^16 are for the tree's fixed entries. */
		if (rc != 0 || taken || *ino < 1 << 16)
			continue;
		rc = cat_run(c, SQL_INODE_ADD, ARGS(arg_int(*ino), arg_text(key)), err);
		found = true;
	}
	return rc;
}

int
catalogue_note_set(struct catalogue *c, const char *key, const char *value, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = cat_run(c, SQL_NOTE_SET, ARGS(arg_text(key), arg_text(value)), err);
	return cat_scope_end(c, &scope, rc, err);
}

int
catalogue_note_read(struct catalogue *c, const char *key, char **value, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_NOTE_GET, ARGS(arg_text(key)), err);

	*value = NULL;
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc > 0)
		*value = next_text(&q);
	return rc > 0 ? 0 : rc;
}

char *
catalogue_note_get(struct catalogue *c, const char *key)
{
	char *value;

	catalogue_note_read(c, key, &value, NULL);
	return value;
}

const char *
catalogue_store_id(struct catalogue *c)
{
	return c->store_id;
}

int64_t
catalogue_data_version(struct catalogue *c)
{
	int64_t version;

	cat_int(c, SQL_DATA_VERSION, ARGS(), &version, NULL, NULL);
	return version;
}

int64_t
catalogue_revision(struct catalogue *c)
{
	int64_t revision = 0;

	cat_int(c, SQL_REVISION, ARGS(), &revision, NULL, NULL);
	return revision;
}

/* ---- transactions ---------------------------------------------------------------------------- */

int
catalogue_begin(struct catalogue *c, struct err *err)
{
	int rc;

	assert(!c->in_transaction);
	rc = cat_run(c, SQL_BEGIN, ARGS(), err);
	c->in_transaction = rc == 0;
	c->site_dirty = false;
	event_session_clear(c);
	return rc;
}

static int
count_decision(struct catalogue *c, struct err *err)
{
	CLEANUP_FREE char *serial = NULL, *next = NULL;
	int rc = catalogue_note_read(c, "site_serial", &serial, err);

	/* One that could not be read must not begin anew: site.json would look newer. */
	if (rc != 0)
		return rc;
	next = xasprintf("%lld", (serial != NULL ? strtoll(serial, NULL, 10) : 0) + 1);
	return cat_run(c, SQL_NOTE_SET, ARGS(arg_text("site_serial"), arg_text(next)), err);
}

int
catalogue_commit(struct catalogue *c, struct err *err)
{
	bool site = c->site_dirty;
	int rc;

	assert(c->in_transaction);
	rc = event_session_end(c, err);
	if (rc == 0 && site)
		rc = count_decision(c, err);
	if (rc == 0)
		rc = cat_run(c, SQL_COMMIT, ARGS(), err);
	if (rc != 0) {
		catalogue_rollback(c);
		return rc;
	}
	c->in_transaction = false;
	c->site_dirty = false;
	return site ? site_write(c, err) : 0;
}

void
cat_undo(struct catalogue *c)
{
	/*
	 * After some errors SQLite has rolled back by itself; and there may be no memory to say it.
	 */
	for (int i = 0; i < 2 && !sqlite3_get_autocommit(c->db); i++)
		cat_run(c, SQL_ROLLBACK, ARGS(), NULL);
}

void
catalogue_rollback(struct catalogue *c)
{
	if (!c->in_transaction)
		return;
	cat_undo(c);
	c->in_transaction = false;
	c->site_dirty = false;
}

int
cat_scope_begin(struct catalogue *c, struct cat_scope *s, struct err *err)
{
	s->own = !c->in_transaction;
	return s->own ? catalogue_begin(c, err) : 0;
}

int
cat_scope_end(struct catalogue *c, struct cat_scope *s, int rc, struct err *err)
{
	if (!s->own)
		return rc;
	if (rc != 0) {
		catalogue_rollback(c);
		return rc;
	}
	return catalogue_commit(c, err);
}

int
cat_change(struct catalogue *c, enum sql_id id, const struct cat_arg *args, struct err *err)
{
	struct cat_scope scope;
	int rc = cat_scope_begin(c, &scope, err);

	if (rc != 0)
		return rc;
	rc = cat_run(c, id, args, err);
	return cat_scope_end(c, &scope, rc, err);
}

/* ---- counts ---------------------------------------------------------------------------------- */

int
catalogue_count(struct catalogue *c, struct catalogue_counts *out, struct err *err)
{
	CAT_QUERY q = { 0 };
	int rc = cat_query_begin(&q, c, SQL_COUNTS, ARGS(), err);

	memset(out, 0, sizeof(*out));
	if (rc == 0)
		rc = cat_query_next(&q, err);
	if (rc <= 0)
		return rc;
	out->endorsers = next_int(&q);
	out->subscriptions = next_int(&q);
	out->tried = next_int(&q);
	out->expired = next_int(&q);
	out->images = next_int(&q);
	out->selected = next_int(&q);
	out->verified = next_int(&q);
	out->failed = next_int(&q);
	out->partial = next_int(&q);
	out->degraded = next_int(&q);
	return 0;
}

/* ---- closing --------------------------------------------------------------------------------- */

void
cat_close_db(struct catalogue *c)
{
	for (int i = 0; i < N_SQL; i++) {
		sqlite3_finalize(c->stmt[i]);
		c->stmt[i] = NULL;
	}
	sqlite3_close_v2(c->db);
	c->db = NULL;
}

void
catalogue_close(struct catalogue *c)
{
	if (c == NULL)
		return;
	catalogue_rollback(c);
	cat_close_db(c);
	close_keep_errno(c->messages_dir);
	close_keep_errno(c->state_dir);
	free(c);
}
