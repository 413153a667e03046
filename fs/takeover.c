/*
 * One worker after the other.
 *
 * A tree is known by its fingerprint: a hash of what its rows would make the kernel remember.  The
 * last one that the kernel was told all about stands in the shared memory; when the first tree of a
 * new worker is another one, or notes were under way, or jobs, nobody can say what differs.  Then
 * the directories of the root are taken back, and the kernel lets go of what it remembers below
 * them.
 */
#include "config.h"
#include "fs/takeover.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/log.h"
#include "fs/handles.h"

enum { LEFT_MAX = 64 << 20 };	/* of texts that are open just then */

/* ---- trees ---------------------------------------------------------------------------------- */

/* FNV-1a, eight bytes at a time. */
static void
mix(uint64_t *h, uint64_t value)
{
	*h = (*h ^ value) * 0x100000001b3ULL;
	*h ^= *h >> 29;
}

static void
mix_record(uint64_t *h, const struct record *r)
{
	mix(h, (uint64_t)r->class);
	mix(h, r->row);
	mix(h, r->rev);
}

static void
mix_text(uint64_t *h, const char *text)
{
	for (; text != NULL && *text != '\0'; text++)
		mix(h, (unsigned char)*text);
}

static void
mix_objects(uint64_t *h, const struct tree *t)
{
	for (size_t i = 0; i < t->n_objects; i++) {
		const struct object_row *row = &t->objects[i].object->row;

		mix_record(h, &t->objects[i].object->base);
		mix(h, (uint64_t)row->state << 32 | (uint64_t)row->access << 16 |
		       (uint64_t)row->has_tree << 8 | (uint64_t)row->degraded << 4 |
		       (uint64_t)t->objects[i].listed);
		mix_text(h, row->error);
	}
}

static uint64_t
fingerprint(const struct tree *t)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	mix_objects(&h, t);
	for (size_t i = 0; i < t->n_images; i++) {
		mix_record(&h, &t->images[i].image->base);
		mix_text(&h, t->images[i].title_name);
		mix(&h, (uint64_t)t->images[i].cached << 32 | t->images[i].pending);
	}
	for (size_t i = 0; i < t->n_subs; i++)
		mix_record(&h, &t->subs[i]->base);
	for (size_t i = 0; i < t->n_endorsers; i++)
		mix_record(&h, &t->endorsers[i]->base);
	for (size_t i = 0; i < t->n_expired; i++)
		mix_record(&h, &t->expired[i]->base);
	mix(&h, (uint64_t)t->last_event);
	return h != 0 ? h : 1;
}

void
takeover_shown(struct shared *shared, const struct tree *t)
{
	shared->shown = fingerprint(t);
}

/* ---- names ---------------------------------------------------------------------------------- */

static void
take_all_back(struct notifier *n)
{
	static const char *const names[] = {
		"by-sha512", "cache", "images", "by-title", "subscriptions", "endorsers", "expired",
		"status", "status.json", "metrics", "events", "SHA512SUMS",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		notifier_name(n, NODE_ROOT, names[i]);
	for (int dir = 0; dir < N_STATIC_DIRS; dir++)
		notifier_listing(n, node_dir((enum static_dir)dir));
	notifier_listing(n, NODE_ROOT);
}

void
takeover_tell(struct fs_context *fs, struct shared *shared)
{
	struct tree *t = tree_get(fs->holder);
	uint64_t now = fingerprint(t);

	tree_unref(t);
	if (shared->shown != now || shared->n_untold != 0 || shared->n_active != 0) {
		log_debug("the kernel is made to look everything up again");
		shared->n_untold = shared->n_active = 0;
		notifier_count(fs->notifier, &shared->n_untold);
		take_all_back(fs->notifier);
	} else {
		notifier_count(fs->notifier, &shared->n_untold);
	}
	shared->shown = now;
}

/* ---- open images ---------------------------------------------------------------------------- */

static bool
is_distrusted(const struct tree *t, const struct digest *d)
{
	size_t i;

	if (tree_object_of(t, d, &i))
		return t->objects[i].object->row.access == ACCESS_DISTRUSTED;
	/* Forgotten: what the record of its last leaving says. */
	for (i = t->n_expired; i-- > 0;)
		if (digest_equal(&t->expired[i]->row.meta.sha512, d))
			return t->expired[i]->row.distrusted;
	return false;
}

struct restoring {
	struct fs_context *fs;
	const struct tree *tree;
	int64_t n;
};

static void
restore_open(void *arg, const struct shared_handle *handle)
{
	struct restoring *r = arg;
	size_t i;

	blob_restore(r->fs->blobs, handle->object, &handle->digest, handle->size, handle->opens);
	if (tree_object_at(r->tree, handle->object, &i))
		blob_mode(r->fs->blobs, &r->tree->objects[i].object->row);
	if (is_distrusted(r->tree, &handle->digest))
		blob_cut(r->fs->blobs, &handle->digest, true);
	r->n += handle->opens;
}

void
takeover_restore(struct fs_context *fs, struct shared *shared)
{
	struct restoring r = { .fs = fs, .tree = tree_get(fs->holder) };

	handles_each(fs->handles, restore_open, &r);
	tree_unref(r.tree);
	if (fs->passthrough != NULL)
		passthrough_restore(fs->passthrough, shared);
	if (r.n > 0)
		log_info("%lld open files of images go on", (long long)r.n);
}

/* ---- volatile texts ------------------------------------------------------------------------- */

int
takeover_leave(struct fs_context *fs)
{
	CLEANUP_BUF struct buf left = BUF_INIT;
	CLEANUP_FD int fd = memfd_create("vmimagefs-left", MFD_CLOEXEC);

	snapshots_save(fs->snapshots, &left);
	if (fd < 0 || left.len > LEFT_MAX || io_write_all(fd, left.data, left.len) != 0 ||
	    lseek(fd, 0, SEEK_SET) != 0)
		return -1;
	return steal_fd(&fd);
}

/* Of the worker before us, which may have been anybody's: nothing else is known to have an end. */
static bool
is_plain_file(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

void
takeover_take(struct fs_context *fs, int taken)
{
	CLEANUP_BUF struct buf left = BUF_INIT;
	CLEANUP_FD int fd = taken;

	if (is_plain_file(fd) && io_read_to_end(fd, LEFT_MAX, &left) == 0)
		snapshots_load(fs->snapshots, left.data, left.len);
}
