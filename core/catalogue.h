/*
 * catalogue.h - the one truth: what is trusted, subscribed, selected, listed, stored, expired.
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
 * While it is open, state_dir is locked (flock, shared); a rebuild needs it alone (CODE_BUSY).
 * Borrows conf until catalogue_close(), hooks (may be NULL) for the call.
 */
int catalogue_open(struct catalogue **out, const struct conf *conf, unsigned flags,
		   const struct catalogue_hooks *hooks, struct err *err);
void catalogue_close(struct catalogue *c);

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

/* ---- endorsers and their credentials --------------------------------------------------------- */

struct endorser_row {
	int64_t id, rev;
	uint64_t ino;
	char *name;
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
bool catalogue_is_linked(struct catalogue *c, int64_t endorser, int64_t subscription);

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

struct subscription_row {
	int64_t id, rev;
	uint64_t ino;
	char *list_id;			/* dc:identifier */
	char *name;			/* safe name of list_id */
	char *url;			/* polled; without userinfo */
	char *username, *password;	/* NULL if none; shown nowhere */
	int select_new;			/* enum conf_select */
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
};
void subscription_row_release(struct subscription_row *r);

/*
 * r: list_id, url, username, password, select_new; returns r->id, r->ino and r->name (the caller
 * frees them with the row).  -EEXIST for a known list_id or url.
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
/* Its images are withdrawn: reason unsubscribed. */
int catalogue_subscription_remove(struct catalogue *c, int64_t id, int64_t now, struct err *err);
/*
 * Records a refresh that failed (state FAILED unless EXPIRED, DISTRUSTED or NEW) or found nothing
 * new (code NONE).
 */
int catalogue_subscription_tried(struct catalogue *c, int64_t id, int64_t now, enum code code,
				 const char *error, struct err *err);
int catalogue_subscription_reset_version(struct catalogue *c, int64_t id, struct err *err);

/* ---- images ---------------------------------------------------------------------------------- */

struct image_row {
	int64_t id, rev;
	uint64_t ino;
	int64_t subscription;
	char *list_id;			/* of the subscription */
	char *name;			/* safe name of the identifier */
	bool live;			/* endorsed by the current list of a live subscription */
	bool selected;
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
};
void object_row_release(struct object_row *r);

int catalogue_object_get(struct catalogue *c, const struct digest *d, struct object_row *out,
			 struct err *err);
int catalogue_object_each(struct catalogue *c, int (*fn)(void *arg, const struct object_row *r),
			  void *arg, struct err *err);

/*
 * Where the bytes can come from, best first: the distinct URIs of live images naming the object
 * (with the list id, for tls_ca).
 */
int catalogue_object_sources(struct catalogue *c, const struct digest *d,
			     int (*fn)(void *arg, const char *uri, const char *list_id), void *arg,
			     struct err *err);

/*
 * The object is in the store and verified: state VERIFIED, tries 0; every pending version with
 * this digest becomes current (the old one expires: replaced), events.  One call, in a transaction
 * of the caller.
 */
int catalogue_object_verified(struct catalogue *c, const struct digest *d, int64_t now,
			      struct err *err);
/* A try failed.  counts: adds to tries; next_try is when to try again. */
int catalogue_object_failed(struct catalogue *c, const struct digest *d, enum code code,
			    const char *error, bool counts, int64_t next_try, struct err *err);
int catalogue_object_reset_tries(struct catalogue *c, const struct digest *d, struct err *err);
int catalogue_object_note_partial(struct catalogue *c, const struct digest *d, const char *url,
				  const char *etag, struct err *err);
/* The file is bad in part and stays VERIFIED while another is fetched: event CorruptFound. */
int catalogue_object_unreadable(struct catalogue *c, const struct digest *d, const char *why,
				int64_t now, struct err *err);
/*
 * The file is gone or bad: state MISSING with the reason.  Event CorruptFound if it was VERIFIED.
 * If only withdrawn images name it, they are marked purged and the row goes.
 */
int catalogue_object_lost(struct catalogue *c, const struct digest *d, const char *why, int64_t now,
			  struct err *err);
/*
 * Purged by policy: its expired rows are marked purged; unless a live image names it, it becomes
 * MISSING.  The row goes when nothing names it.
 */
int catalogue_object_purged(struct catalogue *c, const struct digest *d, struct err *err);
/* As purged, also for a live image: an admin's word.  A later read fetches it again. */
int catalogue_object_evicted(struct catalogue *c, const struct digest *d, struct err *err);

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
	bool purged;			/* no bytes are kept; from the start if there were none */
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

/* ---- applying decisions (update.c, expire.c) ------------------------------------------------- */

struct imagelist;
struct verdict;

/* Counts of what a list changed or would change. */
struct update_result {
	bool same;			/* byte-identical, nothing done */
	int added, changed, removed, unchanged, refused, pending;
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

/* Withdraws what is past its date at now: lists and images.  *changed: how many images went. */
int catalogue_expire_by_date(struct catalogue *c, int64_t now, int *changed, struct err *err);
/* The earliest moment at which catalogue_expire_by_date() has something to do; INT64_MAX: never. */
int64_t catalogue_next_expiry(struct catalogue *c);

/* ---- events (outbox) ------------------------------------------------------------------------- */

struct event_row {
	int64_t id;
	char *uuid;			/* unique */
	int64_t time;
	char *type;			/* AvailablePostfix, ... */
	char *identifier, *list_id;	/* of the image */
	char *json;			/* one object, one line */
};
void event_row_release(struct event_row *r);
/* The last n, oldest first. */
int catalogue_event_each(struct catalogue *c, int64_t after_id, int last_n,
			 int (*fn)(void *arg, const struct event_row *r), void *arg,
			 struct err *err);
int64_t catalogue_event_last(struct catalogue *c);

/* ---- counts ---------------------------------------------------------------------------------- */

/* Images are the live ones; selected, verified and failed are those of them with that state. */
struct catalogue_counts {
	int64_t endorsers, subscriptions, images, selected, verified, failed, expired;
	int64_t tried;			/* the last refresh of any list; 0: never */
};
int catalogue_count(struct catalogue *c, struct catalogue_counts *out, struct err *err);

/* ---- trust fingerprint, small notes ---------------------------------------------------------- */

int catalogue_note_set(struct catalogue *c, const char *key, const char *value,
		       struct err *err); /* own transaction if none is open */
char *catalogue_note_get(struct catalogue *c, const char *key); /* caller frees; NULL if unset */

/*
 * The stored message or payload of a subscription: a read-only descriptor.  Any thread may call it
 * with conf alone.
 */
int message_open(const struct conf *conf, const struct digest *message, bool payload,
		 struct err *err);

#endif
