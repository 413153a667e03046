/*
 * import.c - a vmcatcher database becomes rows here.
 *
 * The whole of it is read first (importsource.h).  Then come, each in a transaction of its own:
 *
 *   endorsers       with all credentials
 *   a subscription  policy, links, which images are known and selected, and its list, if that
 *                   passes the verifier and the judges of lists
 *   a file          the object, when its bytes are the signed ones
 *
 * What was imported stands in notes of the catalogue: a credential, a link and a subscription by
 * their names, and the images of each subscription.  A second run passes over what it finds there,
 * be it in the rows or not, because who removed it here meant it.
 */
#include "config.h"
#include "import.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/candidate.h"
#include "core/cleanup.h"
#include "core/listjudge.h"
#include "core/stamp.h"
#include "importfiles.h"
#include "importimages.h"
#include "importsource.h"

struct import {
	struct ctl *ctl;
	struct source source;
	struct importfiles *files;	/* NULL: none */
	struct import_result *out;
};

/* ---- results --------------------------------------------------------------------------------- */

void
import_result_release(struct import_result *r)
{
	for (size_t i = 0; i < r->n_lists; i++) {
		free(r->lists[i].list_id);
		free(r->lists[i].url);
	}
	for (size_t i = 0; i < r->n_files; i++)
		free(r->files[i].identifier);
	for (size_t i = 0; i < r->n_odd; i++)
		free(r->odd[i]);
	free(r->lists);
	free(r->files);
	free(r->odd);
	memset(r, 0, sizeof(*r));
}

static void
note_odd(void *arg, const char *text)
{
	struct import_result *r = arg;

	r->odd = xrealloc(r->odd, (r->n_odd + 1) * sizeof(*r->odd));
	r->odd[r->n_odd++] = xstrdup(text);
	r->refused = true;
}

static struct import_list *
add_list(struct import_result *r, const struct source_list *l)
{
	struct import_list *i;

	r->lists = xrealloc(r->lists, (r->n_lists + 1) * sizeof(*r->lists));
	i = &r->lists[r->n_lists++];
	*i = (struct import_list){ .list_id = xstrdup(l->list_id), .url = xstrdup(l->url),
				   .has_list = l->message.len > 0 };
	return i;
}

static struct import_file *
add_file(struct import_result *r, const char *identifier)
{
	struct import_file *f;

	r->files = xrealloc(r->files, (r->n_files + 1) * sizeof(*r->files));
	f = &r->files[r->n_files++];
	*f = (struct import_file){ .identifier = xstrdup(identifier) };
	return f;
}

/* ---- what was imported before ---------------------------------------------------------------- */

static int
is_noted(struct import *im, const char *key, bool *noted, struct err *err)
{
	CLEANUP_FREE char *value = NULL;
	int rc = catalogue_note_read(im->ctl->catalogue, key, &value, err);

	*noted = value != NULL;
	return rc;
}

static int
note(struct import *im, const char *key, const char *value, struct err *err)
{
	return catalogue_note_set(im->ctl->catalogue, key, value, err);
}

/* ---- endorsers ------------------------------------------------------------------------------- */

static bool
has_endorser(struct import *im, const char *name)
{
	struct endorser_row row = { 0 };
	int rc = catalogue_endorser_get(im->ctl->catalogue, name, &row, NULL);

	endorser_row_release(&row);
	return rc == 0;
}

static bool
has_credential(struct import *im, const struct source_credential *s)
{
	struct endorser_row row = { 0 };
	bool found = false;

	(void)catalogue_endorser_get(im->ctl->catalogue, s->endorser, &row, NULL);
	for (size_t i = 0; i < row.n_credentials && !found; i++)
		found = strcmp(row.credentials[i].subject, s->subject) == 0 &&
			strcmp(row.credentials[i].issuer, s->issuer) == 0;
	endorser_row_release(&row);
	return found;
}

static int
import_credential(struct import *im, const struct source_credential *s, struct err *err)
{
	CLEANUP_FREE char *key = xasprintf(IMPORT_NOTE "credential %s\n%s", s->subject, s->issuer);
	struct err why = { 0 };
	bool is_new, noted;
	int rc = is_noted(im, key, &noted, err);

	if (rc != 0 || noted)
		return rc;
	if (!has_credential(im, s)) {
		is_new = !has_endorser(im, s->endorser);
		rc = catalogue_endorser_add(im->ctl->catalogue, s->endorser, s->subject, s->issuer,
					    false, false, &why);
		if (rc == -EEXIST) {
			err_prefix(&why, "endorser '%s' is not taken over with this credential",
				   s->endorser);
			note_odd(im->out, why.text);
			return 0;
		}
		if (rc != 0) {
			if (err != NULL)
				*err = why;
			return rc;
		}
		im->out->endorsers += is_new;
		im->out->credentials++;
	}
	im->out->changed = true;
	return note(im, key, "1", err);
}

static int
import_endorsers(struct ctl *ctl, void *arg, struct err *err)
{
	struct import *im = arg;
	int rc = 0;

	(void)ctl;
	for (size_t i = 0; i < im->source.n_credentials && rc == 0; i++)
		rc = import_credential(im, &im->source.credentials[i], err);
	return rc;
}

/* ---- one subscription: links and the row ----------------------------------------------------- */

static int
import_link(struct import *im, const struct source_list *l, const char *endorser, int64_t id,
	    struct err *err)
{
	CLEANUP_FREE char *key = xasprintf(IMPORT_NOTE "link %s\n%s", endorser, l->list_id);
	struct endorser_row row = { 0 };
	struct err why = { 0 };
	bool linked, noted;
	int rc = is_noted(im, key, &noted, err);

	if (rc != 0 || noted)
		return rc;
	/* One who has been removed here, or could not be taken over, which has been said. */
	if (catalogue_endorser_get(im->ctl->catalogue, endorser, &row, NULL) != 0)
		return 0;
	linked = catalogue_is_linked(im->ctl->catalogue, row.id, id);
	endorser_row_release(&row);
	if (!linked) {
		rc = catalogue_link(im->ctl->catalogue, endorser, id, &why);
		if (why.code == CODE_NOT_LINKED) {
			note_odd(im->out, why.text);
			return 0;
		}
		if (rc != 0) {
			if (err != NULL)
				*err = why;
			return rc;
		}
		im->out->links++;
	}
	im->out->changed = true;
	return note(im, key, "1", err);
}

static enum trust_anchor
take_anchor(struct import *im, const struct source_list *l)
{
	CLEANUP_FREE char *text = NULL;

	if (l->trust_anchor >= ANCHOR_NONE && l->trust_anchor <= ANCHOR_IGTF)
		return (enum trust_anchor)l->trust_anchor;
	text = xasprintf("list '%s': trust anchor %d is none that is known: none is set",
			 l->list_id, l->trust_anchor);
	note_odd(im->out, text);
	return ANCHOR_NONE;
}

static void
warn_of_plain_http(struct import *im, const struct source_list *l)
{
	CLEANUP_FREE char *text = NULL;

	if (l->username == NULL || strncasecmp(l->url, "https://", 8) == 0)
		return;
	text = xasprintf("list '%s': its credentials are kept, but sent over https only, not to"
			 " '%s'", l->list_id, l->url);
	note_odd(im->out, text);
}

static int
add_subscription(struct import *im, const struct source_list *l, int64_t *id,
		 struct import_list *result, struct err *err)
{
	struct subscription_row row = {
		.list_id = l->list_id, .url = l->url,
		.username = l->username, .password = l->password,
		.refuse_new = (l->update_mode & 1) == 0,
		.select_new = (l->update_mode & 2) != 0 ? SELECT_ALL : SELECT_NONE,
		.trust_anchor = take_anchor(im, l),
	};
	struct err why = { 0 };
	int rc = catalogue_subscription_add(im->ctl->catalogue, &row, &why);

	*id = row.id;
	free(row.name);
	if (rc == 0) {
		im->out->changed = true;
		warn_of_plain_http(im, l);
	} else if (rc == -EEXIST) {
		result->outcome = IMPORT_REFUSED;
		result->why = why;
		rc = 0;
	} else if (err != NULL) {
		*err = why;
	}
	return rc;
}

/* *id 0: there is none here, and none comes; result says why. */
static int
import_row(struct import *im, const struct source_list *l, int64_t *id, struct import_list *result,
	   struct err *err)
{
	CLEANUP_FREE char *key = xasprintf(IMPORT_NOTE "subscription %s", l->list_id);
	struct subscription_row row = { 0 };
	bool noted;
	int rc = is_noted(im, key, &noted, err);

	*id = 0;
	if (rc != 0)
		return rc;
	/* A prefix, or an address, may find another one. */
	if (catalogue_subscription_find(im->ctl->catalogue, l->list_id, &row, NULL) == 0 &&
	    strcmp(row.list_id, l->list_id) == 0) {
		*id = row.id;
		result->outcome = IMPORT_KNOWN;
	} else if (noted) {
		result->outcome = IMPORT_LEFT;
	} else {
		rc = add_subscription(im, l, id, result, err);
	}
	subscription_row_release(&row);
	if (rc == 0 && *id != 0 && !noted)
		rc = note(im, key, "1", err);
	return rc;
}

/* ---- one subscription: its list -------------------------------------------------------------- */

/* An enum judgement, or a refusal: with the rows as they are in this transaction. */
static int
judge(struct import *im, const struct subscription_row *sub, const struct candidate *cand,
      struct err *why)
{
	CLEANUP_FREE char *endorser = NULL;
	int rc;

	if (strcmp(sub->list_id, cand->list->identifier) != 0)
		return err_refuse(why, CODE_LIST_ID, "what is stored is list '%s'",
				  cand->list->identifier);
	rc = list_judge_endorser(im->ctl->catalogue, sub->id, &cand->verdict, &endorser, why);
	if (rc == 0)
		rc = list_judge(sub, cand->list, &cand->digest, im->ctl->conf, stamp_now(), NULL,
				why);
	return rc;
}

/* That it was refused is told of a subscription that has no list; one that has a list keeps it. */
static int
record_refusal(struct import *im, const struct subscription_row *sub, const struct err *why,
	       struct import_list *result, struct err *err)
{
	enum code code = why->code != CODE_NONE ? why->code : CODE_DOWNLOAD;

	if (sub->has_message)
		return 0;
	result->why = *why;
	result->why.code = code;
	im->out->refused = true;
	if (sub->code == code && sub->error != NULL && strcmp(sub->error, why->text) == 0)
		return 0;
	return catalogue_subscription_tried(im->ctl->catalogue, sub->id, stamp_now(), code,
					    why->text, err);
}

/* cand: what was stored, examined; examined: why that failed, if it did. */
static int
import_message(struct import *im, int64_t id, const struct candidate *cand,
	       const struct err *examined, struct import_list *result, struct err *err)
{
	struct subscription_row sub = { 0 };
	struct update_result update = { 0 };
	struct err why = *examined;
	int rc, judgement;

	rc = catalogue_subscription_by_id(im->ctl->catalogue, id, &sub, err);
	if (rc == 0) {
		judgement = why.rc == 0 ? judge(im, &sub, cand, &why) : why.rc;
		if (judgement < 0) {
			rc = record_refusal(im, &sub, &why, result, err);
		} else if (judgement != JUDGE_SAME) {
			rc = catalogue_apply_list(im->ctl->catalogue, &sub, cand->list,
						  &cand->verdict, cand->message.data,
						  cand->message.len, stamp_now(), &update, err);
			result->applied = rc == 0;
			im->out->changed = true;
		}
	}
	subscription_row_release(&sub);
	return rc;
}

struct step {
	struct import *im;
	const struct source_list *list;
	const struct candidate *candidate;	/* NULL: no list, or the one that is here */
	const struct err *examined;
	struct import_list *result;
};

static int
import_subscription(struct ctl *ctl, void *arg, struct err *err)
{
	const struct step *s = arg;
	int64_t id;
	int rc = import_row(s->im, s->list, &id, s->result, err);

	if (rc != 0 || id == 0)
		return rc;
	for (size_t i = 0; i < s->list->n_endorsers && rc == 0; i++)
		rc = import_link(s->im, s->list, s->list->endorsers[i], id, err);
	if (rc == 0)
		rc = importimages(ctl->catalogue, id, s->list, s->result, &s->im->out->changed,
				  err);
	if (rc == 0 && s->candidate != NULL)
		rc = import_message(s->im, id, s->candidate, s->examined, s->result, err);
	return rc;
}

/* Whether the very message is the subscription's list already. */
static bool
has_message(struct import *im, const struct source_list *l, const struct digest *digest)
{
	struct subscription_row row = { 0 };
	bool same = catalogue_subscription_find(im->ctl->catalogue, l->list_id, &row, NULL) == 0 &&
		    strcmp(row.list_id, l->list_id) == 0 && row.has_message &&
		    digest_equal(&row.message, digest);

	subscription_row_release(&row);
	return same;
}

/* The verifier takes its time: it runs before the transaction. */
static int
import_list(struct import *im, const struct source_list *l, struct err *err)
{
	CLEANUP_CANDIDATE struct candidate cand;
	struct import_list *result = add_list(im->out, l);
	struct err examined = { 0 };
	struct step step = { .im = im, .list = l, .examined = &examined, .result = result };
	int rc;

	candidate_init(&cand);
	if (l->why.rc != 0 || !l->authorised) {
		result->outcome = IMPORT_REFUSED;
		result->why = l->why;
		if (!l->authorised)
			err_set(&result->why, EPERM, "it is not authorised in the database");
		im->out->refused = true;
		return 0;
	}
	if (l->message.len > 0) {
		buf_add(&cand.message, l->message.data, l->message.len);
		digest_of(cand.message.data, cand.message.len, &cand.digest);
	}
	if (l->message.len > 0 && !has_message(im, l, &cand.digest)) {
		if (candidate_examine(&cand, im->ctl->conf, im->ctl->starter, &examined) == 0)
			err_clear(&examined);
		step.candidate = &cand;
	}
	rc = ctl_transaction(im->ctl, import_subscription, &step, err);
	if (result->outcome == IMPORT_REFUSED)
		im->out->refused = true;
	return rc;
}

/* ---- files ----------------------------------------------------------------------------------- */

struct version {		/* of a selected image, not stored yet */
	char *identifier;
	struct digest digest;
	int64_t size;
};

struct versions {
	struct version *at;
	size_t n;
};

static void
add_version(struct versions *v, const struct image_meta *m)
{
	v->at = xrealloc(v->at, (v->n + 1) * sizeof(*v->at));
	v->at[v->n++] = (struct version){ .identifier = xstrdup(m->value[FIELD_ID]),
					  .digest = m->sha512, .size = m->size };
}

static int
add_selected(void *arg, const struct image_row *r)
{
	struct versions *v = arg;

	if (!r->selected)
		return 0;
	add_version(v, &r->meta);
	if (r->has_pending)
		add_version(v, &r->pending);
	return 0;
}

/* Of two versions of an image the one that has the file's size; they follow each other. */
static int
adopt_version(struct import *im, const struct version *v, int fd, int64_t size,
	      struct import_file *result, struct err *err)
{
	struct object_row row = { 0 };
	int rc = catalogue_object_get(im->ctl->catalogue, &v->digest, &row, err);

	if (rc == 0 && row.state == OBJECT_VERIFIED) {
		result->known = true;
	} else if (rc == 0) {
		rc = importfiles_adopt(im->ctl, v->identifier, fd, size, &row, &result->why);
		result->adopted = rc == 0;
		/* A file that is not wanted harms nobody; an unwritable catalogue does. */
		if (result->why.code == CODE_DATABASE || result->why.code == CODE_BUSY) {
			if (err != NULL)
				*err = result->why;
		} else {
			rc = 0;
		}
	}
	object_row_release(&row);
	return rc;
}

static bool
is_stored(struct import *im, const struct version *v)
{
	struct object_row row = { 0 };
	bool stored = catalogue_object_get(im->ctl->catalogue, &v->digest, &row, NULL) == 0 &&
		      row.state == OBJECT_VERIFIED;

	object_row_release(&row);
	return stored;
}

/* The versions at[0..n) are of one image. */
static int
adopt_image(struct import *im, const struct version *at, size_t n, struct err *err)
{
	struct import_file *result;
	CLEANUP_FD int fd = -1;
	struct err why = { 0 };
	int64_t size = 0;
	int rc = 0;

	fd = importfiles_get(im->files, at[0].identifier, &size, &why);
	if (fd == -ENOENT)
		return 0;
	result = add_file(im->out, at[0].identifier);
	result->size = size;
	result->why = why;
	if (fd >= 0) {
		size_t pick = 0;

		while (pick + 1 < n && (at[pick].size != size || is_stored(im, &at[pick])))
			pick++;
		rc = adopt_version(im, &at[pick], fd, size, result, err);
	}
	if (result->adopted)
		im->out->changed = true;
	else if (!result->known)
		im->out->refused = true;
	return rc;
}

static int
adopt_selected(struct import *im, struct versions *v, struct err *err)
{
	int rc = catalogue_image_each(im->ctl->catalogue, 0, true, add_selected, v, err);

	for (size_t i = 0, n; i < v->n && rc == 0; i += n) {
		for (n = 1; i + n < v->n; n++)
			if (strcmp(v->at[i].identifier, v->at[i + n].identifier) != 0)
				break;
		rc = adopt_image(im, &v->at[i], n, err);
	}
	return rc;
}

/* What was selected there, lies there, and has no list here that could say what it must be. */
static void
tell_unlisted(struct import *im, const struct known_images *known, struct source_image *image)
{
	struct import_file *result;
	CLEANUP_FD int fd = -1;
	int64_t size = 0;

	if (!image->selected || known_find(known, image->identifier) != NULL)
		return;
	fd = importfiles_get(im->files, image->identifier, &size, NULL);
	if (fd < 0)
		return;
	result = add_file(im->out, image->identifier);
	result->size = size;
	err_set(&result->why, ENOENT, "no list that is accepted here names it");
	im->out->refused = true;
}

static int
import_files(struct import *im, struct err *err)
{
	struct known_images known = { 0 };
	struct versions v = { 0 };
	int rc = adopt_selected(im, &v, err);

	if (rc == 0)
		rc = known_load(&known, im->ctl->catalogue, 0, err);
	for (size_t i = 0; i < im->source.n_lists && rc == 0; i++)
		for (size_t k = 0; k < im->source.lists[i].n_images; k++)
			tell_unlisted(im, &known, &im->source.lists[i].images[k]);
	for (size_t i = 0; i < v.n; i++)
		free(v.at[i].identifier);
	free(v.at);
	known_release(&known);
	return rc;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int
open_all(struct import *im, const char *path, const char *cache_dir, struct err *err)
{
	int rc = source_load(&im->source, path, err);

	if (rc == 0 && cache_dir != NULL)
		rc = importfiles_open(&im->files, cache_dir, err);
	if (rc == 0 && im->ctl->catalogue == NULL)
		rc = ctl_open(im->ctl, CTL_WRITE | CTL_STARTER, err);
	if (rc == 0 && im->files != NULL)
		rc = ctl_open_store(im->ctl, true, err);
	return rc;
}

int
import_vmcatcher(struct ctl *ctl, const char *path, const char *cache_dir,
		 struct import_result *out, struct err *err)
{
	struct import im = { .ctl = ctl, .out = out };
	int rc;

	memset(out, 0, sizeof(*out));
	im.source.odd = note_odd;
	im.source.arg = out;
	rc = open_all(&im, path, cache_dir, err);
	if (rc == 0)
		rc = ctl_transaction(ctl, import_endorsers, &im, err);
	for (size_t i = 0; i < im.source.n_lists && rc == 0; i++)
		rc = import_list(&im, &im.source.lists[i], err);
	if (rc == 0 && im.files != NULL)
		rc = import_files(&im, err);
	importfiles_close(im.files);
	source_release(&im.source);
	return rc;
}
