/*
 * adopt.h - judging a file in the store by its own bytes.
 */
#ifndef VMI_ADOPT_H
#define VMI_ADOPT_H

#include <stdbool.h>
#include <stdint.h>
#include "digest.h"
#include "err.h"
#include "store.h"

/* Reads and hashes the object's file: true if size and SHA-512 are right.  Blocks for as long as that takes. */
bool adopt_object_good(struct store *s, const struct digest *d, int64_t size, struct err *err);

#endif
