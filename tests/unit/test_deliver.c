/*
 * test_deliver.c - from the outbox to handlers.
 *
 * The outbox is one in memory that keeps the rules of catalogue.h, the directories are counters,
 * and the runner is the real one: handlers are shell scripts.
 */
#include "config.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
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
#include "core/stamp.h"

enum { N_EVENTS = 8, N_HANDLERS = 3, NOW = 1795255200, WAIT_MS = 20000 };

/* ---- the outbox ------------------------------------------------------------------------------ */

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

static void
add_event(const char *type, const char *image, int n_handlers)
{
	outbox[n_events].type = type;
	outbox[n_events].image = image;
	for (int h = 0; h < n_handlers; h++)
		outbox[n_events].state[h] = WAITING;
	n_events++;
}

static bool
is_held_back(size_t event, size_t h)
{
	for (size_t i = 0; i < event; i++)
		if (outbox[i].state[h] == WAITING && outbox[i].image[0] != '\0' &&
		    strcmp(outbox[i].image, outbox[event].image) == 0)
			return true;
	return false;
}

static void
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

/* ---- the directories ------------------------------------------------------------------------- */

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

/* ---- the bed --------------------------------------------------------------------------------- */

struct bed {
	char dir[64];
	struct conf *conf;
	struct runner *runner;
	struct deliver *deliver;
};

static void
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
static void
put_handler(const struct bed *bed, const char *name, const char *script)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "#!/bin/sh\ncd %s\necho %s $VMCATCHER_EVENT_TYPE $VMCATCHER_EVENT_DC_IDENTIFIER "
		 ">>log\n%s\n", bed->dir, name, script);
	put(bed, name, text);
}

static int
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

static int
teardown(void **state)
{
	struct bed *bed = *state;
	pid_t pid;

	deliver_free(bed->deliver);
	runner_free(bed->runner);
	conf_free(bed->conf);
	pid = fork();
	if (pid == 0) {
		execlp("rm", "rm", "-rf", bed->dir, (char *)NULL);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
	free(bed);
	return 0;
}

static void
begin_with(struct bed *bed, const struct deliver_config *config)
{
	struct err err = { 0 };

	assert_int_equal(deliver_new(&bed->deliver, config, &err), 0);
}

static void
begin(struct bed *bed)
{
	struct deliver_config config = { .runner = bed->runner };

	begin_with(bed, &config);
}

static void
run_at(struct bed *bed, int64_t now)
{
	struct err err = { 0 };

	if (deliver_run(bed->deliver, now, &err) != 0)
		fail_msg("%s", err.text);
}

/* One handler's end, and what follows from it. */
static void
step(struct bed *bed, int64_t now)
{
	struct pollfd p = { .fd = deliver_fd(bed->deliver), .events = POLLIN };

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	run_at(bed, now);
}

static void
step_until(struct bed *bed, size_t event, size_t h, int state, int64_t now)
{
	long long until = io_monotonic_ms() + WAIT_MS;

	while (outbox[event].state[h] != state && io_monotonic_ms() < until)
		step(bed, now);
	assert_int_equal(outbox[event].state[h], state);
}

static void
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

/* ---- tests ----------------------------------------------------------------------------------- */

static void
brings_events_in_order(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };
	int n_failed = -1;

	put_handler(bed, "one", "");
	add_event("ProcessPrefix", "", 1);
	add_event("AvailablePrefix", "a", 1);
	add_event("AvailablePostfix", "a", 1);
	add_event("ProcessPostfix", "", 1);
	begin(bed);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(n_failed, 0);
	for (size_t i = 0; i < n_events; i++)
		assert_int_equal(outbox[i].state[0], TAKEN);
	log_is(bed, "one ProcessPrefix\none AvailablePrefix a\none AvailablePostfix a\n"
		    "one ProcessPostfix\n");
	assert_int_equal(deliver_wait(bed->deliver, NOW), -1);
}

static void
never_waits_for_a_handler(void **state)
{
	struct bed *bed = *state;
	long long from;

	put_handler(bed, "one", "while [ ! -e go ]; do sleep 0.05; done");
	add_event("AvailablePostfix", "a", 1);
	add_event("AvailablePostfix", "b", 1);
	begin(bed);
	from = io_monotonic_ms();
	for (int i = 0; i < 100; i++)
		run_at(bed, NOW);
	assert_in_range(io_monotonic_ms() - from, 0, WAIT_MS);
	/* One at a time for a handler: the other event is not begun. */
	assert_int_equal(outbox[0].state[0], WAITING);
	put(bed, "go", "");
	step_until(bed, 1, 0, TAKEN, NOW);
	log_is(bed, "one AvailablePostfix a\none AvailablePostfix b\n");
}

static void
handlers_do_not_wait_for_each_other(void **state)
{
	struct bed *bed = *state;

	put_handler(bed, "one", "while [ ! -e go ]; do sleep 0.05; done");
	put_handler(bed, "two", "");
	put_handler(bed, "three", "exit 1");
	add_event("AvailablePostfix", "a", 3);
	add_event("AvailablePostfix", "b", 3);
	begin(bed);
	run_at(bed, NOW);
	step_until(bed, 1, 1, TAKEN, NOW);
	assert_int_equal(outbox[0].state[0], WAITING);
	put(bed, "go", "");
	step_until(bed, 1, 0, TAKEN, NOW);
	assert_int_equal(outbox[0].state[2], WAITING);
	assert_true(outbox[0].tries[2] > 0);
}

static void
failed_event_is_tried_again(void **state)
{
	static const int waits[] = { 10, 20, 40, 80, 160, 320, 640, 1280, 1800 };
	const int n_waits = sizeof(waits) / sizeof(waits[0]);
	int i = 0;
	struct bed *bed = *state;
	int64_t now = stamp_now();

	put_handler(bed, "one", "echo out; echo 'it is down' >&2; exit 3");
	add_event("AvailablePostfix", "a", 1);
	add_event("ExpirePrefix", "a", 1);
	begin(bed);
	for (; i < n_waits; i++) {
		int64_t before = stamp_now();

		run_at(bed, now);
		while (outbox[0].tries[0] == i)
			step(bed, now);
		assert_in_range(outbox[0].next_try[0], before + waits[i], stamp_now() + waits[i]);
		assert_string_equal(outbox[0].error[0], "exit status 3: it is down");
		/* Not before its time, and what comes after it waits with it. */
		run_at(bed, outbox[0].next_try[0] - 1);
		assert_int_equal(deliver_wait(bed->deliver, outbox[0].next_try[0] - 1), 1000);
		assert_int_equal(outbox[1].tries[0], 0);
		now = outbox[0].next_try[0];
	}
	/* From here on each wait is the longest. */
	for (; i < LIMIT_EVENT_TRIES; i++) {
		assert_int_equal(outbox[0].state[0], WAITING);
		now += waits[n_waits - 1];
		run_at(bed, now);
		while (outbox[0].tries[0] == i)
			step(bed, now);
	}
	assert_int_equal(outbox[0].state[0], FAILED);
	/* Then it holds nothing back any more. */
	while (outbox[1].tries[0] == 0)
		step(bed, now);
}

static void
tries_of_all_are_over_when_all_are_told(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };
	int n_failed = -1;

	put_handler(bed, "one", "[ $VMCATCHER_EVENT_DC_IDENTIFIER != b ]");
	add_event("AvailablePostfix", "a", 1);
	add_event("AvailablePostfix", "b", 1);
	add_event("AvailablePostfix", "c", 1);
	begin(bed);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(n_failed, 1);
	assert_int_equal(outbox[0].state[0], TAKEN);
	assert_int_equal(outbox[1].state[0], WAITING);
	assert_int_equal(outbox[2].state[0], TAKEN);
}

static void
command_tells_its_own_handler(void **state)
{
	struct bed *bed = *state;
	struct deliver_config config = { .runner = bed->runner, .handler = 2 };
	struct err err = { 0 };
	int n_failed;

	config.setting.session = "of-the-run";
	put_handler(bed, "one", "");
	put_handler(bed, "two", "echo $VMCATCHER_EVENT_UUID_SESSION $VMCATCHER_EVENT_UUID >>log");
	add_event("AvailablePrefix", "a", 2);
	add_event("AvailablePostfix", "a", 2);
	begin_with(bed, &config);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	log_is(bed, "two AvailablePrefix a\nof-the-run uuid-1\ntwo AvailablePostfix a\n"
		    "of-the-run uuid-2\n");
	assert_int_equal(outbox[0].state[0], WAITING);
}

/* ---- directories ----------------------------------------------------------------------------- */

static void
directories_come_first(void **state)
{
	struct bed *bed = *state;
	struct deliver_config config = { .runner = bed->runner, .dir = &dirs };
	struct err err = { 0 };
	int n_failed;

	put_handler(bed, "one", "");
	add_event("AvailablePostfix", "a", 1);
	add_event("AvailablePostfix", "bad", 1);
	dirs.fault = -ENOSPC;
	begin_with(bed, &config);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(n_failed, 1);
	log_is(bed, "one AvailablePostfix a\n");
	assert_string_equal(outbox[1].error[0], "the directories are at fault");
	assert_int_equal(dirs.n_prepared, 1);
	assert_int_equal(dirs.n_done, 1);
	assert_true(dirs.n_synced > 0);
}

static void
distrusted_image_is_not_announced(void **state)
{
	struct bed *bed = *state;
	struct deliver_config config = { .runner = bed->runner, .dir = &dirs };
	struct err err = { 0 };
	int n_failed;

	put_handler(bed, "one", "");
	add_event("AvailablePostfix", "bad", 1);
	add_event("ExpirePostfix", "a", 1);
	dirs.fault = -ESTALE;
	begin_with(bed, &config);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(n_failed, 0);
	log_is(bed, "one ExpirePostfix a\n");
	assert_int_equal(outbox[0].state[0], TAKEN);
}

static void
name_in_use_is_waited_for(void **state)
{
	struct bed *bed = *state;
	struct deliver_config config = { .runner = bed->runner, .dir = &dirs };
	struct err err = { 0 };
	int n_failed;

	put_handler(bed, "one", "sleep 0.2");
	put_handler(bed, "two", "");
	add_event("AvailablePostfix", "a", 1);
	add_event("AvailablePostfix", "bad", 0);
	outbox[1].state[1] = WAITING;
	dirs.fault = -EBUSY;
	begin_with(bed, &config);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(n_failed, 0);
	assert_int_equal(outbox[1].state[1], TAKEN);
	assert_int_equal(outbox[1].tries[1], 0);
	assert_int_equal(dirs.n_done, 2);
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void
fault_of_the_catalogue_loses_nothing(void **state)
{
	struct bed *bed = *state;
	struct pollfd p;
	struct err err = { 0 };

	put_handler(bed, "one", "");
	add_event("AvailablePostfix", "a", 1);
	begin(bed);
	run_at(bed, NOW);
	fault = -EIO;
	p = (struct pollfd){ .fd = deliver_fd(bed->deliver), .events = POLLIN };
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(deliver_run(bed->deliver, NOW, &err), -EIO);
	assert_string_equal(err.text, "the catalogue is at fault");
	/* It is not asked again at once. */
	assert_int_equal(deliver_wait(bed->deliver, NOW), 10000);
	fault = 0;
	run_at(bed, NOW + 10);
	assert_int_equal(outbox[0].state[0], TAKEN);
	log_is(bed, "one AvailablePostfix a\n");
}

static void
end_of_the_runner_is_said_once(void **state)
{
	struct bed *bed = *state;
	struct err err = { 0 };
	struct pollfd p;
	int n_failed;

	put_handler(bed, "one", "sleep 30");
	add_event("AvailablePostfix", "a", 1);
	begin(bed);
	run_at(bed, NOW);
	kill(runner_pid(bed->runner), SIGKILL);
	p = (struct pollfd){ .fd = deliver_fd(bed->deliver), .events = POLLIN };
	/* The one that minds the handler has the socket, too, until it has ended the handler. */
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(deliver_run(bed->deliver, NOW, &err), -EPIPE);
	assert_int_equal(deliver_run(bed->deliver, NOW, &err), 0);
	assert_int_equal(deliver_fd(bed->deliver), -1);
	assert_int_equal(deliver_wait(bed->deliver, NOW), -1);
	assert_int_equal(outbox[0].state[0], WAITING);
	assert_int_equal(outbox[0].tries[0], 0);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
}

/* ---- what is said ---------------------------------------------------------------------------- */

static void
output_is_escaped_and_cut(void **state)
{
	struct bed *bed = *state;
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err err = { 0 };
	char path[128];
	int n_failed, saved = dup(2), fd;

	put_handler(bed, "one",
		    "printf 'line\\033[2J\\0hidden\\n%s\\n' 'test: error: a forged line'\n"
		    "head -c 3000 /dev/zero | tr '\\0' x; echo; i=0\n"
		    "while [ $i -lt 100 ]; do i=$((i+1)); echo many $i; done; exit 1");
	add_event("AvailablePostfix", "a", 1);
	begin(bed);
	snprintf(path, sizeof(path), "%s/said", bed->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && dup2(fd, 2) == 2);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(dup2(saved, 2), 2);
	close(saved);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(io_read_to_end(fd, 1 << 20, &text), 0);
	close(fd);
	assert_non_null(strstr(buf_str(&text), "test: info: event handler 'one': "
					       "line\\x1B[2J\\x00hidden\n"));
	assert_null(strstr(buf_str(&text), "\ntest: error: a forged line"));
	assert_non_null(strstr(buf_str(&text), ": test: error: a forged line\n"));
	assert_in_range(text.len, 1000, 8000);
	assert_non_null(strstr(buf_str(&text), "wrote more, which is not logged"));
	for (const char *at = buf_str(&text); *at != '\0'; at += strcspn(at, "\n") + 1)
		assert_in_range(strcspn(at, "\n"), 1, LIMIT_LOG_LINE + 64);
}

static struct {
	int n, status;
	bool timed_out;
	char type[32], output[64];
} heard;

static void
hear(void *arg, const struct event_row *event, int status, bool timed_out, const char *output)
{
	assert_ptr_equal(arg, &heard);
	heard.n++;
	heard.status = status;
	heard.timed_out = timed_out;
	snprintf(heard.type, sizeof(heard.type), "%s", event->type);
	snprintf(heard.output, sizeof(heard.output), "%s", output);
}

static void
command_says_it_in_its_own_words(void **state)
{
	struct bed *bed = *state;
	struct deliver_config config = { .runner = bed->runner, .ended = hear, .arg = &heard };
	struct err err = { 0 };
	int n_failed;

	put_handler(bed, "one", "echo hello; exit 7");
	add_event("ExpirePrefix", "a", 1);
	begin_with(bed, &config);
	assert_int_equal(deliver_all(bed->deliver, &n_failed, &err), 0);
	assert_int_equal(heard.n, 1);
	assert_int_equal(WEXITSTATUS(heard.status), 7);
	assert_false(heard.timed_out);
	assert_string_equal(heard.type, "ExpirePrefix");
	assert_string_equal(heard.output, "hello\n");
}

#define ROW(title, fn) { title, fn, setup, teardown, NULL }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ROW("events come to a handler in their order", brings_events_in_order),
		ROW("P20 nobody waits for a handler, and it has one event at a time",
		    never_waits_for_a_handler),
		ROW("handlers do not wait for each other", handlers_do_not_wait_for_each_other),
		ROW("P20 a failed event is tried again after 10 s, doubling, and holds back later "
		    "ones of its image until it is given up", failed_event_is_tried_again),
		ROW("telling all of it tries each event once",
		    tries_of_all_are_over_when_all_are_told),
		ROW("a command tells its own handler alone, in one session",
		    command_tells_its_own_handler),
		ROW("what a handler must find is made first, and without it it is not run",
		    directories_come_first),
		ROW("an image that is distrusted meanwhile is not announced",
		    distrusted_image_is_not_announced),
		ROW("a name that another handler is being told of is waited for",
		    name_in_use_is_waited_for),
		ROW("P21 what could not be noted is delivered again",
		    fault_of_the_catalogue_loses_nothing),
		ROW("the end of the runner is said once, and events wait",
		    end_of_the_runner_is_said_once),
		ROW("X03 what a handler writes is escaped, cut and bounded in the log",
		    output_is_escaped_and_cut),
		ROW("a command says what became of it in its own words",
		    command_says_it_in_its_own_words),
	};

	return cmocka_run_group_tests_name("deliver", tests, NULL, NULL);
}
