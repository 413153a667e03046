/*
 * import.h - taking over from vmcatcher 0.6: its database, and the files of its cache.
 *
 * The database says what an admin decided: endorsers, subscriptions, links, policies, selections.
 * That is taken over as it stands.  What it says of lists and images is not believed: each stored
 * list goes through the verifier and is judged as one that was just fetched, and each file is
 * hashed while it is copied.  Nothing of the source is ever written.
 *
 * What was imported is remembered, so that the import can be repeated: what has changed in the
 * database since comes too, what an admin has changed here since stays.
 */
#ifndef VMI_IMPORT_H
#define VMI_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "ctl.h"

/* One subscription of the database. */
struct import_list {
	char *list_id;
	char *url;		/* without userinfo */
	enum import_outcome {
		IMPORT_NEW,		/* subscribed now */
		IMPORT_KNOWN,		/* was subscribed here */
		IMPORT_LEFT,		/* imported before and removed here since */
		IMPORT_REFUSED,		/* the subscription itself cannot be had: why */
	} outcome;
	bool has_list;		/* the database holds a list of it */
	bool applied;		/* which is the subscription's current one, by this import */
	struct err why;		/* of REFUSED; else why its list was not accepted (rc 0: nothing) */
	int images, selected;	/* known and selected by this import, and not before */
};

/* One file of the cache directory that has the name of a selected image. */
struct import_file {
	char *identifier;
	int64_t size;
	bool adopted;		/* verified object now */
	bool known;		/* was stored already */
	struct err why;		/* of one that was left */
};

struct import_result {
	int endorsers, credentials, links;	/* that are new here */
	struct import_list *lists;
	size_t n_lists;
	struct import_file *files;
	size_t n_files;
	char **odd;				/* what was passed over, and why: sentences */
	size_t n_odd;
	bool changed;				/* rows or files, by this import */
	bool refused;				/* a list, a file or a row was */
};
void import_result_release(struct import_result *r);

/*
 * Opens the database and cache_dir (NULL: no files) as the caller, and then the catalogue, as
 * ctl_open() does with CTL_WRITE and CTL_STARTER, unless ctl has it open.  With cache_dir it
 * becomes the owner of the store: CODE_BUSY while a daemon runs.  0 also when some list or file was
 * refused.  An error leaves what was imported before it; out is to be released in every case.
 */
int import_vmcatcher(struct ctl *ctl, const char *path, const char *cache_dir,
		     struct import_result *out, struct err *err);

#endif
