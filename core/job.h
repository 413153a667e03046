/*
 * job.h - fetching one object as a stream: a small state machine that the engine drives.
 *
 *   QUEUED     waits for a place among the fetch_parallel
 *   RECEIVING  intake open; a fetcher runs, or is about to
 *   STORING    verified, readers are answered, the file is being made durable; then its row is
 *              written, again at retry_at if that fails
 *   BACKOFF    the last try failed; result says why; tries again at retry_at (or never: gave_up)
 *   DONE       stored and in the catalogue; the engine drops the job
 *
 * QUEUED -> RECEIVING -> STORING -> DONE; RECEIVING and STORING -> BACKOFF -> QUEUED.
 * A transfer that was cut after real progress goes on within RECEIVING.
 *
 *   state      intake  fetch     result
 *   QUEUED     NULL    NULL      -
 *   RECEIVING  set     NULL/set  -
 *   STORING    set     NULL      -
 *   BACKOFF    NULL    NULL      set
 *
 * All functions run on the engine's thread, but job_progress(), which may be called from any as
 * long as the job is in the engine's list.
 */
#ifndef VMI_JOB_H
#define VMI_JOB_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "catalogue.h"
#include "conf.h"
#include "digest.h"
#include "err.h"
#include "fetch.h"
#include "intake.h"
#include "starter.h"
#include "store.h"

enum job_state { JOB_QUEUED, JOB_RECEIVING, JOB_STORING, JOB_BACKOFF, JOB_DONE };

struct job_source {
	char *uri, *list_id;
};

struct job {
	struct job *next;
	struct digest digest;
	int64_t size;
	bool has_root;			/* root: the fs-verity digest that was signed */
	struct digest root;
	pthread_mutex_t lock;		/* state and intake, when written here or read by others */
	enum job_state state;
	bool waiting;			/* a reader or command waits for an answer */
	bool pending;			/* a new version of an image whose old one is here */
	bool gave_up;			/* BACKOFF: no further try of this list version */
	int tries;			/* counted failures, as in the object's row */
	int n_failed;			/* failed tries in a row, for the back-off */
	long long retry_at;		/* BACKOFF, STORING (0: not tried): monotonic ms */
	long long failed_at;		/* BACKOFF: monotonic ms of the last failure */
	/* BACKOFF for want of room: what the disk had, -1: not asked. */
	int64_t free_then;
	struct err result;		/* BACKOFF */

	struct job_source *sources;
	size_t n_sources, source;	/* source: the one in use */
	size_t n_sources_failed;	/* in this round */
	struct intake *intake;
	struct fetch *fetch;
	int pipe_rd;			/* until BEGIN gives it to the intake */
	bool begun, ended;		/* answers of the running request */
	struct fetch_answer end;
	int64_t reached;		/* the farthest that a request of this try came */
	/* The one full restart after a resumed transfer went wrong. */
	bool restarted;
	char etag[FETCH_ETAG_MAX], etag_url[LIMIT_URI_BYTES + 1];
};

/* Of all jobs since the start. */
struct job_counters {
	int64_t fetched_bytes, fetched_images, failed_tries;
};

/* What a job works with. */
struct job_env {
	const struct conf *conf;
	struct catalogue *catalogue;
	struct store *store;
	struct starter *starter;
	int notify_fd;			/* eventfd for the intakes */
	struct job_counters *counters;
};

struct job *job_new(const struct object_row *row);
void job_free(struct job *job);

/* QUEUED: opens the partial file.  A failure leads to BACKOFF. */
void job_start(struct job *job, const struct job_env *env);

/* QUEUED -> BACKOFF: there is no room for it.  Is no failed try. */
void job_refuse(struct job *job, const struct job_env *env, const struct err *why);

/* Looks at intake and fetcher and does what is due; true if anything changed that others see. */
bool job_step(struct job *job, const struct job_env *env);

/* Readable when job_step() has something to do; -1 if only the notify_fd says so. */
int job_fd(const struct job *job);

/* BACKOFF -> QUEUED. */
void job_requeue(struct job *job);

bool job_is_active(const struct job *job);	/* QUEUED, RECEIVING or STORING */
void job_progress(struct job *job, bool *active, int64_t *bytes);

#endif
