/*
 * field.h - the one table of an image's fields.
 *
 * It drives the parsing of lists, the columns of rows, the variables of events, the files of
 * images/<id>/ and the output of commands.
 */
#ifndef VMI_FIELD_H
#define VMI_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "digest.h"

enum field_id {
	FIELD_ID, FIELD_TITLE, FIELD_DESCRIPTION, FIELD_VERSION, FIELD_COMMENTS, FIELD_OS,
	FIELD_OSVERSION, FIELD_ARCH, FIELD_HYPERVISOR, FIELD_FORMAT, FIELD_SIZE, FIELD_SHA512,
	FIELD_URI, FIELD_GROUP, FIELD_VO, FIELD_CREATED, FIELD_EXPIRES, FIELD_MPURI,
	N_FIELDS
};

enum field_type { FIELD_TEXT, FIELD_BYTES, FIELD_DIGEST, FIELD_DATE, FIELD_IMAGE_URI };

struct field {
	enum field_id id;
	const char *list_key;	/* in hv:image; NULL: from the list (vo) */
	const char *column;
	const char *variable;	/* VMCATCHER_EVENT_..., NULL if none */
	const char *file;	/* in images/<id>/, NULL if it has no file */
	enum field_type type;
	bool required;		/* in the list */
};

extern const struct field field_table[N_FIELDS];	/* indexed by enum field_id */

/*
 * What a signed list says of one image.  value[] holds every field as the text its file shows
 * (size in decimal, digest in lower case, dates normalised; empty string where absent); never
 * NULL after parsing.  created and expires fall back to the list's.
 */
struct image_meta {
	char *value[N_FIELDS];
	int64_t size;			/* bytes */
	struct digest sha512;
	int64_t created, expires;	/* seconds UTC; expires is the earlier of image and list */
	char *json;			/* the hv:image object as json_dump() writes it */
	/*
	 * sl:checksum:fsverity-sha512 and hv:fsverity:uri, both optional (see verity.h); without
	 * the second the sidecar lies at the image's URI and ".fsv".
	 */
	bool has_verity;
	struct digest verity;
	char *verity_uri;		/* "" if absent */
};

void image_meta_release(struct image_meta *m);	/* leaves it empty */

/*
 * VMCATCHER_EVENT_*='...' lines, shell-quoted, one variable a line, as vmcatcher's events carry
 * them: variables of empty fields are left out.  list_id adds IL_DC_IDENTIFIER, filename
 * FILENAME; NULL leaves them out.  Values are byte for byte what the list says.
 */
void image_meta_environment(const struct image_meta *m, const char *list_id,
			    const char *filename, struct buf *out);

#endif
