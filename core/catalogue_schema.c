/*
 * catalogue_schema.c - the tables, as numbered steps.
 *
 *   revision ---- one number that only grows; every visible change of a row takes the next one
 *   inode ------- name of a thing -> its inode number, kept for ever
 *   note -------- single values: store id, serial of site.json, fingerprints
 *   endorser 1--n credential         endorser n--m subscription (link)
 *   subscription 1--n image          subscription 1--n refused
 *   meta -------- what a signed list says of one image; a row never changes, its seal covers it
 *   image ------> meta (current), meta (pending)       expired ---> meta (frozen)
 *   object ------ one row a digest that a live image or an unpurged expired one names
 *   wish -------- images that no stored list names, but an admin has (after a rebuild): to be
 *                 accepted, and perhaps selected, when a list names them
 *   event ------- outbox
 *   event n--m handler (delivery)   who is to be told of it, and what came of it
 *   attestation 1--n attested       a signed message of block digests, and what it says
 *   pin --------- images whose stored version stays, whatever room is needed (by name, so that a
 *                 pin outlives the row)
 *   leaving ----- objects that have left the rows, and whose files are just being removed
 *   signer ------ who signed lists that withdrawn images came from, and one message of theirs
 *
 * States on which trust or a file's life depends are words under a CHECK, not numbers: a flipped
 * bit makes a word that integrity_check refuses, where it would make one valid number of another.
 *
 * Triggers keep rev: a row's rev grows whenever anything that the tree shows of it changes.  The
 * first number is taken from the clock, so that a rebuilt catalogue does not repeat one either.
 *
 * A step is never edited once released; a change is a further step.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>
#include "cleanup.h"

#define REV(table, key) \
	"UPDATE revision SET n = n + 1;" \
	"UPDATE " table " SET rev = (SELECT n FROM revision) WHERE " key ";"
#define DIGEST_CHECK(column) "CHECK (length(" column ") = 64)"
#define REV_OBJECT(d) \
	REV("object", "digest = " d) \
	"UPDATE image SET rev = (SELECT n FROM revision) WHERE sha512 = " d \
	" OR pending_sha512 = " d ";"
#define ATTESTED_BY(which) \
	"(SELECT t.sha512 FROM attested t JOIN attestation a ON a.id = t.attestation" \
	" WHERE " which ")"
#define REV_ATTESTED(which) \
	REV("object", "digest IN " ATTESTED_BY(which)) \
	"UPDATE image SET rev = (SELECT n FROM revision) WHERE sha512 IN " ATTESTED_BY(which) \
	" OR pending_sha512 IN " ATTESTED_BY(which) ";"
#define FLAG(column) column " INTEGER NOT NULL DEFAULT 0 CHECK (" column " IN (0, 1))"

static const char step_1_trust[] =
"CREATE TABLE revision (one INTEGER PRIMARY KEY CHECK (one = 1), n INTEGER NOT NULL) STRICT;"
"INSERT INTO revision VALUES (1, CAST(strftime('%s', 'now') AS INTEGER) * 1048576);"
"CREATE TABLE note (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
"CREATE TABLE inode (ino INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;"
"CREATE TABLE endorser ("
"  id INTEGER PRIMARY KEY AUTOINCREMENT, rev INTEGER NOT NULL DEFAULT 0, ino INTEGER NOT NULL,"
"  name TEXT NOT NULL UNIQUE,"
   FLAG("allow_sha1") "," FLAG("any_purpose") "," FLAG("blocks_only") ") STRICT;"
"CREATE TABLE credential ("
"  endorser INTEGER NOT NULL REFERENCES endorser ON DELETE CASCADE,"
"  subject TEXT NOT NULL, issuer TEXT NOT NULL, UNIQUE (subject, issuer)) STRICT;"
"CREATE INDEX credential_endorser ON credential (endorser);"
"CREATE TABLE subscription ("
"  id INTEGER PRIMARY KEY AUTOINCREMENT, rev INTEGER NOT NULL DEFAULT 0, ino INTEGER NOT NULL,"
"  list_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, url TEXT NOT NULL UNIQUE,"
"  username TEXT, password TEXT,"
"  select_new TEXT NOT NULL CHECK (select_new IN ('none', 'all')),"
"  state TEXT NOT NULL CHECK (state IN ('new', 'ok', 'failed', 'expired', 'distrusted')),"
"  code INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',"
"  title TEXT NOT NULL DEFAULT '', description TEXT NOT NULL DEFAULT '',"
"  uri TEXT NOT NULL DEFAULT '', version TEXT NOT NULL DEFAULT '', vo TEXT NOT NULL DEFAULT '',"
"  created INTEGER NOT NULL DEFAULT 0, expires INTEGER NOT NULL DEFAULT 0,"
"  updated INTEGER NOT NULL DEFAULT 0, tried INTEGER NOT NULL DEFAULT 0,"
"  message BLOB " DIGEST_CHECK("message") ", payload BLOB " DIGEST_CHECK("payload") ","
   FLAG("stored") ","			/* the message file is there and good */
"  signer_subject TEXT, signer_issuer TEXT,"
"  signer_endorser INTEGER REFERENCES endorser ON DELETE SET NULL,"
   FLAG("reset_version") ","
"  generation INTEGER NOT NULL DEFAULT 0) STRICT;"
"CREATE TABLE link ("
"  endorser INTEGER NOT NULL REFERENCES endorser ON DELETE CASCADE,"
"  subscription INTEGER NOT NULL REFERENCES subscription ON DELETE CASCADE,"
"  PRIMARY KEY (endorser, subscription)) STRICT, WITHOUT ROWID;"
"CREATE INDEX link_subscription ON link (subscription);";

static const char step_1_images[] =
"CREATE TABLE meta ("
"  id INTEGER PRIMARY KEY AUTOINCREMENT,"
"  identifier TEXT NOT NULL, title TEXT NOT NULL, description TEXT NOT NULL,"
"  version TEXT NOT NULL, comments TEXT NOT NULL, os TEXT NOT NULL, osversion TEXT NOT NULL,"
"  arch TEXT NOT NULL, hypervisor TEXT NOT NULL, format TEXT NOT NULL, size TEXT NOT NULL,"
"  sha512 TEXT NOT NULL, uri TEXT NOT NULL, group_name TEXT NOT NULL, vo TEXT NOT NULL,"
"  created TEXT NOT NULL, expires TEXT NOT NULL, mpuri TEXT NOT NULL,"
"  bytes INTEGER NOT NULL CHECK (bytes > 0), digest BLOB NOT NULL " DIGEST_CHECK("digest") ","
"  created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, json TEXT NOT NULL,"
"  seal BLOB NOT NULL " DIGEST_CHECK("seal") ") STRICT;"
"CREATE TABLE image ("
"  id INTEGER PRIMARY KEY AUTOINCREMENT, rev INTEGER NOT NULL DEFAULT 0, ino INTEGER NOT NULL,"
"  subscription INTEGER NOT NULL REFERENCES subscription,"
"  identifier TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE,"
   FLAG("live") "," FLAG("selected") "," FLAG("announced") ","
"  generation INTEGER NOT NULL,"	/* of the subscription, when a list last named it */
"  expires INTEGER NOT NULL,"		/* the earliest of image, list and max_valid_time */
"  meta INTEGER NOT NULL REFERENCES meta,"
"  sha512 BLOB NOT NULL " DIGEST_CHECK("sha512") ","
"  pending INTEGER REFERENCES meta,"
"  pending_sha512 BLOB " DIGEST_CHECK("pending_sha512") ","
"  CHECK ((pending IS NULL) = (pending_sha512 IS NULL))) STRICT;"
"CREATE INDEX image_subscription ON image (subscription);"
"CREATE INDEX image_meta ON image (meta);"
"CREATE INDEX image_pending ON image (pending) WHERE pending IS NOT NULL;"
"CREATE INDEX image_sha512 ON image (sha512);"
"CREATE INDEX image_pending_sha512 ON image (pending_sha512) WHERE pending_sha512 IS NOT NULL;"
"CREATE INDEX image_expires ON image (expires) WHERE live = 1;"
"CREATE TABLE wish ("
"  identifier TEXT PRIMARY KEY,"
"  subscription INTEGER NOT NULL REFERENCES subscription ON DELETE CASCADE)"
"  STRICT, WITHOUT ROWID;"
"CREATE TABLE refused ("
"  id INTEGER PRIMARY KEY AUTOINCREMENT,"
"  subscription INTEGER NOT NULL REFERENCES subscription ON DELETE CASCADE,"
"  identifier TEXT NOT NULL, name TEXT NOT NULL, code INTEGER NOT NULL, error TEXT NOT NULL,"
"  owner INTEGER,"			/* the subscription that owns the identifier */
"  UNIQUE (subscription, name)) STRICT;"
"CREATE TABLE object ("
"  id INTEGER PRIMARY KEY AUTOINCREMENT, rev INTEGER NOT NULL DEFAULT 0, ino INTEGER NOT NULL,"
"  digest BLOB NOT NULL UNIQUE " DIGEST_CHECK("digest") ","
"  size INTEGER NOT NULL CHECK (size > 0), mtime INTEGER NOT NULL,"
"  state TEXT NOT NULL CHECK (state IN ('missing', 'verified', 'failed')),"
"  tries INTEGER NOT NULL DEFAULT 0, next_try INTEGER NOT NULL DEFAULT 0,"
"  code INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',"
"  etag TEXT NOT NULL DEFAULT '', etag_url TEXT NOT NULL DEFAULT '',"
"  fetched INTEGER NOT NULL DEFAULT 0) STRICT;"
"CREATE TABLE expired ("
"  id INTEGER PRIMARY KEY AUTOINCREMENT, rev INTEGER NOT NULL DEFAULT 0, ino INTEGER NOT NULL,"
"  name TEXT NOT NULL UNIQUE, list_id TEXT NOT NULL,"
"  reason TEXT NOT NULL CHECK (reason IN ('replaced', 'removed-from-list', 'list-expired',"
"    'image-expired', 'unsubscribed', 'deselected', 'endorser-removed', 'endorser-unlinked',"
"    'revoked', 'corrupt')),"
"  expired_at INTEGER NOT NULL, replaced_by TEXT NOT NULL,"
"  trust TEXT NOT NULL CHECK (trust IN ('withdrawn', 'distrusted')),"
"  bytes TEXT NOT NULL CHECK (bytes IN ('kept', 'purged')),"
   FLAG("selected") ", error TEXT NOT NULL,"
"  meta INTEGER NOT NULL REFERENCES meta,"
"  sha512 BLOB NOT NULL " DIGEST_CHECK("sha512") ") STRICT;"
"CREATE INDEX expired_meta ON expired (meta);"
"CREATE INDEX expired_sha512 ON expired (sha512);"
"CREATE INDEX expired_list ON expired (list_id);"
"CREATE TABLE event ("
"  id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, time INTEGER NOT NULL,"
"  type TEXT NOT NULL, identifier TEXT NOT NULL, list_id TEXT NOT NULL, json TEXT NOT NULL)"
"  STRICT;";

static const char step_1_triggers[] =
"CREATE TRIGGER endorser_new AFTER INSERT ON endorser BEGIN"
"  " REV("endorser", "id = NEW.id") " END;"
"CREATE TRIGGER endorser_change AFTER UPDATE OF name, allow_sha1, any_purpose, blocks_only"
"  ON endorser BEGIN " REV("endorser", "id = NEW.id") " END;"
"CREATE TRIGGER credential_new AFTER INSERT ON credential BEGIN"
"  " REV("endorser", "id = NEW.endorser") " END;"
"CREATE TRIGGER credential_gone AFTER DELETE ON credential BEGIN"
"  " REV("endorser", "id = OLD.endorser") " END;"
"CREATE TRIGGER link_new AFTER INSERT ON link BEGIN"
"  " REV("endorser", "id = NEW.endorser") REV("subscription", "id = NEW.subscription") " END;"
"CREATE TRIGGER link_gone AFTER DELETE ON link BEGIN"
"  " REV("endorser", "id = OLD.endorser") REV("subscription", "id = OLD.subscription") " END;"
"CREATE TRIGGER subscription_new AFTER INSERT ON subscription BEGIN"
"  " REV("subscription", "id = NEW.id") " END;"
"CREATE TRIGGER subscription_change AFTER UPDATE OF list_id, name, url, username, password,"
"  select_new, state, code, error, title, description, uri, version, vo, created, expires,"
"  updated, tried, message, payload, stored, signer_subject, signer_issuer, signer_endorser,"
"  reset_version, generation ON subscription BEGIN " REV("subscription", "id = NEW.id") " END;"
"CREATE TRIGGER image_new AFTER INSERT ON image BEGIN"
"  " REV("image", "id = NEW.id") REV("object", "digest = NEW.sha512") " END;"
/* The object's rows too: wanted and access follow from the images that name it. */
"CREATE TRIGGER image_change AFTER UPDATE ON image"
"  WHEN OLD.live IS NOT NEW.live OR OLD.selected IS NOT NEW.selected"
"    OR OLD.meta IS NOT NEW.meta OR OLD.pending IS NOT NEW.pending"
"    OR OLD.subscription IS NOT NEW.subscription"
"  BEGIN " REV("image", "id = NEW.id")
    REV("object", "digest IN (OLD.sha512, NEW.sha512, OLD.pending_sha512, NEW.pending_sha512)")
"  END;"
"CREATE TRIGGER image_gone AFTER DELETE ON image BEGIN"
"  " REV("object", "digest IN (OLD.sha512, OLD.pending_sha512)") " END;"
"CREATE TRIGGER object_new AFTER INSERT ON object BEGIN"
"  " REV("object", "id = NEW.id")
    REV("image", "sha512 = NEW.digest OR pending_sha512 = NEW.digest") " END;"
"CREATE TRIGGER object_change AFTER UPDATE OF size, mtime, state, tries, next_try, code, error,"
"  fetched ON object WHEN OLD.state IS NOT NEW.state OR OLD.tries IS NOT NEW.tries"
"    OR OLD.error IS NOT NEW.error OR OLD.code IS NOT NEW.code OR OLD.size IS NOT NEW.size"
"    OR OLD.fetched IS NOT NEW.fetched OR OLD.next_try IS NOT NEW.next_try"
"    OR OLD.mtime IS NOT NEW.mtime"
"  BEGIN " REV("object", "id = NEW.id")
    REV("image", "sha512 = NEW.digest OR pending_sha512 = NEW.digest") " END;"
"CREATE TRIGGER expired_new AFTER INSERT ON expired BEGIN"
"  " REV("expired", "id = NEW.id") REV("object", "digest = NEW.sha512") " END;"
"CREATE TRIGGER expired_change AFTER UPDATE OF trust, bytes ON expired BEGIN"
"  " REV("expired", "id = NEW.id") REV("object", "digest = NEW.sha512") " END;"
"CREATE TRIGGER refused_new AFTER INSERT ON refused BEGIN"
"  " REV("subscription", "id = NEW.subscription") " END;"
"CREATE TRIGGER refused_gone AFTER DELETE ON refused BEGIN"
"  " REV("subscription", "id = OLD.subscription") " END;";

/*
 * Block digests: what lists and attestations say of them, and what is known of the stored trees.
 * And who vouched for a version: a withdrawn one has to be distrusted with its own signer, not with
 * that of the list that replaced it.
 */
static const char step_2_tables[] =
"ALTER TABLE meta ADD COLUMN verity BLOB " DIGEST_CHECK("verity") ";"
"ALTER TABLE meta ADD COLUMN verity_uri TEXT NOT NULL DEFAULT '';"
"ALTER TABLE object ADD COLUMN tree BLOB " DIGEST_CHECK("tree") ";"
"ALTER TABLE object ADD COLUMN " FLAG("degraded") ";"
"ALTER TABLE object ADD COLUMN " FLAG("corrupt") ";"	/* found, its event sent */
"ALTER TABLE object ADD COLUMN strict_reason TEXT NOT NULL DEFAULT '';"
"ALTER TABLE image ADD COLUMN signer_subject TEXT;"	/* of the list that named it current */
"ALTER TABLE image ADD COLUMN signer_issuer TEXT;"
"ALTER TABLE expired ADD COLUMN signer_subject TEXT;"
"ALTER TABLE expired ADD COLUMN signer_issuer TEXT;"
"CREATE TABLE signer ("
"  subject TEXT NOT NULL, issuer TEXT NOT NULL,"
"  message BLOB NOT NULL " DIGEST_CHECK("message") ","
"  PRIMARY KEY (subject, issuer)) STRICT, WITHOUT ROWID;"
"CREATE TABLE attestation ("
"  id INTEGER PRIMARY KEY AUTOINCREMENT,"
"  message BLOB NOT NULL UNIQUE " DIGEST_CHECK("message") ","
"  payload BLOB NOT NULL " DIGEST_CHECK("payload") ","
"  source TEXT NOT NULL,"		/* the URL it came from; '': given by hand */
"  list_id TEXT NOT NULL,"		/* of the subscription it was fetched for, or '' */
"  subject TEXT NOT NULL, issuer TEXT NOT NULL,"
"  endorser INTEGER REFERENCES endorser ON DELETE SET NULL,"
"  trust TEXT NOT NULL CHECK (trust IN ('trusted', 'distrusted')),"
"  imported INTEGER NOT NULL) STRICT;"
"CREATE INDEX attestation_source ON attestation (source);"
"CREATE INDEX attestation_endorser ON attestation (endorser);"
"CREATE TABLE attested ("
"  attestation INTEGER NOT NULL REFERENCES attestation ON DELETE CASCADE,"
"  sha512 BLOB NOT NULL " DIGEST_CHECK("sha512") ","
"  size INTEGER NOT NULL CHECK (size > 0),"
"  verity BLOB NOT NULL " DIGEST_CHECK("verity") ","
"  uri TEXT NOT NULL, identifier TEXT NOT NULL,"
"  PRIMARY KEY (attestation, sha512)) STRICT, WITHOUT ROWID;"
"CREATE INDEX attested_sha512 ON attested (sha512);"
"UPDATE image SET signer_subject = (SELECT s.signer_subject FROM subscription s"
"  WHERE s.id = image.subscription), signer_issuer = (SELECT s.signer_issuer"
"  FROM subscription s WHERE s.id = image.subscription) WHERE live = 1 AND pending IS NULL;"
"INSERT OR REPLACE INTO signer SELECT signer_subject, signer_issuer, message FROM subscription"
"  WHERE stored = 1 AND message IS NOT NULL AND signer_subject IS NOT NULL"
"  AND signer_issuer IS NOT NULL;"
/* Stored lists may say what the version before could not read: see check_images(). */
"INSERT INTO note SELECT 'reapply', '1' WHERE EXISTS (SELECT 1 FROM subscription)"
"  ON CONFLICT (key) DO NOTHING;";

/* The root of an object follows from attestations, their signers and links too. */
static const char step_2_triggers[] =
"DROP TRIGGER object_change;"
"CREATE TRIGGER object_change AFTER UPDATE OF size, mtime, state, tries, next_try, code, error,"
"  fetched, tree, degraded, strict_reason ON object"
"  WHEN OLD.state IS NOT NEW.state OR OLD.tries IS NOT NEW.tries"
"    OR OLD.error IS NOT NEW.error OR OLD.code IS NOT NEW.code OR OLD.size IS NOT NEW.size"
"    OR OLD.fetched IS NOT NEW.fetched OR OLD.next_try IS NOT NEW.next_try"
"    OR OLD.mtime IS NOT NEW.mtime OR OLD.tree IS NOT NEW.tree"
"    OR OLD.degraded IS NOT NEW.degraded OR OLD.strict_reason IS NOT NEW.strict_reason"
"  BEGIN " REV("object", "id = NEW.id")
    REV("image", "sha512 = NEW.digest OR pending_sha512 = NEW.digest") " END;"
"CREATE TRIGGER attested_new AFTER INSERT ON attested BEGIN"
"  " REV_OBJECT("NEW.sha512") " END;"
"CREATE TRIGGER attested_gone AFTER DELETE ON attested BEGIN"
"  " REV_OBJECT("OLD.sha512") " END;"
"CREATE TRIGGER attestation_change AFTER UPDATE OF endorser, trust ON attestation"
"  WHEN OLD.endorser IS NOT NEW.endorser OR OLD.trust IS NOT NEW.trust"
"  BEGIN " REV_ATTESTED("a.id = NEW.id") " END;"
"CREATE TRIGGER link_attested AFTER INSERT ON link BEGIN"
"  " REV_ATTESTED("a.endorser = NEW.endorser") " END;"
"CREATE TRIGGER link_unattested AFTER DELETE ON link BEGIN"
"  " REV_ATTESTED("a.endorser = OLD.endorser") " END;";

/*
 * Handlers, and what each is still to be told.  A delivery knows its image, so that an earlier one
 * of the same image is found at once.  Endorsers have any name, and a directory made of it.
 * Policies of new images.
 */
static const char step_3_tables[] =
"CREATE TABLE handler ("
"  id INTEGER PRIMARY KEY AUTOINCREMENT,"
"  kind TEXT NOT NULL CHECK (kind IN ('daemon', 'cache', 'subscribe')),"
"  name TEXT NOT NULL, used INTEGER NOT NULL DEFAULT 0, UNIQUE (kind, name)) STRICT;"
"ALTER TABLE event ADD COLUMN session TEXT NOT NULL DEFAULT '';"
"ALTER TABLE event ADD COLUMN handler INTEGER REFERENCES handler ON DELETE CASCADE;" /* alone */
"CREATE INDEX event_image ON event (identifier, type);"
"CREATE INDEX event_handler ON event (handler) WHERE handler IS NOT NULL;"
"CREATE TABLE delivery ("
"  event INTEGER NOT NULL REFERENCES event ON DELETE CASCADE,"
"  handler INTEGER NOT NULL REFERENCES handler ON DELETE CASCADE,"
"  identifier TEXT NOT NULL,"
"  phase INTEGER NOT NULL CHECK (phase IN (0, 1, 2)),"	/* of a run: its beginning, its end */
"  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed')),"
"  tries INTEGER NOT NULL DEFAULT 0, next_try INTEGER NOT NULL DEFAULT 0,"
"  error TEXT NOT NULL DEFAULT '',"
"  PRIMARY KEY (event, handler)) STRICT, WITHOUT ROWID;"
"CREATE INDEX delivery_waiting ON delivery (handler, phase, event) WHERE state = 'waiting';"
"CREATE INDEX delivery_image ON delivery (handler, identifier, event) WHERE state = 'waiting';"
"ALTER TABLE endorser ADD COLUMN dir TEXT NOT NULL DEFAULT '';"
"UPDATE endorser SET dir = name;"		/* until now every name was a safe one */
"CREATE UNIQUE INDEX endorser_dir ON endorser (dir);"
"ALTER TABLE subscription ADD COLUMN new_images TEXT NOT NULL DEFAULT 'accept'"
"  CHECK (new_images IN ('accept', 'refuse'));"
"ALTER TABLE subscription ADD COLUMN trust_anchor TEXT NOT NULL DEFAULT 'none'"
"  CHECK (trust_anchor IN ('none', 'browser', 'igtf'));"
"ALTER TABLE subscription ADD COLUMN " FLAG("reapply") ";"	/* be it the same bytes */
"ALTER TABLE wish ADD COLUMN selected INTEGER NOT NULL DEFAULT 1 CHECK (selected IN (0, 1));";

static const char step_3_triggers[] =
"DROP TRIGGER subscription_change;"
"CREATE TRIGGER subscription_change AFTER UPDATE OF list_id, name, url, username, password,"
"  select_new, state, code, error, title, description, uri, version, vo, created, expires,"
"  updated, tried, message, payload, stored, signer_subject, signer_issuer, signer_endorser,"
"  reset_version, generation, new_images, trust_anchor, reapply"
"  ON subscription BEGIN " REV("subscription", "id = NEW.id") " END;"
"CREATE TRIGGER expired_gone AFTER DELETE ON expired BEGIN"
"  UPDATE revision SET n = n + 1; END;";

/*
 * Events of before had an image's values under the names of its files; handlers that are new are
 * given the last Available ones of what is announced, and those are made whole.
 */
#define OLD_VALUE(column, file) "'" column "', coalesce(json_extract(json, '$." file "'), '')"
static const char step_3_events[] =
"UPDATE event SET session = uuid, json = json_object('uuid', uuid, 'session', uuid,"
"  'time', json_extract(json, '$.time'), 'type', type, 'subscription', list_id,"
"  'filename', coalesce(json_extract(json, '$.filename'), ''),"
"  'reason', coalesce(json_extract(json, '$.reason'), ''),"
"  " OLD_VALUE("identifier", "id") ", " OLD_VALUE("title", "title") ","
"  " OLD_VALUE("description", "description") ", " OLD_VALUE("version", "version") ","
"  " OLD_VALUE("comments", "comments") ", " OLD_VALUE("os", "os") ","
"  " OLD_VALUE("osversion", "osversion") ", " OLD_VALUE("arch", "arch") ","
"  " OLD_VALUE("hypervisor", "hypervisor") ", " OLD_VALUE("format", "format") ","
"  'size', coalesce(json_extract(json, '$.size'), 0), " OLD_VALUE("sha512", "sha512") ","
"  " OLD_VALUE("uri", "uri") ", " OLD_VALUE("group_name", "group") ", " OLD_VALUE("vo", "vo") ","
"  " OLD_VALUE("created", "created") ", " OLD_VALUE("expires", "expires") ","
"  'mpuri', '', 'metadata', json('{}')) WHERE json_valid(json);"
"UPDATE event SET json = json_set(event.json, '$.mpuri', m.mpuri, '$.metadata', json(m.json))"
"  FROM image i JOIN meta m ON m.id = i.meta"
"  WHERE i.identifier = event.identifier AND json_valid(event.json) AND json_valid(m.json)"
"  AND json_extract(event.json, '$.sha512') = m.sha512;";

/*
 * When an object was last used: coarse, shown by no file, so that it moves no rev.  Pins.  And what
 * is being removed, so that a crash between row and file leaves no file that nobody knows.
 */
static const char step_4_tables[] =
"ALTER TABLE object ADD COLUMN used INTEGER NOT NULL DEFAULT 0;"
"UPDATE object SET used = fetched;"
"CREATE TABLE pin ("
"  identifier TEXT NOT NULL,"
"  subscription INTEGER NOT NULL REFERENCES subscription ON DELETE CASCADE,"
"  PRIMARY KEY (identifier, subscription)) STRICT, WITHOUT ROWID;"
"CREATE INDEX pin_subscription ON pin (subscription);"
"CREATE TABLE leaving (digest BLOB PRIMARY KEY NOT NULL " DIGEST_CHECK("digest") ")"
"  STRICT, WITHOUT ROWID;";

#define REV_PINNED(row) \
	"UPDATE revision SET n = n + 1;" \
	"UPDATE image SET rev = (SELECT n FROM revision) WHERE identifier = " row ".identifier;" \
	"UPDATE object SET rev = (SELECT n FROM revision) WHERE digest IN" \
	" (SELECT sha512 FROM image WHERE identifier = " row ".identifier" \
	" UNION SELECT pending_sha512 FROM image WHERE identifier = " row ".identifier);"
static const char step_4_triggers[] =
"CREATE TRIGGER pin_new AFTER INSERT ON pin BEGIN " REV_PINNED("NEW") " END;"
"CREATE TRIGGER pin_gone AFTER DELETE ON pin BEGIN " REV_PINNED("OLD") " END;";

/* The number stands twice, written in one transaction: see check_version() in cat_open.c. */
#define STEP_DONE(number) \
	"PRAGMA user_version = " number ";" \
	"INSERT INTO note VALUES ('schema', '" number "')" \
	" ON CONFLICT (key) DO UPDATE SET value = '" number "';"

static const char *const steps[SCHEMA_VERSION][4] = {
	{ step_1_trust, step_1_images, step_1_triggers, STEP_DONE("1") },
	{ step_2_tables, step_2_triggers, "", STEP_DONE("2") },
	{ step_3_tables, step_3_triggers, step_3_events, STEP_DONE("3") },
	{ step_4_tables, step_4_triggers, "", STEP_DONE("4") },
};

int
catalogue_schema_version(struct sqlite3 *db)
{
	sqlite3_stmt *stmt = NULL;
	int version = -1;

	if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		version = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return version;
}

static int
run_step(struct sqlite3 *db, int from, struct err *err)
{
	int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	/* Another process may have made the step while we waited for the lock. */
	if (rc == SQLITE_OK && catalogue_schema_version(db) == from)
		for (int i = 0; i < 4 && rc == SQLITE_OK; i++)
			rc = sqlite3_exec(db, steps[from][i], NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		err_refuse(err, (rc & 0xff) == SQLITE_FULL ? CODE_FULL : CODE_DATABASE,
			   "catalogue: schema step %d failed: %s", from + 1, sqlite3_errmsg(db));
	/* After some errors SQLite has rolled back by itself. */
	if (rc != SQLITE_OK && !sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

int
catalogue_schema_upgrade(struct sqlite3 *db, struct err *err)
{
	int version = catalogue_schema_version(db);

	while (version >= 0 && version < SCHEMA_VERSION) {
		if (run_step(db, version, err) != SQLITE_OK)
			return err != NULL && err->rc != 0 ? err->rc : -code_errno(CODE_DATABASE);
		version = catalogue_schema_version(db);
	}
	if (version < 0)
		return err_refuse(err, CODE_CORRUPT, "catalogue: no schema version: %s",
				  sqlite3_errmsg(db));
	return 0;
}

static const char all_of_schema[] =
"SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema"
" WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name";

/*
 * The text of all tables, indices and triggers, appended to out.  -EUCLEAN: it is damaged; -EIO: it
 * cannot be read now.
 */
static int
dump_schema(struct sqlite3 *db, struct buf *out)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, all_of_schema, -1, &stmt, NULL);

	while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		for (int i = 0; i < 4; i++) {
			const unsigned char *text = sqlite3_column_text(stmt, i);

			buf_puts(out, text != NULL ? (const char *)text : "");
			buf_putc(out, '\n');
		}
		rc = SQLITE_OK;
	}
	sqlite3_finalize(stmt);
	if (rc == SQLITE_DONE)
		return 0;
	return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB ? -EUCLEAN : -EIO;
}

int
catalogue_schema_check(struct sqlite3 *db, struct err *err)
{
	CLEANUP_BUF struct buf theirs = BUF_INIT;
	CLEANUP_BUF struct buf ours = BUF_INIT;
	struct sqlite3 *fresh = NULL;
	int rc = sqlite3_open(":memory:", &fresh) == SQLITE_OK ? 0 : -EIO;

	if (rc == 0 && catalogue_schema_upgrade(fresh, err) != 0)
		rc = -EIO;
	if (rc == 0)
		rc = dump_schema(fresh, &ours);
	if (rc == 0)
		rc = dump_schema(db, &theirs);
	if (rc == 0 && strcmp(buf_str(&ours), buf_str(&theirs)) != 0)
		rc = -EUCLEAN;
	sqlite3_close(fresh);
	if (rc == -EUCLEAN)
		return err_set(err, EUCLEAN, "its tables are not those of this version");
	if (rc != 0)
		return err_refuse(err, CODE_DATABASE, "catalogue: its tables cannot be read now");
	return 0;
}
