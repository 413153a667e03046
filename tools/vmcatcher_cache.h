/*
 * vmcatcher_cache.h - what the files of vmcatcher_cache have in common.
 */
#ifndef VMI_VMCATCHER_CACHE_H
#define VMI_VMCATCHER_CACHE_H

#include "core/handlerdir.h"
#include "vmcatcher_deliver.h"

/* One run. */
struct vmc_run {
	struct vmc *v;
	struct vmc_session session;
	char *cache, *partial, *expired;	/* as handlers get them */
	bool do_expire, do_sha512, do_download;
	struct handlerdir *dir;
	struct importfiles *files;	/* that vmcatcher has left in the cache directory, NULL */
	int64_t seen;			/* the last event that was told of */
	char **moved;			/* identifiers of what became available, n_available */
	int n_available, n_expired, n_bad, n_failed;
};

/* With directories and catalogue open.  Each logs what fails; false: something did. */
bool vmc_run_expire(struct vmc_run *r);
bool vmc_run_sha512(struct vmc_run *r);
bool vmc_run_download(struct vmc_run *r);

/* vmcatcher_adopt.c.  As the caller, before the catalogue is opened. */
void vmc_run_look_for_files(struct vmc_run *r);
void vmc_run_forget_files(struct vmc_run *r);

/* Takes files that are there already; what became an object leaves the list. */
struct obtain_list;
void vmc_run_adopt(struct vmc_run *r, struct obtain_list *list);

/* What has happened to images since the last run or call, in vmcatcher's words. */
int vmc_run_tell(struct vmc_run *r, struct err *err);

#endif
