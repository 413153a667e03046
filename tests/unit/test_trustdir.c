/*
 * The trust directory: which files are read, how they are found, and how a change is seen.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cleanup.h"
#include "core/digest.h"
#include "core/io.h"
#include "core/trustdir.h"
#include "tests/lib/callfaults.h"

static const char pem[] = "-----BEGIN CERTIFICATE-----\n";
static const char policy[] = "access_id_CA X509 '/CN=CA'\npos_rights globus CA:sign\n"
	"cond_subjects globus '\"/CN=*\"'\n";

struct bed {
	char path[64];
	int fd;
};

static void
put(const struct bed *bed, const char *name, const char *text)
{
	assert_int_equal(io_replace_file(bed->fd, name, 0644, text, strlen(text)), 0);
}

static int
setup(void **state)
{
	struct bed *bed = xcalloc(1, sizeof(*bed));

	snprintf(bed->path, sizeof(bed->path), "/tmp/test_trustdir.XXXXXX");
	if (mkdtemp(bed->path) == NULL)
		return -1;
	bed->fd = open(bed->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put(bed, "46cb6a7e.0", pem);
	put(bed, "46cb6a7e.r0", "crl");
	put(bed, "46cb6a7e.r1", "crl1");
	put(bed, "46cb6a7e.signing_policy", policy);
	put(bed, "README.txt", "not ours");
	put(bed, "46CB6A7E.0", "not ours");
	put(bed, "46cb6a7e.0.rpmsave", "not ours");
	put(bed, "46cb6a7.0", "not ours");
	*state = bed;
	return 0;
}

static int
teardown(void **state)
{
	static const char *const names[] = {
		"46cb6a7e.0", "46cb6a7e.r0", "46cb6a7e.r1", "46cb6a7e.signing_policy",
		"README.txt", "46CB6A7E.0", "46cb6a7e.0.rpmsave", "46cb6a7.0", "46cb6a7e.1",
		"46cb6a7e.2", "alias.namespaces",
	};
	struct bed *bed = *state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(bed->fd, names[i], 0);
	close(bed->fd);
	assert_int_equal(rmdir(bed->path), 0);
	free(bed);
	return 0;
}

static void
test_find(void **state)
{
	const struct bed *bed = *state;
	const struct trust_file *f;
	struct trustdir *t = NULL;
	struct err err;

	assert_int_equal(trustdir_load(bed->path, &t, &err), 0);
	assert_int_equal(trustdir_n_cas(t), 1);
	f = trustdir_find(t, TRUST_CA, "46cb6a7e", 0);
	assert_non_null(f);
	assert_string_equal(f->name, "46cb6a7e.0");
	assert_int_equal(f->len, strlen(pem));
	assert_null(trustdir_find(t, TRUST_CA, "46cb6a7e", 1));
	f = trustdir_find(t, TRUST_CRL, "46cb6a7e", 1);
	assert_non_null(f);
	assert_string_equal(f->name, "46cb6a7e.r1");
	assert_null(trustdir_find(t, TRUST_CRL, "46cb6a7e", 2));
	assert_null(trustdir_find(t, TRUST_NAMESPACES, "46cb6a7e", 0));
	assert_null(trustdir_find(t, TRUST_CA, "ffffffff", 0));
	trustdir_free(t);
}

static void
test_permits(void **state)
{
	static const char *const stems[] = { "46cb6a7e" };
	const struct bed *bed = *state;
	struct trustdir *t = NULL;
	struct err err;

	assert_int_equal(trustdir_load(bed->path, &t, &err), 0);
	assert_int_equal(trustdir_permits(t, stems, 1, "/CN=CA", "/CN=x", &err), 0);
	assert_int_not_equal(trustdir_permits(t, stems, 1, "/CN=CA", "/O=x", &err), 0);
	assert_int_equal(err.code, CODE_NAMESPACE);
	trustdir_free(t);

	put(bed, "46cb6a7e.signing_policy", "");
	assert_int_equal(trustdir_load(bed->path, &t, &err), 0);
	assert_int_not_equal(trustdir_permits(t, stems, 1, "/CN=CA", "/CN=x", &err), 0);
	assert_non_null(strstr(err.text, "46cb6a7e.signing_policy"));
	trustdir_free(t);
}

static void
test_problems(void **state)
{
	const struct bed *bed = *state;
	const struct trust_file *f;
	struct trustdir *t = NULL;
	struct err err;

	assert_int_equal(mkfifoat(bed->fd, "46cb6a7e.1", 0644), 0);
	assert_int_equal(symlinkat("/dev/zero", bed->fd, "46cb6a7e.2"), 0);
	assert_int_equal(symlinkat("gone", bed->fd, "alias.namespaces"), 0);
	assert_int_equal(trustdir_load(bed->path, &t, &err), 0);
	assert_int_equal(trustdir_n_cas(t), 1);
	for (size_t n = 1; n <= 2; n++) {
		f = trustdir_find(t, TRUST_CA, "46cb6a7e", n);
		assert_non_null(f);
		assert_null(f->data);
		assert_string_equal(f->problem, "not a regular file");
	}
	f = trustdir_find(t, TRUST_NAMESPACES, "alias", 0);
	assert_non_null(f);
	assert_string_equal(f->problem, "No such file or directory");
	trustdir_free(t);
}

static void
test_no_anchors(void **state)
{
	const struct bed *bed = *state;
	struct trustdir *t = NULL;
	struct err err;

	put(bed, "46cb6a7e.0", "junk");
	assert_int_not_equal(trustdir_load(bed->path, &t, &err), 0);
	assert_int_equal(err.code, CODE_NO_ANCHORS);
	assert_non_null(strstr(err.text, "46cb6a7e.0"));
	assert_int_not_equal(trustdir_load("/nonexistent", &t, &err), 0);
	assert_int_equal(err.code, CODE_NO_ANCHORS);
	assert_null(t);
}

/*
 * Whatever call fails, and with an error that passes: what is said then has no code, and what is
 * read then is all there is but what says that it is in trouble.
 */
static void
test_trouble(void **state)
{
	static const char *const stems[] = { "46cb6a7e" };
	static const int passing[] = { EIO, EMFILE, ENOMEM };
	const struct bed *bed = *state;
	bool struck = true;

	for (long n = 1; struck; n++) {
		struct trustdir *t = NULL;
		struct digest print;
		struct err err = { 0 };
		int rc;

		fault_begin(FAULT_FILES, n, passing[n % 3]);
		rc = trustdir_load(bed->path, &t, &err);
		if (rc == 0)
			rc = trustdir_permits(t, stems, 1, "/CN=CA", "/CN=x", &err);
		if (rc == 0)
			rc = trustdir_fingerprint(bed->path, &print, &err);
		struck = fault_end();
		if (rc != 0 && (err.code != CODE_NONE || strstr(err.text, "at the moment") == NULL))
			fail_msg("call %ld (%s): %d %s", n, fault_name(), (int)err.code, err.text);
		trustdir_free(t);
	}
}

/* What is there, or is not, until somebody changes it. */
static void
test_no_trouble(void **state)
{
	static const int lasting[] = { ENOENT, ENOTDIR, ELOOP, EACCES, EPERM, ENXIO, ENODEV };
	const struct bed *bed = *state;

	for (size_t i = 0; i < sizeof(lasting) / sizeof(lasting[0]); i++) {
		struct trustdir *t = NULL;
		struct err err = { 0 };

		fault_begin(FAULT_FILES, 1, lasting[i]);
		assert_int_not_equal(trustdir_load(bed->path, &t, &err), 0);
		assert_true(fault_end());
		assert_string_equal(fault_name(), "opendir");
		assert_int_equal(err.code, CODE_NO_ANCHORS);
	}
}

static void
test_fingerprint(void **state)
{
	const struct bed *bed = *state;
	struct digest first, second;

	assert_int_equal(mkfifoat(bed->fd, "46cb6a7e.1", 0644), 0);
	assert_int_equal(trustdir_fingerprint(bed->path, &first, NULL), 0);
	put(bed, "README.txt", "changed");
	assert_int_equal(trustdir_fingerprint(bed->path, &second, NULL), 0);
	assert_true(digest_equal(&first, &second));
	put(bed, "46cb6a7e.r0", "crl");
	assert_int_equal(trustdir_fingerprint(bed->path, &second, NULL), 0);
	assert_false(digest_equal(&first, &second));
	first = second;
	assert_int_equal(unlinkat(bed->fd, "46cb6a7e.r1", 0), 0);
	assert_int_equal(trustdir_fingerprint(bed->path, &second, NULL), 0);
	assert_false(digest_equal(&first, &second));
	assert_int_not_equal(trustdir_fingerprint("/nonexistent", &second, NULL), 0);
}

int
main(void)
{
#define TEST(sentence, fn) { sentence, fn, setup, teardown, NULL }
	const struct CMUnitTest tests[] = {
		TEST("files are found by kind and hash, others are not read", test_find),
		TEST("S20 a policy file that cannot be used makes its CA unusable", test_permits),
		TEST("S39 a FIFO, a device and a dangling link are kept with their problem",
		     test_problems),
		TEST("S39 a directory without a usable CA is refused", test_no_anchors),
		TEST("what cannot be read at the moment says nothing of the directory",
		     test_trouble),
		TEST("what cannot be read until somebody changes it does", test_no_trouble),
		TEST("the fingerprint changes with a CRL, and only with files that count",
		     test_fingerprint),
	};

	return cmocka_run_group_tests_name("trustdir", tests, NULL, NULL);
}
