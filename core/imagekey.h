/*
 * imagekey.h - single keys of an image, as lists and attestations write them.
 *
 * Each function reads one value and refuses what is malformed; the sentence names the key.  Pure.
 */
#ifndef VMI_IMAGEKEY_H
#define VMI_IMAGEKEY_H

#include <stdbool.h>
#include <stdint.h>
#include "digest.h"
#include "err.h"
#include "json.h"

/* dc:identifier (48): not empty, at most LIMIT_IDENTIFIER_BYTES, no control characters. */
int imagekey_identifier(const char *text, struct err *err);

/* hv:size (34): an integer or, as AppDB writes it, a string of digits. */
int imagekey_size(const struct json *value, int64_t *size, struct err *err);

/* sl:checksum:sha512 (34): 128 hexadecimal digits. */
int imagekey_sha512(const char *text, struct digest *out, struct err *err);

/*
 * sl:checksum:fsverity-sha512 and hv:fsverity:uri of an object (34).  The first is exactly 128
 * hexadecimal digits in lower case, the second an address as hv:uri may be (imageuri.h).  A key
 * that is there and malformed is refused, so that nobody is led silently from block digests to
 * none.  An address alone proves nothing and counts as absent.  *uri is "" if absent; caller
 * frees.  On refusal nothing is set.
 */
int imagekey_verity(const struct json *object, const char *file_prefix, bool *has_verity,
		    struct digest *verity, char **uri, struct err *err);

#endif
