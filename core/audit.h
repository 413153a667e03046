/*
 * audit.h - one pass over a whole file: its SHA-512 and its Merkle tree, with all cores.
 *
 * The SHA-512 of the whole is one stream and runs in one thread; the granules are hashed by the
 * other cores from the same buffers.  Used to adopt a file, to rebuild a tree that was lost, for
 * integrity = open, for the check at the end of block mode (I2), by `verify` and by `digest`.
 * Blocks for as long as it takes.
 */
#ifndef VMI_AUDIT_H
#define VMI_AUDIT_H

#include <stdbool.h>
#include <stdint.h>
#include "digest.h"
#include "err.h"
#include "verity.h"

struct audit {
	int fd;				/* borrowed; read with pread() from 0 to size */
	int64_t size;
	bool whole;			/* the SHA-512 of the whole is wanted too */
	/*
	 * Any of the functions may be NULL.  progress: by the calling thread, now and then; a
	 * negative value ends the pass with it.  level0: every level-0 block, once, in any order,
	 * by any thread.
	 */
	int (*progress)(void *arg, int64_t done);
	void (*level0)(void *arg, int64_t g, const unsigned char block[VERITY_BLOCK]);
	void *arg;
	/* results */
	struct digest sha512;		/* if whole */
	struct digest verity;
	struct verity_builder *builder;	/* ended; the caller frees it; NULL after an error */
};

/*
 * 0, or a negative errno value.  -EIO: cannot be read.  -EBADMSG with CODE_SIZE: the file is
 * shorter than size.
 */
int audit_run(struct audit *a, struct err *err);

#endif
