#include "config.h"
#include "imageinfo.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"

static const char *
state_of(const struct object_row *object)
{
	switch (object->state) {
	case OBJECT_VERIFIED:
		return object->degraded ? "degraded" : "verified";
	case OBJECT_FAILED:
		return "failed";
	case OBJECT_MISSING:
		break;
	}
	return "selected";
}

void
imageinfo_get(struct imageinfo *info, struct catalogue *c, const struct image_row *row)
{
	struct object_row object = { 0 };

	memset(info, 0, sizeof(*info));
	info->state = row->selected ? "selected" : "available";
	if (catalogue_object_get(c, &row->meta.sha512, &object, NULL) == 0) {
		if (row->selected) {
			info->state = state_of(&object);
			info->error = xstrdup(object_row_error(&object));
		}
		if (object.has_root)
			digest_hex(&object.root, info->root);
	}
	object_row_release(&object);
	if (info->error == NULL)
		info->error = xstrdup("");
}

void
imageinfo_release(struct imageinfo *info)
{
	free(info->error);
	info->error = NULL;
}
