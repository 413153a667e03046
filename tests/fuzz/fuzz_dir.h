/*
 * fuzz_dir.h - directories of a harness: what it reads from the source tree, and one of its own in
 * $TMPDIR, which goes when the process ends.
 */
#ifndef VMI_FUZZ_DIR_H
#define VMI_FUZZ_DIR_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "tests/lib/removetree.h"

/* A file of tests/; make sets srcdir, by hand harnesses run in the source tree.  Caller frees. */
static inline char *
fuzz_source(const char *name)
{
	const char *top = getenv("srcdir");

	return xasprintf("%s/tests/%s", top != NULL ? top : ".", name);
}

static char fuzz_own_dir[256];

static inline void
fuzz_remove_own_dir(void)
{
	remove_tree(fuzz_own_dir);
}

/* Made at the first call. */
static inline const char *
fuzz_dir(void)
{
	const char *tmp = getenv("TMPDIR");

	if (fuzz_own_dir[0] != '\0')
		return fuzz_own_dir;
	snprintf(fuzz_own_dir, sizeof(fuzz_own_dir), "%s/vmi-fuzz-XXXXXX",
		 tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(fuzz_own_dir) == NULL) {
		perror(fuzz_own_dir);
		abort();
	}
	atexit(fuzz_remove_own_dir);
	return fuzz_own_dir;
}

/* NAME of the own directory; caller frees. */
static inline char *
fuzz_path(const char *name)
{
	return xasprintf("%s/%s", fuzz_dir(), name);
}

/* Overwrites it, or makes it. */
static inline void
fuzz_put(const char *path, const void *data, size_t len)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || io_write_all(fd, data, len) != 0) {
		perror(path);
		abort();
	}
}

/* Appends a whole file to out. */
static inline void
fuzz_get(const char *path, struct buf *out)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || io_read_to_end(fd, 64 << 20, out) != 0) {
		perror(path);
		abort();
	}
}

#endif
