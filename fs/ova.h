/*
 * ova.h - what is known of archives: the indexes of OVA images, kept by digest.
 *
 * An index says what the files in images/<id>/ova/ are: members of the archive, or the one file
 * `error' of an archive that is refused.  It was made from verified bytes of the digest and never
 * changes.  Here is no I/O: ovaread.h makes indexes.  The table is bounded (LIMIT_OVA_INDEXES):
 * what was not used for longest goes and is read again when it is asked for; what has an open
 * member stays.  Any thread.
 */
#ifndef VMI_OVA_H
#define VMI_OVA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/digest.h"
#include "core/tarindex.h"

struct ova_index {
	atomic_uint refs;
	struct digest digest;
	uint64_t serial;		/* of what is in it: the same in every process; never 0 */
	char *error;			/* NULL: the members count */
	size_t n;
	struct tar_member *members;	/* by name */
};

/* As const as records are: only their count changes.  ova_unref(NULL) is fine. */
const struct ova_index *ova_ref(const struct ova_index *x);	/* returns x */
void ova_unref(const struct ova_index *x);

struct ovas;

/*
 * changed() is told, without locks, of each digest whose index came, or was let go of; disowned:
 * names that were found by it may lead elsewhere from now on.
 */
typedef void ovas_changed(void *arg, const struct digest *d, bool disowned);
struct ovas *ovas_new(ovas_changed *changed, void *arg);
void ovas_free(struct ovas *o);		/* NULL is fine */

/* A new reference, or NULL. */
const struct ova_index *ovas_find(struct ovas *o, const struct digest *d);
bool ovas_knows(struct ovas *o, const struct digest *d);

/* An index that was read: takes the members of tar; why (NULL: good) is the reason for `error'. */
void ovas_add(struct ovas *o, const struct digest *d, struct tarindex *tar, const char *why);

/* One more / one less open member.  The index stays, or comes back, as it was. */
void ovas_hold(struct ovas *o, const struct ova_index *x);
void ovas_let_go(struct ovas *o, const struct digest *d, uint64_t serial);

/*
 * That of an open member: a new reference.  -EAGAIN: it is not known and has to be read, as after
 * another worker; -ESTALE: it is another one now.
 */
int ovas_held(struct ovas *o, const struct digest *d, uint64_t serial,
	      const struct ova_index **out);

/* Lets go of what is unused, unless it is held, and of what is disowned. */
enum ova_fate { OVA_KEEP, OVA_UNUSED, OVA_DISOWNED };
void ovas_review(struct ovas *o, enum ova_fate (*judge)(void *arg, const struct digest *d),
		 void *arg);

/*
 * The number of an open member, for fi->fh:
 *
 *   63            36 35     28 27           0
 *   |    serial     | member+1 |  object row  |
 *
 * An open image has its object's row alone.  Another process can tell by the serial whether it has
 * the same members.
 */
enum { OVA_ROW_BITS = 28, OVA_MEMBER_BITS = 8 };
#define OVA_SERIAL_MASK ((1ULL << 28) - 1)

static inline uint64_t
ova_fh(uint64_t object, unsigned member, uint64_t serial)
{
	return serial << (OVA_ROW_BITS + OVA_MEMBER_BITS) |
	       (uint64_t)(member + 1) << OVA_ROW_BITS | object;
}

static inline uint64_t
ova_fh_object(uint64_t fh)
{
	return fh & ((1ULL << OVA_ROW_BITS) - 1);
}

/* -1: the whole image. */
static inline int
ova_fh_member(uint64_t fh)
{
	return (int)(fh >> OVA_ROW_BITS & ((1U << OVA_MEMBER_BITS) - 1)) - 1;
}

static inline uint64_t
ova_fh_serial(uint64_t fh)
{
	return fh >> (OVA_ROW_BITS + OVA_MEMBER_BITS);
}

#endif
