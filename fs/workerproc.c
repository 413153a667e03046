#include "config.h"
#include "workerproc.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/io.h"
#include "core/log.h"

void
workerproc_init(struct workerproc *p)
{
	memset(p, 0, sizeof(*p));
	p->notes = -1;
}

int
workerproc_start(struct workerproc *p, struct keeper *keeper, enum keeper_program which,
		 const int fds[N_WORKER_FDS], struct err *err)
{
	int all[N_WORKER_FDS], pair[2], rc;

	workerproc_init(p);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set(err, errno, "no socket for the worker: %s",
			       strerrordesc_np(errno));
	memcpy(all, fds, sizeof(all));
	all[WORKER_FD_NOTES] = pair[1];
	rc = keeper_start(keeper, which, all, &p->pid, err);
	close(pair[1]);
	if (rc != 0) {
		close(pair[0]);
		workerproc_init(p);
		return rc;
	}
	p->notes = pair[0];
	p->on_disk = which == KEEPER_ON_DISK;
	workerproc_enter(p, PROC_LOADING);
	return 0;
}

void
workerproc_enter(struct workerproc *p, enum workerproc_step step)
{
	p->step = step;
	p->since = io_monotonic_ms();
	if (step == PROC_PREPARING)
		p->turn_at = p->since;
}

void
workerproc_send(const struct workerproc *p, const struct note *note, int fd)
{
	int rc = p->notes >= 0 ? note_send(p->notes, note, fd, false) : 0;

	if (rc < 0 && rc != -EPIPE)
		log_warning("the worker does not take a note: %s", strerrordesc_np(-rc));
}

void
workerproc_tell(const struct workerproc *p, enum note_kind kind)
{
	struct note note;

	note_init(&note, kind);
	workerproc_send(p, &note, -1);
}

void
workerproc_kill(const struct workerproc *p)
{
	if (p->pid > 0)
		kill(p->pid, SIGKILL);
}

void
workerproc_give_up(struct workerproc *p)
{
	workerproc_kill(p);
	close_keep_errno(steal_fd(&p->notes));
}

void
workerproc_ended(struct workerproc *p)
{
	close_keep_errno(p->notes);
	workerproc_init(p);
}

void
workerproc_explain(const struct workerproc *p, int status, struct err *out)
{
	if (p->why.rc != 0)
		*out = p->why;
	else if (WIFSIGNALED(status))
		err_set(out, EIO, "the worker was ended by signal %d (%s)", WTERMSIG(status),
			sigdescr_np(WTERMSIG(status)));
	else
		err_set(out, EIO, "the worker ended with status %d", WEXITSTATUS(status));
}
