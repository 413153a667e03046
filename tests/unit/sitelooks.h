/*
 * sitelooks.h - every way to ask a catalogue for what it knows, each as a function of its own.
 */
#ifndef VMI_TEST_SITELOOKS_H
#define VMI_TEST_SITELOOKS_H

#include "siteacts.h"

/* ---- what is told ---------------------------------------------------------------------------- */

#define EACH_STEP(name, type, call) \
	static int name##_one(void *arg, type r) \
	{ \
		(void)arg; \
		(void)r; \
		return 0; \
	} \
	static int name(struct life *l, struct err *err) \
	{ \
		const struct digest e = content('e'); \
		struct catalogue *c = l->f->c; \
		(void)e; \
		return call; \
	}
EACH_STEP(endorsers, const struct endorser_row *, catalogue_endorser_each(c, endorsers_one, l, err))
EACH_STEP(subscriptions, const struct subscription_row *,
	  catalogue_subscription_each(c, subscriptions_one, l, err))
EACH_STEP(images, const struct image_row *, catalogue_image_each(c, 0, false, images_one, l, err))
EACH_STEP(images_of, const struct image_row *,
	  catalogue_image_each(c, l->sub, true, images_of_one, l, err))
EACH_STEP(stubs, const struct image_stub *, catalogue_image_stubs(c, stubs_one, l, err))
EACH_STEP(refused, const struct refused_row *,
	  catalogue_refused_each(c, l->other, refused_one, l, err))
EACH_STEP(wishes, const struct wish_row *, catalogue_wish_each(c, wishes_one, l, err))
EACH_STEP(objects, const struct object_row *, catalogue_object_each(c, objects_one, l, err))
EACH_STEP(disagreeing, const struct digest *,
	  catalogue_object_disagreeing(c, disagreeing_one, l, err))
EACH_STEP(leaving, const struct digest *, catalogue_leaving_each(c, leaving_one, l, err))
EACH_STEP(withdrawn, const struct digest *, catalogue_withdrawn_each(c, withdrawn_one, l, err))
EACH_STEP(evictable, const struct evict_row *, catalogue_evict_each(c, evictable_one, l, err))
EACH_STEP(expired, const struct expired_row *, catalogue_expired_each(c, expired_one, l, err))
EACH_STEP(events, const struct event_row *, catalogue_event_each(c, 0, 100, events_one, l, err))
EACH_STEP(attestations, const struct attestation_row *,
	  catalogue_attestation_each(c, attestations_one, l, err))
EACH_STEP(attested, const struct attestation_entry *,
	  catalogue_attested_each(c, 1, attested_one, l, err))

static int
two_words(void *arg, const char *a, const char *b)
{
	(void)arg;
	(void)a;
	(void)b;
	return 0;
}

static int
sources(struct life *l, struct err *err)
{
	const struct digest d = content('d');

	return catalogue_object_sources(l->f->c, &d, two_words, NULL, err);
}

static int
sidecars(struct life *l, struct err *err)
{
	const struct digest e = content('e');

	return catalogue_object_sidecars(l->f->c, &e, two_words, NULL, err);
}

static int
one_signer(void *arg, const char *subject, const char *issuer, const struct digest *message)
{
	(void)arg;
	(void)subject;
	(void)issuer;
	(void)message;
	return 0;
}

static int
signers(struct life *l, struct err *err)
{
	return catalogue_signer_each(l->f->c, one_signer, NULL, err);
}

static int
expired_stub(void *arg, int64_t id, int64_t rev)
{
	(void)rev;
	*(int64_t *)arg = id;
	return 0;
}

static int
expired_by_id(struct life *l, struct err *err)
{
	struct expired_row r;
	int64_t id = 0;
	int rc = catalogue_expired_stubs(l->f->c, expired_stub, &id, err);

	if (rc != 0)
		return rc;
	rc = catalogue_expired_by_id(l->f->c, id, &r, err);
	expired_row_release(&r);
	return rc;
}

static int
look_at_object(struct life *l, struct err *err)
{
	const struct digest e = content('e');
	struct object_look look;
	int rc = catalogue_object_look(l->f->c, &e, true, &look, err);

	object_look_release(&look);
	return rc;
}

static int
find_image(struct life *l, const char *what, struct err *err)
{
	struct image_row r;
	int rc = catalogue_image_find(l->f->c, what, &r, err);

	image_row_release(&r);
	return rc;
}

static int
find_by_title(struct life *l, struct err *err)
{
	return find_image(l, "Title of d", err);
}

static int
find_subscription(struct life *l, struct err *err)
{
	struct subscription_row r;
	int rc = catalogue_subscription_find(l->f->c, "0c7a3bd0", &r, err);

	subscription_row_release(&r);
	return rc;
}

static int
find_endorser(struct life *l, struct err *err)
{
	struct endorser_row r;
	int rc = catalogue_endorser_get(l->f->c, "alice", &r, err);

	endorser_row_release(&r);
	return rc;
}

static int
counts(struct life *l, struct err *err)
{
	struct catalogue_counts n;
	int64_t waiting, failed;
	int rc = catalogue_count(l->f->c, &n, err);

	return rc == 0 ? catalogue_delivery_count(l->f->c, &waiting, &failed, err) : rc;
}

/* Of what cannot be read there is none. */
static int
small_counts(struct life *l, struct err *err)
{
	(void)err;
	catalogue_data_version(l->f->c);
	catalogue_revision(l->f->c);
	catalogue_pin_count(l->f->c);
	catalogue_event_last(l->f->c);
	catalogue_next_expiry(l->f->c);
	catalogue_is_linked(l->f->c, 1, l->sub);
	free(catalogue_note_get(l->f->c, "schema"));
	return 0;
}

static int
set_note(struct life *l, struct err *err)
{
	return catalogue_note_set(l->f->c, "a note", "of something", err);
}

static int
format_site(struct life *l, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	return site_format(l->f->c, &text, err);
}

static int
write_site(struct life *l, struct err *err)
{
	return site_write(l->f->c, err);
}

/* What is good cannot be taken for damaged because it could not be read. */
static int
check_all(struct life *l, struct err *err)
{
	return catalogue_check(l->f->c, NULL, err);
}

static int
check_decisions(struct life *l, struct err *err)
{
	return catalogue_check_decisions(l->f->c, err);
}

#endif
