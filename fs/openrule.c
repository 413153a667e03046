/*
 * openrule.c - whether an image file may be opened now.
 */
#include "config.h"
#include "fs/openrule.h"

#include <errno.h>

int
openrule_decide(const struct object_row *row, const struct tree_object_slot *slot, int64_t now,
		bool expired_deny)
{
	bool verified = row->state == OBJECT_VERIFIED;
	bool expired = row->access == ACCESS_EXPIRED;

	if (row->access == ACCESS_DISTRUSTED)
		return -EKEYREJECTED;
	if (slot == NULL)
		return -ESTALE;
	/* The date is judged by the clock of this moment, whenever the rows will follow. */
	if (slot->expires > 0 && now >= slot->expires)
		expired = true;
	/* What is expired is not fetched any more. */
	if (expired)
		return expired_deny || !verified ? -EKEYEXPIRED : 0;
	/* Nobody asked for it, so nobody fetches it. */
	return verified || row->wanted ? 0 : -ENOENT;
}
