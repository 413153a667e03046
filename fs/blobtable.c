/*
 * The table of blobs and the lists of reads that wait on them.  No I/O and no replies: those are
 * made by others, after the lock was let go.
 */
#include "config.h"
#include "fs/blobtable.h"

#include <assert.h>
#include <stdlib.h>

#include "core/buf.h"

enum { ASKED_AGAIN_MS = 1000 };		/* so soon the kernel asks again */

void
blobtable_check(const struct blob *blob)
{
	assert((blob->state == BLOB_READY) == (blob->file != NULL));
	assert(blob->state != BLOB_CUT || blob->n_parked == 0);
	assert(!blob->asked || blob->state == BLOB_ABSENT);
	(void)blob;
}

/* ---- blobs ---------------------------------------------------------------------------------- */

/* A digest is as good as random. */
static size_t
digest_bucket(const struct digest *d)
{
	return d->bytes[0] % BLOB_BUCKETS;
}

struct blob *
blobtable_find(struct blobs *b, uint64_t object)
{
	struct blob *blob = b->by_object[object % BLOB_BUCKETS];

	while (blob != NULL && blob->object != object)
		blob = blob->next;
	return blob;
}

static struct blob *
same_digest(struct blob *blob, const struct digest *d)
{
	while (blob != NULL && !digest_equal(&blob->digest, d))
		blob = blob->next_same;
	return blob;
}

struct blob *
blobtable_first(struct blobs *b, const struct digest *d)
{
	return same_digest(b->by_digest[digest_bucket(d)], d);
}

struct blob *
blobtable_next(const struct blob *after)
{
	return same_digest(after->next_same, &after->digest);
}

struct blob *
blobtable_add(struct blobs *b, uint64_t object, const struct digest *d, int64_t size)
{
	struct blob **by_object = &b->by_object[object % BLOB_BUCKETS];
	struct blob **by_digest = &b->by_digest[digest_bucket(d)];
	struct blob *blob = xcalloc(1, sizeof(*blob));

	blob->object = object;
	blob->digest = *d;
	blob->size = size;
	blob->next = *by_object;
	*by_object = blob;
	blob->next_same = *by_digest;
	*by_digest = blob;
	return blob;
}

void
blobtable_collect(struct blobs *b, struct blob *blob)
{
	struct blob **p = &b->by_object[blob->object % BLOB_BUCKETS];

	blobtable_check(blob);
	if (blob->opens > 0 || blob->n_parked > 0 || blob->n_again > 0)
		return;
	while (*p != blob)
		p = &(*p)->next;
	*p = blob->next;
	p = &b->by_digest[digest_bucket(&blob->digest)];
	while (*p != blob)
		p = &(*p)->next_same;
	*p = blob->next_same;
	blob_let_go(b, blob->file);
	free(blob);
}

/* ---- queues --------------------------------------------------------------------------------- */

static size_t
queue_of(int64_t granule)
{
	return (size_t)(granule + 1) % BLOB_QUEUES;
}

static void
enqueue(struct blobs *b, struct blob *blob, struct parked *p, int64_t granule)
{
	struct parked **queue = &blob->queues[queue_of(granule)];

	b->n_at_disk += granule == BLOB_DISK;
	p->granule = granule;
	p->next = *queue;
	p->link = queue;
	if (p->next != NULL)
		p->next->link = &p->next;
	*queue = p;
}

/* What is being read just now finds out when the disk has answered. */
static void
dequeue(struct blobs *b, struct parked *p)
{
	*p->link = p->next;
	if (p->next != NULL)
		p->next->link = p->link;
	if (p->granule == BLOB_DISK) {
		b->n_at_disk--;
		disk_cancel(b->disk, &p->turn);
	}
}

/* Out of all lists; the blob is not looked at whether it is still needed. */
static void
take_off(struct blobs *b, struct parked *p)
{
	dequeue(b, p);
	*p->number_link = p->next_number;
	if (p->next_number != NULL)
		p->next_number->number_link = p->number_link;
	p->blob->n_parked--;
	b->n_parked--;
}

long long
blobtable_deadline(const struct blobs *b, const struct blob *blob, const struct read *r)
{
	bool whole = blob->state != BLOB_READY && !blob->lazy;
	long long deadline = r->since + (whole ? b->read_timeout : b->block_timeout) * 1000;

	return r->ends_at != 0 && r->ends_at < deadline ? r->ends_at : deadline;
}

/* A deadline has moved, or is new. */
static void
blobtable_note_deadline(struct blobs *b, long long deadline)
{
	if (b->next_deadline == 0 || deadline < b->next_deadline)
		pthread_cond_signal(&b->wake);
}

static struct parked *
park(struct blobs *b, struct blob *blob, const struct read *r, int64_t granule, long long deadline)
{
	struct parked **number = &b->by_id[r->id % BLOB_NUMBERS];
	struct parked *p = xcalloc(1, sizeof(*p));

	p->read = *r;
	p->blob = blob;
	p->deadline = deadline;
	enqueue(b, blob, p, granule);
	p->next_number = *number;
	p->number_link = number;
	if (p->next_number != NULL)
		p->next_number->number_link = &p->next_number;
	*number = p;
	blob->n_parked++;
	b->n_parked++;
	blobtable_note_deadline(b, p->deadline);
	return p;
}

struct parked *
blobtable_park(struct blobs *b, struct blob *blob, const struct read *r, int64_t granule,
	       bool healing)
{
	struct parked *p = park(b, blob, r, granule, blobtable_deadline(b, blob, r));

	p->healing = healing;
	return p;
}

struct parked *
blobtable_park_at_disk(struct blobs *b, struct blob *blob, const struct read *r,
		       long long deadline)
{
	struct parked *p;

	if (r->ends_at != 0 && r->ends_at < deadline)
		deadline = r->ends_at;
	p = park(b, blob, r, BLOB_DISK, deadline);
	p->turn.number = r->id;
	return p;
}

bool
blobtable_is_healing(const struct blob *blob, int64_t granule)
{
	const struct parked *p = blob->queues[queue_of(granule)];

	while (p != NULL && !(p->granule == granule && p->healing))
		p = p->next;
	return p != NULL;
}

void
blobtable_drop_file(struct blobs *b, struct blob *blob)
{
	struct parked *all = NULL;

	blob_let_go(b, blob->file);
	blob->file = NULL;
	if (blob->state == BLOB_READY)
		blob->state = BLOB_ABSENT;
	for (size_t i = 0; i < BLOB_QUEUES && blob->n_parked > 0; i++)
		for (struct parked *p = blob->queues[i], *next; p != NULL; p = next) {
			next = p->next;
			dequeue(b, p);
			p->next = all;
			all = p;
		}
	while (all != NULL) {
		struct parked *p = all;

		all = p->next;
		p->healing = false;
		enqueue(b, blob, p, BLOB_WHOLE);
	}
}

/* ---- taking parked reads off ---------------------------------------------------------------- */

static void
move(struct blobs *b, struct parked *p, struct parked **list)
{
	take_off(b, p);
	p->next = *list;
	*list = p;
}

void
blobtable_take_all(struct blobs *b, struct blob *blob, struct parked **list)
{
	for (size_t i = 0; i < BLOB_QUEUES && blob->n_parked > 0; i++)
		while (blob->queues[i] != NULL)
			move(b, blob->queues[i], list);
}

void
blobtable_take_waiting(struct blobs *b, struct blob *blob, struct parked **list)
{
	for (size_t i = 0; i < BLOB_QUEUES && blob->n_parked > 0; i++)
		for (struct parked *p = blob->queues[i], *next; p != NULL; p = next) {
			next = p->next;
			if (p->granule != BLOB_DISK)
				move(b, p, list);
		}
}

static void
take_from_queue(struct blobs *b, struct parked *queue, int64_t first, int64_t n,
		struct parked **list)
{
	for (struct parked *p = queue, *next; p != NULL; p = next) {
		next = p->next;
		if (p->granule >= first && p->granule - first < n)
			move(b, p, list);
	}
}

void
blobtable_take_granules(struct blobs *b, struct blob *blob, int64_t first, int64_t n,
			struct parked **list)
{
	if (blob->n_parked > 0 && n >= BLOB_QUEUES)
		for (size_t i = 0; i < BLOB_QUEUES; i++)
			take_from_queue(b, blob->queues[i], first, n, list);
	else if (blob->n_parked > 0)
		for (int64_t g = first; g < first + n; g++)
			take_from_queue(b, blob->queues[queue_of(g)], g, 1, list);
}

void
blobtable_hold(struct parked *p)
{
	p->again = true;
	p->blob->n_again++;
}

struct parked *
blobtable_look(struct blobs *b, uint64_t id)
{
	struct parked *p = b->by_id[id % BLOB_NUMBERS];

	while (p != NULL && p->read.id != id)
		p = p->next_number;
	return p;
}

void
blobtable_interrupt(struct blobs *b, uint64_t id, long long ends_at)
{
	struct parked *p = blobtable_look(b, id);

	if (p == NULL || p->read.ends_at != 0)
		return;
	p->read.ends_at = ends_at;
	if (ends_at < p->deadline)
		p->deadline = ends_at;
	blobtable_note_deadline(b, p->deadline);
}

struct parked *
blobtable_take(struct blobs *b, uint64_t id)
{
	struct parked *p = blobtable_look(b, id);

	if (p != NULL) {
		take_off(b, p);
		p->next = NULL;
		blobtable_collect(b, p->blob);
	}
	return p;
}

static void
note_overdue(struct blobs *b, const struct read *r, long long now)
{
	if (!r->buffered || r->ends_at != 0)
		return;
	b->overdue[b->n_overdue++ % BLOB_OVERDUE] = (struct overdue){
		.object = r->object, .off = r->off, .size = r->size,
		.since = r->since, .until = now + ASKED_AGAIN_MS,
	};
}

void
blobtable_begin_wait(const struct blobs *b, struct read *r, long long now)
{
	size_t n = b->n_overdue < BLOB_OVERDUE ? b->n_overdue : BLOB_OVERDUE;

	r->since = now;
	for (size_t i = 0; r->buffered && i < n && !r->late; i++) {
		const struct overdue *o = &b->overdue[i];

		if (o->object != r->object || now >= o->until || r->off < o->off ||
		    r->off >= o->off + (off_t)o->size)
			continue;
		r->since = o->since;
		r->late = true;
	}
}

struct parked *
blobtable_take_overdue(struct blobs *b, long long now)
{
	struct parked *overdue = NULL;

	b->next_deadline = 0;
	for (size_t i = 0; i < BLOB_NUMBERS; i++)
		for (struct parked *p = b->by_id[i], *next; p != NULL; p = next) {
			struct blob *blob = p->blob;

			next = p->next_number;
			if (p->deadline <= now) {
				note_overdue(b, &p->read, now);
				move(b, p, &overdue);
				blobtable_collect(b, blob);
			} else if (b->next_deadline == 0 || p->deadline < b->next_deadline) {
				b->next_deadline = p->deadline;
			}
		}
	return overdue;
}
