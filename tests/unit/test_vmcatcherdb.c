/*
 * test_vmcatcherdb.c - reading a database of vmcatcher 0.6, and what is no such thing.
 *
 * The good one was written by vmcatcher 0.6.3 itself (tests/data/vmcatcher-0.6); the others are
 * copies of it that a statement, or a byte, has changed.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/buf.h"
#include "core/cleanup.h"
#include "core/digest.h"
#include "core/io.h"
#include "core/vmcatcherdb.h"
#include "tests/lib/callfaults.h"

static char *dir, *path;

/* ---- the file -------------------------------------------------------------------------------- */

static void
read_whole(const char *name, struct buf *out)
{
	CLEANUP_FD int fd = open(name, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(io_read_to_end(fd, 16 << 20, out), 0);
}

static void
write_whole(const void *data, size_t len)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, data, len), 0);
}

static int
make_copy(void **state)
{
	const char *srcdir = getenv("srcdir");
	CLEANUP_FREE char *from = xasprintf("%s/tests/data/vmcatcher-0.6/vmcatcher.db",
					    srcdir != NULL ? srcdir : ".");
	CLEANUP_BUF struct buf data = BUF_INIT;

	(void)state;
	dir = xstrdup("/tmp/test_vmcatcherdb.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	path = xasprintf("%s/vmcatcher.db", dir);
	read_whole(from, &data);
	write_whole(data.data, data.len);
	return 0;
}

static int
drop_copy(void **state)
{
	static const char *const suffixes[] = { "", "-journal", "-wal", "-shm" };

	(void)state;
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		CLEANUP_FREE char *name = xasprintf("%s%s", path, suffixes[i]);

		unlink(name);
	}
	rmdir(dir);
	free(path);
	free(dir);
	return 0;
}

static struct sqlite3 *
open_writer(void)
{
	struct sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
					 NULL), SQLITE_OK);
	return db;
}

static void
run(struct sqlite3 *db, const char *sql)
{
	char *why = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
		fail_msg("%s: %s", sql, why);
}

static void
change(const char *sql)
{
	struct sqlite3 *db = open_writer();

	run(db, sql);
	sqlite3_close(db);
}

/* ---- what is read ---------------------------------------------------------------------------- */

struct seen {
	struct buf text, odd;
	struct digest message;
};

static int
see_credential(void *arg, const struct vmcdb_credential *v, struct err *err)
{
	struct seen *s = arg;

	(void)err;
	buf_printf(&s->text, "credential %s|%s|%s\n", v->endorser, v->subject, v->issuer);
	return 0;
}

static int
see_subscription(void *arg, const struct vmcdb_subscription *v, struct err *err)
{
	struct seen *s = arg;

	(void)err;
	buf_printf(&s->text, "subscription %s|%s|%s|%s|%d|%d|%d|%s\n", v->identifier, v->uri,
		   v->username != NULL ? v->username : "-",
		   v->password != NULL ? v->password : "-", v->authorised, v->trust_anchor,
		   v->update_mode, v->message != NULL ? "list" : "-");
	if (v->message != NULL)
		digest_of(v->message, v->message_len, &s->message);
	return 0;
}

static int
see_link(void *arg, const struct vmcdb_link *v, struct err *err)
{
	struct seen *s = arg;

	(void)err;
	buf_printf(&s->text, "link %s|%s|%d\n", v->endorser, v->subscription, v->authorised);
	return 0;
}

static int
see_image(void *arg, const struct vmcdb_image *v, struct err *err)
{
	struct seen *s = arg;

	(void)err;
	buf_printf(&s->text, "image %s|%s|%d\n", v->identifier, v->subscription, v->subscribed);
	return 0;
}

static void
see_odd(void *arg, const char *text)
{
	struct seen *s = arg;

	buf_printf(&s->odd, "%s\n", text);
}

static int
see(struct seen *s, struct err *err)
{
	const struct vmcdb_visitor visitor = {
		.credential = see_credential, .subscription = see_subscription,
		.link = see_link, .image = see_image, .odd = see_odd, .arg = s,
	};
	struct vmcatcherdb *db = NULL;
	int rc;

	memset(s, 0, sizeof(*s));
	rc = vmcatcherdb_open(&db, path, err);
	if (rc == 0)
		rc = vmcatcherdb_visit(db, &visitor, err);
	vmcatcherdb_close(db);
	return rc;
}

static void
seen_release(struct seen *s)
{
	buf_release(&s->text);
	buf_release(&s->odd);
}

#define SEEN __attribute__((cleanup(seen_release))) struct seen

/* Nothing is taken for missing, or for damaged, because it could not be read. */
static void
each_call_fails(void **state)
{
	bool struck = true;

	(void)state;
	for (long n = 1; struck; n++) {
		SEEN all, some;
		struct err err = { 0 };
		int rc;

		assert_int_equal(see(&all, &err), 0);
		fault_begin(FAULT_FILES | FAULT_SQLITE, n, EIO);
		rc = see(&some, &err);
		struck = fault_end();
		if (rc == 0)
			assert_string_equal(buf_str(&some.text), buf_str(&all.text));
		else if (!struck || err.text[0] == '\0' || err.code == CODE_CORRUPT)
			fail_msg("call %ld (%s): %d '%s'", n, fault_name(), (int)err.code,
				 err.text);
		err_clear(&err);
		fault_begin(FAULT_FILES | FAULT_SQLITE, n, EIO);
		rc = vmcatcherdb_is(path, &err);
		if (fault_end() && rc == 0)
			fail_msg("call %ld (%s) fails, and it is no such database", n,
				 fault_name());
	}
}

static void
assert_seen(const char *text)
{
	struct err err = { 0 };
	SEEN s;

	if (see(&s, &err) != 0)
		fail_msg("%s", err.text);
	assert_non_null(strstr(buf_str(&s.text), text));
}

static void
assert_odd(const char *text)
{
	struct err err = { 0 };
	SEEN s;

	if (see(&s, &err) != 0)
		fail_msg("%s", err.text);
	if (strstr(buf_str(&s.odd), text) == NULL)
		fail_msg("'%s' is not in '%s'", text, buf_str(&s.odd));
}

static void
assert_refused(int rc, enum code code, const char *text)
{
	struct err err = { 0 };
	SEEN s;

	assert_int_equal(see(&s, &err), rc);
	assert_int_equal(err.code, code);
	if (strstr(err.text, text) == NULL)
		fail_msg("'%s' is not in '%s'", text, err.text);
}

#define DN "/DC=org/DC=example/OU=People/CN=Test endorser"
#define CA "/DC=org/DC=example/CN=Test Grid CA"
#define LIST "63175437-7d59-4851-b333-c96cb6545a86"

/* ---- a good one ------------------------------------------------------------------------------ */

static void
rows_are_read(void **state)
{
	struct err err = { 0 };
	SEEN s;

	(void)state;
	assert_int_equal(vmcatcherdb_is(path, &err), 1);
	assert_int_equal(see(&s, &err), 0);
	assert_string_equal(buf_str(&s.text),
		"credential Test Endorser|" DN "|" CA "\n"
		"subscription " LIST "|http://127.0.0.1:18480/flow.list|-|-|1|0|0|list\n"
		"link Test Endorser|" LIST "|1\n"
		"image 265a07dd-ba19-556e-981c-7a5d4d170896|" LIST "|1\n"
		"image 86b1c337-4317-56f3-ab64-f758ffc8de52|" LIST "|1\n");
	assert_string_equal(buf_str(&s.odd), "");
}

/* vmcatcher names its messages by their SHA-512. */
static void
latest_message_is_read_verbatim(void **state)
{
	struct sqlite3_stmt *stmt = NULL;
	struct sqlite3 *db = open_writer();
	char hex[DIGEST_HEX + 1];
	struct err err = { 0 };
	SEEN s;

	(void)state;
	assert_int_equal(see(&s, &err), 0);
	digest_hex(&s.message, hex);
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT data_hash FROM imageListInstance AS l,"
					    " subscription WHERE l.id = imagelist_latest", -1,
					    &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	assert_string_equal(sqlite3_column_text(stmt, 0), hex);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
}

static void
source_is_not_touched(void **state)
{
	static const char *const suffixes[] = { "-journal", "-wal", "-shm" };
	CLEANUP_BUF struct buf before = BUF_INIT, after = BUF_INIT;
	const struct timespec old[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1100000000 } };
	struct err err = { 0 };
	struct stat st;
	SEEN s;

	(void)state;
	read_whole(path, &before);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	assert_int_equal(see(&s, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 1100000000);
	assert_int_equal(st.st_atim.tv_sec, 1000000000);
	read_whole(path, &after);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, before.len);
	for (size_t i = 0; i < 3; i++) {
		CLEANUP_FREE char *name = xasprintf("%s%s", path, suffixes[i]);

		assert_int_equal(access(name, F_OK), -1);
	}
}

static void
credentials_and_policy_are_read(void **state)
{
	(void)state;
	change("INSERT INTO endorserPrincible VALUES (2, '/DC=org/CN=Second', '" CA "', 1);"
	       "UPDATE subscription SET userName = 'token', password = 'x-oauth-basic',"
	       " trustAnchor = 2, updateMode = 3, uri = 'https://h:8443/a.list'");
	assert_seen("credential Test Endorser|/DC=org/CN=Second|" CA "\n");
	assert_seen("|https://h:8443/a.list|token|x-oauth-basic|1|2|3|list\n");
}

static void
names_in_any_script_are_read(void **state)
{
	(void)state;
	change("UPDATE endorser SET identifier = 'Zoë Größe 日本'");
	assert_seen("link Zoë Größe 日本|");
}

static void
list_may_be_missing(void **state)
{
	(void)state;
	change("UPDATE subscription SET imagelist_latest = NULL");
	assert_seen("|1|0|0|-\n");
}

/* ---- odd rows -------------------------------------------------------------------------------- */

static void
endorser_without_credential_is_told(void **state)
{
	(void)state;
	change("INSERT INTO endorser VALUES (7, 'lonely')");
	assert_odd("endorser 'lonely' has no credential");
}

static void
credential_without_endorser_is_told(void **state)
{
	(void)state;
	change("INSERT INTO endorserPrincible VALUES (9, '/CN=orphan', '/CN=ca', 77)");
	assert_odd("credential '/CN=orphan' belongs to no endorser");
}

static void
names_with_control_characters_are_passed_over(void **state)
{
	(void)state;
	change("UPDATE endorser SET identifier = 'a' || char(27) || '[31m'");
	assert_odd("no name that can be used");
	change("UPDATE subscription SET uri = 'https://h/' || char(10) || 'x'");
	assert_odd("no identifier and address that can be used");
}

static void
broken_text_is_passed_over(void **state)
{
	(void)state;
	change("UPDATE ImageDefinition SET identifier = CAST(x'ff41' AS TEXT) WHERE id = 1");
	assert_odd("no identifier that can be used");
	change("UPDATE ImageDefinition SET identifier = x'4142' WHERE id = 2");
	assert_odd("image 'AB': no identifier");
}

static void
secret_is_in_no_sentence(void **state)
{
	struct err err = { 0 };
	SEEN s;

	(void)state;
	change("UPDATE subscription SET password = 'sesame' || char(7)");
	assert_int_equal(see(&s, &err), 0);
	assert_non_null(strstr(buf_str(&s.odd), "password cannot be used"));
	assert_null(strstr(buf_str(&s.odd), "sesame"));
}

static void
huge_list_is_passed_over(void **state)
{
	(void)state;
	change("UPDATE imageListInstance SET data = zeroblob(17000000)");
	assert_odd("its stored list is larger than");
}

/* ---- what is no such database ---------------------------------------------------------------- */

static void
missing_file_is_said(void **state)
{
	struct err err = { 0 };

	(void)state;
	unlink(path);
	assert_int_equal(vmcatcherdb_is(path, &err), -ENOENT);
	assert_refused(-ENOENT, CODE_NONE, "cannot open");
}

static void
other_files_are_none(void **state)
{
	struct err err = { 0 };

	(void)state;
	write_whole("endorser: alice\n", 16);
	assert_int_equal(vmcatcherdb_is(path, &err), 0);
	assert_refused(-EINVAL, CODE_NONE, "no SQLite database");
	write_whole("", 0);
	assert_int_equal(vmcatcherdb_is(path, &err), 0);
	assert_refused(-EINVAL, CODE_NONE, "is empty");
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(vmcatcherdb_is(path, &err), 0);
	assert_refused(-EINVAL, CODE_NONE, "is no file");
}

static void
other_programs_database_is_told_apart(void **state)
{
	struct err err = { 0 };

	(void)state;
	unlink(path);
	change("CREATE TABLE endorser (id); CREATE TABLE subscription (id)");
	assert_int_equal(vmcatcherdb_is(path, &err), 0);
	assert_refused(-EINVAL, CODE_NONE, "of another program than vmcatcher");
}

static void
other_version_is_told_apart(void **state)
{
	struct err err = { 0 };

	(void)state;
	change("ALTER TABLE subscription RENAME COLUMN updateMode TO mode");
	assert_int_equal(vmcatcherdb_is(path, &err), 1);
	assert_refused(-EINVAL, CODE_NONE, "its table 'subscription' has no column 'updateMode'");
}

static void
cut_file_is_damaged(void **state)
{
	CLEANUP_BUF struct buf data = BUF_INIT;

	(void)state;
	read_whole(path, &data);
	write_whole(data.data, data.len / 2);
	assert_refused(-EIO, CODE_CORRUPT, "is cut off");
	write_whole(data.data, 60);
	assert_refused(-EIO, CODE_CORRUPT, "is cut off");
}

/* Every page but the first in turn: nothing of the file is believed, or it was an unused one. */
static void
garbage_in_a_page_is_damaged(void **state)
{
	CLEANUP_BUF struct buf data = BUF_INIT;
	size_t page, n_refused = 0;

	(void)state;
	read_whole(path, &data);
	page = (size_t)(unsigned char)data.data[16] << 8 | (unsigned char)data.data[17];
	for (size_t at = page; at + page <= data.len; at += page) {
		CLEANUP_FREE char *copy = xmalloc(data.len);
		struct err err = { 0 };
		SEEN s;

		memcpy(copy, data.data, data.len);
		memset(copy + at, 0xa5, page);
		write_whole(copy, data.len);
		if (see(&s, &err) != 0) {
			assert_int_equal(err.code, CODE_CORRUPT);
			n_refused++;
		}
	}
	assert_true(n_refused > 0);
}

/* ---- in use ---------------------------------------------------------------------------------- */

static void
open_write_transaction_hides_nothing(void **state)
{
	struct sqlite3 *db = open_writer();

	(void)state;
	run(db, "BEGIN IMMEDIATE; UPDATE endorser SET identifier = 'not yet'");
	assert_seen("link Test Endorser|");
	run(db, "ROLLBACK");
	sqlite3_close(db);
}

static void
writing_moment_is_waited_for_and_refused(void **state)
{
	struct sqlite3 *db = open_writer();

	(void)state;
	run(db, "BEGIN EXCLUSIVE");
	assert_refused(-EBUSY, CODE_BUSY, "is being written by another program");
	run(db, "ROLLBACK");
	sqlite3_close(db);
}

static void
hot_journal_is_refused(void **state)
{
	CLEANUP_FREE char *name = xasprintf("%s-journal", path);
	const unsigned char magic[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
	CLEANUP_FD int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	(void)state;
	assert_int_equal(io_write_all(fd, magic, sizeof(magic)), 0);
	assert_refused(-EBUSY, CODE_BUSY, "interrupted half-way");
	/* One that is over, of a program that keeps its journal. */
	assert_int_equal(io_pwrite_all(fd, "\0\0\0\0\0\0\0", 8, 0), 0);
	assert_seen("link Test Endorser|");
}

static void
changes_in_a_wal_are_refused(void **state)
{
	struct sqlite3 *db = open_writer();

	(void)state;
	run(db, "PRAGMA journal_mode = WAL; UPDATE endorser SET identifier = 'in the wal'");
	assert_refused(-EBUSY, CODE_BUSY, "-wal");
	sqlite3_close(db);
	assert_seen("link in the wal|");
}

int
main(void)
{
#define TEST(title, fn) { title, fn, make_copy, drop_copy, NULL }
	const struct CMUnitTest tests[] = {
		TEST("A13 the rows of a database that vmcatcher 0.6.3 wrote are read",
		     rows_are_read),
		TEST("A13 the latest list of a subscription is read byte for byte",
		     latest_message_is_read_verbatim),
		TEST("A13 reading changes neither the file nor its times, and leaves none beside"
		     " it", source_is_not_touched),
		TEST("A13 all credentials, user name, password, anchor and policy are read",
		     credentials_and_policy_are_read),
		TEST("A13 names may be written in any script",
		     names_in_any_script_are_read),
		TEST("A13 a subscription that was never updated has no list", list_may_be_missing),
		TEST("an endorser without a credential is told of",
		     endorser_without_credential_is_told),
		TEST("a credential without an endorser is told of",
		     credential_without_endorser_is_told),
		TEST("names with control characters are passed over, and told of",
		     names_with_control_characters_are_passed_over),
		TEST("text that is no UTF-8, or no text, is passed over",
		     broken_text_is_passed_over),
		TEST("X08 a password that cannot be used is in no sentence",
		     secret_is_in_no_sentence),
		TEST("a stored list beyond the limit is passed over", huge_list_is_passed_over),
		TEST("A13 a file that is missing is said to be", missing_file_is_said),
		TEST("A13 an empty file, a text, a FIFO are no database", other_files_are_none),
		TEST("A13 another program's database is told apart",
		     other_programs_database_is_told_apart),
		TEST("A13 a database of another version says which column it lacks",
		     other_version_is_told_apart),
		TEST("A13 a file that was cut off is damaged", cut_file_is_damaged),
		TEST("A13 a page of garbage is found out", garbage_in_a_page_is_damaged),
		TEST("A13 an open write transaction of another program hides nothing",
		     open_write_transaction_hides_nothing),
		TEST("A13 a program that is just writing is waited for, and then told of",
		     writing_moment_is_waited_for_and_refused),
		TEST("A13 an interrupted change is refused, one that is over is not",
		     hot_journal_is_refused),
		TEST("A13 changes that lie in a -wal are refused, and read once they are in",
		     changes_in_a_wal_are_refused),
		TEST("A13 one that cannot be read now is neither damaged nor none",
		     each_call_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
