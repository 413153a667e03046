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
	void (*shown)(void *arg, uint64_t serial);
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock;		/* protects all below */
	pthread_cond_t changed;		/* the queue, or stop */
	struct note *first, **last;
	bool stop;
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
	}
	pthread_mutex_unlock(&n->lock);
	return note;
}

static void *
notifier_main(void *arg)
{
	struct notifier *n = arg;
	struct note *note;

	while ((note = take(n)) != NULL) {
		tell(n->session, note);
		if (note->old != NULL)
			n->shown(n->arg, note->new->serial);
		note_free(note);
		/* Half of the memory of a large update was that of the old tree. */
		malloc_trim(0);
	}
	return NULL;
}

struct notifier *
notifier_new(struct fuse_session *session, void (*shown)(void *arg, uint64_t serial), void *arg)
{
	struct notifier *n = xcalloc(1, sizeof(*n));

	n->session = session;
	n->shown = shown;
	n->arg = arg;
	n->last = &n->first;
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->changed, NULL);
	if (pthread_create(&n->thread, NULL, notifier_main, n) != 0) {
		pthread_cond_destroy(&n->changed);
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
	pthread_mutex_destroy(&n->lock);
	free(n);
}
