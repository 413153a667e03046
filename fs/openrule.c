/*
 * openrule.c - whether an image file may be opened now.
 */
#include "config.h"
#include "fs/openrule.h"

#include <errno.h>

int
openrule_decide(const struct object_row *row, const struct tree_object_slot *slot, int64_t now,
		bool expired_deny, bool is_open)
{
	bool verified = row->state == OBJECT_VERIFIED;
	/* It goes on being fetched while it is open, and only then. */
	bool here = verified || (row->has_tree && is_open);
	bool expired = row->access == ACCESS_EXPIRED;

	if (row->access == ACCESS_DISTRUSTED)
		return -EKEYREJECTED;
	if (slot == NULL)
		return -ESTALE;
	/* The date is judged by the clock of this moment, whenever the rows will follow. */
	if (slot->expires > 0 && now >= slot->expires)
		expired = true;
	if (expired)
		return expired_deny || !here ? -EKEYEXPIRED : 0;
	/* Nobody asked for it, so nobody fetches it. */
	return here || row->wanted ? 0 : -ENOENT;
}
