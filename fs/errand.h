/*
 * errand.h - what has to be done at the disk before a request can be answered, other than reading
 * an image: opening one, opening and reading a signed message, opening an archive to read its
 * index.
 *
 * An errand is done in a place of the disk's (disk.h), on this thread or on another one.  It ends
 * exactly once: it claims its request and answers it, or it was given up before, at its deadline
 * (ETIMEDOUT), half a second after an interrupt (EINTR), or at the end of the mount (ENOTCONN).
 * Then what it brings back from the disk, however late, is put away.
 */
#ifndef VMI_ERRAND_H
#define VMI_ERRAND_H

#include <stdbool.h>
#include <stdint.h>

struct disk;
struct errands;
struct fuse_req;

struct errand_ops {
	/*
	 * In a place of the disk's.  Before it answers, or does anything else that give_up() would
	 * do otherwise, it must get true from errand_claim().  arg is its own until then, and if it
	 * gets false: it lets go of it.
	 */
	void (*go)(void *arg, uint64_t number);
	/* Instead of an answer.  No lock is held. */
	void (*give_up)(void *arg, int errnum);
	/* It was given up before go() was called. */
	void (*drop)(void *arg);
};

struct errands *errands_new(struct disk *disk, int64_t timeout);	/* seconds */
void errands_set_timeout(struct errands *e, int64_t timeout);
/* Gives up all; later ones are given up at once. */
void errands_end(struct errands *e);
void errands_free(struct errands *e);	/* after disk_stop(); NULL is fine */

/*
 * arg: takes.  req: interrupts of it count; NULL: there are none.  ops: borrowed for ever.
 * give_up() may be called before the return, as may go().
 */
void errands_run(struct errands *e, struct fuse_req *req, const struct errand_ops *ops, void *arg);

/* True, once: the errand's request is the caller's to answer. */
bool errand_claim(struct errands *e, uint64_t number);

int64_t errands_count(struct errands *e);

#endif
