#include "config.h"
#include "imageinfo.h"

#include "core/buf.h"

const char *
imageinfo_state(struct catalogue *c, const struct image_row *row, char **error)
{
	struct object_row object = { 0 };
	const char *state = row->selected ? "selected" : "available";

	*error = NULL;
	if (row->selected && catalogue_object_get(c, &row->meta.sha512, &object, NULL) == 0) {
		if (object.state == OBJECT_VERIFIED)
			state = "verified";
		else if (object.state == OBJECT_FAILED)
			state = "failed";
		*error = xstrdup(object.error);
	}
	object_row_release(&object);
	if (*error == NULL)
		*error = xstrdup("");
	return state;
}
