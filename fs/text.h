/*
 * text.h - the text of every metadata file and the target of every link, from its record.
 *
 * Pure: the same record and field always give the same bytes, so that the size that getattr()
 * tells is what read() gives.  One value and a newline; an empty value is an empty file.
 */
#ifndef VMI_TEXT_H
#define VMI_TEXT_H

#include "core/buf.h"
#include "fs/node.h"
#include "fs/record.h"

const char *image_state_name(enum image_state s);

/* Appends the text; the field is that of the node id. */
void text_static(unsigned field, struct buf *out);		/* README */
void text_image(const struct tree_image *image, unsigned field, struct buf *out);
void text_expired(const struct tree_expired *expired, unsigned field, struct buf *out);
void text_sub(const struct tree_sub *sub, unsigned field, struct buf *out);
void text_refused(const struct tree_refused *refused, unsigned field, struct buf *out);
void text_endorser(const struct tree_endorser *endorser, unsigned field, struct buf *out);

/* What a job tells of itself: `progress`, and `pending` of an image that has one. */
void text_progress(int64_t bytes, int64_t total, struct buf *out);
void text_pending(const struct tree_image *image, int64_t bytes, struct buf *out);
void text_error(const char *sentence, struct buf *out);

/* The target of a link to an image file; up is "../" or "../../". */
void link_to_object(const char *up, const struct digest *d, struct buf *out);

#endif
