/*
 * tarindex.h - where the members of an uncompressed tar lie, so that they can be shown as files.
 *
 * The caller reads (it may have to wait for the network, hence no callback): it asks where the
 * next block is, brings those 512 bytes, and so on to the end.  They come from bytes that are
 * verified, but an endorser may be careless or hostile: anything but plain regular files with
 * plain names (POSIX.1-1988 ustar, GNU's magic, or none; a size in octal or base 256) and
 * directories, which are passed over, refuses the whole archive, with the reason: absolute names,
 * "..", names with a directory before them, links, devices, sparse and long-name headers, pax
 * headers that change path, size or sparseness, sums that are wrong, members beyond the end, more
 * than LIMIT_TAR_MEMBERS or LIMIT_TAR_BLOCKS, two members of one name.  Whatever two tar programs
 * might read in two ways is refused, so that what is shown is what every one of them unpacks.
 */
#ifndef VMI_TARINDEX_H
#define VMI_TARINDEX_H

#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "err.h"

enum { TAR_BLOCK = 512 };

struct tar_member {
	char *name;			/* after tarindex_end() safe: one path component, unique */
	int64_t off, size;		/* bytes of the archive */
};

struct tarindex {
	int64_t archive;		/* its size, bytes */
	int64_t next;			/* -1: at the end */
	int n_zero;			/* zero blocks in a row: two are the end */
	int n_blocks;			/* that were taken */
	int64_t pax_left;		/* bytes of a pax header that are still to come */
	struct buf pax;
	struct tar_member *members;	/* after tarindex_end() in order of name */
	size_t n;
};

void tarindex_init(struct tarindex *t, int64_t archive_size);
void tarindex_release(struct tarindex *t);

/* Where the next TAR_BLOCK bytes are to be read; -1: all members are known. */
int64_t tarindex_next(const struct tarindex *t);
/* -EPROTO: refused, err says why; t is of no use any more but for tarindex_release(). */
int tarindex_take(struct tarindex *t, const unsigned char block[TAR_BLOCK], struct err *err);

/*
 * All members are known: makes their names safe (as those of titles are: safename.h) and puts them
 * in order.  `error' is never among them.  -EPROTO: there are none, or two are called the same.
 */
int tarindex_end(struct tarindex *t, struct err *err);

#endif
