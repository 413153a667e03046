/*
 * The threads block in read(/dev/fuse); to stop them they are sent a signal that does nothing but
 * interrupt the read, again and again until each has seen that it is to end.
 */
#define FUSE_USE_VERSION 312

#include "config.h"
#include "fs/fusethreads.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "core/buf.h"
#include "fs/handles.h"

enum { READERS_MIN = 4, READERS_MAX = 64, KICK_SIGNAL = SIGURG, KICK_NS = 1000000 };

/* The first bytes of every request (linux/fuse.h). */
enum { OPCODE_OPEN = 14, OPCODE_RELEASE = 18 };
struct request_head {
	uint32_t len, opcode;
	uint64_t unique;
};

struct fusethreads {
	struct fuse_session *session;
	struct handles *handles;
	void (*ended)(void *arg);
	void *arg;
	atomic_bool stop;
	atomic_uint n_waiting, n_finished;
	unsigned finished_before;	/* of fusethreads_answer() */
	unsigned n;
	pthread_t threads[];
};

unsigned
fusethreads_count(unsigned wanted)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = cores > 0 ? (unsigned)cores * 2 : READERS_MIN;

	if (n < READERS_MIN)
		n = READERS_MIN;
	if (n > READERS_MAX)
		n = READERS_MAX;
	return wanted > 0 ? wanted : n + FUSETHREADS_SPARE;
}

/* Opens and releases are counted where the next worker finds them. */
static void
process(struct fusethreads *t, struct fuse_buf *buf)
{
	struct request_head head = { 0 };

	if (buf->size >= sizeof(head) && (buf->flags & FUSE_BUF_IS_FD) == 0)
		memcpy(&head, buf->mem, sizeof(head));
	if (head.opcode != OPCODE_OPEN && head.opcode != OPCODE_RELEASE) {
		fuse_session_process_buf(t->session, buf);
		return;
	}
	handles_begin(t->handles, head.unique);
	fuse_session_process_buf(t->session, buf);
	handles_end(t->handles);
}

static void *
thread_main(void *arg)
{
	struct fusethreads *t = arg;
	struct fuse_buf buf = { 0 };

	prctl(PR_SET_NAME, "fuse");
	while (!atomic_load(&t->stop) && !fuse_session_exited(t->session)) {
		int n;

		atomic_fetch_add(&t->n_waiting, 1);
		n = fuse_session_receive_buf(t->session, &buf);
		atomic_fetch_sub(&t->n_waiting, 1);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			break;
		process(t, &buf);
		atomic_fetch_add(&t->n_finished, 1);
	}
	free(buf.mem);
	if (!atomic_load(&t->stop))
		t->ended(t->arg);
	return NULL;
}

static void
on_kick(int sig)
{
	(void)sig;
}

/* Threads are made with every signal blocked but the one that interrupts their read. */
int
fusethreads_start(struct fusethreads **out, unsigned n, struct fuse_session *session,
		  struct handles *handles, void (*ended)(void *arg), void *arg, struct err *err)
{
	struct fusethreads *t = xcalloc(1, sizeof(*t) + n * sizeof(t->threads[0]));
	struct sigaction act = { .sa_handler = on_kick };
	sigset_t kick, old;
	int rc = 0;

	t->session = session;
	t->handles = handles;
	t->ended = ended;
	t->arg = arg;
	sigaction(KICK_SIGNAL, &act, NULL);
	sigfillset(&kick);
	sigdelset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &kick, &old);
	while (rc == 0 && t->n < n) {
		rc = pthread_create(&t->threads[t->n], NULL, thread_main, t);
		t->n += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	*out = t;
	return rc == 0 ? 0 : err_set(err, rc, "cannot start the FUSE threads");
}

bool
fusethreads_answer(struct fusethreads *t)
{
	unsigned finished = atomic_load(&t->n_finished);
	bool moves = finished != t->finished_before;

	t->finished_before = finished;
	return moves || atomic_load(&t->n_waiting) > 0;
}

/*
 * A signal that arrives just before the read is lost: repeat until it has ended.  (Not with
 * pthread_clockjoin_np(), which ThreadSanitizer does not know.)
 */
static void
kick(pthread_t thread)
{
	const struct timespec pause = { .tv_nsec = KICK_NS };

	while (pthread_tryjoin_np(thread, NULL) != 0) {
		pthread_kill(thread, KICK_SIGNAL);
		nanosleep(&pause, NULL);
	}
}

void
fusethreads_stop(struct fusethreads *t)
{
	if (t == NULL)
		return;
	atomic_store(&t->stop, true);
	for (unsigned i = 0; i < t->n; i++)
		pthread_kill(t->threads[i], KICK_SIGNAL);
	for (unsigned i = 0; i < t->n; i++)
		kick(t->threads[i]);
	free(t);
}
