/*
 * Files that others removed from the store.  Who opens or fetches such an image has it fetched
 * again (engine_wants.c); but until somebody does, its row would go on saying that it is verified.
 * So when the store has been counted, what is not there is compared with the rows.
 *
 * What is open is left alone: who reads it has all of its bytes.
 */
#include "config.h"
#include "engine_impl.h"

#include <stdlib.h>

#include "cleanup.h"

enum { LOST_A_LOOK = 256 };		/* each is a transaction: nobody is to wait for all */

struct missing {
	struct engine *e;
	struct missing_file {
		struct digest digest;
		int64_t size;
		struct err said;	/* rc 0: it is not lost */
	} *items;
	size_t n;
};

static int
add_missing(void *arg, const struct object_row *row)
{
	struct missing *m = arg;

	if (row->state != OBJECT_VERIFIED || m->n == LOST_A_LOOK ||
	    store_bytes(m->e->config.store, &row->digest).stored ||
	    engine_is_open(m->e, &row->digest))
		return 0;
	if (m->items == NULL)
		m->items = xcalloc(LOST_A_LOOK, sizeof(*m->items));
	m->items[m->n].digest = row->digest;
	m->items[m->n++].size = row->size;
	return 0;
}

/* What could not be measured is not counted either, and is no loss. */
static bool
lose(struct engine *e, struct missing_file *f)
{
	struct err why = { 0 };
	CLEANUP_FD int fd = store_object_open(e->config.store, &f->digest, f->size, &why);

	return store_object_is_bad(fd) && engine_lose_object(e, &f->digest, why.text, &f->said);
}

bool
engine_note_lost(struct engine *e)
{
	struct missing m = { .e = e };
	struct err err = { 0 };
	size_t n_lost = 0;

	if (catalogue_object_each(e->catalogue, add_missing, &m, &err) != 0)
		log_err(LOG_LVL_ERROR, "objects", &err);
	for (size_t i = 0; i < m.n; i++)
		n_lost += lose(e, &m.items[i]);
	/* What is wanted is planned to be fetched. */
	if (n_lost > 0)
		engine_look(e);
	for (size_t i = 0; i < m.n; i++)
		if (m.items[i].said.rc != 0)
			engine_drop_examination(e, &m.items[i].digest, &m.items[i].said);
	free(m.items);
	return n_lost == LOST_A_LOOK;
}
