/*
 * handlers.h - which event handlers a site has, and what they are given.
 */
#ifndef VMI_HANDLERS_H
#define VMI_HANDLERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "buf.h"
#include "conf.h"
#include "err.h"

/* The name of the handler that the key of this name sets. */
#define HANDLERS_COMMAND "event_command"

/*
 * Who may own a handler beside root: event_user.  (uid_t)-1, nobody, where there is no such user.
 * To be asked before a sandbox hides the users of this host.
 */
uid_t handlers_owner(const struct conf *conf);

/* Whether event_dir, which is set, may be missing: nobody has asked for it. */
bool handlers_dir_is_optional(const struct conf *conf);

/*
 * The names of conf's handlers, sorted: HANDLERS_COMMAND if it is set, and each file in event_dir
 * that run-parts(8) would run: [A-Za-z0-9_-] and dots, no leading dot, no .bak, .dpkg-*, .rpm*, ~;
 * a regular file (or a link to one) with an x bit, not writable by others, of root or owner.  What
 * is passed over for want of these goes to say (may be NULL) with the reason.  More than
 * LIMIT_HANDLERS is -E2BIG.  The default directory may be missing, and is empty then; another one
 * is somewhere that is not mounted: -ENOENT.  Caller handlers_release()s.
 */
struct handlers {
	char **names;
	size_t n;
};
int handlers_list(const struct conf *conf, uid_t owner, struct handlers *out,
		  void (*say)(void *arg, const char *text), void *arg, struct err *err);
void handlers_release(struct handlers *h);

/* The path of the handler in event_dir that has this name, checked as above.  Caller frees. */
int handlers_path(const struct conf *conf, uid_t owner, const char *name, char **path,
		  struct err *err);

/* What does not come from the event itself.  Directories end in '/' for the handler in any case. */
struct event_setting {
	const char *cache, *download, *expire;	/* NULL: not for this type */
	const char *rdbms;			/* VMCATCHER_RDBMS: sqlite:////... */
	const char *session;			/* NULL: the event's own */
};

/*
 * The variables of one event as vmcatcher sets them, each NAME=VALUE and a NUL: VMCATCHER_RDBMS,
 * VMCATCHER_CACHE_DIR_CACHE, _DOWNLOAD, _EXPIRE, VMCATCHER_EVENT_TYPE,
 * VMCATCHER_EVENT_UUID_SESSION, and for events of images one VMCATCHER_EVENT_* for each field of
 * field_table that has a variable and is not empty, IL_DC_IDENTIFIER and FILENAME.  And ours:
 * VMCATCHER_EVENT_UUID, unique for the event. SubscriptionImageNew has neither directories,
 * FILENAME, IL_DC_IDENTIFIER, VO nor FORMAT, as there. A value has no NUL; nothing else of a list
 * is ever a name.
 */
int event_variables(const char *json, const struct event_setting *setting, struct buf *out,
		    struct err *err);

#endif
