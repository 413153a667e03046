/*
 * json.h - strict JSON in (jansson behind it); jsonw.h is the way out.
 *
 * Reading: UTF-8 only, duplicate keys rejected, no NUL in strings, nothing after the document;
 * depth, keys and string lengths within limits.h.  Key order is kept.  Numbers outside int64 and
 * reals keep their kind but have no integer value.
 */
#ifndef VMI_JSON_H
#define VMI_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "err.h"
#include "jsonw.h"

enum json_kind {
	JSON_KIND_NULL, JSON_KIND_BOOL, JSON_KIND_INTEGER, JSON_KIND_REAL, JSON_KIND_STRING,
	JSON_KIND_ARRAY, JSON_KIND_OBJECT
};

struct json;	/* borrowed from its document unless stated otherwise */

/*
 * Parses one document, an object or an array.  Refusals: CODE_JSON (not JSON), CODE_JSON_STRICT
 * (duplicate key, invalid UTF-8, \u0000, a bare control byte in a string), CODE_LIMIT (more than
 * LIMIT_MESSAGE_BYTES, or a million values; depth, keys of one object, bytes of one string as it
 * is written).  The caller json_free()s *out.
 */
int json_parse(const void *data, size_t len, struct json **out, struct err *err);
/* The same for what we wrote: up to LIMIT_SITE_BYTES, and an escape makes six bytes of one. */
int json_parse_written(const void *data, size_t len, struct json **out, struct err *err);
void json_free(struct json *doc);

/*
 * NULL is allowed below: it is of kind NULL, has no members, and is neither string nor number.
 * json_string() and its like are names of jansson, hence "as".
 */
enum json_kind json_kind(const struct json *j);
/* The member with this key; NULL if there is none or the value is no object. */
const struct json *json_get(const struct json *object, const char *key);
size_t json_size(const struct json *array_or_object);		/* 0 for any other value */
const struct json *json_at(const struct json *array, size_t i);	/* NULL past the end */
const char *json_as_string(const struct json *j);		/* NULL if it is no string */
bool json_as_integer(const struct json *j, int64_t *value);	/* false if it is no integer */
bool json_as_boolean(const struct json *j, bool *value);

/* Calls fn for every member of an object in its order; never for anything else. */
void json_each(const struct json *object,
	       void (*fn)(void *arg, const char *key, const struct json *value), void *arg);

/*
 * Appends the value written out again: two-space indentation, keys in their order, strings and
 * numbers as they were (control characters escaped), no newline at the end.
 */
void json_dump(const struct json *j, struct buf *out);

#endif
