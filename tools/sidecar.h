/*
 * sidecar.h - the Merkle tree of an image as a file: what `fsverity digest --hash-alg=sha512
 * --block-size=4096 --out-merkle-tree=` writes (core/verity.h).
 */
#ifndef VMI_SIDECAR_H
#define VMI_SIDECAR_H

#include <stdbool.h>
#include <stdint.h>
#include "core/digest.h"
#include "core/err.h"
#include "newfile.h"

struct sidecar {
	int fd;			/* of the image; borrowed */
	int64_t size;		/* of the image */
	const char *label;	/* for the progress bar */
	bool silent;
	/* results */
	struct digest sha512, verity;
};

/*
 * Reads the image once with all cores and writes its tree into out (open, not yet published; NULL:
 * the digests alone).  Level 0 goes to its place while the image is read, the levels above follow.
 * -EIO, -EBADMSG with CODE_SIZE if the image is shorter; what out cannot take.
 */
int sidecar_write(struct sidecar *s, struct newfile *out, struct err *err);

#endif
