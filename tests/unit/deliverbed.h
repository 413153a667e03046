/*
 * deliverbed.h - events on their way to handlers, for unit tests.
 *
 * The outbox is one in memory that keeps the rules of catalogue.h, the directories are counters,
 * and the runner is the real one: handlers are shell scripts. Include it once in a program.
 */
#ifndef VMI_DELIVERBED_H
#define VMI_DELIVERBED_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/cleanup.h"
#include "core/deliver.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/log.h"
#include "tests/lib/removetree.h"

enum { N_EVENTS = 8, N_HANDLERS = 3, NOW = 1795255200, WAIT_MS = 20000 };

/* ---- the outbox ---------------------------------------------------------------------------- */

enum { NONE, WAITING, TAKEN, FAILED };

static struct {
	const char *type, *image;
	int state[N_HANDLERS], tries[N_HANDLERS];
	int64_t next_try[N_HANDLERS];
	char error[N_HANDLERS][256];
} outbox[N_EVENTS];
static size_t n_events;
static const char *const handler_names[N_HANDLERS] = { "one", "two", "three" };
static int fault;			/* of the catalogue: a negative errno value */

static inline void
add_event(const char *type, const char *image, int n_handlers)
{
	outbox[n_events].type = type;
	outbox[n_events].image = image;
	for (int h = 0; h < n_handlers; h++)
		outbox[n_events].state[h] = WAITING;
	n_events++;
}

static inline bool
is_held_back(size_t event, size_t h)
{
	for (size_t i = 0; i < event; i++)
		if (outbox[i].state[h] == WAITING && outbox[i].image[0] != '\0' &&
		    strcmp(outbox[i].image, outbox[event].image) == 0)
			return true;
	return false;
}

static inline void
fill_row(struct event_row *row, size_t i)
{
	row->id = (int64_t)i + 1;
	row->uuid = xasprintf("uuid-%zu", i + 1);
	row->session = xstrdup("session");
	row->type = xstrdup(outbox[i].type);
	row->identifier = xstrdup(outbox[i].image);
	row->list_id = xstrdup("list");
	row->json = xasprintf("{\"uuid\":\"uuid-%zu\",\"session\":\"session\",\"type\":\"%s\","
			      "\"identifier\":\"%s\",\"filename\":\"%s\"}", i + 1, outbox[i].type,
			      outbox[i].image, outbox[i].image);
	row->error = xstrdup("");
}

int
catalogue_delivery_next(struct catalogue *c, int64_t handler, const int64_t *busy, size_t n,
			int64_t now, struct delivery *out, int64_t *next_due, struct err *err)
{
	(void)c;
	*next_due = INT64_MAX;
	if (fault != 0)
		return err_set(err, -fault, "the catalogue is at fault");
	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < n_events; i++) {
		for (size_t h = 0; h < N_HANDLERS; h++) {
			bool is_busy = handler != 0 && handler != (int64_t)h + 1;

			for (size_t b = 0; b < n; b++)
				is_busy = is_busy || busy[b] == (int64_t)h + 1;
			if (is_busy || outbox[i].state[h] != WAITING || is_held_back(i, h))
				continue;
			if (outbox[i].next_try[h] > now) {
				if (outbox[i].next_try[h] < *next_due)
					*next_due = outbox[i].next_try[h];
				continue;
			}
			out->handler = (int64_t)h + 1;
			out->name = xstrdup(handler_names[h]);
			out->tries = outbox[i].tries[h];
			fill_row(&out->event, i);
			return 1;
		}
	}
	return 0;
}

int
catalogue_delivery_done(struct catalogue *c, int64_t event, int64_t handler, const char *why,
			int64_t next_try, struct err *err)
{
	size_t i = (size_t)event - 1, h = (size_t)handler - 1;

	(void)c;
	if (fault != 0)
		return err_set(err, -fault, "the catalogue is at fault");
	assert_int_equal(outbox[i].state[h], WAITING);
	if (why == NULL) {
		outbox[i].state[h] = TAKEN;
		return 0;
	}
	snprintf(outbox[i].error[h], sizeof(outbox[i].error[h]), "%s", why);
	outbox[i].next_try[h] = next_try;
	if (++outbox[i].tries[h] >= LIMIT_EVENT_TRIES)
		outbox[i].state[h] = FAILED;
	return 0;
}

void
event_row_release(struct event_row *r)
{
	free(r->uuid);
	free(r->session);
	free(r->type);
	free(r->identifier);
	free(r->list_id);
	free(r->json);
	free(r->error);
}

void
delivery_release(struct delivery *d)
{
	free(d->name);
	event_row_release(&d->event);
}

/* ---- the directories ----------------------------------------------------------------------- */

struct handlerdir {
	int n_prepared, n_done, n_synced;
	int fault;			/* of prepare, for image "bad" */
};
static struct handlerdir dirs;

int
handlerdir_sync(struct handlerdir *h, struct catalogue *c, struct err *err)
{
	(void)c;
	(void)err;
	h->n_synced++;
	return 0;
}

int
handlerdir_wait(const struct handlerdir *h)
{
	(void)h;
	return -1;
}

int
handlerdir_prepare(struct handlerdir *h, struct catalogue *c, const struct event_row *event,
		   struct err *err)
{
	(void)c;
	if (strcmp(event->identifier, "bad") == 0 && h->fault != 0 &&
	    (h->fault != -EBUSY || h->n_prepared > h->n_done))
		return err_set(err, -h->fault, "the directories are at fault");
	h->n_prepared++;
	return 0;
}

void
handlerdir_done(struct handlerdir *h, const struct event_row *event)
{
	(void)event;
	h->n_done++;
}

/* ---- the bed ------------------------------------------------------------------------------- */

struct bed {
	char dir[64];
	struct conf *conf;
	struct runner *runner;
	struct deliver *deliver;
};

static inline void
put(const struct bed *bed, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", bed->dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0755), 0);
}

/* Handlers write to log, "NAME TYPE IMAGE", and then do as the script says. */
static inline void
put_handler(const struct bed *bed, const char *name, const char *script)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "#!/bin/sh\ncd %s\necho %s $VMCATCHER_EVENT_TYPE $VMCATCHER_EVENT_DC_IDENTIFIER "
		 ">>log\n%s\n", bed->dir, name, script);
	put(bed, name, text);
}

static inline int
setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	struct err err = { 0 };
	char path[128], text[256];

	memset(outbox, 0, sizeof(outbox));
	memset(&dirs, 0, sizeof(dirs));
	n_events = 0;
	fault = 0;
	log_open("test", false, LOG_LVL_INFO);
	snprintf(bed->dir, sizeof(bed->dir), "/tmp/test_deliver.XXXXXX");
	if (mkdtemp(bed->dir) == NULL || chmod(bed->dir, 0755) != 0)
		return -1;
	snprintf(text, sizeof(text), "user = %s\nevent_dir = %s\nevent_timeout = 30s\n",
		 geteuid() == 0 ? "nobody" : "root", bed->dir);
	put(bed, "x.conf", text);
	put(bed, "log", "");
	snprintf(path, sizeof(path), "%s/log", bed->dir);
	if (chmod(path, 0666) != 0)
		return -1;
	snprintf(path, sizeof(path), "%s/x.conf", bed->dir);
	if (conf_load(path, &bed->conf, &err) != 0 ||
	    runner_new(&bed->runner, bed->conf, NULL, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	*state = bed;
	return 0;
}

static inline int
teardown(void **state)
{
	struct bed *bed = *state;

	deliver_free(bed->deliver);
	runner_free(bed->runner);
	conf_free(bed->conf);
	remove_tree(bed->dir);
	free(bed);
	return 0;
}

static inline void
begin_with(struct bed *bed, const struct deliver_config *config)
{
	struct err err = { 0 };

	assert_int_equal(deliver_new(&bed->deliver, config, &err), 0);
}

static inline void
begin(struct bed *bed)
{
	struct deliver_config config = { .runner = bed->runner };

	begin_with(bed, &config);
}

static inline void
run_at(struct bed *bed, int64_t now)
{
	struct err err = { 0 };

	if (deliver_run(bed->deliver, now, &err) != 0)
		fail_msg("%s", err.text);
}

/* One handler's end, and what follows from it. */
static inline void
step(struct bed *bed, int64_t now)
{
	struct pollfd p = { .fd = deliver_fd(bed->deliver), .events = POLLIN };

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	run_at(bed, now);
}

static inline void
log_is(const struct bed *bed, const char *wanted)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	char path[128];
	CLEANUP_FD int fd = -1;

	snprintf(path, sizeof(path), "%s/log", bed->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(io_read_to_end(fd, 1 << 20, &text), 0);
	assert_string_equal(buf_str(&text), wanted);
}

#define ROW(title, fn) { title, fn, setup, teardown, NULL }

#endif
