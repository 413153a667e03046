#include "config.h"
#include "conffile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "io.h"
#include "limits.h"

static char *
trim(char *text)
{
	char *end;

	text += strspn(text, " \t");
	end = text + strlen(text);
	while (end > text && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		end--;
	*end = '\0';
	return text;
}

/*
 * A '#' begins a comment at the start of a line or of a value, and after white space; elsewhere
 * it is a character.
 */
static void
cut_comment(char *line)
{
	const char *equals = strchr(line, '=');

	for (char *p = line; *p != '\0'; p++) {
		if (*p == '#' &&
		    (p == line || p[-1] == ' ' || p[-1] == '\t' || p - 1 == equals)) {
			*p = '\0';
			return;
		}
	}
}

static int
read_line(const char *file, unsigned n, char *line, conffile_fn *fn, void *arg, struct err *err)
{
	char *equals, *key;
	int rc;

	for (const char *p = line; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 && *p != '\t' && !(*p == '\r' && p[1] == '\0'))
			return err_set(err, EINVAL, "%s:%u: control byte 0x%02x: "
				       "this is not a text file", file, n,
				       (unsigned)(unsigned char)*p);
	cut_comment(line);
	key = trim(line);
	if (*key == '\0')
		return 0;
	equals = strchr(key, '=');
	if (equals == NULL || equals == key)
		return err_set(err, EINVAL, "%s:%u: '%.100s' is not 'key = value'", file, n, key);
	*equals = '\0';
	rc = fn(arg, file, n, trim(key), trim(equals + 1), err);
	if (rc != 0)
		err_prefix(err, "%s:%u", file, n);
	return rc;
}

static int
check_file(const char *file, int fd, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return err_set(err, errno, "%s: %s", file, strerrordesc_np(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "%s: is a directory, not a configuration file", file);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s: is not a regular file", file);
	if (st.st_mode & S_IWOTH)
		return err_set(err, EPERM, "%s: is writable by everyone: run 'chmod o-w %s'", file,
			       file);
	if (st.st_size > LIMIT_CONFIG_BYTES)
		return err_set(err, EFBIG, "%s: is larger than %d bytes", file, LIMIT_CONFIG_BYTES);
	return 0;
}

int
conffile_read(const char *file, conffile_fn *fn, void *arg, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	CLEANUP_FD int fd = -1;
	unsigned n = 0;
	char *line, *next;
	int rc;

	/* O_NONBLOCK: a FIFO in place of the file must not hang us. */
	fd = io_openat(AT_FDCWD, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0 && errno == ENOENT)
		return err_set(err, ENOENT, "%s: no such configuration file", file);
	if (fd < 0)
		return err_set(err, errno, "%s: %s", file, strerrordesc_np(errno));
	rc = check_file(file, fd, err);
	if (rc != 0)
		return rc;
	rc = io_read_to_end(fd, LIMIT_CONFIG_BYTES, &text);
	if (rc != 0)
		return err_set(err, -rc, "%s: %s", file, strerrordesc_np(-rc));
	if (text.len > 0 && memchr(text.data, '\0', text.len) != NULL)
		return err_set(err, EINVAL, "%s: holds a NUL byte: this is not a text file", file);
	for (line = text.data; line != NULL && *line != '\0'; line = next) {
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		rc = read_line(file, ++n, line, fn, arg, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
is_dropin(const struct dirent *d)
{
	size_t len = strlen(d->d_name);

	return d->d_name[0] != '.' && len > 5 && strcmp(d->d_name + len - 5, ".conf") == 0;
}

/* Byte order: the same in every locale. */
static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int
conffile_read_dir(const char *dir, conffile_fn *fn, void *arg, struct err *err)
{
	struct dirent **names = NULL;
	int n, rc = 0;

	n = scandir(dir, &names, is_dropin, by_name);
	if (n < 0)
		return errno == ENOENT ? 0 :
		       err_set(err, errno, "%s: %s", dir, strerrordesc_np(errno));
	for (int i = 0; i < n; i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", dir, names[i]->d_name);

		if (rc == 0)
			rc = conffile_read(path, fn, arg, err);
		free(names[i]);
	}
	free(names);
	return rc;
}
