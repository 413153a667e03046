#include "config.h"
#include "importfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/hasher.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/stamp.h"
#include "core/vtree.h"
#include "progress.h"

struct importfiles {
	int sock;		/* to the child */
	pid_t pid;
};

struct answer {
	int rc;			/* 0: a descriptor comes with it */
	int64_t size;
};

enum { SHOW_EVERY = 64 };	/* granules */

/* ---- the child, with the caller's rights ----------------------------------------------------- */

/* One file name, never a path. */
static bool
is_name(const char *name, size_t len)
{
	return len > 0 && len <= NAME_MAX && memchr(name, '/', len) == NULL &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* No link is followed, nothing is waited for, and no mark is left, where the owner allows that. */
static int
open_regular(int dir, const char *name, int64_t *size)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	CLEANUP_FD int fd = io_openat(dir, name, flags | O_NOATIME, 0);
	struct stat st;

	if (fd < 0 && errno == EPERM)
		fd = io_openat(dir, name, flags, 0);
	if (fd < 0 || fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EISNAM;
	*size = st.st_size;
	return steal_fd(&fd);
}

static void __attribute__((noreturn))
serve(int sock, int dir)
{
	int below = io_openat(dir, "cache", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);

	for (;;) {
		char name[NAME_MAX + 2];
		struct answer answer = { 0 };
		ssize_t len = recv(sock, name, sizeof(name) - 1, 0);
		int fd = -ENOENT;

		if (len < 0 && errno == EINTR)
			continue;
		if (len <= 0)
			break;
		name[len] = '\0';
		if (is_name(name, (size_t)len))
			fd = open_regular(dir, name, &answer.size);
		if (fd == -ENOENT && below >= 0 && is_name(name, (size_t)len))
			fd = open_regular(below, name, &answer.size);
		answer.rc = fd < 0 ? fd : 0;
		if (io_send_fds(sock, &answer, sizeof(answer), &fd, fd >= 0 ? 1 : 0) < 0)
			break;
		close_keep_errno(fd);
	}
	_exit(0);
}

static int
start_child(struct importfiles *f, int dir, struct err *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set(err, errno, "cannot make a socket pair: %s", strerrordesc_np(errno));
	f->pid = fork();
	if (f->pid == 0) {
		close(pair[0]);
		serve(pair[1], dir);
	}
	close(pair[1]);
	f->sock = pair[0];
	if (f->pid < 0)
		return err_set(err, errno, "cannot fork: %s", strerrordesc_np(errno));
	return 0;
}

int
importfiles_open(struct importfiles **out, const char *dir, struct err *err)
{
	CLEANUP_FD int fd = io_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	struct importfiles *f;
	int rc;

	if (fd < 0)
		return err_set(err, errno, "cannot open the cache directory '%s': %s", dir,
			       strerrordesc_np(errno));
	f = xcalloc(1, sizeof(*f));
	f->sock = -1;
	rc = start_child(f, fd, err);
	if (rc != 0) {
		importfiles_close(f);
		return rc;
	}
	*out = f;
	return 0;
}

void
importfiles_close(struct importfiles *f)
{
	if (f == NULL)
		return;
	close_keep_errno(f->sock);
	while (f->pid > 0 && waitpid(f->pid, NULL, 0) < 0 && errno == EINTR) {
		/* It ends when the socket does. */
	}
	free(f);
}

int
importfiles_get(struct importfiles *f, const char *identifier, int64_t *size, struct err *err)
{
	struct answer answer = { 0 };
	size_t n_fds = 1;
	int fd = -1, rc;

	rc = io_send_fds(f->sock, identifier, strlen(identifier), NULL, 0);
	if (rc == 0 && io_recv_fds(f->sock, &answer, sizeof(answer), &fd, &n_fds) !=
		       (ssize_t)sizeof(answer))
		rc = -EIO;
	if (rc != 0)
		return err_set(err, -rc, "cannot ask for a file: %s", strerrordesc_np(-rc));
	if (answer.rc == 0 && n_fds != 1)
		return err_set(err, EIO, "cannot ask for a file: none was handed over");
	*size = answer.size;
	if (answer.rc == 0)
		return fd;
	if (answer.rc == -EISNAM || answer.rc == -ELOOP)
		return err_set(err, EINVAL, "it is no regular file");
	return err_set(err, -answer.rc, "it cannot be opened: %s", strerrordesc_np(-answer.rc));
}

/* ---- copying --------------------------------------------------------------------------------- */

struct copy {
	struct ctl *ctl;
	const struct object_row *row;
	int from, to;
	struct hasher *hasher;
	struct vtree *tree;
	struct digest verity;
	struct progress bar;
};

static int
say_cut(int64_t at, struct err *err)
{
	return err_refuse(err, CODE_SIZE, "it ends at byte %lld: it was changed meanwhile",
			  (long long)at);
}

/* What is written is the buffer that was hashed. */
static int
copy_bytes(struct copy *c, struct err *err)
{
	int64_t at = 0;

	for (int n = 0;; n++) {
		size_t room;
		void *data = hasher_buffer(c->hasher, &room);
		ssize_t got;
		int rc;

		if (data == NULL)
			return 0;
		got = io_pread_full(c->from, data, room, at);
		if (got < 0)
			return err_set(err, (int)-got, "it cannot be read at byte %lld: %s",
				       (long long)at, strerrordesc_np((int)-got));
		if (got == 0)
			return say_cut(at, err);
		hasher_push(c->hasher, (size_t)got);
		rc = io_pwrite_all(c->to, data, (size_t)got, at);
		if (rc == -ENOSPC || rc == -EDQUOT)
			return err_refuse(err, CODE_FULL, "no room for it in '%s'",
					  c->ctl->conf->cache_dir);
		if (rc != 0)
			return err_set(err, -rc, "cannot write to '%s': %s",
				       c->ctl->conf->cache_dir, strerrordesc_np(-rc));
		at += got;
		if (n % SHOW_EVERY == 0)
			progress_update(&c->bar, at, c->row->size);
	}
}

static int
judge_bytes(struct copy *c, struct err *err)
{
	struct vtree_id id = { .image = c->row->digest, .size = c->row->size };
	struct digest whole;
	const void *prefix;
	size_t len;

	hasher_end(c->hasher, &whole, &c->verity);
	if (!digest_equal(&whole, &c->row->digest))
		return err_refuse(err, CODE_DIGEST, "its SHA-512 is not the signed one");
	if (c->row->root_listed && !digest_equal(&c->verity, &c->row->root))
		return err_refuse(err, CODE_BLOCK_DIGEST,
				  "it has the signed SHA-512 but not the signed fs-verity digest");
	id.verity = c->verity;
	prefix = hasher_prefix(c->hasher, &len);
	return vtree_new(&c->tree, &id, prefix, len, err);
}

static int
note_verified(struct ctl *ctl, void *arg, struct err *err)
{
	const struct copy *c = arg;

	return catalogue_object_verified(ctl->catalogue, &c->row->digest, &c->verity, stamp_now(),
					 err);
}

/* An earlier run's, or an interrupted transfer's, bytes give way to what is here whole. */
static int
open_partial(struct copy *c, struct err *err)
{
	const struct object_row *row = c->row;
	int64_t have;
	int rc = store_partial_open(c->ctl->store, &row->digest, row->size, &c->to, &have, err);

	if (rc == 0 && have > 0)
		rc = store_partial_reset(c->ctl->store, &row->digest, c->to, row->size, err);
	return rc;
}

static int
copy_file(struct copy *c, struct err *err)
{
	struct store *store = c->ctl->store;
	const struct digest *d = &c->row->digest;
	int rc = hasher_new(&c->hasher, c->row->size, err);

	if (rc == 0)
		rc = open_partial(c, err);
	if (rc != 0)
		return rc;
	rc = copy_bytes(c, err);
	if (rc == 0)
		rc = judge_bytes(c, err);
	if (rc != 0) {
		store_partial_drop(store, d);
		return rc;
	}
	rc = store_commit(store, d, c->to, c->tree, err);
	return rc == 0 ? ctl_transaction(c->ctl, note_verified, c, err) : rc;
}

int
importfiles_adopt(struct ctl *ctl, const char *name, int fd, int64_t size,
		  const struct object_row *row, struct err *err)
{
	struct copy c = { .ctl = ctl, .row = row, .from = fd, .to = -1 };
	int rc;

	if (size != row->size)
		return err_refuse(err, CODE_SIZE, "it has %lld bytes, the signed size is %lld",
				  (long long)size, (long long)row->size);
	progress_begin(&c.bar, name, ctl->out.verbosity < 0 || ctl->out.json);
	rc = copy_file(&c, err);
	progress_end(&c.bar);
	hasher_free(c.hasher);
	vtree_unref(c.tree);
	close_keep_errno(c.to);
	return rc;
}
