/*
 * listfile.h - the files of tests/data/lists.
 */
#ifndef VMI_TEST_LISTFILE_H
#define VMI_TEST_LISTFILE_H

#include <stdio.h>
#include <stdlib.h>

#include "core/buf.h"

/* Fills out with the bytes of the file; ends the test program if there is none. */
static inline void
listfile_load(const char *name, struct buf *out)
{
	const char *srcdir = getenv("srcdir");
	char block[4096];
	char path[512];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/data/lists/%s", srcdir != NULL ? srcdir : ".", name);
	f = fopen(path, "rb");
	if (f == NULL) {
		perror(path);
		exit(99);
	}
	buf_init(out);
	while ((n = fread(block, 1, sizeof(block), f)) > 0)
		buf_add(out, block, n);
	fclose(f);
}

#endif
