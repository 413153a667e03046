/*
 * importfiles.h - files of vmcatcher's cache directory become verified objects.
 *
 * They are copied, and what is written is what was hashed.  A link would be cheaper, but whoever
 * has the old file open could change the bytes after they were hashed.  The index (cache.index) is
 * not looked at: which file belongs to which image its name says, and whether it is that image its
 * SHA-512.
 */
#ifndef VMI_IMPORTFILES_H
#define VMI_IMPORTFILES_H

#include "core/err.h"
#include "ctl.h"

struct importfiles;

/*
 * Opens the directory with the caller's rights, and keeps them in a child that opens files for us
 * when we have become `user`.  Before any thread or catalogue.
 */
int importfiles_open(struct importfiles **out, const char *dir, struct err *err);
void importfiles_close(struct importfiles *f);		/* NULL is fine */

/*
 * A read-only descriptor on the regular file of that name and its size; -ENOENT: there is none.  It
 * is looked for in the directory, and in its subdirectory `cache`.
 */
int importfiles_get(struct importfiles *f, const char *identifier, int64_t *size, struct err *err);

/*
 * Copies the file, and keeps it as the object of this row; the store is ours.  CODE_SIZE,
 * CODE_DIGEST, CODE_BLOCK_DIGEST: it is not the signed one; CODE_FULL: no room.  Nothing is left
 * behind then.
 */
int importfiles_adopt(struct ctl *ctl, const char *name, int fd, int64_t size,
		      const struct object_row *row, struct err *err);

#endif
