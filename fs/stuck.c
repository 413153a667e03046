#include "config.h"
#include "fs/stuck.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/process.h"

enum {
	LOOK_MS = 1000,
	/* Looks.  The first may see one that is just ending. */
	SEEN = 2,
	REFUSE_ALL = 4,
	CUT = 6,
	CUT_OLD_KERNEL = 3,		/* one that cannot send again */
};

/* Its threads may be there still: then nobody can wait for it. */
static bool
has_died(pid_t pid)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%d/stat", (int)pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	return process_state(fd) == 'Z';
}

static void
make_room(struct stuck *s, const struct connection *c)
{
	bool all = s->looks >= REFUSE_ALL;
	int n = connection_refuse(c, &s->told, all);

	if (n > 0)
		log_warning(all ? "the worker still cannot end: %d who read get an error"
				: "%d who look up names are made to ask again", n);
}

enum stuck_step
stuck_look(struct stuck *s, pid_t worker, int64_t n_untold, const struct connection *c,
	   long long now)
{
	if (now < s->look_at)
		return STUCK_NO;
	s->look_at = now + LOOK_MS;
	if (worker == 0 || n_untold == 0 || c->fd < 0 || !has_died(worker)) {
		s->pid = 0;
		return STUCK_NO;
	}
	s->looks = s->pid == worker ? s->looks + 1 : 1;
	s->pid = worker;
	if (s->looks == 1)
		s->told.n = 0;
	if (s->looks < SEEN)
		return STUCK_NO;
	if (s->looks == SEEN)
		log_error("the worker has died, but cannot end: a thread of it waits in the "
			  "kernel for those who use the mount");
	if (s->looks >= (c->resends ? CUT : CUT_OLD_KERNEL)) {
		log_error("the worker still cannot end: the connection is cut");
		return STUCK_CUT;
	}
	make_room(s, c);
	return STUCK_YES;
}

bool
stuck_is(const struct stuck *s, pid_t worker)
{
	return worker != 0 && s->pid == worker && s->looks >= SEEN;
}
