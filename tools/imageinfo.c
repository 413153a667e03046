#include "config.h"
#include "imageinfo.h"

#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "core/cleanup.h"

static const char *
state_of(const struct object_look *object)
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

int
imageinfo_get(struct imageinfo *info, struct catalogue *c, const struct image_row *row,
	      bool rooted, struct err *err)
{
	struct object_look object;
	int rc;

	memset(info, 0, sizeof(*info));
	rc = catalogue_object_look(c, &row->meta.sha512, rooted, &object, err);
	info->state = row->selected ? "selected" : "available";
	if (row->selected && object.known) {
		info->state = state_of(&object);
		info->error = steal_ptr(&object.error);
	}
	info->used = object.used;
	if (object.has_root)
		digest_hex(&object.root, info->root);
	if (info->error == NULL)
		info->error = xstrdup("");
	object_look_release(&object);
	return rc;
}

void
imageinfo_release(struct imageinfo *info)
{
	free(info->error);
	info->error = NULL;
}
