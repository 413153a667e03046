/*
 * statustext.h - the volatile files of the root: status, status.json, metrics, events, SHA512SUMS.
 */
#ifndef VMI_STATUSTEXT_H
#define VMI_STATUSTEXT_H

#include "core/buf.h"
#include "fs/context.h"

/* Appends the text; field is an enum root_entry.  Any thread; no database, no network. */
void statustext_make(struct fs_context *fs, const struct tree *t, unsigned field,
		     struct buf *out);

#endif
