/*
 * Executing workers.
 *
 *	the supervisor			the keeper			a worker
 *	request START which	->	clone(CLONE_PARENT) ------->	descriptors in their places,
 *	  (+ descriptors)						execveat
 *	answer pid		<-
 *	request ADOPT		->
 *
 * Requests and answers are packets of fixed size; each START is answered at once, with its number.
 * Where nobody waits for an answer any more, the worker finds its other end closed and ends.
 */
#include "config.h"
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/kept.h"
#include "core/log.h"
#include "core/process.h"
#include "note.h"
#include "shared.h"

enum {
	MAGIC = 0x766d6b31,
	ANSWER_MS = 5000,
	FD_PARKED = 32,		/* received descriptors wait above the places they go to */
	SETTINGS = 6,		/* of the configuration, which no reload changes */
};

enum request_kind { REQUEST_START = 1, REQUEST_ADOPT };

struct request {
	uint32_t magic;
	int32_t kind;		/* enum request_kind */
	int32_t which;		/* enum keeper_program */
	uint32_t there;		/* bit n: descriptor n is among those that come with it */
	uint32_t number;
};

struct answer {
	uint32_t magic;
	uint32_t number;	/* of the request */
	int32_t pid;		/* or a negative errno value */
};

struct keeper {			/* the supervisor's side */
	int sock;
	uint32_t number;	/* of the last request */
};

/* What the keeper's process knows. */
struct nursery {
	int sock;
	int good, candidate;	/* programs; the second is -1 when there is none */
	int conf;		/* options_save_conf() */
	char *path;
	char **argv;
	pid_t supervisor;
};

/* ---- the command line of a worker ------------------------------------------------------------ */

static void
add_word(char ***argv, size_t *n, char *word)
{
	*argv = xrealloc(*argv, (*n + 2) * sizeof(**argv));
	(*argv)[(*n)++] = word;
	(*argv)[*n] = NULL;
}

/* -o KEY=VALUE, in which a comma would end the value. */
static void
add_setting(char ***argv, size_t *n, const char *key, const char *value)
{
	struct buf word = BUF_INIT;
	size_t len;

	buf_printf(&word, "%s=", key);
	for (; *value != '\0'; value++) {
		if (*value == ',' || *value == '\\')
			buf_putc(&word, '\\');
		buf_putc(&word, *value);
	}
	add_word(argv, n, xstrdup("-o"));
	add_word(argv, n, buf_steal(&word, &len));
}

/*
 * The same options, absolute, and with the directories spelt out: a worker that begins later may
 * find another configuration, and is to serve the same site.
 */
static char **
make_argv(const struct conf *conf, const struct options *o)
{
	const char *const fixed[SETTINGS][2] = {
		{ "state_dir", conf->state_dir }, { "cache_dir", conf->cache_dir },
		{ "run_dir", conf->run_dir }, { "handler_dir", conf->handler_dir },
		{ "cert_dir", conf->cert_dir }, { "mountpoint", conf->mountpoint },
	};
	char **argv = NULL;
	size_t n = 0;

	add_word(&argv, &n, xstrdup("vmimagefs"));
	add_word(&argv, &n, xasprintf(WORKER_ARGUMENT "%d", WORKER_PROTOCOL));
	if (o->config != NULL)
		add_setting(&argv, &n, "config", o->config);
	if (o->debug)
		add_word(&argv, &n, xstrdup("-d"));
	else if (o->foreground)
		add_word(&argv, &n, xstrdup("-f"));
	if (o->verbose)
		add_word(&argv, &n, xstrdup("-v"));
	if (o->max_threads > 0) {
		add_word(&argv, &n, xstrdup("-o"));
		add_word(&argv, &n, xasprintf("max_threads=%u", o->max_threads));
	}
	for (size_t i = 0; i < o->n_settings; i++)
		add_setting(&argv, &n, o->settings[i].key, o->settings[i].value);
	for (size_t i = 0; i < SETTINGS; i++)
		if (fixed[i][1] != NULL)
			add_setting(&argv, &n, fixed[i][0], fixed[i][1]);
	return argv;
}

/* ---- a worker, before its program ------------------------------------------------------------ */

/* Out of the way of the places that are to be filled. */
static int
park(int fd)
{
	int parked = fcntl(fd, F_DUPFD_CLOEXEC, FD_PARKED);

	if (parked >= 0)
		return parked;
	return errno == EINVAL ? -EMFILE : -errno;	/* the limit is below */
}

static int
place_fds(const int *fds, uint32_t there, int conf)
{
	int parked[N_WORKER_FDS], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	size_t n = 0;

	if (null < 0)
		return -errno;
	for (int i = 0; i < N_WORKER_FDS; i++) {
		int from = (there & 1U << i) != 0 ? fds[n++] : null;

		parked[i] = park(from);
		if (parked[i] < 0)
			return parked[i];
	}
	conf = park(conf);
	if (conf < 0)
		return conf;
	for (int i = 0; i < N_WORKER_FDS; i++)
		if (dup2(parked[i], WORKER_FD_FIRST + i) < 0)
			return -errno;
	return dup2(conf, WORKER_FD_CONF) < 0 ? -errno : 0;
}

/* Who waits for it hears why nothing comes of it; that is more than its status says. */
static void __attribute__((noreturn))
give_up(int notes, int rc)
{
	struct note note;
	struct err err = { 0 };

	err_set(&err, -rc, "the program of the worker cannot be executed: %s",
		strerrordesc_np(-rc));
	log_err(LOG_LVL_ERROR, "keeper", &err);
	note_init(&note, NOTE_FAILED);
	note.rc = rc;
	memcpy(note.text, err.text, sizeof(note.text));
	note_send(notes, &note, -1, false);
	_exit(127);
}

static void __attribute__((noreturn))
become_worker(const struct nursery *n, int program, const int *fds, uint32_t there)
{
	int parked, rc;

	/* A worker alone could not be unmounted by anyone. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != n->supervisor)
		_exit(1);
	prctl(PR_SET_NAME, "vmi-worker");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	parked = park(program);
	rc = parked < 0 ? parked : place_fds(fds, there, n->conf);
	if (rc == 0) {
		execveat(parked, "", n->argv, environ, AT_EMPTY_PATH);
		rc = -errno;
	}
	give_up(fds[WORKER_FD_NOTES], rc);	/* the first, which always comes */
}

/* As fork(), but the child is one of our parent. */
static pid_t
fork_sibling(void)
{
#if defined(__s390__)
	return (pid_t)syscall(SYS_clone, 0, CLONE_PARENT | SIGCHLD, 0, 0, 0);
#else
	return (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
#endif
}

static int
start(struct nursery *n, const struct request *r, const int *fds)
{
	int program = n->good;
	pid_t pid;

	if (r->which == KEEPER_ON_DISK) {
		close_keep_errno(steal_fd(&n->candidate));
		n->candidate = program = open(n->path, O_RDONLY | O_CLOEXEC);
		if (program < 0)
			return -errno;
	}
	pid = fork_sibling();
	if (pid == 0)
		become_worker(n, program, fds, r->there);
	return pid < 0 ? -errno : pid;
}

static void
adopt(struct nursery *n)
{
	if (n->candidate < 0)
		return;
	close(n->good);
	n->good = steal_fd(&n->candidate);
}

/* ---- the keeper ------------------------------------------------------------------------------ */

static bool
is_valid(const struct request *r, ssize_t len, size_t n_fds)
{
	if (len != (ssize_t)sizeof(*r) || r->magic != MAGIC)
		return false;
	if (r->kind == REQUEST_ADOPT)
		return n_fds == 0;
	return r->kind == REQUEST_START && r->there < 1U << N_WORKER_FDS &&
	       (r->there & 1U << WORKER_FD_NOTES) != 0 &&
	       n_fds == (size_t)__builtin_popcount(r->there);
}

static bool
serve(void *arg)
{
	struct nursery *n = arg;
	struct answer answer = { .magic = MAGIC, .pid = -EPROTO };
	int fds[N_WORKER_FDS];
	size_t n_fds = N_WORKER_FDS;
	struct request r = { .kind = 0 };
	ssize_t len = io_recv_fds(n->sock, &r, sizeof(r), fds, &n_fds);

	if (len == -EAGAIN)
		return true;
	if (len <= 0)
		return false;
	if (!is_valid(&r, len, n_fds))
		log_error("keeper: a request that is none of ours is ignored");
	else if (r.kind == REQUEST_ADOPT)
		adopt(n);
	else
		answer.pid = start(n, &r, fds);
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
	answer.number = r.number;
	if (r.kind == REQUEST_START)
		send(n->sock, &answer, sizeof(answer), MSG_DONTWAIT | MSG_NOSIGNAL);
	return true;
}

/* The path without what the kernel adds when the file is no longer there. */
static char *
program_path(void)
{
	static const char deleted[] = " (deleted)";
	char *path = xcalloc(1, PATH_MAX);
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
	size_t end = sizeof(deleted) - 1;

	if (n <= 0) {
		free(path);
		return NULL;
	}
	if ((size_t)n > end && strcmp(path + n - end, deleted) == 0)
		path[(size_t)n - end] = '\0';
	return path;
}

static int
copy_conf(const struct conf *conf)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	CLEANUP_FD int fd = memfd_create("vmimagefs-conf", MFD_CLOEXEC);

	options_save_conf(conf, &text);
	if (fd < 0 || io_write_all(fd, text.data, text.len) != 0)
		return -errno;
	return steal_fd(&fd);
}

static int
plan(struct nursery *n, const struct conf *conf, const struct options *options, struct err *err)
{
	n->path = program_path();
	if (n->path != NULL)
		n->good = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (n->good < 0)
		return err_set(err, errno, "our own program cannot be opened: %s",
			       strerrordesc_np(errno));
	n->conf = copy_conf(conf);
	if (n->conf < 0)
		return err_set(err, -n->conf, "no copy of the configuration: %s",
			       strerrordesc_np(-n->conf));
	n->supervisor = getpid();
	n->argv = make_argv(conf, options);
	return 0;
}

static void
release(struct nursery *n)
{
	for (char **p = n->argv; p != NULL && *p != NULL; p++)
		free(*p);
	free(n->argv);
	free(n->path);
	close_keep_errno(n->good);
	close_keep_errno(n->conf);
	close_keep_errno(n->sock);
}

int
keeper_new(struct keeper **out, struct starter **starter, const struct conf *conf,
	   const struct options *options, struct err *err)
{
	struct nursery n = { .sock = -1, .good = -1, .candidate = -1, .conf = -1 };
	struct kept duty = { .serve = serve, .arg = &n };
	int pair[2], rc;

	*out = NULL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return err_set(err, errno, "no socket for the keeper: %s", strerrordesc_np(errno));
	n.sock = pair[1];
	rc = plan(&n, conf, options, err);
	if (rc == 0) {
		duty.fds[duty.n_fds++] = n.sock;
		duty.fds[duty.n_fds++] = n.good;
		duty.fds[duty.n_fds++] = n.conf;
		rc = starter_new_kept(starter, conf, &duty, err);
	}
	release(&n);
	if (rc != 0) {
		close(pair[0]);
		return rc;
	}
	*out = xcalloc(1, sizeof(**out));
	(*out)->sock = pair[0];
	return 0;
}

/* ---- the supervisor's side ------------------------------------------------------------------- */

void
keeper_free(struct keeper *k)
{
	if (k == NULL)
		return;
	close_keep_errno(k->sock);
	free(k);
}

/* Those that come late are to requests before. */
static int
take_answer(const struct keeper *k, pid_t *pid)
{
	long long end = io_monotonic_ms() + ANSWER_MS;
	struct pollfd polled = { .fd = k->sock, .events = POLLIN };
	struct answer answer;

	do {
		long long left = end - io_monotonic_ms();
		ssize_t n;

		if (left < 0 || poll(&polled, 1, (int)left) <= 0)
			return -ETIMEDOUT;
		n = io_recv_fds(k->sock, &answer, sizeof(answer), NULL, NULL);
		if (n != (ssize_t)sizeof(answer) || answer.magic != MAGIC)
			return n < 0 ? (int)n : -EPIPE;
	} while (answer.number != k->number);
	*pid = answer.pid;
	return answer.pid < 0 ? answer.pid : 0;
}

int
keeper_start(struct keeper *k, enum keeper_program which, const int fds[N_WORKER_FDS],
	     pid_t *pid, struct err *err)
{
	struct request r = { .magic = MAGIC, .kind = REQUEST_START, .which = (int32_t)which };
	int given[N_WORKER_FDS], rc;
	size_t n = 0;

	for (int i = 0; i < N_WORKER_FDS; i++) {
		if (fds[i] < 0)
			continue;
		r.there |= 1U << i;
		given[n++] = fds[i];
	}
	r.number = ++k->number;
	rc = io_send_fds(k->sock, &r, sizeof(r), given, n);
	if (rc == 0)
		rc = take_answer(k, pid);
	if (rc != 0 && which == KEEPER_ON_DISK)
		return err_set(err, -rc, "the new program cannot be started: %s",
			       strerrordesc_np(-rc));
	return rc == 0 ? 0 : err_set(err, -rc, "the worker cannot be started: %s",
				     strerrordesc_np(-rc));
}

void
keeper_adopt(struct keeper *k)
{
	struct request r = { .magic = MAGIC, .kind = REQUEST_ADOPT };
	int rc = io_send_fds(k->sock, &r, sizeof(r), NULL, 0);

	if (rc != 0)
		log_warning("the keeper does not take a note: %s", strerrordesc_np(-rc));
}
