/*
 * Bad granules of complete files: fetched anew, verified, written (I16).
 *
 * One struct heal an object, with one lazy in heals-mode (lazy.h), as long as granules of it are
 * being fetched, or are known to be bad:
 *
 *   found bad     the bytes are kept in quarantine, the row says so once (event CorruptFound), and
 *                 the granule is wished for
 *   landed        readers were told by the lane's thread.  When none is bad any more: CorruptHealed
 *   failed        EIO for that granule, the object is degraded; until a back-off is over the next
 *                 reader of a bad granule gets the same answer without a request
 *
 * If even the network's bytes do not match the tree, the tree itself may be wrong: a pass over the
 * whole file tells, once, before anything is declared lost.
 */
#include "config.h"
#include "engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "log.h"
#include "plan.h"
#include "stamp.h"
#include "vtree.h"

struct heal {
	struct heal *next;
	struct digest digest;
	int64_t size;
	struct blockfile *file;
	struct lazy *lazy;		/* NULL: nothing is being fetched */
	int64_t *wanted;		/* granules that somebody waits for */
	size_t n_wanted;
	int64_t n_healed;
	bool told;			/* the row says corrupt */
	char *owed;			/* why it is bad: the row was to say so, and could not */
	bool degraded;			/* the row says so */
	bool rebuilding, rebuilt;	/* the pass over the whole file */
	int n_failed;			/* in a row */
	long long retry_at;		/* monotonic ms */
	struct err why;			/* of the last failure */
};

static struct heal *
find(const struct engine *e, const struct digest *d)
{
	for (struct heal *heal = e->heals; heal != NULL; heal = heal->next)
		if (digest_equal(&heal->digest, d))
			return heal;
	return NULL;
}

static struct heal *
add(struct engine *e, struct blockfile *f)
{
	struct heal *heal = xcalloc(1, sizeof(*heal));

	heal->digest = *blockfile_digest(f);
	heal->size = blockfile_size(f);
	heal->file = blockfile_ref(f);
	heal->next = e->heals;
	e->heals = heal;
	return heal;
}

static void
end_lazy(struct heal *heal)
{
	lazy_free(heal->lazy);
	heal->lazy = NULL;
}

void
engine_drop_heal(struct engine *e, const struct digest *d)
{
	struct heal **p = &e->heals, *heal;

	while (*p != NULL && !digest_equal(&(*p)->digest, d))
		p = &(*p)->next;
	heal = *p;
	if (heal == NULL)
		return;
	*p = heal->next;
	end_lazy(heal);
	blockfile_unref(heal->file);
	free(heal->wanted);
	free(heal->owed);
	free(heal);
}

void
engine_free_heals(struct engine *e)
{
	while (e->heals != NULL)
		engine_drop_heal(e, &e->heals->digest);
}

bool
engine_is_healing_one(const struct engine *e, const struct digest *d)
{
	const struct heal *heal = find(e, d);

	return heal != NULL && (heal->n_wanted > 0 || heal->rebuilding);
}

bool
engine_is_healing(const struct engine *e)
{
	for (const struct heal *heal = e->heals; heal != NULL; heal = heal->next)
		if (heal->n_wanted > 0)
			return true;
	return false;
}

static size_t
position(const struct heal *heal, int64_t g)
{
	size_t i = 0;

	while (i < heal->n_wanted && heal->wanted[i] != g)
		i++;
	return i;
}

static void
want(struct heal *heal, int64_t g)
{
	heal->wanted = xrealloc(heal->wanted, (heal->n_wanted + 1) * sizeof(*heal->wanted));
	heal->wanted[heal->n_wanted++] = g;
}

/* True if it was wanted. */
static bool
want_no_more(struct heal *heal, int64_t g)
{
	size_t i = position(heal, g);

	if (i == heal->n_wanted)
		return false;
	heal->wanted[i] = heal->wanted[--heal->n_wanted];
	return true;
}

/* ---- rows and counters --------------------------------------------------------------------- */

static int
note_healed(struct engine *e, const struct heal *heal, const char *how, int64_t now,
	    struct err *err)
{
	struct catalogue *c = e->catalogue;
	int rc = 0;

	if (heal->owed != NULL)
		rc = catalogue_object_corrupt(c, &heal->digest, heal->owed, false, now, err);
	return rc == 0 ? catalogue_object_healed(c, &heal->digest, how, now, err) : rc;
}

/* Whether the row says so now.  If not, the next look at the whole file says what it finds. */
static bool
note(struct engine *e, const struct heal *heal, const char *why, bool healed, bool degraded)
{
	struct catalogue *c = e->catalogue;
	struct err err = { 0 };
	int64_t now = stamp_now();
	int rc = catalogue_begin(c, &err);

	if (rc == 0 && healed)
		rc = note_healed(e, heal, why, now, &err);
	else if (rc == 0)
		rc = catalogue_object_corrupt(c, &heal->digest, why, degraded, now, &err);
	if (rc == 0)
		rc = catalogue_commit(c, &err);
	if (rc != 0) {
		catalogue_rollback(c);
		log_err(LOG_LVL_ERROR, "catalogue", &err);
	}
	engine_rows_changed(e);
	return rc == 0;
}

/* Bad bytes are mended all the same: it is told of when the catalogue can be written again. */
static void
note_bad(struct engine *e, struct heal *heal, const char *why, bool degraded)
{
	if (note(e, heal, why, false, degraded)) {
		heal->told = true;
		heal->degraded = heal->degraded || degraded;
		free(heal->owed);
		heal->owed = NULL;
	} else if (heal->owed == NULL && !heal->told) {
		heal->owed = xstrdup(why);
	}
}

static void
count(struct engine *e, int64_t *counter)
{
	pthread_mutex_lock(&e->lock);
	++*counter;
	pthread_mutex_unlock(&e->lock);
}

static void
keep_bad_bytes(struct engine *e, struct blockfile *f, int64_t g)
{
	char *bytes = malloc(VERITY_GRANULE);
	struct err err = { 0 };
	ssize_t n = -ENOMEM;

	if (bytes != NULL)
		n = blockfile_raw(f, g, bytes, VERITY_GRANULE);
	/* What cannot be read at all cannot be kept. */
	if (n > 0 && store_quarantine_bytes(e->config.store, blockfile_digest(f), bytes, (size_t)n,
					    &err) != 0)
		log_err(LOG_LVL_WARNING, "quarantine", &err);
	free(bytes);
}

static void
found_bad(struct engine *e, struct heal *heal, struct blockfile *f, int64_t g, const char *why)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(&heal->digest, hex);
	log_error("code %d: %s: granule %lld (byte %lld): %s", CODE_CORRUPT, hex, (long long)g,
		  (long long)g * VERITY_GRANULE, why);
	count(e, &e->status.corrupt_granules);
	/* What the last look at all of it said is of no worth now. */
	engine_forget_audited(e, &heal->digest);
	keep_bad_bytes(e, f, g);
	if (!heal->told)
		note_bad(e, heal, why, false);
}

/* ---- the outcome --------------------------------------------------------------------------- */

/* Nothing is wanted any more. */
static void
settle(struct engine *e, struct heal *heal)
{
	struct digest d = heal->digest;
	char how[64], hex[DIGEST_HEX + 1];

	end_lazy(heal);
	if (blockfile_n_bad(heal->file) > 0 || heal->n_failed > 0)
		return;
	digest_hex(&d, hex);
	snprintf(how, sizeof(how), "%lld granules fetched anew", (long long)heal->n_healed);
	log_info("%s: healed: %s", hex, how);
	note(e, heal, how, true, false);
	engine_drop_heal(e, &d);
}

/* One granule cannot be had; the next try is put off by back_off(). */
static void
lose(struct engine *e, struct heal *heal, int64_t g, const struct err *why)
{
	struct err told = *why;

	told.rc = -EIO;
	if (!heal->degraded)
		note_bad(e, heal, why->text, true);
	engine_tell_failed(e, &heal->digest, g, 1, &told);
	engine_heal_outcome(e, &heal->digest, g, why);
}

static void
back_off(struct heal *heal, const struct err *why)
{
	char hex[DIGEST_HEX + 1];

	digest_hex(&heal->digest, hex);
	log_err(LOG_LVL_ERROR, hex, why);
	heal->why = *why;
	heal->n_failed++;
	heal->retry_at = io_monotonic_ms() + plan_backoff_ms(heal->n_failed, UINT32_MAX, 0);
}

static void
lose_all(struct engine *e, struct heal *heal, const struct err *why)
{
	end_lazy(heal);
	if (heal->n_wanted == 0)
		return;
	back_off(heal, why);
	while (heal->n_wanted > 0)
		lose(e, heal, heal->wanted[--heal->n_wanted], why);
}

/* ---- the pass over the whole file ---------------------------------------------------------- */

static void
rebuild(struct engine *e, struct heal *heal)
{
	struct pass *pass;
	struct object_row row;
	struct err err = { 0 };

	end_lazy(heal);
	heal->rebuilding = heal->rebuilt = true;
	if (passes_find(e->passes, PASS_REBUILD, &heal->digest) != NULL)
		return;
	pass = pass_new(PASS_REBUILD, &heal->digest, heal->size);
	pass->urgent = true;
	if (catalogue_object_get(e->catalogue, &heal->digest, &row, &err) == 0) {
		pass->has_root = row.root_listed;
		pass->root = row.root;
		object_row_release(&row);
	}
	passes_add(e->passes, pass);
}

bool
engine_heal_after_rebuild(struct engine *e, const struct pass *pass)
{
	struct heal *heal = find(e, &pass->digest);

	if (heal == NULL || !heal->rebuilding)
		return false;
	heal->rebuilding = false;
	if (pass->rc == 0) {
		/* The tree was wrong, not the file: who has it open gets it with the right one. */
		note(e, heal, "the file is right, its tree was not", true, false);
		engine_drop_heal(e, &pass->digest);
		engine_tell_lost(e, &pass->digest);
		return false;
	}
	if (pass->why.code == CODE_BLOCK_DIGEST)
		return false;
	lose_all(e, heal, heal->why.rc != 0 ? &heal->why : &pass->why);
	return true;
}

/* ---- fetching ------------------------------------------------------------------------------ */

/*
 * By a lane's thread.  The note first: whoever finds the granule bad again when it was told has
 * landed must not join a heal that is over.
 */
static void
on_landed(void *arg, struct blockfile *f, int64_t off, const void *data, size_t size)
{
	struct engine *e = arg;
	int64_t n = ((int64_t)size + VERITY_GRANULE - 1) / VERITY_GRANULE;

	for (int64_t i = 0; i < n; i++)
		engine_post(e, INBOX_HEALED, blockfile_digest(f), off / VERITY_GRANULE + i, 1,
			    NULL);
	engine_tell_landed(e, f, off, data, size);
}

static void
on_failed(void *arg, const struct digest *d, int64_t first, int64_t n, const struct err *why)
{
	engine_post(arg, INBOX_UNHEALED, d, first, n, why);
}

static int
open_for_writing(struct engine *e, struct heal *heal, struct err *err)
{
	int fd;

	if (blockfile_is_writable(heal->file))
		return 0;
	fd = store_object_open_rw(e->config.store, &heal->digest, heal->size, err);
	if (fd < 0)
		return fd;
	blockfile_set_writable(heal->file, fd);
	if (!blockfile_is_writable(heal->file))
		return err_set(err, ESTALE, "the file was replaced by another");
	return 0;
}

static int
make_lazy(struct engine *e, struct heal *heal, struct err *err)
{
	struct lazy_config config = {
		.lanes = e->lanes, .store = e->config.store,
		.id = *vtree_id(blockfile_tree(heal->file)), .heals = heal->file,
		.notify_fd = e->notify_fd, .landed = on_landed, .failed = on_failed, .arg = e,
	};
	struct sources images;
	int rc = engine_sources(e, &heal->digest, &images, NULL, err);

	config.sources = images.items;
	config.n_sources = images.n;
	if (rc == 0)
		rc = lazy_new(&heal->lazy, &config, err);
	engine_sources_release(&images);
	return rc;
}

/* Another reader's heal may have been faster, or the disk has thought better of it. */
static int
read_again(struct engine *e, struct blockfile *f, int64_t g)
{
	struct readbuf buf = { NULL, 0 };
	size_t size = verity_granule_size(vtree_shape(blockfile_tree(f)), g);
	const void *data;
	int64_t bad;
	int rc = blockfile_read(f, &buf, g * VERITY_GRANULE, size, &data, &bad);

	if (rc == 0)
		engine_tell_landed(e, f, g * VERITY_GRANULE, data, size);
	readbuf_release(&buf);
	return rc;
}

static bool
is_stored(struct engine *e, const struct digest *d)
{
	struct object_row row;
	struct err err = { 0 };
	bool stored;

	if (catalogue_object_get(e->catalogue, d, &row, &err) != 0)
		return false;
	stored = row.state == OBJECT_VERIFIED;
	object_row_release(&row);
	return stored;
}

/*
 * Not this granule alone: the object's name is on no file, or not on this one.  Readers are told
 * that what they have is lost, and ask again.
 */
static bool
is_other_file(struct engine *e, struct heal *heal, int rc, const struct err *why)
{
	struct digest d = heal->digest;

	if (store_object_is_bad(rc)) {
		engine_handle_damage(e, &d, why->text);
		return true;
	}
	if (rc != -ESTALE)
		return false;
	engine_drop_heal(e, &d);
	engine_tell_lost(e, &d);
	return true;
}

static void
begin(struct engine *e, struct heal *heal, int64_t g)
{
	struct err err = { 0 };
	int rc = open_for_writing(e, heal, &err);

	if (rc != 0 && is_other_file(e, heal, rc, &err))
		return;
	if (rc == 0 && heal->lazy == NULL)
		rc = make_lazy(e, heal, &err);
	if (rc != 0) {
		back_off(heal, &err);
		lose(e, heal, g, &err);
		return;
	}
	want(heal, g);
	lazy_want(heal->lazy, g, 1);
}

void
engine_take_heal(struct engine *e, const struct digest *d, struct blockfile *f, int64_t g,
		 const char *why)
{
	struct heal *heal = find(e, d);
	int rc;

	if (heal != NULL && position(heal, g) < heal->n_wanted)
		return;
	rc = read_again(e, f, g);
	if (rc == 0) {
		engine_heal_outcome(e, d, g, NULL);
		return;
	}
	/* Of what is not stored any more, readers were told that it is lost. */
	if (heal == NULL && !is_stored(e, d))
		return;
	if (heal == NULL)
		heal = add(e, f);
	if (heal->rebuilding) {
		want(heal, g);
	} else if (heal->n_failed > 0 && io_monotonic_ms() < heal->retry_at) {
		struct err again = heal->why;

		lose(e, heal, g, &again);
	} else if (rc == -ENODATA) {
		want(heal, g);
		rebuild(e, heal);
	} else {
		found_bad(e, heal, f, g, why);
		begin(e, heal, g);
	}
}

void
engine_take_healed(struct engine *e, const struct digest *d, int64_t g)
{
	struct heal *heal = find(e, d);

	if (heal == NULL || !want_no_more(heal, g))
		return;
	heal->n_healed++;
	heal->n_failed = 0;
	count(e, &e->status.healed_granules);
	engine_heal_outcome(e, d, g, NULL);
	/* The outcome may have led to further ones. */
	heal = find(e, d);
	if (heal != NULL && heal->n_wanted == 0)
		settle(e, heal);
}

void
engine_take_unhealed(struct engine *e, const struct inbox_item *item)
{
	struct heal *heal = find(e, &item->digest);
	bool any = false;

	if (heal == NULL || heal->rebuilding || heal->lazy == NULL)
		return;
	if (item->why.code == CODE_BLOCK_DIGEST && !heal->rebuilt) {
		heal->why = item->why;
		rebuild(e, heal);
		return;
	}
	for (int64_t g = item->first; g < item->first + item->n; g++) {
		if (!want_no_more(heal, g))
			continue;
		if (!any)
			back_off(heal, &item->why);
		any = true;
		lose(e, heal, g, &item->why);
	}
	if (heal->n_wanted == 0)
		settle(e, heal);
}

void
engine_run_heals(struct engine *e)
{
	struct heal *heal, *next;

	for (heal = e->heals; heal != NULL; heal = next) {
		struct err why = { 0 };

		next = heal->next;
		if (heal->lazy == NULL)
			continue;
		switch (lazy_state(heal->lazy)) {
		case LAZY_ROOTING:
		case LAZY_SERVING:
		case LAZY_FULL:
			if (!lanes_are_stuck(e->lanes))
				break;
			err_refuse(&why, CODE_BUSY, "no thread or process to fetch it");
			lose_all(e, heal, &why);
			break;
		case LAZY_UNFIT:
		case LAZY_BROKEN:
			lazy_result(heal->lazy, &why);
			lose_all(e, heal, &why);
			break;
		}
	}
}
