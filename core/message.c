/*
 * message.c - state_dir/messages/: signed messages byte for byte, and their payloads.
 *
 *   <sha512 of the message>.smime    as received
 *   <sha512 of the message>.json     what the verifier took out of it; its SHA-512 is in the row
 *
 * Files are written whole (temporary file, fsync, rename) in the transaction that refers to them,
 * under its lock, and removed under that lock when no row refers to them: when the catalogue is
 * checked, and after lists were refreshed and the daemon has seen it.  Who still has an old row and
 * finds no message looks at the row again.
 */
#include "config.h"
#include "catalogue_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cleanup.h"
#include "io.h"
#include "limits.h"

enum { MESSAGE_NAME = DIGEST_HEX + sizeof(".smime") };

static void
message_name(const struct digest *message, bool payload, char out[MESSAGE_NAME])
{
	digest_hex(message, out);
	strncpy(out + DIGEST_HEX, payload ? ".json" : ".smime", MESSAGE_NAME - DIGEST_HEX);
}

int
message_write(struct catalogue *c, const struct digest *message, const void *data, size_t len,
	      const void *payload, size_t payload_len, struct err *err)
{
	char name[MESSAGE_NAME];
	int rc;

	message_name(message, true, name);
	rc = io_replace_file(c->messages_dir, name, 0600, payload, payload_len);
	if (rc == 0) {
		message_name(message, false, name);
		rc = io_replace_file(c->messages_dir, name, 0600, data, len);
	}
	if (rc != 0)
		return err_set(err, -rc, "the message cannot be stored in '%s/messages'",
			       c->conf->state_dir);
	return 0;
}

int
message_read(struct catalogue *c, const struct digest *message, bool payload,
	     const struct digest *expected, struct buf *out, struct err *err)
{
	char name[MESSAGE_NAME];
	struct digest found;
	int rc;

	message_name(message, payload, name);
	rc = io_read_file(c->messages_dir, name, LIMIT_MESSAGE_BYTES, out);
	/* An error that goes away is no damage. */
	if (rc == -EIO) {
		buf_clear(out);
		rc = io_read_file(c->messages_dir, name, LIMIT_MESSAGE_BYTES, out);
	}
	if (rc < 0)
		return err_set(err, -rc, "stored message 'messages/%.16s...' cannot be read: %s%s",
			       name, strerrordesc_np(-rc),
			       rc == -EACCES ? ": give it to the owner of the state directory"
					     : "");
	digest_of(out->data, out->len, &found);
	if (!digest_equal(&found, expected != NULL ? expected : message))
		return err_refuse(err, CODE_CORRUPT,
				  "stored message 'messages/%.16s...' is damaged", name);
	return 0;
}

bool
message_may_be_good(int rc)
{
	return io_is_shortage(rc) || rc == -EACCES || rc == -EPERM;
}

int
message_open(const struct conf *conf, const struct digest *message, bool payload, struct err *err)
{
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FD int fd = -1;
	char name[MESSAGE_NAME];
	struct stat st;

	message_name(message, payload, name);
	path = xasprintf("%s/messages/%s", conf->state_dir, name);
	fd = io_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "stored message '%s' cannot be opened", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "stored message '%s' is no regular file", path);
	return steal_fd(&fd);
}

int
message_open_cached(const struct conf *conf, const struct digest *message, bool payload)
{
	CLEANUP_FREE char *path = NULL;
	char name[MESSAGE_NAME];
	off_t size;

	message_name(message, payload, name);
	path = xasprintf("%s/messages/%s", conf->state_dir, name);
	return io_open_cached(AT_FDCWD, path, false, &size);
}

/* "<128 hex>.smime" or ".json"; anything else is not ours to remove. */
static bool
is_message(const char *name, struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	if (strlen(name) < DIGEST_HEX)
		return false;
	memcpy(hex, name, DIGEST_HEX);
	hex[DIGEST_HEX] = '\0';
	return digest_parse(hex, d) && (strcmp(name + DIGEST_HEX, ".smime") == 0 ||
					strcmp(name + DIGEST_HEX, ".json") == 0);
}

/* "<message>.new": a crash left it, or it is just being written. */
static void
sweep_new(struct catalogue *c, const char *name)
{
	char message[MESSAGE_NAME];
	size_t len = strlen(name);
	struct digest d;

	if (len < 4 || len - 4 >= sizeof(message) || strcmp(name + len - 4, ".new") != 0)
		return;
	memcpy(message, name, len - 4);
	message[len - 4] = '\0';
	if (is_message(message, &d))
		io_drop_stale(c->messages_dir, message);
}

int
message_is_used(struct catalogue *c, const struct digest *message, bool *used, struct err *err)
{
	int64_t value;

	return cat_int(c, SQL_MESSAGE_USED, ARGS(arg_digest(message)), &value, used, err);
}

static int
sweep_one(struct catalogue *c, const char *name, struct err *err)
{
	struct digest d;
	bool used = true;
	int rc = 0;

	if (!is_message(name, &d)) {
		sweep_new(c, name);
		return 0;
	}
	rc = message_is_used(c, &d, &used, err);
	if (rc == 0 && !used)
		unlinkat(c->messages_dir, name, 0);
	return rc;
}

/* Every name in messages/. */
static int
each_name(struct catalogue *c, int (*fn)(struct catalogue *c, const char *name, void *arg,
					 struct err *err), void *arg, struct err *err)
{
	int fd = io_openat(c->messages_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;
	int rc = 0;

	if (dir == NULL) {
		close_keep_errno(fd);
		return err_set(err, errno, "'%s/messages' cannot be read", c->conf->state_dir);
	}
	while (rc == 0 && (e = readdir(dir)) != NULL)
		rc = fn(c, e->d_name, arg, err);
	closedir(dir);
	return rc;
}

static int
sweep_name(struct catalogue *c, const char *name, void *arg, struct err *err)
{
	(void)arg;
	return sweep_one(c, name, err);
}

int
message_sweep(struct catalogue *c, struct err *err)
{
	return each_name(c, sweep_name, NULL, err);
}

static int
note_unused(struct catalogue *c, const char *name, void *arg, struct err *err)
{
	bool used = true, *any = arg;
	struct digest d;
	int rc = 0;

	if (is_message(name, &d))
		rc = message_is_used(c, &d, &used, err);
	*any = *any || !used;
	return rc;
}

int
catalogue_message_sweep(struct catalogue *c, struct err *err)
{
	struct cat_scope scope;
	bool any = false;
	int rc = each_name(c, note_unused, &any, err);

	/* Mostly there is nothing to do, and then nobody need wait for a lock. */
	if (rc != 0 || !any)
		return rc;
	rc = cat_scope_begin(c, &scope, err);
	if (rc != 0)
		return rc;
	rc = message_sweep(c, err);
	return cat_scope_end(c, &scope, rc, err);
}

struct found {
	struct digest *messages;
	size_t n;
};

static int
note_message(struct catalogue *c, const char *name, void *arg, struct err *err)
{
	struct found *f = arg;
	struct digest d;

	(void)c;
	(void)err;
	if (!is_message(name, &d) || strcmp(name + DIGEST_HEX, ".smime") != 0)
		return 0;
	f->messages = xrealloc(f->messages, (f->n + 1) * sizeof(*f->messages));
	f->messages[f->n++] = d;
	return 0;
}

int
message_each(struct catalogue *c, int (*fn)(void *arg, const struct digest *message), void *arg,
	     struct err *err)
{
	struct found f = { 0 };
	int rc = each_name(c, note_message, &f, err);

	for (size_t i = 0; i < f.n && rc == 0; i++)
		rc = fn(arg, &f.messages[i]);
	free(f.messages);
	return rc;
}
