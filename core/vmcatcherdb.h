/*
 * vmcatcherdb.h - reads the database of vmcatcher 0.6 (SQLite, made by SQLAlchemy); never writes
 * it.
 *
 * It is copied into memory under the lock of a reader, and the copy is opened, so that not even a
 * -wal or -shm file appears beside it, or a time of it changes where its owner allows that.  Every
 * text is bounded and checked before it is handed out; a row that makes no sense is told to `odd`
 * and passed over.  What is told holds no user name, password or address.
 */
#ifndef VMI_VMCATCHERDB_H
#define VMI_VMCATCHERDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "err.h"

struct vmcatcherdb;

/* Whether the file is such a database, by its tables: 1, 0; negative: it cannot be read. */
int vmcatcherdb_is(const char *path, struct err *err);

/*
 * -ENOENT, -EACCES: as they are.  -EINVAL: no database, of another program, or of another version.
 * CODE_CORRUPT: cut off or damaged; the whole of it is checked.  CODE_BUSY: it is being written
 * (some seconds are waited), a change of it was interrupted, or its last changes are in a -wal.
 */
int vmcatcherdb_open(struct vmcatcherdb **out, const char *path, struct err *err);
void vmcatcherdb_close(struct vmcatcherdb *db);

struct vmcdb_credential { const char *endorser, *subject, *issuer; };
struct vmcdb_link { const char *endorser, *subscription; bool authorised; };
struct vmcdb_subscription {
	const char *identifier, *uri, *username, *password;	/* NULL: none */
	bool authorised;
	int trust_anchor;		/* 0 none 1 browser 2 igtf, as stored */
	int update_mode;		/* bit 0: accept new images, bit 1: subscribe to them */
	const void *message;		/* the latest list, verbatim; NULL: none */
	size_t message_len;
};
struct vmcdb_image { const char *identifier, *subscription; bool subscribed; };

/* What is there, in this order; pointers are good for the call.  fn's non-zero result ends it. */
struct vmcdb_visitor {
	int (*credential)(void *arg, const struct vmcdb_credential *v, struct err *err);
	int (*subscription)(void *arg, const struct vmcdb_subscription *v, struct err *err);
	int (*link)(void *arg, const struct vmcdb_link *v, struct err *err);
	int (*image)(void *arg, const struct vmcdb_image *v, struct err *err);
	void (*odd)(void *arg, const char *text);
	void *arg;
};
int vmcatcherdb_visit(struct vmcatcherdb *db, const struct vmcdb_visitor *visitor, struct err *err);

#endif
