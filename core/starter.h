/*
 * starter.h - the process that starts other programs, so that threaded or sandboxed ones need not.
 *
 * starter_new() forks it while the caller is single-threaded and not yet sandboxed.  Requests are
 * fixed-size: which program, one argument number, which descriptors.  The starter ends when its
 * socket closes, and ends its children then.  starter_run() and starter_kill() may be called by any
 * thread, the rest by one.
 */
#ifndef VMI_STARTER_H
#define VMI_STARTER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "conf.h"
#include "err.h"

enum starter_program {
	STARTER_FETCHER,	/* descriptors: 3 = request socket */
	STARTER_VERIFIER,	/* on cert_dir; descriptors: 0 = message, 1 = verdict */
	STARTER_UPDATER,	/* vmimagectl, no descriptors; arg is an enum starter_task */
};

/* The wait status of a program that could not be started: as one that ended with 127. */
enum { STARTER_NOT_STARTED = 127 << 8 };

enum starter_task { STARTER_UPDATE, STARTER_RECHECK };

#define STARTER_ALL UINT32_MAX	/* in the place of an id: all that was started before */

struct starter;

/*
 * Programs are found in libexecdir as built in, or in the directory named by
 * VMIMAGEFS_LIBEXECDIR (secure_getenv; for running from the build tree).
 */
int starter_new(struct starter **out, const struct conf *conf, struct err *err);
void starter_free(struct starter *s);	/* closes the socket and waits for the starter to end */

/*
 * The same, and one that is killed is forked again, by a keeper (kept.h), which is what
 * starter_pid() is.  duty (may be NULL): what else the keeper does, its serve, arg and fds, which
 * are borrowed; it runs as the starter does.
 */
struct kept;
int starter_new_kept(struct starter **out, const struct conf *conf, const struct kept *duty,
		     struct err *err);
pid_t starter_pid(const struct starter *s);

/* A starter by its socket (starter_fd() of another process), which is taken. */
struct starter *starter_adopt(int sock);

/* Starts a program; borrows fds.  *id names it in later calls. */
int starter_run(struct starter *s, enum starter_program program, int arg, const int *fds,
		size_t n_fds, uint32_t *id, struct err *err);

/* KILLs a child; unknown ids are ignored (it has ended already). */
void starter_kill(struct starter *s, uint32_t id);

/* Readable when a child has ended. */
int starter_fd(const struct starter *s);

/*
 * Takes one ended child: 1 and id and wait status; 0 if there is none now; negative: the
 * starter is gone.  STARTER_ALL and SIGKILL: the starter was killed, and they with it.
 */
int starter_reap(struct starter *s, uint32_t *id, int *status);

#endif
