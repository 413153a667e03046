/*
 * catalogue_sql.c - every statement of the catalogue, by name.  Values are bound, never printed in.
 */
#include "config.h"
#include "catalogue_sql.h"

#include "catalogue_parts.h"

static const char *const statements[N_SQL] = {
[SQL_BEGIN] = "BEGIN IMMEDIATE",
[SQL_BEGIN_READ] = "BEGIN",
[SQL_COMMIT] = "COMMIT",
[SQL_ROLLBACK] = "ROLLBACK",
[SQL_DATA_VERSION] = "PRAGMA data_version",
[SQL_REVISION] = "SELECT n FROM revision",
[SQL_INTEGRITY_CHECK] = "PRAGMA integrity_check(3)",
[SQL_FOREIGN_KEY_CHECK] = "PRAGMA foreign_key_check",
[SQL_NOTE_GET] = "SELECT value FROM note WHERE key = ?1",
[SQL_NOTE_SET] = "INSERT INTO note VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
[SQL_INODE_GET] = "SELECT ino FROM inode WHERE name = ?1",
[SQL_INODE_OWNER] = "SELECT 1 FROM inode WHERE ino = ?1",
[SQL_INODE_ADD] = "INSERT INTO inode VALUES (?1, ?2)",
[SQL_INODE_DELETE] = "DELETE FROM inode WHERE ino = ?1",
/* How many more there are than twice those in use. */
[SQL_INODE_SURPLUS] = "SELECT (SELECT count(*) FROM inode) - 2 * ((SELECT count(*) FROM image)"
	" + (SELECT count(*) FROM object) + (SELECT count(*) FROM expired)"
	" + (SELECT count(*) FROM subscription) + (SELECT count(*) FROM endorser))",
[SQL_INODE_COLLECT] = "DELETE FROM inode WHERE ino IN (SELECT ino FROM inode"
	" EXCEPT SELECT ino FROM image EXCEPT SELECT ino FROM object EXCEPT SELECT ino FROM expired"
	" EXCEPT SELECT ino FROM subscription EXCEPT SELECT ino FROM endorser LIMIT ?1)",

/* endorsers */
[SQL_ENDORSER_ADD] = "INSERT INTO endorser (ino, name, dir, allow_sha1, any_purpose, blocks_only)"
	" VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
[SQL_ENDORSER_ID] = "SELECT id FROM endorser WHERE name = ?1",
[SQL_ENDORSER_SWITCHES] = "UPDATE endorser SET allow_sha1 = max(allow_sha1, ?2),"
	" any_purpose = max(any_purpose, ?3) WHERE id = ?1",
[SQL_ENDORSER_DELETE] = "DELETE FROM endorser WHERE id = ?1",
[SQL_ENDORSER_BY_NAME] = ENDORSER "WHERE name = ?1",
[SQL_ENDORSER_EACH] = ENDORSER "ORDER BY id",
[SQL_ENDORSER_DIR_TAKEN] = "SELECT 1 FROM endorser WHERE dir = ?1",
[SQL_CREDENTIAL_ADD] = "INSERT INTO credential VALUES (?1, ?2, ?3)",
[SQL_CREDENTIAL_OWNER] = "SELECT e.name FROM credential c JOIN endorser e ON e.id = c.endorser"
	" WHERE c.subject = ?1 AND c.issuer = ?2",
[SQL_CREDENTIAL_DELETE] = "DELETE FROM credential"
	" WHERE endorser = ?1 AND subject = ?2 AND issuer = ?3",
[SQL_CREDENTIAL_EACH] = "SELECT subject, issuer FROM credential WHERE endorser = ?1 ORDER BY rowid",
[SQL_CREDENTIAL_CANDIDATES] = "SELECT c.endorser, c.subject, c.issuer FROM credential c"
	" WHERE ?1 IS NULL OR EXISTS (SELECT 1 FROM link l WHERE l.endorser = c.endorser"
	" AND l.subscription = ?1) ORDER BY c.rowid",
[SQL_LINK_ADD] = "INSERT INTO link VALUES (?1, ?2) ON CONFLICT DO NOTHING",
[SQL_LINK_DELETE] = "DELETE FROM link WHERE endorser = ?1 AND subscription = ?2",
[SQL_LINK_EXISTS] = "SELECT 1 FROM link WHERE endorser = ?1 AND subscription = ?2",
[SQL_LINK_SUBSCRIPTIONS] = "SELECT subscription FROM link WHERE endorser = ?1 ORDER BY 1",
[SQL_LINK_ENDORSERS] = "SELECT e.name FROM link l JOIN endorser e ON e.id = l.endorser"
	" WHERE l.subscription = ?1 ORDER BY e.id",

/* subscriptions */
[SQL_SUBSCRIPTION_ADD] = "INSERT INTO subscription"
	" (ino, list_id, name, url, username, password, select_new, new_images, trust_anchor,"
	" state)"
	" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'new')",
[SQL_SUBSCRIPTION_DELETE] = "DELETE FROM subscription WHERE id = ?1",
[SQL_SUBSCRIPTION_BY_ID] = SUBSCRIPTION "WHERE s.id = ?1",
[SQL_SUBSCRIPTION_EACH] = SUBSCRIPTION "ORDER BY s.id",
/* A moment to come is one of a clock that was ahead. */
[SQL_SUBSCRIPTION_EACH_DUE] = SUBSCRIPTION
	"ORDER BY CASE WHEN s.tried > ?1 THEN 0 ELSE s.tried END, s.id",
[SQL_SUBSCRIPTION_BY_KEY] = "SELECT id, list_id FROM subscription"
	" WHERE list_id = ?1 OR name = ?1 OR url = ?1 ORDER BY list_id = ?1 DESC, id LIMIT 6",
[SQL_SUBSCRIPTION_BY_PREFIX] = "SELECT id, list_id FROM subscription"
	" WHERE substr(list_id, 1, length(?1)) = ?1 ORDER BY list_id LIMIT 6",
[SQL_SUBSCRIPTION_CLASH] = "SELECT list_id = ?1, list_id FROM subscription"
	" WHERE list_id = ?1 OR name = ?2 OR url = ?3 ORDER BY 1 DESC LIMIT 1",
[SQL_SUBSCRIPTION_TRIED] = "UPDATE subscription SET tried = ?2, code = ?3, error = ?4,"
	" updated = CASE WHEN ?3 = 0 THEN ?2 ELSE updated END,"
	" state = CASE WHEN state IN ('new', 'expired', 'distrusted') THEN state"
	" WHEN ?3 <> 0 THEN 'failed' WHEN stored = 1 THEN 'ok' ELSE state END WHERE id = ?1",
[SQL_SUBSCRIPTION_BEGUN] = "UPDATE subscription SET tried = ?2 WHERE id = ?1",
[SQL_SUBSCRIPTION_RESET_VERSION] = "UPDATE subscription SET reset_version = 1 WHERE id = ?1",
[SQL_SUBSCRIPTION_STATE] = "UPDATE subscription SET state = ?2, code = ?3, error = ?4"
	" WHERE id = ?1",
[SQL_SUBSCRIPTION_APPLY] = "UPDATE subscription SET state = 'ok', code = 0, error = '',"
	" title = ?2, description = ?3, uri = ?4, version = ?5, vo = ?6, created = ?7,"
	" expires = ?8, updated = ?9, tried = ?9, message = ?10, payload = ?11, stored = 1,"
	" signer_subject = ?12, signer_issuer = ?13, reset_version = 0, reapply = 0"
	" WHERE id = ?1",
[SQL_SUBSCRIPTION_ENDORSER] = "UPDATE subscription SET signer_endorser = ?2"
	" WHERE id = ?1 AND signer_endorser IS NOT ?2",
[SQL_SUBSCRIPTION_RESTORE] = "UPDATE subscription SET version = ?2, created = ?3, message = ?4,"
	" stored = 0, reset_version = ?5 WHERE id = ?1",
[SQL_SUBSCRIPTION_UNSTORED] = "UPDATE subscription SET stored = 0, code = ?2, error = ?3,"
	" state = CASE state WHEN 'ok' THEN 'failed' ELSE state END WHERE id = ?1",
[SQL_SUBSCRIPTION_GENERATION] = "UPDATE subscription SET generation = generation + 1 WHERE id = ?1"
	" RETURNING generation",
[SQL_SUBSCRIPTION_SET_EXPIRES] = "UPDATE subscription SET expires = ?2"
	" WHERE id = ?1 AND expires <> ?2",
[SQL_SUBSCRIPTION_OVERDUE] = "SELECT id FROM subscription"
	" WHERE state IN ('ok', 'failed') AND stored = 1 AND expires <= ?1 ORDER BY id",
[SQL_SUBSCRIPTION_AWAITED] = "SELECT count(*) FROM subscription"
	" WHERE message IS NOT NULL AND stored = 0 AND state <> 'distrusted'",
[SQL_SUBSCRIPTION_NEXT_EXPIRY] = "SELECT min(expires) FROM subscription"
	" WHERE state IN ('ok', 'failed') AND stored = 1",
[SQL_MESSAGE_USED] = "SELECT 1 FROM subscription WHERE message = ?1"
	" UNION ALL SELECT 1 FROM attestation WHERE message = ?1"
	" UNION ALL SELECT 1 FROM signer WHERE message = ?1",
[SQL_SUBSCRIPTION_PAYLOAD] = "SELECT payload FROM subscription WHERE id = ?1",
[SQL_SUBSCRIPTION_YIELDING] = "SELECT DISTINCT r.subscription FROM refused r"
	" JOIN subscription s ON s.id = r.subscription"
	" WHERE r.owner = ?1 AND s.state IN ('ok', 'failed') AND s.stored = 1 ORDER BY 1",
[SQL_SUBSCRIPTION_POLICY] = "UPDATE subscription SET reapply = max(reapply, new_images <> ?2),"
	" new_images = ?2, select_new = ?3 WHERE id = ?1",
[SQL_SUBSCRIPTION_ANCHOR] = "UPDATE subscription SET trust_anchor = ?2 WHERE id = ?1",
[SQL_SUBSCRIPTION_CREDENTIALS] = "UPDATE subscription SET username = ?2, password = ?3"
	" WHERE id = ?1",
[SQL_SUBSCRIPTION_REAPPLY] = "UPDATE subscription SET reapply = 1 WHERE id = ?1",
[SQL_SUBSCRIPTION_DESCRIBE] = "UPDATE subscription SET title = ?2, description = ?3, uri = ?4,"
	" vo = ?5 WHERE id = ?1 AND state = 'new'",

/* metadata */
[SQL_META_ADD] = "INSERT INTO meta (" META_NAMES ", seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7,"
	" ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25,"
	" ?26)",
[SQL_META_DELETE] = "DELETE FROM meta WHERE id = ?1"
	" AND NOT EXISTS (SELECT 1 FROM image WHERE meta = ?1)"
	" AND NOT EXISTS (SELECT 1 FROM image WHERE pending = ?1)"
	" AND NOT EXISTS (SELECT 1 FROM expired WHERE meta = ?1)",
[SQL_META_GET] = "SELECT " META("m") " FROM meta m WHERE m.id = ?1",
[SQL_META_VERSION] = "SELECT version FROM meta WHERE id = ?1",
[SQL_META_EACH_SEAL] = "SELECT " META("m") ", m.seal FROM meta m",

/* images */
[SQL_IMAGE_ADD] = "INSERT INTO image (ino, subscription, identifier, name, live, selected,"
	" generation, expires, meta, sha512) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
[SQL_IMAGE_BY_ID] = IMAGE "WHERE i.id = ?1",
[SQL_IMAGE_EACH] = IMAGE "WHERE ?1 IS NULL OR i.subscription = ?1 ORDER BY i.id",
[SQL_IMAGE_EACH_LIVE] = IMAGE "WHERE (?1 IS NULL OR i.subscription = ?1) AND i.live = 1"
	" ORDER BY i.id",
[SQL_IMAGE_STUBS] = "SELECT id, rev, live, selected FROM image ORDER BY id",
[SQL_IMAGE_EXACT] = "SELECT id, identifier FROM image WHERE identifier = ?1",
[SQL_IMAGE_BY_NAME] = "SELECT id, identifier FROM image WHERE name = ?1 AND live = 1",
[SQL_IMAGE_BY_DIGEST] = "SELECT id, identifier FROM image WHERE sha512 = ?1 AND live = 1"
	" ORDER BY identifier LIMIT 6",
[SQL_IMAGE_BY_TITLE] = "SELECT i.id, i.identifier FROM image i JOIN meta m ON m.id = i.meta"
	" WHERE i.live = 1 AND m.title = ?1 ORDER BY i.identifier LIMIT 6",
[SQL_IMAGE_BY_PREFIX] = "SELECT id, identifier FROM image WHERE live = 1"
	" AND substr(identifier, 1, length(?1)) = ?1 ORDER BY identifier LIMIT 6",
[SQL_IMAGE_BRIEF] = BRIEF "WHERE i.identifier = ?1",
[SQL_IMAGE_BRIEF_BY_ID] = BRIEF "WHERE i.id = ?1",
[SQL_IMAGE_NAME_TAKEN] = "SELECT 1 FROM image WHERE name = ?1",
/* That are in force, but for one list. */
[SQL_IMAGE_COUNT] = "SELECT count(*) FROM image WHERE live = 1 AND subscription <> ?1",
/* A row without a live list, of which no more is known than of an image that was never listed. */
[SQL_IMAGE_FORGOTTEN] = "SELECT id FROM (SELECT i.id FROM image i"
	" JOIN subscription s ON s.id = i.subscription"
	" WHERE s.id = ?1 AND i.live = 0 AND i.announced = 0 AND i.pending IS NULL"
	" AND i.generation BETWEEN 1 AND s.generation - 1 AND s.new_images = 'accept'"
	" AND i.selected = (s.select_new = 'all') AND NOT " IS_PINNED("i")
	" ORDER BY i.generation DESC, i.id DESC LIMIT -1 OFFSET ?2) LIMIT ?3",
[SQL_IMAGE_FORGET] = "DELETE FROM image WHERE id = ?1 RETURNING meta",
[SQL_IMAGE_SET_LIVE] = "UPDATE image SET live = ?2 WHERE id = ?1",
[SQL_IMAGE_SET_SELECTED] = "UPDATE image SET selected = ?2 WHERE id = ?1",
[SQL_IMAGE_SET_ANNOUNCED] = "UPDATE image SET announced = ?2 WHERE id = ?1",
[SQL_IMAGE_SET_META] = "UPDATE image SET meta = ?2, sha512 = ?3, expires = ?4, pending = NULL,"
	" pending_sha512 = NULL, live = ?5, generation = ?6 WHERE id = ?1",
[SQL_IMAGE_SET_PENDING] = "UPDATE image SET pending = ?2, pending_sha512 = ?3 WHERE id = ?1",
[SQL_IMAGE_SWAP_PENDING] = "UPDATE image SET meta = pending, sha512 = pending_sha512,"
	" pending = NULL, pending_sha512 = NULL, expires = (SELECT min(m.expires_at, s.expires)"
	" FROM meta m, subscription s WHERE m.id = image.pending AND s.id = image.subscription),"
	" signer_subject = (SELECT s.signer_subject FROM subscription s"
	" WHERE s.id = image.subscription), signer_issuer = (SELECT s.signer_issuer"
	" FROM subscription s WHERE s.id = image.subscription)"
	" WHERE id = ?1 AND pending IS NOT NULL",
[SQL_IMAGE_SET_GENERATION] = "UPDATE image SET generation = ?2 WHERE id = ?1",
[SQL_IMAGE_LABEL] = "SELECT i.identifier, i.name, s.list_id FROM image i"
	" JOIN subscription s ON s.id = i.subscription WHERE i.id = ?1",
[SQL_IMAGE_LEAVING] = "SELECT id FROM image WHERE subscription = ?1"
	" AND (live = 1 OR announced = 1) AND generation <> ?2 ORDER BY id",
[SQL_IMAGE_LIVE_OF] = "SELECT id FROM image WHERE subscription = ?1"
	" AND (live = 1 OR announced = 1) ORDER BY id",
[SQL_IMAGE_ALL_OF] = "SELECT id FROM image WHERE subscription = ?1 ORDER BY id",
[SQL_IMAGE_DELETE] = "DELETE FROM image WHERE id = ?1",
[SQL_IMAGE_PENDING_OF] = "SELECT id FROM image WHERE pending_sha512 = ?1 ORDER BY id",
[SQL_IMAGE_NAMING] = "SELECT id FROM image WHERE sha512 = ?1 AND live = 1 AND selected = 1"
	" ORDER BY id",
[SQL_IMAGE_OVERDUE] = "SELECT id FROM image WHERE live = 1 AND expires <= ?1 ORDER BY id",
[SQL_IMAGE_NEXT_EXPIRY] = "SELECT min(expires) FROM image WHERE live = 1",
[SQL_IMAGE_CHECK_EACH] = "SELECT i.id, i.identifier, i.pending IS NOT NULL,"
	" coalesce(p.seal, m.seal) FROM image i JOIN meta m ON m.id = i.meta"
	" LEFT JOIN meta p ON p.id = i.pending WHERE i.subscription = ?1 AND i.live = 1",
[SQL_IMAGE_HIDE] = "UPDATE image SET live = 0, pending = NULL, pending_sha512 = NULL"
	" WHERE subscription = ?1 AND live = 1",
[SQL_REFUSED_BUT_FOR] = "SELECT identifier FROM refused WHERE subscription = ?1 AND code <> ?2"
	" ORDER BY identifier",
[SQL_IMAGE_SELECTED_OF] = "SELECT identifier FROM image WHERE subscription = ?1 AND selected = 1"
	" UNION SELECT identifier FROM wish WHERE subscription = ?1 AND selected = 1 ORDER BY 1",
/* Where new images are refused, what is accepted is a decision; and so is what is not selected. */
[SQL_IMAGE_DEFINED_OF] = "SELECT i.identifier FROM image i JOIN subscription s"
	" ON s.id = i.subscription WHERE s.id = ?1 AND (s.new_images = 'refuse'"
	" OR (s.select_new = 'all' AND i.selected = 0))"
	" UNION SELECT identifier FROM wish WHERE subscription = ?1 AND selected = 0 ORDER BY 1",
/* As versions before wrote it, which did not know of those that were deselected. */
[SQL_IMAGE_DEFINED_BEFORE] = "SELECT i.identifier FROM image i JOIN subscription s"
	" ON s.id = i.subscription WHERE s.id = ?1 AND s.new_images = 'refuse'"
	" UNION SELECT identifier FROM wish WHERE subscription = ?1 AND selected = 0 ORDER BY 1",
[SQL_IMAGE_ANY_OF] = "SELECT 1 FROM image WHERE subscription = ?1 LIMIT 1",
[SQL_IMAGE_SET_EXPIRES] = "UPDATE image SET expires = ?2 WHERE id = ?1 AND expires <> ?2",
[SQL_WISH_ADD] = "INSERT INTO wish (identifier, subscription, selected) VALUES (?1, ?2, ?3)"
	" ON CONFLICT (identifier) DO UPDATE SET selected = ?3 WHERE subscription = ?2",
[SQL_WISH_DELETE] = "DELETE FROM wish WHERE identifier = ?1 AND subscription = ?2",
[SQL_WISH_GET] = "SELECT selected FROM wish WHERE identifier = ?1 AND subscription = ?2",
[SQL_WISH_EACH] = "SELECT w.subscription, w.identifier, s.list_id, w.selected FROM wish w"
	" JOIN subscription s ON s.id = w.subscription"
	" WHERE NOT EXISTS (SELECT 1 FROM image i WHERE i.identifier = w.identifier) ORDER BY 2",
[SQL_REFUSED_ADD] = "INSERT INTO refused (subscription, identifier, name, code, error, owner)"
	" VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
[SQL_REFUSED_CLEAR] = "DELETE FROM refused WHERE subscription = ?1",
[SQL_REFUSED_EACH] = "SELECT id, subscription, identifier, name, code, error FROM refused"
	" WHERE subscription = ?1 ORDER BY id",
[SQL_REFUSED_NAME_TAKEN] = "SELECT 1 FROM refused WHERE subscription = ?1 AND name = ?2",

/* objects */
[SQL_OBJECT_ADD] = "INSERT INTO object (ino, digest, size, mtime, state)"
	" VALUES (?1, ?2, ?3, ?4, 'missing')",
/* A verified object keeps why it was not read by blocks, until another root is named for it. */
[SQL_OBJECT_RENEW] = "UPDATE object SET size = ?2, tries = 0, next_try = 0,"
	" strict_reason = CASE WHEN state <> 'verified' OR (?3 IS NOT NULL AND ?3 NOT IN ("
	ROOTS("object.digest", "object.size") ")) THEN '' ELSE strict_reason END,"
	STILL_CORRUPT
	" state = CASE WHEN state = 'failed' THEN 'missing' ELSE state END WHERE digest = ?1"
	" AND (size <> ?2 OR tries <> 0 OR next_try <> 0 OR state = 'failed'"
	" OR strict_reason <> '' OR corrupt <> 0)",
[SQL_OBJECT_BRIEF] = "SELECT state = 'verified', size FROM object WHERE digest = ?1",
[SQL_OBJECT_GET] = OBJECT "WHERE o.digest = ?1",
[SQL_OBJECT_LOOK] = LOOK("NULL"),
[SQL_OBJECT_LOOK_ROOT] = LOOK(OBJECT_ROOT),
[SQL_OBJECT_EACH] = OBJECT "ORDER BY o.id",
[SQL_OBJECT_SOURCES] = "SELECT uri, list_id FROM ("
	"SELECT m.uri AS uri, s.list_id AS list_id, i.id AS id FROM image i"
	" JOIN meta m ON m.id = i.meta JOIN subscription s ON s.id = i.subscription"
	" WHERE i.sha512 = ?1 AND i.live = 1"
	" UNION ALL SELECT m.uri, s.list_id, i.id FROM image i"
	" JOIN meta m ON m.id = i.pending JOIN subscription s ON s.id = i.subscription"
	" WHERE i.pending_sha512 = ?1 AND i.live = 1"
	" UNION ALL SELECT m.uri, x.list_id, x.id FROM expired x JOIN meta m ON m.id = x.meta"
	" WHERE " WITHDRAWN("x", "?1") " AND NOT " LIVE_NAMES("?1") ")"
	" GROUP BY uri ORDER BY min(id)",
/* Not one that nobody names any more: its file would be nobody's. */
[SQL_OBJECT_VERIFIED] = "UPDATE object SET state = 'verified', tries = 0, next_try = 0, code = 0,"
	" error = '', etag = '', etag_url = '', fetched = ?2, tree = ?3, degraded = 0, corrupt = 0"
	" WHERE digest = ?1 AND (state = 'verified' OR " LIVE_NAMES("?1")
	" OR " EXPIRED_NAMES("?1", "") ")",
[SQL_OBJECT_FAILED] = "UPDATE object SET state = 'failed', code = ?2, error = ?3,"
	" tries = tries + ?4, next_try = ?5 WHERE digest = ?1 AND state <> 'verified'",
/* What was signed contradicts itself, and will until something else is signed. */
[SQL_OBJECT_CONTRADICTED] = "UPDATE object SET state = 'failed', code = ?2, error = ?3,"
	" tries = max(tries, ?4), next_try = 0, tree = NULL"
	" WHERE digest = ?1 AND state <> 'verified'",
[SQL_OBJECT_RESET_TRIES] = "UPDATE object SET tries = 0, next_try = 0,"
	" state = CASE WHEN state = 'failed' THEN 'missing' ELSE state END WHERE digest = ?1",
[SQL_OBJECT_PARTIAL] = "UPDATE object SET etag_url = ?2, etag = ?3 WHERE digest = ?1",
[SQL_OBJECT_LOST] = "UPDATE object SET state = 'missing', code = ?3, error = ?2, tries = 0,"
	" next_try = 0, fetched = 0, tree = NULL, degraded = 0, strict_reason = '',"
	" corrupt = max(corrupt, state = 'verified') WHERE digest = ?1",
[SQL_OBJECT_EVICTED] = "UPDATE object SET state = 'missing', fetched = 0, tree = NULL,"
	" etag = '', etag_url = '', degraded = 0, strict_reason = '' WHERE digest = ?1",
/* Lists before attestations, each in the order of their images. */
[SQL_OBJECT_SIDECARS] = "SELECT uri, list_id FROM ("
	"SELECT CASE m.verity_uri WHEN '' THEN m.uri || '.fsv' ELSE m.verity_uri END AS uri,"
	" s.list_id AS list_id, 0 AS kind, i.id AS id"
	" FROM image i JOIN meta m ON m.id IN (i.meta, i.pending) AND m.digest = ?1"
	" JOIN subscription s ON s.id = i.subscription"
	" WHERE (i.sha512 = ?1 OR i.pending_sha512 = ?1) AND i.live = 1 AND m.verity = ?2"
	" UNION ALL SELECT CASE x.uri WHEN '' THEN m.uri || '.fsv' ELSE x.uri END,"
	" s.list_id, 1, i.id"
	" FROM image i JOIN meta m ON m.id IN (i.meta, i.pending) AND m.digest = ?1"
	" JOIN subscription s ON s.id = i.subscription"
	" JOIN (SELECT t.uri AS uri FROM " ATTESTED("?1", "?3") " AND t.verity = ?2) x"
	" WHERE (i.sha512 = ?1 OR i.pending_sha512 = ?1) AND i.live = 1"
	" UNION ALL SELECT CASE m.verity_uri WHEN '' THEN m.uri || '.fsv' ELSE m.verity_uri END,"
	" x.list_id, 0, x.id FROM expired x JOIN meta m ON m.id = x.meta"
	" WHERE " WITHDRAWN("x", "?1") " AND m.verity = ?2 AND NOT " LIVE_NAMES("?1")
	" UNION ALL SELECT CASE k.uri WHEN '' THEN m.uri || '.fsv' ELSE k.uri END,"
	" x.list_id, 1, x.id FROM expired x JOIN meta m ON m.id = x.meta"
	" JOIN (SELECT t.uri AS uri FROM " KEPT_ATTESTED("?1", "?3", "?2") " AND t.verity = ?2) k"
	" WHERE " WITHDRAWN("x", "?1") " AND NOT " LIVE_NAMES("?1") ")"
	" GROUP BY uri ORDER BY min(kind), min(id)",
[SQL_OBJECT_ROOTED] = "UPDATE object SET tree = ?2, strict_reason = '',"
	" error = CASE state WHEN 'failed' THEN '' ELSE error END,"
	" code = CASE state WHEN 'failed' THEN 0 ELSE code END, state = 'missing'"
	" WHERE digest = ?1 AND state <> 'verified'",
[SQL_OBJECT_STRICT] = "UPDATE object SET strict_reason = ?2,"
	" tree = CASE state WHEN 'verified' THEN tree END WHERE digest = ?1",
[SQL_OBJECT_ABANDONED] = "UPDATE object SET tree = NULL, etag = '', etag_url = ''"
	" WHERE digest = ?1 AND state <> 'verified'",
[SQL_OBJECT_SET_TREE] = "UPDATE object SET tree = ?2 WHERE digest = ?1 AND state = 'verified'",
[SQL_OBJECT_HARM] = "SELECT state = 'verified', corrupt FROM object WHERE digest = ?1",
[SQL_OBJECT_CORRUPT] = "UPDATE object SET corrupt = 1, degraded = max(degraded, ?3),"
	" error = CASE ?3 WHEN 1 THEN ?2 ELSE error END,"
	" code = CASE ?3 WHEN 1 THEN ?4 ELSE code END WHERE digest = ?1",
[SQL_OBJECT_HEALED] = "UPDATE object SET corrupt = 0, degraded = 0,"
	" error = CASE WHEN degraded = 1 THEN '' ELSE error END,"
	" code = CASE WHEN degraded = 1 THEN 0 ELSE code END WHERE digest = ?1",
[SQL_OBJECT_DISAGREEING] = "SELECT digest, size FROM object o WHERE (SELECT count(*) FROM ("
	ROOTS("o.digest", "o.size") ")) > 1 ORDER BY id",
/* By its row the engine finds what came of a transfer, and clears it away. */
[SQL_OBJECT_COLLECT] = "DELETE FROM object WHERE state <> 'verified' AND etag_url = ''"
	" AND NOT " LIVE_NAMES("object.digest") " AND NOT " EXPIRED_NAMES("object.digest", ""),
[SQL_OBJECT_RIVAL_SIZE] = "SELECT 1 FROM image i"
	" WHERE i.live = 1 AND (i.sha512 = ?1 OR i.pending_sha512 = ?1) AND i.identifier <> ?2"
	" AND (i.subscription <> ?3 OR i.generation = ?4) LIMIT 1",
[SQL_OBJECT_MISSING_ROWS] = "SELECT count(*) FROM ("
	"SELECT sha512 AS d FROM image WHERE live = 1"
	" UNION SELECT pending_sha512 FROM image WHERE live = 1 AND pending_sha512 IS NOT NULL"
	" UNION SELECT sha512 FROM expired WHERE bytes = 'kept')"
	" WHERE NOT EXISTS (SELECT 1 FROM object WHERE digest = d)",
[SQL_OBJECT_IS_LIVE] = "SELECT " LIVE_NAMES("?1"),
[SQL_OBJECT_ADOPTABLE] = "SELECT digest, size FROM object WHERE state <> 'verified' ORDER BY id",

/* Room */
[SQL_OBJECT_USED] = "UPDATE object SET used = ?2 WHERE digest = ?1 AND used < ?2",
[SQL_NEWEST_USE] = "SELECT coalesce(max(max(used, fetched)), 0) FROM object",
[SQL_EVICT_EACH] = "SELECT o.digest, o.state = 'verified',"
	" " WANTED("o.digest") " OR " IN_USE("o.digest") ", "
	LIVE_NAMES("o.digest") ", " PINNED("o.digest") ", max(o.used, o.fetched),"
	" coalesce((SELECT max(expired_at) FROM expired x WHERE x.sha512 = o.digest"
	" AND x.bytes = 'kept'), 0) FROM object o ORDER BY o.id",
[SQL_OBJECT_WITHDRAWN] = "SELECT o.digest FROM object o WHERE o.state = 'verified'"
	" AND NOT " LIVE_NAMES("o.digest"),
[SQL_LEAVING_ADD] = "INSERT INTO leaving VALUES (?1) ON CONFLICT DO NOTHING",
[SQL_LEAVING_DELETE] = "DELETE FROM leaving WHERE digest = ?1",
[SQL_LEAVING_EACH] = "SELECT digest FROM leaving",
[SQL_PIN_ADD] = "INSERT INTO pin (identifier, subscription) VALUES (?1, ?2)"
	" ON CONFLICT DO NOTHING",
[SQL_PIN_DELETE] = "DELETE FROM pin WHERE identifier = ?1 AND subscription = ?2",
[SQL_PIN_OF] = "SELECT identifier FROM pin WHERE subscription = ?1 ORDER BY 1",
[SQL_PIN_COUNT] = "SELECT count(*) FROM pin",

[SQL_OBJECT_SIZE] = "SELECT size FROM object WHERE digest = ?1",
[SQL_OBJECT_RETRY_ATTESTATION] = RETRY "a.id = ?1)",
[SQL_OBJECT_RETRY_ENDORSER] = RETRY "a.endorser = ?1)",

/* attestations */
[SQL_ATTESTATION_EACH] = ATTESTATION "ORDER BY a.id",
[SQL_ATTESTATION_BY_MESSAGE] = ATTESTATION "WHERE a.message = ?1",
[SQL_ATTESTATION_ADD] = "INSERT INTO attestation (message, payload, source, list_id, subject,"
	" issuer, endorser, trust, imported) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'trusted', ?8)",
[SQL_ATTESTATION_TRUST] = "UPDATE attestation SET endorser = ?2, trust = ?3 WHERE id = ?1",
[SQL_ATTESTATION_OF] = "SELECT id, subject, issuer FROM attestation WHERE endorser = ?1",
[SQL_ATTESTATION_DISOWN] = "UPDATE attestation SET endorser = NULL WHERE id = ?1",
[SQL_ATTESTATION_REPLACE] = "DELETE FROM attestation WHERE source = ?2 AND id <> ?1",
[SQL_ATTESTATION_COLLECT] = "DELETE FROM attestation"
	" WHERE NOT EXISTS (SELECT 1 FROM attested t WHERE t.attestation = attestation.id)",
[SQL_ATTESTED_EACH] = "SELECT sha512, size, verity, uri, identifier FROM attested"
	" WHERE attestation = ?1 ORDER BY sha512",
[SQL_ATTESTED_ADD] = "INSERT INTO attested (attestation, sha512, size, verity, uri, identifier)"
	" VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
[SQL_ATTESTED_REPLACE] = "DELETE FROM attested WHERE sha512 = ?1 AND attestation IN"
	" (SELECT id FROM attestation WHERE subject = ?2 AND issuer = ?3)",
[SQL_ATTESTED_COUNT] = "SELECT count(*) FROM attested",

/* expired */
[SQL_EXPIRED_ADD] = "INSERT INTO expired (ino, name, list_id, reason, expired_at, replaced_by,"
	" trust, bytes, meta, sha512, selected, error, signer_subject, signer_issuer)"
	" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,"
	" coalesce((SELECT CASE error WHEN '' THEN strict_reason ELSE error END"
	" FROM object WHERE digest = ?10), ''), (SELECT " SIGNER_COLUMN("signer_subject") "),"
	" (SELECT " SIGNER_COLUMN("signer_issuer") "))",
[SQL_EXPIRED_NAME_TAKEN] = "SELECT 1 FROM expired WHERE name = ?1",
[SQL_EXPIRED_EACH] = EXPIRED "ORDER BY x.id",
[SQL_EXPIRED_STUBS] = "SELECT id, rev FROM expired ORDER BY id",
[SQL_EXPIRED_BY_ID] = EXPIRED "WHERE x.id = ?1",
[SQL_EXPIRED_DISTRUST] = "UPDATE expired SET trust = 'distrusted'"
	" WHERE list_id = ?1 AND bytes = 'kept' AND trust <> 'distrusted'",
[SQL_EXPIRED_TRUST] = "UPDATE expired SET trust = 'withdrawn' WHERE list_id = ?1"
	" AND trust = 'distrusted' AND reason <> 'corrupt' AND EXISTS (SELECT 1 FROM image i"
	" WHERE i.subscription = ?2 AND i.sha512 = expired.sha512 AND i.live = 1)",
[SQL_EXPIRED_PURGE] = "UPDATE expired SET bytes = 'purged' WHERE sha512 = ?1"
	" AND bytes = 'kept'",
[SQL_EXPIRED_PURGE_SIZE] = "UPDATE expired SET bytes = 'purged' WHERE sha512 = ?1"
	" AND bytes = 'kept' AND (SELECT m.bytes FROM meta m WHERE m.id = expired.meta) <> ?2",
/* The file is needed still: by a selected image, or by a version that left later. */
[SQL_EXPIRED_PURGE_SHARED] = "UPDATE expired SET bytes = 'purged' WHERE bytes = 'kept'"
	" AND expired_at <= ?1 AND (" WANTED("expired.sha512") " OR EXISTS (SELECT 1"
	" FROM expired y WHERE y.sha512 = expired.sha512 AND y.bytes = 'kept'"
	" AND y.expired_at > ?1))",
[SQL_EXPIRED_FORGOTTEN] = "SELECT id FROM expired WHERE bytes = 'purged'"
	" ORDER BY id DESC LIMIT -1 OFFSET ?1",
[SQL_EXPIRED_DELETE] = "DELETE FROM expired WHERE id = ?1 RETURNING ino, meta",

/* signers of what has been replaced */
[SQL_SIGNER_OF_IMAGES] = "UPDATE image SET signer_subject = s.signer_subject,"
	" signer_issuer = s.signer_issuer FROM subscription s WHERE s.id = ?1"
	" AND image.subscription = ?1 AND image.live = 1 AND image.pending IS NULL"
	" AND (image.signer_subject IS NOT s.signer_subject"
	" OR image.signer_issuer IS NOT s.signer_issuer)",
[SQL_SIGNER_KEEP] = "INSERT INTO signer SELECT signer_subject, signer_issuer, message"
	" FROM subscription WHERE id = ?1 AND signer_subject IS NOT NULL"
	" AND signer_issuer IS NOT NULL AND message IS NOT NULL"
	" ON CONFLICT (subject, issuer) DO UPDATE SET message = excluded.message",
[SQL_SIGNER_COLLECT] = "DELETE FROM signer WHERE NOT EXISTS (SELECT 1 FROM expired x"
	" WHERE x.bytes = 'kept' AND x.signer_subject = subject AND x.signer_issuer = issuer)"
	" AND NOT EXISTS (SELECT 1 FROM image i WHERE i.live = 1"
	" AND i.signer_subject = subject AND i.signer_issuer = issuer)",
[SQL_SIGNER_VOUCHERS] = "SELECT x.list_id, x.signer_subject, x.signer_issuer,"
	" coalesce(s.id, 0) FROM expired x LEFT JOIN subscription s ON s.list_id = x.list_id"
	" WHERE x.bytes = 'kept' AND x.trust = 'withdrawn' AND x.signer_subject IS NOT NULL"
	" UNION SELECT s.list_id, i.signer_subject, i.signer_issuer, s.id FROM image i"
	" JOIN subscription s ON s.id = i.subscription"
	" WHERE i.live = 1 AND i.pending IS NOT NULL AND i.signer_subject IS NOT NULL",
[SQL_SIGNER_DISTRUST] = "UPDATE expired SET trust = 'distrusted' WHERE signer_subject = ?1"
	" AND signer_issuer = ?2 AND (?3 IS NULL OR list_id = ?3) AND bytes = 'kept'"
	" AND trust <> 'distrusted'",
[SQL_SIGNER_WAITING] = "SELECT i.id FROM image i JOIN subscription s ON s.id = i.subscription"
	" WHERE i.live = 1 AND i.pending IS NOT NULL AND i.signer_subject = ?1"
	" AND i.signer_issuer = ?2 AND (?3 IS NULL OR s.list_id = ?3) ORDER BY i.id",
[SQL_SIGNER_EACH] = "SELECT subject, issuer, message FROM signer WHERE EXISTS"
	" (SELECT 1 FROM expired x WHERE x.bytes = 'kept' AND x.trust = 'withdrawn'"
	" AND x.signer_subject = subject AND x.signer_issuer = issuer)"
	" OR EXISTS (SELECT 1 FROM image i WHERE i.live = 1 AND i.pending IS NOT NULL"
	" AND i.signer_subject = subject AND i.signer_issuer = issuer) ORDER BY 1, 2",

/* events */
[SQL_EVENT_ADD] = "INSERT INTO event"
	" (uuid, session, time, type, identifier, list_id, json, handler)"
	" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
[SQL_EVENT_EACH] = "SELECT * FROM (" EVENT "WHERE v.id > ?1 ORDER BY v.id DESC LIMIT ?2)"
	" ORDER BY 1",
[SQL_EVENT_LAST] = "SELECT max(id) FROM event",
[SQL_EVENT_BY_ID] = EVENT "WHERE v.id = ?1",
/* '~' comes after all that a uuid is made of. */
[SQL_EVENT_BY_UUID] = "SELECT id FROM event WHERE uuid >= ?1 AND uuid < ?1 || '~' LIMIT 2",
[SQL_EVENT_IS_OVER] = "SELECT 1 FROM event v WHERE " IS_OVER " LIMIT 1",
[SQL_EVENT_PRUNE] = "DELETE FROM event AS v WHERE " IS_OVER,

/* deliveries */
[SQL_DELIVERY_ADD] = "INSERT INTO delivery (event, handler, identifier, phase)"
	" SELECT v.id, h.id, v.identifier, " PHASE " FROM event v, handler h"
	" WHERE v.id = ?1 AND " TAKES
	" ON CONFLICT (event, handler) DO UPDATE"
	" SET state = 'waiting', tries = 0, next_try = 0, error = ''",
[SQL_DELIVERY_BACKLOG] = "INSERT INTO delivery (event, handler, identifier, phase)"
	" SELECT v.id, h.id, v.identifier, " PHASE " FROM event v, handler h"
	" WHERE h.id = ?1 AND " TAKES
	" AND " IS_LAST_AVAILABLE " ON CONFLICT DO NOTHING",
[SQL_DELIVERY_WAITING] = "SELECT d.event, d.next_try, d.tries FROM delivery d"
	" WHERE d.handler = ?1 AND d.state = 'waiting' AND NOT EXISTS (SELECT 1 FROM delivery p"
	" WHERE p.handler = d.handler AND p.identifier = d.identifier AND p.identifier <> ''"
	" AND p.event < d.event AND p.state = 'waiting') ORDER BY d.phase, d.event",
[SQL_DELIVERY_TAKEN] = "UPDATE delivery SET state = 'delivered', error = '', next_try = 0"
	" WHERE event = ?1 AND handler = ?2",
/* An event of a run is of no use to anybody later. */
[SQL_DELIVERY_COUNT] = "SELECT count(DISTINCT CASE state WHEN 'waiting' THEN event END),"
	" count(DISTINCT CASE state WHEN 'failed' THEN event END) FROM delivery",
[SQL_DELIVERY_FAILED] = "UPDATE delivery SET tries = tries + 1, error = ?3, next_try = ?4,"
	" state = CASE WHEN identifier = '' OR tries + 1 >= ?5 THEN 'failed' ELSE 'waiting' END"
	" WHERE event = ?1 AND handler = ?2 AND state = 'waiting'",
[SQL_HANDLER_ADD] = "INSERT INTO handler (kind, name, used) VALUES (?1, ?2, ?3)",
[SQL_HANDLER_ID] = "SELECT id FROM handler WHERE kind = ?1 AND name = ?2",
[SQL_HANDLER_USED] = "UPDATE handler SET used = ?2 WHERE id = ?1",
[SQL_HANDLER_DELETE] = "DELETE FROM handler WHERE id = ?1",
[SQL_HANDLER_EACH] = "SELECT id FROM handler WHERE kind = ?1 ORDER BY id",
[SQL_HANDLER_GET] = "SELECT kind, name FROM handler WHERE id = ?1",
[SQL_HANDLER_SHIFT] = "UPDATE handler SET used = min(used + ?1, ?2)",
[SQL_HANDLER_FORGET] = "DELETE FROM handler WHERE used < ?1",
[SQL_HANDLER_IS_UNSEEN] = "SELECT 1 FROM handler WHERE kind = 'daemon' AND used < ?1",
[SQL_HANDLER_SEEN] = "UPDATE handler SET used = ?1 WHERE kind = 'daemon' AND used < ?1",

/* counts */
[SQL_COUNTS] = "SELECT (SELECT count(*) FROM endorser), (SELECT count(*) FROM subscription),"
	" (SELECT coalesce(max(tried), 0) FROM subscription), (SELECT count(*) FROM expired),"
	" count(*), coalesce(sum(i.selected), 0),"
	" coalesce(sum(i.selected AND o.state = 'verified'), 0),"
	" coalesce(sum(i.selected AND o.state = 'failed'), 0),"
	" coalesce(sum(i.selected AND o.state <> 'verified' AND o.tree IS NOT NULL"
	" AND o.tree = " ROOT("o.digest", "o.size") "), 0),"
	" coalesce(sum(i.selected AND o.state = 'verified' AND o.degraded), 0)"
	" FROM image i LEFT JOIN object o ON o.digest = i.sha512 WHERE i.live = 1",

/* consistency */
[SQL_CHECK_STRAY_LIVE] = "SELECT count(*) FROM image i JOIN subscription s"
	" ON s.id = i.subscription"
	" WHERE i.live = 1 AND (s.stored = 0 OR s.state NOT IN ('ok', 'failed'))",
[SQL_CHECK_DIGESTS] = "SELECT (SELECT count(*) FROM image i JOIN meta m ON m.id = i.meta"
	" WHERE m.digest <> i.sha512 OR m.identifier <> i.identifier)"
	" + (SELECT count(*) FROM image i JOIN meta m ON m.id = i.pending"
	" WHERE m.digest <> i.pending_sha512 OR m.identifier <> i.identifier)"
	" + (SELECT count(*) FROM expired x JOIN meta m ON m.id = x.meta"
	" WHERE m.digest <> x.sha512)"
	" + (SELECT count(*) FROM image i JOIN meta m ON m.id = i.meta"
	" JOIN object o ON o.digest = i.sha512 WHERE i.live = 1 AND m.bytes <> o.size)"
	" + (SELECT count(*) FROM expired x JOIN meta m ON m.id = x.meta"
	" JOIN object o ON o.digest = x.sha512 WHERE x.bytes = 'kept' AND m.bytes <> o.size)",
[SQL_CHECK_EXPIRED_NAMES] = "SELECT x.name, x.expired_at, m.identifier FROM expired x"
	" JOIN meta m ON m.id = x.meta",
[SQL_CHECK_EVENTS] = "SELECT count(*) FROM event WHERE json_valid(json) = 0",
};

const char *
catalogue_sql(enum sql_id id)
{
	return statements[id];
}
