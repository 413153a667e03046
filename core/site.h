/*
 * site.h - state_dir/site.json: an admin's decisions outside the database, so that they outlive it.
 *
 * Endorsers with their credentials and switches, links, subscriptions with credentials and
 * policies, selections, pins, and which images are accepted where new ones are refused;
 * and of each subscription which message was accepted last, so that the stored messages can be
 * put back and no older list is taken.  Mode 0600, replaced whole, with a checksum at its end.
 */
#ifndef VMI_SITE_H
#define VMI_SITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "catalogue.h"
#include "digest.h"
#include "err.h"

enum { SITE_SCHEMA = 1 };

struct site_strings {
	char **text;
	size_t n;
};

struct site_credential {
	char *subject, *issuer;
};

struct site_endorser {
	char *name;
	bool allow_sha1, any_purpose, blocks_only;
	struct site_credential *credentials;
	size_t n_credentials;
};

struct site_subscription {
	char *list_id, *url, *username, *password;	/* the last two may be NULL */
	int select_new;				/* enum conf_select */
	bool refuse_new;
	enum trust_anchor trust_anchor;
	bool reset_version, has_message;
	struct digest message;			/* accepted last */
	char *version;				/* of that list */
	int64_t created;
	struct site_strings endorsers;		/* linked */
	struct site_strings selected;		/* identifiers of images */
	struct site_strings defined;		/* and those that are accepted, selected or not */
	struct site_strings pinned;
};

struct site {
	int64_t serial; /* grows with each decision; also in the catalogue */
	char *store_id;
	struct site_endorser *endorsers;
	size_t n_endorsers;
	struct site_subscription *subscriptions;
	size_t n_subscriptions;
};

/*
 * Reads site.json in the directory.  -ENOENT: there is none.  CODE_CORRUPT: not whole or not ours.
 * raw (may be NULL) gets the bytes.
 */
int site_read(int state_dir, struct site **out, struct buf *raw, struct err *err);
void site_free(struct site *site);

/* What site.json should hold now; in a transaction of the caller, or in the open one. */
int site_format(struct catalogue *c, struct buf *out, struct err *err);
int site_format_before(struct catalogue *c, struct buf *out, struct err *err);

/* Writes it: after a commit, never in a transaction.  The last writer writes the newest state. */
int site_write(struct catalogue *c, struct err *err);

#endif
