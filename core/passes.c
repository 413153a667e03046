/*
 * A queue, two threads that begin with the first pass, and a list of what has ended.
 *
 * COMMIT and what is bad.  The pass hashes what is on the disk.  Granules that are not the signed
 * ones have changed since they landed, or never reached the disk before a crash: they are MISSING
 * again.  If all are the signed ones and the SHA-512 is not, nothing of ours is wrong: two signed
 * digests disagree.
 */
#include "config.h"
#include "passes.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "audit.h"
#include "cleanup.h"
#include "stored.h"
#include "thread.h"
#include "verity.h"
#include "vtree.h"

enum { N_THREADS = 2 };

struct passes {
	struct store *store;
	int notify_fd;

	pthread_mutex_t lock;		/* protects what follows */
	pthread_cond_t due;
	struct pass *queue, *ended;
	struct pass *running[N_THREADS];
	bool stop;
	pthread_t threads[N_THREADS];	/* [0] takes anything, [1] what is urgent */
	int n_threads;
};

struct worker {
	struct passes *passes;
	int number;
};

struct pass *
pass_new(enum pass_kind kind, const struct digest *d, int64_t size)
{
	struct pass *pass = xcalloc(1, sizeof(*pass));

	pass->kind = kind;
	pass->digest = *d;
	pass->size = size;
	return pass;
}

void
pass_free(struct pass *pass)
{
	if (pass == NULL)
		return;
	blockfile_unref(pass->file);
	free(pass->bad);
	free(pass);
}

/* ---- the work ------------------------------------------------------------------------------ */

static int
go_on(void *arg, int64_t done)
{
	struct pass *pass = arg;

	atomic_store(&pass->done, (long long)done);
	return atomic_load(&pass->cancelled) ? -ECANCELED : 0;
}

static void
note_bad(struct pass *pass, int64_t g)
{
	if (pass->bad == NULL)
		pass->bad = xcalloc(PASS_BAD_MAX, sizeof(*pass->bad));
	if (pass->n_bad < PASS_BAD_MAX)
		pass->bad[pass->n_bad++] = g;
}

/* After an error of the disk, each granule as a reader would get it: the others need no healing. */
static int
read_all(struct pass *pass, struct err *err)
{
	const struct verity_shape *shape = vtree_shape(blockfile_tree(pass->file));
	struct readbuf buf = { NULL, 0 };
	const void *data;
	int64_t bad;
	int rc = 0;

	for (int64_t g = 0; rc == 0 && g < shape->n_granules; g++) {
		int got = blockfile_read(pass->file, &buf, g * VERITY_GRANULE,
					 verity_granule_size(shape, g), &data, &bad);

		if (got == -ENOMEM)
			rc = err_set(err, ENOMEM, "no memory to read a granule");
		else if (got < 0)
			note_bad(pass, g);
		if (rc == 0 && go_on(pass, g * VERITY_GRANULE) != 0)
			rc = err_set(err, ECANCELED, "cancelled");
	}
	readbuf_release(&buf);
	return rc;
}

/*
 * 0: all granules are as the tree says; > 0: pass->bad has those that are not.  *hashed: a has what
 * the whole hashes to, and not only was each granule found right by itself.
 */
static int
audit(struct pass *pass, struct audit *a, bool *hashed, struct err *err)
{
	const struct vtree *tree = blockfile_tree(pass->file);
	int64_t n_granules = vtree_shape(tree)->n_granules;
	int rc;

	a->fd = blockfile_fd(pass->file);
	a->size = pass->size;
	a->progress = go_on;
	a->arg = pass;
	rc = audit_run(a, err);
	*hashed = rc == 0;
	if (rc == 0 && !digest_equal(&a->verity, &vtree_id(tree)->verity) &&
	    blockfile_judge(pass->file, a) > 0)
		for (int64_t g = 0; g < n_granules; g++)
			if (!blockfile_has(pass->file, g))
				note_bad(pass, g);
	verity_builder_free(a->builder);
	a->builder = NULL;
	if (rc != 0 && rc != -ECANCELED)
		rc = read_all(pass, err);
	return rc == 0 && pass->n_bad > 0 ? 1 : rc;
}

static int
rebuild(struct store *store, struct pass *pass, struct err *err)
{
	return stored_rebuild(store, &pass->digest, pass->size,
			      pass->has_root ? &pass->root : NULL, go_on, pass, &pass->tree,
			      &pass->file, err);
}

static int
commit(struct store *store, struct pass *pass, struct err *err)
{
	struct audit a = { .whole = true };
	bool hashed;
	int rc = audit(pass, &a, &hashed, err);

	if (rc > 0)
		return err_set(err, EAGAIN, "%zu granules changed on the disk", pass->n_bad);
	if (rc < 0)
		return rc;
	/* An error of a moment, which says nothing about what was signed: err has it. */
	if (!hashed)
		return err->rc = -EAGAIN;
	if (!digest_equal(&a.sha512, &pass->digest))
		return err_refuse(err, CODE_BLOCK_DIGEST,
				  "every block is as its signed digest says, and"
				  " the whole has another SHA-512 than was signed");
	pass->tree = vtree_id(blockfile_tree(pass->file))->verity;
	return store_commit_blocks(store, &pass->digest, blockfile_fd(pass->file), err);
}

static int
check(struct pass *pass, struct err *err)
{
	struct audit a = { .whole = false };
	bool hashed;
	int rc = audit(pass, &a, &hashed, err);

	if (rc > 0) {
		err_refuse(err, CODE_CORRUPT, "%zu granules are not as their digest says",
			   pass->n_bad);
		rc = err->rc = -EBADMSG;
	}
	return rc;
}

static void
run(struct store *store, struct pass *pass)
{
	switch (pass->kind) {
	case PASS_REBUILD:
	case PASS_ADOPT:
		pass->rc = rebuild(store, pass, &pass->why);
		break;
	case PASS_COMMIT:
		pass->rc = commit(store, pass, &pass->why);
		break;
	case PASS_CHECK:
		pass->rc = check(pass, &pass->why);
		break;
	}
}

/* ---- the threads --------------------------------------------------------------------------- */

/* The lock is held. */
static struct pass *
take_due(struct passes *p, bool urgent_only)
{
	struct pass **found = NULL, *pass;

	for (struct pass **at = &p->queue; *at != NULL; at = &(*at)->next) {
		if (urgent_only && !(*at)->urgent)
			continue;
		if (found == NULL || ((*at)->urgent && !(*found)->urgent))
			found = at;
	}
	if (found == NULL)
		return NULL;
	pass = *found;
	*found = pass->next;
	pass->next = NULL;
	return pass;
}

static void
tell(const struct passes *p)
{
	const uint64_t one = 1;
	ssize_t n = write(p->notify_fd, &one, sizeof(one));

	/* Full means that it is readable already. */
	(void)n;
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct passes *p = w->passes;
	int number = w->number;

	free(w);
	prctl(PR_SET_NAME, "pass");
	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		struct pass *pass = take_due(p, number > 0);

		if (pass == NULL) {
			pthread_cond_wait(&p->due, &p->lock);
			continue;
		}
		p->running[number] = pass;
		pthread_mutex_unlock(&p->lock);
		run(p->store, pass);
		pthread_mutex_lock(&p->lock);
		p->running[number] = NULL;
		pass->next = p->ended;
		p->ended = pass;
		tell(p);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* The lock is held.  Without a thread the passes wait for the next one to be added. */
static void
start_threads(struct passes *p)
{
	while (p->n_threads < N_THREADS) {
		struct worker *w = xcalloc(1, sizeof(*w));

		w->passes = p;
		w->number = p->n_threads;
		if (thread_start(&p->threads[p->n_threads], work, w) != 0) {
			free(w);
			return;
		}
		p->n_threads++;
	}
}

/* ---- the queue ----------------------------------------------------------------------------- */

struct passes *
passes_new(struct store *store, int notify_fd)
{
	struct passes *p = xcalloc(1, sizeof(*p));

	p->store = store;
	p->notify_fd = notify_fd;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->due, NULL);
	return p;
}

static void
free_list(struct pass *list)
{
	while (list != NULL) {
		struct pass *pass = list;

		list = pass->next;
		pass_free(pass);
	}
}

void
passes_free(struct passes *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	for (int i = 0; i < N_THREADS; i++)
		if (p->running[i] != NULL)
			atomic_store(&p->running[i]->cancelled, true);
	pthread_cond_broadcast(&p->due);
	pthread_mutex_unlock(&p->lock);
	for (int i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	free_list(p->queue);
	free_list(p->ended);
	pthread_cond_destroy(&p->due);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void
passes_add(struct passes *p, struct pass *pass)
{
	struct pass **end = &p->queue;

	pthread_mutex_lock(&p->lock);
	while (*end != NULL)
		end = &(*end)->next;
	*end = pass;
	start_threads(p);
	pthread_cond_broadcast(&p->due);
	pthread_mutex_unlock(&p->lock);
}

static struct pass *
find_in(struct pass *list, enum pass_kind kind, const struct digest *d)
{
	for (; list != NULL; list = list->next)
		if (list->kind == kind && digest_equal(&list->digest, d))
			return list;
	return NULL;
}

/* The lock is held. */
static struct pass *
find(struct passes *p, enum pass_kind kind, const struct digest *d)
{
	struct pass *found = find_in(p->queue, kind, d);

	for (int i = 0; i < N_THREADS && found == NULL; i++)
		found = find_in(p->running[i], kind, d);
	return found != NULL ? found : find_in(p->ended, kind, d);
}

struct pass *
passes_find(struct passes *p, enum pass_kind kind, const struct digest *d)
{
	struct pass *found;

	pthread_mutex_lock(&p->lock);
	found = find(p, kind, d);
	pthread_mutex_unlock(&p->lock);
	return found;
}

struct pass *
passes_take(struct passes *p)
{
	struct pass *pass;

	pthread_mutex_lock(&p->lock);
	pass = p->ended;
	if (pass != NULL)
		p->ended = pass->next;
	pthread_mutex_unlock(&p->lock);
	if (pass != NULL)
		pass->next = NULL;
	return pass;
}

void
passes_cancel(struct passes *p, enum pass_kind kind, const struct digest *d)
{
	struct pass *found;

	if (p == NULL)		/* all have been ended */
		return;
	pthread_mutex_lock(&p->lock);
	found = find(p, kind, d);
	if (found != NULL)
		atomic_store(&found->cancelled, true);
	pthread_mutex_unlock(&p->lock);
}

void
passes_hurry(struct passes *p, enum pass_kind kind, const struct digest *d)
{
	struct pass *found;

	pthread_mutex_lock(&p->lock);
	found = find_in(p->queue, kind, d);
	if (found != NULL) {
		found->urgent = true;
		pthread_cond_broadcast(&p->due);
	}
	pthread_mutex_unlock(&p->lock);
}

bool
passes_are_idle(struct passes *p)
{
	bool idle;

	pthread_mutex_lock(&p->lock);
	idle = p->queue == NULL && p->ended == NULL;
	for (int i = 0; i < N_THREADS; i++)
		idle = idle && p->running[i] == NULL;
	pthread_mutex_unlock(&p->lock);
	return idle;
}
