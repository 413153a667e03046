/*
 * conffile.h - the form of a configuration file: "key = value" lines and '#' comments.
 *
 * A file must be a regular one, at most LIMIT_CONFIG_BYTES, text, and not writable by others: who
 * may write it decides what the daemon trusts.  Links are followed.
 */
#ifndef VMI_CONFFILE_H
#define VMI_CONFFILE_H

#include "err.h"

/* What is done with one line; its error gets file and line put in front. */
typedef int conffile_fn(void *arg, const char *file, unsigned line, const char *key,
			const char *value, struct err *err);

/* One file; -ENOENT when it does not exist.  Stops at the first error. */
int conffile_read(const char *file, conffile_fn *fn, void *arg, struct err *err);

/* Every *.conf of a directory in the order of their names; a missing directory has none. */
int conffile_read_dir(const char *dir, conffile_fn *fn, void *arg, struct err *err);

#endif
