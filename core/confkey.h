/*
 * confkey.h - the table of configuration keys: name, default, where the value lives, how it is read
 * and shown.
 *
 * Defaults are text that goes through the same readers as the file, so that a default cannot be
 * something that the file could not say.
 */
#ifndef VMI_CONFKEY_H
#define VMI_CONFKEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "conf.h"
#include "err.h"

struct confkey {
	const char *name;
	const char *fallback;	/* as it would stand in a file */
	size_t offset;		/* of the value in struct conf */
	int (*set)(struct conf *conf, const struct confkey *key, const char *value,
		   struct err *err);
	void (*show)(const struct conf *conf, const struct confkey *key, struct buf *out);
	const char *none;	/* the word for "no value": NULL or 0 in struct conf */
	const char *const *words;
	int64_t min, max;
};

/* The table in its order; NULL behind its end. */
const struct confkey *confkey_at(size_t i);

/* NULL: there is no such key. */
const struct confkey *confkey_find(const char *name);

/* Whether it belongs to a feature that this version does not have. */
bool confkey_is_later(const char *name);

#endif
