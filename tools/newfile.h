/*
 * newfile.h - a file of the caller's that appears under its name when it is whole, or not at all.
 */
#ifndef VMI_NEWFILE_H
#define VMI_NEWFILE_H

#include <limits.h>
#include <sys/types.h>
#include "core/err.h"

struct newfile {
	int fd;			/* read and write; empty at first */
	int dir;
	char *name;		/* in dir */
	/* Its name in dir while it is written; empty: it has none. */
	char temporary[NAME_MAX + 1];
};

/*
 * dest is a file, or a directory, in which the file is called name.  Release it in every case.
 */
int newfile_open(struct newfile *f, const char *dest, const char *name, struct err *err);

/* Durable, with the mode that the caller's umask gives, in place of what had the name. */
int newfile_publish(struct newfile *f, mode_t mask, struct err *err);

/* What was not published goes. */
void newfile_release(struct newfile *f);

#endif
