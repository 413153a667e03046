/*
 * notify.c - the thread that tells the kernel what it must look up again.
 *
 * The queue holds pairs of trees, not names: what differs between them is found here, away from
 * the engine.  Pairs are never merged: a name that was there only in the tree between two others
 * would be missed, and the kernel would remember it for a day.
 *
 * An answer of the kernel is of no interest: -ENOENT says that it never knew the name.
 */
#include "config.h"
#define FUSE_USE_VERSION 312
#include "fs/notify.h"

#include <fuse_lowlevel.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/buf.h"
#include "fs/tree_diff.h"

struct note {
	struct note *next;
	struct tree *old;	/* NULL: a note of activity, or of one directory */
	struct tree *new;	/* NULL: of one directory */
	struct digest digest;
	uint64_t parent;
	char *name;		/* NULL: its listing */
};

struct notifier {
	struct fuse_session *session;
	void (*shown)(void *arg, const struct tree *t);
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock;		/* protects all below */
	pthread_cond_t changed;		/* the queue, or stop */
	pthread_cond_t told;		/* a note; on the monotonic clock */
	struct note *first, **last;
	bool telling;
	bool stop;
	int64_t *untold;		/* or NULL */
};

static void
note_free(struct note *note)
{
	tree_unref(note->old);
	tree_unref(note->new);
	free(note->name);
	free(note);
}

static void
tell_entry(void *arg, uint64_t parent, const char *name)
{
	fuse_lowlevel_notify_inval_entry(arg, parent, name, strlen(name));
}

static void
tell_inode(void *arg, uint64_t node, bool data)
{
	/* A negative offset: attributes alone. */
	fuse_lowlevel_notify_inval_inode(arg, node, data ? 0 : -1, 0);
}

static void
tell(struct fuse_session *session, const struct note *note)
{
	const struct tree_diff_ops ops = { tell_entry, tell_inode };

	if (note->name != NULL)
		tell_entry(session, note->parent, note->name);
	else if (note->new == NULL)
		tell_inode(session, note->parent, true);
	else if (note->old != NULL)
		tree_diff(note->old, note->new, &ops, session);
	else
		tree_diff_activity(note->new, &note->digest, &ops, session);
}

/* The next note, or NULL at the end. */
static struct note *
take(struct notifier *n)
{
	struct note *note;

	pthread_mutex_lock(&n->lock);
	while (n->first == NULL && !n->stop)
		pthread_cond_wait(&n->changed, &n->lock);
	note = n->stop ? NULL : n->first;
	if (note != NULL) {
		n->first = note->next;
		if (n->first == NULL)
			n->last = &n->first;
		n->telling = true;
	}
	pthread_mutex_unlock(&n->lock);
	return note;
}

static void
note_told(struct notifier *n)
{
	pthread_mutex_lock(&n->lock);
	n->telling = false;
	if (n->untold != NULL)
		--*n->untold;
	pthread_cond_broadcast(&n->told);
	pthread_mutex_unlock(&n->lock);
}

static void *
notifier_main(void *arg)
{
	struct notifier *n = arg;
	struct note *note;

	while ((note = take(n)) != NULL) {
		tell(n->session, note);
		if (note->old != NULL)
			n->shown(n->arg, note->new);
		note_free(note);
		note_told(n);
		/* Half of the memory of a large update was that of the old tree. */
		malloc_trim(0);
	}
	return NULL;
}

struct notifier *
notifier_new(struct fuse_session *session, void (*shown)(void *arg, const struct tree *t),
	     void *arg)
{
	struct notifier *n = xcalloc(1, sizeof(*n));
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&n->told, &monotonic);
	pthread_condattr_destroy(&monotonic);
	n->session = session;
	n->shown = shown;
	n->arg = arg;
	n->last = &n->first;
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->changed, NULL);
	if (pthread_create(&n->thread, NULL, notifier_main, n) != 0) {
		pthread_cond_destroy(&n->changed);
		pthread_cond_destroy(&n->told);
		pthread_mutex_destroy(&n->lock);
		free(n);
		return NULL;
	}
	return n;
}

static void
put(struct notifier *n, struct note *note)
{
	if (n == NULL) {
		note_free(note);
		return;
	}
	pthread_mutex_lock(&n->lock);
	*n->last = note;
	n->last = &note->next;
	if (n->untold != NULL)
		++*n->untold;
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
}

void
notifier_swapped(struct notifier *n, struct tree *old, struct tree *new)
{
	struct note *note = xcalloc(1, sizeof(*note));

	note->old = old;
	note->new = new;
	put(n, note);
}

void
notifier_activity(struct notifier *n, struct tree *t, const struct digest *d)
{
	struct note *note = xcalloc(1, sizeof(*note));

	note->new = t;
	note->digest = *d;
	put(n, note);
}

void
notifier_name(struct notifier *n, uint64_t parent, const char *name)
{
	struct note *note = xcalloc(1, sizeof(*note));

	note->parent = parent;
	note->name = xstrdup(name);
	put(n, note);
}

void
notifier_listing(struct notifier *n, uint64_t dir)
{
	struct note *note = xcalloc(1, sizeof(*note));

	note->parent = dir;
	put(n, note);
}

void
notifier_count(struct notifier *n, int64_t *untold)
{
	pthread_mutex_lock(&n->lock);
	n->untold = untold;
	for (const struct note *note = n->first; note != NULL; note = note->next)
		++*untold;
	*untold += n->telling;
	pthread_mutex_unlock(&n->lock);
}

bool
notifier_flush(struct notifier *n, int ms)
{
	struct timespec until;
	int rc = 0;
	bool done;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000L;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&n->lock);
	while ((n->first != NULL || n->telling) && rc == 0)
		rc = pthread_cond_timedwait(&n->told, &n->lock, &until);
	done = n->first == NULL && !n->telling;
	pthread_mutex_unlock(&n->lock);
	return done;
}

void
notifier_free(struct notifier *n)
{
	struct note *note;

	if (n == NULL)
		return;
	pthread_mutex_lock(&n->lock);
	n->stop = true;
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
	pthread_join(n->thread, NULL);
	while ((note = n->first) != NULL) {
		n->first = note->next;
		note_free(note);
	}
	pthread_cond_destroy(&n->changed);
	pthread_cond_destroy(&n->told);
	pthread_mutex_destroy(&n->lock);
	free(n);
}
