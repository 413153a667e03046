/*
 * vmcatcher_cache.c - what is selected and available comes into the cache, what is not any more
 * leaves, and event handlers are told of it.
 *
 * The actions and their order are vmcatcher's: expire, sha512, download (vmcatcher_cachework.c).
 * Images are in the store, which the mount shows; the three directories name them for handlers
 * (handlerdir.h).  A run is one session of events:
 *
 *   ProcessPrefix  what expired  (downloading)  what became available  ProcessPostfix
 *
 * What a daemon, or an earlier command, has done since the last run is told like what this run
 * does. Handlers run as who called us; everything else as `user`, which therefore must be able to
 * write the three directories.
 */
#include "config.h"
#include "vmcatcher_cache.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/control.h"
#include "core/outbox.h"

#define SEEN_NOTE "vmcatcher-cache-event"

/* ---- what was asked for ---------------------------------------------------------------------- */

static void
take_actions(struct vmc_run *r)
{
	struct vmc *v = r->v;

	r->do_expire = vmc_flag(v, "expire");
	r->do_sha512 = vmc_flag(v, "sha512");
	r->do_download = vmc_flag(v, "download");
	if (!r->do_expire && !r->do_sha512 && !r->do_download) {
		r->do_expire = r->do_download = true;
		vmc_log(v, VMC_INFO, "main", "Defaulting actions as 'expire', and 'download'.");
	}
	if (r->do_download && !r->do_expire) {
		r->do_expire = true;
		vmc_log(v, VMC_INFO, "main",
			"Defaulting action 'expire', as 'download' is requested.");
	}
}

/* Absolute, because handlers need not begin where we do. */
static char *
absolute(const char *path)
{
	CLEANUP_FREE char *here = NULL;

	if (*path == '/')
		return xstrdup(path);
	here = realpath(".", NULL);
	return here != NULL ? xasprintf("%s/%s", here, path) : xstrdup(path);
}

static bool
check_directory(const struct vmc *v, const char *what, const char *path)
{
	struct stat st;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return true;
	vmc_log(v, VMC_ERROR, "main", "%s directory '%s' does not exist.", what, path);
	return false;
}

/* The directory of an option, or name below (NULL: in) the directory of the cache. */
static char *
take_directory(const struct vmc *v, const char *option, const char *below, const char *name)
{
	const char *given = vmc_value(v, option);
	char *path;

	if (given != NULL)
		return xstrdup(given);
	path = below == NULL ? xstrdup(name) :
	       xasprintf("%s%s%s", below, below[strlen(below) - 1] == '/' ? "" : "/", name);
	vmc_log(v, VMC_INFO, "main", "Defaulting %s to '%s'.", option, path);
	return path;
}

static bool
take_directories(struct vmc_run *r)
{
	CLEANUP_FREE char *cache = take_directory(r->v, "cache-dir", NULL, "cache");
	CLEANUP_FREE char *partial = take_directory(r->v, "partial-dir", cache, "partial");
	CLEANUP_FREE char *expired = take_directory(r->v, "expired-dir", cache, "expired");
	bool good = check_directory(r->v, "Cache", cache);

	good = check_directory(r->v, "Download", partial) && good;
	good = check_directory(r->v, "Expired", expired) && good;
	r->cache = absolute(cache);
	r->partial = absolute(partial);
	r->expired = absolute(expired);
	return good;
}

/* ---- beginning and ending -------------------------------------------------------------------- */

/* Where a daemon shows this store, NULL if it does not.  Caller frees. */
static char *
find_mount(struct vmc_run *r)
{
	const struct conf *conf = r->v->ctl.conf;
	CLEANUP_FREE char *link = xasprintf("%s/" CONTROL_MOUNTPOINT, conf->run_dir);
	CLEANUP_FREE char *inside = xasprintf("%s/by-sha512", link);
	struct stat st;

	/* A link that a dead daemon left leads to an empty directory. */
	if (control_call(conf, "poke", NULL, NULL, NULL, NULL) != 0 || stat(inside, &st) != 0)
		return NULL;
	return S_ISDIR(st.st_mode) ? realpath(link, NULL) : NULL;
}

static int
open_directories(struct vmc_run *r, struct err *err)
{
	CLEANUP_FREE char *mount = find_mount(r);
	struct handlerdir_config config = {
		.cache = r->cache, .partial = r->partial, .expired = r->expired,
		.mountpoint = mount, .objects = r->v->ctl.conf->cache_dir,
		.adopt = true,
	};
	int rc;

	rc = handlerdir_open(&r->dir, &config, err);
	r->session.dir = r->dir;
	return rc;
}

/* The first run of a store begins with what it does itself. */
static int
load_seen(struct vmc_run *r, struct err *err)
{
	struct catalogue *c = r->v->ctl.catalogue;
	int64_t last = catalogue_event_last(c);
	CLEANUP_FREE char *noted = NULL;
	int rc = catalogue_note_read(c, SEEN_NOTE, &noted, err);

	if (rc != 0)
		return rc;
	r->seen = noted != NULL ? strtoll(noted, NULL, 10) : last;
	/* A catalogue that was made anew counts from the beginning. */
	if (r->seen > last)
		r->seen = last;
	return 0;
}

static int
save_seen(struct vmc_run *r, struct err *err)
{
	struct catalogue *c = r->v->ctl.catalogue;
	CLEANUP_FREE char *noted = catalogue_note_get(c, SEEN_NOTE);
	CLEANUP_FREE char *text = xasprintf("%" PRId64, r->seen);

	if (noted != NULL && strcmp(noted, text) == 0)
		return 0;
	return catalogue_note_set(c, SEEN_NOTE, text, err);
}

static int
begin(struct vmc_run *r, struct err *err)
{
	unsigned flags = CTL_WRITE | CTL_STARTER;
	int rc;

	rc = vmc_open(r->v, flags, err);
	if (rc == 0)
		rc = vmc_session_begin(&r->session, r->v, HANDLER_CACHE, err);
	if (rc != 0)
		return rc;
	r->session.setting.cache = r->cache;
	r->session.setting.download = r->partial;
	r->session.setting.expire = r->expired;
	rc = load_seen(r, err);
	if (rc == 0)
		rc = open_directories(r, err);
	if (rc == 0)
		rc = vmc_session_process(&r->session, "ProcessPrefix", err);
	return rc;
}

/* The directories say what the rows say, also when nobody is told. */
static int
deliver(struct vmc_run *r, struct err *err)
{
	int rc = vmc_run_tell(r, err);

	if (rc == 0)
		rc = handlerdir_sync(r->dir, r->v->ctl.catalogue, err);
	return rc == 0 ? vmc_session_deliver(&r->session, err) : rc;
}

static int
end(struct vmc_run *r, struct err *err)
{
	int rc = vmc_session_process(&r->session, "ProcessPostfix", err);

	if (rc == 0)
		rc = deliver(r, err);
	if (rc == 0)
		rc = save_seen(r, err);
	if (rc == 0)
		rc = catalogue_event_prune(r->v->ctl.catalogue, err);
	if (rc == 0)
		rc = catalogue_expired_prune(r->v->ctl.catalogue, err);
	vmc_log(r->v, VMC_DEBUG, "CacheMan", "%d images available, %d expired, %d found bad, %d not"
		" downloaded", r->n_available, r->n_expired, r->n_bad, r->n_failed);
	return rc;
}

/* ---- the run --------------------------------------------------------------------------------- */

static int
step(struct vmc_run *r, bool wanted, bool (*fn)(struct vmc_run *r), const char *failure)
{
	if (!wanted || fn(r))
		return 0;
	vmc_log(r->v, VMC_ERROR, "main", "%s", failure);
	return 1;
}

static int
run(struct vmc_run *r)
{
	struct err err = { 0 };
	int status;

	if (begin(r, &err) != 0)
		return vmc_fail(r->v, "main", &err);
	status = step(r, r->do_expire, vmc_run_expire, "Failed to expire old images");
	/* Before what may take hours: who is told late serves what is withdrawn. */
	if (deliver(r, &err) != 0)
		return vmc_fail(r->v, "main", &err);
	status |= step(r, r->do_sha512, vmc_run_sha512, "Failed to checksum old images");
	status |= step(r, r->do_download, vmc_run_download, "Failed to download new images");
	return r->v->ctl.catalogue == NULL || end(r, &err) != 0 ? vmc_fail(r->v, "main", &err)
								 : status;
}

int
vmc_cache(struct vmc *v)
{
	struct vmc_run r = { .v = v };
	int status = 1;

	take_actions(&r);
	if (take_directories(&r)) {
		vmc_run_look_for_files(&r);
		status = run(&r);
		vmc_run_forget_files(&r);
	}
	handlerdir_close(r.dir);
	vmc_session_release(&r.session);
	for (int i = 0; i < r.n_available; i++)
		free(r.moved[i]);
	free(r.moved);
	free(r.cache);
	free(r.partial);
	free(r.expired);
	return status;
}
