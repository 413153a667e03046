/*
 * connection.h - the descriptor of /dev/fuse that a mount hangs on, as the supervisor keeps it.
 *
 * The kernel keeps the connection, and what waits on it, as long as a process has it open.  When
 * the last one closes it, everybody who waits is told so (ENOTCONN).  The kernel's first request
 * (INIT) is read here, because it comes once and every worker needs it; nobody looks into it but
 * for the bit that says whether requests can be sent again.  Of others only the number and the kind
 * are looked at, by connection_refuse().  Single-threaded.
 */
#ifndef VMI_CONNECTION_H
#define VMI_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include "core/err.h"
#include "fs/shared.h"

enum { CONNECTION_SPARES = 8 };

struct connection {
	int fd;				/* of the mount, or to be mounted; -1: it was ended */
	bool resends;			/* the kernel sends what was not answered again (6.9) */
	int spares[CONNECTION_SPARES];
	size_t n_spares;
};

void connection_init(struct connection *c);
void connection_release(struct connection *c);

/*
 * Opens the device, several times, because the user may not: one for each mount that has to be made
 * anew later.  Root.
 */
int connection_open(struct connection *c, struct err *err);

/* Mounted: takes the kernel's first request, and puts it into s. */
int connection_begin(struct connection *c, struct shared *s, struct err *err);

enum { CONNECTION_TOLD_MAX = 1024 };

struct connection_told {		/* who was made to ask again */
	uint32_t pids[CONNECTION_TOLD_MAX];
	size_t n;
};

/*
 * Without a worker that lives: who looks up a name is made to ask again, once, and so lets go of
 * the lock of the directory; all: he, and who reads a file or a directory, gets an error (EIO).
 * What else the kernel has sent waits for the next worker.  How many were refused; 0 where the
 * kernel cannot send again.
 */
int connection_refuse(const struct connection *c, struct connection_told *told, bool all);

/* Lets go of it: if no worker has it, all who wait are told now. */
void connection_end(struct connection *c);

/* After connection_end(): another one, to be mounted. */
int connection_renew(struct connection *c, struct err *err);

#endif
