/*
 * Walking the store: what is there, what is ours, and what is moved to lost+found.
 *
 * A call moves a bounded number of things so that 100,000 stray files do not hold up a start, but
 * it always looks at everything: a known object that was merely not reached would be taken for
 * lost.
 * What cannot be moved (a mount point, an immutable file) is told and passed over.  Directories
 * that we did not make are moved whole.
 *
 * One kind of file is removed, and not moved: what stands beside a digest that nobody knows (a
 * tree, a map) or was just being written (.new).  It is derived data, has no bytes of any image,
 * and can be made again.
 */
#include "config.h"
#include "store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "store_priv.h"
#include "storedir.h"

struct walk {
	struct store *s;
	const struct store_walk *ask;
	const char *place;	/* directory being listed, relative to cache_dir */
	size_t n_moved;
};

/* A digest as we write it: lower case. */
static bool
parse_own_name(const char *name, struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	if (!digest_parse(name, d))
		return false;
	digest_hex(d, hex);
	return strcmp(name, hex) == 0;
}

/* Always 0, so that the listing goes on. */
static int
move_aside(struct walk *w, int dir, const char *name)
{
	CLEANUP_FREE char *from = NULL, *path = NULL;
	char to[STORE_NAME_MAX + 1];
	int rc;

	if (w->n_moved >= w->ask->max_moves)
		return 0;
	from = xasprintf("%s%s%s", w->place, *w->place != '\0' ? "/" : "", name);
	rc = store_aside_lost(w->s, dir, name, to);
	if (rc == 0) {
		w->n_moved++;
		path = xasprintf("%s/%s", w->s->lost_name, to);
		if (w->ask->moved != NULL)
			w->ask->moved(w->ask->arg, from, path);
	} else if (rc != -ENOENT && w->ask->stuck != NULL) {
		w->ask->stuck(w->ask->arg, from, -rc);
	}
	return 0;
}

/* Always 0, so that the listing goes on. */
static int
remove_derived(struct walk *w, int dir, const char *name)
{
	if (w->n_moved >= w->ask->max_moves)
		return 0;
	/* A .new that is there while nobody has the lock is what a crash left. */
	pthread_mutex_lock(&w->s->side);
	if (unlinkat(dir, name, 0) == 0)
		w->n_moved++;
	pthread_mutex_unlock(&w->s->side);
	return 0;
}

struct entry {
	struct digest digest;
	const char *suffix;		/* what follows the digest in its name */
	int64_t size;
};

/*
 * Is dir/name a regular file whose name begins with a digest as we write it?  1, 0, or a negative
 * errno value: a disk that cannot be read now must not be a reason to move an object.
 */
static int
look_at(int dir, const char *name, struct entry *e)
{
	char hex[DIGEST_HEX + 1];
	struct stat st;

	snprintf(hex, sizeof(hex), "%.*s", DIGEST_HEX, name);
	if (!parse_own_name(hex, &e->digest))
		return 0;
	e->suffix = name + DIGEST_HEX;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : -errno;
	e->size = st.st_size;
	return S_ISREG(st.st_mode) ? 1 : 0;
}

static bool
is(const struct entry *e, const char *suffix)
{
	return strcmp(e->suffix, suffix) == 0;
}

static int
walk_object(void *arg, int dir, const char *name)
{
	struct walk *w = arg;
	const struct store_walk *ask = w->ask;
	struct entry e;
	int rc = look_at(dir, name, &e);

	if (rc < 0)
		return rc;
	if (rc == 0 || strncmp(name, strrchr(w->place, '/') + 1, 2) != 0)
		return move_aside(w, dir, name);
	if (is(&e, STORE_TREE STORE_NEW))
		return remove_derived(w, dir, name);
	if (is(&e, STORE_TREE)) {
		/* One without its object may belong to a partial file whose commit was cut. */
		if (ask->known_object(ask->arg, &e.digest) ||
		    ask->known_partial(ask->arg, &e.digest))
			return 0;
		return remove_derived(w, dir, name);
	}
	if (!is(&e, "") || !ask->known_object(ask->arg, &e.digest))
		return move_aside(w, dir, name);
	if (ask->found != NULL)
		ask->found(ask->arg, &e.digest, e.size);
	return 0;
}

static bool
is_shard_name(const char *name)
{
	return strlen(name) == 2 && strspn(name, "0123456789abcdef") == 2;
}

static int
walk_shard(void *arg, int dir, const char *name)
{
	CLEANUP_FREE char *place = xasprintf("objects/%s", name);
	CLEANUP_FD int shard = -1;
	struct walk *w = arg;
	const char *outer = w->place;
	int rc;

	if (!is_shard_name(name))
		return move_aside(w, dir, name);
	shard = storedir_enter(dir, name, false);
	if (shard == -ENOTDIR || shard == -ELOOP)
		return move_aside(w, dir, name);
	if (shard < 0)
		return shard == -ENOENT ? 0 : shard;
	w->place = place;
	rc = storedir_each(shard, walk_object, w);
	w->place = outer;
	return rc;
}

static int
walk_partial(void *arg, int dir, const char *name)
{
	struct walk *w = arg;
	struct entry e;
	bool bytes, derived;
	int rc = look_at(dir, name, &e);

	if (rc < 0)
		return rc;
	if (rc == 0)
		return move_aside(w, dir, name);
	bytes = is(&e, "") || is(&e, STORE_BLOCKS);
	derived = is(&e, STORE_TREE) || is(&e, STORE_MAP);
	if ((bytes || derived) && w->ask->known_partial(w->ask->arg, &e.digest))
		return 0;
	if (derived || is(&e, STORE_TREE STORE_NEW) || is(&e, STORE_MAP STORE_NEW))
		return remove_derived(w, dir, name);
	return move_aside(w, dir, name);
}

static int
walk_quarantine(void *arg, int dir, const char *name)
{
	return store_aside_is_quarantined(name) ? 0 : move_aside(arg, dir, name);
}

static int
walk_root(void *arg, int dir, const char *name)
{
	static const char *const ours[] = {
		STORE_MARKER, "objects", "partial", "quarantine", STORE_LOST_FOUND,
		STORE_LOST_FOUND_OTHER,
	};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		if (strcmp(name, ours[i]) == 0)
			return 0;
	}
	return move_aside(arg, dir, name);
}

int
store_reconcile(struct store *s, const struct store_walk *ask, struct err *err)
{
	const struct {
		const char *place;
		int dir;
		int (*fn)(void *arg, int dir, const char *name);
	} steps[] = {
		{ "objects", s->objects, walk_shard },
		{ "partial", s->partial, walk_partial },
		{ "quarantine", s->quarantine, walk_quarantine },
		{ "", s->root, walk_root },
	};
	struct walk w = { .s = s, .ask = ask };
	int rc = 0;

	assert(ask->max_moves > 0);
	io_drop_stale(s->root, STORE_MARKER);
	for (size_t i = 0; rc == 0 && i < sizeof(steps) / sizeof(steps[0]); i++) {
		w.place = steps[i].place;
		rc = storedir_each(steps[i].dir, steps[i].fn, &w);
	}
	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot look through '%s/%s': %m", s->path, w.place);
	}
	if (w.n_moved > 0)
		storedir_sync(s->lost);
	return (int)w.n_moved;
}

/* ---- usage ------------------------------------------------------------------------------- */

struct sum {
	int64_t bytes, n;
};

static int
sum_entry(void *arg, int dir, const char *name)
{
	struct sum *sum = arg;
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
		sum->bytes += (int64_t)st.st_blocks * 512;
		sum->n += strchr(name, '.') == NULL;	/* a tree counts with its object */
	}
	return 0;
}

static int
sum_shard(void *arg, int dir, const char *name)
{
	CLEANUP_FD int shard = -1;

	if (!is_shard_name(name))
		return 0;
	shard = storedir_enter(dir, name, false);
	return shard < 0 ? 0 : storedir_each(shard, sum_entry, arg);
}

int
store_usage(struct store *s, struct store_usage *out, struct err *err)
{
	struct sum objects = { 0, 0 }, partial = { 0, 0 }, quarantine = { 0, 0 }, lost = { 0, 0 };
	struct statvfs fs;

	memset(out, 0, sizeof(*out));
	if (fstatvfs(s->root, &fs) != 0)
		return err_set(err, errno, "cannot ask for the free space of '%s': %m", s->path);
	storedir_each(s->objects, sum_shard, &objects);
	storedir_each(s->partial, sum_entry, &partial);
	storedir_each(s->quarantine, sum_entry, &quarantine);
	storedir_each(s->lost, sum_entry, &lost);
	out->fs_total = (int64_t)(fs.f_blocks * fs.f_frsize);
	out->fs_free = (int64_t)(fs.f_bavail * fs.f_frsize);
	out->objects = objects.bytes;
	out->partial = partial.bytes;
	out->quarantine = quarantine.bytes;
	out->lost_found = lost.bytes;
	out->n_objects = objects.n;
	out->limit = atomic_load(&s->limit);
	return 0;
}
