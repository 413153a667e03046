/*
 * sweep_site.c - a site put away, put back, and looked at within a few milliseconds.
 *
 * The catalogue is looked at in a copy: opening the one that a broken-off process left would do
 * what only the next start of the program may do.
 */
#include "config.h"
#include "sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"

static const char *const parts[] = { "state", "cache", "run" };
enum { N_PARTS = 3, FILE_MAX = 64 << 20, SHOWN_MAX = 240 };

static void __attribute__((noreturn))
die(const char *what, const char *path)
{
	fprintf(stderr, "sweep: %s '%s': %s\n", what, path, strerrordesc_np(errno));
	exit(98);
}

/* ---- copies ---------------------------------------------------------------------------------- */

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void
remove_tree(const char *path)
{
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
		die("cannot remove", path);
}

static void copy_tree(const char *from, const char *to);

static void
copy_directory(const char *from, const char *to, const struct stat *st)
{
	DIR *dir = opendir(from);
	struct dirent *e;

	if (dir == NULL || mkdir(to, 0700) != 0)
		die("cannot copy", from);
	while ((e = readdir(dir)) != NULL) {
		CLEANUP_FREE char *a = xasprintf("%s/%s", from, e->d_name);
		CLEANUP_FREE char *b = xasprintf("%s/%s", to, e->d_name);

		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			copy_tree(a, b);
	}
	closedir(dir);
	if (chown(to, st->st_uid, st->st_gid) != 0 || chmod(to, st->st_mode & 07777) != 0)
		die("cannot copy", from);
}

static void
copy_file(const char *from, const char *to, const struct stat *st)
{
	CLEANUP_BUF struct buf data = BUF_INIT;
	CLEANUP_FD int fd = -1;

	if (io_read_file(AT_FDCWD, from, FILE_MAX, &data) != 0)
		die("cannot read", from);
	fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || io_write_all(fd, data.data, data.len) != 0 ||
	    fchown(fd, st->st_uid, st->st_gid) != 0 || fchmod(fd, st->st_mode & 07777) != 0)
		die("cannot write", to);
}

static void
copy_link(const char *from, const char *to)
{
	char target[4096];
	ssize_t len = readlink(from, target, sizeof(target) - 1);

	if (len < 0)
		die("cannot read", from);
	target[len] = '\0';
	if (symlink(target, to) != 0)
		die("cannot link", to);
}

/* What else there is (sockets) is made anew by whoever needs it. */
static void
copy_tree(const char *from, const char *to)
{
	struct stat st;

	if (lstat(from, &st) != 0)
		die("cannot look at", from);
	if (S_ISDIR(st.st_mode))
		copy_directory(from, to, &st);
	else if (S_ISREG(st.st_mode))
		copy_file(from, to, &st);
	else if (S_ISLNK(st.st_mode))
		copy_link(from, to);
}

static void
copy_part(const char *from, const char *to)
{
	struct stat st;

	remove_tree(to);
	if (lstat(from, &st) == 0)
		copy_tree(from, to);
}

void
site_save(const char *site, const char *suffix)
{
	for (int i = 0; i < N_PARTS; i++) {
		CLEANUP_FREE char *here = xasprintf("%s/%s", site, parts[i]);
		CLEANUP_FREE char *there = xasprintf("%s/%s.%s", site, parts[i], suffix);

		copy_part(here, there);
	}
}

void
site_load(const char *site, const char *suffix)
{
	for (int i = 0; i < N_PARTS; i++) {
		CLEANUP_FREE char *here = xasprintf("%s/%s", site, parts[i]);
		CLEANUP_FREE char *there = xasprintf("%s/%s.%s", site, parts[i], suffix);

		copy_part(there, here);
	}
}

/* ---- rows ------------------------------------------------------------------------------------ */

/*
 * Tables that say nothing of their own: counters, names of things in others, and files to be
 * removed.
 */
static const char *const passed_over[] = { "revision", "inode", "note", "leaving", NULL };

/* Columns of any table. */
static const char *const moments[] = {
	"rev", "time", "updated", "tried", "imported", "fetched", "expired_at", "next_try", "uuid",
	"session", "etag", "etag_url", "tries", "code", "error", "strict_reason", "used", "id",
	"ino", "last_used", NULL
};

/* Others are shown differently. */
static const struct {
	const char *table, *column, *as;
} shown_as[] = {
	{ "object", "state", "replace(state, 'failed', 'missing')" },
	{ "subscription", "state", "replace(replace(state, 'failed', 'ok'), 'new', 'ok')" },
	{ "expired", "name", "substr(name, 1, instr(name, '.'))" },
	{ "event", "json",
	  "json_remove(json, '$.uuid', '$.session', '$.time', '$.filename', '$.expired_at')" },
};

static bool
is_one_of(const char *const *names, const char *name)
{
	for (; *names != NULL; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

static const char *
expression(const char *table, const char *column)
{
	for (size_t i = 0; i < sizeof(shown_as) / sizeof(shown_as[0]); i++)
		if (strcmp(shown_as[i].table, table) == 0 &&
		    strcmp(shown_as[i].column, column) == 0)
			return shown_as[i].as;
	return column;
}

static int
add_line(void *arg, int n, char **values, char **names)
{
	struct buf *out = arg;

	(void)names;
	for (int i = 0; i < n; i++)
		buf_printf(out, "%s%s", i > 0 ? "|" : "", values[i] != NULL ? values[i] : "NULL");
	buf_putc(out, '\n');
	return 0;
}

static void
ask(sqlite3 *db, const char *sql, struct buf *out)
{
	char *said = NULL;

	if (sqlite3_exec(db, sql, add_line, out, &said) != SQLITE_OK)
		buf_printf(out, "! %s\n", said != NULL ? said : "no memory");
	sqlite3_free(said);
}

struct columns {
	const char *table;
	struct buf select;	/* "quote(a) || '|' || quote(b)" */
};

static int
add_column(void *arg, int n, char **values, char **names)
{
	struct columns *c = arg;

	(void)n;
	(void)names;
	if (is_one_of(moments, values[0]))
		return 0;
	buf_printf(&c->select, "%s'%s=' || quote(%s)", c->select.len > 0 ? " || ' ' || " : "",
		   values[0], expression(c->table, values[0]));
	return 0;
}

struct tables {
	sqlite3 *db;
	struct buf *out;
};

/* The order in which rows came about does not matter. */
static int
add_table(void *arg, int n, char **values, char **names)
{
	struct tables *t = arg;
	CLEANUP_FREE char *ask_columns =
		xasprintf("SELECT name FROM pragma_table_info('%s') ORDER BY cid", values[0]);
	struct columns c = { .table = values[0] };

	(void)n;
	(void)names;
	if (is_one_of(passed_over, values[0]))
		return 0;
	buf_init(&c.select);
	sqlite3_exec(t->db, ask_columns, add_column, &c, NULL);
	if (c.select.len > 0) {
		CLEANUP_FREE char *rows = xasprintf("SELECT '%s: ' || %s AS line FROM %s ORDER BY"
						    " 1", values[0], buf_str(&c.select), values[0]);

		ask(t->db, rows, t->out);
	}
	buf_release(&c.select);
	return 0;
}

static int
add_damage(void *arg, int n, char **values, char **names)
{
	struct buf *out = arg;

	(void)names;
	if (n != 1 || strcmp(values[0], "ok") != 0)
		buf_printf(out, "! %s\n", values[0]);
	return 0;
}

void
site_rows(const char *site, struct buf *out)
{
	CLEANUP_FREE char *state = xasprintf("%s/state", site);
	CLEANUP_FREE char *copy = xasprintf("%s/looked-at", site);
	CLEANUP_FREE char *path = xasprintf("%s/looked-at/catalogue.db", site);
	struct tables t = { .out = out };
	struct stat st;

	copy_part(state, copy);
	if (stat(path, &st) != 0 || st.st_size == 0)
		return;
	if (sqlite3_open_v2(path, &t.db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
		buf_puts(out, "! it cannot be opened\n");
	sqlite3_exec(t.db, "PRAGMA integrity_check", add_damage, out, NULL);
	sqlite3_exec(t.db, "PRAGMA foreign_key_check", add_damage, out, NULL);
	if (sqlite3_exec(t.db, "SELECT name FROM sqlite_master WHERE type = 'table'"
			 " AND name NOT LIKE 'sqlite%' ORDER BY name", add_table, &t,
			 NULL) != SQLITE_OK)
		buf_printf(out, "! %s\n", sqlite3_errmsg(t.db));
	sqlite3_close(t.db);
}

/* ---- files ----------------------------------------------------------------------------------- */

static struct buf *listed;
static size_t listed_from;

static int
list_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	const char *name = path + listed_from;

	(void)ftw;
	if (flag == FTW_D || strstr(name, "/catalogue.db") != NULL)
		return 0;
	buf_printf(listed, "%s %lld\n", name,
		   strstr(name, "/objects/") != NULL ? (long long)st->st_size : 0);
	return 0;
}

static int
compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
sort_lines(struct buf *lines, struct buf *out)
{
	CLEANUP_FREE char **line = xcalloc(lines->len + 1, sizeof(*line));
	size_t n = 0;
	char *at = lines->data, *end;

	for (; at != NULL && (end = strchr(at, '\n')) != NULL; at = end + 1) {
		*end = '\0';
		line[n++] = at;
	}
	qsort(line, n, sizeof(*line), compare_lines);
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "%s\n", line[i]);
}

void
site_files(const char *site, struct buf *out)
{
	CLEANUP_BUF struct buf all = BUF_INIT;

	listed = &all;
	listed_from = strlen(site) + 1;
	for (int i = 0; i < 2; i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", site, parts[i]);

		nftw(path, list_one, 16, FTW_PHYS);
	}
	sort_lines(&all, out);
}

/* ---- texts of them --------------------------------------------------------------------------- */

void
site_drop_events(struct buf *rows)
{
	CLEANUP_BUF struct buf all = *rows;
	char *at = all.data, *end;

	*rows = (struct buf)BUF_INIT;
	for (; at != NULL && (end = strchr(at, '\n')) != NULL; at = end + 1)
		if (strncmp(at, "event:", 6) != 0 && strncmp(at, "delivery:", 9) != 0)
			buf_add(rows, at, (size_t)(end + 1 - at));
}

void
site_show_difference(const char *what, const struct buf *wanted, const struct buf *found)
{
	const char *a = buf_str(wanted), *b = buf_str(found);
	size_t la, lb;

	while (*a != '\0' && *b != '\0') {
		la = strcspn(a, "\n");
		lb = strcspn(b, "\n");
		if (la != lb || strncmp(a, b, la) != 0)
			break;
		a += la + (a[la] == '\n');
		b += lb + (b[lb] == '\n');
	}
	la = strcspn(a, "\n");
	lb = strcspn(b, "\n");
	printf("#   %s: %.*s\n#   but it is: %.*s\n", what, (int)(la < SHOWN_MAX ? la : SHOWN_MAX),
	       a, (int)(lb < SHOWN_MAX ? lb : SHOWN_MAX), b);
}
