/*
 * handlerdir_impl.h - what the files of handlerdir share: handlerdir.c (the whole),
 * handlerdir_rows.c (from rows to entries), handlerdir_index.c (cache.index), handlerdir_event.c
 * (what one event needs).
 */
#ifndef VMI_HANDLERDIR_IMPL_H
#define VMI_HANDLERDIR_IMPL_H

#include <stddef.h>
#include <stdint.h>
#include "digest.h"
#include "handlerdir.h"
#include "handlerindex.h"
#include "handlerlink.h"

#define HANDLERDIR_INDEX "cache.index"
#define HANDLERDIR_TEMPLATES "templates"

enum which { IN_CACHE, IN_PARTIAL, IN_EXPIRED, N_WHICH };

struct entry {
	int64_t id, rev;
	char *name;			/* NULL: nothing is to stand there */
	bool empty;			/* an empty file */
	bool todo;			/* the name does not show it yet */
	struct digest digest;
	int64_t size;
	int64_t subscription;
	struct handlerindex_text text;
};

struct table {
	enum which where;
	struct entry *at;		/* in order of id */
	size_t n;
	bool index_changed;
	long long index_end, index_took;	/* of the last time, monotonic ms */
};

struct hold {
	enum which where;
	char *name;
	struct digest digest;
	bool expires;			/* of an Expire event: any file will do */
	bool displaced;			/* the name may show something else than its entry */
	int users;
};

/* The signed message that each subscription has now. */
struct message {
	int64_t subscription;
	struct digest digest;
};

struct handlerdir {
	struct handlerlink *link[N_WHICH];
	bool mounted;
	bool swept;			/* what an earlier run left was looked at */
	int64_t revision;		/* that the tables are of; 0: none */
	size_t n_todo;
	long long next_try;		/* of what is to do, monotonic ms */
	struct table images, expired;
	struct message *messages;
	size_t n_messages;
	struct hold *holds;
	size_t n_holds;
};

/* ---- handlerdir.c ---------------------------------------------------------------------------- */

/* Names of files that have another meaning there: no image can stand under them. */
bool handlerdir_is_reserved(const char *name);
/* The entry's name shows it from now on; a name that is held follows later. */
int handlerdir_show(struct handlerdir *h, enum which where, struct entry *e, struct err *err);
int handlerdir_hide(struct handlerdir *h, enum which where, const char *name, struct err *err);

/* ---- handlerdir_rows.c ----------------------------------------------------------------------- */

/*
 * Both tables say what the rows say.  Names that go are taken away, names that come are `todo`.
 * After an error a table is empty, and not swept.
 */
int handlerdir_follow(struct handlerdir *h, struct catalogue *c, struct err *err);
void handlerdir_table_release(struct table *t);

/* The entries that have a name, in order of it.  The caller frees at. */
struct names {
	const struct entry **at;
	size_t n;
};
void handlerdir_names(const struct table *t, struct names *names);
bool handlerdir_has_name(const struct names *names, const char *name);

/* ---- handlerdir_index.c ---------------------------------------------------------------------- */

int handlerdir_write_index(struct handlerdir *h, struct table *t, struct err *err);
int handlerdir_write_due(struct handlerdir *h, struct err *err);

/* ---- handlerdir_event.c ---------------------------------------------------------------------- */

bool handlerdir_is_held(const struct handlerdir *h, enum which where, const char *name);
/* Whether the name is held, and left alone therefore: then it follows when the hold ends. */
bool handlerdir_defer(struct handlerdir *h, enum which where, const char *name);
/* What a name shows for a handler alone is not to outlive us. */
void handlerdir_end_holds(struct handlerdir *h);

#endif
