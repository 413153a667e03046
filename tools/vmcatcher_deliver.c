/*
 * The lock is state_dir/handlers-<command>.lock: a handler may call our commands, also such that
 * deliver themselves, and must not wait for the run that waits for it.  So nobody waits for long,
 * and the two commands, whose handlers are different ones, do not wait for each other at all.
 */
#include "config.h"
#include "vmcatcher_deliver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/deliver.h"
#include "core/io.h"
#include "core/stamp.h"

enum {
	LOCK_MS = 10000,	/* as long as short handlers take */
	LOCK_STEP_MS = 50,
};

/* 1: it is ours; 0: others kept it. */
static int
take_lock(struct vmc_session *s, const char *path, struct err *err)
{
	long long until = io_monotonic_ms() + LOCK_MS;

	s->lock = io_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock < 0)
		return err_set(err, errno, "cannot open '%s': %s", path, strerrordesc_np(errno));
	while (flock(s->lock, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_set(err, errno, "cannot lock '%s': %s", path,
				       strerrordesc_np(errno));
		if (io_monotonic_ms() >= until)
			return 0;
		poll(NULL, 0, LOCK_STEP_MS);
	}
	return 1;
}

int
vmc_session_begin(struct vmc_session *s, struct vmc *v, enum handler_kind kind, struct err *err)
{
	CLEANUP_FREE char *path = xasprintf("%s/handlers-%s.lock", v->ctl.conf->state_dir,
					    kind == HANDLER_CACHE ? "cache" : "subscribe");
	int64_t handler;
	int rc;

	s->v = v;
	s->handler = 0;
	s->lock = -1;
	uuid_random(s->uuid);
	s->setting.rdbms = v->database;
	s->setting.session = s->uuid;
	if (v->runner == NULL)
		return 0;
	/* Registered in any case: what is written from now on is meant for it. */
	rc = catalogue_handler_use(v->ctl.catalogue, kind, vmc_value(v, "execute"), stamp_now(),
				   &handler, err);
	if (rc == 0)
		rc = take_lock(s, path, err);
	if (rc == 1)
		s->handler = handler;
	else if (rc == 0)
		vmc_log(v, VMC_WARNING, "Events", "another run is telling event handlers what"
			" has happened; the next one tells them of this run");
	return rc < 0 ? rc : 0;
}

void
vmc_session_release(struct vmc_session *s)
{
	if (s->v != NULL)
		close_keep_errno(s->lock);
	memset(s, 0, sizeof(*s));
}

int
vmc_session_process(struct vmc_session *s, const char *type, struct err *err)
{
	if (s->handler == 0)
		return 0;
	return catalogue_event_process(s->v->ctl.catalogue, type, s->uuid, s->handler, stamp_now(),
				       err);
}

/* In vmcatcher's words. */
static void
tell_ended(void *arg, const struct event_row *event, int status, bool timed_out,
	   const char *output)
{
	const struct vmc_session *s = arg;
	const char *command = vmc_value(s->v, "execute");
	/* As Python has it: a signal is a negative number. */
	int code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
	bool good = status == 0 && !timed_out;

	if (good)
		vmc_log(s->v, VMC_DEBUG, "Events", "event '%s' executed '%s'", event->type,
			command);
	else
		vmc_log(s->v, VMC_ERROR, "Events",
			"Event '%s' executed '%s' with exit code '%d'%s.", event->type, command,
			code,
			timed_out ? ", because it took longer than event_timeout" : "");
	vmc_log(s->v, good ? VMC_DEBUG : VMC_INFO, "Events", "output=%s", output);
}

int
vmc_session_deliver(struct vmc_session *s, struct err *err)
{
	struct deliver_config config = {
		.catalogue = s->v->ctl.catalogue, .runner = s->v->runner, .dir = s->dir,
		.handler = s->handler, .setting = s->setting, .ended = tell_ended, .arg = s,
	};
	struct deliver *deliver = NULL;
	int n_failed = 0, rc;

	if (s->handler == 0)
		return 0;
	rc = deliver_new(&deliver, &config, err);
	if (rc == 0)
		rc = deliver_all(deliver, &n_failed, err);
	deliver_free(deliver);
	if (rc == 0 && n_failed > 0)
		vmc_log(s->v, VMC_INFO, "Events", "%d runs of the event handler have failed;"
			" 'vmimagectl events' shows what will be tried again", n_failed);
	return rc;
}
