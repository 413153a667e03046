/*
 * session.h - a FUSE session on a connection that may have had other workers before.
 *
 * libfuse learns from the kernel's first request what was agreed, and the kernel sends that once.
 * So every worker is given it from memory (shared.h).  The first one's reply goes to the kernel
 * and is kept; later ones agree to what it says, and theirs goes nowhere.
 */
#ifndef VMI_SESSION_H
#define VMI_SESSION_H

#include <stdbool.h>
#include "core/err.h"
#include "fs/shared.h"

struct fuse_session;
struct fs_context;

struct session {
	struct fuse_session *fuse;
	int fd;				/* that the session reads and writes */
	int nowhere;			/* where answers go in the end */
	bool takeover;			/* another worker had the connection before */
	bool resends;			/* the kernel can send again what that one did not answer */
};

/* Before session_begin() the operations know of no kernel: what init needs is to be in fs. */
int session_new(struct session *s, struct fs_context *fs, bool debug, struct err *err);

/* Takes fuse_fd: agrees with the kernel, or with what was agreed. */
int session_begin(struct session *s, int fuse_fd, struct shared *shared, struct err *err);

/* What the worker before us has not answered comes again.  Before anybody reads a request. */
void session_resend(const struct session *s);

/*
 * Nobody reads requests any more: what is answered from now on goes nowhere, so that the next
 * worker is asked again.
 */
void session_leave(const struct session *s);

void session_release(struct session *s);

#endif
