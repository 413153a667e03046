/*
 * handlerlink.c - names for event handlers.
 *
 * A symbolic link says of itself that it is ours.  A regular file does not, so there is a note on
 * each: a symbolic link DIR/.vmimagefs/<name> with the text
 *
 *	<device>:<inode>:<what>		in hexadecimal; what: "link" and the 128 digits of the
 *					image's digest, "copy" and the digits, or "empty"
 *
 * because a symbolic link is made in one step with its text, and no data of it can be lost by a
 * crash.  The device is that of the moment and means nothing later: the same disk can have another
 * number after a boot.  A file is that of its note if it has the inode, both have one device, and
 * it is as we make it.  In a copy of a site inodes are others; there a file that the note calls
 * empty, and is, is ours.
 * A file of ours gets its name so:
 *
 *	the file              -> .vmimagefs/~new.<pid>
 *	its note              -> .vmimagefs/<name>~next
 *	.vmimagefs/~new.<pid> -> <name>
 *	<name>~next           -> .vmimagefs/<name>
 *
 * At any moment one of both notes is right.  No name that safename.h makes begins with '~', or
 * has one before letters that are no hexadecimal digits.
 *
 * Hard links.  The object and the name are one file then: it has mode 0444, so that others can
 * read it and nobody who is not root writes to it by mistake.  What remains: root, and whoever
 * runs as `user` and changes the mode first, can change the object itself.  No reader of the
 * mount is given such bytes, because everything is hashed each time it is read; a handler would
 * be.
 */
#include "config.h"
#include "handlerlink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "cleanup.h"
#include "io.h"
#include "storedir.h"

#define NOTES ".vmimagefs"
#define BY_DIGEST "/by-sha512/"

enum {
	FILE_MODE = 0444,
	NOTE_MAX = 16 + 1 + 16 + 1 + 5 + DIGEST_HEX,
	CHUNK = 1 << 20,
};

struct handlerlink {
	char *path, *mountpoint;	/* mountpoint NULL: files */
	int dir, notes;
	int objects;			/* cache_dir/objects; -1 with a mount */
	bool adopt;
	char temp[32];			/* ~new.<pid>: the name in notes of what is being made */
};

enum made { MADE_EMPTY, MADE_LINK, MADE_COPY };
static const char *const made_words[] = { "empty", "link ", "copy " };

/* What a note says. */
struct note {
	ino_t ino;
	enum made made;
	struct digest digest;		/* unless it is empty */
};

/* What has a name now. */
struct seen {
	enum handlerlink_state state;
	struct stat st;			/* unless the name is free */
	struct note note;		/* of a file of ours; of a symbolic link its digest */
	int errnum;			/* not 0: it cannot be told, and is taken for foreign */
};

/* "'PATH/NAME': why" */
static int
say(const struct handlerlink *l, const char *name, int rc, const char *what, struct err *err)
{
	return err_set(err, -rc, "'%s/%s' cannot be %s: %s", l->path, name, what,
		       strerrordesc_np(-rc));
}

/* ---- opening --------------------------------------------------------------------------------- */

static int
open_notes(struct handlerlink *l, struct err *err)
{
	struct stat st;

	l->dir = io_openat(AT_FDCWD, l->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (l->dir < 0)
		return err_set(err, errno, "'%s' cannot be opened: %s", l->path,
			       strerrordesc_np(errno));
	if (mkdirat(l->dir, NOTES, 0755) != 0 && errno != EEXIST)
		return say(l, NOTES, -errno, "made", err);
	l->notes = storedir_open(l->dir, NOTES, O_RDONLY | O_DIRECTORY, 0);
	if (l->notes < 0 || fstat(l->notes, &st) != 0)
		return say(l, NOTES, l->notes < 0 ? l->notes : -errno, "opened", err);
	/*
	 * What is being made there would be somebody else's to exchange, and then to be given away.
	 */
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return err_set(err, EPERM, "'%s/" NOTES "' can be written by others than us: "
			       "remove it", l->path);
	return 0;
}

int
handlerlink_open(struct handlerlink **out, const struct handlerlink_config *config, struct err *err)
{
	struct handlerlink *l = xcalloc(1, sizeof(*l));
	CLEANUP_FREE char *objects = xasprintf("%s/objects", config->cache_dir);
	int rc;

	*out = NULL;
	l->path = xstrdup(config->path);
	l->mountpoint = xstrdup(config->mountpoint);
	l->adopt = config->adopt;
	l->dir = l->notes = l->objects = -1;
	snprintf(l->temp, sizeof(l->temp), "~new.%ld", (long)getpid());
	rc = open_notes(l, err);
	if (rc == 0 && l->mountpoint == NULL) {
		l->objects = io_openat(AT_FDCWD, objects, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
		if (l->objects < 0)
			rc = err_set(err, errno, "'%s' cannot be opened: %s", objects,
				     strerrordesc_np(errno));
	}
	if (rc == 0)
		*out = steal_ptr(&l);
	handlerlink_close(l);
	return rc;
}

void
handlerlink_close(struct handlerlink *l)
{
	if (l == NULL)
		return;
	close_keep_errno(l->objects);
	close_keep_errno(l->notes);
	close_keep_errno(l->dir);
	free(l->path);
	free(l->mountpoint);
	free(l);
}

bool
handlerlink_same(const struct handlerlink *a, const struct handlerlink *b)
{
	struct stat x, y;

	return fstat(a->dir, &x) == 0 && fstat(b->dir, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* ---- notes ----------------------------------------------------------------------------------- */

static char *
next_note(const char *name)
{
	return xasprintf("%s~next", name);
}

static void
note_text(const struct note *n, dev_t dev, char text[NOTE_MAX + 1])
{
	char hex[DIGEST_HEX + 1] = "";

	if (n->made != MADE_EMPTY)
		digest_hex(&n->digest, hex);
	snprintf(text, NOTE_MAX + 1, "%" PRIx64 ":%" PRIx64 ":%s%s", (uint64_t)dev,
		 (uint64_t)n->ino, made_words[n->made], hex);
}

static bool
note_parse(const char *text, struct note *n)
{
	size_t len;
	char *end;

	strtoull(text, &end, 16);	/* the device */
	if (end == text || *end != ':')
		return false;
	text = end + 1;
	n->ino = (ino_t)strtoull(text, &end, 16);
	if (end == text || *end != ':')
		return false;
	text = end + 1;
	n->made = text[0] == 'l' ? MADE_LINK : text[0] == 'c' ? MADE_COPY : MADE_EMPTY;
	len = strlen(made_words[n->made]);
	if (strncmp(text, made_words[n->made], len) != 0)
		return false;
	return n->made == MADE_EMPTY ? text[len] == '\0' : digest_parse(text + len, &n->digest);
}

/* As we make them; nothing is lost if it goes. */
static bool
is_as_made(const struct stat *st)
{
	return (st->st_mode & 07777) == FILE_MODE && st->st_uid == geteuid();
}

/* When a file is removed, the next one that somebody makes often gets its inode. */
static bool
is_file_of(const struct note *n, const struct stat *st)
{
	bool same = n->ino == st->st_ino;

	return n->made == MADE_EMPTY ? st->st_size == 0 && (same || is_as_made(st))
				     : same && is_as_made(st);
}

static bool
note_is_of(const struct handlerlink *l, const char *note, const struct stat *st, struct note *n)
{
	char text[NOTE_MAX + 2];
	ssize_t len = readlinkat(l->notes, note, text, sizeof(text) - 1);
	struct stat own;

	if (len <= 0 || fstatat(l->notes, note, &own, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	text[len] = '\0';
	if (!note_parse(text, n) || own.st_dev != st->st_dev)
		return false;
	return is_file_of(n, st);
}

static bool
find_note(const struct handlerlink *l, const char *name, const struct stat *st, struct note *n)
{
	CLEANUP_FREE char *next = next_note(name);

	return note_is_of(l, name, st, n) || note_is_of(l, next, st, n);
}

static void
forget(struct handlerlink *l, const char *name)
{
	CLEANUP_FREE char *next = next_note(name);

	unlinkat(l->notes, name, 0);
	unlinkat(l->notes, next, 0);
}

/* A note under the name it is to have until the file is in its place. */
static int
write_note(struct handlerlink *l, const char *next, const char *text)
{
	if (unlinkat(l->notes, next, 0) != 0 && errno != ENOENT)
		return -errno;
	return symlinkat(text, l->notes, next) != 0 ? -errno : 0;
}

/* ---- looking --------------------------------------------------------------------------------- */

/* Whether the text of a symbolic link is one that we write; then its digest. */
static bool
is_our_target(const char *text, struct digest *d)
{
	const char *at = strrchr(text, '/');
	const size_t len = sizeof(BY_DIGEST) - 1;

	return text[0] == '/' && at != NULL && (size_t)(at + 1 - text) >= len &&
	       memcmp(at + 1 - len, BY_DIGEST, len) == 0 && digest_parse(at + 1, d);
}

static enum handlerlink_state
look_link(const struct handlerlink *l, const char *name, struct seen *seen)
{
	char text[4096];
	ssize_t len = readlinkat(l->dir, name, text, sizeof(text) - 1);

	if (len < 0) {
		seen->errnum = errno;
		return HANDLERLINK_FOREIGN;
	}
	text[len] = '\0';
	return is_our_target(text, &seen->note.digest) ? HANDLERLINK_IMAGE : HANDLERLINK_FOREIGN;
}

static void
look(const struct handlerlink *l, const char *name, struct seen *seen)
{
	memset(seen, 0, sizeof(*seen));
	if (fstatat(l->dir, name, &seen->st, AT_SYMLINK_NOFOLLOW) != 0) {
		seen->errnum = errno == ENOENT ? 0 : errno;
		seen->state = errno == ENOENT ? HANDLERLINK_FREE : HANDLERLINK_FOREIGN;
		return;
	}
	if (S_ISLNK(seen->st.st_mode))
		seen->state = look_link(l, name, seen);
	else if (!S_ISREG(seen->st.st_mode) || !find_note(l, name, &seen->st, &seen->note))
		seen->state = HANDLERLINK_FOREIGN;
	else if (seen->note.made == MADE_EMPTY)
		seen->state = HANDLERLINK_EMPTY;
	else
		seen->state = HANDLERLINK_IMAGE;
}

enum handlerlink_state
handlerlink_look(const struct handlerlink *l, const char *name, struct digest *d)
{
	struct seen seen;

	look(l, name, &seen);
	*d = seen.note.digest;
	return seen.state;
}

static int
say_foreign(const struct handlerlink *l, const char *name, struct err *err)
{
	return err_set(err, EEXIST,
		       "'%s/%s' is not of vmimagefs' making and is left alone: move it away, and"
		       " the image can stand there", l->path, name);
}

/* ---- putting something in its place ---------------------------------------------------------- */

/* What was made under the temporary name gets the real one. */
static int
place(struct handlerlink *l, const char *name, bool replaces)
{
	if (replaces)
		return renameat(l->notes, l->temp, l->dir, name) != 0 ? -errno : 0;
	return storedir_move(l->notes, l->temp, l->dir, name);
}

static int
note_file(struct handlerlink *l, const char *next, const struct stat *st, struct note *n)
{
	char text[NOTE_MAX + 1];

	n->ino = st->st_ino;
	note_text(n, st->st_dev, text);
	return write_note(l, next, text);
}

static int
place_file(struct handlerlink *l, const char *name, struct note *n, bool replaces)
{
	CLEANUP_FREE char *next = next_note(name);
	struct stat st;
	int rc;

	if (fstatat(l->notes, l->temp, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	rc = note_file(l, next, &st, n);
	if (rc == 0)
		rc = place(l, name, replaces);
	if (rc == 0 && renameat(l->notes, next, l->notes, name) != 0)
		rc = -errno;
	return rc;
}

static int
place_symlink(struct handlerlink *l, const char *name, const char *target, bool replaces)
{
	int rc;

	if (symlinkat(target, l->notes, l->temp) != 0)
		return -errno;
	rc = place(l, name, replaces);
	if (rc == 0 && replaces)
		forget(l, name);
	return rc;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* -ENOENT: the object is not here, or not whole.  *shard is its directory. */
static int
find_object(struct handlerlink *l, const char *hex, int64_t size, int *shard, struct stat *st)
{
	const char ab[3] = { hex[0], hex[1], '\0' };

	*shard = storedir_enter(l->objects, ab, false);
	if (*shard < 0)
		return *shard;
	if (fstatat(*shard, hex, st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	return S_ISREG(st->st_mode) && st->st_size == size ? 0 : -ENOENT;
}

/* Appends what is read from one file to another, if to >= 0, and compares what was read. */
static int
hash_file(int from, int to, const struct digest *d)
{
	struct digest_state *state = digest_state_new();
	char *chunk = xmalloc(CHUNK);
	struct digest found;
	ssize_t n;
	int rc = 0;

	while ((n = io_read_full(from, chunk, CHUNK)) > 0 && rc == 0) {
		digest_state_add(state, chunk, (size_t)n);
		if (to >= 0)
			rc = io_write_all(to, chunk, (size_t)n);
	}
	if (n < 0)
		rc = (int)n;
	digest_state_end(state, &found);
	if (rc == 0 && !digest_equal(&found, d))
		rc = -EBADMSG;
	digest_state_free(state);
	free(chunk);
	return rc;
}

/* On disk before it has a name: by its note it would count as good after a crash. */
static int
copy_object(struct handlerlink *l, int shard, const char *hex, const struct digest *d)
{
	CLEANUP_FD int from = storedir_open(shard, hex, O_RDONLY, 0), to = -1;
	int rc;

	if (from < 0)
		return from;
	to = storedir_open(l->notes, l->temp, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (to < 0)
		return to;
	rc = hash_file(from, to, d);
	if (rc == 0 && (fchmod(to, FILE_MODE) != 0 || io_fsync(to) != 0))
		rc = -errno;
	return rc;
}

static int
make_file(struct handlerlink *l, int shard, const char *hex, struct note *n)
{
	n->made = MADE_LINK;
	if (linkat(shard, hex, l->notes, l->temp, 0) == 0)
		return fchmodat(l->notes, l->temp, FILE_MODE, 0) != 0 ? -errno : 0;
	/* Another file system; one without hard links; too many of them; not ours to link. */
	if (errno != EXDEV && errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK)
		return -errno;
	n->made = MADE_COPY;
	return copy_object(l, shard, hex, &n->digest);
}

static int
make_empty(struct handlerlink *l)
{
	CLEANUP_FD int fd = storedir_open(l->notes, l->temp, O_WRONLY | O_CREAT | O_EXCL, 0600);

	if (fd < 0)
		return fd;
	return fchmod(fd, FILE_MODE) != 0 ? -errno : 0;
}

/* ---- what is in the way ---------------------------------------------------------------------- */

/* Whether a file that somebody else made holds the very bytes. */
static bool
has_bytes(struct handlerlink *l, const char *name, const struct digest *d, int64_t size)
{
	CLEANUP_FD int fd = storedir_open(l->dir, name, O_RDONLY, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == size &&
	       hash_file(fd, -1, d) == 0;
}

/* d NULL: an empty file.  0: the name is free or may be replaced. */
static int
judge(struct handlerlink *l, const char *name, const struct seen *seen, const struct digest *d,
      int64_t size, struct err *err)
{
	if (seen->state != HANDLERLINK_FOREIGN)
		return 0;
	if (d != NULL && l->adopt && has_bytes(l, name, d, size))
		return 0;
	return say_foreign(l, name, err);
}

/* ---- the things to do ------------------------------------------------------------------------ */

static int
show_symlink(struct handlerlink *l, const char *name, const struct digest *d, int64_t size,
	     struct err *err)
{
	char hex[DIGEST_HEX + 1], old[4096];
	CLEANUP_FREE char *target = NULL;
	struct seen seen;
	ssize_t len;
	int rc;

	digest_hex(d, hex);
	target = xasprintf("%s" BY_DIGEST "%s", l->mountpoint, hex);
	len = readlinkat(l->dir, name, old, sizeof(old) - 1);
	if (len > 0 && (size_t)len == strlen(target) && memcmp(old, target, (size_t)len) == 0)
		return 0;
	look(l, name, &seen);
	rc = judge(l, name, &seen, d, size, err);
	if (rc != 0)
		return rc;
	rc = place_symlink(l, name, target, seen.state != HANDLERLINK_FREE);
	return rc != 0 ? say(l, name, rc, "linked", err) : 0;
}

/*
 * A copy stays good when the object is fetched again; a hard link then is one to the file before,
 * which may have been put aside because it was bad.
 */
static bool
shows_file(const struct seen *seen, const struct stat *object, const struct digest *d)
{
	if (seen->state != HANDLERLINK_IMAGE || !S_ISREG(seen->st.st_mode))
		return false;
	if (seen->note.made == MADE_LINK)
		return seen->st.st_dev == object->st_dev && seen->st.st_ino == object->st_ino;
	return digest_equal(&seen->note.digest, d) && seen->st.st_size == object->st_size;
}

/* The object's own file without a note: a crash took the note, or an admin made the link. */
static bool
is_unnoted_link(const struct seen *seen, const struct stat *object)
{
	return seen->state == HANDLERLINK_FOREIGN && S_ISREG(seen->st.st_mode) &&
	       seen->st.st_dev == object->st_dev && seen->st.st_ino == object->st_ino;
}

static int
put_file(struct handlerlink *l, int shard, const char *name, struct note *n, bool replaces)
{
	char hex[DIGEST_HEX + 1];
	int rc;

	digest_hex(&n->digest, hex);
	rc = make_file(l, shard, hex, n);
	if (rc == 0)
		rc = place_file(l, name, n, replaces);
	if (rc != 0)
		unlinkat(l->notes, l->temp, 0);
	return rc;
}

static int
show_file(struct handlerlink *l, const char *name, const struct digest *d, int64_t size,
	  struct err *err)
{
	struct note n = { .made = MADE_LINK, .digest = *d };
	CLEANUP_FD int shard = -1;
	char hex[DIGEST_HEX + 1];
	struct stat object;
	struct seen seen;
	int rc;

	digest_hex(d, hex);
	rc = find_object(l, hex, size, &shard, &object);
	if (rc != 0)
		return err_set(err, -rc, "'%s/%s' cannot be made: object '%s': %s", l->path, name,
			       hex, strerrordesc_np(-rc));
	look(l, name, &seen);
	if (shows_file(&seen, &object, d))
		return 0;
	if (is_unnoted_link(&seen, &object)) {
		rc = note_file(l, name, &object, &n);
	} else {
		rc = judge(l, name, &seen, d, size, err);
		if (rc != 0)
			return rc;
		rc = put_file(l, shard, name, &n, seen.state != HANDLERLINK_FREE);
	}
	return rc != 0 ? say(l, name, rc, "made", err) : 0;
}

int
handlerlink_image(struct handlerlink *l, const char *name, const struct digest *d, int64_t size,
		  struct err *err)
{
	unlinkat(l->notes, l->temp, 0);
	return l->mountpoint != NULL ? show_symlink(l, name, d, size, err)
				     : show_file(l, name, d, size, err);
}

int
handlerlink_empty(struct handlerlink *l, const char *name, struct err *err)
{
	struct note n = { .made = MADE_EMPTY };
	struct seen seen;
	int rc;

	look(l, name, &seen);
	if (seen.state == HANDLERLINK_EMPTY)
		return 0;
	rc = judge(l, name, &seen, NULL, 0, err);
	if (rc != 0)
		return rc;
	unlinkat(l->notes, l->temp, 0);
	rc = make_empty(l);
	if (rc == 0)
		rc = place_file(l, name, &n, seen.state != HANDLERLINK_FREE);
	if (rc != 0)
		unlinkat(l->notes, l->temp, 0);
	return rc != 0 ? say(l, name, rc, "made", err) : 0;
}

int
handlerlink_drop(struct handlerlink *l, const char *name, struct err *err)
{
	struct seen seen;

	look(l, name, &seen);
	if (seen.errnum != 0)
		return say(l, name, -seen.errnum, "looked at", err);
	/* The note stays, too, in case it could not be read only now; sweeping looks again. */
	if (seen.state == HANDLERLINK_FOREIGN)
		return 0;
	if (seen.state != HANDLERLINK_FREE && unlinkat(l->dir, name, 0) != 0 && errno != ENOENT)
		return say(l, name, -errno, "removed", err);
	forget(l, name);
	return 0;
}

/* ---- sweeping -------------------------------------------------------------------------------- */

struct sweep {
	struct handlerlink *l;
	bool (*wanted)(void *arg, const char *name);
	void *arg;
	struct err *err;
};

static int
sweep_name(void *arg, int dir, const char *name)
{
	struct sweep *s = arg;

	(void)dir;
	if (name[0] == '.' || s->wanted(s->arg, name))
		return 0;
	return handlerlink_drop(s->l, name, s->err);
}

/* Notes of names that are gone, and what a crash left of something that was being made. */
static int
sweep_note(void *arg, int dir, const char *note)
{
	struct sweep *s = arg;
	CLEANUP_FREE char *name = xstrdup(note);
	size_t len = strlen(name), tail = strlen("~next");
	struct stat st;

	if (len > tail && strcmp(name + len - tail, "~next") == 0)
		name[len - tail] = '\0';
	if (fstatat(s->l->dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
		unlinkat(dir, note, 0);
	return 0;
}

int
handlerlink_sweep(struct handlerlink *l, bool (*wanted)(void *arg, const char *name), void *arg,
		  struct err *err)
{
	struct sweep s = { .l = l, .wanted = wanted, .arg = arg, .err = err };
	int rc = storedir_each(l->dir, sweep_name, &s);

	if (rc == 0)
		rc = storedir_each(l->notes, sweep_note, &s);
	if (rc != 0 && (err == NULL || err->rc == 0))
		say(l, ".", rc, "read", err);
	return rc;
}

/* ---- index files ----------------------------------------------------------------------------- */

int
handlerlink_write(struct handlerlink *l, const char *name, const void *data, size_t len,
		  struct err *err)
{
	CLEANUP_FD int fd = -1;
	int rc;

	unlinkat(l->notes, l->temp, 0);
	rc = fd = storedir_open(l->notes, l->temp, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd >= 0) {
		rc = io_write_all(fd, data, len);
		if (rc == 0 && fchmod(fd, 0644) != 0)
			rc = -errno;
		if (rc == 0)
			rc = place(l, name, true);
	}
	if (rc != 0)
		unlinkat(l->notes, l->temp, 0);
	return rc != 0 ? say(l, name, rc, "written", err) : 0;
}
