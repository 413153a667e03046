/*
 * deliver.c - from the outbox to the runner and back.
 *
 * A delivery is noted as taken only after its handler has ended well.  Whatever ends us in between
 * leaves it waiting, and its handler is told again of an event with the same uuid.  A catalogue
 * that cannot be written (a full disk) is asked again until it can: its handler has nothing to do
 * meanwhile, and is not run again for the same event.
 */
#include "config.h"
#include "deliver.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "io.h"
#include "limits.h"
#include "log.h"
#include "stamp.h"

enum {
	LINES_LOGGED = 40,	/* of what one handler wrote */
	LINE_BYTES = 2 * LIMIT_LOG_LINE,
	WHY_BYTES = 160,	/* of its last line, kept with the event */
	PAUSE_SECONDS = 10,	/* after a fault of the catalogue */
};

struct run {
	uint32_t id;		/* of the runner */
	struct delivery what;
	bool prepared;		/* handlerdir_done() is due */
	bool ended;		/* only to be noted */
	char *why;		/* ended: it failed; NULL: it did not */
};

struct deliver {
	struct deliver_config config;
	struct run runs[LIMIT_HANDLERS];
	size_t n_runs;
	int64_t held[LIMIT_HANDLERS];	/* handlers that have to wait for others, for one round */
	size_t n_held;
	int64_t next_due;		/* seconds UTC, INT64_MAX: never */
	bool runner_gone;
	int n_failed;
	struct err dir_fault;		/* what was said of the directories last */
	struct buf output;
};

static int64_t
backoff(int n_failed)
{
	int64_t wait = LIMIT_EVENT_BACKOFF_MIN;

	for (int i = 0; i < n_failed && wait < LIMIT_EVENT_BACKOFF_MAX; i++)
		wait *= 2;
	return wait < LIMIT_EVENT_BACKOFF_MAX ? wait : LIMIT_EVENT_BACKOFF_MAX;
}

/* "AvailablePostfix of 'id'", as events are called in the log. */
static char *
name_of(const struct event_row *event)
{
	if (event->identifier == NULL || event->identifier[0] == '\0')
		return xstrdup(event->type);
	return xasprintf("%s of '%s'", event->type, event->identifier);
}

/* ---- what was written ------------------------------------------------------------------------ */

/* Each line that is not empty, from the first one on; false of fn ends it. */
static void
each_line(const struct buf *output, bool (*fn)(void *arg, const char *line, size_t len), void *arg)
{
	const char *at = output->data, *end = at + output->len;

	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((newline != NULL ? newline : end) - at);

		if (len > 0 && at[len - 1] == '\r')
			len--;
		if (len > 0 && !fn(arg, at, len))
			return;
		at = newline != NULL ? newline + 1 : end;
	}
}

struct logging {
	const char *handler;
	bool failed;
	int n;
};

static bool
log_line(void *arg, const char *line, size_t len)
{
	struct logging *l = arg;
	CLEANUP_BUF struct buf text = BUF_INIT;

	if (++l->n > LINES_LOGGED)
		return false;
	/* By its length: a handler may write a NUL. */
	buf_add_escaped(&text, line, len < LINE_BYTES ? len : LINE_BYTES);
	if (l->failed)
		log_info("event handler '%.100s': %s", l->handler, buf_str(&text));
	else
		log_debug("event handler '%.100s': %s", l->handler, buf_str(&text));
	return true;
}

static void
log_output(const struct buf *output, const char *handler, bool failed)
{
	struct logging l = { handler, failed, 0 };

	each_line(output, log_line, &l);
	if (l.n > LINES_LOGGED && failed)
		log_info("event handler '%.100s' wrote more, which is not logged", handler);
}

struct last_line {
	const char *text;
	size_t len;
};

static bool
note_line(void *arg, const char *line, size_t len)
{
	*(struct last_line *)arg = (struct last_line){ line, len };
	return true;
}

/* Why a run counts as failed; NULL: it does not. */
static char *
fault_of(int status, bool timed_out, const struct buf *output)
{
	struct last_line last = { NULL, 0 };
	CLEANUP_BUF struct buf why = BUF_INIT;

	if (!timed_out && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return NULL;
	if (timed_out)
		buf_puts(&why, "did not end within event_timeout");
	else if (WIFEXITED(status))
		buf_printf(&why, "exit status %d", WEXITSTATUS(status));
	else
		buf_printf(&why, "ended by signal %d (%s)", WTERMSIG(status),
			   sigdescr_np(WTERMSIG(status)));
	each_line(output, note_line, &last);
	if (last.text != NULL) {
		buf_puts(&why, ": ");
		buf_add_escaped(&why, last.text, last.len < WHY_BYTES ? last.len : WHY_BYTES);
	}
	return buf_steal(&why, NULL);
}

/* ---- what ended ------------------------------------------------------------------------------ */

static bool
is_process_event(const struct event_row *event)
{
	return strncmp(event->type, "Process", strlen("Process")) == 0;
}

static void
say_failed(const struct delivery *what, const char *why)
{
	CLEANUP_FREE char *name = name_of(&what->event);
	bool again = what->tries + 1 < LIMIT_EVENT_TRIES && !is_process_event(&what->event);

	if (again)
		log_error("event handler '%.100s' failed, %s: %s; try %d of %d, the next in %lld s",
			  what->name, name, why, what->tries + 1, LIMIT_EVENT_TRIES,
			  (long long)backoff(what->tries));
	else
		log_error("event handler '%.100s' failed, %s: %s; event %s is not delivered again "
			  "but by 'vmimagectl replay'",
			  what->name, name, why, what->event.uuid);
}

static void
say_taken(const struct delivery *what)
{
	CLEANUP_FREE char *name = name_of(&what->event);

	log_debug("event handler '%.100s' took %s (%s)", what->name, name, what->event.uuid);
}

/* why NULL: it was taken. */
static int
note(struct deliver *d, const struct delivery *what, const char *why, struct err *err)
{
	int64_t next_try = why != NULL ? stamp_now() + backoff(what->tries) : 0;

	return catalogue_delivery_done(d->config.catalogue, what->event.id, what->handler, why,
				       next_try, err);
}

/* That of an event whose handler was not run. */
static int
note_failed(struct deliver *d, const struct delivery *what, const char *why, struct err *err)
{
	d->n_failed++;
	say_failed(what, why);
	return note(d, what, why, err);
}

static void
forget_run(struct deliver *d, struct run *run)
{
	if (run->prepared)
		handlerdir_done(d->config.dir, &run->what.event);
	delivery_release(&run->what);
	free(run->why);
	*run = d->runs[--d->n_runs];
}

static void
end_run(struct deliver *d, struct run *run, int status, bool timed_out)
{
	const struct delivery *what = &run->what;

	run->ended = true;
	run->why = fault_of(status, timed_out, &d->output);
	if (d->config.ended != NULL)
		d->config.ended(d->config.arg, &what->event, status, timed_out,
				buf_str(&d->output));
	else
		log_output(&d->output, what->name, run->why != NULL);
	if (run->why == NULL) {
		say_taken(what);
	} else {
		d->n_failed++;
		say_failed(what, run->why);
	}
}

/* Notes what has ended, as far as the catalogue can be written. */
static int
settle(struct deliver *d, struct err *err)
{
	size_t i = 0;

	while (i < d->n_runs) {
		struct run *run = &d->runs[i];
		int rc = run->ended ? note(d, &run->what, run->why, err) : 0;

		if (rc != 0)
			return rc;
		if (run->ended)
			forget_run(d, run);
		else
			i++;
	}
	return 0;
}

static struct run *
find_run(struct deliver *d, uint32_t id)
{
	for (size_t i = 0; i < d->n_runs; i++)
		if (d->runs[i].id == id && !d->runs[i].ended)
			return &d->runs[i];
	return NULL;
}

/* What has ended before is to be noted; the others are delivered again. */
static void
forget_lost(struct deliver *d)
{
	for (size_t i = d->n_runs; i-- > 0;)
		if (!d->runs[i].ended)
			forget_run(d, &d->runs[i]);
}

static int
reap(struct deliver *d, struct err *err)
{
	uint32_t id;
	int status, rc;
	bool timed_out;

	while ((rc = runner_reap(d->config.runner, &id, &status, &timed_out, &d->output)) == 1) {
		struct run *run = find_run(d, id);

		if (id == RUNNER_ALL)
			forget_lost(d);
		else if (run != NULL)
			end_run(d, run, status, timed_out);
	}
	if (rc >= 0)
		return settle(d, err);
	settle(d, NULL);
	d->runner_gone = true;
	while (d->n_runs > 0)
		forget_run(d, &d->runs[0]);
	return err_set(err, EPIPE, "the process that runs event handlers has ended: events wait");
}

/* ---- what is due ----------------------------------------------------------------------------- */

static void
sync_dir(struct deliver *d)
{
	struct err err = { 0 };

	if (d->config.dir == NULL)
		return;
	if (handlerdir_sync(d->config.dir, d->config.catalogue, &err) == 0)
		err_clear(&err);
	else if (strcmp(err.text, d->dir_fault.text) != 0)
		log_err(LOG_LVL_ERROR, "handler_dir", &err);
	d->dir_fault = err;
}

/*
 * What the handler is to find in the directories.  0: it can be started; 1: settled without it.
 */
static int
prepare(struct deliver *d, const struct delivery *what, bool *prepared, struct err *err)
{
	CLEANUP_FREE char *name = name_of(&what->event);
	struct err fault = { 0 };
	int rc;

	if (d->config.dir == NULL)
		return 0;
	rc = handlerdir_prepare(d->config.dir, d->config.catalogue, &what->event, &fault);
	*prepared = rc == 0;
	if (rc == 0)
		return 0;
	if (rc == -EBUSY) {
		d->held[d->n_held++] = what->handler;
		return 1;
	}
	if (rc == -ESTALE) {
		log_info("event handler '%.100s' is not told of event %s, %s: %s", what->name,
			 what->event.uuid, name, fault.text);
		rc = note(d, what, NULL, err);
	} else if (fault.code == CODE_DATABASE) {
		*err = fault;	/* the handler has no part in it, and was not tried */
	} else {
		rc = note_failed(d, what, fault.text, err);
	}
	return rc != 0 ? rc : 1;
}

/* Takes what. */
static int
start(struct deliver *d, struct delivery *what, struct err *err)
{
	CLEANUP_BUF struct buf variables = BUF_INIT, record = BUF_INIT;
	struct run run = { .what = *what };
	struct err fault = { 0 };
	int rc = prepare(d, what, &run.prepared, err);

	if (rc != 0)
		goto out;
	buf_puts(&record, what->event.json);
	buf_putc(&record, '\n');
	rc = event_variables(what->event.json, &d->config.setting, &variables, &fault);
	if (rc != 0) {
		rc = note_failed(d, what, fault.text, err);
		goto out;
	}
	rc = runner_start(d->config.runner, what->name, &variables, &record, &run.id, err);
	if (rc == 0) {
		d->runs[d->n_runs++] = run;
		return 0;
	}
out:
	if (run.prepared)
		handlerdir_done(d->config.dir, &what->event);
	delivery_release(what);
	return rc < 0 ? rc : 0;
}

static size_t
list_busy(const struct deliver *d, int64_t busy[2 * LIMIT_HANDLERS])
{
	size_t n = 0;

	for (size_t i = 0; i < d->n_runs; i++)
		busy[n++] = d->runs[i].what.handler;
	for (size_t i = 0; i < d->n_held; i++)
		busy[n++] = d->held[i];
	return n;
}

static bool
has_room(const struct deliver *d)
{
	if (d->config.handler != 0)
		return d->n_runs + d->n_held == 0;
	return d->n_runs + d->n_held < LIMIT_HANDLERS;
}

int
deliver_run(struct deliver *d, int64_t now, struct err *err)
{
	int64_t busy[2 * LIMIT_HANDLERS];
	int rc;

	if (d->runner_gone)
		return 0;
	d->n_held = 0;
	d->next_due = INT64_MAX;
	rc = reap(d, err);
	sync_dir(d);
	while (rc == 0 && has_room(d)) {
		struct delivery what;

		rc = catalogue_delivery_next(d->config.catalogue, d->config.handler, busy,
					     list_busy(d, busy), now, &what, &d->next_due, err);
		if (rc <= 0)
			break;
		rc = start(d, &what, err);
	}
	if (rc < 0 && !d->runner_gone)
		d->next_due = now + PAUSE_SECONDS;
	return rc;
}

int
deliver_fd(const struct deliver *d)
{
	return d->runner_gone ? -1 : runner_fd(d->config.runner);
}

int
deliver_wait(const struct deliver *d, int64_t now)
{
	int dir = d->config.dir != NULL ? handlerdir_wait(d->config.dir) : -1;
	int64_t wait;

	if (d->runner_gone || d->next_due == INT64_MAX)
		return dir;
	wait = d->next_due <= now ? 0 : d->next_due - now > 3600 ? 3600000
								 : (d->next_due - now) * 1000;
	return dir >= 0 && dir < wait ? dir : (int)wait;
}

int
deliver_all(struct deliver *d, int *n_failed, struct err *err)
{
	int64_t now = stamp_now();
	int rc;

	d->n_failed = 0;
	do {
		struct pollfd polled = { .fd = deliver_fd(d), .events = POLLIN };

		if (d->n_runs > 0)
			poll(&polled, 1, -1);
		rc = deliver_run(d, now, err);
	} while (rc == 0 && d->n_runs > 0);
	*n_failed = d->n_failed;
	return rc;
}

/* ---- beginning and end ----------------------------------------------------------------------- */

int
deliver_new(struct deliver **out, const struct deliver_config *config, struct err *err)
{
	struct deliver *d = xcalloc(1, sizeof(*d));

	(void)err;
	d->config = *config;
	d->next_due = INT64_MAX;
	buf_init(&d->output);
	*out = d;
	return 0;
}

void
deliver_free(struct deliver *d)
{
	if (d == NULL)
		return;
	while (d->n_runs > 0)
		forget_run(d, &d->runs[0]);
	buf_release(&d->output);
	free(d);
}
