/*
 * vmcatcher_adopt.c - files that vmcatcher 0.6 has left in its cache directory are taken instead of
 * downloaded, if their bytes are those that were signed.
 *
 * They become objects of the store first; the link that then takes their name is made like any
 * other (handlerdir.h).  A daemon owns the store: beside one nothing is adopted but by
 * `vmimagectl import-vmcatcher`.
 */
#include "config.h"
#include "vmcatcher_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/cleanup.h"
#include "core/control.h"
#include "importfiles.h"
#include "obtain.h"

/* Our own names are links, symbolic or hard ones, and the index. */
static bool
is_left_over(int dir, const char *name)
{
	struct stat st;

	return name[0] != '.' && strcmp(name, "cache.index") != 0 &&
	       fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       st.st_nlink == 1;
}

static bool
has_left_overs(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	bool found = false;

	while (dir != NULL && !found && (entry = readdir(dir)) != NULL)
		found = is_left_over(dirfd(dir), entry->d_name);
	if (dir != NULL)
		closedir(dir);
	return found;
}

void
vmc_run_look_for_files(struct vmc_run *r)
{
	struct err err = { 0 };

	if (has_left_overs(r->cache) && importfiles_open(&r->files, r->cache, &err) != 0)
		vmc_log(r->v, VMC_INFO, "CacheMan", "%s", err.text);
}

/* Whether it is here now. */
static bool
adopt(struct vmc_run *r, const struct obtain_item *item)
{
	struct ctl *ctl = &r->v->ctl;
	struct object_row row = { 0 };
	CLEANUP_FD int fd = -1;
	struct err err = { 0 };
	int64_t size;
	int rc;

	fd = importfiles_get(r->files, item->name, &size, NULL);
	if (fd < 0)
		return false;
	rc = ctl_open_store(ctl, true, &err);
	if (rc == 0)
		rc = catalogue_object_get(ctl->catalogue, &item->digest, &row, &err);
	if (rc == 0)
		rc = importfiles_adopt(ctl, item->name, fd, size, &row, &err);
	object_row_release(&row);
	if (rc == 0)
		ctl->poke = true;
	vmc_log(r->v, VMC_INFO, "CacheMan", rc == 0 ? "file of image '%s' is taken as it is%s" :
		"file of image '%s' is not taken: %s", item->name, err.text);
	return rc == 0;
}

void
vmc_run_adopt(struct vmc_run *r, struct obtain_list *list)
{
	size_t n = 0;

	if (r->files == NULL ||
	    control_call(r->v->ctl.conf, "poke", NULL, NULL, NULL, NULL) == 0)
		return;
	for (size_t i = 0; i < list->n; i++) {
		if (adopt(r, &list->items[i]))
			free(list->items[i].name);
		else
			list->items[n++] = list->items[i];
	}
	list->n = n;
}

void
vmc_run_forget_files(struct vmc_run *r)
{
	importfiles_close(r->files);
	r->files = NULL;
}
