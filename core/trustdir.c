/*
 * trustdir.c - reading the trust directory.
 *
 *	46cb6a7e.0                 CA certificates: <hash>.<digits>
 *	46cb6a7e.r0                CRLs: <hash>.r<digits>
 *	46cb6a7e.signing_policy    policies: by hash, and by alias
 *	TestGridCA.namespaces
 *	TestGridCA.pem ...         everything else is not read
 *
 * Every name is opened once, non-blocking, and what is opened must be a regular file: a FIFO
 * would block and /dev/zero would never end.  The files are sorted by kind, stem and name, so
 * that those of one CA are found by bisection and always in the same order.
 */
#include "config.h"
#include "trustdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "digest.h"
#include "io.h"
#include "limits.h"
#include "policy.h"

enum { HASH_DIGITS = 8 };

/* A CA file is a certificate or a few: the bound of the smaller policy files is ample. */
static const size_t max_bytes[] = {
	[TRUST_CA] = LIMIT_NAMESPACES_BYTES,
	[TRUST_CRL] = LIMIT_CRL_BYTES,
	[TRUST_SIGNING_POLICY] = LIMIT_SIGNING_POLICY_BYTES,
	[TRUST_NAMESPACES] = LIMIT_NAMESPACES_BYTES,
};

struct trustdir {
	struct trust_file *files;
	size_t n, cap;
	struct policy *policy;
};

/* ---- names -------------------------------------------------------------- */

static bool
all_digits(const char *text)
{
	return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* What a file of this name is, and how long its stem; false for a name that does not concern us. */
static bool
classify(const char *name, enum trust_kind *kind, size_t *stem_len)
{
	const char *dot = strrchr(name, '.');

	if (dot == NULL || dot == name || name[0] == '.')
		return false;
	*stem_len = (size_t)(dot - name);
	if (strcmp(dot, ".signing_policy") == 0) {
		*kind = TRUST_SIGNING_POLICY;
		return true;
	}
	if (strcmp(dot, ".namespaces") == 0) {
		*kind = TRUST_NAMESPACES;
		return true;
	}
	if (*stem_len != HASH_DIGITS || strspn(name, "0123456789abcdef") != HASH_DIGITS)
		return false;
	*kind = dot[1] == 'r' ? TRUST_CRL : TRUST_CA;
	return all_digits(dot + (dot[1] == 'r' ? 2 : 1));
}

static int
compare_files(const void *pa, const void *pb)
{
	const struct trust_file *a = pa, *b = pb;
	int order;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	order = strcmp(a->stem, b->stem);
	return order != 0 ? order : strcmp(a->name, b->name);
}

/* ---- errors ------------------------------------------------------------- */

/* What stays so until somebody changes the directory.  All else may pass: no descriptor, a disk. */
static bool
lasts(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case EACCES:
	case EPERM:
	case ENXIO:	/* a socket */
	case ENODEV:
		return true;
	default:
		return false;
	}
}

static int
cannot_be_read(const char *path, int error, struct err *err)
{
	if (lasts(error))
		return err_refuse(err, CODE_NO_ANCHORS, "trust directory '%s' cannot be read: %s",
				  path, strerrordesc_np(error));
	return err_set(err, error, "trust directory '%s' cannot be read at the moment: %s", path,
		       strerrordesc_np(error));
}

int
trustdir_trouble(const struct trust_file *f, struct err *err)
{
	return err_set(err, f->trouble, "'%s' in the trust directory cannot be read at the moment:"
		       " %s", f->name, f->problem);
}

/* ---- loading ------------------------------------------------------------ */

static struct trust_file *
append_file(struct trustdir *t, enum trust_kind kind, const char *name, size_t stem_len)
{
	struct trust_file *f;

	if (t->n == t->cap) {
		t->cap = t->cap != 0 ? 2 * t->cap : 256;
		t->files = xrealloc(t->files, t->cap * sizeof(*t->files));
	}
	f = &t->files[t->n++];
	memset(f, 0, sizeof(*f));
	f->kind = kind;
	f->stem = xstrndup(name, stem_len);
	f->name = xstrdup(name);
	return f;
}

/* Collects the names that concern us. */
static int
list_names(struct trustdir *t, DIR *dir, const char *path, struct err *err)
{
	const struct dirent *d;
	enum trust_kind kind;
	size_t stem_len;

	while (errno = 0, (d = readdir(dir)) != NULL) {
		if (!classify(d->d_name, &kind, &stem_len))
			continue;
		if (t->n == LIMIT_TRUST_FILES)
			return err_refuse(err, CODE_LIMIT, "trust directory '%s' holds more than %d"
					  " files", path, LIMIT_TRUST_FILES);
		append_file(t, kind, d->d_name, stem_len);
	}
	if (errno != 0)
		return cannot_be_read(path, errno, err);
	if (t->n > 1)
		qsort(t->files, t->n, sizeof(*t->files), compare_files);
	return 0;
}

static void
note_unreadable(struct trust_file *f, int error)
{
	f->problem = xstrdup(strerrordesc_np(error));
	f->trouble = lasts(error) ? 0 : error;
}

/* The bytes of the file, or NULL with its problem. */
static void
read_file(struct trust_file *f, int dirfd)
{
	CLEANUP_BUF struct buf data = BUF_INIT;
	CLEANUP_FD int fd = -1;
	struct stat st;
	int rc;

	fd = io_openat(dirfd, f->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0 || fstat(fd, &st) != 0) {
		note_unreadable(f, errno);
		return;
	}
	if (!S_ISREG(st.st_mode)) {
		f->problem = xstrdup("not a regular file");
		return;
	}
	rc = (size_t)st.st_size > max_bytes[f->kind] ? -EFBIG :
	    io_read_to_end(fd, max_bytes[f->kind], &data);
	if (rc == -EFBIG)
		f->problem = xasprintf("larger than %zu bytes", max_bytes[f->kind]);
	else if (rc != 0)
		note_unreadable(f, -rc);
	else
		f->data = buf_steal(&data, &f->len);
}

static void
add_policy(struct trustdir *t, struct trust_file *f)
{
	struct err fault = { 0, CODE_NONE, "" };
	int rc;

	if (f->kind == TRUST_SIGNING_POLICY)
		rc = policy_add_signing_policy(t->policy, f->name, f->data, f->len, &fault);
	else
		rc = policy_add_namespaces(t->policy, f->name, f->data, f->len, &fault);
	if (rc != 0)
		f->problem = xstrdup(fault.text);
}

/* Whether the file can hold a certificate at all; it is parsed when a message needs it. */
static bool
looks_like_certificate(const struct trust_file *f)
{
	static const char pem[] = "-----BEGIN ";
	const unsigned char *p = f->data;

	if (f->len == 0)
		return false;
	return p[0] == 0x30 || memmem(f->data, f->len, pem, sizeof(pem) - 1) != NULL;
}

static void
read_all(struct trustdir *t, int dirfd)
{
	for (size_t i = 0; i < t->n; i++) {
		struct trust_file *f = &t->files[i];

		read_file(f, dirfd);
		if (f->problem != NULL)
			continue;
		if (f->kind == TRUST_SIGNING_POLICY || f->kind == TRUST_NAMESPACES)
			add_policy(t, f);
		else if (f->kind == TRUST_CA && !looks_like_certificate(f))
			f->problem = xstrdup("no certificate in it");
	}
}

static int
explain_no_cas(const struct trustdir *t, const char *path, struct err *err)
{
	for (size_t i = 0; i < t->n && t->files[i].kind == TRUST_CA; i++)
		if (t->files[i].trouble != 0)
			return trustdir_trouble(&t->files[i], err);
	for (size_t i = 0; i < t->n; i++)
		if (t->files[i].kind == TRUST_CA)
			return err_refuse(err, CODE_NO_ANCHORS, "trust directory '%s' holds no"
					  " usable CA: '%s':"
					  " %s", path, t->files[i].name, t->files[i].problem);
	return err_refuse(err, CODE_NO_ANCHORS, "trust directory '%s' holds no CA (no file named as"
			  " 46cb6a7e.0); install the CA packages, or name another cert_dir", path);
}

int
trustdir_load(const char *path, struct trustdir **out, struct err *err)
{
	struct trustdir *t = xcalloc(1, sizeof(*t));
	DIR *dir = NULL;
	int rc;

	t->policy = policy_new();
	dir = opendir(path);
	if (dir == NULL) {
		rc = cannot_be_read(path, errno, err);
		goto out;
	}
	rc = list_names(t, dir, path, err);
	if (rc != 0)
		goto out;
	read_all(t, dirfd(dir));
	if (trustdir_n_cas(t) == 0) {
		rc = explain_no_cas(t, path, err);
		goto out;
	}
	*out = t;
	t = NULL;
	rc = 0;
out:
	if (dir != NULL)
		closedir(dir);
	trustdir_free(t);
	return rc;
}

void
trustdir_free(struct trustdir *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->n; i++) {
		free(t->files[i].stem);
		free(t->files[i].name);
		free(t->files[i].data);
		free(t->files[i].problem);
	}
	free(t->files);
	policy_free(t->policy);
	free(t);
}

/* ---- looking up --------------------------------------------------------- */

size_t
trustdir_n_cas(const struct trustdir *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n && t->files[i].kind == TRUST_CA; i++)
		if (t->files[i].problem == NULL)
			n++;
	return n;
}

const struct trust_file *
trustdir_find(const struct trustdir *t, enum trust_kind kind, const char *stem, size_t n)
{
	size_t low = 0, high = t->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct trust_file *f = &t->files[middle];

		if (f->kind < kind || (f->kind == kind && strcmp(f->stem, stem) < 0))
			low = middle + 1;
		else
			high = middle;
	}
	low += n;
	if (low >= t->n || t->files[low].kind != kind || strcmp(t->files[low].stem, stem) != 0)
		return NULL;
	return &t->files[low];
}

/* A policy file of this CA that cannot be used, or NULL. */
static const struct trust_file *
broken_policy(const struct trustdir *t, const char *stem)
{
	static const enum trust_kind kinds[] = { TRUST_SIGNING_POLICY, TRUST_NAMESPACES };
	const struct trust_file *f;

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (size_t n = 0; (f = trustdir_find(t, kinds[k], stem, n)) != NULL; n++)
			if (f->problem != NULL)
				return f;
	return NULL;
}

int
trustdir_permits(const struct trustdir *t, const char *const *stems, size_t n_stems,
		 const char *issuer, const char *subject, struct err *err)
{
	for (size_t i = 0; i < n_stems; i++) {
		const struct trust_file *f = broken_policy(t, stems[i]);

		if (f != NULL && f->trouble != 0)
			return trustdir_trouble(f, err);
		if (f != NULL && f->data != NULL)
			return err_refuse(err, CODE_NAMESPACE, "%s", f->problem);
		if (f != NULL)
			return err_refuse(err, CODE_NAMESPACE, "policy file '%s' of CA '%.256s'"
					  " cannot be used: %s", f->name, issuer, f->problem);
	}
	return policy_permits(t->policy, issuer, subject, err);
}

/* ---- fingerprint -------------------------------------------------------- */

struct mark {
	char *name;
	long long fields[7];
};

static int
compare_marks(const void *a, const void *b)
{
	return strcmp(((const struct mark *)a)->name, ((const struct mark *)b)->name);
}

static void
take_mark(struct mark *m, int dirfd, const char *name)
{
	struct stat st;

	memset(m, 0, sizeof(*m));
	m->name = xstrdup(name);
	if (fstatat(dirfd, name, &st, 0) != 0) {
		m->fields[0] = -errno;
		return;
	}
	/* Not the device: the same disk can have another number after a boot. */
	m->fields[1] = (long long)st.st_ino;
	m->fields[2] = (long long)st.st_size;
	m->fields[3] = (long long)st.st_mtim.tv_sec;
	m->fields[4] = (long long)st.st_mtim.tv_nsec;
	m->fields[5] = (long long)st.st_ctim.tv_sec;
	m->fields[6] = (long long)st.st_ctim.tv_nsec;
}

static void
hash_marks(struct mark *marks, size_t n, struct digest *out)
{
	struct digest_state *hash = digest_state_new();

	if (n > 1)
		qsort(marks, n, sizeof(*marks), compare_marks);
	for (size_t i = 0; i < n; i++) {
		digest_state_add(hash, marks[i].name, strlen(marks[i].name) + 1);
		digest_state_add(hash, marks[i].fields, sizeof(marks[i].fields));
	}
	digest_state_end(hash, out);
	digest_state_free(hash);
}

int
trustdir_fingerprint(const char *path, struct digest *out, struct err *err)
{
	struct mark *marks = NULL;
	size_t n = 0, cap = 0, stem_len;
	const struct dirent *d;
	enum trust_kind kind;
	DIR *dir;
	int rc = 0;

	dir = opendir(path);
	if (dir == NULL)
		return cannot_be_read(path, errno, err);
	while (errno = 0, n < LIMIT_TRUST_FILES && (d = readdir(dir)) != NULL) {
		if (!classify(d->d_name, &kind, &stem_len))
			continue;
		if (n == cap) {
			cap = cap != 0 ? 2 * cap : 256;
			marks = xrealloc(marks, cap * sizeof(*marks));
		}
		take_mark(&marks[n++], dirfd(dir), d->d_name);
	}
	if (errno != 0)
		rc = cannot_be_read(path, errno, err);
	else
		hash_marks(marks, n, out);
	for (size_t i = 0; i < n; i++)
		free(marks[i].name);
	free(marks);
	closedir(dir);
	return rc;
}
