/*
 * catalogue_impl.h - what the files of the catalogue share: statements, transactions, small steps.
 *
 * Private to core/catalogue*.c, core/cat_*.c, core/site.c, core/message.c and their tests.
 */
#ifndef VMI_CATALOGUE_IMPL_H
#define VMI_CATALOGUE_IMPL_H

#include "attestation.h"
#include "buf.h"
#include "catalogue.h"
#include "catalogue_sql.h"
#include "imagelist.h"
#include "outbox.h"
#include "uuid.h"
#include "verdict.h"

struct sqlite3;
struct sqlite3_stmt;


struct catalogue {
	struct sqlite3 *db;
	struct sqlite3_stmt *stmt[N_SQL];	/* prepared at first use */
	const struct conf *conf;	/* borrowed until catalogue_close() */
	int state_dir, messages_dir;	/* descriptors; state_dir holds the shared lock */
	bool in_transaction;
	/* Waiting for another process's lock; see catalogue_on_wait(). */
	void (*wait_say)(void *arg, const char *text);
	void *wait_arg;
	long long wait_began, wait_ms;
	bool wait_said;
	bool site_dirty;		/* site.json must follow this transaction */
	char store_id[UUID_TEXT];
	/* Of the events of this transaction: "" until there is one; see cat_event.c. */
	char session[UUID_TEXT];
	int64_t session_time;		/* of its ProcessPrefix; 0: it has none so far */
};

/* ---- cat_stmt.c: one statement at a time ----------------------------------------------------- */

/* A value to bind: made by the five functions below, so that the compiler checks its type. */
struct cat_arg {
	enum { ARG_END, ARG_INTEGER, ARG_TEXT, ARG_BLOB, ARG_NULL } kind;
	int64_t integer;
	const void *data;
	size_t len;
};

struct cat_arg arg_int(int64_t value);
struct cat_arg arg_text(const char *value);			/* NULL binds NULL; borrowed */
struct cat_arg arg_digest(const struct digest *value);		/* NULL binds NULL; borrowed */
struct cat_arg arg_id(int64_t value);				/* 0 binds NULL */

/* What stands in front is passed over: with it a list of none is one, too. */
#define ARGS(...) \
	(&((const struct cat_arg[]){ { .kind = ARG_END }, ##__VA_ARGS__, { .kind = ARG_END } })[1])

/* Runs a statement that gives no rows. */
int cat_run(struct catalogue *c, enum sql_id id, const struct cat_arg *args, struct err *err);

/*
 * A query.  Columns are taken from left to right with next_*().  Nested queries of the same
 * statement are allowed.  Always end it; the strings are the caller's.
 */
struct cat_query {
	struct catalogue *c;
	struct sqlite3_stmt *stmt;
	bool own;			/* stmt is not the cached one */
	int column;
};

int cat_query_begin(struct cat_query *q, struct catalogue *c, enum sql_id id,
		    const struct cat_arg *args, struct err *err);
int cat_query_next(struct cat_query *q, struct err *err); /* 1: a row; 0: no more; negative */
void cat_query_end(struct cat_query *q);
int64_t next_int(struct cat_query *q);
bool next_bool(struct cat_query *q);
char *next_text(struct cat_query *q);                    /* NULL for NULL; caller frees */
bool next_digest(struct cat_query *q, struct digest *d); /* false for NULL or another length */

#define CAT_QUERY __attribute__((cleanup(cat_query_end))) struct cat_query

/* The first column of the first row; 0 if there is no row (then *found, if not NULL, is false). */
int cat_int(struct catalogue *c, enum sql_id id, const struct cat_arg *args, int64_t *value,
	    bool *found, struct err *err);

/* The ids of a query's first column, so that rows may change while walking them.  Caller frees. */
int cat_ids(struct catalogue *c, enum sql_id id, const struct cat_arg *args, int64_t **ids,
	    size_t *n, struct err *err);

int64_t cat_last_id(struct catalogue *c);
/* Words that the database holds for an enum: the index of word in table, or -1. */
int cat_word(const char *const *table, int n, const char *word);
int cat_n_changed(struct catalogue *c);		/* rows of the last statement */
int cat_fail(struct catalogue *c, struct err *err);	/* SQLite's error as ours */

/* ---- catalogue.c ----------------------------------------------------------------------------- */

/*
 * Every function that changes rows works inside the caller's transaction, or in one of its own
 * if there is none: cat_scope_begin() first, cat_scope_end() with the result last.
 */
struct cat_scope {
	bool own;
};
int cat_scope_begin(struct catalogue *c, struct cat_scope *s, struct err *err);
int cat_scope_end(struct catalogue *c, struct cat_scope *s, int rc, struct err *err);
/*
 * Ends a transaction, of whichever kind, without a trace: an open one would block all that follow.
 */
void cat_undo(struct catalogue *c);
/* One statement in such a scope. */
int cat_change(struct catalogue *c, enum sql_id id, const struct cat_arg *args, struct err *err);

/* The permanent inode number of a name such as "image:<identifier>". */
int cat_inode(struct catalogue *c, const char *kind, const char *name, int64_t *ino,
	      struct err *err);
void cat_close_db(struct catalogue *c);		/* the database alone */

/* ---- cat_wait.c ------------------------------------------------------------------------------ */

enum {
	CAT_BUSY_MS = 30000,	/* what others may keep us waiting */
	CAT_HURRY_MS = 4000,	/* with CATALOGUE_HURRY: readers give up after five times that */
};
void cat_wait_install(struct catalogue *c);	/* for the database that was just opened */
void cat_wait_step(void);			/* between two looks */

/* ---- catalogue_schema.c ---------------------------------------------------------------------- */

enum { SCHEMA_VERSION = 4 };
int catalogue_schema_version(struct sqlite3 *db);		/* user_version, or -1 */
/* Applies the steps from the version that the file has to SCHEMA_VERSION, each in a transaction. */
int catalogue_schema_upgrade(struct sqlite3 *db, struct err *err);

/* Whether the tables and triggers are what the steps make; -EUCLEAN otherwise. */
int catalogue_schema_check(struct sqlite3 *db, struct err *err);

/* ---- cat_meta.c: immutable rows of metadata -------------------------------------------------- */

enum { META_COLUMNS = N_FIELDS + 7 };
void meta_seal(const struct image_meta *m, struct digest *seal); /* equal metadata, equal seal */
int meta_insert(struct catalogue *c, const struct image_meta *m, int64_t *id, struct err *err);
void meta_next(struct cat_query *q, struct image_meta *m);       /* takes META_COLUMNS columns */
/* *version: caller frees; NULL if there is no such row. */
int meta_version(struct catalogue *c, int64_t id, char **version, struct err *err);
int meta_drop(struct catalogue *c, int64_t id, struct err *err); /* unless something refers to it */

/* ---- cat_imagestate.c: one image and its changes of state ------------------------------------ */

/* What decisions need to know of an image; no strings. */
struct image_brief {
	int64_t id, subscription, meta, pending;	/* pending 0: none */
	bool live, selected, announced, verified;	/* verified: the current object is stored */
	struct digest sha512, pending_sha512, seal, pending_seal;
	int64_t expires;
	bool partial, pending_partial;	/* not stored, but blocks of it can be read */
};
int image_brief_get(struct catalogue *c, const char *identifier, struct image_brief *b, bool *found,
		    struct err *err);
int image_brief_by_id(struct catalogue *c, int64_t id, struct image_brief *b, bool *found,
		      struct err *err);

/*
 * The current version is withdrawn: an expired row if it was selected or stored (in part, too),
 * Expire events if it had been announced.  Changes nothing else of the image row.
 */
int image_withdraw(struct catalogue *c, struct image_brief *b, enum reason reason,
		   const char *replaced_by, int64_t now, struct err *err);
/* The same, and it is told that the pending version, if there is one, replaces it. */
int image_yield(struct catalogue *c, struct image_brief *b, enum reason reason, int64_t now,
		struct err *err);
/*
 * The pending version is about to go without having become current: an expired row if blocks of it
 * could be read, because the mount has shown it then.
 */
int image_withdraw_pending(struct catalogue *c, const struct image_brief *b, enum reason reason,
			   const char *replaced_by, int64_t now, struct err *err);
/* Withdraws and takes the image out of the live view. */
int image_leave(struct catalogue *c, struct image_brief *b, enum reason reason, int64_t now,
		struct err *err);
/* The pending version becomes the current one; withdraw the old one first. */
int image_swap_pending(struct catalogue *c, struct image_brief *b, struct err *err);
/* Available events if the image is live, selected, stored and not yet announced. */
int image_announce(struct catalogue *c, int64_t id, int64_t now, struct err *err);

/* ---- cat_forget.c: in the transaction that applies a list ------------------------------------ */

/* Rows of images that left and that nobody decided on, all but the last LIMIT_DEPARTED_KEPT. */
int departed_forget(struct catalogue *c, int64_t subscription, size_t n_listed, struct err *err);
/* Inode numbers that nothing has. */
int inode_collect(struct catalogue *c, struct err *err);

/* ---- cat_object.c, cat_endorser.c, cat_event.c, cat_delivery.c ------------------------------- */

/* Makes the object's row if there is none, and lets it be tried again. */
int object_name(struct catalogue *c, const struct image_meta *m, int64_t mtime, struct err *err);
int object_collect(struct catalogue *c, struct err *err); /* rows that nothing names */

/* Who holds this credential (dn_equal()) and is linked (subscription 0: anyone).  0: none. */
int endorser_match(struct catalogue *c, int64_t subscription, const char *subject,
		   const char *issuer, int64_t *endorser, struct err *err);
/* The subscription's signer_endorser follows registrations and links. */
int endorser_refresh(struct catalogue *c, int64_t subscription, struct err *err);

/* type with the metadata of meta; filename as vmcatcher's FILENAME; reason may be NULL. */
int event_add(struct catalogue *c, const char *type, int64_t meta, const char *list_id,
	      const char *filename, const char *reason, int64_t now, struct err *err);
/* SubscriptionImageNew: an image that a list names for the first time, accepted or not. */
int event_add_new(struct catalogue *c, const struct image_meta *m, const char *list_id,
		  int64_t now, struct err *err);
/* ProcessPostfix, if the transaction that is about to be committed has events of images. */
int event_session_end(struct catalogue *c, struct err *err);
void event_session_clear(struct catalogue *c);
int event_by_id(struct catalogue *c, int64_t id, struct event_row *out, struct err *err);
/* A delivery for each handler that takes the event's type; those that are there begin anew. */
int delivery_add(struct catalogue *c, int64_t event, struct err *err);

/* ---- cat_handler.c --------------------------------------------------------------------------- */

int handler_get(struct catalogue *c, int64_t id, enum handler_kind *kind, char **name,
		struct err *err); /* caller frees */
int handler_daemons(struct catalogue *c, int64_t **ids, size_t *n, struct err *err);
/* Whether it is time to look who is idle; and to look, which forgets them. */
int handlers_are_due(struct catalogue *c, int64_t now, bool *due, struct err *err);
int handlers_look(struct catalogue *c, int64_t now, struct err *err);

/* ---- cat_signer.c ---------------------------------------------------------------------------- */

/* A list was applied, its signer stands in the subscription: its live images are that one's. */
int signer_applied(struct catalogue *c, int64_t subscription, struct err *err);
/*
 * Before and after an endorser, a credential, or (linked) a link goes: what somebody vouched for
 * before, and nobody does after, is distrusted.  vouchers_free() *out in every case.
 */
struct vouchers;
int vouchers_read(struct catalogue *c, bool linked, struct vouchers **out, struct err *err);
int vouchers_review(struct catalogue *c, const struct vouchers *v, enum reason reason,
		    struct err *err);
void vouchers_free(struct vouchers *v);

/* ---- cat_attestation.c ----------------------------------------------------------------------- */

/*
 * To be called before an endorser, a link or (subject not NULL) a credential of it goes: what its
 * attestations had to do with may be tried again, and those of the credential count no longer.
 */
int attestation_leave(struct catalogue *c, int64_t endorser, const char *subject,
		      const char *issuer, struct err *err);

/* ---- cat_apply.c ----------------------------------------------------------------------------- */

extern const char *const subscription_words[5];
extern const char *const anchor_words[3];
#define NEW_IMAGE_TEXT \
	"the image is new and the subscription refuses new images:" \
	" vmcatcher_subscribe --image-accept accepts it"

/*
 * The rows of a list, without message files, signer and subscription row: the core of applying
 * and of rebuilding.  rebuilding: select_new has no say, the selections in wish do.
 */
int apply_rows(struct catalogue *c, const struct subscription_row *sub,
	       const struct imagelist *list, int64_t expires, bool rebuilding, int64_t now,
	       struct update_result *result, struct err *err);
/* What the subscription's row says of the list that it now has; it becomes ok. */
int apply_subscription(struct catalogue *c, int64_t id, const struct imagelist *list,
		       int64_t expires, const struct verdict *verdict, const struct digest *message,
		       int64_t now, struct err *err);
/* Applies the stored payload of a subscription once more (its signer is trusted already). */
int apply_stored(struct catalogue *c, int64_t subscription, int64_t now, struct err *err);
/* The order of a table of strings, for qsort() and bsearch(). */
int cat_by_text(const void *a, const void *b);

/* ---- message.c ------------------------------------------------------------------------------- */

int message_write(struct catalogue *c, const struct digest *message, const void *data, size_t len,
		  const void *payload, size_t payload_len, struct err *err);
/* The stored bytes if they hash to what they are named by (or to *expected); -EBADMSG otherwise. */
int message_read(struct catalogue *c, const struct digest *message, bool payload,
		 const struct digest *expected, struct buf *out, struct err *err);
/*
 * Whether a message that could not be read (rc of message_read()) may be as good as ever: there is
 * a shortage, or the file is somebody else's, as after a backup was put back by root.
 */
bool message_may_be_good(int rc);
/*
 * Calls fn for each stored message (not payload), in no order; fn may store further ones.
 */
int message_each(struct catalogue *c, int (*fn)(void *arg, const struct digest *message), void *arg,
		 struct err *err);
/* Whether a row refers to the message. */
int message_is_used(struct catalogue *c, const struct digest *message, bool *used, struct err *err);
/* Removes messages that no row refers to; the write lock must be held. */
int message_sweep(struct catalogue *c, struct err *err);

/* ---- catalogue_check.c, cat_rebuild.c -------------------------------------------------------- */

/* 0: rows, messages and site.json agree; -EUCLEAN: damaged, err says where. */
int catalogue_check(struct catalogue *c, const struct catalogue_hooks *hooks, struct err *err);

/*
 * The part of it that concerns an admin's decisions: cheap enough for each command that may make
 * another one, because that would write what a damaged row says into site.json.
 */
int catalogue_check_decisions(struct catalogue *c, struct err *err);

struct site;
/* Fills an empty catalogue. */
int catalogue_rebuild(struct catalogue *c, const struct site *site,
		      const struct catalogue_hooks *hooks, struct err *err);

#endif
