/*
 * readahead.h - how far the kernel reads ahead in a file of the mount.
 *
 * There is one number for the whole mount, and the kernel copies it into each file just after it
 * was opened: set before the answer to an open, it is that file's.  If two opens at once want it
 * differently, one of them may get the other's, which costs speed or traffic and nothing else.
 */
#ifndef VMI_READAHEAD_H
#define VMI_READAHEAD_H

enum {
	/* Eight granules, which are hashed by as many threads as there are. */
	READ_AHEAD_WHOLE_KIB = 2048,
	/* What is read beyond what is wanted is fetched: no more than half a granule. */
	READ_AHEAD_LAZY_KIB = 128,
};

struct readahead;

/* fd: of the attribute of the mount, or -1: then nothing is set; borrowed. */
struct readahead *readahead_new(int fd);
void readahead_free(struct readahead *r);	/* NULL is fine */

/* The next file to be opened has this one.  Any thread; NULL is fine. */
void readahead_set(struct readahead *r, unsigned kib);

#endif
