/*
 * trustdir.h - the trust directory, read whole into memory: <hash>.N, <hash>.rN, and the policy
 * files.
 *
 * <hash> is eight hexadecimal digits, as `openssl x509 -subject_hash` (or -subject_hash_old) prints
 * them; the stem of a policy file is such a hash or an alias.  After trustdir_load() nothing is
 * read from disk any more.  Certificates and CRLs are kept as bytes: fetch-crl brings CRLs over
 * plain HTTP, so that they are parsed only where nothing can be lost (chain.h), and only those of
 * the CAs that a message needs.  One thread.
 */
#ifndef VMI_TRUSTDIR_H
#define VMI_TRUSTDIR_H

#include <stddef.h>
#include "err.h"

struct trustdir;

enum trust_kind { TRUST_CA, TRUST_CRL, TRUST_SIGNING_POLICY, TRUST_NAMESPACES };

struct trust_file {
	enum trust_kind kind;
	char *stem;		/* "46cb6a7e" */
	char *name;		/* "46cb6a7e.r0" */
	void *data;		/* NULL if it cannot be used */
	size_t len;
	char *problem;		/* why it cannot be used, NULL if it can */
	/* The errno value of a read that may succeed the next time, else 0. */
	int trouble;
};

/*
 * Reads every CA, CRL, .signing_policy and .namespaces.  Links are followed; what is no regular
 * file, cannot be read, is too large or (a policy) is malformed is kept with its problem, to be
 * told to whoever needs it.  Not one usable CA file is CODE_NO_ANCHORS, more than
 * LIMIT_TRUST_FILES files CODE_LIMIT.  What could not be read for a moment (EIO, no descriptor)
 * says nothing of the directory: the error has no code then.
 */
int trustdir_load(const char *path, struct trustdir **out, struct err *err);
void trustdir_free(struct trustdir *t);
size_t trustdir_n_cas(const struct trustdir *t);	/* usable CA files */

/*
 * The n-th (from 0) file of this kind and stem, in order of name; NULL after the last.  Borrowed.
 */
const struct trust_file *trustdir_find(const struct trustdir *t, enum trust_kind kind,
				       const char *stem, size_t n);

/* The error for a file in trouble: it has no code, for nothing is known. */
int trustdir_trouble(const struct trust_file *f, struct err *err);

/*
 * The policy decision for one issued subject.  stems are those of the issuer's CA files: a policy
 * file of theirs that cannot be used makes the CA unusable.  CODE_NAMESPACE if not permitted.
 */
int trustdir_permits(const struct trustdir *t, const char *const *stems, size_t n_stems,
		     const char *issuer, const char *subject, struct err *err);

/*
 * A fingerprint of the directory (names, sizes, times, inode numbers; contents are not read), so
 * that a change can be seen cheaply.  Links are followed; never blocks on a FIFO.
 */
struct digest;
int trustdir_fingerprint(const char *path, struct digest *out, struct err *err);

#endif
