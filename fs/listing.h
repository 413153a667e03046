/*
 * listing.h - the names that a directory of one row has, as tables.
 */
#ifndef VMI_LISTING_H
#define VMI_LISTING_H

#include <stddef.h>
#include <sys/stat.h>

struct listing {
	const char *name;
	unsigned field;		/* of the node */
	mode_t type;		/* S_IFREG, S_IFLNK or S_IFDIR */
};

/*
 * Entry number i: 1 and *out, 0 where the field table has a field without a file, -1 past the
 * end.  Whether the entry is there now (`pending`, `image`) is not the listing's business.
 */
int listing_root(size_t i, struct listing *out);
int listing_image(size_t i, struct listing *out);
int listing_expired(size_t i, struct listing *out);
int listing_sub(size_t i, struct listing *out);
int listing_refused(size_t i, struct listing *out);
int listing_endorser(size_t i, struct listing *out);

#endif
