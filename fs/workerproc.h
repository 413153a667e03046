/*
 * workerproc.h - one worker, as the supervisor sees it: a process and the socket to it.
 *
 *   NONE        there is none
 *   LOADING     it was started; the program may turn out to be of no use
 *   LOADED      it waits for its turn
 *   PREPARING   it opens the store
 *   CONNECTED   it has the connection
 *   SERVING     it answers
 *   LEAVING     it was told to make room for another one
 *
 * Single-threaded.
 */
#ifndef VMI_WORKERPROC_H
#define VMI_WORKERPROC_H

#include <stdbool.h>
#include <sys/types.h>
#include "core/err.h"
#include "keeper.h"
#include "note.h"

enum workerproc_step {
	PROC_NONE, PROC_LOADING, PROC_LOADED, PROC_PREPARING, PROC_CONNECTED, PROC_SERVING,
	PROC_LEAVING,
};

struct workerproc {
	enum workerproc_step step;
	pid_t pid;			/* 0: none */
	int notes;			/* -1: none, or it has closed its end */
	bool on_disk;			/* its program is the one on disk, not known to be good */
	bool abandoned;			/* it was ended for want of a worker to follow */
	long long since;		/* of the step; monotonic ms */
	long long turn_at;		/* of PREPARING, whatever the step is now */
	struct err why;			/* what it said of its failure; rc 0: nothing */
	char version[64];
};

void workerproc_init(struct workerproc *p);

/* fds: but for the notes, which are made here. */
int workerproc_start(struct workerproc *p, struct keeper *keeper, enum keeper_program which,
		     const int fds[N_WORKER_FDS], struct err *err);

void workerproc_enter(struct workerproc *p, enum workerproc_step step);

/* A worker that does not read its notes must not stop us; one that has ended needs none. */
void workerproc_send(const struct workerproc *p, const struct note *note, int fd);
void workerproc_tell(const struct workerproc *p, enum note_kind kind);

void workerproc_kill(const struct workerproc *p);

/* That, and what it has said and nobody has read yet, LOADED above all, is not acted upon. */
void workerproc_give_up(struct workerproc *p);

/* It has ended and was waited for: NONE again. */
void workerproc_ended(struct workerproc *p);

/* "the worker was ended by signal 9 (Killed)", or what it said itself.  Never rc 0. */
void workerproc_explain(const struct workerproc *p, int status, struct err *out);

#endif
