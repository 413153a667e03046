/*
 * cmd_attest.c - block digests of images whose lists have none: taking in what others signed, and
 * signing what this site has verified.
 *
 * Signing has two halves, as `get` has.  A child becomes `user`, looks the images up and hands over
 * descriptors of their verified files, one after another.  The caller hashes them with the rights
 * it has, writes the sidecars and the message where it may write, and alone ever sees the private
 * key, which it reads when the child has gone its way.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/attestation.h"
#include "core/attestimport.h"
#include "core/cleanup.h"
#include "core/confvalue.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/smimesign.h"
#include "newfile.h"
#include "sidecar.h"

static const char verb[] = "attest";

enum { PEM_BYTES = 1 << 20 };

/* A file of the caller's, as it is: a link or a pipe will do, only its size is bounded. */
static int
read_file(const char *file, const char *what, size_t limit, struct buf *out, struct err *err)
{
	CLEANUP_FD int fd = -1;
	int rc;

	fd = strcmp(file, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
				    : io_openat(AT_FDCWD, file, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
	if (fd < 0)
		return err_set(err, errno == ENOENT ? EINVAL : errno, "cannot open %s '%s': %s",
			       what, file, strerrordesc_np(errno));
	rc = io_read_to_end(fd, limit, out);
	if (rc == -EFBIG)
		return err_refuse(err, CODE_LIMIT, "%s '%s' is larger than %zu bytes", what, file,
				  limit);
	if (rc != 0)
		return err_set(err, -rc, "cannot read %s '%s': %s", what, file,
			       strerrordesc_np(-rc));
	return 0;
}

/* ---- taking in ------------------------------------------------------------------------------- */

static int
take_in(struct ctl *ctl, const char *file)
{
	CLEANUP_BUF struct buf message = BUF_INIT;
	CLEANUP_FREE char *endorser = NULL;
	struct attestation_result result = { 0 };
	struct err err = { 0 };
	struct refresh r;
	struct jsonw *w;
	int rc;

	/* Before the caller's rights are gone. */
	rc = read_file(file, "attestation", LIMIT_MESSAGE_BYTES, &message, &err);
	if (rc == 0)
		rc = ctl_open(ctl, CTL_WRITE | CTL_STARTER, &err);
	if (rc == 0) {
		ctl_refresh(ctl, false, &r);
		rc = attestimport_message(&r, message.data, message.len, &result, &endorser, &err);
	}
	if (rc != 0)
		return ctl_fail(ctl, &err);
	ctl->poke = true;
	w = output_json(&ctl->out);
	if (w != NULL) {
		jsonw_string(w, "endorser", endorser);
		jsonw_integer(w, "accepted", result.accepted);
		jsonw_integer(w, "refused", result.refused);
		jsonw_boolean(w, "same", result.same);
	}
	output_note(&ctl->out, result.same ? "nothing new: the block digests of %d images, signed"
					     " by endorser '%s', are known"
					   : "block digests of %d images, signed by endorser '%s'",
		    result.accepted, endorser);
	return result.refused == 0 ? EXIT_DONE : EXIT_SOME_FAILED;
}

/* ---- signing: the child, as user ------------------------------------------------------------- */

struct offer {
	struct digest digest;
	int64_t size;
	char identifier[LIMIT_IDENTIFIER_BYTES + 1];
	char name[256];			/* in the mount */
};

static int
open_verified(struct ctl *ctl, const char *what, struct offer *offer, struct err *err)
{
	struct object_row object = { 0 };
	struct image_row row = { 0 };
	int rc;

	rc = ctl_find_image(ctl, what, &row, err);
	if (rc == 0) {
		offer->digest = row.meta.sha512;
		offer->size = row.meta.size;
		snprintf(offer->identifier, sizeof(offer->identifier), "%s",
			 row.meta.value[FIELD_ID]);
		snprintf(offer->name, sizeof(offer->name), "%s", row.name);
		rc = catalogue_object_get(ctl->catalogue, &offer->digest, &object, err);
	}
	if (rc == 0 && object.state != OBJECT_VERIFIED)
		rc = err_set(err, EAGAIN, "image '%s' is not verified here:"
			     " 'vmimagectl fetch' does it", offer->identifier);
	object_row_release(&object);
	image_row_release(&row);
	return rc == 0 ? store_object_open(ctl->store, &offer->digest, offer->size, err) : rc;
}

static int
offer_all(struct ctl *ctl, char **args, size_t n, int sock, struct err *err)
{
	int rc = ctl_open(ctl, 0, err);

	if (rc == 0)
		rc = ctl_open_store(ctl, false, err);
	for (size_t i = 0; i < n && rc == 0; i++) {
		struct offer offer = { 0 };
		int fd = open_verified(ctl, args[i], &offer, err);

		if (fd < 0)
			return fd;
		rc = io_send_fds(sock, &offer, sizeof(offer), &fd, 1);
		close(fd);
		if (rc < 0)
			return err_set(err, -rc, "cannot hand over an image: %s",
				       strerrordesc_np(-rc));
	}
	return rc;
}

static void __attribute__((noreturn))
run_child(struct ctl *ctl, char **args, size_t n, int sock)
{
	struct err err = { 0 };
	int rc = offer_all(ctl, args, n, sock, &err), status = EXIT_DONE;

	/* The caller went away: it has said why. */
	if (rc == -EPIPE || rc == -ECONNRESET)
		status = EXIT_SOME_FAILED;
	else if (rc != 0)
		status = ctl_fail(ctl, &err);
	ctl_close(ctl);
	if (output_end(&ctl->out) != 0 && status == EXIT_DONE)
		status = EXIT_SOME_FAILED;
	_exit(status);
}

static int
start_child(struct ctl *ctl, char **args, size_t n, pid_t *pid, struct err *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set(err, errno, "cannot make a socket pair: %s", strerrordesc_np(errno));
	*pid = fork();
	if (*pid == 0) {
		close(pair[0]);
		run_child(ctl, args, n, pair[1]);
	}
	close(pair[1]);
	if (*pid < 0) {
		close(pair[0]);
		return err_set(err, errno, "cannot fork: %s", strerrordesc_np(errno));
	}
	return pair[0];
}

/* ---- signing: the rest, as the caller -------------------------------------------------------- */

struct signing {
	struct ctl *ctl;
	const struct options *opt;
	const char *dir;
	struct smimesigner *signer;
	struct attestation_entry *entries;
	size_t n;
};

static void
signing_release(struct signing *s)
{
	smimesigner_free(s->signer);
	for (size_t i = 0; i < s->n; i++) {
		free(s->entries[i].identifier);
		free(s->entries[i].uri);
	}
	free(s->entries);
}

static void
warn_of_key_mode(struct ctl *ctl, const char *file)
{
	struct stat st;

	if (stat(file, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		output_warn(&ctl->out, "others can use the private key '%s' (mode %04o): chmod 600",
			    file, (unsigned)st.st_mode & 07777);
}

static int
load_signer(struct signing *s, struct err *err)
{
	CLEANUP_BUF struct buf key = BUF_INIT, cert = BUF_INIT, chain = BUF_INIT;
	const struct options *opt = s->opt;
	int rc;

	warn_of_key_mode(s->ctl, opt->sign);
	rc = read_file(opt->sign, "private key", PEM_BYTES, &key, err);
	if (rc == 0)
		rc = read_file(opt->cert, "certificate", PEM_BYTES, &cert, err);
	if (rc == 0 && opt->chain != NULL)
		rc = read_file(opt->chain, "chain", PEM_BYTES, &chain, err);
	if (rc == 0)
		rc = smimesigner_new(&s->signer, &key, &cert, &chain, err);
	if (key.data != NULL)
		explicit_bzero(key.data, key.len);
	return rc;
}

static bool
is_known(const struct signing *s, const struct digest *d)
{
	for (size_t i = 0; i < s->n; i++)
		if (digest_equal(&s->entries[i].sha512, d))
			return true;
	return false;
}

/* Where the sidecar will be found. */
static char *
sidecar_uri(const struct signing *s, const char *file)
{
	const char *base = s->opt->base_url;
	size_t len = base != NULL ? strlen(base) : 0;

	if (base == NULL)
		return xstrdup("");
	return xasprintf("%s%s%s", base, len > 0 && base[len - 1] == '/' ? "" : "/", file);
}

static void
note_entry(struct signing *s, const struct offer *offer, const struct digest *verity, char *uri)
{
	struct attestation_entry *e;

	s->entries = xrealloc(s->entries, (s->n + 1) * sizeof(*s->entries));
	e = &s->entries[s->n++];
	memset(e, 0, sizeof(*e));
	e->identifier = xstrdup(offer->identifier);
	e->sha512 = offer->digest;
	e->verity = *verity;
	e->size = offer->size;
	e->uri = uri;
}

/* Hashes the file once more: what is signed is what is there now, and it is the image. */
static int
attest_one(struct signing *s, const struct offer *offer, int fd, struct err *err)
{
	CLEANUP_FREE char *file = xasprintf("%s.fsv", offer->name);
	struct sidecar sidecar = { .fd = fd, .size = offer->size, .label = offer->name,
				   .silent = s->ctl->out.verbosity < 0 || s->ctl->out.json };
	struct newfile out;
	int rc;

	if (is_known(s, &offer->digest)) {
		output_warn(&s->ctl->out, "image '%s' has the bytes of another one that is"
			    " attested: one entry is enough", offer->identifier);
		return 0;
	}
	rc = newfile_open(&out, s->dir, file, err);
	if (rc == 0)
		rc = sidecar_write(&sidecar, &out, err);
	if (rc == 0 && !digest_equal(&sidecar.sha512, &offer->digest))
		rc = err_refuse(err, CODE_CORRUPT, "the stored file is damaged: 'vmimagectl verify"
				" --fix' mends it");
	if (rc == 0)
		rc = newfile_publish(&out, s->ctl->umask, err);
	newfile_release(&out);
	if (rc != 0)
		return err_prefix(err, "image '%s'", offer->identifier);
	note_entry(s, offer, &sidecar.verity, sidecar_uri(s, file));
	return 0;
}

/* Until the child has no more. */
static int
attest_all(struct signing *s, int sock, struct err *err)
{
	int rc = 0;

	while (rc == 0) {
		CLEANUP_FD int fd = -1;
		struct offer offer;
		size_t n_fds = 1;
		ssize_t got = io_recv_fds(sock, &offer, sizeof(offer), &fd, &n_fds);

		if (got == 0)
			break;
		if (n_fds != 1)
			fd = -1;
		if (got != (ssize_t)sizeof(offer) || fd < 0)
			return err_set(err, EIO, "an image was not handed over");
		rc = attest_one(s, &offer, fd, err);
	}
	return rc;
}

static int
write_message(const struct signing *s, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT, message = BUF_INIT;
	struct newfile out;
	struct jsonw w;
	int rc;

	jsonw_begin(&w, &text, true);
	jsonw_open(&w, NULL, '[');
	for (size_t i = 0; i < s->n; i++)
		attestation_write(&w, &s->entries[i]);
	jsonw_close(&w, ']');
	buf_putc(&text, '\n');
	rc = smimesigner_sign(s->signer, text.data, text.len, &message, err);
	if (rc != 0)
		return rc;
	rc = newfile_open(&out, s->dir, "attestation.smime", err);
	if (rc == 0) {
		rc = io_pwrite_all(out.fd, message.data, message.len, 0);
		if (rc != 0)
			err_set(err, -rc, "cannot write 'attestation.smime': %s",
				strerrordesc_np(-rc));
	}
	if (rc == 0)
		rc = newfile_publish(&out, s->ctl->umask, err);
	newfile_release(&out);
	return rc;
}

static void
tell(const struct signing *s)
{
	struct output *o = &s->ctl->out;
	struct jsonw *w = output_json(o);
	CLEANUP_FREE char *message = xasprintf("%s/attestation.smime", s->dir);

	if (w != NULL) {
		jsonw_string(w, "attestation", message);
		jsonw_open(w, "images", '[');
		for (size_t i = 0; i < s->n; i++)
			attestation_write(w, &s->entries[i]);
		jsonw_close(w, ']');
	}
	output_note(o, "signed the block digests of %zu images: '%s'", s->n, message);
}

static int
check_signing(struct ctl *ctl, const struct options *opt, size_t n)
{
	CLEANUP_FREE char *url = NULL;
	const char *dir = opt->out != NULL ? opt->out : ".";
	struct err err = { 0 };
	struct stat st;

	if (opt->cert == NULL)
		return ctl_usage(ctl, verb, "--sign needs the --cert that belongs to the key");
	if (n > LIMIT_IMAGES_PER_LIST)
		return ctl_usage(ctl, verb, "more than %d images", LIMIT_IMAGES_PER_LIST);
	if (opt->base_url != NULL && confvalue_url(opt->base_url, &url, &err) != 0)
		return ctl_usage(ctl, verb, "--base-url: %s", err.text);
	if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
		return ctl_usage(ctl, verb, "'%s' is no directory", dir);
	return EXIT_DONE;
}

/* The child's status; once its end of the socket is all that is left of it. */
static int
end_child(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_SOME_FAILED;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SOME_FAILED;
}

static int
sign(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct signing s = { .ctl = ctl, .opt = opt, .dir = opt->out != NULL ? opt->out : "." };
	struct err err = { 0 };
	int status = check_signing(ctl, opt, n), child, sock, rc;
	pid_t pid = -1;

	if (status != EXIT_DONE)
		return status;
	rc = sock = start_child(ctl, args, n, &pid, &err);
	if (rc < 0)
		return ctl_fail(ctl, &err);
	rc = load_signer(&s, &err);
	if (rc == 0)
		rc = attest_all(&s, sock, &err);
	close(sock);
	child = end_child(pid);
	/* What stopped the child has been told by it. */
	if (rc == 0 && child != EXIT_DONE)
		status = child;
	else if (rc == 0)
		rc = write_message(&s, &err);
	if (rc != 0)
		status = ctl_fail(ctl, &err);
	if (status == EXIT_DONE)
		tell(&s);
	signing_release(&s);
	return status;
}

/* ---- both ------------------------------------------------------------------------------------ */

int
cmd_attest(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	if (opt->sign != NULL)
		return sign(ctl, opt, args, n);
	if (opt->cert != NULL || opt->chain != NULL || opt->base_url != NULL || opt->out != NULL)
		return ctl_usage(ctl, verb, "these options go with --sign");
	if (n != 1)
		return ctl_usage(ctl, verb, "one FILE at a time");
	return take_in(ctl, args[0]);
}
