/*
 * workerstate.h - run_dir/worker: how the worker of a daemon is, as the supervisor knows it.
 *
 * Lines "key: value".  It is there as long as the daemon is, and tells what nobody else can while
 * no worker answers: why there is none, and when the next one will be started.
 */
#ifndef VMI_WORKERSTATE_H
#define VMI_WORKERSTATE_H

#include <stdbool.h>
#include <stdint.h>
#include "buf.h"
#include "conf.h"

#define WORKERSTATE_FILE "worker"

enum worker_phase {
	WORKER_STARTING,	/* it opens the store */
	WORKER_SERVING,
	WORKER_EXCHANGING,	/* it serves, and another program is being tried */
	WORKER_WAITING,		/* there is none; next_start says when */
	WORKER_STOPPING,
	N_WORKER_PHASES
};

enum { WORKERSTATE_TEXT = 512 };

struct worker_state {
	enum worker_phase phase;
	int64_t supervisor, worker;	/* pids; 0: none */
	int64_t since;			/* of the phase; seconds UTC, as all stamps here */
	char version[64];		/* of the worker's program */
	int64_t restarts;		/* since the mount began */
	int64_t last_end;		/* of a worker that was started again; 0: none */
	char last_cause[WORKERSTATE_TEXT];
	int64_t next_start;		/* WAITING */
	int64_t exchanges;		/* programs that were tried */
	/* What came of the last one: "done", or why not; empty: it runs. */
	char exchange[WORKERSTATE_TEXT];
	/* Could not begin: one was under way, or nothing served yet. */
	int64_t exchanges_refused;
};

/* Without waiting for a disk: run_dir is where pids are.  0 or a negative errno value. */
int worker_state_write(const char *run_dir, const struct worker_state *s);
void worker_state_remove(const char *run_dir);

/* -ENOENT: no daemon, or one that is not of this version. */
int worker_state_read(const char *run_dir, struct worker_state *out);

/* Whether requests to the daemon would wait: no worker is there, nor about to be. */
bool worker_state_is_down(const struct worker_state *s);

const char *worker_phase_name(enum worker_phase phase);

/* "the worker was ended by signal 11 ...; the next one is started at ..." */
void worker_state_describe(const struct worker_state *s, struct buf *out);

#endif
