/*
 * runner_impl.h - the insides of the runner: runner.c (our side), runner_host.c (its process),
 * runner_minder.c (the process that minds one handler).  Nothing else includes it.
 *
 *   us                            runner                    minder              handler
 *   note RUN id name          ->  fork ------------------>  subreaper
 *     (+ record, variables)                                 fork ------------>  execve
 *   note RELOAD               ->  reads the configuration   reads its output
 *   note STOP                 ->  TERM -------------------> TERM, KILL ------>  (group, orphans)
 *   note RESET                ->  the same, and then goes on
 *   note ENDED id status      <----------------------------  (its own process ended)
 *     (+ output)                                            stays for what the handler left behind
 *
 * A runner of a daemon has a keeper (kept.h), which says LOST when it had to fork another one.
 *
 * Notes are packets on one SOCK_SEQPACKET pair; the minders share the runner's end of it.  Record
 * and variables come in sealed files in memory, so that a packet is small whatever a list says.
 * Ids are chosen by us, so that nothing has to be waited for.
 */
#ifndef VMI_RUNNER_IMPL_H
#define VMI_RUNNER_IMPL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "handlerenv.h"
#include "limits.h"
#include "runner.h"

enum {
	RUNNER_MAGIC = 0x52756e31,
	RUNNER_NAME_MAX = 256,
	RUNNER_FDS = 2,			/* record, variables */
	RUNNER_VARIABLES_MAX = 4 << 20,	/* more than execve() takes */
	RUNNER_NOT_STARTED = 127 << 8,
};

enum runner_kind {
	RUNNER_RUN = 1, RUNNER_RELOAD, RUNNER_STOP, RUNNER_RESET,
	RUNNER_ENDED, RUNNER_LOST,
};

struct runner_note {
	uint32_t magic;
	int32_t kind;			/* enum runner_kind */
	uint32_t id;
	int32_t status;			/* ENDED: as waitpid() */
	int32_t timed_out;		/* ENDED */
	char name[RUNNER_NAME_MAX];	/* RUN */
};

/* An ENDED note and what the handler wrote. */
struct runner_packet {
	struct runner_note note;
	char output[LIMIT_EVENT_OUTPUT];
};

/* What is to be executed. */
struct runner_task {
	uint32_t id;
	int sock;			/* where ENDED goes */
	char **argv;			/* argv[0] is the path */
	const struct handlerenv *env;
	int record;			/* its standard input */
	int64_t timeout;		/* seconds */
	bool of_daemon;			/* works in "/" */
};

/* The runner's process, in the child of a fork; returns its exit status. */
int runner_host(int sock, const struct conf *conf, const char *command, const struct account *who);

/* The minder's, in the child of a fork. */
void runner_minder(const struct runner_task *task, pid_t parent) __attribute__((noreturn));

/*
 * Tells of an end.  -EAGAIN: there is no room for it now; with wait it waits until there is, or
 * until the other side is gone.
 */
int runner_tell(int sock, uint32_t id, int status, bool timed_out, const struct buf *output,
		bool wait);

#endif
