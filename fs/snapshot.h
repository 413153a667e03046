/*
 * snapshot.h - texts that change by themselves: status, metrics, events, SHA512SUMS, progress.
 *
 * A volatile text is made when its name is looked up; from then on it is a file of its own, whose
 * bytes never change and which lives until the kernel forgets it.  Its node id is a serial
 * number.  The next lookup gets the same one when the text is fresh enough or still says the
 * same.  The subject is the number of the file: node_make() without a rev.  Any thread.
 */
#ifndef VMI_SNAPSHOT_H
#define VMI_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>
#include "core/buf.h"

struct snapshots;

/* Borrowed fields; release with snapshot_unref(). */
struct snapshot {
	uint64_t node;		/* node id */
	uint64_t ino;		/* st_ino, of the subject */
	int64_t mtime;		/* seconds UTC when the text was made */
	const char *text;
	size_t len;
};

struct snapshots *snapshots_new(void);
void snapshots_free(struct snapshots *s);

/*
 * Looks the subject's file up: the latest text if it is younger than min_age_ms, or tells of the
 * state with this serial number (0: it follows from no such state); else what make() appends to a
 * buf, as the same file if it is equal and as a new one otherwise.  So there is a new version at
 * most once in min_age_ms, and one that has stood for longer is never out of date.  Counts one
 * lookup.  make() is called without locks.
 */
const struct snapshot *snapshots_look(struct snapshots *s, uint64_t subject, uint64_t ino,
				      long long min_age_ms, uint64_t serial,
				      void (*make)(void *arg, struct buf *out), void *arg);

/* The file of a node id, or NULL. */
const struct snapshot *snapshots_find(struct snapshots *s, uint64_t node);
/* One more lookup of a file that was found. */
void snapshots_again(struct snapshots *s, const struct snapshot *shot);
void snapshots_forget(struct snapshots *s, uint64_t node, uint64_t n);

void snapshot_unref(struct snapshots *s, const struct snapshot *shot);	/* NULL is fine */

/*
 * All that the kernel knows, as bytes for another process of this version, and back: what is not of
 * this form is passed over.
 */
void snapshots_save(struct snapshots *s, struct buf *out);
void snapshots_load(struct snapshots *s, const void *data, size_t len);

#endif
