/*
 * vmimagefs: from the command line to a usable mount.
 *
 *   front process   reads options and configuration, says what is wrong with them, waits for the
 *                   daemon's one note, and returns to the shell when the mount answers
 *   daemon          makes directories, takes the lock, the control socket and /dev/fuse, forks the
 *                   keeper with its starter and the runner of event handlers, mounts, and becomes
 *                   the supervisor (supervisor.c)
 *   worker          the same program, executed by the keeper with an argument of our own
 *                   (workermain.c)
 *
 * With -f there is no front process.  Until the mount answers every error goes to stderr of the
 * front process with an exit status; later ones go to the log.
 */
#include "config.h"

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <linux/fuse.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/conf.h"
#include "core/control.h"
#include "core/digest.h"
#include "core/dirs.h"
#include "core/handlers.h"
#include "core/io.h"
#include "core/log.h"
#include "core/runner.h"
#include "core/starter.h"
#include "core/workerstate.h"
#include "connection.h"
#include "keeper.h"
#include "mountpoint.h"
#include "options.h"
#include "shared.h"
#include "supervisor.h"
#include "workermain.h"

/* A daemon whose mount has gone may still be ending: "umount; mount" must work. */
enum { LOCK_SECONDS = 8 };

/* The one note of the daemon to the front process. */
struct front_note {
	int32_t status;			/* exit status */
	char text[ERR_TEXT_MAX + 16];	/* what to say; empty if it serves */
};

/* What a running daemon holds. */
struct daemon {
	const struct options *options;
	struct conf *conf;
	uid_t uid;
	gid_t gid;
	struct mountpoint mountpoint;
	struct connection connection;
	struct shared *shared;
	struct keeper *keeper;
	struct starter *starter;
	struct runner *runner;		/* NULL: no event handlers */
	int lock, supervised;
	int control_socket, shared_fd, board_fd;
	int front;			/* where the note goes; -1: nowhere, or it went */
	bool served;
};

static enum exit_status
status_of(const struct err *err)
{
	if (err->code != CODE_NONE)
		return (enum exit_status)code_exit(err->code);
	switch (-err->rc) {
	case EPERM:
	case EACCES:
		return EXIT_PERMISSION;
	case ENOSPC:
		return EXIT_NO_SPACE;
	default:
		return EXIT_SOME_FAILED;
	}
}

static void
describe(const struct err *err, char *text, size_t room)
{
	if (err->code != CODE_NONE)
		snprintf(text, room, "code %d: %s", (int)err->code, err->text);
	else
		snprintf(text, room, "%s", err->text);
}

static enum exit_status
complain(const struct err *err, enum exit_status status)
{
	char text[ERR_TEXT_MAX + 16];

	describe(err, text, sizeof(text));
	fprintf(stderr, "vmimagefs: %s\n", text);
	return status;
}

/* ---- the daemon ------------------------------------------------------------------------- */

static void
notify_front(struct daemon *d, enum exit_status status, const struct err *err)
{
	struct front_note note;

	if (d->front < 0)
		return;
	memset(&note, 0, sizeof(note));
	note.status = (int32_t)status;
	if (err != NULL)
		describe(err, note.text, sizeof(note.text));
	/* A front process that was killed is no reason to end. */
	if (io_write_all(d->front, &note, sizeof(note)) != 0)
		log_debug("the process that started the mount has gone");
	close(steal_fd(&d->front));
}

static void
on_serving(void *arg)
{
	struct daemon *d = arg;

	d->served = true;
	notify_front(d, EXIT_DONE, NULL);
}

/* A fault after the mount was usable is in the log already. */
static void
tell_failure(struct daemon *d, enum exit_status status, const struct err *err)
{
	if (d->served)
		return;
	if (d->options->foreground)
		complain(err, status);
	else if (!d->conf->log_to_stderr)	/* there the front process says it */
		log_err(LOG_LVL_ERROR, "vmimagefs", err);
	notify_front(d, status, err);
}

/*
 * Only where there may be handlers, now or after a reload.  A site whose event_user cannot be had
 * mounts all the same: its events wait.
 */
static void
start_runner(struct daemon *d)
{
	const struct conf *conf = d->conf;
	struct stat st;
	struct err err;

	if (conf->event_command == NULL &&
	    (conf->event_dir == NULL ||
	     (handlers_dir_is_optional(conf) && stat(conf->event_dir, &st) != 0)))
		return;
	if (runner_new(&d->runner, conf, NULL, &err) != 0)
		log_err(LOG_LVL_ERROR, "event handlers cannot be run", &err);
}

/*
 * A supervisor that ended by itself has taken its note away.  The pid in it says nothing: it may be
 * of another pid namespace, or another's by now.
 */
static bool
was_killed(const void *arg)
{
	const struct conf *conf = arg;
	struct worker_state state;

	return worker_state_read(conf->run_dir, &state) == 0 && !dirs_is_supervised(conf);
}

/*
 * In the order in which nothing has to be undone: the lock comes before whatever another
 * daemon may own.
 */
static int
prepare(struct daemon *d, struct err *err)
{
	const struct conf *conf = d->conf;
	int rc;

	mountpoint_cut_dead(conf->mountpoint, was_killed, conf);	/* before anybody asks it */
	rc = mountpoint_refuse_living(conf->mountpoint, err);	/* before waiting for the lock */
	if (rc == 0)
		rc = dirs_make(conf, d->uid, d->gid, err);
	if (rc == 0)
		rc = dirs_lock(conf, d->uid, d->gid, LOCK_SECONDS, &d->lock, err);
	if (rc == 0)
		rc = dirs_supervise(conf, d->uid, d->gid, &d->supervised, err);
	if (rc == 0)
		rc = mountpoint_check(&d->mountpoint, conf->mountpoint, d->uid, d->gid, err);
	if (rc == 0)
		rc = connection_open(&d->connection, err);
	if (rc == 0) {
		d->control_socket = control_listen(conf, d->uid, d->gid, err);
		rc = d->control_socket < 0 ? d->control_socket : 0;
	}
	if (rc == 0)
		rc = shared_new(&d->shared_fd, &d->shared, err);
	d->board_fd = shared_board_new();
	if (rc == 0)
		rc = keeper_new(&d->keeper, &d->starter, conf, d->options, err);
	if (rc == 0)
		start_runner(d);
	if (rc == 0)
		rc = mountpoint_mount(&d->mountpoint, d->options->source, d->connection.fd,
				      d->options->noexec, err);
	return rc;
}

static void
remove_control_socket(const struct conf *conf)
{
	CLEANUP_FREE char *path = xasprintf("%s/control", conf->run_dir);
	CLEANUP_FREE char *mountpoint = xasprintf("%s/" CONTROL_MOUNTPOINT, conf->run_dir);

	unlink(path);
	unlink(mountpoint);
}

static void
release(struct daemon *d)
{
	if (d->control_socket >= 0)
		remove_control_socket(d->conf);
	runner_free(d->runner);
	keeper_free(d->keeper);
	starter_free(d->starter);
	mountpoint_release(&d->mountpoint);
	connection_release(&d->connection);
	shared_unmap(d->shared);
	close_keep_errno(d->shared_fd);
	close_keep_errno(d->board_fd);
	close_keep_errno(d->supervised);
	close_keep_errno(d->lock);	/* last: now another one may begin */
}

static enum exit_status
run_daemon(const struct options *options, struct conf *conf, uid_t uid, gid_t gid, int front)
{
	struct daemon d = { .options = options, .conf = conf, .uid = uid, .gid = gid, .lock = -1,
			    .supervised = -1, .control_socket = -1, .shared_fd = -1,
			    .board_fd = -1, .front = front,
			    .mountpoint = { .read_ahead = -1, .abort = -1 } };
	enum exit_status status = EXIT_DONE;
	struct err err;
	int rc;

	err_clear(&err);
	connection_init(&d.connection);
	log_open("vmimagefs", !conf->log_to_stderr, conf->log_level);
	log_never_wait();
	log_info("vmimagefs %s starts on '%s'", PACKAGE_VERSION, conf->mountpoint);
	supervisor_block_signals();
	rc = prepare(&d, &err);
	if (rc == 0) {
		struct supervisor_setup setup = {
			.conf = conf, .options = options, .mountpoint = &d.mountpoint,
			.connection = &d.connection, .shared = d.shared, .shared_fd = d.shared_fd,
			.control_socket = d.control_socket, .lock = d.lock, .board_fd = d.board_fd,
			.keeper = d.keeper, .starter = d.starter, .runner = d.runner,
			.uid = uid, .gid = gid,
			.serving = on_serving, .arg = &d,
		};

		rc = supervisor_run(&setup, &err);
	}
	release(&d);
	if (rc != 0) {		/* told when nothing of us is in the way of the next try */
		status = status_of(&err);
		tell_failure(&d, status, &err);
	}
	log_info("ended");
	return status;
}

/* ---- the front process ------------------------------------------------------------------ */

/* A daemon has no terminal; stderr stays where the admin asked for the log there. */
static int
detach(const struct conf *conf)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	bool good;

	if (null < 0)
		return -errno;
	good = setsid() >= 0 && chdir("/") == 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 &&
	       (conf->log_to_stderr || dup2(null, 2) >= 0);
	close(null);
	return good ? 0 : -errno;
}

static enum exit_status
wait_for_daemon(int from)
{
	struct front_note note;
	ssize_t n = io_read_full(from, &note, sizeof(note));

	if (n != (ssize_t)sizeof(note)) {
		fputs("vmimagefs: the daemon ended without a word: see the log, or try -f\n",
		      stderr);
		return EXIT_SOME_FAILED;
	}
	note.text[sizeof(note.text) - 1] = '\0';
	if (note.status != EXIT_DONE)
		fprintf(stderr, "vmimagefs: %s\n", note.text);
	return (enum exit_status)note.status;
}

static enum exit_status
start_daemon(const struct options *options, struct conf *conf, uid_t uid, gid_t gid)
{
	struct err err;
	int ends[2], rc;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) != 0) {
		err_set(&err, errno, "no pipe for the daemon: %s", strerrordesc_np(errno));
		return complain(&err, EXIT_SOME_FAILED);
	}
	pid = fork();
	if (pid < 0) {
		err_set(&err, errno, "no process for the daemon: %s", strerrordesc_np(errno));
		return complain(&err, EXIT_SOME_FAILED);
	}
	if (pid > 0) {
		close(ends[1]);
		return wait_for_daemon(ends[0]);
	}
	close(ends[0]);
	rc = detach(conf);
	if (rc != 0) {
		err_set(&err, -rc, "the daemon cannot detach: %s", strerrordesc_np(-rc));
		return complain(&err, EXIT_SOME_FAILED);
	}
	return run_daemon(options, conf, uid, gid, ends[1]);
}

static enum exit_status
check_only(const struct conf *conf, uid_t uid, gid_t gid)
{
	struct mountpoint m;
	struct err err;
	int rc;

	rc = mountpoint_check(&m, conf->mountpoint, uid, gid, &err);
	mountpoint_release(&m);
	return rc == 0 ? EXIT_DONE : complain(&err, status_of(&err));
}

static enum exit_status
run(const struct options *options)
{
	struct conf *conf = NULL;
	enum exit_status status;
	struct err err;
	uid_t uid;
	gid_t gid;

	if (options_load_conf(options, &conf, &err) != 0)
		return complain(&err, err.rc == -EPERM || err.rc == -EACCES ? EXIT_PERMISSION
									    : EXIT_USAGE);
	if (geteuid() != 0) {
		err_set(&err, EPERM,
			"mounting needs root: run it as root, or from fstab (it becomes '%s' "
			"by itself)",
			conf->user);
		status = complain(&err, EXIT_PERMISSION);
	} else if (conf_ids(conf, &uid, &gid, &err) != 0) {
		status = complain(&err, EXIT_USAGE);
	} else if (options->fake) {
		status = check_only(conf, uid, gid);
	} else if (options->foreground) {
		status = run_daemon(options, conf, uid, gid, -1);
	} else {
		status = start_daemon(options, conf, uid, gid);
	}
	conf_free(conf);
	return status;
}

static enum exit_status
print_version(void)
{
	printf("vmimagefs %s\nlibfuse %s\nFUSE kernel interface %d.%d\n", PACKAGE_VERSION,
	       fuse_pkgversion(), FUSE_KERNEL_VERSION, FUSE_KERNEL_MINOR_VERSION);
	return EXIT_DONE;
}

int
main(int argc, char **argv)
{
	struct options options;
	enum exit_status status;
	struct err err;

	digest_setup();
	/* A file that would become larger than RLIMIT_FSIZE is an error to report. */
	signal(SIGXFSZ, SIG_IGN);
	/* Who ignores it hears of no child that ends; a caller that did passes that on. */
	signal(SIGCHLD, SIG_DFL);
	if (workermain_is_asked(argc, argv))
		return workermain(argc, argv);
	io_fill_std_fds();
	close_range(3, ~0U, 0);	/* a daemon must not hold open what a script had open */
	umask(0022);
	if (options_parse(argc, argv, &options, &err) != 0) {
		status = complain(&err, EXIT_USAGE);
		fputs("usage: vmimagefs [options] [SOURCE] [MOUNTPOINT]; see vmimagefs --help\n",
		      stderr);
	} else if (options.help) {
		options_print_help(stdout);
		status = EXIT_DONE;
	} else if (options.version) {
		status = print_version();
	} else {
		status = run(&options);
	}
	options_release(&options);
	/* /dev/full: what was asked for is not there. */
	if (fflush(stdout) != 0 && status == EXIT_DONE)
		status = EXIT_SOME_FAILED;
	return (int)status;
}
