/*
 * attestation.h - a verified payload to signed block digests of images (SECURITY.md, "Detached
 * attestation").
 *
 * What a list could have said of its images itself: the fs-verity digest for a SHA-512, and where
 * the sidecar is.  A malformed entry refuses that entry alone.  Who may say so is not judged here.
 * Pure: no I/O.
 */
#ifndef VMI_ATTESTATION_H
#define VMI_ATTESTATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "digest.h"
#include "err.h"

struct attestation_entry {
	char *identifier;	/* "" if it had none */
	bool refused;		/* then code and error say why; of the rest nothing counts */
	enum code code;
	char *error;
	struct digest sha512, verity;
	int64_t size;
	char *uri;		/* of the sidecar; "": at the image's URI and ".fsv" */
};

struct attestation {
	struct attestation_entry *entries;
	size_t n;
};

/*
 * Parses a payload: one object, or an array of them.  Refusals: those of json_parse(),
 * CODE_NOT_LIST for something else (an image list, too), CODE_LIMIT for more than
 * LIMIT_IMAGES_PER_LIST entries.
 * An entry is refused with CODE_EXPIRED (34) or CODE_IDENTIFIER as an image of a list is; of two
 * with one SHA-512 the second is.  file_prefix as imagelist_parse().
 */
int attestation_parse(const void *payload, size_t len, const char *file_prefix,
		      struct attestation **out, struct err *err);
/* As imagelist_parse_all(): no entry is refused for another one or for file_prefix. */
int attestation_parse_all(const void *payload, size_t len, struct attestation **out,
			  struct err *err);
void attestation_free(struct attestation *a);

/* One entry as it stands in a payload, to be signed.  uri NULL or "": none. */
struct jsonw;
void attestation_write(struct jsonw *w, const struct attestation_entry *e);

#endif
