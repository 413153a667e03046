/*
 * removetree.h - takes away what a test has made.
 */
#ifndef VMI_TESTS_REMOVETREE_H
#define VMI_TESTS_REMOVETREE_H

#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

static inline int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

/* A directory with all below it, on its own file system. */
static inline int
remove_tree(const char *path)
{
	return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

#endif
