/*
 * vmcatcher_cachework.c - the three actions of vmcatcher_cache, and what they say.
 *
 *   expire    dates, the trust directory: what is no longer to be served leaves now
 *   sha512    what is stored is hashed again; what is bad goes to quarantine (granules that are
 *             known to be bad alone are healed by a daemon), with an event
 *   download  everything selected, available and not here, new versions included; one that cannot
 *             be had takes nothing away
 */
#include "config.h"
#include "vmcatcher_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/limits.h"
#include "inspect.h"
#include "mend.h"
#include "obtain.h"

/* ---- telling --------------------------------------------------------------------------------- */

static void
tell_moved(const struct vmc_run *r, const char *id)
{
	vmc_log(r->v, VMC_INFO, "DownloadDir", "Downloading '%s'.", id);
	vmc_log(r->v, VMC_INFO, "CacheMan", "moved file %s", id);
}

static int
tell_event(void *arg, const struct event_row *event)
{
	struct vmc_run *r = arg;
	const char *id = event->identifier;

	r->seen = event->id;
	if (strcmp(event->type, "ExpirePostfix") == 0) {
		vmc_log(r->v, VMC_INFO, "CacheMan", "Expired image '%s'", id);
		r->n_expired++;
	} else if (strcmp(event->type, "AvailablePostfix") == 0) {
		tell_moved(r, id);
		r->moved = xrealloc(r->moved, ((size_t)r->n_available + 1) * sizeof(*r->moved));
		r->moved[r->n_available++] = xstrdup(id);
	}
	return 0;
}

int
vmc_run_tell(struct vmc_run *r, struct err *err)
{
	/* Mostly nothing has happened. */
	if (catalogue_event_last(r->v->ctl.catalogue) == r->seen)
		return 0;
	return catalogue_event_each(r->v->ctl.catalogue, r->seen, 0, tell_event, r, err);
}

/* ---- expire ---------------------------------------------------------------------------------- */

bool
vmc_run_expire(struct vmc_run *r)
{
	struct err err = { 0 };

	if (vmc_apply_time(r->v, &err) == 0)
		return true;
	/* vmcatcher_cache needed none: dates have been looked at, and -U will say so louder. */
	if (err.code == CODE_NO_ANCHORS) {
		vmc_log(r->v, VMC_WARNING, "CacheMan", "whether lists can still be trusted is not"
			" looked at: %s", err.text);
		return true;
	}
	vmc_fail(r->v, "CacheMan", &err);
	return false;
}

/* ---- sha512 ---------------------------------------------------------------------------------- */

struct checking {
	struct vmc_run *run;
	struct inspect *at;
	size_t n;
	struct err err;
};

static int
add_stored(void *arg, const struct image_row *row)
{
	struct checking *k = arg;
	struct object_row object = { 0 };
	int rc;

	rc = catalogue_object_get(k->run->v->ctl.catalogue, &row->meta.sha512, &object, &k->err);
	if (rc == 0 && object.state == OBJECT_VERIFIED) {
		k->at = xrealloc(k->at, (k->n + 1) * sizeof(*k->at));
		inspect_init(&k->at[k->n++], &object, row->meta.value[FIELD_ID]);
	}
	object_row_release(&object);
	return rc;
}

static int
remedy(struct vmc_run *r, const struct inspect *o, const char *why, struct err *err)
{
	int rc = -ENOTCONN;

	if (o->verdict == INSPECT_SIGNED)
		return err_set(err, EBADMSG, "what was signed does not agree with itself; ask its"
			       " endorser");
	if (o->verdict == INSPECT_TREE || o->verdict == INSPECT_BLOCKS)
		rc = mend_ask(&r->v->ctl, o, err);
	if (rc == -ENOTCONN && o->verdict == INSPECT_TREE)
		return mend_tree(&r->v->ctl, o, err);
	if (rc != 0)
		rc = mend_replace(&r->v->ctl, o, why, err);
	return rc;
}

static bool
is_bad(const struct inspect *o)
{
	return o->verdict != INSPECT_GOOD && o->verdict != INSPECT_TREE;
}

/* Whether all is well with it now, or it is on its way to be. */
static bool
check_one(struct vmc_run *r, struct inspect *o)
{
	struct err why = { 0 }, err = { 0 };
	bool silent = r->v->ctl.out.verbosity < 0 || isatty(STDERR_FILENO) != 1;

	if (inspect_object(o, r->v->ctl.store, silent, &why) == 0)
		return true;
	if (is_bad(o)) {
		r->n_bad++;
		vmc_log(r->v, VMC_ERROR, "CacheMan", why.code == CODE_SIZE ?
			"Image '%s' size incorrect." : "Image '%s' sha512 incorrect.", o->name);
		vmc_log(r->v, VMC_INFO, "CacheMan", "Image '%s': %s", o->name, why.text);
	}
	if (remedy(r, o, why.text, &err) != 0) {
		vmc_log(r->v, VMC_ERROR, "CacheMan", "Image '%s': %s", o->name, err.text);
		return false;
	}
	if (is_bad(o))
		vmc_log(r->v, VMC_ERROR, "CacheMan", "Image '%s' was corrupted deleting.", o->name);
	return true;
}

bool
vmc_run_sha512(struct vmc_run *r)
{
	struct checking k = { .run = r };
	struct ctl *ctl = &r->v->ctl;
	bool good = true;
	int rc;

	rc = catalogue_image_each(ctl->catalogue, 0, true, add_stored, &k, &k.err);
	if (rc == 0)
		rc = ctl_open_store(ctl, false, &k.err);
	if (rc != 0)
		vmc_fail(r->v, "CacheMan", &k.err);
	for (size_t i = 0; i < k.n; i++) {
		if (rc == 0)
			good = check_one(r, &k.at[i]) && good;
		inspect_release(&k.at[i]);
	}
	free(k.at);
	return rc == 0 && good;
}

/* ---- download -------------------------------------------------------------------------------- */

struct gathering {
	struct vmc_run *run;
	struct obtain_list list;
	struct err err;
};

/*
 * 1: nobody asks for it again before there is another list.  What counts as a try are bytes that
 * were wrong; a network that fails is tried at every run.
 */
static int
is_given_up(struct gathering *g, const struct image_row *row, const struct image_meta *meta)
{
	struct object_row object = { 0 };
	int rc;

	rc = catalogue_object_get(g->run->v->ctl.catalogue, &meta->sha512, &object, &g->err);
	if (rc == 0 && object.state == OBJECT_FAILED && object.tries >= LIMIT_TRIES) {
		vmc_log(g->run->v, VMC_WARNING, "DownloadDir", "Image '%s' has failed to download"
			" '%d' times, giving up until new image list.", row->meta.value[FIELD_ID],
			object.tries);
		vmc_log(g->run->v, VMC_ERROR, "CacheMan", "Failed to download file '%s'.",
			row->meta.value[FIELD_ID]);
		g->run->n_failed++;
		rc = 1;
	}
	object_row_release(&object);
	return rc;
}

static int
gather(void *arg, const struct image_row *row)
{
	struct gathering *g = arg;
	size_t n = g->list.n;
	int rc = 0;

	if (!row->selected)
		return 0;
	rc = obtain_add_image(&g->run->v->ctl, &g->list, row, true, &g->err);
	/* Mostly everything is here. */
	if (rc != 0 || g->list.n == n)
		return rc;
	rc = is_given_up(g, row, row->has_pending ? &row->pending : &row->meta);
	if (rc != 1)
		return rc;
	free(g->list.items[--g->list.n].name);
	return 0;
}

static void
tell_failure(struct vmc_run *r, const struct obtain_item *item)
{
	struct vmc *v = r->v;

	switch ((int)item->err.code) {
	case CODE_DIGEST:
		vmc_log(v, VMC_ERROR, "DownloadDir",
			"Downloaded image '%s' has unexpected sha512.", item->name);
		vmc_log(v, VMC_INFO, "DownloadDir", "%s", item->err.text);
		break;
	case CODE_SIZE:
	case CODE_TOO_MUCH:
		vmc_log(v, VMC_ERROR, "DownloadDir", "Image '%s' is incorrect size.", item->name);
		vmc_log(v, VMC_INFO, "DownloadDir", "%s", item->err.text);
		break;
	default:
		vmc_log(v, VMC_ERROR, "DownloadDir", "Image '%s': %s", item->name, item->err.text);
	}
	vmc_log(v, VMC_ERROR, "CacheMan", "Failed to download file '%s'.", item->name);
	r->n_failed++;
}

/* An engine of our own takes the catalogue; the store is free for what handlers may call. */
static int
reopen(struct vmc_run *r, struct err *err)
{
	struct ctl *ctl = &r->v->ctl;

	store_close(ctl->store);
	ctl->store = NULL;
	if (ctl->catalogue != NULL)
		return 0;
	starter_free(ctl->starter);
	ctl->starter = NULL;
	return ctl_open(ctl, 0, err);
}

/* What was here before, so that handlers know of it, and came back after it was lost. */
static int
tell_back(struct vmc_run *r, const struct obtain_list *list, struct err *err)
{
	int rc = vmc_run_tell(r, err);

	for (size_t i = 0; rc == 0 && i < list->n; i++) {
		const struct obtain_item *item = &list->items[i];
		int k = 0;

		while (k < r->n_available && strcmp(r->moved[k], item->name) != 0)
			k++;
		if (item->err.rc == 0 && k == r->n_available)
			tell_moved(r, item->name);
	}
	return rc;
}

static int
fetch(struct vmc_run *r, struct gathering *g)
{
	int verbosity = r->v->ctl.out.verbosity, rc;

	/* Progress is for people: cron's mail has lines of vmcatcher's form alone. */
	if (isatty(STDERR_FILENO) != 1)
		r->v->ctl.out.verbosity = -1;
	vmc_run_adopt(r, &g->list);
	rc = obtain_all(&r->v->ctl, &g->list, &g->err);
	r->v->ctl.out.verbosity = verbosity;
	if (rc != 0)
		vmc_fail(r->v, "DownloadDir", &g->err);
	for (size_t i = 0; rc == 0 && i < g->list.n; i++)
		if (g->list.items[i].err.rc != 0)
			tell_failure(r, &g->list.items[i]);
	return rc;
}

static int
obtain(struct vmc_run *r, struct gathering *g)
{
	int rc, again;

	if (g->list.n == 0)
		return 0;
	rc = fetch(r, g);
	again = reopen(r, &g->err);
	if (rc == 0 && again == 0)
		again = tell_back(r, &g->list, &g->err);
	if (again != 0)
		vmc_fail(r->v, "CacheMan", &g->err);
	return rc != 0 ? rc : again;
}

bool
vmc_run_download(struct vmc_run *r)
{
	struct gathering g = { .run = r, .list.patient = true };
	int rc;

	rc = catalogue_image_each(r->v->ctl.catalogue, 0, true, gather, &g, &g.err);
	if (rc != 0)
		vmc_fail(r->v, "CacheMan", &g.err);
	else
		rc = obtain(r, &g);
	obtain_release(&g.list);
	return rc == 0 && r->n_failed == 0;
}
