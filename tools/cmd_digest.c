/*
 * cmd_digest.c - what a publisher puts into a list: size, SHA-512, fs-verity digest; the sidecar.
 *
 * One pass with all cores (sidecar.h); the sidecar gets its name when it is whole.
 *
 * Runs as the caller: no configuration, no catalogue, no daemon.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "newfile.h"
#include "sidecar.h"

struct work {
	struct ctl *ctl;
	const char *file;
	char *sidecar;			/* its name, NULL: none is wanted */
	int fd;
	struct stat before;
	struct newfile out;
	struct sidecar sums;
};

/* ---- the files ------------------------------------------------------------------------------- */

static int
open_image(struct work *w, struct err *err)
{
	w->fd = io_openat(AT_FDCWD, w->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	if (w->fd < 0 || fstat(w->fd, &w->before) != 0)
		return err_set(err, errno, "cannot open '%s': %s", w->file,
			       strerrordesc_np(errno));
	if (!S_ISREG(w->before.st_mode))
		return err_set(err, EINVAL, "'%s' is no regular file", w->file);
	return 0;
}

static int
open_sidecar(struct work *w, struct err *err)
{
	CLEANUP_FREE char *name = NULL;
	const char *slash = strrchr(w->file, '/');
	struct stat st;

	if (w->sidecar == NULL)
		return 0;
	if (stat(w->sidecar, &st) == 0 && st.st_dev == w->before.st_dev &&
	    st.st_ino == w->before.st_ino)
		return err_set(err, EINVAL, "'%s' is the image itself", w->sidecar);
	name = xasprintf("%s.fsv", slash != NULL ? slash + 1 : w->file);
	return newfile_open(&w->out, w->sidecar, name, err);
}

/* ---- the pass -------------------------------------------------------------------------------- */

static bool
image_changed(const struct work *w)
{
	struct stat now;

	return fstat(w->fd, &now) != 0 || now.st_size != w->before.st_size ||
	       now.st_mtim.tv_sec != w->before.st_mtim.tv_sec ||
	       now.st_mtim.tv_nsec != w->before.st_mtim.tv_nsec;
}

static int
hash(struct work *w, struct err *err)
{
	int rc;

	w->sums = (struct sidecar){ .fd = w->fd, .size = w->before.st_size, .label = w->file,
				    .silent = w->ctl->out.verbosity < 0 || w->ctl->out.json };
	rc = sidecar_write(&w->sums, w->sidecar != NULL ? &w->out : NULL, err);
	if (rc != 0)
		return err_prefix(err, "'%s'", w->file);
	if (image_changed(w))
		return err_set(err, EAGAIN, "'%s' was changed while it was read", w->file);
	return w->sidecar != NULL ? newfile_publish(&w->out, w->ctl->umask, err) : 0;
}

/* ---- telling --------------------------------------------------------------------------------- */

/* The members of the hv:image object, to be pasted into a list. */
static void
tell(struct work *w)
{
	struct output *o = &w->ctl->out;
	struct jsonw *json = output_json(o);
	char sha512[DIGEST_HEX + 1], verity[DIGEST_HEX + 1];

	digest_hex(&w->sums.sha512, sha512);
	digest_hex(&w->sums.verity, verity);
	if (json != NULL) {
		jsonw_string(json, "file", w->file);
		jsonw_integer(json, "size", w->sums.size);
		jsonw_string(json, "sha512", sha512);
		jsonw_string(json, "fsverity_sha512", verity);
		jsonw_string(json, "sidecar", w->sidecar != NULL ? w->sidecar : "");
		return;
	}
	output_line(o, "\"hv:size\": %" PRId64 ",", w->sums.size);
	output_line(o, "\"sl:checksum:sha512\": \"%s\",", sha512);
	output_line(o, "\"sl:checksum:fsverity-sha512\": \"%s\"", verity);
}

int
cmd_digest(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct work w = { .ctl = ctl, .file = args[0], .fd = -1, .out = { .fd = -1, .dir = -1 } };
	struct err err = { 0 };
	int rc;

	(void)n;
	if (opt->output != NULL && opt->no_sidecar)
		return ctl_usage(ctl, "digest", "-o and --no-sidecar exclude each other");
	if (opt->output != NULL)
		w.sidecar = xstrdup(opt->output);
	else if (!opt->no_sidecar)
		w.sidecar = xasprintf("%s.fsv", w.file);
	rc = open_image(&w, &err);
	if (rc == 0)
		rc = open_sidecar(&w, &err);
	if (rc == 0)
		rc = hash(&w, &err);
	if (rc == 0)
		tell(&w);
	newfile_release(&w.out);
	close_keep_errno(w.fd);
	free(w.sidecar);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}
