/*
 * record.c - one row of the catalogue as the tree shows it.
 *
 * The struct record is the first member of each kind, so that a pointer to one is a pointer to
 * the other; record_as_*() are the only places that use it.
 *
 * Of images there are tens of thousands, and each has forty strings: they are moved into one
 * block with the record, which halves the memory of a large site and leaves no holes behind.
 */
#include "config.h"
#include "fs/record.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "core/buf.h"
#include "fs/node.h"

static void
record_begin(struct record *r, enum record_class class, int64_t row, int64_t rev, uint64_t ino)
{
	atomic_init(&r->refs, 1);
	r->class = class;
	r->row = (uint64_t)row;
	r->rev = (uint64_t)rev;
	r->ino = ino;
}

uint64_t
record_ino(uint64_t parent_ino, const char *name)
{
	uint64_t h = 14695981039346656037ULL ^ parent_ino;

	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * 1099511628211ULL;
	/* The top bit keeps it apart from the small numbers of static entries. */
	return (h & ~0xffULL) | 1ULL << 63;
}

/* No member's name has a '/' in it. */
uint64_t
ova_ino(uint64_t object_ino, const char *member)
{
	return record_ino(object_ino, member != NULL ? member : "/error");
}

/* ---- rows whose strings lie in one block ---------------------------------------------------- */

enum { MAX_STRINGS = 2 * (N_FIELDS + 2) + 4 };

struct strings {
	char **at[MAX_STRINGS];		/* where the row points to them */
	size_t n, bytes;
};

static void
strings_add(struct strings *s, char **at)
{
	if (*at == NULL)
		return;
	assert(s->n < MAX_STRINGS);
	s->at[s->n++] = at;
	s->bytes += strlen(*at) + 1;
}

static void
strings_add_meta(struct strings *s, struct image_meta *m)
{
	for (int i = 0; i < N_FIELDS; i++)
		strings_add(s, &m->value[i]);
	strings_add(s, &m->json);
	strings_add(s, &m->verity_uri);
}

/* Copies them to the block; the row points there. */
static void
strings_move(const struct strings *s, char *block)
{
	for (size_t i = 0; i < s->n; i++) {
		size_t len = strlen(*s->at[i]) + 1;

		memcpy(block, *s->at[i], len);
		*s->at[i] = block;
		block += len;
	}
}

struct tree_image *
record_image(struct image_row *row, bool ahead)
{
	struct image_row packed = *row;
	struct strings s = { .n = 0, .bytes = 0 };
	struct tree_image *image;

	strings_add(&s, &packed.name);
	strings_add(&s, &packed.list_id);
	strings_add_meta(&s, &packed.meta);
	strings_add_meta(&s, &packed.pending);
	image = xmalloc(sizeof(*image) + s.bytes);
	strings_move(&s, image->strings);
	image->row = packed;
	image->ahead = ahead;
	image_row_release(row);
	/* The row stays the same when what is shown of it changes. */
	record_begin(&image->base, RECORD_IMAGE, packed.id, packed.rev * 2 + ahead, packed.ino);
	return image;
}

const struct image_meta *
tree_image_shown(const struct tree_image *image)
{
	return image->ahead ? &image->row.pending : &image->row.meta;
}

const struct image_meta *
tree_image_coming(const struct tree_image *image)
{
	return image->row.has_pending && !image->ahead ? &image->row.pending : NULL;
}

struct tree_expired *
record_expired(struct expired_row *row)
{
	struct expired_row packed = *row;
	struct strings s = { .n = 0, .bytes = 0 };
	struct tree_expired *expired;

	strings_add(&s, &packed.name);
	strings_add(&s, &packed.list_id);
	strings_add(&s, &packed.replaced_by);
	strings_add(&s, &packed.error);
	strings_add_meta(&s, &packed.meta);
	expired = xmalloc(sizeof(*expired) + s.bytes);
	strings_move(&s, expired->strings);
	expired->row = packed;
	expired_row_release(row);
	record_begin(&expired->base, RECORD_EXPIRED, packed.id, packed.rev, packed.ino);
	return expired;
}

/* ---- the others ----------------------------------------------------------------------------- */

struct tree_endorser *
record_endorser(struct endorser_row *row, int64_t *subs, size_t n_subs)
{
	struct tree_endorser *endorser = xcalloc(1, sizeof(*endorser));

	endorser->row = *row;
	memset(row, 0, sizeof(*row));
	endorser->subs = subs;
	endorser->n_subs = n_subs;
	record_begin(&endorser->base, RECORD_ENDORSER, endorser->row.id, endorser->row.rev,
		     endorser->row.ino);
	return endorser;
}

struct tree_sub *
record_sub(struct subscription_row *row, struct tree_refused **refused, size_t n_refused)
{
	struct tree_sub *sub = xcalloc(1, sizeof(*sub));

	sub->row = *row;
	memset(row, 0, sizeof(*row));
	sub->refused = refused;
	sub->n_refused = n_refused;
	record_begin(&sub->base, RECORD_SUB, sub->row.id, sub->row.rev, sub->row.ino);
	return sub;
}

static char *
copy_unless_empty(const char *text)
{
	return text != NULL && text[0] != '\0' ? xstrdup(text) : NULL;
}

struct tree_object *
record_object(const struct object_row *row)
{
	struct tree_object *object = xcalloc(1, sizeof(*object));

	object->row = *row;
	object->row.error = copy_unless_empty(row->error);
	object->row.strict_reason = copy_unless_empty(row->strict_reason);
	/* Where to resume is the engine's business. */
	object->row.etag = object->row.etag_url = NULL;
	record_begin(&object->base, RECORD_OBJECT, row->id, row->rev, row->ino);
	return object;
}

struct tree_refused *
record_refused(const struct refused_row *row, uint64_t sub_ino, int64_t updated)
{
	struct tree_refused *refused = xcalloc(1, sizeof(*refused));

	refused->identifier = xstrdup(row->identifier);
	refused->name = xstrdup(row->name);
	refused->error = xstrdup(row->error);
	refused->code = row->code;
	refused->updated = updated;
	record_begin(&refused->base, RECORD_REFUSED, row->id, 0, record_ino(sub_ino, row->name));
	return refused;
}

static void
record_free(struct record *r)
{
	switch (r->class) {
	case RECORD_OBJECT:
		object_row_release(&((struct tree_object *)r)->row);
		break;
	case RECORD_IMAGE: case RECORD_EXPIRED:
		break;		/* in one block with their strings */
	case RECORD_SUB: {
		struct tree_sub *sub = (struct tree_sub *)r;

		subscription_row_release(&sub->row);
		for (size_t i = 0; i < sub->n_refused; i++)
			record_unref(&sub->refused[i]->base);
		free(sub->refused);
		break;
	}
	case RECORD_REFUSED: {
		struct tree_refused *refused = (struct tree_refused *)r;

		free(refused->identifier);
		free(refused->name);
		free(refused->error);
		break;
	}
	case RECORD_ENDORSER: {
		struct tree_endorser *endorser = (struct tree_endorser *)r;

		endorser_row_release(&endorser->row);
		free(endorser->subs);
		break;
	}
	}
	free(r);
}

/* Records are const to everyone but their count. */
static struct record *
writable(const struct record *r)
{
	union { const struct record *c; struct record *w; } u = { .c = r };

	return u.w;
}

struct record *
record_ref(const struct record *r)
{
	struct record *w = writable(r);

	atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
	return w;
}

void
record_unref(const struct record *r)
{
	struct record *w = writable(r);

	if (w != NULL && atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) == 1)
		record_free(w);
}

const struct tree_object *
record_as_object(const struct record *r)
{
	assert(r->class == RECORD_OBJECT);
	return (const struct tree_object *)r;
}

const struct tree_image *
record_as_image(const struct record *r)
{
	assert(r->class == RECORD_IMAGE);
	return (const struct tree_image *)r;
}

const struct tree_sub *
record_as_sub(const struct record *r)
{
	assert(r->class == RECORD_SUB);
	return (const struct tree_sub *)r;
}

const struct tree_refused *
record_as_refused(const struct record *r)
{
	assert(r->class == RECORD_REFUSED);
	return (const struct tree_refused *)r;
}

const struct tree_endorser *
record_as_endorser(const struct record *r)
{
	assert(r->class == RECORD_ENDORSER);
	return (const struct tree_endorser *)r;
}

const struct tree_expired *
record_as_expired(const struct record *r)
{
	assert(r->class == RECORD_EXPIRED);
	return (const struct tree_expired *)r;
}

bool
image_meta_is_ova(const struct image_meta *m)
{
	const char *format = m->value[FIELD_FORMAT];
	size_t len = format != NULL ? strlen(format) : 0;

	while (len > 0 && !isalnum((unsigned char)format[len - 1]))
		len--;
	return len >= 3 && strncasecmp(format + len - 3, "ova", 3) == 0 &&
	       (len == 3 || !isalnum((unsigned char)format[len - 4]));
}

static bool
texts_equal(const char *a, const char *b)
{
	return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static bool
digests_equal(bool has_a, const struct digest *a, bool has_b, const struct digest *b)
{
	return has_a == has_b && (!has_a || digest_equal(a, b));
}

bool
object_row_equal(const struct object_row *a, const struct object_row *b)
{
	return a->id == b->id && a->rev == b->rev && a->ino == b->ino &&
	       digest_equal(&a->digest, &b->digest) && a->size == b->size &&
	       a->mtime == b->mtime && a->state == b->state && a->code == b->code &&
	       a->fetched == b->fetched && a->wanted == b->wanted && a->access == b->access &&
	       a->pending == b->pending && a->degraded == b->degraded &&
	       a->pinned == b->pinned &&
	       digests_equal(a->has_tree, &a->tree, b->has_tree, &b->tree) &&
	       digests_equal(a->has_root, &a->root, b->has_root, &b->root) &&
	       texts_equal(a->error, b->error) &&
	       texts_equal(a->strict_reason, b->strict_reason);
}
