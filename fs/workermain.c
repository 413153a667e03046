#include "config.h"
#include "workermain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/code.h"
#include "core/handlers.h"
#include "core/io.h"
#include "core/limits.h"
#include "core/log.h"
#include "core/sandbox.h"
#include "keeper.h"
#include "note.h"
#include "options.h"
#include "shared.h"
#include "supervisor.h"
#include "worker.h"

bool
workermain_is_asked(int argc, char *const *argv)
{
	return argc > 1 && strncmp(argv[1], WORKER_ARGUMENT, strlen(WORKER_ARGUMENT)) == 0;
}

static int
worker_fd(enum worker_fd which)
{
	return WORKER_FD_FIRST + (int)which;
}

/* /dev/null stands for what there is not. */
static int
optional_fd(enum worker_fd which)
{
	struct stat st, null;
	int fd = worker_fd(which);

	if (fstat(fd, &st) != 0 || (S_ISCHR(st.st_mode) && stat("/dev/null", &null) == 0 &&
				    st.st_rdev == null.st_rdev))
		return -1;
	return fd;
}

/* A person who tries the argument has no such descriptors. */
static bool
was_started_by_keeper(const char *argument)
{
	struct stat st;

	for (int fd = WORKER_FD_FIRST; fd <= WORKER_FD_CONF; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
			return false;
	return fstat(worker_fd(WORKER_FD_NOTES), &st) == 0 && S_ISSOCK(st.st_mode) &&
	       strtol(argument + strlen(WORKER_ARGUMENT), NULL, 10) == WORKER_PROTOCOL;
}

static int
refuse(const struct err *err)
{
	struct note note;

	log_err(LOG_LVL_ERROR, "worker", err);
	note_init(&note, NOTE_FAILED);
	note.rc = err->rc;
	note.code = (int32_t)err->code;
	memcpy(note.text, err->text, sizeof(note.text));
	note_send(worker_fd(WORKER_FD_NOTES), &note, -1, false);
	return EXIT_FAILURE;
}

static int
run(const struct options *options, const struct conf *conf)
{
	struct worker_args args = {
		.conf = conf, .options = options,
		.control_socket = worker_fd(WORKER_FD_CONTROL),
		.supervisor_socket = worker_fd(WORKER_FD_NOTES),
		.read_ahead = optional_fd(WORKER_FD_READ_AHEAD),
		.event_uid = handlers_owner(conf),
		.max_threads = options->max_threads, .debug = options->debug,
	};
	struct err err = { 0 };
	int status, runner = optional_fd(WORKER_FD_RUNNER);

	if (shared_map(worker_fd(WORKER_FD_SHARED), &args.shared, &err) != 0)
		return refuse(&err);
	shared_board_use(optional_fd(WORKER_FD_BOARD));
	args.starter = starter_adopt(worker_fd(WORKER_FD_STARTER));
	args.runner_socket = runner;
	status = worker_main(&args);
	starter_free(args.starter);
	shared_unmap(args.shared);
	return status;
}

/* A reload needs to know, too, which file was named. */
static void
clean_environment(void)
{
	static const char name[] = "VMIMAGEFS_CONFIG";
	CLEANUP_FREE char *config = xstrdup(secure_getenv(name));

	sandbox_clean_environment(sandbox_own_variables);
	if (config != NULL)
		setenv(name, config, 1);
}

/*
 * The configuration of now, or, if it cannot be had, that of the start: what an admin is writing
 * just now, or keeps to himself, must not end the mount.
 */
static int
load_conf(const struct options *options, struct conf **conf, struct err *why)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err err = { 0 };

	if (options_load_conf(options, conf, why) == 0)
		return 0;
	if (lseek(WORKER_FD_CONF, 0, SEEK_SET) != 0 ||
	    io_read_to_end(WORKER_FD_CONF, LIMIT_CONFIG_BYTES, &text) != 0 ||
	    options_load_saved(text.data, conf, &err) != 0)
		return why->rc;
	return 0;
}

int
workermain(int argc, char **argv)
{
	struct options options = { 0 };
	struct conf *conf = NULL;
	struct err err = { 0 };
	int status;

	if (!was_started_by_keeper(argv[1])) {
		fputs("vmimagefs: " WORKER_ARGUMENT "N is how vmimagefs starts its own worker\n",
		      stderr);
		return EXIT_USAGE;
	}
	prctl(PR_SET_NAME, "vmi-worker");
	umask(0022);
	supervisor_block_signals();
	/* The argument that is ours alone is where the name stands for getopt(). */
	if (options_parse(argc - 1, argv + 1, &options, &err) != 0 ||
	    load_conf(&options, &conf, &err) != 0) {
		log_open("vmimagefs", true, LOG_LVL_INFO);
		status = refuse(&err);
	} else {
		log_open("vmimagefs", !conf->log_to_stderr, conf->log_level);
		log_never_wait();
		log_debug("worker %s begins", PACKAGE_VERSION);
		if (err.rc != 0)
			log_err(LOG_LVL_WARNING, "the configuration of the start goes on", &err);
		clean_environment();
		status = run(&options, conf);
	}
	conf_free(conf);
	options_release(&options);
	return status;
}
