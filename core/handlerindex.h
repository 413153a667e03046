/*
 * handlerindex.h - the text of cache.index, as vmcatcher 0.6 wrote it: one JSON object, keys
 * sorted, indent 4, a blank behind each comma at the end of a line, no newline at the end of the
 * file.
 *
 * Left out: `message` (the whole list once more for each image) and `DownLoadTrys`, which nothing
 * but vmcatcher itself reads.  Text that is not ASCII stands as UTF-8.
 */
#ifndef VMI_HANDLERINDEX_H
#define VMI_HANDLERINDEX_H

#include <stddef.h>
#include "buf.h"
#include "digest.h"
#include "field.h"

/* The members of one entry. */
struct handlerindex_text {
	char *text;
	size_t split;			/* where msgHash has its place; 0: nowhere */
};

/* filename: the name in the directory; list_id: hv:imagelist.dc:identifier. */
void handlerindex_text_init(struct handlerindex_text *t, const struct image_meta *m,
			    const char *filename, const char *list_id);
void handlerindex_text_release(struct handlerindex_text *t);

/* In order of their keys: begin, add for each entry, end. */
void handlerindex_begin(struct buf *out);
/* message: SHA-512 of the signed list that the entry is from (NULL: not known). */
void handlerindex_add(struct buf *out, const char *key, const struct handlerindex_text *t,
		      const struct digest *message);
void handlerindex_end(struct buf *out);

#endif
