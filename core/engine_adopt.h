/*
 * engine_adopt.h - what lies in the store and no row calls verified, as engine_adopt.c finds it and
 * engine_adoption.c has it hashed.  Only they include it.
 */
#ifndef VMI_ENGINE_ADOPT_H
#define VMI_ENGINE_ADOPT_H

#include "engine_impl.h"

struct known {
	struct digest digest;
	int64_t size;
	bool has_root;
	struct digest root;
	bool verified, found;
	bool due;			/* to be adopted, or refused */
	bool waiting;			/* a reader or command waits for that */
	const struct pass *pass;	/* that hashes it; never looked into */
	struct blockfile *file;		/* a reference, or NULL */
};

struct adoption {
	struct known *rows;
	size_t n, next;			/* next: none before it is due */
	struct known *current;		/* the one that is hashed though nobody waits, or NULL */
	size_t n_unwritten;		/* have a file */
	long long retry_at, told_at;	/* monotonic ms: rows are tried again; were shown */
	bool changed, failed;		/* since told_at */
	bool awaiting;			/* lists that may name any object */
};

/* By digest: rows must be in order.  NULL: there is none. */
struct known *adoption_find(const struct adoption *a, const struct digest *d);
void adoption_free(struct adoption *a);		/* NULL is fine */

/* In a transaction of its own. */
int adoption_change_row(struct engine *e, const struct known *row,
			int (*change)(struct catalogue *c, const struct known *row,
				      const void *arg, struct err *err),
			const void *arg, struct err *err);
bool adoption_has_object(struct engine *e, const struct known *row);
void adoption_answer(struct engine *e, struct known *row);	/* who waits asks again */
void adoption_begin_next(struct engine *e);			/* if it is anybody's turn */

#endif
