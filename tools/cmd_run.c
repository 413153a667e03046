/*
 * cmd_run.c - watching a site: status, events and their delivery; and telling its daemon to read
 * its configuration.
 */
#include "config.h"
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/control.h"
#include "core/engine.h"
#include "core/io.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/outbox.h"
#include "core/stamp.h"
#include "core/workerstate.h"

/* ---- status: of the daemon ------------------------------------------------------------------- */

static int
keep_line(void *arg, const char *text)
{
	struct buf *b = arg;

	buf_clear(b);
	buf_puts(b, text);
	return 0;
}

static void
show_sandbox(struct output *o, const struct json *processes)
{
	for (size_t i = 0; i < json_size(processes); i++) {
		const struct json *one = json_at(processes, i);
		const char *name = json_as_string(json_get(one, "process"));
		const char *text = json_as_string(json_get(one, "text"));
		CLEANUP_FREE char *key = xasprintf("sandbox.%s", name != NULL ? name : "");

		output_pair(o, key, text != NULL ? text : "none has run yet");
	}
}

static void
show_member(void *arg, const char *key, const struct json *value)
{
	struct output *o = arg;
	CLEANUP_BUF struct buf text = BUF_INIT;

	if (strcmp(key, "schema") == 0)
		return;
	if (strcmp(key, "sandbox") == 0 && !o->json) {
		show_sandbox(o, value);
		return;
	}
	json_dump(value, &text);
	if (o->json)
		jsonw_raw(output_json(o), key, buf_str(&text));
	else if (json_as_string(value) != NULL)
		output_pair(o, key, json_as_string(value));
	else
		output_pair(o, key, json_kind(value) == JSON_KIND_NULL ? "never" : buf_str(&text));
}

static int
status_of_daemon(struct ctl *ctl, struct err *err)
{
	CLEANUP_BUF struct buf line = BUF_INIT;
	struct json *doc = NULL;
	int rc;

	rc = control_call(ctl->conf, "status", keep_line, &line, NULL, err);
	if (rc == 0)
		rc = json_parse(buf_str(&line), line.len, &doc, err);
	if (rc == 0)
		json_each(doc, show_member, &ctl->out);
	json_free(doc);
	return rc;
}

/* ---- status: of the rows, when no daemon runs ------------------------------------------------ */

static void
print_lines(struct output *o, char *text)
{
	char *line, *next;

	for (line = text; line != NULL && *line != '\0'; line = next) {
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		output_line(o, "%s", line);
	}
}

static int
status_of_rows(struct ctl *ctl, const char *daemon, struct err *err)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct engine_status s = { 0 };
	struct err store_err = { 0 };
	struct jsonw *w;
	int rc;

	rc = ctl_open(ctl, 0, err);
	if (rc == 0)
		rc = engine_status_count(&s, ctl->catalogue, NULL, err);
	if (rc != 0)
		return rc;
	/* A cache that is not mounted is worth a warning here, and no reason to say nothing. */
	if (ctl_open_store(ctl, false, &store_err) != 0 ||
	    engine_status_count(&s, ctl->catalogue, ctl->store, &store_err) != 0)
		output_warn(&ctl->out, "%s", store_err.text);

	output_pair(&ctl->out, "version", PACKAGE_VERSION);
	output_pair(&ctl->out, "daemon", daemon);
	w = output_json(&ctl->out);
	if (w != NULL) {
		jsonw_string(w, "version", PACKAGE_VERSION);
		jsonw_string(w, "daemon", daemon);
		engine_status_each(&s, engine_figure_json, w);
		return 0;
	}
	engine_status_each(&s, engine_figure_text, &text);
	print_lines(&ctl->out, text.data);
	return 0;
}

/* ---- status: of its worker ------------------------------------------------------------------- */

static void
show_pair(struct output *o, const char *key, const char *value)
{
	if (o->json)
		jsonw_string(output_json(o), key, value);
	else
		output_pair(o, key, value);
}

/* What the supervisor says: also when no worker answers. */
static void
show_worker(struct output *o, const struct worker_state *s)
{
	CLEANUP_BUF struct buf down = BUF_INIT;
	char stamp[STAMP_BYTES] = "", number[24];

	show_pair(o, "worker", worker_phase_name(s->phase));
	snprintf(number, sizeof(number), "%" PRId64, s->restarts);
	if (o->json)
		jsonw_integer(output_json(o), "worker_restarts", s->restarts);
	else
		output_pair(o, "worker_restarts", number);
	if (s->last_end != 0) {
		stamp_format(s->last_end, stamp);
		buf_printf(&down, "%s %s", stamp, s->last_cause);
	}
	show_pair(o, "worker_last_end", buf_str(&down));
	if (s->next_start == 0)
		return;
	stamp_format(s->next_start, stamp);
	show_pair(o, "worker_next_start", stamp);
}

/* One that a daemon left which was killed says nothing of now. */
static bool
find_worker_state(struct ctl *ctl, struct worker_state *state)
{
	return control_listens(ctl->conf) && worker_state_read(ctl->conf->run_dir, state) == 0;
}

/*
 * A worker that is about to begin will answer soon; of one that is waited for, the rows and
 * the supervisor's word have to do.
 */
int
cmd_status(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct worker_state state;
	struct err err = { 0 };
	bool known = find_worker_state(ctl, &state);
	int rc = -ENOTCONN;

	(void)opt;
	(void)args;
	(void)n;
	if (!known || !worker_state_is_down(&state))
		rc = status_of_daemon(ctl, &err);
	if (rc == -ENOTCONN || err.code == CODE_BUSY) {
		known = find_worker_state(ctl, &state);
		err_clear(&err);
		rc = status_of_rows(ctl, known ? "not serving" : "not running", &err);
	}
	if (rc == 0 && known)
		show_worker(&ctl->out, &state);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

/* ---- events ---------------------------------------------------------------------------------- */

struct feed {
	struct ctl *ctl;
	int64_t last;		/* id of the last event shown */
	bool one_a_line; /* --follow --json: a stream has no end at which an object could be closed
			  */
};

/* The record as it was written, with what became of it behind: its last byte closes the object. */
static void
add_delivery(struct buf *out, const struct event_row *row)
{
	CLEANUP_BUF struct buf more = BUF_INIT;
	struct jsonw w;

	jsonw_begin(&w, &more, false);
	jsonw_open(&w, NULL, '{');
	jsonw_integer(&w, "number", row->id);
	jsonw_string(&w, "state", event_state_name(row->state));
	jsonw_integer(&w, "tries", row->tries);
	jsonw_string(&w, "error", row->error);
	jsonw_close(&w, '}');
	buf_add(out, row->json, strlen(row->json) - 1);
	buf_putc(out, ',');
	buf_puts(out, buf_str(&more) + 1);
}

static void
print_event(struct output *o, const struct event_row *row)
{
	CLEANUP_BUF struct buf fault = BUF_INIT;
	char stamp[STAMP_BYTES];

	stamp_format(row->time, stamp);
	if (row->error[0] != '\0') {
		buf_printf(&fault, "  (%d tries: ", row->tries);
		output_add_foreign(&fault, row->error);
		buf_putc(&fault, ')');
	}
	output_line(o, "%s  %-20s  %s  %s  %lld  %s%s", stamp, row->type,
		    row->identifier[0] != '\0' ? row->identifier : "-",
		    row->list_id[0] != '\0' ? row->list_id : "-", (long long)row->id,
		    event_state_name(row->state), buf_str(&fault));
}

static int
show_event(void *arg, const struct event_row *row)
{
	struct feed *f = arg;
	struct output *o = &f->ctl->out;

	f->last = row->id;
	if (f->one_a_line) {
		add_delivery(&o->text, row);
		buf_putc(&o->text, '\n');
	} else if (o->json) {
		CLEANUP_BUF struct buf text = BUF_INIT;

		add_delivery(&text, row);
		jsonw_raw(output_json(o), NULL, buf_str(&text));
	} else {
		print_event(o, row);
	}
	return output_drain(o);
}

enum {
	SETTLE_MS = 1000, /* a commit becomes visible only after its log was written and synced */
	SETTLE_STEP_MS = 50,
	IDLE_MS = 5000, /* for a disk that needs longer than SETTLE_MS */
	BLIND_MS = 1000, /* no watch could be had */
};

struct watch {
	int inotify;		/* -1: none */
	long long settled; /* monotonic ms until which the log's last change may still become
			      visible */
};

/*
 * Waits until the catalogue may have changed: its log is written in state_dir.  The write is seen
 * before the commit is, so that for a moment after each write we look again.
 */
static int
wait_for_change(struct watch *w, struct err *err)
{
	struct pollfd p = { .fd = w->inotify, .events = POLLIN };
	bool settling = io_monotonic_ms() < w->settled;
	int n, wait = settling ? SETTLE_STEP_MS : w->inotify >= 0 ? IDLE_MS : BLIND_MS;
	char events[4096];

	n = poll(&p, w->inotify >= 0 ? 1 : 0, wait);
	if (n < 0 && errno != EINTR)
		return err_set(err, errno, "poll failed: %s", strerrordesc_np(errno));
	if (n <= 0)
		return 0;
	if (read(w->inotify, events, sizeof(events)) < 0 && errno != EAGAIN && errno != EINTR)
		return err_set(err, errno, "cannot read from inotify: %s", strerrordesc_np(errno));
	w->settled = io_monotonic_ms() + SETTLE_MS;
	return 0;
}

static int
follow(struct feed *f, struct err *err)
{
	CLEANUP_FD int inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	struct output *o = &f->ctl->out;
	struct watch watch = { 0 };
	int64_t seen = catalogue_data_version(f->ctl->catalogue), now;
	int rc = 0;

	if (inotify >= 0 && inotify_add_watch(inotify, f->ctl->conf->state_dir,
					      IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
		close(inotify);
		inotify = -1;
	}
	watch.inotify = inotify;
	/* Once more after the watch stands, so that nothing in between is missed. */
	while (rc == 0 && o->write_error == 0) {
		rc = catalogue_event_each(f->ctl->catalogue, f->last, LIMIT_EVENTS_SHOWN,
					  show_event, f, err);
		output_flush(o);
		do {
			if (rc == 0)
				rc = wait_for_change(&watch, err);
			now = catalogue_data_version(f->ctl->catalogue);
		} while (rc == 0 && now == seen);
		seen = now;
	}
	return rc;
}

int
cmd_events(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct feed f = { .ctl = ctl, .one_a_line = opt->follow && ctl->out.json };
	struct err err = { 0 };
	struct jsonw *w = NULL;
	int rc;

	(void)args;
	(void)n;
	rc = ctl_open(ctl, 0, &err);
	if (rc == 0) {
		if (!f.one_a_line)
			w = output_json(&ctl->out);
		if (w != NULL)
			jsonw_open(w, "events", '[');
		rc = catalogue_event_each(ctl->catalogue, 0, LIMIT_EVENTS_SHOWN, show_event, &f,
					  &err);
		if (w != NULL)
			jsonw_close(w, ']');
	}
	if (rc == 0 && opt->follow)
		rc = follow(&f, &err);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

/* ---- replay ---------------------------------------------------------------------------------- */

struct replaying {
	const char *what;
	struct event_row row;
};

static int
replay_one(struct ctl *ctl, void *arg, struct err *err)
{
	struct replaying *r = arg;
	int rc = catalogue_event_find(ctl->catalogue, r->what, &r->row, err);

	return rc == 0 ? catalogue_event_replay(ctl->catalogue, r->row.id, err) : rc;
}

static int
replay(struct ctl *ctl, const char *what)
{
	struct replaying r = { .what = what };
	struct jsonw *w = output_json(&ctl->out);
	struct err err = { 0 };
	int rc = ctl_transaction(ctl, replay_one, &r, &err);

	if (rc == 0 && w != NULL)
		jsonw_string(w, NULL, r.row.uuid);
	if (rc == 0)
		output_note(&ctl->out, "event %lld, %s, will be delivered again",
			    (long long)r.row.id, r.row.type);
	event_row_release(&r.row);
	return rc == 0 ? EXIT_DONE : ctl_fail(ctl, &err);
}

int
cmd_replay(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct err err = { 0 };
	struct jsonw *w;
	int status = EXIT_DONE;

	(void)opt;
	if (ctl_open(ctl, 0, &err) != 0)
		return ctl_fail(ctl, &err);
	w = output_json(&ctl->out);
	if (w != NULL)
		jsonw_open(w, "replayed", '[');
	for (size_t i = 0; i < n; i++)
		status = ctl_last_failure(status, replay(ctl, args[i]));
	if (w != NULL)
		jsonw_close(w, ']');
	return status;
}

/* ---- reload ---------------------------------------------------------------------------------- */

enum {
	EXCHANGE_RUNS = 1,
	EXCHANGE_MS = 90000,
	EXCHANGE_STEP_MS = 50,
	WORKER_MS = 5000,	/* one that has died is followed by the next within seconds */
};

static int
refuse_exchange(const char *why, struct err *err)
{
	return err_refuse(err, CODE_BUSY, "the program cannot be exchanged now, because %s", why);
}

/*
 * There is one, or about to be: it takes the request when it serves.  Its socket is not tried each
 * time: without a worker nobody takes what is queued there, and there is little room.
 */
static int
wait_for_worker(struct ctl *ctl, struct worker_state *state, struct err *err)
{
	long long until = io_monotonic_ms() + WORKER_MS;
	int rc;

	if (!find_worker_state(ctl, state))
		return err_set(err, ENOTCONN, "the daemon is not running");
	while (worker_state_is_down(state)) {
		if (io_monotonic_ms() >= until)
			return err_refuse(err, CODE_BUSY, "there is no worker to be exchanged: "
					  "send USR2 to process %" PRId64, state->supervisor);
		poll(NULL, 0, EXCHANGE_STEP_MS);
		rc = worker_state_read(ctl->conf->run_dir, state);
		if (rc != 0)
			return err_set(err, -rc, "the daemon has ended");
	}
	return 0;
}

static int
ask_for_exchange(struct ctl *ctl, struct worker_state *state, struct err *err)
{
	int rc = wait_for_worker(ctl, state, err);

	if (rc != 0)
		return rc;
	rc = control_call(ctl->conf, "exchange", NULL, NULL, NULL, err);
	/* It answers first, so that it was on its way for another's request. */
	return rc == -ECONNRESET ? refuse_exchange("the one that was asked is just leaving",
						   err) : rc;
}

/* Nothing comes of a request that met another exchange. */
static int
outcome_of_exchange(const struct worker_state *before, const struct worker_state *now,
		    struct err *err)
{
	if (now->exchanges <= before->exchanges)
		return now->exchanges_refused <= before->exchanges_refused
			       ? EXCHANGE_RUNS
			       : refuse_exchange("another exchange is under way, or the daemon has "
						 "yet to begin", err);
	if (now->exchange[0] == '\0')
		return EXCHANGE_RUNS;
	if (strcmp(now->exchange, "done") == 0)
		return 0;
	return err_set(err, EIO, "the program on disk could not take over, the one before goes on: "
		       "%s", now->exchange);
}

/* The program on disk takes over, or the one that works goes on. */
static int
exchange(struct ctl *ctl, struct err *err)
{
	struct worker_state before, now;
	long long until = io_monotonic_ms() + EXCHANGE_MS;
	int rc = ask_for_exchange(ctl, &before, err);

	while (rc == 0 && io_monotonic_ms() < until) {
		rc = worker_state_read(ctl->conf->run_dir, &now);
		if (rc != 0)
			return err_set(err, -rc, "the daemon has ended");
		rc = outcome_of_exchange(&before, &now, err);
		if (rc != EXCHANGE_RUNS)
			return rc;
		rc = 0;
		poll(NULL, 0, EXCHANGE_STEP_MS);
	}
	return rc != 0 ? rc : err_refuse(err, CODE_BUSY, "the exchange takes longer than %d s",
					 EXCHANGE_MS / 1000);
}

int
cmd_reload(struct ctl *ctl, const struct options *opt, char **args, size_t n)
{
	struct err err = { 0 };
	struct jsonw *w;
	int rc;

	(void)args;
	(void)n;
	if (opt->binary)
		rc = exchange(ctl, &err);
	else
		rc = control_call(ctl->conf, "reload", NULL, NULL, NULL, &err);
	if (rc != 0)
		return ctl_fail(ctl, &err);
	w = output_json(&ctl->out);
	if (w != NULL)
		jsonw_boolean(w, opt->binary ? "exchanged" : "reloaded", true);
	output_note(&ctl->out, opt->binary ? "the program on disk has taken over"
					   : "the daemon has read its configuration");
	return EXIT_DONE;
}
