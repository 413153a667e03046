/*
 * The worker: sandbox first, then catalogue and store, then the connection, then threads.
 *
 *   main thread     waits for the supervisor's notes and for the end of the mount
 *   engine          owns the catalogue, the fetchers, the control socket (core/engine.c)
 *   fuse threads    a fixed number, each reads a request and answers or parks it; all but two of
 *                   them may be in the store at the same time (fusethreads.h, disk.h)
 *   disk            two that do what waits for the store when no FUSE thread does
 *   deadline        answers parked reads that have waited too long (blobs.c)
 *   pulse           shows the supervisor that we live (pulse.h), from the first step on
 *   errands         the same for what is not a read (errand.c)
 *   notifier        tells the kernel what to forget (notify.c)
 *
 * The number of threads does not depend on how many readers wait.
 *
 * There are two ends.  STOP, or the mount has gone: whoever waits is answered.  RETIRE: another
 * worker takes our place; nobody notices, because what waits is left unanswered, and the kernel
 * asks that one again (takeover.h).  A kernel that cannot has those who wait answered with an
 * error.
 */
#include "config.h"
#include "fs/worker.h"

#include <errno.h>
#include <libgen.h>
#include <linux/magic.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/engine.h"
#include "core/log.h"
#include "core/opening.h"
#include "core/process.h"
#include "core/sandbox.h"
#include "core/store.h"
#include "fs/blob.h"
#include "fs/context.h"
#include "fs/disk.h"
#include "fs/errand.h"
#include "fs/fusethreads.h"
#include "fs/handles.h"
#include "fs/note.h"
#include "fs/options.h"
#include "fs/ovaread.h"
#include "fs/passreply.h"
#include "fs/pulse.h"
#include "fs/readahead.h"
#include "fs/session.h"
#include "fs/statustext.h"
#include "fs/takeover.h"

enum { FLUSH_MS = 1000 };	/* at the end: the kernel is told what it can be told meanwhile */

struct worker {
	const struct worker_args *args;
	struct catalogue *catalogue;	/* until the engine takes it */
	struct store *store;
	struct disk *disk;
	struct errands *errands;
	struct blobs *blobs;
	struct engine *engine;
	struct passthrough *passthrough;
	struct readahead *readahead;
	struct runner *runner;		/* or NULL */
	struct fs_context fs;
	struct handles handles;
	struct history history;
	struct session session;
	struct fusethreads *threads;
	struct pulse *pulse;
	struct pulsework work;		/* of the main thread, until FUSE threads serve */
	pthread_t engine_thread;
	bool retiring;			/* another worker waits for our end */
	int ended_fd;			/* eventfd: the mount is gone */
};

/* ---- notes to and from the supervisor ------------------------------------------------------- */

static void
tell(struct worker *w, enum note_kind kind, const struct err *err)
{
	struct note note;

	note_init(&note, kind);
	if (err != NULL) {
		note.rc = err->rc;
		note.code = (int32_t)err->code;
		memcpy(note.text, err->text, sizeof(note.text));
	}
	if (note_send(w->args->supervisor_socket, &note, -1, true) < 0)
		log_debug("the supervisor is gone");
}

static int
reload(void *arg, struct err *err)
{
	struct worker *w = arg;
	struct conf *conf = NULL;
	int rc = options_load_conf(w->args->options, &conf, err);

	if (rc != 0) {
		log_err(LOG_LVL_ERROR, "reload: the configuration stays as it was", err);
		return rc;
	}
	log_set_level(conf->log_level);
	blobs_set_timeouts(w->blobs, conf->read_timeout, conf->block_timeout);
	errands_set_timeout(w->errands, conf->block_timeout);
	passthrough_set_on(w->passthrough, conf->integrity == INTEGRITY_OPEN);
	atomic_store(&w->fs.expired_open_deny, conf->expired_open_deny != 0);
	engine_reconfigure(w->engine, conf);
	log_info("configuration reloaded");
	return 0;
}

static void
dump_status(struct worker *w)
{
	struct tree *t = tree_get(w->fs.holder);
	struct buf text = BUF_INIT;
	char *line, *rest;

	statustext_make(&w->fs, t, ROOT_STATUS, &text);
	tree_unref(t);
	rest = text.data;
	while ((line = strsep(&rest, "\n")) != NULL)
		if (line[0] != '\0')
			log_info("%s", line);
	buf_release(&text);
}

static void
note_history(struct worker *w, const struct note *note)
{
	pthread_mutex_lock(&w->history.lock);
	w->history.restarts = note->rc;
	snprintf(w->history.last, sizeof(w->history.last), "%.*s",
		 (int)strnlen(note->text, sizeof(note->text) - 1), note->text);
	pthread_mutex_unlock(&w->history.lock);
}

/* False: stop. */
static bool
take_note(struct worker *w)
{
	struct err err = { 0 };
	struct note note;
	int fd, rc = note_receive(w->args->supervisor_socket, &note, &fd, true);

	if (rc == -EINTR)
		return true;
	close_keep_errno(fd);
	if (rc <= 0)
		return false;
	switch (note.kind) {
	case NOTE_RELOAD:
		reload(w, &err);
		return true;
	case NOTE_DUMP_STATUS:
		dump_status(w);
		return true;
	case NOTE_BACKING_ID:
		passthrough_answered(w->passthrough, &note.digest, note.rc);
		return true;
	case NOTE_HISTORY:
		note_history(w, &note);
		return true;
	case NOTE_RETIRE:
		w->retiring = true;
		return false;
	default:
		return false;
	}
}

/*
 * Before we serve: waits for a note of this kind, and gives what came with it.  -EINTR: we are to
 * end instead.
 */
static int
await(struct worker *w, enum note_kind kind, int *fd, struct err *err)
{
	struct note note;
	int rc;

	for (;;) {
		rc = note_receive(w->args->supervisor_socket, &note, fd, true);
		if (rc == 1 && note.kind == (int32_t)kind)
			break;
		close_keep_errno(*fd);
		if (rc == 0 || (rc == 1 && note.kind == NOTE_STOP))
			return err_set(err, EINTR, "ended before it began");
		if (rc < 0 && rc != -EINTR && rc != -EPROTO)
			return err_set(err, -rc, "the supervisor does not answer: %s",
				       strerrordesc_np(-rc));
	}
	if (kind == NOTE_GO)
		note_history(w, &note);
	return 0;
}

/* A command asks for the program on disk. */
static void
exchange(void *arg)
{
	tell(arg, NOTE_EXCHANGE, NULL);
}

/* ---- passthrough ----------------------------------------------------------------------------- */

/* By any thread: a supervisor that does not listen must not stop us. */
static int
open_backing(void *arg, const struct digest *d, int fd)
{
	const struct worker *w = arg;
	struct note note;

	note_init(&note, NOTE_BACKING_OPEN);
	note.digest = *d;
	return note_send(w->args->supervisor_socket, &note, fd, false);
}

static int
close_backing(void *arg, const struct digest *d)
{
	const struct worker *w = arg;
	struct note note;

	note_init(&note, NOTE_BACKING_CLOSE);
	note.digest = *d;
	return note_send(w->args->supervisor_socket, &note, -1, false);
}

static void
node_changed(void *arg, const struct digest *d)
{
	const struct worker *w = arg;
	char hex[DIGEST_HEX + 1];

	digest_hex(d, hex);
	notifier_name(w->fs.notifier, node_dir(DIR_BY_SHA512), hex);
}

/* ---- the engine's words ---------------------------------------------------------------------- */

static void
on_answered(void *arg, const struct digest *d, int rc, struct blockfile *f, const struct err *why)
{
	struct worker *w = arg;

	(void)why;
	blob_answered(w->blobs, d, rc, f);
}

static void
on_landed(void *arg, struct blockfile *f, int64_t off, const void *data, size_t size)
{
	struct worker *w = arg;

	blob_landed(w->blobs, f, off, data, size);
}

static void
on_failed(void *arg, const struct digest *d, int64_t first, int64_t n, int rc,
	  const struct err *why)
{
	struct worker *w = arg;

	(void)why;
	blob_failed(w->blobs, d, first, n, rc);
}

static void
on_audited(void *arg, const struct digest *d, struct blockfile *f)
{
	struct worker *w = arg;

	passthrough_audited(w->passthrough, d, f);
}

static uint64_t
on_changed(void *arg, struct catalogue *catalogue)
{
	struct worker *w = arg;

	return fs_tree_refresh(&w->fs, catalogue);
}

static void
on_shown(void *arg, const struct tree *t)
{
	struct worker *w = arg;

	takeover_shown(w->args->shared, t);
	engine_shown(w->engine, t->serial);
}

static void
on_activity(void *arg, const struct digest *d, bool active)
{
	struct worker *w = arg;

	fs_image_activity(&w->fs, d, active);
}

static void
on_lost(void *arg, const struct digest *d)
{
	struct worker *w = arg;

	passthrough_lost(w->passthrough, d);
	blob_lost(w->blobs, d);
}

static bool
is_open(void *arg, const struct digest *d)
{
	struct worker *w = arg;

	return blob_is_open(w->blobs, d);
}

static void *
engine_main(void *arg)
{
	struct worker *w = arg;
	struct err err = { 0 };

	prctl(PR_SET_NAME, "engine");
	if (engine_run(w->engine, &err) != 0)
		log_err(LOG_LVL_ERROR, "engine", &err);
	return NULL;
}

/* ---- fuse threads ---------------------------------------------------------------------------- */

static void
end_mount(void *arg)
{
	const struct worker *w = arg;
	uint64_t one = 1;

	if (write(w->ended_fd, &one, sizeof(one)) < 0)
		log_debug("ended_fd: %s", strerrordesc_np(errno));
}

/* It comes back if what parks reads can be had. */
static bool
is_alive(void *arg)
{
	const struct worker *w = arg;

	return fusethreads_answer(w->threads) && blobs_parked(w->blobs) >= 0;
}

/* With few FUSE threads the store is left to threads that do nothing else. */
static struct disk *
make_disk(const struct worker_args *args)
{
	unsigned n = fusethreads_count(args->max_threads);

	return n > FUSETHREADS_SPARE ? disk_new(n - FUSETHREADS_SPARE, true) : disk_new(n, false);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static int
enter_sandbox(const struct worker_args *args, struct err *err)
{
	const struct conf *conf = args->conf;
	CLEANUP_FREE char *conf_dir = xstrdup(conf->file != NULL ? conf->file : CONF_DEFAULT_FILE);
	/*
	 * The configuration by its directory: an editor puts a new file in the place of the old
	 * one, and a rule for a file is a rule for its inode.
	 */
	struct sandbox_path paths[] = {
		{ conf->state_dir, true },
		{ conf->cache_dir, true },
		{ dirname(conf_dir), false },
		{ "/etc/localtime", false },
		/* In state_dir, or elsewhere; and the names of handlers. */
		{ conf->handler_dir, true },
		{ conf->event_dir != NULL ? conf->event_dir : "/etc/localtime", false },
	};
	CLEANUP_BUF struct buf text = BUF_INIT;
	unsigned missing = 0;
	int rc;

	process_raise_file_limit();
	rc = sandbox_enter(SANDBOX_WORKER, paths, sizeof(paths) / sizeof(paths[0]), &missing, err);
	if (rc == 0 && missing != 0) {
		sandbox_describe_missing(missing, &text);
		log_warning("sandbox: %s", buf_str(&text));
	}
	return rc;
}

static void
prepare_passthrough(struct worker *w)
{
	const struct passthrough_ops ops = { open_backing, close_backing, node_changed, w };
	const struct conf *conf = w->args->conf;
	struct statfs store;

	w->fs.stacked = statfs(conf->cache_dir, &store) == 0 &&
			store.f_type == OVERLAYFS_SUPER_MAGIC;
	w->passthrough = passthrough_new(&ops, passreply_is_possible(),
					 conf->integrity == INTEGRITY_OPEN);
	w->fs.passthrough = w->passthrough;
}

/* Whether readers of an earlier worker may be waiting. */
static bool
is_successor(const struct worker *w)
{
	return w->args->shared->reply_len != 0 || w->history.restarts > 0;
}

static int
open_all(struct worker *w, struct err *err)
{
	const struct worker_args *args = w->args;
	const struct opening opening = { .conf = args->conf, .starter = args->starter };
	unsigned hurry = is_successor(w) ? CATALOGUE_HURRY : 0;
	int rc;

	rc = opening_catalogue(&w->catalogue, &opening,
			       CATALOGUE_CREATE | CATALOGUE_CHECK | hurry, err);
	/* The check has parsed every list: with many images, twice what the tree will need. */
	malloc_trim(0);
	if (rc == 0)
		rc = store_open(args->conf, catalogue_store_id(w->catalogue), &w->store, err);
	if (rc == 0)
		rc = store_lock(w->store, err);
	if (rc != 0)
		return rc;
	w->readahead = readahead_new(args->read_ahead);
	w->disk = make_disk(args);
	w->errands = errands_new(w->disk, args->conf->block_timeout);
	w->blobs = blobs_new(w->store, w->disk, args->conf->read_timeout,
			     args->conf->block_timeout);
	fs_context_init(&w->fs, args->conf, w->store, w->blobs);
	w->fs.disk = w->disk;
	w->fs.errands = w->errands;
	w->fs.readahead = w->readahead;
	w->fs.ovareads = ovareads_new(&w->fs);
	w->fs.uid = 0;
	w->fs.gid = 0;
	w->fs.history = &w->history;
	prepare_passthrough(w);
	return session_new(&w->session, &w->fs, args->debug, err);
}

static int
start_engine(struct worker *w, struct err *err)
{
	struct engine_config config = {
		.conf = w->args->conf, .catalogue = w->catalogue, .store = w->store,
		.starter = w->args->starter, .runner = w->runner,
		.event_uid = w->args->event_uid, .control_socket = w->args->control_socket,
		.stop_fd = -1, .daemon = true,
		.ops = {
			.answered = on_answered, .landed = on_landed, .failed = on_failed,
			.audited = on_audited, .lost = on_lost,
			.changed = on_changed, .activity = on_activity, .reload = reload,
			.exchange = exchange, .is_open = is_open, .arg = w,
		},
	};
	struct catalogue *catalogue = w->catalogue;
	int rc = engine_new(&w->engine, &config, err);

	if (rc != 0)
		return rc;
	w->catalogue = NULL;
	blobs_set_engine(w->blobs, w->engine);
	w->fs.engine = w->engine;
	fs_tree_refresh(&w->fs, catalogue);
	return 0;
}

/* What was there before requests are read: in this order, each needs the one before. */
static int
connect(struct worker *w, int fuse_fd, struct err *err)
{
	struct shared *shared = w->args->shared;
	int rc = session_begin(&w->session, fuse_fd, shared, err);

	if (rc != 0)
		return rc;
	handles_init(&w->handles, shared);
	w->fs.handles = &w->handles;
	takeover_restore(&w->fs, shared);
	blobs_set_handles(w->blobs, &w->handles);
	w->fs.notifier = notifier_new(w->session.fuse, on_shown, w);
	if (w->fs.notifier == NULL)
		return err_set(err, EAGAIN, "cannot start the thread that tells the kernel");
	takeover_tell(&w->fs, shared);
	w->fs.n_active = &shared->n_active;
	session_resend(&w->session);
	return 0;
}

static int
start_threads(struct worker *w, struct err *err)
{
	int rc = pthread_create(&w->engine_thread, NULL, engine_main, w);

	if (rc != 0)
		return err_set(err, rc, "cannot start the engine's thread");
	rc = fusethreads_start(&w->threads, fusethreads_count(w->args->max_threads),
			       w->session.fuse, &w->handles, end_mount, w, err);
	if (rc != 0)
		return rc;
	pulse_stop(w->pulse);
	pulsework_release(&w->work);
	w->pulse = pulse_start(&w->args->shared->beats, is_alive, w);
	return 0;
}

/* It has the configuration of the worker before, and ours may be newer. */
static void
adopt_runner(struct worker *w)
{
	struct err err;

	w->runner = runner_adopt(w->args->runner_socket);
	if (is_successor(w) && runner_reload(w->runner, &err) != 0)
		log_err(LOG_LVL_ERROR, "event handlers stay as they were", &err);
}

/* The steps of note.h, each told when it is done. */
static int
start(struct worker *w, struct err *err)
{
	struct note loaded;
	int fd = -1, rc;

	note_init(&loaded, NOTE_LOADED);
	snprintf(loaded.text, sizeof(loaded.text), "%s", PACKAGE_VERSION);
	note_send(w->args->supervisor_socket, &loaded, -1, true);
	rc = await(w, NOTE_GO, &fd, err);
	if (rc == 0) {
		w->pulse = pulse_start(&w->args->shared->beats, pulsework_goes_on, &w->work);
		rc = open_all(w, err);
	}
	if (rc == 0)
		takeover_take(&w->fs, steal_fd(&fd));
	close_keep_errno(fd);
	/* Only now: what ran for the worker before us is ended by it. */
	if (rc == 0 && w->args->runner_socket >= 0)
		adopt_runner(w);
	if (rc == 0)
		rc = start_engine(w, err);
	if (rc != 0)
		return rc;
	tell(w, NOTE_PREPARED, NULL);
	rc = await(w, NOTE_CONNECTION, &fd, err);
	if (rc == 0)
		rc = connect(w, fd, err);
	return rc == 0 ? start_threads(w, err) : rc;
}

static void
wait_for_end(struct worker *w)
{
	struct pollfd fds[] = {
		{ .fd = w->args->supervisor_socket, .events = POLLIN },
		{ .fd = w->ended_fd, .events = POLLIN },
	};

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents != 0)
			return;
		if (fds[0].revents != 0 && !take_note(w))
			return;
	}
}

static void
end_engine(struct worker *w)
{
	if (w->engine_thread != 0) {
		engine_stop(w->engine);
		pthread_join(w->engine_thread, NULL);
	}
	w->engine_thread = 0;
}

/*
 * Another worker waits.  Requests are answered as long as that can be; when the last one that was
 * read is answered, or waits, what waits is left to the other one.
 */
static void
retire(struct worker *w)
{
	struct note note;
	int fd;

	end_engine(w);
	/* The kernel may be waiting for a lookup while it is told something. */
	notifier_flush(w->fs.notifier, FLUSH_MS);
	notifier_free(w->fs.notifier);
	w->fs.notifier = NULL;
	if (!w->session.resends) {
		blobs_end(w->blobs);
		errands_end(w->errands);
	}
	pulse_stop(steal_ptr(&w->pulse));
	fusethreads_stop(steal_ptr(&w->threads));
	/* What is counted is answered, too, or neither. */
	disk_stop(w->disk);
	if (w->session.resends)
		session_leave(&w->session);
	fd = takeover_leave(&w->fs);
	note_init(&note, NOTE_HANDOVER);
	if (fd >= 0)
		note_send(w->args->supervisor_socket, &note, fd, false);
	close_keep_errno(fd);
	/* From here on it is an end like any other, and the counts are the next one's. */
	blobs_set_handles(w->blobs, NULL);
	w->fs.handles = NULL;
	passthrough_end(w->passthrough);
	w->fs.n_active = NULL;
}

/* Readers first: nobody may wait for an engine that is going away. */
static void
stop(struct worker *w)
{
	if (w->blobs != NULL) {
		blobs_end(w->blobs);
		errands_end(w->errands);
	}
	end_engine(w);
	/*
	 * Before the FUSE threads: the kernel may be waiting for a lookup while it is told
	 * something.
	 */
	notifier_free(w->fs.notifier);
	w->fs.notifier = NULL;
	pulse_stop(steal_ptr(&w->pulse));
	fusethreads_stop(steal_ptr(&w->threads));
	/* Its lanes may be telling us what landed. */
	engine_free(w->engine);
	if (w->disk != NULL)
		disk_stop(w->disk);
	errands_free(w->errands);
	blobs_free(w->blobs);
	ovareads_free(w->fs.ovareads);
	passthrough_free(w->passthrough);
	readahead_free(w->readahead);
	if (w->fs.holder != NULL)
		fs_context_release(&w->fs);
	session_release(&w->session);
	catalogue_close(w->catalogue);
	disk_free(w->disk);
	store_close(w->store);
	runner_free(w->runner);
	close_keep_errno(w->ended_fd);
}

int
worker_main(const struct worker_args *args)
{
	struct worker w = { .args = args, .ended_fd = -1 };
	struct err err = { 0 };
	int rc;

	pthread_mutex_init(&w.history.lock, NULL);
	w.ended_fd = eventfd(0, EFD_CLOEXEC);
	pulsework_init(&w.work);
	rc = enter_sandbox(args, &err);
	if (rc == 0)
		rc = start(&w, &err);
	if (rc == 0) {
		tell(&w, NOTE_READY, NULL);
		wait_for_end(&w);
		log_info(w.retiring ? "making room for another worker" : "stopping");
	} else if (rc != -EINTR) {
		log_err(LOG_LVL_ERROR, "start", &err);
		tell(&w, NOTE_FAILED, &err);
	}
	if (w.retiring)
		retire(&w);
	stop(&w);
	pulsework_release(&w.work);
	pthread_mutex_destroy(&w.history.lock);
	return rc == 0 || rc == -EINTR ? 0 : EXIT_FAILURE;
}
