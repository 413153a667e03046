/*
 * The daemon's side of the control socket (see control.h for the protocol).
 *
 * A client is read without waiting; one line is one request, and the connection ends with its
 * answer.  A client that does not take its answers is dropped: nothing here ever blocks the
 * engine.
 */
#include "config.h"
#include "control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine_impl.h"
#include "io.h"
#include "json.h"
#include "limits.h"
#include "log.h"
#include "purge.h"
#include "sandboxstate.h"
#include "stamp.h"

enum { TELL_EVERY_MS = 200, SETTLE_MS = 8000 };

static void
send_text(struct client *c, const struct buf *text)
{
	ssize_t n = send(c->fd, text->data, text->len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n != (ssize_t)text->len)
		c->closing = true;
}

static void __attribute__((format(printf, 2, 3)))
reply(struct client *c, const char *fmt, ...)
{
	struct buf text = BUF_INIT;
	char line[2 * ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	buf_puts(&text, line);
	buf_putc(&text, '\n');
	send_text(c, &text);
	buf_release(&text);
}

/*
 * The last line.  It waits (control_settle()) until what it speaks of can be seen in the mount.
 */
static void __attribute__((format(printf, 3, 4)))
reply_last(struct engine *e, struct client *c, const char *fmt, ...)
{
	char line[2 * ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	buf_puts(&c->answer, line);
	buf_putc(&c->answer, '\n');
	c->watching = c->healing = false;
	c->ticket = e->ticket;
	c->answer_by = io_monotonic_ms() + SETTLE_MS;
}

static void
reply_rc(struct engine *e, struct client *c, int rc, const struct err *err)
{
	if (rc == 0)
		reply_last(e, c, "ok");
	else
		reply_last(e, c, "err %d %d %s", err != NULL ? (int)err->code : 0, -rc,
			   err != NULL ? err->text : "no reason given");
}

/* A list of ten thousand images takes the kernel a second; nobody waits for it for ever. */
void
control_settle(struct engine *e)
{
	uint64_t shown = engine_last_shown(e);

	for (struct client *c = e->clients; c != NULL; c = c->next) {
		if (c->closing || c->answer.len == 0)
			continue;
		if (c->ticket > shown && io_monotonic_ms() < c->answer_by)
			continue;
		send_text(c, &c->answer);
		c->closing = true;
	}
}

/* ---- requests ----------------------------------------------------------------------------- */

static void
request(struct engine *e, struct client *c, const char *arg, bool retry)
{
	struct err err = { 0 };

	if (!digest_parse(arg, &c->digest)) {
		reply_rc(e, c, err_set(&err, EINVAL, "'%s' is no SHA-512", arg), &err);
		return;
	}
	c->watching = true;
	engine_request(e, &c->digest, retry);
}

static void
do_fetch(struct engine *e, struct client *c, const char *arg)
{
	request(e, c, arg, true);
}

static void
do_want(struct engine *e, struct client *c, const char *arg)
{
	request(e, c, arg, false);
}

/* A command waits; the engine's other work does not. */
static void
do_heal(struct engine *e, struct client *c, const char *arg)
{
	struct err err = { 0 };

	if (!digest_parse(arg, &c->digest)) {
		reply_rc(e, c, err_set(&err, EINVAL, "'%s' is no SHA-512", arg), &err);
		return;
	}
	c->healing = true;
	engine_examine(e, &c->digest, true);
}

static void
do_evict(struct engine *e, struct client *c, const char *arg)
{
	struct digest d;
	struct err err = { 0 };
	int rc;

	if (!digest_parse(arg, &d))
		rc = err_set(&err, EINVAL, "'%s' is no SHA-512", arg);
	else
		rc = engine_evict(e, &d, &err);
	reply_rc(e, c, rc, &err);
}

static void
do_purge(struct engine *e, struct client *c, const char *arg)
{
	const struct engine_ops *ops = &e->config.ops;
	struct err err = { 0 };
	struct purged purged = { 0 };
	int64_t age;
	int rc;

	if (!stamp_parse_span(arg, &age)) {
		reply_rc(e, c, err_set(&err, EINVAL, "'%s' is no age", arg), &err);
		return;
	}
	rc = purge_older(e->catalogue, e->config.store, age, stamp_now(), ops->is_open, ops->arg,
			 &purged, &err);
	if (purged.files + purged.versions > 0)
		engine_rows_changed(e);
	if (rc == 0)
		reply_last(e, c, "ok %d %d", purged.files, purged.open);
	else
		reply_rc(e, c, rc, &err);
}

static void
do_damaged(struct engine *e, struct client *c, const char *arg)
{
	struct digest d;
	struct err err = { 0 };

	if (!digest_parse(arg, &d)) {
		reply_rc(e, c, err_set(&err, EINVAL, "'%s' is no SHA-512", arg), &err);
		return;
	}
	engine_handle_damage(e, &d, "vmimagectl verify found other bytes than the digest says");
	reply_rc(e, c, 0, NULL);
}

static void
do_poke(struct engine *e, struct client *c, const char *arg)
{
	(void)arg;
	/* At once: who has the answer may open a file, which must meet the new rows. */
	if (catalogue_data_version(e->catalogue) != e->data_version)
		engine_look(e);
	reply_rc(e, c, 0, NULL);
}

static void
do_reload(struct engine *e, struct client *c, const char *arg)
{
	const struct engine_ops *ops = &e->config.ops;
	struct err err = { 0 };

	(void)arg;
	reply_rc(e, c, ops->reload != NULL ? ops->reload(ops->arg, &err) : 0, &err);
}

static void
do_exchange(struct engine *e, struct client *c, const char *arg)
{
	struct err err = { 0 };

	(void)arg;
	if (e->config.ops.exchange == NULL) {
		reply_rc(e, c, err_set(&err, ENOTSUP, "there is nothing to exchange"), &err);
		return;
	}
	/* Answered before: this worker ends soon. */
	reply(c, "ok");
	c->closing = true;
	e->config.ops.exchange(e->config.ops.arg);
}

static void
do_status(struct engine *e, struct client *c, const char *arg)
{
	struct engine_status status;
	struct buf text = BUF_INIT;
	struct jsonw w;

	(void)arg;
	engine_status(e, &status);
	jsonw_begin(&w, &text, false);
	jsonw_open(&w, NULL, '{');
	jsonw_integer(&w, "schema", 1);
	jsonw_string(&w, "version", PACKAGE_VERSION);
	jsonw_string(&w, "daemon", "running");
	engine_status_each(&status, engine_figure_json, &w);
	sandbox_board_json(&w);
	jsonw_close(&w, '}');
	buf_putc(&text, '\n');
	send_text(c, &text);
	buf_release(&text);
	reply_rc(e, c, 0, NULL);
}

/* Shown, and nothing else: whoever is the daemon's user could stop the daemon as well. */
static bool
is_told_by_its_user(const struct client *c, const struct sandbox_state *state)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       peer.uid == geteuid() && state->uid == geteuid() &&
	       (state->role == SANDBOX_UPDATER || state->role == SANDBOX_FETCHER ||
		state->role == SANDBOX_VERIFIER);
}

static void
do_confined(struct engine *e, struct client *c, const char *arg)
{
	struct sandbox_state state;
	struct err err = { 0 };
	int rc = 0;

	if (!sandbox_state_unpack(arg, &state) || !is_told_by_its_user(c, &state))
		rc = err_set(&err, EINVAL, "this is not what an updater says of itself");
	else
		sandbox_board_note(&state);
	reply_rc(e, c, rc, &err);
}

static const struct request {
	const char *word;
	void (*serve)(struct engine *e, struct client *c, const char *arg);
} requests[] = {
	{ "fetch", do_fetch },
	{ "want", do_want },
	{ "heal", do_heal },
	{ "evict", do_evict },
	{ "purge", do_purge },
	{ "damaged", do_damaged },
	{ "poke", do_poke },
	{ "reload", do_reload },
	{ "exchange", do_exchange },
	{ "status", do_status },
	{ "confined", do_confined },
};

static void
serve(struct engine *e, struct client *c, char *line)
{
	char *arg = strchr(line, ' ');
	struct err err = { 0 };

	if (arg != NULL)
		*arg++ = '\0';
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		if (strcmp(line, requests[i].word) == 0) {
			requests[i].serve(e, c, arg != NULL ? arg : "");
			return;
		}
	}
	reply_rc(e, c, err_set(&err, EINVAL, "unknown request '%s'", line), &err);
}

/* ---- connections --------------------------------------------------------------------------- */

/* The socket's mode lets in root, our user and its group; the peer's uid is logged for the rest. */
static bool
peer_is_allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0;
}

/*
 * When room is short the one that has been silent longest makes it.  Who has a request has sent it
 * by the time that another one comes, however many there are.
 */
static bool
drop_silent(struct engine *e)
{
	struct client *oldest = NULL;

	for (struct client *c = e->clients; c != NULL; c = c->next)
		if (!c->closing && !c->watching && !c->healing && c->answer.len == 0)
			oldest = c;
	if (oldest != NULL)
		oldest->closing = true;
	return oldest != NULL;
}

void
control_accept(struct engine *e)
{
	struct client *c;
	size_t n = 0;
	int fd = accept4(e->config.control_socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (c = e->clients; c != NULL; c = c->next)
		n++;
	if (n >= LIMIT_CONTROL_CLIENTS && drop_silent(e))
		n--;
	if (n >= LIMIT_CONTROL_CLIENTS || !peer_is_allowed(fd)) {
		close(fd);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->fd = fd;
	c->next = e->clients;
	e->clients = c;
}

void
control_readable(struct engine *e, struct client *c)
{
	char chunk[1024], *end;
	ssize_t n = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		c->closing = true;
		return;
	}
	if (c->watching || c->healing || c->closing || c->answer.len > 0)
		return;
	buf_add(&c->in, chunk, (size_t)n);
	end = memchr(c->in.data, '\n', c->in.len);
	if (end != NULL) {
		*end = '\0';
		serve(e, c, c->in.data);
	} else if (c->in.len > LIMIT_CONTROL_LINE) {
		c->closing = true;
	}
}

bool
control_has_watchers(const struct engine *e)
{
	for (const struct client *c = e->clients; c != NULL; c = c->next)
		if ((c->watching || c->healing || c->answer.len > 0) && !c->closing)
			return true;
	return false;
}

bool
control_is_watched(const struct engine *e, const struct digest *d)
{
	for (const struct client *c = e->clients; c != NULL; c = c->next)
		if (c->watching && !c->closing && digest_equal(&c->digest, d))
			return true;
	return false;
}

void
control_tell_progress(struct engine *e)
{
	long long now = io_monotonic_ms();

	for (struct client *c = e->clients; c != NULL; c = c->next) {
		struct engine_progress progress = { .active = false };

		if ((!c->watching && !c->healing) || c->closing || now - c->told_at < TELL_EVERY_MS)
			continue;
		c->told_at = now;
		if (c->watching)
			engine_progress(e, &c->digest, &progress);
		if (c->watching && !progress.active)
			progress.active = engine_adopt_progress(e, &c->digest, &progress.bytes,
								&progress.total);
		else if (c->healing)
			progress.active = engine_examine_progress(e, &c->digest, &progress.bytes,
								  &progress.total);
		if (progress.active)
			reply(c, "progress %" PRId64 " %" PRId64, progress.bytes, progress.total);
	}
}

/*
 * "ok" to fetch means stored, not only verified: a command that comes after it finds the image in
 * cache/.  So good news counts only when the job is gone.
 */
void
control_answer_watchers(struct engine *e, const struct digest *d, int rc, const struct err *why)
{
	if (rc == 0 && engine_is_fetching(e, d))
		return;
	for (struct client *c = e->clients; c != NULL; c = c->next)
		if (c->watching && !c->closing && digest_equal(&c->digest, d))
			reply_rc(e, c, rc, why);
}

void
control_answer_healing(struct engine *e, const struct digest *d, int64_t n_healed, int rc,
		       const struct err *why)
{
	for (struct client *c = e->clients; c != NULL; c = c->next) {
		if (!c->healing || c->closing || !digest_equal(&c->digest, d))
			continue;
		if (rc == 0)
			reply_last(e, c, "ok %" PRId64, n_healed);
		else
			reply_rc(e, c, rc, why);
	}
}

void
control_drop_closed(struct engine *e)
{
	struct client **p = &e->clients;

	while (*p != NULL) {
		struct client *c = *p;

		if (!c->closing) {
			p = &c->next;
			continue;
		}
		*p = c->next;
		close(c->fd);
		buf_release(&c->in);
		buf_release(&c->answer);
		free(c);
	}
}

void
control_drop_all(struct engine *e)
{
	for (struct client *c = e->clients; c != NULL; c = c->next)
		c->closing = true;
	control_drop_closed(e);
}
