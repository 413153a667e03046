/*
 * The starter process.
 *
 *   us                                   starter                        a child
 *   struct note RUN id program arg  ->   fork ----------------------->  own process group,
 *     (+ descriptors)                                                   descriptors in their
 *   struct note KILL id             ->   kill of its process group      places, execve
 *                                   <-   struct note ENDED id status    (exit)
 *
 * Notes are fixed-size packets on a SOCK_SEQPACKET pair.  Ids are chosen by us, so that nothing
 * has to be waited for: a program that could not be started has ended with status 127.  The
 * starter never blocks in sending: an end that the socket has no room for stays in the table of
 * children until it has, so that neither side can wait for the other.
 *
 * All signals but SIGCHLD are blocked in the starter: a TERM to every process of that name must
 * not take it away from the daemon that still ends in order.  It ends when the socket closes, and
 * its children (PR_SET_PDEATHSIG) end with it however it ends.
 *
 * That of a daemon has a keeper, which holds the socket, too: when the starter is killed, the
 * keeper says LOST and forks another one, which goes on with the requests that it finds there.
 */
#include "config.h"
#include "starter.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "kept.h"
#include "log.h"
#include "process.h"
#include "sandbox.h"

enum {
	N_CHILDREN = 160,	/* fetch_parallel is at most 64, and each may still be ending */
	FDS_PER_CHILD = 2,
	FD_PARKED = 16,		/* received descriptors wait above the places they go to */
	LOST_MS = 5000,		/* the keeper's word waits that long for room */
	SEND_MS = 1000,		/* until a full socket has room */
	GONE_MS = 5000,
	NOTE_MAGIC = 0x53744e31,
};

enum note_kind { NOTE_RUN = 1, NOTE_KILL, NOTE_ENDED, NOTE_LOST };

struct note {
	uint32_t magic;
	int32_t kind;		/* enum note_kind */
	uint32_t id;
	int32_t program;	/* RUN: enum starter_program */
	int32_t arg;		/* RUN */
	int32_t status;		/* ENDED: as waitpid() */
};

struct starter {
	int sock;
	pid_t pid;
	/* Who may wait for it: after a fork there are two of us; 0: nobody. */
	pid_t owner;
	atomic_uint next_id;	/* any thread */
};

struct child {
	uint32_t id;		/* 0: free */
	pid_t pid;
	bool ended;		/* not yet told */
	int status;
};

/* What the starter process knows; it knows nothing else of the configuration. */
struct starting {
	int sock;
	int signals;
	char *libexecdir, *bindir;
	char *conf_file;	/* NULL: built-in places */
	char *cert_dir;		/* the verifier's argument */
	bool change_user;
	uid_t uid;
	gid_t gid;
	const struct kept *duty;	/* of its keeper, or NULL */
	bool peer_gone;
	struct child children[N_CHILDREN];
};

/* ---- in a child, before its program ---------------------------------------------------------- */

static const int fetcher_places[] = { 3 };
static const int verifier_places[] = { 0, 1 };

static size_t
places_of(int32_t program, const int **places)
{
	switch (program) {
	case STARTER_FETCHER:
		*places = fetcher_places;
		return 1;
	case STARTER_VERIFIER:
		*places = verifier_places;
		return 2;
	default:
		*places = NULL;
		return 0;
	}
}

/* 0 and 1 are /dev/null unless they are places; 2 stays; everything above the places is closed. */
static int
arrange_fds(const int *fds, const int *places, size_t n)
{
	int parked[FDS_PER_CHILD], null, top = 2;

	for (size_t i = 0; i < n; i++) {
		parked[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FD_PARKED);
		if (parked[i] < 0)
			return -errno;
	}
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		return -errno;
	for (size_t i = 0; i < n; i++) {
		if (dup2(parked[i], places[i]) < 0)
			return -errno;
		if (places[i] > top)
			top = places[i];
	}
	return process_close_from((unsigned)top + 1);
}

static int
exec_program(const struct starting *s, const struct note *note)
{
	const char *argv[8];
	size_t n = 0;
	CLEANUP_FREE char *path = NULL;

	switch (note->program) {
	case STARTER_FETCHER:
		path = xasprintf("%s/vmimagefs-fetcher", s->libexecdir);
		break;
	case STARTER_VERIFIER:
		path = xasprintf("%s/vmimagefs-verifier", s->libexecdir);
		break;
	default:
		path = xasprintf("%s/vmimagectl", s->bindir);
		break;
	}
	argv[n++] = path;
	if (note->program == STARTER_VERIFIER)
		argv[n++] = s->cert_dir;
	if (note->program == STARTER_UPDATER) {
		if (s->conf_file != NULL) {
			argv[n++] = "-c";
			argv[n++] = s->conf_file;
		}
		argv[n++] = note->arg == STARTER_UPDATE ? "update" : "expire";
		argv[n++] = note->arg == STARTER_UPDATE ? "--quiet" : "--recheck";
		/* What a poll finds again and again is logged once. */
		if (note->arg == STARTER_UPDATE)
			argv[n++] = "--news";
	}
	argv[n] = NULL;
	execv(path, (char *const *)(uintptr_t)argv);
	log_error("'%s' cannot be started: %s", path, strerrordesc_np(errno));
	return -errno;
}

static void __attribute__((noreturn))
become_child(const struct starting *s, const struct note *note, const int *fds, pid_t parent)
{
	const int *places;
	size_t n = places_of(note->program, &places);
	int rc;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)	/* it died before the line above */
		_exit(127);
	process_reset_signals();
	sandbox_clean_environment(sandbox_own_variables);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	rc = arrange_fds(fds, places, n);
	if (rc != 0)
		log_error("descriptors of a child: %s", strerrordesc_np(-rc));
	else
		exec_program(s, note);
	_exit(127);
}

/* ---- the starter ------------------------------------------------------------------------ */

static struct child *
find_child(struct starting *s, uint32_t id)
{
	for (size_t i = 0; i < N_CHILDREN; i++)
		if (s->children[i].id == id)
			return &s->children[i];
	return NULL;
}

static void
run_child(struct starting *s, const struct note *note, const int *fds)
{
	struct child *child = find_child(s, 0);
	pid_t self = getpid(), pid;

	if (child == NULL) {
		struct note ended = { NOTE_MAGIC, NOTE_ENDED, note->id, 0, 0, STARTER_NOT_STARTED };

		log_error("no more than %d programs at once", N_CHILDREN);
		send(s->sock, &ended, sizeof(ended), MSG_DONTWAIT | MSG_NOSIGNAL);
		return;
	}
	pid = fork();
	if (pid == 0)
		become_child(s, note, fds, self);
	if (pid < 0)
		log_error("no process for a program: %s", strerrordesc_np(errno));
	else
		setpgid(pid, pid);	/* also here: a KILL may come before the child's own call */
	child->id = note->id;
	child->pid = pid;
	child->ended = pid < 0;
	child->status = STARTER_NOT_STARTED;
}

static void
kill_child(const struct child *child)
{
	if (child->id == 0 || child->ended)
		return;
	kill(-child->pid, SIGKILL);
	kill(child->pid, SIGKILL);
}

static bool
note_is_valid(const struct note *note, ssize_t len, size_t n_fds)
{
	const int *places;

	if (len != (ssize_t)sizeof(*note) || note->magic != NOTE_MAGIC || note->id == 0)
		return false;
	if (note->kind == NOTE_KILL)
		return n_fds == 0;
	return note->kind == NOTE_RUN && note->program >= STARTER_FETCHER &&
	       note->program <= STARTER_UPDATER && note->arg >= STARTER_UPDATE &&
	       note->arg <= STARTER_RECHECK && n_fds == places_of(note->program, &places);
}

static void
take_note(struct starting *s)
{
	int fds[FDS_PER_CHILD];
	size_t n_fds = FDS_PER_CHILD;
	struct note note;
	struct child *child;
	ssize_t len;

	len = io_recv_fds(s->sock, &note, sizeof(note), fds, &n_fds);
	if (len == -EAGAIN)
		return;
	if (len <= 0) {
		s->peer_gone = true;
		return;
	}
	child = note.id != 0 ? find_child(s, note.id) : NULL;
	if (!note_is_valid(&note, len, n_fds))
		log_error("starter: a request that is none of ours is ignored");
	else if (note.kind == NOTE_RUN && child == NULL)
		run_child(s, &note, fds);
	else if (note.kind == NOTE_KILL && child != NULL)
		kill_child(child);
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
}

static void
collect_ended(struct starting *s)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(s->signals, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < N_CHILDREN; i++) {
			struct child *c = &s->children[i];

			if (c->id != 0 && !c->ended && c->pid == pid) {
				c->ended = true;
				c->status = status;
			}
		}
	}
}

/* Tells of every ended child.  True if the socket had no room for one. */
static bool
tell_ended(struct starting *s)
{
	for (size_t i = 0; i < N_CHILDREN; i++) {
		struct child *c = &s->children[i];
		struct note note = { NOTE_MAGIC, NOTE_ENDED, c->id, 0, 0, c->status };
		ssize_t n;

		if (c->id == 0 || !c->ended)
			continue;
		n = send(s->sock, &note, sizeof(note), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS))
			return true;
		if (n < 0)
			s->peer_gone = true;
		c->id = 0;
	}
	return false;
}

static void
serve(struct starting *s)
{
	bool full = false;

	while (!s->peer_gone) {
		struct pollfd polled[2] = {
			{ .fd = s->sock, .events = (short)(POLLIN | (full ? POLLOUT : 0)) },
			{ .fd = s->signals, .events = POLLIN },
		};

		if (poll(polled, 2, -1) < 0 && errno != EINTR)
			break;
		if (polled[0].revents & (POLLIN | POLLHUP | POLLERR))
			take_note(s);
		if (polled[1].revents & POLLIN)
			collect_ended(s);
		full = tell_ended(s);
	}
	for (size_t i = 0; i < N_CHILDREN; i++)
		kill_child(&s->children[i]);
}

/* Where the programs are: absolute, because the starter works in "/". */
static struct starting *
plan_starting(const struct conf *conf, int sock)
{
	struct starting *s = xcalloc(1, sizeof(*s));
	const char *dir = secure_getenv("VMIMAGEFS_LIBEXECDIR");

	s->sock = sock;
	if (dir != NULL && *dir != '\0') {
		s->libexecdir = realpath(dir, NULL);
		s->bindir = realpath(dir, NULL);
	}
	if (s->libexecdir == NULL)
		s->libexecdir = xstrdup(LIBEXECDIR);
	if (s->bindir == NULL)
		s->bindir = xstrdup(BINDIR);
	s->cert_dir = xstrdup(conf->cert_dir);
	if (conf->file != NULL && strcmp(conf->file, CONF_DEFAULT_FILE) != 0) {
		s->conf_file = realpath(conf->file, NULL);
		if (s->conf_file == NULL)
			s->conf_file = xstrdup(conf->file);
	}
	return s;
}

static void
free_starting(struct starting *s)
{
	free(s->libexecdir);
	free(s->bindir);
	free(s->cert_dir);
	free(s->conf_file);
	free(s);
}

static int
settle(struct starting *s, struct err *err)
{
	sigset_t child;
	unsigned missing;
	int rc;

	prctl(PR_SET_NAME, "vmi-starter");
	process_block_signals();
	rc = process_close_inherited(s->sock);
	if (rc != 0)
		return err_set(err, -rc, "close_range: %s", strerrordesc_np(-rc));
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	s->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0 || chdir("/") != 0)
		return err_set(err, errno, "signalfd or chdir: %s", strerrordesc_np(errno));
	rc = s->change_user ? sandbox_become_user(s->uid, s->gid, err) : 0;
	if (rc == 0)
		rc = sandbox_enter(SANDBOX_STARTER, NULL, 0, &missing, err);
	return rc;
}

static int
starter_main(void *arg)
{
	struct starting *s = arg;
	struct err err;
	int rc;

	rc = settle(s, &err);
	if (rc != 0)
		log_err(LOG_LVL_ERROR, "starter", &err);
	else
		serve(s);
	free_starting(s);
	return rc == 0 ? 0 : 1;
}

/* ---- its keeper ------------------------------------------------------------------------- */

static void
tell_lost(void *arg)
{
	const struct starting *s = arg;
	struct note note = { NOTE_MAGIC, NOTE_LOST, STARTER_ALL, 0, 0, SIGKILL };
	struct pollfd polled = { .fd = s->sock, .events = POLLOUT };

	if (poll(&polled, 1, LOST_MS) > 0)
		send(s->sock, &note, sizeof(note), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool
serve_duty(void *arg)
{
	const struct starting *s = arg;

	return s->duty->serve(s->duty->arg);
}

static int
keeper_main(struct starting *s)
{
	struct kept kept = { .name = "starter", .run = starter_main, .lost = tell_lost, .arg = s };
	unsigned missing;
	struct err err;
	int rc;

	if (s->duty != NULL) {
		kept.serve = serve_duty;
		for (; kept.n_fds < s->duty->n_fds; kept.n_fds++)
			kept.fds[kept.n_fds] = s->duty->fds[kept.n_fds];
	}
	kept.fds[kept.n_fds++] = s->sock;
	rc = s->change_user ? sandbox_become_user(s->uid, s->gid, &err) : 0;
	if (rc == 0)
		rc = sandbox_enter(SANDBOX_STARTER, NULL, 0, &missing, &err);
	if (rc != 0) {
		log_err(LOG_LVL_ERROR, "the keeper of the starter", &err);
		return 1;
	}
	return kept_main(&kept);
}

/* ---- our side --------------------------------------------------------------------------- */

static struct starter *
make_starter(int sock, pid_t pid, uint32_t first_id)
{
	struct starter *s = xcalloc(1, sizeof(*s));

	s->sock = sock;
	s->pid = pid;
	s->owner = pid > 0 ? getpid() : 0;
	atomic_init(&s->next_id, first_id);
	return s;
}

/* In the child: whichever of the two it is to be. */
static void __attribute__((noreturn))
become_starter(struct starting *plan, bool kept)
{
	_exit(kept ? keeper_main(plan) : starter_main(plan));
}

static int
fork_starter(struct starter **out, const struct conf *conf, bool kept, const struct kept *duty,
	     struct err *err)
{
	bool change_user = geteuid() == 0;
	struct starting *plan;
	uid_t uid = 0;
	gid_t gid = 0;
	int pair[2], rc;
	pid_t pid;

	*out = NULL;
	if (change_user) {
		rc = conf_ids(conf, &uid, &gid, err);
		if (rc != 0)
			return rc;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return err_set(err, errno, "no socket for the starter: %s", strerrordesc_np(errno));
	plan = plan_starting(conf, pair[1]);
	plan->change_user = change_user;
	plan->uid = uid;
	plan->gid = gid;
	plan->duty = duty;
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		become_starter(plan, kept);
	}
	rc = pid < 0 ? errno : 0;
	free_starting(plan);
	close(pair[1]);
	if (rc != 0) {
		close(pair[0]);
		return err_set(err, rc, "no process for the starter: %s", strerrordesc_np(rc));
	}
	*out = make_starter(pair[0], pid, 1);
	return 0;
}

int
starter_new(struct starter **out, const struct conf *conf, struct err *err)
{
	return fork_starter(out, conf, false, NULL, err);
}

int
starter_new_kept(struct starter **out, const struct conf *conf, const struct kept *duty,
		 struct err *err)
{
	return fork_starter(out, conf, true, duty, err);
}

/* The ids of the one before us may still be in use: ours begin anywhere. */
struct starter *
starter_adopt(int sock)
{
	uint32_t first = 0;

	if (getrandom(&first, sizeof(first), GRND_NONBLOCK) != (ssize_t)sizeof(first))
		first = (uint32_t)io_monotonic_ms();
	return make_starter(sock, 0, first);
}

pid_t
starter_pid(const struct starter *s)
{
	return s->pid;
}

void
starter_free(struct starter *s)
{
	if (s == NULL)
		return;
	close(s->sock);
	/* It has nothing that anybody waits for. */
	if (s->owner == getpid() && !process_wait(s->pid, GONE_MS, NULL))
		log_error("the starter does not end, and is left to itself");
	free(s);
}

/*
 * Our end is non-blocking for starter_reap(); a full socket is waited for here, but not for ever: a
 * starter that is stopped does not read.  A note is one packet, whole or not at all, so that
 * threads need no lock.
 */
static int
send_note(const struct starter *s, const struct note *note, const int *fds, size_t n_fds)
{
	return io_send_fds_wait(s->sock, note, sizeof(*note), fds, n_fds, SEND_MS);
}

int
starter_run(struct starter *s, enum starter_program program, int arg, const int *fds, size_t n_fds,
	    uint32_t *id, struct err *err)
{
	struct note note = { NOTE_MAGIC, NOTE_RUN, 0, (int32_t)program, arg, 0 };
	const int *places;
	size_t wanted = places_of((int32_t)program, &places);
	int rc;

	assert(n_fds == wanted);
	(void)wanted;
	do
		note.id = atomic_fetch_add(&s->next_id, 1);
	while (note.id == 0 || note.id == STARTER_ALL);
	rc = send_note(s, &note, fds, n_fds);
	if (rc != 0)
		return err_set(err, -rc, "the starter process does not answer: %s",
			       strerrordesc_np(-rc));
	*id = note.id;
	return 0;
}

void
starter_kill(struct starter *s, uint32_t id)
{
	struct note note = { NOTE_MAGIC, NOTE_KILL, id, 0, 0, 0 };

	send_note(s, &note, NULL, 0);
}

int
starter_fd(const struct starter *s)
{
	return s->sock;
}

int
starter_reap(struct starter *s, uint32_t *id, int *status)
{
	struct note note;
	ssize_t n;

	n = io_recv_fds(s->sock, &note, sizeof(note), NULL, NULL);
	if (n == -EAGAIN)
		return 0;
	if (n < 0)
		return (int)n;
	if (n == 0)
		return -EPIPE;
	if (n != (ssize_t)sizeof(note) || note.magic != NOTE_MAGIC ||
	    (note.kind != NOTE_ENDED && note.kind != NOTE_LOST))
		return -EPROTO;
	*id = note.id;
	*status = note.status;
	return 1;
}
