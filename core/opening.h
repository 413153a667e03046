/*
 * opening.h - catalogue and store as a pair: what the daemon and the commands open the same way.
 */
#ifndef VMI_OPENING_H
#define VMI_OPENING_H

#include "catalogue.h"
#include "conf.h"
#include "err.h"
#include "starter.h"

struct opening {
	const struct conf *conf;
	/* Verifies stored messages when a damaged catalogue is rebuilt; NULL leaves that to the
	 * next refresh. */
	struct starter *starter;
	void (*say)(void *arg, const char *text);	/* NULL: to the log */
	void *arg;
};

/*
 * Opens the catalogue.  With CATALOGUE_CREATE the cache's directories and marker are made with a
 * new catalogue, once, and never again: later a marker is missing because the cache's file system
 * is not mounted.
 */
int opening_catalogue(struct catalogue **out, const struct opening *o, unsigned flags,
		      struct err *err);

#endif
