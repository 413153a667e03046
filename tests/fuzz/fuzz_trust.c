/*
 * X15: the files of a trust directory (core/policy.h, core/trustdir.h, core/chain.h).
 *
 *	0, 1	a .signing_policy, a .namespaces alone: one line issuer, one line subject, the file
 *	2..5	one file of trust/ replaced: 2 the root's CRL, 3 the sub-CA's certificate, 4 the
 *		root's .signing_policy, 5 the sub-CA's .namespaces; then signed.smime is verified
 *
 * fetch-crl brings CRLs over plain HTTP: whoever changes one must not make it say anything.  That a
 * policy is a policy of the site's own is no reason to crash, or to take long.
 */
#include "config.h"

#include "core/cleanup.h"
#include "core/policy.h"
#include "core/smime.h"
#include "fuzz.h"
#include "fuzz_dir.h"


/* Of the CAs in trust/. */
#define ROOT "5b78a8d2"
#define SUB "a3e413d2"

/* The files that one message needs; the first byte of an input says which of them it replaces. */
static const char *const files[] = {
	NULL, NULL, ROOT ".r0", SUB ".0", ROOT ".signing_policy", SUB ".namespaces",
	ROOT ".0", SUB ".r0", ROOT ".namespaces", SUB ".signing_policy",
};
enum { N_FILES = sizeof(files) / sizeof(files[0]), FIRST_FILE = 2, N_REPLACED = 6 };

static struct buf originals[N_FILES];
static struct buf message = BUF_INIT;

const char *
fuzz_title(void)
{
	return "X15 no policy file, CRL or CA certificate crashes the verifier or widens trust";
}

static void
put(int i, const void *data, size_t len)
{
	CLEANUP_FREE char *path = fuzz_path(files[i]);

	fuzz_put(path, data, len);
}

static void
setup(void)
{
	CLEANUP_FREE char *sample = fuzz_source("fuzz/signed.smime");

	if (message.len > 0)
		return;
	if (smime_init(NULL) != 0)
		abort();
	fuzz_get(sample, &message);
	for (int i = FIRST_FILE; i < N_FILES; i++) {
		CLEANUP_FREE char *name = xasprintf("fuzz/trust/%s", files[i]);
		CLEANUP_FREE char *path = fuzz_source(name);

		fuzz_get(path, &originals[i]);
		put(i, originals[i].data, originals[i].len);
	}
}

/* ---- policies alone -------------------------------------------------------------------------- */

static void
check_policy(struct fuzz_input *in, bool namespaces)
{
	CLEANUP_FREE char *issuer = fuzz_take_line(in), *subject = fuzz_take_line(in);
	CLEANUP_FREE char *text = fuzz_copy(in->data, in->len, 0);
	struct policy *p = policy_new();
	struct err err = { 0 };
	int rc = namespaces ? policy_add_namespaces(p, "file", text, in->len, &err) :
		 policy_add_signing_policy(p, "file", text, in->len, &err);

	FUZZ_CHECK(rc == 0 || (err.code == CODE_NAMESPACE && err.text[0] != '\0'));
	/* A malformed file permits nothing. */
	if (rc != 0)
		FUZZ_CHECK(policy_permits(p, issuer, subject, NULL) != 0);
	else if (policy_permits(p, issuer, subject, &err) != 0)
		FUZZ_CHECK(err.code == CODE_NAMESPACE);
	policy_free(p);
}

/* ---- a whole directory ----------------------------------------------------------------------- */

/* The message is ours: all that a changed file can do is to have it refused. */
static void
check_directory(int replaced, const uint8_t *data, size_t len)
{
	struct trustdir *trust = NULL;
	struct err err = { 0 };
	struct verdict v;

	put(replaced, data, len);
	verdict_init(&v);
	if (trustdir_load(fuzz_dir(), &trust, &err) == 0) {
		if (smime_verify(trust, message.data, message.len, &v) == 0) {
			FUZZ_CHECK(v.payload.len > 0 && !v.revoked);
			FUZZ_CHECK(strcmp(v.issuer, "/DC=org/DC=example/CN=Sub") == 0);
		} else {
			FUZZ_CHECK(v.code != CODE_NONE && v.text[0] != '\0');
			/* Only a genuine CRL can revoke, and none does. */
			FUZZ_CHECK(!v.revoked);
		}
	} else {
		FUZZ_CHECK(err.code != CODE_NONE);
	}
	verdict_release(&v);
	trustdir_free(trust);
	put(replaced, originals[replaced].data, originals[replaced].len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	unsigned kind = fuzz_take_byte(&in);

	setup();
	if (kind < FIRST_FILE || kind >= N_REPLACED)
		check_policy(&in, kind == 1);
	else
		check_directory((int)kind, in.data, in.len);
	return 0;
}
