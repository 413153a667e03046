/*
 * imagelist.h - a verified payload to an image list (HEPiX format: dc:, hv:, sl:, ad: keys).
 *
 * A malformed list or endorser part refuses the whole list; a malformed image refuses that image
 * alone.  Judging dates, versions and endorsers is not done here.  Pure: no I/O.
 */
#ifndef VMI_IMAGELIST_H
#define VMI_IMAGELIST_H

#include <stdbool.h>
#include <stddef.h>
#include "err.h"
#include "field.h"

struct imagelist_image {
	char *identifier;	/* "" if it had none */
	bool refused;		/* then code and error say why and meta is empty */
	enum code code;
	char *error;
	struct image_meta meta;
};

struct imagelist {
	char *identifier, *title, *description, *source, *version;
	char *uri;		/* without userinfo */
	char *vo;		/* "" if absent */
	char *dn, *ca;		/* hv:endorser / hv:x509 / hv:dn, hv:ca */
	int64_t created, expires;
	bool unwrapped;		/* the old form without hv:imagelist: accepted with a warning */
	struct imagelist_image *images;
	size_t n_images;
};

/*
 * Parses a payload.  Refusals: those of json_parse(), CODE_NOT_LIST (a required list or endorser
 * key is missing or of the wrong type, hv:endorser is an array), CODE_EXPIRED (34) for dates that
 * are not dates, CODE_IDENTIFIER for an unusable list identifier, CODE_LIMIT.  file_prefix NULL
 * refuses file:// images; otherwise they must lie under it (no "..").  Inside an image CODE_EXPIRED
 * (34) stands for a malformed entry, CODE_IDENTIFIER for an identifier that is empty, over
 * LIMIT_IDENTIFIER_BYTES, holds control characters, or would have the name of an earlier image
 * of the list in the mount.  Optional free text of a wrong type counts as absent; block digests
 * that are malformed refuse the image (imagekey.h).
 */
int imagelist_parse(const void *payload, size_t len, const char *file_prefix,
		    struct imagelist **out, struct err *err);
/*
 * With every image that any file_prefix lets in, also those that would have one name: which of them
 * stands depends on file_prefix.  To be compared with what was accepted once.
 */
int imagelist_parse_all(const void *payload, size_t len, struct imagelist **out, struct err *err);
void imagelist_free(struct imagelist *list);

#endif
