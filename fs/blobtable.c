/*
 * The table of blobs and the lists of reads that wait on them.  No I/O and no replies: those are
 * made in blob.c, after the lock was let go.
 */
#include "config.h"
#include "fs/blobtable.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/buf.h"

void
blobtable_check(const struct blob *blob)
{
	assert((blob->state == BLOB_READY) == (blob->stored != NULL));
	assert(blob->state == BLOB_ABSENT || (blob->parked == NULL && blob->suspect == NULL));
	(void)blob;
}

struct stored *
stored_new(int fd, const struct digest *d)
{
	struct stored *s = xcalloc(1, sizeof(*s));

	s->refs = 1;
	s->fd = fd;
	s->digest = *d;
	return s;
}

struct stored *
stored_ref(struct stored *s)
{
	if (s != NULL)
		s->refs++;
	return s;
}

void
stored_unref(struct stored *s)
{
	if (s == NULL || --s->refs > 0)
		return;
	close(s->fd);
	free(s);
}

struct blob *
blobtable_find(struct blobs *b, uint64_t object)
{
	struct blob *blob = b->buckets[object % BLOB_BUCKETS];

	while (blob != NULL && blob->object != object)
		blob = blob->next;
	return blob;
}

/*
 * The next blob with these bytes, in the order of the table.  There may be several: an object that
 * was forgotten while a file of it was open has another number when it is listed again.
 */
struct blob *
blobtable_next(struct blobs *b, const struct digest *d, const struct blob *after)
{
	size_t i = after != NULL ? after->object % BLOB_BUCKETS : 0;
	struct blob *blob = after != NULL ? after->next : b->buckets[0];

	for (;;) {
		for (; blob != NULL; blob = blob->next)
			if (digest_equal(&blob->digest, d))
				return blob;
		if (++i == BLOB_BUCKETS)
			return NULL;
		blob = b->buckets[i];
	}
}

void
blobtable_collect(struct blobs *b, struct blob *blob)
{
	struct blob **p = &b->buckets[blob->object % BLOB_BUCKETS];

	blobtable_check(blob);
	if (blob->opens > 0 || blob->parked != NULL)
		return;
	while (*p != blob)
		p = &(*p)->next;
	*p = blob->next;
	stored_unref(blob->stored);
	stored_unref(blob->suspect);
	free(blob);
}

struct blob *
blobtable_add(struct blobs *b, uint64_t object, const struct digest *d, int64_t size)
{
	struct blob *blob = xcalloc(1, sizeof(*blob));

	blob->object = object;
	blob->digest = *d;
	blob->size = size;
	blob->next = b->buckets[object % BLOB_BUCKETS];
	b->buckets[object % BLOB_BUCKETS] = blob;
	return blob;
}

/* Takes all parked reads off a blob and puts them in front of a list. */
void
blobtable_take_parked(struct blobs *b, struct blob *blob, struct parked **list)
{
	struct parked **end = &blob->parked;

	for (; *end != NULL; end = &(*end)->next)
		b->n_parked--;
	*end = *list;
	*list = blob->parked;
	blob->parked = NULL;
}

/* Takes one parked read off by its number; NULL if it was answered. */
struct parked *
blobtable_take(struct blobs *b, uint64_t id)
{
	for (size_t i = 0; i < BLOB_BUCKETS; i++) {
		for (struct blob *blob = b->buckets[i]; blob != NULL; blob = blob->next) {
			for (struct parked **p = &blob->parked; *p != NULL; p = &(*p)->next) {
				struct parked *found = *p;

				if (found->id != id)
					continue;
				*p = found->next;
				b->n_parked--;
				blobtable_collect(b, blob);
				return found;
			}
		}
	}
	return NULL;
}

/* The lock is held.  Takes off what is past its deadline and notes the earliest one left. */
struct parked *
blobtable_take_overdue(struct blobs *b, long long now)
{
	struct parked *overdue = NULL;

	b->next_deadline = 0;
	for (size_t i = 0; i < BLOB_BUCKETS; i++) {
		struct blob *blob, *following;

		for (blob = b->buckets[i]; blob != NULL; blob = following) {
			struct parked **p = &blob->parked;

			following = blob->next;
			while (*p != NULL) {
				struct parked *found = *p;

				if (found->deadline > now) {
					if (b->next_deadline == 0 ||
					    found->deadline < b->next_deadline)
						b->next_deadline = found->deadline;
					p = &found->next;
					continue;
				}
				*p = found->next;
				found->next = overdue;
				overdue = found;
				b->n_parked--;
			}
			blobtable_collect(b, blob);
		}
	}
	return overdue;
}
