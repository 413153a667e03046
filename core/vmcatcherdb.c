/*
 * vmcatcherdb.c - the tables of vmcatcher 0.6, read from a copy in memory.
 *
 *	endorser 1--n endorserPrincible                     names of certificates
 *	    1
 *	    n
 *	subscriptionAuth n--1 subscription 1--n ImageDefinition     who may sign; cache: selected
 *	    1                   1
 *	    n                   | imagelist_latest
 *	imageListInstance <-----+                           data: the signed message
 *
 * SQLite would make files beside a database that it opens, or change it to finish what a program
 * that died has begun.  So the file is copied into memory under the lock that SQLite's own readers
 * take (a shared one on the byte ranges of os_unix.c), and the copy is opened.  A program that is
 * about to write disturbs nothing: until it has the lock alone, what it changes is in its memory
 * and in the journal.  One that writes just now is waited for.  What was interrupted half-way (a
 * hot journal), or lies in a -wal, is refused: only a program that may write the database can
 * finish it.
 */
#include "config.h"
#include "vmcatcherdb.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "limits.h"
#include "utf8.h"

enum {
	HEADER_BYTES = 100,
	WRITE_VERSION = 18, READ_VERSION = 19,	/* offsets in the header: 1 journal, 2 WAL */
	/* SQLite's lock bytes. */
	LOCK_PENDING = 0x40000000, LOCK_RESERVED, LOCK_SHARED, LOCK_SHARED_BYTES = 510,
	BUSY_MS = 5000, BUSY_STEP_MS = 20,
};

struct vmcatcherdb {
	struct sqlite3 *db;
	char *path;
};

/* ---- the statements -------------------------------------------------------------------------- */

static const char sql_tables[] =
	"SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('endorserPrincible',"
	" 'ImageDefinition', 'imageListInstance', 'subscriptionAuth')";
static const char sql_has_column[] =
	"SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2";
static const char sql_check[] = "PRAGMA integrity_check(1)";
static const char sql_lonely[] =
	"SELECT identifier FROM endorser AS e WHERE NOT EXISTS"
	" (SELECT 1 FROM endorserPrincible AS p WHERE p.endorser = e.id) ORDER BY id";
static const char sql_credentials[] =
	"SELECT e.identifier, p.hv_dn, p.hv_ca FROM endorserPrincible AS p"
	" LEFT JOIN endorser AS e ON e.id = p.endorser ORDER BY e.id, p.id";
static const char sql_subscriptions[] =
	"SELECT s.identifier, s.uri, s.userName, s.password, s.authorised, s.trustAnchor,"
	" s.updateMode, l.data FROM subscription AS s"
	" LEFT JOIN imageListInstance AS l ON l.id = s.imagelist_latest ORDER BY s.id";
static const char sql_links[] =
	"SELECT e.identifier, s.identifier, a.authorised FROM subscriptionAuth AS a"
	" LEFT JOIN endorser AS e ON e.id = a.endorser"
	" LEFT JOIN subscription AS s ON s.id = a.subscription ORDER BY a.id";
static const char sql_images[] =
	"SELECT d.identifier, s.identifier, d.cache FROM ImageDefinition AS d"
	" LEFT JOIN subscription AS s ON s.id = d.subscription ORDER BY d.id";

/* What the statements need. */
static const struct column {
	const char *table, *name;
} columns[] = {
	{ "endorser", "id" }, { "endorser", "identifier" },
	{ "endorserPrincible", "id" }, { "endorserPrincible", "endorser" },
	{ "endorserPrincible", "hv_dn" }, { "endorserPrincible", "hv_ca" },
	{ "subscription", "id" }, { "subscription", "identifier" }, { "subscription", "uri" },
	{ "subscription", "userName" }, { "subscription", "password" },
	{ "subscription", "authorised" }, { "subscription", "trustAnchor" },
	{ "subscription", "updateMode" }, { "subscription", "imagelist_latest" },
	{ "subscriptionAuth", "id" }, { "subscriptionAuth", "endorser" },
	{ "subscriptionAuth", "subscription" }, { "subscriptionAuth", "authorised" },
	{ "ImageDefinition", "id" }, { "ImageDefinition", "identifier" },
	{ "ImageDefinition", "subscription" }, { "ImageDefinition", "cache" },
	{ "imageListInstance", "id" }, { "imageListInstance", "data" },
};

/* ---- the file -------------------------------------------------------------------------------- */

static int
say_errno(struct err *err, int errnum, const char *what, const char *path)
{
	return err_set(err, errnum, "cannot %s '%s': %s", what, path, strerrordesc_np(errnum));
}

/* Without a mark on the file that it was read, where its owner allows that. */
static int
open_file(const char *path, struct err *err)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	CLEANUP_FD int fd = io_openat(AT_FDCWD, path, flags | O_NOATIME, 0);
	struct stat st;

	if (fd < 0 && errno == EPERM)
		fd = io_openat(AT_FDCWD, path, flags, 0);
	if (fd < 0 || fstat(fd, &st) != 0)
		return say_errno(err, errno, "open", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "'%s' is no file: a database of vmcatcher is one",
			       path);
	return steal_fd(&fd);
}

static bool
is_held(int err_no)
{
	return err_no == EAGAIN || err_no == EACCES;
}

static int
set_lock(int fd, short type, off_t start, off_t len)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start,
			      .l_len = len };

	return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : -errno;
}

/* As SQLite's readers do: a writer that waits for them is let in first. */
static int
try_lock(int fd)
{
	int rc = set_lock(fd, F_RDLCK, LOCK_PENDING, 1);

	if (rc != 0)
		return rc;
	rc = set_lock(fd, F_RDLCK, LOCK_SHARED, LOCK_SHARED_BYTES);
	(void)set_lock(fd, F_UNLCK, LOCK_PENDING, 1);
	return rc;
}

static int
lock_shared(int fd, const char *path, struct err *err)
{
	const struct timespec step = { .tv_nsec = BUSY_STEP_MS * 1000000L };
	long long end = io_monotonic_ms() + BUSY_MS;
	int rc;

	while ((rc = try_lock(fd)) != 0 && is_held(-rc) && io_monotonic_ms() < end)
		nanosleep(&step, NULL);
	if (rc != 0 && is_held(-rc))
		return err_refuse(err, CODE_BUSY, "'%s' is being written by another program just"
				  " now", path);
	/* A file system without locks had none for vmcatcher either; a torn copy is found out. */
	return 0;
}

/* Whether somebody has begun to write: then the journal is his. */
static bool
is_reserved(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_RESERVED,
			      .l_len = 1 };

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* The first byte of PATH and a suffix: -ENOENT if there is no such file, or it is empty. */
static int
first_byte(const char *path, const char *suffix, unsigned char *byte)
{
	CLEANUP_FREE char *name = xasprintf("%s%s", path, suffix);
	CLEANUP_FD int fd = io_openat(AT_FDCWD, name,
				      O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = io_read_full(fd, byte, 1);
	return n == 1 ? 0 : n < 0 ? (int)n : -ENOENT;
}

static int
check_companions(int fd, const char *path, struct err *err)
{
	CLEANUP_FREE char *real = realpath(path, NULL);
	unsigned char byte = 0;
	int rc;

	if (real == NULL)
		return say_errno(err, errno, "open", path);
	rc = first_byte(real, "-wal", &byte);
	if (rc == 0)
		return err_refuse(err, CODE_BUSY, "the last changes of '%s' are not in it but in"
				  " '%s-wal': end the programs that use it", path, real);
	if (rc != -ENOENT)
		return err_set(err, -rc, "cannot read '%s-wal': %s", real, strerrordesc_np(-rc));
	rc = first_byte(real, "-journal", &byte);
	if (rc == -ENOENT || is_reserved(fd))
		return 0;
	if (rc != 0)
		return err_set(err, -rc, "cannot read '%s-journal': %s", real,
			       strerrordesc_np(-rc));
	/* A header of zeros is how a transaction ends in the mode that keeps the journal. */
	if (byte == 0)
		return 0;
	return err_refuse(err, CODE_BUSY, "a change of '%s' was interrupted half-way, and"
			  " '%s-journal' says how to undo it: let vmcatcher (such as"
			  " 'vmcatcher_subscribe -l') do that, or import a copy of both files where"
			  " it was done", path, real);
}

static int
check_size(const char *path, off_t size, struct err *err)
{
	if (size == 0)
		return err_set(err, EINVAL, "'%s' is empty: it is no database of vmcatcher", path);
	if (size > LIMIT_VMCATCHER_DB_BYTES)
		return err_refuse(err, CODE_LIMIT, "'%s' is larger than %lld bytes", path,
				  LIMIT_VMCATCHER_DB_BYTES);
	return 0;
}

/* Whole pages, as many as it says, so that a file that was cut off is called what it is. */
static int
check_header(unsigned char *h, const char *path, long long size, struct err *err)
{
	static const char magic[] = "SQLite format 3";
	long long page, n_pages;

	if (size < (long long)sizeof(magic) || memcmp(h, magic, sizeof(magic)) != 0)
		return err_set(err, EINVAL, "'%s' is no SQLite database", path);
	if (size < HEADER_BYTES)
		return err_refuse(err, CODE_CORRUPT, "'%s' is cut off: it has %lld bytes", path,
				  size);
	page = h[16] << 8 | h[17];
	page = page == 1 ? 65536 : page;
	n_pages = (long long)h[28] << 24 | h[29] << 16 | h[30] << 8 | h[31];
	if (page < 512 || size < page * n_pages)
		return err_refuse(err, CODE_CORRUPT, "'%s' is cut off: it has %lld bytes of %lld",
				  path, size, page * n_pages);
	/* There is no -wal: nothing is lost by reading it as a database that never has one. */
	if (h[READ_VERSION] == 2)
		h[READ_VERSION] = h[WRITE_VERSION] = 1;
	return 0;
}

/* As it is at one moment; allocated by SQLite, which frees it. */
static int
copy_file(const char *path, unsigned char **copy, int64_t *size, struct err *err)
{
	CLEANUP_FD int fd = -1;
	struct stat st;
	ssize_t n;
	int rc;

	fd = open_file(path, err);
	if (fd < 0)
		return fd;
	rc = lock_shared(fd, path, err);
	if (rc == 0)
		rc = check_companions(fd, path, err);
	if (rc == 0 && fstat(fd, &st) != 0)
		rc = say_errno(err, errno, "look at", path);
	if (rc == 0)
		rc = check_size(path, st.st_size, err);
	if (rc != 0)
		return rc;
	*size = st.st_size;
	*copy = sqlite3_malloc64((sqlite3_uint64)st.st_size);
	if (*copy == NULL)
		return err_set(err, ENOMEM, "no memory for the %lld bytes of '%s'",
			       (long long)st.st_size, path);
	n = io_pread_full(fd, *copy, (size_t)st.st_size, 0);
	if (n == st.st_size)
		rc = check_header(*copy, path, st.st_size, err);
	else
		rc = say_errno(err, n < 0 ? (int)-n : EIO, "read", path);
	if (rc != 0)
		sqlite3_free(*copy);
	return rc;
}

/* ---- the database ---------------------------------------------------------------------------- */

static int
fail(const struct vmcatcherdb *d, struct err *err)
{
	const char *why = d->db != NULL ? sqlite3_errmsg(d->db) : "out of memory";

	switch (sqlite3_errcode(d->db) & 0xff) {
	case SQLITE_NOTADB:
		return err_set(err, EINVAL, "'%s' is no SQLite database", d->path);
	case SQLITE_CORRUPT:
		return err_refuse(err, CODE_CORRUPT, "'%s' is damaged: %s", d->path, why);
	default:
		return err_refuse(err, CODE_DATABASE, "cannot read '%s': %s", d->path, why);
	}
}

#define STMT __attribute__((cleanup(finalize))) struct sqlite3_stmt

static void
finalize(struct sqlite3_stmt **stmt)
{
	sqlite3_finalize(*stmt);
}

static int
prepare(const struct vmcatcherdb *d, const char *sql, struct sqlite3_stmt **stmt, struct err *err)
{
	return sqlite3_prepare_v2(d->db, sql, -1, stmt, NULL) == SQLITE_OK ? 0 : fail(d, err);
}

/* 1: a row; 0: no more. */
static int
step(const struct vmcatcherdb *d, struct sqlite3_stmt *stmt, struct err *err)
{
	switch (sqlite3_step(stmt)) {
	case SQLITE_ROW:
		return 1;
	case SQLITE_DONE:
		return 0;
	default:
		return fail(d, err);
	}
}

/* Takes the copy. */
static int
open_copy(struct vmcatcherdb *d, unsigned char *copy, int64_t size, struct err *err)
{
	static const char pragmas[] = "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
				      "PRAGMA temp_store = MEMORY;";
	int rc = sqlite3_open_v2(":memory:", &d->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
				 NULL);

	if (rc != SQLITE_OK)
		sqlite3_free(copy);
	else
		rc = sqlite3_deserialize(d->db, "main", copy, size, size,
					 SQLITE_DESERIALIZE_FREEONCLOSE |
						 SQLITE_DESERIALIZE_READONLY);
	if (rc == SQLITE_OK) {
		sqlite3_db_config(d->db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
		sqlite3_limit(d->db, SQLITE_LIMIT_LENGTH, 4 * LIMIT_MESSAGE_BYTES);
		rc = sqlite3_exec(d->db, pragmas, NULL, NULL, NULL);
	}
	return rc == SQLITE_OK ? 0 : fail(d, err);
}

static int
count_tables(const struct vmcatcherdb *d, int *n, struct err *err)
{
	STMT *stmt = NULL;
	int rc = prepare(d, sql_tables, &stmt, err);

	if (rc == 0)
		rc = step(d, stmt, err);
	if (rc <= 0)
		return rc;
	*n = sqlite3_column_int(stmt, 0);
	return 0;
}

static int
check_integrity(const struct vmcatcherdb *d, struct err *err)
{
	const unsigned char *said;
	STMT *stmt = NULL;
	int rc = prepare(d, sql_check, &stmt, err);

	if (rc == 0)
		rc = step(d, stmt, err);
	if (rc < 0)
		return rc;
	said = rc > 0 ? sqlite3_column_text(stmt, 0) : NULL;
	if (said == NULL || strcmp((const char *)said, "ok") != 0)
		return err_refuse(err, CODE_CORRUPT, "'%s' is damaged: %s", d->path,
				  said != NULL ? (const char *)said : "it cannot be checked");
	return 0;
}

static int
check_schema(const struct vmcatcherdb *d, struct err *err)
{
	STMT *stmt = NULL;
	int rc = prepare(d, sql_has_column, &stmt, err);

	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]) && rc == 0; i++) {
		sqlite3_reset(stmt);
		sqlite3_bind_text(stmt, 1, columns[i].table, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, columns[i].name, -1, SQLITE_STATIC);
		rc = step(d, stmt, err);
		if (rc == 0)
			return err_set(err, EINVAL, "'%s' is of another version of vmcatcher than"
				       " 0.6: its table '%s' has no column '%s'", d->path,
				       columns[i].table, columns[i].name);
		rc = rc > 0 ? 0 : rc;
	}
	return rc;
}

/* The copy is open, whatever is in it. */
static int
open_any(struct vmcatcherdb **out, const char *path, int *n_tables, struct err *err)
{
	struct vmcatcherdb *d = xcalloc(1, sizeof(*d));
	unsigned char *copy = NULL;
	int64_t size = 0;
	int rc;

	d->path = xstrdup(path);
	rc = copy_file(path, &copy, &size, err);
	if (rc == 0)
		rc = open_copy(d, copy, size, err);
	if (rc == 0)
		rc = count_tables(d, n_tables, err);
	if (rc != 0) {
		vmcatcherdb_close(d);
		return rc;
	}
	*out = d;
	return 0;
}

int
vmcatcherdb_is(const char *path, struct err *err)
{
	struct vmcatcherdb *d = NULL;
	struct err why = { 0 };
	int n = 0, rc = open_any(&d, path, &n, &why);

	vmcatcherdb_close(d);
	/* Something else altogether. */
	if (rc == -EINVAL && why.code == CODE_NONE)
		return 0;
	if (rc != 0) {
		if (err != NULL)
			*err = why;
		return rc;
	}
	return n > 0;
}

int
vmcatcherdb_open(struct vmcatcherdb **out, const char *path, struct err *err)
{
	struct vmcatcherdb *d = NULL;
	int n = 0, rc = open_any(&d, path, &n, err);

	if (rc == 0)
		rc = check_integrity(d, err);
	if (rc == 0 && n == 0)
		rc = err_set(err, EINVAL, "'%s' is an SQLite database of another program than"
			     " vmcatcher", path);
	if (rc == 0)
		rc = check_schema(d, err);
	if (rc != 0) {
		vmcatcherdb_close(d);
		return rc;
	}
	*out = d;
	return 0;
}

void
vmcatcherdb_close(struct vmcatcherdb *d)
{
	if (d == NULL)
		return;
	sqlite3_close(d->db);
	free(d->path);
	free(d);
}

/* ---- rows ------------------------------------------------------------------------------------ */

struct visit {
	struct vmcatcherdb *d;
	const struct vmcdb_visitor *to;
	struct sqlite3_stmt *stmt;
};

static void __attribute__((format(printf, 2, 3)))
say_odd(const struct visit *v, const char *fmt, ...)
{
	struct err text = { 0 };
	char *line = NULL;
	va_list ap;

	if (v->to->odd == NULL)
		return;
	va_start(ap, fmt);
	if (vasprintf(&line, fmt, ap) < 0)
		out_of_memory();
	va_end(ap);
	/* What is told of a bad row is as bad as the row: here it becomes one harmless line. */
	err_set(&text, EINVAL, "%s", line);
	free(line);
	v->to->odd(v->to->arg, text.text);
}

/* A text of 1 to max bytes, without control characters; NULL for NULL or anything else. */
static const char *
text_at(const struct visit *v, int column, size_t max)
{
	const char *text;
	size_t len;

	if (sqlite3_column_type(v->stmt, column) != SQLITE_TEXT)
		return NULL;
	text = (const char *)sqlite3_column_text(v->stmt, column);
	len = (size_t)sqlite3_column_bytes(v->stmt, column);
	if (text == NULL || len == 0 || len > max || strlen(text) != len || !utf8_is_plain(text))
		return NULL;
	return text;
}

static bool
is_null(const struct visit *v, int column)
{
	return sqlite3_column_type(v->stmt, column) == SQLITE_NULL;
}

/* For sentences: whatever it is. */
static const char *
shown_at(const struct visit *v, int column)
{
	const unsigned char *text = sqlite3_column_text(v->stmt, column);

	return text != NULL ? (const char *)text : "";
}

static bool
is_dn(const char *text)
{
	return text != NULL && text[0] == '/' && strchr(text, '=') != NULL;
}

static int
visit_lonely(const struct visit *v, struct err *err)
{
	(void)err;
	say_odd(v, "endorser '%s' has no credential: passed over", shown_at(v, 0));
	return 0;
}

static int
visit_credential(const struct visit *v, struct err *err)
{
	struct vmcdb_credential c = {
		.endorser = text_at(v, 0, LIMIT_IDENTIFIER_BYTES),
		.subject = text_at(v, 1, LIMIT_DN_BYTES),
		.issuer = text_at(v, 2, LIMIT_DN_BYTES),
	};

	if (is_null(v, 0)) {
		say_odd(v, "credential '%s' belongs to no endorser: passed over", shown_at(v, 1));
		return 0;
	}
	if (c.endorser == NULL || !is_dn(c.subject) || !is_dn(c.issuer)) {
		say_odd(v, "endorser '%s', credential '%s' of issuer '%s': no name that can be"
			" used: passed over", shown_at(v, 0), shown_at(v, 1), shown_at(v, 2));
		return 0;
	}
	return v->to->credential(v->to->arg, &c, err);
}

static void
take_message(const struct visit *v, int column, struct vmcdb_subscription *s)
{
	const void *data = sqlite3_column_blob(v->stmt, column);
	int len = sqlite3_column_bytes(v->stmt, column);

	if (len > LIMIT_MESSAGE_BYTES)
		say_odd(v, "subscription '%s': its stored list is larger than %d bytes: passed"
			" over", s->identifier, LIMIT_MESSAGE_BYTES);
	else if (data != NULL && len > 0) {
		s->message = data;
		s->message_len = (size_t)len;
	}
}

static int
visit_subscription(const struct visit *v, struct err *err)
{
	struct vmcdb_subscription s = {
		.identifier = text_at(v, 0, LIMIT_IDENTIFIER_BYTES),
		.uri = text_at(v, 1, LIMIT_URI_BYTES),
		.username = text_at(v, 2, LIMIT_SECRET_BYTES),
		.password = text_at(v, 3, LIMIT_SECRET_BYTES),
		.authorised = sqlite3_column_int(v->stmt, 4) != 0,
		.trust_anchor = sqlite3_column_int(v->stmt, 5),
		.update_mode = sqlite3_column_int(v->stmt, 6),
	};

	if (s.identifier == NULL || s.uri == NULL) {
		say_odd(v, "subscription '%s': no identifier and address that can be used: passed"
			" over", shown_at(v, 0));
		return 0;
	}
	if ((s.username == NULL && *shown_at(v, 2) != '\0') ||
	    (s.password == NULL && *shown_at(v, 3) != '\0'))
		say_odd(v, "subscription '%s': its user name or password cannot be used: passed"
			" over", s.identifier);
	take_message(v, 7, &s);
	return v->to->subscription(v->to->arg, &s, err);
}

static int
visit_link(const struct visit *v, struct err *err)
{
	struct vmcdb_link l = {
		.endorser = text_at(v, 0, LIMIT_IDENTIFIER_BYTES),
		.subscription = text_at(v, 1, LIMIT_IDENTIFIER_BYTES),
		.authorised = sqlite3_column_int(v->stmt, 2) != 0,
	};

	/* What was deleted leaves such rows: SQLite does not cascade unless it is told to. */
	if (is_null(v, 0) || is_null(v, 1))
		return 0;
	if (l.endorser == NULL || l.subscription == NULL) {
		say_odd(v, "the link of endorser '%s' to subscription '%s': no names that can be"
			" used: passed over", shown_at(v, 0), shown_at(v, 1));
		return 0;
	}
	return v->to->link(v->to->arg, &l, err);
}

static int
visit_image(const struct visit *v, struct err *err)
{
	struct vmcdb_image i = {
		.identifier = text_at(v, 0, LIMIT_IDENTIFIER_BYTES),
		.subscription = text_at(v, 1, LIMIT_IDENTIFIER_BYTES),
		.subscribed = (sqlite3_column_int(v->stmt, 2) & 1) != 0,
	};

	if (is_null(v, 1))
		return 0;
	if (i.identifier == NULL || i.subscription == NULL) {
		say_odd(v, "image '%s': no identifier that can be used: passed over",
			shown_at(v, 0));
		return 0;
	}
	return v->to->image(v->to->arg, &i, err);
}

static int
visit_rows(struct vmcatcherdb *d, const struct vmcdb_visitor *to, const char *sql,
	   int (*row)(const struct visit *v, struct err *err), struct err *err)
{
	STMT *stmt = NULL;
	struct visit v = { .d = d, .to = to };
	int rc = prepare(d, sql, &stmt, err);

	v.stmt = stmt;
	while (rc == 0 && (rc = step(d, stmt, err)) > 0)
		rc = row(&v, err);
	return rc;
}

int
vmcatcherdb_visit(struct vmcatcherdb *d, const struct vmcdb_visitor *to, struct err *err)
{
	int rc = visit_rows(d, to, sql_lonely, visit_lonely, err);

	if (rc == 0 && to->credential != NULL)
		rc = visit_rows(d, to, sql_credentials, visit_credential, err);
	if (rc == 0 && to->subscription != NULL)
		rc = visit_rows(d, to, sql_subscriptions, visit_subscription, err);
	if (rc == 0 && to->link != NULL)
		rc = visit_rows(d, to, sql_links, visit_link, err);
	if (rc == 0 && to->image != NULL)
		rc = visit_rows(d, to, sql_images, visit_image, err);
	return rc;
}
