/*
 * catalogue_parts.h - what several statements share: column lists, in the order in which the row
 * readers take them, and conditions.  Only catalogue_sql.c includes it.
 */
#ifndef VMI_CATALOGUE_PARTS_H
#define VMI_CATALOGUE_PARTS_H

/* enum field_id's order, then what image_meta holds besides. */
#define META_NAMES \
	"identifier, title, description, version, comments, os, osversion, arch, hypervisor," \
	" format, size, sha512, uri, group_name, vo, created, expires, mpuri," \
	" bytes, digest, created_at, expires_at, json, verity, verity_uri"
#define META(m) \
	m ".identifier, " m ".title, " m ".description, " m ".version, " m ".comments, " m ".os, " \
	m ".osversion, " m ".arch, " m ".hypervisor, " m ".format, " m ".size, " m ".sha512, " \
	m ".uri, " m ".group_name, " m ".vo, " m ".created, " m ".expires, " m ".mpuri, " \
	m ".bytes, " m ".digest, " m ".created_at, " m ".expires_at, " m ".json, " m ".verity, " \
	m ".verity_uri"

#define ENDORSER \
	"SELECT id, rev, ino, name, dir, allow_sha1, any_purpose, blocks_only FROM endorser "

#define SUBSCRIPTION \
	"SELECT s.id, s.rev, s.ino, s.list_id, s.name, s.url, s.username, s.password," \
	" s.select_new, s.state, s.code, s.error, s.title, s.description, s.uri, s.version, s.vo," \
	" s.created, s.expires, s.updated, s.tried, s.message, s.stored, s.signer_subject," \
	" s.signer_issuer, coalesce(e.name, ''), s.reset_version, s.new_images, s.trust_anchor," \
	" s.reapply" \
	" FROM subscription s LEFT JOIN endorser e ON e.id = s.signer_endorser "

/* An admin wants its stored version to stay. */
#define IS_PINNED(i) \
	"EXISTS (SELECT 1 FROM pin n WHERE n.identifier = " i ".identifier" \
	" AND n.subscription = " i ".subscription)"
#define PINNED(digest) \
	"(EXISTS (SELECT 1 FROM image i WHERE i.sha512 = " digest " AND " IS_PINNED("i") ")" \
	" OR EXISTS (SELECT 1 FROM image i WHERE i.pending_sha512 = " digest \
	" AND " IS_PINNED("i") "))"

#define IMAGE \
	"SELECT i.id, i.rev, i.ino, i.subscription, s.list_id, i.name, i.live, i.selected, " \
	META("m") ", i.pending IS NOT NULL, " META("p") ", " IS_PINNED("i") \
	" FROM image i JOIN subscription s ON s.id = i.subscription JOIN meta m ON m.id = i.meta" \
	" LEFT JOIN meta p ON p.id = i.pending "

/* Its blocks can be read although not all of them are here. */
#define PARTIAL(o) "coalesce(" o ".state <> 'verified' AND " o ".tree IS NOT NULL, 0)"

/* A transfer of it began, by blocks or as a stream: something of it may be here. */
#define BEGUN(o) \
	"coalesce(" o ".state <> 'verified'" \
	" AND (" o ".tree IS NOT NULL OR " o ".etag_url <> ''), 0)"

#define BRIEF \
	"SELECT i.id, i.subscription, i.meta, coalesce(i.pending, 0), i.live, i.selected," \
	" i.announced, coalesce(o.state = 'verified', 0), i.sha512, i.pending_sha512, m.seal," \
	" p.seal, i.expires, " BEGUN("o") ", " PARTIAL("n") \
	" FROM image i JOIN meta m ON m.id = i.meta LEFT JOIN meta p ON p.id = i.pending" \
	" LEFT JOIN object o ON o.digest = i.sha512" \
	" LEFT JOIN object n ON n.digest = i.pending_sha512 "

/* What live images name, and what withdrawn ones still name. */
#define LIVE_NAMES(digest) \
	"(EXISTS (SELECT 1 FROM image WHERE sha512 = " digest " AND live = 1)" \
	" OR EXISTS (SELECT 1 FROM image WHERE pending_sha512 = " digest " AND live = 1))"
#define EXPIRED_NAMES(digest, also) \
	"EXISTS (SELECT 1 FROM expired WHERE sha512 = " digest " AND bytes = 'kept'" also ")"
/* Versions that were withdrawn, and may still be read where they are open. */
#define WITHDRAWN(x, digest) \
	x ".sha512 = " digest " AND " x ".bytes = 'kept' AND " x ".trust = 'withdrawn'"

/* Attested rows that count now: trusted, by a blocks-only endorser or one linked to the image. */
#define NAMED_BY_LINKED(column, digest) \
	"EXISTS (SELECT 1 FROM image i JOIN link l ON l.subscription = i.subscription" \
	" WHERE i." column " = " digest " AND i.live = 1 AND l.endorser = e.id)"
#define ATTESTED_BY(digest, size, linked) \
	"attested t JOIN attestation a ON a.id = t.attestation" \
	" JOIN endorser e ON e.id = a.endorser" \
	" WHERE t.sha512 = " digest " AND t.size = " size " AND a.trust = 'trusted'" \
	" AND (e.blocks_only = 1 OR " linked ")"
#define ATTESTED(digest, size) \
	ATTESTED_BY(digest, size, NAMED_BY_LINKED("sha512", digest) \
		    " OR " NAMED_BY_LINKED("pending_sha512", digest))

/* Every fs-verity digest that is named for an object, and its root if there is only one. */
#define ROOTS(digest, size) \
	"SELECT m.verity AS v FROM image i JOIN meta m ON m.id = i.meta" \
	" WHERE i.sha512 = " digest " AND i.live = 1 AND m.verity IS NOT NULL" \
	" UNION SELECT m.verity FROM image i JOIN meta m ON m.id = i.pending" \
	" WHERE i.pending_sha512 = " digest " AND i.live = 1 AND m.verity IS NOT NULL" \
	" UNION SELECT t.verity FROM " ATTESTED(digest, size)
#define ONLY_ONE(roots) "(SELECT CASE count(*) WHEN 1 THEN max(v) END FROM (" roots "))"
#define ROOT(digest, size) ONLY_ONE(ROOTS(digest, size))

/*
 * The same for an object that only withdrawn images name, while it is here in part.  Who was linked
 * to a list that is no longer subscribed to is not known any more; then the tree must be the one
 * that was proved while they were.
 */
#define KEPT_ATTESTED(digest, size, tree) \
	ATTESTED_BY(digest, size, \
		    "EXISTS (SELECT 1 FROM expired y LEFT JOIN subscription s" \
		    " ON s.list_id = y.list_id WHERE " WITHDRAWN("y", digest) \
		    " AND (s.id IS NULL AND t.verity = " tree " OR EXISTS (SELECT 1 FROM link l" \
		    " WHERE l.subscription = s.id AND l.endorser = e.id)))")
#define KEPT_ROOTS(digest, size, tree) \
	"SELECT m.verity AS v FROM expired x JOIN meta m ON m.id = x.meta" \
	" WHERE " WITHDRAWN("x", digest) " AND m.verity IS NOT NULL" \
	" UNION SELECT t.verity FROM " KEPT_ATTESTED(digest, size, tree)
#define OBJECT_ROOT \
	"CASE WHEN " PARTIAL("o") " AND NOT " LIVE_NAMES("o.digest") \
	" THEN " ONLY_ONE(KEPT_ROOTS("o.digest", "o.size", "o.tree")) \
	" ELSE " ROOT("o.digest", "o.size") " END"

/* Of what nobody names any more the record of its last leaving tells. */
#define ACCESS(digest) \
	"CASE WHEN " LIVE_NAMES(digest) " THEN 0" \
	" WHEN " EXPIRED_NAMES(digest, " AND trust = 'withdrawn'") " THEN 1" \
	" WHEN " EXPIRED_NAMES(digest, "") " THEN 2" \
	" WHEN (SELECT trust FROM expired WHERE sha512 = " digest \
	" ORDER BY id DESC LIMIT 1) = 'distrusted' THEN 2 ELSE 1 END"

/* A list that is in force has signed one itself. */
#define LISTED(digest) \
	"(EXISTS (SELECT 1 FROM image i JOIN meta m ON m.id = i.meta" \
	" WHERE i.sha512 = " digest " AND i.live = 1 AND m.verity IS NOT NULL)" \
	" OR EXISTS (SELECT 1 FROM image i JOIN meta m ON m.id = i.pending" \
	" WHERE i.pending_sha512 = " digest " AND i.live = 1 AND m.verity IS NOT NULL))"

#define WANTED(digest) \
	"(EXISTS (SELECT 1 FROM image WHERE sha512 = " digest " AND live = 1 AND selected = 1)" \
	" OR EXISTS (SELECT 1 FROM image WHERE pending_sha512 = " digest " AND live = 1" \
	" AND selected = 1))"

/*
 * What a selected image was available with; one is not live while its stored list cannot be
 * believed, and has not expired.
 */
#define IN_USE(digest) \
	"EXISTS (SELECT 1 FROM image WHERE sha512 = " digest " AND announced = 1 AND selected = 1)"

#define OBJECT \
	"SELECT o.id, o.rev, o.ino, o.digest, o.size, o.mtime, o.state, o.tries, o.next_try," \
	" o.code, o.error, o.etag, o.etag_url, o.fetched," \
	" " WANTED("o.digest") "," \
	" EXISTS (SELECT 1 FROM image WHERE pending_sha512 = o.digest AND live = 1" \
	" AND selected = 1)," \
	" " ACCESS("o.digest") "," \
	" o.tree, " OBJECT_ROOT ", " LISTED("o.digest") ", o.degraded, o.corrupt," \
	" o.strict_reason," \
	" " PINNED("o.digest") ", o.used FROM object o "

/* What is said of an object beside an image. */
#define LOOK(root) \
	"SELECT o.state, o.degraded, o.used," \
	" CASE o.error WHEN '' THEN o.strict_reason ELSE o.error END, " root \
	" FROM object o WHERE o.digest = ?1"

#define ATTESTATION \
	"SELECT a.id, a.message, a.payload, a.source, a.list_id, a.subject, a.issuer," \
	" coalesce(e.name, ''), a.trust, a.imported," \
	" (SELECT count(*) FROM attested t WHERE t.attestation = a.id)" \
	" FROM attestation a LEFT JOIN endorser e ON e.id = a.endorser "

/*
 * Whoever was told that it is available, and then that it is bad, is to be told when it is healed.
 */
#define STILL_CORRUPT \
	"corrupt = CASE WHEN state = 'verified' OR EXISTS (SELECT 1 FROM image i" \
	" WHERE i.sha512 = object.digest AND i.announced = 1) THEN corrupt ELSE 0 END,"
/* What is not stored may be tried anew. */
#define RETRY \
	"UPDATE object SET tries = 0, next_try = 0, strict_reason = ''," STILL_CORRUPT \
	" state = CASE state WHEN 'failed' THEN 'missing' ELSE state END" \
	" WHERE state <> 'verified' AND digest IN (SELECT t.sha512 FROM attested t" \
	" JOIN attestation a ON a.id = t.attestation WHERE "

/* Who signed the list that named it: an image's pending version is in the list of now. */
#define SIGNER_COLUMN(column) \
	"CASE ?13 WHEN 1 THEN s." column " ELSE i." column " END FROM image i" \
	" JOIN subscription s ON s.id = i.subscription WHERE i.id = ?12"

#define EXPIRED \
	"SELECT x.id, x.rev, x.ino, x.name, x.list_id, x.reason, x.expired_at, x.replaced_by," \
	" x.trust, x.bytes = 'purged', x.selected, x.error, " META("m") \
	" FROM expired x JOIN meta m ON m.id = x.meta "

/* The worst of its deliveries speaks for an event. */
#define DELIVERIES "FROM delivery d WHERE d.event = v.id"
#define EVENT \
	"SELECT v.id, v.uuid, v.session, v.time, v.type, v.identifier, v.list_id, v.json," \
	" coalesce((SELECT max(CASE d.state WHEN 'failed' THEN 3 WHEN 'waiting' THEN 2 ELSE 1" \
	" END) " DELIVERIES "), 0), coalesce((SELECT max(d.tries) " DELIVERIES "), 0)," \
	" coalesce((SELECT d.error " DELIVERIES " AND d.error <> ''" \
	" ORDER BY d.tries DESC LIMIT 1), '')" \
	" FROM event v "

/* The last of its kind that was sent for an image that is available. */
#define IS_LAST_AVAILABLE \
	"(v.type IN ('AvailablePrefix', 'AvailablePostfix')" \
	" AND EXISTS (SELECT 1 FROM image i" \
	" WHERE i.identifier = v.identifier AND i.announced = 1)" \
	" AND NOT EXISTS (SELECT 1 FROM event n WHERE n.identifier = v.identifier" \
	" AND n.type = v.type AND n.id > v.id))"
/* Neither recent (?1 are), nor waited for, nor what a new handler would be told. */
#define IS_OVER \
	"v.id <= (SELECT id FROM event ORDER BY id DESC LIMIT 1 OFFSET ?1)" \
	" AND NOT EXISTS (SELECT 1 " DELIVERIES " AND d.state = 'waiting')" \
	" AND NOT " IS_LAST_AVAILABLE

/* Which events concern a handler: see catalogue.h. */
#define TAKES \
	"CASE WHEN v.handler IS NOT NULL THEN h.id = v.handler WHEN h.kind = 'daemon' THEN 1" \
	" WHEN h.kind = 'subscribe' THEN v.type = 'SubscriptionImageNew'" \
	" ELSE v.type NOT IN ('SubscriptionImageNew', 'ProcessPrefix', 'ProcessPostfix') END"
/* A command's own run is told of first and last, whatever was waiting when it began. */
#define PHASE \
	"CASE WHEN v.handler IS NULL THEN 1 WHEN v.type = 'ProcessPrefix' THEN 0" \
	" WHEN v.type = 'ProcessPostfix' THEN 2 ELSE 1 END"

#endif
