#include "config.h"
#include "newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"

/* The directory and the name in it. */
static int
open_directory(struct newfile *f, const char *dest, const char *name, struct err *err)
{
	CLEANUP_FREE char *parent = xstrdup(dest);
	const char *where = dest;
	struct stat st;
	char *slash;

	if (stat(dest, &st) == 0 && S_ISDIR(st.st_mode)) {
		f->name = xstrdup(name);
	} else {
		slash = strrchr(parent, '/');
		f->name = xstrdup(slash != NULL ? slash + 1 : dest);
		if (slash == parent)
			slash++;
		if (slash != NULL)
			*slash = '\0';
		where = slash != NULL ? parent : ".";
	}
	if (f->name[0] == '\0')
		return err_set(err, EINVAL, "'%s' is no directory", dest);
	f->dir = io_openat(AT_FDCWD, where, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (f->dir < 0)
		return err_set(err, errno == ENOENT ? EINVAL : errno,
			       "cannot open directory '%s': %s", where, strerrordesc_np(errno));
	return 0;
}

/* A file without a name vanishes with us; where there are none it gets a name nobody uses. */
static int
open_temporary(struct newfile *f, struct err *err)
{
	f->fd = io_openat(f->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (f->fd >= 0)
		return 0;
	snprintf(f->temporary, sizeof(f->temporary), ".vmimagectl-%ld-%llx", (long)getpid(),
		 (unsigned long long)io_monotonic_ms());
	f->fd = io_openat(f->dir, f->temporary,
			  O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC, 0600);
	if (f->fd < 0) {
		f->temporary[0] = '\0';
		return err_set(err, errno, "cannot make a file beside '%s': %s", f->name,
			       strerrordesc_np(errno));
	}
	return 0;
}

int
newfile_open(struct newfile *f, const char *dest, const char *name, struct err *err)
{
	int rc;

	memset(f, 0, sizeof(*f));
	f->fd = f->dir = -1;
	rc = open_directory(f, dest, name, err);
	return rc == 0 ? open_temporary(f, err) : rc;
}

/*
 * Links our file without a name to .NAME.vmimagectl.  The name is made of that of the file so that
 * one that was left there by a crash goes with the next that is made; whoever does the same at the
 * same time has a whole file, too.
 */
static int
link_beside(struct newfile *f, const char *self, struct err *err)
{
	int n = snprintf(f->temporary, sizeof(f->temporary), ".%s.vmimagectl", f->name);

	if (n < 0 || (size_t)n >= sizeof(f->temporary))
		snprintf(f->temporary, sizeof(f->temporary), ".vmimagectl-%ld", (long)getpid());
	unlinkat(f->dir, f->temporary, 0);
	if (linkat(AT_FDCWD, self, f->dir, f->temporary, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	f->temporary[0] = '\0';
	return err_set(err, errno, "cannot name '%s': %s", f->name, strerrordesc_np(errno));
}

/*
 * 1: it has its name, and there was no other.  A rename replaces what has the name; a link does
 * not.
 */
static int
give_name(struct newfile *f, struct err *err)
{
	char self[32];

	if (f->temporary[0] != '\0')
		return 0;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
	if (linkat(AT_FDCWD, self, f->dir, f->name, AT_SYMLINK_FOLLOW) == 0)
		return 1;
	return link_beside(f, self, err);
}

int
newfile_publish(struct newfile *f, mode_t mask, struct err *err)
{
	int rc;

	if (fchmod(f->fd, 0666 & ~mask) != 0 || io_fsync(f->fd) != 0)
		return err_set(err, errno, "cannot finish '%s': %s", f->name,
			       strerrordesc_np(errno));
	rc = give_name(f, err);
	if (rc < 0)
		return rc;
	if (rc == 0 && renameat(f->dir, f->temporary, f->dir, f->name) != 0)
		return err_set(err, errno, "cannot name '%s': %s", f->name,
			       strerrordesc_np(errno));
	f->temporary[0] = '\0';
	if (io_fsync(f->dir) != 0)
		return err_set(err, errno, "cannot make '%s' durable: %s", f->name,
			       strerrordesc_np(errno));
	return 0;
}

void
newfile_release(struct newfile *f)
{
	if (f->temporary[0] != '\0')
		unlinkat(f->dir, f->temporary, 0);
	close_keep_errno(f->fd);
	close_keep_errno(f->dir);
	free(f->name);
	f->fd = f->dir = -1;
	f->name = NULL;
	f->temporary[0] = '\0';
}
