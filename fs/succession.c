/*
 * One worker after the other, on the same mount.
 *
 *	started -> LOADED -> GO -> PREPARED -> CONNECTION -> READY
 *
 * is the way of every worker, the first as well.  Two never have the store: GO is given when the
 * one before has ended.
 *
 * A worker that dies is started again, with a back-off (core/restarts.h).  What it had not answered
 * waits in the kernel meanwhile.  When the kernel cannot send that again, or when there is
 * no worker for OUTAGE_MS, the connection is ended: whoever waits gets an error, and the next
 * worker that is prepared gets a new mount in the same place.
 *
 * A worker that takes too long or shows no sign of life is killed (succession_time.c).  One that a
 * disk holds does not end even then: the connection is cut after OUTAGE_MS all the same, and there
 * is no other worker before it has ended.
 *
 * An exchange (USR2, `reload --binary') tries the program on disk beside the worker: only when that
 * is loaded is the worker told to leave.  If the new one comes to nothing after all, the program
 * before goes on.
 */
#include "config.h"
#include "supervisor_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/log.h"
#include "core/stamp.h"

enum { NOTES_MAX = 1000 };		/* at a time: more than a socket holds */

/* ---- starting ------------------------------------------------------------------------------- */

static void
list_fds(const struct supervisor_setup *setup, int fds[N_WORKER_FDS])
{
	fds[WORKER_FD_NOTES] = -1;
	fds[WORKER_FD_CONTROL] = setup->control_socket;
	fds[WORKER_FD_STARTER] = starter_fd(setup->starter);
	fds[WORKER_FD_RUNNER] = setup->runner != NULL ? runner_fd(setup->runner) : -1;
	fds[WORKER_FD_SHARED] = setup->shared_fd;
	fds[WORKER_FD_READ_AHEAD] = setup->mountpoint->read_ahead;
	fds[WORKER_FD_LOCK] = setup->lock;
	fds[WORKER_FD_BOARD] = setup->board_fd;
}

static int
start_process(struct supervisor *s, struct workerproc *p, enum keeper_program which,
	      struct err *err)
{
	int fds[N_WORKER_FDS];

	if (s->keeper_gone)
		return err_set(err, EPIPE,
			       "no worker can be started any more: its keeper has ended");
	list_fds(s->setup, fds);
	return workerproc_start(p, s->setup->keeper, which, fds, err);
}

/* The first one, and what nobody can mend, end the mount. */
static void
start_worker(struct supervisor *s)
{
	struct err err;

	s->start_at = 0;
	if (start_process(s, &s->now, KEEPER_GOOD, &err) == 0) {
		succession_show(s);
	} else if (s->keeper_gone || !s->served) {
		supervisor_fail(s, &err);
	} else {
		log_err(LOG_LVL_ERROR, "worker", &err);
		s->start_at = io_monotonic_ms() + RESTARTS_WAIT_MAX_MS;
	}
}

static bool
is_left_to_next(const void *arg, const struct digest *d)
{
	const struct shared *shared = arg;

	for (size_t i = 0; i < SHARED_BACKED; i++)
		if (shared->backed[i].used != 0 && digest_equal(&shared->backed[i].digest, d))
			return true;
	return false;
}

/*
 * What the one before was telling the kernel when it died need not have got there: all is told
 * again.  But if this one cannot end, it is not for that (stuck.h).
 */
static void
forget_untold(struct shared *shared)
{
	if (shared->n_untold == 0)
		return;
	shared->shown = 0;
	shared->n_untold = 0;
}

/*
 * A worker that is loaded gets the store.  What the one before it did not get to say, or was not
 * told, this one cannot know: the kernel reads nothing by itself but what was left to it.
 */
static void
give_turn(struct supervisor *s)
{
	struct note note;

	backings_keep(&s->backings, is_left_to_next, s->setup->shared);
	forget_untold(s->setup->shared);
	note_init(&note, NOTE_GO);
	succession_describe(s, &note);
	workerproc_send(&s->now, &note, s->handover);
	close_keep_errno(steal_fd(&s->handover));
	workerproc_enter(&s->now, PROC_PREPARING);
	succession_watch(s);
	succession_show(s);
}

/* ---- the connection ------------------------------------------------------------------------- */

static void
end_connection(struct supervisor *s)
{
	/* A worker that cannot end has it, too. */
	if (s->now.pid != 0)
		mountpoint_cut(s->setup->mountpoint);
	connection_end(s->setup->connection);
	backings_release(&s->backings);
	s->outage_at = 0;
}

/* True: by somebody else, who wants to be rid of us.  What we have unmounted has no device. */
static bool
was_unmounted(struct supervisor *s)
{
	const struct mountpoint *m = s->setup->mountpoint;

	if (m->device[0] == '\0' || mountpoint_is_mounted(m))
		return false;
	log_info("'%s' was unmounted", m->path);
	supervisor_stop(s);
	return true;
}

/* Who reads the mount after its connection was ended finds a new one in its place. */
static int
mount_again(struct supervisor *s, struct err *err)
{
	const struct supervisor_setup *setup = s->setup;
	struct connection *c = setup->connection;
	int rc = mountpoint_unmount(setup->mountpoint, err);

	if (rc == 0)
		rc = connection_renew(c, err);
	if (rc == 0)
		rc = mountpoint_mount(setup->mountpoint, setup->options->source, c->fd,
				      setup->options->noexec, err);
	if (rc != 0)
		return rc;
	shared_reset(setup->shared);
	backings_init(&s->backings, c->fd);
	log_warning("'%s' was mounted anew", setup->mountpoint->path);
	return connection_begin(c, setup->shared, err);
}

/* What is short now, or lies over our mount, may not be when the next worker is prepared. */
static void
mount_failed(struct supervisor *s, const struct err *why)
{
	bool passes = io_is_shortage(why->rc) || why->code == CODE_BUSY;

	if (s->setup->connection->fd >= 0 || !passes) {
		supervisor_fail(s, why);
		return;
	}
	s->now.why = *why;
	workerproc_kill(&s->now);
}

static void
give_connection(struct supervisor *s)
{
	struct note note;
	struct err err;

	if (s->setup->connection->fd < 0) {
		if (was_unmounted(s))
			return;
		if (mount_again(s, &err) != 0) {
			mount_failed(s, &err);
			return;
		}
	}
	note_init(&note, NOTE_CONNECTION);
	workerproc_send(&s->now, &note, s->setup->connection->fd);
	workerproc_enter(&s->now, PROC_CONNECTED);
}

/* ---- an exchange ---------------------------------------------------------------------------- */

static void
note_exchange(struct supervisor *s, const char *outcome)
{
	succession_keep_text(s->shown.exchange, outcome);
	succession_show(s);
}

static void
exchange_is_off(struct supervisor *s, const struct err *why)
{
	log_err(LOG_LVL_ERROR, "the new program is not used, the one before goes on", why);
	note_exchange(s, why->text);
}

static void
exchange_failed(struct supervisor *s, const struct err *why)
{
	s->shown.last_end = stamp_now();
	snprintf(s->shown.last_cause, sizeof(s->shown.last_cause),
		 "the program on disk could not take over: %.400s", why->text);
	exchange_is_off(s, why);
	succession_tell_history(s);
}

/* Who asked sees by the number that nothing will come of it. */
static void
refuse_exchange(struct supervisor *s)
{
	log_warning("USR2: the worker is being exchanged already, or has yet to begin");
	s->shown.exchanges_refused++;
	succession_show(s);
}

static bool
is_exchanging(const struct supervisor *s)
{
	return s->next.step != PROC_NONE || s->now.step == PROC_LEAVING || s->now.on_disk;
}

/* If there is no worker, one waits to be started again: now, and from the disk. */
static void
begin_exchange(struct supervisor *s)
{
	struct workerproc *p = s->now.pid != 0 ? &s->next : &s->now;
	struct err err;

	s->exchange_due = false;
	log_info("exchanging the worker");
	s->shown.exchanges++;
	note_exchange(s, "");
	if (start_process(s, p, KEEPER_ON_DISK, &err) != 0) {
		exchange_failed(s, &err);
		return;
	}
	if (p == &s->now)
		s->start_at = 0;
	succession_show(s);
}

/* A worker that is just being started is none to go on with: it is waited for. */
void
succession_exchange(struct supervisor *s)
{
	if (s->state != SERVING || is_exchanging(s))
		refuse_exchange(s);
	else if (s->now.pid != 0 && s->now.step != PROC_SERVING)
		s->exchange_due = true;
	else
		begin_exchange(s);
}

/* The other one is loaded: the one that works makes room. */
static void
begin_leaving(struct supervisor *s)
{
	workerproc_enter(&s->next, PROC_LOADED);
	workerproc_tell(&s->now, NOTE_RETIRE);
	workerproc_enter(&s->now, PROC_LEAVING);
}

/* ---- the configuration ----------------------------------------------------------------------- */

/* A worker reads it when it is started, and is told of changes when it serves. */
void
succession_reload(struct supervisor *s)
{
	bool serves = s->now.step == PROC_SERVING;

	s->reload_due = !serves || s->next.step != PROC_NONE;
	if (serves)
		workerproc_tell(&s->now, NOTE_RELOAD);
}

/* ---- notes ---------------------------------------------------------------------------------- */

static void
take_loaded(struct supervisor *s, struct workerproc *p, struct note *note)
{
	if (p->step != PROC_LOADING)
		return;
	note->text[sizeof(p->version) - 1] = '\0';
	memcpy(p->version, note->text, sizeof(p->version));
	if (p == &s->next)
		begin_leaving(s);
	else
		give_turn(s);
}

static void
take_ready(struct supervisor *s, struct workerproc *p)
{
	if (p->step != PROC_CONNECTED)
		return;
	workerproc_enter(p, PROC_SERVING);
	s->ready_at = p->since;
	s->outage_at = 0;
	succession_watch(s);
	if (s->reload_due)
		succession_reload(s);
	if (p->on_disk) {
		keeper_adopt(s->setup->keeper);
		note_exchange(s, "done");
	}
	p->on_disk = false;
	if (!s->served)
		supervisor_ready(s);
	else
		log_info("serving '%s' again", s->setup->mountpoint->path);
	succession_show(s);
	if (s->exchange_due)
		succession_exchange(s);
}

static void
take_failed(struct workerproc *p, struct note *note)
{
	note->text[sizeof(note->text) - 1] = '\0';
	err_set(&p->why, note->rc < 0 && note->rc > -4096 ? -note->rc : EIO, "%s", note->text);
	p->why.code = (enum code)note->code;
}

static void
answer_backing(struct supervisor *s, const struct workerproc *p, const struct digest *d, int fd)
{
	struct note note;

	note_init(&note, NOTE_BACKING_ID);
	note.digest = *d;
	note.rc = backings_open(&s->backings, d, fd);
	workerproc_send(p, &note, -1);
}

static void
take_note(struct supervisor *s, struct workerproc *p, struct note *note, int *fd)
{
	switch (note->kind) {
	case NOTE_LOADED:
		take_loaded(s, p, note);
		break;
	case NOTE_PREPARED:
		if (p->step == PROC_PREPARING)
			give_connection(s);
		break;
	case NOTE_READY:
		take_ready(s, p);
		break;
	case NOTE_FAILED:
		take_failed(p, note);
		break;
	case NOTE_EXCHANGE:
		succession_exchange(s);
		break;
	case NOTE_HANDOVER:
		close_keep_errno(s->handover);
		s->handover = steal_fd(fd);
		break;
	case NOTE_BACKING_OPEN:
		answer_backing(s, p, &note->digest, *fd);
		break;
	case NOTE_BACKING_CLOSE:
		backings_close(&s->backings, &note->digest);
		break;
	default:
		break;
	}
}

/* False: there is none, or will be none. */
static bool
take_one(struct supervisor *s, struct workerproc *p)
{
	struct note note;
	CLEANUP_FD int fd = -1;
	int rc = p->notes >= 0 ? note_receive(p->notes, &note, &fd, false) : 0;

	if (rc == -EAGAIN || rc == -EINTR)
		return false;
	if (rc == -EPROTO)
		log_error("a note of the worker has a wrong form and is ignored");
	else if (rc <= 0)	/* it ends; its status will say how */
		close_keep_errno(steal_fd(&p->notes));
	else if (s->state != STOPPING || note.kind == NOTE_FAILED)
		take_note(s, p, &note, &fd);
	return p->notes >= 0;
}

/*
 * All, or one that came in time is behind another, and too late; but not those of one who never
 * ends.
 */
void
succession_take_notes(struct supervisor *s, struct workerproc *p)
{
	for (int n = 0; n < NOTES_MAX && take_one(s, p); n++)
		;
}

/* What it said last may wait there, and says more than its status. */
static void
take_last_notes(struct supervisor *s, struct workerproc *p)
{
	struct note note;
	int fd;

	while (p->notes >= 0 && note_receive(p->notes, &note, &fd, false) == 1) {
		if (note.kind == NOTE_FAILED)
			take_failed(p, &note);
		else if (note.kind == NOTE_HANDOVER && p == &s->now) {
			close_keep_errno(s->handover);
			s->handover = steal_fd(&fd);
		}
		close_keep_errno(fd);
	}
}

/* ---- ends ----------------------------------------------------------------------------------- */

static void
wait_for_next(struct supervisor *s, int status, const struct err *why)
{
	long long now = io_monotonic_ms();
	long long worked = s->ready_at != 0 ? now - s->ready_at : 0;
	long long wait = restarts_wait(&s->restarts, status, worked);

	s->ready_at = 0;
	s->shown.restarts++;
	s->shown.last_end = stamp_now();
	succession_keep_text(s->shown.last_cause, why->text);
	if (wait == 0)
		log_err(LOG_LVL_ERROR, "starting another worker", why);
	else
		log_error("starting another worker in %lld s: %s", wait / 1000, why->text);
	s->start_at = now + wait;
}

static void
now_crashed(struct supervisor *s, int status, bool was_on_disk, const struct err *why)
{
	struct connection *c = s->setup->connection;

	if (!c->resends)
		end_connection(s);
	if (s->outage_at == 0 && c->fd >= 0)
		s->outage_at = io_monotonic_ms() + OUTAGE_MS;
	if (was_on_disk) {
		exchange_failed(s, why);
		s->start_at = io_monotonic_ms();
	} else {
		wait_for_next(s, status, why);
	}
	succession_show(s);
}

/*
 * Its connection is over: who unmounted it wants to be rid of us, and who cut it does not know
 * what stands behind.
 */
static void
now_ended_itself(struct supervisor *s)
{
	struct err why;

	if (was_unmounted(s))
		return;
	end_connection(s);
	err_set(&why, ENOTCONN, "the connection was cut");
	now_crashed(s, 0, false, &why);
}

/* The one that is tried was for a worker that is no more.  It is none of its doing. */
static void
abandon_next(struct supervisor *s)
{
	if (s->next.pid == 0)
		return;
	err_set(&s->next.why, ECANCELED, "the worker that it was to follow has died meanwhile");
	s->next.abandoned = true;
	workerproc_give_up(&s->next);
}

/* It has made room.  What came between is for the program that is known to be good. */
static void
now_left(struct supervisor *s, int status)
{
	struct connection *c = s->setup->connection;

	s->ready_at = 0;
	s->outage_at = io_monotonic_ms() + OUTAGE_MS;
	if (status != 0)
		log_warning("the worker that was exchanged did not end in order");
	if (status != 0 && !c->resends)
		end_connection(s);
	s->now = s->next;
	workerproc_init(&s->next);
	if (s->now.pid != 0)
		give_turn(s);
	else
		s->start_at = io_monotonic_ms();
}

static void
now_ended(struct supervisor *s, int status)
{
	enum workerproc_step step = s->now.step;
	bool on_disk = s->now.on_disk;
	struct err why;

	workerproc_explain(&s->now, status, &why);
	workerproc_ended(&s->now);
	if (s->state == STOPPING)
		return;
	if (step == PROC_LEAVING) {
		now_left(s, status);
	} else if (!s->served) {
		supervisor_fail(s, &why);
	} else {
		abandon_next(s);
		if (step == PROC_SERVING && status == 0)
			now_ended_itself(s);
		else
			now_crashed(s, status, on_disk, &why);
	}
}

static void
next_ended(struct supervisor *s, int status)
{
	bool abandoned = s->next.abandoned;
	struct err why;

	workerproc_explain(&s->next, status, &why);
	workerproc_ended(&s->next);
	if (s->state == STOPPING)
		return;
	if (abandoned)
		exchange_is_off(s, &why);
	else
		exchange_failed(s, &why);
}

bool
succession_reaped(struct supervisor *s, pid_t pid, int status)
{
	if (pid == s->now.pid) {
		take_last_notes(s, &s->now);
		now_ended(s, status);
		return true;
	}
	if (pid != s->next.pid)
		return false;
	take_last_notes(s, &s->next);
	next_ended(s, status);
	return true;
}

/* A worker that has the connection sees its end by itself, and ends. */
int
succession_watched(const struct supervisor *s)
{
	bool is_theirs = s->now.step == PROC_CONNECTED || s->now.step == PROC_SERVING ||
			 s->now.step == PROC_LEAVING;

	return s->state == STOPPING || is_theirs ? -1 : s->setup->connection->fd;
}

void
succession_cut(struct supervisor *s)
{
	if (succession_watched(s) >= 0 && !was_unmounted(s))
		end_connection(s);
}

/* ---- what is due ---------------------------------------------------------------------------- */

static void
end_outage(struct supervisor *s)
{
	log_error("no worker for %d s: whoever waits is told so", OUTAGE_MS / 1000);
	if (s->now.step == PROC_CONNECTED || s->now.step == PROC_LEAVING)
		workerproc_kill(&s->now);
	end_connection(s);
	succession_show(s);
}

/* Also while the mount ends. */
static void
free_stuck(struct supervisor *s, long long now)
{
	const struct supervisor_setup *setup = s->setup;
	enum stuck_step step = stuck_look(&s->stuck, s->now.pid, setup->shared->n_untold,
					  setup->connection, now);

	if (step == STUCK_CUT)
		end_connection(s);
	if (step != STUCK_NO)
		succession_show(s);
}

void
succession_run(struct supervisor *s)
{
	long long now = io_monotonic_ms();

	free_stuck(s, now);
	if (s->state == STOPPING)
		return;
	succession_kill_late(s, now);
	if (s->outage_at != 0 && now >= s->outage_at)
		end_outage(s);
	if (s->start_at != 0 && now >= s->start_at && s->now.pid == 0)
		start_worker(s);
}

/* ---- beginning and end ---------------------------------------------------------------------- */

void
succession_init(struct supervisor *s)
{
	workerproc_init(&s->now);
	workerproc_init(&s->next);
	s->handover = -1;
	backings_init(&s->backings, s->setup->connection->fd);
}

void
succession_begin(struct supervisor *s)
{
	start_worker(s);
}

void
succession_end(struct supervisor *s)
{
	s->start_at = s->outage_at = 0;
	workerproc_tell(&s->now, NOTE_STOP);
	workerproc_kill(&s->next);
	succession_show(s);
}

bool
succession_is_over(const struct supervisor *s)
{
	return s->now.pid == 0 && s->next.pid == 0;
}

void
succession_release(struct supervisor *s)
{
	close_keep_errno(s->handover);
	close_keep_errno(s->now.notes);
	close_keep_errno(s->next.notes);
	backings_release(&s->backings);
	worker_state_remove(s->setup->conf->run_dir);
}
