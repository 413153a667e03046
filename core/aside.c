/*
 * Moving things aside: bytes that failed verification to quarantine/, whatever we did not put
 * there to lost+found/.
 *
 * quarantine/<hex>.<number>: LIMIT_QUARANTINE_FILES in all; of a digest one whole file, or the last
 * PIECES_KEPT bad blocks.  Numbers grow, so the lowest is the oldest.  They are our own downloads
 * and can be had again, so the bounds may delete them.
 *
 * lost+found/<number>-<old name>: never deleted by us.  The number makes the name unique; bytes
 * of the old name outside [A-Za-z0-9._+-] become '_'.
 */
#include "config.h"
#include "store.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "limits.h"
#include "store_priv.h"
#include "storedir.h"

enum {
	LOST_NAME_KEEP = 200,	/* bytes of the old name that are kept */
	LOST_TRIES = 1000,	/* numbers tried before giving up */
	PIECES_KEPT = 4,	/* bad blocks of one image */
	QUARANTINE_SCAN = 4 * LIMIT_QUARANTINE_FILES,	/* names looked at in one go */
};

/* ---- quarantine -------------------------------------------------------------------------- */

struct quarantined {
	char name[STORE_NAME_MAX + 1];
	int64_t number;
};

struct quarantine {
	struct quarantined files[QUARANTINE_SCAN];
	size_t n_files;
};

/* "<128 hex>.<number>" */
static bool
parse_quarantined(const char *name, struct quarantined *q)
{
	char hex[DIGEST_HEX + 1];
	struct digest d;
	char *end;

	if (strlen(name) < DIGEST_HEX + 2 || name[DIGEST_HEX] != '.' ||
	    !isdigit((unsigned char)name[DIGEST_HEX + 1]))
		return false;
	memcpy(hex, name, DIGEST_HEX);
	hex[DIGEST_HEX] = '\0';
	if (!digest_parse(hex, &d))
		return false;
	errno = 0;
	q->number = strtoll(name + DIGEST_HEX + 1, &end, 10);
	snprintf(q->name, sizeof(q->name), "%s", name);
	return errno == 0 && *end == '\0';
}

bool
store_aside_is_quarantined(const char *name)
{
	struct quarantined q;

	return parse_quarantined(name, &q);
}

static int
note_quarantined(void *arg, int dir, const char *name)
{
	struct quarantine *all = arg;

	(void)dir;
	if (all->n_files < QUARANTINE_SCAN &&
	    parse_quarantined(name, &all->files[all->n_files]))
		all->n_files++;
	return 0;
}

static int
older_first(const void *a, const void *b)
{
	const struct quarantined *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

/* Makes room for one file more with this digest, so that there are at most n_same of it. */
static int
thin_quarantine(struct store *s, const char *hex, size_t n_same, int64_t *next)
{
	CLEANUP_FREE struct quarantine *all = xcalloc(1, sizeof(*all));
	size_t left, same_left = 0;
	int rc;

	rc = storedir_each(s->quarantine, note_quarantined, all);
	if (rc != 0)
		return rc;
	qsort(all->files, all->n_files, sizeof(all->files[0]), older_first);
	*next = all->n_files > 0 ? all->files[all->n_files - 1].number + 1 : 1;
	left = all->n_files;
	for (size_t i = 0; i < all->n_files; i++)
		same_left += strncmp(all->files[i].name, hex, DIGEST_HEX) == 0;
	for (size_t i = 0; i < all->n_files; i++) {
		bool same = strncmp(all->files[i].name, hex, DIGEST_HEX) == 0;

		if ((!same || same_left < n_same) && left < LIMIT_QUARANTINE_FILES)
			continue;
		if (unlinkat(s->quarantine, all->files[i].name, 0) != 0)
			return -errno;
		left--;
		same_left -= same;
	}
	return 0;
}

/* Moves a regular file dir/name to quarantine/<hex>.<number>, drops the oldest over the bound. */
static int
store_aside_quarantine(struct store *s, int dir, const char *name, const char *hex)
{
	char to[DIGEST_HEX + 32];
	int64_t number;
	int rc;

	pthread_mutex_lock(&s->aside);
	rc = thin_quarantine(s, hex, 1, &number);
	if (rc == 0) {
		snprintf(to, sizeof(to), "%s.%lld", hex, (long long)number);
		rc = storedir_move(dir, name, s->quarantine, to);
	}
	atomic_store(&s->quarantine_changed, true);
	pthread_mutex_unlock(&s->aside);
	return rc;
}

/* Evidence, not data: nothing is synced. */
static int
write_quarantined(struct store *s, const char *name, const void *data, size_t len)
{
	CLEANUP_FD int fd = storedir_open(s->quarantine, name, O_WRONLY | O_CREAT | O_EXCL,
					  STORE_FILE_MODE);
	int rc = fd < 0 ? fd : io_write_all(fd, data, len);

	if (fd >= 0 && rc != 0)
		unlinkat(s->quarantine, name, 0);
	return rc;
}

int
store_quarantine_bytes(struct store *s, const struct digest *d, const void *data, size_t len,
		       struct err *err)
{
	char hex[DIGEST_HEX + 1], to[DIGEST_HEX + 32];
	int64_t number;
	int rc;

	digest_hex(d, hex);
	pthread_mutex_lock(&s->aside);
	rc = thin_quarantine(s, hex, PIECES_KEPT, &number);
	if (rc == 0) {
		snprintf(to, sizeof(to), "%s.%lld", hex, (long long)number);
		rc = write_quarantined(s, to, data, len);
	}
	atomic_store(&s->quarantine_changed, true);
	pthread_mutex_unlock(&s->aside);
	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot keep bad bytes of '%s' in quarantine: %m", hex);
	}
	return 0;
}

struct telling {
	void (*fn)(void *arg, const struct digest *d, int64_t number, int64_t bytes);
	void *arg;
};

static int
tell_quarantined(void *arg, int dir, const char *name)
{
	struct telling *t = arg;
	char hex[DIGEST_HEX + 1];
	struct quarantined q;
	struct digest d;
	struct stat st;

	if (!parse_quarantined(name, &q) || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	snprintf(hex, sizeof(hex), "%.*s", DIGEST_HEX, name);
	if (digest_parse(hex, &d))
		t->fn(t->arg, &d, q.number, (int64_t)st.st_blocks * 512);
	return 0;
}

int
store_quarantine_each(struct store *s,
		      void (*fn)(void *arg, const struct digest *d, int64_t number, int64_t bytes),
		      void *arg, struct err *err)
{
	struct telling t = { fn, arg };
	int rc = storedir_each(s->quarantine, tell_quarantined, &t);

	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot look through '%s/quarantine': %m", s->path);
	}
	return 0;
}

int
store_quarantine_drop(struct store *s, const struct digest *d, int64_t number, struct err *err)
{
	char hex[DIGEST_HEX + 1], name[DIGEST_HEX + 32];
	int rc = 0;

	digest_hex(d, hex);
	snprintf(name, sizeof(name), "%s.%lld", hex, (long long)number);
	pthread_mutex_lock(&s->aside);
	if (unlinkat(s->quarantine, name, 0) != 0 && errno != ENOENT)
		rc = -errno;
	atomic_store(&s->quarantine_changed, true);
	pthread_mutex_unlock(&s->aside);
	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot remove '%s/quarantine/%s': %m", s->path, name);
	}
	return 0;
}

/* ---- lost+found -------------------------------------------------------------------------- */

static int
note_highest(void *arg, int dir, const char *name)
{
	int64_t *next = arg;
	char *end;
	long long n;

	(void)dir;
	if (!isdigit((unsigned char)name[0]))
		return 0;
	errno = 0;
	n = strtoll(name, &end, 10);
	if (errno == 0 && *end == '-' && n < INT64_MAX / 2 && n >= *next)
		*next = n + 1;
	return 0;
}

static void
lost_name(int64_t number, const char *old, char to[STORE_NAME_MAX + 1])
{
	int len = snprintf(to, STORE_NAME_MAX + 1, "%lld-%.*s", (long long)number,
			   LOST_NAME_KEEP, old);

	for (int i = 0; i < len && to[i] != '\0'; i++) {
		unsigned char c = (unsigned char)to[i];

		if (c >= 0x80 || (!isalnum(c) && strchr("._+-", c) == NULL))
			to[i] = '_';
	}
}

int
store_aside_lost(struct store *s, int dir, const char *name, char to[STORE_NAME_MAX + 1])
{
	int rc = 0;

	pthread_mutex_lock(&s->aside);
	if (s->next_lost == 0) {
		s->next_lost = 1;
		rc = storedir_each(s->lost, note_highest, &s->next_lost);
	}
	for (int i = 0; rc == 0 && i < LOST_TRIES; i++) {
		lost_name(s->next_lost++, name, to);
		rc = storedir_move(dir, name, s->lost, to);
		if (rc != -EEXIST)
			break;
		rc = 0;
	}
	atomic_store(&s->lost_changed, true);
	pthread_mutex_unlock(&s->aside);
	return rc;
}

/* ---- either ------------------------------------------------------------------------------ */

int
store_aside_any(struct store *s, int dir, const char *name, const char *hex)
{
	char to[STORE_NAME_MAX + 1];
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISREG(st.st_mode))
		return store_aside_quarantine(s, dir, name, hex);
	return store_aside_lost(s, dir, name, to);
}

int
store_quarantine_object(struct store *s, const struct digest *d, struct err *err)
{
	CLEANUP_FD int shard = -1;
	char hex[DIGEST_HEX + 1], tree[STORE_SIDE_MAX + 1];
	int rc;

	digest_hex(d, hex);
	store_side_name(tree, hex, STORE_TREE);
	shard = store_shard(s, hex, false);
	if (shard == -ENOENT || shard == -ENOTDIR || shard == -ELOOP)
		return 0;
	rc = shard < 0 ? shard : store_aside_any(s, shard, hex, hex);
	if (rc == 0) {
		unlinkat(shard, tree, 0);
		rc = storedir_sync(shard);
	}
	store_measure(s, d);
	if (rc != 0) {
		errno = -rc;
		return err_set(err, errno, "cannot move object '%s' to quarantine: %m", hex);
	}
	return 0;
}
