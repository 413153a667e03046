/*
 * importimages.c - which images a subscription knows and has selected.
 *
 * A note of the catalogue has a line for each image that an import has brought: "-" and its
 * identifier, or "+" if it came selected.  What stands there has been decided: a later import
 * brings only what the note does not know, and selections that are new in the database.
 */
#include "config.h"
#include "importimages.h"

#include <stdlib.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/stamp.h"

/* ---- rows here ------------------------------------------------------------------------------- */

static int
add_known(void *arg, const struct image_row *r)
{
	struct known_images *k = arg;

	k->at = xrealloc(k->at, (k->n + 1) * sizeof(*k->at));
	k->at[k->n++] = (struct known_image){
		.identifier = xstrdup(r->meta.value[FIELD_ID]), .id = r->id,
		.selected = r->selected,
	};
	return 0;
}

static int
by_identifier(const void *a, const void *b)
{
	const struct known_image *x = a, *y = b;

	return strcmp(x->identifier, y->identifier);
}

int
known_load(struct known_images *k, struct catalogue *c, int64_t subscription, struct err *err)
{
	int rc = catalogue_image_each(c, subscription, false, add_known, k, err);

	if (rc == 0 && k->n > 0)
		qsort(k->at, k->n, sizeof(*k->at), by_identifier);
	return rc;
}

void
known_release(struct known_images *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->at[i].identifier);
	free(k->at);
}

const struct known_image *
known_find(const struct known_images *k, char *identifier)
{
	struct known_image key = { .identifier = identifier };

	return k->n == 0 ? NULL : bsearch(&key, k->at, k->n, sizeof(*k->at), by_identifier);
}

/* ---- rows there ------------------------------------------------------------------------------ */

/* The note of a subscription: its lines, in order of the identifiers. */
struct marks {
	char *text;
	char **lines;			/* into text */
	size_t n;
};

static int
by_line(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x + 1, *y + 1);
}

static void
marks_load(struct marks *m, char *text)
{
	char *rest = text, *line;

	m->text = text;
	while ((line = strsep(&rest, "\n")) != NULL) {
		if (*line == '\0')
			continue;
		m->lines = xrealloc(m->lines, (m->n + 1) * sizeof(*m->lines));
		m->lines[m->n++] = line;
	}
	if (m->n > 0)
		qsort(m->lines, m->n, sizeof(*m->lines), by_line);
}

/* "+id" or "-id", which may be changed in place; NULL: there is none. */
static char *
marks_find(const struct marks *m, const char *identifier)
{
	CLEANUP_FREE char *key = xasprintf("-%s", identifier);
	char **found = m->n == 0 ? NULL : bsearch(&key, m->lines, m->n, sizeof(*m->lines), by_line);

	return found != NULL ? *found : NULL;
}

static void
marks_release(struct marks *m)
{
	free(m->lines);
	free(m->text);
}

/* Known and selected here as it is there, unless an earlier import has said so already. */
static int
import_image(struct catalogue *c, int64_t subscription, const struct known_images *known,
	     const char *mark, struct source_image *image, struct import_list *result,
	     struct err *err)
{
	const struct known_image *row = known_find(known, image->identifier);
	bool select = image->selected && (mark == NULL || *mark != '+');

	if (!select && mark != NULL)
		return 0;
	result->images += mark == NULL;
	result->selected += select;
	if (row == NULL)
		return catalogue_image_wish(c, subscription, image->identifier, image->selected,
					    err);
	if (!select || row->selected)
		return 0;
	return catalogue_image_select(c, row->id, true, stamp_now(), err);
}

int
importimages(struct catalogue *c, int64_t subscription, const struct source_list *l,
	     struct import_list *result, bool *changed, struct err *err)
{
	CLEANUP_FREE char *key = xasprintf(IMPORT_NOTE "images %s", l->list_id);
	CLEANUP_BUF struct buf after = BUF_INIT;
	struct known_images known = { 0 };
	struct marks marks = { 0 };
	bool news = false;
	char *noted = NULL;
	int rc = known_load(&known, c, subscription, err);

	if (rc == 0)
		rc = catalogue_note_read(c, key, &noted, err);
	marks_load(&marks, noted);
	for (size_t i = 0; i < l->n_images && rc == 0; i++) {
		struct source_image *image = &l->images[i];
		char *mark = marks_find(&marks, image->identifier);

		rc = import_image(c, subscription, &known, mark, image, result, err);
		news = news || mark == NULL || (image->selected && *mark != '+');
		if (mark == NULL)
			buf_printf(&after, "%c%s\n", image->selected ? '+' : '-',
				   image->identifier);
		else if (image->selected)
			*mark = '+';
	}
	for (size_t i = 0; i < marks.n; i++)
		buf_printf(&after, "%s\n", marks.lines[i]);
	if (rc == 0 && news)
		rc = catalogue_note_set(c, key, buf_str(&after), err);
	*changed = *changed || news;
	marks_release(&marks);
	known_release(&known);
	return rc;
}
