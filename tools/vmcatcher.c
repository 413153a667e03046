/*
 * vmcatcher.c - the process that answers to a name of vmcatcher's.
 *
 *   process    descriptors, no core dump, SIGPIPE off, secrets in arguments overwritten
 *   options    and the variables that stand for them; --help and --version end here
 *   store      -d or VMCATCHER_RDBMS to a configuration (vmcatcher_db.c); one that is not there is
 *              made
 *   runner     of -x, forked while we are still the caller, with the caller's environment
 *   environment emptied; from here on we are vmimagectl with another way to speak
 *   command    opens the catalogue, does its work, fills v->out
 *
 * What a command says goes to standard error as Python's logging writes it by default; wrappers of
 * sites look for these lines.  Text from outside is escaped in them.
 */
#include "config.h"
#include "vmcatcher.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "argsecret.h"
#include "core/cleanup.h"
#include "core/io.h"
#include "core/log.h"
#include "core/sandbox.h"

enum {
	MAX_ARGUMENT = 4096,	/* as vmimagectl: longer than anything that could be meant */
	USAGE_STATUS = 2,	/* optparse's */
};

static const struct {
	const char *name;
	int (*run)(struct vmc *v);
} commands[] = {
	{ "vmcatcher_endorser", vmc_endorser },
	{ "vmcatcher_subscribe", vmc_subscribe },
	{ "vmcatcher_image", vmc_image },
	{ "vmcatcher_cache", vmc_cache },
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

/* N_COMMANDS if it is none. */
static size_t
find_command(const char *argv0)
{
	const char *slash = argv0 != NULL ? strrchr(argv0, '/') : NULL;
	const char *name = slash != NULL ? slash + 1 : argv0;
	size_t i;

	for (i = 0; name != NULL && i < N_COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return i;
	return N_COMMANDS;
}

bool
vmc_is_name(const char *argv0)
{
	return find_command(argv0) < N_COMMANDS;
}

/* ---- options --------------------------------------------------------------------------------- */

bool
vmc_flag(const struct vmc *v, const char *option)
{
	const struct vmc_given *g = vmc_options_find(&v->options, option);

	return g != NULL &&
	       (g->n > 0 || (g->variable != NULL && strcmp(g->variable, "1") == 0));
}

const char *
vmc_value(const struct vmc *v, const char *option)
{
	const struct vmc_given *g = vmc_options_find(&v->options, option);

	if (g == NULL)
		return NULL;
	if (g->n > 0 && *g->at[g->n - 1] != '\0')
		return g->at[g->n - 1];
	return g->variable != NULL && *g->variable != '\0' ? g->variable : NULL;
}

struct vmc_values
vmc_values(const struct vmc *v, const char *option)
{
	const struct vmc_given *g = vmc_options_find(&v->options, option);

	return g != NULL ? (struct vmc_values){ g->at, g->n } : (struct vmc_values){ NULL, 0 };
}

const char *
vmc_one_action(const struct vmc *v, const char *const *actions)
{
	const char *chosen = NULL;

	for (size_t i = 0; actions[i] != NULL; i++) {
		if (!vmc_flag(v, actions[i]))
			continue;
		if (chosen != NULL) {
			vmc_log(v, VMC_ERROR, "main", "More than one action selected.");
			return NULL;
		}
		chosen = actions[i];
	}
	if (chosen == NULL)
		vmc_log(v, VMC_ERROR, "main", "No actions selected");
	return chosen;
}

/* ---- saying ---------------------------------------------------------------------------------- */

static const char *
level_name(enum vmc_level level)
{
	switch (level) {
	case VMC_DEBUG:
		return "DEBUG";
	case VMC_INFO:
		return "INFO";
	case VMC_WARNING:
		return "WARNING";
	case VMC_ERROR:
		return "ERROR";
	case VMC_CRITICAL:
		return "CRITICAL";
	}
	return "";
}

/* What is between "://" and '@' becomes three asterisks, wherever in the text it stands. */
static void
hide_userinfo(char *text)
{
	while ((text = strstr(text, "://")) != NULL) {
		size_t len = strcspn(text += 3, "/?#' \t\n");
		char *at = memrchr(text, '@', len);
		size_t n = at != NULL && at - text < 3 ? (size_t)(at - text) : 3;

		if (at == NULL)
			continue;
		memset(text, '*', n);
		memmove(text + n, at, strlen(at) + 1);
	}
}

void
vmc_log(const struct vmc *v, enum vmc_level level, const char *logger, const char *fmt, ...)
{
	CLEANUP_BUF struct buf line = BUF_INIT;
	char *text = NULL;
	va_list ap;

	if (level < v->level)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		out_of_memory();
	va_end(ap);
	hide_userinfo(text);
	buf_printf(&line, "%s:%s:", level_name(level), logger);
	output_add_foreign(&line, text);
	buf_putc(&line, '\n');
	free(text);
	/* Standard error is the last resort: nobody can be told that it is closed. */
	(void)io_write_all(STDERR_FILENO, line.data, line.len);
}

int
vmc_fail(const struct vmc *v, const char *logger, const struct err *err)
{
	/* What went wrong is the output alone: that is said at the end. */
	if (err->rc == 0 && v->write_error != 0)
		return 1;
	if (err->code != CODE_NONE)
		vmc_log(v, VMC_ERROR, logger, "%s (code %d)", err->text, (int)err->code);
	else
		vmc_log(v, VMC_ERROR, logger, "%s", err->text);
	return vmc_status(err);
}

int
vmc_status(const struct err *err)
{
	switch (err->code) {
	case CODE_NONE:
	case CODE_FULL:
	case CODE_BUSY:
		return 1;
	/* What vmcatcher could not know, as the step in which it would have failed. */
	case CODE_BLOCK_DIGEST:
	case CODE_SIZE:
	case CODE_DIGEST:
	case CODE_TOO_MUCH:
	case CODE_SLOW:
	case CODE_RANGE:
		return CODE_DOWNLOAD;
	case CODE_WEAK:
	case CODE_CRL:
	case CODE_NAMESPACE:
		return CODE_SIGNATURE;
	case CODE_JSON_STRICT:
		return CODE_JSON;
	case CODE_LIMIT:
	case CODE_IDENTIFIER:
		return CODE_NOT_LIST;
	case CODE_CORRUPT:
		return CODE_DATABASE;
	case CODE_CLOCK:
		return CODE_FUTURE;
	case CODE_DOWNLOAD:
	case CODE_SIGNATURE:
	case CODE_DN:
	case CODE_NOT_LINKED:
	case CODE_NO_ANCHORS:
	case CODE_DATABASE:
	case CODE_SAME_VERSION:
	case CODE_LOWER_VERSION:
	case CODE_LIST_ID:
	case CODE_NEW_IMAGE:
	case CODE_FUTURE:
	case CODE_EXPIRED:
	case CODE_JSON:
	case CODE_NOT_LIST:
		return (int)err->code;
	}
	return 1;
}

static int
usage(const struct vmc *v, const char *why)
{
	CLEANUP_BUF struct buf text = BUF_INIT;

	buf_printf(&text, "Usage: %s [options]\n\n%s: error: ", v->name, v->name);
	output_add_foreign(&text, why);
	buf_putc(&text, '\n');
	(void)io_write_all(STDERR_FILENO, text.data, text.len);
	return USAGE_STATUS;
}

/* ---- preparing ------------------------------------------------------------------------------- */

static void
prepare_process(struct vmc *v)
{
	static const struct rlimit no_core = { 0, 0 };

	io_fill_std_fds();
	/* The passwords of private lists pass through here. */
	setrlimit(RLIMIT_CORE, &no_core);
	/* A reader that goes away is an error to report, not a reason to die half-way. */
	signal(SIGPIPE, SIG_IGN);
	/* So is a file that would become larger than RLIMIT_FSIZE. */
	signal(SIGXFSZ, SIG_IGN);
	/* Who ignores it hears of no child that ends; a caller that did passes that on. */
	signal(SIGCHLD, SIG_DFL);
	v->ctl.umask = umask(0027);
}

static void
clean_environment(void)
{
	static const char *const keep[] = {
		"VMIMAGEFS_CONFIG", "VMIMAGEFS_LIBEXECDIR",
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
		"ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS",
#endif
		NULL
	};

	sandbox_clean_environment(keep);
}

static char *
check_arguments(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strlen(argv[i]) > MAX_ARGUMENT)
			return xasprintf("argument %d is longer than %d bytes", i, MAX_ARGUMENT);
		if (!output_is_utf8(argv[i]))
			return xasprintf("argument %d is not UTF-8", i);
	}
	return NULL;
}

/* 0, or the exit status when everything has been said. */
static int
take_options(struct vmc *v, int argc, char **argv, bool *done)
{
	CLEANUP_FREE char *why = check_arguments(argc, argv);
	enum vmc_parsed parsed = VMC_WRONG;

	*done = true;
	if (why == NULL)
		parsed = vmc_options_parse(&v->options, v->name, argc, argv, &why);
	switch (parsed) {
	case VMC_WRONG:
		return usage(v, why);
	case VMC_ASKED_HELP:
		vmc_options_help(v->name, &v->out);
		return 0;
	case VMC_ASKED_VERSION:
		buf_printf(&v->out, "%s %s\n", v->name, VMC_VERSION);
		return 0;
	case VMC_PARSED:
		*done = false;
	}
	return 0;
}

/* WARNING, one step down for each -v, up for each -q. */
static void
take_level(struct vmc *v)
{
	static const enum vmc_level levels[] = { VMC_DEBUG, VMC_INFO, VMC_WARNING, VMC_ERROR,
						 VMC_CRITICAL };
	size_t up = vmc_values(v, "quiet").n, down = vmc_values(v, "verbose").n, at = 2;

	at = at + up > down ? at + up - down : 0;
	v->level = levels[at < 4 ? at : 4];
	v->ctl.out.verbosity = v->level > VMC_WARNING ? -1 : 0;
	v->ctl.out.lead = "WARNING:main:";
}

static bool
take_log_config(const struct vmc *v)
{
	const char *file = vmc_value(v, "log-config");
	struct stat st;

	if (file == NULL)
		return true;
	if (stat(file, &st) != 0 || !S_ISREG(st.st_mode)) {
		vmc_log(v, VMC_ERROR, "main", "Logfile configuration file '%s' was not found.",
			file);
		return false;
	}
	vmc_log(v, VMC_WARNING, "main", "Logfile configuration file '%s' is not used:"
		" lines go to standard error", file);
	return true;
}

static bool
take_format(struct vmc *v)
{
	static const char *const names[] = { "lines", "json", "message", "SMIME" };
	const char *name = vmc_value(v, "format");

	if (name == NULL)
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i], name) == 0) {
			v->format = (enum vmc_format)i;
			return true;
		}
	}
	vmc_log(v, VMC_ERROR, "main", "Invalid format '%s' allowed formats are"
		" 'SMIME', 'json', 'lines', 'message'", name);
	return false;
}

static int
take_cert_dir(struct vmc *v, struct err *err)
{
	const char *dir = vmc_value(v, "cert-dir");

	if (dir == NULL)
		return 0;
	v->cert_dir = realpath(dir, NULL);
	return v->cert_dir != NULL ? 0 : err_set(err, errno, "certificate directory '%s': %s", dir,
						 strerrordesc_np(errno));
}

/* Handlers have the umask of who called us, too: their spool files are read by others. */
static int
start_runner(struct vmc *v, struct err *err)
{
	mode_t ours = umask(v->ctl.umask);
	int rc = runner_new(&v->runner, v->ctl.conf, vmc_value(v, "execute"), err);

	umask(ours);
	return rc;
}

/* Handlers are told of what a run of the cache or an update does; other actions have none. */
static bool
wants_runner(const struct vmc *v)
{
	return vmc_value(v, "execute") != NULL &&
	       (strcmp(v->name, "vmcatcher_cache") == 0 || vmc_flag(v, "update"));
}

static int
choose_store(struct vmc *v, struct err *err)
{
	int rc = take_cert_dir(v, err);

	if (rc == 0)
		rc = vmc_choose(v, err);
	if (rc == 0 && v->cert_dir != NULL)
		rc = conf_set(v->ctl.conf, "cert_dir", v->cert_dir, "--cert-dir", err);
	if (rc == 0)
		rc = conf_check(v->ctl.conf, err);
	if (rc != 0)
		return rc;
	log_open(v->name, !v->ctl.conf->log_to_stderr, v->ctl.conf->log_level);
	if (v->ctl.conf->log_to_stderr && v->ctl.conf->log_level > LOG_LVL_WARNING &&
	    v->level > VMC_DEBUG)
		log_set_level(LOG_LVL_WARNING);
	return wants_runner(v) ? start_runner(v, err) : 0;
}

/* ---- running --------------------------------------------------------------------------------- */

static int
run(struct vmc *v, int (*command)(struct vmc *v), int argc, char **argv)
{
	struct err err = { 0 };
	bool done;
	int status = take_options(v, argc, argv, &done);

	if (done)
		return status;
	take_level(v);
	if (!take_log_config(v) || !take_format(v))
		return 1;
	if (choose_store(v, &err) != 0)
		return vmc_fail(v, "main", &err);
	clean_environment();
	status = command(v);
	ctl_close(&v->ctl);
	return status;
}

static void
release(struct vmc *v)
{
	runner_free(v->runner);
	vmc_options_release(&v->options);
	for (size_t i = 0; i < v->n_outputs; i++)
		close_keep_errno(v->outputs[i]);
	free(v->outputs);
	free(v->cert_dir);
	free(v->database);
	free(v->import);
	free(v->home);
	buf_release(&v->out);
	buf_release(&v->json_text);
}

int
vmc_main(int argc, char **argv)
{
	size_t i = find_command(argv[0]);
	struct vmc v = { .name = commands[i].name, .level = VMC_WARNING };
	int status;

	argsecret_hide(argc, argv);
	prepare_process(&v);
	output_init(&v.ctl.out);
	status = run(&v, commands[i].run, argc, argv);
	vmc_flush(&v);
	if (v.write_error != 0) {
		vmc_log(&v, VMC_ERROR, "main", "cannot write the output: %s; what was to be changed"
			" has been changed", strerrordesc_np(v.write_error));
		status = status == 0 ? 1 : status;
	}
	conf_free(v.ctl.conf);
	output_end(&v.ctl.out);
	release(&v);
	return status;
}
