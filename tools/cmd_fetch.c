/*
 * cmd_fetch.c - images into the cache, and a copy of one out of it.
 *
 * get copies into a place of the caller's: the object is opened by a child that has become `user`
 * and sent back as a descriptor, while the caller (perhaps root) keeps the right to write the
 * destination and touches nothing of the store.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "newfile.h"
#include "obtain.h"
#include "progress.h"

/* ---- fetch ----------------------------------------------------------------------------------- */

struct gathering {
	struct ctl *ctl;
	struct obtain_list list;
	struct err err;
};

static int
gather_selected(void *arg, const struct image_row *row)
{
	struct gathering *g = arg;

	return row->selected ? obtain_add_image(g->ctl, &g->list, row, true, &g->err) : 0;
}

static int
gather(struct gathering *g, bool all, char **args, size_t n)
{
	int rc = 0;

	if (all)
		return catalogue_image_each(g->ctl->catalogue, 0, true, gather_selected, g,
					    &g->err);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct image_row row = { 0 };

		rc = ctl_find_image(g->ctl, args[i], &row, &g->err);
		if (rc == 0)
			rc = obtain_add_image(g->ctl, &g->list, &row, true, &g->err);
		image_row_release(&row);
	}
	return rc;
}

static int
report(struct ctl *ctl, const struct obtain_list *list)
{
	struct jsonw *w = output_json(&ctl->out);
	int status = EXIT_DONE;

	if (w != NULL)
		jsonw_open(w, "images", '[');
	for (size_t i = 0; i < list->n; i++) {
		const struct obtain_item *item = &list->items[i];
		bool good = item->err.rc == 0;
		struct err why = item->err;

		if (w != NULL) {
			char hex[DIGEST_HEX + 1];

			digest_hex(&item->digest, hex);
			jsonw_open(w, NULL, '{');
			jsonw_string(w, "id", item->name);
			jsonw_string(w, "sha512", hex);
			jsonw_string(w, "state", good ? "verified" : "failed");
			jsonw_integer(w, "code", (int64_t)why.code);
			jsonw_string(w, "error", why.text);
			jsonw_close(w, '}');
		} else if (good) {
			output_note(&ctl->out, "image '%s' fetched and verified", item->name);
		}
		if (good)
			continue;
		status = ctl_last_failure(status, output_status(&why));
		if (w == NULL) {
			err_prefix(&why, "image '%s'", item->name);
			ctl_fail(ctl, &why);
		}
	}
	if (w != NULL)
		jsonw_close(w, ']');
	return status;
}

int
cmd_fetch(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct gathering g = { .ctl = ctl };
	int rc, status;

	if (opt->all == (n > 0))
		return ctl_usage(ctl, "fetch", "name images, or give --all");
	rc = ctl_open(ctl, CTL_WRITE | CTL_SET_UP | CTL_STARTER, &g.err);
	if (rc == 0)
		rc = gather(&g, opt->all, args, n);
	if (rc == 0 && g.list.n == 0)
		output_note(&ctl->out, "nothing to fetch: what was asked for is verified already");
	if (rc == 0)
		rc = obtain_all(ctl, &g.list, &g.err);
	status = rc == 0 ? report(ctl, &g.list) : ctl_fail(ctl, &g.err);
	obtain_release(&g.list);
	return status;
}

/* ---- get: the child, as user ----------------------------------------------------------------- */

struct offer {
	struct digest digest;
	int64_t size;
	char name[256];		/* for a destination that is a directory */
};

/* The object of the image, fetched if need be: a descriptor. */
static int
open_object(struct ctl *ctl, const char *what, struct offer *offer, struct err *err)
{
	struct obtain_list list = { 0 };
	struct image_row row = { 0 };
	int rc;

	rc = ctl_find_image(ctl, what, &row, err);
	if (rc == 0) {
		offer->digest = row.meta.sha512;
		offer->size = row.meta.size;
		snprintf(offer->name, sizeof(offer->name), "%s", row.name);
		rc = obtain_add_image(ctl, &list, &row, false, err);
	}
	image_row_release(&row);
	if (rc == 0)
		rc = ctl_open_store(ctl, false, err);
	if (rc == 0)
		rc = obtain_all(ctl, &list, err);
	if (rc == 0 && list.n > 0 && list.items[0].err.rc != 0) {
		*err = list.items[0].err;
		rc = err->rc;
	}
	obtain_release(&list);
	return rc != 0 ? rc : store_object_open(ctl->store, &offer->digest, offer->size, err);
}

/* Becomes user, opens the object, sends it; never returns. */
static void __attribute__((noreturn))
run_child(struct ctl *ctl, const char *what, int sock)
{
	struct offer offer = { 0 };
	struct err err = { 0 };
	int rc, fd = -1, status = EXIT_DONE;

	rc = ctl_open(ctl, CTL_WRITE | CTL_SET_UP | CTL_STARTER, &err);
	if (rc == 0)
		rc = fd = open_object(ctl, what, &offer, &err);
	if (rc >= 0 && (rc = io_send_fds(sock, &offer, sizeof(offer), &fd, 1)) < 0)
		err_set(&err, -rc, "cannot hand over the image: %s", strerrordesc_np(-rc));
	if (rc < 0)
		status = ctl_fail(ctl, &err);
	close_keep_errno(fd);
	ctl_close(ctl);
	if (output_end(&ctl->out) != 0 && status == EXIT_DONE)
		status = EXIT_SOME_FAILED;
	_exit(status);
}

/* The descriptor and what it is, or the child's exit status in *status; the child has ended. */
static int
receive_object(struct ctl *ctl, const char *what, struct offer *offer, int *status, struct err *err)
{
	CLEANUP_FD int ours = -1;
	int pair[2], fd = -1, rc;
	size_t n_fds = 1;
	ssize_t got;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set(err, errno, "cannot make a socket pair: %s", strerrordesc_np(errno));
	ours = pair[0];
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		run_child(ctl, what, pair[1]);
	}
	close(pair[1]);
	if (pid < 0)
		return err_set(err, errno, "cannot fork: %s", strerrordesc_np(errno));
	got = io_recv_fds(ours, offer, sizeof(*offer), &fd, &n_fds);
	while (waitpid(pid, &rc, 0) < 0 && errno == EINTR)
		;
	*status = WIFEXITED(rc) ? WEXITSTATUS(rc) : EXIT_SOME_FAILED;
	if (WIFSIGNALED(rc)) {
		close_keep_errno(n_fds == 1 ? fd : -1);
		return err_set(err, EIO, "who was to hand over the image was ended by signal %d",
			       WTERMSIG(rc));
	}
	if (got == (ssize_t)sizeof(*offer) && n_fds == 1 && *status == EXIT_DONE)
		return fd;
	close_keep_errno(n_fds == 1 ? fd : -1);
	if (*status == EXIT_DONE)
		return err_set(err, EIO, "the image was not handed over");
	return -ECHILD;
}

/* ---- get: the copy, as the caller ------------------------------------------------------------ */

enum {
	COPY_BYTES = 1 << 20,
	ZERO_BYTES = 64 << 10,	/* runs of zeros at least that long become holes */
};

static bool
is_zero(const char *data, size_t len)
{
	return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

static int
write_sparse(int fd, const char *data, size_t len, off_t at)
{
	size_t done, step;
	int rc = 0;

	for (done = 0; rc == 0 && done < len; done += step) {
		step = len - done < ZERO_BYTES ? len - done : ZERO_BYTES;
		if (!is_zero(data + done, step))
			rc = io_pwrite_all(fd, data + done, step, at + (off_t)done);
	}
	return rc;
}

/*
 * The destination shares blocks with the object where the file system can; what is hashed is read
 * all the same.
 */
static int
copy_bytes(int from, int to, const struct offer *offer, struct progress *p, struct digest *sum,
	   struct err *err)
{
	bool shared = ioctl(to, FICLONE, from) == 0;
	struct digest_state *hash = digest_state_new();
	CLEANUP_FREE char *block = xmalloc(COPY_BYTES);
	int64_t at = 0;
	ssize_t n;
	int rc = 0;

	if (!shared && io_ftruncate(to, (off_t)offer->size) != 0)
		rc = err_set(err, errno, "cannot make room for the copy: %s",
			     strerrordesc_np(errno));
	while (rc == 0 && at < offer->size) {
		n = io_pread_full(from, block, COPY_BYTES, (off_t)at);
		if (n <= 0) {
			rc = err_set(err, n < 0 ? (int)-n : EIO, "cannot read the stored image: %s",
				     n < 0 ? strerrordesc_np((int)-n) : "it ends too early");
			break;
		}
		digest_state_add(hash, block, (size_t)n);
		if (!shared && (rc = write_sparse(to, block, (size_t)n, (off_t)at)) != 0)
			err_set(err, -rc, "cannot write the copy: %s", strerrordesc_np(-rc));
		at += n;
		progress_update(p, at, offer->size);
	}
	digest_state_end(hash, sum);
	digest_state_free(hash);
	return rc;
}

static int
copy_out(struct ctl *ctl, int from, const struct offer *offer, const char *dest, struct err *err)
{
	struct newfile copy;
	struct digest sum;
	struct progress p;
	int rc;

	rc = newfile_open(&copy, dest, offer->name, err);
	if (rc == 0) {
		progress_begin(&p, offer->name, ctl->out.verbosity < 0 || ctl->out.json);
		rc = copy_bytes(from, copy.fd, offer, &p, &sum, err);
		progress_end(&p);
	}
	if (rc == 0 && !digest_equal(&sum, &offer->digest))
		rc = err_refuse(err, CODE_CORRUPT,
				"the stored file of image '%s' has other bytes than"
				" its digest says",
				offer->name);
	if (rc == 0)
		rc = newfile_publish(&copy, ctl->umask, err);
	newfile_release(&copy);
	return rc;
}

int
cmd_get(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct offer offer = { 0 };
	CLEANUP_FD int fd = -1;
	struct err err = { 0 };
	struct jsonw *w;
	int status = EXIT_SOME_FAILED, rc;

	(void)opt;
	(void)n;
	fd = rc = receive_object(ctl, args[0], &offer, &status, &err);
	if (rc == -ECHILD)
		return status;
	if (rc >= 0)
		rc = copy_out(ctl, fd, &offer, args[1], &err);
	if (rc != 0)
		return ctl_fail(ctl, &err);
	w = output_json(&ctl->out);
	if (w != NULL) {
		char hex[DIGEST_HEX + 1];

		digest_hex(&offer.digest, hex);
		jsonw_string(w, "id", offer.name);
		jsonw_string(w, "sha512", hex);
		jsonw_integer(w, "size", offer.size);
	}
	output_note(&ctl->out, "copied image '%s' to '%s', %lld bytes, verified", offer.name,
		    args[1], (long long)offer.size);
	return EXIT_DONE;
}
