/*
 * snapshot.c - texts that change by themselves.
 *
 * A shot is in by_node as long as anyone holds it: the kernel (n_lookup) or an operation
 * (n_ref).  latest names the newest shot of each subject; it holds nothing by itself.
 */
#include "config.h"
#include "fs/snapshot.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/io.h"
#include "core/stamp.h"
#include "fs/idmap.h"
#include "fs/node.h"

struct shot {
	struct snapshot pub;		/* first: what others see */
	uint64_t subject;
	long long made_ms;		/* when the text was first true */
	uint64_t serial;		/* of the state that it tells of; 0: none */
	uint64_t n_lookup;
	unsigned n_ref;
	char *text;
};

struct snapshots {
	pthread_mutex_t lock;		/* protects all below, and the counts of shots */
	struct idmap by_node;		/* node id -> shot */
	struct idmap latest;		/* subject -> shot */
	uint64_t last_serial;
};

/*
 * After a takeover the kernel still knows numbers of the worker before us, which may have begun in
 * the same second.
 */
static uint64_t
first_serial(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return ((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000) << 6;
}

struct snapshots *
snapshots_new(void)
{
	struct snapshots *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	idmap_init(&s->by_node);
	idmap_init(&s->latest);
	s->last_serial = first_serial();
	return s;
}

static void
shot_free(struct shot *shot)
{
	free(shot->text);
	free(shot);
}

void
snapshots_free(struct snapshots *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->by_node.n_slots; i++)
		if (s->by_node.slots[i].key != 0)
			shot_free(s->by_node.slots[i].value);
	idmap_release(&s->by_node);
	idmap_release(&s->latest);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* The lock is held below this line. */

static void
drop_if_unused(struct snapshots *s, struct shot *shot)
{
	if (shot->n_lookup > 0 || shot->n_ref > 0)
		return;
	idmap_remove(&s->by_node, shot->pub.node);
	if (idmap_get(&s->latest, shot->subject) == shot)
		idmap_remove(&s->latest, shot->subject);
	shot_free(shot);
}

static const struct snapshot *
look_at(struct shot *shot)
{
	shot->n_lookup++;
	shot->n_ref++;
	return &shot->pub;
}

/* Takes the text. */
static struct shot *
shot_add(struct snapshots *s, uint64_t subject, uint64_t ino, char *text, size_t len)
{
	struct shot *shot = xcalloc(1, sizeof(*shot));

	shot->text = text;
	shot->subject = subject;
	shot->made_ms = io_monotonic_ms();
	shot->pub = (struct snapshot){
		.node = node_of_serial(++s->last_serial), .ino = ino, .mtime = stamp_now(),
		.text = text != NULL ? text : "", .len = len,
	};
	idmap_set(&s->by_node, shot->pub.node, shot);
	idmap_set(&s->latest, subject, shot);
	return shot;
}

/* The lock is not held below this line. */

static const struct snapshot *
look_fresh(struct snapshots *s, uint64_t subject, long long min_age_ms, uint64_t serial)
{
	const struct snapshot *found = NULL;
	struct shot *shot;

	pthread_mutex_lock(&s->lock);
	shot = idmap_get(&s->latest, subject);
	if (shot != NULL && (io_monotonic_ms() - shot->made_ms < min_age_ms ||
			     (serial != 0 && shot->serial == serial)))
		found = look_at(shot);
	pthread_mutex_unlock(&s->lock);
	return found;
}

const struct snapshot *
snapshots_look(struct snapshots *s, uint64_t subject, uint64_t ino, long long min_age_ms,
	       uint64_t serial, void (*make)(void *arg, struct buf *out), void *arg)
{
	const struct snapshot *found = look_fresh(s, subject, min_age_ms, serial);
	struct buf made = BUF_INIT;
	struct shot *shot;
	size_t len;
	char *text;

	if (found != NULL)
		return found;
	make(arg, &made);
	text = buf_steal(&made, &len);
	pthread_mutex_lock(&s->lock);
	shot = idmap_get(&s->latest, subject);
	if (shot != NULL && shot->pub.len == len &&
	    (len == 0 || memcmp(shot->pub.text, text, len) == 0))
		free(text);
	else
		shot = shot_add(s, subject, ino, text, len);
	shot->serial = serial;
	found = look_at(shot);
	pthread_mutex_unlock(&s->lock);
	return found;
}

const struct snapshot *
snapshots_find(struct snapshots *s, uint64_t node)
{
	struct shot *shot;

	pthread_mutex_lock(&s->lock);
	shot = idmap_get(&s->by_node, node);
	if (shot != NULL)
		shot->n_ref++;
	pthread_mutex_unlock(&s->lock);
	return shot != NULL ? &shot->pub : NULL;
}

void
snapshots_again(struct snapshots *s, const struct snapshot *found)
{
	struct shot *shot;

	pthread_mutex_lock(&s->lock);
	shot = idmap_get(&s->by_node, found->node);
	shot->n_lookup++;
	pthread_mutex_unlock(&s->lock);
}

void
snapshots_forget(struct snapshots *s, uint64_t node, uint64_t n)
{
	struct shot *shot;

	pthread_mutex_lock(&s->lock);
	shot = idmap_get(&s->by_node, node);
	if (shot != NULL) {
		shot->n_lookup -= n < shot->n_lookup ? n : shot->n_lookup;
		drop_if_unused(s, shot);
	}
	pthread_mutex_unlock(&s->lock);
}

void
snapshot_unref(struct snapshots *s, const struct snapshot *found)
{
	struct shot *shot;

	if (found == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	shot = idmap_get(&s->by_node, found->node);
	shot->n_ref--;
	drop_if_unused(s, shot);
	pthread_mutex_unlock(&s->lock);
}

/* ---- to another process --------------------------------------------------------------------- */

/* Each followed by its text. */
struct saved {
	uint64_t magic;
	uint64_t node, ino, subject, n_lookup;
	int64_t mtime, made_ms;
	uint64_t len;
};

#define SAVED_MAGIC 0x31746f6873696d76ULL

void
snapshots_save(struct snapshots *s, struct buf *out)
{
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->by_node.n_slots; i++) {
		const struct shot *shot = s->by_node.slots[i].value;
		struct saved saved;

		if (s->by_node.slots[i].key == 0 || shot->n_lookup == 0)
			continue;
		saved = (struct saved){
			.magic = SAVED_MAGIC, .node = shot->pub.node, .ino = shot->pub.ino,
			.subject = shot->subject, .n_lookup = shot->n_lookup,
			.mtime = shot->pub.mtime, .made_ms = shot->made_ms, .len = shot->pub.len,
		};
		buf_add(out, (const char *)&saved, sizeof(saved));
		buf_add(out, shot->pub.text, shot->pub.len);
	}
	pthread_mutex_unlock(&s->lock);
}

/* It is found by its node; its name is made anew when it is looked up. */
static void
load(struct snapshots *s, const struct saved *saved, const char *text)
{
	struct shot *shot = xcalloc(1, sizeof(*shot));

	shot->text = xmalloc(saved->len + 1);
	memcpy(shot->text, text, saved->len);
	shot->text[saved->len] = '\0';
	shot->subject = saved->subject;
	shot->made_ms = saved->made_ms;
	shot->n_lookup = saved->n_lookup;
	shot->pub = (struct snapshot){
		.node = saved->node, .ino = saved->ino, .mtime = saved->mtime,
		.text = shot->text, .len = saved->len,
	};
	/* Ours come after all of them. */
	if (s->last_serial < node_serial(saved->node))
		s->last_serial = node_serial(saved->node);
	idmap_set(&s->by_node, shot->pub.node, shot);
}

void
snapshots_load(struct snapshots *s, const void *data, size_t len)
{
	const char *at = data, *end = at + len;
	struct saved saved;

	pthread_mutex_lock(&s->lock);
	while ((size_t)(end - at) >= sizeof(saved)) {
		memcpy(&saved, at, sizeof(saved));
		at += sizeof(saved);
		if (saved.magic != SAVED_MAGIC || saved.len > (size_t)(end - at) ||
		    saved.node == 0 || saved.n_lookup == 0 ||
		    idmap_get(&s->by_node, saved.node) != NULL)
			break;
		load(s, &saved, at);
		at += saved.len;
	}
	pthread_mutex_unlock(&s->lock);
}

