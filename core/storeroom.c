/*
 * How much room the store takes, and whether there is any for one image more.
 *
 * Nobody walks the store to learn that: what each digest takes is measured when something of it has
 * changed (store_measure()), by asking for the few names that it can have, and kept in the ledger.
 * A walk at the start, and one now and then, finds what others did behind our back.
 *
 * Before a transfer begins its room is promised to it (store_admit()), all of it, so that two of
 * them cannot both have the last gigabyte.  Where the file system reserves the room (fallocate) a
 * promise becomes blocks; elsewhere it goes on counting as far as it is not filled.
 *
 * Measured are allocated blocks, not lengths: that is what the disk loses.
 */
#include "config.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>

#include "cleanup.h"
#include "ledger.h"
#include "store_priv.h"
#include "storedir.h"
#include "verity.h"

enum {
	BLOCK = 4096,
	DEPTH_MAX = 32,		/* of directories in lost+found */
};

/* ---- measuring ------------------------------------------------------------------------------- */

/*
 * Bytes of one file; *known is false when that cannot be said, as of a disk that fails: then what
 * was measured before stands.
 */
static int64_t
bytes_of(int dir, const char *name, bool *there, bool *known)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		*known = *known && (errno == ENOENT || errno == ENOTDIR);
		return 0;
	}
	if (there != NULL)
		*there = S_ISREG(st.st_mode);
	return S_ISREG(st.st_mode) ? (int64_t)st.st_blocks * 512 : 0;
}

static int64_t
bytes_beside(int dir, const char *hex, const char *suffix, bool *known)
{
	char name[STORE_SIDE_MAX + 1];

	store_side_name(name, hex, suffix);
	return bytes_of(dir, name, NULL, known);
}

static bool
measure_object(struct store *s, const char *hex, struct ledger_entry *e)
{
	CLEANUP_FD int shard = store_shard(s, hex, false);
	bool known = true;

	e->stored = false;
	e->object = 0;
	if (shard < 0)
		return shard == -ENOENT || shard == -ENOTDIR || shard == -ELOOP;
	e->object = bytes_of(shard, hex, &e->stored, &known);
	e->object += bytes_beside(shard, hex, STORE_TREE, &known);
	return known;
}

static bool
measure_partial(struct store *s, const char *hex, struct ledger_entry *e)
{
	static const char *const beside[] = { STORE_BLOCKS, STORE_TREE, STORE_MAP };
	bool known = true;

	e->partial = bytes_of(s->partial, hex, NULL, &known);
	for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++)
		e->partial += bytes_beside(s->partial, hex, beside[i], &known);
	return known;
}

/* The lock is held. */
static void
measure(struct store *s, const struct digest *d)
{
	struct ledger_entry e = ledger_get(s->ledger, d);
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	if (!measure_object(s, hex, &e) || !measure_partial(s, hex, &e))
		return;
	/* The promise was kept: from this moment on the object is what counts. */
	if (e.stored)
		e.promised = 0;
	ledger_set(s->ledger, d, &e);
}

void
store_measure(struct store *s, const struct digest *d)
{
	pthread_mutex_lock(&s->room);
	if (s->ledger != NULL)
		measure(s, d);
	pthread_mutex_unlock(&s->room);
}

/* ---- quarantine and lost+found --------------------------------------------------------------- */

struct pile {
	int64_t bytes;
	int depth;
};

static int
add_to_pile(void *arg, int dir, const char *name)
{
	struct pile *pile = arg;
	struct stat st;
	int sub;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	if (S_ISREG(st.st_mode))
		pile->bytes += (int64_t)st.st_blocks * 512;
	if (!S_ISDIR(st.st_mode) || pile->depth >= DEPTH_MAX)
		return 0;
	sub = storedir_enter(dir, name, false);
	if (sub < 0)
		return 0;
	pile->depth++;
	storedir_each(sub, add_to_pile, pile);
	pile->depth--;
	close_keep_errno(sub);
	return 0;
}

static int64_t
pile_bytes(int dir)
{
	struct pile pile = { 0, 0 };

	storedir_each(dir, add_to_pile, &pile);
	return pile.bytes;
}

/* The lock is held. */
static void
settle(struct store *s)
{
	if (atomic_exchange(&s->quarantine_changed, false))
		s->quarantine_bytes = pile_bytes(s->quarantine);
	if (atomic_exchange(&s->lost_changed, false))
		s->lost_bytes = pile_bytes(s->lost);
}

/* ---- counting all of it ---------------------------------------------------------------------- */

static void
note_name(struct ledger *found, const char *name)
{
	struct ledger_entry seen = { .stored = true };
	char hex[DIGEST_HEX + 1];
	struct digest d;

	snprintf(hex, sizeof(hex), "%.*s", DIGEST_HEX, name);
	if (digest_parse(hex, &d))
		ledger_set(found, &d, &seen);
}

static int
note_partial(void *arg, int dir, const char *name)
{
	(void)dir;
	note_name(arg, name);
	return 0;
}

static int
note_shard(void *arg, int dir, const char *name)
{
	CLEANUP_FD int shard = -1;

	if (strlen(name) != 2)
		return 0;
	shard = storedir_enter(dir, name, false);
	return shard < 0 ? 0 : storedir_each(shard, note_partial, arg);
}

static void
measure_one(void *arg, const struct digest *d)
{
	measure(arg, d);
}

int
store_recount(struct store *s, struct err *err)
{
	struct ledger *found = ledger_new();
	int rc = storedir_each(s->objects, note_shard, found);

	if (rc == 0)
		rc = storedir_each(s->partial, note_partial, found);
	if (rc != 0) {
		errno = -rc;
		err_set(err, errno, "cannot count what '%s' holds: %m", s->path);
	} else {
		pthread_mutex_lock(&s->room);
		if (s->ledger == NULL)
			s->ledger = ledger_new();
		/* Those that are gone, too. */
		ledger_each(s->ledger, measure_one, s);
		ledger_each(found, measure_one, s);
		atomic_store(&s->quarantine_changed, true);
		atomic_store(&s->lost_changed, true);
		settle(s);
		pthread_mutex_unlock(&s->room);
	}
	ledger_free(found);
	return rc;
}

static int
counted(struct store *s, struct err *err)
{
	bool done;

	pthread_mutex_lock(&s->room);
	done = s->ledger != NULL;
	pthread_mutex_unlock(&s->room);
	return done ? 0 : store_recount(s, err);
}

/* ---- what there is --------------------------------------------------------------------------- */

int
store_room(struct store *s, struct store_usage *out, struct err *err)
{
	int percent = atomic_load(&s->min_free_percent);
	struct ledger_totals t;
	struct statvfs fs;
	int rc = counted(s, err);

	memset(out, 0, sizeof(*out));
	if (rc != 0)
		return rc;
	if (fstatvfs(s->root, &fs) != 0)
		return err_set(err, errno, "cannot ask for the free space of '%s': %m", s->path);
	pthread_mutex_lock(&s->room);
	settle(s);
	t = ledger_totals(s->ledger);
	out->quarantine = s->quarantine_bytes;
	out->lost_found = s->lost_bytes;
	pthread_mutex_unlock(&s->room);
	out->fs_total = (int64_t)(fs.f_blocks * fs.f_frsize);
	out->fs_free = (int64_t)(fs.f_bavail * fs.f_frsize);
	out->objects = t.objects;
	out->partial = t.partial;
	out->promised = t.promised;
	out->n_objects = t.n_objects;
	out->limit = atomic_load(&s->limit);
	out->keep_free = percent >= 0 ? out->fs_total / 100 * percent : atomic_load(&s->min_free);
	return 0;
}

struct store_bytes
store_bytes(struct store *s, const struct digest *d)
{
	struct ledger_entry e = { 0 };

	pthread_mutex_lock(&s->room);
	if (s->ledger != NULL)
		e = ledger_get(s->ledger, d);
	pthread_mutex_unlock(&s->room);
	e.promised = e.promised > e.partial ? e.promised - e.partial : 0;
	return (struct store_bytes){ e.object, e.partial, e.promised, e.stored };
}

/* ---- is there room? -------------------------------------------------------------------------- */

static int64_t
whole_blocks(int64_t bytes)
{
	return (bytes + BLOCK - 1) / BLOCK * BLOCK;
}

int64_t
store_charge(int64_t size)
{
	struct verity_shape shape;
	int64_t tree = verity_shape_init(&shape, size) ? shape.total : 0;

	return whole_blocks(size) + whole_blocks(tree);
}

static int
say_limit(const struct store *s, const struct store_usage *u, int64_t need, struct err *err)
{
	if (need > u->limit)
		return err_refuse(err, CODE_FULL, "no room in '%s': %lld bytes are needed, and "
				  "cache_size is %lld", s->path, (long long)need,
				  (long long)u->limit);
	return err_refuse(err, CODE_FULL, "no room in '%s': %lld bytes are needed, and %lld of "
			  "the %lld of cache_size are in use", s->path, (long long)need,
			  (long long)store_used(u), (long long)u->limit);
}

static int
say_keep_free(const struct store *s, const struct store_usage *u, int64_t need, struct err *err)
{
	return err_refuse(err, CODE_FULL, "no room in '%s': %lld bytes needed, %lld free, "
			  "%lld to be kept free (cache_min_free)", s->path, (long long)need,
			  (long long)u->fs_free, (long long)u->keep_free);
}

/* For an image of which e is here; what e was promised is part of what is promised in all. */
static int
judge(const struct store *s, const struct store_usage *u, const struct ledger_entry *e,
      int64_t charge, int64_t *lacking, struct err *err)
{
	int64_t missing = charge > e->partial ? charge - e->partial : 0;
	int64_t promised = e->promised > e->partial ? e->promised - e->partial : 0;
	int64_t over = store_used(u) - promised + missing - u->limit;
	int64_t below = u->keep_free + (u->promised - promised) + missing - u->fs_free;
	bool no_limit = u->limit == 0 || missing <= promised;
	int64_t need = no_limit || over < 0 ? 0 : over;

	if (below > need)
		need = below;
	if (lacking != NULL)
		*lacking = need;
	if (need <= 0)
		return 0;
	if (!no_limit && over > 0)
		return say_limit(s, u, charge, err);
	return say_keep_free(s, u, missing, err);
}

static int
look(struct store *s, const struct digest *d, int64_t size, bool promise, int64_t *lacking,
     struct err *err)
{
	int64_t charge = store_charge(size);
	struct store_usage u;
	struct ledger_entry e;
	int rc = store_room(s, &u, err);

	if (rc != 0)
		return rc;
	pthread_mutex_lock(&s->room);
	e = ledger_get(s->ledger, d);
	rc = judge(s, &u, &e, charge, lacking, err);
	if (rc == 0 && promise) {
		e.promised = charge;
		ledger_set(s->ledger, d, &e);
	}
	pthread_mutex_unlock(&s->room);
	return rc;
}

int
store_admit(struct store *s, const struct digest *d, int64_t size, int64_t *lacking,
	    struct err *err)
{
	return look(s, d, size, true, lacking, err);
}

int
store_fits(struct store *s, const struct digest *d, int64_t size, struct err *err)
{
	return look(s, d, size, false, NULL, err);
}

int64_t
store_lacks(struct store *s, const struct digest *d, int64_t size)
{
	int64_t lacking = 0;

	(void)look(s, d, size, false, &lacking, NULL);
	return lacking > 0 ? lacking : 0;
}

void
store_dismiss(struct store *s, const struct digest *d)
{
	struct ledger_entry e;

	pthread_mutex_lock(&s->room);
	if (s->ledger != NULL) {
		e = ledger_get(s->ledger, d);
		e.promised = 0;
		ledger_set(s->ledger, d, &e);
		measure(s, d);
	}
	pthread_mutex_unlock(&s->room);
}
