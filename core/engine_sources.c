/*
 * Where the bytes of an image, and of its tree, can come from.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int
add_source(void *arg, const char *uri, const char *list_id)
{
	struct sources *s = arg;

	if (strncmp(uri, "file:", 5) == 0 && !s->files_allowed)
		return 0;
	s->items = xrealloc(s->items, (s->n + 1) * sizeof(*s->items));
	s->items[s->n].uri = xstrdup(uri);
	s->items[s->n].list_id = xstrdup(list_id);
	s->n++;
	return 0;
}

void
engine_sources_release(struct sources *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->items[i].uri);
		free(s->items[i].list_id);
	}
	free(s->items);
	s->items = NULL;
	s->n = 0;
}

int
engine_sources(struct engine *e, const struct digest *d, struct sources *images,
	       struct sources *sidecars, struct err *err)
{
	/* file_prefix as it is set now, whatever it was when the list was imported. */
	bool files_allowed = engine_conf(e)->file_prefix != NULL;
	int rc;

	memset(images, 0, sizeof(*images));
	images->files_allowed = files_allowed;
	rc = catalogue_object_sources(e->catalogue, d, add_source, images, err);
	if (rc == 0 && images->n == 0)
		rc = err_set(err, ENOENT,
			     "no list that is in force names a place to fetch it from%s",
			     files_allowed ? "" : " (file:// needs file_prefix)");
	if (sidecars == NULL)
		return rc;
	memset(sidecars, 0, sizeof(*sidecars));
	sidecars->files_allowed = files_allowed;
	if (rc == 0)
		rc = catalogue_object_sidecars(e->catalogue, d, add_source, sidecars, err);
	return rc;
}
