/*
 * handlerenv.h - the environment of event handlers.
 */
#ifndef VMI_HANDLERENV_H
#define VMI_HANDLERENV_H

#include <stddef.h>
#include "account.h"
#include "buf.h"
#include "conf.h"

struct handlerenv {
	char **at;		/* NAME=VALUE each, a NAME once; NULL behind the last */
	size_t n;
};

/*
 * Of a daemon: PATH that begins with the directory of our commands, HOME, USER and LOGNAME of who
 * (NULL: left out), LC_ALL=C.UTF-8 (C where there is none), TZ if ours is set, VMIMAGEFS_CONFIG if
 * our file is not the default one, and what event_env says.
 */
void handlerenv_daemon(struct handlerenv *env, const struct conf *conf, const struct account *who);

/*
 * Of a command: the caller's, less what would lead the dynamic linker, a shell or a library of
 * ours astray, and less VMCATCHER_EVENT_*, which only an event sets.
 */
void handlerenv_command(struct handlerenv *env);

/* from's variables and those of an event: NAME=VALUE strings, each ended by a NUL. */
void handlerenv_copy(struct handlerenv *env, const struct handlerenv *from);
void handlerenv_add_event(struct handlerenv *env, const struct buf *variables);
void handlerenv_release(struct handlerenv *env);

#endif
