/*
 * vmcatcher_deliver.h - the events of one run of vmcatcher_cache or vmcatcher_subscribe, brought
 * to the handler of -x.
 *
 * A run is one session: ProcessPrefix, the events that wait for this handler (also those that a
 * daemon or an earlier command wrote), ProcessPostfix, all with one
 * VMCATCHER_EVENT_UUID_SESSION.  Runs of one store deliver one after the other; one that waits in
 * vain leaves its events to the next.  Without -x every function does nothing and succeeds.
 */
#ifndef VMI_VMCATCHER_DELIVER_H
#define VMI_VMCATCHER_DELIVER_H

#include "core/handlerdir.h"
#include "core/handlers.h"
#include "core/uuid.h"
#include "vmcatcher.h"

struct vmc_session {
	struct vmc *v;			/* borrowed, with its catalogue, which may change */
	int64_t handler;		/* 0: nobody is told */
	int lock;
	char uuid[UUID_TEXT];
	struct handlerdir *dir;		/* borrowed; NULL: no directories */
	struct event_setting setting;	/* borrowed strings */
};

/*
 * Registers the handler and takes the lock; setting has the directories.  Release it in every case.
 */
int vmc_session_begin(struct vmc_session *s, struct vmc *v, enum handler_kind kind,
		      struct err *err);
void vmc_session_release(struct vmc_session *s);

/* ProcessPrefix or ProcessPostfix. */
int vmc_session_process(struct vmc_session *s, const char *type, struct err *err);

/* Delivers what waits, and returns when it is over.  Handlers that fail are told of, no error. */
int vmc_session_deliver(struct vmc_session *s, struct err *err);

/*
 * What time and the trust directory have done meanwhile: lists and images expire, what is revoked
 * leaves.  (vmcatcher_update.c)
 */
int vmc_apply_time(struct vmc *v, struct err *err);

#endif
