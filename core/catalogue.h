/*
 * catalogue.h - the one truth: what is trusted, subscribed, selected, listed, stored, expired.
 * What happened, and who is told, is in outbox.h.
 *
 * state_dir/catalogue.db (SQLite, WAL, synchronous=FULL, mode 0600).  Commands and the daemon
 * write it directly, each in transactions of its own; a second writer waits (30 s, then CODE_BUSY).
 * An admin's decisions are mirrored in state_dir/site.json, the signed messages lie verbatim in
 * state_dir/messages/<sha512 of the message>.smime with their payload beside them (.json):
 * together they rebuild a lost catalogue.
 *
 * All SQL text is in catalogue_schema.c (tables) and catalogue_sql.c (statements).  One struct
 * catalogue is used by one thread.  A function that changes rows works in the caller's transaction,
 * or in one of its own if there is none.  Row structs own their strings; release them with their
 * x_release().
 * Row ids (int64 > 0) are never reused; rev grows whenever anything that the tree shows of the
 * row changes (triggers), so that a row is reloaded exactly when its rev differs.
 */
#ifndef VMI_CATALOGUE_H
#define VMI_CATALOGUE_H

#include <stdbool.h>
#include <stdint.h>
#include "conf.h"
#include "digest.h"
#include "err.h"
#include "field.h"

struct catalogue;

enum {
	CATALOGUE_CREATE = 1,	/* make a new one (and site.json) where there was never one */
	CATALOGUE_CHECK = 2,	/* compare rows, site.json and messages; rebuild if damaged */
	CATALOGUE_HURRY = 4,	/* readers wait: wait less for others, and do without the check */
};

/*
 * What a rebuild needs of others.  Any of the functions may be NULL.  verify: as refresh_verify();
 * without it no stored message is trusted: every subscription comes back as new, to be refreshed.
 * object_good: whether the store holds this object and its bytes hash to the digest (slow); good
 * ones are taken over as verified.  say: one line for the log, such as that a rebuild was needed.
 */
struct verdict;
struct catalogue_hooks {
	int (*verify)(void *arg, const void *message, size_t len, struct verdict *out,
		      struct err *err);
	void (*say)(void *arg, const char *text);
	bool (*object_good)(void *arg, const struct digest *d, int64_t size);
	void *arg;
};

/*
 * Opens the catalogue.  Without CATALOGUE_CREATE a missing one is -ENOENT.  A catalogue that is
 * missing while site.json, messages or the cache's marker exist is rebuilt from site.json and the
 * messages (CATALOGUE_CHECK or CREATE), or, without site.json, refused with CODE_CORRUPT and the
 * way to restore it.  With CATALOGUE_CHECK a damaged one is kept beside as
 * catalogue.db.damaged-<time> and rebuilt, without it is CODE_CORRUPT.  A newer schema is refused
 * (CODE_BUSY), unchanged.
 * Another process that writes is waited for; whoever does so for longer than half a minute hangs
 * (CODE_BUSY).  With CATALOGUE_HURRY it is seconds, and instead of failing the check is left out:
 * it was made by the first worker of the daemon.
 * While it is open, state_dir is locked (flock, shared); a rebuild needs it alone (CODE_BUSY).
 * Borrows conf until catalogue_close(), hooks (may be NULL) for the call.
 */
int catalogue_open(struct catalogue **out, const struct conf *conf, unsigned flags,
		   const struct catalogue_hooks *hooks, struct err *err);
void catalogue_close(struct catalogue *c);

/* tell gets a sentence when another process keeps us waiting for long; without it the log does. */
void catalogue_on_wait(struct catalogue *c, void (*tell)(void *arg, const char *text), void *arg);

const char *catalogue_store_id(struct catalogue *c);	/* for the marker in cache_dir; borrowed */

/*
 * A transaction (BEGIN IMMEDIATE).  catalogue_commit() also writes site.json (fsync, rename) when
 * an admin's decision changed in it; both are durable when it returns 0.  Do not nest.
 */
int catalogue_begin(struct catalogue *c, struct err *err);
int catalogue_commit(struct catalogue *c, struct err *err);
void catalogue_rollback(struct catalogue *c);

/* A number that changes when another connection has committed. */
int64_t catalogue_data_version(struct catalogue *c);
/*
 * A number that grows whenever anything that the tree shows of any row has changed, whoever changed
 * it; 0: it cannot be read.
 */
int64_t catalogue_revision(struct catalogue *c);

/* ---- endorsers and their credentials --------------------------------------------------------- */

struct endorser_row {
	int64_t id, rev;
	uint64_t ino;
	char *name;			/* as registered: any text without control characters */
	char *dir;			/* safe name of it, unique: its directory in the mount */
	bool allow_sha1, any_purpose, blocks_only;
	struct credential { char *subject, *issuer; } *credentials;
	size_t n_credentials;
};
void endorser_row_release(struct endorser_row *r);

/*
 * Adds an endorser, or a further credential to an existing one, whose switches only widen.
 * -EEXIST: this credential is registered (err names the owner).
 */
int catalogue_endorser_add(struct catalogue *c, const char *name, const char *subject,
			   const char *issuer, bool allow_sha1, bool any_purpose, struct err *err);
/*
 * The same for an endorser that may attest block digests of any image and nothing else: it cannot
 * be linked, and no list is accepted from it.  -EEXIST also when the name is that of an endorser of
 * the other kind.
 */
int catalogue_endorser_add_blocks_only(struct catalogue *c, const char *name, const char *subject,
				       const char *issuer, bool allow_sha1, bool any_purpose,
				       struct err *err);
int catalogue_endorser_get(struct catalogue *c, const char *name, struct endorser_row *out,
			   struct err *err); /* -ENOENT */
int catalogue_endorser_each(struct catalogue *c, int (*fn)(void *arg, const struct endorser_row *r),
			    void *arg, struct err *err);

/*
 * Removal and unlinking withdraw at once, in the caller's transaction, what only this endorser
 * vouched for: reason endorser-removed or endorser-unlinked, distrusted.  subject NULL removes the
 * endorser whole; otherwise that credential (subject and issuer).
 */
int catalogue_endorser_remove(struct catalogue *c, const char *name, const char *subject,
			      const char *issuer, struct err *err);
int catalogue_link(struct catalogue *c, const char *endorser, int64_t subscription,
		   struct err *err);
int catalogue_unlink(struct catalogue *c, const char *endorser, int64_t subscription,
		     struct err *err); /* -ENOENT if not linked */
/* subscription 0: to any.  What is decided by it must not take a failed read for no link. */
int catalogue_link_read(struct catalogue *c, int64_t endorser, int64_t subscription, bool *linked,
			struct err *err);
bool catalogue_is_linked(struct catalogue *c, int64_t endorser, int64_t subscription); /* to show */

/* ---- subscriptions --------------------------------------------------------------------------- */

enum subscription_state {
	SUB_NEW,		/* no list accepted yet */
	SUB_OK,
	SUB_FAILED,		/* the last refresh failed; the list we have stands */
	SUB_EXPIRED,		/* the list is past its date */
	SUB_DISTRUSTED,		/* its signer is no longer trusted */
};
/* new ok failed expired distrusted */
const char *subscription_state_name(enum subscription_state s);

/* vmcatcher's --uri-trustanchor-set: kept and shown; the server's certificate is always checked. */
enum trust_anchor { ANCHOR_NONE, ANCHOR_BROWSER, ANCHOR_IGTF };

struct subscription_row {
	int64_t id, rev;
	uint64_t ino;
	char *list_id;			/* dc:identifier */
	char *name;			/* safe name of list_id */
	char *url;			/* polled; without userinfo */
	char *username, *password;	/* NULL if none; shown nowhere */
	int select_new;			/* enum conf_select */
	bool refuse_new;		/* what is not known yet is refused (32) */
	enum trust_anchor trust_anchor;
	enum subscription_state state;
	enum code code;			/* of the last refusal */
	char *error;			/* "" if none */
	char *title, *description, *uri, *version, *vo;
	int64_t created, expires;	/* of the list; expires capped by max_valid_time */
	int64_t updated;		/* last refresh that succeeded */
	int64_t tried;			/* last refresh */
	struct digest message;		/* of the stored message */
	bool has_message;
	char *signer_subject, *signer_issuer;
	char *endorser;     /* name of the endorser that signed the list we have, "" if none now */
	bool reset_version; /* the next list may have any version (update --reset-version) */
	bool reapply;	    /* the next refresh applies the list, be it the same bytes */
};
void subscription_row_release(struct subscription_row *r);

/*
 * r: list_id, url, username, password, select_new, refuse_new, trust_anchor; returns r->id, r->ino
 * and r->name (the caller frees them with the row).  -EEXIST for a known list_id or url.
 */
int catalogue_subscription_add(struct catalogue *c, struct subscription_row *r, struct err *err);
/* By list id, unique prefix of it (4 or more), safe name, or URL.  -ENOENT, -ENOTUNIQ. */
int catalogue_subscription_find(struct catalogue *c, const char *what, struct subscription_row *out,
				struct err *err);
int catalogue_subscription_by_id(struct catalogue *c, int64_t id, struct subscription_row *out,
				 struct err *err);
int catalogue_subscription_each(struct catalogue *c,
				int (*fn)(void *arg, const struct subscription_row *r), void *arg,
				struct err *err);
/* Those that were tried longest ago first: there may be no time for all. */
int catalogue_subscription_each_due(struct catalogue *c, int64_t now,
	int (*fn)(void *arg, const struct subscription_row *r), void *arg, struct err *err);
/* Its images are withdrawn: reason unsubscribed. */
int catalogue_subscription_remove(struct catalogue *c, int64_t id, int64_t now, struct err *err);
/*
 * Records a refresh that begins; one that failed (state FAILED unless EXPIRED, DISTRUSTED or NEW),
 * or found nothing new (code NONE).
 */
int catalogue_subscription_begun(struct catalogue *c, int64_t id, int64_t now, struct err *err);
int catalogue_subscription_tried(struct catalogue *c, int64_t id, int64_t now, enum code code,
				 const char *error, struct err *err);
int catalogue_subscription_reset_version(struct catalogue *c, int64_t id, struct err *err);

/*
 * What vmcatcher_subscribe can change of a subscription.  Changing the policy of new images makes
 * the next refresh apply the list again, be it the same bytes.
 */
int catalogue_subscription_set_policy(struct catalogue *c, int64_t id, bool refuse_new,
				      int select_new, struct err *err);
int catalogue_subscription_set_anchor(struct catalogue *c, int64_t id, enum trust_anchor anchor,
				      struct err *err);
/* NULL clears one of them. */
int catalogue_subscription_set_credentials(struct catalogue *c, int64_t id, const char *username,
					   const char *password, struct err *err);

/*
 * Images that a subscription is to accept although refuse_new: define makes them known, neither
 * live nor selected, with what the list says of them (only, if not NULL: this identifier alone;
 * -ENOENT if the list lacks it).  vmcatcher subscribes so: nothing is available before the first
 * update.  What is known already, or belongs to another subscription, stays as it is; so does an
 * entry that the list itself refuses.  list NULL: only is accepted, unselected, when a list names
 * it.  undefine forgets one (-ENOENT: it is not known here): it leaves (deselected), and is new to
 * the next list.  Both make the next refresh apply the list again, be it the same bytes.
 */
struct imagelist;
int catalogue_image_define(struct catalogue *c, int64_t subscription, const struct imagelist *list,
			   const char *only, struct err *err);
int catalogue_image_undefine(struct catalogue *c, int64_t subscription, const char *identifier,
			     int64_t now, struct err *err);
/*
 * What was decided of an image before any list could be read: it is accepted although refuse_new,
 * and selected or not whatever select_new says, when a list names it.  Replaces an earlier wish;
 * does nothing for an identifier that has a row.
 */
int catalogue_image_wish(struct catalogue *c, int64_t subscription, const char *identifier,
			 bool selected, struct err *err);
/* The wishes that no row has taken the place of, by identifier. */
struct wish_row {
	int64_t subscription;
	char *identifier, *list_id;
	bool selected;
};
int catalogue_wish_each(struct catalogue *c, int (*fn)(void *arg, const struct wish_row *r),
			void *arg, struct err *err);

/* ---- images ---------------------------------------------------------------------------------- */

struct image_row {
	int64_t id, rev;
	uint64_t ino;
	int64_t subscription;
	char *list_id;			/* of the subscription */
	char *name;			/* safe name of the identifier */
	bool live;			/* endorsed by the current list of a live subscription */
	bool selected;
	bool pinned;			/* its stored version stays */
	struct image_meta meta;    /* what images/<id>/ shows */
	bool has_pending;          /* a new version is to be fetched before it replaces this one */
	struct image_meta pending; /* empty unless has_pending */
};
void image_row_release(struct image_row *r);

/*
 * By identifier, safe name, SHA-512, title, or unique prefix of the identifier (4 or more), in this
 * order.  -ENOENT, -ENOTUNIQ (err lists up to 5).  Images that are not live are found only by their
 * whole identifier.
 */
int catalogue_image_find(struct catalogue *c, const char *what, struct image_row *out,
			 struct err *err);
int catalogue_image_by_id(struct catalogue *c, int64_t id, struct image_row *out, struct err *err);
int catalogue_image_each(struct catalogue *c, int64_t subscription /* 0: all */, bool live_only,
			 int (*fn)(void *arg, const struct image_row *r), void *arg,
			 struct err *err);
/* Ids, revs and flags alone, in order of id: cheap, for rebuilding the tree. */
struct image_stub {
	int64_t id, rev;
	bool live, selected;
};
int catalogue_image_stubs(struct catalogue *c, int (*fn)(void *arg, const struct image_stub *s),
			  void *arg, struct err *err);
int catalogue_image_select(struct catalogue *c, int64_t id, bool selected, int64_t now,
			   struct err *err); /* deselecting withdraws: reason deselected */

struct refused_row {
	int64_t id;
	int64_t subscription;
	char *identifier;		/* "" if none */
	char *name;			/* safe, unique within the subscription */
	enum code code;
	char *error;
};
int catalogue_refused_each(struct catalogue *c, int64_t subscription,
			   int (*fn)(void *arg, const struct refused_row *r), void *arg,
			   struct err *err);

/* ---- objects --------------------------------------------------------------------------------- */

enum object_state { OBJECT_MISSING, OBJECT_VERIFIED, OBJECT_FAILED };

/* What may be done with an object's bytes, from all rows that name it. */
enum object_access {
	ACCESS_OK,		/* a live image names it */
	ACCESS_EXPIRED,		/* only withdrawn images name it */
	ACCESS_DISTRUSTED,	/* no live image names it, and every withdrawn one is distrusted */
};

struct object_row {
	int64_t id, rev;
	uint64_t ino;
	struct digest digest;
	int64_t size;  /* bytes, signed */
	int64_t mtime; /* dc:date:created of the first list accepted with this digest */
	enum object_state state;
	int tries;			/* failed, of the list versions that name it now */
	int64_t next_try;		/* seconds UTC; 0: now */
	enum code code;
	char *error;           /* of the last failure, "" if none */
	char *etag, *etag_url; /* validator of the partial's bytes, and whose; "" if none */
	int64_t fetched;       /* seconds UTC when it was verified; 0 never */
	bool wanted;           /* a live selected image (current or pending) names it */
	bool pending;          /* a pending version names it */
	enum object_access access;
	/*
	 * Verified: the fs-verity digest of the tree kept beside it, if it is known.  Otherwise: of
	 * the signed tree whose prefix was fetched and verified, so that the image can be read
	 * block by block; never another one than root.
	 */
	bool has_tree;
	struct digest tree;
	/*
	 * A trusted list or attestation names one fs-verity digest (and no other); of what is here
	 * in part and only withdrawn images name: theirs.
	 */
	bool has_root;
	struct digest root;
	/*
	 * A list names it.  Bytes that come must have it in any case (code 40); but bytes that are
	 * here, with the right SHA-512, are not taken away because of an attestation alone.
	 */
	bool root_listed;
	bool degraded;		/* verified, but blocks are bad that could not be healed */
	bool corrupt;		/* bad bytes were told of (CorruptFound), nothing better since */
	char *strict_reason;	/* why it is fetched as a stream although it has a root, "" */
	bool pinned;		/* a pinned image names it */
	int64_t used;		/* seconds UTC of the last use that was noted; 0: none */
};
void object_row_release(struct object_row *r);

/* What the image's file `error` says: the last failure, else why blocks cannot be read alone. */
static inline const char *
object_row_error(const struct object_row *r)
{
	const char *error = r->error != NULL && r->error[0] != '\0' ? r->error : r->strict_reason;

	return error != NULL ? error : "";
}

/*
 * As much of an object as is said beside an image in a list of all of them, for a fraction of the
 * time that its row takes.
 */
struct object_look {
	bool known;		/* there is such an object; else all of this is zero */
	enum object_state state;
	bool degraded;
	char *error;		/* as object_row_error() */
	int64_t used;
	bool has_root;
	struct digest root;
};
void object_look_release(struct object_look *l);

int catalogue_object_get(struct catalogue *c, const struct digest *d, struct object_row *out,
			 struct err *err);
/* An object that is not known is no error.  rooted: the root, too, which takes longest. */
int catalogue_object_look(struct catalogue *c, const struct digest *d, bool rooted,
			  struct object_look *out, struct err *err);
int catalogue_object_each(struct catalogue *c, int (*fn)(void *arg, const struct object_row *r),
			  void *arg, struct err *err);

/*
 * Where the bytes can come from, best first: the distinct URIs of live images naming the object
 * (with the list id, for tls_ca); if there are none, those of withdrawn ones.
 */
int catalogue_object_sources(struct catalogue *c, const struct digest *d,
			     int (*fn)(void *arg, const char *uri, const char *list_id), void *arg,
			     struct err *err);

/*
 * The object is in the store and verified, with this tree (NULL: not known yet): state VERIFIED,
 * tries 0, no longer corrupt or degraded; every pending version with this digest becomes current
 * (the old one expires: replaced), events.  strict_reason stays.  One call, in a transaction of the
 * caller.
 */
int catalogue_object_verified(struct catalogue *c, const struct digest *d,
			      const struct digest *tree, int64_t now, struct err *err);
/*
 * A try failed.  counts: adds to tries; next_try is when to try again.  With CODE_BLOCK_DIGEST what
 * is signed contradicts itself: no further tries (tries is LIMIT_TRIES) until a list is applied or
 * an attestation names the object, and no tree.
 */
int catalogue_object_failed(struct catalogue *c, const struct digest *d, enum code code,
			    const char *error, bool counts, int64_t next_try, struct err *err);
int catalogue_object_reset_tries(struct catalogue *c, const struct digest *d, struct err *err);
int catalogue_object_note_partial(struct catalogue *c, const struct digest *d, const char *url,
				  const char *etag, struct err *err);
/*
 * Where the tree can come from, best first: the sidecars (hv:fsverity:uri, by default the image's
 * URI and ".fsv") that trusted lists and attestations name together with the row's root; list_id as
 * of catalogue_object_sources().
 */
int catalogue_object_sidecars(struct catalogue *c, const struct digest *d,
			      int (*fn)(void *arg, const char *uri, const char *list_id), void *arg,
			      struct err *err);
/*
 * The objects for which trusted lists and attestations name several fs-verity digests, so that they
 * have no root and are fetched as streams.
 */
int catalogue_object_disagreeing(struct catalogue *c,
				 int (*fn)(void *arg, const struct digest *d), void *arg,
				 struct err *err);

/*
 * Block mode, of an object that is not verified.  rooted: the tree (its fs-verity digest) is
 * verified and kept; with it the mount shows a pending version as the current one; clears
 * strict_reason.  strict: block mode cannot be used, and why; clears the tree; kept until a list is
 * applied again or an attestation names the object (when it is verified: until one names another
 * root), or its file is gone.
 */
int catalogue_object_rooted(struct catalogue *c, const struct digest *d, const struct digest *tree,
			    struct err *err);
int catalogue_object_strict(struct catalogue *c, const struct digest *d, const char *why,
			    struct err *err);
/* A tree for a verified object was derived anew. */
int catalogue_object_set_tree(struct catalogue *c, const struct digest *d,
			      const struct digest *tree, struct err *err);
/*
 * Bytes are bad, in the store or as they were signed: event CorruptFound, once until healed or (of
 * an object that is neither verified nor was available) a list is applied again.  degraded: of a
 * verified file, and they could not be healed so far; why stands in error.  Healed: event
 * CorruptHealed, no longer degraded.
 */
int catalogue_object_corrupt(struct catalogue *c, const struct digest *d, const char *why,
			     bool degraded, int64_t now, struct err *err);
int catalogue_object_healed(struct catalogue *c, const struct digest *d, const char *how,
			    int64_t now, struct err *err);
/*
 * The file is gone or bad: state MISSING with the reason.  Event CorruptFound if it was VERIFIED,
 * and CorruptHealed when it is so again.
 * If only withdrawn images name it, they are marked purged and the row goes.
 */
int catalogue_object_lost(struct catalogue *c, const struct digest *d, const char *why, int64_t now,
			  struct err *err);
/*
 * What was here of an object in part is gone, because nobody wants it any more and it is not open:
 * its expired rows are purged, its tree and the note of the partial are forgotten, and the row
 * goes when nothing names it.  Does nothing if it is wanted or verified (meanwhile).
 */
int catalogue_object_abandoned(struct catalogue *c, const struct digest *d, struct err *err);
/*
 * Its file is to go, by policy, an admin's word, or for want of room: its expired rows are marked
 * purged, and it becomes MISSING.  The row goes when nothing names it; a later read of a live
 * image fetches it again.
 */
int catalogue_object_evicted(struct catalogue *c, const struct digest *d, struct err *err);
/*
 * What has been evicted is leaving until its file is gone, too; then it has left.  A crash in
 * between is finished at the next start.
 */
int catalogue_object_left(struct catalogue *c, const struct digest *d, struct err *err);
int catalogue_leaving_each(struct catalogue *c, int (*fn)(void *arg, const struct digest *d),
			   void *arg, struct err *err);

/* ---- room ------------------------------------------------------------------------------------ */

/* What the choice of what to evict needs to know; cheap for all objects. */
struct evict_row {
	struct digest digest;
	bool verified, wanted, pinned;
	bool live;			/* an image of a list in force names it */
	int64_t used;			/* seconds UTC; fetched counts as used */
	int64_t expired_at;		/* 0: it has not */
};
int catalogue_evict_each(struct catalogue *c, int (*fn)(void *arg, const struct evict_row *r),
			 void *arg, struct err *err);
/* Stored objects that only withdrawn images name. */
int catalogue_withdrawn_each(struct catalogue *c, int (*fn)(void *arg, const struct digest *d),
			     void *arg, struct err *err);
/*
 * What a use is noted as: now, but later than all that was noted before, whatever clock that was
 * noted by: the one used last is the last to go.
 */
int64_t catalogue_use_stamp(struct catalogue *c, int64_t now);
/* Somebody used it; never goes back, and moves no rev. */
int catalogue_object_used(struct catalogue *c, const struct digest *d, int64_t now,
			  struct err *err);
/*
 * An image that is pinned keeps its stored version, whatever room is needed, until a newer one has
 * taken its place.  An admin's decision: it stands in site.json, and outlives the image's absence.
 */
int catalogue_image_pin(struct catalogue *c, int64_t id, bool pinned, struct err *err);
int64_t catalogue_pin_count(struct catalogue *c);

/* ---- attestations: block digests signed beside the lists ------------------------------------- */

struct attestation;
struct attestation_entry;

struct attestation_row {
	int64_t id;
	struct digest message, payload;	/* as stored */
	char *source;			/* the URL it came from, "" if given by hand */
	char *list_id;			/* of the subscription it was fetched for, or "" */
	char *subject, *issuer;		/* of its signer */
	char *endorser;			/* name of the signer's endorser, "" if none now */
	bool trusted;			/* its entries count where the endorser may speak */
	int64_t imported;
	int64_t n;			/* entries */
};
int catalogue_attestation_each(struct catalogue *c,
			       int (*fn)(void *arg, const struct attestation_row *r), void *arg,
			       struct err *err);
int catalogue_attested_each(struct catalogue *c, int64_t attestation,
			    int (*fn)(void *arg, const struct attestation_entry *e), void *arg,
			    struct err *err);

/* Where a message comes from, and who is told of entries that are refused (may be NULL). */
struct attestation_origin {
	const char *url, *list_id;	/* "": by hand; for no list in particular */
	void (*refused)(void *arg, const char *identifier, enum code code, const char *why);
	void *arg;
};
struct attestation_result {
	bool same;			/* the very message was there and trusted: nothing done */
	int accepted, refused;		/* entries */
};

/*
 * Stores a message and its entries; the endorser was judged before (list_judge_attester()).  Takes
 * the place of an earlier message from the same URL, and of what the same signer said of the same
 * images.  An entry whose size is not that of the image with its SHA-512 is refused (41); all
 * refused: so is the message, with the first reason.  What it names may be tried again at once.
 */
struct verdict;
int catalogue_attestation_add(struct catalogue *c, const struct attestation *list,
			      const struct verdict *verdict, const char *endorser,
			      const void *message, size_t len,
			      const struct attestation_origin *origin, int64_t now,
			      struct attestation_result *result, struct err *err);
/* What its stored message turned out to be worth.  endorser: name, or NULL. */
int catalogue_attestation_trust(struct catalogue *c, int64_t id, const char *endorser,
				bool trusted, struct err *err);

/* ---- expired --------------------------------------------------------------------------------- */

enum reason {
	REASON_REPLACED, REASON_REMOVED_FROM_LIST, REASON_LIST_EXPIRED, REASON_IMAGE_EXPIRED,
	REASON_UNSUBSCRIBED, REASON_DESELECTED, REASON_ENDORSER_REMOVED, REASON_ENDORSER_UNLINKED,
	REASON_REVOKED, REASON_CORRUPT,
};
const char *reason_name(enum reason r);
bool reason_distrusts(enum reason r);	/* endorser-removed, endorser-unlinked, revoked, corrupt */

struct expired_row {
	int64_t id, rev;
	uint64_t ino;
	char *name;			/* directory: <safe id>.<UTC time>, ~2 ... on a clash */
	char *list_id;
	enum reason reason;
	int64_t expired_at;
	char *replaced_by;		/* version of the successor, "" if none */
	bool distrusted;
	bool purged;			/* no bytes are kept; from the start if there were none, not
					   even in part */
	bool selected;
	char *error;			/* the last of its object, "" if none */
	struct image_meta meta;		/* frozen */
};
void expired_row_release(struct expired_row *r);
int catalogue_expired_each(struct catalogue *c, int (*fn)(void *arg, const struct expired_row *r),
			   void *arg, struct err *err);
int catalogue_expired_stubs(struct catalogue *c, int (*fn)(void *arg, int64_t id, int64_t rev),
			    void *arg, struct err *err);
int catalogue_expired_by_id(struct catalogue *c, int64_t id, struct expired_row *out,
			    struct err *err);

/*
 * Versions that left at before or earlier have no bytes any more, although the file stays: a
 * selected image has the same, or a version that left later.  *n counts them.
 */
int catalogue_expired_purge_shared(struct catalogue *c, int64_t before, int *n, struct err *err);
/* Forgets what was purged, all but the last LIMIT_PURGED_KEPT versions. */
int catalogue_expired_prune(struct catalogue *c, struct err *err);

/* ---- applying decisions (update.c, expire.c) ------------------------------------------------- */

struct imagelist;
struct verdict;

/* Counts of what a list changed or would change. */
struct update_result {
	bool same;			/* byte-identical, nothing done */
	int added, changed, removed, unchanged, refused, pending;
	int n_refused_new;		/* of the refused: those that are new (32) */
	int n_held;			/* of the changed: those whose version was still to come */
};

/*
 * Stores message and payload and makes list the current one of the subscription, in the caller's
 * transaction: rows, withdrawals, pending versions, refused entries, events.  The list was
 * judged (list_judge) and its signer trusted before.  Available events are sent for an image when
 * it is live, selected and stored; Expire events only for one that had them.
 */
int catalogue_apply_list(struct catalogue *c, const struct subscription_row *sub,
			 const struct imagelist *list, const struct verdict *verdict,
			 const void *message, size_t len, int64_t now, struct update_result *result,
			 struct err *err);

/*
 * How many lists there were once and are not now, because their messages were lost or could not be
 * verified when the catalogue was rebuilt: they come back, and their images with them.  Negative:
 * it cannot be told.
 */
int64_t catalogue_lists_awaited(struct catalogue *c);

/*
 * Whether the list that is the current one has an image that is not live, and would be if it were
 * applied now: when it was, the clock or file_prefix was another.
 */
int catalogue_list_lacks(struct catalogue *c, const struct subscription_row *r,
			 const struct imagelist *list, int64_t now, bool *lacks, struct err *err);

/*
 * As catalogue_apply_list() but only says what would change: calls fn with a word (add change
 * remove refuse) and the image.
 */
int catalogue_preview_list(struct catalogue *c, const struct subscription_row *sub,
			   const struct imagelist *list,
			   int (*fn)(void *arg, const char *what, const char *identifier,
				     const char *title),
			   void *arg, struct update_result *result, struct err *err);

/*
 * The signer of the subscription's list is distrusted: its images and their expired ancestors.
 * Applying a list again, be it the same bytes, brings them back.
 */
int catalogue_distrust(struct catalogue *c, int64_t subscription, enum reason reason,
		       const char *why, int64_t now, struct err *err);

/*
 * The signers of versions that a list has replaced, or is about to, and that are kept; each with
 * the digest of one stored message of theirs.  And what follows when one of them is trusted no
 * longer: versions in expired/ are distrusted, and those that are served until their successor has
 * come leave.  Current lists of theirs are catalogue_distrust()'s.  *changed: how many versions.
 */
int catalogue_signer_each(struct catalogue *c,
			  int (*fn)(void *arg, const char *subject, const char *issuer,
				    const struct digest *message),
			  void *arg, struct err *err);
int catalogue_signer_distrust(struct catalogue *c, const char *subject, const char *issuer,
			      enum reason reason, int64_t now, int *changed, struct err *err);

/* Withdraws what is past its date at now: lists and images.  *changed: how many images went. */
int catalogue_expire_by_date(struct catalogue *c, int64_t now, int *changed, struct err *err);
/* The earliest moment at which catalogue_expire_by_date() has something to do; INT64_MAX: never. */
int64_t catalogue_next_expiry(struct catalogue *c);

/* ---- counts ---------------------------------------------------------------------------------- */

/* Images are the live ones; selected ... degraded are those of them with that state. */
struct catalogue_counts {
	int64_t endorsers, subscriptions, images, selected, verified, failed, expired;
	int64_t partial;		/* objects in block mode that are wanted and not complete */
	int64_t degraded;		/* verified objects with blocks that could not be healed */
	int64_t tried;			/* the last refresh of any list; 0: never */
};
int catalogue_count(struct catalogue *c, struct catalogue_counts *out, struct err *err);

/* ---- trust fingerprint, small notes ---------------------------------------------------------- */

int catalogue_note_set(struct catalogue *c, const char *key, const char *value,
		       struct err *err); /* own transaction if none is open */
/* *value: caller frees; NULL if unset.  _get: NULL also when it cannot be read. */
int catalogue_note_read(struct catalogue *c, const char *key, char **value, struct err *err);
char *catalogue_note_get(struct catalogue *c, const char *key);

/*
 * The stored message or payload of a subscription: a read-only descriptor.  Any thread may call it
 * with conf alone.
 */
int message_open(const struct conf *conf, const struct digest *message, bool payload,
		 struct err *err);
/* The same without asking the disk: -EAGAIN if it would have to be. */
int message_open_cached(const struct conf *conf, const struct digest *message, bool payload);

/* Removes the messages that no row refers to any more. */
int catalogue_message_sweep(struct catalogue *c, struct err *err);

#endif
