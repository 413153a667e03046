/*
 * disk.h - a bounded number of threads in the store at a time; what else wants to go there waits
 * in order.
 *
 * A disk may stop answering, and nobody can call back a thread that asked it something.  FUSE
 * threads are few and must go on serving what needs no disk.  So a thread takes a place before it
 * touches the store, and there are fewer places than FUSE threads.  Who finds none leaves a turn in
 * the queue and goes on; whoever gives a place back does the turns that wait first.  A few threads
 * of our own do those that were left when every place was free, or by threads that must not wait.
 *
 * Nothing here ends a wait: that is for whoever left the turn (blob.h, errand.h).  Any thread; the
 * lock is a leaf: it may be taken with others held.
 */
#ifndef VMI_DISK_H
#define VMI_DISK_H

#include <stdbool.h>
#include <stdint.h>

struct disk;

/* What waits for a place; its owner's memory, until run() is called or it was cancelled. */
struct turn {
	struct turn *next, **link;	/* link NULL: it does not wait */
	void (*run)(void *arg, uint64_t number);
	void *arg;
	uint64_t number;
};

/*
 * n places; our own threads are two.  inline_places: whether disk_enter() gives any: only when
 * there are more FUSE threads than places.  Aborts if there are no threads to be had.
 */
struct disk *disk_new(unsigned n, bool inline_places);
/* Ends our threads: when it returns, nothing is being done but by callers of disk_enter(). */
void disk_stop(struct disk *d);
/* When nobody uses it any more: does what is still queued. */
void disk_free(struct disk *d);		/* NULL is fine */

/* A place for the caller, if one is free and nobody waits. */
bool disk_enter(struct disk *d);
/* Gives it back, after the turns that wait have been done on this thread. */
void disk_leave(struct disk *d);

/* run, arg and number are set; run() is called once, without locks, in a place. */
void disk_queue(struct disk *d, struct turn *turn);
/* True: it will not be run.  False: it was not waiting (any more). */
bool disk_cancel(struct disk *d, struct turn *turn);

/* fn(arg), whenever there is a place: for what nobody waits for. */
void disk_later(struct disk *d, void (*fn)(void *arg), void *arg);
void disk_close_later(struct disk *d, int fd);	/* -1 is fine */

#endif
