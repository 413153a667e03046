/*
 * A damaged catalogue: it is noticed, rebuilt from site.json and the stored messages, and never
 * gives more trust than before.  VMIMAGEFS_LONG=1 tries 1,000 flipped bytes instead of 60;
 * VMIMAGEFS_SEED=n repeats a run.
 */
#include "config.h"
#include "sitefixture.h"

#include <dirent.h>
#include <sys/wait.h>
#include <time.h>
#include "core/cleanup.h"
#include "core/io.h"

static char *
in_state(const struct fixture *f, const char *name)
{
	return xasprintf("%s/%s", f->conf.state_dir, name);
}

static void
load(const struct fixture *f, const char *name, struct buf *out)
{
	CLEANUP_FD int dir = open(f->conf.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	buf_clear(out);
	assert_int_equal(io_read_file(dir, name, 1 << 24, out), 0);
}

/* Overwrites in place, or makes the file. */
static void
put(const struct fixture *f, const char *name, const void *data, size_t len)
{
	CLEANUP_FREE char *path = in_state(f, name);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, data, len), 0);
}

static void
drop(const struct fixture *f, const char *name)
{
	CLEANUP_FREE char *path = in_state(f, name);

	unlink(path);
}

static void
close_catalogue(struct fixture *f)
{
	catalogue_close(f->c);
	f->c = NULL;
}

/* Whether a file whose name begins so is in state_dir. */
static bool
has_file(const struct fixture *f, const char *beginning)
{
	DIR *dir = opendir(f->conf.state_dir);
	struct dirent *e;
	bool found = false;

	while ((e = readdir(dir)) != NULL)
		found = found || strncmp(e->d_name, beginning, strlen(beginning)) == 0;
	closedir(dir);
	return found;
}

/*
 * A site with some history: a (stored, new version pending), b (selected), c (unselected), d gone;
 * another list whose endorser Bob was unlinked: its image e is distrusted.
 */
static void
furnish(struct fixture *f)
{
	int64_t sub = subscribe(f, LIST, SELECT_NONE), other;

	publish(f, sub, "1", ENTRIES(IMG("a", "1", 'a'), IMG("b", "1", 'b'), IMG("d", "1", 'd')));
	select_image(f, "a", true);
	select_image(f, "b", true);
	select_image(f, "d", true);
	store_content(f, 'a');
	store_content(f, 'd');
	other = subscribe(f, OTHER_LIST, SELECT_ALL);
	publish_in(f, other, OTHER_LIST, "1", NOW, ENTRIES(IMG("e", "1", 'e')));
	store_content(f, 'e');
	assert_int_equal(catalogue_unlink(f->c, "alice", other, &f->err), 0);
	publish(f, sub, "2", ENTRIES(IMG("a", "2", 'f'), IMG("b", "1", 'b'), IMG("c", "1", 'c')));
	assert_image(f, "a", "live selected 1 pending 2");
	assert_int_equal(access_of(f, 'e'), ACCESS_DISTRUSTED);
	close_catalogue(f);
}

static int
note_image(void *arg, const struct image_row *r)
{
	struct buf *b = arg;
	char hex[DIGEST_HEX + 1];

	digest_hex(&r->meta.sha512, hex);
	buf_printf(b, "%s %s %d %.1s %s\n", r->meta.value[FIELD_ID], r->meta.value[FIELD_VERSION],
		   r->selected, hex, r->meta.value[FIELD_URI]);
	return 0;
}

/* Every live image must be one of those that the lists sign, and e none of them. */
static void
assert_no_trust_gained(struct fixture *f)
{
	static const char *const allowed[] = {
		"a 1 1 a https://example.org/a-1.img\n", "a 2 1 f https://example.org/a-2.img\n",
		"b 1 1 b https://example.org/b-1.img\n", "c 1 0 c https://example.org/c-1.img\n",
	};
	struct digest e = content('e');
	struct object_row o;
	struct buf b = BUF_INIT;
	char *line, *rest;

	assert_int_equal(catalogue_image_each(f->c, 0, true, note_image, &b, &f->err), 0);
	for (line = b.data; line != NULL && *line != '\0'; line = rest) {
		bool known = false;

		rest = strchr(line, '\n') + 1;
		for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++)
			known = known || strncmp(line, allowed[i], strlen(allowed[i])) == 0;
		if (!known)
			fail_msg("not signed: %s", line);
	}
	buf_release(&b);
	if (catalogue_object_get(f->c, &e, &o, NULL) == 0) {
		assert_int_equal(o.access, ACCESS_DISTRUSTED);
		object_row_release(&o);
	}
}

static void
assert_rebuilt(struct fixture *f)
{
	assert_non_null(strstr(buf_str(&f->said), "rebuilt"));
	assert_image(f, "a", "live selected 2");
	assert_image(f, "b", "live selected 1");
	assert_image(f, "c", "live unselected 1");
	assert_no_trust_gained(f);
}

/* ---- B17 ------------------------------------------------------------------------------------- */

struct original {
	struct buf db, site;
};

/* A random place, mostly one that holds something: half of a small database is empty. */
static size_t
choose(const struct buf *db, unsigned *seed)
{
	size_t at = 0;

	for (int i = 0; i < 8; i++) {
		at = ((size_t)rand_r(seed) << 15 ^ (size_t)rand_r(seed)) % db->len;
		if (db->data[at] != 0)
			break;
	}
	return at;
}

/* One run on a copy: start, or refuse with 53 (or 55 for what looks like a newer schema). */
static void
flip_one(struct fixture *f, const struct original *o, size_t at, unsigned char bits)
{
	struct buf db = BUF_INIT;

	buf_add(&db, o->db.data, o->db.len);
	db.data[at] = (char)(db.data[at] ^ (char)bits);
	drop(f, "catalogue.db-wal");
	drop(f, "catalogue.db-shm");
	put(f, "catalogue.db", db.data, db.len);
	put(f, "site.json", o->site.data, o->site.len);
	buf_clear(&f->said);
	if (fixture_open(f, CATALOGUE_CHECK) == 0)
		assert_no_trust_gained(f);
	else if (f->err.code != CODE_CORRUPT && f->err.code != CODE_BUSY)
		fail_msg("byte %zu ^ 0x%02x: %s", at, bits, f->err.text);
	close_catalogue(f);
	buf_release(&db);
}

static void
remove_damaged(struct fixture *f)
{
	DIR *dir = opendir(f->conf.state_dir);
	struct dirent *e;

	while ((e = readdir(dir)) != NULL)
		if (strstr(e->d_name, ".damaged-") != NULL)
			drop(f, e->d_name);
	closedir(dir);
}

static void
flips(void **state)
{
	struct fixture *f = *state;
	struct original o = { BUF_INIT, BUF_INIT };
	const char *seed_text = getenv("VMIMAGEFS_SEED");
	unsigned seed =
		seed_text != NULL ? (unsigned)strtoul(seed_text, NULL, 10) : (unsigned)time(NULL);
	int n = getenv("VMIMAGEFS_LONG") != NULL ? 1000 : 60;
	CLEANUP_FREE char *cached = xasprintf("%s/object", f->conf.cache_dir);
	int rebuilt = 0;

	furnish(f);
	close(open(cached, O_CREAT | O_WRONLY, 0600));
	load(f, "catalogue.db", &o.db);
	load(f, "site.json", &o.site);
	print_message("VMIMAGEFS_SEED=%u\n", seed);
	for (int i = 0; i < n; i++) {
		size_t at = choose(&o.db, &seed);

		flip_one(f, &o, at, (unsigned char)(1 << rand_r(&seed) % 8));
		rebuilt += f->said.len > 0;
		remove_damaged(f);
	}
	print_message("%d flips, %d rebuilds\n", n, rebuilt);
	assert_int_equal(access(cached, F_OK), 0);
	buf_release(&o.db);
	buf_release(&o.site);
}

/* ---- B18 to B23 ------------------------------------------------------------------------------ */

static void
zero_length(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	put(f, "catalogue.db", "", 0);
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_rebuilt(f);
}

static void
missing(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	drop(f, "catalogue.db");
	assert_int_equal(fixture_open(f, 0), -EIO);
	assert_int_equal(f->err.code, CODE_CORRUPT);
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_rebuilt(f);
}

static void
text_file(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	put(f, "catalogue.db", "this is no database\n", 20);
	assert_int_equal(fixture_open(f, 0), -EIO);
	assert_int_equal(f->err.code, CODE_CORRUPT);
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_rebuilt(f);
	assert_true(has_file(f, "catalogue.db.damaged-"));
}

static void
run_sql(struct fixture *f, const char *sql)
{
	CLEANUP_FREE char *db = in_state(f, "catalogue.db");
	pid_t child = fork();
	int status;

	if (child == 0) {
		execlp("sqlite3", "sqlite3", db, sql, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		skip();
	assert_int_equal(status, 0);
}

static void
newer(void **state)
{
	struct fixture *f = *state;
	struct buf before = BUF_INIT, after = BUF_INIT;

	furnish(f);
	run_sql(f, "PRAGMA user_version = 99; UPDATE note SET value = '99' WHERE key = 'schema';");
	load(f, "catalogue.db", &before);
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK | CATALOGUE_CREATE), -EBUSY);
	assert_int_equal(f->err.code, CODE_BUSY);
	assert_non_null(strstr(f->err.text, "newer version"));
	load(f, "catalogue.db", &after);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, before.len);
	buf_release(&before);
	buf_release(&after);
}

/* root may open everything: it becomes nobody for the call, who then owns the files. */
static void
mode_0000(void **state)
{
	static const char *const owned[] = { "", "messages", "catalogue.db", "site.json" };
	const uid_t nobody = 65534;
	struct fixture *f = *state;
	int rc;

	furnish(f);
	for (size_t i = 0; i < sizeof(owned) / sizeof(*owned); i++) {
		CLEANUP_FREE char *path = in_state(f, owned[i]);

		if (i == 2)
			assert_int_equal(chmod(path, 0), 0);
		if (geteuid() == 0)
			assert_int_equal(chown(path, nobody, nobody), 0);
	}
	if (geteuid() == 0) {
		assert_int_equal(chmod(f->dir, 0711), 0);
		assert_int_equal(seteuid(nobody), 0);
	}
	rc = fixture_open(f, CATALOGUE_CHECK);
	if (geteuid() == nobody && getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(rc, -EACCES);
	assert_non_null(strstr(f->err.text, "0600"));
}

static void
directory(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *db = in_state(f, "catalogue.db");

	furnish(f);
	drop(f, "catalogue.db");
	mkdir(db, 0700);
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), -EIO);
	assert_int_equal(f->err.code, CODE_CORRUPT);
	assert_non_null(strstr(f->err.text, "no regular file"));
	rmdir(db);
}

static void
both_damaged(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	put(f, "catalogue.db", "this is no database\n", 20);
	put(f, "site.json", "{}\n", 3);
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), -EIO);
	assert_int_equal(f->err.code, CODE_CORRUPT);
	assert_non_null(strstr(f->err.text, "restore"));
	assert_false(has_file(f, "catalogue.db.damaged-"));
}

/* Every byte of it is JSON of the right form; its checksum is not that of these bytes. */
static void
forged_site(void **state)
{
	struct fixture *f = *state;
	struct buf site = BUF_INIT;
	char *name;

	furnish(f);
	load(f, "site.json", &site);
	name = strstr(site.data, "CN=Alice");
	assert_non_null(name);
	memcpy(name, "CN=Mally", 8);
	put(f, "site.json", site.data, site.len);
	drop(f, "catalogue.db");
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), -EIO);
	assert_int_equal(f->err.code, CODE_CORRUPT);
	buf_release(&site);
}

static int
any_subscription(void *arg, const struct subscription_row *r)
{
	(void)arg;
	(void)r;
	return 0;
}

/* Another program took a table away under us. */
static void
lost_table(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	assert_int_equal(fixture_open(f, 0), 0);
	run_sql(f, "ALTER TABLE subscription RENAME TO gone;");
	assert_int_equal(catalogue_subscription_each(f->c, any_subscription, NULL, &f->err), -EIO);
	assert_int_equal(f->err.code, CODE_DATABASE);
}

/* ---- a rebuild ------------------------------------------------------------------------------- */

static void
tampered_row(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	run_sql(f, "UPDATE meta SET uri = 'https://evil.example/' WHERE identifier = 'b';");
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_rebuilt(f);
}

static void
tampered_trust(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	run_sql(f, "UPDATE image SET live = 1 WHERE identifier = 'e';"
		   "UPDATE subscription SET state = 'ok' WHERE list_id = '" OTHER_LIST "';");
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_rebuilt(f);
}

static void
tampered_selection(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	run_sql(f, "UPDATE image SET selected = 1;");
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_rebuilt(f);
}

/* As many bytes as before: only the comparison of all of them finds it. */
static void
tampered_credential(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	run_sql(f, "UPDATE credential SET subject = replace(subject, 'Alice', 'Mally');");
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_rebuilt(f);
}

/* The old version was signed once, and its row is whole; the list that we have has another one. */
static void
old_version_stays(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	run_sql(f,
		"UPDATE image SET pending = NULL, pending_sha512 = NULL WHERE identifier = 'a';");
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_rebuilt(f);
}

static void
old_copy(void **state)
{
	struct fixture *f = *state;
	struct buf old = BUF_INIT;

	close_catalogue(f);
	load(f, "catalogue.db", &old);
	fixture_reopen(f, 0);
	furnish(f);
	put(f, "catalogue.db", old.data, old.len);
	assert_int_equal(fixture_open(f, 0), -EIO);
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_rebuilt(f);
	buf_release(&old);
}

static void
revoked_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct subscription_row r;
	struct buf live = BUF_INIT;

	furnish(f);
	drop(f, "catalogue.db");
	f->revoked = true;
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_int_equal(catalogue_subscription_find(f->c, LIST, &r, &f->err), 0);
	assert_int_equal(r.state, SUB_DISTRUSTED);
	assert_string_equal(r.version, "2");
	subscription_row_release(&r);
	assert_int_equal(catalogue_image_each(f->c, 0, true, note_image, &live, &f->err), 0);
	assert_int_equal(live.len, 0);
}

static void
without_verifier(void **state)
{
	struct fixture *f = *state;
	struct subscription_row r;

	furnish(f);
	drop(f, "catalogue.db");
	assert_int_equal(catalogue_open(&f->c, &f->conf, CATALOGUE_CREATE, NULL, &f->err), 0);
	assert_int_equal(catalogue_subscription_find(f->c, LIST, &r, &f->err), 0);
	assert_int_equal(r.state, SUB_NEW);
	assert_string_equal(r.error, "to be refreshed");
	/* The selection is kept for when the list is there again; an older list is not taken. */
	assert_string_equal(r.version, "2");
	publish(f, r.id, "3", ENTRIES(IMG("a", "2", 'f'), IMG("c", "1", 'c')));
	subscription_row_release(&r);
	assert_image(f, "a", "live selected 2");
	assert_image(f, "c", "live unselected 1");
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_int_equal(f->said.len, 0);
}

static void
objects_adopted(void **state)
{
	struct fixture *f = *state;
	struct digest d = content('b');
	struct object_row o;

	furnish(f);
	drop(f, "catalogue.db");
	f->objects_good = true;
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_int_equal(catalogue_object_get(f->c, &d, &o, &f->err), 0);
	assert_int_equal(o.state, OBJECT_VERIFIED);
	object_row_release(&o);
}

static void
same_inodes(void **state)
{
	struct fixture *f = *state;
	struct image_row r;
	uint64_t ino;
	int64_t rev;

	furnish(f);
	assert_int_equal(fixture_open(f, 0), 0);
	r = image(f, "b");
	ino = r.ino;
	rev = r.rev;
	image_row_release(&r);
	close_catalogue(f);
	drop(f, "catalogue.db");
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	r = image(f, "b");
	assert_true(r.ino == ino);
	assert_int_not_equal(r.rev, rev);
	image_row_release(&r);
}

/* ---- B24 ------------------------------------------------------------------------------------- */

static void
damage_message(struct fixture *f, bool payload)
{
	struct subscription_row r;
	struct buf b = BUF_INIT;
	CLEANUP_FREE char *name = NULL;
	char hex[DIGEST_HEX + 1];

	assert_int_equal(fixture_open(f, 0), 0);
	assert_int_equal(catalogue_subscription_find(f->c, LIST, &r, &f->err), 0);
	digest_hex(&r.message, hex);
	subscription_row_release(&r);
	close_catalogue(f);
	name = xasprintf("messages/%s%s", hex, payload ? ".json" : ".smime");
	load(f, name, &b);
	b.data[b.len / 2] ^= 4;
	put(f, name, b.data, b.len);
	buf_release(&b);
}

static void
hidden_until_fetched(struct fixture *f)
{
	struct subscription_row r;
	int64_t mark;

	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	mark = catalogue_event_last(f->c);
	assert_int_equal(catalogue_subscription_find(f->c, LIST, &r, &f->err), 0);
	assert_int_equal(r.state, SUB_FAILED);
	assert_int_equal(r.code, CODE_CORRUPT);
	assert_false(r.has_message);
	assert_image(f, "a", "away selected 1");
	/* A second start finds nothing more to do; the same list brings everything back. */
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_image(f, "a", "away selected 1");
	publish(f, r.id, "2", ENTRIES(IMG("a", "2", 'f'), IMG("b", "1", 'b'), IMG("c", "1", 'c')));
	assert_state(f, r.id, SUB_OK);
	assert_image(f, "a", "live selected 2");
	assert_image(f, "b", "live selected 1");
	assert_events(f, mark, "[ExpirePrefix a, ExpirePostfix a]");
	fixture_reopen(f, CATALOGUE_CHECK);
	assert_no_trust_gained(f);
	subscription_row_release(&r);
}

static void
damaged_message(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	damage_message(f, false);
	hidden_until_fetched(f);
}

static void
damaged_payload(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	damage_message(f, true);
	hidden_until_fetched(f);
}

static void
damaged_message_in_rebuild(void **state)
{
	struct fixture *f = *state;
	struct subscription_row r;

	furnish(f);
	damage_message(f, false);
	drop(f, "catalogue.db");
	assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
	assert_int_equal(catalogue_subscription_find(f->c, LIST, &r, &f->err), 0);
	assert_int_equal(r.state, SUB_FAILED);
	assert_int_equal(r.code, CODE_CORRUPT);
	subscription_row_release(&r);
	assert_no_trust_gained(f);
}

static void
check_is_quiet(void **state)
{
	struct fixture *f = *state;

	furnish(f);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fixture_open(f, CATALOGUE_CHECK), 0);
		assert_image(f, "a", "live selected 1 pending 2");
		close_catalogue(f);
	}
	assert_int_equal(f->said.len, 0);
	assert_false(has_file(f, "catalogue.db.damaged-"));
}

#define T(title, fn) { title, fn, fixture_setup, fixture_teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T("a sound catalogue passes the check unchanged", check_is_quiet),
		T("B17 a flipped bit leads to a start or a rebuild, never to more trust", flips),
		T("B18 an empty catalogue file is rebuilt", zero_length),
		T("B19 a missing catalogue is rebuilt from site.json and the messages", missing),
		T("B20 a catalogue replaced by text is kept beside and rebuilt", text_file),
		T("B21 a newer schema is refused and left as it is", newer),
		T("B22 a catalogue that cannot be opened is named, with the mode it needs",
		  mode_0000),
		T("B23 a directory in its place is refused", directory),
		T("without catalogue and site.json nothing is begun anew", both_damaged),
		T("B19 nothing is rebuilt from a site.json that was changed by hand", forged_site),
		T("an error of the database has code 15", lost_table),
		T("I4 a row that differs from the signed message is noticed", tampered_row),
		T("I4 a distrusted image that was made live is noticed", tampered_trust),
		T("selections that differ from site.json are noticed", tampered_selection),
		T("I4 a credential that differs from site.json is noticed", tampered_credential),
		T("I4 an image that is not what the current list says is noticed",
		  old_version_stays),
		T("an old copy of the catalogue is noticed", old_copy),
		T("a rebuild asks anew whether the signer is trusted", revoked_meanwhile),
		T("a rebuild without a verifier trusts no stored message", without_verifier),
		T("a rebuild takes over the objects whose bytes are good", objects_adopted),
		T("inode numbers survive a rebuild, revisions do not", same_inodes),
		T("B24 a damaged message hides its images until the list is fetched again",
		  damaged_message),
		T("B24 a damaged payload does, too", damaged_payload),
		T("B24 a damaged message is not used in a rebuild", damaged_message_in_rebuild),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
