/*
 * The worker: sandbox first, then catalogue and store, then threads.
 *
 *   main thread     waits for the supervisor's notes and for the end of the mount
 *   engine          owns the catalogue, the fetchers, the control socket (core/engine.c)
 *   fuse threads    a fixed number, each reads a request and answers or parks it
 *   deadline        answers parked reads that have waited too long (blob.c)
 *   notifier        tells the kernel what to forget (notify.c)
 *
 * The number of threads does not depend on how many readers wait.  The fuse threads block in
 * read(/dev/fuse); to stop them they are sent a signal that does nothing but interrupt the read,
 * again and again until each has seen that the session has ended.
 */
#define FUSE_USE_VERSION 312

#include "config.h"
#include "fs/worker.h"

#include <errno.h>
#include <libgen.h>
#include <linux/magic.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "core/cleanup.h"
#include "core/engine.h"
#include "core/log.h"
#include "core/opening.h"
#include "core/sandbox.h"
#include "core/store.h"
#include "fs/blob.h"
#include "fs/context.h"
#include "fs/note.h"
#include "fs/ops.h"
#include "fs/options.h"
#include "fs/ovaread.h"
#include "fs/passreply.h"
#include "fs/readahead.h"
#include "fs/statustext.h"

enum { THREADS_MIN = 4, THREADS_MAX = 64, KICK_SIGNAL = SIGURG };

struct worker {
	const struct worker_args *args;
	struct catalogue *catalogue;	/* until the engine takes it */
	struct store *store;
	struct blobs *blobs;
	struct engine *engine;
	struct passthrough *passthrough;
	struct readahead *readahead;
	struct fs_context fs;
	struct fuse_session *session;
	pthread_t engine_thread;
	pthread_t *fuse_threads;
	unsigned n_fuse_threads;
	atomic_bool ended;		/* no more requests */
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
	default:
		return false;
	}
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

static void
close_backing(void *arg, const struct digest *d)
{
	const struct worker *w = arg;
	struct note note;
	int rc;

	note_init(&note, NOTE_BACKING_CLOSE);
	note.digest = *d;
	rc = note_send(w->args->supervisor_socket, &note, -1, false);
	if (rc < 0)
		log_debug("the supervisor does not take a note: %s", strerrordesc_np(-rc));
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
on_shown(void *arg, uint64_t serial)
{
	struct worker *w = arg;

	engine_shown(w->engine, serial);
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

/* ---- fuse threads ----------------------------------------------------------------------------- */

static void
on_kick(int sig)
{
	(void)sig;
}

static void
end_mount(struct worker *w)
{
	uint64_t one = 1;

	atomic_store(&w->ended, true);
	if (write(w->ended_fd, &one, sizeof(one)) < 0)
		log_debug("ended_fd: %s", strerrordesc_np(errno));
}

static void *
fuse_main(void *arg)
{
	struct worker *w = arg;
	struct fuse_buf buf = { 0 };

	prctl(PR_SET_NAME, "fuse");
	while (!atomic_load(&w->ended) && !fuse_session_exited(w->session)) {
		int n = fuse_session_receive_buf(w->session, &buf);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			break;
		fuse_session_process_buf(w->session, &buf);
	}
	free(buf.mem);
	end_mount(w);
	return NULL;
}

static unsigned
count_threads(const struct worker_args *args)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = cores > 0 ? (unsigned)cores * 2 : THREADS_MIN;

	if (n < THREADS_MIN)
		n = THREADS_MIN;
	if (args->max_threads > 0)
		n = args->max_threads;
	return n < THREADS_MAX ? n : THREADS_MAX;
}

/* Threads are made with every signal blocked but the one that interrupts their read. */
static int
start_fuse_threads(struct worker *w, struct err *err)
{
	struct sigaction act = { .sa_handler = on_kick };
	unsigned n = count_threads(w->args);
	sigset_t kick, old;
	int rc = 0;

	sigaction(KICK_SIGNAL, &act, NULL);
	sigfillset(&kick);
	sigdelset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &kick, &old);
	w->fuse_threads = xcalloc(n, sizeof(*w->fuse_threads));
	while (rc == 0 && w->n_fuse_threads < n) {
		rc = pthread_create(&w->fuse_threads[w->n_fuse_threads], NULL, fuse_main, w);
		w->n_fuse_threads += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc == 0 ? 0 : err_set(err, rc, "cannot start the FUSE threads");
}

static void
join_fuse_threads(struct worker *w)
{
	atomic_store(&w->ended, true);
	for (unsigned i = 0; i < w->n_fuse_threads; i++) {
		struct timespec until;

		/* A signal that arrives just before the read is lost: repeat until it has ended. */
		do {
			pthread_kill(w->fuse_threads[i], KICK_SIGNAL);
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += 20000000;
			if (until.tv_nsec >= 1000000000) {
				until.tv_sec++;
				until.tv_nsec -= 1000000000;
			}
		} while (pthread_timedjoin_np(w->fuse_threads[i], NULL, &until) == ETIMEDOUT);
	}
	free(w->fuse_threads);
	w->n_fuse_threads = 0;
}

/* ---- beginning and end -------------------------------------------------------------------------- */

/* Each image that somebody has open costs a descriptor; the usual 1024 are soon used up. */
static void
raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		log_warning("RLIMIT_NOFILE stays low: %s", strerrordesc_np(errno));
}

static int
enter_sandbox(const struct worker_args *args, struct err *err)
{
	const struct conf *conf = args->conf;
	CLEANUP_FREE char *conf_dir = xstrdup(conf->file != NULL ? conf->file : CONF_DEFAULT_FILE);
	/*
	 * The configuration by its directory: an editor puts a new file in the place of the old one,
	 * and a rule for a file is a rule for its inode.
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

	raise_file_limit();
	rc = sandbox_enter(SANDBOX_WORKER, paths, sizeof(paths) / sizeof(paths[0]), &missing, err);
	if (rc == 0 && missing != 0) {
		sandbox_describe_missing(missing, &text);
		log_warning("sandbox: %s", buf_str(&text));
	}
	return rc;
}

static int
open_session(struct worker *w, struct err *err)
{
	char *argv[] = { (char[]){ "vmimagefs" }, (char[]){ "-odebug" }, NULL };
	struct fuse_args fuse_args = FUSE_ARGS_INIT(w->args->debug ? 2 : 1, argv);
	char path[32];

	w->session = fuse_session_new(&fuse_args, ops_table(), sizeof(*ops_table()), &w->fs);
	fuse_opt_free_args(&fuse_args);
	if (w->session == NULL)
		return err_set(err, EIO, "libfuse refused to make a session");
	/* The supervisor has mounted it; libfuse takes the open device by this name. */
	snprintf(path, sizeof(path), "/dev/fd/%d", w->args->fuse_fd);
	if (fuse_session_mount(w->session, path) != 0)
		return err_set(err, EIO, "libfuse does not take the open /dev/fuse");
	return 0;
}

static void
prepare_passthrough(struct worker *w)
{
	const struct passthrough_ops ops = { open_backing, close_backing, node_changed, w };
	const struct conf *conf = w->args->conf;
	struct statfs store;

	w->fs.stacked = statfs(conf->cache_dir, &store) == 0 &&
			store.f_type == OVERLAYFS_SUPER_MAGIC;
	w->passthrough = passthrough_new(&ops, passreply_attach(w->session),
					 conf->integrity == INTEGRITY_OPEN);
	w->fs.passthrough = w->passthrough;
}

static int
open_all(struct worker *w, struct err *err)
{
	const struct worker_args *args = w->args;
	const struct opening opening = { .conf = args->conf, .starter = args->starter };
	int rc;

	rc = opening_catalogue(&w->catalogue, &opening, CATALOGUE_CREATE | CATALOGUE_CHECK, err);
	/* The check has parsed every list: with many images, twice what the tree will need. */
	malloc_trim(0);
	if (rc == 0)
		rc = store_open(args->conf, catalogue_store_id(w->catalogue), &w->store, err);
	if (rc == 0)
		rc = store_lock(w->store, err);
	if (rc != 0)
		return rc;
	w->readahead = readahead_new(args->read_ahead);
	w->blobs = blobs_new(w->store, args->conf->read_timeout, args->conf->block_timeout);
	fs_context_init(&w->fs, args->conf, w->store, w->blobs);
	w->fs.readahead = w->readahead;
	w->fs.ovareads = ovareads_new(&w->fs);
	w->fs.uid = 0;
	w->fs.gid = 0;
	rc = open_session(w, err);
	if (rc == 0)
		prepare_passthrough(w);
	return rc;
}

static int
start(struct worker *w, struct err *err)
{
	struct engine_config config = {
		.conf = w->args->conf, .catalogue = w->catalogue, .store = w->store,
		.starter = w->args->starter, .runner = w->args->runner,
		.event_uid = w->args->event_uid, .control_socket = w->args->control_socket,
		.stop_fd = -1, .daemon = true,
		.ops = {
			.answered = on_answered, .landed = on_landed, .failed = on_failed,
			.audited = on_audited, .lost = on_lost,
			.changed = on_changed, .activity = on_activity, .reload = reload,
			.is_open = is_open, .arg = w,
		},
	};
	struct catalogue *catalogue = w->catalogue;
	int rc;

	rc = engine_new(&w->engine, &config, err);
	if (rc != 0)
		return rc;
	w->catalogue = NULL;
	blobs_set_engine(w->blobs, w->engine);
	w->fs.engine = w->engine;
	fs_tree_refresh(&w->fs, catalogue);
	w->fs.notifier = notifier_new(w->session, on_shown, w);
	rc = pthread_create(&w->engine_thread, NULL, engine_main, w);
	if (rc != 0)
		return err_set(err, rc, "cannot start the engine's thread");
	return start_fuse_threads(w, err);
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

/* Readers first: nobody may wait for an engine that is going away. */
static void
stop(struct worker *w)
{
	if (w->blobs != NULL)
		blobs_end(w->blobs);
	if (w->engine_thread != 0) {
		engine_stop(w->engine);
		pthread_join(w->engine_thread, NULL);
	}
	/* Before the FUSE threads: the kernel may be waiting for a lookup while it is told something. */
	notifier_free(w->fs.notifier);
	w->fs.notifier = NULL;
	join_fuse_threads(w);
	/* Its lanes may be telling us what landed. */
	engine_free(w->engine);
	blobs_free(w->blobs);
	ovareads_free(w->fs.ovareads);
	passthrough_free(w->passthrough);
	readahead_free(w->readahead);
	if (w->fs.holder != NULL)
		fs_context_release(&w->fs);
	if (w->session != NULL)
		fuse_session_destroy(w->session);
	catalogue_close(w->catalogue);
	store_close(w->store);
	close_keep_errno(w->ended_fd);
}

int
worker_main(const struct worker_args *args)
{
	struct worker w = { .args = args, .ended_fd = -1 };
	struct err err = { 0 };
	int rc;

	prctl(PR_SET_NAME, "worker");
	w.ended_fd = eventfd(0, EFD_CLOEXEC);
	rc = enter_sandbox(args, &err);
	if (rc == 0)
		rc = open_all(&w, &err);
	if (rc == 0)
		rc = start(&w, &err);
	if (rc == 0) {
		tell(&w, NOTE_READY, NULL);
		wait_for_end(&w);
		log_info("stopping");
	} else {
		log_err(LOG_LVL_ERROR, "start", &err);
		tell(&w, NOTE_FAILED, &err);
	}
	stop(&w);
	return rc == 0 ? 0 : EXIT_FAILURE;
}
